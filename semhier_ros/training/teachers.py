"""Labels that a data set lacks, from detectors of others: run flipped and at several sizes, put to the vote, kept on
disk.

A teacher's word is only as good as it is steady. What every view of a picture agrees on becomes a label; what some
views see is a doubt, and a doubt is neither object nor background; what hardly any view sees is nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from semhier_ros.scene.detectors.layouts import find_layout
from semhier_ros.scene.detectors.runtime import Detector
from semhier_ros.training.packed import fingerprint
from semhier_ros.whole_file import replacing

Floats = NDArray[np.float32]
LEAST_SCORE = 0.05  # fainter detections are not kept
SAME = 0.5  # intersection over union from which two views mean the same object
SAVE_EVERY = 100  # pictures


class View(NamedTuple):
    """How a teacher looks at a picture: fitted into width x height (multiples of 32), mirrored or not."""

    width: int
    height: int
    flip: bool

    @property
    def name(self) -> str:
        return f"{self.width}x{self.height}{'-flip' if self.flip else ''}"


VIEWS = (View(736, 416, False), View(736, 416, True), View(1088, 608, False), View(1088, 608, True))


def intersection_over_union(first: Floats, second: Floats) -> Floats:
    """n,m of corner boxes n,4 and m,4."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    inner = np.clip(high - low, 0, None).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (first, second)]
    return inner / np.maximum(areas[0][:, None] + areas[1][None] - inner, 1e-6)


def inside_share(inner: Floats, outer: Floats) -> Floats:
    """n,m: which share of each of the boxes `inner` (n,4) lies in each of `outer` (m,4)."""
    low = np.maximum(inner[:, None, :2], outer[None, :, :2])
    high = np.minimum(inner[:, None, 2:], outer[None, :, 2:])
    return np.clip(high - low, 0, None).prod(2) / np.maximum((inner[:, 2:] - inner[:, :2]).prod(1)[:, None], 1e-6)


class Teacher:
    """A detector of others (`scene.detectors`: any layout that it knows), with one compiled form per size.

    Raises:
        DetectorError: the file, its layout or its names do not fit.
    """

    def __init__(self, path: Path, names: Sequence[str], layout: str | None, threads: int):
        self.path, self.names, self.threads = path, tuple(names), threads
        self._layout = find_layout(layout) if layout else None
        self._sizes: dict[tuple[int, int], Detector] = {}

    @property
    def about(self) -> dict[str, Any]:
        """What tells its words from another teacher's: the file's SHA-256, its classes' names, and its layout."""
        spec = self.opened(VIEWS[0]).spec
        about = {"sha256": spec.sha256, "names": spec.names, "layout": spec.layout.to_dict()}
        return dict(json.loads(json.dumps(about)))  # as a file gives it back

    def opened(self, view: View) -> Detector:
        """The detector for pictures of a view's size. Raises DetectorError as the class does."""
        size = (view.width, view.height)
        if size not in self._sizes:
            self._sizes[size] = Detector.open(
                self.path, self.names, layout=self._layout, names=self.names, size=size, threads=self.threads
            )
        return self._sizes[size]

    def detect(self, picture: NDArray[np.uint8], view: View) -> Floats:
        """Rows (class, score, x0, y0, x1, y1) in pixels of `picture` (H,W,3 RGB): every box under its best class."""
        found = self.opened(view).detect(np.ascontiguousarray(picture[:, ::-1]) if view.flip else picture, LEAST_SCORE)
        boxes = found.boxes.copy()
        if view.flip:
            boxes[:, [0, 2]] = picture.shape[1] - boxes[:, [2, 0]]
        if not len(found):
            return np.zeros((0, 6), np.float32)
        kinds = found.scores.argmax(1)
        return np.concatenate([kinds[:, None], found.scores.max(1)[:, None], boxes], 1, dtype=np.float32)


@dataclass(frozen=True)
class Opinion:
    """What the views of one picture agree on, best first: kinds n (a class of the teacher's), scores n (0..1, the mean
    over the views that can tell), boxes n,4 in pixels."""

    kinds: NDArray[np.int64]
    scores: Floats
    boxes: Floats


