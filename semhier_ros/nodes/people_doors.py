"""What a decoder node says to people beyond ROS: Cursor on Target, GeoJSON lines, MAVLink, each at its own pace."""

from __future__ import annotations

import time
from collections.abc import Hashable

from semhier_ros.ground import Located
from semhier_ros.ground.doors.cursor_on_target import events
from semhier_ros.ground.doors.geojson import feature
from semhier_ros.ground.doors.mavlink import MavlinkDoor
from semhier_ros.ground.doors.outlet import Outlet, Pace
from semhier_ros.ground.earth import Fix
from semhier_ros.nodes.managed import ManagedNode


class PeopleDoors:
    """The doors that the parameters `people.*` name. End them with `close`; a door that cannot send costs one
    throttled line.

    Raises:
        GroundError: a parameter names nothing that can be sent to.
    """

    def __init__(self, node: ManagedNode) -> None:
        self._node, self._values = node, node.values
        self._begun = time.monotonic()
        self._pace = Pace(self._values.people_rate)
        targets = {name: getattr(self._values, f"people_{name}") for name in ("cot", "geojson", "mavlink")}
        self._outlets = {name: Outlet(target) for name, target in targets.items() if target}
        self._mavlink = MavlinkDoor(self._values.people_mavlink_system) if "mavlink" in self._outlets else None

    def __bool__(self) -> bool:
        return bool(self._outlets)

    def close(self) -> None:
        """Ends the doors' wires."""
        for outlet in self._outlets.values():
            outlet.close()
        self._outlets, self._mavlink = {}, None

    def counts(self) -> dict[str, int]:
        """What the doors sent and dropped, for the diagnostics."""
        return {
            f"{name} {what}": number
            for name, outlet in self._outlets.items()
            for what, number in dict(outlet.counters).items()
        }

    def due(self, what: Hashable) -> bool:
        """Whether `what` may be said again, by `people.rate`; who asks says it then."""
        return self._pace.due(what)

    def tell_image(self, camera: str, target: Located | None, size: tuple[int, int]) -> None:
        """Says where in the picture the followed object is: that needs no fix."""
        for outlet in self._outlets.values():
            if outlet.last_error:
                self._node.warn("doors", outlet.last_error)
                outlet.last_error = ""
        if self._mavlink is not None and self.due((camera, "image")):
            self._outlets["mavlink"].put(self._mavlink.image_status(target, size))

    def tell_places(self, camera: str, located: list[Located], target: Located | None, fix: Fix, stamp_ns: int) -> None:
        """Says where on the earth objects are that are due; target: the followed one."""
        stale = self._values.people_stale
        due = [item for item in located if self.due((camera, item.detection.id))]
        if (cot := self._outlets.get("cot")) is not None:
            for event in events(due, fix, camera=camera, now_ns=time.time_ns(), stale_seconds=stale).values():
                cot.put(event)
        if (lines := self._outlets.get("geojson")) is not None:
            for item in due:
                lines.put(feature(item, fix, camera=camera, stamp_ns=stamp_ns, stale_seconds=stale))
        if self._mavlink is not None and target is not None and self.due((camera, "geo")):
            outlet = self._outlets["mavlink"]
            outlet.put(self._mavlink.geo_status(target, fix))
            outlet.put(self._mavlink.follow_target(target, fix, round((time.monotonic() - self._begun) * 1000)))
