"""ROS 2 messages without ROS 2, by `rosbags`: their types, pixels out of them, and bags of them written (MCAP)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from rosbags.interfaces import Nodetype, Qos, QosDurability
from rosbags.rosbag2 import ReaderError, StoragePlugin, Writer
from rosbags.rosbag2.metadata import parse_qos
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from semhier_ros.camera.images import ImageError, compressed_to_rgb, image_to_rgb
from semhier_ros.codec.canvas import MAX_SIDE
from semhier_ros.command import CommandError
from semhier_ros.whole_file import replacing

NANOSECONDS = 1_000_000_000
DEFAULT_START_NS = 1_700_000_000 * NANOSECONDS
"""Stamp of the first frame of a bag made from a video, which knows no date: 14 November 2023, 22:13:20 UTC."""
IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
ENCODINGS = ("jpeg", "png", "rgb8", "bgr8")
MESSAGE_PACKAGE = "semhier_ros"
OTHER_TYPES = Path(__file__).parent / "vision_foxglove.msg"
"""Detections of vision_msgs and annotations of Foxglove, which ROS 2 itself does not bring."""


class BagError(CommandError, ValueError):
    """A bag that cannot be written or read as asked; the message names it and what it lacks."""


def message_store() -> Any:
    """A rosbags type store that knows ROS 2's own messages, those of this package (from its .msg files), detections of
    vision_msgs and Foxglove's annotations.

    Raises BagError when the .msg files are neither in the source tree nor installed.
    """
    store = get_typestore(Stores.ROS2_JAZZY)
    types: dict[Any, Any] = {}
    for path in sorted(_message_folder().glob("*.msg")):
        types |= get_types_from_msg(path.read_text(encoding="utf-8"), f"{MESSAGE_PACKAGE}/msg/{path.stem}")
    for part in OTHER_TYPES.read_text(encoding="utf-8").split("=== ")[1:]:
        name, _, text = part.partition("\n")
        types |= get_types_from_msg(text, name)
    store.register(types)
    return store


def _message_folder() -> Path:
    here = Path(__file__).resolve()
    candidates = [here.parents[2] / "msg"]
    candidates += [parent / "share" / MESSAGE_PACKAGE / "msg" for parent in here.parents]
    for folder in candidates:
        if (folder / "SemanticDetectionArray.msg").is_file():
            return folder
    raise BagError(f"the .msg files of {MESSAGE_PACKAGE} are not beside the package: looked at {candidates[0]}")


def make_message(store: Any, kind: str, **values: Any) -> Any:
    """A message of `kind` with these fields; messages within may be dictionaries of theirs. What is not named is empty:
    0, "", False, no entries. Raises KeyError for a field that the type does not have."""
    fields = dict(store.fielddefs[kind][1])
    if unknown := values.keys() - fields:
        raise KeyError(f"{kind}: no field {', '.join(sorted(unknown))}")
    return store.types[kind](**{name: _value(store, how, values.get(name)) for name, how in fields.items()})


def _value(store: Any, how: Any, given: Any) -> Any:
    node, detail = how
    if node == Nodetype.NAME:
        return make_message(store, detail, **(given or {})) if given is None or isinstance(given, dict) else given
    if node == Nodetype.BASE:
        empty = {"string": "", "bool": False}.get(detail[0], 0.0 if detail[0].startswith("float") else 0)
        return empty if given is None else given
    item, length = detail
    if item[0] == Nodetype.BASE and item[1][0] != "string":
        whole = np.zeros(length if node == Nodetype.ARRAY else 0) if given is None else given
        return np.ascontiguousarray(whole, item[1][0]).reshape(-1)
    return [_value(store, item, one) for one in given or ()]


def time_of(time_ns: int) -> dict[str, int]:
    """The fields of a Time or Duration."""
    return {"sec": time_ns // NANOSECONDS, "nanosec": time_ns % NANOSECONDS}


def header_of(stamp_ns: int, frame_id: str) -> dict[str, Any]:
    """The fields of a Header."""
    return {"stamp": time_of(stamp_ns), "frame_id": frame_id}


def stamp_of(message: Any) -> int:
    """The header stamp of a deserialised message in ns, or its own where it has no header."""
    stamp = message.header.stamp if hasattr(message, "header") else message.stamp
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def image_of(message: Any, where: str = "image") -> np.ndarray:
    """HxWx3 uint8 RGB pixels of a deserialised Image or CompressedImage, read as the nodes read them. Raises BagError,
    naming `where`."""
    try:
        return image_to_rgb(message) if hasattr(message, "encoding") else compressed_to_rgb(message)
    except ImageError as error:
        raise BagError(f"{where}: {error}") from error


def image_file(image: np.ndarray, kind: str, quality: int) -> bytes:
    """An H,W,3 RGB picture as a file of `kind` "jpeg", "png" or "webp". Raises ValueError where OpenCV cannot."""
    options = {
        "jpeg": [cv2.IMWRITE_JPEG_QUALITY, quality],
        "png": [cv2.IMWRITE_PNG_COMPRESSION, 1],
        "webp": [cv2.IMWRITE_WEBP_QUALITY, quality],
    }[kind]
    good, data = cv2.imencode(f".{kind}".replace("jpeg", "jpg"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not good:
        raise BagError(f"OpenCV could not encode {image.shape[1]}x{image.shape[0]} pixels as {kind}")
    return data.tobytes()


def compressed_image(store: Any, image: np.ndarray, stamp_ns: int, frame_id: str, kind: str, quality: int) -> Any:
    """sensor_msgs/CompressedImage of an RGB picture; `format` as image_transport writes it."""
    data = np.frombuffer(image_file(image, kind, quality), np.uint8)
    header = header_of(stamp_ns, frame_id)
    return make_message(store, IMAGE_TYPES[1], header=header, format=f"rgb8; {kind} compressed bgr8", data=data)


def camera_messages(
    store: Any, image: np.ndarray, stamp_ns: int, camera: str, frame_id: str, encoding: str = "jpeg", quality: int = 95
) -> list[tuple[str, Any]]:
    """(topic, message) of one camera picture (H,W,3 RGB): the image as `write_camera` says and its CameraInfo, an ideal
    pinhole without distortion whose focal length equals the width (a picture knows no calibration)."""
    height, width = image.shape[:2]
    header, name = header_of(stamp_ns, frame_id), camera.strip("/")
    topic = f"/{name}/image_raw"
    if encoding in ("jpeg", "png"):
        topic += "/compressed"
        picture = compressed_image(store, image, stamp_ns, frame_id, encoding, quality)
    else:
        pixels = image[..., ::-1] if encoding == "bgr8" else image
        size = {"height": height, "width": width, "step": 3 * width}
        picture = make_message(store, IMAGE_TYPES[0], header=header, encoding=encoding, data=pixels, **size)
    focal, cx, cy = float(width), width / 2, height / 2
    info = make_message(
        store,
        "sensor_msgs/msg/CameraInfo",
        header=header,
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=[focal, 0, cx, 0, focal, cy, 0, 0, 1.0],
        r=np.eye(3),
        p=[focal, 0, cx, 0, 0, focal, cy, 0, 0, 0, 1.0, 0],
    )
    return [(topic, picture), (f"/{name}/camera_info", info)]


def qualities(text: str) -> list[Qos]:
    """The qualities of service that a bag says of a topic; none where it says nothing that can be read."""
    try:
        return parse_qos(text) if text else []
    except (ReaderError, KeyError, TypeError, ValueError):
        return []


def is_latched(text: str) -> bool:
    """Whether a topic's writers kept messages for those who join late (transient local)."""
    return any(one.durability is QosDurability.TRANSIENT_LOCAL for one in qualities(text))


