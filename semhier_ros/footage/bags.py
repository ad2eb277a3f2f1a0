"""Cameras out of bags (and plain videos): frames with times of one clock, pixels on demand, little memory.

A bag is a folder with metadata.yaml, a single .mcap or .db3 file, or a folder of such files. The *run time* of a frame
is when it was recorded, counted from the run's first frame, with the recorder's clock jumps taken out: a step back, or
a step forward of more than a minute, counts as one usual distance between frames. Gaps of less stay.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import yaml

from semhier_ros.camera.images import is_cut_off, is_dim
from semhier_ros.footage.messages import (
    IMAGE_TYPES,
    BagError,
    BagWriter,
    image_of,
    is_latched,
    message_store,
    stamp_of,
)
from semhier_ros.footage.storage import BagDamage, BagFile, Channel, Place, Wants, open_file
from semhier_ros.footage.video import HELD_IMAGES, PICTURE_SUFFIXES, VIDEO_SUFFIXES, Remember, VideoCamera

MOST_LATCHED = 1000
"""Messages of latched topics that are carried over a cut."""
STORAGE = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd")
JUMP_SECONDS = 60.0
DISORDER_SECONDS = 1.0
"""By so much messages of several topics may stand in a bag before earlier ones."""


@dataclass(slots=True)
class _Entry:
    """A frame that can be read: its `number` among all of its topic, its file and where in it, log time, header's
    stamp, and what names its content."""

    number: int
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
        self.resized = 0
        """Raw frames of another size than the first's."""
        self.entries: list[_Entry] = []
        self.frame_count = 0
        """Frames of the whole bag, of which `seconds` may have cut some off, and some may not be read."""
        self.info: Any = None
        """The CameraInfo that counts in place of the bag's: of a bag that was made of this footage, the footage's."""
        self.source_size: tuple[int, int] | None = None
        """Of a bag that was made of other footage, (width, height) of that; None where its pictures are as taken."""
        self.times_ns: list[int] = []
        self._image = lru_cache(HELD_IMAGES)(self._read)
        self._dim = False

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def stamps_ns(self) -> list[int]:
        """Header stamps, ns since 1970 (or whatever the bag's clock was)."""
        return [entry.stamp_ns for entry in self.entries]

    @property
    def frame_numbers(self) -> Sequence[int]:
        """Each frame's number in the whole bag; one that cannot be read has a number too."""
        return [entry.number for entry in self.entries]

    def key(self, number: int) -> str:
        """SHA-1 of the message's image data."""
        return self.entries[number].key

    def image(self, number: int) -> np.ndarray:
        """The pixels, H,W,3 RGB; frames of another size than the first are brought to it. Raises BagError when the
        frame can no longer be read."""
        return self._image(number)

    def _read(self, number: int) -> np.ndarray:
        entry = self.entries[number]
        try:
            message = self.bag.store.deserialize_cdr(self.bag.files[entry.file].at(entry.place), self.kind)
        except BagDamage as error:
            raise BagError(str(error)) from error
        image = image_of(message, f"{self.bag.path}: {self.topic} at {entry.log_ns} ns")
        if image.shape[1::-1] == self.size:
            return image
        return cv2.resize(image, self.size, interpolation=cv2.INTER_AREA)

    def take(self, file: int, place: Place, log_ns: int, data: bytes) -> str:
        """Adds the topic's next frame; returns what is wrong with it, "" when nothing is."""
        number, self.frame_count = self.frame_count, self.frame_count + 1
        try:
            message: Any = self.bag.store.deserialize_cdr(data, self.kind)
            stamp_ns, raw = stamp_of(message), message.data
            if not len(self):
                image = image_of(message, self.topic)
                self.size, self.frame_id = (int(image.shape[1]), int(image.shape[0])), message.header.frame_id
            elif self.kind == IMAGE_TYPES[0]:
                if image_of(message, self.topic).shape[1::-1] != self.size:
                    self.resized += 1
            elif not len(raw):
                raise BagError(f"{self.topic}: an empty image")
            elif is_cut_off(bytes(raw)):
                raise BagError(f"{self.topic}: an image that is cut off")
        except BagError as error:
            return str(error)
        except Exception as error:  # whatever a damaged message makes of the deserialiser
            return f"{self.topic}: a message that cannot be read ({type(error).__name__})"
        if not self._dim and (self.kind == IMAGE_TYPES[0] or len(self) == 0) and is_dim(message):
            self._dim = True
            what = message.encoding if self.kind == IMAGE_TYPES[0] else message.format
            self.bag.problems.append(f"{self.topic}: {what} uses its low 12 bits only: nearly black")
        self.entries.append(_Entry(number, file, place, log_ns, stamp_ns, image_key(message)))
        return ""


