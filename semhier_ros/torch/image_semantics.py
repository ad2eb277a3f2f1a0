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

from semhier_ros.torch.rate import interval_bits
from semhier_ros.whole_image.stream import EVIDENCE_FLOOR

HIDDEN = 64
MIN_SCALE, MAX_SCALE = 0.08, 40.0
START_STEPS = (0.5, 0.6, 1.9, 1.5)  # per block, the first quantiser step in deviations of its strongest direction
START_ROOTS = 5.0  # steps between chances 0 and 1 of a coarse node, both as square roots, before training
WORTH = 4.0  # pictures that a node's expected mean is worth against those seen of it
SPREAD_WORTH = 40.0  # the same for the spread of its latents


class Prefix(NamedTuple):
    """After one semantic block: what its latents cost in bits (B), the point (B,K) and the leaf logits (B,C) read."""

    bits: Tensor
    point: Tensor
    logits: Tensor


class ImageSemantics(nn.Module):
    """The latent groups of all semantic blocks.

    owners: per level, each leaf's node. centres C,K: where each class lies. rows C,K and bias C: leaf logits of a
    point. dimensions: latents of each block, one block per level and then as many more as there are. evidence: numbers
    beside the point that the encoder knows (`evidence_of`). follows: whether a block's means follow from the latents
    before it.
    """

    def __init__(
        self,
        owners: Sequence[Tensor],
        centres: Tensor,
        rows: Tensor,
        bias: Tensor,
        dimensions: Sequence[int],
        evidence: int,
        follows: bool = True,
    ):
        super().__init__()
        self.dimensions, self.follows = tuple(dimensions), follows
        self.ends = np.cumsum(self.dimensions).tolist()
        levels = len(owners)
        self.owners = [owners[min(k, levels - 1)] for k in range(len(dimensions))]
        self.near = [owners[min(k, 1)] for k in range(len(dimensions))]
        self.centres, self.rows, self.bias = centres, rows, bias
        self.analyse = nn.Parameter(torch.zeros(self.ends[-1], centres.shape[1]))
        self.evidence = nn.Parameter(torch.zeros(self.ends[-1], evidence))
        self.mean, self.scale_by_node, self.scale = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()
        self.known, self.told, self.sharpen = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()
        self.follow, self.lift, self.hidden, self.answer = (nn.ModuleList() for _ in range(4))
        self.sharpness = nn.Parameter(torch.ones(len(dimensions)))
        for k, (owner, near) in enumerate(zip(self.owners, self.near, strict=True)):
            begin, end = self.ends[k] - self.dimensions[k], self.ends[k]
            nodes, nearby = int(owner.max()) + 1, int(near.max()) + 1
            self.mean.append(nn.Parameter(torch.zeros(nodes, end - begin)))
            self.scale.append(nn.Parameter(torch.zeros(end - begin)))
            self.scale_by_node.append(nn.Parameter(torch.zeros(nearby, end - begin)))
            self.known.append(nn.Parameter(torch.zeros(nodes, centres.shape[1])))
            self.follow.append(_silent(nn.Linear(max(begin, 1), end - begin, bias=False)))
            self.lift.append(_silent(nn.Linear(end, centres.shape[1], bias=False)))
            self.told.append(nn.Parameter(torch.zeros(nearby, HIDDEN)))
            self.hidden.append(nn.Linear(end, HIDDEN))
            self.answer.append(_silent(nn.Linear(HIDDEN, len(rows))))
            self.sharpen.append(nn.Parameter(torch.zeros(HIDDEN)))

    @torch.no_grad()
    def start(self, points: Tensor, evidence: Tensor, leaf: Tensor, levels: int, coarse: int) -> None:
        """Before training, from pictures at points (B,K) with evidence (B,E), named `leaf`: every block takes the
        principal directions of what path and earlier blocks leave of the points, and regressions read them.

        Block 0 begins with the chances of the `coarse` nodes of level 0, and the last latent of each of the `levels`'
        blocks is how sure the trunk is of that level.
        """
        latents = points[:, :0]
        for k, (owner, near) in enumerate(zip(self.owners, self.near, strict=True)):
            begin, end = self.ends[k] - self.dimensions[k], self.ends[k]
            nodes = int(owner.max()) + 1
            node = owner[leaf]
            centre = _sums(self.centres, owner, nodes) / torch.bincount(owner, minlength=nodes)[:, None]
            before = self._expected(latents, k, leaf, latents[:0])
            left = points - centre[node]
            left = left - (latents - before[node]) @ _regression(latents - before[node], left)
            values, vectors = torch.linalg.eigh(torch.cov(left.T))
            first = begin
            if k == 0:
                first = min(end - 1, coarse)
                for own in range(first):
                    self.evidence[own, coarse + levels + own] = START_ROOTS
            last = end - 1 if k < levels else end
            step = START_STEPS[min(k, len(START_STEPS) - 1)] * values[-1].sqrt()
            self.analyse[first:last] = vectors[:, -(last - first) :].flip(1).T / step if last > first else 0.0
            if last < end:
                self.evidence[last, coarse + k] = 1
            own_rows = slice(begin, end)
            wanted = points @ self.analyse[own_rows].T + evidence @ self.evidence[own_rows].T
            usual = _sums(evidence, near[leaf], int(near.max()) + 1)
            count = torch.bincount(near[leaf], minlength=len(usual))[:, None]
            usual = (usual + WORTH * evidence.mean(0)) / (count + WORTH)
            likely = centre @ self.analyse[own_rows].T
            likely = likely + (usual[_first_of(near, owner, nodes)] @ self.evidence[own_rows].T)
            mean = self._expected(wanted, k, leaf, likely)
            if begin and self.follows:
                follow = _regression(latents - before[node], wanted - mean[node])
                self.follow[k].weight.copy_(follow.T)
                mean = mean - before @ follow
            self.mean[k].copy_(mean)
            expected = mean[node] + (self.follow[k](latents) if begin else 0)
            error = (wanted - expected).square()
            overall = error.mean(0) + 0.01
            by_node = _sums(error, near[leaf], len(usual)) + SPREAD_WORTH * overall
            self.scale[k].copy_(overall.log() / 2)
            self.scale_by_node[k].copy_((by_node / (count + SPREAD_WORTH) / overall).log() / 2)
            latents = torch.cat([latents, expected + (wanted - expected).round()], dim=1)
            after = self._expected(latents, k, leaf, latents[:0])
            lift = _regression(latents - after[node], points - centre[node])
            self.lift[k].weight.copy_(lift.T)
            self.known[k].copy_(centre - after @ lift)

    def _expected(self, values: Tensor, block: int, leaf: Tensor, likely: Tensor) -> Tensor:
        """Mean of values (B,d) by node of `block`; `likely` (nodes,d, or empty: the nearby node's mean) is worth a
        few pictures."""
        owner, near = self.owners[block], self.near[block]
        nodes, nearby = int(owner.max()) + 1, int(near.max()) + 1
        if not len(likely):
            total, count = _sums(values, near[leaf], nearby), torch.bincount(near[leaf], minlength=nearby)[:, None]
            likely = ((total + WORTH * values.mean(0)) / (count + WORTH))[_first_of(near, owner, nodes)]
        total, count = _sums(values, owner[leaf], nodes), torch.bincount(owner[leaf], minlength=nodes)[:, None]
        return (total + WORTH * likely) / (count + WORTH)

    def parameters_of(self, block: int, leaf: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and scale (B,d) of the latents of `block` given the leaf's path and the latents before (B,…)."""
        mean = self.mean[block][self.owners[block][leaf]]
        if block and self.follows:
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
    """`whole_image.search.evidence_of` in torch, for leaf logits (B,C)."""
    chances = torch.softmax(logits, 1)
    nodes = [_sums(chances.T, own, int(own.max()) + 1).T for own in owners]
    coarse = (nodes[0] + EVIDENCE_FLOOR).log()
    best = torch.stack([own.max(1).values.clamp(EVIDENCE_FLOOR, 1 - EVIDENCE_FLOOR) for own in nodes], 1)
    odds = (best / (1 - best)).log()
    return torch.cat([coarse - coarse.mean(1, keepdim=True), odds, *(own.sqrt() for own in nodes[:-1])], 1)


def evidence_size(nodes: Sequence[int]) -> int:
    """How many numbers `evidence_of` gives for levels of so many nodes."""
    return nodes[0] + len(nodes) + sum(nodes[:-1])


def _silent(linear: nn.Linear) -> nn.Linear:
    """The layer with nothing to say yet."""
    for parameter in linear.parameters():
        nn.init.zeros_(parameter)
    return linear


def _sums(values: Tensor, place: Tensor, places: int) -> Tensor:
    """Rows of `values` (B,d) summed by place (B)."""
    return torch.zeros(places, values.shape[1]).index_add_(0, place, values)


def _first_of(near: Tensor, owner: Tensor, nodes: int) -> Tensor:
    """The nearby node that each node of a level lies in (its own, or an ancestor)."""
    result = torch.zeros(nodes, dtype=torch.long)
    result[owner] = near
    return result


def _regression(inputs: Tensor, wanted: Tensor) -> Tensor:
    """Weights (d,K) of the ridge regression of `wanted` (B,K) on `inputs` (B,d)."""
    own = inputs.double()
    normal = own.T @ own + 1e-3 * len(own) * torch.eye(own.shape[1], dtype=torch.double)
    return torch.linalg.solve(normal, own.T @ wanted.double()).float()
