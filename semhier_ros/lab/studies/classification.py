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
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from semhier_ros import options as shared
from semhier_ros.codec.graphs import openvino_core
from semhier_ros.codec.packet import Packet
from semhier_ros.command import for_the_user
from semhier_ros.footage.labels import Labelled, read_grouping, read_photos
from semhier_ros.footage.video import read_picture
from semhier_ros.lab.baselines import CONTROL, NAMES, WITH_PATH, Setting, make, send
from semhier_ros.lab.baselines.vector_codecs import VECTOR_NAMES, vector_codecs
from semhier_ros.lab.options import check_range, finish, load_codec
from semhier_ros.lab.scoring import frontier
from semhier_ros.lab.scoring.figures import interval, psnr, summed
from semhier_ros.lab.workers import Workers
from semhier_ros.progress import each
from semhier_ros.taxonomy import Taxonomy
from semhier_ros.taxonomy.scores import calibration_error
from semhier_ros.whole_image.reader import softmax
from semhier_ros.whole_image.view import square_view

Row = dict[str, Any]
LEAST_CHANCE = 1e-6
SIZES = (300, 600, 1200, 2400)
"""Payload bytes at which pictures are compared by default."""

MOST_SETTINGS = 14
"""How many operating points of a codec of pictures are measured on all photos."""


@dataclass(frozen=True)
class Plan:
    """What is compared. codecs: `semhier` and names of reference codecs. owners: per level and grouping, each leaf's
    cluster. quality, blocks, pictures: of ours. judge: whether an independent classifier reads the pictures. name,
    model_hash: of the model that is loaded."""

    model: str
    device: str
    codecs: tuple[str, ...]
    owners: dict[str, NDArray[np.int64]]
    quality: int | None
    blocks: int | None
    pictures: bool
    judge: bool
    cache: Path
    name: str
    model_hash: str

    @property
    def stills(self) -> tuple[str, ...]:
        """The codecs of pictures among `codecs`."""
        return tuple(name for name in self.codecs if name != "semhier" and name not in VECTOR_NAMES)


