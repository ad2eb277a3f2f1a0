"""Integer networks: the same numbers by BLAS, by plain integers and in any order, and close to the float network."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from semhier_ros.codec.integer_network import EXACT_LIMIT, IntegerLayer, IntegerNetwork


def by_plain_integers(network: IntegerNetwork, inputs: np.ndarray) -> list[list[int]]:
    results = []
    for row in inputs.tolist():
        state = [max(-network.input_bound, min(network.input_bound, value)) for value in row]
        for layer in network.layers:
            weight, bias = layer.weight.tolist(), layer.bias.tolist()
            sums = [
                sum(x * w[output] for x, w in zip(state, weight, strict=True)) + bias[output]
                for output in range(len(bias))
            ]
            state = [max(layer.low, min(layer.high, value >> layer.shift)) for value in sums]
        results.append(state)
    return results


def random_network(rng: np.random.Generator) -> IntegerNetwork:
    widths = [int(width) for width in rng.integers(1, 40, rng.integers(2, 5))]
    layers = []
    for inputs, outputs in pairwise(widths):
        weight = rng.integers(-(1 << 15), 1 << 15, (inputs, outputs))
        bias = rng.integers(-(1 << 30), 1 << 30, outputs)
        high = int(rng.integers(1, 1 << 16))
        layers.append(IntegerLayer(weight, bias, int(rng.integers(0, 24)), int(rng.choice([0, -high])), high))
    return IntegerNetwork(layers, int(rng.integers(1, 1 << 12)))


def test_equal_to_plain_integers() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        network = random_network(rng)
        inputs = rng.integers(-(1 << 13), 1 << 13, (int(rng.integers(1, 20)), network.inputs))
        outputs = network(inputs)
        assert outputs.dtype == np.int32
        assert outputs.tolist() == by_plain_integers(network, inputs)


def test_order_of_summation_and_batching_change_nothing() -> None:
    rng = np.random.default_rng(1)
    weights = [rng.integers(-(1 << 20), 1 << 20, (200, 30)), rng.integers(-(1 << 20), 1 << 20, (30, 5))]
    layers = [
        IntegerLayer(weights[0], np.zeros(30, int), 18, 0, 1 << 15),
        IntegerLayer(weights[1], np.zeros(5, int), 9, -(1 << 30), 1 << 30),
    ]
    inputs = rng.integers(-(1 << 14), 1 << 14, (64, 200))
    expected = IntegerNetwork(layers, 1 << 14)(inputs)
    for _ in range(5):
        order, hidden = rng.permutation(200), rng.permutation(30)
        shuffled = [
            IntegerLayer(weights[0][order][:, hidden], np.zeros(30, int), 18, 0, 1 << 15),
            IntegerLayer(weights[1][hidden], np.zeros(5, int), 9, -(1 << 30), 1 << 30),
        ]
        assert np.array_equal(IntegerNetwork(shuffled, 1 << 14)(inputs[:, order]), expected)
    network = IntegerNetwork(layers, 1 << 14)
    assert np.array_equal(np.concatenate([network(inputs[i : i + 1]) for i in range(64)]), expected)
    assert np.array_equal(network(np.asfortranarray(inputs)[:, :]), expected)


def test_exact_up_to_the_proven_limit_and_refused_beyond() -> None:
    bound = (1 << 31) - 1
    weight = np.array([[1 << 21], [(1 << 21) - 1]])
    room = EXACT_LIMIT - 1 - bound * int(weight.sum())
    layer = IntegerLayer(weight, np.array([room]), 22, -bound - 1, bound)
    network = IntegerNetwork([layer], bound)
    inputs = np.array([[bound, bound], [-bound, -bound], [bound, -bound], [bound, bound - 1]])
    assert network(inputs).tolist() == by_plain_integers(network, inputs)
    with pytest.raises(ValueError, match=r"layers\[0\]: a sum can reach 9007199254740992"):
        IntegerNetwork([IntegerLayer(weight, np.array([room + 1]), 22, -bound - 1, bound)], bound)


def test_floor_is_towards_minus_infinity_and_inputs_are_clipped() -> None:
    network = IntegerNetwork([IntegerLayer(np.array([[1]]), np.array([0]), 1, -100, 100)], 7)
    assert network([[-3], [-1], [1], [3], [1000], [-1000]]).ravel().tolist() == [-2, -1, 0, 1, 3, -4]
    assert network(np.array([[250]], np.uint8)).tolist() == [[3]]
    assert network(np.array([[np.iinfo(np.int64).min], [2**53 + 1]])).ravel().tolist() == [-4, 3]
    assert network(np.empty((0, 1), int)).shape == (0, 1)
    wide = IntegerNetwork([IntegerLayer(np.array([[1]]), np.array([0]), 0, -1000, 1000)], 500)
    assert wide(np.array([[-128], [127]], np.int8)).ravel().tolist() == [-128, 127]


def test_from_float_approximates() -> None:
    rng = np.random.default_rng(2)
    widths = (12, 32, 32, 6)
    weights = [rng.normal(size=shape) / math.sqrt(shape[0]) for shape in pairwise(widths)]
    biases = [rng.normal(size=width) * 0.3 for width in widths[1:]]
    network = IntegerNetwork.from_float(weights, biases, input_bits=4, input_bound=127, hidden_bits=8, output_bits=8)
    inputs = rng.integers(-127, 128, (500, 12))
    state = inputs / 16
    for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        state = state @ weight + bias
        state = np.maximum(state, 0) if number < 2 else state
    error = network(inputs) / 256 - state
    assert np.abs(error).max() < 0.03
    assert abs(error.mean()) < 2e-3


def test_arrays_round_trip_and_are_checked() -> None:
    network = random_network(np.random.default_rng(3))
    arrays = network.to_arrays()
    assert all(array.dtype.kind == "i" for array in arrays.values())
    again = IntegerNetwork.from_arrays(arrays)
    inputs = np.random.default_rng(4).integers(-5000, 5000, (30, network.inputs))
    assert np.array_equal(again(inputs), network(inputs))
    for name in arrays:
        with pytest.raises(ValueError, match="missing or unknown"):
            IntegerNetwork.from_arrays({other: array for other, array in arrays.items() if other != name})
    with pytest.raises(ValueError, match="missing or unknown"):
        IntegerNetwork.from_arrays({**arrays, "extra": np.zeros(1, int)})
    with pytest.raises(ValueError, match=r"layer_0\.limits"):
        IntegerNetwork.from_arrays({**arrays, "layer_0.limits": np.zeros(2, int)})
    with pytest.raises(ValueError, match="expected integers"):
        IntegerNetwork.from_arrays({**arrays, "layer_0.weight": arrays["layer_0.weight"].astype(float)})


def test_refusals_name_the_field() -> None:
    weight, bias = np.ones((2, 3), int), np.zeros(3, int)
    for change, words in (
        ({"weight": np.ones((2, 3))}, "weight: .*float64"),
        ({"weight": np.ones(3, int)}, "weight: shape"),
        ({"weight": np.full((2, 3), 1 << 31)}, "within int32"),
        ({"bias": np.zeros(2, int)}, "bias: shape"),
        ({"bias": np.full(3, 1 << 53)}, r"2\*\*53"),
        ({"shift": -1}, "shift: -1, expected 0 to 62"),
        ({"low": 5, "high": 4}, "low <= high"),
    ):
        fields = {"weight": weight, "bias": bias, "shift": 0, "low": 0, "high": 9, **change}
        with pytest.raises(ValueError, match=words):
            IntegerLayer(**fields)  # type: ignore[arg-type]
    layer = IntegerLayer(weight, bias, 0, 0, 9)
    with pytest.raises(ValueError, match="2 inputs, expected 3"):
        IntegerNetwork([layer, layer], 5)
    with pytest.raises(ValueError, match="layers: empty"):
        IntegerNetwork([], 5)
    with pytest.raises(ValueError, match="input_bound: 0"):
        IntegerNetwork([layer], 0)
    for inputs in (np.ones((2, 2)), np.ones((2, 3), int), np.ones(2, int)):
        with pytest.raises(ValueError, match="inputs: shape"):
            IntegerNetwork([layer], 5)(inputs)
    with pytest.raises(ValueError, match=r"weights\[0\]"):
        IntegerNetwork.from_float([[[math.nan]]], [[0.0]], input_bits=4, input_bound=9)
    with pytest.raises(ValueError, match="layer 0: result bits"):
        IntegerNetwork.from_float([[[1.0]]], [[0.0]], input_bits=0, input_bound=9, weight_bits=2, output_bits=3)


def test_marks_looked_up_give_what_the_product_gives() -> None:
    random = np.random.default_rng(8)
    weights, biases = [random.normal(size=(30, 6)), random.normal(size=(6, 4))], [np.ones(6), np.zeros(4)]
    network = IntegerNetwork.from_float(weights, biases, input_bits=4, input_bound=500)
    for rest in (0, 9):
        for _ in range(20):
            inputs = np.zeros(30, np.int32)
            marks = random.choice(30 - rest, 3, replace=False)
            inputs[marks] = 16
            told = random.integers(-900, 900, rest).astype(np.int32)
            inputs[30 - rest :] = told
            np.testing.assert_array_equal(network.with_marks(marks.tolist(), 16, told), network(inputs[None])[0])
