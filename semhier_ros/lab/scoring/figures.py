"""Small figures: percentiles, intervals of a bootstrap, PSNR, processor time, and what a sender did with its budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

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


def quantiles(values: Sequence[float] | NDArray, digits: int = 1, **shares: float) -> dict[str, float | None]:
    """Of each name the quantile of its share (0..1), rounded; None for no values."""
    known = len(values) > 0
    return {name: round(float(np.quantile(values, share)), digits) if known else None for name, share in shares.items()}


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest of the values that at least `share` (0..1) of them do not exceed; None for no values."""
    return float(np.quantile(values, share, method="inverted_cdf")) if len(values) else None


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """Wire bytes of one direction against a budget in bytes per second.

    `busiest_second`: its bytes; `excess`: the most bytes by which any window of T seconds went over rate * T;
    `largest`: the largest datagram that the sender made or may make; `apart`: bytes of the transport's own that no
    budget counts and that may fall into that window; `late`: what the rate allows while a datagram waits for a busy
    machine, after its sender took it for sent.
    """

    busiest_second: int
    excess: float
    largest: int
    apart: int = 0
    late: float = 0.0

    @property
    def allowed(self) -> float:
        """Bytes by which a window may go over rate * T: one datagram, what is stated apart, and what may be late."""
        return self.largest + self.apart + self.late

    @property
    def kept(self) -> bool:
        """Whether no window went over by more than is `allowed`."""
        return self.excess <= self.allowed + 1e-6


def budget_use(
    departures: Sequence[tuple[float, int]], rate: float, datagram: int = 0, apart: int = 0, late: float = 0.0
) -> BudgetUse:
    """What `departures` (time in s, wire bytes; any order) did with a budget of `rate` bytes per second.

    `datagram`: wire bytes of the largest datagram that the sender may make, whether or not it did. `apart`: see
    BudgetUse. `late`: seconds by which a departure may be later than the sender meant it; what follows it in time then
    seems to come too soon.
    `excess` is the greatest of sum(bytes from i to j) - rate * (t_j - t_i) over all windows.
    """
    times, sizes = np.array(sorted(departures), float).reshape(-1, 2).T
    sent = np.concatenate([[0.0], np.cumsum(sizes)])  # before each, and after the last
    seconds = sent[1:] - sent[np.searchsorted(times, times - 1.0, side="right")]
    excess = sent[1:] - rate * times - np.minimum.accumulate(sent[:-1] - rate * times)
    largest = int(sizes.max(initial=datagram))
    return BudgetUse(int(seconds.max(initial=0)), float(excess.max(initial=0.0)), largest, apart, rate * late)


def timed(times: list[float], work: Callable[[], Any]) -> Any:
    """The result of `work`, the processor time of all its threads in ms appended to `times`: other programs on the
    machine hardly change it."""
    start = time.process_time()
    result = work()
    times.append((time.process_time() - start) * 1e3)
    return result
