"""What a frame of the living scene costs either end, on a made scene of so many objects.

`encode`: the sender's delta (`scene.remembering`), detector apart. `decode`: the receiver's reading of it into a state.
`follow`: the receiver takes the reading; `forecast`: it asks where all objects are 160 ms after the frame
(`scene.living`). Processor time of all threads.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from itertools import count
from typing import Any

import numpy as np

from semhier_ros.codec.reading import Reading
from semhier_ros.lab.made_scenes import FRAME_NS, Memories, drive, with_features
from semhier_ros.lab.timing import timed
from semhier_ros.scene.living import LivingScene
from semhier_ros.scene.model import SceneModel

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
        self._memories = Memories(model)
        self._living = LivingScene.of(model.taxonomy, SIZE)
        self._model, self._numbers = model, count()
        self._scene = drive(model.stream.layout, 5, round(objects / 0.9))

    def step(self, times: Mapping[str, list[float]]) -> None:
        """The next frame that is no whole one; what it took is appended to `encode`, `decode`, `follow` and `forecast`,
        in ms. Whole frames before it are followed, too."""
        data, prefix, spent = None, self._model.semantic_blocks - 1, self._memories.spent
        while data is None:
            number = next(self._numbers)
            frame, stamp = number & 0xFFFF, number * FRAME_NS
            code, data = self._memories.say(with_features(self._model, next(self._scene)), frame, stamp)
            reading = Reading(frame, prefix, prefix, self._model.read(code, prefix, SIZE), 0, True)
            followed: list[float] = []
            timed(followed, partial(self._living.follow, stamp, reading))
        times["encode"].append(spent["delta"][-1])
        times["decode"].append(spent["read"][-1])
        times["follow"].extend(followed)
        timed(times["forecast"], partial(self._living.at, stamp + ASKED_NS))


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
