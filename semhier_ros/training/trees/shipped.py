"""The words that the package can place without any network: class names of five public lists with their CLIP
embeddings.

`config/taxonomies/vocabulary/` holds the names of COCO-80, Objects365, Open Images (500), LVIS and ImageNet-1K, a name
a line, and their CLIP ViT-B/32 text embeddings: each list centred on its own mean, all projected onto the directions
in which they differ most, in half precision. `semhier taxonomy vocabulary` makes the files again from the data folder.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semhier_ros.paths import config_dir
from semhier_ros.scene.detectors.names import ALIASES, COCO80, key_of
from semhier_ros.taxonomy import Taxonomy, TaxonomyError
from semhier_ros.training.trees.features import GRID, FloatArray, Vocabulary, plain_name, unit_rows
from semhier_ros.training.trees.recipe import ClassList, build

LISTS = ("coco80", "objects365", "openimages500", "lvis1203", "imagenet1k")
FINE_LIST = LISTS[-1]
DIRECTIONS = 128
STREET_TREE = "coco80-street"
ROOT = "thing"
FEW = 6  # classes that need no groups
MANY = 40  # classes from which two inner levels are built


@dataclass(frozen=True)
class Words:
    """names n; points n,d: centred embeddings along the directions of most difference, of length up to 1. general: the
    first so many are words of lists of things to detect, which name nodes; the rest are finer.
    """

    names: tuple[str, ...]
    points: NDArray[np.float32]
    general: int

    @cached_property
    def rows(self) -> dict[str, int]:
        return {key_of(name): row for row, name in enumerate(self.names)}

    def row(self, name: str) -> int | None:
        """The row of a name, however it is spelt; of a class of COCO also by its other names."""
        key = key_of(name)
        return self.rows.get(key, self.rows.get(key_of(ALIASES.get(key, key))))


def folder() -> Path:
    return config_dir() / "taxonomies" / "vocabulary"


def load_words(path: Path | None = None) -> Words:
    """The shipped words. Raises FileNotFoundError where they are not installed."""
    from safetensors.numpy import load_file

    path = path or folder()
    arrays = load_file(path / "words.safetensors")
    points = arrays["points"].astype(np.float32)
    names = tuple((path / "words.txt").read_text(encoding="utf-8").splitlines())
    if len(names) != len(points):
        raise ValueError(f"{path}: {len(names)} names for {len(points)} rows")
    return Words(names, points, int(arrays["general"][0]))


def pack(data: Path, out: Path) -> int:
    """Makes the shipped files from the lists below `data`/clip; returns how many names there are."""
    from safetensors.numpy import save_file

    names: dict[str, str] = {}
    rows: list[NDArray[np.float64]] = []
    general = 0
    for name in LISTS:
        general = len(rows) if name == FINE_LIST else general
        own = _names_of(data / "clip", name)
        embedded = unit_rows(np.load(data / "clip" / f"{name}_vit-b-32.npy", allow_pickle=False))
        embedded = embedded - embedded.mean(axis=0)
        for word, row in zip(own, embedded, strict=True):
            if names.setdefault(key_of(word), word) is word:
                rows.append(row / np.linalg.norm(row))
    points = np.array(rows)
    _, directions = np.linalg.eigh(points.T @ points)
    kept = points @ directions[:, ::-1][:, :DIRECTIONS]
    out.mkdir(parents=True, exist_ok=True)
    save_file({"points": kept.astype(np.float16), "general": np.array([general], np.int32)}, out / "words.safetensors")
    (out / "words.txt").write_text("\n".join(names.values()) + "\n", encoding="utf-8")
    return len(names)


def _names_of(folder: Path, name: str) -> list[str]:
    if (folder / f"{name}.txt").is_file():
        return (folder / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return [row["name"] for row in csv.DictReader(file)]


def tree_for(name: str, classes: Sequence[str], rows: NDArray[np.floating] | None = None) -> Taxonomy:
    """A tree with one root over `classes`, in their order.

    All of COCO-80's classes get the planner's tree; some of them that tree without the others. Other names are grouped
    and named by the shipped words, or by `rows` (classes, d), embeddings of their own.

    Raises:
        TaxonomyError: there is no class, or one that no list has; the message says what helps.
    """
    if not classes:
        raise TaxonomyError("names: no class; a tree wants one or more")
    if rows is None and all(_coco(word) is not None for word in classes):
        return pruned(Taxonomy.load(config_dir() / "taxonomies" / f"{STREET_TREE}.yaml"), classes, name)
    words = load_words()
    if rows is None:
        lacking = [word for word in classes if words.row(word) is None]
        if lacking:
            raise TaxonomyError(
                f"names: {lacking[0]!r} ({len(lacking)} of {len(classes)}) is in none of the shipped lists "
                f"({', '.join(LISTS)}); give a tree (--tree FILE), or weights of CLIP (--checkpoint)"
            )
        points = _grid(words.points[[words.row(word) for word in classes]])
        shown = tuple(plain_name(word) for word in words.names[: words.general])
        vocabulary = Vocabulary(shown, _grid(words.points[: words.general], centre=False))
    else:
        points, vocabulary = _grid(rows), Vocabulary.empty(rows)
    count = len(classes)
    sizes = [1]
    if count > MANY:
        sizes += [max(3, round(count / 25)), max(6, round(count / 6))]
    elif count > FEW:
        sizes += [max(2, round(count / 5))]
    levels = ["any", *(["kind", "group"] if count > MANY else ["group"] if count > FEW else []), "class"]
    if len(sizes) == 1:
        return Taxonomy.from_parents(name, [[ROOT], list(classes)], [np.zeros(count, np.int64)], level_names=levels)
    inner = build(name, ClassList(list(classes), [""] * count), points, sizes[1:], vocabulary, level_names=levels[1:])
    return rooted(inner)


def _coco(word: str) -> str | None:
    """The class of COCO-80 that a word names."""
    key = key_of(word)
    key = key_of(ALIASES.get(key, key))
    return key if key in COCO80 else None


def _grid(rows: NDArray[np.floating], centre: bool = True) -> FloatArray:
    """As `features.grid_points` has it, for rows that are centred already on the mean of their lists."""
    values = np.asarray(rows, np.float64)
    if centre and len(values) > 1:
        values = values - values.mean(axis=0)
    length = np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)
    points: FloatArray = np.rint(GRID * values / length)
    return points


def rooted(tree: Taxonomy) -> Taxonomy:
    """The tree below one root, as a scene's stream needs it; as it is where it has one."""
    if tree.sizes[0] == 1:
        return tree
    parents = [np.zeros(tree.sizes[0], np.int64), *(np.asarray(tree.parent(k)) for k in range(1, tree.depth))]
    names = [[_free(ROOT, tree)], *(list(tree.names(level)) for level in range(tree.depth))]
    return Taxonomy.from_parents(
        tree.name, names, parents, level_names=[_free("any", tree), *tree.level_names], description=tree.description
    )


