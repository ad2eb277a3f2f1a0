"""What a receiver reads after every prefix: counted where counting does, and a small perceptron for the rest.

A reader (`scene.reader`) is a perceptron of one hidden layer. Part of its hidden units pass on what was told: the name
that stands for the deepest level so far. What a name says of the leaves is counted (`confusion`), with a prior that
holds where a name was never seen. Other hidden units learn, by Adam, what the box says of the leaves where they are
not named yet, and how the box that was sent is best read; the last ones what the score says of the object's being
there. Where nobody labelled the pictures, these are told the score alone: it is the detector's own, and boxes would
only blur it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
GEOMETRY = 6  # inputs before the names: see `SceneStream.told`
OF_BOX, OF_SCORE = 24, 12  # hidden units that learn: what boxes say, and what scores say
STEPS, BATCH, RATE, DECAY = 600, 256, 6e-3, 1e-3
COUNTED_AS = 6.0  # objects that the prior of a name counts as
BOX_WEIGHT = 1.0


class Targets(NamedTuple):
    """What readers are fitted to, a row an object. told n,inputs: as the deepest prefix is told, in real units. shares
    n,leaves: of the object's classes, summing to 1. present n: chance that an object is there. correction n,4: from the
    box that is sent to the wanted one (dx, dy as shares of the side, dlog w, dlog h), times 4."""

    told: Floats
    shares: Floats
    present: Floats
    correction: Floats
    labelled: bool


def confusion(named: NDArray[np.intp], owner: NDArray[np.intp], targets: Targets, nodes: int) -> Floats:
    """Chance (nodes,leaves) of every leaf where a node is named, from the named node of every object.

    The prior is the chance of a leaf under the node given that it is under it, mixed with a little of what is likely
    anywhere.
    """
    leaves = targets.shares.shape[1]
    weight = targets.present[:, None] * targets.shares
    everywhere = weight.sum(axis=0) + 0.5
    everywhere /= everywhere.sum()
    under = owner[None, :] == np.arange(nodes)[:, None]
    inside = under * everywhere[None]
    inside /= inside.sum(axis=1, keepdims=True)
    right = _share_right(named, owner, weight, nodes)
    prior = right * inside + (1 - right) * everywhere[None]
    counts = np.zeros((nodes, leaves))
    np.add.at(counts, named, weight)
    made = counts + COUNTED_AS * prior
    return made / made.sum(axis=1, keepdims=True)


def _share_right(named: NDArray[np.intp], owner: NDArray[np.intp], weight: Floats, nodes: int) -> float:
    """How much of what is there lies under the node that is named, over all objects; 0.9 where there are none."""
    under = (weight * (owner[None, :] == named[:, None])).sum()
    return float(np.clip((under + 9.0) / (weight.sum() + 10.0), 0.5, 0.999))


def fit_reader(
    targets: Targets,
    told: int,
    named: NDArray[np.intp],
    chances: Floats,
    latents: int,
    seed: int,
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """The layers (weight out,in and bias) of the reader of one prefix.

    told: how many of the inputs that prefix is told (geometry, then the names of its levels). named n: node of the
    deepest level named. chances (nodes,leaves): what `confusion` counts there. latents: how many came so far; they are
    not read, for all that the tree asks is known without them.
    """
    nodes, leaves = chances.shape
    random = np.random.default_rng(seed)
    scored = slice(None) if targets.labelled else slice(GEOMETRY - 1, GEOMETRY)
    in_score = np.zeros((GEOMETRY, OF_SCORE))
    in_score[scored] = random.normal(0, 1.0, in_score[scored].shape)
    parts = {
        "in_box": random.normal(0, 0.7, (GEOMETRY, OF_BOX)),
        "box_bias": random.normal(0, 0.5, OF_BOX),
        "in_score": in_score,
        "score_bias": random.normal(0, 0.7, OF_SCORE),
        "leaves": np.zeros((OF_BOX, leaves)),
        "shift": np.zeros((OF_BOX, 4)),
        "shift_bias": np.zeros(4),
        "there": np.zeros((OF_SCORE, 1)),
        "there_bias": np.zeros(1),
        "there_of_name": np.zeros((nodes, 1)),
    }
    mean = float(np.clip(targets.present.mean(), 0.02, 0.98)) if len(named) else 0.5
    parts["there_bias"][0] = np.log(mean / (1 - mean))
    parts = {key: part.astype(np.float32) for key, part in parts.items()}
    fixed = set() if nodes < leaves else {"leaves"}  # once a leaf is named, what its name says of others is counted
    if not targets.labelled:
        fixed.add("there_of_name")
    if len(named):
        _learn(targets, named, np.log(chances).astype(np.float32), parts, fixed, scored, random)
    return _assembled(parts, chances, told, latents)


def _assembled(
    parts: dict[str, NDArray[np.float32]], chances: Floats, told: int, latents: int
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """The two layers of a reader from its parts."""
    nodes, leaves = chances.shape
    passed = nodes if nodes > 1 else 0  # of one node there is no name to be told
    hidden = OF_BOX + OF_SCORE
    weight = np.zeros((told + latents, hidden + passed), np.float32)
    bias = np.zeros(weight.shape[1], np.float32)
    weight[:GEOMETRY, :OF_BOX], bias[:OF_BOX] = parts["in_box"], parts["box_bias"]
    weight[:GEOMETRY, OF_BOX:hidden], bias[OF_BOX:hidden] = parts["in_score"], parts["score_bias"]
    weight[told - passed : told, hidden:] = np.eye(passed)
    out = np.zeros((weight.shape[1], leaves + 5), np.float32)
    out[:OF_BOX, :leaves], out[:OF_BOX, leaves : leaves + 4] = parts["leaves"], parts["shift"]
    out[OF_BOX:hidden, leaves + 4 :] = parts["there"]
    out_bias = np.concatenate([np.zeros(leaves, np.float32), parts["shift_bias"], parts["there_bias"]])
    if passed:
        out[hidden:, :leaves], out[hidden:, leaves + 4 :] = np.log(chances), parts["there_of_name"]
    else:
        out_bias[:leaves] = np.log(chances[0])
        out_bias[leaves + 4] += parts["there_of_name"][0, 0]
    return [(weight.T.copy(), bias), (out.T.copy(), out_bias.astype(np.float32))]


def _learn(
    targets: Targets,
    named: NDArray[np.intp],
    counted: NDArray[np.float32],
    parts: dict[str, NDArray[np.float32]],
    fixed: set[str],
    scored: slice,
    random: np.random.Generator,
) -> None:
    """Adam on the parts that are not `fixed`, in place: cross entropy of shares (weighted by presence) and of presence,
    and the smooth absolute error of the correction. scored: the inputs that presence is read from."""
    geometry = targets.told[:, :GEOMETRY].astype(np.float32)
    shares, present = targets.shares.astype(np.float32), targets.present.astype(np.float32)[:, None]
    wanted = targets.correction.astype(np.float32)
    names = np.eye(len(counted), dtype=np.float32)
    moments = {key: (np.zeros_like(part), np.zeros_like(part)) for key, part in parts.items()}
    for step in range(1, STEPS + 1):
        pick = random.integers(len(geometry), size=BATCH)
        x, name, there = geometry[pick], names[named[pick]], present[pick]
        box_before = x @ parts["in_box"] + parts["box_bias"]
        of_box = np.maximum(box_before, 0)
        score_before = x @ parts["in_score"] + parts["score_bias"]
        of_score = np.maximum(score_before, 0)
        said = counted[named[pick]] + of_box @ parts["leaves"]
        said = np.exp(said - said.max(axis=1, keepdims=True))
        leaf = (said / said.sum(axis=1, keepdims=True) - shares[pick]) * there / BATCH
        shift = np.clip(of_box @ parts["shift"] + parts["shift_bias"] - wanted[pick], -1, 1) * BOX_WEIGHT / BATCH
        logit = of_score @ parts["there"] + name @ parts["there_of_name"] + parts["there_bias"]
        miss = (1 / (1 + np.exp(-np.clip(logit, -30, 30))) - there) / BATCH
        box_back = (leaf @ parts["leaves"].T + shift @ parts["shift"].T) * (box_before > 0)
        score_back = (miss @ parts["there"].T) * (score_before > 0)
        told = np.zeros_like(parts["in_score"])
        told[scored] = (x.T @ score_back)[scored]
        slopes = {
            "in_box": x.T @ box_back,
            "box_bias": box_back.sum(axis=0),
            "in_score": told,
            "score_bias": score_back.sum(axis=0),
            "leaves": of_box.T @ leaf,
            "shift": of_box.T @ shift,
            "shift_bias": shift.sum(axis=0),
            "there": of_score.T @ miss,
            "there_bias": miss.sum(axis=0),
            "there_of_name": name.T @ miss,
        }
        rate = RATE * 0.5 * (1 + np.cos(np.pi * step / STEPS))
        for key, part in parts.items():
            if key in fixed:
                continue
            mean, square = moments[key]
            mean += 0.1 * (slopes[key] - mean)
            square += 0.01 * (slopes[key] ** 2 - square)
            move = (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.99**step)) + 1e-8)
            part -= rate * (move + DECAY * part if key in ("leaves", "shift", "there_of_name") else move)
