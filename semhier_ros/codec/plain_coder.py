"""The range coder of docs/bitstream.md in plain Python: what the compiled one (native/range_coder.cpp) computes, and
what takes its place, much more slowly, where this package was not compiled.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

PRECISION = 20
"""Binary logarithm of the sum of every row of a table."""
CODER_PRECISION = 24
"""Binary logarithm of what rows are scaled to."""

_WORD, _STATE = (1 << 32) - 1, 1 << 64


class RangeTables:
    """Rows of frequencies (rows,alphabet) of 2**PRECISION, each at least 1, and what each symbol costs in bits."""

    def __init__(self, frequencies: NDArray[np.int32], bits: NDArray[np.float64]) -> None:
        self.rows, self.alphabet = frequencies.shape
        self.bits = bits
        self._frequencies = frequencies
        self._cumulatives: list[list[int] | None] = [None] * self.rows

    def cumulative(self, row: int) -> list[int]:
        """Where each symbol of a row begins, of 2**CODER_PRECISION, then the end."""
        found = self._cumulatives[row]
        if found is None:
            scaled = self._frequencies[row].astype(np.int64) << (CODER_PRECISION - PRECISION)
            found = self._cumulatives[row] = [0, *accumulate(scaled.tolist())]
        return found


def _check(name: str, values: Sequence[int], end: int) -> None:
    if not 0 <= min(values) <= max(values) < end:
        raise ValueError(f"{name}: {min(values)}..{max(values)}, expected 0..{end - 1}")


def _coding_order(rows: Sequence[int], tables: RangeTables) -> list[int]:
    """Places of one or more rows in coding order: ascending row, those of one row in the order given."""
    _check("rows", rows, tables.rows)
    return sorted(range(len(rows)), key=rows.__getitem__)


class RangeEncoder:
    """Codes symbols into 32-bit words."""

    def __init__(self) -> None:
        self._words: list[int] = []
        self._low, self._range = 0, _STATE - 1

    def put(self, tables: RangeTables, symbols: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        """Codes symbols (n,), each by its own row, in coding order. Raises ValueError, with nothing coded, where one is
        outside the tables."""
        self.put_list(tables, symbols.tolist(), rows.tolist())

    def put_list(self, tables: RangeTables, symbols: Sequence[int], rows: Sequence[int]) -> None:
        """`put` of lists."""
        if not symbols:
            return
        order = _coding_order(rows, tables)
        _check("symbols", symbols, tables.alphabet)
        low, span = self._low, self._range
        for place in order:
            table, symbol = tables.cumulative(rows[place]), symbols[place]
            scale = span >> CODER_PRECISION
            low += scale * table[symbol]
            span = scale * (table[symbol + 1] - table[symbol])
            if low >= _STATE:
                low -= _STATE
                self._carry()
            if span <= _WORD:
                self._words.append(low >> 32)
                low = (low & _WORD) << 32
                span <<= 32
        self._low, self._range = low, span

    def _carry(self) -> None:
        place = len(self._words) - 1
        while self._words[place] == _WORD:
            self._words[place] = 0
            place -= 1
        self._words[place] += 1

    def finish(self) -> bytes:
        """The shortest bytes that, followed by zeros, decode to the symbols put."""
        return _shortest(_number(self._words) << 64 | self._low, self._range, len(self._words))


class RangeDecoder:
    """Reads symbols back from bytes; behind their end stand zeros."""

    def __init__(self, data: bytes) -> None:
        padded = data + bytes(-len(data) % 4)
        self._words: list[int] = np.frombuffer(padded, ">u4").tolist()
        self._next = 2
        first, second = [*self._words[:2], 0, 0][:2]
        self._above, self._range = first << 32 | second, _STATE - 1

    def get(self, tables: RangeTables, rows: NDArray[np.int64]) -> tuple[NDArray[np.int32], float]:
        """The next symbols (n,) for their rows, and what they cost in bits. Raises OverflowError where none fits,
        ValueError for rows outside the tables."""
        found, bits = self.get_list(tables, rows.tolist())
        return np.array(found, np.int32), bits

    def get_list(self, tables: RangeTables, rows: Sequence[int]) -> tuple[list[int], float]:
        """`get` of lists."""
        found, bits = [0] * len(rows), 0.0
        above, span = self._above, self._range
        for place in _coding_order(rows, tables) if rows else ():
            table = tables.cumulative(rows[place])
            scale = span >> CODER_PRECISION
            symbol = bisect_right(table, above // scale) - 1
            if symbol >= tables.alphabet:
                raise OverflowError("no symbol fits")
            above -= scale * table[symbol]
            span = scale * (table[symbol + 1] - table[symbol])
            if span <= _WORD:
                above = above << 32 | (self._words[self._next] if self._next < len(self._words) else 0)
                span <<= 32
                self._next += 1
            found[place] = symbol
            bits += tables.bits.item(rows[place], symbol)
        self._above, self._range = above, span
        return found, bits

    def told(self) -> bytes:
        """What an encoder makes of the symbols read so far."""
        words = [*self._words, *[0] * (self._next - len(self._words))][: self._next]
        return _shortest(_number(words) - self._above, self._range, self._next - 2)


def _number(words: Sequence[int]) -> int:
    return int.from_bytes(np.array(words, ">u4").tobytes(), "big")


def _shortest(low: int, span: int, words: int) -> bytes:
    """The shortest bytes of a number that the coder may end with.

    It ends with an interval [low, low + span) of numbers that all decode alike, read as a binary fraction of `words`
    32-bit words and 64 bits more. The multiple of the largest power of 256 within it is taken, the smallest if there
    are several, and its trailing zero bytes are left out.
    """
    cut = (span.bit_length() - 1) // 8 * 8
    value = -(-low >> cut) << cut
    larger = -(-low >> cut + 8) << cut + 8
    if larger < low + span:  # longer than 2**(cut + 8) it is not, so this multiple is the only one
        value = larger
    return value.to_bytes(4 * words + 8, "big").rstrip(b"\0")
