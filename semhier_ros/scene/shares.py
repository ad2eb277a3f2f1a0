"""How much of each of several rival forecasts to follow: what would have been nearest to what was seen since.

Stacking (Wolpert, "Stacked generalization", 1992) with non-negative weights (Breiman, "Stacked regressions", 1996), by
least squares with forgetting. Each part of a forecast (places across and down, widths, heights) has shares of its own,
and so has each age: a velocity that foretells the next reading may be worth nothing two readings later, as when the
camera nods.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from semhier_ros.native import kernels

Floats = NDArray[np.float64]
MOST_SURPRISE = 9.0
"""Squared standard deviations beyond which what was seen counts as less sure."""


class Shares:
    """Shares of `rivals` forecasts, of several ages and parts: never negative, 1 in all, and 1 of the first rival's at
    the start.

    Other shares than those must be earned. worths: for each part how much nearer to what was seen another rival must
    have been than the first before half of it is followed, in squared standard deviations. memory: seconds after which
    what was seen counts for 1/e. both, gain: the sum of what was taken, by age; whoever writes to them calls `renew`.
    """

    def __init__(self, rivals: int, ages: int, worths: tuple[float, ...], memory: float):
        parts = len(worths)
        self._memory, half = memory, np.array(worths)[:, None] / 2
        self._half, self._least = half, half[..., None] * np.eye(rivals)
        self._begun = np.zeros((parts, rivals))
        self._begun[:, 0] = half[:, 0]
        self.both, self.gain = np.zeros((ages, parts, rivals, rivals)), np.zeros((ages, parts, rivals))
        self._values: Floats | None = None

    @property
    def values(self) -> Floats:
        """The shares: ages, parts, rivals."""
        if self._values is None:
            self._values = nearest_mixture(self.both + self._least, self.gain + self._begun)
        return self._values

    def begin_with(self, shares: Floats, parts: int) -> None:
        """From now on others than these shares (rivals) must be earned in the first `parts` parts."""
        self._begun[:parts] = self._half[:parts] * shares
        self._values = None

    def copy(self) -> Shares:
        """The same record, which goes on apart from this one."""
        other = copy(self)
        other._begun, other.both, other.gain = self._begun.copy(), self.both.copy(), self.gain.copy()
        return other

    def take(self, ages: Sequence[int], both: Floats, gain: Floats, elapsed: float) -> None:
        """Takes `products` of what was seen and foretold at these ages (numbers), and the seconds since the last
        call."""
        fade = self.fade(elapsed)
        self.both[ages] = fade * self.both[ages] + both
        self.gain[ages] = fade * self.gain[ages] + gain
        self.renew()

    def fade(self, elapsed: float) -> float:
        """How much of what was taken before still counts so many seconds later."""
        return math.exp(-elapsed / self._memory)

    def renew(self) -> None:
        """Finds other shares when they are asked for."""
        self._values = None


def products(gone: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """Of what was seen of n objects less what each rival foretold (rivals,parts,n) and its variance (parts,n): what the
    rivals say beyond the first, each times each (parts,rivals,rivals) and times what the first missed (parts,rivals).

    An outlier counts less; n objects count as the square root of n, for they err together.
    """
    weight = 1 / variance
    weight /= np.maximum(1.0, (gone**2).min(axis=0) * weight / MOST_SURPRISE)
    weight /= math.sqrt(max(gone.shape[2], 1))
    beyond = gone[:1] - gone
    counted = beyond * weight
    return np.einsum("apn,bpn->pab", counted, beyond), np.einsum("apn,pn->pa", counted, gone[0])


def nearest_mixture(both: Floats, gain: Floats) -> Floats:
    """The shares s (…,m), not negative and 1 in all, for which s both s - 2 gain s is least; both …,m,m is positive
    definite.

    Every set of rivals that may have a share is tried: for m of 4 that are 15 small linear systems for each …. All are
    eliminated at once, for to hand each to a library takes longer than to solve it; definite systems need no pivoting.
    """
    most, shape = gain.shape[-1], gain.shape
    sets = _sets(most)
    if kernels is not None:
        flat = both.reshape(-1, most, most), gain.reshape(-1, most)
        return np.asarray(kernels.nearest_mixture(*flat, sets)).reshape(shape)
    inside = sets.T[:, None]
    wanted = gain.reshape(-1, most).T
    system = np.empty((most, most + 2, wanted.shape[1], len(sets)))
    system[:, :most] = np.moveaxis(both.reshape(-1, most, most), 0, 2)[..., None] * (inside[:, None] * inside)
    places = np.arange(most)
    system[places, places] += 1.0 - inside
    system[:, most] = wanted[..., None] * inside
    system[:, most + 1] = inside
    for row in range(most - 1):
        system[row + 1 :, row + 1 :] -= (system[row + 1 :, row] / system[row, row])[:, None] * system[row, row + 1 :]
    for row in reversed(range(most)):
        system[row, most:] /= system[row, row]
        system[:row, most:] -= system[:row, row, None] * system[row, most:]
    best, alike = system[:, most], system[:, most + 1]
    excess = (best.sum(axis=0) - 1.0) / alike.sum(axis=0)
    found = best - excess * alike
    cost = -(found * wanted[..., None]).sum(axis=0) - excess  # which is s both s - 2 gain s where s is best of its set
    cost = np.where(found.min(axis=0) >= -1e-9, cost, np.inf)
    chosen = np.maximum(found[:, np.arange(cost.shape[0]), cost.argmin(axis=1)], 0.0)
    result: Floats = (chosen / chosen.sum(axis=0)).T.reshape(shape)
    return result


@lru_cache(maxsize=8)
def _sets(most: int) -> Floats:
    """All sets of `most` things but the empty one, as rows of 0 and 1, the smaller first."""
    found = np.array([one for one in product((0.0, 1.0), repeat=most) if any(one)])
    return found[np.argsort(found.sum(axis=1), kind="stable")]
