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
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from semhier_ros.training.errors import MissingFile, TrainingError
from semhier_ros.training.packed import PackedArray, packed, states
from semhier_ros.whole_image.view import scaled, square_view

PROBES = {
    "caltech101": "MachineLearning2020/Homework2-Caltech101",
    "grocery": "marcusklasson/GroceryStoreDataset",
    "clothing": "alexeygrigorev/clothing-dataset-small",
}
TEST_TENTHS = 3
STORED = 192  # side of the squares that are kept decoded


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
        MissingFile: there is no manifest.csv.
    """
    if not (folder / "manifest.csv").is_file():
        raise MissingFile(f"photos: {folder}/manifest.csv is missing; a folder of tars with their manifest wanted")
    probe_of = {source: probe for probe, source in PROBES.items()}
    photos = []
    with (folder / "manifest.csv").open(encoding="utf-8-sig", newline="") as file:
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


def states_of_photos(folder: Path) -> list[tuple[str, int, int]]:
    """What an array made of these photos depends on (`packed.states` of manifest and tars, by name alone, so that a
    folder may move)."""
    files = [folder / "manifest.csv", *sorted(folder.glob("*.tar"))]
    return [(Path(name).name, size, changed) for name, size, changed in states(files)]


def cache_pixels(data: Path, out: Path) -> tuple[PackedArray, NDArray[np.intp]]:
    """The centre squares of all photos that may be trained on, decoded once: pixels n,192,192,3 and their rows in the
    manifest.

    Raises:
        MissingFile: there is no manifest. TrainingError: no photo is large enough.
    """
    photos = read_manifest(data)

    def decode(path: Path) -> dict[str, Any]:
        row_of = {photo.name: row for row, photo in enumerate(photos) if not photo.test}
        shape = (max(len(row_of), 1), STORED, STORED, 3)
        store = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
        rows: list[int] = []
        for name, picture in tqdm(read_pictures(data), total=len(photos), desc="decode photos", mininterval=5):
            height, width = picture.shape[:2]
            if name in row_of and min(height, width) >= STORED:
                top, left = (height - STORED) // 2, (width - STORED) // 2
                store[len(rows)] = picture[top : top + STORED, left : left + STORED]
                rows.append(row_of[name])
        store.flush()
        if not rows:
            raise TrainingError(
                f"photos: {data}: none of {len(row_of)} photos to train on is {STORED} pixels high and wide"
            )
        return {"rows": rows}

    made_of = {"photos": states_of_photos(data), "side": STORED, "opencv": cv2.__version__}
    pixels, notes = packed(out, "pixels", made_of, decode)
    return pixels, np.array(notes["rows"], np.intp)


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
