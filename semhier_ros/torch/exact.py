"""Whole numbers in torch, on a CPU or a GPU: `codec.picture_walk.Arithmetic` for the context networks of many pictures.

Products are made in float64, whose sums of whole numbers below 2**53 are exact on every device, so symbols are the ones
that NumPy finds. On CUDA all work goes to one stream; what a phase asks comes down in one copy of small whole numbers
through pinned memory, and what it tells goes up in another: the entropy coder sits on the CPU between them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from semhier_ros.codec.latent_groups import UNIT, Ints
from semhier_ros.codec.picture_walk import MARGIN

if TYPE_CHECKING:
    from semhier_ros.codec.picture_walk import Phase

KINDS: dict[type[np.generic], torch.dtype] = {
    np.uint8: torch.uint8,
    np.uint16: torch.int32,
    np.int16: torch.int16,
    np.int32: torch.int32,
    np.bool_: torch.bool,
}


class KeptLatents(np.ndarray[Any, np.dtype[np.int32]]):
    """A picture's latents (known,h,w in units of 1/16) as whole numbers on the host, which outlive a device that is
    lost; `there`: the same on the device that decoded them, for what paints there."""

    there: Tensor | None = None


class TorchArithmetic:
    """`Arithmetic` by torch on `device`. stream: of CUDA, where the work goes (None: the current one). Use from one
    thread at a time."""

    rows_at_once = 1 << 20

    def __init__(self, device: torch.device, stream: Any = None) -> None:
        self.device, self._stream = device, stream
        self._pinned: dict[tuple[str, torch.dtype], Tensor] = {}
        self._pinning = threading.Lock()  # a buffer is one copy's until that is over
        if device.type == "cpu":
            self.rows_at_once = 480

    @contextmanager
    def running(self) -> Iterator[None]:
        with torch.inference_mode(), torch.cuda.stream(self._stream):  # None leaves the current stream
            yield

    def up(self, values: NDArray[Any]) -> Tensor:
        array = np.ascontiguousarray(values)
        if array.dtype == np.uint16:
            array = array.astype(np.int32)
        tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
        if self.device.type == "cpu":
            return tensor.to(torch.float64)
        with self._pinning:
            pinned = self._buffer("up", tensor)
            pinned.copy_(tensor)
            moved = pinned.to(self.device, non_blocking=True)
            self._synchronise()  # the buffer is used again for what comes next
        return moved.to(torch.float64)

    def down(self, values: Tensor, kind: type[np.generic]) -> NDArray[Any]:
        small = values.to(KINDS[kind]).contiguous()
        if self.device.type != "cpu":
            with self._pinning:
                pinned = self._buffer("down", small)
                pinned.copy_(small, non_blocking=True)
                self._synchronise()
                small = pinned.clone()
        return small.numpy().astype(kind, copy=False)

    def latents(self, known: Tensor) -> Sequence[Ints]:
        there = known.permute(0, 3, 1, 2).to(torch.int16).contiguous()
        found = []
        for own, copy in zip(self.down(there, np.int16).astype(np.int32), there, strict=True):
            kept = own.view(KeptLatents)
            kept.there = copy.clone()  # a batch is not kept for one of its pictures
            found.append(kept)
        return found

    def to_paint(self, latents: Ints | None, channels: int, shape: tuple[int, int]) -> Tensor:
        with self.running():
            if latents is None:
                return torch.zeros((channels, *shape), device=self.device)
            there = getattr(latents, "there", None)
            if there is None or there.device != self.device:
                there = torch.from_numpy(np.asarray(latents)).to(self.device)
            return functional.pad(there.float() / UNIT, (0, 0, 0, 0, 0, channels - len(latents)))

    def zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float64, device=self.device)

    def scratch(self, name: str, *shape: int) -> Tensor:
        del name  # torch keeps freed memory itself
        return torch.empty(shape, dtype=torch.float64, device=self.device)

    def product(self, values: Tensor, weight: Tensor, name: str = "") -> Tensor:
        del name
        return values @ weight

    def windows(self, values: Tensor, phase: Phase, size: tuple[int, int]) -> Tensor:
        count, down, across, plane = values.stride()
        start = (MARGIN + phase.top - phase.reach) * down + (MARGIN + phase.left - phase.reach) * across
        strides = (count, down * phase.step, across * phase.step, down * phase.reach, across * phase.reach, plane)
        return values.as_strided((len(values), *size, 3, 3, values.shape[3]), strides, values.storage_offset() + start)

    def floor_clip(self, values: Tensor, low: int, high: int) -> Tensor:
        return values.floor_().clamp_(low, high)

    def clip(self, values: Tensor, low: int, high: int) -> Tensor:
        return values.clamp(low, high)

    def look_up(self, table: Tensor, places: Tensor) -> Tensor:
        return table[places.to(torch.int64)]

    def _buffer(self, way: str, like: Tensor) -> Tensor:
        """Pinned memory for a tensor of that size, made once for the largest that went this way."""
        found = self._pinned.get((way, like.dtype))
        if found is None or found.numel() < like.numel():
            found = self._pinned[way, like.dtype] = torch.empty(like.numel(), dtype=like.dtype).pin_memory()
        return found[: like.numel()].view(like.shape)

    def _synchronise(self) -> None:
        (self._stream or torch.cuda.current_stream(self.device)).synchronize()
