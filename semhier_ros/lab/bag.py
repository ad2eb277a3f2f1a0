"""Bags of camera images, written and read with `rosbags` (MCAP; SQLite can be read too), without ROS 2."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Qos
from rosbags.interfaces.typing import Typesdict
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from semhier_ros.lab.footage import FootageError, VideoFrame, read_video
from semhier_ros.whole_file import replacing

NANOSECONDS = 1_000_000_000
DEFAULT_START_NS = 1_700_000_000 * NANOSECONDS
"""Stamp of the first frame of a bag made from a video, which knows no date: 14 November 2023, 22:13:20 UTC."""
IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
MESSAGE_PACKAGE = "semhier_ros"


class BagError(ValueError):
    """A bag that cannot be written or read as asked; the message names it and what it lacks."""


@dataclass(frozen=True, slots=True)
class BagSummary:
    """What `bag_from_video` wrote: `frames` images of width x height pixels on `topic`, over `duration_ns`."""

    path: Path
    topic: str
    message_type: str
    frames: int
    width: int
    height: int
    duration_ns: int


@dataclass(frozen=True, slots=True)
class CameraFrame:
    """One image of a bag: `stamp_ns` of its header, `time_ns` when it was recorded, `image` HxWx3 uint8 RGB."""

    topic: str
    stamp_ns: int
    time_ns: int
    frame_id: str
    image: np.ndarray


def bag_from_video(
    video: Path,
    out: Path,
    *,
    camera: str = "camera",
    frame_id: str = "camera_optical_frame",
    encoding: str = "jpeg",
    jpeg_quality: int = 95,
    frames_per_second: float | None = None,
    seconds: float | None = None,
    loops: int = 1,
    max_width: int | None = None,
    start_ns: int = DEFAULT_START_NS,
    progress: Callable[[int], None] | None = None,
) -> BagSummary:
    """Write the frames of `video` as an MCAP bag of one camera; an existing bag at `out` is replaced.

    Args:
        video: any file that OpenCV decodes.
        out: folder of the bag (rosbag2 version 9: metadata.yaml and one .mcap).
        camera: topics are `/<camera>/image_raw/compressed` (or `/<camera>/image_raw`) and `/<camera>/camera_info`.
        frame_id: header.frame_id of every message.
        encoding: "jpeg" and "png" write sensor_msgs/CompressedImage, "rgb8" and "bgr8" sensor_msgs/Image.
        jpeg_quality: 1 to 100, only with "jpeg".
        frames_per_second: None keeps every frame at its own time; else frames are left out so that at most this many
            remain in a second. No frame is moved in time.
        seconds: only the first so many seconds of the video; None for all.
        loops: how often the video is repeated, one after the other.
        max_width: wider frames are scaled down to so many pixels (at least 16); None keeps their size.
        start_ns: header stamp and log time of the first frame, ns since 1970. The same arguments give the same bytes.
        progress: called with the number of frames written so far.

    Fields of CompressedImage: `header.stamp` = time_ns of the frame after `start_ns`; `format` "rgb8; jpeg compressed
    bgr8" as image_transport writes it; `data` the file bytes. Of Image: `step` = 3 * width, `is_bigendian` 0.
    Of CameraInfo: size and an ideal pinhole without distortion whose focal length equals the width (a video file knows
    no calibration: do not measure with it), one per image with the same header.

    Raises:
        BagError: an argument is out of its range, or `out` exists and is no bag.
        FootageError: the video cannot be read.
    """
    if encoding not in ("jpeg", "png", "rgb8", "bgr8"):
        raise BagError(f"encoding: {encoding!r}, one of jpeg, png, rgb8, bgr8 expected")
    if not 1 <= jpeg_quality <= 100:
        raise BagError(f"jpeg_quality: {jpeg_quality}, 1 to 100 expected")
    if frames_per_second is not None and not 0.01 <= frames_per_second <= 1000:
        raise BagError(f"frames_per_second: {frames_per_second}, 0.01 to 1000 expected")
    if seconds is not None and not seconds > 0:
        raise BagError(f"seconds: {seconds}, more than 0 expected")
    if not 1 <= loops <= 10_000:
        raise BagError(f"loops: {loops}, 1 to 10000 expected")
    if max_width is not None and max_width < 16:
        raise BagError(f"max_width: {max_width}, at least 16 expected")
    compressed = encoding in ("jpeg", "png")
    topic = f"/{camera.strip('/')}/image_raw" + ("/compressed" if compressed else "")
    store = get_typestore(Stores.ROS2_JAZZY)
    message_type = IMAGE_TYPES[1] if compressed else IMAGE_TYPES[0]
    count, width, height, last_ns = 0, 0, 0, 0
    with whole_bag(out) as writer:
        images = writer.add_connection(topic, message_type, typestore=store)
        infos = writer.add_connection(
            f"/{camera.strip('/')}/camera_info", "sensor_msgs/msg/CameraInfo", typestore=store
        )
        for frame in _repeat(video, loops, seconds, frames_per_second):
            stamp_ns = start_ns + frame.time_ns
            picture = at_most(frame.image, max_width)
            height, width = picture.shape[:2]
            header = _header(store.types, stamp_ns, frame_id)
            image = _image_message(store.types, header, picture, encoding, jpeg_quality)
            info = _camera_info(store.types, header, width, height)
            writer.write(images, stamp_ns, store.serialize_cdr(image, message_type))
            writer.write(infos, stamp_ns, store.serialize_cdr(info, "sensor_msgs/msg/CameraInfo"))
            count, last_ns = count + 1, frame.time_ns
            if progress:
                progress(count)
    if not count:
        raise FootageError(f"{video}: no frame within the first {seconds} s")
    return BagSummary(out, topic, message_type, count, width, height, last_ns)


def at_most(image: np.ndarray, max_width: int | None) -> np.ndarray:
    """`image`, scaled down to `max_width` pixels if it is wider."""
    height, width = image.shape[:2]
    if max_width is None or width <= max_width:
        return image
    return cv2.resize(image, (max_width, max(1, round(height * max_width / width))), interpolation=cv2.INTER_AREA)


@contextmanager
def whole_bag(out: Path) -> Iterator[Writer]:
    """A new MCAP bag, which is at `out` once it is whole; an old one stays until then.

    Raises BagError when something else is at `out`, and OSError (with `out` as its file) when the disk is full.
    """
    if out.exists() and not (out / "metadata.yaml").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise BagError(f"{out}: exists and is no bag, so it is not replaced; name another path")
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as part:
        with Writer(part / out.name, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            yield writer
        for file in (part / out.name).iterdir():  # the bag's files are named after its folder
            file.rename(part / file.name)
        (part / out.name).rmdir()


def _repeat(video: Path, loops: int, seconds: float | None, rate: float | None) -> Iterator[VideoFrame]:
    """The frames to write, thinned to `rate`, one loop after the other with the clip's own frame distance between."""
    offset, due = 0, 0.0
    for _ in range(loops):
        last, step = 0, 40_000_000
        for frame in read_video(video):
            if seconds is not None and frame.time_ns >= seconds * NANOSECONDS:
                break
            step = frame.time_ns - last or step
            last = frame.time_ns
            now = offset + frame.time_ns
            if rate is not None:
                if now + step / 2 < due:
                    continue
                due = max(due + NANOSECONDS / rate, float(now))
            yield VideoFrame(now, frame.image)
        offset += last + step


