"""The compiled range coder against the one in plain Python: the same bytes, symbols, costs and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semhier_ros.codec import plain_coder
from semhier_ros.codec.entropy import Tables
from semhier_ros.native import kernels

TABLES = [
    Tables.from_counts(np.exp(np.random.default_rng(alphabet).normal(size=(rows, alphabet)) * 5), smoothing=1e-9)
    for rows, alphabet in ((1, 2), (300, 3), (64, 255), (2, 1 << 12))
]
PAIRS = [[coder.RangeTables(tables.frequencies, tables.bits) for coder in (kernels, plain_coder)] for tables in TABLES]


@settings(max_examples=300)
@given(st.binary(max_size=200), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 300)), max_size=8), st.booleans())
def test_any_bytes_read_alike_and_are_written_alike(data: bytes, parts: list[tuple[int, int]], lists: bool) -> None:
    draw = np.random.default_rng(len(data))
    compiled, plain = kernels.RangeDecoder(data), plain_coder.RangeDecoder(data)
    encoders = kernels.RangeEncoder(), plain_coder.RangeEncoder()
    for number, count in parts:
        rows = draw.integers(0, TABLES[number].rows, count)
        try:
            symbols, bits = plain.get(PAIRS[number][1], rows)
        except OverflowError:
            with pytest.raises(OverflowError, match="no symbol fits"):
                compiled.get(PAIRS[number][0], rows)
            return
        tables = PAIRS[number][0]
        found, cost = compiled.get_list(tables, rows.tolist()) if lists else compiled.get(tables, rows)
        assert np.array_equal(found, symbols)
        assert cost == bits
        for encoder, tables in zip(encoders, PAIRS[number], strict=True):
            if lists:
                encoder.put_list(tables, symbols.tolist(), rows.tolist())
            else:
                encoder.put(tables, symbols.astype(np.int64), rows)
        assert compiled.told() == plain.told() == encoders[0].finish() == encoders[1].finish()


@pytest.mark.parametrize("coder", [kernels, plain_coder])
def test_what_does_not_fit_the_tables_is_refused_and_nothing_coded(coder) -> None:
    tables = coder.RangeTables(TABLES[1].frequencies, TABLES[1].bits)
    encoder, decoder = coder.RangeEncoder(), coder.RangeDecoder(b"\x80")
    for symbols, rows, words in (
        ([0, 3], [0, 0], r"symbols: 0\.\.3, expected 0\.\.2"),
        ([0, -1], [0, 0], r"symbols: -1\.\.0, expected 0\.\.2"),
        ([0, 0], [0, 300], r"rows: 0\.\.300, expected 0\.\.299"),
        ([0, 0], [-(2**63), 0], r"rows: -9223372036854775808\.\.0"),
    ):
        with pytest.raises(ValueError, match=words):
            encoder.put(tables, np.array(symbols), np.array(rows))
        with pytest.raises(ValueError, match=words):
            encoder.put_list(tables, symbols, rows)
        if "rows" in words:
            with pytest.raises(ValueError, match=words):
                decoder.get(tables, np.array(rows))
    assert encoder.finish() == decoder.told() == b""


def test_arrays_of_another_kind_or_size_are_refused() -> None:
    tables = PAIRS[1][0]
    with pytest.raises(TypeError):
        kernels.RangeEncoder().put(tables, np.zeros(2), np.zeros(2, np.int64))
    for symbols, rows in ((np.zeros(2, int), np.zeros(3, int)), (np.zeros((1, 2), int), np.zeros(2, int))):
        with pytest.raises(ValueError, match="shape"):
            kernels.RangeEncoder().put(tables, symbols, rows)
    with pytest.raises(ValueError, match="as many"):
        kernels.RangeEncoder().put_list(tables, [0], [0, 0])
    bits = np.zeros((1, 2))
    for frequencies in ([[0, 1 << 20]], [[1, 1 << 20]], [[-1, (1 << 20) + 1]], [[1 << 19, 1 << 18]]):
        with pytest.raises(ValueError, match="frequencies"):
            kernels.RangeTables(np.array(frequencies, np.int32), bits)
    with pytest.raises(ValueError, match="bits: shape"):
        kernels.RangeTables(np.full((1, 2), 1 << 19, np.int32), np.zeros((1, 3)))


def test_arrays_that_lie_otherwise_are_read_all_the_same() -> None:
    tables, symbols, rows = PAIRS[1][0], np.array([1, 0, 1, 1]), np.zeros(4, np.int64)
    blocks = set()
    for same in (symbols, symbols.astype(np.int32), np.repeat(symbols, 2)[::2]):
        encoder = kernels.RangeEncoder()
        encoder.put(tables, same, rows)
        blocks.add(encoder.finish())
    assert len(blocks) == 1
