"""MAVLink: what a ground station or an autopilot hears of the object that is followed.

CAMERA_TRACKING_IMAGE_STATUS (where in the picture), CAMERA_TRACKING_GEO_STATUS (where on the earth) of the camera
protocol, and FOLLOW_TARGET. Bytes are made by pymavlink (LGPL-3.0-or-later), which has to be installed besides.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from semhier_ros.ground.earth import Fix, east_north, east_north_covariance, latitude_longitude
from semhier_ros.ground.lens import GroundError
from semhier_ros.ground.locate import Located

ACTIVE, RECTANGLE, IN_STATUS = 1, 2, 4
"""CAMERA_TRACKING_STATUS_FLAGS_ACTIVE, CAMERA_TRACKING_MODE_RECTANGLE, CAMERA_TRACKING_TARGET_DATA_IN_STATUS."""
COMPONENT_CAMERA = 100
POSITION, VELOCITY = 1, 2
"""Bits of FOLLOW_TARGET's est_capabilities."""
NAN = float("nan")


class MavlinkDoor:
    """Makes the messages of one camera; sequence numbers count up over all of them.

    system: 1..255, of the vehicle that the camera is on. component: 1..255, 100 for its first camera.

    Raises:
        GroundError: pymavlink is not installed, or a number is out of its range.
    """

    def __init__(self, system: int = 1, component: int = COMPONENT_CAMERA) -> None:
        for name, number in (("system", system), ("component", component)):
            if not 1 <= number <= 255:
                raise GroundError(f"mavlink {name}: {number}, expected 1 to 255")
        try:
            from pymavlink.dialects.v20 import common
        except ImportError:
            raise GroundError("mavlink: pymavlink is not installed: pip install pymavlink") from None
        self._common = common
        self._link: Any = common.MAVLink(None, srcSystem=system, srcComponent=component)

    def _packed(self, message: Any) -> bytes:
        data = bytes(message.pack(self._link))
        self._link.seq = (self._link.seq + 1) % 256
        return data

    def image_status(self, item: Located | None, size: tuple[int, int]) -> bytes:
        """Where the followed object is in a picture of `size` (width, height); None: nothing is followed."""
        box: tuple[float, ...] = (NAN,) * 4
        status, mode, told = 0, 0, 0
        if item is not None:
            x0, y0, x1, y1 = item.detection.box
            status, mode, told = ACTIVE, RECTANGLE, IN_STATUS
            corners = (x0 / size[0], y0 / size[1], x1 / size[0], y1 / size[1])
            box = tuple(min(max(value, 0.0), 1.0) for value in corners)
        message = self._common.MAVLink_camera_tracking_image_status_message(status, mode, told, NAN, NAN, NAN, *box)
        return self._packed(message)

    def geo_status(self, item: Located, fix: Fix) -> bytes:
        """Where on the earth it is, how sure, how fast and how far away."""
        latitude, longitude = latitude_longitude(fix, item.x, item.y)
        spread = math.sqrt(float(np.trace(east_north_covariance(fix, item.covariance))) / 2)
        east, north = (NAN, NAN) if item.velocity is None else east_north(fix, *item.velocity)
        toward = east_north(fix, math.cos(item.bearing), math.sin(item.bearing))
        heading = math.atan2(toward[0], toward[1]) % (2 * math.pi)
        message = self._common.MAVLink_camera_tracking_geo_status_message(
            ACTIVE,
            round(latitude * 1e7),
            round(longitude * 1e7),
            fix.altitude,
            spread,
            NAN,
            north,
            east,
            0.0 if item.velocity is not None else NAN,
            NAN,
            item.range,
            heading,
            NAN,
        )
        return self._packed(message)

    def follow_target(self, item: Located, fix: Fix, boot_ms: int) -> bytes:
        """FOLLOW_TARGET; boot_ms: milliseconds since this end started."""
        latitude, longitude = latitude_longitude(fix, item.x, item.y)
        east, north = (0.0, 0.0) if item.velocity is None else east_north(fix, *item.velocity)
        spread = east_north_covariance(fix, item.covariance)
        message = self._common.MAVLink_follow_target_message(
            boot_ms,
            POSITION | (VELOCITY if item.velocity is not None else 0),
            round(latitude * 1e7),
            round(longitude * 1e7),
            fix.altitude,
            [north, east, 0.0],
            [0.0, 0.0, 0.0],
            [1.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 0.0],
            [math.sqrt(spread[1, 1]), math.sqrt(spread[0, 0]), 0.0],
            item.detection.id & 0xFFFFFFFFFFFFFFFF,
        )
        return self._packed(message)
