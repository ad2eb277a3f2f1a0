"""A run in virtual time: cameras, a stream, one direction of a link, and a clock that jumps from event to event.

Sender, scheduler, link and receiver are the very code of real runs; nothing waits. The same footage, stream, link and
costs give the same run, event for event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from semhier_ros.lab.streams.base import Answer, Camera, FrameStream
from semhier_ros.link.emulate.direction import VirtualLink
from semhier_ros.link.emulate.profile import LinkProfile


class TimedCamera(Camera, Protocol):
    """A camera whose frames have times: ns since the run began, strictly increasing."""

    @property
    def times_ns(self) -> Sequence[int]: ...


class Sent(NamedTuple):
    """One datagram: when it left (s), its camera, frame, wire bytes and purpose, whether it repeats, and why it was
    lost on the way ("": it was not)."""

    time: float
    camera: int
    number: int
    wire_bytes: int
    purpose: str
    repeat: bool
    cause: str


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


def run_virtual(
    stream: FrameStream,
    cameras: Sequence[TimedCamera],
    link: LinkProfile,
    rate: float,
    *,
    progress: Callable[[float], None] | None = None,
    tap: Callable[[int, int, int, bytes, float], None] | None = None,
) -> Run:
    """Sends all frames of `cameras` over `link` with a budget of `rate` wire bytes per second (0: unlimited).

    `progress` is given the share done; `tap` sees every block that arrives as (camera, frame, index, bytes, time).
    """
    run = Run(stream.name, stream.setting, [len(camera) for camera in cameras])

    def note(camera: int, number: int, index: int, data: bytes, now: float) -> None:
        run.blocks.append((camera, number, index, now))
        if tap is not None:
            tap(camera, number, index, data, now)

    if hasattr(stream, "tap"):
        stream.tap = note
    sender, receiver = stream.sender(cameras, rate), stream.receiver(cameras)
    way = VirtualLink(link)
    frames = sorted(
        (time, place, number) for place, camera in enumerate(cameras) for number, time in enumerate(camera.times_ns)
    )
    place, now, total = 0, 0.0, max(len(frames), 1)
    while True:
        times = [frames[place][0] / 1e9] if place < len(frames) else []
        event = sender.next_event(now)
        times += [event] if event is not None else []
        arrival = way.next_arrival
        times += [arrival] if arrival is not None else []
        if not times:
            break
        now = max(now, min(times))
        for time, (camera, payload) in way.arrivals(now):
            run.answers += receiver.push(camera, payload, time)
        while place < len(frames) and frames[place][0] / 1e9 <= now:
            time_ns, camera, number = frames[place]
            sender.offer(camera, number, time_ns, now)
            place += 1
            if progress and place % 16 == 0:
                progress(place / total)
        while (departure := sender.pop(now)) is not None:
            cause = way.send((departure.camera, departure.payload), departure.wire_bytes, now)
            run.sent.append(
                Sent(
                    now,
                    departure.camera,
                    departure.number,
                    departure.wire_bytes,
                    departure.purpose,
                    departure.repeat,
                    cause,
                )
            )
    run.seconds = now
    run.counters = sender.counters()
    counters = way.counters
    run.link = {
        "datagrams": counters.offered,
        "bytes": counters.offered_bytes,
        "lost": counters.dropped_loss,
        "dropped at the full queue": counters.dropped_queue,
        "lost in outages": counters.dropped_outage,
    }
    if hasattr(stream, "tap"):
        stream.tap = None
    return run
