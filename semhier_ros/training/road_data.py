"""Road scenes for training: splits by file name, a memory map of decoded pictures, augmentation with OpenCV."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from semhier_ros.training.yolo_data import YoloData, label_file

CACHE_SIZE = (640, 360)  # width, height of a cached scene, letterboxed to its top left corner
CANVAS = (800, 480)  # width, height of the detector's full input: larger than most scenes, for small vehicles
PICTURE_CANVAS = (640, 384)  # of the picture blocks: for people, who need no more
ENLARGED = CANVAS[0] / CACHE_SIZE[0]  # how much larger a cached scene is on the canvas
PADDING = 114


@dataclass(frozen=True)
class Scenes:
    """Decoded scenes: `pixels` N,360,640,3 uint8 RGB; `sizes` N,2 (w, h) of the valid part; `boxes` per scene n,5
    float32 rows (class, x0, y0, x1, y1) in cached pixels."""

    names: list[str]
    pixels: np.ndarray
    sizes: np.ndarray
    boxes: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.names)


def read_yolo(path: Path, width: int, height: int, classes: int) -> np.ndarray:
    """Rows `class cx cy w h` (relative) of one YOLO label file as (class, x0, y0, x1, y1) in pixels.

    Raises:
        ValueError: a row has not five numbers or a class outside 0..classes-1; the message names file and line.
    """
    rows = []
    text = path.read_text() if path.exists() else ""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            kind, cx, cy, w, h = (float(field) for field in line.split())
        except ValueError:
            raise ValueError(f"{path}:{number}: five numbers `class cx cy w h` wanted, found {line!r}") from None
        if not 0 <= kind < classes:
            raise ValueError(f"{path}:{number}: class {kind:g} is outside 0..{classes - 1}")
        x0, y0 = max(0.0, (cx - w / 2) * width), max(0.0, (cy - h / 2) * height)
        x1, y1 = min(float(width), (cx + w / 2) * width), min(float(height), (cy + h / 2) * height)
        if x1 > x0 and y1 > y0:
            rows.append((kind, x0, y0, x1, y1))
    return np.asarray(rows, np.float32).reshape(-1, 5)


def load_scenes(data: YoloData, split: str, cache: Path) -> Scenes:
    """Decode the scenes of a split once into a memory map under `cache`.

    Raises:
        FileNotFoundError: an image does not exist or cannot be decoded.
        ValueError: a label row is damaged or names a class that the data does not have.
    """
    files = data.images[split]
    names = [str(file) for file in files]
    cache.mkdir(parents=True, exist_ok=True)
    width, height = CACHE_SIZE
    index = cache / "index.json"
    shape = (len(names), height, width, 3)
    if not index.exists() or json.loads(index.read_text())["names"] != names:
        pixels = np.lib.format.open_memmap(cache / "pixels.npy", mode="w+", dtype=np.uint8, shape=shape)
        sizes = []
        for row, name in enumerate(names):
            image = cv2.imread(name, cv2.IMREAD_COLOR)
            if image is None:
                raise FileNotFoundError(f"{name}: missing or not an image OpenCV can decode")
            scale = min(width / image.shape[1], height / image.shape[0])
            size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
            if scale != 1.0:
                image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
            pixels[row] = PADDING
            pixels[row, : size[1], : size[0]] = image[..., ::-1]
            sizes.append(size)
        pixels.flush()
        index.write_text(json.dumps({"names": names, "sizes": sizes}))
    valid = np.asarray(json.loads(index.read_text())["sizes"])
    boxes = [
        read_yolo(label_file(file), int(w), int(h), len(data.classes))
        for file, (w, h) in zip(files, valid, strict=True)
    ]
    return Scenes(names, np.load(cache / "pixels.npy", mmap_mode="r"), valid, boxes)


class SceneAugmenter:
    """Random crops of `size` (w, h): scale, flip, colour, night, blur and JPEG, and now and then a mosaic of four."""

    def __init__(self, scenes: Scenes, size: tuple[int, int], seed: int, mosaic: float = 0.25):
        self.scenes, self.size, self.mosaic = scenes, size, mosaic
        self.random = np.random.default_rng(seed)

    def sample(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """One training picture (h,w,3 uint8 RGB) around scene `row`, and its boxes (class, x0, y0, x1, y1)."""
        width, height = self.size
        if self.random.random() < self.mosaic:
            image, boxes = self._mosaic(row)
        else:
            image, boxes = self._crop(row, width, height)
        if self.random.random() < 0.5:
            image = image[:, ::-1]
            boxes[:, [1, 3]] = width - boxes[:, [3, 1]]
        return self._photometric(image), boxes

    def _mosaic(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        width, height = self.size
        split_x = int(width * self.random.uniform(0.35, 0.65))
        split_y = int(height * self.random.uniform(0.35, 0.65))
        image = np.empty((height, width, 3), np.uint8)
        boxes = []
        rows = [row, *self.random.integers(len(self.scenes), size=3)]
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
        matrix = np.array([[scale_x, 0, -left], [0, scale_y, -top]], np.float32)
        image = cv2.warpAffine(
            self.scenes.pixels[row, :valid_h, :valid_w],
            matrix,
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
        image = np.ascontiguousarray(image)
        if draw() < 0.5:
            hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
            gains = self.random.uniform((-8, 0.6, 0.6), (8, 1.4, 1.4))
            hue = (np.arange(256) + gains[0]) % 180
            ramps = [hue, *(np.clip(np.arange(256) * gain, 0, 255) for gain in gains[1:])]
            hsv = cv2.merge([cv2.LUT(hsv[..., c], ramp.astype(np.uint8)) for c, ramp in enumerate(ramps)])
            image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
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
            noise = self.random.normal(0, self.random.uniform(2, 10), image.shape)
            image = np.clip(image + noise, 0, 255).astype(np.uint8)
        return image
