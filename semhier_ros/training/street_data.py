"""Street pictures out of sets that each label something else, as one set: labels, doubts, and what is not known.

A *word* names what a label says: a leaf of the tree, or one of the recipe's words for several leaves ("lorry": a
truck, a pickup or a van). What a set lacks is filled by a teacher (`training.teachers`). Where label and teacher leave
a doubt, the place is *ignored*: it teaches neither object nor background.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from semhier_ros.footage.labels import Notes, read_labels
from semhier_ros.footage.video import read_picture
from semhier_ros.taxonomy import Taxonomy
from semhier_ros.training.errors import MissingFile, TrainingError
from semhier_ros.training.teachers import Opinion, inside_share, intersection_over_union

Floats = NDArray[np.float32]
DOUBT = "doubt"  # in place of a word: what the recipe makes an ignored region
IGNORED = -1  # in place of a word's number: an ignored region
CAMVID_SIGN, CAMVID_CAR, CAMVID_PERSON, CAMVID_RIDER = 6, 8, 9, 10  # SegNet's 11 classes of CamVid
CAMVID_WORDS = {
    CAMVID_PERSON: ("person", 10, 2, 0.62),  # word, least height and width in pixels, greatest width per height
    CAMVID_RIDER: ("rider", 9, 3, 1.15),
    CAMVID_CAR: ("automobile", 6, 5, 2.4),
    CAMVID_SIGN: ("sign or light", 8, 4, 2.5),
}
PEOPLE = frozenset((CAMVID_PERSON, CAMVID_RIDER))
RIDING_SHARE = 0.3  # of a two-wheeler's box that its rider's box covers, at least


@dataclass(frozen=True)
class StreetSet:
    """One set of the recipe. whole: words whose every object is labelled; unsure: words whose boxes are hints only;
    unseen: leaves that nobody would find there; with_riders: two-wheelers whose boxes hold who rides them; share: how
    often it is drawn; scale: of its pictures, beside others'."""

    name: str
    reader: str
    folder: Path
    rename: Mapping[str, str]
    names: str | None
    whole: tuple[str, ...]
    unsure: tuple[str, ...]
    unseen: tuple[str, ...]
    with_riders: tuple[str, ...]
    share: float
    scale: float


@dataclass(frozen=True)
class Recipe:
    """`config/training/street-sources.yaml`, read and checked.

    words: every word, the leaves first and in order. members: words x leaves, bool. teacher: the word of each of the
    teacher's classes, `doubt`, or nothing.
    """

    words: tuple[str, ...]
    members: NDArray[np.bool_]
    teacher: Mapping[str, str]
    sure: float
    doubtful: float
    sets: tuple[StreetSet, ...]
    reporting: tuple[StreetSet, ...]
    leaves: tuple[str, ...]

    @classmethod
    def load(cls, path: Path, taxonomy: Taxonomy, data: Path) -> Recipe:
        """Read the recipe; the sets lie in `data`.

        Raises:
            TrainingError: it is no recipe, a word is neither a leaf nor explained, a threshold is out of range, or a
                set has an unknown reader; the message names the field.
        """
        try:
            card: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise TrainingError(f"sources: {path}: {' '.join(str(error).split())}") from error
        try:
            return cls._of(card, path, taxonomy, data)
        except KeyError as error:
            raise TrainingError(f"{path}: {error.args[0]} is missing") from error
        except TrainingError:
            raise
        except (TypeError, ValueError, AttributeError) as error:
            raise TrainingError(f"{path}: no recipe ({error}); config/training/street-sources.yaml is one") from error

    @classmethod
    def _of(cls, card: Any, path: Path, taxonomy: Taxonomy, data: Path) -> Recipe:
        leaves = taxonomy.names(len(taxonomy.levels) - 1)
        more = {str(word): [str(leaf) for leaf in of] for word, of in card.get("words", {}).items()}
        words = (*leaves, *more)
        members = np.zeros((len(words), len(leaves)), bool)
        members[: len(leaves)] = np.eye(len(leaves), dtype=bool)
        for word, of in more.items():
            for leaf in of:
                if leaf not in leaves:
                    raise TrainingError(f"{path}: words.{word}: {leaf!r} is no leaf of {taxonomy.name}")
                members[words.index(word), leaves.index(leaf)] = True
        teacher = {str(kind): str(word) for kind, word in card["teacher"].items()}
        sure, doubtful = float(card["sure"]), float(card["doubtful"])
        if not 0 < doubtful <= sure <= 1:
            raise TrainingError(f"{path}: doubtful {doubtful:g} and sure {sure:g}: 0 < doubtful <= sure <= 1 wanted")
        sets = tuple(_street_set(str(name), entry, data, path) for name, entry in card["sets"].items())
        known = {*words, "", DOUBT}
        named: dict[str, tuple[str, ...]] = {"teacher": tuple(teacher.values())}
        reporting = tuple(
            _street_set(str(name), {"share": 0, **entry}, data, path)
            for name, entry in card.get("reporting", {}).items()
        )
        for part in (*sets, *reporting):
            named[f"sets.{part.name}"] = (
                *part.whole,
                *part.unsure,
                *part.unseen,
                *part.with_riders,
                *part.rename.values(),
            )
        for place, used in named.items():
            for word in used:
                if word not in known:
                    raise TrainingError(f"{path}: {place}: {word!r} is neither a leaf of {taxonomy.name} nor in words")
        return cls(words, members, teacher, sure, doubtful, sets, reporting, leaves)

    def number(self, word: str) -> int:
        return self.words.index(word)

    def leaf_of(self, word: str) -> int | None:
        """The first leaf that a word may mean; None for what is no word."""
        return int(self.members[self.words.index(word)].argmax()) if word in self.words else None


