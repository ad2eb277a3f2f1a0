"""From boxes to places on the ground, each with a covariance that follows from what is known.

An object stands where the ray of its box's foot meets the ground. Where the picture cuts the foot off, where the foot
is too near the horizon to say, or above it, what its kind usually measures may say more. Which of the two is surer then
is decided by the same samples that give the covariance: boxes, tilts, heights and sizes that may be true, all carried
to the ground.

The covariance is that of these samples about the place told, scaled so that its 95 % ellipse holds 95 % of them: errors
are no Gaussians (a quantiser's cell is flat, a range near the horizon is skewed), but who reads a covariance takes them
for such.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.reading import Detection
from semhier_ros.ground.box_error import (
    ASIDE,
    CAMERA_HEIGHT,
    DEPTH,
    KIND,
    NEARNESS,
    TILT,
    BoxError,
    gaussian,
    told_and_drawn,
    uniform,
)
from semhier_ros.ground.lens import Flags, Floats, GroundError, Lens
from semhier_ros.ground.mount import Mount
from semhier_ros.ground.sizes import Size, SizeTable

CHI2_95 = 5.991
"""Squared radius, in standard deviations, of the ellipse that holds 95 % of a normal distribution in the plane."""
CUT = 0.012
"""Share of the picture's side within which a box that ends there counts as cut off by its edge (at least 2 pixels)."""
SLOPE, FLOATING = 0.03, 3.0
"""How far a foot may seem to float above the plane before it stands on no ground of ours: metres per metre of distance,
and standard deviations."""
UNSURE = 0.2
"""Uncertainty of the foot's ray, as a share of its range, up to which nothing else is asked."""
RATE_STEP, MOST_SPEED, SPEED_SAMPLES = 0.1, 200.0, 32
"""Seconds over which a speed in pixels becomes one in metres, and metres a second beyond which none is told."""
EXPLAINED = 3.0
"""Standard deviations of all doubts by which a height may differ from the usual, and still correct a distance."""
BESIDE = 1.12
"""How much farther beside its box's middle an object's own is than straight ahead, for those up to 25 degrees aside: by
`semhier measure ground`, of exact boxes."""
LEAST = 1e-9
TURNS = 13
NONE = (np.zeros(1), np.zeros(1))
Rows = NDArray[np.intp] | slice
Rays = tuple[Floats, Floats, Floats] | Floats
METHODS = ("ground", "size", "edge", "depth")
EXACT, USUAL = BoxError(), SizeTable()
GROUND, SIZE, EDGE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Located:
    """An object on the ground.

    detection: what was read of it. x, y: its middle on the ground plane, metres in the ground frame. near: metres from
    the ground below the camera to the side of it that we see. range, bearing: of its middle, seen from there; metres,
    and radians from the frame's x axis to the left. covariance: xx, xy, yx, yy in square metres. length (along the line
    of sight), width (across), height: metres. heading: direction of the line of sight, radians, along which `length`
    lies. method: `ground` (the foot's ray), `size` (what its kind usually measures), `edge` (its foot is below the
    picture: only known to be nearer than the picture's edge) or `depth` (measured). velocity: x, y in m/s in the
    ground frame where a forecast told one, and its covariance. z: of the ground below it, 0 in the ground frame.
    """

    detection: Detection
    x: float
    y: float
    near: float
    range: float
    bearing: float
    covariance: tuple[float, float, float, float]
    length: float
    width: float
    height: float
    heading: float
    method: str
    velocity: tuple[float, float] | None = None
    velocity_covariance: tuple[float, float, float, float] | None = None
    z: float = 0.0

    def moved(self, rotation: Floats, translation: Floats) -> Located:
        """The same object in another level frame: `rotation` 3,3 and `translation` 3 carry the ground frame there. Only
        its turn about the vertical counts; range and bearing stay those seen from the camera."""
        yaw = math.atan2(rotation[1, 0], rotation[0, 0])
        turn = np.array([[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]])
        x, y = turn @ (self.x, self.y) + translation[:2]
        velocity, spread = None, None
        if self.velocity is not None:
            vx, vy = turn @ self.velocity
            velocity = (float(vx), float(vy))
        if self.velocity_covariance is not None:
            spread = _four(turn @ np.array(self.velocity_covariance).reshape(2, 2) @ turn.T)
        return replace(
            self,
            x=float(x),
            y=float(y),
            z=float(self.z + translation[2]),
            covariance=_four(turn @ np.array(self.covariance).reshape(2, 2) @ turn.T),
            heading=math.remainder(self.heading + yaw, 2 * math.pi),
            velocity=velocity,
            velocity_covariance=spread,
        )

    @property
    def score(self) -> float:
        """Calibrated probability that there is an object at all: the coarsest score; 0 where none was told."""
        return self.detection.scores[0] if self.detection.scores else 0.0

    @property
    def name(self) -> str:
        """The finest name known; empty where none is."""
        return self.detection.names[-1] if self.detection.names else ""

    def footprint(self) -> list[tuple[float, float]]:
        """The four corners on the ground, counter-clockwise, the nearest side first."""
        ahead, aside = math.cos(self.heading), math.sin(self.heading)
        long, wide = self.length / 2, self.width / 2
        corners = ((-long, wide), (-long, -wide), (long, -wide), (long, wide))
        return [(self.x + a * ahead - b * aside, self.y + a * aside + b * ahead) for a, b in corners]


