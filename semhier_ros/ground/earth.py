"""From metres around a robot to latitude and longitude, where it has a fix.

WGS84 through its ellipsoid's radii of curvature at the fix: exact enough (millimetres at a kilometre) for what a camera
sees. A heading is needed too; without one there is no direction on the earth to place anything in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from semhier_ros.ground.lens import Floats, GroundError

SEMI_MAJOR, FLATTENING = 6_378_137.0, 1 / 298.257223563
ECCENTRICITY_SQUARED = FLATTENING * (2 - FLATTENING)
POLE = 89.9


@dataclass(frozen=True, slots=True)
class Fix:
    """Where a robot is: latitude -89.9..89.9 and longitude -180..180 in degrees, altitude in metres above the
    ellipsoid, heading of its x axis in radians from east to the left (as ENU yaw), accuracy: the standard deviation of
    its position in metres; stamp_ns: when.

    Raises:
        GroundError: a value is out of its range.
    """

    latitude: float
    longitude: float
    altitude: float = 0.0
    heading: float = 0.0
    accuracy: float = 0.0
    stamp_ns: int = 0

    def __post_init__(self) -> None:
        if not abs(self.latitude) <= POLE:
            raise GroundError(f"latitude: {self.latitude}, expected {-POLE} to {POLE} degrees")
        if not abs(self.longitude) <= 180:
            raise GroundError(f"longitude: {self.longitude}, expected -180 to 180 degrees")
        if not (math.isfinite(self.altitude) and math.isfinite(self.heading)):
            raise GroundError(f"fix: altitude {self.altitude}, heading {self.heading}, expected finite numbers")
        if not 0 <= self.accuracy < math.inf:
            raise GroundError(f"accuracy: {self.accuracy}, expected 0 or more metres")


def east_north(fix: Fix, x: float, y: float) -> tuple[float, float]:
    """Metres to the east and to the north of the robot, of a point of its ground frame."""
    c, s = math.cos(fix.heading), math.sin(fix.heading)
    return c * x - s * y, s * x + c * y


def east_north_covariance(fix: Fix, covariance: tuple[float, float, float, float]) -> Floats:
    """A covariance 2,2 of the ground frame in east and north, the fix's own uncertainty added."""
    c, s = math.cos(fix.heading), math.sin(fix.heading)
    turn = np.array([[c, -s], [s, c]])
    return np.asarray(turn @ np.array(covariance).reshape(2, 2) @ turn.T + np.eye(2) * fix.accuracy**2)


def latitude_longitude(fix: Fix, x: float, y: float) -> tuple[float, float]:
    """Degrees of a point of the robot's ground frame."""
    east, north = east_north(fix, x, y)
    sine = math.sin(math.radians(fix.latitude))
    flat = 1 - ECCENTRICITY_SQUARED * sine * sine
    along = SEMI_MAJOR * (1 - ECCENTRICITY_SQUARED) / flat**1.5 + fix.altitude
    across = (SEMI_MAJOR / math.sqrt(flat) + fix.altitude) * math.cos(math.radians(fix.latitude))
    longitude = fix.longitude + math.degrees(east / across)
    return fix.latitude + math.degrees(north / along), (longitude + 180) % 360 - 180
