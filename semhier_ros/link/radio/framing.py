"""Frames in a stream of bytes: COBS for radios that carry bytes, KISS for modems that carry packets.

COBS (Cheshire and Baker, IEEE/ACM Transactions on Networking 7(2), 1999) takes zeros out of a frame and ends it with
one: 2 bytes for frames of up to 253. KISS (Chepponis and Karn, 1987) is what packet modems speak on their serial port;
what it adds stays between computer and modem. Meshtastic's radios have a port of their own (`meshtastic`). Readers
bound what they keep and skip what is no frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from semhier_ros.codec.compact import MAX_FRAME_BYTES
from semhier_ros.link.radio.meshtastic import AROUND_PAYLOAD, HEADER_BYTES, Meshtastic

__all__ = ["MAX_FRAME_BYTES", "Framing", "added_bytes", "cobs", "framing", "from_cobs", "from_kiss", "kiss"]

FRAMINGS = ("cobs", "kiss", "meshtastic")

_FEND, _FESC, _TFEND, _TFESC = 0xC0, 0xDB, 0xDC, 0xDD
_DATA = 0x00
_ESCAPED = {_TFEND: _FEND, _TFESC: _FESC}


def cobs(frame: bytes) -> bytes:
    """`frame` without zeros, and a zero behind it."""
    out = bytearray()
    for part in frame.split(b"\0"):
        rest = part
        while len(rest) >= 254:
            out += b"\xff" + rest[:254]
            rest = rest[254:]
        out += bytes((len(rest) + 1,)) + rest
    return bytes(out) + b"\0"


def from_cobs(data: bytes) -> bytes | None:
    """The frame of `data` (its ending zero taken off), None where it is none."""
    out, position = bytearray(), 0
    while position < len(data):
        code = data[position]
        if code == 0 or position + code > len(data):
            return None
        out += data[position + 1 : position + code]
        position += code
        if code < 255 and position < len(data):
            out.append(0)
    return bytes(out)


def kiss(frame: bytes) -> bytes:
    """`frame` as a data frame of a KISS modem's port 0."""
    body = frame.replace(bytes((_FESC,)), bytes((_FESC, _TFESC))).replace(bytes((_FEND,)), bytes((_FESC, _TFEND)))
    return bytes((_FEND, _DATA)) + body + bytes((_FEND,))


def from_kiss(data: bytes) -> bytes | None:
    """The frame of what stood between two ends of a KISS stream, None where it is no data frame of port 0."""
    if not data or data[0] != _DATA:
        return None
    out, escaped = bytearray(), False
    for byte in data[1:]:
        if escaped:
            if byte not in _ESCAPED:
                return None
            out.append(_ESCAPED[byte])
            escaped = False
        elif byte == _FESC:
            escaped = True
        else:
            out.append(byte)
    return None if escaped else bytes(out)


class Framing(Protocol):
    """`wrap`: a frame as bytes of the stream. `feed`: the frames that further bytes complete. `skipped`: bytes that
    were no frame. `opening`: what a device is told once it is open, `keeping`: every few minutes; empty for nothing."""

    skipped: int

    @property
    def opening(self) -> bytes: ...
    @property
    def keeping(self) -> bytes: ...

    def wrap(self, frame: bytes) -> bytes: ...

    def feed(self, data: bytes) -> list[bytes]: ...


class _Stream:
    """A stream that one byte parts."""

    opening = keeping = b""

    def __init__(self, mark: int, wrap: Callable[[bytes], bytes], unwrap: Callable[[bytes], bytes | None]) -> None:
        self._mark, self._wrap, self._unwrap = bytes((mark,)), wrap, unwrap
        self._kept = bytearray()
        self._most = 2 * MAX_FRAME_BYTES + 4
        self.skipped = 0

    def wrap(self, frame: bytes) -> bytes:
        """`frame` as bytes of the stream."""
        return self._wrap(frame)

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes; of what is longer than any frame only the end is kept."""
        found = []
        *ended, rest = data.split(self._mark)
        for part in ended:
            whole = bytes(self._kept) + part if len(self._kept) <= self._most else b""
            if whole and len(whole) <= self._most:
                frame = self._unwrap(whole)
                if frame:
                    found.append(frame)
                else:
                    self.skipped += len(whole)
            elif self._kept:
                self.skipped += len(self._kept) + len(part)
            self._kept.clear()
        if len(self._kept) <= self._most:
            self._kept += rest[: self._most + 1]
        return found


_MAVLINK = {0xFE: (6, 0), 0xFD: (10, 13)}
"""First byte of a message of MAVLink 1 and 2: bytes of its header, of a signature where its third byte asks for one."""
_CHECK = 2


class Messages:
    """A `Framing` of whole MAVLink messages as a router passes them on: it reads their lengths and nothing else."""

    opening = keeping = b""

    def __init__(self) -> None:
        self._kept = bytearray()
        self.skipped = 0

    def wrap(self, frame: bytes) -> bytes:
        """`frame`, which is a message."""
        return frame

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that `data` completes; bytes between messages are skipped."""
        self._kept += data
        found: list[bytes] = []
        while self._kept:
            if self._kept[0] not in _MAVLINK:
                del self._kept[0]
                self.skipped += 1
                continue
            header, signature = _MAVLINK[self._kept[0]]
            if len(self._kept) < header:
                break
            size = header + self._kept[1] + _CHECK + (signature if self._kept[2] & 1 else 0)
            if len(self._kept) < size:
                break
            found.append(bytes(self._kept[:size]))
            del self._kept[:size]
        return found


def framing(name: str) -> Framing:
    """The framing of that name, one of FRAMINGS. Raises ValueError for another."""
    if name == "cobs":
        return _Stream(0, cobs, from_cobs)
    if name == "kiss":
        return _Stream(_FEND, kiss, from_kiss)
    if name == "meshtastic":
        return Meshtastic()
    raise ValueError(f"framing: {name!r}, expected one of {', '.join(FRAMINGS)}")


def added_bytes(name: str, frame_bytes: int) -> int:
    """What the framing adds on the air to a frame of that size: none for kiss, whose modem sends the frame itself; at
    most so much for meshtastic, whose radio makes a packet of it."""
    own = {"kiss": 0, "meshtastic": HEADER_BYTES + AROUND_PAYLOAD}
    return own.get(name, 2 + frame_bytes // 254)
