"""Labels of a camera's frames: YOLO text files, a COCO file, or a vision_msgs/Detection2DArray topic of the bag itself.

Classes are names of the taxonomy's nodes.

A frame is found by its number in the camera's run (from 0) or by its header stamp in ns, whichever the files' names
say. Frames without a file are not judged; an empty YOLO file says that nothing is there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from semhier_ros.codec.reading import Detection
from semhier_ros.lab.detection import read_labels
from semhier_ros.lab.streams.judging import World
from semhier_ros.taxonomy import Taxonomy


class LabelError(ValueError):
    """Labels that cannot be used; the message names the file and what is wrong."""


def labelled_world(path: Path, camera: Any, taxonomy: Taxonomy) -> World:
    """The truth of a camera from a folder of YOLO files (with a `classes.txt`, or the taxonomy's leaves in order), a
    COCO .json file, or a topic of its own bag (`/labels`) whose arrays carry the frames' stamps.

    Raises LabelError when no frame has labels or a class is unknown.
    """
    if not path.exists() and str(path).startswith("/") and hasattr(camera, "bag"):
        by_frame = _topic(str(path), camera, taxonomy)
    else:
        by_frame = _coco(path, taxonomy) if path.suffix == ".json" else _yolo(path, camera.size, taxonomy)
    numbers = {str(stamp): number for number, stamp in enumerate(camera.stamps_ns)}
    truths: dict[int, tuple[Detection, ...]] = {}
    for name, found in by_frame.items():
        number = numbers.get(name)
        if number is None and name.isdigit() and int(name) < len(camera):
            number = int(name)
        if number is not None:
            truths[number] = found
    if not truths:
        raise LabelError(f"{path}: no file is named after a frame number (0 to {len(camera) - 1}) or a stamp in ns")
    order = sorted(truths)
    instants = np.array([camera.times_ns[number] / 1e9 for number in order])
    return World(instants, [truths[number] for number in order], "labels")


def paths_by_name(taxonomy: Taxonomy) -> dict[str, tuple[int, ...]]:
    """Name of a node (lower case) -> its path from level 0; a name that several levels have means the finest."""
    paths = {}
    for level in range(len(taxonomy.levels)):
        for node, name in enumerate(taxonomy.names(level)):
            paths[name.lower()] = path_of(taxonomy, level, node)
    return paths


def path_of(taxonomy: Taxonomy, level: int, node: int) -> tuple[int, ...]:
    """The path from level 0 down to `node` of `level`."""
    leaf = int(np.flatnonzero(taxonomy.owner(level) == node)[0])
    return tuple(int(taxonomy.owner(above)[leaf]) for above in range(level + 1))


def _detection(number: int, box: Sequence[float], path: tuple[int, ...], taxonomy: Taxonomy) -> Detection:
    names = tuple(taxonomy.names(level)[node] for level, node in enumerate(path))
    return Detection(number, (box[0], box[1], box[2], box[3]), path, names, (1.0,) * len(path))


def _yolo(folder: Path, size: tuple[int, int], taxonomy: Taxonomy) -> dict[str, tuple[Detection, ...]]:
    if not folder.is_dir():
        raise LabelError(f"{folder}: a folder of YOLO files or a COCO .json file expected")
    listed = next((file for file in (folder / "classes.txt", folder.parent / "classes.txt") if file.is_file()), None)
    last = len(taxonomy.levels) - 1
    names = [line.strip() for line in listed.read_text().splitlines()] if listed else list(taxonomy.names(last))
    known = paths_by_name(taxonomy)
    found = {}
    for file in sorted(folder.glob("*.txt")):
        if file.name == "classes.txt":
            continue
        items = []
        for number, (kind, x0, y0, width, height) in enumerate(read_labels(file, *size)):
            if not 0 <= int(kind) < len(names) or names[int(kind)].lower() not in known:
                raise LabelError(
                    f"{file}: class {int(kind)} is no node of the taxonomy; add a classes.txt of its names"
                )
            path = known[names[int(kind)].lower()]
            items.append(_detection(number, (x0, y0, x0 + width, y0 + height), path, taxonomy))
        found[_number(file.stem)] = tuple(items)
    return found


def _coco(file: Path, taxonomy: Taxonomy) -> dict[str, tuple[Detection, ...]]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        images = {item["id"]: _number(Path(item["file_name"]).stem) for item in data["images"]}
        categories = {item["id"]: str(item["name"]).lower() for item in data["categories"]}
        annotations = data["annotations"]
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise LabelError(f"{file}: no COCO file ({type(error).__name__}: {error})") from error
    known = paths_by_name(taxonomy)
    found: dict[str, list[Detection]] = {name: [] for name in images.values()}
    for item in annotations:
        name = categories.get(item["category_id"], "")
        if name not in known:
            continue  # classes that the taxonomy does not know are not asked of it
        x0, y0, width, height = item["bbox"]
        kept = found[images[item["image_id"]]]
        kept.append(_detection(len(kept), (x0, y0, x0 + width, y0 + height), known[name], taxonomy))
    return {name: tuple(items) for name, items in found.items()}


def _topic(topic: str, camera: Any, taxonomy: Taxonomy) -> dict[str, tuple[Detection, ...]]:
    from semhier_ros.lab.replay.bag_out import vision_types

    kind = "vision_msgs/msg/Detection2DArray"
    if camera.bag.topics.get(topic) != kind:
        held = [name for name, found in camera.bag.topics.items() if found == kind]
        raise LabelError(f"{topic}: no file and no {kind} topic of the bag; of that type it has {held or 'none'}")
    vision_types(camera.bag.store)
    known = paths_by_name(taxonomy)
    found: dict[str, tuple[Detection, ...]] = {}
    for file in camera.bag.files:
        for _, _, _, data in file.messages(lambda channel: channel.topic == topic):
            message: Any = camera.bag.store.deserialize_cdr(data, kind)
            items: list[Detection] = []
            for item in message.detections:
                name = item.results[0].hypothesis.class_id.lower() if item.results else ""
                if name in known:
                    x, y = item.bbox.center.position.x, item.bbox.center.position.y
                    wide, high = item.bbox.size_x / 2, item.bbox.size_y / 2
                    box = (x - wide, y - high, x + wide, y + high)
                    items.append(_detection(len(items), box, known[name], taxonomy))
            stamp = message.header.stamp
            found[str(stamp.sec * 10**9 + stamp.nanosec)] = tuple(items)
    return found


def _number(stem: str) -> str:
    return str(int(stem)) if stem.isdigit() else stem
