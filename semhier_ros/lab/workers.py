"""Processes that share the tasks of a study, each with an object of its own (a codec, judges) that is made once."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import cv2

from semhier_ros.command import CommandError

_own: Any = None


def _begin(cores: Any, make: Callable[..., Any], arguments: Sequence[Any]) -> None:
    """What a process does first: it keeps to a core of its own, if there is one for it."""
    global _own
    core = cores.get()
    if core is not None:
        os.sched_setaffinity(0, {core})
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the command, which ends its workers
    cv2.setNumThreads(1)
    try:
        _own = make(*arguments)
    except Exception as error:  # or the pool would break and say no more than that
        _own = error


def _call(task: tuple[str, Sequence[Any]]) -> Any:
    if isinstance(_own, Exception):
        raise _own
    return getattr(_own, task[0])(*task[1])


class Workers:
    """Processes, each with the object that `make(*arguments)` gives; a context manager. count: how many (0: one
    a core), but no more than there are `tasks`.

    keep_cores: whether each stays on a core of its own where there is one for each core (on a GPU they share, there is
    no sense in it).
    """

    def __init__(
        self, count: int | None, tasks: int, make: Callable[..., Any], *arguments: Any, keep_cores: bool = True
    ) -> None:
        allowed = sorted(os.sched_getaffinity(0))
        context = multiprocessing.get_context("spawn")
        cores = context.Queue()
        count = min(count or len(allowed), tasks)
        for number in range(count):
            cores.put(allowed[number] if keep_cores and count == len(allowed) else None)
        self._pool = ProcessPoolExecutor(count, context, _begin, (cores, make, arguments))

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        running = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in running:
            process.terminate()

    def map(self, method: str, tasks: Sequence[Sequence[Any]]) -> Iterator[Any]:
        """What the objects' `method` gives for each of `tasks` (its arguments), in order.

        Raises CommandError when a process is killed, as a system short of memory does it; what the method raises too,
        and what `make` raised.
        """
        for one in [self.submit(method, *task) for task in tasks]:
            yield result_of(one)

    def submit(self, method: str, *arguments: Any) -> Future[Any]:
        """What the objects' `method` will give of these arguments; `result_of` tells it."""
        return self._pool.submit(_call, (method, arguments))


def result_of(done: Future[Any]) -> Any:
    """The result of a task; raises as `Workers.map` does."""
    try:
        return done.result()
    except BrokenProcessPool as error:
        raise CommandError("a worker process was killed (out of memory?); try fewer with --jobs") from error
