"""What the picture codec learns from: crops of road scenes, photos and whole images, with what a receiver knows of
what they mean."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from semhier_ros.scene.reader import meaning_map
from semhier_ros.torch.picture import STRIDE
from semhier_ros.training.packed import PackedArray
from semhier_ros.training.road_data import Scenes

SCENES, WHOLE_IMAGES = "scenes", "whole_images"  # names of meanings


def meanings_of(type_groups: np.ndarray) -> int:
    """Planes of the meaning map: any object, then each group."""
    return 2 + int(type_groups.max())


class Crop(NamedTuple):
    """A square piece of a picture (size,size,3 uint8) and its meaning after a random semantic prefix (planes,h,w)."""

    pixels: NDArray[np.uint8]
    meaning: NDArray[np.float32]


class CropSource(Protocol):
    """Where crops come from. `planes`: of their meaning; `name`: which meaning that is, empty for none."""

    name: str
    planes: int

    def crop(self, random: np.random.Generator, size: int) -> Crop: ...


class PhotoCrops:
    """Crops of the first `count` of some photos (all of them without it), without any meaning, for variety."""

    name, planes = "", 0

    def __init__(self, photos: Sequence[NDArray[np.uint8]] | NDArray[np.uint8] | PackedArray, count: int | None = None):
        self.photos, self.count = photos, min(count or len(photos), len(photos))

    def crop(self, random: np.random.Generator, size: int) -> Crop:
        photo = self.photos[int(random.integers(self.count))]
        top = random.integers(photo.shape[0] - size + 1)
        left = random.integers(photo.shape[1] - size + 1)
        return Crop(photo[top : top + size, left : left + size], np.zeros((0, size // STRIDE, size // STRIDE)))


class SceneCrops:
    """Crops of road scenes at random scale; their meaning is the map of objects by group."""

    name = SCENES

    def __init__(self, scenes: Scenes, type_groups: np.ndarray):
        self.scenes, self.type_groups = scenes, type_groups
        self.planes = meanings_of(type_groups)

    def crop(self, random: np.random.Generator, size: int) -> Crop:
        row = int(random.integers(len(self.scenes)))
        width, height = self.scenes.sizes[row]
        scale = max(size / min(width, height), math.exp(random.uniform(math.log(0.7), math.log(1.1))))
        left = random.uniform(0, max(0, width * scale - size))
        top = random.uniform(0, max(0, height * scale - size))
        matrix = np.array([[scale, 0, -left], [0, scale, -top]], np.float32)
        pixels = cv2.warpAffine(
            self.scenes.pixels[row, :height, :width],
            matrix,
            (size, size),
            flags=cv2.INTER_AREA,
            borderMode=cv2.BORDER_REFLECT,
        )
        boxes = self.scenes.boxes[row]
        corners = boxes[:, 1:] * scale - (left, top, left, top)
        groups = self.type_groups[boxes[:, 0].astype(int)]
        cells = size // STRIDE
        meaning = meaning_map(corners, groups, (cells, cells), self.planes, STRIDE)
        if random.random() < 0.5:
            pixels, meaning = pixels[:, ::-1], meaning[..., ::-1]
        return Crop(pixels, meaning)


class PictureSamples:
    """`loader.Samples` of crops from several sources, each as often as its share says: pixels size,size,3 uint8,
    meaning meanings,size/16,size/16 float32, and whether it is of a whole image (bool).

    planes: where each kind of meaning stands in the map, worked out from the sources unless given.
    """

    def __init__(
        self,
        sources: Mapping[CropSource, float],
        size: int,
        seed: int,
        planes: Mapping[str, tuple[int, int]] | None = None,
    ):
        self.sources, self.size, self.seed = list(sources), size, seed
        shares = np.array(list(sources.values()), np.float64)
        self.shares = shares / shares.sum()
        self.planes = dict(planes or {})
        if planes is None:
            start = 0
            for source in self.sources:
                if source.planes:
                    self.planes[source.name] = (start, start + source.planes)
                    start += source.planes
        self.meanings = max((end for _, end in self.planes.values()), default=0)

    def sample(self, number: int) -> tuple[NDArray, ...]:
        random = np.random.default_rng([self.seed, number])
        source = self.sources[int(random.choice(len(self.sources), p=self.shares))]
        crop = source.crop(random, self.size)
        cells = self.size // STRIDE
        meaning = np.zeros((self.meanings, cells, cells), np.float32)
        if source.planes:
            meaning[slice(*self.planes[source.name])] = crop.meaning
        return np.ascontiguousarray(crop.pixels), meaning, np.array(source.name == WHOLE_IMAGES)
