"""Hierarchical scores on cases small enough to check by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from semhier_ros.taxonomy import Taxonomy
from semhier_ros.taxonomy.scores import calibration_error, consistency, score, score_levels, softmax

TREE = Taxonomy.from_parents("t", [["p", "q"], ["a", "b", "c", "d"]], [[0, 0, 1, 1]])


def test_scores_by_hand() -> None:
    probabilities = [[0.7, 0.3, 0, 0], [0.4, 0.0, 0.3, 0.3], [0, 0, 0.2, 0.8]]
    scores = score(TREE, probabilities, [0, 2, 2])
    assert scores.accuracy == pytest.approx((1.0, 1 / 3))
    assert scores.distance == pytest.approx((0 + 2 + 1) / 3)
    assert scores.severity == pytest.approx(1.5)
    assert scores.consistency == pytest.approx((2 / 3, 1.0))
    assert "hierarchical distance 1.000" in scores.table(["coarse", "fine"])


def test_no_mistake_has_no_severity() -> None:
    scores = score(TREE, np.eye(4), range(4))
    assert scores.accuracy == (1.0, 1.0)
    assert scores.distance == 0
    assert math.isnan(scores.severity)
    assert scores.calibration_error == (0.0, 0.0)


def test_levels_may_come_from_different_prefixes() -> None:
    fine = np.eye(4)
    coarse = np.array([[1, 0], [0, 1], [0, 1], [0, 1]], dtype=float)
    scores = score_levels(TREE, [coarse, fine], [0, 1, 2, 3])
    assert scores.accuracy == (0.75, 1.0)
    assert scores.consistency == (0.75, 1.0)
    assert consistency(TREE, [np.array([0, 0]), np.array([0, 2])]) == [0.5, 1.0]


def test_calibration_error_by_hand() -> None:
    assert calibration_error([0.9] * 10, [True] * 9 + [False]) == pytest.approx(0)
    assert calibration_error([1.0, 1.0], [True, False]) == pytest.approx(0.5)
    assert calibration_error([0.05, 0.95], [True, True], bins=2) == pytest.approx(0.5)


def test_softmax_sums_to_one_for_large_logits() -> None:
    assert softmax([1e4, 1e4]).tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (np.zeros((1, 4)), [4], "0..3"),
        (np.zeros((1, 4)), [], "one or more"),
        (np.full((1, 4), np.nan), [0], r"0\.\.1"),
        (np.array([[2.0, -1, 0, 0]]), [0], r"0\.\.1"),
        (np.zeros((2, 4)), [0], "shape"),
    ],
)
def test_wrong_input_is_refused(probabilities: np.ndarray, labels: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score(TREE, probabilities, labels)
