"""Who keeps states of a scene: the sender, which says only what its receiver would get wrong, and the receiver.

The sender follows its own objects from frame to frame (`Tracks`), so that it knows which object of an old state each
detection is. A frame refers to the newest state that the receiver has acknowledged or, while nothing is lost, to the
frame before: then nothing is told twice. For every frame the sender forecasts the state that it refers to, in integers,
as the receiver will, and compares the forecast with what is there now. Objects whose foretold box overlaps the true one
by less than `overlap` are told; so are new ones, those that are gone, and changed names and scores. Where bytes are
short, the least important go first.
"""

from __future__ import annotations

import importlib
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.packet import PacketError, UnknownReference
from semhier_ros.scene.budget import overlaps
from semhier_ros.scene.layout import UNNAMED, Ints, SceneCode, quantise_boxes, spread
from semhier_ros.scene.memory import (
    HIDDEN_MS,
    LOG_STEP,
    LOG_UNIT,
    MOST_FRAMES,
    MOST_MS,
    PLACE_STEP,
    REACH,
    SHIFT_STEP,
    SPEED_STEP,
    STAMP_BITS,
    UNIT,
    Delta,
    DeltaCodec,
    Numbers,
    SceneState,
    side_lengths,
)
from semhier_ros.scene.objects import Objects, name

Floats = NDArray[np.float64]
OVERLAP, WHOLE_EVERY = 0.75, 2.0
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
LEAST_PAN = 0.25
"""Cells a frame from which the picture's motion is expected to go on, too."""
SAME = 0.15
"""Overlap from which a detection can be a track's next one."""
FITTED = 6
"""Detections of a track from which its velocity is fitted."""
SHARE_OF_SPEED = 0.6
"""Of a fitted velocity, what a forecast goes by: the rest is the detector's jitter."""
STEADY_PLACE, STEADY_SIDES = 0.8, 0.6
"""Shares of a detection in an object's told place and logarithms of sides; the rest is what was foretold of it."""
SPEED_GAIN, SURE, AHEAD_MS = 0.3, 2.0, 400
"""A velocity is told where it moves an object by more than this share of its side within AHEAD_MS, and is surer than
that many standard errors."""
ENOUGH = 0.88
"""Overlap with the true box from which residuals that are cheaper to say are good enough."""
WEAK, WEAK_OVERLAP = 0.3, 0.1
"""Objects of a lower score are told where their forecast overlaps by so much less."""
HIDE_AFTER = 1
"""Frames in a row that miss an object before it is told to be hidden."""
BIRTH_HITS, BIRTH_SCORE = 2, 0.22
"""A new object is told once so many frames saw it, or at once from this score on."""
SCORE_STEPS, LEAST_STEPS = 4, 2
"""Classes by which a score must differ to be told: by itself, and beside something else of the object."""
NAME_MEMORY, CLEARLY = 0.3, 1.2
"""Weight of the past in an object's averaged names; how many times likelier another name must be to be told."""
_SUBSETS = np.array([[k >> axis & 1 for axis in range(4)] for k in range(16)])
"""Which of the four residuals are told."""
_NEARBY = np.arange(-6, 7) / 16


@dataclass
class Track:
    """One object as the sender follows it. times (ms), centres and log sides: of its last detections; leaves: averaged
    leaf probabilities; score: averaged objectness; row: of this frame's detection, -1 while it is not seen; velocity:
    of its centre, cells a ms, with its standard error."""

    number: int
    times: list[int] = field(default_factory=list)
    boxes: list[NDArray[np.float64]] = field(default_factory=list)
    leaves: NDArray[np.float64] | None = None
    shown: tuple[int, ...] = ()
    score: float = 0.0
    hits: int = 0
    row: int = -1
    misses: int = 0
    velocity: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    error: NDArray[np.float64] = field(default_factory=lambda: np.full(2, np.inf))
    steady: list[float] = field(default_factory=list)

    @property
    def box(self) -> NDArray[np.float64]:
        return self.boxes[-1]


