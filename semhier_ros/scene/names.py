"""Names that do not flicker: what each level says of an object, averaged over its readings.

What a frame says of a level is half the name that the sender gave, half how likely its reading makes each node. A name
changes only when the average clearly prefers another; readings that came later of the same frame, and finer, replace
what the earlier ones of that frame said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.reading import Detection

MEMORY = 0.9  # weight of the past in an object's averaged names, a frame
WORD = 0.5  # weight of the sender's word in what a frame says of a level; the rest has what the reading makes likely
LEAST_SCORE = 1e-6
CLEARLY = 1.5  # how many times likelier another name must be on average before it is taken

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
Name = tuple[tuple[int, ...], tuple[float, ...], tuple[tuple[tuple[int, float], ...], ...]]
"""Path, scores and others, as in `Detection`."""


@dataclass(frozen=True)
class Tree:
    """parents: per level of the taxonomy, the node of the level above that each node lies under (zeros for level 0).
    names: per level, the nodes' names."""

    parents: Sequence[Sequence[int]]
    names: Sequence[Sequence[str]]

    @cached_property
    def starts(self) -> Whole:
        """Where the nodes of each level begin where those of all stand one after another, then their number."""
        return np.cumsum([0, *map(len, self.names)])

    @cached_property
    def owners(self) -> Whole:
        """`parents` of all levels, one after another."""
        return np.concatenate([np.asarray(level, np.int64) for level in self.parents])


@dataclass
class SteadyNames:
    """What is known of the names of n objects. past n,nodes: averaged shares of all levels' nodes (as `Tree.starts` has
    them) up to the frame before, 0 while nothing is known of a level; present: with the present frame, as far as it is
    `known` (n,levels); shown n,levels: the node shown, -1 for none; moments n: the present frame, by its stamp in ns.
    """

    past: Floats
    present: Floats
    known: NDArray[np.bool_]
    shown: Whole
    moments: Whole

    @classmethod
    def new(cls, tree: Tree, count: int) -> SteadyNames:
        """Of objects of which nothing is known."""
        levels, nodes = len(tree.names), int(tree.starts[-1])
        unknown = np.full((count, levels), -1)
        shares = np.zeros((2, count, nodes))
        return cls(shares[0], shares[1], unknown > 0, unknown, np.full(count, np.iinfo(np.int64).min))

    def take(self, rows: NDArray[np.intp]) -> SteadyNames:
        """The same of some objects, which goes on apart from this."""
        return SteadyNames(*(getattr(self, part.name)[rows] for part in fields(self)))

    def joined(self, other: SteadyNames) -> SteadyNames:
        """These objects, then the others."""
        return SteadyNames(
            *(np.concatenate([getattr(self, part.name), getattr(other, part.name)]) for part in fields(self))
        )

    def steady(self, tree: Tree, moment: int, row: int, newest: bool, item: Detection) -> Name:
        """How a detection of a frame (`moment`) is named under what is known of its object (`row`): its path as deep as
        it was or, while the name shown has none there yet, less deep. newest: whether the frame is the object's newest,
        whose word is kept."""
        parts = [slice(first, end) for first, end in zip(tree.starts, tree.starts[1:], strict=False)]
        if newest and self.moments[row] != moment:
            for level in np.flatnonzero(self.known[row]):
                self.past[row, parts[level]] = self.present[row, parts[level]]
            self.known[row], self.moments[row] = False, moment
        there = score = item.scores[0]
        path: list[int] = []
        scores: list[float] = []
        others: list[tuple[tuple[int, float], ...]] = []
        if len(tree.names[0]) == 1:  # one name for all has no rival
            path, scores, others = [0], [there], [()]
        for level in range(len(path), len(item.path)):
            own, beside = item.path[level], item.others[level] if level < len(item.others) else ()
            shares = self._average(self.past[row, parts[level]], own, item.scores[level], beside)
            if newest:
                self.present[row, parts[level]], self.known[row, level] = shares, True
            allowed = shares > 0
            if level and len(tree.names[level - 1]) > 1:
                allowed &= tree.owners[parts[level]] == path[-1]
            if not allowed.any():
                break
            node, before = int(np.where(allowed, shares, 0.0).argmax()), int(self.shown[row, level])
            if before >= 0 and allowed[before] and shares[node] < CLEARLY * shares[before]:
                node = before
            if newest:
                self.shown[row, level] = node
            found: list[tuple[float, int]] = []
            if level:
                score = min(there * float(shares[node]), score)
                mentioned = [*(other for other, _ in beside), own]
                found = [(there * float(shares[other]), other) for other in mentioned if other != node]
                found.sort(reverse=True)
            path.append(node)
            scores.append(score)
            others.append(tuple([(other, chance) for chance, other in found]))
        return tuple(path), tuple(scores), tuple(others)

    @staticmethod
    def _average(past: Floats, own: int, score: float, beside: Sequence[tuple[int, float]]) -> Floats:
        """An object's shares of a level with what a frame says: its node and, as far as it mentions them, others, with
        probabilities."""
        score, shares = max(score, LEAST_SCORE), past.copy()
        weight = score
        for _, chance in beside:
            weight += chance
        word, weight = WORD, (1 - WORD) / weight
        if shares.any():
            shares *= MEMORY
            word *= 1 - MEMORY
            weight *= 1 - MEMORY
        shares[own] += word + weight * score
        for node, chance in beside:
            shares[node] += weight * chance
        return shares
