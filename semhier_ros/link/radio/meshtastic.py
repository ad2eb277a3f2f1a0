"""Frames as Meshtastic radios carry them: what their serial and TCP port speaks, written and read here, so that the
maker's own package (GPL-3.0) is not needed.

On the port a message is 0x94 0xC3, its length (u16, most significant byte first) and protobuf: `ToRadio` towards the
radio, `FromRadio` from it (meshtastic.org, "Client API"). A frame is the payload of a packet to everybody on the first
channel, by port number 256 (PRIVATE_APP). The radio sends nothing to a computer before it was asked for its
configuration, nor to one that was silent for 15 minutes. Whatever else it says is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator

LARGEST = 233
"""The largest frame (bytes): that of a packet's payload."""
HEADER_BYTES, AROUND_PAYLOAD = 16, 8
"""On the air: of a packet, and around its payload at most (port number, length, the radio's own flags)."""
_START = b"\x94\xc3"
_MOST = 512
_PORT = 256
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_EVERYBODY = b"\xff\xff\xff\xff"


class Meshtastic:
    """A `Framing` of a Meshtastic radio's port."""

    opening = _START + b"\x00\x04\x18\xd3\x90\x01"
    """ToRadio.want_config_id: from now on the radio tells what it hears."""
    keeping = _START + b"\x00\x02\x3a\x00"
    """ToRadio.heartbeat: this computer is still there."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self.skipped = 0

    def wrap(self, frame: bytes) -> bytes:
        """`frame` (1 to 233 bytes) as a message to the radio. Raises ValueError for another size."""
        if not 1 <= len(frame) <= LARGEST:
            raise ValueError(f"frame: {len(frame)} bytes, expected 1 to {LARGEST}")
        data = b"\x08" + _varint(_PORT) + _part(2, frame)
        message = _part(1, b"\x15" + _EVERYBODY + _part(4, data))
        return _START + len(message).to_bytes(2, "big") + message

    def feed(self, data: bytes) -> list[bytes]:
        """The frames in further bytes from the radio, whose log may stand between its messages."""
        self._kept += data
        found: list[bytes] = []
        while (begin := self._kept.find(_START)) >= 0:
            self._skip(begin)
            size = int.from_bytes(self._kept[2:4], "big") if len(self._kept) >= 4 else 0
            if size > _MOST:
                self._skip(1)
                continue
            if len(self._kept) < 4 + size or len(self._kept) < 4:
                return found
            frame = _frame_of(bytes(self._kept[4 : 4 + size]))
            if frame is not None:
                found.append(frame)
            del self._kept[: 4 + size]
        self._skip(len(self._kept) - self._kept.endswith(_START[:1]))
        return found

    def _skip(self, count: int) -> None:
        self.skipped += count
        del self._kept[:count]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def _part(number: int, data: bytes) -> bytes:
    return bytes((number << 3 | _BYTES,)) + _varint(len(data)) + data


def _frame_of(message: bytes) -> bytes | None:
    """The payload of a FromRadio that brings a packet of ours, else None."""
    try:
        for number, packet in _fields(message):
            if number == 2 and isinstance(packet, bytes):
                decoded = dict(_fields(packet)).get(4)
                told = dict(_fields(decoded)) if isinstance(decoded, bytes) else {}
                payload = told.get(2)
                if told.get(1) == _PORT and isinstance(payload, bytes) and payload:
                    return payload
    except IndexError:
        return None
    return None


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of the fields of a protobuf message. Raises IndexError where it is none."""
    position = 0
    while position < len(data):
        key, position = _read_varint(data, position)
        kind = key & 7
        if kind == _VARINT:
            value, position = _read_varint(data, position)
            yield key >> 3, value
            continue
        size = {_FIXED64: 8, _FIXED32: 4}.get(kind)
        if kind == _BYTES:
            size, position = _read_varint(data, position)
        if size is None or position + size > len(data):
            raise IndexError("no field")
        yield key >> 3, data[position : position + size]
        position += size


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        byte = data[position + place]
        value |= (byte & 0x7F) << 7 * place
        if not byte & 0x80:
            return value, position + place + 1
    raise IndexError("no varint")
