"""Made-up scenes, for tests and for measures of memory: objects that drift, jitter, vanish and change their names."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from semhier_ros.scene.layout import SceneLayout
from semhier_ros.scene.objects import Objects

FRAME_NS = 80_000_000


def objects_of(layout: SceneLayout, boxes: np.ndarray, scores: np.ndarray, leaves: np.ndarray) -> Objects:
    """Objects at boxes n,4 (cx, cy, w, h in cells) with scores n and leaves n, one a cell, in raster order; without
    features."""
    cells = (boxes[:, 1].astype(int) * layout.columns + boxes[:, 0].astype(int)).astype(np.int32)
    _, first = np.unique(cells, return_index=True)
    types = len(layout.parents[-1])
    chances = np.full((len(boxes), types), 0.01)
    chances[np.arange(len(boxes)), leaves] = 1.0
    chances /= chances.sum(axis=1, keepdims=True)
    return Objects(
        cells[first],
        boxes[first].astype(np.float32),
        scores[first].astype(np.float32),
        np.log(chances[first]).astype(np.float32),
        np.zeros((len(first), 0), np.float32),
    )


def drive(layout: SceneLayout, seed: int, count: int = 12) -> Iterator[Objects]:
    """Frames without end, `FRAME_NS` apart, each with nine in ten of `count` objects in a picture that moves, too."""
    random = np.random.default_rng(seed)
    size = np.array([layout.columns, layout.rows])

    def new(number: int) -> tuple[np.ndarray, ...]:
        place = random.uniform(0.1, 0.9, (number, 2)) * size
        sides = np.exp(random.uniform(0.3, 2.3, (number, 2)))
        return place, sides, random.normal(0, 0.05, (number, 2)), random.integers(0, len(layout.parents[-1]), number)

    place, sides, speed, leaf = new(count)
    while True:
        place += speed + random.normal(0, 0.1, 2)
        outside = ((place < 0.5) | (place > size - 1.5)).any(axis=1) | (random.random(count) < 0.01)
        fresh = new(int(outside.sum()))
        place[outside], sides[outside], speed[outside], leaf[outside] = fresh
        swapped = random.random(count) < 0.02
        leaf[swapped] = random.integers(0, len(layout.parents[-1]), swapped.sum())
        seen = random.random(count) < 0.9
        boxes = np.concatenate([place, sides], axis=1)[seen]
        boxes[:, :2] += random.normal(0, 0.04, (len(boxes), 2)) * boxes[:, 2:]
        boxes[:, 2:] *= np.exp(random.normal(0, 0.05, (len(boxes), 2)))
        boxes[:, :2] = np.clip(boxes[:, :2], 0.1, size - 0.1)
        yield objects_of(layout, boxes, random.uniform(0.2, 0.9, len(boxes)), leaf[seen])
