"""JPEG, progressive JPEG, WebP, AVIF and JPEG 2000 by Pillow's encoders (libjpeg-turbo, libwebp, libavif, OpenJPEG);
JPEG XL by libjxl, as imagecodecs (BSD) brings it."""

from __future__ import annotations

import importlib
import io
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from semhier_ros.lab.baselines.still import CutTooShort, Picture, StillCodec

END_OF_JPEG = b"\xff\xd9"
START_OF_DATA, END_OF_CODESTREAM = b"\xff\x93", b"\xff\xd9"  # of JPEG 2000


def save(picture: Picture, kind: str, **options: object) -> bytes:
    """A file of the picture by Pillow."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, **options)
    return file.getvalue()


def load(data: bytes) -> Picture:
    """The picture (H,W,3 uint8 RGB) of a file that Pillow reads."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"), np.uint8)


class PillowCodec(StillCodec):
    """A format of Pillow's: its name there, and what its encoder is told besides the quality."""

    kind: str
    options: Mapping[str, object]

    def encode(self, picture: Picture, quality: float) -> bytes:
        return save(picture, self.kind, quality=int(quality), **self.options)

    def decode(self, data: bytes) -> Picture:
        return load(data)


class Jpeg(PillowCodec):
    """Baseline JPEG, 4:2:0, Huffman tables made for each picture. quality: 1..95."""

    name, kind = "jpeg", "JPEG"
    qualities: tuple[float, ...] = (5, 10, 20, 35, 50, 75)
    options: Mapping[str, object] = {"optimize": True, "subsampling": 2}
    header = "start, JFIF, quantiser tables, frame and scan headers, end; Huffman tables made for a picture do count"

    def header_bytes(self, data: bytes) -> int:
        return sum(length for marker, length in jpeg_segments(data)[0] if marker != 0xC4)


class ProgressiveJpeg(Jpeg):
    """Progressive JPEG, cut after any byte; the decoder paints what the scans so far say."""

    name = "jpeg_progressive"
    qualities: tuple[float, ...] = (20, 50, 75)
    options: Mapping[str, object] = {**Jpeg.options, "progressive": True}
    progressive = True

    def decode(self, data: bytes) -> Picture:
        segments, whole = jpeg_segments(data)
        if 0xDA not in (marker for marker, _ in segments):
            raise CutTooShort(f"{len(data)} bytes end before the first scan of a JPEG")
        try:
            return load(data if data.endswith(END_OF_JPEG) else data[:whole] + END_OF_JPEG)
        except OSError as error:
            raise CutTooShort(f"{len(data)} bytes of a progressive JPEG: {error}") from error


def jpeg_segments(data: bytes) -> tuple[list[tuple[int, int]], int]:
    """(marker, bytes that it takes, marker included) of every whole marker segment of a JPEG file or its front part,
    entropy-coded bytes skipped; and how many bytes remain when a segment that the end cuts off is left out."""
    found: list[tuple[int, int]] = []
    at = 0
    while (at := data.find(b"\xff", at)) >= 0 and at + 1 < len(data):
        marker = data[at + 1]
        if marker == 0 or marker == 0xFF or 0xD0 <= marker <= 0xD7:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in (0xD8, 0xD9):
            length = 2
        elif at + 4 <= len(data):
            length = 2 + struct.unpack_from(">H", data, at + 2)[0]
        else:
            return found, at
        if at + length > len(data):
            return found, at
        found.append((marker, length))
        at += length
    return found, len(data)


class WebP(PillowCodec):
    """Lossy WebP, slowest and best method. quality: 0..100."""

    name, kind = "webp", "WEBP"
    qualities = (0, 5, 15, 30, 50, 75)
    options: Mapping[str, object] = {"method": 6}
    header = "RIFF and chunk headers, start code and size of the VP8 frame: 27 bytes"

    def header_bytes(self, data: bytes) -> int:
        return 27


class Avif(PillowCodec):
    """AVIF by libaom at speed 8 (of 0..10, 10 fastest), 4:2:0. quality: 0..100."""

    name, kind = "avif", "AVIF"
    qualities = (1, 8, 18, 30, 45, 60)
    options: Mapping[str, object] = {"speed": 8, "subsampling": "4:2:0", "max_threads": 1}
    header = "every box but the picture's data (some 270 bytes), and the sequence header in it"

    def header_bytes(self, data: bytes) -> int:
        at, counted = 0, 0
        while at + 8 <= len(data):
            length, kind = struct.unpack_from(">I4s", data, at)
            length = length or len(data) - at
            counted += 8 + sequence_header_bytes(data[at + 8 : at + length]) if kind == b"mdat" else length
            at += max(length, 8)
        return counted


def sequence_header_bytes(units: bytes) -> int:
    """How many of AV1's open bitstream units' bytes are sequence headers and temporal delimiters."""
    at, counted = 0, 0
    while at < len(units):
        kind, extended, sized = units[at] >> 3 & 15, units[at] >> 2 & 1, units[at] >> 1 & 1
        start = at + 1 + extended
        length, shift = (0, 0) if sized else (len(units) - start, 0)
        while sized and start < len(units):
            length |= (units[start] & 127) << shift
            shift += 7
            start += 1
            if not units[start - 1] & 128:
                break
        if kind in (1, 2):
            counted += start + length - at
        at = start + length
    return counted


class Jpeg2000(StillCodec):
    """JPEG 2000, raw codestream, 9/7 wavelet. quality: the negative of how many times smaller than the raw picture its
    file is to be, so that more is better. A file is what a progressive one that is cut there holds, and no worse."""

    name = "jpeg2000"
    qualities = (-1000, -550, -300, -165, -90, -50, -25)
    header = "main header, tile header and end: both sides of a deployment agree on them"

    def encode(self, picture: Picture, quality: float) -> bytes:
        resolutions = max(1, min(6, min(picture.shape[:2]).bit_length() - 3))
        sized = {"quality_mode": "rates", "quality_layers": [-quality], "num_resolutions": resolutions}
        return save(picture, "JPEG2000", no_jp2=True, irreversible=True, mct=1, **sized)

    def decode(self, data: bytes) -> Picture:
        return load(data)

    def header_bytes(self, data: bytes) -> int:
        return data.index(START_OF_DATA) + len(START_OF_DATA) + len(END_OF_CODESTREAM)


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
