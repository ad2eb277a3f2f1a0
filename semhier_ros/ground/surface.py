"""Where the robot has a depth camera or a lidar: how far away what fills a box is, measured.

An object's box also holds ground before it and background around it. What counts is the nearest crowd of points in the
box's middle: the quantile below which a fifth of them lie, once the ground itself is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from semhier_ros.ground.lens import Floats, GroundError, Lens
from semhier_ros.ground.locate import Located
from semhier_ros.ground.mount import Mount
from semhier_ros.ground.render import to_picture

DEPTH_SCALES = {"16UC1": 0.001, "mono16": 0.001, "32FC1": 1.0}
"""Encodings of depth images and the metres of their unit (REP 118)."""
INNER = 0.25
"""Share of the box at each of its sides that is not looked at."""
NEAREST = 0.2
LEAST_POINTS = 5
GROUND_BAND = 0.1
"""Metres above the plane below which a point is the ground's."""


def depth_points(depth: NDArray[np.generic], encoding: str, lens: Lens, box: Sequence[float]) -> Floats:
    """Points n,3 in the optical frame of a depth image's inside of `box`; where nothing was measured there is none.

    depth: H,W of the picture's own size, registered to it.

    Raises:
        GroundError: another size than the picture's, or an encoding that is no depth.
    """
    if encoding not in DEPTH_SCALES:
        raise GroundError(f"depth image: encoding {encoding!r}, expected {' | '.join(DEPTH_SCALES)}")
    if depth.shape != (lens.height, lens.width):
        wide, tall = (depth.shape[1], depth.shape[0]) if depth.ndim == 2 else (0, 0)
        raise GroundError(f"depth image: {wide}x{tall} pixels, but the pictures have {lens.width}x{lens.height}")
    x0, y0, x1, y1 = _inside(box)
    columns = np.arange(max(0, math.ceil(x0)), min(lens.width, math.floor(x1) + 1))
    rows = np.arange(max(0, math.ceil(y0)), min(lens.height, math.floor(y1) + 1))
    columns, rows = columns[:: max(1, len(columns) // 32)], rows[:: max(1, len(rows) // 32)]
    if not len(columns) or not len(rows):
        return np.zeros((0, 3))
    ahead = depth[np.ix_(rows, columns)].astype(np.float64) * DEPTH_SCALES[encoding]
    across, down = np.meshgrid(columns, rows)
    pixels = np.stack([across.ravel(), down.ravel()], axis=1).astype(np.float64)
    rays, known = lens.rays(pixels)
    known &= np.isfinite(ahead.ravel()) & (ahead.ravel() > 0.05) & (rays[:, 2] > 0.05)
    return np.asarray(rays[known] * (ahead.ravel()[known] / rays[known, 2])[:, None])


def cloud_points(cloud: Floats, lens: Lens, mount: Mount, box: Sequence[float]) -> Floats:
    """Points n,3 in the optical frame of those of `cloud` m,3 (in the ground frame) that the camera sees in `box`."""
    pixels, seen = to_picture(lens, mount, cloud)
    x0, y0, x1, y1 = _inside(box)
    within = seen & (pixels[:, 0] >= x0) & (pixels[:, 0] <= x1) & (pixels[:, 1] >= y0) & (pixels[:, 1] <= y1)
    return np.asarray((np.asarray(cloud, np.float64)[within] - mount.position) @ mount.rotation)


def measured(found: Located, points: Floats, mount: Mount) -> Located | None:
    """`found` where its points (n,3, in the optical frame) say that it is; None when they say too little.

    The covariance is what the points' own spread and half a footprint's depth leave open.
    """
    if len(points) < LEAST_POINTS:
        return None
    there = points @ mount.rotation.T + mount.position
    there = there[np.isfinite(there).all(axis=1)]
    standing = there[there[:, 2] > GROUND_BAND]
    if len(standing) >= LEAST_POINTS:
        there = standing
    if len(there) < LEAST_POINTS:
        return None
    away = there[:, :2] - mount.position[:2]
    distance = np.hypot(away[:, 0], away[:, 1])
    near = float(np.quantile(distance, NEAREST))
    crowd = np.abs(distance - near) <= max(0.5, 0.1 * near)
    if near <= 0 or crowd.sum() < LEAST_POINTS:
        return None
    middle = np.median(away[crowd], axis=0)
    heading = math.atan2(middle[1], middle[0])
    direction = np.array([math.cos(heading), math.sin(heading)])
    total = near + found.length / 2
    spread = distance[crowd].std() / math.sqrt(float(min(crowd.sum(), 25))) + 0.02 * near
    along = spread**2 + (found.length / 4) ** 2
    aside = (found.width / 8) ** 2 + (0.01 * near) ** 2
    side = np.array([-direction[1], direction[0]])
    covariance = along * np.outer(direction, direction) + aside * np.outer(side, side)
    x, y = mount.position[:2] + total * direction
    xx, xy, yy = float(covariance[0, 0]), float(covariance[0, 1]), float(covariance[1, 1])
    return found._replace(
        x=float(x),
        y=float(y),
        near=near,
        range=total,
        bearing=heading,
        covariance=(xx, xy, xy, yy),
        heading=heading,
        method="depth",
    )


def _inside(box: Sequence[float]) -> tuple[float, float, float, float]:
    """The middle of a box, in pixels whose middles lie at whole numbers."""
    x0, y0, x1, y1 = box
    across, down = INNER * (x1 - x0), INNER * (y1 - y0)
    return x0 + across - 0.5, y0 + down - 0.5, x1 - across - 0.5, y1 - down - 0.5
