"""The networks of a scene model as the codec sees them, and their CPU form: exported ONNX graphs in OpenVINO.

Nothing that feeds the entropy coder comes from here on the decoding side, so backends may differ in the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.canvas import Lift
from semhier_ros.codec.graphs import Floats, OpenVinoPictures, PictureParts, openvino_core
from semhier_ros.codec.integers import (
    Ranges,
    convolutions,
    in_integers,
    measure_inputs,
    multiplies_bytes,
    ranges_in,
    write_ranges_of,
)
from semhier_ros.codec.picture_walk import Arithmetic
from semhier_ros.scene.objects import DetectorMaps

GRAPHS = ("detector", "picture_analysis", "picture_synthesis")
DETECTOR = "detector.onnx"
MANY_CHANNELS = (2, 3)  # its outputs types and features
DETECTOR_RANGES = "detector_ranges.json"


class Backend(Protocol):
    """What an encoder and a decoder need of the networks. Canvases are H,W,3 uint8 RGB: the detector's of the size of
    one of the model's looks (any_size: of a part of it), others of the size of its canvas.

    batches: whether several canvases at once cost less than one after another. arithmetic: where the context networks
    of picture blocks run.
    """

    batches: bool

    @property
    def arithmetic(self) -> Arithmetic: ...

    def detect(self, canvas: NDArray[np.uint8], any_size: bool = False) -> DetectorMaps:
        """The detector's dense maps of a canvas. any_size: the next may be of another size."""
        ...

    def analyse(self, canvas: NDArray[np.uint8]) -> Floats:
        """Picture latents C,h,w of a canvas."""
        ...

    def synthesise(self, latents: Any, present: Floats, meaning: Floats) -> NDArray[np.uint8]:
        """A canvas from picture latents C,h,w (missing groups zero; where `arithmetic` computes), which groups are
        present, and the meaning map."""
        ...

    def synthesise_many(self, requests: Sequence[PictureParts], lifts: Sequence[Lift]) -> list[NDArray[np.uint8]]:
        """The pictures of several requests (one or more), of one camera or of many, each lifted from its canvas."""
        ...


def detector_model(core: Any, folder: Path, *, integers: bool) -> Any:
    """The OpenVINO model of a folder's detector. integers: in 8-bit integers where the folder says how large its
    numbers become (DETECTOR_RANGES) and the CPU gains by it.

    Raises:
        ModelError: the ranges are not what such a file holds.
    """
    model = core.read_model(folder / DETECTOR)
    if integers and multiplies_bytes(core):
        ranges = ranges_in(folder / DETECTOR_RANGES, folder / DETECTOR, convolutions(model).keys())
        if ranges:
            return in_integers(model, ranges)
    return model


def channels_last(model: Any, outputs: Sequence[int]) -> Any:
    """The OpenVINO model with these of its outputs, B,C,H,W, as B,H,W,C: so they lie in memory as convolutions leave
    them. To turn them round costs a twentieth of a pass, and few cells are asked for."""
    from openvino import Layout
    from openvino.preprocess import PrePostProcessor

    turned = PrePostProcessor(model)
    for number in outputs:
        output = turned.output(number)
        output.model().set_layout(Layout("NCHW"))
        output.tensor().set_layout(Layout("NHWC"))
    return turned.build()


def looks_in_integers(core: Any, folder: Path) -> bool:
    """Whether `detector_model` runs a folder's detector in integers where it may. Raises ModelError as it."""
    if not multiplies_bytes(core) or not (folder / DETECTOR_RANGES).exists():
        return False
    layers = convolutions(core.read_model(folder / DETECTOR)).keys()
    return bool(ranges_in(folder / DETECTOR_RANGES, folder / DETECTOR, layers))


def measure_detector(core: Any, folder: Path, canvases: Sequence[NDArray[np.uint8]]) -> Ranges:
    """Ranges of what comes into each convolution of a folder's detector while it looks at canvases (H,W,3, of any
    sizes).

    Raises:
        ValueError: no canvases.
    """
    found: dict[str, tuple[float, float]] = {}
    for shape in dict.fromkeys(canvas.shape for canvas in canvases) or ((),):
        model = core.read_model(folder / DETECTOR)
        if shape:
            model.reshape([1, *shape])
        inputs = {name: node.input_value(0) for name, node in convolutions(model).items()}
        samples = [[canvas[None]] for canvas in canvases if canvas.shape == shape]
        for name, (low, high) in measure_inputs(core, inputs, model.get_parameters(), samples).items():
            before = found.get(name, (0.0, 0.0))
            found[name] = min(low, before[0]), max(high, before[1])
    return found


def write_detector_ranges(folder: Path, ranges: Ranges, made_from: str) -> Path:
    """Writes the ranges of a folder's detector; `made_from` says of what, for people."""
    return write_ranges_of(folder / DETECTOR_RANGES, folder / DETECTOR, ranges, made_from)


class OpenVinoBackend(OpenVinoPictures):
    """Runs a scene model's graphs on the CPU, each compiled when first used."""

    def detect(self, canvas: NDArray[np.uint8], any_size: bool = False) -> DetectorMaps:
        objectness, box, types, features = self.run("detector", canvas[None], shaped="any" if any_size else "once")
        return DetectorMaps(objectness[0, 0], box[0], np.moveaxis(types[0], 2, 0), np.moveaxis(features[0], 2, 0))

    @property
    def looks_in_integers(self) -> bool:
        """Whether the detector runs in 8-bit integers."""
        return self._precision == "auto" and looks_in_integers(openvino_core(), self._folder)

    def _read(self, core: Any, graph: str) -> Any:
        if graph != "detector":
            return super()._read(core, graph)
        return channels_last(detector_model(core, self._folder, integers=self._precision == "auto"), MANY_CHANNELS)
