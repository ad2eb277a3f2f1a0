"""How wrong received boxes are at each side: what quantising leaves after each prefix, and the detector's own error.

On labelled scenes, objects that the detector finds are coded and read again as a receiver would. Read: by prefix, what
reading and detection differ by at upper and lower sides. Across: the same of boxes' middles. Foot, top, middle and half
(of the width): the detector's boxes against labels (overlap of at least one half, sides that the picture does not cut).
Each as the standard deviation of a normal distribution whose middle 95 % holds 95 % of the errors, fitted as a share of
the box's extent and a floor, in pixels of the model's canvas. Lower sides in the stream with foot bits: by prefix, how
much of the range that the foot symbol leaves an even distribution would have whose middle 95 % holds 95 % of the
errors. `--out` writes the file that `ground` reads (config/ground/<model>.yaml).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semhier_ros import options as shared
from semhier_ros.api import Codec
from semhier_ros.codec.canvas import Canvas
from semhier_ros.ground.box_error import EVEN_95, NORMAL_95
from semhier_ros.ground.errors_file import box_error_of
from semhier_ros.lab.options import labelled_scenes, load_codec
from semhier_ros.lab.results import Table, publish
from semhier_ros.lab.scoring.streaming import SAME, overlap
from semhier_ros.scene.objects import code_objects
from semhier_ros.whole_file import write_whole

Floats = NDArray[np.float64]
EDGE, LEAST_BIN = 0.015, 25
SIDES = ("foot", "top", "middle", "half")


def corners(boxes: Floats) -> Floats:
    """x0, y0, x1, y1 of boxes n,4 given as cx, cy, w, h."""
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)


class Rows(NamedTuple):
    """Of pictures, rows (extent, error) in canvas pixels: by prefix, of upper and lower sides as read against those
    detected, of middles, and of lower sides in the stream with foot bits; and by SIDES, of detected boxes against
    labels."""

    upright: list[Floats]
    middle: list[Floats]
    feet: list[Floats]
    sides: list[Floats]


def measure_picture(codec: Codec, picture: NDArray[np.uint8], truth: Floats) -> Rows:
    """The errors of one picture; `truth` n,5: labels, x, y, width and height in its pixels behind their class."""
    model: Any = codec.model
    finer: Any = codec.with_foot_bits().model
    canvas = Canvas(model.view_size[0], model.view_size[1], (picture.shape[1], picture.shape[0]))
    objects = model.find(picture)
    upright, middles, feet, errors = (
        [np.zeros((0, 2))] * count for count in (*[model.semantic_blocks] * 3, len(SIDES))
    )
    if not len(objects):
        return Rows(upright, middles, feet, errors)
    detected = corners(objects.boxes.astype(np.float64))
    width, height = (objects.boxes[:, side].astype(np.float64) for side in (2, 3))
    code = code_objects(model.stream, model.folder.projection, objects, model.semantic_blocks)
    finer_code = code_objects(finer.stream, finer.folder.projection, objects, model.semantic_blocks)
    for prefix in range(model.semantic_blocks):
        away = model.reader.measure(code, prefix).boxes.astype(np.float64) - detected
        of_sides = np.concatenate([np.stack([height, away[:, side]], axis=1) for side in (1, 3)])
        upright[prefix] = of_sides * model.stream.layout.stride
        middle = np.stack([width, (away[:, 0] + away[:, 2]) / 2], axis=1)
        middles[prefix] = middle * model.stream.layout.stride
        lower = finer.reader.measure(finer_code, prefix).boxes[:, 3].astype(np.float64) - detected[:, 3]
        feet[prefix] = np.stack([height, lower], axis=1) * model.stream.layout.stride
    if not len(truth):
        return Rows(upright, middles, feet, errors)
    found = detected * model.stream.layout.stride / canvas.scale
    labels = np.concatenate([truth[:, 1:3], truth[:, 1:3] + truth[:, 3:]], axis=1)
    matched = overlap(found, labels)
    rows = np.flatnonzero(matched.max(axis=1) >= SAME)
    label = labels[matched[rows].argmax(axis=1)]
    wide, tall = (label[:, 2:] - label[:, :2]).T
    x0, y0, x1, y1 = (found[rows] - label).T
    size = np.array((picture.shape[1], picture.shape[0]))
    left, top = (label[:, :2] > EDGE * size).T
    right, foot = (label[:, 2:] < (1 - EDGE) * size).T
    whole = left & right
    kinds = ((foot, tall, y1), (top, tall, y0), (whole, wide, (x0 + x1) / 2), (whole, wide, (x1 - x0) / 2))
    sides = [np.stack([extent[kept], error[kept]], axis=1) * canvas.scale for kept, extent, error in kinds]
    return Rows(upright, middles, feet, sides)


def left_to_foot(rows: Floats, foot_cell: float) -> float:
    """What reading leaves of the range in which foot bits leave a lower side, of rows (extent, error): the error would
    be even in it if nothing was read. `foot_cell`: half of the range, as a share of the extent."""
    return float(np.quantile(np.abs(rows[:, 1]) / rows[:, 0], 0.95)) / (EVEN_95 * foot_cell)


def fit(rows: Floats) -> tuple[float, float, list[tuple[float, float, int]]]:
    """Share and floor (pixels) of the standard deviation that holds for errors of rows (extent, error), and the bins
    that they were fitted to: middle extent, standard deviation, number."""
    order = np.argsort(rows[:, 0])
    count = max(1, min(8, len(rows) // LEAST_BIN))
    bins = []
    for part in np.array_split(order, count):
        spread = float(np.quantile(np.abs(rows[part, 1]), 0.95)) / NORMAL_95
        bins.append((float(np.median(rows[part, 0])), spread, len(part)))
    sizes, spreads = np.array([one[0] for one in bins]), np.array([one[1] for one in bins])
    weights = 1 / np.maximum(spreads, 0.1) ** 2  # relative errors of the bins count alike
    design = np.stack([sizes**2, np.ones_like(sizes)], axis=1) * weights[:, None]
    found = np.linalg.lstsq(design, spreads**2 * weights, rcond=None)[0]
    if found.min() < 0:
        keep = int(found.argmax())
        single = design[:, keep] @ (spreads**2 * weights) / (design[:, keep] @ design[:, keep])
        found = np.array([0.0, 0.0])
        found[keep] = max(single, 0.0)
    return math.sqrt(found[0]), math.sqrt(found[1]), bins


def parameters(
    model: str,
    model_hash: str,
    fitted: dict[str, tuple[float, float]],
    feet: Sequence[float],
    blocks: Sequence[str],
) -> str:
    """The file that `ground` reads."""
    lines = [
        "# How wrong the boxes of this model are (docs/planners.md). Written by `semhier measure box_errors --out`.",
        f"model: {model}",
        f'model_hash: "{model_hash}"',
        "# standard deviations: share of the box's height or width, and pixels of the model's canvas",
        f"# what reading leaves of the quantiser's error, after {', '.join(blocks)}: upper and lower sides; middles",
        "read:",
        *(f"- [{fitted[name][0]:.4f}, {fitted[name][1]:.3f}]" for name in blocks),
        "across:",
        *(f"- [{fitted[f'{name}, middle'][0]:.4f}, {fitted[f'{name}, middle'][1]:.3f}]" for name in blocks),
        "# what reading leaves of the range in which foot bits leave a lower side, after the same blocks",
        f"foot_told: [{', '.join(f'{left:.3f}' for left in feet)}]",
        "# the detector's own error",
        *(f"{side}: [{fitted[side][0]:.4f}, {fitted[side][1]:.3f}]" for side in SIDES),
    ]
    return "\n".join(lines) + "\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.common(parser, shared.model, shared.images)
    shared.labels(parser, "folder of YOLO labels")
    shared.threads(parser)
    shared.out(parser, None, "also write the parameters of this model to this YAML file", folder=False, required=False)
    shared.json(parser)


def run(options: argparse.Namespace) -> int:
    codec = load_codec(options.model, "cpu", options.threads, "scenes")
    model: Any = codec.model
    scenes = labelled_scenes(options)
    measured = [measure_picture(codec, picture, truth) for picture, truth, _ in (scene.read() for scene in scenes)]
    every = Rows(*([np.concatenate(rows) for rows in zip(*kind, strict=True)] for kind in zip(*measured, strict=True)))
    blocks = model.block_names[: model.semantic_blocks]
    names = (*blocks, *(f"{name}, middle" for name in blocks), *SIDES)
    fits = {name: fit(rows) for name, rows in zip(names, (*every.upright, *every.middle, *every.sides), strict=True)}
    finer: Any = codec.with_foot_bits().model
    foot_cell = finer.stream.foot_cell
    feet = [left_to_foot(rows, foot_cell) for rows in every.feet]
    fitted = {name: (share, floor) for name, (share, floor, _) in fits.items()}
    table = Table(
        "sides",
        "Errors at the sides of boxes",
        ("of", "extent, px", "sigma, px", "fitted, px", "sides"),
        [
            (name, round(extent, 1), round(spread, 2), round(math.hypot(share * extent, floor), 2), number)
            for name, (share, floor, bins) in fits.items()
            for extent, spread, number in bins
        ],
        f"Scenes: {len(scenes)}. {', '.join(blocks)}: what reading leaves of the quantiser's error; "
        f"{', '.join(SIDES)}: the detector against labels. Pixels of the model's canvas.",
    )
    if options.out is not None:
        write_whole(options.out, parameters(codec.name, codec.model_hash, fitted, feet, blocks))
    shipped = box_error_of(codec, model.view_size).foot_told or (1.0,) * len(feet)
    limits = [
        np.abs(rows[:, 1]) <= EVEN_95 * foot_cell * left * rows[:, 0]
        for rows, left in zip(every.feet, shipped, strict=True)
    ]
    told = Table(
        "feet",
        "Lower sides with foot bits",
        ("read after", "left of their range", "shipped", "within 95 % by what is shipped, %", "sides"),
        [
            (name, round(left, 3), known, round(100 * float(within.mean()), 1), len(within))
            for name, left, known, within in zip(blocks, feet, shipped, limits, strict=True)
        ],
        "If nothing is read, errors are even in the range that a foot symbol leaves, and all of it is left.",
    )
    figures = {"fitted": fitted, "feet": feet, "scenes": len(scenes)}
    return publish(options.json, "box_errors", figures, [table, told], [codec])
