"""The photos that whole-image models train on: tars of pictures with a manifest, and which of them no training may see.

A photo's *name* is `<shard without .tar>/<key>`. Photos of the probe sources whose name's SHA-256 falls into the first
three of ten parts are the probes' test images (`is_probe_test`); they stay out of every training here.
"""

from __future__ import annotations

import csv
import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from semhier_ros.whole_image.view import scaled, square_view

PROBES = {
    "caltech101": "MachineLearning2020/Homework2-Caltech101",
    "grocery": "marcusklasson/GroceryStoreDataset",
    "clothing": "alexeygrigorev/clothing-dataset-small",
}
TEST_TENTHS = 3


@dataclass(frozen=True, slots=True)
class Photo:
    """One row of the manifest. probe: its label set, or empty; test: whether it is a test image of that probe."""

    name: str
    label: str
    probe: str
    test: bool


def is_probe_test(name: str) -> bool:
    """Whether a probe's photo of this name is kept for testing: three tenths of all, by a hash of the name."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % 10 < TEST_TENTHS


def read_manifest(folder: Path) -> list[Photo]:
    """All photos of `folder` in the manifest's order.

    Raises:
        OSError: there is no manifest.csv.
    """
    probe_of = {source: probe for probe, source in PROBES.items()}
    photos = []
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            name = f"{Path(row['shard']).stem}/{Path(row['key']).stem}"
            probe = probe_of.get(row["source"], "")
            photos.append(Photo(name, row["label"], probe, bool(probe) and is_probe_test(name)))
    return photos


def read_pictures(folder: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Name and RGB picture of every photo in the folder's tars."""
    for archive in sorted(folder.glob("*.tar")):
        with tarfile.open(archive) as tar:
            for member in tar:
                handle = tar.extractfile(member)
                if handle is None:
                    continue
                picture = cv2.imdecode(np.frombuffer(handle.read(), np.uint8), cv2.IMREAD_COLOR)
                if picture is not None:
                    yield f"{archive.stem}/{Path(member.name).stem}", np.ascontiguousarray(picture[..., ::-1])


def augmented_view(picture: NDArray[np.uint8], side: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """A random square of 60 to 100 % of the shorter side, flipped or not, with mild changes of light and colour."""
    height, width = picture.shape[:2]
    length = round(min(height, width) * random.uniform(0.6, 1.0))
    top, left = random.integers(height - length + 1), random.integers(width - length + 1)
    view = scaled(picture[top : top + length, left : left + length], side)
    if random.random() < 0.5:
        view = view[:, ::-1]
    light = view.astype(np.float32)
    grey = light.mean(axis=2, keepdims=True)
    light = grey + (light - grey) * random.uniform(0.7, 1.3)
    light = (light - 127.5) * random.uniform(0.8, 1.2) + 127.5 + random.uniform(-20, 20)
    return np.ascontiguousarray(np.clip(light, 0, 255).astype(np.uint8))


def views(picture: NDArray[np.uint8], side: int, number: int, seed: int, position: int) -> NDArray[np.uint8]:
    """View `number` of the photo at `position`: 0 is what the codec sees, the others are augmented."""
    if number == 0:
        return square_view(picture, side)
    return augmented_view(picture, side, np.random.default_rng([seed, number, position]))