def locate(
    detections: Sequence[Detection],
    lens: Lens,
    mount: Mount,
    *,
    prefix: int = 0,
    error: BoxError | None = None,
    sizes: SizeTable | None = None,
    max_range: float = 100.0,
    forecast_sigma: Floats | None = None,
    rates: Floats | None = None,
    rate_sigma: Floats | None = None,
) -> list[Located]:
    """Where `detections` (boxes in the pixels of the lens's picture) stand, those that stand somewhere.

    prefix: the reading's. error: how wrong boxes may be (None: not at all). sizes: what kinds of objects measure (None:
    the usual). max_range: metres from the camera, 1 to 10000; what is farther is left out. forecast_sigma: n,4,
    standard deviations of the boxes' sides (x0, y0, x1, y1) in pixels by which a forecast to now has grown. rates: n,4,
    how fast the sides move, pixels a second; rate_sigma: n,4, standard deviations of that. Left out is also what is
    behind the camera, what floats above the plane, and a box that is no box.

    Raises:
        GroundError: `max_range` is out of its range, or arrays are not of the detections' number.
    """
    if not 1 <= max_range <= 10_000:
        raise GroundError(f"max_range: {max_range}, expected 1 to 10000 m")
    rows = _usable(detections, lens, forecast_sigma, rates, rate_sigma)
    if not len(rows):
        return []
    kept = [detections[row] for row in rows]
    table = sizes or USUAL
    boxes = np.array([item.box for item in kept], np.float64)
    frame = _Frame(boxes, lens, mount, [table.find(item.names) for item in kept], max_range)
    grown = None if forecast_sigma is None else np.asarray(forecast_sigma, np.float64)[rows]
    frame.place((error or EXACT).changes(boxes, prefix, grown, told=True))
    speeds = None
    if rates is not None:
        sigma = np.zeros_like(boxes) if rate_sigma is None else np.asarray(rate_sigma, np.float64)[rows]
        speeds = frame.speeds(np.asarray(rates, np.float64)[rows], sigma)
    return frame.told(kept, speeds)


def _usable(detections: Sequence[Detection], lens: Lens, *arrays: Floats | None) -> NDArray[np.intp]:
    """Rows of the detections whose box is one; checks that each array has a row for each detection."""
    for array in arrays:
        if array is not None and np.shape(array) != (len(detections), 4):
            raise GroundError(f"forecast: an array of shape {np.shape(array)}, expected {(len(detections), 4)}")
    if not detections:
        return np.zeros(0, np.intp)
    boxes = np.array([item.box for item in detections], np.float64)
    good = (np.abs(boxes) <= 4 * max(lens.width, lens.height)).all(axis=1)  # no NaN is
    boxes[~good] = 0.0
    good &= (boxes[:, 2:] - boxes[:, :2] > 1e-3).all(axis=1)
    for array in arrays:
        if array is not None:
            good &= (np.abs(np.nan_to_num(np.asarray(array, np.float64), nan=np.inf)) < 1e5).all(axis=1)
    return np.flatnonzero(good)


