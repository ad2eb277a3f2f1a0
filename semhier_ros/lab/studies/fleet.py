"""What many cameras cost one decoder: `semhier measure speed --cameras 1 8 64`.

Two measurements on frames of a video, encoded before. *Cost*: the frames of so many cameras through `camera.fleet` as
fast as they go, on one core (of a CPU device, by its processor time); beside them, in turn, the same frames through a
decoder each, one after another. *Arrivals*: so many cameras send a whole frame so often a second, in real time, to the
fleet's two threads on all cores that the process may use; counted is what came of it in the time: from the arrival of a
frame's first packet to its coarse reading, from its last packet to its picture, pictures a second, and how the time
went: device (networks of pictures, context networks included, on whatever device), entropy coder, host (all else).
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from semhier_ros.api import Codec
from semhier_ros.camera.decoder_end import DecoderEnd, Output
from semhier_ros.camera.fleet import Figures, Fleet, Limits
from semhier_ros.camera.worker import FleetWorker
from semhier_ros.codec.entropy import BlockDecoder, BlockEncoder, Tables
from semhier_ros.codec.packet import Block, Packet
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.footage.video import default_video, read_video
from semhier_ros.lab.options import finish, load_codec
from semhier_ros.lab.scoring.figures import quantiles
from semhier_ros.link.clock import ManualClock

CONTENTS = 16
"""Different frames of the video; camera c begins at frame 3c of them."""
STAMP, SECOND = 1_700_000_000_000_000_000, 1_000_000_000
DRAIN = 2.0
"""Seconds that a run may still take after the last arrival."""


@dataclass
class Material:
    """A model and encoded frames (blocks) of pictures of `size`."""

    codec: Codec
    frames: list[list[Block]]
    size: tuple[int, int]

    def blocks(self, camera: int, number: int) -> list[Block]:
        """Frame `number` of a camera."""
        own = self.frames[(3 * camera + number) % len(self.frames)]
        return [replace(block, frame=number) for block in own]

    def info(self, camera: int) -> StreamInfo:
        """What a camera's encoder says of its stream."""
        codec = self.codec
        return StreamInfo(
            f"camera_{camera}", "lens", *self.size, codec.name, codec.stream_hash, codec.model_hash, STAMP
        )


def packets(blocks: Sequence[Block], stamp_ns: int) -> list[bytes]:
    """A frame's packets: one for each block, the stamp with the first."""
    return [Packet.pack([block], stamp_ns=None if place else stamp_ns) for place, block in enumerate(blocks)]


def fleet_of(
    material: Material, cameras: int, limits: Limits, on_reading: Any, on_picture: Any, errors: list[str], **more: Any
) -> Fleet:
    """A fleet of so many cameras that makes a picture of every whole frame; what goes wrong is told in `errors`."""
    by_hash, names = {material.codec.stream_hash: material.codec}, [f"camera_{number}" for number in range(cameras)]
    report = lambda kind, text: errors.append(f"{kind}: {text}")  # noqa: E731
    return Fleet(
        {name: DecoderEnd(name, by_hash, 16, report, pictures_later=True) for name in names},
        limits,
        on_reading=on_reading,
        on_picture=on_picture,
        wants_picture=lambda end, output: end.is_complete(output.reading),
        on_error=lambda error: errors.append(repr(error)),
        report=report,
        **more,
    )


