"""The living scene: the objects of one camera as they are *now*, from readings that are always a little old.

Readings go in as they come (`LivingScene.follow`), the scene can be asked for at any instant (`LivingScene.at`).
Objects keep their id from reading to reading, their names do not flicker (`scene.names`), and where they are is
foretold by `scene.forecast`. Nothing of this costs a byte on the wire, and every stream of readings can be given it.

**The same object?** What is seen is assigned to what was foretold so that the likelihood of all pairs together is
largest (scipy's `linear_sum_assignment`), over centre and sides, with pairs beyond `GATE` forbidden and pairs of
another group dearer.

**How sure?** A detector flickers: what it sees for the first time is there again a moment later in one case of three,
what it has seen ten times and misses once is seen again in one of four. `Confidence` turns an object's history and the
spread of its forecast into the probability that the object is there and overlaps its foretold box by half. An object
whose probability has fallen below `LEAST_SHOWN`, be it unseen for long or too uncertain, is shown no more.
"""

from __future__ import annotations

import importlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.reading import Detection, Reading, Scene, TrackedObject
from semhier_ros.native import kernels
from semhier_ros.scene.forecast import MODELS, Forecast, MotionBank, MotionModel, Seen
from semhier_ros.scene.names import SteadyNames, Tree
from semhier_ros.taxonomy import Taxonomy

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
Rows = NDArray[np.intp]
REMEMBERED_FRAMES = 32  # whose late blocks still find their ids
MOST_OBJECTS = 128  # tracks that are kept; the least likely go first
LATE_FRAMES = 255  # so far behind the newest one a frame of an earlier stamp is late; else its clock was set
SET_BACK_SECONDS = 0.2  # by which stamps may go back from frame to frame: cameras are not exact
MOST_SECONDS = 2.0  # a forecast reaches no further, and a gap of more makes everything new
UNSEEN_SECONDS = 1.0  # an object unseen for longer is forgotten
GATE = 25.0  # squared standard deviations of centre and sides together, of four degrees of freedom
NEW_OBJECTS = 4.0  # expected in a frame, anywhere in the picture and over four e-folds of each side
ANOTHER_GROUP = 6.0  # twice the nats that a pair of different groups costs
JITTER, JITTER_PIXELS = 0.04, 0.5  # standard deviation of a detected centre, in shares of its side and in pixels
SIDE_JITTER = 0.07  # standard deviation of the logarithm of a detected side
CORRELATED_SECONDS = 0.05  # readings closer than this share their jitter
TOLD_SIDES, TOLD_PIXELS = 0.1, 5.0
"""Standard deviation of a velocity that the sender told, in sides/s and in pixels/s."""
LEAST_SHOWN = 0.03  # probability below which an object is not shown, and forgotten at the next reading
NEW_WEIGHT = 0.5  # of the newest reading in an object's averaged score


@dataclass(frozen=True, slots=True)
class Confidence:
    """The probability that an object is seen again, by logistic regression on its history: weights of 1, the logit of
    the averaged score that its detector gave it, whether it was missed by the newest reading, by how many readings in a
    row (up to 6), the logarithm of how many saw it (up to 10), and the logarithm of the chance that the foretold box
    overlaps by half."""

    one: float = 0.40
    score: float = 0.42
    unseen: float = -1.92
    misses: float = -0.20
    hits: float = 0.48
    overlap: float = 1.15

    @property
    def weights(self) -> tuple[float, ...]:
        """All of them, in order."""
        return self.one, self.score, self.unseen, self.misses, self.hits, self.overlap

    def of(self, said: Floats, hits: Floats, misses: Floats, overlaps: Floats) -> Floats:
        """Probabilities of objects: arrays of any shape, all of the same."""
        odds = np.minimum(np.maximum(said, 0.02), 0.98)
        seen = np.minimum(np.maximum(hits, 1), 10)
        logit, often, near = np.log(np.array([odds / (1 - odds), seen, np.maximum(overlaps, 1e-3)]))
        total = self.one + self.score * logit + self.unseen * (misses > 0) + self.misses * np.minimum(misses, 6)
        total = total + self.hits * often + self.overlap * near
        return np.asarray(1 / (1 + np.exp(-total)))


