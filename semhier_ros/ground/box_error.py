"""How wrong a received box may be, and why: the quantiser's cells, the detector's own error, the forecast's growth.

`samples` draws boxes around the received ones, always the same ones, so that equal input gives equal output: a Latin
hypercube whose dimensions are made uncorrelated (Iman and Conover 1982), each point with its mirror image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from semhier_ros.ground.lens import GroundError
from semhier_ros.native import kernels

Floats = NDArray[np.float64]

SAMPLES = 128
DIMENSIONS = 19
QUANTISER, DETECTOR, FORECAST, TILT = slice(0, 4), slice(4, 8), slice(8, 12), slice(12, 14)
CAMERA_HEIGHT, KIND, DEPTH, ASIDE, NEARNESS = 14, 15, 16, 17, 18
"""Which of the DIMENSIONS serve what: of the box; pitch and roll; the camera's height; how large the object is for its
kind; how deep it is; how far its middle is beside that of its box; where a foot is that the picture cuts off."""
CELL, FOOT = FORECAST.stop, FORECAST.stop + 4
"""Behind what moves a box's sides by normal errors: where in its cell it lies (across: middle, half; down: the same),
and where in its part of the cell its foot does."""
CLEARLY = 0.6
"""How much less than the cell's a reading's error must be to be normal; else it is the cell's, made smaller."""
NORMAL_95, EVEN_95 = 1.96, 0.95
"""Where 95 % of a normal distribution lie, in standard deviations, and of an even one, in shares of half its width."""


