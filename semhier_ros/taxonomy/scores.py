"""Hierarchical scores: accuracy per level, hierarchical distance, mistake severity, calibration, consistency.

Distances are heights of the lowest common ancestor (Bertinetto et al. 2020, "Making Better Mistakes"): 0 for the right
leaf, 1 for a leaf of the same parent, up to the number of levels where only the unnamed root holds both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semhier_ros.taxonomy.tree import Taxonomy

BINS = 15


@dataclass(frozen=True)
class Scores:
    """One entry per level (coarse first) in `accuracy`, `calibration_error` and `consistency`; shares in 0..1.

    distance: mean height over all samples of (leaf guess, leaf truth); severity: the same over the wrong ones only, nan
    where none is wrong; consistency: share of samples whose leaf guess lies under the node guessed at that level.
    """

    samples: int
    accuracy: tuple[float, ...]
    calibration_error: tuple[float, ...]
    consistency: tuple[float, ...]
    distance: float
    severity: float

    def table(self, level_names: Sequence[str]) -> str:
        """The scores as a small Markdown table."""
        rows = ["| level | accuracy % | ECE % | consistency % |", "|---|---|---|---|"]
        for name, *values in zip(level_names, self.accuracy, self.calibration_error, self.consistency, strict=True):
            rows.append(f"| {name} | " + " | ".join(f"{100 * value:.1f}" for value in values) + " |")
        rows.append(
            f"\n{self.samples} samples; hierarchical distance {self.distance:.3f}, mistake severity {self.severity:.3f}"
        )
        return "\n".join(rows)


def score(taxonomy: Taxonomy, probabilities: ArrayLike, labels: ArrayLike) -> Scores:
    """Score leaf probabilities (samples, leaves), lifted to every level, against leaf labels (samples,)."""
    values = np.asarray(probabilities)
    return score_levels(taxonomy, [taxonomy.lift(values, level) for level in range(taxonomy.depth)], labels)


def score_levels(taxonomy: Taxonomy, probabilities: Sequence[ArrayLike], labels: ArrayLike) -> Scores:
    """Score one array (samples, nodes) per level, coarse first, as a stream's prefixes give them.

    Raises ValueError for wrong shapes, values that are no probabilities and labels out of range.
    """
    truth = np.asarray(labels)
    if truth.ndim != 1 or not truth.size or truth.min() < 0 or truth.max() >= taxonomy.leaf_count:
        raise ValueError(f"labels: one or more leaf indices in 0..{taxonomy.leaf_count - 1} expected")
    if len(probabilities) != taxonomy.depth:
        raise ValueError(f"{len(probabilities)} arrays of probabilities for {taxonomy.depth} levels")
    levels = [np.asarray(values, dtype=np.float64) for values in probabilities]
    for level, values in enumerate(levels):
        if values.shape != (len(truth), taxonomy.sizes[level]):
            raise ValueError(f"level {level}: shape {values.shape}, expected {(len(truth), taxonomy.sizes[level])}")
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1 + 1e-3:
            raise ValueError(f"level {level}: probabilities must lie in 0..1")
    guesses = [values.argmax(axis=1) for values in levels]
    correct = [taxonomy.owner(level)[truth] == guess for level, guess in enumerate(guesses)]
    heights = taxonomy.height(guesses[-1], truth)
    wrong = heights > 0
    return Scores(
        samples=len(truth),
        accuracy=tuple(float(right.mean()) for right in correct),
        calibration_error=tuple(
            calibration_error(values.max(axis=1), right) for values, right in zip(levels, correct, strict=True)
        ),
        consistency=tuple(consistency(taxonomy, guesses)),
        distance=float(heights.mean()),
        severity=float(heights[wrong].mean()) if wrong.any() else float("nan"),
    )


def consistency(taxonomy: Taxonomy, guesses: Sequence[NDArray[np.int64]]) -> list[float]:
    """Per level the share of samples whose leaf guess lies under the level's guess; `guesses` coarse first."""
    return [
        float((taxonomy.owner(level)[guesses[-1]] == np.asarray(guess)).mean()) for level, guess in enumerate(guesses)
    ]


def calibration_error(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error: |accuracy - confidence| over equal-width bins, weighted by their samples; 0..1."""
    sure, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if sure.shape != right.shape or sure.ndim != 1 or not sure.size:
        raise ValueError(f"confidence {sure.shape} and correct {right.shape}: two equal, non-empty vectors expected")
    bin_of = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    gap = np.bincount(bin_of, weights=right - sure, minlength=bins)
    return float(np.abs(gap).sum() / len(sure))


def softmax(logits: ArrayLike) -> NDArray[np.float64]:
    """Probabilities (..., leaves) of logits."""
    values = np.asarray(logits, dtype=np.float64)
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    result: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return result
