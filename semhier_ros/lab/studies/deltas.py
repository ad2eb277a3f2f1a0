"""What a frame costs that refers to what its receiver remembers, on videos: bytes by what they say, and time.

A sender's memory and a receiver's, no link between them but frames that are lost in bursts and reports that come each
`--reports` seconds, `--delay` late. Printed: bytes of memoryless frames and of deltas, bits of a delta by field (ideal
costs of its symbols), and the processor time that coding takes at either end, detector and readings apart.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

import numpy as np

from semhier_ros import options as shared
from semhier_ros.codec.packet import PacketError
from semhier_ros.footage.video import VideoCamera
from semhier_ros.lab.options import finish
from semhier_ros.lab.replay.blocks import SceneObjects
from semhier_ros.lab.replay.reader import Reader, reader_of_videos
from semhier_ros.lab.studies.tables import shown
from semhier_ros.scene.budget import importance
from semhier_ros.scene.objects import code_objects


def evaluate(reader: Reader, path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one video."""
    camera = VideoCamera(path, rate=options.fps, remember=reader.store.made)
    model: Any = reader.codec.model
    find = SceneObjects(reader, camera)
    found = [find(number) for number in range(len(camera))]
    moved = [find.moved(number, number - 1 if number else None) for number in range(len(camera))]
    reader.store.flush()
    sender, receiver = model.sender_memory(options.overlap), model.receiver_memory()
    lost = losses(len(camera), options.loss / 100, options.burst, options.seed)
    reports: deque[tuple[int, bytes]] = deque()
    due, told = 0, b""
    bits: Counter[str] = Counter()
    sizes: dict[str, list[int]] = {"whole": [], "delta": []}
    spent: dict[str, list[float]] = {"delta": [], "whole": [], "read": []}
    counts: Counter[str] = Counter()
    for number, stamp in enumerate(camera.times_ns):
        while reports and reports[0][0] <= stamp:
            sender.heard(reports.popleft()[1])
        objects = found[number]
        counts["objects"] += len(objects)
        sender.begin(number & 0xFFFF, stamp)
        worth = importance(model.stream.layout, objects, moved[number])
        began = time.thread_time()
        data = sender.delta(objects, worth)
        took = time.thread_time() - began
        if data is None:
            code = code_objects(model.stream, model.folder.projection, objects, model.semantic_blocks)
            began = time.thread_time()
            sender.whole(code)
            spent["whole"].append(took + time.thread_time() - began)
            names = [model.stream.encode(index, code) for index in range(model.levels)]
            sizes["whole"].append(sum(map(len, names)))
        else:
            spent["delta"].append(took)
            sizes["delta"].append(len(data))
            bits.update(sender.costs())
        if lost[number]:
            counts["lost"] += 1
        elif data is None:
            receiver.whole(code, model.semantic_blocks - 1, number & 0xFFFF, stamp)
        else:
            began = time.thread_time()
            try:
                receiver.delta(data, number & 0xFFFF, stamp)
            except PacketError:
                counts["refused"] += 1
            spent["read"].append(time.thread_time() - began)
        said = receiver.acknowledgement
        if stamp >= due and said is not None and (said != told or not said):
            reports.append((stamp + round(2e6 * options.delay), said))
            due, told = stamp + round(options.reports * 1e9), said
    deltas = max(1, len(sizes["delta"]))
    every = [*sizes["whole"], *sizes["delta"]]
    return {
        "video": path.name,
        "frames": len(camera),
        "objects_a_frame": round(counts["objects"] / len(camera), 1),
        "bytes_a_frame": round(float(np.mean(every)), 2),
        "whole": {"frames": len(sizes["whole"]), "bytes": _mean(sizes["whole"])},
        "delta": {"frames": len(sizes["delta"]), "bytes": _mean(sizes["delta"])},
        "bits_a_delta": {name: round(value / deltas, 1) for name, value in sorted(bits.items())},
        "lost": counts["lost"],
        "refused": counts["refused"],
        "ms": {name: _mean([1e3 * value for value in values]) for name, values in spent.items()},
        "ms_median": {name: round(float(np.median(values)) * 1e3, 2) for name, values in spent.items() if values},
    }


def losses(count: int, loss: float, burst: float, seed: int) -> list[bool]:
    """Which of `count` frames are lost: a share of them, in runs of `burst` on average (Gilbert 1960)."""
    chance, state, result = random.Random(seed), False, []
    for _ in range(count):
        state = chance.random() >= 1 / burst if state else chance.random() < loss / max(1e-9, (1 - loss) * burst)
        result.append(state)
    return result


def _mean(values: list[Any]) -> float | None:
    return round(float(np.mean(values)), 2) if values else None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("videos", type=Path, nargs="+", help="video files")
    shared.model(parser)
    shared.device(parser)
    shared.json(parser)
    parser.add_argument("--fps", type=shared.real(1, 60), default=12.5, help="frames a second (%(default)s)")
    parser.add_argument("--overlap", type=shared.real(0.3, 0.95), help="below which an object is told (the sender's)")
    parser.add_argument("--reports", type=shared.real(0, 2), default=0.5, help="seconds between reports (%(default)s)")
    parser.add_argument("--delay", type=shared.real(0, 1000), default=80.0, help="one way, in ms (%(default)s)")
    parser.add_argument("--loss", type=shared.real(0, 90), default=0.0, help="frames lost, in percent (%(default)s)")
    parser.add_argument("--burst", type=shared.real(1, 100), default=4.0, help="mean run of losses (%(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="of the losses (%(default)s)")
    parser.add_argument("--cache", type=Path, help="folder of what was computed before (default: replay's)")


def run(options: argparse.Namespace) -> int:
    reader = reader_of_videos(options.videos, options.model, options.device, options.cache)
    result = {"videos": [evaluate(reader, video, options) for video in options.videos]}
    return finish(result, options.json, shown("deltas", result))
