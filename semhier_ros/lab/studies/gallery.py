"""A page of scenes as a base sees them at 50, 150, 600 and 3,000 bytes: ours beside JPEG and WebP of the nearest size.

Ours: boxes and names as known from that many bytes, on the picture that came with them, if one did. JPEG and WebP: the
file nearest in size, of several scales and qualities the one most like the original, read by the very same detector.
The page is one file with nothing to load, for a screen or a phone. Pictures of data sets stay out of the project: make
the page where you need it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from semhier_ros import options as shared
from semhier_ros.api import Codec
from semhier_ros.codec.reading import Detection
from semhier_ros.footage.labels import Names, class_names, find_scenes
from semhier_ros.footage.video import read_picture
from semhier_ros.lab.baselines import Picture, Setting, StillCodec, Transmitted, make, send
from semhier_ros.lab.options import load_codec
from semhier_ros.lab.replay.reader import Reader
from semhier_ros.lab.report.page import render_page
from semhier_ros.lab.scoring.figures import psnr
from semhier_ros.lab.studies.detection import OnceFinder
from semhier_ros.progress import each
from semhier_ros.received import received
from semhier_ros.whole_file import write_whole

BUDGETS = (50, 150, 600, 3000)
OTHERS = ("jpeg", "webp")
SETTINGS = [Setting(*each) for each in product((1.0, 0.7, 0.5, 0.35, 0.25, 0.15, 0.08), (1, 5, 10, 20, 35, 55, 80))]
NEAR = 1.1  # a file this much larger than the budget still counts as of its size


@dataclass(frozen=True)
class Card:
    """One way to see a scene. picture: None where none came. size: its bytes; over: more than the budget."""

    said: str
    picture: Picture | None
    detections: Sequence[Detection]
    size: int | None
    over: bool = False


@dataclass(frozen=True)
class Scene:
    """size: width and height in pixels. rows: heading and cards of each budget."""

    name: str
    size: tuple[int, int]
    original: Card
    rows: Sequence[tuple[str, Sequence[Card]]]


class Painter:
    """Makes the cards of one scene after another, for budgets in bytes. least: score of a box that is drawn."""

    def __init__(self, codec: Codec, budgets: Sequence[int], least: float):
        model: Any = codec.model
        model.finder = OnceFinder(model.finder)
        self.codec, self._budgets, self._least, self._reader = codec, budgets, least, Reader(codec)
        self._others: list[StillCodec] = [make(name) for name in OTHERS]

    def scene(self, name: str, picture: Picture, truth: Sequence[Detection]) -> Scene:
        """The cards of a picture: the original with its labels, then a row for each budget."""
        everything = {codec.name: [sent for _, sent in send(codec, picture, SETTINGS)] for codec in self._others}
        rows = []
        for budget in self._budgets:
            row = [self._ours(picture, budget)]
            for codec in self._others:
                row.append(self._theirs(codec.name, nearest(everything[codec.name], picture, budget), budget))
            rows.append((f"{budget:,} bytes", row))
        drawn = tuple(truth) or self._shown(self._read(picture))
        said = f"the scene, {len(drawn)} objects labelled" if truth else "the scene, read without coding"
        return Scene(name, (picture.shape[1], picture.shape[0]), Card(said, picture, drawn, None), rows)

    def _ours(self, picture: Picture, budget: int) -> Card:
        codec = self.codec
        *_, last = received(codec, picture, max_bytes=budget)
        reading = last.reading
        painted = last.picture() if reading.prefix >= codec.semantic_blocks else None
        over = reading.payload_bytes > budget
        said = f"semhier, {reading.payload_bytes:,} B: as far as {codec.block_names[reading.prefix].replace('_', ' ')}"
        return Card(said, painted, self._shown(reading.detections), reading.payload_bytes, over)

    def _theirs(self, name: str, sent: Transmitted, budget: int) -> Card:
        found = self._shown(self._read(sent.picture))
        times = sent.total_bytes / budget
        said = f"{name}, {sent.total_bytes:,} B" + (f": {times:.0f} times as many" if times > NEAR * 1.3 else "")
        return Card(said, sent.picture, found, sent.total_bytes, times > NEAR)

    def _read(self, picture: Picture) -> tuple[Detection, ...]:
        return self._reader.detect(picture, (picture.shape[1], picture.shape[0]))

    def _shown(self, detections: Sequence[Detection]) -> tuple[Detection, ...]:
        return tuple(item for item in detections if item.scores[0] >= self._least)


def nearest(files: Sequence[Transmitted], picture: Picture, budget: int) -> Transmitted:
    """Of the files that fit `budget` (or nearly) the one most like the picture; else the smallest."""
    fitting = [sent for sent in files if sent.total_bytes <= NEAR * budget]
    if not fitting:
        return min(files, key=lambda sent: sent.total_bytes)
    return max(fitting, key=lambda sent: psnr(sent.picture, picture))


def page(codec: Any, scenes: Sequence[Scene]) -> str:
    """The page as HTML text."""
    groups = codec.taxonomy.names(1) if codec.levels > 1 else ()
    return render_page("gallery.html.j2", codec=codec, scenes=scenes, groups=groups)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.images(parser)
    shared.labels(parser, "folder of YOLO label files of the same names", required=False)
    shared.common(parser, shared.model, shared.device)
    shared.out(parser, None, "folder for index.html")
    shared.renamed(parser, names="--split", count="--limit")
    shared.several(parser, "--bytes", shared.whole(1, 10**9), list(BUDGETS), "budgets", "N")
    parser.set_defaults(limit=12)
    parser.add_argument("--least", type=float, default=0.3, help="least score of a drawn box (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    scenes = find_scenes(options.images, options.labels, options.split)
    chosen = [scenes[place] for place in np.linspace(0, len(scenes) - 1, min(options.limit, len(scenes))).astype(int)]
    codec = load_codec(options.model, options.device, kind="scenes")
    painter, names = Painter(codec, sorted(options.bytes), options.least), Names(codec.taxonomy)
    made = []
    for scene in each(chosen, "scenes"):
        picture = read_picture(scene.picture)
        size = (picture.shape[1], picture.shape[0])
        truth = names.yolo(scene.labels, size, class_names(scene.labels.parent)) if scene.labels is not None else ()
        made.append(painter.scene(scene.picture.name, picture, truth))
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / "index.html"
    write_whole(target, page(codec, made))
    print(target)
    return 0
