"""Nested grouping of points: bottom-up merging, then exchange of leaves and nodes on all levels at once.

What is maximised is the sum over levels and nodes of |sum of the node's points|^2 / its leaf count, which is Ward's
criterion on every level together. Limits on the leaf count of a node hold throughout, so no node is degenerate, and
every leaf and node has exactly one parent by construction. There are no random numbers; ties go to the lowest index.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semhier_ros.training.trees.features import FloatArray

IntArray = NDArray[np.int64]
SWEEPS = 40


@dataclass(frozen=True)
class Limits:
    """Fewest and most leaves of a node, as multiples of its level's mean (leaves / nodes)."""

    smallest: float = 0.4
    largest: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.smallest <= 1:
            raise ValueError(f"smallest node {self.smallest} of the mean: allowed are 0..1")
        if self.largest < 2:
            raise ValueError(f"largest node {self.largest} of the mean: at least 2 is needed")

    def counts(self, leaves: int, nodes: int) -> tuple[int, int]:
        """The limits as leaf counts for a level of `nodes` nodes over `leaves` leaves."""
        if nodes == 1:
            return leaves, leaves
        return max(1, int(self.smallest * leaves / nodes)), max(1, int(np.ceil(self.largest * leaves / nodes)))


def merge(points: FloatArray, sizes: IntArray, count: int, largest: int) -> IntArray:
    """Merge n sums of points (n, d), each of `sizes` leaves, into `count` groups of at most `largest` leaves.

    Returns the group of each row; groups are numbered by their first row.
    """
    total = len(points)
    gram = points @ points.T
    size = sizes.astype(np.float64)
    labels = np.arange(total)
    alive = np.ones(total, dtype=bool)
    cost = np.full((total, total), np.inf)

    def costs(row: int) -> FloatArray:
        own = np.diagonal(gram)
        joined = size + size[row]
        values: FloatArray = own / size + own[row] / size[row] - (own + own[row] + 2 * gram[row]) / joined
        values[~alive | (joined > largest)] = np.inf
        values[row] = np.inf
        return values

    for row in range(total):
        cost[row] = costs(row)
    nearest = cost.argmin(axis=1)
    for _ in range(total - count):
        rows = np.arange(total)
        best = cost[rows, nearest]
        first = int(best.argmin())
        second = int(nearest[first])
        if not np.isfinite(best[first]):
            raise ValueError(f"no two groups may be joined within {largest} leaves a node")
        first, second = min(first, second), max(first, second)
        gram[first] += gram[second]
        gram[:, first] += gram[:, second]
        size[first] += size[second]
        alive[second] = False
        labels[labels == second] = first
        cost[second] = np.inf
        cost[:, second] = np.inf
        cost[first] = costs(first)
        cost[:, first] = cost[first]
        stale = (nearest == first) | (nearest == second)
        stale[[first, second]] = True
        nearest[stale] = cost[stale].argmin(axis=1)
        closer = cost[:, first] < cost[rows, nearest]
        nearest[closer] = first
    result: IntArray = np.searchsorted(np.unique(labels), labels)
    return result


