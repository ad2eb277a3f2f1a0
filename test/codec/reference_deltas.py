"""A reader of deltas written from docs/bitstream.md alone ("Delta"), in plain integers: slow, obvious, independent of
ours."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, getcontext
from pathlib import Path
from typing import Any

from reference_coder import ReferenceDecoder
from safetensors.numpy import load_file

UNNAMED = -1
FLAGS_AT_FIRST = (
    8000, 42000, 54000, 57000, 44000, 58000, 60000, 30000, 50000, 55000, 18000, 41000, 49000, 12000, 7500, 5000, 45000,
    28000, 9000, 1000, 54000, 52000, 40000, 30000, 24000, 17000, 3000, 30000, 27000, 39000, 56000, 1000,
)  # fmt: skip
SCALES_AT_FIRST = (22, 9, 14, 9, 40)


class DamagedDelta(ValueError):
    """No encoder writes this."""


@dataclass
class Thing:
    """An object of a state."""

    centre: list[int]
    logs: list[int]
    velocity: list[int]
    score: int
    path: list[int]
    told: int
    latents: list[list[int]]
    hidden: int = 0

    @property
    def named(self) -> int:
        return sum(node != UNNAMED for node in self.path)


@dataclass
class State:
    """What both ends know after a frame."""

    frame: int
    stamp: int
    things: list[Thing]
    camera: tuple[int, int] = (0, 0)
    flags: tuple[int, ...] = FLAGS_AT_FIRST
    scales: tuple[int, ...] = SCALES_AT_FIRST

    @property
    def check(self) -> int:
        things, numbers = self.things, []
        for column in (lambda one: one.centre, lambda one: one.logs, lambda one: one.velocity):
            numbers += [value for one in things for value in column(one)]
        numbers += [one.score for one in things] + [one.named for one in things]
        numbers += [node for one in things for node in one.path]
        numbers += [one.told for one in things] + [one.hidden for one in things]
        for group in range(len(things[0].latents) if things else 0):
            numbers += [value for one in things for value in one.latents[group]]
        numbers += [*self.camera, *self.flags, *self.scales]
        data = self.frame.to_bytes(2, "big") + self.stamp.to_bytes(5, "big")
        return zlib.crc32(data + b"".join(number.to_bytes(4, "little", signed=True) for number in numbers)) & 0xFF


def clip(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


def normalise(weights: Sequence[int]) -> list[int]:
    found = [1 + weight * ((1 << 20) - len(weights)) // sum(weights) for weight in weights]
    found[weights.index(max(weights))] += (1 << 20) - sum(found)
    return found


def shared_tables() -> dict[str, list[list[int]]]:
    """The tables that every model has."""
    residual = []
    for row in range(24):
        keep, weight, side = 256 * (row + 1) ** 2 // ((row + 1) ** 2 + 16), 1 << 30, [1 << 30]
        for _ in range(63):
            weight = weight * keep >> 8
            side.append(weight)
        residual.append(normalise(side[:0:-1] + side))
    changes = (
        (1, 1, 2, 5, 14, 2, 178, 2, 29, 10, 4, 2, 1),
        (1, 3, 6, 18, 75, 2, 0, 2, 100, 30, 11, 4, 2),
        (1, 1, 1, 134, 2, 1, 0, 1, 2, 2, 6, 3, 1),
    )
    yes = [(2 * row + 1) * 8192 for row in range(64)]
    return {
        "flag": [[(1 << 20) - one, one] for one in yes],
        "residual": residual,
        "score_change": [normalise([1] * 57 + [64 * weight for weight in near] + [1] * 57) for near in changes],
        "distance": [normalise([5 << 18] + [(1 << 20) // (symbol + 3) ** 2 for symbol in range(1, 64)])],
        "check": [[1 << 12] * 256],
        "more": [normalise([1 << max(0, 24 - 2 * symbol) for symbol in range(64)])],
    }


def lengths() -> list[int]:
    """What logarithms stand for, in 1/256 of a cell."""
    getcontext().prec = 40
    exact = [(Decimal(k) / 32 - 3).exp() * 256 for k in range(288)]
    return [max(1, int((value + Decimal("0.5")).to_integral_value(rounding="ROUND_FLOOR"))) for value in exact]


class ReferenceDeltas:
    """Reads deltas of the scene model that lies in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.layout: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))["layout"]
        arrays = load_file(folder / "stream.safetensors")
        layout = self.layout
        self.columns, self.rows = layout["columns"], layout["rows"]
        self.levels = len(layout["parents"])  # those below the first
        self.groups: list[int] = layout["latents"]
        self.classes = len(layout["score_edges"]) + 1
        self.lengths = lengths()
        self.logs = [round((layout["size_low"] + layout["size_step"] * s) * 1024) for s in range(layout["size_levels"])]
        self.tables = shared_tables()
        for name in ("width", "height", "offset_x", "offset_y", "score"):
            self.tables[name] = arrays[f"tables/{name}"].tolist()
        for level in range(1, self.levels + 1):
            self.tables[f"name_{level}"] = arrays[f"tables/name_{level}"].tolist()
        kind = sum(edge <= 8 for edge in layout["count_edges"])
        odds = arrays["tables/occupancy"].tolist()
        rows = arrays["occupancy_rows"][kind].tolist()
        self.tables["cell"] = [normalise([odds[row][1] * 2**24 // odds[row][0] + 1 for row in rows])]
        if self.levels:
            self.tables["depth"] = [normalise([1] * self.levels + [8 * self.levels])]

    # -- states -------------------------------------------------------------------------------------------------------

    def placed(self, cell: int, sizes: Sequence[int], offsets: Sequence[int], score: int) -> Thing:
        """An object that block 0, or a delta, says so of."""
        logs, centre = [self.logs[size] for size in sizes], []
        for axis, place in enumerate((cell % self.columns, cell // self.columns)):
            steps = offsets[axis] - self.layout["offset_levels"] // 2
            away = steps * round(self.layout["offset_step"] * 1024) * self.length(logs[axis]) >> 10
            centre.append(clip(256 * place + 128 + away, 0, self.edge(axis)))
        return Thing(centre, logs, [0, 0], score, [UNNAMED] * self.levels, 0, [[0] * width for width in self.groups])

    def edge(self, axis: int) -> int:
        return 256 * (self.rows if axis else self.columns)

    def length(self, log: int) -> int:
        return self.lengths[clip((log + 3072) * 32 // 1024, 0, 287)]

    # -- deltas -------------------------------------------------------------------------------------------------------

    def read(self, data: bytes, find: Callable[[int, int], State], frame: int, stamp_ns: int) -> State:
        """The state after a delta. find(frame number, check): the state that it refers to."""
        return _Reading(self, data, find, frame, stamp_ns).state

    def size_symbol(self, log: int) -> int:
        pairs = zip(self.logs, self.logs[1:], strict=False)
        return sum((low + high) // 2 <= log for low, high in pairs)

    def children(self, level: int, parent: int) -> list[int]:
        return [node for node, own in enumerate(self.layout["parents"][level - 1]) if own == parent]

    def name_row(self, parent: int, width: int, height: int) -> int:
        aspect = clip(width - height + 3, 0, 6)
        area = clip((width + height) * 6 // (2 * self.layout["size_levels"] - 1), 0, 5)
        return (parent * 7 + aspect) * 6 + area


@dataclass
class _Said:
    """What a delta says of one object."""

    one: Thing
    shown: bool
    touched: int = 0
    hides: bool = False
    moved: int = 0
    labelled: int = 0
    steered: int = 0
    renamed: int = 0
    deeper: int = 0
    speed: list[int] = field(default_factory=lambda: [0, 0])
    residuals: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    sizes: tuple[int, int] = (0, 0)
    depth: int = 0


class _Reading:
    """One delta, step by step as the page numbers them."""

    def __init__(
        self, model: ReferenceDeltas, data: bytes, find: Callable[[int, int], State], frame: int, stamp_ns: int
    ) -> None:
        self.model, self.coder = model, ReferenceDecoder(data)
        distance = self.get("distance", [0])[0] + 1
        check = self.get("check", [0])[0]
        self.reference = before = find((frame - distance) % 65_536, check)
        stamp = stamp_ns % 2**40
        self.t = ((stamp - before.stamp + 2**39) % 2**40 - 2**39) // 1_000_000
        if not 1 <= self.t <= 4000:
            raise DamagedDelta("outside 1 to 4,000 ms")
        self.seen: list[tuple[int, int]] = []
        self.objects: list[_Said] = []
        for one in before.things:
            hidden = one.hidden + self.t if one.hidden else 0
            if hidden <= 1000:
                kept = Thing(
                    [*one.centre], [*one.logs], [*one.velocity], one.score, [*one.path], one.told,
                    [[*group] for group in one.latents], hidden,
                )  # fmt: skip
                self.objects.append(_Said(kept, shown=hidden == 0))
        shift, learned = self.picture()
        self.touched()
        self.moves()
        self.labels()
        born = self.births()
        self.names(born)
        self.apply(shift)
        flags = [*before.flags]
        for kind, value in self.seen:
            flags[kind] += (65_536 * value - flags[kind]) >> 4
        scales = [*before.scales]
        for axis in range(4):
            for said in self.objects:
                if said.moved:
                    scales[axis] += (16 * abs(said.residuals[axis]) - scales[axis]) >> 3
        for residual in learned:
            scales[4] += (16 * abs(residual) - scales[4]) >> 3
        across, down = (clip(value * 1024 // self.t, -16_384, 16_384) for value in shift)
        self.state = State(
            frame, stamp, [said.one for said in self.objects] + born, (across, down),
            tuple(clip(flag, 512, 65_023) for flag in flags), tuple(clip(scale, 2, 1008) for scale in scales),
        )  # fmt: skip

    def get(self, table: str, rows: list[int]) -> list[int]:
        """One group."""
        return self.coder.get(self.model.tables[table], rows)

    def flags(self, kinds: list[int]) -> list[int]:
        found = self.get("flag", [self.reference.flags[kind] * 64 // 65_536 for kind in kinds])
        self.seen += zip(kinds, found, strict=True)
        return found

    def residuals(self, row: int, count: int) -> list[int]:
        return [value - 63 for value in self.get("residual", [row] * count)]

    def scale_row(self, number: int) -> int:
        return max(row for row in range(24) if row == 0 or row * (row + 1) <= self.reference.scales[number])

    def score_class(self, said: _Said) -> int:
        return 4 * said.one.score // self.model.classes

    def picture(self) -> tuple[list[int], list[int]]:
        """Steps 3 and 4: the shift, and the residuals that scale 4 learns from."""
        camera = self.reference.camera
        goes_on = self.flags([0])[0] if any(camera) else 0
        steps = [0, 0]
        if self.flags([31])[0]:
            steps = self.residuals(4, 2)
            if not any(steps):
                raise DamagedDelta("far by nothing")
        besides = self.residuals(self.scale_row(4), 2)
        if max(map(abs, besides)) > 31:
            raise DamagedDelta("beyond 31")
        shift = [
            16 * (63 * steps[axis] + besides[axis]) + (camera[axis] * self.t >> 10 if goes_on else 0) for axis in (0, 1)
        ]
        return shift, besides

    def touched(self) -> None:
        """Steps 5 to 8."""
        age, kinds = sum(limit <= self.t for limit in (250, 500)), []
        for said in self.objects:
            hidden = said.one.hidden
            late = sum(limit <= hidden for limit in (self.t + 100, self.t + 400))
            kinds.append(1 + 3 * self.score_class(said) + age if said.shown else 13 + late)
        for said, value in zip(self.objects, self.flags(kinds), strict=True):
            said.touched = value
        shown = [said for said in self.objects if said.touched and said.shown]
        for said, value in zip(shown, self.flags([16 + self.score_class(said) for said in shown]), strict=True):
            said.hides = bool(value)
        others = [said for said in self.objects if said.touched and not said.hides]
        for said, value in zip(others, self.flags([20 if said.shown else 21 for said in others]), strict=True):
            said.moved = value
        asked = [said for said in others if not said.shown or said.moved]
        for said in others:
            said.labelled = 1
        for said, value in zip(asked, self.flags([22 + self.score_class(said) for said in asked]), strict=True):
            said.labelled = value

    def moves(self) -> None:
        """Steps 9 and 10."""
        moved = [said for said in self.objects if said.moved]
        for said, value in zip(moved, self.flags([26] * len(moved)), strict=True):
            said.steered = value
        steered = [said for said in moved if said.steered]
        speeds = self.residuals(7, 2 * len(steered))
        for place, said in enumerate(steered):
            said.speed = speeds[2 * place : 2 * place + 2]
            if not any(said.speed):
                raise DamagedDelta("a velocity that stays")
        for axis in range(4):
            for said, value in zip(moved, self.residuals(self.scale_row(axis), len(moved)), strict=True):
                said.residuals[axis] = value
        if any(not said.steered and not any(said.residuals) for said in moved):
            raise DamagedDelta("moved by nothing")

    def labels(self) -> None:
        """Step 11."""
        labelled = [said for said in self.objects if said.labelled]
        if self.model.levels:
            for said, value in zip(labelled, self.flags([29 if said.moved else 28 for said in labelled]), strict=True):
                said.renamed = value
        could = [said for said in labelled if said.renamed and said.one.named < self.model.levels]
        for said, value in zip(could, self.flags([30] * len(could)), strict=True):
            said.deeper = value
        rows = [0 if said.renamed else 1 if said.moved or not said.shown else 2 for said in labelled]
        for said, value in zip(labelled, self.get("score_change", rows), strict=True):
            said.one.score += value - 63
            if not 0 <= said.one.score < self.model.classes:
                raise DamagedDelta("a score that there is not")
            if value == 63 and not said.renamed:
                raise DamagedDelta("a label that stays")

    def births(self) -> list[Thing]:
        """Step 12."""
        if not self.flags([27])[0]:
            return []
        count, model = self.get("more", [0])[0] + 1, self.model
        if count + len(self.objects) > model.layout["max_objects"]:
            raise DamagedDelta("too many objects")
        cells = self.get("cell", [0] * count)
        if cells != sorted(set(cells)):
            raise DamagedDelta("cells that do not ascend")
        width = self.get("width", [cell // model.columns * 8 // model.rows for cell in cells])
        height = self.get("height", width)
        across = self.get("offset_x", width)
        down = self.get("offset_y", height)
        score = self.get("score", width)
        self.born_sizes = list(zip(width, height, strict=True))
        offsets = zip(across, down, strict=True)
        return [model.placed(*one) for one in zip(cells, self.born_sizes, offsets, score, strict=True)]

    def names(self, born: list[Thing]) -> None:
        """Steps 13 and 14."""
        model = self.model
        old = [said for said in self.objects if said.renamed]
        before = {id(said): [*said.one.path] for said in old}
        for said in old:
            said.sizes = (model.size_symbol(said.one.logs[0]), model.size_symbol(said.one.logs[1]))
            if said.deeper:
                said.depth = said.one.named + 1
            else:
                said.one.path = [UNNAMED] * model.levels
                said.one.told, said.one.latents = 0, [[0] * width for width in model.groups]
        new = [_Said(one, True, sizes=self.born_sizes[number]) for number, one in enumerate(born)]
        anew = [said for said in old if not said.deeper] + new
        if anew and model.levels:
            for said, value in zip(anew, self.get("depth", [0] * len(anew)), strict=True):
                said.depth = value
        for level in range(1, model.levels + 1):
            named = [said for said in old + new if said.depth >= level and said.one.path[level - 1] == UNNAMED]
            parents = [said.one.path[level - 2] if level > 1 else 0 for said in named]
            rows = [model.name_row(parent, *said.sizes) for parent, said in zip(parents, named, strict=True)]
            found = self.get(f"name_{level}", rows)
            for said, parent, value in zip(named, parents, found, strict=True):
                nodes = model.children(level, parent)
                if value >= len(nodes):
                    raise DamagedDelta("a position that the node above does not have")
                said.one.path[level - 1] = nodes[value]
        if any(said.one.path == before[id(said)] for said in old):
            raise DamagedDelta("a name that stays")

    def apply(self, shift: list[int]) -> None:
        """The state after it, but for flags and scales."""
        for said in self.objects:
            one = said.one
            for axis in (0, 1):
                side = self.model.length(one.logs[axis])
                speed = clip(one.velocity[axis] + (said.speed[axis] * side * 64 >> 8), -16_384, 16_384)
                most = self.model.edge(axis)
                place = clip(one.centre[axis] + shift[axis] + (speed * self.t >> 10), 0, most)
                one.centre[axis] = clip(place + (said.residuals[axis] * side * 32 >> 8), 0, most)
                one.velocity[axis] = speed
                one.logs[axis] = clip(one.logs[axis] + 128 * said.residuals[2 + axis], -3072, 6144)
            if said.hides:
                one.hidden = 1
            elif said.touched and not said.shown:
                one.hidden = 0
