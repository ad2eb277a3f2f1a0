"""A network's kernels as CUDA graphs, one for each of a few batch sizes: one launch for all.

A CUDA graph reads and writes memory that never moves. So each size has inputs of its own, into whose first rows a
batch is copied, and an output, whose first rows are the answer. Sizes share the memory of what lies between.

Graphs save time, they never cost a picture: where one cannot be made, or does not give what the network gives, one
line is logged and the network runs plainly from then on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

SIZES = (1, 2, 3, 4, 6, 8, 12, 16)
"""Batch sizes that have graphs: at most a third of a batch is padding. Larger batches run plainly: they keep a device
busy for longer than launches take, and a graph of them would keep the most memory."""
WARM_UPS = 3
MOST_APART = 1

Capture = Callable[[nn.Module, tuple[Tensor, ...]], tuple[Callable[[], None], Tensor]]
"""Of a network and inputs that stay: what runs the network on what lies in them then, and the output that it fills."""

_capturing = threading.Lock()  # torch allows one capture at a time in a process


class CudaCapture:
    """The `Capture` of a CUDA device, for one network. All its captures share memory, so one of them runs at a time."""

    def __init__(self, device: torch.device):
        self._device = device

    @cached_property
    def _pool(self) -> Any:
        return torch.cuda.graph_pool_handle()

    @cached_property
    def _stream(self) -> Any:
        """Its own: what another thread launches on the stream of the replays would be captured too."""
        return torch.cuda.Stream(self._device)

    def __call__(self, network: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Callable[[], None], Tensor]:
        around = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(around)
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UPS):
                network(*inputs)
        around.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # `around` once more: a capture that fails leaves its own stream the current one; thread_local: other threads
        # go on with the device
        capture = torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local")
        with _capturing, torch.cuda.stream(around), capture:
            output = network(*inputs)
        return graph.replay, output


class _Size(NamedTuple):
    inputs: tuple[Tensor, ...]
    replay: Callable[[], None]
    output: Tensor

    def fill(self, inputs: tuple[Tensor, ...]) -> None:
        """Put a batch into the first rows; what lies in the others stays, and nobody reads what it gives."""
        for kept, given in zip(self.inputs, inputs, strict=True):
            kept[: len(given)].copy_(given)


class Captured:
    """A network that is called as before, with tensors of one number of rows, and gives as many rows of bytes.

    The answer may be a view of memory that the next call writes: callers hold a lock, and their stream, until they
    have used it. A size is captured when it is asked for a second time; no row of a batch may depend on others.
    """

    def __init__(self, network: nn.Module, capture: Capture):
        self._network = network
        self._capture: Capture | None = capture
        self._asked: set[Any] = set()
        self._sizes: dict[Any, _Size] = {}

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> Tensor:
        size = self._size_of(inputs)
        if size is None:
            return self._network(*inputs)
        size.fill(inputs)
        size.replay()
        return size.output[: len(inputs[0])]

    def _size_of(self, inputs: tuple[Tensor, ...]) -> _Size | None:
        """What is captured for such a batch; None: it runs plainly."""
        rows = next((size for size in SIZES if size >= len(inputs[0])), None)
        if rows is None or self._capture is None:
            return None
        key = (rows, *((tuple(part.shape[1:]), part.dtype) for part in inputs))
        if key in self._sizes:
            return self._sizes[key]
        if key not in self._asked:
            self._asked.add(key)
            return None
        try:
            self._sizes[key] = made = self._make(self._capture, rows, inputs)
        except Exception as error:  # whatever it is: the network itself has not failed
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            logging.getLogger(__name__).warning(
                "CUDA graphs are given up, networks are launched kernel by kernel (batch of %d): %s", rows, first
            )
            self._capture = None
            self._sizes.clear()
            return None
        return made

    def _make(self, capture: Capture, rows: int, inputs: tuple[Tensor, ...]) -> _Size:
        """A captured size, held to what the network gives for `inputs`, which it did not see when it was captured.

        Raises:
            ValueError: it gives something else. And what `capture` raises.
        """
        kept = tuple(part.new_zeros((rows, *part.shape[1:])) for part in inputs)
        made = _Size(kept, *capture(self._network, kept))
        made.fill(inputs)
        wanted = self._network(*kept)
        made.output.copy_(~wanted)  # or a replay that does nothing could pass
        made.replay()
        apart = int((made.output.short() - wanted.short()).abs().max())
        if apart > MOST_APART:
            raise ValueError(f"a captured picture differs from the network's by {apart} of 255")
        return made
