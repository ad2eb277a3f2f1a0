"""Encrypted frames: golden bytes, nothing readable, nothing taken that was touched, and no nonce twice."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semhier_ros.codec.compact import (
    Compact,
    CompactError,
    Context,
    DeltaBlock,
    Seal,
    announcement,
    finish,
    lay_out,
    read_announcement,
    stamp_units,
    stream_tag,
    turn_frame,
)
from semhier_ros.codec.packet import Block, Packet, delta_tag
from semhier_ros.codec.secrecy import Cipher
from semhier_ros.codec.stream_info import StreamInfo

pytest.importorskip("cryptography", reason="cryptography is not installed: requirements/radio.txt")

KEY, EPOCH = bytes(range(16)), bytes(range(8))
STAMP = 1_700_000_000_000_000_000
INFO = StreamInfo("front", "lens", 640, 360, "road", "beef000102030405", "0011223344556677", STAMP)
CONTEXT = Context(tag=stream_tag(INFO), frame=513, stamp=stamp_units(STAMP), counter=0x1234)
BLOCK = Block(0xBEEF, 513, 0, bytes.fromhex("e000007ffdb9"))
MODES = {"chacha20": 4, "chacha20poly1305": 16}
GOLDEN = {
    "chacha20": "0134007656138e4bf953fe672e",
    "chacha20poly1305": "013400bf08ea4b8c759e2007f5ebc201c47fed48502f4f5711",
}


def seal(mode: str) -> Seal:
    return Seal(4, KEY, mode).of(EPOCH)


def frame(mode: str, block: Block = BLOCK, context: Context = CONTEXT) -> bytes:
    return finish(lay_out([block], STAMP, long=False), 0, False, context, seal(mode))


@pytest.mark.parametrize("mode", MODES)
def test_a_frame_has_the_bytes_of_the_specification(mode):
    assert frame(mode).hex() == GOLDEN[mode]


@pytest.mark.parametrize(("mode", "proof"), MODES.items())
def test_around_a_block_stand_header_counter_and_proof(mode, proof):
    assert len(frame(mode)) == 2 + 1 + len(BLOCK.data) + proof
    assert seal(mode).overhead == 1 + proof


@given(st.sampled_from(sorted(MODES)), st.binary(max_size=300), st.integers(0, (1 << 48) - 1))
def test_what_is_hidden_is_shown_again_and_is_not_to_be_read_before(mode, data, counter):
    block, context = Block(0xBEEF, 513, 0, data), replace(CONTEXT, counter=counter)
    made = frame(mode, block, context)
    told = Compact.parse(made, seal(mode))
    assert told.opened(made, seal(mode), context) == data
    assert len(data) < 6 or data not in made
    assert told.opened(made, Seal(4, KEY, mode).of(bytes(8)), context) is None
    assert told.opened(made, Seal(4, bytes(16), mode).of(EPOCH), context) is None
    assert told.opened(made, Seal(4, KEY, mode), context) is None  # its sender's epoch is not known


@given(st.sampled_from(sorted(MODES)), st.binary(max_size=60), st.binary(min_size=1, max_size=40), st.booleans())
def test_deltas_and_what_blocks_say_of_motion_are_hidden_too(mode, data, motion, long):
    delta = DeltaBlock(delta_tag(0xBEEF), 513, 0, data)
    for block in (delta, Block(0xBEEF, 513, 0, data, motion)):
        made = finish(lay_out([block], STAMP, long=long), 0, False, CONTEXT, seal(mode))
        told = Compact.parse(made, seal(mode))
        body = told.opened(made, seal(mode), CONTEXT)
        assert body == block.motion + data
        assert len(body) < 6 or body not in made
        packet = Packet.parse(replace(told, body=body).packet(0xBEEF, 513, CONTEXT.stamp))
        assert (packet.stream, packet.blocks[0].data, packet.blocks[0].motion) == (block.stream, data, block.motion)


@given(st.sampled_from(sorted(MODES)), st.data())
def test_a_touched_frame_or_context_is_refused(mode, data):
    made = frame(mode)
    bit = data.draw(st.integers(0, 8 * len(made) - 1))
    touched = (int.from_bytes(made, "big") ^ 1 << bit).to_bytes(len(made), "big")
    try:
        told = Compact.parse(touched, seal(mode))
    except CompactError:
        return
    assert told.opened(touched, seal(mode), CONTEXT) is None
    right = Compact.parse(made, seal(mode))
    for other in (replace(CONTEXT, frame=529), replace(CONTEXT, counter=0x1235), replace(CONTEXT, stamp=5)):
        assert right.opened(made, seal(mode), other) is None


@pytest.mark.parametrize("mode", MODES)
def test_a_frame_without_a_body_is_proved_too(mode):
    context = Context(tag=CONTEXT.tag, frame=513, counter=9)
    made = finish(turn_frame(513), 1, True, context, seal(mode))
    assert Compact.parse(made, seal(mode)).opened(made, seal(mode), context) == b""


@pytest.mark.parametrize("mode", MODES)
def test_another_start_or_counter_hides_the_same_otherwise(mode):
    hidden = {
        Cipher(mode, key, epoch).hide(bytes(32), counter, b"")[:32]
        for key in (KEY, bytes(16))
        for epoch in (EPOCH, bytes(8))
        for counter in range(50)
    }
    assert len(hidden) == 200


def test_the_cipher_is_that_of_rfc_8439():
    """ChaCha20 from block 0 and ChaCha20-Poly1305, whose body begins at block 1, of one key give one key stream."""
    stream, tagged = Cipher("chacha20", KEY, EPOCH), Cipher("chacha20poly1305", KEY, EPOCH)
    stream._key = tagged._key
    assert stream.hide(bytes(128), 7, b"")[64:] == tagged.hide(bytes(64), 7, b"")[:64]


@pytest.mark.parametrize("mode", MODES)
def test_an_announcement_tells_its_epoch_and_is_proved_without_it(mode):
    (part,) = announcement(INFO, 513, 7, 200, EPOCH)
    made = finish(part, 0, False, Context(counter=5), seal(mode))
    told = Compact.parse(made, Seal(4, KEY, mode))
    body = told.opened(made, Seal(4, KEY, mode), Context(counter=5))
    assert body is not None
    assert read_announcement(body, True) == (INFO, 513, 7, EPOCH)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"encrypt": "rot13"}, "encrypt: 'rot13', expected one of none, chacha20, chacha20poly1305"),
        ({"encrypt": "chacha20", "key": None}, "encrypt: 'chacha20' needs link.key, which both ends share"),
    ],
)
def test_a_wrong_choice_is_one_clear_line(fields, words):
    with pytest.raises(ValueError, match=words):
        Seal(**{"key": KEY, **fields})