def vote(views: Sequence[Floats], kinship: NDArray[np.int64]) -> Opinion:
    """Put several views of one picture to the vote.

    views: rows (class, score, x0, y0, x1, y1) of each view, all in the picture's pixels. kinship: per class of the
    teacher's the family within which two views may disagree about the class (a truck here, a car there); -1 drops it.

    An object's score is the mean over the better half of the views, so that one which only the larger views can see is
    not voted down by the smaller ones. Its class is the one with the most score, its box the mean weighted by score.
    """
    rows = [np.concatenate([part, np.full((len(part), 1), view)], 1) for view, part in enumerate(views)]
    everything = np.concatenate(rows) if rows else np.zeros((0, 7), np.float32)
    family = kinship[everything[:, 0].astype(int)]
    everything, family = everything[family >= 0], family[family >= 0]
    order = np.argsort(-everything[:, 1], kind="stable")
    everything, family = everything[order], family[order]
    overlap = intersection_over_union(everything[:, 2:6], everything[:, 2:6])
    free = np.ones(len(everything), bool)
    kinds, scores, boxes = [], [], []
    enough = (len(views) + 1) // 2
    for row in range(len(everything)):
        if not free[row]:
            continue
        members = np.flatnonzero(free & (family == family[row]) & (overlap[row] >= SAME))
        free[members] = False
        best: dict[int, float] = {}
        per_kind: dict[int, float] = {}
        for member in members:
            view, kind, score = int(everything[member, 6]), int(everything[member, 0]), float(everything[member, 1])
            best[view] = max(best.get(view, 0.0), score)
            per_kind[kind] = per_kind.get(kind, 0.0) + score
        weight = everything[members, 1:2]
        kinds.append(max(per_kind, key=per_kind.__getitem__))
        scores.append(sum(sorted(best.values(), reverse=True)[:enough]) / enough)
        boxes.append((everything[members, 2:6] * weight).sum(0) / weight.sum())
    rank = np.argsort(-np.asarray(scores, np.float32), kind="stable")
    return Opinion(
        np.asarray(kinds, np.int64)[rank],
        np.asarray(scores, np.float32)[rank],
        np.asarray(boxes, np.float32).reshape(-1, 4)[rank],
    )


class Notebook:
    """What a teacher said of every picture under one view, in one JSON-lines file that a killed run leaves whole.

    teacher: whose words they are (`Teacher.about`), the file's first line; None where the file, of an earlier version,
    does not say. For a file that is not there yet it is the `teacher` given.
    """

    def __init__(self, path: Path, teacher: Mapping[str, Any] | None = None):
        self.path = path
        self.teacher = teacher
        self.said: dict[str, Floats] = {}
        if path.exists():
            self.teacher = None
            for line in path.read_text().splitlines():
                entry = json.loads(line)
                if "teacher" in entry:
                    self.teacher = entry["teacher"]
                else:
                    self.said[entry["picture"]] = np.asarray(entry["rows"], np.float32).reshape(-1, 6)

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as part, part.open("w") as file:
            if self.teacher is not None:
                file.write(json.dumps({"teacher": self.teacher}) + "\n")
            for picture, rows in self.said.items():
                file.write(json.dumps({"picture": picture, "rows": np.round(rows.astype(float), 3).tolist()}) + "\n")


def notebooks_of(said: Path, teacher: Teacher) -> Path:
    """The folder in `said` of a teacher's notebooks: named after its file, and a hash of what it is too where another
    teacher of that name has been asked. Notebooks that do not say whose they are are those of their name."""
    about = teacher.about
    named = said / teacher.path.stem
    if all(Notebook(path).teacher in (None, about) for path in sorted(named.glob("*.jsonl"))):
        return named
    return said / f"{teacher.path.stem}-{fingerprint(about)}"


def number_alike(books: Sequence[Notebook], kinds: Sequence[str]) -> tuple[str, ...]:
    """Make the classes in all notebooks numbers of one list of names, and give that list. It begins with `kinds`, the
    names of notebooks that do not say theirs."""
    names = list(kinds)
    for book in books:
        if book.teacher is None:
            continue
        names += [name for name in book.teacher["names"] if name not in names]
        number = np.asarray([names.index(name) for name in book.teacher["names"]], np.float32)
        for rows in book.said.values():
            rows[:, 0] = number[rows[:, 0].astype(int)]
    return tuple(names)


def ask(
    teacher: Teacher, pictures: Mapping[str, Path], view: View, path: Path, read: Callable[[Path], NDArray[np.uint8]]
) -> Notebook:
    """What `teacher` says of each picture (key: file) under `view`, from the notebook at `path` where it stands
    already.

    Raises:
        What `read` (a file to H,W,3 uint8 RGB) raises for a picture that it cannot decode.
    """
    book = Notebook(path, teacher.about)
    missing = {key: file for key, file in pictures.items() if key not in book.said}
    for number, (key, file) in enumerate(tqdm(missing.items(), desc=view.name, mininterval=20)):
        book.said[key] = teacher.detect(read(file), view)
        if number % SAVE_EVERY == SAVE_EVERY - 1:
            book.save()
    if missing:
        book.save()
    return book
