"""A frame whose block 0 is too large for one datagram is shown all the same, with its stamp."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest

from semhier_ros.camera.decoder_end import DecoderEnd
from semhier_ros.codec.compact import Compact, Seal
from semhier_ros.codec.packet import Block, Packet, split
from semhier_ros.codec.reading import Detection, Reading
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.link import Scheduler, default_policies
from semhier_ros.link.radio.packer import CompactPacker
from semhier_ros.link.schedule.packing import SMALLEST_PACKET, Shape

TAG, HASH = 0x1234, "1234" + "0" * 12
STAMP = 1_700_000_000_123_456_789
SIZES = [(186, 0), (190, 0), (300, 0), (150, 45), (183, 40), (186, 1)]
"""Bytes of block 0 and of its motion part that one packet of the thinnest link does not hold, with a stamp."""


class OneObject:
    """A decoder that reads one object out of any block 0, and keeps the blocks that came."""

    def __init__(self) -> None:
        self.counters, self.blocks = Counter[str](), list[Block]()

    def push(self, block: Block, stamp_ns: int | None = None) -> Reading:
        self.blocks.append(block)
        one = Detection(1, (0.0, 0.0, 1.0, 1.0), (0,), ("a",), (0.9,))
        return Reading(block.frame, 0, 0, (one,), len(block.data), len(self.blocks) == 1)


def departed(scheduler: Scheduler, block: Block) -> list[bytes]:
    """The datagrams of a frame of this one block."""
    scheduler.submit("front", block.frame, STAMP, [block], 0.0)
    found, now = [], 0.0
    while (when := scheduler.next_departure(now)) is not None:
        now = when
        datagram = scheduler.pop(now)
        found += [] if datagram is None else [datagram.payload]
    return found


@pytest.mark.parametrize(("size", "motion"), SIZES)
def test_its_stamp_comes_with_its_pieces(size: int, motion: int) -> None:
    decoder = OneObject()
    codec = SimpleNamespace(
        name="one", stream_hash=HASH, model_hash=HASH, stream_tag=TAG, block_names=("level_0",), semantic_blocks=1,
        batches=False, whole_image=False, decoder=lambda image_size, keep_frames, follow: decoder,
    )  # fmt: skip
    end = DecoderEnd("front", {HASH: codec}, 4, lambda kind, text: None)
    end.describe(StreamInfo("front", "lens", 64, 48, "one", HASH, HASH, STAMP), 0.0)
    block = Block(TAG, 7, 0, bytes(range(1, 256)) * 2, b"m" * motion)
    block = Block(TAG, 7, 0, block.data[:size], block.motion)
    datagrams = departed(Scheduler(Packet.pack, split, default_policies(1, 1), rate=8000.0), block)
    assert max(map(len, datagrams)) <= SMALLEST_PACKET
    outputs = [output for datagram in datagrams for output in end.datagram(datagram, 0.0)]
    assert [(output.reading.frame, output.stamp_ns) for output in outputs] == [(7, STAMP)]
    assert decoder.blocks[0].data == block.data
    assert end.counters["no_stamp"] == 0
    whole = len(Packet.pack([block.without_motion()], stamp_ns=STAMP)) <= SMALLEST_PACKET
    assert whole == (Packet.parse(datagrams[0]).piece is None), "what is said of motion goes before a block is cut"


@pytest.mark.parametrize(("size", "motion", "pieces"), [(40, 0, 1), (40, 30, 1), (54, 30, 1), (70, 0, 2)])
def test_a_compact_frame_of_it_tells_the_stamp_too(size: int, motion: int, pieces: int) -> None:
    packer = CompactPacker(limit=60)
    scheduler = Scheduler(packer.pack, packer.split, default_policies(1, 1), rate=8000.0, shape=Shape(60, 6, 0.0))
    block = Block(TAG, 7, 0, b"x" * size, b"m" * motion)
    seal = Seal(check=2)
    frames = [Compact.parse(data + bytes(2), seal) for data in departed(scheduler, block)]
    assert len({frame.piece for frame in frames}) == pieces
    assert all(frame.stamp is not None for frame in frames)
