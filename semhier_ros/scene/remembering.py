"""Who keeps states of a scene: the sender, which says only what its receiver would get wrong, and the receiver.

The sender follows its own objects from frame to frame (`Tracks`), so that it knows which object of an old state each
detection is. A frame refers to the newest state that the receiver has acknowledged or, while nothing is lost, to the
frame before: then nothing is told twice. For every frame the sender forecasts the state that it refers to, in integers,
as the receiver will, and compares the forecast with what is there now. Objects whose foretold box overlaps the true one
by less than a bound are told (`overlap`, lower for unsure ones); so are new ones, those that are gone, and changed
names and scores. Where bytes are short, the least important go first.
"""

from __future__ import annotations

import importlib
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.compact import STAMP_UNIT_NS, stamp_units
from semhier_ros.codec.packet import PacketError, UnknownReference
from semhier_ros.native import kernels
from semhier_ros.scene.layout import UNNAMED, Flags, Ints, SceneCode, quantise_boxes, quantise_feet, restore_boxes
from semhier_ros.scene.memory import (
    LOG_STEP,
    LOG_UNIT,
    MOST_BORN,
    MOST_FRAMES,
    MOST_MS,
    PLACE_STEP,
    REACH,
    SHIFT_STEP,
    SPEED_STEP,
    STAMP_BITS,
    UNIT,
    DeltaCodec,
    Held,
    Numbers,
    Said,
    SceneState,
    lengths_of_sides,
    side_lengths,
)
from semhier_ros.scene.objects import Objects, likeliest, masses_of
from semhier_ros.scene.stream import SceneStream
from semhier_ros.scene.tracks import SHARE_OF_SPEED, TrackRows, Tracks

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
OVERLAP, WHOLE_EVERY = 0.75, 2.0
RADIO_WHOLE_EVERY = 12.0
"""Over a radio, where a whole frame is dear and a receiver says what it lacks."""
STALE_MS, STALE_FRAMES = 2000, 2.5
"""A reference that is older than both is given up: the next frame is whole."""
WHOLE_AGAIN_MS = 400
"""Whole frames that a receiver asks for come no closer than this."""
SILENT_MS = 8000
"""A receiver that acknowledged nothing for longer is sent nothing but whole frames. Before that, and once the reference
is given up, there is a whole one each `SILENT_WHOLE_MS`, and others refer to the frame before."""
SILENT_WHOLE_MS = 150
CHAIN = 64
"""How many frames in a row may refer to the frame before, which may not have arrived, after one that refers to what was
acknowledged, as long as nothing is lost. Otherwise none does: a lost frame costs itself alone."""
LOSSY_MS, UNHEARD_MS = 8000, 800
"""It is otherwise for so long after a receiver lacked frames, and where nothing was acknowledged for so long. A frame
that is older and was not acknowledged counts as lost."""
RECENT, MISSING = 32, (0, 2, 6)
"""Of the last `RECENT` frames, how many at most a receiver lacks in the first classes of what it says of that."""
LATE_FRAMES = 2
"""An acknowledgement that lags by so many frames more than usual says that frames are lost."""
UNREAD_MS, UNREAD_FRAMES = 1000, 3
"""A receiver that could read no frame for longer, and not so many deltas in a row, asks for a whole one."""
MOST_WAITING, LARGEST_WAITING = 8, 512
"""Deltas that a receiver keeps until what they refer to arrives, and the bytes of each, at most."""
LEAST_OBJECTS = 2
"""A frame of fewer is whole: it costs no more than to name a reference."""
LENIENCE = 0.1
"""By how much the bound of overlap is lower for the least sure object; in proportion for others."""
LEAST_OVERLAP, MOST_OVERLAP = 0.3, 0.95
CAREFUL = 0.1
"""By how much that bound is higher while frames are lost (not over a radio), up to MOST_OVERLAP: the next frame that
would mend a box may be lost as well."""
SPEED_GAIN, SURE, AHEAD_MS = 0.3, 2.0, 400
"""A velocity is told where it moves an object by more than this share of its side within AHEAD_MS, and is surer than
that many standard errors."""
ENOUGH = 0.85
"""Overlap with the true box from which residuals that are cheaper to say are good enough."""
HIDE_AFTER, LASTING, HIDE_LASTING = 1, 4, 3
"""Frames in a row that miss an object before it is told to be hidden; more of one that was seen in so many frames
before, without a gap: it is often seen again."""
DOUBT = 3
"""Classes by which the score of an object falls that a frame misses and that is not hidden yet."""
BIRTH_HITS, BIRTH_SCORE = 2, 0.22
"""A new object is told once so many frames saw it, or at once from this score on; at once, too, while frames are
lost, and where boxes are to be held to more than OVERLAP."""
SCORE_STEPS, LEAST_STEPS = 3, 2
"""Classes by which a score must differ to be told: by itself, and beside something else of the object."""
CLEARLY = 1.5
"""How many times likelier another name must be to be told."""
_SUBSETS = np.array([[k >> axis & 1 for k in range(16)] for axis in range(4)])[:, None]
"""Which of the four residuals are told, 4,1,16."""


@dataclass(frozen=True)
class _Sent:
    """A frame as it was sent: `order` counts frames. tracks: of its state's objects; shift: of the tracks' picture
    then. A delta leads to `state`; a whole frame's `code` to one state for each prefix, made when one is acknowledged.
    """

    order: int
    frame: int
    stamp_ns: int
    tracks: list[int]
    shift: Floats
    state: SceneState | None = None
    code: SceneCode | None = None


