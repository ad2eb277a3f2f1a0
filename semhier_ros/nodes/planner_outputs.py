"""What the decoder node says to planners, maps and people beside its readings: places on the ground, on many topics.

`PlannerOutputs` owns their publishers, listens to what it needs (CameraInfo, TF, depth, a fix) and turns each reading
into messages. Whatever is missing or wrong costs one throttled line; the node's own topics go on. `reading` and
`picture` are called by the decoder's worker thread, the callbacks by the executor.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import yaml
from geometry_msgs.msg import PolygonInstanceStamped, PoseStamped
from numpy.typing import NDArray
from rclpy.qos import (
    DurabilityPolicy,
    QoSProfile,
    ReliabilityPolicy,
    qos_profile_sensor_data,
)
from sensor_msgs.msg import CameraInfo, Image, Imu, NavSatFix, PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from semhier_ros.camera.overlay import Overlay
from semhier_ros.codec.calibration import Calibration
from semhier_ros.codec.pose import EgoPose, PoseError, PoseReader
from semhier_ros.codec.reading import Detection, Reading, Scene, TrackedObject
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.ground import BoxError, GroundError, Lens, Located, Mount, SizeTable, locate, ranges
from semhier_ros.ground.doors.cursor_on_target import events
from semhier_ros.ground.doors.geojson import feature
from semhier_ros.ground.doors.mavlink import MavlinkDoor
from semhier_ros.ground.doors.outlet import Outlet, Pace
from semhier_ros.ground.earth import Fix
from semhier_ros.ground.ego import EgoTrack, angles_of
from semhier_ros.ground.errors_file import box_error_of
from semhier_ros.ground.frames import TransformTree
from semhier_ros.ground.mount import rotation_of
from semhier_ros.ground.surface import cloud_points, depth_points, measured
from semhier_ros.nodes import planner_messages as make
from semhier_ros.nodes.collective_perception import collective_perception
from semhier_ros.nodes.conversions import SECOND, ns_to_time, put_transforms, time_to_ns
from semhier_ros.nodes.ego_pose import place_on_earth, sigma_of
from semhier_ros.nodes.light_messages import Light
from semhier_ros.nodes.managed import ManagedNode
from semhier_ros.nodes.ros_link import LATCHED, block_topic

PLAIN = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
BURST = QoSProfile(depth=64, reliability=ReliabilityPolicy.RELIABLE)
"""For polygons: a frame's come all at once, one message each."""
STATIC = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
OVERLAY_SECONDS = 0.1
HEARD_SECONDS = 1.0
"""How long a topic that somebody heard is taken to be heard: counting takes 0.05 ms."""
MOST_HALVES = 16
"""Fixes and headings that wait for the other one of their stamp."""
EARLIEST_SECONDS, LATEST_SECONDS = 1.0, 5.0
"""How long before and after its frame's stamp a scene may be foretold to."""
NEEDS = {
    "detections_3d": "vision_msgs",
    "tracked_objects": "autoware_perception_msgs",
    "predicted_objects": "autoware_perception_msgs",
    "annotations": "foxglove_msgs",
    "scene_update": "foxglove_msgs",
    "cpm": "etsi_its_cpm_ts_msgs",
}
"""Topics whose message package no registry ships."""


@dataclass
class _View:
    """What is known of one camera."""

    info: StreamInfo | None = None
    camera_info: CameraInfo | None = None
    told: Calibration | None = None
    lens: tuple[tuple[int, int], Lens] | None = None
    error: tuple[Any, tuple[int, int], BoxError] | None = None
    surface: Any = None
    picture: NDArray[np.uint8] | None = None
    picture_ns: int = 0
    drawn: float = -math.inf
    overlay: Overlay = field(default_factory=Overlay)
    poses: PoseReader = field(default_factory=PoseReader)
    followed: int | None = None
    followed_at: tuple[float, float] = (0.0, 0.0)
    publishers: dict[str, Any] = field(default_factory=dict)
    heard: dict[str, float] = field(default_factory=dict)


def existing(item: TrackedObject) -> tuple[float, ...]:
    """Of each name of an object, the probability that such an object exists."""
    top = max(item.scores[0], 1e-6)
    return tuple(item.existence * score / top for score in item.scores)


