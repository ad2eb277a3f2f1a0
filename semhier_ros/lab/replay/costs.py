"""What encoding and decoding take: given by the user, or measured here on a few frames and remembered."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from semhier_ros.lab.baselines.pictures import PictureSetting, decode_picture, encode_picture
from semhier_ros.lab.replay.reader import Reader
from semhier_ros.lab.replay.store import digest
from semhier_ros.lab.streams.base import Costs

FRAMES = 5


def measured(reader: Reader, cameras: Sequence[Any]) -> Costs:
    """Medians over a few frames on this machine, remembered for this model, picture size and machine."""
    camera = cameras[0]
    key = digest("1", platform.node(), reader.codec.model_hash, camera.size, type(reader.codec.model).__name__)
    return Costs(**reader.store.made("costs", key, lambda: _measure(reader, camera)))


def _measure(reader: Reader, camera: Any) -> dict[str, float]:
    codec = reader.codec
    spent: dict[str, list[float]] = {name: [] for name in ("semantic", "picture", "read", "jpeg", "webp", "unpack")}
    count = min(FRAMES, len(camera))
    for place in range(count + 1):
        image = camera.image(place * (len(camera) - 1) // max(1, count))
        clock = _Stopwatch()
        steps = codec.encode_stepwise(image)
        blocks = [next(steps) for _ in range(codec.semantic_blocks)]
        clock.lap(spent["semantic"])
        list(steps)
        clock.lap(spent["picture"])
        decoder = codec.decoder(camera.size)
        for block in blocks:
            decoder.push(block)
        clock.lap(spent["read"])
        for kind in ("jpeg", "webp"):
            clock.start()
            data = encode_picture(image, PictureSetting(kind, 0.6, 25, 1.0, False))
            clock.lap(spent[kind])
        decode_picture(data, camera.size)
        clock.lap(spent["unpack"])
    values = {name: median(laps[1:] or laps) for name, laps in spent.items()}  # the first includes compiling
    h264 = values["jpeg"] * 2  # x264 at such sizes takes about two JPEGs; not measured frame by frame
    return {**values, "detect": values["semantic"] + values["read"], "h264": h264}


class _Stopwatch:
    def __init__(self) -> None:
        self._begin = time.perf_counter()

    def start(self) -> None:
        self._begin = time.perf_counter()

    def lap(self, into: list[float]) -> None:
        now = time.perf_counter()
        into.append(now - self._begin)
        self._begin = now
