"""What a frame of the living scene costs either end, on a made scene of so many objects.

`encode`: the sender's delta (`scene.remembering`), detector apart. `decode`: the receiver's reading of it into a state.
`follow`: the receiver takes the reading; `forecast`: it asks where all objects are 160 ms after the frame
(`scene.living`). Processor time of all threads.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from semhier_ros.codec.reading import Reading
from semhier_ros.lab.made_scenes import FRAME_NS, drive
from semhier_ros.lab.timing import timed
from semhier_ros.scene.budget import importance
from semhier_ros.scene.living import LivingScene
from semhier_ros.scene.model import SceneModel
from semhier_ros.scene.objects import code_objects

OBJECTS = 20
"""Seen in a frame of the made scene, on average."""
SIZE = (1280, 720)
ASKED_NS = 160_000_000
WARM_UP = 50
"""Frames before those that count: objects have gathered a history."""
BAR_MS = 2.0
"""A frame of `OBJECTS` at either end is to take no longer."""


class MadeDrive:
    """Frames of a made scene that refer to earlier ones, coded at one end and read at the other; nothing is lost."""

    def __init__(self, model: SceneModel, objects: int = OBJECTS) -> None:
        self._sender, self._receiver = model.sender_memory(), model.receiver_memory()
        self._living = LivingScene.of(model.taxonomy, SIZE)
        self._model, self._number = model, 0
        self._scene = drive(model.stream.layout, 5, round(objects / 0.9))
        self._features = len(model.folder.projection.feature_mean)

    def step(self, times: Mapping[str, list[float]]) -> None:
        """The next frame that is no whole one; what it took is appended to `encode`, `decode`, `follow` and `forecast`,
        in ms. Whole frames before it are followed, too."""
        while True:
            frame, stamp = self._number & 0xFFFF, self._number * FRAME_NS
            self._number += 1
            objects = next(self._scene)
            worth = importance(self._model.stream.layout, objects)
            self._sender.begin(frame, stamp)
            spent: list[float] = []
            data = timed(spent, partial(self._sender.delta, objects, worth))
            blocks = self._model.semantic_blocks
            if data is None:
                objects = replace(objects, features=np.zeros((len(objects), self._features), np.float32))
                code = code_objects(self._model.stream, self._model.folder.projection, objects, blocks)
                self._sender.whole(code)
                self._receiver.whole(code, blocks - 1, frame, stamp)
                self._follow(frame, stamp, code)
            else:
                times["encode"].extend(spent)
                code = timed(times["decode"], partial(self._receiver.delta, data, frame, stamp))
                reading = self._reading(frame, code)
                timed(times["follow"], partial(self._living.follow, stamp, reading))
                timed(times["forecast"], partial(self._living.at, stamp + ASKED_NS))
            self._sender.heard(self._receiver.acknowledgement or b"")
            if data is not None:
                return

    def _reading(self, frame: int, code: Any) -> Reading:
        prefix = self._model.semantic_blocks - 1
        found = self._model.read(code, prefix, SIZE)
        return Reading(frame, prefix, prefix, found, 0, True)

    def _follow(self, frame: int, stamp_ns: int, code: Any) -> None:
        self._living.follow(stamp_ns, self._reading(frame, code))


def costs_of_a_frame(model: SceneModel, objects: int, frames: int) -> dict[str, Any]:
    """The figures of so many frames of about so many objects."""
    made = MadeDrive(model, objects)
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(WARM_UP):
        made.step(times)
    times.clear()
    for _ in range(frames):
        made.step(times)
    times["receiver"] = [sum(parts) for parts in zip(times["decode"], times["follow"], times["forecast"], strict=True)]
    return {
        "objects": objects,
        "frames": frames,
        "clock": "processor time",
        "ms": {
            name: {"median": round(float(np.median(one)), 3), "p95": round(float(np.percentile(one, 95)), 3)}
            for name, one in times.items()
        },
        "bar_ms": BAR_MS,
    }