class Tracks:
    """Follows the detections of one camera by overlap, in a picture that is held still: `shift` 2 is how far the whole
    picture has moved since the first frame, in cells."""

    def __init__(self) -> None:
        self.tracks: list[Track] = []
        self.shift = np.zeros(2)
        self._pan = np.zeros(2)
        self._next = 0
        self._now: int | None = None

    def update(self, objects: Objects, now: int) -> list[Track]:
        """The track of every object found at `now` (ms)."""
        boxes = objects.boxes.astype(np.float64)
        self.tracks = [  # a slow camera's frame before is no further back than the frame before
            track for track in self.tracks if now - track.times[-1] <= (HIDDEN_MS if track.misses else MOST_MS)
        ]
        for old in self.tracks:
            old.row = -1
            old.misses += 1
        pairs = self._pairs(boxes, now)
        known = {place: self.tracks[row] for row, place in pairs}
        chances = np.exp(objects.leaves.astype(np.float64))
        result = []
        for place in range(len(boxes)):
            track = known.get(place)
            if track is None:
                track = Track(self._next)
                self._next += 1
                self.tracks.append(track)
            self._see(track, objects, place, now, chances[place])
            result.append(track)
        self._now = now
        return result

    def _pairs(self, boxes: Floats, now: int) -> list[tuple[int, int]]:
        """(track, detection) of the same objects; `shift` is brought up to date by them."""
        if not self.tracks or not len(boxes) or self._now is None:
            return []
        told = np.array([track.boxes[-1] for track in self.tracks])
        ages = np.array([now - track.times[-1] for track in self.tracks])
        told[:, :2] += SHARE_OF_SPEED * np.array([track.velocity for track in self.tracks]) * ages[:, None]
        told[:, :2] += self.shift
        elapsed = now - self._now
        best: tuple[float, NDArray[np.float64], list[tuple[int, int]]] = (-1.0, np.zeros(2), [])
        pan = self._pan * elapsed
        for start in (np.zeros(2), pan) if np.abs(pan).max() > LEAST_PAN else (np.zeros(2),):
            pairs = _matched(told + np.array([*start, 0.0, 0.0]), boxes)
            away, good = start, float(len(pairs))
            if len(pairs) >= 2:
                rows, places = np.array(pairs).T
                away, good = _common_shift(told[rows], boxes[places])
                pairs = _matched(told + np.array([*away, 0.0, 0.0]), boxes)
            if good > best[0]:
                best = (good, away, pairs)
        self.shift = self.shift + best[1]
        self._pan = best[1] / max(elapsed, 1)
        return best[2]

    def _see(self, track: Track, objects: Objects, place: int, now: int, chances: Floats) -> None:
        box = objects.boxes[place].astype(np.float64)
        box[:2] -= self.shift
        before = track.times[-1] if track.times else now
        track.times.append(now)
        track.boxes.append(box)
        track.misses = 0
        del track.times[:-FITTED], track.boxes[:-FITTED]
        track.velocity, track.error = fit_velocity(track)
        seen = box.tolist()
        if not track.steady:
            track.steady = seen
        else:
            elapsed, old = now - before, track.steady
            for axis in (0, 1):
                told = old[axis] + SHARE_OF_SPEED * float(track.velocity[axis]) * elapsed
                old[axis] = told + STEADY_PLACE * (seen[axis] - told)
                old[axis + 2] *= (seen[axis + 2] / old[axis + 2]) ** STEADY_SIDES
        track.leaves = chances if track.leaves is None else NAME_MEMORY * track.leaves + (1 - NAME_MEMORY) * chances
        score = float(objects.objectness[place])
        track.score = score if not track.hits else 0.5 * track.score + 0.5 * score
        track.hits += 1
        track.row = place


def _matched(told: Floats, boxes: Floats) -> list[tuple[int, int]]:
    """Pairs of boxes n,4 and k,4 that overlap, so that all overlaps together are largest."""
    from scipy.optimize import linear_sum_assignment  # loads slowly

    shared = overlaps(told, boxes)
    rows, places = linear_sum_assignment(-shared)
    return [(r, p) for r, p in zip(rows.tolist(), places.tolist(), strict=True) if shared[r, p] >= SAME]


