"""Average precision of readings at every level of the taxonomy after every prefix of ours, beside reference codecs.

`uncompressed` is the detector's own list with nothing coded. Ours is read from real blocks, at every prefix and
operating point. `answer` is the encoder's own list, entropy-coded. Reference codecs (JPEG, WebP, AVIF, JPEG XL, JPEG
2000) code the picture at several scales and qualities; the very same detector then reads what arrives. COCO's measures,
by faster-coco-eval; rates are lengths of real messages.
"""

from __future__ import annotations

import argparse
import importlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semhier_ros import options as shared
from semhier_ros.api import Codec
from semhier_ros.codec.packet import Block, Packet
from semhier_ros.command import CommandError, for_the_user
from semhier_ros.footage.labels import Scene
from semhier_ros.lab.baselines import NAMES, WITH_PATH, Picture, Setting, StillCodec, make, send
from semhier_ros.lab.baselines.answer import AnswerCoder
from semhier_ros.lab.options import finish, labelled_scenes, load_codec
from semhier_ros.lab.scoring.coco import MOST_PER_NODE, Rows, Truth, rows_of
from semhier_ros.lab.scoring.figures import psnr, summed
from semhier_ros.lab.scoring.frontier import mark_frontier
from semhier_ros.lab.workers import Workers
from semhier_ros.progress import each
from semhier_ros.received import received
from semhier_ros.scene.finders import Finder

OURS = ("semhier", "answer")
BUDGETS = (60, 100, 160, 240)
THRESHOLDS = (0.3, 0.5)
DENSE_THRESHOLD = 0.05  # objectness from which the uncompressed detector's own list goes on
LEAST_CHANCE = 0.01  # probability below which a node isn't listed
STILL_SCALES = (1.0, 0.65, 0.4)


@dataclass(frozen=True, order=True)
class OperatingPoint:
    """How ours is asked to encode: threshold is the least objectness sent, max_bytes what a frame may take."""

    threshold: float
    max_bytes: int | None = None


@dataclass(frozen=True)
class Plan:
    """What to compare. blocks: how many of ours at the first operating point; at the others, the semantic ones.
    answers: thresholds of the bare answer. stills: names of reference codecs. pictures: whether PSNR is wanted. looks:
    how our own detector sees pictures (None: as its model says)."""

    points: tuple[OperatingPoint, ...]
    blocks: int
    answers: tuple[float, ...] = ()
    stills: tuple[str, ...] = ()
    pictures: bool = False
    looks: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Outcome:
    """What one system says of one scene. key: system, then what tells its operating points apart. payload: bytes
    without headers; total: with them. objects: how many are known. psnr: None where no picture was asked for."""

    key: tuple[Any, ...]
    rows: list[Rows]
    payload: int
    total: int
    objects: int
    psnr: float | None = None


@dataclass(frozen=True)
class Judged:
    """One scene: its labels (class, x0, y0, w, h), what is ignored (x0, y0, w, h), and what all systems said."""

    labels: NDArray[np.float64]
    ignored: NDArray[np.float64]
    outcomes: list[Outcome]


class OnceFinder:
    """A finder whose detector runs once per picture: operating points of one scene share its look."""

    def __init__(self, finder: Finder):
        self._finder = finder
        self._image: NDArray[np.uint8] | None = None
        self._seen: Any = None

    def look(self, image: NDArray[np.uint8]) -> Any:
        if self._image is None or not np.array_equal(image, self._image):
            self._seen = self._finder.look(image)
            self._image = image.copy()
        return self._seen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)


def still_settings(codec: StillCodec) -> list[Setting]:
    """The operating points of a reference codec that are tried on scenes."""
    cuts: tuple[int | None, ...] = codec.cuts[3::2] if codec.progressive else (None,)
    qualities = codec.qualities[:4] if not codec.progressive else codec.qualities[:1]
    return [Setting(scale, quality, cut) for scale in STILL_SCALES for quality in qualities for cut in cuts]


