"""Frames that are read together are read as each would be alone: of any depth, pared, empty, placed by memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from semhier_ros.api import Codec
from semhier_ros.codec.model import ReadingRequest
from semhier_ros.lab.made_scenes import FRAME_NS, drive
from semhier_ros.scene.budget import importance, pare
from semhier_ros.scene.layout import SceneCode
from semhier_ros.scene.memory import DeltaCodec
from semhier_ros.scene.model import SceneModel
from semhier_ros.scene.objects import code_objects
from semhier_ros.scene.remembering import code_of


@pytest.fixture(scope="module", params=["plain", "foot bits"])
def model(request: pytest.FixtureRequest) -> SceneModel:
    road = Codec.load("road", "cpu", threads=1).model
    assert isinstance(road, SceneModel)
    return road.with_foot_bits() if request.param == "foot bits" else road


def codes(model: SceneModel) -> Iterator[SceneCode]:
    """Whole ones, as decoded ones are, then some that a budget pared."""
    features, draw = len(model.folder.projection.feature_mean), np.random.default_rng(3)
    for number, objects in enumerate(islice(drive(model.stream.layout, 8, 15), 24)):
        seen = replace(objects, features=draw.normal(size=(len(objects), features)).astype(np.float32))
        code = code_objects(model.stream, model.folder.projection, seen, model.semantic_blocks)
        yield pare(model.stream, code, importance(model.stream.layout, seen), 40) if number % 3 == 2 else code


def test_names_are_equal_and_scores_to_rounding(model: SceneModel) -> None:
    found = list(codes(model))
    found.append(found[0].take(np.zeros(len(found[0]), bool)))
    if not model.foot_bits:  # a state has none
        deltas = DeltaCodec(model.stream)
        found.append(code_of(deltas, deltas.whole(found[1], 2, 7, 7 * FRAME_NS)))
    sizes = [(640, 360), (1280, 720), (800, 600)]
    requests = [
        ReadingRequest(code, (number + least) % model.semantic_blocks, sizes[number % 3])
        for least in range(model.semantic_blocks)
        for number, code in enumerate(found)
    ]
    alone = [model.read(*request) for request in requests]
    assert len({len(one) for one in alone}) > 3
    assert len({len(item.path) for one in alone for item in one}) == model.levels
    for code in found:
        code.worked.clear()
    together = model.read_many(requests)
    for ours, theirs in zip(together, alone, strict=True):
        assert [(one.id, one.path, one.names) for one in ours] == [(one.id, one.path, one.names) for one in theirs]
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine.scores, other.scores, rtol=0, atol=1e-12)
            np.testing.assert_allclose(mine.box, other.box, rtol=1e-6, atol=1e-4)
            assert [[n for n, _ in level] for level in mine.others] == [[n for n, _ in level] for level in other.others]


def test_nothing_asked_is_nothing_read(model: SceneModel) -> None:
    assert model.read_many([]) == []
