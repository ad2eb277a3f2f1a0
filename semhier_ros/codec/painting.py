"""The network that paints pictures, put together for CPUs, where it takes most of what a picture costs.

`picture_synthesis.onnx` says what is computed (`torch.picture.PictureSynthesis`). The same is computed here in another
order, which an exact identity allows: channels are sorted so that every depth-to-space moves whole pixels, two 1x1
convolutions in a row are one, and the last step, to pixels, is a copy. Where the folder has *ranges*
(`picture_ranges.json`), nearly all of it runs in 8-bit integers, in about half the time; what that costs is measured
(docs/fleet.md). What one layer gives another is then bytes. At each size of the picture these have one grid, so that
what a layer gives, put on it, is added to what it mends without another rounding, by the convolution itself. No block
depends on a painted picture. A graph of another design is run as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.integers import (
    Floats,
    Ranges,
    coarse,
    constant,
    measure_inputs,
    multiplies_bytes,
    ranges_in,
    stepped,
    write_ranges_of,
)
from semhier_ros.codec.model_folder import ModelError
from semhier_ros.codec.picture_blocks import PATCH_SIDE

GRAPH = "picture_synthesis.onnx"
RANGES = "picture_ranges.json"
SUB = 4
"""Pixels across and down that a position has where the last layers work."""
READERS = {
    "coarse": ("coarse.0.body.0", "coarse.1.body.0", "mend", "middle.0"),
    "middle": ("middle.2.body.0", "rise.0"),
    "fine": ("fine.1.body.0", "fine.2.body.0", "fine.3"),
    "linear": ("linear",),
}
WRITERS = {
    "coarse": ("start", "coarse.0.body.3", "coarse.1.body.3"),
    "middle": ("middle.0", "middle.2.body.3"),
    "fine": ("fine.0", "fine.1.body.3", "fine.2.body.3"),
}
"""What is mended step by step at each size of the picture, and the mended latents: the layers that each comes into, and
those that it comes from. Each of its channels has a range (`fine/7`), and its numbers are parts of that. Where none is
rounded that changes nothing; but some channels are several times as large as others, whose steps would be theirs."""
FLOATS = ("start", "mend")
"""Layers that stay in floats: the latents that they take or give have a few numbers far beyond all others."""
PIXELS, CHANGE = (0.0, 255.0), (-128.0, 127.0)
"""Grids of whole pixels: of what `linear` paints, and of what `fine.3` adds to it."""
_SIDE = PATCH_SIDE // SUB
_PIXEL = 3 * SUB * SUB


class Design(NamedTuple):
    """The weights of a synthesis by layer (`fine.0.weight`), the factor of its `linear` layer, and its inputs' sizes:
    latents, picture blocks and planes of meaning, on `rows` by `columns` positions."""

    weights: dict[str, Floats]
    gain: float
    latents: int
    groups: int
    planes: int
    rows: int
    columns: int

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that may have a range."""
        found = dict.fromkeys(name.rpartition(".")[0] for name in self.weights)
        return tuple(name for name in found if name not in (*FLOATS, "linear", "fine.0"))

    @property
    def channels(self) -> dict[str, tuple[str, ...]]:
        """The channels that may have a range, of each of READERS."""
        counts = {stream: len(self.weights[f"{names[-1]}.bias"]) for stream, names in WRITERS.items()}
        counts["linear"] = self.latents
        return {stream: tuple(f"{stream}/{number}" for number in range(count)) for stream, count in counts.items()}


def read_design(model: Any) -> Design | None:
    """What an OpenVINO model read from `picture_synthesis.onnx` says, None where it is of another design."""
    constants = {
        node.get_friendly_name().removesuffix("_half"): np.asarray(node.data)
        for node in model.get_ops()
        if node.get_type_name() == "Constant"
    }
    prefix = "synthesis."
    weights = {
        name.removeprefix(prefix): value.astype(np.float32)
        for name, value in constants.items()
        if name.startswith(prefix)
    }
    gains = [
        float(value.data)
        for node in model.get_ops()
        if node.get_friendly_name() == "/synthesis/Mul_1"
        for value in (source.get_source_output().get_node() for source in node.inputs())
        if value.get_type_name() == "Constant"
    ]
    shapes = [tuple(part.shape) for part in model.inputs]
    known = {f"{name}.{part}" for name in _names(weights) for part in ("weight", "bias")}
    if set(weights) != known or len(gains) != 1 or [len(shape) for shape in shapes] != [4, 2, 4]:
        return None
    (_, latents, rows, columns), (_, groups), (_, planes, _, _) = shapes
    expected = {
        "start": latents + planes + groups,
        "fine.0": 2 * _PIXEL,
        "rise.0": weights["middle.0.weight"].shape[0] // 4,
    }
    if any(weights[f"{name}.weight"].shape[1] != size for name, size in expected.items()):
        return None
    if weights["linear.weight"].shape[:2] != (3 * PATCH_SIDE**2, latents) or len(weights["fine.3.weight"]) != _PIXEL:
        return None
    return Design(weights, gains[0], latents, groups, planes, rows, columns)


