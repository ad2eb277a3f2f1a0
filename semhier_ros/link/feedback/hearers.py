"""Which receiver of a stream a report is of, and what it adds to that receiver's last one.

A report does not say who wrote it, and several receivers may hear one sender. But counts go on: between two reports of
one receiver no more came, and no more was lost, than what left between the two datagrams that they name. So a report is
taken for the next one of the receiver whose last it goes on best, for an old one where a receiver's last goes on from
it, and else for the first one of a receiver that was not heard before.
"""

from __future__ import annotations

from typing import NamedTuple

from semhier_ros.codec.report import CLOCK_MODULUS, Report
from semhier_ros.link.feedback.repair import LossMeter

MOST_HEARERS = 4
"""Receivers of one stream that are told apart, at most: who was silent longest is forgotten."""
SILENT_SECONDS = 1.2
"""A receiver that is silent for longer has gone: reports are half a second apart at most."""
WORSE = 0.05
"""By how much more a receiver loses than the one that is followed before it is followed instead."""
_LATE = 16
"""So many datagrams older than the one that the last report names may be counted since."""
_LARGEST = 1400
"""No datagram of a stream is larger (bytes)."""


class Left(NamedTuple):
    """A datagram that left: its `sequence` number (16 bits), the sender's `clock` that it told (seconds since 1970),
    `at` which monotonic second, and how many datagrams and bytes had left then."""

    sequence: int
    clock: float
    at: float
    number: int
    size: int


class Added(NamedTuple):
    """What a report adds to the one before: datagrams `received` and `lost`, `runs` of losses, `size` in bytes."""

    received: int
    lost: int
    runs: int
    size: int


NOTHING = Added(0, 0, 0, 0)


class Hearer:
    """One receiver of a stream: its `last` report, the datagram that this names, when it was `heard`, what it loses."""

    __slots__ = ("heard", "last", "left", "loss")

    def __init__(self, last: Report, left: Left, heard: float) -> None:
        self.last, self.left, self.heard = last, left, heard
        self.loss = LossMeter()


class Hearers:
    """The receivers of one stream. `now`: monotonic seconds."""

    def __init__(self) -> None:
        self._all: list[Hearer] = []
        self._followed: Hearer | None = None

    def take(self, report: Report, left: Left, now: float) -> tuple[Hearer, Added | None]:
        """Whose report that is, and what it adds; None where a newer one of the same receiver was taken before.

        `left`: the datagram that it names.
        """
        found: tuple[int, Hearer, Added] | None = None
        for hearer in self._all:
            added = _between(hearer.last, hearer.left, report, left)
            if added is not None and not (added == NOTHING and not _later(report, hearer.last)):
                misfit = abs(left.number - hearer.left.number - added.received - added.lost)
                if found is None or misfit < found[0]:
                    found = misfit, hearer, added
        if found is not None:
            _, hearer, added = found
            hearer.last, hearer.left, hearer.heard = report, left, now
            hearer.loss.add(added.received, added.lost, added.runs)
            return hearer, added
        for hearer in self._all:
            if not _later(report, hearer.last) and _between(report, left, hearer.last, hearer.left) is not None:
                return hearer, None
        hearer = Hearer(report, left, now)
        self._all.append(hearer)
        if len(self._all) > MOST_HEARERS:
            self._all.remove(min(self._all, key=lambda one: one.heard))
        return hearer, NOTHING

    def followed(self, now: float) -> Hearer | None:
        """The receiver that rate, repair and clocks go by: of those that speak the one that loses most, as long as
        another does not lose clearly more."""
        speak = [hearer for hearer in self._all if now - hearer.heard <= SILENT_SECONDS]
        worst = max(speak, key=lambda one: one.loss.loss, default=None)
        kept = self._followed
        if worst is not None and (kept not in speak or kept is None or worst.loss.loss > kept.loss.loss + WORSE):
            self._followed = worst
        return self._followed


def _later(report: Report, other: Report) -> bool:
    """Whether a report was written after another, by the clock of their receiver."""
    return 0 < (report.clock_us - other.clock_us) % CLOCK_MODULUS < CLOCK_MODULUS // 2


def _between(before: Report, left_before: Left, after: Report, left: Left) -> Added | None:
    """What a report adds to one of the same receiver that was written before; None where these cannot be that."""
    left_since = left.number - left_before.number
    if left_since < 0:
        return None
    received = (after.received - before.received) & 0xFFFF
    lost = (after.lost - before.lost) & 0xFFFF
    runs = (after.runs - before.runs) & 0xFFFF
    size = (after.payload_bytes - before.payload_bytes) & 0xFFFF_FFFF
    most = left.size - left_before.size + _LATE * _LARGEST
    if received + lost > left_since + _LATE or runs > lost or size > most:
        return None
    return Added(received, lost, runs, size)
