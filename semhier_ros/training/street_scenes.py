"""Street pictures for training: the catalogue, decoded pictures with settled labels, and crops of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from semhier_ros.footage.video import read_picture
from semhier_ros.training.errors import TrainingError
from semhier_ros.training.loader import Draws
from semhier_ros.training.packed import PackedArray, packed, states
from semhier_ros.training.road_data import CANVAS, PADDING, SceneAugmenter, shown
from semhier_ros.training.scene_samples import STRIDE, make_targets
from semhier_ros.training.street_data import IGNORED, Labels, Recipe, merge
from semhier_ros.training.teachers import Notebook, number_alike, vote

Floats = NDArray[np.float32]
LEAST_SIDE = 4.0  # pixels of the canvas; smaller objects are ignored
LEAST_VISIBLE = 0.4  # share of an object inside a crop below which it is ignored
FAMILIES = ("person",), ("bicycle", "motorcycle"), ("car", "bus", "truck", "train"), ("traffic light",), ("stop sign",)


@dataclass(frozen=True)
class Entry:
    """One picture of the catalogue: set and file name; the file; its labels."""

    key: str
    file: Path
    labels: Labels

    @property
    def set(self) -> str:
        return self.key.split("/", 1)[0]


def read_catalogue(path: Path) -> dict[str, Entry]:
    entries = {}
    for line in path.read_text().splitlines():
        card = json.loads(line)
        boxes, ignored = (np.asarray(card[name], np.float32).reshape(-1, 4) for name in ("boxes", "ignored"))
        entries[card["key"]] = Entry(card["key"], Path(card["file"]), Labels(tuple(card["words"]), boxes, ignored))
    return entries


def kinship_of(kinds: tuple[str, ...], recipe: Recipe) -> NDArray[np.int64]:
    """Families of the teacher's classes within which its views may disagree; -1 for classes that mean nothing to us."""
    families = {kind: number for number, family in enumerate(FAMILIES) for kind in family}
    animals = len(FAMILIES)
    return np.asarray([families.get(kind, animals) if kind in recipe.teacher else -1 for kind in kinds], np.int64)


@dataclass(frozen=True)
class StreetScenes:
    """Decoded pictures in one flat memory map, of any size up to the canvas.

    starts, sizes: where each begins and its width and height; boxes: per picture n,5 (word or IGNORED, x0, y0, x1, y1)
    in its pixels; known: pictures x leaves, false where a leaf may be there unlabelled; draw: chance of each; scales:
    how large each is shown, beside the canvas; sets: the set of each, by number.
    """

    pixels: PackedArray
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    boxes: list[Floats]
    known: NDArray[np.bool_]
    draw: NDArray[np.float64]
    scales: Floats
    sets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.boxes)

    def picture(self, row: int) -> NDArray[np.uint8]:
        width, height = self.sizes[row]
        return self.pixels[self.starts[row] : self.starts[row] + width * height * 3].reshape(height, width, 3)


