"""Pure functions between ROS messages and the package's own types."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from semhier_ros.camera.detections import Sighting
from semhier_ros.codec.block_request import BlockRequest
from semhier_ros.codec.packet import Block, Packet
from semhier_ros.codec.reading import Detection, Reading, Scene
from semhier_ros.codec.stream_info import MAX_FRAME_ID_BYTES, StreamInfo
from semhier_ros.ground import GroundError
from semhier_ros.ground.frames import TransformTree
from semhier_ros.msg import BlockRequest as BlockRequestMessage
from semhier_ros.msg import SemanticBlock, SemanticDetection, SemanticDetectionArray, SemanticScene, SemanticTrack
from semhier_ros.msg import StreamInfo as StreamInfoMessage

SECOND = 1_000_000_000
MILLISECOND = 1_000_000


def time_to_ns(stamp: Any) -> int:
    """Nanoseconds since the epoch of a `builtin_interfaces/Time` (or Duration)."""
    return int(stamp.sec) * SECOND + int(stamp.nanosec)


def put_transforms(tree: TransformTree, message: Any, *, fixed: bool) -> list[str]:
    """Puts a TFMessage's transforms into a tree; what is wrong with those that it refused."""
    problems = []
    for item in message.transforms:
        place, turn = item.transform.translation, item.transform.rotation
        parent, child = item.header.frame_id, item.child_frame_id
        quaternion = (turn.x, turn.y, turn.z, turn.w)
        try:
            tree.put(parent, child, time_to_ns(item.header.stamp), (place.x, place.y, place.z), quaternion, fixed=fixed)
        except GroundError as error:
            problems.append(str(error))
    return problems


def ns_to_time(stamp_ns: int) -> Time:
    """`stamp_ns` as a Time; outside of what the message holds (int32 seconds) it is held to the nearest end."""
    seconds, nanoseconds = divmod(min(max(int(stamp_ns), -(2**31) * SECOND), 2**31 * SECOND - 1), SECOND)
    return Time(sec=seconds, nanosec=nanoseconds)


def ns_to_duration(length_ns: int) -> Duration:
    """`length_ns`, which may be negative, as a Duration, held to what the message holds."""
    seconds, nanoseconds = divmod(min(max(int(length_ns), -(2**31) * SECOND), 2**31 * SECOND - 1), SECOND)
    return Duration(sec=seconds, nanosec=nanoseconds)


def short_frame_id(frame_id: str) -> str:
    """`frame_id` as a StreamInfo can carry it: printable, at most 255 bytes of UTF-8."""
    printable = "".join(letter for letter in frame_id if letter.isprintable())
    return printable.encode(errors="ignore")[:MAX_FRAME_ID_BYTES].decode(errors="ignore")


def stream_info_to_message(info: StreamInfo) -> StreamInfoMessage:
    """The ROS message of a stream's description."""
    return StreamInfoMessage(
        stamp=ns_to_time(info.stamp_ns),
        camera=info.camera,
        frame_id=info.frame_id,
        width=info.width,
        height=info.height,
        model=info.model,
        stream_hash=info.stream_hash,
        model_hash=info.model_hash,
    )


def stream_info_from_message(message: StreamInfoMessage) -> StreamInfo:
    """The stream description in `message`. Raises ValueError naming the field that is out of its range."""
    return StreamInfo(
        camera=message.camera,
        frame_id=message.frame_id,
        width=message.width,
        height=message.height,
        model=message.model,
        stream_hash=message.stream_hash,
        model_hash=message.model_hash,
        stamp_ns=time_to_ns(message.stamp),
    )


def block_message(stamp_ns: int, frame: int, packet: bytes) -> SemanticBlock:
    """The message of one packet on its block's topic."""
    return SemanticBlock(stamp=ns_to_time(stamp_ns), frame=frame, data=array("B", packet))


def block_from_message(message: SemanticBlock) -> Block:
    """The one block in `message`. Raises PacketError (damaged), ValueError (message and packet disagree)."""
    packet = Packet.parse(bytes(message.data))
    if len(packet.blocks) != 1 or packet.piece is not None:
        raise ValueError(f"data: a packet of {len(packet.blocks)} blocks, piece {packet.piece}, expected 1 whole block")
    if packet.frame != message.frame:
        raise ValueError(f"frame: {message.frame}, its packet says {packet.frame}")
    return packet.blocks[0]


