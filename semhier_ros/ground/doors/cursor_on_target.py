"""Cursor on Target: events that ATAK, WinTAK and TAK servers show on a map.

Plain XML of version 2.0, as MITRE's schema has it (Event.xsd), one event for each object; a TAK client takes one from
each UDP datagram, and any number from a TCP stream.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timezone
from xml.etree import ElementTree

import numpy as np

from semhier_ros.ground.earth import Fix, east_north, east_north_covariance, latitude_longitude
from semhier_ros.ground.locate import Located

VEHICLE, ANYTHING = "a-u-G-E-V", "a-u-G"
"""Types: an atom (a) of unknown affiliation (u) on the ground (G), equipment, vehicle (E-V)."""
NO_VEHICLES = frozenset({"person", "pedestrian", "people", "rider", "animal", "dog", "cat", "horse", "cow", "sheep"})
VEHICLES = frozenset(
    {"vehicle", "car", "suv", "taxi", "van", "minivan", "pickup", "ambulance", "policecar", "truck", "bus", "minibus",
     "trailer", "train", "bicycle", "motorcycle", "motorbike", "scooter", "rickshaw", "heavy"}
)  # fmt: skip
HOW = "m-f"
"""How it is known: by a machine, fused of several sources (camera, fix, heading)."""
UNKNOWN_ERROR = 9_999_999.0


def event(
    item: Located, fix: Fix, *, uid: str, now_ns: int, stale_seconds: float, callsign: str | None = None
) -> bytes:
    """One event (UTF-8) for an object. uid: what a map takes for the same object when the next event comes. now_ns:
    since the epoch; stale_seconds: from then on, when a map shall fade it. Circular error is one standard deviation."""
    latitude, longitude = latitude_longitude(fix, item.x, item.y)
    names = {name.casefold() for name in item.detection.names}
    kind = VEHICLE if names & VEHICLES and not names & NO_VEHICLES else ANYTHING
    root = ElementTree.Element(
        "event",
        version="2.0",
        uid=uid,
        type=kind,
        how=HOW,
        time=_time(now_ns),
        start=_time(now_ns),
        stale=_time(now_ns + round(stale_seconds * 1e9)),
    )
    spread = float(np.sqrt(np.trace(east_north_covariance(fix, item.covariance)) / 2))
    ElementTree.SubElement(
        root,
        "point",
        lat=f"{latitude:.7f}",
        lon=f"{longitude:.7f}",
        hae=f"{fix.altitude:.1f}",
        ce=f"{spread:.1f}",
        le=f"{UNKNOWN_ERROR:.1f}",
    )
    detail = ElementTree.SubElement(root, "detail")
    ElementTree.SubElement(detail, "contact", callsign=callsign or f"{item.name or 'object'} {item.score:.0%}")
    if item.velocity is not None:
        east, north = east_north(fix, *item.velocity)
        course = math.degrees(math.atan2(east, north)) % 360
        ElementTree.SubElement(detail, "track", course=f"{course:.1f}", speed=f"{math.hypot(east, north):.2f}")
    remarks = ElementTree.SubElement(detail, "remarks")
    remarks.text = f"{' > '.join(item.detection.names)}, {item.range:.0f} m from the camera, by {item.method}"
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def events(located: Sequence[Located], fix: Fix, *, camera: str, now_ns: int, stale_seconds: float) -> dict[int, bytes]:
    """Events by detection id; the uid joins the camera's name and the id."""
    return {
        item.detection.id: event(
            item, fix, uid=f"semhier.{camera}.{item.detection.id}", now_ns=now_ns, stale_seconds=stale_seconds
        )
        for item in located
    }


def _time(time_ns: int) -> str:
    moment = datetime.fromtimestamp(time_ns // 1_000_000 / 1000, timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
