"""The square view of a picture that a whole-image model sees: its centre, scaled to the network's side."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SHARE = 0.875  # of the shorter side, as EfficientNet's own evaluation crops 224 of 256 pixels


def square_view(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The centre of `image` (H,W,3 uint8) as side,side,3: a square of 7/8 of its shorter side, at least one pixel."""
    height, width = image.shape[:2]
    length = max(1, round(SHARE * min(height, width)))
    top, left = (height - length) // 2, (width - length) // 2
    return scaled(image[top : top + length, left : left + length], side)


def scaled(part: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A rectangle of a picture as side,side,3; area averages where it shrinks to half or less, else cubic."""
    if part.shape[:2] == (side, side):
        return np.ascontiguousarray(part)
    shrink = min(part.shape[:2]) >= 2 * side
    method = cv2.INTER_AREA if shrink else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(np.ascontiguousarray(part), (side, side), interpolation=method), np.uint8)
