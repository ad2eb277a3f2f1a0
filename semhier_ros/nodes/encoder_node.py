"""encoder_node: camera images in, blocks out, coarse meaning first, under a byte budget.

What is made when, and what is sent, `camera.encoder_end` decides; here are its parameters, topics and messages. The
camera callback only offers the newest frame. A worker thread encodes it and hands the blocks to the link's pacer, whose
own thread lets datagrams leave; so neither encoding nor the network ever delays the camera.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from semhier_ros.camera.detections import DetectionMaker, PicturesByStamp
from semhier_ros.camera.encoder_end import BlocksMaker, EncoderEnd, EncoderSettings, Job, PictureMaker
from semhier_ros.camera.images import ImageError, compressed_to_rgb, image_to_rgb, is_dim
from semhier_ros.camera.worker import EncodeWorker
from semhier_ros.codec.block_request import BlockRequest
from semhier_ros.codec.model import SenderMemory
from semhier_ros.codec.packet import Packet, PacketError, split
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.link import ROS_FASTDDS, Scheduler, default_policies
from semhier_ros.link.schedule.status import LevelStatus
from semhier_ros.link.sender import LinkSender, PlainSender
from semhier_ros.link.words import link_words
from semhier_ros.msg import BlockRequest as BlockRequestMessage
from semhier_ros.msg import LinkStatus
from semhier_ros.msg import StreamInfo as StreamInfoMessage
from semhier_ros.nodes import operator_words
from semhier_ros.nodes.conversions import (
    names_from_label_info,
    ns_to_time,
    request_from_message,
    short_frame_id,
    sighting_from_message,
    stream_info_to_message,
    time_to_ns,
)
from semhier_ros.nodes.ego_pose import EgoPoseSource
from semhier_ros.nodes.link_parameters import link_at_first_sight, meeting_place, node_carrier
from semhier_ros.nodes.managed import ManagedNode, main_of, steady_clock
from semhier_ros.nodes.models import load_codec
from semhier_ros.nodes.parameter_tables import ENCODER
from semhier_ros.nodes.planner_messages import calibration_of
from semhier_ros.nodes.ros_link import LATCHED, RosTransport
from semhier_ros.nodes.silence import why_silent

if TYPE_CHECKING:
    from semhier_ros import Codec

try:
    import vision_msgs.msg as vision
except ImportError:
    vision = None

INFO_SECONDS = 10.0
BYTES_PER_KBIT = 125.0
WAITING_DETECTIONS = 15
"""Frames of detections that may wait: they cost next to nothing, so none need go while the machine is held up."""
NO_ANSWERS = (
    "memory.enabled: a memory needs acknowledgements, which link.radio.answers: false leaves out; every frame is sent"
    " whole"
)
DETECTIONS = QoSProfile(depth=30, reliability=ReliabilityPolicy.BEST_EFFORT)  # takes what any publisher offers


class EncoderNode(ManagedNode):
    """See the module's text; topics, parameters and qualities of service are in docs/nodes.md."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("encoder_node", ENCODER, **kwargs)
        self._next_frame = random.randrange(0x10000)
        self._end: EncoderEnd | None = None
        self._worker: EncodeWorker | None = None
        self._camera_info: CameraInfo | None = None
        self._pictures: PicturesByStamp | None = None
        self._pose: EgoPoseSource | None = None
        self._class_names: dict[str, str] = {}

    def subjects(self) -> tuple[str, ...]:
        return (self.values.camera,)

    def link_trouble(self) -> str:
        return "" if self._end is None else self._link.trouble

    # -- transitions --------------------------------------------------------------------------------------------------

    def configure(self) -> None:
        """Loads the model, opens the link and makes the publishers."""
        values = self.values
        if trouble := link_at_first_sight(values):
            self.warn("link_not_open", trouble, error=True)
        self._camera: str = values.camera
        self._codec = self.unless_stopped(self._load)
        self._blocks = tuple(self._codec.block_names)
        topics = values.link_transport == "ros"
        repeats = values.link_coarse_repeats if values.link_coarse_repeats >= 0 else int(not topics)
        self._policies = default_policies(
            len(self._blocks),
            self._codec.semantic_blocks,
            repeats=repeats,
            coarse_lifespan=values.link_coarse_lifespan,
            semantic_lifespan=values.link_semantic_lifespan,
            picture_lifespan=values.link_picture_lifespan,
        )
        base = f"{self._camera}/semhier"
        self._camera_info = None
        maker = self._make_maker()
        self._status_publisher = self.create_publisher(LinkStatus, f"{base}/link_status", 10)
        self._camera_info_publisher = self.create_publisher(CameraInfo, f"{base}/camera_info", LATCHED)
        self._info_publisher = self.create_publisher(StreamInfoMessage, f"{base}/info", LATCHED) if topics else None
        self._link: PlainSender = self._open_topics() if topics else self._open_carrier()
        self._link.set_finest(self._camera, values.finest_block)
        self._end = EncoderEnd(
            self._camera,
            maker,
            self._link,
            self._announce,
            self._settings(),
            first_frame=self._next_frame,
            count=self.count,
            report=self.warn,
        )
        self.get_logger().info(
            f"model {self._codec.name} (stream {self._codec.stream_hash}) for {self._camera}, blocks"
            f" {', '.join(self._blocks)}, over {values.link_transport}, budget {values.link_budget_kbit:g} kbit/s"
        )

    def _load(self) -> Codec:
        """The model, its networks compiled where it is to see images: else they are at their first use."""
        values = self.values
        codec = load_codec(
            values.model,
            values.device,
            values.threads,
            values.precision,
            **self._detector_options(),
        )
        if values.foot_bits and not codec.whole_image:
            codec = codec.with_foot_bits()
        if values.source == "images":
            codec.prepare_encoding()
        return codec

    def _detector_options(self) -> dict[str, Any]:
        """The detector's arguments of `Codec.load`."""
        values = self.values
        return {
            "detector": values.detector_file or None,
            "detector_layout": values.detector_layout or None,
            "detector_names": values.detector_names or None,
            "detector_engine": values.detector_engine,
            "detector_looks": values.detector_looks.replace(",", " ").split() or None,
        }

    def _make_maker(self) -> BlocksMaker:
        """What turns the source into blocks, ready for its first frame."""
        if self.values.source == "images":
            self._pictures = None
            return PictureMaker(self._codec, self._rgb_of, self._memory(), measure=self.values.motion == "on")
        if vision is None:
            raise ValueError("source: detections needs vision_msgs: apt install ros-$ROS_DISTRO-vision-msgs")
        if (self.values.detections_width > 0) != (self.values.detections_height > 0):
            raise ValueError("detections.width, detections.height: both or neither are given")
        wants_pictures = len(self._codec.block_names) > self._codec.semantic_blocks
        self._pictures = PicturesByStamp() if wants_pictures else None
        self._class_names = {}
        return DetectionMaker(self._codec, self.warn, self._pictures, self._rgb_of, self._memory())

    def _memory(self) -> SenderMemory | None:
        """What is remembered of the receiver, where it is wanted and the receiver may answer. Raises ValueError."""
        values = self.values
        if not values.memory_enabled:
            return None
        way = None if values.link_transport == "ros" else node_carrier(values)
        if way is not None and not way.answers:
            self.warn("memory_refused", NO_ANSWERS)
            return None
        radio = way is not None and way.radio
        return self._codec.memory(values.memory_overlap, values.memory_whole_every, radio=radio)

    def _settings(self) -> EncoderSettings:
        values = self.values
        waiting = 1 if values.source == "images" else WAITING_DETECTIONS
        return EncoderSettings(values.max_rate, values.keep_frames, values.accept_requests, waiting)

    def _open_topics(self) -> PlainSender:
        reliable = self.values.link_ros_reliable
        budget = self.values.link_budget_kbit * BYTES_PER_KBIT
        scheduler = Scheduler(Packet.pack, split, self._policies, wire=ROS_FASTDDS, rate=budget, joint=False)
        semantic = self._codec.semantic_blocks
        return PlainSender(
            scheduler, RosTransport(self, self._camera, self._blocks, semantic, self._policies, reliable)
        )

    def _open_carrier(self) -> LinkSender:
        values = self.values
        return node_carrier(values).sender(
            Packet.pack,
            split,
            self._policies,
            budget=values.link_budget_kbit * BYTES_PER_KBIT,
            adapt=values.link_adapt,
            repeats=values.link_coarse_repeats,
            on_request=self._on_request_bytes,
            on_memory=self._on_memory,
        )

    def activate(self) -> None:
        """Subscribes to the camera and starts to encode."""
        camera, compressed = self._camera, self.values.input == "compressed"
        images = f"{camera}/image_raw/compressed" if compressed else f"{camera}/image_raw"
        detections = self.values.source == "detections"
        self._topic = self._below_camera(self.values.detections_topic) if detections else images
        self._heard_on = self.resolve_topic_name(self._topic)
        self._started = time.monotonic()
        self._last_image: float | None = None
        self._counts_before = self.counts()
        self._spoilt: Mapping[str, int] = {}
        self._levels_before: tuple[LevelStatus, ...] | None = None
        kind = CompressedImage if compressed else Image
        self._wanted = vision.Detection2DArray if detections else kind
        request_topic = f"{camera}/semhier/request"
        self._inputs: list[Any] = []
        if detections:
            labels = self._below_camera(self.values.detections_label_info)
            self._inputs += [
                self.create_subscription(vision.Detection2DArray, self._topic, self._on_detections, DETECTIONS),
                self.create_subscription(vision.LabelInfo, labels, self._on_label_info, LATCHED),
                self.create_subscription(vision.LabelInfo, labels, self._on_label_info, DETECTIONS),
            ]
        if not detections or self._pictures is not None:
            self._inputs.append(self.create_subscription(kind, images, self._on_image, qos_profile_sensor_data))
        self._inputs += [
            self.create_subscription(
                CameraInfo, f"{camera}/camera_info", self._on_camera_info, qos_profile_sensor_data
            ),
            self.create_subscription(BlockRequestMessage, request_topic, self._on_request, 10),
        ]
        steady = steady_clock()
        self._timers_running = [
            self.create_timer(1.0, self._report, clock=steady),
            self.create_timer(INFO_SECONDS, self._repeat_info, clock=steady),
        ]
        told = self.values.pose_source != "off" or self.values.pose_earth
        self._pose = None
        if told and isinstance(self._link, LinkSender):
            self._pose = EgoPoseSource(self, partial(self._link.tell, camera))
        elif told:
            self.get_logger().info("pose.*: over ROS topics TF and fixes reach the base by themselves; nothing is told")
        assert self._end is not None
        self._worker = EncodeWorker([self._end], self._failed)

    def deactivate(self) -> None:
        """Stops to listen and to encode; blocks that wait still leave."""
        if self._pose is not None:
            self._pose.close()
            self._pose = None
        for item in self._inputs:
            self.destroy_subscription(item)
        for timer in self._timers_running:
            self.destroy_timer(timer)
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def cleanup(self) -> None:
        """Closes the link and forgets the model."""
        if self._end is None:
            return
        self._link.close()
        self._next_frame = self._end.next_frame
        for publisher in (self._status_publisher, self._camera_info_publisher, self._info_publisher):
            if publisher is not None:
                self.destroy_publisher(publisher)
        self._end = None
        del self._link, self._codec

    def parameters_changed(self, names: set[str]) -> None:
        """Budget and finest block take effect at once; the others with the next frame."""
        values = self.values
        if "link.budget_kbit" in names:
            self._link.set_budget(values.link_budget_kbit * BYTES_PER_KBIT)
        if "finest_block" in names:
            self._link.set_finest(self._camera, values.finest_block)
        if "pose.rate" in names and self._pose is not None:
            self._pose.pace()
        assert self._end is not None
        self._end.settings = self._settings()
        maker: Any = self._end.maker
        if maker.memory is not None and values.memory_enabled:
            maker.memory.overlap, maker.memory.whole_every = values.memory_overlap, values.memory_whole_every
        elif (maker.memory is not None) != values.memory_enabled:
            try:
                maker.memory = self._memory()
            except ValueError as error:
                self.warn("memory_refused", str(error))

    # -- in -----------------------------------------------------------------------------------------------------------

    def _below_camera(self, topic: str) -> str:
        return topic if topic.startswith("/") else f"{self._camera}/{topic}"

    def _on_image(self, message: Any) -> None:
        if self._pictures is not None:
            self._pictures.put(time_to_ns(message.header.stamp), message)
        else:
            self._offer(message, message.header)

    def _on_detections(self, message: Any) -> None:
        values, info = self.values, self._camera_info
        size = None
        if values.detections_width:
            size = (values.detections_width, values.detections_height)
        elif info is not None and info.width and info.height:
            size = (int(info.width), int(info.height))
        self._offer(sighting_from_message(message, self._class_names, size), message.header)

    def _on_label_info(self, message: Any) -> None:
        self._class_names = names_from_label_info(message)

    def _offer(self, source: Any, header: Any) -> None:
        """Hands a frame to the worker."""
        self._last_image = time.monotonic()
        frame_id = header.frame_id
        short = short_frame_id(frame_id)
        if short != frame_id:
            self.warn("frame_id_cut", f"frame_id {frame_id!r} is too long for the link, sent as {short!r}")
        if self._worker is not None and self._end is not None:
            self._worker.offer(self._end, source, time_to_ns(header.stamp), short)

    def _on_camera_info(self, message: CameraInfo) -> None:
        before = self._camera_info
        if before is not None:
            message.header.stamp, stamp = before.header.stamp, message.header.stamp
            if message == before:  # but for its stamp
                return
            message.header.stamp = stamp
        self._camera_info = message
        self._camera_info_publisher.publish(message)
        if self._end is None:
            return
        try:
            self._end.calibration = calibration_of(message) if self.values.link_calibration else None
        except ValueError as error:
            self._end.calibration = None
            self.warn("calibration_left_out", f"{self._camera}/camera_info: {error}; the link carries none")

    def _on_request_bytes(self, camera: str, data: bytes) -> None:
        try:
            request = BlockRequest.from_bytes(data)
        except PacketError as error:
            self.warn("requests_refused", f"request of {camera} refused: {error}")
        else:
            self._honour(request)

    def _on_memory(self, camera: str, memory: bytes) -> bool:
        return self._end is not None and self._end.heard(memory)

    def _on_request(self, message: BlockRequestMessage) -> None:
        if message.camera.rpartition("/")[2] not in ("", self._camera.rpartition("/")[2]):
            self.warn("requests_refused", f"block request for camera {message.camera!r}, this is {self._camera!r}")
            return
        try:
            request = request_from_message(message)
        except ValueError as error:
            self.warn("requests_refused", f"block request refused: {error}")
        else:
            self._honour(request)

    def _honour(self, request: BlockRequest) -> None:
        if self._end is not None:
            self._end.request(request, time.monotonic())
        if self._worker is not None:
            self._worker.wake()

    def _rgb_of(self, message: Any) -> np.ndarray:
        """The picture of an Image or CompressedImage; called by the worker thread. Raises ImageError."""
        raw = isinstance(message, Image)
        picture = image_to_rgb(message) if raw else compressed_to_rgb(message)
        if is_dim(message):
            name = message.encoding if raw else message.format
            self.warn(
                "dim_images",
                f"{name} image on {self._heard_on} uses its low 12 bits only and is read as nearly black:"
                " let the driver give 8 bits or shift its values up",
            )
        return picture

    # -- out: called by the worker thread -----------------------------------------------------------------------------

    def _failed(self, end: EncoderEnd, job: Job, error: Exception) -> None:
        if isinstance(error, ImageError):
            self.warn("bad_images", f"image on {self._heard_on} cannot be read: {error}")
        else:
            self.warn("failed_frames", f"frame not encoded: {type(error).__name__}: {error}", error=True)
            device = self._codec.device
            if isinstance(error, RuntimeError) and self._codec.retreat():  # as torch tells that a GPU is lost
                self.warn("device_lost", f"device {device} is lost, goes on on the CPU", error=True)

    def _announce(self, info: StreamInfo, changed: bool) -> None:
        if isinstance(self._link, LinkSender):
            self._link.set_info(info.camera, info.to_bytes(), changed)
        elif changed:
            self._repeat_info()

    def _repeat_info(self) -> None:
        info = None if self._end is None else self._end.info
        if info is not None and self._info_publisher is not None:
            self._info_publisher.publish(stream_info_to_message(info))

    # -- once a second ------------------------------------------------------------------------------------------------

    def _report(self) -> None:
        status, estimate = self._link.status(self._camera), self._link.estimate()
        counts, before = self.counts(), self._counts_before
        self._counts_before = counts
        grown = {name: number - before.get(name, 0) for name, number in counts.items()}
        self._spoilt = operator_words.spoilt_frames(self._spoilt, grown)
        told = grown.get("deltas", 0) if self.values.memory_enabled else None
        late = _late(status.levels) - (0 if self._levels_before is None else _late(self._levels_before))
        words = link_words(status, self._levels_before, 1.0, self._codec.semantic_blocks, estimate, told)
        self._levels_before = status.levels
        message = LinkStatus(camera=self._camera, transport=self.values.link_transport, blocks=list(self._blocks))
        message.stamp = ns_to_time(self.now_ns())
        message.budget = min(int(status.budget or 0), 0xFFFFFFFF)
        message.used = min(int(status.used), 0xFFFFFFFF)
        message.queued = [min(level.queued_bytes, 0xFFFFFFFF) for level in status.levels]
        message.sent = [level.sent & 0xFFFFFFFF for level in status.levels]
        message.dropped = [level.dropped & 0xFFFFFFFF for level in status.levels]
        message.words = words
        message.loss = message.queue_delay = message.round_trip = -1.0
        message.rate = message.budget
        if estimate is not None:
            message.rate = min(int(estimate.rate or 0), 0xFFFFFFFF)
            message.repeats = estimate.repair.repeats
            if estimate.reports:
                message.loss, message.queue_delay = estimate.loss, estimate.queue_delay
                message.round_trip = -1.0 if estimate.round_trip is None else estimate.round_trip
        self._status_publisher.publish(message)
        now = time.monotonic()
        image_age = None if self._last_image is None else now - self._last_image
        silent = image_age is None or image_age > operator_words.SILENT_SECONDS
        others = () if self.values.source == "detections" else (Image, CompressedImage)
        level, text, details = operator_words.encoder(
            topic=self._heard_on,
            wanted="image" if self.values.source == "images" else "list of detections",
            silence=why_silent(self, self._topic, self._wanted, others) if silent else "",
            place=meeting_place(self.values),
            image_age=image_age,
            running=now - self._started,
            frames_per_second=grown.get("encoded", 0),
            wished_rate=0.0 if self._end is None else self._end.wished_rate,
            encode_seconds=0.0 if self._end is None else self._end.encode_seconds,
            relief=self._relief(),
            status=status,
            late=late,
            blocks=self._blocks,
            transport=self._link,
            words=words,
            estimate=estimate,
            spoilt=self._spoilt,
            counts=counts,
        )
        self.publish_diagnostics(self._camera, level, text, details)

    def _relief(self) -> str:
        """What makes encoding faster, in words."""
        folder: Any = getattr(self._codec.model, "folder", None)
        if self.values.source == "images" and len(getattr(folder, "looks", ())) > 1:
            width, height = folder.canvas
            return f"detector.looks: {width}x{height} looks once, which takes less time and finds less"
        return "the newest is taken each time; more threads or device: cuda may take less time"


def _late(levels: Sequence[LevelStatus]) -> int:
    """How many coarsest blocks were too late to leave so far."""
    return levels[0].causes["expired"]


def main(arguments: list[str] | None = None) -> int:
    """Entry point: `encoder_node --ros-args --params-file config/encoder.yaml`."""
    return main_of(EncoderNode, ENCODER, arguments)


if __name__ == "__main__":
    sys.exit(main())
