"""How camera and objects move, measured by the sender, which sees every picture its camera takes.

`MotionEstimator.watch` takes each picture: corners of a reduced grey copy are followed from the picture before (Shi and
Tomasi 1994; Lucas and Kanade 1981, in pyramids as in Bouguet 2000), and what most of them do together is the camera's
doing: a shift, an expansion and a roll (a similarity, found with RANSAC). `MotionEstimator.measure` then follows a few
points in each box of a picture back to the one before; the median of what they do beyond the camera is the object's own
motion. No network, no byte on the wire: `scene.steering` codes what comes of it.

Lengths are pixels of the camera's pictures, times seconds.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Grey = NDArray[np.uint8]
SIDE = 320
"""Longer side of the reduced copy."""
CORNERS = 120
"""Points that the camera's motion is measured by, at most."""
BOX_POINTS = 3
"""Points across a box, and down, by which its object is followed."""
KEPT = 6
"""Pictures that are kept, the newest included."""
SPAN = 0.03
"""Seconds at least between two pictures that are compared, where the camera gives them faster."""
MOST_SPAN = 0.3
"""Seconds beyond which two pictures are not compared: their motion is not known."""
LEAST_TRACKED = 12
"""Corners that must have been found again for the camera's motion to be known."""
CAMERA_SECONDS = 0.06
"""Over which the camera's motion is averaged."""
WINDOW, LEVELS = (13, 13), 3
"""Pixels of the copy within which a point is sought again, and how often the copy is halved for it."""
ENOUGH = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 10, 0.03)


class CameraMotion(NamedTuple):
    """The velocity that a moving camera gives to a picture's point p: shift + expansion * (p - middle) + roll * (the
    same, turned by a right angle from x to y). shift: pixels/s across and down; expansion, roll: 1/s."""

    shift: tuple[float, float]
    expansion: float
    roll: float

    def at(self, points: Floats, size: tuple[int, int]) -> Floats:
        """Velocities n,2 of points n,2 of a picture of `size` (width, height)."""
        from_middle = np.asarray(points, float) - np.array(size) / 2
        turned = np.stack([-from_middle[:, 1], from_middle[:, 0]], axis=1)
        return np.asarray(self.shift) + self.expansion * from_middle + self.roll * turned


class Moved(NamedTuple):
    """What is known of a picture's motion: the camera's, and the `own` velocity n,2 (pixels/s, of the centre, beyond
    what the camera does) of each object asked for; `size` of the picture."""

    camera: CameraMotion
    own: Floats
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Kept:
    stamp_ns: int
    grey: Grey
    camera: CameraMotion | None


class MeasuredPicture(NamedTuple):
    """One picture of an estimator: `codec.model.PictureFlow`."""

    estimator: MotionEstimator
    stamp_ns: int

    @property
    def size(self) -> tuple[int, int] | None:
        return self.estimator.size

    def measure(self, boxes: Floats) -> Moved | None:
        return self.estimator.measure(self.stamp_ns, boxes)


class MotionEstimator:
    """The motion of one camera's pictures. One thread may `watch` while another measures.

    Memory is bounded: six grey copies of 320 pixels.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: deque[_Kept] = deque(maxlen=KEPT)
        self._size = (0, 0)

    def watch(self, image_rgb: NDArray[np.uint8], stamp_ns: int) -> None:
        """Takes the camera's next picture (H,W,3 uint8 RGB), taken at `stamp_ns`. One that is older than the newest, or
        of another size, begins anew."""
        size = (image_rgb.shape[1], image_rgb.shape[0])
        grey = _reduced(image_rgb)
        with self._lock:
            if size != self._size or (self._kept and stamp_ns <= self._kept[-1].stamp_ns):
                self._kept.clear()
                self._size = size
            before = self._before(stamp_ns)
            newest = self._kept[-1] if self._kept else None
        camera = None
        if before is not None:
            seconds = (stamp_ns - before.stamp_ns) / 1e9
            camera = _camera_motion(before.grey, grey, seconds, size)
            if camera is not None and newest is not None and newest.camera is not None:
                old = float(np.exp(-(stamp_ns - newest.stamp_ns) / 1e9 / CAMERA_SECONDS))
                camera = _mixed(newest.camera, camera, old)
        with self._lock:
            self._kept.append(_Kept(stamp_ns, grey, camera))

    def measure(self, stamp_ns: int, boxes: Floats) -> Moved | None:
        """How the objects in `boxes` (n,4: x0, y0, x1, y1 in pixels) of the picture of `stamp_ns` move. None where
        that picture, or what it is compared with, is not known. An object that cannot be followed has no motion of its
        own."""
        with self._lock:
            now = next((kept for kept in self._kept if kept.stamp_ns == stamp_ns), None)
            before = self._before(stamp_ns)
            size = self._size
        if now is None or before is None or now.camera is None:
            return None
        seconds = (stamp_ns - before.stamp_ns) / 1e9
        own = _own_motion(now, before, seconds, np.asarray(boxes, float).reshape(-1, 4), size)
        return Moved(now.camera, own, size)

    def of(self, stamp_ns: int) -> MeasuredPicture:
        """What is known of the picture of `stamp_ns`."""
        return MeasuredPicture(self, stamp_ns)

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of the pictures; None before the first."""
        return self._size if self._kept else None

    def _before(self, stamp_ns: int) -> _Kept | None:
        """The newest picture that is at least `SPAN` older."""
        for kept in reversed(self._kept):
            age = (stamp_ns - kept.stamp_ns) / 1e9
            if age >= SPAN:
                return kept if age <= MOST_SPAN else None
        return None


