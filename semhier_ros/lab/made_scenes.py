"""Made-up scenes, for tests and measures: objects that drift, jitter, vanish and change their names; both memories of a
camera, one handing to the other what it made; and compact frames in every form that a radio's sender has for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from semhier_ros.api import Codec
from semhier_ros.codec.compact import STAMP_UNIT_NS, DeltaBlock
from semhier_ros.codec.packet import Block, delta_tag
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.lab.scoring.figures import timed
from semhier_ros.scene.budget import importance
from semhier_ros.scene.layout import SceneCode, SceneLayout
from semhier_ros.scene.motion import CameraMotion, Moved
from semhier_ros.scene.objects import Objects, code_objects
from semhier_ros.scene.steering import write_motion

FRAME_NS = 80_000_000
SIZE = (640, 360)
"""Width and height of the source picture."""
OBJECTS = 6
MOST_DELTA = 60
"""Bytes of a delta."""
PERIOD = 12
"""Units of 8 ms between frames."""
FORMS = ("coarse", "joint", "parted", "motion", "delta")
"""What follows each other: block 0 alone; all semantic blocks; block 0, then the others by themselves; with how things
move; what changed since the frame before."""


def objects_of(layout: SceneLayout, boxes: np.ndarray, scores: np.ndarray, leaves: np.ndarray) -> Objects:
    """Objects at boxes n,4 (cx, cy, w, h in cells) with scores n and leaves n, one a cell, in raster order; without
    features."""
    cells = (boxes[:, 1].astype(int) * layout.columns + boxes[:, 0].astype(int)).astype(np.int32)
    _, first = np.unique(cells, return_index=True)
    types = len(layout.parents[-1])
    chances = np.full((len(boxes), types), 0.01)
    chances[np.arange(len(boxes)), leaves] = 1.0
    chances /= chances.sum(axis=1, keepdims=True)
    return Objects(
        cells[first],
        boxes[first].astype(np.float32),
        scores[first].astype(np.float32),
        np.log(chances[first]).astype(np.float32),
        np.zeros((len(first), 0), np.float32),
    )


def drive(layout: SceneLayout, seed: int, count: int = 12) -> Iterator[Objects]:
    """Frames without end, `FRAME_NS` apart, each with nine in ten of `count` objects in a picture that moves, too."""
    random = np.random.default_rng(seed)
    size = np.array([layout.columns, layout.rows])

    def new(number: int) -> tuple[np.ndarray, ...]:
        place = random.uniform(0.1, 0.9, (number, 2)) * size
        sides = np.exp(random.uniform(0.3, 2.3, (number, 2)))
        return place, sides, random.normal(0, 0.05, (number, 2)), random.integers(0, len(layout.parents[-1]), number)

    place, sides, speed, leaf = new(count)
    while True:
        place += speed + random.normal(0, 0.1, 2)
        outside = ((place < 0.5) | (place > size - 1.5)).any(axis=1) | (random.random(count) < 0.01)
        fresh = new(int(outside.sum()))
        place[outside], sides[outside], speed[outside], leaf[outside] = fresh
        swapped = random.random(count) < 0.02
        leaf[swapped] = random.integers(0, len(layout.parents[-1]), swapped.sum())
        seen = random.random(count) < 0.9
        boxes = np.concatenate([place, sides], axis=1)[seen]
        boxes[:, :2] += random.normal(0, 0.04, (len(boxes), 2)) * boxes[:, 2:]
        boxes[:, 2:] *= np.exp(random.normal(0, 0.05, (len(boxes), 2)))
        boxes[:, :2] = np.clip(boxes[:, :2], 0.1, size - 0.1)
        yield objects_of(layout, boxes, random.uniform(0.2, 0.9, len(boxes)), leaf[seen])


def with_features(model: Any, objects: Objects) -> Objects:
    """Made objects, which have no features, with the model's number of them."""
    return replace(objects, features=np.zeros((len(objects), len(model.folder.projection.feature_mean)), np.float32))


class Memories:
    """A scene model's sender and its receiver, to which every frame comes and of which each is heard at once. radio: as
    of `Codec.memory`. `spent`: milliseconds that each frame took to be said whole (`whole`), or as a delta (`delta`)
    that was read (`read`)."""

    def __init__(self, model: Any, radio: bool = False) -> None:
        self._model = model
        self.sender, self.receiver = model.sender_memory(radio=radio), model.receiver_memory()
        self.spent: dict[str, list[float]] = defaultdict(list)

    def say(
        self,
        objects: Objects,
        frame: int,
        stamp_ns: int,
        *,
        moved: Any = None,
        most: int | None = None,
        whole: bool = False,
        prefix: int | None = None,
    ) -> tuple[SceneCode, bytes | None]:
        """What a frame of these objects says, and the delta that says it; None of a frame that is sent whole, be it
        because it has to or as `whole` asks. moved: as of `importance`. most: bytes of a delta. prefix: the last block
        of a whole frame that comes (None: all)."""
        model, began = self._model, list[float]()
        self.sender.begin(frame, stamp_ns)
        worth = importance(model.stream.layout, objects, moved)
        data: bytes | None = timed(began, partial(self.sender.delta, objects, worth, most))
        if data is None or whole:
            code, data = code_objects(model.stream, model.folder.projection, objects, model.semantic_blocks), None
            timed(began, partial(self.sender.whole, code))
            self.receiver.whole(code, model.semantic_blocks - 1 if prefix is None else prefix, frame, stamp_ns)
            self.spent["whole"].append(sum(began))
        else:
            self.spent["delta"] += began
            code = timed(self.spent["read"], partial(self.receiver.delta, data, frame, stamp_ns))
        self.sender.heard(self.receiver.acknowledgement or b"")
        return code, data


