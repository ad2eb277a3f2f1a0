"""Tables of a scene's semantic blocks, counted on observed codes. Without torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.entropy import Tables
from semhier_ros.scene.layout import SceneCode, SceneLayout
from semhier_ros.scene.stream import AREAS, ASPECTS, ROW_BANDS, SceneStream

OCCUPANCY_LEVELS = 64
OCCUPANCY_RANGE = (2e-6, 0.25)  # probabilities of an object in a cell that the occupancy tables cover
BLUR = (3.0, 5.0)  # cells, down and across: how far an object seen in one cell speaks for its neighbours
WHOLE = 0.93  # how often a block is expected to refine every object
KEPT_BY_AREA = (0.3, 0.45, 0.6, 0.7, 0.8, 0.85)  # how often an object is refined where not all are
ANYWHERE = 0.35  # share of the occupancy prior that is uniform: other cameras look elsewhere


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
        most = max(2, *(len(stream.layout.children(level, parent)) for parent in range(parents)))  # a table has two
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
