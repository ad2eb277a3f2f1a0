"""Convolutions in 8-bit integers on CPUs: what one needs to run so, and the files that say how large its inputs become.

A *range* is what lies between the lowest and the highest number that comes into a layer, of whole tensors, by
percentiles (Jacob et al., arXiv 1712.05877; Wu et al., arXiv 2004.09602). OpenVINO runs a convolution in integers where
its inputs and weights are stepped. Weights have 8 bits where the processor has VNNI, else 7: of 8 the sums of two
products, which others keep in 16 bits, overflow.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import platform
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.model_folder import ModelError
from semhier_ros.whole_file import write_whole

Floats = NDArray[np.float32]
Ranges = Mapping[str, tuple[float, float]]
"""By layer, the lowest and the highest number that comes into it."""

CUT = 0.01
"""Percent of a layer's inputs, at either end, that lie outside its range."""
LOOKED_AT = 1_000_000
"""Numbers of a layer's inputs that percentiles are taken of, evenly chosen."""
ALL_STEPS, SAFE_STEPS = 127, 63
CONVOLUTIONS = ("Convolution", "GroupConvolution")


def multiplies_bytes(core: Any) -> bool:
    """Whether OpenVINO runs 8-bit convolutions of this CPU as such: on PCs' processors; elsewhere nobody has measured
    it."""
    capable = "INT8" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return capable and platform.machine().lower() in ("x86_64", "amd64")


@functools.cache
def weight_steps() -> int:
    """Steps of a weight to either side of 0 that this processor multiplies without overflow."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return SAFE_STEPS
    return ALL_STEPS if "vnni" in flags else SAFE_STEPS


def constant(values: Any) -> Any:
    """An OpenVINO constant of floats."""
    import openvino.opset13 as operations

    return operations.constant(np.ascontiguousarray(values, np.float32))


def stepped(values: Any, low: float, high: float) -> Any:
    """`values` (an OpenVINO output) in 256 even steps over low..high, one of which is 0."""
    import openvino.opset13 as operations

    step = (high - low) / 255
    below = round(-low / step)
    ends = [constant(-below * step), constant((255 - below) * step)]
    return operations.fake_quantize(values, *ends, *ends, 256)


def coarse(weight: Floats) -> Any:
    """The weights of a convolution (outputs, inputs, height, width; groups before them where there are some), in
    `weight_steps` steps to either side for each output, on a grid of 127."""
    import openvino.opset13 as operations

    inner = tuple(range(weight.ndim - 3, weight.ndim))
    most = np.maximum(np.abs(weight).max(axis=inner, keepdims=True), 1e-12)
    step = most / weight_steps()
    ends = [constant(sign * step * ALL_STEPS) for sign in (-1, 1)]
    return operations.fake_quantize(constant(np.rint(weight / step) * step), *ends, *ends, 2 * ALL_STEPS + 1)


def convolutions(model: Any) -> dict[str, Any]:
    """The convolutions of an OpenVINO model whose weights are constants, by the names that its ONNX file gives them."""
    return {
        node.get_friendly_name().removesuffix("/WithoutBiases"): node
        for node in model.get_ordered_ops()
        if node.get_type_name() in CONVOLUTIONS and _constant_of(node) is not None
    }


def _constant_of(node: Any) -> Any:
    """Where a convolution's weights are kept, behind changes of type and shape; None if they are worked out."""
    source = node.input_value(1).get_node()
    while source.get_type_name() in ("Convert", "Reshape"):
        source = source.input_value(0).get_node()
    return source if source.get_type_name() == "Constant" else None


def in_integers(model: Any, ranges: Ranges) -> Any:
    """The same model with every convolution that has a range in integers. It is changed in place.

    A frame of zeros that is put around a convolution's input becomes the convolution's own: between the two, a layer's
    outputs would be floats again.
    """
    import openvino.opset13 as operations
    from openvino import passes

    folding = passes.Manager()
    folding.register_pass(passes.ConstantFolding())  # of frames, too, which are worked out in the graph
    folding.run_passes(model)
    for name, node in convolutions(model).items():
        if name not in ranges:
            continue
        weight = np.asarray(_constant_of(node).data, np.float32).reshape(list(node.input_value(1).get_shape()))
        source, (begin, end) = _framed(node)
        kind = operations.convolution if node.get_type_name() == CONVOLUTIONS[0] else operations.group_convolution
        own = node.get_attributes()
        made = kind(stepped(source, *ranges[name]), coarse(weight), own["strides"], begin, end, own["dilations"])
        made.set_friendly_name(node.get_friendly_name())
        node.output(0).replace(made.output(0))
    model.validate_nodes_and_infer_types()
    return model


