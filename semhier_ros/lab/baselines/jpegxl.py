"""JPEG XL by libjxl itself (BSD), by its C interface: no Python binding makes progressive files or shows cut ones.

The library is the system's (Debian: libjxl0.7 or newer) or the one inside the wheel `jxlpy`.
"""

from __future__ import annotations

import ctypes.util
import importlib
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import Any

import numpy as np

from semhier_ros.lab.baselines.still import CutTooShort, Picture, StillCodec

# Names and numbers of jxl/encode.h, jxl/decode.h and jxl/codestream_header.h, the same since libjxl 0.7.
EFFORT, RESPONSIVE, PROGRESSIVE_AC, PROGRESSIVE_DC = 0, 16, 17, 19
ENCODER_NEEDS_OUTPUT = 2
SUCCESS, NEEDS_INPUT, NEEDS_BUFFER = 0, 2, 5
BASIC_INFO, FRAME, FULL_IMAGE = 0x40, 0x400, 0x1000
RGB8 = (3, 2, 0, 0)
"""A `JxlPixelFormat`: channels, 8 bits each, the machine's byte order, rows without gaps."""
ROOM = 1 << 16
DECLARATIONS = """
typedef struct {
    int have_container;
    uint32_t xsize, ysize, bits_per_sample, exponent_bits_per_sample;
    float intensity_target, min_nits;
    int relative_to_max_display;
    float linear_below;
    int uses_original_profile, have_preview, have_animation, orientation;
    uint32_t num_color_channels;
    uint8_t rest[400];
} JxlBasicInfo;
typedef struct { uint32_t channels; int data_type, endianness; size_t align; } JxlPixelFormat;
typedef struct { uint8_t bytes[256]; } JxlColorEncoding;

void *JxlEncoderCreate(void *memory);
void JxlEncoderDestroy(void *encoder);
void JxlEncoderInitBasicInfo(JxlBasicInfo *info);
void JxlColorEncodingSetToSRGB(JxlColorEncoding *color, int gray);
void *JxlEncoderFrameSettingsCreate(void *encoder, void *source);
int JxlEncoderSetBasicInfo(void *encoder, const JxlBasicInfo *info);
int JxlEncoderSetColorEncoding(void *encoder, const JxlColorEncoding *color);
int JxlEncoderSetFrameDistance(void *settings, float distance);
int JxlEncoderFrameSettingsSetOption(void *settings, int option, int64_t value);
int JxlEncoderAddImageFrame(void *settings, const JxlPixelFormat *format, const void *pixels, size_t size);
void JxlEncoderCloseInput(void *encoder);
int JxlEncoderProcessOutput(void *encoder, uint8_t **next, size_t *left);

void *JxlDecoderCreate(void *memory);
void JxlDecoderDestroy(void *decoder);
int JxlDecoderSubscribeEvents(void *decoder, int events);
int JxlDecoderSetInput(void *decoder, const uint8_t *data, size_t size);
int JxlDecoderProcessInput(void *decoder);
int JxlDecoderGetBasicInfo(void *decoder, JxlBasicInfo *info);
int JxlDecoderSetImageOutBuffer(void *decoder, const JxlPixelFormat *format, void *pixels, size_t size);
int JxlDecoderFlushImage(void *decoder);
"""


@cache
def library() -> tuple[Any, Any]:
    """What makes and reads values of C, and libjxl.

    Raises:
        ModuleNotFoundError: neither the system nor the wheel `jxlpy` has it, or cffi is missing.
    """
    found = ctypes.util.find_library("jxl")
    if found is None:
        importlib.import_module("jxlpy")  # loads libjxl and what that needs from the wheel's folder
        inside = [file for file in metadata.files("jxlpy") or [] if file.name.startswith("libjxl-")]
        if not inside:
            raise ModuleNotFoundError("jxlpy: this build of it brings no libjxl", name="jxlpy")
        found = str(inside[0].locate())
    c: Any = importlib.import_module("cffi").FFI()
    c.cdef(DECLARATIONS)
    return c, c.dlopen(found)


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
        c, jxl = library()
        encoder = c.gc(jxl.JxlEncoderCreate(c.NULL), jxl.JxlEncoderDestroy)
        info, color, pixels = c.new("JxlBasicInfo *"), c.new("JxlColorEncoding *"), np.ascontiguousarray(picture)
        jxl.JxlEncoderInitBasicInfo(info)
        info.ysize, info.xsize = picture.shape[:2]
        info.bits_per_sample, info.num_color_channels, info.uses_original_profile = 8, 3, 0
        jxl.JxlColorEncodingSetToSRGB(color, 0)
        settings = jxl.JxlEncoderFrameSettingsCreate(encoder, c.NULL)
        _check(jxl.JxlEncoderSetBasicInfo(encoder, info), "picture size")
        _check(jxl.JxlEncoderSetColorEncoding(encoder, color), "colour")
        _check(jxl.JxlEncoderSetFrameDistance(settings, -quality), f"distance {-quality}")
        for option, value in self.options.items():
            _check(jxl.JxlEncoderFrameSettingsSetOption(settings, option, value), f"option {option}")
        given = c.from_buffer(pixels)
        _check(jxl.JxlEncoderAddImageFrame(settings, c.new("JxlPixelFormat *", RGB8), given, pixels.nbytes), "picture")
        jxl.JxlEncoderCloseInput(encoder)
        made, status = b"", ENCODER_NEEDS_OUTPUT
        while status == ENCODER_NEEDS_OUTPUT:
            room = c.new("uint8_t[]", ROOM)
            left = c.new("size_t *", ROOM)
            status = jxl.JxlEncoderProcessOutput(encoder, c.new("uint8_t **", room), left)
            made += bytes(c.buffer(room, ROOM - left[0]))
        _check(status, "output")
        return made

    def decode(self, data: bytes) -> Picture:
        c, jxl = library()
        decoder = c.gc(jxl.JxlDecoderCreate(c.NULL), jxl.JxlDecoderDestroy)
        picture: Picture | None = None
        _check(jxl.JxlDecoderSubscribeEvents(decoder, BASIC_INFO | FRAME | FULL_IMAGE), "events")
        _check(jxl.JxlDecoderSetInput(decoder, c.from_buffer("uint8_t[]", data), len(data)), "input")
        while (status := jxl.JxlDecoderProcessInput(decoder)) != FULL_IMAGE:
            if status == BASIC_INFO:
                info = c.new("JxlBasicInfo *")
                _check(jxl.JxlDecoderGetBasicInfo(decoder, info), "picture size")
                picture = np.zeros((info.ysize, info.xsize, 3), np.uint8)
            elif status == NEEDS_BUFFER and picture is not None:
                format, room = c.new("JxlPixelFormat *", RGB8), c.from_buffer(picture, require_writable=True)
                _check(jxl.JxlDecoderSetImageOutBuffer(decoder, format, room, picture.nbytes), "output")
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
