"""player_node: plays the images of a bag, or other topics that it is told, in the bag's timing.

`ros2 bag play` does the same where rosbag2 is installed; this node needs only `rosbags`, so that the demo and the tests
run on the PyPI wheels. Messages travel as the bag's own bytes; only the stamp in their header is rewritten, if wanted.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rclpy.parameter import Parameter as RosParameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.utilities import remove_ros_args
from rosbags.highlevel import AnyReader, AnyReaderError
from rosgraph_msgs.msg import Clock

from semhier_ros.footage.messages import message_store
from semhier_ros.nodes.bag_topics import CAMERA_TYPES, MESSAGE_TYPES, is_latched
from semhier_ros.nodes.conversions import SECOND, ns_to_time
from semhier_ros.nodes.managed import ManagedNode, command_line, spin
from semhier_ros.nodes.parameter_tables import PLAYER
from semhier_ros.nodes.ros_link import LATCHED

LATE_SECONDS = 0.005
"""How far behind the bag's timing a message may leave and count as in time."""
TOLD_SECONDS = 0.05
"""How far behind it may leave without a line in the log: half of what lies between two pictures of ten a second."""
CLOCK_SECONDS = 0.02
"""Longest time between two messages on /clock, also where the bag has a gap."""


def with_stamp(cdr: bytes, stamp_ns: int) -> bytes:
    """The serialised message `cdr`, whose type begins with a stamp or a std_msgs/Header, with another stamp.

    Raises ValueError when `cdr` is not plain CDR (encapsulation 0 or 1) of at least 12 bytes.
    """
    if len(cdr) < 12 or cdr[0] != 0 or cdr[1] not in (0, 1):
        raise ValueError(f"message: {len(cdr)} bytes with encapsulation {cdr[:2].hex()}, expected CDR (0000 or 0001)")
    order = "little" if cdr[1] else "big"
    stamp = ns_to_time(stamp_ns)
    patch = stamp.sec.to_bytes(4, order, signed=True) + stamp.nanosec.to_bytes(4, order)
    return bytes(cdr[:4]) + patch + bytes(cdr[12:])


def stamp_of(cdr: bytes) -> bytes:
    """The stamp of a serialised message whose type begins with it or with a std_msgs/Header, as its bytes."""
    return bytes(cdr[:2] + cdr[4:12])


class NewStamps:
    """Stamps for messages that are played again: those that had the same stamp get the same one, so that an image and
    its CameraInfo stay a pair."""

    def __init__(self, kept: int = 256) -> None:
        self._kept = kept
        self._given: OrderedDict[bytes, int] = OrderedDict()

    def of(self, cdr: bytes, now_ns: int) -> int:
        """The new stamp in ns: `now_ns`, or what another message of its old stamp got a moment ago."""
        old = stamp_of(cdr)
        given = self._given.get(old)
        if given is None or abs(now_ns - given) > SECOND:
            given = self._given[old] = now_ns
            if len(self._given) > self._kept:
                self._given.popitem(last=False)
        return given


class Timing:
    """How well the bag's timing is kept: `messages` so far, `late` ones among them, the `worst` lateness in s."""

    def __init__(self) -> None:
        self.messages = self.late = 0
        self.worst = 0.0

    def passed(self, lateness: float) -> bool:
        """Counts a message that leaves `lateness` seconds after its time; True when that is worth a line."""
        self.messages += 1
        self.worst = max(self.worst, lateness)
        self.late += lateness > LATE_SECONDS
        return lateness > TOLD_SECONDS

    def __str__(self) -> str:
        limit = f"{LATE_SECONDS * 1e3:g} ms"
        if not self.late:
            return f"all within {limit} of the bag's timing (worst {self.worst * 1e3:.1f} ms)"
        return f"{self.late} of them more than {limit} behind the bag's timing (worst {self.worst * 1e3:.0f} ms)"


