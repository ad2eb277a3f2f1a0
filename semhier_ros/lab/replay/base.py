"""What a frame stream is: the interface that every codec of a replay offers.

A stream makes a `Session`: both ends and the link between them, driven by a clock of the caller's, in seconds since the
run began, that never decreases; nothing in it waits, sleeps or looks at a clock of its own. Streams of blocks, whose
ends talk back: `blocks.BlockStream`. Streams that only send, pictures and video: `baselines.pictures.SendingStream`,
whose ends real processes drive apart from each other (`ends`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.reading import Detection
from semhier_ros.link.emulate.direction import DirectionCounters
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


Tap = Callable[[int, int, int, bytes, float], None]
"""(camera, frame, block index, bytes, time) of a block that arrived."""


class Session(Protocol):
    """A run of a stream over a link: both ends and what lies between them.

    At each time the caller calls `arrive`, then `offer` for every frame that a camera took, then `work`. `sent`: what
    left the cameras' end; `answers`: what the base knew. `next_event`: when to come again because something is on its
    way or in the making, None when nothing is; `next_duty`: when to come again besides, for what goes on for ever.
    """

    @property
    def sent(self) -> list[Sent]: ...
    @property
    def answers(self) -> list[Answer]: ...
    def arrive(self, now: float) -> None: ...
    def offer(self, camera: int, number: int, stamp_ns: int, now: float) -> None: ...
    def work(self, now: float) -> None: ...
    def next_event(self, now: float) -> float | None: ...
    def next_duty(self, now: float) -> float | None: ...

    def counters(self) -> dict[str, int]:
        """What was made and what was left out."""
        ...

    def link(self) -> dict[str, int]:
        """What the link did."""
        ...


class Stream(Protocol):
    """A codec with its setting. `name` as in `--codecs`, `setting` in words."""

    @property
    def name(self) -> str: ...
    @property
    def setting(self) -> str: ...
    def session(
        self, cameras: Sequence[TimedCamera], rate: float, link: LinkProfile, tap: Tap | None = None
    ) -> Session:
        """Both ends of all cameras under a budget of `rate` wire bytes a second (0: none), and the link between them.
        `tap` sees every block that arrives, of streams that have blocks."""
        ...


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
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0.0 <= value <= 60.0:
                raise ValueError(f"cost {field.name}: {value * 1e3:g} ms, 0 to 60000 expected")

    @classmethod
    def parse(cls, text: str) -> Costs:
        """The costs that `semantic=25,detect=30` names, in ms; what is not named keeps its default, `given` names none.

        Raises ValueError naming the part that is wrong and what is allowed.
        """
        known = [field.name for field in fields(cls)]
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
        return {field.name: round(getattr(self, field.name) * 1e3, 3) for field in fields(self)}


def link_counts(up: DirectionCounters) -> dict[str, int]:
    """What a direction did, in a report's words."""
    return {
        "datagrams": up.offered,
        "bytes": up.offered_bytes,
        "lost": up.dropped_loss,
        "dropped at the full queue": up.dropped_queue,
        "lost in outages": up.dropped_outage,
    }
