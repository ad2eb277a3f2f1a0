"""Networks to ONNX graphs with half-precision weights, which OpenVINO runs on a robot's CPU."""

from __future__ import annotations

import argparse
import copy
import shutil
from pathlib import Path

import numpy as np
import torch
from torch import nn

from semhier_ros import options as shared
from semhier_ros.codec.model_folder import ModelError, read_kind
from semhier_ros.codec.picture_blocks import PATCH_SIDE
from semhier_ros.command import CommandError, for_the_user
from semhier_ros.paths import find_model
from semhier_ros.scene.folder import SceneFolder, read_scene_folder, write_scene_card
from semhier_ros.scene.layout import SceneLayout
from semhier_ros.torch.scene_backend import build_graphs, load_weights
from semhier_ros.whole_file import replacing_folder


def half_precision(graphs: dict[str, nn.Module]) -> None:
    """Round every weight to half precision, in place, so that the ONNX graphs and the CUDA weights are the same."""
    for graph in graphs.values():
        graph.eval().requires_grad_(False)
        for tensor in graph.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.half().float())


def save_halves(graphs: dict[str, nn.Module], folder: Path) -> None:
    """Write `weights.safetensors`: the graphs' weights in half precision, each under its graph's name."""
    from safetensors.torch import save_file

    tensors = {f"{part}.{key}": value for part, graph in graphs.items() for key, value in graph.state_dict().items()}
    halves = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
    save_file(halves, folder / "weights.safetensors")


def example_inputs(name: str, layout: SceneLayout, canvas: tuple[int, int]) -> tuple[torch.Tensor, ...]:
    """Inputs of graph `name` of the shapes it runs with; `canvas` is the detector's."""
    height, width = canvas[1] // layout.picture_stride, canvas[0] // layout.picture_stride
    if name == "picture_analysis":
        return (torch.zeros(1, height * PATCH_SIDE, width * PATCH_SIDE, 3, dtype=torch.uint8),)
    if name == "detector":
        return (torch.zeros(1, canvas[1], canvas[0], 3, dtype=torch.uint8),)
    groups = layout.picture_groups
    return (
        torch.zeros(1, max(stop for _, stop, _ in groups), height, width),
        torch.zeros(1, len(groups)),
        torch.zeros(1, 1 + len(layout.parents[0]), height, width),
    )


def export_graphs(graphs: dict[str, nn.Module], layout: SceneLayout, canvas: tuple[int, int], folder: Path) -> None:
    """Write `<name>.onnx` for every graph."""
    for name, graph in graphs.items():
        export_graph(graph, example_inputs(name, layout, canvas), folder / f"{name}.onnx")


def export_graph(graph: nn.Module, inputs: tuple[torch.Tensor, ...], path: Path) -> None:
    """Write one network, as it runs on `inputs`, as an ONNX graph with half-precision weights."""
    plain = copy.deepcopy(graph).float().eval().to(memory_format=torch.contiguous_format)
    torch.onnx.export(plain, inputs, str(path), opset_version=17, dynamo=False)
    _halve_weights(path)


def _halve_weights(path: Path) -> None:
    """Store every large float weight in half precision, followed by a Cast: half the file, the same arithmetic."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(path)
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < 64:
            continue
        values = numpy_helper.to_array(tensor).astype(np.float16)
        stored = numpy_helper.from_array(values, tensor.name + "_half")
        casts.append(helper.make_node("Cast", [stored.name], [tensor.name], to=TensorProto.FLOAT))
        tensor.CopyFrom(stored)
    for number, cast in enumerate(casts):
        graph.node.insert(number, cast)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def renew_card(folder: Path, model: SceneFolder) -> None:
    """Write the card of a folder anew: all as `model` has it, but for the hashes, which are of what lies there now."""
    write_scene_card(
        folder,
        model.name,
        model.canvas,
        model.threshold,
        model.stream.layout,
        own_detector=model.own_detector,
        detector=model.detector,
        picture_planes=model.picture_planes,
        looks=model.looks,
        agreement=model.agreement,
        certainty=model.certainty,
        memory_overlap=model.memory_overlap,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="model name or folder: its weights.safetensors becomes its ONNX graphs")
    shared.out(parser, None, "folder for the graphs (default: the model folder, hashes renewed)", required=False)


def run(options: argparse.Namespace) -> int:
    """`semhier export`: make the ONNX graphs of a model folder from its weights.

    Raises:
        CommandError: there is no such folder, it cannot be read, or its networks are not ours.
    """
    with for_the_user(FileNotFoundError, ModelError):
        folder = find_model(options.model)
        kind = read_kind(folder)
        model = read_scene_folder(folder) if kind == "scene" else None
    if model is None or not model.own_detector:
        has = "a detector of others" if model is not None else f"kind {kind}"
        raise CommandError(f"model {options.model}: {has}; a model of scenes with a detector of ours expected")
    layout = model.stream.layout
    graphs = build_graphs(len(layout.parents[-1]), 1 + len(layout.parents[0]), layout.picture_groups)
    load_weights(graphs, folder / "weights.safetensors")
    target: Path = options.out or folder
    if options.out is not None:
        export_graphs(graphs, layout, model.canvas, target)
    else:
        with replacing_folder(folder) as made:
            shutil.copytree(folder, made, dirs_exist_ok=True)
            export_graphs(graphs, layout, model.canvas, made)
            renew_card(made, model)
    for name in graphs:
        print(target / f"{name}.onnx")
    return 0
