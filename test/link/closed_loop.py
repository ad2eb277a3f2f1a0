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


class _Told(ManualClock):
    """A clock that goes with another and tells another time of day: by `apart`, and `by` seconds more from `at` on."""

    def __init__(self, clock: ManualClock, apart: float, at: float = 1e9, by: float = 0.0) -> None:
        super().__init__(EPOCH + apart)
        self._clock, self._told, self._at, self._by = clock, EPOCH + apart, at, by

    def now(self) -> float:
        return self._clock.now()

    def wall(self) -> float:
        now = self._clock.now()
        return self._told + now + (self._by if now >= self._at else 0.0)


class _All:
    """A transport of several hops: what one sender says to several receivers."""

    connected, trouble, counters = True, "", {}

    def __init__(self, hooks, hops) -> None:
        self._parts = [hop.sending(hooks) for hop in hops]

    def send(self, datagram) -> bool:
        return min([part.send(datagram) for part in self._parts])

    def set_info(self, camera: str, info: bytes, anew: bool = True) -> None:
        for part in self._parts:
            part.set_info(camera, info, anew)

    def note(self, camera: str, data: bytes) -> bool:
        return min([part.note(camera, data) for part in self._parts])


@dataclass
class Run:
    """What came out: per frame the first coarse arrival minus its submission, rate and measured loss over time, what
    was heard of memory."""

    coarse: dict[int, float] = field(default_factory=dict)
    born: dict[int, float] = field(default_factory=dict)
    rates: list[tuple[float, float]] = field(default_factory=list)
    losses: list[tuple[float, float]] = field(default_factory=list)
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
    set_at: float = 1e9,
    receiver_by: float = 0.0,
    sender_by: float = 0.0,
    second: tuple[str, float] | None = None,
    asks: float = 0.0,
    tells: float = 0.0,
    until: float = 1e9,
) -> Run:
    """`seconds` of `frames` a second but for a `pause` over `link`, the same profile back, the
    receiver's clock far from the sender's. At `set_at` clocks are set by so many seconds. `second`: the link to another
    receiver, and when it begins to hear. Somebody asks for descriptions, and something is told beside packets, so many
    times a second `until` then."""
    clock = ManualClock()
    hop = VirtualHop(parse_link(f"{link},seed{seed}"), clock, on_message=lambda message: result.note(message))
    hops = [hop]
    if second is not None:
        hops.append(VirtualHop(parse_link(f"{second[0]},seed{seed + 1}"), clock))
    scheduler = Scheduler(pack, split, default_policies(7, 4), wire=WIRE, rate=budget)
    told: list[tuple[float, bytes]] = []
    sender = LinkSender(
        scheduler,
        lambda hooks: _All(hooks, hops),
        budget=budget,
        adapt=adapt,
        repeats=repeats,
        on_memory=lambda camera, memory: told.append((clock.now(), memory)),
        clock=_Told(clock, 0.0, set_at, sender_by),
    )
    result = Run(control=sender._control, memory=told)
    if info:
        sender.set_info("c", info)

    def arrived(camera: str, level: int, payload: bytes) -> None:
        result.bytes_in.append((clock.now(), WIRE.wire_bytes(len(payload))))
        if level == 0:
            frame = int.from_bytes(payload[_NUMBER], "big")
            result.coarse.setdefault(frame, clock.now() - result.born[frame])

    theirs = _Told(clock, CLOCKS_APART, set_at, receiver_by)
    receiver = LinkReceiver(hop.receiving, arrived, unread=unread, remembers=remembers, clock=theirs)
    draw = random.Random(seed)
    frame, next_frame = 0, 0.0
    others: list[LinkReceiver] = []
    beside = [
        [1.0 / often, 1.0 / often, act]
        for often, act in (
            (asks, lambda: hop.put("query", "c", b"")),
            (tells, lambda: sender.tell("c", bytes(14)) and sender.tell("c", bytes(64))),
        )
        if often
    ]
    while True:
        soonest = [each[0] for each in beside]
        now = earliest(
            next_frame, sender.due, *soonest, *[each.next_arrival for each in hops], *[one.next_tick for one in hops]
        )
        if now is None or now >= seconds:
            break
        clock.set(now)
        if second is not None and not others and now >= second[1]:
            others.append(LinkReceiver(hops[1].receiving, lambda *event: None, clock=_Told(clock, 0.3)))
        for each in beside:
            if now >= each[0]:
                each[0] = now + each[1] if now < until else 1e9
                each[2]()
        for each in hops:
            each.deliver()
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
        for each in hops:
            each.tick()
        sender.advance()
        result.rates.append((now, result.control.rate or 0.0))
        result.losses.append((now, result.control._meter.loss))
    result.reports = receiver.counters["reports"]
    return result
