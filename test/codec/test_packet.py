"""Packets: one encoding each, refusals that say what and where, pieces, stamps."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semhier_ros.codec import Block, Packet, PacketError, PieceAssembler, restore_stamp, split
from semhier_ros.codec.packet import HEADER_BYTES, MAX_PACKET_BYTES, STAMP_BYTES


def with_crc(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


def block(index: int, data: bytes, frame: int = 7, stream: int = 0xBEEF) -> Block:
    return Block(stream, frame, index, data)


@st.composite
def block_lists(draw: st.DrawFn) -> list[Block]:
    first = draw(st.integers(0, 15))
    sizes = draw(st.lists(st.sampled_from([0, 1, 2, 30, 127, 128, 129, 1000]), min_size=1, max_size=16 - first))
    stream, frame = draw(st.integers(0, 0xFFFF)), draw(st.integers(0, 0xFFFF))
    fill = draw(st.binary(min_size=1, max_size=8))
    return [Block(stream, frame, first + i, (fill * size)[:size]) for i, size in enumerate(sizes)]


@settings(max_examples=500, derandomize=True)
@given(block_lists(), st.none() | st.integers(0, 2**63))
def test_what_is_packed_is_parsed(blocks: list[Block], stamp_ns: int | None) -> None:
    data = Packet.pack(blocks, stamp_ns=stamp_ns)
    packet = Packet.parse(data)
    assert packet.blocks == tuple(blocks)
    assert (packet.stream, packet.frame, packet.piece) == (blocks[0].stream, blocks[0].frame, None)
    assert packet.stamp == (None if stamp_ns is None else stamp_ns % 2**40)
    assert packet.to_bytes() == data
    assert Packet.parse(bytearray(data)) == Packet.parse(memoryview(data)) == packet
    payload = sum(len(b.data) for b in blocks)
    assert len(data) - payload <= HEADER_BYTES + 2 * (len(blocks) - 1) + (0 if stamp_ns is None else STAMP_BYTES)


def test_overhead_is_ten_bytes_and_one_or_two_more_a_block() -> None:
    assert len(Packet.pack([block(0, b"")])) == 10
    assert len(Packet.pack([block(0, bytes(65535))])) == 65545
    assert len(Packet.pack([block(0, bytes(127)), block(1, b"x")])) == 10 + 1 + 128
    assert len(Packet.pack([block(0, bytes(128)), block(1, b"x")])) == 10 + 2 + 129
    assert len(Packet.pack([block(0, b"x")], stamp_ns=1)) == 10 + 5 + 1


def test_largest_packet() -> None:
    data = Packet.pack([block(15, random.Random(0).randbytes(65535))], stamp_ns=2**63)
    assert len(data) == MAX_PACKET_BYTES
    assert Packet.parse(data).to_bytes() == data
    with pytest.raises(PacketError, match="65551 bytes, at most 65550"):
        Packet.parse(data + b"\0")
    with pytest.raises(ValueError, match="at most 65550"):
        Packet.pack([block(0, bytes(32767)), block(1, bytes(32767))], stamp_ns=0)
    with pytest.raises(ValueError, match=r"len\(blocks\[0\].data\): 32768, at most 32767"):
        Packet.pack([block(0, bytes(32768)), block(1, b"")])


def test_pack_refuses_what_does_not_belong_together() -> None:
    for blocks, words in (
        ([], "empty"),
        ([block(0, b""), block(2, b"")], r"blocks\[1\].index: 2, expected 1"),
        ([block(1, b""), block(0, b"")], "consecutive"),
        ([block(0, b""), block(1, b"", frame=8)], r"blocks\[1\]: stream 0xbeef frame 8"),
        ([block(0, b""), block(1, b"", stream=1)], r"blocks\[1\]: stream 0x0001"),
    ):
        with pytest.raises(ValueError, match=words):
            Packet.pack(blocks)
    for fields, words in (
        ((1 << 16, 0, 0, b""), "stream: 65536, expected 0 to 65535"),
        ((0, -1, 0, b""), "frame: -1"),
        ((0, 0, 16, b""), "index: 16, expected 0 to 15"),
        ((0, 0, 0, bytes(65536)), r"len\(data\): 65536"),
        ((0, 0, 0, "text"), "expected bytes"),
    ):
        with pytest.raises(ValueError, match=words):
            Block(*fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("2000beef0007aabb", "byte 0: packet version 2, this release reads version 1"),
        ("0000beef0007aabb", "version 0"),
        ("1800beef0007aabb", "unknown flags 0x8"),
        ("10f1beef000700", "byte 1: 2 blocks from index 15, the last index is 15"),
        ("1100beef0007aabbccdd", "byte 6: the stamp ends after the packet"),
        ("1201beef00070002aa", "byte 1: 2 blocks in a piece"),
        ("1200beef0007", "byte 6: piece number is missing"),
        ("1200beef000701", "byte 7: piece count is missing"),
        ("1200beef00070001aa", "piece 0 of 1"),
        ("1200beef00070202aa", "piece 2 of 2"),
        ("1200beef00070002", "piece 0 of 2 is empty"),
        ("1001beef0007", "byte 6: length of block 0 is missing"),
        ("1001beef000781", "byte 6: length of block 0 is cut off"),
        ("1001beef0007807f" + "00" * 128, "byte 6: length of block 0 127 in two bytes, expected one"),
        ("1001beef000703aabb", r"byte 7: block lengths \[3\] exceed the 2 bytes left"),
        ("1002beef0007020201aabb", r"block lengths \[2, 2\] exceed the 3 bytes left"),
    ],
)
def test_parse_says_what_is_wrong_and_where(body: str, words: str) -> None:
    with pytest.raises(PacketError, match=words):
        Packet.parse(with_crc(bytes.fromhex(body)))


def test_short_long_and_wrong_checksum() -> None:
    data = Packet.pack([block(0, b"abc")])
    for size in range(10):
        with pytest.raises(PacketError, match=f"packet: {size} bytes, shorter than its header"):
            Packet.parse(data[:size])
    with pytest.raises(PacketError, match="byte 9: CRC-32"):
        Packet.parse(data[:-5] + b"x" + data[-4:])
    with pytest.raises(PacketError, match="at most 65550"):
        Packet.parse(bytes(1 << 20))


def test_oversized_last_block_without_stamp_is_refused() -> None:
    body = bytes.fromhex("1000beef0007") + bytes(65536)
    with pytest.raises(PacketError, match="byte 6: block of 65536 bytes, at most 65535"):
        Packet.parse(with_crc(body))


def test_to_bytes_refuses_impossible_packets() -> None:
    part = (block(3, b"abc"),)
    for fields, words in (
        ((0xBEEF, 7, ()), "0 of them"),
        ((0xBEEF, 8, part), "expected stream 0xbeef frame 8"),
        ((0xBEEF, 7, part, 2**40), "stamp: 1099511627776"),
        ((0xBEEF, 7, part, None, (0, 1)), "piece"),
        ((0xBEEF, 7, part, None, (2, 2)), "piece"),
        ((0xBEEF, 7, part, None, (0, 32768)), "piece"),
        ((0xBEEF, 7, (block(3, b""),), None, (0, 2)), "piece: empty"),
        ((0xBEEF, 7, (block(3, b"a"), block(4, b"b")), None, (0, 2)), "2 of them in a piece"),
    ):
        with pytest.raises(ValueError, match=words):
            Packet(*fields).to_bytes()  # type: ignore[arg-type]


@settings(max_examples=200, derandomize=True)
@given(st.integers(0, 3000), st.integers(20, 300), st.none() | st.integers(0, 2**63), st.randoms(use_true_random=False))
def test_pieces_come_together_in_any_order(size: int, limit: int, stamp: int | None, rng: random.Random) -> None:
    whole = block(5, rng.randbytes(size))
    packets = split(whole, limit, stamp_ns=stamp)
    assert all(len(packet) <= limit for packet in packets)
    if len(packets) == 1:
        assert Packet.parse(packets[0]).blocks == (whole,)
        return
    rng.shuffle(packets)
    assembler = PieceAssembler()
    results = [assembler.add(Packet.parse(packet)) for packet in packets]
    assert results == [None] * (len(packets) - 1) + [whole]
    assert assembler.add(Packet.parse(packets[0])) is None
    assert assembler.counters == {
        "pieces": len(packets) + 1, "complete": 1, "duplicate": 1, "conflict": 0, "evicted": 0, "oversize": 0,
    }  # fmt: skip
    assert assembler._bytes == assembler._pieces == len(assembler._open) == 0


def test_split_refuses_a_limit_without_room() -> None:
    with pytest.raises(ValueError, match="limit: 14 bytes, at least 15"):
        split(block(0, bytes(100)), 14)
    with pytest.raises(ValueError, match="limit: 19 bytes, at least 20"):
        split(block(0, bytes(100)), 19, stamp_ns=0)
    with pytest.raises(ValueError, match="65535 pieces"):
        split(block(0, bytes(65535)), 15)
    assert len(split(block(0, bytes(100)), 15)) == 100


def piece(number: int, count: int, data: bytes, stamp: int | None = None, frame: int = 7) -> Packet:
    packet = Packet(0xBEEF, frame, (block(3, data, frame),), stamp, (number, count))
    assert Packet.parse(packet.to_bytes()) == packet
    return packet


def test_assembler_counts_duplicates_and_conflicts() -> None:
    assembler = PieceAssembler()
    assert assembler.add(piece(0, 3, b"a")) is None
    assert assembler.add(piece(0, 3, b"a")) is None
    assert assembler.counters["duplicate"] == 1
    assert assembler.add(piece(0, 2, b"b")) is None
    assert assembler.add(piece(0, 2, b"c")) is None
    assert assembler.add(piece(1, 2, b"d", stamp=9)) is None
    assert assembler.counters["conflict"] == 3
    assert assembler.add(piece(0, 2, b"e", stamp=9)) == block(3, b"ed")
    assert assembler.add(piece(1, 2, b"d", stamp=9)) is None
    assert assembler.counters["duplicate"] == 2
    assert assembler.add(piece(1, 2, b"d", stamp=10)) is None
    assert assembler.add(piece(0, 2, b"e", stamp=10)) == block(3, b"ed")
    with pytest.raises(ValueError, match="piece: None"):
        assembler.add(Packet.parse(Packet.pack([block(0, b"")])))


def test_assembler_is_bounded() -> None:
    assembler = PieceAssembler(max_blocks=4, max_bytes=5000, max_pieces=50)
    rng = random.Random(1)
    for step in range(5000):
        count = rng.choice([2, 40, 32767])
        data = bytes(rng.choice([1, 100, 4000]))
        assembler.add(piece(rng.randrange(count), count, data, rng.choice([None, 1]), rng.randrange(30)))
        held = assembler._open.values()
        assert len(held) <= 4
        assert sum(len(part) for pieces in held for part in pieces.parts.values()) == assembler._bytes <= 5000
        assert sum(len(pieces.parts) for pieces in held) == assembler._pieces <= 50
        assert len(assembler._done) <= 4
        assert assembler.counters["pieces"] == step + 1
    assert assembler.counters["evicted"] > 0
    with pytest.raises(ValueError, match="max_bytes: 0"):
        PieceAssembler(max_bytes=0)


def test_assembler_refuses_more_than_a_block_can_hold() -> None:
    assembler = PieceAssembler()
    assembler.add(piece(0, 2, bytes(40000)))
    assert assembler.add(piece(1, 2, bytes(40000))) is None
    assert assembler.counters["oversize"] == 1
    assert assembler._bytes == assembler._pieces == 0


@settings(max_examples=300, derandomize=True)
@given(st.integers(0, 2**63), st.integers(-(2**39), 2**39 - 1))
def test_stamps_are_restored_within_nine_minutes(stamp_ns: int, offset: int) -> None:
    assert restore_stamp(stamp_ns % 2**40, stamp_ns + offset + 1) == stamp_ns
    with pytest.raises(ValueError, match="low40"):
        restore_stamp(2**40, stamp_ns)


def test_a_motion_part_travels_before_the_blocks_and_changes_nothing_else() -> None:
    blocks = [Block(0xBEEF, 513, 0, bytes.fromhex("e000007ffdb9"), b"\x93\x40"), block(1, b"\x80", 513)]
    data = Packet.pack(blocks, stamp_ns=1_700_000_000_000_000_000)
    assert data.hex() == "1501beef0201fe362a000002069340e000007ffdb980" + with_crc(data[:-4])[-4:].hex()
    packet = Packet.parse(data)
    assert packet.blocks == tuple(blocks)
    assert packet.to_bytes() == data
    assert split(blocks[0], 200) == [Packet.pack(blocks[:1])]
    plain = Packet.pack([block(0, bytes.fromhex("e000007ffdb9"), 513)])
    assert len(Packet.pack(blocks[:1])) == len(plain) + 3


@pytest.mark.parametrize(("limit", "told"), [(15 + 1 + 45 + 150, True), (15 + 45 + 150, False), (15 + 150, False)])
def test_a_block_that_fits_without_its_motion_is_not_cut(limit: int, told: bool) -> None:
    block = Block(1, 2, 0, bytes(150), bytes(45))
    (packet,) = split(block, limit, stamp_ns=7)
    assert len(packet) <= limit
    assert Packet.parse(packet).blocks == (block if told else block.without_motion(),)
    assert Packet.parse(packet).stamp == 7


def test_motion_is_refused_where_it_cannot_be() -> None:
    with pytest.raises(ValueError, match="index of a block with motion: 1"):
        Block(1, 2, 1, b"x", b"m")
    with pytest.raises(ValueError, match=r"len\(motion\): 1024"):
        Block(1, 2, 0, b"x", bytes(1024))
    for body, message in (
        ("1410beef0201016d78", "motion goes with a whole block 0"),
        ("1400beef020100", "motion part of 0 bytes"),
        ("1400beef0201056d78", "motion of 5 exceed the 2 bytes left"),
        ("1600beef0201000201016d78", "motion goes with a whole block 0"),
        ("1400beef0201", "length of the motion part is missing"),
    ):
        with pytest.raises(PacketError, match=message):
            Packet.parse(with_crc(bytes.fromhex(body)))
    whole = split(Block(1, 2, 0, bytes(500), b"motion"), 200, stamp_ns=0)
    assert len(whole) > 1
    assert all(Packet.parse(piece).stamp == 0 for piece in whole)
    assert all(not Packet.parse(piece).blocks[0].motion for piece in whole)
