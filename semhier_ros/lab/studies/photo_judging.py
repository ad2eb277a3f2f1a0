"""What one process of `measure classification` measures of one photo: ours, codecs of features, codecs of pictures.

The heads read latents and features, an independent classifier reads pictures.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.graphs import openvino_core
from semhier_ros.codec.packet import Packet
from semhier_ros.footage.labels import Labelled
from semhier_ros.footage.video import read_picture
from semhier_ros.lab.baselines import Setting, send
from semhier_ros.lab.baselines import make as make_still
from semhier_ros.lab.baselines.vector_codecs import VECTOR_NAMES, vector_codecs
from semhier_ros.lab.options import load_codec
from semhier_ros.lab.scoring.figures import psnr, summed
from semhier_ros.whole_image.reader import softmax
from semhier_ros.whole_image.view import square_view

Row = dict[str, Any]
LEAST_CHANCE = 1e-6


@dataclass(frozen=True)
class Plan:
    """What is compared. codecs: `semhier` and names of reference codecs. owners: per level and grouping, each leaf's
    cluster. quality, blocks, pictures: of ours. judge: whether an independent classifier reads the pictures."""

    model: str
    device: str
    codecs: tuple[str, ...]
    owners: dict[str, NDArray[np.int64]]
    quality: int | None
    blocks: int | None
    pictures: bool
    judge: bool
    cache: Path

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
        self.stills = {name: make_still(name) for name in plan.stills}

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
            make_still(name)
