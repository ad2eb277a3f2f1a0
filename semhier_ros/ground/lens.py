"""A camera's lens: from pixels to rays and back, for the distortion models that ROS 2 names.

Pinhole with `plumb_bob` (5 coefficients k1 k2 p1 p2 k3), `rational_polynomial` (8: … k4 k5 k6) or `equidistant` (4;
Kannala and Brandt 2006, OpenCV's fisheye model). Axes of rays: x to the right, y down, z along the optical axis
(REP 103's optical frame). Pixels: the middle of the top left pixel is (0, 0), as in `sensor_msgs/CameraInfo`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from semhier_ros.native import kernels

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

COEFFICIENTS = {"plumb_bob": 5, "rational_polynomial": 8, "equidistant": 4}
"""Distortion models and how many coefficients each has."""
UNDISTORTED = ("", "none")
MAX_FOCAL, MAX_SIDE, MAX_COEFFICIENT = 1e6, 65_535, 1e6
RETURNS = 0.05
"""Pixels within which a ray must come back to where it started, or the lens says nothing of that pixel."""
_NEWTON = 12
_STEP = 1e-6


class GroundError(ValueError):
    """Why no place on the ground can be said: one line that names field, value and what was expected."""


@dataclass(frozen=True)
class Lens:
    """A lens and the picture behind it.

    width, height: the picture in pixels, 1..65535. fx, fy: focal lengths in pixels, above 0. cx, cy: the principal
    point in pixels. model: a key of COEFFICIENTS. coefficients: as many as the model has (none: all 0).

    Raises:
        GroundError: a field is out of its range or the model is not known.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    model: str = "plumb_bob"
    coefficients: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name, side in (("width", self.width), ("height", self.height)):
            if not 1 <= side <= MAX_SIDE:
                raise GroundError(f"{name}: {side}, expected 1 to {MAX_SIDE} pixels")
        for name, focal in (("fx", self.fx), ("fy", self.fy)):
            if not 0 < focal <= MAX_FOCAL:
                raise GroundError(f"{name}: {focal:g}, expected a focal length above 0 and up to {MAX_FOCAL:g} pixels")
        for name, middle in (("cx", self.cx), ("cy", self.cy)):
            if not abs(middle) <= MAX_FOCAL:
                raise GroundError(f"{name}: {middle:g}, expected {-MAX_FOCAL:g} to {MAX_FOCAL:g} pixels")
        if self.model not in COEFFICIENTS:
            raise GroundError(f"distortion_model: {self.model!r}, expected {' | '.join(COEFFICIENTS)}")
        wanted = COEFFICIENTS[self.model]
        if len(self.coefficients) not in (0, wanted):
            raise GroundError(f"d: {len(self.coefficients)} coefficients, {self.model} has {wanted}")
        if not all(abs(value) <= MAX_COEFFICIENT for value in self.coefficients):
            raise GroundError(f"d: {list(self.coefficients)}, expected numbers within {MAX_COEFFICIENT:g}")

    @classmethod
    def of_camera_info(
        cls,
        size: tuple[int, int],
        k: Sequence[float],
        d: Sequence[float],
        model: str,
        *,
        p: Sequence[float] = (),
        rectified: bool = False,
        binning: tuple[int, int] = (0, 0),
        roi: tuple[int, int, int, int] = (0, 0, 0, 0),
        picture: tuple[int, int] | None = None,
    ) -> Lens:
        """The lens that a calibration describes, for the pictures that really come.

        size: width and height that were calibrated. k: 3x3 and p: 3x4, by rows. d, model: the distortion (fewer
        coefficients than the model has are filled with 0, as OpenCV writes four for plumb_bob). rectified: the
        pictures are rectified already, so p counts and d does not. binning (0 means 1) and roi (x, y, width, height;
        all 0: everything) as in `sensor_msgs/CameraInfo`. picture: width and height of the pictures; another size than
        the calibration's is a scaled picture, if its shape is the same.

        Raises:
            GroundError: nothing sensible can be read from it.
        """
        numbers = [float(value) for value in (p if rectified else k)]
        name = "p" if rectified else "k"
        if len(numbers) != (12 if rectified else 9) or not np.isfinite(numbers).all():
            raise GroundError(f"{name}: {numbers}, expected {12 if rectified else 9} finite numbers")
        fx, cx, fy, cy = numbers[0], numbers[2], numbers[5 if rectified else 4], numbers[6 if rectified else 5]
        if fx == 0 or fy == 0:
            raise GroundError(f"{name}: focal lengths {fx:g}, {fy:g}: the camera is not calibrated")
        width, height = size
        if width < 1 or height < 1:
            raise GroundError(f"camera_info: {width}x{height} pixels, expected at least 1x1")
        left, top, wide, tall = roi
        if wide and tall:
            cx, cy, width, height = cx - left, cy - top, wide, tall
        across, down = max(1, binning[0]), max(1, binning[1])
        width, height = max(1, width // across), max(1, height // down)
        fx, fy, cx, cy = fx / across, fy / down, (cx + 0.5) / across - 0.5, (cy + 0.5) / down - 0.5
        if picture is not None and picture != (width, height):
            scale_x, scale_y = picture[0] / width, picture[1] / height
            if abs(scale_x / scale_y - 1) > 0.02:
                raise GroundError(
                    f"camera_info: {width}x{height} pixels, but the pictures have {picture[0]}x{picture[1]}: "
                    "another shape"
                )
            fx, fy = fx * scale_x, fy * scale_y
            cx, cy = (cx + 0.5) * scale_x - 0.5, (cy + 0.5) * scale_y - 0.5
            width, height = picture
        coefficients: tuple[float, ...] = ()
        if rectified or model in UNDISTORTED:
            model = "plumb_bob"
        else:
            if model not in COEFFICIENTS:
                raise GroundError(f"distortion_model: {model!r}, expected {' | '.join(COEFFICIENTS)}")
            coefficients = tuple(float(value) for value in d)
            if not np.isfinite(coefficients).all():
                raise GroundError(f"d: {list(coefficients)}, expected finite numbers")
            wanted = COEFFICIENTS[model]
            if 0 < len(coefficients) < wanted:
                coefficients += (0.0,) * (wanted - len(coefficients))
            if len(coefficients) > wanted and not any(coefficients[wanted:]):
                coefficients = coefficients[:wanted]
        return cls(width, height, fx, fy, cx, cy, model, coefficients)

    def rays(self, pixels: Floats) -> tuple[Floats, Flags]:
        """Unit rays n,3 through `pixels` n,2, and for which the lens is known: elsewhere (0, 0, 1) stands.

        Distortion has no inverse far outside the picture; a ray counts only if it projects back to its pixel.
        """
        pixels = np.asarray(pixels, np.float64).reshape(-1, 2)
        sane = np.isfinite(pixels).all(axis=1)
        asked = np.where(sane[:, None], np.clip(pixels, -MAX_FOCAL, MAX_FOCAL), (self.cx, self.cy))
        plain = (asked - (self.cx, self.cy)) / (self.fx, self.fy)
        if not len(asked):
            return np.zeros((0, 3)), np.zeros(0, bool)
        if self.model == "equidistant":
            rays = _fisheye_rays(plain, self.coefficients or (0.0,) * 4)
        elif any(self.coefficients):
            rays = np.concatenate([_brown_undone(plain, self.coefficients), np.ones((len(asked), 1))], axis=1)
        else:
            rays = np.concatenate([plain, np.ones((len(asked), 1))], axis=1)
        known = sane & np.isfinite(rays).all(axis=1)
        rays = np.where(known[:, None], rays, (0.0, 0.0, 1.0))
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        back, seen = self.project(rays)
        known &= seen & (np.abs(back - asked).max(axis=1) <= RETURNS)
        return np.where(known[:, None], rays, (0.0, 0.0, 1.0)), known

    def bundles(self, pixels: Floats) -> tuple[Floats, Flags]:
        """Rays through `pixels` n,2 and how they turn with the pixel: n,3,3, of which [:, 0] is the ray, [:, 1] and
        [:, 2] its change a pixel to the right and downwards; and for which the lens is known. Rays have any length:
        where the lens is no fisheye they end one unit ahead, so that without distortion they change evenly.
        """
        pixels = np.ascontiguousarray(pixels, np.float64).reshape(-1, 2)
        if self.model == "equidistant" or not len(pixels):
            steps = np.array([[0, 0], [0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]])
            rays, known = self.rays((pixels[:, None] + steps).reshape(-1, 2))
            rays, known = rays.reshape(-1, 5, 3), known.reshape(-1, 5).all(axis=1)
            return np.stack([rays[:, 0], rays[:, 1] - rays[:, 2], rays[:, 3] - rays[:, 4]], axis=1), known
        distorted = any(self.coefficients)
        if kernels is not None:
            coefficients = (*self.coefficients, *(0.0,) * (8 - len(self.coefficients)))
            told = (self.fx, self.fy, self.cx, self.cy)
            same: tuple[Floats, Flags] = kernels.bundles(pixels, told, coefficients, self._reach if distorted else 0.0)
            return same
        known = (np.abs(pixels) <= MAX_FOCAL).all(axis=1)
        found = np.zeros((len(pixels), 3, 3))
        plain = (np.where(known[:, None], pixels, (self.cx, self.cy)) - (self.cx, self.cy)) / (self.fx, self.fy)
        found[:, 0, 2] = 1.0
        if distorted:
            flat = _brown_undone(plain, self.coefficients)
            back, (xx, xy, yx, yy) = _brown_slopes(flat, self.coefficients)
            area = _away_from_zero(xx * yy - xy * yx)
            found[:, 1, 0], found[:, 1, 1] = yy / area / self.fx, -yx / area / self.fx
            found[:, 2, 0], found[:, 2, 1] = -xy / area / self.fy, xx / area / self.fy
            known &= np.sqrt((flat * flat).sum(axis=1)) <= self._reach
            known &= (np.abs(back - plain) * (self.fx, self.fy)).max(axis=1) <= RETURNS
            plain = flat
        else:
            found[:, 1, 0], found[:, 2, 1] = 1 / self.fx, 1 / self.fy
        found[:, 0, :2] = np.where(known[:, None], plain, 0.0)
        return found, known

    @cached_property
    def _reach(self) -> float:
        """How far off the axis the distortion still spreads the picture out (radians for an equidistant lens, else
        shares of the distance ahead); beyond it the formula folds the world back into the picture."""
        if self.model == "equidistant":
            steps = np.linspace(0, np.pi, 1000)
            radius = _fisheye_radius(steps, self.coefficients or (0.0,) * 4)
        else:
            steps = np.concatenate([np.linspace(0, 10, 2000), np.geomspace(10, 1e3, 200)[1:]])
            k1, k2, _, _, k3, k4, k5, k6 = (*self.coefficients, *(0.0,) * (8 - len(self.coefficients)))
            radial = (k1, k2, 0.0, 0.0, k3, k4, k5, k6)
            radius = _brown(np.stack([steps, np.zeros_like(steps)], axis=1), radial)[:, 0]
        turns = np.flatnonzero(np.diff(radius) <= 0)
        return float(steps[turns[0]]) if len(turns) else float(steps[-1])

    def project(self, points: Floats) -> tuple[Floats, Flags]:
        """Pixels n,2 of `points` n,3 in the optical frame, and which of them the lens sees: not what is behind it (an
        equidistant lens sees up to 180 degrees off its axis). Where it does not, the principal point stands."""
        points = np.asarray(points, np.float64).reshape(-1, 3)
        middle = np.broadcast_to((self.cx, self.cy), (len(points), 2))
        length = np.linalg.norm(points, axis=1)
        seen = np.isfinite(points).all(axis=1) & (length > 1e-12)
        if self.model == "equidistant":
            off_axis = np.hypot(points[:, 0], points[:, 1])
            angle = np.arctan2(off_axis, points[:, 2])
            scale = np.where(off_axis > 1e-12, _fisheye_radius(angle, self.coefficients or (0.0,) * 4), 1.0)
            flat = points[:, :2] * (scale / np.maximum(off_axis, 1e-12))[:, None]
            flat = np.where((off_axis > 1e-12)[:, None], flat, 0.0)
            seen &= angle <= self._reach
        else:
            seen &= points[:, 2] > 1e-9 * np.maximum(length, 1e-12)
            safe = np.where(seen[:, None], points, (0.0, 0.0, 1.0))
            flat = safe[:, :2] / safe[:, 2:]
            if any(self.coefficients):
                seen &= np.hypot(flat[:, 0], flat[:, 1]) <= self._reach
                flat = _brown(flat, self.coefficients)
        pixels = flat * (self.fx, self.fy) + (self.cx, self.cy)
        seen &= np.isfinite(pixels).all(axis=1)
        return np.where(seen[:, None], pixels, middle), seen


def _brown(flat: Floats, coefficients: Sequence[float]) -> Floats:
    """Distorted coordinates of plain ones n,2: radial and tangential (Brown 1966; OpenCV's rational model)."""
    k1, k2, p1, p2, k3, k4, k5, k6 = (*coefficients, *(0.0,) * (8 - len(coefficients)))
    x, y = flat.T
    square = np.minimum(x * x + y * y, 1e12)
    radial = 1 + square * (k1 + square * (k2 + square * k3))
    radial /= _away_from_zero(1 + square * (k4 + square * (k5 + square * k6)))
    return np.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x),
            y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y,
        ],
        axis=1,
    )