class Arrivals:
    """Cameras that send to a fleet in real time, and what came of it."""

    def __init__(self, material: Material, cameras: int, company: float) -> None:
        self._material, self._cameras = material, cameras
        self._first: dict[tuple[str, int], float] = {}
        self._last: dict[tuple[str, int], float] = {}
        self.coarse: list[float] = []
        self.pictures: list[float] = []
        self.errors: list[str] = []
        limits = Limits(company=company)
        self.fleet = fleet_of(material, cameras, limits, self._reading, self._picture, self.errors)

    def _reading(self, camera: str, output: Output) -> None:
        if output.reading.level == 0 and (sent := self._first.pop((camera, output.reading.frame), None)) is not None:
            self.coarse.append(time.monotonic() - sent)

    def _picture(self, camera: str, rgb: Any, output: Output) -> None:
        if (sent := self._last.pop((camera, output.reading.frame), None)) is not None:
            self.pictures.append(time.monotonic() - sent)

    def run(self, rate: float, seconds: float) -> dict[str, Any]:
        """`rate` frames a second of every camera, evenly apart, for so many seconds."""
        period = 1 / rate
        events = sorted(
            (number * period + camera * period / self._cameras, camera, number)
            for camera in range(self._cameras)
            for number in range(max(1, round(rate * seconds)))
        )
        ready = [
            (due, f"camera_{camera}", number, packets(self._material.blocks(camera, number), STAMP + round(due * 1e9)))
            for due, camera, number in events
        ]
        worker = FleetWorker(self.fleet)
        try:
            for camera in range(self._cameras):
                worker.put(f"camera_{camera}", self._material.info(camera))
            time.sleep(0.2)
            began, before = time.monotonic(), self.fleet.figures()
            cpu = time.process_time()
            for due, camera_name, number, data in ready:
                time.sleep(max(0.0, began + due - time.monotonic()))
                self._first[camera_name, number] = time.monotonic()
                for one in data[:-1]:
                    worker.put(camera_name, one)
                self._last[camera_name, number] = time.monotonic()
                worker.put(camera_name, data[-1])
            sent = time.monotonic() - began
            while (self.fleet.next_picture() is not None or self._first) and time.monotonic() < began + sent + DRAIN:
                time.sleep(0.01)
            wall, cpu = time.monotonic() - began, time.process_time() - cpu
        finally:
            worker.close()
        return self._result(rate, len(ready), wall, cpu, before, self.fleet.figures())

    def _result(
        self, rate: float, offered: int, wall: float, cpu: float, before: Figures, after: Figures
    ) -> dict[str, Any]:
        batches = after.batches - before.batches
        return {
            "cameras": self._cameras,
            "rate": rate,
            "frames_offered": offered,
            "seconds": round(wall, 2),
            "coarse_ms": quantiles(np.multiply(self.coarse, 1000), 2, median=0.5, p99=0.99),
            "coarse_missing": offered - len(self.coarse),
            "picture_ms": quantiles(np.multiply(self.pictures, 1000), 2, median=0.5, p99=0.99),
            "pictures_per_second": round(len(self.pictures) / wall, 2),
            "pictures_in_a_batch": round((after.batched - before.batched) / batches, 2) if batches else 0.0,
            "share_of_a_second": {
                name: round((getattr(after, name) - getattr(before, name)) / wall, 3)
                for name in ("device", "entropy", "host")
            },
            "cores_busy": round(cpu / wall, 2),
            "packets_dropped": self.fleet.counters["overflow"],
            "problems": self.errors[:3],
        }


def through_fleet(material: Material, cameras: int, number: int, timer: Callable[[], float]) -> dict[str, float]:
    """Milliseconds a frame of so many cameras' frames `number`, together, and of what they consist."""
    errors, shown_pictures = list[str](), list[str]()
    fleet = fleet_of(
        material,
        cameras,
        Limits(),
        lambda camera, output: None,
        lambda camera, rgb, output: shown_pictures.append(camera),
        errors,
        clock=ManualClock(),
        timer=timer,
    )
    for camera in range(cameras):
        fleet.put(f"camera_{camera}", material.info(camera))
    while fleet.read():
        pass
    before = fleet.figures()
    for camera in range(cameras):
        for data in packets(material.blocks(camera, number), STAMP):
            fleet.put(f"camera_{camera}", data)
    began = timer()
    while fleet.read():
        pass
    read = timer()
    while fleet.next_picture() is not None:
        fleet.paint()
    done = timer()
    if errors or len(shown_pictures) != cameras:
        raise RuntimeError(f"{len(shown_pictures)} of {cameras} pictures were made: {errors[:3]}")
    after = fleet.figures()
    spent = {kind: getattr(after, kind) - getattr(before, kind) for kind in ("device", "entropy", "host")}
    whole = {"total": done - began, "readings": read - began, "pictures": done - read, **spent}
    return {name: seconds * 1000 / cameras for name, seconds in whole.items()}


def alone(material: Material, number: int, timer: Callable[[], float]) -> dict[str, float]:
    """Milliseconds of one camera's frame through a decoder of its own, block after block, and its picture."""
    decoder = material.codec.decoder(material.size)
    blocks = material.blocks(number, number)
    semantic = material.codec.semantic_blocks
    times = [timer()]
    for part in (blocks[:semantic], blocks[semantic:]):
        for block in part:
            decoder.push(block)
        times.append(timer())
    decoder.picture(number)
    times.append(timer())
    names = ("readings", "picture_blocks", "painting")
    spent = {name: (b - a) * 1000 for name, a, b in zip(names, times, times[1:], strict=False)}
    return {"total": (times[-1] - times[0]) * 1000, "pictures": (times[-1] - times[1]) * 1000, **spent}


