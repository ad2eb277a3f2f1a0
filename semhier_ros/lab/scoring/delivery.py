"""What came through: shares, delays and bytes of a run, from the moments at which things happened."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Delays:
    """Delays of `count` things in ms: median, 95th and 99th percentile, greatest. None when there were none."""

    count: int
    p50: float | None
    p95: float | None
    p99: float | None
    greatest: float | None


@dataclass(frozen=True, slots=True)
class Delivered:
    """How many of `sent` frames had a reading: `arrived` of them in time at all, `delays` from stamp to arrival."""

    sent: int
    arrived: int
    delays: Delays

    @property
    def share(self) -> float:
        """arrived / sent in [0, 1]; 0 when nothing was sent."""
        return self.arrived / self.sent if self.sent else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For summary.json: sent, arrived, share (4 digits), and the delays in ms."""
        delays = {name: None if value is None else round(value, 1) for name, value in asdict(self.delays).items()}
        delays.pop("count")
        return {"sent": self.sent, "arrived": self.arrived, "share": round(self.share, 4), "ms": delays}


def percentile(values: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile: the smallest value that at least `share` (0..1) of all values do not exceed.

    None for no values. Raises ValueError when share is outside 0..1.
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share: {share}, 0 to 1 expected")
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]


def delays_of(milliseconds: Sequence[float]) -> Delays:
    """Percentiles of delays given in ms."""
    return Delays(
        len(milliseconds),
        percentile(milliseconds, 0.5),
        percentile(milliseconds, 0.95),
        percentile(milliseconds, 0.99),
        max(milliseconds, default=None),
    )


def delivered(sent: Sequence[int], arrivals: Mapping[int, int]) -> Delivered:
    """Shares and delays of frames known by their stamp.

    `sent`: stamps (ns) of the frames that were sent, each once. `arrivals`: stamp -> first arrival (ns, same clock);
    stamps that were not sent are ignored.
    """
    waits = [(arrivals[stamp] - stamp) / 1e6 for stamp in sent if stamp in arrivals]
    return Delivered(len(sent), len(waits), delays_of(waits))


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """Wire bytes of one direction against a budget of `rate` bytes per second.

    `total` bytes in `seconds`; `mean` and `busiest_second` in bytes per second; `excess`: the most bytes by which any
    window of T seconds went over rate * T; `largest`: the largest datagram that the sender made or may make; `apart`:
    bytes of the transport's own that no budget counts and that may fall into that window.
    """

    rate: float
    total: int
    seconds: float
    mean: float
    busiest_second: int
    excess: float
    largest: int
    apart: int = 0

    @property
    def kept(self) -> bool:
        """Whether every window of T seconds had at most rate * T plus one datagram plus what is stated apart."""
        return self.excess <= self.largest + self.apart + 1e-6


def budget_use(departures: Sequence[tuple[float, int]], rate: float, datagram: int = 0, apart: int = 0) -> BudgetUse:
    """What `departures` (time in s, wire bytes; any order) did with a budget of `rate` bytes per second.

    `datagram`: wire bytes of the largest datagram that the sender may make, whether or not it did. `apart`: see
    BudgetUse.
    `excess` is the greatest of sum(bytes from i to j) - rate * (t_j - t_i) over all windows, found in one pass.
    """
    ordered = sorted(departures)
    excess = running = 0.0
    previous = ordered[0][0] if ordered else 0.0
    for time, size in ordered:
        running = max(0.0, running - rate * (time - previous)) + size
        excess = max(excess, running)
        previous = time
    busiest, first, inside = 0, 0, 0
    for time, size in ordered:
        inside += size
        while ordered[first][0] <= time - 1.0:
            inside -= ordered[first][1]
            first += 1
        busiest = max(busiest, inside)
    total = sum(size for _, size in ordered)
    seconds = ordered[-1][0] - ordered[0][0] if ordered else 0.0
    largest = max((size for _, size in ordered), default=0)
    largest = max(largest, datagram)
    return BudgetUse(rate, total, seconds, total / seconds if seconds > 0 else 0.0, busiest, excess, largest, apart)
