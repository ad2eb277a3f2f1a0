"""Still-picture reference codecs behind one interface: `make("jpeg")`, then `send(codec, picture, settings)`.

`make("compressai:PATH")` takes a checkpoint of your own, or a folder of them; no weights are shipped.
`make("control:FOLDER")` takes a whole-image model's folder, of which it sends the picture blocks alone.
"""

from __future__ import annotations

import importlib

from semhier_ros.lab.baselines.still import CutTooShort, Picture, Setting, StillCodec, Transmitted, send

__all__ = [
    "CONTROL",
    "NAMES",
    "WITH_PATH",
    "CutTooShort",
    "Picture",
    "Setting",
    "StillCodec",
    "Transmitted",
    "make",
    "send",
]


_CLASSES = {
    "jpeg": "pillow_codecs.Jpeg",
    "jpeg_progressive": "pillow_codecs.ProgressiveJpeg",
    "webp": "pillow_codecs.WebP",
    "avif": "pillow_codecs.Avif",
    "jpegxl": "pillow_codecs.JpegXl",
    "jpeg2000": "pillow_codecs.Jpeg2000",
}
_OF_A_PATH = {"compressai": "compressai_codec.CompressAi", "control": "picture_control.PictureBlocksAlone"}
NAMES = tuple(_CLASSES)
"""The codecs that need nothing but their libraries."""
WITH_PATH = "compressai:PATH"
"""The codec that needs weights of your own, as it is written."""
CONTROL = "control:FOLDER"
"""A whole-image model's picture blocks alone, as it is written; for pictures of that model's view."""


def make(name: str) -> StillCodec:
    """The codec of that name.

    Raises:
        ValueError: no such codec; the message names those there are. Or its weights or folder are of no use.
        FileNotFoundError: its folder is missing. ModuleNotFoundError: its library is missing.
    """
    kind, _, path = name.partition(":")
    place = _OF_A_PATH.get(kind) if path else _CLASSES.get(name)
    if place is None:
        raise ValueError(f"codecs: {name!r} is not one of {', '.join((*NAMES, WITH_PATH, CONTROL))}")
    module, _, made = place.partition(".")
    codec: StillCodec = getattr(importlib.import_module(f"{__name__}.{module}"), made)(*([path] if path else []))
    return codec
