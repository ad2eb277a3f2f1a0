"""Losses of the road detector; what they are measured against is in `scene_samples`.

Centres: penalty-reduced focal loss on Gaussian heatmaps (Law and Deng, "CornerNet", arXiv 1808.01244). Boxes: GIoU,
and types: hierarchical cross entropy, both weighted by a Gaussian inside each object rather than at its centre cell
alone (Liu et al., "Training-Time-Friendly Network", arXiv 1909.00700), which is what makes a short training learn.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy

from semhier_ros.torch.detector import DetectorOutput


def focal_loss(logits: Tensor, heat: Tensor, trust: Tensor | None = None) -> Tensor:
    """CornerNet's focal loss, per object. trust: of heat's shape, how much each cell's background counts (1)."""
    probability = logits.sigmoid().clamp(1e-5, 1 - 1e-5)
    positive = heat.eq(1.0)
    found = (probability.log() * (1 - probability) ** 2)[positive].sum()
    background = (1 - probability).log() * probability**2 * (1 - heat) ** 4
    background = (background if trust is None else background * trust)[~positive].sum()
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


class CellTargets(NamedTuple):
    """What cells teach, from pictures whose sets do not all label the same: heat n (1: an object's centre); background
    n, how much the cell counts as background (0 in ignored regions); weight n, as part of an object; box n,4 corners in
    cells; words n, what the label says; seen n,T: false for leaves that the cell's set does not label."""

    heat: Tensor
    background: Tensor
    weight: Tensor
    box: Tensor
    words: Tensor
    seen: Tensor


def cell_loss(
    objectness: Tensor, box: Tensor, types: Tensor, targets: CellTargets, members: list[Tensor], rarity: Tensor
) -> dict[str, Tensor]:
    """The three parts of the loss of some cells: objectness n logits, box n,4 corners in cells, types n,T logits.

    members: per level, finest first, words x leaves: the leaves that a word leaves open there; rarity: per word.

    A word that several leaves share teaches their sum. Background teaches only what would have been labelled: it is
    weighed by the chance that an object in the cell would be of a type that its set labels.
    """
    teach = targets.weight > 0
    share = targets.weight[teach]
    total = share.sum().clamp(min=1e-4)
    log_types = types.log_softmax(1)
    rows, said = log_types[teach], targets.words[teach]
    naming = torch.zeros_like(share)
    for level, member in enumerate(members):
        open_to = member[said]
        value = -rows.masked_fill(~open_to, -torch.inf).logsumexp(-1)
        if level == 0:
            value = rarity[said] * (0.95 * value - 0.05 * (rows * open_to).sum(-1) / open_to.sum(-1))
        naming = naming + value
    trust = targets.background * (log_types.detach().exp() * targets.seen).sum(1)
    return {
        "centre": focal_loss(objectness, targets.heat, trust),
        "box": 3.0 * (giou_loss(box[teach].T, targets.box[teach].T) * share).sum() / total,
        "type": (naming * share).sum() / total,
    }


def street_loss(
    output: DetectorOutput,
    heat: Tensor,
    weight: Tensor,
    box: Tensor,
    words: Tensor,
    known: Tensor,
    seen: Tensor,
    members: list[Tensor],
    rarity: Tensor,
) -> dict[str, Tensor]:
    """`cell_loss` of every cell of a batch. words: B,H,W, what a label says; known: B,H,W, false in ignored regions;
    seen: B,T, false for leaves that a picture's set does not label."""
    cells = weight.numel()
    every = seen[:, None, None].expand(-1, *weight.shape[1:], -1).reshape(cells, -1)
    targets = CellTargets(
        heat.reshape(cells),
        known.reshape(cells).float(),
        weight.reshape(cells),
        box.permute(0, 2, 3, 1).reshape(cells, 4),
        words.reshape(cells),
        every,
    )
    corners = boxes_of(output.box).permute(0, 2, 3, 1).reshape(cells, 4)
    types = output.types.permute(0, 2, 3, 1).reshape(cells, -1)
    return cell_loss(output.objectness.reshape(cells), corners, types, targets, members, rarity)


TUTOR_DOUBTS = 0.1  # objectness of the tutor below which its boxes and types teach nothing


def tutor_loss(output: DetectorOutput, tutor: DetectorOutput, known: Tensor) -> dict[str, Tensor]:
    """What a detector of fewer types (`tutor`, of the same pictures) has to say, as three more parts of the loss.

    known: the row among the student's types of each of the tutor's. Of those types alone is learned: the student's
    chance that an object of one of them is centred in a cell should be the tutor's objectness (quality focal loss, Li
    et al., "Generalized Focal Loss", arXiv 2006.04388); where the tutor is sure, so are its box (GIoU) and the shares
    of its types (Kullback-Leibler divergence). Everything is weighed by the tutor's objectness, of which the sum stands
    for the number of objects.
    """
    heat = tutor.objectness.sigmoid()
    log_types = output.types.log_softmax(1)[:, known]
    log_known = log_types.logsumexp(1, keepdim=True)
    own = (output.objectness.sigmoid() * log_known.exp()).clamp(1e-5, 1 - 1e-5)
    share = torch.where(heat > TUTOR_DOUBTS, heat, torch.zeros_like(heat))[:, 0]
    total = share.sum().clamp(min=1.0)
    centre = (heat - own).abs() ** 2 * binary_cross_entropy(own, heat, reduction="none")
    wanted = tutor.types.log_softmax(1)
    naming = (wanted.exp() * (wanted - (log_types - log_known))).sum(1)
    corners, given = (boxes_of(one).permute(1, 0, 2, 3) for one in (output.box, tutor.box))
    return {
        "tutor centre": centre.sum() / total,
        "tutor box": 3.0 * (giou_loss(corners, given) * share).sum() / total,
        "tutor type": (naming * share).sum() / total,
    }
