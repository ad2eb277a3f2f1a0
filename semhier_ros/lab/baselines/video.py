"""H.264 as a live stream: x264 without latency and with intra refresh, each slice a datagram, losses concealed.

Needs PyAV, the extra `video`. Its wheel carries libx264, which is under the GPL: PyAV is never required, and nothing
of it is part of this package. The encoder takes at most `max_rate` frames a second, has a tight rate bound, no
B-frames, no look-ahead and, but where the scene changes at once, no key frames after the first: a moving column of
intra blocks lets a receiver recover from losses (periodic intra refresh), and one that lost the first frame begin. The
receiver decodes a frame when all its slices are there, or a later frame's arrive.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import cv2
import numpy as np

from semhier_ros.lab.baselines.pictures import PacedSender, PictureReading, SendingStream, number_of
from semhier_ros.lab.baselines.still import Picture, enlarge
from semhier_ros.lab.replay.base import Answer, Camera
from semhier_ros.lab.replay.store import digest

SLICE_BYTES = 1000
_HEADER = struct.Struct(">HHQ")  # frame, place of the slice, stamp
HEADER_BYTES = _HEADER.size
_LAST = 0x8000
"""With the place of a frame's last slice."""
_START = b"\0\0\0\1"
_INFORMATION, _DELIMITER, _PARAMETERS = 6, 9, (7, 8)
"""Types of NAL units that hold no slice: supplemental information, delimiters, parameter sets."""
_USER_DATA = b"\5"
"""Of supplemental information: what x264 says of itself. All else of it may be what a decoder needs: where it may begin
(the recovery point, the only way in once the first frame is lost)."""
OLDEST = 2.0
"""Seconds after which a slice that has not left is no longer worth sending."""
PAUSE = 3.0
"""Frames that are so many usual distances apart have a pause between them, in which no camera gives frames."""


@dataclass(frozen=True, slots=True)
class VideoSetting:
    """`scale` of width and height, `max_rate` frames a second at most, `kbit` per second of the video itself."""

    scale: float
    max_rate: float
    kbit: float

    def __str__(self) -> str:
        return f"{self.scale * 100:g} % size, at most {self.max_rate:g} frames/s, {self.kbit:.1f} kbit/s of video"


def chosen(times_ns: Sequence[int], max_rate: float) -> list[int]:
    """The frames that an encoder takes which is given frames at `times_ns` and takes `max_rate` a second at most."""
    due, taken = float("-inf"), []
    gap = 1e9 / max_rate
    for number, time in enumerate(times_ns):
        if time + 0.5e6 >= due:
            taken.append(number)
            due = max(due + gap, time + 0.5 * gap) if due > float("-inf") else time + gap
    return taken


def frames_per_second(times_ns: Sequence[int], most: float) -> float:
    """How many frames a second come that come at `times_ns`, but for pauses; `most` at most, and where there is but
    one."""
    steps = np.diff(np.asarray(times_ns, np.float64))
    steps = steps[steps <= PAUSE * np.median(steps)] if len(steps) else steps
    return min(most, 1e9 / float(steps.mean())) if len(steps) else most


def encode_video(camera: Any, numbers: Sequence[int], setting: VideoSetting) -> list[list[bytes]]:
    """The NAL units of each of the frames `numbers`. The same input gives the same bytes (one thread).

    The encoder is told how many frames a second they really are: x264 gives each frame the share of the bit rate that
    this rate leaves it, so that told of more it would leave bits unused.
    """
    import av

    width, height = camera.size
    size = (max(32, round(width * setting.scale / 2) * 2), max(32, round(height * setting.scale / 2) * 2))
    context: Any = av.CodecContext.create("libx264", "w")
    context.width, context.height = size
    context.pix_fmt = "yuv420p"
    rate = _rate_of(camera, numbers, setting)
    context.framerate, context.time_base = rate, 1 / rate
    bits = max(1, round(setting.kbit))
    parameters = {
        "bitrate": bits,
        "vbv-maxrate": bits,
        "vbv-bufsize": max(1, round(setting.kbit / float(rate) * 2)),
        "intra-refresh": 1,
        "keyint": max(2, round(2 * rate)),
        "slice-max-size": SLICE_BYTES,
        "threads": 1,
        "lookahead-threads": 1,
        "annexb": 1,
        "repeat-headers": 1,
    }
    context.options = {
        "preset": "medium",
        "tune": "zerolatency",
        "x264-params": ":".join(f"{name}={value}" for name, value in parameters.items()),
    }
    made: list[list[bytes]] = []
    for place, number in enumerate(numbers):
        image = camera.image(number)
        if size != (width, height):
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = place, context.time_base
        made.append([unit for packet in context.encode(frame) for unit in units(bytes(packet))])
    return made


def _rate_of(camera: Any, numbers: Sequence[int], setting: VideoSetting) -> Fraction:
    """Frames a second of a camera's frames `numbers`, as x264 takes it."""
    rate = frames_per_second([camera.times_ns[number] for number in numbers], setting.max_rate)
    return Fraction(rate).limit_denominator(1000) or Fraction(1, 1000)


def units(data: bytes) -> list[bytes]:
    """The slices of an Annex B stream as NAL units with start codes; parameter sets and supplemental information ride
    with the slice after them. Delimiters and user data are left out."""
    parts = [part.rstrip(b"\0") for part in data.replace(_START, b"\0\0\1").split(b"\0\0\1")]
    result: list[bytes] = []
    held = b""
    for part in filter(None, parts):
        kind = part[0] & 31
        if kind == _DELIMITER or (kind == _INFORMATION and part[1:2] == _USER_DATA):
            continue
        held += _START + part
        if kind != _INFORMATION and kind not in _PARAMETERS:
            result.append(held)
            held = b""
    return result


