"""A replay as a bag: blocks, readings (ours and vision_msgs), link status, annotated pictures, as MCAP for Foxglove.

Log times are those at which things were known at the base, header stamps those of the camera, both on the source bag's
clock. The topics are those of the live nodes, plus `<camera>/annotated/compressed` (the picture with the newest boxes)
and `<camera>/annotations` (foxglove.ImageAnnotations as JSON, which Foxglove lays over the picture). The layout that
shows them is shipped as `config/foxglove_layout.json`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.typesys import get_types_from_msg

from semhier_ros.codec.packet import Block, Packet
from semhier_ros.codec.reading import Detection
from semhier_ros.lab.bag import BagWriter
from semhier_ros.lab.replay.work import Result
from semhier_ros.lab.streams.base import Answer

LEVEL_COLOURS = ((194, 65, 12), (29, 78, 216), (4, 120, 87), (161, 98, 7))
ANNOTATED_WIDTH = 640
_VISION = {
    "vision_msgs/msg/Point2D": "float64 x\nfloat64 y",
    "vision_msgs/msg/Pose2D": "vision_msgs/Point2D position\nfloat64 theta",
    "vision_msgs/msg/BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score",
    "vision_msgs/msg/ObjectHypothesisWithPose": "vision_msgs/ObjectHypothesis hypothesis\n"
    "geometry_msgs/PoseWithCovariance pose",
    "vision_msgs/msg/Detection2D": "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
    "vision_msgs/BoundingBox2D bbox\nstring id",
    "vision_msgs/msg/Detection2DArray": "std_msgs/Header header\nvision_msgs/Detection2D[] detections",
    "foxglove_msgs/msg/Point2": "float64 x\nfloat64 y",
    "foxglove_msgs/msg/Color": "float64 r\nfloat64 g\nfloat64 b\nfloat64 a",
    "foxglove_msgs/msg/CircleAnnotation": "builtin_interfaces/Time timestamp\nfoxglove_msgs/Point2 position\n"
    "float64 diameter\nfloat64 thickness\nfoxglove_msgs/Color fill_color\nfoxglove_msgs/Color outline_color",
    "foxglove_msgs/msg/PointsAnnotation": "uint8 UNKNOWN=0\nuint8 POINTS=1\nuint8 LINE_LOOP=2\nuint8 LINE_STRIP=3\n"
    "uint8 LINE_LIST=4\nbuiltin_interfaces/Time timestamp\nuint8 type\nfoxglove_msgs/Point2[] points\n"
    "foxglove_msgs/Color outline_color\nfoxglove_msgs/Color[] outline_colors\nfoxglove_msgs/Color fill_color\n"
    "float64 thickness",
    "foxglove_msgs/msg/TextAnnotation": "builtin_interfaces/Time timestamp\nfoxglove_msgs/Point2 position\n"
    "string text\nfloat64 font_size\nfoxglove_msgs/Color text_color\nfoxglove_msgs/Color background_color",
    "foxglove_msgs/msg/ImageAnnotations": "foxglove_msgs/CircleAnnotation[] circles\n"
    "foxglove_msgs/PointsAnnotation[] points\nfoxglove_msgs/TextAnnotation[] texts",
}


def vision_types(store: Any) -> None:
    """Teaches a rosbags type store vision_msgs' detections and Foxglove's annotations."""
    for name, text in _VISION.items():
        if name not in store.types:
            store.register(get_types_from_msg(text, name))


class Messages:
    """Makes messages of readings for one bag's type store, which learns vision_msgs and Foxglove's annotations."""

    def __init__(self, store: Any, taxonomy: Any) -> None:
        vision_types(store)
        self.types = store.types
        kind = self.types["semhier_ros/msg/SemanticDetection"]
        known = {"id", "x_min", "y_min", "x_max", "y_max", "path", "names", "scores", "other_nodes", "other_scores"}
        self._extra = empty_fields(kind, set(kind.__dataclass_fields__) - known)
        sizes = [len(level) for level in taxonomy.levels]
        self._firsts = [sum(sizes[:level]) for level in range(len(sizes))]

    def time(self, stamp_ns: int) -> Any:
        """builtin_interfaces/Time."""
        seconds, nanoseconds = divmod(stamp_ns, 10**9)
        return self.types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds)

    def header(self, stamp_ns: int, frame_id: str) -> Any:
        """std_msgs/Header."""
        return self.types["std_msgs/msg/Header"](stamp=self.time(stamp_ns), frame_id=frame_id)

    def reading(self, item: Answer, level: int, stamp_ns: int, frame_id: str, size: int, wait_ns: int) -> Any:
        """SemanticDetectionArray of a reading cut at `level`; `size`: payload bytes that had come."""
        detections = [
            self.types["semhier_ros/msg/SemanticDetection"](
                id=one.id,
                x_min=one.box[0],
                y_min=one.box[1],
                x_max=one.box[2],
                y_max=one.box[3],
                path=np.array(one.path[: level + 1], np.uint16),
                names=list(one.names[: level + 1]),
                scores=np.array(one.scores[: level + 1], np.float32),
                other_nodes=np.array([node for node, _ in one.others_at(level)], np.uint16),
                other_scores=np.array([score for _, score in one.others_at(level)], np.float32),
                **self._extra,
            )
            for one in item.detections
        ]
        seconds, nanoseconds = divmod(wait_ns, 10**9)
        return self.types["semhier_ros/msg/SemanticDetectionArray"](
            header=self.header(stamp_ns, frame_id),
            frame=item.number & 0xFFFF,
            level=level,
            prefix=item.prefix,
            bytes_received=size,
            latency=self.types["builtin_interfaces/msg/Duration"](sec=seconds, nanosec=nanoseconds),
            detections=detections,
        )

    def vision(self, item: Answer, stamp_ns: int, frame_id: str) -> Any:
        """vision_msgs/Detection2DArray: each object's finest node known, then what else it may be, as in label_info."""
        types = self.types
        header = self.header(stamp_ns, frame_id)
        pose = types["geometry_msgs/msg/PoseWithCovariance"](
            pose=types["geometry_msgs/msg/Pose"](
                position=types["geometry_msgs/msg/Point"](x=0.0, y=0.0, z=0.0),
                orientation=types["geometry_msgs/msg/Quaternion"](x=0.0, y=0.0, z=0.0, w=1.0),
            ),
            covariance=np.zeros(36),
        )
        found = []
        for one in item.detections:
            level = len(one.path) - 1
            named = [(one.path[-1], one.scores[-1]), *one.others_at(level)]
            hypotheses = [
                types["vision_msgs/msg/ObjectHypothesis"](class_id=str(self._firsts[level] + node), score=float(score))
                for node, score in named
            ]
            centre = types["vision_msgs/msg/Pose2D"](
                position=types["vision_msgs/msg/Point2D"](
                    x=(one.box[0] + one.box[2]) / 2, y=(one.box[1] + one.box[3]) / 2
                ),
                theta=0.0,
            )
            found.append(
                types["vision_msgs/msg/Detection2D"](
                    header=header,
                    results=[
                        types["vision_msgs/msg/ObjectHypothesisWithPose"](hypothesis=hypothesis, pose=pose)
                        for hypothesis in hypotheses
                    ],
                    bbox=types["vision_msgs/msg/BoundingBox2D"](
                        center=centre, size_x=one.box[2] - one.box[0], size_y=one.box[3] - one.box[1]
                    ),
                    id=str(one.id),
                )
            )
        return types["vision_msgs/msg/Detection2DArray"](header=header, detections=found)

    def annotations(self, detections: Sequence[Detection], stamp_ns: int) -> Any:
        """foxglove_msgs/ImageAnnotations: a box and a name an object, in the source picture's pixels."""
        types, time = self.types, self.time(stamp_ns)
        clear = types["foxglove_msgs/msg/Color"](r=0.0, g=0.0, b=0.0, a=0.0)
        white = types["foxglove_msgs/msg/Color"](r=1.0, g=1.0, b=1.0, a=1.0)
        points, texts = [], []
        for one in detections:
            red, green, blue = (value / 255 for value in LEVEL_COLOURS[(len(one.path) - 1) % len(LEVEL_COLOURS)])
            colour = types["foxglove_msgs/msg/Color"](r=red, g=green, b=blue, a=1.0)
            x0, y0, x1, y1 = one.box
            corners = [
                types["foxglove_msgs/msg/Point2"](x=float(x), y=float(y))
                for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
            ]
            points.append(
                types["foxglove_msgs/msg/PointsAnnotation"](
                    timestamp=time,
                    type=2,
                    points=corners,
                    outline_color=colour,
                    outline_colors=[],
                    fill_color=clear,
                    thickness=2.0,
                )
            )
            texts.append(
                types["foxglove_msgs/msg/TextAnnotation"](
                    timestamp=time,
                    position=corners[0],
                    text=f"{one.names[-1]} {one.scores[-1]:.2f}",
                    font_size=12.0,
                    text_color=white,
                    background_color=colour,
                )
            )
        return types["foxglove_msgs/msg/ImageAnnotations"](circles=[], points=points, texts=texts)

    def info(self, codec: Any, camera: Any, stamp_ns: int) -> Any:
        """StreamInfo of a camera."""
        return self.types["semhier_ros/msg/StreamInfo"](
            stamp=self.time(stamp_ns),
            camera=camera.name,
            frame_id=camera.frame_id,
            width=camera.size[0],
            height=camera.size[1],
            model=codec.name,
            stream_hash=codec.stream_hash,
            model_hash=codec.model_hash,
        )

    def block(self, reader: Any, camera: Any, number: int, index: int, stamp_ns: int) -> Any:
        """SemanticBlock of one block of a frame."""
        data = reader.encoded(camera, number, whole=index >= reader.semantic_blocks).blocks[index]
        packet = Packet.pack([Block(reader.codec.stream_tag, number & 0xFFFF, index, data)])
        return self.types["semhier_ros/msg/SemanticBlock"](
            stamp=self.time(stamp_ns), frame=number & 0xFFFF, data=np.frombuffer(packet, np.uint8)
        )

    def status(self, time_ns: int, values: dict[str, Any]) -> Any:
        """LinkStatus with these fields; those that a virtual run knows nothing of are empty."""
        kind = self.types["semhier_ros/msg/LinkStatus"]
        missing = set(kind.__dataclass_fields__) - set(values) - {"stamp"}
        return kind(stamp=self.time(time_ns), **values, **empty_fields(kind, missing))

    def annotated(self, camera: Any, number: int, detections: Sequence[Detection], stamp_ns: int) -> Any:
        """The camera's picture with what was read on it."""
        return self.picture(annotated(camera.image(number), detections), stamp_ns, camera.frame_id)

    def picture(self, image: np.ndarray, stamp_ns: int, frame_id: str) -> Any:
        """sensor_msgs/CompressedImage (JPEG) of an RGB picture."""
        good, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
        if not good:
            raise ValueError(f"OpenCV could not encode {image.shape} as JPEG")
        return self.types["sensor_msgs/msg/CompressedImage"](
            header=self.header(stamp_ns, frame_id), format="jpeg", data=data.reshape(-1)
        )


