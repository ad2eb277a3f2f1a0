"""Lays blocks out as compact frames for a scheduler: what `Packet.pack` and `split` are to links on IP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from semhier_ros.codec.compact import lay_out, lay_out_pieces
from semhier_ros.link.clock import MACHINE, Clock

_SHORT = 0.45
"""Seconds that the age of a frame may differ from the usual for its stamp to be told in 8 bits (2 s)."""
_FOLLOW = 0.1
_OTHER = 5.0
"""Seconds by which a frame's age is another one, that of a camera whose clock was set or of a queue that is gone, and
not the usual one that drifts."""
_TOLD = 8
"""So many stamps are told long then: by the first that comes the receiver knows the new age."""


class CompactPacker:
    """`pack` and `split` of one scheduler. A stamp is told short where the receiver, who has heard frames of about this
    age, can tell the rest; `age`: how old frames usually are when they leave (s, by `clock` against their stamps).
    `limit`: bytes of a frame without its proof, None for any number: what block 0 says of motion goes where it fits."""

    def __init__(self, clock: Clock = MACHINE, limit: int | None = None) -> None:
        self._clock, self._limit = clock, limit
        self.age: float | None = None
        self._to_tell = 0

    def pack(self, blocks: Sequence[Any], *, stamp_ns: int | None = None) -> bytes:
        """One frame of consecutive blocks, without its proof (`codec.compact.lay_out`)."""
        return self._laid(blocks, stamp_ns, self._limit)

    def split(self, block: Any, limit: int, *, stamp_ns: int | None = None) -> list[bytes]:
        """Frames of at most `limit` bytes that together carry `block`: one if it fits, if need be without its motion,
        else pieces. `stamp_ns`: of block 0, which each of them tells."""
        whole = self._laid([block], stamp_ns, limit)
        return [whole] if len(whole) <= limit else lay_out_pieces(block, limit, stamp_ns)

    def _laid(self, blocks: Sequence[Any], stamp_ns: int | None, limit: int | None) -> bytes:
        """One frame of consecutive blocks; without their motion where it is longer than `limit`."""
        long = stamp_ns is not None and not self._usual(stamp_ns)
        laid = lay_out(blocks, stamp_ns, long=long)
        if limit is not None and len(laid) > limit and blocks[0].motion:
            laid = lay_out([block.without_motion() for block in blocks], stamp_ns, long=long)
        return laid

    def _usual(self, stamp_ns: int) -> bool:
        """Notes the age of a frame that leaves, and whether it is a usual one."""
        age = self._clock.now() - stamp_ns / 1e9
        known = self.age
        if known is None or abs(age - known) > _OTHER:
            self.age, self._to_tell = age, 0 if known is None else _TOLD
            return False
        self.age = known + _FOLLOW * (age - known)
        self._to_tell = max(0, self._to_tell - 1)
        return not self._to_tell and abs(age - known) < _SHORT
