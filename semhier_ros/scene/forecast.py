"""Where the objects of a scene are now, and how surely: a bank of Kalman filters over all objects together.

**State.** Every object has a centre, a velocity of its own, the logarithms of its two sides and their rates. All
objects share the velocity that the turning and nodding camera gives to the whole picture (*camera motion*): one filter
holds all centres, so that what is seen of one object tells of the others, and a new object starts with the motion that
the picture has.

**Which noise.** How restless objects and camera are differs between a highway and a turn, and is not known beforehand.
`MotionBank` therefore runs several filters side by side: one says "nothing moves", one "only the camera does". Which
object a detection is, all of them say together, each believed by the likelihood of its record (multiple model adaptive
estimation: Magill, "Optimal adaptive estimation of sampled stochastic processes", 1965; here with forgetting).

**How far to follow them.** A forecast is "nothing moves" plus shares of what the others say beyond that. The shares are
those that would have been nearest to the readings of the last second, had they been used that long before each
(`scene.shares`). They begin at none and are fitted apart for places across and down, widths and heights, and for each
of `RECORD_SECONDS`, since what is right about the next reading can be wrong about the one after. Between these ages
they are interpolated. So a velocity is used as far, and as far ahead, as it has paid.

**Which velocity.** The same shares of what the filters say, also of what the sender told: measured motion is jittery,
too, and a share of it is nearer to what a full-rate detector sees than all of it. Its covariance holds what the filters
do not know, their disagreement, and what moves an object by chance within `VELOCITY_SECONDS`.

**How sure.** Covariances are scaled, at each of these ages apart, until one in twenty readings lies outside.

Lengths are pixels, times seconds. Noise is given in shares of an object's own side, for the jitter and the acceleration
of a near object are more pixels than a far one's; for the camera, in shares of the picture's width.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semhier_ros.native import kernels
from semhier_ros.scene.outlook import Outlook, Told
from semhier_ros.scene.shares import MOST_SURPRISE, Shares, products

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
Rows = NDArray[np.intp]
LEAST_BELIEF = 12.0
"""How far a model's record may fall behind the best one's, in nats: what was wrong on the highway is soon right again
in the turn."""
ELLIPSE = 5.991
"""Squared standard deviations within which 95 % of a Gaussian of two dimensions lie."""
RECORD_SECONDS = (0.05, 0.1, 0.3)
"""Ages from which forecasts are held against what is seen: by the newest one that is so old."""
AGE_STEP = 0.2
"""Of a new age, in the averaged ages that the records are of."""
ELLIPSE_STEP, ELLIPSE_EAGER = 0.15, 20.0
"""The step by which ellipses learn in the long run, and readings after which it is no more than twice that."""
SAME_BOX = 0.1
"""Overlap from which a foretold box and one that is seen may be the same object's."""
ELLIPSE_SCALES = (0.1, 25.0)
"""The least and the most that a covariance is multiplied with."""
KEPT_STATES = 24
"""Earlier states that are kept to judge the models by."""
MOST_LATE = 0.2
"""Seconds by which a state may be older than asked and still be judged: readings may come seldom."""
WORTHS = (8.0, 8.0, 1.0, 1.0)
"""How much must speak for following a motion before half of it is followed, see `Shares`: of places across and down,
widths and heights."""
VELOCITY_SECONDS = 0.3
"""A velocity is meant over so long: what moves an object by chance within that makes it unsure."""
LEAST_STEP = 0.05
"""Error of a forecast, in sides, that does no harm: what is nearer counts as as near."""


@dataclass(frozen=True, slots=True)
class MotionModel:
    """How restless a scene is taken to be.

    Standard deviations that grow with the root of time: `camera`, change of the shared velocity, picture widths/s;
    `own`, change of an object's own velocity, sides/s; `growth`, change of the rate of log sides, 1/s; `drift`, change
    of place and log side that no velocity explains, sides. `speed` and `growing`: own velocity (sides/s) and rate (1/s)
    of a new object. All are 0 to 100.
    """

    camera: float
    own: float
    growth: float
    drift: float
    speed: float
    growing: float

    def __post_init__(self) -> None:
        for field in self.__slots__:
            value = getattr(self, field)
            if not 0.0 <= value <= 100.0:
                raise ValueError(f"motion model: {field} {value} is outside 0..100")


