"""Semantic blocks of scenes as the compiled kernel reads them, against the Python that defines it: whole ones, pared
ones and bytes that no encoder made."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from semhier_ros.api import Codec
from semhier_ros.codec.entropy import BlockDecoder, BlockEncoder, BlockError, Tables
from semhier_ros.codec.packet import Doubted
from semhier_ros.lab.made_scenes import drive
from semhier_ros.scene.layout import UNNAMED, SceneCode, restore_boxes
from semhier_ros.scene.model import SceneModel
from semhier_ros.scene.objects import code_objects
from semhier_ros.scene.stream import FEET, SceneStream

MODELS = ("road", "street", "road+foot")


@lru_cache
def model(name: str) -> SceneModel:
    found = Codec.load(name, "cpu", threads=1).model
    assert isinstance(found, SceneModel)
    return found


@lru_cache
def plain(name: str) -> SceneStream:
    """The stream, read by Python alone."""
    stream = copy(model(name).stream)
    stream.__dict__["_compiled"] = None
    return stream


@lru_cache
def frames(name: str) -> list[list[bytes]]:
    """Blocks of some frames, of which a third are pared, and of one without objects."""
    scenes, found = model(name), []
    features, draw = len(scenes.folder.projection.feature_mean), np.random.default_rng(3)
    for number, objects in enumerate(islice(drive(scenes.stream.layout, 8, 15), 24)):
        objects = replace(objects, features=draw.normal(size=(len(objects), features)).astype(np.float32))
        code = code_objects(scenes.stream, scenes.folder.projection, objects, scenes.semantic_blocks)
        if number % 3 == 2:
            code = pared(code, draw.integers(number % 4, scenes.semantic_blocks, len(code)))
        if number == 5:
            code = code.take(np.zeros(len(code), bool))
        found.append([scenes.stream.encode(index, code) for index in range(scenes.semantic_blocks)])
    return found


def pared(code: SceneCode, depth: NDArray[np.int64]) -> SceneCode:
    """What is left where each object is refined by the blocks up to its depth."""
    kept = [depth > block for block in range(len(code.kept))]
    path = [np.where(flags, nodes, UNNAMED).astype(np.int32) for flags, nodes in zip(kept, code.path[1:], strict=False)]
    latents = [(group * flags[:, None]).astype(np.int32) for flags, group in zip(kept, code.latents, strict=True)]
    return replace(code, kept=kept, path=[code.path[0], *path], latents=latents)


def read(stream: SceneStream, blocks: list[bytes], code: SceneCode | None = None) -> SceneCode:
    for index, data in enumerate(blocks):
        code = stream.decode(index, data, code)
    assert code is not None
    return code


def said(code: SceneCode) -> list[Any]:
    """Everything, types and all."""
    parts = [code.cells, code.sizes, code.offsets, code.scores, *code.kept, *code.path, *code.latents]
    feet = [] if code.feet is None else [code.feet]
    return [(part.dtype.str, part.shape, part.tobytes()) for part in parts + feet]


@pytest.mark.parametrize("name", MODELS)
def test_blocks_say_the_same(name: str) -> None:
    compiled, by_python = model(name).stream, plain(name)
    assert compiled._compiled is not None
    depths = set()
    for blocks in frames(name):
        for end in range(1, len(blocks) + 1):
            found, expected = read(compiled, blocks[:end]), read(by_python, blocks[:end])
            assert said(found) == said(expected)
        depths |= set(found.depth(len(blocks) - 1).tolist())
        layout, worked = compiled.layout, found.worked
        boxes = restore_boxes(layout, expected.cells, expected.sizes, expected.offsets)
        geometry = by_python._scaled_geometry(expected)
        for one, other in ((worked["boxes"], boxes), (worked["geometry"], geometry)):
            assert one.dtype == other.dtype
            assert np.array_equal(one, other)
    assert len(depths) > 2, "no frame was pared"


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(MODELS),
    st.integers(0, 23),
    st.integers(0, 3),
    st.one_of(st.binary(max_size=60), st.integers(0, 400), st.just(b"")),
    st.booleans(),
)
def test_bytes_that_no_encoder_made_are_taken_or_refused_alike(
    name: str, frame: int, index: int, damage: bytes | int, doubted: bool
) -> None:
    blocks = frames(name)[frame]
    data = damage
    if isinstance(damage, int):  # one bit is another one
        flipped = bytearray(blocks[index] or b"\0")
        flipped[damage // 8 % len(flipped)] ^= 1 << damage % 8
        data = bytes(flipped)
    assert isinstance(data, bytes)
    outcomes = []
    for stream in (model(name).stream, plain(name)):
        before = read(stream, blocks[:index]) if index else None
        try:
            outcomes.append(said(stream.decode(index, Doubted(data) if doubted else data, before)))
        except BlockError:
            outcomes.append(["refused"])
    assert outcomes[0] == outcomes[1]


def test_a_count_class_that_the_layout_does_not_have_is_refused_by_its_number() -> None:
    """Of a table with a class more than there are rows of cells."""
    found = model("road").stream
    classes = len(found.layout.count_edges) + 1
    wide = SceneStream(
        found.layout, {**found.tables, "count": Tables.from_counts(np.ones((1, classes + 1)))}, found.networks,
        found.occupancy_rows, found.picture_shifts,
    )  # fmt: skip
    encoder = BlockEncoder()
    encoder.put(np.array([classes]), wide.tables["count"], 0)
    with pytest.raises(BlockError, match=rf"count class {classes}: outside 0\.\.{classes - 1}$"):
        wide.decode(0, encoder.finish(), None)


def test_what_does_not_fit_is_refused() -> None:
    stream, blocks = model("road").stream, frames("road")[0]
    code = read(stream, blocks[:2])
    geometry = code.worked["geometry"]
    good = [2, code.kept[0], code.sizes, geometry, code.path, code.latents]
    BlockDecoder(blocks[2]).through(stream._compiled.refined, *good)
    nowhere = [code.path[0], np.full(len(code), len(stream.layout.parents[0]), np.int32)]
    for place, wrong in (
        (0, 0),
        (0, 1),
        (0, 9),
        (1, code.kept[0][1:]),
        (2, code.sizes[:, :1]),
        (3, geometry[:, 1:]),
        (3, geometry[1:]),
        (4, code.path[:1]),
        (4, [code.path[0], code.path[1][1:]]),
        (4, nowhere),
        (5, []),
        (5, [code.latents[0][:, 1:]]),
    ):
        with pytest.raises(ValueError, match=r"expected|block|path"):
            BlockDecoder(blocks[2]).through(stream._compiled.refined, *good[:place], wrong, *good[place + 1 :])
    with pytest.raises(TypeError):
        BlockDecoder(blocks[2]).through(stream._compiled.refined, *good[:2], code.sizes.astype(float), *good[3:])


def test_a_stream_that_does_not_fit_is_refused() -> None:
    stream = copy(model("road").stream)

    def made(**other: Any) -> Any:
        changed = copy(stream)
        changed.__dict__.pop("_compiled", None)
        for name, value in other.items():
            setattr(changed, name, value)
        return changed._compiled

    assert made() is not None
    with pytest.raises(ValueError, match="occupancy_rows"):
        made(occupancy_rows=stream.occupancy_rows[1:])
    wide = Tables.gaussian([3.0], stream.layout.size_levels)
    with pytest.raises(ValueError, match="sides"):
        made(tables={**stream.tables, "width": wide})
    with pytest.raises(KeyError):
        made(tables={name: table for name, table in stream.tables.items() if name != "score"})
    assert FEET.alphabet == 4
