"""The sending end over compact frames: a transport of `RadioSender`, and that sender.

The sender is the master of the air. It alone begins; now and then a frame of its gives the receiver the turn, and
on a half-duplex link nothing leaves until the answer has had its time. Where answers stay away turns become rarer.
What a receiver asked for waits in a store (`link.radio.store`) and leaves where no block may.
"""

from __future__ import annotations

import math
import random
import secrets
import threading
import time
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from semhier_ros.codec.block_request import BlockRequest
from semhier_ros.codec.compact import (
    ACK,
    ASK_FRAME,
    COUNTERS,
    MEMORY,
    MISSING,
    QUERY,
    SLOTS,
    STAMP_UNIT_NS,
    CompactError,
    Context,
    DeltaBlock,
    Word,
    announcement,
    finish,
    gone_frame,
    hail_frame,
    least_limit,
    near,
    note_frame,
    parcel,
    stamp_units,
    stream_tag,
    turn_frame,
    with_long_header,
)
from semhier_ros.codec.packet import delta_tag
from semhier_ros.codec.secrecy import EPOCH_BYTES
from semhier_ros.codec.stream_info import MAX_STAMP_NS, StreamInfo
from semhier_ros.link.clock import MACHINE, Clock, ManualClock
from semhier_ros.link.feedback.envelope import start_of
from semhier_ros.link.feedback.repair import RepairPlan
from semhier_ros.link.feedback.sender_control import Advice, LinkEstimate
from semhier_ros.link.radio.belief import Belief
from semhier_ros.link.radio.frame_budget import FrameBudget
from semhier_ros.link.radio.options import RadioOptions
from semhier_ros.link.radio.packer import CompactPacker
from semhier_ros.link.radio.ports import Faults, OpenPort, summed
from semhier_ros.link.radio.store import Departure, Outbox
from semhier_ros.link.schedule.scheduler import BlockLike, Scheduler
from semhier_ros.link.sender import LinkSender
from semhier_ros.link.transport import Datagram, OnMemory, OnRequest, SenderHooks

TICK_SECONDS = 0.05
ANNOUNCE_SECONDS = (2.0, 10.0)
"""A description again: at least so long after the last while nobody answered, and once somebody did."""
ANNOUNCE_SHARES = (0.2, 0.03)
"""What those of all cameras may take of the air meanwhile."""
ASKED_SECONDS = 1.0
"""The same where a receiver asks for it, who may take the first of the shares."""
FRESH_SECONDS = 2.0
"""A description whose frame left longer ago is told with the stamp of a frame that would leave now: by a camera that
pauses, an old one would say less and less of the stamps to come."""
IDLE_SECONDS = 0.3
ANSWER_SECONDS = 0.5
"""How long the answer about stored pieces may take where both ends may speak at once."""
BACKOFFS = 4
"""Turns become twice as rare so many times, where nobody answers more than `MISSED_TURNS` in a row: 16 times rarer."""
MISSED_TURNS = 3
ENOUGH_BYTES = 16
"""Of a scene: with fewer, frames become rarer instead."""
PLANNED_SHARE = 0.68
"""What coarse blocks and their repeats may take of the air, below the 0.7 at which repeats are given up."""
SINGLE_SHARE = 0.92
"""The same of frames that leave once."""
REMEMBERED_BYTES = 14
"""As `ENOUGH_BYTES`, of frames that refer to what was acknowledged: a lost one costs itself alone, and none is planned
twice."""
REMEMBERED_SECONDS = 4.0
"""After the last such frame for so long."""
DELTA_HEADER = 3
MORE_FRAMES = 1.2
"""Their bytes are planned for so many times the frames that there were."""
HAILED = 2
"""Turns in a row without an answer before one is given by a frame that a receiver that knows nothing can prove."""
QUIET_SECONDS = 2.0
"""Without blocks for so long, stored pieces fill whole frames."""
PIECE_SECONDS = 0.1
"""What a stored piece may take of the air else: a coarse block may have to wait for it."""
LEAST_PIECE = 16
_ASKED_MEANING = 8
_ASKED_AGAIN = 5.0
"""Seconds in which a request that is said again is the same one; three turns where those take longer."""
_GONE_WAITING = 8
"""Frames of which it waits to be told that they do not come, at most."""
_POLLED = 8
_NEARLY = 0.001
"""Seconds that a frame on a shared line may leave before its time, which the pacer reckons in its own order."""
_NEAR_FRAMES = 6


