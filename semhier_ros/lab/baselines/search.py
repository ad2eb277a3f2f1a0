"""The setting with which JPEG, WebP or H.264 does best over a link: tried in virtual time, judged by the same detector.

Every size x quality x parity x rate is sent in virtual time with pictures of their mean size; what a perfect detector
would make of those that arrive, times how well the detector does on a few pictures of that look, ranks them; the first
few are then sent with their real bytes and judged on every picture that arrives. H.264's settings are few and all real.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from semhier_ros.lab.baselines.pictures import (
    PictureReceiver,
    PictureSender,
    PictureSetting,
    PictureStream,
    SharedSender,
    decode_picture,
)
from semhier_ros.lab.replay.reader import Reader
from semhier_ros.lab.scoring.streaming import Matching, World
from semhier_ros.lab.streams.base import Answer, Camera, Costs, FrameStream
from semhier_ros.lab.streams.virtual import run_virtual
from semhier_ros.link.emulate.profile import LinkProfile

SCALES = (1.0, 0.6, 0.4, 0.25)
QUALITIES = {"jpeg": (10, 25, 50), "webp": (5, 25, 60)}
RATES = (1.25, 2.5, 5.0, 30.0)
PROBES = 4
FINALISTS = 3
VIDEO_SCALES = (1.0, 0.6, 0.4)
VIDEO_RATES = (5.0, 12.5)
TRIAL_SECONDS = 12.0
"""A search looks at so much of the footage."""


@dataclass(frozen=True, slots=True)
class _Part:
    """The first seconds of a camera's footage."""

    camera: Any
    count: int

    @property
    def name(self) -> str:
        return str(self.camera.name)

    @property
    def size(self) -> tuple[int, int]:
        return (self.camera.size[0], self.camera.size[1])

    @property
    def times_ns(self) -> Sequence[int]:
        return self.camera.times_ns[: self.count]

    def __len__(self) -> int:
        return self.count

    def key(self, number: int) -> str:
        return str(self.camera.key(number))

    def image(self, number: int) -> Any:
        return self.camera.image(number)


class _Sized(PictureStream):
    """Pictures of a given size in bytes that show everything: what a link does to a setting, whatever it looks like."""

    def __init__(self, reader: Reader, costs: Costs, setting: PictureSetting, size: int) -> None:
        super().__init__(reader, costs, setting)
        self._size = size

    def sender(self, cameras: Sequence[Camera], rate: float) -> SharedSender:
        seconds = self._costs.jpeg if self.name == "jpeg" else self._costs.webp
        data = bytes(self._size)
        return SharedSender([PictureSender(lambda _: data, self.how, rate / len(cameras), seconds) for _ in cameras])

    def receiver(self, cameras: Sequence[Camera]) -> PictureReceiver:
        return _Perfect(cameras, self._reader, self.how.look, self._costs.unpack + self._costs.detect)


class _Perfect(PictureReceiver):
    """Answers with what the detector reads on the uncompressed frame."""

    def push(self, camera: int, payload: bytes, now: float) -> list[Answer]:
        whole = self._assemblers[camera].add(payload)
        if whole is None:
            return []
        number, stamp_ns, _ = whole
        found = self._reader.reference(self._cameras[camera], number)
        last = self._reader.levels - 1
        return [Answer(camera, number, stamp_ns, now, now + self._seconds, last, last, found, "picture")]


def best_stream(
    name: str,
    reader: Reader,
    costs: Costs,
    cameras: Sequence[Any],
    link: LinkProfile,
    rate: float,
    *,
    max_rate: float = 0.0,
    finalists: int = FINALISTS,
    progress: Callable[[float], None] | None = None,
) -> FrameStream:
    """The stream `name` ("jpeg", "webp" or "h264") with its best setting for `link` and a budget of `rate`.

    `finalists`: how many picture settings are judged on every picture that arrives (1 to 20).
    """
    parts = [
        _Part(camera, int(np.searchsorted(camera.times_ns, TRIAL_SECONDS * 1e9, side="right"))) for camera in cameras
    ]
    parts = [part if part.count else _Part(part.camera, len(part.camera)) for part in parts]
    worlds = [reference_world(reader, part) for part in parts]
    matching = Matching()

    def score(stream: FrameStream) -> float:
        run = run_virtual(stream, parts, link, rate)
        answers = [[item for item in run.answers if item.camera == place] for place in range(len(parts))]
        return _mean([matching.matches(worlds, answers, level).value() for level in range(reader.levels)])

    if name == "h264":
        return _best_video(reader, costs, parts, rate, max_rate, score, progress)
    candidates: list[tuple[float, PictureSetting]] = []
    looks = [(scale, quality) for scale in SCALES for quality in QUALITIES[name]]
    rates = sorted({min(value, max_rate) if max_rate else value for value in RATES})
    for done, (scale, quality) in enumerate(looks):
        look = PictureSetting(name, scale, quality, 1.0, False)
        size, kept = _probe(reader, costs, parts, look, matching)
        for parity in (False, True) if link.loss > 0 else (False,):
            for most in rates:
                setting = replace(look, max_rate=most, parity=parity)
                candidates.append((kept * score(_Sized(reader, costs, setting, size)), setting))
        if progress:
            progress(0.6 * (done + 1) / len(looks))
    candidates.sort(key=lambda item: -item[0])
    finals: list[tuple[float, PictureStream]] = []
    for setting in _distinct([setting for _, setting in candidates], finalists):
        if finalists == 1:
            return PictureStream(reader, costs, setting)
        stream = PictureStream(reader, costs, setting)
        finals.append((score(stream), stream))
        if progress:
            progress(0.6 + 0.4 * len(finals) / finalists)
    return max(finals, key=lambda item: item[0])[1]