STILL = MotionModel(0.0, 0.0, 0.0, 0.25, 0.0, 0.0)
MODELS = (
    STILL,
    MotionModel(0.03, 0.2, 0.15, 0.08, 0.25, 0.15),
    MotionModel(0.3, 0.25, 0.2, 0.08, 0.3, 0.2),
    MotionModel(0.3, 0.02, 0.0, 0.25, 0.02, 0.0),
)
"""What `MotionBank` runs, the one that the others are held against first: nothing moves, objects move calmly in a calm
picture, objects move in a turning one, only the camera moves."""


class Seen(NamedTuple):
    """What was seen of k objects: centre k,2 and log sides k,2, with their variances k,2."""

    centre: Floats
    centre_variance: Floats
    sides: Floats
    sides_variance: Floats

    def take(self, rows: Rows) -> Seen:
        """The same of some objects."""
        return Seen(*[part.take(rows, axis=0) for part in self])

    def joined(self, other: Seen) -> Seen:
        """These things, then the others."""
        return Seen(*map(np.concatenate, zip(self, other, strict=True)))

    @property
    def parts(self) -> tuple[Floats, Floats]:
        """Values 4,k and variances 4,k: across, down, width and height."""
        centre, unsure, sides, log_unsure = self
        return np.concatenate([centre, sides], axis=1).T, np.concatenate([unsure, log_unsure], axis=1).T


class Forecast(NamedTuple):
    """n objects at one moment: centre n,2 (pixels) with its covariance n,2,2, velocity n,2 (pixels/s) with its own,
    sides n,2 (pixels), and the velocity that the camera gives to all, 2."""

    centre: Floats
    velocity: Floats
    covariance: Floats
    velocity_covariance: Floats
    sides: Floats
    camera: Floats


class _State(NamedTuple):
    """Per model m: `mean` m,2,1+2n and `cov` m,2,1+2n,1+2n, of each axis the camera's velocity, all centres, all own
    velocities; `log` m,2,2,n: log sides, then their rates, of each axis; `log_cov` m,3,2,n: variance of log side,
    covariance, variance of rate. `side` n: pixels, what noise is counted in."""

    mean: Floats
    cov: Floats
    log: Floats
    log_cov: Floats
    side: Floats


