"""Lines on the ground that planners and maps draw: along footprints, free bearings, and the borders of ellipses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from semhier_ros.ground.lens import Floats, Lens
from semhier_ros.ground.locate import CHI2_95, Located
from semhier_ros.ground.mount import Mount

DEGREE = math.radians(1.0)


def footprints(located: Sequence[Located]) -> Floats:
    """The corners of the footprints, n,4,2, in the order of `Located.footprint`."""
    numbers = np.array([(item.x, item.y, item.length, item.width, item.heading) for item in located]).reshape(-1, 5)
    ahead = np.stack([np.cos(numbers[:, 4]), np.sin(numbers[:, 4])], axis=1)
    long, wide = ahead * numbers[:, 2:3] / 2, ahead[:, ::-1] * (-1.0, 1.0) * numbers[:, 3:4] / 2
    found = np.empty((len(numbers), 4, 2))
    middles = numbers[:, :2]
    near, far = middles - long, middles + long
    found[:, 0], found[:, 1], found[:, 2], found[:, 3] = near + wide, near - wide, far - wide, far + wide
    return found


def footprint_points(located: Sequence[Located], step: float) -> tuple[Floats, np.ndarray]:
    """Points n,2 along the footprints, `step` metres apart at most, and the row of the object of each."""
    if not located:
        return np.zeros((0, 2)), np.zeros(0, np.intp)
    corners = footprints(located)
    starts, edges = corners.reshape(-1, 2), (corners[:, (1, 2, 3, 0)] - corners).reshape(-1, 2)
    counts = np.maximum(1, np.ceil(np.hypot(edges[:, 0], edges[:, 1]) / step)).astype(np.intp)
    strides = edges / counts[:, None]
    firsts = starts - (np.cumsum(counts) - counts)[:, None] * strides  # where the edge would be at point 0
    lines = np.concatenate([firsts, strides, np.repeat(np.arange(len(located)), 4)[:, None]], axis=1)
    along = np.repeat(lines, counts, axis=0)
    points = along[:, 2:4] * np.arange(len(along))[:, None]
    points += along[:, :2]
    return points, along[:, 4].astype(np.intp)


def free_points(located: Sequence[Located], lens: Lens, mount: Mount, reach: float) -> Floats:
    """Points n,2 of the ground frame, `reach` metres from the camera and one each degree of what it sees, none behind
    an object."""
    bearings, directions = _sight(lens, mount.rotation.tobytes())
    numbers = np.array([(item.bearing, item.width / 2, max(item.near, 0.1)) for item in located]).reshape(-1, 3)
    spreads = np.arctan2(numbers[:, 1], numbers[:, 2]) + DEGREE
    away = np.abs((bearings[:, None] - numbers[:, 0] + math.pi) % (2 * math.pi) - math.pi)
    free = (away > spreads).all(axis=1)
    return mount.position[:2] + reach * directions[free]


@lru_cache(maxsize=16)
def _sight(lens: Lens, turned: bytes) -> tuple[Floats, Floats]:
    """Bearings n and unit directions n,2, one each degree of what a camera sees; `turned`: the bytes of its rotation
    3,3 to the ground frame."""
    mount = Mount(np.frombuffer(turned).reshape(3, 3), np.array([0.0, 0.0, 1.0]))
    edges, known = lens.rays(np.array([[0.0, lens.height / 2], [lens.width - 1.0, lens.height / 2]]))
    facing = math.atan2(mount.forward[1], mount.forward[0])
    half = 0.4
    if known.all():
        rays = (edges @ mount.rotation.T).tolist()
        angles = [math.remainder(math.atan2(ray[1], ray[0]) - facing, 2 * math.pi) for ray in rays]
        half = min(max(abs(angle) for angle in angles), math.pi)
    bearings = facing + np.linspace(-half, half, max(3, round(2 * half / DEGREE) + 1))
    return bearings, np.stack([np.cos(bearings), np.sin(bearings)], axis=1)


def ellipse(item: Located, steps: int = 12) -> Floats:
    """Points steps,2 along the border of an object's 95 % ellipse."""
    return np.asarray(ellipses([item], steps)[0])


def ellipses(located: Sequence[Located], steps: int = 12) -> Floats:
    """The same of several objects: n,steps,2."""
    if not located:
        return np.zeros((0, steps, 2))
    numbers = np.array([(item.x, item.y, *item.covariance) for item in located])
    values, axes = np.linalg.eigh(numbers[:, 2:].reshape(-1, 2, 2))
    radii = np.sqrt(CHI2_95 * np.maximum(values, 0.0))
    border = (axes * radii[:, None]) @ _circle(steps)
    return np.asarray(numbers[:, None, :2] + border.transpose(0, 2, 1))


@lru_cache(maxsize=4)
def _circle(steps: int) -> Floats:
    """Points 2,steps round a circle of radius 1."""
    turn = np.linspace(0, 2 * math.pi, steps, endpoint=False)
    return np.stack([np.cos(turn), np.sin(turn)])
