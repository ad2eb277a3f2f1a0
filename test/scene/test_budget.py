"""A scene within a byte budget: what is given up, and in which order."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semhier_ros import Codec
from semhier_ros.scene.budget import Motion, give_up, importance, object_bits, overlaps, pare
from semhier_ros.scene.objects import Objects, code_objects


@pytest.fixture(scope="module")
def folder():
    return Codec.load("road", "cpu", threads=1).model.folder


def scene(layout, count, seed, features):
    draw = np.random.default_rng(seed)
    cells = np.sort(draw.choice(layout.cells, count, replace=False)).astype(np.int32)
    sides = np.exp(draw.uniform(0.3, 3.0, (count, 2)))
    middle = np.stack([cells % layout.columns, cells // layout.columns], axis=1) + 0.5
    leaves = np.log(draw.dirichlet(np.full(len(layout.parents[-1]), 0.2), count) + 1e-6)
    return Objects(
        cells,
        np.concatenate([middle, sides], axis=1).astype(np.float32),
        draw.uniform(0.16, 0.9, count).astype(np.float32),
        leaves.astype(np.float32),
        draw.normal(size=(count, features)).astype(np.float32),
    )


def sizes(stream, code):
    return [len(stream.encode(block, code)) for block in range(stream.semantic_blocks) if code.refined(block).any()]


def decoded(stream, code):
    out = None
    for block in range(stream.semantic_blocks):
        if block and not code.refined(block).any():
            break
        out = stream.decode(block, stream.encode(block, code), out)
    return out


@settings(max_examples=60)
@given(st.integers(1, 40), st.integers(0, 2**32 - 1), st.integers(5, 250))
def test_fits_and_decodes(folder, count, seed, max_bytes):
    stream = folder.stream
    objects = scene(stream.layout, count, seed, len(folder.projection.feature_mean))
    whole = code_objects(stream, folder.projection, objects, stream.semantic_blocks)
    worth = importance(stream.layout, objects)
    code = pare(stream, whole, worth, max_bytes)
    assert sum(sizes(stream, code)) <= max_bytes or len(code) == 1
    got = decoded(stream, code)
    np.testing.assert_array_equal(got.cells, code.cells)
    for ours, theirs in zip(got.path, code.path, strict=False):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(got.latents, code.latents, strict=False):
        np.testing.assert_array_equal(ours, theirs)
    assert set(code.cells) <= set(whole.cells)


def test_a_wide_budget_changes_nothing(folder):
    stream = folder.stream
    objects = scene(stream.layout, 12, 3, len(folder.projection.feature_mean))
    whole = code_objects(stream, folder.projection, objects, stream.semantic_blocks)
    assert pare(stream, whole, importance(stream.layout, objects), 10_000) is whole


def test_a_little_less_costs_fine_levels_and_no_object(folder):
    stream = folder.stream
    objects = scene(stream.layout, 12, 3, len(folder.projection.feature_mean))
    whole = code_objects(stream, folder.projection, objects, stream.semantic_blocks)
    total = sum(sizes(stream, whole))
    code = pare(stream, whole, importance(stream.layout, objects), total - 10)
    assert len(code) == 12
    assert 0 < (code.depth(stream.semantic_blocks - 1) < stream.semantic_blocks - 1).sum() < 12


def test_ideal_bits_add_up_to_the_bytes_sent(folder):
    stream = folder.stream
    objects = scene(stream.layout, 25, 5, len(folder.projection.feature_mean))
    whole = code_objects(stream, folder.projection, objects, stream.semantic_blocks)
    bits = object_bits(stream, whole)
    for block in range(1, stream.semantic_blocks):
        assert abs(8 * len(stream.encode(block, whole)) - bits[:, block].sum()) < 10


def test_what_is_worth_least_for_its_bits_goes_first():
    bits = np.full((3, 4), 10.0)
    values = np.array([[3.0], [2.0], [1.0]]) * np.array([1.0, 0.8, 0.6, 0.1])
    depth = np.full(3, 3)
    assert give_up(bits, values, depth, 1).tolist() == [3, 3, 2]
    assert give_up(bits, values, depth, 30).tolist() == [2, 2, 2]
    assert give_up(bits, values, depth, 31).tolist() == [2, 2, 1], "the least important loses its type first"
    assert give_up(bits, values, depth, 1000).tolist() == [0, -1, -1], "the most important stays"
    assert depth.tolist() == [3, 3, 3]
    cheap = bits.copy()
    cheap[2, 2] = 0.5
    near = np.array([[3.0], [2.0], [1.5]]) * np.array([1.0, 0.8, 0.6, 0.1])
    assert give_up(cheap, near, np.full(3, 2), 1).tolist() == [2, 1, 2], "a type that costs nothing is kept"
    doubtful = values.copy()
    doubtful[2] = 0.01
    assert give_up(bits, doubtful, np.full(3, 2), 25).tolist() == [2, 2, -1], "a doubtful object goes before names"


def test_near_and_moving_objects_matter_most(folder):
    layout = folder.stream.layout
    objects = scene(layout, 2, 1, 4)
    boxes = np.array([[20, 20, 4, 4], [40, 20, 8, 8]], np.float32)
    equal = Objects(objects.cells, boxes, np.array([0.5, 0.5], np.float32), objects.leaves, objects.features)
    still = importance(layout, equal)
    assert still[1] > still[0]
    moving = importance(layout, equal, np.array([1.0, 0.0]))
    assert moving[0] > moving[1]


def test_motion_takes_the_camera_off():
    memory = Motion()
    boxes = np.array([[10, 10, 4, 4], [20, 12, 6, 6], [40, 20, 8, 8], [60, 22, 8, 8]], np.float32)
    assert (memory.update(boxes) == 0).all()
    panned = boxes + np.array([1, 0, 0, 0], np.float32)
    panned[3, 0] += 2
    moved = memory.update(panned)
    assert moved[:3].max() < 0.01
    assert moved[3] > 0.2
    assert (memory.update(np.zeros((0, 4), np.float32)) == 0).all()
    assert (memory.update(boxes) == 0).all()


def test_overlaps():
    boxes = np.array([[0, 0, 2, 2]], float)
    assert overlaps(boxes, np.array([[1, 0, 2, 2], [5, 5, 1, 1]], float)).tolist() == [[pytest.approx(1 / 3), 0.0]]


def test_encode_within_max_bytes():
    from semhier_ros.footage.video import default_video, read_video

    codec = Codec.load("road", "cpu", threads=1)
    frame = next(islice(read_video(default_video()), 150, None))
    full = codec.encode(frame.image, blocks=codec.semantic_blocks)
    total = sum(len(block.data) for block in full)
    for share in (0.9, 0.6, 0.3):
        blocks = codec.encode(frame.image, max_bytes=int(total * share))
        assert sum(len(block.data) for block in blocks) <= int(total * share)
        decoder = codec.decoder((frame.image.shape[1], frame.image.shape[0]))
        for block in blocks:
            reading = decoder.push(block)
        assert reading.detections
        assert max(len(found.path) for found in reading.detections) >= 1
