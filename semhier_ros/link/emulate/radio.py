"""A radio link on one machine: rate, frames, loss, turnaround and collisions between two ends.

`Channel` is what lies between them, in the caller's time. `RadioHop` lets both ends of a link talk over it in virtual
time; `RadioEmulator` puts it between two pseudo-terminals: whatever opens them as serial ports talks over the air,
bytes pass at the air's rate, whole frames at a time (as COBS or KISS parts them, like the packet modem that stands
there), seeded losses take whole frames, and on a half-duplex air what both ends send at once is lost for both. On a
line that carries MAVLink each end has a second terminal, of whoever else speaks there: messages leave first come, first
served."""

from __future__ import annotations

import contextlib
import heapq
import os
import pty
import random
import re
import select
import threading
import time
import tty
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from semhier_ros.link.clock import Clock
from semhier_ros.link.emulate.profile import LinkProfile, parse_link
from semhier_ros.link.radio.framing import MAX_FRAME_BYTES, Framing, Messages, framing
from semhier_ros.link.radio.mavlink import MavlinkOptions, Tunnel
from semhier_ros.link.radio.ports import OnFrame
from semhier_ros.link.radio.receiving import RadioReceiving
from semhier_ros.link.radio.sending import TICK_SECONDS, RadioSending
from semhier_ros.link.schedule.wire import IP_HEADER, UDP_HEADER

MAVLINK = "mavlink"
"""The framing of a line on which MAVLink's own messages are the frames."""
MAVLINK_SHARE = 1200.0
"""Bytes a second that our end of such a line may take."""
LARGEST_FRAME = 240
"""What ends send at most in a frame of a radio that takes more: with COBS it still adds 2 bytes."""


def _framing_of(name: str) -> Framing:
    return Messages() if name == MAVLINK else framing(name)


@dataclass(frozen=True, slots=True)
class RadioProfile:
    """An air. `bytes_per_second`: what it carries. `frame_bytes`: the largest frame, larger ones are dropped. `loss`:
    share of frames lost. `turnaround`: seconds a modem takes to send after it received, and that a frame takes to reach
    the other side's computer; above 0 the air is half duplex. `framing`: cobs (its bytes are on the air) or kiss (they
    are not); mavlink: messages, and others speak on the line too. `duty`: what is told, not enforced, of one end's
    share. `extra`: what a frame takes besides (bytes: headers below, a preamble). `seed`: of the losses. `others`:
    bytes a second of others' messages that a measurement puts on a line of mavlink. `datagrams`: it is a link of IP,
    which real processes have as one (`link.emulate.emulator`), and whose frames are datagrams of UDP."""

    bytes_per_second: float
    frame_bytes: int = MAX_FRAME_BYTES
    loss: float = 0.0
    turnaround: float = 0.0
    framing: str = "cobs"
    duty: float = 1.0
    seed: int = 0
    extra: int = 0
    others: float = 0.0
    datagrams: bool = False

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("bytes_per_second", self.bytes_per_second, 1.0, 1e7),
            ("frame_bytes", self.frame_bytes, 8, MAX_FRAME_BYTES),
            ("loss", self.loss, 0.0, 1.0),
            ("turnaround", self.turnaround, 0.0, 10.0),
            ("duty", self.duty, 0.0001, 1.0),
            ("others", self.others, 0.0, self.bytes_per_second),
        ):
            if not low <= value <= high:
                raise ValueError(f"{name}: {value:g}, expected {low:g} to {high:g}")
        _framing_of(self.framing)

    @property
    def transport(self) -> str:
        """What both ends speak over it."""
        return MAVLINK if self.framing == MAVLINK else "serial"

    def datagram_settings(self, **where: Any) -> dict[str, Any]:
        """What both ends of a carrier of UDP are set to where its frames are datagrams. `where`: `listen` or `peer`."""
        made = self.settings(frame_extra=self.extra - IP_HEADER - UDP_HEADER, **where)
        return {name: value for name, value in made.items() if name != "framing"}

    def settings(self, **changes: Any) -> dict[str, Any]:
        """What both ends of a carrier over this radio are set to (`link.carriers.carrier`, by `transport`), but the
        device."""
        if self.framing == MAVLINK:
            return {"share": MAVLINK_SHARE, **changes}
        return {
            "framing": self.framing,
            "frame_bytes": min(self.frame_bytes, LARGEST_FRAME),
            "rate_kbit": 8 * self.bytes_per_second / 1000,
            "turnaround_ms": 1000 * self.turnaround,
            "frame_extra": self.extra,
            "duty_percent": 100 * self.duty,
            **changes,
        }


