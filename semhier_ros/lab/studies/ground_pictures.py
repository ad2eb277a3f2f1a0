"""The pictures of docs/planners.md, drawn from what `ground` says of a scene that is known exactly."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from semhier_ros.api import Codec
from semhier_ros.camera.drawing import draw_boxes
from semhier_ros.codec.reading import Detection
from semhier_ros.ground import BoxError, Lens, Located, Mount, locate
from semhier_ros.ground.errors_file import box_error_of
from semhier_ros.ground.outlines import ellipse, footprint_points, free_points
from semhier_ros.ground.render import box_of, outline, to_picture
from semhier_ros.ground.sizes import SIZES
from semhier_ros.paths import config_dir

LENS, MOUNT = Lens(640, 480, 500.0, 500.0, 319.5, 239.5), Mount.level(1.2, pitch=0.05, tilt_sigma=0.01)
STREET = (
    ("person", 3.4, 0.3, 0.0),
    ("person", 9.0, -1.2, 0.0),
    ("bicycle", 7.5, 2.6, 0.5),
    ("car", 14.0, 4.0, 0.1),
    ("van", 20.0, -5.0, -0.3),
    ("car", 27.0, 3.0, 1.4),
)
"""Kind, x, y and turn of what stands before the camera."""
GREY, ORANGE, BLUE, GREEN = "#666666", "#c2410c", "#1d4ed8", "#047857"


def seen() -> tuple[list[Detection], np.ndarray]:
    """What the camera sees of STREET: boxes, and a picture of the objects' edges."""
    picture = np.full((LENS.height, LENS.width, 3), 235, np.uint8)
    picture[: LENS.height // 2 - 25] = (214, 226, 240)
    found = []
    for number, (kind, x, y, yaw) in enumerate(STREET):
        points = outline(SIZES[kind], x, y, yaw)
        box = box_of(LENS, MOUNT, points)
        if box is None:
            continue
        found.append(Detection(number, box, (0, 1), ("object", kind), (0.9, 0.8)))
        pixels, _ = to_picture(LENS, MOUNT, points)
        for px, py in np.rint(pixels).astype(int).tolist():
            if 1 <= px < LENS.width - 1 and 1 <= py < LENS.height - 1:
                picture[py - 1 : py + 2, px - 1 : px + 2] = (70, 70, 70)
    return found, picture


def _map(axes: Any, reach: float, half: float) -> None:
    axes.set_aspect("equal")
    axes.set_xlim(half, -half)
    axes.set_ylim(0, reach)
    axes.set_xlabel("y, metres to the left")
    axes.set_ylabel("x, metres ahead")
    axes.grid(color="#dddddd", linewidth=0.5)


def _closed(points: Any) -> np.ndarray:
    rows = np.asarray(points)
    return np.concatenate([rows, rows[:1]])


def draw_ellipses(codec: Codec, path: Path) -> None:
    """The camera's picture beside a map: truth, footprints, and 95 % ellipses of exact and of received boxes."""
    from matplotlib.figure import Figure

    detections, picture = seen()
    error = box_error_of(codec, (LENS.width, LENS.height))
    figure = Figure(figsize=(10, 5.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    left.imshow(draw_boxes(picture, detections))
    left.axis("off")
    left.set_title("what the camera sees")
    _map(right, 34, 12)
    right.set_title("where it stands: 95 % ellipses")
    for kind, x, y, yaw in STREET:
        points = outline(SIZES[kind], x, y, yaw)
        ground = points[points[:, 2] == 0]
        right.plot(ground[:, 1], ground[:, 0], ".", color=GREY, markersize=1.5)
    for known, colour, name in ((error, ORANGE, "box as received"), (BoxError(), BLUE, "box exact")):
        for number, item in enumerate(locate(detections, LENS, MOUNT, prefix=3, error=known)):
            border = _closed(ellipse(item, 40))
            right.plot(border[:, 1], border[:, 0], color=colour, linewidth=1, label=name if number == 0 else None)
            if known is error:
                right.text(item.y - 0.8, item.x, item.name, fontsize=7)
    right.legend(loc="lower left", fontsize=7)
    figure.savefig(path, dpi=110)


def draw_nav2(path: Path) -> None:
    """What Nav2 gets: polygons, points of obstacles, rays that clear, and the zones of the example file."""
    from matplotlib.figure import Figure

    detections, _ = seen()
    located = [item for item in locate(detections, LENS, MOUNT) if item.range < 15]
    file = config_dir() / "planners" / "nav2_collision_monitor.yaml"
    monitor = yaml.safe_load(file.read_text(encoding="utf-8"))["collision_monitor"]["ros__parameters"]
    figure = Figure(figsize=(6, 6.4), layout="constrained")
    axes = figure.subplots()
    _map(axes, 16, 7)
    for x, y in free_points(located, LENS, MOUNT, 15.0).tolist():
        axes.plot([0, y], [0, x], color=GREEN, linewidth=0.3)
    for name, colour in zip(monitor["polygons"], (ORANGE, "#a16207"), strict=True):
        zone = _closed(ast.literal_eval(monitor[name]["points"]))
        axes.fill(zone[:, 1], zone[:, 0], color=colour, alpha=0.15)
        axes.text(zone[:, 1].max() - 0.1, zone[:, 0].max() - 0.6, name, color=colour, fontsize=8)
    points, _ = footprint_points(located, 0.1)
    axes.plot(points[:, 1], points[:, 0], ".", color=BLUE, markersize=2)
    for item in located:
        corners = _closed(item.footprint())
        axes.plot(corners[:, 1], corners[:, 0], color=BLUE, linewidth=0.8)
        axes.text(item.y - 0.6, item.x, _words(item), fontsize=7)
    axes.set_title("polygons and obstacles (blue), obstacles_clearing (green)", fontsize=9)
    figure.savefig(path, dpi=110)


def _words(item: Located) -> str:
    return f"{item.name}, {item.range:.1f} m"


def draw(codec: Codec, folder: Path) -> list[Path]:
    """Draws both pictures into `folder`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "planners_ellipses.png", folder / "planners_nav2.png"]
    draw_ellipses(codec, paths[0])
    draw_nav2(paths[1])
    return paths
