"""What a person at the base looks at: the newest picture with what is known now drawn on it, and how old each is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from semhier_ros.camera.drawing import paint_boxes, write
from semhier_ros.codec.reading import Detection

BLANK = 40
WIDEST = 1280
DIM = 0.55
"""What is left of a picture's brightness once it is much older than the boxes on it."""


class Overlay:
    """Draws one camera's overlays. What lies below the boxes is made once for each picture, and dimmed once.

    Use from one thread at a time.
    """

    def __init__(self) -> None:
        self._ground: NDArray[np.uint8] | None = None
        self._made_of: tuple[NDArray[np.uint8] | None, tuple[int, int], bool] = (None, (0, 0), False)

    def draw(
        self,
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

        detections: boxes in pixels of `size`, those whose finest score is `least` or more are drawn. picture: the
        newest (None: a blank canvas), which must not change afterwards; picture_age, age: seconds since picture and
        boxes were seen. notes: by detection id, what else to write below its box, such as its distance.
        """
        scale = min(1.0, WIDEST / size[0])
        old = picture is not None and picture_age is not None and picture_age - age > 1.0
        small = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
        if picture is None:
            canvas = np.full((small[1], small[0], 3), BLANK, np.uint8)
        else:
            canvas = self._below(picture, small, old).copy()
        shown = [found for found in detections if found.path and found.scores]
        paint_boxes(canvas, shown, scale=scale, least=least)
        for found in shown:
            if notes and found.id in notes and found.scores[-1] >= least:
                x, y = round(found.box[0] * scale), min(small[1] - 3, round(found.box[3] * scale) + 12)
                write(canvas, notes[found.id], (x, y))
        said = f"boxes {age:.1f} s old"
        said += "; no picture" if picture is None else f"; picture {picture_age or 0.0:.1f} s old"
        write(canvas, said, (4, small[1] - 6))
        return canvas

    def _below(self, picture: NDArray[np.uint8], size: tuple[int, int], old: bool) -> NDArray[np.uint8]:
        """The picture at that size (width, height), dimmed if it is old."""
        before, before_size, before_old = self._made_of
        if self._ground is not None and before is picture and (before_size, before_old) == (size, old):
            return self._ground
        ground = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
        if old:
            ground = np.rint(ground * DIM).astype(np.uint8)
        self._ground, self._made_of = ground, (picture, size, old)
        return ground
