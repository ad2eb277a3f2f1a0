"""`answer`: the encoder's own object list, entropy-coded: what a robot sends that trusts its detector and says no more.

The same whole numbers as in the blocks of a scene, coded with the model's own integer tables: number of objects, cells,
sizes, offsets and scores as in block 0, then the names of all objects level by level given their parents, as in
the level blocks; no latents. All in one run of the range coder, so nothing is lost to block ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from semhier_ros.api import Codec
from semhier_ros.codec.canvas import Canvas
from semhier_ros.codec.entropy import BlockDecoder, BlockEncoder, BlockError
from semhier_ros.codec.reading import Detection
from semhier_ros.scene.layout import SceneCode, restore_boxes


class AnswerCoder:
    """Codes the objects of a scene model. Raises ValueError for a model of another kind."""

    def __init__(self, codec: Codec) -> None:
        model: Any = codec.model
        if not hasattr(model, "stream") or not hasattr(model.stream, "layout"):
            raise ValueError(f"model: {codec.name} codes no scenes, so it has no object list to send")
        self._model, self._stream = model, model.stream
        self._names = [codec.taxonomy.names(level) for level in range(codec.levels)]
        edges = np.array([0.0, *self._stream.layout.score_edges, 1.0])
        self._scores = (edges[:-1] + edges[1:]) / 2

    def encode(self, blocks: Sequence[bytes]) -> bytes:
        """The answer that a frame's level blocks imply: the bytes of its boxes, scores and names."""
        code = None
        for index, data in enumerate(blocks[: self._stream.levels]):
            code = self._model.decode(index, data, code)
        if code is None:
            raise ValueError("blocks: none, at least block 0 expected")
        return self.encode_code(code)

    def encode_code(self, code: SceneCode) -> bytes:
        """The same from the scene's code, which names every level that is to be sent."""
        stream = self._stream
        encoder = BlockEncoder()
        stream._put_objects(encoder, code)
        if len(code):
            told = code.extended()
            for level in range(1, min(stream.levels, len(code.path))):
                parents = told.path[level - 1]
                first = np.array([stream.layout.children(level, int(parent))[0] for parent in parents], np.int32)
                unnamed = told.path[level] < 0
                told.path[level] = np.where(unnamed, first, told.path[level]).astype(np.int32)
                table = stream.tables[f"name_{level}"]
                encoder.put(stream.name_symbols(level, told), table, stream.name_rows(level, told))
        return encoder.finish()

    def read(self, data: bytes, size: tuple[int, int], levels: int | None = None) -> tuple[Detection, ...]:
        """The detections in an answer that names `levels` levels (None: all), boxes in a picture of `size`.

        Raises:
            BlockError: no encoder made these bytes.
        """
        stream = self._stream
        decoder = BlockDecoder(data)
        code = stream._get_objects(decoder)
        for level in range(1, stream.levels if levels is None else levels) if len(code) else ():
            symbols = decoder.get(stream.tables[f"name_{level}"], stream.name_rows(level, code))
            names = np.zeros(len(code), np.int32)
            for parent in np.unique(code.path[level - 1]):
                below = code.path[level - 1] == parent
                children = stream.layout.children(level, int(parent))
                if int(symbols[below].max()) >= len(children):
                    raise BlockError(f"answer: child {int(symbols[below].max())} of a node with {len(children)}")
                names[below] = children[symbols[below]]
            code.path.append(names)
        decoder.finish()
        return self._detections(code, size)

    def _detections(self, code: SceneCode, size: tuple[int, int]) -> tuple[Detection, ...]:
        if not len(code):
            return ()
        layout = self._stream.layout
        boxes = restore_boxes(layout, code.cells, code.sizes, code.offsets)
        corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
        width, height = self._model.view_size
        placed = Canvas(width, height, source=size).to_source((corners * layout.stride).astype(np.float32))
        paths = np.stack(code.path, axis=1)
        return tuple(
            Detection(
                number,
                (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
                tuple(int(node) for node in path),
                tuple(self._names[level][node] for level, node in enumerate(path)),
                (float(self._scores[score]),) * len(path),
            )
            for number, (box, path, score) in enumerate(zip(placed, paths, code.scores, strict=True))
        )
