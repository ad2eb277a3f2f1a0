"""Second stage of the imagenet model: the semantic blocks, trained on cached features in minutes.

Each prefix is trained for its level: bits + divergence of the posterior read from the trunk's own at that level (as it
is, and sharpened) + distance of the features. Half of every batch are made-up pictures: a class drawn evenly from all,
with the deviation of a real photo of another class, for the photos cover few classes well.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from semhier_ros.taxonomy import Taxonomy
from semhier_ros.torch.image_semantics import ImageSemantics, evidence_of, evidence_size
from semhier_ros.training.checkpoint import Checkpoint
from semhier_ros.training.device import adamw
from semhier_ros.training.fit import Course, Loss, Made, fit
from semhier_ros.training.imagenet_features import compiled, load_views, read_views
from semhier_ros.training.imagenet_meaning import load_classifier_rows
from semhier_ros.training.imagenet_space import Space, fit_space
from semhier_ros.training.packed import packed, states
from semhier_ros.training.photos import read_manifest
from semhier_ros.training.settings import Option

DIMENSIONS = (11, 6, 128, 220)
NATS_PER_BIT = (0.028, 0.028, 0.02, 0.02)
FEATURE_WEIGHT = (0.1, 0.3, 6.0, 14.0)
LEAF_SHARE = 0.05  # weight of the leaves' divergence in prefixes that are trained for a coarser level
SHARP, SHARP_SHARE = 0.6, 0.4  # the sharpened posterior's temperature (what calibrates the trunk on the choosing half)
BATCH = 128
STARTED_ON = 48_000  # pictures that the first form is fitted to; 6,000 left its regressions with twice the error


ABLATIONS = {
    "levels": "every prefix is trained for the classes",
    "names": "no symbol names a node",
    "task": "no prefix is trained for its posterior",
    "autoregression": "no block's means follow from the blocks before",
}
WITHOUT = ("", *ABLATIONS)


class Photos(NamedTuple):
    """points n,K; logits n,C and leaf n by the trunk; lost n,C: what the space leaves out of the logits."""

    points: Tensor
    logits: Tensor
    leaf: Tensor
    lost: Tensor


def load_features(data: Path, out: Path) -> NDArray[np.float32]:
    """Every finished view of every photo that may be trained on."""
    keep = np.array([not photo.test for photo in read_manifest(data)])
    return np.concatenate([view[keep] for view in load_views(data, out)]).astype(np.float32)


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


def build(space: Space, tree: Taxonomy, without: str = "") -> ImageSemantics:
    """The network before `start`; `without` is one of `ABLATIONS`."""
    centres, rows, bias = (torch.from_numpy(part) for part in (space.centres, space.rows, space.bias))
    owners = [torch.from_numpy(np.array(tree.owner(level))) for level in range(tree.depth)]
    if without == "names":
        owners = [torch.zeros_like(own) for own in owners]
    evidence = evidence_size(tree.sizes)
    return ImageSemantics(owners, centres, rows, bias, DIMENSIONS, evidence, without != "autoregression")


class Posteriors:
    """What divergences of leaf logits at the levels' nodes need, worked out once a batch."""

    def __init__(self, owners: Sequence[Tensor]):
        self.levels = [nn.functional.one_hot(own).float() for own in owners[:-1]]
        self.last = len(owners) - 1

    def at(self, logits: Tensor, level: int, temperature: float = 1.0) -> Tensor:
        """Chances (B,nodes) of a level's nodes; the last level is the leaves themselves."""
        chances = torch.softmax(logits / temperature, 1)
        return (chances if level == self.last else chances @ self.levels[level]) + 1e-9


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL (B, nats) of chances p, q (B,nodes)."""
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

    def batch(self, size: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Points (size,K) and leaf logits (size,C), drawn from `generator` or torch's own."""
        rows = torch.multinomial(self.weight, size, replacement=True, generator=generator)
        points, logits = self.photos.points[rows].clone(), self.photos.logits[rows].clone()
        made = size // 2
        classes = torch.randint(len(self.rows), (made,), generator=generator)
        farther = 0.7 + 0.6 * torch.rand(made, 1, generator=generator)
        points[:made] = self.centres[classes] + self.about[rows[:made]] * farther
        logits[:made] = points[:made] @ self.rows.T + self.bias + 0.5 * self.photos.lost[rows[:made]]
        return points, logits


def batch_loss(
    network: ImageSemantics, points: Tensor, logits: Tensor, owners: list[Tensor], nodes: Posteriors, without: str = ""
) -> Tensor:
    """What one batch costs in nats, all prefixes together."""
    total = points.new_zeros(())
    last = len(owners) - 1
    for k, prefix in enumerate(network(points, evidence_of(logits, owners), logits.argmax(1), rounded=False)):
        level = last if without == "levels" else min(k, last)
        if without != "task":
            terms = [(level, 1.0, 1.0), (level, SHARP, SHARP_SHARE)]
            if level < last:
                terms.append((last, 1.0, LEAF_SHARE))
            for deep, temperature, share in terms:
                true, read = (nodes.at(own, deep, temperature) for own in (logits, prefix.logits))
                total = total + share * divergence(true, read).mean()
        distance = (prefix.point - points).square().sum(1).mean()
        total = total + FEATURE_WEIGHT[k] * distance + NATS_PER_BIT[k] * prefix.bits.mean()
    return total


