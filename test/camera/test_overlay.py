"""The overlay: the newest picture or none, boxes over it, and how old both are."""

from __future__ import annotations

import numpy as np

from semhier_ros.camera.overlay import BLANK, WIDEST, draw_overlay
from semhier_ros.codec.reading import Detection

FOUND = Detection(3, (100.0, 60.0, 180.0, 140.0), (0,), ("vehicle",), (0.8,))


def test_without_a_picture_boxes_stand_on_a_blank_canvas() -> None:
    shown = draw_overlay((320, 240), [FOUND], age=0.2)
    assert shown.shape == (240, 320, 3)
    assert (shown[100, 50] == BLANK).all()
    assert (shown[100, 100] != BLANK).any()  # the box's left side
    assert (draw_overlay((320, 240), [], age=0.2)[100, 100] == BLANK).all()


def test_a_picture_is_scaled_to_the_source_and_dimmed_when_it_is_old() -> None:
    picture = np.full((60, 80, 3), 200, np.uint8)
    fresh = draw_overlay((320, 240), [FOUND], picture=picture, picture_age=0.5, age=0.2)
    old = draw_overlay((320, 240), [FOUND], picture=picture, picture_age=5.0, age=0.2)
    assert fresh.shape == (240, 320, 3)
    assert (fresh[10, 10] == 200).all()
    assert (old[10, 10] == 110).all()


def test_wide_cameras_are_shown_smaller_and_weak_objects_not_at_all() -> None:
    shown = draw_overlay((3840, 2160), [FOUND], least=0.9)
    assert shown.shape == (720, WIDEST, 3)
    assert (shown[20:60] == BLANK).all()


def test_notes_stand_below_their_box() -> None:
    plain = draw_overlay((320, 240), [FOUND])
    noted = draw_overlay((320, 240), [FOUND], notes={3: "12 m", 99: "nobody"})
    changed = np.flatnonzero((plain != noted).any(axis=(1, 2)))
    assert 140 <= changed.min() <= changed.max() <= 160
