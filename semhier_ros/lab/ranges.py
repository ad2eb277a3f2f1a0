"""`semhier ranges`: lets a model folder paint its pictures in 8-bit integers on CPUs (`codec.painting`).

Of some pictures it is measured what comes into each layer of the synthesis; that goes into the folder, beside the
graphs, as `picture_ranges.json`. As many other pictures, which lie between them, say what it costs: PSNR with every
number of picture blocks, in floats and in integers, and the time on one core, taken in turn.
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
from semhier_ros.codec.graphs import PictureParts, openvino_core
from semhier_ros.codec.painting import RANGES, measure_ranges, write_ranges
from semhier_ros.command import CommandError
from semhier_ros.footage.video import listed, picture_files, read_picture
from semhier_ros.lab.options import finish
from semhier_ros.lab.scoring.figures import psnr


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.model(parser)
    parser.add_argument("--images", type=Path, required=True, metavar="FOLDER", help="pictures such as the model codes")
    shared.split(parser)
    parser.add_argument(
        "--limit", type=shared.whole(1, 10_000), default=60, help="pictures to measure on, as many to check with (60)"
    )
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
        codec = self.codec
        blocks = codec.encode(picture)
        decoder = codec.decoder((picture.shape[1], picture.shape[0]))
        self._given.clear()
        for block in blocks:
            decoder.push(block)
            if block.index >= codec.semantic_blocks - 1:
                decoder.picture(0)
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
    rows = [
        {
            "picture_blocks": number,
            "psnr_floats": round(float(np.mean([one for one, _ in values])), 3),
            "psnr_integers": round(float(np.mean([other for _, other in values])), 3),
            "loss": round(float(np.mean([one - other for one, other in values])), 3),
        }
        for number, values in found.items()
    ]
    return {
        "psnr": rows,
        "ms_floats": round(statistics.median(slow for slow, _ in times), 2),
        "ms_integers": round(statistics.median(fast for _, fast in times), 2),
        "ratio": round(statistics.median(fast / slow for slow, fast in times), 3),
    }


def run(options: argparse.Namespace) -> int:
    """Measures, writes, checks."""
    cv2.setNumThreads(1)
    files = picture_files(options.images) if options.split is None else listed(options.split, options.images)
    if len(files) < 2:
        raise CommandError(f"--images {options.images}: {len(files)} picture, at least 2 wanted")
    chosen = [files[int(place)] for place in np.linspace(0, len(files) - 1, min(2 * options.limit, len(files)))]
    try:
        source = Painted(options.model, "f32")
        folder = source.codec.model.path
        samples = [parts for path in chosen[::2] for parts in source.parts(read_picture(path))]
        made_from = f"{len(chosen[::2])} pictures of {options.images.resolve().parent.name}/{options.images.name}"
        path = write_ranges(folder, measure_ranges(openvino_core(), folder, samples), made_from)
    except (FileNotFoundError, ValueError) as error:  # of the model, of what it lacks, or of a picture
        raise CommandError(str(error)) from error
    result = {"model": source.codec.name, "file": RANGES, "checked_with": len(chosen[1::2])}
    print(path)
    return finish({**result, **check(options.model, chosen[1::2])}, options.json)