class SceneJudge:
    """Holds a scene model and runs every system of a plan on one scene after another.

    Raises CommandError when the model is not one of scenes, ValueError when a codec of the plan is unknown.
    """

    def __init__(self, model_name: str, device: str, plan: Plan):
        codec = load_codec(model_name, device, kind="scenes", looks=plan.looks)
        model: Any = codec.model
        model.finder = OnceFinder(model.finder)
        self.codec, self.plan, self._model = codec, plan, model
        self._answer = AnswerCoder(codec) if plan.answers else None
        self._stills = [make(name) for name in plan.stills]
        self._owners = [np.asarray(codec.taxonomy.owner(level)) for level in range(codec.levels)]

    def judge(self, scene: Scene) -> Judged:
        """A scene's labels and outcomes. Raises FootageError or LabelError, naming the file that cannot be read."""
        picture, labels, ignored = scene.read(self.codec.taxonomy)
        return Judged(labels, ignored, self.outcomes(picture))

    def outcomes(self, picture: Picture) -> list[Outcome]:
        """What every system of the plan says of a picture (H,W,3 uint8 RGB)."""
        found = [Outcome(("uncompressed",), self.dense(picture), 0, 0, 0)]
        for point in self.plan.points:
            found += self._ours(picture, point)
        for threshold in self.plan.answers:
            found += self._answers(picture, threshold)
        for codec in self._stills:
            for setting, sent in send(codec, picture, still_settings(codec)):
                error = psnr(sent.picture, picture) if self.plan.pictures else None
                rows = self.dense(sent.picture)
                found.append(Outcome((codec.name, setting), rows, sent.payload_bytes, sent.total_bytes, 0, error))
        return found

    def dense(self, picture: Picture) -> list[Rows]:
        """The detector's own list with nothing coded: every node of every object with its share of the posterior."""
        size = (picture.shape[1], picture.shape[0])
        finder: Finder = self._model.finder
        listed = finder.listed(finder.look(picture), size, DENSE_THRESHOLD, MOST_PER_NODE)
        result = []
        for owner in self._owners:
            chances = summed(listed.chances, owner)
            which, nodes = np.nonzero(chances >= LEAST_CHANCE)
            shown = np.minimum(chances[which, nodes], 1.0)
            rows = np.concatenate([nodes[:, None], shown[:, None], listed.boxes[which]], axis=1)
            result.append(rows.astype(np.float32))
        return result

    def _ours(self, picture: Picture, point: OperatingPoint) -> list[Outcome]:
        """Every prefix of ours; one that the budget left out says and costs what the one before did."""
        codec, first = self.codec, point == self.plan.points[0]
        count = self.plan.blocks if first else codec.semantic_blocks
        found: list[Outcome] = []
        blocks: list[Block] = []
        for known in received(codec, picture, blocks=count, **asdict(point)):
            blocks.append(known.block)
            reading, painted = known.reading, known.picture() if self.plan.pictures and first else None
            found.append(
                Outcome(
                    ("semhier", point, known.block.index),
                    rows_of(reading.detections, codec.levels),
                    reading.payload_bytes,
                    len(Packet.pack(blocks)),
                    len(reading.detections),
                    None if painted is None else psnr(painted, picture),
                )
            )
        while len(found) < count:
            last = found[-1]
            key = ("semhier", point, len(found))
            found.append(Outcome(key, last.rows, last.payload, last.total, last.objects, last.psnr))
        return found

    def _answers(self, picture: Picture, threshold: float) -> list[Outcome]:
        """The encoder's own list, named down to each level; each depth is a message of its own."""
        assert self._answer is not None
        codec, size = self.codec, (picture.shape[1], picture.shape[0])
        blocks = [block.data for block in codec.encode(picture, blocks=codec.levels, threshold=threshold)]
        found = []
        for depth in range(1, codec.levels + 1):
            data = self._answer.encode(blocks[:depth])
            detections = self._answer.read(data, size, levels=min(depth, len(blocks)))
            rows = rows_of(detections, codec.levels)
            found.append(Outcome(("answer", threshold, depth - 1), rows, len(data), len(data), len(detections)))
        return found


def choose_points(threshold: float, thresholds: Sequence[float], budgets: Sequence[int]) -> tuple[OperatingPoint, ...]:
    """The operating points: the model's own threshold or those given, and each budget at the lowest of them."""
    chosen = [OperatingPoint(value) for value in (thresholds or [threshold])]
    least = min(point.threshold for point in chosen)
    return tuple(dict.fromkeys([*chosen, *(OperatingPoint(least, budget) for budget in budgets)]))


def score_row(truth: Truth, outcomes: Sequence[Outcome], depth: int) -> dict[str, Any]:
    """AP of one system, by its outcomes scene by scene, at levels 0..depth-1, in the words of the result file."""
    row: dict[str, Any] = defaultdict(dict)
    for level in range(depth):
        for name, value in truth.score(level, [one.rows[level] for one in outcomes]).as_row().items():
            row[name][f"L{level}"] = value
    if psnrs := [one.psnr for one in outcomes if one.psnr is not None]:
        row["psnr"] = float(np.mean(psnrs))
    return row


