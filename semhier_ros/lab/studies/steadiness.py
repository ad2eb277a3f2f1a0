"""How steady the readings of a video are: id switches and level flips a minute, of frames alone and followed.

No labels are needed. A reading's objects are linked to those of the frames before by their boxes alone (greedily, by
intersection over union of at least .5, over gaps of up to five frames), with no regard to ids or names. A link whose
ends have different ids is an id switch; a link whose ends have different names at a level is a flip of that level.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from semhier_ros import options as shared
from semhier_ros.api import Codec
from semhier_ros.codec.reading import Detection, Reading
from semhier_ros.command import CommandError
from semhier_ros.lab.footage.video import read_video
from semhier_ros.scene.living import LivingScene

SAME_BOX = 0.5
LONGEST_GAP = 5


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes x0, y0, x1, y1."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return width * height / (areas - width * height)


@dataclass
class Steadiness:
    """Counts over the frames of a video, in order. `objects`: readings of objects; `links`: those found again."""

    frames: int = 0
    objects: int = 0
    links: int = 0
    switches: int = 0
    flips: Counter[int] = field(default_factory=Counter)
    _last: list[tuple[int, Detection]] = field(default_factory=list)

    def add(self, detections: Iterable[Detection]) -> None:
        """The final reading of the next frame."""
        now = list(detections)
        pairs = sorted(
            (
                (overlap(item.box, old.box), -when, place, slot)
                for place, item in enumerate(now)
                for slot, (when, old) in enumerate(self._last)
            ),
            key=lambda pair: (-pair[0], pair[1]),
        )
        taken_now: set[int] = set()
        taken_last: set[int] = set()
        for common, _, place, slot in pairs:
            if common < SAME_BOX:
                break
            if place in taken_now or slot in taken_last:
                continue
            taken_now.add(place)
            taken_last.add(slot)
            self._compare(self._last[slot][1], now[place])
        unseen = [
            (when, old)
            for slot, (when, old) in enumerate(self._last)
            if slot not in taken_last and self.frames - when <= LONGEST_GAP
        ]
        self._last = unseen + [(self.frames, item) for item in now]
        self.frames += 1
        self.objects += len(now)

    def _compare(self, before: Detection, after: Detection) -> None:
        self.links += 1
        self.switches += before.id != after.id
        for level, (old, new) in enumerate(zip(before.path, after.path, strict=False)):
            self.flips[level] += old != new

    def as_dict(self, minutes: float, levels: int) -> dict[str, Any]:
        """Rates a minute of video, and shares of links."""
        links = max(1, self.links)
        return {
            "objects_per_frame": self.objects / max(1, self.frames),
            "links": self.links,
            "id_switches": self.switches,
            "id_switches_per_minute": self.switches / minutes,
            "id_switch_share": self.switches / links,
            "level_flips_per_minute": {f"L{level}": self.flips[level] / minutes for level in range(levels)},
            "level_flip_share": {f"L{level}": self.flips[level] / links for level in range(levels)},
        }


def final_reading(codec: Codec, image: np.ndarray, threshold: float | None) -> list[Reading]:
    """The readings of a picture from block to block, coarsest first."""
    decoder = codec.decoder((image.shape[1], image.shape[0]))
    blocks = codec.encode(image, blocks=codec.semantic_blocks, threshold=threshold)
    return [reading for block in blocks if (reading := decoder.push(block)) is not None]


def frames_per_second(video: Path) -> float:
    """Raises CommandError when the file is no video."""
    capture = cv2.VideoCapture(str(video))
    try:
        rate = float(capture.get(cv2.CAP_PROP_FPS)) if capture.isOpened() else 0.0
    finally:
        capture.release()
    if not 0 < rate < 1000:
        raise CommandError(f"{video}: not a video that OpenCV can read")
    return rate


def evaluate(codec: Codec, video: Path, threshold: float | None, every: int) -> dict[str, Any]:
    """Steadiness of a video's final readings, frames alone and followed. every: each so many-th frame counts."""
    rate = frames_per_second(video) / every
    alone, followed = Steadiness(), Steadiness()
    living: LivingScene | None = None
    for number, frame in enumerate(tqdm(read_video(video), desc=video.name, unit="frame", mininterval=2)):
        if number % every:
            continue
        readings = final_reading(codec, np.ascontiguousarray(frame.image), threshold)
        if living is None:
            living = LivingScene.of(codec.taxonomy, (frame.image.shape[1], frame.image.shape[0]))
        steady = [living.follow(round(number * 1e9 / (rate * every)), reading) for reading in readings]
        alone.add(readings[-1].detections if readings else ())
        followed.add(steady[-1].detections if steady else ())
    minutes = alone.frames / rate / 60
    return {
        "video": video.name,
        "frames": alone.frames,
        "frames_per_second": rate,
        "each_alone": alone.as_dict(minutes, codec.levels),
        "followed": followed.as_dict(minutes, codec.levels),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("videos", type=Path, nargs="+", help="video files")
    shared.model(parser)
    shared.device(parser)
    shared.json(parser)
    parser.add_argument("--threshold", type=float, help="least objectness worth sending (default: the model's own)")
    parser.add_argument("--every", type=int, default=1, help="use each so many-th frame (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    if not 1 <= options.every <= 1000:
        raise CommandError(f"--every {options.every}: outside 1..1000")
    for video in options.videos:
        if not video.is_file():
            raise CommandError(f"{video}: no such file")
    try:
        codec = Codec.load(options.model, options.device, threads=1)
        results = [evaluate(codec, video, options.threshold, options.every) for video in options.videos]
    except ValueError as error:
        raise CommandError(str(error)) from error
    for result in results:
        print(f"{result['video']}: {result['frames']} frames at {result['frames_per_second']:g}/s")
        for kind in ("each_alone", "followed"):
            part = result[kind]
            flips = ", ".join(f"{level} {value:.0f}" for level, value in part["level_flips_per_minute"].items())
            print(
                f"  {kind.replace('_', ' '):>15}: {part['id_switches_per_minute']:.0f} id switches a minute "
                f"({100 * part['id_switch_share']:.1f} % of links), level flips a minute: {flips}"
            )
    if options.json:
        options.json.write_text(json.dumps({"model": options.model, "videos": results}, indent=1) + "\n")
    return 0