@dataclass(slots=True, eq=False)
class _Slot:
    """A camera as its sender keeps it. `info`: its description as it is told, None while there is none that frames can
    hold; `trouble`: what they cannot hold of it. `due`: when to tell it, `announced`: when it was told last, and
    `told_seconds`: how much of the air that took."""

    number: int
    camera: str
    store: Outbox[tuple[int, int]]
    info: StreamInfo | None = None
    trouble: str = ""
    tag: bytes = bytes(4)
    newest: int = 0
    numbered: bool = False
    sent: int = 0
    due: float | None = None
    announced: float = -math.inf
    told_seconds: float = 0.0
    note: bytes | None = None
    referred: float = -math.inf
    turned: float = -math.inf
    gone: deque[int] = field(default_factory=lambda: deque(maxlen=_GONE_WAITING))
    belief: Belief = field(default_factory=Belief)


class _Turn(NamedTuple):
    slot: _Slot
    context: Context
    sent: int
    hails: bool
    stored: bool


class RadioSending:
    """A `SendingTransport` over a port; see the module's text. `age`: the usual age of frames that leave (s). By a
    `ManualClock` it makes no thread, and its owner calls `tick` some twenty times a second.

    `free_at`: when the next frame may leave. `on_frame(camera, datagram)`: hears of every frame that the port took, and
    of which datagram it was, None for what leaves besides. `on_heard(received, lost)`: what an acknowledgement tells of
    this end's frames. `on_memory(camera, memory)`: what a word says of the receiver's memory. Counters: sent,
    sent_bytes (on the air), announcements, turns, words, words_refused, words_unlikely (not believed before
    another word says the same), requests, gone (frames that told that blocks
    do not come); of stored pieces stored_sent and
    stored_again, of parcels stored (taken in), stored_done and stored_dropped; errors (exceptions that were survived);
    and the port's.
    """

    def __init__(
        self,
        options: RadioOptions,
        open_port: OpenPort,
        hooks: SenderHooks,
        *,
        age: Callable[[], float | None],
        clock: Clock = MACHINE,
    ) -> None:
        self._options, self._hooks, self._age, self._clock = options, hooks, age, clock
        self._lock = threading.RLock()
        self._slots: dict[str, _Slot] = {}
        self._counts: Counter[str] = Counter()
        self._faults = Faults(clock)
        self._counter = start_of(clock.wall())
        self._turns: deque[_Turn] = deque(maxlen=_POLLED)
        self._turn_due = clock.now()
        self._missed = self._words_came = 0
        self._asked: dict[tuple[str, BlockRequest], float] = {}
        self._gone: dict[tuple[str, int], float] = {}
        self._waiting: deque[bytes] = deque()
        self._last_sent = self._line_free = float("-inf")
        self.free_at = float("-inf")
        self.extra_bytes = 0
        self.on_heard: Callable[[int, int], None] = lambda received, lost: None
        self.on_memory: OnMemory = lambda camera, memory: True
        self.on_sent: Callable[[], None] = lambda: None
        self.on_frame: Callable[[str, Datagram | None], None] = lambda camera, datagram: None
        self._datagram: Datagram | None = None
        self._referred = float("-inf")
        self._draw = random.Random(self._counter)
        self._epoch = secrets.token_bytes(EPOCH_BYTES) if options.seal.hides else b""  # anew with every start
        self._seal = options.seal.of(self._epoch)
        self._leaving: tuple[_Slot, Departure] | None = None
        self._last_block = float("-inf")
        self._stop = threading.Event()
        self._port = open_port(self._word)
        self._thread: threading.Thread | None = None
        if not isinstance(clock, ManualClock):
            self._thread = threading.Thread(target=self._run, name="semhier-radio-sender", daemon=True)
            self._thread.start()

    # -- SendingTransport ---------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether the port is open and a receiver is taken to be there: until some turns in a row went unanswered."""
        return self._port.is_open and self._missed <= MISSED_TURNS + 1

    @property
    def trouble(self) -> str:
        if self._keyed and self._counter >= COUNTERS - 1:
            return "link.key: its counter is used up, nothing is sent any more; give both ends another key"
        with self._lock:
            untold = next((slot.trouble for slot in self._slots.values() if slot.trouble), "")
        return self._port.trouble or untold or self._faults.trouble

    def set_info(self, camera: str, info: bytes, anew: bool = True) -> None:
        """Announces a camera, the fourth at most; ValueError for one more. Of a description that frames cannot hold the
        calibration stays behind; where they cannot hold the rest either, nothing of the camera leaves. `trouble` says
        so."""
        parsed = StreamInfo.from_bytes(info)
        with self._lock:
            slot = self._slots.get(camera)
            if slot is None:
                if len(self._slots) >= SLOTS:
                    raise ValueError(f"cameras: {camera!r} is one more than the {SLOTS} that such a link carries")
                store = Outbox[tuple[int, int]](lambda: self._draw.randrange(1 << 16))
                slot = self._slots[camera] = _Slot(len(self._slots), camera, store)
            slot.info, slot.trouble = self._fitting(parsed)
            if slot.info is None:
                slot.due, slot.announced = None, -math.inf
                return
            tag = stream_tag(slot.info)
            if tag != slot.tag or slot.due is None:
                slot.due = self._clock.now()
                slot.belief.begin()
            slot.tag = tag

    def _fitting(self, info: StreamInfo) -> tuple[StreamInfo | None, str]:
        """What is told of a camera, and what of it is not."""
        frame = self._options.air.frame_bytes
        plain = replace(info, calibration=None)
        around = self._options.seal.description_overhead
        whole, least = (least_limit(one, self._epoch) + around for one in (info, plain))
        if whole <= frame:
            return info, ""
        said = f"link.radio.frame_bytes: {frame}, expected at least"
        if least <= frame:
            return plain, f"{said} {whole} for the calibration of camera {info.camera!r}, which no base is told"
        return None, f"{said} {least} for the description of camera {info.camera!r}, of which nothing is sent"

    def is_delta(self, camera: str, block: BlockLike) -> bool:
        """Whether a block of that camera refers to what its receiver remembers."""
        slot = self._slots.get(camera)
        tag = getattr(block, "stream", None)
        return tag is not None and slot is not None and slot.info is not None and tag == delta_tag(slot.info.stream_tag)

    def referred(self, camera: str, now: float) -> None:
        """A frame was made that refers to what was acknowledged."""
        self._slots[camera].referred = now
        self._referred = now

    def refers(self, now: float) -> bool:
        """Whether frames do so now."""
        return now - self._referred < REMEMBERED_SECONDS

    def turn_seconds(self, now: float) -> float:
        """How far turns are apart now."""
        return self._options.memory_turn_seconds if self.refers(now) else self._options.turn_seconds

    def note(self, camera: str, data: bytes) -> bool:
        """Tells it with the next frame, or by itself where none leaves soon; a newer one takes its place till then."""
        with self._lock:
            slot = self._slots.get(camera)
            if slot is None or len(note_frame(0, data)) > (self._options.shape.largest or len(data)):
                return False
            slot.note = data
            return True

    def gone(self, camera: str, frame: int) -> None:
        """Tells, with the next frame or soon, that blocks of a frame that was asked for do not come; again where it is
        asked for again."""
        with self._lock:
            slot, now = self._slots.get(camera), self._clock.now()
            if slot is None:
                return
            self._gone = {key: at for key, at in self._gone.items() if now - at < _ASKED_AGAIN}
            self._gone[camera, frame] = now
            self._tell_gone(slot, frame)

    def _tell_gone(self, slot: _Slot, frame: int) -> None:
        if frame & 0xFF not in slot.gone:
            slot.gone.append(frame & 0xFF)

    def send(self, datagram: Datagram) -> bool:
        with self._lock:
            now, self._datagram = self._clock.now(), datagram
            slot = self._slots.get(datagram.camera)
            if slot is None or slot.info is None or not self._port.is_open:
                self._counts["dropped"] += 1
                return False
            leaving, self._leaving = self._leaving, None
            if leaving is not None and leaving[1].laid is datagram.payload:
                return self._send_stored(slot, leaving[1], now)
            self._last_block = now
            units = stamp_units(datagram.stamp_ns) if datagram.level == 0 else 0
            if not slot.numbered or (datagram.frame - slot.newest) % 0x10000 < 0x8000:
                slot.newest, slot.numbered = datagram.frame, True
            slot.belief.left(datagram.frame)
            context, laid = Context(tag=slot.tag, frame=datagram.frame, stamp=units), datagram.payload
            if (slot.newest - datagram.frame) % 0x10000 > _NEAR_FRAMES:  # its low four bits would name another one
                laid = with_long_header(laid, datagram.frame, units)
                self.extra_bytes += len(laid) - len(datagram.payload)
            if len(laid) > (self._options.shape.largest or len(laid)):
                self._counts["dropped"] += 1
                return False
            frames: list[tuple[_Slot, bytes, Context]] = [(slot, laid, context)]
            unknown = slot.announced < 0.0
            told = self._announcements(now)
            frames += self._notes(slot)
            frames = told + frames if unknown else frames + told  # nothing can be read before it
            return self._emit(frames, now, datagram=len(told) if unknown else 0)

    def close(self) -> None:
        self._stop.set()
        self._port.close()
        if self._thread is not None and threading.current_thread() is not self._thread:
            self._thread.join(timeout=2.0)

    @property
    def counters(self) -> Mapping[str, int]:
        with self._lock:
            stores = [slot.store for slot in self._slots.values()]
            stored = {
                "stored_sent": sum(store.sent for store in stores),
                "stored_again": sum(store.again for store in stores),
                "stored_done": sum(store.done for store in stores),
                "stored_dropped": sum(store.dropped for store in stores),
            }
            return summed(self._port.counters, self._counts, self._faults.counters, +Counter(stored))

    # -- store and forward: a `Background` of the scheduler -----------------------------------------------------------

    def store(self, camera: str, frame: int, stamp_ns: int, blocks: Sequence[Any]) -> bool:
        """Keeps consecutive blocks of a frame until the receiver has them; False where there is no room."""
        try:
            data = parcel(blocks, stamp_ns)
        except ValueError:
            return False
        with self._lock:
            slot = self._slots.get(camera)
            taken = slot is not None and slot.store.put((frame, blocks[-1].index), data)
            self._counts["stored"] += taken
        return taken

    def ready(self, now: float) -> tuple[float, int] | None:
        with self._lock:
            stores = [(slot.store.due(now), slot.store) for slot in self._slots.values() if slot.announced >= 0.0]
            waiting = [(due, store) for due, store in stores if due is not None]
            if not waiting or not self._port.is_open:
                return None
            due, store = min(waiting, key=lambda one: one[0])
            return due, self._cost(store.size(self._piece_bytes(now)))

    def take(self, now: float) -> Datagram | None:
        with self._lock:
            for slot in self._slots.values():
                departure = slot.store.take(now, self._piece_bytes(now)) if slot.announced >= 0.0 else None
                if departure is not None:
                    self._leaving = (slot, departure)
                    cost = self._cost(len(departure.laid))
                    return Datagram(slot.camera, 0, departure.laid, cost, 7, slot.newest, 0, ())
        return None

    def _cost(self, laid: int) -> int:
        return laid + self._options.seal.overhead + self._options.air.frame_extra

    def _piece_bytes(self, now: float) -> int:
        """How large a stored piece may be now: a whole frame where no blocks leave."""
        largest, rate = self._options.shape.largest or 0, self._options.air.bytes_per_second
        if rate is None or now - self._last_block > QUIET_SECONDS:
            return largest
        return min(largest, max(LEAST_PIECE, int(rate * PIECE_SECONDS) - self._cost(0)))

    def _send_stored(self, slot: _Slot, departure: Departure, now: float) -> bool:
        frames = [*self._announcements(now), (slot, departure.laid, Context(tag=slot.tag, frame=departure.session))]
        sent = self._emit(frames, now, datagram=len(frames) - 1, stored=departure.turn)
        if departure.turn:
            slot.store.given(self.free_at + (0.0 if self._options.gap else ANSWER_SECONDS))
        return sent

    # -- out ----------------------------------------------------------------------------------------------------------

    def _emit(
        self, frames: list[tuple[_Slot, bytes, Context]], now: float, *, datagram: int, stored: bool | None = None
    ) -> bool:
        """Sends frames one after the other, the turn with the last where it is due; all but number `datagram` are
        charged later. `stored`: the last is a stored piece, which gives the turn or does not."""
        begins = max(now, self.free_at)
        sent_all = True
        due = stored if stored is not None else self._options.answers and self._turns_to(frames[-1][0], now)
        if due and stored is None and self._missed >= HAILED and frames[-1][2] != Context():  # no description
            frames = [*frames, (frames[-1][0], hail_frame(), Context())]
        for place, (slot, laid, context) in enumerate(frames):
            turn = place == len(frames) - 1 and due
            if self._keyed and self._counter >= COUNTERS - 1:  # never anew: a nonce, and a replay window, end here
                self._counts["counter_used_up"] += 1
                return False
            counted = Context(False, context.tag, context.frame, context.stamp, self._counter if self._keyed else 0)
            data = finish(laid, slot.number, turn, counted, self._seal)
            if self._keyed:
                self._counter += 1
            sent = self._leave(data, now)
            sent_all &= sent
            cost = len(data) + self._options.air.frame_extra
            begins += self._options.air.seconds(len(data))
            if not sent:
                continue
            slot.sent += 1
            self._counts["sent"] += 1
            self._counts["sent_bytes"] += cost
            self.on_frame(slot.camera, self._datagram if place == datagram else None)
            if place != datagram:
                self.extra_bytes += cost
            if turn:
                begins += self._options.gap if stored is None else self._options.stored_gap
                answer = Context(True, slot.tag, counter=counted.counter)
                self._turns.append(_Turn(slot, answer, slot.sent, laid == hail_frame(), stored is not None))
                self._counts["turns"] += 1
                slot.turned = now
                self._missed += 1
                slower = 1 << min(max(0, self._missed - MISSED_TURNS), BACKOFFS)  # a receiver may be gone for days
                self._turn_due = now + slower * self.turn_seconds(now)
        self.free_at = begins
        self._last_sent = now
        return sent_all

    def _leave(self, data: bytes, now: float) -> bool:
        """Gives a frame to the port, on a line that others share once those before it have had their time there; False
        where the port does not take it."""
        self._depart(now)
        if self._options.shared and (self._waiting or now < self._line_free - _NEARLY):
            self._waiting.append(data)
            return True
        sent = self._port.send(data)
        if sent and self._options.shared:
            self._line_free = now + self._options.air.seconds(len(data))
        return sent

    def _depart(self, now: float) -> bool:
        """Lets waiting frames leave whose time has come; whether any did."""
        before, seconds = len(self._waiting), self._options.air.seconds
        while self._waiting and now >= self._line_free - _NEARLY:
            data = self._waiting.popleft()
            self._port.send(data)
            self._line_free = now + seconds(len(data))
        self.free_at = max(self.free_at, self._line_free + sum(seconds(len(data)) for data in self._waiting))
        return len(self._waiting) < before

    def _turns_to(self, slot: _Slot, now: float) -> bool:
        """Whether a frame of that camera shall give the turn: it is due, and for some time no frame of a camera which
        waits longer for an acknowledgement came."""
        if now < self._turn_due:
            return False
        others = [one for one in self._slots.values() if now - one.referred < REMEMBERED_SECONDS]
        return all(slot.turned <= one.turned for one in others) or now - self._turn_due > self.turn_seconds(now)

    @property
    def _keyed(self) -> bool:
        return self._options.seal.key is not None

    def _announcements(self, now: float) -> list[tuple[_Slot, bytes, Context]]:
        """The description that is due most, as frames."""
        due = [slot for slot in self._slots.values() if slot.info is not None and (slot.due or 0.0) <= now]
        if not due:
            return []
        slot = min(due, key=lambda item: item.announced)
        assert slot.info is not None
        age, info = self._age(), slot.info
        since = 0.0 if age is None else now - age - info.stamp_ns / 1e9
        if since > FRESH_SECONDS:
            info, since = replace(info, stamp_ns=min(info.stamp_ns + round(since * 1e9), MAX_STAMP_NS)), 0.0
        room, around = self._options.description_bytes, self._options.seal.description_overhead
        frames = announcement(info, slot.newest, round(since * 1e9 / STAMP_UNIT_NS), room, self._epoch)
        known = slot.belief.counted
        slot.announced = now
        slot.told_seconds = sum(self._options.air.seconds(len(frame) + around) for frame in frames)
        slot.due = self._told_again(slot, ANNOUNCE_SECONDS[known], ANNOUNCE_SHARES[known])
        self._counts["announcements"] += 1
        return [(slot, frame, Context()) for frame in frames]

    def _told_again(self, slot: _Slot, seconds: float, share: float) -> float:
        """When a description may be told again: so long after the last, and within that share of the air, which the
        cameras have in common."""
        own = self._options.air.duty * share / len(self._slots)
        return slot.announced + max(seconds, slot.told_seconds / own)

    def _notes(self, slot: _Slot) -> list[tuple[_Slot, bytes, Context]]:
        """What waits to be told of a camera beside its blocks, once its description has left."""
        if slot.announced < 0.0:
            return []
        frames = [(slot, gone_frame(low), Context(tag=slot.tag, frame=low)) for low in slot.gone]
        self._counts["gone"] += len(frames)
        slot.gone.clear()
        if slot.note is not None:
            laid, slot.note = note_frame(slot.newest, slot.note), None
            frames.append((slot, laid, Context(tag=slot.tag, frame=slot.newest)))
        return frames

    def _run(self) -> None:
        while not self._stop.wait(TICK_SECONDS):
            try:
                self.tick(self._clock.now())
            except Exception as error:  # without this thread nothing is described any more, and no turn is given
                self._faults.survived(error)

    def tick(self, now: float) -> None:
        """What is due without blocks: descriptions, and the turn."""
        self._hooks.on_tick(now)
        with self._lock:
            left = self._depart(now)
            if self._port.is_open and now >= self.free_at and now - self._last_sent >= IDLE_SECONDS:
                frames = self._announcements(now)
                for slot in self._slots.values():
                    frames += self._notes(slot)
                alone = max(self._turn_due, self._last_block + self.turn_seconds(now))  # else a block's frame gives it
                first = next((slot for slot in self._slots.values() if slot.info is not None), None)
                if not frames and self._options.answers and now >= alone and first is not None:
                    frames = [(first, turn_frame(first.newest), Context(tag=first.tag, frame=first.newest))]
                if frames:
                    self._emit(frames, now, datagram=-1)
                    left = True
        if left:
            self.on_sent()

    # -- in -----------------------------------------------------------------------------------------------------------

    def _word(self, data: bytes) -> bool:
        """Takes a word; whether it was proved."""
        with self._lock:
            now = self._clock.now()
            self._words_came += 1
            try:
                word = Word.parse(data, self._options.seal)
                turn = self._turn_of(word, data)
            except CompactError:
                self._counts["words_refused"] += 1
                return False
            slot, short = turn.slot, self._options.seal.short
            again = not short or slot.belief.said_again(word, slot.sent, self._words_came)
            if word.kind == MISSING:
                again = slot.store.heard(word.frame, word.before, word.fresh, short) or (again and short)
            believed = again or not slot.belief.surprises(word, slot.sent)
        if believed and word.kind == MEMORY:
            believed = self.on_memory(slot.camera, word.memory) or again
        request, heard = None, None
        with self._lock:
            if believed:
                request, heard = self._take(turn, word, now)
            else:
                self._doubt(turn, word, now)
        self.on_sent()
        if heard is not None:
            self.on_heard(*heard)
        if request is not None:
            self._hooks.on_request(slot.camera, request.to_bytes())
        return True

    def _turn_of(self, word: Word, data: bytes) -> _Turn:
        """The turn that a word answers. Raises CompactError where it answers none."""
        query, missing = word.kind == QUERY, word.kind == MISSING
        seal = self._options.seal if query else self._seal
        for turn in reversed(self._turns):
            if turn.slot.number != word.slot or (query and not turn.hails) or (missing and not turn.stored):
                continue
            context = Context(True) if query else turn.context
            if missing:
                context = replace(context, frame=turn.slot.store.session)
            if seal.holds(data, context):
                return turn
        raise CompactError("word: forged, damaged, or no answer to a turn of ours")

    def _doubt(self, turn: _Turn, word: Word, now: float) -> None:
        """Waits for another word that says the same; for a request not long, the receiver says it in its next turn."""
        self._counts["words_unlikely"] += 1
        turn.slot.belief.doubt(word, turn.sent, self._words_came)
        if word.request is not None:
            self._turn_due = min(self._turn_due, now)

    def _take(self, turn: _Turn, word: Word, now: float) -> tuple[BlockRequest | None, tuple[int, int] | None]:
        """What a word that is believed asks for, and what it tells of frames that came and did not."""
        slot = turn.slot
        if word.kind != QUERY and turn in self._turns:
            self._turns.remove(turn)  # answered once
        self._counts["words"] += 1
        self._missed = 0
        if self._options.gap:  # the other end has spoken: the rest of its time is ours
            self.free_at = min(self.free_at, now + self._options.air.turnaround)
        for one in self._slots.values():
            one.store.resume(now)
        if word.kind == QUERY:
            slot.belief.begin()
            slot.due = max(now, self._told_again(slot, ASKED_SECONDS, ANNOUNCE_SHARES[0]))
            return None, None
        self._turn_due = min(self._turn_due, now + self.turn_seconds(now))
        if word.kind in (ACK, MEMORY):
            return None, slot.belief.believe(word, turn.sent) if turn.context.tag == slot.tag else None
        return None if word.request is None else self._asked_for(slot, word, now), None

    def _again_seconds(self, now: float) -> float:
        return max(_ASKED_AGAIN, 3.0 * self.turn_seconds(now))

    def _asked_for(self, slot: _Slot, word: Word, now: float) -> BlockRequest | None:
        """A request out of its word, unless it is the repetition of one."""
        request = word.request
        assert request is not None
        if word.kind == ASK_FRAME:
            request = BlockRequest(request.finest, near(word.frame, 8, slot.newest - 100) % 0x10000)
        asked = (slot.camera, request)
        self._asked = {key: at for key, at in self._asked.items() if now - at < self._again_seconds(now)}
        again = asked in self._asked
        self._asked.setdefault(asked, now)
        if again:
            if request.frame is not None and (slot.camera, request.frame) in self._gone:
                self._tell_gone(slot, request.frame)  # the first may be lost
            return None
        self._counts["requests"] += 1
        return request


