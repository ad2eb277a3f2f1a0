"""Threads by a clock that jumps: one runs at a time, and time passes only while all of them sleep.

The threads are those of the package; they sleep on bells of this clock. Whoever is rung or due runs next, of several
the one whose name stands first in `order`, and then the one that slept first. So a run with threads is the same each
time.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from semhier_ros.link.clock import EPOCH

PATIENCE = 60.0
"""Seconds of the machine's clock that one thread may run on end."""


class _Bell:
    def __init__(self, owner: VirtualTime) -> None:
        self._owner, self.rung = owner, False

    def ring(self) -> None:
        self.rung = True

    def wait_until(self, when: float | None) -> None:
        self._owner.sleep(self, when)
        self.rung = False


class _Sleeper:
    def __init__(self, bell: _Bell, when: float | None, rank: int, turn: int) -> None:
        self.bell, self.when, self.rank, self.turn = bell, when, rank, turn
        self.woken = threading.Event()


class VirtualTime:
    """A `link.clock.Clock`. `order`: beginnings of thread names, first come first."""

    def __init__(self, order: Sequence[str]) -> None:
        self._order = tuple(order)
        self._now = 0.0
        self._sleepers: dict[int, _Sleeper] = {}
        self._changed = threading.Condition()
        self._turn = 0
        self._free = False

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return EPOCH + self._now

    def bell(self) -> _Bell:
        return _Bell(self)

    def sleep(self, bell: _Bell, when: float | None) -> None:
        """Called by a thread: sleeps until `when` or the bell is rung."""
        name = threading.current_thread().name
        rank = next(place for place, prefix in enumerate(self._order) if name.startswith(prefix))
        with self._changed:
            if self._free:
                return
            self._turn += 1
            sleeper = self._sleepers[threading.get_ident()] = _Sleeper(bell, when, rank, self._turn)
            self._changed.notify_all()
        assert sleeper.woken.wait(10 * PATIENCE), f"{name} was never woken"

    def run(self, threads: int, until: float) -> None:
        """Lets `threads` threads live until the clock says `until`; then they are free of it, to be closed."""
        while True:
            with self._changed:
                assert self._changed.wait_for(lambda: len(self._sleepers) == threads, PATIENCE), "a thread never slept"
                ready = [one for one in self._sleepers.values() if one.bell.rung or self._due(one) <= self._now]
                if not ready:
                    self._now = max(self._now, min(map(self._due, self._sleepers.values())))
                    if self._now > until:
                        self._free = True
                        for one in self._sleepers.values():
                            one.woken.set()
                        return
                    continue
                chosen = min(ready, key=lambda one: (one.rank, one.turn))
                self._sleepers = {ident: one for ident, one in self._sleepers.items() if one is not chosen}
                chosen.woken.set()

    @staticmethod
    def _due(sleeper: _Sleeper) -> float:
        return float("inf") if sleeper.when is None else sleeper.when
