"""`semhier republish`: a recorded bag of blocks into readings and pictures, now or years later.

    semhier republish blocks.mcap --out readings

Blocks are read by the model whose stream hash they name; a newer model folder with other heads, names or calibration
(another model hash) may read them too, and it is said. The source may come from `semhier replay --write-bag`, from
recorder_node or from `ros2 bag record` of the block topics. Frames that refer to earlier ones (docs/living.md) are
read from the bag's first memoryless frame on; one that came before what it refers to is read once that is there. What
the bag holds of the camera's lens and of the robot's poses (`<camera>/semhier/camera_info`, `pose`, `fix`, `heading`)
goes into the new one as it is.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semhier_ros import options as shared
from semhier_ros.api import Codec
from semhier_ros.codec.packet import Packet, PacketError, UnknownReference
from semhier_ros.command import for_the_user
from semhier_ros.footage.bags import raw_messages
from semhier_ros.footage.messages import BagError, BagWriter, check_new_bag, message_store, stamp_of
from semhier_ros.footage.readings import Messages, Readings
from semhier_ros.footage.recording import PLACE_TOPICS
from semhier_ros.paths import DEFAULT_MODEL, model_names

BLOCK, INFO = "semhier_ros/msg/SemanticBlock", "semhier_ros/msg/StreamInfo"
UNREAD = "frames without what they refer to"


@dataclass
class _Camera:
    """What is known of one camera of the bag. stamps: of its newest frames, by number; unread: frames (number, stamp)
    whose deltas wait for what they refer to."""

    info: Any
    decoder: Any
    readings: Readings
    stamps: dict[int, int] = field(default_factory=dict)
    unread: set[tuple[int, int]] = field(default_factory=set)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bag", type=Path, help="MCAP or SQLite3 bag with block topics `<camera>/semhier/<block>`")
    parser.add_argument("--out", type=Path, required=True, metavar="BAG", help="the new bag")
    parser.add_argument("--force", action="store_true", help="replace an older recording at --out")
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="name of an installed model, or its folder (the installed one that the bag names)",
    )
    shared.device(parser)
    parser.add_argument("--pictures", action="store_true", help="decode pictures too (frames with a picture block)")


def run(options: argparse.Namespace) -> int:
    """Reads, decodes, writes; prints what was made."""
    counts, notes = republish(options.bag, options.out, options.model, options.device, options.pictures, options.force)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    print(", ".join(f"{count} {name}" for name, count in counts.items()))
    return 0


def republish(
    source: Path, out: Path, model: str | None, device: str = "cpu", pictures: bool = False, force: bool = False
) -> tuple[dict[str, int], list[str]]:
    """(what was read and made, what is worth saying). model: None for the installed one that the bag names. force:
    an older bag at `out` is replaced. Raises CommandError, of which BagError is one."""
    check_new_bag(out, force, source)
    with for_the_user():
        codec = Codec.load(model or named_model(source), device, threads=1)
    counts = {"blocks": 0, "readings": 0, "pictures": 0, "poses": 0, "damaged blocks": 0}
    notes: list[str] = []
    cameras: dict[str, _Camera] = {}
    early: dict[str, int] = {}
    unread = 0
    with BagWriter(out, force, source) as bag:
        messages = Messages(bag.store, codec.taxonomy)
        for channel, log_ns, data in raw_messages(source, _wants, notes):
            camera, _, name = channel.topic.strip("/").rpartition("/semhier/")
            if channel.kind == PLACE_TOPICS.get(name):
                bag.write_raw(channel.topic, channel.kind, data, log_ns, channel.qos)
                counts["poses"] += name in ("pose", "fix")
                continue
            message: Any = bag.store.deserialize_cdr(data, channel.kind)
            one = cameras.get(camera)
            if channel.kind == INFO:
                if one is None or _differs(message, one.info):
                    unread += 0 if one is None else len(one.unread)
                    decoder = _reads(message, codec, notes).decoder(
                        (message.width, message.height), 32, memory=not codec.whole_image
                    )
                    cameras[camera] = _Camera(message, decoder, Readings(messages, camera, message.frame_id))
                else:
                    one.info = message
                continue
            counts["blocks"] += 1
            if one is None:  # the bag was cut
                early[camera] = early.get(camera, 0) + 1
                continue
            found: list[Any] = []
            try:
                block = Packet.parse(bytes(message.data)).blocks[0]
                one.stamps[block.frame] = stamp_of(message)
                found = [one.decoder.push(block, stamp_of(message))]
            except UnknownReference:
                one.unread.add((block.frame, stamp_of(message)))
            except PacketError:
                counts["damaged blocks"] += 1
            for reading in (*found, *one.decoder.caught_up()):
                if reading is None or not reading.fresh:
                    continue
                stamp = one.stamps[reading.frame]
                one.unread.discard((reading.frame, stamp))
                for topic, make in one.readings.of(reading, stamp, log_ns - stamp):
                    bag.write(topic, make(), log_ns)
                    counts["readings"] += "/detections/level_" in topic
                if pictures and reading.prefix >= codec.semantic_blocks:
                    picture = one.decoder.picture(reading.frame)
                    if picture is not None:
                        made = messages.picture(picture, stamp, one.info.frame_id)
                        bag.write(f"/{camera}/picture/compressed", made, log_ns)
                        counts["pictures"] += 1
    counts[UNREAD] = unread + sum(len(one.unread) for one in cameras.values())
    for camera, count in early.items():
        if camera not in cameras:
            raise BagError(f"{source}: blocks of {camera!r}, but none of its StreamInfo; record its topic too")
        notes.append(f"{count} blocks of {camera} before its first StreamInfo are left out")
    if not counts["blocks"]:
        raise BagError(f"{source}: holds no blocks (topics of type {BLOCK})")
    return counts, notes


def _differs(info: Any, other: Any) -> bool:
    """Whether two StreamInfos of a camera are of streams that one decoder does not read: it began anew, with another
    model or other pictures."""
    return any(getattr(info, key) != getattr(other, key) for key in ("stream_hash", "width", "height", "frame_id"))


def _wants(channel: Any) -> bool:
    """Whether a bag's topic is read: blocks, descriptions, and what says where a camera is."""
    _, ours, name = channel.topic.rpartition("/semhier/")
    return channel.kind in (BLOCK, INFO) or (bool(ours) and channel.kind == PLACE_TOPICS.get(name))


def named_model(source: Path) -> str:
    """The installed model that the first StreamInfo of a bag names; else DEFAULT_MODEL. Raises BagError."""
    store = message_store()
    for channel, _, data in raw_messages(source, lambda one: one.kind == INFO, []):
        named: Any = store.deserialize_cdr(data, channel.kind)
        if named.model in model_names():
            return str(named.model)
        break
    return DEFAULT_MODEL


def _reads(info: Any, codec: Codec, notes: list[str]) -> Codec:
    """The codec, with or without foot bits, that reads a stream."""
    codec = codec.streams().get(info.stream_hash, codec)
    if info.stream_hash != codec.stream_hash:
        raise BagError(
            f"model: the blocks were made by {info.model!r} with stream hash {info.stream_hash}, {codec.name} has "
            f"{codec.stream_hash}; name that model's folder with --model"
        )
    if info.model_hash != codec.model_hash:
        notes.append(
            f"the blocks were made by model hash {info.model_hash} and are read by {codec.model_hash}: other heads, "
            "names or calibration"
        )
    return codec
