"""A camera's calibration as it travels once within a StreamInfo, so that a base can turn boxes into bearings.

What `sensor_msgs/CameraInfo` says, in a few dozen bytes: numbers as 32-bit floats (a focal length keeps seven digits),
and nothing that is at its usual value (docs/bitstream.md, "Calibration").
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

from semhier_ros.codec.packet import PacketError

MODELS = ("", "plumb_bob", "rational_polynomial", "equidistant")
"""Distortion models that travel; "" is none."""
MOST_COEFFICIENTS = 14
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

_ROTATION, _PROJECTION, _WINDOW, _RECTIFIED = 1, 2, 4, 8
_HEAD = struct.Struct(">BBHHB")
_WINDOW_FORM = struct.Struct(">BBHHHH")


def _single(value: float) -> float:
    """The nearest 32-bit float; an infinity where there is none."""
    try:
        return float(struct.unpack(">f", struct.pack(">f", value))[0]) + 0.0
    except OverflowError:
        return math.copysign(math.inf, value)


@dataclass(frozen=True)
class Calibration:
    """The constants of `sensor_msgs/CameraInfo`; numbers are rounded to 32-bit floats.

    width, height: the picture that was calibrated, 1..65535 pixels. k: fx, fy, cx, cy in pixels. model: one of MODELS.
    d: its coefficients, at most 14. r: the rotation of rectification, 3x3 by rows. p: fx, fy, cx, cy, Tx, Ty of the
    rectified picture's projection; None: as k, without Tx and Ty. binning: 0..255 each, across and down. window: x, y,
    width, height of the region of interest, 0..65535 (all 0: everything). rectified: `roi.do_rectify`.
    Raises ValueError naming the field that is out of its range.
    """

    width: int
    height: int
    k: tuple[float, float, float, float]
    model: str = ""
    d: tuple[float, ...] = ()
    r: tuple[float, ...] = IDENTITY
    p: tuple[float, ...] | None = None
    binning: tuple[int, int] = (0, 0)
    window: tuple[int, int, int, int] = (0, 0, 0, 0)
    rectified: bool = False

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ValueError(f"distortion_model: {self.model!r}, expected {' | '.join(MODELS[1:])} or none")
        if len(self.d) > MOST_COEFFICIENTS:
            raise ValueError(f"d: {len(self.d)} coefficients, expected at most {MOST_COEFFICIENTS}")
        for name, numbers, count in (("k", self.k, 4), ("r", self.r, 9), ("p", self.p, 6), ("d", self.d, len(self.d))):
            if numbers is None:
                continue
            rounded = tuple(_single(value) for value in numbers)
            if len(rounded) != count or not all(math.isfinite(value) for value in rounded):
                raise ValueError(f"{name}: {list(numbers)}, expected {count} finite numbers")
            object.__setattr__(self, name, rounded)
        if self.p == (*self.k, 0.0, 0.0):
            object.__setattr__(self, "p", None)
        for name, values, low, high in (
            ("width", (self.width,), 1, 0xFFFF),
            ("height", (self.height,), 1, 0xFFFF),
            ("binning", self.binning, 0, 0xFF),
            ("window", self.window, 0, 0xFFFF),
        ):
            for value in values:
                if not low <= value <= high:
                    raise ValueError(f"{name}: {value}, expected {low} to {high}")

    @classmethod
    def of_matrices(cls, k: Any, p: Any, **fields: Any) -> Calibration:
        """From the 3x3 and 3x4 matrices of a CameraInfo, by rows; `p` all 0 counts as not given.

        Raises:
            ValueError: a matrix has another number of entries, or says what cannot be carried (a skewed picture).
        """
        full, projection = [float(value) for value in k], [float(value) for value in p]
        if len(full) != 9 or len(projection) != 12:
            raise ValueError(f"k, p: {len(full)} and {len(projection)} numbers, expected 9 and 12")
        if full[1] or projection[1]:
            raise ValueError(f"k, p: skew {full[1] or projection[1]:g}, expected 0")
        picked = tuple(projection[index] for index in (0, 5, 2, 6, 3, 7)) if any(projection) else None
        return cls(k=(full[0], full[4], full[2], full[5]), p=picked, **fields)

    @property
    def matrix_k(self) -> list[float]:
        """The 3x3 matrix of the picture as it comes, by rows."""
        fx, fy, cx, cy = self.k
        return [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0]

    @property
    def matrix_p(self) -> list[float]:
        """The 3x4 matrix of the rectified picture, by rows."""
        fx, fy, cx, cy, tx, ty = self.p or (*self.k, 0.0, 0.0)
        return [fx, 0.0, cx, tx, 0.0, fy, cy, ty, 0.0, 0.0, 1.0, 0.0]

    def to_bytes(self) -> bytes:
        """23 to 153 bytes, the only encoding of this calibration."""
        flags = _ROTATION * (self.r != IDENTITY) + _PROJECTION * (self.p is not None)
        windowed = self.binning != (0, 0) or self.window != (0, 0, 0, 0)
        flags += _WINDOW * windowed + _RECTIFIED * self.rectified
        numbers = [*self.k, *self.d]
        numbers += self.r if flags & _ROTATION else ()
        numbers += self.p if self.p is not None else ()
        head = _HEAD.pack(MODELS.index(self.model), flags, self.width, self.height, len(self.d))
        window = _WINDOW_FORM.pack(*self.binning, *self.window) if windowed else b""
        return head + struct.pack(f">{len(numbers)}f", *numbers) + window

    @staticmethod
    def from_bytes(data: bytes) -> Calibration:
        """The calibration that `data` encodes. Raises PacketError, and nothing else."""
        if len(data) < _HEAD.size:
            raise PacketError(f"calibration: {len(data)} bytes, expected at least {_HEAD.size}")
        model, flags, width, height, count = _HEAD.unpack_from(data)
        for name, value, most in (
            ("distortion model", model, len(MODELS) - 1),
            ("flags", flags, _ROTATION | _PROJECTION | _WINDOW | _RECTIFIED),
            ("coefficients", count, MOST_COEFFICIENTS),
        ):
            if value > most:
                raise PacketError(f"calibration: {name} {value}, this release reads 0 to {most}")
        lengths = (4, count, 9 if flags & _ROTATION else 0, 6 if flags & _PROJECTION else 0)
        numbers_end = _HEAD.size + 4 * sum(lengths)
        end = numbers_end + (_WINDOW_FORM.size if flags & _WINDOW else 0)
        if len(data) != end:
            raise PacketError(f"calibration: {len(data)} bytes, its fields have {end}")
        numbers = struct.unpack_from(f">{sum(lengths)}f", data, _HEAD.size)
        parts, at = [], 0
        for length in lengths:
            parts.append(numbers[at : at + length])
            at += length
        across, down, *window = _WINDOW_FORM.unpack_from(data, numbers_end) if flags & _WINDOW else (0,) * 6
        try:
            found = Calibration(
                width,
                height,
                (parts[0][0], parts[0][1], parts[0][2], parts[0][3]),
                MODELS[model],
                parts[1],
                parts[2] or IDENTITY,
                parts[3] or None,
                (across, down),
                (window[0], window[1], window[2], window[3]),
                bool(flags & _RECTIFIED),
            )
        except ValueError as error:
            raise PacketError(f"calibration: {error}") from None
        if found.to_bytes() != data:
            raise PacketError("calibration: not the only encoding of what it says")
        return found
