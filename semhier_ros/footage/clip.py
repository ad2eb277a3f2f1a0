"""The footage of the link bench: some seconds of a video at 640x360, looped, as a camera of the frame streams."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from semhier_ros.footage.video import filling, read_video

WIDTH, HEIGHT = 640, 360


def make_clip(video: Path, frames_per_second: float, seconds: float, out: Path) -> Path:
    """Writes the first `seconds` of `video`, scaled to fill 640x360 and cut at the sides (N,360,640,3 RGB)."""
    images: list[np.ndarray] = []
    for frame in read_video(video):
        if frame.time_ns >= seconds * 1e9:
            break
        if frame.time_ns < len(images) / frames_per_second * 1e9:
            continue
        images.append(filling(frame.image, (WIDTH, HEIGHT), cv2.INTER_LINEAR))
    np.save(out, np.stack(images))
    return out


class Clip:
    """A camera over a clip's file; after its last frame comes the first again.

    `count`: frames in all. `start`: the clip's frame that is frame 0, so that several cameras see different things.
    """

    def __init__(self, path: Path, frames_per_second: float, count: int, name: str = "camera", start: int = 0) -> None:
        self._images = np.load(path, mmap_mode="r")
        self._mark = hashlib.sha256(self._images[::10].tobytes()).hexdigest()[:16]
        self._start = start
        self._count = count
        self.name = name
        self.size = (WIDTH, HEIGHT)
        self.times_ns = [round(number * 1e9 / frames_per_second) for number in range(count)]

    def __len__(self) -> int:
        return self._count

    @property
    def distinct(self) -> int:
        """How many frames differ."""
        return min(len(self._images), self._count)

    def place(self, number: int) -> int:
        """The clip's frame behind frame `number`."""
        return (number + self._start) % len(self._images)

    def key(self, number: int) -> str:
        """Names a frame's content."""
        return f"{self._mark}/{self.place(number)}"

    def image(self, number: int) -> np.ndarray:
        """The pixels of a frame (360,640,3 RGB)."""
        return np.ascontiguousarray(self._images[self.place(number)])


def clips(plan: dict[str, Any]) -> list[Clip]:
    """The cameras of a plan: `clip` (its file), `seconds`, `frames_per_second`, `cameras` (their names)."""
    count = round(plan["seconds"] * plan["frames_per_second"])
    return [
        Clip(Path(plan["clip"]), plan["frames_per_second"], count, name, 17 * place)
        for place, name in enumerate(plan["cameras"])
    ]