def summarise(judged: Sequence[Judged], codec: Codec) -> dict[str, Any]:
    """The result file's content: `uncompressed` and the rows of every codec, fewest bytes first."""
    names = [codec.taxonomy.names(level) for level in range(codec.levels)]
    truth = Truth.of([scene.labels for scene in judged], codec.taxonomy, [scene.ignored for scene in judged])
    model: Any = codec.model
    result: dict[str, Any] = {
        "model": codec.name,
        "model_hash": codec.model_hash,
        "looks": list(map(str, model.folder.looks)) if model.folder.own_detector else None,
        "scenes": len(judged),
        "boxes": int(sum(len(scene.labels) for scene in judged)),
        "ignored_boxes": int(sum(len(scene.ignored) for scene in judged)),
        "levels": {f"L{level}": list(words) for level, words in enumerate(names)},
    }
    codecs: dict[str, list[dict[str, Any]]] = {}
    systems: dict[tuple[Any, ...], list[Outcome]] = defaultdict(list)
    for outcome in (outcome for scene in judged for outcome in scene.outcomes):
        systems[outcome.key].append(outcome)
    for (kind, *more), outcomes in each(list(systems.items()), "scoring"):
        depth = codec.levels
        if kind == "uncompressed":
            result["uncompressed"] = score_row(truth, outcomes, depth)
            continue
        row: dict[str, Any] = {}
        if kind in OURS:
            point, prefix = more
            depth = min(prefix + 1, codec.levels)
            row = {"prefix": prefix}
            if kind == "semhier":
                row |= {"block": codec.block_names[prefix], "operating_point": asdict(point)}
            else:
                row["operating_point"] = {"threshold": point, "levels": depth}
            row["objects_mean"] = float(np.mean([one.objects for one in outcomes]))
        else:
            row = asdict(more[0])
        payload = [one.payload for one in outcomes]
        row["payload_bytes_mean"] = float(np.mean(payload))
        row["payload_bytes_p95"] = float(np.percentile(payload, 95))
        row["bytes_mean"] = float(np.mean([one.total for one in outcomes]))
        codecs.setdefault(kind, []).append(row | score_row(truth, outcomes, depth))
    for kind, rows in codecs.items():
        if kind not in OURS:
            rows.sort(key=lambda row: row["payload_bytes_mean"])
        mark_frontier(rows, lambda row: row["ap50"])
    result["codecs"] = codecs
    return result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.images(parser)
    shared.labels(parser, "folder of YOLO label files of the same names")
    parser.add_argument("--ignored", type=Path, help="folder of YOLO files of regions that count neither way")
    shared.common(parser, shared.model, shared.device, shared.jobs, shared.json)
    shared.renamed(parser, names="--split", workers="--jobs")
    shared.codecs(
        parser, ["semhier", "answer"], f"what to compare, of semhier, answer, {', '.join((*NAMES, WITH_PATH))}, or all"
    )
    said = f"least objectness worth sending (the model's own, then {','.join(map(str, THRESHOLDS))})"
    shared.several(parser, "--threshold", shared.real(1e-6, 1 - 1e-6), None, said)
    shared.several(parser, "--max-bytes", shared.whole(0, 10**9), list(BUDGETS), "a frame's budget; 0: none")
    shared.several(parser, "--looks", str, None, "how our own detector sees pictures, if not as its model says", "LOOK")
    parser.add_argument("--pictures", action="store_true", help="picture blocks and PSNR too")
    parser.add_argument("--plot", type=Path, help="draw bytes against AP50 as an SVG there")
    shared.written(parser, "plot", folder=False)


def make_plan(options: argparse.Namespace, codec: Codec) -> Plan:
    """What the command line asks for.

    Raises:
        CommandError: a codec or a value that there is not. ModuleNotFoundError: a library that is needed is missing,
            which had better come out before the work than after it.
    """
    importlib.import_module("faster_coco_eval")
    chosen = [*OURS, *NAMES] if options.codecs == ["all"] else options.codecs
    for name in chosen:
        if name not in (*OURS, *NAMES) and not name.startswith(WITH_PATH.partition(":")[0] + ":"):
            raise CommandError(f"--codecs {name}: not one of {', '.join((*OURS, *NAMES, WITH_PATH))}, all")
        if name not in OURS:
            make(name)
    model: Any = codec.model
    own = model.folder.threshold
    thresholds = options.threshold or [own, *(value for value in THRESHOLDS if value > own)]
    budgets = [value for value in options.max_bytes if value]
    return Plan(
        choose_points(own, thresholds, budgets) if "semhier" in chosen else (),
        len(codec.block_names) if options.pictures else codec.semantic_blocks,
        tuple(thresholds) if "answer" in chosen else (),
        tuple(name for name in chosen if name not in OURS),
        options.pictures,
        None if options.looks is None else tuple(options.looks),
    )


def run(options: argparse.Namespace) -> int:
    """Judges every scene, scores every system."""
    scenes = labelled_scenes(options)
    codec = load_codec(options.model, options.device, kind="scenes", looks=options.looks)
    with for_the_user():
        plan = make_plan(options, codec)
    with Workers(options.jobs, len(scenes), SceneJudge, options.model, options.device, plan) as pool:
        judged = list(each(pool.map("judge", [(scene,) for scene in scenes]), "scenes", len(scenes)))
    result = summarise(judged, codec)
    if options.plot:
        from semhier_ros.lab.report.plots import bytes_plot

        titles = ("coarsest level", "groups", "types")
        options.plot.write_text(bytes_plot(result, "ap50", "AP50", titles))
    return finish(result, options.json, "detection")
