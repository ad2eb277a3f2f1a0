"""Cameras out of bags (and plain videos): frames with times of one clock, pixels on demand, little memory.

A bag is a folder with metadata.yaml, a single .mcap or .db3 file, or a folder of such files. The *run time* of a frame
is when it was recorded, counted from the run's first frame, with the recorder's clock jumps taken out: a step back, or
a step forward of more than a minute, counts as one usual distance between frames. Gaps of less stay.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from semhier_ros.lab.bag import IMAGE_TYPES, BagError, at_most, image_of, message_store, stamp_of
from semhier_ros.lab.footage import read_video
from semhier_ros.lab.replay.mcap_file import BagDamage, Channel, McapFile, Place
from semhier_ros.lab.replay.sqlite_file import SqliteFile
from semhier_ros.lab.streams.store import Store

JUMP_SECONDS = 60.0
HELD_IMAGES = 8
VIDEO_ENDS = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v")


@dataclass(slots=True)
class _Entry:
    file: int
    place: Place
    log_ns: int
    stamp_ns: int
    key: str


class BagCamera:
    """One image topic of a bag, a `TimedCamera`. `stamps_ns`: the headers' stamps; `frame_id` of the first header."""

    def __init__(self, topic: str, kind: str, bag: Bag) -> None:
        self.topic, self.kind, self.bag = topic, kind, bag
        self.name = topic.strip("/").removesuffix("/compressed").removesuffix("/image_raw") or "camera"
        self.size = (0, 0)
        self.frame_id = ""
        self.entries: list[_Entry] = []
        self.times_ns: list[int] = []
        self._held: OrderedDict[int, np.ndarray] = OrderedDict()

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def stamps_ns(self) -> list[int]:
        """Header stamps, ns since 1970 (or whatever the bag's clock was)."""
        return [entry.stamp_ns for entry in self.entries]

    def key(self, number: int) -> str:
        """SHA-1 of the message's image data."""
        return self.entries[number].key

    def image(self, number: int) -> np.ndarray:
        """The pixels, H,W,3 RGB; frames of another size than the first are brought to it."""
        held = self._held.get(number)
        if held is None:
            held = self._held[number] = self.bag.image(self, number)
            if len(self._held) > HELD_IMAGES:
                self._held.popitem(last=False)
        return held


class VideoCamera:
    """A video file as a camera; frames that are asked for in order are decoded once, and not at all where `store`
    knows the file's times and nothing asks for pixels."""

    def __init__(
        self,
        path: Path,
        *,
        seconds: float | None = None,
        rate: float | None = None,
        width: int = 1280,
        store: Store | None = None,
    ):
        self.path, self._width = path, width
        self.topic, self.name, self.kind, self.frame_id = str(path.name), "camera", "video", "camera_optical_frame"
        digest = hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()[:20]
        self.times_ns: list[int] = []
        self._places: list[int] = []
        due = 0.0
        made = (store or Store()).made("video", f"{digest} {width}", lambda: _index_of(path, width))
        self.size = (made[0][0], made[0][1])
        for place, time_ns in enumerate(made[1]):
            if seconds is not None and time_ns >= seconds * 1e9:
                break
            if rate is None or time_ns + 1e6 >= due:
                self.times_ns.append(time_ns)
                self._places.append(place)
                due = max(due + 1e9 / rate, float(time_ns)) if rate else 0.0
        self.stamps_ns = list(self.times_ns)
        self._digest = f"{digest} {self.size}"
        self._frames: Any = None
        self._next = 0
        self._held: OrderedDict[int, np.ndarray] = OrderedDict()

    def __len__(self) -> int:
        return len(self.times_ns)

    def key(self, number: int) -> str:
        """The file's SHA-1 and the frame's number in it."""
        return f"{self._digest} {self._places[number]}"

    def image(self, number: int) -> np.ndarray:
        """The pixels, H,W,3 RGB."""
        place = self._places[number]
        if place in self._held:
            return self._held[place]
        if self._frames is None or place < self._next:
            self._frames, self._next = read_video(self.path), 0
        while True:
            frame = next(self._frames)
            self._next += 1
            if self._next > place:
                break
        self._held[place] = image = at_most(frame.image, self._width)
        if len(self._held) > HELD_IMAGES:
            self._held.popitem(last=False)
        return image


