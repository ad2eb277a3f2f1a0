"""What a frame stream is: the interface that every codec of a replay or a link bench offers.

A stream makes a sender for the cameras' end and a receiver for the base's. Both are driven by a clock of the caller's,
in seconds since the run began, that never decreases; neither waits, sleeps or looks at a clock of its own.

    sender, receiver = stream.sender(cameras, rate), stream.receiver(cameras)
    sender.offer(camera, number, stamp_ns, now)          # the camera took frame `number`
    while (departure := sender.pop(now)) is not None:    # what leaves now, under the budget of `rate` wire bytes/s
        link.send(departure.payload, departure.wire_bytes, now)
    now = sender.next_event(now)                         # when to ask again
    for answer in receiver.push(camera, payload, now):   # what the base knows from answer.ready on
        ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.reading import Detection

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


class Departure(NamedTuple):
    """One datagram that leaves: `camera` (its place among the cameras), `payload`, `wire_bytes` (its cost on IP),
    `number` of the camera frame, `purpose` (what the bytes are for: a block's name, "picture", "parity" …) and whether
    it is a `repeat`."""

    camera: int
    payload: bytes
    wire_bytes: int
    number: int
    purpose: str
    repeat: bool = False


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


class Sender(Protocol):
    """The robot's end of all cameras of a run, under one budget."""

    def offer(self, camera: int, number: int, stamp_ns: int, now: float) -> None:
        """A camera took a frame."""
        ...

    def next_event(self, now: float) -> float | None:
        """When `pop` may have something next (not before `now`); None while nothing is on its way."""
        ...

    def pop(self, now: float) -> Departure | None:
        """The datagram that leaves at `now`; None while there is none."""
        ...

    def counters(self) -> dict[str, int]:
        """What was made and what was left out: `encoded` frames, `dropped_<cause>` …"""
        ...


class Receiver(Protocol):
    """The base's end. A payload that is not one of the sender's is ignored."""

    def push(self, camera: int, payload: bytes, now: float) -> list[Answer]:
        """Takes a datagram that arrived at `now`; returns what becomes known of it."""
        ...


class FrameStream(Protocol):
    """A codec with its setting. `name` as in `--codecs`, `setting` in words, `levels` of the taxonomy that it answers.

    `purposes`: what datagrams can be for, in order of urgency, as in Departure.
    """

    @property
    def name(self) -> str: ...
    @property
    def setting(self) -> str: ...
    @property
    def purposes(self) -> tuple[str, ...]: ...
    def sender(self, cameras: Sequence[Camera], rate: float) -> Sender: ...
    def receiver(self, cameras: Sequence[Camera]) -> Receiver: ...


@dataclass(frozen=True, slots=True)
class Costs:
    """What computing takes, in seconds a frame, on the machines that are imagined.

    `semantic`: a picture to its semantic blocks (the detector runs in it); `picture`: the picture blocks on top;
    `read`: one or more blocks that came to a reading; `detect`: a received picture to detections; `jpeg`, `webp`,
    `h264`: encoding one picture; `unpack`: decoding one picture of any of the three. Each 0 to 60 s. The defaults
    stand for a small robot's core and a station's; `measured` figures replace them (replay.costs).
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


class Waiting:
    """A processor that does one thing at a time: when something that takes `seconds` and is handed over at `now` is
    done."""

    __slots__ = ("_free",)

    def __init__(self) -> None:
        self._free = 0.0

    def done(self, now: float, seconds: float) -> float:
        """The moment at which it is done; the processor is taken until then."""
        self._free = max(now, self._free) + seconds
        return self._free
