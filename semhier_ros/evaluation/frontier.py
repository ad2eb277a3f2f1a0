"""What of many operating points is worth showing: those that nothing of as few bytes beats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

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


def at_size(rows: Sequence[Row], measure: Callable[[Row], float], size: float) -> float | None:
    """What a codec reaches at `size` mean payload bytes: its frontier, linear in the logarithm of bytes between two
    operating points, level behind the last; None before the first, which costs more."""
    points = [(float(row["payload_bytes_mean"]), measure(row)) for row in rows]
    kept = undominated([bytes_ for bytes_, _ in points], [value for _, value in points])
    front = sorted({point for point, best in zip(points, kept, strict=True) if best})
    if not front or size < front[0][0]:
        return None
    sizes, values = zip(*front, strict=True)
    return float(np.interp(np.log(size), np.log(np.maximum(sizes, 1e-9)), values))
