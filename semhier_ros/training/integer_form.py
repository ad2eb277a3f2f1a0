"""From trained float networks and observed symbols to the integers that a model folder ships."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from semhier_ros.codec.entropy import Tables
from semhier_ros.codec.integer_network import IntegerNetwork
from semhier_ros.codec.latent_groups import LATENT_BOUND
from semhier_ros.scene.layout import SceneCode, SceneLayout
from semhier_ros.scene.stream import AREAS, ASPECTS, ROW_BANDS, SceneStream

WEIGHT_BITS = 12  # `IntegerNetwork.from_float`'s default
OUTPUT_BOUND = 2047  # means within +-128, table rows up to 127, in units of 1/16
OCCUPANCY_LEVELS = 64
OCCUPANCY_RANGE = (2e-6, 0.25)  # probabilities of an object in a cell that the occupancy tables cover
BLUR = (3.0, 5.0)  # cells, down and across: how far an object seen in one cell speaks for its neighbours
WHOLE = 0.93  # how often a block is expected to refine every object
KEPT_BY_AREA = (0.3, 0.45, 0.6, 0.7, 0.8, 0.85)  # how often an object is refined where not all are
ANYWHERE = 0.35  # share of the occupancy prior that is uniform: other cameras look elsewhere


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


def geometry_tables(layout: SceneLayout, codes: list[SceneCode]) -> tuple[dict[str, Tables], NDArray[np.uint8]]:
    """Tables of block 0 and of the names from observed codes, and the occupancy rows per count class and cell."""
    empty = np.zeros((0, 2), np.int32)
    sizes = np.concatenate([code.sizes for code in codes] or [empty])
    offsets = np.concatenate([code.offsets for code in codes])
    scores = np.concatenate([code.scores for code in codes])
    cells = np.concatenate([code.cells for code in codes])
    kinds = np.array([layout.count_class(len(code)) for code in codes])
    bands = cells // layout.columns * ROW_BANDS // layout.rows
    levels, shifts = layout.size_levels, layout.offset_levels
    tables = {
        "count": _table(np.zeros(len(kinds), int), kinds, 1, len(layout.count_edges) + 1),
        "width": _table(bands, sizes[:, 0], ROW_BANDS, levels, near=1.0),
        "height": _table(sizes[:, 0], sizes[:, 1], levels, levels, near=1.5),
        "offset_x": _table(sizes[:, 0], offsets[:, 0], levels, shifts, near=1.0),
        "offset_y": _table(sizes[:, 1], offsets[:, 1], levels, shifts, near=1.0),
        "score": _table(sizes[:, 0], scores, levels, len(layout.score_edges) + 1, near=1.0),
    }
    reach = np.array(OCCUPANCY_RANGE)
    chances = np.geomspace(reach[0], reach[1], OCCUPANCY_LEVELS)
    tables["occupancy"] = Tables.from_counts(np.stack([1 - chances, chances], axis=1) * 1e6, smoothing=1e-9)
    prior = _occupancy_prior(layout, cells)
    rows = np.zeros((len(layout.count_edges) + 1, layout.cells), np.uint8)
    for kind in range(1, len(rows)):
        counts = [len(code) for code, own in zip(codes, kinds, strict=True) if own == kind]
        mean = float(np.mean(counts)) if counts else float(layout.count_edges[kind - 1])
        position = np.log(np.clip(prior * mean, *reach) / reach[0]) / np.log(chances[1] / chances[0])
        rows[kind] = np.rint(position).astype(np.uint8)
    return tables, rows


def budget_tables(blocks: int) -> dict[str, Tables]:
    """Tables of what a budget passes over, for `blocks` semantic blocks after the first. Nothing can be counted here,
    for it depends on the budget: a block mostly refines every object, else rather the large ones."""
    whole = np.tile([[1 - WHOLE, WHOLE]], (blocks, 1))
    kept = np.array(KEPT_BY_AREA)
    return {
        "whole": Tables.from_counts(whole * 1e6),
        "kept": Tables.from_counts(np.stack([1 - kept, kept], axis=1) * 1e6),
    }


def name_tables(stream: SceneStream, codes: list[SceneCode]) -> dict[str, Tables]:
    """Tables of the names at every level below the first, from codes whose path is whole."""
    tables = {}
    for level in range(1, stream.levels):
        parents = 1 if level == 1 else len(stream.layout.parents[level - 2])
        most = max(len(stream.layout.children(level, parent)) for parent in range(parents))
        counts = np.zeros((parents, ASPECTS * AREAS, most))
        for code in codes:
            above, context = np.divmod(stream.name_rows(level, code), ASPECTS * AREAS)
            np.add.at(counts, (above, context, stream.name_symbols(level, code)), 1)
        own = counts.sum(axis=1, keepdims=True)
        for parent in range(parents):
            allowed = np.arange(most) < len(stream.layout.children(level, parent))
            share = (own[parent] + 1.0) * allowed
            counts[parent] = (counts[parent] + 8 * share / share.sum()) * allowed
        tables[f"name_{level}"] = Tables.from_counts(counts.reshape(-1, most), smoothing=1e-6)
    return tables


def _table(rows: NDArray, symbols: NDArray, height: int, width: int, near: float = 0.0) -> Tables:
    """Counts of symbols per row as a table; each row borrows from the rows within about `near` of it and from all."""
    counts = np.zeros((height, width))
    np.add.at(counts, (rows, symbols), 1.0)
    if near:
        distance = np.arange(height)[:, None] - np.arange(height)[None]
        counts = counts + 0.3 * np.exp(-0.5 * (distance / near) ** 2) @ counts
    overall = counts.sum(axis=0, keepdims=True) + 1.0
    return Tables.from_counts(counts + 4 * overall / overall.sum(), smoothing=0.02)


def _occupancy_prior(layout: SceneLayout, cells: NDArray) -> NDArray[np.float64]:
    """Where objects lie, over the grid's cells, summing to 1."""
    seen = np.zeros((layout.rows, layout.columns))
    np.add.at(seen, (cells // layout.columns, cells % layout.columns), 1.0)
    seen += seen[:, ::-1]
    for axis, reach in enumerate(BLUR):
        size = seen.shape[axis]
        distance = np.arange(size)[:, None] - np.arange(size)[None]
        kernel = np.exp(-0.5 * (distance / reach) ** 2)
        seen = np.moveaxis(np.tensordot(kernel / kernel.sum(axis=1, keepdims=True), seen, (1, axis)), 0, axis)
    used = np.ones_like(seen)
    return ((1 - ANYWHERE) * seen / seen.sum() + ANYWHERE * used / used.sum()).ravel()
