"""What a report calls things, which differs between scenes with objects and images that are named as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from semhier_ros.camera.drawing import LEVEL_COLOURS

DETAIL_COLOUR = "#64748b"
PICTURE_COLOURS = ("#7e22ce", "#9d4edd", "#c084fc")


@dataclass(frozen=True, slots=True)
class Words:
    """`boxes`: whether readings are boxes on the frame. `shown`: what the camera sees. `judge`: the network that reads.
    `title`: of the measure, `note`: how it is made."""

    boxes: bool
    shown: str
    judge: str
    title: str
    refining: str
    moments: str
    note: str


SCENE = Words(
    boxes=True,
    shown="the street",
    judge="detector",
    title="Streaming AP50 of the newest reading at any instant",
    refining="that something is there and where, then what kind it is, then its name; then a picture grows for people. "
    "Boxes are drawn on a pale camera frame for orientation only: that frame was never sent.",
    moments="drawn on the street as it is at that very instant: a box beside its vehicle is old news.",
    note="Streaming average precision (Li, Wang, Ramanan 2020): at every instant the newest reading that is there is "
    "scored against the world as it is at that instant, with an overlap of 0.5, all classes of a level together; so "
    "bytes, losses, waiting and computing all count.",
)
IMAGE = Words(
    boxes=False,
    shown="what the camera sees",
    judge="classifier",
    title="Share of instants at which the newest reading has the right name",
    refining="what kind it is, then which of some hundred, then its class, each with a calibrated probability; then a "
    "picture grows for people.",
    moments="beside what the camera sees at that very instant.",
    note="The right name: at every instant the newest reading that has arrived is compared with what the same "
    "classifier reads on the uncompressed frame of that instant; counted is the share of instants at which the name is "
    "the same at a level.",
)


@dataclass(frozen=True, slots=True)
class BlockKind:
    """One block of the stream: its `name`, what people call it (`title`), its `colour`, the `level` of the taxonomy
    that it names (None for detail and pictures) and whether it refines the `picture` only."""

    name: str
    title: str
    colour: str
    level: int | None = None
    picture: bool = False


def block_kinds(names: Sequence[str], semantic: int, level_names: Sequence[str]) -> tuple[BlockKind, ...]:
    """The kinds of a codec's blocks with their colours.

    `names`: `codec.block_names`; the first `semantic` of them are not pictures; the first len(level_names) of these
    name the levels.
    """
    kinds = []
    for index, name in enumerate(names):
        if index < min(semantic, len(level_names)):
            kinds.append(BlockKind(name, level_names[index], LEVEL_COLOURS[index % len(LEVEL_COLOURS)], level=index))
        elif index < semantic:
            kinds.append(BlockKind(name, name.replace("_", " "), DETAIL_COLOUR))
        else:
            number = index - semantic
            colour = PICTURE_COLOURS[min(number, len(PICTURE_COLOURS) - 1)]
            kinds.append(BlockKind(name, f"picture {number + 1}", colour, picture=True))
    return tuple(kinds)
