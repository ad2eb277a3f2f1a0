"""Time as the ends of a link see it: the machine's, or one that its owner sets: then nothing waits."""

from __future__ import annotations

import threading
import time
from typing import Protocol

LEAST_WAIT = 0.0001
EPOCH = 1_700_000_000.0
"""What a `ManualClock` takes for seconds since 1970 at its beginning."""


class Bell(Protocol):
    """What one thread sleeps on: until a moment, or until somebody rings."""

    def ring(self) -> None:
        """Wakes the thread that waits, or the next that will."""
        ...

    def wait_until(self, when: float | None) -> None:
        """Sleeps until the clock says `when` (None: for ever) or the bell was rung since the last call."""
        ...


class Clock(Protocol):
    """`now`: seconds, never decreasing. `wall`: seconds since 1970. `bell`: a new thing to sleep on by this clock."""

    def now(self) -> float: ...

    def wall(self) -> float: ...

    def bell(self) -> Bell: ...


class MachineBell:
    """A bell of the machine's clock."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def ring(self) -> None:
        self._event.set()

    def wait_until(self, when: float | None) -> None:
        self._event.wait(None if when is None else max(when - time.monotonic(), LEAST_WAIT))
        self._event.clear()


class MachineClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    def bell(self) -> Bell:
        return MachineBell()


MACHINE = MachineClock()


class ManualBell:
    """The bell of a clock that is set by hand: nobody may sleep on it, but whether it was `rung` can be asked."""

    def __init__(self) -> None:
        self.rung = False

    def ring(self) -> None:
        self.rung = True

    def wait_until(self, when: float | None) -> None:
        raise RuntimeError("nobody may wait by a clock that is set by hand: use `step`, not a thread")


class ManualClock:
    """A clock that says what its owner last `set` (seconds since a run began). `wall` runs beside it from `epoch`."""

    def __init__(self, epoch: float = EPOCH) -> None:
        self._epoch, self._now = epoch, 0.0

    def set(self, now: float) -> None:
        """It is `now`; never earlier than before."""
        self._now = max(self._now, now)

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._epoch + self._now

    def bell(self) -> ManualBell:
        return ManualBell()