def reference_world(reader: Reader, camera: Any) -> World:
    """Agreement's truth: at every frame's time what the detector reads on it, uncompressed."""
    truths = [reader.reference(camera, number) for number in range(len(camera))]
    return World(np.asarray(camera.times_ns, float) / 1e9, truths, "agreement")


def _distinct(settings: Sequence[PictureSetting], count: int) -> list[PictureSetting]:
    """The first few of different looks."""
    chosen: dict[str, PictureSetting] = {}
    for setting in settings:
        if len(chosen) < count:
            chosen.setdefault(setting.look, setting)
    return list(chosen.values())


def _probe(
    reader: Reader, costs: Costs, parts: Sequence[_Part], look: PictureSetting, matching: Matching
) -> tuple[int, float]:
    """(mean bytes, precision at its best possible 1) of a few pictures of this look."""
    stream = PictureStream(reader, costs, look)
    sizes: list[int] = []
    answers: list[Answer] = []
    truths: list[Any] = []
    for part in parts:
        for number in sorted({round(place) for place in np.linspace(0, len(part) - 1, PROBES)}):
            data = stream.file(part, number)
            sizes.append(len(data))
            found = reader.detected(
                f"{part.key(number)} {look.look}",
                lambda data=data, part=part: decode_picture(data, part.size),
                part.size,
            )
            last = reader.levels - 1
            place = len(truths)
            answers.append(Answer(0, place, place, float(place), float(place), last, last, found, ""))
            truths.append(reader.reference(part, number))
    world = World(np.arange(len(truths), dtype=float), truths, "agreement")
    kept = _mean([matching.matches([world], [answers], level).value() for level in range(reader.levels)])
    return round(float(np.mean(sizes))), kept


def _best_video(
    reader: Reader,
    costs: Costs,
    parts: Sequence[_Part],
    rate: float,
    max_rate: float,
    score: Callable[[FrameStream], float],
    progress: Callable[[float], None] | None,
) -> FrameStream:
    from semhier_ros.lab.baselines.video import SLICE_BYTES, VideoSetting, VideoStream
    from semhier_ros.link.schedule.wire import ZENOH_UDP

    overhead = ZENOH_UDP.wire_bytes(SLICE_BYTES) - SLICE_BYTES + 12
    tried: list[tuple[float, VideoSetting]] = []
    matching = Matching()
    rates = sorted({min(value, max_rate) if max_rate else value for value in VIDEO_RATES})
    for most in rates:
        for scale in VIDEO_SCALES:
            share = rate / len(parts) - overhead * most  # every frame is one datagram at least
            share *= SLICE_BYTES / (SLICE_BYTES + overhead)
            if share < 300:
                continue
            stream = VideoStream(reader, costs, VideoSetting(scale, most, round(share * 0.92 * 8 / 1000, 1)))
            stream.perfect = True
            tried.append((score(stream) * _video_kept(stream, reader, parts, matching), stream.how))
            if progress:
                progress(len(tried) / (len(rates) * len(VIDEO_SCALES)))
    if not tried:
        tried = [(0.0, VideoSetting(VIDEO_SCALES[-1], 1.0, max(1.0, round(rate / len(parts) * 0.004, 1))))]
    return VideoStream(reader, costs, max(tried, key=lambda item: item[0])[1])


def _video_kept(stream: Any, reader: Reader, parts: Sequence[_Part], matching: Matching) -> float:
    """Precision, at its best possible 1, on a few frames of the video as nobody lost it."""
    answers: list[Answer] = []
    truths: list[Any] = []
    last = reader.levels - 1
    for part in parts:
        numbers = sorted(stream.made(part))
        wanted = {numbers[round(place)] for place in np.linspace(len(numbers) // 4, len(numbers) - 1, 2 * PROBES)}
        for number, found in stream.detections(part, sorted(wanted)).items():
            place = len(truths)
            answers.append(Answer(0, place, place, float(place), float(place), last, last, found, ""))
            truths.append(reader.reference(part, number))
    world = World(np.arange(len(truths), dtype=float), truths, "agreement")
    return _mean([matching.matches([world], [answers], level).value() for level in range(reader.levels)])


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else 0.0
