"""What every training here shares: a schedule bounded by steps and minutes, averaged weights, resumable checkpoints."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Item = TypeVar("Item")


class Schedule:
    """Warm-up, then half a cosine over `steps` or `minutes`, whichever runs out first (time spent before a resume
    counts)."""

    def __init__(self, steps: int, minutes: float, warm_up: int = 200):
        self.steps, self.minutes, self.warm_up = steps, minutes, warm_up
        self.spent = 0.0
        self._started = time.monotonic()

    def elapsed(self) -> float:
        return self.spent + (time.monotonic() - self._started) / 60

    def progress(self, step: int) -> float:
        return max(step / self.steps, self.elapsed() / self.minutes)

    def factor(self, step: int) -> float:
        progress = min(1.0, self.progress(step))
        return min(1.0, (step + 1) / self.warm_up) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))

    def done(self, step: int) -> bool:
        return self.progress(step) >= 1.0


class AveragedWeights:
    """Exponential moving average of a network's weights and buffers; `network` is the copy to evaluate and ship."""

    def __init__(self, network: nn.Module, decay: float = 0.998):
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for own, new in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if own.dtype.is_floating_point:
                own.lerp_(new.detach(), 1 - decay)
            else:
                own.copy_(new)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint so that a kill at any moment leaves the old one or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The checkpoint at `path`, or None where there is none. Only tensors and plain values are ever unpickled."""
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None


def prefetch(make: Callable[[int], Item], first: int, ahead: int = 4) -> Iterator[Item]:
    """`make(first)`, `make(first + 1)`, … for ever, made on one background thread (OpenCV releases the GIL)."""
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(make, first + i) for i in range(ahead)]
        step = first + ahead
        while True:
            item = waiting.pop(0).result()
            waiting.append(pool.submit(make, step))
            step += 1
            yield item


def depthwise_in_float32(network: nn.Module) -> None:
    """Keep depthwise convolutions out of autocast on CPUs: in bfloat16 their backward pass takes several times as long
    as in float32, which made whole steps slower than plain float32."""

    def kept(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def run(x: Tensor) -> Tensor:
            if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
                return forward(x)
            with torch.autocast("cpu", enabled=False):
                return forward(x.float())

        return run

    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.forward = kept(module.forward)  # type: ignore[method-assign, assignment]


def pick_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` as a torch device.

    Raises:
        ValueError: `cuda` was asked for and there is none, or the name is another.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise ValueError(f"device: {name!r} is not one of auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: cuda was asked for, but torch sees no CUDA device; use cpu or auto")
    return torch.device(name)


def to_device(arrays: Iterator[Any] | list[Any], device: torch.device) -> list[Tensor]:
    return [torch.as_tensor(array).to(device, non_blocking=True) for array in arrays]
