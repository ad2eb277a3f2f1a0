"""What the semantic blocks tell the picture's synthesis of a whole image: a few fixed linear readings of the features.

The readings are principal directions of the features as the classifier sees them (logit space), scaled to variance one.
They depend on the teacher and the photos alone, so picture and semantic part can be trained apart. After each semantic
prefix the decoder knows the features better: the mean of the coarse node, of the middle node, of the class, and last
the features themselves but for what quantising lost.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
PLANES = 32


class Meaning(NamedTuple):
    """mean F; basis F,PLANES: `(features - mean) @ basis` are the readings."""

    mean: Floats
    basis: Floats


def fit_meaning(features: NDArray, weight: NDArray, planes: int = PLANES) -> Meaning:
    """The leading readings of `features` n,F for a classifier with rows `weight` C,F."""
    features = np.asarray(features, np.float64)
    mean = features.mean(0)
    centred = features - mean
    covariance = centred.T @ centred / len(features)
    rows = weight.astype(np.float64) - weight.mean(0, dtype=np.float64)
    logits = rows @ covariance @ rows.T
    values, vectors = np.linalg.eigh(logits)
    best = vectors[:, ::-1][:, :planes]
    spread = np.sqrt(np.maximum(values[::-1][:planes], 1e-9))
    return Meaning(mean.astype(np.float32), (rows.T @ best / spread).astype(np.float32))


def node_means(readings: NDArray, leaves: NDArray, owners: list[NDArray]) -> list[Floats]:
    """Per level the mean reading of each node (nodes,PLANES), a node without photos taking the mean of all."""
    means = []
    for owner in owners:
        nodes = owner[leaves]
        count = np.bincount(nodes, minlength=int(owner.max()) + 1).astype(np.float64)
        total = np.zeros((len(count), readings.shape[1]))
        np.add.at(total, nodes, readings)
        prior = readings.mean(0, keepdims=True)
        means.append(((total + prior) / (count + 1)[:, None]).astype(np.float32))
    return means


def load_classifier_rows(folder: Path) -> tuple[Floats, Floats]:
    """The teacher's last layer as `imagenet_features` left it: weight C,F and bias C."""
    with np.load(folder / "classifier.npz") as stored:
        return stored["weight"].astype(np.float32), stored["bias"].astype(np.float32)
