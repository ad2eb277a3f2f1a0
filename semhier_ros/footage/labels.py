"""Labels: of scenes (YOLO text files), of a camera's frames (YOLO, COCO, a topic of the bag itself), of photos (CSV).

Classes of scenes and frames are nodes of the taxonomy, by name or, in YOLO files without a `classes.txt`, by the number
of their leaf; those of scenes are leaves. A camera's frame is found by the number that its file's name ends with, which
counts the frames of the whole footage (from 0, or from 1 where the numbers say so), or by its header stamp in ns.
Frames without a file are not judged; an empty YOLO file says that nothing is there. What is left out while labels are
read is counted and told: `Notes`.
"""

from __future__ import annotations

import csv
import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.reading import Detection
from semhier_ros.command import CommandError
from semhier_ros.footage.messages import message_store
from semhier_ros.footage.video import listed, picture_files, read_picture, shown
from semhier_ros.scene.detectors.names import LeafIndex
from semhier_ros.taxonomy import Taxonomy

ARRAY = "vision_msgs/msg/Detection2DArray"
FAR_OUT = 0.25
"""Of a box's side: what reaches so far out of the picture is worth telling."""
LEFT_OUT = "left out"
"""In the notes of what does not count."""


class LabelError(CommandError, ValueError):
    """Labels that cannot be used; the message names the file and what is wrong."""


class Notes(Counter[str]):
    """What was left out while labels were read: counts by reason."""

    def lines(self) -> list[str]:
        """The counts in words."""
        return [f"labels: {number} {reason}" for reason, number in self.items() if number]


@dataclass(frozen=True)
class Scene:
    """A picture, the file of its labels, which need not exist where nothing is in the picture, and that of its ignored
    regions."""

    picture: Path
    labels: Path | None
    ignored: Path | None = None

    def read(
        self, taxonomy: Taxonomy | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]]:
        """The picture (H,W,3 uint8 RGB), its labels as of `read_labels`, and the boxes n,4 (x0, y0, w, h) of ignored
        regions; none where there is no such file. With a taxonomy the classes of labels are its leaves.

        Raises FootageError or LabelError, which name the file.
        """
        picture = read_picture(self.picture)
        sides = (picture.shape[1], picture.shape[0])
        labels = ignored = np.zeros((0, 5))
        if self.labels is not None and taxonomy is not None:
            labels = read_leaves(self.labels, *sides, taxonomy.names(taxonomy.depth - 1))
        elif self.labels is not None:
            labels = read_labels(self.labels, *sides)
        if self.ignored is not None:
            ignored = read_labels(self.ignored, *sides)
        return picture, labels, ignored[:, 1:]


@dataclass(frozen=True, slots=True)
class Labelled:
    """A photo and its 0-based class."""

    path: Path
    label: int


@dataclass(frozen=True, slots=True)
class World:
    """The truth of one camera: at `instants` (s, ascending) `truths`, with boxes in source pixels. `kind` says where
    it comes from, "labels" or "agreement". `crowds`: regions of many objects that nobody counted, by instant (empty:
    there are none)."""

    instants: NDArray[np.float64]
    truths: Sequence[tuple[Detection, ...]]
    kind: str
    crowds: Sequence[tuple[Detection, ...]] = ()


def find_scenes(images: Path, labels: Path | None, split: Path | None, ignored: Path | None = None) -> list[Scene]:
    """The scenes of a folder in order of their names, or those that a text file lists; without `labels` if None.
    ignored: a folder of YOLO files, as of the labels, of regions that count neither way.

    Raises LabelError or FootageError when a folder or a listed picture is missing, there are no pictures, or none of
    them has labels.
    """
    for option, folder in (("--images", images), ("--labels", labels), ("--ignored", ignored)):
        if folder is not None and not folder.is_dir():
            raise LabelError(f"{option} {folder}: no such folder")
    pictures = picture_files(images) if split is None else listed(split, images)
    if labels is None:
        return [Scene(path, None) for path in pictures]
    if not any((labels / f"{path.stem}.txt").is_file() for path in pictures):
        raise LabelError(
            f"--labels {labels}: no file there belongs to a picture; {shown(Path(pictures[0].stem))}.txt would"
        )
    return [
        Scene(path, labels / f"{path.stem}.txt", ignored / f"{path.stem}.txt" if ignored else None) for path in pictures
    ]


