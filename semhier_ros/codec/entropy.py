"""Entropy coding of integer symbols with integer tables, by constriction's range coder (docs/bitstream.md), or where it
cannot be installed by our own in plain Python.

Nothing here depends on rounding: tables are integers that sum to 2**PRECISION, and constriction is handed
probabilities that make its own 24-bit fixed-point tables equal to ours, entry for entry (see `Tables`). The bytes are
therefore the same on every machine, and the specification alone is enough to write another decoder.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semhier_ros.codec import plain_coder
from semhier_ros.codec.packet import Doubted, PacketError

try:
    import constriction
except ImportError:  # no wheel for this machine
    _models: Any = plain_coder
    _coders: Any = plain_coder
else:
    _models, _coders = constriction.stream.model, constriction.stream.queue

PRECISION = 20
"""Binary logarithm of the sum of every row of a table."""
CODER_PRECISION = 24
"""Precision of constriction's fixed-point probabilities; a frequency f becomes f * 16 of 2**24."""
MAX_ALPHABET = 1 << 16
MAX_ROWS = 1 << 16

_TOTAL = 1 << PRECISION
_RENORMALISATION_LOSS_BITS = -math.log2(1 - 2.0**-8)
_LUCK_BITS = 16
"""By how much a block may be shorter than what its symbols cost: of right ones one in 2**16 is shorter."""
_FEW = 256  # so many symbols are coded one by one in less time than arrays take to be handed over
_GROUP_COST = 1200  # one call per group costs as much as this many table entries scanned symbol by symbol

_Categorical: Any = _models.Categorical
_FAMILY: Any = _Categorical(perfect=False)


class BlockError(PacketError):
    """A block whose bytes no encoder can have made of the symbols that were asked for."""


class Tables:
    """Probability tables of one kind of symbol: `rows` rows over the alphabet 0..alphabet-1.

    `frequencies`: integers (rows, alphabet), each at least 1, every row summing to 2**PRECISION; raises ValueError
    naming the row otherwise. 1 to 65,536 rows, 2 to 65,536 symbols.

    constriction turns probabilities p into cumulatives floor(sum(p[:i]) * scale) + i with scale = (2**24 - alphabet) /
    sum(p). With p = f * 16 - 1 in float64 all sums are exact, sum(p) = 2**24 - alphabet, scale is exactly 1, and the
    cumulative is exactly 16 * sum(f[:i]).
    """

    __slots__ = ("_bits", "_cumulatives", "_frequencies", "_models", "_probabilities", "_starts")

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
        scale = float(1 << (CODER_PRECISION - PRECISION))
        self._probabilities = self._frequencies.astype(np.float64) * scale - 1.0
        self._bits = np.asarray(np.float64(PRECISION) - np.log2(self._frequencies), np.float64)
        self._models: list[Any] = [None] * rows
        self._cumulatives: list[list[int] | None] = [None] * rows
        self._starts = np.arange(rows, dtype=np.intp) * alphabet

    @property
    def frequencies(self) -> NDArray[np.int32]:
        """The integers (rows, alphabet), read-only: what a model folder stores."""
        return self._frequencies

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
        flat_rows = rows if isinstance(rows, int) else np.ravel(rows)
        symbol_array, row_array = _symbols_and_rows(np.ravel(symbols), self, flat_rows)
        return np.reshape(self._bits[row_array, symbol_array], np.shape(symbols))

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

    def cumulative(self, row: int) -> list[int]:
        """Whole cumulatives of a row, of 2**CODER_PRECISION: where each symbol begins, then the end."""
        found = self._cumulatives[row]
        if found is None:
            scaled = self._frequencies[row].astype(np.int64) << (CODER_PRECISION - PRECISION)
            found = self._cumulatives[row] = [0, *np.cumsum(scaled).tolist()]
        return found

    def _total_bits(self, rows: NDArray[Any], symbols: NDArray[np.int32]) -> float:
        """What symbols that were decoded with these rows cost together."""
        places = self._starts.take(rows, mode="clip")  # within the table; so numpy need not check
        places += symbols
        return float(self._bits.take(places, mode="clip").sum())

    def _model(self, row: int) -> Any:
        model = self._models[row]
        if model is None:
            model = self._models[row] = _Categorical(self._probabilities[row], perfect=False)
        return model


