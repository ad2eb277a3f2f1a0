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
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal, localcontext
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.entropy import PRECISION, BlockDecoder, BlockEncoder, BlockError, Tables
from semhier_ros.codec.packet import UnknownReference
from semhier_ros.scene.layout import UNNAMED, Flags, Ints, SceneCode, SceneLayout
from semhier_ros.scene.stream import SceneStream

Numbers = NDArray[np.int64]
UNIT = 256
LOG_UNIT = 1024
MOST_FRAMES = 64
"""A reference lies at most so many frame numbers back; neither end keeps states for longer."""
MOST_MS = 4000
"""A reference is at most so old."""
HIDDEN_MS = 1000
"""An object that was not seen for longer is forgotten."""
STAMP_BITS = 40
REACH = 63
"""Residuals lie within -REACH..REACH."""
PLACE_STEP, SPEED_STEP, LOG_STEP, SHIFT_STEP = 32, 64, 128, 16
"""A residual of 1 moves a centre by 1/8 of the object's side, its speed by 1/4 side a 1024 ms, a side's logarithm by
1/8, and the whole picture by 1/16 of a cell."""
_LOG_LOW, _LOG_STEPS, _LOG_COUNT = -3, 32, 288
FLAG_ROWS = 64
_FLAG_SHIFT = 4  # a flag moves the expectation of its kind by 1/16 of the way
SCALE_ROWS = 24
_SCALE_SHIFT = 3

# kinds of flags: how likely each is at the start, of 65,536
PANS, TOUCHED, BACK, HIDES, MOVED, MOVED_BACK, LABELLED, STEERED, BORN, RENAMED, DEEPER, FAR = (
    0, 1, 13, 16, 17, 18, 19, 20, 21, 22, 23, 24,
)  # fmt: skip
START = (
    7000,  # the camera goes on as it did
    11000, 16000, 20000, 24000, 28000, 32000, 24000, 30000, 36000, 32000, 38000, 44000,  # touched: 4 habits, 3 ages
    20000, 10000, 5000,  # a hidden one is back: 3 ages
    14000,  # a touched one is hidden from now on
    54000, 47000, 11000, 4000, 26000, 27000, 40000,  # moved, moved and back, labelled, steered, born, renamed, deeper
    2000,  # the picture moved far
)  # fmt: skip
START_SCALES = (21, 8, 15, 10, 35)
"""Expected residuals of places across and down, of widths and heights, and of the picture's shift, in 1/16."""
SPEED_ROW, SCORE_ROW, FAR_ROW = 6, 5, 4