def check_scenes(scenes: Sequence[Scene], leaves: Sequence[str] | None = None) -> Notes:
    """What is left out of the scenes' labels, counted; none of the pictures is read. leaves: only labels of these count
    (`read_leaves`, not strict).

    Raises LabelError when a file cannot be read, or rows were left out and none of any file is left.
    """
    notes, kept = Notes(), 0
    for scene in scenes:
        if scene.labels is not None:
            if leaves is None:
                kept += len(read_labels(scene.labels, 1, 1, notes=notes))
            else:
                kept += len(read_leaves(scene.labels, 1, 1, leaves, strict=False, notes=notes))
    if notes and not kept:
        raise LabelError(f"{shown(scenes[0].labels.parent if scenes[0].labels else Path())}: {_nothing_left(notes)}")
    return notes


def _nothing_left(notes: Notes) -> str:
    return f"no label is left: {'; '.join(notes.lines())}"


def read_text(path: Path) -> str:
    """A text file as people write them: UTF-8, with or without a byte order mark. Raises LabelError."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelError(f"{shown(path)}: no UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise LabelError(f"{shown(path)}: {error.strerror}") from error


def read_labels(
    path: Path,
    width: int,
    height: int,
    classes: int | None = None,
    notes: Notes | None = None,
    words: list[str] | None = None,
) -> NDArray[np.float64]:
    """Rows (class, x0, y0, w, h) in pixels of a YOLO label file; none where there is no file, as YOLO has it.

    A row is `class cx cy w h`, with a score behind it or not, or a polygon `class x y x y x y …`, of which the box
    around it is taken; all but the class in shares of the picture's sides. What follows a # is a comment. Rows without
    area are left out and counted in `notes`, as YOLO tools do. words: a class may be a word as well, and counts as its
    place in this list, to which it is added where it is not in it.

    Raises LabelError when a row is none of these, a box lies outside the picture, or the class is outside
    0..classes-1; the message names file and line.
    """
    rows = []
    for number, line in enumerate(read_text(path).splitlines() if path.exists() else [], 1):
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        where = f"{shown(path)}:{number}"
        named = words is not None and not _is_number(fields[0])
        if words is not None and named:
            if fields[0] not in words:
                words.append(fields[0])
            fields[0] = str(words.index(fields[0]))
        try:
            kind, *values = map(float, fields)
        except ValueError:
            values = []
        if len(values) not in (4, 5) and (len(values) < 6 or len(values) % 2):
            raise LabelError(f"{where}: five numbers `class cx cy w h` wanted, found {line!r}")
        if not kind.is_integer() or kind < 0 or (classes is not None and kind >= classes and not named):
            most = "" if classes is None else f"..{classes - 1}"
            allowed = (
                f"outside 0{most}, the leaves of the taxonomy" if words is None else f"none of {classes or 0} names"
            )
            raise LabelError(f"{where}: class {kind:g} is {allowed}")
        cx, cy, w, h = values[:4] if len(values) < 6 else _around(values)
        if not (0 <= w <= 2 and 0 <= h <= 2 and -1 <= cx <= 2 and -1 <= cy <= 2):
            raise LabelError(f"{where}: box {cx:g} {cy:g} {w:g} {h:g} is not in shares of the picture's sides")
        if not (w and h):
            if notes is not None:
                notes["boxes without area, left out"] += 1
            continue
        rows.append((kind, (cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height))
    return np.asarray(rows, float).reshape(-1, 5)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def class_names(folder: Path) -> list[str] | None:
    """The names, in the order of their numbers, that the `classes.txt` in a folder of labels or beside it gives; None
    where there is none. Raises LabelError for one that cannot be read."""
    file = next((each for each in (folder / "classes.txt", folder.parent / "classes.txt") if each.is_file()), None)
    return None if file is None else [line.strip() for line in read_text(file).splitlines()]


def read_leaves(
    path: Path, width: int, height: int, leaves: Sequence[str], *, strict: bool = True, notes: Notes | None = None
) -> NDArray[np.float64]:
    """The rows of `read_labels`, their class one of `leaves` by number: by its name or another that detectors have for
    it (`LeafIndex`), where there is a `classes.txt`, else as the file has it. strict: a name that is no leaf is an
    error; else its rows are left out. `notes` counts what is left out.

    Raises LabelError as `read_labels` does, and for a class that is no leaf.
    """
    names = class_names(path.parent)
    if names is None:
        return read_labels(path, width, height, len(leaves), notes)
    rows = read_labels(path, width, height, notes=notes)
    index = LeafIndex(tuple(map(folded, leaves)))
    found = []
    for kind in rows[:, 0].astype(int).tolist():
        name = folded(names[kind]) if kind < len(names) else ""
        leaf = index.of_name(name)
        if leaf is None:
            said = f" {names[kind]!r} of its classes.txt" if name else ", which its classes.txt does not name,"
            if strict:
                raise LabelError(f"{shown(path)}: class {kind}{said} is no leaf of the taxonomy")
            if notes is not None:
                lacks = f"{names[kind]!r}, no leaf of the taxonomy" if name else f"{kind}, not named in classes.txt"
                notes[f"objects of class {lacks}, left out"] += 1
        found.append(-1 if leaf is None else leaf)
    rows[:, 0] = found
    return rows[rows[:, 0] >= 0]


def _around(points: Sequence[float]) -> tuple[float, float, float, float]:
    """The box (cx, cy, w, h) around a polygon x, y, x, y …"""
    x, y = np.asarray(points[0::2]), np.asarray(points[1::2])
    return float(x.min() + x.max()) / 2, float(y.min() + y.max()) / 2, float(np.ptp(x)), float(np.ptp(y))


def folded(name: str) -> str:
    """A class name as names are compared: whatever its case, spaces around it, and the way in which its accents are
    written (one letter, or letter and mark, as file systems and editors differ in)."""
    return unicodedata.normalize("NFC", name.strip().casefold())


def usable(box: tuple[float, float, float, float], size: tuple[int, int], notes: Notes) -> bool:
    """Whether a box (x0, y0, x1, y1) in pixels of a picture of `size` is one that can be seen there; why not is
    counted. So is one that reaches far out of the picture, as boxes in another form do (corners taken for sides)."""
    width, height = box[2] - box[0], box[3] - box[1]
    if not (width > 0 and height > 0 and all(map(math.isfinite, box))):
        notes["objects whose boxes have no area, left out"] += 1
    elif min(box[2], size[0]) <= max(box[0], 0) or min(box[3], size[1]) <= max(box[1], 0):
        notes["objects outside the picture, left out"] += 1
    else:
        over = max(-box[0], box[2] - size[0]) > FAR_OUT * width or max(-box[1], box[3] - size[1]) > FAR_OUT * height
        if over:
            notes["boxes of which a quarter or more lies outside the picture: are they x, y, width, height?"] += 1
        return True
    return False


class Names:
    """The nodes of a taxonomy by name: makes detections of labels."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self.taxonomy = taxonomy
        self.leaves = list(taxonomy.names(len(taxonomy.levels) - 1))
        self.paths: dict[str, tuple[int, ...]] = {}
        """`folded` name -> path from level 0; a name that several levels have means the finest."""
        for level in range(len(taxonomy.levels)):
            for node, name in enumerate(taxonomy.names(level)):
                leaf = int(np.flatnonzero(taxonomy.owner(level) == node)[0])
                self.paths[folded(name)] = tuple(int(taxonomy.owner(above)[leaf]) for above in range(level + 1))

    def detection(self, number: int, box: Sequence[float], name: str) -> Detection | None:
        """An object with a box (x0, y0, x1, y1); None where the taxonomy does not know the name."""
        path = self.paths.get(folded(name))
        if path is None:
            return None
        names = tuple(self.taxonomy.names(level)[node] for level, node in enumerate(path))
        return Detection(number, (box[0], box[1], box[2], box[3]), path, names, (1.0,) * len(path))

    def yolo(
        self, file: Path, size: tuple[int, int], classes: Sequence[str] | None = None, notes: Notes | None = None
    ) -> tuple[Detection, ...]:
        """The objects of a YOLO file of a picture of `size`. Raises LabelError for a class that is no node."""
        classes, items = classes or self.leaves, []
        for number, (kind, x0, y0, width, height) in enumerate(read_labels(file, *size, notes=notes).tolist()):
            name = classes[int(kind)] if int(kind) < len(classes) else ""
            box = (x0, y0, x0 + width, y0 + height)
            item = self.detection(number, box, name)
            if item is None:
                raise LabelError(
                    f"{shown(file)}: class {int(kind)} is no node of the taxonomy; add a classes.txt of its names"
                )
            if usable(box, size, Notes() if notes is None else notes):
                items.append(item)
        return tuple(items)