class MotionBank:
    """All objects of one camera under several `MotionModel`s; objects are rows 0..n-1, in order of `add`.

    models: the first says what is foretold until others have earned their share. width: of the picture, in pixels.
    memory: seconds after which a model's success counts for 1/e.
    """

    def __init__(
        self,
        models: Sequence[MotionModel] = MODELS,
        *,
        width: float,
        memory: float = 1.0,
    ):
        if not models:
            raise ValueError("models: none, at least one expected")
        self._memory = memory
        values = np.array([[m.camera * width, m.own, m.growth, m.drift, m.speed, m.growing] for m in models])
        self._steered = False
        self._livest = int(np.argmax([m.camera + m.own for m in models]))
        self._camera, self._own, self._growth, self._drift, self._speed, self._growing = values.T
        self._noise = np.stack([self._camera**2, self._own, self._drift, self._growth**2, self._drift**2], axis=1)
        count = len(models)
        self._state = _State(
            np.zeros((count, 2, 1)),
            np.zeros((count, 2, 1, 1)),
            np.zeros((count, 2, 2, 0)),
            np.zeros((count, 3, 2, 0)),
            np.zeros(0),
        )
        self._record = np.zeros(count)
        self.shares = Shares(count, len(RECORD_SECONDS), WORTHS, 1.5 * memory)
        self._ages = np.array(RECORD_SECONDS)
        self._scales = np.zeros(len(RECORD_SECONDS))
        self._judged = np.zeros(len(RECORD_SECONDS), np.int64)
        self._names: Whole = np.zeros(0, np.int64)
        self._past: deque[tuple[float, Outlook, Whole]] = deque(maxlen=KEPT_STATES)
        self._known: tuple[_State, Outlook] | None = None
        self._now = 0.0

    def __len__(self) -> int:
        return len(self._state.side)

    def copy(self) -> MotionBank:
        """The same objects and records, which go on apart from these. A state is never written to, so it is shared."""
        other = copy(self)
        for name in ("_record", "_ages", "_scales", "_judged", "_past", "shares"):
            setattr(other, name, getattr(self, name).copy())
        return other

    @property
    def weights(self) -> Floats:
        """How much each model is believed where a detection is to be given to an object; they sum to 1."""
        shares = np.exp(self._record - self._record.max())
        return np.asarray(shares / shares.sum())

    def add(self, seen: Seen, names: Sequence[int]) -> None:
        """New objects, under numbers that no other ever had."""
        if not names:
            return
        mean, cov, log, log_cov, side = self._state
        old, new = len(side), len(names)
        count, models = old + new, len(mean)
        places = np.concatenate([[0], 1 + np.arange(old), 1 + count + np.arange(old)])
        fresh = old + np.arange(new)
        wide = np.zeros((models, 2, 1 + 2 * count))
        wider = np.zeros((models, 2, 1 + 2 * count, 1 + 2 * count))
        wide[:, :, places] = mean
        wider[:, :, places[:, None], places] = cov
        sides = np.exp(seen.sides.mean(axis=1))
        wide[:, :, 1 + fresh] = seen.centre.T
        wider[:, :, 1 + fresh, 1 + fresh] = seen.centre_variance.T
        wider[:, :, 1 + count + fresh, 1 + count + fresh] = (self._speed[:, None] * sides)[:, None] ** 2
        logs = np.zeros((models, 2, 2, new))
        logs[:, 0] = seen.sides.T
        covs = np.zeros((models, 3, 2, new))
        covs[:, 0] = seen.sides_variance.T
        covs[:, 2] = (self._growing**2)[:, None, None]
        self._state = _State(
            wide,
            wider,
            np.concatenate([log, logs], axis=3),
            np.concatenate([log_cov, covs], axis=3),
            np.concatenate([side, sides]),
        )
        self._names = np.concatenate([self._names, np.asarray(names, np.int64)])

    def keep(self, rows: Rows) -> None:
        """Forgets all objects but `rows`, which from now on are rows 0..k-1 in this order."""
        mean, cov, log, log_cov, side = self._state
        places = np.concatenate([[0], 1 + rows, 1 + len(side) + rows]).astype(np.intp)
        kept = mean[:, :, places], cov[:, :, places[:, None], places], log[..., rows], log_cov[..., rows], side[rows]
        self._state = _State(*map(np.ascontiguousarray, kept))
        self._names = self._names[rows]

    def predict(self, seconds: float) -> None:
        """Lets time pass."""
        self._past.append((self._now, self._outlook(), self._names))
        self._state = self._after(self._state, seconds)
        self._now += seconds

    def _outlook(self) -> Outlook:
        """What forecasts from now go by, made once for a state."""
        known = self._known
        if known is not None and known[0] is self._state:
            return known[1]
        state = self._state
        found = outlook_of(state, self._noise)
        self._known = state, found
        return found

    def _after(self, state: _State, seconds: float) -> _State:
        half, third = seconds**2 / 2, seconds**3 / 3
        if kernels is not None:
            mean, cov, log, log_cov = kernels.motion_after(*state, self._noise, seconds, half, third)
            return _State(mean, cov, log, log_cov, state.side)
        side = state.side
        count = len(side)
        middle, speed = slice(1, 1 + count), slice(1 + count, None)
        mean, cov = state.mean.copy(), state.cov.copy()
        mean[:, :, middle] += seconds * (mean[:, :, speed] + mean[:, :, :1])
        cov[:, :, middle] += seconds * (cov[:, :, speed] + cov[:, :, :1])
        cov[..., middle] += seconds * (cov[..., speed] + cov[..., :1])
        camera = (self._camera**2)[:, None, None]
        cov[:, :, 0, 0] += camera[:, :, 0] * seconds
        cov[:, :, 0, middle] += camera * half
        cov[:, :, middle, 0] += camera * half
        cov[:, :, middle, middle] += camera[..., None] * third
        noise = ((self._own[:, None] * side) ** 2)[:, None]
        drift = ((self._drift[:, None] * side) ** 2)[:, None]
        place, own = 1, 1 + count
        _diagonal(cov, own, own, count)[...] += noise * seconds
        _diagonal(cov, own, place, count)[...] += noise * half
        _diagonal(cov, place, own, count)[...] += noise * half
        _diagonal(cov, place, place, count)[...] += noise * third + drift * seconds
        log, log_cov = state.log.copy(), state.log_cov.copy()
        log[:, 0] += seconds * log[:, 1]
        growth = (self._growth**2)[:, None, None]
        log_cov[:, 0] += (
            seconds * (2 * log_cov[:, 1] + seconds * log_cov[:, 2])
            + growth * third
            + (self._drift**2)[:, None, None] * seconds
        )
        log_cov[:, 1] += seconds * log_cov[:, 2] + growth * half
        log_cov[:, 2] += growth * seconds
        return _State(mean, cov, log, log_cov, side)

    def distances(self, seen: Seen, gate: float) -> tuple[Floats, Floats]:
        """How far each object is from each thing seen (n,k): squared standard deviations of centre and sides under the
        model that explains the pair best, and that model's cost in nats (twice), for an assignment; both without end
        from `gate` on."""
        mean, cov, log, log_cov, side = self._state
        if kernels is not None:
            found: tuple[Floats, Floats] = kernels.motion_distances(mean, cov, log, log_cov, self._record, seen, gate)
            return found
        count, doubts = len(side), 2 * np.log(np.maximum(self.weights, 1e-3))
        spread = _diagonal(cov, 1, 1, count)[..., None] + seen.centre_variance.T[None, :, None]
        gone = seen.centre.T[None, :, None] - mean[:, :, 1 : 1 + count, None]
        log_spread = log_cov[:, 0][..., None] + seen.sides_variance.T[None, :, None]
        grown = seen.sides.T[None, :, None] - log[:, 0][..., None]
        far = (gone**2 / spread + grown**2 / log_spread).sum(axis=1)
        cost = far + np.log((spread * log_spread).prod(axis=1)) - doubts[:, None, None]
        best = cost.argmin(axis=0), np.arange(count)[:, None], np.arange(len(seen.centre))
        return np.where(far[best] < gate, far[best], np.inf), np.where(far[best] < gate, cost[best], np.inf)

    def update(self, rows: Rows, seen: Seen, places: Rows) -> None:
        """Takes what was seen now: the objects `rows` at `places` of it, the others given to no object, which may yet
        be some that were foretold badly. The models are judged by it first."""
        self._judge(rows, seen, places)
        if len(rows):
            self._state = self._updated(rows, seen, places)

    def _updated(self, rows: Rows, seen: Seen, places: Rows) -> _State:
        if kernels is not None:
            return _State(*kernels.motion_updated(*self._state, self._record, rows, places, seen))
        seen = seen.take(places)
        mean, cov, log, log_cov, side = _observed(self._state, (1 + rows,), seen.centre, seen.centre_variance)
        log, log_cov, side = log.copy(), log_cov.copy(), side.copy()
        value, both, rate = log_cov.take(rows, axis=3).swapaxes(0, 1)
        sides, rates = log.take(rows, axis=3).swapaxes(0, 1)
        gone = seen.sides.T - sides
        spread = value + seen.sides_variance.T
        spread = spread * np.maximum(gone**2 / spread / MOST_SURPRISE, 1.0)
        log[:, 0][..., rows], log[:, 1][..., rows] = sides + value / spread * gone, rates + both / spread * gone
        log_cov[:, 0][..., rows] = value - value**2 / spread
        log_cov[:, 1][..., rows] = both - value * both / spread
        log_cov[:, 2][..., rows] = rate - both**2 / spread
        side[rows] = np.exp(np.einsum("m,mak->k", self.weights, log[:, 0][..., rows]) / 2)
        return _State(mean, cov, log, log_cov, side)

    def steer(self, rows: Rows, velocities: Floats, variance: Floats) -> None:
        """Takes what the sender says of the velocities k,2 (pixels/s, variance k,2) of the objects `rows`."""
        if len(rows):
            if not self._steered:  # so far the camera was taken to begin at rest
                self._steered = True
                cov = self._state.cov.copy()
                cov[:, :, 0, 0] += self._camera[:, None] ** 2
                self._state = self._state._replace(cov=cov)
            every = np.eye(len(self._camera))
            self.shares.begin_with((every[0] + every[self._livest]) / 2, 2)
            places = np.zeros_like(rows), 1 + len(self) + rows
            self._state = _observed(self._state, places, velocities, variance)

    def _judge(self, rows: Rows, seen: Seen, places: Rows) -> None:
        """Holds what every model said a while ago against what is seen now."""
        if not self._past:
            return
        elapsed = self._now - self._past[-1][0]
        self._record *= math.exp(-elapsed / self._memory)
        told = [(number, *one) for number, seconds in enumerate(RECORD_SECONDS) if (one := self._of_old(seconds))]
        if told:
            self._hold_against(told, rows, seen, places, elapsed)
        while len(self._past) > 1 and self._now - self._past[1][0] >= RECORD_SECONDS[-1] - 1e-3:
            self._past.popleft()

    def _of_old(self, seconds: float) -> tuple[Outlook, Whole, float] | None:
        """The newest outlook that is at least so old, the numbers of its objects, and its age; None where none is about
        so old."""
        for then, outlook, known in reversed(self._past):
            age = self._now - then
            if age >= seconds - 1e-3:
                return (outlook, known, age) if len(known) and age <= seconds + MOST_LATE else None
        return None

    def _hold_against(
        self, told: Sequence[tuple[int, Outlook, Whole, float]], rows: Rows, seen: Seen, places: Rows, elapsed: float
    ) -> None:
        """Judges the models by outlooks of several ages, all at once: each with the number of its age, the numbers of
        its objects, and its age.

        What is seen belongs to the foretold box that it overlaps most, whoever it was given to: else what was foretold
        badly, and therefore given to nobody, would not count in the ellipses.
        """
        shares = self.shares
        if kernels is not None:
            then = [(number, outlook.mean, outlook.variance, known, age) for number, outlook, known, age in told]
            records = shares.values, self._record, self._ages, self._scales, self._judged, shares.both, shares.gain
            kernels.motion_judged(then, *records, self._names, rows, places, seen, shares.fade(elapsed))
            shares.renew()
            return
        given, values = seen.take(places), shares.values
        everything = given.joined(seen.take(np.setdiff1d(np.arange(len(seen.centre)), places)))
        for number, outlook, known, age in told:
            self._ages[number] += AGE_STEP * (age - self._ages[number])
            foreseen = outlook.after(age)
            scale = math.exp(self._scales[number])
            self._fit_ellipse(number, *_outside(foreseen, _mixed(values, self._near(age)), scale, everything))
            paired, lost, both, gain = judged(foreseen, known, self._names[rows], given)
            if paired:
                shares.take([number], both[None], gain[None], elapsed)
            if paired and number == 0:
                self._record -= lost
                self._record = np.maximum(self._record - self._record.max(), -LEAST_BELIEF)

    def _fit_ellipse(self, number: int, matched: int, outside: int) -> None:
        """Moves the scale of this age so that one in twenty seen lies outside (Robbins and Monro 1951)."""
        if not matched:
            return
        self._judged[number] += 1
        eager = 1.0 + ELLIPSE_EAGER / self._judged[number]
        step = ELLIPSE_STEP * min(eager, 4.0) * (outside - 0.05 * matched) / math.sqrt(matched)
        least, most = map(math.log, ELLIPSE_SCALES)
        self._scales[number] = min(max(self._scales[number] + step, least), most)

    def scale(self, seconds: float) -> float:
        """What covariances are multiplied with so that 95 % of what is seen lies within the 95 % ellipse, so long after
        a reading."""
        return math.exp(
            sum(near * scale for near, scale in zip(self._near(seconds), self._scales.tolist(), strict=True))
        )

    def forecast(self, seconds: float) -> Forecast:
        """All objects `seconds` from now, by all models together."""
        outlook, mean, values = self._outlook(), self._state.mean, self.shares.values
        if kernels is not None:
            return Forecast(*kernels.motion_foretold(*outlook, mean, values, self._ages, self._scales, seconds))
        shares = _mixed(values, self._near(seconds))
        told = outlook.after(seconds)
        centre, covariance, sides = _blended(told, shares)
        unsure = outlook.velocity_variance[0] + seconds * outlook.velocity_variance[1]
        velocity, velocity_covariance = _mixture(outlook.mean[1, :, :2], unsure, shares[:, :2, None])
        camera = (shares[:, :2] * mean[:, :, 0]).sum(axis=0)
        return Forecast(centre, velocity.T, covariance * self.scale(seconds), velocity_covariance, sides, camera)

    def _near(self, seconds: float) -> list[float]:
        """How much each of the records counts at this age: the two around it, the nearer more."""
        ages = list(accumulate(self._ages.tolist(), max))
        counts = [0.0] * len(ages)
        after = bisect_right(ages, seconds)
        if after in (0, len(ages)):
            counts[max(after - 1, 0)] = 1.0
        else:
            later = (seconds - ages[after - 1]) / (ages[after] - ages[after - 1])
            counts[after - 1 : after + 1] = 1.0 - later, later
        return counts


