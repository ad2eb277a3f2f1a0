"""What a link adds to every packet so that it can be measured, and authenticated where a key is shared.

An envelope is `0x20 | flags` (1 byte), a sequence number (2, big-endian, wraps), the sender's clock in milliseconds
(2, wraps), with flag 1 (authenticated) the high half of the sequence number (4), the packet, and with flag 1 a keyed
BLAKE2s of 8 bytes over everything before it and the stream's name. 5 bytes a datagram; 17 with a key. A packet begins
with 0x1., so that an end without envelopes is told from one with them.
"""

from __future__ import annotations

import hmac
import struct
import time
from hashlib import blake2s
from typing import NamedTuple

OVERHEAD = 5
"""Bytes that an envelope adds."""
OVERHEAD_KEYED = 17
"""Bytes that an authenticated envelope adds."""
MAC_BYTES = 8
KEY_BYTES = (16, 32)
"""Shortest and longest key."""
WINDOW = 64
"""How far behind the newest an authenticated packet may come and still be taken (once)."""

_KIND = 0x20
_KEYED = 0x01
_HEAD = struct.Struct(">BHH")
_HIGH = struct.Struct(">I")
_PERSON = b"semhier1"


class EnvelopeError(ValueError):
    """Bytes that are no envelope, forged, replayed or of the other kind; the message says which."""


class Opened(NamedTuple):
    """An envelope's content: `sequence` (16 bits), `sent_ms` (16 bits of the sender's clock), the packet."""

    sequence: int
    sent_ms: int
    payload: bytes


def read_key(text: str) -> bytes | None:
    """The shared key that `text` gives as 32 to 64 hexadecimal digits; None when it is empty.

    Raises ValueError for anything else (the text is not repeated in the message).
    """
    if not text:
        return None
    try:
        key = bytes.fromhex(text)
    except ValueError as error:
        raise ValueError("key must be hexadecimal digits, for instance of `openssl rand -hex 32`") from error
    if not KEY_BYTES[0] <= len(key) <= KEY_BYTES[1]:
        raise ValueError(f"key must be {KEY_BYTES[0]} to {KEY_BYTES[1]} bytes, not {len(key)}")
    return key


def is_envelope(data: bytes) -> bool:
    """Whether `data` claims to be an envelope (a packet claims to be none)."""
    return bool(data) and data[0] & 0xF0 == _KIND


def _mac(key: bytes, name: str, data: bytes) -> bytes:
    digest = blake2s(data, key=key, digest_size=MAC_BYTES, person=_PERSON)
    digest.update(b"\0" + name.encode())
    return digest.digest()


class Sealer:
    """Puts packets of one stream into envelopes.

    `name`: of the stream (camera and what is sent), part of what the key vouches for. The sequence number starts at the
    time of day times 65,536, so that a restarted sender goes on above its predecessor.
    """

    def __init__(self, name: str, key: bytes | None = None, start: int | None = None) -> None:
        self._name = name
        self._key = key
        self._next = (int(time.time() * 65_536) if start is None else start) & 0xFFFF_FFFF_FFFF

    def seal(self, payload: bytes, sent_ms: int) -> tuple[bytes, int]:
        """(envelope with `payload`, its sequence number's low 16 bits); `sent_ms`: the sender's clock now."""
        sequence = self._next
        self._next = (sequence + 1) & 0xFFFF_FFFF_FFFF
        low = sequence & 0xFFFF
        if self._key is None:
            return _HEAD.pack(_KIND, low, sent_ms & 0xFFFF) + payload, low
        head = _HEAD.pack(_KIND | _KEYED, low, sent_ms & 0xFFFF) + _HIGH.pack(sequence >> 16)
        data = head + payload
        return data + _mac(self._key, self._name, data), low


class Opener:
    """Takes packets of one stream out of their envelopes; with a key it lets nothing forged or replayed through.

    Replay: each sequence number is taken once, and none that lies more than 64 behind the newest.
    """

    def __init__(self, name: str, key: bytes | None = None) -> None:
        self._name = name
        self._key = key
        self._newest = -1
        self._seen = 0

    def open(self, data: bytes) -> Opened:
        """The content of an envelope. Raises EnvelopeError, and nothing else, when it is not to be trusted."""
        if len(data) < OVERHEAD:
            raise EnvelopeError(f"envelope: {len(data)} bytes, at least {OVERHEAD}")
        kind, low, sent_ms = _HEAD.unpack_from(data)
        if kind not in (_KIND, _KIND | _KEYED):
            raise EnvelopeError(f"envelope: first byte {kind:#04x}")
        if kind == _KIND:
            if self._key is not None:
                raise EnvelopeError("envelope: not authenticated, but this end has a key")
            return Opened(low, sent_ms, data[OVERHEAD:])
        if self._key is None:
            raise EnvelopeError("envelope: authenticated, but this end has no key")
        if len(data) < OVERHEAD_KEYED:
            raise EnvelopeError(f"envelope: {len(data)} bytes, at least {OVERHEAD_KEYED} with a key")
        body, told = data[:-MAC_BYTES], data[-MAC_BYTES:]
        if not hmac.compare_digest(told, _mac(self._key, self._name, body)):
            raise EnvelopeError("envelope: forged, damaged, or made with another key")
        self._once(_HIGH.unpack_from(data, OVERHEAD)[0] << 16 | low)
        return Opened(low, sent_ms, body[OVERHEAD + _HIGH.size :])

    def _once(self, sequence: int) -> None:
        ahead = sequence - self._newest
        if ahead > 0:
            self._seen = (self._seen << min(ahead, WINDOW) | 1) & ((1 << WINDOW) - 1)
            self._newest = sequence
            return
        if -ahead >= WINDOW or self._seen >> -ahead & 1:
            raise EnvelopeError("envelope: replayed")
        self._seen |= 1 << -ahead
