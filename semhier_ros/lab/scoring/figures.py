"""Small figures: percentiles, intervals of a bootstrap, PSNR, calibration, and what a sender did with its budget."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 1000


def interval(values: NDArray) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mean of `values` (n), by percentiles; the same for the same values."""
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    from scipy.stats import bootstrap  # half a second, for the few who ask for an interval

    found = bootstrap((values,), np.mean, n_resamples=DRAWS, batch=50, method="percentile", random_state=0)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def mean_of_known(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are not None; None when there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def middle(values: NDArray[np.float64], share: float = 0.95) -> tuple[float, float] | None:
    """The middle `share` of a bootstrap's draws, those that are not NaN; None when there are none."""
    good = values[~np.isnan(values)]
    if not len(good):
        return None
    low, high = np.quantile(good, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB of two pictures, at most 60."""
    error = float(np.mean((one.astype(np.float64) - other) ** 2))
    return float(10 * np.log10(255**2 / max(error, 255**2 / 1e6)))


def summed(chances: NDArray, owner: NDArray) -> NDArray[np.float64]:
    """Leaf probabilities (…,C) summed into the clusters that `owner` gives the leaves."""
    result = np.zeros((*chances.shape[:-1], int(owner.max()) + 1))
    np.add.at(np.moveaxis(result, -1, 0), owner, np.moveaxis(chances, -1, 0))
    return result


def calibration_error(chance: NDArray, right: NDArray, bins: int = 15) -> float:
    """Expected calibration error: over equal bins of confidence, the mean gap between it and the share of rights."""
    place = np.minimum((chance * bins).astype(int), bins - 1)
    gap = np.abs(np.bincount(place, chance - right, bins))
    return float(gap.sum() / len(chance))


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest of the values that at least `share` (0..1) of them do not exceed; None for no values."""
    return float(np.quantile(values, share, method="inverted_cdf")) if len(values) else None


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """Wire bytes of one direction against a budget in bytes per second.

    `busiest_second`: its bytes; `excess`: the most bytes by which any window of T seconds went over rate * T;
    `largest`: the largest datagram that the sender made or may make; `apart`: bytes of the transport's own that no
    budget counts and that may fall into that window.
    """

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
    return BudgetUse(busiest, excess, max([datagram, *(size for _, size in ordered)]), apart)
