"""What of many operating points is worth showing: those that nothing of as few bytes beats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = dict[str, Any]


def undominated(sizes: Sequence[float], values: Sequence[float]) -> list[bool]:
    """For each point whether no other gives a greater value for as many bytes, or as great a one for fewer."""
    points = list(zip(sizes, values, strict=True))
    return [
        not any((other <= size and theirs > value) or (other < size and theirs >= value) for other, theirs in points)
        for size, value in points
    ]


def mark_frontier(rows: Sequence[Row], measures: Callable[[Row], Mapping[str, float]]) -> None:
    """Adds to every row `best_at`: the names of those of its `measures` (more is better) at which no other row of the
    codec does as well for as few `payload_bytes_mean`. A row may lack a measure that others have."""
    found = [measures(row) for row in rows]
    for row in rows:
        row["best_at"] = []
    for name in dict.fromkeys(name for values in found for name in values):
        having = [place for place, values in enumerate(found) if name in values]
        kept = undominated(
            [rows[place]["payload_bytes_mean"] for place in having], [found[place][name] for place in having]
        )
        for place, best in zip(having, kept, strict=True):
            if best:
                rows[place]["best_at"].append(name)


def along_frontier(
    sizes: NDArray[np.float64], values: NDArray[np.float64], wanted: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What points of some `sizes` (bytes) and `values` reach at each `wanted` size: their frontier, linear in the
    logarithm of bytes between two points, level behind the last; NaN before the first, which costs more."""
    if not len(sizes):
        return np.full(len(wanted), np.nan)
    order = np.lexsort((-values, sizes))
    sizes, values = sizes[order], values[order]
    best = np.maximum.accumulate(values)
    kept = np.concatenate([[True], values[1:] > best[:-1]])
    reached = np.interp(np.log(wanted), np.log(np.maximum(sizes[kept], 1e-9)), values[kept])
    return np.where(wanted < sizes[0], np.nan, reached)


def at_size(rows: Sequence[Row], measure: Callable[[Row], float], size: float) -> float | None:
    """What a codec reaches at `size` mean payload bytes along its frontier; None where nothing costs so little."""
    sizes = np.array([row["payload_bytes_mean"] for row in rows], float)
    reached = along_frontier(sizes, np.array([measure(row) for row in rows], float), np.array([size], float))[0]
    return None if np.isnan(reached) else float(reached)
