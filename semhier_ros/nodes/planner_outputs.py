"""What the decoder node says to planners, maps and people beside its readings: places on the ground, on many topics.

`PlannerOutputs` owns their publishers and turns each reading into messages, by what `Surroundings` knows. Whatever is
missing or wrong costs one throttled line; the node's own topics go on. `reading` and `picture` are called by the
decoder's worker thread, the other methods by the executor.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import yaml
from geometry_msgs.msg import PolygonInstanceStamped, PoseStamped
from numpy.typing import NDArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, Imu, NavSatFix, PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from semhier_ros.camera.overlay import Overlay
from semhier_ros.codec.calibration import Calibration
from semhier_ros.codec.reading import Detection, Reading, Scene, TrackedObject
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.ground import BoxError, GroundError, Lens, Located, Mount, SizeTable, locate, ranges
from semhier_ros.ground.errors_file import box_error_of
from semhier_ros.nodes import planner_messages as make
from semhier_ros.nodes.collective_perception import collective_perception
from semhier_ros.nodes.conversions import SECOND, ns_to_time
from semhier_ros.nodes.light_messages import Light
from semhier_ros.nodes.managed import ManagedNode
from semhier_ros.nodes.people_doors import PeopleDoors
from semhier_ros.nodes.ros_link import LATCHED, block_topic
from semhier_ros.nodes.surroundings import PLAIN, Moved, Surroundings
from semhier_ros.scene.living import MOST_SECONDS

BURST = QoSProfile(depth=64, reliability=ReliabilityPolicy.RELIABLE)
"""For polygons: a frame's come all at once, one message each."""
OVERLAY_SECONDS = 0.1
HEARD_SECONDS = 1.0
"""How long a topic that somebody heard is taken to be heard: counting takes 0.05 ms."""
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
    """One camera as this node shows it."""

    camera: str
    info: StreamInfo | None = None
    told: Calibration | None = None
    error: tuple[Any, tuple[int, int], BoxError] | None = None
    picture: NDArray[np.uint8] | None = None
    picture_ns: int = 0
    drawn: float = -math.inf
    overlay: Overlay = field(default_factory=Overlay)
    followed: int | None = None
    followed_at: tuple[float, float] = (0.0, 0.0)
    publishers: dict[str, Any] = field(default_factory=dict)
    heard: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Seen:
    """What is to be placed: a reading's detections, or the same objects foretold to a later stamp.

    motion: what `locate` is told of objects that were foretold.
    """

    codec: Any
    reading: Reading
    detections: Sequence[Detection]
    stamp_ns: int
    frame_id: str
    size: tuple[int, int]
    motion: Mapping[str, Any] = field(default_factory=dict)


def existing(item: TrackedObject) -> tuple[float, ...]:
    """Of each name of an object, the probability that such an object exists."""
    top = max(item.scores[0], 1e-6)
    return tuple(item.existence * score / top for score in item.scores)