def outlook_of(state: _State, noise: Floats) -> Outlook:
    """What forecasts from a state go by. noise m,5: as of `motion_after`."""
    if kernels is not None:
        return Outlook(*kernels.motion_outlook(*state, noise))
    mean, cov, log, log_cov, side = state
    models, count = len(mean), len(side)
    camera, own, _, growth, log_drift = noise.T[..., None]
    means, variances = np.empty((2, models, 4, count)), np.empty((4, models, 4, count))
    means[0, :, :2], means[1, :, :2] = mean[:, :, 1 : 1 + count], mean[:, :, 1 + count :] + mean[:, :, :1]
    means[:, :, 2:] = log.swapaxes(0, 1)
    moving = _diagonal(cov, 1, 1 + count, count) + cov[:, :, 0, 1 : 1 + count]
    rate = _diagonal(cov, 1 + count, 1 + count, count) + 2 * cov[:, :, 0, 1 + count :] + cov[:, :, :1, 0]
    drift, restless = (log_drift * side**2)[:, None], (camera + own**2 * side**2)[:, None]
    variances[0, :, :2], variances[1, :, :2] = _diagonal(cov, 1, 1, count), 2 * moving + drift
    variances[2, :, :2], variances[3, :, :2] = rate, restless / 3
    variances[:3, :, 2:] = log_cov.swapaxes(0, 1)
    variances[1, :, 2:] += log_cov[:, 1] + log_drift[..., None]
    variances[3, :, 2:] = growth[..., None] / 3
    unsure = np.empty((2, models, 2, count))
    unsure[0], unsure[1] = rate + drift / VELOCITY_SECONDS, restless
    return Outlook(means, variances, unsure)


