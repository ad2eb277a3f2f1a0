"""A run in virtual time: cameras, a stream, a link, and a clock that jumps from event to event.

The ends are the very objects of real runs, the link back to the cameras included (`blocks.BlockSession`); nothing
waits. The same footage, stream, link and costs give the same run, event for event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from semhier_ros.lab.replay.base import (
    Answer,
    FrameStream,
    LinkedStream,
    Sent,
    Session,
    Stream,
    Tap,
    TimedCamera,
    link_counts,
)
from semhier_ros.link.emulate.direction import VirtualLink
from semhier_ros.link.emulate.hop import earliest
from semhier_ros.link.emulate.profile import LinkProfile


@dataclass(slots=True)
class Run:
    """What happened. `offered`: frames of each camera; `seconds`: from the first frame to the last event."""

    codec: str
    setting: str
    offered: list[int]
    answers: list[Answer] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    seconds: float = 0.0
    counters: dict[str, int] = field(default_factory=dict)
    link: dict[str, int] = field(default_factory=dict)
    blocks: list[tuple[int, int, int, float]] = field(default_factory=list)
    """(camera, frame, block index, arrival) of every block that came, repeats included; semhier only."""
    deltas: dict[tuple[int, int], bytes] = field(default_factory=dict)
    """Of the frames of (camera, number) that were sent as deltas, the bytes."""
    parts: dict[tuple[int, int, int], bytes] = field(default_factory=dict)
    """Of those frames the blocks that came: (camera, frame, block index) -> bytes."""
    numbers: dict[tuple[int, int], int] = field(default_factory=dict)
    """(camera, frame of the footage) -> the number that the sender gave it, by which deltas refer to it."""


class OneWaySession:
    """`Session` of a stream that only sends."""

    def __init__(self, stream: FrameStream, cameras: Sequence[TimedCamera], rate: float, link: LinkProfile) -> None:
        self._sender, self._receiver = stream.sender(cameras, rate), stream.receiver(cameras)
        self._way = VirtualLink(link)
        self.sent: list[Sent] = []
        self.answers: list[Answer] = []

    def arrive(self, now: float) -> None:
        for time, (camera, payload) in self._way.arrivals(now):
            self.answers += self._receiver.push(camera, payload, time)

    def offer(self, camera: int, number: int, stamp_ns: int, now: float) -> None:
        self._sender.offer(camera, number, stamp_ns, now)

    def work(self, now: float) -> None:
        while (one := self._sender.pop(now)) is not None:
            cause = self._way.send((one.camera, one.payload), one.wire_bytes, now)
            self.sent.append(Sent(now, one.camera, one.number, one.wire_bytes, one.purpose, one.repeat, cause))

    def next_event(self, now: float) -> float | None:
        return earliest(self._sender.next_event(now), self._way.next_arrival)

    def next_duty(self, now: float) -> float | None:
        return None

    def counters(self) -> dict[str, int]:
        return self._sender.counters()

    def link(self) -> dict[str, int]:
        return link_counts(self._way.counters)


def run_virtual(
    stream: Stream,
    cameras: Sequence[TimedCamera],
    link: LinkProfile,
    rate: float,
    *,
    progress: Callable[[float], None] | None = None,
    tap: Tap | None = None,
) -> Run:
    """Sends all frames of `cameras` over `link` with a budget of `rate` wire bytes per second (0: unlimited).

    `progress` is given the share done; `tap` sees every block that arrives, of streams that have blocks.
    """
    run = Run(stream.name, stream.setting, [len(camera) for camera in cameras])

    def note(camera: int, number: int, index: int, data: bytes, now: float) -> None:
        run.blocks.append((camera, number, index, now))
        if (camera, number) in getattr(session, "deltas", {}):
            run.parts[camera, number, index] = data
        if tap is not None:
            tap(camera, number, index, data, now)

    session: Session
    if isinstance(stream, LinkedStream):
        session = stream.session(cameras, rate, link, note)
    else:
        session = OneWaySession(stream, cameras, rate, link)  # type: ignore[arg-type]
    frames = sorted(
        (time, place, number) for place, camera in enumerate(cameras) for number, time in enumerate(camera.times_ns)
    )
    place, now, total = 0, 0.0, max(len(frames), 1)
    while True:
        event = earliest(frames[place][0] / 1e9 if place < len(frames) else None, session.next_event(now))
        if event is None:
            break
        now = max(now, earliest(event, session.next_duty(now)) or 0.0)
        session.arrive(now)
        while place < len(frames) and frames[place][0] / 1e9 <= now:
            time_ns, camera, number = frames[place]
            session.offer(camera, number, time_ns, now)
            place += 1
            if progress and place % 16 == 0:
                progress(place / total)
        session.work(now)
    run.seconds = now
    run.sent, run.answers = session.sent, session.answers
    run.deltas, run.numbers = getattr(session, "deltas", {}), getattr(session, "numbers", {})
    run.counters, run.link = session.counters(), session.link()
    return run
