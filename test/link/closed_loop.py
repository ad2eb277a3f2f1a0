"""A whole measured link over virtual time: scheduler, envelopes, both directions, reports, rate and repair."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from simulation import FakeBlock, pack, split

from semhier_ros.codec.report import REPORT_BYTES, Report
from semhier_ros.link import Scheduler, default_policies
from semhier_ros.link.emulate.direction import VirtualLink
from semhier_ros.link.emulate.profile import parse_link
from semhier_ros.link.feedback.envelope import Opener, Sealer
from semhier_ros.link.feedback.report import ArrivalTracker, ReportClock
from semhier_ros.link.feedback.sender_control import SenderControl
from semhier_ros.link.schedule.wire import ZENOH_UDP

WIRE = ZENOH_UDP.with_overhead(5)
STEP = 0.002
CLOCKS_APART = 4321.5


@dataclass
class Run:
    """What came out: per frame the first coarse arrival minus its submission, and the rate over time."""

    coarse: dict[int, float] = field(default_factory=dict)
    born: dict[int, float] = field(default_factory=dict)
    rates: list[tuple[float, float]] = field(default_factory=list)
    bytes_in: list[tuple[float, int]] = field(default_factory=list)
    control: SenderControl | None = None
    reports: int = 0

    def share(self, since: float = 0.0) -> float:
        frames = [frame for frame, born in self.born.items() if born >= since]
        return sum(frame in self.coarse for frame in frames) / len(frames)

    def late(self, share: float, since: float = 0.0, until: float = 1e9) -> float:
        found = sorted(late for frame, late in self.coarse.items() if since <= self.born[frame] < until)
        return found[min(int(share * len(found)), len(found) - 1)]

    def received(self, since: float, until: float) -> float:
        return sum(size for at, size in self.bytes_in if since <= at < until) / (until - since)


def run(
    link: str,
    seconds: float,
    *,
    budget: float | None,
    frames: float = 10.0,
    sizes=(30, 10, 15, 30, 400, 900, 2000),
    adapt: bool = True,
    repeats: int = -1,
    encode: float = 0.0,
    seed: int = 1,
) -> Run:
    """`seconds` of `frames` a second over `link`, the same profile back, the receiver's clock far from the sender's."""
    profile = parse_link(f"{link},seed{seed}")
    up, down = VirtualLink(profile, "up"), VirtualLink(profile, "down")
    control = SenderControl(budget, WIRE, adapt=adapt, repeats=repeats)
    scheduler = Scheduler(pack, split, default_policies(7, 4), wire=WIRE, rate=control.rate)
    sealer, opener, tracker = Sealer("c", start=5), Opener("c"), ArrivalTracker()
    result = Run(control=control)
    draw = random.Random(seed)
    now, frame, next_frame, reports = 0.0, 0, 0.0, ReportClock()
    wall = 1.7e9
    while now < seconds:
        if now >= next_frame:
            control.submitted("c", sizes[0], sum(sizes[:4]), now)
            blocks = [
                FakeBlock(index, bytes(max(1, int(size * (0.7 + 0.6 * draw.random())))))
                for index, size in enumerate(sizes)
            ]
            scheduler.submit("c", frame & 0xFFFF, frame, blocks, now + encode)
            result.born[frame] = now
            frame += 1
            next_frame += 1.0 / frames
        while (datagram := scheduler.pop(now)) is not None:
            clock = wall + now
            payload, sequence = sealer.seal(datagram.payload, int(clock * 1000))
            control.sent(datagram, sequence, clock, now)
            up.send((datagram, payload), datagram.wire_bytes, now)
        for at, (datagram, payload) in up.arrivals(now):
            opened = opener.open(payload)
            fresh = tracker.arrived(
                opened.sequence, opened.sent_ms, len(payload), at, int((wall + at + CLOCKS_APART) * 1e6)
            )
            if fresh:
                result.bytes_in.append((at, datagram.wire_bytes))
                if datagram.level == 0:
                    result.coarse.setdefault(datagram.stamp_ns, at - result.born[datagram.stamp_ns])
        if tracker.heard and reports.due(now) and tracker.silence(now) < 3.0:
            reports.reported(tracker.payload_bytes, now)
            data = tracker.report(now, int((wall + now + CLOCKS_APART) * 1e6)).to_bytes()
            down.send(data, 44 + REPORT_BYTES, now)
            result.reports += 1
        for at, data in down.arrivals(now):
            control.report("c", Report.from_bytes(data), wall + at, at)
        control.tick(now)
        rate = control.rate
        if rate is not None and (scheduler.rate is None or abs(rate / scheduler.rate - 1.0) > 0.02):
            scheduler.set_rate(rate, now)
        plan = control.repair(now)
        scheduler.set_repair(plan.repeats, plan.gap)
        result.rates.append((now, rate or 0.0))
        now += STEP
    return result
