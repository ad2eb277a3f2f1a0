"""`answer`: the encoder's own object list, sent as it is: what a robot that trusts its detector would send.

One packet a frame, over the ends and the measured link of our blocks: envelopes, reports, rate, advice, and the repeats
of our coarse block. It carries no latents, no calibrated reading and no picture.

`AnswerCoder` codes the same whole numbers as stand in the blocks of a scene, with the model's own integer tables:
number of objects, cells, sizes, offsets and scores as in block 0 (without foot bits, of which a bare answer makes
nothing), then the names of all objects level by level given their parents. All is one run of the range coder, so
nothing is lost to block ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semhier_ros.api import Codec
from semhier_ros.codec.canvas import Canvas
from semhier_ros.codec.entropy import BlockDecoder, BlockEncoder, BlockError
from semhier_ros.codec.model import PictureFlow
from semhier_ros.codec.packet import Block, PacketError
from semhier_ros.codec.reading import Detection, Reading
from semhier_ros.lab.replay.base import Camera, Costs
from semhier_ros.lab.replay.blocks import BlockStream, StoredMaker
from semhier_ros.lab.replay.reader import Reader
from semhier_ros.scene.budget import Motion, importance
from semhier_ros.scene.layout import SceneCode, restore_boxes
from semhier_ros.scene.objects import Objects, code_objects

NAME = "answer"


class AnswerCoder:
    """Codes the objects of a scene model, and is what a decoding end asks of a codec. Raises ValueError for a model of
    another kind."""

    name, semantic_blocks, whole_image = NAME, 1, False
    block_names: tuple[str, ...] = (NAME,)

    def __init__(self, codec: Codec) -> None:
        model: Any = codec.model
        if not hasattr(model, "stream") or not hasattr(model.stream, "layout"):
            raise ValueError(f"model: {codec.name} codes no scenes, so it has no object list to send")
        self._model, self._stream = model, model.folder.stream
        self.stream_tag, self.stream_hash, self.model_hash = codec.stream_tag, codec.stream_hash, codec.model_hash
        self.levels = codec.levels
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

    def encode_objects(self, objects: Objects, max_bytes: int | None, moved: NDArray[np.float64] | None) -> bytes:
        """The answer of these objects; where it takes more than `max_bytes`, the longest list of the most important
        ones that does not, of one at least. moved: how much each moved (`Motion.update`)."""
        code = code_objects(self._stream, self._model.folder.projection, objects, self._stream.levels)
        data = self.encode_code(code)
        if max_bytes is None or len(data) <= max_bytes:
            return data
        order = np.argsort(-importance(self._stream.layout, objects, moved), kind="stable")
        data = b""
        for count in range(1, len(order) + 1):
            longer = self.encode_code(code.take(np.isin(np.arange(len(order)), order[:count])))
            if data and len(longer) > max_bytes:
                break
            data = longer
        return data

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

    def decoder(
        self, image_size: tuple[int, int], keep_frames: int, follow: bool = False, pictures_later: bool = False
    ) -> _Decoder:
        """What a decoding end reads one camera's answers with."""
        return _Decoder(self, image_size)

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


class _Maker(StoredMaker):
    """`BlocksMaker` of object lists as blocks 0 of frames that have no other; where the link is too small for all
    objects, the least important ones stay behind."""

    def __init__(self, reader: Reader, coder: AnswerCoder, camera: Camera) -> None:
        super().__init__(reader, camera)
        self.name, self.block_names, self.semantic_blocks, self.levels = NAME, (NAME,), 1, 1
        self._coder = coder

    def _whole(self, number: int, frame: int, flow: PictureFlow | None) -> Iterator[Block]:
        return self._pared(number, frame, None, None, flow)

    def _pared(
        self, number: int, frame: int, max_bytes: int | None, before: int | None, flow: PictureFlow | None
    ) -> Iterator[Block]:
        reader = self._reader
        data = self._coder.encode(reader.encoded(self._camera, number).blocks[: reader.levels])
        if max_bytes is not None and len(data) > max_bytes:
            data = self._coder.encode_objects(self._objects(number), max_bytes, self._objects.moved(number, before))
        yield Block(reader.codec.stream_tag, frame, 0, data)


class _LiveMaker(_Maker):
    """The same, of which nothing is remembered: the detector looks at each picture when it is its turn."""

    def __init__(self, reader: Reader, coder: AnswerCoder, camera: Camera) -> None:
        super().__init__(reader, coder, camera)
        self._moving = Motion()

    def _pared(
        self, number: int, frame: int, max_bytes: int | None, before: int | None, flow: PictureFlow | None
    ) -> Iterator[Block]:
        codec: Any = self._reader.codec
        objects = codec.model.find(self._camera.image(number))
        data = self._coder.encode_objects(objects, max_bytes, self._moving.update(objects.boxes))
        yield Block(codec.stream_tag, frame, 0, data)


class _Decoder:
    """Object lists to readings of the last level; a repeat is not fresh."""

    def __init__(self, coder: AnswerCoder, size: tuple[int, int]) -> None:
        self._coder, self._size = coder, size
        self._seen: dict[int, None] = {}
        self.counters: Counter[str] = Counter()

    def push(self, block: Block, stamp_ns: int | None = None) -> Reading:
        if block.index != 0:
            raise PacketError(f"block: index {block.index}, an answer has only block 0")
        fresh = block.frame not in self._seen
        self._seen[block.frame] = None
        if len(self._seen) > 64:
            del self._seen[next(iter(self._seen))]
        last = self._coder.levels - 1
        return Reading(block.frame, last, last, self._coder.read(block.data, self._size), len(block.data), fresh)

    def readable(self, blocks: Sequence[Block]) -> bool:
        """As `api.Decoder.readable`."""
        try:
            return all(self._coder.read(block.data, self._size) is not None for block in blocks)
        except PacketError:
            return False

    def foresee(self, block: Block, stamp_ns: int | None = None) -> None:
        """Nothing is gained by reading the lists of several cameras together."""

    def picture_work(self, frame: int) -> None:
        """No picture is sent."""


class AnswerStream(BlockStream):
    """The bare answer as a stream."""

    name = NAME
    setting = "object lists: box, score and name of every object, entropy-coded by the model's own tables"
    """What is sent, in words."""

    def __init__(self, reader: Reader, costs: Costs, *, max_rate: float = 0.0) -> None:
        super().__init__(reader, costs, AnswerCoder(reader.codec), max_rate)

    def maker(self, camera: Camera, radio: bool = False) -> _Maker:
        """What turns a camera's frames, by number, into answers."""
        return _Maker(self.reader, self.codec, camera)

    def live_maker(self, camera: Camera) -> _Maker:
        """The same by a detector that looks at each frame, in the time that this takes."""
        return _LiveMaker(self.reader, self.codec, camera)