@dataclass(frozen=True)
class SceneState:
    """What both ends know of a scene after one frame. Arrays have a row an object.

    frame: its number. stamp: the low 40 bits of its stamp in ns. centre n,2; logs n,2: of width and height in cells;
    velocity n,2: without the camera's. scores n: score symbols. named n: levels below the first that are named; path
    n,levels-1: nodes, UNNAMED beyond. told n: latent groups that are known; latents: of each group n,d, 0 where not
    known. hidden n: ms since it was last shown, 0 while it is. habit n: how often it was touched lately (of 256).
    camera 2: the speed at which the whole picture moved. flags, scales: expectations of flags (of 65,536) and of
    residuals (in 1/16).
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
    habit: Numbers
    camera: Numbers
    flags: tuple[int, ...] = START
    scales: tuple[int, ...] = START_SCALES

    def __len__(self) -> int:
        return len(self.scores)

    @cached_property
    def check(self) -> int:
        """A byte of a CRC-32 over all that the state says."""
        value = zlib.crc32(self.frame.to_bytes(2, "big") + self.stamp.to_bytes(5, "big"))
        for part in (*self._rows, self.camera, np.array(self.flags), np.array(self.scales)):
            value = zlib.crc32(np.ascontiguousarray(part, "<i4").tobytes(), value)
        return value & 0xFF

    @property
    def _rows(self) -> tuple[Numbers, ...]:
        return (
            self.centre, self.logs, self.velocity, self.scores, self.named, self.path, self.told, self.hidden,
            self.habit, *self.latents,
        )  # fmt: skip

    def take(self, rows: NDArray[np.intp] | Flags) -> SceneState:
        """The same state with only some of its objects."""
        return replace(
            self,
            centre=self.centre[rows],
            logs=self.logs[rows],
            velocity=self.velocity[rows],
            scores=self.scores[rows],
            named=self.named[rows],
            path=self.path[rows],
            told=self.told[rows],
            latents=tuple(group[rows] for group in self.latents),
            hidden=self.hidden[rows],
            habit=self.habit[rows],
        )

    @property
    def sides(self) -> Numbers:
        """Width and height n,2 in 1/256 of a cell."""
        return side_lengths(self.logs)


def side_lengths(logs: Numbers) -> Numbers:
    """Sides in 1/256 of a cell from their logarithms."""
    places = (logs - _LOG_LOW * LOG_UNIT) * _LOG_STEPS // LOG_UNIT
    return _sides()[np.clip(places, 0, _LOG_COUNT - 1)]


@lru_cache(maxsize=1)
def _sides() -> Numbers:
    """Lengths whose logarithms are -3, -3 + 1/32 …: made in decimal arithmetic, which no machine's exp rounds."""
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
    """The tables that every model shares: `flag` (64 rows over no/yes), `residual` (24 rows over -63…63), `distance`
    (of the reference), `check` (all alike), `more` (new objects after the first)."""
    flag = [[(1 << PRECISION) - odd, odd] for odd in ((2 * row + 1) << (PRECISION - 7) for row in range(FLAG_ROWS))]
    residual = []
    for row in range(SCALE_ROWS):
        # two-sided geometric: each step further is `keep` / 256 as likely; its mean size is about (row + 1)² / 16
        keep, weight, side = 256 * (row + 1) ** 2 // ((row + 1) ** 2 + 16), 1 << 30, []
        for _ in range(REACH + 1):
            side.append(weight)
            weight = weight * keep >> 8
        residual.append(normalised([*reversed(side[1:]), *side]))
    return {
        "flag": Tables(np.array(flag)),
        "residual": Tables(np.array(residual)),
        "distance": Tables(np.array([normalised([(1 << 20) // (far + 4) ** 2 for far in range(MOST_FRAMES)])])),
        "check": Tables(np.full((1, 256), 1 << (PRECISION - 8))),
        "more": Tables(np.array([normalised([1 << max(0, 24 - 2 * k) for k in range(64)])])),
    }


def split_shift(shift: Numbers) -> tuple[Numbers, Numbers]:
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
    """Puts symbols into a block, and hands back what was put."""

    def __init__(self) -> None:
        self.coder, self.part = BlockEncoder(), ""

    def code(self, tables: Tables, rows: NDArray | int, values: NDArray | None, count: int | None = None) -> Numbers:
        assert values is not None
        self.coder.put(values, tables, rows)
        return np.asarray(values, np.int64)


class _Parser:
    """Gets symbols out of a block."""

    def __init__(self, data: bytes) -> None:
        self.coder, self.part = BlockDecoder(data, exact=True), ""

    def code(self, tables: Tables, rows: NDArray | int, values: NDArray | None, count: int | None = None) -> Numbers:
        return self.coder.get(tables, rows, count).astype(np.int64)


class _Weigher:
    """Weighs the symbols of a delta: `bits` is their ideal cost by the part of the delta that they stand in."""

    def __init__(self) -> None:
        self.bits: dict[str, float] = defaultdict(float)
        self.part = ""

    def code(self, tables: Tables, rows: NDArray | int, values: NDArray | None, count: int | None = None) -> Numbers:
        assert values is not None
        self.bits[self.part] += tables.cost_bits(values, rows)
        return np.asarray(values, np.int64)


_Coder = _Writer | _Parser | _Weigher


@dataclass
class _Walk:
    """One way through a delta's symbols, the same for writing and for reading; flags learn as they go by."""

    io: _Coder
    flags: tuple[int, ...]
    seen: list[tuple[int, int]] = field(default_factory=list)

    def flag(self, kinds: NDArray | int, values: NDArray | None, count: int) -> Numbers:
        """Flags of these kinds (one for all, or one each)."""
        each = np.full(count, kinds) if isinstance(kinds, int) else np.asarray(kinds)
        if not count:
            return np.zeros(0, np.int64)
        rows = np.array(self.flags)[each] * FLAG_ROWS >> 16
        found = self.io.code(fixed_tables()["flag"], rows, values)
        self.seen += zip(each.tolist(), found.tolist(), strict=True)
        return found

    def residual(self, row: int, values: NDArray | None, shape: tuple[int, ...]) -> Numbers:
        """Residuals by one row."""
        count = int(np.prod(shape))
        if not count:
            return np.zeros(shape, np.int64)
        put = None if values is None else np.ravel(values) + REACH
        return (self.io.code(fixed_tables()["residual"], row, put, count) - REACH).reshape(shape)

    def learned(self) -> tuple[int, ...]:
        """What flags are expected to be from now on."""
        flags = list(self.flags)
        for kind, value in self.seen:
            flags[kind] += ((value << 16) - flags[kind]) >> _FLAG_SHIFT
        return tuple(min(max(value, 512), 65_535 - 512) for value in flags)


class DeltaCodec:
    """States and deltas of one model's scenes: `whole`, `forecast`, `encode`, `decode`."""

    def __init__(self, stream: SceneStream) -> None:
        self.stream, self.layout, self.levels = stream, stream.layout, stream.levels
        layout = self.layout
        self._logs = np.rint((layout.size_low + layout.size_step * np.arange(layout.size_levels)) * LOG_UNIT).astype(
            np.int64
        )
        self._offset_step = round(layout.offset_step * LOG_UNIT)
        self._tables = {
            "cell": Tables(np.array([normalised(_cell_weights(stream))])),
            "depth": Tables(np.array([normalised([1] * (self.levels - 1) + [8 * max(1, self.levels - 1)])]))
            if self.levels > 1
            else None,
        }

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
        logs = self._logs[code.sizes]
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
            habit=zeros + 96,
            camera=np.zeros(2, np.int64),
        )

    def _inside(self, centre: Numbers) -> Numbers:
        return np.clip(centre, 0, np.array([self.layout.columns, self.layout.rows]) * UNIT)

    def elapsed(self, reference: SceneState, stamp_ns: int) -> int:
        """Milliseconds from a state's frame to that of `stamp_ns`; negative or large where it is no later one."""
        half = 1 << (STAMP_BITS - 1)
        return ((stamp_ns - reference.stamp + half) % (1 << STAMP_BITS) - half) // 1_000_000

    def waiting(self, reference: SceneState, stamp_ns: int) -> SceneState:
        """The objects of a state that are still remembered at `stamp_ns`, not yet moved, `hidden` grown."""
        elapsed = self.elapsed(reference, stamp_ns)
        hidden = np.where(reference.hidden > 0, reference.hidden + elapsed, 0)
        kept = np.flatnonzero(hidden <= HIDDEN_MS)
        state = reference.take(kept)
        return replace(state, hidden=hidden[kept])

    def shift(self, reference: SceneState, elapsed: int, pans: int, steps: Numbers) -> Numbers:
        """How far the whole picture moved since the reference: as told, beside the pan that goes on."""
        return steps * SHIFT_STEP + (pans * reference.camera * elapsed >> 10)

    def moved(self, state: SceneState, elapsed: int, shift: Numbers) -> Numbers:
        """Where the centres of a state are `elapsed` ms later, in a picture that moved by `shift`."""
        return self._inside(state.centre + shift + (state.velocity * elapsed >> 10))

    def size_symbols(self, logs: Numbers) -> Ints:
        """The size symbols nearest to logarithms of sides."""
        middles = (self._logs[1:] + self._logs[:-1]) // 2
        return np.searchsorted(middles, logs, side="right").astype(np.int32)

    # -- deltas -------------------------------------------------------------------------------------------------------

    def encode(self, reference: SceneState, delta: Delta, frame: int, stamp_ns: int) -> tuple[bytes, SceneState]:
        """A delta's bytes, and the state that they lead to."""
        writer = _Writer()
        state, _ = self._pass(writer, lambda distance, check: reference, delta, frame, stamp_ns)
        return writer.coder.finish(), state

    def costs(self, reference: SceneState, delta: Delta, frame: int, stamp_ns: int) -> dict[str, float]:
        """Ideal bits of what a delta says, by what that is."""
        weigher = _Weigher()
        self._pass(weigher, lambda distance, check: reference, delta, frame, stamp_ns)
        return dict(weigher.bits)

    def decode(
        self, data: bytes, find: Callable[[int, int], SceneState | None], frame: int, stamp_ns: int
    ) -> SceneState:
        """The state that a delta's bytes lead to. find(frame number, check): the state that it refers to, or None.

        Raises:
            UnknownReference: `find` knows none. BlockError: no encoder made these bytes for that state.
        """
        parser = _Parser(data)
        state, _ = self._pass(parser, find, None, frame, stamp_ns)
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
        state, said = self._pass(parser, first, None, frame, stamp_ns)
        parser.coder.finish()
        said.check = found[0][1].check
        made, twin = self.encode(found[0][1], said, frame, stamp_ns + later_ns)
        return made, (state, twin)

    def _pass(
        self,
        io: _Coder,
        find: Callable[[int, int], SceneState | None],
        said: Delta | None,
        frame: int,
        stamp_ns: int,
    ) -> tuple[SceneState, Delta]:
        tables = fixed_tables()
        io.part = "reference"
        head = None if said is None else np.array([said.distance - 1])
        distance = int(io.code(tables["distance"], 0, head)[0]) + 1
        check = int(io.code(tables["check"], 0, None if said is None else np.array([said.check]))[0])
        reference = find((frame - distance) & 0xFFFF, check)
        if reference is None:
            raise UnknownReference(f"delta: frame {(frame - distance) & 0xFFFF} with check {check:#04x} is not known")
        elapsed = self.elapsed(reference, stamp_ns)
        if not 0 < elapsed <= MOST_MS:
            raise BlockError(f"delta: {elapsed} ms after its reference, 1 to {MOST_MS} expected")
        state = self.waiting(reference, stamp_ns)
        delta = Delta.nothing(reference, frame, len(state), self.levels)
        delta.distance = distance
        walk = _Walk(io, reference.flags)
        io.part = "picture's motion"
        self._camera(walk, reference, delta, said)
        io.part = "what is touched"
        self._touched(walk, state, elapsed, delta, said)
        io.part = "place and size"
        self._motion(walk, state, delta, said)
        io.part = "scores"
        self._labels(walk, state, delta, said)
        io.part = "new objects"
        self._births(walk, state, delta, said)
        io.part = "names"
        self._names(io, state, delta, said)
        return self._after(state, delta, frame, stamp_ns, elapsed, walk), delta

    def _camera(self, walk: _Walk, reference: SceneState, delta: Delta, said: Delta | None) -> None:
        if reference.camera.any():
            delta.pans = int(walk.flag(PANS, None if said is None else np.array([said.pans]), 1)[0])
        told = None if said is None else split_shift(said.shift)
        far = walk.flag(FAR, None if told is None else np.array([told[0].any()], int), 1)[0]
        steps = walk.residual(FAR_ROW, None if told is None else told[0], (2,)) if far else np.zeros(2, np.int64)
        rest = walk.residual(scale_row(reference.scales[4]), None if told is None else told[1], (2,))
        _refuse(bool(far) and not steps.any(), "a picture that moved far by nothing")
        _refuse(bool((np.abs(rest) > REACH // 2).any()), "a picture that moved in two ways")
        delta.shift = REACH * steps + rest

    def _touched(self, walk: _Walk, state: SceneState, elapsed: int, delta: Delta, said: Delta | None) -> None:
        shown = state.hidden == 0
        age = int(np.searchsorted((250, 500), elapsed, side="right"))
        habit = np.searchsorted((64, 112, 160), state.habit, side="right")
        gone = np.searchsorted((elapsed + 100, elapsed + 400), state.hidden, side="right")
        kinds = np.where(shown, TOUCHED + 3 * habit + age, BACK + gone)
        delta.touched = walk.flag(kinds, None if said is None else said.touched, len(state))
        rows = np.flatnonzero((delta.touched == 1) & shown)
        delta.toggled[rows] = walk.flag(HIDES, None if said is None else said.toggled[rows], len(rows))
        delta.toggled[(delta.touched == 1) & ~shown] = 1
        rows = np.flatnonzero((delta.touched == 1) & ~(shown & (delta.toggled == 1)))
        kinds = np.where(shown[rows], MOVED, MOVED_BACK)
        delta.moved[rows] = walk.flag(kinds, None if said is None else said.moved[rows], len(rows))
        sure = rows[shown[rows] & (delta.moved[rows] == 0)]
        delta.labelled[sure] = 1
        rows = np.setdiff1d(rows, sure)
        delta.labelled[rows] = walk.flag(LABELLED, None if said is None else said.labelled[rows], len(rows))

    def _motion(self, walk: _Walk, state: SceneState, delta: Delta, said: Delta | None) -> None:
        rows = np.flatnonzero(delta.moved)
        delta.steered[rows] = walk.flag(STEERED, None if said is None else said.steered[rows], len(rows))
        steered = np.flatnonzero(delta.steered)
        delta.speed[steered] = walk.residual(
            SPEED_ROW, None if said is None else said.speed[steered], (len(steered), 2)
        )
        for axis, scale in enumerate(state.scales[:4]):
            part = "place" if axis < 2 else "size"
            wanted = None if said is None else getattr(said, part)[rows, axis % 2]
            getattr(delta, part)[rows, axis % 2] = walk.residual(scale_row(scale), wanted, (len(rows),))
        _refuse(bool((~delta.speed[steered].any(axis=1)).any()), "a velocity that changes by nothing")
        told = delta.place[rows].any(axis=1) | delta.size[rows].any(axis=1) | (delta.steered[rows] == 1)
        _refuse(not told.all(), "an object that moves by nothing")

    def _labels(self, walk: _Walk, state: SceneState, delta: Delta, said: Delta | None) -> None:
        rows = np.flatnonzero(delta.labelled)
        delta.score[rows] = walk.residual(SCORE_ROW, None if said is None else said.score[rows], (len(rows),))
        scores = state.scores[rows] + delta.score[rows]
        _refuse(bool(((scores < 0) | (scores > len(self.layout.score_edges))).any()), "a score outside its classes")
        if self.levels == 1:
            _refuse(not delta.score[rows].all(), "a label that changes by nothing")
            return
        new = walk.flag(RENAMED, None if said is None else (said.renamed[rows] > 0).astype(int), len(rows))
        _refuse(bool(((new == 0) & (delta.score[rows] == 0)).any()), "a label that changes by nothing")
        named = rows[new == 1]
        could = named[state.named[named] < self.levels - 1]
        deeper = walk.flag(DEEPER, None if said is None else (said.renamed[could] == 1).astype(int), len(could))
        delta.renamed[named] = 2
        delta.renamed[could[deeper == 1]] = 1

    def _births(self, walk: _Walk, state: SceneState, delta: Delta, said: Delta | None) -> None:
        born = None if said is None else said.born
        layout, stream, tables = self.layout, self.stream, self.stream.tables
        if not walk.flag(BORN, None if born is None else np.array([len(born) > 0], int), 1)[0]:
            return
        more = None if born is None else np.array([len(born) - 1])
        count = int(walk.io.code(fixed_tables()["more"], 0, more)[0]) + 1
        _refuse(count + len(state) > layout.max_objects, f"{count} new objects beside {len(state)}")
        part = lambda values: None if born is None else values(born)  # noqa: E731
        get = walk.io.code
        cells = get(self._tables["cell"], 0, part(lambda b: b.cells), count).astype(np.int32)  # type: ignore[arg-type]
        _refuse(bool((np.diff(cells) <= 0).any()), "new objects out of order")
        width = get(tables["width"], stream.band(cells), part(lambda b: b.sizes[:, 0]))
        height = get(tables["height"], width, part(lambda b: b.sizes[:, 1]))
        across = get(tables["offset_x"], width, part(lambda b: b.offsets[:, 0]))
        down = get(tables["offset_y"], height, part(lambda b: b.offsets[:, 1]))
        scores = get(tables["score"], width, part(lambda b: b.scores))
        narrow = lambda *columns: np.stack(columns, axis=1).astype(np.int32)  # noqa: E731
        delta.born = SceneCode(
            cells, narrow(width, height), narrow(across, down), scores.astype(np.int32),
            path=[np.zeros(count, np.int32), *(np.full(count, UNNAMED, np.int32) for _ in range(1, self.levels))],
        )  # fmt: skip

    def _names(self, io: _Coder, state: SceneState, delta: Delta, said: Delta | None) -> None:
        """The names of relabelled and of new objects, level by level."""
        if self.levels == 1:
            return
        deeper, anew = np.flatnonzero(delta.renamed == 1), np.flatnonzero(delta.renamed == 2)
        count = len(delta.born)
        wanted = None
        if said is not None:
            wanted = np.concatenate([said.path, np.stack(said.born.path[1:], axis=1)]) if count else said.path
        depth = np.concatenate([state.named, np.zeros(count, np.int64)])
        depth[deeper] += 1
        rows = np.concatenate([anew, len(state) + np.arange(count)])
        if len(rows):
            asked = None if wanted is None else (wanted[rows] != UNNAMED).sum(axis=1)
            table = self._tables["depth"]
            assert table is not None
            depth[rows] = io.code(table, 0, asked, len(rows))
        path = np.concatenate([state.path, np.full((count, self.levels - 1), UNNAMED, np.int64)])
        path[anew] = UNNAMED
        sizes = np.concatenate([self.size_symbols(state.logs), delta.born.sizes]).astype(np.int32)
        full = np.concatenate([np.zeros((len(path), 1), np.int64), path], axis=1).astype(np.int32)
        changing = np.concatenate([delta.renamed > 0, np.ones(count, bool)])
        for level in range(1, self.levels):
            at = np.flatnonzero(changing & (depth >= level) & (full[:, level] == UNNAMED))
            if not len(at):
                continue
            part = SceneCode(at, sizes[at], sizes[at], at, path=[full[at, k] for k in range(level)])
            if wanted is not None:
                part.path.append(wanted[at, level - 1].astype(np.int32))
                symbols = self.stream.name_symbols(level, part)
            else:
                symbols = None
            found = io.code(self.stream.tables[f"name_{level}"], self.stream.name_rows(level, part), symbols)
            for row, symbol in zip(at.tolist(), found.tolist(), strict=True):
                children = self.layout.children(level, int(full[row, level - 1]))
                _refuse(symbol >= len(children), f"child {symbol} of a node with {len(children)}")
                full[row, level] = children[symbol]
        kept = len(state)
        delta.named, delta.path = depth[:kept], full[:kept, 1:].astype(np.int64)
        same = (delta.named == state.named) & (delta.path == state.path).all(axis=1)
        _refuse(bool((same & (delta.renamed > 0)).any()), "a name that changes by nothing")
        for level in range(1, self.levels):
            delta.born.path[level] = full[kept:, level].astype(np.int32)

    def _after(
        self, state: SceneState, delta: Delta, frame: int, stamp_ns: int, elapsed: int, walk: _Walk
    ) -> SceneState:
        """A waiting state's objects after the delta, then the new ones."""
        sides = state.sides
        shift = self.shift(state, elapsed, delta.pans, delta.shift)
        velocity = _held(state.velocity + (delta.speed * sides * SPEED_STEP >> 8))
        going = replace(state, velocity=velocity, camera=_held((shift << 10) // elapsed))
        centre = self._inside(self.moved(going, elapsed, shift) + (delta.place * sides * PLACE_STEP >> 8))
        low, high = _LOG_LOW * LOG_UNIT, (_LOG_COUNT // _LOG_STEPS + _LOG_LOW) * LOG_UNIT
        toggled = delta.toggled == 1
        scales = list(state.scales)
        told = delta.moved == 1
        axes = [*delta.place[told].T, *delta.size[told].T, split_shift(delta.shift)[1]]
        for place, part in enumerate(axes):
            for value in np.abs(part).tolist():
                scales[place] += (16 * value - scales[place]) >> _SCALE_SHIFT
        anew = delta.renamed == 2  # what was known of its looks was known beside another name
        after = replace(
            going,
            told=np.where(anew, 0, state.told),
            latents=tuple(np.where(anew[:, None], 0, group) for group in state.latents),
            frame=frame & 0xFFFF,
            stamp=stamp_ns & ((1 << STAMP_BITS) - 1),
            centre=centre,
            logs=np.clip(state.logs + delta.size * LOG_STEP, low, high),
            scores=state.scores + delta.score,
            named=np.where(delta.renamed > 0, delta.named, state.named),
            path=np.where((delta.renamed > 0)[:, None], delta.path, state.path),
            hidden=np.where(toggled, np.where(state.hidden > 0, 0, 1), state.hidden),
            habit=state.habit + ((delta.touched * 256 - state.habit) >> 2),
            flags=walk.learned(),
            scales=tuple(min(max(scale, 2), 16 * REACH) for scale in scales),
        )
        count = len(delta.born)
        if not count:
            return after
        new = self._born(
            delta.born, self.levels - 1, frame, stamp_ns, np.zeros(count, np.int64),
            [np.zeros((count, width), np.int64) for width in self.layout.latents],
        )  # fmt: skip
        both = lambda name: np.concatenate([getattr(after, name), getattr(new, name)])  # noqa: E731
        names = ("centre", "logs", "velocity", "scores", "named", "path", "told", "hidden", "habit")
        latents = tuple(np.concatenate(pair) for pair in zip(after.latents, new.latents, strict=True))
        return replace(after, latents=latents, **{name: both(name) for name in names})


def _held(speed: Numbers) -> Numbers:
    return np.clip(speed, -64 * UNIT, 64 * UNIT)


def _refuse(wrong: bool, what: str) -> None:
    if wrong:
        raise BlockError(f"delta: {what}")


def _cell_weights(stream: SceneStream) -> list[int]:
    """How likely a single object lies in each cell: the odds that the model's own table of few objects gives it."""
    layout: SceneLayout = stream.layout
    rows = stream.occupancy_rows[layout.count_class(8)]
    odds = stream.tables["occupancy"].frequencies.astype(np.int64)
    return [(int(object_) << 24) // int(empty) + 1 for empty, object_ in odds[rows]]