class _Chance(NamedTuple):
    """What else may be otherwise than told, S samples: pitch and roll 2,S; the camera's height S; how large the object
    is for its kind, in standard deviations, S."""

    tilt: Floats
    height: Floats
    kind: Floats


@lru_cache(maxsize=256)
def _chances(tilt_sigma: float, height: float, height_sigma: float) -> _Chance:
    """What was told, then samples around it."""
    drawn = told_and_drawn().T
    tall = np.maximum(height + drawn[CAMERA_HEIGHT] * height_sigma, 1e-3)
    tall[0] = height
    return _Chance(drawn[TILT] * tilt_sigma, tall, drawn[KIND].copy())


class _Kinds(NamedTuple):
    """What is usual of each object n, or of each kind: length, width, height and their spread; and for TURNS turns
    about the vertical, each a row n,TURNS: how wide it seems, how deep it is, and how far off its line of sight the
    nearest corner is, squared."""

    length: Floats
    width: Floats
    height: Floats
    spread: Floats
    broad: Floats
    deep: Floats
    slant: Floats

    def of(self, rows: NDArray[np.intp]) -> _Kinds:
        """Those of the objects whose kinds stand at `rows`."""
        return _Kinds(*(one[rows] for one in self))


@lru_cache(maxsize=256)
def _kinds(sizes: tuple[Size, ...]) -> _Kinds:
    """The kinds of such sizes."""
    table = np.array([(size.length, size.width, size.height, size.spread) for size in sizes])
    length, width = table[:, :1], table[:, 1:2]
    turn = np.linspace(0, math.pi / 2, TURNS)
    c, s = np.cos(turn), np.sin(turn)
    broad, deep = length * s + width * c, length * c + width * s
    slant = ((length * c - width * s) * broad / 4) ** 2
    return _Kinds(table[:, 0], table[:, 1], table[:, 2], table[:, 3], broad, deep, slant)


class _Distances(NamedTuple):
    """Of each box n and sample S: metres by the foot's ray and by the usual size (`far` where there is none), unit
    directions 2,n,S, and how tall the box is for each metre of distance."""

    ground: Floats
    by_size: Floats
    direction: Floats
    between: Floats


