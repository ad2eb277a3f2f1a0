"""Which object of earlier frames each of the sender's detections is: by overlap, in a picture that is held still.

All tracks are rows of arrays: one by one a score of objects would cost several times as much.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from semhier_ros.native import kernels
from semhier_ros.scene.budget import overlaps
from semhier_ros.scene.memory import HIDDEN_MS, MOST_MS
from semhier_ros.scene.objects import Objects

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
Rows = NDArray[np.intp]
LEAST_PAN = 0.25
"""Cells a frame from which the picture's motion is expected to go on, too."""
SAME = 0.15
"""Overlap from which a detection can be a track's next one."""
FITTED = 6
"""Detections of a track from which its velocity is fitted."""
SHARE_OF_SPEED = 0.5
"""Of a fitted velocity, what a forecast goes by: the rest is the detector's jitter."""
STEADY = 0.9
"""Share of a detection in an object's told place and logarithms of sides; the rest is what was foretold of it. Less of
it saves bytes, and lags behind what grows or turns."""
NAME_MEMORY = 0.3
"""Weight of the past in an object's averaged names."""
_NEARBY = np.arange(-6, 7) / 16


@dataclass
class TrackRows:
    """n objects as the sender follows them.

    number n: of the track. times n,FITTED (ms) and boxes n,FITTED,4: of its last `count` n detections, oldest first, in
    the picture held still. leaves n,types: averaged leaf probabilities. hits: frames that saw it, misses: that did not
    since, streak: that saw it without a gap before, n. velocity n,2: of its centre, cells a ms, with its standard
    `error`, inf while unknown. steady n,4: its steadied box.
    """

    number: Whole
    times: Whole
    boxes: Floats
    count: Rows
    leaves: Floats
    hits: Whole
    misses: Whole
    streak: Whole
    velocity: Floats
    error: Floats
    steady: Floats

    def __len__(self) -> int:
        return len(self.number)

    @classmethod
    def new(cls, first: int, leaves: Floats) -> TrackRows:
        """Tracks from number `first` on of which nothing is known but their leaves n,types."""
        n = len(leaves)
        none = lambda: np.zeros(n, np.int64)  # noqa: E731
        return cls(
            first + np.arange(n), np.zeros((n, FITTED), np.int64), np.zeros((n, FITTED, 4)), np.zeros(n, np.intp),
            leaves, none(), none(), none(), np.zeros((n, 2)), np.full((n, 2), np.inf), np.zeros((n, 4)),
        )  # fmt: skip

    def take(self, rows: Rows) -> TrackRows:
        """The same of some tracks."""
        return TrackRows(*[getattr(self, part).take(rows, axis=0) for part in _PARTS])

    def joined(self, other: TrackRows) -> TrackRows:
        """These tracks, then the others."""
        return TrackRows(*[np.concatenate([getattr(self, part), getattr(other, part)]) for part in _PARTS])

    @property
    def last_times(self) -> Whole:
        """Of the newest detections, n."""
        return self.times[np.arange(len(self)), self.count - 1]

    @property
    def last_boxes(self) -> Floats:
        """The newest detections n,4."""
        return self.boxes[np.arange(len(self)), self.count - 1]


_PARTS = [part.name for part in fields(TrackRows)]


class Tracks:
    """Follows the detections of one camera. `shift` 2 is how far the whole picture has moved since the first frame, in
    cells; `rows` are all tracks."""

    def __init__(self) -> None:
        self.rows: TrackRows | None = None
        self.shift = np.zeros(2)
        self._pan = np.zeros(2)
        self._next = 0
        self._now: int | None = None

    def update(self, objects: Objects, now: int) -> Rows:
        """The row of the track of every object found at `now` (ms)."""
        boxes = objects.boxes.astype(np.float64)
        chances = np.exp(objects.leaves.astype(np.float64))
        tracks = TrackRows.new(0, chances[:0]) if self.rows is None else self.rows
        if len(tracks):  # a slow camera's frame before is no further back than the frame before
            kept = now - tracks.last_times <= np.where(tracks.misses > 0, HIDDEN_MS, MOST_MS)
            if not kept.all():
                tracks = tracks.take(np.flatnonzero(kept))
            tracks.misses += 1
        paired, places = self._pairs(tracks, boxes, now)
        found = np.full(len(boxes), -1, np.intp)
        found[places] = paired
        fresh = np.flatnonzero(found < 0)
        if len(fresh):
            found[fresh] = len(tracks) + np.arange(len(fresh))
            tracks = tracks.joined(TrackRows.new(self._next, chances[fresh]))
            self._next += len(fresh)
        if len(found):
            self._see(tracks, found, chances, boxes, now)
        self._now, self.rows = now, tracks
        return found

    def _pairs(self, tracks: TrackRows, boxes: Floats, now: int) -> tuple[Rows, Rows]:
        """(tracks, detections) of the same objects; `shift` is brought up to date by them."""
        none = np.zeros(0, np.intp)
        if not len(tracks) or not len(boxes) or self._now is None:
            return none, none
        if kernels is not None:
            told = kernels.tracks_now(tracks.times, tracks.boxes, tracks.count, tracks.velocity, self.shift, now)
        else:
            told = tracks.last_boxes
            told[:, :2] += SHARE_OF_SPEED * tracks.velocity * (now - tracks.last_times)[:, None]
            told[:, :2] += self.shift
        elapsed = now - self._now
        best: tuple[float, Floats, tuple[Rows, Rows]] = (-1.0, np.zeros(2), (none, none))
        pan = self._pan * elapsed
        for start in (np.zeros(2), pan) if np.abs(pan).max() > LEAST_PAN else (np.zeros(2),):
            rows, places = _matched(_shifted(told, start), boxes)
            away, good = start, float(len(rows))
            if len(rows) >= 2:
                away, good = _common_shift(told[rows], boxes[places])
                rows, places = _matched(_shifted(told, away), boxes)
            if good > best[0]:
                best = (good, away, (rows, places))
        self.shift = self.shift + best[1]
        self._pan = best[1] / max(elapsed, 1)
        return best[2]

    def _see(self, tracks: TrackRows, found: Rows, chances: Floats, boxes: Floats, now: int) -> None:
        """Each detection to its track."""
        still = _shifted(boxes, -self.shift)
        if kernels is not None:
            rows = [getattr(tracks, part) for part in _PARTS[1:]]
            kernels.see_tracks(*rows, found, chances, still, now)
            return
        new, before = tracks.count[found] == 0, tracks.last_times[found]
        full = found[tracks.count[found] == FITTED]
        tracks.times[full, :-1], tracks.boxes[full, :-1] = tracks.times[full, 1:], tracks.boxes[full, 1:]
        tracks.count[found] = count = np.minimum(tracks.count[found] + 1, FITTED)
        tracks.times[found, count - 1], tracks.boxes[found, count - 1] = now, still
        tracks.streak[found] = np.where(tracks.misses[found] > 1, 1, tracks.streak[found] + 1)
        tracks.misses[found] = 0
        tracks.hits[found] += 1
        velocity, error = fit_velocities(tracks.times[found], tracks.boxes[found], count)
        tracks.velocity[found], tracks.error[found] = velocity, error
        old = np.where(new[:, None], still, tracks.steady[found])
        told = old[:, :2] + SHARE_OF_SPEED * velocity * (now - before)[:, None]
        placed = np.where(new[:, None], still[:, :2], told + STEADY * (still[:, :2] - told))
        ratio = still[:, 2:] / old[:, 2:]
        # one by one: the powers of arrays are another number in the last place on some processors
        grown = np.array([value**STEADY for value in ratio.ravel().tolist()]).reshape(ratio.shape)
        tracks.steady[found] = np.concatenate([placed, old[:, 2:] * grown], axis=1)
        averaged = NAME_MEMORY * tracks.leaves[found] + (1 - NAME_MEMORY) * chances
        tracks.leaves[found] = np.where(new[:, None], chances, averaged)


