"""Which blocks travel together in one datagram, how large it may be, and its bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from semhier_ros.link.schedule.policy import LevelPolicy
from semhier_ros.link.schedule.room import WaitingRoom
from semhier_ros.link.schedule.waiting import Unit
from semhier_ros.link.schedule.wire import WireModel
from semhier_ros.link.transport import MAX_PAYLOAD

SMALLEST_PACKET = 200
LARGEST_PACKET = 1200
PACKET_SECONDS = 0.020
ALONE_SECONDS = 0.005
"""Blocks whose company would hold block 0 up for longer follow in a packet of their own,"""
ALONE_LOAD = 0.6
"""as long as coarse packets took less than this share of the rate over the last second: of packets on IP."""
_BLOCK_ESTIMATE = 2


class Shape(NamedTuple):
    """What a transport's datagrams hold: `largest` payload (bytes), None where the rate decides; `header`: at most so
    many bytes of it besides blocks and their lengths. `alone`: below which share of the rate for coarse packets block 0
    goes without what would hold it up."""

    largest: int | None = None
    header: int = 15
    alone: float = ALONE_LOAD


PACKETS = Shape()
"""Packets of docs/bitstream.md on IP."""


Pack = Callable[..., bytes]
"""pack(blocks, stamp_ns=int | None) -> bytes: consecutive blocks of one frame into one packet."""

Split = Callable[..., list[bytes]]
"""split(block, limit, stamp_ns=int | None) -> packets of at most `limit` bytes: the whole block if it fits, if need be
without what it says of motion, else one piece of it in each. All of them carry the stamp."""


class Packer:
    """Packs the units that the room chose. `joint`: consecutive blocks travel together and large ones are cut; else
    every block is a message of its own, never cut.

    `limit`: the largest payload of one datagram (bytes); `depth`: the wire bytes of a full one. Both follow `rate`
    (wire bytes per second, None for unlimited).
    """

    def __init__(
        self,
        pack: Pack,
        split: Split,
        room: WaitingRoom,
        wire: WireModel,
        *,
        joint: bool,
        rate: float | None,
        shape: Shape = PACKETS,
    ) -> None:
        self._pack, self._split, self._room, self._joint = pack, split, room, joint
        self._shape = shape
        self._policies: Sequence[LevelPolicy] = room.policies
        self._wire = wire
        self.set_rate(rate)

    def set_rate(self, rate: float | None) -> None:
        """The budget is `rate` from now on."""
        self._rate = rate
        if not self._joint:
            self.limit = MAX_PAYLOAD
        elif self._shape.largest is not None:
            self.limit = self._shape.largest
        elif rate is None:
            self.limit = LARGEST_PACKET
        else:
            self.limit = min(LARGEST_PACKET, max(SMALLEST_PACKET, int(rate * PACKET_SECONDS)))
        self.depth = self._wire.wire_bytes(self.limit if self._joint else LARGEST_PACKET)

    def cut_again(self) -> None:
        """Pieces already cut for larger packets than `limit` are cut again. When some of them have left, the rest
        follows if it is at most twice as large as allowed, and is dropped else.
        """
        for camera in self._room.cameras.values():
            for unit in camera.pending():
                if unit.pieces is None or max(map(len, unit.pieces)) <= self.limit:
                    continue
                if unit.next_piece == 0:
                    unit.pieces = None
                elif max(map(len, unit.pieces)) > 2 * self.limit:
                    self._room.drop_from(camera, unit.frame, unit.index, "superseded")

    def joined(self, unit: Unit, now: float) -> tuple[list[Unit], int]:
        """`unit` and the blocks that travel with it, with an upper bound of the datagram's wire bytes."""
        limit = self.limit
        size = self._shape.header + _BLOCK_ESTIMATE + unit.size
        if size > limit and unit.pieces is None and self._joint:
            self._cut(unit, limit)
        if unit.pieces is not None:
            return [unit], self._wire.wire_bytes(len(unit.pieces[unit.next_piece]))
        units, alone = [unit], size
        if self._joint and not (unit.index == 0 and self._room.coarse_waits(now)):
            waiting = unit.frame.units
            index = unit.index + 1
            while (finer := waiting.get(index)) is not None and finer.pieces is None:
                more = size + _BLOCK_ESTIMATE + finer.size
                if more > limit or now - finer.submitted > self._policies[index].lifespan:
                    break
                size = more
                units.append(finer)
                index += 1
            if unit.rank == 0 and len(units) > 1 and self._better_alone(size - alone, now):
                return [unit], self._wire.wire_bytes(alone)
        return units, self._wire.wire_bytes(size)

    def payload(self, units: list[Unit]) -> bytes:
        """The bytes of a datagram of `units`; those that do not fit after all are taken off the list. Raises
        ValueError when the first block cannot be packed.
        """
        first = units[0]
        if first.pieces is not None:
            payload = first.pieces[first.next_piece]
            if not payload:
                raise ValueError("the block could not be packed")
            return payload
        stamp = first.frame.stamp_ns if self._joint and first.index == 0 else None
        while True:
            payload = self._pack([unit.block for unit in units], stamp_ns=stamp)
            if len(payload) <= self.limit or len(units) == 1:
                return payload
            units.pop()

    def _better_alone(self, others: int, now: float) -> bool:
        """Whether block 0 should not wait for `others` bytes to leave with it: where that takes a while, and where
        coarse packets leave room enough for a further header.
        """
        rate = self._rate
        if rate is None or others < ALONE_SECONDS * rate:
            return False
        cameras = self._room.cameras.values()
        return sum(camera.counters[0].wire.total(now) for camera in cameras) < self._shape.alone * rate

    def _cut(self, unit: Unit, limit: int) -> None:
        """Cuts a block that is too large for one packet; one that just fits after all becomes a single packet. Of a
        frame, block 0 alone tells the stamp, whole or in pieces."""
        stamp = unit.frame.stamp_ns if unit.index == 0 else None
        try:
            unit.pieces = self._split(unit.block, limit, stamp_ns=stamp)
        except ValueError:
            unit.pieces = [b""]
