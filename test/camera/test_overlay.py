"""The overlay: the newest picture or none, boxes over it, and how old both are."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from semhier_ros.camera.drawing import FONT, LETTERS, WHITE, paint_boxes, write
from semhier_ros.camera.overlay import BLANK, WIDEST, Overlay
from semhier_ros.codec.reading import Detection

FOUND = Detection(3, (100.0, 60.0, 180.0, 140.0), (0,), ("vehicle",), (0.8,))


def test_without_a_picture_boxes_stand_on_a_blank_canvas() -> None:
    shown = Overlay().draw((320, 240), [FOUND], age=0.2)
    assert shown.shape == (240, 320, 3)
    assert (shown[100, 50] == BLANK).all()
    assert (shown[100, 100] != BLANK).any()  # the box's left side
    assert (Overlay().draw((320, 240), [], age=0.2)[100, 100] == BLANK).all()


def test_a_picture_is_scaled_to_the_source_and_dimmed_when_it_is_old() -> None:
    picture = np.full((60, 80, 3), 200, np.uint8)
    fresh = Overlay().draw((320, 240), [FOUND], picture=picture, picture_age=0.5, age=0.2)
    old = Overlay().draw((320, 240), [FOUND], picture=picture, picture_age=5.0, age=0.2)
    assert fresh.shape == (240, 320, 3)
    assert (fresh[10, 10] == 200).all()
    assert (old[10, 10] == 110).all()


def test_wide_cameras_are_shown_smaller_and_weak_objects_not_at_all() -> None:
    shown = Overlay().draw((3840, 2160), [FOUND], least=0.9)
    assert shown.shape == (720, WIDEST, 3)
    assert (shown[20:60] == BLANK).all()


def test_notes_stand_below_their_box() -> None:
    plain = Overlay().draw((320, 240), [FOUND])
    noted = Overlay().draw((320, 240), [FOUND], notes={3: "12 m", 99: "nobody"})
    changed = np.flatnonzero((plain != noted).any(axis=(1, 2)))
    assert 140 <= changed.min() <= changed.max() <= 160


def test_what_lies_below_is_made_once_and_never_drawn_on() -> None:
    picture = np.full((60, 80, 3), 200, np.uint8)
    overlay = Overlay()
    first = overlay.draw((320, 240), [FOUND], picture=picture, picture_age=0.5, age=0.2)
    for shown, options in ((first, {"picture_age": 0.5}), (None, {"picture_age": 9.0}), (first, {"picture_age": 0.5})):
        again = overlay.draw((320, 240), [FOUND], picture=picture, age=0.2, **options)
        assert (again == Overlay().draw((320, 240), [FOUND], picture=picture, age=0.2, **options)).all()
        assert shown is None or (again == shown).all()
    assert (picture == 200).all()
    other = overlay.draw((320, 240), [], picture=picture // 2, picture_age=0.5, age=0.2)
    assert (other[100, 100] == 100).all()


@settings(max_examples=200, derandomize=True)
@given(st.tuples(*[st.integers(-400, 800)] * 4), st.integers(1, 60), st.integers(1, 60))
def test_boxes_and_notes_may_stand_partly_or_wholly_outside(
    box: tuple[int, int, int, int], width: int, height: int
) -> None:
    found = dataclasses.replace(FOUND, box=tuple(map(float, box)))
    assert Overlay().draw((width, height), [found], notes={3: "12 m"}).shape == (height, width, 3)


def test_pasted_letters_are_those_that_are_drawn() -> None:
    ground = np.random.default_rng(0).integers(0, 256, (40, 160, 3), np.uint8)
    pasted, drawn = ground.copy(), ground.copy()
    write(pasted, "vehicle, 12 m", (7, 22))
    for colour, thickness, line in (((0, 0, 0), 3, cv2.LINE_8), (WHITE, 1, cv2.LINE_AA)):
        cv2.putText(drawn, "vehicle, 12 m", (7, 22), FONT, LETTERS, colour, thickness, line)
    assert np.abs(pasted.astype(int) - drawn).max() <= 4  # what of a letter shines beyond its rim
    plate, plain = np.zeros((40, 160, 3), np.uint8), np.zeros((40, 160, 3), np.uint8)
    paint_boxes(plate, [dataclasses.replace(FOUND, box=(3.0, 30.0, 90.0, 60.0))])
    cv2.putText(plain, "vehicle 80%", (5, 27), FONT, LETTERS, WHITE, 1, cv2.LINE_AA)
    assert ((plain == 255) <= (plate == 255)).all()
