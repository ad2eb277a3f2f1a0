"""The range coder of docs/bitstream.md in plain Python: for machines that constriction has no wheel for (ARM's Linux).

It stands in for the few names of constriction that `codec.entropy` uses, with the same arguments and the very same
bytes, but much slower. Where constriction is installed (it can be built from its repository), it is taken instead.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WORD, _STATE = (1 << 32) - 1, 1 << 64
_PRECISION = 24


class Categorical:
    """A distribution over symbols: of one row of probabilities, or (without any) of those that come with each call."""

    def __init__(self, probabilities: NDArray[np.float64] | None = None, *, perfect: bool = False) -> None:
        del perfect  # as constriction's: tables are exact already
        self.cumulative = [] if probabilities is None else _cumulative(probabilities).tolist()


def _cumulative(probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """Whole cumulatives of 2**24, from 0 on, of probabilities of f * 16 - 1 (see `entropy.Tables`)."""
    found = np.zeros((*probabilities.shape[:-1], probabilities.shape[-1] + 1), np.int64)
    np.cumsum(probabilities.astype(np.int64) + 1, axis=-1, out=found[..., 1:])
    return found


class RangeEncoder:
    """Codes symbols into 32-bit words."""

    def __init__(self) -> None:
        self._words: list[int] = []
        self._low, self._range = 0, _STATE - 1

    def encode(
        self, symbols: NDArray[np.int32] | int, model: Categorical, probabilities: NDArray[np.float64] | None = None
    ) -> None:
        """Codes symbols by one model, or each by its own row of probabilities (n, alphabet); or one symbol."""
        if isinstance(symbols, int):
            self.narrow([(model.cumulative[symbols], model.cumulative[symbols + 1])])
            return
        if probabilities is None:
            table = np.asarray(model.cumulative)
            left, right = table[symbols], table[symbols + 1]
        else:
            rows, every = _cumulative(probabilities), np.arange(len(symbols))
            left, right = rows[every, symbols], rows[every, symbols + 1]
        self.narrow(zip(left.tolist(), right.tolist(), strict=True))

    def narrow(self, spans: Iterable[tuple[int, int]]) -> None:
        """Codes symbols, each of which takes what is between two numbers of 0..2**24."""
        low, span = self._low, self._range
        for start, end in spans:
            scale = span >> _PRECISION
            low += scale * start
            span = scale * (end - start)
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

    def pos(self) -> tuple[int, tuple[int, int]]:
        """How many words stand before the state, and the state: the interval's lower end and its width."""
        return len(self._words), (self._low, self._range)

    def get_compressed(self) -> NDArray[np.uint32]:
        """The words of the point that constriction would send, `lower` + 2**32 - 1: those before the state."""
        whole = 0
        if self._words:
            whole = int.from_bytes(np.array(self._words, ">u4").tobytes(), "big")
        whole += (self._low + _WORD) // _STATE
        return np.frombuffer(whole.to_bytes(4 * len(self._words), "big"), ">u4").astype(np.uint32)


class RangeDecoder:
    """Reads symbols back from 32-bit words; behind their end stand zeros."""

    def __init__(self, words: NDArray[np.uint32]) -> None:
        self._words = words.tolist()
        self._next = 2
        first, second = [*self._words[:2], 0, 0][:2]
        self._above, self._range = first << 32 | second, _STATE - 1

    def decode(self, model: Categorical, more: Any = None) -> Any:
        """The next symbols: `more` of them by one model, or one for each of its rows of probabilities (n, alphabet); or
        the next one alone, as a number.

        Raises:
            ValueError: no symbol fits.
        """
        if more is None:
            return self.symbols([model.cumulative])[0]
        if isinstance(more, int):
            tables: Any = [model.cumulative] * more
        else:
            tables = _cumulative(more).tolist()
        return np.array(self.symbols(tables), np.int32)

    def symbols(self, tables: Iterable[list[int]]) -> list[int]:
        """The next symbols, each by whole cumulatives of 2**24, from 0 on. Raises ValueError where none fits."""
        above, span, result = self._above, self._range, []
        for table in tables:
            scale = span >> _PRECISION
            found = bisect_right(table, above // scale) - 1
            if found >= len(table) - 1:
                raise ValueError("no symbol fits")
            start = table[found]
            above -= scale * start
            span = scale * (table[found + 1] - start)
            if span <= _WORD:
                above = above << 32 | (self._words[self._next] if self._next < len(self._words) else 0)
                span <<= 32
                self._next += 1
            result.append(found)
        self._above, self._range = above, span
        return result

    def interval(self) -> tuple[int, int, int]:
        """Where an encoder of the symbols read so far stands: the lower end of its interval, from the first word on,
        its width, and how many words stand before its state."""
        words = [*self._words, *[0] * (self._next - len(self._words))][: self._next]
        told = int.from_bytes(np.array(words, ">u4").tobytes(), "big")
        return told - self._above, self._range, self._next - 2
