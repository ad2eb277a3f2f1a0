"""Lines on the ground that planners and maps draw: along footprints, free bearings, and the borders of ellipses."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from semhier_ros.ground.lens import Floats, Lens
from semhier_ros.ground.locate import CHI2_95, Located
from semhier_ros.ground.mount import Mount

DEGREE = math.radians(1.0)


def footprint_points(located: Sequence[Located], step: float) -> tuple[Floats, np.ndarray]:
    """Points n,2 along the footprints, `step` metres apart at most, and the row of the object of each."""
    if not located:
        return np.zeros((0, 2)), np.zeros(0, np.intp)
    corners = np.array([item.footprint() for item in located])
    starts, edges = corners.reshape(-1, 2), (np.roll(corners, -1, axis=1) - corners).reshape(-1, 2)
    counts = np.maximum(1, np.ceil(np.sqrt((edges**2).sum(axis=1)) / step)).astype(np.intp)
    edge = np.repeat(np.arange(len(counts)), counts)
    along = (np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)) / counts[edge]
    return starts[edge] + along[:, None] * edges[edge], edge // 4


def free_points(located: Sequence[Located], lens: Lens, mount: Mount, reach: float) -> Floats:
    """Points n,2 of the ground frame, `reach` metres from the camera and one each degree of what it sees, none behind
    an object."""
    edges, known = lens.rays(np.array([[0.0, lens.height / 2], [lens.width - 1.0, lens.height / 2]]))
    facing = math.atan2(mount.forward[1], mount.forward[0])
    half = 0.4
    if known.all():
        turned = (edges @ mount.rotation.T).tolist()
        angles = [math.remainder(math.atan2(ray[1], ray[0]) - facing, 2 * math.pi) for ray in turned]
        half = min(max(abs(angle) for angle in angles), math.pi)
    bearings = facing + np.linspace(-half, half, max(3, round(2 * half / DEGREE) + 1))
    free = np.ones(len(bearings), bool)
    for item in located:
        spread = math.atan2(item.width / 2, max(item.near, 0.1)) + DEGREE
        free &= np.abs((bearings - item.bearing + math.pi) % (2 * math.pi) - math.pi) > spread
    return mount.position[:2] + reach * np.stack([np.cos(bearings), np.sin(bearings)], axis=1)[free]


def ellipse(item: Located, steps: int = 12) -> Floats:
    """Points steps,2 along the border of an object's 95 % ellipse."""
    return np.asarray(ellipses([item], steps)[0])


def ellipses(located: Sequence[Located], steps: int = 12) -> Floats:
    """The same of several objects: n,steps,2."""
    if not located:
        return np.zeros((0, steps, 2))
    values, axes = np.linalg.eigh(np.array([item.covariance for item in located]).reshape(-1, 2, 2))
    turn = np.linspace(0, 2 * math.pi, steps, endpoint=False)
    radii = np.sqrt(CHI2_95 * np.maximum(values, 0.0))
    border = (axes * radii[:, None]) @ np.stack([np.cos(turn), np.sin(turn)])
    middles = np.array([(item.x, item.y) for item in located])
    return np.asarray(middles[:, None] + border.transpose(0, 2, 1))