def annotated(image: np.ndarray, detections: Sequence[Detection]) -> np.ndarray:
    """A copy of `image`, at most 640 pixels wide, with boxes and names."""
    scale = min(1.0, ANNOTATED_WIDTH / image.shape[1])
    shown = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image.copy()
    for one in detections:
        colour = LEVEL_COLOURS[(len(one.path) - 1) % len(LEVEL_COLOURS)]
        x0, y0, x1, y1 = (round(value * scale) for value in one.box)
        cv2.rectangle(shown, (x0, y0), (x1, y1), colour, 2)
        cv2.putText(shown, one.names[-1], (x0, max(10, y0 - 3)), cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)
    return shown


def write_bag(result: Result, path: Path) -> int:
    """Writes semhier's run (or else the first codec's) as a bag; returns the number of messages.

    Raises BagError when `path` exists and is no bag.
    """
    name = "semhier" if "semhier" in result.runs else next(iter(result.runs))
    run, reader = result.runs[name], result.reader
    entries: list[tuple[int, int, str, Callable[[], Any]]] = []
    with BagWriter(path) as bag:
        messages = Messages(bag.store, reader.codec.taxonomy)
        offsets = [camera.stamps_ns[0] - camera.times_ns[0] for camera in result.cameras]

        def add(time_ns: int, topic: str, make: Callable[..., Any], *arguments: Any) -> None:
            entries.append((time_ns, len(entries), topic, partial(make, *arguments)))

        for camera, offset in zip(result.cameras, offsets, strict=True):
            first_ns = offset + camera.times_ns[0]
            add(first_ns, f"/{camera.name}/semhier/info", messages.info, reader.codec, camera, first_ns)
        for place, number, index, arrival in run.blocks if name == "semhier" else ():
            camera = result.cameras[place]
            stamp = offsets[place] + camera.times_ns[number]
            topic = f"/{camera.name}/semhier/{reader.block_names[index]}"
            ready = offsets[place] + round(arrival * 1e9)
            add(ready, topic, messages.block, reader, camera, number, index, stamp)
        done: dict[tuple[int, int], int] = {}
        for item in sorted(run.answers, key=lambda one: one.ready):
            camera, offset = result.cameras[item.camera], offsets[item.camera]
            stamp, ready = offset + item.stamp_ns, offset + round(item.ready * 1e9)
            size = sum(
                map(
                    len,
                    reader.encoded(camera, item.number, item.prefix >= reader.semantic_blocks).blocks[
                        : item.prefix + 1
                    ],
                )
            )
            first = done.get((item.camera, item.number), -1) + 1
            done[item.camera, item.number] = max(first - 1, item.level)
            for level in range(min(first, item.level), item.level + 1):
                topic = f"/{camera.name}/detections/level_{level}"
                add(ready, topic, messages.reading, item, level, stamp, camera.frame_id, size, ready - stamp)
            add(ready, f"/{camera.name}/detections/vision", messages.vision, item, stamp, camera.frame_id)
            add(ready, f"/{camera.name}/annotations", messages.annotations, item.detections, stamp)
            if first <= item.level:
                topic = f"/{camera.name}/annotated/compressed"
                add(ready, topic, messages.annotated, camera, item.number, item.detections, stamp)
        for time_ns, values in statuses(result, run, offsets[0]):
            add(time_ns, f"/{result.cameras[0].name}/semhier/link_status", messages.status, time_ns, values)
        for time_ns, _, topic, make in sorted(entries, key=lambda entry: entry[:2]):
            bag.write(topic, make(), time_ns)
    return len(entries)


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
            "budget": round(result.rate),
            "used": used,
            "blocks": names,
            "queued": np.zeros(len(names), np.uint32),
            "sent": np.array(sent, np.uint32),
            "dropped": np.zeros(len(names), np.uint32),
        }
        found.append((offset + second * 10**9, values))
    return found


