"""Which whole numbers a whole image's latents become: those with the least bits and damage to the reading together.

Damage is the divergence of the posterior that will be read from the trunk's own, and the distance of the features;
around the rounded latents both are quadratic (the divergence's curvature is the Fisher information of the posterior),
so the search is a descent in whole numbers on a small matrix. Every pass finds each latent's best move and makes as
many of the best ones at once as still gain together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.image_backend import TrunkOutput
from semhier_ros.codec.image_stream import EVIDENCE_FLOOR, ImageCode
from semhier_ros.codec.latent_groups import LATENT_BOUND, UNIT, Ints
from semhier_ros.perception.image_reader import ImageReader, softmax
from semhier_ros.taxonomy import Taxonomy

Floats = NDArray[np.float32]
MOST_PASSES = 60
LEAST_GAIN = 1e-5  # nats
FAINT = 1e-4  # a leaf less likely than this does not bend the divergence


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


class Damage:
    """What moving the last latent group of a code by whole steps does to the reading, as a quadratic.

    gradient (d) and curvature (d,d): in nats.
    """

    def __init__(self, reader: ImageReader, code: ImageCode, block: int, seen: TrunkOutput, point: Floats, step: int):
        weights, tree = reader.weights, reader.tree
        scale = np.float32(step / UNIT)
        size = len(code.latents[block])
        logits, linear, hidden, factor = reader.linear_and_hidden(code, block)
        awake = weights[f"hidden_{block}.weight"][:, -size:] * (hidden > 0)[:, None]
        louder = weights[f"sharpen_{block}"] @ awake
        answer, move = weights[f"answer_{block}.weight"], weights[f"move_{block}"]
        last = tree.depth - 1
        sharp, sharp_share, leaf_share = (float(value) for value in weights["search_shares"])
        levels = [(block, 1.0), (last, leaf_share)] if block < last else [(last, 1.0)]
        told = softmax(logits)
        heard = np.flatnonzero(told > (FAINT if block >= last else -1))
        moves = np.float32(factor) * (move[heard] + np.outer(linear[heard], louder)) + answer[heard] @ awake
        pull = np.zeros(len(told))
        bends = []
        for temperature, weight in ((1.0, 1.0), (sharp, sharp_share)):
            target = softmax(seen.logits, temperature)
            own = told if temperature == 1.0 else softmax(logits, temperature)
            for level, share in levels:
                if level < last:
                    owner = np.asarray(tree.owner(level))
                    mass, wanted = tree.lift(own, level), tree.lift(target, level)
                    pull += weight * share / temperature * own * (1 - (wanted / np.maximum(mass, 1e-12))[owner])
                    deviations = tree.lift((moves * own[:, None]).T, level).T / np.maximum(mass, 1e-12)[:, None]
                else:
                    pull += weight * share / temperature * (own - target)
                    mass, deviations = own[heard] / own[heard].sum(), moves
                bend = deviations - mass @ deviations
                bends.append((bend * np.sqrt(weight * share / temperature**2 * mass)[:, None]).astype(np.float32))
        slope = pull.astype(np.float32)
        gradient = factor * (slope @ move + float(slope @ linear) * louder) + (slope @ answer) @ awake
        bent = np.concatenate(bends)
        curvature = bent.T @ bent
        feature_weight = 2 * float(weights["search_features"][block])
        lift = weights[f"lift_{block}"][:, -size:]
        gradient = gradient + feature_weight * ((reader.point(code, block) - point) @ lift)
        curvature += np.float32(feature_weight) * weights[f"lift_square_{block}"]
        self.gradient: NDArray[np.float64] = (gradient * scale).astype(np.float64)
        self.curvature: NDArray[np.float64] = (curvature * scale**2).astype(np.float64)


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
            step = moved[kind[chosen], chosen].astype(np.float64)
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
    seen: TrunkOutput,
    point: Floats,
    means: Ints,
    bits: NDArray[np.float64],
    step: int,
    nats: float,
) -> None:
    """Set the last latent group of `code` to the best whole steps about `means` where a bit is worth `nats`; `bits`
    (d,alphabet) is what each symbol takes; point: where the picture lies in the codec's space."""
    half = bits.shape[1] // 2
    symbols = ((code.latents[block] - means) // step + half).astype(np.int64)
    low, high = -(-(-LATENT_BOUND - means) // step) + half, (LATENT_BOUND - means) // step + half
    low, high = np.maximum(low, 0), np.minimum(high, 2 * half)
    improve(Damage(reader, code, block, seen, point, step), symbols, low, high, nats * bits)
    code.latents[block] = ((symbols - half) * step + means).astype(np.int32)
