"""What a finished detector finds in labelled scenes: the rows that teach the object codec and fill the tables."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from semhier_ros.scene.finders import OwnFinder
from semhier_ros.scene.layout import FRACTION, SceneLayout, restore_boxes
from semhier_ros.scene.objects import Objects, evidence
from semhier_ros.scene.stream import SceneStream
from semhier_ros.training.errors import TrainingError
from semhier_ros.training.matching import Matched, match, named_code
from semhier_ros.training.object_codec import Rows
from semhier_ros.training.packed import fingerprint
from semhier_ros.training.road_data import Scenes, as_picture, told_on_canvas
from semhier_ros.training.teachers import inside_share
from semhier_ros.whole_file import replacing

VARIANTS = ("1", "1-mirrored", "0.75")
"""How scenes that teach the object codec are shown to the detector: the scale, and whether mirrored."""
OBJECT_FIELDS = ("cells", "boxes", "objectness", "leaves", "features")
LABEL_FIELDS = ("truth", "wanted")
MOSTLY = 0.5  # share of a box inside an ignored region from which it is there


def read_variant(text: str) -> tuple[float, bool]:
    """Scale and whether mirrored, of a text as in VARIANTS.

    Raises:
        TrainingError: another text.
    """
    found = re.fullmatch(r"(\d*\.?\d+)(-mirrored)?", text)
    if not found or not 0.1 <= float(found[1]) <= 2:
        raise TrainingError(f"variants: {text!r}: a scale of 0.1 to 2 wanted, such as 0.75 or 1-mirrored")
    return float(found[1]), found[2] is not None


def collect(
    finder: OwnFinder,
    scenes: Scenes,
    layout: SceneLayout,
    variants: tuple[tuple[float, bool], ...],
    least: float,
) -> list[Matched]:
    """Objects found in every scene and variant, each with its label, as the encoder would find them. What is found
    mostly inside an ignored region and has no label is left out: nobody knows whether it is right."""
    found = []
    for scale, flip in variants:
        for row in tqdm(range(len(scenes)), desc=f"detect x{scale} {flip=}", mininterval=5):
            picture, labels = as_picture(scenes, row, scale, flip)
            size = (picture.shape[1], picture.shape[0])
            objects = finder.objects(finder.look(picture), size, least, layout.max_objects)
            matched = match(objects, labels, layout.stride)
            if len(scenes.ignored):
                size = tuple(scenes.sizes[row].tolist())
                regions = told_on_canvas(scenes.ignored[row], size, scale, flip)
                matched = without_ignored(matched, regions, layout.stride)
            found.append(matched)
    return found


def without_ignored(found: Matched, ignored: NDArray[np.float32], stride: int) -> Matched:
    """The objects that have a label or lie mostly outside each of the regions `ignored` (rows as of labels)."""
    middle, half = found.objects.boxes[:, :2] * stride, found.objects.boxes[:, 2:] * stride / 2
    inside = inside_share(np.concatenate([middle - half, middle + half], axis=1), ignored[:, 1:])
    kept = np.flatnonzero((found.truth >= 0) | (inside.max(axis=1, initial=0.0) <= MOSTLY))
    return Matched(found.objects.take(kept), found.truth[kept], found.wanted[kept])


def remembered(
    folder: Path,
    graph: Path,
    finder: OwnFinder,
    scenes: Scenes,
    layout: SceneLayout,
    least: float,
    variants: Sequence[str] = VARIANTS,
) -> list[Matched]:
    """`collect` over all variants, kept in `folder` under a key of all that it depends on: the detector's `graph`,
    looks and agreement, the scenes and their labels, the variants, the least objectness, and what of the layout gives
    each object its cell."""
    made_of = {
        "detector": hashlib.sha256(graph.read_bytes()).hexdigest(),
        "looks": [str(look) for look in finder.looks],
        "agreement": finder.agreement,
        "scenes": scenes.key,
        "labels": [boxes.tolist() for boxes in scenes.boxes],
        "variants": list(variants),
        "least": least,
        "most": layout.max_objects,
        "cells": (layout.columns, layout.rows, layout.stride),
        "sizes": (layout.size_low, layout.size_step, layout.size_levels),
        "offsets": (layout.offset_step, layout.offset_levels),
    }
    if any(len(regions) for regions in scenes.ignored):
        made_of["ignored"] = [regions.tolist() for regions in scenes.ignored]
    path = folder / f"objects-{fingerprint(made_of)}.npz"
    if not path.exists():
        found = collect(finder, scenes, layout, tuple(map(read_variant, variants)), least)
        columns = {field: [getattr(scene.objects, field) for scene in found] for field in OBJECT_FIELDS}
        columns |= {field: [getattr(scene, field) for scene in found] for field in LABEL_FIELDS}
        counts = [len(scene.objects) for scene in found]
        with replacing(path) as part, part.open("wb") as file:
            np.savez(file, counts=counts, **{field: np.concatenate(parts) for field, parts in columns.items()})
    with np.load(path, allow_pickle=False) as stored:
        ends = np.cumsum(stored["counts"])[:-1]
        parts = [np.split(stored[field], ends) for field in (*OBJECT_FIELDS, *LABEL_FIELDS)]
    return [Matched(Objects(*own), truth, wanted) for *own, truth, wanted in zip(*parts, strict=True)]


def make_rows(stream: SceneStream, found: list[Matched], mean: NDArray, scale: NDArray, trust: float = 0.0) -> Rows:
    """Training rows of the object codec.

    trust: how much the detector's own objectness counts in what the reader of block 0 learns to be sure of;
    what is left to 1 counts whether there is a label. A detector is right more often in pictures that it has learned
    from than in others, so that labels of these alone teach readers too much.
    """
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
        sure = trust * objects.objectness + (1 - trust) * (truth >= 0)
        parts.append((told, known, objects.leaves, truth, sure, features, 4 * correction.clip(-1, 1)))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return Rows(*(column if column.dtype == np.int64 else column.astype(np.float32) for column in columns))
