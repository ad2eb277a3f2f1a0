"""Names that do not flicker: what each level says of an object, averaged over its readings.

A name changes only when the average clearly prefers another; readings that came later of the same frame, and finer,
replace what the earlier ones of that frame said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from semhier_ros.codec.reading import Detection

MEMORY = 0.9  # weight of the past in an object's averaged names, a frame
CLEARLY = 1.5  # how many times likelier another name must be on average before it is taken

Shares = dict[int, float]
"""Nodes of a level and their probabilities, of an object that is there."""


@dataclass(frozen=True)
class Tree:
    """parents: per level of the taxonomy, the node of the level above that each node lies under (zeros for level 0).
    names: per level, the nodes' names."""

    parents: Sequence[Sequence[int]]
    names: Sequence[Sequence[str]]

    @cached_property
    def children(self) -> list[list[list[int]]]:
        """Per level, the nodes under each node of the level above."""
        found = []
        for parents in self.parents:
            below: list[list[int]] = [[] for _ in range(max(parents) + 1)]
            for node, parent in enumerate(parents):
                below[parent].append(node)
            found.append(below)
        return found


@dataclass
class SteadyNames:
    """What is known of one object's names: per level the averaged shares up to the frame before, those with the present
    frame, and the name shown; and which frame, by its stamp in ns, is the present."""

    past: dict[int, Shares] = field(default_factory=dict)
    present: dict[int, Shares] = field(default_factory=dict)
    shown: dict[int, int] = field(default_factory=dict)
    moment: int | None = None

    def copy(self) -> SteadyNames:
        """The same, which goes on apart from this."""
        return SteadyNames(dict(self.past), dict(self.present), dict(self.shown), self.moment)

    def steady(self, tree: Tree, item: Detection, number: int, moment: int, newest: bool) -> Detection:
        """`item` as object `number` under the names known so far, its path as deep as it was or, while the name shown
        has none there yet, less deep. newest: whether `moment` is the object's newest frame, whose word is kept."""
        if newest and self.moment != moment:
            self.past, self.present, self.moment = self.past | self.present, {}, moment
        there = score = item.scores[0]
        path: list[int] = []
        scores: list[float] = []
        others: list[tuple[tuple[int, float], ...]] = []
        if len(tree.names[0]) == 1:  # one name for all has no rival
            path, scores, others = [0], [there], [()]
        for level in range(len(path), len(item.path)):
            said = _said(item, level)
            shares = self._average(level, said, keep=newest)
            below = shares
            if path and len(tree.names[level - 1]) > 1:
                under = tree.children[level]
                below = {n: shares[n] for n in (under[path[-1]] if path[-1] < len(under) else ()) if n in shares}
                if not below:
                    break
            node = self._choose(level, below, keep=newest)
            path.append(node)
            score = min(there * shares[node], score) if level else there
            scores.append(score)
            others.append(_beside(said, node, there, shares) if level else ())
        names = tuple([tree.names[level][node] for level, node in enumerate(path)])
        return Detection(number, item.box, tuple(path), names, tuple(scores), tuple(others), item.velocity)

    def _average(self, level: int, said: Shares, keep: bool) -> Shares:
        """The object's shares of a level with what this frame says, whose later readings replace its earlier ones."""
        past = self.past.get(level)
        shares = {} if past is None else {node: MEMORY * share for node, share in past.items()}
        weight = (1.0 if past is None else 1 - MEMORY) / sum(said.values())
        for node, chance in said.items():
            shares[node] = shares.get(node, 0.0) + weight * chance
        if keep:
            self.present[level] = shares
        return shares

    def _choose(self, level: int, shares: Shares, keep: bool) -> int:
        """The likeliest node, or the one shown so far while no other is clearly likelier."""
        best = max(shares, key=shares.__getitem__)
        before = self.shown.get(level)
        if before in shares and shares[best] < CLEARLY * shares[before]:
            best = before
        if keep:
            self.shown[level] = best
        return best


def _said(item: Detection, level: int) -> Shares:
    """What a detection says of its node at a level and, as far as it mentions them, of others: probabilities."""
    said = {item.path[level]: max(item.scores[level], 1e-6)}
    for node, chance in item.others[level] if level < len(item.others) else ():
        said[node] = said.get(node, 0.0) + chance
    return said


def _beside(said: Shares, node: int, there: float, shares: Shares) -> tuple[tuple[int, float], ...]:
    """What else an object named `node` may be, likeliest first: of what its detection mentions."""
    found = [(there * shares[other], other) for other in said if other != node]
    found.sort(reverse=True)
    return tuple([(other, chance) for chance, other in found])