def load_street(out: Path, splits: Path, split: str, recipe: Recipe, kinds: tuple[str, ...]) -> StreetScenes:
    """Decode what teachers have seen of a split, once, and settle labels and doubts. kinds: the names of a teacher's
    classes whose notebooks do not say them."""
    entries = read_catalogue(out / "catalogue.jsonl")
    wanted = [key for key in (splits / f"{split}.txt").read_text().splitlines() if key in entries]
    books = [Notebook(path) for path in sorted((out / "said").rglob("*.jsonl"))]
    wanted = [key for key in wanted if any(key in book.said for book in books)]
    if not wanted:
        raise TrainingError(
            f"split {split}: no picture of {splits}/{split}.txt of which a teacher said anything; run teach"
        )
    parts = {part.name: part for part in recipe.sets}
    pixels, notes = _decode(out / "cache", f"street-{split}", [entries[key] for key in wanted])
    starts, sizes, scales = (np.asarray(notes[name]) for name in ("starts", "sizes", "scales"))
    names = number_alike(books, kinds)
    kinship = kinship_of(names, recipe)
    boxes, known, sets, row_scale = [], [], [], []
    for number, key in enumerate(wanted):
        entry, part = entries[key], parts[entries[key].set]
        opinion = vote([book.said[key] for book in books if key in book.said], kinship)
        rows = merge(entry.labels, opinion, part, recipe, names)
        rows[:, 1:] *= scales[number]
        boxes.append(rows)
        known.append([leaf not in part.unseen for leaf in recipe.leaves])
        sets.append(recipe.sets.index(part))
        row_scale.append(part.scale)
    which = np.asarray(sets)
    share = np.asarray([part.share for part in recipe.sets])
    counts = np.bincount(which, minlength=len(recipe.sets))
    draw = share[which] / counts[which] * repeats(boxes, recipe)
    scenes = StreetScenes(
        pixels, starts, sizes, boxes, np.asarray(known), draw / draw.sum(), np.asarray(row_scale, np.float32), which
    )
    told = np.concatenate([rows[:, 0] for rows in boxes]).astype(int)
    words = {recipe.words[word] if word >= 0 else "ignored": int((told == word).sum()) for word in np.unique(told)}
    print(split, {part.name: int(n) for part, n in zip(recipe.sets, counts, strict=True)}, words, flush=True)
    return scenes


def repeats(boxes: list[Floats], recipe: Recipe, threshold: float = 0.06, limit: float = 3.0) -> NDArray[np.float64]:
    """Repeat factors for pictures with rare words (Gupta, Dollar and Girshick, "LVIS", arXiv 1908.03195)."""
    present = np.zeros((len(boxes), len(recipe.words)), bool)
    for row, found in enumerate(boxes):
        present[row, found[found[:, 0] >= 0, 0].astype(int)] = True
    frequency = present.mean(0).clip(min=1 / len(boxes))
    return np.where(present, np.sqrt(threshold / frequency).clip(1.0, limit), 1.0).max(1)


def _decode(folder: Path, name: str, entries: list[Entry]) -> tuple[PackedArray, dict[str, list[Any]]]:
    """Pictures, no larger than the canvas, one after the other in one array; starts, sizes and scales of each."""

    def make(path: Path) -> dict[str, list[Any]]:
        most = len(entries) * CANVAS[0] * CANVAS[1] * 3  # what is not needed stays a hole in the file
        pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(most,))
        starts, sizes, scales, at = [], [], [], 0
        for entry in tqdm(entries, desc="decoding", mininterval=20):
            image: NDArray[Any] = read_picture(entry.file)
            scale = min(1.0, CANVAS[0] / image.shape[1], CANVAS[1] / image.shape[0])
            size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
            if scale < 1:
                image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            pixels[at : at + image.size] = image.ravel()
            starts.append(at)
            sizes.append(size)
            scales.append(scale)
            at += image.size
        pixels.flush()
        return {"starts": starts, "sizes": sizes, "scales": scales}

    return packed(folder, name, {"pictures": states([entry.file for entry in entries]), "canvas": CANVAS}, make)


class StreetAugmenter(SceneAugmenter):
    """`SceneAugmenter` for street pictures: ignored regions stay, what a crop cuts becomes ignored, and a mosaic is
    made of pictures of one set, which know the same."""

    def __init__(self, scenes: StreetScenes, size: tuple[int, int], mosaic: float = 0.15):
        super().__init__(scenes, size, mosaic)  # type: ignore[arg-type]
        self.street = scenes

    def _partners(self, row: int) -> NDArray[np.int64]:
        like = np.flatnonzero(self.street.sets == self.street.sets[row])
        return self.random.choice(like, size=3)

    def _crop(self, row: int, width: int, height: int, smaller: float = 1.0) -> tuple[NDArray[np.uint8], Floats]:
        picture = self.street.picture(row)
        valid_h, valid_w = picture.shape[:2]
        boxes = self.street.boxes[row].copy()
        fit = min(CANVAS[0] / valid_w, CANVAS[1] / valid_h) * float(self.street.scales[row])
        scale = smaller * fit * float(np.exp(self.random.uniform(np.log(0.6), np.log(1.9))))
        stretch = float(np.exp(self.random.uniform(-0.12, 0.12)))
        scale_x, scale_y = scale * stretch, scale / stretch
        free = (min(0, valid_w * scale_x - width), max(0, valid_w * scale_x - width))
        free_y = (min(0, valid_h * scale_y - height), max(0, valid_h * scale_y - height))
        objects = boxes[boxes[:, 0] >= 0]
        if len(objects) and self.random.random() < 0.7:
            box = objects[self.random.integers(len(objects))]
            left = (box[1] + box[3]) / 2 * scale_x - self.random.uniform(0.15, 0.85) * width
            top = (box[2] + box[4]) / 2 * scale_y - self.random.uniform(0.15, 0.85) * height
        else:
            left, top = self.random.uniform(*free), self.random.uniform(*free_y)
        left, top = float(np.clip(left, *free)), float(np.clip(top, *free_y))
        image: NDArray[Any] = cv2.warpAffine(
            picture,
            shown((scale_x, scale_y), (left, top)),
            (width, height),
            flags=cv2.INTER_AREA if scale < 0.8 else cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(PADDING,) * 3,
        )
        return image, cut(boxes, (scale_x, scale_y), (left, top), (width, height))


