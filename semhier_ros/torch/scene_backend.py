"""The networks in torch, from a model folder's half-precision weights: the CUDA path of encoder and decoder.

On CUDA the networks run in half precision, and canvases go through pinned memory; what an encoder waits for has a
stream of higher priority than pictures, whose context networks share theirs. Latents stay on the device from those to
the synthesis, and pictures are scaled there: they come down together, as bytes in their own size. On the CPU all runs
in float32, which is how the two paths are held to the same reading and picture by tests without a GPU.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from semhier_ros.codec.canvas import Lift
from semhier_ros.codec.graphs import PictureParts
from semhier_ros.codec.model_folder import read_card
from semhier_ros.scene.objects import DetectorMaps
from semhier_ros.torch.captured import Captured, CudaCapture
from semhier_ros.torch.detector import Detector
from semhier_ros.torch.exact import TorchArithmetic
from semhier_ros.torch.picture import PictureAnalysis, PictureSynthesis

Floats = NDArray[np.float32]


class DetectorGraph(nn.Module):
    """The detector from a uint8 canvas (1,H,W,3) to objectness (0..1), box, type logits and features."""

    def __init__(self, detector: Detector):
        super().__init__()
        self.detector = detector

    def forward(self, canvas: Tensor) -> tuple[Tensor, ...]:
        output = self.detector(as_input(canvas, self.detector.tower[0][0].weight.dtype))
        return output.objectness.sigmoid(), output.box, output.types, output.features


class AnalysisGraph(nn.Module):
    """Picture latents of a uint8 canvas (1,H,W,3)."""

    def __init__(self, analysis: PictureAnalysis):
        super().__init__()
        self.analysis = analysis

    def forward(self, canvas: Tensor) -> Tensor:
        return self.analysis(as_input(canvas, self.analysis.linear.weight.dtype))


class SynthesisGraph(nn.Module):
    """A uint8 canvas (1,H,W,3) from picture latents, presence and meaning."""

    def __init__(self, synthesis: PictureSynthesis):
        super().__init__()
        self.synthesis = synthesis

    def forward(self, latents: Tensor, present: Tensor, meaning: Tensor) -> Tensor:
        picture = self.synthesis(latents, present, meaning).add(1.0).mul(127.5)
        return picture.clamp(0.0, 255.0).round().permute(0, 2, 3, 1).to(torch.uint8)


def as_input(canvas: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 B,H,W,3 RGB to B,3,H,W in -1..1."""
    return canvas.permute(0, 3, 1, 2).to(dtype).div(127.5).sub(1.0)


def build_graphs(types: int, meanings: int, groups: Sequence[Sequence[int]]) -> dict[str, nn.Module]:
    """The three networks, untrained, keyed as their ONNX graphs and their tensors' prefixes are. types: leaves;
    meanings: planes that the synthesis is told; groups: the picture blocks'."""
    channels = max(stop for _, stop, _ in groups)
    return {
        "detector": DetectorGraph(Detector(types)),
        "picture_analysis": AnalysisGraph(PictureAnalysis(channels)),
        "picture_synthesis": SynthesisGraph(PictureSynthesis(meanings, channels, len(groups))),
    }


def load_weights(graphs: dict[str, nn.Module], path: Path) -> None:
    """Fill `graphs` from a model folder's half-precision weights."""
    weights = load_file(path)
    for name, graph in graphs.items():
        own = {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}
        graph.load_state_dict(own)


class HasPath(Protocol):
    """The part of a folder that is needed here."""

    @property
    def path(self) -> Path: ...