def _shifted(boxes: Floats, away: Floats) -> Floats:
    """The boxes n,4, all moved `away`."""
    moved = boxes.copy()
    moved[:, :2] += away
    return moved


def _matched(told: Floats, boxes: Floats) -> tuple[Rows, Rows]:
    """Rows of boxes n,4 and k,4 that overlap, so that all overlaps together are largest."""
    from scipy.optimize import linear_sum_assignment  # loads slowly

    shared = overlaps(told, boxes) if kernels is None else kernels.box_overlaps(told, boxes)
    rows, places = linear_sum_assignment(shared, maximize=True)
    same = shared[rows, places] >= SAME
    return rows[same], places[same]


def _common_shift(first: Floats, second: Floats) -> tuple[Floats, float]:
    """How far most of the boxes n,4 moved together, to 1/16 cell, and the sum of overlaps after it."""
    if kernels is not None:
        shift, shared = kernels.common_shift(first, second)
        return np.array(shift), shared
    apart = np.sort(second[:, :2] - first[:, :2], axis=0)
    middle = (apart[(len(first) - 1) // 2] + apart[len(first) // 2]) / 2
    # a shift across and one down are tried apart, and every pair of them together
    half, rest = first[:, 2:, None] / 2, second[:, 2:, None] / 2
    steps = _NEARBY + middle[:, None]
    low = np.maximum(first[:, :2, None] - half + steps, second[:, :2, None] - rest)
    high = np.minimum(first[:, :2, None] + half + steps, second[:, :2, None] + rest)
    within = np.maximum(high - low, 0)
    inner = within[:, 0, :, None] * within[:, 1, None]
    areas = first[:, 2] * first[:, 3] + second[:, 2] * second[:, 3]
    good = (inner / (areas[:, None, None] - inner)).sum(axis=0)
    x, y = divmod(int(good.argmax()), len(_NEARBY))
    return np.array([_NEARBY[x], _NEARBY[y]]) + middle, float(good[x, y])


def fit_velocities(times: Whole, boxes: Floats, counts: Rows) -> tuple[Floats, Floats]:
    """Velocities n,2 of the centres of n tracks (cells a ms) by least squares over their detections, and their standard
    errors; 0 and inf while unknown. times, boxes, counts: as `TrackRows` has them."""
    most, number = int(counts.max()), len(counts)
    moments = np.empty((most, 3, number))  # of each detection centre and time, the same of all tracks in one row
    moments[:, :2] = boxes[:, :most, :2].transpose(1, 2, 0)
    moments[:, 2] = times[:, :most].T
    count = counts.astype(np.float64)
    there = np.arange(most)[:, None] < count
    if not there.all():
        moments *= there[:, None]
    moments -= moments.sum(axis=0) / count
    if not there.all():
        moments *= there[:, None]
    last = boxes[np.arange(number), counts - 1, 2:].T
    products = (moments[:, 2:] * moments).sum(axis=0)
    spread = products[2]
    known = (count >= 3) & (spread > 0)  # a camera that repeats a stamp tells nothing of speed
    over = np.where(known, spread, 1.0)
    speed = products[:2] / over
    rest = ((moments[:, :2] - moments[:, 2:] * speed) ** 2).sum(axis=0) / np.maximum(count - 2, 1)
    error = np.sqrt(np.maximum(rest, (0.02 * last) ** 2) / over)
    return np.where(known, speed, 0.0).T, np.where(known, error, np.inf).T
