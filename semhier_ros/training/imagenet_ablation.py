"""What each part of the semantic blocks' method is worth: one network, with or without that part, on the choosing half.

Bytes are ideal lengths under the network's own Gaussians (the names' from leaves held equally likely), latents are
rounded without the encoder's search, and nothing is calibrated: compare them with each other, not with the codec's.
"""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from semhier_ros.taxonomy import Taxonomy
from semhier_ros.torch.image_semantics import ImageSemantics, evidence_of
from semhier_ros.training.imagenet_features import compiled
from semhier_ros.training.imagenet_model import read_views
from semhier_ros.training.imagenet_semantic import Posteriors, divergence
from semhier_ros.training.imagenet_space import Space
from semhier_ros.training.packed import packed, states


def choosing_features(out: Path, validation: Path, splits: Path, threads: int) -> Tensor:
    """The trunk's features (n,F) of the choosing half of `validation`, kept in `out`."""
    chosen = set((splits / "choose.txt").read_text().split())
    with (validation / "labels.csv").open(encoding="utf-8", newline="") as file:
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
def measure(network: ImageSemantics, space: Space, tree: Taxonomy, features: Tensor, logits: Tensor) -> str:
    """A table: after every prefix the mean bytes, the share of pictures whose node at its level is the trunk's own,
    divergence in nats at all levels, and the features' squared distance in the codec's space."""
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
