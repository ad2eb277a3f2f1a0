"""From what was recorded to what the report shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from semhier_ros.codec.packet import Block, Packet, PacketError
from semhier_ros.codec.reading import Detection
from semhier_ros.lab.baselines.jpeg_stream import decode_jpeg
from semhier_ros.lab.drive import JpegDrive
from semhier_ros.lab.footage.bags import open_bag
from semhier_ros.lab.footage.recording import BlockArrival, ReadingArrival, Recording
from semhier_ros.lab.report.content import BlockKind, Moment, Step, StripFrame, TimelineRow, View
from semhier_ros.lab.scoring.agreement import Received, seen_at, streaming_precision

if TYPE_CHECKING:
    from semhier_ros.api import Codec

STRIP_FRAMES = 3
MOMENTS = 3
WEBP_QUALITY = 72


class Judge:
    """The same detector for everything: what the codec's own network reads on a picture, without any link."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def __call__(self, image: np.ndarray) -> tuple[Detection, ...]:
        """Detections of an HxWx3 uint8 RGB image after all semantic blocks."""
        return self.read(self._codec.encode(image, blocks=self._codec.semantic_blocks), image.shape[1], image.shape[0])

    def read(self, blocks: Sequence[Block], width: int, height: int) -> tuple[Detection, ...]:
        """Detections of semantic blocks of one frame; empty for none."""
        decoder = self._codec.decoder(image_size=(width, height))
        detections: tuple[Detection, ...] = ()
        for block in blocks[: self._codec.semantic_blocks]:
            reading = decoder.push(block)
            detections = reading.detections if reading else detections
        return detections


@dataclass(frozen=True, slots=True)
class CameraFrames:
    """The frames that the camera gave in a run: `images`, their times in the bag and their stamps (ns, wall clock).

    `heard`: how many of them the recorder saw itself; the stamps of the others follow from the bag's timing.
    """

    images: list[np.ndarray]
    bag_times: list[int]
    stamps: list[int]
    heard: int

    @property
    def zero_ns(self) -> int:
        """Wall-clock time at which the footage's first instant was shown."""
        return self.stamps[0] - self.bag_times[0]