def _share(copies: int) -> float:
    """What frames that leave so often may take of the air."""
    return SINGLE_SHARE if copies == 1 else PLANNED_SHARE


class RadioSender(LinkSender):
    """A `LinkSender` over compact frames: no envelopes, no reports; scenes that fit a frame, repeats by what a
    receiver's acknowledgements tell, and nothing leaves while the air is taken.

    `scheduler`: made with `options.wire`, `options.shape` and the `packer`'s `pack` and `split`. `budget`: bytes on the
    air a second, None or 0 for what the air allows.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        open_port: OpenPort,
        options: RadioOptions,
        packer: CompactPacker,
        *,
        budget: float | None = None,
        repeats: int = -1,
        on_request: OnRequest | None = None,
        on_memory: OnMemory | None = None,
        clock: Clock = MACHINE,
    ) -> None:
        self._options, self._wire = options, scheduler.wire
        self._copies: dict[str, int] = {}
        self._repeats = repeats
        super().__init__(
            scheduler,
            lambda hooks: RadioSending(options, open_port, hooks, age=lambda: packer.age, clock=clock),
            budget=self._allowed(budget),
            adapt=False,
            repeats=repeats,
            on_request=on_request,
            on_memory=on_memory,
            clock=clock,
        )
        assert isinstance(self._inner, RadioSending)
        self._radio = self._inner
        self._radio.on_heard, self._radio.on_sent = self._heard, self._hold
        if on_memory is not None:
            self._radio.on_memory = on_memory
        self._policies = scheduler.policies
        self._budgets: defaultdict[str, FrameBudget] = defaultdict(FrameBudget)
        self._meaning: OrderedDict[tuple[str, int], list[BlockLike]] = OrderedDict()
        if options.answers:
            scheduler.background = self._radio

    def _allowed(self, budget: float | None) -> float | None:
        allowed = self._options.air.allowed
        if allowed is None:
            return budget or None
        return min(budget, allowed) if budget else allowed

    def set_budget(self, budget: float | None) -> None:
        super().set_budget(self._allowed(budget))

    def estimate(self) -> LinkEstimate:
        """As of `LinkSender`; words are too short to measure times."""
        return replace(super().estimate(), hears=self._options.answers, times=False)

    def _heard(self, received: int, lost: int) -> None:
        with self._lock:
            self._control.heard(received, lost)
            self._apply(self._clock.now())

    def advice(self, camera: str, wanted: float, given: float = 0.0) -> Advice:
        """Scenes that fit one frame, and what the radio carries while frames are as far apart as they are; fewer of
        them where a second has no room for more."""
        options, most, now = self._options, self._options.scene_bytes, self._clock.now()
        refers = self._radio.refers(now)
        with self._lock:
            budget = self._control.budget
            if budget is None:
                return Advice(wanted, most)
            budget *= self._weights.get(camera, 1.0) / (sum(self._weights.values()) or 1.0)
            speaks = options.answers and options.gap
            turns = options.gap / self._radio.turn_seconds(now) if speaks else 0.0
            around, account = self._around(refers), self._budgets[camera]
            least = min(most, REMEMBERED_BYTES if refers else ENOUGH_BYTES)
            rate, air = budget * (1.0 - turns), around + least
            asked = min((one for one in (wanted, given) if one > 0.0), default=math.inf)
            copies = 1 if refers else self._copies_of(rate / air, asked, now)
            if copies != self._copies.get(camera):
                self._copies[camera] = copies
                self._apply(now)
            rate *= _share(copies)
            credit = account.earn(rate, copies * (around + most), now)
            gap = account.gap
        frames = rate / (copies * air)
        frames = frames if wanted <= 0.0 else min(wanted, frames)
        whole = int(min(credit / copies, budget * max(gap, 1.0 / frames))) - around
        if not refers:
            return Advice(frames, max(least, min(most, whole)))
        planned = min(rate / min(frames, MORE_FRAMES / gap), max(credit, rate / frames))
        delta = max(1, min(most, int(planned) - around))
        return Advice(frames, max(delta, min(most, whole)), delta)

    def _copies_of(self, fit: float, asked: float, now: float) -> int:
        """How often each frame leaves so that most of those that are asked for a second arrive, no oftener than its
        loss wants: where the air has no room for all, one more is worth more than another's repeat. `fit`: of the
        smallest frames, how many the air carries a second."""
        wished = 1 + self._control.wished(now).repeats
        if self._repeats >= 0:  # the operator's word
            return wished
        loss = self._control.estimate(now).loss
        arrive = lambda copies: (min(asked, _share(copies) * fit / copies) * (1.0 - loss**copies), copies)  # noqa: E731
        return max(range(1, 1 + wished), key=arrive)

    def _repair(self, now: float) -> RepairPlan:
        """Repeats leave where they are planned, or where frames refer to what was acknowledged and leave room."""
        found = super()._repair(now)
        if not self._copies or self._radio.refers(now):
            return found
        return replace(found, repeats=min([found.repeats, *(copies - 1 for copies in self._copies.values())]))

    def _around(self, refers: bool) -> int:
        """Bytes on the air around the blocks of a frame."""
        return self._wire.wire_bytes(0) + (DELTA_HEADER if refers else 2)

    def gone(self, camera: str, frame: int) -> None:
        """As of `LinkSender`: said by a frame of 2 bytes and its proof."""
        self._radio.gone(camera, frame)

    def tell(self, camera: str, data: bytes) -> bool:
        """As of `LinkSender`; what it costs is charged when it leaves."""
        return self._radio.note(camera, data)

    def offered(self, camera: str, semantic: Sequence[BlockLike]) -> None:
        if semantic and self._radio.is_delta(camera, semantic[0]):
            self._radio.referred(camera, self._clock.now())
        super().offered(camera, semantic)
        if semantic:
            now = self._clock.now()
            size = sum(len(block.data) + len(getattr(block, "motion", b"")) for block in semantic)
            with self._lock:
                around = self._around(self._radio.refers(now))
                self._budgets[camera].spend(self._copies.get(camera, 1) * (around + size), now)

    def submit(
        self, camera: str, frame: int, stamp_ns: int, blocks: Sequence[BlockLike], *, asked: bool = False
    ) -> int:
        """Queues blocks (`Pacer.submit`); pictures that somebody asked for are stored until the receiver has them, with
        what gives them a meaning."""
        live = [self._of_its_kind(camera, block) for block in blocks if not self._stores(block, asked)]
        taken = self.pacer.submit(camera, frame, stamp_ns, live, asked=asked) if live else 0
        if not asked or not self._options.answers:
            return taken
        if live and not isinstance(live[0], DeltaBlock):
            self.meaning(camera, frame, live)
        with self._lock:
            meaning = self._meaning.get((camera, frame), [])
        for block in blocks:
            if self._stores(block, asked):
                begins = bool(meaning) and block.index == meaning[-1].index + 1
                taken += self._radio.store(camera, frame, stamp_ns, [*meaning, block] if begins else [block])
        self._hold()
        return taken

    def meaning(self, camera: str, frame: int, blocks: Sequence[BlockLike]) -> None:
        """A stored picture travels with it: by then its receiver may keep the frame no longer."""
        with self._lock:
            if blocks and blocks[0].index == 0:
                self._meaning[camera, frame] = list(blocks)
                while len(self._meaning) > _ASKED_MEANING:
                    self._meaning.popitem(last=False)

    def _of_its_kind(self, camera: str, block: Any) -> BlockLike:
        """The block as `codec.compact.lay_out` takes it."""
        return DeltaBlock.of(block) if self._radio.is_delta(camera, block) else block

    def _stores(self, block: BlockLike, asked: bool) -> bool:
        """Whether a block waits in the store."""
        known = block.index < len(self._policies)
        return asked and self._options.answers and known and self._policies[block.index].stored

    def send(self, datagram: Datagram) -> bool:
        wait = self._radio.free_at - self._clock.now()
        waits = wait > 0.0 and not isinstance(self._clock, ManualClock)
        if self._options.gap and waits:  # a turn was given while this datagram was made
            time.sleep(wait)
        if datagram.blocks:
            with self._lock:
                self._control.sent(datagram, 0, self._clock.wall(), self._clock.now())
        sent = self._radio.send(datagram)
        self._hold()
        return sent

    def _hold(self) -> None:
        """Lets the pacer wait for the air, and charges what was sent besides datagrams."""
        extra, self._radio.extra_bytes = self._radio.extra_bytes, 0
        self.pacer.hold(self._radio.free_at, extra)