def judged(told: Told, known: Whole, names: Whole, seen: Seen) -> tuple[int, Floats, Floats, Floats]:
    """Holds what was foretold of objects (numbers `known`) against what is seen of some (`names`): how many are the
    same, the nats m by which the record of each model falls for it, and their `products`."""
    values, variance = seen.parts
    harmless = np.full_like(values, LEAST_STEP)
    harmless[:2] *= np.exp(values[2:])
    same = known[:, None] == names
    places = np.flatnonzero(same.any(axis=0))
    rows = same[:, places].argmax(axis=0) if len(known) else places
    gone = values[:, places] - told.mean[..., rows]
    spread = told.variance[..., rows] + variance[:, places]
    lost = 0.5 * (np.minimum(gone**2 / spread, MOST_SURPRISE) + np.log(spread)).sum(axis=(1, 2))
    return len(places), lost, *products(gone, (variance + harmless**2)[:, places])


def _mixed(values: Floats, near: Sequence[float]) -> Floats:
    """Shares m,4 of the models at an age, of records (ages,4,m) of which each counts so much."""
    return np.asarray((np.array(near)[:, None, None] * values).sum(axis=0).T)


def _outside(told: Told, shares: Floats, scale: float, seen: Seen) -> tuple[int, int]:
    """How many foretold boxes are seen, and how many of them outside of their ellipse. shares m,4."""
    centre, covariance, sides = _blended(told, shares)
    rows, places = _nearest(centre, sides, seen)
    xx, xy, yy = covariance[rows].reshape(-1, 4).T[[0, 1, 3]] * scale
    x, y = (seen.centre[places] - centre[rows]).T
    more = seen.centre_variance[places].T
    xx, yy = xx + more[0], yy + more[1]
    outside = yy * x**2 - 2 * xy * x * y + xx * y**2 > ELLIPSE * (xx * yy - xy**2)
    return len(rows), int(outside.sum())


