"""Ctrl-C, SIGTERM and SIGHUP that are never lost, however unluckily they come.

Python turns a signal into an exception at the next instruction of the main thread. Where that instruction belongs to a
hook whose exceptions Python only prints (at a fork, in the callback of a weak reference during an import) the
interrupt is gone, and what the hook had in hand stays undone: `logging` could be left locked for good.
So a signal is remembered too, and raised again at the next `check()`; and around a fork it waits (`held`).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_asked: list[int] = []
"""The signals that came within `stop_signals`, first one first."""


def _stop(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)


def _remember(number: int, _frame: FrameType | None) -> None:
    _asked.append(number)
    raise _stop(number)


@contextmanager
def stop_signals() -> Iterator[None]:
    """While it lasts SIGINT raises KeyboardInterrupt, SIGTERM and SIGHUP SystemExit (143, 129), and `check` knows.

    For the main thread only. Signals that the process was started to ignore (`nohup`, a shell's `&`) stay ignored.
    """
    _asked.clear()
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    changed = [number for number in STOP_SIGNALS if before[number] != signal.SIG_IGN]
    try:
        for number in changed:
            signal.signal(number, _remember)
        yield
    finally:
        for number in changed:
            signal.signal(number, before[number])
        _asked.clear()


def check() -> None:
    """Raises again what a signal within `stop_signals` raised, if anything did; for loops that wait and for stages."""
    if _asked:
        raise _stop(_asked[0])


@contextmanager
def held() -> Iterator[None]:
    """While it lasts stop signals only wait; what they do happens at its end. In other threads it does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    changed = [number for number in STOP_SIGNALS if callable(before[number])]
    try:
        for number in changed:
            signal.signal(number, lambda number, _frame: waiting.append(number))
        yield
    finally:
        for number in changed:
            signal.signal(number, before[number])
        for got in waiting:
            signal.raise_signal(got)
