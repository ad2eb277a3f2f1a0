"""The space in which the semantic part works: directions of the trunk's features, weighed as the classifier sees them.

Classes that the photos cover badly get their centre by a ridge regression from the classifier's own rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
DIRECTIONS = 400
PLAIN_SHARE = 10.0  # weight of a feature that no class looks at, against the mean over directions
COVERED = 12  # photos from which a class's own mean counts
TRUST = 6.0  # photos that the regression is worth
CENTRE_SHARE = 0.15  # weight of the spread of centres against that about them
RIDGES = (0.3, 1.0, 3.0, 10.0)


class Space(NamedTuple):
    """mean F; enter K,F and leave K,F: `x = enter @ (f - mean)`, `f = mean + x @ leave`; rows C,K and bias C: leaf
    logits of x; centres C,K: where each class lies. Scaled so that points lie at mean square distance 1 from their
    class."""

    mean: Floats
    enter: Floats
    leave: Floats
    rows: Floats
    bias: Floats
    centres: Floats


def class_means(features: NDArray, leaves: NDArray, weight: NDArray, seed: int) -> NDArray[np.float64]:
    """Mean features of every class (C,F), from photos where there are enough, else regressed from `weight` (C,F)."""
    classes = len(weight)
    count = np.bincount(leaves, minlength=classes).astype(np.float64)
    total = np.zeros(weight.shape)
    np.add.at(total, leaves, features)
    overall = features.mean(0, dtype=np.float64)
    known = np.flatnonzero(count >= min(COVERED, count.max()))
    means = total[known] / count[known, None]
    inputs = np.concatenate([weight - weight.mean(0), np.ones((classes, 1))], axis=1).astype(np.float64)
    order = np.random.default_rng(seed).permutation(len(known))
    held, used = order[: len(order) // 5], order[len(order) // 5 :]

    def regress(rows: NDArray, ridge: float) -> NDArray[np.float64]:
        own = inputs[known[rows]]
        normal = own.T @ own + ridge * np.eye(own.shape[1])
        result: NDArray[np.float64] = np.linalg.solve(normal, own.T @ (means[rows] - overall))
        return result

    errors = [((inputs[known[held]] @ regress(used, r) + overall - means[held]) ** 2).sum() for r in RIDGES]
    guess = inputs @ regress(order, RIDGES[int(np.argmin(errors))]) + overall
    result: NDArray[np.float64] = (total + TRUST * guess) / (count + TRUST)[:, None]
    return result


def fit_space(
    features: NDArray,
    leaves: NDArray,
    weight: NDArray,
    bias: NDArray,
    seed: int = 0,
    directions: int = DIRECTIONS,
    plain_share: float = PLAIN_SHARE,
) -> Space:
    """The space of `features` n,F named `leaves` n for a classifier of rows `weight` C,F and `bias` C."""
    centres = class_means(features, leaves, weight, seed)
    about = features - centres[leaves]
    rows = weight.astype(np.float64) - weight.mean(0, dtype=np.float64)
    metric = rows.T @ rows
    metric = metric / np.trace(metric) * len(metric) + plain_share * np.eye(len(metric))
    values, vectors = np.linalg.eigh(metric)
    root, inverse = ((vectors * values**power) @ vectors.T for power in (0.5, -0.5))
    spread = root @ (np.cov(about.T) + CENTRE_SHARE * np.cov(centres.T)) @ root
    best = np.linalg.eigh(spread)[1][:, ::-1][:, : min(directions, len(spread))]
    enter, leave = best.T @ root, best.T @ inverse
    unit = np.sqrt(((about @ enter.T) ** 2).sum(1).mean())
    enter, leave = enter / unit, leave * unit
    mean = features.mean(0, dtype=np.float64)
    parts = (mean, enter, leave, weight @ leave.T, bias + weight @ mean, (centres - mean) @ enter.T)
    return Space(*(np.ascontiguousarray(part, np.float32) for part in parts))
