"""recorder_node: writes readings, link status, stream descriptions and pictures into an MCAP bag, with arrival times.

`ros2 bag record` does the same where rosbag2 is installed; this node needs only `rosbags`. Messages are written as the
very bytes that arrived, under the receiver's clock at arrival.
"""

from __future__ import annotations

import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer

from semhier_ros.footage.messages import message_store
from semhier_ros.footage.recording import PLACE_TOPICS
from semhier_ros.nodes.bag_topics import MESSAGE_TYPES, is_latched
from semhier_ros.nodes.managed import ManagedNode, main_of
from semhier_ros.nodes.parameter_checks import topic_problem
from semhier_ros.nodes.parameter_tables import RECORDER

_FOREVER = QosTime(sec=2147483647, nsec=4294967295)
_LATCHED_QOS = Qos(
    history=QosHistory.KEEP_LAST,
    depth=1,
    reliability=QosReliability.RELIABLE,
    durability=QosDurability.TRANSIENT_LOCAL,
    deadline=_FOREVER,
    lifespan=_FOREVER,
    liveliness=QosLiveliness.AUTOMATIC,
    liveliness_lease_duration=_FOREVER,
    avoid_ros_namespace_conventions=False,
)


def standard_topics(
    cameras: list[str], levels: int, *, pictures: bool = True, images: str = "off", blocks: bool = False
) -> list[tuple[str, str]]:
    """(topic, type) of what is recorded of each camera when the `topics` parameter names nothing."""
    topics = []
    for camera in cameras:
        for level in range(levels):
            topics.append((f"{camera}/detections/level_{level}", "semhier_ros/msg/SemanticDetectionArray"))
        topics.append((f"{camera}/semhier/link_status", "semhier_ros/msg/LinkStatus"))
        topics.append((f"{camera}/semhier/info", "semhier_ros/msg/StreamInfo"))
        topics += [(f"{camera}/semhier/{name}", kind) for name, kind in PLACE_TOPICS.items()]
        if pictures:
            topics.append((f"{camera}/picture", "sensor_msgs/msg/Image"))
        if images == "raw":
            topics.append((f"{camera}/image_raw", "sensor_msgs/msg/Image"))
        elif images == "compressed":
            topics.append((f"{camera}/image_raw/compressed", "sensor_msgs/msg/CompressedImage"))
        if blocks:
            names = [f"level_{level}" for level in range(levels)] + ["detail", *(f"picture_{n}" for n in range(5))]
            topics += [(f"{camera}/semhier/{name}", "semhier_ros/msg/SemanticBlock") for name in names]
    return topics


class RecorderNode(ManagedNode):
    """Opens a new bag when configured, records while active, closes the bag in cleanup."""

    end_seconds = None  # or the bag would be cut off

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("recorder_node", RECORDER, **kwargs)
        self._record_subscriptions: list[Any] = []
        self._lock = threading.Lock()
        self._writer: Writer | None = None

    def configure(self) -> None:
        """Makes the bag; raises ValueError when there is one already or a topic's type is not known."""
        path = Path(self.values.bag)
        if not self.values.bag or path.exists():
            raise ValueError(f"bag: {self.values.bag!r}, expected a folder that does not exist yet")
        wanted = [tuple(text.split(" ", 1)) for text in self.values.topics if text]
        for entry in wanted:
            if len(entry) != 2 or entry[1] not in MESSAGE_TYPES:
                raise ValueError(
                    f"topics: {' '.join(entry)!r}, expected `<topic> <type>`, type one of {list(MESSAGE_TYPES)}"
                )
            if wrong := topic_problem(entry[0]):
                raise ValueError(f"topics: {entry[0]!r}, {wrong}")
        values = self.values
        self._topics = wanted or standard_topics(
            values.cameras, values.levels, pictures=values.pictures, images=values.images, blocks=values.blocks
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        self._full = False
        self._bytes = self._written = 0
        self._store = message_store()
        self._writer = writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        writer.open()
        self._connections = {
            topic: writer.add_connection(
                self.resolve_topic_name(topic),
                kind,
                typestore=self._store,
                offered_qos_profiles=[_LATCHED_QOS] if is_latched(topic) else [],
            )
            for topic, kind in self._topics
        }

    def activate(self) -> None:
        """Subscribes; reliable writers are heard best effort too, for a recorder must never slow them."""
        for topic, kind in self._topics:
            latched = is_latched(topic)
            qos = QoSProfile(
                depth=50,
                reliability=ReliabilityPolicy.RELIABLE if latched else ReliabilityPolicy.BEST_EFFORT,
                durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
            )
            subscription = self.create_subscription(
                MESSAGE_TYPES[kind], topic, partial(self._write, topic), qos, raw=True
            )
            self._record_subscriptions.append(subscription)
        self.get_logger().info(f"recording {len(self._topics)} topics into {self.values.bag}")

    def deactivate(self) -> None:
        """Stops to listen; the bag stays open."""
        for subscription in self._record_subscriptions:
            self.destroy_subscription(subscription)
        self._record_subscriptions.clear()

    def cleanup(self) -> None:
        """Closes the bag, if one is open, after which any MCAP reader opens it."""
        with self._lock:
            writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            writer.close()
        except OSError as error:
            self.get_logger().error(f"{self.values.bag} is cut off: {error.strerror}; what was written can be read")
            return
        self.get_logger().info(f"{self._written} messages in {self.values.bag}")

    def _write(self, topic: str, cdr: bytes) -> None:
        if self._full:
            self.count("lost")
            return
        if self._bytes + len(cdr) > self.values.max_megabytes * 1_000_000:
            self.warn("full", f"the bag has reached max_megabytes = {self.values.max_megabytes}: no more is recorded")
            return
        try:
            with self._lock:
                if self._writer is None:
                    return
                self._writer.write(self._connections[topic], self.now_ns(), cdr)
        except OSError as error:
            self._full = True
            self.warn("lost", f"{self.values.bag}: {error.strerror}: no more is recorded", error=True)
            return
        self._bytes += len(cdr)
        self._written += 1
        self.count("written")


def main(arguments: list[str] | None = None) -> int:
    """Entry point: `recorder_node --ros-args -p bag:=FOLDER …`."""
    return main_of(RecorderNode, RECORDER, arguments)


if __name__ == "__main__":
    sys.exit(main())
