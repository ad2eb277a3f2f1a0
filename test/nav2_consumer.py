"""What Nav2's collision monitor does with a polygon source, as its documentation has it, for tests.

Subscribes to geometry_msgs/PolygonInstanceStamped with sensor-data quality of service (best effort, depth 5), keeps the
newest polygon of each id, forgets those whose stamp is older than `source_timeout`, lays points along their edges
every `sampling_distance`, and stops the robot while at least `min_points` of all of them lie in the stop zone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np


class CollisionMonitor:
    """zone: corners (x, y) of the stop zone in the base frame. now: seconds since the epoch."""

    def __init__(
        self,
        zone: list[tuple[float, float]],
        now: Callable[[], float],
        *,
        base_frame: str = "base_footprint",
        source_timeout: float = 1.0,
        sampling_distance: float = 0.1,
        min_points: int = 4,
    ) -> None:
        self._zone = np.array(zone, np.float32)[:, None]
        self._now, self._base, self._timeout = now, base_frame, source_timeout
        self._step, self._least = sampling_distance, min_points
        self.polygons: dict[int, Any] = {}
        self.received = 0

    def subscribe(self, node: Any, topic: str) -> None:
        """Listens as the monitor does."""
        from geometry_msgs.msg import PolygonInstanceStamped
        from rclpy.qos import qos_profile_sensor_data

        node.create_subscription(PolygonInstanceStamped, topic, self.take, qos_profile_sensor_data)

    def take(self, message: Any) -> None:
        """One polygon; it replaces the older one of its id."""
        self.received += 1
        self.polygons[message.polygon.id] = message

    def points(self) -> list[tuple[float, float]]:
        """Along the edges of every polygon that is not stale."""
        found = []
        for number, message in list(self.polygons.items()):
            stamp = message.header.stamp.sec + message.header.stamp.nanosec * 1e-9
            if self._now() - stamp > self._timeout:
                del self.polygons[number]
                continue
            assert message.header.frame_id == self._base, "this test's robot has one frame"
            corners = [(point.x, point.y) for point in message.polygon.polygon.points]
            for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
                count = max(1, math.ceil(math.hypot(x1 - x0, y1 - y0) / self._step))
                found += [(x0 + (x1 - x0) * k / count, y0 + (y1 - y0) * k / count) for k in range(count + 1)]
        return found

    def stops(self) -> bool:
        """Whether the robot is held."""
        inside = sum(cv2.pointPolygonTest(self._zone, point, False) >= 0 for point in self.points())
        return inside >= self._least
