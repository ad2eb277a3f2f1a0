"""Where the objects of a scene are now, and how surely: a bank of Kalman filters over all objects together.

**State.** Every object has a centre, a velocity of its own, the logarithms of its two sides and their rates. All
objects share the velocity that the turning and nodding camera gives to the whole picture (*camera motion*): one filter
holds all centres, so that what is seen of one object tells of the others, and a new object starts with the motion that
the picture has.

**Which noise.** How restless objects and camera are differs between a highway and a turn, and is not known beforehand.
`MotionBank` therefore runs several filters side by side, among them one that says "nothing moves", and believes them by
how well each has lately foretold the readings over the very time for which it is asked (multiple model adaptive
estimation: Magill, "Optimal adaptive estimation of sampled stochastic processes", 1965; here with forgetting). Where
motion cannot be told from the detector's jitter, "nothing moves" wins, and the forecast is the last reading.

Lengths are pixels, times seconds. Noise is given in shares of an object's own side, for the jitter and the acceleration
of a near object are more pixels than a far one's; for the camera, in shares of the picture's width.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
MOST_SURPRISE = 9.0
"""Squared standard deviations beyond which what was seen counts as less sure: an outlier moves a track by no more."""
LEAST_BELIEF = 12.0
"""How far a model's record may fall behind the best one's, in nats: what was wrong on the highway is soon right again
in the turn."""
ELLIPSE = 5.991
"""Squared standard deviations within which 95 % of a Gaussian of two dimensions lie."""
ELLIPSE_STEP = 0.05
KEPT_STATES = 24
"""Earlier states that are kept to judge the models by."""


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
    MotionModel(0.6, 1.0, 0.4, 0.08, 0.6, 0.3),
)


class Seen(NamedTuple):
    """What was seen of k objects: centre k,2 and log sides k,2, with their variances k,2."""

    centre: Floats
    centre_variance: Floats
    sides: Floats
    sides_variance: Floats

    def take(self, rows: Rows) -> Seen:
        """The same of some objects."""
        return Seen(*(part[rows] for part in self))


class Forecast(NamedTuple):
    """n objects at one moment: centre n,2 (pixels), velocity n,2 (pixels/s), covariance n,2,2 of the centre (pixels²),
    sides n,2 (pixels), and the velocity that the camera gives to all, 2."""

    centre: Floats
    velocity: Floats
    covariance: Floats
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

    width: of the picture, in pixels. horizon: seconds over which the models are judged, as long as forecasts usually
    reach. memory: seconds after which a model's success counts for 1/e.
    """

    def __init__(
        self,
        models: Sequence[MotionModel] = MODELS,
        *,
        width: float,
        horizon: float = 0.12,
        memory: float = 1.0,
    ):
        if not models:
            raise ValueError("models: none, at least one expected")
        self.horizon, self._memory = horizon, memory
        values = np.array([[m.camera * width, m.own, m.growth, m.drift, m.speed, m.growing] for m in models])
        self._camera, self._own, self._growth, self._drift, self._speed, self._growing = values.T
        count = len(models)
        self._state = _State(
            np.zeros((count, 2, 1)),
            np.zeros((count, 2, 1, 1)),
            np.zeros((count, 2, 2, 0)),
            np.zeros((count, 3, 2, 0)),
            np.zeros(0),
        )
        self._record = np.zeros(count)
        self._within = math.log(ELLIPSE)
        self._names: list[int] = []
        self._past: deque[tuple[float, _State, dict[int, int]]] = deque(maxlen=KEPT_STATES)
        self._now = 0.0

    def __len__(self) -> int:
        return len(self._state.side)

    @property
    def weights(self) -> Floats:
        """How much each model is believed; they sum to 1."""
        shares = np.exp(self._record - self._record.max())
        return np.asarray(shares / shares.sum())

    def add(self, seen: Seen, names: Sequence[int]) -> None:
        """New objects, under numbers that no other ever had."""
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
        self._names += names

    def keep(self, rows: Rows) -> None:
        """Forgets all objects but `rows`, which from now on are rows 0..k-1 in this order."""
        mean, cov, log, log_cov, side = self._state
        places = np.concatenate([[0], 1 + rows, 1 + len(side) + rows]).astype(np.intp)
        self._state = _State(
            mean[:, :, places],
            cov[:, :, places[:, None], places],
            log[..., rows],
            log_cov[..., rows],
            side[rows],
        )
        self._names = [self._names[row] for row in rows]

    def predict(self, seconds: float) -> None:
        """Lets time pass."""
        self._state = self._after(self._state, seconds)
        self._now += seconds

    def _after(self, state: _State, seconds: float) -> _State:
        side = state.side
        count = len(side)
        middle, speed = slice(1, 1 + count), slice(1 + count, None)
        centre, own = 1 + np.arange(count), 1 + count + np.arange(count)
        mean, cov = state.mean.copy(), state.cov.copy()
        mean[:, :, middle] += seconds * (mean[:, :, speed] + mean[:, :, :1])
        cov[:, :, middle] += seconds * (cov[:, :, speed] + cov[:, :, :1])
        cov[..., middle] += seconds * (cov[..., speed] + cov[..., :1])
        half, third = seconds**2 / 2, seconds**3 / 3
        camera = (self._camera**2)[:, None, None]
        cov[:, :, 0, 0] += camera[:, :, 0] * seconds
        cov[:, :, 0, middle] += camera * half
        cov[:, :, middle, 0] += camera * half
        cov[:, :, middle, middle] += camera[..., None] * third
        noise = ((self._own[:, None] * side) ** 2)[:, None]
        drift = ((self._drift[:, None] * side) ** 2)[:, None]
        cov[:, :, own, own] += noise * seconds
        cov[:, :, own, centre] += noise * half
        cov[:, :, centre, own] += noise * half
        cov[:, :, centre, centre] += noise * third + drift * seconds
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

    def distances(self, seen: Seen) -> tuple[Floats, Floats]:
        """How far each object is from each thing seen (n,k): squared standard deviations of centre and sides under the
        model that explains the pair best, and that model's cost in nats (twice), for an assignment."""
        mean, cov, log, log_cov, side = self._state
        rows = 1 + np.arange(len(side))
        spread = cov[:, :, rows, rows][..., None] + seen.centre_variance.T[None, :, None]
        gone = seen.centre.T[None, :, None] - mean[:, :, rows][..., None]
        log_spread = log_cov[:, 0][..., None] + seen.sides_variance.T[None, :, None]
        grown = seen.sides.T[None, :, None] - log[:, 0][..., None]
        far = (gone**2 / spread + grown**2 / log_spread).sum(axis=1)
        cost = far + np.log(spread * log_spread).sum(axis=1) - 2 * np.log(np.maximum(self.weights, 1e-3))[:, None, None]
        best = cost.argmin(axis=0)[None]
        return np.take_along_axis(far, best, 0)[0], np.take_along_axis(cost, best, 0)[0]

    def update(self, rows: Rows, seen: Seen) -> None:
        """Takes what was seen now of the objects `rows`; then the models are judged by it."""
        self._judge(rows, seen)
        if len(rows):
            self._state = _observed(self._state, _look(len(self), 1 + rows), seen.centre, seen.centre_variance)
            self._update_sides(rows, seen)
        self._past.append((self._now, self._state, {name: row for row, name in enumerate(self._names)}))

    def steer(self, rows: Rows, velocities: Floats, variance: Floats) -> None:
        """Takes what the sender says of the velocities k,2 (pixels/s, variance k,2) of the objects `rows`."""
        if len(rows):
            look = _look(len(self), 1 + len(self) + rows)
            look[:, 0] = 1.0
            self._state = _observed(self._state, look, velocities, variance)

    def _update_sides(self, rows: Rows, seen: Seen) -> None:
        mean, cov, log, log_cov, side = self._state
        log, log_cov, side = log.copy(), log_cov.copy(), side.copy()
        value, both, rate = (log_cov[:, part][..., rows] for part in range(3))
        gone = seen.sides.T[None] - log[:, 0][..., rows]
        spread = value + seen.sides_variance.T[None]
        spread = spread * np.maximum(gone**2 / spread / MOST_SURPRISE, 1.0)
        log[:, 0][..., rows] += value / spread * gone
        log[:, 1][..., rows] += both / spread * gone
        log_cov[:, 0][..., rows] = value - value**2 / spread
        log_cov[:, 1][..., rows] = both - value * both / spread
        log_cov[:, 2][..., rows] = rate - both**2 / spread
        side[rows] = np.exp(np.einsum("m,mak->k", self.weights, log[:, 0][..., rows]) / 2)
        self._state = _State(mean, cov, log, log_cov, side)

    @property
    def spread(self) -> float:
        """What covariances are multiplied with so that 95 % of what is seen lies within the 95 % ellipse."""
        return math.exp(self._within) / ELLIPSE

    def _judge(self, rows: Rows, seen: Seen) -> None:
        """Holds what every model said a horizon ago against what is seen now."""
        while len(self._past) > 1 and self._now - self._past[1][0] >= self.horizon - 1e-3:
            self._past.popleft()
        if not self._past or self._now - self._past[0][0] < self.horizon - 1e-3:
            return
        then, state, known = self._past[0]
        pairs = [(known[self._names[row]], place) for place, row in enumerate(rows) if self._names[row] in known]
        elapsed = self._now - self._past[-1][0]
        self._record *= np.exp(-elapsed / self._memory)
        if not pairs:
            return
        old, places = np.array(pairs, np.intp).T
        told = self._after(state, self._now - then)
        self._fit_ellipse(self._blend(told), old, seen.take(places))
        spread = told.cov[:, :, 1 + old, 1 + old] + seen.centre_variance[places].T
        gone = seen.centre[places].T - told.mean[:, :, 1 + old]
        log_spread = told.log_cov[:, 0][..., old] + seen.sides_variance[places].T
        grown = seen.sides[places].T - told.log[:, 0][..., old]
        lost = np.minimum(gone**2 / spread, MOST_SURPRISE) + np.minimum(grown**2 / log_spread, MOST_SURPRISE)
        self._record -= 0.5 * (lost + np.log(spread * log_spread)).sum(axis=(1, 2))
        self._record = np.maximum(self._record - self._record.max(), -LEAST_BELIEF)

    def _fit_ellipse(self, told: Forecast, rows: Rows, seen: Seen) -> None:
        """Moves `spread` so that one in twenty of what is seen lies outside (Robbins and Monro 1951)."""
        spread = told.covariance[rows]
        spread[:, [0, 1], [0, 1]] += seen.centre_variance
        gone = seen.centre - told.centre[rows]
        far = np.einsum("ni,nij,nj->n", gone, np.linalg.inv(spread), gone)
        for value in np.log(np.maximum(far, 1e-9)).tolist():
            self._within += ELLIPSE_STEP * ((value > self._within) - 0.05)
        self._within = min(max(self._within, math.log(ELLIPSE / 4)), math.log(ELLIPSE * 25))

    def forecast(self, seconds: float) -> Forecast:
        """All objects `seconds` from now, by all models together."""
        told = self._blend(self._after(self._state, seconds))
        return told._replace(covariance=told.covariance * self.spread)

    def _blend(self, state: _State) -> Forecast:
        """What all models say together; its covariance holds their disagreement too."""
        weights, count = self.weights, len(state.side)
        middle, own = slice(1, 1 + count), slice(1 + count, None)
        blend = np.einsum("m,mad->ad", weights, state.mean)
        apart = state.mean[:, :, middle] - blend[None, :, middle]
        covariance = np.einsum("m,man,mbn->nab", weights, apart, apart)
        rows = 1 + np.arange(count)
        covariance[:, [0, 1], [0, 1]] += np.einsum("m,man->na", weights, state.cov[:, :, rows, rows])
        sides = np.exp(np.einsum("m,man->na", weights, state.log[:, 0]))
        return Forecast(blend[:, middle].T, (blend[:, own] + blend[:, :1]).T, covariance, sides, blend[:, 0])


def _look(count: int, places: Rows) -> Floats:
    """The matrix k,1+2n that picks `places` of a state."""
    look = np.zeros((len(places), 1 + 2 * count))
    look[np.arange(len(places)), places] = 1.0
    return look


def _observed(state: _State, look: Floats, values: Floats, variance: Floats) -> _State:
    """A Kalman filter's update by `values` k,2 of what `look` picks, in every model and axis; outliers count less."""
    gone = values.T[None] - state.mean @ look.T
    cross = state.cov @ look.T
    spread = look @ cross
    diagonal = np.arange(len(look))
    noise = np.broadcast_to(variance.T[None], gone.shape)
    surprise = gone**2 / (spread[:, :, diagonal, diagonal] + noise)
    spread[:, :, diagonal, diagonal] += noise * np.maximum(surprise / MOST_SURPRISE, 1.0)
    gain = np.linalg.solve(spread, cross.swapaxes(2, 3))
    mean = state.mean + (gone[:, :, None] @ gain)[:, :, 0]
    cov = state.cov - cross @ gain
    return state._replace(mean=mean, cov=(cov + cov.swapaxes(2, 3)) / 2)
