"""Encoder side of a whole image: the path to name, the latents chosen for what will be read from them, the picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.image_backend import TrunkOutput
from semhier_ros.codec.image_stream import ImageCode
from semhier_ros.codec.latent_groups import UNIT, quantise
from semhier_ros.kinds.meaning_search import Wanted, search
from semhier_ros.perception.image_reader import ImageReader

Floats = NDArray[np.float32]


def code_image(reader: ImageReader, seen: TrunkOutput, quality: int, blocks: int) -> ImageCode:
    """The code of what the trunk saw as deep as semantic block `blocks - 1`: path and quantised latent groups."""
    stream, weights = reader.stream, reader.weights
    code = ImageCode(quality)
    path = reader.tree.path(int(seen.logits.argmax()))
    away = seen.features - weights["feature_mean"]
    aim = Wanted(seen.logits, weights["enter"] @ away, reader.tree, float(weights["search_shares"][0]))
    wanted = weights["project"] @ away + weights["project_evidence"] @ aim.evidence()
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
            search(reader, code, block, aim, means, rows, step, nats * (step / UNIT) ** 2)
        start += size
    return code
