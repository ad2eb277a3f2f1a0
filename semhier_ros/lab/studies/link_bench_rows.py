"""The rows of the link bench: links, how long, how many cameras."""

from __future__ import annotations

from dataclasses import dataclass, replace

from semhier_ros.command import CommandError
from semhier_ros.link.emulate.profile import parse_link

CODECS = ("semhier", "jpeg", "h264")
BUDGET_SHARE = 0.97


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `link` as `parse_link` reads it; `budget_kbit`: the operator's bound (0: the link's first
    rate); `weights`: one for each camera.
    """

    name: str
    link: str
    seconds: float = 12.0
    frames_per_second: float = 10.0
    weights: tuple[float, ...] = (1.0,)
    encoded_before: bool = False
    changes: tuple[float, ...] = ()
    outage_end: float | None = None


ROWS = (
    Row("64kbit,50ms,5%", "64kbit,50ms,5%"),
    Row("64kbit,50ms,20%", "64kbit,50ms,20%"),
    Row("64kbit,50ms,20%,burst4", "64kbit,50ms,20%,burst4", seconds=20.0),
    Row("16kbit,150ms", "16kbit,150ms"),
    Row(
        "512-32-512kbit,50ms",
        "512kbit,50ms,step32kbit@10s,step512kbit@20s",
        seconds=30.0,
        changes=(10.0, 20.0),
    ),
    Row("64kbit,50ms,outage20s", "64kbit,50ms,outage20s@4s", seconds=29.0, outage_end=24.0),
    Row(
        "128kbit,50ms,4cameras",
        "128kbit,50ms",
        frames_per_second=80.0,
        weights=(1.0, 1.0, 2.0, 2.0),
        encoded_before=True,
    ),
)


def row_of(text: str, seconds: float | None) -> Row:
    """The row of that name, or one for a link of that description. Raises CommandError."""
    row = next((row for row in ROWS if row.name == text), None)
    if row is None:
        try:
            if not parse_link(text).rate_bps:
                raise ValueError("a link with a rate is wanted, as in 64kbit,50ms,5%")
        except ValueError as error:
            raise CommandError(f"--links: {error}") from error
        row = Row(text, text)
    return row if seconds is None else replace(row, seconds=seconds)