def _blended(told: Told, shares: Floats) -> tuple[Floats, Floats, Floats]:
    """Centres n,2, covariances n,2,2 and sides n,2 of what all models say by shares m,4; the covariances hold their
    disagreement too."""
    centre, covariance = _mixture(told.mean[:, :2], told.variance[:, :2], shares[:, :2, None])
    sides = np.exp((shares[:, 2:, None] * told.mean[:, 2:]).sum(axis=0))
    return centre.T, covariance, sides.T


def _mixture(means: Floats, variances: Floats, shares: Floats) -> tuple[Floats, Floats]:
    """Mean 2,n and covariance n,2,2 of what m models say, both m,2,n, by shares m,2,1; across and down a model errs
    apart."""
    mean = (shares * means).sum(axis=0)
    apart = (means - mean) * np.sqrt(shares)
    covariance = np.empty((mean.shape[1], 2, 2))
    covariance[:, 0, 0], covariance[:, 1, 1] = (apart**2 + shares * variances).sum(axis=0)
    covariance[:, 0, 1] = covariance[:, 1, 0] = (apart[:, 0] * apart[:, 1]).sum(axis=0)
    return mean, covariance


def _nearest(centre: Floats, sides: Floats, seen: Seen) -> tuple[Rows, Rows]:
    """Rows of foretold boxes and places of things seen that overlap each other more than anything else, and by more
    than `SAME_BOX`."""
    if not len(centre) or not len(seen.centre):
        return np.zeros((2, 0), np.intp)[0], np.zeros(0, np.intp)
    inner: Any = 1.0
    for axis in (0, 1):
        first, second = sides[:, axis, None], np.exp(seen.sides[:, axis])
        apart = np.abs(centre[:, axis, None] - seen.centre[:, axis])
        inner = inner * np.minimum(np.maximum((first + second) / 2 - apart, 0), np.minimum(first, second))
    areas = (sides[:, 0] * sides[:, 1])[:, None] + np.exp(seen.sides.sum(axis=1))
    shared = inner / (areas - inner)
    rows, best, top = np.arange(len(shared)), shared.argmax(axis=1), shared.argmax(axis=0)
    same = (shared[rows, best] > SAME_BOX) & (top[best] == rows)
    return rows[same], best[same]


