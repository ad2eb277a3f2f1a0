"""Made-up scenes, for tests and for measures of memory: objects that drift, jitter, vanish and change their names; and
both memories of a camera, one handing to the other what it made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from semhier_ros.lab.timing import timed
from semhier_ros.scene.budget import importance
from semhier_ros.scene.layout import SceneCode, SceneLayout
from semhier_ros.scene.objects import Objects, code_objects

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


def with_features(model: Any, objects: Objects) -> Objects:
    """Made objects, which have no features, with the model's number of them."""
    return replace(objects, features=np.zeros((len(objects), len(model.folder.projection.feature_mean)), np.float32))


class Memories:
    """A scene model's sender and its receiver, to which every frame comes and of which each is heard at once. radio: as
    of `Codec.memory`. `spent`: milliseconds that each frame took to be said whole (`whole`), or as a delta (`delta`)
    that was read (`read`)."""

    def __init__(self, model: Any, radio: bool = False) -> None:
        self._model = model
        self.sender, self.receiver = model.sender_memory(radio=radio), model.receiver_memory()
        self.spent: dict[str, list[float]] = defaultdict(list)

    def say(
        self,
        objects: Objects,
        frame: int,
        stamp_ns: int,
        *,
        moved: Any = None,
        most: int | None = None,
        whole: bool = False,
        prefix: int | None = None,
    ) -> tuple[SceneCode, bytes | None]:
        """What a frame of these objects says, and the delta that says it; None of a frame that is sent whole, be it
        because it has to or as `whole` asks. moved: as of `importance`. most: bytes of a delta. prefix: the last block
        of a whole frame that comes (None: all)."""
        model, began = self._model, list[float]()
        self.sender.begin(frame, stamp_ns)
        worth = importance(model.stream.layout, objects, moved)
        data: bytes | None = timed(began, partial(self.sender.delta, objects, worth, most))
        if data is None or whole:
            code, data = code_objects(model.stream, model.folder.projection, objects, model.semantic_blocks), None
            timed(began, partial(self.sender.whole, code))
            self.receiver.whole(code, model.semantic_blocks - 1 if prefix is None else prefix, frame, stamp_ns)
            self.spent["whole"].append(sum(began))
        else:
            self.spent["delta"] += began
            code = timed(self.spent["read"], partial(self.receiver.delta, data, frame, stamp_ns))
        self.sender.heard(self.receiver.acknowledgement or b"")
        return code, data
