"""Networks to ONNX graphs with half-precision weights, which OpenVINO runs on a robot's CPU."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from torch import nn

from semhier_ros.codec.scene import SceneLayout


def half_precision(graphs: dict[str, nn.Module]) -> None:
    """Round every weight to half precision, in place, so that the ONNX graphs and the CUDA weights are the same."""
    for graph in graphs.values():
        graph.eval().requires_grad_(False)
        for tensor in graph.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.half().float())


def example_inputs(name: str, layout: SceneLayout, canvas: tuple[int, int]) -> tuple[torch.Tensor, ...]:
    """Inputs of graph `name` of the shapes it runs with."""
    if name != "picture_synthesis":
        return (torch.zeros(1, canvas[1], canvas[0], 3, dtype=torch.uint8),)
    height, width = canvas[1] // layout.picture_stride, canvas[0] // layout.picture_stride
    groups = layout.picture_groups
    return (
        torch.zeros(1, sum(groups), height, width),
        torch.zeros(1, len(groups)),
        torch.zeros(1, 1 + len(layout.parents[0]), height, width),
    )


def export_graphs(graphs: dict[str, nn.Module], layout: SceneLayout, canvas: tuple[int, int], folder: Path) -> None:
    """Write `<name>.onnx` for every graph."""
    for name, graph in graphs.items():
        path = folder / f"{name}.onnx"
        plain = copy.deepcopy(graph).float().eval().to(memory_format=torch.contiguous_format)
        torch.onnx.export(plain, example_inputs(name, layout, canvas), str(path), opset_version=17, dynamo=False)
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
