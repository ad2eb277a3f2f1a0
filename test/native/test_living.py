"""What the living scene computes of its objects in compiled kernels, against the lines that define it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semhier_ros.codec.reading import Detection, TrackedObject
from semhier_ros.native import kernels
from semhier_ros.scene import living
from semhier_ros.scene.forecast import Forecast
from semhier_ros.scene.names import Tree

TREE = Tree([[0], [0, 0]], [("thing",), ("a", "b")])
SIZE = (640, 480)
NOW = 5_000_000_000


def detections(rng: np.random.Generator, count: int) -> tuple[Detection, ...]:
    corners = rng.uniform(-20, 600, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(-1, 90, (count, 2))], axis=1).tolist()
    found = []
    for number, (box, depth) in enumerate(zip(boxes, rng.integers(1, 3, count).tolist(), strict=True)):
        path = (0, int(rng.integers(2)))[:depth]
        scores = tuple(rng.uniform(0, 1, depth).tolist())
        said = float(rng.uniform(0, 1)) if rng.integers(2) else None
        found.append(Detection(number, tuple(box), path, ("thing", "a")[:depth], scores, said=said))
    return tuple(found)


def objects(rng: np.random.Generator, count: int) -> Any:
    """Objects of any history."""
    made = living._Objects.none(TREE)
    made.add(7, 0, detections(rng, count), TREE)
    made.born_ns, made.seen_ns = np.sort(NOW - rng.integers(0, 1_500_000_000, (2, count)), axis=0)
    made.there, made.said, made.hits, made.misses = (
        *rng.uniform(0, 1, (2, count)),
        rng.integers(1, 30, count) + 0.0,
        rng.integers(0, 9, count) + 0.0,
    )
    return made


def both(work: Callable[[], Any]) -> tuple[Any, Any]:
    """What kernels find, and what NumPy does."""
    found = work()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(living, "kernels", None)
        return found, work()


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(0, 9), st.sampled_from([0.0, 0.03, 0.08]))
def test_what_a_frame_shows(seed: int, count: int, seconds: float) -> None:
    shown = detections(np.random.default_rng(seed), count)
    for one, other in zip(*both(lambda: living.seen_in(shown, seconds)), strict=True):
        assert one.shape == other.shape == (count, 2)
        np.testing.assert_allclose(one, other, rtol=1e-14)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9))
def test_what_pairs_cost_and_which_are_allowed(seed: int, count: int, seen: int) -> None:
    rng = np.random.default_rng(seed)
    far, cost = rng.uniform(0, 1.5 * living.GATE, (2, count, seen))
    known, shown = objects(rng, count), detections(rng, seen)
    (costs, allowed), (others, same) = both(
        lambda: living.pair_costs(far, cost, known, shown, living.Confidence(), 20.0)
    )
    assert allowed.tolist() == same.tolist()
    if allowed.any():
        np.testing.assert_array_equal(costs, others)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(0, 9), st.integers(0, 9))
def test_what_seeing_some_makes_of_all(seed: int, count: int, seen: int) -> None:
    rng = np.random.default_rng(seed)
    shown, pairs = detections(rng, seen), min(count, seen)
    rows, places = rng.permutation(count)[:pairs], rng.permutation(seen)[:pairs]

    def see() -> Any:
        known = objects(np.random.default_rng(seed), count)
        known.see(rows, places, shown, NOW)
        return known.there, *known.history, known.seen_ns

    for one, other in zip(*both(see), strict=True):
        assert one.tobytes() == other.tobytes()


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(0, 20), st.integers(0, 20))
def test_which_objects_last(seed: int, count: int, most: int) -> None:
    known = objects(np.random.default_rng(seed), count)
    found, expected = both(lambda: living.lasting_objects(living.Confidence(), known, NOW, most))
    assert found.tolist() == expected.tolist()


def test_of_objects_that_are_as_likely_the_older_last() -> None:
    known = objects(np.random.default_rng(0), 6)
    known.said[:], known.hits[:], known.misses[:], known.seen_ns[:] = 0.5, 3.0, 0.0, NOW
    for found in both(lambda: living.lasting_objects(living.Confidence(), known, NOW, 2)):
        assert found.tolist() == [0, 1]


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(0, 9))
def test_what_is_shown(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    known, spread = objects(rng, count), rng.uniform(0.1, 60, (2, count, 2, 2))
    spread[..., 1, 0] = spread[..., 0, 1]
    told = Forecast(
        rng.uniform(-60, 700, (count, 2)),
        rng.normal(0, 90, (count, 2)),
        *spread,
        rng.uniform(0.5, 90, (count, 2)),
        np.zeros(2),
    )
    found, expected = both(lambda: living.shown_objects(living.Confidence(), SIZE, told, known, NOW))
    assert [type(item) for item in found] == [type(item) for item in expected] == [TrackedObject] * len(found)
    for one, other in zip(found, expected, strict=True):
        assert replace(one, scores=(), existence=0.0) == replace(other, scores=(), existence=0.0)
        assert (*one.scores, one.existence) == pytest.approx((*other.scores, other.existence), rel=1e-12)
        assert repr(one)[: repr(one).index("scores")] == repr(other)[: repr(other).index("scores")], "the same types"


def test_what_does_not_fit_is_refused() -> None:
    assert kernels is not None
    rng = np.random.default_rng(1)
    known, shown, weights = objects(rng, 3), detections(rng, 2), living.Confidence().weights
    with pytest.raises(ValueError, match="four"):
        living.seen_in((replace(shown[0], box=(0.0, 1.0)),), 0.1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        living.seen_in((replace(shown[0], box=[0.0, 1.0, 2.0, 3.0]),), 0.1)  # type: ignore[arg-type]
    table = np.zeros((3, 2))
    given_ = known.shown, shown, weights, *known.history
    with pytest.raises(ValueError, match="expected"):
        kernels.pair_costs(table[1:], table, *given_, 1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="mine"):
        kernels.pair_costs(table, table, known.shown[1:], *given_[1:], 1.0, 1.0, 1.0)
    one = np.zeros(1, np.int64)
    for rows, places in ((one + 3, one), (one, one + 2), (one - 1, one), (one, one[1:])):
        with pytest.raises(ValueError, match="expected"):
            known.see(rows, places, shown, 0)
    with pytest.raises(ValueError, match="score"):
        known.see(one, one, (replace(shown[0], scores=()),), 0)
    with pytest.raises(TypeError):
        kernels.see_objects(known.there, *known.history, known.seen_ns.astype(float), one, one, shown, 0.5, 0)
    with pytest.raises(ValueError, match="expected"):
        kernels.lasting_objects(weights, *known.history, known.seen_ns[1:], 0.1, 0, 5)
    told = [np.ones(shape) for shape in ((3, 2), (3, 2), (3, 2, 2), (3, 2, 2), (3, 2))]
    numbers = known.number, known.born_ns, known.seen_ns, known.there
    for place in range(5):
        wrong = [array[1:] if place == number else array for number, array in enumerate(told)]
        with pytest.raises(ValueError, match="expected"):
            kernels.shown_objects(weights, SIZE, 0.1, *wrong, *numbers, *known.history, known.shown, 0, TrackedObject)
    with pytest.raises(ValueError, match="shown"):
        kernels.shown_objects(weights, SIZE, 0.1, *told, *numbers, *known.history, known.shown[1:], 0, TrackedObject)
    with pytest.raises(AttributeError):
        kernels.shown_objects(weights, SIZE, 0.0, *told, *numbers, *known.history, known.shown, 0, Detection)
