"""The tree of classes that a codec's levels follow.

A `Taxonomy` has two or more levels, coarse first; every node of a level has exactly one parent in the level above, and
the last level holds the leaves in class-index order. It needs numpy and PyYAML only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semhier_ros.taxonomy.schema import FORMAT, Draft, TaxonomyError, draft_from_mapping, draft_from_text, draft_to_yaml

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Node:
    """One class or group of classes.

    level: 0 is coarsest; index: position in its level; parent: index in the level above (None at level 0);
    id: the class list's own key (a wnid, say), only on leaves and "" where there is none.
    """

    level: int
    index: int
    name: str
    parent: int | None = None
    id: str = ""


NodeLike = Node | int | tuple[int, int]


class Taxonomy:
    """A nested tree of classes, immutable, checked when it is made.

    Nodes are `Node` objects; wherever a node is asked for, a `(level, index)` pair or a plain leaf index will do too.
    """

    __slots__ = ("_above", "_leaves", "_order", "_starts", "description", "level_names", "levels", "name")

    def __init__(self, draft: Draft) -> None:
        """Build from a checked draft; use `load`, `from_text`, `from_dict` or `from_parents` instead."""
        self.name = draft.name
        self.description = draft.description
        self.level_names = draft.level_names
        last = len(draft.names) - 1
        self.levels: tuple[tuple[Node, ...], ...] = tuple(
            tuple(
                Node(
                    level,
                    index,
                    name,
                    None if level == 0 else draft.parents[level][index],
                    draft.ids[index] if level == last else "",
                )
                for index, name in enumerate(names)
            )
            for level, names in enumerate(draft.names)
        )
        above: list[IntArray] = [np.arange(len(draft.names[last]), dtype=np.int64)]
        for level in range(last, 0, -1):
            above.insert(0, np.asarray(draft.parents[level], dtype=np.int64)[above[0]])
        self._above = above
        self._order = [np.argsort(owner, kind="stable") for owner in above]
        self._starts = [
            np.searchsorted(owner[order], np.arange(len(names)))
            for owner, order, names in zip(above, self._order, draft.names, strict=True)
        ]
        self._leaves = [np.split(order, starts[1:]) for order, starts in zip(self._order, self._starts, strict=True)]
        for arrays in (above, *self._leaves):
            for array in arrays:
                array.flags.writeable = False

    @classmethod
    def load(cls, path: str | Path) -> Taxonomy:
        """Read a YAML file. Raises TaxonomyError naming line, node and rule; OSError where it cannot be read."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise TaxonomyError(f"{path}: not UTF-8 text: {error}") from None
        return cls.from_text(text, str(path))

    @classmethod
    def from_text(cls, text: str, source: str = "taxonomy") -> Taxonomy:
        """Read YAML text; `source` is what errors call it."""
        return cls(draft_from_text(text, source))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Taxonomy:
        """Read the mapping that `to_dict` gives, with the same checks as a file."""
        return cls(draft_from_mapping(data, "taxonomy"))

    @classmethod
    def from_parents(
        cls,
        name: str,
        names: Sequence[Sequence[str]],
        parents: Sequence[Sequence[int] | IntArray],
        *,
        ids: Sequence[str] | None = None,
        level_names: Sequence[str] | None = None,
        description: str = "",
    ) -> Taxonomy:
        """Build from names per level (coarse first) and, for every level but the first, each node's parent index.

        Inner nodes are put into the order a file would have (children of one parent together); leaves keep theirs.
        """
        if len(parents) != len(names) - 1:
            raise TaxonomyError(f"{len(names)} levels need {len(names) - 1} lists of parents, got {len(parents)}")
        children = [
            [[c for c, p in enumerate(level_parents) if int(p) == node] for node in range(len(names[level]))]
            for level, level_parents in enumerate(parents)
        ]

        def subtree(level: int, node: int) -> Any:
            below = children[level][node]
            if level == len(names) - 2:
                return [names[-1][child] for child in below]
            return [(names[level + 1][child], subtree(level + 1, child)) for child in below]

        leaves = [
            {"name": leaf, "id": ids[index]} if ids is not None and ids[index] else leaf
            for index, leaf in enumerate(names[-1])
        ]
        return cls.from_dict(
            {
                "format": FORMAT,
                "name": name,
                "description": description,
                "levels": list(level_names or [f"level {k}" for k in range(len(names))]),
                "leaves": leaves,
                "tree": [(names[0][node], subtree(0, node)) for node in range(len(names[0]))],
            }
        )

    @property
    def depth(self) -> int:
        """Number of levels, leaves included."""
        return len(self.levels)

    @property
    def leaf_count(self) -> int:
        """Number of leaves, that is of classes."""
        return len(self.levels[-1])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of nodes of every level."""
        return tuple(len(level) for level in self.levels)

    def node(self, node: NodeLike) -> Node:
        """The node for a `Node`, a `(level, index)` pair or a leaf index. Raises IndexError where there is none."""
        if isinstance(node, Node):
            return node
        level, index = (self.depth - 1, int(node)) if not isinstance(node, tuple) else node
        self._check_level(level)
        if not 0 <= index < len(self.levels[level]):
            raise IndexError(f"node index {index} of level {level}: allowed are 0..{len(self.levels[level]) - 1}")
        return self.levels[level][index]

    def find(self, name: str, level: int | None = None) -> Node:
        """The node called `name`, in `level` or in the finest level that has it. Raises KeyError."""
        wanted = range(self.depth - 1, -1, -1) if level is None else (level,)
        for candidate in wanted:
            self._check_level(candidate)
            for node in self.levels[candidate]:
                if node.name == name:
                    return node
        raise KeyError(f"no node called {name!r} in taxonomy {self.name!r}")

    def names(self, level: int) -> tuple[str, ...]:
        """The names of a level's nodes, in index order."""
        self._check_level(level)
        return tuple(node.name for node in self.levels[level])

    def path(self, node: NodeLike) -> tuple[int, ...]:
        """Node index at every level from coarse to `node` (its own level included)."""
        found = self.node(node)
        indices = [found.index]
        while found.parent is not None:
            found = self.levels[found.level - 1][found.parent]
            indices.append(found.index)
        return tuple(reversed(indices))

    def path_names(self, node: NodeLike) -> tuple[str, ...]:
        """The names along `path(node)`."""
        return tuple(self.levels[level][index].name for level, index in enumerate(self.path(node)))

    def parent(self, level: int) -> IntArray:
        """For every node of `level` (1 or finer) its parent's index in `level - 1`."""
        self._check_level(level)
        if level == 0:
            raise IndexError("level 0 has no parents")
        return np.array([node.parent for node in self.levels[level]], dtype=np.int64)

    def children(self, node: NodeLike) -> IntArray:
        """Indices, in the next level, of a node's children; empty for a leaf."""
        found = self.node(node)
        if found.level == self.depth - 1:
            return np.zeros(0, dtype=np.int64)
        return np.flatnonzero(self.parent(found.level + 1) == found.index)

    def leaves(self, level: int) -> list[IntArray]:
        """For every node of `level` the indices of the leaves under it, ascending (read-only arrays)."""
        self._check_level(level)
        return list(self._leaves[level])

    def owner(self, level: int) -> IntArray:
        """For every leaf the index of its ancestor in `level` (read-only array); the leaf itself at the last level."""
        self._check_level(level)
        return self._above[level]

    def descendants(self, node: NodeLike, level: int) -> IntArray:
        """Indices of the nodes of `level` (the node's own or finer) that lie under `node`."""
        found = self.node(node)
        self._check_level(level)
        if level < found.level:
            raise IndexError(f"level {level} lies above node {found.name!r} of level {found.level}")
        below: IntArray = np.unique(self._above[level][self._leaves[found.level][found.index]])
        return below

    def lift(self, probabilities: ArrayLike, level: int) -> NDArray[Any]:
        """Sum leaf probabilities (..., leaves) into those of a level's nodes (..., nodes), keeping the float type."""
        values = np.asarray(probabilities)
        self._check_level(level)
        if values.ndim == 0 or values.shape[-1] != self.leaf_count:
            raise ValueError(f"last axis of shape {values.shape}: {self.leaf_count} leaves expected")
        if values.dtype == np.bool_:
            values = values.astype(np.int64)
        result: NDArray[Any] = np.add.reduceat(values[..., self._order[level]], self._starts[level], axis=-1)
        return result

    def height(self, first: ArrayLike, second: ArrayLike) -> IntArray:
        """Levels to climb until two leaves meet: 0 same leaf, 1 same parent ... `depth` where no node holds both.

        first, second: leaf indices, broadcast against each other.
        """
        a, b = np.asarray(first), np.asarray(second)
        height = np.zeros(np.broadcast_shapes(a.shape, b.shape), dtype=np.int64)
        for owner in self._above:
            height += owner[a] != owner[b]
        return height

    def lowest_common_ancestor(self, first: NodeLike, second: NodeLike) -> Node | None:
        """The finest node that holds both (a node holds itself); None where only the unnamed root does."""
        common = None
        for level, (a, b) in enumerate(zip(self.path(first), self.path(second), strict=False)):
            if a != b:
                break
            common = self.levels[level][a]
        return common

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and mappings that `from_dict` reads back and YAML or JSON can hold."""

        def subtree(node: Node) -> Any:
            below = [self.levels[node.level + 1][child] for child in self.children(node)]
            if node.level == self.depth - 2:
                return [child.name for child in below]
            return {child.name: subtree(child) for child in below}

        data: dict[str, Any] = {"format": FORMAT, "name": self.name}
        if self.description:
            data["description"] = self.description
        data["levels"] = list(self.level_names)
        data["leaves"] = [{"name": leaf.name, "id": leaf.id} if leaf.id else leaf.name for leaf in self.levels[-1]]
        data["tree"] = {node.name: subtree(node) for node in self.levels[0]}
        return data

    def to_yaml(self) -> str:
        """The file's text: `Taxonomy.from_text(t.to_yaml())` equals `t`, and a person can edit it."""
        return draft_to_yaml(self.to_dict())

    def save(self, path: str | Path) -> None:
        """Write `to_yaml()` to a file."""
        Path(path).write_text(self.to_yaml(), encoding="utf-8")

    def digest(self) -> str:
        """SHA-256 (64 hex digits) of names, ids and structure; formatting, title and description do not count."""
        state = hashlib.sha256(b"semhier taxonomy 1\n")
        for level in self.levels:
            for node in level:
                fields = (node.level, node.index, -1 if node.parent is None else node.parent, node.name, node.id)
                state.update(("\x1f".join(str(field) for field in fields) + "\n").encode())
        return state.hexdigest()

    def structure_digest(self) -> str:
        """SHA-256 (64 hex digits) of the parents alone: unchanged when a node is only renamed."""
        state = hashlib.sha256(b"semhier taxonomy structure 1\n")
        for level in self.levels:
            state.update((" ".join(str(-1 if node.parent is None else node.parent) for node in level) + "\n").encode())
        return state.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Taxonomy) and self.levels == other.levels

    def __hash__(self) -> int:
        return hash(self.digest())

    def __repr__(self) -> str:
        return f"Taxonomy({self.name!r}, {' / '.join(str(size) for size in self.sizes)})"

    def _check_level(self, level: int) -> None:
        if not 0 <= level < self.depth:
            raise IndexError(f"level {level}: allowed are 0..{self.depth - 1}")
