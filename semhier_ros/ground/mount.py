"""Where a camera sits over the ground, and how sure that is.

The ground frame has x forward, y to the left, z up (REP 103), and the ground is its plane z = 0: `base_footprint` on
most robots. Angles are radians; a positive pitch looks down, a positive roll tips the camera to its right side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from semhier_ros.ground.lens import GroundError, Lens

Floats = NDArray[np.float64]

OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""From a level camera's optical axes (right, down, forward) to (forward, left, up)."""
MAX_HEIGHT = 10_000.0
EDGE_POINTS = 9


@dataclass(frozen=True)
class Mount:
    """A camera's pose over the ground.

    rotation: 3x3, from the camera's optical frame to the ground frame. position: x, y, z of the camera in the ground
    frame, metres; z is its height above the ground, above 0. tilt_sigma: standard deviation of pitch and of roll,
    radians, 0 to 0.5. height_sigma: of the height, metres.

    Raises:
        GroundError: a value is out of its range.
    """

    rotation: Floats
    position: Floats
    tilt_sigma: float = 0.0
    height_sigma: float = 0.0

    def __post_init__(self) -> None:
        rotation = np.ascontiguousarray(self.rotation, np.float64)
        position = np.asarray(self.position, np.float64)
        if rotation.shape != (3, 3) or not np.abs(rotation @ rotation.T - np.eye(3)).max() <= 1e-6:
            raise GroundError("mount: its rotation is no rotation")
        if position.shape != (3,) or not np.isfinite(position).all():
            raise GroundError(f"mount: its position is {self.position}, expected three finite numbers")
        if not 0 < position[2] <= MAX_HEIGHT:
            raise GroundError(
                f"height: the camera is {position[2]:g} m above the ground plane, expected above 0 to {MAX_HEIGHT:g}"
            )
        if not 0 <= self.tilt_sigma <= 0.5:
            raise GroundError(f"tilt_sigma: {self.tilt_sigma:g}, expected 0 to 0.5 radians")
        if not 0 <= self.height_sigma <= MAX_HEIGHT:
            raise GroundError(f"height_sigma: {self.height_sigma:g}, expected 0 to {MAX_HEIGHT:g} m")
        object.__setattr__(self, "rotation", rotation)
        object.__setattr__(self, "position", position)

    @classmethod
    def level(
        cls,
        height: float,
        pitch: float = 0.0,
        roll: float = 0.0,
        yaw: float = 0.0,
        x: float = 0.0,
        y: float = 0.0,
        *,
        tilt_sigma: float = 0.0,
        height_sigma: float = 0.0,
    ) -> Mount:
        """A camera `height` metres over the ground, turned by yaw (to the left), then pitch (down), then roll."""
        for name, value in (("height", height), ("pitch", pitch), ("roll", roll), ("yaw", yaw), ("x", x), ("y", y)):
            if not math.isfinite(value):
                raise GroundError(f"{name}: {value}, expected a finite number")
        turned = _about_z(yaw) @ _about_y(pitch) @ _about_x(roll)
        return cls(turned @ OPTICAL, np.array([x, y, height]), tilt_sigma, height_sigma)

    @property
    def height(self) -> float:
        """Metres from the ground plane up to the camera."""
        return float(self.position[2])

    @cached_property
    def forward(self) -> Floats:
        """The level direction (unit, 3) that the camera faces: of its optical axis, or of the picture's upper edge
        where it looks straight down or up."""
        for axis in (self.rotation[:, 2], -self.rotation[:, 1] * np.sign(-self.rotation[2, 2] or 1.0)):
            level = np.array([axis[0], axis[1], 0.0])
            length = float(np.linalg.norm(level))
            if length > 1e-3:
                return level / length
        return np.array([1.0, 0.0, 0.0])

    def check_sees_ground(self, lens: Lens) -> None:
        """Raises GroundError when no point on the picture's border sees the ground: tilted beyond the horizon."""
        along = np.linspace(0, 1, EDGE_POINTS)
        right, bottom = lens.width - 1.0, lens.height - 1.0
        border = [(share * right, edge) for share in along for edge in (0.0, bottom)]
        border += [(edge, share * bottom) for share in along for edge in (0.0, right)]
        rays, known = lens.rays(np.array(border))
        if not ((rays @ self.rotation.T)[:, 2][known] < -1e-6).any():
            pitch = math.degrees(-math.asin(float(np.clip(self.rotation[2, 2], -1, 1))))
            raise GroundError(
                f"pitch: the camera looks {-pitch:.1f} degrees up, and none of its picture sees the ground"
            )


def rotation_of(quaternion: Sequence[float] | Floats) -> Floats:
    """The rotation matrix 3,3 of a quaternion x, y, z, w of about unit length.

    Raises:
        GroundError: it is no rotation (not finite, or its length is not within 0.01 of 1).
    """
    numbers = np.asarray(quaternion, np.float64)
    length = float(np.linalg.norm(numbers)) if numbers.shape == (4,) else 0.0
    if not abs(length - 1) <= 0.01:
        raise GroundError(f"rotation: the quaternion {list(quaternion)} is not of length 1")
    x, y, z, w = numbers / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _about_x(angle: float) -> Floats:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def _about_y(angle: float) -> Floats:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _about_z(angle: float) -> Floats:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
