"""The sending end over compact frames: a transport of `RadioSender`, and that sender.

The sender is the master of the air. It alone begins; now and then a frame of its gives the receiver the turn, and
on a half-duplex link nothing leaves until the answer has had its time. Where answers stay away turns become rarer.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from semhier_ros.codec.block_request import BlockRequest
from semhier_ros.codec.compact import (
    ACK,
    ASK_FRAME,
    COUNTERS,
    QUERY,
    SLOTS,
    STAMP_UNIT_NS,
    CompactError,
    Context,
    Word,
    announcement,
    finish,
    near,
    stamp_units,
    stream_tag,
    turn_frame,
    with_long_header,
)
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.link.clock import MACHINE, Clock
from semhier_ros.link.feedback.envelope import start_of
from semhier_ros.link.feedback.sender_control import Advice
from semhier_ros.link.radio.options import RadioOptions
from semhier_ros.link.radio.packer import CompactPacker
from semhier_ros.link.radio.ports import OpenPort
from semhier_ros.link.schedule.scheduler import Scheduler
from semhier_ros.link.sender import LinkSender
from semhier_ros.link.transport import Datagram, OnRequest, SenderHooks

TICK_SECONDS = 0.05
ANNOUNCE_SECONDS = (2.0, 10.0)
"""A description again: at least so long after the last while nobody answered, and once somebody did."""
ANNOUNCE_SHARES = (0.2, 0.03)
"""What descriptions may take of the air meanwhile."""
IDLE_SECONDS = 0.3
BACKOFF = 16.0
"""Turns become at most so many times rarer where nobody answers."""
MISSED_TURNS = 3
ENOUGH_BYTES = 16
"""Of a scene: with fewer, frames become rarer instead."""
PLANNED_SHARE = 0.68
"""What coarse blocks and their repeats may take of the air, below the 0.7 at which repeats are given up."""
_ASKED_AGAIN = 5.0
_POLLED = 8
_NEAR_FRAMES = 6


class _Slot:
    """A camera as its sender keeps it."""

    __slots__ = ("announced", "camera", "due", "info", "newest", "number", "sent", "tag")

    def __init__(self, number: int, camera: str) -> None:
        self.number, self.camera = number, camera
        self.info: StreamInfo | None = None
        self.tag = bytes(4)
        self.newest = 0
        self.sent = 0
        self.due: float | None = None
        self.announced = float("-inf")


class _Turn(NamedTuple):
    slot: _Slot
    context: Context
    sent: int


class RadioSending:
    """A `SendingTransport` over a port; see the module's text. `age`: the usual age of frames that leave (s).

    `free_at`: when the next frame may leave. `on_heard(received, lost)`: what an acknowledgement tells of this end's
    frames. Counters: sent, sent_bytes (on the air), announcements, turns, words, words_refused, requests, and the
    port's.
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
        self._counter = start_of(clock.wall())
        self._turns: deque[_Turn] = deque(maxlen=_POLLED)
        self._turn_due = clock.now()
        self._missed = 0
        self._answered: dict[int, tuple[int, int]] = {}
        self._asked: dict[tuple[str, BlockRequest], float] = {}
        self._last_sent = float("-inf")
        self.free_at = float("-inf")
        self.extra_bytes = 0
        self.on_heard: Callable[[int, int], None] = lambda received, lost: None
        self.on_sent: Callable[[], None] = lambda: None
        self._stop = threading.Event()
        self._port = open_port(self._word)
        self._thread = threading.Thread(target=self._run, name="semhier-radio-sender", daemon=True)
        self._thread.start()

    # -- SendingTransport ---------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether the port is open and a receiver is taken to be there: until some turns in a row went unanswered."""
        return self._port.is_open and self._missed <= MISSED_TURNS + 1

    @property
    def trouble(self) -> str:
        return self._port.trouble

    def wait_connected(self, timeout: float) -> bool:
        end = time.monotonic() + timeout
        while not self.connected and time.monotonic() < end:
            time.sleep(0.01)
        return self.connected

    def set_info(self, camera: str, info: bytes, anew: bool = True) -> None:
        """Announces a camera, the fourth at most; ValueError for one more."""
        parsed = StreamInfo.from_bytes(info)
        with self._lock:
            slot = self._slots.get(camera)
            if slot is None:
                if len(self._slots) >= SLOTS:
                    raise ValueError(f"cameras: {camera!r} is one more than the {SLOTS} that such a link carries")
                slot = self._slots[camera] = _Slot(len(self._slots), camera)
            tag = stream_tag(parsed)
            if tag != slot.tag or slot.due is None:
                slot.due = self._clock.now()
            slot.info, slot.tag = parsed, tag

    def note(self, camera: str, data: bytes) -> bool:
        return False

    def send(self, datagram: Datagram) -> bool:
        with self._lock:
            now = self._clock.now()
            slot = self._slots.get(datagram.camera)
            if slot is None or not self._port.is_open:
                self._counts["dropped"] += 1
                return False
            units = stamp_units(datagram.stamp_ns) if datagram.level == 0 else 0
            if not slot.sent or (datagram.frame - slot.newest) % 0x10000 < 0x8000:
                slot.newest = datagram.frame
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
            frames = told + frames if unknown else frames + told  # nothing can be read before it
            return self._emit(frames, now, datagram=len(told) if unknown else 0)

    def close(self) -> None:
        self._stop.set()
        self._port.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=2.0)

    @property
    def counters(self) -> Mapping[str, int]:
        with self._lock:
            return {**self._port.counters, **self._counts}

    # -- out ----------------------------------------------------------------------------------------------------------

    def _emit(self, frames: list[tuple[_Slot, bytes, Context]], now: float, *, datagram: int) -> bool:
        """Sends frames one after the other, the turn with the last where it is due; all but number `datagram` are
        charged later."""
        begins = max(now, self.free_at)
        sent_all = True
        for place, (slot, laid, context) in enumerate(frames):
            turn = place == len(frames) - 1 and self._options.answers and now >= self._turn_due
            counted = Context(False, context.tag, context.frame, context.stamp, self._counter if self._keyed else 0)
            data = finish(laid, slot.number, turn, counted, self._options.seal)
            if self._keyed:
                self._counter = (self._counter + 1) % COUNTERS
            sent = self._port.send(data)
            sent_all &= sent
            cost = len(data) + self._options.air.frame_extra
            begins += self._options.air.seconds(len(data))
            if not sent:
                continue
            slot.sent += 1
            self._counts["sent"] += 1
            self._counts["sent_bytes"] += cost
            if place != datagram:
                self.extra_bytes += cost
            if turn:
                begins += self._options.gap
                self._turns.append(_Turn(slot, Context(True, slot.tag, counter=counted.counter), slot.sent))
                self._counts["turns"] += 1
                self._missed += 1
                slower = min(2.0 ** max(0, self._missed - MISSED_TURNS), BACKOFF)
                self._turn_due = now + slower * self._options.turn_seconds
        self.free_at = begins
        self._last_sent = now
        return sent_all

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
        age = self._age()
        since = 0.0 if age is None else now - age - slot.info.stamp_ns / 1e9
        limit = self._options.shape.largest or 0
        room = limit - (5 if self._keyed else 0)  # its counter travels whole
        frames = announcement(slot.info, slot.newest, round(since * 1e9 / STAMP_UNIT_NS), room)
        known = slot.number in self._answered
        air = sum(self._options.air.seconds(len(frame) + self._options.seal.overhead) for frame in frames)
        share = self._options.air.duty * ANNOUNCE_SHARES[known]
        slot.announced, slot.due = now, now + max(ANNOUNCE_SECONDS[known], air / share)
        self._counts["announcements"] += 1
        return [(slot, frame, Context()) for frame in frames]

    def _run(self) -> None:
        while not self._stop.wait(TICK_SECONDS):
            now = self._clock.now()
            self._hooks.on_tick(now)
            frames: list[tuple[_Slot, bytes, Context]] = []
            with self._lock:
                if not self._port.is_open or now < self.free_at or now - self._last_sent < IDLE_SECONDS:
                    continue
                frames = self._announcements(now)
                if not frames and self._options.answers and now >= self._turn_due and self._slots:
                    slot = next(iter(self._slots.values()))
                    frames = [(slot, turn_frame(slot.newest), Context(tag=slot.tag, frame=slot.newest))]
                if frames:
                    self._emit(frames, now, datagram=-1)
            if frames:
                self.on_sent()

    # -- in -----------------------------------------------------------------------------------------------------------

    def _word(self, data: bytes) -> None:
        seal = self._options.seal
        request: tuple[str, BlockRequest] | None = None
        heard: tuple[int, int] | None = None
        with self._lock:
            now = self._clock.now()
            try:
                word = Word.parse(data, seal)
                turn = self._turn_of(word, data)
            except CompactError:
                self._counts["words_refused"] += 1
                return
            self._counts["words"] += 1
            self._missed = 0
            slot = turn.slot
            if word.kind == QUERY:
                wait = ANNOUNCE_SECONDS[0] / 2
                slot.due = max(now, slot.announced + wait)
                return
            self._turn_due = min(self._turn_due, now + self._options.turn_seconds)
            if word.kind == ACK:
                heard = self._acknowledged(turn, word)
            elif word.request is not None:
                request = self._asked_for(slot, word, now)
        if heard is not None:
            self.on_heard(*heard)
        if request is not None:
            self._hooks.on_request(request[0], request[1].to_bytes())

    def _turn_of(self, word: Word, data: bytes) -> _Turn:
        """The turn that a word answers. Raises CompactError where it answers none."""
        for turn in reversed(self._turns):
            query = word.kind == QUERY
            context = Context(True) if query else turn.context
            if turn.slot.number == word.slot and self._options.seal.holds(data, context):
                if not query:
                    self._turns.remove(turn)  # answered once
                return turn
        raise CompactError("word: forged, damaged, or no answer to a turn of ours")

    def _acknowledged(self, turn: _Turn, word: Word) -> tuple[int, int] | None:
        before = self._answered.get(turn.slot.number)
        self._answered[turn.slot.number] = (turn.sent, word.count)
        if before is None:
            return None
        sent, came = turn.sent - before[0], (word.count - before[1]) & 0xFF
        if not 0 < sent < 200 or came > sent:
            return None  # too long ago for a count modulo 256, or a receiver that began anew
        return came, sent - came

    def _asked_for(self, slot: _Slot, word: Word, now: float) -> tuple[str, BlockRequest] | None:
        """A request out of its word, unless it is the repetition of one."""
        request = word.request
        assert request is not None
        if word.kind == ASK_FRAME:
            request = BlockRequest(request.finest, near(word.frame, 8, slot.newest - 100) % 0x10000)
        asked = (slot.camera, request)
        self._asked = {key: at for key, at in self._asked.items() if now - at < _ASKED_AGAIN}
        again = asked in self._asked
        self._asked.setdefault(asked, now)
        if again:
            return None
        self._counts["requests"] += 1
        return asked


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
        clock: Clock = MACHINE,
    ) -> None:
        self._options, self._wire = options, scheduler.wire
        super().__init__(
            scheduler,
            lambda hooks: RadioSending(options, open_port, hooks, age=lambda: packer.age, clock=clock),
            budget=self._allowed(budget),
            adapt=False,
            repeats=repeats,
            on_request=on_request,
            clock=clock,
        )
        assert isinstance(self._inner, RadioSending)
        self._radio = self._inner
        self._radio.on_heard, self._radio.on_sent = self._heard, self._hold

    def _allowed(self, budget: float | None) -> float | None:
        allowed = self._options.air.allowed
        if allowed is None:
            return budget or None
        return min(budget, allowed) if budget else allowed

    def set_budget(self, budget: float | None) -> None:
        super().set_budget(self._allowed(budget))

    def _heard(self, received: int, lost: int) -> None:
        with self._lock:
            self._control.heard(received, lost)
            self._apply(self._clock.now())

    def advice(self, camera: str, wanted: float) -> Advice:
        """Scenes that fit one frame; fewer of them where a second has no room for more."""
        options, most = self._options, self._options.scene_bytes
        with self._lock:
            budget, total = self._control.budget, sum(self._weights.values()) or 1.0
            copies = 1 + self._control.wished(self._clock.now()).repeats
            share = self._weights.get(camera, 1.0) / total
        if budget is None:
            return Advice(wanted, most)
        speaks = options.answers and options.gap
        rate = PLANNED_SHARE * budget * share * (1.0 - (options.gap / options.turn_seconds if speaks else 0.0))
        around = self._wire.wire_bytes(0) + 2
        frames = rate / (copies * (around + min(most, ENOUGH_BYTES)))
        frames = frames if wanted <= 0.0 else min(wanted, frames)
        return Advice(frames, max(1, min(most, int(rate / (copies * frames)) - around)))

    def send(self, datagram: Datagram) -> bool:
        wait = self._radio.free_at - self._clock.now()
        if self._options.gap and wait > 0.0:  # a turn was given while this datagram was made
            time.sleep(wait)
        with self._lock:
            self._control.sent(datagram, 0, self._clock.wall(), self._clock.now())
        sent = self._radio.send(datagram)
        self._hold()
        return sent

    def _hold(self) -> None:
        """Lets the pacer wait for the air, and charges what was sent besides datagrams."""
        extra, self._radio.extra_bytes = self._radio.extra_bytes, 0
        self.pacer.hold(self._radio.free_at, extra)
