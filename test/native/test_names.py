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
from semhier_ros.scene import living
from semhier_ros.scene.living import _Objects
from semhier_ros.scene.names import SteadyNames, Tree

BOX = (0.0, 0.0, 1.0, 1.0)
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
    said = draw(st.none() | chance)
    return Detection(0, BOX, path, ("",) * depth, scores, others[: draw(st.integers(0, depth))], None, said)


def objects(tree: Tree, count: int) -> _Objects:
    made = _Objects.none(tree)
    made.add(10, 0, [Detection(0, BOX, (0,), (tree.names[0][0],), (0.5,))] * count, tree)
    return made


@settings(max_examples=150)
@given(st.data())
def test_names_are_steadied_alike(draw: st.DataObject) -> None:
    tree = draw.draw(st.sampled_from(TREES))
    compiled, plain = objects(tree, 3), objects(tree, 3)
    for moment in draw.draw(st.lists(st.integers(0, 3), min_size=1, max_size=8)):
        numbers = draw.draw(st.lists(st.integers(9, 13), unique=True))  # of tracks, and of some that are forgotten
        seen_ns = [draw.draw(st.sampled_from([moment, -1])) for _ in range(3)]
        items = [replace(draw.draw(detections(tree)), id=place) for place in range(len(numbers) + 1)]
        ids = dict(enumerate(numbers))
        compiled.seen_ns[:] = plain.seen_ns[:] = seen_ns
        found = compiled.named(tree, moment, ids, tuple(items))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(living, "kernels", None)
            assert found == plain.named(tree, moment, ids, tuple(items))
        assert [type(item) for item in found] == [Detection] * len(items)
        assert compiled.shown == plain.shown
        for part in fields(SteadyNames):
            one, other = (getattr(each.names, part.name) for each in (compiled, plain))
            assert one.tobytes() == other.tobytes()


def test_what_does_not_fit_is_refused() -> None:
    assert kernels is not None
    tree, made = TREES[0], objects(TREES[0], 2)
    item = Detection(0, BOX, (0, 1), ("", ""), (0.5, 0.5), ((), ((2, 0.1),)))
    made.named(tree, 0, {0: 10}, (item,))
    for wrong in (
        replace(item, path=(0, 3)),
        replace(item, path=(0, -1)),
        replace(item, others=((), ((3, 0.1),))),
        replace(item, others=((), ((3,),))),
        replace(item, scores=(0.5,)),
        replace(item, path=(0, 0, 0, 0), scores=(0.5,) * 4),
    ):
        with pytest.raises(ValueError, match="detection"):
            made.named(tree, 0, {0: 10}, (wrong,))
    for wrong in (replace(item, path=[0, 1]), replace(item, path=(0, "b"))):  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            made.named(tree, 0, {0: 10}, (wrong,))
    made.number = made.number[1:]
    with pytest.raises(ValueError, match="numbers"):
        made.named(tree, 0, {0: 10}, (item,))
    made = objects(tree, 2)
    made.names.past = made.names.past.astype(np.float32)
    with pytest.raises(TypeError):
        made.named(tree, 0, {0: 10}, (item,))
