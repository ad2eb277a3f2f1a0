"""The task loss of pictures: how far what a frozen classifier sees in a decoded picture is from what it sees in the
original.

After arXiv 2605.08266, whose task loss goes through a frozen classifier at every level of the hierarchy; here the
original's own posterior takes the place of labels, so any photo teaches, and the classifier's inner maps are compared
as well (Zhang et al., "LPIPS", arXiv 1801.03924), for what only the last layer likes does not convince another network.
EfficientNet-Lite0 is that classifier; Lite2, which judges pictures, is seen by no training.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from semhier_ros.torch.classifier import load_classifier
from semhier_ros.training.device import depthwise_in_float32

STAGES = (2, 3, 4)  # of the classifier: maps at strides 8, 16, 32
MAPS_SHARE = 2.0  # nats that the mean distance of the maps is worth
ENLARGED = (1.0, 1.2, 1.4)  # what pictures are scaled by before the classifier sees them, one drawn each time


class TaskLoss(nn.Module):
    """Nats (a mean over pictures) by which a classifier's view of decoded pictures departs from that of the originals.

    owners: per level but the last, each leaf's node; divergences of all levels count alike.
    """

    def __init__(self, owners: Sequence[Tensor]):
        super().__init__()
        self.classifier = load_classifier(0).requires_grad_(False).to(memory_format=torch.channels_last)
        depthwise_in_float32(self.classifier)
        for level, owner in enumerate(owners[:-1]):
            self.register_buffer(f"members_{level}", functional.one_hot(owner).float(), persistent=False)
        self.levels = len(owners)

    def train(self, mode: bool = True) -> TaskLoss:
        """Stays as it is: the classifier is frozen."""
        return self

    def forward(self, decoded: Tensor, original: Tensor) -> Tensor:
        """decoded, original: B,3,H,W in -1..1."""
        scale = ENLARGED[int(torch.randint(len(ENLARGED), ()))]
        side = max(32, round(scale * original.shape[-1] / 32) * 32)
        with torch.no_grad():
            wanted, wanted_maps = self._see(original, side)
        seen, maps = self._see(decoded.clamp(-1.1, 1.1), side)
        total = seen.new_zeros(())
        for level in range(self.levels):
            p, q = (self._nodes(logits, level) for logits in (wanted, seen))
            total = total + (p * (p.log() - q.log())).sum(1).mean()
        for own, want in zip(maps, wanted_maps, strict=True):
            distance = (_directions(own) - _directions(want)).square().sum(1).mean()
            total = total + MAPS_SHARE / len(maps) * distance
        return total

    def _see(self, image: Tensor, side: int) -> tuple[Tensor, list[Tensor]]:
        """Leaf logits (B,C) and the inner maps of pictures scaled to `side`."""
        if side != image.shape[-1]:
            image = functional.interpolate(image, (side, side), mode="bilinear", antialias=False)
        last, maps = self.classifier.forward_intermediates(image, indices=list(STAGES))
        logits = self.classifier.classifier(self.classifier.global_pool(last))
        return logits.float(), [own.float() for own in maps]

    def _nodes(self, logits: Tensor, level: int) -> Tensor:
        chances = logits.softmax(1)
        if level < self.levels - 1:
            with torch.autocast(logits.device.type, enabled=False):  # for their logarithms
                chances = chances @ getattr(self, f"members_{level}")
        return chances + 1e-6


def _directions(maps: Tensor) -> Tensor:
    """Every position's features (B,F,h,w) at length one."""
    return functional.normalize(maps, dim=1, eps=1e-3)
