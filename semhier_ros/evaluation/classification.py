"""`semhier evaluate classification`: what is right about a whole image, at every level, after every prefix.

Every photo is really encoded and decoded. Ours is scored by the heads on the latents; every decoded picture, ours and
the reference codecs', by an independent classifier (EfficientNet-Lite2, seen by no training here). `kl` is the
divergence in nats from the trunk's own posterior to the one read from the bytes, both as the networks give them;
`kl_calibrated` compares the calibrated ones.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from semhier_ros.cli import CommandError
from semhier_ros.evaluation.classification_data import (
    Judge,
    Labelled,
    calibration_error,
    decibels,
    interval,
    read_grouping,
    read_labels,
    read_picture,
    summed,
)

STILL = ("jpeg", "webp")
STILL_SETTINGS = 14  # operating points a still-picture codec is tried at, spread over its own

Row = dict[str, Any]


class Worker:
    """One process's codec, judge and reference codecs, and what it measures of one photo."""

    def __init__(self, options: argparse.Namespace, owners: dict[str, NDArray[np.int64]]):
        from safetensors.numpy import load_file

        from semhier_ros import Codec
        from semhier_ros.evaluation import codecs as still
        from semhier_ros.evaluation.vector_codecs import VECTOR_NAMES, make_vector_codec

        self.codec = Codec.load(options.model, options.device, threads=1)
        model: Any = self.codec.model
        self.model = model
        self.owners, self.quality, self.blocks = owners, options.quality, options.blocks
        self.pictures = options.pictures
        self.judge = Judge(options.cache, 1) if options.judge and options.pictures else None
        self.vectors, self.stills = [], []
        for name in options.codecs:
            if name in VECTOR_NAMES:
                reference = load_file(self.model.path / "reference.safetensors")
                floats = {key: value.astype(np.float32) for key, value in reference.items()}
                self.vectors.append(make_vector_codec(name, model.reader, floats))
            elif name != "semhier":
                own = still.make(name)
                settings = own.settings()
                places = np.linspace(0, len(settings) - 1, min(STILL_SETTINGS, len(settings))).round().astype(int)
                self.stills.append((own, [settings[place] for place in places]))

    def hits(self, chances: NDArray, label: int) -> dict[str, bool]:
        """Per level and grouping, whether the likeliest cluster is the true one, for leaf probabilities."""
        return {name: bool(summed(chances, owner).argmax() == owner[label]) for name, owner in self.owners.items()}

    def judged(self, view: NDArray[np.uint8], original: NDArray[np.uint8], label: int) -> Row:
        row: Row = {"psnr": decibels(view, original)}
        if self.judge is not None:
            row["judge_accuracy"] = self.hits(self.judge([view])[0], label)
        return row

    def read(self, logits: NDArray, seen: NDArray, label: int, temperatures: list[float]) -> Row:
        """Accuracy, divergences and calibration of leaf logits against the trunk's own."""
        from semhier_ros.perception.image_reader import softmax

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

    def measure(self, photo: Labelled) -> dict[str, list[Row]]:
        """Rows per codec, in the order of its operating points."""
        from semhier_ros.codec.packet import Packet
        from semhier_ros.codec.view import square_view
        from semhier_ros.evaluation.codecs import send

        picture = read_picture(photo.path)
        view = square_view(picture, self.model.view_size[0])
        seen = self.model.backend.classify(view)
        heads = self.model.folder.heads
        result: dict[str, list[Row]] = defaultdict(list)
        trunk = [float(t) for t in heads["trunk_temperature"]]
        result["uncompressed"].append(self.read(seen.logits, seen.logits, photo.label, trunk))
        result["judge_uncompressed"].append(self.judged(view, view, photo.label))
        blocks = self.codec.encode(picture, quality=self.quality, blocks=self.blocks)
        code, sent = None, 0
        for prefix, block in enumerate(blocks):
            code = self.model.decode(prefix, block.data, code)
            sent += len(block.data)
            deepest = self.model.reader.deepest(prefix)
            temperatures = [float(t) for t in heads["temperature"][code.quality, deepest]]
            row = self.read(self.model.reader.logits(code, prefix), seen.logits, photo.label, temperatures)
            whole = len(Packet.pack(blocks[: prefix + 1]))
            row |= {"prefix": prefix, "payload_bytes": sent, "bytes": whole}
            if self.pictures:
                row |= self.judged(self.model.view(code, prefix), view, photo.label)
            result["semhier"].append(row)
        for vector in self.vectors:
            for step in vector.steps:
                got = vector.send(seen, step)
                row = self.read(got.logits, seen.logits, photo.label, trunk)
                size = {"payload_bytes": got.payload_bytes, "bytes": got.payload_bytes}
                result[vector.name].append(row | {"setting": step} | size)
        for own, settings in self.stills:
            for setting, arrived in send(own, view, settings):
                size = {"payload_bytes": arrived.payload_bytes, "bytes": arrived.total_bytes}
                described = f"scale {setting.scale:g}, quality {setting.quality:g}"
                described += f", cut {setting.cut}" if setting.cut is not None else ""
                result[own.name].append({"setting": described} | size | self.judged(arrived.picture, view, photo.label))
        return dict(result)


def _divergence(true: NDArray, read: NDArray) -> float:
    return float((true * (np.log(true + 1e-12) - np.log(read + 1e-12))).sum())