def camera_frames(bag: Path, recording: Recording) -> CameraFrames:
    """The bag's frames with the stamps that they had when they were played.

    The recorder heard a subset, in order, perhaps not all.
    """
    (camera,) = open_bag(bag).cameras
    images, times = [camera.image(number) for number in range(len(camera))], camera.times_ns
    keys = [camera.key(number) for number in range(len(camera))]
    stamps: list[int | None] = [None] * len(images)
    place = 0
    for stamp in recording.frames:
        following = [index for index in range(place, len(keys)) if keys[index] == recording.frame_keys.get(stamp)]
        if following:
            stamps[following[0]] = stamp
            place = following[0] + 1
    known = [(stamp - time) for stamp, time in zip(stamps, times, strict=True) if stamp is not None]
    if not known:
        raise ValueError("the recorder saw none of the camera's frames")
    offset = sorted(known)[len(known) // 2]
    filled = [time + offset if stamp is None else stamp for stamp, time in zip(stamps, times, strict=True)]
    _correct(filled, [stamp is None for stamp in stamps], {item.stamp_ns for item in recording.readings})
    return CameraFrames(images, times, filled, len(known))


def _correct(stamps: list[int], guessed: list[bool], read: set[int]) -> None:
    """Puts what readings tell of stamps in the place of guesses: a busy player is late, and a reading whose frame
    nobody knows would count for nothing. A stamp is of the guess that is nearest, if within half a frame distance."""
    if len(stamps) < 2:
        return
    near = (stamps[-1] - stamps[0]) / (len(stamps) - 1) / 2
    for stamp in sorted(read - set(stamps)):
        index = min(range(len(stamps)), key=lambda place: abs(stamps[place] - stamp))
        if guessed[index] and abs(stamps[index] - stamp) < near:
            stamps[index], guessed[index] = stamp, False


def received_of(readings: Sequence[ReadingArrival]) -> list[Received]:
    """Readings as the agreement measures take them."""
    return [Received(item.stamp_ns, item.arrival_ns, item.level, item.detections) for item in readings]


def received_jpeg(
    drive: JpegDrive, images: Sequence[np.ndarray], judge: Judge, level: int, cost_ns: int
) -> list[Received]:
    """What the detector makes of every JPEG picture that arrived, `cost_ns` after it did."""
    height, width = images[0].shape[:2]
    result = []
    for item in drive.arrivals:
        image = decode_jpeg(item.data, width, height)
        found = () if image is None else judge(image)
        result.append(Received(item.stamp_ns, item.arrival_ns + cost_ns, level, found))
    return result


def timeline(recording: Recording, frames: CameraFrames, kinds: Sequence[BlockKind]) -> list[TimelineRow]:
    """Every frame's arrivals: the moment at which a reading had the block in it, ms after the camera's stamp. Blocks
    that name nothing count from the moment at which they and all before them were there: they may change no reading.
    """
    rows = []
    by_stamp = _by_stamp(recording.readings)
    blocks: dict[int, dict[str, int]] = {}
    for block in recording.blocks:
        blocks.setdefault(block.stamp_ns, {}).setdefault(block.name, block.arrival_ns)
    for stamp in frames.stamps:
        arrivals: dict[str, float] = {}
        for reading in by_stamp.get(stamp, ()):
            for kind in kinds[: reading.prefix + 1]:
                if kind.level is None or kind.level <= reading.level:
                    arrivals.setdefault(kind.name, (reading.arrival_ns - stamp) / 1e6)
        came, whole = blocks.get(stamp, {}), 0
        for kind in kinds if arrivals else ():
            if kind.name not in came:
                break
            whole = max(whole, came[kind.name])
            if kind.level is None:
                arrivals.setdefault(kind.name, (whole - stamp) / 1e6)
        rows.append(TimelineRow((stamp - frames.zero_ns) / 1e9, arrivals))
    return rows


def _by_stamp(readings: Sequence[ReadingArrival]) -> dict[int, list[ReadingArrival]]:
    result: dict[int, list[ReadingArrival]] = {}
    for reading in sorted(readings, key=lambda item: item.arrival_ns):
        result.setdefault(reading.stamp_ns, []).append(reading)
    return result


class Pictures:
    """Decodes pictures from the blocks that arrived, the very bytes that the recorder wrote down."""

    def __init__(self, codec: Codec, recording: Recording, width: int, height: int) -> None:
        self._codec, self._size = codec, (width, height)
        self._names = list(codec.block_names)
        self._blocks: dict[int, dict[int, BlockArrival]] = {}
        for block in recording.blocks:
            if block.name in self._names:
                held = self._blocks.setdefault(block.stamp_ns, {})
                held.setdefault(self._names.index(block.name), block)

    def steps(self, stamp: int, until_ns: int | None = None) -> list[tuple[Block, np.ndarray]]:
        """(block, picture after it) for each block of the frame, coarse first, as far as the prefix is complete."""
        held = self._blocks.get(stamp, {})
        decoder = self._codec.decoder(image_size=self._size)
        result = []
        for index in range(len(self._names)):
            arrival = held.get(index)
            if arrival is None or (until_ns is not None and arrival.arrival_ns > until_ns):
                break
            try:
                block = Packet.parse(arrival.packet).blocks[0]
                decoder.push(block)
                picture = decoder.picture(block.frame)
            except PacketError:
                break
            if picture is None:
                break
            result.append((block, picture))
        return result

    def whole_at(self, stamp: int, index: int) -> int:
        """When blocks 0..`index` of a frame, all of which arrived, were there (ns)."""
        return max(self._blocks[stamp][earlier].arrival_ns for earlier in range(index + 1))

    def newest(self, now_ns: int) -> tuple[int, np.ndarray] | None:
        """(stamp, picture) of the newest frame of which a picture block had arrived by `now_ns`."""
        first_picture = self._codec.semantic_blocks
        for stamp in sorted(self._blocks, reverse=True):
            held = self._blocks[stamp]
            ready = [held.get(index) for index in range(first_picture + 1)]
            if all(item is not None and item.arrival_ns <= now_ns for item in ready):
                steps = self.steps(stamp, now_ns)
                if len(steps) > first_picture:
                    return stamp, steps[-1][1]
        return None


def strip(
    recording: Recording,
    frames: CameraFrames,
    kinds: Sequence[BlockKind],
    pictures: Pictures,
    loop_ns: int,
    count: int = STRIP_FRAMES,
) -> list[StripFrame]:
    """The frames that show best how a reading refines: objects, all levels, as many blocks as possible, spread in
    time."""
    by_stamp = _by_stamp(recording.readings)
    last_level = sum(kind.level is not None for kind in kinds) - 1

    def worth(number: int) -> float:
        readings = by_stamp.get(frames.stamps[number], [])
        if not readings:
            return -1.0
        fine = [item for item in readings if item.level == last_level]
        found = fine[-1].detections if fine else ()
        sure = sorted((float(np.prod(item.scores)) for item in found), reverse=True)[:4]
        large = sum(1 for item in found if item.box[2] - item.box[0] > 40)
        return sum(sure) + 0.15 * min(large, 4) + 0.3 * max(item.prefix for item in readings) + (2.0 if fine else 0.0)

    order = sorted(range(len(frames.stamps)), key=worth, reverse=True)
    chosen: list[int] = []
    places = [time % loop_ns for time in frames.bag_times]
    apart = 0.15 * max(places)
    for number in order:
        if worth(number) < 0:
            break
        if all(abs(places[number] - places[other]) >= apart for other in chosen):
            chosen.append(number)
        if len(chosen) == count:
            break
    return [_strip_frame(number, by_stamp, frames, kinds, pictures) for number in chosen]


def _strip_frame(
    number: int,
    by_stamp: dict[int, list[ReadingArrival]],
    frames: CameraFrames,
    kinds: Sequence[BlockKind],
    pictures: Pictures,
) -> StripFrame:
    stamp, image = frames.stamps[number], frames.images[number]
    readings = by_stamp[stamp]
    steps = []
    total = 0
    for index, (block, picture) in enumerate(pictures.steps(stamp)):
        kind = kinds[index]
        wanted = [
            item for item in readings if item.prefix >= index and (kind.level is None or item.level >= kind.level)
        ]
        if kind.level is not None:
            wanted = [item for item in wanted if item.level == kind.level] or wanted
            if not wanted:
                break
        # A block that names nothing may change no reading: then the one before it stands.
        found, at = (wanted or readings[-1:])[0], pictures.whole_at(stamp, index)
        total += len(block.data)
        ms = ((found.arrival_ns if wanted else at) - stamp) / 1e6
        steps.append(Step(kind, ms, len(block.data), total, found.detections, webp(picture)))
    height, width = image.shape[:2]
    missing = tuple(kind.title for kind in kinds[len(steps) :])
    return StripFrame((stamp - frames.zero_ns) / 1e9, width, height, webp(image), tuple(steps), missing)


def moments(
    instants: Sequence[float],
    footage_at: Callable[[float], tuple[np.ndarray, tuple[Detection, ...]]],
    ours: tuple[Sequence[Received], int, Pictures, int],
    theirs: tuple[Sequence[Received], int, JpegDrive] | None,
) -> list[Moment]:
    """What each receiver knew at `instants` (s from the start of the run).

    `ours`: readings, wall-clock zero, pictures, finest level. `theirs`: the same of JPEG. `footage_at`: image and
    reference detections of the street at an instant.
    """
    result = []
    for seconds in instants:
        image, truth = footage_at(seconds)
        readings, zero, pictures, level = ours
        now = zero + round(seconds * 1e9)
        seen = seen_at(readings, [now], level)[0]
        newest = pictures.newest(now)
        view = View(
            tuple(seen.detections) if seen else (),  # type: ignore[arg-type]
            (now - seen.stamp_ns) / 1e6 if seen else None,
            webp(newest[1]) if newest else None,
            (now - newest[0]) / 1e6 if newest else None,
        )
        height, width = image.shape[:2]
        other = None
        if theirs is not None:
            readings, zero, drive = theirs
            now = zero + round(seconds * 1e9)
            seen = seen_at(readings, [now], level)[0]
            arrived = [item for item in drive.arrivals if item.arrival_ns <= now]
            last = max(arrived, key=lambda item: item.stamp_ns) if arrived else None
            other = View(
                tuple(seen.detections) if seen else (),  # type: ignore[arg-type]
                (now - seen.stamp_ns) / 1e6 if seen else None,
                last.data if last else None,
                (now - last.stamp_ns) / 1e6 if last else None,
            )
        result.append(Moment(seconds, width, height, webp(image), truth, view, other))
    return result


def identical_blocks(recording: Recording, made: dict[int, Sequence[Block]], names: Sequence[str]) -> tuple[int, int]:
    """(blocks that equal those of a second encoding byte for byte, blocks compared). `made`: stamp -> blocks."""
    same = compared = 0
    for arrival in recording.blocks:
        blocks = made.get(arrival.stamp_ns)
        if blocks is None or arrival.name not in names:
            continue
        index = list(names).index(arrival.name)
        if index < len(blocks):
            compared += 1
            same += Packet.parse(arrival.packet).blocks[0].data == blocks[index].data
    return same, compared


def webp(image: np.ndarray, quality: int = WEBP_QUALITY) -> bytes:
    """An HxWx3 uint8 RGB image as a WebP file."""
    good, data = cv2.imencode(".webp", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not good:
        raise ValueError(f"OpenCV could not encode {image.shape} as WebP")
    return data.tobytes()


__all__ = ["CameraFrames", "Judge", "Pictures", "camera_frames", "moments", "streaming_precision", "strip", "timeline"]