def _street_set(name: str, entry: Mapping[str, Any], data: Path, path: Path) -> StreetSet:
    if entry.get("reader") not in READERS:
        raise TrainingError(f"{path}: sets.{name}.reader: {entry.get('reader')!r} is none of {', '.join(READERS)}")
    return StreetSet(
        name,
        str(entry["reader"]),
        data / str(entry["folder"]),
        {str(k): str(v) for k, v in entry.get("rename", {}).items()},
        entry.get("names"),
        tuple(entry.get("whole", ())),
        tuple(entry.get("unsure", ())),
        tuple(entry.get("unseen", ())),
        tuple(entry.get("with_riders", ())),
        float(entry["share"]),
        float(entry.get("scale", 1.0)),
    )


@dataclass(frozen=True)
class Labels:
    """What a set says of one picture: words n; boxes n,4 and ignored m,4, corners in pixels."""

    words: tuple[str, ...]
    boxes: Floats
    ignored: Floats


Reader = Callable[[StreetSet, Sequence[str], Set[Path]], dict[Path, Labels]]


def _labels(rows: Sequence[tuple[str, Sequence[float]]], ignored: Sequence[Sequence[float]] = ()) -> Labels:
    """Labels out of rows (word, box): nothing drops a box, `DOUBT` makes it an ignored region."""
    kept = [(word, box) for word, box in rows if word and word != DOUBT]
    ignored = [*ignored, *(box for word, box in rows if word == DOUBT)]
    return Labels(
        tuple(word for word, _ in kept),
        np.asarray([box for _, box in kept], np.float32).reshape(-1, 4),
        np.asarray(ignored, np.float32).reshape(-1, 4),
    )


def read_yolo_set(part: StreetSet, names: Sequence[str], only: Set[Path]) -> dict[Path, Labels]:
    """`images/…` and `labels/….txt`: `class cx cy w h`, where the class is a number of the set's `names` or a word."""
    found, notes = {}, Notes()
    for picture in sorted(only):
        file = part.folder / "labels" / picture.relative_to(part.folder / "images").with_suffix(".txt")
        height, width = read_picture(picture).shape[:2]
        words = list(names)
        rows = []
        for kind, x, y, w, h in read_labels(file, width, height, len(names), notes, words).tolist():
            word = words[int(kind)]
            rows.append((part.rename.get(word, word), (x, y, x + w, y + h)))
        found[picture] = _labels(rows)
    for line in notes.lines():
        print(f"sets.{part.name}: {line}", file=sys.stderr)
    return found


