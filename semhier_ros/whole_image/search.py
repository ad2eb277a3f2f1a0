"""Which whole numbers a whole image's latents become: those with the least bits and damage to the reading together.

Damage is the divergence of the posterior that will be read from the trunk's own, and the distance of the features;
around the rounded latents both are quadratic (the divergence's curvature is the Fisher information of the posterior),
so the search is a descent in whole numbers. The curvature is never written out: it is a few rows, one per leaf that is
likely enough to bend the divergence, and the features' own square, known when the model is loaded. Every pass finds
each latent's best move and makes as many of the best ones at once as still gain together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.latent_groups import LATENT_BOUND, UNIT, Ints
from semhier_ros.taxonomy import Taxonomy
from semhier_ros.whole_image.reader import ImageReader
from semhier_ros.whole_image.stream import EVIDENCE_FLOOR, ImageCode

Floats = NDArray[np.float32]
MOST_PASSES = 60
LEAST_GAIN = 2e-4  # nats
FAINT = 2e-3  # a leaf less likely than this does not bend the divergence


def chances_at(logits: Floats, temperatures: Floats) -> Floats:
    """Probabilities (T,C) of leaf logits (C) at each temperature, in single precision: a search needs no more."""
    chances = np.exp((logits - logits.max()) / temperatures[:, None])
    chances /= chances.sum(axis=1, keepdims=True)
    return chances


def evidence_of(nodes: Sequence[Floats]) -> Floats:
    """What the encoder tells beside the features' directions, for the nodes' probabilities at every level:
    log-probabilities of the coarsest nodes about their mean; the log-odds of the likeliest node of every level; square
    roots of the nodes' probabilities at every level but the leaves' (equal steps of a root do about equal damage,
    however likely the node)."""
    coarse = np.log(nodes[0] + EVIDENCE_FLOOR)
    best = np.clip([own.max() for own in nodes], EVIDENCE_FLOOR, 1 - EVIDENCE_FLOOR)
    roots = [np.sqrt(own) for own in nodes[:-1]]
    return np.concatenate([coarse - coarse.mean(), np.log(best / (1 - best)), *roots]).astype(np.float32)


class Wanted:
    """What the trunk says of a picture, as the search compares readings with it.

    temperatures (T): as it is, and sharpened by `sharp`. leaves (T,C): the classes' probabilities. point: where the
    picture lies in the codec's space (K).
    """

    def __init__(self, logits: Floats, point: Floats, tree: Taxonomy, sharp: float):
        self.point, self.tree = point, tree
        self.temperatures = np.array([1.0, sharp], np.float32)
        self.leaves = chances_at(logits, self.temperatures)

    def evidence(self) -> Floats:
        """What `evidence_of` makes of the probabilities as they are."""
        coarser = [self.tree.lift(self.leaves[0], level) for level in range(self.tree.depth - 1)]
        return evidence_of([*coarser, self.leaves[0]])


@dataclass(frozen=True, eq=False)
class Quadratic:
    """A cost of whole steps x (d): gradient @ x + x @ curvature @ x / 2, in nats.

    The curvature is rows.T @ rows (n,d) - less outer less (d) + share * square (d,d); half: half its diagonal (d).
    """

    gradient: Floats
    rows: Floats
    less: Floats
    square: Floats
    share: np.float32
    half: Floats

    @classmethod
    def made(cls, gradient: Floats, rows: Floats, less: Floats, square: Floats, share: float) -> Quadratic:
        """With the diagonal worked out."""
        half = (np.einsum("nd,nd->d", rows, rows) - less * less + np.float32(share) * square.diagonal()) / 2
        return cls(gradient, rows, less, square, np.float32(share), half)

    def bend(self, steps: Floats) -> Floats:
        """What `steps` (d) add to the gradient: curvature @ steps (d)."""
        bent = (self.rows @ steps) @ self.rows
        bent -= (self.less @ steps) * self.less
        bent += self.share * (self.square @ steps)
        return np.asarray(bent)


def damage(reader: ImageReader, code: ImageCode, block: int, wanted: Wanted, step: int) -> Quadratic:
    """What moving the last latent group (d) of `code` by whole steps does to the classes' posterior and features."""
    weights = reader.weights
    scale = np.float32(step / UNIT)
    size = len(code.latents[block])
    point, lift = reader.point(code, block), weights[f"lift_{block}"][:, -size:]
    logits, linear, hidden, factor = reader.linear_and_hidden(code, block, point)
    inner = weights[f"hidden_{block}.weight"][:, -size:] * np.where(hidden > 0, scale, np.float32(0))[:, None]
    louder = (factor * weights[f"sharpen_{block}"]) @ inner
    answer, loud = weights[f"answer_{block}.weight"], np.float32(factor * scale)

    told = chances_at(logits, wanted.temperatures)
    shares = np.array([1.0, weights["search_shares"][1]], np.float32) / wanted.temperatures
    bends = shares / wanted.temperatures
    pull = shares @ (told - wanted.leaves)
    gradient = loud * ((pull @ weights["rows"]) @ lift) + (pull @ linear) * louder + (pull @ answer) @ inner
    heard = np.flatnonzero(told[0] > FAINT)
    rows = answer[heard] @ inner
    rows += loud * weights[f"move_{block}"][heard]
    rows += linear[heard, None] * louder
    told = told[:, heard]
    told /= told.sum(axis=1, keepdims=True)
    rows -= told[0] @ rows
    less = np.sqrt(bends[1]) * (told[1] @ rows)
    rows *= np.sqrt(bends @ told)[:, None]
    feature_weight = 2 * weights["search_features"][block] * scale
    gradient = gradient + feature_weight * ((point - wanted.point) @ lift)
    return Quadratic.made(gradient, rows, less, weights[f"lift_square_{block}"], feature_weight * scale)


