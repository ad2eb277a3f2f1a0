"""From a decoded prefix of a scene's code to a reading: posteriors, calibrated scores, boxes in source pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.canvas import Canvas
from semhier_ros.codec.scene import FRACTION, SceneCode, restore_boxes
from semhier_ros.codec.scene_stream import SceneStream
from semhier_ros.perception.reading import Detection

Floats = NDArray[np.float32]


class LevelTree(Protocol):
    """The part of `taxonomy.Taxonomy` that readings need."""

    def names(self, level: int) -> tuple[str, ...]: ...

    def owner(self, level: int) -> NDArray[np.intp]: ...


class SceneReader:
    """Reads detections from a `SceneCode`.

    weights: `reader_<prefix>.<layer>.weight` (out,in) and `.bias` of each prefix's perceptron; `score_<level>`:
    calibrated probabilities over a grid of raw scores 0..1, one curve a level.
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
        self._curves = [weights[f"score_{level}"].astype(np.float64) for level in range(stream.levels)]
        self._names = [tree.names(level) for level in range(stream.levels)]
        self._owners = [tree.owner(level) for level in range(stream.levels)]

    def read(self, code: SceneCode, prefix: int, canvas: Canvas) -> tuple[Detection, ...]:
        """Detections after blocks 0..prefix, in the order (and with the ids) of block 0."""
        if not len(code):
            return ()
        boxes, raw = self.measure(code, min(prefix, self.prefixes - 1))
        corners = canvas.to_source(boxes * np.float32(self.stream.layout.stride))
        level = min(prefix, self.stream.levels - 1)
        path = np.stack(code.path[: level + 1], axis=1)
        scores = np.stack([self.calibrate(raw[:, k], k) for k in range(level + 1)], axis=1)
        scores = np.minimum.accumulate(scores, axis=1)
        return tuple(
            Detection(
                number,
                (float(x0), float(y0), float(x1), float(y1)),
                tuple(nodes),
                tuple(self._names[k][node] for k, node in enumerate(nodes)),
                tuple(chances),
            )
            for number, ((x0, y0, x1, y1), nodes, chances) in enumerate(
                zip(corners.tolist(), path.tolist(), scores.tolist(), strict=True)
            )
        )

    def measure(self, code: SceneCode, prefix: int) -> tuple[Floats, NDArray[np.float64]]:
        """Corner boxes n,4 in cells and raw scores n,levels known: probability of an object times that of its node."""
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
        boxes = restore_boxes(self.stream.layout, code.cells, code.sizes, code.offsets)
        centre = boxes[:, :2] + shift[:, :2] * boxes[:, 2:]
        half = boxes[:, 2:] * np.exp(np.clip(shift[:, 2:], -1, 1)) / 2
        rows = np.arange(len(code))
        raw = [present]
        for k in range(1, level + 1):
            share = np.zeros((len(code), len(self._names[k])))
            np.add.at(share.T, self._owners[k], posterior.T)
            raw.append(present * share[rows, code.path[k]])
        return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32), np.stack(raw, axis=1)

    def calibrate(self, raw: NDArray[np.float64], level: int) -> NDArray[np.float64]:
        """Raw scores of one level as probabilities, by that level's curve."""
        curve = self._curves[level]
        return np.interp(raw, np.linspace(0, 1, len(curve)), curve)


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
    left, top = np.arange(columns) * stride, np.arange(rows) * stride
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        across = np.clip(np.minimum(left + stride, x1) - np.maximum(left, x0), 0, stride) / stride
        down = np.clip(np.minimum(top + stride, y1) - np.maximum(top, y0), 0, stride) / stride
        cover = (down[:, None] * across[None]).astype(np.float32)
        found[0] = np.maximum(found[0], cover)
        if groups is not None:
            plane = 1 + int(groups[number])
            found[plane] = np.maximum(found[plane], cover)
    return found
