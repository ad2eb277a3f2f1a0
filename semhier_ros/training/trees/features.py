"""From text embeddings to the points that trees are built from.

Points lie on an integer grid, so that every sum and dot product in the build is exact in float64 and the same tree
comes out on any machine, whatever its BLAS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

GRID = 2**13

FloatArray = NDArray[np.float64]


def unit_rows(rows: NDArray[Any]) -> FloatArray:
    """Scale every row (n, d) to length 1. Raises ValueError for a row that is zero or not finite."""
    values = np.asarray(rows, dtype=np.float64)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"embeddings of shape {values.shape}: (names, dimensions) expected, neither of them 0")
    length = np.linalg.norm(values, axis=1, keepdims=True)
    bad = np.flatnonzero(~(length[:, 0] > 0) | ~np.isfinite(length[:, 0]))
    if bad.size:
        raise ValueError(f"embedding row {bad[0]}: length {length[bad[0], 0]}, a finite length above 0 is needed")
    result: FloatArray = values / length
    return result


def grid_points(rows: NDArray[Any]) -> FloatArray:
    """Unit rows, their mean taken off (raw text embeddings have hubs), scaled to length 1, rounded to 1/8192.

    The result holds integers (multiples of 1/8192 times 8192); sums over up to 8,192 rows and their products are exact.
    """
    centred = unit_rows(rows)
    centred = np.rint(centred * 2**20)
    if len(centred) > 1:
        centred = np.rint(centred - centred.sum(axis=0) / len(centred))
    length = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    points: FloatArray = np.rint(GRID * centred / np.maximum(length, 1.0))
    return points


def join_points(first: FloatArray, second: FloatArray, weight: float) -> FloatArray:
    """Put a second kind of embedding (images of the classes, say) beside the first, `weight` (0..1) of it."""
    if len(first) != len(second):
        raise ValueError(f"{len(second)} rows of image embeddings for {len(first)} classes")
    if not 0 <= weight <= 1:
        raise ValueError(f"image weight {weight}: allowed are 0..1")
    joined: FloatArray = np.rint(np.concatenate([first * np.sqrt(1 - weight), second * np.sqrt(weight)], axis=1))
    return joined


@dataclass(frozen=True)
class Vocabulary:
    """General names with their points, each source centred on its own mean (sources use different prompts)."""

    names: tuple[str, ...]
    points: FloatArray

    @classmethod
    def load(cls, sources: Sequence[tuple[Path, Path]]) -> Vocabulary:
        """Read (names.txt, embeddings.npy) pairs; a name that several sources have keeps its first place."""
        names: list[str] = []
        points: list[FloatArray] = []
        seen: set[str] = set()
        for names_path, rows_path in sources:
            found = names_path.read_text(encoding="utf-8-sig").splitlines()
            rows = np.load(rows_path, allow_pickle=False)
            if len(found) != len(rows):
                raise ValueError(f"{names_path}: {len(found)} names for {len(rows)} rows of {rows_path.name}")
            for name, point in zip(found, grid_points(rows), strict=True):
                clean = plain_name(name)
                if clean.lower() not in seen:
                    seen.add(clean.lower())
                    names.append(clean)
                    points.append(point)
        return cls(tuple(names), np.array(points))

    @classmethod
    def of(cls, names: Sequence[str], rows: NDArray[Any]) -> Vocabulary:
        """Names with their raw embeddings (names, d)."""
        return cls(tuple(plain_name(name) for name in names), grid_points(rows))

    @classmethod
    def empty(cls, rows: NDArray[Any]) -> Vocabulary:
        """No names, in the space of `rows` (n, d): nodes are then named by head nouns or their central leaf."""
        return cls((), np.zeros((0, rows.shape[1])))


def plain_name(name: str) -> str:
    """A vocabulary entry as a person would say it: no bracketed hint, small letters unless it is all capitals."""
    clean = " ".join(name.split("(")[0].replace("_", " ").split())
    return clean if clean.isupper() else clean.lower()
