"""What a finished detector finds in labelled scenes: the rows that teach the object codec and fill the tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from semhier_ros.scene.backend import OpenVinoBackend
from semhier_ros.scene.layout import FRACTION, SceneLayout, restore_boxes
from semhier_ros.scene.objects import Objects, evidence, find_objects
from semhier_ros.scene.stream import SceneStream
from semhier_ros.training.matching import Matched, match, named_code
from semhier_ros.training.object_codec import Rows
from semhier_ros.training.road_data import CANVAS, ENLARGED, PADDING, Scenes

VARIANTS = ((1.0, False), (1.0, True), (0.75, False))  # scale and flip of the scenes that teach the object codec
OBJECT_FIELDS = ("cells", "boxes", "objectness", "leaves", "features")
LABEL_FIELDS = ("truth", "wanted")


def canvases(scenes: Scenes, scale: float, flip: bool) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Each scene at `scale` on the network's canvas, and its labels in canvas pixels."""
    scale *= ENLARGED
    for row in range(len(scenes)):
        width, height = scenes.sizes[row]
        picture = scenes.pixels[row, :height, :width]
        labels = scenes.boxes[row].copy()
        if flip:
            picture = picture[:, ::-1]
            labels[:, [1, 3]] = width - labels[:, [3, 1]]
        if scale != 1.0:
            size = (int(width * scale), int(height * scale))
            method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            picture = cv2.resize(np.ascontiguousarray(picture), size, interpolation=method)
            labels[:, 1:] *= scale
        canvas = np.full((CANVAS[1], CANVAS[0], 3), PADDING, np.uint8)
        canvas[: picture.shape[0], : picture.shape[1]] = picture
        yield canvas, labels


def collect(
    backend: OpenVinoBackend,
    scenes: Scenes,
    layout: SceneLayout,
    variants: tuple[tuple[float, bool], ...],
    least: float,
) -> list[Matched]:
    """Objects found in every scene and variant, each with its label."""
    found = []
    for scale, flip in variants:
        for canvas, labels in tqdm(
            canvases(scenes, scale, flip), total=len(scenes), desc=f"detect x{scale} {flip=}", mininterval=5
        ):
            objects = find_objects(backend.detect(canvas), least, layout.max_objects)
            found.append(match(objects, labels, layout.stride))
    return found


def remembered(
    path: Path, backend: OpenVinoBackend, scenes: Scenes, layout: SceneLayout, least: float
) -> list[Matched]:
    """`collect` over all VARIANTS, kept in `path`, whose name has to change with the detector."""
    if not path.exists():
        found = collect(backend, scenes, layout, VARIANTS, least)
        columns = {field: [getattr(scene.objects, field) for scene in found] for field in OBJECT_FIELDS}
        columns |= {field: [getattr(scene, field) for scene in found] for field in LABEL_FIELDS}
        counts = [len(scene.objects) for scene in found]
        np.savez(path, counts=counts, **{field: np.concatenate(parts) for field, parts in columns.items()})
    with np.load(path, allow_pickle=False) as stored:
        ends = np.cumsum(stored["counts"])[:-1]
        parts = [np.split(stored[field], ends) for field in (*OBJECT_FIELDS, *LABEL_FIELDS)]
    return [Matched(Objects(*own), truth, wanted) for *own, truth, wanted in zip(*parts, strict=True)]


def make_rows(stream: SceneStream, found: list[Matched], mean: NDArray, scale: NDArray) -> Rows:
    """Training rows of the object codec."""
    parts: list[tuple[NDArray, ...]] = []
    for objects, truth, wanted in found:
        if not len(objects):
            continue
        code = named_code(stream.layout, objects, stream.levels)
        known = evidence(stream.layout, objects, code, mean, scale)
        told = stream.told(code, stream.levels - 1) / FRACTION
        features = (objects.features - mean) / scale
        boxes = restore_boxes(stream.layout, code.cells, code.sizes, code.offsets)
        correction = np.concatenate(
            [(wanted[:, :2] - boxes[:, :2]) / boxes[:, 2:], np.log(wanted[:, 2:] / boxes[:, 2:])], axis=1
        )
        parts.append((told, known, objects.leaves, truth, features, 4 * correction.clip(-1, 1)))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return Rows(*(column if column.dtype == np.int64 else column.astype(np.float32) for column in columns))
