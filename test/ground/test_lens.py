"""Lenses: every ray comes back to its pixel, as OpenCV has it, or is said to be unknown."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semhier_ros.ground import GroundError, Lens

LENSES = {
    "no distortion": Lens(640, 480, 500, 505, 320.5, 238.0),
    "plumb_bob": Lens(640, 480, 500, 505, 320.5, 238.0, "plumb_bob", (-0.28, 0.07, 0.0003, -0.0002, 0.01)),
    "rational_polynomial": Lens(
        1280, 720, 610, 611, 640, 362, "rational_polynomial", (0.42, -2.75, 6e-4, -2e-4, 1.6, 0.3, -2.57, 1.52)
    ),
    "equidistant": Lens(800, 600, 260, 261, 400, 300, "equidistant", (0.02, -0.01, 0.004, -0.0005)),
}


def grid(lens: Lens) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0, lens.width - 1, 13), np.linspace(0, lens.height - 1, 11))
    return np.stack([x.ravel(), y.ravel()], axis=1)


@pytest.mark.parametrize("name", LENSES)
def test_every_pixel_of_the_picture_comes_back(name: str) -> None:
    lens = LENSES[name]
    rays, known = lens.rays(grid(lens))
    assert known.all()
    assert np.allclose(np.linalg.norm(rays, axis=1), 1)
    pixels, seen = lens.project(rays * 7.5)
    assert seen.all()
    assert np.abs(pixels - grid(lens)).max() < 1e-5


@pytest.mark.parametrize("name", LENSES)
def test_points_fall_where_opencv_says(name: str) -> None:
    lens = LENSES[name]
    points = np.random.default_rng(1).uniform((-2, -1.5, 3), (2, 1.5, 9), (50, 3))
    matrix = np.array([[lens.fx, 0, lens.cx], [0, lens.fy, lens.cy], [0, 0, 1]], float)
    still = np.zeros(3)
    project = cv2.fisheye.projectPoints if lens.model == "equidistant" else cv2.projectPoints
    coefficients = np.array(lens.coefficients or (0.0,) * 5)
    if lens.model == "equidistant":
        wanted, _ = project(points[:, None], still, still, matrix, coefficients)
    else:
        wanted, _ = project(points, still, still, matrix, coefficients)
    pixels, seen = lens.project(points)
    assert seen.all()
    assert np.abs(pixels - wanted.reshape(-1, 2)).max() < 1e-9


def test_a_fisheye_sees_beside_itself_and_a_pinhole_does_not() -> None:
    beside = np.array([[1.0, 0.0, -0.2], [1.0, 0.0, 0.0]])
    assert LENSES["equidistant"].project(beside)[1].all()
    assert not LENSES["plumb_bob"].project(beside)[1].any()
    wide = Lens(800, 800, 200, 200, 400, 400, "equidistant")
    rays, known = wide.rays(np.array([[400 + 200 * np.radians(100), 400.0]]))
    assert known.all()
    assert np.allclose(rays[0], [np.sin(np.radians(100)), 0, np.cos(np.radians(100))])


def test_where_a_distortion_has_no_inverse_nothing_is_said() -> None:
    barrel = Lens(640, 480, 300, 300, 320, 240, "plumb_bob", (-0.4, 0.0, 0.0, 0.0, 0.0))
    rays, known = barrel.rays(np.array([[320.0, 240.0], [2000.0, 240.0], [np.nan, 3.0]]))
    assert known.tolist() == [True, False, False]
    assert np.isfinite(rays).all()


@settings(max_examples=200, derandomize=True)
@given(
    st.sampled_from(sorted(LENSES)),
    st.lists(st.tuples(st.floats(), st.floats()), min_size=1, max_size=5),
)
def test_no_pixel_makes_a_ray_that_is_no_number(name: str, pixels: list[tuple[float, float]]) -> None:
    rays, known = LENSES[name].rays(np.array(pixels))
    assert np.isfinite(rays).all()
    assert len(known) == len(pixels)


def calibration(**changes: object) -> Lens:
    given: dict[str, object] = {
        "size": (640, 480),
        "k": [500, 0, 320, 0, 510, 240, 0, 0, 1],
        "d": [-0.2, 0.05, 0, 0, 0],
        "model": "plumb_bob",
    }
    return Lens.of_camera_info(**(given | changes))  # type: ignore[arg-type]


def test_a_camera_info_is_read_with_binning_region_and_scale() -> None:
    plain = calibration()
    assert (plain.fx, plain.fy, plain.cx, plain.cy, plain.coefficients) == (500, 510, 320, 240, (-0.2, 0.05, 0, 0, 0))
    half = calibration(picture=(320, 240))
    assert (half.width, half.fx, half.cx) == (320, 250, 159.75)  # pixel middles lie at whole numbers
    binned = calibration(binning=(2, 2))
    assert (binned.width, binned.fx, binned.cx) == (320, 250, 159.75)
    cut = calibration(roi=(100, 40, 200, 100))
    assert (cut.width, cut.height, cut.cx, cut.cy) == (200, 100, 220, 200)
    rectified = calibration(p=[480, 0, 300, 0, 0, 481, 235, 0, 0, 0, 1, 0], rectified=True)
    assert (rectified.fx, rectified.fy, rectified.cx, rectified.cy, rectified.coefficients) == (480, 481, 300, 235, ())
    assert calibration(d=[], model="").coefficients == ()
    assert calibration(d=[0.1, 0.2, 0.3, 0.4]).coefficients == (0.1, 0.2, 0.3, 0.4, 0.0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"k": [0.0] * 9}, "focal lengths 0, 0: the camera is not calibrated"),
        ({"k": [float("nan")] * 9}, "k: .* expected 9 finite numbers"),
        ({"k": [500, 0, 320]}, "expected 9 finite numbers"),
        ({"k": [-5, 0, 320, 0, 510, 240, 0, 0, 1]}, "fx: -5, expected a focal length above 0"),
        ({"model": "cylindrical"}, "distortion_model: 'cylindrical', expected plumb_bob"),
        ({"d": [0.1] * 8}, "d: 8 coefficients, plumb_bob has 5"),
        ({"d": [float("inf")] * 5}, "d: .* expected finite numbers"),
        ({"size": (0, 0)}, "camera_info: 0x0 pixels"),
        ({"picture": (640, 360)}, "640x480 pixels, but the pictures have 640x360"),
    ],
)
def test_what_is_no_calibration_is_refused_in_one_line(changes: dict[str, object], said: str) -> None:
    with pytest.raises(GroundError, match=said) as caught:
        calibration(**changes)
    assert "\n" not in str(caught.value)


def test_the_world_beside_a_strong_lens_is_not_folded_into_its_picture() -> None:
    barrel = Lens(640, 480, 300, 300, 320, 240, "plumb_bob", (-0.4, 0.0, 0.0, 0.0, 0.0))
    pixels, seen = barrel.project(np.array([[0.5, 0.0, 1.0], [1.5, 0.0, 1.0]]))
    assert seen.tolist() == [True, False]  # the formula alone would put the second into the picture's left half
    assert np.isfinite(pixels).all()