class CodingOrder:
    """Rows (n,) of one table that many blocks share, put into coding order once. Raises ValueError for rows outside the
    table."""

    __slots__ = ("groups", "order", "rows", "sorted_rows")

    def __init__(self, tables: Tables, rows: ArrayLike) -> None:
        checked = _checked_rows(tables, rows)
        if isinstance(checked, int):
            raise ValueError(f"rows: {checked}, expected integers (n,)")
        self.rows = checked
        self.order, self.sorted_rows = _coding_order(checked, tables.rows)
        self.groups = _groups(self.sorted_rows, tables)


class BlockEncoder:
    """Collects symbols and makes a block's bytes: `put` as often as needed, then `finish` once."""

    def __init__(self) -> None:
        self._coder: Any = _coders.RangeEncoder()

    def put(self, symbols: ArrayLike, tables: Tables, rows: ArrayLike | int | CodingOrder) -> None:
        """Append `symbols` (n,), integers in 0..alphabet-1, coded by `tables`.

        `rows`: the table row of every symbol (n,), or one row for all. Within one call symbols are coded in ascending
        order of their row, those of one row in the order given; `BlockDecoder.get` with the same rows undoes it.
        Raises ValueError, with nothing appended, when a symbol or row is out of range.
        """
        known = rows if isinstance(rows, CodingOrder) else None
        values, row_array = _symbols_and_rows(symbols, tables, rows.rows if isinstance(rows, CodingOrder) else rows)
        if values.size == 0:
            return
        if isinstance(row_array, int):
            self._coder.encode(values, tables._model(row_array))
            return
        if values.size <= _FEW:
            encode, model = self._coder.encode, tables._model
            for row, symbol in sorted(zip(row_array.tolist(), values.tolist(), strict=True), key=itemgetter(0)):
                encode(symbol, model(row))
            return
        known = known or CodingOrder(tables, row_array)
        values = values[known.order]
        if known.groups is None:
            self._coder.encode(values, _FAMILY, tables._probabilities[known.sorted_rows])
            return
        for row, start, stop in known.groups:
            self._coder.encode(values[start:stop], tables._model(row))

    def finish(self) -> bytes:
        """The block: the shortest bytes that, followed by zeros, decode to the symbols put; b"" for none."""
        words, (lower, span) = self._coder.pos()
        prefix = int.from_bytes(self._coder.get_compressed()[:words].astype(">u4").tobytes(), "big")
        # Words whose carry is undecided are given by constriction for the point it would send, lower + 2**32 - 1.
        if lower + 0xFFFFFFFF >= 1 << 64:
            prefix -= 1
        return _shortest(prefix << 64 | lower, span, words)


