"""Entropy coding of integer symbols with integer tables, by the range coder of docs/bitstream.md: the compiled one, or
where this package was not compiled the same in plain Python (`codec.plain_coder`).

Nothing here depends on rounding: tables are integers that sum to 2**PRECISION. The bytes are therefore the same on
every machine, and the specification alone is enough to write another decoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semhier_ros.codec import plain_coder
from semhier_ros.codec.packet import Doubted, PacketError
from semhier_ros.codec.plain_coder import PRECISION
from semhier_ros.native import kernels

MAX_ALPHABET = 1 << 16
MAX_ROWS = 1 << 16

_TOTAL = 1 << PRECISION
_RENORMALISATION_LOSS_BITS = -math.log2(1 - 2.0**-8)
_LUCK_BITS = 16
"""By how much a block may be shorter than what its symbols cost: of right ones one in 2**16 is shorter."""

_coder: Any = plain_coder if kernels is None else kernels


class BlockError(PacketError):
    """A block whose bytes no encoder can have made of the symbols that were asked for."""


class Tables:
    """Probability tables of one kind of symbol: `rows` rows over the alphabet 0..alphabet-1.

    `frequencies`: integers (rows, alphabet), each at least 1, every row summing to 2**PRECISION; raises ValueError
    naming the row otherwise. 1 to 65,536 rows, 2 to 65,536 symbols.
    """

    __slots__ = ("_bits", "_coded", "_frequencies")

    def __init__(self, frequencies: ArrayLike) -> None:
        table = np.asarray(frequencies)
        if table.ndim != 2 or table.dtype.kind not in "iu":
            raise ValueError(f"frequencies: shape {table.shape} of {table.dtype}, expected integers (rows, alphabet)")
        rows, alphabet = table.shape
        if not 1 <= rows <= MAX_ROWS or not 2 <= alphabet <= MAX_ALPHABET:
            raise ValueError(
                f"frequencies: shape {table.shape}, expected 1 to {MAX_ROWS} rows and 2 to {MAX_ALPHABET} symbols"
            )
        for name, wrong in (
            ("an entry outside 1..2**20", ((table < 1) | (table > _TOTAL)).any(axis=1)),
            (f"a sum other than {_TOTAL}", table.sum(axis=1, dtype=np.int64) != _TOTAL),
        ):
            if wrong.any():
                raise ValueError(f"frequencies: row {int(np.argmax(wrong))} has {name}")
        self._frequencies = np.array(table, dtype=np.int32, order="C")
        self._frequencies.flags.writeable = False
        self._bits = np.asarray(np.float64(PRECISION) - np.log2(self._frequencies), np.float64)
        self._coded = _coder.RangeTables(self._frequencies, self._bits)

    @property
    def frequencies(self) -> NDArray[np.int32]:
        """The integers (rows, alphabet), read-only: what a model folder stores."""
        return self._frequencies

    @property
    def coded(self) -> Any:
        """The tables as the coder has them: what compiled walks through a block's symbols are given."""
        return self._coded

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self._frequencies.shape[0])

    @property
    def alphabet(self) -> int:
        """Number of symbols; they are 0..alphabet-1."""
        return int(self._frequencies.shape[1])

    def symbol_bits(self, symbols: ArrayLike, rows: ArrayLike | int) -> NDArray[np.float64]:
        """Ideal cost in bits of each of `symbols` under `rows`, in their shape."""
        values = _integers("symbols", np.ravel(symbols))
        row_array = _row_of_each(rows if isinstance(rows, int) else np.ravel(rows), values)
        for name, wanted, end in (("rows", row_array, self.rows), ("symbols", values, self.alphabet)):
            if wanted.size and not 0 <= wanted.min() <= wanted.max() < end:
                raise ValueError(f"{name}: {wanted.min()}..{wanted.max()}, expected 0..{end - 1}")
        return np.reshape(self._bits[row_array, values], np.shape(symbols))

    @property
    def bits(self) -> NDArray[np.float64]:
        """Ideal cost in bits of every symbol in every row (rows, alphabet): what an encoder weighs choices by."""
        return self._bits

    def cost_bits(self, symbols: ArrayLike, rows: ArrayLike | int) -> float:
        """Ideal cost in bits of `symbols` under `rows`: what training and tests compare real bytes with."""
        return float(self.symbol_bits(symbols, rows).sum())

    @classmethod
    def from_counts(cls, counts: ArrayLike, *, smoothing: float = 0.5) -> Tables:
        """Tables from observed counts (rows, alphabet), floats >= 0: used when a model is made, never at run time.

        Every entry first gets `smoothing` (> 0). Every frequency is 1 plus its share of the rest, rounded down; what
        is left goes one each to the largest remainders, ties to the lower symbol.
        """
        weights = np.asarray(counts, dtype=np.float64)
        if weights.ndim != 2 or weights.shape[1] < 2 or not np.isfinite(weights).all() or (weights < 0).any():
            raise ValueError("counts: expected finite numbers >= 0 of shape (rows, alphabet >= 2)")
        if not smoothing > 0:
            raise ValueError(f"smoothing: {smoothing}, expected more than 0")
        weights = weights + smoothing
        share = weights / weights.sum(axis=1, keepdims=True) * (_TOTAL - weights.shape[1])
        frequencies = np.floor(share).astype(np.int64)
        missing = _TOTAL - weights.shape[1] - frequencies.sum(axis=1)
        for row, count in enumerate(missing.tolist()):
            order = np.argsort(frequencies[row] - share[row], kind="stable")
            if count >= 0:
                frequencies[row, order[:count]] += 1
            else:
                frequencies[row, np.argmax(frequencies[row])] += count
        return cls(frequencies + 1)

    @classmethod
    def gaussian(cls, scales: ArrayLike, half_width: int) -> Tables:
        """One row per standard deviation in `scales` (> 0): a zero-mean Gaussian rounded to integers.

        Symbol s stands for the value s - half_width; the alphabet is -half_width..half_width, both tails folded into
        the ends. Uses the machine's erfc, so it is used when a model is made; models ship the integers.
        """
        if half_width < 1:
            raise ValueError(f"half_width: {half_width}, expected at least 1")
        deviations = [float(scale) for scale in np.asarray(scales, dtype=np.float64).ravel()]
        if not deviations or not all(math.isfinite(deviation) and deviation > 0 for deviation in deviations):
            raise ValueError("scales: expected one or more finite numbers > 0")
        counts = np.empty((len(deviations), 2 * half_width + 1))
        for row, deviation in enumerate(deviations):
            above = [0.5 * math.erfc((k - 0.5) / (deviation * math.sqrt(2))) for k in range(half_width + 1)]
            for k in range(half_width + 1):
                mass = above[k] - (above[k + 1] if k < half_width else 0.0)
                counts[row, half_width - k] = counts[row, half_width + k] = mass
            counts[row, half_width] = 1.0 - 2.0 * above[1]
        return cls.from_counts(counts, smoothing=2.0**-40)


