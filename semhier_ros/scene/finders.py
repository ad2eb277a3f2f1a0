"""Where a scene's objects come from: our own network's dense maps, or any detector's boxes."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.canvas import Canvas
from semhier_ros.codec.model import Detected
from semhier_ros.scene.detectors.layouts import DetectorError
from semhier_ros.scene.detectors.objects import objects_of, placed
from semhier_ros.scene.detectors.runtime import LEAST, Detector, Found
from semhier_ros.scene.layout import SceneLayout
from semhier_ros.scene.objects import DetectorMaps, Objects, doubted, find_objects, together

Floats = NDArray[np.float32]
LOOK_STEP, LARGEST_LOOK = 32, 4096  # pixels of a cell of our trunk's last map, and of the longest side of a look
LOOK_TEXT = re.compile(r"(\d{1,5})x(\d{1,5})(?::(\d{1,5}(?:\.\d+)?)-(\d{1,5}(?:\.\d+)?)?)?")


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


class Look(NamedTuple):
    """One size at which our own network sees pictures, and which objects count there: the network may look twice, at
    small objects closely and at large ones from afar.

    size: width and height of a canvas, multiples of LOOK_STEP pixels up to LARGEST_LOOK. least, most: of which side
    (the root of their area), in pixels of that canvas, objects are taken.
    """

    size: tuple[int, int]
    least: float = 0.0
    most: float = math.inf

    @classmethod
    def read(cls, text: Any) -> Look:
        """A look from its text, such as `1088x640:0-166`, `544x320:64-` or `800x480`.

        Raises:
            ValueError: another text, or a number outside its range.
        """
        found = LOOK_TEXT.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise ValueError(f"look {text!r}: WIDTHxHEIGHT:LEAST-MOST expected, such as 1088x640:0-166 or 544x320:64-")
        width, height = int(found[1]), int(found[2])
        if not all(LOOK_STEP <= side <= LARGEST_LOOK and side % LOOK_STEP == 0 for side in (width, height)):
            raise ValueError(f"look {text!r}: sides of {LOOK_STEP}..{LARGEST_LOOK}, multiples of {LOOK_STEP}, expected")
        least, most = float(found[3] or 0), float(found[4] or math.inf)
        if least >= most:
            raise ValueError(f"look {text!r}: LEAST below MOST expected")
        return cls((width, height), least, most)

    def __str__(self) -> str:
        text = f"{self.size[0]}x{self.size[1]}"
        if (self.least, self.most) == (0, math.inf):
            return text
        return f"{text}:{self.least:g}-{'' if self.most == math.inf else format(self.most, 'g')}"


class OwnFinder:
    """Our own network: `detect` gives the dense maps of what it sees on a canvas, which it looks at once for each of
    `looks`; `agreement` as `find_objects` has it. What it finds is told on the model's canvas, with scores that doubt
    by `certainty` (`scene.objects.doubted`); what it lists says each object's chances of all its names."""

    def __init__(
        self,
        detect: Callable[[NDArray[np.uint8]], DetectorMaps],
        canvas: tuple[int, int],
        layout: SceneLayout,
        looks: Sequence[Look],
        agreement: float = 0.0,
        certainty: float = 0.0,
    ):
        self._detect, self._canvas, self._layout = detect, canvas, layout
        self.looks, self.agreement, self.certainty = tuple(looks), agreement, certainty

    def look(self, image: NDArray[np.uint8]) -> list[DetectorMaps]:
        source = (image.shape[1], image.shape[0])
        return [self._detect(Canvas(*look.size, source=source).place(image)) for look in self.looks]

    def objects(self, seen: Sequence[DetectorMaps], size: tuple[int, int], threshold: float, most: int) -> Objects:
        if self.looks == (Look(self._canvas),):
            found = find_objects(seen[0], threshold, most, self.agreement)
        else:
            found = placed(self._layout, self._found(seen, size, threshold, most))
        return doubted(found, self._layout.roles, self.certainty)

    def listed(self, seen: Sequence[DetectorMaps], size: tuple[int, int], least: float, most: int) -> Listed:
        objects = self._found(seen, size, least, most)
        centre, half = objects.boxes[:, :2], objects.boxes[:, 2:] / 2
        corners = np.concatenate([centre - half, centre + half], axis=1) * np.float32(self._layout.stride)
        chances = np.exp(objects.leaves.astype(np.float64)) * objects.objectness[:, None]
        return Listed(Canvas(*self._canvas, source=size).to_source(corners), chances)

    def _found(self, seen: Sequence[DetectorMaps], size: tuple[int, int], threshold: float, most: int) -> Objects:
        """What all looks found, best first, boxes in cells of the model's canvas; their own cells mean nothing."""
        told = Canvas(*self._canvas, source=size).scale
        parts = []
        for look, maps in zip(self.looks, seen, strict=True):
            found = find_objects(maps, threshold, 2 * most, self.agreement)
            sides = np.sqrt(found.boxes[:, 2] * found.boxes[:, 3]) * self._layout.stride
            found = found.take(np.flatnonzero((sides >= look.least) & (sides < look.most)))
            scale = np.float32(told / Canvas(*look.size, source=size).scale)
            parts.append(replace(found, boxes=found.boxes * scale))
        return together(parts, most)


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
