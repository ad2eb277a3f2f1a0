"""Which bytes leave next: blocks of many cameras and frames in, datagrams out, under a budget of wire bytes.

Order: the first copy of block 0 of every camera, newest first; then its repeats; then block 1, its repeats, and so on
to the pictures. Within one such rank cameras share by weight. Consecutive blocks of one frame travel together as far as
a packet reaches; but block 0 goes alone when coarse blocks have begun to queue, and on a thin link that is not full of
them. A block that is too old, replaced by a newer frame's, useless because an earlier block of its frame was dropped,
or beyond the memory bound is dropped and counted; finer blocks first. A picture's datagram does not leave right before
the next frame's coarse block is expected, which would have to wait for it.

The clock is injected: every method takes `now` in seconds of any monotonic clock. Not thread-safe: `Pacer` adds the
lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from semhier_ros.link.schedule.budget import RollingSum, TokenBucket
from semhier_ros.link.schedule.packing import PACKETS, Pack, Packer, Shape, Split
from semhier_ros.link.schedule.policy import LevelPolicy, check_policies
from semhier_ros.link.schedule.room import NEVER, WaitingRoom
from semhier_ros.link.schedule.status import LevelStatus, SchedulerStatus
from semhier_ros.link.schedule.waiting import CameraQueue, Unit
from semhier_ros.link.schedule.wire import ZENOH_UDP, WireModel
from semhier_ros.link.transport import MAX_INFO, MAX_PAYLOAD, Datagram

GIVE_WAY_SECONDS = 1.0
"""How long pictures give way to coarse blocks that are expected, since the last of a picture left."""
GIVE_WAY_SHARE = 0.4
"""They do where their datagram takes no more than this share of the time between frames, or hardly one would leave."""


class BlockLike(Protocol):
    """What the scheduler needs to know of a block: its index (0..15) and its bytes."""

    @property
    def index(self) -> int: ...

    @property
    def data(self) -> bytes: ...


class Background(Protocol):
    """What leaves where no block may: `ready(now)` says when and how many wire bytes, None for nothing; `take(now)`
    gives it, or None after all."""

    def ready(self, now: float) -> tuple[float, int] | None: ...

    def take(self, now: float) -> Datagram | None: ...


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """Memory bounds: `units` (blocks waiting, 1 to 100000) and `bytes` (1 to 2**30) per camera, and `cameras` (1 to
    1024).
    """

    units: int = 512
    bytes: int = 1 << 20
    cameras: int = 64

    def __post_init__(self) -> None:
        for name, value, top in (
            ("units", self.units, 100_000),
            ("bytes", self.bytes, 1 << 30),
            ("cameras", self.cameras, 1024),
        ):
            if not 1 <= value <= top:
                raise ValueError(f"{name} must be 1 to {top}, not {value}")


class Scheduler:
    """Orders, packs and paces blocks. See the module's text for the order.

    `pack`, `split`: the codec's packing functions (`Packet.pack`, `codec.split`). `policies`: one `LevelPolicy` per
    block index (`default_policies`). `wire`: what a message costs on the wire. `rate`: budget in wire bytes per second,
    None or 0 for unlimited. `joint`: True packs consecutive blocks together and cuts large ones into pieces (Zenoh);
    False makes every block a message of its own, never cut (ROS 2 level topics). `repeat_gap`: seconds between a
    datagram and the repeat of its blocks (0 to 10), so that one burst does not take both. `shape`: of what `pack`
    makes, where that is not a packet. Raises ValueError naming field, value and range.
    """

    def __init__(
        self,
        pack: Pack,
        split: Split,
        policies: Sequence[LevelPolicy],
        *,
        wire: WireModel = ZENOH_UDP,
        rate: float | None = None,
        joint: bool = True,
        repeat_gap: float = 0.030,
        limits: SchedulerLimits | None = None,
        shape: Shape = PACKETS,
    ) -> None:
        if not 0.0 <= repeat_gap <= 10.0:
            raise ValueError(f"repeat_gap must be 0 to 10 s, not {repeat_gap}")
        self.policies = check_policies(policies)
        self.wire = wire
        self.joint = joint
        self.limits = limits or SchedulerLimits()
        self._repeat_gap = repeat_gap
        self._repeats = [policy.repeats for policy in self.policies]
        self._rate = _checked_rate(rate)
        self._room = WaitingRoom(self.policies, self.limits.cameras)
        self._packer = Packer(pack, split, self._room, wire, joint=joint, rate=self._rate, shape=shape)
        self._sequence = 0
        self._choice: tuple[list[Unit], int, float] | None = None
        self._choice_until = 0.0
        self._choice_changes = -1
        self._bucket = TokenBucket(self._rate, self._packer.depth)
        self._held = self._picture_left = float("-inf")
        self.background: Background | None = None
        self._used = RollingSum()
        self._datagrams = 0
        self._wire_bytes = 0
        self._beside = 0

    # -- settings -----------------------------------------------------------------------------------------------------

    @property
    def rate(self) -> float | None:
        """The budget in wire bytes per second; None for unlimited."""
        return self._rate

    @property
    def packet_limit(self) -> int:
        """The largest payload of one datagram (bytes): 20 ms of the link, at least 200 and at most 1,200."""
        return self._packer.limit

    def set_rate(self, rate: float | None, now: float) -> None:
        """Changes the budget (wire bytes per second, None or 0 for unlimited, else 1 to 10**10) from `now` on.

        Pieces already cut for a larger packet than the new rate allows are cut again. When some of them have left, the
        rest follows if it is at most twice as large as allowed, and is dropped else.
        """
        self._rate = _checked_rate(rate)
        self._packer.set_rate(self._rate)
        self._choice = None
        self._bucket.set(self._rate, self._packer.depth, now)
        self._packer.cut_again()

    def set_repair(self, repeats: int, gap: float, names: bool = True) -> None:
        """From now on block 0 goes out `repeats` more times (0 to 8), `gap` seconds apart (0 to 10). With `names`,
        other blocks whose policy repeats them do so as often as it says, and no more than block 0; else not at all.
        """
        if not 0 <= repeats <= 8:
            raise ValueError(f"repeats must be 0 to 8, not {repeats}")
        if not 0.0 <= gap <= 10.0:
            raise ValueError(f"gap must be 0 to 10 s, not {gap}")
        self._repeat_gap = gap
        self._repeats = [
            repeats if index == 0 else min(policy.repeats, repeats if names else 0)
            for index, policy in enumerate(self.policies)
        ]

    def set_finest(self, camera: str, index: int | None, until: float | None = None) -> None:
        """Sends only blocks 0 to `index` of `camera` (None: all): until the clock says `until`, or from now on if None.

        A timed setting stands above the lasting one while it runs. Blocks that are already queued and finer are dropped
        by the next `submit` or `pop`, counted as refused.
        """
        if index is not None and not 0 <= index <= 15:
            raise ValueError(f"finest block index must be 0 to 15 or None, not {index}")
        record = self._room.camera(camera)
        if until is None:
            record.finest = index
        else:
            record.finest_timed = (15 if index is None else index, until)
        self._room.sweep_soon()

    def finest(self, camera: str, now: float) -> int:
        """The finest block index that is wanted of `camera` at `now` (0 to 15): an encoder may leave out what is
        beyond.
        """
        record = self._room.cameras.get(camera)
        return 15 if record is None else record.finest_at(now)

    def set_weight(self, camera: str, weight: float) -> None:
        """The share of `camera` among the cameras (0.001 to 1000, default 1)."""
        if not 0.001 <= weight <= 1000.0:
            raise ValueError(f"weight must be 0.001 to 1000, not {weight}")
        self._room.camera(camera).weight = weight

    # -- in -----------------------------------------------------------------------------------------------------------

    def submit(
        self,
        camera: str,
        frame: int,
        stamp_ns: int,
        blocks: Sequence[BlockLike],
        now: float,
        *,
        asked: bool = False,
    ) -> int:
        """Queues the blocks of a frame; returns how many were taken.

        `frame`: 16-bit number, wrapping. A call with number and stamp of a frame that waits, or of the newest, adds
        blocks to that frame. `asked`: somebody asked for just these blocks, of a frame that may be older than others:
        `set_finest` does not hold for them, and no newer frame replaces them.
        Raises ValueError for a block index without a policy, or for a new camera beyond the limit.
        """
        record = self._room.camera(camera)
        self._room.sweep(now)
        current = record.frame(frame, stamp_ns)
        if current is None:
            self._sequence += 1
            current = record.new_frame(self._sequence, frame, stamp_ns, asked)
        indices = [block.index for block in blocks]
        self._room.supersede(record, current, indices, asked)
        if asked and blocks:
            current.asked = max(current.asked, *indices)
            if min(indices) <= current.lost_from:
                current.lost_from = 16  # what was dropped comes again
        finest = max(record.finest_at(now), current.asked)
        taken = 0
        for block in blocks:
            index = block.index
            if not 0 <= index < len(self.policies):
                raise ValueError(f"block index must be 0 to {len(self.policies) - 1}, not {index}")
            counters = record.counters[index]
            if index > finest or len(block.data) > MAX_PAYLOAD:
                counters.dropped["refused"] += 1
            elif index >= current.lost_from or index in current.units:
                counters.dropped["superseded"] += 1
            else:
                self._room.enqueue(record, Unit(current, index, 0, block, now, now))
                taken += 1
                if index == 0 and not asked:
                    record.coarse_came(now)
        while record.units > self.limits.units or record.bytes > self.limits.bytes:
            unit = self._room.least(record)
            self._room.drop_from(record, unit.frame, unit.index, "overflow")
        return taken

    # -- out ----------------------------------------------------------------------------------------------------------

    def next_departure(self, now: float) -> float | None:
        """When `pop` should be called next (not before `now`), None while nothing waits."""
        units, size, wake = self._select(now)
        if not units:
            offer = None if self.background is None else self.background.ready(now)
            if offer is not None:
                wake = min(wake, max(offer[0], self._held, self._bucket.ready_at(offer[1], now)))
            return None if wake == NEVER else wake
        ready = self._given_way(units[0], size, max(self._bucket.ready_at(size, now), self._held))
        return min(ready, max(wake, self._held))  # a repeat that falls due meanwhile goes first

    def pop(self, now: float) -> Datagram | None:
        """The datagram that leaves at `now`, None while the budget or the queue has none."""
        self._room.sweep(now)
        if now < self._held:
            return None
        while True:
            units, size, _ = self._select(now)
            if not units:
                return self._idle(now)
            if self._given_way(units[0], size, self._bucket.ready_at(size, now)) > now:
                return None
            try:
                payload = self._packer.payload(units)
            except ValueError:
                camera = units[0].frame.camera
                self._room.drop_from(camera, units[0].frame, units[0].index, "refused")
                continue
            return self._depart(units, payload, now)

    def left(self, datagram: Datagram, now: float) -> None:
        """The datagram that was popped last has left, at `now`: the budget counts from then on."""
        self._bucket.left(datagram.wire_bytes, now)

    def hold(self, until: float) -> None:
        """Nothing leaves before the clock says `until`: the air is taken, or the other side has its turn. Holds until
        the next call."""
        self._held = until

    def charge(self, wire_bytes: int, now: float) -> None:
        """Takes from the budget what the transport sent besides datagrams (wire bytes). No more is owed ever than one
        announcement of every camera."""
        most = max(1, len(self._room.cameras)) * self.wire.wire_bytes(MAX_INFO)
        self._bucket.owe(wire_bytes, most, now)
        self._used.add(wire_bytes, now)
        self._wire_bytes += wire_bytes
        self._beside += wire_bytes

    def status(self, now: float, camera: str | None = None) -> SchedulerStatus:
        """What is queued, sent and dropped, per level; of one camera, or of all together."""
        records = self._room.cameras.values() if camera is None else filter(None, [self._room.cameras.get(camera)])
        levels = [LevelStatus(index) for index in range(len(self.policies))]
        for record in records:
            levels = [level.plus(counters, now) for level, counters in zip(levels, record.counters, strict=True)]
        return SchedulerStatus(
            budget=self._rate,
            used=self._used.total(now),
            datagrams=self._datagrams,
            wire_bytes=self._wire_bytes,
            beside=self._beside,
            levels=tuple(levels),
        )

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras seen so far."""
        return tuple(self._room.cameras)

    def memory(self) -> Mapping[str, tuple[int, int]]:
        """Per camera: (blocks waiting, their bytes)."""
        return {name: (record.units, record.bytes) for name, record in self._room.cameras.items()}

    # -- inside -------------------------------------------------------------------------------------------------------

    def _select(self, now: float) -> tuple[list[Unit], int, float]:
        """(units that travel in the next datagram, upper bound of its wire bytes, when a waiting repeat falls due)."""
        choice = self._choice
        room = self._room
        if (
            choice is not None
            and self._choice_changes == room.changes
            and now < choice[2]
            and now <= self._choice_until
        ):
            return choice
        best, wake = room.pick(now)
        if best is None:
            return [], 0, wake
        units, size = self._packer.joined(best, now)
        self._choice = choice = (units, size, wake)
        self._choice_changes = room.changes
        policies = self.policies
        self._choice_until = min([unit.submitted + policies[unit.index].lifespan for unit in units])
        return choice

    def _given_way(self, unit: Unit, size: int, at: float) -> float:
        """When a datagram may leave that could leave at `at`: a picture's not so shortly before the next frame's coarse
        block that this would have to wait for it; but one goes every GIVE_WAY_SECONDS whatever comes."""
        if self._rate is None or not self.policies[unit.index].stored or unit.index <= unit.frame.asked:
            return at
        takes, latest = size / self._rate, max(at, self._picture_left + GIVE_WAY_SECONDS)
        coming = [(camera.expected, camera.gaps) for camera in self._room.cameras.values()]
        for soonest, last in sorted(when for when, gaps in coming if when and takes <= GIVE_WAY_SHARE * min(gaps)):
            if soonest - takes < at < last:
                at = last
        return min(at, latest)

    def _idle(self, now: float) -> Datagram | None:
        """What leaves where no block may."""
        offer = None if self.background is None else self.background.ready(now)
        if self.background is None or offer is None or offer[0] > now or self._bucket.ready_at(offer[1], now) > now:
            return None
        datagram = self.background.take(now)
        if datagram is not None:
            self._bucket.spend(datagram.wire_bytes, now)
            self._used.add(datagram.wire_bytes, now)
            self._datagrams += 1
            self._wire_bytes += datagram.wire_bytes
        return datagram

    def _depart(self, units: list[Unit], payload: bytes, now: float) -> Datagram:
        first = units[0]
        frame = first.frame
        camera = frame.camera
        rank = first.rank
        wire = self.wire.wire_bytes(len(payload))
        piece = None
        if first.pieces is not None and len(first.pieces) > 1:
            piece = (first.next_piece, len(first.pieces))
        datagram = Datagram(
            camera.name,
            first.index,
            payload,
            wire,
            self.policies[first.index].priority,
            frame.number,
            frame.stamp_ns,
            tuple([unit.index for unit in units]),
            first.copy,
            piece,
        )
        self._bucket.spend(wire, now)
        self._used.add(wire, now)
        self._datagrams += 1
        self._wire_bytes += wire
        if self.policies[first.index].stored:
            self._picture_left = now
        self._room.served(camera, rank, wire)
        camera.counters[first.index].wire.add(wire, now)
        for unit in units:
            self._advance(camera, unit, now)
        return datagram

    def _advance(self, camera: CameraQueue, unit: Unit, now: float) -> None:
        """Notes that a unit, or one piece of it, has left; its repeat is queued when the last piece has."""
        if unit.pieces is not None:
            unit.next_piece += 1
            self._room.changes += 1
            if unit.next_piece < len(unit.pieces):
                camera.started[unit.rank] = unit
                return
        counters = camera.counters[unit.index]
        if unit.copy == 0:
            counters.sent += 1
        else:
            counters.repeated += 1
        self._room.remove(camera, unit)
        if unit.copy < self._repeats[unit.index]:
            frame = unit.frame
            camera.frames[frame.sequence] = frame
            again = Unit(frame, unit.index, unit.copy + 1, unit.block, unit.submitted, now + self._repeat_gap)
            self._room.enqueue(camera, again)


def _checked_rate(rate: float | None) -> float | None:
    if not rate:
        return None
    if not 1.0 <= rate <= 1e10:
        raise ValueError(f"rate must be 1 to 1e10 bytes/s, or 0 or None for unlimited, not {rate}")
    return float(rate)