def _free(word: str, tree: Taxonomy) -> str:
    """`word`, or with more behind it where the tree has it."""
    taken = {*tree.level_names, *(name for level in range(tree.depth) for name in tree.names(level))}
    while word in taken:
        word = f"any {word}"
    return word


def pruned(tree: Taxonomy, classes: Sequence[str], name: str) -> Taxonomy:
    """The tree with these leaves alone, in their order and spelling; nodes that hold none of them are gone."""
    of_key = {key_of(leaf): number for number, leaf in enumerate(tree.names(tree.depth - 1))}
    leaves = []
    for word in classes:
        key = key_of(word)
        leaves.append(of_key[key if key in of_key else key_of(ALIASES[key])])
    if len(set(leaves)) != len(leaves):
        raise TaxonomyError("names: two of them are one class of COCO")
    parents: list[NDArray[np.int64]] = []
    names: list[list[str]] = [list(classes)]
    below = np.array(leaves)
    for level in range(tree.depth - 1, 0, -1):
        above = np.asarray(tree.parent(level))[below]
        kept = np.unique(above)
        parents.insert(0, np.searchsorted(kept, above))
        names.insert(0, [tree.names(level - 1)[node] for node in kept])
        below = kept
    return Taxonomy.from_parents(name, names, parents, level_names=tree.level_names, description=tree.description)
