"""Road scenes for training: splits by file name, a memory map of decoded pictures, augmentation with OpenCV."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from semhier_ros.codec.canvas import Canvas
from semhier_ros.footage.labels import Notes, read_labels
from semhier_ros.footage.video import read_picture
from semhier_ros.training.errors import TrainingError
from semhier_ros.training.packed import PackedArray, packed, states
from semhier_ros.training.yolo_data import YoloData, ignored_file, label_file

CACHE_SIZE = (640, 360)  # width, height of a cached scene, letterboxed to its top left corner
CANVAS = (800, 480)  # width, height of the detector's full input: larger than most scenes, for small vehicles
PICTURE_CANVAS = (640, 384)  # of the picture blocks: for people, who need no more
ENLARGED = CANVAS[0] / CACHE_SIZE[0]  # how much larger a cached scene is on the canvas
PADDING = 114
CACHE_FORM = 2  # of the memory map; grows when what is decoded changes


@dataclass(frozen=True)
class Scenes:
    """Decoded scenes: `pixels` N,360,640,3 uint8 RGB; `sizes` N,2 (w, h) of the valid part; `boxes` per scene n,5
    float32 rows (class, x0, y0, x1, y1) in cached pixels; `key`: a hash of what `pixels` were made of; `ignored`: rows
    of regions where something unlabelled may be, likewise (none: there are no such regions)."""

    names: list[str]
    pixels: np.ndarray | PackedArray
    sizes: np.ndarray
    boxes: list[np.ndarray]
    key: str = ""
    ignored: Sequence[np.ndarray] = ()

    def __len__(self) -> int:
        return len(self.names)


def read_boxes_of(
    path: Path, width: int, height: int, classes: int | None = None, notes: Notes | None = None
) -> np.ndarray:
    """Rows (class, x0, y0, x1, y1) in pixels of one YOLO label file, as far as they lie in the picture; `notes` counts
    what is left out. Raises LabelError, a ValueError that names file and line."""
    rows = read_labels(path, width, height, classes, notes)
    low = np.maximum(rows[:, 1:3], 0.0)
    high = np.minimum(rows[:, 1:3] + rows[:, 3:], (width, height))
    inside = (high > low).all(axis=1)
    return np.concatenate([rows[:, :1], low, high], axis=1)[inside].astype(np.float32)


def load_scenes(data: YoloData, split: str, cache: Path) -> Scenes:
    """Decode the scenes of a split once into a memory map under `cache`; a picture that changes is decoded anew.
    Ignored regions are those of the YOLO files in `ignored`, where `images` stands in a picture's path.

    Says on stderr how many pictures have no label file: they count as scenes without any object.

    Raises:
        ValueError: an image does not exist or cannot be decoded; a label row is damaged or names a class that the data
            does not have; no picture of the split has a label file, or none of them names an object.
    """
    files = data.images[split]
    width, height = CACHE_SIZE

    def decode(path: Path) -> dict[str, list[tuple[int, int]]]:
        pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(len(files), height, width, 3))
        sizes = []
        for row, file in enumerate(files):
            image: np.ndarray = read_picture(file)
            scale = min(width / image.shape[1], height / image.shape[0])
            size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
            if scale != 1.0:
                image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
            pixels[row] = PADDING
            pixels[row, : size[1], : size[0]] = image
            sizes.append(size)
        pixels.flush()
        return {"sizes": sizes}

    made_of = {"form": CACHE_FORM, "size": CACHE_SIZE, "padding": PADDING, "opencv": cv2.__version__}
    pixels, notes = packed(cache, "pixels", made_of | {"files": states(files)}, decode)
    valid = np.asarray(notes["sizes"])
    boxes = read_boxes(files, valid, len(data.classes), split)
    regions = map(ignored_file, files)
    ignored = [
        np.zeros((0, 5), np.float32) if file is None else read_boxes_of(file, int(w), int(h))
        for file, (w, h) in zip(regions, valid, strict=True)
    ]
    return Scenes([str(file) for file in files], pixels, valid, boxes, pixels.path.stem, ignored)


def read_boxes(files: Sequence[Path], sizes: np.ndarray, classes: int, split: str) -> list[np.ndarray]:
    """Labels of pictures of `sizes` (w, h), as `load_scenes` gives them and with what it says and raises."""
    labels = [label_file(file) for file in files]
    missing = [label for label in labels if not label.exists()]
    if len(missing) == len(labels):
        raise TrainingError(
            f"split {split}: none of {len(labels)} images has a label file; the first should be {missing[0]}"
        )
    notes = Notes()
    boxes = [read_boxes_of(label, int(w), int(h), classes, notes) for label, (w, h) in zip(labels, sizes, strict=True)]
    for line in notes.lines():
        print(f"split {split}: {line}", file=sys.stderr)
    if not any(len(found) for found in boxes):
        raise TrainingError(f"split {split}: no object in any of {len(labels) - len(missing)} label files")
    if missing:
        share = f"{len(missing)} of {len(labels)} images ({len(missing) / len(labels):.0%})"
        print(
            f"split {split}: {share} have no label file and count as empty; the first is {missing[0]}", file=sys.stderr
        )
    return boxes


def on_canvas(scenes: Scenes, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Scene `row` on the detector's whole canvas (h,w,3), and its labels in canvas pixels."""
    width, height = scenes.sizes[row]
    picture, labels = scenes.pixels[row, :height, :width], scenes.boxes[row].copy()
    size = (int(width * ENLARGED), int(height * ENLARGED))
    picture = cv2.resize(np.ascontiguousarray(picture), size, interpolation=cv2.INTER_LINEAR)
    labels[:, 1:] *= ENLARGED
    canvas = np.full((CANVAS[1], CANVAS[0], 3), PADDING, np.uint8)
    canvas[: picture.shape[0], : picture.shape[1]] = picture
    return canvas, labels