RADIOS = {
    "serial9600": RadioProfile(960.0, 255, loss=0.02, turnaround=0.020),
    "acoustic": RadioProfile(150.0, 32, loss=0.05, turnaround=0.100, framing="kiss"),
    "lora": RadioProfile(125.0, 220, turnaround=0.050, framing="kiss", duty=0.01),
    "serial57600": RadioProfile(5760.0, 255),
    "mavlink57600": RadioProfile(5760.0, 280, framing=MAVLINK, others=3000.0),
    "udp64": RadioProfile(8000.0, 240, loss=0.02, framing="kiss", extra=IP_HEADER + UDP_HEADER, datagrams=True),
}
"""Radios by name: a 9,600 baud telemetry radio, a 1.2 kbit/s modem of 32-byte frames, a LoRa-class packet modem at 1
kbit/s, a full-duplex line of 57,600 baud, such a line that an autopilot's 3 kB/s of MAVLink share, and 64 kbit/s on
which each frame costs what it does as a datagram of UDP."""


def parse_radio(text: str) -> RadioProfile:
    """`serial9600`, or one of RADIOS with changes: `lora,loss5%,seed3`, `acoustic,turnaround50ms,frame64`. Raises
    ValueError naming the part."""
    name, *changes = text.split(",")
    if name not in RADIOS:
        raise ValueError(f"radio: {name!r}, expected one of {', '.join(RADIOS)}")
    profile = RADIOS[name]
    for change in changes:
        found = re.fullmatch(r"(loss|turnaround|frame|seed|rate|others)(\d+(?:\.\d+)?)(%|ms|bit|B)?", change)
        units = {"loss": "%", "turnaround": "ms", "frame": None, "seed": None, "rate": "bit", "others": "B"}
        if found is None or found[3] != units[found[1]] or (found[1] == "others" and profile.framing != MAVLINK):
            more = ", others2000B" if profile.framing == MAVLINK else ""
            raise ValueError(f"radio: {change!r}, expected loss5%, turnaround50ms, frame64, rate1200bit{more} or seed3")
        value = float(found[2])
        profile = {
            "loss": lambda p, v: replace(p, loss=v / 100),
            "turnaround": lambda p, v: replace(p, turnaround=v / 1000),
            "frame": lambda p, v: replace(p, frame_bytes=int(v)),
            "seed": lambda p, v: replace(p, seed=int(v)),
            "rate": lambda p, v: replace(p, bytes_per_second=v / 8),
            "others": lambda p, v: replace(p, others=v),
        }[found[1]](profile, value)
    return profile


@dataclass(frozen=True, slots=True)
class RadioLink(LinkProfile):
    """A radio among links: what one may know of it without knowing radios, and the `radio`."""

    radio: RadioProfile = RadioProfile(960.0)


def parse_hop(text: str) -> LinkProfile:
    """A link as `parse_link` reads it, or a `RadioLink` where `text` names a radio. Raises ValueError naming the
    part."""
    if text.split(",")[0] not in RADIOS:
        return parse_link(text)
    radio = parse_radio(text)
    rate = 8 * radio.bytes_per_second
    return RadioLink(rate, radio.turnaround, loss=radio.loss, seed=radio.seed, radio=radio)


class Heard(NamedTuple):
    """A frame that was on the air: `end` 0 or 1 sent it, `began` and `ended` (s since the start), `size` on the air
    (bytes), `cause` why it did not arrive ("" when it did), `other` whether somebody else's."""

    end: int
    began: float
    ended: float
    size: int
    cause: str
    other: bool = False


