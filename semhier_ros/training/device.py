"""What a training does to suit the device it runs on: which one, what precision, which optimiser."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from semhier_ros.training.errors import TrainingError


def pick_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` as a torch device.

    Raises:
        TrainingError: `cuda` was asked for and there is none, or the name is another.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise TrainingError(f"device: {name!r} is not one of auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise TrainingError("device: cuda was asked for, but torch sees no CUDA device; use cpu or auto")
    return torch.device(name)


def adamw(
    groups: Iterable[Any], lr: float, weight_decay: float = 0.0, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) in its fused form, one kernel for all weights, which torch has
    for both devices that `pick_device` gives. Without weight decay it is Adam."""
    return torch.optim.AdamW(groups, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)


def autocast(device: torch.device, bf16: bool) -> torch.autocast:
    """bfloat16 where it is safe, if asked for. Its range is float32's, so no loss needs scaling."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)


class _Float32:
    """Comes before a module's own class: under autocast, on the devices named, it computes in float32."""

    float32_on: tuple[str, ...]

    def forward(self, *values: Any, **named: Any) -> Any:
        kind = next(value.device.type for value in (*values, *named.values()) if isinstance(value, Tensor))
        if kind not in self.float32_on or not torch.is_autocast_enabled(kind):
            return super().forward(*values, **named)  # type: ignore[misc]
        whole = [value.float() if isinstance(value, Tensor) else value for value in values]
        others = {name: value.float() if isinstance(value, Tensor) else value for name, value in named.items()}
        with torch.autocast(kind, enabled=False):
            return super().forward(*whole, **others)  # type: ignore[misc]


@functools.cache
def _float32_class(own: type, devices: tuple[str, ...]) -> type:
    return type(own.__name__, (_Float32, own), {"float32_on": devices})


def in_float32(module: nn.Module, devices: tuple[str, ...] = ("cpu", "cuda")) -> None:
    """Keep a module out of autocast on these devices. Copies of it (averaged weights) stay out too."""
    if not isinstance(module, _Float32):
        module.__class__ = _float32_class(module.__class__, devices)


def depthwise_in_float32(network: nn.Module) -> None:
    """Keep depthwise convolutions out of autocast on CPUs: in bfloat16 their backward pass takes several times as long
    as in float32, which made whole steps slower than plain float32."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            in_float32(module, ("cpu",))
