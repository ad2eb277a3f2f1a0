"""Compact frames: golden bytes, exactly one encoding, and nothing but CompactError for whatever else comes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semhier_ros.codec.block_request import BlockRequest
from semhier_ros.codec.compact import (
    ACK,
    COARSE,
    DELTA,
    DELTA_LONG,
    GONE,
    MAX_FRAME_BYTES,
    MEMORY,
    MISSING,
    MOTION,
    MOTION_LONG,
    NOTE,
    PIECE,
    QUERY,
    TURN,
    Compact,
    CompactError,
    Context,
    DeltaBlock,
    Seal,
    Word,
    announcement,
    finish,
    gone_frame,
    hail_frame,
    lay_out,
    lay_out_pieces,
    near,
    note_frame,
    noted,
    parcel,
    read_announcement,
    stamp_units,
    stored_frame,
    stream_tag,
    turn_frame,
    word_of,
)
from semhier_ros.codec.packet import MAX_MOTION_BYTES, Block, Packet, delta_tag
from semhier_ros.codec.pose import EgoPose
from semhier_ros.codec.stream_info import StreamInfo

STAMP = 1_700_000_000_000_000_000
UNITS = stamp_units(STAMP)
KEY = bytes(range(16))
SEALS = {"crc16": Seal(2), "crc32": Seal(4), "key": Seal(4, KEY)}
INFO = StreamInfo(
    camera="front",
    frame_id="lens",
    width=640,
    height=360,
    model="road",
    stream_hash="beef000102030405",
    model_hash="0011223344556677",
    stamp_ns=STAMP,
)
TAG = stream_tag(INFO)
COARSE_BLOCK = Block(0xBEEF, 513, 0, bytes.fromhex("e000007ffdb9"))
NAMES = Block(0xBEEF, 513, 1, b"\x80")
POSE = EgoPose("map", 1_700_000_000_123, 1234, -567, yaw=49_152).to_short_bytes()
CONTEXT = Context(tag=TAG, frame=513, stamp=UNITS, counter=0x1234)
DELTA_BLOCK = DeltaBlock(delta_tag(0xBEEF), 513, 0, bytes.fromhex("4a07c3"))
MOVING = Block(0xBEEF, 513, 0, COARSE_BLOCK.data, bytes.fromhex("1624205443d0"))


def golden() -> dict[str, bytes]:
    text = Path(__file__).with_name("golden") / "compact.txt"
    lines = [line.split() for line in text.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    return {name: bytes.fromhex(digits) for name, digits in lines}


def written() -> dict[str, bytes]:
    """The frames and words whose bytes are fixed."""
    both, later = [COARSE_BLOCK, NAMES], Context(tag=TAG, frame=513, counter=0x1234)
    long = Block(0xBEEF, 513, 0, bytes(range(1, 41)))
    made = {}
    for name, seal in SEALS.items():
        made[f"coarse-{name}"] = finish(lay_out([COARSE_BLOCK], STAMP, long=False), 0, False, CONTEXT, seal)
        made[f"note-{name}"] = finish(note_frame(513, POSE), 3, True, later, seal)
        gone = Context(tag=TAG, frame=1, counter=0x1234)
        made[f"gone-{name}"] = finish(gone_frame(513), 1, True, gone, seal)
        made[f"turn-{name}"] = finish(turn_frame(513), 2, True, later, seal)
        made[f"ack-{name}"] = Word(ACK, 1, 513, 0xFE, 300).to_bytes(Context(tag=TAG, counter=0x1234), seal)
        made[f"delta-{name}"] = finish(lay_out([DELTA_BLOCK], STAMP, long=False), 1, True, CONTEXT, seal)
        made[f"memory-{name}"] = Word(MEMORY, 1, count=300, memory=b"\x41\xa7").to_bytes(
            Context(tag=TAG, counter=0x1234), seal
        )
        made[f"motion-{name}"] = finish(lay_out([MOVING], STAMP, long=False), 2, False, CONTEXT, seal)
        parts = announcement(INFO, 513, 7, 60)
        for number, part in enumerate(parts):
            made[f"announcement-{number}-{name}"] = finish(part, 0, False, Context(counter=0x1234), seal)
    crc = SEALS["crc16"]
    made["joint"] = finish(lay_out(both, STAMP, long=False), 3, True, CONTEXT, crc)
    made["joint-long"] = finish(lay_out(both, STAMP, long=True), 0, False, CONTEXT, crc)
    made["names"] = finish(lay_out([NAMES], None, long=False), 0, False, later, crc)
    made["delta-long"] = finish(lay_out([DELTA_BLOCK], STAMP, long=True), 0, False, CONTEXT, crc)
    made["motion-joint-long"] = finish(lay_out([MOVING, NAMES], STAMP, long=True), 3, True, CONTEXT, crc)
    much = Block(0xBEEF, 513, 0, COARSE_BLOCK.data, bytes(range(1, 17)))
    made["motion-much"] = finish(lay_out([much], STAMP, long=False), 0, False, CONTEXT, crc)
    made["memory-none"] = Word(MEMORY, 0, count=7).to_bytes(Context(tag=TAG), crc)
    for number, piece in enumerate(lay_out_pieces(long, 30, STAMP)):
        made[f"piece-{number}"] = finish(piece, 0, False, CONTEXT, crc)
    made["ask-frame"] = word_of(BlockRequest(6, 513), 0).to_bytes(Context(tag=TAG), crc)
    made["ask-time"] = word_of(BlockRequest(0, None, 2500), 0).to_bytes(Context(tag=TAG), crc)
    made["query"] = Word(QUERY, 0).to_bytes(Context(), crc)
    whole, row = parcel(both, STAMP), Context(tag=TAG, frame=0xABCD, counter=0x1234)
    for name, seal in SEALS.items():
        made[f"hail-{name}"] = finish(hail_frame(), 2, True, Context(counter=0x1234), seal)
        made[f"stored-{name}"] = finish(stored_frame(129, whole[10:], True), 0, True, row, seal)
        made[f"missing-{name}"] = Word(MISSING, 0, 129, 0b101 << 6).to_bytes(row, seal)
    made["stored-first"] = finish(stored_frame(0, whole[:10], False, 0xABCD), 0, False, row, crc)
    made["stored-question"] = finish(stored_frame(2, b"", False, 0xABCD), 0, True, row, crc)
    made["missing-none"] = Word(MISSING, 0, 2).to_bytes(row, crc)
    made["missing-all"] = Word(MISSING, 0, 0, fresh=True).to_bytes(row, crc)
    return made


def test_frames_and_words_have_the_bytes_of_the_specification():
    assert written() == golden()


@given(st.binary(max_size=80), st.integers(0, 0xFFFF), st.integers(0, 3), st.booleans(), st.sampled_from(list(SEALS)))
def test_a_note_is_read_again_without_its_own_checksum(body, frame, slot, turn, name):
    seal, context = SEALS[name], Context(tag=TAG, frame=frame)
    data = finish(note_frame(frame, noted(b"\x50" + body)), slot, turn, context, seal)
    told = Compact.parse(data, seal)
    assert (told.kind, told.slot, told.turn, told.frame) == (NOTE, slot, turn, (frame & 0xFF, 8))
    assert told.opened(data, seal, context) == b"\x50" + body
    assert told.opened(data, seal, Context(tag=TAG, frame=frame ^ 0x100)) is None
    assert len(data) == 3 + len(body) + seal.overhead


@given(st.integers(0, 0xFFFF), st.binary(max_size=8), st.integers(0, 3), st.booleans(), st.sampled_from(list(SEALS)))
def test_that_a_frame_does_not_come_is_told_by_two_bytes_and_nothing_longer_is_it(frame, rest, slot, turn, name):
    seal, context = SEALS[name], Context(tag=TAG, frame=frame & 0xFF)
    data = finish(gone_frame(frame), slot, turn, context, seal)
    told = Compact.parse(data, seal)
    assert (told.kind, told.slot, told.turn, told.frame) == (GONE, slot, turn, (frame & 0xFF, 8))
    assert told.opened(data, seal, context) == b""
    assert told.opened(data, seal, Context(tag=TAG, frame=(frame & 0xFF) ^ 1)) is None
    assert len(data) == 2 + seal.overhead
    if rest:
        with pytest.raises(CompactError, match="behind a frame number"):
            Compact.parse(data[:2] + rest + data[2:], seal)


@pytest.mark.parametrize("name", SEALS)
def test_around_a_coarse_block_stand_two_bytes_and_the_check(name: str):
    around = len(golden()[f"coarse-{name}"]) - len(COARSE_BLOCK.data)
    assert around == {"crc16": 4, "crc32": 6, "key": 7}[name]


@given(
    st.lists(st.binary(max_size=200), min_size=1, max_size=4),
    st.integers(0, 15),
    st.integers(0, 0xFFFF),
    st.integers(0, 3),
    st.booleans(),
    st.booleans(),
    st.sampled_from(list(SEALS)),
    st.integers(0, (1 << 48) - 1),
)
def test_what_is_written_is_read_again(datas, first, frame, slot, turn, long, name, counter):
    first = min(first, 16 - len(datas))
    blocks = [Block(0xBEEF, frame, first + place, data) for place, data in enumerate(datas)]
    stamp = STAMP if first == 0 else None
    seal = SEALS[name]
    units = UNITS if stamp else 0
    context = Context(tag=TAG, frame=frame, stamp=units, counter=counter if seal.key else 0)
    data = finish(lay_out(blocks, stamp, long=long), slot, turn, context, seal)
    told = Compact.parse(data, seal)
    assert (told.slot, told.turn, told.span) == (slot, turn, (first, len(blocks)))
    assert told.frame is not None
    assert near(*told.frame, frame) == frame
    assert stamp is None or (told.stamp is not None and near(*told.stamp, UNITS + 100) == UNITS)
    assert seal.holds(data, context)
    packet = Packet.parse(told.packet(0xBEEF, frame, UNITS if stamp else None))
    assert list(packet.blocks) == blocks
    assert packet.stamp is None or abs(packet.stamp - STAMP % (1 << 40)) <= 4_000_000


@given(st.binary(max_size=200), st.integers(0, 0xFFFF), st.booleans(), st.sampled_from(list(SEALS)))
def test_a_delta_is_read_again_as_one_byte_more_than_a_coarse_block(data, frame, long, name):
    seal, context = SEALS[name], Context(tag=TAG, frame=frame, stamp=UNITS)
    block = DeltaBlock(delta_tag(0xBEEF), frame, 0, data)
    made = finish(lay_out([block], STAMP, long=long), 2, True, context, seal)
    assert len(made) == 3 + long + len(data) + seal.overhead
    told = Compact.parse(made, seal)
    assert (told.kind, told.slot, told.turn) == (DELTA_LONG if long else DELTA, 2, True)
    assert told.stamp is not None
    assert near(*told.stamp, UNITS + 100) == UNITS
    packet = Packet.parse(told.packet(0xBEEF, frame, UNITS))
    assert packet.blocks == (Block(delta_tag(0xBEEF), frame, 0, data),)


@given(
    st.lists(st.binary(max_size=100), min_size=1, max_size=4),
    st.binary(min_size=1, max_size=300),
    st.booleans(),
    st.sampled_from(list(SEALS)),
)
def test_motion_is_read_again_with_its_blocks(datas, motion, long, name):
    seal, context = SEALS[name], Context(tag=TAG, frame=77, stamp=UNITS)
    blocks = [Block(0xBEEF, 77, place, data, b"" if place else motion) for place, data in enumerate(datas)]
    made = finish(lay_out(blocks, STAMP, long=long), 1, False, context, seal)
    plain = finish(lay_out([Block(0xBEEF, 77, 0, datas[0]), *blocks[1:]], STAMP, long=long), 1, False, context, seal)
    header = 2 if len(datas) == 1 and not long else 0  # block 0 alone has a shorter one
    varint = 0 if len(motion) < 16 else 1 if len(motion) < 128 else 2
    assert len(made) == len(plain) + header + varint + len(motion)
    told = Compact.parse(made, seal)
    assert (told.kind, told.slot) == (MOTION_LONG if long else MOTION, 1)
    assert Packet.parse(told.packet(0xBEEF, 77, UNITS)).blocks == tuple(blocks)


def test_a_delta_stands_alone_and_a_motion_part_has_one_encoding():
    with pytest.raises(ValueError, match="2 with a delta, which stands alone"):
        lay_out([DELTA_BLOCK, NAMES], STAMP, long=False)
    seal = SEALS["crc16"]
    for length in (b"\x05", b"\x0f", b"\x84\x00", (0x8000 | MAX_MOTION_BYTES + 1).to_bytes(2, "big")):
        with pytest.raises(CompactError, match="motion part of"):
            Compact.parse(bytes((0x9C, 1, 0x00, 5)) + length + bytes(30), seal)
    short = Compact.parse(bytes((0x9C, 1, 0x90, 5)) + b"body" + bytes(2), seal)
    with pytest.raises(CompactError, match=r"block lengths \[\] and motion of 9 in 4 bytes"):
        short.packet(0xBEEF, 1, 5)


@given(
    st.sampled_from(
        [lead | turn << 6 | slot for lead in (0x8C, 0x94, 0x9C, 0xAC) for turn in (0, 1) for slot in range(4)]
    ),
    st.binary(max_size=60),
    st.sampled_from(list(SEALS)),
)
def test_deltas_and_motion_of_any_bytes_are_read_or_refused_and_have_one_encoding(lead, rest, name):
    seal = SEALS[name]
    data = bytes((lead,)) + rest
    try:
        told = Compact.parse(data, seal)
        packet = Packet.parse(told.packet(0xBEEF, 1, 5))
    except CompactError:
        return
    blocks = list(packet.blocks)
    if told.kind in (DELTA, DELTA_LONG):
        blocks = [DeltaBlock.of(blocks[0])]
    again = lay_out(blocks, 5 * 8_000_000, long=told.kind in (DELTA_LONG, MOTION_LONG))
    keyed = seal.key is not None
    laid = data[:1] + data[1 + keyed : len(data) - seal.proof_bytes]
    stamp = 2 + (told.kind in (MOTION, MOTION_LONG))
    size = 2 if told.kind in (DELTA_LONG, MOTION_LONG) else 1
    assert again[0] == laid[0] & ~0x43
    assert again[2:stamp] == laid[2:stamp]
    assert again[stamp + size :] == laid[stamp + size :]


@given(st.binary(max_size=12), st.sampled_from(list(SEALS)))
def test_a_word_of_memory_is_read_again_and_nothing_else_is_one(rest, name):
    seal, context = SEALS[name], Context(True, TAG)
    for memory in (b"", rest[:2] if len(rest) > 1 else b"ab"):
        word = Word(MEMORY, 3, count=7, memory=memory)
        data = word.to_bytes(context, seal)
        assert len(data) == 2 + len(memory) + seal.word_bytes
        assert Word.parse(data, seal) == word
    data = bytes((0xEB,)) + rest
    if len(data) - seal.word_bytes not in (2, 4):
        with pytest.raises(CompactError):
            Word.parse(data, seal)


@given(st.binary(min_size=20, max_size=900), st.integers(0, 15), st.integers(24, 200))
def test_pieces_fit_their_frames_and_make_the_block_again(data, index, limit):
    block = Block(0xBEEF, 77, index, data)
    frames = lay_out_pieces(block, limit, STAMP if index == 0 else None)
    assert max(map(len, frames)) <= limit
    parts = [Compact.parse(finish(frame, 0, False, Context(), SEALS["crc16"]), SEALS["crc16"]) for frame in frames]
    assert {part.kind for part in parts} == {PIECE}
    assert [part.piece for part in parts] == [(number, len(frames)) for number in range(len(frames))]
    assert b"".join(part.body for part in parts) == data


@given(st.integers(27, 200), st.integers(-5, 100_000))
def test_an_announcement_of_any_frame_size_says_the_description_again(limit, age):
    frames = announcement(INFO, 513, age, limit)
    assert max(map(len, frames)) <= limit
    body = b"".join(frame[2:] for frame in frames)
    assert read_announcement(body) == (INFO, 513, min(max(age, 0), 0xFFFF), b"")


@given(st.binary(max_size=64), st.sampled_from(list(SEALS)))
def test_anything_is_a_frame_or_refused_and_nothing_else(data, name):
    seal = SEALS[name]
    for parse in (Compact.parse, Word.parse):
        try:
            told = parse(data, seal)
        except CompactError:
            continue
        assert told.slot < 4
        if isinstance(told, Compact) and told.frame is not None and told.kind not in (TURN, GONE):
            try:
                packet = told.packet(0xBEEF, 1, None if told.stamp is None else 5)
            except CompactError:
                continue
            assert Packet.parse(packet).to_bytes() == packet


@given(st.sampled_from(sorted(golden())), st.data())
def test_a_frame_with_up_to_three_wrong_bits_is_refused_by_every_check(name, data):
    frame = golden()[name]
    seal = SEALS[name.rsplit("-", 1)[-1]] if name.rsplit("-", 1)[-1] in SEALS else SEALS["crc16"]
    bits = data.draw(st.sets(st.integers(0, 8 * len(frame) - 1), min_size=1, max_size=3))
    value = int.from_bytes(frame, "big")
    for bit in bits:
        value ^= 1 << bit
    damaged = value.to_bytes(len(frame), "big")
    contexts = [CONTEXT, Context(tag=TAG, frame=513, counter=0x1234), Context(counter=0x1234)]
    contexts += [Context(tag=TAG, frame=1, counter=0x1234)]
    contexts += [Context(True, TAG, counter=0x1234), Context(True, TAG), Context(True)]
    contexts += [Context(back, TAG, 0xABCD, counter=0x1234) for back in (False, True)]
    right = [context for context in contexts if seal.holds(frame, context)]
    assert right
    assert not any(seal.holds(damaged, context) for context in right)


@pytest.mark.parametrize("name", SEALS)
def test_a_number_restored_wrongly_is_noticed_by_the_check(name: str):
    frame, seal = golden()[f"coarse-{name}"], SEALS[name]
    assert seal.holds(frame, CONTEXT)
    others = [
        Context(tag=TAG, frame=529, stamp=UNITS, counter=0x1234),
        Context(tag=TAG, frame=513, stamp=UNITS + 256, counter=0x1234),
        Context(tag=bytes(4), frame=513, stamp=UNITS, counter=0x1234),
        Context(True, TAG, 513, UNITS, 0x1234),
    ]
    assert not any(seal.holds(frame, context) for context in others)


def test_block_0_alone_has_one_encoding():
    data = bytes((0x80, 1, 0x00, 5)) + b"body" + bytes(2)
    with pytest.raises(CompactError, match="without the short header"):
        Compact.parse(data, SEALS["crc16"])
    assert Compact.parse(golden()["coarse-crc16"], SEALS["crc16"]).kind == COARSE


def test_a_duration_is_rounded_up_to_a_power_of_two_of_seconds():
    for asked, said in ((0, 0), (1, 1000), (1000, 1000), (2500, 4000), (3_600_000, 3_600_000)):
        data = word_of(BlockRequest(3, None, asked), 0).to_bytes(Context(), SEALS["crc16"])
        assert Word.parse(data, SEALS["crc16"]).request == BlockRequest(3, None, said)


def test_what_is_out_of_range_is_named():
    with pytest.raises(ValueError, match=r"check: 3 bytes, expected 2 \(CRC-16\) or 4"):
        Seal(3)
    with pytest.raises(ValueError, match="key: 3 bytes, expected 16 to 32"):
        Seal(4, b"abc")
    with pytest.raises(ValueError, match="slot: 4, expected 0 to 3"):
        finish(turn_frame(0), 4, False, Context(), SEALS["crc16"])
    with pytest.raises(ValueError, match="expected at least"):
        announcement(INFO, 0, 0, 5)
    with pytest.raises(CompactError, match=f"expected 3 to {MAX_FRAME_BYTES}"):
        Compact.parse(bytes(MAX_FRAME_BYTES + 1), SEALS["crc16"])