class Channel:
    """The air between two ends, 0 and 1, in the caller's time: whole frames, at its rate, with its losses. `log`: every
    frame that was on the air. `counters(end)`: frames, bytes, lost, collided, oversize, arrived."""

    def __init__(self, profile: RadioProfile) -> None:
        self.profile = profile
        self._random = random.Random(profile.seed)
        self._counts: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        self._free, self._heard = [0.0, 0.0], [-1e9, -1e9]
        self._wrap = _framing_of(profile.framing).wrap if profile.framing != "kiss" else None
        self._waiting: list[tuple[float, int, int, bytes, float, bool]] = []
        self._order = 0
        self.log: list[Heard] = []
        self.on_air = True

    def counters(self, end: int) -> dict[str, int]:
        """What an end sent; not what others sent there."""
        return dict(self._counts[end])

    def size(self, frame: bytes) -> int:
        """What a frame takes on the air (bytes)."""
        return self.profile.extra + len(frame if self._wrap is None else self._wrap(frame))

    def send(self, end: int, frame: bytes, now: float, other: bool = False) -> None:
        """A frame leaves an end's modem once what it sends already is through. other: it is somebody else's."""
        profile, counts = self.profile, Counter[str]() if other else self._counts[end]
        if len(frame) > profile.frame_bytes:
            counts["oversize"] += 1
            return
        size = self.size(frame)
        began = max(now, self._free[end], self._heard[end] + profile.turnaround)
        self._free[end] = ended = began + size / profile.bytes_per_second
        self._order += 1
        heapq.heappush(self._waiting, (ended, self._order, end, frame, began, other))
        counts["frames"] += 1
        counts["bytes"] += size

    @property
    def next_arrival(self) -> float | None:
        """When the next frame has gone over the air, None while there is none."""
        return self._waiting[0][0] if self._waiting else None

    def arrivals(self, now: float) -> list[tuple[int, bytes]]:
        """(the end that hears it, frame) of what arrived by `now`."""
        found = []
        while self._waiting and self._waiting[0][0] <= now:
            ended, _, end, frame, began, other = heapq.heappop(self._waiting)
            cause = self._fate(end, began, ended)
            self.log.append(Heard(end, began, ended, self.size(frame), cause, other))
            self._heard[1 - end] = ended
            if not other:
                self._counts[end][cause or "arrived"] += 1
            if not cause:
                found.append((1 - end, frame))
        return found

    def most_airtime(self, end: int, window: float) -> float:
        """The largest share of any `window` seconds in which an end was on the air."""
        sent = [item for item in self.log if item.end == end]
        best = 0.0
        for place, first in enumerate(sent):
            total = sum(
                min(i.ended, first.began + window) - i.began for i in sent[place:] if i.began < first.began + window
            )
            best = max(best, total / window)
        return best

    def _fate(self, end: int, began: float, ended: float) -> str:
        if not self.on_air:
            return "outage"
        if self._random.random() < self.profile.loss:
            return "lost"
        return "collided" if self.profile.turnaround and self._collides(1 - end, began, ended) else ""

    def _collides(self, other: int, began: float, ended: float) -> bool:
        """Whether the other end was, or is, on the air meanwhile."""
        under_way = any(item[2] == other and item[4] < ended for item in self._waiting)
        return under_way or any(
            item.end == other and item.began < ended and item.ended > began for item in self.log[-64:]
        )


class VirtualPort:
    """An end's port on an air in virtual time; what arrives is given to it (`take`) by `RadioHop.deliver`. On a line of
    MAVLink frames go in TUNNEL messages, and what others send is passed over; raises LinkDependencyError where
    pymavlink is missing."""

    is_open, trouble = True, ""

    def __init__(self, air: Channel, end: int, clock: Clock, on_frame: OnFrame) -> None:
        self._air, self._end, self._clock, self._on_frame = air, end, clock, on_frame
        shared = air.profile.framing == MAVLINK
        self._tunnel = Tunnel(MavlinkOptions(device="virtual", system=end + 1)) if shared else None

    @property
    def counters(self) -> dict[str, int]:
        return self._air.counters(self._end)

    def send(self, frame: bytes) -> bool:
        self._air.send(self._end, frame if self._tunnel is None else self._tunnel.wrap(frame), self._clock.now())
        return True

    def take(self, frame: bytes) -> None:
        """What arrived from the other end."""
        for found in (frame,) if self._tunnel is None else self._tunnel.feed(frame):
            self._on_frame(found)

    def close(self) -> None:
        return


