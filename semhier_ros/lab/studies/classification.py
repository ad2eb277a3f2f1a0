"""`semhier measure classification`: what is right about a whole image, at every level, after every prefix.

Every photo is really encoded and decoded. Ours is scored by the heads on the latents; every decoded picture, ours and
the reference codecs', by an independent classifier (EfficientNet-Lite2, seen by no training here). `kl` is the
divergence in nats from the trunk's own posterior to the one read from the bytes, both as the networks give them;
`kl_calibrated` compares the calibrated ones.

Codecs of pictures (JPEG, WebP, AVIF, JPEG XL, JPEG 2000, CompressAI, control) each get their best of several picture
scales and qualities: all settings are tried on a few photos of the list, those on the frontier of bytes against the
judge's log-probability of the true class at any level, or against PSNR, are measured on all, and `best_at` marks the
frontier of what was measured. Choosing on the photos that are reported favours the references.

`control:FOLDER` is a whole-image model's picture blocks alone: what levels of meaning cost pictures, and what they give
them, shows against a folder painted `--untold` (docs/training.md).

`at` holds what every codec's pictures reach at the sizes of --at, and `margin_of_semhier` what ours leads by there,
both with 95 % intervals of a bootstrap over photos (`scoring.frontier`).
"""

from __future__ import annotations

import argparse
import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from semhier_ros import options as shared
from semhier_ros.command import for_the_user
from semhier_ros.footage.labels import Labelled, read_grouping, read_photos
from semhier_ros.lab.baselines import CONTROL, NAMES, WITH_PATH, Setting, make
from semhier_ros.lab.baselines.vector_codecs import VECTOR_NAMES
from semhier_ros.lab.options import check_range, finish, load_codec
from semhier_ros.lab.scoring import frontier
from semhier_ros.lab.scoring.figures import calibration_error, interval
from semhier_ros.lab.studies.photo_judging import Judge, PhotoJudge, Plan, Row, check_codecs
from semhier_ros.lab.workers import Workers
from semhier_ros.progress import each
from semhier_ros.taxonomy import Taxonomy

SIZES = (300, 600, 1200, 2400)
"""Payload bytes at which pictures are compared by default."""

MOST_SETTINGS = 14
"""How many operating points of a codec of pictures are measured on all photos."""


def worth_measuring(settings: Sequence[Setting], photos: Sequence[Sequence[Row]]) -> list[Setting]:
    """The settings of a codec that are its best for something, by the means over `photos` of a row for each of them;
    at most `MOST_SETTINGS`, spread over the logarithm of bytes."""
    names = [name for name in photos[0][0] if name != "payload_bytes"]
    means = {
        name: np.mean([[row[name] for row in rows] for rows in photos], axis=0).tolist()
        for name in ("payload_bytes", *names)
    }
    sizes = means["payload_bytes"]
    fronts = [frontier.undominated(sizes, means[name]) for name in names]
    distinct: dict[tuple[float, ...], int] = {}  # a cut behind a file's end is no setting of its own
    for place in range(len(settings)):
        if any(front[place] for front in fronts):
            distinct.setdefault(tuple(values[place] for values in means.values()), place)
    kept = sorted(distinct.values(), key=lambda place: sizes[place])
    while len(kept) > MOST_SETTINGS:  # of the two nearest neighbours goes the one nearer to its other neighbour
        logs = np.log([sizes[place] + 1 for place in kept])
        kept.pop(1 + int((logs[2:] - logs[:-2]).argmin()))
    return [settings[place] for place in kept]


def summary(rows: list[Row]) -> Row:
    """The means over photos of one codec's rows at one operating point, with 95 % intervals of the accuracies."""
    first = rows[0]
    result: Row = {key: first[key] for key in ("prefix", "setting", "scale", "quality", "cut") if key in first}
    for key in ("payload_bytes", "bytes"):
        if key in first:
            result[f"{key}_mean"] = float(np.mean([row[key] for row in rows]))
    for key in ("accuracy", "judge_accuracy", "kl", "kl_calibrated", "nll"):
        if key in first:
            columns = {name: np.array([row[key][name] for row in rows], float) for name in first[key]}
            result[key] = {name: float(values.mean()) for name, values in columns.items()}
            if key.endswith("accuracy"):
                result[f"{key}_interval"] = {name: interval(values) for name, values in columns.items()}
    if "confidence" in first:
        result["calibration_error"] = {
            name: calibration_error(
                np.array([row["confidence"][name] for row in rows]),
                np.array([row["accuracy"][name] for row in rows], float),
            )
            for name in first["confidence"]
        }
    if "psnr" in first:
        result["psnr"] = float(np.mean([row["psnr"] for row in rows]))
    return result


def judged(row: Row) -> dict[str, float]:
    """What a codec of pictures is compared by: the judge's accuracies, and PSNR."""
    return {**row.get("judge_accuracy", {}), "psnr": row["psnr"]}


