"""Between the camera callback and the encoder: the newest frame only, at no more than a given rate. No ROS in here."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from semhier_ros.codec.packet import Block

Item = TypeVar("Item")


class NewestSlot(Generic[Item]):
    """Holds one item: `put` never waits and replaces what was not taken; `take` waits for an item."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._item: Item | None = None
        self.put_count = 0
        self.replaced = 0

    def put(self, item: Item) -> None:
        """Leaves `item`; one that nobody took is dropped and counted in `replaced`."""
        with self._condition:
            self.put_count += 1
            if self._item is not None:
                self.replaced += 1
            self._item = item
            self._condition.notify()

    def take(self, timeout: float) -> Item | None:
        """The newest item, or None when none came within `timeout` seconds."""
        with self._condition:
            if self._item is None:
                self._condition.wait(timeout)
            item, self._item = self._item, None
            return item

    @property
    def waiting(self) -> bool:
        """Whether an item lies here that nobody took yet."""
        return self._item is not None

    def clear(self) -> None:
        """Forgets what nobody took, without counting it."""
        with self._condition:
            self._item = None


class RateLimit:
    """Lets at most `rate` events a second pass (0: all); an event that comes late does not delay the ones after it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due = -float("inf")

    def wait_time(self) -> float:
        """Seconds until the next event may pass, 0 when it may now."""
        return max(0.0, self._due - self._clock())

    def passed(self, rate: float) -> None:
        """Notes an event; the next may pass 1/rate later, a little sooner if this one was late by less than that."""
        now = self._clock()
        period = 0.0 if rate <= 0 else 1.0 / rate
        self._due = max(now, self._due + period) if now - self._due < period else now + period


class FrameCache:
    """The blocks of the last frames, for requests of one frame."""

    def __init__(self, frames: int) -> None:
        self._frames = frames
        self._lock = threading.Lock()
        self._blocks: OrderedDict[int, tuple[int, list[Block]]] = OrderedDict()

    def put(self, frame: int, stamp_ns: int, blocks: list[Block]) -> None:
        """Keeps a frame; the oldest goes when there are too many."""
        with self._lock:
            self._blocks.pop(frame, None)
            self._blocks[frame] = (stamp_ns, blocks)
            while len(self._blocks) > self._frames:
                self._blocks.popitem(last=False)

    def get(self, frame: int) -> tuple[int, list[Block]] | None:
        """(stamp in ns, blocks) of a frame that is still kept."""
        with self._lock:
            return self._blocks.get(frame)
