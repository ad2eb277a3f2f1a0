"""Average precision of readings at every level of the taxonomy after every prefix of ours, beside reference codecs.

`uncompressed` is the detector's own list with nothing coded. Ours is read from real blocks, at every prefix and
operating point. `answer` is the encoder's own list, entropy-coded. Reference codecs (JPEG, WebP, AVIF, JPEG XL, JPEG
2000) code the picture at several scales and qualities; the very same detector then reads what arrives. COCO's measures,
by faster-coco-eval; rates are lengths of real messages.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from semhier_ros import options as shared
from semhier_ros.api import Codec
from semhier_ros.command import CommandError
from semhier_ros.lab.baselines import NAMES, WITH_PATH, make
from semhier_ros.lab.footage.labels import Scene, find_scenes, read_labels
from semhier_ros.lab.footage.video import read_picture
from semhier_ros.lab.scoring.coco import LevelScore, Rows, Truth
from semhier_ros.lab.scoring.frontier import mark_frontier
from semhier_ros.lab.studies.detection_scene import Outcome, Plan, SceneJudge, choose_points

OURS = ("semhier", "answer")
BUDGETS = (60, 100, 160, 240)
THRESHOLDS = (0.3, 0.5)


@dataclass(frozen=True)
class Judged:
    """One scene: its labels and what every system said of it."""

    labels: NDArray[np.float64]
    outcomes: list[Outcome]


_judge: SceneJudge | None = None


def _start_worker(cores: Any, model: str, device: str, plan: Plan) -> None:
    """Each worker keeps to a core of its own."""
    global _judge
    core = cores.get()
    if core is not None:
        os.sched_setaffinity(0, {core})
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the command, which ends its workers
    cv2.setNumThreads(1)
    _judge = SceneJudge(Codec.load(model, device, threads=1), plan)


def _judge_scene(scene: Scene) -> Judged:
    assert _judge is not None
    picture = read_picture(scene.picture)
    leaves = _judge.codec.taxonomy.sizes[-1]
    assert scene.labels is not None
    labels = read_labels(scene.labels, picture.shape[1], picture.shape[0], leaves)
    return Judged(labels, _judge.outcomes(picture))


def judge_scenes(scenes: Sequence[Scene], model: str, device: str, plan: Plan, workers: int) -> Iterator[Judged]:
    """Every scene under every system of the plan, in order, by so many processes.

    Raises:
        ValueError: a picture or a label file cannot be read; the message names it.
    """
    context = multiprocessing.get_context("spawn")
    cores = context.Queue()
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    for number in range(workers):
        cores.put(allowed[-1 - number % len(allowed)] if allowed and device == "cpu" else None)
    with context.Pool(workers, _start_worker, (cores, model, device, plan)) as pool:
        yield from pool.imap(_judge_scene, scenes)


@dataclass
class _System:
    """One system over all scenes."""

    key: tuple[Any, ...]
    found: list[list[Rows]]
    payload: list[int]
    total: list[int]
    objects: list[int]
    psnr: list[float]


def gather(judged: Sequence[Judged]) -> list[_System]:
    """The systems' outcomes, scene by scene."""
    systems: dict[tuple[Any, ...], _System] = {}
    for scene in judged:
        for outcome in scene.outcomes:
            system = systems.setdefault(outcome.key, _System(outcome.key, [], [], [], [], []))
            system.found.append(outcome.rows)
            system.payload.append(outcome.payload)
            system.total.append(outcome.total)
            system.objects.append(outcome.objects)
            if outcome.psnr is not None:
                system.psnr.append(outcome.psnr)
    return list(systems.values())


def score_row(truth: Truth, system: _System, depth: int) -> dict[str, Any]:
    """AP of one system at levels 0..depth-1, in the words of the result file."""
    scores: dict[str, LevelScore] = {
        f"L{level}": truth.score(level, [rows[level] for rows in system.found]) for level in range(depth)
    }
    row: dict[str, Any] = {
        "ap50": {level: score.ap50 for level, score in scores.items()},
        "ap": {level: score.ap for level, score in scores.items()},
        "ap50_by_size": {level: score.sizes for level, score in scores.items()},
        "ap50_by_class": {level: score.nodes for level, score in scores.items()},
    }
    if system.psnr:
        row["psnr"] = float(np.mean(system.psnr))
    return row


def summarise(judged: Sequence[Judged], codec: Codec) -> dict[str, Any]:
    """The result file's content: `uncompressed` and the rows of every codec, fewest bytes first."""
    names = [codec.taxonomy.names(level) for level in range(codec.levels)]
    owners = [np.asarray(codec.taxonomy.owner(level)) for level in range(codec.levels)]
    truth = Truth([scene.labels for scene in judged], owners, names)
    result: dict[str, Any] = {
        "model": codec.name,
        "model_hash": codec.model_hash,
        "scenes": len(judged),
        "boxes": int(sum(len(scene.labels) for scene in judged)),
        "levels": {f"L{level}": list(words) for level, words in enumerate(names)},
    }
    codecs: dict[str, list[dict[str, Any]]] = {}
    systems = gather(judged)
    for system in tqdm(systems, desc="scoring", unit="system", mininterval=2):
        kind = system.key[0]
        depth = codec.levels
        if kind == "uncompressed":
            result["uncompressed"] = score_row(truth, system, depth)
            continue
        row: dict[str, Any] = {}
        if kind in OURS:
            depth = min(system.key[2] + 1, codec.levels)
            row = {"prefix": system.key[2]}
            if kind == "semhier":
                point = system.key[1]
                row["block"] = codec.block_names[system.key[2]]
                row["operating_point"] = {"threshold": point.threshold, "max_bytes": point.max_bytes}
            else:
                row["operating_point"] = {"threshold": system.key[1], "levels": depth}
            row["objects_mean"] = float(np.mean(system.objects))
        else:
            setting = system.key[1]
            row = {"scale": setting.scale, "quality": setting.quality, "cut": setting.cut}
        row["payload_bytes_mean"] = float(np.mean(system.payload))
        row["payload_bytes_p95"] = float(np.percentile(system.payload, 95))
        row["bytes_mean"] = float(np.mean(system.total))
        codecs.setdefault(kind, []).append(row | score_row(truth, system, depth))
    for kind, rows in codecs.items():
        if kind not in OURS:
            rows.sort(key=lambda row: row["payload_bytes_mean"])
        mark_frontier(rows, lambda row: row["ap50"])
    result["codecs"] = codecs
    return result