def _diagonal(cov: Floats, row: int, column: int, count: int) -> Floats:
    """The `count` numbers …,count of matrices …,d,d from a place on down to the right: a view."""
    side = cov.shape[-1]
    first = row * side + column
    return cov.reshape(*cov.shape[:-2], side * side)[..., first : first + count * (side + 1) : side + 1][..., :count]


def _observed(state: _State, places: Sequence[Rows], values: Floats, variance: Floats) -> _State:
    """A Kalman filter's update by `values` k,2, each the sum of a state's numbers at its one of each of `places` k, in
    every model and axis; outliers count less. The compiled kernel solves where this inverts, and rounds otherwise."""
    if kernels is not None:
        mean, cov = kernels.motion_observed(state.mean, state.cov, np.array(places), values, variance)
        return state._replace(mean=mean, cov=cov)
    gone = values.T - sum(state.mean.take(one, axis=2) for one in places)
    cross: Any = sum(state.cov.take(one, axis=2) for one in places)
    spread: Any = sum(cross.take(one, axis=3) for one in places)
    own = _diagonal(spread, 0, 0, len(values))
    own += variance.T * np.maximum(gone**2 / (own + variance.T) / MOST_SURPRISE, 1.0)
    gain = np.linalg.inv(spread) @ cross
    mean = state.mean + (gone[:, :, None] @ gain)[:, :, 0]
    cov = state.cov - cross.swapaxes(2, 3) @ gain
    cov += cov.swapaxes(2, 3).copy()
    cov /= 2
    return state._replace(mean=mean, cov=cov)
