"""Blocks by constriction's range coder, an independent judge; where it differs (docs/bitstream.md) is done here."""

from __future__ import annotations

from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray
from reference_coder import coding_order

from semhier_ros.codec.entropy import Tables

Group = tuple[Tables, list[int], list[int]]
"""Tables, rows and symbols."""


def model(tables: Tables, row: int) -> Any:
    """constriction turns probabilities p into cumulatives floor(sum(p[:i]) * scale) + i with scale = (2**24 - alphabet)
    / sum(p). With p = f * 16 - 1 in float64 all sums are exact, scale is exactly 1, and the cumulative is exactly
    16 * sum(f[:i])."""
    probabilities: NDArray[np.float64] = tables.frequencies[row] * 16.0 - 1.0
    return constriction.stream.model.Categorical(probabilities, perfect=False)


def encode(groups: list[Group]) -> bytes:
    """The block, by the words that constriction makes but for the last, which are cut to the shortest."""
    coder = constriction.stream.queue.RangeEncoder()
    for tables, rows, symbols in groups:
        for place in coding_order(rows):
            coder.encode(symbols[place], model(tables, rows[place]))
    words, (low, span) = coder.pos()
    prefix = int.from_bytes(coder.get_compressed()[:words].astype(">u4").tobytes(), "big")
    # words whose carry is undecided are given for the point that constriction would send, low + 2**32 - 1
    if low + 0xFFFFFFFF >= 1 << 64:
        prefix -= 1
    low += prefix << 64
    for length in range(4 * words + 9):
        unit = 1 << (32 * words + 64 - 8 * length)
        if -(-low // unit) * unit < low + span:
            return (-(-low // unit)).to_bytes(length, "big")
    raise AssertionError("the span is never empty")


def decode(data: bytes, groups: list[Group]) -> list[list[int]]:
    """The symbols of each group's rows."""
    coder = constriction.stream.queue.RangeDecoder(np.frombuffer(data + bytes(-len(data) % 4), ">u4").astype(np.uint32))
    found = []
    for tables, rows, _ in groups:
        symbols = [0] * len(rows)
        for place in coding_order(rows):
            symbols[place] = int(coder.decode(model(tables, rows[place])))
        found.append(symbols)
    return found
