"""Between a camera's picture and the network's canvas: scale to fit, pad at the right and bottom, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

PADDING = 114
MAX_SIDE, MAX_PIXELS = 16_384, 1 << 26
"""Of a picture that is encoded or painted: what is said of its size alone must not allocate gigabytes."""


class Lift(NamedTuple):
    """From a canvas to a picture: what lies on `used` (w, h) pixels at its top left, scaled to `size` (w, h) pixels."""

    used: tuple[int, int]
    size: tuple[int, int]

    def __call__(self, canvas: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture from a canvas (height,width,3)."""
        width, height = self.used
        part = canvas[:height, :width]
        if self.used == self.size:
            return part
        return np.asarray(cv2.resize(part, self.size, interpolation=cv2.INTER_CUBIC), np.uint8)


@dataclass(frozen=True, slots=True)
class Canvas:
    """A canvas of `width` x `height` pixels holding a picture of `source` (w, h) pixels in its top left corner."""

    width: int
    height: int
    source: tuple[int, int]

    @property
    def scale(self) -> float:
        """Canvas pixels per source pixel."""
        return min(self.width / self.source[0], self.height / self.source[1])

    @property
    def used(self) -> tuple[int, int]:
        """Width and height of the canvas part that the picture covers, in pixels."""
        width, height = self.source
        return max(1, min(self.width, round(width * self.scale))), max(1, min(self.height, round(height * self.scale)))

    def place(self, image: NDArray[np.uint8], smooth: bool = True) -> NDArray[np.uint8]:
        """The picture (H,W,3 uint8 of the source size) on its canvas (height,width,3). Not smooth: where it shrinks to
        no less than two thirds, a pixel is made of the four nearest, as where it grows, and not of all that it covers;
        in less time."""
        width, height = self.used
        placed = np.full((self.height, self.width, 3), PADDING, np.uint8)
        if (width, height) == self.source:
            placed[:height, :width] = image
        else:
            shrinks = self.scale < (1.0 if smooth else 2 / 3)
            method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            placed[:height, :width] = cv2.resize(image, (width, height), interpolation=method)
        return placed

    @property
    def lift(self) -> Lift:
        """The way back, from a canvas to the picture of source size."""
        return Lift(self.used, self.source)

    def to_source(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes n,4 (x0, y0, x1, y1) from canvas pixels to source pixels, clipped to the source picture."""
        limit = np.array([*self.source, *self.source], np.float32)
        placed = boxes / np.float32(self.scale)
        np.maximum(placed, 0, out=placed)
        return np.minimum(placed, limit, out=placed)


def size_problem(width: int, height: int) -> str | None:
    """What is wrong with a picture's size, with the allowed range; None where it may be encoded and painted."""
    if all(1 <= side <= MAX_SIDE for side in (width, height)) and width * height <= MAX_PIXELS:
        return None
    return f"{width}x{height}, expected sides of 1..{MAX_SIDE} pixels, {MAX_PIXELS:,} in all"


def check_picture(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture as an H,W,3 uint8 array.

    Raises:
        ValueError: another shape or type, or too large (`size_problem`); the message names the value and the range.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image: H,W,3 of uint8 RGB wanted, got shape {image.shape} of {image.dtype}")
    if wrong := size_problem(image.shape[1], image.shape[0]):
        raise ValueError(f"image: {wrong}")
    return image
