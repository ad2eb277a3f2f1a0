"""How steady the readings of a video are: id switches and level flips a minute, of frames alone and followed.

No labels are needed. A reading's objects are linked to those of the frames before by their boxes alone (greedily, by
intersection over union of at least .5, over gaps of up to five frames), with no regard to ids or names. A link whose
ends have different ids is an id switch; a link whose ends have different names at a level is a flip of that level.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from semhier_ros import options as shared
from semhier_ros.api import Codec
from semhier_ros.codec.reading import Detection
from semhier_ros.command import CommandError
from semhier_ros.footage.video import VideoCamera, check_moves
from semhier_ros.lab.options import finish, load_codec
from semhier_ros.lab.scoring.streaming import overlaps, pairs_of
from semhier_ros.progress import each
from semhier_ros.received import received
from semhier_ros.scene.living import LivingScene

LONGEST_GAP = 5


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
        pairs = pairs_of(overlaps(now, [old for _, old in self._last]))
        for place, slot in pairs:
            self._compare(self._last[slot][1], now[place])
        again = {slot for _, slot in pairs}
        lost = [one for slot, one in enumerate(self._last) if slot not in again]
        unseen = [(when, old) for when, old in lost if self.frames - when <= LONGEST_GAP]
        self._last = [(self.frames, item) for item in now] + unseen  # of equal overlaps the one seen last counts
        self.frames += 1
        self.objects += len(now)

    def _compare(self, before: Detection, after: Detection) -> None:
        self.links += 1
        self.switches += before.id != after.id
        for level, (old, new) in enumerate(zip(before.path, after.path, strict=False)):
            self.flips[level] += old != new

    def as_dict(self, minutes: float, levels: int) -> dict[str, Any]:
        """Rates a minute of video."""
        return {
            "objects_per_frame": self.objects / max(1, self.frames),
            "links": self.links,
            "id_switches": self.switches,
            "id_switches_per_minute": self.switches / minutes,
            "level_flips_per_minute": {f"L{level}": self.flips[level] / minutes for level in range(levels)},
        }


def evaluate(codec: Codec, video: Path, threshold: float | None, every: int) -> dict[str, Any]:
    """Steadiness of a video's final readings, frames alone and followed. every: each so many-th frame counts.
    Raises FootageError where it has but one frame."""
    camera = VideoCamera(video, width=1 << 15)
    check_moves(camera)
    rate = 1e9 / median(b - a for a, b in pairwise(camera.times_ns)) / every
    alone, followed = Steadiness(), Steadiness()
    living = LivingScene.of(codec.taxonomy, camera.size)
    for number in each(range(0, len(camera), every), video.name):
        coming = received(codec, camera.image(number), blocks=codec.semantic_blocks, threshold=threshold)
        readings = [known.reading for known in coming]
        steady = [living.follow(camera.times_ns[number], reading) for reading in readings]
        alone.add(readings[-1].detections)
        followed.add(steady[-1].detections)
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
    shared.common(parser, shared.model, shared.device, shared.json)
    said = "least objectness worth sending (the model's own)"
    shared.option(parser, "--threshold", shared.real(1e-6, 1 - 1e-6), None, said)
    shared.option(parser, "--every", shared.whole(1, 1000), 1, "use each so many-th frame")


def run(options: argparse.Namespace) -> int:
    """Follows the objects of every video."""
    for video in options.videos:
        if not video.is_file():
            raise CommandError(f"{video}: no such file")
    codec = load_codec(options.model, options.device, kind="scenes")
    results = [evaluate(codec, video, options.threshold, options.every) for video in options.videos]
    result = {"model": options.model, "model_hash": codec.model_hash, "videos": results}
    return finish(result, options.json, "steadiness")
