"""Virtual time for the scheduler: random cameras, frames and requests; every departure is checked as it happens."""

from __future__ import annotations

import random
from typing import NamedTuple

from semhier_ros.link import Datagram, LevelPolicy, Scheduler, SchedulerLimits, default_policies
from semhier_ros.link.schedule.wire import ZENOH_UDP

SIZES = (45, 10, 15, 30, 400, 900, 2000)


class FakeBlock(NamedTuple):
    index: int
    data: bytes


def pack(blocks, *, stamp_ns=None):
    head = 10 + (5 if stamp_ns is not None else 0)
    return bytes(head) + b"".join(b"\0\0" + block.data for block in blocks)


def split(block, limit, *, stamp_ns=None):
    head = 14 + (5 if stamp_ns is not None else 0)
    body = limit - head
    return [bytes(head) + block.data[at : at + body] for at in range(0, len(block.data), body)]


def scheduler(rate=None, **options) -> Scheduler:
    options.setdefault("policies", default_policies(7, 4))
    return Scheduler(pack, split, rate=rate, **options)


def frame_blocks(count=7, sizes=SIZES):
    return [FakeBlock(index, bytes(size)) for index, size in enumerate(sizes[:count])]


class WindowRule:
    """Over any window of T seconds at most rate * T plus one datagram, for a rate that changes: checked in constant
    time.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.earned = 0.0
        self.since = 0.0
        self.sent = 0
        self.lowest = float("inf")
        self.worst = 0.0
        self.datagram = 0

    def set_rate(self, rate: float, now: float) -> None:
        self.earned += self.rate * (now - self.since)
        self.since = now
        self.rate = rate

    def leave(self, datagram: Datagram, now: float) -> None:
        budget = self.earned + self.rate * (now - self.since)
        self.lowest = min(self.lowest, self.sent - budget)
        self.sent += datagram.wire_bytes
        self.worst = max(self.worst, self.sent - budget - self.lowest)


class Simulation:
    """`events` submissions and departures, all drawn from `seed`; `check` fails at the first broken promise."""

    def __init__(self, seed: int, *, cameras: int = 3, rate: float = 8000.0, limits: SchedulerLimits | None = None):
        self.random = random.Random(seed)
        self.policies: tuple[LevelPolicy, ...] = default_policies(7, 4)
        self.limits = limits or SchedulerLimits()
        self.scheduler = scheduler(rate, policies=self.policies, limits=self.limits)
        self.rule = WindowRule(rate)
        self.depth = ZENOH_UDP.wire_bytes(self.scheduler.packet_limit)
        self.names = [f"camera{number}" for number in range(cameras)]
        self.born: dict[tuple[str, int], float] = {}
        self.coarse: dict[str, dict[int, float]] = {name: {} for name in self.names}
        self.coarse_offered = dict.fromkeys(self.names, 0)
        self.coarse_sent = dict.fromkeys(self.names, 0)
        self.departures = 0
        self.frames = 0
        self.now = 100.0
        self.rule.since = self.now

    def run(self, events: int) -> None:
        draw = self.random
        next_frame = {name: self.now + draw.random() * 0.2 for name in self.names}
        period = {name: draw.choice((0.02, 0.033, 0.1, 0.2, 0.5)) for name in self.names}
        for _ in range(events):
            camera = min(next_frame, key=next_frame.__getitem__)
            departure = self.scheduler.next_departure(self.now)
            if departure is not None and departure <= next_frame[camera]:
                assert departure >= self.now
                self.now = departure
                self.depart(self.scheduler.pop(self.now))
                continue
            self.now = next_frame[camera]
            next_frame[camera] = self.now + period[camera] * (0.5 + draw.random())
            self.submit(camera)
            if draw.random() < 0.01:
                rate = draw.choice((1000.0, 4000.0, 8000.0, 64_000.0, 1.25e6))
                self.scheduler.set_rate(rate, self.now)
                self.rule.set_rate(rate, self.now)
                self.depth = max(self.depth, ZENOH_UDP.wire_bytes(self.scheduler.packet_limit))
            if draw.random() < 0.01:
                self.scheduler.set_finest(camera, draw.choice((None, 0, 2, 4)), self.now + draw.random() * 5)

    def submit(self, camera: str) -> None:
        draw = self.random
        count = draw.choice((1, 3, 4, 5, 7, 7))
        blocks = [FakeBlock(index, bytes(draw.randrange(2 * SIZES[index]))) for index in range(count)]
        self.frames += 1
        stamp = self.frames
        self.scheduler.submit(camera, stamp & 0xFFFF, stamp, blocks, self.now)
        self.born[camera, stamp] = self.coarse[camera][stamp] = self.now
        self.coarse_offered[camera] += 1
        if len(self.born) > 20_000:
            for key in [key for key, born in self.born.items() if self.now - born > 10.0]:
                del self.born[key]
        units, held = self.scheduler.memory()[camera]
        assert units <= self.limits.units
        assert held <= self.limits.bytes

    def depart(self, datagram: Datagram | None) -> None:
        if datagram is None:
            return
        self.departures += 1
        self.rule.leave(datagram, self.now)
        assert self.rule.worst <= self.depth + 0.01, f"budget broken by {self.rule.worst - self.depth} bytes"
        assert len(datagram.payload) <= self.scheduler.packet_limit
        assert datagram.wire_bytes == ZENOH_UDP.wire_bytes(len(datagram.payload))
        born = self.born[datagram.camera, datagram.stamp_ns]
        for index in datagram.blocks:
            assert self.now - born <= self.policies[index].lifespan + 1e-9, f"block {index} left too old"
        assert list(datagram.blocks) == list(range(datagram.level, datagram.level + len(datagram.blocks)))
        if datagram.level == 0 and datagram.copy == 0:
            if datagram.piece is None or datagram.piece[0] == datagram.piece[1] - 1:
                assert self.coarse[datagram.camera].pop(datagram.stamp_ns, None) is not None, "sent twice"
                self.coarse_sent[datagram.camera] += 1
            return
        lifespan = self.policies[0].lifespan
        for name, waiting in self.coarse.items():
            for stamp in [stamp for stamp, when in waiting.items() if self.now - when > lifespan]:
                del waiting[stamp]
            if waiting and self.scheduler.status(self.now).levels[0].causes["overflow"]:
                continue
            assert not waiting, f"a {datagram.blocks} packet left although {name} has a coarse block waiting"
