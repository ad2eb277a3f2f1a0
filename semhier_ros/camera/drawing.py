"""Boxes and names drawn on pictures, in the colours of the taxonomy's levels.

Letters are drawn once: what a plate says is pasted from then on, which costs a tenth of drawing it anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.reading import Detection

LEVEL_COLOURS = ("#c2410c", "#1d4ed8", "#047857", "#a16207", "#be185d", "#0e7490")
"""Of level 0, the coarsest, and on."""
RGB = tuple((int(text[1:3], 16), int(text[3:5], 16), int(text[5:], 16)) for text in LEVEL_COLOURS)
WHITE = (255, 255, 255)
FONT, LETTERS = cv2.FONT_HERSHEY_SIMPLEX, 0.42
RIM = 2
"""Pixels of dark around bright letters."""
FARTHEST = 30_000
"""Pixels beyond which OpenCV does not count."""
Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]


def colour_of(found: Detection) -> Colour:
    """RGB of the deepest level that a detection names."""
    return RGB[(len(found.path) - 1) % len(RGB)]


def draw_boxes(picture: Picture, detections: Sequence[Detection], *, scale: float = 1.0, least: float = 0.0) -> Picture:
    """A copy of the picture (H,W,3 uint8 RGB) with boxes and finest names of detections whose finest score is `least`
    or more. scale: the picture's pixels for one of the boxes'."""
    drawn = picture.copy()
    paint_boxes(drawn, detections, scale=scale, least=least)
    return drawn


def paint_boxes(canvas: Picture, detections: Sequence[Detection], *, scale: float = 1.0, least: float = 0.0) -> None:
    """The same on the picture itself: first all boxes, then the names over them."""
    shown = [found for found in detections if found.scores[-1] >= least]
    if not shown:
        return
    boxes = np.array([found.box for found in shown]) * scale
    corners = np.rint(boxes).clip(-FARTHEST, FARTHEST).astype(np.int32)
    colours = [colour_of(found) for found in shown]
    outlines = corners[:, (0, 1, 2, 1, 2, 3, 0, 3)].reshape(-1, 4, 2)
    for colour in dict.fromkeys(colours):
        rows = [row for row, own in enumerate(colours) if own == colour]
        some = outlines if len(rows) == len(shown) else outlines[rows]
        cv2.polylines(canvas, some, True, colour, 2)  # type: ignore[call-overload]
    for found, colour, (left, top, _, _) in zip(shown, colours, corners.tolist(), strict=True):
        plate = _plate(f"{found.names[-1]} {found.scores[-1]:.0%}", colour)
        part, seen = _parts(canvas, plate, left, max(0, top - len(plate) + 1))
        part[:] = seen


def write(canvas: Picture, text: str, place: tuple[int, int]) -> None:
    """White letters on a dark rim, readable on any ground, whose first begins at `place` (x, y of its foot)."""
    letters, shape, rise = _letters(text)
    left, top = place[0] - RIM, place[1] - rise
    part, seen = _parts(canvas, letters, left, top)
    if part.size:
        cv2.copyTo(seen, shape if seen is letters else _parts(canvas, shape, left, top)[1], part)


@lru_cache(maxsize=1024)
def _plate(text: str, colour: Colour) -> Picture:
    """White letters on a plate of that colour."""
    (width, height), _ = cv2.getTextSize(text, FONT, LETTERS, 1)
    plate = np.full((height + 5, width + 5, 3), colour, np.uint8)
    cv2.putText(plate, text, (2, height + 1), FONT, LETTERS, WHITE, 1, cv2.LINE_AA)
    plate.flags.writeable = False
    return plate


@lru_cache(maxsize=1024)
def _letters(text: str) -> tuple[Picture, Picture, int]:
    """Letters with their rim, where these are (H,W uint8, not 0), and the row of their foot. The rim has hard edges, so
    that it covers what is below it and need not be mixed with it."""
    (width, height), deep = cv2.getTextSize(text, FONT, LETTERS, 3)
    rise = height + RIM
    letters = np.zeros((rise + deep + RIM, width + 2 * RIM, 3), np.uint8)
    shape = np.zeros(letters.shape[:2], np.uint8)
    cv2.putText(letters, text, (RIM, rise), FONT, LETTERS, WHITE, 1, cv2.LINE_AA)
    cv2.putText(shape, text, (RIM, rise), FONT, LETTERS, 255, 3, cv2.LINE_8)  # type: ignore[call-overload]
    return letters, shape, rise


def _parts(canvas: Picture, stamp: Picture, left: int, top: int) -> tuple[Picture, Picture]:
    """The part of a canvas that lies below a stamp whose corner lies there, and the part of the stamp that it shows:
    the stamp itself where it shows all of it."""
    height, width = canvas.shape[:2]
    tall, wide = stamp.shape[:2]
    bottom, right = top + tall, left + wide
    if top >= 0 and left >= 0 and bottom <= height and right <= width:
        return canvas[top:bottom, left:right], stamp
    bottom, right, above, before = min(bottom, height), min(right, width), max(top, 0), max(left, 0)
    if bottom <= above or right <= before:
        return canvas[:0, :0], stamp[:0, :0]
    return canvas[above:bottom, before:right], stamp[above - top : bottom - top, before - left : right - left]
