"""Building a tree from a recipe: a small YAML file that says where names and embeddings lie and what a hand corrected.

    name: imagenet1k
    description: ...
    levels: {coarse: 10, middle: 100, class: 1000}      # names and sizes, coarse first; the last is the class list
    classes: {file: clip/imagenet1k.csv, name: name, id: wnid}     # a .csv with columns, or a .txt with a name a line
    embeddings: clip/imagenet1k_vit-b-32.npy            # or `compose: {class: [vocabulary name, ...]}`
    vocabulary: [clip/lvis1203, clip/openimages500]     # each a .txt and a _vit-b-32.npy
    limits: {smallest: 0.4, largest: 2.0}
    rename: {n04008634: projectile}                     # by id or name, where a list has one name twice
    move_leaves: {zebra: common sorrel horse}           # leaf -> a leaf beside which it belongs
    move_nodes: {middle: {grand piano: banjo}}          # the node with this leaf -> beside the node with that leaf
    names: {coarse: {beagle: dog}}                      # the node with this leaf -> its name; such nodes stand first

Paths are relative to the data folder. What is moved by hand is counted and told.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from semhier_ros.taxonomy.schema import TaxonomyError
from semhier_ros.taxonomy.tree import Taxonomy
from semhier_ros.training.trees.cluster import IntArray, Limits, nest
from semhier_ros.training.trees.features import FloatArray, Vocabulary, grid_points, join_points, plain_name
from semhier_ros.training.trees.naming import name_nodes

KEYS = (
    "name", "description", "levels", "classes", "embeddings", "compose", "vocabulary", "limits", "rename",
    "move_leaves", "move_nodes", "names",
)  # fmt: skip


@dataclass
class Corrections:
    """What a hand changes: each entry names a node by a leaf that it holds."""

    move_leaves: dict[str, str] = field(default_factory=dict)
    move_nodes: dict[str, dict[str, str]] = field(default_factory=dict)
    names: dict[str, dict[str, str]] = field(default_factory=dict)

    def empty(self) -> bool:
        """Whether nothing is corrected."""
        return not (self.move_leaves or self.move_nodes or self.names)


@dataclass
class ClassList:
    """Class names in index order with their own keys ("" where a list has none)."""

    names: list[str]
    ids: list[str]


def read_classes(path: Path, name_column: str = "name", id_column: str = "") -> ClassList:
    """Read a .csv with a header (columns by name) or a text file with one name a line."""
    if path.suffix == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        if not rows or name_column not in rows[0] or (id_column and id_column not in rows[0]):
            raise TaxonomyError(f"{path}: columns {name_column!r} {id_column!r} expected in the header")
        return ClassList([row[name_column] for row in rows], [row[id_column] if id_column else "" for row in rows])
    names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return ClassList(names, [""] * len(names))


def load_vocabulary(stems: Sequence[str | Path], folder: Path) -> Vocabulary:
    """Vocabularies by stem: `clip/coco80` reads clip/coco80.txt and the one clip/coco80*.npy."""
    pairs = []
    for stem in stems:
        names = folder / f"{stem}.txt"
        rows = sorted(names.parent.glob(f"{names.stem}*.npy"))
        if not names.exists() or len(rows) != 1:
            raise FileNotFoundError(f"vocabulary {names}: the .txt and exactly one {names.stem}*.npy are needed")
        pairs.append((names, rows[0]))
    return Vocabulary.load(pairs)


def build(
    name: str,
    classes: ClassList,
    points: FloatArray,
    sizes: Sequence[int],
    vocabulary: Vocabulary,
    *,
    level_names: Sequence[str] | None = None,
    description: str = "",
    limits: Limits | None = None,
    corrections: Corrections | None = None,
    grouping_points: FloatArray | None = None,
) -> Taxonomy:
    """Group, correct, name: text points (classes, d) on the grid, sizes of the inner levels coarse first.

    grouping_points: what to group by instead (text joined with images, say); names are always found by the text.
    """
    if len(points) != len(classes.names):
        raise TaxonomyError(f"{len(points)} embedding rows for {len(classes.names)} classes")
    level_names = list(level_names or [f"level {k}" for k in range(len(sizes))] + ["class"])
    corrections = corrections or Corrections()
    parents = nest(points if grouping_points is None else grouping_points, sizes, limits)
    lookup = {leaf: index for index, leaf in enumerate(classes.names)}
    _move(parents, lookup, level_names, corrections)
    owners = _owners(parents)
    given: list[dict[int, str]] = [{} for _ in sizes]
    for level_name, fixed in corrections.names.items():
        level = _level(level_names, level_name, len(sizes))
        for leaf, node_name in fixed.items():
            node = int(owners[level][_leaf(lookup, leaf)])
            if node in given[level]:
                raise TaxonomyError(f"names, {level_name}: {leaf!r} names a node that {given[level][node]!r} has named")
            given[level][node] = node_name
    inner = name_nodes(points, classes.names, parents, vocabulary, given)
    for level in range(len(sizes)):
        _sort_nodes(
            level, [*given[level], *(node for node in range(sizes[level]) if node not in given[level])], inner, parents
        )
    return Taxonomy.from_parents(
        name, [*inner, classes.names], parents, ids=classes.ids, level_names=level_names, description=description
    )


def build_recipe(recipe: Path, folder: Path, *, corrected: bool = True) -> Taxonomy:
    """Build what a recipe file says with data below `folder`; `corrected=False` leaves moves and given names out."""
    text = recipe.read_text(encoding="utf-8")
    data = yaml.safe_load(text)
    if not isinstance(data, Mapping):
        raise TaxonomyError(f"{recipe}: a mapping is expected")
    unknown = sorted(set(data) - set(KEYS))
    if unknown:
        raise TaxonomyError(f"{recipe}: field {unknown[0]!r} is unknown; allowed are {', '.join(KEYS)}")
    levels: dict[str, int] = dict(data["levels"])
    source = data["classes"]
    classes = read_classes(folder / source["file"], source.get("name", "name"), source.get("id", ""))
    rename = {str(key): str(value) for key, value in (data.get("rename") or {}).items()}
    classes.names = [
        rename.get(key, rename.get(name, name)) for name, key in zip(classes.names, classes.ids, strict=True)
    ]
    sizes = list(levels.values())
    if sizes[-1] != len(classes.names):
        raise TaxonomyError(f"{recipe}: level {list(levels)[-1]!r} says {sizes[-1]}, {len(classes.names)} classes read")
    vocabulary = load_vocabulary(data["vocabulary"], folder)
    if "compose" in data:
        points = compose(classes.names, data["compose"], vocabulary)
    else:
        points = grid_points(np.load(folder / data["embeddings"], allow_pickle=False))
    corrections = Corrections(data.get("move_leaves") or {}, data.get("move_nodes") or {}, data.get("names") or {})
    return build(
        data["name"], classes, points, sizes[:-1], vocabulary,
        level_names=list(levels), description=data.get("description", ""), limits=Limits(**(data.get("limits") or {})),
        corrections=corrections if corrected else None,
    )  # fmt: skip


def compose(names: Sequence[str], parts: Mapping[str, Sequence[str]], vocabulary: Vocabulary) -> FloatArray:
    """Points for class names that no file embeds: each the mean of the vocabulary names that describe it.

    A class without an entry in `parts` stands for itself and must be in the vocabulary.
    """
    rows = {name.lower(): row for row, name in enumerate(vocabulary.names)}
    points = []
    for name in names:
        words = parts.get(name, [name])
        for word in words:
            if plain_name(word).lower() not in rows:
                raise TaxonomyError(f"compose, {name!r}: {word!r} is not in the vocabulary")
        points.append(sum(vocabulary.points[rows[plain_name(word).lower()]] for word in words) / len(words))
    return grid_points(np.array(points))


def with_images(points: FloatArray, images: Path, weight: float) -> FloatArray:
    """Join mean image embeddings, one row a class in a .npy, to the text points."""
    return join_points(points, grid_points(np.load(images, allow_pickle=False)), weight)


def _owners(parents: Sequence[IntArray]) -> list[IntArray]:
    owners: list[IntArray] = [np.asarray(parents[-1])]
    for level in range(len(parents) - 2, -1, -1):
        owners.insert(0, np.asarray(parents[level])[owners[0]])
    return owners


def _sort_nodes(level: int, order: Sequence[int], names: list[list[str]], parents: list[IntArray]) -> None:
    """Renumber a level's nodes: those that a recipe names come first, in its order."""
    names[level] = [names[level][node] for node in order]
    place = np.empty(len(order), dtype=np.int64)
    place[np.asarray(order)] = np.arange(len(order))
    parents[level] = place[parents[level]]
    if level > 0:
        parents[level - 1] = parents[level - 1][np.asarray(order)]


