"""What waits: frames and blocks of one camera."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from semhier_ros.link.schedule.status import LevelCounters

GAPS = 8
"""Distances between frames from which the next one is expected,"""
UNEVEN = 2.0
"""as long as the longest is not so many times the shortest."""
LATE_SECONDS = 0.003
"""By how much later than ever a frame may come and still be expected."""


class Frame:
    """One frame of one camera with the blocks of it that still wait, by block index."""

    __slots__ = ("asked", "camera", "lost_from", "number", "sequence", "stamp_ns", "units")

    def __init__(self, camera: CameraQueue, sequence: int, number: int, stamp_ns: int) -> None:
        self.camera = camera
        self.sequence = sequence
        self.number = number
        self.stamp_ns = stamp_ns
        self.units: dict[int, Unit] = {}
        self.lost_from = 16
        self.asked = -1


class Unit:
    """One copy of one block that waits to leave: whole, or as pieces of which the first `next_piece` have left."""

    __slots__ = ("block", "copy", "due", "frame", "index", "next_piece", "pieces", "rank", "size", "submitted")

    def __init__(self, frame: Frame, index: int, copy: int, block: Any, submitted: float, due: float) -> None:
        self.frame = frame
        self.index = index
        self.copy = copy
        self.block = block
        self.submitted = submitted
        self.due = due
        self.size = len(block.data) + len(getattr(block, "motion", b""))
        self.pieces: list[bytes] | None = None
        self.next_piece = 0
        self.rank = 2 * index + (copy > 0)


class CameraQueue:
    """All that waits of one camera, and its counters."""

    __slots__ = (
        "bytes",
        "came",
        "counters",
        "finest",
        "finest_timed",
        "frames",
        "gaps",
        "name",
        "newest",
        "service",
        "started",
        "units",
        "weight",
    )

    def __init__(self, name: str, levels: int) -> None:
        self.name = name
        self.weight = 1.0
        self.frames: dict[int, Frame] = {}
        self.newest: Frame | None = None
        self.came: float | None = None
        self.gaps: deque[float] = deque(maxlen=GAPS)
        self.started: dict[int, Unit] = {}
        self.service = [0.0] * 2 * levels
        self.units = 0
        self.bytes = 0
        self.counters = [LevelCounters() for _ in range(levels)]
        self.finest: int | None = None
        self.finest_timed: tuple[int, float] | None = None

    def frame(self, number: int, stamp_ns: int) -> Frame | None:
        """The frame of that number and stamp, if it is the newest or some of it waits."""
        known = reversed(self.frames.values())
        return next((frame for frame in known if frame.number == number and frame.stamp_ns == stamp_ns), None)

    def new_frame(self, sequence: int, number: int, stamp_ns: int, asked: bool) -> Frame:
        """Starts a frame: the newest one, unless it is `asked` for and older than that."""
        previous = self.newest
        frame = self.frames[sequence] = Frame(self, sequence, number, stamp_ns)
        if previous is None or not asked or stamp_ns > previous.stamp_ns:
            self.newest = frame
            if previous is not None and not previous.units:
                self.frames.pop(previous.sequence, None)
        return frame

    def coarse_came(self, now: float) -> None:
        """Notes that a new frame's block 0 was submitted."""
        if self.came is not None:
            self.gaps.append(now - self.came)
        self.came = now

    @property
    def expected(self) -> tuple[float, float] | None:
        """From when to when the next frame's block 0 is expected, None where its frames come as they like."""
        if self.came is None or not self.gaps or max(self.gaps) > UNEVEN * min(self.gaps):
            return None
        return self.came + min(self.gaps), self.came + max(self.gaps) + LATE_SECONDS

    def forget(self, frame: Frame) -> None:
        """Lets go of a frame of which nothing waits, unless it is the newest."""
        if frame is not self.newest:
            self.frames.pop(frame.sequence, None)

    def finest_at(self, now: float) -> int:
        """The finest block index wanted at `now`."""
        if self.finest_timed is not None:
            index, until = self.finest_timed
            if now < until:
                return index
            self.finest_timed = None
        return 15 if self.finest is None else self.finest

    def pending(self) -> list[Unit]:
        """Every waiting unit, old frames first, coarse first."""
        return [unit for frame in self.frames.values() for unit in sorted_units(frame)]


def sorted_units(frame: Frame) -> Iterator[Unit]:
    """The waiting units of a frame, coarse first."""
    units = frame.units
    return (units[index] for index in sorted(units))