@dataclass
class _Objects:
    """n tracks beside their rows in the bank: `number` of each, ascending; `born_ns` and `seen_ns`: stamps of the first
    and the newest frame that showed it; `there`: averaged score of level 0; `said`: averaged score that the sender's
    detector gave it, as far as it was told, else that of level 0; `hits`: frames that showed it, `misses`: that did not
    since; `shown`: its newest detection under its steady names; `names`: what is known of those."""

    number: Whole
    born_ns: Whole
    seen_ns: Whole
    there: Floats
    said: Floats
    hits: Floats
    misses: Floats
    shown: list[Detection]
    names: SteadyNames

    @classmethod
    def none(cls, tree: Tree) -> _Objects:
        whole, real = np.zeros(0, np.int64), np.zeros(0)
        return cls(whole, whole, whole, real, real, real, real, [], SteadyNames.new(tree, 0))

    def __len__(self) -> int:
        return len(self.shown)

    @property
    def history(self) -> tuple[Floats, Floats, Floats]:
        """What `Confidence` goes by, but for where they are."""
        return self.said, self.hits, self.misses

    def take(self, rows: Rows) -> _Objects:
        """The same of some tracks."""
        return _Objects(
            self.number[rows], self.born_ns[rows], self.seen_ns[rows], self.there[rows], self.said[rows],
            self.hits[rows], self.misses[rows], [self.shown[row] for row in rows.tolist()], self.names.take(rows),
        )  # fmt: skip

    def add(self, first: int, stamp_ns: int, found: Sequence[Detection], tree: Tree) -> None:
        """New tracks, from number `first` on, of what a frame showed."""
        one = np.ones(len(found))
        for name, values in (
            ("number", first + np.arange(len(found))),
            ("born_ns", np.full(len(found), stamp_ns)),
            ("seen_ns", np.full(len(found), stamp_ns)),
            ("there", np.array([item.scores[0] for item in found], float)),
            ("said", np.array([said_of(item) for item in found], float)),
            ("hits", one),
            ("misses", 0 * one),
        ):
            setattr(self, name, np.concatenate([getattr(self, name), values]))
        self.shown += [replace(item, id=first + place) for place, item in enumerate(found)]
        self.names = self.names.joined(SteadyNames.new(tree, len(found)))

    def see(self, rows: Rows, places: Rows, detections: tuple[Detection, ...], stamp_ns: int) -> None:
        """A frame showed these tracks, by its detections at these places, and no others."""
        if kernels is not None:
            given = rows, places, detections, NEW_WEIGHT, stamp_ns
            kernels.see_objects(self.there, *self.history, self.seen_ns, *given)
            return
        scores = np.array([item.scores[0] for item in detections], float)[places]
        said = np.array([said_of(item) for item in detections], float)[places]
        self.misses += 1
        self.misses[rows] = 0
        self.hits[rows] += 1
        self.seen_ns[rows] = stamp_ns
        self.there[rows] += NEW_WEIGHT * (scores - self.there[rows])
        self.said[rows] += NEW_WEIGHT * (said - self.said[rows])

    def named(
        self, tree: Tree, stamp_ns: int, ids: Mapping[int, int], detections: tuple[Detection, ...]
    ) -> tuple[Detection, ...]:
        """Detections of a frame that was followed, with their lasting `ids` and, of tracks that are kept, steady names,
        which are shown where the frame is the track's newest."""
        if kernels is not None:
            names = self.names
            state = names.past, names.present, names.known, names.shown, names.moments, tree.starts, tree.owners
            found: tuple[Detection, ...] = kernels.named_objects(
                *state, tree.names, self.number, self.seen_ns, self.shown, stamp_ns, ids, detections, Detection
            )
            return found
        known, result = {number: row for row, number in enumerate(self.number.tolist())}, []
        for item in detections:
            number = ids.get(item.id, item.id)
            row = known.get(number, -1) if item.id in ids else -1
            if row < 0:
                result.append(replace(item, id=number))
                continue
            newest = bool(self.seen_ns[row] == stamp_ns)
            path, scores, others = self.names.steady(tree, stamp_ns, row, newest, item)
            words = tuple([tree.names[level][node] for level, node in enumerate(path)])
            result.append(Detection(number, item.box, path, words, scores, others, item.velocity, item.said))
            before = self.shown[row].path
            if newest and (len(path) >= len(before) or path != before[: len(path)]):
                self.shown[row] = result[-1]
        return tuple(result)


def said_of(item: Detection) -> float:
    """The score that the sender's detector gave an object; where that was not told, that of level 0."""
    return item.scores[0] if item.said is None else item.said


