"""What a frame stream is, the interface that every codec of a replay offers; and a run of one in virtual time.

A stream makes a `Session`: both ends and the link between them, driven by a clock of the caller's, in seconds since the
run began, that never decreases; nothing in it waits, sleeps or looks at a clock of its own. In virtual time the clock
jumps from event to event, and the same footage, stream, link and costs give the same run. Streams of blocks, whose
ends talk back: `blocks.BlockStream`. Streams that only send, pictures and video: `baselines.pictures.SendingStream`,
whose ends real processes drive apart from each other (`ends`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.reading import Detection
from semhier_ros.footage.bags import JUMP_SECONDS
from semhier_ros.link.emulate.direction import DirectionCounters
from semhier_ros.link.emulate.hop import earliest
from semhier_ros.link.emulate.profile import LinkProfile

Picture = NDArray[np.uint8]


class Camera(Protocol):
    """One camera's footage. Frames are numbered from 0; `key` names a frame's content (the same bytes, the same key);
    `image` gives its pixels, H,W,3 uint8 RGB."""

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> tuple[int, int]: ...
    def __len__(self) -> int: ...
    def key(self, number: int) -> str: ...
    def image(self, number: int) -> Picture: ...


class TimedCamera(Camera, Protocol):
    """A camera whose frames have times: ns since the run began, strictly increasing."""

    @property
    def times_ns(self) -> Sequence[int]: ...


def stamps_of(camera: TimedCamera) -> list[int]:
    """The stamps by which both ends of a stream of blocks know a camera's frames, ns since the run began: from the
    first frame's time on, in the steps between their headers' stamps. Where these step back, or on by more than a
    minute, the frames are as far apart as their times are; all are, of a camera without stamps of its own."""
    times = list(camera.times_ns)
    own, stamps = getattr(camera, "stamps_ns", times), times[:1]
    for number in range(1, len(times)):
        step = own[number] - own[number - 1]
        usual = 0 < step <= JUMP_SECONDS * 1e9
        stamps.append(stamps[-1] + (step if usual else times[number] - times[number - 1]))
    return stamps


class Departure(NamedTuple):
    """One datagram that leaves: `camera` (its place among the cameras), `payload`, `wire_bytes` (its cost on IP),
    `number` of the camera frame, and `purpose` (what the bytes are for: "picture", "parity" …)."""

    camera: int
    payload: bytes
    wire_bytes: int
    number: int
    purpose: str


class Answer(NamedTuple):
    """One thing that the base knows of a frame: from `ready` (seconds) on, because of a datagram that arrived at
    `arrival`.

    `level`: the deepest level of the taxonomy that `detections` name; `prefix`: blocks 0..prefix are in it (whole
    pictures: the last level). `purpose`: what arrived, as in Departure.
    """

    camera: int
    number: int
    stamp_ns: int
    arrival: float
    ready: float
    level: int
    prefix: int
    detections: tuple[Detection, ...]
    purpose: str


class Sent(NamedTuple):
    """One datagram: when it left (s), its camera, frame, wire bytes and purpose, whether it repeats, and why it was
    lost on the way ("": it was not). `number` -1 and purpose "description" or "note" for what belongs to no frame."""

    time: float
    camera: int
    number: int
    wire_bytes: int
    purpose: str
    repeat: bool
    cause: str


@dataclass(slots=True)
class Run:
    """What happened. `offered`: frames of each camera; `sent`: what left the cameras' end; `answers`: what the base
    knew; `seconds`: from the first frame to the last event; `counters`: what was made and what was left out; `link`:
    what the link did."""

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
    wholes: dict[tuple[int, int], tuple[bytes, ...]] = field(default_factory=dict)
    """Of the other frames that a sender with memory made, the bytes of all semantic blocks: deltas refer to these."""
    parts: dict[tuple[int, int, int], bytes] = field(default_factory=dict)
    """(camera, frame, block index) -> bytes of the blocks that came."""
    motions: dict[tuple[int, int], bytes] = field(default_factory=dict)
    """(camera, frame) -> motion part of the blocks 0 that came with one."""
    numbers: dict[tuple[int, int], int] = field(default_factory=dict)
    """(camera, frame of the footage) -> the number that the sender gave it, by which deltas refer to it."""
    stamps: dict[tuple[int, int], int] = field(default_factory=dict)
    """(camera, frame) -> the stamp by which both ends know it (`stamps_of`), over a radio to 8 ms."""


class Session(Protocol):
    """Both ends of a stream and what lies between them, which note in a `Run` what happens.

    At each time the caller calls `arrive`, then `offer` for every frame that a camera took, then `work`; at the end
    `finish`. `next_event`: when to come again because something is on its way or in the making, None when nothing is;
    `next_duty`: when to come again besides, for what goes on for ever.
    """

    def arrive(self, now: float) -> None: ...
    def offer(self, camera: int, number: int, stamp_ns: int, now: float) -> None: ...
    def work(self, now: float) -> None: ...
    def next_event(self, now: float) -> float | None: ...
    def next_duty(self, now: float) -> float | None: ...
    def finish(self) -> None: ...


class Stream(Protocol):
    """A codec with its setting. `name` as in `--codecs`, `setting` in words."""

    @property
    def name(self) -> str: ...
    @property
    def setting(self) -> str: ...
    def session(self, cameras: Sequence[TimedCamera], rate: float, link: LinkProfile, run: Run) -> Session:
        """Both ends of all cameras under a budget of `rate` wire bytes a second (0: none), and the link between them;
        what happens is noted in `run`."""
        ...


def run_virtual(
    stream: Stream,
    cameras: Sequence[TimedCamera],
    link: LinkProfile,
    rate: float,
    *,
    progress: Callable[[float], None] = lambda share: None,
) -> Run:
    """Sends all frames of `cameras` over `link` with a budget of `rate` wire bytes per second (0: unlimited).

    `progress` is given the share done.
    """
    run = Run(stream.name, stream.setting, [len(camera) for camera in cameras])
    session = stream.session(cameras, rate, link, run)
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
            if place % 16 == 0:
                progress(place / total)
        session.work(now)
    run.seconds = now
    session.finish()
    return run


@dataclass(frozen=True, slots=True)
class Costs:
    """What computing takes, in seconds a frame, on the machines that are imagined.

    `semantic`: a picture to its semantic blocks (the detector runs in it); `picture`: the picture blocks on top;
    `read`: one or more blocks that came to a reading; `detect`: a received picture to detections; `jpeg`, `webp`,
    `h264`: encoding one picture; `unpack`: decoding one picture of any of the three. Each 0 to 60 s. The defaults
    stand for a small robot's core and a station's; `measured` figures replace them (`Reader.measured_costs`).
    """

    semantic: float = 0.030
    picture: float = 0.030
    read: float = 0.003
    detect: float = 0.030
    jpeg: float = 0.003
    webp: float = 0.020
    h264: float = 0.005
    unpack: float = 0.002

    def __post_init__(self) -> None:
        for name, ms in self.as_ms().items():
            if not 0.0 <= ms <= 60_000.0:
                raise ValueError(f"cost {name}: {ms:g} ms, 0 to 60000 expected")

    @classmethod
    def parse(cls, text: str) -> Costs:
        """The costs that `semantic=25,detect=30` names, in ms; what is not named keeps its default, `given` names none.

        Raises ValueError naming the part that is wrong and what is allowed.
        """
        known = [each.name for each in fields(cls)]
        values: dict[str, float] = {}
        for part in () if text == "given" else text.split(","):
            name, _, value = part.strip().partition("=")
            try:
                values[name] = float(value.removesuffix("ms")) / 1e3
            except ValueError:
                raise ValueError(f"costs: {part!r}, `name=milliseconds` expected") from None
            if name not in known:
                raise ValueError(f"costs: {name!r}, one of {', '.join(known)} expected")
        return cls(**values)

    def as_ms(self) -> dict[str, float]:
        """In ms, for reports."""
        return {each.name: round(getattr(self, each.name) * 1e3, 3) for each in fields(self)}


def link_counts(up: DirectionCounters) -> dict[str, int]:
    """What a direction did, in a report's words."""
    return {
        "datagrams": up.offered,
        "bytes": up.offered_bytes,
        "lost": up.dropped_loss,
        "dropped at the full queue": up.dropped_queue,
        "lost in outages": up.dropped_outage,
    }
