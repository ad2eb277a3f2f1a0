"""The way back: what box an object on the ground fills in the picture, exactly, by the camera's own model.

Ground truth for tests and studies, and footprints for overlays.
"""

from __future__ import annotations

import math

import numpy as np

from semhier_ros.ground.lens import Flags, Floats, Lens
from semhier_ros.ground.mount import Mount
from semhier_ros.ground.sizes import Size

EDGE_STEPS = 9
CIRCLE_STEPS = 48


def outline(size: Size, x: float, y: float, yaw: float, *, round_shape: bool = False) -> Floats:
    """Points n,3 along the edges of an object that stands at (x, y): a cuboid whose front looks along `yaw` (radians to
    the left of x), or, `round_shape`, an upright cylinder as wide as the size's width."""
    if round_shape:
        turn = np.linspace(0, 2 * math.pi, CIRCLE_STEPS, endpoint=False)
        ring = np.stack([np.cos(turn), np.sin(turn)], axis=1) * size.width / 2 + (x, y)
        return np.concatenate([np.column_stack([ring, np.full(len(ring), z)]) for z in (0.0, size.height)])
    corners = [(a, b, c) for a in (-0.5, 0.5) for b in (-0.5, 0.5) for c in (0.0, 1.0)]
    ends = [(p, q) for p in corners for q in corners if sum(m != n for m, n in zip(p, q, strict=True)) == 1 and p < q]
    along = np.linspace(0, 1, EDGE_STEPS)[:, None]
    points = np.concatenate([np.array(p) + along * (np.array(q) - np.array(p)) for p, q in ends])
    points = points * (size.length, size.width, size.height)
    c, s = math.cos(yaw), math.sin(yaw)
    flat = points[:, :2] @ np.array([[c, s], [-s, c]]) + (x, y)
    return np.column_stack([flat, points[:, 2]])


def to_picture(lens: Lens, mount: Mount, points: Floats) -> tuple[Floats, Flags]:
    """Pixels n,2 of `points` n,3 of the ground frame, measured from the picture's corner as boxes are, and which of
    them the lens sees (inside the picture or not)."""
    pixels, seen = lens.project((np.asarray(points, np.float64) - mount.position) @ mount.rotation)
    return pixels + 0.5, seen


def box_of(lens: Lens, mount: Mount, points: Floats) -> tuple[float, float, float, float] | None:
    """The box (x0, y0, x1, y1) that `points` fill, cut at the picture's edges; None when they are not in the picture or
    partly behind the camera."""
    pixels, seen = to_picture(lens, mount, points)
    if not seen.all():
        return None
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    x0, y0 = np.maximum(low, 0.0)
    x1, y1 = np.minimum(high, (lens.width, lens.height))
    return (float(x0), float(y0), float(x1), float(y1)) if x1 - x0 > 0.5 and y1 - y0 > 0.5 else None
