"""How far off the living scene is when it is asked about a moment after its newest reading, on videos.

No link: every `--every`-th frame's reading is known at once, and the scene is asked for 100 and 300 ms later. Truth is
what the same detector reads on the frame of that later moment. Printed for each delay: the share of truths inside the
95 % ellipse, the error of the centre in sides, the error of velocity beside the velocity itself (which is the error of
saying that nothing moves), id switches a minute, and what the scene costs at either call.

Then what a frame of a made scene of `--objects` costs either end, in processor time of all threads. `encode`: the
sender's delta (`scene.remembering`), detector apart. `decode`: the receiver's reading of it into a state. `follow`: the
receiver takes the reading; `forecast`: it asks where all objects are 160 ms after the frame (`scene.living`).
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from semhier_ros import options as shared
from semhier_ros.codec.reading import Reading
from semhier_ros.footage.video import VideoCamera, check_moves
from semhier_ros.lab.made_scenes import FRAME_NS, Memories, drive, with_features
from semhier_ros.lab.replay.reader import Reader, reader_of_videos
from semhier_ros.lab.results import publish
from semhier_ros.lab.scoring.figures import quantiles, timed
from semhier_ros.lab.scoring.living import Errors, detections_of, velocities
from semhier_ros.lab.studies.steadiness import Steadiness
from semhier_ros.lab.studies.tables import Columns, Table, filled
from semhier_ros.scene.living import LivingScene
from semhier_ros.scene.model import SceneModel

DELAYS = (0.1, 0.3)
OBJECTS = 20
"""Seen in a frame of the made scene, on average."""
SIZE = (1280, 720)
ASKED_NS = 160_000_000
WARM_UP = 50
"""Frames before those that count: objects have gathered a history."""


def evaluate(reader: Reader, path: Path, every: int) -> dict[str, Any]:
    """The figures of one video. Raises FootageError where it has but one frame."""
    camera = VideoCamera(path, remember=reader.store.made)
    check_moves(camera)
    taxonomy = reader.codec.taxonomy
    times = [stamp / 1e9 for stamp in camera.times_ns]
    readings = [reader.reference(camera, number) for number in range(len(camera))]
    speeds = velocities(readings, times, camera.size, taxonomy)
    living = LivingScene.of(taxonomy, camera.size)
    errors = {delay: Errors() for delay in DELAYS}
    steady, costs = Steadiness(), {"follow": [], "at": []}  # type: ignore[var-annotated]
    for number in range(0, len(camera), every):
        began = time.perf_counter()
        living.follow(camera.times_ns[number], Reading(number, 0, 0, readings[number], 0, True))
        costs["follow"].append(time.perf_counter() - began)
        for delay in DELAYS:
            later = int(np.argmin(np.abs(np.array(times) - times[number] - delay)))
            if abs(times[later] - times[number] - delay) > 0.03:
                continue
            began = time.perf_counter()
            scene = living.at(camera.times_ns[later])
            costs["at"].append(time.perf_counter() - began)
            errors[delay].add(scene, readings[later], speeds[later])
            if delay == DELAYS[0]:
                steady.add(detections_of(scene))
    seconds = times[-1] - times[0]
    return {
        "video": path.name,
        "frames": len(camera),
        "readings_per_second": round((len(camera) - 1) / seconds / every, 2),
        "delays": {f"{round(delay * 1e3)} ms": one.as_dict() for delay, one in errors.items()},
        "id_switches_per_minute": round(steady.switches / max(seconds / 60, 1e-9), 1),
        "ms": {name: round(float(np.median(values)) * 1e3, 3) for name, values in costs.items() if values},
    }


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
        "ms": {name: quantiles(one, 3, median=0.5, p95=0.95) for name, one in times.items()},
    }


def table_of(results: list[dict[str, Any]]) -> Table:
    """The figures as rows of video and delay."""
    rows = [{**result, **one, "delay": delay} for result in results for delay, one in result["delays"].items()]
    columns: Columns = [
        ("video", "video"),
        ("asked after", "delay"),
        ("inside the 95 % ellipse", "inside_ellipse95"),
        ("centre off (sides)", "centre_error_sides.median"),
        ("velocity off (px/s)", "velocity_error_px_s.mean"),
        ("inside its 95 % ellipse", "velocity_inside_ellipse95"),
        ("velocity", "velocity_px_s.mean"),
    ]
    return filled("errors", "How far off the living scene is", columns, rows)


def table_of_costs(costs: dict[str, Any]) -> Table:
    """What a frame costs: a row for each part of it."""
    rows = [{"part": name, **one} for name, one in costs["ms"].items()]
    columns: Columns = [("part", "part"), ("median (ms)", "median"), ("95 % of frames (ms)", "p95")]
    note = f"A made scene of {costs['objects']} objects, {costs['frames']} frames; processor time."
    return filled("costs", "What a frame costs either end", columns, rows, note)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("videos", type=Path, nargs="*", help="video files (none: only what a made frame costs)")
    shared.common(parser, shared.model, shared.device, shared.json)
    shared.option(parser, "--objects", shared.whole(2, 100), OBJECTS, "in a frame of the made scene")
    shared.option(parser, "--made", shared.whole(1, 100_000), 300, "frames of the made scene")
    shared.option(parser, "--every", shared.whole(1, 1000), 1, "read each so many-th frame")
    parser.add_argument("--cache", type=Path, help="folder of what was computed before (default: replay's)")


def run(options: argparse.Namespace) -> int:
    reader = reader_of_videos(options.videos, options.model, options.device, options.cache)
    codec = reader.codec
    results = [evaluate(reader, video, options.every) for video in options.videos]
    assert isinstance(codec.model, SceneModel)  # a reader of videos has none of another kind
    costs = costs_of_a_frame(codec.model, options.objects, options.made)
    tables = [*([table_of(results)] if results else []), table_of_costs(costs)]
    return publish(options.json, "living", {"videos": results, "costs": costs}, tables, [codec])
