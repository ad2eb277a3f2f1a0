"""Encoder side of a whole image: the path to name, and latents chosen for what the receiver will read from them.

A latent is not simply rounded: among whole numbers of steps the encoder takes those with the least cost in bits plus
damage to the reading. Damage is the divergence of the posterior read from the trunk's own, and the distance of the
features; around the rounded latents both are quadratic (the divergence's curvature is the Fisher information of the
posterior), so the search is a descent in whole numbers on a small matrix, the best single move first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.image_backend import TrunkOutput
from semhier_ros.codec.image_stream import EVIDENCE_FLOOR, ImageCode, ImageStream
from semhier_ros.codec.latent_groups import LATENT_BOUND, UNIT, Ints, quantise
from semhier_ros.perception.image_reader import ImageReader, softmax
from semhier_ros.taxonomy import Taxonomy

Floats = NDArray[np.float32]
MOST_MOVES = 200
LEAST_GAIN = 1e-6  # nats
LEAF_SHARE = 0.1  # weight of the leaves' divergence in blocks of a coarser level, as in training


def code_image(reader: ImageReader, seen: TrunkOutput, quality: int, blocks: int) -> ImageCode:
    """The code of what the trunk saw as deep as semantic block `blocks - 1`: path and quantised latent groups."""
    stream, weights = reader.stream, reader.weights
    code = ImageCode(quality)
    path = reader.tree.path(int(seen.logits.argmax()))
    wanted = weights["project"] @ (seen.features - weights["feature_mean"])
    wanted = wanted + weights["project_evidence"] @ evidence_of(seen.logits, reader.tree)
    point = weights["enter"] @ (seen.features - weights["feature_mean"])
    start = 0
    for block in range(blocks):
        if block < stream.levels:
            code.path.append(int(path[block]))
        size = stream.layout.latents[block]
        means, rows = stream.latent_parameters(block, code)
        tables = stream.tables["latents"]
        step = stream.layout.steps[quality][block]
        code.latents.append(quantise(wanted[start : start + size], means, tables.alphabet // 2, step))
        nats = float(weights["search_nats"][block])
        if nats > 0:
            bits = tables.bits[rows]
            _improve(reader, code, block, seen, point, means, bits, step, nats * (step / UNIT) ** 2)
        start += size
    return code


def _improve(
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
    """Move the last latent group of `code`, in whole steps, to where bits and damage together are least."""
    weights = reader.weights
    size = len(means)
    half = bits.shape[1] // 2
    latents = code.latents[block]
    symbols = ((latents - means) // step + half).astype(np.int64)
    logits, linear, hidden, factor = reader.linear_and_hidden(code, block)
    lift = weights[f"lift_{block}"][:, -size:] * np.float32(step / UNIT)
    awake = weights[f"hidden_{block}.weight"][:, -size:] * (hidden > 0)[:, None]
    move = factor * weights[f"move_{block}"] + weights[f"answer_{block}.weight"] @ awake
    move += factor * np.outer(linear, weights[f"sharpen_{block}"] @ awake)
    move *= np.float32(step / UNIT)
    sharp = float(weights["search_sharp"][0])
    gradient = np.zeros(size)
    curvature = np.zeros((size, size))
    last = reader.tree.depth - 1
    levels = [(block, 1.0), (last, LEAF_SHARE)] if block < last else [(last, 1.0)]
    for temperature in (1.0, sharp):
        target, told = softmax(seen.logits, temperature), softmax(logits, temperature).astype(np.float32)
        for level, share in levels:
            chances, moves = told, move
            if level < last:
                chances = reader.tree.lift(told, level)
                moves = reader.tree.lift((move * told[:, None]).T, level).T / np.maximum(chances, 1e-12)[:, None]
            pull = (chances - reader.tree.lift(target, level)) @ moves
            mean = chances @ moves
            spread = (moves * chances[:, None]).T @ moves - np.outer(mean, mean)
            gradient += share / temperature * pull
            curvature += share / temperature**2 * spread
    weight = float(weights["search_features"][block])
    gradient += 2 * weight * (lift.T @ (reader.point(code, block) - point))
    curvature += 2 * weight * weights[f"lift_square_{block}"] * (step / UNIT) ** 2
    low, high = -(-(-LATENT_BOUND - means) // step) + half, (LATENT_BOUND - means) // step + half
    low, high = np.maximum(low, 0), np.minimum(high, 2 * half)
    own = np.diag(curvature)
    number = np.arange(size)
    for _ in range(MOST_MOVES):
        offers = np.stack([symbols - 1, symbols + 1, np.full(size, half)])
        allowed = (offers >= low) & (offers <= high) & (offers != symbols)
        offers = np.where(allowed, offers, symbols)
        moved = offers - symbols
        cost = gradient * moved + 0.5 * own * moved**2 + nats * (bits[number, offers] - bits[number, symbols])
        best = int(cost.argmin())
        if cost.flat[best] >= -LEAST_GAIN:
            break
        kind, latent = divmod(best, size)
        gradient += curvature[:, latent] * moved[kind, latent]
        symbols[latent] = offers[kind, latent]
    code.latents[block] = ((symbols - half) * step + means).astype(np.int32)


def evidence_of(logits: Floats, tree: Taxonomy) -> Floats:
    """What the encoder tells beside the features' directions: log-probabilities of the coarsest nodes about their mean,
    then the log-odds of the likeliest node of every level, for leaf logits (C)."""
    chances = softmax(logits)
    nodes = [tree.lift(chances, level) for level in range(tree.depth)]
    coarse = np.log(nodes[0] + EVIDENCE_FLOOR)
    best = np.clip([own.max() for own in nodes], EVIDENCE_FLOOR, 1 - EVIDENCE_FLOOR)
    return np.concatenate([coarse - coarse.mean(), np.log(best / (1 - best))]).astype(np.float32)


def code_view(stream: ImageStream, latents: Floats, code: ImageCode, groups: int) -> None:
    """Quantise the first `groups` picture groups of `latents` (C,h,w) into `code`."""
    half = stream.tables["picture"].alphabet // 2
    start = 0
    for group in range(groups):
        channels = stream.layout.picture_groups[group]
        means, _ = stream.picture_parameters(group, code.picture)
        code.picture.append(quantise(latents[start : start + channels], means, half))
        start += channels
