"""The quantised form of a road scene: whole numbers only, exactly what the blocks of a frame say.

Encoder and decoder share this form; everything that feeds the entropy coder is computed from it in integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.picture_blocks import CodedPicture

Ints = NDArray[np.int32]
Flags = NDArray[np.bool_]
Kept = TypeVar("Kept")
FRACTION = 16  # latents are carried in units of 1/16
UNNAMED = -1
FOOT_LEVELS = 4
"""Into how many parts foot bits cut what is left open of a box's lower side."""


@dataclass(frozen=True)
class SceneLayout:
    """What the numbers mean; part of the stream hash.

    columns, rows: the grid of cells, each `stride` canvas pixels wide. size_low, size_step, size_levels: box sides as
    natural logarithms of their length in cells. offset_step, offset_levels: a box centre's distance from its cell's
    middle, in shares of the box's side. score_edges: inner edges that cut objectness (0..1) into levels.
    count_edges: inner edges that cut the number of objects into classes. parents: per level below the first, each
    node's parent. latents: channels of the group that each semantic block carries (none for block 0).
    picture_groups: what each picture block codes (`codec.picture_blocks`), on a grid of canvas / picture_stride; a
    picture has PATCH_SIDE pixels a position, whatever that stride.
    """

    columns: int
    rows: int
    stride: int
    size_low: float
    size_step: float
    size_levels: int
    offset_step: float
    offset_levels: int
    score_edges: tuple[float, ...]
    count_edges: tuple[int, ...]
    max_objects: int
    parents: tuple[tuple[int, ...], ...]
    latents: tuple[int, ...]
    picture_groups: tuple[tuple[int, int, int], ...]
    picture_stride: int

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SceneLayout:
        """The layout of a model folder's `model.json`.

        Raises:
            ValueError: a field is missing or not known, named in the message.
        """
        expected = set(cls.__dataclass_fields__)
        if set(values) != expected:
            raise ValueError(f"layout: fields missing or unknown: {sorted(set(values) ^ expected)}")
        return cls(**{name: _frozen(value) for name, value in values.items()})

    @property
    def cells(self) -> int:
        return self.columns * self.rows

    @cached_property
    def sides(self) -> NDArray[np.float64]:
        """A box's side in cells for each symbol."""
        return np.exp(self.size_low + self.size_step * np.arange(self.size_levels))

    @cached_property
    def edges(self) -> NDArray[np.float64]:
        """`score_edges`, made an array once."""
        return np.array(self.score_edges)

    @cached_property
    def roles(self) -> tuple[int, ...]:
        """Per leaf, the node of level 1 that it lies under; empty where the tree has level 0 alone."""
        if not self.parents:
            return ()
        roles = tuple(range(len(self.parents[0])))
        for parent in self.parents[1:]:
            roles = tuple(roles[node] for node in parent)
        return roles

    def children(self, level: int, parent: int) -> Ints:
        """The nodes of `level` below node `parent` of the level above."""
        return np.flatnonzero(np.asarray(self.parents[level - 1]) == parent).astype(np.int32)

    def count_class(self, count: int) -> int:
        return int(np.searchsorted(self.count_edges, count, side="right"))


def _frozen(value: Any) -> Any:
    return (
        tuple(_frozen(item) for item in value) if isinstance(value, Sequence) and not isinstance(value, str) else value
    )


def quantise_boxes(layout: SceneLayout, cells: Ints, boxes: NDArray[np.float32]) -> tuple[Ints, Ints]:
    """Sizes n,2 and offsets n,2 (both as symbols) of boxes n,4 (cx, cy, w, h in cells) found at `cells`."""
    middle = np.empty((len(cells), 2))
    middle[:, 0], middle[:, 1] = cells % layout.columns, cells // layout.columns
    middle += 0.5
    sizes = np.rint((np.log(np.maximum(boxes[:, 2:], 1e-3)) - layout.size_low) / layout.size_step)
    sizes = np.minimum(np.maximum(sizes, 0), layout.size_levels - 1).astype(np.int32)
    half = layout.offset_levels // 2
    steps = np.rint((boxes[:, :2] - middle) / (side_lengths(layout, sizes) * layout.offset_step))
    return sizes, (np.minimum(np.maximum(steps, -half), half) + half).astype(np.int32)


def side_lengths(layout: SceneLayout, sizes: Ints) -> NDArray[np.float64]:
    """Box sides in cells for their symbols."""
    return layout.sides[sizes]


def foot_reach(layout: SceneLayout) -> float:
    """How far a box's lower side may lie from where its symbols put it, in shares of its height: half a step of the
    offset, and half of what half a step of the height adds."""
    return layout.offset_step / 2 + (math.exp(layout.size_step / 2) - 1) / 2


def quantise_feet(layout: SceneLayout, boxes: NDArray[np.float32], restored: NDArray[np.float64]) -> Ints:
    """Foot symbols n of boxes n,4, given as their other symbols put them (both cx, cy, w, h in cells): in which quarter
    of its reach the lower side lies, 0 uppermost."""
    below = boxes[:, 1] + boxes[:, 3] / 2 - (restored[:, 1] + restored[:, 3] / 2)
    share = below / restored[:, 3] / foot_reach(layout)  # -1..1 where no symbol was clipped
    return np.clip(np.floor((share + 1) / 2 * FOOT_LEVELS), 0, FOOT_LEVELS - 1).astype(np.int32)


