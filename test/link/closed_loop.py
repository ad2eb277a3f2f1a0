"""A whole measured link over virtual time: the two ends that nodes use, a hop both ways, frames of made-up blocks."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from simulation import FakeBlock, pack, split

from semhier_ros.link import Scheduler, default_policies
from semhier_ros.link.clock import EPOCH, ManualClock
from semhier_ros.link.emulate.hop import Message, VirtualHop, earliest
from semhier_ros.link.emulate.profile import parse_link
from semhier_ros.link.feedback.sender_control import SenderControl
from semhier_ros.link.receiver import LinkReceiver
from semhier_ros.link.schedule.wire import ZENOH_UDP
from semhier_ros.link.sender import LinkSender, measured

WIRE = measured(ZENOH_UDP)
CLOCKS_APART = 4321.5
_NUMBER = slice(17, 21)
"""Where a packet of a coarse block tells the frame's number: behind the head and the block's."""


class _Apart(ManualClock):
    """The receiver's clock: it goes with the sender's, and tells another time of day."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(EPOCH + CLOCKS_APART)
        self._clock = clock

    def now(self) -> float:
        return self._clock.now()

    def wall(self) -> float:
        return EPOCH + CLOCKS_APART + self._clock.now()


@dataclass
class Run:
    """What came out: per frame the first coarse arrival minus its submission, the rate over time, what was heard
    of memory."""

    coarse: dict[int, float] = field(default_factory=dict)
    born: dict[int, float] = field(default_factory=dict)
    rates: list[tuple[float, float]] = field(default_factory=list)
    bytes_in: list[tuple[float, int]] = field(default_factory=list)
    control: SenderControl | None = None
    left: list[tuple[float, int]] = field(default_factory=list)
    reports: int = 0
    memory: list[tuple[float, bytes]] = field(default_factory=list)

    def note(self, message: Message) -> None:
        if message.kind in ("packet", "info", "note"):
            self.left.append((message.time, message.wire_bytes))

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
    seed: int = 1,
    unread=None,
    remembers=None,
    pause: tuple[float, float] = (0.0, 0.0),
    info: bytes = b"",
) -> Run:
    """`seconds` of `frames` a second but for a `pause` over `link`, the same profile back, the
    receiver's clock far from the sender's."""
    clock = ManualClock()
    hop = VirtualHop(parse_link(f"{link},seed{seed}"), clock, on_message=lambda message: result.note(message))
    scheduler = Scheduler(pack, split, default_policies(7, 4), wire=WIRE, rate=budget)
    told: list[tuple[float, bytes]] = []
    sender = LinkSender(
        scheduler,
        hop.sending,
        budget=budget,
        adapt=adapt,
        repeats=repeats,
        on_memory=lambda camera, memory: told.append((clock.now(), memory)),
        clock=clock,
    )
    result = Run(control=sender._control, memory=told)
    if info:
        sender.set_info("c", info)

    def arrived(camera: str, level: int, payload: bytes) -> None:
        result.bytes_in.append((clock.now(), WIRE.wire_bytes(len(payload))))
        if level == 0:
            frame = int.from_bytes(payload[_NUMBER], "big")
            result.coarse.setdefault(frame, clock.now() - result.born[frame])

    receiver = LinkReceiver(hop.receiving, arrived, unread=unread, remembers=remembers, clock=_Apart(clock))
    draw = random.Random(seed)
    frame, next_frame = 0, 0.0
    while (now := earliest(next_frame, sender.due, hop.next_arrival, hop.next_tick) or 0.0) < seconds:
        clock.set(now)
        hop.deliver()
        if now >= next_frame:
            blocks = [
                FakeBlock(index, frame.to_bytes(4, "big") + bytes(max(0, int(size * (0.7 + 0.6 * draw.random())) - 4)))
                for index, size in enumerate(sizes)
            ]
            result.born[frame] = now
            sender.offered("c", blocks[:4])
            sender.submit("c", frame & 0xFFFF, frame, blocks)
            frame += 1
            next_frame += 1.0 / frames
            if pause[0] <= next_frame < pause[1]:
                next_frame = pause[1]
        hop.tick()
        sender.advance()
        result.rates.append((now, result.control.rate or 0.0))
    result.reports = receiver.counters["reports"]
    return result
