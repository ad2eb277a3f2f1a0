"""What a sender makes of the receiver's reports: its rate, its repair, its clock's offset, and advice to the encoder.

Clock injected, nothing waits; `LinkSender` runs it. Rates are wire bytes per second.
"""

from __future__ import annotations

from dataclasses import dataclass

from semhier_ros.codec.report import Report
from semhier_ros.link.feedback.clock_offset import ClockOffset
from semhier_ros.link.feedback.hearers import Hearer, Hearers, Left
from semhier_ros.link.feedback.rate_control import QUEUE_SECONDS, Feedback, Least, RateController
from semhier_ros.link.feedback.repair import SHARE, LossMeter, RepairPlan, plan
from semhier_ros.link.schedule.budget import RollingSum
from semhier_ros.link.schedule.wire import WireModel
from semhier_ros.link.transport import Datagram

_HISTORY = 4096
_LONG_PENDING = 20.0
_LOSSY = 0.005
_OVERFLOW_SECONDS = 1.0
"""After congestion, losses are taken for a queue that overflowed: nothing that repair could mend."""
COARSE_SHARE = 0.9
"""What coarse blocks alone may take of the rate before frames become fewer."""
WHOLE_SHARE = 0.9
"""What whole frames (all semantic blocks in one packet) may take of it where nobody wants a given number of frames:
fewer frames with their names serve a planner better than more without,"""
WHOLE_MOST = 1.5
"""as long as a whole frame costs no more than so many coarse blocks."""
LEAST_FRAMES = 0.2
"""Frames per second that are always asked for."""
PACKET_BYTES = 15
"""Header, checksum and stamp of a packet with a coarse block."""
PACE_SECONDS = 2.0
"""Over which frames are counted."""
LENGTH_BYTES = 3
"""Lengths of the blocks that share a packet with the coarse one."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What an encoder should make of one camera.

    `frames_per_second`: at most so many. `semantic_bytes`: what the semantic blocks of a frame should take together at
    most; None while they fit as they are. `delta_bytes`: what those of a frame should take that refers to what the
    receiver remembers, where that is less; None for as much as others.
    """

    frames_per_second: float
    semantic_bytes: int | None
    delta_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class LinkEstimate:
    """What is known of the link: `rate` that is used, `loss` (share of datagrams), `burst` (mean run of losses),
    `queue_delay` (seconds that our own bytes wait on the way), `round_trip` and `clock_offset` (receiver minus sender)
    with `clock_error`, in seconds, None while unknown; `reports` taken and `refused`; `congested` while the link is
    smaller than the budget just now. `hears`: whether the receiver says anything at all; `times`: whether what it says
    measures times: round trip and clock offset stay unknown else.
    """

    rate: float | None
    loss: float
    burst: float
    queue_delay: float
    round_trip: float | None
    clock_offset: float | None
    clock_error: float | None
    reports: int
    refused: int
    congested: bool
    repair: RepairPlan
    hears: bool = True
    times: bool = True


class _Stream:
    """One camera as the sender sees it."""

    __slots__ = (
        "coarse",
        "coarse_wire",
        "followed",
        "frames",
        "hearers",
        "history",
        "named",
        "newest",
        "semantic",
        "wire_received",
    )

    def __init__(self) -> None:
        self.history: list[Left | None] = [None] * _HISTORY
        self.newest: Left | None = None
        self.hearers = Hearers()
        self.followed: Hearer | None = None
        self.wire_received = 0.0
        self.coarse = 0.0
        self.coarse_wire = 0.0
        self.named = 0.0
        self.semantic = 0.0
        self.frames = RollingSum(PACE_SECONDS)


