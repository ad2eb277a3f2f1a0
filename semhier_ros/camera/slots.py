"""What lies between the camera and the encoder: the rate of frames, and the frames that somebody may still ask for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from semhier_ros.codec.packet import Block


class RateLimit:
    """Lets at most `rate` events a second pass (0: all); an event that comes late does not delay the ones after it.

    `now`: seconds of any clock that never decreases.
    """

    def __init__(self) -> None:
        self.due = -float("inf")

    def waits(self, now: float) -> bool:
        """Whether the next event must wait still."""
        return now < self.due

    def passed(self, rate: float, now: float) -> None:
        """Notes an event; the next may pass 1/rate later, a little sooner if this one was late by less than that."""
        period = 0.0 if rate <= 0 else 1.0 / rate
        self.due = max(now, self.due + period) if now - self.due < period else now + period


@dataclass(slots=True)
class KeptFrame:
    """A frame as far as its blocks are made. `steps` makes the others, None where none are left."""

    number: int
    stamp_ns: int
    blocks: list[Block]
    steps: Iterator[Block] | None


class FrameCache:
    """The last frames, for requests of one frame. `frames`: how many (0: none)."""

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self._kept: OrderedDict[int, KeptFrame] = OrderedDict()

    def put(self, frame: KeptFrame) -> None:
        """Keeps a frame; the oldest goes when there are too many."""
        self._kept.pop(frame.number, None)
        self._kept[frame.number] = frame
        while len(self._kept) > self.frames:
            self._kept.popitem(last=False)

    def get(self, number: int) -> KeptFrame | None:
        """A frame that is still kept."""
        return self._kept.get(number)