class TorchBackend:
    """`scene.backend.Backend` in torch. precision: `f32`, `bf16`, or `auto`: float16 on CUDA, float32 on a CPU.

    Raises:
        ValueError: `device` is `cuda` and torch sees none.
    """

    def __init__(self, model: HasPath, device: str, precision: str = "auto"):
        layout = read_card(model.path)["layout"]
        graphs = build_graphs(len(layout["parents"][-1]), 1 + len(layout["parents"][0]), layout["picture_groups"])
        load_weights(graphs, model.path / "weights.safetensors")
        self.place(graphs, device, precision)

    batches = True

    def place(self, graphs: dict[str, nn.Module], device: str, precision: str) -> None:
        """Put loaded `graphs` on `device`, ready to run. Raises ValueError where torch sees no such device."""
        if device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device: cuda was asked for, but torch sees no CUDA device; use cpu or auto")
        # with its number, as its tensors say it
        self._device = torch.device("cuda", torch.cuda.current_device()) if device == "cuda" else torch.device(device)
        if device == "cuda" and precision == "f32":
            torch.backends.cudnn.allow_tf32 = False  # which has the mantissas of float16
        usual = torch.float16 if device == "cuda" else torch.float32
        self._dtype = {"f32": torch.float32, "bf16": torch.bfloat16}.get(precision, usual)
        self._graphs = graphs
        for graph in self._graphs.values():
            graph.to(self._device, self._dtype).to(memory_format=torch.channels_last).eval().requires_grad_(False)
        soon, later = (
            torch.cuda.Stream(self._device, priority=priority) if device == "cuda" else None for priority in (-1, 0)
        )
        self._streams: dict[str, Any] = {name: later if name == "picture_synthesis" else soon for name in graphs}
        self._locks = {name: threading.Lock() for name in graphs}
        painter = graphs["picture_synthesis"]
        self._paint = Captured(painter, CudaCapture(self._device)) if device == "cuda" else painter
        self._pinned: dict[tuple[Any, ...], Tensor] = {}
        self.arithmetic = TorchArithmetic(self._device, later)
        if device == "cuda":
            torch.cuda.synchronize(self._device)  # weights are where the streams will look for them

    def _upload(self, key: tuple[str, int], array: NDArray[Any]) -> Tensor:
        """An input of a graph on the device. key: the graph's name and the input's place."""
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self._device.type == "cpu":
            return tensor if tensor.dtype == torch.uint8 else tensor.to(self._dtype)
        kept = self._pinned.get(key)
        if kept is None or kept.numel() < tensor.numel() or kept.dtype != tensor.dtype:
            kept = self._pinned[key] = torch.empty(tensor.numel(), dtype=tensor.dtype).pin_memory()
        pinned = kept[: tensor.numel()].view(tensor.shape)
        pinned.copy_(tensor)
        moved = pinned.to(self._device, non_blocking=True)
        return moved if moved.dtype == torch.uint8 else moved.to(self._dtype)

    def _run(self, name: str, *arrays: NDArray[Any]) -> list[NDArray[Any]]:
        """The outputs of a graph for one canvas' arrays."""
        return [output[0] for output in self._run_batch(name, *(array[None] for array in arrays))]

    def _run_batch(self, name: str, *arrays: NDArray[Any]) -> list[NDArray[Any]]:
        """The same for many: every array and every output with their number as its first axis."""
        with self._locks[name], torch.cuda.stream(self._streams[name]):  # of no stream: the current one
            return self._infer(name, arrays)

    @torch.inference_mode()
    def _infer(self, name: str, arrays: tuple[NDArray[Any], ...]) -> list[NDArray[Any]]:
        outputs = self._graphs[name](*(self._upload((name, place), array) for place, array in enumerate(arrays)))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        # down waits for the graph, so pinned memory is free again
        return [(part if part.dtype == torch.uint8 else part.float()).cpu().numpy() for part in outputs]

    def detect(self, canvas: NDArray[np.uint8], any_size: bool = False) -> DetectorMaps:
        objectness, box, types, features = self._run("detector", canvas)
        return DetectorMaps(objectness[0], box, types, features)

    def analyse(self, canvas: NDArray[np.uint8]) -> Floats:
        return self._run("picture_analysis", canvas)[0]

    def synthesise(self, latents: Tensor | Floats, present: Floats, meaning: Floats) -> NDArray[np.uint8]:
        return self.synthesise_many([(torch.as_tensor(latents, device=self._device), present, meaning)], [None])[0]

    def synthesise_many(
        self, requests: Sequence[PictureParts], lifts: Sequence[Lift | None]
    ) -> list[NDArray[np.uint8]]:
        """lifts: None for a canvas as it is. Pictures are views of one piece of memory."""
        name = "picture_synthesis"
        with self._locks[name], torch.cuda.stream(self._streams[name]), torch.inference_mode():
            latents, present, meaning = zip(*requests, strict=True)
            canvases = self._paint(
                torch.stack(latents).to(self._dtype),
                self._upload((name, 1), np.stack(present)),
                self._upload((name, 2), np.stack(meaning)),
            )
            lifted = _lifted(canvases, lifts)  # a copy: the next batch may be painted where canvases lie
            return self._bring_down(lifted)

    def _bring_down(self, pictures: Sequence[Tensor]) -> list[NDArray[np.uint8]]:
        """Pictures of any sizes in one copy."""
        flat = torch.cat([picture.flatten() for picture in pictures])
        if self._device.type != "cpu":
            pinned = torch.empty(len(flat), dtype=flat.dtype, pin_memory=True)  # torch keeps such memory for the next
            pinned.copy_(flat, non_blocking=True)
            torch.cuda.current_stream(self._device).synchronize()
            flat = pinned
        parts = flat.split([picture.numel() for picture in pictures])
        return [part.view(picture.shape).numpy() for part, picture in zip(parts, pictures, strict=True)]


def _lifted(canvases: Tensor, lifts: Sequence[Lift | None]) -> list[Tensor]:
    """Pictures (height,width,3 bytes) from canvases (n,height,width,3 bytes), those of one lift together; cubic, as
    `Lift` does it on the host but for its rounding."""
    found: dict[int, Tensor] = {}
    for lift in dict.fromkeys(lifts):
        places = [place for place, own in enumerate(lifts) if own == lift]
        parts = canvases[places]
        if lift is not None:
            (width, height), (columns, rows) = lift
            parts = parts[:, :height, :width]
            if lift.used != lift.size:
                reals = parts.permute(0, 3, 1, 2).float()
                scaled = functional.interpolate(reals, (rows, columns), mode="bicubic", align_corners=False)
                parts = scaled.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
        found.update(zip(places, parts, strict=True))
    return [found[place] for place in range(len(lifts))]
