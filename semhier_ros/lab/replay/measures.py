"""What a run gave a planner: delivery, age, delays, bytes, streaming precision per level, and what the budget went to.

All times are run time; a frame's stamp is the moment at which the camera gave it. Docs: docs/evaluation.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from semhier_ros.lab.replay.base import Answer, Run
from semhier_ros.lab.scoring.figures import BudgetUse, middle, percentile
from semhier_ros.lab.scoring.streaming import SAME, Matches, Matching, World, draws, newest_at, overlaps
from semhier_ros.taxonomy import Taxonomy

DRAWS = 200
"""Draws of the bootstrap behind every confidence interval."""


class Scores:
    """Streaming precision of several runs over the same worlds, each level, with paired intervals of the margins.

    named: readings are of whole images, and what counts is the share of right names.
    """

    def __init__(self, worlds: Sequence[World], levels: int, seed: int = 0, named: bool = False) -> None:
        self.worlds, self.levels = worlds, levels
        self._matching = Matching(named)
        self._weights = draws(worlds, DRAWS, seed)
        self._matches: dict[str, list[Matches]] = {}
        self._drawn: dict[str, list[Any]] = {}

    def add(self, name: str, answers: Sequence[Answer], drawn: bool = True) -> None:
        """Scores answers under `name`; without intervals where they are not `drawn`."""
        apart = split_cameras(answers, len(self.worlds))
        matches = [self._matching.matches(self.worlds, apart, level) for level in range(self.levels)]
        self._matches[name] = matches
        if drawn:
            self._drawn[name] = [one.precision(self._weights) for one in matches]

    def precision(self, name: str) -> dict[str, float | None]:
        """The measure per level, four digits."""
        return {f"L{level}": _round(one.value()) for level, one in enumerate(self._matches[name])}

    def intervals(self, name: str) -> dict[str, list[float] | None]:
        """The middle 95 % of its bootstrap per level."""
        return {f"L{level}": _pair(middle(values)) for level, values in enumerate(self._drawn[name])}

    def margin(self, name: str, other: str) -> dict[str, dict[str, Any]]:
        """AP50 of `name` less that of `other`, per level, with the interval of the paired difference."""
        result = {}
        for level in range(self.levels):
            mine, theirs = self._matches[name][level].value(), self._matches[other][level].value()
            span = middle(self._drawn[name][level] - self._drawn[other][level])
            margin = None if mine is None or theirs is None else _round(mine - theirs)
            result[f"L{level}"] = {"margin": margin, "ci95": _pair(span)}
        return result


def split_cameras(answers: Sequence[Answer], count: int) -> list[list[Answer]]:
    """The answers of each camera."""
    apart: list[list[Answer]] = [[] for _ in range(count)]
    for item in answers:
        apart[item.camera].append(item)
    return apart


def figures_of(
    run: Run, worlds: Sequence[World], cameras: Sequence[Any], taxonomy: Taxonomy, use: BudgetUse
) -> dict[str, Any]:
    """Everything about one run but its precision, ready for summary.json. use: what it did with its budget."""
    levels = len(taxonomy.levels)
    apart = split_cameras(run.answers, len(cameras))
    offered = sum(run.offered)
    length = max((camera.times_ns[-1] / 1e9 for camera in cameras if len(camera)), default=0.0)
    seconds = max([length, 1e-3, *(item.time for item in run.sent[-1:])])
    per_level = {}
    for level in range(levels):
        waits = waits_of(run.answers, level)
        per_level[f"L{level}"] = {
            "delivered": _round(len(waits) / offered) if offered else 0.0,
            "frames": len(waits),
            "ms": _delays(waits),
            "age_ms": _delays(_ages(apart, worlds, level)),
        }
    finest = f"L{levels - 1}"
    wire = sum(item.wire_bytes for item in run.sent)
    return {
        "setting": run.setting,
        "seconds": round(run.seconds, 3),
        "delivered": per_level["L0"]["delivered"],
        "coarse_ms": per_level["L0"]["ms"],
        "fine_ms": per_level[finest]["ms"],
        "age_ms": per_level["L0"]["age_ms"],
        "wire_bytes_per_s": round(wire / seconds, 1),
        "wire_bytes_per_frame": round(wire / offered, 1) if offered else 0.0,
        "levels": per_level,
        "budget": budget_of(run),
        "budget_use": {
            "kept": use.kept,
            "busiest_second": use.busiest_second,
            "excess": round(use.excess, 1),
            "allowed": round(use.allowed, 1),
        },
        "hierarchical": hierarchical(apart, worlds, taxonomy),
        "link": run.link,
        "counters": dict(sorted(run.counters.items())),
    }


def waits_of(answers: Sequence[Answer], level: int) -> list[float]:
    """Milliseconds from each frame's stamp to its first reading that reaches `level`, of those that have one."""
    first: dict[tuple[int, int, int], float] = {}
    for item in sorted((one for one in answers if one.level >= level), key=lambda one: one.ready):
        first.setdefault((item.camera, item.number, item.stamp_ns), (item.ready - item.stamp_ns / 1e9) * 1e3)
    return list(first.values())


