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
from functools import lru_cache
from typing import Any, NamedTuple, overload

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
    box_draws,
    gaussian,
    told_and_drawn,
    uniform,
)
from semhier_ros.ground.lens import Flags, Floats, GroundError, Lens
from semhier_ros.ground.mount import Mount
from semhier_ros.ground.sizes import SizeTable
from semhier_ros.native import kernels

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
STILL = (np.zeros(1 + SPEED_SAMPLES),) * 2
Rows = NDArray[np.intp] | slice
Four = tuple[float, float, float, float]
METHODS = ("ground", "size", "edge", "depth")
EXACT, USUAL = BoxError(), SizeTable()
GROUND, SIZE, EDGE = 0, 1, 2


class Located(NamedTuple):
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
    covariance: Four
    length: float
    width: float
    height: float
    heading: float
    method: str
    velocity: tuple[float, float] | None = None
    velocity_covariance: Four | None = None
    z: float = 0.0

    def moved(self, rotation: Floats, translation: Floats) -> Located:
        """The same object in another level frame: `rotation` 3,3 and `translation` 3 carry the ground frame there. Only
        its turn about the vertical counts; range and bearing stay those seen from the camera."""
        yaw = math.atan2(rotation[1, 0], rotation[0, 0])
        c, s = math.cos(yaw), math.sin(yaw)
        velocity, spread = self.velocity, self.velocity_covariance
        if velocity is not None:
            velocity = (c * velocity[0] - s * velocity[1], s * velocity[0] + c * velocity[1])
        return self._replace(
            x=c * self.x - s * self.y + float(translation[0]),
            y=s * self.x + c * self.y + float(translation[1]),
            z=self.z + float(translation[2]),
            covariance=_turned(self.covariance, c, s),
            heading=math.remainder(self.heading + yaw, 2 * math.pi),
            velocity=velocity,
            velocity_covariance=None if spread is None else _turned(spread, c, s),
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
    kept, boxes, grown, rows = _asked(detections, lens, max_range, forecast_sigma, rates, rate_sigma)
    if not len(boxes):
        return []
    shares = (error or EXACT).shares(boxes, prefix, grown)
    moving = None if rates is None else _speed_shares(_rows(rates, rows), _rows(rate_sigma, rows))
    return _told(kept, *_places(boxes, kept, lens, mount, sizes or USUAL, max_range, shares, moving))


def ranges(
    detections: Sequence[Detection],
    lens: Lens,
    mount: Mount,
    *,
    prefix: int = 0,
    error: BoxError | None = None,
    sizes: SizeTable | None = None,
    max_range: float = 100.0,
    forecast_sigma: Floats | None = None,
) -> dict[int, float]:
    """The `range` of each object that `locate` would place, by its detection's id, for less time. Arguments and errors
    as those of `locate`."""
    kept, boxes, grown, _ = _asked(detections, lens, max_range, forecast_sigma)
    if not len(boxes):
        return {}
    shares = (error or EXACT).shares(boxes, prefix, grown)
    numbers, methods, _ = _places(boxes, kept, lens, mount, sizes or USUAL, max_range, shares)
    far = numbers[:, 3].tolist()
    return {kept[row].id: far[row] for row in np.flatnonzero(methods >= 0).tolist()}


def _places(
    boxes: Floats,
    detections: Sequence[Detection],
    lens: Lens,
    mount: Mount,
    table: SizeTable,
    max_range: float,
    shares: Floats,
    moving: Floats | None = None,
) -> tuple[Floats, NDArray[np.int64], Floats | None]:
    """What `_Frame.place` gives, and `speeds` where boxes are `moving`; the compiled kernel rounds otherwise."""
    if kernels is None:
        frame = _Frame(boxes, detections, lens, mount, table, max_range)
        return *frame.place(shares), None if moving is None else frame.speeds(moving)
    rays, known = _side_rays(boxes, lens)
    chance = _chances(mount.tilt_sigma, mount.height, mount.height_sigma)
    numbers, methods, speeds = kernels.places(
        boxes,
        rays,
        known,
        _kinds_of(table, detections),
        shares,
        chance.draws,
        chance.others,
        np.zeros((0, 4, 5)) if moving is None else moving,
        _speed_draws(),
        mount.rotation,
        mount.position,
        mount.forward[:2],
        (lens.width, lens.height),
        _cut_edges(lens),
        max_range,
    )
    return numbers, methods, None if moving is None else speeds


def _speed_shares(rates: Floats, sigma: Floats | None) -> Floats:
    """By how many pixels a second each number of `_speed_draws` moves each side: n,4,5."""
    shares = np.zeros((len(rates), 4, 5))
    if sigma is not None:
        shares[:, range(4), range(4)] = sigma
    shares[:, :, 4] = rates
    return shares


def _told(
    detections: Sequence[Detection],
    numbers: Floats,
    methods: NDArray[np.int64],
    speeds: Floats | None,
) -> list[Located]:
    """Objects of whose places `numbers` n,12 tell, in the order of `Located`'s fields; methods below 0: they stand
    nowhere. speeds n,5: velocities x, y and their covariances xx, xy, yy."""
    velocities: list[Any] = [(None, None)] * len(numbers)
    if speeds is not None:
        velocities = [((vx, vy), (sxx, sxy, sxy, syy)) for vx, vy, sxx, sxy, syy in speeds.tolist()]
    result = []
    for item, told, method, velocity in zip(detections, numbers.tolist(), methods.tolist(), velocities, strict=True):
        if method >= 0:
            x, y, near, far, turn, deep, wide, tall, faces, xx, xy, yy = told
            spread = (xx, xy, xy, yy)
            result.append(
                Located(item, x, y, near, far, turn, spread, deep, wide, tall, faces, METHODS[method], *velocity)
            )
    return result


def _asked(
    detections: Sequence[Detection],
    lens: Lens,
    max_range: float,
    forecast_sigma: Floats | None,
    *motion: Floats | None,
) -> tuple[Sequence[Detection], Floats, Floats | None, NDArray[np.intp] | None]:
    """The detections whose box is one, their boxes n,4, how their forecasts have grown, and their rows (None: all).
    Raises GroundError as `locate` does."""
    if not 1 <= max_range <= 10_000:
        raise GroundError(f"max_range: {max_range}, expected 1 to 10000 m")
    rows, boxes = _usable(detections, lens, forecast_sigma, *motion)
    kept = detections if rows is None else [detections[row] for row in rows]
    return kept, boxes, _rows(forecast_sigma, rows), rows


def _usable(
    detections: Sequence[Detection], lens: Lens, *arrays: Floats | None
) -> tuple[NDArray[np.intp] | None, Floats]:
    """Rows of the detections whose box is one (None: of all), and these boxes n,4; checks that each array has a row for
    each detection."""
    for array in arrays:
        if array is not None and np.shape(array) != (len(detections), 4):
            raise GroundError(f"forecast: an array of shape {np.shape(array)}, expected {(len(detections), 4)}")
    if not detections:
        return None, np.zeros((0, 4))
    boxes = np.array([item.box for item in detections], np.float64)
    good = (np.abs(boxes) <= 4 * max(lens.width, lens.height)).all(axis=1)  # no NaN is
    if not good.all():
        boxes[~good] = 0.0
    good &= (boxes[:, 2:] - boxes[:, :2] > 1e-3).all(axis=1)
    for array in arrays:
        if array is not None:
            good &= (np.abs(np.nan_to_num(np.asarray(array, np.float64), nan=np.inf)) < 1e5).all(axis=1)
    if good.all():
        return None, boxes
    rows = np.flatnonzero(good)
    return rows, boxes[rows]


@overload
def _rows(array: None, rows: NDArray[np.intp] | None) -> None: ...
@overload
def _rows(array: Floats, rows: NDArray[np.intp] | None) -> Floats: ...
def _rows(array: Floats | None, rows: NDArray[np.intp] | None) -> Floats | None:
    """Those rows of an array, if there is one; None: all."""
    if array is None:
        return None
    numbers = np.asarray(array, np.float64)
    return numbers if rows is None else numbers[rows]


class _Chance(NamedTuple):
    """What may be otherwise than told, S samples of which the first is what was told. draws: D + 3,S numbers that move
    a box's sides, then pitch and roll in radians, then 1; height: the camera's, S; kind: how large the object is for
    its kind, in standard deviations, S. others 5,S: these two, then how much deeper than told it is, how far aside, and
    how near of what is cut off below."""

    draws: Floats
    height: Floats
    kind: Floats
    others: Floats


@lru_cache(maxsize=64)
def _chances(tilt_sigma: float, height: float, height_sigma: float) -> _Chance:
    """What was told, then samples around it."""
    drawn = told_and_drawn().T
    tall = np.maximum(height + drawn[CAMERA_HEIGHT] * height_sigma, 1e-3)
    tall[0] = height
    draws = np.concatenate([box_draws(told=True), drawn[TILT] * tilt_sigma, np.ones((1, len(tall)))])
    others = np.stack([tall, drawn[KIND], drawn[DEPTH], drawn[ASIDE], _nearness()])
    return _Chance(draws, others[0], others[1], others)


@lru_cache(maxsize=1)
def _nearness() -> Floats:
    """How much nearer than the picture's edge a foot is that lies below it: half as far, or any share."""
    share = np.clip(0.5 + uniform()[:, NEARNESS], 0.02, 1.0)
    return np.concatenate([[0.5], share])


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


@lru_cache(maxsize=16)
def _kinds(table: SizeTable) -> Floats:
    """The kinds of a table, a row each: the columns of `_Kinds`, one after the other."""
    numbers = np.array([(size.length, size.width, size.height, size.spread) for size in table.sizes])
    length, width = numbers[:, :1], numbers[:, 1:2]
    turn = np.linspace(0, math.pi / 2, TURNS)
    c, s = np.cos(turn), np.sin(turn)
    broad, deep = length * s + width * c, length * c + width * s
    return np.concatenate([numbers, broad, deep, ((length * c - width * s) * broad / 4) ** 2], axis=1)


def _kinds_of(table: SizeTable, detections: Sequence[Detection]) -> Floats:
    """What is usual of each detection, n rows of `_kinds`."""
    return _kinds(table)[[table.number(item.names) for item in detections]]


def _cut_edges(lens: Lens) -> tuple[float, float]:
    """Pixels from the picture's border, across and down, within which a side of a box counts as cut off by it."""
    return max(2.0, CUT * lens.width), max(2.0, CUT * lens.height)


def _side_rays(boxes: Floats, lens: Lens) -> tuple[Floats, Flags]:
    """Rays through foot, top, left and right of each box as `Lens.bundles` gives them, 4,n,3,3; and which are known,
    4,n."""
    x0, y0, x1, y1 = boxes.T - 0.5  # from the picture's corner to the middle of its first pixel
    points = np.empty((4, len(boxes), 2))
    points[:2, :, 0] = (x0 + x1) / 2
    points[2:, :, 1] = (y0 + y1) / 2
    points[0, :, 1], points[1, :, 1], points[2, :, 0], points[3, :, 0] = y1, y0, x0, x1
    bundles, known = lens.bundles(points.reshape(-1, 2))
    return bundles.reshape(4, -1, 3, 3), known.reshape(4, -1)


class _Distances(NamedTuple):
    """Of each box n and sample S: metres by the foot's ray (`far` where there is none), unit directions 2,n,S, and how
    tall the box is for each metre of distance."""

    ground: Floats
    direction: Floats
    between: Floats


class _Frame:
    """The boxes of one frame on their way to the ground; arrays have a row for each box, then one for each sample."""

    def __init__(
        self,
        boxes: Floats,
        detections: Sequence[Detection],
        lens: Lens,
        mount: Mount,
        table: SizeTable,
        max_range: float,
    ) -> None:
        self.boxes, self.lens, self.mount, self.max_range = boxes, lens, mount, max_range
        self.far = 4 * max_range
        self.beyond = self.far * (1 - 1e-9)
        """Metres from which on a distance is none: the ratio that gives it may round."""
        found = _kinds_of(table, detections)
        turns = (found[:, 4 + step * TURNS : 4 + (step + 1) * TURNS] for step in range(3))
        self.kinds = _Kinds(*found[:, :4].T, *turns)
        self.forward = mount.forward
        across, down = _cut_edges(lens)
        self.cut: Flags = np.empty(boxes.shape, bool)
        self.cut[:, :2] = boxes[:, :2] <= (across, down)
        self.cut[:, 2:] = boxes[:, 2:] >= (lens.width - across, lens.height - down)
        self.upright: Flags = ~(self.cut[:, 1] | self.cut[:, 3])
        self.narrow: Flags = ~(self.cut[:, 0] | self.cut[:, 2])
        self._aim()
        self.whole: Flags = self.upright & self.seen[0] & self.seen[1]

    def _aim(self) -> None:
        """Rays through foot, top, left and right of each box, and how they turn with the pixel and with the tilt: a
        lens is smooth, so that samples need no ray of their own."""
        bundles, known = _side_rays(self.boxes, self.lens)
        count = len(self.boxes)
        turned = (bundles.reshape(-1, 3) @ self.mount.rotation.T).reshape(4, count, 3, 3)
        self.seen: Flags = known
        """By side and box."""
        self.slopes = np.empty((3, 4, count, 5))
        """Of x, y, z by side and box: how they change with a pixel to the right, one downwards, pitch and roll; last,
        what they are."""
        self.slopes[..., :2] = turned[:, :, 1:].transpose(3, 0, 1, 2)
        self.ray = turned[:, :, 0].transpose(2, 0, 1)
        """x, y, z by side and box."""
        x, y, z = self.slopes[..., 4] = self.ray
        a, b = self.forward[:2].tolist()
        pitch, roll = self.slopes[..., 2], self.slopes[..., 3]
        np.multiply(z, a, out=pitch[0])
        np.multiply(z, b, out=pitch[1])
        np.negative(a * x + b * y, out=pitch[2])
        np.multiply(z, b, out=roll[0])
        np.multiply(z, -a, out=roll[1])
        roll[2] = a * y - b * x

    def _rays(self, sides: slice, rows: Rows, right: Floats, down: Floats | None, draws: Floats) -> Floats:
        """x, y, z of the rays through two `sides` (foot and top, or left and right) of the boxes `rows`: 3,2,n,S.

        right, down: by side (or one for both) and box, D numbers: by how many pixels each of the first D `draws` moves
        it (None: not at all). Behind these, draws tell pitch, roll and 1. One product of matrices carries all samples.
        """
        slopes = self.slopes[:, sides, rows]
        moves = np.empty((*slopes.shape[:3], right.shape[-1] + 3))
        shares = moves[..., :-3]
        np.multiply(slopes[..., :1], right, out=shares)
        if down is not None:
            shares += slopes[..., 1:2] * down
        moves[..., -3:] = slopes[..., 2:]
        return np.asarray((moves.reshape(-1, len(draws)) @ draws).reshape(*slopes.shape[:3], -1))

    def _distances(self, shares: Floats, chance: _Chance) -> _Distances:
        """For boxes whose sides move by `shares` n,4,D of the draws: how far they are, in which direction, and how tall
        for each metre."""
        middle = (shares[:, 0] + shares[:, 2]) / 2
        x, y, z = self._rays(slice(0, 2), slice(None), middle, shares[:, (3, 1)].swapaxes(0, 1), chance.draws)
        levels = x * x
        levels += y * y
        np.sqrt(levels, out=levels)
        np.maximum(levels, LEAST, out=levels)
        direction = np.empty((2, *levels.shape[1:]))
        np.divide(x[0], levels[0], out=direction[0])
        np.divide(y[0], levels[0], out=direction[1])
        if levels[0].min() <= LEAST:
            direction = np.where(levels[0] > LEAST, direction, np.array([1.0, 0.0])[:, None, None])
        z /= levels
        return _Distances(_ratio(chance.height, -z[0], self.far), direction, z[1] - z[0])

    def _by_size(self, found: _Distances, shares: Floats, chance: _Chance, rows: NDArray[np.intp]) -> Floats:
        """How far the boxes `rows` are by what their kind usually measures, k,S: by height, or where foot or top are
        cut off by width, of which we do not know the side."""
        spread = self.kinds.spread[rows, None]
        usual = self.kinds.height[rows, None] * np.exp(spread * chance.kind)
        result = _ratio(usual, found.between[rows], self.far)
        cut = np.flatnonzero(~self.upright[rows])
        if len(cut):
            at = rows[cut]
            sideways = shares[at][:, (0, 2)].swapaxes(0, 1)
            left, right = self._rays(slice(2, 4), at, sideways, None, chance.draws).swapaxes(0, 1)
            length, width = self.kinds.length[at, None], self.kinds.width[at, None]
            mean = (width + length) / 2
            turned = np.abs(length - width) / (2 * math.sqrt(3) * mean)
            broad = mean * np.exp(np.sqrt(spread[cut] ** 2 + turned * turned) * chance.kind)
            result[cut] = _ratio(broad, _opening(left, right), self.far)
        return result

    def _stand(self, shares: Floats) -> tuple[Floats, Floats]:
        """Chooses each object's method; `shares` n,4,D: how the draws move the sides of its box. Returns how far its
        near side is, n,S, and in which direction, 2,n,S."""
        self.chance = _chances(self.mount.tilt_sigma, self.mount.height, self.mount.height_sigma)
        found = self._distances(shares, self.chance)
        doubted, by_size = self._choose(found, shares)
        self._agree(found)
        nears = found.ground
        if self.method.any():
            nears = nears.copy()
            sized = self.method[doubted] == SIZE
            rows = doubted[sized]
            # a foot below the picture is not farther than the picture's edge
            nears[rows] = np.where(self.cut[rows, 3:], np.minimum(by_size[sized], nears[rows]), by_size[sized])
            nears[self.method == EDGE] *= _nearness()
        self.near, self.direction = nears[:, 0], found.direction[:, :, 0]
        self._measure()
        return nears, found.direction

    def place(self, shares: Floats) -> tuple[Floats, NDArray[np.int64]]:
        """Of each object n,12 numbers in the order of `Located`'s fields, and its method, -1 where it stands nowhere
        within range; `shares` as those of `_stand`."""
        nears, direction = self._stand(shares)
        drawn = told_and_drawn().T
        middles = self._middles(nears, direction, drawn[DEPTH], drawn[ASIDE])
        across, along = middles[:, :, 1:] - middles[:, :, :1]
        samples = across.shape[1]
        xx, yy = _dots(across, across) / samples + 1e-8, _dots(along, along) / samples + 1e-8
        xy = _dots(across, along) / samples
        # of one that is all along a line, to rounding, that of one a little wider
        size = np.maximum(xx * yy - xy * xy, 1e-12 * xx * yy)
        squares = (yy / size)[:, None] * across
        squares -= (2 * xy / size)[:, None] * along
        squares *= across
        along *= along
        along *= (xx / size)[:, None]
        squares += along
        worst = round(0.95 * samples) - 1
        squares.partition(worst, axis=1)
        scale = np.clip(squares[:, worst] / CHI2_95, 0.1, 4.0)
        offset = middles[:, :, 0] - self.mount.position[:2, None]
        away, bearing = np.hypot(offset[0], offset[1]), np.arctan2(offset[1], offset[0])
        heading = np.arctan2(self.direction[1], self.direction[0])
        spread = np.stack([xx, xy, yy]) * scale
        told = [*middles[:, :, 0], self.near, away, bearing, self.deep, self.wide, self.tall, heading, *spread]
        numbers = np.stack(told, axis=1)
        there = self.stands & (self.near > 0) & (away <= self.max_range) & np.isfinite(numbers).all(axis=1)
        there &= spread[0] * spread[2] > spread[1] * spread[1]
        return numbers, np.where(there, self.method, -1)

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
        every = len(rows) == len(self.whole)
        ground, between = (found.ground, found.between) if every else (found.ground[rows], found.between[rows])
        spread = self.kinds.spread[rows, None]
        distance = np.log(ground)
        tall = between * ground
        tall /= self.kinds.height[rows, None]
        np.log(tall, out=tall)
        samples = tall.shape[1] - 1
        near, high = _centred(distance), _centred(tall)
        variance = _dots(high, high)[:, None] / samples + spread * spread
        gain = _dots(near, high)[:, None] / samples / variance
        gain[tall[:, :1] ** 2 > EXPLAINED**2 * variance] = 0.0
        tall -= spread * self.chance.kind
        tall *= gain
        distance -= tall
        np.exp(distance, out=distance)
        found.ground[rows] = np.minimum(distance, self.far)

    def _choose(self, found: _Distances, shares: Floats) -> tuple[NDArray[np.intp], Floats]:
        """The surer method of each object, and whether it stands anywhere. Returns the rows of those of which the
        foot's ray alone does not say enough, and how far these are by size, k,S."""
        below = self.cut[:, 3]
        has_foot = self.seen[0] & (found.ground[:, 0] < self.beyond)
        doubt = _uncertain(found.ground)
        sure = np.full((len(below), 3), np.inf)
        sure[:, GROUND] = np.where(has_foot & ~below, np.where(doubt <= UNSURE, 0.0, doubt), np.inf)
        # of the others nothing else is asked: they are sure enough, or surer than sizes of such a spread could be
        rows = np.flatnonzero((sure[:, GROUND] > 0) & (sure[:, GROUND] > self.kinds.spread))
        by_size = np.zeros((0, found.ground.shape[1]))
        if len(rows):
            by_size = self._by_size(found, shares, self.chance, rows)
            has_size = np.where(
                self.upright[rows], self.seen[:2, rows].all(axis=0), self.narrow[rows] & self.seen[2:, rows].all(axis=0)
            )
            lifts = _slope(self.ray[:, 0, rows])[:, None] + self.chance.draws[-3]
            lifts *= by_size
            lifts += self.chance.height
            lift = lifts[:, 0].copy()
            lifts = _centred(lifts)
            stands = lift <= FLOATING * np.sqrt(_dots(lifts, lifts) / lifts.shape[1]) + SLOPE * by_size[:, 0]
            told = has_size & (by_size[:, 0] < self.beyond) & (stands | below[rows])
            sure[rows, SIZE] = np.where(told, _uncertain(by_size), np.inf)
        if below.any():
            at = np.flatnonzero(has_foot & below)
            sure[at, EDGE] = _uncertain(found.ground[at] * _nearness())
        self.method = sure.argmin(axis=1)
        self.stands: Flags = np.isfinite(sure.min(axis=1))
        return rows, by_size

    def _measure(self) -> None:
        """How wide, deep and tall each object is, as far as its box says."""
        length, width, height = self.kinds.length, self.kinds.width, self.kinds.height
        least, most = np.minimum(length, width), np.maximum(length, width)
        opening = _opening(self.ray[:, 2], self.ray[:, 3])
        told = self.seen[2] & self.seen[3] & self.narrow
        self.wide = np.minimum(np.maximum(np.where(told, self.near * opening, width), 0.5 * least), 1.5 * most)
        self._turn()
        foot, top = _slope(self.ray[:, :2])
        tall = np.minimum(np.maximum(self.near * (top - foot), 0.4 * height), 2 * height)
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
        half = self.deep_sigma[:, None] * depth
        half += self.deep[:, None]
        np.maximum(half, 0.0, out=half)
        ahead = direction[0] * self.forward[0]
        ahead += direction[1] * self.forward[1]
        np.abs(ahead, out=ahead)
        np.maximum(ahead, 0.5, out=ahead)
        half /= ahead
        half /= 2
        half += near  # now all the way to the middle
        middles = half * direction
        beside = self.slant[:, None] * aside
        beside /= np.maximum(half, 0.5, out=half)
        middles[0] -= beside * direction[1]
        middles[1] += np.multiply(beside, direction[0], out=beside)
        middles += self.mount.position[:2, None, None]
        return middles

    def speeds(self, shares: Floats) -> Floats:
        """Velocities x, y in m/s and their covariances xx, xy, yy, n,5, of sides that move by `shares` n,4,5 of
        `_speed_draws` a second."""
        draws = _speed_draws()
        still = _Chance(draws, np.array([self.mount.height]), np.zeros(1), np.zeros((0, 1)))
        sized = np.flatnonzero(self.method == SIZE)
        ends = []
        for half_step in (-RATE_STEP / 2, RATE_STEP / 2):
            moved = half_step * shares
            found = self._distances(moved, still)
            near = found.ground.copy()
            if len(sized):
                near[sized] = self._by_size(found, moved, still, sized)
            near[self.method == EDGE] /= 2
            ends.append(self._middles(near, found.direction, *STILL))
        speed = np.clip((ends[1] - ends[0]) / RATE_STEP, -MOST_SPEED, MOST_SPEED)
        x, y = speed[:, :, 1:] - speed[:, :, :1]
        samples = x.shape[1]
        spread = [_dots(x, x) / samples + 1e-6, _dots(x, y) / samples, _dots(y, y) / samples + 1e-6]
        return np.stack([*speed[:, :, 0], *spread], axis=1)


@lru_cache(maxsize=1)
def _speed_draws() -> Floats:
    """Of the four sides' errors: none, then SPEED_SAMPLES; then 1; then what stands for pitch, roll and 1."""
    drawn = np.concatenate([np.zeros((1, 4)), gaussian()[:SPEED_SAMPLES, :4]]).T
    one, none = np.ones((1, drawn.shape[1])), np.zeros((2, drawn.shape[1]))
    return np.concatenate([drawn, one, none, one])


def _turned(covariance: Four, c: float, s: float) -> Four:
    """A covariance turned to the left by an angle of this cosine and sine."""
    xx, xy, _, yy = covariance
    cross = c * s * (xx - yy) + (c * c - s * s) * xy
    return c * c * xx - 2 * c * s * xy + s * s * yy, cross, cross, s * s * xx + 2 * c * s * xy + c * c * yy


def _slope(rays: Floats) -> Floats:
    """How far rays 3,... rise for each metre of level way."""
    return np.asarray(rays[2] / np.maximum(np.hypot(rays[0], rays[1]), LEAST))


def _centred(samples: Floats) -> Floats:
    """Samples n,S without the first, which is what was told, and without their mean."""
    rest = samples[:, 1:]
    return np.asarray(rest - (rest @ np.full(rest.shape[1], 1 / rest.shape[1]))[:, None])


def _dots(one: Floats, other: Floats) -> Floats:
    """Sums n of the products of each row of two arrays n,S."""
    return np.asarray(np.einsum("ns,ns->n", one, other))


def _ratio(above: Floats, below: Floats, most: float) -> Floats:
    """above / below, at most `most`, which also stands where `below` is not above 0."""
    return np.asarray(above / np.maximum(below, above / most))


def _opening(one: Floats, other: Floats) -> Floats:
    """How wide what fills the level angle between two rays 3,... is, in shares of its distance: 2 tan(angle / 2), at
    most of 3 radians."""
    turn = np.abs(one[0] * other[1] - one[1] * other[0])
    along = one[0] * other[0] + one[1] * other[1]
    return np.asarray(2 * np.tan(np.minimum(np.arctan2(turn, along), 3.0) / 2))


def _uncertain(distances: Floats) -> Floats:
    """Half the width of the middle two thirds of distances n,S as a share of the distance told, which is the first."""
    samples = distances.shape[1] - 1
    low, high = round(0.16 * samples), round(0.84 * samples) - 1
    ordered = np.sort(distances[:, 1:], axis=1)  # numpy parts no faster than it sorts so few
    return (ordered[:, high] - ordered[:, low]) / 2 / np.maximum(distances[:, 0], 1e-6)
