"""From a decoded prefix of a scene's code to a reading: posteriors, calibrated scores, boxes in source pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.canvas import Canvas
from semhier_ros.codec.reading import Detection
from semhier_ros.native import kernels
from semhier_ros.scene.layout import FRACTION, SceneCode, foot_limits, foot_reach, restore_boxes
from semhier_ros.scene.stream import SceneStream

Floats = NDArray[np.float32]
LEAST_OTHER = 0.005  # probability below which another node is not mentioned
MOST_OTHERS = 8  # other nodes mentioned per level
NAMED, DETAILED = 0.38, 0.2
"""How unsure the reading of a lower side is without foot bits, before and after the detail block: standard deviation,
in shares of its reach."""
MIDPOINTS = 8
LEAST_SIDE = 1e-3
BOX_OUTPUTS = 5
"""What perceptrons tell beside the leaves: how a box is shifted and grown, and whether there is an object."""
LEAST_CHANCE = 1e-9


class LevelTree(Protocol):
    """The part of `taxonomy.Taxonomy` that readings need."""

    def names(self, level: int) -> tuple[str, ...]: ...

    def owner(self, level: int) -> NDArray[np.intp]: ...


class Measured(NamedTuple):
    """Raw readings of n objects: boxes n,4 (corners, in cells); named n, the deepest level that each is named at; per
    level of the taxonomy n,nodes: probability of an object times that of the node, 0 where the level isn't named."""

    boxes: Floats
    named: NDArray[np.intp]
    levels: list[NDArray[np.float64]]


