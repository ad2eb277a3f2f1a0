"""Engines that run a detector's ONNX file: OpenVINO on CPUs; ONNX Runtime for CUDA and TensorRT where installed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.graphs import openvino_core
from semhier_ros.scene.detectors.decode import Tensor
from semhier_ros.scene.detectors.layouts import DetectorError

ENGINES = ("auto", "openvino", "onnxruntime", "cuda", "tensorrt")
PROVIDERS = {
    "onnxruntime": ["CPUExecutionProvider"],
    "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"],
    "tensorrt": ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
}


class Input(NamedTuple):
    """An input tensor: sides are -1 where the file leaves them open; kind: its type for numpy."""

    name: str
    shape: tuple[int, ...]
    kind: np.dtype[Any]


class Engine(Protocol):
    """A file, loaded and fixed to one size of input. name: of the engine. Safe to share between threads."""

    name: str
    inputs: tuple[Input, ...]
    outputs: tuple[Tensor, ...]

    def run(self, values: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """All outputs by name, for the inputs in their order. The arrays are the caller's own."""
        ...


def open_engine(
    path: Path, engine: str, threads: int, size: tuple[int, int] | None, default: tuple[int, int], features: str | None
) -> Engine:
    """The engine of that name with the file in it.

    engine: one of ENGINES; `auto` is OpenVINO. threads: CPU threads, 0 for the engine's own choice. size: width and
    height that the input is reshaped to (None: the file's own, `default` where it leaves them open). features: a
    tensor within the file that becomes an output too.

    Raises:
        DetectorError: the file is missing or no readable ONNX file, cannot take that size, or has no such tensor; or
            the engine is not installed.
    """
    if engine not in ENGINES:
        raise DetectorError(f"engine: {engine!r} is not one of {', '.join(ENGINES)}")
    if not path.is_file():
        raise DetectorError(f"detector {path}: no such file")
    if engine in ("auto", "openvino"):
        return OpenVinoEngine(path, threads, size, default, features)
    return OnnxRuntimeEngine(path, engine, threads, size, default, features)


def one_line(error: BaseException) -> str:
    """An engine's complaint without its stack of file names: the last line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(("Exception from", "Check '", "While validating", "at "))]
    return " ".join((said or lines or [type(error).__name__])[-1].split())[:200]


def image_input(inputs: Sequence[Input]) -> int:
    """Which input takes the picture: the one of rank 4.

    Raises:
        DetectorError: there is none, or several.
    """
    found = [number for number, item in enumerate(inputs) if len(item.shape) == 4]
    if len(found) != 1:
        words = ", ".join(f"`{item.name}` {','.join(map(str, item.shape))}" for item in inputs)
        raise DetectorError(f"inputs {words or 'none'}: one of four sides, a picture's, is wanted")
    return found[0]


def is_nhwc(item: Input) -> bool:
    """Whether a picture's channels come last."""
    return item.shape[3] == 3 and item.shape[1] != 3


def fixed_shape(item: Input, size: tuple[int, int] | None, default: tuple[int, int]) -> tuple[int, ...]:
    """The picture input's shape for one picture of `size` (see `open_engine`)."""
    nhwc = is_nhwc(item)
    sides = item.shape[1:3] if nhwc else item.shape[2:]
    width, height = size or (sides[1] if sides[1] > 0 else default[0], sides[0] if sides[0] > 0 else default[1])
    return (1, height, width, 3) if nhwc else (1, 3, height, width)


