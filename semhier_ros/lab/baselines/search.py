"""Which streams there are, and the one search for the setting with which JPEG, WebP or H.264 does best over a link.

Tried in virtual time, judged by the same detector: every size x quality x parity x rate is sent with pictures of their
mean size; what a perfect detector would make of those that arrive, times how well the detector does on a few pictures
of that look, ranks them; the first few are then sent with their real bytes and judged on every picture that arrives.
H.264's settings are few and all real. Nothing in it looks at a clock: the same footage, link and costs give the same
setting on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from semhier_ros.lab.baselines.answer import AnswerStream
from semhier_ros.lab.baselines.picture_files import PictureSetting, decode_picture
from semhier_ros.lab.baselines.pictures import PictureStream
from semhier_ros.lab.baselines.video import (
    HEADER_BYTES,
    SLICE_BYTES,
    VideoSetting,
    VideoStream,
    chosen,
    frames_per_second,
)
from semhier_ros.lab.replay.base import Camera, Costs, Stream, run_virtual
from semhier_ros.lab.replay.blocks import SemhierStream
from semhier_ros.lab.replay.reader import Reader
from semhier_ros.lab.replay.task import Task, check_codecs
from semhier_ros.lab.scoring.figures import mean_of_known
from semhier_ros.lab.scoring.streaming import Matching, mean_precision
from semhier_ros.link.emulate.radio import parse_hop
from semhier_ros.link.schedule.wire import ZENOH_UDP

SCALES = (1.0, 0.6, 0.4, 0.25)
QUALITIES = {"jpeg": (10, 25, 50), "webp": (5, 25, 60)}
RATES = (1.25, 2.5, 5.0, 30.0)
PROBES = 4
VIDEO_SCALES = (1.0, 0.6, 0.4)
VIDEO_RATES = (5.0, 12.5)
FREE_RATE, FREE_BITS = 30.0, 0.2
"""Where there is no budget video is tried at so many frames a second too, and each pixel of a frame has so many bits:
it looks good then, and more hardly helps."""
TRIAL_SECONDS = 12.0
"""A search looks at so much of the footage."""


class _Part:
    """The first frames of a camera's footage; all else is the camera's."""

    def __init__(self, camera: Any, count: int) -> None:
        self._camera, self.times_ns = camera, camera.times_ns[:count]

    def __len__(self) -> int:
        return len(self.times_ns)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._camera, name)


def make_stream(
    name: str,
    task: Task,
    reader: Reader,
    costs: Costs,
    cameras: Sequence[Camera],
    progress: Callable[[float], None] = lambda share: None,
) -> Stream:
    """The stream `name` of a task, for `cameras` over its link, where computing takes `costs`.

    semhier and answer have nothing to choose; for jpeg, webp and h264 the best setting is searched for, at the task's
    costs or the documented ones: what is measured on this machine must not decide. Raises StreamError.
    """
    check_codecs([name])
    if name == "semhier":
        more = {"max_rate": task.max_rate, "finest": task.finest, "motion": task.motion, "memory": task.memory}
        return SemhierStream(reader, costs, **more)  # type: ignore[arg-type]
    if name == "answer":
        return AnswerStream(reader, costs, max_rate=task.max_rate)
    search = _Search(task, reader, cameras, progress)
    if name == "h264":
        return VideoStream(reader, costs, search.video())
    setting, tried = search.pictures(name, task.finalists)
    stream = PictureStream(reader, costs, setting)
    stream.tried = tried
    return stream


class _Search:
    """What a search holds on to."""

    def __init__(self, task: Task, reader: Reader, cameras: Sequence[Any], progress: Callable[[float], None]) -> None:
        self._reader, self._costs = reader, task.costs or Costs()
        self._link, self._rate, self._max_rate = parse_hop(task.link), task.budget, task.max_rate
        self._progress = progress
        counts = [int(np.searchsorted(one.times_ns, TRIAL_SECONDS * 1e9, side="right")) for one in cameras]
        self._parts = [_Part(camera, count or len(camera)) for camera, count in zip(cameras, counts, strict=True)]
        self._worlds = [reader.world(part) for part in self._parts]
        self._matching = Matching(reader.codec.whole_image)

    def score(self, stream: Stream) -> float:
        """Streaming precision of a stream over the link, mean of the levels."""
        run = run_virtual(stream, self._parts, self._link, self._rate)
        answers = [[item for item in run.answers if item.camera == place] for place in range(len(self._parts))]
        return mean_precision(self._matching, self._worlds, answers, self._reader.levels)

    def pictures(self, kind: str, finalists: int) -> tuple[PictureSetting, list[dict[str, Any]]]:
        """The best setting of JPEG or WebP, and the finalists."""
        candidates: list[tuple[float, PictureSetting]] = []
        sizes: dict[str, int] = {}
        looks = [PictureSetting(kind, scale, quality) for scale in SCALES for quality in QUALITIES[kind]]
        for done, look in enumerate(looks):
            sizes[look.look], kept = self._probe(look)
            for parity in (False, True) if self._link.loss > 0 else (False,):
                for most in self._rates(RATES):
                    setting = replace(look, max_rate=most, parity=parity)
                    sized = PictureStream(self._reader, self._costs, setting, sizes[look.look])
                    candidates.append((kept * self.score(sized), setting))
            self._progress(0.6 * (done + 1) / len(looks))
        candidates.sort(key=lambda item: -item[0])
        first: dict[str, PictureSetting] = {}
        for _, setting in candidates:
            if len(first) < finalists:
                first.setdefault(setting.look, setting)
        if finalists == 1:
            return candidates[0][1], []
        finals: list[tuple[float, PictureSetting]] = []
        for setting in first.values():
            finals.append((self.score(PictureStream(self._reader, self._costs, setting)), setting))
            self._progress(0.6 + 0.4 * len(finals) / len(first))
        finals.sort(key=lambda item: -item[0])
        tried = [
            {"setting": str(setting), "mean_bytes": sizes[setting.look], "score": round(score, 4)}
            for score, setting in finals
        ]
        return finals[0][1], tried

    def video(self) -> VideoSetting:
        """The best setting of H.264."""
        tried: list[tuple[float, VideoSetting]] = []
        rates = self._video_rates()
        for most, real in rates.items():
            for scale in VIDEO_SCALES:
                kbit = self._video_kbit(scale, real)
                if kbit is None:
                    continue
                how = VideoSetting(scale, most, kbit)
                stream = VideoStream(self._reader, self._costs, how)
                stream.perfect = True
                kept = self._kept({part: self._video_frames(stream, part) for part in self._parts})
                tried.append((self.score(stream) * kept, how))
                self._progress(len(tried) / (len(rates) * len(VIDEO_SCALES)))
        slowest = VideoSetting(VIDEO_SCALES[-1], 1.0, max(1.0, round(self._rate / len(self._parts) * 0.004, 1)))
        return max(tried, key=lambda item: item[0], default=(0.0, slowest))[1]

    def _video_rates(self) -> dict[float, float]:
        """The most frames a second that are tried, and how many the fastest camera then really gives; of those by which
        the same frames are taken, the least."""
        found: dict[tuple[tuple[int, ...], ...], tuple[float, float]] = {}
        for most in self._rates(VIDEO_RATES if self._rate else (*VIDEO_RATES, FREE_RATE)):
            taken = [chosen(part.times_ns, most) for part in self._parts]
            times = [
                [part.times_ns[number] for number in numbers] for part, numbers in zip(self._parts, taken, strict=True)
            ]
            found.setdefault(tuple(map(tuple, taken)), (most, max(frames_per_second(one, most) for one in times)))
        return dict(found.values())

    def _video_kbit(self, scale: float, rate: float) -> float | None:
        """The bit rate of a camera's video of `rate` frames a second: what headers and datagrams leave of its share of
        the budget; None where that is nothing to speak of."""
        if not self._rate:
            pixels = max(part.size[0] * part.size[1] for part in self._parts) * scale**2
            return round(pixels * rate * FREE_BITS / 1000, 1)
        overhead = ZENOH_UDP.wire_bytes(SLICE_BYTES) - SLICE_BYTES + HEADER_BYTES
        share = self._rate / len(self._parts) - overhead * rate  # every frame is one datagram at least
        share *= SLICE_BYTES / (SLICE_BYTES + overhead)
        return None if share < 300 else round(share * 0.92 * 8 / 1000, 1)

    def _rates(self, rates: Sequence[float]) -> list[float]:
        return sorted({min(value, self._max_rate) if self._max_rate else value for value in rates})

    def _probe(self, look: PictureSetting) -> tuple[int, float]:
        """(mean bytes, precision at its best possible 1) of a few pictures of this look."""
        stream, reader = PictureStream(self._reader, self._costs, look), self._reader
        sizes: list[int] = []
        found: dict[_Part, dict[int, Any]] = {part: {} for part in self._parts}
        for part in self._parts:
            for number in sorted({round(place) for place in np.linspace(0, len(part) - 1, PROBES)}):
                data = stream.file(part, number)
                sizes.append(len(data))
                found[part][number] = reader.detected(
                    f"{part.key(number)} {look.look}",
                    lambda data=data, part=part: decode_picture(data, part.size),
                    part.size,
                )
        return round(float(np.mean(sizes))), self._kept(found)

    @staticmethod
    def _video_frames(stream: VideoStream, part: _Part) -> dict[int, Any]:
        """What the detector reads on a few frames of a video as nobody lost it."""
        numbers = sorted(stream.made(part))
        places = np.linspace(len(numbers) // 4, len(numbers) - 1, 2 * PROBES)
        return stream.detections(part, sorted({numbers[round(place)] for place in places}))

    def _kept(self, found: dict[_Part, dict[int, Any]]) -> float:
        """Precision of detections on single frames (by part and number), mean of the levels."""
        pairs = [
            (seen, self._reader.reference(part, number))
            for part, frames in found.items()
            for number, seen in frames.items()
        ]
        levels = range(self._reader.levels)
        return mean_of_known(self._matching.paired(pairs, level).value() for level in levels) or 0.0