def cost(material: Material, cameras: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """Medians over rounds, in each of which every number of cameras has its turn, and one that decodes alone."""
    found: dict[int, list[dict[str, float]]] = {number: [] for number in (0, *cameras)}
    timer = time.process_time if material.codec.device == "cpu" else time.perf_counter
    for number in range(rounds + 1):  # the first is not counted: graphs are compiled in it
        found[0].append(alone(material, number, timer))
        for count in cameras:
            found[count].append(through_fleet(material, count, number, timer))
    rows = []
    for count, runs in found.items():
        middle = {name: round(statistics.median(run[name] for run in runs[1:]), 2) for name in runs[0]}
        pairs = [ours["total"] / other["total"] for ours, other in zip(runs[1:], found[0][1:], strict=True)]
        rows.append({"cameras": count, "ms_a_frame": middle, "ratio_to_alone": round(statistics.median(pairs), 3)})
    return rows


def footage(codec: Codec, video: Path | None, count: int) -> tuple[tuple[int, int], list[NDArray[np.uint8]]]:
    """The size at which models of this kind are timed, and so many frames of a video (None: the street's) in it."""
    size = (256, 256) if codec.whole_image else (640, 360)
    frames = islice(read_video(video or default_video()), 100, 100 + count)
    shrunk = (cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA) for frame in frames)
    return size, [np.ascontiguousarray(picture, np.uint8) for picture in shrunk]


def measure(options: argparse.Namespace) -> int:
    """Both measurements, as JSON."""
    allowed = os.sched_getaffinity(0)
    codec = load_codec(options.model, options.device, threads=1)
    encoder = codec if codec.device == "cpu" else load_codec(options.model, "cpu", threads=1)
    size, pictures = footage(codec, options.video, CONTENTS)
    material = Material(codec, [encoder.encode(picture) for picture in pictures], size)
    cv2.setNumThreads(1)
    if codec.device == "cpu":
        os.sched_setaffinity(0, {min(allowed)})
    rows = cost(material, options.cameras, options.rounds)
    os.sched_setaffinity(0, allowed)
    arrivals = [
        Arrivals(material, cameras, options.company / 1000).run(rate, options.seconds)
        for cameras in options.cameras
        for rate in options.rates
    ]
    result = {
        "model": codec.name,
        "model_hash": codec.model_hash,
        "device": codec.device,
        "size": f"{size[0]}x{size[1]}",
        "cores": len(allowed),
        "rounds": options.rounds,
        "company_ms": options.company,
        "bytes_a_frame": round(statistics.mean(sum(len(b.data) for b in own) for own in material.frames)),
        "coder_threads": coder_threads(),
        "cost_clock": "processor time" if codec.device == "cpu" else "time",
        "cost": rows,
        "arrivals": arrivals,
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "device_memory_mb": device_memory(codec),
    }
    return finish(result, options.json, "fleet")


def coder_threads(symbols: int = 400_000) -> dict[str, float]:
    """Milliseconds in which the entropy coder reads two blocks, one after the other and by two threads: whether it
    lets other threads run meanwhile."""
    tables = Tables.gaussian([3.0], 60)
    encoder = BlockEncoder()
    encoder.put(np.full(symbols, 60, np.int32), tables, 0)
    data = encoder.finish()

    def decode(_: int) -> None:
        BlockDecoder(data).get(tables, 0, symbols)

    found: dict[str, list[float]] = defaultdict(list)
    with ThreadPoolExecutor(2) as pool:
        for _ in range(5):
            for name, both in (("one after the other", map), ("two threads", pool.map)):
                began = time.perf_counter()
                list(both(decode, range(2)))
                found[name].append((time.perf_counter() - began) * 1000)
    return {name: round(statistics.median(times), 1) for name, times in found.items()}


def device_memory(codec: Codec) -> float | None:
    """Most memory that torch held on a GPU in MB, None without one."""
    if codec.device != "cuda":
        return None
    import torch

    return round(torch.cuda.max_memory_reserved() / (1 << 20), 1)