def labelled_world(path: Path, camera: Any, taxonomy: Taxonomy, notes: Notes | None = None) -> World:
    """The truth of a camera from a folder of YOLO files (with a `classes.txt`, or the taxonomy's leaves in order), a
    COCO .json file, or a topic of its own bag (`/labels`) whose arrays carry the frames' stamps.

    `notes` counts what was left out. Raises LabelError when no frame has labels, none of the labels can be used, or a
    class is unknown.
    """
    return labelled_worlds(path, [camera], taxonomy, notes)[0]


def labelled_worlds(path: Path, cameras: Sequence[Any], taxonomy: Taxonomy, notes: Notes | None = None) -> list[World]:
    """`labelled_world` of each camera. What is labelled of one says nothing of what another sees: where there are
    several, files are named by stamps that no other camera has. (Topics of one bag and one frame id are one camera's.)

    Raises LabelError as `labelled_world` does, and where a file could be of two cameras.
    """
    notes = Notes() if notes is None else notes
    alone = "labels are of one camera: replay it alone (--topics), or name files by stamps in ns"
    worlds: list[World] = []
    claimed: dict[tuple[str, str], Any] = {}
    for camera in cameras:
        of_bag = not path.exists() and str(path).startswith("/") and hasattr(camera, "bag")
        world, by_stamp, by_number = _labelled(path, camera, Names(taxonomy), notes, of_bag)
        worlds.append(world)
        if by_number and len(cameras) > 1:
            raise LabelError(
                f"{path}: {by_number[0]} is a frame's number, and there are {len(cameras)} cameras; {alone}"
            )
        for name in by_stamp:
            other = claimed.setdefault((str(camera.bag.path) if of_bag else "", name), camera)
            one_bag = getattr(other, "bag", other) is getattr(camera, "bag", camera)
            if not (one_bag and other.frame_id == camera.frame_id):
                raise LabelError(f"{path}: {other.name} and {camera.name} both have a frame of stamp {name}; {alone}")
    return worlds


