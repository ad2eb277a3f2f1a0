"""What a finished detector finds in labelled scenes: the rows that teach the object codec and fill the tables."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from semhier_ros.scene.finders import OwnFinder
from semhier_ros.scene.layout import FRACTION, SceneLayout, restore_boxes
from semhier_ros.scene.objects import Objects, evidence
from semhier_ros.scene.stream import SceneStream
from semhier_ros.training.matching import Matched, match, named_code
from semhier_ros.training.object_codec import Rows
from semhier_ros.training.packed import fingerprint
from semhier_ros.training.road_data import Scenes, as_picture
from semhier_ros.whole_file import replacing

VARIANTS = ((1.0, False), (1.0, True), (0.75, False))  # scale and flip of the scenes that teach the object codec
OBJECT_FIELDS = ("cells", "boxes", "objectness", "leaves", "features")
LABEL_FIELDS = ("truth", "wanted")
SURE_OF = ("labels", "detector")
"""Whose word on an object readers learn to be sure of: whether a label of the training pictures is there, or the
detector's own objectness. A detector is right more often in pictures that it has learned from than in others."""


def collect(
    finder: OwnFinder,
    scenes: Scenes,
    layout: SceneLayout,
    variants: tuple[tuple[float, bool], ...],
    least: float,
) -> list[Matched]:
    """Objects found in every scene and variant, each with its label, as the encoder would find them."""
    found = []
    for scale, flip in variants:
        for row in tqdm(range(len(scenes)), desc=f"detect x{scale} {flip=}", mininterval=5):
            picture, labels = as_picture(scenes, row, scale, flip)
            size = (picture.shape[1], picture.shape[0])
            objects = finder.objects(finder.look(picture), size, least, layout.max_objects)
            found.append(match(objects, labels, layout.stride))
    return found


def remembered(
    folder: Path, graph: Path, finder: OwnFinder, scenes: Scenes, layout: SceneLayout, least: float
) -> list[Matched]:
    """`collect` over all VARIANTS, kept in `folder` under a key of all that it depends on: the detector's `graph`,
    looks and agreement, the scenes and their labels, the variants, the least objectness, and what of the layout gives
    each object its cell."""
    made_of = {
        "detector": hashlib.sha256(graph.read_bytes()).hexdigest(),
        "looks": [str(look) for look in finder.looks],
        "agreement": finder.agreement,
        "scenes": scenes.key,
        "labels": [boxes.tolist() for boxes in scenes.boxes],
        "variants": VARIANTS,
        "least": least,
        "most": layout.max_objects,
        "cells": (layout.columns, layout.rows, layout.stride),
        "sizes": (layout.size_low, layout.size_step, layout.size_levels),
        "offsets": (layout.offset_step, layout.offset_levels),
    }
    path = folder / f"objects-{fingerprint(made_of)}.npz"
    if not path.exists():
        found = collect(finder, scenes, layout, VARIANTS, least)
        columns = {field: [getattr(scene.objects, field) for scene in found] for field in OBJECT_FIELDS}
        columns |= {field: [getattr(scene, field) for scene in found] for field in LABEL_FIELDS}
        counts = [len(scene.objects) for scene in found]
        with replacing(path) as part, part.open("wb") as file:
            np.savez(file, counts=counts, **{field: np.concatenate(parts) for field, parts in columns.items()})
    with np.load(path, allow_pickle=False) as stored:
        ends = np.cumsum(stored["counts"])[:-1]
        parts = [np.split(stored[field], ends) for field in (*OBJECT_FIELDS, *LABEL_FIELDS)]
    return [Matched(Objects(*own), truth, wanted) for *own, truth, wanted in zip(*parts, strict=True)]


def make_rows(
    stream: SceneStream, found: list[Matched], mean: NDArray, scale: NDArray, sure_of: str = SURE_OF[0]
) -> Rows:
    """Training rows of the object codec; `sure_of`: one of SURE_OF."""
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
        sure = objects.objectness if sure_of == "detector" else (truth >= 0).astype(np.float32)
        parts.append((told, known, objects.leaves, truth, sure, features, 4 * correction.clip(-1, 1)))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return Rows(*(column if column.dtype == np.int64 else column.astype(np.float32) for column in columns))
