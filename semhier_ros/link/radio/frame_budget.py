"""How many bytes the next frame of a camera may take over a radio: what time has earned and no frame has spent.

A radio's rate is known, so what a frame may take follows from how long it was since others: where frames are few each
may fill what the radio carries, where they are many each gets its part, and what one leaves another may have. Costs are
those on the air, what surrounds the blocks and their planned repeats included.
"""

from __future__ import annotations

from collections import deque
from statistics import median

FIRST_SECONDS = 1.0
"""What a camera's first frame may take, in seconds of its rate; and the distance of frames while it is unknown."""
GAPS = 5
"""Distances between frames of which the middle one is the usual."""


class FrameBudget:
    """One camera's account in bytes on the air. `now`: seconds of one clock; one that goes back earns nothing."""

    __slots__ = ("_at", "_credit", "_frame", "_gaps")

    def __init__(self) -> None:
        self._credit: float | None = None
        self._at = 0.0
        self._frame: float | None = None
        self._gaps: deque[float] = deque(maxlen=GAPS)

    @property
    def gap(self) -> float:
        """Seconds that frames are usually apart, above 0."""
        return median(self._gaps) if self._gaps else FIRST_SECONDS

    def earn(self, rate: float, most: float, now: float) -> float:
        """What the next frame may take at `now`, below 0 where others took more than was there. `rate`: bytes a second
        that the camera has earned since the last call; `most`: beyond which nothing is saved."""
        if self._credit is None:
            earned = rate * FIRST_SECONDS
        else:
            earned = self._credit + rate * max(0.0, now - self._at)
        self._credit, self._at = min(earned, most), now
        return self._credit

    def spend(self, cost: float, now: float) -> None:
        """A frame that costs so much is about to leave. No debt is larger than the frame that made it, for what was
        given in need must not keep later frames small for long."""
        if self._credit is not None:
            self._credit = max(self._credit - cost, min(self._credit, -cost))
        if self._frame is not None and now > self._frame:
            self._gaps.append(now - self._frame)
        self._frame = now
