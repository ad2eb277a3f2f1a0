"""Third stage of the road model: the object codec, trained on vectors that the finished detector gives.

The detector runs once over the training scenes (several scales, flipped); every object found becomes one row of
evidence. Each latent group is trained for its own level: rate of the prefix + divergence of the read posterior from the
detector's, at that level, and less at those above it and at the leaves + cross entropy to the true node + distance from
the true box, plus, for block 0 alone, divergence from how sure the object is and, for the last group, the object's
features (so that questions can be asked later).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semhier_ros.torch.object_codec import MAX_SCALE, MIN_SCALE, ObjectCodec
from semhier_ros.torch.rate import interval_bits
from semhier_ros.training.device import adamw
from semhier_ros.training.fit import Course, Loss, Made, fit

RATE_WEIGHTS = (0.06, 0.05, 0.01)  # nats of task loss that a bit of latent group 1, 2, 3 must save
BOX_WEIGHT = 2.0
FEATURE_WEIGHT = 0.25


class Rows(NamedTuple):
    """Training rows: told n,6+groups+types (geometry, all names, in real units); evidence n,E; leaves n,T
    log-probabilities; truth n (true leaf, -1 where the object is none); sure n (0..1, what the reader of block 0 learns
    to be);
    features n,F; correction n,4 (times 4): from the quantised box to the label's, or to the detector's where there is
    no label."""

    told: NDArray[np.float32]
    evidence: NDArray[np.float32]
    leaves: NDArray[np.float32]
    truth: NDArray[np.int64]
    sure: NDArray[np.float32]
    features: NDArray[np.float32]
    correction: NDArray[np.float32]


def lift(log_leaves: Tensor, owner: Tensor, nodes: int) -> Tensor:
    """Log-probabilities of the nodes that own the leaves."""
    member = torch.nn.functional.one_hot(owner, nodes).to(log_leaves.dtype)
    return (log_leaves.exp() @ member).clamp(min=1e-9).log()


def loss_of_batch(
    codec: ObjectCodec, batch: list[Tensor], owners: list[Tensor], rate_weights: tuple[float, ...]
) -> tuple[Tensor, list[Tensor]]:
    """Loss of all prefixes of one batch, and mean bits per object of each latent group."""
    told, evidence, leaves, truth, sure, features, correction = batch
    named = truth >= 0
    teacher = leaves.log_softmax(-1)
    total = told.new_zeros(())
    rates: list[Tensor] = []
    decoded: list[Tensor] = []
    geometry = codec.reader[0][0].in_features
    for prefix in range(len(codec.latents) + 1):
        level = min(prefix, len(codec.nodes) - 1)
        known = told[:, : geometry + sum(codec.nodes[1 : level + 1])]
        if prefix:
            group = prefix - 1
            mean, scale = codec.context[group](torch.cat([known, *decoded], dim=1)).chunk(2, dim=1)
            residual = codec.project[group](evidence) - mean
            spread = scale.exp().clamp(MIN_SCALE, MAX_SCALE)
            spent = interval_bits(residual + torch.empty_like(residual).uniform_(-0.5, 0.5), spread).sum(1).mean()
            total = total + rate_weights[group] * spent
            rates.append(spent.detach())
            decoded.append(mean + residual + (residual.round() - residual).detach())
        read = codec.read(prefix, known, torch.cat(decoded, dim=1) if decoded else known[:, :0])
        log_read = read.leaves.log_softmax(-1)
        for k in {*range(1, level + 1), len(owners) - 1}:
            goal, ours = lift(teacher, owners[k], codec.nodes[k]), lift(log_read, owners[k], codec.nodes[k])
            weight = 1.0 if k == level else 0.25
            total = total + weight * (goal.exp() * (goal - ours)).sum(1).mean()
            if named.any():
                nodes = owners[k][truth[named]]
                total = total + 0.3 * weight * torch.nn.functional.nll_loss(ours[named], nodes)
        total = total + BOX_WEIGHT * torch.nn.functional.smooth_l1_loss(read.box, correction, beta=0.1)
        if not prefix:
            total = total + torch.nn.functional.binary_cross_entropy_with_logits(read.objectness[:, 0], sure)
        share = FEATURE_WEIGHT if prefix == len(codec.latents) else FEATURE_WEIGHT / 10
        total = total + share * torch.nn.functional.mse_loss(read.features, features)
    return total, rates


def train_object_codec(
    rows: Rows,
    nodes: tuple[int, ...],
    owners: list[NDArray[np.intp]],
    latents: tuple[int, ...],
    steps: int,
    seed: int,
    batch: int = 512,
    rate_weights: tuple[float, ...] = RATE_WEIGHTS,
) -> ObjectCodec:
    """Train on rows for `steps` steps; progress shows bits per object of each group.

    rate_weights: nats of task loss that a bit of each latent group must save.
    """
    torch.manual_seed(seed)
    codec = ObjectCodec(rows.evidence.shape[1], nodes, rows.features.shape[1], latents)
    tensors = [torch.from_numpy(array) for array in rows]
    torch_owners = [torch.from_numpy(np.array(owner, np.int64)) for owner in owners]

    def make(random: np.random.Generator) -> list[Tensor]:
        pick = torch.from_numpy(random.integers(len(rows.told), size=batch))
        return [tensor[pick] for tensor in tensors]

    def loss(batch: Sequence[Tensor], random: np.random.Generator) -> Loss:
        total, rates = loss_of_batch(codec, list(batch), torch_owners, rate_weights)
        return Loss(total, {"loss": total} | {f"bits{group}": rate for group, rate in enumerate(rates, 1)})

    course = Course(steps, warm_up=0, floor=0.0, clip=5.0, seed=seed, name="objects")
    fit(codec, adamw(codec.parameters(), 2e-3, weight_decay=1e-3), Made(make, seed), loss, course)
    return codec.eval()