def image_key(message: Any) -> str:
    """SHA-1 of all of an image message that its pixels depend on: data, and how they are to be read. It stays the same
    when a player rewrites the stamp."""
    digest = hashlib.sha1(np.ascontiguousarray(message.data).data, usedforsecurity=False)
    fields = ("encoding", "format", "width", "height", "step", "is_bigendian")
    digest.update(repr([getattr(message, name, None) for name in fields]).encode())
    return digest.hexdigest()


@dataclass(slots=True)
class Bag:
    """What a bag holds. `cameras` with at least one frame; `problems` in words; `topics`: topic -> type of those that
    were looked at."""

    path: Path
    cameras: list[BagCamera] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    topics: dict[str, str] = field(default_factory=dict)
    files: list[BagFile] = field(default_factory=list)
    store: Any = None

    def close(self) -> None:
        """Lets go of the files."""
        for file in self.files:
            file.close()


def bag_files(path: Path, problems: list[str]) -> Iterator[BagFile]:
    """The storage files of a bag, opened, in order; those that are none are named in `problems`. Raises BagError."""
    if path.name == "metadata.yaml" and path.is_file():
        path = path.parent
    if path.is_file():
        if path.suffix == ".bag":
            raise BagError(f"{path}: a ROS 1 bag; convert it first: `rosbags-convert --src {path.name} --dst folder`")
        found = [path]
    elif not path.is_dir():
        raise BagError(f"{path}: no such bag; an MCAP or SQLite3 file, or the folder of one, expected")
    else:
        found = [file for ending in STORAGE for file in path.glob(f"[!.]*{ending}")]
        plain = {file.with_suffix("") for file in found if file.suffix == ".zstd"} & set(found)
        found = sorted((file for file in found if file.with_suffix("") not in plain), key=_natural)
        found = _listed_first(found, path / "metadata.yaml", problems)
    if not found and any(file.suffix.lower() in PICTURE_SUFFIXES for file in path.iterdir()):
        raise BagError(f"{path}: holds pictures; make a bag of them first: `semhier bag from-images {path} --out bag`")
    if not found:
        raise BagError(f"{path}: holds no {' or '.join(STORAGE[:2])} file")
    for file in found:
        try:
            yield open_file(file)
        except (BagDamage, OSError) as error:
            problems.append(str(error))


def _natural(path: Path) -> tuple[str, int]:
    stem = path.name.partition(".")[0]
    head, _, number = stem.rpartition("_")
    return (head, int(number)) if number.isdigit() else (stem, -1)


def _listed_first(found: list[Path], metadata: Path, problems: list[str]) -> list[Path]:
    """The files of a bag in the order of its metadata, then what was recorded after that (of the same name with
    a later number). What else lies in the folder, a copy say, is told and not read. Without metadata all."""
    try:
        said = yaml.safe_load(metadata.read_text(encoding="utf-8-sig"))["rosbag2_bagfile_information"]
        names = [Path(str(name)).name for name in said["relative_file_paths"]]
        kind = str(said.get("compression_format") or "zstd")
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return found
    if kind != "zstd":
        problems.append(f"{metadata.name}: compression {kind!r}, only zstd can be read")
    by_name = {file.name.removesuffix(".zstd"): file for file in found}
    listed = [by_name[name] for name in dict.fromkeys(one.removesuffix(".zstd") for one in names) if name in by_name]
    if not listed:  # the bag was renamed with its files
        return found
    for name in names:
        if name.removesuffix(".zstd") not in by_name:
            problems.append(f"{name} is missing, which {metadata.name} names")
    last, later = _natural(listed[-1]), []
    for file in found:
        if file in listed:
            continue
        if _natural(file)[0] == last[0] and _natural(file)[1] > last[1]:
            later.append(file)
        else:
            problems.append(
                f"{file.name} is not named in {metadata.name}, and not read; name the file itself to read it"
            )
    return listed + later