class LivingScene:
    """The objects of one camera over time. One thread may follow while others ask.

    size: width and height of the pictures, in whose pixels boxes are. tree: of the taxonomy that names objects.
    models: how restless the scene may be, see `scene.forecast`; `forecast.STILL` alone shows readings as they came.
    """

    def __init__(
        self,
        size: tuple[int, int],
        tree: Tree,
        *,
        models: Sequence[MotionModel] = MODELS,
        confidence: Confidence | None = None,
    ):
        self._pairs = importlib.import_module("scipy.optimize").linear_sum_assignment
        importlib.import_module("scipy.special")  # these load slowly: now, and not while a frame waits
        self._size, self._tree, self._models = size, tree, models
        self._confidence = confidence or Confidence()
        self._afresh = float(2 * np.log(16 * size[0] * size[1] / NEW_OBJECTS) - 4 * np.log(2 * np.pi))
        self._number = 0
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._bank = MotionBank(self._models, width=self._size[0])
        self._objects = _Objects.none(self._tree)
        self._frames: OrderedDict[tuple[int, int], dict[int, int]] = OrderedDict()  # by number and stamp
        self._now_ns: int | None = None
        self._newest = (0, 0)
        self._before: tuple[MotionBank, _Objects, int, int | None] | None = None

    @classmethod
    def of(cls, taxonomy: Taxonomy, size: tuple[int, int]) -> LivingScene:
        """The scene for readings whose objects `taxonomy` names, of pictures of `size`."""
        levels = range(taxonomy.depth)
        parents = [taxonomy.parent(level).tolist() if level else [0] * taxonomy.sizes[0] for level in levels]
        return cls(size, Tree(parents, [taxonomy.names(level) for level in levels]))

    def follow(self, stamp_ns: int, reading: Reading) -> Reading:
        """Takes a reading of the frame stamped `stamp_ns`; returns it with lasting ids and steady names.

        Coarse and fine readings of a frame come with the same stamp, the coarsest first: the first places the objects,
        the others name them, and the first that tells their groups places them anew, for by the group an object is
        known again. A frame older than the newest still finds the ids it had, or gets ids of its own, and moves
        nothing. A new frame more than two seconds away, or 0.2 s before the one that it follows, begins a new scene:
        the clock was set.
        """
        with self._lock:
            return self._follow(stamp_ns, reading)

    def _follow(self, stamp_ns: int, reading: Reading) -> Reading:
        frame = reading.frame, stamp_ns
        if frame not in self._frames and self._is_set(*frame):
            self._clear()
        if frame not in self._frames:
            if self._now_ns is not None and stamp_ns < self._now_ns:
                self._frames[frame] = {item.id: self._number + own for own, item in enumerate(reading.detections)}
                self._number += len(reading.detections)
            else:
                self._before = None if _tells_groups(reading) else self._kept()
                self._newest, self._frames[frame] = frame, self._take(stamp_ns, reading.detections)
            while len(self._frames) > REMEMBERED_FRAMES:
                self._frames.popitem(last=False)
        elif self._before is not None and frame == self._newest and _tells_groups(reading):
            (self._bank, self._objects, self._number, self._now_ns), self._before = self._before, None
            self._frames[frame] = self._take(stamp_ns, reading.detections)
        named = self._objects.named(self._tree, stamp_ns, self._frames[frame], reading.detections)
        return replace(reading, detections=named)

    def _is_set(self, number: int, stamp_ns: int) -> bool:
        """Whether the sender's clock was set between the newest frame and this new one, so that nobody knows how far
        apart they are."""
        if self._now_ns is None:
            return False
        ahead = (number - self._newest[0] + 0x8000 & 0xFFFF) - 0x8000
        if stamp_ns < self._now_ns and -LATE_FRAMES <= ahead < 0:
            return False  # it is late
        seconds = (stamp_ns - self._now_ns) / 1e9
        return abs(seconds) > MOST_SECONDS or (seconds < -SET_BACK_SECONDS and ahead > 0)

    def _kept(self) -> tuple[MotionBank, _Objects, int, int | None]:
        """The scene as it is, for the frame that comes to be followed into once more."""
        objects = self._objects.take(np.arange(len(self._objects)))
        return self._bank.copy(), objects, self._number, self._now_ns

    def _take(self, stamp_ns: int, detections: tuple[Detection, ...]) -> dict[int, int]:
        """Follows the objects into a new frame; the lasting id of each of its detections."""
        seconds = 0.0 if self._now_ns is None else (stamp_ns - self._now_ns) / 1e9
        self._now_ns = stamp_ns
        self._bank.predict(seconds)
        seen = seen_in(detections, seconds)
        rows, places = self._assign(detections, seen)
        self._bank.update(rows, seen, places)
        self._objects.see(rows, places, detections, stamp_ns)
        numbers = np.full(len(detections), -1)
        numbers[places] = self._objects.number[rows]
        (fresh,) = (numbers < 0).nonzero()
        self._forget(len(fresh), stamp_ns)
        if len(fresh):
            numbers[fresh] = self._number + np.arange(len(fresh))
            self._bank.add(seen.take(fresh), numbers[fresh].tolist())
            self._objects.add(self._number, stamp_ns, [detections[place] for place in fresh.tolist()], self._tree)
            self._number += len(fresh)
        ids = dict(zip([item.id for item in detections], numbers.tolist(), strict=True))
        self._steer(detections, seen, ids)
        return ids

    def _steer(self, detections: Sequence[Detection], seen: Seen, ids: dict[int, int]) -> None:
        """Takes the velocities that the sender told of this frame's detections."""
        if all(item.velocity is None for item in detections):
            return
        rows = {number: row for row, number in enumerate(self._objects.number.tolist())}
        told = [
            (rows[ids[item.id]], place, item.velocity)
            for place, item in enumerate(detections)
            if item.velocity is not None and ids[item.id] in rows
        ]
        if told:
            velocities = np.array([velocity for _, _, velocity in told])
            sides = np.exp(seen.sides[[place for _, place, _ in told]])
            variance = (TOLD_SIDES * sides) ** 2 + TOLD_PIXELS**2
            self._bank.steer(np.array([row for row, _, _ in told], np.intp), velocities, variance)

    def _assign(self, detections: tuple[Detection, ...], seen: Seen) -> tuple[Rows, Rows]:
        """Which object (rows) each of the detections (places) is; both ascending in rows."""
        none = np.zeros(0, np.intp)
        if not len(self._objects) or not detections:
            return none, none
        far, cost = self._bank.distances(seen, GATE)
        cost, allowed = pair_costs(far, cost, self._objects, detections, self._confidence, self._afresh)
        if not allowed.any():
            return none, none
        rows, places = self._pairs(cost)
        good = allowed[rows, places]
        return rows[good], places[good]

    def _forget(self, coming: int, now_ns: int) -> None:
        """Drops objects that are hardly there any more, and the least likely while there are too many."""
        kept = lasting_objects(self._confidence, self._objects, now_ns, max(0, MOST_OBJECTS - coming))
        if len(kept) < len(self._objects):
            self._bank.keep(kept)
            self._objects = self._objects.take(kept)

    def at(self, stamp_ns: int) -> Scene:
        """The scene as it is at `stamp_ns`, on the clock of the frames' stamps; at the newest reading's own time at the
        earliest, and at most `MOST_SECONDS` after it."""
        with self._lock:
            return self._at(stamp_ns)

    def _at(self, stamp_ns: int) -> Scene:
        if self._now_ns is None:
            return Scene(stamp_ns, None, (), (0.0, 0.0))
        stamp_ns = max(stamp_ns, self._now_ns)
        age = (stamp_ns - self._now_ns) / 1e9
        if age > MOST_SECONDS or not len(self._objects):
            return Scene(stamp_ns, self._now_ns, (), (0.0, 0.0))
        told = self._bank.forecast(age)
        objects = shown_objects(self._confidence, self._size, told, self._objects, stamp_ns)
        return Scene(stamp_ns, self._now_ns, objects, (float(told.camera[0]), float(told.camera[1])))


