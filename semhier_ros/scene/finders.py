"""Where a scene's objects come from: our own network's dense maps, or any detector's boxes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.canvas import Canvas
from semhier_ros.codec.model import Detected
from semhier_ros.scene.detectors.layouts import DetectorError
from semhier_ros.scene.detectors.objects import objects_of, rescaled
from semhier_ros.scene.detectors.runtime import LEAST, Detector, Found
from semhier_ros.scene.layout import SceneLayout
from semhier_ros.scene.objects import DetectorMaps, Objects, find_objects

Floats = NDArray[np.float32]


class Listed(NamedTuple):
    """A detector's own list, with nothing coded. boxes n,4: corners in source pixels; chances n,leaves: that an object
    of that leaf is there."""

    boxes: Floats
    chances: NDArray[np.float64]


class Finder(Protocol):
    """Finds a picture's objects in two steps: one look, from which lists of any threshold are made."""

    def look(self, image: NDArray[np.uint8]) -> Any:
        """What the network says of a picture (H,W,3 uint8 RGB).

        Raises:
            DetectorError: there is no detector, it cannot be opened, or it says what no picture can have.
        """
        ...

    def objects(self, seen: Any, size: tuple[int, int], threshold: float, most: int) -> Objects:
        """The objects of a look at a picture of `size`: those of at least `threshold`, at most `most` of the best."""
        ...

    def listed(self, seen: Any, size: tuple[int, int], least: float, most: int) -> Listed:
        """The detector's own list of a look: at most `most` boxes of at least `least`."""
        ...


class OwnFinder:
    """Our own network: `detect` gives the dense maps of what it sees, a canvas of the size `look`. What it finds is
    told on the model's canvas."""

    def __init__(
        self,
        detect: Callable[[NDArray[np.uint8]], DetectorMaps],
        canvas: tuple[int, int],
        layout: SceneLayout,
        look: tuple[int, int],
    ):
        self._detect, self._canvas, self._layout, self._look = detect, canvas, layout, look

    def look(self, image: NDArray[np.uint8]) -> DetectorMaps:
        canvas = Canvas(*self._look, source=(image.shape[1], image.shape[0]))
        return self._detect(canvas.place(image))

    def objects(self, seen: DetectorMaps, size: tuple[int, int], threshold: float, most: int) -> Objects:
        found = find_objects(seen, threshold, most)
        if self._look == self._canvas:
            return found
        seen_scale, told_scale = (Canvas(*sides, source=size).scale for sides in (self._look, self._canvas))
        return rescaled(self._layout, found, told_scale / seen_scale)

    def listed(self, seen: DetectorMaps, size: tuple[int, int], least: float, most: int) -> Listed:
        objects = find_objects(seen, least, most)
        centre, half = objects.boxes[:, :2], objects.boxes[:, 2:] / 2
        corners = np.concatenate([centre - half, centre + half], axis=1) * np.float32(self._layout.stride)
        chances = np.exp(objects.leaves.astype(np.float64)) * objects.objectness[:, None]
        return Listed(Canvas(*self._look, source=size).to_source(corners), chances)


class DetectorFinder:
    """A detector that is not ours. `open_detector` opens it when the first picture comes: a receiver needs none."""

    def __init__(
        self,
        open_detector: Callable[[], Detector],
        canvas: tuple[int, int],
        layout: SceneLayout,
        features: int,
    ):
        self._open, self._canvas, self._layout, self._features = open_detector, canvas, layout, features
        self._detector: Detector | None = None
        self._lock = threading.Lock()

    @property
    def detector(self) -> Detector:
        """The detector, opened."""
        with self._lock:
            if self._detector is None:
                self._detector = self._open()
            return self._detector

    def look(self, image: NDArray[np.uint8]) -> Found:
        found = self.detector.detect(image, LEAST)
        if found.features.shape[1] != self._features:
            raise DetectorError(
                f"features: the model wants {self._features} numbers of each object, the detector gives "
                f"{found.features.shape[1]}"
            )
        return found

    def told(self, detected: Detected) -> Found:
        """What somebody else's detector found, as a look."""
        boxes, scores = np.asarray(detected.boxes, np.float32), np.asarray(detected.scores, np.float32)
        limit = np.array([*detected.size, *detected.size], np.float32)
        boxes = np.clip(boxes, 0, limit)
        solid = np.flatnonzero((boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf) >= 1.0)
        return Found(boxes[solid], scores[solid], np.zeros((len(solid), self._features), np.float32))

    def objects(self, seen: Found, size: tuple[int, int], threshold: float, most: int) -> Objects:
        return objects_of(self._layout, Canvas(*self._canvas, source=size), seen, threshold, most)

    def listed(self, seen: Found, size: tuple[int, int], least: float, most: int) -> Listed:
        best = seen.scores.max(axis=1) if len(seen) else np.zeros(0, np.float32)
        order = np.argsort(-best, kind="stable")
        kept = order[best[order] >= least][:most]
        return Listed(seen.boxes[kept], seen.scores[kept].astype(np.float64))
