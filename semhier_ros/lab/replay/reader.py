"""The model of a replay, with a memory: frames are encoded once, pictures detected once."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np

from semhier_ros.api import Codec
from semhier_ros.codec.packet import Block
from semhier_ros.codec.reading import Detection
from semhier_ros.command import CommandError
from semhier_ros.lab.baselines.picture_files import KINDS, PictureSetting, decode_picture, encode_picture
from semhier_ros.lab.options import load_codec
from semhier_ros.lab.replay.base import Camera, Costs, Picture
from semhier_ros.lab.replay.store import CACHE_FILE, Store, default_folder, digest
from semhier_ros.lab.scoring.streaming import World
from semhier_ros.received import read_blocks

Detections = tuple[Detection, ...]
T = TypeVar("T")
COST_FRAMES = 5
OPEN = 4
"""Frames whose picture blocks can still be made without running the detector again."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A frame's blocks, coarse first, as bytes; and what they read to after each prefix of semantic blocks."""

    blocks: tuple[bytes, ...]
    readings: tuple[Detections, ...]


class Reader:
    """What a replay asks of a model. `store` keeps what was made; `threads` of the networks, 0 for their own choice."""

    def __init__(self, codec: Codec, store: Store | None = None) -> None:
        self.codec = codec
        self.store = store or Store()
        self.levels = codec.levels
        self.block_names = tuple(codec.block_names)
        self.semantic_blocks = codec.semantic_blocks
        self._encoded: dict[str, Encoded] = {}
        self._open: dict[str, Iterator[Block]] = {}

    @classmethod
    def load(cls, model: str, device: str = "cpu", store: Store | None = None, threads: int = 1) -> Reader:
        """A reader of the model of that name or folder. Raises what `Codec.load` raises."""
        return cls(Codec.load(model, device, threads=threads), store)

    def encoded(self, camera: Camera, number: int, whole: bool = False) -> Encoded:
        """The semantic blocks of a frame and their readings; with `whole` its picture blocks too.

        Picture blocks that are asked for soon after the semantic ones cost nothing but themselves.
        """
        key = digest(camera.key(number), self.codec.model_hash, camera.size)
        held = self._encoded.get(key)
        wanted = len(self.block_names) if whole else self.semantic_blocks
        if held is not None and len(held.blocks) >= wanted:
            return held
        made: Encoded | None = self.store.get("encoded", key, Encoded)
        if made is None or len(made.blocks) < wanted:
            made = self._encode(key, camera, number, held, whole)
            self.store.put("encoded", key, made)
        if held is not None:
            made = Encoded(made.blocks, held.readings)  # a truth stays the same object: matching goes by it
        self._encoded[key] = made
        return made

    def blocks(self, camera: Camera, number: int, whole: bool = True) -> list[Block]:
        """The frame's blocks as they travel: all, or the semantic ones at least."""
        tag = self.codec.stream_tag
        return [
            Block(tag, number & 0xFFFF, index, data)
            for index, data in enumerate(self.encoded(camera, number, whole).blocks)
        ]

    def reference(self, camera: Camera, number: int) -> Detections:
        """What the detector reads on the uncompressed frame: all semantic blocks."""
        return self.encoded(camera, number).readings[-1]

    def world(self, camera: Any) -> World:
        """Agreement's truth: at every frame's time what the network reads on it, uncompressed."""
        truths = [self.reference(camera, number) for number in range(len(camera))]
        return World(np.asarray(camera.times_ns, float) / 1e9, truths, "agreement")

    def detect(self, image: Picture, size: tuple[int, int]) -> Detections:
        """What the same detector reads on any picture, with boxes in a picture of `size`."""
        *_, last = read_blocks(self.codec, self.codec.encode(image, blocks=self.semantic_blocks), size)
        return last.reading.detections

    def detected(self, key: str, image: Any, size: tuple[int, int]) -> Detections:
        """`detect`, remembered under `key`; `image()` is called only when needed and may give None: nothing seen."""

        def make() -> Detections:
            picture = image()
            return () if picture is None else self.detect(picture, size)

        found: Detections = self.store.made("detected", digest(key, self.codec.model_hash, size), make, Detections)
        return found

    def measured_costs(self, camera: Camera) -> Costs:
        """What encoding and decoding take on this machine: medians over a few frames, remembered for this model and
        picture size."""
        model = self.codec.model
        device = self.codec.device
        key = digest("2", platform.node(), self.codec.model_hash, camera.size, type(model).__name__, device)
        return Costs(**self.store.made("costs", key, lambda: _measured(self.codec, camera)))

    def _encode(self, key: str, camera: Camera, number: int, held: Encoded | None, whole: bool) -> Encoded:
        steps = self._open.pop(key, None)
        if held is None or steps is None:
            steps = self.codec.encode_stepwise(camera.image(number))
            blocks = list(islice(steps, self.semantic_blocks))
            readings = tuple(known.reading.detections for known in read_blocks(self.codec, blocks, camera.size))
            held = Encoded(tuple(block.data for block in blocks), readings)
        if not whole:
            self._open[key] = steps
            while len(self._open) > OPEN:
                del self._open[next(iter(self._open))]
            return held
        return Encoded((*held.blocks[: self.semantic_blocks], *(block.data for block in steps)), held.readings)


def reader_of_videos(videos: Sequence[Path], model: str, device: str, cache: Path | None) -> Reader:
    """A reader of `videos` by a model of scenes, with what was computed before in the folder `cache` (None: replay's).

    Raises CommandError for a video that is not there, and for a model that is not, or reads no scenes.
    """
    for video in videos:
        if not video.is_file():
            raise CommandError(f"{video}: no such file")
    return Reader(load_codec(model, device, 1, "scenes"), Store((cache or default_folder()) / CACHE_FILE))


def _measured(codec: Codec, camera: Camera) -> dict[str, float]:
    spent: dict[str, list[float]] = {name: [] for name in ("semantic", "picture", "read", "jpeg", "webp", "unpack")}

    def timed(name: str, work: Callable[[], T]) -> T:
        begin = time.perf_counter()
        made = work()
        spent[name].append(time.perf_counter() - begin)
        return made

    count = min(COST_FRAMES, len(camera))
    for place in range(count + 1):
        image = camera.image(place * (len(camera) - 1) // max(1, count))
        steps = codec.encode_stepwise(image)
        blocks = timed("semantic", lambda steps=steps: list(islice(steps, codec.semantic_blocks)))  # type: ignore[misc]
        timed("picture", partial(list, steps))
        decoder = codec.decoder(camera.size)
        timed("read", lambda decoder=decoder, blocks=blocks: [decoder.push(block) for block in blocks])  # type: ignore[misc]
        files = [timed(kind, partial(encode_picture, image, PictureSetting(kind, 0.6, 25))) for kind in KINDS]
        timed("unpack", partial(decode_picture, files[0], camera.size))
    values = {name: median(laps[1:] or laps) for name, laps in spent.items()}  # the first includes compiling
    h264 = values["jpeg"] * 2  # x264 at such sizes takes about two JPEGs; not measured frame by frame
    return {**values, "detect": values["semantic"] + values["read"], "h264": h264}
