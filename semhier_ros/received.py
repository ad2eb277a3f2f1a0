"""What a receiver that misses nothing knows of a picture after each of its blocks, without a link."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semhier_ros.api import Codec, Decoder
from semhier_ros.codec.packet import Block
from semhier_ros.codec.reading import Reading

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from semhier_ros.codec.model import EncodeChanges


class Received(NamedTuple):
    """One more `block` of a picture, and the `reading` after it, by a `decoder` that has what came so far."""

    block: Block
    reading: Reading
    decoder: Decoder

    def picture(self) -> NDArray[np.uint8] | None:
        """The picture as it is known now, None of a model that does not paint. Ask before the next block comes."""
        return self.decoder.picture(self.block.frame)


def received(codec: Codec, picture: NDArray[np.uint8], **asked: Unpack[EncodeChanges]) -> Iterator[Received]:
    """What is known after each block of a picture (H,W,3 uint8 RGB), whose boxes are in its pixels; `asked` of the
    encoder. Raises what `Codec.encode` raises."""
    return read_blocks(codec, codec.encode(picture, **asked), (picture.shape[1], picture.shape[0]))


def read_blocks(codec: Codec, blocks: Iterable[Block], size: tuple[int, int]) -> Iterator[Received]:
    """What is known after each of a frame's first `blocks`, whose boxes are in a picture of `size`."""
    decoder = codec.decoder(size)
    for block in blocks:
        reading = decoder.push(block)
        assert reading is not None
        yield Received(block, reading, decoder)