def detection_message(detection: Detection) -> SemanticDetection:
    """The message of one object."""
    x_min, y_min, x_max, y_max = (float(value) for value in detection.box)
    others = detection.others_at(len(detection.path) - 1)
    return SemanticDetection(
        id=detection.id,
        x_min=x_min,
        y_min=y_min,
        x_max=x_max,
        y_max=y_max,
        path=array("H", detection.path),
        names=list(detection.names),
        scores=array("f", detection.scores),
        other_nodes=array("H", [node for node, _ in others]),
        other_scores=array("f", [score for _, score in others]),
    )


def reading_message(
    reading: Reading, stamp_ns: int, frame_id: str, now_ns: int, least_score: float = 0.0
) -> SemanticDetectionArray:
    """The message of a reading; `now_ns` (the receiver's clock) less the stamp is its latency.

    Objects whose coarsest score, the surest of their path, is below `least_score` are left out.
    """
    message = SemanticDetectionArray(
        frame=reading.frame,
        level=reading.level,
        prefix=reading.prefix,
        bytes_received=reading.payload_bytes,
        latency=ns_to_duration(now_ns - stamp_ns),
        detections=[detection_message(item) for item in reading.detections if item.scores[0] >= least_score],
    )
    message.header.stamp = ns_to_time(stamp_ns)
    message.header.frame_id = frame_id
    return message


