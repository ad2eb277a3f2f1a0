"""What turns a scene reader's raw scores into probabilities: monotone curves from observed objects. Without torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from semhier_ros.scene.layout import SceneCode
from semhier_ros.scene.reader import SceneReader

CURVE_POINTS = 65
LEAST_RAW = 0.002  # raw score below which a node that is not named says nothing


def level_hits(owners: Sequence[NDArray[np.intp]], truth: NDArray[np.int64]) -> list[NDArray[np.bool_]]:
    """Per level n,nodes: whether the node is the one above the object's true leaf (-1: none is)."""
    return [
        (owner[np.maximum(truth, 0)][:, None] == np.arange(int(owner.max()) + 1)) & (truth >= 0)[:, None]
        for owner in map(np.asarray, owners)
    ]


def calibration_curves(
    reader: SceneReader, coded: Iterable[tuple[SceneCode, Sequence[NDArray]]]
) -> dict[str, NDArray[np.float32]]:
    """Per level, the chance that a named object is right (`score_<level>`) and that it is rather a certain other node
    (`other_<level>`), as monotone functions of the raw score.

    coded: whole semantic codes, each with the chance of every node per level (n,nodes; true or false where known).
    """
    raw: dict[str, list[NDArray]] = {}
    right: dict[str, list[NDArray]] = {}
    for code, hits in coded:
        if not len(code):
            continue
        for level in range(reader.stream.levels):
            scores = reader.measure(code, level).levels[level]
            named = code.path[level][:, None] == np.arange(scores.shape[1])
            for kind, pick in ((f"score_{level}", named), (f"other_{level}", ~named & (scores > LEAST_RAW))):
                raw.setdefault(kind, []).append(scores[pick])
                right.setdefault(kind, []).append(np.asarray(hits[level])[pick])
    return {kind: isotonic_curve(np.concatenate(raw[kind]), np.concatenate(right[kind])) for kind in raw}


def isotonic_curve(scores: NDArray, hits: NDArray) -> NDArray[np.float32]:
    """The chance of a hit over an even grid of scores 0..1, rising strictly so that equal ranks stay apart."""
    from scipy.optimize import isotonic_regression

    grid = np.linspace(0, 1, CURVE_POINTS)
    if not len(scores):
        return grid.astype(np.float32)
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, 25)))
    bins = np.clip(np.digitize(scores, edges[1:-1]), 0, max(len(edges) - 2, 0))
    weight = np.bincount(bins)
    used = weight > 0
    x = np.bincount(bins, scores)[used] / weight[used]
    y = np.bincount(bins, hits.astype(float))[used] / weight[used]
    fitted = isotonic_regression(y, weights=weight[used]).x
    curve = np.interp(grid, np.concatenate([[0], x, [1]]), np.concatenate([[0], fitted, [max(fitted[-1], x[-1])]]))
    return (curve + 1e-3 * grid).clip(0, 1).astype(np.float32)
