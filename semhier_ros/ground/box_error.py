"""How wrong a received box may be, and why: the quantiser's cells, the detector's own error, the forecast's growth.

`samples` draws boxes around the received ones, always the same ones, so that equal input gives equal output: a Latin
hypercube whose dimensions are made uncorrelated (Iman and Conover 1982), each point with its mirror image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from semhier_ros.ground.lens import GroundError

Floats = NDArray[np.float64]

SAMPLES = 128
DIMENSIONS = 18
QUANTISER, DETECTOR, FORECAST, TILT = slice(0, 4), slice(4, 8), slice(8, 12), slice(12, 14)
CAMERA_HEIGHT, KIND, DEPTH, NEARNESS = 14, 15, 16, 17
"""Which of the DIMENSIONS serve what: of the box; pitch and roll; the camera's height; how large the object is for its
kind; how deep it is; where a foot is that the picture cuts off."""


@dataclass(frozen=True)
class BoxError:
    """What is known of the error of a box's sides before anyone looks at a particular box.

    size_step: step of the quantised natural logarithms of width and height; 0: not quantised. offset_step: step of the
    quantised centre, in shares of the box's side. kept: by prefix, the share of the quantiser's error that is left when
    blocks 0..prefix were read (the last counts for all later ones). share, floor: the detector's own error at a side of
    the box, a standard deviation in shares of the box's extent across that side, and in source pixels; the two add up
    in squares. Foot (lower side), top and flanks (left and right) each have their own.

    Raises:
        GroundError: a value is out of its range.
    """

    size_step: float = 0.0
    offset_step: float = 0.0
    kept: tuple[float, ...] = (1.0,)
    foot: tuple[float, float] = (0.0, 0.0)
    top: tuple[float, float] = (0.0, 0.0)
    flank: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        for name, value in (("size_step", self.size_step), ("offset_step", self.offset_step)):
            if not 0 <= value <= 2:
                raise GroundError(f"{name}: {value}, expected 0 to 2")
        if not self.kept or not all(0 <= value <= 1 for value in self.kept):
            raise GroundError(f"kept: {self.kept}, expected one share of 0 to 1 for each prefix")
        for name in ("foot", "top", "flank"):
            share, floor = getattr(self, name)
            if not (0 <= share <= 1 and 0 <= floor <= 100):
                raise GroundError(f"{name}: {(share, floor)}, expected a share of 0 to 1 and 0 to 100 pixels")

    def samples(self, boxes: Floats, prefix: int, forecast: Floats | None = None) -> Floats:
        """Boxes n,SAMPLES,4 (x0, y0, x1, y1) that the true ones may be, for `boxes` n,4 read after blocks 0..prefix.

        forecast: n,4, standard deviations of the four sides in pixels by which a forecast has grown (None: none).
        """
        chance, normal = uniform().T, gaussian().T
        kept = self.kept[min(max(prefix, 0), len(self.kept) - 1)]
        x0, y0, x1, y1 = boxes.T[..., None]
        width, height = x1 - x0, y1 - y0
        forecast = np.zeros_like(boxes) if forecast is None else np.asarray(forecast, np.float64)
        sides: list[Floats] = []
        for axis, (low, high, extent) in enumerate(((x0, x1, width), (y0, y1, height))):
            half, middle = extent / 2, (low + high) / 2
            if self.size_step:
                half = half * np.exp(kept * self.size_step * chance[QUANTISER][axis])
            if self.offset_step:
                middle = middle + kept * self.offset_step * 2 * half * chance[QUANTISER][2 + axis]
            sides += [middle - half, middle + half]
        found = [sides[number] for number in (0, 2, 1, 3)]
        own = ((self.flank, width), (self.top, height), (self.flank, width), (self.foot, height))
        for number, ((share, floor), extent) in enumerate(own):
            sigma = np.hypot(share * extent, floor)
            found[number] = found[number] + sigma * normal[DETECTOR][number]
            if forecast[:, number].any():
                found[number] = found[number] + forecast[:, number, None] * normal[FORECAST][number]
        return np.stack(np.broadcast_arrays(*found), axis=2)


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


def _normal(shares: Floats) -> Floats:
    return np.asarray(np.vectorize(NormalDist().inv_cdf)(shares), np.float64)
