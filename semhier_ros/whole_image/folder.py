"""The model folder of a whole-image model; `model_folder` says what both kinds share."""

from __future__ import annotations

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
from semhier_ros.codec.model_folder import FORMAT, KINDS, ModelError, model_hash, read_card, stream_hash
from semhier_ros.whole_image.backend import IMAGE_GRAPHS
from semhier_ros.whole_image.stream import ImageLayout, ImageStream

IMAGE_FILES = ("heads.safetensors", "taxonomy.yaml", *(f"{graph}.onnx" for graph in IMAGE_GRAPHS))


@dataclass(frozen=True)
class ImageFolder:
    """A loaded folder: `heads` are the encoder's projection and the reader's weights, as float32."""

    path: Path
    name: str
    stream: ImageStream
    heads: Mapping[str, NDArray[np.float32]]
    stream_hash: str
    model_hash: str


def load_image_folder(folder: Path) -> ImageFolder:
    """Read and check a whole-image model's folder.

    Raises:
        ModelError: a file is missing, unreadable, or not the one that the hashes in `model.json` name.
    """
    try:
        card = read_card(folder, IMAGE_FILES)
        heads = {key: value.astype(np.float32) for key, value in load_file(folder / "heads.safetensors").items()}
        if "search_even" not in heads or heads["project"].shape[1] != len(heads["space"]):
            raise ModelError(
                f"{folder}/heads.safetensors: of an earlier version; make it anew with `semhier train imagenet model`"
            )
        layout = ImageLayout.from_dict(card["layout"])
        stream = read_image_stream(layout, load_file(folder / "stream.safetensors"))
        return ImageFolder(folder, card["name"], stream, heads, card["stream_hash"], card["model_hash"])
    except FileNotFoundError as error:
        raise ModelError(f"{folder}: {Path(str(error.filename)).name} is missing; is this a model folder?") from error
    except (KeyError, TypeError) as error:
        raise ModelError(f"{folder}/model.json: {type(error).__name__}: {error}") from error


def read_image_stream(layout: ImageLayout, arrays: Mapping[str, NDArray[Any]]) -> ImageStream:
    """The stream of `stream.safetensors`, every table and network checked as it is built."""
    tables = {key.removeprefix("tables/"): Tables(value) for key, value in arrays.items() if key.startswith("tables/")}
    networks: dict[str, dict[str, NDArray[Any]]] = {}
    for key, value in arrays.items():
        if key.startswith("networks/"):
            _, name, part = key.split("/")
            networks.setdefault(name, {})[part] = value
    built = {name: IntegerNetwork.from_arrays(parts) for name, parts in networks.items()}
    stream = ImageStream(layout, tables, built, arrays["picture_shifts"])
    stream.pictures  # noqa: B018 - checks its parts
    return stream


def write_image_stream(stream: ImageStream, path: Path) -> None:
    """The way back from `read_image_stream`."""
    arrays: dict[str, NDArray[Any]] = {f"tables/{name}": table.frequencies for name, table in stream.tables.items()}
    for name, network in stream.networks.items():
        arrays |= {f"networks/{name}/{part}": np.ascontiguousarray(v) for part, v in network.to_arrays().items()}
    arrays["picture_shifts"] = stream.picture_shifts.astype(np.uint8)
    save_file(arrays, path)


def write_image_card(folder: Path, name: str, layout: ImageLayout) -> None:
    """Write `model.json` with the hashes of what lies in the folder."""
    values = json.loads(json.dumps({field: getattr(layout, field) for field in layout.__dataclass_fields__}))
    known = stream_hash(folder, values)
    card = {
        "format": FORMAT,
        "kind": KINDS[1],
        "name": name,
        "layout": values,
        "stream_hash": known,
        "model_hash": model_hash(folder, known, IMAGE_FILES),
    }
    (folder / "model.json").write_text(json.dumps(card, indent=None) + "\n")
