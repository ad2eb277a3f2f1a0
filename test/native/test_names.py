"""Steady names by the compiled kernel, against the lines that define them, bit for bit."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semhier_ros.codec.reading import Detection
from semhier_ros.native import kernels
from semhier_ros.scene.names import SteadyNames, Tree

TREES = [
    Tree([[0], [0, 0, 0], [0, 0, 1, 2, 2]], [("a",), tuple("bcd"), tuple("efghi")]),
    Tree([[0, 0], [0, 0, 1, 1]], [tuple("ab"), tuple("cdef")]),
    Tree([[0, 0, 0]], [tuple("abc")]),
]


@st.composite
def detections(draw: Any, tree: Tree) -> Detection:
    depth = draw(st.integers(1, len(tree.names)))
    chance = st.floats(0.0, 1.0)
    node = lambda level: st.integers(0, len(tree.names[level]) - 1)  # noqa: E731
    path = tuple(draw(node(level)) for level in range(depth))
    others = tuple(tuple(draw(st.lists(st.tuples(node(level), chance), max_size=3))) for level in range(depth))
    scores = tuple(draw(chance) for _ in range(depth))
    return Detection(0, (0.0, 0.0, 1.0, 1.0), path, ("",) * depth, scores, others[: draw(st.integers(0, depth))])


@settings(max_examples=150)
@given(st.data())
def test_names_are_steadied_alike(draw: st.DataObject) -> None:
    tree = draw.draw(st.sampled_from(TREES))
    compiled, plain = SteadyNames.new(tree, 3), SteadyNames.new(tree, 3)
    for moment in draw.draw(st.lists(st.integers(0, 3), min_size=1, max_size=8)):
        rows = draw.draw(st.lists(st.integers(0, 2), unique=True))
        newest = [draw.draw(st.booleans()) for _ in rows]
        items = [draw.draw(detections(tree)) for _ in rows]
        found = compiled.steady(tree, moment, rows, newest, items)
        assert found == [plain._steady(tree, moment, *one) for one in zip(rows, newest, items, strict=True)]
        for part in fields(SteadyNames):
            assert getattr(compiled, part.name).tobytes() == getattr(plain, part.name).tobytes()


def test_what_does_not_fit_is_refused() -> None:
    assert kernels is not None
    tree, names = TREES[0], SteadyNames.new(TREES[0], 2)
    item = Detection(0, (0.0, 0.0, 1.0, 1.0), (0, 1), ("", ""), (0.5, 0.5), ((), ((2, 0.1),)))
    names.steady(tree, 1, [1], [True], [item])
    for rows, wrong in (
        ([2], item),
        ([-1], item),
        ([0], replace(item, path=(0, 3))),
        ([0], replace(item, path=(0, -1))),
        ([0], replace(item, others=((), ((3, 0.1),)))),
        ([0], replace(item, scores=(0.5,))),
        ([0], replace(item, path=(0, 0, 0, 0), scores=(0.5,) * 4)),
        ([0, 1], item),
    ):
        with pytest.raises(ValueError, match=r"row|object|detection"):
            names.steady(tree, 1, rows, [True], [wrong])
    with pytest.raises(TypeError):
        kernels.steady_names(
            names.past.astype(np.float32), names.present, names.known, names.shown, names.moments, tree.starts,
            tree.owners, 1, [0], [True], [item],
        )  # fmt: skip
