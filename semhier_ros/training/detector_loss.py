"""Losses of the road detector; what they are measured against is in `scene_samples`.

Centres: penalty-reduced focal loss on Gaussian heatmaps (Law and Deng, "CornerNet", arXiv 1808.01244). Boxes: GIoU,
and types: hierarchical cross entropy, both weighted by a Gaussian inside each object rather than at its centre cell
alone (Liu et al., "Training-Time-Friendly Network", arXiv 1909.00700), which is what makes a short training learn.
"""

from __future__ import annotations

import torch
from torch import Tensor

from semhier_ros.torch.detector import DetectorOutput


def focal_loss(logits: Tensor, heat: Tensor) -> Tensor:
    """CornerNet's focal loss, per object."""
    probability = logits.sigmoid().clamp(1e-5, 1 - 1e-5)
    positive = heat.eq(1.0)
    found = (probability.log() * (1 - probability) ** 2)[positive].sum()
    background = ((1 - probability).log() * probability**2 * (1 - heat) ** 4)[~positive].sum()
    return -(found + background) / positive.sum().clamp(min=1)


def boxes_of(box: Tensor) -> Tensor:
    """`DetectorOutput.box` (B,4,H,W) as corners (x0, y0, x1, y1) in cells."""
    rows, columns = box.shape[-2:]
    x = torch.arange(columns, device=box.device)[None, None] + 0.5 + box[:, 0]
    y = torch.arange(rows, device=box.device)[None, :, None] + 0.5 + box[:, 1]
    half_w, half_h = box[:, 2].exp() / 2, box[:, 3].exp() / 2
    return torch.stack([x - half_w, y - half_h, x + half_w, y + half_h], dim=1)


def giou_loss(predicted: Tensor, wanted: Tensor) -> Tensor:
    """1 - GIoU (Rezatofighi et al., arXiv 1902.09630) for corner boxes with the coordinate at dimension 0."""
    inner = (torch.minimum(predicted[2:], wanted[2:]) - torch.maximum(predicted[:2], wanted[:2])).clamp(min=0)
    outer = torch.maximum(predicted[2:], wanted[2:]) - torch.minimum(predicted[:2], wanted[:2])
    overlap = inner[0] * inner[1]
    area = (predicted[2:] - predicted[:2]).prod(0) + (wanted[2:] - wanted[:2]).prod(0)
    union, hull = area - overlap, outer[0] * outer[1]
    return 1 - overlap / union.clamp(min=1e-6) + (hull - union) / hull.clamp(min=1e-6)


def hierarchical_cross_entropy(logits: Tensor, types: Tensor, groups: Tensor, class_weight: Tensor) -> Tensor:
    """Negative log of the true type and of its group's summed probability, per row.

    logits n,T; types n; groups T (each type's group); class_weight T. The group term is the coarse-to-fine task loss
    of arXiv 2605.08266: a rare type learns from its group.
    """
    log_types = logits.log_softmax(-1)
    member = groups[None] == groups[types][:, None]
    log_group = log_types.masked_fill(~member, -torch.inf).logsumexp(-1)
    smooth = 0.95 * log_types.gather(1, types[:, None])[:, 0] + 0.05 * log_types.mean(-1)
    return -(class_weight[types] * smooth) - log_group


def detector_loss(
    output: DetectorOutput, heat: Tensor, weight: Tensor, box: Tensor, types: Tensor, groups: Tensor, rarity: Tensor
) -> dict[str, Tensor]:
    """The three parts of the loss of one batch, to be summed."""
    teach = weight > 0
    share = weight[teach]
    total = share.sum().clamp(min=1e-4)
    predicted = boxes_of(output.box).permute(1, 0, 2, 3)[:, teach]
    wanted = box.permute(1, 0, 2, 3)[:, teach]
    logits = output.types.permute(0, 2, 3, 1)[teach]
    naming = hierarchical_cross_entropy(logits, types[teach], groups, rarity)
    return {
        "centre": focal_loss(output.objectness, heat),
        "box": 3.0 * (giou_loss(predicted, wanted) * share).sum() / total,
        "type": (naming * share).sum() / total,
    }