def _reduced(image_rgb: NDArray[np.uint8]) -> Grey:
    height, width = image_rgb.shape[:2]
    scale = min(1.0, SIDE / max(width, height))
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image_rgb, shape, interpolation=cv2.INTER_AREA) if scale < 1 else image_rgb
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))


def _scale_of(grey: Grey, size: tuple[int, int]) -> Floats:
    """Pixels of the reduced copy for one of the picture's, across and down."""
    height, width = grey.shape[:2]
    return np.array([width / size[0], height / size[1]])


def _followed(first: Grey, second: Grey, points: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where points n,2 of the first are in the second, and which were found."""
    start = np.ascontiguousarray(points, np.float32)
    found, status, error = cv2.calcOpticalFlowPyrLK(  # OpenCV's stub knows no empty nextPts
        first,
        second,
        start[:, None],
        None,
        winSize=WINDOW,
        maxLevel=LEVELS,
        criteria=ENOUGH,  # type: ignore[call-overload]
    )
    height, width = second.shape[:2]
    place = found[:, 0]
    inside = (place >= 0).all(axis=1) & (place[:, 0] < width) & (place[:, 1] < height)
    return place, (status.ravel() > 0) & inside & (error.ravel() < 30)


def _camera_motion(first: Grey, second: Grey, seconds: float, size: tuple[int, int]) -> CameraMotion | None:
    corners = cv2.goodFeaturesToTrack(first, CORNERS, 0.01, 8, blockSize=5)
    if corners is None or len(corners) < LEAST_TRACKED:
        return None
    start = corners[:, 0]
    end, good = _followed(first, second, start)
    if good.sum() < LEAST_TRACKED:
        return None
    middle = np.array(first.shape[1::-1]) / 2
    matrix, kept = cv2.estimateAffinePartial2D(
        (start[good] - middle).astype(np.float32),
        (end[good] - middle).astype(np.float32),
        method=cv2.RANSAC,
        ransacReprojThreshold=1.0,
        maxIters=200,
        confidence=0.99,
    )
    if matrix is None or kept is None or kept.sum() < LEAST_TRACKED / 2:
        return None
    shift = matrix[:, 2] / _scale_of(first, size) / seconds
    return CameraMotion(
        (float(shift[0]), float(shift[1])), float(matrix[0, 0] - 1) / seconds, float(matrix[1, 0]) / seconds
    )


def _mixed(old: CameraMotion, new: CameraMotion, share: float) -> CameraMotion:
    """`share` of the old and the rest of the new."""
    x, y = (share * a + (1 - share) * b for a, b in zip(old.shift, new.shift, strict=True))
    return CameraMotion(
        (x, y),
        share * old.expansion + (1 - share) * new.expansion,
        share * old.roll + (1 - share) * new.roll,
    )


def _own_motion(now: _Kept, before: _Kept, seconds: float, boxes: Floats, size: tuple[int, int]) -> Floats:
    assert now.camera is not None
    own = np.zeros((len(boxes), 2))
    if not len(boxes):
        return own
    scale = _scale_of(now.grey, size)
    steps = (np.arange(BOX_POINTS) + 1) / (BOX_POINTS + 1)
    across, down = (part.ravel() for part in np.meshgrid(steps, steps))
    low, side = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    points = low[:, None] + side[:, None] * np.stack([across, down], axis=1)
    start = (points * scale).reshape(-1, 2).astype(np.float32)
    height, width = now.grey.shape[:2]
    inside = (start >= 0).all(axis=1) & (start[:, 0] < width) & (start[:, 1] < height)
    end, good = _followed(now.grey, before.grey, start)
    good &= inside
    moved = ((start - end) / scale / seconds).reshape(len(boxes), -1, 2)
    beyond = moved - now.camera.at(points.reshape(-1, 2), size).reshape(moved.shape)
    known = good.reshape(len(boxes), -1)
    for row in np.flatnonzero(known.sum(axis=1) >= BOX_POINTS).tolist():
        own[row] = np.median(beyond[row][known[row]], axis=0)
    return own
