"""A radio link on one machine: two pseudo-terminals, and between them rate, frames, loss, turnaround, collisions.

Whatever opens the two terminals as serial ports talks over the air: bytes pass at the air's rate, whole frames at a
time (as COBS or KISS parts them, like the packet modem that stands there), seeded losses take whole frames, and on a
half-duplex air what both ends send at once is lost for both.
"""

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
from collections import Counter
from dataclasses import dataclass, replace
from typing import NamedTuple

from semhier_ros.link.radio.framing import MAX_FRAME_BYTES, framing


@dataclass(frozen=True, slots=True)
class RadioProfile:
    """An air. `bytes_per_second`: what it carries. `frame_bytes`: the largest frame, larger ones are dropped. `loss`:
    share of frames lost. `turnaround`: seconds a modem takes to send after it received, and that a frame takes to reach
    the other side's computer; above 0 the air is half duplex. `framing`: cobs (its bytes are on the air) or kiss (they
    are not). `duty`: what is told, not enforced, of one end's share. `seed`: of the losses."""

    bytes_per_second: float
    frame_bytes: int = MAX_FRAME_BYTES
    loss: float = 0.0
    turnaround: float = 0.0
    framing: str = "cobs"
    duty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("bytes_per_second", self.bytes_per_second, 1.0, 1e7),
            ("frame_bytes", self.frame_bytes, 8, MAX_FRAME_BYTES),
            ("loss", self.loss, 0.0, 1.0),
            ("turnaround", self.turnaround, 0.0, 10.0),
            ("duty", self.duty, 0.0001, 1.0),
        ):
            if not low <= value <= high:
                raise ValueError(f"{name}: {value:g}, expected {low:g} to {high:g}")
        framing(self.framing)


RADIOS = {
    "serial9600": RadioProfile(960.0, 255, loss=0.02, turnaround=0.020),
    "acoustic": RadioProfile(150.0, 32, loss=0.05, turnaround=0.100, framing="kiss"),
    "lora": RadioProfile(125.0, 220, turnaround=0.050, framing="kiss", duty=0.01),
    "serial57600": RadioProfile(5760.0, 255),
}
"""Radios by name: a 9,600 baud telemetry radio, a 1.2 kbit/s modem of 32-byte frames, a LoRa-class packet modem at 1
kbit/s, a full-duplex line of 57,600 baud."""


def parse_radio(text: str) -> RadioProfile:
    """`serial9600`, or one of RADIOS with changes: `lora,loss5%,seed3`, `acoustic,turnaround50ms,frame64`. Raises
    ValueError naming the part."""
    name, *changes = text.split(",")
    if name not in RADIOS:
        raise ValueError(f"radio: {name!r}, expected one of {', '.join(RADIOS)}")
    profile = RADIOS[name]
    for change in changes:
        found = re.fullmatch(r"(loss|turnaround|frame|seed|rate)(\d+(?:\.\d+)?)(%|ms|bit)?", change)
        units = {"loss": "%", "turnaround": "ms", "frame": None, "seed": None, "rate": "bit"}
        if found is None or found[3] != units[found[1]]:
            raise ValueError(f"radio: {change!r}, expected loss5%, turnaround50ms, frame64, rate1200bit or seed3")
        value = float(found[2])
        profile = {
            "loss": lambda p, v: replace(p, loss=v / 100),
            "turnaround": lambda p, v: replace(p, turnaround=v / 1000),
            "frame": lambda p, v: replace(p, frame_bytes=int(v)),
            "seed": lambda p, v: replace(p, seed=int(v)),
            "rate": lambda p, v: replace(p, bytes_per_second=v / 8),
        }[found[1]](profile, value)
    return profile


class Heard(NamedTuple):
    """A frame that was on the air: `end` 0 or 1 sent it, `began` and `ended` (s since the start), `size` on the air
    (bytes), `cause` why it did not arrive ("" when it did)."""

    end: int
    began: float
    ended: float
    size: int
    cause: str


class _End:
    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        self.slave = slave
        tty.setraw(slave)
        os.set_blocking(self.master, False)
        self.device = os.ttyname(slave)
        self.free = 0.0
        self.heard = -1e9
        self.counts: Counter[str] = Counter()


class RadioEmulator:
    """The air, running in a thread between `start` and `stop`, or as a context manager. `devices`: of the two ends.
    `log`: every frame that was on the air. `counters(end)`: frames, bytes, lost, collided, oversize, arrived."""

    def __init__(self, profile: RadioProfile) -> None:
        self.profile = profile
        self._random = random.Random(profile.seed)
        self._ends = (_End(), _End())
        self._framings = (framing(profile.framing), framing(profile.framing))
        self._back = framing(profile.framing)
        self._waiting: list[tuple[float, int, int, bytes, float]] = []
        self._order = 0
        self.log: list[Heard] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._started = time.monotonic()
        self.on_air = True

    @property
    def devices(self) -> tuple[str, str]:
        """The terminals of the two ends."""
        return self._ends[0].device, self._ends[1].device

    def counters(self, end: int) -> dict[str, int]:
        """What end 0 or 1 sent."""
        return dict(self._ends[end].counts)

    @property
    def elapsed(self) -> float:
        """Seconds since `start`."""
        return self._now()

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
            wait = self._waiting[0][0] - self._now() if self._waiting else 0.05
            for descriptor in select.select(list(masters), [], [], min(max(wait, 0.0), 0.05))[0]:
                with contextlib.suppress(BlockingIOError, OSError):
                    data = os.read(descriptor, 65_536)
                    for frame in self._framings[masters[descriptor]].feed(data):
                        self._send(masters[descriptor], frame)
            while self._waiting and self._waiting[0][0] <= self._now():
                ended, _, place, frame, began = heapq.heappop(self._waiting)
                self._arrive(place, frame, began, ended)

    def _now(self) -> float:
        return time.monotonic() - self._started

    def _send(self, place: int, frame: bytes) -> None:
        """A frame leaves an end's modem once what it sends already is through."""
        end, profile = self._ends[place], self.profile
        if len(frame) > profile.frame_bytes:
            end.counts["oversize"] += 1
            return
        size = len(frame) if profile.framing == "kiss" else len(self._back.wrap(frame))
        began = max(self._now(), end.free, end.heard + profile.turnaround)
        end.free = ended = began + size / profile.bytes_per_second
        self._order += 1
        heapq.heappush(self._waiting, (ended, self._order, place, frame, began))
        end.counts["frames"] += 1
        end.counts["bytes"] += size

    def _arrive(self, place: int, frame: bytes, began: float, ended: float) -> None:
        end, other, profile = self._ends[place], self._ends[1 - place], self.profile
        size = len(frame) if profile.framing == "kiss" else len(self._back.wrap(frame))
        cause = ""
        if not self.on_air:
            cause = "outage"
        elif self._random.random() < profile.loss:
            cause = "lost"
        elif profile.turnaround and self._collides(1 - place, began, ended):
            cause = "collided"
        self.log.append(Heard(place, began, ended, size, cause))
        other.heard = ended
        if cause:
            end.counts[cause] += 1
            return
        end.counts["arrived"] += 1
        with contextlib.suppress(OSError):
            os.write(other.master, self._back.wrap(frame))

    def _collides(self, other: int, began: float, ended: float) -> bool:
        """Whether the other end was, or is, on the air meanwhile."""
        under_way = any(item[2] == other and item[4] < ended for item in self._waiting)
        return under_way or any(
            item.end == other and item.began < ended and item.ended > began for item in self.log[-64:]
        )
