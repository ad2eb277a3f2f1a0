"""Places by number: what `locate` said before it was made fast it says still, whatever else stands in the frame.

golden/places.json is written by `SEMHIER_WRITE_GOLDEN=1 pytest test/ground/test_places.py`, when the model of the error
changes; review the difference.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from semhier_ros.codec.reading import Detection
from semhier_ros.ground import BoxError, Lens, Located, Mount, locate

GOLDEN = Path(__file__).parent / "golden" / "places.json"
LENSES = (
    Lens(640, 480, 500, 500, 319.5, 239.5),
    Lens(640, 480, 500, 500, 319.5, 239.5, "plumb_bob", (-0.28, 0.07, 0.0003, -0.0002, 0.01)),
    Lens(1280, 720, 610, 611, 640, 362, "rational_polynomial", (0.42, -2.75, 6e-4, -2e-4, 1.6, 0.3, -2.57, 1.52)),
    Lens(800, 600, 260, 261, 400, 300, "equidistant", (0.02, -0.01, 0.004, -0.0005)),
)
MOUNTS = (
    Mount.level(1.2, pitch=0.1, tilt_sigma=0.01, height_sigma=0.02),
    Mount.level(2.0, 0.2, roll=0.05, yaw=0.7, x=1.5, y=-0.4, tilt_sigma=0.03, height_sigma=0.1),
)
READ = ((0.03, 0.4), (0.01, 0.1))
ERRORS = (
    BoxError(0.2, 0.12, cell=16.0, foot=(0.02, 0.5), top=(0.02, 0.5)),
    BoxError(0.2, 0.12, READ, READ, foot=(0.12, 1.0), top=(0.1, 1.0), middle=(0.1, 1.0), half=(0.08, 1.0)),
    BoxError(0.2, 0.12, READ, READ, foot=(0.03, 0.7), top=(0.03, 0.7), middle=(0.03, 0.7), foot_cell=0.03),
)
NAMES = ("person", "car", "vehicle", "unheard of", "bus", "bicycle")
COLUMNS = ("x", "y", "near", "range", "bearing", "length", "width", "height", "heading")
COUNT = 12


class Scene(NamedTuple):
    """What one call is asked."""

    detections: list[Detection]
    lens: Lens
    mount: Mount
    options: dict[str, Any]

    def part(self, rows: list[int]) -> list[Located]:
        """Where some of the detections stand."""
        options = {
            name: value[rows] if isinstance(value, np.ndarray) else value for name, value in self.options.items()
        }
        return locate([self.detections[row] for row in rows], self.lens, self.mount, **options)


def scenes() -> list[Scene]:
    """A scene for each lens and mount, by a generator whose numbers no release of numpy changes."""
    chance = np.random.RandomState(18)
    found = []
    for number, lens in enumerate(lens for lens in LENSES for _ in MOUNTS):
        mount, error = MOUNTS[number % len(MOUNTS)], ERRORS[number % len(ERRORS)]
        distance = chance.uniform(3, 50, COUNT)
        foot = lens.height / 2 + chance.normal(0, 15, COUNT) + lens.fx * mount.height / distance
        tall = lens.fx * chance.uniform(0.5, 3, COUNT) / distance
        half, middle = tall * chance.uniform(0.1, 1.5, COUNT), chance.uniform(0, lens.width, COUNT)
        boxes = np.stack([middle - half, foot - tall, middle + half, foot], axis=1)
        boxes = np.clip(boxes, 0, (lens.width, lens.height) * 2)
        boxes[0] = 0, 0, lens.width, lens.height
        names = chance.randint(0, len(NAMES), COUNT)
        detections = [
            Detection(row, tuple(box), (0,), (NAMES[name],), (0.9,))
            for row, (box, name) in enumerate(zip(boxes.tolist(), names, strict=True))
        ]
        options: dict[str, Any] = {"prefix": number % 2, "error": error}
        if number % 2:
            options |= {
                "rates": chance.normal(0, 30, (COUNT, 4)),
                "rate_sigma": np.abs(chance.normal(0, 5, (COUNT, 4))),
                "forecast_sigma": np.abs(chance.normal(0, 2, (COUNT, 4))),
            }
        found.append(Scene(detections, lens, mount, options))
    return found


def told(found: Located) -> dict[str, Any]:
    """All that is said of an object, as JSON has it."""
    numbers = [float(getattr(found, name)) for name in COLUMNS]
    spreads = [*found.covariance, *(found.velocity or ()), *(found.velocity_covariance or ())]
    return {"id": found.detection.id, "method": found.method, "place": numbers, "spreads": spreads}


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (one["id"], one["method"]) == (other["id"], other["method"])
    for name in ("place", "spreads"):  # what cancels in a covariance is as small as its rounding
        left, right = np.array(one[name]), np.array(other[name])
        assert np.abs(left - right).max() <= 1e-9 * max(np.abs(left).max(), 1.0)


def test_places_are_those_of_the_golden_file() -> None:
    ours = [[told(found) for found in scene.part(list(range(COUNT)))] for scene in scenes()]
    if os.environ.get("SEMHIER_WRITE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text("[\n" + ",\n".join(json.dumps(one) for scene in ours for one in scene) + "\n]\n")
    golden = json.loads(GOLDEN.read_text())
    flat = [one for scene in ours for one in scene]
    assert len(flat) == len(golden) > 60
    assert {one["method"] for one in flat} == {"ground", "size", "edge"}
    for one, other in zip(flat, golden, strict=True):
        same(one, other)


def test_an_object_is_placed_as_if_it_were_alone() -> None:
    for scene in scenes():
        together = {found.detection.id: told(found) for found in scene.part(list(range(COUNT)))}
        alone = [found for row in range(COUNT) for found in scene.part([row])]
        assert together.keys() == {found.detection.id for found in alone}
        for found in alone:
            same(together[found.detection.id], told(found))
