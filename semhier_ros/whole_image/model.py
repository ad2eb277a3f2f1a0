"""Whole images: one answer for a picture's square view, named level by level, then the view itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.canvas import Lift
from semhier_ros.codec.graphs import PictureParts, synthesise_timed
from semhier_ros.codec.model import EncodeOptions, PictureRequest, PicturesFound, PictureWork, ReadingRequest, Spent
from semhier_ros.codec.packet import PacketError
from semhier_ros.codec.reading import Detection
from semhier_ros.whole_image.backend import ImageBackend
from semhier_ros.whole_image.encoder import code_image
from semhier_ros.whole_image.folder import ImageFolder
from semhier_ros.whole_image.reader import ImageReader
from semhier_ros.whole_image.stream import ImageCode
from semhier_ros.whole_image.view import SHARE, square_view

GREY = 127  # of what lies outside the view


def _placed(view: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """What is known of the middle of a source picture of `size` (width, height), where it lies."""
    width, height = size
    length = len(view)
    top, left = (height - length) // 2, (width - length) // 2
    whole = np.full((height, width, 3), GREY, np.uint8)
    whole[top : top + length, left : left + length] = view
    return whole


class WholeImageModel:
    """`codec.model.Model` of whole images."""

    whole_image = True
    paints = True

    def __init__(self, folder: ImageFolder, backend: ImageBackend):
        self.folder, self.backend, self.stream = folder, backend, folder.stream
        self.name, self.path = folder.name, folder.path
        self.stream_hash, self.model_hash = folder.stream_hash, folder.model_hash
        self.block_names = self.stream.block_names
        self.semantic_blocks = self.stream.semantic_blocks
        self.levels = self.stream.levels
        self.taxonomy = folder.taxonomy
        self.view_size = (self.stream.layout.side,) * 2
        self.reader = ImageReader(self.stream, self.taxonomy, folder.heads)

    def motion(self) -> None:
        return None

    def flow(self) -> None:
        return None

    def velocities(self, code: Any, motion: bytes, size: tuple[int, int]) -> NDArray[np.float64]:
        raise PacketError(f"motion: model {self.name} reads whole pictures, which hold no objects that move")

    def sender_memory(
        self, overlap: float | None = None, whole_every: float | None = None, radio: bool = False
    ) -> None:
        return None

    def receiver_memory(self) -> None:
        return None

    def alone(self, memory: object, frame: int) -> list[bytes]:
        return []

    def prepare_looks(self) -> None:
        """Nothing: all views are of one size."""

    def check(self, options: EncodeOptions) -> None:
        most = len(self.stream.layout.steps) - 1
        if options.quality is not None and not 0 <= options.quality <= most:
            raise ValueError(f"quality: {options.quality} is outside 0..{most}")
        if options.threshold is not None and not 0 < options.threshold < 1:
            raise ValueError(f"threshold: {options.threshold} is outside 0..1")
        if options.detected is not None:
            raise ValueError(f"detected: model {self.name} names whole images; it takes no objects")

    def encode(self, image: NDArray[np.uint8] | None, blocks: int, options: EncodeOptions) -> Iterator[bytes]:
        assert image is not None  # `check` has refused what stands in for a picture
        view = square_view(image, self.stream.layout.side)
        quality = self.stream.layout.quality if options.quality is None else options.quality
        code = code_image(self.reader, self.backend.classify(view), quality, min(blocks, self.semantic_blocks))
        for index in range(blocks):
            if index == self.semantic_blocks:
                latents = self.backend.analyse(view)
            if index >= self.semantic_blocks:
                self.stream.pictures.quantise_all(latents, code.picture, index - self.semantic_blocks + 1)
            yield self.stream.encode(index, code)

    def decode(self, index: int, data: bytes, code: ImageCode | None) -> ImageCode:
        return self.stream.decode(index, data, code)

    def read(self, code: ImageCode, prefix: int, size: tuple[int, int]) -> tuple[Detection, ...]:
        return self.reader.read(code, prefix, size)

    def read_many(self, requests: Sequence[ReadingRequest]) -> list[tuple[Detection, ...]]:
        return [self.read(*request) for request in requests]

    @property
    def batches(self) -> bool:
        """Whether pictures made together cost less than one after another."""
        return self.backend.batches

    def picture(self, code: ImageCode, prefix: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        return self.pictures([PictureRequest(code, prefix, size)])[0]

    def _lift(self, size: tuple[int, int]) -> Lift:
        """From a view to what it shows of a source picture of `size` (width, height)."""
        side, length = self.stream.layout.side, max(1, round(SHARE * min(size)))
        return Lift((side, side), (length, length))

    def decode_pictures(self, works: Sequence[PictureWork], spent: Spent) -> list[PicturesFound]:
        grid, arithmetic = self.stream.layout.grid, self.backend.arithmetic
        return self.stream.pictures.decode_together(works, self.semantic_blocks, grid, arithmetic, spent)

    def pictures(self, requests: Sequence[PictureRequest], spent: Spent | None = None) -> list[NDArray[np.uint8]]:
        parts = [self._parts(code, prefix) for code, prefix, _ in requests]
        made = synthesise_timed(self.backend, parts, [self._lift(size) for _, _, size in requests], spent)
        return [_placed(view, size) for view, (_, _, size) in zip(made, requests, strict=True)]

    def view(self, code: ImageCode, prefix: int) -> NDArray[np.uint8]:
        """The square view (side,side,3) after blocks 0..prefix."""
        return self.backend.synthesise(*self._parts(code, prefix))

    def _parts(self, code: ImageCode, prefix: int) -> PictureParts:
        layout = self.stream.layout
        heads = self.folder.heads
        readings = (self.reader.features(code, prefix) - heads["meaning_mean"]) @ heads["meaning_basis"]
        meaning = np.broadcast_to(readings[:, None, None], (len(readings), *layout.grid))
        groups = code.picture[: max(0, prefix + 1 - self.semantic_blocks)]
        latents, present = self.stream.pictures.synthesis_inputs(groups, layout.grid, self.backend.arithmetic)
        return latents, present, np.ascontiguousarray(meaning, np.float32)
