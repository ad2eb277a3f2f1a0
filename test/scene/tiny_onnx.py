"""ONNX files of a few bytes whose outputs are known numbers, whatever the picture: detectors to test readers with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SIZE = (96, 64)  # width, height of their input


def write_detector(
    path: Path,
    outputs: Mapping[str, NDArray[np.generic]],
    *,
    shape: tuple[int | str, ...] = (1, 3, SIZE[1], SIZE[0]),
    extra: Mapping[str, tuple[int, ...]] | None = None,
    wobble: float = 0.0,
) -> Path:
    """Writes a file with these outputs. extra: other inputs (int64) and their shapes. wobble: how far a unit of the
    picture's mean (0..255) moves every output."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = [helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0)]
    values = [numpy_helper.from_array(np.float32(wobble), "wobble")]
    nodes.append(helper.make_node("Mul", ["mean", "wobble"], ["moved"]))
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, list(shape))]
    for name, sides in (extra or {}).items():
        inputs.append(helper.make_tensor_value_info(name, TensorProto.INT64, list(sides)))
        nodes.append(helper.make_node("Cast", [name], [f"{name}_float"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("ReduceMean", [f"{name}_float"], [f"{name}_mean"], keepdims=0))
    infos = []
    for name, value in outputs.items():
        kind = TensorProto.INT64 if value.dtype.kind == "i" else TensorProto.FLOAT
        values.append(numpy_helper.from_array(value.astype(np.float32), f"{name}_value"))
        nodes.append(helper.make_node("Add", [f"{name}_value", "moved"], [f"{name}_sum"]))
        nodes.append(helper.make_node("Cast", [f"{name}_sum"], [name], to=kind))
        infos.append(helper.make_tensor_value_info(name, kind, list(value.shape)))
    graph = helper.make_graph(nodes, "tiny", inputs, infos, values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


def grid_rows(size: tuple[int, int] = SIZE, strides: tuple[int, ...] = (8, 16, 32)) -> int:
    return sum(-(-size[0] // stride) * -(-size[1] // stride) for stride in strides)
