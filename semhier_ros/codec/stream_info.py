"""What never changes within a stream: sent once, repeated and queryable, instead of with every packet."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from semhier_ros.codec.calibration import Calibration
from semhier_ros.codec.checksum import check_crc, with_crc
from semhier_ros.codec.packet import PacketError
from semhier_ros.codec.text import check_text

MAGIC = 0x53
PLAIN, EXTENDED = 1, 2
"""Versions: without and with a calibration or a long frame id. What version 1 can say is said in version 1."""
MAX_STRING_BYTES = 32
MAX_FRAME_ID_BYTES = 255
MAX_BYTES = 600
MAX_STAMP_NS = (1 << 63) - 1

_FIXED = struct.Struct(">BBHHQ8s8s")
_NAME = re.compile(r"[A-Za-z0-9_/.\-]+", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{16}", re.ASCII)


def check_name(name: str, field: str) -> None:
    """Raises ValueError, naming `field`, for what no StreamInfo can carry as a camera's or a model's name."""
    if not _NAME.fullmatch(name) or len(name) > MAX_STRING_BYTES:
        raise ValueError(f"{field}: {name!r}, expected 1 to {MAX_STRING_BYTES} characters of A-Z a-z 0-9 _/.-")
    if {".", ".."} & set(name.split("/")):
        raise ValueError(f"{field}: {name!r} has a '.' or '..' component")


@dataclass(frozen=True)
class StreamInfo:
    """A camera stream's constants (docs/bitstream.md, "StreamInfo").

    `camera`, `model`: 1 to 32 characters of A-Z a-z 0-9 _ / . - without a "." or ".." path component. `frame_id`: at
    most 255 bytes of printable UTF-8, may be empty. `width`, `height`: source pixels, 1..65535. `stream_hash`,
    `model_hash`: 16 lower-case hex digits. `stamp_ns`: when this was sent, ns since the epoch, 0..2**63-1.
    `calibration`: the camera's, None where it is not known.
    Raises ValueError naming the field that is out of its range.
    """

    camera: str
    frame_id: str
    width: int
    height: int
    model: str
    stream_hash: str
    model_hash: str
    stamp_ns: int = 0
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        check_name(self.camera, "camera")
        check_name(self.model, "model")
        check_text(self.frame_id, "frame_id", MAX_FRAME_ID_BYTES)
        for name, number, low, high in (
            ("width", self.width, 1, 0xFFFF),
            ("height", self.height, 1, 0xFFFF),
            ("stamp_ns", self.stamp_ns, 0, MAX_STAMP_NS),
        ):
            if not low <= number <= high:
                raise ValueError(f"{name}: {number}, expected {low} to {high}")
        for name, value in (("stream_hash", self.stream_hash), ("model_hash", self.model_hash)):
            if not _HASH.fullmatch(value):
                raise ValueError(f"{name}: {value!r}, expected 16 lower-case hex digits")

    @property
    def stream_tag(self) -> int:
        """The 16-bit tag that this stream's packets carry."""
        return int(self.stream_hash[:4], 16)

    @property
    def _version(self) -> int:
        plain = self.calibration is None and len(self.frame_id.encode()) <= MAX_STRING_BYTES
        return PLAIN if plain else EXTENDED

    def to_bytes(self) -> bytes:
        """39 to 133 bytes, or to 600 with a calibration or a long frame id; the only encoding of this info."""
        version = self._version
        hashes = bytes.fromhex(self.stream_hash), bytes.fromhex(self.model_hash)
        parts = [_FIXED.pack(MAGIC, version, self.width, self.height, self.stamp_ns, *hashes)]
        for text in (self.camera, self.frame_id, self.model):
            raw = text.encode()
            parts.append(bytes((len(raw),)) + raw)
        if version == EXTENDED:
            told = b"" if self.calibration is None else self.calibration.to_bytes()
            parts.append(bytes((len(told),)) + told)
        return with_crc(b"".join(parts))

    @staticmethod
    def from_bytes(data: bytes) -> StreamInfo:
        """The info that `data` encodes. Raises PacketError, and nothing else, saying what is wrong and where."""
        data = bytes(data)
        smallest = _FIXED.size + 3 + 4 + 2
        if not smallest <= len(data) <= MAX_BYTES:
            raise PacketError(f"stream info: {len(data)} bytes, expected {smallest} to {MAX_BYTES}")
        magic, version, width, height, stamp_ns, stream_hash, model_hash = _FIXED.unpack_from(data)
        if magic != MAGIC:
            raise PacketError(f"byte 0: {magic:#04x}, a stream info starts with {MAGIC:#04x}")
        if version not in (PLAIN, EXTENDED):
            raise PacketError(f"byte 1: stream info version {version}, this release reads {PLAIN} and {EXTENDED}")
        end = check_crc(data, PacketError)
        position = _FIXED.size
        texts = []
        for name in ("camera", "frame_id", "model"):
            if position >= end:
                raise PacketError(f"byte {position}: {name} is missing")
            length = data[position]
            raw = data[position + 1 : position + 1 + length]
            if position + 1 + length > end:
                raise PacketError(f"byte {position}: {name} of {length} bytes ends after the stream info")
            try:
                texts.append(raw.decode())
            except UnicodeDecodeError as error:
                raise PacketError(f"byte {position + 1 + error.start}: {name} is not UTF-8") from None
            position += 1 + length
        calibration = None
        if version == EXTENDED:
            length = data[position] if position < end else 0
            if position + 1 + length > end:
                raise PacketError(f"byte {position}: the calibration ends after the stream info")
            if length:
                calibration = Calibration.from_bytes(data[position + 1 : position + 1 + length])
            position += 1 + length
        if position != end:
            raise PacketError(f"byte {position}: {end - position} bytes too many")
        try:
            info = StreamInfo(
                texts[0], texts[1], width, height, texts[2], stream_hash.hex(), model_hash.hex(), stamp_ns, calibration
            )
        except ValueError as error:
            raise PacketError(f"stream info: {error}") from None
        if info._version != version:
            raise PacketError(f"byte 1: stream info version {version}, what it says is written as {info._version}")
        return info
