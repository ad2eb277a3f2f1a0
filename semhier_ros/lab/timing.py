"""How long a piece of work takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def timed(times: list[float], work: Callable[[], Any]) -> Any:
    """The result of `work`, the processor time of all its threads in ms appended to `times`: other programs on the
    machine hardly change it."""
    start = time.process_time()
    result = work()
    times.append((time.process_time() - start) * 1e3)
    return result
