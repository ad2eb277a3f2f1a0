"""What a receiver remembers of a scene, and the delta that changes it: whole numbers only (docs/bitstream.md, "Delta").

A *state* is the objects of one frame as sender and receiver both know them. It comes from a memoryless frame's code
(`DeltaCodec.whole`) or from an earlier state and a *delta* (`DeltaCodec.decode`), and from nothing else: the state
after a frame is a pure function of the state that the delta names, the delta's bytes and the time between the two
frames. All arithmetic is on integers, by the same lines on both sides, so the two cannot drift apart. A delta names its
state by frame number and by a check of the state's numbers; a receiver that holds no such state refuses it.

Units: lengths in 1/256 of a cell (`UNIT`), logarithms of sides in 1/1024, times in ms, velocities in lengths a 1024
ms.

What a delta says of each object is one adaptive flag where the receiver's own forecast is good enough. How likely a
flag is, is part of the state, as are the scales of what is left over: a delta is read with the tables that its
reference ended with.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from functools import cached_property, lru_cache
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.entropy import PRECISION, BlockError, ListDecoder, ListEncoder, Tables
from semhier_ros.codec.packet import UnknownReference
from semhier_ros.native import kernels
from semhier_ros.scene.layout import UNNAMED, Flags, SceneCode, SceneLayout, quantise_boxes
from semhier_ros.scene.stream import ROW_BANDS, SceneStream

Numbers = NDArray[np.int64]
Row = list[int] | int
UNIT = 256
LOG_UNIT = 1024
MOST_FRAMES = 64
"""A reference lies at most so many frame numbers back; neither end keeps states for longer."""
MOST_MS = 4000
"""A reference is at most so old."""
HIDDEN_MS = 1000
"""An object that was not seen for longer is forgotten."""
STAMP_BITS = 40
MOST_BORN = 64
"""A delta tells of so many new objects at most."""
REACH = 63
"""Residuals lie within -REACH..REACH."""
PLACE_STEP, SPEED_STEP, LOG_STEP, SHIFT_STEP = 32, 64, 128, 16
"""A residual of 1 moves a centre by 1/8 of the object's side, its speed by 1/4 side a 1024 ms, a side's logarithm by
1/8, and the whole picture by 1/16 of a cell."""
_LOG_LOW, _LOG_STEPS, _LOG_COUNT = -3, 32, 288
_LEAST_LOG, _MOST_LOG = _LOG_LOW * LOG_UNIT, (_LOG_COUNT // _LOG_STEPS + _LOG_LOW) * LOG_UNIT
_PATH = 10  # columns of a state's table before the path
FLAG_ROWS = 64
_FLAG_SHIFT = 4  # a flag moves the expectation of its kind by 1/16 of the way
SCALE_ROWS = 24
_SCALE_SHIFT = 3

# kinds of flags: how likely each is at the start, of 65,536
PANS, TOUCHED, BACK, HIDES, MOVED, MOVED_BACK, LABELLED, STEERED, BORN, RENAMED, DEEPER, FAR = (
    0, 1, 13, 16, 20, 21, 22, 26, 27, 28, 30, 31,
)  # fmt: skip
START = (
    8000,  # the camera goes on as it did
    42000, 54000, 57000, 44000, 58000, 60000, 30000, 50000, 55000, 18000, 41000, 49000,  # touched: 4 scores, 3 ages
    12000, 7500, 5000,  # a hidden one is back: 3 ages
    45000, 28000, 9000, 1000,  # a touched one is hidden from now on: 4 scores
    54000, 52000,  # moved, moved and back
    40000, 30000, 24000, 17000,  # labelled: 4 scores
    3000, 30000,  # steered, born
    27000, 39000, 56000,  # renamed; renamed and moved; deeper
    1000,  # the picture moved far
)  # fmt: skip
START_SCALES = (22, 9, 14, 9, 40)
"""Expected residuals of places across and down, of widths and heights, and of the picture's shift, in 1/16."""
SPEED_ROW, FAR_ROW = 7, 4
SCORE_CLASSES = 4
"""The surer an object, the less is said of it: flags are expected by the class of its score."""
WITH_NAME, WITH_PLACE, ALONE = range(3)
SCORE_CHANGES = (
    (1, 1, 2, 5, 14, 2, 178, 2, 29, 10, 4, 2, 1),  # beside a name
    (1, 3, 6, 18, 75, 2, 0, 2, 100, 30, 11, 4, 2),  # of an object that is moved or shown again
    (1, 1, 1, 134, 2, 1, 0, 1, 2, 2, 6, 3, 1),  # alone: a detector missed it
)
"""How likely a score changes by -6 … 6 classes."""