def bytes_needed(rows: Sequence[dict[str, Any]], level: str, ap50: float) -> float | None:
    """The fewest mean payload bytes at which a codec reaches `ap50` at `level`; None when it never does."""
    enough = [row["payload_bytes_mean"] for row in rows if row["ap50"].get(level, -1.0) >= ap50]
    return min(enough, default=None)


def table(result: dict[str, Any]) -> str:
    """What the terminal shows: uncompressed, ours, and the bytes that everyone needs for nearly that."""
    levels = list(result["uncompressed"]["ap50"])
    words = "  ".join(f"{level} {result['uncompressed']['ap50'][level]:.3f}" for level in levels)
    lines = [f"{result['scenes']} scenes, {result['boxes']} boxes; AP50 uncompressed: {words}"]
    for kind, rows in result["codecs"].items():
        for row in rows:
            if not row["best_at"]:
                continue
            scores = "  ".join(f"{level} {value:.3f}" for level, value in row["ap50"].items())
            what = row.get("operating_point") or {"scale": row["scale"], "quality": row["quality"], "cut": row["cut"]}
            said = " ".join(f"{name} {value:g}" for name, value in what.items() if value is not None)
            place = row.get("block", "")
            lines.append(f"{kind:>18} {row['payload_bytes_mean']:9.1f} B  {scores:<32} {place} {said}")
    lines.append("bytes for AP50 within 2 points of uncompressed:")
    for kind, rows in result["codecs"].items():
        needed = [bytes_needed(rows, level, result["uncompressed"]["ap50"][level] - 0.02) for level in levels]
        shown = "  ".join(
            f"{level} {'never' if n is None else format(n, '.0f')}" for level, n in zip(levels, needed, strict=True)
        )
        lines.append(f"{kind:>18}  {shown}")
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.images(parser)
    shared.labels(parser, "folder of YOLO label files of the same names")
    shared.model(parser)
    shared.device(parser)
    shared.jobs(parser)
    shared.json(parser)
    shared.renamed(parser, names="--split", workers="--jobs")
    shared.codecs(
        parser, ["semhier", "answer"], f"what to compare, of semhier, answer, {', '.join((*NAMES, WITH_PATH))}, or all"
    )
    parser.add_argument(
        "--threshold",
        action=shared.Listed,
        each=float,
        help=f"least objectness worth sending (the model's own, then {','.join(map(str, THRESHOLDS))})",
    )
    parser.add_argument(
        "--max-bytes",
        action=shared.Listed,
        each=int,
        help=f"a frame's budget; 0: none ({','.join(map(str, BUDGETS))})",
    )
    parser.add_argument("--pictures", action="store_true", help="picture blocks and PSNR too")
    parser.add_argument("--plot", type=Path, help="draw bytes against AP50 as an SVG there")


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
    for value in options.threshold or ():
        if not 0 < value < 1:
            raise CommandError(f"--threshold {value}: outside 0..1")
    for value in options.max_bytes or ():
        if value < 0:
            raise CommandError(f"--max-bytes {value}: below 0")
    model: Any = codec.model
    own = getattr(getattr(model, "folder", None), "threshold", None)
    if own is None:
        raise CommandError(f"--model {options.model}: {codec.name} finds no objects; a model of scenes is wanted")
    thresholds = options.threshold or [own, *(value for value in THRESHOLDS if value > own)]
    budgets = [value for value in (BUDGETS if options.max_bytes is None else options.max_bytes) if value]
    return Plan(
        choose_points(own, thresholds, budgets) if "semhier" in chosen else (),
        len(codec.block_names) if options.pictures else codec.semantic_blocks,
        tuple(thresholds) if "answer" in chosen else (),
        tuple(name for name in chosen if name not in OURS),
        options.pictures,
    )


def run(options: argparse.Namespace) -> int:
    scenes = find_scenes(options.images, options.labels, options.split)[: options.limit]
    try:
        codec = Codec.load(options.model, options.device, threads=1)
        plan = make_plan(options, codec)
        workers = min(options.jobs or len(os.sched_getaffinity(0)), len(scenes))
        judging = judge_scenes(scenes, options.model, options.device, plan, workers)
        judged = list(tqdm(judging, total=len(scenes), desc="scenes", unit="scene", mininterval=2))
        result = summarise(judged, codec)
    except (ValueError, FileNotFoundError) as error:
        raise CommandError(str(error)) from error
    text = json.dumps(result, indent=1)
    if options.plot:
        from semhier_ros.lab.studies.detection_plot import draw

        options.plot.write_text(draw(result))
    if options.json:
        options.json.write_text(text + "\n")
        print(table(result))
    else:
        print(text)
    return 0
