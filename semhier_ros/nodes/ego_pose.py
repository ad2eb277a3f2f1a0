"""The robot's own pose at the encoder: read from what localises the robot, told over the link when it changed.

Only transports without topics need it: over ROS topics TF and fixes reach the base by themselves. What is silent is not
spoken for: TF is looked up at the newest time that all of it is known, and a message is told once, so that the base
does not go by where a robot was whose localisation has ended.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from geometry_msgs.msg import PoseWithCovarianceStamped, Quaternion
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import Imu, NavSatFix

from semhier_ros.codec.pose import EgoPose
from semhier_ros.ground import GroundError
from semhier_ros.ground.ego import PoseTeller, angles_of
from semhier_ros.ground.frames import TransformTree
from semhier_ros.ground.mount import rotation_of
from semhier_ros.nodes.conversions import SECOND, put_transforms, time_to_ns
from semhier_ros.nodes.managed import ManagedNode, steady_clock
from semhier_ros.nodes.ros_link import LATCHED

LEAST_TILT = 0.005
"""Radians of roll and of pitch below which a ground counts as level, and neither is told."""
_HEADING_NS = 1_000_000_000
_STATIC = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_DEFAULT_TOPICS = {"odometry": "odom", "pose": "amcl_pose"}


class EgoPoseSource:
    """Listens to what says where the robot is and hands `tell` the bytes of each pose that is worth telling.

    tell: False where nothing could be sent. Made when the node is active; end it with `close`. Raises ValueError where
    a message package is missing.
    """

    def __init__(self, node: ManagedNode, tell: Callable[[bytes], bool]) -> None:
        self._node, self._tell = node, tell
        self._tree = TransformTree()
        self._heading: tuple[float, int] | None = None
        self._newest_ns = 0
        self._local, self._earth = self._teller(), self._teller()
        self._inputs: list[Any] = []
        self._timer: Any = None
        values = node.values
        listen = node.create_subscription
        topic = values.pose_topic or _DEFAULT_TOPICS.get(values.pose_source, "")
        if values.pose_source == "tf":
            kind = _installed("tf2_msgs", "tf").TFMessage
            self._inputs.append(listen(kind, "/tf", self.on_tf, QoSProfile(depth=100)))
            self._inputs.append(listen(kind, "/tf_static", partial(self.on_tf, fixed=True), _STATIC))
            self._timer = node.create_timer(1.0 / values.pose_rate, self.look_up, clock=steady_clock())
        elif values.pose_source == "odometry":
            odometry = _installed("nav_msgs", "odometry").Odometry
            self._inputs.append(listen(odometry, topic, self.on_pose, qos_profile_sensor_data))
        elif values.pose_source == "pose":
            self._inputs.append(listen(PoseWithCovarianceStamped, topic, self.on_pose, qos_profile_sensor_data))
            self._inputs.append(listen(PoseWithCovarianceStamped, topic, self.on_latched_pose, LATCHED))
        if values.pose_earth:
            self._inputs.append(listen(NavSatFix, values.pose_fix, self.on_fix, qos_profile_sensor_data))
            self._inputs.append(listen(Imu, values.pose_heading, self.on_heading, qos_profile_sensor_data))

    def _teller(self) -> PoseTeller:
        values = self._node.values
        return PoseTeller(values.pose_moved, values.pose_turned, values.pose_every, values.pose_rate)

    def close(self) -> None:
        """Stops to listen."""
        for item in self._inputs:
            self._node.destroy_subscription(item)
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        self._inputs, self._timer = [], None

    def pace(self) -> None:
        """Looks TF up as often as `pose.rate` says now."""
        if self._timer is not None:
            self._timer.timer_period_ns = round(SECOND / self._node.values.pose_rate)
            self._timer.reset()

    def on_tf(self, message: Any, fixed: bool = False) -> None:
        """Takes transforms."""
        for problem in put_transforms(self._tree, message, fixed=fixed):
            self._node.warn("bad_transforms", problem)

    def look_up(self) -> None:
        """Offers the pose that TF says now."""
        values = self._node.values
        frame, child = values.pose_frame, values.pose_child
        try:
            stamp_ns = self._tree.newest(frame, child)
            if stamp_ns is None:  # fixed on the ground
                stamp_ns = self._node.now_ns()
            rotation, place = self._tree.look_up(frame, child, stamp_ns)
        except GroundError as error:
            self._node.warn("no_pose", f"pose.source tf: {error}")
            return
        self._offer(self._local, frame, stamp_ns, place.tolist(), angles_of(rotation))

    def on_pose(self, message: Any) -> None:
        """Takes an Odometry or a PoseWithCovarianceStamped."""
        self._newest_ns = time_to_ns(message.header.stamp)
        place = message.pose.pose.position
        frame = message.header.frame_id.lstrip("/")
        try:
            if not frame:
                raise GroundError("its frame_id is empty")
            angles = angles_in(message.pose.pose.orientation)
        except GroundError as error:
            self._node.warn("bad_poses", f"pose.source {self._node.values.pose_source}: {error}")
            return
        spread = (float(message.pose.covariance[0]) + float(message.pose.covariance[7])) / 2
        self._offer(self._local, frame, self._newest_ns, (place.x, place.y, place.z), angles, spread)

    def on_latched_pose(self, message: PoseWithCovarianceStamped) -> None:
        """Takes what a publisher that latches, as AMCL does, said before this node came. What such a one says later
        comes here and to `on_pose`, and counts once."""
        if time_to_ns(message.header.stamp) > self._newest_ns:
            self.on_pose(message)

    def on_heading(self, message: Imu) -> None:
        """Takes a heading."""
        try:
            yaw = angles_in(message.orientation)[2]
        except GroundError as error:
            self._node.warn("bad_heading", f"{self._node.values.pose_heading}: {error}")
            return
        self._heading = yaw, time_to_ns(message.header.stamp)

    def on_fix(self, message: NavSatFix) -> None:
        """Takes a fix; with a heading of about its time it is offered."""
        if message.status.status < 0:  # STATUS_NO_FIX
            return
        stamp_ns = time_to_ns(message.header.stamp)
        if self._heading is None or abs(self._heading[1] - stamp_ns) > _HEADING_NS:
            self._node.warn(
                "no_heading", f"pose.earth: a fix, and no heading of its time on {self._node.values.pose_heading}"
            )
            return
        place, spread = place_on_earth(message)
        self._offer(self._earth, "", stamp_ns, place, (0.0, 0.0, self._heading[0]), spread)

    def _offer(
        self,
        teller: PoseTeller,
        frame: str,
        stamp_ns: int,
        place: Sequence[float],
        angles: Sequence[float],
        spread: float = 0.0,
    ) -> None:
        values = self._node.values
        teller.moved, teller.turned = values.pose_moved, values.pose_turned
        teller.every, teller.rate = values.pose_every, values.pose_rate
        try:
            pose = EgoPose.of(frame, stamp_ns, place, angles, sigma=sigma_of(spread), least_tilt=LEAST_TILT)
        except ValueError as error:
            self._node.warn("bad_poses", str(error))
            return
        told = teller.offer(pose)
        if told is None:
            return
        if self._tell(teller.bytes_of(told)):
            self._node.count("poses")
        else:
            teller.forget()


def angles_in(turn: Quaternion) -> tuple[float, float, float]:
    """Roll, pitch and yaw in radians. Raises GroundError where the numbers are no rotation."""
    return angles_of(rotation_of((turn.x, turn.y, turn.z, turn.w)))


def place_on_earth(fix: NavSatFix) -> tuple[tuple[float, float, float], float]:
    """Latitude and longitude in degrees, altitude in metres (0 where none is told), and how the position spreads: its
    mean variance across in square metres, 0 where it is not known."""
    altitude = fix.altitude if math.isfinite(fix.altitude) else 0.0
    known = fix.position_covariance_type != NavSatFix.COVARIANCE_TYPE_UNKNOWN
    spread = float(fix.position_covariance[0] + fix.position_covariance[4]) / 2 if known else 0.0
    return (fix.latitude, fix.longitude, altitude), spread


def sigma_of(spread: float) -> float:
    """The standard deviation of a variance; 0, which is not known, of one that is none."""
    return math.sqrt(spread) if 0.0 < spread < math.inf else 0.0


def _installed(package: str, source: str) -> Any:
    """`package.msg`. Raises ValueError saying how to get it."""
    try:
        return importlib.import_module(f"{package}.msg")
    except ImportError:
        name = package.replace("_", "-")
        raise ValueError(f"pose.source: {source} needs {package}: apt install ros-$ROS_DISTRO-{name}") from None
