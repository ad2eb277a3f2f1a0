"""Scene blocks to bytes and back: which symbols stand in which block, and which table row each is coded with.

Everything here is integer arithmetic on what earlier blocks of the same frame said, so encoder and decoder agree on any
machine. docs/bitstream.md specifies the order of the symbols.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.entropy import BlockDecoder, BlockEncoder, BlockError, Tables
from semhier_ros.codec.integer_network import IntegerNetwork
from semhier_ros.codec.latent_groups import get_latents, split_parameters, steps_of
from semhier_ros.codec.picture_blocks import PictureBlocks
from semhier_ros.native import kernels
from semhier_ros.scene.layout import (
    FOOT_LEVELS,
    FRACTION,
    UNNAMED,
    Flags,
    Ints,
    SceneCode,
    SceneLayout,
    foot_reach,
    spread,
)

FEET = Tables([[1 << 17, 3 << 17, 3 << 17, 1 << 17]])
"""How likely each quarter of the lower side's reach is: offset and height leave about equal errors, whose sum lies
rather in the middle."""
ROW_BANDS = 8
ASPECTS, AREAS = 7, 6


class SceneStream:
    """The entropy-coded form of `SceneCode`, block by block.

    Tables, by name: `count` (1 row), `occupancy` (rows over empty/object), `width` (a row per band of grid rows),
    `height` and `offset_x` (a row per width), `offset_y` (a row per height), `score` (a row per width), `whole` (a row
    per semantic block after the first), `kept` (a row per class of area), `name_1`, `name_2`… (see `name_rows`),
    `latents` and `picture` (a row per scale). `occupancy_rows`: classes of counts x cells,
    the row of each cell. Networks: `latents_1`… and those of `codec.picture_blocks`, like `picture_shifts`.
    What a layout has none of needs none: a latent group of no channels no network, no picture groups no `picture`.
    """

    def __init__(
        self,
        layout: SceneLayout,
        tables: Mapping[str, Tables],
        networks: Mapping[str, IntegerNetwork],
        occupancy_rows: NDArray[np.uint8],
        picture_shifts: NDArray[np.uint8],
    ):
        self.layout, self.tables, self.networks = layout, tables, networks
        self.occupancy_rows = occupancy_rows.astype(np.int32)
        self.picture_shifts = picture_shifts
        self.foot_bits = False
        self.levels = len(layout.parents) + 1
        self.semantic_blocks = 1 + len(layout.latents)
        self.blocks = self.semantic_blocks + len(layout.picture_groups)

    @property
    def foot_cell(self) -> float:
        """Half of the range in which foot bits leave a lower side, as a share of the box's height; 0 without them."""
        return foot_reach(self.layout) / FOOT_LEVELS if self.foot_bits else 0.0

    def with_foot_bits(self) -> SceneStream:
        """The same stream, whose block 0 says of every object where in its cell of the quantiser the box's lower side
        lies (docs/bitstream.md, "Foot bits")."""
        finer = copy(self)
        finer.foot_bits = True
        return finer

    @cached_property
    def pictures(self) -> PictureBlocks:
        """The coder of the picture blocks. Raises KeyError where the layout has none."""
        return PictureBlocks.assemble(self.layout.picture_groups, self.tables, self.networks, self.picture_shifts)

    @property
    def block_names(self) -> tuple[str, ...]:
        """`level_0` …, `detail`, `picture_0` …, in order of transmission."""
        levels = [f"level_{level}" for level in range(self.levels)]
        details = ["detail"] * (self.semantic_blocks - self.levels)
        return (*levels, *details, *(f"picture_{group}" for group in range(len(self.layout.picture_groups))))

    def encode(self, index: int, code: SceneCode) -> bytes:
        """The bytes of block `index` of a complete enough `code`."""
        encoder = BlockEncoder()
        if index == 0:
            self._put_objects(encoder, code)
        elif index < self.semantic_blocks:
            self._put_kept(encoder, index, code)
            part = code.take(code.refined(index))
            if index < self.levels:
                encoder.put(self.name_symbols(index, part), self.tables[f"name_{index}"], self.name_rows(index, part))
            if self.layout.latents[index - 1]:
                symbols, rows = self.latent_symbols(index, part)
                encoder.put(symbols.ravel(), self.tables["latents"], rows.ravel())
        else:
            self.pictures.put(encoder, code.picture[index - self.semantic_blocks])
        return encoder.finish()

    def decode(self, index: int, data: bytes, code: SceneCode | None) -> SceneCode:
        """A code of blocks 0..index, given that of 0..index-1 (None before block 0), which stays as it is.

        Raises:
            BlockError: no encoder made these bytes for this prefix.
        """
        decoder = BlockDecoder(data)
        if index == 0 or code is None:
            code = self._get_objects(decoder)
        elif index < self.semantic_blocks:
            code = code.extended()
            kept, names, latents = self._get_refined(decoder, index, code)
            code.kept.append(kept)
            if names is not None:
                code.path.append(names)
            code.latents.append(latents)
        else:
            code = code.extended()
            before = code.picture[-1].latents if code.picture else None
            code.picture.append(self.pictures.get(decoder, index - self.semantic_blocks, before, self.picture_shape()))
        decoder.finish()
        return code

    def picture_shape(self) -> tuple[int, int]:
        """Rows and columns of the picture latents."""
        layout = self.layout
        return (
            layout.rows * layout.stride // layout.picture_stride,
            layout.columns * layout.stride // layout.picture_stride,
        )

    def _put_objects(self, encoder: BlockEncoder, code: SceneCode) -> None:
        kind = self.layout.count_class(len(code))
        encoder.put(np.array([kind], np.int32), self.tables["count"], 0)
        if not len(code):
            return
        occupied = np.zeros(self.layout.cells, np.int32)
        occupied[code.cells] = 1
        encoder.put(occupied, self.tables["occupancy"], self.occupancy_rows[kind])
        encoder.put(code.sizes[:, 0], self.tables["width"], self.band(code.cells))
        encoder.put(code.sizes[:, 1], self.tables["height"], code.sizes[:, 0])
        encoder.put(code.offsets[:, 0], self.tables["offset_x"], code.sizes[:, 0])
        encoder.put(code.offsets[:, 1], self.tables["offset_y"], code.sizes[:, 1])
        encoder.put(code.scores, self.tables["score"], code.sizes[:, 0])
        if self.foot_bits:
            assert code.feet is not None
            encoder.put(code.feet, FEET, 0)

    def _get_objects(self, decoder: BlockDecoder) -> SceneCode:
        """Block 0. The compiled kernel gives besides what else is worked out of it."""
        if self._compiled is not None:
            feet_by = FEET.coded if self.foot_bits else None
            cells, sizes, offsets, scores, feet, boxes, geometry = decoder.through(self._compiled.objects, feet_by)
            worked = {"boxes": boxes, "geometry": geometry}
            path = [np.zeros(len(cells), np.int32)]
            return SceneCode(cells, sizes, offsets, scores, path=path, feet=feet, worked=worked)
        kind = int(decoder.get(self.tables["count"], 0)[0])
        if kind == 0:
            decoder.finish()
            none = np.zeros((0, 2), np.int32)
            return SceneCode(none[:, 0], none, none, none[:, 0], path=[none[:, 0]])
        occupied = decoder.get(self.tables["occupancy"], self.occupancy_rows[kind])
        cells = np.flatnonzero(occupied).astype(np.int32)
        if len(cells) > self.layout.max_objects or self.layout.count_class(len(cells)) != kind:
            raise BlockError(f"block 0: {len(cells)} objects do not fit count class {kind}")
        width = decoder.get(self.tables["width"], self.band(cells))
        height = decoder.get(self.tables["height"], width)
        offset_x = decoder.get(self.tables["offset_x"], width)
        offset_y = decoder.get(self.tables["offset_y"], height)
        scores = decoder.get(self.tables["score"], width)
        return SceneCode(
            cells,
            np.stack([width, height], axis=1),
            np.stack([offset_x, offset_y], axis=1),
            scores,
            path=[np.zeros(len(cells), np.int32)],
            feet=decoder.get(FEET, np.zeros(len(cells), np.int32)) if self.foot_bits else None,
        )

    def _get_refined(self, decoder: BlockDecoder, index: int, code: SceneCode) -> tuple[Flags, Ints | None, Ints]:
        """A semantic block after the first: which objects it refines, their nodes at its level (None where it names
        none) and their latents."""
        if self._compiled is not None:
            before = code.kept[index - 2] if index > 1 else None
            known = code.sizes, self._geometry(code), code.path, code.latents
            found: tuple[Flags, Ints | None, Ints] = decoder.through(self._compiled.refined, index, before, *known)
            return found
        kept, names = self._get_kept(decoder, index, code), None
        part = code.take(kept)
        if index < self.levels:
            part.path.append(self._get_names(decoder, index, part))
            names = spread(part.path[index], kept, UNNAMED)
        latents, rows = self.latent_parameters(index, part)
        if self.layout.latents[index - 1]:
            latents = get_latents(decoder, latents, rows, self.tables["latents"])
        return kept, names, spread(latents, kept, 0)

    @cached_property
    def _compiled(self) -> Any:
        """What a kernel is given once to read semantic blocks; None where there is none, or where a network's numbers
        are too large for it."""
        layout = self.layout
        networks = [
            self.networks[f"latents_{block}"] if channels else None for block, channels in enumerate(layout.latents, 1)
        ]
        if kernels is None or any(network is not None and not network.compiled for network in networks):
            return None
        groups = [
            (channels, [], 1) if network is None else (channels, network.compiled, network.input_bound)
            for channels, network in zip(layout.latents, networks, strict=True)
        ]
        children = [
            [layout.children(level, parent).tolist() for parent in range(self._width(level - 1))]
            for level in range(1, self.levels)
        ]
        return kernels.SceneBlocks(
            {name: table.coded for name, table in self.tables.items()},
            (layout.columns, layout.rows, layout.max_objects, layout.offset_levels // 2),
            layout.count_edges,
            self.occupancy_rows,
            layout.offset_step,
            layout.sides.tolist(),
            tuple(part.tolist() for part in self.geometry),
            children,
            groups,
        )

    def _put_kept(self, encoder: BlockEncoder, index: int, code: SceneCode) -> None:
        """Which of the objects that the block before refined this one refines: all, or a flag for each."""
        before = code.refined(index - 1)
        if not before.any():
            return
        flags = code.refined(index)[before].astype(np.int32)
        encoder.put(np.array([flags.all()], np.int32), self.tables["whole"], index - 1)
        if not flags.all():
            encoder.put(flags, self.tables["kept"], self.area(code.take(before)))

    def _get_kept(self, decoder: BlockDecoder, index: int, code: SceneCode) -> Flags:
        before = code.refined(index - 1)
        if not before.any() or decoder.get(self.tables["whole"], index - 1)[0]:
            return before.copy()
        kept = np.zeros(len(code), bool)
        kept[before] = decoder.get(self.tables["kept"], self.area(code.take(before))) > 0
        if kept[before].all():
            raise BlockError(f"block {index}: every object flagged one by one, which the symbol before says")
        return kept

    def band(self, cells: Ints) -> Ints:
        """Which of 8 bands of grid rows each cell lies in."""
        return (cells // self.layout.columns * ROW_BANDS // self.layout.rows).astype(np.int32)

    def name_rows(self, level: int, code: SceneCode) -> Ints:
        """Table row of each object's name at `level`: its parent, the box's aspect and its area."""
        aspect = np.minimum(np.maximum(code.sizes[:, 0] - code.sizes[:, 1] + ASPECTS // 2, 0), ASPECTS - 1)
        return ((code.path[level - 1] * ASPECTS + aspect) * AREAS + self.area(code)).astype(np.int32)

    def name_row(self, parent: int, width: int, height: int) -> int:
        """`name_rows` of one object, of its name's parent and the symbols of its sides."""
        aspect = min(max(width - height + ASPECTS // 2, 0), ASPECTS - 1)
        area = min(max((width + height) * AREAS // (2 * self.layout.size_levels - 1), 0), AREAS - 1)
        return (parent * ASPECTS + aspect) * AREAS + area

    def area(self, code: SceneCode) -> Ints:
        """Which of 6 classes of area each object's box is in."""
        sides = code.sizes[:, 0] + code.sizes[:, 1]
        return np.minimum(np.maximum(sides * AREAS // (2 * self.layout.size_levels - 1), 0), AREAS - 1)

    def name_symbols(self, level: int, code: SceneCode) -> Ints:
        """Each object's name as its position among its parent's children."""
        return self.places[level][code.path[level]]

    @cached_property
    def places(self) -> list[Ints]:
        """Per level each node's position among the children of its parent; one table more before the first level."""
        places = [np.zeros(1, np.int32)]
        for level, parents in enumerate(self.layout.parents, 1):
            own = np.zeros(len(parents), np.int32)
            for parent in set(parents):
                children = self.layout.children(level, parent)
                own[children] = np.arange(len(children))
            places.append(own)
        return places

    def _get_names(self, decoder: BlockDecoder, level: int, code: SceneCode) -> Ints:
        symbols = decoder.get(self.tables[f"name_{level}"], self.name_rows(level, code))
        first, nodes = self._children[level]
        begin = first[code.path[level - 1]]
        room = first[code.path[level - 1] + 1] - begin
        if (symbols >= room).any():
            wrong = int(np.argmax(symbols - room))
            raise BlockError(f"block {level}: child {symbols[wrong]} of a node with {room[wrong]}")
        return nodes[begin + symbols]

    @cached_property
    def _children(self) -> list[tuple[Ints, Ints]]:
        """Per level its nodes, parent by parent, and where in that row each parent's children begin and the last one's
        end; none before the first level."""
        none = np.zeros(0, np.int32)
        found = [(none, none)]
        for level, parents in enumerate(self.layout.parents, 1):
            counts = np.bincount(parents, minlength=self._width(level - 1))
            begins = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
            found.append((begins, np.argsort(parents, kind="stable").astype(np.int32)))
        return found

    def _width(self, level: int) -> int:
        return 1 if level == 0 else len(self.layout.parents[level - 1])

    def told(self, code: SceneCode, level: int) -> Ints:
        """What is known of each object before a latent group, n,inputs in units of 1/16: geometry scaled to about
        -2..2, then the one-hot names of levels 1..level."""
        return np.concatenate(self.told_parts(code, level), axis=1)

    def told_parts(self, code: SceneCode, level: int) -> list[Ints]:
        """What `told` is joined of."""
        names = [self._marks[k][code.path[k]] for k in range(1, level + 1)]
        return [self._geometry(code), *names]

    def _geometry(self, code: SceneCode) -> Ints:
        return code.once("geometry", lambda: self._scaled_geometry(code))

    def _scaled_geometry(self, code: SceneCode) -> Ints:
        """The geometry of `told`, n,6."""
        geometry = np.empty((len(code), 6), np.int64)
        geometry[:, :2] = code.sizes
        geometry[:, 2] = code.cells // self.layout.columns
        geometry[:, 3:5] = code.offsets
        geometry[:, 5] = code.scores
        times, over, less = self.geometry
        geometry *= times
        geometry //= over
        geometry -= less
        return geometry.astype(np.int32)

    @cached_property
    def geometry(self) -> tuple[Ints, Ints, Ints]:
        """What the geometry of `told` is multiplied by, then divided by (rounded down), then lessened by: of sides, row
        of the cell, offsets and score."""
        layout = self.layout
        side, offset = layout.size_levels // 2 * 2, layout.offset_levels // 2 * 4
        times = [2, 2, 4 * FRACTION, 4, 4, 2 * FRACTION]
        over = [1, 1, layout.rows, 1, 1, max(1, len(layout.score_edges))]
        less = [side, side, 2 * FRACTION, offset, offset, FRACTION]
        return np.array(times, np.int32), np.array(over, np.int32), np.array(less, np.int32)

    @cached_property
    def _marks(self) -> list[Ints]:
        """Per level a row for each node: FRACTION at its place."""
        return [FRACTION * np.eye(self._width(level), dtype=np.int32) for level in range(self.levels)]

    def latent_symbols(self, block: int, code: SceneCode) -> tuple[Ints, Ints]:
        """Symbols (n,d) and table rows (n,d) of the latent group of semantic block `block` (1..)."""
        means, rows = self.latent_parameters(block, code)
        if not means.shape[1]:
            return means, rows
        return steps_of(code.latents[block - 1], means, self.tables["latents"]), rows

    def latent_parameters(self, block: int, code: SceneCode) -> tuple[Ints, Ints]:
        """Means (n,d, units of 1/16) and scale rows (n,d) of the latent group of semantic block `block` (1..)."""
        if not self.layout.latents[block - 1]:
            return np.zeros((len(code), 0), np.int32), np.zeros((len(code), 0), np.int32)
        parts = self.told_parts(code, min(block, self.levels - 1))
        out = self.networks[f"latents_{block}"](np.concatenate([*parts, *code.latents[: block - 1]], axis=1))
        return split_parameters(out, self.tables["latents"].rows)