class RadioHop:
    """An air in the time of a `ManualClock`, with a sender on end 0 and a receiver on end 1.

    `port(end)`: opens an end's port. Once the ends are made with them, `attach` takes their transports. The owner of
    the clock sets it to the earliest of `next_arrival` and `next_tick`, then calls `deliver` or `tick`. `others`:
    (time, end, message) of what somebody else sends on the line, in the order of time.
    """

    def __init__(self, profile: RadioProfile, clock: Clock, others: Iterable[tuple[float, int, bytes]] = ()) -> None:
        self.air, self._clock = Channel(profile), clock
        self._others = deque(others)
        self._ports: dict[int, VirtualPort] = {}
        self._sending: RadioSending | None = None
        self._receiving: RadioReceiving | None = None
        self._next = 0.0

    def attach(self, sending: RadioSending, receiving: RadioReceiving) -> None:
        """The transports of both ends."""
        self._sending, self._receiving = sending, receiving

    @property
    def next_arrival(self) -> float | None:
        """When a frame arrives next, at either end; None when nothing is on the air."""
        return self.air.next_arrival

    @property
    def next_tick(self) -> float:
        """When the ends have their duties next."""
        own = self._next if self._receiving is None else min(self._next, self._receiving.due)
        return min(own, self._others[0][0]) if self._others else own

    def tick(self) -> None:
        """Lets both ends do what is due by now."""
        now = self._clock.now()
        while self._others and self._others[0][0] <= now:
            at, end, message = self._others.popleft()
            self.air.send(end, message, at, other=True)
        if self._receiving is not None and self._receiving.due <= now:
            self._receiving.advance()
        if self._sending is not None and self._next <= now:
            self._sending.tick(now)
            self._next = now + TICK_SECONDS

    def port(self, end: int) -> Callable[[OnFrame], VirtualPort]:
        """Makes the port of end 0 or 1."""

        def make(on_frame: OnFrame) -> VirtualPort:
            self._ports[end] = VirtualPort(self.air, end, self._clock, on_frame)
            return self._ports[end]

        return make

    def deliver(self) -> None:
        """Hands over what has arrived by now."""
        for end, frame in self.air.arrivals(self._clock.now()):
            if end in self._ports:
                self._ports[end].take(frame)


class _End:
    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        self.slave = slave
        tty.setraw(slave)
        os.set_blocking(self.master, False)
        self.device = os.ttyname(slave)


class RadioEmulator:
    """The air for real, running in a thread between `start` and `stop`, or as a context manager. `devices`: of the two
    ends; `other_devices`: of whoever else speaks at each, on a line that carries MAVLink. What arrives at an end comes
    out of all its terminals."""

    def __init__(self, profile: RadioProfile) -> None:
        self.profile, self.air = profile, Channel(profile)
        self._ends = [_End() for _ in range(4 if profile.framing == MAVLINK else 2)]  # 0 and 1, then others at 0 and 1
        self._framings = [_framing_of(profile.framing) for _ in self._ends]
        self._back = _framing_of(profile.framing)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._started = time.monotonic()

    @property
    def devices(self) -> tuple[str, str]:
        """The terminals of the two ends."""
        return self._ends[0].device, self._ends[1].device

    @property
    def other_devices(self) -> tuple[str, ...]:
        """The terminals of others at the two ends; none but on a line that carries MAVLink."""
        return tuple(end.device for end in self._ends[2:])

    @property
    def log(self) -> list[Heard]:
        """Every frame that was on the air."""
        return self.air.log

    @property
    def on_air(self) -> bool:
        """Whether anything passes; may be set."""
        return self.air.on_air

    @on_air.setter
    def on_air(self, passes: bool) -> None:
        self.air.on_air = passes

    def counters(self, end: int) -> dict[str, int]:
        """What end 0 or 1 sent."""
        return self.air.counters(end)

    @property
    def elapsed(self) -> float:
        """Seconds since `start`."""
        return time.monotonic() - self._started

    def most_airtime(self, end: int, window: float) -> float:
        """The largest share of any `window` seconds in which an end was on the air."""
        return self.air.most_airtime(end, window)

    def start(self) -> RadioEmulator:
        """Starts to carry."""
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="semhier-radio-emulator", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Ends; a second call does nothing."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=3.0)
            self._thread = None
            for end in self._ends:
                for descriptor in (end.master, end.slave):
                    with contextlib.suppress(OSError):
                        os.close(descriptor)

    def __enter__(self) -> RadioEmulator:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _run(self) -> None:
        masters = {end.master: place for place, end in enumerate(self._ends)}
        while not self._stop.is_set():
            arrival = self.air.next_arrival
            wait = 0.05 if arrival is None else arrival - self.elapsed
            for descriptor in select.select(list(masters), [], [], min(max(wait, 0.0), 0.05))[0]:
                with contextlib.suppress(BlockingIOError, OSError):
                    data = os.read(descriptor, 65_536)
                    place = masters[descriptor]
                    for frame in self._framings[place].feed(data):
                        self.air.send(place % 2, frame, self.elapsed, place > 1)
            for side, frame in self.air.arrivals(self.elapsed):
                for end in self._ends[side::2]:
                    with contextlib.suppress(OSError):
                        os.write(end.master, self._back.wrap(frame))