def train(options: argparse.Namespace) -> Path:
    """Train, or go on training, until the steps are used up; returns the checkpoint."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tree = Taxonomy.load(options.taxonomy)
    space, photos = load_photos(options.data, options.out, options.seed)
    network = build(space, tree, options.without)
    draw = Draw(photos, space)
    owners = [torch.from_numpy(np.array(tree.owner(level))) for level in range(tree.depth)]
    quick = [p for name, p in network.named_parameters() if name.startswith("scale")]
    steady = [p for name, p in network.named_parameters() if not name.startswith("scale")]
    optimizer = adamw([{"params": steady, "lr": options.lr}, {"params": quick, "lr": 5 * options.lr}], options.lr)
    checkpoint = Checkpoint(options.out / "semantic.pt", {"without": options.without})
    if not checkpoint.path.exists():
        points, logits = draw.batch(STARTED_ON)
        network.start(points, evidence_of(logits, owners), logits.argmax(1), tree.depth, tree.sizes[0])
    nodes = Posteriors(owners)

    def make(random: np.random.Generator) -> Sequence[Tensor]:
        return draw.batch(BATCH, torch.Generator().manual_seed(int(random.integers(1 << 62))))

    def loss(batch: Sequence[Tensor], random: np.random.Generator) -> Loss:
        points, logits = batch
        total = batch_loss(network, points, logits, owners, nodes, options.without)
        return Loss(total, {"loss": total})

    course = Course(
        options.steps, warm_up=30, floor=0.02, clip=5.0, seed=options.seed, name="semantic", save_every=60.0
    )
    fit(network, optimizer, Made(make, options.seed), loss, course, checkpoint)
    path = checkpoint.path
    if options.measure:
        features = choosing_features(options.out, options.validation, options.splits, options.threads)
        weight, bias = (torch.from_numpy(part) for part in load_classifier_rows(options.out))
        print(table_of(network.eval(), space, tree, features, features @ weight.T + bias))
    return path


def choosing_features(out: Path, validation: Path, splits: Path, threads: int) -> Tensor:
    """The trunk's features (n,F) of the choosing half of `validation`, kept in `out`."""
    chosen = set((splits / "choose.txt").read_text().split())
    with (validation / "labels.csv").open(encoding="utf-8-sig", newline="") as file:
        names = [row["file"] for row in csv.DictReader(file) if row["file"] in chosen]
    trunk = out / "trunk.onnx"

    def run_trunk(path: Path) -> dict[str, int]:
        request = compiled(trunk, threads)
        found = [request.infer([view[None]])["features"][0] for view in read_views(validation, names)]
        with path.open("wb") as file:
            np.save(file, np.stack(found))
        return {"photos": len(found)}

    made_of = {
        "photos": states(validation / name for name in names),
        "trunk": hashlib.sha256(trunk.read_bytes()).hexdigest(),
        "opencv": cv2.__version__,
    }
    return torch.from_numpy(packed(out, "choosing", made_of, run_trunk)[0][:].copy())


@torch.no_grad()
def table_of(network: ImageSemantics, space: Space, tree: Taxonomy, features: Tensor, logits: Tensor) -> str:
    """A table, of what each part of the method is worth when networks with and without it are compared: after every
    prefix the mean bytes, the share of pictures whose node at its level is the trunk's own,
    divergence in nats at all levels, and the features' squared distance in the codec's space.

    Bytes are ideal lengths under the network's own Gaussians (the names' from leaves held equally likely), latents are
    rounded without the encoder's search, and nothing is calibrated: compare them with each other, not with the codec's.
    """
    owners = [torch.from_numpy(np.array(tree.owner(level))) for level in range(tree.depth)]
    nodes = Posteriors(owners)
    points = (features - torch.from_numpy(space.mean)) @ torch.from_numpy(space.enter).T
    leaf = logits.argmax(1)
    shares = [torch.bincount(own).float() / len(own) for own in owners]
    lines = [f"{'prefix':>6} {'bytes':>6} {'same node':>9}  divergence at levels  distance"]
    bits = torch.zeros(())
    for k, prefix in enumerate(network(points, evidence_of(logits, owners), leaf, rounded=True)):
        level = min(k, tree.depth - 1)
        bits = bits + prefix.bits.mean()
        named = network.owners[k]
        names = -shares[level][owners[level][leaf]].log2().mean() if int(named.max()) else torch.zeros(())
        told = nodes.at(prefix.logits, level)
        same = (told.argmax(1) == owners[level][leaf]).float().mean()
        apart = [divergence(nodes.at(logits, i), nodes.at(prefix.logits, i)).mean() for i in range(tree.depth)]
        distance = (prefix.point - points).square().sum(1).mean()
        marks = " / ".join(f"{float(value):.3f}" for value in apart)
        lines.append(f"{k:>6} {float(bits + names) / 8:6.1f} {float(same):9.3f}  {marks:>20}  {float(distance):8.3f}")
    return "\n".join(lines)


OPTIONS = (
    Option("steps", int, 1500, "of training", least=0),
    Option("lr", float, 1e-3, "at its greatest", above=0),
    Option("without", str, "", f"leave a part of the method out: one of {', '.join(ABLATIONS)}", choices=WITHOUT),
    Option("measure", bool, False, "print what the choosing half of --validation says of it"),
    Option("splits", Path, Path("config/splits/imagenet-validation"), "folder with choose.txt"),
)