def _framed(node: Any) -> tuple[Any, tuple[list[int], list[int]]]:
    """A convolution's input and the zeros around it, before and after; those of a Pad that gives the input too."""
    own, source = node.get_attributes(), node.input_value(0)
    begin, end = list(own["pads_begin"]), list(own["pads_end"])
    pad = source.get_node()
    if pad.get_type_name() != "Pad" or pad.get_attributes()["pad_mode"] != "constant":
        return source, (begin, end)
    more = [pad.input_value(place).get_node() for place in range(1, pad.get_input_size())]
    if any(part.get_type_name() != "Constant" for part in more) or any(np.any(part.data) for part in more[2:]):
        return source, (begin, end)
    before, after = (np.asarray(part.data).tolist() for part in more[:2])
    if any(before[:2]) or any(after[:2]) or min(*before, *after) < 0:
        return source, (begin, end)
    frame = zip(begin, before[2:], strict=True), zip(end, after[2:], strict=True)
    return pad.input_value(0), ([a + b for a, b in frame[0]], [a + b for a, b in frame[1]])


def measure_inputs(core: Any, inputs: Mapping[str, Any], parameters: Any, samples: Sequence[Any]) -> Ranges:
    """Ranges of `inputs` (OpenVINO outputs by layer) while a model of these parameters runs in floats on `samples`: the
    least and the greatest of the percentiles CUT and 100 - CUT of each, and 0.

    Raises:
        ValueError: no samples.
    """
    import openvino

    if not samples:
        raise ValueError("samples: none, expected what one picture or more give")
    watching = core.compile_model(openvino.Model(list(inputs.values()), parameters, "watched"), "CPU")
    found = dict.fromkeys(inputs, (0.0, 0.0))
    for parts in samples:
        seen = watching(parts)
        for place, name in enumerate(inputs):
            values = seen[place].ravel()
            low, high = np.percentile(values[:: len(values) // LOOKED_AT | 1], (CUT, 100 - CUT)).tolist()
            found[name] = min(found[name][0], low), max(found[name][1], high)
    return found


def ranges_in(path: Path, graph: Path, layers: Collection[str]) -> Ranges | None:
    """The ranges in a file, of layers of `graph`; None where there is no file, or one of another graph.

    Raises:
        ModelError: the file holds something else; the message names it.
    """
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["graph"] != _digest(graph):
            return None
        ranges = {str(name): (float(low), float(high)) for name, (low, high) in found["ranges"].items()}
    except (
        OSError,
        UnicodeDecodeError,
        json.JSONDecodeError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
    ) as error:
        raise ModelError(f"{path}: {type(error).__name__}: {error}; `semhier ranges` makes it") from error
    if unknown := set(ranges) - set(layers):
        raise ModelError(f"{path}: ranges of layers {', '.join(sorted(unknown))}, which {graph.stem} does not have")
    for name, (low, high) in ranges.items():
        if not (math.isfinite(low) and math.isfinite(high) and low <= 0 < high):
            raise ModelError(f"{path}: range {low}..{high} of layer {name}, expected finite numbers, low <= 0 < high")
    return ranges


def write_ranges_of(path: Path, graph: Path, ranges: Ranges, made_from: str) -> Path:
    """Writes a ranges file of `graph`; `made_from` says of what, for people."""
    rounded = {name: [float(f"{low:.6g}"), float(f"{high:.6g}")] for name, (low, high) in ranges.items()}
    write_whole(path, json.dumps({"graph": _digest(graph), "from": made_from, "ranges": rounded}, indent=1) + "\n")
    return path


def _digest(graph: Path) -> str:
    return hashlib.sha256(graph.read_bytes()).hexdigest()[:16]
