"""The receiving end over compact frames: a transport of `LinkReceiver`. It restores what the frames leave out, proves
them, and hands on packets as any other link brings them; it speaks when it has the turn, a word of 1 to 4 bytes."""

from __future__ import annotations

import math
import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from semhier_ros.codec.block_request import BlockRequest
from semhier_ros.codec.compact import (
    ACK,
    ANNOUNCE,
    COUNTERS,
    GONE,
    HAIL,
    LONGEST_AGE,
    MAX_ANNOUNCED_BYTES,
    MEMORY,
    MISSING,
    NOTE,
    QUERY,
    SLOTS,
    STAMP_UNIT_NS,
    STORED,
    STORED_FIRST,
    TURN,
    Compact,
    CompactError,
    Context,
    Seal,
    Word,
    near,
    noted,
    read_announcement,
    read_parcel,
    stamp_units,
    stream_tag,
    word_of,
)
from semhier_ros.codec.packet import (
    MAX_BLOCK_BYTES,
    MAX_BLOCKS,
    MAX_VARINT,
    STAMP_MODULUS,
    Block,
    Doubted,
    Packet,
    PacketError,
)
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.link.clock import MACHINE, Clock, ManualClock
from semhier_ros.link.feedback.envelope import WINDOW
from semhier_ros.link.radio.course import Course, ahead
from semhier_ros.link.radio.options import RadioOptions
from semhier_ros.link.radio.ports import Faults, OpenPort, summed
from semhier_ros.link.radio.store import Inbox
from semhier_ros.link.schedule.budget import TokenBucket
from semhier_ros.link.transport import ReceiverHooks

TICK_SECONDS = 0.05
HEARD_SECONDS = 30.0
_UNIT = STAMP_UNIT_NS / 1e9
LATE_FRAMES = 128
"""A description that tells of a frame so far behind the newest is of a sender that has begun anew, not late."""
_GUESSES = 3
"""Frame numbers that are tried after a silence."""
_WAITING_REQUESTS = 8
_ASKED_FRAMES = 32
"""Frames asked for of which it may still be told that they do not come."""
ACK_SECONDS = 10.0
"""While stored pieces come, the turn is answered by what came of the others so far apart."""
_SAID, _SAID_SHORT = 2, 3
"""A request is said in so many turns: nobody acknowledges it, and where 16 bits are all that proves it, two have to
come."""


