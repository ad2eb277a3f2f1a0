"""How well readings that came over a link agree with reference detections, at the instants a planner would look.

*Streaming* follows Li, Wang and Ramanan, "Towards Streaming Perception" (2020): at every instant the newest reading
that has been received is scored against the world as it is then, so bytes, losses and waiting all count. The measure
is average precision at an overlap of 0.5, pooled over the classes of one level of the taxonomy.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

RECALL_POINTS = np.linspace(0.0, 1.0, 101)


class Detected(Protocol):
    """One object: box (x0, y0, x1, y1) in source pixels, node index and score for each level known."""

    @property
    def box(self) -> tuple[float, float, float, float]: ...
    @property
    def path(self) -> tuple[int, ...]: ...
    @property
    def scores(self) -> tuple[float, ...]: ...


@dataclass(frozen=True, slots=True)
class Received:
    """One reading at the receiver: of the frame stamped `stamp_ns`, there since `arrival_ns` (one clock), reaching
    `level` of the taxonomy (0 is coarsest)."""

    stamp_ns: int
    arrival_ns: int
    level: int
    detections: Sequence[Detected]


def overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union (n, m) of boxes (n, 4) and (m, 4) as x0, y0, x1, y1; 0 where both are empty."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    sides = np.maximum(np.minimum(first[:, None, 2:], second[None, :, 2:]) - low, 0.0)
    shared = sides[..., 0] * sides[..., 1]
    union = _areas(first)[:, None] + _areas(second)[None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _areas(boxes: np.ndarray) -> np.ndarray:
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0)
    return np.asarray(sides[:, 0] * sides[:, 1])


def average_precision(
    answers: Sequence[Sequence[Detected]],
    references: Sequence[Sequence[Detected]],
    level: int,
    *,
    minimum_overlap: float = 0.5,
) -> float | None:
    """Average precision in [0, 1] of `answers` against `references` (one entry for each instant) at `level`.

    An answer counts as right when it overlaps a reference that is not taken yet by `minimum_overlap` and names the same
    node of `level`; answers are ranked by their score at that level, over all instants and classes together, with 101
    recall points as COCO does. Answers that are not known down to `level` do not count; None when no reference is.
    """
    if len(answers) != len(references):
        raise ValueError(f"answers: {len(answers)} instants, {len(references)} expected as in references")
    ranked: list[tuple[float, bool]] = []
    wanted = 0
    for found, truth in zip(answers, references, strict=True):
        truth = [item for item in truth if len(item.path) > level]
        found = sorted((item for item in found if len(item.path) > level), key=lambda item: -item.scores[level])
        wanted += len(truth)
        if not found:
            continue
        hits = overlap(_boxes(found), _boxes(truth)) if truth else np.zeros((len(found), 0))
        free = np.ones(len(truth), bool)
        for row, item in zip(hits, found, strict=True):
            same = np.array([other.path[level] == item.path[level] for other in truth], bool)
            good = np.where(free & same, row, -1.0)
            best = int(good.argmax()) if good.size else -1
            right = best >= 0 and good[best] >= minimum_overlap
            if right:
                free[best] = False
            ranked.append((float(item.scores[level]), bool(right)))
    if not wanted:
        return None
    if not ranked:
        return 0.0
    ranked.sort(key=lambda pair: -pair[0])
    right_so_far = np.cumsum([right for _, right in ranked])
    precision = right_so_far / np.arange(1, len(ranked) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(right_so_far / wanted, RECALL_POINTS - 1e-12, side="left")
    reached = places < len(precision)
    return float(np.where(reached, precision[np.minimum(places, len(precision) - 1)], 0.0).mean())


def share_named(
    answers: Sequence[Sequence[Detected]], references: Sequence[Sequence[Detected]], level: int
) -> float | None:
    """Share in [0, 1] of the instants at which an answer's first detection names the node of `level` that the
    reference's first does: for whole images, whose reading is one. None when no reference is known down to `level`."""
    if len(answers) != len(references):
        raise ValueError(f"answers: {len(answers)} instants, {len(references)} expected as in references")
    pairs = [(found, truth[0]) for found, truth in zip(answers, references, strict=True) if truth]
    pairs = [(found, truth) for found, truth in pairs if len(truth.path) > level]
    if not pairs:
        return None
    right = [bool(found) and found[0].path[level : level + 1] == (truth.path[level],) for found, truth in pairs]
    return sum(right) / len(right)


Measure = Callable[[Sequence[Sequence[Detected]], Sequence[Sequence[Detected]], int], "float | None"]
"""How answers agree with references at a level, one entry of each for every instant."""


def seen_at(received: Iterable[Received], instants: Sequence[int], level: int) -> list[Received | None]:
    """For each instant (ns, ascending): the reading of the newest frame that had arrived by then and reaches `level`.

    Of several readings of that frame the one that arrived last counts. None before the first.
    """
    ordered = sorted((item for item in received if item.level >= level), key=lambda item: item.arrival_ns)
    arrivals, newest = [], []
    best: Received | None = None
    for item in ordered:
        if best is None or item.stamp_ns >= best.stamp_ns:
            best = item
        arrivals.append(item.arrival_ns)
        newest.append(best)
    return [newest[place - 1] if (place := bisect_right(arrivals, now)) else None for now in instants]


def streaming_precision(
    received: Sequence[Received],
    world: Sequence[tuple[int, Sequence[Detected]]],
    levels: int,
    measure: Measure = average_precision,
) -> list[float | None]:
    """Streaming average precision, or another `measure`, at each level 0..levels-1.

    `world`: (instant in ns, reference detections at that instant), ascending.
    """
    instants = [now for now, _ in world]
    references = [truth for _, truth in world]
    result = []
    for level in range(levels):
        seen = seen_at(received, instants, level)
        result.append(measure([item.detections if item else () for item in seen], references, level))
    return result


def _boxes(items: Sequence[Detected]) -> np.ndarray:
    return np.array([item.box for item in items], float).reshape(-1, 4)