@dataclass(frozen=True)
class SceneState:
    """What both ends know of a scene after one frame. Arrays have a row an object.

    frame: its number. stamp: the low 40 bits of its stamp in ns. centre n,2; logs n,2: of width and height in cells;
    velocity n,2: without the camera's. scores n: score symbols. named n: levels below the first that are named; path
    n,levels-1: nodes, UNNAMED beyond. told n: latent groups that are known; latents: of each group n,d, 0 where not
    known. hidden n: ms since it was last shown, 0 while it is. camera 2: the speed at which the whole picture moved.
    flags, scales: expectations of flags (of 65,536) and of residuals (in 1/16).
    """

    frame: int
    stamp: int
    centre: Numbers
    logs: Numbers
    velocity: Numbers
    scores: Numbers
    named: Numbers
    path: Numbers
    told: Numbers
    latents: tuple[Numbers, ...]
    hidden: Numbers
    camera: Numbers
    flags: tuple[int, ...] = START
    scales: tuple[int, ...] = START_SCALES

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def check(self) -> int:
        """The byte of `digest` by which ends name a state."""
        return self.digest & 0xFF

    @cached_property
    def digest(self) -> int:
        """A CRC-32 over all that the state says."""
        if kernels is None:
            every = np.concatenate([part.ravel() for part in self._rows]).astype("<i4").tobytes()
        else:
            widths = tuple([group.shape[1] for group in self.latents])
            every = kernels.columns_as_bytes(self.table, _columns(self.path.shape[1], widths))
        rest = np.array([*self.camera.tolist(), *self.flags, *self.scales], "<i4").tobytes()
        return zlib.crc32(self.frame.to_bytes(2, "big") + self.stamp.to_bytes(5, "big") + every + rest)

    @cached_property
    def table(self) -> Numbers:
        """All objects as rows of centre, logs, velocity, score, named, told, hidden, path and latents."""
        ones = np.stack([self.scores, self.named, self.told, self.hidden], axis=1)
        return np.concatenate([self.centre, self.logs, self.velocity, ones, self.path, *self.latents], axis=1)

    @classmethod
    def of_table(cls, table: Numbers, widths: Sequence[int], **others: Any) -> SceneState:
        """The state whose `table` this is. widths: of each group of latents; others: its fields that no table has."""
        scores, named, told, hidden = table[:, 6:_PATH].T
        start, latents = table.shape[1] - sum(widths), []
        path = table[:, _PATH:start]
        for width in widths:
            latents.append(table[:, start : start + width])
            start += width
        state = cls(
            centre=table[:, :2], logs=table[:, 2:4], velocity=table[:, 4:6], path=path, latents=tuple(latents),
            scores=scores, named=named, told=told, hidden=hidden, **others,
        )  # fmt: skip
        state.__dict__["table"] = table
        return state

    @property
    def _rows(self) -> tuple[Numbers, ...]:
        return (
            self.centre, self.logs, self.velocity, self.scores, self.named, self.path, self.told, self.hidden,
            *self.latents,
        )  # fmt: skip

    def take(self, rows: NDArray[np.intp] | Flags) -> SceneState:
        """The same state with only some of its objects."""
        return SceneState.of_table(
            self.table[rows], [group.shape[1] for group in self.latents], frame=self.frame, stamp=self.stamp,
            camera=self.camera, flags=self.flags, scales=self.scales,
        )  # fmt: skip

    @property
    def sides(self) -> Numbers:
        """Width and height n,2 in 1/256 of a cell."""
        return side_lengths(self.logs)


@lru_cache(maxsize=16)
def _columns(below: int, widths: tuple[int, ...]) -> list[tuple[int, int]]:
    """Where in a state's table each of its `_rows` stands, of so many levels below the first and groups of latents."""
    starts = [*accumulate(widths, initial=_PATH + below)]
    return [(0, 2), (2, 4), (4, 6), (6, 7), (7, 8), (_PATH, _PATH + below), (8, 9), (9, 10), *pairwise(starts)]


def side_lengths(logs: Numbers) -> Numbers:
    """Sides in 1/256 of a cell from their logarithms."""
    places = (logs - _LOG_LOW * LOG_UNIT) * _LOG_STEPS // LOG_UNIT
    return lengths_of_sides()[np.minimum(np.maximum(places, 0), _LOG_COUNT - 1)]


