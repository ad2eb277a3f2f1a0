"""Any common camera image as 8-bit RGB.

OpenCV does the colours directly: the cv_bridge on PyPI knows neither mono16, bayer_grbg8 nor yuv422 and ignores row
padding, and a normal ROS 2 installation's gives the same values for the encodings that both know (tested).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.canvas import MAX_SIDE


class ImageError(ValueError):
    """An image message that cannot be read; the message names field, value and what was expected."""


@dataclass(frozen=True, slots=True)
class _Layout:
    channels: int
    wide: bool
    conversion: int | None


_LAYOUTS: dict[str, _Layout] = {
    "rgb8": _Layout(3, False, None),
    "bgr8": _Layout(3, False, cv2.COLOR_BGR2RGB),
    "rgba8": _Layout(4, False, cv2.COLOR_RGBA2RGB),
    "bgra8": _Layout(4, False, cv2.COLOR_BGRA2RGB),
    "mono8": _Layout(1, False, cv2.COLOR_GRAY2RGB),
    "8UC1": _Layout(1, False, cv2.COLOR_GRAY2RGB),
    "8UC3": _Layout(3, False, cv2.COLOR_BGR2RGB),
    "8UC4": _Layout(4, False, cv2.COLOR_BGRA2RGB),
    "rgb16": _Layout(3, True, None),
    "bgr16": _Layout(3, True, cv2.COLOR_BGR2RGB),
    "rgba16": _Layout(4, True, cv2.COLOR_RGBA2RGB),
    "bgra16": _Layout(4, True, cv2.COLOR_BGRA2RGB),
    "mono16": _Layout(1, True, cv2.COLOR_GRAY2RGB),
    "16UC1": _Layout(1, True, cv2.COLOR_GRAY2RGB),
    "16UC3": _Layout(3, True, cv2.COLOR_BGR2RGB),
    "uyvy": _Layout(2, False, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422": _Layout(2, False, cv2.COLOR_YUV2RGB_UYVY),
    "yuyv": _Layout(2, False, cv2.COLOR_YUV2RGB_YUY2),
    "yuv422_yuy2": _Layout(2, False, cv2.COLOR_YUV2RGB_YUY2),
}
# OpenCV names a Bayer pattern by its second row, ROS by its first: rggb is OpenCV's BG.
for _ros, _opencv in (
    ("rggb", cv2.COLOR_BayerBG2RGB),
    ("bggr", cv2.COLOR_BayerRG2RGB),
    ("gbrg", cv2.COLOR_BayerGR2RGB),
    ("grbg", cv2.COLOR_BayerGB2RGB),
):
    _LAYOUTS[f"bayer_{_ros}8"] = _Layout(1, False, _opencv)
    _LAYOUTS[f"bayer_{_ros}16"] = _Layout(1, True, _opencv)

_PLANAR = {"nv12": cv2.COLOR_YUV2RGB_NV12, "nv21": cv2.COLOR_YUV2RGB_NV21}
"""4:2:0: a plane of luma, then one of half the height with the chroma pairs. Both sides are even."""

ENCODINGS = (*_LAYOUTS, *_PLANAR)
"""The encodings that `image_to_rgb` reads."""

TWELVE_BITS = 1 << 12


def is_dim(message: Any) -> bool:
    """Whether a 16-bit image uses its low 12 bits only, as drivers of 10- and 12-bit cameras write them.

    Read as 16 bits it is nearly black. Nothing is scaled, for a dark night looks the same; who reads it should be told.
    """
    if hasattr(message, "format"):  # a CompressedImage: PNG and TIFF have 16 bits, JPEG never
        data = bytes(message.data)
        if data.startswith(b"\xff\xd8") or "16" not in message.format:
            return False
        try:
            return file_to_rgb(data, turned=False)[1]
        except ImageError:
            return False
    layout = _LAYOUTS.get(message.encoding)
    if layout is None or not layout.wide:
        return False
    values = np.frombuffer(message.data, ">u2" if message.is_bigendian else "<u2", len(message.data) // 2)
    return bool(values.size) and 0 < int(values.max()) < TWELVE_BITS


def image_to_rgb(message: Any) -> NDArray[np.uint8]:
    """A `sensor_msgs/Image` as (height, width, 3) uint8 RGB; 16-bit values keep their high byte.

    Row padding (`step`) and byte order are honoured, odd sizes too (of a 4:2:2 image with odd width the last column
    has no chroma of its own and takes its neighbour's). Raises ImageError naming the field that is wrong.
    """
    layout = _LAYOUTS.get(message.encoding)
    if layout is None and message.encoding not in _PLANAR:
        raise ImageError(f"encoding: {message.encoding!r}, expected one of {', '.join(ENCODINGS)}")
    height, width = int(message.height), int(message.width)
    for name, value in (("height", height), ("width", width)):
        if not 1 <= value <= MAX_SIDE:
            raise ImageError(f"{name}: {value}, expected 1 to {MAX_SIDE}")
    if layout is None:
        return _planar(message, height, width)
    row = width * layout.channels * (2 if layout.wide else 1)
    step = int(message.step) or row
    if step < row:
        raise ImageError(f"step: {step}, expected at least {row} ({width} pixels of {message.encoding})")
    data = np.frombuffer(message.data, np.uint8)
    if data.size < step * (height - 1) + row:
        raise ImageError(f"data: {data.size} bytes, expected {step * height} ({height} rows of {step})")
    rows = np.lib.stride_tricks.as_strided(data, (height, row), (step, 1), writeable=False)
    if layout.wide:
        rows = rows[:, (0 if message.is_bigendian else 1) :: 2]
    pixels = np.ascontiguousarray(rows)
    if layout.conversion is None:
        return pixels.reshape(height, width, 3)
    if layout.channels == 2 and width % 2:
        pixels = _even_width(pixels.reshape(height, width, 2))
    shape = (height, -1) if layout.channels == 1 else (height, -1, layout.channels)
    return _convert(pixels.reshape(shape), layout.conversion, message.encoding)[:, :width]


def _planar(message: Any, height: int, width: int) -> NDArray[np.uint8]:
    """An image of luma and half-size chroma; `step` is that of both planes."""
    if height % 2 or width % 2:
        raise ImageError(f"height x width: {height} x {width}, expected even sides for {message.encoding}")
    step = int(message.step) or width
    if step < width:
        raise ImageError(f"step: {step}, expected at least {width} ({width} pixels of {message.encoding})")
    data, rows = np.frombuffer(message.data, np.uint8), height * 3 // 2
    if data.size < step * (rows - 1) + width:
        raise ImageError(f"data: {data.size} bytes, expected {step * rows} ({rows} rows of {step})")
    planes = np.lib.stride_tricks.as_strided(data, (rows, width), (step, 1), writeable=False)
    return _convert(np.ascontiguousarray(planes), _PLANAR[message.encoding], message.encoding)


def _even_width(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A 4:2:2 image with one column more: luma of the last column, chroma of the last complete pair."""
    last = pixels[:, -2:-1] if pixels.shape[1] > 1 else np.full_like(pixels[:, -1:], 128)
    return np.ascontiguousarray(np.concatenate([pixels, last], axis=1))


def _convert(pixels: NDArray[np.uint8], conversion: int, encoding: str) -> NDArray[np.uint8]:
    if encoding.startswith("bayer") and min(pixels.shape[:2]) < 3:
        raise ImageError(f"height x width: {pixels.shape[:2]}, expected at least 3 x 3 for {encoding}")
    return np.asarray(cv2.cvtColor(pixels, conversion), np.uint8)


def is_cut_off(data: bytes) -> bool:
    """Whether a JPEG or PNG ends before its end mark; OpenCV decodes what there is and says nothing."""
    if data.startswith(b"\xff\xd8"):
        return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")  # the end mark of a thumbnail comes before the scan
    return data.startswith(b"\x89PNG") and b"IEND" not in data


def file_to_rgb(data: bytes, turned: bool) -> tuple[NDArray[np.uint8], bool]:
    """The bytes of a picture file (JPEG, PNG and whatever else OpenCV reads) as (height, width, 3) uint8 RGB, and
    whether it has 16 bits and uses its low 12 only (`is_dim`). 16-bit values keep their high byte.

    turned: as its Exif says, as people see it; else as the sensor's pixels lie, which is what a CameraInfo speaks of.
    Raises ImageError when it is no picture, is cut off, has more pixels than OpenCV allows, or its values are floats.
    """
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | (0 if turned else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
        if pixels is None and data[:2] in (b"II", b"MM"):  # a TIFF of one channel of floats has no colours for OpenCV
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:  # more pixels than OpenCV allows
        raise ImageError(str(error.err).strip() or "no picture that OpenCV reads") from None
    if pixels is None or is_cut_off(data):
        raise ImageError("no picture, or damaged" if data else "empty, expected a picture")
    dim = pixels.dtype == np.uint16 and 0 < int(pixels.max()) < TWELVE_BITS
    if pixels.dtype == np.uint16:
        pixels = (pixels.astype(np.uint16) >> 8).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise ImageError(f"values of {pixels.dtype}, expected 8 or 16 bits: what range they have is not said")
    conversion = cv2.COLOR_GRAY2RGB if pixels.ndim == 2 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(pixels, conversion), np.uint8), dim


def compressed_to_rgb(message: Any) -> NDArray[np.uint8]:
    """A `sensor_msgs/CompressedImage` as (height, width, 3) uint8 RGB, as the sensor's pixels lie.

    Where `format` says `compressed rgb8` the file has red and blue exchanged, as compressed_image_transport reads it.
    Raises ImageError when the data are no image, or one that is cut off.
    """
    data = bytes(message.data)
    if not data:
        raise ImageError("data: empty, expected a compressed image")
    try:
        pixels, _ = file_to_rgb(data, turned=False)
    except ImageError as error:
        raise ImageError(f"data: {len(data)} bytes of format {message.format!r}: {error}") from None
    if max(pixels.shape[:2]) > MAX_SIDE:
        raise ImageError(f"height x width: {pixels.shape[:2]}, expected at most {MAX_SIDE}")
    return np.ascontiguousarray(pixels[..., ::-1]) if "compressed rgb" in message.format else pixels
