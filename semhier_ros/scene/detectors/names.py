"""Class names of detectors: lists that come with the package, files, and how a name or a number finds its leaf."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from semhier_ros.scene.detectors.layouts import DetectorError

NOTHING = ("", "n/a", "__background__", "background")
"""Names of class indices that stand for nothing."""

COCO80 = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip

_COCO_GAPS = (0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
_numbers = iter(COCO80)
COCO91 = tuple("" if number in _COCO_GAPS else next(_numbers) for number in range(91))
"""COCO's names at its own numbers 0..90, as TorchVision, RF-DETR and TensorFlow count; empty where it has none."""

NAMES = {"coco80": COCO80, "coco91": COCO91}

ALIASES = {
    "motorbike": "motorcycle",
    "aeroplane": "airplane",
    "sofa": "couch",
    "pottedplant": "potted plant",
    "diningtable": "dining table",
    "tvmonitor": "tv",
    "tv monitor": "tv",
    "hair dryer": "hair drier",
    "doughnut": "donut",
    "cellphone": "cell phone",
    "trafficlight": "traffic light",
    "stopsign": "stop sign",
}
"""What detectors of COCO also call its classes."""


def key_of(name: str) -> str:
    """What two spellings of one name share: no capitals, single blanks for `_` and `-`."""
    return re.sub(r"[\s_-]+", " ", name).strip().lower()


def is_nothing(name: str) -> bool:
    return name.strip().lower() in NOTHING


def read_names(name_or_file: str | Path) -> tuple[str, ...]:
    """The class names of a list of the package (`coco80`, `coco91`) or of a text file, one a line, in index order.

    An empty line within, `N/A` or `__background__` keeps an index that stands for nothing.

    Raises:
        DetectorError: no such list or file, no name at all, or two names alike.
    """
    text = str(name_or_file)
    if text in NAMES:
        return NAMES[text]
    path = Path(text)
    if not path.is_file():
        raise DetectorError(f"names {text}: not one of {', '.join(NAMES)}, and no such file")
    try:
        lines = path.read_text("utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DetectorError(f"names {text}: {error}") from None
    return check_names([line.strip() for line in lines], f"names {text}")


def check_names(names: Sequence[str], where: str = "names") -> tuple[str, ...]:
    """The names as they are.

    Raises:
        DetectorError: none stands for anything, or two are alike (but for capitals, blanks, `_` and `-`).
    """
    seen: dict[str, int] = {}
    for number, name in enumerate(names):
        if is_nothing(name):
            continue
        key = key_of(name)
        if key in seen:
            first = seen[key]
            raise DetectorError(f"{where}: {name!r} (index {number}) and {names[first]!r} (index {first}) are alike")
        seen[key] = number
    if not seen:
        raise DetectorError(f"{where}: no name in it")
    return tuple(names)


@dataclass(frozen=True)
class LeafIndex:
    """Finds the leaf that a detector's class names, by name, known other name, or number.

    leaves: the leaves' names in order. Numbers are counted as `numbers` has them: its own names in index order.
    """

    leaves: tuple[str, ...]
    numbers: tuple[str, ...] = ()

    @cached_property
    def _of_key(self) -> dict[str, int]:
        return {key_of(name): number for number, name in enumerate(self.leaves)}

    def of_name(self, name: str) -> int | None:
        """The leaf of that name, or None."""
        key = key_of(name)
        found = self._of_key.get(key)
        if found is None and key in ALIASES:
            found = self._of_key.get(key_of(ALIASES[key]))
        if found is None:
            other = next((alias for alias, plain in ALIASES.items() if plain == key), None)
            found = self._of_key.get(other) if other is not None else None
        return found

    def find(self, word: str) -> int | None:
        """The leaf of a class id as messages carry it: a name first, then a number."""
        found = self.of_name(word)
        if found is None and word.strip().isdecimal() and int(word) < len(self.numbers):
            name = self.numbers[int(word)]
            found = None if is_nothing(name) else self.of_name(name)
        return found

    def map(self, names: Sequence[str], ignore: Sequence[str] = (), where: str = "names") -> tuple[int, ...]:
        """For each of a detector's classes the leaf that it is, -1 for those that stand for nothing or are ignored.

        Raises:
            DetectorError: a class that the tree lacks, or an ignored name that is none.
        """
        ignored = {key_of(name) for name in ignore}
        known = {key_of(name) for name in names}
        if unknown := sorted(ignored - known):
            raise DetectorError(f"ignore: {unknown[0]!r} is none of the detector's {len(names)} classes")
        made = []
        for number, name in enumerate(names):
            if is_nothing(name) or key_of(name) in ignored:
                made.append(-1)
                continue
            leaf = self.of_name(name)
            if leaf is None:
                raise DetectorError(
                    f"{where}: {name!r} (index {number}) is no leaf of the tree; add it there, or leave it out by "
                    f"ignoring {name!r}"
                )
            made.append(leaf)
        taken: dict[int, int] = {}
        for number, leaf in enumerate(made):
            if leaf >= 0 and leaf in taken:
                raise DetectorError(
                    f"{where}: {names[taken[leaf]]!r} (index {taken[leaf]}) and {names[number]!r} (index {number}) are "
                    f"both leaf {self.leaves[leaf]!r}"
                )
            if leaf >= 0:
                taken[leaf] = number
        return tuple(made)
