"""The envelope that a measured link puts around what it carries (docs/bitstream.md): a sequence number and a clock, and
where both ends share a key what proves them.

Only bytes here: who takes each sequence number once is `link.feedback.envelope`.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass
from hashlib import blake2s

OVERHEAD = 5
"""Bytes that an envelope adds."""
OVERHEAD_KEYED = 17
"""Bytes that an authenticated envelope adds."""
MAC_BYTES = 8
KEY_BYTES = (16, 32)
"""Shortest and longest key."""
SEQUENCES = 1 << 48
"""Sequence numbers wrap here; without a key only their low 16 bits travel."""

_KIND = 0x20
_KEYED = 0x01
_HEAD = struct.Struct(">BHH")
_HIGH = struct.Struct(">I")
_PERSON = b"semhier1"


class EnvelopeError(ValueError):
    """Bytes that are no envelope, forged, replayed or of the other kind; the message says which."""


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


@dataclass(frozen=True, slots=True)
class Envelope:
    """`sequence`: 48 bits, of which only the low 16 travel without a key. `sent_ms`: 16 bits of the sender's clock in
    milliseconds. `payload`: what is carried. Numbers wrap at what their bytes can hold."""

    sequence: int
    sent_ms: int
    payload: bytes

    def to_bytes(self, name: str, key: bytes | None = None) -> bytes:
        """The envelope on the wire. `name`: of the stream (`front/packets`), which a key vouches for too."""
        low, high = self.sequence & 0xFFFF, self.sequence % SEQUENCES >> 16
        if key is None:
            return _HEAD.pack(_KIND, low, self.sent_ms & 0xFFFF) + self.payload
        data = _HEAD.pack(_KIND | _KEYED, low, self.sent_ms & 0xFFFF) + _HIGH.pack(high) + self.payload
        return data + _mac(key, name, data)

    @staticmethod
    def from_bytes(data: bytes, name: str, key: bytes | None = None) -> Envelope:
        """The envelope that `data` holds, proved by `key` where there is one. Raises EnvelopeError, and nothing else,
        when it is not to be trusted; that it was not taken before is for the caller to see."""
        if len(data) < OVERHEAD:
            raise EnvelopeError(f"envelope: {len(data)} bytes, at least {OVERHEAD}")
        kind, low, sent_ms = _HEAD.unpack_from(data)
        if kind not in (_KIND, _KIND | _KEYED):
            raise EnvelopeError(f"envelope: first byte {kind:#04x}")
        if kind == _KIND:
            if key is not None:
                raise EnvelopeError("envelope: not authenticated, but this end has a key")
            return Envelope(low, sent_ms, data[OVERHEAD:])
        if key is None:
            raise EnvelopeError("envelope: authenticated, but this end has no key")
        if len(data) < OVERHEAD_KEYED:
            raise EnvelopeError(f"envelope: {len(data)} bytes, at least {OVERHEAD_KEYED} with a key")
        body, told = data[:-MAC_BYTES], data[-MAC_BYTES:]
        if not hmac.compare_digest(told, _mac(key, name, body)):
            raise EnvelopeError("envelope: forged, damaged, or made with another key")
        high = _HIGH.unpack_from(data, OVERHEAD)[0]
        return Envelope(high << 16 | low, sent_ms, body[OVERHEAD + _HIGH.size :])


def _mac(key: bytes, name: str, data: bytes) -> bytes:
    digest = blake2s(data, key=key, digest_size=MAC_BYTES, person=_PERSON)
    digest.update(b"\0" + name.encode())
    return digest.digest()