class Curve(NamedTuple):
    """Calibrated probabilities of raw scores: `values` at the even steps of `grid` from 0 to 1."""

    grid: NDArray[np.float64]
    values: NDArray[np.float64]

    @classmethod
    def of(cls, values: NDArray[np.floating]) -> Curve:
        return cls(np.linspace(0, 1, len(values)), values.astype(np.float64))

    def __call__(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.interp(raw, self.grid, self.values)


class ToldLevel(NamedTuple):
    """How a level is told: names of its nodes, and the curves of the node that an object is named and of any other."""

    names: tuple[str, ...]
    own: Curve
    other: Curve


class SceneReader:
    """Reads detections from a `SceneCode`.

    weights: `reader_<prefix>.<layer>.weight` (out,in) and `.bias` of each prefix's perceptron; `score_<level>` and
    `other_<level>`: calibrated probabilities over a grid of raw scores 0..1, of the node named and of any other.
    """

    def __init__(self, stream: SceneStream, tree: LevelTree, weights: Mapping[str, Floats]):
        self.stream, self.tree = stream, tree
        self.prefixes = stream.semantic_blocks
        self._layers = [
            [
                (
                    weights[f"reader_{prefix}.{layer}.weight"].T.astype(np.float64, order="C"),
                    weights[f"reader_{prefix}.{layer}.bias"].astype(np.float64),
                )
                for layer in range(sum(key.startswith(f"reader_{prefix}.") for key in weights) // 2)
            ]
            for prefix in range(self.prefixes)
        ]
        used = len(tree.names(stream.levels - 1)) + BOX_OUTPUTS  # what else the last layers tell is of no use here
        for layers in self._layers:
            weight, bias = layers[-1]
            layers[-1] = np.ascontiguousarray(weight[:, :used]), bias[:used]
        self._names = [tree.names(level) for level in range(stream.levels)]
        told = [
            ToldLevel(names, Curve.of(weights[f"score_{level}"]), Curve.of(weights[f"other_{level}"]))
            for level, names in enumerate(self._names)
        ]
        stride = stream.layout.stride
        edges = np.array([0.0, *stream.layout.score_edges, 1.0])
        self._said = (edges[:-1] + edges[1:]) / 2
        self._tell: Callable[
            [Sequence[NDArray[np.int32]], Measured, Canvas, NDArray[np.float64]], tuple[Detection, ...]
        ]
        self._tell = (
            partial(tell_objects, told, stride)
            if kernels is None
            else kernels.ObjectTeller(told, stride, Detection).tell
        )
        # leaves,nodes: 1 where a leaf is below a node
        shares = [np.eye(len(names))[tree.owner(level)] for level, names in enumerate(self._names)]
        self._down_to = [np.concatenate(shares[: level + 1], axis=1) for level in range(stream.levels)]
        self._first = np.cumsum([len(names) for names in self._names]).tolist()

    def read(self, code: SceneCode, prefix: int, canvas: Canvas) -> tuple[Detection, ...]:
        """Detections after blocks 0..prefix, in the order (and with the ids) of block 0."""
        (found,) = self.read_many([(code, prefix, canvas)])
        return found

    def read_many(self, requests: Sequence[tuple[SceneCode, int, Canvas]]) -> list[tuple[Detection, ...]]:
        """What `read` gives for each of several frames, but for the rounding of sums in float64. Those of many cost
        less than as many alone, for much of what one costs is asking for it."""
        measured = self.measure_many([(code, prefix) for code, prefix, _ in requests])
        return [
            self._tell(code.path, seen, canvas, self._said[code.scores])
            for (code, _, canvas), seen in zip(requests, measured, strict=True)
        ]

    def measure(self, code: SceneCode, prefix: int) -> Measured:
        """What blocks 0..prefix say of each object; an object that the last of them pass over is read from those that
        do refine it. How likely there is an object says block 0, for good: later blocks say what it is. Not to be
        changed: it is kept with the code, for the picture asks for what the reading did."""
        last = min(prefix, self.prefixes - 1)
        return code.once(f"measured {last}", lambda: self._measure_all(code, last))

    def measure_many(self, asked: Sequence[tuple[SceneCode, int]]) -> list[Measured]:
        """`measure` of several codes and prefixes; those of which the same is known, all their objects refined as deep,
        in one pass of their perceptron."""
        alike: dict[tuple[int, int, bool], list[SceneCode]] = {}
        if any(prefix for _, prefix in asked) and len(asked) > 1:
            self.measure_many([(code, 0) for code, _ in asked])
        for code, prefix in asked if len(asked) > 1 else ():
            last = min(prefix, self.prefixes - 1)
            deep = None if f"measured {last}" in code.worked else _even_depth(code, last)
            if deep is not None:
                alike.setdefault((last, deep, code.feet is None), []).append(code)
        for (last, deep, _), codes in alike.items():
            boxes, levels = self._measure(SceneCode.joined(codes), deep)
            start = 0
            for code in codes:
                end = start + len(code)
                named = np.full(len(code), min(deep, self.stream.levels - 1), np.intp)
                own = self._as_sure_as_first([level[start:end] for level in levels], code, last)
                code.worked[f"measured {last}"] = Measured(boxes[start:end], named, own)
                start = end
        return [self.measure(code, prefix) for code, prefix in asked]

    def _measure_all(self, code: SceneCode, last: int) -> Measured:
        depth = code.depth(last)
        even = _even_depth(code, last)
        if even is not None:
            boxes, levels = self._measure(code, even)
        else:
            boxes = np.empty((len(code), 4), np.float32)
            levels = [np.zeros((len(code), len(names))) for names in self._names]
            for own in np.unique(depth).tolist():
                rows = np.flatnonzero(depth == own)
                boxes[rows], found = self._measure(code.take(rows), own)
                for level, raw in enumerate(found):
                    levels[level][rows] = raw
        if code.boxes is not None:
            half = code.boxes[:, 2:] / 2
            boxes = np.concatenate([code.boxes[:, :2] - half, code.boxes[:, :2] + half], axis=1).astype(np.float32)
        levels = self._as_sure_as_first(levels, code, last)
        return Measured(boxes, np.minimum(depth, self.stream.levels - 1), levels)

    def _as_sure_as_first(
        self, levels: list[NDArray[np.float64]], code: SceneCode, last: int
    ) -> list[NDArray[np.float64]]:
        """`Measured.levels` of blocks 0..`last`, under block 0's word on whether there is an object. Where a delta gave
        it, the score is new and latents may be old; and what tells types apart has been learned where only some objects
        have labels, which teaches it doubts about the others."""
        if not last:
            return levels
        first = self.measure(code, 0).levels[0].sum(axis=1, keepdims=True)
        sure = first / np.maximum(levels[0].sum(axis=1, keepdims=True), LEAST_CHANCE)
        return [np.minimum(raw * sure, 1.0) for raw in levels]

    def _measure(self, code: SceneCode, prefix: int) -> tuple[Floats, list[NDArray[np.float64]]]:
        """Corner boxes n,4 in cells and, for each level named, raw scores n,nodes of objects that blocks 0..prefix all
        refine."""
        level = min(prefix, self.stream.levels - 1)
        told = np.concatenate([*self.stream.told_parts(code, level), *code.latents[:prefix]], axis=1, dtype=np.int32)
        boxes = code.once("boxes", lambda: restore_boxes(self.stream.layout, code.cells, code.sizes, code.offsets))
        read = read_objects if kernels is None else kernels.read_objects
        corners, every = read(told, self._layers[prefix], boxes, self._down_to[level])
        raw = [every[:, start:end] for start, end in zip([0, *self._first], self._first[: level + 1], strict=False)]
        if code.feet is not None:  # the mean of what was read, a normal distribution, within what foot bits allow
            unsure = (
                (DETAILED if prefix >= self.stream.levels else NAMED) * foot_reach(self.stream.layout) * boxes[:, 3]
            )
            lower = _within(corners[:, 3], unsure, foot_limits(self.stream.layout, code.feet, boxes))
            corners[:, 3] = np.maximum(lower, corners[:, 1] + LEAST_SIDE)
        return corners.astype(np.float32), raw


def read_objects(
    told: NDArray[np.int32],
    layers: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
    boxes: NDArray[np.float64],
    down_to: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a perceptron reads of n objects: their boxes' corners n,4 in cells, and the probability n,nodes that each is
    an object of each node. The compiled kernel of this name differs in the order of sums.

    told: n,inputs, in units of 1/FRACTION. layers: its weights (inputs, outputs) and biases; it tells the leaves'
    logits, four quarters of how the box is shifted and, in logarithms, grown, and the logit that there is an object.
    boxes: n,4 (cx, cy, w, h in cells) as symbols say. down_to: leaves,nodes, 1 where a leaf is below a node.
    """
    out = told / FRACTION
    for number, (weight, bias) in enumerate(layers):
        out = (np.maximum(out, 0) if number else out) @ weight + bias
    leaves = len(down_to)
    posterior = np.exp(out[:, :leaves] - out[:, :leaves].max(axis=1, keepdims=True))
    posterior /= posterior.sum(axis=1, keepdims=True)
    present = 1 / (1 + np.exp(-out[:, leaves + 4 :]))
    shift = out[:, leaves : leaves + 4] / 4
    centre = boxes[:, :2] + shift[:, :2] * boxes[:, 2:]
    half = boxes[:, 2:] * np.exp(np.clip(shift[:, 2:], -1, 1)) / 2
    return np.concatenate([centre - half, centre + half], axis=1), posterior @ down_to * present


def tell_objects(
    told: Sequence[ToldLevel],
    stride: int,
    path: Sequence[NDArray[np.int32]],
    seen: Measured,
    canvas: Canvas,
    said: NDArray[np.float64],
) -> tuple[Detection, ...]:
    """Detections of the objects of a frame, as the compiled `ObjectTeller(told, stride, Detection).tell` gives them.

    told: the levels of the tree. stride: canvas pixels of a cell. path: of each level that any object is named at, the
    nodes n. said n: the scores that the sender told.
    """
    corners = canvas.to_source(seen.boxes * np.float32(stride)).tolist()
    depths = range(int(seen.named.max(initial=-1)) + 1)
    # of an object that is not named so deep the first node is looked at, and not used
    nodes = [np.maximum(path[level], 0) for level in depths]
    everyone = np.arange(len(corners))
    own = [told[level].own(seen.levels[level][everyone, nodes[level]]).tolist() for level in depths]
    others = [
        _others(told[level].other(seen.levels[level]), nodes[level]) if level else [()] * len(corners)
        for level in depths
    ]
    paths = [level.tolist() for level in nodes]
    found = []
    for number, (box, deepest, score) in enumerate(zip(corners, seen.named.tolist(), said.tolist(), strict=True)):
        mine = range(deepest + 1)
        there = tuple([paths[level][number] for level in mine])
        found.append(
            Detection(
                number,
                tuple(box),
                there,
                tuple([told[level].names[node] for level, node in enumerate(there)]),
                tuple(accumulate([own[level][number] for level in mine], min, initial=1.0))[1:],
                tuple([others[level][number] for level in mine]),
                said=score,
            )
        )
    return tuple(found)


def _others(chances: NDArray[np.float64], nodes: NDArray[np.int32]) -> list[tuple[tuple[int, float], ...]]:
    """What else each of n objects may be, as readings mention it: the likeliest nodes (of chances n,nodes) but its
    own; of equally likely ones the first comes first."""
    best = np.argsort(-chances, axis=1, kind="stable")[:, : MOST_OTHERS + 1]
    likely = np.take_along_axis(chances, best, axis=1).tolist()
    return [
        tuple([(n, chance) for n, chance in zip(row, found, strict=True) if chance >= LEAST_OTHER and n != own])
        for row, found, own in zip(best.tolist(), likely, nodes.tolist(), strict=True)
    ]


def _even_depth(code: SceneCode, last: int) -> int | None:
    """How deep blocks 0..`last` refine all objects of a code; None where that differs, and where memory placed them."""
    if not len(code) or code.boxes is not None:
        return None
    depth = code.depth(last)
    least = int(depth.min())
    return least if least == int(depth.max()) else None


def _within(
    middles: NDArray[np.float64], sigmas: NDArray[np.float64], limits: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Means n of normal distributions that are cut off at limits n,2."""
    steps = limits[:, :1] + (limits[:, 1:] - limits[:, :1]) * (np.arange(MIDPOINTS) + 0.5) / MIDPOINTS
    apart = ((steps - middles[:, None]) / sigmas[:, None]) ** 2 / 2
    weights = np.exp(apart.min(axis=1, keepdims=True) - apart)
    return np.asarray((weights * steps).sum(axis=1) / weights.sum(axis=1))


def meaning_map(
    boxes: NDArray[np.float32],
    groups: Sequence[int] | NDArray[np.int32] | None,
    shape: tuple[int, int],
    planes: int,
    stride: int,
) -> Floats:
    """What the semantic blocks say about a picture, as planes,rows,columns shares of each cell covered.

    boxes n,4 (x0, y0, x1, y1) in canvas pixels; plane 0 is any object, plane 1+g those of group g (none while groups
    are unknown: None); `stride` is the size of a cell in pixels.
    """
    rows, columns = shape
    found = np.zeros((planes, rows, columns), np.float32)
    if not len(boxes):
        return found
    left, top = np.arange(columns) * stride, np.arange(rows) * stride
    x0, y0, x1, y1 = (boxes[:, side, None] for side in range(4))
    across = np.clip(np.minimum(left + stride, x1) - np.maximum(left, x0), 0, stride) / stride
    down = np.clip(np.minimum(top + stride, y1) - np.maximum(top, y0), 0, stride) / stride
    cover = (down[:, :, None] * across[:, None]).astype(np.float32)
    cover.max(axis=0, out=found[0])
    if groups is not None:
        for number, group in enumerate(np.asarray(groups).tolist()):
            np.maximum(found[1 + group], cover[number], out=found[1 + group])
    return found
