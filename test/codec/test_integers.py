"""Convolutions in 8-bit integers: nearly what they are in floats, and only where there is a range."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from semhier_ros.codec.graphs import openvino_core
from semhier_ros.codec.integers import constant, convolutions, in_integers, measure_inputs


def small_model(weight: np.ndarray, depthwise: np.ndarray) -> Any:
    """Two convolutions, the second by channel, with names of their own."""
    import openvino
    import openvino.opset13 as op

    values = op.parameter([1, weight.shape[1], 12, 16], np.float32)
    frame = ([1, 1], [1, 1], [1, 1], [1, 1])
    first = op.convolution(values, constant(weight), *frame, name="first/Conv/WithoutBiases")
    second = op.group_convolution(op.relu(first), constant(depthwise), *frame, name="second/Conv")
    return openvino.Model([second], [values], "small")


def test_both_kinds_of_convolution_are_nearly_what_they_are_in_floats() -> None:
    draw = np.random.default_rng(3)
    weight = draw.normal(0, 0.2, (8, 4, 3, 3)).astype(np.float32)
    weight[3] = 0  # a channel that says nothing
    depthwise = draw.normal(0, 0.3, (8, 1, 1, 3, 3)).astype(np.float32)
    core = openvino_core()
    samples = [[draw.normal(0, 1, (1, 4, 12, 16)).astype(np.float32)] for _ in range(6)]
    model = small_model(weight, depthwise)
    layers = convolutions(model)
    assert list(layers) == ["first/Conv", "second/Conv"]
    inputs = {name: node.input_value(0) for name, node in layers.items()}
    ranges = measure_inputs(core, inputs, model.get_parameters(), samples[:3])
    assert ranges["second/Conv"][0] == 0.0
    floats = core.compile_model(small_model(weight, depthwise), "CPU")
    integers = core.compile_model(in_integers(small_model(weight, depthwise), ranges), "CPU")
    same = core.compile_model(in_integers(small_model(weight, depthwise), {}), "CPU")
    for sample in samples[3:]:
        wanted, found, untouched = (one(sample)[0] for one in (floats, integers, same))
        assert np.array_equal(untouched, wanted)
        assert not np.array_equal(found, wanted)
        assert np.abs(found - wanted).mean() < 0.03 * np.abs(wanted).mean()


def test_ranges_of_nothing_are_refused() -> None:
    model = small_model(np.ones((2, 2, 3, 3), np.float32), np.ones((2, 1, 1, 3, 3), np.float32))
    with pytest.raises(ValueError, match="samples: none"):
        measure_inputs(openvino_core(), {"first/Conv": model.outputs[0]}, model.get_parameters(), [])
