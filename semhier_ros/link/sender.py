"""The sending end of a link: scheduler, pacer, transport, and what the receiver's reports make of them.

`LinkSender` is the measured link; `PlainSender` the same face for a transport that says nothing back. Neither knows
what carries the datagrams nor what time it is: transport and clock are handed in, and by a `ManualClock` nothing
happens but in `advance` and in the transport's calls, so that the very objects of a robot run in virtual time.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence

from semhier_ros.codec.envelope import OVERHEAD, OVERHEAD_KEYED, EnvelopeError, is_envelope
from semhier_ros.codec.report import KINDS, ClockNote, Report, ReportError
from semhier_ros.link.clock import MACHINE, Clock, ManualClock
from semhier_ros.link.feedback.envelope import Opener, Sealer, start_of
from semhier_ros.link.feedback.repair import RepairPlan
from semhier_ros.link.feedback.sender_control import Advice, LinkEstimate, SenderControl
from semhier_ros.link.schedule.budget import PerSecond, Share
from semhier_ros.link.schedule.pacer import Pacer, SteppedPacer
from semhier_ros.link.schedule.scheduler import BlockLike, Scheduler
from semhier_ros.link.schedule.status import SchedulerStatus
from semhier_ros.link.schedule.wire import WireModel
from semhier_ros.link.transport import (
    REQUESTS_PER_SECOND,
    Datagram,
    OnMemory,
    OnRequest,
    OpenSending,
    SenderHooks,
    SendingTransport,
    Transport,
    waited,
)

REPLY_SHARE, NOTE_SHARE = 0.05, 0.15
"""What descriptions that receivers ask for, and what is told besides packets, may take of the rate: both leave before
blocks that wait, and nobody may talk the budget empty."""
BESIDE_SECONDS = 2.0
"""One of either may leave so long after the last, however low the rate."""
_NOTE_SECONDS = (1.0, 10.0)
_APPLY_SECONDS = 0.2
_RATE_STEP = 0.02


def measured(wire: WireModel, key: bytes | None = None) -> WireModel:
    """The wire model of messages in envelopes."""
    return wire.with_overhead(OVERHEAD if key is None else OVERHEAD_KEYED)


def _pacer(scheduler: Scheduler, transport: Transport, clock: Clock) -> Pacer:
    if isinstance(clock, ManualClock):
        return SteppedPacer(scheduler, transport, clock)
    return Pacer(scheduler, transport, clock=clock)


class PlainSender:
    """What an encoder gives its blocks to where nothing comes back: order, packets and budget, no envelopes, no advice.

    `scheduler`: what leaves when. `transport`: closed with this object. `clock`: a `ManualClock` makes no thread, and
    the caller calls `advance` at every time that `due` names.
    """

    def __init__(self, scheduler: Scheduler, transport: Transport, *, clock: Clock = MACHINE) -> None:
        self._clock = clock
        self._transport = transport
        self.pacer = _pacer(scheduler, transport, clock)

    def offered(self, camera: str, semantic: Sequence[BlockLike]) -> None:
        """Tells how large the semantic blocks of a new frame are, block 0 among them, before they are submitted."""

    def submit(
        self, camera: str, frame: int, stamp_ns: int, blocks: Sequence[BlockLike], *, asked: bool = False
    ) -> int:
        """Queues a frame's blocks and returns at once (`Pacer.submit`)."""
        return self.pacer.submit(camera, frame, stamp_ns, blocks, asked=asked)

    def meaning(self, camera: str, frame: int, blocks: Sequence[BlockLike]) -> None:
        """Tells what the delta of a frame says in blocks that refer to nothing (none: nobody knows), before a picture
        of it is submitted that was asked for. Where receivers keep the frame, they have no use for it."""

    def gone(self, camera: str, frame: int) -> None:
        """Tells that blocks of a frame that a receiver asked for do not come. Where nothing is said of that, a receiver
        takes it from their staying away."""

    def advice(self, camera: str, wanted: float, given: float = 0.0) -> Advice:
        """Frames a second and bytes a frame that fit the link now; `wanted` frames a second are asked for (0: no
        limit), and the camera gives `given` (0: nobody knows)."""
        return Advice(wanted, None)

    def tell(self, camera: str, data: bytes) -> bool:
        """Tells receivers something beside the packets (1 to 1,000 bytes); False where there is no way for it now, or
        it would take more than its share of the link."""
        return False

    def set_finest(self, camera: str, index: int | None, seconds: float | None = None) -> None:
        """Sends only blocks 0 to `index` of `camera` (`Pacer.set_finest`)."""
        self.pacer.set_finest(camera, index, seconds)

    def finest(self, camera: str) -> int:
        """The finest block index wanted of `camera` now."""
        return self.pacer.finest(camera)

    def set_weight(self, camera: str, weight: float) -> None:
        """The share of `camera` among the cameras (0.001 to 1000)."""
        self.pacer.set_weight(camera, weight)

    def set_budget(self, budget: float | None) -> None:
        """Changes the upper bound (wire bytes per second, None or 0 for none)."""
        self.pacer.set_rate(budget)

    def estimate(self) -> LinkEstimate | None:
        """What is known of the link now, None where it is not measured."""
        return None

    def status(self, camera: str | None = None) -> SchedulerStatus:
        """What is queued, sent and dropped."""
        return self.pacer.status(camera)

    @property
    def due(self) -> float | None:
        """By a `ManualClock`: when to call `advance` next, None while nothing waits."""
        return self.pacer.due if isinstance(self.pacer, SteppedPacer) else None

    def advance(self) -> None:
        """By a `ManualClock`: sends what may leave now."""
        if isinstance(self.pacer, SteppedPacer):
            self.pacer.advance()

    @property
    def connected(self) -> bool:
        """Whether a receiver is there, as far as that can be known: a transport may have a word on it."""
        return bool(getattr(self._transport, "connected", True))

    @property
    def trouble(self) -> str:
        """Why the transport cannot open now and what to do, in a line; empty when nothing is wrong."""
        return ""

    @property
    def counters(self) -> Mapping[str, int]:
        """What happened since the start."""
        return self._transport.counters

    def close(self) -> None:
        """Stops sending and closes the transport; a second call does nothing."""
        self.pacer.close()
        self._transport.close()

    def __enter__(self) -> PlainSender:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class LinkSender(PlainSender):
    """What an encoder gives its blocks to: they leave in envelopes, at the rate and with the repair that the receiver's
    reports ask for, never above the budget.

    `scheduler`: with the wire model that `measured` gives and `joint` packets. `open_transport`: makes the transport
    (`link.zenoh.transport.sending(options)`). `budget`: wire bytes per second, None or 0 for none. `adapt`: whether the
    rate follows the link. `repeats`: -1 for repair by measured loss, else so many repeats. `key`: shared with the
    receiver; then nothing unauthenticated is heard. `on_request(camera, data)`: a receiver's requests, at most 20 a
    second. `on_memory(camera, memory)`: what a report says of the receiver's memory. `counters` adds to the
    transport's: reports, reports_refused, requests_refused, notes_thinned (not told: they have a share of the rate).
    """

    def __init__(
        self,
        scheduler: Scheduler,
        open_transport: OpenSending,
        *,
        budget: float | None = None,
        adapt: bool = True,
        repeats: int = -1,
        key: bytes | None = None,
        on_request: OnRequest | None = None,
        on_memory: OnMemory | None = None,
        clock: Clock = MACHINE,
    ) -> None:
        self._key = key
        self._on_request, self._on_memory = on_request, on_memory
        self._clock = clock
        self._lock = threading.RLock()
        self._control = SenderControl(budget, scheduler.wire, adapt=adapt, repeats=repeats)
        self._wire, self._policies = scheduler.wire, scheduler.policies
        self._sealers: dict[tuple[str, str], Sealer] = {}
        self._openers: dict[str, Opener] = {}
        self._counts: Counter[str] = Counter()
        self._requests = PerSecond(REQUESTS_PER_SECOND)
        self._replies, self._notes = Share(REPLY_SHARE, BESIDE_SECONDS), Share(NOTE_SHARE, BESIDE_SECONDS)
        self._weights: dict[str, float] = {}
        self._next_note: dict[str, float] = {}
        self._next_apply = 0.0
        self._applied_rate = scheduler.rate
        self.pacer = _pacer(scheduler, self, clock)
        self._apply(clock.now())
        self._inner = open_transport(SenderHooks(self._on_message, self._wrap_info, self._tick, self._answer))
        self._transport = self._inner

    def __enter__(self) -> LinkSender:
        return self

    # -- for the encoder ----------------------------------------------------------------------------------------------

    def offered(self, camera: str, semantic: Sequence[BlockLike]) -> None:
        with self._lock:
            sizes = [len(block.data) for block in semantic]
            named = sum(
                size for block, size in zip(semantic, sizes, strict=True) if self._policies[block.index].repeats
            )
            self._control.submitted(camera, sizes[0], max(named, sizes[0]), sum(sizes), self._clock.now())

    def advice(self, camera: str, wanted: float, given: float = 0.0) -> Advice:
        with self._lock:
            total = sum(self._weights.values()) or 1.0
            return self._control.advice(camera, wanted, self._weights.get(camera, 1.0) / total)

    def set_info(self, camera: str, info: bytes, anew: bool = True) -> None:
        """Announces a camera (`SendingTransport.set_info`)."""
        self._weights.setdefault(camera, 1.0)
        self._inner.set_info(camera, info, anew)

    def tell(self, camera: str, data: bytes) -> bool:
        now = self._clock.now()
        with self._lock:
            if not self._notes.free(now):
                self._counts["notes_thinned"] += 1
                return False
        size = self._say(camera, data)
        if size:
            with self._lock:
                self._notes.took(size, self._control.rate, now)
        return size > 0

    def set_weight(self, camera: str, weight: float) -> None:
        self.pacer.set_weight(camera, weight)
        self._weights[camera] = weight

    def set_budget(self, budget: float | None) -> None:
        with self._lock:
            self._control.set_budget(budget)
            self._apply(self._clock.now())

    def estimate(self) -> LinkEstimate:
        with self._lock:
            return self._control.estimate(self._clock.now())

    @property
    def connected(self) -> bool:
        """Whether a receiver is there."""
        return self._inner.connected

    @property
    def trouble(self) -> str:
        return self._inner.trouble

    @property
    def transport(self) -> SendingTransport:
        """What carries it."""
        return self._inner

    def wait_connected(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds for a receiver; for tests and tools."""
        return waited(lambda: self.connected, timeout)

    @property
    def counters(self) -> Mapping[str, int]:
        """What happened since the start."""
        with self._lock:
            return {**self._inner.counters, **self._counts}

    # -- for the pacer ------------------------------------------------------------------------------------------------

    def send(self, datagram: Datagram) -> bool:
        """Puts one datagram into its envelope and hands it to the session."""
        if not self._inner.connected:
            return self._inner.send(datagram)  # counts it as dropped
        with self._lock:
            clock, now = self._clock.wall(), self._clock.now()
            payload, sequence = self._sealer(datagram.camera, "packets").seal(datagram.payload, int(clock * 1000))
            self._control.sent(datagram, sequence, clock, now)
        return self._inner.send(datagram._replace(payload=payload))

    # -- inside -------------------------------------------------------------------------------------------------------

    def _sealer(self, camera: str, kind: str) -> Sealer:
        sealer = self._sealers.get((camera, kind))
        if sealer is None:
            sealer = self._sealers[camera, kind] = Sealer(f"{camera}/{kind}", self._key, start_of(self._clock.wall()))
        return sealer

    def _say(self, camera: str, data: bytes) -> int:
        """Puts a note beside the packets: the wire bytes that the budget pays for it, 0 where nobody is there."""
        if self._key is not None:
            with self._lock:
                data, _ = self._sealer(camera, "note").seal(data, int(self._clock.wall() * 1000))
        if not self._inner.note(camera, data):
            return 0
        size = self._wire.wire_bytes(len(data))
        self.pacer.charge(size)
        return size

    def _answer(self, camera: str, info: bytes) -> bytes | None:
        """A description for who asks for it, None where such have had their share of the rate."""
        now = self._clock.now()
        with self._lock:
            if not self._replies.free(now):
                return None
            self._replies.took(self._wire.wire_bytes(len(info)), self._control.rate, now)
        return self._wrap_info(camera, info)

    def _wrap_info(self, camera: str, info: bytes) -> bytes:
        """What is about to leave as a description. The budget pays for it, or a full link would queue it for good."""
        if self._key is not None:
            with self._lock:
                info, _ = self._sealer(camera, "info").seal(info, int(self._clock.wall() * 1000))
        self.pacer.charge(self._wire.wire_bytes(len(info)))
        return info

    def _on_message(self, camera: str, data: bytes) -> None:
        clock, now = self._clock.wall(), self._clock.now()
        with self._lock:
            if self._key is not None or is_envelope(data):
                opener = self._openers.get(camera)
                if opener is None:
                    opener = self._openers[camera] = Opener(f"{camera}/request", self._key)
                try:
                    data = opener.open(data).payload
                except EnvelopeError:
                    self._counts["requests_refused"] += 1
                    return
            if data and data[0] in KINDS:
                self._report(camera, data, clock, now)
                return
            if not self._requests.take(now):
                self._counts["requests_refused"] += 1
                return
        if self._on_request is not None:
            self._on_request(camera, data)

    def _report(self, camera: str, data: bytes, clock: float, now: float) -> None:
        try:
            report = Report.from_bytes(data)
        except ReportError:
            self._control.refuse()
            self._counts["reports_refused"] += 1
            return
        if not self._control.report(camera, report, clock, now):
            self._counts["reports_refused"] += 1
            return
        self._counts["reports"] += 1
        if report.memory is not None and self._on_memory is not None:
            self._on_memory(camera, report.memory)
        self._apply(now)
        self._note(camera, now)

    def _note(self, camera: str, now: float) -> None:
        if now < self._next_note.get(camera, 0.0):
            return
        estimate = self._control.estimate(now)
        if estimate.clock_offset is None or estimate.clock_error is None:
            return
        first = camera not in self._next_note
        self._next_note[camera] = now + _NOTE_SECONDS[not first]
        self._say(camera, ClockNote(round(estimate.clock_offset * 1e6), round(estimate.clock_error * 1e6)).to_bytes())

    def _tick(self, now: float) -> None:
        if now < self._next_apply:
            return
        self._next_apply = now + _APPLY_SECONDS
        with self._lock:
            self._control.tick(now)
            self._apply(now)

    def _apply(self, now: float) -> None:
        """Gives the scheduler the rate and the repair of now."""
        rate, applied = self._control.rate, self._applied_rate
        small = rate is not None and applied is not None and abs(rate - applied) <= _RATE_STEP * applied
        if rate != applied and (not small or rate == self._control.budget):
            self.pacer.set_rate(rate)
            self._applied_rate = rate
        plan = self._repair(now)
        self.pacer.set_repair(plan.repeats, plan.gap, plan.names)

    def _repair(self, now: float) -> RepairPlan:
        """How coarse blocks are to be protected now."""
        return self._control.repair(now)
