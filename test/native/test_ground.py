"""Places on the ground from the compiled kernels, against the NumPy lines that define them."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from semhier_ros.api import Codec
from semhier_ros.codec.reading import Detection
from semhier_ros.ground import BoxError, Lens, Located, Mount, locate, ranges
from semhier_ros.ground.errors_file import box_error_of
from semhier_ros.native import kernels

MODULES = [importlib.import_module(f"semhier_ros.ground.{name}") for name in ("locate", "lens", "box_error")]
BROWN = (-0.3, 0.1, 0.001, -0.002, 0.01)
LENSES = [
    Lens(640, 480, 500.0, 500.0, 319.5, 239.5),
    Lens(640, 480, 500.0, 510.0, 310.0, 250.0, "plumb_bob", BROWN),
    Lens(640, 480, 500.0, 510.0, 310.0, 250.0, "rational_polynomial", (*BROWN, 0.02, 0.01, 0.003)),
    Lens(640, 480, 300.0, 300.0, 319.5, 239.5, "equidistant", (0.01, 0.002, 0.0, 0.0)),
]
ERROR = BoxError(
    size_step=0.2, offset_step=0.1, foot=(0.02, 1.0), top=(0.02, 1.0), middle=(0.01, 0.5), half=(0.02, 0.5), cell=8.0
)
NAMES = ("vehicle", "person", "car", "bus", "something else")


def frame(rng: np.random.Generator) -> tuple[list[Detection], Mount, dict[str, Any]]:
    """Boxes in and around a picture, a mount, and what else `locate` is told."""
    count = int(rng.integers(1, 25))
    corners = rng.uniform((-20, -20), (600, 440), (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 200, (count, 2))], axis=1)
    named = [((0,), (str(name),), (0.9,)) for name in rng.choice(NAMES, count)]
    detections = [
        Detection(i, tuple(box), *rest) for i, (box, rest) in enumerate(zip(boxes.tolist(), named, strict=True))
    ]
    height, pitch, roll, yaw = rng.uniform((0.3, -0.2, -0.1, -3.0), (3.0, 0.4, 0.1, 3.0))
    sigmas = {"tilt_sigma": rng.choice([0.0, 0.02]), "height_sigma": rng.choice([0.0, 0.05])}
    told: dict[str, Any] = {"error": [None, ERROR][rng.integers(2)], "max_range": float(rng.uniform(20, 200))}
    if rng.integers(2):
        told["forecast_sigma"] = rng.uniform(0, 5, (count, 4))
        told |= {"rates": rng.normal(0, 30, (count, 4)), "rate_sigma": rng.uniform(0, 9, (count, 4))}
    return detections, Mount.level(height, pitch, roll, yaw, 1.0, -2.0, **sigmas), told


def numbers(item: Located) -> list[float]:
    return [*item[1:6], *item.covariance, *item[7:11], *(item.velocity or ()), *(item.velocity_covariance or ())]


@pytest.mark.parametrize("lens", LENSES, ids=lambda lens: lens.model + "*" * bool(lens.coefficients))
def test_places_are_those_of_numpy(lens: Lens, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the order of sums: a narrow ellipse is a small difference of large numbers."""
    rng, methods = np.random.default_rng(3), set()
    for _ in range(40):
        detections, mount, told = frame(rng)
        still = {name: one for name, one in told.items() if "rate" not in name}
        found, far = locate(detections, lens, mount, **told), ranges(detections, lens, mount, **still)
        with monkeypatch.context() as without:
            for module in MODULES:
                without.setattr(module, "kernels", None)
            expected = locate(detections, lens, mount, **told)
            assert ranges(detections, lens, mount, **still) == pytest.approx(far, rel=1e-9)
        assert [(item.detection, item.method) for item in found] == [(item.detection, item.method) for item in expected]
        for one, other in zip(found, expected, strict=True):
            assert numbers(one) == pytest.approx(numbers(other), rel=1e-7, abs=1e-9)
        methods |= {item.method for item in found}
    assert methods == {"ground", "size", "edge"}


@pytest.mark.parametrize("lens", LENSES[:3], ids=lambda lens: lens.model + "*" * bool(lens.coefficients))
def test_bundles_are_those_of_numpy_to_the_bit(lens: Lens, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    pixels = np.concatenate([rng.uniform(-500, 1200, (200, 2)), [[np.nan, 1.0], [np.inf, 1.0], [1e7, 3.0]]])
    found = lens.bundles(pixels)
    monkeypatch.setattr(MODULES[1], "kernels", None)
    for one, other in zip(found, lens.bundles(pixels), strict=True):
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("model", ["road", "street", "street+foot"])
def test_errors_of_boxes_are_those_of_numpy(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    corners = rng.uniform(0, 500, (30, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0, 90, (30, 2))], axis=1)
    shipped = box_error_of(Codec.load(model, device="cpu", threads=1), (640, 480))
    for error in (shipped, shipped.scaled(3.0), ERROR, BoxError()):
        found = [error.shares(boxes, prefix) for prefix in range(5)]
        with monkeypatch.context() as without:
            without.setattr(MODULES[2], "kernels", None)
            for prefix, one in enumerate(found):
                # how NumPy rounds the last bit of a root or a product hangs on the processor
                np.testing.assert_allclose(one, error.shares(boxes, prefix), rtol=1e-14)


def test_arrays_of_another_size_or_type_are_refused() -> None:
    assert kernels is not None
    lens, coefficients = (1.0, 1.0, 0.0, 0.0), (0.0,) * 8
    with pytest.raises(ValueError, match=r"pixels: shape \(3,3,\)"):
        kernels.bundles(np.zeros((3, 3)), lens, coefficients, 1.0)
    with pytest.raises(TypeError):
        kernels.bundles(np.zeros((3, 2), complex), lens, coefficients, 1.0)
    given = [np.zeros((2, 4)), np.zeros((4, 2, 3, 3)), np.ones((4, 2), bool), np.ones((2, 43)), np.zeros((2, 4, 18))]
    given += [np.zeros((21, 129)), np.ones((5, 129)), np.ones((2, 4, 5)), np.zeros((8, 33)), np.eye(3)]
    for place in range(len(given)):
        wrong = [array[:1] if place == number else array for number, array in enumerate(given)]
        with pytest.raises(ValueError, match=r"shape \("):
            kernels.places(*wrong, (0.0, 0.0, 1.0), (1.0, 0.0), (640.0, 480.0), (8.0, 6.0), 80.0)
