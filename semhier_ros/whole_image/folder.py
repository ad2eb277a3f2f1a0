"""The model folder of a whole-image model; `codec.model_folder` says what all kinds share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.model_folder import (
    KINDS,
    ModelError,
    StreamParts,
    read_folder,
    reading,
    write_card,
    write_stream_parts,
)
from semhier_ros.taxonomy import Taxonomy
from semhier_ros.whole_image.backend import IMAGE_GRAPHS
from semhier_ros.whole_image.stream import ImageLayout, ImageStream


@dataclass(frozen=True)
class ImageFolder:
    """A loaded folder: `heads` are the encoder's projection and the reader's weights, as float32."""

    path: Path
    name: str
    stream: ImageStream
    heads: Mapping[str, NDArray[np.float32]]
    taxonomy: Taxonomy
    stream_hash: str
    model_hash: str


def read_image_folder(folder: Path) -> ImageFolder:
    """Read and check a whole-image model's folder.

    Raises:
        ModelError: a file is missing, unreadable, or not the one that the hashes in `model.json` name.
    """
    found = read_folder(folder, IMAGE_GRAPHS)
    with reading(folder):
        heads = found.heads
        if "search_even" not in heads or heads["project"].shape[1] != len(heads["space"]):
            raise ModelError(
                f"{folder}/heads.safetensors: of an earlier version; make it anew with `semhier train imagenet model`"
            )
        parts = found.stream
        layout = ImageLayout.from_dict(found.layout)
        if layout.nodes != found.taxonomy.sizes:
            raise ModelError(
                f"{folder}: taxonomy.yaml has levels of {found.taxonomy.sizes} nodes, the layout of model.json"
                f" {layout.nodes}"
            )
        stream = ImageStream(layout, parts.tables, parts.networks, parts.arrays["picture_shifts"])
        stream.pictures  # noqa: B018 - checks its parts
        return ImageFolder(folder, found.name, stream, heads, found.taxonomy, found.stream_hash, found.model_hash)


def write_image_stream(folder: Path, stream: ImageStream) -> None:
    """Write the stream's tables and networks into the folder."""
    arrays = {"picture_shifts": stream.picture_shifts.astype(np.uint8)}
    write_stream_parts(folder, StreamParts(dict(stream.tables), dict(stream.networks), arrays))


def write_image_card(folder: Path, name: str, layout: ImageLayout) -> None:
    """Write `model.json` with the hashes of what lies in the folder."""
    write_card(folder, KINDS[1], name, asdict(layout), {}, IMAGE_GRAPHS)