def _one(states: Sequence[SceneState], check: int) -> bool:
    """Whether all states with that check say the same."""
    return len({state.digest for state in states if state.check == check}) == 1


class SenderMemory:
    """What a sender remembers of one camera. `overlap`: of a forecast, below which the surest object is told (0.3 to
    0.95; 0: `usual`, over a radio OVERLAP). `whole_every`: seconds between memoryless frames (0.2 to 60; 0: 2, over a
    radio 12). Both may be changed at any time. `radio`: frames are compact ones, by which a receiver knows stamps to 8
    ms. It acknowledges a second or more apart, so that a frame refers to what was acknowledged for as long as any may:
    one in a chain that is lost would cost too many.

    For each frame `begin`, then `delta`; where that gives None the frame goes out whole, and `whole` must follow.
    `heard` may be called from any thread. Raises ValueError naming field, value and range.
    """

    def __init__(
        self,
        codec: DeltaCodec,
        overlap: float = 0.0,
        whole_every: float = 0.0,
        *,
        radio: bool = False,
        usual: float = OVERLAP,
    ) -> None:
        check_memory(overlap, whole_every)
        importlib.import_module("scipy.optimize")  # it loads slowly: now, and not while a frame waits
        self.overlap, self.whole_every = overlap, whole_every
        self.delta_bytes: int | None = None
        self._codec, self._radio, self._usual = codec, radio, OVERLAP if radio else usual
        self._lock = threading.Lock()
        self._tracks = Tracks()
        self._found: list[int] = []
        self._cells: Ints = np.zeros(0, np.int32)
        self._sent: OrderedDict[int, _Sent] = OrderedDict()
        self._reference: _Sent | None = None
        self._whole_ns: int | None = None
        self._wanted = False
        self._order = self._frame = self._stamp_ns = 0
        self._chained = 0
        self._heard_ns = 0
        self._prefixes: deque[int] = deque(maxlen=2)  # of the whole frames that were acknowledged last
        self._lossy_ns: int | None = None
        self._lag: float | None = None  # frames by which acknowledgements lag at least
        self._said: _Plan | None = None

    # -- from the receiver --------------------------------------------------------------------------------------------

    def heard(self, memory: bytes) -> bool:
        """What a receiver's report says of its memory: two bytes name the newest state that it holds, and how much it
        lacks of what was sent lately; none say that it holds nothing that deltas refer to. False where no such state
        was sent."""
        with self._lock:
            if not memory:
                self._wanted = True
                return True
            if len(memory) != 2:
                return False
            number, missing = memory[0] & 0x3F, memory[0] >> 6
            sent = next((one for one in reversed(self._sent.values()) if one.frame & 0x3F == number), None)
            state = None if sent is None else self._state_of(sent, memory[1])
            if sent is None or state is None:
                return False
            if self._reference is None or sent.order >= self._reference.order:
                self._reference = replace(sent, state=state, code=None)
                lag = self._order - sent.order
                self._lag = lag if self._lag is None else min(self._lag + 0.25, lag)
                self._heard_ns = self._stamp_ns
                if missing or lag > self._lag + LATE_FRAMES:
                    self._lossy_ns = self._stamp_ns
            return True

    def _state_of(self, sent: _Sent, check: int) -> SceneState | None:
        """The state with that check among those that the frame may have led to; None where two of them have it, for
        which one is meant nobody can know."""
        if sent.code is None:
            return sent.state if sent.state is not None and sent.state.check == check else None
        states = self._depths(sent)
        fits = [prefix for prefix, state in enumerate(states) if state.check == check]
        if not fits or not _one(states, check):
            return None
        self._prefixes.append(fits[-1])
        return states[fits[-1]]

    def _depths(self, sent: _Sent) -> list[SceneState]:
        """The states to which a whole frame leads, after each of its prefixes."""
        assert sent.code is not None
        depths = range(len(sent.code.latents) + 1)
        return [self._codec.whole(sent.code, prefix, sent.frame, sent.stamp_ns) for prefix in depths]

    # -- frames -------------------------------------------------------------------------------------------------------

    def begin(self, frame: int, stamp_ns: int) -> None:
        """The next frame has this number (0..65535) and stamp (ns)."""
        self._frame = frame
        self._stamp_ns = stamp_units(stamp_ns) * STAMP_UNIT_NS if self._radio else stamp_ns

    def delta(self, objects: Objects, worth: Floats, max_bytes: int | None = None) -> bytes | None:
        """The delta of the present frame, in which these objects were found; None where it shall be whole.

        worth n: importance of each object. max_bytes: as much as it may take, `delta_bytes` at most; what is least
        important goes unsaid.
        """
        if self.delta_bytes is not None:
            max_bytes = self.delta_bytes if max_bytes is None else min(max_bytes, self.delta_bytes)
        frame, stamp_ns = self._frame, self._stamp_ns
        rows = self._tracks.update(objects, stamp_ns // 1_000_000)
        assert self._tracks.rows is not None
        found = self._tracks.rows.take(rows)
        self._found = found.number.tolist()
        self._cells = objects.cells
        with self._lock:
            reference = self._due()
        if reference is None or len(objects) < LEAST_OBJECTS:
            return None
        plan = _Plan(self._codec, reference, self._tracks, found, objects, frame, stamp_ns)
        careful = not self._radio and self._lossy()
        wanted = self.overlap or self._usual
        overlap = min(wanted + CAREFUL, MOST_OVERLAP) if careful else wanted
        told = plan.choose(overlap, 1 if careful or wanted > OVERLAP else BIRTH_HITS, worth)
        if not told and (not self._radio or max_bytes is None or plan.strange):
            return None
        data, state = plan.encode(max_bytes)
        self._said = plan
        self._keep(plan.tracks_after(), state=state)
        return data

    def _due(self) -> _Sent | None:
        """The reference to go by, None where the frame shall be whole."""
        since = -1 if self._whole_ns is None else self._stamp_ns - self._whole_ns
        every = self.whole_every or (RADIO_WHOLE_EVERY if self._radio else WHOLE_EVERY)
        if not 0 <= since < every * 1e9 - 1e6 or (self._wanted and since >= WHOLE_AGAIN_MS * 1e6):
            return None
        held = self._reference
        if held is None or held.state is None:
            return None
        age = self._codec.elapsed(held.state, self._stamp_ns)
        step = (self._stamp_ns - next(reversed(self._sent.values())).stamp_ns) / 1e6
        stale = min(MOST_MS, max(STALE_MS, STALE_FRAMES * step))
        near = 0 < (self._frame - held.frame) & 0xFFFF <= MOST_FRAMES and 0 < age <= (MOST_MS if self._radio else stale)
        if self._radio:
            return held if near else None
        if not near and not (0 < age <= SILENT_MS and since < SILENT_WHOLE_MS * 1e6):
            return None
        if not near or (step <= UNHEARD_MS and not self._lossy() and self._chained < CHAIN):
            last = self._last(held.order)
            if last is not None or not near:
                self._chained += 1
                return last
        self._chained = 0
        return held

    def _lossy(self) -> bool:
        """Whether frames are lost, as far as is known: see `LOSSY_MS`."""
        lacked = self._lossy_ns is not None and 0 <= self._stamp_ns - self._lossy_ns <= LOSSY_MS * 1e6
        return lacked or not 0 <= self._stamp_ns - self._heard_ns <= UNHEARD_MS * 1e6

    def _last(self, after: int) -> _Sent | None:
        """The frame before, as it is if it arrives (a whole one as deep as others did); None where that is no later
        than the one counted `after`, or can't be referred to."""
        last = next(reversed(self._sent.values()))
        state = last.state
        if last.order <= after or not 0 < (self._frame - last.frame) & 0xFFFF <= MOST_FRAMES:
            return None
        if state is None:
            assert last.code is not None
            states = self._depths(last)
            state = states[min(max(self._prefixes), len(states) - 1) if len(self._prefixes) == 2 else -1]
            if not _one(states, state.check):
                return None
        return (
            replace(last, state=state, code=None) if 0 < self._codec.elapsed(state, self._stamp_ns) <= MOST_MS else None
        )

    def whole(self, code: SceneCode) -> None:
        """The present frame goes out whole: `code`, after all its semantic blocks."""
        numbers = dict(zip(self._cells.tolist(), self._found, strict=True))
        self._keep([numbers.get(int(cell), -1) for cell in code.cells], code=code)
        with self._lock:
            self._whole_ns, self._wanted, self._chained = self._stamp_ns, False, 0

    def _keep(self, tracks: list[int], state: SceneState | None = None, code: SceneCode | None = None) -> None:
        with self._lock:
            self._order += 1
            self._sent.pop(self._frame, None)
            self._sent[self._frame] = _Sent(
                self._order, self._frame, self._stamp_ns, tracks, self._tracks.shift, state, code
            )
            while len(self._sent) > MOST_FRAMES:
                self._sent.popitem(last=False)

    def costs(self) -> dict[str, float]:
        """Ideal bits of the last delta, by what they say: for those who measure."""
        return {} if self._said is None else self._said.costs()

    @property
    def frame(self) -> int:
        """Number of the present frame."""
        return self._frame

    def code(self, frame: int) -> SceneCode | None:
        """A frame as its receiver reads its delta; None where it was none, or is known no more. From any thread."""
        with self._lock:
            sent = self._sent.get(frame)
        return None if sent is None or sent.state is None else code_of(self._codec, sent.state)


def check_memory(overlap: float, whole_every: float) -> None:
    """Raises ValueError naming field, value and range, unless a sender can work by these (see `SenderMemory`)."""
    if overlap and not LEAST_OVERLAP <= overlap <= MOST_OVERLAP:
        raise ValueError(f"memory.overlap: {overlap} is outside {LEAST_OVERLAP}..{MOST_OVERLAP}")
    if whole_every and not 0.2 <= whole_every <= 60.0:
        raise ValueError(f"memory.whole_every: {whole_every} s is outside 0.2..60")


class _Plan:
    """What to say of one frame. Names of which the reference knows but the first levels, for a whole frame's finer
    blocks were lost or cut, are told further, a level a frame, where there is room for it."""

    def __init__(
        self,
        codec: DeltaCodec,
        sent: _Sent,
        following: Tracks,
        found: TrackRows,
        objects: Objects,
        frame: int,
        stamp_ns: int,
    ) -> None:
        assert sent.state is not None
        self._reference = reference = sent.state
        self._codec, self._objects, self._shift = codec, objects, sent.shift
        self._frame, self._stamp_ns = frame, stamp_ns
        self._elapsed = codec.elapsed(reference, stamp_ns)
        self._held = held = Held.of(reference, self._elapsed)
        self._numbers = [sent.tracks[row] for row in held.rows]
        self._tracks, self._found = following, found
        self._found_numbers: list[int] = found.number.tolist()
        self._said = Said.nothing((frame - reference.frame) & 0xFFFF, reference.check, held)
        self._value = [0.0] * len(held.rows)
        self._births: list[tuple[float, int]] = []
        self._born: list[int] = []
        self._masses, self._best = _names(codec, self._found)

    def choose(self, overlap: float, hits: int, worth: Floats) -> bool:
        """Fills the delta with all that is worth saying. False where a whole frame says it better: most is new.
        `strange`: nothing that is there is known. overlap: bound for the surest object; hits: frames that must have
        seen a faint new one."""
        codec, held, said = self._codec, self._held, self._said
        rows = {number: row for row, number in enumerate(self._numbers) if number >= 0}
        at = [-1] * len(held.rows)
        for place, number in enumerate(self._found_numbers):
            if number in rows:
                at[rows[number]] = place
        there = [row for row, place in enumerate(at) if place >= 0]
        self.strange = not there
        self._boxes = self._found.steady.copy()
        """The steadied boxes n,4 of what was found, in the present picture."""
        self._boxes[:, :2] += self._tracks.shift
        self._away = self._choose_camera()
        if there:
            known, seen = np.array(there), np.array([at[row] for row in there])
            shared = _foretold_overlaps(codec, held.state.table[known], self._boxes[seen], self._away, self._elapsed)
            for row in there:
                if held.hidden[row]:
                    said.touched[row] = said.toggled[row] = 1
            edges = codec.layout.edges
            classes = np.searchsorted(edges, self._objects.objectness, side="right")
            far = np.flatnonzero(shared < overlap - LENIENCE * (1 - classes[seen] / len(edges)))
            if len(far):
                self._move(known[far], seen[far])
            value, scores = worth.tolist(), classes.tolist()
            for row, share in zip(there, shared.tolist(), strict=True):
                place = at[row]
                self._label(row, place, scores[place])
                self._value[row] = value[place] * (1.2 - share)
        self._hide(at)
        before = {number for number in self._numbers if number >= 0}
        sure = (self._found.hits >= hits) | (self._objects.objectness.astype(float) >= BIRTH_SCORE)
        self._births = [
            (float(worth[place]), place)
            for place, (number, told) in enumerate(zip(self._found_numbers, sure.tolist(), strict=True))
            if told and number not in before
        ]
        return len(self._births) <= max(2, len(there))

    def _hide(self, at: Sequence[int]) -> None:
        """Says which objects are not seen any more, or less surely there. at: of each, the place of what was found."""
        held, said, every = self._held, self._said, self._tracks.rows
        assert every is not None
        missed = dict(
            zip(every.number.tolist(), zip(every.misses.tolist(), every.streak.tolist(), strict=True), strict=True)
        )
        for row, place in enumerate(at):
            if place >= 0 or held.hidden[row]:
                continue
            misses, streak = missed.get(self._numbers[row], (HIDE_LASTING, LASTING))
            if misses < (HIDE_LASTING if streak >= LASTING else HIDE_AFTER):
                if held.scores[row] > DOUBT:
                    said.touched[row] = said.labelled[row] = 1
                    said.score[row] = -DOUBT
                continue
            said.touched[row] = said.toggled[row] = 1
            self._value[row] = 0.3

    def _choose_camera(self) -> list[int]:
        """How far the whole picture moved since the reference: as told, beside the pan that goes on. In lengths."""
        said, camera = self._said, self._reference.camera.tolist()
        wanted, most = ((self._tracks.shift - self._shift) * UNIT).tolist(), REACH * REACH
        going = [0, 0]
        for pans in (0, 1) if any(camera) else (0,):
            pan = [pans * speed * self._elapsed >> 10 for speed in camera]
            steps = [
                min(max(round((want - gone) / SHIFT_STEP), -most), most) for want, gone in zip(wanted, pan, strict=True)
            ]
            if not pans or sum(map(abs, steps)) + 1 < sum(map(abs, said.shift)):
                said.pans, said.shift, going = pans, steps, pan
        return [step * SHIFT_STEP + gone for step, gone in zip(said.shift, going, strict=True)]

    def _move(self, rows: Rows, places: Rows) -> None:
        """Says where objects are whose forecast is too far off: `rows` of the reference, `places` of detections."""
        said, tracks = self._said, self._found
        found = _residuals(
            self._codec, self._held.state.table[rows], self._boxes[places], tracks.velocity[places],
            tracks.error[places], self._away, self._elapsed,
        )  # fmt: skip
        for row, told, steered, turned in zip(rows.tolist(), *[part.tolist() for part in found], strict=True):
            if steered:
                said.steered[row], said.speed[row] = 1, turned
            said.place[row], said.size[row] = told[:2], told[2:]
            if any(told) or steered:
                said.touched[row] = said.moved[row] = 1

    def _label(self, row: int, place: int, score: int) -> None:
        held, said = self._held, self._said
        change, known = score - held.scores[row], held.named[row]
        if tuple(held.path[row]) == self._best[place] and abs(change) < LEAST_STEPS:
            return
        before = tuple(held.path[row][:known])
        path = self._path(place, before)
        if path[:known] != before:
            said.renamed[row], said.named[row] = 2, known
            said.path[row] = [*path[:known], *[UNNAMED] * (self._codec.levels - 1 - known)]
        elif known < len(path):
            said.renamed[row], said.named[row] = 1, known + 1
            said.path[row] = [*path[: known + 1], *[UNNAMED] * (len(path) - known - 1)]
        if abs(change) < max(1, LEAST_STEPS if said.touched[row] or said.renamed[row] else SCORE_STEPS):
            change = 0
        if change or said.renamed[row]:
            said.touched[row] = said.labelled[row] = 1
            said.score[row] = change

    def _path(self, place: int, before: tuple[int, ...]) -> tuple[int, ...]:
        """A track's name; the one before where no other is clearly likelier, and below it the likeliest."""
        best = self._best[place]
        if not before or best[: len(before)] == before:
            return best
        level = len(before)
        chances = self._masses[level - 1][place]
        if chances[best[level - 1]] > CLEARLY * chances[before[-1]]:
            return best
        path = before
        for below in range(level + 1, self._codec.levels):
            children = self._codec.layout.children(below, path[-1]).tolist()
            path = (*path, max(children, key=self._masses[below - 1][place].__getitem__))
        return path

    def encode(self, max_bytes: int | None) -> tuple[bytes, SceneState]:
        """The delta's bytes, within `max_bytes` as far as it can be, and the state after it."""
        said, value = self._said, self._value
        room = min(self._codec.layout.max_objects - len(self._held.rows), MOST_BORN)
        births = sorted(self._births, reverse=True)[: max(room, 0)]
        while True:
            self._born = sorted((place for _, place in births), key=lambda place: int(self._objects.cells[place]))
            said.born, said.born_path = self._new(self._born)
            data, state = self._codec.write(self._reference, said, self._frame, self._stamp_ns)
            touched = [row for row, is_touched in enumerate(said.touched) if is_touched]
            if max_bytes is None or len(data) <= max_bytes or (not touched and not births):
                return data, state
            deeper = [row for row in touched if said.renamed[row] == 1]
            if deeper:
                self._shorten(min(deeper, key=value.__getitem__))
                continue
            worst = min(touched, key=value.__getitem__) if touched else None
            if births and (worst is None or births[-1][0] < value[worst]):
                births.pop()
            elif worst is not None:
                self._unsay(worst)

    def costs(self) -> dict[str, float]:
        """Ideal bits of what is said, by what that is."""
        return self._codec.costs(self._reference, self._said, self._frame, self._stamp_ns)

    def _unsay(self, row: int) -> None:
        said = self._said
        for part in (
            said.touched, said.toggled, said.moved, said.steered, said.labelled, said.score, said.renamed,
        ):  # fmt: skip
            part[row] = 0
        said.place[row], said.size[row], said.speed[row] = [0, 0], [0, 0], [0, 0]

    def _shorten(self, row: int) -> None:
        """Leaves out that an object's name is known further."""
        said, held = self._said, self._held
        said.renamed[row], said.named[row], said.path[row] = 0, held.named[row], list(held.path[row])
        said.labelled[row] = int(said.score[row] != 0)
        if not (said.labelled[row] or said.moved[row] or said.toggled[row]):
            said.touched[row] = 0

    def _new(self, places: Sequence[int]) -> tuple[list[list[int]], list[list[int]]]:
        """New objects as a delta says them."""
        if not places:
            return [], []
        layout = self._codec.layout
        objects = self._objects.take(np.array(places, np.intp))
        sizes, offsets = quantise_boxes(layout, objects.cells, objects.boxes)
        scores = np.searchsorted(layout.edges, objects.objectness, side="right")
        columns = np.concatenate([objects.cells[:, None], sizes, offsets, scores[:, None]], axis=1)
        return columns.tolist(), [list(self._path(place, ())) for place in places]

    def tracks_after(self) -> list[int]:
        """The track of every object of the state after the delta."""
        return [*self._numbers, *(self._found_numbers[place] for place in self._born)]


def _names(codec: DeltaCodec, found: TrackRows) -> tuple[list[Floats], list[tuple[int, ...]]]:
    """Of every level below the first the chances n,nodes of n tracks, and the likeliest path of each."""
    parents = codec.layout.parents
    if not len(found) or not parents:
        return [np.zeros((len(found), 1)) for _ in parents], [()] * len(found)
    masses = masses_of(found.leaves, parents)
    levels = likeliest(masses, parents)[1:]
    return masses, [tuple(path) for path in np.stack(levels, axis=1).tolist()]


def _foretold_overlaps(codec: DeltaCodec, table: Numbers, boxes: Floats, away: list[int], elapsed: int) -> Floats:
    """How much objects of a state (`table`), foretold after so many ms in a picture that moved `away`, overlap their
    true boxes n,4 (in cells)."""
    if kernels is not None and codec.compiled is not None:
        found: Floats = kernels.foretold_overlaps(lengths_of_sides(), table, boxes, away, codec.edge, elapsed)
        return found
    foretold = np.concatenate([_led(codec, table, table[:, 4:6], away, elapsed), side_lengths(table[:, 2:4])], axis=1)
    return _overlap(foretold.T, (boxes * UNIT).T)


def _residuals(
    codec: DeltaCodec, table: Numbers, boxes: Floats, speed: Floats, error: Floats, away: list[int], elapsed: int
) -> tuple[Numbers, Flags, Numbers]:
    """What puts objects right that are foretold (as of `_foretold_overlaps`) too far off: residuals n,4 of place and
    size; whether a velocity is told, and by how many steps n,2 it changes. speed and error n,2: of their tracks."""
    sizes = np.log(np.maximum(boxes[:, 2:], 1e-3))
    if kernels is not None and codec.compiled is not None:
        found: tuple[Numbers, Flags, Numbers] = kernels.residuals(
            lengths_of_sides(), table, boxes, sizes, speed, error, away, codec.edge, elapsed
        )
        return found
    logs, velocity = table[:, 2:4], table[:, 4:6]
    sides = side_lengths(logs)
    wanted = SHARE_OF_SPEED * speed * UNIT * 1024 - velocity
    sure = np.abs(wanted) > SURE * error * UNIT * 1024
    steps = np.rint(wanted / np.maximum(sides * SPEED_STEP >> 8, 1))
    turned = np.where(sure, np.clip(steps, -REACH, REACH), 0).astype(np.int64)
    tell = (sure & (np.abs(wanted) * AHEAD_MS / 1024 / sides > SPEED_GAIN)).any(axis=1) & turned.any(axis=1)
    turned[~tell] = 0
    centre = _led(codec, table, velocity + (turned * sides * SPEED_STEP >> 8), away, elapsed)
    off = (boxes[:, :2] * UNIT - centre) * 256 / (sides * PLACE_STEP)
    grown = (sizes * LOG_UNIT - logs) / LOG_STEP
    full = np.clip(np.rint(np.concatenate([off, grown], axis=1)), -REACH, REACH).astype(np.int64)
    return _cheapest(full, boxes * UNIT, centre, sides, logs), tell, turned


def _led(codec: DeltaCodec, table: Numbers, velocity: Numbers, away: list[int], elapsed: int) -> Numbers:
    """Where the centres n,2 of objects are (as of `_foretold_overlaps`), at these velocities n,2."""
    return np.clip(table[:, :2] + away + (velocity * elapsed >> 10), 0, codec.edge)


def _cheapest(full: Numbers, boxes: Floats, centre: Numbers, sides: Numbers, logs: Numbers) -> Numbers:
    """Of the residuals n,4 that put n objects right those that are worth their bits: for each the cheapest subset that
    comes near enough to its true box. boxes n,4, centre, sides and logs n,2: in the units of a state."""
    told = _SUBSETS * full.T[..., None]
    shown = np.concatenate(
        [
            centre.T[..., None] + (told[:2] * sides.T[..., None] * PLACE_STEP >> 8),
            side_lengths(logs.T[..., None] + told[2:] * LOG_STEP),
        ]
    )
    shared = _overlap(shown, boxes.T[..., None])
    cost = np.abs(told).sum(axis=0) + 2 * (told != 0).sum(axis=0)
    good = shared >= np.minimum(ENOUGH, shared.max(axis=1))[:, None]
    cheapest = np.where(good, cost, cost.max() + 1).argmin(axis=1)
    found: Numbers = told[:, np.arange(len(full)), cheapest].T
    return found


def _overlap(first: NDArray, second: NDArray) -> Floats:
    """Intersection over union … of pairs of boxes 4,… (cx, cy, w, h)."""
    first, second = np.asarray(first, float), np.asarray(second, float)
    half, other = first[2:] / 2, second[2:] / 2
    low = np.maximum(first[:2] - half, second[:2] - other)
    high = np.minimum(first[:2] + half, second[:2] + other)
    inner = np.maximum(high - low, 0)
    inner = inner[0] * inner[1]
    area = first[2] * first[3] + second[2] * second[3] - inner
    return inner / np.maximum(area, 1e-9)


class ReceiverMemory:
    """What a receiver remembers of one camera: the states of its last MOST_FRAMES frames, at most `most` for each (a
    whole frame has one for every prefix). Use from one thread; `acknowledgement` may be read from any.

    A delta that comes before what it refers to is kept, and read when that comes: later deltas may refer to it.

    It acknowledges the newest state that stems from the newest whole frame, so that deltas soon refer to nothing older:
    a bag that was cut before that frame, or whoever joined at it, can read them.
    """

    def __init__(self, codec: DeltaCodec) -> None:
        self._codec, self._most = codec, codec.stream.semantic_blocks
        self._states: OrderedDict[int, list[SceneState]] = OrderedDict()
        self._stems: dict[int, int] = {}
        """Of each frame that is held: the stamp of the whole frame that its states stem from."""
        self._newest: SceneState | None = None
        self._stem = 0
        self._waiting: OrderedDict[int, tuple[bytes, int]] = OrderedDict()
        self._first = 0
        self._heard_of: int | None = None
        """The newest frame of which anything came, read or not; and the first."""
        self._refused = 0
        self._shallow: SceneState | None = None
        """Of a whole frame some of whose blocks are still expected, for the one before came with them."""
        self._whole_frame = -1
        self._expected = self._deepest = 0
        self.caught_up: list[tuple[int, SceneCode]] = []
        """Frames whose deltas had waited, and what they say, as read by the last call of `whole` or `delta`."""
        self.acknowledgement: bytes | None = None
        """For the next report (`SenderMemory.heard`); None before the first frame."""
        self._foreseen: _Foreseen | None = None

    @property
    def unread(self) -> bool:
        """Whether the newest delta could not be read, for what it refers to is not held."""
        return self._refused > 0

    def whole(self, code: SceneCode, prefix: int, frame: int, stamp_ns: int) -> None:
        """Blocks 0..prefix of a memoryless frame came."""
        self.caught_up = []
        state = self._codec.whole(code, prefix, frame, stamp_ns)
        self._note(frame)
        if frame != self._whole_frame:
            self._whole_frame, self._expected, self._deepest = frame, self._deepest, 0
        self._deepest = max(self._deepest, prefix)
        self._put(state, state.stamp, prefix < self._expected)
        self._read_on()

    def foresee(self, data: bytes, frame: int, stamp_ns: int) -> SceneCode | None:
        """What `delta` will give for the same, if it is called next: the very same code. None where it will raise.
        Nothing is remembered but that."""
        self._foreseen = None
        with suppress(PacketError):
            state, reference = self._decode(data, frame, stamp_ns)
            code = code_of(self._codec, state)
            self._foreseen = _Foreseen((data, frame, stamp_ns), reference, state, code)
            return code
        return None

    def delta(self, data: bytes, frame: int, stamp_ns: int) -> SceneCode:
        """What a frame says whose delta came.

        Raises:
            UnknownReference: it refers to a state that is not held (yet). BlockError: no encoder made these bytes.
        """
        self.caught_up = []
        foreseen, self._foreseen = self._foreseen, None
        try:
            state = self._read(data, frame, stamp_ns, foreseen)
        except UnknownReference:
            self._note(frame)
            self._refused += 1
            self._wait(data, frame, stamp_ns)
            newest = self._newest
            late = 0 if newest is None else abs(self._codec.elapsed(newest, stamp_ns))
            if newest is None or (late > UNREAD_MS and self._refused >= UNREAD_FRAMES):
                self.acknowledgement = b""
            else:
                self._acknowledge()
            raise
        self._read_on()
        return foreseen.code if foreseen is not None and state is foreseen.state else code_of(self._codec, state)

    def _note(self, frame: int) -> None:
        """Something of a frame came that an encoder made."""
        ahead = MOST_FRAMES + 1 if self._heard_of is None else (frame - self._heard_of) & 0xFFFF
        if 0 < ahead <= 0x10000 - MOST_FRAMES:
            self._heard_of = frame
            self._name_shallow()
            if ahead > MOST_FRAMES:  # a sender that begins, or begins anew
                self._first = frame

    def _wait(self, data: bytes, frame: int, stamp_ns: int) -> None:
        """Keeps a delta until what it refers to comes; none that is too far from it to be read ever, as those of a
        sender that began anew since."""
        self._waiting.pop(frame, None)
        for other, (_, stamp) in list(self._waiting.items()):
            if abs(stamp - stamp_ns) > MOST_MS * 1_000_000:
                del self._waiting[other]
        if len(data) <= LARGEST_WAITING:
            self._waiting[frame] = data, stamp_ns
            while len(self._waiting) > MOST_WAITING:
                self._waiting.popitem(last=False)

    def _find(self, frame: int, check: int) -> SceneState | None:
        """The state of a frame with that check, if it is held."""
        return next((state for state in self._states.get(frame, ()) if state.check == check), None)

    def _decode(self, data: bytes, frame: int, stamp_ns: int) -> tuple[SceneState, SceneState]:
        """The state that a delta leads to, and the one that it refers to. Errors as of `delta`."""
        found: list[SceneState] = []

        def find(number: int, check: int) -> SceneState | None:
            state = self._find(number, check)
            found.extend([] if state is None else [state])
            return state

        state = self._codec.decode(data, find, frame, stamp_ns)
        return state, found[0]

    def _read(self, data: bytes, frame: int, stamp_ns: int, foreseen: _Foreseen | None = None) -> SceneState:
        if foreseen is not None and foreseen.of(data, frame, stamp_ns) and self._holds(foreseen.reference):
            state, reference = foreseen.state, foreseen.reference
        else:
            state, reference = self._decode(data, frame, stamp_ns)
        stem = self._stems.get(reference.frame, 0)
        self._note(frame)
        self._put(state, stem)
        return state

    def _holds(self, state: SceneState) -> bool:
        return self._find(state.frame, state.check) is state

    def _read_on(self) -> None:
        """Reads the deltas that came before what they refer to, as far as that is here now."""
        found = True
        while found and self._waiting:
            found = False
            for frame, (data, stamp_ns) in list(self._waiting.items()):
                if frame not in self._waiting:  # the one before was of a sender that began anew
                    continue
                with suppress(PacketError):
                    try:
                        state = self._read(data, frame, stamp_ns)
                    except UnknownReference:
                        continue
                    self.caught_up.append((frame, code_of(self._codec, state)))
                    found = True
                self._waiting.pop(frame, None)

    def _put(self, state: SceneState, stem: int, shallow: bool = False) -> None:
        """Keeps a state. shallow: more blocks of its frame may be on their way."""
        held = self._states.setdefault(state.frame, [])
        if held and held[0].stamp != state.stamp:  # a sender that began anew uses the number again
            held.clear()
            self._waiting.clear()
        self._refused = 0
        if len(held) < self._most:
            held.append(state)
        self._stems[state.frame] = stem
        while len(self._states) > MOST_FRAMES:
            self._stems.pop(self._states.popitem(last=False)[0])
        if shallow:
            self._shallow = state
        else:
            if self._shallow is not None and self._shallow.frame == state.frame:
                self._shallow = None
            self._name(state, stem)
        self._acknowledge()

    def _name_shallow(self) -> None:
        """A later frame came: what is missing of a whole one before it may not come any more."""
        if self._shallow is not None:
            self._name(self._shallow, self._shallow.stamp)
            self._shallow = None

    def _name(self, state: SceneState, stem: int) -> None:
        """Makes a state the one that is acknowledged, unless it is older than the one that is."""
        newest = self._newest
        if newest is None or (
            not self._before(state.stamp, newest.stamp)
            if stem == self._stem
            else stem == state.stamp and not self._before(stem, self._stem)  # another whole frame
        ):
            self._newest, self._stem = state, stem

    def _acknowledge(self) -> None:
        if self._newest is not None:
            self.acknowledgement = bytes((self._lacks() << 6 | self._newest.frame & 0x3F, self._newest.check))

    def _lacks(self) -> int:
        """How much of what was sent lately is not held, up to the newest frame of which anything came: a class, 0 to
        3."""
        newest = self._heard_of or 0
        recent = min(RECENT, (newest - self._first) & 0xFFFF)
        missing = sum((newest - back) & 0xFFFF not in self._states for back in range(recent))
        return sum(missing > most for most in MISSING)

    @staticmethod
    def _before(stamp: int, other: int) -> bool:
        """Whether a stamp is the earlier one; one much earlier is of a sender that began anew."""
        half = 1 << (STAMP_BITS - 1)
        return -MOST_MS < ((stamp - other + half) % (2 * half) - half) // 1_000_000 < 0


@dataclass(frozen=True)
class _Foreseen:
    """What the delta `given` (bytes, frame, stamp in ns) of a frame leads to, before it is taken."""

    given: tuple[bytes, int, int]
    reference: SceneState
    state: SceneState
    code: SceneCode

    def of(self, *given: bytes | int) -> bool:
        """Whether it is what the same delta leads to."""
        return self.given == given


def standing_alone(stream: SceneStream, code: SceneCode) -> SceneCode:
    """What a delta says (`code_of`) as blocks 0 to the last semantic one can say it: one object a cell, of two the
    surer, in the order of cells; feet where the stream has them."""
    surest = np.lexsort((-code.scores, code.cells))
    cells = code.cells[surest]
    alone = code.take(surest[np.flatnonzero(np.diff(cells, prepend=-1))])
    if stream.foot_bits and alone.boxes is not None:
        restored = restore_boxes(stream.layout, alone.cells, alone.sizes, alone.offsets)
        alone.feet = quantise_feet(stream.layout, alone.boxes.astype(np.float32), restored)
    return alone


def code_of(codec: DeltaCodec, state: SceneState) -> SceneCode:
    """What a state says as a code that can be read like a frame's, of the objects that are shown. Latent groups that
    are not known are what the model expects for such a name."""
    if codec.shown is not None:
        cells, sizes, offsets, scores, kept, path, latents, boxes, geometry = codec.shown.code(state.table)
        worked = {"geometry": geometry}
        return SceneCode(
            cells, sizes, offsets, scores, kept=kept, path=path, latents=latents, boxes=boxes, worked=worked
        )
    stream = codec.stream
    shown = state.take(state.hidden == 0) if state.hidden.any() else state
    cells, sizes, offsets, boxes = _placed(codec, shown)
    depth = np.maximum(shown.named, shown.told)
    code = SceneCode(
        cells, sizes, offsets, shown.scores.astype(np.int32), path=[np.zeros(len(shown), np.int32)], boxes=boxes
    )
    for block in range(1, stream.semantic_blocks):
        kept = depth >= block
        code.kept.append(kept)
        if block < codec.levels:
            nodes = shown.path[:, block - 1].astype(np.int32)
            code.path.append(np.where(kept, nodes, UNNAMED).astype(np.int32))
        latents = (shown.latents[block - 1] * kept[:, None]).astype(np.int32)
        expected = kept & (shown.told < block)
        if expected.any():  # of all objects, for what is known of them then serves all blocks
            latents = np.where(expected[:, None], stream.latent_parameters(block, code)[0], latents)
        code.latents.append(latents)
    return code


def _placed(codec: DeltaCodec, state: SceneState) -> tuple[Ints, Ints, Ints, Floats]:
    """Cells n, sizes n,2 and offsets n,2 (both as symbols) of a state's objects, and their boxes n,4 in cells."""
    layout = codec.layout
    boxes = np.concatenate([state.centre, state.sides], axis=1) / UNIT
    column, row = np.minimum(np.maximum(boxes[:, :2].astype(int).T, 0), [[layout.columns - 1], [layout.rows - 1]])
    cells: Ints = (row * layout.columns + column).astype(np.int32)
    return cells, *quantise_boxes(layout, cells, boxes.astype(np.float32)), boxes
