"""The picture blocks' part of a whole-image model's folder: graphs, tables and context networks from `picture.pt`.

`imagenet_model` puts it together with the semantic blocks' part; neither knows how the other came about.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from semhier_ros.codec.entropy import Tables
from semhier_ros.codec.integer_network import IntegerNetwork
from semhier_ros.networks.classifier import SIDE, load_classifier
from semhier_ros.networks.picture import MAX_SCALE, MIN_SCALE, STRIDE, PictureModel
from semhier_ros.networks.torch_image_backend import build_image_graphs
from semhier_ros.training.export import export_graph, half_precision
from semhier_ros.training.imagenet_meaning import PLANES
from semhier_ros.training.imagenet_picture import GROUPS
from semhier_ros.training.integer_form import integer_context, nearest_rows, scale_table
from semhier_ros.training.loop import load_checkpoint

ROWS, HALF = 64, 127


class PictureForm(NamedTuple):
    """groups and stride: as in the layout; tables and networks by their names in the stream; first_rows: table rows of
    the first group's channels; heads: arrays of heads.safetensors."""

    groups: tuple[int, ...]
    stride: int
    tables: dict[str, Tables]
    networks: dict[str, IntegerNetwork]
    first_rows: NDArray[np.uint8]
    heads: dict[str, NDArray]


def load_picture_form(out: Path) -> tuple[PictureForm, dict[str, nn.Module]]:
    """The part that `picture.pt` and `meaning.npz` in `out` give, and the graphs, trunk included.

    Raises:
        FileNotFoundError: there is no picture.pt; train it first.
    """
    saved = load_checkpoint(out / "picture.pt")
    if saved is None:
        raise FileNotFoundError(f"{out}: no picture.pt; run `semhier train imagenet picture` first")
    model = PictureModel(PLANES, GROUPS)
    model.load_state_dict(saved["average"])
    graphs = build_image_graphs(GROUPS, PLANES)
    graphs["trunk"].network.load_state_dict(load_classifier(0).state_dict())
    graphs["picture_analysis"].analysis = model.analysis
    graphs["picture_synthesis"].synthesis = model.synthesis
    half_precision(graphs)
    tables, scales = scale_table(MIN_SCALE, MAX_SCALE, ROWS, HALF)
    networks = {
        f"picture_{group + 1}": integer_context(context.children(), scales)
        for group, context in enumerate(model.contexts)
    }
    with np.load(out / "meaning.npz") as stored:
        heads = {"meaning_mean": stored["mean"], "meaning_basis": stored["basis"]}
    rows = nearest_rows(model.first_scale, scales)
    return PictureForm(GROUPS, STRIDE, {"picture": tables}, networks, rows, heads), graphs


def write_graphs(graphs: dict[str, nn.Module], folder: Path) -> None:
    """The graphs' weights in half precision, and every graph as ONNX."""
    from safetensors.torch import save_file

    tensors = {f"{part}.{key}": value for part, graph in graphs.items() for key, value in graph.state_dict().items()}
    halves = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
    save_file(halves, folder / "weights.safetensors")
    view = torch.zeros(1, SIDE, SIDE, 3, dtype=torch.uint8)
    cells = SIDE // STRIDE
    export_graph(graphs["trunk"], (view,), folder / "trunk.onnx")
    export_graph(graphs["picture_analysis"], (view,), folder / "picture_analysis.onnx")
    planes = (torch.zeros(1, sum(GROUPS), cells, cells), torch.zeros(1, len(GROUPS)))
    synthesis_inputs = (*planes, torch.zeros(1, PLANES, cells, cells))
    export_graph(graphs["picture_synthesis"], synthesis_inputs, folder / "picture_synthesis.onnx")
