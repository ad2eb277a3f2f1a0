"""The sender's tracks by compiled kernels, against the NumPy lines that define them, bit for bit."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semhier_ros.lab.made_scenes import drive
from semhier_ros.native import kernels
from semhier_ros.paths import find_model
from semhier_ros.scene import tracks
from semhier_ros.scene.folder import read_scene_folder
from semhier_ros.scene.layout import SceneLayout
from semhier_ros.scene.tracks import TrackRows, Tracks


@pytest.fixture(scope="module")
def layout() -> SceneLayout:
    return read_scene_folder(find_model("road")).stream.layout


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(0, 300))
def test_drives_are_followed_alike(layout: SceneLayout, seed: int, count: int, step: int) -> None:
    compiled, plain = Tracks(), Tracks()
    for number, objects in zip(range(25), drive(layout, seed, count), strict=False):
        found = compiled.update(objects, step * number)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tracks, "kernels", None)
            expected = plain.update(objects, step * number)
        assert found.tolist() == expected.tolist()
        assert compiled.shift.tobytes() == plain.shift.tobytes()
        assert compiled.rows is not None
        assert plain.rows is not None
        for part in fields(TrackRows):
            assert getattr(compiled.rows, part.name).tobytes() == getattr(plain.rows, part.name).tobytes()


def test_arrays_that_do_not_fit_are_refused() -> None:
    assert kernels is not None
    boxes, leaves = np.ones((3, 4)), np.ones((3, 5))
    rows = [getattr(TrackRows.new(0, leaves), part.name) for part in fields(TrackRows)[1:]]
    kernels.see_tracks(*rows, np.arange(3), leaves, boxes, 5)
    for wrong in (
        [*rows, np.array([0, 1, 3]), leaves, boxes, 5],
        [*rows, np.array([0, -1, 2]), leaves, boxes, 5],
        [*rows, np.arange(3), leaves[:, 1:], boxes, 5],
        [*rows, np.arange(3), leaves, boxes[1:], 5],
        [rows[0][:, 1:].copy(), *rows[1:], np.arange(3), leaves, boxes, 5],
        [*rows[:2], rows[2] + 6, *rows[3:], np.arange(3), leaves, boxes, 5],
    ):
        with pytest.raises(ValueError, match=r"expected|track|outside"):
            kernels.see_tracks(*wrong)
    with pytest.raises(TypeError):  # a copy would be written to
        kernels.see_tracks(rows[0].astype(np.int32), *rows[1:], np.arange(3), leaves, boxes, 5)
    times, count, pair = rows[0], np.array([1, 6, 2]), np.zeros((3, 2))
    kernels.tracks_now(times, rows[1], count, pair, np.zeros(2), 5)
    for counted in (count - 1, count + 1, count[1:]):
        with pytest.raises(ValueError, match=r"expected|outside"):
            kernels.tracks_now(times, rows[1], counted, pair, np.zeros(2), 5)
    with pytest.raises(ValueError, match="no box"):
        kernels.common_shift(boxes[:0], boxes[:0])
    with pytest.raises(ValueError, match="expected"):
        kernels.common_shift(boxes, boxes[1:])
    with pytest.raises(ValueError, match="expected"):
        kernels.box_overlaps(boxes, boxes[:, 1:])