def _labelled(path: Path, camera: Any, names: Names, notes: Notes, of_bag: bool) -> tuple[World, list[str], list[str]]:
    """The truth of a camera, and the names of the files that were found by stamp, and by number. of_bag: `path` is a
    topic of the camera's bag."""
    crowds: dict[str, tuple[Detection, ...]] = {}
    if of_bag:
        by_frame = _topic(str(path), camera, names, notes)
    elif path.suffix == ".json":
        by_frame, crowds = _coco(path, camera.size, names, notes)
    else:
        by_frame = _yolo(path, camera.size, names, notes)
    stamps = {str(stamp): place for place, stamp in enumerate(camera.stamps_ns)}
    places: dict[int, int] = {}
    for place, number in enumerate(camera.frame_numbers):
        places.setdefault(number, place)
    numbers = {name: end for name in by_frame if name not in stamps and (end := _ending(name)) is not None}
    first = 1 if numbers and min(numbers.values()) >= 1 and max(numbers.values()) == camera.frame_count else 0
    if first:
        notes["files numbered from 1, taken so"] = len(numbers)
    elif numbers and min(numbers.values()) == 1:
        notes[f"files from number 1 to less than {camera.frame_count}, the footage's frames: taken as from 0"] = len(
            numbers
        )
    truths: dict[int, tuple[Detection, ...]] = {}
    owners: dict[int, str] = {}
    for name, found in by_frame.items():
        number = numbers.get(name, -1) - first
        taken = stamps.get(name, places.get(number))
        if taken is None:
            of_footage = 0 <= number < camera.frame_count
            notes[
                "files of frames that are not taken" if of_footage else "files that belong to no frame, left out"
            ] += 1
        elif taken in truths:
            frame = camera.frame_numbers[taken]
            raise LabelError(
                f"{path}: {owners[taken]} and {name} are both of frame {frame}; labels of one camera wanted"
            )
        else:
            truths[taken], owners[taken] = found, name
    if not truths:
        raise LabelError(
            f"{path}: no file is named after the number (0 to {camera.frame_count - 1}) or the stamp in ns of a frame"
            " that is taken"
        )
    if any(number for reason, number in notes.items() if LEFT_OUT in reason) and not any(truths.values()):
        raise LabelError(f"{path}: {_nothing_left(notes)}")
    order = sorted(truths)
    instants = np.array([camera.times_ns[place] / 1e9 for place in order])
    regions = [crowds.get(owners[place], ()) for place in order] if any(crowds.values()) else []
    world = World(instants, [truths[place] for place in order], "labels", regions)
    told = list(owners.values())
    return world, [name for name in told if name in stamps], [name for name in told if name not in stamps]


def _ending(name: str) -> int | None:
    """The number that a file's name ends with, of nine digits at most behind noughts: longer ones are stamps."""
    found = re.search(r"(?<!\d)0*(\d{1,9})$", name)
    return int(found[1]) if found else None


