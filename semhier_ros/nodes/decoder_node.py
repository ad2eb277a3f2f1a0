"""decoder_node: blocks of one or more cameras in; out come readings that get finer while blocks arrive, and pictures.

What a packet means, `camera.decoder_end` knows; here are its parameters, topics and messages. Callbacks only queue what
arrives; two threads serve all cameras (`camera.fleet`): one reads and publishes, one makes pictures.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from semhier_ros.camera.asking import AskPolicy
from semhier_ros.camera.decoder_end import DecoderEnd, Output
from semhier_ros.camera.fleet import Figures, Fleet, Limits
from semhier_ros.camera.worker import FleetWorker
from semhier_ros.codec.block_request import BlockRequest
from semhier_ros.codec.packet import Block, Packet, PacketError
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.msg import BlockRequest as BlockRequestMessage
from semhier_ros.msg import SemanticBlock, SemanticDetectionArray, SemanticScene
from semhier_ros.msg import StreamInfo as StreamInfoMessage
from semhier_ros.nodes import operator_words
from semhier_ros.nodes.conversions import (
    SECOND,
    block_from_message,
    block_message,
    classification,
    detection_2d_array,
    label_info,
    ns_to_time,
    reading_message,
    request_from_message,
    request_message,
    rgb_message,
    scene_message,
    stream_info_from_message,
    stream_info_to_message,
    time_to_ns,
)
from semhier_ros.nodes.link_parameters import link_at_first_sight, meeting_place, node_carrier
from semhier_ros.nodes.managed import ManagedNode, main_of, steady_clock
from semhier_ros.nodes.models import load_codec
from semhier_ros.nodes.parameter_tables import DECODER
from semhier_ros.nodes.planner_outputs import PlannerOutputs
from semhier_ros.nodes.ros_link import LATCHED, block_readers, block_topic, subscribe_blocks
from semhier_ros.nodes.silence import why_silent

if TYPE_CHECKING:
    from semhier_ros import Codec

try:
    import vision_msgs.msg as vision
except ImportError:
    vision = None

FLEET = "all cameras"
"""The diagnostic status of what several cameras share."""

TOLD_BY_STATE = ("unknown_model", "other_sender")
"""What a camera's state tells for as long as it lasts, to the log once: what an end says of it is counted."""

READINGS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)


class _Camera:
    """What the node keeps of one camera besides its stream."""

    def __init__(self) -> None:
        self.reading_time: float | None = None
        self.latency: float | None = None
        self.readings = 0
        self.readings_before = 0
        self.labels_of: str | None = None
        self.info: StreamInfo | None = None


