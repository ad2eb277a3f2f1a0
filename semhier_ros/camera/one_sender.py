"""Which sender of a camera is heard, where two robots use one name by mistake. No ROS, no clock.

Nothing in a packet says who sent it. But a sender numbers its frames one after another from a random number on, and its
descriptions carry the stamp of one of its frames. So packets fall into lines of numbers, and a description belongs to
the line that has its stamp. A restarted sender begins a new line and its old one falls silent. Where a line goes on
although another has begun, there are two senders: then only the first is read until it falls silent. Until that is
proven each line goes by its own description, and a new one waits for it. Two senders whose
numbers happen to lie within `NEAR` of each other (one pair in fifty) are taken for one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from semhier_ros.codec.packet import STAMP_MODULUS
from semhier_ros.codec.stream_info import StreamInfo

FRAMES = 1 << 16
NEAR = 600
"""How far frames of one sender may be apart: what was asked for late, what a pause swallowed."""
PROOF, SILENT = 0.5, 3.0
"""Seconds for which two lines go on side by side before they are two senders; after which a line has ended."""
MOST_LINES, STAMPS, INFOS = 4, 32, 4


@dataclass(slots=True)
class _Line:
    """Frames of one sender: the newest number, when it was first and last heard, its last stamps, its description."""

    newest: int
    born: float
    heard: float
    stamps: deque[int] = field(default_factory=lambda: deque(maxlen=STAMPS))
    info: StreamInfo | None = None


def alike(one: StreamInfo, other: StreamInfo) -> bool:
    """Whether two descriptions say the same but for their stamps."""
    return replace(one, stamp_ns=other.stamp_ns) == other


class OneSender:
    """Tells the packets and descriptions of the sender that is heard from those of others."""

    def __init__(self) -> None:
        self._lines: list[_Line] = []
        self._infos: deque[StreamInfo] = deque(maxlen=INFOS)
        self.clash = False
        self.own: StreamInfo | None = None
        """The description of the newest packet's line while there are several; None where it is not known."""

    @property
    def info(self) -> StreamInfo | None:
        """The description of the sender that is heard, None where it is not known."""
        return self._lines[0].info if self._lines else None

    def takes(self, frame: int, stamp: int | None, now: float) -> bool:
        """Whether a packet of this frame (0..65535) is to be read. stamp: its frame's in ns, or the low bits that
        travel; None where the packet has none. `clash` tells afterwards whether there are two senders, `own` how this
        packet's describes itself where there may be."""
        line = self._line(frame, now)
        if stamp is not None and (low := stamp % STAMP_MODULUS) not in line.stamps:
            line.stamps.append(low)
            line.info = next((info for info in self._infos if info.stamp_ns % STAMP_MODULUS == low), line.info)
        first = self._lines[0]
        if line is not first and now - first.heard > SILENT:
            self._lines = [line]
            self.clash = False
        elif not self.clash:
            self.clash = any(min(first.heard, other.heard) - other.born >= PROOF for other in self._lines[1:])
        elif all(now - other.heard > SILENT for other in self._lines[1:]):
            self._lines = [first]
            self.clash = False
        others = [other for other in self._lines if other is not line and now - other.heard <= SILENT]
        self.own = line.info if others else None
        if line is self._lines[0]:
            return line.info is not None or all(other.info is None for other in others)
        return not self.clash and (line.info is not None or now - line.born >= PROOF)

    def describes(self, info: StreamInfo, known: StreamInfo | None) -> bool:
        """Whether a description is to be taken; known: the one in force."""
        self._infos.append(info)
        low = info.stamp_ns % STAMP_MODULUS
        owner = next((line for line in self._lines if low in line.stamps), None)
        if owner is not None:
            owner.info = info
        if not self.clash:
            return True
        return owner is self._lines[0] or (owner is None and known is not None and alike(info, known))

    def _line(self, frame: int, now: float) -> _Line:
        for line in self._lines:
            ahead = (frame - line.newest + FRAMES // 2) % FRAMES - FRAMES // 2
            if abs(ahead) <= NEAR:
                line.newest = frame if ahead > 0 else line.newest
                line.heard = now
                return line
        line = _Line(frame, now, now)
        self._lines = [*self._lines[: MOST_LINES - 1], line]
        return line
