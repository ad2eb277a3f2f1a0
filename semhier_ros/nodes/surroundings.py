"""Where cameras and robot are, as far as a decoder node knows: lenses, mounts, poses, fixes, measured surfaces.

`Surroundings` listens to CameraInfo, TF, depth images, point clouds, poses and fixes, takes what the robot tells over
the link, and answers for a camera and a stamp. Questions come from the decoder's worker thread, messages from the
executor. What is missing is a `GroundError` to who asks; what is wrong in a message costs one throttled line.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image, Imu, NavSatFix, PointCloud2

from semhier_ros.codec.pose import EgoPose, PoseError, PoseReader
from semhier_ros.ground import GroundError, Lens, Located, Mount
from semhier_ros.ground.earth import Fix
from semhier_ros.ground.ego import EgoTrack
from semhier_ros.ground.frames import TransformTree
from semhier_ros.ground.surface import cloud_points, depth_points, measured
from semhier_ros.nodes import planner_messages as make
from semhier_ros.nodes.conversions import SECOND, put_transforms, time_to_ns
from semhier_ros.nodes.ego_pose import angles_in, place_on_earth, sigma_of
from semhier_ros.nodes.managed import ManagedNode
from semhier_ros.nodes.ros_link import LATCHED, block_topic

Moved = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Rotation (3, 3) and translation (3,) in metres from one frame to another."""
PLAIN = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
STATIC = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
MOST_HALVES = 16
"""Fixes and headings that wait for the other one of their stamp."""


@dataclass
class _Camera:
    """What is known of one camera."""

    info: CameraInfo | None = None
    lens: tuple[tuple[int, int], Lens] | None = None
    surface: Any = None
    poses: PoseReader = field(default_factory=PoseReader)
    halves: dict[int, NavSatFix | Imu] = field(default_factory=dict)


