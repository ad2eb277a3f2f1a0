"""encoder_node: camera images in, blocks out, coarse meaning first, under a byte budget.

The camera callback only leaves the newest frame in a slot. A worker thread encodes it and hands the blocks to the
link's pacer, whose own thread lets datagrams leave; so neither encoding nor the network ever delays the camera.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from semhier_ros.camera.slots import FrameCache, NewestSlot, RateLimit
from semhier_ros.codec.block_request import BlockRequest
from semhier_ros.codec.envelope import read_key
from semhier_ros.codec.packet import Block, Packet, PacketError, split
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.link import Pacer, Scheduler, default_policies, wire_model
from semhier_ros.link.feedback.sender_control import Advice
from semhier_ros.link.schedule.status import LevelStatus
from semhier_ros.link.words import link_words
from semhier_ros.msg import BlockRequest as BlockRequestMessage
from semhier_ros.msg import LinkStatus
from semhier_ros.msg import StreamInfo as StreamInfoMessage
from semhier_ros.nodes import operator_words
from semhier_ros.nodes.conversions import (
    ns_to_time,
    request_from_message,
    short_frame_id,
    stream_info_to_message,
    time_to_ns,
)
from semhier_ros.nodes.images import ImageError, compressed_to_rgb, image_to_rgb
from semhier_ros.nodes.managed import ManagedNode, spin, steady_clock
from semhier_ros.nodes.models import load_codec
from semhier_ros.nodes.parameter_tables import ENCODER
from semhier_ros.nodes.ros_link import LATCHED, RosTransport
from semhier_ros.scene.budget import Motion

INFO_SECONDS = 10.0
ASKED_FRAMES = 4
"""Frames of which finer blocks are still to be made because somebody asked; beyond it the oldest request goes."""
PICTURE_PATIENCE = 10.0
"""Seconds after which a frame's picture is made although the next frame waits: a busy machine would never make one."""
BYTES_PER_KBIT = 125.0


