"""Foot bits: two bits of an object more in block 0, in a stream of its own; without them nothing changes."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from street import street_frame

from semhier_ros import Codec, StreamInfo
from semhier_ros.camera.decoder_end import DecoderEnd
from semhier_ros.codec import Packet, PacketError
from semhier_ros.scene.layout import FOOT_LEVELS, foot_limits, foot_reach, quantise_feet, restore_boxes

GOLDEN = "b40120624c29bf48175a3d080f678feb10a2341fb456f356382a8f742a42e4e197997a9456"
"""Block 0 of the drawn street with foot bits."""


@pytest.fixture(scope="module")
def feet(codec: Codec) -> Codec:
    return codec.with_foot_bits()


def test_it_is_another_stream_whose_hash_follows_from_the_model_s(codec: Codec, feet: Codec) -> None:
    said = hashlib.sha256(f"{codec.stream_hash}\nfoot bits 1".encode()).hexdigest()[:16]
    assert feet.stream_hash == said != codec.stream_hash
    assert feet.model_hash != codec.model_hash
    assert feet.foot_bits
    assert not codec.foot_bits
    assert feet.with_foot_bits().stream_hash == feet.stream_hash
    assert set(codec.streams()) == {codec.stream_hash, feet.stream_hash}
    assert Codec.load("road+foot", "cpu", threads=1).stream_hash == feet.stream_hash


def test_a_model_of_whole_pictures_has_no_feet() -> None:
    with pytest.raises(ValueError, match="foot_bits: model imagenet reads whole pictures"):
        Codec.load("imagenet", "cpu", threads=1, foot_bits=True)


def test_block_0_is_the_golden_one_and_the_others_do_not_change(codec: Codec, feet: Codec) -> None:
    image = street_frame()
    plain, finer = codec.encode(image, blocks=4), feet.encode(image, blocks=4)
    assert finer[0].data.hex() == GOLDEN
    assert [block.data for block in finer[1:]] == [block.data for block in plain[1:]]
    objects = len(codec.decoder().push(plain[0]).detections)
    assert 0 < len(finer[0].data) - len(plain[0].data) <= objects * 3 / 8 + 1


def test_a_lower_side_is_read_within_its_quarter_of_the_reach_and_nothing_else_moves(codec: Codec, feet: Codec) -> None:
    image = street_frame()
    size = (image.shape[1], image.shape[0])
    plain, finer = codec.decoder(size), feet.decoder(size)
    model = feet.model
    layout = model.stream.layout
    scale = model._canvas(size).scale
    for one, other in zip(codec.encode(image, blocks=4), feet.encode(image, blocks=4), strict=True):
        before, after = plain.push(one), finer.push(other)
        code = model.decode(0, feet.encode(image, blocks=1)[0].data, None)
        restored = restore_boxes(layout, code.cells, code.sizes, code.offsets)
        limits = foot_limits(layout, code.feet, restored) * layout.stride / scale
        for old, new, (top, bottom) in zip(before.detections, after.detections, limits, strict=True):
            assert new.box[:3] == old.box[:3]
            assert (new.path, new.scores) == (old.path, old.scores)
            assert top - 0.01 <= new.box[3] <= min(bottom, size[1]) + 0.01 or new.box[3] == size[1]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_feet_come_back_within_their_quarter(codec: Codec, seed: int) -> None:
    layout = codec.model.stream.layout
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, layout.cells, 20).astype(np.int32)
    sizes = rng.integers(0, layout.size_levels, (20, 2)).astype(np.int32)
    offsets = rng.integers(0, layout.offset_levels, (20, 2)).astype(np.int32)
    restored = restore_boxes(layout, cells, sizes, offsets)
    boxes = restored.copy()
    boxes[:, 1] += rng.uniform(-0.5, 0.5, 20) * layout.offset_step * restored[:, 3]
    boxes[:, 3] *= np.exp(rng.uniform(-0.5, 0.5, 20) * layout.size_step)
    symbols = quantise_feet(layout, boxes, restored)
    assert ((symbols >= 0) & (symbols < FOOT_LEVELS)).all()
    low, high = foot_limits(layout, symbols, restored).T
    lower = boxes[:, 1] + boxes[:, 3] / 2
    assert ((low - 1e-9 <= lower) & (lower <= high + 1e-9)).all()
    assert np.allclose(high - low, 2 * foot_reach(layout) / FOOT_LEVELS * restored[:, 3])


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_forged_blocks_are_refused_or_read_and_never_raise_otherwise(feet: Codec, data: bytes) -> None:
    from semhier_ros.codec import Block

    decoder = feet.decoder((640, 480))
    try:
        reading = decoder.push(Block(feet.stream_tag, 1, 0, data))
    except PacketError:
        return
    assert reading is not None
    for found in reading.detections:
        x0, y0, x1, y1 = found.box
        assert np.isfinite(found.box).all()
        assert x0 <= x1
        assert y0 <= y1


def test_a_decoder_without_foot_bits_refuses_the_stream_and_one_with_both_reads_it(codec: Codec, feet: Codec) -> None:
    said: list[tuple[str, str]] = []
    info = StreamInfo("front", "lens", 640, 480, feet.name, feet.stream_hash, feet.model_hash, 1)
    block = feet.encode(street_frame(), blocks=1, frame=3)[0]
    packet = Packet.pack([block], stamp_ns=1_000)
    old = DecoderEnd("front", {codec.stream_hash: codec}, 8, lambda kind, text: said.append((kind, text)))
    old.describe(info, 0.0)
    assert old.datagram(packet, 0.0) == []
    assert said[0][0] == "unknown_model"
    assert feet.stream_hash in said[0][1]
    with pytest.raises(PacketError, match="stream tag"):
        codec.decoder().push(block)
    new = DecoderEnd("front", codec.streams(), 8, lambda kind, text: said.append((kind, text)))
    new.describe(info, 0.0)
    assert len(new.datagram(packet, 0.0)[0].reading.detections) > 0


def test_a_sender_with_a_memory_says_feet_in_whole_frames_only(feet: Codec) -> None:
    memory = feet.memory()
    decoder = feet.decoder((640, 480), memory=True)
    image = street_frame()
    for frame in range(3):
        stamp = 1_000_000_000 + frame * 100_000_000
        for block in feet.encode(image, blocks=4, frame=frame, stamp_ns=stamp, memory=memory):
            decoder.push(block, stamp)
        if (known := decoder.acknowledgement) is not None:
            memory.heard(known)
    assert decoder.counters["deltas"] > 0