class _Frame:
    """The boxes of one frame on their way to the ground; arrays have a row for each box, then one for each sample."""

    def __init__(self, boxes: Floats, lens: Lens, mount: Mount, kinds: Sequence[Size], max_range: float) -> None:
        self.boxes, self.lens, self.mount, self.max_range = boxes, lens, mount, max_range
        self.far = 4 * max_range
        places = {kind: row for row, kind in enumerate(dict.fromkeys(kinds))}
        self.kinds = _kinds(tuple(places)).of(np.array([places[kind] for kind in kinds]))
        self.forward = mount.forward
        across, down = max(2.0, CUT * lens.width), max(2.0, CUT * lens.height)
        self.cut: Flags = np.empty(boxes.shape, bool)
        self.cut[:, :2] = boxes[:, :2] <= (across, down)
        self.cut[:, 2:] = boxes[:, 2:] >= (lens.width - across, lens.height - down)
        self.upright: Flags = ~(self.cut[:, 1] | self.cut[:, 3])
        self._aim()
        self.whole: Flags = self.upright & self.seen[:, 0] & self.seen[:, 1]

    def _aim(self) -> None:
        """Rays through foot, top, left and right of each box, and how they turn with the pixel and with the tilt: a
        lens is smooth, so that samples need no ray of their own."""
        x0, y0, x1, y1 = (self.boxes - 0.5).T  # from the picture's corner to the middle of its first pixel
        middle, waist = (x0 + x1) / 2, (y0 + y1) / 2
        points = np.array([[middle, y1], [middle, y0], [x0, waist], [x1, waist]]).transpose(0, 2, 1)
        bundles, known = self.lens.bundles(points.reshape(-1, 2))
        turned = (bundles.reshape(-1, 3) @ self.mount.rotation.T).reshape(4, len(self.boxes), 3, 3)
        self.seen: Flags = known.reshape(4, -1).T
        self.ray = turned[:, :, 0]
        """By side and box: x, y, z."""
        a, b = self.forward[:2].tolist()
        tilt = np.array([[[0, 0, -a], [0, 0, -b], [a, b, 0]], [[0, 0, -b], [0, 0, a], [b, -a, 0]]])
        self.slopes = np.empty((4, len(self.boxes), 3, 4))
        """By side and box: how x, y, z of its ray change with a pixel to the right, one downwards, pitch and roll."""
        self.slopes[..., :2] = turned[:, :, 1:].transpose(0, 1, 3, 2)
        self.slopes[..., 2:] = (self.ray @ tilt.transpose(1, 0, 2).reshape(3, 6)).reshape(4, -1, 2, 3).swapaxes(2, 3)

    def _sides(self, sides: slice, rows: Rows, moved: Floats) -> Rays:
        """Directions (x, y, z, each k,n,S) of the rays of `sides` (foot, top, left, right) of the boxes `rows`, for
        `moved` k,n,4,S: pixels to the right and downwards, pitch and roll."""
        found = self.slopes[sides, rows] @ moved
        found += self.ray[sides, rows, :, None]
        return found[:, :, 0], found[:, :, 1], found[:, :, 2]

    def _distances(self, change: Floats, chance: _Chance) -> _Distances:
        """For boxes moved by `change` n,4,S: how far they are, in which direction, and how tall for each metre."""
        moved = np.empty((2, len(change), 4, change.shape[2]))
        moved[:, :, 0] = change[:, 0] + change[:, 2]
        moved[:, :, 0] *= 0.5
        moved[0, :, 1], moved[1, :, 1] = change[:, 3], change[:, 1]
        moved[:, :, 2:] = chance.tilt
        x, y, z = self._sides(slice(0, 2), slice(None), moved)
        levels = _level((x, y, z))
        slopes = z / levels
        between = slopes[1] - slopes[0]
        height, spread = self.kinds.height[:, None], self.kinds.spread[:, None]
        by_size = _ratio(height * np.exp(spread * chance.kind), between, self.far)
        rows = np.flatnonzero(~self.upright)
        if len(rows):  # by width, of which we do not know the side
            aside = np.zeros((2, len(rows), 4, change.shape[2]))
            aside[0, :, 0], aside[1, :, 0] = change[rows, 0], change[rows, 2]
            aside[:, :, 2:] = chance.tilt
            side_x, side_y, side_z = self._sides(slice(2, 4), rows, aside)
            opening = _opening((side_x[0], side_y[0], side_z[0]), (side_x[1], side_y[1], side_z[1]))
            length, width = self.kinds.length[rows, None], self.kinds.width[rows, None]
            mean = (width + length) / 2
            turned = np.abs(length - width) / (2 * math.sqrt(3) * mean)
            broad = mean * np.exp(np.sqrt(spread[rows] ** 2 + turned * turned) * chance.kind)
            by_size[rows] = _ratio(broad, opening, self.far)
        on_ground = _ratio(chance.height, -slopes[0], self.far)
        direction = np.empty((2, *levels.shape[1:]))
        np.divide(x[0], levels[0], out=direction[0])
        np.divide(y[0], levels[0], out=direction[1])
        if levels[0].min() <= LEAST:
            direction = np.where(levels[0] > LEAST, direction, np.array([1.0, 0.0])[:, None, None])
        return _Distances(on_ground, by_size, direction, between)

    def place(self, change: Floats) -> None:
        """Chooses each object's method, and finds its middle and covariance; `change` n,4,S: how its box may differ,
        of which the first is not at all."""
        drawn = told_and_drawn().T
        self.chance = _chances(self.mount.tilt_sigma, self.mount.height, self.mount.height_sigma)
        found = self._distances(change, self.chance)
        self._choose(found)
        below = self.cut[:, 3]
        if below.any():
            found.by_size[below] = np.minimum(found.by_size[below], found.ground[below])
        self._agree(found)
        nears = self._chosen(found)
        self.near, self.direction = nears[:, 0], found.direction[:, :, 0].T
        self._measure()
        middles = self._middles(nears, found.direction, drawn[DEPTH], drawn[ASIDE])
        self.middle = middles[:, :, 0].T
        away = (middles[:, :, 1:] - middles[:, :, :1]).swapaxes(0, 1)
        covariance = _covariance(away, 1e-8)
        bent = _inverse(covariance) @ away
        bent *= away
        squares = bent.sum(axis=1)
        worst = round(0.95 * squares.shape[1]) - 1
        squares.partition(worst, axis=1)
        scale = np.clip(squares[:, worst] / CHI2_95, 0.1, 4.0)
        self.covariance = covariance * scale[:, None, None]

    def _chosen(self, found: _Distances) -> Floats:
        """How far the near sides are, n,S, each by its object's method."""
        nears = found.ground
        for method, other in ((SIZE, found.by_size), (EDGE, None)):
            rows = np.flatnonzero(self.method == method)
            if len(rows):
                nears = nears.copy() if nears is found.ground else nears
                nears[rows] = found.ground[rows] * self._nearness() if other is None else other[rows]
        return nears

    @staticmethod
    def _nearness() -> Floats:
        """How much nearer than the picture's edge a foot is that lies below it: half as far, or any share."""
        share = np.clip(0.5 + uniform()[:, NEARNESS], 0.02, 1.0)
        return np.concatenate([[0.5], share])

    def _agree(self, found: _Distances) -> None:
        """Lets what its kind usually measures correct the foot's ray, in place, where foot and top are seen.

        A foot's distance says how tall the object is. If that is not what its kind usually is, box, tilt and height of
        the camera are likely to be off in a way that explains it. The samples say how distance and height go together:
        the ensemble's Kalman update (Evensen 1994) of log distances by the usual log height. A height that no doubt
        explains corrects nothing: a child, a name that is wrong.
        """
        rows = np.flatnonzero(self.whole & (self.method == GROUND) & (found.between.min(axis=1) > LEAST))
        if not len(rows):
            return
        usual, spread = self.kinds.height[rows, None], self.kinds.spread[rows, None]
        distance = np.log(found.ground[rows])
        tall = np.log(found.between[rows])
        tall += distance - np.log(usual)
        samples = tall.shape[1] - 1
        even = np.full(samples, 1 / samples)
        near = distance[:, 1:] - (distance[:, 1:] @ even)[:, None]
        high = tall[:, 1:] - (tall[:, 1:] @ even)[:, None]
        variance = _dots(high, high)[:, None] / samples + spread * spread
        gain = _dots(near, high)[:, None] / samples / variance
        gain[tall[:, :1] ** 2 > EXPLAINED**2 * variance] = 0.0
        distance -= gain * (tall - spread * self.chance.kind)
        found.ground[rows] = np.minimum(np.exp(distance), self.far)

    def _choose(self, found: _Distances) -> None:
        """The surer method of each object, and whether it stands anywhere."""
        below, sides = self.cut[:, 3], self.cut[:, 0] | self.cut[:, 2]
        ground, by_size = found.ground[:, 0], found.by_size[:, 0]
        has_foot = self.seen[:, 0] & (ground < self.far)
        doubt = _uncertain(found.ground)
        sure = np.full((len(below), 3), np.inf)
        sure[:, GROUND] = np.where(has_foot & ~below, np.where(doubt <= UNSURE, 0.0, doubt), np.inf)
        rows = np.flatnonzero(sure[:, GROUND] > 0)  # of the others nothing else is asked
        if len(rows):
            has_size = self.seen[rows, :2].all(axis=1)
            has_size = np.where(self.upright[rows], has_size, ~sides[rows] & self.seen[rows, 2:].all(axis=1))
            lifts = _slope(self.ray[0, rows])[:, None] + self.chance.tilt[0]
            lifts *= found.by_size[rows]
            lifts += self.chance.height
            lift = lifts[:, 0]
            even = np.full(lifts.shape[1] - 1, 1 / (lifts.shape[1] - 1))
            lifts = lifts[:, 1:] - (lifts[:, 1:] @ even)[:, None]
            stands = lift <= FLOATING * np.sqrt(_dots(lifts, lifts) * even[0]) + SLOPE * by_size[rows]
            told = has_size & (by_size[rows] < self.far) & (stands | below[rows])
            sure[rows, SIZE] = np.where(told, _uncertain(found.by_size[rows]), np.inf)
        if below.any():
            rows = np.flatnonzero(has_foot & below)
            sure[rows, EDGE] = _uncertain(found.ground[rows] * self._nearness())
        self.method = sure.argmin(axis=1)
        self.stands: Flags = np.isfinite(sure.min(axis=1))

    def _measure(self) -> None:
        """How wide, deep and tall each object is, as far as its box says."""
        length, width, height = self.kinds.length, self.kinds.width, self.kinds.height
        least, most = np.minimum(length, width), np.maximum(length, width)
        opening = _opening(self.ray[2].T, self.ray[3].T)
        told = self.seen[:, 2] & self.seen[:, 3] & ~(self.cut[:, 0] | self.cut[:, 2])
        self.wide = np.clip(np.where(told, self.near * opening, width), 0.5 * least, 1.5 * most)
        self._turn()
        slopes = _slope(self.ray[:2])
        tall = np.clip(self.near * (slopes[1] - slopes[0]), 0.4 * height, 2 * height)
        self.tall = np.where(self.whole, tall, height)

    def _turn(self) -> None:
        """How deep each object is along the line of sight, and how far its middle may be beside that of its box: what
        the turns about the vertical say that make it seem as wide as it does, each as likely as the others before."""
        broad, deep, spread = self.kinds.broad, self.kinds.deep, self.kinds.spread
        away = self.wide[:, None] - broad
        away /= (spread + 0.05)[:, None] * broad
        likely = np.exp(-0.5 * np.minimum(away * away, 600.0)) + 1e-12
        likely /= likely.sum(axis=1, keepdims=True)
        self.deep = _dots(likely, deep)
        varied = np.maximum(_dots(likely, deep * deep) - self.deep**2, 0.0)
        self.deep_sigma = np.sqrt(varied + (spread * self.deep) ** 2)
        # the outermost corners are not equally far away
        self.slant = BESIDE * np.sqrt(_dots(likely, self.kinds.slant))

    def _middles(self, near: Floats, direction: Floats, depth: Floats, aside: Floats) -> Floats:
        """Middles 2,n,S of objects whose near side is `near` n,S away in `direction` 2,n,S; depth, aside, S: how much
        deeper they are than told, and how far to the left of their box's middle, in standard deviations.

        A box's lowest row is where the object is nearest along the camera's axis, so half its depth counts more the
        farther it stands to the side.
        """
        half = np.maximum(self.deep[:, None] + self.deep_sigma[:, None] * depth, 0.0)
        ahead = np.maximum(np.abs(direction[0] * self.forward[0] + direction[1] * self.forward[1]), 0.5)
        away = near + half / (2 * ahead)
        beside = self.slant[:, None] * aside / np.maximum(away, 0.5)
        middles = away * direction
        middles[0] -= beside * direction[1]
        middles[1] += beside * direction[0]
        middles += self.mount.position[:2, None, None]
        return middles

    def speeds(self, rates: Floats, sigma: Floats) -> tuple[Floats, Floats]:
        """Velocities n,2 in m/s and their covariances n,2,2, of sides that move at `rates` n,4 pixels a second."""
        drawn = gaussian()[:SPEED_SAMPLES, :4]
        still = _Chance(np.zeros((2, 1)), np.array([self.mount.height]), np.zeros(1))
        around = np.concatenate([np.zeros((len(rates), 1, 4)), sigma[:, None] * drawn], axis=1) + rates[:, None]
        ends = []
        for sign in (-0.5, 0.5):
            found = self._distances((sign * RATE_STEP * around).transpose(0, 2, 1), still)
            near = np.choose(self.method[:, None], [found.ground, found.by_size, found.ground / 2])
            ends.append(self._middles(near, found.direction, *NONE))
        speed = np.clip((ends[1] - ends[0]) / RATE_STEP, -MOST_SPEED, MOST_SPEED)
        return speed[:, :, 0].T, _covariance((speed[:, :, 1:] - speed[:, :, :1]).swapaxes(0, 1), 1e-6)

    def told(self, detections: Sequence[Detection], speeds: tuple[Floats, Floats] | None) -> list[Located]:
        """The objects that stand somewhere within range."""
        offset = self.middle - self.mount.position[:2]
        away = np.hypot(offset[:, 0], offset[:, 1])
        there = self.stands & (self.near > 0) & (away <= self.max_range)
        there &= np.isfinite(self.middle).all(axis=1) & np.isfinite(self.covariance).all(axis=(1, 2))
        there &= self.covariance[:, 0, 0] * self.covariance[:, 1, 1] > self.covariance[:, 0, 1] ** 2
        cross = (self.covariance[:, 0, 1] + self.covariance[:, 1, 0]) / 2
        spreads = np.stack([self.covariance[:, 0, 0], cross, cross, self.covariance[:, 1, 1]], axis=1)
        columns = [
            *self.middle.T,
            self.near,
            away,
            np.arctan2(offset[:, 1], offset[:, 0]),
            self.deep,
            self.wide,
            self.tall,
            np.arctan2(self.direction[:, 1], self.direction[:, 0]),
        ]
        numbers, fours, methods = np.stack(columns, axis=1).tolist(), spreads.tolist(), self.method.tolist()
        result = []
        for row in np.flatnonzero(there).tolist():
            x, y, near, far, bearing, deep, wide, tall, heading = numbers[row]
            velocity, spread = None, None
            if speeds is not None:
                velocity = (float(speeds[0][row, 0]), float(speeds[0][row, 1]))
                spread = _four(speeds[1][row])
            xx, xy, yx, yy = fours[row]
            method = METHODS[methods[row]]
            result.append(
                Located(
                    detections[row],
                    x,
                    y,
                    near,
                    far,
                    bearing,
                    (xx, xy, yx, yy),
                    deep,
                    wide,
                    tall,
                    heading,
                    method,
                    velocity,
                    spread,
                )
            )
        return result


