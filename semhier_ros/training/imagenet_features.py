"""First stage of the imagenet model: what EfficientNet-Lite0 says of every photo, in several views, cached.

One array per view (`features-<view>.npy`, half precision, photos x 1280; `order.txt` names the rows), written as it is
made and resumed where it was killed. `features-<view>.json` says what it was made of: other photos, another seed or
trunk, and it is made anew. Logits follow from the features and the classifier's rows.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from semhier_ros.codec.graphs import openvino_core
from semhier_ros.footage.video import read_picture
from semhier_ros.torch.classifier import SIDE, TrunkGraph, load_classifier
from semhier_ros.training.errors import MissingFile, TrainingError
from semhier_ros.training.packed import fingerprint
from semhier_ros.training.photos import read_manifest, read_pictures, states_of_photos, views
from semhier_ros.training.settings import Option
from semhier_ros.whole_file import write_whole
from semhier_ros.whole_image.view import square_view

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


def read_views(folder: Path, names: list[str]) -> list[NDArray[np.uint8]]:
    """The square views of photos by file name."""
    return [square_view(read_picture(folder / name), SIDE) for name in names]


def compiled(path: Path, threads: int, precision: str = "f32") -> Any:
    options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
    core = openvino_core()
    return core.compile_model(core.read_model(path), "CPU", options).create_infer_request()


def key_of_view(data: Path, trunk: Path, number: int, seed: int) -> str:
    """A hash of all that the features of a view depend on."""
    made_of = {
        "photos": states_of_photos(data),
        "trunk": hashlib.sha256(trunk.read_bytes()).hexdigest(),
        "view": [SIDE, number, seed if number else 0],  # view 0 draws nothing
        "opencv": cv2.__version__,
    }
    return fingerprint(made_of)


def stored_key(features: Path) -> dict[str, str]:
    """What `features-N.json` says beside the features; empty where it is not there."""
    try:
        return dict(json.loads(features.with_suffix(".json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def load_views(data: Path, out: Path) -> list[NDArray[np.float16]]:
    """Every finished view's features of all photos of `data`, as memory maps.

    Raises:
        MissingFile: there is none. TrainingError: they are of other photos.
    """
    paths = sorted(path for path in out.glob("features-*.npy") if ".part" not in path.name)
    if not paths:
        raise MissingFile(f"{out}: no features-0.npy; run `semhier train imagenet features` first")
    photos = fingerprint(states_of_photos(data))
    for path in paths:
        if stored_key(path).get("photos") != photos:
            raise TrainingError(
                f"{path}: made of other photos than {data} holds; run `semhier train imagenet features`"
            )
    return [np.load(path, mmap_mode="r") for path in paths]


def make(options: argparse.Namespace) -> Path:
    """Fill the cache; returns its folder."""
    out: Path = options.out
    names = [photo.name for photo in read_manifest(options.data)]
    trunk = out / "trunk.onnx"
    if not trunk.exists():
        export_trunk(trunk)
    request = compiled(trunk, options.threads)
    (out / "order.txt").write_text("\n".join(names) + "\n")
    position = {name: row for row, name in enumerate(names)}
    for number in range(options.views):
        path = out / f"features-{number}.npy"
        key = key_of_view(options.data, trunk, number, options.seed)
        part = path.with_suffix(f".{key}.part.npy")
        if path.exists() and stored_key(path).get("key") == key:
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
        path.with_suffix(".json").unlink(missing_ok=True)  # until it is true again
        part.replace(path)
        write_whole(
            path.with_suffix(".json"), json.dumps({"key": key, "photos": fingerprint(states_of_photos(options.data))})
        )
        for old in out.glob(f"features-{number}.*.part.npy"):
            old.unlink()
    return out


OPTIONS = (Option("views", int, 5, "views of each photo, the first unchanged", least=1),)
