"""Trees of frames: chains, times between, and one clear word for what is unknown or late."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semhier_ros.ground import GroundError, Mount
from semhier_ros.ground.frames import SECOND, TransformError, TransformTree

STILL = (0.0, 0.0, 0.0, 1.0)
OPTICAL = (-0.5, 0.5, -0.5, 0.5)  # from a body frame to its optical frame (REP 103)


def about_z(angle: float) -> tuple[float, float, float, float]:
    return (0.0, 0.0, math.sin(angle / 2), math.cos(angle / 2))


def robot() -> TransformTree:
    tree = TransformTree()
    tree.put("base_footprint", "base_link", 0, (0, 0, 0.2), STILL, fixed=True)
    tree.put("base_link", "camera_link", 0, (0.3, 0, 1.0), STILL, fixed=True)
    tree.put("/camera_link", "camera_optical", 0, (0, 0, 0), OPTICAL, fixed=True)
    for second in range(5):
        tree.put("odom", "base_footprint", second * SECOND, (float(second), 0, 0), about_z(0.1 * second))
    return tree


def test_a_chain_of_fixed_frames_is_a_mount() -> None:
    rotation, place = robot().look_up("base_footprint", "camera_optical", 12345)
    assert np.allclose(place, (0.3, 0, 1.2))
    assert np.allclose(rotation, Mount.level(1.2).rotation)
    back, there = robot().look_up("camera_optical", "/base_footprint", 12345)
    assert np.allclose(back @ rotation, np.eye(3))
    assert np.allclose(back @ place + there, 0)


def test_a_moving_frame_is_taken_between_its_poses() -> None:
    rotation, place = robot().look_up("odom", "base_footprint", 5 * SECOND // 2)
    assert np.allclose(place, (2.5, 0, 0))
    assert math.atan2(rotation[1, 0], rotation[0, 0]) == pytest.approx(0.25)
    assert np.allclose(robot().look_up("odom", "base_footprint", 3 * SECOND)[1], (3, 0, 0))
    half_a_second_on = robot().look_up("odom", "camera_optical", 4 * SECOND + SECOND // 4)[1]
    assert np.isfinite(half_a_second_on).all()


@pytest.mark.parametrize(
    ("target", "source", "stamp_ns", "kind", "said"),
    [
        ("base_footprint", "nowhere", 0, "unknown", "no transform of frame 'nowhere' came"),
        ("map", "camera_optical", 0, "unknown", "no transform of frame 'map' came"),
        ("odom", "base_footprint", 10 * SECOND, "late", "newest transform of 'base_footprint' is 6.00 s too old"),
        ("odom", "base_footprint", -SECOND, "late", "oldest transform of 'base_footprint' kept is 1.00 s too new"),
    ],
)
def test_what_cannot_be_told_is_said_in_one_line(target: str, source: str, stamp_ns: int, kind: str, said: str) -> None:
    with pytest.raises(TransformError, match=said) as caught:
        robot().look_up(target, source, stamp_ns)
    assert caught.value.kind == kind
    assert "\n" not in str(caught.value)


def test_two_trees_are_not_connected() -> None:
    tree = robot()
    tree.put("other_odom", "other_base", 0, (0, 0, 0), STILL, fixed=True)
    with pytest.raises(TransformError, match="'camera_optical' and 'other_base' are not connected"):
        tree.look_up("other_base", "camera_optical", 0)


def test_a_circle_of_frames_ends_in_an_error() -> None:
    tree = TransformTree()
    tree.put("a", "b", 0, (0, 0, 0), STILL, fixed=True)
    tree.put("b", "a", 0, (0, 0, 0), STILL, fixed=True)
    with pytest.raises(TransformError, match="circle"):
        tree.look_up("c", "a", 0)


@pytest.mark.parametrize(
    ("parent", "child", "translation", "quaternion", "said"),
    [
        ("a", "a", (0, 0, 0), STILL, "two different frames"),
        ("a", "", (0, 0, 0), STILL, "two different frames"),
        ("a", "b", (0, 0, float("nan")), STILL, "three finite numbers"),
        ("a", "b", (0, 0, 0), (0, 0, 0, 0), "not of length 1"),
        ("a", "b", (0, 0, 0), (0, 0, 0, float("nan")), "not of length 1"),
    ],
)
def test_what_is_no_transform_is_refused(
    parent: str, child: str, translation: tuple[float, ...], quaternion: tuple[float, ...], said: str
) -> None:
    with pytest.raises(GroundError, match=said):
        TransformTree().put(parent, child, 0, translation, quaternion)


def test_memory_is_bounded_and_a_bag_may_begin_anew() -> None:
    tree = TransformTree(keep_ns=SECOND)
    for number in range(5000):
        tree.put("odom", "base", number * SECOND // 1000, (0, 0, 0), STILL)
    (link,) = tree._links.values()
    assert len(link.times) <= 1001
    tree.put("odom", "base", 0, (7, 0, 0), STILL)
    assert tree.look_up("odom", "base", 0)[1][0] == 7
    for number in range(999):
        tree.put("base", f"part_{number}", 0, (0, 0, 0), STILL, fixed=True)
    with pytest.raises(GroundError, match="more than 1000 frames"):
        tree.put("base", "one_more", 0, (0, 0, 0), STILL, fixed=True)


@settings(max_examples=150, derandomize=True)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcd"), st.sampled_from("abcd"), st.integers(0, 10), st.floats(-5, 5), st.booleans()
        ),
        max_size=30,
    ),
    st.sampled_from("abcd"),
    st.sampled_from("abcd"),
    st.integers(-3, 14),
)
def test_any_order_of_transforms_gives_a_rotation_or_an_error(
    puts: list[tuple[str, str, int, float, bool]], target: str, source: str, when: int
) -> None:
    tree = TransformTree(keep_ns=4)
    for parent, child, stamp, angle, fixed in puts:
        if parent != child:
            tree.put(parent, child, stamp, (angle, 0, 0), about_z(angle), fixed=fixed)
    try:
        rotation, place = tree.look_up(target, source, when)
    except TransformError:
        return
    assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
    assert np.isfinite(place).all()