def _shortest(low: int, span: int, words: int) -> bytes:
    """The shortest bytes of a number that the coder may end with.

    It ends with an interval [low, low + span) of numbers that all decode alike, read as a binary fraction of `words`
    32-bit words and 64 bits more. The multiple of the largest power of 256 within it is taken, the smallest if there
    are several, and its trailing zero bytes are left out.
    """
    total_bits = 32 * words + 64
    cut = (span.bit_length() - 1) // 8 * 8
    value = -(-low >> cut) << cut
    larger = -(-low >> cut + 8) << cut + 8
    if larger < low + span:  # longer than 2**(cut + 8) it is not, so this multiple is the only one
        value = larger
        cut = ((value & -value).bit_length() - 1) // 8 * 8 if value else total_bits
    return (value >> cut).to_bytes((total_bits - cut) // 8, "big")


class ListEncoder(BlockEncoder):
    """Makes the very bytes of `BlockEncoder` from symbols in lists, in plain Python: for blocks of a few dozen symbols
    in many calls, where handing arrays to the coder takes longer than coding."""

    def __init__(self) -> None:
        self._coder: Any = plain_coder.RangeEncoder()

    def put_list(self, symbols: Sequence[int], tables: Tables, rows: Sequence[int] | int) -> None:
        """Append symbols, in the order of `put`. Raises ValueError when one is out of range."""
        if symbols and not 0 <= min(symbols) <= max(symbols) < tables.alphabet:
            wrong = next(symbol for symbol in symbols if not 0 <= symbol < tables.alphabet)
            raise ValueError(f"symbols: {wrong}, expected 0..{tables.alphabet - 1}")
        if isinstance(rows, int):
            table = tables.cumulative(rows)
            self._coder.narrow([(table[symbol], table[symbol + 1]) for symbol in symbols])
            return
        if len(rows) != len(symbols):
            raise ValueError(f"symbols: {len(symbols)} of them for {len(rows)} rows")
        order, cumulative = sorted(range(len(rows)), key=rows.__getitem__), tables.cumulative
        spans = []
        for place in order:
            table, symbol = cumulative(rows[place]), symbols[place]
            spans.append((table[symbol], table[symbol + 1]))
        self._coder.narrow(spans)


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

    def add(self, symbols: ArrayLike, bits: float) -> None:
        """Symbols of so many bits were read."""
        self._bits, self._others = self._bits + bits, self._others + int(np.count_nonzero(symbols))

    def check(self, data: bytes) -> None:
        """Raises BlockError where so few bytes tell so much."""
        cost = min(self._bits, PRECISION * float(self._others))
        if 8 * len(data) < cost - _LUCK_BITS:
            raise BlockError(f"block of {len(data)} bytes: its symbols cost {cost / 8:.0f}")


class ListDecoder:
    """Reads back what `ListEncoder` or `BlockEncoder` made, as lists; accepts only the very bytes that they make."""

    def __init__(self, data: bytes) -> None:
        self._data = bytes(data)
        padded = self._data + bytes(-len(self._data) % 4)
        self._coder = plain_coder.RangeDecoder(np.frombuffer(padded, ">u4").astype(np.uint32))
        self._luck = _Luck() if isinstance(data, Doubted) else None

    def get_list(self, tables: Tables, rows: Sequence[int] | int, count: int | None = None) -> list[int]:
        """The next symbols, as `BlockDecoder.get`. Raises BlockError when the bytes cannot be continued."""
        try:
            if isinstance(rows, int):
                found = self._coder.symbols([tables.cumulative(rows)] * (1 if count is None else count))
            else:
                found, order = [0] * len(rows), sorted(range(len(rows)), key=rows.__getitem__)
                decoded = self._coder.symbols([tables.cumulative(rows[place]) for place in order])
                for place, symbol in zip(order, decoded, strict=True):
                    found[place] = symbol
        except ValueError as error:
            raise BlockError(f"block of {len(self._data)} bytes: no symbol of the table fits its bytes") from error
        if self._luck is not None:
            self._luck.add(found, float(tables.symbol_bits(found, rows).sum()))
        return found

    def finish(self) -> None:
        """To be called after the last symbol: raises BlockError unless the bytes are those of the symbols."""
        if _shortest(*self._coder.interval()) != self._data:
            raise BlockError(f"block of {len(self._data)} bytes: not what its symbols are encoded as")
        if self._luck is not None:
            self._luck.check(self._data)


class BlockDecoder:
    """Reads symbols back from a block's bytes. Damaged bytes give wrong symbols or a BlockError, nothing worse.

    `exact`: re-encode what was decoded, so that `finish` accepts only the very bytes that an encoder makes (costs
    about as much as encoding); so it does with `Doubted` data, of which it wants to know besides that so few bytes can
    tell so much. Memory is that of `data` and of the symbols asked for.
    """

    def __init__(self, data: bytes, *, exact: bool = False) -> None:
        self._data = bytes(data)
        padded = self._data + bytes(-len(self._data) % 4)
        self._coder: Any = _coders.RangeDecoder(np.frombuffer(padded, ">u4").astype(np.uint32))
        self._bits = 0.0
        self._luck = _Luck() if isinstance(data, Doubted) else None
        self._encoder = BlockEncoder() if exact or self._luck is not None else None

    def get(self, tables: Tables, rows: ArrayLike | int | CodingOrder, count: int | None = None) -> NDArray[np.int32]:
        """The next symbols, int32 (n,), for the `tables` and `rows` that the encoder put.

        `rows`: one row per symbol (n,); or one row for all, then `count` says how many (default 1). Raises BlockError
        when the bytes cannot be continued, ValueError when a row is out of range.
        """
        if count is None and isinstance(rows, np.ndarray) and rows.ndim == 1 and rows.size <= _FEW:
            return np.array(self.get_list(tables, rows.tolist()), np.int32)
        known = rows if isinstance(rows, CodingOrder) else None
        row_array = known.rows if known is not None else _checked_rows(tables, rows)  # type: ignore[arg-type]
        if isinstance(row_array, int):
            size = 1 if count is None else count
            if size < 0:
                raise ValueError(f"count: {size}, expected at least 0")
        else:
            size = row_array.size
            if count is not None and count != size:
                raise ValueError(f"count: {count}, but rows has {size}")
        if size == 0:
            return np.empty(0, np.int32)
        try:
            symbols, bits = self._decode(tables, row_array, size, known)
        except (AssertionError, ValueError) as error:
            raise self._refusal() from error
        self._note(symbols, tables, row_array, bits)
        return symbols

    def get_list(self, tables: Tables, rows: Sequence[int]) -> list[int]:
        """`get` of few symbols with a row each, as lists: one by one, without the arrays."""
        if not rows:
            return []
        if min(rows) < 0 or max(rows) >= tables.rows:
            raise ValueError(f"rows: {min(rows)}..{max(rows)}, expected 0..{tables.rows - 1}")
        found, bits = [0] * len(rows), 0.0
        decode, model, cost = self._coder.decode, tables._model, tables._bits.item
        try:
            for place in sorted(range(len(rows)), key=rows.__getitem__):
                row = rows[place]
                symbol = found[place] = decode(model(row))
                bits += cost(row, symbol)
        except (AssertionError, ValueError) as error:
            raise self._refusal() from error
        self._note(found, tables, rows, bits)
        return found

    def _refusal(self) -> BlockError:
        return BlockError(f"block of {len(self._data)} bytes: no symbol of the table fits its bytes")

    def _note(self, symbols: ArrayLike, tables: Tables, rows: ArrayLike | int, bits: float) -> None:
        """Notes what symbols cost, and with `exact` encodes them again."""
        self._bits += bits + np.size(symbols) * _RENORMALISATION_LOSS_BITS
        if self._encoder is not None:
            self._encoder.put(symbols, tables, rows)
        if self._luck is not None:
            self._luck.add(symbols, bits)

    def _run(
        self, tables: Tables, ordered: NDArray[Any], groups: list[tuple[int, int, int]] | None
    ) -> NDArray[np.int32]:
        """The next symbols in coding order, for rows in that order."""
        if groups is None:
            found = self._coder.decode(_FAMILY, tables._probabilities[ordered])
        else:
            decode, model = self._coder.decode, tables._model
            found = np.concatenate([decode(model(row), stop - start) for row, start, stop in groups])
        return np.asarray(found, np.int32)

    def finish(self) -> None:
        """To be called after the last symbol: raises BlockError when the block has bytes that no symbol needed.

        Checks the length against what the decoded symbols can have cost at most; with `exact`, every byte.
        """
        limit = math.ceil(self._bits / 8 + 1e-6)
        if len(self._data) > limit:
            raise BlockError(f"block of {len(self._data)} bytes: its symbols need at most {limit}")
        if self._encoder is not None and self._encoder.finish() != self._data:
            raise BlockError(f"block of {len(self._data)} bytes: not what its symbols are encoded as")
        if self._luck is not None:
            self._luck.check(self._data)

    def _decode(
        self, tables: Tables, rows: NDArray[Any] | int, size: int, known: CodingOrder | None
    ) -> tuple[NDArray[np.int32], float]:
        """The next `size` symbols in the caller's order, and what they cost in bits."""
        if isinstance(rows, int):
            symbols = self._coder.decode(tables._model(rows), size)
            return symbols, float(tables._bits[rows].take(symbols).sum())
        known = known or CodingOrder(tables, rows)
        decoded = self._run(tables, known.sorted_rows, known.groups)
        symbols = np.empty(size, np.int32)
        symbols[known.order] = decoded
        return symbols, tables._total_bits(known.sorted_rows, decoded)


def get_together(
    decoders: Sequence[BlockDecoder], tables: Tables, rows: NDArray[np.unsignedinteger[Any]]
) -> tuple[NDArray[np.int32], dict[int, BlockError]]:
    """The next symbols (blocks,n) of many blocks, for `rows` (blocks,n) within the tables, and which of them (by place)
    cannot be continued: their symbols are 0. What `BlockDecoder.get` gives each, with less work around it."""
    orders = np.argsort(rows, axis=1, kind="stable")
    symbols = np.zeros(rows.shape, np.int32)
    together = tables.alphabet * rows.shape[1] >= _GROUP_COST * tables.rows  # a call for each row in use pays
    failed: dict[int, BlockError] = {}
    for place, (decoder, own, order) in enumerate(zip(decoders, rows, orders, strict=True)):
        ordered = own[order]
        try:
            groups = _every_row(ordered, tables) if together else _groups(ordered, tables)
            decoded = decoder._run(tables, ordered, groups)
        except (AssertionError, ValueError) as error:
            failed[place] = decoder._refusal()
            failed[place].__cause__ = error
            continue
        symbols[place][order] = decoded
        decoder._note(symbols[place], tables, own, tables._total_bits(ordered, decoded))
    return symbols, failed


def _checked_rows(tables: Tables, rows: ArrayLike | int) -> NDArray[Any] | int:
    """`rows` as an int or an array (n,) of whole numbers, every entry within the table. Raises ValueError otherwise."""
    array = np.asarray(rows)
    if array.size == 0 and array.ndim == 1:
        return np.empty(0, np.intp)
    if array.ndim > 1 or array.dtype.kind not in "iu":
        raise ValueError(f"rows: shape {array.shape} of {array.dtype}, expected integers (n,) or one integer")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= tables.rows:
        raise ValueError(f"rows: {low}..{high}, expected 0..{tables.rows - 1}")
    return int(array) if array.ndim == 0 else array


def _symbols_and_rows(
    symbols: ArrayLike, tables: Tables, rows: ArrayLike | int
) -> tuple[NDArray[np.int32], NDArray[Any] | int]:
    """Checked `symbols` as contiguous int32 (n,) and checked `rows`. Raises ValueError when they do not fit."""
    values = np.asarray(symbols)
    row_array = _checked_rows(tables, rows)
    if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
        raise ValueError(f"symbols: shape {values.shape} of {values.dtype}, expected integers (n,)")
    if not isinstance(row_array, int) and row_array.size != values.size:
        raise ValueError(f"symbols: {values.size} of them for {row_array.size} rows")
    if values.size:
        low, high = int(values.min()), int(values.max())
        if low < 0 or high >= tables.alphabet:
            raise ValueError(f"symbols: {low}..{high}, expected 0..{tables.alphabet - 1}")
    return np.ascontiguousarray(values, dtype=np.int32), row_array


def _coding_order(rows: NDArray[Any], row_count: int) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Positions in coding order (ascending row, stable) and the rows in that order."""
    narrow = rows.astype(np.uint8 if row_count <= 1 << 8 else np.uint16, copy=False)  # numpy sorts these by radix
    order = np.argsort(narrow, kind="stable")
    return order, narrow[order]


def _every_row(sorted_rows: NDArray[Any], tables: Tables) -> list[tuple[int, int, int]]:
    """(row, start, stop) of every row in use, in coding order."""
    stops = sorted_rows.searchsorted(np.arange(tables.rows, dtype=sorted_rows.dtype), side="right").tolist()
    starts = [0, *stops[:-1]]
    return [(row, start, stop) for row, (start, stop) in enumerate(zip(starts, stops, strict=True)) if start < stop]


def _groups(sorted_rows: NDArray[Any], tables: Tables) -> list[tuple[int, int, int]] | None:
    """(row, start, stop) of every row in use, or None where one call with a row per symbol is faster.

    The bytes are the same either way.
    """
    limit = sorted_rows.size * tables.alphabet
    starts = [0]
    if limit >= _GROUP_COST:
        starts += (np.flatnonzero(sorted_rows[1:] != sorted_rows[:-1]) + 1).tolist()
    if limit < _GROUP_COST * len(starts):
        return None
    return list(zip(sorted_rows[starts].tolist(), starts, [*starts[1:], sorted_rows.size], strict=True))