class BlockEncoder:
    """Collects symbols and makes a block's bytes: `put` as often as needed, then `finish` once."""

    def __init__(self) -> None:
        self._coder: Any = _coder.RangeEncoder()

    def put(self, symbols: ArrayLike, tables: Tables, rows: ArrayLike | int) -> None:
        """Append `symbols` (n,), integers in 0..alphabet-1, coded by `tables`.

        `rows`: the table row of every symbol (n,), or one row for all. Within one call symbols are coded in ascending
        order of their row, those of one row in the order given; `BlockDecoder.get` with the same rows undoes it.
        Raises ValueError, with nothing appended, when a symbol or row is out of range.
        """
        values = _integers("symbols", symbols)
        self._coder.put(tables._coded, values, _row_of_each(rows, values))

    def finish(self) -> bytes:
        """The block: the shortest bytes that, followed by zeros, decode to the symbols put; b"" for none."""
        return bytes(self._coder.finish())


class ListEncoder(BlockEncoder):
    """Makes the very bytes of `BlockEncoder` from symbols in lists: for few symbols in many calls."""

    def put_list(self, symbols: Sequence[int], tables: Tables, rows: Sequence[int] | int) -> None:
        """Append symbols, as `put` does. Raises ValueError when one is out of range."""
        if isinstance(rows, int):
            rows = [rows] * len(symbols)
        if len(rows) != len(symbols):
            raise ValueError(f"symbols: {len(symbols)} of them for {len(rows)} rows")
        self._coder.put_list(tables._coded, symbols, rows)

    def through(self, walk: Callable[..., Any], *given: Any) -> Any:
        """What a compiled walk gives that puts the next symbols: it is called with the coder and what it is given."""
        return walk(self._coder, *given)


