"""Whole pictures: JPEG and WebP, as kind to them as a sender can be that has the same budget.

Only the newest camera frame is sent, the next one starts the moment the last piece of the previous one has left, pieces
fill datagrams of 1,200 bytes, and a parity piece per picture repairs any one lost piece where that pays. The receiver
decodes each complete picture and runs the very detector that our encoder runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
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
from semhier_ros.lab.replay.base import Answer, Camera, Costs, Departure, Run, Sent, TimedCamera, link_counts
from semhier_ros.lab.replay.reader import Reader
from semhier_ros.link.emulate.direction import VirtualLink
from semhier_ros.link.emulate.hop import earliest
from semhier_ros.link.emulate.profile import LinkProfile
from semhier_ros.link.schedule.budget import TokenBucket
from semhier_ros.link.schedule.wire import ZENOH_UDP


class PacedSender:
    """The robot's end of several cameras, which share the budget of `rate` wire bytes per second (0: none): those that
    have something to send take turns, a datagram each. A queued datagram leaves when it is made, its camera's turn has
    come and the budget allows it. largest: bytes of a payload."""

    def __init__(self, cameras: int, rate: float, largest: int) -> None:
        self._bucket = TokenBucket(rate or None, ZENOH_UDP.wire_bytes(largest))
        self._queues: list[list[tuple[float, Departure]]] = [[] for _ in range(cameras)]
        self._turn = 0
        self.counters = {"offered": 0, "encoded": 0}

    def offer(self, camera: int, number: int, stamp_ns: int, now: float) -> None:
        """A camera took a frame."""
        raise NotImplementedError

    def next_event(self, now: float) -> float | None:
        """When a datagram may leave or is made, not before `now`; None while nothing is on its way."""
        following = self._following(now)
        leaves = [] if following is None else [self._bucket.ready_at(following.wire_bytes, now)]
        later = [queue[0][0] for queue in self._queues if queue and queue[0][0] > now]
        return min([*leaves, *later], default=None)

    def pop(self, now: float) -> Departure | None:
        """The datagram that leaves at `now`; None while there is none."""
        for camera in range(len(self._queues)):
            self._refresh(camera, now)
        departure = self._following(now)
        if departure is None or self._bucket.ready_at(departure.wire_bytes, now) > now:
            return None
        self._queues[departure.camera].pop(0)
        self._bucket.spend(departure.wire_bytes, now)
        self._turn = departure.camera + 1
        return departure

    def _following(self, now: float) -> Departure | None:
        """The datagram whose turn is next of those that are made."""
        for step in range(len(self._queues)):
            queue = self._queues[(self._turn + step) % len(self._queues)]
            if queue and queue[0][0] <= now:
                return queue[0][1]
        return None

    def _queue(self, camera: int, made: float, payload: bytes, number: int, purpose: str) -> None:
        departure = Departure(camera, payload, ZENOH_UDP.wire_bytes(len(payload)), number, purpose)
        self._queues[camera].append((made, departure))

    def _refresh(self, camera: int, now: float) -> None:
        """Brings a camera's queue up to date."""
        raise NotImplementedError


class PictureSender(PacedSender):
    """Sender of pictures: of each camera the newest, once the one before has left and its time has come.
    `encoders`: of each camera, number -> a frame's file, there `seconds` later."""

    def __init__(
        self, encoders: Sequence[Callable[[int], bytes]], setting: PictureSetting, rate: float, seconds: float
    ) -> None:
        super().__init__(len(encoders), rate, PIECE_BYTES)
        self._encoders, self._setting, self._seconds = encoders, setting, seconds
        self._newest: list[tuple[int, int] | None] = [None for _ in encoders]
        self._next_start = [float("-inf") for _ in encoders]

    def offer(self, camera: int, number: int, stamp_ns: int, now: float) -> None:
        """A camera took a frame; an older one that has not begun is forgotten."""
        self.counters["offered"] += 1
        self._newest[camera] = (number, stamp_ns)
        self._refresh(camera, now)

    def next_event(self, now: float) -> float | None:
        """When a piece may leave or a picture may begin."""
        waiting = zip(self._queues, self._newest, self._next_start, strict=True)
        starts = [max(now, start) for queue, newest, start in waiting if newest is not None and not queue]
        leaving = super().next_event(now)
        return min(starts if leaving is None else [*starts, leaving], default=None)

    def _refresh(self, camera: int, now: float) -> None:
        newest = self._newest[camera]
        if self._queues[camera] or newest is None or now < self._next_start[camera]:
            return
        number, stamp_ns = newest
        self._newest[camera] = None
        pieces = cut(number, stamp_ns, self._encoders[camera](number), parity=self._setting.parity)
        for left, piece in zip(reversed(range(len(pieces))), pieces, strict=True):
            purpose = "parity" if self._setting.parity and not left else "picture"
            self._queue(camera, now + self._seconds, piece, number, purpose)
        self._next_start[camera] = now + 1.0 / self._setting.max_rate - 1e-3
        self.counters["encoded"] += 1


