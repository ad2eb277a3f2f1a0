"""The picture codec (`training.picture`) on photos, told what semantic blocks say.

The synthesis is told readings of the features (`imagenet_meaning`), the same everywhere in the picture: now those of a
coarse node, a middle node or a class, now all of the semantics, so that a picture can be painted after any prefix.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from semhier_ros.taxonomy import Taxonomy
from semhier_ros.torch.picture import STRIDE
from semhier_ros.training import picture
from semhier_ros.training.imagenet_meaning import PLANES, fit_meaning, load_classifier_rows, node_means
from semhier_ros.training.photos import read_manifest, read_pictures
from semhier_ros.training.picture_form import PAINTED, WHOLE_IMAGES, load_picture

STORED = 192  # side of the squares kept in the memory map
NOISE = 0.3  # spread of what quantising loses of a reading, in its own standard deviations
TAXONOMY = Path("config/taxonomies/imagenet1k.yaml")
FULL_SHARE = 0.7  # how often the synthesis is told all of the semantics


def cache_pixels(data: Path, out: Path) -> tuple[np.ndarray, np.ndarray]:
    """The centre squares of all photos that may be trained on, decoded once: pixels n,192,192,3 and their rows in the
    manifest."""
    path, rows_path = out / "pixels.npy", out / "pixels-rows.npy"
    if not path.exists():
        photos = read_manifest(data)
        row_of = {photo.name: row for row, photo in enumerate(photos) if not photo.test}
        part = path.with_suffix(".part.npy")
        store = np.lib.format.open_memmap(part, "w+", np.uint8, (len(row_of), STORED, STORED, 3))
        rows: list[int] = []
        for name, picture in tqdm(read_pictures(data), total=len(photos), desc="decode photos", mininterval=5):
            height, width = picture.shape[:2]
            if name in row_of and min(height, width) >= STORED:
                top, left = (height - STORED) // 2, (width - STORED) // 2
                store[len(rows)] = picture[top : top + STORED, left : left + STORED]
                rows.append(row_of[name])
        store.flush()
        np.save(rows_path, np.array(rows))
        part.rename(path)
    rows_array = np.load(rows_path)
    return np.load(path, mmap_mode="r")[: len(rows_array)], rows_array


def stored_squares(out: Path, count: int) -> np.ndarray:
    """`count` of the squares that `cache_pixels` stored under `out`, evenly taken (count,192,192,3)."""
    pixels = np.load(out / "pixels.npy", mmap_mode="r")
    rows = len(np.load(out / "pixels-rows.npy"))
    return pixels[np.linspace(0, rows - 1, count).astype(int)]


class WholeImageCrops:
    """`training.picture.CropSource` of photos with what the semantic blocks say of them after some prefix."""

    name, planes = WHOLE_IMAGES, PLANES

    def __init__(self, pixels: np.ndarray, readings: np.ndarray, nodes: list[np.ndarray]):
        self.pixels, self.readings, self.nodes = pixels, readings, nodes

    def crop(self, random: np.random.Generator, size: int) -> picture.Crop:
        row = int(random.integers(len(self.pixels)))
        top, left = random.integers(STORED - size + 1, size=2)
        pixels = self.pixels[row, top : top + size, left : left + size]
        if random.random() < 0.5:
            pixels = pixels[:, ::-1]
        if random.random() < FULL_SHARE:
            reading = self.readings[row] + NOISE * random.standard_normal(PLANES)
        else:
            reading = self.nodes[random.integers(len(self.nodes))][row]
        meaning = np.broadcast_to(reading[:, None, None], (PLANES, size // STRIDE, size // STRIDE))
        return picture.Crop(pixels, meaning.astype(np.float32))


def whole_image_crops(data: Path, out: Path, taxonomy: Path = TAXONOMY) -> WholeImageCrops:
    """The photos of `data` that may be trained on, with the readings of the imagenet run `out`."""
    pixels, rows = cache_pixels(data, out)
    weight, bias = load_classifier_rows(out)
    features = np.load(out / "features-0.npy", mmap_mode="r")[rows].astype(np.float32)
    meaning = fit_meaning(features, weight)
    np.savez(out / "meaning.npz", mean=meaning.mean, basis=meaning.basis)
    readings = (features - meaning.mean) @ meaning.basis
    leaves = (features @ weight.T + bias).argmax(1)
    tree = Taxonomy.load(taxonomy)
    owners = [np.asarray(tree.owner(level)) for level in range(tree.depth)]
    means = node_means(readings, leaves, owners)
    nodes = [mean[owner[leaves]] for mean, owner in zip(means, owners, strict=True)]
    return WholeImageCrops(pixels, readings.astype(np.float32), nodes)


def train(options: argparse.Namespace) -> Path:
    """Train a picture codec on whole images alone, or take one that `semhier train road picture --whole-images` trained
    for both kinds of model."""
    if options.take is not None:
        load_picture(options.take, WHOLE_IMAGES)
        return Path(shutil.copy(options.take, options.out / PAINTED))
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    sources: dict[picture.CropSource, float] = {whole_image_crops(options.data, options.out, options.taxonomy): 1.0}
    return picture.optimise(options, picture.PictureSampler(sources, options.crop, options.seed))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--take", type=Path, help="checkpoint of a codec that knows whole images: taken as it is")
    parser.add_argument("--steps", type=int, default=30_000)
    parser.add_argument("--minutes", type=float, default=600.0, help="anneal to this much time if steps take longer")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=160)
    parser.add_argument("--lr", type=float, default=1e-3)
    picture.add_form(parser)
