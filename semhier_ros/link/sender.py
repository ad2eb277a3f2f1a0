"""The sending end of a measured link: scheduler, pacer, transport, and what the receiver's reports make of them."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from semhier_ros.codec.envelope import OVERHEAD, OVERHEAD_KEYED, EnvelopeError, is_envelope
from semhier_ros.codec.report import KIND, ClockNote, Report, ReportError
from semhier_ros.link.feedback.envelope import Opener, Sealer
from semhier_ros.link.feedback.sender_control import Advice, LinkEstimate, SenderControl
from semhier_ros.link.schedule.pacer import Pacer
from semhier_ros.link.schedule.scheduler import BlockLike, Scheduler
from semhier_ros.link.schedule.status import SchedulerStatus
from semhier_ros.link.schedule.wire import WireModel
from semhier_ros.link.transport import Datagram, OnRequest
from semhier_ros.link.zenoh.config import ZenohOptions

REQUESTS_PER_SECOND = 20
MESSAGES_PER_SECOND = 400
"""Reports and requests together that are looked at."""
_NOTE_SECONDS = (1.0, 10.0)
_APPLY_SECONDS = 0.2
_RATE_STEP = 0.02


def measured(wire: WireModel, key: bytes | None = None) -> WireModel:
    """The wire model of messages in envelopes."""
    return wire.with_overhead(OVERHEAD if key is None else OVERHEAD_KEYED)


class LinkSender:
    """What an encoder gives its blocks to: they leave in envelopes, at the rate and with the repair that the receiver's
    reports ask for, never above the budget.

    `scheduler`: with the wire model that `measured` gives and `joint` packets. `options`: of the Zenoh session.
    `budget`: wire bytes per second, None or 0 for none. `adapt`: whether the rate follows the link. `repeats`: -1 for
    repair by measured loss, else so many repeats. `key`: shared with the receiver; then nothing unauthenticated is
    heard. `on_request(camera, data)`: a receiver's requests, at most 20 a second. `counters` adds to the transport's:
    reports, reports_refused, requests_refused.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        options: ZenohOptions,
        *,
        budget: float | None = None,
        adapt: bool = True,
        repeats: int = -1,
        key: bytes | None = None,
        on_request: OnRequest | None = None,
        transport: Callable[..., Any] | None = None,
    ) -> None:
        from semhier_ros.link.zenoh.transport import ZenohSender

        self._key = key
        self._on_request = on_request
        self._lock = threading.RLock()
        self._control = SenderControl(budget, scheduler.wire, adapt=adapt, repeats=repeats)
        self._sealers: dict[tuple[str, str], Sealer] = {}
        self._openers: dict[str, Opener] = {}
        self._counts: Counter[str] = Counter()
        self._request_times: deque[float] = deque(maxlen=REQUESTS_PER_SECOND)
        self._weights: dict[str, float] = {}
        self._next_note: dict[str, float] = {}
        self._next_apply = 0.0
        self._applied_rate = scheduler.rate
        self._inner = (transport or ZenohSender)(
            options,
            on_request=self._on_message,
            requests_per_second=MESSAGES_PER_SECOND,
            wrap=self._wrap_info,
            on_tick=self._tick,
        )
        self.pacer = Pacer(scheduler, self)
        self._apply(time.monotonic())

    # -- for the encoder ----------------------------------------------------------------------------------------------

    def offered(self, camera: str, semantic: Sequence[BlockLike]) -> None:
        """Tells how large the semantic blocks of a new frame are, block 0 among them; the pacer takes them."""
        with self._lock:
            size = sum(len(block.data) for block in semantic)
            self._control.submitted(camera, len(semantic[0].data), size, time.monotonic())

    def advice(self, camera: str, wanted: float) -> Advice:
        """Frames a second and bytes a frame that fit the link now; `wanted` frames a second are asked for."""
        with self._lock:
            total = sum(self._weights.values()) or 1.0
            return self._control.advice(camera, wanted, self._weights.get(camera, 1.0) / total)

    def set_info(self, camera: str, info: bytes) -> None:
        """Announces a camera (`ZenohSender.set_info`)."""
        self._weights.setdefault(camera, 1.0)
        self._inner.set_info(camera, info)

    def set_weight(self, camera: str, weight: float) -> None:
        """The share of `camera` among the cameras (0.001 to 1000)."""
        self.pacer.set_weight(camera, weight)
        self._weights[camera] = weight

    def set_budget(self, budget: float | None) -> None:
        """Changes the upper bound (wire bytes per second, None or 0 for none)."""
        with self._lock:
            self._control.set_budget(budget)
            self._apply(time.monotonic())

    def estimate(self) -> LinkEstimate:
        """What is known of the link now."""
        with self._lock:
            return self._control.estimate(time.monotonic())

    def status(self, camera: str | None = None) -> SchedulerStatus:
        """What is queued, sent and dropped."""
        return self.pacer.status(camera)

    @property
    def connected(self) -> bool:
        """Whether a receiver is there."""
        return bool(self._inner.connected)

    def wait_connected(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds for a receiver; for tests and tools."""
        return bool(self._inner.wait_connected(timeout))

    @property
    def counters(self) -> Mapping[str, int]:
        """What happened since the start."""
        with self._lock:
            return {**self._inner.counters, **self._counts}

    def close(self) -> None:
        """Stops sending and closes the session; a second call does nothing."""
        self.pacer.close()
        self._inner.close()

    def __enter__(self) -> LinkSender:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- for the pacer ------------------------------------------------------------------------------------------------

    def send(self, datagram: Datagram) -> bool:
        """Puts one datagram into its envelope and hands it to the session."""
        if not self._inner.connected:
            return bool(self._inner.send(datagram))  # counts it as dropped
        clock = time.time()
        with self._lock:
            payload, sequence = self._sealer(datagram.camera, "packets").seal(datagram.payload, int(clock * 1000))
            self._control.sent(datagram, sequence, clock, time.monotonic())
        return bool(self._inner.send(datagram._replace(payload=payload)))

    # -- inside -------------------------------------------------------------------------------------------------------

    def _sealer(self, camera: str, kind: str) -> Sealer:
        sealer = self._sealers.get((camera, kind))
        if sealer is None:
            sealer = self._sealers[camera, kind] = Sealer(f"{camera}/{kind}", self._key)
        return sealer

    def _wrap_info(self, camera: str, info: bytes) -> bytes:
        if self._key is None:
            return info
        with self._lock:
            return self._sealer(camera, "info").seal(info, int(time.time() * 1000))[0]

    def _on_message(self, camera: str, data: bytes) -> None:
        clock, now = time.time(), time.monotonic()
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
            if data[:1] == bytes((KIND,)):
                self._report(camera, data, clock, now)
                return
            times = self._request_times
            if len(times) == REQUESTS_PER_SECOND and now - times[0] < 1.0:
                self._counts["requests_refused"] += 1
                return
            times.append(now)
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
        note = ClockNote(round(estimate.clock_offset * 1e6), round(estimate.clock_error * 1e6)).to_bytes()
        if self._key is not None:
            note, _ = self._sealer(camera, "note").seal(note, int(time.time() * 1000))
        self._inner.note(camera, note)

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
        plan = self._control.repair(now)
        self.pacer.set_repair(plan.repeats, plan.gap)
