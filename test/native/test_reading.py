"""What compiled kernels read of objects, how they tell it and map it, against the Python lines that define them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from semhier_ros.codec.canvas import Canvas
from semhier_ros.codec.reading import Detection
from semhier_ros.native import kernels
from semhier_ros.scene.layout import UNNAMED
from semhier_ros.scene.reader import Curve, Measured, ToldLevel, meaning_map, read_objects, tell_objects

INPUTS, HIDDEN, LEAVES, NODES = 41, 64, 21, 26


def perceptron(count: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(count)
    widths = (INPUTS, HIDDEN, HIDDEN, LEAVES + 5)
    told = rng.integers(-64, 64, (count, INPUTS)).astype(np.int32) * (rng.random((count, INPUTS)) < 0.5)
    layers = [(rng.normal(0, 0.3, pair), rng.normal(0, 0.3, pair[1])) for pair in pairwise(widths)]
    return (
        told.astype(np.int32),
        layers,
        rng.uniform(0.5, 60, (count, 4)),
        np.eye(NODES)[rng.integers(0, NODES, LEAVES)],
    )


@pytest.mark.parametrize("count", [0, 1, 20])
def test_objects_are_read_as_numpy_reads_them(count: int) -> None:
    assert kernels is not None
    for found, expected in zip(kernels.read_objects(*perceptron(count)), read_objects(*perceptron(count)), strict=True):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)  # sums in another order


def test_arrays_that_do_not_fit_are_refused() -> None:
    assert kernels is not None
    told, layers, boxes, down_to = perceptron(3)
    for wrong in (
        (told[:, 1:].copy(), layers, boxes, down_to),
        (told, layers[1:], boxes, down_to),
        (told, [layers[0], (layers[1][0], layers[1][1][1:].copy()), layers[2]], boxes, down_to),
        (told, layers, boxes[1:], down_to),
        (told, layers, boxes, down_to[1:]),
        (told, [], boxes, down_to),
    ):
        with pytest.raises(ValueError, match=r"expected|fit"):
            kernels.read_objects(*wrong)
    with pytest.raises(TypeError):
        kernels.read_objects(told.astype(np.int64), layers, boxes, down_to)


STRIDE, CANVAS = 16, Canvas(1088, 640, (1920, 1080))
NAMES = (("thing",), tuple("abcd"), tuple("efghijklmnopqrstuvwxyz"))
POINTS = [0.0, 1.0, 1e-9, 0.25, 0.5, 1 / 3, np.nextafter(0.25, 1), np.nextafter(0.25, 0), -0.5, 1.5, float("nan")]


@st.composite
def seen_and_path(draw: Any) -> tuple[list[NDArray[np.int32]], Measured]:
    """Objects named at differing depths, some nodes as likely as others."""
    count, deepest = draw(st.integers(0, 4)), draw(st.integers(1, len(NAMES)))
    depths = draw(st.lists(st.integers(0, deepest - 1), min_size=count, max_size=count))
    some = draw(st.lists(st.one_of(st.sampled_from(POINTS), st.floats(0.0, 1.0)), min_size=1, max_size=40))
    every = np.random.default_rng(draw(st.integers(0, 999))).choice(some, (count, 27))
    levels = [every[:, start:end] for start, end in ((0, 1), (1, 5), (5, 27))]  # views, as readings have them
    path = [
        np.array([draw(st.integers(0, len(names) - 1)) if level <= depth else UNNAMED for depth in depths], np.int32)
        for level, names in enumerate(NAMES)
    ]
    side = st.floats(-5.0, 80.0, width=32).map(
        lambda cells: cells + 0.0
    )  # which zero is larger, NumPy says now so, now so
    boxes = np.array(draw(st.lists(side, min_size=4 * count, max_size=4 * count)), np.float32).reshape(count, 4)
    return path[:deepest], Measured(boxes, np.array(depths, np.intp), levels[:deepest])


@st.composite
def curves(draw: Any) -> Curve:
    """Rising ones, with flat parts: nodes that are equally likely."""
    steps = draw(st.lists(st.sampled_from([0.0, 0.0, 0.01, 0.3, 1 / 3]), min_size=1, max_size=65))
    return Curve.of(np.minimum(np.cumsum(steps), 1.0).astype(np.float32))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_objects_are_told_alike(draw: st.DataObject) -> None:
    assert kernels is not None
    told = [ToldLevel(names, draw.draw(curves()), draw.draw(curves())) for names in NAMES]
    path, seen = draw.draw(seen_and_path())
    source = draw.draw(st.sampled_from([(1920, 1080), (640, 360), (1, 16_384), (1088, 640)]))
    canvas, said = Canvas(1088, 640, source), np.linspace(0.1, 0.9, len(seen.named))
    found = kernels.ObjectTeller(told, STRIDE, Detection).tell(path, seen, canvas, said)
    expected = tell_objects(told, STRIDE, path, seen, canvas, said)
    assert repr(found) == repr(expected)  # to the bit, with what is no number
    assert [type(item) for item in found] == [Detection] * len(seen.named)


def test_of_equally_likely_nodes_the_first_comes_first() -> None:
    assert kernels is not None
    flat = Curve.of(np.full(65, 0.5, np.float32))
    told = [ToldLevel(names, flat, flat) for names in NAMES]
    path, named = [np.zeros(1, np.int32), np.ones(1, np.int32), np.full(1, 3, np.int32)], np.full(1, 2, np.intp)
    seen = Measured(np.zeros((1, 4), np.float32), named, [np.full((1, len(names)), 0.1) for names in NAMES])
    said = np.full(1, 0.4)
    for found in (
        kernels.ObjectTeller(told, STRIDE, Detection).tell(path, seen, CANVAS, said),
        tell_objects(told, STRIDE, path, seen, CANVAS, said),
    ):
        assert (found[0].names, found[0].said) == (("thing", "b", "h"), 0.4)
        assert [[node for node, _ in level] for level in found[0].others] == [[], [0, 2, 3], [0, 1, 2, 4, 5, 6, 7, 8]]


def test_what_objects_are_not_told_by_is_refused() -> None:
    assert kernels is not None
    line = Curve.of(np.linspace(0, 1, 65, dtype=np.float32))
    told = [ToldLevel(names, line, line) for names in NAMES]
    teller = kernels.ObjectTeller(told, STRIDE, Detection)
    path, named = [np.zeros(2, np.int32) for _ in NAMES], np.array([2, 0])
    boxes, levels = np.zeros((2, 4), np.float32), [np.full((2, len(names)), 0.1) for names in NAMES]
    said = np.full(2, 0.5)
    assert len(teller.tell(path, Measured(boxes, named, levels), CANVAS, said)) == 2
    with pytest.raises(ValueError, match="said"):
        teller.tell(path, Measured(boxes, named, levels), CANVAS, said[1:])
    one_more = [*levels[:2], np.full((2, 23), 0.1)]
    for wrong_path, wrong in (
        ([*path[:2], np.array([22, 0], np.int32)], Measured(boxes, named, levels)),
        ([*path[:2], np.array([UNNAMED, 0], np.int32)], Measured(boxes, named, levels)),
        ([*path[:2], path[2][1:]], Measured(boxes, named, levels)),
        (path[:2], Measured(boxes, named, levels)),
        (path, Measured(boxes, named, levels[:2])),
        (path, Measured(boxes, named, one_more)),
        (path, Measured(boxes, named, [*levels[:2], levels[2][1:]])),
        (path, Measured(boxes, named, [*levels[:2], levels[2][0]])),
        (path, Measured(boxes, np.array([3, 0]), levels)),
        (path, Measured(boxes, np.array([2, -1]), levels)),
        (path, Measured(boxes, named[1:], levels)),
        (path, Measured(boxes[:, 1:], named, levels)),
        (path, Measured(boxes[1:], named, levels)),
    ):
        with pytest.raises(ValueError, match=r"expected|path|levels"):
            teller.tell(wrong_path, wrong, CANVAS, said)
    for wrong in (
        Measured(boxes.astype(np.float64), named, levels),
        Measured(boxes, named.astype(np.float64), levels),  # type: ignore[arg-type]
        Measured(boxes, named, [level.astype("c16") for level in levels]),  # type: ignore[misc]
    ):
        with pytest.raises(TypeError):
            teller.tell(path, wrong, CANVAS, said)
    with pytest.raises(TypeError):
        teller.tell([level.astype(np.int64) for level in path], Measured(boxes, named, levels), CANVAS, said)
    for curve in (Curve(line.grid, line.values[1:]), Curve(line.grid[:0], line.values[:0])):
        with pytest.raises(ValueError, match=r"grid|values"):
            kernels.ObjectTeller([ToldLevel(NAMES[0], curve, line)], STRIDE, Detection)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_cells_are_covered_alike(draw: st.DataObject) -> None:
    assert kernels is not None
    rows, columns, planes = (draw.draw(st.integers(1, most)) for most in (9, 12, 5))
    stride, count = draw.draw(st.sampled_from([1, 3, 7, 16])), draw.draw(st.integers(0, 5))
    near = st.integers(-2, 14).map(lambda cells: float(cells * stride))  # on the edges of cells, and close by
    side = st.one_of(near, near.map(lambda x: float(np.nextafter(np.float32(x), np.float32(99)))), st.floats(-40, 200))
    boxes = np.array(draw.draw(st.lists(side, min_size=4 * count, max_size=4 * count)), np.float32).reshape(count, 4)
    nodes = st.lists(st.integers(-1, planes - 2), min_size=count, max_size=count)
    groups = draw.draw(st.one_of(st.none(), nodes.map(lambda some: np.array(some, np.int32))))
    found = kernels.meaning_map(boxes, groups, (rows, columns), planes, stride)
    expected = meaning_map(boxes, groups, (rows, columns), planes, stride)
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)


def test_a_map_of_what_there_is_not_is_refused() -> None:
    assert kernels is not None
    boxes, groups = np.zeros((2, 4), np.float32), np.zeros(2, np.int32)
    kernels.meaning_map(boxes, groups, (2, 3), 2, 16)
    for wrong in (
        (boxes[:, 1:], groups, (2, 3), 2, 16),
        (boxes, groups[1:], (2, 3), 2, 16),
        (boxes, groups + 1, (2, 3), 2, 16),
        (boxes, groups - 2, (2, 3), 2, 16),
        (boxes, None, (0, 3), 2, 16),
        (boxes, None, (2, 3), 0, 16),
        (boxes, None, (2, 3), 2, 0),
    ):
        with pytest.raises(ValueError, match=r"expected|groups|less than 1"):
            kernels.meaning_map(*wrong)
    odd = kernels.meaning_map(np.array([[np.nan, -np.inf, np.inf, np.nan]], np.float32), None, (2, 3), 2, 16)
    assert not odd.any()