def make_plan(options: argparse.Namespace) -> tuple[Plan, list[Labelled]]:
    """What the command line asks for. Raises CommandError, ModuleNotFoundError."""
    with for_the_user():
        check_codecs(options.codecs)
    codec = load_codec(options.model, options.device, kind="whole images")
    model: Any = codec.model
    check_range("blocks", options.blocks, 1, len(codec.block_names))
    check_range("quality", options.quality, 0, len(model.stream.layout.steps) - 1)
    tree: Taxonomy = codec.taxonomy
    photos = read_photos(options.images, options.labels, tree.leaf_count, options.split)[: options.limit]
    owners = {f"L{level}": np.array(tree.owner(level)) for level in range(tree.depth)}
    owners |= {path.stem: read_grouping(path, tree.leaf_count) for path in options.groupings}
    alike = {name: getattr(options, name) for name in ("model", "device", "quality", "blocks", "pictures", "cache")}
    plan = Plan(codecs=tuple(dict.fromkeys(options.codecs)), owners=owners, judge=options.judge, **alike)
    if not plan.stills and not (plan.pictures and "semhier" in plan.codecs):
        plan = dataclasses.replace(plan, judge=False)
    if plan.judge:
        Judge(options.cache, 1)  # made once, before the processes share it
    return plan, photos


def evaluate(
    plan: Plan, photos: Sequence[Labelled], workers: int | None, probes: int, sizes: Sequence[int] = SIZES
) -> Row:
    """The result file's content. Raises CommandError for a photo that cannot be read."""
    measured: dict[str, list[list[Row]]] = defaultdict(list)
    settings: dict[str, list[Setting]] = {}
    with Workers(workers, len(photos), PhotoJudge, plan) as pool:
        if plan.stills:
            some = [photos[place] for place in sorted({round(p) for p in np.linspace(0, len(photos) - 1, probes)})]
            probed = list(each(pool.map("probe", [(photo,) for photo in some]), "settings", len(some)))
            for name in plan.stills:
                settings[name] = worth_measuring(make(name).settings(), [rows[name] for rows in probed])
        tasks = [(photo, settings) for photo in photos]
        for rows in each(pool.map("measure", tasks), "photos", len(photos)):
            for name, points in rows.items():
                measured[name].append(points)
    curves = {name: [summary(list(points)) for points in zip(*rows, strict=True)] for name, rows in measured.items()}
    result: Row = {
        "images": len(photos),
        "model": plan.model,
        "uncompressed": curves.pop("uncompressed")[0],
        "judge_uncompressed": curves.pop("judge_uncompressed")[0],
        "codecs": curves,
        "headers": {name: make(name).header for name in plan.stills},
    }
    shown = {name: measured[name] for name in curves if "psnr" in curves[name][0]} if sizes else {}
    result["at"] = frontier.at_sizes(shown, judged, sorted(set(sizes)))
    for name in plan.stills:
        curves[name].sort(key=lambda row: row["payload_bytes_mean"])
        frontier.mark_frontier(curves[name], judged)
    result["uncompressed"] |= result["uncompressed"].pop("accuracy")
    result["uncompressed"]["accuracy"] = {name: result["uncompressed"][name] for name in plan.owners}
    return result


def run(options: argparse.Namespace) -> int:
    plan, photos = make_plan(options)
    result = evaluate(plan, photos, options.jobs, options.probe, options.at)
    if options.plot:
        from semhier_ros.lab.report.plots import bytes_plot

        options.plot.write_text(bytes_plot(result, "accuracy", "share right"))
    return finish(result, options.json, "classification")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.images(parser)
    shared.labels(parser, "CSV with columns file,label (0-based classes)")
    shared.model(parser, "imagenet")
    shared.common(parser, shared.device, shared.jobs, shared.json)
    shared.codecs(
        parser,
        ["semhier", *VECTOR_NAMES, "jpeg", "webp"],
        f"what to compare, of semhier, {', '.join((*VECTOR_NAMES, *NAMES, WITH_PATH, CONTROL))}",
    )
    shared.several(parser, "--groupings", Path, [], "CSVs with columns label,cluster", "FILE")
    shared.renamed(parser, files="--split", workers="--jobs")
    parser.add_argument("--quality", type=int, help="operating point of ours (default: the model's own)")
    parser.add_argument("--no-judge", dest="judge", action="store_false", help="leave the independent classifier out")
    parser.add_argument("--blocks", type=int, help="blocks of ours to send (default: all)")
    parser.add_argument("--no-pictures", dest="pictures", action="store_false", help="decode no picture of ours")
    shared.option(parser, "--probe", shared.whole(1, 10**6), 16, "photos on which settings of picture codecs are tried")
    said = "payload sizes at which pictures are compared, ours with each other codec in pairs"
    shared.several(parser, "--at", shared.whole(1, 10**9), list(SIZES), said, "BYTES")
    parser.add_argument("--plot", type=Path, help="an SVG of accuracy over bytes")
    shared.written(parser, "plot", folder=False)
    parser.add_argument("--cache", type=Path, default=Path("runs/evaluation"), help="where the judge's network is kept")