class PlayerNode(ManagedNode):
    """Opens the bag when configured, plays it in a thread while active."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("player_node", PLAYER, **kwargs)
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._reader: AnyReader | None = None
        self._bag_publishers: dict[str, Any] = {}
        self._clock_publisher: Any = None

    def configure(self) -> None:
        """Opens the bag and makes a publisher for each topic that is played."""
        path = Path(self.values.bag)
        if not self.values.bag or not path.exists():
            raise ValueError(f"bag: {self.values.bag!r}, expected an existing MCAP file or bag folder")
        reader = AnyReader([path], default_typestore=message_store())  # bags of old hold no definitions
        reader.open()
        self._reader = reader
        wanted = set(self.values.topics) - {""}
        self._connections = [
            connection
            for connection in reader.connections
            if (connection.topic in wanted if wanted else connection.msgtype in CAMERA_TYPES)
            and connection.msgtype in MESSAGE_TYPES
        ]
        if not self._connections:
            held = ", ".join(sorted({f"{c.topic} ({c.msgtype})" for c in reader.connections})) or "nothing"
            asked = f"none of {sorted(wanted)} that could be played" if wanted else "no image topic"
            self.cleanup()
            raise ValueError(f"bag: {path} has {asked}; it holds {held}")
        self._bag_publishers = {
            connection.topic: self.create_publisher(
                MESSAGE_TYPES[connection.msgtype], connection.topic, self._qos(connection)
            )
            for connection in self._connections
        }
        if self.values.clock:
            self._clock_publisher = self.create_publisher(Clock, "/clock", QoSProfile(depth=1))

    def _qos(self, connection: Any) -> QoSProfile:
        """As a camera offers its pictures, and as this package's nodes offer the rest."""
        if is_latched(connection.topic):
            return LATCHED
        if connection.msgtype not in CAMERA_TYPES:
            return QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
        reliable = self.values.reliable
        return QoSProfile(
            depth=5, reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        )

    def activate(self) -> None:
        """Starts to play."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._play, name="player", daemon=True)
        self._thread.start()

    def deactivate(self) -> None:
        """Stops within a frame."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def cleanup(self) -> None:
        """Closes the bag, if one is open."""
        for publisher in self._bag_publishers.values():
            self.destroy_publisher(publisher)
        self._bag_publishers = {}
        if self._clock_publisher is not None:
            self.destroy_publisher(self._clock_publisher)
            self._clock_publisher = None
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _wait_for_subscribers(self) -> None:
        end = time.monotonic() + self.values.wait_seconds
        while time.monotonic() < end and not self._stopping.wait(0.05):
            if any(publisher.get_subscription_count() for publisher in self._bag_publishers.values()):
                return

    def _messages(self, bag: AnyReader) -> Iterator[tuple[float, str, int, bytes]]:
        """(seconds since the start of playing, topic, bag time in ns, CDR bytes), loop after loop."""
        first, last = bag.start_time, bag.end_time
        count = max(sum(1 for _ in bag.messages(self._connections)), 1) if self.values.loop else 1
        length = (last - first) / SECOND * (1 + 1 / count)  # one average gap between the last frame and the first
        turn = 0
        while True:
            for connection, bag_time, cdr in bag.messages(self._connections):
                offset = turn * length + (bag_time - first) / SECOND
                yield offset / self.values.rate, connection.topic, bag_time, bytes(cdr)
            turn += 1
            if not self.values.loop:
                return

    def _wait_until(self, due: float, bag_time: int) -> bool:
        """Waits for the monotonic time `due` of a message of `bag_time`, ticking /clock; False when it is to stop."""
        while self._clock_publisher is not None and (left := due - time.monotonic()) > CLOCK_SECONDS:
            now = bag_time - round(left * self.values.rate * SECOND)
            self._clock_publisher.publish(Clock(clock=ns_to_time(max(0, now))))
            if self._stopping.wait(CLOCK_SECONDS):
                return False
        return not self._stopping.wait(max(0.0, due - time.monotonic()))

    def _play(self) -> None:
        """Plays the bag. Where it cannot be read on, a line says so and the process ends: for a node that is active and
        silent everybody would wait."""
        assert self._reader is not None
        try:
            self._play_bag(self._reader)
        except Exception as error:  # a file can be broken in many ways
            where = f"{self.values.bag} cannot be played on after {self.counts().get('published', 0)} messages"
            self.get_logger().error(f"bag: {where}: {type(error).__name__}: {error}")
            self.failed.set()
            self.done.set()

    def _play_bag(self, bag: AnyReader) -> None:
        self._wait_for_subscribers()
        self.get_logger().info(f"playing {self.values.bag} in {self.values.delay_seconds:g} s")
        if self._stopping.wait(self.values.delay_seconds):
            return
        start = time.monotonic()
        timing, stamps = Timing(), NewStamps()
        for offset, topic, bag_time, cdr in self._messages(bag):
            if not self._wait_until(start + offset, bag_time):
                return
            if timing.passed(time.monotonic() - start - offset):
                self.warn("late", f"behind the bag's timing by {timing.worst * 1e3:.0f} ms: this machine is too busy")
            if self.values.stamps == "now":
                try:
                    cdr = with_stamp(cdr, stamps.of(cdr, self.now_ns()))
                except ValueError as error:
                    self.warn("bad_messages", f"{topic}: {error}; it is left out")
                    continue
            if self._clock_publisher is not None:
                self._clock_publisher.publish(Clock(clock=ns_to_time(bag_time)))
            self._bag_publishers[topic].publish(cdr)
            self.count("published")
        published = self.counts().get("published", 0)
        self.get_logger().info(f"the bag is at its end: {published} messages published, {timing}")
        if self.values.exit_at_end:
            time.sleep(0.3)  # best effort: what was published last is still on its way out
            self.done.set()


def list_topics(bag: str) -> int:
    """Prints the type of each topic of a bag as JSON; the exit status, 1 where the bag cannot be read."""
    try:
        with AnyReader([Path(bag)], default_typestore=message_store()) as reader:
            print(json.dumps({connection.topic: connection.msgtype for connection in reader.connections}))
    except (AnyReaderError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Entry point: `player_node BAG [--rate R] [--loop] [--ros-args …]`, these options being parameters too, or
    `player_node BAG --list`."""
    argv = sys.argv if arguments is None else ["player_node", *arguments]
    parser = command_line(PLAYER)
    parser.add_argument("bag", nargs="?", help="MCAP file or bag folder (parameter `bag`)")
    parser.add_argument("--rate", type=float, help="playing speed, 1 = as recorded (parameter `rate`)")
    parser.add_argument("--loop", action="store_true", default=None, help="start again at the end (parameter `loop`)")
    parser.add_argument("--list", action="store_true", help="print the bag's topics and types as JSON, and end")
    options = vars(parser.parse_args(remove_ros_args(argv)[1:]))
    if options.pop("list"):
        return list_topics(options["bag"] or "")
    overrides = [RosParameter(name, value=value) for name, value in options.items() if value is not None]
    return spin(lambda: PlayerNode(parameter_overrides=overrides), argv)


if __name__ == "__main__":
    sys.exit(main())
