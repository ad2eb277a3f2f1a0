"""Compiled layers and the compiled walk against NumPy: the same whole numbers, at the edges of 16 bits too."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semhier_ros.codec.compiled_walk import CPU, CompiledContext
from semhier_ros.codec.integer_network import IntegerLayer, IntegerNetwork, compiled_layers
from semhier_ros.codec.latent_groups import LATENT_BOUND, Ints
from semhier_ros.codec.picture_walk import (
    NUMPY,
    PHASES,
    GroupContext,
    PictureContext,
    PictureGroup,
    Walk,
    phases_of,
)
from semhier_ros.native import kernels

MOST = (1 << 15) - 1


def by_numpy(network: IntegerNetwork, inputs: np.ndarray) -> np.ndarray:
    return network._from_sums(inputs.astype(np.float64) @ network.scaled_layers[0][0])


def drawn_network(
    draw: np.random.Generator, widths: Sequence[int], heaviest: int, bound: int, last: tuple[int, int]
) -> IntegerNetwork:
    layers = []
    for number, (inputs, outputs) in enumerate(pairwise(widths)):
        weight = draw.integers(-heaviest, heaviest + 1, (inputs, outputs))
        shift = int(draw.integers(0, 20))
        low, high = last if number == len(widths) - 2 else (0, MOST)
        layers.append(IntegerLayer(weight, draw.integers(-(1 << 30), 1 << 30, outputs), shift, low, high))
    return IntegerNetwork(layers, bound)


@settings(max_examples=200)
@given(
    st.lists(st.integers(1, 70), min_size=2, max_size=4),
    st.integers(0, 100),
    st.sampled_from([3, 500, MOST]),
    st.sampled_from([7, LATENT_BOUND, MOST]),
    st.integers(0, 2**32 - 1),
)
def test_layers_give_what_numpy_gives(widths: list[int], count: int, heaviest: int, bound: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    network = drawn_network(draw, widths, heaviest, bound, (-MOST, MOST))
    inputs = draw.integers(-bound, bound + 1, (count, widths[0]))
    inputs[: count // 3] = bound * np.sign(draw.integers(0, 2, (count // 3, widths[0])) - 0.5)
    assert network.compiled
    assert np.array_equal(network(inputs), by_numpy(network, inputs))


def test_sums_beyond_32_bits_are_exact() -> None:
    weight = np.full((97, 3), MOST)
    weight[:, 1] = -MOST
    weight[::2, 2] = -MOST
    network = IntegerNetwork([IntegerLayer(weight, np.array([5, -5, 0]), 22, -MOST, MOST)], MOST)
    for inputs in (np.full((5, 97), MOST), np.full((5, 97), -MOST)):
        assert np.array_equal(network(inputs), by_numpy(network, inputs))
        assert network(inputs)[0, 0] == (97 * MOST * int(inputs[0, 0]) + 5) >> 22


@pytest.mark.parametrize("inputs", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("shift", [0, 1, 2, 16, 29, 30, 31, 32])
def test_what_is_added_at_the_edges_of_32_bits_is_exact(inputs: int, shift: int) -> None:
    """Sums of one part, of two, of more; what fits beside them, and what does not quite."""
    room = (1 << 31) - 1 - inputs * MOST * MOST
    added = [room, room + 1, (1 << 31) - 1, 1 << 31, 3, 0]
    bias = np.array([*added, *(-number for number in added)] * 2, np.int64)
    weight = np.full((inputs, len(bias)), MOST)
    weight[:, len(bias) // 2 :] = -MOST
    for only in ([0, 4, 6, 10], [2, 8, 4], [1, 7, 4], [3, 9, 4], range(len(bias))):  # one that is too large is for all
        network = IntegerNetwork([IntegerLayer(weight[:, list(only)], bias[list(only)], shift, -MOST, MOST)], MOST)
        assert network.compiled
        for sign in (1, -1):
            given = np.full((5, inputs), sign * MOST)
            assert np.array_equal(network(given), by_numpy(network, given))


@pytest.mark.parametrize(
    ("weight", "low", "high", "bound"),
    [(MOST + 1, 0, 9, 9), (-MOST - 1, 0, 9, 9), (1, -MOST - 1, 9, 9), (1, 0, MOST + 1, 9), (1, 0, 9, MOST + 1)],
)
def test_what_does_not_fit_is_left_to_numpy(weight: int, low: int, high: int, bound: int) -> None:
    network = IntegerNetwork([IntegerLayer(np.array([[weight]]), np.array([3]), 0, low, high)], bound)
    assert not network.compiled
    inputs = np.array([[-bound], [0], [bound]])
    assert np.array_equal(network(inputs), np.clip(inputs * weight + 3, low, high))


def drawn_context(
    draw: np.random.Generator, kind: type[GroupContext], number: int, deep: bool, heaviest: int = 900
) -> GroupContext:
    """A group of channels 2 to 7 of 9; networks of one layer or of three."""
    planes, channels, known, alphabet, rows = 6, 5, 9, 31, 20
    middle = [24, 17] if deep else []
    features = drawn_network(draw, [known, planes], heaviest, LATENT_BOUND, (-300, 5000))
    around = 9 * (planes + 1) + known + len(PHASES)
    expect = drawn_network(draw, [around, *middle, 2 * channels], 300, LATENT_BOUND, (-2047, 2047))
    offsets = (np.arange(alphabet) - alphabet // 2) * draw.integers(1, 90, (rows, 1))
    context = PictureContext(features, expect)
    group = PictureGroup(2, 2 + channels, 3)
    return kind(number, group, known, context, offsets, CPU if kind is CompiledContext else NUMPY)


@settings(max_examples=60)
@given(
    st.integers(1, 13),
    st.integers(1, 13),
    st.integers(1, 4),
    st.integers(0, 1),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_a_walk_is_numpys(height: int, width: int, count: int, number: int, deep: bool, seed: int) -> None:
    before: list[Ints | None] = [None] * count
    draw = np.random.default_rng(seed)
    if draw.random() < 0.7:
        before[0] = draw.integers(-LATENT_BOUND, LATENT_BOUND + 1, (4, height, width)).astype(np.int32)
    contexts = [
        drawn_context(np.random.default_rng(seed), kind, number, deep) for kind in (CompiledContext, GroupContext)
    ]
    assert isinstance(contexts[0], CompiledContext)
    assert contexts[0].fits
    compiled, plain = (context.begin(before, (height, width)) for context in contexts)
    assert type(compiled) is not type(plain)
    assert compiled.phases == plain.phases
    assert set(plain.phases) <= set(phases_of(number))
    for phase in plain.phases:
        rows = plain.ask(phase)
        assert np.array_equal(compiled.ask(phase), rows)
        assert np.array_equal(compiled.means(), plain.means())
        symbols = draw.integers(0, contexts[1].alphabet, rows.shape).astype(np.int32)
        assert np.array_equal(compiled.tell(phase, symbols), plain.tell(phase, symbols))
        assert np.array_equal(compiled.latents(), plain.latents())


def test_a_model_of_larger_numbers_is_walked_by_numpy() -> None:
    context = drawn_context(np.random.default_rng(1), CompiledContext, 0, deep=False, heaviest=1 << 16)
    assert isinstance(context, CompiledContext)
    assert not context.fits
    assert type(context.begin([None], (3, 3))) is Walk


def test_kernels_refuse_what_does_not_fit_together() -> None:
    layer = IntegerLayer(np.ones((4, 6), int), np.zeros(6, int), 0, -9, 9)
    (four,) = compiled_layers([layer], 9)
    seen, known = np.zeros((1, 7, 8, 3), np.int16), np.zeros((1, 3, 4, 4), np.int16)
    added = np.zeros((12, 6))
    everywhere = (0, 0, 1, 0)
    good = [seen, known, everywhere, [], four, added, [], 0, 3, 20]
    means, rows = kernels.expect_latents(*good)
    assert means.shape == rows.shape == (1, 3, 12)
    for place, wrong, words in (
        (0, seen[:, 1:].copy(), "seen: shape"),
        (2, (0, 0, 0, 1), "phase"),
        (2, (0, 0, 1, 3), "phase"),
        (3, [9], "taps|fit"),
        (5, added[1:].copy(), "added: shape"),
        (6, [four, four], "fit each other"),
        (8, 5, "fit latents"),
        (9, 257, "fit latents"),
    ):
        with pytest.raises(ValueError, match=words):
            kernels.expect_latents(*good[:place], wrong, *good[place + 1 :])
    offsets = np.zeros((20, 5), np.int32)
    for symbol in (-1, 5):
        symbols = np.full(means.shape, symbol, np.int32)
        with pytest.raises(ValueError, match="beyond the table"):
            kernels.tell_latents(known, everywhere, 0, means, rows, symbols, offsets)
    with pytest.raises(ValueError, match="there are not"):
        kernels.tell_latents(known, everywhere, 2, means, rows, np.zeros(means.shape, np.int32), offsets)
    with pytest.raises(ValueError, match="fit the features"):
        kernels.see_latents(seen, known, everywhere, [four], np.zeros(3, np.int16))
    with pytest.raises(ValueError, match="none"):
        kernels.run_layers([], np.zeros((1, 4), np.int16))
    with pytest.raises(TypeError):
        kernels.run_layers([four], np.zeros((1, 4)))
