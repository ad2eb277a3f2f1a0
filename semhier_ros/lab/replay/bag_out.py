"""A replay as a bag: blocks, readings (ours and vision_msgs), link status, annotated pictures, as MCAP for Foxglove.

Log times are those at which things were known at the base, header stamps those of the camera, both on the source bag's
clock. The topics are those of the live nodes, plus `<camera>/annotated/compressed` (the picture with the newest boxes)
and `<camera>/annotations` (foxglove.ImageAnnotations as JSON, which Foxglove lays over the picture). The layout that
shows them is shipped as `config/foxglove_layout.json`. What the source bag holds of the lens and of where the robot is
(CameraInfo, TF, odometry, poses, fixes, headings) goes into the new one as it is: no link was asked to carry it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from semhier_ros.camera.drawing import colour_of, draw_boxes
from semhier_ros.codec.packet import Block, Packet, delta_tag
from semhier_ros.codec.reading import Detection
from semhier_ros.footage.bags import BagCamera, raw_messages
from semhier_ros.footage.messages import BagWriter, compressed_image, header_of, is_latched, make_message, time_of
from semhier_ros.footage.storage import Channel
from semhier_ros.footage.video import at_most
from semhier_ros.lab.replay.base import Answer
from semhier_ros.lab.replay.work import Result

ANNOTATED_WIDTH = 640
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
CLEAR = dict.fromkeys("rgba", 0.0)
WHITE = dict.fromkeys("rgba", 1.0)


class Messages:
    """Makes messages of readings for one bag's type store."""

    def __init__(self, store: Any, taxonomy: Any) -> None:
        self.store = store
        self._make = partial(make_message, store)
        sizes = [len(level) for level in taxonomy.levels]
        self._firsts = [sum(sizes[:level]) for level in range(len(sizes))]

    def reading(self, item: Answer, level: int, stamp_ns: int, frame_id: str, size: int, wait_ns: int) -> Any:
        """SemanticDetectionArray of a reading cut at `level`; `size`: payload bytes that had come."""
        detections = [
            {
                **dict(zip(("x_min", "y_min", "x_max", "y_max"), one.box, strict=True)),
                "id": one.id,
                "path": one.path[: level + 1],
                "names": list(one.names[: level + 1]),
                "scores": one.scores[: level + 1],
                "other_nodes": [node for node, _ in one.others_at(level)],
                "other_scores": [score for _, score in one.others_at(level)],
            }
            for one in item.detections
        ]
        return self._make(
            "semhier_ros/msg/SemanticDetectionArray",
            header=header_of(stamp_ns, frame_id),
            frame=item.number & 0xFFFF,
            level=level,
            prefix=item.prefix,
            bytes_received=size,
            latency=time_of(wait_ns),
            detections=detections,
        )

    def vision(self, item: Answer, stamp_ns: int, frame_id: str) -> Any:
        """vision_msgs/Detection2DArray: each object's finest node known, then what else it may be, as in label_info."""
        header = header_of(stamp_ns, frame_id)
        found = []
        for one in item.detections:
            level = len(one.path) - 1
            named = [(one.path[-1], one.scores[-1]), *one.others_at(level)]
            x0, y0, x1, y1 = one.box
            found.append(
                {
                    "header": header,
                    "results": [
                        {
                            "hypothesis": {"class_id": str(self._firsts[level] + node), "score": float(score)},
                            "pose": {"pose": {"orientation": {"w": 1.0}}},
                        }
                        for node, score in named
                    ],
                    "bbox": {
                        "center": {"position": {"x": (x0 + x1) / 2, "y": (y0 + y1) / 2}},
                        "size_x": x1 - x0,
                        "size_y": y1 - y0,
                    },
                    "id": str(one.id),
                }
            )
        return self._make("vision_msgs/msg/Detection2DArray", header=header, detections=found)

    def annotations(self, detections: Sequence[Detection], stamp_ns: int) -> Any:
        """foxglove_msgs/ImageAnnotations: a box and a name an object, in the source picture's pixels."""
        stamp, points, texts = time_of(stamp_ns), [], []
        for one in detections:
            colour = dict(zip("rgba", (*(value / 255 for value in colour_of(one)), 1.0), strict=True))
            x0, y0, x1, y1 = map(float, one.box)
            corners = [{"x": x, "y": y} for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]
            points.append(
                {
                    "timestamp": stamp,
                    "type": 2,
                    "points": corners,
                    "outline_color": colour,
                    "fill_color": CLEAR,
                    "thickness": 2.0,
                }
            )
            texts.append(
                {
                    "timestamp": stamp,
                    "position": corners[0],
                    "text": f"{one.names[-1]} {one.scores[-1]:.2f}",
                    "font_size": 12.0,
                    "text_color": WHITE,
                    "background_color": colour,
                }
            )
        return self._make("foxglove_msgs/msg/ImageAnnotations", points=points, texts=texts)

    def info(self, codec: Any, camera: Any, stamp_ns: int) -> Any:
        """StreamInfo of a camera."""
        return self._make(
            "semhier_ros/msg/StreamInfo",
            stamp=time_of(stamp_ns),
            camera=camera.name,
            frame_id=camera.frame_id,
            width=camera.size[0],
            height=camera.size[1],
            model=codec.name,
            stream_hash=codec.stream_hash,
            model_hash=codec.model_hash,
        )

    def block(self, block: Block, stamp_ns: int) -> Any:
        """SemanticBlock of one block of a frame."""
        data = np.frombuffer(Packet.pack([block]), np.uint8)
        return self._make("semhier_ros/msg/SemanticBlock", stamp=time_of(stamp_ns), frame=block.frame, data=data)

    def status(self, time_ns: int, values: dict[str, Any]) -> Any:
        """LinkStatus with these fields; those that a virtual run knows nothing of are empty."""
        return self._make("semhier_ros/msg/LinkStatus", stamp=time_of(time_ns), **values)

    def picture(self, image: np.ndarray, stamp_ns: int, frame_id: str) -> Any:
        """sensor_msgs/CompressedImage (JPEG) of an RGB picture."""
        return compressed_image(self.store, image, stamp_ns, frame_id, "jpeg", 80)

    def annotated(self, camera: Any, number: int, detections: Sequence[Detection], stamp_ns: int) -> Any:
        """The camera's picture, at most 640 pixels wide, with what was read on it."""
        small = at_most(camera.image(number), ANNOTATED_WIDTH)
        drawn = draw_boxes(small, detections, scale=small.shape[1] / camera.size[0])
        return self.picture(drawn, stamp_ns, camera.frame_id)