def as_picture(scenes: Scenes, row: int, scale: float = 1.0, flip: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Scene `row` as a camera's picture (h,w,3 uint8 RGB), and its labels in pixels of the canvas that such a picture
    is told on. With a `scale` below 1 it stands in the corner of a larger picture."""
    width, height = scenes.sizes[row]
    picture = scenes.pixels[row, :height, :width]
    if flip:
        picture = picture[:, ::-1]
    size = (round(width / scale), round(height / scale))
    canvas = np.full((size[1], size[0], 3), PADDING, np.uint8)
    canvas[:height, :width] = picture
    return canvas, told_on_canvas(scenes.boxes[row], (width, height), scale, flip)


def told_on_canvas(boxes: np.ndarray, size: tuple[int, int], scale: float = 1.0, flip: bool = False) -> np.ndarray:
    """Rows (class, box) of a scene of `size` (w, h) in pixels of the canvas that `as_picture` is told on."""
    told = boxes.copy()
    if flip:
        told[:, [1, 3]] = size[0] - told[:, [3, 1]]
    told[:, 1:] *= Canvas(*CANVAS, source=(round(size[0] / scale), round(size[1] / scale))).scale
    return told


def shown(scale: tuple[float, float], corner: tuple[float, float]) -> np.ndarray:
    """The 2,3 matrix with which `cv2.warpAffine` shows a picture scaled by `scale` (x, y), from `corner` of that on.

    Boxes count from the edge of a pixel, the matrix from its middle. Without the half pixels between them what is shown
    would lie up to a pixel beside its boxes, otherwise at every scale.
    """
    moved = [(one - 1) / 2 - start for one, start in zip(scale, corner, strict=True)]
    return np.array([[scale[0], 0, moved[0]], [0, scale[1], moved[1]]], np.float32)


class SceneAugmenter:
    """Random crops of `size` (w, h): scale, flip, colour, night, blur and JPEG, and now and then a mosaic of four."""

    def __init__(self, scenes: Scenes, size: tuple[int, int], mosaic: float = 0.25):
        self.scenes, self.size, self.mosaic = scenes, size, mosaic
        self.random = np.random.default_rng()

    def sample(self, row: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """One training picture (h,w,3 uint8 RGB) around scene `row`, and its boxes (class, x0, y0, x1, y1); all that is
        drawn comes from `random`."""
        width, height = self.size
        self.random = random
        if self.random.random() < self.mosaic:
            image, boxes = self._mosaic(row)
        else:
            image, boxes = self._crop(row, width, height)
        if self.random.random() < 0.5:
            image = cv2.flip(image, 1)
            boxes[:, [1, 3]] = width - boxes[:, [3, 1]]
        return self._photometric(image), boxes

    def _partners(self, row: int) -> np.ndarray:
        """The three other scenes of a mosaic around scene `row`."""
        return self.random.integers(len(self.scenes), size=3)

    def _mosaic(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        width, height = self.size
        split_x = int(width * self.random.uniform(0.35, 0.65))
        split_y = int(height * self.random.uniform(0.35, 0.65))
        image = np.empty((height, width, 3), np.uint8)
        boxes = []
        rows = [row, *self._partners(row)]
        corners = [(0, 0), (split_x, 0), (0, split_y), (split_x, split_y)]
        for source, (left, top) in zip(rows, corners, strict=True):
            w = split_x if left == 0 else width - split_x
            h = split_y if top == 0 else height - split_y
            part, found = self._crop(int(source), w, h, smaller=0.75)
            image[top : top + h, left : left + w] = part
            found[:, 1:] += (left, top, left, top)
            boxes.append(found)
        return image, np.concatenate(boxes)

    def _crop(self, row: int, width: int, height: int, smaller: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        valid_w, valid_h = self.scenes.sizes[row]
        boxes = self.scenes.boxes[row].copy()
        scale = smaller * ENLARGED * float(np.exp(self.random.uniform(np.log(0.55), np.log(1.5))))
        stretch = float(np.exp(self.random.uniform(-0.12, 0.12)))
        scale_x, scale_y = scale * stretch, scale / stretch
        if len(boxes) and self.random.random() < 0.7:
            box = boxes[self.random.integers(len(boxes))]
            centre = ((box[1] + box[3]) / 2 * scale_x, (box[2] + box[4]) / 2 * scale_y)
            left = centre[0] - self.random.uniform(0.15, 0.85) * width
            top = centre[1] - self.random.uniform(0.15, 0.85) * height
        else:
            left = self.random.uniform(min(0, valid_w * scale_x - width), max(0, valid_w * scale_x - width))
            top = self.random.uniform(min(0, valid_h * scale_y - height), max(0, valid_h * scale_y - height))
        left = float(np.clip(left, min(0, valid_w * scale_x - width), max(0, valid_w * scale_x - width)))
        top = float(np.clip(top, min(0, valid_h * scale_y - height), max(0, valid_h * scale_y - height)))
        image = cv2.warpAffine(
            self.scenes.pixels[row, :valid_h, :valid_w],
            shown((scale_x, scale_y), (left, top)),
            (width, height),
            flags=cv2.INTER_AREA if scale < 0.8 else cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(PADDING,) * 3,
        )
        area = (boxes[:, 3] - boxes[:, 1]) * (boxes[:, 4] - boxes[:, 2]) * scale_x * scale_y
        boxes[:, [1, 3]] = np.clip(boxes[:, [1, 3]] * scale_x - left, 0, width)
        boxes[:, [2, 4]] = np.clip(boxes[:, [2, 4]] * scale_y - top, 0, height)
        size_w, size_h = boxes[:, 3] - boxes[:, 1], boxes[:, 4] - boxes[:, 2]
        keep = (size_w > 3) & (size_h > 3) & (size_w * size_h > 0.3 * area)
        return image, boxes[keep]

    def _photometric(self, image: np.ndarray) -> np.ndarray:
        draw = self.random.random
        if draw() < 0.5:
            hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
            gains = self.random.uniform((-8, 0.6, 0.6), (8, 1.4, 1.4))
            ramps = np.clip(np.arange(256)[:, None] * gains, 0, 255)
            ramps[:, 0] = (np.arange(256) + gains[0]) % 180
            image = cv2.cvtColor(cv2.LUT(hsv, ramps.astype(np.uint8)[None]), cv2.COLOR_HSV2RGB)
        if draw() < 0.3:
            gamma = float(np.exp(self.random.uniform(-0.5, 0.9)))
            contrast = self.random.uniform(0.6, 1.0)
            curve = 255 * contrast * (np.arange(256) / 255) ** gamma + self.random.uniform(0, 255 * (1 - contrast))
            image = cv2.LUT(image, np.clip(curve, 0, 255).astype(np.uint8))
        if draw() < 0.1:
            image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        if draw() < 0.15:
            image = cv2.GaussianBlur(image, (0, 0), self.random.uniform(0.5, 1.8))
        if draw() < 0.15:
            quality = int(self.random.integers(15, 80))
            image = cv2.imdecode(cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality))[1], 1)
        if draw() < 0.1:
            noise = np.empty(image.shape, np.int16)
            cv2.setRNGSeed(int(self.random.integers(1 << 31)))  # of this thread's generator; several times numpy's pace
            cv2.randn(noise, np.zeros(3), np.full(3, self.random.uniform(2, 10)))
            image = cv2.add(image, noise, dtype=cv2.CV_8U)
        return image
