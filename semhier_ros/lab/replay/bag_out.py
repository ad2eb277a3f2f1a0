"""A replay as a bag: blocks, readings (ours and vision_msgs), link status, annotated pictures, as MCAP for Foxglove.

Log times are those at which things were known at the base, header stamps those of the camera, both on the source bag's
clock. The topics are those of the live nodes, plus `<camera>/annotated/compressed` (the picture with the newest boxes)
and `<camera>/annotations` (foxglove.ImageAnnotations as JSON, which Foxglove lays over the picture). The layout that
shows them is shipped as `config/foxglove_layout.json`. What the source bag holds of the lens and of where the robot is
(CameraInfo, TF, odometry, poses, fixes, headings) goes into the new one as it is: no link was asked to carry it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from semhier_ros.codec.packet import Block, delta_tag
from semhier_ros.codec.reading import Reading
from semhier_ros.footage.bags import BagCamera, raw_messages
from semhier_ros.footage.messages import BagWriter, is_latched
from semhier_ros.footage.readings import Messages, Readings
from semhier_ros.footage.storage import Channel
from semhier_ros.lab.replay.base import Sent, stamps_of
from semhier_ros.lab.replay.work import Result

PLACE_KINDS = {
    "sensor_msgs/msg/CameraInfo",
    "tf2_msgs/msg/TFMessage",
    "nav_msgs/msg/Odometry",
    "geometry_msgs/msg/PoseStamped",
    "geometry_msgs/msg/PoseWithCovarianceStamped",
    "sensor_msgs/msg/NavSatFix",
    "sensor_msgs/msg/Imu",
}
"""Messages that say how a camera sees and where the robot is."""


class _Blocks:
    """The blocks of a run as a bag holds them: of frames that refer to earlier ones too, whose deltas name a state by a
    check over its stamp, and so have to be told anew on the bag's clock. offsets: ns from the run's clock to the bag's,
    of each camera."""

    def __init__(self, reader: Any, cameras: Sequence[Any], offsets: Sequence[int], run: Any) -> None:
        self._reader, self._cameras, self._offsets, self._run = reader, cameras, offsets, run
        self._stamps = [stamps_of(camera) for camera in cameras]
        self._told: dict[tuple[int, int], bytes] = {}
        for place in range(len(cameras)) if run.deltas else ():
            self._tell(place)

    def number(self, place: int, number: int) -> int:
        """The number that a frame of the footage has in the stream."""
        return int(self._run.numbers.get((place, number), number) if self._run.deltas else number) & 0xFFFF

    def stamp(self, place: int, number: int) -> int:
        """A frame's stamp in the bag (ns): its header's, but for the jumps that `stamps_of` takes out. Of a run with
        deltas the one that the receiver had, for they are read by it."""
        own = self._stamps[place][number]
        return self._offsets[place] + int(self._run.stamps.get((place, number), own) if self._run.deltas else own)

    def block(self, place: int, number: int, index: int) -> Block:
        """One block of a frame of the footage."""
        reader, name, frame = self._reader, (place, number), self.number(place, number)
        tag = reader.codec.stream_tag
        if name in self._told and index == 0:
            return Block(delta_tag(tag), frame, 0, self._told[name])
        data = self._run.parts.get((*name, index))
        if data is None:  # of another codec's run
            data = reader.encoded(self._cameras[place], number, whole=index >= reader.semantic_blocks).blocks[index]
        return Block(tag, frame, index, data, b"" if index else self._run.motions.get(name, b""))

    def size(self, place: int, number: int, prefix: int) -> int:
        """Bytes of a frame's blocks 0..prefix."""
        told = self._told.get((place, number))
        first = 0 if told is None else self._reader.semantic_blocks
        later = sum(len(self.block(place, number, index).data) for index in range(first, prefix + 1))
        return later if told is None else len(told) + later

    def _tell(self, place: int) -> None:
        """Goes through a camera's frames as they were sent, with both clocks."""
        run, model, offset = self._run, self._reader.codec.model, self._offsets[place]
        deltas = model.deltas
        states: dict[int, list[tuple[Any, Any]]] = {}
        for number in sorted(number for one, number in run.numbers if one == place):
            frame, stamp = self.number(place, number), run.stamps[place, number]
            data = run.deltas.get((place, number))
            if data is None:
                code, states[frame] = None, []
                for prefix, part in enumerate(run.wholes[place, number]):
                    code = model.decode(prefix, part, code)
                    pair = [deltas.whole(code, prefix, frame, at) for at in (stamp, stamp + offset)]
                    states[frame].append((pair[0], pair[1]))
                continue
            find = partial(_pair_of, states)
            self._told[place, number], pair = deltas.restamped(data, find, frame, stamp, offset)
            states[frame] = [pair]


def _pair_of(states: dict[int, list[tuple[Any, Any]]], frame: int, check: int) -> tuple[Any, Any] | None:
    return next((pair for pair in states.get(frame, ()) if pair[0].check == check), None)


