"""The scene as a planner had it, played: what the receiver foretold 25 times a second, beside the newest reading and
the truth.

The truth (labels, or what the same network reads on the uncompressed frame) is known at the instants that are judged;
the picture behind it is of the same instants. Between two of them only the scene moves on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.reading import Detection, TrackedObject
from semhier_ros.lab.replay.measures import split_cameras
from semhier_ros.lab.replay.work import Result
from semhier_ros.lab.report.page import data_uri, webp
from semhier_ros.lab.scoring.living import scenes_at
from semhier_ros.lab.scoring.streaming import newest_at

RATE, SECONDS, MOST_PICTURES = 25.0, 10.0, 130
"""Instants a second, how much of a run is shown, and pictures of it at most."""
WIDTH, QUALITY = 480, 55
LEAST_SCORE = 0.3
"""What is less sure is left out: detections, and objects of the scene by their existence."""


def film(result: Result) -> dict[str, Any] | None:
    """What the page plays of the first camera; None where nothing of ours was foretold.

    `size`: width and height of the camera's frame, to which boxes are; `pictures`: data URIs; `instants`:
    rows [seconds, number of the picture, truth, reading, its age in ms or None, scene] of boxes [x0, y0, x1, y1, name].
    """
    run = result.runs.get("semhier")
    if run is None or not result.task.forecast or result.reader.codec.whole_image:
        return None
    camera, world = result.cameras[0], result.worlds[0]
    given = split_cameras(run.answers, len(result.cameras))[0]
    first = busiest(np.array([len(truth) for truth in world.truths]), world.instants)
    last = min(first + SECONDS, float(world.instants[-1]))
    instants = first + np.arange(int((last - first) * RATE + 1e-6) + 1) / RATE
    scenes = scenes_at(given, instants, camera.size, result.reader.codec.taxonomy)
    readings = newest_at(given, instants, 0)
    judged = np.flatnonzero((world.instants >= first - 1e-6) & (world.instants <= last + 1e-6))
    judged = judged[:: -(-len(judged) // MOST_PICTURES)]
    behind = np.searchsorted(world.instants[judged], instants + 1e-6, side="right") - 1
    rows = []
    for now, place, reading, scene in zip(instants.tolist(), behind.tolist(), readings, scenes, strict=True):
        age = None if reading is None else round((now - reading.stamp_ns / 1e9) * 1e3)
        seen = () if reading is None else reading.detections
        told = [_row(item) for item in scene.objects if item.existence >= LEAST_SCORE]
        rows.append([round(now, 3), place, _boxes(world.truths[judged[place]]), _boxes(seen), age, told])
    images = (result.image_at(now) for now in world.instants[judged].tolist())
    pictures = [data_uri(webp(image, WIDTH, QUALITY)) for image in images]
    return {"size": list(camera.size), "pictures": pictures, "instants": rows}


def busiest(objects: NDArray[np.int64], instants: NDArray[np.float64]) -> float:
    """Where the SECONDS begin in which most objects are seen; the first instant of a shorter run."""
    ends = np.searchsorted(instants, instants + SECONDS, side="right")
    whole = ends < len(instants)
    if not whole.any():
        return float(instants[0])
    sums = np.concatenate([[0], np.cumsum(objects)])
    mean = (sums[ends] - sums[:-1]) / (ends - np.arange(len(ends)))
    return float(instants[int(np.where(whole, mean, -1.0).argmax())])


def _boxes(found: Sequence[Detection]) -> list[list[Any]]:
    return [_row(item) for item in found if item.scores[0] >= LEAST_SCORE]


def _row(item: Detection | TrackedObject) -> list[Any]:
    return [*(round(side) for side in item.box), item.names[-1]]
