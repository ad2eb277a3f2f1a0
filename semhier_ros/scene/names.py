"""Names that do not flicker: what each level says of an object, averaged over its readings.

A name changes only when the average clearly prefers another; readings that came later of the same frame, and finer,
replace what the earlier ones of that frame said.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from semhier_ros.codec.reading import Detection

MEMORY = 0.9  # weight of the past in an object's averaged names, a frame
LEAST_UNIT = 1e-100  # in which averaged names are counted
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
    frame, and the name shown; and which frame, by its stamp in ns, is the present. Shares stand there in units of a
    number that falls from frame to frame, so that those that a frame does not mention need not be touched."""

    past: dict[int, tuple[float, Shares]] = field(default_factory=dict)
    present: dict[int, tuple[float, Shares]] = field(default_factory=dict)
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
        names = tree.names
        if len(names[0]) == 1:  # one name for all has no rival
            path, scores, others = [0], [there], [()]
        for level in range(len(path), len(item.path)):
            own, beside = item.path[level], item.others[level] if level < len(item.others) else ()
            unit, shares = self._average(level, own, item.scores[level], beside, keep=newest)
            if path and len(names[level - 1]) > 1:
                under = tree.children[level]
                below = [node for node in (under[path[-1]] if path[-1] < len(under) else ()) if node in shares]
                if not below:
                    break
                node = self._choose(level, below, shares, keep=newest)
            else:
                node = self._choose(level, shares, shares, keep=newest)
            path.append(node)
            if level:
                unit *= there
                score = min(unit * shares[node], score)
                found = [(unit * shares[other], other) for other, _ in beside if other != node]
                if own != node:
                    found.append((unit * shares[own], own))
                found.sort(reverse=True)
                others.append(tuple([(other, chance) for chance, other in found]))
            else:
                others.append(())
            scores.append(score)
        shown = tuple([names[level][node] for level, node in enumerate(path)])
        return Detection(number, item.box, tuple(path), shown, tuple(scores), tuple(others), item.velocity)

    def _average(
        self, level: int, own: int, score: float, beside: Sequence[tuple[int, float]], keep: bool
    ) -> tuple[float, Shares]:
        """The object's shares of a level, and their unit, with what this frame says, whose later readings replace its
        earlier ones: its node and, as far as it mentions them, others, with probabilities."""
        unit, shares = self.past.get(level, (0.0, {}))
        score = max(score, 1e-6)
        weight = 1 / (score + sum([chance for _, chance in beside]))
        if unit:
            unit, weight = MEMORY * unit, (1 - MEMORY) * weight
        if unit < LEAST_UNIT:
            unit, shares = 1.0, {node: unit * share for node, share in shares.items()}
        else:
            shares = shares.copy()
        weight /= unit
        shares[own] = shares.get(own, 0.0) + weight * score
        for node, chance in beside:
            shares[node] = shares.get(node, 0.0) + weight * chance
        if keep:
            self.present[level] = unit, shares
        return unit, shares

    def _choose(self, level: int, nodes: Collection[int], shares: Shares, keep: bool) -> int:
        """The likeliest of these nodes, or the one shown so far while no other is clearly likelier."""
        best = max(nodes, key=shares.__getitem__)
        before = self.shown.get(level)
        if before != best and before is not None and before in nodes and shares[best] < CLEARLY * shares[before]:
            best = before
        if keep:
            self.shown[level] = best
        return best