def _tells_of_now(scene: Scene, stamp_ns: int) -> bool:
    """Whether a foretold scene says where objects are of a reading of that stamp: it is of about that time, and not of
    another clock (a bag's), and not so long after the newest reading that it knows of none any more."""
    if scene.read_ns is None or scene.stamp_ns - scene.read_ns > MOST_SECONDS * SECOND:
        return False
    return -EARLIEST_SECONDS <= (scene.stamp_ns - stamp_ns) / SECOND <= LATEST_SECONDS


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
        self._found = make.optional_messages()
        self._topics = [name for name in values.planner_topics if name]
        for name in list(self._topics):
            if name in NEEDS and NEEDS[name] not in self._found:
                self._node.get_logger().warning(f"planner.topics: {name} needs {NEEDS[name]}, which is not installed")
                self._topics.remove(name)
        self._views = {camera: _View(camera) for camera in values.cameras}
        self._sizes = SizeTable()
        if values.ground_sizes:
            with open(values.ground_sizes, encoding="utf-8") as file:
                self._sizes = SizeTable.of_dict(yaml.safe_load(file))
        self.surroundings = Surroundings(node, self._found.get("tf2_msgs"), over_link=zenoh)
        self._doors = PeopleDoors(node)
        self.places = bool(self._doors) or (bool(self._topics) and self._topics != ["annotations"])
        others = set(self._topics) - {"overlay", "annotations"}
        self._only_looked_at = not others and not self._doors and values.ground_surface == "plane"
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

    def activate(self) -> None:
        """Starts to listen to CameraInfo, TF, depth and fixes, as far as they are wanted."""
        if self.places:
            self.surroundings.listen(earth=self._on_earth())

    def _on_earth(self) -> bool:
        """Whether anything here needs to know where on the earth the robot is."""
        return bool(self._doors) or "cpm" in self._topics

    def deactivate(self) -> None:
        """Stops to listen."""
        self.surroundings.stop()

    def close(self) -> None:
        """Ends publishers and wires."""
        self.deactivate()
        for view in self._views.values():
            for publisher in view.publishers.values():
                self._node.destroy_publisher(publisher)
            view.publishers = {}
        self._doors.close()

    def counts(self) -> dict[str, int]:
        """What the doors sent and dropped, for the diagnostics."""
        return self._doors.counts()

    # -- what the link tells ------------------------------------------------------------------------------------------

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
        self.surroundings.camera_info(camera, message)
        publisher = view.publishers.get("camera_info")
        if publisher is not None and self._node.count_publishers(publisher.topic_name) == 1:
            publisher.publish(message)  # else the robot itself is in this ROS graph, and says it

    def pose(self, camera: str, data: bytes) -> None:
        """What a camera's sender tells beside its packets: where the robot is. Never raises."""
        view = self._views[camera]
        pose = self.surroundings.told_pose(camera, data)
        if pose is None:
            return
        header = Header(stamp=ns_to_time(pose.stamp_ns), frame_id=pose.frame)
        kinds = (
            {"pose": make.pose_stamped} if pose.frame else {"heading": make.heading_message, "fix": make.fix_message}
        )
        for name, message_of in kinds.items():
            if self._wanted(view, name):
                self.send(view, name, message_of(pose, header))

    # -- out: called by the worker thread -----------------------------------------------------------------------------

    def reading(
        self, camera: str, codec: Any, reading: Reading, stamp_ns: int, frame_id: str, scene: Scene | None = None
    ) -> None:
        """Publishes what a reading says of places; never raises.

        codec: that read it. scene: the same objects foretold to now, None where nothing is followed.
        """
        view = self._views[camera]
        if codec is None or codec.whole_image or view.info is None or not (self._topics or self._doors):
            return
        if reading.level < self._node.values.planner_from_level:
            return
        if scene is not None and not _tells_of_now(scene, stamp_ns):
            scene = None
        size = (view.info.width, view.info.height)
        try:
            seen = _Seen(codec, reading, reading.detections, stamp_ns, frame_id, size)
            self._say(view, self._sure(seen) if scene is None else self._foretold(view, seen, scene))
        except Exception as error:  # what planners get must never cost the node's own topics
            self._warn("planner_errors", f"camera {camera}: {type(error).__name__}: {error}")

    def _sure(self, seen: _Seen) -> _Seen:
        """The same, without objects below `planner.least_score`."""
        least = self._node.values.planner_least_score
        return replace(seen, detections=[item for item in seen.detections if item.scores and item.scores[0] >= least])

    def _foretold(self, view: _View, seen: _Seen, scene: Scene) -> _Seen:
        """What was seen, foretold to now. A detection's score is the probability that the object exists, as a
        reading's is: a planner need not care whether readings are foretold."""
        least = self._node.values.planner_least_score
        objects = [item for item in scene.objects if item.scores and item.existence >= least]
        others = {item.id: item.others for item in seen.reading.detections}
        detections = [
            Detection(item.id, item.box, item.path, item.names, existing(item), others.get(item.id, ()))
            for item in objects
        ]
        motion: dict[str, Any] = {}
        if objects:
            boxes = np.array([item.box for item in objects], np.float64)
            spread = np.array([(item.covariance[0], item.covariance[2]) for item in objects], np.float64)
            error = self._box_error(view, seen.codec, seen.size)
            motion = {
                "forecast_sigma": error.beyond(boxes, seen.reading.prefix, spread),
                "rates": np.array([(*item.velocity, *item.velocity) for item in objects], np.float64),
                "rate_sigma": np.sqrt([2 * item.velocity_covariance[::2] for item in objects]),
            }
        return replace(seen, detections=detections, stamp_ns=scene.stamp_ns, motion=motion)

    def _say(self, view: _View, seen: _Seen) -> None:
        drawn = self._overlay_due(view)
        located: list[Located] | None = None
        far: dict[int, float] = {}
        if self.places and (drawn or not self._only_looked_at):
            try:
                if self._only_looked_at:
                    far = self._far(view, seen)
                else:
                    located = self._place(view, seen)
                    far = {item.detection.id: item.range for item in located}
            except GroundError as error:
                self._not_placed(view, error)
        if located is not None:
            spoken, moved = self._spoken(view, located, seen.stamp_ns)
            followed = self._followed(view, located if spoken is None else spoken)
            if spoken is not None:
                self._publish_places(view, seen, spoken, followed, moved)
            self._tell_people(view, seen, located, None if followed is None else located[followed])
        if self._wanted(view, "annotations"):
            foxglove = self._found["foxglove_msgs"]
            self.send(view, "annotations", make.image_annotations(seen.detections, seen.stamp_ns, foxglove))
        if drawn:
            self._overlay(view, seen, far)

    def _warn(self, kind: str, text: str) -> None:
        self._node.warn(kind, text)

    def _not_placed(self, view: _View, error: GroundError) -> None:
        kind = getattr(error, "kind", "")
        hint = "; without TF give ground.mount: fixed and ground.height" if kind == "unknown" else ""
        self._warn(f"not_placed {kind}".strip(), f"camera {view.camera}: {error}{hint}")

    # -- from boxes to places -----------------------------------------------------------------------------------------

    def _box_error(self, view: _View, codec: Any, size: tuple[int, int]) -> BoxError:
        if view.error is None or view.error[0] is not codec or view.error[1] != size:
            view.error = (codec, size, box_error_of(codec, size))
        return view.error[2]

    def _lens_and_mount(self, view: _View, seen: _Seen) -> tuple[Lens, Mount]:
        return (
            self.surroundings.lens(view.camera, seen.size),
            self.surroundings.mount(seen.frame_id, seen.stamp_ns),
        )

    def _known(self, view: _View, seen: _Seen) -> dict[str, Any]:
        """What `locate` and `ranges` are told beside boxes, lens and mount."""
        return {
            "prefix": seen.reading.prefix,
            "error": self._box_error(view, seen.codec, seen.size),
            "sizes": self._sizes,
            "max_range": self._node.values.ground_max_range,
        }

    def _place(self, view: _View, seen: _Seen) -> list[Located]:
        lens, mount = self._lens_and_mount(view, seen)
        located = locate(seen.detections, lens, mount, **self._known(view, seen), **seen.motion)
        if seen.detections and not located:
            mount.check_sees_ground(lens)
        if self._node.values.ground_surface != "plane":
            located = self.surroundings.on_surface_measured(view.camera, located, lens, mount, seen.stamp_ns)
        return located

    def _far(self, view: _View, seen: _Seen) -> dict[int, float]:
        """Metres to each object that stands on the plane, by its detection's id."""
        lens, mount = self._lens_and_mount(view, seen)
        grown = seen.motion.get("forecast_sigma")
        far = ranges(seen.detections, lens, mount, **self._known(view, seen), forecast_sigma=grown)
        if seen.detections and not far:
            mount.check_sees_ground(lens)
        return far

    def _spoken(self, view: _View, located: list[Located], stamp_ns: int) -> tuple[list[Located] | None, Moved | None]:
        """Objects in `planner.frame`, None where it is not known where that is; and what carried them there, if any."""
        try:
            moved = self.surroundings.to_planner_frame(view.camera, stamp_ns)
        except GroundError as error:
            self._not_placed(view, error)
            return None, None
        return (located if moved is None else [item.moved(*moved) for item in located]), moved

    def _followed(self, view: _View, located: list[Located]) -> int | None:
        """Which object `target` follows: the one it followed before, if its id lasts or it is still about there;
        else the nearest of that name."""
        wanted = self._node.values.planner_target.casefold()
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

    # -- topics -------------------------------------------------------------------------------------------------------

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
        self, view: _View, seen: _Seen, located: list[Located], followed: int | None, moved: Moved | None
    ) -> None:
        """What a robot may stop for first, then what only frees its way, then viewers' topics; none is made that nobody
        hears."""
        values = self._node.values
        header = make.ground_header(seen.stamp_ns, values.planner_frame or values.ground_frame)
        tell = partial(self._tell, view)
        tell("polygons", lambda: make.polygons(located, header))
        cloud = {"height": values.planner_cloud_height, "step": values.planner_cloud_step}
        tell("obstacles", lambda: [make.footprint_cloud(located, header, **cloud)])
        if followed is not None:
            target = located[followed]
            tell("target", lambda: [make.target_pose(target, header)])
        vision, sizes, lasting = self._found.get("vision_msgs"), seen.codec.taxonomy.sizes, self._lasting
        tell(
            f"detections_3d/level_{seen.reading.level}",
            lambda: [make.detection_3d_array(located, header, vision, sizes, lasting=lasting)],
        )
        autoware = self._found.get("autoware_perception_msgs")
        options: dict[str, Any] = {"camera": view.camera, "stamp_ns": seen.stamp_ns, "lasting": lasting}
        tell("tracked_objects", lambda: [make.tracked_objects(located, header, autoware, **options)])
        tell("predicted_objects", lambda: [make.predicted_objects(located, header, autoware, **options)])
        tell("obstacles_clearing", lambda: [self._clearing(view, seen, located, header, moved)])
        lifetime, foxglove = values.planner_lifetime, self._found.get("foxglove_msgs")
        tell("markers", lambda: [make.marker_array(located, header, lifetime=lifetime)])
        tell("scene_update", lambda: [make.scene_update(located, header, foxglove, lifetime=lifetime)])

    def _tell(self, view: _View, name: str, messages: Callable[[], Sequence[Any]]) -> None:
        """Makes and publishes a topic's messages where somebody hears it. What goes wrong costs this topic alone: a
        planner must not keep what is gone because another topic failed."""
        if not self._wanted(view, name):
            return
        try:
            for message in messages():
                self.send(view, name, message)
        except Exception as error:
            self._warn("planner_errors", f"camera {view.camera}, {name}: {type(error).__name__}: {error}")

    def _clearing(self, view: _View, seen: _Seen, located: list[Located], header: Any, moved: Moved | None) -> Any:
        values = self._node.values
        lens, mount = self._lens_and_mount(view, seen)
        place = None
        if moved is not None:
            rotation, offset = moved

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

    def _tell_people(self, view: _View, seen: _Seen, located: list[Located], target: Located | None) -> None:
        """What goes out by the doors, and what else needs to know where on the earth the robot is."""
        if not self._on_earth():
            return
        values, camera = self._node.values, view.camera
        self._doors.tell_image(camera, target, seen.size)
        fix = self.surroundings.fix(camera, seen.stamp_ns)
        if fix is None:
            self._warn(
                "no_fix",
                f"people.*, cpm: no fix on {values.people_fix} with a heading on {values.people_heading}, and"
                " the robot told none of late",
            )
            return
        if self._wanted(view, "cpm") and self._doors.due((camera, "cpm")):
            message = collective_perception(
                located,
                fix,
                self._found["etsi_its_cpm_ts_msgs"],
                station=values.people_station,
                camera=camera,
                stamp_ns=seen.stamp_ns,
                now_ns=self._node.now_ns(),
            )
            if message is not None:
                self.send(view, "cpm", message)
        self._doors.tell_places(camera, located, target, fix, seen.stamp_ns)

    # -- pictures for people ------------------------------------------------------------------------------------------

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

    def _overlay(self, view: _View, seen: _Seen, far: Mapping[int, float]) -> None:
        """Publishes the overlay; far: metres to objects, by their detections' ids."""
        view.drawn = time.monotonic()
        now_ns = self._node.now_ns()
        drawn = view.overlay.draw(
            seen.size,
            seen.detections,
            picture=view.picture,
            picture_age=None if view.picture is None else (now_ns - view.picture_ns) / SECOND,
            age=(now_ns - seen.stamp_ns) / SECOND,
            notes={number: f"{metres:.0f} m" for number, metres in far.items()},
        )
        self.send(view, "overlay", make.overlay_image(drawn, seen.stamp_ns, seen.frame_id))