@contextmanager
def _reading(file: Path, form: str) -> Iterator[None]:
    """What goes wrong with a label file's form becomes a TrainingError that names it."""
    try:
        yield
    except (
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        AttributeError,
        StopIteration,
        ElementTree.ParseError,
    ) as error:
        raise TrainingError(f"{file}: no labels as {form} has them ({type(error).__name__}: {error})") from error


def read_coco_set(part: StreetSet, names: Sequence[str], only: Set[Path]) -> dict[Path, Labels]:
    """COCO's `_annotations.coco.json` beside the pictures, in any number of folders. A crowd is an ignored region."""
    found = {}
    for file in sorted(part.folder.rglob("_annotations.coco.json")):
        with _reading(file, "COCO"):
            card = json.loads(file.read_text(encoding="utf-8"))
            kinds = {entry["id"]: entry["name"] for entry in card["categories"]}
            rows: dict[int, list[tuple[str, Sequence[float]]]] = {}
            for mark in card["annotations"]:
                x, y, w, h = map(float, mark["bbox"])
                word = part.rename.get(kinds[mark["category_id"]], kinds[mark["category_id"]])
                word = DOUBT if word and mark.get("iscrowd") else word
                rows.setdefault(mark["image_id"], []).append((word, (x, y, x + w, y + h)))
            for image in card["images"]:
                if (picture := file.parent / image["file_name"]) in only:
                    found[picture] = _labels(rows.get(image["id"], []))
    return found


def read_via_set(part: StreetSet, names: Sequence[str], only: Set[Path]) -> dict[Path, Labels]:
    """VGG Image Annotator's polygons (`_annotations.coco.json` by name, none by nature): the box around each."""
    found = {}
    for file in sorted(part.folder.rglob("_annotations.coco.json")):
        with _reading(file, "VGG Image Annotator"):
            for entry in json.loads(file.read_text(encoding="utf-8")).values():
                regions = entry["regions"]
                rows = []
                for region in regions.values() if isinstance(regions, dict) else regions:
                    shape = region["shape_attributes"]
                    word = next(iter(region["region_attributes"].values()))
                    xs, ys = shape["all_points_x"], shape["all_points_y"]
                    rows.append((part.rename.get(word, word), (min(xs), min(ys), max(xs), max(ys))))
                if (picture := file.parent / entry["filename"]) in only:
                    found[picture] = _labels(rows)
    return found


