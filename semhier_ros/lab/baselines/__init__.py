"""Still-picture reference codecs behind one interface: `make("jpeg")`, then `send(codec, picture, settings)`.

`make("compressai:PATH")` takes a checkpoint of your own, or a folder of them; no weights are shipped.
`make("control:FOLDER")` takes a whole-image model's folder, of which it sends the picture blocks alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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


def _pillow(name: str) -> StillCodec:
    from semhier_ros.lab.baselines import pillow_codecs

    return {
        "jpeg": pillow_codecs.Jpeg,
        "jpeg_progressive": pillow_codecs.ProgressiveJpeg,
        "webp": pillow_codecs.WebP,
        "avif": pillow_codecs.Avif,
    }[name]()


def _jpeg2000(name: str) -> StillCodec:
    from semhier_ros.lab.baselines.jpeg2000 import Jpeg2000

    return Jpeg2000()


def _jpegxl(name: str) -> StillCodec:
    from semhier_ros.lab.baselines.jpegxl import JpegXl, ProgressiveJpegXl

    return ProgressiveJpegXl() if name == "jpegxl_progressive" else JpegXl()


_MAKERS: dict[str, Callable[[str], StillCodec]] = {
    "jpeg": _pillow,
    "jpeg_progressive": _pillow,
    "webp": _pillow,
    "avif": _pillow,
    "jpegxl": _jpegxl,
    "jpegxl_progressive": _jpegxl,
    "jpeg2000": _jpeg2000,
}
NAMES = tuple(_MAKERS)
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
    if kind == "compressai" and path:
        from semhier_ros.lab.baselines.compressai_codec import CompressAi

        return CompressAi(Path(path))
    if kind == "control" and path:
        from semhier_ros.lab.baselines.picture_control import PictureBlocksAlone

        return PictureBlocksAlone(path)
    if name not in _MAKERS:
        raise ValueError(f"codecs: {name!r} is not one of {', '.join((*NAMES, WITH_PATH, CONTROL))}")
    return _MAKERS[name](name)