def empty_fields(kind: Any, names: set[str]) -> dict[str, Any]:
    """Values that mean nothing for the fields `names` of a message type: 0, "", False, no entries."""
    values: dict[str, Any] = {}
    for name in names - {"__msgtype__"}:
        annotation = str(kind.__dataclass_fields__[name].type)
        if "ndarray" in annotation:
            values[name] = np.zeros(0, np.uint32 if "uint32" in annotation else np.float32)
        elif annotation.startswith("list"):
            values[name] = []
        elif annotation == "str":
            values[name] = ""
        elif annotation == "bool":
            values[name] = False
        elif annotation == "float":
            values[name] = 0.0
        else:
            values[name] = 0
    return values


def layout() -> dict[str, Any]:
    """Foxglove's layout for such a bag of a camera called `camera`."""
    image = {
        "imageMode": {
            "imageTopic": "/camera/annotated/compressed",
            "annotations": {"/camera/annotations": {"visible": True}},
        }
    }
    plot = {
        "paths": [
            {"value": "/camera/semhier/link_status.used", "enabled": True, "timestampMethod": "receiveTime"},
            {"value": "/camera/semhier/link_status.budget", "enabled": True, "timestampMethod": "receiveTime"},
            {"value": "/camera/detections/level_0.bytes_received", "enabled": True, "timestampMethod": "receiveTime"},
        ],
        "showLegend": True,
    }
    return {
        "configById": {
            "Image!semhier": image,
            "Plot!link": plot,
            "RawMessages!reading": {"topicPath": "/camera/detections/level_2"},
        },
        "globalVariables": {},
        "userNodes": {},
        "playbackConfig": {"speed": 1},
        "layout": {
            "first": "Image!semhier",
            "second": {
                "first": "Plot!link",
                "second": "RawMessages!reading",
                "direction": "column",
                "splitPercentage": 50,
            },
            "direction": "row",
            "splitPercentage": 62,
        },
    }


def write_layout(path: Path) -> None:
    """Writes `layout()` as the file that Foxglove imports."""
    path.write_text(json.dumps(layout(), indent=1) + "\n", encoding="utf-8")
