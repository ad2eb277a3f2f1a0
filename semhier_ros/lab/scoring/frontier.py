"""What of many operating points is worth showing, and what codecs reach at given payload sizes, with intervals.

Worth showing is what nothing of as few bytes beats: the frontier. Between two of its points, values are linear in the
logarithm of bytes. Intervals are the middle 95 % of a bootstrap over photos (Efron 1979) in which everything is done
anew: mean bytes, mean values, the frontier, and the value at the size. All codecs see the same photos in each draw, so
what ours leads by is compared in pairs, which tells smaller leads from chance than two intervals side by side do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semhier_ros.lab.scoring.figures import middle

Row = dict[str, Any]
Floats = NDArray[np.float64]
OURS = "semhier"
DRAWS = 1000


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


def along_frontier(sizes: Floats, values: Floats, wanted: Floats) -> Floats:
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


def at_sizes(
    measured: Mapping[str, Sequence[Sequence[Row]]],
    measures: Callable[[Row], Mapping[str, float]],
    sizes: Sequence[int],
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, list[Row]]:
    """Per codec, a row for each of `sizes` (payload bytes).

    measured: per codec and photo, the rows of its operating points (`payload_bytes`, and what `measures` makes of one);
    all codecs have the same photos. A row has `payload_bytes`, and by measure `value`, `interval`, and of codecs other
    than ours, where ours is there, `margin_of_semhier` and `margin_interval`: ours less this one. None where a codec
    has no operating point that costs so little; draws in which it has none are left out of intervals.
    """
    curves = {name: _curves(rows, measures, sizes, draws, seed) for name, rows in measured.items()}
    ours = curves.get(OURS)
    return {
        name: [_row(size, place, own, ours if name != OURS else None) for place, size in enumerate(sizes)]
        for name, own in curves.items()
    }


def _curves(
    photos: Sequence[Sequence[Row]],
    measures: Callable[[Row], Mapping[str, float]],
    sizes: Sequence[int],
    draws: int,
    seed: int,
) -> dict[str, Floats]:
    """Per measure, what the codec reaches at each size: of all photos, then of each draw (1+draws,sizes)."""
    count = len(photos)
    random = np.random.default_rng(seed)  # the same for every codec: the same photos in each draw
    shares = random.multinomial(count, np.full(count, 1 / count), size=draws) / count
    shares = np.concatenate([np.full((1, count), 1 / count), shares])
    wanted = np.array(sizes, float)
    cost = shares @ np.array([[row["payload_bytes"] for row in rows] for rows in photos], float)
    values = [[measures(row) for row in rows] for rows in photos]
    result = {}
    for name in values[0][0]:
        means = shares @ np.array([[row[name] for row in rows] for rows in values], float)
        result[name] = np.stack([along_frontier(*points, wanted) for points in zip(cost, means, strict=True)])
    return result


def _row(size: int, place: int, own: dict[str, Floats], ours: dict[str, Floats] | None) -> Row:
    row: Row = {"payload_bytes": size, "value": {}, "interval": {}}
    for name, reached in own.items():
        row["value"][name], row["interval"][name] = _spread(reached[:, place])
    if ours is not None:
        row |= {"margin_of_semhier": {}, "margin_interval": {}}
        for name in own:
            margin = ours[name][:, place] - own[name][:, place]
            row["margin_of_semhier"][name], row["margin_interval"][name] = _spread(margin)
    return row


def _spread(values: Floats) -> tuple[float | None, tuple[float, float] | None]:
    """The first of `values`, which is of all photos, and the middle 95 % of the others; None if it is not a number."""
    span = middle(values[1:])
    return (None, None) if np.isnan(values[0]) or span is None else (float(values[0]), span)