def raw_messages(path: Path, wants: Wants, problems: list[str]) -> Iterator[tuple[Channel, int, bytes]]:
    """(channel, log time in ns, bytes) of every wanted message of a bag, in order; what cannot be read goes to
    `problems`. Raises BagError."""
    for file in bag_files(path, problems):
        try:
            yield from ((channel, log_ns, data) for channel, log_ns, _, data in file.messages(wants))
        finally:
            problems += file.problems
            file.close()


def open_bag(path: Path, topics: Sequence[str] = (), *, seconds: float | None = None) -> Bag:
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

    bad: Counter[str] = Counter()
    for opened in bag_files(path, bag.problems):
        bag.files.append(opened)
        for channel, log_ns, place, data in opened.messages(wants):
            camera = cameras.setdefault(channel.topic, BagCamera(channel.topic, channel.kind, bag))
            if problem := camera.take(len(bag.files) - 1, place, log_ns, data):
                bad[problem] += 1
        bag.problems += [f"{opened.path.name}: {text}" for text in opened.problems]
        bag.topics |= {channel.topic: channel.kind for channel in opened.channels.values()}
    bag.problems += [f"{text} ({times} messages left out)" for text, times in bad.items()]
    bag.problems += [
        f"{camera.topic}: {camera.resized} frames of another size, brought to the first's"
        for camera in cameras.values()
        if camera.resized
    ]
    bag.cameras = [camera for _, camera in sorted(cameras.items()) if len(camera)]
    for camera in distinct(bag.cameras):
        camera.name = camera.topic.strip("/")
    if not bag.cameras:
        held = ", ".join(f"{topic} ({kind})" for topic, kind in sorted(bag.topics.items())[:12]) or "nothing"
        more = f" and {len(bag.topics) - 12} more" if len(bag.topics) > 12 else ""
        what = f"no frame of {', '.join(sorted(asked))}" if asked else "no camera image"
        because = f": {bag.problems[0]}" if bag.problems else ""
        raise BagError(f"{path}: {what} that can be read{because}; it holds {held}{more}")
    _set_times(bag, seconds)
    return bag


def distinct(cameras: Sequence[Any]) -> list[Any]:
    """Those cameras whose name an earlier one has: pictures of one camera that were recorded raw and compressed, or of
    several bags."""
    taken: set[str] = set()
    again = []
    for camera in cameras:
        if camera.name in taken:
            again.append(camera)
        taken.add(camera.name)
    return again


def _spread(logs: list[int]) -> int:
    """Spreads log times that are the same over the time to the next later one; how many frames it was. Those at the end
    stay, and those before a jump."""
    doubled = start = 0
    for place in range(1, len(logs)):
        if logs[place] == logs[start]:
            continue
        count, step = place - start, logs[place] - logs[start]
        if count > 1 and 0 < step <= JUMP_SECONDS * 1e9:
            logs[start:place] = [logs[start] + step * own // count for own in range(count)]
            doubled += count - 1
        start = place
    return doubled


def _set_times(bag: Bag, seconds: float | None) -> None:
    """Run times of all cameras from their log times, jumps taken out; and what was found."""
    offset = min(camera.entries[0].log_ns for camera in bag.cameras)
    for camera in bag.cameras:
        logs = [entry.log_ns for entry in camera.entries]
        if len(logs) > 1 and min(logs) == max(logs):
            stamps = camera.stamps_ns
            if all(earlier < later for earlier, later in pairwise(stamps)):
                logs = [stamp - stamps[0] + logs[0] for stamp in stamps]
                bag.problems.append(f"{camera.topic}: all frames have one log time; their stamps are taken")
            else:
                bag.problems.append(f"{camera.topic}: all frames have one log time; taken as 25 a second")
        if doubled := _spread(logs):
            bag.problems.append(f"{camera.topic}: {doubled} frames have the log time of the one before; spread evenly")
        steps = [later - earlier for earlier, later in pairwise(logs)]
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
    remember: Remember | None = None,
) -> tuple[list[Any], list[str]]:
    """(cameras, problems) of a bag or, for people without one, of a video file, of which `rate` frames a second are
    taken. Raises BagError or FootageError."""
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return [VideoCamera(path, seconds=seconds, rate=rate, remember=remember)], []
    bag = open_bag(path, topics, seconds=seconds)
    return list(bag.cameras), bag.problems