def _common_shift(first: Floats, second: Floats) -> tuple[Floats, float]:
    """How far most of the boxes n,4 moved together, to 1/16 cell, and the sum of overlaps after it."""
    middle = np.median(second[:, :2] - first[:, :2], axis=0)
    shared_sides = []
    for axis in (0, 1):  # a shift across and one down are tried apart, and every pair of them together
        half, other = first[:, axis + 2] / 2, second[:, axis + 2] / 2
        steps = (_NEARBY + middle[axis])[:, None]
        low = np.maximum((first[:, axis] - half) + steps, second[:, axis] - other)
        high = np.minimum((first[:, axis] + half) + steps, second[:, axis] + other)
        shared_sides.append(np.maximum(high - low, 0))
    inner = shared_sides[0][:, None] * shared_sides[1][None]
    shared = inner / (first[:, 2] * first[:, 3] + second[:, 2] * second[:, 3] - inner)
    good = shared.sum(axis=2)
    x, y = divmod(int(good.argmax()), len(_NEARBY))
    return np.array([_NEARBY[x], _NEARBY[y]]) + middle, float(good[x, y])


def fit_velocity(track: Track) -> tuple[Floats, Floats]:
    """Velocity of a track's centre (cells a ms) by least squares, and its standard error; 0 and inf while unknown."""
    count = len(track.times)
    middle = sum(track.times) / max(count, 1)
    times = [time - middle for time in track.times]
    spread = sum(time * time for time in times)
    if count < 3 or not spread:  # a camera that repeats a stamp tells nothing of speed
        return np.zeros(2), np.full(2, np.inf)
    boxes = [box.tolist() for box in track.boxes]
    velocity, error = [], []
    for axis in (0, 1):
        mean = sum(box[axis] for box in boxes) / count
        places = [box[axis] - mean for box in boxes]
        speed = sum(time * place for time, place in zip(times, places, strict=True)) / spread
        rest = sum((place - time * speed) ** 2 for time, place in zip(times, places, strict=True)) / max(count - 2, 1)
        velocity.append(speed)
        error.append((max(rest, (0.02 * boxes[-1][2 + axis]) ** 2) / spread) ** 0.5)
    return np.array(velocity), np.array(error)


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