class OpenVinoEngine:
    """OpenVINO on the CPU, in float32: boxes of several hundred pixels have no room in bfloat16."""

    name = "openvino"

    def __init__(
        self,
        path: Path,
        threads: int,
        size: tuple[int, int] | None,
        default: tuple[int, int],
        features: str | None = None,
    ):
        core = openvino_core()
        try:
            model = core.read_model(path)
        except RuntimeError as error:
            raise DetectorError(f"detector {path}: no readable ONNX file ({one_line(error)})") from None
        if features is not None:
            try:
                model.add_outputs(features)
            except RuntimeError:
                raise DetectorError(f"features: detector {path} has no tensor {features!r}") from None
        inputs = [
            Input(item.any_name, _shape(item.partial_shape), np.dtype(item.element_type.to_dtype()))
            for item in model.inputs
        ]
        place = image_input(inputs)
        wanted = fixed_shape(inputs[place], size, default)
        if wanted != inputs[place].shape:
            shapes = {model.inputs[place]: list(wanted)}
            for item in model.inputs:  # beside a picture goes what has one row a picture
                if item is not model.inputs[place] and item.partial_shape.is_dynamic:
                    shapes[item] = [1 if side < 0 else side for side in _shape(item.partial_shape)]
            try:
                model.reshape(shapes)
            except RuntimeError as error:
                side = f"{wanted[3]}x{wanted[2]}" if wanted[1] == 3 else f"{wanted[2]}x{wanted[1]}"
                raise DetectorError(f"detector {path}: cannot take pictures of {side} ({one_line(error)})") from None
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
        }
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            self._request = core.compile_model(model, "CPU", options).create_infer_request()
        except RuntimeError as error:
            raise DetectorError(f"detector {path}: OpenVINO cannot run it ({one_line(error)})") from None
        self.inputs = tuple(
            Input(item.any_name, _shape(item.partial_shape), np.dtype(item.element_type.to_dtype()))
            for item in model.inputs
        )
        self.outputs = tuple(
            Tensor(
                features if features is not None and features in item.names else item.any_name,
                _shape(item.partial_shape),
                np.dtype(item.element_type.to_dtype()).kind in "iu",
            )
            for item in model.outputs
        )
        self._lock = threading.Lock()

    def run(self, values: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
        with self._lock:
            results = self._request.infer(list(values), share_inputs=True)
            return {
                tensor.name: np.array(results[output])
                for tensor, output in zip(self.outputs, self._request.model_outputs, strict=True)
            }


def _shape(partial: Any) -> tuple[int, ...]:
    if partial.rank.is_dynamic:
        return ()
    return tuple(-1 if side.is_dynamic else side.get_length() for side in partial)


class OnnxRuntimeEngine:
    """ONNX Runtime: `onnxruntime-gpu` for `cuda` and `tensorrt`, `onnxruntime` for its CPU provider.

    Raises:
        DetectorError: it is not installed, or has no such provider, or cannot read the file.
    """

    def __init__(
        self,
        path: Path,
        engine: str,
        threads: int,
        size: tuple[int, int] | None,
        default: tuple[int, int],
        features: str | None = None,
    ):
        try:
            import onnxruntime
        except ModuleNotFoundError:
            package = "onnxruntime" if engine == "onnxruntime" else "onnxruntime-gpu"
            raise DetectorError(f"engine {engine}: needs ONNX Runtime: pip install {package}") from None
        available = onnxruntime.get_available_providers()
        if PROVIDERS[engine][0] not in available:
            raise DetectorError(f"engine {engine}: ONNX Runtime here has {', '.join(available)}")
        self.name = engine
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        providers = [name for name in PROVIDERS[engine] if name in available]
        try:
            source: Any = _with_output(path, features) if features is not None else str(path)
            self._session = onnxruntime.InferenceSession(source, options, providers=providers)
        except DetectorError:
            raise
        except Exception as error:  # its own exceptions have no common ancestor of their own
            raise DetectorError(f"detector {path}: no readable ONNX file ({one_line(error)})") from None
        if self._session.get_providers()[0] != PROVIDERS[engine][0]:
            raise DetectorError(f"engine {engine}: did not start; ONNX Runtime fell back to the CPU")
        found = [Input(item.name, _sides(item.shape), _kind(item.type)) for item in self._session.get_inputs()]
        place = image_input(found)
        shape = fixed_shape(found[place], size, default)
        if any(own > 0 and own != wanted for own, wanted in zip(found[place].shape, shape, strict=True)):
            words = ",".join(map(str, found[place].shape))
            raise DetectorError(f"detector {path}: input `{found[place].name}` is {words}, and {engine} cannot reshape")
        found[place] = found[place]._replace(shape=shape)
        self.inputs = tuple(found)
        self.outputs = tuple(
            Tensor(item.name, _sides(item.shape), "int" in item.type) for item in self._session.get_outputs()
        )

    def run(self, values: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
        named = {item.name: value for item, value in zip(self.inputs, values, strict=True)}
        results = self._session.run(None, named)
        return {tensor.name: np.asarray(value) for tensor, value in zip(self.outputs, results, strict=True)}


def _with_output(path: Path, name: str) -> bytes:
    """The file with one of its tensors as an output more."""
    import onnx

    model = onnx.load(str(path))
    if name not in {output for node in model.graph.node for output in node.output}:
        raise DetectorError(f"features: detector {path} has no tensor {name!r}")
    model.graph.output.append(onnx.ValueInfoProto(name=name))
    return bytes(model.SerializeToString())


def _sides(shape: Sequence[Any]) -> tuple[int, ...]:
    return tuple(side if isinstance(side, int) else -1 for side in shape)


def _kind(name: str) -> np.dtype[Any]:
    """numpy's type for ONNX Runtime's `tensor(float)` and the like."""
    word = name.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32", "double": "float64"}.get(word, word))
