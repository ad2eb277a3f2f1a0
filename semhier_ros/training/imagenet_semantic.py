"""Second stage of the imagenet model: the semantic blocks, trained on cached features in minutes.

Each prefix is trained for its level: bits + divergence of the posterior read from the trunk's own at that level (as it
is, and sharpened) + distance of the features. Half of every batch are made-up pictures: a class drawn evenly from all,
with the deviation of a real photo of another class, for the photos cover few classes well.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from semhier_ros.networks.image_semantics import ImageSemantics, evidence_of
from semhier_ros.taxonomy import Taxonomy
from semhier_ros.training.imagenet_meaning import load_classifier_rows
from semhier_ros.training.imagenet_space import Space, fit_space
from semhier_ros.training.loop import load_checkpoint, save_checkpoint
from semhier_ros.training.photos import read_manifest

DIMENSIONS = (6, 8, 16, 98)
NATS_PER_BIT = (0.01, 0.012, 0.012, 0.004)
FEATURE_WEIGHT = (0.1, 0.2, 1.0, 2.0)
LEAF_SHARE = 0.1  # weight of the leaves' divergence in prefixes that are trained for a coarser level
SHARP = 0.6  # the sharpened posterior's temperature: what calibrates the trunk on the choosing half
BATCH = 192


class Photos(NamedTuple):
    """points n,K; logits n,C and leaf n by the trunk; lost n,C: what the space leaves out of the logits."""

    points: Tensor
    logits: Tensor
    leaf: Tensor
    lost: Tensor


def load_features(data: Path, out: Path) -> NDArray[np.float32]:
    """Every finished view of every photo that may be trained on."""
    keep = np.array([not photo.test for photo in read_manifest(data)])
    views = sorted(path for path in out.glob("features-*.npy") if ".part" not in path.name)
    if not views:
        raise FileNotFoundError(f"{out}: no features-0.npy; run `semhier train imagenet features` first")
    return np.concatenate([np.load(path)[keep] for path in views]).astype(np.float32)


def load_photos(data: Path, out: Path, seed: int) -> tuple[Space, Photos]:
    """The space fitted to the cached features, and the features in it."""
    features = load_features(data, out)
    weight, bias = load_classifier_rows(out)
    logits = features @ weight.T + bias
    leaf = logits.argmax(1)
    space = fit_space(features, leaf, weight, bias, seed)
    points = (features - space.mean) @ space.enter.T
    lost = logits - points @ space.rows.T - space.bias
    return space, Photos(*(torch.from_numpy(np.ascontiguousarray(part)) for part in (points, logits, leaf, lost)))


def build(space: Space, photos: Photos, tree: Taxonomy) -> ImageSemantics:
    """The network before training."""
    centres, rows, bias = (torch.from_numpy(part) for part in (space.centres, space.rows, space.bias))
    spread = torch.cov((photos.points - centres[photos.leaf]).T)
    owners = [torch.from_numpy(np.array(tree.owner(level))) for level in range(tree.depth)]
    return ImageSemantics(owners, centres, spread, rows, bias, DIMENSIONS, tree.sizes[0] + tree.depth)


def summed(chances: Tensor, owner: Tensor) -> Tensor:
    """Leaf probabilities (B,C) summed into nodes."""
    return torch.zeros(len(chances), int(owner.max()) + 1).index_add_(1, owner, chances)


def divergence(true: Tensor, read: Tensor, owner: Tensor, temperature: float = 1.0) -> Tensor:
    """KL (B, nats) from the posterior of logits `true` to that of `read`, both summed into the nodes of `owner`."""
    p, q = (summed(torch.softmax(logits / temperature, 1), owner) + 1e-9 for logits in (true, read))
    return (p * (p.log() - q.log())).sum(1)


class Draw:
    """Batches: half made up, half real, rare classes more often than they come."""

    def __init__(self, photos: Photos, space: Space):
        self.photos = photos
        self.centres, self.rows, self.bias = (
            torch.from_numpy(part) for part in (space.centres, space.rows, space.bias)
        )
        self.about = photos.points - self.centres[photos.leaf]
        count = torch.bincount(photos.leaf, minlength=len(self.rows)).float()
        self.weight = 1 / count[photos.leaf].sqrt()

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Points (size,K) and leaf logits (size,C)."""
        rows = torch.multinomial(self.weight, size, replacement=True)
        points, logits = self.photos.points[rows].clone(), self.photos.logits[rows].clone()
        made = size // 2
        classes = torch.randint(len(self.rows), (made,))
        points[:made] = self.centres[classes] + self.about[rows[:made]] * (0.7 + 0.6 * torch.rand(made, 1))
        logits[:made] = points[:made] @ self.rows.T + self.bias + 0.5 * self.photos.lost[rows[:made]]
        return points, logits


def batch_loss(network: ImageSemantics, points: Tensor, logits: Tensor, owners: list[Tensor]) -> Tensor:
    """What one batch costs in nats, all prefixes together."""
    total = points.new_zeros(())
    last = len(owners) - 1
    for k, prefix in enumerate(network(points, evidence_of(logits, owners), logits.argmax(1), rounded=False)):
        owner = owners[min(k, last)]
        for temperature in (1.0, SHARP):
            total = total + divergence(logits, prefix.logits, owner, temperature).mean()
        if k < last:
            total = total + LEAF_SHARE * divergence(logits, prefix.logits, owners[last]).mean()
        distance = (prefix.point - points).square().sum(1).mean()
        total = total + FEATURE_WEIGHT[k] * distance + NATS_PER_BIT[k] * prefix.bits.mean()
    return total


def train(options: argparse.Namespace) -> Path:
    """Train, or go on training, until the steps are used up; returns the checkpoint."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tree = Taxonomy.load(options.taxonomy)
    space, photos = load_photos(options.data, options.out, options.seed)
    network = build(space, photos, tree)
    owners = [torch.from_numpy(np.array(tree.owner(level))) for level in range(tree.depth)]
    quick = [p for name, p in network.named_parameters() if name.startswith("scale")]
    steady = [p for name, p in network.named_parameters() if not name.startswith("scale")]
    optimizer = torch.optim.Adam([{"params": steady, "lr": options.lr}, {"params": quick, "lr": 5 * options.lr}])
    rates = [group["lr"] for group in optimizer.param_groups]
    path, step = options.out / "semantic.pt", 0
    if (saved := load_checkpoint(path)) is not None:
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]
        torch.manual_seed(options.seed + step)
    elif options.start is not None and (before := load_checkpoint(options.start)) is not None:
        network.load_state_dict(before["network"], strict=False)
        network.give_confidence(tree.depth)
    draw = Draw(photos, space)

    def state() -> dict[str, Any]:
        return {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step}

    bar = tqdm(range(step, options.steps), initial=step, total=options.steps, unit="step", mininterval=5)
    for number in bar:
        factor = min(1, (number + 1) / 30) * (0.02 + 0.49 * (1 + math.cos(math.pi * number / options.steps)))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        points, logits = draw.batch(BATCH)
        loss = batch_loss(network, points, logits, owners)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
        step = number + 1
        if step % 200 == 0:
            save_checkpoint(path, state())
    save_checkpoint(path, state())
    return path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--start", type=Path, help="another checkpoint of this stage to start from")
