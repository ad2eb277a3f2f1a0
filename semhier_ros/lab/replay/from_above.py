"""A replay seen from above: where the receiver thinks that objects stand at each instant, and how wrong that is.

Needs to be told how the camera is mounted (`--ground`), and knows its lens from the bag's CameraInfo or `--lens`. The
truth of an instant (labels, or what the same network reads on the uncompressed frame) is placed through the same lens
onto the same plane: errors are those of boxes and of their age, not those of a ground that is no plane.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from semhier_ros.footage.lens import lens_of
from semhier_ros.ground import Located, Mount, locate
from semhier_ros.ground.errors_file import box_error_of
from semhier_ros.ground.locate import CHI2_95
from semhier_ros.lab.replay.measures import split_cameras
from semhier_ros.lab.replay.work import Result
from semhier_ros.lab.scoring.streaming import newest_at, overlaps, pairs_of

MOST_INSTANTS, LEAST_SCORE, REACH = 400, 0.35, 60.0


def from_above(result: Result) -> dict[str, Any] | None:
    """What the page plays, and `errors` in metres; None where nobody said how the camera is mounted.

    `instants`: rows [seconds, [[x, y, ellipse's half axes and turn, name], …], [[x, y, name], …]] of the reading then
    (metres ahead and to the left) and of the truth.
    """
    run = result.runs.get("semhier")
    if result.task.ground is None or run is None or result.reader.codec.whole_image:
        return None
    height, pitch = result.task.ground
    lens, mount = lens_of(result.cameras[0], result.task.lens), Mount.level(height, math.radians(pitch))
    error = box_error_of(result.reader.codec, result.cameras[0].size)
    world = result.worlds[0]
    step = max(1, len(world.instants) // MOST_INSTANTS)
    places = range(0, len(world.instants), step)
    answers = newest_at(split_cameras(run.answers, len(result.cameras))[0], world.instants[::step], 0)
    rows, pairs = [], []
    for place, answer in zip(places, answers, strict=True):
        truth = locate(world.truths[place], lens, mount, max_range=2 * REACH)
        sure = [] if answer is None else [item for item in answer.detections if item.scores[0] >= LEAST_SCORE]
        seen = locate(
            sure, lens, mount, prefix=0 if answer is None else answer.prefix, error=error, max_range=2 * REACH
        )
        pairs += _same(seen, truth)
        told = [[*_rounded(item.x, item.y), *_axes(item), item.name] for item in seen if item.range <= REACH]
        real = [[*_rounded(item.x, item.y), item.name] for item in truth if item.range <= REACH]
        rows.append([round(float(world.instants[place]), 2), told, real])
    half = math.atan2(lens.width / 2, lens.fx)
    return {"reach": REACH, "half": round(half, 3), "instants": rows, "errors": errors(pairs)}


def errors(pairs: Sequence[tuple[Located, Any]]) -> dict[str, float]:
    """Of readings beside the truth (`x`, `y`, `near` and `bearing`): how many; the medians of their range error (share
    of the range), bearing error (degrees) and distance (metres); and the share of 95 % ellipses that hold the truth."""
    if not pairs:
        return {"objects": 0}
    inside = []
    for seen, real in pairs:
        away = np.array([seen.x - real.x, seen.y - real.y])
        inside.append(away @ np.linalg.inv(np.array(seen.covariance).reshape(2, 2)) @ away <= CHI2_95)
    return {
        "objects": len(pairs),
        "range": float(np.median([abs(seen.near / real.near - 1) for seen, real in pairs])),
        "bearing": math.degrees(float(np.median([abs(seen.bearing - real.bearing) for seen, real in pairs]))),
        "metres": float(np.median([math.hypot(seen.x - real.x, seen.y - real.y) for seen, real in pairs])),
        "inside": float(np.mean(inside)),
    }


def _same(seen: Sequence[Located], truth: Sequence[Located]) -> list[tuple[Located, Located]]:
    """Each object of the truth with the reading that overlaps it most, if by half at least; a reading counts once."""
    shares = overlaps(*([item.detection for item in items] for items in (seen, truth)))
    return [(seen[row], truth[column]) for row, column in pairs_of(shares)]


def _axes(item: Located) -> list[float]:
    """Half axes in metres and turn in radians of the 95 % ellipse."""
    values, vectors = np.linalg.eigh(np.array(item.covariance).reshape(2, 2))
    turn = math.atan2(vectors[1, 1], vectors[0, 1])
    return _rounded(math.sqrt(values[1] * CHI2_95), math.sqrt(values[0] * CHI2_95), turn)


def _rounded(*numbers: float) -> list[float]:
    return [round(float(number), 2) for number in numbers]
