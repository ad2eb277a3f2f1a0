"""A range coder written from docs/bitstream.md alone, in plain integers: slow, obvious, independent of ours."""

from __future__ import annotations

from collections.abc import Sequence


def coding_order(rows: Sequence[int]) -> list[int]:
    """Positions of a group's symbols in the order in which they are coded."""
    return sorted(range(len(rows)), key=lambda position: rows[position])


class ReferenceEncoder:
    """Keeps the whole code value as one integer, so that a carry is nothing special."""

    def __init__(self) -> None:
        self.low = 0
        self.range = (1 << 64) - 1
        self.bits = 64

    def put(self, symbols: Sequence[int], frequencies: Sequence[Sequence[int]], rows: Sequence[int]) -> None:
        for position in coding_order(rows):
            row, symbol = frequencies[rows[position]], symbols[position]
            scale = self.range >> 24
            self.low += scale * 16 * sum(row[:symbol])
            self.range = scale * 16 * row[symbol]
            if self.range < 1 << 32:
                self.low <<= 32
                self.range <<= 32
                self.bits += 32

    def finish(self) -> bytes:
        """Tries every length, shortest first."""
        for length in range(self.bits // 8 + 1):
            unit = 1 << (self.bits - 8 * length)
            multiple = -(-self.low // unit)
            if multiple * unit < self.low + self.range:
                return multiple.to_bytes(length, "big")
        raise AssertionError("the range is never empty")


class ReferenceDecoder:
    """Keeps `difference`, the code value minus the lower end of the interval, as a 64-bit number."""

    def __init__(self, data: bytes) -> None:
        self.words = iter([int.from_bytes(data[at : at + 4].ljust(4, b"\0"), "big") for at in range(0, len(data), 4)])
        self.difference = next(self.words, 0) << 32 | next(self.words, 0)
        self.range = (1 << 64) - 1

    def get(self, frequencies: Sequence[Sequence[int]], rows: Sequence[int]) -> list[int]:
        symbols = [0] * len(rows)
        for position in coding_order(rows):
            scale = self.range >> 24
            quantile = self.difference // scale
            if quantile >= 1 << 24:
                raise ValueError("damaged")
            cumulative, symbol = 0, 0
            row = frequencies[rows[position]]
            while 16 * (cumulative + row[symbol]) <= quantile:
                cumulative += row[symbol]
                symbol += 1
            self.difference -= scale * 16 * cumulative
            self.range = scale * 16 * row[symbol]
            if self.range < 1 << 32:
                self.difference = self.difference << 32 | next(self.words, 0)
                self.range <<= 32
            symbols[position] = symbol
        return symbols