_worker: Worker | None = None


def _begin(options: argparse.Namespace, owners: dict[str, NDArray[np.int64]]) -> None:
    global _worker
    _worker = Worker(options, owners)


def _measure(photo: Labelled) -> dict[str, list[Row]]:
    assert _worker is not None
    return _worker.measure(photo)


def summary(rows: list[Row]) -> Row:
    """The means over photos of one codec's rows at one operating point, with 95 % intervals of the accuracies."""
    first = rows[0]
    result: Row = {key: first[key] for key in ("prefix", "setting") if key in first}
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


def table(result: Row) -> str:
    """What a person reads: one line per codec and operating point."""
    lines = [
        f"{'codec':<16}{'at':>28}{'payload':>9}{'bytes':>8}  accuracy L0 / L1 / L2 (95 %)        kl L0 L1 L2   psnr"
    ]

    def line(name: str, row: Row) -> str:
        kind = "accuracy" if "accuracy" in row else "judge_accuracy"
        accuracy = row.get(kind, {})
        spread = row.get(f"{kind}_interval", {})
        marks = [
            f"{100 * accuracy[key]:.1f} ({100 * spread[key][0]:.1f}-{100 * spread[key][1]:.1f})"
            for key in ("L0", "L1", "L2")
            if key in accuracy
        ]
        kl = " ".join(f"{value:.3f}" for value in row.get("kl", {}).values())
        at = f"prefix {row['prefix']}" if "prefix" in row else str(row.get("setting", ""))
        sizes = f"{row.get('payload_bytes_mean', 0):9.1f}{row.get('bytes_mean', 0):8.1f}"
        return f"{name:<16}{at:>28}{sizes}  {' / '.join(marks)}  {kl}  {row.get('psnr', 0):.2f}"

    lines += [line(name, result[name]) for name in ("uncompressed", "judge_uncompressed")]
    lines += [line(name, row) for name, rows in result["codecs"].items() for row in rows]
    return "\n".join(lines)


def run(options: argparse.Namespace) -> int:
    """Measure, write the JSON, print the table."""
    from semhier_ros.paths import find_model
    from semhier_ros.taxonomy import Taxonomy

    try:
        folder = find_model(options.model)
    except FileNotFoundError as error:
        raise CommandError(str(error)) from error
    tree = Taxonomy.load(folder / "taxonomy.yaml")
    photos = read_labels(options.images, options.labels, tree.leaf_count, options.files)
    if options.limit:
        photos = photos[: options.limit]
    owners = {f"L{level}": np.array(tree.owner(level)) for level in range(tree.depth)}
    owners |= {path.stem: read_grouping(path, tree.leaf_count) for path in options.groupings}
    if options.judge and options.pictures:
        Judge(options.cache, 1)  # made once, before the processes share it
    context = multiprocessing.get_context("spawn")
    measured: dict[str, list[list[Row]]] = defaultdict(list)
    with context.Pool(options.workers, _begin, (options, owners)) as pool:
        for rows in tqdm(pool.imap(_measure, photos, 4), total=len(photos), unit="photo", desc="evaluate"):
            for name, points in rows.items():
                measured[name].append(points)
    curves = {name: [summary(list(points)) for points in zip(*rows, strict=True)] for name, rows in measured.items()}
    result: Row = {
        "images": len(photos),
        "model": options.model,
        "uncompressed": curves.pop("uncompressed")[0],
        "judge_uncompressed": curves.pop("judge_uncompressed")[0],
        "codecs": curves,
    }
    result["uncompressed"] |= result["uncompressed"].pop("accuracy")
    result["uncompressed"]["accuracy"] = {name: result["uncompressed"][name] for name in owners}
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))
    if options.plot:
        from semhier_ros.evaluation.classification_plot import draw

        draw(result, options.plot)
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from semhier_ros.evaluation.codecs import NAMES
    from semhier_ros.evaluation.vector_codecs import VECTOR_NAMES

    parser.add_argument("--images", type=Path, required=True, help="folder of photos")
    parser.add_argument("--labels", type=Path, required=True, help="CSV with columns file,label (0-based classes)")
    parser.add_argument("--model", default="imagenet", help="whole-image model, by name or folder")
    parser.add_argument("--files", type=Path, help="list of the file names to use, e.g. a split's report.txt")
    parser.add_argument("--groupings", type=Path, nargs="*", default=[], help="CSVs with columns label,cluster")
    parser.add_argument(
        "--codecs",
        nargs="*",
        default=["semhier", *VECTOR_NAMES, *STILL],
        choices=["semhier", *VECTOR_NAMES, *NAMES],
        help="reference codecs to run beside ours (default: %(default)s)",
    )
    parser.add_argument("--quality", type=int, help="operating point of ours (default: the model's own)")
    parser.add_argument("--no-judge", dest="judge", action="store_false", help="leave the independent classifier out")
    parser.add_argument("--blocks", type=int, help="blocks of ours to send (default: all)")
    parser.add_argument("--no-pictures", dest="pictures", action="store_false", help="decode no picture of ours")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--plot", type=Path, help="an SVG of accuracy over bytes")
    parser.add_argument("--limit", type=int, help="only the first so many photos")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda or torch")
    parser.add_argument("--cache", type=Path, default=Path("runs/evaluation"), help="where the judge's network is kept")
