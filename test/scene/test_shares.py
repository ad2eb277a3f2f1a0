"""Shares of rival forecasts: as much of each as it has paid, for each part and age apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semhier_ros.scene.shares import Shares, nearest_mixture, products

WORTH = 16.0


def take(shares: Shares, age: int, gone: np.ndarray, variance: np.ndarray) -> None:
    """What was seen less what was foretold, of one age."""
    both, gain = products(gone, variance)
    shares.take([age], both[None], gain[None], 0.08)


def test_a_motion_is_followed_only_as_far_as_it_has_paid() -> None:
    random = np.random.default_rng(11)
    shares = Shares(2, 1, (WORTH,), memory=1.5)
    assert shares.values.tolist() == [[[1.0, 0.0]]], "nothing moves until something else has paid"
    for moved, wanted in ((0.0, 0.0), (8.0, 1.0), (0.0, 0.0)):
        for _ in range(60):
            seen = moved + random.normal(0, 2.0, (1, 10))
            told = np.stack([np.zeros((1, 10)), np.full((1, 10), moved) + random.normal(0, 6.0, (1, 10))])
            take(shares, 0, seen - told, np.full((1, 10), 4.0))
            assert shares.values.sum() == pytest.approx(1.0)
            assert shares.values.min() >= 0.0
        assert shares.values[0, 0, 1] == pytest.approx(wanted, abs=0.4)


def test_an_outlier_does_not_make_a_motion_pay() -> None:
    shares = Shares(2, 1, (WORTH,), memory=1.5)
    for number in range(20):
        seen = np.full((1, 8), 0.0 if number else 400.0)
        take(shares, 0, seen - np.stack([np.zeros((1, 8)), np.full((1, 8), 12.0)]), np.full((1, 8), 4.0))
    assert shares.values[0, 0, 1] < 0.1


def test_parts_and_ages_have_shares_of_their_own() -> None:
    shares = Shares(2, 2, (WORTH, WORTH), memory=1.5)
    moved = np.array([[10.0] * 6, [0.0] * 6])
    told = np.stack([np.zeros((2, 6)), np.full((2, 6), 10.0)])
    for _ in range(20):
        take(shares, 0, moved - told, np.ones((2, 6)))
        take(shares, 1, moved[::-1] - told, np.ones((2, 6)))
    moving = shares.values[..., 1]
    assert moving == pytest.approx(np.eye(2), abs=0.05)


def test_other_shares_than_those_begun_with_must_be_earned() -> None:
    shares = Shares(3, 1, (WORTH, WORTH), memory=1.5)
    shares.begin_with(np.array([0.5, 0.0, 0.5]), 1)
    assert shares.values[0] == pytest.approx(np.array([[0.5, 0.0, 0.5], [1.0, 0.0, 0.0]]))
    gone = np.stack([np.full((2, 4), value) for value in (6.0, 6.0, 0.0)])
    for _ in range(20):
        take(shares, 0, gone, np.ones((2, 4)))
    assert shares.values[0, :, 2] == pytest.approx([1.0, 1.0], abs=0.1)


@settings(max_examples=60)
@given(st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_no_other_mixture_is_nearer(rivals: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    errors = random.normal(0, random.choice([0.1, 1.0, 30.0]), (3, rivals, 6)) + random.normal(0, 1, (3, 1, 1))
    wanted = random.normal(0, 1, (3, 6))
    both = errors @ errors.swapaxes(1, 2) + random.uniform(0, 4) * np.eye(rivals)
    gain = np.einsum("bmn,bn->bm", errors, wanted)
    found = nearest_mixture(both, gain)
    assert found.min() >= 0.0
    assert found.sum(axis=1) == pytest.approx(np.ones(3))

    def cost(mixture: np.ndarray) -> np.ndarray:
        return np.einsum("bm,bmk,bk->b", mixture, both, mixture) - 2 * (gain * mixture).sum(axis=1)

    least = cost(found)
    for _ in range(200):
        other = random.dirichlet(np.full(rivals, random.choice([0.1, 1.0])), 3)
        step = random.choice([1.0, 0.1, 0.001])
        assert (cost(found + step * (other - found)) >= least - 1e-7 * (1 + np.abs(least))).all()