def rgb_message(rgb: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> Image:
    """(height, width, 3) uint8 RGB as a `sensor_msgs/Image` with the source's header."""
    height, width = rgb.shape[:2]
    message = Image(height=height, width=width, encoding="rgb8", is_bigendian=0, step=3 * width)
    message.header.stamp = ns_to_time(stamp_ns)
    message.header.frame_id = frame_id
    message.data = array("B", np.ascontiguousarray(rgb).tobytes())
    return message


def request_from_message(message: BlockRequestMessage) -> BlockRequest:
    """The request in `message`, its duration rounded away from zero to a millisecond; what does not count
    (`duration` with `one_frame`, else `frame`) is left out. Raises ValueError naming field, value and range."""
    if message.one_frame:
        return BlockRequest(message.finest, message.frame)
    nanoseconds = time_to_ns(message.duration)
    away_from_zero = nanoseconds // MILLISECOND if nanoseconds < 0 else -(-nanoseconds // MILLISECOND)
    return BlockRequest(message.finest, None, away_from_zero)


def request_message(camera: str, request: BlockRequest) -> BlockRequestMessage:
    """The ROS message of a request to the sender of `camera`."""
    message = BlockRequestMessage(
        camera=camera, finest=request.finest, frame=request.frame or 0, one_frame=request.frame is not None
    )
    message.duration = ns_to_duration(request.duration_ms * MILLISECOND)
    return message


def class_numbers(sizes: Sequence[int]) -> list[int]:
    """First class number of each level when a taxonomy's nodes are numbered through, coarse level first."""
    return [sum(sizes[:level]) for level in range(len(sizes))]


def detection_2d_array(
    message: SemanticDetectionArray, sizes: Sequence[int], vision: Any, *, lasting: bool = False
) -> Any:
    """`message` as `vision_msgs/Detection2DArray`; `vision` is the module vision_msgs.msg, `sizes` the nodes per level.

    Each object's hypotheses are those of its label path, the finest node first, then what else it may be at the finest
    level, as the numbers that `label_info` names. A node's score is the chance of all that lies below it, so a vehicle
    that is sure and a truck that is not both say so.
    `lasting`: whether ids are of objects over many frames; else `id` is left empty, as vision_msgs wants it.
    """
    firsts = class_numbers(sizes)
    result = vision.Detection2DArray(header=message.header)
    for item in message.detections:
        detection = vision.Detection2D(header=message.header, id=str(item.id) if lasting else "")
        for number, score in _hypotheses(item, firsts):
            hypothesis = vision.ObjectHypothesisWithPose()
            hypothesis.hypothesis.class_id = str(number)
            hypothesis.hypothesis.score = float(score)
            detection.results.append(hypothesis)
        detection.bbox.center.position.x = (item.x_min + item.x_max) / 2
        detection.bbox.center.position.y = (item.y_min + item.y_max) / 2
        detection.bbox.size_x = float(item.x_max - item.x_min)
        detection.bbox.size_y = float(item.y_max - item.y_min)
        result.detections.append(detection)
    return result


def classification(message: SemanticDetectionArray, sizes: Sequence[int], vision: Any) -> Any:
    """A whole image's reading as `vision_msgs/Classification`: one hypothesis for each level of its label path, the
    finest first, then what else it may be at the finest, as the numbers that `label_info` names."""
    firsts = class_numbers(sizes)
    result = vision.Classification(header=message.header)
    for item in message.detections:
        for number, score in _hypotheses(item, firsts):
            hypothesis = vision.ObjectHypothesis()
            hypothesis.class_id, hypothesis.score = str(number), float(score)
            result.results.append(hypothesis)
    return result


def _hypotheses(item: SemanticDetection, firsts: Sequence[int]) -> list[tuple[int, float]]:
    """Class numbers and scores of a label path, the finest first, then of what else it may be at the finest level."""
    path = list(enumerate(zip(item.path, item.scores, strict=True)))
    named = [(firsts[level] + node, score) for level, (node, score) in reversed(path)]
    first = firsts[len(item.path) - 1]
    return named + [(first + node, score) for node, score in zip(item.other_nodes, item.other_scores, strict=True)]


def label_info(names: Sequence[Sequence[str]], header: Any, vision: Any) -> Any:
    """`vision_msgs/LabelInfo` of a taxonomy's node names per level, numbered as `detection_2d_array` does."""
    result = vision.LabelInfo(header=header, threshold=0.0)
    flat = [name for level in names for name in level]
    result.class_map = [vision.VisionClass(class_id=number, class_name=name) for number, name in enumerate(flat)]
    return result


def scene_message(scene: Scene, frame_id: str) -> SemanticScene:
    """The ROS message of a living scene; `frame_id`: the source pictures' coordinate frame."""
    message = SemanticScene(read_stamp=ns_to_time(scene.read_ns or 0))
    message.header.stamp, message.header.frame_id = ns_to_time(scene.stamp_ns), frame_id
    message.camera_velocity_x, message.camera_velocity_y = scene.camera_velocity
    message.objects = [
        SemanticTrack(
            id=item.id % 2**32,
            x_min=item.box[0],
            y_min=item.box[1],
            x_max=item.box[2],
            y_max=item.box[3],
            velocity_x=item.velocity[0],
            velocity_y=item.velocity[1],
            covariance_xx=item.covariance[0],
            covariance_xy=item.covariance[1],
            covariance_yy=item.covariance[2],
            velocity_covariance_xx=item.velocity_covariance[0],
            velocity_covariance_xy=item.velocity_covariance[1],
            velocity_covariance_yy=item.velocity_covariance[2],
            age=item.age,
            since=item.since,
            path=list(item.path),
            names=list(item.names),
            scores=list(item.scores),
            existence=item.existence,
        )
        for item in scene.objects
    ]
    return message


def sighting_from_message(message: Any, names: Mapping[str, str], size: tuple[int, int] | None) -> Sighting:
    """What a `vision_msgs/Detection2DArray` says, of interfaces 4 (Humble and later) and before.

    names: what a `LabelInfo` calls the numbers; ids that it has not are taken as they are. size: of the picture.
    """
    boxes, classes, scores = [], [], []
    for detection in message.detections:
        centre = getattr(detection.bbox.center, "position", detection.bbox.center)
        half = detection.bbox.size_x / 2, detection.bbox.size_y / 2
        corners = (centre.x - half[0], centre.y - half[1], centre.x + half[0], centre.y + half[1])
        for result in detection.results:
            thought = result.hypothesis
            boxes.append(corners)
            classes.append(names.get(str(thought.class_id), str(thought.class_id)))
            scores.append(thought.score)
    return Sighting(
        size,
        np.array(boxes, np.float32).reshape(-1, 4),
        tuple(classes),
        np.array(scores, np.float32),
    )


def names_from_label_info(message: Any) -> dict[str, str]:
    """The names of a `vision_msgs/LabelInfo`, by the number as class ids have it."""
    return {str(item.class_id): item.class_name for item in message.class_map}