def check_new_bag(out: Path, force: bool, source: Path | None = None) -> None:
    """Raises BagError when a bag cannot be written to `out`.

    What lies there stays unless `force` is given, and even then only a bag is replaced that holds nothing of others: no
    notes, no calibration, no second recording, and not the bag or file `source` that the new one is made of. A folder
    that cannot be made is said before any work.
    """
    if out.is_file() or (out.is_symlink() and not out.exists()):
        raise BagError(f"{out}: is a file; a bag is a folder, name another path")
    if source is not None and _lie_in_each_other(out.resolve(), source.resolve()):
        raise BagError(f"{out}: is the bag that is read, or lies in it; name another path")
    if out.is_dir() and (held := sorted(path.name for path in out.iterdir())):
        own = {"metadata.yaml", f"{out.resolve().name}.mcap", f"{out.resolve().name}_0.mcap"}
        if "metadata.yaml" not in held:
            raise BagError(f"{out}: exists and is no bag, so it is not replaced; name another path")
        if not force:
            raise BagError(f"{out}: there is a recording already; name another path, or give --force to replace it")
        if others := [name for name in held if name not in own]:
            raise BagError(f"{out}: holds {', '.join(others[:3])} beside the recording, so it is not replaced")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BagError(f"{out}: its folder cannot be made: {error.strerror}") from error
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise BagError(f"{out}: {out.parent} cannot be written")


