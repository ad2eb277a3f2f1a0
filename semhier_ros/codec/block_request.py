"""What a receiver asks of a camera's sender: up to which block, for how long or of which frame (docs/bitstream.md)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from semhier_ros.codec.checksum import CRC_BYTES, check_crc, with_crc
from semhier_ros.codec.packet import MAX_BLOCKS, PacketError

KIND = 0x52
VERSION = 1
MAX_DURATION_MS = 3_600_000
"""An hour: the longest time that one request can hold."""
_ONE_FRAME = 0x01
_BODY = struct.Struct(">BBBBHI")
REQUEST_BYTES = _BODY.size + CRC_BYTES


@dataclass(frozen=True, slots=True)
class BlockRequest:
    """A request to a camera's sender; `LinkReceiver.request(camera, request.to_bytes())` sends it, no ROS needed.

    `finest`: index of the finest block that is wanted, 0 to 15; an index beyond the model's last block means all.
    `frame`: the one frame that is meant, 0 to 65535, which the sender answers if it still keeps it; None: all frames
    from now on. `duration_ms`: how long a request for all frames holds, up to an hour; 0: until the next request. A
    request for one frame has none. Raises ValueError naming the field that is out of its range.
    """

    finest: int
    frame: int | None = None
    duration_ms: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.finest < MAX_BLOCKS:
            raise ValueError(f"finest: {self.finest}, expected 0 to {MAX_BLOCKS - 1}")
        if self.frame is not None and not 0 <= self.frame <= 0xFFFF:
            raise ValueError(f"frame: {self.frame}, expected 0 to {0xFFFF}")
        if not 0 <= self.duration_ms <= MAX_DURATION_MS:
            raise ValueError(
                f"duration: {self.duration_ms / 1000:g} s, expected 0 (until the next request) to "
                f"{MAX_DURATION_MS // 1000} s"
            )
        if self.frame is not None and self.duration_ms:
            raise ValueError(f"duration: {self.duration_ms / 1000:g} s, but a request for one frame has none")

    def to_bytes(self) -> bytes:
        """14 bytes, the only encoding of this request."""
        flags = 0 if self.frame is None else _ONE_FRAME
        return with_crc(_BODY.pack(KIND, VERSION, flags, self.finest, self.frame or 0, self.duration_ms))

    @staticmethod
    def from_bytes(data: bytes) -> BlockRequest:
        """The request that `data` holds. Raises PacketError, and nothing else, saying what is wrong and where."""
        data = bytes(data)
        if len(data) != REQUEST_BYTES:
            raise PacketError(f"request: {len(data)} bytes, expected {REQUEST_BYTES}")
        check_crc(data, PacketError)
        kind, version, flags, finest, frame, duration_ms = _BODY.unpack_from(data)
        if kind != KIND:
            raise PacketError(f"byte 0: {kind:#04x}, a request starts with {KIND:#04x}")
        if version != VERSION:
            raise PacketError(f"byte 1: request version {version}, this release reads version {VERSION}")
        if flags & ~_ONE_FRAME:
            raise PacketError(f"byte 2: unknown flags {flags:#x}")
        if not flags and frame:
            raise PacketError(f"byte 4: frame {frame} in a request for all frames, expected 0")
        try:
            return BlockRequest(finest, frame if flags else None, duration_ms)
        except ValueError as error:
            raise PacketError(f"request: {error}") from None
