"""Any common camera: 4:3 to 21:9, 320x180 to 1920x1080, grey and Bayer; boxes always in the source's own pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest
from street import street_frame

from semhier_ros.codec.canvas import Canvas
from semhier_ros.codec.reading import Detection

SIZES = [
    (320, 180),  # 16:9
    (320, 240),  # 4:3
    (640, 272),  # 21:9
    (800, 600),
    (1280, 720),
    (1280, 960),
    (1280, 1024),  # 5:4
    (1920, 823),  # 21:9
    (1920, 1080),
    (480, 640),  # upright
    (321, 181),
]


def view(size: tuple[int, int]) -> tuple[np.ndarray, float, tuple[float, float]]:
    """The street as a camera of `size` (w, h) sees it whole, with bars; its scale and where its corner lies."""
    street = street_frame()
    scale = min(size[0] / street.shape[1], size[1] / street.shape[0])
    width, height = min(size[0], round(street.shape[1] * scale)), min(size[1], round(street.shape[0] * scale))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    whole = np.full((size[1], size[0], 3), 90, np.uint8)
    whole[top : top + height, left : left + width] = cv2.resize(street, (width, height), interpolation=method)
    return whole, scale, (left, top)


def read(codec: Any, picture: np.ndarray) -> tuple[Detection, ...]:
    decoder = codec.decoder((picture.shape[1], picture.shape[0]))
    readings = [decoder.push(block) for block in codec.encode(picture, blocks=codec.semantic_blocks)]
    return readings[-1].detections


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    inner = np.clip(high - low, 0, None).prod()
    areas = [np.prod(np.subtract(box[2:], box[:2])) for box in (one, other)]
    return float(inner / (sum(areas) - inner))


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_plainest_vehicle_is_where_it_is_in_every_camera(codec: Any, size: tuple[int, int]) -> None:
    plainest = max(read(codec, street_frame()), key=lambda item: item.scores[0])
    picture, scale, corner = view(size)
    wanted = np.asarray(plainest.box) * scale + np.array([*corner, *corner])
    found = read(codec, picture)
    assert found
    for item in found:
        x0, y0, x1, y1 = item.box
        assert 0 <= x0 < x1 <= size[0]
        assert 0 <= y0 < y1 <= size[1]
    assert max(overlap(item.box, wanted) for item in found) > 0.5, f"the vehicle at {wanted.round()}"


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_boxes_go_to_the_canvas_and_back(codec: Any, size: tuple[int, int]) -> None:
    canvas = Canvas(*codec.model.view_size, source=size)
    width, height = canvas.used
    assert abs(width / height - size[0] / size[1]) < 0.02 * size[0] / size[1], "the picture keeps its shape"
    assert canvas.width == width or canvas.height == height, "one side fills the canvas"
    box = np.array([[0.1 * size[0], 0.2 * size[1], 0.7 * size[0], 0.9 * size[1]]], np.float32)
    assert canvas.to_source(box * np.float32(canvas.scale)) == pytest.approx(box, rel=1e-5)
    placed = canvas.place(np.full((size[1], size[0], 3), 200, np.uint8))
    assert placed.shape == (canvas.height, canvas.width, 3)
    assert (placed[:height, :width] == 200).all()
    assert canvas.lift(placed).shape == (size[1], size[0], 3)


def test_the_picture_comes_back_in_the_cameras_size(codec: Any) -> None:
    for size in ((320, 240), (1920, 823)):
        picture, _, _ = view(size)
        decoder = codec.decoder(size)
        for block in codec.encode(picture):
            decoder.push(block)
        shown = decoder.picture(0)
        assert shown.shape == picture.shape
        assert np.abs(shown.astype(float) - picture).mean() < 30


def bayer(rgb: np.ndarray, pattern: str) -> np.ndarray:
    """What a sensor behind a Bayer filter sees of the picture."""
    raw = np.zeros(rgb.shape[:2], np.uint8)
    for place, colour in enumerate(pattern):
        raw[place // 2 :: 2, place % 2 :: 2] = rgb[place // 2 :: 2, place % 2 :: 2, "rgb".index(colour)]
    return raw


@pytest.mark.parametrize("encoding", ["mono8", "mono16", "bayer_rggb8", "bayer_gbrg8", "bayer_bggr16"])
def test_grey_and_bayer_cameras_see_the_same_vehicle(codec: Any, encoding: str) -> None:
    pytest.importorskip("sensor_msgs.msg", reason="the messages of cameras come with ROS 2")
    from sensor_msgs.msg import Image

    from semhier_ros.camera.images import image_to_rgb

    street = street_frame()
    plainest = max(read(codec, street), key=lambda item: item.scores[0])
    plane = bayer(street, encoding[6:10]) if encoding.startswith("bayer") else cv2.cvtColor(street, cv2.COLOR_RGB2GRAY)
    if encoding.endswith("16"):
        plane = plane.astype(np.uint16) << 8
    message = Image(height=plane.shape[0], width=plane.shape[1], encoding=encoding, step=plane.strides[0])
    message.data = plane.tobytes()
    found = read(codec, image_to_rgb(message))
    assert max(overlap(item.box, plainest.box) for item in found) > 0.5
    assert all(item.box[2] <= street.shape[1] and item.box[3] <= street.shape[0] for item in found)