class DecoderNode(ManagedNode):
    """See the module's text; topics, parameters and qualities of service are in docs/nodes.md."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("decoder_node", DECODER, **kwargs)
        self._worker: FleetWorker | None = None
        self._receiver: Any = None
        self._publishing = threading.Lock()  # readings and pictures may come from two threads
        self._planner: PlannerOutputs | None = None
        if vision is None:
            self.get_logger().info(
                "vision_msgs is not installed: no detections_2d, classification and label_info topics"
            )

    def subjects(self) -> tuple[str, ...]:
        cameras = tuple(self.values.cameras)
        return (*cameras, FLEET) if len(cameras) > 1 else cameras

    def link_trouble(self) -> str:
        return "" if self._receiver is None else self._receiver.trouble

    # -- transitions --------------------------------------------------------------------------------------------------

    def configure(self) -> None:
        """Loads the models and makes the publishers."""
        values = self.values
        if trouble := link_at_first_sight(values):
            self.warn("link_not_open", trouble, error=True)
        loaded = self.unless_stopped(self._load)
        self._codecs = {key: codec for one in loaded for key, codec in one.streams().items()}
        self._levels = max(codec.taxonomy.depth for codec in loaded)
        self._cameras = {camera: _Camera() for camera in values.cameras}
        self._outputs: dict[str, Any] = {}
        for camera in values.cameras:
            for level in range(self._levels):
                topic = f"{camera}/detections/level_{level}"
                self._outputs[topic] = self.create_publisher(SemanticDetectionArray, topic, READINGS)
                for kind, name in self._vision_kinds(loaded):
                    topic = f"{camera}/{name}/level_{level}"
                    self._outputs[topic] = self.create_publisher(kind, topic, READINGS)
            if vision is not None:
                topic = f"{camera}/label_info"
                self._outputs[topic] = self.create_publisher(vision.LabelInfo, topic, LATCHED)
            if values.scene_rate > 0 and not all(codec.whole_image for codec in loaded):
                self._outputs[f"{camera}/scene"] = self.create_publisher(SemanticScene, f"{camera}/scene", READINGS)
            self._outputs[f"{camera}/picture"] = self.create_publisher(Image, f"{camera}/picture", 2)
        self._topics = values.link_transport == "ros"
        self._follows = values.follow or values.scene_rate > 0
        self._planner = PlannerOutputs(self, levels=self._levels, lasting=self._follows, zenoh=not self._topics)
        self._republish = not self._topics and values.republish_blocks
        if self._republish:
            self._make_block_publishers()
        described = ", ".join(f"{codec.name} (stream {key})" for key, codec in self._codecs.items())
        self.get_logger().info(f"cameras {', '.join(values.cameras)} over {values.link_transport}; models {described}")

    def _load(self) -> list[Codec]:
        """The models, ready to paint where pictures are wanted."""
        values = self.values
        loaded = [load_codec(name, values.device, values.threads, values.precision) for name in values.models]
        if values.picture != "off":
            for codec in loaded:
                codec.prepare_pictures()
        return loaded

    @staticmethod
    def _vision_kinds(codecs: Sequence[Any]) -> list[tuple[Any, str]]:
        """Message and first part of the topic of what vision_msgs can say of these codecs' readings."""
        if vision is None:
            return []
        whole, scenes = any(codec.whole_image for codec in codecs), not all(codec.whole_image for codec in codecs)
        kinds = [(vision.Classification, "classification")] if whole else []
        return kinds + ([(vision.Detection2DArray, "detections_2d")] if scenes else [])

    def _make_block_publishers(self) -> None:
        for camera in self.values.cameras:
            topic = block_topic(camera, "info")
            self._outputs[topic] = self.create_publisher(StreamInfoMessage, topic, LATCHED)
            for name in self._block_names():
                topic = block_topic(camera, name)
                self._outputs[topic] = self.create_publisher(SemanticBlock, topic, READINGS)

    def _block_names(self) -> list[str]:
        return list(dict.fromkeys(name for codec in self._codecs.values() for name in codec.block_names))

    def activate(self) -> None:
        """Starts to decode and to listen."""
        try:
            self._begin()
        except Exception:
            self._end_threads()
            raise

    def _begin(self) -> None:
        values = self.values
        tap = self._republish_block if self._republish else None
        ask: AskPolicy | None = None
        if values.ask == "uncertain":
            ask = AskPolicy(
                values.ask_below,
                values.ask_finest,
                values.ask_per_second,
                above=values.ask_above,
                near=values.ask_near,
            )
        follow, memory = self._follows, values.memory
        self._streams = {
            camera: DecoderEnd(
                camera,
                self._codecs,
                values.keep_frames,
                self._hear,
                tap=tap,
                follow=follow,
                memory=memory,
                ask=ask,
                pictures_later=True,
            )
            for camera in values.cameras
        }
        self._inputs: list[Any] = []
        self._requests: dict[str, Any] = {}
        self._clocks = False
        self._worker = self._make_worker()
        self._reported = (time.monotonic(), Figures(), 0)
        self._started = time.monotonic()
        if not self._topics:
            self._open_carrier()
        else:
            self._subscribe(asks=ask is not None)
        assert self._planner is not None
        self._planner.activate()
        if vision is not None and len(values.models) == 1:  # no reading has to come first
            codec = next(iter(self._codecs.values()))
            for camera in values.cameras:
                self._publish_labels(camera, codec, Header(stamp=ns_to_time(self.now_ns())))
        self._report_timer = self.create_timer(1.0, self._report, clock=steady_clock())
        self._scene_timer: Any = None
        if values.scene_rate > 0:
            self._scene_timer = self.create_timer(1.0 / values.scene_rate, self._publish_scenes, clock=steady_clock())

    def _make_worker(self) -> FleetWorker:
        values = self.values
        limits = Limits(
            values.queue,
            values.fleet_queue_bytes,
            company=values.fleet_company_ms / 1000,
            together=values.fleet_together,
        )
        return FleetWorker(
            Fleet(
                self._streams,
                limits,
                on_reading=self._publish_reading,
                on_picture=self._publish_picture,
                wants_picture=self._wants_picture,
                on_error=lambda error: self.warn("errors", f"{type(error).__name__}: {error}", error=True),
                report=self._hear,
                pictures=lambda: self.values.picture != "off",
            )
        )

    def _subscribe(self, asks: bool) -> None:
        if asks:
            self._requests = {
                camera: self.create_publisher(BlockRequestMessage, f"{camera}/semhier/request", 10)
                for camera in self.values.cameras
            }
        models = [(codec.block_names, codec.semantic_blocks) for codec in self._codecs.values()]
        readers = block_readers(models, self.values.link_ros_reliable)
        for camera in self.values.cameras:
            on_info = partial(self._on_info_message, camera)
            self._inputs.append(
                self.create_subscription(StreamInfoMessage, block_topic(camera, "info"), on_info, LATCHED)
            )
            self._inputs += subscribe_blocks(self, camera, readers, self._on_block)

    def _open_carrier(self) -> None:
        values = self.values
        carrier = node_carrier(values)
        self._clocks = not carrier.radio
        remembers = self._remembers if values.memory else None
        self._receiver = carrier.receiver(
            self._on_datagram,
            self._on_info_bytes,
            cameras=values.cameras,
            remembers=remembers,
            unread=self._unread if values.memory else None,
            on_stored=lambda camera, stamp_ns, blocks: self._put(camera, (tuple(blocks), stamp_ns)),
            on_note=self._on_note,
            on_gone=self._on_gone,
        )
        for camera in values.cameras:
            forward = partial(self._forward_request, camera)
            self._inputs.append(self.create_subscription(BlockRequestMessage, f"{camera}/semhier/request", forward, 10))

    def _remembers(self, camera: str) -> bytes | None:
        stream = self._streams.get(camera)
        return None if stream is None else stream.acknowledgement

    def _unread(self, camera: str) -> bool:
        stream = self._streams.get(camera)
        return stream is not None and stream.unread

    def deactivate(self) -> None:
        """Stops to listen and to decode."""
        for item in self._inputs:
            self.destroy_subscription(item)
        for publisher in self._requests.values():
            self.destroy_publisher(publisher)
        self.destroy_timer(self._report_timer)
        if self._scene_timer is not None:
            self.destroy_timer(self._scene_timer)
        self._end_threads()

    def _end_threads(self) -> None:
        """Ends what has threads of its own, the link first, and what listens for planners."""
        if self._receiver is not None:
            self._receiver.close()
            self._receiver = None
        if self._worker is not None:
            self._worker.close()
            self._worker = None
        if self._planner is not None:
            self._planner.deactivate()

    def cleanup(self) -> None:
        """Ends the output topics and forgets the models."""
        for publisher in getattr(self, "_outputs", {}).values():
            self.destroy_publisher(publisher)
        self._outputs = {}
        self._codecs = {}
        if self._planner is not None:
            self._planner.close()
            self._planner = None

    def _hear(self, kind: str, text: str) -> None:
        if kind in TOLD_BY_STATE:
            self.count(kind)
        else:
            self.warn(kind, text, error=kind == "device_lost")

    # -- in: called by the executor or by Zenoh's threads; only queues ------------------------------------------------

    def _put(self, camera: str, task: Any) -> None:
        worker = self._worker
        if worker is not None:
            worker.put(camera, task)

    def _on_block(self, camera: str, message: SemanticBlock) -> None:
        try:
            self._put(camera, (block_from_message(message), time_to_ns(message.stamp)))
        except ValueError as error:
            self.warn("damaged", f"block of camera {camera}: {error}")

    def _on_info_message(self, camera: str, message: StreamInfoMessage) -> None:
        try:
            self._take_info(camera, stream_info_from_message(message))
        except ValueError as error:
            self.warn("damaged_info", f"stream description of camera {camera}: {error}")

    def _on_info_bytes(self, camera: str, data: bytes) -> None:
        if camera not in self._cameras:
            return
        try:
            info = StreamInfo.from_bytes(data)
        except PacketError as error:
            self.warn("damaged_info", f"stream description of camera {camera}: {error}")
            return
        self._take_info(camera, info)
        if self._republish:
            self._outputs[block_topic(camera, "info")].publish(stream_info_to_message(info))

    def _take_info(self, camera: str, info: StreamInfo) -> None:
        self._cameras[camera].info = info
        codec = self._codecs.get(info.stream_hash)
        if vision is not None and codec is not None:
            self._publish_labels(camera, codec, Header(stamp=ns_to_time(info.stamp_ns), frame_id=info.frame_id))
        if self._planner is not None:
            self._planner.info(camera, info)
        self._put(camera, info)

    def _on_datagram(self, camera: str, level: int, payload: bytes) -> None:
        del level  # the packet itself says which blocks it carries
        self._put(camera, payload)

    def _on_note(self, camera: str, data: bytes) -> None:
        if self._planner is not None and camera in self._cameras:
            self._planner.pose(camera, data)

    def _on_gone(self, camera: str, frame: int) -> None:
        self.warn(
            "requests_too_late",
            f"camera {camera}, frame {frame}: more of it was asked for, but its encoder keeps it no longer, or takes no"
            " requests: ask sooner, or raise the encoder's `keep_frames`",
        )

    def _ask_for_more(self, camera: str, request: BlockRequest) -> None:
        """Asks the encoder for the finer blocks of a frame."""
        self.count("asked")
        if self._receiver is not None:
            self._send_request(camera, request)
        else:
            self._requests[camera].publish(request_message(camera, request))

    def _forward_request(self, camera: str, message: BlockRequestMessage) -> None:
        try:
            request = request_from_message(message)
        except ValueError as error:
            self.warn("requests_refused", f"block request for {camera}: {error}")
        else:
            self._send_request(camera, request)

    def _send_request(self, camera: str, request: BlockRequest) -> None:
        if not self._receiver.request(camera, request.to_bytes()):
            self.warn("requests_lost", f"block request for {camera} not sent: the link is not connected")

    # -- out: called by the worker's threads -------------------------------------------------------------------------

    def _wants_picture(self, stream: DecoderEnd, output: Output) -> bool:
        choice = self.values.picture
        due = choice == "every_block" or (choice == "picture_blocks" and stream.has_picture(output.reading))
        due = due or (choice == "on_complete" and stream.is_complete(output.reading))
        return due and self._picture_heard(stream.camera)

    def _picture_heard(self, camera: str) -> bool:
        """Whether somebody hears a camera's pictures, or what is drawn on them."""
        if self._outputs[f"{camera}/picture"].get_subscription_count() > 0:
            return True
        return self._planner is not None and self._planner.wants_pictures(camera)

    def _offset_ns(self, camera: str) -> int:
        """By how much this clock is ahead of the encoder's, as far as the link has measured it."""
        books = None if self._receiver is None else self._receiver.books(camera)
        return int(books.clock.offset_us * 1000) if books is not None and books.clock is not None else 0

    def _publish_scenes(self) -> None:
        """Every camera's objects as they are now, on the clock of the frames' stamps."""
        for camera, end in self._streams.items():
            scene = end.scene(self.now_ns() - self._offset_ns(camera))
            publisher = self._outputs.get(f"{camera}/scene")
            if scene is not None and publisher is not None and end.info is not None:
                publisher.publish(scene_message(scene, end.info.frame_id))

    def _publish_reading(self, camera: str, output: Output) -> None:
        state = self._cameras[camera]
        reading, now_ns = output.reading, self.now_ns()
        offset_ns = self._offset_ns(camera)
        if self._planner is not None:  # what a robot may stop for goes first
            stream = self._streams[camera]
            scene = stream.scene(now_ns - offset_ns)
            with self._publishing:
                self._planner.reading(camera, stream.codec, reading, output.stamp_ns, output.frame_id, scene)
        message = reading_message(
            reading, output.stamp_ns, output.frame_id, now_ns - offset_ns, self.values.least_score
        )
        self._outputs[f"{camera}/detections/level_{reading.level}"].publish(message)
        state.readings += 1
        state.reading_time = time.monotonic()
        state.latency = (now_ns - offset_ns - output.stamp_ns) / SECOND
        if output.asks is not None:
            self._ask_for_more(camera, output.asks)
        if vision is not None:
            self._publish_vision(camera, message)

    def _publish_vision(self, camera: str, message: SemanticDetectionArray) -> None:
        codec = self._streams[camera].codec
        if codec is None:
            return
        self._publish_labels(camera, codec, message.header)
        if codec.whole_image:
            found = classification(message, codec.taxonomy.sizes, vision)
            self._outputs[f"{camera}/classification/level_{message.level}"].publish(found)
            return
        array = detection_2d_array(message, codec.taxonomy.sizes, vision, lasting=self._follows)
        self._outputs[f"{camera}/detections_2d/level_{message.level}"].publish(array)

    def _publish_labels(self, camera: str, codec: Any, header: Header) -> None:
        """What class numbers mean, once for each model: a late joiner gets it too."""
        state = self._cameras[camera]
        if state.labels_of != codec.model_hash:
            state.labels_of = codec.model_hash
            names = [codec.taxonomy.names(level) for level in range(codec.taxonomy.depth)]
            self._outputs[f"{camera}/label_info"].publish(label_info(names, header, vision))

    def _publish_picture(self, camera: str, rgb: NDArray[np.uint8], output: Output) -> None:
        message = rgb_message(rgb, output.stamp_ns, output.frame_id)
        self._outputs[f"{camera}/picture"].publish(message)
        if self._planner is not None:
            with self._publishing:
                self._planner.picture(camera, rgb, output.stamp_ns)

    def _republish_block(self, camera: str, block: Block, stamp_ns: int) -> None:
        codec = self._streams[camera].codec
        names = () if codec is None else codec.block_names
        if block.index < len(names):
            message = block_message(stamp_ns, block.frame, Packet.pack([block]))
            self._outputs[block_topic(camera, names[block.index])].publish(message)

    # -- once a second ------------------------------------------------------------------------------------------------

    def _report(self) -> None:
        now = time.monotonic()
        worker = self._worker
        shared = {} if worker is None else {f"worker_{name}": number for name, number in dict(worker.counters).items()}
        if self._receiver is not None:
            shared |= {f"link {name}": number for name, number in self._receiver.counters.items()}
        if self._planner is not None:
            shared |= self._planner.counts()
        for camera, state in self._cameras.items():
            stream, info = self._streams[camera], state.info
            unknown = info is not None and info.stream_hash not in self._codecs
            level, text, details = operator_words.decoder(
                camera=camera,
                reading_age=None if state.reading_time is None else now - state.reading_time,
                running=now - self._started,
                stale_seconds=self.values.stale_seconds,
                latency=state.latency,
                readings_per_second=state.readings - state.readings_before,
                known=info is not None,
                silence=self._why_unknown(camera) if info is None else "",
                place=meeting_place(self.values),
                unknown=f"{info.model} (stream {info.stream_hash})" if info is not None and unknown else None,
                connected=None if self._receiver is None else self._receiver.connected,
                trouble=self.link_trouble(),
                clash=stream.clash,
                books=None if self._receiver is None else self._receiver.books(camera),
                clocks=self._clocks,
                counts=stream.all_counters() | shared | self.counts(),
            )
            state.readings_before = state.readings
            self.publish_diagnostics(camera, level, text, details)
        if worker is not None and FLEET in self.subjects():
            self._report_fleet(worker.fleet, now)

    def _why_unknown(self, camera: str) -> str:
        """Why nothing is known of a camera: on ROS topics its encoder may be elsewhere."""
        return why_silent(self, block_topic(camera, "info"), StreamInfoMessage) if self._topics else ""

    def _report_fleet(self, fleet: Fleet, now: float) -> None:
        began, before, overflow = self._reported
        figures, counters = fleet.figures(), dict(fleet.counters)
        self._reported = (now, figures, counters.get("overflow", 0))
        level, text, details = operator_words.fleet(
            figures=figures,
            before=before,
            seconds=max(now - began, 1e-3),
            devices={codec.name: codec.device for codec in self._codecs.values()},
            lost=counters.get("device_lost", 0),
            overflow=counters.get("overflow", 0) - overflow,
        )
        self.publish_diagnostics(FLEET, level, text, details)


def main(arguments: list[str] | None = None) -> int:
    """Entry point: `decoder_node --ros-args --params-file config/decoder.yaml`."""
    return main_of(DecoderNode, DECODER, arguments)


if __name__ == "__main__":
    sys.exit(main())