def _brown_slopes(flat: Floats, coefficients: Sequence[float]) -> tuple[Floats, tuple[Floats, ...]]:
    """`_brown`, and how its x grows with x and with y, and its y with x and with y."""
    k1, k2, p1, p2, k3, k4, k5, k6 = (*coefficients, *(0.0,) * (8 - len(coefficients)))
    x, y = flat.T
    square = np.minimum(x * x + y * y, 1e12)
    above = 1 + square * (k1 + square * (k2 + square * k3))
    below = _away_from_zero(1 + square * (k4 + square * (k5 + square * k6)))
    radial = above / below
    grows = k1 + square * (2 * k2 + square * 3 * k3) - radial * (k4 + square * (2 * k5 + square * 3 * k6))
    grows = 2 * grows / below
    xy = x * y
    here = np.stack(
        [x * radial + 2 * p1 * xy + p2 * (square + 2 * x * x), y * radial + p1 * (square + 2 * y * y) + 2 * p2 * xy],
        axis=1,
    )
    mixed = xy * grows + 2 * p1 * x + 2 * p2 * y
    return here, (
        radial + x * x * grows + 2 * p1 * y + 6 * p2 * x,
        mixed,
        mixed,
        radial + y * y * grows + 6 * p1 * y + 2 * p2 * x,
    )