class Surroundings:
    """Where the cameras of a node are, and the robot.

    tf: the module `tf2_msgs.msg`, None where it is not installed. over_link: CameraInfo and poses come with the
    streams, and are handed over; else they are heard from the topics at which a decoder publishes them again.
    """

    def __init__(self, node: ManagedNode, tf: Any, *, over_link: bool) -> None:
        self._node, self._tf, self._over_link = node, tf, over_link
        self._lock = threading.Lock()
        self._cameras = {camera: _Camera() for camera in node.values.cameras}
        self._tree = TransformTree()
        self._fixed_mount: Mount | None = None
        self._tracks: dict[tuple[str, bool], EgoTrack] = {}
        self._fix: tuple[NavSatFix, float] | None = None
        self._heading: tuple[float, float] | None = None
        self._heard = EgoTrack(0)
        self._inputs: list[Any] = []

    # -- what is listened to ------------------------------------------------------------------------------------------

    def listen(self, *, earth: bool) -> None:
        """Starts to listen to what the parameters ask for; earth: also to where the robot is on the earth."""
        values = self._node.values
        for camera in self._cameras:
            if not self._over_link:
                self._hear(CameraInfo, block_topic(camera, "camera_info"), partial(self.camera_info, camera), LATCHED)
                self._listen_for_poses(camera, earth)
            on_surface = partial(self.on_surface, camera)
            if values.ground_surface == "depth":
                self._hear(Image, f"{camera}/depth/image_raw", on_surface, qos_profile_sensor_data)
            elif values.ground_surface == "cloud":
                self._hear(PointCloud2, f"{camera}/points", on_surface, qos_profile_sensor_data)
        if values.ground_mount == "tf" or self.elsewhere or values.ground_surface == "cloud":
            self._listen_to_tf()
        if earth:
            self._hear(NavSatFix, values.people_fix, self.on_fix, qos_profile_sensor_data)
            self._hear(Imu, values.people_heading, self.on_heading, qos_profile_sensor_data)

    def _hear(self, kind: Any, topic: str, callback: Any, qos: QoSProfile) -> None:
        self._inputs.append(self._node.create_subscription(kind, topic, callback, qos))

    def _listen_for_poses(self, camera: str, earth: bool) -> None:
        """Hears what another base published of the robot's poses: a bag that was recorded there says where objects
        stand again."""
        if self.elsewhere:
            self._hear(PoseStamped, block_topic(camera, "pose"), partial(self._on_told_pose, camera), PLAIN)
        if earth:
            for name, kind in (("heading", Imu), ("fix", NavSatFix)):
                self._hear(kind, block_topic(camera, name), partial(self._on_told_half, camera), PLAIN)

    def _listen_to_tf(self) -> None:
        values = self._node.values
        if self._tf is not None:
            self._hear(self._tf.TFMessage, "/tf", self.on_tf, QoSProfile(depth=100))
            self._hear(self._tf.TFMessage, "/tf_static", partial(self.on_tf, fixed=True), STATIC)
        elif values.ground_mount == "fixed" and values.ground_surface != "cloud":
            self._node.get_logger().info("tf2_msgs is not installed: planner.frame by the robot's own poses alone")
        else:
            self._node.warn("tf_missing", "tf2_msgs is not installed: set ground.mount to fixed, and ground.height")

    def stop(self) -> None:
        """Stops to listen; what is known stays."""
        for item in self._inputs:
            self._node.destroy_subscription(item)
        self._inputs = []

    @property
    def elsewhere(self) -> bool:
        """Whether places are told in another frame than the ground frame."""
        values = self._node.values
        return values.planner_frame not in ("", values.ground_frame)

    # -- what is heard ------------------------------------------------------------------------------------------------

    def camera_info(self, camera: str, message: CameraInfo) -> None:
        """What the lens of a camera is from now on."""
        with self._lock:
            self._cameras[camera].info, self._cameras[camera].lens = message, None

    def told_pose(self, camera: str, data: bytes) -> EgoPose | None:
        """What a camera's sender tells beside its packets: where the robot is. None where that cannot be read."""
        try:
            with self._lock:
                pose = self._cameras[camera].poses.read(data)
        except PoseError as error:
            self._node.warn("damaged_pose", f"camera {camera}: {error}")
            return None
        self._take_pose(camera, pose)
        return pose

    def on_surface(self, camera: str, message: Image | PointCloud2) -> None:
        """A depth image or a point cloud of a camera."""
        self._cameras[camera].surface = message

    def on_tf(self, message: Any, fixed: bool = False) -> None:
        """A tf2_msgs/TFMessage; fixed: of /tf_static."""
        with self._lock:
            problems = put_transforms(self._tree, message, fixed=fixed)
        for problem in problems:
            self._node.warn("bad_transforms", problem)

    def on_fix(self, message: NavSatFix) -> None:
        """Where a receiver at this node says that the robot is."""
        if message.status.status >= 0:  # STATUS_FIX and better
            self._fix = (message, time.monotonic())
            self._join_fix_and_heading()

    def on_heading(self, message: Imu) -> None:
        """Where the robot faces, as heard by this node."""
        try:
            yaw = angles_in(message.orientation)[2]
        except GroundError as error:
            self._node.warn("bad_heading", f"{self._node.values.people_heading}: {error}")
            return
        first = not self._heading_counts()
        self._heading = (yaw, time.monotonic())
        if first:
            self._join_fix_and_heading()

    def _heading_counts(self) -> bool:
        return self._heading is not None and time.monotonic() - self._heading[1] <= self._node.values.people_fix_age

    def _join_fix_and_heading(self) -> None:
        """Keeps the newest fix, with the newest heading, for frames of about its stamp."""
        if self._fix is None or self._heading is None or not self._heading_counts():
            return
        place, spread = place_on_earth(self._fix[0])
        stamp_ns = time_to_ns(self._fix[0].header.stamp)
        try:
            pose = EgoPose.of("", stamp_ns, place, (0.0, 0.0, self._heading[0]), sigma=sigma_of(spread))
        except ValueError as error:
            self._node.warn("bad_fix", f"{self._node.values.people_fix}: {error}")
            return
        with self._lock:
            self._heard.age_ns = round(self._node.values.people_fix_age * SECOND)
            self._heard.put(pose)

    def _on_told_pose(self, camera: str, message: PoseStamped) -> None:
        place = message.pose.position
        frame = message.header.frame_id.lstrip("/")
        try:
            if not frame:
                raise GroundError("its frame_id is empty")
            angles = angles_in(message.pose.orientation)
            pose = EgoPose.of(frame, time_to_ns(message.header.stamp), (place.x, place.y, place.z), angles)
        except ValueError as error:  # GroundError among them
            self._node.warn("bad_poses", f"{block_topic(camera, 'pose')}: {error}")
            return
        self._take_pose(camera, pose)

    def _on_told_half(self, camera: str, message: NavSatFix | Imu) -> None:
        """Takes a fix or a heading, whichever comes first of those of a stamp: both make a pose on the earth."""
        halves = self._cameras[camera].halves
        stamp_ns = time_to_ns(message.header.stamp)
        other = halves.pop(stamp_ns, message)
        fix, heading = (message, other) if isinstance(message, NavSatFix) else (other, message)
        if not (isinstance(fix, NavSatFix) and isinstance(heading, Imu)):
            halves[stamp_ns] = message
            while len(halves) > MOST_HALVES:
                del halves[next(iter(halves))]
            return
        try:
            place, spread = place_on_earth(fix)
            pose = EgoPose.of("", stamp_ns, place, angles_in(heading.orientation), sigma=sigma_of(spread))
        except ValueError as error:  # GroundError among them
            self._node.warn("bad_fix", f"{block_topic(camera, 'fix')}: {error}")
            return
        self._take_pose(camera, pose)

    def _take_pose(self, camera: str, pose: EgoPose) -> None:
        with self._lock:
            self._track(camera, earth=not pose.frame).put(pose)
        self._node.count("poses")

    def _track(self, camera: str, *, earth: bool) -> EgoTrack:
        """The robot that a camera is on: cameras of one namespace are on one."""
        place = (camera.rpartition("/")[0], earth)
        track = self._tracks.get(place)
        if track is None:
            track = self._tracks[place] = EgoTrack(0)
        track.age_ns = round(self._node.values.planner_pose_age * SECOND)
        return track

    # -- what is asked ------------------------------------------------------------------------------------------------

    def lens(self, camera: str, size: tuple[int, int]) -> Lens:
        """The lens of a camera for pictures of `size` (width, height). Raises GroundError."""
        known = self._cameras[camera]
        with self._lock:
            if known.lens is not None and known.lens[0] == size:
                return known.lens[1]
            info = known.info
        if info is None:
            where = "its stream's description" if self._over_link else "semhier/camera_info"
            raise GroundError(f"no CameraInfo came with {where}, so nothing can be placed")
        lens = make.lens_of(info, size, rectified=self._node.values.ground_rectified)
        with self._lock:
            known.lens = (size, lens)
        return lens

    def mount(self, frame_id: str, stamp_ns: int) -> Mount:
        """Where a camera's optical frame is in the ground frame. Raises GroundError."""
        values = self._node.values
        sigmas = {"tilt_sigma": values.ground_tilt_sigma, "height_sigma": values.ground_height_sigma}
        if values.ground_mount == "fixed":
            if self._fixed_mount is None:
                angles = values.ground_pitch, values.ground_roll, values.ground_yaw
                self._fixed_mount = Mount.level(
                    values.ground_height, *angles, values.ground_x, values.ground_y, **sigmas
                )
            return self._fixed_mount
        with self._lock:
            rotation, place = self._tree.look_up(values.ground_frame, frame_id, stamp_ns)
        return Mount(rotation, place, **sigmas)

    def to_planner_frame(self, camera: str, stamp_ns: int) -> Moved | None:
        """From the ground frame to `planner.frame`, None where they are one. What the robot tells over the link goes
        before TF. Raises GroundError."""
        values = self._node.values
        if not self.elsewhere:
            return None
        with self._lock:
            track = self._track(camera, earth=False)
            if track.frame and track.frame != values.ground_frame:
                place, turn = track.transform(stamp_ns)
                self._tree.put(track.frame, values.ground_frame, stamp_ns, place.tolist(), turn.tolist())
            return self._tree.look_up(values.planner_frame, values.ground_frame, stamp_ns)

    def fix(self, camera: str, stamp_ns: int) -> Fix | None:
        """Where the robot was on the earth when a picture was taken, if it is known: by the fixes that are heard here,
        else by what it told. Fixes whose stamps are of another time than the pictures' count as of now."""
        oldest = time.monotonic() - self._node.values.people_fix_age
        heard = self._fix is not None and self._fix[1] >= oldest and self._heading_counts()
        with self._lock:
            tracks = [self._heard] if heard else []
            for track in (*tracks, self._track(camera, earth=True)):
                try:
                    return track.fix(stamp_ns)
                except GroundError:
                    continue
            try:
                return self._heard.fix(self._heard.newest_ns) if heard else None
            except GroundError:
                return None

    def on_surface_measured(
        self, camera: str, located: Sequence[Located], lens: Lens, mount: Mount, stamp_ns: int
    ) -> list[Located]:
        """Objects where depth or cloud say that they are; as they were where these say nothing."""
        values, message = self._node.values, self._cameras[camera].surface
        topic = "depth/image_raw" if values.ground_surface == "depth" else "points"
        try:
            if message is None:
                raise GroundError(f"nothing came on {topic}")
            apart = abs(time_to_ns(message.header.stamp) - stamp_ns) / SECOND
            if apart > values.ground_max_apart:
                raise GroundError(
                    f"{topic}: its stamp is {apart:.2f} s from the frame's, ground.max_apart is"
                    f" {values.ground_max_apart:g} s"
                )
            if values.ground_surface == "depth":
                depth, encoding = make.depth_array(message)
                points = [depth_points(depth, encoding, lens, item.detection.box) for item in located]
            else:
                with self._lock:
                    rotation, place = self._tree.look_up(values.ground_frame, message.header.frame_id, stamp_ns)
                cloud = make.cloud_array(message) @ rotation.T + place
                points = [cloud_points(cloud, lens, mount, item.detection.box) for item in located]
        except ValueError as error:  # GroundError among them
            self._node.warn("surface", f"{error}; objects are placed on the plane")
            return list(located)
        return [measured(item, near, mount) or item for item, near in zip(located, points, strict=True)]
