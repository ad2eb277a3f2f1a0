"""Percentiles, budgets and agreement."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semhier_ros.codec.reading import Detection
from semhier_ros.lab.replay.base import Answer
from semhier_ros.lab.scoring.figures import budget_use, percentile
from semhier_ros.lab.scoring.streaming import Matching, World, newest_at, overlap


def thing(
    box: tuple[float, float, float, float], path: tuple[int, ...] = (0,), scores: tuple[float, ...] = (0.9,)
) -> Detection:
    """A drawn detection."""
    return Detection(0, box, path, ("x",) * len(path), scores)


CAR = thing((0, 0, 10, 10), (0, 1), (0.9, 0.8))
BUS = thing((50, 50, 90, 90), (0, 2), (0.7, 0.6))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.floats(0, 1))
def test_a_percentile_is_the_smallest_value_with_enough_below(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6
    below = [value for value in values if value < found]
    assert not below or len(below) < share * len(values) + 1e-6


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(1, 1200)), min_size=1, max_size=40))
def test_budget_excess_is_the_worst_window(departures: list[tuple[float, int]]) -> None:
    rate = 1000.0
    ordered = sorted(departures)
    times, sizes = [t for t, _ in ordered], [0, *np.cumsum([s for _, s in ordered])]
    windows = [(i, j) for i in range(len(ordered)) for j in range(i, len(ordered))]
    worst = max(sizes[j + 1] - sizes[i] - rate * (times[j] - times[i]) for i, j in windows)
    use = budget_use(departures, rate)
    assert use.excess == pytest.approx(worst, abs=1e-6)


def test_a_paced_sender_keeps_its_budget_and_a_burst_does_not() -> None:
    assert budget_use([(index * 0.1, 100) for index in range(50)], 1000).kept
    assert not budget_use([(0.0, 100), (0.0, 100), (0.05, 100)], 1000).kept


def test_a_datagram_that_a_busy_machine_kept_back_is_no_breach_but_a_rate_too_high_is() -> None:
    paced = [(index * 0.1, 100) for index in range(400)]
    held = [(time + (0.08 if index == 200 else 0.0), size) for index, (time, size) in enumerate(paced)]
    assert not budget_use(held, 1000).kept
    assert budget_use(held, 1000, late=0.1).kept
    assert budget_use(held, 1000, apart=20, late=0.1).allowed == 100 + 20 + 100
    assert not budget_use([(0.98 * time, size) for time, size in paced], 1000, late=0.1).kept, "2 % too much for 40 s"


def test_overlap() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [3, 3, 3, 3.0]])
    assert overlap(boxes, boxes) == pytest.approx(np.array([[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 0]]))


def precision(answers: list[list[Detection]], truths: list[list[Detection]], level: int) -> float | None:
    """AP50 of answers at as many instants."""
    pairs = [(tuple(found), tuple(truth)) for found, truth in zip(answers, truths, strict=True)]
    return Matching().paired(pairs, level).value()


def test_average_precision_by_hand() -> None:
    assert precision([[CAR], [BUS]], [[CAR], [BUS]], 1) == pytest.approx(1.0)
    assert precision([[CAR], []], [[CAR], [BUS]], 1) == pytest.approx(51 / 101)
    assert precision([[], []], [[CAR], [BUS]], 1) == 0.0
    assert precision([[CAR]], [[]], 1) is None
    wrong_name = thing(CAR.box, (0, 2), (0.9, 0.8))
    assert precision([[wrong_name]], [[CAR]], 1) == 0.0
    assert precision([[wrong_name]], [[CAR]], 0) == pytest.approx(1.0)
    assert precision([[thing(CAR.box)]], [[CAR]], 1) == 0.0, "not known down to that level"
    twice = [CAR, thing((0, 0, 10, 10), (0, 1), (0.95, 0.95))]
    assert precision([twice], [[CAR]], 0) == pytest.approx(1.0), "the better-scored one is right"
    assert precision([[CAR, thing((30, 0, 40, 10), (0,), (0.99,))]], [[CAR]], 0) == pytest.approx(0.5)


def reading(stamp: int, ready: float, level: int, *found: Detection) -> Answer:
    """A reading of the frame stamped `stamp`, there since `ready`."""
    return Answer(0, 0, stamp, ready, ready, level, level, found, "")


def test_the_newest_frame_that_had_arrived_is_seen() -> None:
    readings = [
        reading(100, 160, 0, CAR),
        reading(100, 190, 1, BUS),
        reading(200, 400, 0),
        reading(300, 350, 0, CAR),
    ]
    seen = newest_at(readings, np.array([150.0, 160, 200, 360, 500]), 0)
    assert [item and item.stamp_ns for item in seen] == [None, 100, 100, 300, 300]
    assert seen[2].level == 1
    assert [item and item.stamp_ns for item in newest_at(readings, np.array([170.0, 500]), 1)] == [None, 100]


def test_what_is_found_in_a_crowd_region_counts_neither_way() -> None:
    crowd = thing((100, 0, 200, 50), (0, 1))
    inside, half_out = (120, 0, 140, 10), (195, 0, 215, 10)
    pairs = [
        ((CAR, *(thing(box, (0, 1), (0.95, 0.95)) for box in boxes)), (CAR,)) for boxes in ((inside,), (half_out,))
    ]
    for found, truth in pairs:
        assert Matching().paired([(found, truth)], 1).value() == pytest.approx(0.5)
    matching = Matching()
    assert matching.paired(pairs[:1], 1, [(crowd,)]).value() == pytest.approx(1.0)
    assert matching.paired(pairs[1:], 1, [(crowd,)]).value() == pytest.approx(0.5)
    another = thing(crowd.box, (0, 2))
    assert matching.paired(pairs[:1], 1, [(another,)]).value() == pytest.approx(0.5), "a crowd of another class"
    assert matching.paired(pairs[:1], 0, [(another,)]).value() == pytest.approx(1.0), "the same one level up"
    truth = (CAR, thing(inside, (0, 1)))
    assert matching.paired([(pairs[0][0], truth)], 1, [(crowd,)]).value() == pytest.approx(1.0), "and is no miss"
    assert len(matching.paired([(pairs[0][0], truth)], 1, [(crowd,)]).score) == 2
    worlds = [World(np.zeros(1), [(CAR,)], "labels", crowds) for crowds in ([(crowd,)], [])]
    seen = [[reading(0, 0, 1, *pairs[0][0])]] * 2
    assert len(matching.matches(worlds, seen, 1).score) == 3


def test_lateness_costs_streaming_precision() -> None:
    truths = [(thing((20.0 * index, 0, 20.0 * index + 10, 10)),) for index in range(10)]
    world = World(np.arange(10.0), truths, "labels")

    def drive(delay: float) -> float | None:
        readings = [reading(now * 10**9, now + delay, 0, *truth) for now, truth in enumerate(truths)]
        return Matching().matches([world], [readings], 0).value()

    assert drive(0) == pytest.approx(1.0)
    assert drive(1.5) == 0.0
