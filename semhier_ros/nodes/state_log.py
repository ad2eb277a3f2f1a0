"""When a node's log hears of its state: the diagnostics say it each second, the log only what is new."""

from __future__ import annotations

import re

from diagnostic_msgs.msg import DiagnosticStatus

HOLDS = 3
"""Reports in a row that must agree before a changed state is news."""

FIGURES = re.compile(r"\d+(\.\d+)?")


class StateLog:
    """Which states are news: a subject's first, and each that differs from the last one told in more than figures.

    A state is news once it has held for `HOLDS` reports, so that a moment's trouble is left to the diagnostics. All
    good states are alike. What follows a sentence's first semicolon is detail.
    """

    def __init__(self) -> None:
        self._told: dict[str, tuple[bytes, str]] = {}
        self._seen: dict[str, tuple[tuple[bytes, str], int]] = {}

    def is_news(self, subject: str, level: bytes, text: str) -> bool:
        """Takes the next state of `subject`, a level of DiagnosticStatus and a sentence; whether to log it now."""
        state = (level, "" if level == DiagnosticStatus.OK else FIGURES.sub("#", text.partition(";")[0]))
        before, times = self._seen.get(subject, (state, 0))
        times = times + 1 if state == before else 1
        self._seen[subject] = (state, times)
        if times < HOLDS or self._told.get(subject) == state:
            return False
        self._told[subject] = state
        return True
