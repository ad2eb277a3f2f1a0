"""What a receiver reads after every prefix: counted where counting does, and a small perceptron for the rest.

A reader (`scene.reader`) is a perceptron of one hidden layer. Part of its hidden units pass what was told straight on:
the name that stands for the deepest level so far, and the score. What a name says of the leaves is counted
(`confusion`), with a prior that holds where a name was never seen; the other hidden units learn, by Adam, how that
depends on the box and the score. The objectness that is read makes objectness times a leaf's share that leaf's own
score.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
GEOMETRY = 6  # inputs before the names: see `SceneStream.told`
LEARNED = 24  # hidden units that learn
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
    targets: Targets, told: int, named: NDArray[np.intp], chances: Floats, latents: int, seed: int
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """The layers (weight out,in and bias) of the reader of one prefix.

    told: how many of the inputs that prefix is told (geometry, then the names of its levels). named n: node of the
    deepest level named. chances (nodes,leaves): what `confusion` counts there. latents: how many came so far; they are
    not read, for all that the tree asks is known without them.
    """
    nodes, leaves = chances.shape
    random = np.random.default_rng(seed)
    parts = {
        "in": random.normal(0, 0.7, (GEOMETRY, LEARNED)),
        "in_bias": random.normal(0, 0.5, LEARNED),
        "leaves": np.zeros((LEARNED, leaves)),
        "rest": np.zeros((LEARNED, 5)),
        "of_name": np.zeros((nodes, 5)),
        "of_score": np.zeros((1, 5)),
        "rest_bias": np.zeros(5),
    }
    mean = float(np.clip(targets.present.mean(), 0.02, 0.98)) if len(named) else 0.5
    parts["rest_bias"][4] = np.log(mean / (1 - mean))
    parts = {key: part.astype(np.float32) for key, part in parts.items()}
    if len(named):
        _learn(targets, named, np.log(chances).astype(np.float32), parts, random)
    first = told - nodes if nodes > 1 else told  # of one node there is no name to be told
    passed = nodes if nodes > 1 else 0
    weight = np.zeros((told + latents, LEARNED + passed + 1), np.float32)
    bias = np.zeros(weight.shape[1], np.float32)
    weight[:GEOMETRY, :LEARNED], bias[:LEARNED] = parts["in"], parts["in_bias"]
    weight[first : first + passed, LEARNED : LEARNED + passed] = np.eye(passed)
    weight[GEOMETRY - 1, -1] = bias[-1] = 1  # the score, lifted to above 0
    out = np.zeros((weight.shape[1], leaves + 5), np.float32)
    out[:LEARNED, :leaves], out[:LEARNED, leaves:], out[-1, leaves:] = parts["leaves"], parts["rest"], parts["of_score"]
    out_bias = np.concatenate([np.zeros(leaves, np.float32), parts["rest_bias"]])
    if passed:
        out[LEARNED : LEARNED + passed, :leaves] = np.log(chances)
        out[LEARNED : LEARNED + passed, leaves:] = parts["of_name"]
    else:
        out_bias[:leaves] = np.log(chances[0])
        out_bias[leaves:] += parts["of_name"][0]
    return [(weight.T.copy(), bias), (out.T.copy(), out_bias.astype(np.float32))]


def _learn(
    targets: Targets,
    named: NDArray[np.intp],
    counted: NDArray[np.float32],
    parts: dict[str, NDArray[np.float32]],
    random: np.random.Generator,
) -> None:
    """Adam on the parts in place: cross entropy of shares (weighted by presence) and of presence, and the smooth
    absolute error of the correction."""
    geometry = targets.told[:, :GEOMETRY].astype(np.float32)
    shares, present = targets.shares.astype(np.float32), targets.present.astype(np.float32)
    wanted = targets.correction.astype(np.float32)
    names = np.eye(len(counted), dtype=np.float32)
    moments = {key: (np.zeros_like(part), np.zeros_like(part)) for key, part in parts.items()}
    for step in range(1, STEPS + 1):
        pick = random.integers(len(geometry), size=BATCH)
        x, name, there = geometry[pick], names[named[pick]], present[pick]
        before = x @ parts["in"] + parts["in_bias"]
        hidden = np.maximum(before, 0)
        score = x[:, GEOMETRY - 1 :] + 1
        said = counted[named[pick]] + hidden @ parts["leaves"]
        said = np.exp(said - said.max(axis=1, keepdims=True))
        of_leaves = (said / said.sum(axis=1, keepdims=True) - shares[pick]) * there[:, None] / BATCH
        rest = hidden @ parts["rest"] + name @ parts["of_name"] + score @ parts["of_score"] + parts["rest_bias"]
        of_rest = np.empty_like(rest)
        of_rest[:, :4] = BOX_WEIGHT * np.clip(rest[:, :4] - wanted[pick], -1, 1)
        of_rest[:, 4] = 1 / (1 + np.exp(-np.clip(rest[:, 4], -30, 30))) - there
        of_rest /= BATCH
        back = (of_leaves @ parts["leaves"].T + of_rest @ parts["rest"].T) * (before > 0)
        slopes = {
            "in": x.T @ back,
            "in_bias": back.sum(axis=0),
            "leaves": hidden.T @ of_leaves,
            "rest": hidden.T @ of_rest,
            "of_name": name.T @ of_rest,
            "of_score": score.T @ of_rest,
            "rest_bias": of_rest.sum(axis=0),
        }
        rate = RATE * 0.5 * (1 + np.cos(np.pi * step / STEPS))
        for key, part in parts.items():
            mean, square = moments[key]
            mean += 0.1 * (slopes[key] - mean)
            square += 0.01 * (slopes[key] ** 2 - square)
            move = (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.99**step)) + 1e-8)
            part -= rate * (move + DECAY * part if key in ("leaves", "rest", "of_name") else move)