def joined(before: tuple[Block, ...], blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    """The blocks of two parcels of one frame as one packet may hold them: the last one alone where blocks between are
    missing, or where together they are too large for a packet."""
    whole = (*[one for one in before if one.index < blocks[0].index], *blocks)
    apart = any(one.index != whole[0].index + place for place, one in enumerate(whole))
    large = any(len(one.data) > MAX_VARINT for one in whole[:-1])
    large |= sum(len(one.data) for one in whole) > MAX_BLOCK_BYTES - 2 * MAX_BLOCKS  # their lengths take bytes, too
    return blocks[-1:] if apart or large else whole


class _Replay:
    """Counters of a sender: the newest that was proved, and which of the 64 before it were taken."""

    __slots__ = ("_newest", "_seen")

    def __init__(self) -> None:
        self._newest: int | None = None
        self._seen = 0

    def candidates(self, low: int, bits: int) -> list[int]:
        """What a counter with these low bits may be: the nearest to the newest, and the next one above that."""
        if bits == 48:
            return [low]
        if self._newest is None:
            return []
        first = near(low, bits, self._newest)
        return [one % COUNTERS for one in (first, first + (1 << bits)) if one >= 0]

    def take(self, counter: int) -> bool:
        """Takes a proved counter; False for one that was taken or is too far behind."""
        if self._newest is None or counter > self._newest:
            ahead = WINDOW if self._newest is None else counter - self._newest
            self._seen = (self._seen << min(ahead, WINDOW) | 1) & ((1 << WINDOW) - 1)
            self._newest = counter
            return True
        behind = self._newest - counter
        if behind >= WINDOW or self._seen >> behind & 1:
            return False
        self._seen |= 1 << behind
        return True


@dataclass(slots=True, eq=False)
class _Slot:
    """A slot as its receiver knows it. `ages`: how old frames usually are when they come, and how old the newest was
    (s)."""

    seal: Seal
    info: StreamInfo | None = None
    tag: bytes = bytes(4)
    ages: tuple[float, float] | None = None
    newest: int = 0
    newest_stamp: float | None = None
    period: float | None = None
    coarse: int | None = None
    before: int = 0
    count: int = 0
    parts: dict[int, bytes] = field(default_factory=dict)
    parts_of: int = 0
    inbox: Inbox = field(default_factory=Inbox)
    course: Course = field(default_factory=Course)
    asked: deque[int] = field(default_factory=lambda: deque(maxlen=_ASKED_FRAMES))
    stored: tuple[int, int, tuple[Block, ...]] | None = None
    said: float = -math.inf
    said_memory: bytes | None = None


class RadioReceiving:
    """A `ReceivingTransport` over a port. By a `ManualClock` it makes no thread, and its owner calls `advance` at every
    time that `due` names. Counters: parcels (stored blocks that came whole), received, received_bytes (frames, proof
    included), infos, refused (damaged, forged, or of a stream that is not known yet), unlikely (those of them whose
    check of 16 bits held, but whose number or stamp no frame can have now), replayed, refused_cameras, words,
    requests, requests_gone (of frames of which the sender said that nothing comes), errors (exceptions that were
    survived), and the port's."""

    def __init__(
        self, options: RadioOptions, open_port: OpenPort, hooks: ReceiverHooks, *, clock: Clock = MACHINE
    ) -> None:
        self._options, self._hooks, self._clock = options, hooks, clock
        self._wanted = None if hooks.cameras is None else frozenset(hooks.cameras)
        self._lock = threading.RLock()
        self._slots = [_Slot(options.seal) for _ in range(SLOTS)]
        self._replay = _Replay()
        self._counts: Counter[str] = Counter()
        self._faults = Faults(clock)
        self._asking: list[deque[tuple[BlockRequest, int]]] = [deque(maxlen=_WAITING_REQUESTS) for _ in range(SLOTS)]
        self._heard: float | None = None
        self._owed = False
        self._speak: tuple[float, Word, Context] | None = None
        self._bell = threading.Event()
        allowed = options.air.allowed if options.air.duty < 1.0 else None
        self._budget = TokenBucket(allowed, options.air.frame_bytes + options.air.frame_extra)
        self._stop = threading.Event()
        self._port = open_port(self._frame)
        self._tick = clock.now()
        self._thread: threading.Thread | None = None
        if not isinstance(clock, ManualClock):
            self._thread = threading.Thread(target=self._run, name="semhier-radio-receiver", daemon=True)
            self._thread.start()

    # -- ReceivingTransport -------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether a frame was proved in the last 30 s (longer where a duty cycle makes them rare)."""
        patience = max(HEARD_SECONDS, 5.0 * self._options.turn_seconds)
        return self._heard is not None and self._clock.now() - self._heard < patience

    @property
    def open(self) -> bool:
        return self._port.is_open

    @property
    def cameras(self) -> dict[str, bytes | None]:
        with self._lock:
            return {slot.info.camera: slot.info.to_bytes() for slot in self._slots if slot.info is not None}

    @property
    def trouble(self) -> str:
        return self._port.trouble or self._faults.trouble

    def request(self, camera: str, data: bytes) -> bool:
        """Says a block request in the next turns; False for anything else, or a camera that was not heard yet."""
        try:
            request = BlockRequest.from_bytes(data)
        except PacketError:
            return False
        with self._lock:
            for slot, asking in zip(self._slots, self._asking, strict=True):
                if slot.info is not None and slot.info.camera == camera:
                    asking.append((request, _SAID_SHORT if self._options.seal.short else _SAID))
                    if request.frame is not None and request.frame not in slot.asked:
                        slot.asked.append(request.frame)
                    self._counts["requests"] += 1
                    return True
        return False

    def close(self) -> None:
        self._stop.set()
        self._bell.set()
        self._port.close()
        if self._thread is not None and threading.current_thread() is not self._thread:
            self._thread.join(timeout=2.0)

    @property
    def counters(self) -> Mapping[str, int]:
        with self._lock:
            return summed(self._port.counters, self._counts, self._faults.counters)

    # -- in -----------------------------------------------------------------------------------------------------------

    def _frame(self, data: bytes) -> bool:
        """Takes a frame; whether it was proved, and never taken before."""
        told: list[tuple[str, int, bytes]] = []
        info: StreamInfo | None = None
        note: tuple[str, bytes] | None = None
        gone: list[tuple[str, int]] = []
        with self._lock:
            now = self._clock.now()
            for slot in self._slots:
                slot.course.arrived()
            try:
                frame = Compact.parse(data, self._options.seal)
                if frame.kind == ANNOUNCE:
                    info = self._announced(frame, data, now)
                elif frame.kind == HAIL:
                    self._hailed(frame, data, now)
                elif frame.kind in (STORED, STORED_FIRST):
                    told = self._stored(frame, data, now)
                elif frame.kind == NOTE:
                    note = self._noted(frame, data, now)
                elif frame.kind == GONE:
                    gone = self._gone(frame, data, now)
                else:
                    told = self._blocks(frame, data, now)
            except CompactError:
                self._counts["refused"] += 1
                return False
        if info is not None:
            self._hooks.on_info(info.camera, info.to_bytes())
        if note is not None:
            self._hooks.on_note(*note)
        if self._hooks.on_gone is not None:
            for camera, number in gone:
                self._hooks.on_gone(camera, number)
        for one in told:
            self._hooks.on_datagram(*one)
        return True

    def _announced(self, frame: Compact, data: bytes, now: float) -> StreamInfo | None:
        """The description that a part of an announcement completes."""
        _, counter, part = self._proved(frame, data, [Context()])
        slot = self._slots[frame.slot]
        self._count(frame, slot, len(data), now)
        assert frame.piece is not None
        number, parts = frame.piece
        if parts != slot.parts_of or (number in slot.parts and slot.parts[number] != part):
            slot.parts, slot.parts_of = {}, parts
        slot.parts[number] = part
        info = None
        if len(slot.parts) == parts and sum(map(len, slot.parts.values())) <= MAX_ANNOUNCED_BYTES:
            body, slot.parts = b"".join(slot.parts[place] for place in range(parts)), {}
            try:
                info = self._known(slot, body, now)
            except CompactError:  # parts of two announcements
                self._counts["refused"] += 1
        self._turn(frame, slot, counter, now)
        return info

    def _known(self, slot: _Slot, body: bytes, now: float) -> StreamInfo | None:
        info, newest, since, epoch = read_announcement(body, self._options.seal.hides)
        others = [one.info.camera for one in self._slots if one is not slot and one.info is not None]
        if info.camera in others or (self._wanted is not None and info.camera not in self._wanted):
            self._counts["refused_cameras"] += 1
            return None
        self._counts["infos"] += 1
        tag, distance = stream_tag(info), ahead(newest, slot.newest)
        other = tag != slot.tag or slot.info is None
        if other or distance < -LATE_FRAMES:  # another stream, or its sender has begun anew
            slot.coarse, slot.before, slot.count, slot.newest_stamp, slot.period = None, 0, 0, None, None
            slot.newest = newest
            slot.course.begin()
        elif distance > 0:
            slot.newest = newest
        if other:
            slot.inbox, slot.stored = Inbox(), None
        slot.tag, slot.info = tag, info
        if epoch != slot.seal.epoch:
            slot.seal = self._options.seal.of(epoch)
        if since < LONGEST_AGE:  # else nobody knows how old it is
            slot.ages = (now - (info.stamp_ns / 1e9 + since * _UNIT),) * 2
        return info

    def _hailed(self, frame: Compact, data: bytes, now: float) -> None:
        """The sender does not know whether anybody is there."""
        counter = self._proved(frame, data, [Context()])[1]
        slot = self._slots[frame.slot]
        self._count(frame, slot, len(data), now)
        if slot.info is None and frame.turn and self._options.answers:
            self._answer(Word(QUERY, frame.slot), Context(True), now)
        self._turn(frame, slot, counter, now)

    def _stored(self, frame: Compact, data: bytes, now: float) -> list[tuple[str, int, bytes]]:
        """(camera, coarsest block, packet) of every parcel that a stored piece completes."""
        slot, inbox = self._slots[frame.slot], self._slots[frame.slot].inbox
        session = inbox.session if frame.session is None else frame.session
        if slot.info is None or session is None or frame.piece is None:
            raise CompactError("a stored piece of a stream or a session that is not known")
        _, counter, body = self._proved(frame, data, [Context(tag=slot.tag, frame=session)])
        self._count(frame, slot, len(data), now)
        told = []
        for whole in inbox.take(session, frame.piece[0], bool(frame.piece[1]), body):
            stamp, blocks = read_parcel(whole, slot.info.stream_tag)
            self._counts["parcels"] += 1
            before = slot.stored
            same = before is not None and before[:2] == (blocks[0].frame, stamp)
            blocks = joined(before[2] if before is not None and same else (), blocks)
            slot.stored = (blocks[0].frame, stamp, blocks)
            if self._options.seal.short:
                blocks = tuple(replace(one, data=Doubted(one.data)) for one in blocks)
            if self._hooks.on_stored is not None:
                self._hooks.on_stored(slot.info.camera, stamp * STAMP_UNIT_NS, blocks)
                continue
            low = stamp * STAMP_UNIT_NS % STAMP_MODULUS if blocks[0].index == 0 else None
            packet = Packet(slot.info.stream_tag, blocks[0].frame, blocks, low)
            told.append((slot.info.camera, blocks[0].index, self._trusted(packet.to_bytes())))
        self._turn(frame, slot, counter, now)
        return told

    def _noted(self, frame: Compact, data: bytes, now: float) -> tuple[str, bytes]:
        """(camera, message) that a sender tells beside its blocks."""
        slot = self._slots[frame.slot]
        if slot.info is None:
            raise CompactError("a note of a stream that was not announced")
        _, counter, body = self._proved(frame, data, self._contexts(frame, slot, now))
        self._count(frame, slot, len(data), now)
        self._counts["notes"] += 1
        self._turn(frame, slot, counter, now)
        return slot.info.camera, noted(body)

    def _gone(self, frame: Compact, data: bytes, now: float) -> list[tuple[str, int]]:
        """(camera, number) of frames that were asked for, of which nothing comes. They are not asked for again."""
        slot, asking = self._slots[frame.slot], self._asking[frame.slot]
        if slot.info is None or frame.frame is None:
            raise CompactError("a word about a frame of a stream that was not announced")
        low = frame.frame[0]
        _, counter, _ = self._proved(frame, data, [Context(tag=slot.tag, frame=low)])
        meant = [number for number in slot.asked if number & 0xFF == low]
        if not meant and self._options.seal.short:
            raise CompactError("a word about a frame that nobody asked for")
        self._count(frame, slot, len(data), now)
        for number in meant:
            slot.asked.remove(number)
            for one in [one for one in asking if one[0].frame == number]:
                asking.remove(one)
        self._counts["requests_gone"] += len(meant)
        self._turn(frame, slot, counter, now)
        return [(slot.info.camera, number) for number in meant]

    def _blocks(self, frame: Compact, data: bytes, now: float) -> list[tuple[str, int, bytes]]:
        """(camera, coarsest block, packet) of a frame with blocks."""
        slot = self._slots[frame.slot]
        if slot.info is None:
            raise CompactError("a frame of a stream that was not announced")
        contexts = self._contexts(frame, slot, now)
        context, counter, body = self._proved(frame, data, contexts)
        stamp = None if frame.stamp is None else context.stamp
        packet = None
        if frame.kind != TURN:
            packet = replace(frame, body=body).packet(slot.info.stream_tag, context.frame, stamp)
        likely = not self._options.seal.short or slot.course.likely(context.frame, stamp, now)
        if not likely and packet is not None:
            self._counts["unlikely"] += 1
            raise CompactError("a number or a stamp that no frame can have now")
        self._count(frame, slot, len(data), now)
        if likely and (context.frame - slot.newest) % 0x10000 < 0x8000:
            slot.newest = context.frame
        if stamp is not None:
            self._stamped(slot, context, now)
        self._turn(frame, slot, counter, now)
        return [] if packet is None else [(slot.info.camera, frame.span[0], self._trusted(packet))]

    def _trusted(self, packet: bytes) -> bytes:
        """The packet, and how far it is to be trusted."""
        return Doubted(packet) if self._options.seal.short else packet

    def _contexts(self, frame: Compact, slot: _Slot, now: float) -> list[Context]:
        """What the frame's proof may cover, the likeliest first."""
        assert frame.frame is not None
        if frame.stamp is None:
            return self._of_stamp(frame.frame, None, slot)
        stamps = [near(*frame.stamp, stamp_units(round((now - age) * 1e9))) for age in slot.ages or ()]
        return [one for stamp in dict.fromkeys(stamps) for one in self._of_stamp(frame.frame, stamp, slot)]

    @staticmethod
    def _of_stamp(told: tuple[int, int], stamp: int | None, slot: _Slot) -> list[Context]:
        """The contexts of a frame that tells a number so, and whose stamp is that (None: it tells none)."""
        low, bits = told
        numbers = [near(low, bits, slot.newest)]
        if slot.period and slot.newest_stamp is not None and stamp is not None:
            elapsed = stamp * _UNIT - slot.newest_stamp
            if elapsed > 2.0 * slot.period:
                likely = near(low, bits, slot.newest + round(elapsed / slot.period))
                around = [likely, *(likely + sign * (1 << bits) for sign in (-1, 1))]
                numbers = list(dict.fromkeys([*numbers, *around]))[:_GUESSES]
        units = stamp or 0
        return [Context(tag=slot.tag, frame=number % 0x10000, stamp=units) for number in numbers if units >= 0]

    def _proved(self, frame: Compact, data: bytes, contexts: list[Context]) -> tuple[Context, int, bytes]:
        """The context that the frame's proof fits, its counter, its body. Raises CompactError where none does."""
        seal = self._slots[frame.slot].seal
        for context in contexts:
            counters = [0] if frame.counter is None else self._replay.candidates(*frame.counter)
            for counter in counters:
                whole = Context(False, context.tag, context.frame, context.stamp, counter)
                body = frame.opened(data, seal, whole)
                if body is not None:
                    if frame.counter is not None and not self._replay.take(counter):
                        self._counts["replayed"] += 1
                        raise CompactError("replayed")
                    return context, counter, body
        raise CompactError("forged, damaged, or of another stream")

    def _count(self, frame: Compact, slot: _Slot, size: int, now: float) -> None:
        slot.count += 1
        self._heard = now
        self._counts["received"] += 1
        self._counts["received_bytes"] += size

    def _stamped(self, slot: _Slot, context: Context, now: float) -> None:
        """Learns from a frame with block 0: its age, how far frames are apart, which came."""
        stamp = context.stamp * _UNIT
        age = now - stamp
        usual = age if slot.ages is None else slot.ages[0]
        slot.ages = (usual + 0.2 * (age - usual), age)
        ahead = 1 if slot.coarse is None else (context.frame - slot.coarse + 0x8000) % 0x10000 - 0x8000
        if ahead > 0:
            if slot.coarse is not None and slot.newest_stamp is not None and stamp > slot.newest_stamp:
                found = (stamp - slot.newest_stamp) / ahead
                slot.period = found if slot.period is None else slot.period + 0.2 * (found - slot.period)
            slot.before = (slot.before << 1 | (slot.coarse is not None)) << (ahead - 1) & 0xFF if ahead < 9 else 0
            slot.coarse, slot.newest_stamp = context.frame, stamp
        elif -9 < ahead < 0:
            slot.before |= 1 << -ahead - 1

    # -- out ----------------------------------------------------------------------------------------------------------

    def _turn(self, frame: Compact, slot: _Slot, counter: int, now: float) -> None:
        """Answers a frame that gives the turn: a request where one waits, else what came, or is remembered of it; which
        stored pieces are missing at least every other time that a stored piece asks."""
        if not frame.turn or not self._options.answers or slot.info is None:
            return
        context = Context(True, slot.tag, counter=counter)
        asking = self._asking[frame.slot]
        stored = frame.kind in (STORED, STORED_FIRST)
        news = self._memory(slot) not in (None, slot.said_memory)
        other = not self._owed and (asking or news or (slot.coarse is not None and now - slot.said > ACK_SECONDS))
        if stored and not other:
            self._owed = False
            first, came, fresh = slot.inbox.missing
            context = Context(True, slot.tag, slot.inbox.session or 0, counter=counter)
            self._answer(Word(MISSING, frame.slot, first, came, fresh=fresh), context, now)
            return
        self._owed = stored
        if asking:
            request, left = asking.popleft()
            if left > 1:
                asking.append((request, left - 1))
            self._answer(word_of(request, frame.slot), context, now)
            return
        slot.said = now
        newest = slot.newest if slot.coarse is None else slot.coarse
        self._answer(Word(ACK, frame.slot, newest, slot.before, slot.count), context, now)

    def _memory(self, slot: _Slot) -> bytes | None:
        """What is to be said of what is remembered of a slot's stream, None for nothing."""
        remembers = self._hooks.remembers
        return None if remembers is None or slot.info is None else remembers(slot.info.camera)

    def _answer(self, word: Word, context: Context, now: float) -> None:
        self._speak = (now + self._options.air.turnaround, word, context)
        self._bell.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            wait = self.due - self._clock.now()
            if wait > 0.0:
                self._bell.wait(wait)
                self._bell.clear()
                continue
            try:
                self.advance()
            except Exception as error:  # without this thread nothing is said any more
                self._faults.survived(error)

    @property
    def due(self) -> float:
        """When to call `advance` next."""
        speak = self._speak
        return self._tick if speak is None else min(self._tick, speak[0])

    def advance(self) -> None:
        """Does what is due: says the word that waits for its time."""
        now, speak = self._clock.now(), self._speak
        if now >= self._tick:
            self._tick = now + TICK_SECONDS  # first of all: whatever the tick raises, there is time until the next
            self._hooks.on_tick(now)
        if speak is not None and now >= speak[0]:
            self._speak = None
            self._say(speak[1], speak[2], now)

    def _say(self, word: Word, context: Context, now: float) -> None:
        slot = self._slots[word.slot]
        seal = self._options.seal if word.kind == QUERY else slot.seal
        if word.kind == ACK and (memory := self._memory(slot)) is not None:  # what was read meanwhile counts
            word, slot.said_memory = Word(MEMORY, word.slot, count=word.count, memory=memory), memory
        data = word.to_bytes(context, seal)
        cost = len(data) + self._options.air.frame_extra
        if self._budget.ready_at(cost, now) > now:
            self._counts["unsaid"] += 1
            return
        self._budget.spend(cost, now)
        if self._port.send(data):
            self._counts["words"] += 1
            self._counts["word_bytes"] += cost
