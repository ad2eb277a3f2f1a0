"""`semhier ranges`: lets a model folder run networks in 8-bit integers on CPUs: what paints, and a detector of ours.

Of some pictures it is measured what comes into each layer (`codec.integers`); that goes into the folder, beside the
graphs, as `picture_ranges.json` and `detector_ranges.json`. As many other pictures, which lie between them, say what it
costs. Painting: PSNR with every number of picture blocks, in floats and in integers. The detector: how many of the
objects that it finds in floats it finds in integers too, and the other way round. And the time on one core, taken in
turn. What integers cost in AP says `semhier measure beside` with and without `--precision f32`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from semhier_ros import options as shared
from semhier_ros.api import Codec
from semhier_ros.codec.canvas import Canvas
from semhier_ros.codec.graphs import PictureParts, openvino_core
from semhier_ros.codec.painting import RANGES, measure_ranges, write_ranges
from semhier_ros.command import CommandError, for_the_user
from semhier_ros.footage.video import listed, picture_files, read_picture
from semhier_ros.lab.options import finish
from semhier_ros.lab.scoring.figures import psnr
from semhier_ros.received import received
from semhier_ros.scene.backend import DETECTOR_RANGES, measure_detector, write_detector_ranges
from semhier_ros.scene.budget import overlaps
from semhier_ros.scene.model import SceneModel

PARTS = ("detector", "pictures")
SAME = 0.5  # intersection over union from which an object found in integers is one found in floats


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.model(parser)
    parser.add_argument("--images", type=Path, required=True, metavar="FOLDER", help="pictures such as the model codes")
    shared.split(parser)
    parser.add_argument("--part", choices=PARTS, nargs="+", help="of which network (of all that the model has)")
    parser.add_argument(
        "--floats", nargs="+", default=[], metavar="LAYER", help="layers of what paints that stay in floats: linear …"
    )
    shared.option(parser, "--limit", shared.whole(1, 10_000), 60, "pictures to measure on, as many to check with")
    shared.json(parser)


class Painted:
    """A codec, and what its synthesis was given last."""

    def __init__(self, model: str, precision: str) -> None:
        self.codec = Codec.load(model, "cpu", threads=1, precision=precision)
        self._backend: Any = self.codec.model.backend  # type: ignore[attr-defined]
        self._real = self._backend.synthesise
        self._backend.synthesise = self._synthesise
        self._given: list[PictureParts] = []

    def _synthesise(self, *parts: Any) -> NDArray[np.uint8]:
        self._given.append(parts)
        return np.asarray(self._real(*parts))

    def parts(self, picture: NDArray[np.uint8]) -> list[PictureParts]:
        """What the synthesis is given of a picture after all semantic blocks, then after each picture block."""
        self._given.clear()
        for known in received(self.codec, picture):
            if known.block.index >= self.codec.semantic_blocks - 1:
                known.picture()
        return list(self._given)

    def paint(self, parts: PictureParts) -> tuple[NDArray[np.uint8], float]:
        """The canvas, and the ms that it took."""
        began = time.perf_counter()
        found = np.asarray(self._real(*parts))
        return found, (time.perf_counter() - began) * 1000


def check(model: str, pictures: Sequence[Path]) -> dict[str, Any]:
    """PSNR between what was analysed and what is painted, in floats and in integers, by number of picture blocks; ms of
    a canvas, medians, and the median of their ratio."""
    floats, integers = Painted(model, "f32"), Painted(model, "auto")
    found: dict[int, list[tuple[float, float]]] = {}
    times: list[tuple[float, float]] = []
    for path in pictures:
        analysed: list[NDArray[np.uint8]] = []
        backend: Any = floats.codec.model.backend  # type: ignore[attr-defined]
        real = backend.analyse
        backend.analyse = lambda canvas, keep=analysed, real=real: (keep.append(canvas), real(canvas))[1]
        all_parts = floats.parts(read_picture(path))
        backend.analyse = real
        for number, parts in enumerate(all_parts):
            (one, slow), (other, fast) = floats.paint(parts), integers.paint(parts)
            found.setdefault(number, []).append((psnr(one, analysed[0]), psnr(other, analysed[0])))
            times.append((slow, fast))
    rows = []
    for number, values in found.items():
        one, other = np.mean(values, axis=0).tolist()
        figures = {"psnr_floats": one, "psnr_integers": other, "loss": one - other}
        rows.append({"picture_blocks": number, **{name: round(value, 3) for name, value in figures.items()}})
    return {"psnr": rows, **_medians(times)}


def _medians(times: Sequence[Sequence[float]]) -> dict[str, float]:
    """Medians of ms in floats and in integers, and of their ratio."""
    return {
        "ms_floats": round(statistics.median(slow for slow, _ in times), 2),
        "ms_integers": round(statistics.median(fast for _, fast in times), 2),
        "ratio": round(statistics.median(fast / slow for slow, fast in times), 3),
    }


def measure_looks(model: SceneModel, pictures: Sequence[Path], made_from: str) -> Path:
    """Writes the ranges of a scene model's own detector, as it looks at pictures."""
    canvases = []
    for path in pictures:
        picture = read_picture(path)
        source = (picture.shape[1], picture.shape[0])
        canvases += [Canvas(*look.size, source=source).place(picture) for look in model.folder.looks]
    return write_detector_ranges(model.path, measure_detector(openvino_core(), model.path, canvases), made_from)


