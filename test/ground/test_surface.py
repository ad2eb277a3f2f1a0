"""Depth images and point clouds: a person measured in front of a wall, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from semhier_ros.codec.reading import Detection
from semhier_ros.ground import GroundError, Lens, Located, Mount, locate
from semhier_ros.ground.render import box_of, outline, to_picture
from semhier_ros.ground.sizes import SIZES
from semhier_ros.ground.surface import cloud_points, depth_points, measured

LENS, MOUNT = Lens(320, 240, 250, 250, 159.5, 119.5), Mount.level(1.0)
PERSON = SIZES["person"]


def found(x: float, y: float) -> Located:
    box = box_of(LENS, MOUNT, outline(PERSON, x, y, 0.0))
    assert box is not None
    (located,) = locate([Detection(0, box, (0,), ("person",), (0.9,))], LENS, MOUNT)
    return located


def depth_image(x: float, y: float) -> np.ndarray:
    """Metres along the optical axis: a person's front at x - 0.2, a wall at 12 m, the ground between."""
    columns, rows = np.meshgrid(np.arange(LENS.width), np.arange(LENS.height))
    pixels = np.stack([columns.ravel(), rows.ravel()], axis=1).astype(float)
    rays = LENS.rays(pixels)[0] @ MOUNT.rotation.T
    down = np.where(rays[:, 2] < -1e-3, MOUNT.height / np.maximum(-rays[:, 2], 1e-3), 1e9)
    depth = np.minimum(down * rays[:, 0], 12.0)
    x0, y0, x1, y1 = box_of(LENS, MOUNT, outline(PERSON, x, y, 0.0))  # type: ignore[misc]
    inside = (pixels[:, 0] > x0) & (pixels[:, 0] < x1) & (pixels[:, 1] > y0) & (pixels[:, 1] < y1)
    body = np.abs(pixels[:, 0] - (x0 + x1) / 2) < 0.35 * (x1 - x0)
    depth[inside & body] = x - PERSON.length / 2
    return depth.reshape(LENS.height, LENS.width)


@pytest.mark.parametrize("encoding", ["32FC1", "16UC1"])
def test_a_depth_image_says_how_far_a_person_is(encoding: str) -> None:
    depth = depth_image(6.0, 0.8)
    image = depth.astype(np.float32) if encoding == "32FC1" else np.rint(depth * 1000).astype(np.uint16)
    located = found(6.0, 0.8)
    better = measured(located, depth_points(image, encoding, LENS, located.detection.box), MOUNT)
    assert better is not None
    assert better.method == "depth"
    assert math.hypot(better.x - 6.0, better.y - 0.8) < 0.15
    assert better.covariance[0] < 0.2


def test_holes_of_a_depth_image_are_left_out() -> None:
    image = depth_image(6.0, 0.0).astype(np.float32)
    located = found(6.0, 0.0)
    image[::2] = np.nan
    image[:, ::3] = 0.0
    image[:, ::7] = np.inf
    better = measured(located, depth_points(image, "32FC1", LENS, located.detection.box), MOUNT)
    assert better is not None
    assert abs(better.range - 6.0) < 0.15
    nothing = depth_points(np.full_like(image, np.nan), "32FC1", LENS, located.detection.box)
    assert measured(located, nothing, MOUNT) is None


def test_a_cloud_says_how_far_a_person_is_and_leaves_the_ground_out() -> None:
    rng = np.random.default_rng(3)
    front = np.column_stack([np.full(300, 5.8), rng.uniform(-0.2, 0.2, 300), rng.uniform(0, 1.7, 300)])
    ground = np.column_stack([rng.uniform(2, 12, 2000), rng.uniform(-3, 3, 2000), np.zeros(2000)])
    behind = np.column_stack([np.full(500, -4.0), rng.uniform(-3, 3, 500), rng.uniform(0, 2, 500)])
    located = found(6.0, 0.0)
    cloud = np.concatenate([front, ground, behind])
    better = measured(located, cloud_points(cloud, LENS, MOUNT, located.detection.box), MOUNT)
    assert better is not None
    assert math.hypot(better.x - 6.0, better.y) < 0.1
    assert measured(located, cloud_points(behind, LENS, MOUNT, located.detection.box), MOUNT) is None


def test_points_of_a_depth_image_lie_where_they_were_measured() -> None:
    image = np.full((LENS.height, LENS.width), 3.0, np.float32)
    points = depth_points(image, "32FC1", LENS, (40, 30, 200, 180))
    assert np.allclose(points[:, 2], 3.0)
    pixels, seen = to_picture(LENS, MOUNT, points @ MOUNT.rotation.T + MOUNT.position)
    assert seen.all()
    assert pixels.min() > 30


@pytest.mark.parametrize(
    ("image", "encoding", "said"),
    [
        (np.zeros((240, 320), np.uint8), "mono8", "encoding 'mono8', expected 16UC1"),
        (np.zeros((120, 160), np.uint16), "16UC1", "160x120 pixels, but the pictures have 320x240"),
        (np.zeros((240, 320, 3), np.uint16), "16UC1", "0x0 pixels"),
    ],
)
def test_another_size_or_encoding_is_refused(image: np.ndarray, encoding: str, said: str) -> None:
    with pytest.raises(GroundError, match=said):
        depth_points(image, encoding, LENS, (10, 10, 40, 80))
