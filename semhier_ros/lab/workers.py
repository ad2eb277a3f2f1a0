"""Processes that share the tasks of a study, each with an object of its own (a codec, judges) that is made once."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2

_own: Any = None


def _begin(cores: Any, make: Callable[..., Any], arguments: Sequence[Any]) -> None:
    """What a process does first: it keeps to a core of its own, if there is one for it."""
    global _own
    core = cores.get()
    if core is not None:
        os.sched_setaffinity(0, {core})
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the command, which ends its workers
    cv2.setNumThreads(1)
    _own = make(*arguments)


def _call(task: tuple[str, Sequence[Any]]) -> Any:
    return getattr(_own, task[0])(*task[1])


class Workers:
    """Processes, each with the object that `make(*arguments)` gives; a context manager. count: how many (None: one a
    core), but no more than there are `tasks`.

    keep_cores: whether each stays on a core of its own (on a GPU they share, there is no sense in it).
    """

    def __init__(
        self, count: int | None, tasks: int, make: Callable[..., Any], *arguments: Any, keep_cores: bool = True
    ) -> None:
        allowed = sorted(os.sched_getaffinity(0))
        context = multiprocessing.get_context("spawn")
        cores = context.Queue()
        count = min(count or len(allowed), tasks)
        for number in range(count):
            cores.put(allowed[-1 - number % len(allowed)] if keep_cores else None)
        self._pool = context.Pool(count, _begin, (cores, make, arguments))

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.terminate()

    def map(self, method: str, tasks: Sequence[Sequence[Any]]) -> Iterator[Any]:
        """What the objects' `method` gives for each of `tasks` (its arguments), in order."""
        return self._pool.imap(_call, [(method, task) for task in tasks])