def improve(
    damage: Quadratic, symbols: NDArray[np.int64], low: Ints, high: Ints, prices: Floats, rows: NDArray[np.integer]
) -> None:
    """Move `symbols` (d), in place, to where damage and the price of their bits are least, between `low` and `high`
    (d). prices (table rows,alphabet): nats that a symbol takes; rows (d): which row each latent is coded by."""
    gradient, half = damage.gradient, damage.half
    alphabet = prices.shape[1]
    base = rows.astype(np.int64) * alphabet
    flat = prices.ravel()
    offers = np.empty((3, len(symbols)), np.int64)
    for _ in range(MOST_PASSES):
        np.subtract(symbols, 1, out=offers[0])
        np.add(symbols, 1, out=offers[1])
        offers[2] = alphabet // 2
        np.maximum(offers, low, out=offers)
        np.minimum(offers, high, out=offers)
        moved = (offers - symbols).astype(np.float32)
        cost = half * moved
        cost += gradient
        cost *= moved
        cost += flat.take(offers + base)
        cost -= flat.take(symbols + base)
        best = cost.min(axis=0)
        chosen = np.flatnonzero(best < -LEAST_GAIN)
        if not len(chosen):
            return
        kind = cost[:, chosen].argmin(axis=0)
        gains, leaps = best[chosen], moved[kind, chosen]
        while True:
            steps = np.zeros(len(symbols), np.float32)
            steps[chosen] = leaps
            bent = damage.bend(steps)
            total = gains.sum() + steps @ (bent / 2 - half * steps)
            if len(chosen) == 1 or total < gains.min():
                break
            kept = np.argsort(gains)[: (len(chosen) + 1) // 2]
            chosen, gains, leaps = chosen[kept], gains[kept], leaps[kept]
        gradient = gradient + bent
        symbols[chosen] += leaps.astype(np.int64)


def search(
    reader: ImageReader,
    code: ImageCode,
    block: int,
    wanted: Wanted,
    means: Ints,
    rows: Ints,
    step: int,
    nats: float,
) -> None:
    """Set the last latent group of `code` to the best whole steps about `means` (d), coded by table rows `rows` (d),
    where a bit is worth `nats`."""
    prices = (nats * reader.stream.tables["latents"].bits).astype(np.float32)
    half = prices.shape[1] // 2
    symbols = ((code.latents[block] - means) // step + half).astype(np.int64)
    low = np.maximum(-(-(-LATENT_BOUND - means) // step) + half, 0)
    high = np.minimum((LATENT_BOUND - means) // step + half, 2 * half)
    improve(damage(reader, code, block, wanted, step), symbols, low, high, prices, rows)
    code.latents[block] = ((symbols - half) * step + means).astype(np.int32)
