"""Where a scene's objects come from: our own network's dense maps, or any detector's boxes."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
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
LOOK_TEXT = re.compile(r"(\d{1,5})x(\d{1,5})(?::(\d{1,5}(?:\.\d+)?)-(\d{1,5}(?:\.\d+)?)?)?(?:@(0?\.\d{1,3}))?")
WINDOW_SIDES = 4  # how many lengths each side of a window of a closer look may have: few sizes, for each costs at first
LONGER = 1.6  # and how much longer each is than the one before
MOST_WINDOWS = 4  # how many windows a closer look sees at most
WINDOW_COST = 16_384  # pixels that a network would see in the time that one more window costs by itself
AROUND = 16.0  # pixels of a closer look that it sees around what it is for
CUT = 4.0  # pixels from the edge of a window inside the picture, within which a box is one that the edge has cut


class Listed(NamedTuple):
    """A detector's own list, with nothing coded. boxes n,4: corners in source pixels; chances n,leaves: that an object
    of that leaf is there."""

    boxes: Floats
    chances: NDArray[np.float64]


class Finder(Protocol):
    """Finds a picture's objects in two steps: one look, from which lists of any threshold are made."""

    def prepare(self) -> None:
        """Makes its networks ready for any picture. Raises DetectorError as `look` does."""
        ...

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
    (the root of their area), in pixels of that canvas, objects are taken. where: the objectness from which it looks
    again at what looks at the whole picture saw of those sizes, through a few windows around all of that; it sees
    nothing where there is nothing. 0: it sees the whole picture.
    """

    size: tuple[int, int]
    least: float = 0.0
    most: float = math.inf
    where: float = 0.0

    @classmethod
    def read(cls, text: Any) -> Look:
        """A look from its text, such as `1088x640:0-166@0.2`, `544x320:64-` or `800x480`.

        Raises:
            ValueError: another text, or a number outside its range.
        """
        found = LOOK_TEXT.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise ValueError(
                f"look {text!r}: WIDTHxHEIGHT:LEAST-MOST@WHERE expected, such as 1088x640:0-166@0.2 or 544x320:64-"
            )
        width, height = int(found[1]), int(found[2])
        if not all(LOOK_STEP <= side <= LARGEST_LOOK and side % LOOK_STEP == 0 for side in (width, height)):
            raise ValueError(f"look {text!r}: sides of {LOOK_STEP}..{LARGEST_LOOK}, multiples of {LOOK_STEP}, expected")
        least, most = float(found[3] or 0), float(found[4] or math.inf)
        if least >= most:
            raise ValueError(f"look {text!r}: LEAST below MOST expected")
        return cls((width, height), least, most, float(found[5] or 0))

    def __str__(self) -> str:
        text = f"{self.size[0]}x{self.size[1]}"
        if (self.least, self.most) != (0, math.inf):
            text += f":{self.least:g}-{'' if self.most == math.inf else format(self.most, 'g')}"
        return f"{text}@{self.where:g}" if self.where else text

    def takes(self, sides: NDArray[Any]) -> NDArray[np.bool_]:
        """Which objects count, by the roots of their areas in pixels of the look."""
        return np.asarray((sides >= self.least) & (sides < self.most))


def read_looks(texts: Sequence[Any]) -> tuple[Look, ...]:
    """Looks from their texts, as `Look.read` takes them.

    Raises:
        ValueError: a text is none, or no look sees the whole picture, so that closer ones know nothing to look at.
    """
    looks = tuple(Look.read(text) for text in texts)
    if looks and all(look.where for look in looks):
        raise ValueError(f"looks {', '.join(map(str, looks))}: one without @ expected, which sees the whole picture")
    return looks


class Window(NamedTuple):
    """What one look saw of a picture, or of a part of it. maps: of that part of the look's canvas, which begins at
    `corner` (x, y, in cells); cut: which of the part's edges (left, top, right, bottom) lie inside the picture."""

    look: Look
    maps: DetectorMaps
    corner: tuple[int, int] = (0, 0)
    cut: tuple[bool, bool, bool, bool] = (False, False, False, False)


class Detect(Protocol):
    """A network of ours: the dense maps of what it sees on a canvas (H,W,3 uint8 RGB). any_size: the canvas may be of
    another size each time, in multiples of LOOK_STEP pixels."""

    def __call__(self, canvas: NDArray[np.uint8], any_size: bool = False) -> DetectorMaps: ...


