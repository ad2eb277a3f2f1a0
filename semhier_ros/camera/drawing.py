"""Boxes and names drawn on pictures, in the colours of the taxonomy's levels."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.reading import Detection

LEVEL_COLOURS = ("#c2410c", "#1d4ed8", "#047857", "#a16207", "#be185d", "#0e7490")
"""Of level 0, the coarsest, and on."""
WHITE = (255, 255, 255)


def colour_of(found: Detection) -> tuple[int, int, int]:
    """RGB of the deepest level that a detection names."""
    text = LEVEL_COLOURS[(len(found.path) - 1) % len(LEVEL_COLOURS)]
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:], 16)


def draw_boxes(
    picture: NDArray[np.uint8], detections: Sequence[Detection], *, scale: float = 1.0, least: float = 0.0
) -> NDArray[np.uint8]:
    """A copy of the picture (H,W,3 uint8 RGB) with boxes and finest names of detections whose finest score is `least`
    or more. scale: the picture's pixels for one of the boxes'."""
    drawn = picture.copy()
    for found in detections:
        if found.scores[-1] < least:
            continue
        colour = colour_of(found)
        x0, y0, x1, y1 = (round(value * scale) for value in found.box)
        cv2.rectangle(drawn, (x0, y0), (x1, y1), colour, 2)
        text = f"{found.names[-1]} {found.scores[-1]:.0%}"
        (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)
        top = max(0, y0 - height - 4)
        cv2.rectangle(drawn, (x0, top), (x0 + width + 4, top + height + 4), colour, -1)
        place = (x0 + 2, top + height + 1)
        cv2.putText(drawn, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, WHITE, 1, cv2.LINE_AA)
    return drawn