def _yolo(folder: Path, size: tuple[int, int], names: Names, notes: Notes) -> dict[str, tuple[Detection, ...]]:
    if not folder.is_dir():
        raise LabelError(f"{folder}: a folder of YOLO files or a COCO .json file expected")
    classes = class_names(folder)
    files = (file for file in sorted(folder.glob("[!.]*.txt")) if file.name != "classes.txt")
    return {file.stem: names.yolo(file, size, classes, notes) for file in files}


def _coco(
    file: Path, size: tuple[int, int], names: Names, notes: Notes
) -> tuple[dict[str, tuple[Detection, ...]], dict[str, tuple[Detection, ...]]]:
    """Objects, and crowd regions, by the stem of their picture's name. Boxes are scaled from the size that the file
    gives its pictures to the camera's `size`. Crowd regions are counted, and objects of pictures or classes that there
    are not."""
    text = read_text(file)
    try:
        data = json.loads(text)
        images = {item["id"]: (Path(str(item["file_name"])).stem, item, _scale(item, size)) for item in data["images"]}
        categories = {item["id"]: str(item["name"]) for item in data["categories"]}
        annotations = list(data["annotations"])
    except (KeyError, TypeError, ValueError) as error:
        raise LabelError(f"{file}: no COCO file ({type(error).__name__}: {error})") from error
    found: dict[str, list[Detection]] = {name: [] for name, *_ in images.values()}
    crowds: dict[str, list[Detection]] = {name: [] for name in found}
    places: dict[str, str] = {}
    for name, item, _ in images.values():
        if places.setdefault(name, item["file_name"]) != item["file_name"]:
            raise LabelError(
                f"{file}: {places[name]} and {item['file_name']} have one name; labels of one camera wanted"
            )
    for note in annotations:
        try:
            x0, y0, width, height = map(float, note["bbox"] if "bbox" in note else _around_parts(note["segmentation"]))
            picture, category = images.get(note["image_id"]), categories.get(note["category_id"], "")
            crowd = bool(note.get("iscrowd", 0))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            name = note.get("id", "?") if isinstance(note, dict) else note
            raise LabelError(
                f"{file}: annotation {name}: bbox of four numbers, image_id and category_id wanted"
                f" ({type(error).__name__}: {error})"
            ) from error
        if picture is None:
            notes["objects of pictures that the file does not list, left out"] += 1
        else:
            name, _, (across, down) = picture
            box = (x0 * across, y0 * down, (x0 + width) * across, (y0 + height) * down)
            if not usable(box, size, notes):
                continue
            kept = crowds[name] if crowd else found[name]
            made = names.detection(len(kept), box, category)
            if made is None:  # classes that the taxonomy does not know are not asked of it
                notes[f"objects of class {category!r}, which the taxonomy does not have, left out"] += 1
            else:
                kept.append(made)
                if crowd:
                    notes["crowd regions, left out: what is found in them counts neither way"] += 1
    told, regions = ({name: tuple(items) for name, items in kind.items()} for kind in (found, crowds))
    return told, regions


def _scale(item: Any, size: tuple[int, int]) -> tuple[float, float]:
    """How much larger, across and down, a camera of `size` sees what a picture of a COCO file shows; 1 where the file
    does not say how large its picture is. Raises ValueError, TypeError."""
    sides = [float(item.get(name) or 0) for name in ("width", "height")]
    if not all(0 <= side < math.inf for side in sides):
        raise ValueError(f"a picture of {sides[0]:g}x{sides[1]:g}")
    return (size[0] / sides[0] if sides[0] else 1.0, size[1] / sides[1] if sides[1] else 1.0)


def _around_parts(parts: Any) -> tuple[float, float, float, float]:
    """The box (x, y, width, height) around a COCO segmentation: polygons x, y, x, y …, or a run-length mask whose
    `counts` are numbers or COCO's letters. Raises ValueError, TypeError, KeyError."""
    if not isinstance(parts, dict):
        cx, cy, width, height = _around([float(value) for part in parts for value in part])
        return cx - width / 2, cy - height / 2, width, height
    high, wide = map(int, parts["size"])
    counts = parts["counts"]
    edges = np.cumsum(_runs(counts) if isinstance(counts, str) else np.asarray(counts, np.int64))
    begins, ends = edges[0:-1:2], edges[1::2]  # pixels of the object, column after column; runs begin with what is not
    begins, ends = begins[ends > begins], ends[ends > begins]
    if not len(begins) or high < 1 or begins.min() < 0 or ends.max() > high * wide:
        raise ValueError("a mask of no pixel, or of more than its picture has")
    columns = begins // high, (ends - 1) // high
    rows = begins % high, (ends - 1) % high
    whole = bool((columns[0] != columns[1]).any())  # a run that goes on in the next column touches top and bottom
    top, bottom = (0, high - 1) if whole else (int(rows[0].min()), int(rows[1].max()))
    left, right = int(columns[0].min()), int(columns[1].max())
    return float(left), float(top), float(right - left + 1), float(bottom - top + 1)


