"""The pictures of docs/planners.md, drawn from what `ground` says of a scene that is known exactly."""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

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


def draw_costmap(path: Path) -> None:
    """Nav2's local costmap around the robot: cells that footprints mark, what is inflated around them, what is free."""
    import cv2
    from matplotlib.figure import Figure

    detections, _ = seen()
    located = [item for item in locate(detections, LENS, MOUNT) if item.range < 11]
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
    figure = Figure(figsize=(4.6, 4.8), layout="constrained")
    axes = figure.subplots()
    half = COSTMAP_METRES / 2
    axes.imshow(picture.astype(np.uint8), extent=(half, -half, 0, COSTMAP_METRES), interpolation="nearest")
    for item in located:
        axes.text(item.y - 0.5, item.x + 0.5, _words(item), fontsize=7)
    axes.set_xlabel("y, metres to the left")
    axes.set_ylabel("x, metres ahead")
    axes.set_title("marked by obstacles, inflated, cleared by obstacles_clearing", fontsize=8)
    figure.savefig(path, dpi=80)


def draw_autoware(codec: Codec, path: Path) -> None:
    """Tracked and predicted objects: boxes, 95 % ellipses, and where constant velocity leads in three seconds."""
    from matplotlib.figure import Figure

    detections, _ = seen()
    error = box_error_of(codec, (LENS.width, LENS.height))
    rates = np.array([PIXELS_A_SECOND.get(item.names[-1], (0.0,) * 4) for item in detections])
    figure = Figure(figsize=(4.6, 5.2), layout="constrained")
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
    figure.savefig(path, dpi=80)


def draw_markers(codec: Codec, path: Path) -> None:
    """What RViz shows of `markers`: boxes, names and ellipses in space."""
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    detections, _ = seen()
    error = box_error_of(codec, (LENS.width, LENS.height))
    figure = Figure(figsize=(5.4, 4.0), layout="constrained")
    axes: Any = figure.add_subplot(projection="3d")
    for item in locate(detections, LENS, MOUNT, prefix=3, error=error):
        ground = np.array(item.footprint())
        low = np.column_stack([ground, np.zeros(4)])
        high = low + np.array([0, 0, item.height])
        sides = [np.array([low[n], low[(n + 1) % 4], high[(n + 1) % 4], high[n]]) for n in range(4)]
        colour = [value / 255 for value in colour_of(item.detection)]
        axes.add_collection3d(Poly3DCollection([*sides, high], facecolors=colour, edgecolors=GREY, alpha=0.6))
        border = _closed(ellipse(item, 40))
        axes.plot(border[:, 0], border[:, 1], 0.02, color=ORANGE, linewidth=1)
        axes.text(item.x, item.y, item.height + 0.4, _words(item), fontsize=6.5)
    axes.set_xlim(0, 30)
    axes.set_ylim(-9, 9)
    axes.set_zlim(0, 6)
    axes.set_box_aspect((30, 18, 6))
    axes.view_init(elev=28, azim=200)
    axes.set_xlabel("x, m")
    axes.set_ylabel("y, m")
    axes.set_zticks([0, 2])
    figure.savefig(path, dpi=80)


def draw_map(codec: Codec, path: Path) -> None:
    """What a map gets: events of Cursor on Target, read back from their XML, and their circular errors."""
    from matplotlib.figure import Figure

    detections, _ = seen()
    located = locate(detections, LENS, MOUNT, prefix=3, error=box_error_of(codec, (LENS.width, LENS.height)))
    figure = Figure(figsize=(5.2, 4.4), layout="constrained")
    axes = figure.subplots()
    for raw in events(located, ROBOT, camera="front", now_ns=0, stale_seconds=5.0).values():
        event = ElementTree.fromstring(raw)
        point, contact = event.find("point"), event.find("detail/contact")
        assert point is not None
        assert contact is not None
        latitude, longitude, error = (float(point.attrib[name]) for name in ("lat", "lon", "ce"))
        vehicle = event.attrib["type"].endswith("E-V")
        axes.plot(longitude, latitude, "s" if vehicle else "o", color=BLUE if vehicle else ORANGE, markersize=5)
        turn = np.linspace(0, 2 * np.pi, 40)
        down = 1 / 111_320.0
        across = down / np.cos(np.radians(ROBOT.latitude))
        axes.plot(longitude + error * across * np.cos(turn), latitude + error * down * np.sin(turn), color=GREY, lw=0.6)
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
    figure.savefig(path, dpi=80)


def draw_over(path: Path) -> None:
    """`<camera>/overlay` as it is published."""
    import cv2

    detections, picture = seen()
    notes = {item.detection.id: f"{item.range:.0f} m" for item in locate(detections, LENS, MOUNT)}
    shown = Overlay().draw(
        (LENS.width, LENS.height), detections, picture=picture, picture_age=0.6, age=0.2, least=0.0, notes=notes
    )
    cv2.imwrite(str(path), shown[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])


def draw(codec: Codec, folder: Path) -> list[Path]:
    """Draws all pictures into `folder`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, Callable[[Path], None]] = {
        "ellipses": partial(draw_ellipses, codec),
        "nav2": draw_nav2,
        "costmap": draw_costmap,
        "autoware": partial(draw_autoware, codec),
        "markers": partial(draw_markers, codec),
        "map": partial(draw_map, codec),
        "overlay": draw_over,
    }
    for name, make in made.items():
        make(folder / f"planners_{name}.png")
    return [folder / f"planners_{name}.png" for name in made]