def _four(matrix: Floats) -> tuple[float, float, float, float]:
    cross = float(matrix[0, 1] + matrix[1, 0]) / 2
    return float(matrix[0, 0]), cross, cross, float(matrix[1, 1])


def _level(rays: Rays) -> Floats:
    """Lengths of the level parts of rays (x, y, z)."""
    return np.maximum(np.sqrt(rays[0] * rays[0] + rays[1] * rays[1]), LEAST)


def _slope(rays: Floats) -> Floats:
    """How far rays ...,3 rise for each metre of level way."""
    return np.asarray(rays[..., 2] / np.maximum(np.hypot(rays[..., 0], rays[..., 1]), LEAST))


def _dots(one: Floats, other: Floats) -> Floats:
    """Sums n of the products of each row of two arrays n,S."""
    return np.asarray(np.einsum("ns,ns->n", one, other))


def _ratio(above: Floats, below: Floats, most: float) -> Floats:
    """above / below, at most `most`, which also stands where `below` is not above 0."""
    return np.where(below * most > above, above / np.maximum(below, LEAST), most)


def _opening(one: Rays, other: Rays) -> Floats:
    """How wide what fills the level angle between two rays is, in shares of its distance: 2 tan(angle / 2), at most of
    3 radians."""
    turn = np.abs(one[0] * other[1] - one[1] * other[0])
    along = one[0] * other[0] + one[1] * other[1]
    return np.asarray(2 * np.tan(np.minimum(np.arctan2(turn, along), 3.0) / 2))