class SenderMemory:
    """What a sender remembers of one camera. `overlap`: of a forecast, below which an object is told (0.3 to 0.95).
    `whole_every`: seconds between memoryless frames (0.2 to 60). Both may be changed at any time.

    For each frame `begin`, then `delta`; where that gives None the frame goes out whole, and `whole` must follow.
    `heard` may be called from any thread. Raises ValueError naming field, value and range.
    """

    def __init__(self, codec: DeltaCodec, overlap: float = OVERLAP, whole_every: float = WHOLE_EVERY) -> None:
        check_memory(overlap, whole_every)
        importlib.import_module("scipy.optimize")  # it loads slowly: now, and not while a frame waits
        self.overlap, self.whole_every = overlap, whole_every
        self._codec = codec
        self._lock = threading.Lock()
        self._tracks = Tracks()
        self._found: list[Track] = []
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
        """The state with that check among those that the frame may have led to."""
        if sent.code is None:
            return sent.state if sent.state is not None and sent.state.check == check else None
        for prefix in range(len(sent.code.latents), -1, -1):
            state = self._codec.whole(sent.code, prefix, sent.frame, sent.stamp_ns)
            if state.check == check:
                self._prefixes.append(prefix)
                return state
        return None

    # -- frames -------------------------------------------------------------------------------------------------------

    def begin(self, frame: int, stamp_ns: int) -> None:
        """The next frame has this number (0..65535) and stamp (ns)."""
        self._frame, self._stamp_ns = frame, stamp_ns

    def delta(self, objects: Objects, worth: Floats, max_bytes: int | None = None) -> bytes | None:
        """The delta of the present frame, in which these objects were found; None where it shall be whole.

        worth n: importance of each object. max_bytes: as much as it may take; what is least important goes unsaid.
        """
        frame, stamp_ns = self._frame, self._stamp_ns
        self._found = self._tracks.update(objects, stamp_ns // 1_000_000)
        self._cells = objects.cells
        with self._lock:
            reference = self._due()
        if reference is None or len(objects) < LEAST_OBJECTS:
            return None
        plan = _Plan(self._codec, reference, self._tracks, self._found, objects, frame, stamp_ns)
        if not plan.choose(self.overlap, worth):
            return None
        data, state = plan.encode(max_bytes)
        self._said = plan
        self._keep(plan.tracks_after(), state=state)
        return data

    def _due(self) -> _Sent | None:
        """The reference to go by, None where the frame shall be whole."""
        since = -1 if self._whole_ns is None else self._stamp_ns - self._whole_ns
        if not 0 <= since < self.whole_every * 1e9 - 1e6 or (self._wanted and since >= WHOLE_AGAIN_MS * 1e6):
            return None
        held = self._reference
        if held is None or held.state is None:
            return None
        age = self._codec.elapsed(held.state, self._stamp_ns)
        step = (self._stamp_ns - next(reversed(self._sent.values())).stamp_ns) / 1e6
        stale = min(MOST_MS, max(STALE_MS, STALE_FRAMES * step))
        near = 0 < (self._frame - held.frame) & 0xFFFF <= MOST_FRAMES and 0 < age <= stale
        if not near and not (0 < age <= SILENT_MS and since < SILENT_WHOLE_MS * 1e6):
            return None
        lossy = self._lossy_ns is not None and 0 <= self._stamp_ns - self._lossy_ns <= LOSSY_MS * 1e6
        lossy |= not 0 <= self._stamp_ns - self._heard_ns <= UNHEARD_MS * 1e6
        if not near or (step <= UNHEARD_MS and not lossy and self._chained < CHAIN):
            last = self._last(held.order)
            if last is not None or not near:
                self._chained += 1
                return last
        self._chained = 0
        return held

    def _last(self, after: int) -> _Sent | None:
        """The frame before, as it is if it arrives (a whole one as deep as others did); None where that is no later
        than the one counted `after`, or can't be referred to."""
        last = next(reversed(self._sent.values()))
        state = last.state
        if last.order <= after or not 0 < (self._frame - last.frame) & 0xFFFF <= MOST_FRAMES:
            return None
        if state is None:
            assert last.code is not None
            prefix = max(self._prefixes) if len(self._prefixes) == 2 else len(last.code.latents)
            state = self._codec.whole(last.code, prefix, last.frame, last.stamp_ns)
        return (
            replace(last, state=state, code=None) if 0 < self._codec.elapsed(state, self._stamp_ns) <= MOST_MS else None
        )

    def whole(self, code: SceneCode) -> None:
        """The present frame goes out whole: `code`, after all its semantic blocks."""
        numbers = {int(cell): track.number for cell, track in zip(self._cells, self._found, strict=True)}
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

    def code(self) -> SceneCode:
        """The present frame as its receiver reads the delta: what its picture blocks are made with."""
        state = self._sent[self._frame].state
        assert state is not None
        return code_of(self._codec, state)


def check_memory(overlap: float, whole_every: float) -> None:
    """Raises ValueError naming field, value and range, unless a sender can work by these (see `SenderMemory`)."""
    if not 0.3 <= overlap <= 0.95:
        raise ValueError(f"memory.overlap: {overlap} is outside 0.3..0.95")
    if not 0.2 <= whole_every <= 60.0:
        raise ValueError(f"memory.whole_every: {whole_every} s is outside 0.2..60")


class _Plan:
    """What to say of one frame."""

    def __init__(
        self,
        codec: DeltaCodec,
        sent: _Sent,
        following: Tracks,
        found: Sequence[Track],
        objects: Objects,
        frame: int,
        stamp_ns: int,
    ) -> None:
        assert sent.state is not None
        self._reference = reference = sent.state
        self._codec, self._objects, self._shift = codec, objects, sent.shift
        self._frame, self._stamp_ns = frame, stamp_ns
        self._elapsed = codec.elapsed(reference, stamp_ns)
        hidden = np.where(reference.hidden > 0, reference.hidden + self._elapsed, 0)
        self._numbers = [sent.tracks[row] for row in np.flatnonzero(hidden <= HIDDEN_MS)]
        self._state = codec.waiting(reference, stamp_ns)
        self._tracks, self._found = following, list(found)
        self._delta = Delta.nothing(reference, frame, len(self._state), codec.levels)
        self._value = np.zeros(len(self._state))
        self._births: list[tuple[float, int]] = []
        self._born: list[int] = []
        self._masses, self._best = _names(codec, self._found)

    def choose(self, overlap: float, worth: Floats) -> bool:
        """Fills the delta with all that is worth saying. False where a whole frame says it better: most is new."""
        codec, state, delta = self._codec, self._state, self._delta
        rows = {number: row for row, number in enumerate(self._numbers) if number >= 0}
        at = np.full(len(state), -1)
        for place, track in enumerate(self._found):
            if track.number in rows:
                at[rows[track.number]] = place
        there = np.flatnonzero(at >= 0)
        self._boxes = [self._told(track) for track in self._found]
        boxes = np.array([self._boxes[place] for place in at[there].tolist()]).reshape(-1, 4) * UNIT
        self._choose_camera()
        shift = codec.shift(state, self._elapsed, delta.pans, delta.shift)
        centre = codec.moved(state, self._elapsed, shift)
        sides = state.sides
        shared = np.zeros(len(state))
        shared[there] = _overlap(np.concatenate([centre, sides], axis=1)[there], boxes)
        scores = np.searchsorted(codec.layout.score_edges, [track.score for track in self._found], side="right")
        for place, row in zip(at[there].tolist(), there.tolist(), strict=True):
            self._say(
                row,
                place,
                shared[row] < overlap - WEAK_OVERLAP * (self._found[place].score < WEAK),
                centre[row],
                int(scores[place]),
            )
            self._value[row] = worth[place] * (1.2 - shared[row])
        alive = {track.number: track for track in self._tracks.tracks}
        for row in np.flatnonzero((at < 0) & (state.hidden == 0)).tolist():
            lost = alive.get(self._numbers[row])
            if lost is not None and lost.misses < HIDE_AFTER:
                continue
            delta.touched[row] = delta.toggled[row] = 1
            self._value[row] = 0.3
        known = {number for number in self._numbers if number >= 0}
        self._births = [
            (float(worth[place]), place)
            for place, track in enumerate(self._found)
            if track.number not in known
            and (track.hits >= BIRTH_HITS or self._objects.objectness[place] >= BIRTH_SCORE)
        ]
        return len(self._births) <= max(2, len(there))

    def _told(self, track: Track) -> list[float]:
        """An object's steadied box in the present picture."""
        x, y, w, h = track.steady
        return [x + self._tracks.shift[0], y + self._tracks.shift[1], w, h]

    def _choose_camera(self) -> None:
        """How far the whole picture moved since the reference."""
        codec, delta, state = self._codec, self._delta, self._state
        wanted = (self._tracks.shift - self._shift) * UNIT
        for pans in (0, 1) if state.camera.any() else (0,):
            rest = wanted - codec.shift(state, self._elapsed, pans, np.zeros(2, np.int64))
            most = REACH * REACH
            steps = np.clip(np.rint(rest / SHIFT_STEP), -most, most).astype(np.int64)
            if not pans or np.abs(steps).sum() + 1 < np.abs(delta.shift).sum():
                delta.pans, delta.shift = pans, steps

    def _say(self, row: int, place: int, far: bool, centre: Numbers, score: int) -> None:
        """What to say of an object that is there."""
        state, delta, track = self._state, self._delta, self._found[place]
        box = np.array(self._boxes[place])
        if state.hidden[row]:
            delta.touched[row] = delta.toggled[row] = 1
        if far:
            self._move(row, track, box, centre)
        self._label(row, place, score, bool(delta.touched[row]))

    def _move(self, row: int, track: Track, box: Floats, centre: Numbers) -> None:
        state, delta = self._state, self._delta
        sides = state.sides[row]
        velocity, error = track.velocity, track.error
        shift = self._codec.shift(state, self._elapsed, delta.pans, delta.shift)
        wanted = SHARE_OF_SPEED * velocity * UNIT * 1024 - state.velocity[row]
        gain = np.abs(wanted) * AHEAD_MS / 1024 / sides
        sure = np.abs(wanted) > SURE * error * UNIT * 1024
        if ((gain > SPEED_GAIN) & sure).any():
            unit = np.maximum(sides * SPEED_STEP >> 8, 1)
            speed = np.where(sure, np.clip(np.rint(wanted / unit), -REACH, REACH), 0).astype(np.int64)
            if speed.any():
                delta.steered[row], delta.speed[row] = 1, speed
                going = replace(
                    state.take(np.array([row])),
                    velocity=(state.velocity[row] + (speed * sides * SPEED_STEP >> 8))[None],
                )
                centre = self._codec.moved(going, self._elapsed, shift)[0]
        away = (box[:2] * UNIT - centre) * 256 / (sides * PLACE_STEP)
        grown = (np.log(np.maximum(box[2:], 1e-3)) * LOG_UNIT - state.logs[row]) / LOG_STEP
        full = np.clip(np.rint(np.concatenate([away, grown])), -REACH, REACH).astype(np.int64)
        told = self._cheapest(full, box, centre, row)
        delta.place[row], delta.size[row] = told[:2], told[2:]
        if delta.place[row].any() or delta.size[row].any() or delta.steered[row]:
            delta.touched[row] = delta.moved[row] = 1

    def _cheapest(self, full: Numbers, box: Floats, centre: Numbers, row: int) -> Numbers:
        """Of the residuals 4 that put an object right those that are worth their bits: the cheapest subset that comes
        near enough to its true box."""
        told = _SUBSETS * full
        shown = np.concatenate(
            [
                centre + (told[:, :2] * self._state.sides[row] * PLACE_STEP >> 8),
                side_lengths(self._state.logs[row] + told[:, 2:] * LOG_STEP),
            ],
            axis=1,
        )
        shared = _overlap(shown, np.broadcast_to(box * UNIT, shown.shape))
        cost = np.abs(told).sum(axis=1) + 2 * (told != 0).sum(axis=1)
        good = shared >= min(ENOUGH, float(shared.max()))
        found: Numbers = told[int(np.where(good, cost, cost.max() + 1).argmin())]
        return found

    def _label(self, row: int, place: int, score: int, touched: bool) -> None:
        state, delta = self._state, self._delta
        change = score - int(state.scores[row])
        known = int(state.named[row])
        before = tuple(state.path[row, :known].tolist())
        path = self._path(place, before)
        if path[:known] != before:
            delta.renamed[row] = 2
            delta.named[row] = known
            delta.path[row, :known] = path[:known]
        said = touched or delta.renamed[row] > 0
        if abs(change) < max(1, LEAST_STEPS if said else SCORE_STEPS):
            change = 0
        if change or delta.renamed[row]:
            delta.touched[row] = delta.labelled[row] = 1
            delta.score[row] = change

    def _path(self, place: int, before: tuple[int, ...]) -> tuple[int, ...]:
        """A track's name; the one before where no other is clearly likelier."""
        best = self._best[place]
        if not before or best[: len(before)] == before:
            return best
        chances = self._masses[len(before) - 1][place]
        level = len(before) - 1
        return best if chances[best[level]] > CLEARLY * chances[before[level]] else (*before, *best[len(before) :])

    def encode(self, max_bytes: int | None) -> tuple[bytes, SceneState]:
        """The delta's bytes, within `max_bytes` as far as it can be, and the state after it."""
        room = self._codec.layout.max_objects - len(self._state)
        births = sorted(self._births, reverse=True)[: max(room, 0)]
        while True:
            self._born = sorted((place for _, place in births), key=lambda place: int(self._objects.cells[place]))
            self._delta.born = self._new(self._born)
            data, state = self._codec.encode(self._reference, self._delta, self._frame, self._stamp_ns)
            said = np.flatnonzero(self._delta.touched)
            if max_bytes is None or len(data) <= max_bytes or (not len(said) and not births):
                return data, state
            worst = said[np.argmin(self._value[said])] if len(said) else None
            if births and (worst is None or births[-1][0] < self._value[worst]):
                births.pop()
            elif worst is not None:
                self._unsay(int(worst))

    def costs(self) -> dict[str, float]:
        """Ideal bits of what is said, by what that is."""
        return self._codec.costs(self._reference, self._delta, self._frame, self._stamp_ns)

    def _unsay(self, row: int) -> None:
        delta = self._delta
        for part in (
            delta.touched,
            delta.toggled,
            delta.moved,
            delta.steered,
            delta.labelled,
            delta.score,
            delta.renamed,
        ):
            part[row] = 0
        delta.place[row] = delta.size[row] = delta.speed[row] = 0

    def _new(self, places: Sequence[int]) -> SceneCode:
        layout, levels = self._codec.layout, self._codec.levels
        objects = self._objects.take(np.array(places, np.intp))
        sizes, offsets = quantise_boxes(layout, objects.cells, objects.boxes)
        scores = np.searchsorted(layout.score_edges, objects.objectness, side="right").astype(np.int32)
        paths = [self._path(place, ()) for place in places]
        path = [np.zeros(len(places), np.int32)]
        path += [np.array([one[level] for one in paths], np.int32) for level in range(levels - 1)]
        return SceneCode(objects.cells, sizes, offsets, scores, path=path)

    def tracks_after(self) -> list[int]:
        """The track of every object of the state after the delta."""
        return [*self._numbers, *(self._found[place].number for place in self._born)]


def _names(codec: DeltaCodec, found: Sequence[Track]) -> tuple[list[Floats], list[tuple[int, ...]]]:
    """Of every level below the first the chances n,nodes of n tracks, and the likeliest path of each."""
    parents = codec.layout.parents
    if not found or not parents:
        return [np.zeros((len(found), 1)) for _ in parents], [() for _ in found]
    masses = [np.array([track.leaves for track in found])]
    levels = name(np.log(np.maximum(masses[0], 1e-9)), parents)[1:]
    for parent in reversed(parents[1:]):
        masses.append(masses[-1] @ np.eye(max(parent) + 1)[np.asarray(parent)])
    return masses[::-1], [tuple(path) for path in np.stack(levels, axis=1).tolist()]


def _overlap(first: NDArray, second: NDArray) -> Floats:
    """Intersection over union of n pairs of boxes n,4 (cx, cy, w, h)."""
    first, second = np.asarray(first, float), np.asarray(second, float)
    low = np.maximum(first[:, :2] - first[:, 2:] / 2, second[:, :2] - second[:, 2:] / 2)
    high = np.minimum(first[:, :2] + first[:, 2:] / 2, second[:, :2] + second[:, 2:] / 2)
    inner = np.clip(high - low, 0, None).prod(axis=1)
    return inner / np.maximum(first[:, 2:].prod(axis=1) + second[:, 2:].prod(axis=1) - inner, 1e-9)


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

    def delta(self, data: bytes, frame: int, stamp_ns: int) -> SceneCode:
        """What a frame says whose delta came.

        Raises:
            UnknownReference: it refers to a state that is not held (yet). BlockError: no encoder made these bytes.
        """
        self.caught_up = []
        try:
            state = self._read(data, frame, stamp_ns)
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
        return code_of(self._codec, state)

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

    def _read(self, data: bytes, frame: int, stamp_ns: int) -> SceneState:
        stem = 0

        def find(number: int, check: int) -> SceneState | None:
            nonlocal stem
            stem = self._stems.get(number, 0)
            return next((state for state in self._states.get(number, ()) if state.check == check), None)

        state = self._codec.decode(data, find, frame, stamp_ns)
        self._note(frame)
        self._put(state, stem)
        return state

    def _read_on(self) -> None:
        """Reads the deltas that came before what they refer to, as far as that is here now."""
        found = True
        while found and self._waiting:
            found = False
            for frame, (data, stamp_ns) in list(self._waiting.items()):
                with suppress(PacketError):
                    try:
                        state = self._read(data, frame, stamp_ns)
                    except UnknownReference:
                        continue
                    self.caught_up.append((frame, code_of(self._codec, state)))
                    found = True
                del self._waiting[frame]

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


def code_of(codec: DeltaCodec, state: SceneState) -> SceneCode:
    """What a state says as a code that can be read like a frame's, of the objects that are shown. Latent groups that
    are not known are what the model expects for such a name."""
    layout, stream = codec.layout, codec.stream
    shown = state.take(state.hidden == 0) if state.hidden.any() else state
    boxes = np.concatenate([shown.centre, side_lengths(shown.logs)], axis=1) / UNIT
    column = np.clip(boxes[:, 0].astype(int), 0, layout.columns - 1)
    row = np.clip(boxes[:, 1].astype(int), 0, layout.rows - 1)
    cells: Ints = (row * layout.columns + column).astype(np.int32)
    sizes, offsets = quantise_boxes(layout, cells, boxes.astype(np.float32))
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
        every = bool(kept.all())
        means, _ = stream.latent_parameters(block, code if every else code.take(kept))
        known = (shown.told >= block)[kept][:, None]
        code.latents.append(spread(np.where(known, shown.latents[block - 1][kept], means).astype(np.int32), kept, 0))
    return code
