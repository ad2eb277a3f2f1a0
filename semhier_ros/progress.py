"""Progress bars, by rich: over the items of some work, or over stages whose lengths are known roughly."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from semhier_ros import interrupts

T = TypeVar("T")


def _bar(total: float, text: str) -> Progress:
    """A bar on stderr that is there only on a terminal and goes when it is done."""
    columns = (TextColumn("{task.description:<34}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    bar.add_task(text, total=total)
    return bar


def each(items: Iterable[T], text: str, total: int | None = None) -> Iterator[T]:
    """The items, with a bar over them. total: how many there are, where they do not say it themselves."""
    count = len(items) if total is None and isinstance(items, Sequence) else total
    with _bar(count or 0, text) as bar:
        for item in items:
            yield item
            bar.advance(bar.task_ids[0])


class Stages:
    """A bar over named stages; a context manager. On a terminal it moves, elsewhere each stage is one line.

    `stages`: name -> about how many seconds it takes. Calling it, or `at`, raises a stop signal that got lost
    (`interrupts`).
    """

    def __init__(self, stages: Mapping[str, float]) -> None:
        self._stages = dict(stages)
        self._done = 0.0
        self._name = ""
        self._began = time.monotonic()
        self._bar = _bar(sum(stages.values()), "")

    def __enter__(self) -> Stages:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, name: str, share: float = 0.0) -> None:
        """The stage `name` is done to `share` (0 to 1); when it begins, the one before it is over."""
        interrupts.check()
        if name != self._name:
            self._done += self._stages.get(self._name, 0.0)
            self._name = name
            if self._bar.disable:
                print(f"[{time.monotonic() - self._began:5.1f} s] {name}", file=sys.stderr, flush=True)
        value = self._done + self._stages.get(name, 0.0) * min(max(share, 0.0), 1.0)
        self._bar.update(self._bar.task_ids[0], description=name, completed=value)