def camera_messages(
    types: Any, image: np.ndarray, stamp_ns: int, camera: str, frame_id: str, encoding: str = "jpeg"
) -> list[tuple[str, Any]]:
    """(topic, message) of one camera picture (H,W,3 RGB): the image as in `bag_from_video` and its CameraInfo."""
    height, width = image.shape[:2]
    header = _header(types, stamp_ns, frame_id)
    name = camera.strip("/")
    topic = f"/{name}/image_raw" + ("/compressed" if encoding in ("jpeg", "png") else "")
    return [
        (topic, _image_message(types, header, image, encoding, 95)),
        (f"/{name}/camera_info", _camera_info(types, header, width, height)),
    ]


def _header(types: Any, stamp_ns: int, frame_id: str) -> Any:
    stamp = types["builtin_interfaces/msg/Time"](sec=stamp_ns // NANOSECONDS, nanosec=stamp_ns % NANOSECONDS)
    return types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id)


def _image_message(types: Any, header: Any, image: np.ndarray, encoding: str, quality: int) -> Any:
    height, width = image.shape[:2]
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    if encoding in ("jpeg", "png"):
        options = [cv2.IMWRITE_JPEG_QUALITY, quality] if encoding == "jpeg" else [cv2.IMWRITE_PNG_COMPRESSION, 1]
        good, data = cv2.imencode("." + encoding.replace("jpeg", "jpg"), bgr, options)
        if not good:
            raise BagError(f"OpenCV could not encode {width}x{height} pixels as {encoding}")
        return types[IMAGE_TYPES[1]](header=header, format=f"rgb8; {encoding} compressed bgr8", data=data.reshape(-1))
    pixels = bgr if encoding == "bgr8" else image
    return types[IMAGE_TYPES[0]](
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=3 * width,
        data=np.ascontiguousarray(pixels).reshape(-1),
    )


