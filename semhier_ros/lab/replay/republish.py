"""`semhier republish`: a recorded bag of blocks into readings and pictures, now or years later.

    semhier republish blocks.mcap --out readings

Blocks are read by the model whose stream hash they name; a newer model folder with other heads, names or calibration
(another model hash) may read them too, and it is said. The source may come from `semhier replay --write-bag`, from
recorder_node or from `ros2 bag record` of the block topics.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from semhier_ros.cli import CommandError

BLOCK, INFO = "semhier_ros/msg/SemanticBlock", "semhier_ros/msg/StreamInfo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `semhier republish`."""
    parser.add_argument("bag", type=Path, help="MCAP or SQLite3 bag with block topics `<camera>/semhier/<block>`")
    parser.add_argument("--out", type=Path, required=True, help="the new bag")
    parser.add_argument("--model", default="road", help="name or folder of the model that reads (default: %(default)s)")
    parser.add_argument("--device", default="cpu", choices=("auto", "cpu", "cuda"), help="(default: %(default)s)")
    parser.add_argument("--pictures", action="store_true", help="decode pictures too (frames with a picture block)")


def run(options: argparse.Namespace) -> int:
    """Reads, decodes, writes; prints what was made."""
    from semhier_ros.codec.model_folder import ModelError
    from semhier_ros.lab.bag import BagError

    try:
        counts, notes = republish(options.bag, options.out, options.model, options.device, options.pictures)
    except (BagError, ModelError, FileNotFoundError, ValueError) as error:
        raise CommandError(str(error)) from error
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    print(", ".join(f"{count} {name}" for name, count in counts.items()))
    return 0


def republish(
    source: Path, out: Path, model: str, device: str = "cpu", pictures: bool = False
) -> tuple[dict[str, int], list[str]]:
    """(what was read and made, what is worth saying). Raises BagError or ModelError."""
    from semhier_ros.api import Codec
    from semhier_ros.codec.packet import Packet, PacketError
    from semhier_ros.lab.bag import BagError, BagWriter, message_store
    from semhier_ros.lab.replay.bag_out import Messages
    from semhier_ros.lab.replay.footage import bag_files
    from semhier_ros.lab.replay.mcap_file import McapFile
    from semhier_ros.lab.replay.sqlite_file import SqliteFile
    from semhier_ros.lab.streams.base import Answer

    codec = Codec.load(model, device, threads=1)
    store = message_store()
    counts = {"blocks": 0, "readings": 0, "pictures": 0, "damaged blocks": 0}
    notes: list[str] = []
    infos: dict[str, Any] = {}
    decoders: dict[str, Any] = {}
    done: dict[tuple[str, int, int], int] = {}
    with BagWriter(out) as bag:
        messages = Messages(bag.store, codec.taxonomy)
        for path in bag_files(source):
            file = SqliteFile(path) if path.suffix == ".db3" else McapFile(path)
            for channel, log_ns, _, data in file.messages(lambda one: one.kind in (BLOCK, INFO)):
                camera = channel.topic.strip("/").rpartition("/semhier/")[0]
                message: Any = store.deserialize_cdr(data, channel.kind)
                if channel.kind == INFO:
                    if camera not in infos:
                        _check(message, codec, notes)
                        decoders[camera] = codec.decoder((message.width, message.height), 32)
                    infos[camera] = message
                    continue
                if camera not in infos:
                    raise BagError(f"{source}: blocks of {camera!r} before any of its StreamInfo; record its topic too")
                counts["blocks"] += 1
                try:
                    block = Packet.parse(bytes(message.data)).blocks[0]
                    reading = decoders[camera].push(block)
                except PacketError:
                    counts["damaged blocks"] += 1
                    continue
                if reading is None or not reading.fresh:
                    continue
                stamp = message.stamp.sec * 10**9 + message.stamp.nanosec
                answer = Answer(
                    0, reading.frame, stamp, 0.0, 0.0, reading.level, reading.prefix, reading.detections, ""
                )
                frame_id, wait = infos[camera].frame_id, log_ns - stamp
                first = done.get((camera, reading.frame, stamp), -1) + 1
                done[camera, reading.frame, stamp] = reading.level
                for level in range(min(first, reading.level), reading.level + 1):
                    made = messages.reading(answer, level, stamp, frame_id, reading.payload_bytes, wait)
                    bag.write(f"/{camera}/detections/level_{level}", made, log_ns)
                    counts["readings"] += 1
                bag.write(f"/{camera}/detections/vision", messages.vision(answer, stamp, frame_id), log_ns)
                bag.write(f"/{camera}/annotations", messages.annotations(reading.detections, stamp), log_ns)
                if pictures and reading.prefix >= codec.semantic_blocks:
                    picture = decoders[camera].picture(reading.frame)
                    if picture is not None:
                        topic = f"/{camera}/picture/compressed"
                        bag.write(topic, messages.picture(picture, stamp, frame_id), log_ns)
                        counts["pictures"] += 1
            notes += file.problems
            file.close()
    if not counts["blocks"]:
        raise BagError(f"{source}: holds no blocks (topics of type {BLOCK})")
    return counts, notes


def _check(info: Any, codec: Any, notes: list[str]) -> None:
    if info.stream_hash != codec.stream_hash:
        raise ValueError(
            f"model: the blocks were made by {info.model!r} with stream hash {info.stream_hash}, {codec.name} has "
            f"{codec.stream_hash}; name that model's folder with --model"
        )
    if info.model_hash != codec.model_hash:
        notes.append(
            f"the blocks were made by model hash {info.model_hash} and are read by {codec.model_hash}: other heads, "
            "names or calibration"
        )
