"""A model folder: what a codec is made of, checked and known by two hashes.

`model.json` (layout, thresholds, hashes), `stream.safetensors` (integer tables and networks), `heads.safetensors`
(projections, readers, calibration), `taxonomy.yaml`, one ONNX graph per network, `weights.safetensors` (the same
networks in half precision for CUDA) and `README.md` (the model card). Loading needs nothing outside the folder.

The *stream hash* covers what turns bytes into latents: the layout and `stream.safetensors`. The *model hash* adds
everything else that shapes a reading. Both are the first 16 hex digits of a SHA-256.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from semhier_ros.codec.entropy import Tables
from semhier_ros.codec.integer_network import IntegerNetwork
from semhier_ros.scene.backend import GRAPHS
from semhier_ros.scene.layout import SceneLayout
from semhier_ros.scene.objects import ObjectProjection
from semhier_ros.scene.stream import SceneStream

FORMAT = 1
KINDS = ("scene", "whole-image")
MODEL_FILES = ("heads.safetensors", "taxonomy.yaml", *(f"{graph}.onnx" for graph in GRAPHS))


class ModelError(ValueError):
    """A model folder that cannot be used; the message names the file and what is wrong with it."""


@dataclass(frozen=True)
class ModelFolder:
    """A loaded model folder. `canvas` is (width, height); `threshold` the least objectness worth sending."""

    path: Path
    name: str
    canvas: tuple[int, int]
    threshold: float
    stream: SceneStream
    projection: ObjectProjection
    heads: Mapping[str, NDArray[np.float32]]
    stream_hash: str
    model_hash: str


def stream_hash(folder: Path, layout: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(layout, sort_keys=True, separators=(",", ":")).encode())
    digest.update((folder / "stream.safetensors").read_bytes())
    return digest.hexdigest()[:16]


def model_hash(folder: Path, stream: str, files: tuple[str, ...] = MODEL_FILES) -> str:
    digest = hashlib.sha256(stream.encode())
    for name in files:
        digest.update(name.encode() + b"\0" + hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()[:16]


def read_kind(folder: Path) -> str:
    """What kind of model lies in `folder`: `scene` or `whole-image`.

    Raises:
        ModelError: there is no readable model.json, or it names another kind.
    """
    card = _read_json(folder)
    kind = card.get("kind", KINDS[0])
    if kind not in KINDS:
        raise ModelError(f"{folder}/model.json: kind {kind!r}, this release knows {', '.join(KINDS)}")
    return str(kind)


def read_card(folder: Path, files: tuple[str, ...]) -> dict[str, Any]:
    """`model.json`, once its hashes were found to be those of the folder's files.

    Raises:
        ModelError: a file is missing or not the one that was hashed. KeyError: a field is missing.
    """
    card = _read_json(folder)
    if card["format"] != FORMAT:
        raise ModelError(f"{folder}/model.json: format {card['format']}, this release reads format {FORMAT}")
    found = stream_hash(folder, card["layout"])
    for field, value in (("stream_hash", found), ("model_hash", model_hash(folder, found, files))):
        if card[field] != value:
            raise ModelError(f"{folder}: {field} is {value}, model.json says {card[field]}: a file was changed")
    return card


def _read_json(folder: Path) -> dict[str, Any]:
    try:
        card = json.loads((folder / "model.json").read_text())
    except FileNotFoundError as error:
        raise ModelError(f"{folder}: model.json is missing; is this a model folder?") from error
    except json.JSONDecodeError as error:
        raise ModelError(f"{folder}/model.json: {error}") from error
    if not isinstance(card, dict):
        raise ModelError(f"{folder}/model.json: {type(card).__name__}, expected an object")
    return card


def load_model(folder: Path) -> ModelFolder:
    """Read and check a scene model's folder.

    Raises:
        ModelError: a file is missing, unreadable, or not the one that the hashes in `model.json` name.
    """
    try:
        card = read_card(folder, MODEL_FILES)
        heads = {key: value.astype(np.float32) for key, value in load_file(folder / "heads.safetensors").items()}
        return ModelFolder(
            folder,
            card["name"],
            (int(card["canvas"][0]), int(card["canvas"][1])),
            float(card["threshold"]),
            read_stream(SceneLayout.from_dict(card["layout"]), load_file(folder / "stream.safetensors")),
            _projection(heads),
            heads,
            card["stream_hash"],
            card["model_hash"],
        )
    except FileNotFoundError as error:
        raise ModelError(f"{folder}: {Path(str(error.filename)).name} is missing; is this a model folder?") from error
    except (KeyError, TypeError) as error:
        raise ModelError(f"{folder}/model.json: {type(error).__name__}: {error}") from error


def _projection(heads: Mapping[str, NDArray[np.float32]]) -> ObjectProjection:
    count = sum(key.startswith("project_") and key.endswith(".weight") for key in heads)
    return ObjectProjection(
        [heads[f"project_{group}.weight"] for group in range(count)],
        [heads[f"project_{group}.bias"] for group in range(count)],
        heads["feature_mean"],
        heads["feature_scale"],
    )


def read_stream(layout: SceneLayout, arrays: Mapping[str, NDArray[Any]]) -> SceneStream:
    """The stream of `stream.safetensors`, every table and network checked as it is built."""
    tables = {key.removeprefix("tables/"): Tables(value) for key, value in arrays.items() if key.startswith("tables/")}
    networks: dict[str, dict[str, NDArray[Any]]] = {}
    for key, value in arrays.items():
        if key.startswith("networks/"):
            _, name, part = key.split("/")
            networks.setdefault(name, {})[part] = value
    stream = SceneStream(
        layout,
        tables,
        {name: IntegerNetwork.from_arrays(parts) for name, parts in networks.items()},
        arrays["occupancy_rows"],
        arrays["picture_shifts"],
    )
    stream.pictures  # noqa: B018 - checks its parts
    return stream


def write_stream(stream: SceneStream, path: Path) -> None:
    """The way back from `read_stream`."""
    arrays: dict[str, NDArray[Any]] = {f"tables/{name}": table.frequencies for name, table in stream.tables.items()}
    for name, network in stream.networks.items():
        arrays |= {
            f"networks/{name}/{part}": np.ascontiguousarray(value) for part, value in network.to_arrays().items()
        }
    arrays["occupancy_rows"] = stream.occupancy_rows.astype(np.uint8)
    arrays["picture_shifts"] = stream.picture_shifts.astype(np.uint8)
    save_file(arrays, path)


def write_card(folder: Path, name: str, canvas: tuple[int, int], threshold: float, layout: Mapping[str, Any]) -> None:
    """Write `model.json` with the hashes of what lies in the folder."""
    known = stream_hash(folder, layout)
    card = {
        "format": FORMAT,
        "kind": KINDS[0],
        "name": name,
        "canvas": list(canvas),
        "threshold": threshold,
        "layout": layout,
        "stream_hash": known,
        "model_hash": model_hash(folder, known),
    }
    (folder / "model.json").write_text(json.dumps(card, indent=1) + "\n")
