"""How far two groupings of the same classes agree, and how tight one is. A grouping is an int array, one a leaf."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semhier_ros.taxonomy.tree import Taxonomy
from semhier_ros.training.trees.features import unit_rows

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Agreement:
    """Of grouping A (coarser) with grouping B (finer).

    nested: share of B's groups that lie wholly within one of A's; homogeneity: 1 where every group of B holds leaves of
    one group of A only; completeness: the other way round; rand: adjusted Rand index (0 by chance, 1 equal).
    """

    groups: tuple[int, int]
    nested: float
    homogeneity: float
    completeness: float
    rand: float


def agree(first: IntArray, second: IntArray) -> Agreement:
    """Compare two groupings of the same leaves. Raises ValueError for different lengths."""
    a, b = np.unique(first, return_inverse=True)[1], np.unique(second, return_inverse=True)[1]
    if a.shape != b.shape or a.ndim != 1 or not a.size:
        raise ValueError(f"groupings of {a.size} and {b.size} leaves cannot be compared")
    table = np.zeros((int(a.max()) + 1, int(b.max()) + 1))
    np.add.at(table, (a, b), 1.0)
    share = table / len(a)
    rows, columns = share.sum(axis=1), share.sum(axis=0)
    entropy_a, entropy_b, joint = _entropy(rows), _entropy(columns), _entropy(share.ravel())
    pairs, pairs_a, pairs_b = (float((x * (x - 1) / 2).sum()) for x in (table, table.sum(1), table.sum(0)))
    expected = pairs_a * pairs_b / max(len(a) * (len(a) - 1) / 2, 1.0)
    most = (pairs_a + pairs_b) / 2
    return Agreement(
        groups=(table.shape[0], table.shape[1]),
        nested=float(((table > 0).sum(axis=0) == 1).mean()),
        homogeneity=1.0 if entropy_a == 0 else 1.0 - (joint - entropy_b) / entropy_a,
        completeness=1.0 if entropy_b == 0 else 1.0 - (joint - entropy_a) / entropy_b,
        rand=1.0 if most == expected else (pairs - expected) / (most - expected),
    )


def cohesion(embeddings: NDArray[Any], groups: IntArray, *, centred: bool = False) -> float:
    """Mean over leaves of their mean cosine to the other leaves of their group (leaves alone in one are left out)."""
    rows = unit_rows(embeddings)
    if centred:
        rows = unit_rows(rows - rows.mean(axis=0))
    return within(rows @ rows.T, groups)


def within(similarity: NDArray[Any], groups: IntArray) -> float:
    """Mean over leaves of the mean of a pairwise similarity (n, n) to the other leaves of their group."""
    same = groups[:, None] == groups[None]
    others = same.sum(axis=1) - 1
    total = (similarity * same).sum(axis=1) - np.diagonal(similarity)
    kept = others > 0
    return float((total[kept] / others[kept]).mean()) if kept.any() else float("nan")


def separation(similarity: NDArray[Any], groups: IntArray) -> float:
    """Chance that a pair of one group is more similar than a pair of two groups (0.5 by chance, 1 always)."""
    upper = np.triu_indices(len(groups), 1)
    same = (groups[:, None] == groups[None])[upper]
    _, inverse, counts = np.unique(np.round(similarity[upper], 9), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    inside, outside = int(same.sum()), int((~same).sum())
    if not inside or not outside:
        return float("nan")
    return float((ranks[same].sum() - inside * (inside + 1) / 2) / inside / outside)


def read_grouping(path: Path, leaves: int | None = None) -> IntArray:
    """Read a grouping from a .csv with columns `label` and `cluster`, ordered by label."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows: list[Mapping[str, str]] = list(csv.DictReader(file))
    if not rows or not {"label", "cluster"} <= set(rows[0]):
        raise ValueError(f"{path}: columns label and cluster expected")
    for number, row in enumerate(rows, 2):
        for column in ("label", "cluster"):
            if not str(row[column]).strip().isdecimal():
                raise ValueError(f"{path}, line {number}: {column} {row[column]!r}, a whole number from 0 expected")
    labels = np.array([int(row["label"]) for row in rows])
    if sorted(labels) != list(range(len(rows))) or (leaves is not None and len(rows) != leaves):
        raise ValueError(f"{path}: every label 0..{(leaves or len(rows)) - 1} must stand once")
    groups = np.empty(len(rows), dtype=np.int64)
    groups[labels] = [int(row["cluster"]) for row in rows]
    return groups


def groupings(path: Path) -> dict[str, IntArray]:
    """Groupings by name from a taxonomy (.yaml: one per inner level) or a .csv (one)."""
    if path.suffix == ".csv":
        return {path.stem: read_grouping(path)}
    taxonomy = Taxonomy.load(path)
    return {f"{path.stem} {taxonomy.level_names[level]}": taxonomy.owner(level) for level in range(taxonomy.depth - 1)}


def _entropy(shares: NDArray[Any]) -> float:
    kept = shares[shares > 0]
    return float(-(kept * np.log(kept)).sum())
