"""Reference codecs that send what the trunk found, not the picture: `answer`, `projection` and `name_first`, untrained.

All are real codecs: tables of integers, the project's own range coder, bytes that are decoded again.

- `answer`: the class, as the level blocks name it, and how sure the trunk is of it.
- `projection`: principal directions of the logits, uniformly quantised, an entropy table per direction.
- `name_first`: the class, then the principal directions of what its mean leaves of the logits, quantised likewise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from semhier_ros.codec.entropy import BlockDecoder, BlockEncoder, Tables
from semhier_ros.whole_image.backend import TrunkOutput
from semhier_ros.whole_image.reader import ImageReader, softmax

Floats = NDArray[np.float32]
STEPS = (4.0, 2.8, 2.0, 1.4, 1.0, 0.7, 0.5, 0.35, 0.25)
"""Quantiser steps, in standard deviations of the strongest direction, that make a curve."""
CONFIDENCES = 8
HALF = 63


class Received(NamedTuple):
    """What arrives: payload bytes, the features (F) and leaf logits (C) read from them."""

    payload_bytes: int
    features: Floats
    logits: Floats


class Answer:
    """The class and, in eight steps, how sure the trunk is; the reading is that class's mean, sharpened to fit."""

    name = "answer"
    steps = (1.0,)

    def __init__(self, reader: ImageReader, reference: Mapping[str, Floats]):
        self.reader, self.reference = reader, reference
        self._sure = Tables.from_counts(np.ones((1, CONFIDENCES)))

    def send(self, seen: TrunkOutput, step: float) -> Received:
        path = self.reader.tree.path(int(seen.logits.argmax()))
        chance = float(softmax(seen.logits).max())
        encoder = BlockEncoder()
        _put_path(encoder, self.reader, path)
        encoder.put(np.array([min(CONFIDENCES - 1, int(chance * CONFIDENCES))], np.int32), self._sure, 0)
        data = encoder.finish()
        decoder = BlockDecoder(data)
        leaf = _get_path(decoder, self.reader)
        sure = (int(decoder.get(self._sure, 0)[0]) + 0.5) / CONFIDENCES
        decoder.finish()
        features, logits = _read(self.reference, self.reference["centres"][leaf])
        others = np.delete(logits, leaf)
        logits[leaf] = np.log(np.exp(others - others.max()).sum()) + others.max() + np.log(sure / (1 - sure))
        return Received(len(data), features, logits)


class Projected:
    """Principal directions, quantised with one step for all; `name_first` says whether the class goes first."""

    steps = STEPS

    def __init__(self, reader: ImageReader, reference: Mapping[str, Floats], name_first: bool):
        self.reader, self.reference, self.first = reader, reference, name_first
        self.name = "name_first" if name_first else "projection"
        self.centres = reference["centres"]
        self.enter, self.leave = reference[f"{self.name}_enter"], reference[f"{self.name}_leave"]
        self.spread = reference[f"{self.name}_spread"]
        self._tables: dict[float, Tables] = {}

    def send(self, seen: TrunkOutput, step: float) -> Received:
        size = step * float(self.spread[0])
        if step not in self._tables:
            self._tables[step] = Tables.gaussian(np.maximum(self.spread / size, 0.05), HALF)
        tables = self._tables[step]
        point = self.reference["space_enter"] @ (seen.features - self.reference["mean"])
        leaf = int(seen.logits.argmax())
        encoder = BlockEncoder()
        if self.first:
            _put_path(encoder, self.reader, self.reader.tree.path(leaf))
            point = point - self.centres[leaf]
        symbols = np.clip(np.rint(self.enter @ point / size), -HALF, HALF).astype(np.int32) + HALF
        rows = np.arange(len(symbols))
        encoder.put(symbols, tables, rows)
        data = encoder.finish()
        decoder = BlockDecoder(data)
        centre = self.centres[_get_path(decoder, self.reader)] if self.first else 0.0
        known = (decoder.get(tables, rows) - HALF) * np.float32(size)
        decoder.finish()
        read = np.asarray(centre + self.leave @ known, np.float32)
        return Received(len(data), *_read(self.reference, read))


def _read(reference: Mapping[str, Floats], point: Floats) -> tuple[Floats, Floats]:
    """The features (F) and leaf logits (C) of a point of the reference's space."""
    features = reference["mean"] + point @ reference["space_leave"]
    return features, reference["rows"] @ point + reference["bias"]


def _put_path(encoder: BlockEncoder, reader: ImageReader, path: tuple[int, ...]) -> None:
    layout, tables = reader.stream.layout, reader.stream.tables
    for level, node in enumerate(path):
        parent = path[level - 1] if level else 0
        symbol = np.searchsorted(layout.children(level, parent), node)
        encoder.put(np.array([symbol], np.int32), tables[f"name_{level}"], parent)


def _get_path(decoder: BlockDecoder, reader: ImageReader) -> int:
    layout, tables = reader.stream.layout, reader.stream.tables
    node = 0
    for level in range(layout.levels):
        symbol = int(decoder.get(tables[f"name_{level}"], node)[0])
        node = int(layout.children(level, node)[symbol])
    return node


def vector_codecs(names: Sequence[str], model: Any) -> list[Answer | Projected]:
    """Those codecs of features that are among `names`, of a whole-image model with its reference.safetensors."""
    chosen = [name for name in names if name in VECTOR_NAMES]
    found: Any = load_file(model.path / "reference.safetensors") if chosen else {}
    given = model.reader, {name: values.astype(np.float32) for name, values in found.items()}
    return [Answer(*given) if name == "answer" else Projected(*given, name == "name_first") for name in chosen]


VECTOR_NAMES = ("answer", "projection", "name_first")
