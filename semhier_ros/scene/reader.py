"""From a decoded prefix of a scene's code to a reading: posteriors, calibrated scores, boxes in source pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.canvas import Canvas
from semhier_ros.codec.reading import Detection
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
                    weights[f"reader_{prefix}.{layer}.weight"].T.astype(np.float32),
                    weights[f"reader_{prefix}.{layer}.bias"].astype(np.float32),
                )
                for layer in range(sum(key.startswith(f"reader_{prefix}.") for key in weights) // 2)
            ]
            for prefix in range(self.prefixes)
        ]
        self._curves, self._other_curves = (
            [weights[f"{kind}_{level}"].astype(np.float64) for level in range(stream.levels)]
            for kind in ("score", "other")
        )
        self._names = [tree.names(level) for level in range(stream.levels)]
        self._shares = [
            np.eye(len(names))[tree.owner(level)] for level, names in enumerate(self._names)
        ]  # leaves,nodes: 1 where a leaf is below a node

    def read(self, code: SceneCode, prefix: int, canvas: Canvas) -> tuple[Detection, ...]:
        """Detections after blocks 0..prefix, in the order (and with the ids) of block 0."""
        if not len(code):
            return ()
        seen = self.measure(code, prefix)
        corners = canvas.to_source(seen.boxes * np.float32(self.stream.layout.stride)).tolist()
        depths = range(int(seen.named.max()) + 1)
        everyone = np.arange(len(code))
        # of an object that is not named so deep the first node is looked at, and not used
        nodes = [np.maximum(code.path[level], 0) for level in depths]
        rest = [_calibrated(seen.levels[level], self._other_curves[level]) for level in depths[1:]]
        own = [_calibrated(seen.levels[k][everyone, nodes[k]], self._curves[k]).tolist() for k in depths]
        best = [np.argsort(-of_level, axis=1)[:, : MOST_OTHERS + 1] for of_level in rest]
        likely: list[tuple[list[list[int]], list[list[float]]]] = [([], [])]  # the coarsest level says no other node
        likely += [(nodes_.tolist(), rest[k][everyone[:, None], nodes_].tolist()) for k, nodes_ in enumerate(best)]
        paths = [group.tolist() for group in nodes]
        detections = []
        for number, depth in enumerate(seen.named.tolist()):
            path = tuple(paths[level][number] for level in range(depth + 1))
            scores: list[float] = []
            others = []
            for level, node in enumerate(path):
                scores.append(min(own[level][number], scores[-1] if scores else 1.0))
                found = zip(likely[level][0][number], likely[level][1][number], strict=True) if level else ()
                others.append(tuple((n, chance) for n, chance in found if n != node and chance >= LEAST_OTHER))
            names = tuple(self._names[level][node] for level, node in enumerate(path))
            x0, y0, x1, y1 = corners[number]
            detections.append(Detection(number, (x0, y0, x1, y1), path, names, tuple(scores), tuple(others)))
        return tuple(detections)

    def measure(self, code: SceneCode, prefix: int) -> Measured:
        """What blocks 0..prefix say of each object; an object that the last of them pass over is read from those that
        do refine it. In a frame that refers to earlier ones (`SceneCode.boxes`) latents may be as old as those: how
        sure an object is says its score there, and latents say only what it is. Not to be changed: it is kept with the
        code, for the picture asks for what the reading did."""
        last = min(prefix, self.prefixes - 1)
        return code.once(f"measured {last}", lambda: self._measure_all(code, last))

    def _measure_all(self, code: SceneCode, last: int) -> Measured:
        depth = code.depth(last)
        if len(code) and code.boxes is None and int(depth.min()) == int(depth.max()):  # the usual case
            boxes, levels = self._measure(code, int(depth[0]))
            return Measured(boxes, np.minimum(depth, self.stream.levels - 1), levels)
        boxes = np.empty((len(code), 4), np.float32)
        levels = [np.zeros((len(code), len(names))) for names in self._names]
        for own in np.unique(depth).tolist():
            rows = np.flatnonzero(depth == own)
            boxes[rows], found = self._measure(code.take(rows), own)
            for level, raw in enumerate(found):
                levels[level][rows] = raw
        if code.boxes is not None:
            sure = self._measure(code, 0)[1][0] / np.maximum(levels[0].sum(axis=1, keepdims=True), LEAST_CHANCE)
            levels = [np.minimum(raw * sure, 1.0) for raw in levels]
            half = code.boxes[:, 2:] / 2
            boxes = np.concatenate([code.boxes[:, :2] - half, code.boxes[:, :2] + half], axis=1).astype(np.float32)
        return Measured(boxes, np.minimum(depth, self.stream.levels - 1), levels)

    def _measure(self, code: SceneCode, prefix: int) -> tuple[Floats, list[NDArray[np.float64]]]:
        """Corner boxes n,4 in cells and, for each level named, raw scores n,nodes of objects that blocks 0..prefix all
        refine."""
        level = min(prefix, self.stream.levels - 1)
        told = self.stream.told(code, level)
        out = np.concatenate([told, *code.latents[:prefix]], axis=1).astype(np.float32) / FRACTION
        layers = self._layers[prefix]
        for number, (weight, bias) in enumerate(layers):
            out = out @ weight + bias
            if number < len(layers) - 1:
                np.maximum(out, 0, out=out)
        leaves = len(self._names[-1])
        posterior = np.exp(out[:, :leaves] - out[:, :leaves].max(axis=1, keepdims=True)).astype(np.float64)
        posterior /= posterior.sum(axis=1, keepdims=True)
        shift = out[:, leaves : leaves + 4].astype(np.float64) / 4
        present = 1 / (1 + np.exp(-out[:, leaves + 4].astype(np.float64)))
        boxes = code.once("boxes", lambda: restore_boxes(self.stream.layout, code.cells, code.sizes, code.offsets))
        centre = boxes[:, :2] + shift[:, :2] * boxes[:, 2:]
        half = boxes[:, 2:] * np.exp(np.minimum(np.maximum(shift[:, 2:], -1), 1)) / 2
        raw = [present[:, None] * (posterior @ self._shares[k]) for k in range(level + 1)]
        corners = np.concatenate([centre - half, centre + half], axis=1)
        if code.feet is not None:  # the mean of what was read, a normal distribution, within what foot bits allow
            unsure = (
                (DETAILED if prefix >= self.stream.levels else NAMED) * foot_reach(self.stream.layout) * boxes[:, 3]
            )
            lower = _within(corners[:, 3], unsure, foot_limits(self.stream.layout, code.feet, boxes))
            corners[:, 3] = np.maximum(lower, corners[:, 1] + LEAST_SIDE)
        return corners.astype(np.float32), raw


def _within(
    middles: NDArray[np.float64], sigmas: NDArray[np.float64], limits: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Means n of normal distributions that are cut off at limits n,2."""
    steps = limits[:, :1] + (limits[:, 1:] - limits[:, :1]) * (np.arange(MIDPOINTS) + 0.5) / MIDPOINTS
    apart = ((steps - middles[:, None]) / sigmas[:, None]) ** 2 / 2
    weights = np.exp(apart.min(axis=1, keepdims=True) - apart)
    return np.asarray((weights * steps).sum(axis=1) / weights.sum(axis=1))


def _calibrated(raw: NDArray[np.float64], curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """Raw scores as probabilities, by a curve over an even grid of 0..1."""
    return np.interp(raw, _grid(len(curve)), curve)


@lru_cache(maxsize=16)
def _grid(points: int) -> NDArray[np.float64]:
    """Even steps from 0 to 1, made once: every reading asks for the same ones."""
    return np.linspace(0, 1, points)


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
