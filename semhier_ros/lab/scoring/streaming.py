"""Streaming average precision at every level of the taxonomy, and the share of right names, with confidence intervals.

*Streaming* follows Li, Wang and Ramanan, "Towards Streaming Perception" (2020): at every instant the newest reading
that has been received is scored against the world as it is then, so bytes, losses and waiting all count. The measure is
average precision at an overlap of 0.5, all classes of a level together; for whole images the share of instants with the
right name. Matching is done once for every pair of reading and truth that meet; intervals come from a moving-block
bootstrap over instants (Künsch 1989), because neighbouring instants of a drive are alike.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.reading import Detection
from semhier_ros.footage.labels import World
from semhier_ros.lab.replay.base import Answer
from semhier_ros.lab.scoring.figures import mean_of_known

Detections = tuple[Detection, ...]
RECALL_POINTS = np.linspace(0.0, 1.0, 101)
SAME = 0.5
"""Overlap from which two boxes are of the same object."""
BLOCK_SECONDS = 1.0
"""Length of the bootstrap's blocks of instants."""


def overlap(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """Intersection over union (n, m) of boxes (n, 4) and (m, 4) as x0, y0, x1, y1; 0 where both are empty."""
    shared = _shared(first, second)
    union = _areas(first)[:, None] + _areas(second)[None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _shared(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """Areas (n, m) that boxes (n, 4) and (m, 4) share."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    sides = np.maximum(np.minimum(first[:, None, 2:], second[None, :, 2:]) - low, 0.0)
    return np.asarray(sides[..., 0] * sides[..., 1])


def _areas(boxes: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), axis=1))


def overlaps(first: Sequence[Detection], second: Sequence[Detection]) -> NDArray[np.float64]:
    """`overlap` of the boxes of detections."""
    return overlap(_boxes(first), _boxes(second))


def _boxes(items: Sequence[Detection]) -> NDArray[np.float64]:
    return np.array([item.box for item in items], float).reshape(-1, 4)


def pairs_of(shares: NDArray[np.float64]) -> list[tuple[int, int]]:
    """(row, column) of what is the same by these overlaps (n, m): the largest first, each row and column once."""
    left, found = shares.copy(), []
    while left.size and left.max() >= SAME:
        row, column = (int(place) for place in np.unravel_index(int(left.argmax()), left.shape))
        found.append((row, column))
        left[row], left[:, column] = 0.0, 0.0
    return found


@dataclass(frozen=True, slots=True)
class Matches:
    """Of one level over all instants: each answer's `score`, whether it is `right`, and the number of its `instant`;
    and how many objects were `wanted` at each instant. named: what counts is the share of wanted names that are right,
    in place of average precision."""

    score: NDArray[np.float64]
    right: NDArray[np.bool_]
    instant: NDArray[np.intp]
    wanted: NDArray[np.intp]
    named: bool = False

    def precision(self, weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """The measure for each row of `weights` (draws, instants): how often each instant counts. NaN where nothing was
        wanted."""
        if weights is None:
            weights = np.ones((1, len(self.wanted)))
        order = np.argsort(-self.score, kind="stable")
        share = weights[:, self.instant[order]]
        hits = np.cumsum(share * self.right[order], axis=1)
        seen = np.cumsum(share, axis=1)
        wanted = weights @ self.wanted
        result = np.full(len(weights), np.nan)
        for draw in np.flatnonzero(wanted > 0):
            if not len(order):
                result[draw] = 0.0
                continue
            recall = hits[draw] / wanted[draw]
            if self.named:
                result[draw] = recall[-1]
                continue
            exact = np.divide(hits[draw], seen[draw], out=np.zeros(len(order)), where=seen[draw] > 0)
            exact = np.maximum.accumulate(exact[::-1])[::-1]
            places = np.searchsorted(recall, RECALL_POINTS - 1e-12, side="left")
            result[draw] = np.where(places < len(exact), exact[np.minimum(places, len(exact) - 1)], 0.0).mean()
        return result

    def value(self) -> float | None:
        """The measure over all instants, None when nothing was wanted."""
        found = float(self.precision()[0])
        return None if np.isnan(found) else found


class Matching:
    """Matches readings with truths; remembers every pair that it has matched. named: readings are of whole images: the
    first detection's name counts, not its box."""

    def __init__(self, named: bool = False) -> None:
        self.named = named
        self._known: dict[tuple[int, int, int], tuple[list[float], list[bool]]] = {}
        self._kept: dict[int, Any] = {}
        self._overlaps: dict[tuple[int, int], list[list[float]]] = {}

    def pair(self, found: Detections, truth: Detections, level: int) -> tuple[list[float], list[bool]]:
        """(scores, right or not) of the answers in `found` that are known down to `level`."""
        key = (id(found), id(truth), level)
        known = self._known.get(key)
        if known is None:
            self._kept[id(found)], self._kept[id(truth)] = found, truth
            known = self._known[key] = self._matched(found, truth, level)
        return known

    def matches(self, worlds: Sequence[World], answers: Sequence[Sequence[Answer]], level: int) -> Matches:
        """All cameras together: `answers` of each camera at the instants of its world."""
        pairs = [
            (seen.detections if seen is not None else (), truth)
            for world, given in zip(worlds, answers, strict=True)
            for truth, seen in zip(world.truths, newest_at(given, world.instants, level), strict=True)
        ]
        crowds = [crowd for world in worlds for crowd in world.crowds or [()] * len(world.truths)]
        return self.paired(pairs, level, crowds)

    def paired(
        self, pairs: Sequence[tuple[Detections, Detections]], level: int, crowds: Sequence[Detections] = ()
    ) -> Matches:
        """The same of (reading, truth) at each instant, and of its crowd regions, if any: what is found in one of its
        own class and is no object of the truth counts neither way, as COCO has it."""
        scores: list[float] = []
        right: list[bool] = []
        instant: list[int] = []
        wanted: list[int] = []
        for place, (found, truth) in enumerate(pairs):
            known = sum(len(item.path) > level for item in truth)
            wanted.append(min(known, 1) if self.named else known)
            one, hit = self.pair(found, truth, level)
            if crowds and crowds[place] and not self.named:
                alone = _outside(found, crowds[place], level)
                kept = [at for at, out in enumerate(alone) if out or hit[at]]
                one, hit = [one[at] for at in kept], [hit[at] for at in kept]
            scores += one
            right += hit
            instant += [place] * len(one)
        return Matches(
            np.array(scores),
            np.array(right, bool),
            np.array(instant, np.intp),
            np.array(wanted, np.intp),
            self.named,
        )

    def _matched(self, found: Detections, truth: Detections, level: int) -> tuple[list[float], list[bool]]:
        if self.named:
            same = bool(found and truth) and found[0].path[level : level + 1] == truth[0].path[level : level + 1] != ()
            return [1.0], [same]
        if found is truth:  # the newest frame's own reading, judged by itself
            scores = [item.scores[level] for item in found if len(item.path) > level]
            return scores, [True] * len(scores)
        rows = _ranked(found, level)
        scores = [found[row].scores[level] for row in rows]
        free: dict[int, list[int]] = {}
        for column, item in enumerate(truth):
            if len(item.path) > level:
                free.setdefault(item.path[level], []).append(column)
        if not rows or not free:
            return scores, [False] * len(rows)
        key = (id(found), id(truth))
        hits = self._overlaps.get(key)  # of all boxes, made once for all levels
        if hits is None:
            hits = self._overlaps[key] = overlaps(found, truth).tolist()
        right = []
        for row in rows:
            columns = free.get(found[row].path[level], [])
            best = max(columns, key=hits[row].__getitem__, default=None)
            hit = best is not None and hits[row][best] >= SAME
            if hit:
                columns.remove(best)  # type: ignore[arg-type]
            right.append(hit)
        return scores, right


def _ranked(found: Detections, level: int) -> list[int]:
    """The rows of those that are known down to `level`, the surest first."""
    rows = [row for row, item in enumerate(found) if len(item.path) > level]
    return sorted(rows, key=lambda row: -found[row].scores[level])


def _outside(found: Detections, crowds: Detections, level: int) -> list[bool]:
    """Of each of the answers in `_ranked`: whether no crowd region of its class holds half of it or more."""
    boxes = _boxes(found)
    inside = _shared(boxes, _boxes(crowds)) >= SAME * _areas(boxes)[:, None]
    return [
        not any(
            inside[row, column] and crowd.path[level : level + 1] == found[row].path[level : level + 1]
            for column, crowd in enumerate(crowds)
        )
        for row in _ranked(found, level)
    ]


def newest_at(answers: Sequence[Answer], instants: NDArray[np.float64], level: int) -> list[Any]:
    """For each instant the answer about the newest frame that was ready by then and reaches `level`, None before the
    first. Of several about that frame the one that was ready last counts."""
    ordered = sorted((item for item in answers if item.level >= level), key=lambda item: item.ready)
    times: list[float] = []
    newest: list[Answer] = []
    best: Answer | None = None
    for item in ordered:
        if best is None or item.stamp_ns >= best.stamp_ns:
            best = item
        times.append(item.ready)
        newest.append(best)
    return [newest[place - 1] if (place := bisect_right(times, now)) else None for now in instants.tolist()]


def mean_precision(
    matching: Matching, worlds: Sequence[World], answers: Sequence[Sequence[Answer]], levels: int
) -> float:
    """The measure's mean over all levels that have a truth; 0 when none has."""
    return mean_of_known(matching.matches(worlds, answers, level).value() for level in range(levels)) or 0.0


def draws(worlds: Sequence[World], count: int, seed: int = 0) -> NDArray[np.float64]:
    """Weights (count, instants) of a moving-block bootstrap: blocks of a second of one camera, as many as it has."""
    random = np.random.default_rng(seed)
    parts = []
    for world in worlds:
        size = len(world.instants)
        length = float(world.instants[-1] - world.instants[0]) if size > 1 else 0.0
        block = max(1, min(size, round(size * BLOCK_SECONDS / length))) if length > 0 else 1
        starts = random.integers(0, max(1, size - block + 1), (count, -(-size // block)))
        places = (starts[:, :, None] + np.arange(block)).reshape(count, -1)[:, :size]
        parts.append(np.array([np.bincount(row, minlength=size)[:size] for row in places], float))
    return np.concatenate(parts, axis=1)
