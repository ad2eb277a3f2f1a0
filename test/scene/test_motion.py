"""Motion from the sender: what the pictures show is measured, coded in a few bits, and believed by the receiver."""

from __future__ import annotations

from contextlib import suppress

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semhier_ros import Codec
from semhier_ros.codec.packet import PacketError
from semhier_ros.codec.reading import Detection, Reading
from semhier_ros.scene.living import LivingScene
from semhier_ros.scene.motion import CameraMotion, MotionEstimator, Moved
from semhier_ros.scene.names import Tree
from semhier_ros.scene.steering import MOST_OWN, MOST_SHIFT, MOST_TURN, read_motion, write_motion

SIZE = (640, 360)
STEP_NS = 40_000_000


def texture(seed: int, height: int, width: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def picture(shift: float, place: float) -> np.ndarray:
    """A wide ground seen `shift` pixels to the right, and a patch of 120 pixels with its left edge at `place`."""
    ground = texture(1, 480, 1200)
    view = cv2.warpAffine(ground, np.array([[1.0, 0, -200 - shift], [0, 1, -40]]), SIZE)
    patch = texture(2, 120, 120)
    mask = cv2.warpAffine(np.full((120, 120), 255, np.uint8), np.array([[1.0, 0, place], [0, 1, 120]]), SIZE)
    moved = cv2.warpAffine(patch, np.array([[1.0, 0, place], [0, 1, 120]]), SIZE)
    return np.where(mask[..., None] > 127, moved, view)


def test_the_cameras_motion_and_an_objects_own_are_told_apart() -> None:
    estimator = MotionEstimator()
    for frame in range(8):  # the ground goes left by 100 pixels/s, the patch right by 75
        estimator.watch(picture(4 * frame, 200 + 3 * frame), frame * STEP_NS)
    place = 200 + 3 * 7
    moved = estimator.measure(7 * STEP_NS, np.array([[place, 120, place + 120, 240], [20, 20, 120, 100]], float))
    assert moved is not None
    assert moved.camera.shift == pytest.approx((-100, 0), abs=8)
    assert abs(moved.camera.expansion) < 0.1
    assert abs(moved.camera.roll) < 0.1
    assert moved.own[0] == pytest.approx((175, 0), abs=15)
    assert moved.own[1] == pytest.approx((0, 0), abs=10)


def test_nothing_is_said_of_what_was_not_watched() -> None:
    estimator = MotionEstimator()
    boxes = np.array([[10.0, 10, 90, 90]])
    assert estimator.of(0).size is None
    estimator.watch(picture(0, 200), 0)
    assert estimator.measure(0, boxes) is None, "there is nothing before it"
    estimator.watch(picture(4, 200), STEP_NS)
    assert estimator.measure(2 * STEP_NS, boxes) is None, "never seen"
    estimator.watch(picture(4, 200), 2_000_000_000)
    assert estimator.measure(2_000_000_000, boxes) is None, "too long after the one before"
    estimator.watch(np.zeros((360, 640, 3), np.uint8), 2_040_000_000)
    assert estimator.measure(2_040_000_000, boxes) is None, "a dark picture has no corners"
    estimator.watch(picture(4, 200)[:180], 2_080_000_000)
    assert estimator.measure(2_080_000_000, boxes) is None, "another size begins anew"


def test_motion_has_golden_bytes() -> None:
    still = Moved(CameraMotion((0.0, 0.0), 0.0, 0.0), np.zeros((0, 2)), (640, 360))
    assert write_motion(still, np.zeros(0)).hex() == "93"
    camera = CameraMotion((-100.0, 15.0), 0.25, -0.0625)
    moved = Moved(camera, np.array([[0.0, 0.0], [60.0, -15.0], [0.0, 30.0]]), (640, 360))
    assert write_motion(moved, np.array([40.0, 60.0, 120.0])).hex() == "1624205443d0"


@st.composite
def motions(draw: st.DrawFn) -> tuple[Moved, np.ndarray]:
    count = draw(st.integers(0, 40))
    whole = st.integers(-MOST_OWN, MOST_OWN) | st.just(0)
    sides = np.array(draw(st.lists(st.floats(1, 2000), min_size=count, max_size=count)))
    steps = np.array(draw(st.lists(st.tuples(whole, whole), min_size=count, max_size=count)), float).reshape(-1, 2)
    shift = [draw(st.integers(-MOST_SHIFT, MOST_SHIFT)) * 640 / 128 for _ in range(2)]
    turn = [draw(st.integers(-MOST_TURN, MOST_TURN)) / 32 for _ in range(2)]
    return Moved(CameraMotion((shift[0], shift[1]), *turn), steps * sides[:, None] / 4, (640, 360)), sides


@settings(max_examples=300, derandomize=True)
@given(motions())
def test_what_is_written_is_read(case: tuple[Moved, np.ndarray]) -> None:
    moved, sides = case
    data = write_motion(moved, sides)
    told = read_motion(data, sides, moved.size)
    assert told.camera == moved.camera
    assert told.own == pytest.approx(moved.own)
    for wrong in (data + b"\0", data[:-1]):
        with pytest.raises(PacketError, match="motion"):
            read_motion(wrong, sides, moved.size)


@settings(max_examples=500, derandomize=True)
@given(st.binary(max_size=60), st.integers(0, 40))
def test_whatever_is_read_is_what_would_be_written(data: bytes, count: int) -> None:
    sides = np.full(count, 64.0)
    with suppress(PacketError):
        assert write_motion(read_motion(data, sides, (640, 360)), sides) == data


def test_what_is_faster_than_can_be_written_is_written_as_the_fastest() -> None:
    fast = Moved(CameraMotion((1e6, -1e6), 99.0, -99.0), np.array([[1e6, -1e6]]), (640, 360))
    told = read_motion(write_motion(fast, np.array([40.0])), np.array([40.0]), (640, 360))
    assert told.camera.shift == (MOST_SHIFT * 5.0, -MOST_SHIFT * 5.0)
    assert told.own[0].tolist() == [MOST_OWN * 10.0, -MOST_OWN * 10.0]


def test_a_receiver_follows_half_of_what_the_sender_tells_of_a_first_frame() -> None:
    scenes = {}
    for told in (None, (150.0, -30.0)):
        scene = LivingScene(SIZE, Tree([[0]], [("vehicle",)]))
        box = (200.0, 100.0, 260.0, 160.0)
        scene.follow(0, Reading(0, 0, 0, (Detection(0, box, (0,), ("vehicle",), (0.8,), (), told),), 9, True))
        (scenes[told],) = scene.at(100_000_000).objects
    assert scenes[None].box[0] == pytest.approx(200, abs=1)
    assert scenes[150.0, -30.0].box[0] == pytest.approx(207.5, abs=2)
    assert scenes[150.0, -30.0].velocity == pytest.approx((75, -15), abs=13)
    across, _, down = scenes[150.0, -30.0].velocity_covariance
    assert 2 * across**0.5 > 75, "what was told lies within two deviations of what is followed"
    assert 2 * down**0.5 > 15


@pytest.fixture(scope="module")
def road() -> Codec:
    return Codec.load("road", "cpu", threads=1)


def test_block_0_says_how_its_objects_move_and_is_otherwise_the_same(road: Codec) -> None:
    flow = road.flow()
    assert flow is not None
    for frame in range(4):
        flow.watch(picture(5 * frame, 200), frame * STEP_NS)
    last = picture(15, 200)
    plain = road.encode(last, blocks=4, threshold=0.02)
    moving = road.encode(last, blocks=4, threshold=0.02, flow=flow.of(3 * STEP_NS))
    assert [block.data for block in moving] == [block.data for block in plain]
    assert [bool(block.motion) for block in moving] == [True, False, False, False]
    assert all(not block.motion for block in plain)
    decoder = road.decoder(SIZE)
    for block in moving:
        reading = decoder.push(block)
        assert reading is not None
        assert len(reading.detections) > 0
        assert all(item.velocity is not None for item in reading.detections)
    decoder = road.decoder(SIZE)
    broken = decoder.push(type(moving[0])(moving[0].stream, 1, 0, moving[0].data, b"\xff\xff\xff\xff\xff\xff\xff"))
    assert broken is not None
    assert decoder.counters["damaged_motion"] == 1
    assert all(item.velocity is None for item in broken.detections)


def test_a_budget_holds_with_motion(road: Codec) -> None:
    flow = road.flow()
    assert flow is not None
    for frame in range(3):
        flow.watch(picture(5 * frame, 200), frame * STEP_NS)
    for most in (12, 20, 40):
        made = road.encode(picture(10, 200), blocks=4, threshold=0.02, max_bytes=most, flow=flow.of(2 * STEP_NS))
        assert sum(len(block.data) + len(block.motion) for block in made) <= most or len(made) == 1
