"""What a point-to-point link is: how much fits a frame, how fast it is, who may speak when, and what proves a frame."""

from __future__ import annotations

from dataclasses import dataclass, field

from semhier_ros.codec.compact import MAX_FRAME_BYTES, STORED_WORD_BYTES, WORD_BYTES, Seal
from semhier_ros.link.radio.framing import added_bytes
from semhier_ros.link.schedule.packing import Shape
from semhier_ros.link.schedule.wire import IP_HEADER, UDP_HEADER, WireModel

LEAST_FRAME = 24
"""Bytes: a coarse reading of a few objects, and a description in 16 parts."""
LEAST_SCENE = 8
"""Bytes of blocks that a frame has to have room for, whatever its proof takes."""
HEADER_BYTES = 5
"""Of a frame with blocks, at most, without proof and counter."""
DUTY_WINDOW = 3600.0
"""Seconds over which a duty cycle holds."""
TURN_SHARE, MEMORY_TURN_SHARE = 0.15, 0.2
"""What a half-duplex radio's turns may take of the time; the second while frames refer to what was acknowledged."""
TURN_SECONDS, MEMORY_TURN_SECONDS = 1.0, 0.4
"""Turns are at least so far apart, likewise."""
ALONE_LOAD = 0.4
"""Coarse blocks go alone while they and their repeats take less than this share of the air: beyond it a second frame's
header costs the next scenes more than it gains this one."""
_SLACK = 0.03
"""Seconds that two computers may take to notice that a frame has ended."""


@dataclass(frozen=True, slots=True)
class Air:
    """A link's air.

    `frame_bytes`: the largest frame, check included (24 to 1200). `bytes_per_second`: what it carries, None: nobody
    counts. `turnaround`: seconds from receiving to sending (0: both may speak at once). `frame_extra`: what a frame
    costs besides, in bytes (preamble, framing, headers below). `duty`: share of an hour in which one end may send (0 to
    1). Raises ValueError naming field, value and range.
    """

    frame_bytes: int = 240
    bytes_per_second: float | None = None
    turnaround: float = 0.0
    frame_extra: int = 0
    duty: float = 1.0

    def __post_init__(self) -> None:
        rate = self.bytes_per_second
        for name, value, low, high in (
            ("frame_bytes", self.frame_bytes, LEAST_FRAME, MAX_FRAME_BYTES),
            ("bytes_per_second", 1.0 if rate is None else rate, 1.0, 1e9),
            ("turnaround", self.turnaround, 0.0, 60.0),
            ("frame_extra", self.frame_extra, 0, 1000),
            ("duty", self.duty, 0.0001, 1.0),
        ):
            if not low <= value <= high:
                raise ValueError(f"{name}: {value:g}, expected {low:g} to {high:g}")
        if rate is None and (self.duty < 1.0 or self.turnaround > 0.0):
            raise ValueError("bytes_per_second: not given, but a duty cycle or a turnaround time needs it")

    def seconds(self, frame_bytes: int) -> float:
        """How long a frame takes."""
        return 0.0 if self.bytes_per_second is None else (frame_bytes + self.frame_extra) / self.bytes_per_second

    @property
    def allowed(self) -> float | None:
        """Bytes a second that one end may send: over any hour never more than `duty`, though it begin with a frame that
        was saved for and end with a description that is paid for later."""
        if self.bytes_per_second is None or self.duty >= 1.0:
            return self.bytes_per_second
        hour = self.duty * self.bytes_per_second * DUTY_WINDOW
        largest = self.frame_bytes + self.frame_extra
        if hour <= 3 * largest:
            raise ValueError(
                f"duty: {self.duty:g} of {self.bytes_per_second:g} bytes/s is less than three frames an hour"
            )
        return (hour - 2 * largest) / DUTY_WINDOW


@dataclass(frozen=True, slots=True)
class RadioOptions:
    """`air`: the link. `seal`: what proves a frame. `answers`: whether the receiver speaks at all. `shared`: whether
    others send on the line: then no two of our frames leave in a row, each waits until the air's rate has had time for
    the one before. Raises ValueError naming field, value and range."""

    air: Air = field(default_factory=Air)
    seal: Seal = field(default_factory=Seal)
    answers: bool = True
    shared: bool = False

    def __post_init__(self) -> None:
        if self.scene_bytes < LEAST_SCENE:
            raise ValueError(
                f"frame_bytes: {self.air.frame_bytes}, expected {LEAST_SCENE + self.seal.overhead + HEADER_BYTES} to"
                f" {MAX_FRAME_BYTES} where encrypt is {self.seal.encrypt}, whose proof each frame carries"
            )

    @property
    def shape(self) -> Shape:
        """What the scheduler's datagrams hold: frames without their proof."""
        return Shape(self.air.frame_bytes - self.seal.overhead, HEADER_BYTES, ALONE_LOAD)

    def wire(self, name: str) -> WireModel:
        """What such a datagram costs on the air."""
        return WireModel(name, self.seal.overhead + self.air.frame_extra, mtu=65_535)

    @property
    def description_bytes(self) -> int:
        """What a part of a description may take without its proof."""
        return self.air.frame_bytes - self.seal.description_overhead

    @property
    def scene_bytes(self) -> int:
        """What the blocks of a scene may take so that one frame holds them."""
        return self.air.frame_bytes - self.seal.overhead - HEADER_BYTES

    @property
    def gap(self) -> float:
        """Seconds from a frame that gives the turn to when the sender may go on, if no answer comes before."""
        return self._gap(WORD_BYTES)

    @property
    def stored_gap(self) -> float:
        """The same for a turn that asks which stored pieces are missing."""
        return self._gap(STORED_WORD_BYTES)

    def _gap(self, word: int) -> float:
        if not self.air.turnaround:
            return 0.0
        return 2 * self.air.turnaround + self.air.seconds(word + self.seal.word_bytes) + _SLACK

    @property
    def turn_seconds(self) -> float:
        """How far turns are apart: a second, or more where the answer takes over 15 % of the time, or over a fifth of
        what the duty cycle leaves the receiver."""
        return self._turn_seconds(TURN_SECONDS, TURN_SHARE)

    @property
    def memory_turn_seconds(self) -> float:
        """The same while frames refer to what was acknowledged: the sooner that is known, the less they have to say."""
        return self._turn_seconds(MEMORY_TURN_SECONDS, MEMORY_TURN_SHARE)

    def _turn_seconds(self, least: float, share: float) -> float:
        word = WORD_BYTES + self.seal.word_bytes + self.air.frame_extra
        allowed = self.air.allowed
        return max(least, self.gap / share, 0.0 if allowed is None else word / (0.2 * allowed))


def udp_extra() -> int:
    """What IP and UDP add to a frame (bytes)."""
    return IP_HEADER + UDP_HEADER


def serial_extra(framing: str, frame_bytes: int) -> int:
    """What the framing of a serial line adds on the air to a frame (bytes)."""
    return added_bytes(framing, frame_bytes)