class SenderControl:
    """See the module's text.

    `budget`: the operator's upper bound, None or 0 for none. `adapt`: whether the rate follows the link below it.
    `repeats`: -1 to follow the measured loss, else that many always. `wire`: cost of a message, the envelope included.
    """

    def __init__(self, budget: float | None, wire: WireModel, *, adapt: bool = True, repeats: int = -1) -> None:
        self.budget = budget or None
        self._wire = wire
        self._adapt = adapt
        self._repeats = repeats
        self._controller = RateController(self.budget)
        self._streams: dict[str, _Stream] = {}
        self._meter = LossMeter()
        self._offset = ClockOffset()
        self._sent = RollingSum(0.5, 10)
        self._datagrams = RollingSum(1.0)
        self._reference_ms: int | None = None
        self._round_trip: float | None = None
        self._least_trip = Least()
        self._reports = 0
        self._refused = 0

    @property
    def rate(self) -> float | None:
        """The rate to use now."""
        return self._controller.rate if self._adapt else self.budget

    def set_budget(self, budget: float | None) -> None:
        """The operator changed the upper bound."""
        self.budget = budget or None
        self._controller.set_ceiling(self.budget)

    # -- in -----------------------------------------------------------------------------------------------------------

    def submitted(self, camera: str, coarse: int, named: int, semantic: int, now: float) -> None:
        """A frame is about to be sent: bytes of its coarse block, of that with the blocks that are repeated with it,
        and of all its semantic blocks."""
        stream = self._stream(camera)
        weight = 0.2 if stream.semantic else 1.0
        stream.coarse += weight * (coarse - stream.coarse)
        stream.named += weight * (named - stream.named)
        stream.semantic += weight * (semantic - stream.semantic)
        stream.frames.add(1, now)

    def sent(self, datagram: Datagram, sequence: int, clock: float, now: float) -> None:
        """A datagram left with that sequence number, at `clock` of this end (seconds since 1970)."""
        stream = self._stream(datagram.camera)
        number, size = (0, 0) if stream.newest is None else (stream.newest.number, stream.newest.size)
        stream.newest = Left(sequence, clock, now, number + 1, size + datagram.wire_bytes)
        stream.history[sequence % _HISTORY] = stream.newest
        self._sent.add(datagram.wire_bytes, now)
        self._datagrams.add(1, now)
        if datagram.level == 0 and datagram.copy == 0:
            weight = 0.2 if stream.coarse_wire else 1.0
            stream.coarse_wire += weight * (datagram.wire_bytes - stream.coarse_wire)

    def refuse(self) -> None:
        """Something came that is no report."""
        self._refused += 1

    def report(self, camera: str, report: Report, clock: float, now: float) -> bool:
        """Takes a report about `camera`; False when it says what cannot be (and is counted as refused).

        `clock`: this end's clock, seconds since 1970.
        """
        stream = self._streams.get(camera)
        left = None if stream is None else stream.history[report.newest % _HISTORY]
        if stream is None or left is None or left.sequence != report.newest:
            self._refused += 1
            return False
        if report.echo_ms != int(left.clock * 1000) & 0xFFFF:
            self._refused += 1
            return False
        self._reports += 1
        hearer, added = stream.hearers.take(report, left, now)
        if added is None or not self._follows(stream, hearer, now):
            return True
        stream.wire_received += added.size + added.received * self._wire.wire_bytes(0)
        held = report.held_ms / 1000.0
        receiver = _near(report.clock_us / 1e6, clock)
        sets = self._offset.sets
        round_trip = self._offset.add(clock - (now - left.at), held, receiver, clock, now)
        if self._offset.sets != sets:
            self._clocks_set()
        if round_trip is not None:
            self._round_trip = round_trip if self._round_trip is None else min(round_trip, self._round_trip + 0.01)
            self._least_trip.add(round_trip, now)
        delay = self._delay(report)
        if round_trip is not None and self._beyond(delay, delay, round_trip):
            self._offset.forget()
            self._offset.add(clock - (now - left.at), held, receiver, clock, now)
            self._clocks_set()
            delay = self._delay(report)
        self._controller.report(
            Feedback(
                delay=delay,
                pending=self._pending(stream, report, delay, receiver, now),
                received=sum(each.wire_received for each in self._streams.values()),
                at=receiver,
                sent_rate=self._sent.total(now) / 0.5,
                loss=self._meter.loss,
                round_trip=self._round_trip,
                datagram=self._wire.wire_bytes(1200 if self._controller.rate > 60_000 else 200),
            ),
            now,
        )
        if now - self._controller.last_cut > _OVERFLOW_SECONDS:
            self._meter.add(added.received, added.lost, added.runs)
        return True

    def heard(self, received: int, lost: int) -> None:
        """A receiver told, without a report, what became of so many datagrams."""
        self._reports += 1
        self._meter.add(received, lost, lost)

    def wished(self, now: float) -> RepairPlan:
        """The repair that the measured loss asks for, whatever the rate."""
        found = plan(self._meter.loss, self._meter.burst, self._datagrams.total(now))
        return found if self._repeats < 0 else RepairPlan(self._repeats, found.gap)

    def tick(self, now: float) -> None:
        """To be called a few times a second: silence is news too."""
        if self._reports and self._sent.total(now):
            self._controller.silent(now)

    # -- out ----------------------------------------------------------------------------------------------------------

    def repair(self, now: float) -> RepairPlan:
        """How coarse blocks are to be protected now, as far as the rate allows."""
        found = self.wished(now)
        repeats, names, rate = found.repeats, True, self.rate
        if self._repeats < 0 and rate is not None:
            while repeats > 0 and self._coarse_rate(repeats, names, now) > SHARE * rate:
                if names:
                    names = False
                else:
                    repeats -= 1
        return RepairPlan(repeats, found.gap, names or not repeats)

    def _coarse_rate(self, repeats: int, names: bool, now: float) -> float:
        """Wire bytes per second of coarse blocks that are repeated so often, in the first repeat with their names."""
        total = 0.0
        for stream in self._streams.values():
            alone = self._wire.wire_bytes(int(stream.coarse) + PACKET_BYTES)
            first = self._wire.wire_bytes(int(stream.named) + PACKET_BYTES + LENGTH_BYTES) if names else alone
            total += stream.frames.total(now) / PACE_SECONDS * (stream.coarse_wire + first + (repeats - 1) * alone)
        return total

    def advice(self, camera: str, wanted: float, weight_share: float = 1.0) -> Advice:
        """What the encoder should do for `camera`, of which `wanted` frames a second are asked for (0: no limit).

        `weight_share`: the camera's share of the link (0 to 1).
        """
        rate, stream = self.rate, self._streams.get(camera)
        if rate is None or stream is None or not stream.semantic:
            return Advice(wanted, None)
        share = rate * weight_share
        coarse = self._wire.wire_bytes(int(stream.coarse) + PACKET_BYTES)
        most = COARSE_SHARE * share / coarse
        if wanted <= 0.0:
            whole = self._wire.wire_bytes(int(stream.semantic) + PACKET_BYTES + LENGTH_BYTES)
            most = min(most, WHOLE_SHARE * share / min(whole, WHOLE_MOST * coarse))
            return Advice(0.0 if most > 60.0 else max(most, LEAST_FRAMES), None)
        frames = max(min(wanted, most), LEAST_FRAMES)
        room = int(COARSE_SHARE * share / frames) - self._wire.wire_bytes(PACKET_BYTES)
        return Advice(frames, None if 1.3 * stream.semantic < room else max(room, 1))

    def estimate(self, now: float) -> LinkEstimate:
        """What is known of the link."""
        best = self._offset.best
        return LinkEstimate(
            rate=self.rate,
            loss=self._meter.loss if self._reports else 0.0,
            burst=self._meter.burst,
            queue_delay=self._controller.queue_delay,
            round_trip=self._round_trip,
            clock_offset=None if best is None else best.seconds,
            clock_error=None if best is None else best.error,
            reports=self._reports,
            refused=self._refused,
            congested=self._adapt and self._controller.congested,
            repair=self.repair(now),
        )

    # -- inside -------------------------------------------------------------------------------------------------------

    def _stream(self, camera: str) -> _Stream:
        stream = self._streams.get(camera)
        if stream is None:
            stream = self._streams[camera] = _Stream()
        return stream

    def _follows(self, stream: _Stream, hearer: Hearer, now: float) -> bool:
        """Whether a receiver is the one of its stream that is followed. Another one's clock tells other times."""
        followed = stream.hearers.followed(now)
        if followed is not stream.followed:
            if stream.followed is not None:
                self._offset.forget()
                self._least_trip.forget()
                self._round_trip = None
                self._clocks_set()
            stream.followed = followed
        return hearer is followed

    def _clocks_set(self) -> None:
        """Delays by the two clocks say something else from now on: the next one counts as the least."""
        self._controller.clocks_set()
        self._reference_ms = None

    def _delay(self, report: Report) -> float:
        """The report's delay, from the first one on that was told by these clocks (seconds)."""
        if self._reference_ms is None:
            self._reference_ms = report.delay_ms
        return _signed(report.delay_ms - self._reference_ms) / 1000.0

    def _beyond(self, delay: float, least: float, since: float) -> bool:
        """Whether a delay has grown above the least by what is no queue's: that would have made the way there and back,
        which took `since` seconds by the sender's clock alone, longer by as much. Then a clock was set."""
        known, trip = self._controller.least_delay, self._least_trip.value
        least = least if known is None else min(least, known)
        return trip is not None and delay - least > since - trip + QUEUE_SECONDS

    def _pending(self, stream: _Stream, report: Report, delay: float, receiver: float, now: float) -> float | None:
        """The delay that a datagram not yet seen by the receiver must have at least, by the same two clocks."""
        skip = 0 if self._meter.loss < _LOSSY else 1 + int(2.0 * self._meter.burst)
        place = (report.newest + 1 + skip) & 0xFFFF
        left = stream.history[place % _HISTORY]
        if left is None or left.sequence != place or not 0.0 <= now - left.at < 60.0:
            return None
        if now - left.at > _LONG_PENDING:
            return delay + _LONG_PENDING
        reached = _signed(int(receiver * 1000) - int(left.clock * 1000) - report.delay_ms) / 1000.0
        return None if self._beyond(delay + reached, delay, now - left.at) else delay + reached


def _signed(milliseconds: int) -> int:
    return (milliseconds + 0x8000) % 0x10000 - 0x8000


def _near(clock: float, own: float) -> float:
    """A receiver's wrapped clock, taken to lie as near to ours as its 48 bits allow."""
    period = (1 << 48) / 1e6
    return clock + round((own - clock) / period) * period
