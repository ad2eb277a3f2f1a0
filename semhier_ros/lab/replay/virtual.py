"""A run in virtual time: cameras, a stream, a link, and a clock that jumps from event to event.

The ends are the very objects of real runs, the link back to the cameras included (`blocks.BlockSession`); nothing
waits. The same footage, stream, link and costs give the same run, event for event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from semhier_ros.lab.replay.base import Answer, Sent, Stream, Tap, TimedCamera
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

    session = stream.session(cameras, rate, link, note)
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
