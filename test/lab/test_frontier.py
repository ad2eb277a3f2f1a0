"""Frontiers: nothing that is kept is beaten, and all that is left out is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semhier_ros.lab.scoring.frontier import along_frontier, mark_frontier, undominated

POINTS = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=12)


@given(POINTS)
def test_what_is_kept_rises_and_what_is_left_out_is_beaten(points: list[tuple[int, int]]) -> None:
    kept = undominated([size for size, _ in points], [value for _, value in points])
    front = sorted({point for point, best in zip(points, kept, strict=True) if best})
    assert front == sorted(front, key=lambda point: point[1])
    assert len({size for size, _ in front}) == len({value for _, value in front}) == len(front)
    for size, value in points:
        assert any(other <= size and theirs >= value for other, theirs in front)


@given(POINTS)
def test_what_is_reached_at_a_size_rises_with_it_and_meets_the_frontier(points: list[tuple[int, int]]) -> None:
    sizes, values = np.array(points, float).T
    for size, value, best in zip(sizes, values, undominated(sizes.tolist(), values.tolist()), strict=True):
        if best:
            assert along_frontier(sizes, values, np.array([size])) == pytest.approx([value])
    reached = along_frontier(sizes, values, np.arange(2, 40) / 4)
    known = reached[~np.isnan(reached)]
    assert known.tolist() == sorted(known)
    assert known[-1] == values.max()
    assert np.isnan(along_frontier(sizes, values, np.array([0.5]))).all()
    assert np.isnan(along_frontier(np.zeros(0), np.zeros(0), np.array([5.0]))).all()


def test_between_two_settings_bytes_count_by_their_logarithm() -> None:
    sizes, values = np.array([100.0, 400.0, 300.0]), np.array([0.2, 0.6, 0.1])
    assert along_frontier(sizes, values, np.array([200.0])) == pytest.approx([0.4])


def test_rows_that_lack_a_measure_are_left_out_of_it() -> None:
    rows = [
        {"payload_bytes_mean": 1.0, "at": {"L0": 0.5}},
        {"payload_bytes_mean": 2.0, "at": {"L0": 0.4, "L1": 0.1}},
        {"payload_bytes_mean": 3.0, "at": {"L0": 0.6, "L1": 0.1}},
    ]
    mark_frontier(rows, lambda row: row["at"])
    assert [row["best_at"] for row in rows] == [["L0"], ["L1"], ["L0"]]
