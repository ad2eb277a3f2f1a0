"""One bar over stages whose lengths are known roughly."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from types import TracebackType

from tqdm import tqdm

from semhier_ros.lab import interrupts


class Progress:
    """A bar over named stages; a context manager. On a terminal it moves, elsewhere each stage is one line.

    `stages`: name -> about how many seconds it takes. `stage` and `at` raise a stop signal that got lost
    (`interrupts`).
    """

    def __init__(self, stages: Mapping[str, float]) -> None:
        self._stages = dict(stages)
        self._total = sum(stages.values())
        self._done = 0.0
        self._name = ""
        self._began = time.monotonic()
        self._bar = tqdm(
            total=100,
            disable=not sys.stderr.isatty(),
            bar_format="{desc} {bar} {percentage:3.0f} %",
            leave=False,
            ncols=min(shutil.get_terminal_size((80, 24)).columns, 100),
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def stage(self, name: str) -> None:
        """The stage `name` begins; the one before it is over."""
        self._done += self._stages.get(self._name, 0.0)
        self._name = name
        self._bar.set_description_str(f"{name:<34}")
        if self._bar.disable:
            print(f"[{time.monotonic() - self._began:5.1f} s] {name}", file=sys.stderr, flush=True)
        self.at(0.0)

    def at(self, share: float) -> None:
        """The present stage is done to `share` (0 to 1)."""
        interrupts.check()
        value = self._done + self._stages.get(self._name, 0.0) * min(max(share, 0.0), 1.0)
        self._bar.n = round(100 * value / self._total, 1) if self._total else 0
        self._bar.refresh()
