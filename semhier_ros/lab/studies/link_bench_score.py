"""From what the ends of a run wrote to a row's figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from semhier_ros.codec.reading import Detection
from semhier_ros.lab.replay.reader import Reader
from semhier_ros.lab.replay.store import unpack_bytes, unpack_detections
from semhier_ros.lab.scoring.agreement import average_precision
from semhier_ros.lab.streams.base import FrameStream
from semhier_ros.lab.studies.link_bench_clip import Clip


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The entries of a file of JSON lines; a last line that was cut off is left out."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


class Seen:
    """What the base knew of each frame: `first[camera, number]` = ms from stamp to the first coarse reading, and the
    best reading's detections.
    """

    def __init__(self) -> None:
        self.first: dict[tuple[str, int], float] = {}
        self.at_ns: dict[tuple[str, int], int] = {}
        self.stamp_ns: dict[tuple[str, int], int] = {}
        self.best: dict[tuple[str, int], tuple[Detection, ...]] = {}

    def add(self, camera: str, number: int, stamp_ns: int, at_ns: int, detections: tuple[Detection, ...]) -> None:
        """A reading of a frame, in order of arrival."""
        key = camera, number
        if key not in self.first:
            self.first[key] = (at_ns - stamp_ns) / 1e6
            self.at_ns[key] = at_ns
            self.stamp_ns[key] = stamp_ns
        self.best[key] = detections


def blocks_seen(log: Path, numbers: dict[tuple[str, int], int]) -> tuple[Seen, dict[str, Any]]:
    """Of a semhier run's receiver: what was seen, and its summary. `numbers`: the frame of each (camera, stamp)."""
    seen, summary = Seen(), {}
    for entry in read_lines(log):
        if "summary" in entry:
            summary = entry["summary"]
        elif (number := numbers.get((entry["camera"], entry["stamp"]))) is not None:
            seen.add(entry["camera"], number, entry["stamp"], entry["at"], unpack_detections(entry["detections"]))
    return seen, summary


def stream_seen(
    log: Path, stream: FrameStream, cameras: Sequence[Clip], start_ns: int, detector_seconds: float
) -> Seen:
    """Of a baseline's receiver: its pictures are decoded and detected now, which takes `detector_seconds` each."""
    receiver = stream.receiver(cameras)
    names = [camera.name for camera in cameras]
    seen = Seen()
    for entry in read_lines(log):
        place = names.index(entry["camera"])
        for answer in receiver.push(place, unpack_bytes(entry["payload"]), (entry["at"] - start_ns) / 1e9):
            at = entry["at"] + round(detector_seconds * 1e9)
            stamp = start_ns + cameras[place].times_ns[answer.number]
            seen.add(entry["camera"], answer.number, stamp, at, answer.detections)
    return seen


def quantiles(values: Sequence[float]) -> dict[str, float | None]:
    """Median, 95th percentile and maximum."""
    if not values:
        return {"p50": None, "p95": None, "max": None}
    return {
        name: round(float(np.quantile(values, share)), 1) for name, share in (("p50", 0.5), ("p95", 0.95), ("max", 1))
    }


def agreement(seen: Seen, cameras: Sequence[Clip], reader: Reader) -> float | None:
    """Coarse AP50 of the frames that arrived, against the detector on the same frames uncompressed."""
    by_name = {camera.name: camera for camera in cameras}
    answers, references = [], []
    for (name, number), detections in seen.best.items():
        answers.append(detections)
        references.append(reader.reference(by_name[name], number))
    found = average_precision(answers, references, 0) if answers else None
    return None if found is None else round(found, 4)


def phases(seen: Seen, start_ns: int, changes: Sequence[float], end: float) -> list[dict[str, float | None]]:
    """Of each part of a run between changes of the link: the latest coarse reading, in all and of frames stamped after
    the part's first second.
    """
    bounds = [0.0, *changes, end]
    result = []
    for begin, until in pairwise(bounds):
        late = {
            name: [
                ms for key, ms in seen.first.items() if begin + settle <= (seen.stamp_ns[key] - start_ns) / 1e9 < until
            ]
            for name, settle in (("all", 0.0), ("after_1s", 1.0))
        }
        result.append(
            {
                "from_s": begin,
                "latest_ms": max(late["all"], default=None),
                "latest_ms_after_1s": max(late["after_1s"], default=None),
            }
        )
    return result


def after_outage(seen: Seen, end_ns: int) -> dict[str, float | None]:
    """Seconds from an outage's end to the first reading of a frame, and the oldest that showed after it (s)."""
    later = sorted((seen.at_ns[key], seen.first[key]) for key in seen.first if seen.at_ns[key] >= end_ns)
    if not later:
        return {"first_s": None, "oldest_s": None}
    return {"first_s": round((later[0][0] - end_ns) / 1e9, 3), "oldest_s": round(max(ms for _, ms in later) / 1e3, 3)}