class _Luck:
    """What the symbols of a doubted block cost, and whether so few bytes can have been enough for them.

    The shortest number in an interval of 2**-c has about c bits; that it has 8 t fewer is as likely as 2**(-8 t), but
    for beginnings of few symbols: the probabilities are multiples of 2**-20, so the first n that are not 0 (which add
    nothing to the interval's lower end) leave 20 n bits of it, whatever they cost. Noise that is cut, or too short for
    what it decodes to, is noticed by that.
    """

    __slots__ = ("_bits", "_others")

    def __init__(self) -> None:
        self._bits, self._others = 0.0, 0

    def add(self, bits: float, others: int) -> None:
        """Symbols of so many bits were read, of which so many are not 0."""
        self._bits, self._others = self._bits + bits, self._others + others

    def check(self, data: bytes) -> None:
        """Raises BlockError where so few bytes tell so much."""
        cost = min(self._bits, PRECISION * float(self._others))
        if 8 * len(data) < cost - _LUCK_BITS:
            raise BlockError(f"block of {len(data)} bytes: its symbols cost {cost / 8:.0f}")


class _Decoder:
    """What both decoders share: the coder on a block's bytes, and how it is refused."""

    def __init__(self, data: bytes) -> None:
        self._data = bytes(data)
        self._coder: Any = _coder.RangeDecoder(self._data)
        self._luck = _Luck() if isinstance(data, Doubted) else None

    def _refusal(self) -> BlockError:
        return BlockError(f"block of {len(self._data)} bytes: no symbol of the table fits its bytes")

    def _check_bytes(self) -> None:
        if self._coder.told() != self._data:
            raise BlockError(f"block of {len(self._data)} bytes: not what its symbols are encoded as")


class ListDecoder(_Decoder):
    """Reads back what `ListEncoder` or `BlockEncoder` made, as lists; accepts only the very bytes that they make."""

    def get_list(self, tables: Tables, rows: Sequence[int] | int, count: int | None = None) -> list[int]:
        """The next symbols, as `BlockDecoder.get`. Raises BlockError when the bytes cannot be continued."""
        if isinstance(rows, int):
            rows = [rows] * (1 if count is None else count)
        try:
            found, bits = self._coder.get_list(tables._coded, rows)
        except OverflowError as error:
            raise self._refusal() from error
        if self._luck is not None:
            self._luck.add(bits, int(np.count_nonzero(found)))
        return list(found)

    def through(self, walk: Callable[..., tuple[Any, float, int]], *given: Any) -> Any:
        """What a compiled walk finds in the next symbols: it is called with the coder and what it is given, and says
        besides what the symbols cost in bits and how many are not 0. Raises BlockError where no encoder made them."""
        try:
            found, bits, others = walk(self._coder, *given)
        except OverflowError as error:
            raise BlockError(f"block of {len(self._data)} bytes: {error}") from error
        if self._luck is not None:
            self._luck.add(bits, others)
        return found

    def finish(self) -> None:
        """To be called after the last symbol: raises BlockError unless the bytes are those of the symbols."""
        self._check_bytes()
        if self._luck is not None:
            self._luck.check(self._data)


