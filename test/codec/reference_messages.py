"""Readers of requests, reports, notes and envelopes, written from docs/bitstream.md alone: a table of fields each."""

from __future__ import annotations

import hashlib
import zlib

Fields = list[tuple[str, int]]
REQUEST: Fields = [("kind", 1), ("version", 1), ("flags", 1), ("finest", 1), ("frame", 2), ("duration", 4)]
REPORT: Fields = [
    ("kind", 1),
    ("newest", 2),
    ("received", 2),
    ("lost", 2),
    ("runs", 2),
    ("echo", 2),
    ("held", 2),
    ("delay", 2),
    ("bytes", 4),
    ("clock", 6),
]
HOLDS: Fields = [*REPORT, ("frame", 1), ("check", 1)]
NOTE: Fields = [("kind", 1), ("offset", 8), ("error", 4)]


def pose_fields(flags: int, name_bytes: int = 0) -> Fields:
    """The fields of a pose with these flags; of a whole one in a frame, whose name has so many bytes."""
    low = 4 if flags & 1 else 2
    fields = [("kind", 1), ("flags", 1), ("stamp", 6 if flags & 1 else 2), ("x", low), ("y", low)]
    fields += [("z", low)] if flags & 4 else []
    fields += [("yaw", 2)]
    fields += [("pitch", 2), ("roll", 2)] if flags & 8 else []
    fields += [("accuracy", 1)] if flags & 1 else []
    return fields + ([("size", 1), ("name", name_bytes)] if flags & 3 == 1 else [])


def read(fields: Fields, data: bytes) -> dict[str, int]:
    """The unsigned numbers of a checked message."""
    assert len(data) == sum(size for _, size in fields) + 4
    checksum = zlib.crc32(data[:-4])
    assert list(data[-4:]) == [checksum >> shift & 0xFF for shift in (0, 8, 16, 24)]
    found = {}
    for name, size in fields:
        number = 0
        for byte in data[:size]:
            number = number * 256 + byte
        found[name], data = number, data[size:]
    return found


def open_envelope(data: bytes, name: str = "", key: bytes = b"") -> tuple[int, int, bytes]:
    """Sequence number, send time and content of an envelope, its proof checked where it has one."""
    assert data[0] == (0x21 if key else 0x20)
    low, sent = data[1] * 256 + data[2], data[3] * 256 + data[4]
    if not key:
        return low, sent, data[5:]
    high = int.from_bytes(data[5:9], "big")
    message = data[:-8] + bytes(1) + name.encode("utf-8")
    assert hashlib.blake2s(message, digest_size=8, key=key, person=b"semhier1").digest() == data[-8:]
    return high * 65_536 + low, sent, data[9:-8]
