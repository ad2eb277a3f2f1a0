"""A whole-image model's picture blocks alone: the same networks and bytes without any meaning before them.

The control of what levels of meaning are worth to pictures. Its folder is best one that was trained so, for rate and
distortion of every prefix of channels (nested dropout of channel groups, after Rippel, Gelbart, Adams, "Learning
Ordered Representations with Nested Dropout", arXiv 1402.0915) and painted with nothing told of meaning: `semhier train
road picture --untold` (docs/training.md). Any other whole-image folder is read in the same way.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from semhier_ros.api import Codec
from semhier_ros.codec.packet import Block, Packet
from semhier_ros.lab.baselines.still import Picture, StillCodec
from semhier_ros.whole_image.stream import ImageCode


class PictureBlocksAlone(StillCodec):
    """The picture blocks of the whole-image model in `folder` (or of that name). quality: how many of them, 1 and up.

    A file is a packet of these blocks, as a sender would make it. The model's view has one size, so there is one scale,
    and a picture of another shape is squeezed into it.

    Raises:
        ValueError: the folder is not whole (ModelError), of a model of scenes, or without picture blocks.
        FileNotFoundError: there is no such folder.
    """

    scales = (1.0,)
    header = "what a packet adds to its blocks: first block, stream, frame, lengths, checksum"

    def __init__(self, folder: str):
        codec = Codec.load(folder, "cpu", threads=1)
        if not codec.whole_image:
            raise ValueError(f"control: {folder} is a model of scenes; a folder of whole images is wanted")
        model: Any = codec.model
        self._model, self._stream = model, model.stream
        groups = len(self._stream.layout.picture_groups)
        if not groups:
            raise ValueError(f"control: {folder} has no picture blocks")
        self._tag, self._first = codec.stream_tag, codec.semantic_blocks
        self.name = f"control:{folder}"
        self.qualities = tuple(range(1, groups + 1))

    def encode(self, picture: Picture, quality: float) -> bytes:
        """Raises ValueError for a number of blocks that the model does not have."""
        if quality not in self.qualities:
            raise ValueError(f"quality: {quality} is not one of {', '.join(map(str, self.qualities))}")
        side = self._stream.layout.side
        if picture.shape[:2] != (side, side):
            picture = np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
        code = ImageCode(self._stream.layout.quality)
        self._stream.pictures.quantise_all(self._model.backend.analyse(picture), code.picture, int(quality))
        indices = range(self._first, self._first + int(quality))
        return Packet.pack([Block(self._tag, 0, index, self._stream.encode(index, code)) for index in indices])

    def decode(self, data: bytes) -> Picture:
        """The model's view (side,side,3). Raises ValueError for bytes that no encoder of this model made."""
        blocks = self._blocks(data)
        code = ImageCode(self._stream.layout.quality)
        for block in blocks:
            code = self._stream.decode(block.index, block.data, code)
        grid = self._stream.layout.grid
        latents, present = self._stream.pictures.synthesis_inputs(code.picture, grid)
        planes = self._model.folder.heads["meaning_basis"].shape[1]
        shown = self._model.backend.synthesise(latents, present, np.zeros((planes, *grid), np.float32))
        return np.asarray(shown, np.uint8)

    def header_bytes(self, data: bytes) -> int:
        return len(data) - sum(len(block.data) for block in self._blocks(data))

    def _blocks(self, data: bytes) -> tuple[Block, ...]:
        """The picture blocks in a packet, the first of them first. Raises ValueError where they are others."""
        packet = Packet.parse(data)
        first, count = packet.blocks[0].index, len(packet.blocks)
        if packet.stream != self._tag or packet.piece or first != self._first or count > len(self.qualities):
            raise ValueError(
                f"control: {count} blocks from {first} of stream {packet.stream:04x} are not of {self.name}"
            )
        return packet.blocks
