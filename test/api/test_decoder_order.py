"""Blocks late, twice, out of order, missing, damaged, or of a sender that began anew."""

import dataclasses
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from street import street_frames

from semhier_ros.codec import PacketError


@pytest.fixture(scope="module")
def stream(codec):
    """Blocks of twelve frames, and what each frame's reading is in the end."""
    frames = [codec.encode(image, frame=number) for number, image in enumerate(street_frames()[:36:3])]
    return [blocks[:5] for blocks in frames]


def test_missing_middle_block_stops_the_reading(codec, stream):
    decoder = codec.decoder()
    blocks = stream[0]
    coarse = decoder.push(blocks[0])
    for block in blocks[2:]:
        reading = decoder.push(block)
        assert reading == dataclasses.replace(coarse, fresh=False)
    reading = decoder.push(blocks[1])
    assert (reading.prefix, reading.fresh) == (4, True)


def test_repeats_are_counted_and_change_nothing(codec, stream):
    decoder = codec.decoder()
    first = decoder.push(stream[0][0])
    again = decoder.push(stream[0][0])
    assert again == dataclasses.replace(first, fresh=False)
    assert decoder.counters["duplicate"] == 1
    assert decoder.push(stream[0][2]) is not None
    decoder.push(stream[0][2])
    assert decoder.counters["duplicate"] == 2


def test_blocks_that_are_found_readable_are_decoded_once(codec, stream, monkeypatch):
    """And as before: also of a frame whose first blocks are known, and beside other frames."""
    plain, decoder, decoded = codec.decoder(), codec.decoder(), []
    decode = codec.model.decode

    def counted(index, data, before):
        decoded.append(index)
        return decode(index, data, before)

    expected = [[plain.push(block) for block in blocks] for blocks in stream[:3]]
    monkeypatch.setattr(codec.model, "decode", counted)
    for blocks, readings in zip(stream, expected, strict=False):
        for part, told in ((slice(0, 2), readings[:2]), (slice(2, 5), readings[2:])):
            assert decoder.readable(blocks[part])
            assert [decoder.push(block) for block in blocks[part]] == told
    assert decoded == [0, 1, 2, 3, 4] * 3


def test_a_late_block_still_refines_its_own_frame(codec, stream):
    decoder = codec.decoder(keep_frames=4)
    for blocks in stream[:4]:
        decoder.push(blocks[0])
    reading = decoder.push(stream[0][1])
    assert (reading.frame, reading.prefix, reading.fresh) == (0, 1, True)
    decoder.push(stream[4][0])
    assert decoder.push(stream[0][2]) is None
    assert decoder.counters["late"] == 1


def test_a_restarted_sender_is_followed(codec, stream):
    decoder = codec.decoder()
    block = stream[0][0]
    assert decoder.push(dataclasses.replace(block, frame=5000)) is not None
    assert decoder.push(dataclasses.replace(block, frame=4900)) is not None
    assert decoder.push(dataclasses.replace(block, frame=0)) is not None
    assert decoder.push(dataclasses.replace(block, frame=1)) is not None
    assert decoder.picture(5000) is None


def test_frame_numbers_wrap(codec, stream):
    decoder = codec.decoder(keep_frames=2)
    for frame in (65_534, 65_535, 0, 1):
        assert decoder.push(dataclasses.replace(stream[0][0], frame=frame)).frame == frame
    assert decoder.push(dataclasses.replace(stream[0][1], frame=65_535)) is None


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), loss=st.floats(0, 0.6))
def test_any_order_gives_the_reading_of_what_arrived(codec, stream, seed, loss):
    draw = random.Random(seed)
    frames = stream[:3]
    arrived = [block for blocks in frames for block in blocks if draw.random() >= loss]
    arrived += [block for block in arrived if draw.random() < 0.3]
    draw.shuffle(arrived)
    decoder = codec.decoder()
    last = {}
    for block in arrived:
        reading = decoder.push(block)
        if reading is not None:
            last[reading.frame] = reading
    for number, blocks in enumerate(frames):
        have = {block.index for block in arrived if block.frame == number}
        complete = next(k for k in range(len(blocks) + 1) if k not in have)
        if complete == 0:
            assert number not in last
            continue
        plain = codec.decoder()
        expected = [plain.push(block) for block in blocks[:complete]][-1]
        assert dataclasses.replace(last[number], fresh=True) == expected


def test_damaged_blocks_never_crash_and_never_move_a_reading_twice(codec, stream):
    """Blocks whose packet's checksum was forged: every content either decodes or is refused, in bounded time."""
    draw = np.random.default_rng(0)
    refused = 0
    for trial in range(3000):
        decoder = codec.decoder(keep_frames=2)
        index = int(draw.integers(4))
        for block in stream[trial % len(stream)][:index]:
            decoder.push(block)
        good = stream[trial % len(stream)][index]
        data = bytearray(good.data)
        kind = draw.integers(4)
        if kind == 0:
            data = bytearray(draw.bytes(int(draw.integers(0, 200))))
        elif kind == 1:
            data = data[: int(draw.integers(0, len(data) + 1))]
        elif data:
            data[int(draw.integers(len(data)))] ^= int(draw.integers(1, 256))
        try:
            reading = decoder.push(dataclasses.replace(good, data=bytes(data)))
        except PacketError:
            refused += 1
            assert decoder.counters["damaged"] == 1
            reading = decoder.push(good)
        assert reading is not None
        assert reading.prefix == index
        assert len(reading.detections) <= 63
    assert refused > 300


def test_huge_blocks_are_refused_quickly(codec, stream):
    decoder = codec.decoder()
    with pytest.raises(PacketError):
        decoder.push(dataclasses.replace(stream[0][0], data=b"\xa5" * 65_535))
    assert decoder.push(stream[0][0]).prefix == 0


def test_memory_is_bounded_whatever_arrives(codec, stream):
    decoder = codec.decoder(keep_frames=4)
    for frame in range(0, 60_000, 7):
        decoder.push(dataclasses.replace(stream[0][3], frame=frame))
    assert len(decoder._frames) <= 4
