"""Golden bytes: fixed symbols give exactly these bytes, and these bytes exactly those symbols, on every machine.

Everything is derived by integer arithmetic, so no library's random numbers or rounding can move it. After an intended
change of the format (which needs a new version number, docs/bitstream.md), write the files anew with
`SEMHIER_WRITE_GOLDEN=1 pytest test/codec` and review the difference.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from reference_coder import ReferenceDecoder

from semhier_ros.codec import Block, Packet, StreamInfo, split
from semhier_ros.codec.entropy import PRECISION, BlockDecoder, BlockEncoder, Tables
from semhier_ros.codec.integer_network import IntegerLayer, IntegerNetwork

GOLDEN = Path(__file__).parent / "golden" / "bytes.json"


def numbers(seed: int) -> Iterator[int]:
    """The 31 upper bits of Knuth's 64-bit linear congruential generator."""
    state = seed
    while True:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        yield state >> 33


def golden_tables(source: Iterator[int], rows: int, alphabet: int, sharpness: int) -> Tables:
    frequencies = []
    for _ in range(rows):
        cuts = sorted(
            1 + (next(source) >> next(source) % sharpness) % (2**PRECISION - alphabet) for _ in range(alphabet - 1)
        )
        edges = [0, *(cut + i for i, cut in enumerate(cuts)), 2**PRECISION]
        frequencies.append([high - low for low, high in pairwise(edges)])
    return Tables(frequencies)


def golden_messages() -> Iterator[tuple[str, list[tuple[Tables, list[int], list[int]]]]]:
    shapes = {
        "semantic": [(1, 12, 1), (7, 5, 9), (20, 33, 30)],
        "binary map": [(240, 2, 240)],
        "picture": [(64, 65, 1500)],
        "one symbol": [(1, 2, 1)],
        "nothing": [(1, 2, 0)],
    }
    for seed, (name, groups) in enumerate(shapes.items()):
        source = numbers(seed)
        message = []
        for rows, alphabet, count in groups:
            tables = golden_tables(source, rows, alphabet, 20)
            row_list = [next(source) % rows for _ in range(count)]
            cumulative = tables.frequencies.cumsum(axis=1)
            symbols = [int((cumulative[row] <= next(source) % 2**PRECISION).sum()) for row in row_list]
            message.append((tables, row_list, symbols))
        yield name, message


def golden_network() -> IntegerNetwork:
    source = numbers(99)
    layers = []
    for inputs, outputs, shift, low, high in ((6, 10, 9, 0, 4095), (10, 4, 14, -127, 127)):
        weight = np.array([[next(source) % 511 - 255 for _ in range(outputs)] for _ in range(inputs)])
        bias = np.array([next(source) % 2**20 - 2**19 for _ in range(outputs)])
        layers.append(IntegerLayer(weight, bias, shift, low, high))
    return IntegerNetwork(layers, 255)


def produce() -> dict[str, str]:
    found = {}
    for name, message in golden_messages():
        encoder = BlockEncoder()
        for tables, rows, symbols in message:
            encoder.put(symbols, tables, rows)
        found[f"block: {name}"] = encoder.finish().hex()
    blocks = [Block(0xBEEF, 513, index, bytes(range(index * 50))) for index in range(1, 5)]
    found["packet: one"] = Packet.pack(blocks[:1]).hex()
    found["packet: four, stamped"] = Packet.pack(blocks, stamp_ns=1_700_000_000_123_456_789).hex()
    found["packet: empty block"] = Packet.pack([Block(0, 0, 15, b"")]).hex()
    for number, piece in enumerate(split(blocks[3], 100, stamp_ns=5)):
        found[f"packet: piece {number}"] = piece.hex()
    info = StreamInfo("front/camera", "caméra_optique", 640, 360, "road", "0123456789abcdef", "f" * 16, 1_700_000_000)
    found["stream info"] = info.to_bytes().hex()
    source = numbers(7)
    inputs = np.array([[next(source) % 601 - 300 for _ in range(6)] for _ in range(8)])
    found["integer network"] = golden_network()(inputs).astype(">i4").tobytes().hex()
    return found


def test_bytes_are_golden() -> None:
    found = produce()
    if os.environ.get("SEMHIER_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
        pytest.skip(f"wrote {GOLDEN.name}: review the difference and commit it")
    golden = json.loads(GOLDEN.read_text())
    assert found == golden


def test_golden_blocks_decode() -> None:
    golden = json.loads(GOLDEN.read_text())
    for name, message in golden_messages():
        data = bytes.fromhex(golden[f"block: {name}"])
        decoder, reference = BlockDecoder(data, exact=True), ReferenceDecoder(data)
        for tables, rows, symbols in message:
            assert decoder.get(tables, rows).tolist() == symbols
            assert reference.get(tables.frequencies.tolist(), rows) == symbols
        decoder.finish()


def test_golden_packets_parse() -> None:
    golden = json.loads(GOLDEN.read_text())
    packets = {name: Packet.parse(bytes.fromhex(text)) for name, text in golden.items() if name.startswith("packet")}
    four = packets["packet: four, stamped"]
    assert (four.stream, four.frame, four.stamp) == (0xBEEF, 513, 1_700_000_000_123_456_789 % 2**40)
    assert [len(block.data) for block in four.blocks] == [50, 100, 150, 200]
    pieces = [packets[f"packet: piece {number}"] for number in range(3)]
    assert [piece.piece for piece in pieces] == [(0, 3), (1, 3), (2, 3)]
    assert b"".join(piece.blocks[0].data for piece in pieces) == four.blocks[3].data
    info = StreamInfo.from_bytes(bytes.fromhex(golden["stream info"]))
    assert (info.camera, info.frame_id, info.stream_tag) == ("front/camera", "caméra_optique", 0x0123)


def test_examples_of_the_specification() -> None:
    text = (Path(__file__).parents[2] / "docs" / "bitstream.md").read_text()
    tables = Tables([[524288, 262144, 262144], [1, 1048574, 1]])
    encoder = BlockEncoder()
    encoder.put([2, 0, 1, 2, 0], tables, [0, 1, 0, 1, 0])
    data = encoder.finish()
    assert f"gives the block `{data.hex()}`" in text
    blocks = [Block(0xBEEF, 513, 0, data), Block(0xBEEF, 513, 1, b"\x80")]
    assert f"\n{Packet.pack(blocks, stamp_ns=1_700_000_000_000_000_000).hex()}\n" in text
