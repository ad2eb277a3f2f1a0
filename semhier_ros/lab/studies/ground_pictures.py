"""The pictures of docs/planners.md, drawn from what `ground` says of a scene that is known exactly."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import yaml

from semhier_ros.api import Codec
from semhier_ros.camera.drawing import colour_of, draw_boxes
from semhier_ros.camera.overlay import Overlay
from semhier_ros.codec.reading import Detection
from semhier_ros.ground import BoxError, Lens, Located, Mount, locate
from semhier_ros.ground.doors.cursor_on_target import events
from semhier_ros.ground.earth import Fix
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
COSTMAP_METRES, COSTMAP_CELL, INFLATION = 12.0, 0.05, 0.7
ROBOT = Fix(48.1374, 11.5755, 520.0, heading=0.9, accuracy=1.0)
PIXELS_A_SECOND = {"person": (0.0, 0.0, 0.0, 0.0), "bicycle": (14.0, 0.0, 14.0, 2.0), "car": (-6.0, 0.0, -6.0, 1.2)}
"""How fast the sides of boxes move in the picture of tracks, by name."""
AUTOWARE_WORDS = {"person": "PEDESTRIAN", "bicycle": "BICYCLE", "car": "CAR", "van": "CAR"}
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
    axes.set(aspect="equal", xlim=(half, -half), ylim=(0, reach))
    axes.set(xlabel="y, metres to the left", ylabel="x, metres ahead")
    axes.grid(color="#dddddd", linewidth=0.5)


def _closed(points: Any) -> np.ndarray:
    rows = np.asarray(points)
    return np.concatenate([rows, rows[:1]])


def draw_ellipses(figure: Any, error: BoxError) -> None:
    """The camera's picture beside a map: truth, footprints, and 95 % ellipses of exact and of received boxes."""
    detections, picture = seen()
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


def draw_nav2(figure: Any, error: BoxError) -> None:
    """What Nav2 gets: polygons, points of obstacles, rays that clear, and the zones of the example file."""
    located = [item for item in locate(seen()[0], LENS, MOUNT) if item.range < 15]
    file = config_dir() / "planners" / "nav2_collision_monitor.yaml"
    monitor = yaml.safe_load(file.read_text(encoding="utf-8"))["collision_monitor"]["ros__parameters"]
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


def _words(item: Located) -> str:
    return f"{item.name}, {item.range:.1f} m"


def draw_costmap(figure: Any, error: BoxError) -> None:
    """Nav2's local costmap around the robot: cells that footprints mark, what is inflated around them, what is free."""
    located = [item for item in locate(seen()[0], LENS, MOUNT) if item.range < 11]
    count = round(COSTMAP_METRES / COSTMAP_CELL)

    def cells(points: np.ndarray) -> np.ndarray:
        """Column and row of points x, y: x ahead goes up, y to the left."""
        return np.stack([COSTMAP_METRES / 2 - points[:, 1], COSTMAP_METRES - points[:, 0]], axis=1) / COSTMAP_CELL

    free = np.zeros((count, count), np.uint8)
    robot = cells(np.zeros((1, 2)))[0]
    for end in cells(free_points(located, LENS, MOUNT, 15.0)):
        cv2.line(free, robot.astype(int).tolist(), end.astype(int).tolist(), [1.0], 2)
    marked = np.ones((count, count), np.uint8)
    points, _ = footprint_points(located, 0.1)
    at = cells(points).astype(int)
    inside = ((at >= 0) & (at < count)).all(axis=1)
    marked[at[inside, 1], at[inside, 0]] = 0
    away = cv2.distanceTransform(marked, cv2.DIST_L2, 5) * COSTMAP_CELL
    picture = np.where(free[..., None] > 0, (236, 253, 245), (212, 212, 216)).astype(np.float64)
    near = np.clip(1 - away / INFLATION, 0, 1)[..., None]
    picture = (1 - near) * picture + near * np.array((251, 146, 60))
    picture[marked == 0] = (17, 24, 39)
    axes = figure.subplots()
    half = COSTMAP_METRES / 2
    axes.imshow(picture.astype(np.uint8), extent=(half, -half, 0, COSTMAP_METRES), interpolation="nearest")
    for item in located:
        axes.text(item.y - 0.5, item.x + 0.5, _words(item), fontsize=7)
    axes.set(xlabel="y, metres to the left", ylabel="x, metres ahead")
    axes.set_title("marked by obstacles, inflated, cleared by obstacles_clearing", fontsize=8)


def draw_autoware(figure: Any, error: BoxError) -> None:
    """Tracked and predicted objects: boxes, 95 % ellipses, and where constant velocity leads in three seconds."""
    detections, _ = seen()
    rates = np.array([PIXELS_A_SECOND.get(item.names[-1], (0.0,) * 4) for item in detections])
    axes = figure.subplots()
    _map(axes, 34, 12)
    for item in locate(detections, LENS, MOUNT, prefix=3, error=error, rates=rates):
        border, corners = _closed(ellipse(item, 40)), _closed(item.footprint())
        axes.plot(border[:, 1], border[:, 0], color=ORANGE, linewidth=0.8)
        axes.fill(corners[:, 1], corners[:, 0], color=BLUE, alpha=0.25)
        axes.plot(corners[:, 1], corners[:, 0], color=BLUE, linewidth=0.8)
        assert item.velocity is not None
        vx, vy = item.velocity
        if np.hypot(vx, vy) > 0.5:
            steps = np.arange(7) * 0.5
            axes.plot(item.y + vy * steps, item.x + vx * steps, ".-", color=GREEN, markersize=4, linewidth=0.8)
        words = f"{AUTOWARE_WORDS[item.name]} {item.score:.2f}, {np.hypot(vx, vy):.1f} m/s"
        axes.text(item.y - 0.9, item.x, words, fontsize=6.5)
    axes.set_title("tracked_objects (blue), predicted_objects (green)", fontsize=8)


