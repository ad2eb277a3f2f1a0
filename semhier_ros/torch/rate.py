"""What quantised latents cost, as training sees it."""

from __future__ import annotations

import torch
from torch import Tensor


def interval_bits(residual: Tensor, scale: Tensor) -> Tensor:
    """Bits of `residual` quantised to integers under a zero-mean Gaussian of `scale` (the interval's probability)."""
    magnitude = residual.abs()
    upper = torch.special.ndtr((0.5 - magnitude) / scale)
    lower = torch.special.ndtr((-0.5 - magnitude) / scale)
    return -(upper - lower).clamp(min=1e-9).log2()
