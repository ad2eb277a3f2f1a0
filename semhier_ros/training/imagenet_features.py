"""First stage of the imagenet model: what EfficientNet-Lite0 says of every photo, in several views, cached.

One array per view (`features-<view>.npy`, half precision, photos x 1280; `order.txt` names the rows), written as it is
made and resumed where it was killed. Logits follow from the features and the classifier's rows.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from semhier_ros.codec.graphs import openvino_core
from semhier_ros.torch.classifier import SIDE, TrunkGraph, load_classifier
from semhier_ros.training.photos import read_manifest, read_pictures, views

BATCH = 16


def export_trunk(path: Path) -> None:
    """Lite0 from uint8 views to features and logits as an ONNX graph for any batch, and its last layer as .npz."""
    from semhier_ros.training.export import half_precision

    network = load_classifier(0)
    graph = TrunkGraph(network).eval()
    half_precision({"trunk": graph})
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        graph,
        (torch.zeros(1, SIDE, SIDE, 3, dtype=torch.uint8),),
        str(path),
        opset_version=17,
        dynamo=False,
        input_names=["view"],
        output_names=["features", "logits"],
        dynamic_axes={"view": {0: "batch"}, "features": {0: "batch"}, "logits": {0: "batch"}},
    )
    last = network.classifier
    np.savez(path.with_name("classifier.npz"), weight=last.weight.detach().numpy(), bias=last.bias.detach().numpy())


def compiled(path: Path, threads: int, precision: str = "f32") -> Any:
    options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
    core = openvino_core()
    return core.compile_model(core.read_model(path), "CPU", options).create_infer_request()


def make(options: argparse.Namespace) -> Path:
    """Fill the cache; returns its folder."""
    out: Path = options.out
    trunk = out / "trunk.onnx"
    if not trunk.exists():
        export_trunk(trunk)
    request = compiled(trunk, options.threads)
    names = [photo.name for photo in read_manifest(options.data)]
    (out / "order.txt").write_text("\n".join(names) + "\n")
    position = {name: row for row, name in enumerate(names)}
    for number in range(options.views):
        path = out / f"features-{number}.npy"
        part = path.with_suffix(".part.npy")
        if path.exists():
            continue
        fresh = not part.exists()
        store = np.lib.format.open_memmap(part, "w+" if fresh else "r+", np.float16, (len(names), 1280))
        waiting: list[tuple[int, np.ndarray]] = []

        def flush(store: Any, waiting: list[tuple[int, np.ndarray]]) -> None:
            result = request.infer([np.stack([view for _, view in waiting])])
            store[[row for row, _ in waiting]] = result["features"]
            waiting.clear()

        for name, picture in tqdm(read_pictures(options.data), total=len(names), desc=f"view {number}", mininterval=5):
            row = position[name]
            if not fresh and store[row].any():
                continue
            waiting.append((row, views(picture, SIDE, number, options.seed, row)))
            if len(waiting) == BATCH:
                flush(store, waiting)
        if waiting:
            flush(store, waiting)
        store.flush()
        del store
        part.rename(path)
    return out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder of photos: tars and manifest.csv")
    parser.add_argument("--out", type=Path, default=Path("runs/imagenet"), help="caches (default: %(default)s)")
    parser.add_argument("--views", type=int, default=5, help="views of each photo, the first unchanged")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
