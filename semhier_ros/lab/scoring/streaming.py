"""Streaming average precision of runs, at every level, with confidence intervals, quick enough for sweeps.

After Li, Wang and Ramanan 2020: at every instant the newest received reading is scored against the world as it is then.
Matching is done once for every pair of reading and truth that meet; confidence intervals come from a moving-block
bootstrap over instants (Künsch 1989), because neighbouring instants of a drive are alike.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.reading import Detection
from semhier_ros.lab.scoring.agreement import RECALL_POINTS, overlap
from semhier_ros.lab.streams.base import Answer

Detections = tuple[Detection, ...]
BLOCK_SECONDS = 1.0
"""Length of the bootstrap's blocks of instants."""


@dataclass(frozen=True, slots=True)
class World:
    """The truth of one camera: at `instants` (s, ascending) `truths`, with boxes in source pixels. `kind` says where
    it comes from, "labels" or "agreement"."""

    instants: NDArray[np.float64]
    truths: Sequence[Detections]
    kind: str


@dataclass(frozen=True, slots=True)
class Matches:
    """Of one level over all instants: each answer's `score`, whether it is `right`, and the number of its `instant`;
    and how many objects were `wanted` at each instant."""

    score: NDArray[np.float64]
    right: NDArray[np.bool_]
    instant: NDArray[np.intp]
    wanted: NDArray[np.intp]

    def precision(self, weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """AP50 for each row of `weights` (draws, instants): how often each instant counts. NaN where nothing was
        wanted."""
        if weights is None:
            weights = np.ones((1, len(self.wanted)))
        order = np.argsort(-self.score, kind="stable")
        right = self.right[order].astype(float)
        share = weights[:, self.instant[order]]
        hits = np.cumsum(share * right, axis=1)
        seen = np.cumsum(share, axis=1)
        wanted = weights @ self.wanted
        result = np.full(len(weights), np.nan)
        for draw in range(len(weights)):
            if wanted[draw] <= 0:
                continue
            if not len(order):
                result[draw] = 0.0
                continue
            recall = hits[draw] / wanted[draw]
            exact = np.divide(hits[draw], seen[draw], out=np.zeros(len(order)), where=seen[draw] > 0)
            exact = np.maximum.accumulate(exact[::-1])[::-1]
            places = np.searchsorted(recall, RECALL_POINTS - 1e-12, side="left")
            result[draw] = np.where(places < len(exact), exact[np.minimum(places, len(exact) - 1)], 0.0).mean()
        return result

    def value(self) -> float | None:
        """AP50 over all instants, None when nothing was wanted."""
        found = float(self.precision()[0])
        return None if np.isnan(found) else found


class Matching:
    """Matches readings with truths; remembers every pair that it has matched."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, int], tuple[list[float], list[bool]]] = {}
        self._kept: dict[int, Any] = {}
        self._overlaps: dict[tuple[int, int], list[list[float]]] = {}

    def pair(self, found: Detections, truth: Detections, level: int) -> tuple[list[float], list[bool]]:
        """(scores, right or not) of the answers in `found` that are known down to `level`."""
        key = (id(found), id(truth), level)
        known = self._known.get(key)
        if known is None:
            self._kept[id(found)], self._kept[id(truth)] = found, truth
            known = self._known[key] = _matched(found, truth, level, self._overlap)
        return known

    def _overlap(self, found: Detections, truth: Detections) -> list[list[float]]:
        """Overlaps of all boxes, made once for all levels."""
        key = (id(found), id(truth))
        known = self._overlaps.get(key)
        if known is None:
            known = self._overlaps[key] = overlap(_boxes(found), _boxes(truth)).tolist()
        return known

    def matches(self, worlds: Sequence[World], answers: Sequence[Sequence[Answer]], level: int) -> Matches:
        """All cameras together: `answers` of each camera at the instants of its world."""
        scores: list[float] = []
        right: list[bool] = []
        instant: list[int] = []
        wanted: list[int] = []
        for world, given in zip(worlds, answers, strict=True):
            for truth, seen in zip(world.truths, newest_at(given, world.instants, level), strict=True):
                place = len(wanted)
                wanted.append(sum(len(item.path) > level for item in truth))
                if seen is None:
                    continue
                one, hit = self.pair(seen.detections, truth, level)
                scores += one
                right += hit
                instant += [place] * len(one)
        return Matches(np.array(scores), np.array(right, bool), np.array(instant, np.intp), np.array(wanted, np.intp))


def _matched(
    found: Detections,
    truth: Detections,
    level: int,
    overlaps: Callable[[Detections, Detections], list[list[float]]],
) -> tuple[list[float], list[bool]]:
    if found is truth:  # the newest frame's own reading, judged by itself
        same = [item.scores[level] for item in found if len(item.path) > level]
        return same, [True] * len(same)
    rows = [row for row, item in enumerate(found) if len(item.path) > level]
    rows.sort(key=lambda row: -found[row].scores[level])
    scores = [found[row].scores[level] for row in rows]
    free: dict[int, list[int]] = {}
    for column, item in enumerate(truth):
        if len(item.path) > level:
            free.setdefault(item.path[level], []).append(column)
    if not rows or not free:
        return scores, [False] * len(rows)
    hits = overlaps(found, truth)
    right = []
    for row in rows:
        columns = free.get(found[row].path[level])
        hit = False
        if columns:
            best = max(columns, key=hits[row].__getitem__)
            hit = hits[row][best] >= 0.5
            if hit:
                columns.remove(best)
        right.append(hit)
    return scores, right


def _boxes(items: Sequence[Detection]) -> NDArray[np.float64]:
    return np.array([item.box for item in items], float).reshape(-1, 4)


def newest_at(answers: Sequence[Answer], instants: NDArray[np.float64], level: int) -> list[Answer | None]:
    """For each instant the answer about the newest frame that was ready by then and reaches `level`.

    Of several about that frame the one that was ready last counts.
    """
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


def draws(worlds: Sequence[World], count: int, seed: int = 0) -> NDArray[np.float64]:
    """Weights (count, instants) of a moving-block bootstrap: blocks of a second of one camera, as many as it has."""
    random = np.random.default_rng(seed)
    parts = []
    for world in worlds:
        size = len(world.instants)
        length = float(world.instants[-1] - world.instants[0]) if size > 1 else 0.0
        block = max(1, min(size, round(size * BLOCK_SECONDS / length))) if length > 0 else 1
        weights = np.zeros((count, size))
        starts = random.integers(0, max(1, size - block + 1), (count, -(-size // block)))
        for draw in range(count):
            places = (starts[draw][:, None] + np.arange(block)).ravel()[:size]
            weights[draw] = np.bincount(places, minlength=size)[:size]
        parts.append(weights)
    return np.concatenate(parts, axis=1)


def interval(values: NDArray[np.float64], share: float = 0.95) -> tuple[float, float] | None:
    """The middle `share` of bootstrap values; None when there are none."""
    good = values[~np.isnan(values)]
    if not len(good):
        return None
    low, high = np.quantile(good, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)