class Readings:
    """Topics and messages of one camera's readings, as the decoder node publishes them: each level once per frame."""

    def __init__(self, messages: Messages, camera: str, frame_id: str) -> None:
        self._messages, self._camera, self._frame_id = messages, camera, frame_id
        self._done: dict[tuple[int, int], int] = {}

    def of(self, item: Answer, stamp_ns: int, size: int, wait_ns: int) -> Iterator[tuple[str, Callable[[], Any]]]:
        """(topic, maker of the message) of a reading whose payload had `size` bytes, `wait_ns` after its stamp."""
        first = self._done.get((item.number, stamp_ns), -1) + 1
        self._done[item.number, stamp_ns] = max(first - 1, item.level)
        base, make = f"/{self._camera}", self._messages
        for level in range(min(first, item.level), item.level + 1):
            yield (
                f"{base}/detections/level_{level}",
                partial(make.reading, item, level, stamp_ns, self._frame_id, size, wait_ns),
            )
        yield f"{base}/detections/vision", partial(make.vision, item, stamp_ns, self._frame_id)
        yield f"{base}/annotations", partial(make.annotations, item.detections, stamp_ns)


class _Blocks:
    """The blocks of a run as a bag holds them: of frames that refer to earlier ones too, whose deltas name a state by a
    check over its stamp, and so have to be told anew on the bag's clock."""

    def __init__(self, reader: Any, cameras: Sequence[Any], offsets: Sequence[int], run: Any) -> None:
        self._reader, self._cameras, self._run = reader, cameras, run
        self._told: dict[tuple[int, int], bytes] = {}
        for place, offset in enumerate(offsets) if run.deltas else ():
            self._tell(place, offset)

    def number(self, place: int, number: int) -> int:
        """The number that a frame of the footage has in the stream."""
        return int(self._run.numbers.get((place, number), number) if self._run.deltas else number) & 0xFFFF

    def block(self, place: int, number: int, index: int) -> Block:
        """One block of a frame of the footage."""
        reader, name, frame = self._reader, (place, number), self.number(place, number)
        tag = reader.codec.stream_tag
        if name in self._told and index == 0:
            return Block(delta_tag(tag), frame, 0, self._told[name])
        data = self._run.parts.get((*name, index))
        if data is None:
            data = reader.encoded(self._cameras[place], number, whole=index >= reader.semantic_blocks).blocks[index]
        return Block(tag, frame, index, data)

    def size(self, place: int, number: int, prefix: int) -> int:
        """Bytes of a frame's blocks 0..prefix."""
        told = self._told.get((place, number))
        first = 0 if told is None else self._reader.semantic_blocks
        later = sum(len(self.block(place, number, index).data) for index in range(first, prefix + 1))
        return later if told is None else len(told) + later

    def _tell(self, place: int, offset: int) -> None:
        """Goes through a camera's frames as they were sent, with both clocks."""
        reader, camera, model = self._reader, self._cameras[place], self._reader.codec.model
        deltas = model.deltas
        states: dict[int, list[tuple[Any, Any]]] = {}
        for number in sorted(number for one, number in self._run.numbers if one == place):
            frame, stamp = self.number(place, number), camera.times_ns[number]
            data = self._run.deltas.get((place, number))
            if data is None:
                code, states[frame] = None, []
                for prefix, part in enumerate(reader.encoded(camera, number).blocks[: reader.semantic_blocks]):
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
            camera, stamp = result.cameras[place], offsets[place] + result.cameras[place].times_ns[number]
            topic = f"/{camera.name}/semhier/{reader.block_names[index]}"
            block = partial(messages.block, blocks.block(place, number, index), stamp)
            add(offsets[place] + round(arrival * 1e9), topic, block)
        readings = [Readings(messages, camera.name, camera.frame_id) for camera in result.cameras]
        for item in sorted(run.answers, key=lambda one: one.ready):
            camera, offset = result.cameras[item.camera], offsets[item.camera]
            stamp, ready = offset + item.stamp_ns, offset + round(item.ready * 1e9)
            size = blocks.size(item.camera, item.number, item.prefix)
            told = item._replace(number=blocks.number(item.camera, item.number))
            made = list(readings[item.camera].of(told, stamp, size, ready - stamp))
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
    """(time in ns by the new bag's clock, channel, bytes) of what the cameras' bag says of lenses and of where the
    robot is, while they see something; what it kept for who joins late counts from the first frame on."""
    if not isinstance(cameras[0], BagCamera):
        return
    first = min(camera.entries[0].log_ns for camera in cameras)
    last = max(camera.entries[-1].log_ns for camera in cameras)
    shift = cameras[0].stamps_ns[0] - cameras[0].entries[0].log_ns
    for channel, log_ns, data in raw_messages(cameras[0].bag.path, lambda one: one.kind in PLACE_KINDS, []):
        kept = is_latched(channel.qos) or channel.topic.endswith("/tf_static")
        if log_ns <= last and (log_ns >= first or kept):
            yield max(log_ns, first) + shift, channel, data


def statuses(result: Result, run: Any, offset: int) -> list[tuple[int, dict[str, Any]]]:
    """(time in ns, fields of LinkStatus) once a second: what was sent until then, and in the second before."""
    names = list(result.reader.block_names) if run.codec == "semhier" else sorted({item.purpose for item in run.sent})
    places = {name: place for place, name in enumerate(names)}
    sent = [0] * len(names)
    found = []
    order = 0
    for second in range(1, int(run.seconds) + 2):
        used = 0
        while order < len(run.sent) and run.sent[order].time < second:
            item = run.sent[order]
            used += item.wire_bytes
            if item.purpose in places:
                sent[places[item.purpose]] += 1
            order += 1
        values = {
            "camera": result.cameras[0].name,
            "transport": "virtual",
            "budget": round(result.task.budget),
            "used": used,
            "blocks": names,
            "queued": [0] * len(names),
            "sent": list(sent),
            "dropped": [0] * len(names),
        }
        found.append((offset + second * 10**9, values))
    return found
