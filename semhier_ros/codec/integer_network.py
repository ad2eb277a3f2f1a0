"""Small networks in exact integer arithmetic, for whatever feeds the entropy coder.

After Balle, Johnston, Minnen: "Integer Networks for Data Compression with Latent-Variable Models" (ICLR 2019). Encoder
and decoder must compute the same table row on any machine. Here weights, biases and activations are integers held in
float64, and the constructor proves that every sum stays below 2**53: then each product and each partial sum is exact,
so neither the order of summation, nor fused multiply-add, nor the number of threads can change a bit of the result.
What fits 16 bits runs in a compiled kernel, to the same integers (native/integer_layers.cpp).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semhier_ros.native import kernels

EXACT_LIMIT = 1 << 53
"""Integers below this magnitude, and their sums as long as they stay below it, are exact in float64."""
_INT16, _INT32 = np.iinfo(np.int16), np.iinfo(np.int32)
_MAX_SHIFT = 62


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """One layer: y = clip(floor((x @ weight + bias) / 2**shift), low, high).

    `weight`: integers (inputs, outputs), each within int32. `bias`: integers (outputs,). `shift`: 0..62. `low`, `high`:
    within int32; low = 0 makes it a ReLU. Raises ValueError naming the field otherwise.
    """

    weight: NDArray[np.int32]
    bias: NDArray[np.int64]
    shift: int
    low: int
    high: int

    def __post_init__(self) -> None:
        weight, bias = np.asarray(self.weight), np.asarray(self.bias)
        if weight.ndim != 2 or weight.dtype.kind not in "iu" or 0 in weight.shape:
            raise ValueError(f"weight: shape {weight.shape} of {weight.dtype}, expected integers (inputs, outputs)")
        if int(weight.min()) < _INT32.min or int(weight.max()) > _INT32.max:
            raise ValueError(f"weight: {int(weight.min())}..{int(weight.max())}, expected values within int32")
        if bias.shape != weight.shape[1:] or bias.dtype.kind not in "iu":
            raise ValueError(f"bias: shape {bias.shape} of {bias.dtype}, expected integers ({weight.shape[1]},)")
        if int(bias.min()) <= -EXACT_LIMIT or int(bias.max()) >= EXACT_LIMIT:
            raise ValueError(f"bias: {int(bias.min())}..{int(bias.max())}, expected less than 2**53 in magnitude")
        if not 0 <= self.shift <= _MAX_SHIFT:
            raise ValueError(f"shift: {self.shift}, expected 0 to {_MAX_SHIFT}")
        if not _INT32.min <= self.low <= self.high <= _INT32.max:
            raise ValueError(f"low, high: {self.low}, {self.high}, expected low <= high within int32")
        object.__setattr__(self, "weight", np.array(weight, dtype=np.int32, order="C"))
        object.__setattr__(self, "bias", np.array(bias, dtype=np.int64))
        self.weight.flags.writeable = False
        self.bias.flags.writeable = False


def compiled_layer(layer: IntegerLayer, largest: int, weight: NDArray[np.int32] | None = None) -> Any:
    """A layer (with another weight, if given) as kernels take it, for inputs within -largest..largest.

    Raises OverflowError where a number is beyond 16 bits, or where there are no kernels.
    """
    weight = layer.weight if weight is None else weight
    reach = max(largest, -layer.low, layer.high, -int(weight.min(initial=0)), int(weight.max(initial=0)))
    if kernels is None or reach > _INT16.max:
        raise OverflowError(f"layer: numbers to {reach}, expected kernels and at most {_INT16.max}")
    bias = layer.bias * 2.0**-layer.shift
    return kernels.IntegerLayer(weight.astype(np.int16), bias, layer.shift, layer.low, layer.high, max(1, largest))


def compiled_layers(layers: Sequence[IntegerLayer], largest: int) -> list[Any]:
    """`compiled_layer` of each, for inputs of the first within -largest..largest."""
    made = []
    for layer in layers:
        made.append(compiled_layer(layer, largest))
        largest = max(abs(layer.low), abs(layer.high))
    return made


class IntegerNetwork:
    """A stack of `IntegerLayer`s on inputs clipped to -input_bound..input_bound; exact, proven when constructed.

    Raises ValueError when layers do not fit together or a sum could reach 2**53: for each output the bound is
    sum(|largest input| * |weight|) + |bias|, which no partial sum in any order can exceed. `worst` is the largest of
    these bounds. `scaled_layers`: weight, bias, low and high of each layer as float64, its 2**-shift multiplied in,
    which is exact too: y = clip(floor(x @ weight + bias), low, high). `compiled`: the layers as kernels take them;
    none where a number is beyond 16 bits, or where there are no kernels.
    """

    def __init__(self, layers: Sequence[IntegerLayer], input_bound: int) -> None:
        if not layers:
            raise ValueError("layers: empty, expected at least one")
        if not 1 <= input_bound <= _INT32.max:
            raise ValueError(f"input_bound: {input_bound}, expected 1 to {_INT32.max}")
        self.layers = tuple(layers)
        self.input_bound = int(input_bound)
        width, bound = self.layers[0].weight.shape[0], self.input_bound
        self.worst = 0
        for number, layer in enumerate(self.layers):
            if layer.weight.shape[0] != width:
                raise ValueError(f"layers[{number}].weight: {layer.weight.shape[0]} inputs, expected {width}")
            absolute = np.abs(layer.weight.astype(object)).sum(axis=0) * bound + np.abs(layer.bias.astype(object))
            worst = int(max(absolute))
            if worst >= EXACT_LIMIT:
                raise ValueError(f"layers[{number}]: a sum can reach {worst}, expected less than 2**53")
            width, bound = layer.weight.shape[1], max(abs(layer.low), abs(layer.high))
            self.worst = max(self.worst, worst)
        self.scaled_layers = [
            (layer.weight * 2.0**-layer.shift, layer.bias * 2.0**-layer.shift, layer.low, layer.high)
            for layer in self.layers
        ]
        try:
            self.compiled = compiled_layers(self.layers, self.input_bound)
        except OverflowError:
            self.compiled = []

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return int(self.layers[0].weight.shape[0])

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return int(self.layers[-1].weight.shape[1])

    def __call__(self, inputs: ArrayLike) -> NDArray[np.int32]:
        """Outputs (n, outputs), int32, for integer inputs (n, inputs), which are clipped to the input bound.

        Raises ValueError for another shape or for inputs that are not integers.
        """
        values = np.asarray(inputs)
        if values.ndim != 2 or values.shape[1] != self.inputs or values.dtype.kind not in "iu":
            raise ValueError(f"inputs: shape {values.shape} of {values.dtype}, expected integers (n, {self.inputs})")
        high: int | np.integer = self.input_bound
        low: int | np.integer = -self.input_bound
        limits = np.iinfo(values.dtype)
        kept = np.minimum(np.maximum(values, max(low, limits.min)), min(high, limits.max))
        if self.compiled and kernels is not None:
            found: NDArray[np.int32] = kernels.run_layers(self.compiled, kept.astype(np.int16, order="C"))
            return found
        return self._from_sums(kept.astype(np.float64) @ self.scaled_layers[0][0])

    def with_marks(self, marks: Sequence[int], value: int, rest: NDArray[np.int32]) -> NDArray[np.int32]:
        """Outputs (outputs), int32, where the last inputs are `rest` and all before are 0 but for `value` at `marks`.

        What `__call__` gives for the same inputs, exactly (all sums are whole numbers below 2**53), but only the
        weights of the marks are looked at. value and rest: within the input bound.
        """
        weight = self.scaled_layers[0][0]
        sums = value * weight[list(marks)].sum(axis=0)
        if len(rest):
            kept = np.clip(rest, -self.input_bound, self.input_bound).astype(np.float64)
            sums += kept @ weight[len(weight) - len(rest) :]
        return self._from_sums(sums[None])[0]

    def _from_sums(self, state: NDArray[np.float64]) -> NDArray[np.int32]:
        """Outputs from the first layer's products, summed."""
        for number, (weight, bias, low, high) in enumerate(self.scaled_layers):
            state = state @ weight if number else state
            state += bias
            np.floor(state, out=state)
            np.maximum(state, low, out=state)
            np.minimum(state, high, out=state)
        return state.astype(np.int32)

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """The network as named integer arrays, for the model folder; `from_arrays` is the way back."""
        arrays: dict[str, NDArray[np.generic]] = {"input_bound": np.array([self.input_bound], np.int64)}
        for number, layer in enumerate(self.layers):
            arrays[f"layer_{number}.weight"] = layer.weight
            arrays[f"layer_{number}.bias"] = layer.bias
            arrays[f"layer_{number}.limits"] = np.array([layer.shift, layer.low, layer.high], np.int64)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> IntegerNetwork:
        """The network stored by `to_arrays`. Raises ValueError when an array is missing, unknown or out of range."""
        count = sum(name.endswith(".weight") for name in arrays)
        parts = ("weight", "bias", "limits")
        expected = {"input_bound", *(f"layer_{number}.{part}" for number in range(count) for part in parts)}
        if set(arrays) != expected:
            raise ValueError(f"arrays: {sorted(set(arrays) ^ expected)} missing or unknown")
        for name, size in [("input_bound", 1), *((f"layer_{number}.limits", 3) for number in range(count))]:
            if arrays[name].shape != (size,) or arrays[name].dtype.kind not in "iu":
                raise ValueError(
                    f"{name}: shape {arrays[name].shape} of {arrays[name].dtype}, expected {size} integers"
                )
        layers = []
        for number in range(count):
            shift, low, high = (int(value) for value in arrays[f"layer_{number}.limits"])
            weight, bias = arrays[f"layer_{number}.weight"], arrays[f"layer_{number}.bias"]
            layers.append(IntegerLayer(weight, bias, shift, low, high))  # type: ignore[arg-type]
        return cls(layers, int(arrays["input_bound"][0]))

    @classmethod
    def from_float(
        cls,
        weights: Sequence[ArrayLike],
        biases: Sequence[ArrayLike],
        *,
        input_bits: int,
        input_bound: int,
        weight_bits: int = 12,
        hidden_bits: int = 8,
        hidden_bound: int = (1 << 15) - 1,
        output_bits: int = 8,
        output_bound: int = (1 << 15) - 1,
        rectified: bool = False,
    ) -> IntegerNetwork:
        """Fixed-point form of a float perceptron with ReLU between its layers and none after the last.

        `weights[i]` (inputs, outputs) and `biases[i]` (outputs,) are the float layers (torch keeps weights
        transposed). An integer input x means x / 2**input_bits, an activation h means h / 2**hidden_bits, an output y
        means y / 2**output_bits; weights are rounded to `weight_bits` fractional bits, results to the nearest,
        halves up. Hidden activations are clipped to 0..hidden_bound, outputs to -output_bound..output_bound (to
        0..output_bound if `rectified`), all in integer units. Raises ValueError when the sums would not be exact or a
        shift would be negative.
        """
        if not weights or len(weights) != len(biases):
            raise ValueError(f"weights, biases: {len(weights)} and {len(biases)} layers, expected equally many, >= 1")
        layers = []
        scale_bits = input_bits
        for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            last = number == len(weights) - 1
            result_bits = output_bits if last else hidden_bits
            shift = scale_bits + weight_bits - result_bits
            if shift < 0:
                raise ValueError(f"layer {number}: result bits {result_bits} exceed {scale_bits + weight_bits}")
            half = (1 << shift) >> 1
            integer_bias = _rounded(f"biases[{number}]", bias, scale_bits + weight_bits) + half
            low, high = (0 if rectified else -output_bound, output_bound) if last else (0, hidden_bound)
            integer_weight = _rounded(f"weights[{number}]", weight, weight_bits)
            layers.append(IntegerLayer(integer_weight, integer_bias, shift, low, high))  # type: ignore[arg-type]
            scale_bits = result_bits
        return cls(layers, input_bound)


def _rounded(name: str, values: ArrayLike, bits: int) -> NDArray[np.int64]:
    scaled = np.rint(np.asarray(values, dtype=np.float64) * 2.0**bits)
    if not np.isfinite(scaled).all() or (scaled.size and float(np.abs(scaled).max()) >= EXACT_LIMIT):
        raise ValueError(f"{name}: expected finite values below 2**{53 - bits} in magnitude")
    return scaled.astype(np.int64)
