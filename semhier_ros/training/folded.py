"""Fine-tuning with the statistics of batch normalisations as they are, folded into the convolutions before them.

A network that is trained on from good weights may keep the means and variances that it has: they are of whole pictures
of many kinds, those of a batch are of a few crops. With them fixed a normalisation is one multiplication and one
addition per channel, which go into the convolution's weight and bias on the fly (Jacob et al., "Quantization and
Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", arXiv 1712.05877, section 3.2, without the
integers). What is trained stays the same: the convolution's weight, the normalisation's scale and shift, under the same
names. On a CPU normalising costs memory traffic, which is what a step of the road detector waits for.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

from timm.layers import pad_same
from torch import Tensor, nn
from torch.nn import functional

SAME = "Conv2dSame"  # timm's convolution that pads as TensorFlow does


class _Folded:
    """Comes before a convolution's own class: convolves with the normalisation that follows folded in."""

    _normalisation: tuple[nn.BatchNorm2d]  # in a tuple, so that it is no part of this module

    def forward(self: Any, values: Tensor) -> Tensor:
        (after,) = self._normalisation
        scale = after.weight * (after.running_var + after.eps).rsqrt()
        shift = after.bias - after.running_mean * scale
        if self.bias is not None:
            shift = shift + self.bias * scale
        padding = self.padding
        if SAME in (own.__name__ for own in type(self).__mro__):
            values, padding = pad_same(values, self.kernel_size, self.stride, self.dilation), 0
        weight = self.weight * scale[:, None, None, None]
        return functional.conv2d(values, weight, shift, self.stride, padding, self.dilation, self.groups)


class _Emptied:
    """Comes before a normalisation's own class: what is left of it is the activation that timm puts inside."""

    def forward(self: Any, values: Tensor) -> Tensor:
        act = getattr(self, "act", None)
        return values if act is None else act(values)


@functools.cache
def _with(own: type, first: type) -> type:
    return type(own.__name__, (first, own), {})


def fold_statistics(network: nn.Module) -> None:
    """Fold every batch normalisation that directly follows a convolution into it, statistics fixed; others evaluate.

    The network computes what it does when it evaluates, and keeps its state's names. Its normalisations must have
    learned scales (`affine`) and pads of zeros. Call it before modules are kept out of autocast
    (`device.depthwise_in_float32`): who comes later computes first.
    """
    for parent in network.modules():
        children = list(parent.children())
        for module, after in itertools.pairwise(children):
            if isinstance(after, nn.BatchNorm2d) and isinstance(module, nn.Conv2d):
                module._normalisation = (after,)
                module.__class__ = _with(module.__class__, _Folded)
                after.__class__ = _with(after.__class__, _Emptied)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
