"""Who puts packets into envelopes and takes them out again: sequence numbers on one end, a replay window on the other.

What an envelope's bytes are says `codec.envelope`. 5 bytes a datagram; 17 with a key.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from semhier_ros.codec.envelope import SEQUENCES, Envelope, EnvelopeError

WINDOW = 64
"""How far behind the newest an authenticated packet may come and still be taken (once)."""


class Opened(NamedTuple):
    """An envelope's content: `sequence` (48 bits with a key, else the 16 that travel), `sent_ms` (16 bits of the
    sender's clock), the packet."""

    sequence: int
    sent_ms: int
    payload: bytes


def start_of(wall: float) -> int:
    """The sequence number at which a sender begins at `wall` seconds since 1970: that times 65,536, so that a restarted
    sender goes on above its predecessor."""
    return int(wall * 65_536) % SEQUENCES


class Sealer:
    """Puts packets of one stream into envelopes.

    `name`: of the stream (camera and what is sent), part of what the key vouches for. `start`: the first sequence
    number (None: `start_of` now).
    """

    def __init__(self, name: str, key: bytes | None = None, start: int | None = None) -> None:
        self._name = name
        self._key = key
        self._next = start_of(time.time()) if start is None else start % SEQUENCES

    def seal(self, payload: bytes, sent_ms: int) -> tuple[bytes, int]:
        """(envelope with `payload`, its sequence number's low 16 bits); `sent_ms`: the sender's clock now."""
        sequence = self._next
        self._next = (sequence + 1) % SEQUENCES
        return Envelope(sequence, sent_ms, payload).to_bytes(self._name, self._key), sequence & 0xFFFF


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
        envelope = Envelope.from_bytes(data, self._name, self._key)
        if self._key is not None:
            self._once(envelope.sequence)
        return Opened(envelope.sequence, envelope.sent_ms, envelope.payload)

    def _once(self, sequence: int) -> None:
        ahead = sequence - self._newest
        if ahead > 0:
            self._seen = (self._seen << min(ahead, WINDOW) | 1) & ((1 << WINDOW) - 1)
            self._newest = sequence
            return
        if -ahead >= WINDOW or self._seen >> -ahead & 1:
            raise EnvelopeError("envelope: replayed")
        self._seen |= 1 << -ahead
