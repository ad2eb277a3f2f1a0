"""What tells a wrong frame from a right one without a byte: numbers and stamps that go together."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from semhier_ros.codec.compact import STAMP_UNIT_NS
from semhier_ros.link.radio.course import DOUBTED, KEPT, NEAR, SETTLED, SLACK_SECONDS, Course

UNIT = STAMP_UNIT_NS / 1e9


def drive(course: Course, first: int = 65_500, frames: int = 60, *, period: int = 12, travel: float = 0.2) -> float:
    """Frames that come as they leave; the time after them."""
    for place in range(frames):
        stamp = 1000 + place * period
        course.arrived()
        assert course.likely((first + place) % 0x10000, stamp, stamp * UNIT + travel)
    return (1000 + (frames - 1) * period) * UNIT + travel


@given(
    st.integers(0, 65_535),
    st.integers(1, 4000),
    st.lists(st.tuples(st.integers(1, 40), st.floats(0.0, SLACK_SECONDS[1]), st.booleans()), min_size=1, max_size=60),
)
def test_whatever_a_camera_sends_is_likely_in_any_order_and_twice(
    first: int, fastest: int, steps: list[tuple[int, float, bool]]
) -> None:
    """Any rate up to 250 a second, any loss, delays within the slack, two frames the other way round, repeats."""
    course, number, stamp = Course(), first, 10_000
    frames = []
    for skipped, late, again in steps:
        number, stamp = (number + skipped) % 0x10000, stamp + skipped * fastest
        frames += [(number, stamp, late)] * (1 + again)
    swapped = list(range(len(frames)))
    for place in range(0, len(swapped) - 1, 3):
        swapped[place], swapped[place + 1] = swapped[place + 1], swapped[place]
    now = 0.0
    for place in swapped:
        told, stamp, late = frames[place]
        now = max(now, stamp * UNIT + 0.1 + late)
        course.arrived()
        assert course.likely(told, stamp, now)
        assert course.likely(told, None, now)


def test_of_noise_little_is_likely() -> None:
    course, chance = Course(), random.Random(1)
    now = drive(course)
    newest, stamp = (65_500 + 59) % 0x10000, 1000 + 59 * 12
    taken = 0
    for _ in range(4000):
        for _ in range(DOUBTED + 1):  # too far apart to go with one another
            course.arrived()
        number = (newest + chance.randint(-128, 127)) % 0x10000
        if (number - newest) % 0x10000 >= 0x8000 or number == newest:
            taken += course.likely(number, stamp + chance.randint(-128, 127), now)
    assert taken < 4000 * 0.05


def test_a_frame_that_came_has_the_stamp_that_it_had() -> None:
    course = Course()
    now = drive(course)
    assert course.likely(65_510, 1000 + 10 * 12, now)
    assert not course.likely(65_510, 1000 + 10 * 12 + 1, now)


def test_none_is_younger_than_any_before_but_for_some_slack() -> None:
    course = Course()
    now = drive(course)
    newest, stamp = (65_500 + 59) % 0x10000, 1000 + 59 * 12
    slack = round(SLACK_SECONDS[1] / UNIT)
    assert not course.likely(newest + 1, stamp + slack + 2, now)
    assert course.likely(newest + 1, stamp + slack - 2, now)
    assert not course.likely(newest + 200, stamp + slack - 1, now), "no camera takes so many pictures in no time"


def test_what_tells_no_stamp_lies_close_to_what_does() -> None:
    course = Course()
    now = drive(course, first=0)
    assert course.likely(59 + NEAR, None, now)
    assert not course.likely(59 + NEAR + 1, None, now)
    assert course.likely(0, None, now), "a picture's pieces may come late"


def test_a_clock_or_numbers_that_jumped_cost_one_frame() -> None:
    for jump in (-500, 100_000):
        course = Course()
        now = drive(course, first=0)
        after = 1000 + 60 * 12 + jump
        for _ in range(2 * KEPT):
            course.arrived()
        course.arrived()
        assert not course.likely(60, after, now + 0.1)
        course.arrived()
        assert course.likely(61, after + 12, now + 0.2)
        course.arrived()
        assert course.likely(62, after + 24, now + 0.3)


def test_a_queue_that_is_gone_costs_one_frame_at_most() -> None:
    for held, lost in ((1.9, 0), (1.9, SETTLED + 1)):
        course = Course()
        now = drive(course, first=0, frames=lost or 5, travel=0.2 + held)
        stamp, taken = round((now - 0.2) / UNIT), []
        for place in range(4):
            course.arrived()
            taken.append(course.likely(200 + place, stamp + 12 * place, now + 0.1 * place))
        assert taken == [not lost, True, True, True]


def test_the_newest_is_known_whatever_comes_late() -> None:
    """More frames of a queue that was held up than are known, all behind it."""
    course, stamp, now = Course(), 5000, 100.0
    assert course.likely(1000, stamp, now)
    for behind in range(KEPT + 1, 2 * KEPT + 1):
        assert course.likely(1000 - behind, stamp - 1, now)
    assert not course.likely(1000, stamp + 1, now)
    assert course.likely(1001, stamp + 12, now)


def test_two_that_come_far_apart_do_not_vouch_for_one_another() -> None:
    course = Course()
    now = drive(course, first=0)
    assert not course.likely(60, 5, now)
    for _ in range(DOUBTED + 1):
        course.arrived()
    assert not course.likely(61, 17, now)
    course.arrived()
    assert not course.likely(300, 18, now), "nor do two that do not go together"
