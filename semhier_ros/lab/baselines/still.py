"""What every still-picture reference codec offers, and how a picture is sent through one.

A codec turns a picture (H,W,3 uint8 RGB) into bytes at a quality of its own scale. A progressive one may be cut after
any byte. Rates are lengths of real files; `header_bytes` says how many of them a fixed deployment, where both ends
agreed on everything but the picture, would not send.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
SCALES = (1.0, 0.7, 0.5, 0.35, 0.25)


class CutTooShort(ValueError):
    """So little of a file arrived that its decoder can show nothing."""


@dataclass(frozen=True, order=True)
class Setting:
    """scale: share (0..1] of the picture's sides that is coded. quality: the codec's own, see there. cut: how many
    bytes of the file arrive (None: all; only for codecs that are `progressive`)."""

    scale: float
    quality: float
    cut: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.scale <= 1:
            raise ValueError(f"scale: {self.scale} is outside 0..1")
        if self.cut is not None and self.cut < 1:
            raise ValueError(f"cut: {self.cut} is below 1")


@dataclass(frozen=True)
class Transmitted:
    """A picture as it arrives (source size), the file bytes that carried it, and those of them that are header."""

    picture: Picture
    total_bytes: int
    header_bytes: int

    @property
    def payload_bytes(self) -> int:
        """Bytes without the header that a fixed deployment would not send."""
        return self.total_bytes - self.header_bytes


class StillCodec(ABC):
    """A reference codec.

    name: as in result files. qualities: its usual operating points, smallest file first. scales: picture scales worth
    trying. progressive: whether a file may be cut; `cuts` are the bytes to cut at. header: what `header_bytes` counts,
    in words.
    """

    name: str
    qualities: tuple[float, ...]
    scales: tuple[float, ...] = SCALES
    progressive: bool = False
    cuts: tuple[int, ...] = (100, 150, 200, 300, 450, 600, 900, 1200, 1800, 2400, 3600, 5000, 7000, 10_000, 14_000)
    header: str

    @abstractmethod
    def encode(self, picture: Picture, quality: float) -> bytes:
        """The file of a picture (H,W,3 uint8 RGB)."""

    @abstractmethod
    def decode(self, data: bytes) -> Picture:
        """The picture of a file, or of the front part of one if the codec is progressive.

        Raises:
            CutTooShort: nothing can be shown of a file cut so early.
        """

    @abstractmethod
    def header_bytes(self, data: bytes) -> int:
        """Bytes of a (perhaps cut) file that a fixed deployment would not send."""

    def settings(self) -> list[Setting]:
        """The operating points of a usual comparison."""
        cuts: tuple[int | None, ...] = self.cuts if self.progressive else (None,)
        return [Setting(*values) for values in product(self.scales, self.qualities, cuts)]


def shrink(picture: Picture, scale: float) -> Picture:
    """The picture with sides of `scale` times its own, at least 8 pixels."""
    if scale == 1:
        return picture
    size = (max(8, round(picture.shape[1] * scale)), max(8, round(picture.shape[0] * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def enlarge(picture: Picture, width: int, height: int) -> Picture:
    """The picture at `width` x `height` pixels."""
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def send(codec: StillCodec, picture: Picture, settings: Iterable[Setting]) -> Iterator[tuple[Setting, Transmitted]]:
    """The picture through `codec` at each setting, encoded once per scale and quality; settings that cut deeper than
    the codec can show give grey, for as many bytes as they say.

    Raises:
        ValueError: a cut for a codec that is not progressive.
    """
    height, width = picture.shape[:2]
    files: dict[tuple[float, float], bytes] = {}
    for setting in settings:
        if setting.cut is not None and not codec.progressive:
            raise ValueError(f"cut: {setting.cut} for {codec.name}, whose files cannot be cut")
        key = (setting.scale, setting.quality)
        if key not in files:
            files[key] = codec.encode(shrink(picture, setting.scale), setting.quality)
        data = files[key][: setting.cut]
        try:
            arrived = enlarge(codec.decode(data), width, height)
        except CutTooShort:
            arrived = np.full_like(picture, 128)
        yield setting, Transmitted(arrived, len(data), min(codec.header_bytes(data), len(data)))