def camera_info_of(camera: Any) -> Any:
    """The first sensor_msgs/CameraInfo beside a camera's images in its bag, None where there is none."""
    if not isinstance(camera, BagCamera):
        return None
    if camera.info is not None:
        return camera.info
    topic = camera.topic.removesuffix("/compressed").rpartition("/")[0] + "/camera_info"
    kind = "sensor_msgs/msg/CameraInfo"
    for channel, _, data in raw_messages(camera.bag.path, lambda one: one.topic == topic and one.kind == kind, []):
        return camera.bag.store.deserialize_cdr(data, channel.kind)
    return None


class _RunClock:
    """Seconds since a bag's first message, whose log times are told one after another. A step back of more than
    DISORDER_SECONDS is a jump of the recorder's clock and takes no time; so is one forward of more than JUMP_SECONDS,
    unless `gaps`: then it is a gap."""

    def __init__(self, gaps: bool) -> None:
        self.jumps = 0
        self._gaps, self._start, self._newest = gaps, 0, 0
        self._told = False

    def seconds(self, log_ns: int) -> float:
        """When the next message came."""
        if not self._told:
            self._start = self._newest = log_ns
            self._told = True
        step = (log_ns - self._newest) / 1e9
        if step < -DISORDER_SECONDS or (step > JUMP_SECONDS and not self._gaps):
            self.jumps += 1
            self._start += log_ns - self._newest
            self._newest = log_ns
        self._newest = max(self._newest, log_ns)
        return max(0.0, (log_ns - self._start) / 1e9)


def cut_bag(
    source: Path, out: Path, begin: float, seconds: float, topics: Sequence[str], force: bool = False
) -> tuple[int, list[str]]:
    """Writes the messages of `source` from `begin` s after its first on, for `seconds`, byte for byte to a new bag.

    Time goes by the recorder's clock, whose jumps are taken out and said (`_RunClock`; of chosen topics a long gap is
    none). Qualities of service stay. Messages of latched topics (transient local: static transforms, maps) from before
    the part come first in it. force: an older bag at `out` is replaced.

    Topics of types that neither ROS 2 nor this package knows are left out and named. Returns (messages, what is worth
    saying). Raises BagError.
    """
    if begin < 0 or not seconds > 0:
        raise BagError(f"cut: from {begin:g} s for {seconds:g} s, from 0 on for more than 0 expected")
    asked = {"/" + topic.strip("/") for topic in topics}
    problems: list[str] = []
    unknown: set[str] = set()
    clock = _RunClock(gaps=bool(asked))
    read = count = 0
    latched: list[tuple[Channel, bytes]] = []
    with BagWriter(out, force, source) as bag:

        def wants(channel: Channel) -> bool:
            if asked and channel.topic not in asked:
                return False
            if channel.kind not in bag.store.fielddefs:
                unknown.add(f"{channel.topic} ({channel.kind}): a type that is not known here, left out")
                return False
            return channel.encoding == "cdr"

        for channel, time, data in raw_messages(source, wants, problems):
            read, now = read + 1, clock.seconds(time)
            if now < begin:
                if is_latched(channel.qos):  # whoever joins late still gets it: a static transform, a map
                    latched = [*latched[-MOST_LATCHED:], (channel, data)]
                continue
            if now >= begin + seconds:
                continue
            for earlier, held in latched:
                bag.write_raw(earlier.topic, earlier.kind, held, time, earlier.qos)
            count += len(latched) + 1
            latched = []
            bag.write_raw(channel.topic, channel.kind, data, time, channel.qos)
        if not count:
            if not read and topics:
                raise BagError(f"{source}: no message of {', '.join(sorted(asked))}")
            raise BagError(
                f"{source}: no message from {begin:g} s on" + (f" for {seconds:g} s" if seconds < 1e9 else "")
            )
    if clock.jumps:
        problems.append(f"the clock jumps {clock.jumps} times; taken as no time between two messages")
    return count, [*problems, *sorted(unknown)]
