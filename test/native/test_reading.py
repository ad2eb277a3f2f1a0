"""What is read of objects by the compiled kernel, against the NumPy lines that define it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from semhier_ros.native import kernels
from semhier_ros.scene.reader import read_objects

INPUTS, HIDDEN, LEAVES, NODES = 41, 64, 21, 26


def given(count: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(count)
    widths = (INPUTS, HIDDEN, HIDDEN, LEAVES + 5)
    told = rng.integers(-64, 64, (count, INPUTS)).astype(np.int32) * (rng.random((count, INPUTS)) < 0.5)
    layers = [(rng.normal(0, 0.3, pair), rng.normal(0, 0.3, pair[1])) for pair in pairwise(widths)]
    return (
        told.astype(np.int32),
        layers,
        rng.uniform(0.5, 60, (count, 4)),
        np.eye(NODES)[rng.integers(0, NODES, LEAVES)],
    )


@pytest.mark.parametrize("count", [0, 1, 20])
def test_objects_are_read_as_numpy_reads_them(count: int) -> None:
    assert kernels is not None
    for found, expected in zip(kernels.read_objects(*given(count)), read_objects(*given(count)), strict=True):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)  # sums in another order


def test_arrays_that_do_not_fit_are_refused() -> None:
    assert kernels is not None
    told, layers, boxes, down_to = given(3)
    for wrong in (
        (told[:, 1:].copy(), layers, boxes, down_to),
        (told, layers[1:], boxes, down_to),
        (told, [layers[0], (layers[1][0], layers[1][1][1:].copy()), layers[2]], boxes, down_to),
        (told, layers, boxes[1:], down_to),
        (told, layers, boxes, down_to[1:]),
        (told, [], boxes, down_to),
    ):
        with pytest.raises(ValueError, match=r"expected|fit"):
            kernels.read_objects(*wrong)
    with pytest.raises(TypeError):
        kernels.read_objects(told.astype(np.int64), layers, boxes, down_to)
