"""The waiting room: every block that has not left yet, by rank and camera, and what is dropped from it.

Rank `2 * index` holds the first copies of block `index`, rank `2 * index + 1` its repeats; a lower rank goes first.
"""

from __future__ import annotations

from collections.abc import Sequence

from semhier_ros.link.schedule.policy import LevelPolicy
from semhier_ros.link.schedule.waiting import CameraQueue, Frame, Unit

NEVER = float("inf")
_SWEEP_SECONDS = 0.05
_COARSE_WAIT = 0.12


class WaitingRoom:
    """Units by rank and camera, with the rules by which they are dropped and the order in which they go.

    `changes` grows with every change, so that a choice made earlier can be told to be stale.
    """

    def __init__(self, policies: Sequence[LevelPolicy], max_cameras: int) -> None:
        self.policies = policies
        self.cameras: dict[str, CameraQueue] = {}
        self.changes = 0
        self._max_cameras = max_cameras
        ranks = 2 * len(policies)
        self._ranks: list[dict[CameraQueue, dict[int, Unit]]] = [{} for _ in range(ranks)]
        self._service = [0.0] * ranks
        self._rank_due = [NEVER] * ranks
        self._mask = 0
        self._next_sweep = float("-inf")

    def camera(self, name: str) -> CameraQueue:
        """The record of a camera, made at its first mention; ValueError beyond the limit."""
        record = self.cameras.get(name)
        if record is None:
            if len(self.cameras) >= self._max_cameras:
                raise ValueError(f"cameras must be at most {self._max_cameras}, {name!r} is one more")
            record = self.cameras[name] = CameraQueue(name, len(self.policies))
        return record

    def enqueue(self, camera: CameraQueue, unit: Unit) -> None:
        """Lets a unit wait."""
        self.changes += 1
        rank = unit.rank
        queues = self._ranks[rank]
        if unit.due < self._rank_due[rank]:
            self._rank_due[rank] = unit.due
        queue = queues.get(camera)
        if queue is None:
            queue = queues[camera] = {}
            self._mask |= 1 << rank
            camera.service[rank] = max(camera.service[rank], self._service[rank])
        queue[unit.frame.sequence] = unit
        unit.frame.units[unit.index] = unit
        camera.units += 1
        camera.bytes += unit.size
        if unit.copy == 0:
            counters = camera.counters[unit.index]
            counters.queued += 1
            counters.queued_bytes += unit.size

    def remove(self, camera: CameraQueue, unit: Unit) -> None:
        """Takes a unit out, because it left or is dropped."""
        self.changes += 1
        rank = unit.rank
        queues = self._ranks[rank]
        queue = queues[camera]
        del queue[unit.frame.sequence]
        if not queue:
            del queues[camera]
            if not queues:
                self._mask &= ~(1 << rank)
                self._rank_due[rank] = NEVER
        frame = unit.frame
        del frame.units[unit.index]
        if not frame.units:
            camera.forget(frame)
        if camera.started.get(rank) is unit:
            del camera.started[rank]
        camera.units -= 1
        camera.bytes -= unit.size
        if unit.copy == 0:
            counters = camera.counters[unit.index]
            counters.queued -= 1
            counters.queued_bytes -= unit.size

    def drop_from(self, camera: CameraQueue, frame: Frame, index: int, cause: str) -> None:
        """Drops block `index` of a frame; if it was its first copy, the finer ones too: no reading can use them now."""
        first = frame.units.get(index)
        if first is not None and first.copy > 0:
            self.remove(camera, first)
            return
        frame.lost_from = min(frame.lost_from, index)
        for finer in [place for place in frame.units if place >= index]:
            unit = frame.units[finer]
            self.remove(camera, unit)
            if unit.copy == 0:
                camera.counters[finer].dropped[cause] += 1

    def supersede(self, camera: CameraQueue, current: Frame, indices: Sequence[int], asked: bool) -> None:
        """Blocks that come of a frame replace the same blocks of older ones, unless some of those have left already or
        somebody asked for them. What is `asked` for may be of an old frame: which others are older, stamps tell then.
        """
        if len(camera.frames) <= 1:
            return  # nothing of an older frame waits
        policies = self.policies
        for frame in list(camera.frames.values()):
            if frame is current or (asked and frame.stamp_ns >= current.stamp_ns):
                continue
            for index in [index for index in frame.units if index in indices and policies[index].superseded]:
                unit = frame.units.get(index)
                if unit is not None and index > frame.asked and unit.next_piece == 0:
                    self.drop_from(camera, frame, index, "superseded")

    def sweep(self, now: float) -> None:
        """Drops what has expired or is no longer wanted, at most every 50 ms."""
        if now < self._next_sweep:
            return
        self._next_sweep = now + _SWEEP_SECONDS
        for rank, queues in enumerate(self._ranks):
            index = rank >> 1
            for camera in list(queues):
                self._expire(camera, rank, now)
                if index > camera.finest_at(now):
                    for unit in list(queues.get(camera, {}).values()):
                        unwanted = index > unit.frame.asked and unit.next_piece == 0
                        if unwanted and unit.frame.units.get(index) is unit:
                            self.drop_from(camera, unit.frame, index, "refused")

    def coarse_waits(self, now: float) -> bool:
        """Whether the first copy of some camera's block 0 has waited for longer than it should."""
        return any(now - next(iter(queue.values())).submitted > _COARSE_WAIT for queue in self._ranks[0].values())

    def _expire(self, camera: CameraQueue, rank: int, now: float) -> None:
        """Drops the units of one rank whose lifespan is over (a queue is in the order of submission)."""
        index = rank >> 1
        lifespan = self.policies[index].lifespan
        queues = self._ranks[rank]
        while (queue := queues.get(camera)) is not None:
            oldest = next(iter(queue.values()))
            if now - oldest.submitted <= lifespan:
                return
            self.drop_from(camera, oldest.frame, index, "expired")

    def least(self, camera: CameraQueue) -> Unit:
        """What is missed least: the finest block, a repeat before a first copy, of the oldest frame."""
        return next(next(iter(queues[camera].values())) for queues in reversed(self._ranks) if camera in queues)

    def pick(self, now: float) -> tuple[Unit | None, float]:
        """The unit that goes first at `now`, None if none may; and when the next waiting repeat of a lower rank falls
        due.
        """
        mask = self._mask
        wake = NEVER
        while mask:
            rank = (mask & -mask).bit_length() - 1
            if self._rank_due[rank] > now:
                wake = min(wake, self._rank_due[rank])
                mask &= ~(1 << rank)
                continue
            best: Unit | None = None
            least = served = 0.0
            next_due = NEVER
            queues = self._ranks[rank]
            if len(queues) == 1:
                best, next_due = self._first(next(iter(queues)), rank, now)
                queues = {}
            for camera in list(queues):
                unit, due = self._first(camera, rank, now)
                if due < next_due:
                    next_due = due
                if unit is None:
                    continue
                served = camera.service[rank]
                if best is None or served < least or (served == least and unit.frame.sequence > best.frame.sequence):
                    best, least = unit, served
            if next_due < wake:
                wake = next_due
            if best is not None:
                return best, wake
            self._rank_due[rank] = next_due
            mask &= self._mask & ~((2 << rank) - 1)
        return None, wake

    def _first(self, camera: CameraQueue, rank: int, now: float) -> tuple[Unit | None, float]:
        """What a camera offers of a rank: the block it has begun, else the newest that is due; and when the next falls
        due.
        """
        index = rank >> 1
        lifespan = self.policies[index].lifespan
        queues = self._ranks[rank]
        while (queue := queues.get(camera)) is not None:
            unit = camera.started.get(rank) or queue[next(reversed(queue))]
            due = NEVER
            if unit.due > now:
                # Repeats fall due in the order in which they were queued, as long as their gap stays.
                oldest = queue[next(iter(queue))]
                if oldest.due > now:
                    return None, oldest.due
                due = unit.due
                for unit in reversed(queue.values()):
                    if unit.due <= now:
                        break
                    due = unit.due
            if now - unit.submitted <= lifespan:
                return unit, due
            self.drop_from(camera, unit.frame, index, "expired")
        return None, NEVER

    def served(self, camera: CameraQueue, rank: int, wire: int) -> None:
        """Charges `wire` bytes of a rank to a camera's share."""
        self._service[rank] = camera.service[rank]
        camera.service[rank] += wire / camera.weight

    def sweep_soon(self) -> None:
        """Lets the next `sweep` do its work whatever the time."""
        self._next_sweep = float("-inf")
