"""What the semantic blocks of a whole image carry beyond names, as training sees it: "name first", then the rest.

Linear all the way to the latents and back, and logit-aware: a picture is a point of a space in which the classifier's
rows live (`training.imagenet_space`). Mean and scale of a latent come from the path and, linearly, from the groups
before, which makes their exact integer form a single layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from semhier_ros.codec.image_stream import EVIDENCE_FLOOR

HIDDEN = 64
MIN_SCALE, MAX_SCALE = 0.08, 40.0
START_SPREAD = 4.5  # standard deviation of the strongest latent before training, in quantiser steps


class Prefix(NamedTuple):
    """After one semantic block: what its latents cost in bits (B), the point (B,K) and the leaf logits (B,C) read."""

    bits: Tensor
    point: Tensor
    logits: Tensor


class ImageSemantics(nn.Module):
    """The latent groups of all semantic blocks.

    owners: per level, each leaf's node. centres C,K: where each class lies. spread K,K: covariance of points about
    their class. rows C,K and bias C: leaf logits of a point. dimensions: latents of each block, one block per level and
    then as many more as there are. evidence: numbers beside the point that the encoder knows (`evidence_of`).
    """

    def __init__(
        self,
        owners: Sequence[Tensor],
        centres: Tensor,
        spread: Tensor,
        rows: Tensor,
        bias: Tensor,
        dimensions: Sequence[int],
        evidence: int,
    ):
        super().__init__()
        self.dimensions = tuple(dimensions)
        self.ends = np.cumsum(self.dimensions).tolist()
        levels = len(owners)
        self.owners = [owners[min(k, levels - 1)] for k in range(len(dimensions))]
        self.near = [owners[min(k, 1)] for k in range(len(dimensions))]
        self.rows, self.bias = rows, bias
        values, vectors = torch.linalg.eigh(spread)
        best = vectors[:, -self.ends[-1] :].flip(1)
        share = (values[-self.ends[-1] :].flip(0).clamp(min=1e-9) / values[-1]).sqrt()
        start = START_SPREAD / values[-1].sqrt()
        self.analyse = nn.Parameter((best * start).T.contiguous() * torch.ones_like(share)[:, None])
        self.evidence = nn.Parameter(torch.zeros(self.ends[-1], evidence))
        self.mean, self.scale_by_node, self.scale = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()
        self.known, self.told, self.sharpen = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()
        self.follow, self.lift, self.hidden, self.answer = (nn.ModuleList() for _ in range(4))
        self.sharpness = nn.Parameter(torch.ones(len(dimensions)))
        for k, (owner, near) in enumerate(zip(self.owners, self.near, strict=True)):
            begin, end = self.ends[k] - self.dimensions[k], self.ends[k]
            nodes, nearby = int(owner.max()) + 1, int(near.max()) + 1
            count = torch.bincount(owner, minlength=nodes)[:, None]
            centre = torch.zeros(nodes, centres.shape[1]).index_add_(0, owner, centres) / count
            rows_so_far = self.analyse[:end].detach()
            lift = nn.Linear(end, centres.shape[1], bias=False)
            lift.weight.data.copy_(torch.linalg.pinv(rows_so_far) * 0.8)
            self.mean.append(nn.Parameter(centre @ self.analyse[begin:end].detach().T))
            self.scale.append(nn.Parameter(torch.log(START_SPREAD * share[begin:end]).clamp(min=-1.5)))
            self.scale_by_node.append(nn.Parameter(torch.zeros(nearby, end - begin)))
            self.known.append(nn.Parameter(centre - centre @ rows_so_far.T @ lift.weight.data.T))
            self.follow.append(_silent(nn.Linear(max(begin, 1), end - begin, bias=False)))
            self.lift.append(lift)
            self.told.append(nn.Parameter(torch.zeros(nearby, HIDDEN)))
            self.hidden.append(nn.Linear(end, HIDDEN))
            self.answer.append(_silent(nn.Linear(HIDDEN, len(rows))))
            self.sharpen.append(nn.Parameter(torch.zeros(HIDDEN)))
        self.give_confidence(levels)

    @torch.no_grad()
    def give_confidence(self, levels: int) -> None:
        """Let the last latent of every level's block begin as how sure the trunk is of that level's node."""
        for block in range(levels):
            latent = self.ends[block] - 1
            self.analyse[latent] = 0
            self.evidence[latent, self.evidence.shape[1] - levels + block] = 1
            self.mean[block][:, -1] = 2
            self.scale[block][-1] = 0.7
            self.scale_by_node[block][:, -1] = 0
            for later in range(block, len(self.dimensions)):
                self.lift[later].weight[:, latent] = 0

    def parameters_of(self, block: int, leaf: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and scale (B,d) of the latents of `block` given the leaf's path and the latents before (B,…)."""
        mean = self.mean[block][self.owners[block][leaf]]
        if block:
            mean = mean + self.follow[block](before)
        scale = (self.scale[block] + self.scale_by_node[block][self.near[block][leaf]]).exp()
        return mean, scale.clamp(MIN_SCALE, MAX_SCALE)

    def read(self, block: int, leaf: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Point (B,K) and leaf logits (B,C) after `block` from all latents so far (B,…)."""
        point = self.known[block][self.owners[block][leaf]] + self.lift[block](latents)
        hidden = torch.relu(self.hidden[block](latents) + self.told[block][self.near[block][leaf]])
        sharp = self.sharpness[block] * (hidden @ self.sharpen[block]).exp()
        return point, sharp[:, None] * (point @ self.rows.T + self.bias) + self.answer[block](hidden)

    def forward(self, points: Tensor, evidence: Tensor, leaf: Tensor, rounded: bool) -> list[Prefix]:
        """All prefixes of points (B,K) with evidence (B,E), named `leaf` (B).

        rounded: as the codec rounds; else, for training, rates see uniform noise and readers now the noise, now the
        rounding (with a straight-through gradient).
        """
        wanted = (points @ self.analyse.T + evidence @ self.evidence.T).split(self.dimensions, dim=1)
        latents = points[:, :0]
        prefixes = []
        for block, own in enumerate(wanted):
            mean, scale = self.parameters_of(block, leaf, latents)
            residual = own - mean
            whole = residual + (residual.round() - residual).detach()
            noisy = whole if rounded else residual + torch.rand_like(residual) - 0.5
            bits = interval_bits(noisy, scale).sum(1)
            kept = whole if rounded or torch.rand(()) < 0.5 else noisy
            latents = torch.cat([latents, mean + kept], dim=1)
            prefixes.append(Prefix(bits, *self.read(block, leaf, latents)))
        return prefixes


def evidence_of(logits: Tensor, owners: Sequence[Tensor]) -> Tensor:
    """`kinds.image_encoder.evidence_of` in torch: log-probabilities of the coarsest nodes about their mean, then the
    log-odds of the likeliest node of every level, for leaf logits (B,C)."""
    chances = torch.softmax(logits, 1)
    nodes = [torch.zeros(len(logits), int(own.max()) + 1).index_add_(1, own, chances) for own in owners]
    coarse = (nodes[0] + EVIDENCE_FLOOR).log()
    best = torch.stack([own.max(1).values.clamp(EVIDENCE_FLOOR, 1 - EVIDENCE_FLOOR) for own in nodes], 1)
    return torch.cat([coarse - coarse.mean(1, keepdim=True), (best / (1 - best)).log()], 1)


def interval_bits(residual: Tensor, scale: Tensor) -> Tensor:
    """Bits of a residual rounded to integers under a zero-mean Gaussian of `scale`."""
    upper = torch.special.ndtr((0.5 - residual.abs()) / scale)
    lower = torch.special.ndtr((-0.5 - residual.abs()) / scale)
    return -(upper - lower).clamp(min=1e-7).log2()


def _silent(linear: nn.Linear) -> nn.Linear:
    """The layer with nothing to say yet."""
    for parameter in linear.parameters():
        nn.init.zeros_(parameter)
    return linear