def cut(boxes: Floats, scale: tuple[float, float], corner: tuple[float, float], size: tuple[int, int]) -> Floats:
    """Rows (word, box) of a picture as a crop of it shows them: scaled, moved, clipped. Objects that are too small
    there or mostly outside turn into ignored regions; what lies outside altogether goes."""
    rows = boxes.copy()
    rows[:, [1, 3]] = rows[:, [1, 3]] * scale[0] - corner[0]
    rows[:, [2, 4]] = rows[:, [2, 4]] * scale[1] - corner[1]
    area = (rows[:, 3] - rows[:, 1]) * (rows[:, 4] - rows[:, 2])
    rows[:, [1, 3]] = rows[:, [1, 3]].clip(0, size[0])
    rows[:, [2, 4]] = rows[:, [2, 4]].clip(0, size[1])
    width, height = rows[:, 3] - rows[:, 1], rows[:, 4] - rows[:, 2]
    poor = (np.minimum(width, height) < LEAST_SIDE) | (width * height < LEAST_VISIBLE * area)
    rows[poor, 0] = IGNORED
    return rows[(width > 0.5) & (height > 0.5)]


def known_cells(ignored: Floats, width: int, height: int) -> NDArray[np.bool_]:
    """H,W over the stride-8 grid: false in ignored regions (n,4 corners in pixels), where nothing is learned of
    background.

    A cell is ignored when its middle lies in a region, and so is the cell at a region's own middle.
    """
    known = np.ones((height // STRIDE, width // STRIDE), bool)
    for x0, y0, x1, y1 in ignored / STRIDE:
        known[max(0, round(y0)) : max(0, round(y1)), max(0, round(x0)) : max(0, round(x1))] = False
        known[min(int((y0 + y1) / 2), known.shape[0] - 1), min(int((x0 + x1) / 2), known.shape[1] - 1)] = False
    return known


class StreetSamples:
    """`loader.Samples` of crops of `size` (w, h): pixels h,w,3 uint8 RGB, the arrays of `scene_samples.Targets` (words
    in place of types), which cells are known, which leaves the picture's set would have labelled, and whether it is one
    of the sets `tutored` (by number)."""

    def __init__(self, scenes: StreetScenes, size: tuple[int, int], seed: int, tutored: Sequence[int] = ()):
        self.augmenter = StreetAugmenter(scenes, size)
        self.tutored = np.isin(scenes.sets, tutored)
        self.draws = Draws(len(scenes), seed, scenes.draw)

    def sample(self, number: int) -> tuple[NDArray[Any], ...]:
        row = self.draws.row(number)
        image, boxes = self.augmenter.sample(row, self.draws.random(number))
        size = self.augmenter.size
        targets = make_targets(boxes[boxes[:, 0] >= 0], *size)
        known = known_cells(boxes[boxes[:, 0] < 0, 1:], *size)
        return np.ascontiguousarray(image), *targets, known, self.augmenter.street.known[row], self.tutored[row]
