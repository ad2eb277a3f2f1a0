"""Whole pictures: JPEG and WebP, as kind to them as a sender can be that has the same budget.

Only the newest camera frame is sent, the next one starts the moment the last piece of the previous one has left, pieces
fill datagrams of 1,200 bytes, and a parity piece per picture repairs any one lost piece where that pays. The receiver
decodes each complete picture and runs the very detector that our encoder runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from semhier_ros.lab.baselines.picture_files import (
    PIECE_BYTES,
    Assembler,
    PictureSetting,
    cut,
    decode_picture,
    encode_picture,
)
from semhier_ros.lab.replay.base import Answer, Camera, Costs, Departure
from semhier_ros.lab.replay.reader import Reader
from semhier_ros.lab.replay.store import pack_bytes, unpack_bytes
from semhier_ros.link.schedule.budget import TokenBucket
from semhier_ros.link.schedule.wire import ZENOH_UDP, WireModel


class PictureSender:
    """One camera's pictures under a share of the budget. `encode(number)` gives a frame's file, `seconds` later."""

    def __init__(
        self,
        encode: Callable[[int], bytes],
        setting: PictureSetting,
        rate: float,
        seconds: float,
        wire: WireModel = ZENOH_UDP,
    ) -> None:
        self._encode, self._setting, self._seconds, self._wire = encode, setting, seconds, wire
        self._bucket = TokenBucket(rate or None, wire.wire_bytes(PIECE_BYTES))
        self._newest: tuple[int, int] | None = None
        self._pieces: list[bytes] = []
        self._count = 0
        self._number = 0
        self._ready = 0.0
        self._next_start = float("-inf")
        self.begun = 0

    def offer(self, number: int, stamp_ns: int, now: float) -> None:
        """The camera has a new frame; an older one that has not begun is forgotten."""
        self._newest = (number, stamp_ns)
        self._begin(now)

    def next_event(self, now: float) -> float | None:
        """When a piece may leave or the next picture may begin."""
        if self._pieces:
            return max(self._ready, self._bucket.ready_at(self._wire.wire_bytes(len(self._pieces[0])), now))
        return None if self._newest is None else max(now, self._next_start)

    def pop(self, now: float) -> tuple[bytes, int, int, str] | None:
        """(payload, wire bytes, frame number, purpose) of the piece that leaves at `now`."""
        self._begin(now)
        if not self._pieces or self._ready > now:
            return None
        size = self._wire.wire_bytes(len(self._pieces[0]))
        if self._bucket.ready_at(size, now) > now:
            return None
        self._bucket.spend(size, now)
        payload = self._pieces.pop(0)
        parity = self._setting.parity and not self._pieces
        return payload, size, self._number, "parity" if parity else "picture"

    def _begin(self, now: float) -> None:
        if self._pieces or self._newest is None or now < self._next_start:
            return
        number, stamp_ns = self._newest
        self._newest = None
        self._pieces = cut(number, stamp_ns, self._encode(number), parity=self._setting.parity)
        self._number, self._ready = number, now + self._seconds
        self._next_start = now + 1.0 / self._setting.max_rate - 1e-3
        self.begun += 1


class SharedSender:
    """`Sender` of several cameras' pictures: each has an equal share of the budget."""

    def __init__(self, senders: Sequence[PictureSender]) -> None:
        self._senders = senders
        self._turn = 0
        self._offered = 0

    def offer(self, camera: int, number: int, stamp_ns: int, now: float) -> None:
        """A camera took a frame."""
        self._offered += 1
        self._senders[camera].offer(number, stamp_ns, now)

    def next_event(self, now: float) -> float | None:
        """The earliest of all cameras."""
        return min((time for one in self._senders if (time := one.next_event(now)) is not None), default=None)

    def pop(self, now: float) -> Departure | None:
        """The next piece of any camera, in turn."""
        for step in range(len(self._senders)):
            place = (self._turn + step) % len(self._senders)
            found = self._senders[place].pop(now)
            if found is not None:
                self._turn = place + 1
                payload, size, number, purpose = found
                return Departure(place, payload, size, number, purpose)
        return None

    def counters(self) -> dict[str, int]:
        """Frames offered and pictures begun."""
        return {"offered": self._offered, "encoded": sum(one.begun for one in self._senders)}


class PictureReceiver:
    """`Receiver` of pictures: each complete one is decoded and detected, `seconds` after its last piece. perfect: it
    reads what the detector reads on the uncompressed frame."""

    def __init__(
        self, cameras: Sequence[Camera], reader: Reader, look: str, seconds: float, perfect: bool = False
    ) -> None:
        self._cameras, self._reader, self._look, self._seconds = cameras, reader, look, seconds
        self._perfect = perfect
        self._assemblers = [Assembler() for _ in cameras]

    def push(self, camera: int, payload: bytes, now: float) -> list[Answer]:
        """The reading of the picture that this piece completes."""
        whole = self._assemblers[camera].add(payload)
        if whole is None:
            return []
        frame, stamp_ns, data = whole
        one = self._cameras[camera]
        number = number_of(frame, stamp_ns, one)
        if self._perfect:
            found = self._reader.reference(one, number)
        else:
            key = f"{one.key(number)} {self._look}"
            found = self._reader.detected(key, lambda: decode_picture(data, one.size), one.size)
        last = self._reader.levels - 1
        return [Answer(camera, number, stamp_ns, now, now + self._seconds, last, last, found, "picture")]


def number_of(frame: int, stamp_ns: int, camera: Camera) -> int:
    """The camera frame whose number ends in the 16 bits `frame`; a run of more than 65,536 goes by its stamp."""
    if len(camera) <= 0x10000:
        return frame
    times = getattr(camera, "times_ns", None)
    if times is None:
        return frame
    return int(np.searchsorted(times, stamp_ns))


class PictureStream:
    """JPEG or WebP pictures with one setting. size: they have so many bytes each and show everything: what a link does
    to a setting, whatever it looks like."""

    def __init__(self, reader: Reader, costs: Costs, setting: PictureSetting, size: int | None = None) -> None:
        self._reader, self._costs, self.how, self._size = reader, costs, setting, size
        self.name = setting.kind
        self.tried: list[dict[str, Any]] = []
        """Setting, mean bytes and score of those that the search judged in full, the best first."""

    @property
    def setting(self) -> str:
        """The setting in words."""
        return str(self.how)

    def file(self, camera: Camera, number: int) -> bytes:
        """The picture file of a frame."""
        if self._size is not None:
            return bytes(self._size)

        def make() -> str:
            return pack_bytes(encode_picture(camera.image(number), self.how))

        return unpack_bytes(self._reader.store.made("picture", f"{camera.key(number)} {self.how.look}", make))

    def sender(self, cameras: Sequence[Camera], rate: float) -> SharedSender:
        """The robot's end."""
        seconds = self._costs.jpeg if self.name == "jpeg" else self._costs.webp
        share = rate / len(cameras)

        def one(camera: Camera) -> PictureSender:
            return PictureSender(lambda number: self.file(camera, number), self.how, share, seconds)

        return SharedSender([one(camera) for camera in cameras])

    def receiver(self, cameras: Sequence[Camera]) -> PictureReceiver:
        """The base's end."""
        seconds = self._costs.unpack + self._costs.detect
        return PictureReceiver(cameras, self._reader, self.how.look, seconds, self._size is not None)
