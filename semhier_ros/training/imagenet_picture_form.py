"""The picture blocks' part of a whole-image model's folder: graphs, tables and context networks from `picture.pt`.

`imagenet_model` puts it together with the semantic blocks' part; neither knows how the other came about.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from semhier_ros.codec.entropy import Tables
from semhier_ros.codec.integer_network import IntegerNetwork
from semhier_ros.codec.picture_walk import PictureGroup, channels_of
from semhier_ros.torch.classifier import SIDE, load_classifier
from semhier_ros.torch.image_backend import build_image_graphs
from semhier_ros.torch.picture import STRIDE
from semhier_ros.training.export import export_graph, half_precision, save_halves
from semhier_ros.training.imagenet_meaning import PLANES
from semhier_ros.training.imagenet_picture import stored_squares
from semhier_ros.training.picture_form import WHOLE_IMAGES, count_tables, load_picture, picture_checkpoint

COUNTED = 400  # photos that the tables are counted on


class PictureForm(NamedTuple):
    """groups and stride: as in the layout; tables and networks by their names in the stream; shifts: as in
    `codec.picture_blocks`; heads: arrays of heads.safetensors."""

    groups: tuple[PictureGroup, ...]
    stride: int
    tables: dict[str, Tables]
    networks: dict[str, IntegerNetwork]
    shifts: NDArray[np.uint8]
    heads: dict[str, NDArray]


def load_picture_form(out: Path) -> tuple[PictureForm, dict[str, nn.Module]]:
    """The part that `picture.pt` and `meaning.npz` in `out` give, and the graphs, trunk included.

    Raises:
        FileNotFoundError: there is no picture.pt; train it first.
    """
    parts = load_picture(picture_checkpoint(out), WHOLE_IMAGES)
    squares = stored_squares(out, COUNTED)
    parts = count_tables(parts, squares, len(squares))
    graphs = build_image_graphs(parts.groups, PLANES)
    graphs["trunk"].network.load_state_dict(load_classifier(0).state_dict())
    graphs["picture_analysis"].analysis = parts.model.analysis
    graphs["picture_synthesis"].synthesis = parts.model.synthesis
    half_precision(graphs)
    with np.load(out / "meaning.npz") as stored:
        heads = {"meaning_mean": stored["mean"], "meaning_basis": stored["basis"]}
    return PictureForm(parts.groups, STRIDE, parts.tables, parts.networks, parts.shifts, heads), graphs


def write_graphs(graphs: dict[str, nn.Module], groups: Sequence[PictureGroup], folder: Path) -> None:
    """The graphs' weights in half precision, and every graph as ONNX."""
    save_halves(graphs, folder)
    view = torch.zeros(1, SIDE, SIDE, 3, dtype=torch.uint8)
    cells = SIDE // STRIDE
    export_graph(graphs["trunk"], (view,), folder / "trunk.onnx")
    export_graph(graphs["picture_analysis"], (view,), folder / "picture_analysis.onnx")
    planes = (torch.zeros(1, channels_of(groups), cells, cells), torch.zeros(1, len(groups)))
    synthesis_inputs = (*planes, torch.zeros(1, PLANES, cells, cells))
    export_graph(graphs["picture_synthesis"], synthesis_inputs, folder / "picture_synthesis.onnx")