class VideoSender(PacedSender):
    """Sender of one or several cameras' videos."""

    def __init__(self, made: Sequence[dict[int, list[bytes]]], rate: float, seconds: float) -> None:
        super().__init__(len(made), rate, SLICE_BYTES + 64)
        self._made, self._seconds = made, seconds
        self.counters["dropped_old"] = 0

    def offer(self, camera: int, number: int, stamp_ns: int, now: float) -> None:
        """A camera took a frame; its slices are there when it is encoded."""
        self.counters["offered"] += 1
        slices = self._made[camera].get(number)
        if slices is None:
            return
        self.counters["encoded"] += 1
        if len(slices) > _LAST:
            raise ValueError(f"video: frame {number} has {len(slices)} slices, 1 to {_LAST} expected")
        for place, data in enumerate(slices):
            last = _LAST if place == len(slices) - 1 else 0
            payload = _HEADER.pack(number & 0xFFFF, place | last, stamp_ns) + data[len(_START) :]
            self._queue(camera, now + self._seconds, payload, number, "picture")

    def _refresh(self, camera: int, now: float) -> None:
        queue = self._queues[camera]
        while queue and now - queue[0][0] > OLDEST:
            queue.pop(0)
            self.counters["dropped_old"] += 1


class _Camera:
    """What the receiver holds of one camera: its decoder, and the frame whose slices come in."""

    def __init__(self) -> None:
        import av

        self.context: Any = av.CodecContext.create("h264", "r")
        self.context.thread_count = 1
        self.context.options = {"flags": "low_delay"}
        self.open: tuple[int, int] | None = None
        self.slices: dict[int, bytes] = {}
        self.count: int | None = None
        """Slices of the open frame; None until its last has come."""
        self.newest = -1
        self.history = ""

    def decode(self) -> Any:
        """The picture after the slices of the open frame, None when the decoder gives none (yet)."""
        import av

        data = b"".join(_START + self.slices[place] for place in sorted(self.slices))
        self.history = digest(self.history, data.hex())
        try:
            frames = self.context.decode(av.Packet(data))
        except av.error.FFmpegError:
            return None
        return frames[-1] if frames else None


class VideoReceiver(PictureReading):
    """Receiver of videos: every frame that the decoder gives is detected."""

    def __init__(self, cameras: Sequence[Camera], *how: Any) -> None:
        super().__init__(cameras, *how)
        self.states = [_Camera() for _ in cameras]

    def push(self, camera: int, payload: bytes, now: float) -> list[Answer]:
        """The readings of frames that this slice completes or gives up."""
        if len(payload) <= _HEADER.size:
            return []
        frame, place, stamp_ns = _HEADER.unpack_from(payload)
        state = self.states[camera]
        key = (frame, stamp_ns)
        answers = []
        if state.open is not None and state.open != key:
            if stamp_ns <= state.newest:
                return []  # of a frame that was decoded without it
            answers += self._finish(camera, now)
        if stamp_ns <= state.newest:
            return []
        state.open = key
        if place & _LAST:
            place -= _LAST
            state.count = place + 1
        state.slices[place] = payload[_HEADER.size :]
        if len(state.slices) == state.count:
            answers += self._finish(camera, now)
        return answers

    def _finish(self, camera: int, now: float) -> list[Answer]:
        state, one = self.states[camera], self._cameras[camera]
        assert state.open is not None
        frame, stamp_ns = state.open
        picture = state.decode()
        state.newest, state.open, state.count = stamp_ns, None, None
        state.slices.clear()
        if picture is None:
            return []
        number, key = number_of(frame, stamp_ns, one), f"h264 {state.history}"
        return [self.answer(camera, number, stamp_ns, now, key, partial(fitted, picture, one.size))]


class VideoStream(SendingStream):
    """H.264 with one setting."""

    name = "h264"
    perfect = False

    def made(self, camera: Any) -> dict[int, list[bytes]]:
        """Frame number -> NAL units, of the frames that the encoder takes."""
        numbers = chosen(camera.times_ns, self.how.max_rate)
        rate = _rate_of(camera, numbers, self.how)
        key = digest(*(camera.key(number) for number in numbers), str(self.how), str(rate), "x264 4")
        frames = self._reader.store.made("video", key, partial(encode_video, camera, numbers, self.how))
        return dict(zip(numbers, frames, strict=True))

    def sender(self, cameras: Sequence[Camera], rate: float) -> VideoSender:
        return VideoSender([self.made(camera) for camera in cameras], rate, self._costs.h264)

    def receiver(self, cameras: Sequence[Camera]) -> VideoReceiver:
        return VideoReceiver(cameras, self._reader, self._costs.unpack + self._costs.detect, self.perfect)

    def detections(self, camera: Any, wanted: Sequence[int]) -> dict[int, tuple[Any, ...]]:
        """What the detector reads on the frames `wanted` when nothing is lost; of those that the encoder takes."""
        receiver = VideoReceiver([camera], self._reader, 0.0, True)
        state, found = receiver.states[0], {}
        for number, slices in self.made(camera).items():
            state.slices = {place: data[len(_START) :] for place, data in enumerate(slices)}
            picture = state.decode()
            if picture is not None and number in wanted:
                found[number] = self._reader.detected(
                    f"h264 {state.history}", lambda picture=picture: fitted(picture, camera.size), camera.size
                )
        return found


def fitted(picture: Any, size: tuple[int, int]) -> Picture:
    """A decoded video frame as RGB of `size`."""
    return enlarge(picture.to_ndarray(format="rgb24"), *size)
