"""A whole picture's meaning and pixels to bytes and back: which symbols stand in which block, and their table rows.

Block k of the levels names a node given its parent, then carries a group of latents; `detail` carries latents alone;
picture blocks carry stride-16 latents of the square view. Everything here is integer arithmetic on earlier blocks of
the same frame, so encoder and decoder agree on any machine. docs/bitstream.md specifies the order of the symbols.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.entropy import BlockDecoder, BlockEncoder, BlockError, Tables
from semhier_ros.codec.integer_network import IntegerNetwork
from semhier_ros.codec.latent_groups import UNIT, Ints, get_latents, split_parameters, steps_of
from semhier_ros.codec.picture_blocks import CodedPicture, PictureBlocks

EVIDENCE_FLOOR = 1e-4  # probability below which an encoder tells no difference


@dataclass(frozen=True)
class ImageLayout:
    """What the numbers mean; part of the stream hash.

    side: pixels of the square view. nodes: how many nodes each level has. parents: per level but the coarsest, each
    node's parent. latents: dimensions of the group that each semantic block carries. steps: per quality (0: fewest
    bytes) and semantic block, the quantiser's step in units of 1/16; row_shifts: what the step adds to a latent's table
    row. quality: the operating point taken where none is asked for. picture_groups: what
    each picture block codes (`codec.picture_blocks`), on a grid of side / picture_stride.
    """

    side: int
    nodes: tuple[int, ...]
    parents: tuple[tuple[int, ...], ...]
    latents: tuple[int, ...]
    steps: tuple[tuple[int, ...], ...]
    row_shifts: tuple[tuple[int, ...], ...]
    quality: int
    picture_groups: tuple[tuple[int, int, int], ...]
    picture_stride: int

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ImageLayout:
        """The layout of a model folder's `model.json`.

        Raises:
            ValueError: a field is missing or not known, named in the message.
        """
        expected = set(cls.__dataclass_fields__)
        if set(values) != expected:
            raise ValueError(f"layout: fields missing or unknown: {sorted(set(values) ^ expected)}")
        return cls(**{name: _frozen(value) for name, value in values.items()})

    @property
    def levels(self) -> int:
        return len(self.nodes)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the picture latents."""
        return (self.side // self.picture_stride,) * 2

    def children(self, level: int, parent: int) -> Ints:
        """The nodes of `level` below node `parent` of the level above; at level 0 all of them."""
        if level == 0:
            return np.arange(self.nodes[0], dtype=np.int32)
        return np.flatnonzero(np.asarray(self.parents[level - 1]) == parent).astype(np.int32)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value


@dataclass
class ImageCode:
    """What blocks 0..k of one frame say: the operating point, the path's node at each level named so far, and the
    latent groups (d, units of 1/16) and picture groups so far. parameters: what `latent_parameters` found, by block."""

    quality: int
    path: list[int] = field(default_factory=list)
    latents: list[Ints] = field(default_factory=list)
    picture: list[CodedPicture] = field(default_factory=list)
    parameters: dict[int, tuple[Ints, Ints]] = field(default_factory=dict, repr=False, compare=False)

    def extended(self) -> ImageCode:
        """A copy to which more can be appended without changing this one."""
        return replace(
            self,
            path=list(self.path),
            latents=list(self.latents),
            picture=list(self.picture),
            parameters=dict(self.parameters),
        )


class ImageStream:
    """The entropy-coded form of `ImageCode`, block by block.

    Tables, by name: `quality` (1 row), `name_0` (1 row), `name_1`, `name_2`… (a row per parent), `latents` and
    `picture` (a row per scale). Networks: `latents_0`… (one per semantic block), and those of `codec.picture_blocks`.
    """

    def __init__(
        self,
        layout: ImageLayout,
        tables: Mapping[str, Tables],
        networks: Mapping[str, IntegerNetwork],
        picture_shifts: NDArray[np.uint8],
    ):
        self.layout, self.tables, self.networks = layout, tables, networks
        self.picture_shifts = picture_shifts
        self.levels = layout.levels
        self.semantic_blocks = len(layout.latents)
        self.blocks = self.semantic_blocks + len(layout.picture_groups)
        self._starts = (0, *(int(end) for end in np.cumsum(layout.nodes)[:-1]))
        self._children = [
            [layout.children(level, parent) for parent in range(1 if level == 0 else layout.nodes[level - 1])]
            for level in range(layout.levels)
        ]

    @cached_property
    def pictures(self) -> PictureBlocks:
        """The coder of the picture blocks."""
        return PictureBlocks.assemble(self.layout.picture_groups, self.tables, self.networks, self.picture_shifts)

    @property
    def block_names(self) -> tuple[str, ...]:
        """`level_0` …, `detail`, `picture_0` …, in order of transmission."""
        levels = [f"level_{level}" for level in range(self.levels)]
        details = ["detail"] * (self.semantic_blocks - self.levels)
        return (*levels, *details, *(f"picture_{group}" for group in range(len(self.layout.picture_groups))))

    def encode(self, index: int, code: ImageCode) -> bytes:
        """The bytes of block `index` of a complete enough `code`."""
        encoder = BlockEncoder()
        if index == 0:
            encoder.put(np.array([code.quality], np.int32), self.tables["quality"], 0)
        if index < self.levels:
            parent = code.path[index - 1] if index else 0
            symbol = np.searchsorted(self._children[index][parent], code.path[index])
            encoder.put(np.array([symbol], np.int32), self.tables[f"name_{index}"], parent)
        if index < self.semantic_blocks:
            means, rows = self.latent_parameters(index, code)
            tables, step = self.tables["latents"], self.layout.steps[code.quality][index]
            encoder.put(steps_of(code.latents[index], means, tables, step), tables, rows)
        else:
            self.pictures.put(encoder, code.picture[index - self.semantic_blocks])
        return encoder.finish()

    def decode(self, index: int, data: bytes, code: ImageCode | None) -> ImageCode:
        """A code of blocks 0..index, given that of 0..index-1 (None before block 0), which stays as it is.

        Raises:
            BlockError: no encoder made these bytes for this prefix.
        """
        decoder = BlockDecoder(data)
        if index == 0 or code is None:
            code = ImageCode(int(decoder.get(self.tables["quality"], 0)[0]))
        else:
            code = code.extended()
        if index < self.levels:
            parent = code.path[index - 1] if index else 0
            symbol = int(decoder.get(self.tables[f"name_{index}"], parent)[0])
            children = self._children[index][parent]
            if symbol >= len(children):
                raise BlockError(f"block {index}: child {symbol} of a node with {len(children)}")
            code.path.append(int(children[symbol]))
        if index < self.semantic_blocks:
            means, rows = self.latent_parameters(index, code)
            step = self.layout.steps[code.quality][index]
            code.latents.append(get_latents(decoder, means, rows, self.tables["latents"], step))
        else:
            before = code.picture[-1].latents if code.picture else None
            group = index - self.semantic_blocks
            code.picture.append(self.pictures.get(decoder, group, before, self.layout.grid))
        decoder.finish()
        return code

    def latent_parameters(self, block: int, code: ImageCode) -> tuple[Ints, Ints]:
        """Means (d, units of 1/16) and scale rows (d) of the latent group of semantic block `block`, from the path at
        levels 0..block and the groups before; worked out once for a code."""
        if block not in code.parameters:
            named = min(block, self.levels - 1) + 1
            marks = [start + node for start, node in zip(self._starts, code.path[:named], strict=False)]
            before = np.concatenate(code.latents[:block]) if block else np.zeros(0, np.int32)
            out = self.networks[f"latents_{block}"].with_marks(marks, UNIT, before)[None]
            rows = self.tables["latents"].rows
            means, scales = split_parameters(out, rows)
            shifted = np.clip(scales[0] + self.layout.row_shifts[code.quality][block], 0, rows - 1)
            code.parameters[block] = (means[0], shifted)
        return code.parameters[block]