def _runs(letters: str) -> NDArray[np.int64]:
    """The run lengths in COCO's letters: five bits each from the lowest on, a sixth bit that more follow, signed; from
    the third run on told as the difference to the one before the last (`rleFrString` of COCO's mask API)."""
    runs: list[int] = []
    value = shift = 0
    for letter in letters:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 30:
            raise ValueError(f"{letter!r} in a run-length mask")
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            value -= (1 << shift) if bits & 0x10 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return np.asarray(runs, np.int64)


def _topic(topic: str, camera: Any, names: Names, notes: Notes) -> dict[str, tuple[Detection, ...]]:
    if camera.bag.topics.get(topic) != ARRAY:
        held = [name for name, found in camera.bag.topics.items() if found == ARRAY]
        raise LabelError(f"{topic}: no file and no {ARRAY} topic of the bag; of that type it has {held or 'none'}")
    store = message_store()
    found: dict[str, tuple[Detection, ...]] = {}
    for file in camera.bag.files:
        for _, _, _, data in file.messages(lambda channel: channel.topic == topic):
            message: Any = store.deserialize_cdr(data, ARRAY)
            items: list[Detection] = []
            for one in message.detections:
                name = one.results[0].hypothesis.class_id if one.results else ""
                x, y, wide, high = (
                    one.bbox.center.position.x,
                    one.bbox.center.position.y,
                    one.bbox.size_x,
                    one.bbox.size_y,
                )
                box = (x - wide / 2, y - high / 2, x + wide / 2, y + high / 2)
                item = names.detection(len(items), box, name)
                if item is None:
                    notes[f"objects of class {name!r}, which the taxonomy does not have, left out"] += 1
                elif usable(box, camera.size, notes):
                    items.append(item)
            stamp = message.header.stamp
            found[str(stamp.sec * 10**9 + stamp.nanosec)] = tuple(items)
    return found


def read_photos(images: Path, labels: Path, classes: int, only: Path | None = None) -> list[Labelled]:
    """The photos that `labels` (columns file,label) names in folder `images`; `only`: a list of file names to keep.

    Raises LabelError when a file or column is missing, a label is none of the classes, or nothing is left.
    """
    if not images.is_dir():
        raise LabelError(f"--images: {images} is not a folder")
    try:
        kept = {line.strip() for line in read_text(only).splitlines()} if only else None
    except LabelError as error:
        raise LabelError(f"--split: {error}") from error
    found = []
    try:
        with labels.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if not {"file", "label"} <= set(reader.fieldnames or ()):
                raise LabelError(f"--labels: {labels} has columns {reader.fieldnames}, file and label wanted")
            for row in reader:
                if kept is not None and row["file"] not in kept:
                    continue
                label = row["label"] or ""
                if not label.isdecimal() or int(label) >= classes:
                    raise LabelError(f"--labels: {row['file']} has label {label!r}, expected 0..{classes - 1}")
                path = images / row["file"]
                if not path.is_file():
                    raise LabelError(f"--images: {path} is missing, which --labels names")
                found.append(Labelled(path, int(label)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelError(f"--labels: {labels}: {error}") from error
    if not found:
        raise LabelError(f"--labels: {labels} names no photo to evaluate")
    return found


def read_grouping(path: Path, classes: int) -> NDArray[np.int64]:
    """Each class's cluster from a CSV with columns label,cluster.

    Raises LabelError when the file cannot be read, or does not give every class its cluster.
    """
    clusters = np.full(classes, -1, np.int64)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                clusters[int(row["label"])] = int(row["cluster"])
    except (OSError, KeyError, ValueError, IndexError) as error:
        raise LabelError(f"--groupings: {path}: {type(error).__name__}: {error}; label,cluster wanted") from error
    if (clusters < 0).any():
        raise LabelError(f"--groupings: {path} gives class {int(np.argmin(clusters))} no cluster")
    return clusters