def _tells_groups(reading: Reading) -> bool:
    """Whether a reading says more than whether there is something."""
    return any(len(item.path) > 1 for item in reading.detections)


def seen_in(detections: tuple[Detection, ...], seconds: float) -> Seen:
    """Detections as measurements with their variances, so long after those before."""
    close = max(1.0, CORRELATED_SECONDS / seconds) if seconds > 0 else 1.0
    if kernels is not None:
        return Seen(*kernels.seen_in(detections, JITTER, JITTER_PIXELS, SIDE_JITTER, close))
    boxes = np.array([item.box for item in detections], float).reshape(-1, 4)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1.0)
    place = ((JITTER * sides) ** 2 + JITTER_PIXELS**2) * close
    return Seen((boxes[:, :2] + boxes[:, 2:]) / 2, place, np.log(sides), np.full_like(sides, SIDE_JITTER**2 * close))


def pair_costs(
    far: Floats,
    cost: Floats,
    objects: _Objects,
    detections: tuple[Detection, ...],
    confidence: Confidence,
    afresh: float,
) -> tuple[Floats, NDArray[np.bool_]]:
    """What pairs of n objects and k detections cost, and which are allowed; the others cost more than any of those.

    far, cost n,k: as of `MotionBank.distances`. afresh: what a new object costs.
    """
    if kernels is not None:
        given = far, cost, objects.shown, detections, confidence.weights, *objects.history
        found: tuple[Floats, NDArray[np.bool_]] = kernels.pair_costs(*given, GATE, ANOTHER_GROUP, afresh)
        return found
    mine, theirs = (
        np.array([item.path[1] if len(item.path) > 1 else -1 for item in items])
        for items in (objects.shown, detections)
    )
    cost = cost + ANOTHER_GROUP * ((mine[:, None] != theirs) & (mine[:, None] >= 0) & (theirs >= 0))
    chances = confidence.of(*objects.history, np.ones(len(objects)))
    allowed = (far < GATE) & (cost - 2 * np.log(chances)[:, None] < afresh)
    return np.where(allowed, cost, cost.max(where=allowed, initial=-np.inf) + 100.0), allowed


