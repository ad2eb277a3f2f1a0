"""Where a robot is between the poses that it tells, and which of them it tells."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semhier_ros.codec.pose import EgoPose, PoseReader
from semhier_ros.ground.ego import EgoTrack, PoseTeller, angles_of, quaternion_of
from semhier_ros.ground.frames import SECOND, TransformError, TransformTree
from semhier_ros.ground.mount import rotation_of

START = 1_700_000_000 * SECOND


def pose(seconds: float, x: float, y: float = 0.0, yaw: float = 0.0, frame: str = "map") -> EgoPose:
    return EgoPose.of(frame, START + round(seconds * SECOND), (x, y, 0.0), (0.0, 0.0, yaw))


def track(*poses: EgoPose, age: float = 5.0) -> EgoTrack:
    made = EgoTrack(round(age * SECOND))
    for one in poses:
        made.put(one)
    return made


def at(made: EgoTrack, seconds: float) -> np.ndarray:
    return made.at(START + round(seconds * SECOND))


def test_between_two_poses_it_is_between_them_and_turns_the_shorter_way() -> None:
    made = track(pose(0, 1.0, yaw=3.0), pose(1, 3.0, yaw=-3.0))
    assert at(made, 0.5)[:2] == pytest.approx((2.0, 0.0))
    assert math.cos(at(made, 0.5)[5] - math.pi) == pytest.approx(1.0, abs=1e-6)


def test_behind_the_newest_it_is_led_on_and_then_lost() -> None:
    made = track(pose(0, 1.0, yaw=0.1), pose(1, 3.0, yaw=0.2))
    assert at(made, 2.5)[[0, 5]] == pytest.approx((6.0, 0.35), abs=1e-3)
    with pytest.raises(TransformError, match=r"the robot's newest is 5.10 s old") as error:
        at(made, 6.1)
    assert error.value.kind == "late"
    with pytest.raises(TransformError, match=r"0.20 s too new"):
        at(made, -0.2)
    with pytest.raises(TransformError, match="told none") as error:
        at(track(), 0.0)
    assert error.value.kind == "unknown"


def test_poses_that_are_close_or_far_apart_say_nothing_of_speed() -> None:
    assert at(track(pose(0, 1.0), pose(0.05, 1.01)), 1.0)[0] == pytest.approx(1.01)
    assert at(track(pose(0, 1.0), pose(4.5, 9.0)), 5.0)[0] == pytest.approx(9.0)


def test_a_jump_another_frame_and_a_bag_that_begins_again_are_new_beginnings() -> None:
    jumped = track(pose(0, 1.0), pose(1, 2.0), replace(pose(1.5, 50.0), anew=True))
    assert at(jumped, 2.0)[0] == pytest.approx(50.0)
    other = track(pose(0, 1.0), pose(1, 2.0), pose(1.5, 7.0, frame="odom"))
    assert (other.frame, at(other, 2.0)[0]) == ("odom", pytest.approx(7.0))
    again = track(pose(100, 1.0), pose(1, 5.0))
    assert at(again, 1.0)[0] == pytest.approx(5.0)


def test_over_the_date_line_a_ship_does_not_turn_round_the_earth() -> None:
    made = EgoTrack(5 * SECOND)
    for second, longitude in ((0, 179.9999), (1, -179.9999)):
        made.put(EgoPose.of("", START + second * SECOND, (10.0, longitude, 0.0), sigma=2.0))
    fix = made.fix(START + 3 * SECOND // 2)
    assert (fix.latitude, fix.longitude) == pytest.approx((10.0, -179.9998))
    assert fix.accuracy == pytest.approx(2.0, rel=0.05)


ANGLE = st.floats(-1.5, 1.5)


@given(ANGLE, ANGLE, st.floats(-3.1, 3.1))
def test_angles_come_back_through_a_rotation(roll: float, pitch: float, yaw: float) -> None:
    quaternion = quaternion_of((roll, pitch, yaw))
    assert np.linalg.norm(quaternion) == pytest.approx(1.0)
    assert angles_of(rotation_of(quaternion)) == pytest.approx((roll, pitch, yaw), abs=1e-6)


def test_the_newest_time_of_a_chain_is_that_of_its_slowest_link() -> None:
    tree = TransformTree()
    level = (0.0, 0.0, 0.0, 1.0)
    tree.put("map", "odom", 5, (1.0, 0.0, 0.0), level)
    tree.put("odom", "base", 9, (1.0, 0.0, 0.0), level)
    tree.put("base", "lens", 0, (1.0, 0.0, 0.0), level, fixed=True)
    tree.put("map", "beacon", 1, (1.0, 0.0, 0.0), level)
    assert tree.newest("map", "lens") == 5
    assert tree.newest("odom", "lens") == 9
    assert tree.newest("base", "lens") is None
    with pytest.raises(TransformError, match="no transform of frame 'sea' came"):
        tree.newest("map", "sea")


def drive(teller: PoseTeller, seconds: float, rate: float = 20.0) -> list[tuple[EgoPose, EgoPose | None]]:
    """Stands for two seconds, drives at 2 m/s, turns on the way, stands again; (pose, told) at each step."""
    found, x, y, yaw = [], 0.0, 0.0, 0.0
    for step in range(round(seconds * rate)):
        time = step / rate
        speed = 2.0 if 2.0 <= time < seconds - 3.0 else 0.0
        yaw += (0.5 if 5.0 <= time < 8.0 else 0.0) / rate
        x, y = x + speed * math.cos(yaw) / rate, y + speed * math.sin(yaw) / rate
        now = pose(time, x, y, yaw)
        found.append((now, teller.offer(now)))
    return found


def test_what_is_told_keeps_the_base_within_the_bound_and_says_little_else() -> None:
    teller = PoseTeller(moved=0.1, turned=0.02, every=2.0, rate=10.0)
    reader, base = PoseReader(), EgoTrack(5 * SECOND)
    errors, sizes = [], []
    for now, told in drive(teller, 20.0):
        if told is not None:
            data = teller.bytes_of(told)
            sizes.append(len(data))
            base.put(reader.read(data))
        errors.append(np.abs(base.at(now.stamp_ns)[:2] - now.place[:2]).max())
    assert max(errors) < 0.1 + 2.0 / 10.0 + 0.02  # the bound, and how far it drives before the next may be told
    assert np.median(errors) < 0.05
    assert len(sizes) < 60  # of 400
    assert min(sizes) == 14


def test_a_robot_that_stands_is_told_every_two_seconds() -> None:
    teller = PoseTeller(0.1, 0.02, 2.0, 10.0)
    told = [teller.offer(pose(step / 10, 5.0)) for step in range(101)]
    assert [step for step, one in enumerate(told) if one is not None] == [0, 20, 40, 60, 80, 100]


def test_a_robot_that_stands_is_told_less_often_from_when_it_is_asked_to() -> None:
    teller = PoseTeller(0.1, 0.02, 0.5, 10.0)
    assert teller.offer(pose(0.0, 5.0)) is not None
    teller.every = 2.5
    told = [teller.offer(pose(step / 10, 5.0)) for step in range(1, 51)]
    assert [step for step, one in enumerate(told, 1) if one is not None] == [25, 50]


def test_where_nothing_can_be_foretold_a_pose_is_told() -> None:
    teller = PoseTeller(0.1, 0.02, 2.0, 10.0)
    assert teller.offer(pose(0.0, 5.0)) is not None
    teller._track.age_ns = SECOND
    assert teller.offer(pose(0.9, 5.0)) is None
    assert teller.offer(pose(1.1, 5.0)) is not None


def test_a_pose_that_did_not_leave_is_told_again() -> None:
    teller = PoseTeller(0.1, 0.02, 2.0, 10.0)
    assert teller.offer(pose(0.0, 5.0)) is not None
    teller.forget()
    assert teller.offer(pose(0.05, 5.0)) is not None
    assert teller.offer(pose(0.1, 5.0)) is None


def test_a_jump_is_told_at_once_as_one() -> None:
    teller = PoseTeller(0.1, 0.02, 2.0, 1.0)
    teller.offer(pose(0.0, 0.0))
    assert teller.offer(pose(0.1, 0.1)) is None
    told = teller.offer(pose(0.2, 90.0))
    assert told is not None
    assert told.anew
    assert teller.offer(pose(0.3, 90.0)) is None


def test_a_clock_that_is_set_back_and_a_jump_are_told_until_one_word_of_it_surely_came() -> None:
    def told_of(jump: bool) -> list[EgoPose]:
        """What is told of a robot at 2 m/s whose clock goes back 3 s, or that jumps 20 m, after 5 s."""
        teller, told = PoseTeller(0.1, 0.02, 2.0, 10.0), []
        for step in range(100):
            seconds = step / 10 - (3.0 if step >= 50 and not jump else 0.0)
            place = step / 5 + (20.0 if step >= 50 and jump else 0.0)
            pose = teller.offer(EgoPose.of("map", round((100 + seconds) * 1e9), (place, 0.0, 0.0), (0.0, 0.0, 0.0)))
            if pose is not None:
                told.append(pose)
        return told

    for jump in (False, True):
        told = told_of(jump)
        anew = [number for number, pose in enumerate(told) if pose.anew]
        assert len(anew) >= 2
        for lost in ((), anew[:1]):
            track = EgoTrack(5 * SECOND)
            for number, pose in enumerate(told):
                if number not in lost:
                    track.put(pose)
            assert track.at(told[-1].stamp_ns)[0] == pytest.approx(told[-1].place[0], abs=0.01)
            between = told[-1].stamp_ns - SECOND
            assert track.at(between)[0] == pytest.approx(told[-1].place[0] - 2.0, abs=0.3)


def test_a_jump_that_did_not_leave_is_told_as_one_again() -> None:
    teller = PoseTeller(0.1, 0.02, 2.0, 10.0)
    for step, place in enumerate((0.0, 0.1, 30.0)):
        pose = teller.offer(EgoPose.of("map", step * SECOND // 10, (place, 0.0, 0.0), (0.0, 0.0, 0.0)))
    assert pose is not None
    assert pose.anew
    teller.forget()
    again = teller.offer(EgoPose.of("map", 9 * SECOND, (30.0, 0.0, 0.0), (0.0, 0.0, 0.0)))
    assert again is not None
    assert again.anew
