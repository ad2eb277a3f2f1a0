"""From metres to degrees and back, against the ellipsoid's own geometry."""

from __future__ import annotations

import math

import numpy as np
import pytest

from semhier_ros.ground import GroundError
from semhier_ros.ground.earth import (
    ECCENTRICITY_SQUARED,
    SEMI_MAJOR,
    Fix,
    east_north_covariance,
    latitude_longitude,
)


def on_earth(latitude: float, longitude: float, altitude: float) -> np.ndarray:
    """Earth-centred coordinates, by the ellipsoid's definition."""
    lat, lon = math.radians(latitude), math.radians(longitude)
    radius = SEMI_MAJOR / math.sqrt(1 - ECCENTRICITY_SQUARED * math.sin(lat) ** 2)
    level = (radius + altitude) * math.cos(lat)
    up = (radius * (1 - ECCENTRICITY_SQUARED) + altitude) * math.sin(lat)
    return np.array([level * math.cos(lon), level * math.sin(lon), up])


@pytest.mark.parametrize(
    ("latitude", "longitude"), [(48.137, 11.575), (-33.87, 151.21), (0.0, 179.9999), (69.6, -18.9)]
)
@pytest.mark.parametrize("heading", [0.0, 1.0, -2.5])
def test_metres_on_the_earth_are_metres(latitude: float, longitude: float, heading: float) -> None:
    fix = Fix(latitude, longitude, 300.0, heading)
    there = latitude_longitude(fix, 30.0, 40.0)
    moved = on_earth(*there, 300.0) - on_earth(latitude, longitude, 300.0)
    lat, lon = math.radians(latitude), math.radians(longitude)
    east = np.array([-math.sin(lon), math.cos(lon), 0.0])
    north = np.array([-math.sin(lat) * math.cos(lon), -math.sin(lat) * math.sin(lon), math.cos(lat)])
    wanted = (30 * math.cos(heading) - 40 * math.sin(heading), 30 * math.sin(heading) + 40 * math.cos(heading))
    assert (moved @ east, moved @ north) == pytest.approx(wanted, abs=0.002)
    assert -180 <= there[1] < 180


def test_covariance_turns_with_the_heading() -> None:
    turned = east_north_covariance(Fix(10, 20, heading=math.pi / 2, accuracy=0.5), (4.0, 0.0, 0.0, 1.0))
    assert np.allclose(turned, [[1.25, 0], [0, 4.25]])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"latitude": 90.0, "longitude": 0.0}, "latitude: 90"),
        ({"latitude": float("nan"), "longitude": 0.0}, "latitude: nan"),
        ({"latitude": 0.0, "longitude": 181.0}, "longitude: 181"),
        ({"latitude": 0.0, "longitude": 0.0, "heading": float("inf")}, "heading inf"),
        ({"latitude": 0.0, "longitude": 0.0, "accuracy": -1.0}, "accuracy: -1"),
    ],
)
def test_what_is_no_fix_is_refused(values: dict[str, float], said: str) -> None:
    with pytest.raises(GroundError, match=said):
        Fix(**values)