def read_voc_set(part: StreetSet, names: Sequence[str], only: Set[Path]) -> dict[Path, Labels]:
    """Pascal VOC: `JPEGImages/` and `Annotations/….xml`."""
    found = {}
    for picture in sorted(only):
        file = part.folder / "Annotations" / f"{picture.stem}.xml"
        rows = []
        with _reading(file, "Pascal VOC"):
            for mark in ElementTree.parse(file).getroot().iter("object") if file.exists() else ():
                word = mark.findtext("name", "").strip()
                box = [float(mark.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax")]
                rows.append((part.rename.get(word, word), box))
        found[picture] = _labels(rows)
    return found


def read_bare_set(part: StreetSet, names: Sequence[str], only: Set[Path]) -> dict[Path, Labels]:
    """Pictures without any labels."""
    return {picture: _labels([]) for picture in sorted(only)}


def read_camvid_set(part: StreetSet, names: Sequence[str], only: Set[Path]) -> dict[Path, Labels]:
    """CamVid as SegNet has it: `CamVid/<part>/….png` and masks of 11 classes in `CamVid/<part>annot/`. A set that
    names no word as whole is read for its people alone."""
    found = {}
    for picture in sorted(only):
        file = picture.parent.with_name(f"{picture.parent.name}annot") / picture.name
        mask = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_UNCHANGED) if file.is_file() else None
        if mask is None:
            raise MissingFile(f"{file}: missing or not an image OpenCV can decode")
        found[picture] = boxes_of_mask(mask, frozenset(CAMVID_WORDS) if part.whole else PEOPLE)
    return found


def boxes_of_mask(mask: NDArray[np.uint8], values: Set[int] = frozenset(CAMVID_WORDS)) -> Labels:
    """Boxes of the connected parts of a mask of CamVid's 11 classes, of those in `values`.

    A part that is too small, or too wide to be one of its kind alone, is ignored. Parts of less than 20 pixels are
    dust.
    """
    rows, ignored = [], []
    for value in sorted(values):
        word, least_height, least_width, widest = CAMVID_WORDS[value]
        count, _, parts, _ = cv2.connectedComponentsWithStats((mask == value).astype(np.uint8), connectivity=8)
        for x, y, w, h, area in parts[1:count]:
            if area < 20:
                continue
            box = (x, y, x + w, y + h)
            if h >= least_height and w >= least_width and w <= widest * h:
                rows.append((word, box))
            else:
                ignored.append(box)
    return _labels(rows, ignored)


READERS: dict[str, Reader] = {
    "yolo": read_yolo_set,
    "coco": read_coco_set,
    "via": read_via_set,
    "voc": read_voc_set,
    "bare": read_bare_set,
    "camvid": read_camvid_set,
}


def merge(labels: Labels, opinion: Opinion | None, part: StreetSet, recipe: Recipe, kinds: Sequence[str]) -> Floats:
    """One picture's training rows (word's number or IGNORED, x0, y0, x1, y1) out of its labels and the teacher's vote.

    kinds: the names of the teacher's classes. A label stands. The teacher adds what the set does not label: surely
    seen as a label, doubtfully seen as an ignored region. Where the set labels a word wholly and the teacher is sure
    of one more, that place is a doubt too. A person on a two-wheeler becomes one rider, with what is ridden, where
    either comes from the teacher or the set labels both apart.
    """
    sure_rows: list[tuple[str, Floats]] = []
    doubts = list(labels.ignored)
    for word, box in zip(labels.words, labels.boxes, strict=True):
        if word in part.unsure or word == DOUBT:
            doubts.append(box)
        elif word in recipe.words:
            sure_rows.append((word, box))
    known = np.asarray([box for _, box in sure_rows], np.float32).reshape(-1, 4)
    if opinion is not None:
        overlap = intersection_over_union(opinion.boxes, known)
        within = inside_share(opinion.boxes, known)
        for row, (kind, score) in enumerate(zip(opinion.kinds, opinion.scores, strict=True)):
            word, box = recipe.teacher.get(kinds[kind], ""), opinion.boxes[row]
            if not word or score < recipe.doubtful or (len(known) and overlap[row].max() >= 0.5):
                continue
            whole = word in part.whole
            hidden = bool(len(known)) and within[row].max() >= 0.7  # a person inside a labelled rickshaw, say
            if whole and score < recipe.sure:
                continue
            if word == DOUBT or whole or hidden or score < recipe.sure:
                doubts.append(box)
            else:
                sure_rows.append((word, box))
    if "rider" not in part.whole:
        sure_rows = join_riders(sure_rows, part.with_riders)
    rows = [(recipe.number(word), *box) for word, box in sure_rows]
    rows += [(IGNORED, *box) for box in doubts]
    return np.asarray(rows, np.float32).reshape(-1, 5)


def join_riders(rows: list[tuple[str, Floats]], keep: Sequence[str]) -> list[tuple[str, Floats]]:
    """A person above a two-wheeler and over part of it is its rider; both become one, of the box around both.

    keep: words of two-wheelers that stay what they are, since their set's labels mean them with their riders.
    """
    rides = [n for n, (word, _) in enumerate(rows) if word in ("bicycle", "motorcycle") and word not in keep]
    people = [n for n, (word, _) in enumerate(rows) if word == "person"]
    gone: set[int] = set()
    joined: list[tuple[str, Floats]] = []
    for ride in rides:
        word, machine = rows[ride]
        best, share = None, RIDING_SHARE
        for person in people:
            body = rows[person][1]
            middle = (body[0] + body[2]) / 2
            above = body[1] < machine[1] and body[3] > (machine[1] + machine[3]) / 2 - 0.2 * (machine[3] - machine[1])
            covers = float(inside_share(machine[None], body[None])[0, 0])
            if person not in gone and above and machine[0] < middle < machine[2] and covers >= share:
                best, share = person, covers
        if best is not None:
            body = rows[best][1]
            box = np.concatenate([np.minimum(machine[:2], body[:2]), np.maximum(machine[2:], body[2:])])
            joined.append(("rider" if word == "bicycle" else "motorcyclist", box))
            gone |= {ride, best}
    return [row for n, row in enumerate(rows) if n not in gone] + joined