def _names(weights: Mapping[str, Floats]) -> Iterator[str]:
    """The layers of the design."""
    yield from ("start", "mend", "linear", "middle.0", "rise.0", "fine.0", "fine.3")
    for block in ("coarse.0", "coarse.1", "middle.2", "fine.1", "fine.2"):
        yield from (f"{block}.body.{layer}" for layer in (0, 1, 3))


def _shuffled(channels: int, side: int) -> NDArray[np.intp]:
    """Where in the order of PyTorch's pixel shuffle (colour first) the channels stand that go position by position."""
    return np.arange(channels).reshape(-1, side * side).T.ravel()


class _Builder:
    """Puts a design together. watched: collects what comes into each layer."""

    def __init__(self, design: Design, ranges: Ranges) -> None:
        import openvino.opset13 as operations

        self._op, self._design = operations, design
        self._grids: dict[str, tuple[float, float]] = {}
        self._spans: dict[str, Floats] = {}
        for stream, names in design.channels.items():
            if set(names) <= set(ranges):
                self._spans[stream] = np.array([max(-ranges[name][0], ranges[name][1]) for name in names], np.float32)
                self._grids[stream] = -1.0, 1.0
        self._bytes = {name for stream in self._spans for name in READERS[stream]}
        if "fine" in self._spans:
            self._grids |= {"pixels": PIXELS, "change": CHANGE}
            self._bytes.add("fine.0")
        self._bytes -= set(FLOATS)
        self._ranges = {name: ends for name, ends in ranges.items() if name not in self._bytes}
        self.watched: dict[str, Any] = {}

    def model(self) -> Any:
        """The OpenVINO model: latents, present and meaning to rows*4, columns*4, 48 bytes (`pixels`)."""
        import openvino

        op, own = self._op, self._design
        places = (own.rows, own.columns)
        latents = op.parameter([1, own.latents, *places], np.float32)
        present = op.parameter([1, own.groups], np.float32)
        meaning = op.parameter([1, own.planes, *places], np.float32)
        told = op.broadcast(op.reshape(present, [1, own.groups, 1, 1], False), [1, own.groups, *places])
        coarse = self._placed("coarse", self._layer("start", op.concat([latents, meaning, told], 1)))
        coarse = self._residual("coarse.1", self._residual("coarse.0", coarse))
        mended = op.add(self._layer("mend", coarse), latents)
        if "linear" in self._spans:
            parts = op.multiply(mended, constant(1 / self._spans["linear"].reshape(1, -1, 1, 1)))
            mended = self._placed("linear", parts)

        pixel = _shuffled(_PIXEL, SUB)  # row, column, colour: as pixels lie in memory
        patch = _shuffled(len(own.weights["linear.weight"]), _SIDE).reshape(-1, _PIXEL)[:, pixel].ravel()
        weight, bias = self._weights("linear")
        weight, bias = weight[patch] * (127.5 * own.gain), (bias[patch] * own.gain + 1) * 127.5  # -1..1 is 0..255
        plain = self._placed("pixels", self._layer("linear", mended, (weight, bias)))
        plain = op.depth_to_space(plain, "blocks_first", _SIDE)

        weight, bias = self._weights("middle.0")
        order = _shuffled(len(weight), 2)
        middle = self._placed("middle", self._layer("middle.0", coarse, (weight[order], bias[order])))
        middle = self._residual("middle.2", op.depth_to_space(middle, "blocks_first", 2))

        # fine.0 of both, side by side, is its left half of the one and its right half of the other; the right half and
        # rise.0, linear both, are one layer
        both, bias = self._weights("fine.0")
        left, right = both[:, :_PIXEL][:, pixel], both[:, _PIXEL:, 0, 0]
        weight, rise_bias = self._weights("rise.0")
        order = _shuffled(len(weight), 2)
        risen = weight[order].reshape(4, _PIXEL, -1)
        weight = np.einsum("oc,pci->poi", right, risen).reshape(len(weight), -1, 1, 1)
        up = self._layer("rise.0", middle, (weight, (rise_bias[order].reshape(4, _PIXEL) @ right.T).ravel()))
        up = op.depth_to_space(self._placed("fine", up), "blocks_first", 2)
        fine = self._layer("fine.0", plain, (left / 127.5, bias - left.sum(axis=(1, 2, 3))))
        fine = self._sum("fine", fine, up)
        fine = self._residual("fine.2", self._residual("fine.1", fine))
        weight, bias = self._weights("fine.3")
        change = self._layer("fine.3", fine, (weight[pixel] * 127.5, bias[pixel] * 127.5))
        bright = op.add(self._placed("change", change), plain)
        whole = op.convert(op.round(op.clamp(bright, 0.0, 255.0), "half_to_even"), np.uint8)
        return openvino.Model([op.transpose(whole, [0, 2, 3, 1])], [latents, present, meaning], "painting")

    def channels(self) -> dict[str, Any]:
        """What comes into the layers of READERS, by channel."""
        found: dict[str, Any] = {}
        for stream, names in self._design.channels.items():
            whole = self._op.concat([self.watched[name] for name in READERS[stream]], 2)
            found |= zip(names, self._op.split(whole, 1, len(names)).outputs(), strict=True)
        return found

    def _weights(self, layer: str) -> tuple[Floats, Floats]:
        """A layer's weights and bias, for channels that are parts of their ranges where they have some."""
        weight, bias = self._design.weights[f"{layer}.weight"], self._design.weights[f"{layer}.bias"]
        for stream, spans in self._spans.items():
            if layer in READERS[stream]:
                weight = weight * spans.reshape((-1, 1, 1, 1) if weight.shape[1] == 1 else (-1, 1, 1))
            if layer in WRITERS.get(stream, ()):
                spans = np.repeat(spans, len(bias) // len(spans))  # a channel's places stand together
                weight, bias = weight / spans.reshape(-1, 1, 1, 1), bias / spans
        return weight, bias

    def _residual(self, name: str, values: Any) -> Any:
        inner = self._op.relu(self._layer(f"{name}.body.1", self._layer(f"{name}.body.0", values)))
        return self._sum(name.partition(".")[0], self._layer(f"{name}.body.3", inner), values)

    def _sum(self, grid: str, change: Any, values: Any) -> Any:
        return self._placed(grid, self._op.add(self._placed(grid, change), values))

    def _placed(self, grid: str, values: Any) -> Any:
        """`values` on a grid, where it is known."""
        return stepped(values, *self._grids[grid]) if grid in self._grids else values

    def _layer(self, name: str, values: Any, own: tuple[Floats, Floats] | None = None) -> Any:
        """A convolution, in integers where its input is bytes or has a range."""
        op = self._op
        weight, bias = own or self._weights(name)
        side = weight.shape[2]
        frame = ([1, 1], [side // 2] * 2, [side // 2] * 2, [1, 1])
        self.watched[name] = values.output(0)
        if name in self._ranges:
            values = stepped(values, *self._ranges[name])
        kernel = coarse if name in self._ranges or name in self._bytes else constant
        if weight.shape[1] == 1:
            found = op.group_convolution(values, kernel(weight[:, None]), *frame)
        else:
            found = op.convolution(values, kernel(weight), *frame)
        return op.add(found, constant(bias.reshape(1, -1, 1, 1)))


def pixels(found: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture H,W,3 from what a painting model gives: rows,columns,48 bytes of 4x4 pixels; or that picture itself."""
    if found.shape[2] == 3:
        return found
    rows, columns, _ = found.shape
    lines = found.view(f"V{3 * SUB}")  # of four pixels each, which NumPy then moves as one
    return np.ascontiguousarray(lines.transpose(0, 2, 1)).view(np.uint8).reshape(rows * SUB, columns * SUB, 3)


def painting_model(core: Any, folder: Path, *, integers: bool) -> Any:
    """The model to compile for a folder's `picture_synthesis.onnx`. integers: use the folder's ranges, if it has them.

    Raises:
        ModelError: they are not what a ranges file holds.
    """
    read = core.read_model(folder / GRAPH)
    design = read_design(read)
    if design is None:
        return read
    ranges = read_ranges(folder, design) if integers and multiplies_bytes(core) else None
    return _Builder(design, ranges or {}).model()


def paints_in_integers(core: Any, folder: Path) -> bool:
    """Whether `painting_model` runs most of a folder's synthesis in integers where it may. Raises ModelError as it."""
    design = read_design(core.read_model(folder / GRAPH))
    return design is not None and multiplies_bytes(core) and bool(read_ranges(folder, design))


def read_ranges(folder: Path, design: Design) -> Ranges | None:
    """The ranges of a folder's synthesis, None where it has none, or only those of another synthesis. Raises ModelError
    for a file that holds something else."""
    return ranges_in(folder / RANGES, folder / GRAPH, (*design.layers, *chain(*design.channels.values())))


def measure_ranges(core: Any, folder: Path, samples: Sequence[tuple[Floats, Floats, Floats]]) -> Ranges:
    """Ranges of what comes into each layer, into READERS by channel, while `samples` (latents, present, meaning) are
    painted in floats.

    Raises:
        ModelError: the folder's synthesis is of another design. ValueError: no samples.
    """
    design = read_design(core.read_model(folder / GRAPH))
    if design is None:
        raise ModelError(f"{folder}/{GRAPH}: of another design than this release paints in integers")
    builder = _Builder(design, {})
    parameters = builder.model().get_parameters()
    alone = set(design.layers) - set(chain(*READERS.values()))
    inputs = {name: builder.watched[name] for name in design.layers if name in alone} | builder.channels()
    parts = [[part[None] for part in sample] for sample in samples]
    return measure_inputs(core, inputs, parameters, parts)


def write_ranges(folder: Path, ranges: Ranges, made_from: str) -> Path:
    """Writes the folder's ranges file; `made_from` says of what, for people."""
    return write_ranges_of(folder / RANGES, folder / GRAPH, ranges, made_from)
