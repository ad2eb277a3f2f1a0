"""`answer`: the encoder's own object list, sent as it is: what a robot that trusts its detector would send.

One packet a frame (`evaluation/answer.py` codes it), in the same kind of packets, under the same scheduler and with the
same repeats as our coarse block. It carries no latents, no calibrated reading and no picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from semhier_ros.codec.packet import Block, PacketError
from semhier_ros.codec.reading import Reading
from semhier_ros.lab.baselines.answer_coder import AnswerCoder
from semhier_ros.lab.replay.reader import Reader
from semhier_ros.lab.streams.base import Camera, Costs
from semhier_ros.lab.streams.blocks import BlockReceiver, BlockSender
from semhier_ros.link import LevelPolicy

NAME = "answer"


class _Source:
    """Object lists as blocks 0 of frames that have no other."""

    names: tuple[str, ...] = (NAME,)
    early, late_seconds = 1, 0.0

    def __init__(self, reader: Reader, coder: AnswerCoder, costs: Costs) -> None:
        self._reader, self._coder, self.early_seconds = reader, coder, costs.semantic
        self._made: dict[tuple[bytes, ...], bytes] = {}

    def made(self, camera: Camera, number: int, late: bool) -> Sequence[Block]:
        blocks = self._reader.encoded(camera, number).blocks[: self._reader.levels]
        data = self._made.get(blocks)
        if data is None:
            data = self._made[blocks] = self._coder.encode(blocks)
        return [Block(self._reader.codec.stream_tag, number & 0xFFFF, 0, data)]


class _Decoder:
    """Object lists to readings of the last level; a repeat is not fresh."""

    def __init__(self, reader: Reader, coder: AnswerCoder, size: tuple[int, int]) -> None:
        self._reader, self._coder, self._size = reader, coder, size
        self._seen: dict[int, None] = {}
        self._known: dict[bytes, Any] = {}

    def push(self, block: Block) -> Reading:
        if block.index != 0:
            raise PacketError(f"block: index {block.index}, an answer has only block 0")
        fresh = block.frame not in self._seen
        self._seen[block.frame] = None
        if len(self._seen) > 64:
            del self._seen[next(iter(self._seen))]
        found = self._known.get(block.data)
        if found is None:
            found = self._known[block.data] = self._coder.read(block.data, self._size)
        last = self._reader.levels - 1
        return Reading(block.frame, last, last, found, len(block.data), fresh)


class AnswerStream:
    """The bare answer as a stream."""

    name = NAME
    purposes = (NAME,)

    def __init__(self, reader: Reader, costs: Costs, *, max_rate: float = 0.0, repeats: int = 1) -> None:
        self._reader, self._costs, self._max_rate = reader, costs, max_rate
        self._coder = AnswerCoder(reader.codec)
        self._policies = (LevelPolicy(1.0, repeats, 1, superseded=False),)

    @property
    def setting(self) -> str:
        """What is sent, in words."""
        return "object lists: box, score and name of every object, entropy-coded by the model's own tables"

    def sender(self, cameras: Sequence[Camera], rate: float) -> BlockSender:
        """The robot's end."""
        source = _Source(self._reader, self._coder, self._costs)
        return BlockSender(cameras, source, self._policies, rate, max_rate=self._max_rate)

    def receiver(self, cameras: Sequence[Camera]) -> BlockReceiver:
        """The base's end."""
        decoders = [_Decoder(self._reader, self._coder, camera.size) for camera in cameras]
        return BlockReceiver(cameras, decoders, (NAME,), self._costs.read, self._reader.levels)