def _index_of(path: Path, width: int) -> list[list[int]]:
    """(width, height) of a video's frames and their times in ns."""
    times = []
    size: list[int] = []
    for frame in read_video(path):
        if not size:
            first = at_most(frame.image, width)
            size = [int(first.shape[1]), int(first.shape[0])]
        times.append(int(frame.time_ns))
    return [size, times]


@dataclass(slots=True)
class Bag:
    """What a bag holds. `cameras` with at least one frame; `problems` in words; `topics`: topic -> (type, messages of
    those that were looked at)."""

    path: Path
    cameras: list[BagCamera] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    topics: dict[str, str] = field(default_factory=dict)
    files: list[McapFile | SqliteFile] = field(default_factory=list)
    store: Any = None

    def image(self, camera: BagCamera, number: int) -> np.ndarray:
        """Pixels of a frame. Raises BagError when it can no longer be read."""
        entry = camera.entries[number]
        try:
            data = self.files[entry.file].at(entry.place)
            message = self.store.deserialize_cdr(data, camera.kind)
        except BagDamage as error:
            raise BagError(str(error)) from error
        image = image_of(message, f"{self.path}: {camera.topic} at {entry.log_ns} ns")
        if image.shape[1::-1] != camera.size:
            import cv2

            image = cv2.resize(image, camera.size, interpolation=cv2.INTER_AREA)
        return image

    def close(self) -> None:
        """Lets go of the files."""
        for file in self.files:
            file.close()


def bag_files(path: Path) -> list[Path]:
    """The storage files of a bag, in order. Raises BagError."""
    if path.is_file():
        if path.suffix == ".bag":
            raise BagError(f"{path}: a ROS 1 bag; convert it first: `rosbags-convert --src {path.name} --dst folder`")
        return [path]
    if not path.is_dir():
        raise BagError(f"{path}: no such bag; an MCAP or SQLite3 file, or the folder of one, expected")
    found = sorted([*path.glob("*.mcap"), *path.glob("*.db3")], key=_natural)
    if not found:
        raise BagError(f"{path}: holds no .mcap and no .db3 file")
    return found


def _natural(path: Path) -> tuple[str, int]:
    head, _, number = path.stem.rpartition("_")
    return (head, int(number)) if number.isdigit() else (path.stem, -1)


