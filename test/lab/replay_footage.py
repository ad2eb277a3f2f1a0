"""Small footage for tests of replays: a moving street, as a video's worth of frames or as a bag."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from semhier_ros.footage.messages import BagWriter, camera_messages
from semhier_ros.footage.video import FootageError, default_video, read_video

START = 1_700_000_000 * 10**9
FRAMES = 24
"""Of the street that `place` holds."""


def street_pictures(count: int) -> list[np.ndarray]:
    """Frames of the demo's street video, 320 pixels wide, or a drawn one where that is missing."""
    try:
        found = []
        for frame in read_video(default_video()):
            height, width = frame.image.shape[:2]
            found.append(cv2.resize(frame.image, (320, round(height * 320 / width)), interpolation=cv2.INTER_AREA))
            if len(found) == count:
                return found
    except FootageError:
        pass
    drawn = []
    for number in range(count):
        image = np.full((136, 320, 3), 150, np.uint8)
        cv2.rectangle(image, (40 + 3 * number, 60), (110 + 3 * number, 110), (170, 40, 40), -1)
        drawn.append(image)
    return drawn


def write_street(
    path: Path,
    times_ns: list[int],
    *,
    camera: str = "camera",
    encoding: str = "jpeg",
    others: dict[str, tuple[int, int]] | None = None,
) -> None:
    """A bag with a frame at each time. `others`: topic -> (messages, bytes of each) of std_msgs/String beside it."""
    pictures = street_pictures(min(len(times_ns), 20))
    with BagWriter(path) as bag:
        types: Any = bag.store.types
        for topic, (count, size) in (others or {}).items():
            for number in range(count):
                bag.write(topic, types["std_msgs/msg/String"](data="x" * size), START + number)
        for number, time in enumerate(times_ns):
            picture = pictures[number % len(pictures)]
            for topic, message in camera_messages(bag.store, picture, START + time, camera, "optical", encoding):
                bag.write(topic, message, START + time)


class Frames:
    """A camera of pictures in memory, 25 a second."""

    def __init__(self, pictures: list[np.ndarray], name: str = "camera") -> None:
        self.name, self.topic, self._pictures = name, f"/{name}/image_raw", pictures
        self.size = (pictures[0].shape[1], pictures[0].shape[0])
        self.times_ns = [number * 40_000_000 for number in range(len(pictures))]
        self.frame_id = "optical"

    @property
    def stamps_ns(self) -> list[int]:
        return [START + time for time in self.times_ns]

    def __len__(self) -> int:
        return len(self._pictures)

    def key(self, number: int) -> str:
        return f"{self.name} {number}"

    def image(self, number: int) -> np.ndarray:
        return self._pictures[number]
