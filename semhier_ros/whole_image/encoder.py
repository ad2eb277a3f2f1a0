"""Encoder side of a whole image: the path to name, then the latents chosen for what will be read from them.

Bytes are spent evenly: in a picture whose latents would take more bits than usual a bit must save more, so that a slot
of the link holds most pictures, of kinds that training did not show too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.latent_groups import UNIT, quantise, steps_of
from semhier_ros.whole_image.backend import TrunkOutput
from semhier_ros.whole_image.reader import ImageReader
from semhier_ros.whole_image.search import Wanted, search
from semhier_ros.whole_image.stream import ImageCode

Floats = NDArray[np.float32]
DEAREST = 2.0  # times its usual worth, at most, that a bit costs (and at least the inverse)


def code_image(reader: ImageReader, seen: TrunkOutput, quality: int, blocks: int) -> ImageCode:
    """The code of what the trunk saw as deep as semantic block `blocks - 1`: path and quantised latent groups."""
    return _code(reader, seen, quality, blocks)[0]


def rounded_bits(reader: ImageReader, seen: TrunkOutput, quality: int, blocks: int) -> list[float]:
    """What each block's latents would take in bits if they were only rounded: the reader's `search_usual` is a mean of
    these."""
    return _code(reader, seen, quality, blocks)[1]


def _code(reader: ImageReader, seen: TrunkOutput, quality: int, blocks: int) -> tuple[ImageCode, list[float]]:
    stream, weights = reader.stream, reader.weights
    code = ImageCode(quality)
    path = reader.tree.path(int(seen.logits.argmax()))
    point = weights["enter"] @ (seen.features - weights["feature_mean"])
    aim = Wanted(seen.logits, point, reader.tree, float(weights["search_shares"][0]))
    wanted = weights["project"] @ point + weights["project_evidence"] @ aim.evidence()
    tables = stream.tables["latents"]
    start, rounded = 0, []
    for block in range(blocks):
        if block < stream.levels:
            code.path.append(int(path[block]))
        size = stream.layout.latents[block]
        means, rows = stream.latent_parameters(block, code)
        step = stream.layout.steps[quality][block]
        code.latents.append(quantise(wanted[start : start + size], means, tables.alphabet // 2, step))
        rounded.append(float(tables.bits[rows, steps_of(code.latents[block], means, tables, step)].sum()))
        nats = float(weights["search_nats"][block])
        if nats > 0:
            unusual = rounded[block] / float(weights["search_usual"][quality, block])
            dearer = min(max(unusual, 1 / DEAREST), DEAREST) ** float(weights["search_even"][block])
            search(reader, code, block, aim, means, rows, step, nats * dearer * (step / UNIT) ** 2)
        start += size
    return code, rounded