def foot_limits(layout: SceneLayout, feet: Ints, restored: NDArray[np.float64]) -> NDArray[np.float64]:
    """Between which rows (n,2, in cells) the lower sides of boxes lie whose foot symbols are `feet`."""
    edges = (np.stack([feet, feet + 1], axis=1) * (2 / FOOT_LEVELS) - 1) * foot_reach(layout)
    return np.asarray(restored[:, 1:2] + restored[:, 3:] * (0.5 + edges))


def restore_boxes(layout: SceneLayout, cells: Ints, sizes: Ints, offsets: Ints) -> NDArray[np.float64]:
    """Boxes n,4 (cx, cy, w, h in cells) from their symbols."""
    boxes = np.empty((len(cells), 4))
    centre, sides = boxes[:, :2], boxes[:, 2:]
    sides[:] = side_lengths(layout, sizes)
    np.multiply(offsets - layout.offset_levels // 2, sides, out=centre)
    centre *= layout.offset_step
    rows, columns = np.divmod(cells, layout.columns)
    centre[:, 0] += columns + 0.5
    centre[:, 1] += rows + 0.5
    return boxes


@dataclass
class SceneCode:
    """What blocks 0..k of one frame say. Objects stand in raster order of their cells.

    cells n; sizes n,2; offsets n,2; scores n: block 0. kept: for each semantic block after the first, which objects it
    refines, n booleans; an object that a block passes over is in no later block either. path: one array n of node
    indices for each level named so far (level 0 first), UNNAMED for objects passed over. latents: one array n,d in
    units of 1/16 for each channel group so far, zero for objects passed over. picture: one for each
    picture group so far. boxes n,4 (cx, cy, w, h in cells): where the objects are, of a frame that says it otherwise
    than by cells (`scene.memory`). feet n: foot symbols of block 0, where the stream has them.
    """

    cells: Ints
    sizes: Ints
    offsets: Ints
    scores: Ints
    kept: list[Flags] = field(default_factory=list)
    path: list[Ints] = field(default_factory=list)
    latents: list[Ints] = field(default_factory=list)
    picture: list[CodedPicture] = field(default_factory=list)
    boxes: NDArray[np.float64] | None = None
    feet: Ints | None = None
    worked: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def joined(cls, codes: Sequence[SceneCode]) -> SceneCode:
        """The objects of several frames that say the same of each, one frame's after the other's: of one code, itself.
        Without picture, and without what says which objects a block refines."""
        if len(codes) == 1:
            return codes[0]
        every = lambda part: np.concatenate([getattr(code, part) for code in codes])  # noqa: E731
        feet = None if codes[0].feet is None else every("feet")
        path = [np.concatenate(level) for level in zip(*(code.path for code in codes), strict=False)]
        latents = [np.concatenate(group) for group in zip(*(code.latents for code in codes), strict=False)]
        return cls(
            every("cells"), every("sizes"), every("offsets"), every("scores"), path=path, latents=latents, feet=feet
        )

    def __len__(self) -> int:
        return len(self.cells)

    def once(self, name: str, work: Callable[[], Kept]) -> Kept:
        """What `work` gives, made at the first call with this name and kept with this code and what extends it: for
        what follows from blocks that are there already."""
        if name not in self.worked:
            self.worked[name] = work()
        return self.worked[name]  # type: ignore[no-any-return]

    def extended(self) -> SceneCode:
        """A copy to which more can be appended without changing this one."""
        return SceneCode(  # as `dataclasses.replace` would make it, in a third of the time
            self.cells,
            self.sizes,
            self.offsets,
            self.scores,
            list(self.kept),
            list(self.path),
            list(self.latents),
            list(self.picture),
            self.boxes,
            self.feet,
            self.worked,
        )

    def refined(self, block: int) -> Flags:
        """Which objects the blocks up to `block` all refine; every object after block 0."""
        return self.kept[block - 1] if block else np.ones(len(self), bool)

    def depth(self, prefix: int) -> NDArray[np.intp]:
        """The last of the semantic blocks 0..prefix that refines each object."""
        depth = np.zeros(len(self), np.intp)
        for kept in self.kept[:prefix]:
            depth += kept
        return depth

    def take(self, rows: NDArray[np.intp] | Flags) -> SceneCode:
        """The same frame with only some of its objects; the picture stays away."""
        return SceneCode(
            self.cells[rows],
            self.sizes[rows],
            self.offsets[rows],
            self.scores[rows],
            kept=[flags[rows] for flags in self.kept],
            path=[nodes[rows] for nodes in self.path],
            latents=[group[rows] for group in self.latents],
            boxes=None if self.boxes is None else self.boxes[rows],
            feet=None if self.feet is None else self.feet[rows],
        )


def spread(values: Ints, kept: Flags, absent: int) -> Ints:
    """`values` of the kept objects among all objects, `absent` for the others."""
    out = np.full((len(kept), *values.shape[1:]), absent, np.int32)
    out[kept] = values
    return out
