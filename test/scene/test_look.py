"""A detector of ours that looks closer than the stream's canvas: what it finds is told on the canvas."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from street import street_frames

from semhier_ros import Codec
from semhier_ros.codec.canvas import Canvas
from semhier_ros.codec.model_folder import ModelError
from semhier_ros.paths import find_model
from semhier_ros.scene.budget import overlaps
from semhier_ros.scene.detectors.objects import rescaled
from semhier_ros.scene.folder import read_scene_folder
from semhier_ros.scene.layout import SceneLayout
from semhier_ros.scene.objects import Objects

LAYOUT: SceneLayout = read_scene_folder(find_model("street")).stream.layout


def objects_at(middles: np.ndarray, scores: np.ndarray) -> Objects:
    """Objects of 6x8 cells at middles n,2, numbered by their first feature."""
    count = len(middles)
    boxes = np.concatenate([middles, np.tile([6.0, 8.0], (count, 1))], axis=1).astype(np.float32)
    features = np.arange(count, dtype=np.float32)[:, None]
    leaves = np.zeros((count, 3), np.float32)
    return Objects(np.arange(count, dtype=np.int32), boxes, scores.astype(np.float32), leaves, features)


@given(st.lists(st.tuples(st.floats(0, 135), st.floats(0, 79), st.floats(0.1, 1)), max_size=12))
def test_objects_of_finer_cells_get_cells_of_their_own_in_raster_order(rows: list[tuple[float, float, float]]) -> None:
    table = np.array(rows, np.float64).reshape(-1, 3)
    found = rescaled(LAYOUT, objects_at(table[:, :2], table[:, 2]), 800 / 1088)
    assert len(found) <= len(table)
    assert (np.diff(found.cells) > 0).all()
    for box, score, number in zip(found.boxes, found.objectness, found.features[:, 0].astype(int), strict=True):
        assert np.allclose(box, np.array([*table[number, :2], 6, 8]) * 800 / 1088, rtol=1e-5)
        assert score == pytest.approx(table[number, 2])


def test_of_two_in_one_cell_the_stronger_keeps_it() -> None:
    found = rescaled(LAYOUT, objects_at(np.array([[50.0, 40.0], [50.2, 40.1]]), np.array([0.3, 0.8])), 0.5)
    stronger = int(found.features[:, 0].argmax())
    assert len(found) == 2
    assert found.cells[stronger] == 20 * LAYOUT.columns + 25
    assert found.cells[1 - stronger] != found.cells[stronger]


def test_what_a_closer_look_finds_is_where_the_detector_said() -> None:
    codec = Codec.load("street", "cpu", threads=1)
    model: Any = codec.model
    assert model.folder.look == (1088, 640)
    assert model.view_size == (800, 480)
    picture = street_frames()[0]
    size = (picture.shape[1], picture.shape[0])
    seen = model.finder.look(picture)
    objects = model.finder.objects(seen, size, 0.2, 63)
    assert len(objects) > 3
    listed = model.finder.listed(seen, size, 0.2, 63)
    half = objects.boxes[:, 2:] / 2
    corners = np.concatenate([objects.boxes[:, :2] - half, objects.boxes[:, :2] + half], axis=1)
    told = Canvas(*model.view_size, source=size).to_source(corners * LAYOUT.stride)
    distance = np.abs(told[:, None] - listed.boxes[None]).max(axis=2).min(axis=1)
    assert distance.max() < 0.1, "pixels of the source"


def test_in_integers_it_finds_nearly_the_same() -> None:
    floats, integers = (Codec.load("street", "cpu", threads=1, precision=own) for own in ("f32", "auto"))
    both = agreed = 0
    for picture in street_frames()[::6]:
        one, other = (codec.model.find(picture).boxes for codec in (floats, integers))  # type: ignore[attr-defined]
        both += max(len(one), len(other))
        agreed += int((overlaps(one, other).max(axis=1, initial=0.0) >= 0.5).sum())
    assert agreed > 0.8 * both > 0


@pytest.mark.parametrize("look", [[1000, 640], [0, 640], [8192, 640], [1088], [1088.5, 640]])
def test_a_look_that_no_network_takes_is_refused_by_name(tmp_path: Path, look: list[float]) -> None:
    folder = tmp_path / "street"
    shutil.copytree(find_model("street"), folder)
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(card | {"look": look}))
    with pytest.raises(ModelError, match=r"model.json: look: .*multiples of 32"):
        read_scene_folder(folder)


def test_a_folder_that_says_no_look_looks_at_its_canvas() -> None:
    folder = read_scene_folder(find_model("road"))
    assert folder.look == folder.canvas
    assert replace(folder, look=(1088, 640)).stream_hash == folder.stream_hash