class _Forest:
    """The state of the exchange: per inner level k the parents in k of the items of k + 1, sums, counts and squares."""

    def __init__(self, points: FloatArray, parents: list[IntArray], limits: list[tuple[int, int]]) -> None:
        self.points = points
        self.parents = parents
        self.limits = limits
        self.levels = len(parents)
        self.sums: list[FloatArray] = [np.zeros(0)] * self.levels
        self.counts: list[FloatArray] = [np.zeros(0)] * self.levels
        below: FloatArray = points
        leaves: FloatArray = np.ones(len(points))
        for level in range(self.levels - 1, -1, -1):
            nodes = int(parents[level].max()) + 1
            sums = np.zeros((nodes, points.shape[1]))
            np.add.at(sums, parents[level], below)
            counts = np.bincount(parents[level], weights=leaves, minlength=nodes).astype(np.float64)
            self.sums[level], self.counts[level] = sums, counts
            below, leaves = sums, counts
        self.squares = [(sums**2).sum(axis=1) for sums in self.sums]

    def item(self, level: int, index: int) -> tuple[FloatArray, float]:
        """Sum of points and leaf count of a leaf (level == self.levels) or of an inner node."""
        if level == self.levels:
            return self.points[index], 1.0
        return self.sums[level][index], float(self.counts[level][index])

    def chain(self, level: int, index: int) -> list[int]:
        """Ancestor of node `index` of `level` at levels 0..level (itself last)."""
        chain = [index]
        for above in range(level, 0, -1):
            chain.insert(0, int(self.parents[above - 1][chain[0]]))
        return chain

    def gains(self, level: int, index: int, leave: bool = False) -> FloatArray:
        """What moving an item of `level` under each node of `level - 1` would gain; -inf where limits forbid it.

        leave: also take it from nodes that are at their lower limit (used when a smaller node must be filled).
        """
        point, leaves = self.item(level, index)
        own = float(point @ point)
        old = self.chain(level - 1, int(self.parents[level - 1][index]))
        total: FloatArray = np.zeros(0)
        for above in range(level):
            sums, counts, squares = self.sums[above], self.counts[above], self.squares[above]
            dots = sums @ point
            here = old[above]
            rest = counts[here] - leaves
            loss = squares[here] / counts[here]
            if rest > 0:
                loss -= (squares[here] - 2 * dots[here] + own) / rest
            gain = (squares + 2 * dots + own) / (counts + leaves) - squares / counts - loss
            lowest, highest = self.limits[above]
            gain[counts + leaves > highest] = -np.inf
            if rest < 1 or (rest < lowest and not leave):
                gain[:] = -np.inf
            gain[here] = 0.0
            total = gain if above == 0 else gain + total[self.parents[above - 1]]
        total[old[-1]] = 0.0
        return total

    def move(self, level: int, index: int, target: int) -> None:
        """Put an item of `level` under node `target` of `level - 1`."""
        point, leaves = self.item(level, index)
        source = int(self.parents[level - 1][index])
        before, after = self.chain(level - 1, source), self.chain(level - 1, target)
        self.parents[level - 1][index] = target
        for above, (old, new) in enumerate(zip(before, after, strict=True)):
            if old == new:
                continue
            for node, sign in ((old, -1.0), (new, 1.0)):
                self.sums[above][node] += sign * point
                self.counts[above][node] += sign * leaves
                self.squares[above][node] = self.sums[above][node] @ self.sums[above][node]

    def fill(self) -> None:
        """Bring every node up to its lower limit by the moves that cost least, coarse levels first."""
        for level in range(self.levels):
            lowest, _ = self.limits[level]
            for node in range(len(self.counts[level])):
                while self.counts[level][node] < lowest:
                    best, choice = -np.inf, -1
                    for index, owner in enumerate(self.parents[level]):
                        _, leaves = self.item(level + 1, index)
                        if owner == node or self.counts[level][owner] - leaves < lowest:
                            continue
                        gain = self.gains(level + 1, index, leave=True)[node]
                        if gain > best:
                            best, choice = gain, index
                    if choice < 0:
                        break
                    self.move(level + 1, choice, node)

    def exchange(self) -> int:
        """Sweep over leaves, then over nodes, fine to coarse, until nothing moves. Returns the number of moves."""
        moves = 0
        slack = 1e-9 * float(self.points[0] @ self.points[0])
        for _ in range(SWEEPS):
            before = moves
            for level in range(self.levels, 0, -1):
                for index in range(len(self.parents[level - 1])):
                    gains = self.gains(level, index)
                    target = int(gains.argmax())
                    if gains[target] > slack:
                        self.move(level, index, target)
                        moves += 1
            if moves == before:
                break
        return moves


def nest(points: FloatArray, sizes: Sequence[int], limits: Limits | None = None) -> list[IntArray]:
    """Group n points (n, d; from `features.grid_points`) into nested levels of `sizes` nodes, coarse first.

    Returns, for every inner level and for the leaves, the parent index in the level above: `len(sizes)` arrays, the
    first for level 1 (or the leaves). Raises ValueError for sizes that do not rise or exceed the number of points.
    """
    limits = limits or Limits()
    rising = [*sizes, len(points)]
    if not sizes or sizes[0] < 1 or any(a >= b for a, b in itertools.pairwise(rising)):
        raise ValueError(f"level sizes {list(sizes)}: 1 or more, rising, below the {len(points)} classes")
    bounds = [limits.counts(len(points), size) for size in sizes]
    parents: list[IntArray] = []
    sums, counts = points, np.ones(len(points), dtype=np.int64)
    for size, (_, largest) in zip(reversed(sizes), reversed(bounds), strict=True):
        labels = merge(sums, counts, size, largest)
        parents.insert(0, labels)
        joined = np.zeros((size, points.shape[1]))
        np.add.at(joined, labels, sums)
        sums, counts = joined, np.bincount(labels, weights=counts, minlength=size).astype(np.int64)
    forest = _Forest(points, parents, bounds)
    forest.fill()
    forest.exchange()
    return forest.parents
