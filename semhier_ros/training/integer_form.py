"""From trained float networks to the integers that a model folder ships, and back."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from semhier_ros.codec.entropy import Tables
from semhier_ros.codec.integer_network import IntegerNetwork
from semhier_ros.codec.latent_groups import LATENT_BOUND

WEIGHT_BITS = 12  # `IntegerNetwork.from_float`'s default
OUTPUT_BOUND = 2047  # means within +-128, table rows up to 127, in units of 1/16


def scale_table(low: float, high: float, rows: int, half_width: int) -> tuple[Tables, NDArray[np.float64]]:
    scales = np.geomspace(low, high, rows)
    return Tables.gaussian(scales, half_width), scales


def integer_context(layers: Iterable[nn.Module], scales: NDArray[np.float64]) -> IntegerNetwork:
    """The exact form of a context perceptron whose outputs are means, then log scales (as many).

    The log scale's affine map to a table row is folded into the last layer.
    """
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    weights = [layer.weight.detach().double().numpy().T.copy() for layer in linear]
    biases = [layer.bias.detach().double().numpy().copy() for layer in linear]
    step = np.log(scales[1] / scales[0])
    half = weights[-1].shape[1] // 2
    weights[-1][:, half:] /= step
    biases[-1][half:] = (biases[-1][half:] - np.log(scales[0])) / step
    return IntegerNetwork.from_float(
        weights, biases, input_bits=4, input_bound=LATENT_BOUND, output_bits=4, output_bound=OUTPUT_BOUND
    )


def float_layers(network: IntegerNetwork, input_bits: int = 4) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """The way back from `IntegerNetwork.from_float`, up to rounding: each layer's weight (inputs,outputs) and bias."""
    layers, bits = [], input_bits
    for layer in network.layers:
        half = (1 << layer.shift) >> 1
        layers.append((layer.weight / 2.0**WEIGHT_BITS, (layer.bias - half) / 2.0 ** (bits + WEIGHT_BITS)))
        bits = bits + WEIGHT_BITS - layer.shift
    return layers


def float_context(network: IntegerNetwork, layers: Iterable[nn.Module], scales: NDArray[np.float64]) -> None:
    """The way back from `integer_context`: fills `layers`, up to rounding."""
    parts = float_layers(network)
    step = np.log(scales[1] / scales[0])
    weight, bias = parts[-1]
    half = weight.shape[1] // 2
    weight[:, half:] *= step
    bias[half:] = bias[half:] * step + np.log(scales[0])
    for layer, (weight, bias) in zip(layers, parts, strict=True):
        fill_linear(layer, weight, bias)


def fill_linear(layer: nn.Module, weight: NDArray[np.float64], bias: NDArray[np.float64]) -> None:
    """Set a linear layer to weight (inputs,outputs) and bias (outputs)."""
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight.T))
        layer.bias.copy_(torch.from_numpy(bias))
