"""JPEG XL by libjxl itself (BSD), by its C interface: no Python binding offers progressive files and their cutting.

The library is the system's (Debian: libjxl0.7 or newer) or the one inside the wheel `jxlpy`.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from typing import Any

import numpy as np

from semhier_ros.lab.baselines.still import CutTooShort, Picture, StillCodec

# Names and numbers of jxl/encode.h, jxl/decode.h and jxl/codestream_header.h, the same since libjxl 0.7.
EFFORT, RESPONSIVE, PROGRESSIVE_AC, PROGRESSIVE_DC = 0, 16, 17, 19
ENCODER_SUCCESS, ENCODER_NEEDS_OUTPUT = 0, 2
SUCCESS, NEEDS_INPUT, NEEDS_BUFFER = 0, 2, 5
BASIC_INFO, FRAME, FULL_IMAGE = 0x40, 0x400, 0x1000


class _BasicInfo(ctypes.Structure):
    _fields_ = (
        ("have_container", ctypes.c_int),
        ("xsize", ctypes.c_uint32),
        ("ysize", ctypes.c_uint32),
        ("bits_per_sample", ctypes.c_uint32),
        ("exponent_bits_per_sample", ctypes.c_uint32),
        ("intensity_target", ctypes.c_float),
        ("min_nits", ctypes.c_float),
        ("relative_to_max_display", ctypes.c_int),
        ("linear_below", ctypes.c_float),
        ("uses_original_profile", ctypes.c_int),
        ("have_preview", ctypes.c_int),
        ("have_animation", ctypes.c_int),
        ("orientation", ctypes.c_int),
        ("num_color_channels", ctypes.c_uint32),
        ("rest", ctypes.c_uint8 * 400),
    )


class _PixelFormat(ctypes.Structure):
    _fields_ = (
        ("num_channels", ctypes.c_uint32),
        ("data_type", ctypes.c_int),
        ("endianness", ctypes.c_int),
        ("align", ctypes.c_size_t),
    )


_RGB8 = _PixelFormat(3, 2, 0, 0)


class _ColorEncoding(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_uint8 * 256),)


@cache
def library() -> Any:
    """libjxl, its functions' results typed.

    Raises:
        ModuleNotFoundError: neither the system nor the wheel `jxlpy` has it.
    """
    found = ctypes.util.find_library("jxl")
    if found is None:
        importlib.import_module("jxlpy")  # loads libjxl and what that needs from the wheel's folder
        inside = [file for file in metadata.files("jxlpy") or [] if file.name.startswith("libjxl-")]
        if not inside:
            raise ModuleNotFoundError("jxlpy: this build of it brings no libjxl", name="jxlpy")
        found = str(inside[0].locate())
    jxl = ctypes.CDLL(found)
    for name in ("JxlEncoderCreate", "JxlEncoderFrameSettingsCreate", "JxlDecoderCreate"):
        getattr(jxl, name).restype = ctypes.c_void_p
    jxl.JxlEncoderCloseInput.restype = None
    return jxl


@contextmanager
def _made(kind: str) -> Iterator[tuple[Any, ctypes.c_void_p]]:
    """The library, and an `Encoder` or `Decoder` of its, which is let go in the end."""
    jxl = library()
    made = ctypes.c_void_p(getattr(jxl, f"Jxl{kind}Create")(None))
    try:
        yield jxl, made
    finally:
        getattr(jxl, f"Jxl{kind}Destroy")(made)


class JpegXl(StillCodec):
    """JPEG XL, bare codestream. quality: the negative of libjxl's distance, so that more is better (-25 worst … 0 none
    lost)."""

    name = "jpegxl"
    qualities: tuple[float, ...] = (-25, -15, -8, -4, -2)
    header = "signature and picture size: 7 bytes"
    options: Mapping[int, int] = {EFFORT: 5}

    def __init__(self) -> None:
        library()

    def encode(self, picture: Picture, quality: float) -> bytes:
        with _made("Encoder") as (jxl, encoder):
            return self._encode(jxl, encoder, np.ascontiguousarray(picture), -float(quality))

    def _encode(self, jxl: Any, encoder: ctypes.c_void_p, picture: Picture, distance: float) -> bytes:
        info = _BasicInfo()
        jxl.JxlEncoderInitBasicInfo(ctypes.byref(info))
        info.ysize, info.xsize = picture.shape[:2]
        info.bits_per_sample, info.num_color_channels, info.uses_original_profile = 8, 3, 0
        color = _ColorEncoding()
        jxl.JxlColorEncodingSetToSRGB(ctypes.byref(color), 0)
        settings = ctypes.c_void_p(jxl.JxlEncoderFrameSettingsCreate(encoder, None))
        _check(jxl.JxlEncoderSetBasicInfo(encoder, ctypes.byref(info)), "picture size")
        _check(jxl.JxlEncoderSetColorEncoding(encoder, ctypes.byref(color)), "colour")
        _check(jxl.JxlEncoderSetFrameDistance(settings, ctypes.c_float(distance)), f"distance {distance}")
        for option, value in self.options.items():
            _check(jxl.JxlEncoderFrameSettingsSetOption(settings, option, ctypes.c_int64(value)), f"option {option}")
        size = ctypes.c_size_t(picture.nbytes)
        added = jxl.JxlEncoderAddImageFrame(
            settings, ctypes.byref(_RGB8), picture.ctypes.data_as(ctypes.c_void_p), size
        )
        _check(added, "picture")
        jxl.JxlEncoderCloseInput(encoder)
        parts: list[bytes] = []
        while True:
            room = ctypes.create_string_buffer(1 << 16)
            free, left = ctypes.c_void_p(ctypes.addressof(room)), ctypes.c_size_t(len(room))
            status = jxl.JxlEncoderProcessOutput(encoder, ctypes.byref(free), ctypes.byref(left))
            parts.append(room.raw[: len(room) - left.value])
            if status != ENCODER_NEEDS_OUTPUT:
                _check(status, "output")
                return b"".join(parts)

    def decode(self, data: bytes) -> Picture:
        with _made("Decoder") as (jxl, decoder):
            return self._decode(jxl, decoder, data)

    def _decode(self, jxl: Any, decoder: ctypes.c_void_p, data: bytes) -> Picture:
        picture: Picture | None = None
        _check(jxl.JxlDecoderSubscribeEvents(decoder, BASIC_INFO | FRAME | FULL_IMAGE), "events")
        held = ctypes.create_string_buffer(data, len(data))
        _check(jxl.JxlDecoderSetInput(decoder, held, ctypes.c_size_t(len(data))), "input")
        while (status := jxl.JxlDecoderProcessInput(decoder)) != FULL_IMAGE:
            if status == BASIC_INFO:
                info = _BasicInfo()
                _check(jxl.JxlDecoderGetBasicInfo(decoder, ctypes.byref(info)), "picture size")
                picture = np.zeros((info.ysize, info.xsize, 3), np.uint8)
            elif status == NEEDS_BUFFER and picture is not None:
                room = picture.ctypes.data_as(ctypes.c_void_p)
                size = ctypes.c_size_t(picture.nbytes)
                _check(jxl.JxlDecoderSetImageOutBuffer(decoder, ctypes.byref(_RGB8), room, size), "output")
            elif status == NEEDS_INPUT:
                if picture is None or jxl.JxlDecoderFlushImage(decoder) != SUCCESS:
                    raise CutTooShort(f"{len(data)} bytes end before a JPEG XL file shows anything")
                break
            elif status != FRAME:
                raise ValueError(f"{len(data)} bytes: not a JPEG XL file (libjxl status {status})")
        if picture is None:
            raise CutTooShort(f"{len(data)} bytes end before a JPEG XL file says its size")
        return picture

    def header_bytes(self, data: bytes) -> int:
        return 7


class ProgressiveJpegXl(JpegXl):
    """Progressive JPEG XL: a picture of an eighth of the sides first, then passes; cut after any byte."""

    name = "jpegxl_progressive"
    qualities: tuple[float, ...] = (-15, -6, -2)
    progressive = True
    options: Mapping[int, int] = {EFFORT: 5, RESPONSIVE: 1, PROGRESSIVE_AC: 1, PROGRESSIVE_DC: 1}


def _check(status: int, what: str) -> None:
    if status != SUCCESS:
        raise ValueError(f"JPEG XL: {what}: refused by libjxl (status {status})")