def _leaf(lookup: Mapping[str, int], name: Any) -> int:
    if name not in lookup:
        raise TaxonomyError(f"correction: {name!r} is no class of the list")
    return lookup[name]


def _level(level_names: Sequence[str], name: str, inner: int) -> int:
    if name not in level_names[:inner]:
        raise TaxonomyError(f"correction: level {name!r} is unknown; allowed are {', '.join(level_names[:inner])}")
    return list(level_names).index(name)


def _move(
    parents: list[IntArray], lookup: Mapping[str, int], level_names: Sequence[str], corrections: Corrections
) -> None:
    """Apply leaf moves, then node moves; all look up where things lie before any of them is moved."""
    before = _owners(parents)
    for leaf, beside in corrections.move_leaves.items():
        parents[-1][_leaf(lookup, leaf)] = before[-1][_leaf(lookup, beside)]
    for level_name, moves in corrections.move_nodes.items():
        level = _level(level_names, level_name, len(parents))
        if level == 0:
            raise TaxonomyError(f"correction: nodes of the coarsest level {level_name!r} have no parent to move to")
        for leaf, beside in moves.items():
            node = before[level][_leaf(lookup, leaf)]
            parents[level - 1][node] = before[level - 1][_leaf(lookup, beside)]
    for level, owner in enumerate(parents):
        if np.bincount(owner, minlength=int(owner.max()) + 1).min() == 0:
            empty = int(np.flatnonzero(np.bincount(owner) == 0)[0])
            raise TaxonomyError(f"correction: moves leave node {empty} of level {level_names[level]!r} empty")
