"""GeoJSON (RFC 7946), one feature a line, for maps, data bases and scripts."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone

from semhier_ros.ground.earth import Fix, east_north, east_north_covariance, latitude_longitude
from semhier_ros.ground.locate import Located


def feature(item: Located, fix: Fix, *, camera: str, stamp_ns: int, stale_seconds: float) -> bytes:
    """One line (UTF-8, with its newline): a Point of longitude and latitude, and what is known as properties.

    Properties: camera, id, name, path, score, method, time and stale (ISO 8601, of the picture and beyond it), range in
    metres, sigma_east and sigma_north in metres; speed in m/s and course in degrees from north where they are known.
    """
    latitude, longitude = latitude_longitude(fix, item.x, item.y)
    spread = east_north_covariance(fix, item.covariance)
    properties: dict[str, object] = {
        "camera": camera,
        "id": item.detection.id,
        "name": item.name,
        "path": list(item.detection.names),
        "score": round(item.score, 4),
        "method": item.method,
        "time": _iso(stamp_ns),
        "stale": _iso(stamp_ns + round(stale_seconds * 1e9)),
        "range": round(item.range, 2),
        "sigma_east": round(math.sqrt(spread[0, 0]), 2),
        "sigma_north": round(math.sqrt(spread[1, 1]), 2),
    }
    if item.velocity is not None:
        east, north = east_north(fix, *item.velocity)
        properties["speed"] = round(math.hypot(east, north), 2)
        properties["course"] = round(math.degrees(math.atan2(east, north)) % 360, 1)
    made = {
        "type": "Feature",
        "id": f"{camera}/{item.detection.id}",
        "geometry": {"type": "Point", "coordinates": [round(longitude, 7), round(latitude, 7)]},
        "properties": properties,
    }
    return (json.dumps(made, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n").encode()


def _iso(stamp_ns: int) -> str:
    moment = datetime.fromtimestamp(stamp_ns // 1_000_000 / 1000, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