class PictureReading:
    """The base's end: what the detector reads on pictures that arrived, `seconds` later. perfect: what it reads on the
    uncompressed frames."""

    def __init__(self, cameras: Sequence[Camera], reader: Reader, seconds: float, perfect: bool = False) -> None:
        self._cameras, self._reader, self._seconds, self._perfect = cameras, reader, seconds, perfect

    def push(self, camera: int, payload: bytes, now: float) -> list[Answer]:
        """Takes a datagram that arrived at `now`; what becomes known of it. One that is not the sender's is ignored."""
        raise NotImplementedError

    def answer(
        self, camera: int, number: int, stamp_ns: int, now: float, key: str, picture: Callable[[], Any]
    ) -> Answer:
        """The reading of the `picture` of a camera's frame, remembered under `key`."""
        one, last = self._cameras[camera], self._reader.levels - 1
        if self._perfect:
            found = self._reader.reference(one, number)
        else:
            found = self._reader.detected(key, picture, one.size)
        return Answer(camera, number, stamp_ns, now, now + self._seconds, last, last, found, "picture")


class PictureReceiver(PictureReading):
    """Receiver of pictures: each complete one is decoded and detected."""

    def __init__(
        self, cameras: Sequence[Camera], reader: Reader, look: str, seconds: float, perfect: bool = False
    ) -> None:
        super().__init__(cameras, reader, seconds, perfect)
        self._look, self._assemblers = look, [Assembler() for _ in cameras]

    def push(self, camera: int, payload: bytes, now: float) -> list[Answer]:
        """The reading of the picture that this piece completes."""
        whole = self._assemblers[camera].add(payload)
        if whole is None:
            return []
        frame, stamp_ns, data = whole
        one = self._cameras[camera]
        number = number_of(frame, stamp_ns, one)
        key, picture = f"{one.key(number)} {self._look}", partial(decode_picture, data, one.size)
        return [self.answer(camera, number, stamp_ns, now, key, picture)]


def number_of(frame: int, stamp_ns: int, camera: Camera) -> int:
    """The camera frame whose number ends in the 16 bits `frame`; a run of more than 65,536 goes by its stamp."""
    times = getattr(camera, "times_ns", None)
    return frame if times is None or len(camera) <= 0x10000 else int(np.searchsorted(times, stamp_ns))


class SendingStream:
    """A stream that only sends, with a setting of its own (`how`)."""

    name: str

    def __init__(self, reader: Reader, costs: Costs, how: Any) -> None:
        self._reader, self._costs, self.how, self.setting = reader, costs, how, str(how)

    def sender(self, cameras: Sequence[Camera], rate: float) -> PacedSender:
        """The robot's end of all cameras."""
        raise NotImplementedError

    def receiver(self, cameras: Sequence[Camera]) -> PictureReading:
        """The base's end."""
        raise NotImplementedError

    def session(self, cameras: Sequence[TimedCamera], rate: float, link: LinkProfile, run: Run) -> OneWaySession:
        return OneWaySession(self, cameras, rate, link, run)


class OneWaySession:
    """`Session` of a stream that only sends."""

    def __init__(
        self, stream: SendingStream, cameras: Sequence[TimedCamera], rate: float, link: LinkProfile, run: Run
    ) -> None:
        self._sender, self._receiver = stream.sender(cameras, rate), stream.receiver(cameras)
        self._way, self._run = VirtualLink(link), run

    def arrive(self, now: float) -> None:
        for time, (camera, payload) in self._way.arrivals(now):
            self._run.answers += self._receiver.push(camera, payload, time)

    def offer(self, camera: int, number: int, stamp_ns: int, now: float) -> None:
        self._sender.offer(camera, number, stamp_ns, now)

    def work(self, now: float) -> None:
        while (one := self._sender.pop(now)) is not None:
            cause = self._way.send((one.camera, one.payload), one.wire_bytes, now)
            self._run.sent.append(Sent(now, one.camera, one.number, one.wire_bytes, one.purpose, False, cause))

    def next_event(self, now: float) -> float | None:
        return earliest(self._sender.next_event(now), self._way.next_arrival)

    def next_duty(self, now: float) -> float | None:
        return None

    def finish(self) -> None:
        self._run.counters, self._run.link = dict(self._sender.counters), link_counts(self._way.counters)


class PictureStream(SendingStream):
    """JPEG or WebP pictures with one setting. size: they have so many bytes each and show everything: what a link does
    to a setting, whatever it looks like."""

    def __init__(self, reader: Reader, costs: Costs, setting: PictureSetting, size: int | None = None) -> None:
        super().__init__(reader, costs, setting)
        self.name, self._size = setting.kind, size
        self.tried: list[dict[str, Any]] = []
        """Setting, mean bytes and score of those that the search judged in full, the best first."""

    def file(self, camera: Camera, number: int) -> bytes:
        """The picture file of a frame."""
        if self._size is not None:
            return bytes(self._size)

        def make() -> bytes:
            return encode_picture(camera.image(number), self.how)

        found: bytes = self._reader.store.made("picture", f"{camera.key(number)} {self.how.look}", make)
        return found

    def sender(self, cameras: Sequence[Camera], rate: float) -> PictureSender:
        seconds = self._costs.jpeg if self.name == "jpeg" else self._costs.webp
        return PictureSender([partial(self.file, camera) for camera in cameras], self.how, rate, seconds)

    def receiver(self, cameras: Sequence[Camera]) -> PictureReceiver:
        seconds = self._costs.unpack + self._costs.detect
        return PictureReceiver(cameras, self._reader, self.how.look, seconds, self._size is not None)
