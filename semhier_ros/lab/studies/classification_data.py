"""What evaluations of whole images share: labelled photos, groupings, judges, and figures with their spread."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.graphs import openvino_core


def summed(chances: NDArray, owner: NDArray) -> NDArray[np.float64]:
    """Leaf probabilities (…,C) summed into the clusters that `owner` gives the leaves."""
    result = np.zeros((*chances.shape[:-1], int(owner.max()) + 1))
    np.add.at(np.moveaxis(result, -1, 0), owner, np.moveaxis(chances, -1, 0))
    return result


def interval(values: NDArray, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mean of `values` (n)."""
    random = np.random.default_rng(seed)
    counts = random.multinomial(len(values), np.full(len(values), 1 / len(values)), size=draws)
    means = counts @ values / len(values)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def calibration_error(chance: NDArray, right: NDArray, bins: int = 15) -> float:
    """Expected calibration error: over equal bins of confidence, the mean gap between it and the share of rights."""
    place = np.minimum((chance * bins).astype(int), bins - 1)
    gap = np.abs(np.bincount(place, chance - right, bins))
    return float(gap.sum() / len(chance))


def decibels(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of two pictures, at most 60."""
    error = float(np.mean((first.astype(np.float64) - second) ** 2))
    return 60.0 if error < 1e-1 else 10 * float(np.log10(255**2 / error))


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
            logits = np.array(self._request.infer([scaled[None]])["logits"][0], np.float64)
            exponentials = np.exp(logits - logits.max())
            chances.append(exponentials / exponentials.sum())
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
