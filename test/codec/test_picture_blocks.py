"""Picture blocks: what is quantised is what is decoded, refinement by later groups, damage, parts that do not fit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semhier_ros.codec.entropy import BlockDecoder, BlockEncoder, BlockError, Tables
from semhier_ros.codec.integer_network import IntegerNetwork
from semhier_ros.codec.latent_groups import LATENT_BOUND, UNIT
from semhier_ros.codec.picture_blocks import (
    PHASES,
    PictureBlocks,
    PictureContext,
    PictureGroup,
    channels_of,
    phases_of,
)

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


@settings(max_examples=30, deadline=None)
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


def test_a_symbol_that_leaves_the_bound_is_refused(blocks):
    before = np.full((3, 4, 4), LATENT_BOUND, np.int32)
    with pytest.raises(BlockError, match="outside"):
        blocks.walk(1, before, (4, 4), lambda phase, means, rows: np.full(means.shape, 2 * HALF))


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
    with pytest.raises(ValueError, match="picture group 0: networks of"):
        PictureBlocks(GROUPS, blocks.tables, blocks.contexts[::-1], blocks.shifts)
    with pytest.raises(ValueError, match="picture shifts: shape"):
        PictureBlocks(GROUPS, blocks.tables, blocks.contexts, blocks.shifts[1:])
