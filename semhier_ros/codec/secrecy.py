"""What hides and vouches for a frame's body: ChaCha20-Poly1305 of RFC 8439, or ChaCha20 beside a short MAC of its own.

Both of the Python package `cryptography` (Apache-2.0 or BSD-3-Clause), which nothing else needs.

A nonce is a frame's counter, which a sender never uses twice, and stands under a key that no other start of a sender
has: keyed BLAKE2s of the 8 random bytes (`epoch`) that it draws when it starts and tells in its announcements. So two
starts, or two robots with one shared key, never meet in a nonce, whatever their clocks say.
"""

from __future__ import annotations

from hashlib import blake2s
from typing import Any

ENCRYPTIONS = ("none", "chacha20", "chacha20poly1305")
EPOCH_BYTES = 8
TAG_BYTES = 16
"""Of ChaCha20-Poly1305. A shorter one would be no sound MAC: what is known of Poly1305 holds for all of it."""
_PERSONS = {"chacha20": b"semhiers", "chacha20poly1305": b"semhierp"}


class SecrecyError(ImportError):
    """The package `cryptography` is not installed; the message says what to install."""


def cryptography_module() -> Any:
    """The ciphers of `cryptography`; SecrecyError where it is missing."""
    try:
        from cryptography.hazmat.primitives import ciphers
        from cryptography.hazmat.primitives.ciphers import aead
    except ImportError:
        raise SecrecyError("encryption needs the Python package cryptography: pip install cryptography") from None
    return ciphers, aead


class Cipher:
    """One of ENCRYPTIONS but none, under the key of one start of a sender. `key`: shared, 16 to 32 bytes. Raises
    SecrecyError where the package is missing."""

    def __init__(self, name: str, key: bytes, epoch: bytes) -> None:
        if len(epoch) != EPOCH_BYTES:
            raise ValueError(f"epoch: {len(epoch)} bytes, expected {EPOCH_BYTES}")
        self._ciphers, aead = cryptography_module()
        self._key = blake2s(epoch, key=key, person=_PERSONS[name]).digest()
        self._aead = aead.ChaCha20Poly1305(self._key) if name == "chacha20poly1305" else None

    def hide(self, body: bytes, counter: int, beside: bytes) -> bytes:
        """`body` encrypted; with ChaCha20-Poly1305 also its tag, which vouches for `beside` too."""
        nonce = counter.to_bytes(6, "big") + bytes(6)
        if self._aead is not None:
            return bytes(self._aead.encrypt(nonce, body, beside))
        return self._stream(nonce, body)

    def show(self, hidden: bytes, counter: int, beside: bytes) -> bytes | None:
        """What `hide` hid; None where ChaCha20-Poly1305's tag does not vouch for it. ChaCha20 alone vouches for
        nothing: its MAC has to be checked first."""
        nonce = counter.to_bytes(6, "big") + bytes(6)
        if self._aead is None:
            return self._stream(nonce, hidden)
        from cryptography.exceptions import InvalidTag

        try:
            return bytes(self._aead.decrypt(nonce, hidden, beside))
        except InvalidTag:
            return None

    def _stream(self, nonce: bytes, data: bytes) -> bytes:
        algorithm = self._ciphers.algorithms.ChaCha20(self._key, bytes(4) + nonce)  # 4 bytes count blocks, from 0
        return bytes(self._ciphers.Cipher(algorithm, mode=None).encryptor().update(data))
