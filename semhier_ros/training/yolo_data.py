"""Labelled scenes in the two forms that people have them in: a folder with splits, or an Ultralytics-style data.yaml.

Folder: `images/`, `labels/` (YOLO: class cx cy w h, relative) and `classes.txt`; the splits' folder has `train.txt` and
`choose.txt`, image file names line by line. data.yaml: `path`, `train` and `val` (folders of images, text files listing
them, or lists of either) and `names`; labels lie where `images` in an image's path becomes `labels`, as everywhere in
that world. `val` is what chooses and calibrates; what is reported on stays out of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from semhier_ros.taxonomy import Taxonomy
from semhier_ros.training.errors import MissingFile, TrainingError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
SPLITS = {"train": "train", "choose": "val"}


@dataclass(frozen=True)
class YoloData:
    """classes: their names in order. images: for the splits `train` and `choose`, the files of the images."""

    classes: tuple[str, ...]
    images: Mapping[str, tuple[Path, ...]]

    @classmethod
    def open(cls, data: Path, splits: Path) -> YoloData:
        """Read `data`, a folder (then `splits` says which image belongs where) or a data.yaml.

        Raises:
            ValueError: a field of the yaml is missing or of the wrong kind, or a split is empty.
            FileNotFoundError: a file or folder named is not there.
        """
        found = cls._of_yaml(data) if data.suffix in (".yaml", ".yml") else cls._of_folder(data, splits)
        for split, images in found.images.items():
            if not images:
                raise TrainingError(f"{data}: split {split} has no images")
        return found

    @classmethod
    def _of_folder(cls, data: Path, splits: Path) -> YoloData:
        for place, what in ((data, "a folder with images/, labels/ and classes.txt, or a data.yaml"), (splits, "")):
            if not place.is_dir():
                raise MissingFile(f"{place}: no such folder" + (f"; {what} wanted" if what else ""))
        classes = [name.strip() for name in _text(data / "classes.txt").splitlines()]
        images = {split: tuple(data / "images" / name for name in _lines(splits / f"{split}.txt")) for split in SPLITS}
        return cls(tuple(name for name in classes if name), images)

    @classmethod
    def _of_yaml(cls, path: Path) -> YoloData:
        card: Any = yaml.safe_load(_text(path))
        if not isinstance(card, dict):
            raise TrainingError(f"{path}: a mapping with train, val and names wanted")
        for field in ("train", "val", "names"):
            if field not in card:
                raise TrainingError(f"{path}: {field} is missing")
        names = card["names"]
        if isinstance(names, dict):
            names = [names[number] for number in sorted(names)]
        if not isinstance(names, list) or not names:
            raise TrainingError(f"{path}: names: {card['names']!r} is neither a list nor a mapping from number to name")
        root = (path.parent / str(card.get("path", "."))).resolve()
        images = {
            split: tuple(file for where in _listed(card[field]) for file in _images(root, where, path))
            for split, field in SPLITS.items()
        }
        return cls(tuple(str(name) for name in names), images)

    def check_taxonomy(self, leaves: tuple[str, ...], source: Path) -> None:
        """Raises ValueError, naming the first that differs, unless a taxonomy's leaves are the classes, in order."""
        for number, (leaf, name) in enumerate(zip(leaves, self.classes, strict=False)):
            if leaf != name:
                raise TrainingError(f"{source}: leaf {number} is {leaf!r}, the data's class {number} is {name!r}")
        if len(leaves) != len(self.classes):
            raise TrainingError(f"{source}: {len(leaves)} leaves, the data has {len(self.classes)} classes")


def open_labelled(options: Any) -> tuple[YoloData, Taxonomy]:
    """The data and the tree of a stage of `road`, whose leaves are the data's classes.

    Raises:
        TrainingError, MissingFile: one of them is missing or damaged, or they differ. TaxonomyError: the tree is none.
    """
    data, taxonomy = YoloData.open(options.data, options.splits), Taxonomy.load(options.taxonomy)
    data.check_taxonomy(taxonomy.names(len(taxonomy.levels) - 1), options.taxonomy)
    return data, taxonomy


def label_file(image: Path, kind: str = "labels") -> Path:
    """Where the labels of an image lie: beside it where no `images` stands in its path. Or files of another `kind`."""
    parts = list(image.parts)
    last = max((n for n, part in enumerate(parts[:-1]) if part == "images"), default=None)
    if last is not None:
        parts[last] = kind
    return Path(*parts).with_suffix(".txt")


def ignored_file(image: Path) -> Path | None:
    """Where an image's regions lie that count neither way; None where no `images` stands in its path."""
    found = label_file(image, "ignored")
    return None if found == label_file(image) else found


def _text(file: Path) -> str:
    """A text file as people write them: UTF-8, with or without a byte order mark."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise MissingFile(f"{file}: no such file") from None
    except UnicodeDecodeError as error:
        raise TrainingError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start})") from None


def _lines(file: Path) -> list[str]:
    """The lines that say something; names may hold spaces."""
    return [line.strip() for line in _text(file).splitlines() if line.strip()]


def _listed(places: Any) -> list[str]:
    """What a split names: one place or a list of them."""
    return [str(place) for place in places] if isinstance(places, list) else [str(places)]


def _images(root: Path, where: str, source: Path) -> list[Path]:
    place = root / where
    if place.is_dir():
        found = (file for file in place.rglob("[!.]*") if file.suffix.lower() in IMAGE_SUFFIXES)
        return sorted(file for file in found if file.is_file())
    if place.suffix == ".txt" and place.exists():
        return [root / line for line in _lines(place)]
    raise MissingFile(f"{source}: {place} is neither a folder of images nor a text file listing them")