def open_bag(
    path: Path,
    topics: Sequence[str] = (),
    *,
    seconds: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> Bag:
    """The cameras of a bag: all image topics, or those in `topics`; of each the first `seconds` of run time.

    Raises BagError, naming what there is, when no wanted image topic has a frame that can be read.
    """
    bag = Bag(path, store=message_store())
    cameras: dict[str, BagCamera] = {}
    asked = {"/" + topic.strip("/") for topic in topics}

    def wants(channel: Channel) -> bool:
        bag.topics[channel.topic] = channel.kind
        if channel.kind not in IMAGE_TYPES or (asked and channel.topic not in asked):
            return False
        return channel.encoding == "cdr"

    bad: dict[str, int] = {}
    count = 0
    for file in bag_files(path):
        try:
            opened = SqliteFile(file) if file.suffix == ".db3" else McapFile(file)
        except (BagDamage, OSError) as error:
            bag.problems.append(str(error))
            continue
        bag.files.append(opened)
        place_of_file = len(bag.files) - 1
        for channel, log_ns, place, data in opened.messages(wants):
            camera = cameras.setdefault(channel.topic, BagCamera(channel.topic, channel.kind, bag))
            problem = _take(bag, camera, place_of_file, place, log_ns, data)
            if problem:
                bad[problem] = bad.get(problem, 0) + 1
            count += 1
            if progress and count % 50 == 0:
                progress(count)
        bag.problems += [f"{file.name}: {text}" for text in opened.problems]
        bag.topics |= {channel.topic: channel.kind for channel in opened.channels.values()}
    bag.problems += [f"{text} ({times} messages left out)" for text, times in bad.items()]
    bag.cameras = [camera for _, camera in sorted(cameras.items()) if len(camera)]
    if not bag.cameras:
        held = ", ".join(f"{topic} ({kind})" for topic, kind in sorted(bag.topics.items())[:12]) or "nothing"
        more = f" and {len(bag.topics) - 12} more" if len(bag.topics) > 12 else ""
        what = f"no frame of {', '.join(sorted(asked))}" if asked else "no camera image"
        because = f": {bag.problems[0]}" if bag.problems else ""
        raise BagError(f"{path}: {what} that can be read{because}; it holds {held}{more}")
    _set_times(bag, seconds)
    return bag


def _take(bag: Bag, camera: BagCamera, file: int, place: Place, log_ns: int, data: bytes) -> str:
    """Adds a frame; returns what is wrong with it, "" when nothing is."""
    try:
        message: Any = bag.store.deserialize_cdr(data, camera.kind)
        stamp_ns, raw = stamp_of(message), message.data
        if not len(camera):
            image = image_of(message, camera.topic)
            camera.size = (int(image.shape[1]), int(image.shape[0]))
            camera.frame_id = message.header.frame_id
        elif camera.kind == IMAGE_TYPES[0]:
            image_of(message, camera.topic)
        elif not len(raw):
            raise BagError(f"{camera.topic}: an empty image")
    except BagError as error:
        return str(error)
    except Exception as error:  # whatever a damaged message makes of the deserialiser
        return f"{camera.topic}: a message that cannot be read ({type(error).__name__})"
    key = hashlib.sha1(np.ascontiguousarray(raw).data, usedforsecurity=False).hexdigest()
    camera.entries.append(_Entry(file, place, log_ns, stamp_ns, key))
    return ""


def _set_times(bag: Bag, seconds: float | None) -> None:
    """Run times of all cameras from their log times, jumps taken out; and what was found."""
    offset = min(camera.entries[0].log_ns for camera in bag.cameras)
    for camera in bag.cameras:
        logs = [entry.log_ns for entry in camera.entries]
        steps = [later - earlier for earlier, later in itertools.pairwise(logs)]
        usual = [step for step in steps if 0 < step <= JUMP_SECONDS * 1e9]
        distance = round(median(usual)) if usual else 40_000_000
        now, times, jumps = max(0, logs[0] - offset), [], 0
        if now > JUMP_SECONDS * 1e9:
            now, jumps = 0, 1
        times.append(now)
        for step in steps:
            if not 0 < step <= JUMP_SECONDS * 1e9:
                jumps += int(step != 0)
                step = distance
            now += step
            times.append(now)
        if jumps:
            bag.problems.append(f"{camera.topic}: the clock jumps {jumps} times; taken as one usual frame distance")
        if seconds is not None:
            count = sum(time < seconds * 1e9 for time in times)
            times, camera.entries = times[:count], camera.entries[:count]
        camera.times_ns = times
    bag.cameras = [camera for camera in bag.cameras if len(camera)]


def open_footage(
    path: Path,
    topics: Sequence[str] = (),
    *,
    seconds: float | None = None,
    rate: float | None = None,
    store: Store | None = None,
) -> tuple[list[Any], list[str]]:
    """(cameras, problems) of a bag or, for people without one, of a video file. Raises BagError or FootageError."""
    if path.suffix.lower() in VIDEO_ENDS:
        return [VideoCamera(path, seconds=seconds, rate=rate, store=store)], []
    bag = open_bag(path, topics, seconds=seconds)
    return list(bag.cameras), bag.problems