def _side(log: int) -> int:
    """`side_lengths` of one logarithm."""
    return _side_list()[min(max((log - _LEAST_LOG) * _LOG_STEPS // LOG_UNIT, 0), _LOG_COUNT - 1)]


@lru_cache(maxsize=1)
def _side_list() -> list[int]:
    found: list[int] = lengths_of_sides().tolist()
    return found


@lru_cache(maxsize=1)
def lengths_of_sides() -> Numbers:
    """Sides (in 1/256 of a cell) whose logarithms are -3, -3 + 1/32 …: made in decimal arithmetic, which no machine's
    exp rounds."""
    with localcontext() as context:
        context.prec = 30
        exact = [(Decimal(k) / _LOG_STEPS + _LOG_LOW).exp() * UNIT for k in range(_LOG_COUNT)]
    return np.array([max(1, int(value + Decimal("0.5"))) for value in exact], np.int64)


@dataclass
class Delta:
    """What a delta says of the n objects of a forecast, and of new ones. Arrays n unless said otherwise.

    distance: frame numbers back to the reference; check: its check. pans: 1 where the picture's motion goes on as it
    did; shift 2: how far the whole picture moved beside that. touched: whether anything is said of the object. toggled:
    it is hidden from now on, or seen again. place, size: residuals n,2 of centre and log sides; speed: by how many
    steps its velocity changes, n,2. moved, steered, labelled: whether those, these and the label are told. score:
    residual of its score symbol. renamed: 0 the same name, 1 one level more, 2 anew. named n and path n,levels-1: the
    new name. born: new objects, as in `SceneCode`; how deep each is named says its path (UNNAMED below).
    """

    distance: int
    check: int
    pans: int
    shift: Numbers
    touched: Numbers
    toggled: Numbers
    moved: Numbers
    place: Numbers
    size: Numbers
    steered: Numbers
    speed: Numbers
    labelled: Numbers
    score: Numbers
    renamed: Numbers
    named: Numbers
    path: Numbers
    born: SceneCode

    @classmethod
    def nothing(cls, reference: SceneState, frame: int, count: int, levels: int) -> Delta:
        """A delta by which all `count` objects of a forecast are as foretold."""
        zeros = lambda *shape: np.zeros((count, *shape), np.int64)  # noqa: E731
        none = np.zeros(0, np.int32)
        born = SceneCode(none, np.zeros((0, 2), np.int32), np.zeros((0, 2), np.int32), none, path=[none] * levels)
        return cls(
            (frame - reference.frame) & 0xFFFF, reference.check, 0, np.zeros(2, np.int64), zeros(), zeros(), zeros(),
            zeros(2), zeros(2), zeros(), zeros(2), zeros(), zeros(), zeros(), zeros(),
            zeros(levels - 1) + UNNAMED, born,
        )  # fmt: skip


def normalised(weights: Sequence[int]) -> list[int]:
    """Integer frequencies that sum to 2**20, each 1 plus its share of the rest rounded down; what is left goes to the
    first of the largest."""
    total, rest = sum(weights), (1 << PRECISION) - len(weights)
    found = [1 + weight * rest // total for weight in weights]
    found[max(range(len(found)), key=lambda k: weights[k])] += (1 << PRECISION) - sum(found)
    return found


@lru_cache(maxsize=1)
def fixed_tables() -> dict[str, Tables]:
    """The tables that every model shares: `flag` (64 rows over no/yes), `residual` (24 rows over -63…63),
    `score_change` (3 rows over the same), `distance` (of the reference), `check` (all alike), `more` (new objects after
    the first)."""
    flag = [[(1 << PRECISION) - odd, odd] for odd in ((2 * row + 1) << (PRECISION - 7) for row in range(FLAG_ROWS))]
    residual = []
    for row in range(SCALE_ROWS):
        # two-sided geometric: each step further is `keep` / 256 as likely; its mean size is about (row + 1)² / 16
        keep, weight, side = 256 * (row + 1) ** 2 // ((row + 1) ** 2 + 16), 1 << 30, []
        for _ in range(REACH + 1):
            side.append(weight)
            weight = weight * keep >> 8
        residual.append(normalised([*reversed(side[1:]), *side]))
    beyond = [1] * (REACH - len(SCORE_CHANGES[0]) // 2)
    score_change = [normalised([*beyond, *(64 * weight for weight in near), *beyond]) for near in SCORE_CHANGES]
    distance = [5 << 18, *((1 << 20) // (far + 3) ** 2 for far in range(1, MOST_FRAMES))]
    return {
        "flag": Tables(np.array(flag)),
        "residual": Tables(np.array(residual)),
        "score_change": Tables(np.array(score_change)),
        "distance": Tables(np.array([normalised(distance)])),
        "check": Tables(np.full((1, 256), 1 << (PRECISION - 8))),
        "more": Tables(np.array([normalised([1 << max(0, 24 - 2 * k) for k in range(MOST_BORN)])])),
    }


def split_shift(shift: int) -> tuple[int, int]:
    """Steps of a shift in units of REACH, and what is left: within half of it."""
    far = (shift + REACH // 2) // REACH
    return far, shift - REACH * far


def scale_row(scale: int) -> int:
    """The row of `residual` for an expected size in 1/16."""
    row = 0
    while row < SCALE_ROWS - 1 and (row + 1) * (row + 2) <= scale:
        row += 1
    return row


class _Writer:
    """Puts symbols into a block, and hands back what was put. `part`: what they say, for `_Weigher`."""

    def __init__(self) -> None:
        self.coder, self.part = ListEncoder(), ""

    def code(self, tables: Tables, rows: Row, values: list[int] | None, count: int) -> list[int]:
        assert values is not None
        self.coder.put_list(values, tables, rows)
        return values


class _Parser:
    """Gets symbols out of a block."""

    def __init__(self, data: bytes) -> None:
        self.coder, self.part = ListDecoder(data), ""

    def code(self, tables: Tables, rows: Row, values: list[int] | None, count: int) -> list[int]:
        return self.coder.get_list(tables, rows, count)


class _Weigher:
    """Weighs the symbols of a delta: `bits` is their ideal cost by the part of the delta that they stand in."""

    def __init__(self) -> None:
        self.bits: dict[str, float] = defaultdict(float)
        self.part = ""

    def code(self, tables: Tables, rows: Row, values: list[int] | None, count: int) -> list[int]:
        assert values is not None
        self.bits[self.part] += tables.cost_bits(
            np.array(values, int), rows if isinstance(rows, int) else np.array(rows)
        )
        return values


_Coder = _Writer | _Parser | _Weigher


@dataclass
class _Walk:
    """One way through a delta's symbols, the same for writing and for reading; flags learn as they go by."""

    io: _Coder
    flags: tuple[int, ...]
    seen: list[tuple[int, int]] = field(default_factory=list)

    def flag(self, kinds: list[int] | int, values: list[int] | None, count: int) -> list[int]:
        """Flags of these kinds (one for all, or one each)."""
        if not count:
            return []
        each = [kinds] * count if isinstance(kinds, int) else kinds
        flags = self.flags
        found = self.io.code(fixed_tables()["flag"], [flags[k] * FLAG_ROWS >> 16 for k in each], values, count)
        self.seen += zip(each, found, strict=True)
        return found

    def residual(self, rows: Row, values: list[int] | None, count: int, table: str = "residual") -> list[int]:
        """Residuals by these rows (one for all, or one each)."""
        if not count:
            return []
        put = None if values is None else [value + REACH for value in values]
        return [value - REACH for value in self.io.code(fixed_tables()[table], rows, put, count)]

    def learned(self) -> tuple[int, ...]:
        """What flags are expected to be from now on."""
        flags = list(self.flags)
        for kind, value in self.seen:
            flags[kind] += ((value << 16) - flags[kind]) >> _FLAG_SHIFT
        for kind in {kind for kind, _ in self.seen}:
            flags[kind] = min(max(flags[kind], 512), 65_535 - 512)
        return tuple(flags)


@dataclass(slots=True)
class Said:
    """The fields of `Delta` of n objects, and the new ones', as plain lists: a dozen objects in arrays cost more to
    hand over than to work on."""

    distance: int
    check: int
    pans: int
    shift: list[int]
    touched: list[int]
    toggled: list[int]
    moved: list[int]
    place: list[list[int]]
    size: list[list[int]]
    steered: list[int]
    speed: list[list[int]]
    labelled: list[int]
    score: list[int]
    renamed: list[int]
    named: list[int]
    path: list[list[int]]
    born: list[list[int]]
    """Of each new object cell, size symbols (2), offset symbols (2) and score symbol."""
    born_path: list[list[int]]
    """Of each new object the nodes below the first level."""

    @classmethod
    def nothing(cls, distance: int, check: int, held: Held) -> Said:
        """That all objects are as foretold."""
        zeros = lambda: [0] * len(held.rows)  # noqa: E731
        pairs = lambda: [[0, 0] for _ in held.rows]  # noqa: E731
        return cls(
            distance, check, 0, [0, 0], zeros(), zeros(), zeros(), pairs(), pairs(), zeros(), pairs(), zeros(), zeros(),
            zeros(), list(held.named), [list(path) for path in held.path], [], [],
        )  # fmt: skip

    @classmethod
    def of(cls, said: Delta) -> Said:
        """What a delta of arrays says."""
        born, below = new_objects(said.born)
        return cls(
            said.distance, said.check, int(said.pans),
            said.shift.tolist(), said.touched.tolist(), said.toggled.tolist(), said.moved.tolist(),
            said.place.tolist(), said.size.tolist(), said.steered.tolist(), said.speed.tolist(),
            said.labelled.tolist(), said.score.tolist(), said.renamed.tolist(), said.named.tolist(),
            said.path.tolist(), born, below,
        )  # fmt: skip

    def delta(self, distance: int, check: int, levels: int) -> Delta:
        """As arrays again, with another reference."""
        count, whole = len(self.touched), lambda values: np.array(values, np.int64)
        pairs = lambda values: whole(values).reshape(count, 2)  # noqa: E731
        born = np.array(self.born, np.int32).reshape(-1, 6)
        below = np.array(self.born_path, np.int32).reshape(len(born), levels - 1)
        path = [np.zeros(len(born), np.int32), *below.T]
        new = SceneCode(born[:, 0], born[:, 1:3], born[:, 3:5], born[:, 5], path=path)
        return Delta(
            distance, check, self.pans, whole(self.shift), whole(self.touched), whole(self.toggled), whole(self.moved),
            pairs(self.place), pairs(self.size), whole(self.steered), pairs(self.speed), whole(self.labelled),
            whole(self.score), whole(self.renamed), whole(self.named),
            whole(self.path).reshape(count, levels - 1), new,
        )  # fmt: skip


def new_objects(born: SceneCode) -> tuple[list[list[int]], list[list[int]]]:
    """New objects as `Said` has them: `born` and `born_path`."""
    if not len(born):
        return [], []
    columns = np.concatenate([born.cells[:, None], born.sizes, born.offsets, born.scores[:, None]], axis=1)
    below = np.stack(born.path[1:], axis=1).tolist() if len(born.path) > 1 else [[] for _ in range(len(born))]
    return columns.tolist(), below


@dataclass(slots=True)
class Held:
    """The objects of a reference that are still remembered after so many ms: its `rows`, and their `state`, not yet
    moved, `hidden` grown; some of what that says as lists."""

    rows: list[int]
    state: SceneState
    hidden: list[int]
    scores: list[int]
    named: list[int]
    path: list[list[int]]

    @classmethod
    def of(cls, reference: SceneState, elapsed: int) -> Held:
        rows, state = list(range(len(reference))), reference
        if reference.hidden.any():
            grown = np.where(reference.hidden > 0, reference.hidden + elapsed, 0)
            kept = np.flatnonzero(grown <= HIDDEN_MS)
            rows, state = kept.tolist(), reference.take(kept)
            state.hidden[:] = grown[kept]
        return cls(rows, state, state.hidden.tolist(), state.scores.tolist(), state.named.tolist(), state.path.tolist())


class DeltaCodec:
    """States and deltas of one model's scenes: `whole`, `forecast`, `encode`, `decode`."""

    def __init__(self, stream: SceneStream) -> None:
        self.stream, self.layout, self.levels = stream, stream.layout, stream.levels
        layout = self.layout
        steps = layout.size_low + layout.size_step * np.arange(layout.size_levels)
        self._logs: list[int] = np.rint(steps * LOG_UNIT).astype(np.int64).tolist()
        self._middles = [(low + high) // 2 for low, high in pairwise(self._logs)]
        self._offset_step = round(layout.offset_step * LOG_UNIT)
        self._cells = Tables(np.array([normalised(_cell_weights(stream))]))
        deepest = 8 * max(1, self.levels - 1)
        self._depth = Tables(np.array([normalised([1] * (self.levels - 1) + [deepest])])) if self.levels > 1 else None
        self._places = [places.tolist() for places in stream.places]
        self._children: list[list[list[int]]] = [
            [layout.children(level, parent).tolist() for parent in range(len(self._places[level - 1]))] if level else []
            for level in range(self.levels)
        ]

    @cached_property
    def compiled(self) -> Any:
        """What kernels are given of this model once; None where there are none."""
        if kernels is None:
            return None
        layout, tables = self.layout, {**self.stream.tables, **fixed_tables(), "cells": self._cells}
        if self._depth is not None:
            tables["depth"] = self._depth
        numbers = (
            layout.columns, layout.rows, layout.max_objects, len(layout.score_edges), self._offset_step,
            layout.offset_levels // 2, sum(layout.latents),
        )  # fmt: skip
        coded = {name: table.coded for name, table in tables.items()}
        return kernels.DeltaTables(
            coded, numbers, self._logs, self._middles, _side_list(), self._children[1:], self._places[1:]
        )

    @cached_property
    def shown(self) -> Any:
        """What kernels are given once to say what states show; None where there are none, or where a network's numbers
        are too large for them."""
        layout, stream = self.layout, self.stream
        networks = [
            stream.networks[f"latents_{block}"] if channels else None
            for block, channels in enumerate(layout.latents, 1)
        ]
        if kernels is None or any(network is not None and not network.compiled for network in networks):
            return None
        groups = [
            (channels, [], 1) if network is None else (channels, network.compiled, network.input_bound)
            for channels, network in zip(layout.latents, networks, strict=True)
        ]
        lengths = lengths_of_sides().astype(np.float32) / UNIT
        nowhere = np.zeros(len(lengths), np.int32)
        symbols = quantise_boxes(layout, nowhere, np.stack([lengths] * 4, axis=1))[0][:, 0].tolist()
        return kernels.ShownCodes(
            (layout.columns, layout.rows, layout.offset_levels // 2), layout.offset_step, layout.sides.tolist(),
            _side_list(), symbols, [part.tolist() for part in stream.geometry], [*map(len, layout.parents)], groups,
        )  # fmt: skip

    # -- states -------------------------------------------------------------------------------------------------------

    def whole(self, code: SceneCode, prefix: int, frame: int, stamp_ns: int) -> SceneState:
        """The state after blocks 0..prefix of a memoryless frame."""
        count, groups = len(code), self.layout.latents
        prefix = min(prefix, len(code.latents))
        told = np.asarray(code.depth(prefix), np.int64)
        latents = [np.zeros((count, width), np.int64) for width in groups]
        for place in range(prefix):
            latents[place][told > place] = code.latents[place][told > place]
        return self._born(code, prefix, frame, stamp_ns, told, latents)

    def _born(
        self, code: SceneCode, depth: int, frame: int, stamp_ns: int, told: Numbers, latents: Sequence[Numbers]
    ) -> SceneState:
        """A state of the objects that `code` places, named to `depth` levels at most."""
        layout, count = self.layout, len(code)
        logs = np.array(self._logs)[code.sizes]
        cell = np.stack([code.cells % layout.columns, code.cells // layout.columns], axis=1).astype(np.int64)
        away = (code.offsets.astype(np.int64) - layout.offset_levels // 2) * self._offset_step * side_lengths(logs)
        path = np.full((count, self.levels - 1), UNNAMED, np.int64)
        for level in range(1, min(self.levels, depth + 1, len(code.path))):
            path[:, level - 1] = code.path[level]
        zeros = np.zeros(count, np.int64)
        return SceneState(
            frame=frame & 0xFFFF,
            stamp=stamp_ns & ((1 << STAMP_BITS) - 1),
            centre=self._inside(cell * UNIT + UNIT // 2 + (away >> 10)),
            logs=logs.reshape(count, 2),
            velocity=np.zeros((count, 2), np.int64),
            scores=code.scores.astype(np.int64),
            named=(path != UNNAMED).sum(axis=1).astype(np.int64),
            path=path,
            told=told,
            latents=tuple(latents),
            hidden=zeros,
            camera=np.zeros(2, np.int64),
        )

    def _born_centre(self, cell: int, logs: list[int], offsets: list[int]) -> list[int]:
        """The centre of a new object, as `_born` places one."""
        layout, found = self.layout, []
        for at, most, log, offset in zip(
            (cell % layout.columns, cell // layout.columns), (layout.columns, layout.rows), logs, offsets, strict=True
        ):
            away = (offset - layout.offset_levels // 2) * self._offset_step * _side(log)
            found.append(min(max(at * UNIT + UNIT // 2 + (away >> 10), 0), most * UNIT))
        return found

    def _inside(self, centre: Numbers) -> Numbers:
        return np.clip(centre, 0, np.array(self.edge))

    def elapsed(self, reference: SceneState, stamp_ns: int) -> int:
        """Milliseconds from a state's frame to that of `stamp_ns`; negative or large where it is no later one."""
        half = 1 << (STAMP_BITS - 1)
        return ((stamp_ns - reference.stamp + half) % (1 << STAMP_BITS) - half) // 1_000_000

    @property
    def edge(self) -> tuple[int, int]:
        """The largest coordinates of a centre."""
        return self.layout.columns * UNIT, self.layout.rows * UNIT

    # -- deltas -------------------------------------------------------------------------------------------------------

    def encode(self, reference: SceneState, delta: Delta, frame: int, stamp_ns: int) -> tuple[bytes, SceneState]:
        return self.write(reference, Said.of(delta), frame, stamp_ns)

    def write(self, reference: SceneState, said: Said, frame: int, stamp_ns: int) -> tuple[bytes, SceneState]:
        """`encode` of lists."""
        writer = _Writer()
        opening = self._open(writer, lambda distance, check: reference, said, frame, stamp_ns)
        if self.compiled is None:
            state, _ = self._walk(writer, opening, said)
        else:
            state = opening.state(*writer.coder.through(self.compiled.write, *opening.given, said))
        return writer.coder.finish(), state

    def costs(self, reference: SceneState, said: Said, frame: int, stamp_ns: int) -> dict[str, float]:
        """Ideal bits of what a delta says, by what that is."""
        weigher = _Weigher()
        self._walk(weigher, self._open(weigher, lambda distance, check: reference, said, frame, stamp_ns), said)
        return dict(weigher.bits)

    def decode(
        self, data: bytes, find: Callable[[int, int], SceneState | None], frame: int, stamp_ns: int
    ) -> SceneState:
        """The state that a delta's bytes lead to. find(frame number, check): the state that it refers to, or None.

        Raises:
            UnknownReference: `find` knows none. BlockError: no encoder made these bytes for that state.
        """
        parser = _Parser(data)
        opening = self._open(parser, find, None, frame, stamp_ns)
        if self.compiled is None:
            state, _ = self._walk(parser, opening, None)
        else:
            state = opening.state(*parser.coder.through(self.compiled.read, *opening.given))
        parser.coder.finish()
        return state

    def restamped(
        self,
        data: bytes,
        find: Callable[[int, int], tuple[SceneState, SceneState] | None],
        frame: int,
        stamp_ns: int,
        later_ns: int,
    ) -> tuple[bytes, tuple[SceneState, SceneState]]:
        """A delta of `stamp_ns` as it would have been had all stamps been `later_ns` later, and the states after both.

        find: as of `decode`, but gives the state and its twin of later stamps. Errors as of `decode`.
        """
        found: list[tuple[SceneState, SceneState]] = []

        def first(number: int, check: int) -> SceneState | None:
            pair = find(number, check)
            found.extend([] if pair is None else [pair])
            return None if pair is None else pair[0]

        parser = _Parser(data)
        opening = self._open(parser, first, None, frame, stamp_ns)
        state, said = self._walk(parser, opening, None)
        parser.coder.finish()
        delta = said.delta(opening.distance, found[0][1].check, self.levels)
        made, twin = self.encode(found[0][1], delta, frame, stamp_ns + later_ns)
        return made, (state, twin)

    def _open(
        self,
        io: _Coder,
        find: Callable[[int, int], SceneState | None],
        told: Said | None,
        frame: int,
        stamp_ns: int,
    ) -> _Opening:
        tables = fixed_tables()
        io.part = "reference"
        distance = io.code(tables["distance"], 0, None if told is None else [told.distance - 1], 1)[0] + 1
        check = io.code(tables["check"], 0, None if told is None else [told.check], 1)[0]
        reference = find((frame - distance) & 0xFFFF, check)
        if reference is None:
            raise UnknownReference(f"delta: frame {(frame - distance) & 0xFFFF} with check {check:#04x} is not known")
        elapsed = self.elapsed(reference, stamp_ns)
        if not 0 < elapsed <= MOST_MS:
            raise BlockError(f"delta: {elapsed} ms after its reference, 1 to {MOST_MS} expected")
        return _Opening(reference, distance, check, frame & 0xFFFF, stamp_ns & ((1 << STAMP_BITS) - 1), elapsed)

    def _walk(self, io: _Coder, opening: _Opening, told: Said | None) -> tuple[SceneState, Said]:
        """All that follows the opening, and the state after it; the compiled walk does the same."""
        reference, elapsed = opening.reference, opening.elapsed
        held = Held.of(reference, elapsed)
        walk = _Walk(io, reference.flags)
        delta = Said.nothing(opening.distance, opening.check, held)
        io.part = "picture's motion"
        self._camera(walk, reference, delta, told)
        io.part = "what is touched"
        self._touched(walk, held, elapsed, delta, told)
        io.part = "place and size"
        self._motion(walk, reference, delta, told)
        io.part = "scores"
        self._labels(walk, held, delta, told)
        io.part = "new objects"
        self._births(walk, held, delta, told)
        io.part = "names"
        self._names(io, held, delta, told)
        return self._after(opening, held, delta, walk), delta

    def _camera(self, walk: _Walk, reference: SceneState, delta: Said, said: Said | None) -> None:
        if reference.camera.any():
            delta.pans = walk.flag(PANS, None if said is None else [said.pans], 1)[0]
        parts = None if said is None else [split_shift(value) for value in said.shift]
        far = walk.flag(FAR, None if parts is None else [int(any(step for step, _ in parts))], 1)[0]
        steps = [0, 0]
        if far:
            steps = walk.residual(FAR_ROW, None if parts is None else [step for step, _ in parts], 2)
        row = scale_row(reference.scales[4])
        rest = walk.residual(row, None if parts is None else [left for _, left in parts], 2)
        if far and not any(steps):
            raise _refused(f"the picture: moved far by 0 and 0 steps of {REACH}, {_ONE}")
        for left in rest:
            if abs(left) > REACH // 2:
                raise _refused(f"the picture: moved by {left} besides, expected {-(REACH // 2)} to {REACH // 2}")
        delta.shift = [REACH * step + left for step, left in zip(steps, rest, strict=True)]

    def _touched(self, walk: _Walk, held: Held, elapsed: int, delta: Said, said: Said | None) -> None:
        shown = [value == 0 for value in held.hidden]
        age = (elapsed >= 250) + (elapsed >= 500)
        sure = self._score_classes(held)
        kinds = [
            TOUCHED + 3 * score + age if not hidden else BACK + (hidden >= elapsed + 100) + (hidden >= elapsed + 400)
            for hidden, score in zip(held.hidden, sure, strict=True)
        ]
        delta.touched = list(walk.flag(kinds, None if said is None else said.touched, len(kinds)))
        touched = [row for row, value in enumerate(delta.touched) if value]
        rows = [row for row in touched if shown[row]]
        _put(delta.toggled, rows, walk.flag([HIDES + sure[row] for row in rows], _of(said, "toggled", rows), len(rows)))
        for row in touched:
            if not shown[row]:
                delta.toggled[row] = 1
        rows = [row for row in touched if not (shown[row] and delta.toggled[row])]
        kinds = [MOVED if shown[row] else MOVED_BACK for row in rows]
        _put(delta.moved, rows, walk.flag(kinds, _of(said, "moved", rows), len(rows)))
        asked = []
        for row in rows:
            if shown[row] and not delta.moved[row]:
                delta.labelled[row] = 1
            else:
                asked.append(row)
        kinds = [LABELLED + sure[row] for row in asked]
        _put(delta.labelled, asked, walk.flag(kinds, _of(said, "labelled", asked), len(asked)))

    def _score_classes(self, held: Held) -> list[int]:
        """How sure each object is: 0 to SCORE_CLASSES - 1."""
        return [score * SCORE_CLASSES // (len(self.layout.score_edges) + 1) for score in held.scores]

    def _motion(self, walk: _Walk, reference: SceneState, delta: Said, said: Said | None) -> None:
        rows = [row for row, value in enumerate(delta.moved) if value]
        _put(delta.steered, rows, walk.flag(STEERED, _of(said, "steered", rows), len(rows)))
        steered = [row for row in rows if delta.steered[row]]
        asked = None if said is None else [value for row in steered for value in said.speed[row]]
        speeds = walk.residual(SPEED_ROW, asked, 2 * len(steered))
        for place, row in enumerate(steered):
            delta.speed[row] = speeds[2 * place : 2 * place + 2]
            if not any(delta.speed[row]):
                raise _refused(f"object {row}: velocity changes by 0 and 0, {_ONE}")
        for axis, scale in enumerate(reference.scales[:4]):
            part = delta.place if axis < 2 else delta.size
            told = None if said is None else (said.place if axis < 2 else said.size)
            wanted = None if told is None else [told[row][axis % 2] for row in rows]
            for row, value in zip(rows, walk.residual(scale_row(scale), wanted, len(rows)), strict=True):
                part[row][axis % 2] = value
        for row in rows:
            if not (any(delta.place[row]) or any(delta.size[row]) or delta.steered[row]):
                raise _refused(f"object {row}: place and size change by 0, and its velocity does not, {_ONE}")

    def _labels(self, walk: _Walk, held: Held, delta: Said, said: Said | None) -> None:
        rows = [row for row, value in enumerate(delta.labelled) if value]
        if self.levels > 1:
            kinds = [RENAMED + delta.moved[row] for row in rows]
            wanted = None if said is None else [int(said.renamed[row] > 0) for row in rows]
            for row, value in zip(rows, walk.flag(kinds, wanted, len(rows)), strict=True):
                delta.renamed[row] = 2 * value
        could = [row for row in rows if delta.renamed[row] and held.named[row] < self.levels - 1]
        wanted = None if said is None else [int(said.renamed[row] == 1) for row in could]
        for row, value in zip(could, walk.flag(DEEPER, wanted, len(could)), strict=True):
            if value:
                delta.renamed[row] = 1
        beside = [
            WITH_NAME if delta.renamed[row] else WITH_PLACE if delta.moved[row] or delta.toggled[row] else ALONE
            for row in rows
        ]
        _put(delta.score, rows, walk.residual(beside, _of(said, "score", rows), len(rows), "score_change"))
        most = len(self.layout.score_edges)
        for row in rows:
            score = held.scores[row] + delta.score[row]
            if not 0 <= score <= most:
                raise _refused(f"object {row}: score {score}, expected 0 to {most}")
            if not delta.renamed[row] and not delta.score[row]:
                raise _refused(f"object {row}: score changes by 0, and its name does not, {_ONE}")

    def _births(self, walk: _Walk, held: Held, delta: Said, said: Said | None) -> None:
        layout, tables, get = self.layout, self.stream.tables, walk.io.code
        born = None if said is None else said.born
        if not walk.flag(BORN, None if born is None else [int(len(born) > 0)], 1)[0]:
            return
        count = get(fixed_tables()["more"], 0, None if born is None else [len(born) - 1], 1)[0] + 1
        already = len(held.hidden)
        if count + already > layout.max_objects:
            raise _refused(f"{count} new objects beside {already}, expected at most {layout.max_objects} together")
        column = lambda place: None if born is None else [one[place] for one in born]  # noqa: E731
        cells = get(self._cells, 0, column(0), count)
        for number, (before, cell) in enumerate(pairwise(cells), 1):
            if cell <= before:
                raise _refused(f"new object {number}: cell {cell}, expected more than {before}")
        bands = [cell // layout.columns * ROW_BANDS // layout.rows for cell in cells]
        width = get(tables["width"], bands, column(1), count)
        height = get(tables["height"], width, column(2), count)
        across = get(tables["offset_x"], width, column(3), count)
        down = get(tables["offset_y"], height, column(4), count)
        scores = get(tables["score"], width, column(5), count)
        delta.born = [list(one) for one in zip(cells, width, height, across, down, scores, strict=True)]
        delta.born_path = [[UNNAMED] * (self.levels - 1) for _ in cells]

    def _names(self, io: _Coder, held: Held, delta: Said, said: Said | None) -> None:
        """The names of relabelled and of new objects, level by level."""
        if self._depth is None:
            return
        kept = len(held.hidden)
        anew = [row for row, value in enumerate(delta.renamed) if value == 2]
        changing = [row for row, value in enumerate(delta.renamed) if value]
        changing += range(kept, kept + len(delta.born))
        if not changing:
            return
        full, wanted = [*delta.path, *delta.born_path], None if said is None else [*said.path, *said.born_path]
        depth = [*held.named, *([0] * len(delta.born))]
        for row in changing:
            depth[row] += row < kept and delta.renamed[row] == 1
        for row in anew:
            full[row] = delta.path[row] = [UNNAMED] * (self.levels - 1)
        rows = [*anew, *range(kept, kept + len(delta.born))]
        if rows:
            asked = None if wanted is None else [sum(node != UNNAMED for node in wanted[row]) for row in rows]
            _put(depth, rows, io.code(self._depth, 0, asked, len(rows)))
        logs = held.state.logs.tolist()
        sizes = {
            row: [bisect_right(self._middles, log) for log in logs[row]] if row < kept else delta.born[row - kept][1:3]
            for row in changing
        }
        for level in range(1, self.levels):
            at = [row for row in changing if depth[row] >= level and full[row][level - 1] == UNNAMED]
            if not at:
                continue
            above = [full[row][level - 2] if level > 1 else 0 for row in at]
            places = [self.stream.name_row(node, *sizes[row]) for node, row in zip(above, at, strict=True)]
            told = None if wanted is None else [self._places[level][wanted[row][level - 1]] for row in at]
            found = io.code(self.stream.tables[f"name_{level}"], places, told, len(at))
            for row, parent, symbol in zip(at, above, found, strict=True):
                children = self._children[level][parent]
                if symbol >= len(children):
                    raise _refused(f"object {row}: child {symbol} at level {level}, expected less than {len(children)}")
                full[row][level - 1] = children[symbol]
        for row in changing:
            if row < kept:
                delta.named[row] = depth[row]
                if depth[row] == held.named[row] and full[row] == held.path[row]:
                    raise _refused(f"object {row}: renamed to {full[row]}, expected another name than it has")

    def _after(self, opening: _Opening, held: Held, delta: Said, walk: _Walk) -> SceneState:
        """The remembered objects after the delta, then the new ones."""
        reference, elapsed, state = opening.reference, opening.elapsed, held.state
        shift = [
            step * SHIFT_STEP + (delta.pans * speed * elapsed >> 10)
            for step, speed in zip(delta.shift, reference.camera.tolist(), strict=True)
        ]
        table: list[list[int]] = []
        for row, (touched, centre, sides, velocity, before, told) in enumerate(
            zip(
                delta.touched, state.centre.tolist(), state.sides.tolist(), state.velocity.tolist(),
                state.logs.tolist(), state.told.tolist(), strict=True,
            )
        ):  # fmt: skip
            places, speeds, logs = [], [], []
            for axis in (0, 1):
                side, speed = sides[axis], velocity[axis]
                if touched:
                    speed = _held(speed + (delta.speed[row][axis] * side * SPEED_STEP >> 8))
                place = _between(centre[axis] + shift[axis] + (speed * elapsed >> 10), 0, self.edge[axis])
                places.append(_between(place + (delta.place[row][axis] * side * PLACE_STEP >> 8), 0, self.edge[axis]))
                speeds.append(speed)
                grown = before[axis] + delta.size[row][axis] * LOG_STEP
                logs.append(_between(grown, _LEAST_LOG, _MOST_LOG))
            hidden = held.hidden[row]
            if delta.toggled[row]:
                hidden = 0 if hidden else 1
            table.append([
                *places, *logs, *speeds, held.scores[row] + delta.score[row], delta.named[row],
                0 if delta.renamed[row] == 2 else told, hidden,
                *delta.path[row],
            ])  # fmt: skip
        known = state.table[:, 9 + self.levels :].copy()
        known[np.array(delta.renamed, np.int64) == 2] = 0  # they were known beside another name
        latents = np.concatenate([known, np.zeros((len(delta.born), known.shape[1]), np.int64)])
        for (cell, *symbols), below in zip(delta.born, delta.born_path, strict=True):
            logs = [self._logs[symbol] for symbol in symbols[:2]]
            named = sum(node != UNNAMED for node in below)
            centre = self._born_centre(cell, logs, symbols[2:4])
            table.append([*centre, *logs, 0, 0, symbols[4], named, 0, 0, *below])
        scales = list(reference.scales)
        moved = [row for row, value in enumerate(delta.moved) if value]
        axes = [[part[row][axis] for row in moved] for part in (delta.place, delta.size) for axis in (0, 1)]
        for place, values in enumerate([*axes, [split_shift(value)[1] for value in delta.shift]]):
            for value in values:
                scales[place] += (16 * abs(value) - scales[place]) >> _SCALE_SHIFT
        return opening.state(
            np.concatenate([np.array(table, np.int64).reshape(-1, 9 + self.levels), latents], axis=1),
            walk.learned(),
            tuple(_between(scale, 2, 16 * REACH) for scale in scales),
            [_held((value << 10) // elapsed) for value in shift],
        )


@dataclass(frozen=True, slots=True)
class _Opening:
    """How a delta begins, of a frame with this number and stamp: with its reference, so many frames and ms older."""

    reference: SceneState
    distance: int
    check: int
    frame: int
    stamp: int
    elapsed: int

    @property
    def given(self) -> tuple[Numbers, list[int], tuple[int, ...], tuple[int, ...], int]:
        """What the compiled walk goes by."""
        reference = self.reference
        return reference.table, reference.camera.tolist(), reference.flags, reference.scales, self.elapsed

    def state(
        self,
        table: Numbers,
        flags: tuple[int, ...],
        scales: tuple[int, ...],
        camera: list[int],
    ) -> SceneState:
        """The state after the delta."""
        widths = [group.shape[1] for group in self.reference.latents]
        return SceneState.of_table(
            table, widths, frame=self.frame, stamp=self.stamp, camera=np.array(camera, np.int64), flags=flags,
            scales=scales,
        )  # fmt: skip


def _of(said: Said | None, part: str, rows: list[int]) -> list[int] | None:
    """What is said of these objects in one field; None where a delta is read."""
    if said is None:
        return None
    values = getattr(said, part)
    return [values[row] for row in rows]


def _put(values: list[int], rows: list[int], found: list[int]) -> None:
    for row, value in zip(rows, found, strict=True):
        values[row] = value


def _between(value: int, least: int, most: int) -> int:
    return min(max(value, least), most)


def _held(speed: int) -> int:
    return _between(speed, -64 * UNIT, 64 * UNIT)


_ONE = "expected one at least that is not 0"


def _refused(what: str) -> BlockError:
    """That no encoder says this: of which object, by its place in the reference and, of new ones, behind those."""
    return BlockError(f"delta: {what}")


def _cell_weights(stream: SceneStream) -> list[int]:
    """How likely a single object lies in each cell: the odds that the model's own table of few objects gives it."""
    layout: SceneLayout = stream.layout
    rows = stream.occupancy_rows[layout.count_class(8)]
    odds = stream.tables["occupancy"].frequencies.astype(np.int64)
    return [(int(object_) << 24) // int(empty) + 1 for empty, object_ in odds[rows]]