def first_arrivals(blocks: Sequence[tuple[int, int, int, float]]) -> dict[tuple[int, int], dict[int, float]]:
    """(camera, frame) -> block's index -> when it first arrived, of a run's `blocks`."""
    came: dict[tuple[int, int], dict[int, float]] = defaultdict(dict)
    for camera, number, index, arrival in blocks:
        came[camera, number].setdefault(index, arrival)
    return came


def budget_of(run: Run) -> dict[str, dict[str, int]]:
    """Wire bytes and datagrams per purpose, repeats and what was lost on the way apart."""
    result: dict[str, dict[str, int]] = defaultdict(lambda: {"bytes": 0, "datagrams": 0, "lost_bytes": 0})
    for item in run.sent:
        entry = result[item.purpose + (" (repeat)" if item.repeat else "")]
        entry["bytes"] += item.wire_bytes
        entry["datagrams"] += 1
        entry["lost_bytes"] += item.wire_bytes if item.cause else 0
    return dict(result)


def _ages(apart: Sequence[Sequence[Answer]], worlds: Sequence[World], level: int) -> list[float]:
    """Age in ms of the newest reading at every instant from the first on at which there was one."""
    ages = []
    for world, given in zip(worlds, apart, strict=True):
        for now, seen in zip(world.instants.tolist(), newest_at(given, world.instants, level), strict=True):
            if seen is not None:
                ages.append((now - seen.stamp_ns / 1e9) * 1e3)
    return ages


def hierarchical(
    apart: Sequence[Sequence[Answer]], worlds: Sequence[World], taxonomy: Taxonomy
) -> dict[str, float | int | None]:
    """Names of objects that were found (overlap 0.5, whatever their name) at every instant, newest reading of all
    levels: `accuracy` of each level, the mean height of the lowest common node of answer and truth (`distance`, 0:
    the same leaf), and the same over wrong leaves alone (`severity`; Bertinetto et al. 2020)."""
    guesses, truths = [], []
    last = len(taxonomy.levels) - 1
    right = np.zeros(last + 1)
    for world, given in zip(worlds, apart, strict=True):
        for truth, seen in zip(world.truths, newest_at(given, world.instants, last), strict=True):
            found = [item for item in seen.detections if len(item.path) > last] if seen is not None else []
            known = [item for item in truth if len(item.path) > last]
            if not found or not known:
                continue
            hits = overlaps(found, known)
            for column, wanted in enumerate(known):
                row = int(hits[:, column].argmax())
                if hits[row, column] < SAME:
                    continue
                guesses.append(found[row].path[last])
                truths.append(wanted.path[last])
                right += [a == b for a, b in zip(found[row].path, wanted.path, strict=False)]
    if not guesses:
        return {"objects": 0, "distance": None, "severity": None}
    heights = np.asarray(taxonomy.height(np.array(guesses), np.array(truths)), float)
    wrong = np.array(guesses) != np.array(truths)
    return {
        "objects": len(guesses),
        **{f"accuracy_L{level}": _round(float(value)) for level, value in enumerate(right / len(guesses))},
        "distance": _round(float(heights.mean())),
        "severity": _round(float(heights[wrong].mean())) if wrong.any() else None,
    }


def _delays(values: Sequence[float]) -> dict[str, float | None]:
    found = {f"p{share}": percentile(values, share / 100) for share in (50, 95, 99)}
    return {name: None if value is None else round(value, 1) for name, value in found.items()}


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _pair(span: tuple[float, float] | None) -> list[float] | None:
    return None if span is None else [round(span[0], 4), round(span[1], 4)]
