"""The model folder of a scene model; `codec.model_folder` says what all kinds share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.model_folder import (
    KINDS,
    StreamParts,
    read_folder,
    reading,
    write_card,
    write_stream_parts,
)
from semhier_ros.scene.backend import GRAPHS
from semhier_ros.scene.layout import SceneLayout
from semhier_ros.scene.objects import ObjectProjection
from semhier_ros.scene.stream import SceneStream
from semhier_ros.taxonomy import Taxonomy


@dataclass(frozen=True)
class SceneFolder:
    """A loaded folder. `canvas` is (width, height); `threshold` the least objectness worth sending."""

    path: Path
    name: str
    canvas: tuple[int, int]
    threshold: float
    stream: SceneStream
    projection: ObjectProjection
    heads: Mapping[str, NDArray[np.float32]]
    taxonomy: Taxonomy
    stream_hash: str
    model_hash: str


def read_scene_folder(folder: Path) -> SceneFolder:
    """Read and check a scene model's folder.

    Raises:
        ModelError: a file is missing, unreadable, or not the one that the hashes in `model.json` name.
    """
    found = read_folder(folder, GRAPHS)
    with reading(folder):
        return SceneFolder(
            path=folder,
            name=found.name,
            canvas=(int(found.settings["canvas"][0]), int(found.settings["canvas"][1])),
            threshold=float(found.settings["threshold"]),
            stream=_stream(SceneLayout.from_dict(found.layout), found.stream),
            projection=_projection(found.heads),
            heads=found.heads,
            taxonomy=found.taxonomy,
            stream_hash=found.stream_hash,
            model_hash=found.model_hash,
        )


def _projection(heads: Mapping[str, NDArray[np.float32]]) -> ObjectProjection:
    count = sum(key.startswith("project_") and key.endswith(".weight") for key in heads)
    return ObjectProjection(
        [heads[f"project_{group}.weight"] for group in range(count)],
        [heads[f"project_{group}.bias"] for group in range(count)],
        heads["feature_mean"],
        heads["feature_scale"],
    )


def _stream(layout: SceneLayout, parts: StreamParts) -> SceneStream:
    arrays = parts.arrays
    stream = SceneStream(layout, parts.tables, parts.networks, arrays["occupancy_rows"], arrays["picture_shifts"])
    stream.pictures  # noqa: B018 - checks its parts
    return stream


def write_scene_stream(folder: Path, stream: SceneStream) -> None:
    """Write the stream's tables and networks into the folder."""
    arrays = {
        "occupancy_rows": stream.occupancy_rows.astype(np.uint8),
        "picture_shifts": stream.picture_shifts.astype(np.uint8),
    }
    write_stream_parts(folder, StreamParts(dict(stream.tables), dict(stream.networks), arrays))


def write_scene_card(folder: Path, name: str, canvas: tuple[int, int], threshold: float, layout: SceneLayout) -> None:
    """Write `model.json` with the hashes of what lies in the folder."""
    settings = {"canvas": list(canvas), "threshold": threshold}
    write_card(folder, KINDS[0], name, asdict(layout), settings, GRAPHS)
