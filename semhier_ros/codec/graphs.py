"""Networks on a CPU: the ONNX graphs of a model folder in OpenVINO, and the pair that makes pictures of any kind."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.canvas import Lift
from semhier_ros.codec.compiled_walk import CPU
from semhier_ros.codec.model import Spent
from semhier_ros.codec.painting import painting_model, paints_in_integers, pixels
from semhier_ros.codec.picture_walk import Arithmetic

Floats = NDArray[np.float32]
PictureParts = tuple[Any, Floats, Floats]
"""What a canvas is made from: latents (where the backend's arithmetic computes), present, meaning, as `synthesise`
takes them."""

_CORE_LOCK = threading.Lock()


def openvino_core() -> Any:
    """The one OpenVINO Core of this process, kept for good.

    A Core's CPU plugin gives the thread that made it a signal stack, and frees it when the Core goes (seen with
    OpenVINO 2026.4): the next Ctrl-C would be a segmentation fault.
    """
    with _CORE_LOCK:  # two threads at once would make two, and one of them would go
        return _make_core()


@functools.cache
def _make_core() -> Any:
    import openvino

    return openvino.Core()


PRECISIONS = ("auto", "f32", "bf16")
COARSE_GRAPHS = ("detector", "picture_analysis")
"""Graphs that bfloat16 serves as well: half the time, the same accuracy. A trunk's posterior and a painted picture are
left in float32."""


def check_precision(precision: str) -> None:
    """Raises ValueError for what is none."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision: {precision!r} is not one of {', '.join(PRECISIONS)}")


@functools.cache
def has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 by itself (AVX-512 BF16, AMX), by OpenVINO's word."""
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoGraphs:
    """Runs the graphs of a model folder on the CPU; each is compiled when first used, so a decoder that shows no
    picture holds no picture graph.

    threads: how many; 0 leaves it to OpenVINO. precision: `f32`, `bf16`, or `auto`: bfloat16 for `COARSE_GRAPHS` on
    CPUs that have it, else float32, and 8-bit integers for painting where the folder says how (`codec.painting`). What
    is decoded does not depend on it, for no float reaches the entropy coder.
    """

    def __init__(self, folder: Path, threads: int = 0, precision: str = "auto"):
        check_precision(precision)
        if not 0 <= threads <= 256:
            raise ValueError(f"threads: {threads} is outside 0..256")
        self._folder, self._threads, self._precision = folder, threads, precision
        self._requests: dict[tuple[str, tuple[int, ...]], Any] = {}
        self._lock = threading.Lock()

    def run(self, graph: str, *inputs: NDArray[Any], shaped: Literal["", "once", "any"] = "") -> list[NDArray[Any]]:
        """The outputs of a graph, in its order, for inputs in its order.

        shaped: its one input (1,H,W,C) may have another height and width than the graph was exported for: it is
        compiled for each (`once`), or once for all of them (`any`; a pass takes a tenth longer, the first of a size
        some 50 ms).
        """
        shape: tuple[int, ...] = inputs[0].shape if shaped else ()
        if shaped == "any":
            shape = (shape[0], -1, -1, shape[3])
        with self._lock:
            request = self._requests.get((graph, shape))
            if request is None:
                request = self._requests[graph, shape] = self._compile(graph, shape)
            results = request.infer(list(inputs), share_inputs=True)
            return [np.array(results[output]) for output in request.model_outputs]

    def precision_of(self, graph: str) -> str:
        """`f32` or `bf16`: what `graph` is run in."""
        if self._precision == "auto":
            return "bf16" if graph in COARSE_GRAPHS and has_bfloat16() else "f32"
        return self._precision

    def _compile(self, graph: str, shape: tuple[int, ...]) -> Any:
        core = openvino_core()
        model = self._read(core, graph)
        if shape:
            model.reshape(list(shape))
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": self.precision_of(graph),
            "ENABLE_CPU_PINNING": False,  # pinned, every process of one thread sits on the machine's first core
        }
        if self._threads:
            options["INFERENCE_NUM_THREADS"] = self._threads
        return core.compile_model(model, "CPU", options).create_infer_request()

    def _read(self, core: Any, graph: str) -> Any:
        """The model of a graph, as it is to be compiled."""
        return core.read_model(self._folder / f"{graph}.onnx")


class PictureMaker(Protocol):
    """The part of a backend that makes many pictures. arithmetic: where the context networks of picture blocks run."""

    @property
    def arithmetic(self) -> Arithmetic: ...

    def synthesise_many(self, requests: Sequence[PictureParts], lifts: Sequence[Lift]) -> list[NDArray[np.uint8]]: ...


def synthesise_timed(
    maker: PictureMaker, parts: Sequence[PictureParts], lifts: Sequence[Lift], spent: Spent | None
) -> list[NDArray[np.uint8]]:
    """The pictures of any number of requests; their time goes to `spent`."""
    timer = perf_counter if spent is None else spent.timer
    began = timer()
    made = maker.synthesise_many(parts, lifts) if parts else []
    if spent is not None:
        spent.device += timer() - began
    return made


class OpenVinoPictures(OpenVinoGraphs):
    """The two graphs of pictures, which every kind of model has."""

    batches = False
    arithmetic = CPU

    def analyse(self, canvas: NDArray[np.uint8]) -> Floats:
        return self.run("picture_analysis", canvas[None])[0][0]

    def synthesise(self, latents: Floats, present: Floats, meaning: Floats) -> NDArray[np.uint8]:
        return pixels(self.run("picture_synthesis", latents[None], present[None], meaning[None])[0][0])

    @property
    def paints_in_integers(self) -> bool:
        """Whether most of what paints runs in 8-bit integers."""
        return self._precision == "auto" and paints_in_integers(openvino_core(), self._folder)

    def _read(self, core: Any, graph: str) -> Any:
        if graph == "picture_synthesis":
            return painting_model(core, self._folder, integers=self._precision == "auto")
        return super()._read(core, graph)

    def synthesise_many(self, requests: Sequence[PictureParts], lifts: Sequence[Lift]) -> list[NDArray[np.uint8]]:
        return [lift(self.synthesise(*parts)) for parts, lift in zip(requests, lifts, strict=True)]
