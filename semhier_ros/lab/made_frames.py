"""Compact frames of a made scene, for measures of what a receiver takes: what a model's encoder says of objects that
move, in every form that a radio's sender has for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import count
from typing import Any

import numpy as np

from semhier_ros.api import Codec
from semhier_ros.codec.compact import STAMP_UNIT_NS, DeltaBlock
from semhier_ros.codec.packet import Block, delta_tag
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.lab.made_scenes import Memories, drive, with_features
from semhier_ros.scene.budget import importance
from semhier_ros.scene.motion import CameraMotion, Moved
from semhier_ros.scene.objects import code_objects
from semhier_ros.scene.steering import write_motion

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


@cache
def codec_of(model: str) -> Codec:
    """The model, loaded once."""
    return Codec.load(model, "cpu", threads=1)


def description(codec: Codec) -> StreamInfo:
    """What is announced of the made scene's camera."""
    return StreamInfo(
        camera="front",
        frame_id="lens",
        width=SIZE[0],
        height=SIZE[1],
        model=codec.name,
        stream_hash=codec.stream_hash,
        model_hash=codec.model_hash,
        stamp_ns=0,
    )


class MadeFrame:
    """A frame of the made scene: `form` of FORMS, its number, its stamp in ns (a multiple of 8 ms), and the blocks of
    each packet."""

    def __init__(self, form: str, number: int, stamp_ns: int, packets: Sequence[Sequence[Block]]) -> None:
        self.form, self.number, self.stamp_ns, self.packets = form, number, stamp_ns, packets


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
            form = "joint" if form == "delta" else form
            blocks = [Block(codec.stream_tag, number, at, model.stream.encode(at, code)) for at in range(last + 1)]
            packets = [blocks[:1]] if form == "coarse" else [blocks]
            if form == "parted":
                packets = [blocks[:1], blocks[1:]]
            if form == "motion":
                packets = [[replace(blocks[0], motion=_motion(model, code, number)), *blocks[1:]]]
        yield MadeFrame(form, number, stamp_ns, packets)


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