class EncoderNode(ManagedNode):
    """See the module's text; topics, parameters and qualities of service are in docs/nodes.md."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("encoder_node", ENCODER, **kwargs)
        self._slot: NewestSlot[Any] = NewestSlot()
        self._limit = RateLimit()
        self._stopping = threading.Event()
        self._frame = random.randrange(0x10000)  # a restarted encoder must not look like late frames of the old one
        self._encode_seconds = 0.0

    # -- transitions --------------------------------------------------------------------------------------------------

    def configure(self) -> None:
        """Loads the model, opens the link and makes the publishers."""
        values = self.values
        self._camera: str = values.camera
        self._codec = load_codec(values.model, values.device, values.threads, values.precision)
        self._codec.encode(np.zeros((64, 64, 3), np.uint8))  # networks are compiled at their first use
        self._info: StreamInfo | None = None
        self._cache = FrameCache(values.keep_frames)
        self._unfinished: OrderedDict[int, Iterator[Block]] = OrderedDict()
        self._asked: deque[tuple[int, int, int]] = deque(maxlen=ASKED_FRAMES)
        self._blocks = tuple(self._codec.block_names)
        zenoh = values.link_transport == "zenoh"
        repeats = values.link_coarse_repeats if values.link_coarse_repeats >= 0 else int(zenoh)
        self._policies = default_policies(
            len(self._blocks),
            self._codec.semantic_blocks,
            repeats=repeats,
            coarse_lifespan=values.link_coarse_lifespan,
            semantic_lifespan=values.link_semantic_lifespan,
            picture_lifespan=values.link_picture_lifespan,
        )
        self._motion = Motion()
        self._key = read_key(values.link_key) if zenoh else None
        endpoints = [item for item in (*values.link_zenoh_connect, *values.link_zenoh_listen) if item]
        wire = wire_model(values.link_transport, endpoints)
        if zenoh:
            from semhier_ros.link.sender import measured

            wire = measured(wire, self._key)
        budget = values.link_budget_kbit * BYTES_PER_KBIT
        self._scheduler = Scheduler(Packet.pack, split, self._policies, wire=wire, rate=budget, joint=zenoh)
        base = f"{self._camera}/semhier"
        self._status_publisher = self.create_publisher(LinkStatus, f"{base}/link_status", 10)
        self._camera_info_publisher = self.create_publisher(CameraInfo, f"{base}/camera_info", LATCHED)
        self._info_publisher = None if zenoh else self.create_publisher(StreamInfoMessage, f"{base}/info", LATCHED)
        self._sender: Any = self._open_zenoh() if zenoh else None
        self._transport: Any = self._open_topics() if self._sender is None else self._sender
        self._pacer = Pacer(self._scheduler, self._transport) if self._sender is None else self._sender.pacer
        self._pacer.set_finest(self._camera, values.finest_block)
        self.get_logger().info(
            f"model {self._codec.name} (stream {self._codec.stream_hash}) for {self._camera}, blocks"
            f" {', '.join(self._blocks)}, over {values.link_transport}, budget {values.link_budget_kbit:g} kbit/s"
        )

    def _open_topics(self) -> RosTransport:
        return RosTransport(
            self,
            self._camera,
            self._blocks,
            self._codec.semantic_blocks,
            self._policies,
            self.values.link_ros_reliable,
        )

    def _open_zenoh(self) -> Any:
        from semhier_ros.link.sender import LinkSender
        from semhier_ros.nodes.zenoh_parameters import zenoh_options

        values = self.values
        return LinkSender(
            self._scheduler,
            zenoh_options(values),
            budget=values.link_budget_kbit * BYTES_PER_KBIT,
            adapt=values.link_adapt,
            repeats=values.link_coarse_repeats,
            key=self._key,
            on_request=self._on_request_bytes,
        )

    def activate(self) -> None:
        """Subscribes to the camera and starts to encode."""
        camera, compressed = self._camera, self.values.input == "compressed"
        self._topic = f"{camera}/image_raw/compressed" if compressed else f"{camera}/image_raw"
        self._started = self._picture_made = time.monotonic()
        self._last_image: float | None = None
        self._encoded_before = self.counts().get("encoded", 0)
        self._levels_before: tuple[LevelStatus, ...] | None = None
        self._stopping.clear()
        self._slot.clear()
        kind = CompressedImage if compressed else Image
        request_topic = f"{camera}/semhier/request"
        self._inputs: list[Any] = [
            self.create_subscription(kind, self._topic, self._on_image, qos_profile_sensor_data),
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
        self._worker = threading.Thread(target=self._work, name="encode", daemon=True)
        self._worker.start()

    def deactivate(self) -> None:
        """Stops to listen and to encode; blocks that wait still leave."""
        for item in self._inputs:
            self.destroy_subscription(item)
        for timer in self._timers_running:
            self.destroy_timer(timer)
        self._stopping.set()
        self._worker.join()

    def cleanup(self) -> None:
        """Closes the link and forgets the model."""
        if not hasattr(self, "_pacer"):
            return
        self._pacer.close()
        self._transport.close()
        for publisher in (self._status_publisher, self._camera_info_publisher, self._info_publisher):
            if publisher is not None:
                self.destroy_publisher(publisher)
        del self._pacer, self._transport, self._codec

    def parameters_changed(self, names: set[str]) -> None:
        """Budget and finest block take effect at once; `max_rate` with the next frame."""
        if "link.budget_kbit" in names:
            budget = self.values.link_budget_kbit * BYTES_PER_KBIT
            (self._pacer.set_rate if self._sender is None else self._sender.set_budget)(budget)
        if "finest_block" in names:
            self._pacer.set_finest(self._camera, self.values.finest_block)

    # -- in -----------------------------------------------------------------------------------------------------------

    def _on_image(self, message: Any) -> None:
        self._last_image = time.monotonic()
        self._slot.put(message)

    def _on_camera_info(self, message: CameraInfo) -> None:
        if message != getattr(self, "_camera_info", None):
            self._camera_info = message
            self._camera_info_publisher.publish(message)

    def _on_request_bytes(self, camera: str, data: bytes) -> None:
        try:
            request = BlockRequest.from_bytes(data)
        except PacketError as error:
            self.warn("requests_refused", f"request of {camera} refused: {error}")
        else:
            self._honour(request)

    def _on_request(self, message: BlockRequestMessage) -> None:
        if message.camera not in ("", self._camera):
            return
        try:
            request = request_from_message(message)
        except ValueError as error:
            self.warn("requests_refused", f"block request refused: {error}")
        else:
            self._honour(request)

    def _honour(self, request: BlockRequest) -> None:
        if not self.values.accept_requests:
            self.warn("requests_refused", "block request refused: accept_requests is false")
            return
        if request.frame is not None:
            held = self._cache.get(request.frame)
            if held is None:
                self.count("requests_too_late")
                return
            stamp_ns, blocks = held
            self._pacer.submit(self._camera, request.frame, stamp_ns, blocks[: request.finest + 1], asked=True)
            if len(blocks) <= min(request.finest, len(self._blocks) - 1):
                self._asked.append((request.frame, stamp_ns, request.finest))
        else:
            self._pacer.set_finest(self._camera, request.finest, request.duration_ms / 1000 or None)
        self.count("requests_honoured")

    # -- the worker thread --------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._stopping.is_set():
            if (pause := self._limit.wait_time()) > 0:
                self._stopping.wait(min(pause, 0.2))
                continue
            message = self._slot.take(0.2)
            if message is None:
                self._answer_asked()
            if message is None or self._stopping.is_set():
                continue
            self._answer_asked()
            self._advice = self._advised()
            self._limit.passed(self._advice.frames_per_second)
            try:
                self._encode(message)
            except ImageError as error:
                self.warn("bad_images", f"image on {self._topic} cannot be read: {error}")
            except Exception as error:  # one frame must not end the stream
                self.warn("failed_frames", f"frame not encoded: {type(error).__name__}: {error}", error=True)

    def _advised(self) -> Advice:
        """Frames a second and bytes a frame that fit the link now."""
        wanted = self.values.max_rate
        return Advice(wanted, None) if self._sender is None else self._sender.advice(self._camera, wanted)

    def _encode(self, message: Any) -> None:
        rgb = image_to_rgb(message) if isinstance(message, Image) else compressed_to_rgb(message)
        stamp_ns = time_to_ns(message.header.stamp)
        begin = time.monotonic()
        finest = min(self._pacer.finest(self._camera) + 1, len(self._blocks))
        semantic = self._codec.semantic_blocks
        most = self._advice.semantic_bytes
        steps = self._codec.encode_stepwise(rgb, frame=self._frame, max_bytes=most, motion=self._motion)
        kept = self.values.keep_frames and self.values.accept_requests
        blocks = list(islice(steps, semantic if kept else min(finest, semantic)))
        self._encode_seconds = time.monotonic() - begin
        self._describe(rgb.shape[1], rgb.shape[0], message.header.frame_id, stamp_ns)
        if self._sender is not None:
            self._sender.offered(self._camera, blocks[:finest])
        self._pacer.submit(self._camera, self._frame, stamp_ns, blocks[:finest])
        for number in range(max(0, finest - semantic)):
            patient = number > 0 or begin - self._picture_made < PICTURE_PATIENCE
            if self._slot.waiting and not self._limit.wait_time() and patient:
                if number == 0:
                    self.count("pictures_skipped")
                break  # meaning of the next frame before more of this one's picture
            picture = list(islice(steps, 1))
            self._pacer.submit(self._camera, self._frame, stamp_ns, picture)
            self._picture_made = time.monotonic()
            blocks += picture
        self._cache.put(self._frame, stamp_ns, blocks)
        if kept:
            self._unfinished[self._frame] = steps
            while len(self._unfinished) > self.values.keep_frames:
                self._unfinished.popitem(last=False)
        self._frame = (self._frame + 1) % 0x10000
        self.count("encoded")

    def _answer_asked(self) -> None:
        """Makes the blocks that somebody asked for and that no frame had a use for, the oldest request first."""
        while self._asked:
            frame, stamp_ns, finest = self._asked.popleft()
            held, steps = self._cache.get(frame), self._unfinished.get(frame)
            if held is None or steps is None or held[0] != stamp_ns:
                self.count("requests_too_late")
                continue
            blocks = list(held[1])
            more = list(islice(steps, max(0, finest + 1 - len(blocks))))
            self._cache.put(frame, stamp_ns, blocks + more)
            self._pacer.submit(self._camera, frame, stamp_ns, more, asked=True)

    def _describe(self, width: int, height: int, frame_id: str, stamp_ns: int) -> None:
        """Announces the stream with its first frame and whenever size or coordinate frame change."""
        short = short_frame_id(frame_id)
        if short != frame_id:
            self.warn("frame_id_cut", f"frame_id {frame_id!r} is too long for the link, sent as {short!r}")
        old = self._info
        info = StreamInfo(
            camera=self._camera,
            frame_id=short,
            width=width,
            height=height,
            model=self._codec.name,
            stream_hash=self._codec.stream_hash,
            model_hash=self._codec.model_hash,
            stamp_ns=max(0, stamp_ns),
        )
        self._info = info
        if old is None or (old.width, old.height, old.frame_id) != (width, height, short):
            self._repeat_info()

    def _repeat_info(self) -> None:
        info = self._info
        if info is None:
            return
        if self._info_publisher is not None:
            self._info_publisher.publish(stream_info_to_message(info))
        else:
            self._transport.set_info(self._camera, info.to_bytes())

    # -- once a second ------------------------------------------------------------------------------------------------

    def _report(self) -> None:
        status = self._pacer.status(self._camera)
        estimate = None if self._sender is None else self._sender.estimate()
        words = link_words(status, self._levels_before, 1.0, self._codec.semantic_blocks, estimate)
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
        encoded = self.counts().get("encoded", 0)
        now = time.monotonic()
        level, text, details = operator_words.encoder(
            topic=self._topic,
            image_age=None if self._last_image is None else now - self._last_image,
            running=now - self._started,
            frames_per_second=encoded - self._encoded_before,
            encode_seconds=self._encode_seconds,
            status=status,
            blocks=self._blocks,
            transport=self._transport,
            words=words,
            estimate=estimate,
            counts=self.counts() | {"images": self._slot.put_count, "images_skipped": self._slot.replaced},
        )
        self._encoded_before = encoded
        self.publish_diagnostics(self._camera, level, text, details)


def main(arguments: list[str] | None = None) -> int:
    """Entry point: `encoder_node --ros-args --params-file config/encoder.yaml`."""
    return spin(EncoderNode, sys.argv if arguments is None else ["encoder_node", *arguments])


if __name__ == "__main__":
    sys.exit(main())
