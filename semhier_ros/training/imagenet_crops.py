"""Crops of photos with what the semantic blocks of whole images say of them, for the picture codec to learn from.

What is told are readings of the features (`imagenet_meaning`), the same everywhere in the picture: now those of a
coarse node, a middle node or a class, now all of the semantics, so that a picture can be painted after any prefix.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semhier_ros.taxonomy import Taxonomy
from semhier_ros.torch.picture import STRIDE
from semhier_ros.training.imagenet_features import load_views
from semhier_ros.training.imagenet_meaning import PLANES, fit_meaning, load_classifier_rows, node_means
from semhier_ros.training.packed import PackedArray
from semhier_ros.training.photos import STORED, cache_pixels
from semhier_ros.training.picture_samples import WHOLE_IMAGES, Crop

NOISE = 0.3  # spread of what quantising loses of a reading, in its own standard deviations
TAXONOMY = Path("config/taxonomies/imagenet1k.yaml")
FULL_SHARE = 0.7  # how often the synthesis is told all of the semantics


class WholeImageCrops:
    """`picture_samples.CropSource` of photos with what the semantic blocks say of them after some prefix."""

    name, planes = WHOLE_IMAGES, PLANES

    def __init__(self, pixels: NDArray | PackedArray, readings: NDArray, nodes: list[NDArray]):
        self.pixels, self.readings, self.nodes = pixels, readings, nodes

    def crop(self, random: np.random.Generator, size: int) -> Crop:
        row = int(random.integers(len(self.readings)))
        top, left = random.integers(STORED - size + 1, size=2)
        pixels = self.pixels[row, top : top + size, left : left + size]
        if random.random() < 0.5:
            pixels = pixels[:, ::-1]
        if random.random() < FULL_SHARE:
            reading = self.readings[row] + NOISE * random.standard_normal(PLANES)
        else:
            reading = self.nodes[random.integers(len(self.nodes))][row]
        meaning = np.broadcast_to(reading[:, None, None], (PLANES, size // STRIDE, size // STRIDE))
        return Crop(pixels, meaning.astype(np.float32))


def whole_image_crops(data: Path, out: Path, taxonomy: Path = TAXONOMY) -> WholeImageCrops:
    """The photos of `data` that may be trained on, with the readings of the imagenet run `out`."""
    pixels, rows = cache_pixels(data, out)
    weight, bias = load_classifier_rows(out)
    features = load_views(data, out)[0][rows].astype(np.float32)
    meaning = fit_meaning(features, weight)
    np.savez(out / "meaning.npz", mean=meaning.mean, basis=meaning.basis)
    readings = (features - meaning.mean) @ meaning.basis
    leaves = (features @ weight.T + bias).argmax(1)
    tree = Taxonomy.load(taxonomy)
    owners = [np.asarray(tree.owner(level)) for level in range(tree.depth)]
    means = node_means(readings, leaves, owners)
    nodes = [mean[owner[leaves]] for mean, owner in zip(means, owners, strict=True)]
    return WholeImageCrops(pixels, readings.astype(np.float32), nodes)
