"""What a person at the base looks at: the newest picture with what is known now drawn on it, and how old each is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from semhier_ros.camera.drawing import WHITE, draw_boxes
from semhier_ros.codec.reading import Detection

BLANK = 40
WIDEST = 1280
DIM = 0.55
"""What is left of a picture's brightness once it is much older than the boxes on it."""


def draw_overlay(
    size: tuple[int, int],
    detections: Sequence[Detection],
    *,
    picture: NDArray[np.uint8] | None = None,
    picture_age: float | None = None,
    age: float = 0.0,
    least: float = 0.0,
    notes: Mapping[int, str] | None = None,
) -> NDArray[np.uint8]:
    """An RGB picture (H,W,3 uint8) of `size` (width, height), at most 1280 wide, with boxes, names and ages.

    detections: boxes in pixels of `size`, those whose finest score is `least` or more are drawn. picture: the newest
    (None: a blank canvas); picture_age, age: seconds since picture and boxes were seen. notes: by detection id, what
    else to write below its box, such as its distance.
    """
    scale = min(1.0, WIDEST / size[0])
    width, height = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    if picture is None:
        canvas = np.full((height, width, 3), BLANK, np.uint8)
    else:
        canvas = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        if picture_age is not None and picture_age - age > 1.0:
            canvas = np.rint(canvas * DIM).astype(np.uint8)
    shown = [found for found in detections if found.path and found.scores]
    canvas = draw_boxes(canvas, shown, scale=scale, least=least)
    for found in shown:
        if notes and found.id in notes and found.scores[-1] >= least:
            x, y = round(found.box[0] * scale), min(height - 3, round(found.box[3] * scale) + 12)
            _write(canvas, notes[found.id], (x, y))
    said = f"boxes {age:.1f} s old"
    said += "; no picture" if picture is None else f"; picture {picture_age or 0.0:.1f} s old"
    _write(canvas, said, (4, height - 6))
    return canvas


def _write(canvas: NDArray[np.uint8], text: str, place: tuple[int, int]) -> None:
    """White letters on a dark rim, readable on any ground."""
    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, WHITE, 1, cv2.LINE_AA)