def write_bag(result: Result, path: Path, force: bool = False) -> int:
    """Writes semhier's run (or else the first codec's) as a bag; returns the number of messages. force: an older
    bag at `path` is replaced.

    Raises BagError as `check_new_bag` says.
    """
    name = "semhier" if "semhier" in result.runs else next(iter(result.runs))
    run, reader = result.runs[name], result.reader
    entries: list[tuple[int, int, Callable[[], None]]] = []
    with BagWriter(path, force) as bag:

        def add(time_ns: int, topic: str, make: Callable[[], Any]) -> None:
            entries.append((time_ns, len(entries), lambda: bag.write(topic, make(), time_ns)))

        messages = Messages(bag.store, reader.codec.taxonomy)
        offsets = [camera.stamps_ns[0] - camera.times_ns[0] for camera in result.cameras]
        for camera, offset in zip(result.cameras, offsets, strict=True):
            for second in range(1 + (camera.times_ns[-1] - camera.times_ns[0]) // 10**9):  # the bag may be cut
                at = offset + camera.times_ns[0] + second * 10**9
                add(at, f"/{camera.name}/semhier/info", partial(messages.info, reader.codec, camera, at))
        blocks = _Blocks(reader, result.cameras, offsets, run)
        for place, number, index, arrival in run.blocks if name == "semhier" else ():
            topic = f"/{result.cameras[place].name}/semhier/{reader.block_names[index]}"
            block = partial(messages.block, blocks.block(place, number, index), blocks.stamp(place, number))
            add(offsets[place] + round(arrival * 1e9), topic, block)
        readings = [Readings(messages, camera.name, camera.frame_id) for camera in result.cameras]
        for item in sorted(run.answers, key=lambda one: one.ready):
            camera, offset = result.cameras[item.camera], offsets[item.camera]
            stamp, ready = blocks.stamp(item.camera, item.number), offset + round(item.ready * 1e9)
            frame = blocks.number(item.camera, item.number)
            size = blocks.size(item.camera, item.number, item.prefix)
            told = Reading(frame, item.prefix, item.level, item.detections, size, True)
            made = list(readings[item.camera].of(told, stamp, ready - offset - item.stamp_ns))
            for topic, make in made:
                add(ready, topic, make)
            if len(made) > 2:  # a level that is new of this frame
                annotated = partial(messages.annotated, camera, item.number, item.detections, stamp)
                add(ready, f"/{camera.name}/annotated/compressed", annotated)
        for time_ns, values in statuses(result, run, offsets[0]):
            topic = f"/{result.cameras[0].name}/semhier/link_status"
            add(time_ns, topic, partial(messages.status, time_ns, values))
        for time_ns, channel, data in _places(result.cameras):
            copy = partial(bag.write_raw, channel.topic, channel.kind, data, time_ns, channel.qos)
            entries.append((time_ns, len(entries), copy))
        for _, _, write in sorted(entries, key=lambda entry: entry[:2]):
            write()
    return len(entries)


def _places(cameras: Sequence[Any]) -> Iterator[tuple[int, Channel, bytes]]:
    """(time in ns by the new bag's clock, channel, bytes) of what the cameras' bags say of lenses and of where the
    robot is, while a bag's own cameras see something; what it kept for who joins late counts from their first frame on.
    A topic has the type that it has in the first bag; in others one of another type is left out."""
    kinds: dict[str, str] = {}
    for bag in {id(camera.bag): camera.bag for camera in cameras if isinstance(camera, BagCamera)}.values():
        own = [camera for camera in cameras if isinstance(camera, BagCamera) and camera.bag is bag]
        first = min(camera.entries[0].log_ns for camera in own)
        last = max(camera.entries[-1].log_ns for camera in own)
        shift = own[0].stamps_ns[0] - own[0].entries[0].log_ns
        for channel, log_ns, data in raw_messages(bag.path, lambda one: one.kind in PLACE_KINDS, []):
            kept = is_latched(channel.qos) or channel.topic.endswith("/tf_static")
            told = log_ns <= last and (log_ns >= first or kept)
            if told and kinds.setdefault(channel.topic, channel.kind) == channel.kind:
                yield max(log_ns, first) + shift, channel, data


def statuses(result: Result, run: Any, offset: int) -> list[tuple[int, dict[str, Any]]]:
    """(time in ns, fields of LinkStatus) once a second: what was sent until then, and in the second before."""
    names = list(result.reader.block_names) if run.codec == "semhier" else sorted({item.purpose for item in run.sent})
    alike = {"camera": result.cameras[0].name, "transport": "virtual", "budget": round(result.task.budget)}
    alike |= {"blocks": names, "queued": [0] * len(names), "dropped": [0] * len(names)}
    left: dict[int, list[Sent]] = defaultdict(list)
    for item in run.sent:
        left[int(item.time)].append(item)
    sent, found = Counter[str](), []
    for second in range(int(run.seconds) + 1):
        sent.update(item.purpose for item in left[second])
        used = sum(item.wire_bytes for item in left[second])
        values = {**alike, "used": used, "sent": [sent[name] for name in names]}
        found.append((offset + (second + 1) * 10**9, values))
    return found
