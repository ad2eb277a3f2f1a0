"""Which whole numbers a whole image's latents become: those with the least bits and damage to the reading together.

Damage is the divergence of the posterior that will be read from the trunk's own, and the distance of the features;
around the rounded latents both are quadratic (the divergence's curvature is the Fisher information of the posterior),
so the search is a descent in whole numbers on a small matrix. Every pass finds each latent's best move and makes as
many of the best ones at once as still gain together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.image_stream import EVIDENCE_FLOOR, ImageCode
from semhier_ros.codec.latent_groups import LATENT_BOUND, UNIT, Ints
from semhier_ros.perception.image_reader import ImageReader, softmax
from semhier_ros.taxonomy import Taxonomy

Floats = NDArray[np.float32]
MOST_PASSES = 60
LEAST_GAIN = 2e-4  # nats
FAINT = 3e-4  # a leaf less likely than this does not bend the divergence


def evidence_of(logits: Floats, tree: Taxonomy) -> Floats:
    """What the encoder tells beside the features' directions, for leaf logits (C): log-probabilities of the coarsest
    nodes about their mean; the log-odds of the likeliest node of every level; square roots of the nodes' probabilities
    at every level but the leaves' (equal steps of a root do about equal damage, however likely the node)."""
    chances = softmax(logits)
    nodes = [tree.lift(chances, level) for level in range(tree.depth)]
    coarse = np.log(nodes[0] + EVIDENCE_FLOOR)
    best = np.clip([own.max() for own in nodes], EVIDENCE_FLOOR, 1 - EVIDENCE_FLOOR)
    roots = [np.sqrt(own) for own in nodes[:-1]]
    return np.concatenate([coarse - coarse.mean(), np.log(best / (1 - best)), *roots]).astype(np.float32)


class Wanted:
    """What the trunk says of a picture, as the search compares readings with it.

    chances: per temperature (as it is, and sharpened by `sharp`) and level, the nodes' probabilities. point: where the
    picture lies in the codec's space (K).
    """

    def __init__(self, logits: Floats, point: Floats, tree: Taxonomy, sharp: float):
        self.point = point
        self.temperatures = (1.0, sharp)
        leaves = [softmax(logits, temperature).astype(np.float32) for temperature in self.temperatures]
        self.chances = [
            [own if k == tree.depth - 1 else tree.lift(own, k) for k in range(tree.depth)] for own in leaves
        ]


class Damage:
    """What moving the last latent group of a code by whole steps does to the reading, as a quadratic.

    gradient (d) and curvature (d,d): in nats.
    """

    def __init__(self, reader: ImageReader, code: ImageCode, block: int, wanted: Wanted, step: int):
        weights, tree = reader.weights, reader.tree
        scale = np.float32(step / UNIT)
        size = len(code.latents[block])
        logits, linear, hidden, factor = reader.linear_and_hidden(code, block)
        awake = weights[f"hidden_{block}.weight"][:, -size:] * (hidden > 0)[:, None]
        louder = weights[f"sharpen_{block}"] @ awake
        answer, move = weights[f"answer_{block}.weight"], weights[f"move_{block}"]
        last = tree.depth - 1
        _, sharp_share, leaf_share = (float(value) for value in weights["search_shares"])
        levels = [(block, 1.0), (last, leaf_share)] if block < last else [(last, 1.0)]
        told = [softmax(logits, temperature).astype(np.float32) for temperature in wanted.temperatures]
        heard = np.flatnonzero(told[0] > FAINT) if block >= last else slice(None)
        moves = np.float32(factor) * (move[heard] + linear[heard, None] * louder) + answer[heard] @ awake
        pull = np.zeros(len(logits), np.float32)
        bends = []
        for temperature, own, target, weight in zip(
            wanted.temperatures, told, wanted.chances, (1.0, sharp_share), strict=True
        ):
            for level, share in levels:
                if level < last:
                    mass = np.maximum(tree.lift(own, level), 1e-12)
                    pull += (
                        np.float32(weight * share / temperature) * own * (1 - (target[level] / mass)[tree.owner(level)])
                    )
                    deviations = tree.lift((moves * own[:, None]).T, level).T / mass[:, None]
                else:
                    pull += np.float32(weight * share / temperature) * (own - target[last])
                    mass, deviations = own[heard] / own[heard].sum(), moves
                bend = deviations - mass @ deviations
                bends.append(bend * np.sqrt(np.float32(weight * share / temperature**2) * mass)[:, None])
        gradient = factor * (pull @ move + float(pull @ linear) * louder) + (pull @ answer) @ awake
        bent = np.concatenate(bends)
        curvature = bent.T @ bent
        feature_weight = 2 * float(weights["search_features"][block])
        lift = weights[f"lift_{block}"][:, -size:]
        gradient = gradient + feature_weight * ((reader.point(code, block) - wanted.point) @ lift)
        curvature += np.float32(feature_weight) * weights[f"lift_square_{block}"]
        self.gradient: Floats = (gradient * scale).astype(np.float32)
        self.curvature: Floats = curvature * scale**2


def improve(damage: Damage, symbols: NDArray[np.int64], low: Ints, high: Ints, bits: NDArray[np.float64]) -> None:
    """Move `symbols` (d), in place, to where damage and the price of their bits (d,alphabet; nats) are least, between
    `low` and `high` (d)."""
    gradient, curvature = damage.gradient, damage.curvature
    half = bits.shape[1] // 2
    own = np.diag(curvature) / 2
    number = np.arange(len(symbols))
    for _ in range(MOST_PASSES):
        offers = np.stack([symbols - 1, symbols + 1, np.full(len(symbols), half)])
        offers = np.where((offers >= low) & (offers <= high), offers, symbols)
        moved = offers - symbols
        price = bits[number, symbols]
        cost = gradient * moved + own * moved**2 + bits[number, offers] - price
        kind = cost.argmin(axis=0)
        best = cost[kind, number]
        order = np.argsort(best)
        count = int((best < -LEAST_GAIN).sum())
        if not count:
            return
        while True:
            chosen = order[:count]
            step = moved[kind[chosen], chosen].astype(np.float32)
            bent = curvature[:, chosen] @ step
            total = best[chosen].sum() + (step @ bent[chosen] - 2 * (own[chosen] @ step**2)) / 2
            if count == 1 or total < best[order[0]]:
                break
            count = (count + 1) // 2
        gradient = gradient + bent
        symbols[chosen] += moved[kind[chosen], chosen]


def search(
    reader: ImageReader,
    code: ImageCode,
    block: int,
    wanted: Wanted,
    means: Ints,
    bits: NDArray[np.float64],
    step: int,
    nats: float,
) -> None:
    """Set the last latent group of `code` to the best whole steps about `means` where a bit is worth `nats`; `bits`
    (d,alphabet) is what each symbol takes."""
    half = bits.shape[1] // 2
    symbols = ((code.latents[block] - means) // step + half).astype(np.int64)
    low, high = -(-(-LATENT_BOUND - means) // step) + half, (LATENT_BOUND - means) // step + half
    low, high = np.maximum(low, 0), np.minimum(high, 2 * half)
    improve(Damage(reader, code, block, wanted, step), symbols, low, high, nats * bits)
    code.latents[block] = ((symbols - half) * step + means).astype(np.int32)
