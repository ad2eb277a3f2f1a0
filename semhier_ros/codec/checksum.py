"""The CRC-32 at the end of what travels: every message of ours but a block and a sealed envelope ends with one."""

from __future__ import annotations

import zlib

CRC_BYTES = 4


def with_crc(body: bytes) -> bytes:
    """`body` and its CRC-32, least significant byte first."""
    return body + zlib.crc32(body).to_bytes(CRC_BYTES, "little")


def check_crc(data: bytes, error: type[ValueError]) -> int:
    """Where the checksum at the end of `data` (4 bytes or more) begins, once it was found to fit.

    Raises:
        error: it does not fit the bytes before it; the message names both.
    """
    end = len(data) - CRC_BYTES
    told, found = int.from_bytes(data[end:], "little"), zlib.crc32(memoryview(data)[:end])
    if told != found:
        raise error(f"byte {end}: CRC-32 {told:#010x}, the {end} bytes before it have {found:#010x}")
    return end
