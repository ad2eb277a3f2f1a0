"""What a forecast at the receiver is worth: any codec's answers foretold to every instant, and how far off they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from semhier_ros.codec.reading import Detection, Reading, Scene, TrackedObject
from semhier_ros.lab.replay.base import Answer
from semhier_ros.lab.scoring.streaming import overlap
from semhier_ros.scene.forecast import ELLIPSE
from semhier_ros.scene.living import JITTER, JITTER_PIXELS, LivingScene
from semhier_ros.taxonomy import Taxonomy

SAME = 0.1
"""Overlap from which a foretold box and a detected one are taken to be the same object's, for errors of place."""
SLOPE_SECONDS = 0.15
"""Half the time over which the full-rate detector's boxes tell a velocity."""


def scenes_at(
    answers: Sequence[Answer], instants: NDArray[np.float64], size: tuple[int, int], taxonomy: Taxonomy
) -> Iterator[Scene]:
    """One camera's scene at every instant, from the answers that were ready by then."""
    living = LivingScene.of(taxonomy, size)
    ordered, place = sorted(answers, key=lambda item: item.ready), 0
    for now in instants.tolist():
        while place < len(ordered) and ordered[place].ready <= now:
            item = ordered[place]
            reading = Reading(item.number, item.prefix, item.level, item.detections, 0, True)
            living.follow(item.stamp_ns, reading)
            place += 1
        yield living.at(round(now * 1e9))


def foretold(
    answers: Sequence[Answer], instants: NDArray[np.float64], size: tuple[int, int], taxonomy: Taxonomy, camera: int = 0
) -> list[Answer]:
    """The same scenes as answers about those instants."""
    last, times = taxonomy.depth - 1, instants.tolist()
    return [
        Answer(camera, number, scene.stamp_ns, now, now, last, last, detections_of(scene), "forecast")
        for number, (now, scene) in enumerate(zip(times, scenes_at(answers, instants, size, taxonomy), strict=True))
    ]


def detections_of(scene: Scene) -> tuple[Detection, ...]:
    """A scene's objects as a reading has them."""
    return tuple(Detection(item.id, item.box, item.path, item.names, item.scores) for item in scene.objects)


@dataclass
class Errors:
    """How far off a living scene is, gathered over instants: `inside` the 95 % ellipse, `misses` of the centre in
    sides, errors of velocity in pixels/s, `sure`: whether within its 95 % ellipse, and of saying that nothing moves."""

    inside: list[bool] = field(default_factory=list)
    misses: list[float] = field(default_factory=list)
    velocity: list[float] = field(default_factory=list)
    sure: list[bool] = field(default_factory=list)
    still: list[float] = field(default_factory=list)

    def add(self, scene: Scene, truth: Sequence[Detection], velocities: dict[int, NDArray[np.float64]]) -> None:
        """Compares a scene with what the detector saw at that instant; `velocities` of its detections, where known."""
        for item, true in pairs(scene.objects, truth):
            low, high = np.array(true.box[:2]), np.array(true.box[2:])
            side = high - low
            gone = (low + high - np.array(item.box[:2]) - np.array(item.box[2:])) / 2
            xx, xy, yy = item.covariance
            spread = np.array([[xx, xy], [xy, yy]]) + np.diag((JITTER * side) ** 2 + JITTER_PIXELS**2)
            self.inside.append(bool(gone @ np.linalg.solve(spread, gone) <= ELLIPSE))
            self.misses.append(float(np.hypot(*gone) / np.sqrt(side.prod())))
            if true.id in velocities:
                wrong = np.array(item.velocity) - velocities[true.id]
                self.velocity.append(float(np.hypot(*wrong)))
                xx, xy, yy = item.velocity_covariance
                self.sure.append(
                    bool(
                        yy * wrong[0] ** 2 - 2 * xy * wrong[0] * wrong[1] + xx * wrong[1] ** 2
                        <= ELLIPSE * (xx * yy - xy**2)
                    )
                )
                self.still.append(float(np.hypot(*velocities[true.id])))

    def as_dict(self) -> dict[str, Any]:
        """Counts, share inside, medians and means."""
        return {
            "objects": len(self.inside),
            "inside_ellipse95": round(float(np.mean(self.inside)), 4) if self.inside else None,
            "centre_error_sides": _middle(self.misses),
            "velocity_error_px_s": _middle(self.velocity),
            "velocity_inside_ellipse95": round(float(np.mean(self.sure)), 4) if self.sure else None,
            "velocity_px_s": _middle(self.still),
        }


def _middle(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {"median": round(float(np.median(values)), 3), "mean": round(float(np.mean(values)), 3)}


def pairs(objects: Sequence[TrackedObject], truth: Sequence[Detection]) -> list[tuple[TrackedObject, Detection]]:
    """Objects and detections that are the same, by the largest overlap in all."""
    shown = [item for item in objects if item.age < 0.5]
    if not shown or not truth:
        return []
    shared = overlap(np.array([item.box for item in shown]), np.array([item.box for item in truth]))
    rows, columns = linear_sum_assignment(-shared)
    return [
        (shown[row], truth[column]) for row, column in zip(rows, columns, strict=True) if shared[row, column] > SAME
    ]


def velocities(
    readings: Sequence[tuple[Detection, ...]], times: Sequence[float], size: tuple[int, int], taxonomy: Taxonomy
) -> list[dict[int, NDArray[np.float64]]]:
    """Velocity (pixels/s) of detections by id, for each frame of a video read at full rate: the slope of the followed
    object's centre over the frames around."""
    living = LivingScene.of(taxonomy, size)
    tracks: dict[int, list[tuple[float, int, int, float, float]]] = defaultdict(list)
    for number, (found, now) in enumerate(zip(readings, times, strict=True)):
        steady = living.follow(round(now * 1e9), Reading(number, 0, 0, found, 0, True))
        for item, lasting in zip(found, steady.detections, strict=True):
            x0, y0, x1, y1 = item.box
            tracks[lasting.id].append((now, number, item.id, (x0 + x1) / 2, (y0 + y1) / 2))
    result: list[dict[int, NDArray[np.float64]]] = [{} for _ in readings]
    for track in tracks.values():
        table = np.array(track)
        for now, number, name, _, _ in track:
            near = table[np.abs(table[:, 0] - now) <= SLOPE_SECONDS]
            moments = near[:, 0] - near[:, 0].mean()
            if len(near) >= 3 and near[0, 0] < now < near[-1, 0]:
                result[number][name] = moments @ near[:, 3:] / (moments @ moments)
    return result