@cache
def codec_of(model: str) -> Codec:
    """The model, loaded once."""
    return Codec.load(model, "cpu", threads=1)


def description(codec: Codec) -> StreamInfo:
    """What is announced of the made scene's camera."""
    return StreamInfo("front", "lens", *SIZE, codec.name, codec.stream_hash, codec.model_hash, 0)


class MadeFrame(NamedTuple):
    """A frame of the made scene: its number, its stamp in ns (a multiple of 8 ms), and the blocks of each packet."""

    number: int
    stamp_ns: int
    packets: Sequence[Sequence[Block]]


def made_frames(codec: Codec, first: int, seed: int) -> Iterator[MadeFrame]:
    """Frames without end from number `first` on, each of which arrives: a delta refers to the one before it."""
    model: Any = codec.model
    memories, last = Memories(model, radio=True), codec.semantic_blocks - 1
    for number, objects in zip(count(first), drive(model.stream.layout, seed, OBJECTS), strict=False):
        stamp_ns = (number - first + 1) * PERIOD * STAMP_UNIT_NS
        form = FORMS[(number - first) % len(FORMS)]
        code, data = memories.say(
            with_features(model, objects),
            number,
            stamp_ns,
            most=MOST_DELTA,
            whole=form != "delta",
            prefix=0 if form == "coarse" else last,
        )
        if data is not None:
            packets: list[list[Block]] = [[DeltaBlock(delta_tag(codec.stream_tag), number, 0, bytes(data))]]
        else:
            blocks = [Block(codec.stream_tag, number, at, model.stream.encode(at, code)) for at in range(last + 1)]
            packets = [blocks[:1]] if form == "coarse" else [blocks]
            if form == "parted":
                packets = [blocks[:1], blocks[1:]]
            if form == "motion":
                packets = [[replace(blocks[0], motion=_motion(model, code, number)), *blocks[1:]]]
        yield MadeFrame(number, stamp_ns, packets)


def acknowledgements(codec: Codec, sender: Any, first: int, seed: int) -> Iterator[list[bytes]]:
    """Frames without end from number `first` on, whole, which `sender` remembers; of each what a receiver says of its
    memory after every block."""
    model: Any = codec.model
    for number, objects in zip(count(first), drive(model.stream.layout, seed, OBJECTS), strict=False):
        stamp_ns, receiver = (number - first + 1) * PERIOD * STAMP_UNIT_NS, model.receiver_memory()
        sender.begin(number, stamp_ns)
        sender.delta(objects, importance(model.stream.layout, objects))
        bare = with_features(model, objects)
        code = code_objects(model.stream, model.folder.projection, bare, codec.semantic_blocks)
        sender.whole(code)
        said = []
        for prefix in range(codec.semantic_blocks):
            receiver.whole(code, prefix, number, stamp_ns)
            said.append(receiver.acknowledgement)
        yield said


def picture_block(codec: Codec, frame: int) -> Block:
    """The first picture block of a made-up picture."""
    chance = np.random.default_rng(frame)
    coarse = chance.integers(0, 256, (9, 16, 3), np.uint8)
    picture = np.kron(coarse, np.ones((40, 40, 1), np.uint8))
    return codec.encode(picture, frame=frame, blocks=codec.semantic_blocks + 1)[-1]


def _motion(model: Any, code: Any, seed: int) -> bytes:
    """A motion part for the objects of a code."""
    chance = np.random.default_rng(seed)
    boxes = [detection.box for detection in model.read(code, 0, SIZE)]
    sides = np.array([np.sqrt(max(1.0, x1 - x0) * max(1.0, y1 - y0)) for x0, y0, x1, y1 in boxes])
    own = np.where(chance.random((len(sides), 1)) < 0.5, chance.normal(0, 1, (len(sides), 2)) * sides[:, None], 0.0)
    shift = chance.normal(0, 50, 2)
    return write_motion(Moved(CameraMotion((shift[0], shift[1]), chance.normal(0, 0.2), 0.0), own, SIZE), sides)
