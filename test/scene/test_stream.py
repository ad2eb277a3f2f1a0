"""Names in the blocks of a scene: every node is read back as it was said, and no child is taken that a node lacks."""

from __future__ import annotations

import numpy as np
import pytest

from semhier_ros.api import Codec
from semhier_ros.codec.entropy import BlockEncoder, BlockError
from semhier_ros.scene.layout import Ints, SceneCode
from semhier_ros.scene.model import SceneModel
from semhier_ros.scene.stream import SceneStream


@pytest.fixture(scope="module", params=["road", "street"])
def stream(request: pytest.FixtureRequest) -> SceneStream:
    model = Codec.load(request.param, "cpu", threads=1).model
    assert isinstance(model, SceneModel)
    return model.stream


def paths_to_leaves(stream: SceneStream) -> list[Ints]:
    """Of every leaf the nodes above it and itself, level by level, last leaf first."""
    parents = [np.array(parents, np.int32) for parents in stream.layout.parents]
    path = [np.arange(len(parents[-1]), dtype=np.int32)[::-1]]
    for above in parents[::-1]:
        path.insert(0, above[path[0]])
    return path


def said_down_to(stream: SceneStream, level: int) -> SceneCode:
    """An object for every leaf, named down to `level`, as decoded."""
    path = paths_to_leaves(stream)
    count = len(path[0])
    pairs = np.zeros((count, 2), np.int32)
    code = SceneCode(np.arange(count, dtype=np.int32), pairs, pairs, pairs[:, 0], path=path[:1])
    code = stream.decode(0, stream.encode(0, code), None)
    for index in range(1, level + 1):
        more = code.extended()
        more.kept.append(np.ones(count, bool))
        more.path.append(path[index])
        more.latents.append(stream.latent_parameters(index, more)[0])
        code = stream.decode(index, stream.encode(index, more), code)
    return code


def test_every_node_is_read_back(stream: SceneStream) -> None:
    found = said_down_to(stream, stream.levels - 1)
    for one, other in zip(found.path, paths_to_leaves(stream), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_child_that_a_node_lacks_is_refused(stream: SceneStream) -> None:
    level = stream.levels - 1
    code, tables = said_down_to(stream, level - 1), stream.tables
    counts = np.bincount(stream.layout.parents[level - 1])[code.path[level - 1]]
    place = int(np.argmin(counts))
    assert counts[place] < tables[f"name_{level}"].alphabet
    symbols = np.zeros(len(code), np.int32)
    symbols[place] = counts[place]
    encoder = BlockEncoder()
    encoder.put([1], tables["whole"], level - 1)
    encoder.put(symbols, tables[f"name_{level}"], stream.name_rows(level, code))
    message = f"child {counts[place]} of a node with {counts[place]}"
    with pytest.raises(BlockError, match=message):
        stream.decode(level, encoder.finish(), code)