class Judge:
    """An independent classifier, EfficientNet-Lite2, which no training here has seen: leaf probabilities of views."""

    SIDE = 260

    def __init__(self, cache: Path, threads: int):
        path = cache / "judge-lite2.onnx"
        if not path.exists():
            export_judge(path, self.SIDE)
        options: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        core = openvino_core()
        self._request = core.compile_model(core.read_model(path), "CPU", options).create_infer_request()

    def __call__(self, views: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Leaf probabilities (n,C) of views (S,S,3)."""
        size = (self.SIDE, self.SIDE)
        chances = []
        for view in views:
            scaled = np.asarray(cv2.resize(view, size, interpolation=cv2.INTER_CUBIC), np.uint8)
            chances.append(softmax(np.array(self._request.infer([scaled[None]])["logits"][0], np.float64)))
        return np.stack(chances)


def export_judge(path: Path, side: int) -> None:
    """Write the judge as an ONNX graph. Needs torch, timm and the weights' package."""
    import torch

    from semhier_ros.torch.classifier import TrunkGraph, load_classifier

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.onnx.export(
        TrunkGraph(load_classifier(2)).eval(),
        (torch.zeros(1, side, side, 3, dtype=torch.uint8),),
        str(part),
        opset_version=17,
        dynamo=False,
        input_names=["view"],
        output_names=["features", "logits"],
    )
    part.rename(path)


class PhotoJudge:
    """One process's codec, judge and reference codecs."""

    def __init__(self, plan: Plan):
        self.plan, self.owners = plan, plan.owners
        self.codec = load_codec(plan.model, plan.device, kind="whole images")
        model: Any = self.codec.model
        self.model = model
        self.judge = Judge(plan.cache, 1) if plan.judge else None
        self.vectors = vector_codecs(plan.codecs, model)
        self.stills = {name: make(name) for name in plan.stills}

    def measure(self, photo: Labelled, settings: dict[str, list[Setting]]) -> dict[str, list[Row]]:
        """Rows per codec, in the order of its operating points; `settings`: those of each codec of pictures."""
        picture = read_picture(photo.path)
        view = square_view(picture, self.model.view_size[0])
        seen = self.model.backend.classify(view)
        trunk = [float(t) for t in self.model.folder.heads["trunk_temperature"]]
        result: dict[str, list[Row]] = defaultdict(list)
        result["uncompressed"].append(self._read(seen.logits, seen.logits, photo.label, trunk))
        result["judge_uncompressed"].append(self._judged(view, view, photo.label))
        if "semhier" in self.plan.codecs:
            result["semhier"] = self._ours(picture, view, seen, photo.label)
        for vector in self.vectors:
            for step in vector.steps:
                got = vector.send(seen, step)
                row = self._read(got.logits, seen.logits, photo.label, trunk)
                size = {"payload_bytes": got.payload_bytes, "bytes": got.payload_bytes}
                result[vector.name].append(row | {"setting": step} | size)
        for name, still in self.stills.items():
            for setting, arrived in send(still, view, settings[name]):
                row = {"scale": setting.scale, "quality": setting.quality, "cut": setting.cut}
                row |= {"payload_bytes": arrived.payload_bytes, "bytes": arrived.total_bytes}
                result[name].append(row | self._judged(arrived.picture, view, photo.label))
        return dict(result)

    def probe(self, photo: Labelled) -> dict[str, list[Row]]:
        """Per codec of pictures, at every setting that it offers: bytes, PSNR, and the log-probability that the judge
        gives the true cluster at each level, which tells settings apart on far fewer photos than hits do."""
        view = square_view(read_picture(photo.path), self.model.view_size[0])
        result: dict[str, list[Row]] = defaultdict(list)
        for name, still in self.stills.items():
            for _, arrived in send(still, view, still.settings()):
                row: Row = {"payload_bytes": arrived.payload_bytes, "psnr": psnr(arrived.picture, view)}
                if self.judge is not None:
                    chances = self.judge([arrived.picture])[0]
                    for level, owner in self.owners.items():
                        row[level] = float(np.log(summed(chances, owner)[owner[photo.label]] + LEAST_CHANCE))
                result[name].append(row)
        return dict(result)

    def _ours(self, picture: NDArray[np.uint8], view: NDArray[np.uint8], seen: Any, label: int) -> list[Row]:
        rows: list[Row] = []
        heads = self.model.folder.heads
        blocks = self.codec.encode(picture, quality=self.plan.quality, blocks=self.plan.blocks)
        code, sent = None, 0
        for prefix, block in enumerate(blocks):
            code = self.model.decode(prefix, block.data, code)
            sent += len(block.data)
            temperatures = [float(t) for t in heads["temperature"][code.quality, self.model.reader.deepest(prefix)]]
            row = self._read(self.model.reader.logits(code, prefix), seen.logits, label, temperatures)
            row |= {"prefix": prefix, "payload_bytes": sent, "bytes": len(Packet.pack(blocks[: prefix + 1]))}
            if self.plan.pictures:
                row |= self._judged(self.model.view(code, prefix), view, label)
            rows.append(row)
        return rows

    def _hits(self, chances: NDArray, label: int) -> dict[str, bool]:
        """Per level and grouping, whether the likeliest cluster is the true one, for leaf probabilities."""
        return {name: bool(summed(chances, owner).argmax() == owner[label]) for name, owner in self.owners.items()}

    def _judged(self, view: NDArray[np.uint8], original: NDArray[np.uint8], label: int) -> Row:
        row: Row = {"psnr": psnr(view, original)}
        if self.judge is not None:
            row["judge_accuracy"] = self._hits(self.judge([view])[0], label)
        return row

    def _read(self, logits: NDArray, seen: NDArray, label: int, temperatures: list[float]) -> Row:
        """Accuracy, divergences and calibration of leaf logits against the trunk's own."""
        row: Row = {"accuracy": {}, "kl": {}, "kl_calibrated": {}, "confidence": {}, "nll": {}}
        trunk = self.model.folder.heads["trunk_temperature"]
        levels = [f"L{level}" for level in range(len(trunk))]
        for name, owner in self.owners.items():
            level = levels.index(name) if name in levels else len(levels) - 1
            chances = summed(softmax(logits, temperatures[level]), owner)
            row["accuracy"][name] = bool(chances.argmax() == owner[label])
            if name not in levels:
                continue
            row["confidence"][name] = float(chances.max())
            row["nll"][name] = float(-np.log(chances[owner[label]] + 1e-12))
            own = summed(softmax(seen, float(trunk[level])), owner)
            row["kl_calibrated"][name] = _divergence(own, chances)
            row["kl"][name] = _divergence(summed(softmax(seen), owner), summed(softmax(logits), owner))
        return row


def _divergence(true: NDArray, read: NDArray) -> float:
    return float((true * (np.log(true + 1e-12) - np.log(read + 1e-12))).sum())


def check_codecs(names: list[str]) -> None:
    """Raises ValueError for a codec that there is not, ModuleNotFoundError for one whose library is missing: which had
    better come out before the work than after it."""
    for name in names:
        if name != "semhier" and name not in VECTOR_NAMES:
            make(name)


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
    measured = {"codecs": tuple(dict.fromkeys(options.codecs)), "owners": owners, "judge": options.judge}
    plan = Plan(**measured, **alike, name=codec.name, model_hash=codec.model_hash)
    if not plan.stills and not (plan.pictures and "semhier" in plan.codecs):
        plan = replace(plan, judge=False)
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
        "model": plan.name,
        "model_hash": plan.model_hash,
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