def draw_markers(figure: Any, error: BoxError) -> None:
    """What RViz shows of `markers`: boxes, names and ellipses in space."""
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    axes = figure.add_subplot(projection="3d")
    for item in locate(seen()[0], LENS, MOUNT, prefix=3, error=error):
        ground = np.array(item.footprint())
        low = np.column_stack([ground, np.zeros(4)])
        high = low + np.array([0, 0, item.height])
        sides = [np.array([low[n], low[(n + 1) % 4], high[(n + 1) % 4], high[n]]) for n in range(4)]
        colour = [value / 255 for value in colour_of(item.detection)]
        axes.add_collection3d(Poly3DCollection([*sides, high], facecolors=colour, edgecolors=GREY, alpha=0.6))
        border = _closed(ellipse(item, 40))
        axes.plot(border[:, 0], border[:, 1], 0.02, color=ORANGE, linewidth=1)
        axes.text(item.x, item.y, item.height + 0.4, _words(item), fontsize=6.5)
    axes.set(xlim=(0, 30), ylim=(-9, 9), zlim=(0, 6), xlabel="x, m", ylabel="y, m", zticks=[0, 2])
    axes.set_box_aspect((30, 18, 6))
    axes.view_init(elev=28, azim=200)


def draw_map(figure: Any, error: BoxError) -> None:
    """What a map gets: events of Cursor on Target, read back from their XML, and their circular errors."""
    located = locate(seen()[0], LENS, MOUNT, prefix=3, error=error)
    axes = figure.subplots()
    for raw in events(located, ROBOT, camera="front", now_ns=0, stale_seconds=5.0).values():
        event = ElementTree.fromstring(raw)
        point, contact = event.find("point"), event.find("detail/contact")
        assert point is not None
        assert contact is not None
        latitude, longitude, within = (float(point.attrib[name]) for name in ("lat", "lon", "ce"))
        vehicle = event.attrib["type"].endswith("E-V")
        axes.plot(longitude, latitude, "s" if vehicle else "o", color=BLUE if vehicle else ORANGE, markersize=5)
        turn = np.linspace(0, 2 * np.pi, 40)
        down = 1 / 111_320.0
        across = down / np.cos(np.radians(ROBOT.latitude))
        axes.plot(
            longitude + within * across * np.cos(turn), latitude + within * down * np.sin(turn), color=GREY, lw=0.6
        )
        axes.annotate(
            contact.attrib["callsign"], (longitude, latitude), xytext=(5, 4), textcoords="offset points", fontsize=7
        )
    axes.plot(ROBOT.longitude, ROBOT.latitude, "^", color=GREEN, markersize=8)
    axes.annotate("robot", (ROBOT.longitude, ROBOT.latitude), xytext=(6, -8), textcoords="offset points", fontsize=7)
    axes.set_aspect(1 / np.cos(np.radians(ROBOT.latitude)))
    axes.ticklabel_format(useOffset=False)
    axes.tick_params(labelsize=6)
    axes.tick_params(axis="x", rotation=30)
    axes.set_xlabel("longitude", fontsize=7)
    axes.set_ylabel("latitude", fontsize=7)
    axes.grid(color="#dddddd", linewidth=0.5)
    axes.set_title("people.cot: vehicles (blue), others (orange), circular errors", fontsize=8)


def draw_over(path: Path) -> None:
    """`<camera>/overlay` as it is published."""
    detections, picture = seen()
    notes = {item.detection.id: f"{item.range:.0f} m" for item in locate(detections, LENS, MOUNT)}
    shown = Overlay().draw(
        (LENS.width, LENS.height), detections, picture=picture, picture_age=0.6, age=0.2, least=0.0, notes=notes
    )
    path.write_bytes(cv2.imencode(".png", shown[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes())


FIGURES: dict[str, tuple[Callable[[Any, BoxError], None], tuple[float, float], int]] = {
    "ellipses": (draw_ellipses, (10, 5.4), 110),
    "nav2": (draw_nav2, (6, 6.4), 110),
    "costmap": (draw_costmap, (4.6, 4.8), 80),
    "autoware": (draw_autoware, (4.6, 5.2), 80),
    "markers": (draw_markers, (5.4, 4.0), 80),
    "map": (draw_map, (5.2, 4.4), 80),
}
"""What draws a figure, its size in inches, and dots an inch."""


def draw(codec: Codec, folder: Path) -> list[Path]:
    """Draws all pictures into `folder`; returns their paths."""
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    error = box_error_of(codec, (LENS.width, LENS.height))
    paths = {name: folder / f"planners_{name}.png" for name in (*FIGURES, "overlay")}
    for name, (make, size, dots) in FIGURES.items():
        figure = Figure(figsize=size, layout="constrained")
        make(figure, error)
        figure.savefig(paths[name], dpi=dots)
    draw_over(paths["overlay"])
    return list(paths.values())