def _camera_info(types: Any, header: Any, width: int, height: int) -> Any:
    focal, cx, cy = float(width), width / 2, height / 2
    return types["sensor_msgs/msg/CameraInfo"](
        header=header,
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=np.array([focal, 0, cx, 0, focal, cy, 0, 0, 1.0]),
        r=np.eye(3).reshape(-1),
        p=np.array([focal, 0, cx, 0, 0, focal, cy, 0, 0, 0, 1.0, 0]),
        binning_x=0,
        binning_y=0,
        roi=types["sensor_msgs/msg/RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
    )


def read_frames(bag: Path, topic: str | None = None) -> Iterator[CameraFrame]:
    """The images of one camera topic of a bag, in recording order.

    `topic`: None takes the bag's only image topic. Encodings: rgb8, bgr8, rgba8, bgra8, mono8, and whatever OpenCV
    decodes in CompressedImage. Raises BagError when there is no such topic, several and none named, or an image is of
    another encoding or broken.
    """
    with AnyReader([bag]) as reader:
        cameras = [c for c in reader.connections if c.msgtype in IMAGE_TYPES]
        wanted = [c for c in cameras if topic in (None, c.topic)]
        names = sorted({c.topic for c in cameras})
        if len({c.topic for c in wanted}) != 1:
            asked = "name one" if topic is None else f"{topic!r} asked for"
            raise BagError(f"{bag}: image topics {names or 'none'}; {asked}")
        for connection, time_ns, raw in reader.messages(wanted):
            message: Any = reader.deserialize(raw, connection.msgtype)
            where = f"{bag}: {connection.topic} at {time_ns} ns"
            yield CameraFrame(
                connection.topic, stamp_of(message), time_ns, message.header.frame_id, image_of(message, where)
            )


def stamp_of(message: Any) -> int:
    """The header stamp of a deserialised message in ns."""
    return int(message.header.stamp.sec) * NANOSECONDS + int(message.header.stamp.nanosec)


def image_of(message: Any, where: str = "image") -> np.ndarray:
    """HxWx3 uint8 RGB pixels of a deserialised Image or CompressedImage. Raises BagError, naming `where`."""
    if not hasattr(message, "encoding"):
        bgr = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
        if bgr is None:
            raise BagError(f"{where}: {len(message.data)} bytes of format {message.format!r} that OpenCV cannot decode")
        return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    channels = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}.get(message.encoding)
    if channels is None:
        raise BagError(f"{where}: encoding {message.encoding!r}, one of rgb8, bgr8, rgba8, bgra8, mono8 expected")
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = np.frombuffer(message.data, np.uint8)
    if step < width * channels or data.size < step * height or not width or not height:
        raise BagError(f"{where}: {width}x{height} {message.encoding}, step {step}, does not fit {data.size} bytes")
    rows = data[: step * height].reshape(height, step)[:, : width * channels]
    pixels = rows.reshape(height, width, channels)
    if channels == 1:
        return np.repeat(pixels, 3, axis=2)
    rgb = pixels[..., :3]
    return np.ascontiguousarray(rgb[..., ::-1] if message.encoding.startswith("bgr") else rgb)


def message_store() -> Any:
    """A rosbags type store that knows ROS 2's own messages and those of this package (from its .msg files).

    Raises BagError when the .msg files are neither in the source tree nor installed.
    """
    store = get_typestore(Stores.ROS2_JAZZY)
    types: Typesdict = {}
    for path in sorted(_message_folder().glob("*.msg")):
        types.update(get_types_from_msg(path.read_text(encoding="utf-8"), f"{MESSAGE_PACKAGE}/msg/{path.stem}"))
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


class BagWriter:
    """An MCAP bag to which messages of ROS 2 and of this package are written; a context manager.

    What `whole_bag` says of the bag holds here.
    """

    def __init__(self, path: Path) -> None:
        self.store = message_store()
        self._whole = whole_bag(path)
        self._connections: dict[str, Any] = {}

    def __enter__(self) -> BagWriter:
        self._writer = self._whole.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._whole.__exit__(kind, error, trace)

    def add(self, topic: str, message_type: str, *, qos: tuple[Qos, ...] = ()) -> None:
        """Announce a topic; `write` does it by itself for topics without QoS of their own."""
        self._connections[topic] = self._writer.add_connection(
            topic, message_type, typestore=self.store, offered_qos_profiles=list(qos)
        )

    def write(self, topic: str, message: Any, time_ns: int) -> None:
        """Store one message (an object of `self.store.types`) with its log time."""
        if topic not in self._connections:
            self.add(topic, message.__msgtype__)
        connection = self._connections[topic]
        self._writer.write(connection, time_ns, self.store.serialize_cdr(message, connection.msgtype))


__all__ = [
    "BagError",
    "BagSummary",
    "BagWriter",
    "CameraFrame",
    "bag_from_video",
    "image_of",
    "message_store",
    "read_frames",
    "stamp_of",
]
