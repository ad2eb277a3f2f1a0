"""JPEG XL by libjxl, as imagecodecs (BSD) brings it."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from semhier_ros.lab.baselines.still import Picture, StillCodec


class JpegXl(StillCodec):
    """JPEG XL, bare codestream, effort 5. quality: the negative of libjxl's distance, so that more is better
    (-25 worst … 0 none lost)."""

    name = "jpegxl"
    qualities = (-25, -15, -8, -4, -2)
    header = "signature and picture size: 7 bytes"

    def __init__(self) -> None:
        self._library: Any = importlib.import_module("imagecodecs")

    def encode(self, picture: Picture, quality: float) -> bytes:
        told = {"distance": -quality, "effort": 5, "usecontainer": False, "numthreads": 1}
        return bytes(self._library.jpegxl_encode(picture, **told))

    def decode(self, data: bytes) -> Picture:
        return np.asarray(self._library.jpegxl_decode(data, numthreads=1), np.uint8)

    def header_bytes(self, data: bytes) -> int:
        return 7