def _covariance(away: Floats, least: float) -> Floats:
    """Second moments n,2,2 of n,2,S; `least` is added to the variances."""
    found = away @ away.swapaxes(1, 2)
    found /= away.shape[2]
    found[:, 0, 0] += least
    found[:, 1, 1] += least
    return np.asarray(found)


def _inverse(covariance: Floats) -> Floats:
    """Of n,2,2; of one that is all along a line, to rounding, that of one a little wider."""
    xx, xy, yy = covariance[:, 0, 0], covariance[:, 0, 1], covariance[:, 1, 1]
    size = np.maximum(xx * yy - xy * xy, 1e-12 * xx * yy)
    found = np.empty_like(covariance)
    found[:, 0, 0], found[:, 1, 1] = yy / size, xx / size
    found[:, 0, 1] = found[:, 1, 0] = -xy / size
    return found


def _uncertain(distances: Floats) -> Floats:
    """Half the width of the middle two thirds of distances n,S as a share of the distance told, which is the first."""
    samples = distances.shape[1] - 1
    low, high = round(0.16 * samples), round(0.84 * samples) - 1
    ordered = np.partition(distances[:, 1:], (low, high), axis=1)
    return (ordered[:, high] - ordered[:, low]) / 2 / np.maximum(distances[:, 0], 1e-6)