def _lie_in_each_other(one: Path, other: Path) -> bool:
    """Whether two paths are the same, or one lies in the other."""
    return one == other or one in other.parents or other in one.parents


@contextmanager
def whole_bag(out: Path, force: bool = False, source: Path | None = None) -> Iterator[Writer]:
    """A new MCAP bag, which is at `out` once it is whole; an old one stays until then, and for good unless `force`.

    Raises BagError as `check_new_bag` says, and OSError (with `out` as its file) when the disk is full.
    """
    check_new_bag(out, force, source)
    with replacing(out) as part, Writer(part, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        yield writer


class BagWriter:
    """An MCAP bag to which messages of ROS 2 and of this package are written; a context manager.

    What `whole_bag` says of the bag holds here.
    """

    def __init__(self, path: Path, force: bool = False, source: Path | None = None) -> None:
        self.store = message_store()
        self._whole = whole_bag(path, force, source)
        self._connections: dict[str, Any] = {}

    def __enter__(self) -> BagWriter:
        self._writer = self._whole.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._whole.__exit__(kind, error, trace)

    def write(self, topic: str, message: Any, time_ns: int) -> None:
        """Store one message (an object of `self.store.types`) with its log time."""
        kind = message.__msgtype__
        self.write_raw(topic, kind, self.store.serialize_cdr(message, kind), time_ns)

    def write_raw(self, topic: str, kind: str, data: Any, time_ns: int, qos: str = "") -> None:
        """Store the bytes of a message of type `kind`; `qos` as another bag said them of this topic."""
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=self.store, offered_qos_profiles=qualities(qos)
            )
        self._writer.write(self._connections[topic], time_ns, data)


def write_camera(
    camera: Any,
    out: Path,
    *,
    name: str = "camera",
    frame_id: str = "camera_optical_frame",
    encoding: str = "jpeg",
    start_ns: int = DEFAULT_START_NS,
    force: bool = False,
) -> str:
    """Writes a `TimedCamera`'s frames as an MCAP bag; returns the images' topic. An existing bag at `out` is replaced
    with `force` only.

    Topics are `/<name>/image_raw/compressed` (encoding jpeg or png) or `/<name>/image_raw` (rgb8 or bgr8), and
    `/<name>/camera_info`. start_ns: stamp and log time of run time 0, ns since 1970. The same arguments give the same
    bytes. Raises BagError when `out` exists and is no bag, for another encoding, or a frame that nobody would read.
    """
    if encoding not in ENCODINGS:
        raise BagError(f"encoding: {encoding!r}, one of {', '.join(ENCODINGS)} expected")
    from semhier_ros.progress import each  # rich, which no robot needs

    images = ""
    with BagWriter(out, force) as bag:
        for number, time_ns in enumerate(each(camera.times_ns, "frames")):
            stamp_ns, image = start_ns + time_ns, camera.image(number)
            if max(image.shape[:2]) > MAX_SIDE:
                size = f"{image.shape[1]}x{image.shape[0]}"
                raise BagError(
                    f"frame {number}: {size}, expected at most {MAX_SIDE} either way; wider ones: --max-width"
                )
            made = camera_messages(bag.store, image, stamp_ns, name, frame_id, encoding)
            for topic, message in made:
                bag.write(topic, message, stamp_ns)
            images = made[0][0]
    return images