def _brown_undone(distorted: Floats, coefficients: Sequence[float]) -> Floats:
    """Plain coordinates n,2 of distorted ones, by Newton's method: it also holds at the corners of strong lenses, where
    OpenCV's fixed-point iteration swings."""
    found = distorted.copy()
    for _ in range(_NEWTON):
        here, (xx, xy, yx, yy) = _brown_slopes(found, coefficients)
        miss = distorted - here
        area = _away_from_zero(xx * yy - xy * yx)
        step_x = (miss[:, 0] * yy - miss[:, 1] * xy) / area
        step_y = (xx * miss[:, 1] - yx * miss[:, 0]) / area
        found = np.clip(found + np.clip(np.stack([step_x, step_y], axis=1), -0.5, 0.5), -1e3, 1e3)
        if np.abs(miss).max() < 1e-13:
            break
    return found


def _away_from_zero(values: Floats) -> Floats:
    return np.where(np.abs(values) < 1e-9, 1e-9, values)


def _fisheye_radius(angle: Floats, coefficients: Sequence[float]) -> Floats:
    """Radius in focal lengths of a ray so far off the axis (radians)."""
    square = angle * angle
    k1, k2, k3, k4 = coefficients
    return angle * (1 + square * (k1 + square * (k2 + square * (k3 + square * k4))))


def _fisheye_rays(plain: Floats, coefficients: Sequence[float]) -> Floats:
    """Rays n,3 of pixels n,2 in focal lengths from the principal point: Newton's method on the radius."""
    radius = np.hypot(plain[:, 0], plain[:, 1])
    angle = np.clip(radius, 0, np.pi)
    k1, k2, k3, k4 = coefficients
    for _ in range(_NEWTON):
        square = angle * angle
        slope = 1 + square * (3 * k1 + square * (5 * k2 + square * (7 * k3 + square * 9 * k4)))
        angle = angle - (_fisheye_radius(angle, coefficients) - radius) / _away_from_zero(slope)
        angle = np.clip(angle, 0, np.pi)
    across = np.where(radius > 1e-12, np.sin(angle) / np.maximum(radius, 1e-12), 1.0)
    return np.stack([plain[:, 0] * across, plain[:, 1] * across, np.cos(angle)], axis=1)
