"""Picture blocks: what is quantised is what is decoded, refinement by later groups, damage, parts that do not fit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_contexts import walk

from semhier_ros.codec import picture_blocks
from semhier_ros.codec.compiled_walk import CPU, CompiledContext
from semhier_ros.codec.entropy import BlockDecoder, BlockEncoder, BlockError, Tables
from semhier_ros.codec.integer_network import IntegerNetwork
from semhier_ros.codec.latent_groups import LATENT_BOUND, UNIT
from semhier_ros.codec.picture_blocks import PictureBlocks
from semhier_ros.codec.picture_walk import (
    NUMPY,
    PHASES,
    PictureContext,
    PictureGroup,
    channels_of,
    phases_of,
)
from semhier_ros.native import kernels

GROUPS = (PictureGroup(0, 3, 64), PictureGroup(0, 2, 32), PictureGroup(2, 6, 32))
FEATURES, ROWS, HALF = 4, 12, 20


def network(draw: np.random.Generator, inputs: int, outputs: int, rectified: bool = False) -> IntegerNetwork:
    return IntegerNetwork.from_float(
        [draw.normal(0, 0.4 / inputs**0.5, (inputs, outputs))],
        [draw.normal(0, 0.3, outputs)],
        input_bits=4,
        input_bound=LATENT_BOUND,
        output_bits=4,
        output_bound=2047,
        rectified=rectified,
    )


@pytest.fixture(scope="module")
def blocks() -> PictureBlocks:
    draw = np.random.default_rng(1)
    contexts = []
    for number, group in enumerate(GROUPS):
        known = channels_of(GROUPS[: number + 1])
        expect = network(draw, 9 * (FEATURES + 1) + known + len(PHASES), 2 * (group.stop - group.start))
        contexts.append(PictureContext(network(draw, known, FEATURES, rectified=True), expect))
    scales = np.geomspace(0.3, 8, ROWS)
    return PictureBlocks(GROUPS, Tables.gaussian(scales, HALF), contexts, np.linspace(6, 0, ROWS).astype(np.uint8))


@pytest.mark.parametrize("count", [0, 1, 7])
def test_numbers_are_rounded_down_and_held_within_bounds(count: int) -> None:
    values = np.linspace(-9.5, 9.5, 2 * count).reshape(count, 2)
    assert np.array_equal(NUMPY.floor_clip(values.copy(), -5, 5), np.floor(values).clip(-5, 5))


def coded(blocks: PictureBlocks, wanted: np.ndarray, thrift: float = 0.2) -> list:
    found: list = []
    blocks.quantise_all(wanted, found, len(blocks.groups), thrift)
    return found


def block_of(blocks: PictureBlocks, group) -> bytes:
    encoder = BlockEncoder()
    blocks.put(encoder, group)
    return encoder.finish()


def test_every_position_is_told_exactly_once():
    for group in (0, 1):
        for height, width in [(14, 14), (24, 40), (1, 1), (3, 2)]:
            told = np.zeros((1, height, width), int)
            for number in phases_of(group):
                told[PHASES[number].at()] += 1
            assert (told == 1).all()


@settings(max_examples=30)
@given(st.integers(1, 9), st.integers(1, 9), st.floats(0.1, 40), st.integers(0, 2**32 - 1))
def test_what_is_quantised_is_what_is_decoded(blocks, height, width, spread, seed):
    wanted = np.random.default_rng(seed).normal(0, spread, (6, height, width)).astype(np.float32)
    before = None
    for number, group in enumerate(coded(blocks, wanted)):
        decoder = BlockDecoder(block_of(blocks, group), exact=True)
        found = blocks.get(decoder, number, before, (height, width))
        decoder.finish()
        np.testing.assert_array_equal(found.latents, group.latents)
        before = found.latents


def test_later_groups_bring_latents_nearer(blocks):
    wanted = np.random.default_rng(2).normal(0, 6, (6, 12, 16)).astype(np.float32)
    errors = []
    for group in coded(blocks, wanted, thrift=0.0):
        known = group.latents / UNIT
        errors.append([np.abs(known[c] - wanted[c]).mean() for c in range(len(known))])
    assert max(errors[1][:2]) < 0.7 * min(errors[0][:2])
    assert errors[1][2] == errors[0][2]
    assert errors[2][2] < 0.7 * errors[1][2]
    assert errors[2][:2] == errors[1][:2]


def test_thrift_costs_quality_and_saves_bytes(blocks):
    wanted = np.random.default_rng(3).normal(0, 4, (6, 12, 16)).astype(np.float32)
    sizes, errors = [], []
    for thrift in (0.0, 1.0, 4.0):
        groups = coded(blocks, wanted, thrift)
        sizes.append(sum(len(block_of(blocks, group)) for group in groups))
        errors.append(np.square(groups[-1].latents / UNIT - wanted).mean())
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)


def test_latents_beyond_the_bound_are_brought_inside(blocks):
    wanted = np.full((6, 5, 5), 1e6, np.float32)
    for group in coded(blocks, wanted):
        assert np.abs(group.latents).max() <= LATENT_BOUND


@settings(max_examples=40)
@given(st.integers(1, 9), st.integers(1, 9), st.floats(0.1, 400), st.floats(0, 5), st.integers(0, 2**32 - 1))
def test_the_kernel_chooses_the_symbols_that_numpy_does(blocks, height, width, spread, thrift, seed):
    wanted = np.random.default_rng(seed).normal(0, spread, (6, height, width)).astype(np.float32)
    chosen = coded(blocks, wanted, thrift)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picture_blocks, "kernels", None)
        for own, other in zip(chosen, coded(blocks, wanted, thrift), strict=True):
            np.testing.assert_array_equal(np.concatenate(own.symbols), np.concatenate(other.symbols))


def test_a_symbol_that_leaves_the_bound_is_refused(blocks):
    before = np.full((3, 4, 4), LATENT_BOUND, np.int32)
    with pytest.raises(BlockError, match="outside"):
        blocks.walk(1, before, (4, 4), lambda phase, means, rows: np.full(means.shape, 2 * HALF))


def arithmetics():
    yield pytest.param(lambda: NUMPY, id="numpy")
    yield pytest.param(lambda: CPU, id="compiled")
    for device in ("cpu", "cuda"):
        yield pytest.param(lambda device=device: torch_arithmetic(device), id=f"torch-{device}")


def torch_arithmetic(device: str):
    torch = pytest.importorskip("torch", reason="torch is not installed (extra `train`)")
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    from semhier_ros.torch.exact import TorchArithmetic

    return TorchArithmetic(torch.device(device))


def test_the_kernels_walk_where_numbers_fit_16_bits(blocks):
    """Else what follows would compare NumPy with itself."""
    context = blocks._context(0, CPU)
    assert isinstance(context, CompiledContext)
    assert context.fits


@pytest.mark.parametrize("arithmetic", arithmetics())
@settings(max_examples=25)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.floats(0.1, 60), st.integers(0, 2**32 - 1))
def test_many_pictures_together_are_what_the_specification_gives_each(
    blocks, arithmetic, height, width, count, spread, seed
):
    arithmetic = arithmetic()
    draw = np.random.default_rng(seed)
    pictures = [
        coded(blocks, draw.normal(0, spread, (6, height, width)).astype(np.float32), thrift=0.1) for _ in range(count)
    ]
    before: list = [None] * count
    for group in range(len(GROUPS)):
        decoders = [BlockDecoder(block_of(blocks, own[group]), exact=True) for own in pictures]
        found = blocks.get_many(decoders, group, before, (height, width), arithmetic)
        for place, one in enumerate(found):
            decoders[place].finish()
            symbols = iter(pictures[place][group].symbols)
            latents, _, rows = walk(
                blocks,
                group,
                before[place],
                (height, width),
                lambda phase, means, rows, symbols=symbols: next(symbols).reshape(means.shape),
            )
            np.testing.assert_array_equal(one.latents, latents)
            np.testing.assert_array_equal(np.concatenate(one.rows), np.concatenate(rows))
            np.testing.assert_array_equal(np.concatenate(one.symbols), np.concatenate(pictures[place][group].symbols))
        before = [one.latents for one in found]


@pytest.mark.parametrize("arithmetic", arithmetics())
def test_a_damaged_block_costs_its_neighbours_nothing(blocks, arithmetic):
    arithmetic = arithmetic()
    draw = np.random.default_rng(9)
    shape, failed = (9, 10), 0
    wanted = [draw.normal(0, 20, (6, *shape)).astype(np.float32) for _ in range(3)]
    good = [coded(blocks, own) for own in wanted]
    before = [own[0].latents for own in good]
    before[1] = np.full_like(before[1], LATENT_BOUND)  # one symbol up, and no encoder gave it
    for _ in range(40):
        data = [block_of(blocks, own[1]) for own in good]
        data[1] = draw.integers(0, 256, draw.integers(0, 2 * len(data[1]))).astype(np.uint8).tobytes()
        found = blocks.get_many([BlockDecoder(own) for own in data], 1, before, shape, arithmetic)
        for place in (0, 2):
            np.testing.assert_array_equal(found[place].latents, good[place][1].latents)
        try:
            alone: object = blocks.get(BlockDecoder(data[1]), 1, before[1], shape).latents
        except BlockError as error:
            alone, failed = str(error), failed + 1
        if isinstance(alone, str):
            assert isinstance(found[1], BlockError)
            assert str(found[1]) == alone
        else:
            np.testing.assert_array_equal(found[1].latents, alone)
    assert failed > 5


def test_damaged_blocks_are_refused_or_decode_to_something(blocks):
    draw = np.random.default_rng(4)
    wanted = draw.normal(0, 5, (6, 6, 6)).astype(np.float32)
    data = bytearray(block_of(blocks, coded(blocks, wanted)[0]))
    refused = 0
    for _ in range(200):
        damaged = bytes(draw.integers(0, 256, draw.integers(0, 2 * len(data))).astype(np.uint8))
        try:
            decoder = BlockDecoder(damaged)
            found = blocks.get(decoder, 0, None, (6, 6))
            decoder.finish()
            assert np.abs(found.latents).max() <= LATENT_BOUND
        except BlockError:
            refused += 1
    assert refused > 20


def test_parts_that_do_not_fit_are_refused(blocks):
    with pytest.raises(ValueError, match="picture group 0: 6 inputs of picture_0_features, expected 3"):
        PictureBlocks(GROUPS, blocks.tables, blocks.contexts[::-1], blocks.shifts)
    with pytest.raises(ValueError, match="picture shifts: shape"):
        PictureBlocks(GROUPS, blocks.tables, blocks.contexts, blocks.shifts[1:])
    even = Tables.from_counts(np.ones((ROWS, 2 * HALF)))
    with pytest.raises(ValueError, match="table picture: 40 symbols, expected an odd number"):
        PictureBlocks(GROUPS, even, blocks.contexts, blocks.shifts)


@pytest.mark.parametrize(
    ("group", "said"),
    [
        (PictureGroup(-1, 3, 64), "start -1, expected 0 or more"),
        (PictureGroup(2, 2, 64), "stop 2, expected 3 or more"),
        (PictureGroup(0, 3, 0), "step 0, expected 1 to 4095"),
        (PictureGroup(0, 3, 4096), "step 4096, expected 1 to 4095"),
        (PictureGroup(0, 2, 64), "3 inputs of picture_0_features, expected 2"),
        (PictureGroup(1, 3, 64), "6 outputs of picture_0_expect, expected 4"),
    ],
)
def test_a_group_that_cannot_be_is_refused_by_field_value_and_range(blocks, group, said):
    with pytest.raises(ValueError, match=f"picture group 0: {said}"):
        PictureBlocks((group, *GROUPS[1:]), blocks.tables, blocks.contexts, blocks.shifts)


@pytest.mark.skipif(kernels is None, reason="no kernels were compiled")
def test_the_kernel_that_weighs_has_as_many_symbols_on_either_side():
    """What it looks up, and what it gives, lies within the row whatever the alphabet."""
    for alphabet in (2, 3, 4, 5):
        wanted, means = np.array([[9e3, -9e3]]), np.zeros((1, 2), np.int32)
        bits, price = np.zeros((1, alphabet)), np.zeros(2)
        given = np.zeros((1, 2), np.uint8), bits, np.zeros(1), price, 16
        half = (alphabet - 1) // 2
        assert kernels.weigh_latents(wanted, means, *given).tolist() == [[2 * half, 0]]
