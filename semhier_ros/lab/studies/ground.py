"""From box to ground in metres, against exact ground truth: range and bearing error, and how often ellipses hold.

Objects of known size stand on a plane at known places; a real camera model shows what boxes they fill. These boxes are
located as they are (exact), after the model's own quantiser (as sent), as read after each semantic block (with the
features of objects that the detector found in a video, of those whose boxes sit in the quantiser's cell as the drawn
ones do), and with the detector's own error as it was measured on labels
before all that (received). Range errors are those of the side that we see; ellipses
are asked whether they hold the object's middle.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semhier_ros import options as shared
from semhier_ros.api import Codec
from semhier_ros.codec.canvas import Canvas
from semhier_ros.codec.reading import Detection
from semhier_ros.footage.video import default_video, read_video
from semhier_ros.ground import BoxError, Lens, Located, Mount, Size, SizeTable, locate
from semhier_ros.ground.errors_file import box_error_of
from semhier_ros.ground.render import box_of, outline
from semhier_ros.ground.sizes import SIZES
from semhier_ros.lab.options import load_codec
from semhier_ros.lab.replay.from_above import errors
from semhier_ros.lab.results import publish
from semhier_ros.lab.studies.box_errors import corners
from semhier_ros.lab.studies.ground_pictures import draw
from semhier_ros.lab.studies.tables import Columns, filled
from semhier_ros.scene.layout import SceneLayout, foot_limits, quantise_boxes, restore_boxes
from semhier_ros.scene.objects import Objects, code_objects

Floats = NDArray[np.float64]
LENS = Lens(640, 480, 500.0, 500.0, 319.5, 239.5)
HEIGHT = 1.2
KINDS = ("person", "car", "bicycle", "van")
ROUND = ("person",)
DISTANCES = (10.0, 20.0, 30.0)
ASIDE = math.radians(25.0)
FRAMES = range(10, 240, 5)


@dataclass(frozen=True)
class Standing:
    """An object of the truth: its kind, its middle on the ground and the bearing of that, the distance of the side that
    we see, its box."""

    kind: str
    x: float
    y: float
    bearing: float
    near: float
    box: tuple[float, float, float, float]


def stand(kind: str, distance: float, rng: np.random.Generator, lens: Lens, mount: Mount) -> Standing | None:
    """An object of `kind`, its size drawn around the usual, turned at random, its nearest side about so far away."""
    usual = SIZES[kind]
    grown = math.exp(usual.spread * rng.normal())
    size = Size(usual.length * grown, usual.width * grown, usual.height * grown, usual.spread)
    aside = rng.uniform(-ASIDE, ASIDE)
    yaw = rng.uniform(0, 2 * math.pi)
    away = distance * rng.uniform(0.95, 1.05) + size.length / 2
    x, y = away * math.cos(aside), away * math.sin(aside)
    points = outline(size, x, y, yaw, round_shape=kind in ROUND)
    box = box_of(lens, mount, points)
    if box is None or box[0] <= 8 or box[2] >= lens.width - 8 or box[3] >= lens.height - 8:
        return None
    ahead = points[points[:, 2] == 0, :2] @ mount.forward[:2]
    bearing = math.atan2(y, x)
    near = float(ahead.min()) / math.cos(bearing)  # along the line of sight, as deep as its nearest corner
    return Standing(kind, x, y, bearing, near, box)


def donors(codec: Codec) -> Objects:
    """Objects that the detector finds in the street video: whose features lend what a detector knows to drawn boxes."""
    model: Any = codec.model
    found = []
    for number, frame in enumerate(read_video(default_video())):
        if number in FRAMES:
            found.append(model.find(frame.image))
        if number >= max(FRAMES):
            break
    return Objects(*(np.concatenate([getattr(one, name) for one in found]) for name in Objects.__dataclass_fields__))


def remainders(layout: SceneLayout, cells: NDArray[np.int32], boxes: Floats) -> Floats:
    """What quantising takes from boxes n,4 (cx, cy, w, h in cells) found at `cells`: n,4, in steps, -0.5 to 0.5."""
    sizes, offsets = quantise_boxes(layout, cells, boxes.astype(np.float32))
    kept = restore_boxes(layout, cells, sizes, offsets)
    moved = (boxes[:, :2] - kept[:, :2]) / (kept[:, 2:] * layout.offset_step)
    grown = np.log(boxes[:, 2:] / kept[:, 2:]) / layout.size_step
    return np.clip(np.concatenate([moved, grown], axis=1), -0.5, 0.5)


def sit_alike(layout: SceneLayout, cells: NDArray[np.int32], boxes: Floats, lent: Objects) -> NDArray[np.intp]:
    """For each drawn box, the detected object whose own box sits most alike in its cell of the quantiser: features of
    another would say where that other one sits."""
    theirs = remainders(layout, lent.cells, lent.boxes.astype(np.float64))
    away = remainders(layout, cells.astype(np.int32), boxes)[:, None] - theirs[None]
    return np.asarray((away**2).sum(axis=2).argmin(axis=1))


def received(codec: Codec, boxes: Floats, lent: Objects) -> list[Floats]:
    """`boxes` n,4 (corners in pixels of LENS's picture) as they are sent, then as they are read after each semantic
    block."""
    model: Any = codec.model
    layout = model.stream.layout
    canvas = Canvas(model.view_size[0], model.view_size[1], (LENS.width, LENS.height))
    cells = boxes * canvas.scale / layout.stride
    centred = np.concatenate([(cells[:, :2] + cells[:, 2:]) / 2, cells[:, 2:] - cells[:, :2]], axis=1)
    read = [np.zeros_like(boxes) for _ in range(1 + model.semantic_blocks)]
    for rows in np.array_split(np.arange(len(boxes)), max(1, len(boxes) // 40)):
        at = np.floor(centred[rows, :2]).astype(np.int32)
        cell = np.clip(at[:, 1], 0, layout.rows - 1) * layout.columns + np.clip(at[:, 0], 0, layout.columns - 1)
        order = np.argsort(cell, kind="stable")
        chosen = sit_alike(layout, cell[order], centred[rows][order], lent)
        objects = Objects(
            cell[order].astype(np.int32),
            centred[rows][order].astype(np.float32),
            lent.objectness[chosen],
            lent.leaves[chosen],
            lent.features[chosen],
        )
        code = code_objects(model.stream, model.folder.projection, objects, model.semantic_blocks)
        restored = restore_boxes(layout, code.cells, code.sizes, code.offsets)
        sent = corners(restored).astype(np.float32)
        if code.feet is not None:
            sent[:, 3] = foot_limits(layout, code.feet, restored).mean(axis=1)
        for step, seen in enumerate([sent, *(model.reader.measure(code, k).boxes for k in range(len(read) - 1))]):
            read[step][rows[order]] = canvas.to_source(seen * np.float32(layout.stride))
    return read


def spoil(boxes: Floats, error: BoxError, rng: np.random.Generator) -> Floats:
    """Boxes with the detector's own error."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    kinds = ((error.middle, width), (error.half, width), (error.top, height), (error.foot, height))
    middle, half, top, foot = (np.hypot(p[0] * extent, p[1]) * rng.normal(size=len(boxes)) for p, extent in kinds)
    half = np.maximum(half, 1.0 - width / 2)
    top = np.minimum(top, height + foot - 1.0)
    return boxes + np.stack([middle - half, top, middle + half, foot], axis=1)


def located(
    truth: list[Standing], boxes: Floats, prefix: int, error: BoxError, mount: Mount
) -> Iterator[tuple[Standing, Located | None]]:
    """Each object with where its box says that it is."""
    detections = [
        Detection(number, (float(box[0]), float(box[1]), float(box[2]), float(box[3])), (0,), (one.kind,), (0.9,))
        for number, (one, box) in enumerate(zip(truth, boxes, strict=True))
    ]
    table = SizeTable()
    for start in range(0, len(detections), 50):
        part = detections[start : start + 50]
        there = locate(part, LENS, mount, prefix=prefix, error=error, sizes=table)
        by_id = {item.detection.id: item for item in there}
        yield from ((truth[item.id], by_id.get(item.id)) for item in part)


def scores(pairs: list[tuple[Standing, Located | None]]) -> dict[str, float]:
    """Range error (share of the range) and bearing error (degrees) of what was placed, share placed, and share of 95 %
    ellipses that hold the middle."""
    there = [(found, truth) for truth, found in pairs if found is not None]
    told = errors(there)
    return {
        "median": told["range"],
        "p90": float(np.quantile([abs(found.near / truth.near - 1) for found, truth in there], 0.9)),
        "bearing": told["bearing"],
        "inside": told["inside"],
        "placed": len(there) / len(pairs),
    }


def exact_boards(mount: Mount) -> float:
    """The largest range error of boards that face the camera, 3 to 80 m away, where nothing is quantised."""
    worst = 0.0
    for distance in np.geomspace(3, 80, 40):
        for aside in (-0.4, 0.0, 0.3):
            box = box_of(LENS, mount, outline(Size(0.01, 0.5, 1.7, 0.1), distance + 0.005, distance * aside, 0.0))
            if box is not None:
                (found,) = locate([Detection(0, box, (0,), ("board",), (1.0,))], LENS, mount)
                worst = max(worst, abs(found.near / math.hypot(distance, distance * aside) - 1))
    return worst


def milliseconds(error: BoxError, mount: Mount, objects: int = 20) -> float:
    """Time of one thread for one frame of so many objects; the median of 50."""
    rng = np.random.default_rng(1)
    detections = [
        Detection(number, (x, 150.0, x + 40, rng.uniform(255, 320)), (0,), ("car",), (0.9,))
        for number, x in enumerate(rng.uniform(20, 580, objects))
    ]
    taken = []
    for _ in range(50):
        begin = time.thread_time()
        locate(detections, LENS, mount, error=error)
        taken.append(time.thread_time() - begin)
    return float(np.median(taken)) * 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.model(parser)
    shared.option(parser, "--objects", shared.whole(40, 100_000), 1500, "at each distance", "N")
    parser.add_argument("--draw", type=Path, metavar="DIR", help="draw the pictures of docs/planners.md, and stop")
    parser.add_argument("--foot-bits", action="store_true", help="of the stream with foot bits")
    shared.common(parser, shared.seed, shared.threads, shared.json)


def run(options: argparse.Namespace) -> int:
    loaded = load_codec(options.model, "cpu", options.threads, "scenes")
    codec = loaded.with_foot_bits() if options.foot_bits else loaded
    if options.draw is not None:
        print(*draw(codec, options.draw), sep="\n")
        return 0
    rng = np.random.default_rng(options.seed)
    mount = Mount.level(HEIGHT)
    error = box_error_of(codec, (LENS.width, LENS.height))
    lent = donors(codec)
    cells = BoxError(error.size_step, error.offset_step, cell=error.cell, foot_cell=error.foot_cell)
    bare = replace(cells, read=error.read, across=error.across)
    names: tuple[str, ...] = codec.block_names[: codec.semantic_blocks]
    figures: dict[str, Any] = {"exact_boards": exact_boards(mount), "milliseconds_20": milliseconds(error, mount)}
    rows = []
    for distance in DISTANCES:
        truth: list[Standing] = []
        while len(truth) < options.objects:
            one = stand(KINDS[len(truth) % len(KINDS)], distance, rng, LENS, mount)
            if one is not None:
                truth.append(one)
        boxes = np.array([one.box for one in truth])
        spoilt = spoil(boxes, error, rng)
        systems: list[tuple[str, Floats, int, BoxError]] = [("exact", boxes, 0, BoxError())]
        quantised, both = received(codec, boxes, lent), received(codec, spoilt, lent)
        systems.append(("quantised, as sent", quantised[0], 0, cells))
        systems += [(f"quantised, read after {name}", quantised[1 + at], at, bare) for at, name in enumerate(names)]
        systems += [(f"received, read after {name}", both[1 + at], at, error) for at, name in enumerate(names)]
        for name, seen, prefix, known in systems:
            score = scores(list(located(truth, seen, prefix, known, mount)))
            figures[f"{distance:g} m, {name}"] = score
            rows.append({"m": f"{distance:g}", "name": name, **score})
    columns: Columns = [
        ("m", "m"),
        ("boxes", "name"),
        ("range error, median %", lambda row: round(100 * row["median"], 2)),
        ("90 % below, %", lambda row: round(100 * row["p90"], 1)),
        ("bearing, median deg", lambda row: round(row["bearing"], 2)),
        ("ellipses hold, %", lambda row: round(100 * row["inside"], 1)),
        ("placed, %", lambda row: round(100 * row["placed"], 1)),
    ]
    note = (
        f"Focal length {LENS.fx:g} px, camera {HEIGHT} m high, {options.objects} objects a distance"
        f" ({', '.join(KINDS)}). Boards that face the camera, 3 to 80 m: largest range error"
        f" {100 * figures['exact_boards']:.4f} %. {figures['milliseconds_20']:.1f} ms for 20 objects on one thread."
    )
    table = filled("metres", "Range and bearing in metres", columns, rows, note)
    return publish(options.json, "ground-foot" if options.foot_bits else "ground", figures, [table], [loaded])
