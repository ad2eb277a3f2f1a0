"""What the recorder at the receiving end wrote down: frames, readings, blocks and pictures with their arrival times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semhier_ros.codec.reading import Detection
from semhier_ros.footage.bags import image_key, raw_messages
from semhier_ros.footage.messages import IMAGE_TYPES, BagError, message_store, stamp_of

ARRAY_TYPE = "semhier_ros/msg/SemanticDetectionArray"
BLOCK_TYPE = "semhier_ros/msg/SemanticBlock"
STATUS_TYPE = "semhier_ros/msg/LinkStatus"
INFO_TYPE = "semhier_ros/msg/StreamInfo"
PLACE_TOPICS = {
    "camera_info": "sensor_msgs/msg/CameraInfo",
    "pose": "geometry_msgs/msg/PoseStamped",
    "fix": "sensor_msgs/msg/NavSatFix",
    "heading": "sensor_msgs/msg/Imu",
}
"""What a base publishes as `<camera>/semhier/<name>` of where a camera is and how it sees: what places on the ground,
in a map and on the earth need beside blocks."""


@dataclass(frozen=True, slots=True)
class ReadingArrival:
    """One reading as it arrived. `stamp_ns`: of its frame; `arrival_ns`: at the recorder, by the same machine's
    clock."""

    stamp_ns: int
    arrival_ns: int
    frame: int
    level: int
    prefix: int
    bytes_received: int
    detections: tuple[Detection, ...]


@dataclass(frozen=True, slots=True)
class BlockArrival:
    """One block as it arrived: its packet's bytes under the block's name ("level_0")."""

    stamp_ns: int
    arrival_ns: int
    frame: int
    name: str
    packet: bytes


@dataclass(frozen=True, slots=True)
class LinkReport:
    """The last LinkStatus: block name -> sent and dropped since the start; budget in bytes/s (0: unlimited)."""

    budget: int
    sent: dict[str, int]
    dropped: dict[str, int]


@dataclass(slots=True)
class Recording:
    """A run of one camera as the receiver saw it.

    `frames`: stamps (ns) of the images that the camera published, ascending; `frame_keys`: stamp -> SHA-1 of the image
    data. `pictures`: (stamp, arrival) of decoded
    pictures. `model`: name and hashes from the stream information, empty if none came.
    """

    frames: list[int] = field(default_factory=list)
    frame_keys: dict[int, str] = field(default_factory=dict)
    readings: list[ReadingArrival] = field(default_factory=list)
    blocks: list[BlockArrival] = field(default_factory=list)
    pictures: list[tuple[int, int]] = field(default_factory=list)
    link: LinkReport | None = None
    model: dict[str, str] = field(default_factory=dict)


def read_recording(bag: Path, camera: str = "camera") -> Recording:
    """Reads the recorder's bag of `camera`. Raises BagError when it holds neither readings nor blocks of that
    camera."""
    result = Recording()
    base = f"/{camera.strip('/')}/"
    store, seen, heard = message_store(), set[str](), False
    wanted = (ARRAY_TYPE, BLOCK_TYPE, STATUS_TYPE, INFO_TYPE, *IMAGE_TYPES)

    def wants(channel: Any) -> bool:
        seen.add(channel.topic)
        return channel.topic.startswith(base) and channel.kind in wanted

    for channel, time_ns, data in raw_messages(bag, wants, []):
        heard = heard or channel.kind in (ARRAY_TYPE, BLOCK_TYPE)
        message = store.deserialize_cdr(data, channel.kind)
        _take(result, channel.topic.removeprefix(base), channel.kind, message, time_ns)
    if not heard:
        raise BagError(f"{bag}: no readings of {camera!r}; it holds {', '.join(sorted(seen)) or 'nothing'}")
    result.frames = sorted(set(result.frames))
    return result


def _take(result: Recording, name: str, kind: str, message: Any, time_ns: int) -> None:
    if kind == ARRAY_TYPE:
        result.readings.append(
            ReadingArrival(
                stamp_of(message),
                time_ns,
                int(message.frame),
                int(message.level),
                int(message.prefix),
                int(message.bytes_received),
                tuple(_detection(item) for item in message.detections),
            )
        )
    elif kind == BLOCK_TYPE:
        short = name.rsplit("/", 1)[-1]
        result.blocks.append(BlockArrival(stamp_of(message), time_ns, int(message.frame), short, bytes(message.data)))
    elif kind == STATUS_TYPE:
        names = list(message.blocks)
        result.link = LinkReport(int(message.budget), _counts(names, message.sent), _counts(names, message.dropped))
    elif kind == INFO_TYPE:
        result.model = {
            "name": message.model,
            "stream_hash": message.stream_hash,
            "model_hash": message.model_hash,
        }
    elif kind in IMAGE_TYPES:
        if name.startswith("picture"):
            result.pictures.append((stamp_of(message), time_ns))
        elif name.startswith("image"):
            result.frames.append(stamp_of(message))
            result.frame_keys[stamp_of(message)] = image_key(message)


def _detection(item: Any) -> Detection:
    box = (float(item.x_min), float(item.y_min), float(item.x_max), float(item.y_max))
    path = tuple(int(node) for node in item.path)
    named = zip(item.other_nodes, item.other_scores, strict=True)
    deepest = tuple((int(node), float(score)) for node, score in named)
    others = (*((),) * (len(path) - 1), deepest)
    return Detection(int(item.id), box, path, tuple(item.names), tuple(float(score) for score in item.scores), others)


def _counts(names: Sequence[str], values: Sequence[int]) -> dict[str, int]:
    return {name: int(value) for name, value in zip(names, values, strict=False)}
