"""Counters of the scheduler, as they are kept and as they are shown."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from semhier_ros.link.schedule.budget import RollingSum

CAUSES = ("expired", "superseded", "overflow", "refused")
"""Why a block was dropped: its lifespan ended; a newer frame (or a lost coarser block) made it useless; memory bound;
not wanted (`set_finest`), too large or impossible to pack.
"""


class LevelCounters:
    """The running counters of one block index of one camera."""

    __slots__ = ("dropped", "queued", "queued_bytes", "repeated", "sent", "wire")

    def __init__(self) -> None:
        self.queued = 0
        self.queued_bytes = 0
        self.sent = 0
        self.repeated = 0
        self.dropped = dict.fromkeys(CAUSES, 0)
        self.wire = RollingSum()


@dataclass(frozen=True, slots=True)
class LevelStatus:
    """One block index: what waits (first copies), what left whole, what was dropped.

    `queued` blocks of `queued_bytes` bytes; `sent` first copies and `repeated` further ones since the start; `dropped`
    first copies since the start, by cause in `causes`; `wire_bytes`: over the last second, of the datagrams whose
    coarsest block this was.
    """

    index: int
    queued: int = 0
    queued_bytes: int = 0
    sent: int = 0
    repeated: int = 0
    dropped: int = 0
    wire_bytes: int = 0
    causes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CAUSES, 0))

    def plus(self, counters: LevelCounters, now: float) -> LevelStatus:
        """This status with a camera's counters added."""
        return replace(
            self,
            queued=self.queued + counters.queued,
            queued_bytes=self.queued_bytes + counters.queued_bytes,
            sent=self.sent + counters.sent,
            repeated=self.repeated + counters.repeated,
            dropped=self.dropped + sum(counters.dropped.values()),
            wire_bytes=self.wire_bytes + counters.wire.total(now),
            causes={cause: self.causes[cause] + counters.dropped[cause] for cause in CAUSES},
        )


@dataclass(frozen=True, slots=True)
class SchedulerStatus:
    """`budget` in wire bytes/s (None: unlimited), `used` wire bytes over the last second (all cameras), `datagrams` and
    `wire_bytes` since the start (all cameras), `beside` of which no datagram took (descriptions, notes), and one
    `LevelStatus` per block index."""

    budget: float | None
    used: int
    datagrams: int
    wire_bytes: int
    beside: int
    levels: tuple[LevelStatus, ...]
