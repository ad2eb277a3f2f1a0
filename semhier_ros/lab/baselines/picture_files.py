"""JPEG and WebP files of pictures, and their way through datagrams: pieces, and a parity piece that repairs one."""

from __future__ import annotations

import struct
from collections import OrderedDict
from dataclasses import dataclass

import cv2
import numpy as np

from semhier_ros.lab.baselines.still import Picture, enlarge, shrink

KINDS = ("jpeg", "webp")
PIECE_BYTES = 1200
_HEADER = struct.Struct(">HHIQ")  # frame, place of the piece, bytes of the file, stamp; their number follows
_ROOM = PIECE_BYTES - _HEADER.size
MOST_PIECES = 0xFFFF


@dataclass(frozen=True, slots=True)
class PictureSetting:
    """How pictures are made: `kind` "jpeg" or "webp", `scale` of width and height (0.05 to 1), `quality` (1 to 100),
    `max_rate` pictures a second at most, and whether each gets a `parity` piece."""

    kind: str
    scale: float
    quality: int
    max_rate: float = 1.0
    parity: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind: {self.kind!r}, one of {', '.join(KINDS)} expected")
        if not 0.05 <= self.scale <= 1.0:
            raise ValueError(f"scale: {self.scale}, 0.05 to 1 expected")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality: {self.quality}, 1 to 100 expected")
        if not self.max_rate > 0:
            raise ValueError(f"max_rate: {self.max_rate}, more than 0 expected")

    @property
    def look(self) -> str:
        """What the pictures look like depends on this alone."""
        return f"{self.kind} {self.scale:g} {self.quality}"

    def __str__(self) -> str:
        repair = "with a parity piece" if self.parity else "without parity"
        return f"{self.scale * 100:g} % size, quality {self.quality}, at most {self.max_rate:g} pictures/s, {repair}"


def encode_picture(image: Picture, setting: PictureSetting) -> bytes:
    """The JPEG (4:2:0, optimised Huffman tables) or WebP file of an H,W,3 RGB picture."""
    small = shrink(image, setting.scale)
    if setting.kind == "jpeg":
        options = [cv2.IMWRITE_JPEG_QUALITY, setting.quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
    else:
        options = [cv2.IMWRITE_WEBP_QUALITY, setting.quality]
    good, data = cv2.imencode(f".{setting.kind}", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), options)
    if not good:
        raise ValueError(f"OpenCV could not encode {small.shape[1]}x{small.shape[0]} pixels as {setting.kind}")
    return data.tobytes()


def decode_picture(data: bytes, size: tuple[int, int]) -> Picture | None:
    """The picture in a JPEG or WebP file, brought to `size` (RGB); None when it cannot be decoded."""
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        return None
    return np.asarray(cv2.cvtColor(enlarge(np.asarray(bgr, np.uint8), *size), cv2.COLOR_BGR2RGB), np.uint8)


def cut(frame: int, stamp_ns: int, data: bytes, *, parity: bool) -> list[bytes]:
    """The datagram payloads of one picture: equal pieces of at most 1,200 bytes with a 16-byte header, then the parity.

    Raises ValueError for a picture of no bytes, or of more than MOST_PIECES pieces.
    """
    if not 1 <= len(data) <= MOST_PIECES * _ROOM:
        raise ValueError(f"picture: {len(data)} bytes, 1 to {MOST_PIECES * _ROOM} expected")
    count = _pieces(len(data))
    step = -(-len(data) // count)
    parts = [data[start * step : (start + 1) * step] for start in range(count)]
    if parity:
        padded = np.frombuffer(data.ljust(step * count, b"\0"), np.uint8).reshape(count, step)
        parts.append(np.bitwise_xor.reduce(padded, axis=0).tobytes())
    return [_HEADER.pack(frame & 0xFFFF, place, len(data), stamp_ns) + part for place, part in enumerate(parts)]


def _pieces(size: int) -> int:
    """Into how many pieces a file of so many bytes is cut."""
    return -(-size // _ROOM)


class Assembler:
    """Puts pictures together again; keeps the pieces of the last `keep` pictures. Bad payloads are counted in `bad`."""

    def __init__(self, keep: int = 8) -> None:
        self._keep = keep
        self._open: OrderedDict[int, dict[int, bytes]] = OrderedDict()
        self._done: OrderedDict[int, None] = OrderedDict()
        self.bad = 0

    def add(self, payload: bytes) -> tuple[int, int, bytes] | None:
        """(frame, stamp in ns, file) when this piece completes a picture, else None."""
        if len(payload) <= _HEADER.size:
            self.bad += 1
            return None
        frame, place, size, stamp_ns = _HEADER.unpack_from(payload)
        count = _pieces(size)
        step = -(-size // count) if count else 0
        if (
            not 0 < count <= MOST_PIECES
            or place > count
            or ((place == count or place < count - 1) and (len(payload) - _HEADER.size != step))
        ):
            self.bad += 1
            return None
        if stamp_ns in self._done:
            return None
        pieces = self._open.setdefault(stamp_ns, {})
        pieces[place] = payload[_HEADER.size :]
        while len(self._open) > self._keep:
            self._open.popitem(last=False)
        if len(pieces) < count:
            return None
        data = _joined(pieces, count, step)[:size]
        self._open.pop(stamp_ns, None)
        self._done[stamp_ns] = None
        if len(self._done) > self._keep:
            self._done.popitem(last=False)
        return frame, stamp_ns, data


def _joined(pieces: dict[int, bytes], count: int, step: int) -> bytes:
    missing = [place for place in range(count) if place not in pieces]
    if missing:
        rows = [np.frombuffer(piece.ljust(step, b"\0"), np.uint8) for piece in pieces.values()]
        pieces[missing[0]] = np.bitwise_xor.reduce(np.stack(rows), axis=0).tobytes()
    return b"".join(pieces[place].ljust(step, b"\0") for place in range(count))
