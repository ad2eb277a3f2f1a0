"""Small figures: intervals of a bootstrap, PSNR, calibration."""

from __future__ import annotations

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