class OwnFinder:
    """Our own network: `detect` gives the dense maps of what it sees on a canvas, which it looks at once for each of
    `looks`; `agreement` as `find_objects` has it. What it finds is told on the model's canvas, with scores that doubt
    by `certainty` (`scene.objects.doubted`); what it lists says each object's chances of all its names."""

    def __init__(
        self,
        detect: Detect,
        canvas: tuple[int, int],
        layout: SceneLayout,
        looks: Sequence[Look],
        agreement: float = 0.0,
        certainty: float = 0.0,
    ):
        self._detect, self._canvas, self._layout = detect, canvas, layout
        self.looks, self.agreement, self.certainty = tuple(looks), agreement, certainty

    def prepare(self) -> None:
        """Looks at nothing in each size in which it may look at something: a network is compiled at its first use, and
        costs more at the first picture of a size."""
        for look in self.looks:
            widths, heights = map(_lengths, look.size) if look.where else ([side] for side in look.size)
            for height, width in product(heights, widths):
                self._detect(np.zeros((height, width, 3), np.uint8), any_size=bool(look.where))

    def look(self, image: NDArray[np.uint8]) -> list[Window]:
        """What the looks saw: those at the whole picture first, then the windows of those that are told where."""
        size = (image.shape[1], image.shape[0])
        seen = [
            Window(look, self._detect(Canvas(*look.size, source=size).place(image, smooth=False)))
            for look in self.looks
            if not look.where
        ]
        for look in self.looks:
            if look.where:
                seen += self._closer(look, image, seen)
        return seen

    def _closer(self, look: Look, image: NDArray[np.uint8], before: Sequence[Window]) -> list[Window]:
        """What a look sees through windows around all that was seen `before` and is its own to look at."""
        size, stride = (image.shape[1], image.shape[0]), self._layout.stride
        canvas = Canvas(*look.size, source=size)
        corners = []
        for other, maps, corner, _ in before:
            scale = stride * canvas.scale / Canvas(*other.size, source=size).scale
            rows, columns = np.nonzero(maps.objectness >= look.where)
            x, y, log_w, log_h = maps.box[:, rows, columns]
            half = np.exp(np.stack([log_w, log_h])) / 2
            middle = np.stack([columns + x + corner[0], rows + y + corner[1]]) + 0.5
            own = look.takes(2 * np.sqrt(half.prod(axis=0)) * scale)
            corners.append(np.concatenate([middle - half, middle + half])[:, own] * scale)
        windows = _windows(np.concatenate(corners, axis=1), canvas.used, look.size)
        placed_once = canvas.place(image, smooth=False) if windows else None
        seen = []
        for x0, y0, x1, y1 in windows:
            assert placed_once is not None
            part = np.ascontiguousarray(placed_once[y0:y1, x0:x1])
            cut = (x0 > 0, y0 > 0, x1 < canvas.used[0], y1 < canvas.used[1])
            seen.append(Window(look, self._detect(part, any_size=True), (x0 // stride, y0 // stride), cut))
        return seen

    def objects(self, seen: Sequence[Window], size: tuple[int, int], threshold: float, most: int) -> Objects:
        if self.looks == (Look(self._canvas),):
            found = find_objects(seen[0].maps, threshold, most, self.agreement)
        else:
            found = placed(self._layout, self._found(seen, size, threshold, most))
        return doubted(found, self._layout.roles, self.certainty)

    def listed(self, seen: Sequence[Window], size: tuple[int, int], least: float, most: int) -> Listed:
        objects = self._found(seen, size, least, most)
        centre, half = objects.boxes[:, :2], objects.boxes[:, 2:] / 2
        corners = np.concatenate([centre - half, centre + half], axis=1) * np.float32(self._layout.stride)
        chances = np.exp(objects.leaves.astype(np.float64)) * objects.objectness[:, None]
        return Listed(Canvas(*self._canvas, source=size).to_source(corners), chances)

    def _found(self, seen: Sequence[Window], size: tuple[int, int], threshold: float, most: int) -> Objects:
        """What all looks found, best first, boxes in cells of the model's canvas; their own cells mean nothing."""
        told = Canvas(*self._canvas, source=size).scale
        parts = []
        for window in seen:
            look = window.look
            found = find_objects(window.maps, threshold, 2 * most, self.agreement)
            sides = np.sqrt(found.boxes[:, 2] * found.boxes[:, 3]) * self._layout.stride
            found = found.take(np.flatnonzero(look.takes(sides) & self._whole(window, found.boxes)))
            scale = np.float32(told / Canvas(*look.size, source=size).scale)
            corner = np.array([*window.corner, 0, 0], np.float32)
            parts.append(replace(found, boxes=(found.boxes + corner) * scale))
        return together(parts, most)

    def _whole(self, window: Window, boxes: Floats) -> NDArray[np.bool_]:
        """Which boxes n,4 (cx, cy, w, h in cells of the window) no edge of it has cut."""
        rows, columns = window.maps.objectness.shape
        half, edge = boxes[:, 2:] / 2, CUT / self._layout.stride
        inside = np.concatenate([boxes[:, :2] - half, (columns, rows) - (boxes[:, :2] + half)], axis=1) > edge
        return np.asarray((inside | ~np.array(window.cut)).all(axis=1))


def _lengths(whole: int) -> list[int]:
    """The lengths that a window may have along a side of a canvas, in pixels, shortest first: multiples of LOOK_STEP,
    the last of which is the `whole` side."""
    cells = whole // LOOK_STEP
    return sorted({LOOK_STEP * max(1, round(cells / LONGER**step)) for step in range(WINDOW_SIDES)})


def _spans(
    least: NDArray[Any], most: NDArray[Any], used: int, whole: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where windows on `least`..`most` begin along one side of a canvas and how long they are, in pixels, multiples of
    LOOK_STEP. They are of the `_lengths` of the `whole` side, `used` of which the picture covers."""
    lengths = np.array(_lengths(whole))
    least, most = np.clip(least - AROUND, 0, used - 1), np.clip(most + AROUND, 1, used)
    first = least.astype(np.int64) // LOOK_STEP * LOOK_STEP
    length = lengths[np.searchsorted(lengths, np.minimum(most - first, whole))]
    return np.minimum(first, whole - length), length


def _windows(corners: Floats, used: Sequence[int], whole: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """Windows (x0, y0, x1, y1) that hold boxes 4,n of corners in pixels of a canvas of size `whole`, `used` of which
    the picture covers: at most MOST_WINDOWS. One window on all is split where two take less time, and so are those."""

    def spans(low: NDArray[Any], high: NDArray[Any]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        return [_spans(low[axis], high[axis], used[axis], whole[axis]) for axis in (0, 1)]

    def cost(low: NDArray[Any], high: NDArray[Any]) -> NDArray[np.int64]:
        (_, width), (_, height) = spans(low, high)
        return width * height + WINDOW_COST

    def split(group: Floats) -> tuple[int, list[Floats]]:
        """The split of a group into two that spares most, and how much."""
        alone = cost(group[:2].min(axis=1, keepdims=True), group[2:].max(axis=1, keepdims=True))[0]
        best: tuple[int, list[Floats]] = (0, [group])
        for axis in (0, 1) if group.shape[1] > 1 else ():
            ordered = group[:, np.argsort(group[axis], kind="stable")]
            before, after = ordered[:, :-1], ordered[:, :0:-1]
            first = cost(np.minimum.accumulate(before[:2], axis=1), np.maximum.accumulate(before[2:], axis=1))
            rest = cost(np.minimum.accumulate(after[:2], axis=1), np.maximum.accumulate(after[2:], axis=1))[::-1]
            spared = alone - (first + rest)
            place = int(spared.argmax())
            if spared[place] > best[0]:
                best = int(spared[place]), [ordered[:, : place + 1], ordered[:, place + 1 :]]
        return best

    plans = [split(corners)] if corners.size else []
    while 0 < len(plans) < MOST_WINDOWS and max(spared for spared, _ in plans):
        _, halves = plans.pop(int(np.argmax([spared for spared, _ in plans])))
        plans += map(split, halves)
    windows = []
    for _, parts in plans:
        group = np.concatenate(parts, axis=1)
        (x0, width), (y0, height) = spans(group[:2].min(axis=1, keepdims=True), group[2:].max(axis=1, keepdims=True))
        windows.append((int(x0[0]), int(y0[0]), int(x0[0] + width[0]), int(y0[0] + height[0])))
    return windows


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

    def prepare(self) -> None:
        _ = self.detector

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