class PlannerOutputs:
    """The planner topics of a decoder node. Make it when the node is configured, and end it with `close`.

    levels: of the deepest taxonomy. lasting: whether ids last over frames. zenoh: CameraInfo comes with the streams'
    descriptions, and is published here unless the robot is in the same ROS graph; else it is heard from
    `<camera>/semhier/camera_info`.

    Raises:
        GroundError: a parameter or a file that it names cannot be used.
    """

    def __init__(self, node: ManagedNode, *, levels: int, lasting: bool, zenoh: bool) -> None:
        self._node, self._lasting, self._zenoh = node, lasting, zenoh
        values = node.values
        self._lock = threading.Lock()
        self._found = make.optional_messages()
        self._topics = [name for name in values.planner_topics if name]
        for name in list(self._topics):
            if NEEDS.get(name, "vision_msgs") not in self._found and name in NEEDS:
                self._node.get_logger().warning(f"planner.topics: {name} needs {NEEDS[name]}, which is not installed")
                self._topics.remove(name)
        self._views = {camera: _View() for camera in values.cameras}
        self._outlets: dict[str, Outlet] = {}
        self._mavlink: MavlinkDoor | None = None
        self._sizes = SizeTable()
        if values.ground_sizes:
            with open(values.ground_sizes, encoding="utf-8") as file:
                self._sizes = SizeTable.of_dict(yaml.safe_load(file))
        if values.people_mavlink:
            self._mavlink = MavlinkDoor(values.people_mavlink_system)
        self._fixed_mount: Mount | None = None
        self._pace = Pace(values.people_rate)
        self._tree = TransformTree()
        self._tracks: dict[tuple[str, bool], EgoTrack] = {}
        self._fix: tuple[NavSatFix, float] | None = None
        self._heading: tuple[float, float] | None = None
        self._heard = EgoTrack(0)
        self._inputs: list[Any] = []
        self._begun = time.monotonic()
        self.places = bool(self._topics) and self._topics != ["annotations"]
        for name in ("cot", "geojson", "mavlink"):
            if target := getattr(values, f"people_{name}"):
                self._outlets[name] = Outlet(target)
                self.places = True
        others = set(self._topics) - {"overlay", "annotations"}
        self._only_looked_at = not others and not self._outlets and values.ground_surface == "plane"
        """Whether places are nothing but distances written on the overlay."""
        for camera, view in self._views.items():
            for name, kind, qos in self._kinds(levels):
                view.publishers[name] = node.create_publisher(kind, f"{camera}/{name}", qos)
            if zenoh:
                topic = block_topic(camera, "camera_info")
                view.publishers["camera_info"] = node.create_publisher(CameraInfo, topic, LATCHED)
                view.publishers["pose"] = node.create_publisher(PoseStamped, block_topic(camera, "pose"), PLAIN)
                view.publishers["fix"] = node.create_publisher(NavSatFix, block_topic(camera, "fix"), PLAIN)
                view.publishers["heading"] = node.create_publisher(Imu, block_topic(camera, "heading"), PLAIN)

    def _kinds(self, levels: int) -> list[tuple[str, Any, QoSProfile]]:
        """Name, message type and quality of service of each topic that is wanted."""
        found: dict[str, Any] = {
            "polygons": (PolygonInstanceStamped, BURST),
            "obstacles": (PointCloud2, PLAIN),
            "target": (PoseStamped, PLAIN),
            "markers": (MarkerArray, PLAIN),
            "overlay": (Image, QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)),
        }
        if (autoware := self._found.get("autoware_perception_msgs")) is not None:
            found["tracked_objects"] = (autoware.TrackedObjects, PLAIN)
            found["predicted_objects"] = (autoware.PredictedObjects, PLAIN)
        if (its := self._found.get("etsi_its_cpm_ts_msgs")) is not None:
            found["cpm"] = (its.CollectivePerceptionMessage, PLAIN)
        if (foxglove := self._found.get("foxglove_msgs")) is not None:
            found["annotations"] = (foxglove.ImageAnnotations, PLAIN)
            found["scene_update"] = (foxglove.SceneUpdate, PLAIN)
        kinds = [(name, *found[name]) for name in self._topics if name in found]
        if "detections_3d" in self._topics:
            vision = self._found["vision_msgs"]
            kinds += [(f"detections_3d/level_{level}", vision.Detection3DArray, PLAIN) for level in range(levels)]
        if "obstacles" in self._topics and self._node.values.planner_clear_range > 0:
            kinds.append(("obstacles_clearing", PointCloud2, PLAIN))
        return [(name, getattr(kind, "_of", kind), qos) for name, kind, qos in kinds]

    # -- what is listened to ------------------------------------------------------------------------------------------

    def activate(self) -> None:
        """Starts to listen to CameraInfo, TF, depth and fixes, as far as they are wanted."""
        node, values = self._node, self._node.values
        self._begun = time.monotonic()
        if not self.places:
            return
        listen = node.create_subscription
        for camera in self._views:
            if not self._zenoh:
                heard = partial(self.camera_info, camera)
                self._inputs.append(listen(CameraInfo, block_topic(camera, "camera_info"), heard, LATCHED))
                self._listen_for_poses(camera)
            on_surface = partial(self._on_surface, camera)
            if values.ground_surface == "depth":
                self._inputs.append(listen(Image, f"{camera}/depth/image_raw", on_surface, qos_profile_sensor_data))
            elif values.ground_surface == "cloud":
                self._inputs.append(listen(PointCloud2, f"{camera}/points", on_surface, qos_profile_sensor_data))
        if self._needs_tf():
            tf = self._found.get("tf2_msgs")
            if tf is None and values.ground_mount == "fixed" and values.ground_surface != "cloud":
                self._node.get_logger().info("tf2_msgs is not installed: planner.frame by the robot's own poses alone")
            elif tf is None:
                self._warn("tf_missing", "tf2_msgs is not installed: set ground.mount to fixed, and ground.height")
            else:
                self._inputs.append(listen(tf.TFMessage, "/tf", self._on_tf, QoSProfile(depth=100)))
                self._inputs.append(listen(tf.TFMessage, "/tf_static", partial(self._on_tf, fixed=True), STATIC))
        if self._on_earth():
            self._inputs.append(listen(NavSatFix, values.people_fix, self._on_fix, qos_profile_sensor_data))
            self._inputs.append(listen(Imu, values.people_heading, self._on_heading, qos_profile_sensor_data))

    def _listen_for_poses(self, camera: str) -> None:
        """Hears what another base published of the robot's poses: a bag that was recorded there says where objects
        stand again."""
        listen, inputs = self._node.create_subscription, self._inputs
        if self._elsewhere():
            inputs.append(listen(PoseStamped, block_topic(camera, "pose"), partial(self._on_told_pose, camera), PLAIN))
        if self._on_earth():
            halves: dict[int, NavSatFix | Imu] = {}
            for name, kind in (("heading", Imu), ("fix", NavSatFix)):
                inputs.append(
                    listen(kind, block_topic(camera, name), partial(self._on_told_half, camera, halves), PLAIN)
                )

    def _elsewhere(self) -> bool:
        """Whether places are told in another frame than the ground frame."""
        values = self._node.values
        return values.planner_frame not in ("", values.ground_frame)

    def _needs_tf(self) -> bool:
        values = self._node.values
        return values.ground_mount == "tf" or self._elsewhere() or values.ground_surface == "cloud"

    def _on_earth(self) -> bool:
        """Whether anything here needs to know where on the earth the robot is."""
        return bool(self._outlets) or "cpm" in self._topics

    def deactivate(self) -> None:
        """Stops to listen."""
        for item in self._inputs:
            self._node.destroy_subscription(item)
        self._inputs = []

    def close(self) -> None:
        """Ends publishers and wires."""
        self.deactivate()
        for view in self._views.values():
            for publisher in view.publishers.values():
                self._node.destroy_publisher(publisher)
            view.publishers = {}
        for outlet in self._outlets.values():
            outlet.close()
        self._outlets = {}

    def counts(self) -> dict[str, int]:
        """What the doors sent and dropped, for the diagnostics."""
        return {
            f"{name} {what}": number
            for name, outlet in self._outlets.items()
            for what, number in dict(outlet.counters).items()
        }

    def info(self, camera: str, info: StreamInfo) -> None:
        """A stream's description; with a calibration, it is published as CameraInfo too."""
        view = self._views[camera]
        view.info = info
        if not self._zenoh or info.calibration is None or info.calibration == view.told:
            return
        view.told = info.calibration
        message = make.camera_info_message(
            info.calibration, Header(stamp=ns_to_time(info.stamp_ns), frame_id=info.frame_id)
        )
        self.camera_info(camera, message)
        publisher = view.publishers.get("camera_info")
        if publisher is not None and self._node.count_publishers(publisher.topic_name) == 1:
            publisher.publish(message)  # else the robot itself is in this ROS graph, and says it

    def camera_info(self, camera: str, message: CameraInfo) -> None:
        """What the lens of a camera is from now on."""
        view = self._views[camera]
        with self._lock:
            view.camera_info, view.lens = message, None

    def pose(self, camera: str, data: bytes) -> None:
        """What a camera's sender tells beside its packets: where the robot is. Never raises."""
        view = self._views[camera]
        try:
            with self._lock:
                pose = view.poses.read(data)
        except PoseError as error:
            self._warn("damaged_pose", f"camera {camera}: {error}")
            return
        self._take_pose(camera, pose)
        header = Header(stamp=ns_to_time(pose.stamp_ns), frame_id=pose.frame)
        kinds = (
            {"pose": make.pose_stamped} if pose.frame else {"heading": make.heading_message, "fix": make.fix_message}
        )
        for name, message_of in kinds.items():
            if name in view.publishers and self._wanted(view, name):
                self.send(view, name, message_of(pose, header))

    def _take_pose(self, camera: str, pose: EgoPose) -> None:
        with self._lock:
            self._track(camera, earth=not pose.frame).put(pose)
        self._node.count("poses")

    def _on_told_pose(self, camera: str, message: PoseStamped) -> None:
        place, turn = message.pose.position, message.pose.orientation
        frame = message.header.frame_id.lstrip("/")
        try:
            if not frame:
                raise GroundError("its frame_id is empty")
            angles = angles_of(rotation_of((turn.x, turn.y, turn.z, turn.w)))
            pose = EgoPose.of(frame, time_to_ns(message.header.stamp), (place.x, place.y, place.z), angles)
        except ValueError as error:  # GroundError among them
            self._warn("bad_poses", f"{block_topic(camera, 'pose')}: {error}")
            return
        self._take_pose(camera, pose)

    def _on_told_half(self, camera: str, halves: dict[int, NavSatFix | Imu], message: NavSatFix | Imu) -> None:
        """Takes a fix or a heading, whichever comes first of those of a stamp: both make a pose on the earth."""
        stamp_ns = time_to_ns(message.header.stamp)
        other = halves.pop(stamp_ns, message)
        fix, heading = (message, other) if isinstance(message, NavSatFix) else (other, message)
        if not (isinstance(fix, NavSatFix) and isinstance(heading, Imu)):
            halves[stamp_ns] = message
            while len(halves) > MOST_HALVES:
                del halves[next(iter(halves))]
            return
        turn = heading.orientation
        try:
            angles = angles_of(rotation_of((turn.x, turn.y, turn.z, turn.w)))
            place, spread = place_on_earth(fix)
            pose = EgoPose.of("", stamp_ns, place, angles, sigma=sigma_of(spread))
        except ValueError as error:  # GroundError among them
            self._warn("bad_fix", f"{block_topic(camera, 'fix')}: {error}")
            return
        self._take_pose(camera, pose)

    def _track(self, camera: str, *, earth: bool) -> EgoTrack:
        """The robot that a camera is on: cameras of one namespace are on one."""
        place = (camera.rpartition("/")[0], earth)
        track = self._tracks.get(place)
        if track is None:
            track = self._tracks[place] = EgoTrack(0)
        track.age_ns = round(self._node.values.planner_pose_age * SECOND)
        return track

    def _to_frame(self, camera: str, stamp_ns: int) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Rotation and translation from the ground frame to `planner.frame`, None where they are one. What the robot
        tells over the link goes before TF. Raises TransformError."""
        values = self._node.values
        if not self._elsewhere():
            return None
        with self._lock:
            track = self._track(camera, earth=False)
            if track.frame and track.frame != values.ground_frame:
                place, turn = track.transform(stamp_ns)
                self._tree.put(track.frame, values.ground_frame, stamp_ns, place.tolist(), turn.tolist())
            return self._tree.look_up(values.planner_frame, values.ground_frame, stamp_ns)

    def _on_surface(self, camera: str, message: Any) -> None:
        self._views[camera].surface = message

    def _on_tf(self, message: Any, fixed: bool = False) -> None:
        with self._lock:
            problems = put_transforms(self._tree, message, fixed=fixed)
        for problem in problems:
            self._warn("bad_transforms", problem)

    def _on_fix(self, message: NavSatFix) -> None:
        if message.status.status >= 0:  # STATUS_FIX and better
            self._fix = (message, time.monotonic())
            self._hear()

    def _on_heading(self, message: Imu) -> None:
        turn = message.orientation
        try:
            rotation = rotation_of((turn.x, turn.y, turn.z, turn.w))
        except GroundError as error:
            self._warn("bad_heading", f"{self._node.values.people_heading}: {error}")
            return
        first = not self._heading_counts()
        self._heading = (angles_of(rotation)[2], time.monotonic())
        if first:
            self._hear()

    def _heading_counts(self) -> bool:
        return self._heading is not None and time.monotonic() - self._heading[1] <= self._node.values.people_fix_age

    def _hear(self) -> None:
        """Keeps the newest fix, with the newest heading, for frames of about its stamp."""
        if self._fix is None or self._heading is None or not self._heading_counts():
            return
        place, spread = place_on_earth(self._fix[0])
        stamp_ns = time_to_ns(self._fix[0].header.stamp)
        try:
            pose = EgoPose.of("", stamp_ns, place, (0.0, 0.0, self._heading[0]), sigma=sigma_of(spread))
        except ValueError as error:
            self._warn("bad_fix", f"{self._node.values.people_fix}: {error}")
            return
        with self._lock:
            self._heard.age_ns = round(self._node.values.people_fix_age * SECOND)
            self._heard.put(pose)

    def _warn(self, kind: str, text: str) -> None:
        self._node.warn(kind, text)

    # -- what is needed to place an object ----------------------------------------------------------------------------

    def _lens(self, view: _View, size: tuple[int, int]) -> Lens:
        with self._lock:
            if view.lens is not None and view.lens[0] == size:
                return view.lens[1]
            info = view.camera_info
        if info is None:
            where = "its stream's description" if self._zenoh else "semhier/camera_info"
            raise GroundError(f"no CameraInfo came with {where}, so nothing can be placed")
        lens = make.lens_of(info, size, rectified=self._node.values.ground_rectified)
        with self._lock:
            view.lens = (size, lens)
        return lens

    def _mount(self, frame_id: str, stamp_ns: int) -> Mount:
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

    def _box_error(self, view: _View, codec: Any, size: tuple[int, int]) -> BoxError:
        if view.error is None or view.error[0] is not codec or view.error[1] != size:
            view.error = (codec, size, box_error_of(codec, size))
        return view.error[2]

    # -- out: called by the worker thread -----------------------------------------------------------------------------

    def reading(
        self, camera: str, codec: Any, reading: Reading, stamp_ns: int, frame_id: str, scene: Scene | None = None
    ) -> None:
        """Publishes what a reading says of places; never raises.

        codec: that read it. scene: the same objects foretold to now, None where nothing is
        followed.
        """
        view = self._views[camera]
        if codec is None or codec.whole_image or view.info is None or not (self._topics or self._outlets):
            return
        if reading.level < self._node.values.planner_from_level:
            return
        if scene is not None and not -EARLIEST_SECONDS <= (scene.stamp_ns - stamp_ns) / SECOND <= LATEST_SECONDS:
            scene = None  # stamps of another time than the node's, such as a bag's
        try:
            self._say(camera, view, codec, reading, stamp_ns, frame_id, scene)
        except Exception as error:  # what planners get must never cost the node's own topics
            self._warn("planner_errors", f"camera {camera}: {type(error).__name__}: {error}")

    def _say(
        self, camera: str, view: _View, codec: Any, reading: Reading, stamp_ns: int, frame_id: str, scene: Scene | None
    ) -> None:
        values = self._node.values
        least = values.planner_least_score
        assert view.info is not None
        size = (view.info.width, view.info.height)
        motion: dict[str, Any] = {}
        detections: Sequence[Detection] = reading.detections
        if scene is not None:
            stamp_ns, detections, motion = self._foretold(view, codec, reading, scene, size, least)
        else:
            detections = [item for item in detections if item.scores and item.scores[0] >= least]
        drawn = self._overlay_due(view)
        located: list[Located] | None = None
        far: dict[int, float] = {}
        if self.places and (drawn or not self._only_looked_at):
            try:
                if self._only_looked_at:
                    far = self._far(view, codec, reading, detections, stamp_ns, frame_id, size, motion)
                else:
                    located = self._place(view, codec, reading, detections, stamp_ns, frame_id, size, motion)
                    far = {item.detection.id: item.range for item in located}
            except GroundError as error:
                self._not_placed(camera, error)
        if located is not None:
            spoken, to_frame = self._spoken(camera, located, stamp_ns)
            followed = self._followed(view, located if spoken is None else spoken)
            if spoken is not None:
                self._publish_places(camera, view, codec, reading, spoken, stamp_ns, followed, to_frame)
            self._through_doors(camera, view, located, stamp_ns, size, None if followed is None else located[followed])
        if self._wanted(view, "annotations"):
            self.send(view, "annotations", make.image_annotations(detections, stamp_ns, self._found["foxglove_msgs"]))
        if drawn:
            self._overlay(view, detections, far, stamp_ns, frame_id, size)

    def _not_placed(self, camera: str, error: GroundError) -> None:
        kind = getattr(error, "kind", "")
        hint = "; without TF give ground.mount: fixed and ground.height" if kind == "unknown" else ""
        self._warn(f"not_placed {kind}".strip(), f"camera {camera}: {error}{hint}")

    def _spoken(
        self, camera: str, located: list[Located], stamp_ns: int
    ) -> tuple[list[Located] | None, tuple[NDArray[np.float64], NDArray[np.float64]] | None]:
        """Objects in `planner.frame`, None where it is not known where that is; and what carried them there, if any."""
        try:
            to_frame = self._to_frame(camera, stamp_ns)
        except GroundError as error:
            self._not_placed(camera, error)
            return None, None
        return (located if to_frame is None else [item.moved(*to_frame) for item in located]), to_frame

    def _foretold(
        self, view: _View, codec: Any, reading: Reading, scene: Scene, size: tuple[int, int], least: float
    ) -> tuple[int, list[Detection], dict[str, Any]]:
        """Stamp, detections and their motion of a scene that was foretold to now. A detection's score is the
        probability that the object exists, as a reading's is: a planner need not care whether readings are foretold."""
        objects = [item for item in scene.objects if item.scores and item.existence >= least]
        others = {item.id: item.others for item in reading.detections}
        detections = [
            Detection(item.id, item.box, item.path, item.names, existing(item), others.get(item.id, ()))
            for item in objects
        ]
        if not objects:
            return scene.stamp_ns, [], {}
        boxes = np.array([item.box for item in objects], np.float64)
        spread = np.array([(item.covariance[0], item.covariance[2]) for item in objects], np.float64)
        rates = np.array([(*item.velocity, *item.velocity) for item in objects], np.float64)
        error = self._box_error(view, codec, size)
        motion = {"forecast_sigma": error.beyond(boxes, reading.prefix, spread), "rates": rates}
        return scene.stamp_ns, detections, motion

    def _place(
        self,
        view: _View,
        codec: Any,
        reading: Reading,
        detections: Sequence[Detection],
        stamp_ns: int,
        frame_id: str,
        size: tuple[int, int],
        motion: Mapping[str, Any],
    ) -> list[Located]:
        lens, mount = self._lens(view, size), self._mount(frame_id, stamp_ns)
        located = locate(detections, lens, mount, **self._known(view, codec, reading, size), **motion)
        if detections and not located:
            mount.check_sees_ground(lens)
        if self._node.values.ground_surface != "plane":
            located = self._measured(view, located, lens, mount, stamp_ns)
        return located

    def _known(self, view: _View, codec: Any, reading: Reading, size: tuple[int, int]) -> dict[str, Any]:
        """What `locate` and `ranges` are told beside boxes, lens and mount."""
        return {
            "prefix": reading.prefix,
            "error": self._box_error(view, codec, size),
            "sizes": self._sizes,
            "max_range": self._node.values.ground_max_range,
        }

    def _far(
        self,
        view: _View,
        codec: Any,
        reading: Reading,
        detections: Sequence[Detection],
        stamp_ns: int,
        frame_id: str,
        size: tuple[int, int],
        motion: Mapping[str, Any],
    ) -> dict[int, float]:
        """Metres to each object that stands on the plane, by its detection's id."""
        lens, mount = self._lens(view, size), self._mount(frame_id, stamp_ns)
        known, grown = self._known(view, codec, reading, size), motion.get("forecast_sigma")
        far = ranges(detections, lens, mount, **known, forecast_sigma=grown)
        if detections and not far:
            mount.check_sees_ground(lens)
        return far

    def _measured(self, view: _View, located: list[Located], lens: Lens, mount: Mount, stamp_ns: int) -> list[Located]:
        """Objects where depth or cloud say that they are; as they were where these say nothing."""
        values, message = self._node.values, view.surface
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
            self._warn("surface", f"{error}; objects are placed on the plane")
            return located
        return [measured(item, near, mount) or item for item, near in zip(located, points, strict=True)]

    def _wanted(self, view: _View, name: str) -> bool:
        """Whether somebody hears a topic; who heard it a moment ago is not counted again."""
        publisher = view.publishers.get(name)
        if publisher is None:
            return False
        now = time.monotonic()
        if now < view.heard.get(name, -math.inf):
            return True
        if publisher.get_subscription_count() == 0:
            return False
        view.heard[name] = now + HEARD_SECONDS
        return True

    def send(self, view: _View, name: str, message: Any) -> None:
        """Publishes a message, light or rclpy's, on one of a camera's topics."""
        view.publishers[name].publish(message.cdr() if isinstance(message, Light) else message)

    def publishers(self, camera: str) -> dict[str, Any]:
        """A camera's publishers by the last part of their topics."""
        return dict(self._views[camera].publishers)

    def _publish_places(
        self,
        camera: str,
        view: _View,
        codec: Any,
        reading: Reading,
        located: list[Located],
        stamp_ns: int,
        followed: int | None,
        to_frame: tuple[Any, Any] | None,
    ) -> None:
        """What a robot may stop for first, then what only frees its way, then viewers' topics; none is made that nobody
        hears."""
        values = self._node.values
        header = make.ground_header(stamp_ns, values.planner_frame or values.ground_frame)
        if self._wanted(view, "polygons"):
            for polygon in make.polygons(located, header):
                self.send(view, "polygons", polygon)
        if self._wanted(view, "obstacles"):
            cloud = make.footprint_cloud(
                located, header, height=values.planner_cloud_height, step=values.planner_cloud_step
            )
            self.send(view, "obstacles", cloud)
        if followed is not None and self._wanted(view, "target"):
            self.send(view, "target", make.target_pose(located[followed], header))
        level = f"detections_3d/level_{reading.level}"
        if self._wanted(view, level):
            array = make.detection_3d_array(
                located, header, self._found["vision_msgs"], codec.taxonomy.sizes, lasting=self._lasting
            )
            self.send(view, level, array)
        options: dict[str, Any] = {"camera": camera, "stamp_ns": stamp_ns, "lasting": self._lasting}
        for name, maker in (("tracked_objects", make.tracked_objects), ("predicted_objects", make.predicted_objects)):
            if self._wanted(view, name):
                self.send(view, name, maker(located, header, self._found["autoware_perception_msgs"], **options))
        if self._wanted(view, "obstacles_clearing"):
            self.send(view, "obstacles_clearing", self._clearing(view, located, header, stamp_ns, to_frame))
        if self._wanted(view, "markers"):
            self.send(view, "markers", make.marker_array(located, header, lifetime=values.planner_lifetime))
        if self._wanted(view, "scene_update"):
            update = make.scene_update(located, header, self._found["foxglove_msgs"], lifetime=values.planner_lifetime)
            self.send(view, "scene_update", update)

    def _clearing(
        self, view: _View, located: list[Located], header: Any, stamp_ns: int, to_frame: tuple[Any, Any] | None
    ) -> Any:
        values = self._node.values
        assert view.info is not None
        lens = self._lens(view, (view.info.width, view.info.height))
        mount = self._mount(view.info.frame_id, stamp_ns)
        place = None
        if to_frame is not None:
            rotation, offset = to_frame

            def place(flat: NDArray[np.float64]) -> NDArray[np.float64]:
                return np.asarray(flat @ rotation[:2, :2].T + offset[:2])

        return make.clearing_cloud(
            located,
            lens,
            mount,
            header,
            height=values.planner_cloud_height,
            reach=values.planner_clear_range,
            place=place,
        )

    def _followed(self, view: _View, located: list[Located]) -> int | None:
        """Which object `target` follows: the one it followed before, if its id lasts or it is still about there;
        else the nearest of that name."""
        wanted = self._node.values.planner_follow.casefold()
        fitting = [item for item in located if not wanted or wanted in (n.casefold() for n in item.detection.names)]
        if not fitting:
            return None
        same = [item for item in fitting if self._lasting and item.detection.id == view.followed]
        if not same and view.followed is not None:
            x, y = view.followed_at
            near = [item for item in fitting if math.hypot(item.x - x, item.y - y) < 2.0]
            same = sorted(near, key=lambda item: math.hypot(item.x - x, item.y - y))
        chosen = (same or sorted(fitting, key=lambda item: item.range))[0]
        view.followed, view.followed_at = chosen.detection.id, (chosen.x, chosen.y)
        return next(place for place, item in enumerate(located) if item is chosen)

    # -- people -------------------------------------------------------------------------------------------------------

    def _ego(self, camera: str, stamp_ns: int) -> Fix | None:
        """Where the robot was on the earth when the picture was taken, if it is known: by the fixes that are heard
        here, else by what it told. Fixes whose stamps are of another time than the pictures' count as of now."""
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

    def _through_doors(
        self,
        camera: str,
        view: _View,
        located: list[Located],
        stamp_ns: int,
        size: tuple[int, int],
        target: Located | None,
    ) -> None:
        if not self._on_earth():
            return
        values = self._node.values
        for outlet in self._outlets.values():
            if outlet.last_error:
                self._warn("doors", outlet.last_error)
                outlet.last_error = ""
        if self._outlets.keys() & {"mavlink"} and self._mavlink is not None and self._pace.due((camera, "image")):
            self._outlets["mavlink"].put(self._mavlink.image_status(target, size))
        fix = self._ego(camera, stamp_ns)
        if fix is None:
            self._warn(
                "no_fix",
                f"people.*, cpm: no fix on {values.people_fix} with a heading on {values.people_heading}, and"
                " the robot told none of late",
            )
            return
        if self._wanted(view, "cpm") and self._pace.due((camera, "cpm")):
            message = collective_perception(
                located,
                fix,
                self._found["etsi_its_cpm_ts_msgs"],
                station=values.people_station,
                camera=camera,
                stamp_ns=stamp_ns,
                now_ns=self._node.now_ns(),
            )
            if message is not None:
                self.send(view, "cpm", message)
        due = [item for item in located if self._pace.due((camera, item.detection.id))]
        if "cot" in self._outlets:
            now_ns = time.time_ns()
            for event in events(due, fix, camera=camera, now_ns=now_ns, stale_seconds=values.people_stale).values():
                self._outlets["cot"].put(event)
        if "geojson" in self._outlets:
            for item in due:
                line = feature(item, fix, camera=camera, stamp_ns=stamp_ns, stale_seconds=values.people_stale)
                self._outlets["geojson"].put(line)
        if self._mavlink is not None and target is not None and self._pace.due((camera, "geo")):
            boot_ms = round((time.monotonic() - self._begun) * 1000)
            outlet = self._outlets["mavlink"]
            outlet.put(self._mavlink.geo_status(target, fix))
            outlet.put(self._mavlink.follow_target(target, fix, boot_ms))

    def wants_pictures(self, camera: str) -> bool:
        """Whether somebody hears what is drawn on a camera's pictures; from any thread."""
        return self._wanted(self._views[camera], "overlay")

    def picture(self, camera: str, rgb: NDArray[np.uint8], stamp_ns: int) -> None:
        """The newest picture of a camera, for overlays."""
        if "overlay" in self._topics:
            view = self._views[camera]
            view.picture, view.picture_ns = rgb, stamp_ns

    def _overlay_due(self, view: _View) -> bool:
        """Whether somebody looks at the overlay, and long enough has passed since it was drawn."""
        return self._wanted(view, "overlay") and time.monotonic() - view.drawn >= OVERLAY_SECONDS

    def _overlay(
        self,
        view: _View,
        detections: Sequence[Detection],
        far: Mapping[int, float],
        stamp_ns: int,
        frame_id: str,
        size: tuple[int, int],
    ) -> None:
        """Publishes the overlay; far: metres to objects, by their detections' ids."""
        view.drawn = time.monotonic()
        now_ns = self._node.now_ns()
        drawn = view.overlay.draw(
            size,
            detections,
            picture=view.picture,
            picture_age=None if view.picture is None else (now_ns - view.picture_ns) / SECOND,
            age=(now_ns - stamp_ns) / SECOND,
            notes={number: f"{metres:.0f} m" for number, metres in far.items()},
        )
        self.send(view, "overlay", make.overlay_image(drawn, stamp_ns, frame_id))
