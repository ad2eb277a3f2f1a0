"""Steady readings of a video at the receiver: one id for an object over all frames, and names that do not flicker.

Blocks never refer to another frame, so this is the receiver's business alone and may be left out. Boxes are associated
from frame to frame by norfair (Kalman filters, intersection over union; BSD). Names: what each level says of an object
is averaged over its frames, and a name changes only when the average clearly prefers another.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from semhier_ros.codec.reading import Detection, Reading

TRACKERS = ("none", "norfair")
REMEMBERED_FRAMES = 32  # whose late blocks still find their ids
MEMORY = 0.9  # weight of the past in an object's averaged names, a frame
CLEARLY = 1.5  # how many times likelier another name must be on average before it is taken
MOST_APART = 0.6  # 1 - intersection over union beyond which two boxes are not of one object
FRAMES_UNSEEN = 12  # an object keeps its id while it is unseen for so many frames

Shares = dict[int, float]
"""Nodes of a level and their probabilities, of an object that is there."""


@dataclass
class _Object:
    """What is known of one object: per level the averaged shares up to the frame before, those with the present frame,
    and the name shown; and which frame is the present."""

    past: dict[int, Shares] = field(default_factory=dict)
    present: dict[int, Shares] = field(default_factory=dict)
    shown: dict[int, int] = field(default_factory=dict)
    moment: Hashable = None


class Tracker:
    """Gives the readings of one camera lasting ids and steady names. Use from one thread.

    parents: per level of the taxonomy, the node of the level above that each node lies under (zeros for level 0).
    names: per level, the nodes' names.

    Raises:
        ModuleNotFoundError: norfair is not installed.
    """

    def __init__(self, parents: Sequence[Sequence[int]], names: Sequence[Sequence[str]]):
        import norfair
        from norfair.filter import OptimizedKalmanFilterFactory

        self._norfair = norfair
        self._parents, self._names = parents, names
        self._boxes = norfair.Tracker(
            distance_function="iou",
            distance_threshold=MOST_APART,
            initialization_delay=0,
            hit_counter_max=FRAMES_UNSEEN,
            filter_factory=OptimizedKalmanFilterFactory(),
        )
        self._frames: OrderedDict[Hashable, Mapping[int, int]] = OrderedDict()
        self._objects: dict[int, _Object] = {}

    @classmethod
    def of(cls, codec: Any) -> Tracker:
        """The tracker for the readings of an `api.Codec`."""
        tree = codec.taxonomy
        parents = [tree.parent(level).tolist() if level else [0] * tree.sizes[0] for level in range(codec.levels)]
        return cls(parents, [tree.names(level) for level in range(codec.levels)])

    def follow(self, moment: Hashable, reading: Reading) -> Reading:
        """`reading` with lasting ids and steady names, and paths as deep as its own or, while an object shown under
        another name has none there yet, less deep.

        moment: what tells its frame from every other, such as its stamp; coarse and fine readings of a frame come with
        the same, the coarsest first.
        """
        if moment not in self._frames:
            self._frames[moment] = self._associate(reading.detections)
            while len(self._frames) > REMEMBERED_FRAMES:
                self._frames.popitem(last=False)
            alive = {number for frame in self._frames.values() for number in frame.values()}
            alive |= {item.id for item in self._boxes.tracked_objects if item.id is not None}
            self._objects = {number: kept for number, kept in self._objects.items() if number in alive}
        ids = self._frames[moment]
        newest = next(reversed(self._frames))
        return replace(
            reading,
            detections=tuple(
                self._steady(item, ids[item.id], moment, moment == newest) if item.id in ids else item
                for item in reading.detections
            ),
        )

    def _associate(self, detections: Sequence[Detection]) -> dict[int, int]:
        """The lasting id of each detection of a new frame."""
        seen = [
            self._norfair.Detection(np.array(item.box, float).reshape(2, 2), data=item.id, scores=np.ones(2))
            for item in detections
        ]
        self._boxes.update(seen)
        of_detection = {id(item): item.data for item in seen}
        found: dict[int, int] = {}
        for item in self._boxes.tracked_objects:
            number = of_detection.get(id(item.last_detection))
            if number is not None and item.id is not None:
                found[number] = item.id
        return found

    def _steady(self, item: Detection, number: int, moment: Hashable, newest: bool) -> Detection:
        known = self._objects.setdefault(number, _Object())
        if newest and known.moment != moment:
            known.past, known.present, known.moment = known.past | known.present, {}, moment
        path: list[int] = []
        scores: list[float] = []
        others = []
        there = item.scores[0]
        for level in range(len(item.path)):
            shares = self._average(known, level, _shares(item, level), keep=newest)
            above = self._parents[level]
            below = {node: share for node, share in shares.items() if not path or above[node] == path[-1]}
            if not below:
                break
            node = self._choose(known, level, below, keep=newest)
            path.append(node)
            chances = {other: there * share for other, share in shares.items()} if level else {node: there}
            scores.append(min(chances.get(node, 0.0), scores[-1] if scores else 1.0))
            said = {other for other, _ in item.others[level]} if level < len(item.others) else set()
            rest = sorted(((chance, other) for other, chance in chances.items() if other != node), reverse=True)
            others.append(tuple((other, chance) for chance, other in rest if other in said or other in item.path))
        names = tuple(self._names[level][node] for level, node in enumerate(path))
        return replace(item, id=number, path=tuple(path), names=names, scores=tuple(scores), others=tuple(others))

    @staticmethod
    def _average(known: _Object, level: int, shares: Shares, keep: bool) -> Shares:
        """The object's shares of a level with this frame's, whose later readings replace its earlier ones."""
        past = known.past.get(level)
        if past is not None:
            nodes = past.keys() | shares.keys()
            shares = {n: MEMORY * past.get(n, 0.0) + (1 - MEMORY) * shares.get(n, 0.0) for n in nodes}
        if keep:
            known.present[level] = shares
        return shares

    @staticmethod
    def _choose(known: _Object, level: int, shares: Shares, keep: bool) -> int:
        """The likeliest node, or the one shown so far while no other is clearly likelier."""
        best = max(shares, key=lambda node: shares[node])
        before = known.shown.get(level)
        if before in shares and shares[best] < CLEARLY * shares[before]:
            best = before
        if keep:
            known.shown[level] = best
        return best


def _shares(item: Detection, level: int) -> Shares:
    """What a detection says of its node at a level, as shares that sum to 1."""
    chances = {item.path[level]: max(item.scores[level], 1e-6)}
    for node, chance in item.others[level] if level < len(item.others) else ():
        chances[node] = chances.get(node, 0.0) + chance
    total = sum(chances.values())
    return {node: chance / total for node, chance in chances.items()}