def check_looks(model: str, pictures: Sequence[Path]) -> dict[str, Any]:
    """Of the objects that are worth sending, the share found in floats that is found in integers too, the other way
    round, and their overlap; ms of a picture, medians, and the median of their ratio."""
    codecs = [Codec.load(model, "cpu", threads=1, precision=precision) for precision in ("f32", "auto")]
    found, times, shared_boxes = [0, 0], [], []
    for path in pictures:
        picture, boxes, spent = read_picture(path), [], []
        for codec in codecs:
            own: Any = codec.model
            began = time.perf_counter()
            boxes.append(own.find(picture).boxes.astype(np.float64))
            spent.append((time.perf_counter() - began) * 1000)
        times.append(spent)
        found = [count + len(own) for count, own in zip(found, boxes, strict=True)]
        if len(boxes[0]) and len(boxes[1]):
            best = overlaps(boxes[0], boxes[1]).max(axis=1)
            shared_boxes += best[best >= SAME].tolist()
    times = times[1:] or times  # the first pays for compiling
    return {
        "objects_floats": found[0],
        "objects_integers": found[1],
        "kept": round(len(shared_boxes) / max(found[0], 1), 4),
        "added": round(1 - len(shared_boxes) / max(found[1], 1), 4),
        "overlap": round(statistics.mean(shared_boxes), 4) if shared_boxes else None,
        **_medians(times),
    }


def run(options: argparse.Namespace) -> int:
    cv2.setNumThreads(1)
    files = picture_files(options.images) if options.split is None else listed(options.split, options.images)
    if len(files) < 2:
        raise CommandError(f"--images {options.images}: {len(files)} picture, at least 2 wanted")
    chosen = [files[int(place)] for place in np.linspace(0, len(files) - 1, min(2 * options.limit, len(files)))]
    source_of = (options.split or options.images).resolve()
    made_from = f"{len(chosen[::2])} pictures of {source_of.parent.name}/{source_of.name}"
    with for_the_user(FileNotFoundError, ValueError):  # of the model, of what it lacks, or of a picture
        source = Painted(options.model, "f32")
        model = source.codec.model
        looks = isinstance(model, SceneModel) and model.folder.own_detector
        parts = options.part or PARTS[0 if looks else 1 :]
        if "detector" in parts and not looks:
            raise CommandError(f"--part detector: model {source.codec.name} has no detector of its own")
        result: dict[str, Any] = {"model": source.codec.name, "checked_with": len(chosen[1::2])}
        if "detector" in parts:
            assert isinstance(model, SceneModel)
            print(measure_looks(model, chosen[::2], made_from))
            result["detector"] = {"file": DETECTOR_RANGES, **check_looks(options.model, chosen[1::2])}
        if "pictures" in parts:
            samples = [given for path in chosen[::2] for given in source.parts(read_picture(path))]
            ranges = measure_ranges(openvino_core(), model.path, samples)
            owners = {name: name.partition("/")[0] for name in ranges}
            if unknown := set(options.floats) - set(owners.values()):
                known = ", ".join(dict.fromkeys(owners.values()))
                raise CommandError(f"--floats {sorted(unknown)[0]}: not one of {known}")
            kept = {name: ends for name, ends in ranges.items() if owners[name] not in options.floats}
            print(write_ranges(model.path, kept, made_from))
            result["pictures"] = {"file": RANGES, **check(options.model, chosen[1::2])}
    return finish(result, options.json)