@dataclass(frozen=True)
class BoxError:
    """What is known of the error of a box's sides before anyone looks at a particular box.

    size_step: step of the quantised natural logarithms of width and height; 0: not quantised. offset_step: step of the
    quantised centre, in shares of the box's side. read: by prefix, what is left of the quantiser's error at a side once
    blocks 0..prefix were read (the last counts for all later ones; none, or more than the cell: the quantiser's whole
    cell). across: the same
    for a box's middle from left to right. foot (lower side), top, middle (from left to right), half (of its width): the
    detector's own errors. Each is a share of the box's height or width, and a floor in source pixels; the two add up in
    squares to a standard deviation. cell: pixels of the grid's cells, within which middles lie; 0: any. foot_cell: half
    of the range of a lower side that foot bits leave, as a share of the box's height; 0: there are none. foot_told:
    what reading leaves of that range, by prefix as `read` (none: all of it).

    Raises:
        GroundError: a value is out of its range.
    """

    size_step: float = 0.0
    offset_step: float = 0.0
    read: tuple[tuple[float, float], ...] = ()
    across: tuple[tuple[float, float], ...] = ()
    foot: tuple[float, float] = (0.0, 0.0)
    top: tuple[float, float] = (0.0, 0.0)
    middle: tuple[float, float] = (0.0, 0.0)
    half: tuple[float, float] = (0.0, 0.0)
    cell: float = 0.0
    foot_cell: float = 0.0
    foot_told: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        steps = (self.size_step, 2), (self.offset_step, 2), (self.cell, 1e4), (self.foot_cell, 1)
        for name, (value, most) in zip(("size_step", "offset_step", "cell", "foot_cell"), steps, strict=True):
            if not 0 <= value <= most:
                raise GroundError(f"{name}: {value}, expected 0 to {most:g}")
        for left in self.foot_told:
            if not 0 < left <= 2:
                raise GroundError(f"foot_told: {left}, expected above 0 to 2")
        named = [(name, getattr(self, name)) for name in ("foot", "top", "middle", "half")]
        named += [*(("read", pair) for pair in self.read), *(("across", pair) for pair in self.across)]
        if len(self.across) != len(self.read):
            raise GroundError(f"across: {len(self.across)} prefixes, read has {len(self.read)}")
        for name, (share, floor) in named:
            if not (0 <= share <= 1 and 0 <= floor <= 100):
                raise GroundError(f"{name}: {(share, floor)}, expected a share of 0 to 1 and 0 to 100 pixels")

    def scaled(self, factor: float) -> BoxError:
        """The same for pictures whose pixels are `factor` times as many across."""
        own = ((share, floor * factor) for share, floor in (self.foot, self.top, self.middle, self.half))
        foot, top, middle, half = own
        return replace(
            self,
            read=tuple((share, floor * factor) for share, floor in self.read),
            across=tuple((share, floor * factor) for share, floor in self.across),
            cell=self.cell * factor,
            foot=foot,
            top=top,
            middle=middle,
            half=half,
        )

    def beyond(self, boxes: Floats, prefix: int, variance: Floats) -> Floats:
        """By how much a forecast is less sure than a box that was just read: standard deviations n,4 of its sides, for
        `boxes` n,4 whose centres were foretold with variances n,2 (across, down) in square pixels."""
        width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        known = np.stack(
            [np.hypot(self.middle[0] * width, self.middle[1]), np.hypot(self.foot[0] * height, self.foot[1])]
        )
        if self.read:
            step = min(max(prefix, 0), len(self.read) - 1)
            (across, floor), (down, low) = self.across[step], self.read[step]
            known = np.hypot(known, [np.hypot(across * width, floor), np.hypot(down * height, low)])
        grown = np.sqrt(np.maximum(np.asarray(variance, np.float64) - known.T**2, 0.0))
        return np.concatenate([grown, grown], axis=1)

    def samples(self, boxes: Floats, prefix: int, forecast: Floats | None = None) -> Floats:
        """Boxes n,SAMPLES,4 (x0, y0, x1, y1) that the true ones may be, for `boxes` n,4 read after blocks 0..prefix.

        forecast: n,4, standard deviations of the four sides in pixels by which a forecast has grown (None: none).
        """
        return boxes[:, None] + self.changes(boxes, prefix, forecast).transpose(0, 2, 1)

    def changes(self, boxes: Floats, prefix: int, forecast: Floats | None = None) -> Floats:
        """By how much the true boxes may differ from `boxes`: n,4,SAMPLES. Arguments as those of `samples`."""
        return np.asarray(self.shares(boxes, prefix, forecast) @ box_draws())

    def shares(self, boxes: Floats, prefix: int, forecast: Floats | None = None) -> Floats:
        """By how many pixels each number of `box_draws` moves each side of `boxes`: n,4,D. Arguments as those of
        `samples`."""
        step = min(max(prefix, 0), len(self.read) - 1)
        left_over = self.foot_told[min(max(prefix, 0), len(self.foot_told) - 1)] if self.foot_told else 1.0
        numbers = self._numbers(boxes, step, left_over * 2 * self.foot_cell)
        shares = (numbers @ _MOVES[bool(self.foot_cell)]).reshape(len(boxes), 4, -1)
        if forecast is not None:
            shares[:, range(4), range(FORECAST.start, FORECAST.stop)] = forecast
        return shares

    def _numbers(self, boxes: Floats, step: int, foot: float) -> Floats:
        """How large the errors are that `_moves` names, n,12, at a step of reading. foot: what foot bits and reading
        leave of a lower side's range, as a share of the box's height."""
        pairs, tells = self._by_step[step]
        floor = self.across[step][1] if self.read else 0.0
        if kernels is not None:
            steps = self.size_step, self.offset_step, self.cell
            return np.asarray(kernels.box_errors(boxes, pairs, tells, steps, floor, foot))
        extents = (boxes[:, 2:] - boxes[:, :2]).T  # width, height
        spreads = np.hypot(pairs[:, :1] * extents[_SIDE_OF[: len(pairs)]], pairs[:, 1:])
        numbers = np.zeros((len(boxes), 12))
        numbers[:, :4] = spreads[:4].T
        numbers[:, 11] = foot * extents[1]
        if tells:
            numbers[:, 4:7] = spreads[4:].T
            return numbers
        offsets, sizes = self._offset(extents), self.size_step / 2 * extents
        if self.read:  # no more than the quantiser's, whose 95 % is that of the sum of two even numbers at a side
            whole = EVEN_95 * offsets / 2
            whole[1] = (offsets[1] + sizes[1] - np.sqrt(0.2 * offsets[1] * sizes[1])) / 2
            left = np.minimum(NORMAL_95 * spreads[4::2] / np.maximum(whole, 1e-9), 1.0)
            offsets, sizes = offsets * left, sizes * left
        numbers[:, 4] = floor  # what the reading itself adds, most to what is narrow
        numbers[:, 7:9], numbers[:, 9:11] = offsets.T, sizes.T
        return numbers

    @cached_property
    def _by_step(self) -> list[tuple[Floats, bool]]:
        """By step of reading, shares and floors k,2 of errors of which _SIDE_OF says what they are shares of; and
        whether what was read says clearly more than the quantiser's cell does."""
        own = [self.middle, self.half, self.top, self.foot]
        if not self.read:
            return [(np.array(own), False)]
        cell = np.hypot(self.offset_step, self.size_step / 2) / np.sqrt(12)
        return [
            (np.array([*own, across, read, read]), bool(read[0] < CLEARLY * float(cell) or not cell))
            for across, read in zip(self.across, self.read, strict=True)
        ]

    def _offset(self, extent: Floats) -> Floats:
        """How wide the range is in which a quantised middle may lie: of an even distribution whose standard deviation
        is that of a middle anywhere in its cell of the grid against the nearest of steps from the cell's middle."""
        step = self.offset_step * extent
        if not self.cell:
            return step
        steps = np.floor(self.cell / np.maximum(2 * step, 1e-9) + 0.5)  # to either side of the cell's middle
        last = self.cell / 2 - steps * step  # the outermost step's reach is cut off there
        variance = ((2 * steps - 1) * step**3 / 12 + 2 * (last**3 + step**3 / 8) / 3) / self.cell
        return np.where(steps > 0, np.sqrt(12 * np.maximum(variance, 0.0)), self.cell)