class BlockDecoder(_Decoder):
    """Reads symbols back from a block's bytes. Damaged bytes give wrong symbols or a BlockError, nothing worse.

    `exact`: `finish` accepts only the very bytes that an encoder makes of what was decoded; so it does with `Doubted`
    data, of which it wants to know besides that so few bytes can tell so much. Memory is that of `data` and of the
    symbols asked for.
    """

    def __init__(self, data: bytes, *, exact: bool = False) -> None:
        super().__init__(data)
        self._bits = 0.0
        self._exact = exact or self._luck is not None

    def get(self, tables: Tables, rows: ArrayLike | int, count: int | None = None) -> NDArray[np.int32]:
        """The next symbols, int32 (n,), for the `tables` and `rows` that the encoder put.

        `rows`: one row per symbol (n,); or one row for all, then `count` says how many (default 1). Raises BlockError
        when the bytes cannot be continued, ValueError when a row is out of range.
        """
        asked = _integers("rows", rows, scalar=True)
        if asked.ndim == 0:
            if count is not None and count < 0:
                raise ValueError(f"count: {count}, expected at least 0")
            asked = np.full(1 if count is None else count, asked)
        elif count is not None and count != asked.size:
            raise ValueError(f"count: {count}, but rows has {asked.size}")
        try:
            symbols, bits = self._coder.get(tables._coded, asked)
        except OverflowError as error:
            raise self._refusal() from error
        self._add(bits, len(symbols))
        if self._luck is not None:
            self._luck.add(bits, int(np.count_nonzero(symbols)))
        return np.asarray(symbols, np.int32)

    def through(self, walk: Callable[..., tuple[Any, float, int, int]], *given: Any) -> Any:
        """What a compiled walk finds in the next symbols, as `ListDecoder.through`; it says how many there are, too,
        before it says how many are not 0."""
        try:
            found, bits, count, others = walk(self._coder, *given)
        except OverflowError as error:
            raise BlockError(f"block of {len(self._data)} bytes: {error}") from error
        self._add(bits, count)
        if self._luck is not None:
            self._luck.add(bits, others)
        return found

    def _add(self, bits: float, count: int) -> None:
        self._bits += bits + count * _RENORMALISATION_LOSS_BITS

    def finish(self) -> None:
        """To be called after the last symbol: raises BlockError when the block has bytes that no symbol needed.

        Checks the length against what the decoded symbols can have cost at most; with `exact`, every byte.
        """
        limit = math.ceil(self._bits / 8 + 1e-6)
        if len(self._data) > limit:
            raise BlockError(f"block of {len(self._data)} bytes: its symbols need at most {limit}")
        if self._exact:
            self._check_bytes()
        if self._luck is not None:
            self._luck.check(self._data)


def get_together(
    decoders: Sequence[BlockDecoder], tables: Tables, rows: NDArray[np.unsignedinteger[Any]]
) -> tuple[NDArray[np.int32], dict[int, BlockError]]:
    """The next symbols (blocks,n) of many blocks, for `rows` (blocks,n) within the tables, and which of them (by place)
    cannot be continued: their symbols are 0."""
    symbols = np.zeros(rows.shape, np.int32)
    failed: dict[int, BlockError] = {}
    for place, (decoder, own) in enumerate(zip(decoders, rows, strict=True)):
        try:
            symbols[place] = decoder.get(tables, own)
        except BlockError as error:
            failed[place] = error
    return symbols, failed


def _integers(name: str, values: ArrayLike | int, scalar: bool = False) -> NDArray[np.int64]:
    """Whole numbers (n,), or where `scalar` is allowed one alone, as the coder takes them. Raises ValueError."""
    array = np.asarray(values)
    one = scalar and array.ndim == 0
    if not (one or array.ndim == 1) or (array.size and array.dtype.kind not in "iu"):
        also = " or one integer" if scalar else ""
        raise ValueError(f"{name}: shape {array.shape} of {array.dtype}, expected integers (n,){also}")
    return array.astype(np.int64) if one else np.ascontiguousarray(array, np.int64)


def _row_of_each(rows: ArrayLike | int, symbols: NDArray[np.int64]) -> NDArray[np.int64]:
    """`rows` as one for each symbol. Raises ValueError when there are not as many."""
    array = _integers("rows", rows, scalar=True)
    if array.ndim == 0:
        return np.full(symbols.size, array)
    if array.size != symbols.size:
        raise ValueError(f"symbols: {symbols.size} of them for {array.size} rows")
    return array