def lasting_objects(confidence: Confidence, objects: _Objects, now_ns: int, most: int) -> Rows:
    """The objects that are not yet to be forgotten, at most so many: the likeliest."""
    since_ns = now_ns - round(UNSEEN_SECONDS * 1e9)
    if kernels is not None:
        given = confidence.weights, *objects.history, objects.seen_ns, LEAST_SHOWN, since_ns, most
        return np.asarray(kernels.lasting_objects(*given))
    chance = confidence.of(*objects.history, np.ones(len(objects)))
    kept = np.flatnonzero((chance >= LEAST_SHOWN) & (objects.seen_ns >= since_ns))
    return kept if len(kept) <= most else np.sort(kept[np.argsort(-chance[kept], kind="stable")[:most]])


def shown_objects(
    confidence: Confidence, size: tuple[int, int], told: Forecast, objects: _Objects, stamp_ns: int
) -> tuple[TrackedObject, ...]:
    """Every object that is shown at this time, for the others are gone or have left the picture (of `size`): its box is
    cut there. It exists by its averaged score, less by what the probability that it is seen has fallen since the newest
    reading that saw it."""
    if kernels is not None:
        tracks = objects.number, objects.born_ns, objects.seen_ns, objects.there, *objects.history, objects.shown
        found: tuple[TrackedObject, ...] = kernels.shown_objects(
            confidence.weights, size, LEAST_SHOWN, *told[:5], *tracks, stamp_ns, TrackedObject
        )
        return found
    said, hits, misses = objects.history
    chances = confidence.of(said, hits, misses, overlap_chance(told))
    kept = np.minimum(chances / confidence.of(said, hits, 0 * misses, np.ones_like(said)), 1.0)
    existence = objects.there * kept
    half = told.sides / 2
    low, high = np.maximum(told.centre - half, 0.0), np.minimum(told.centre + half, np.array(size, float))
    unsure = [[one[:, 0, 0], one[:, 0, 1], one[:, 1, 1]] for one in (told.covariance, told.velocity_covariance)]
    rows = np.flatnonzero((chances >= LEAST_SHOWN) & (high - low >= 1).all(axis=1))
    parts = [np.concatenate([low, high], axis=1), told.velocity, *(np.stack(one, axis=1) for one in unsure)]
    times = [(stamp_ns - then_ns) / 1e9 for then_ns in (objects.seen_ns, objects.born_ns)]
    columns: list[list[Any]] = [
        rows.tolist(),
        objects.number[rows].tolist(),
        *([tuple(one) for one in part[rows].tolist()] for part in parts),
        *(one[rows].tolist() for one in (*times, chances, existence)),
    ]
    result = []
    for row, number, box, velocity, spread, speed_spread, age, since, chance, exists in zip(*columns, strict=True):
        shown = objects.shown[row]
        share = chance / max(shown.scores[0], 1e-6)
        scores = tuple([min(1.0, share * score) for score in shown.scores])
        where = number, box, velocity, spread, speed_spread, age, since
        result.append(TrackedObject(*where, shown.path, shown.names, scores, exists))
    return tuple(result)


def overlap_chance(told: Forecast) -> Floats:
    """About how likely each foretold box overlaps the true one by half: both centres within 0.4 sides."""
    from scipy.special import erf

    spread = np.sqrt(np.maximum(told.covariance[:, [0, 1], [0, 1]], 1e-9))
    return np.asarray(erf(0.4 * told.sides / (spread * np.sqrt(2))).prod(axis=1))