_SIDE_OF = [0, 0, 1, 1, 0, 0, 1]
"""Whether an error is a share of a box's width or of its height: the detector's four, then those of a reading."""


def _moves(*, foot_bits: bool) -> Floats:
    """Which numbers of `box_draws` move which side of a box by the errors of `BoxError.shares`, 12,4 * D: the
    detector's of middle, half width, top and foot; a reading's of middle, half width and height; of the quantiser's
    cell the middle across and down, then half of width and height; and of the range that foot bits leave a foot."""
    moves = np.zeros((12, 4, FOOT + 1))
    left, top, right, foot = range(4)
    for row, (middle, half) in enumerate(((4, 5), (0, 1))):
        moves[4 * row, (left, right), middle] = 1.0
        moves[4 * row + 1, (left, right), half] = -1.0, 1.0
    moves[2, top, 6] = moves[3, foot, 7] = moves[6, top, 2] = moves[6, foot, 3] = 1.0
    for low in (left, top):
        moves[7 + low, (low, low + 2), CELL + 2 * low] = 1.0
        moves[9 + low, (low, low + 2), CELL + 2 * low + 1] = -1.0, 1.0
    if foot_bits:
        moves[:, foot, (3, CELL + 2, CELL + 3)] = 0.0
        moves[11, foot, FOOT] = 1.0
    return moves.reshape(12, -1)


_MOVES = {foot_bits: _moves(foot_bits=foot_bits) for foot_bits in (False, True)}


@lru_cache(maxsize=2)
def box_draws(*, told: bool = False) -> Floats:
    """What moves a box's sides, as rows of numbers: of QUANTISER to FORECAST, normal; from CELL on even. D,SAMPLES.

    told: one sample more comes first, that moves nothing.
    """
    normal, flat = gaussian().T[: FORECAST.stop], uniform().T[[*range(QUANTISER.stop), NEARNESS]]
    drawn = np.concatenate([normal, flat])
    return np.concatenate([np.zeros((len(drawn), 1)), drawn], axis=1) if told else drawn


@lru_cache(maxsize=1)
def uniform() -> Floats:
    """SAMPLES,DIMENSIONS numbers in -0.5..0.5: each dimension evenly spread, any two of them uncorrelated; the second
    half mirrors the first, so that every mean is 0."""
    half = SAMPLES // 2
    strata = (np.arange(half) + 0.5) / half
    chance = np.random.RandomState(18)  # whose numbers no release of numpy changes
    cube = np.stack([chance.permutation(strata) for _ in range(DIMENSIONS)], axis=1)
    scores = _normal(cube)
    scores = scores @ np.linalg.inv(np.linalg.cholesky(np.cov(scores.T))).T
    first = strata[scores.argsort(axis=0).argsort(axis=0)] - 0.5
    drawn = np.concatenate([first, -first])
    drawn.flags.writeable = False
    return drawn


@lru_cache(maxsize=1)
def gaussian() -> Floats:
    """The same points as numbers of a normal distribution with mean 0; each dimension has a standard deviation of 1."""
    drawn = _normal(uniform() + 0.5)
    drawn = drawn / drawn.std(axis=0)
    drawn.flags.writeable = False
    return drawn


@lru_cache(maxsize=1)
def told_and_drawn() -> Floats:
    """A point in the middle of everything, then those of `gaussian`."""
    drawn = np.concatenate([np.zeros((1, DIMENSIONS)), gaussian()])
    drawn.flags.writeable = False
    return drawn


def _normal(shares: Floats) -> Floats:
    return np.asarray(np.vectorize(NormalDist().inv_cdf)(shares), np.float64)
