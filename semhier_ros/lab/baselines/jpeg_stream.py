"""Video as single JPEG pictures over a lossy link: the reference that the demo stands beside.

As kind to JPEG as a sender can be that may use the same budget: only the newest camera frame is sent, the next one
starts the moment the last piece of the previous one has left, pieces fill 1,200-byte datagrams (fewer headers than
our own small packets), and one parity piece per picture repairs any one lost piece where that pays.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from semhier_ros.link.schedule.budget import TokenBucket
from semhier_ros.link.schedule.wire import ZENOH_UDP, WireModel

PIECE_BYTES = 1200
_HEADER = struct.Struct(">HBBIQ")


@dataclass(frozen=True, slots=True)
class JpegSetting:
    """How the pictures are made.

    `scale`: of width and height (0.05 to 1). `quality`: libjpeg's (1 to 100), 4:2:0, optimised Huffman tables.
    `max_rate`: most pictures per second (above 0). `parity`: whether each picture gets one parity piece.
    """

    scale: float
    quality: int
    max_rate: float
    parity: bool

    def __post_init__(self) -> None:
        if not 0.05 <= self.scale <= 1.0:
            raise ValueError(f"scale: {self.scale}, 0.05 to 1 expected")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality: {self.quality}, 1 to 100 expected")
        if not self.max_rate > 0:
            raise ValueError(f"max_rate: {self.max_rate}, more than 0 expected")

    def encode(self, image_rgb: np.ndarray) -> bytes:
        """The JPEG file of an HxWx3 uint8 RGB image."""
        height, width = image_rgb.shape[:2]
        size = (max(8, round(width * self.scale)), max(8, round(height * self.scale)))
        small = image_rgb if self.scale == 1.0 else cv2.resize(image_rgb, size, interpolation=cv2.INTER_AREA)
        options = [cv2.IMWRITE_JPEG_QUALITY, self.quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
        good, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), options)
        if not good:
            raise ValueError(f"OpenCV could not encode {size[0]}x{size[1]} pixels as JPEG")
        return data.tobytes()

    def __str__(self) -> str:
        repair = "with a parity piece" if self.parity else "without parity"
        return f"{self.scale * 100:g} % size, quality {self.quality}, at most {self.max_rate:g} pictures/s, {repair}"


def decode_jpeg(data: bytes, width: int, height: int) -> np.ndarray | None:
    """The picture of a JPEG file, brought back to width x height (RGB uint8); None when it cannot be decoded."""
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        return None
    if bgr.shape[:2] != (height, width):
        bgr = cv2.resize(bgr, (width, height), interpolation=cv2.INTER_CUBIC)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def cut(frame: int, stamp_ns: int, data: bytes, *, parity: bool) -> list[bytes]:
    """The datagram payloads of one picture: equal pieces of at most 1,200 bytes with a 16-byte header, then the parity.

    Raises ValueError when the picture would need more than 254 pieces.
    """
    room = PIECE_BYTES - _HEADER.size
    count = max(1, -(-len(data) // room))
    if count > 254:
        raise ValueError(f"picture: {len(data)} bytes, at most {254 * room} expected")
    step = -(-len(data) // count)
    parts = [data[start * step : (start + 1) * step] for start in range(count)]
    if parity:
        padded = np.frombuffer(data.ljust(step * count, b"\0"), np.uint8).reshape(count, step)
        parts.append(np.bitwise_xor.reduce(padded, axis=0).tobytes())
    return [_HEADER.pack(frame & 0xFFFF, place, count, len(data), stamp_ns) + part for place, part in enumerate(parts)]


class Assembler:
    """Puts pictures together again; keeps the pieces of the last `keep` pictures. Bad payloads are counted in `bad`."""

    def __init__(self, keep: int = 8) -> None:
        self._keep = keep
        self._open: OrderedDict[int, dict[int, bytes]] = OrderedDict()
        self._done: OrderedDict[int, None] = OrderedDict()
        self.bad = 0

    def add(self, payload: bytes) -> tuple[int, int, bytes] | None:
        """(frame, stamp in ns, JPEG file) when this piece completes a picture, else None."""
        if len(payload) <= _HEADER.size:
            self.bad += 1
            return None
        frame, place, count, size, stamp_ns = _HEADER.unpack_from(payload)
        step = -(-size // count) if count else 0
        if (
            not count
            or place > count
            or not size
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


class JpegSender:
    """Decides which piece leaves when; the clock is injected, so it runs in real and in virtual time.

    `encode(number)`: the JPEG file of camera frame `number`, called when that frame's turn comes. `rate`: wire bytes
    per second, overhead by `wire` included.
    """

    def __init__(
        self, encode: Callable[[int], bytes], setting: JpegSetting, rate: float, wire: WireModel = ZENOH_UDP
    ) -> None:
        self._encode = encode
        self._setting = setting
        self._wire = wire
        self._bucket = TokenBucket(rate, wire.wire_bytes(PIECE_BYTES))
        self._newest: tuple[int, int] | None = None
        self._pieces: list[bytes] = []
        self._next_start = float("-inf")
        self.started: list[tuple[int, int, int]] = []
        """(frame number, stamp in ns, JPEG bytes) of every picture that was begun."""

    def offer(self, number: int, stamp_ns: int) -> None:
        """The camera has a new frame; an older one that has not begun is forgotten."""
        self._newest = (number, stamp_ns)

    def next_departure(self, now: float) -> float | None:
        """When `pop` should be called (not before `now`); None while there is nothing to send."""
        if self._pieces:
            return self._bucket.ready_at(self._wire.wire_bytes(len(self._pieces[0])), now)
        return None if self._newest is None else max(now, self._next_start)

    def pop(self, now: float) -> tuple[bytes, int] | None:
        """(payload, wire bytes) that leaves at `now`, None while the budget or the camera has none."""
        if not self._pieces and self._newest is not None and now >= self._next_start:
            number, stamp_ns = self._newest
            self._newest = None
            data = self._encode(number)
            self._pieces = cut(number, stamp_ns, data, parity=self._setting.parity)
            self.started.append((number, stamp_ns, len(data)))
            self._next_start = now + 1.0 / self._setting.max_rate - 1e-3
        if not self._pieces:
            return None
        size = self._wire.wire_bytes(len(self._pieces[0]))
        if self._bucket.ready_at(size, now) > now:
            return None
        self._bucket.spend(size, now)
        return self._pieces.pop(0), size


def encoder_of(images: Sequence[np.ndarray], setting: JpegSetting) -> Callable[[int], bytes]:
    """A function that gives the JPEG file of image `number`, each encoded once."""
    cache: dict[int, bytes] = {}

    def encode(number: int) -> bytes:
        if number not in cache:
            cache[number] = setting.encode(images[number])
        return cache[number]

    return encode
