"""Pure functions from places on the ground to the messages that planners, maps and viewers subscribe to.

What goes out are light messages (`light_messages`), which cost a tenth of rclpy's own; what comes in are rclpy's.
Message packages that no registry ships are handed in (`vision`: vision_msgs, `autoware`: autoware_perception_msgs,
`foxglove`: foxglove_msgs), so that this file can be imported without them. `optional_messages` finds those that are
installed.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import math
from array import array
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, NavSatFix, NavSatStatus, PointCloud2, PointField
from std_msgs.msg import Header

from semhier_ros.camera.drawing import colour_of
from semhier_ros.codec.calibration import Calibration
from semhier_ros.codec.pose import EgoPose
from semhier_ros.codec.reading import Detection
from semhier_ros.ground import Lens, Located, Mount
from semhier_ros.ground.ego import quaternion_of
from semhier_ros.ground.outlines import ellipses, footprint_points, footprints, free_points
from semhier_ros.ground.surface import DEPTH_SCALES
from semhier_ros.nodes.conversions import class_numbers, ns_to_duration, ns_to_time
from semhier_ros.nodes.light_messages import Casts, cast, light_package, mould

GEOMETRY, SENSOR, STD, VISUAL = (
    light_package(f"{name}_msgs") for name in ("geometry", "sensor", "std", "visualization")
)
Point, Pose, Quaternion, Vector3 = GEOMETRY.Point, GEOMETRY.Pose, GEOMETRY.Quaternion, GEOMETRY.Vector3
Marker = VISUAL.Marker
NO_VECTOR, NO_ACCELERATION = Vector3(), GEOMETRY.AccelWithCovariance()
"""What is never set, of all messages."""
OPTIONAL = ("vision_msgs", "autoware_perception_msgs", "foxglove_msgs", "tf2_msgs", "etsi_its_cpm_ts_msgs")
LIGHT = OPTIONAL[:3]
UNKNOWN_VARIANCE = 1e6
"""Variance of what is not known at all, such as a speed that nobody measured."""
UNKNOWN = UNKNOWN_VARIANCE * np.eye(6).ravel()
UNKNOWN.flags.writeable = False
ELLIPSE_STEPS = 12
PATH_SECONDS, PATH_STEP = 3.0, 0.5
MOVING = 0.5
"""Metres a second from which on an object's motion says which way it faces."""


def optional_messages() -> dict[str, Any]:
    """What stands for `package.msg`, of each package of OPTIONAL that is installed: light messages of those that are
    published often."""
    found: dict[str, Any] = {}
    for package in OPTIONAL:
        with contextlib.suppress(ImportError):
            found[package] = light_package(package) if package in LIGHT else importlib.import_module(f"{package}.msg")
    return found


def ground_header(stamp_ns: int, frame_id: str) -> Any:
    """The header of everything here: the source image's stamp, the frame that places are given in."""
    return STD.Header(stamp=ns_to_time(stamp_ns), frame_id=frame_id)


def _turned(yaw: float) -> Any:
    return Quaternion(z=math.sin(yaw / 2), w=math.cos(yaw / 2))


def _pose(item: Located, z: float, yaw: float | None = None) -> Any:
    position = Point(x=item.x, y=item.y, z=item.z + z)
    return Pose(position=position, orientation=_turned(item.heading if yaw is None else yaw))


def _pose_covariances(located: Sequence[Located]) -> NDArray[np.float64]:
    """The 6x6 covariances (x, y, z, and turns about them) n,36, by rows."""
    found = np.zeros((len(located), 36))
    found[:, (0, 1, 6, 7)] = np.array([item.covariance for item in located]).reshape(-1, 4)
    found[:, 14] = [(0.05 * item.range) ** 2 + 0.01 for item in located]
    found[:, (21, 28)] = 0.01
    found[:, 35] = math.pi**2 / 3  # which way it faces is not known
    return found


def _twist_covariance(item: Located, yaw: float) -> NDArray[np.float64]:
    """The same of a speed along the axes of an object that faces `yaw`; UNKNOWN_VARIANCE where none was told."""
    if item.velocity_covariance is None:
        return UNKNOWN
    found = UNKNOWN.copy()
    xx, xy, _, yy = item.velocity_covariance
    c, s = math.cos(yaw), math.sin(yaw)
    along, aside = c * c * xx + 2 * c * s * xy + s * s * yy, s * s * xx - 2 * c * s * xy + c * c * yy
    cross = c * s * (yy - xx) + (c * c - s * s) * xy
    found[[0, 1, 6, 7]] = along, cross, cross, aside
    return found


# -- planners ----------------------------------------------------------------------------------------------------------


def detection_3d_array(
    located: Sequence[Located], header: Any, vision: Any, sizes: Sequence[int], *, lasting: bool
) -> Any:
    """`vision_msgs/Detection3DArray`; `sizes`: nodes per level of the taxonomy, numbered as `label_info` does.

    lasting: ids last over frames (a tracker gives them); else `id` stays empty, as vision_msgs asks for.
    """
    firsts = class_numbers(sizes)
    result = vision.Detection3DArray(header=header)
    for item, covariance in zip(located, _pose_covariances(located), strict=True):
        detection = vision.Detection3D(header=header, id=str(item.detection.id) if lasting else "")
        path, scores = item.detection.path, item.detection.scores
        pose = _pose(item, item.height / 2)
        named = [(firsts[level] + path[level], scores[level]) for level in reversed(range(len(path)))]
        named += [(firsts[len(path) - 1] + node, score) for node, score in item.detection.others_at(len(path) - 1)]
        for number, score in named:
            hypothesis = vision.ObjectHypothesisWithPose()
            hypothesis.hypothesis.class_id = str(number)
            hypothesis.hypothesis.score = float(score)
            hypothesis.pose.pose = pose
            hypothesis.pose.covariance = covariance
            detection.results.append(hypothesis)
        detection.bbox.center = pose
        detection.bbox.size = Vector3(x=item.length, y=item.width, z=item.height)
        result.detections.append(detection)
    return result


def polygons(located: Sequence[Located], header: Any) -> list[bytes]:
    """One serialised `geometry_msgs/PolygonInstanceStamped` for each object, the nearest last: Nav2's collision monitor
    keeps the newest five of a burst that it is too busy to take."""
    ordered = sorted(located, key=lambda one: -one.range)
    corners = np.zeros((len(ordered), 4, 3), np.float32)
    corners[:, :, :2] = footprints(ordered)
    if any(item.z for item in ordered):
        corners[:, :, 2] = np.array([item.z for item in ordered])[:, None]
    write, stamp = _polygon_mould(header.frame_id), (header.stamp.sec, header.stamp.nanosec)
    rows = corners.reshape(-1, 12).tolist()
    return [cast(write, *stamp, *row, item.detection.id) for item, row in zip(ordered, rows, strict=True)]


@lru_cache(maxsize=16)
def _polygon_mould(frame_id: str) -> Any:
    """What writes a polygon of four corners: of its stamp, x, y and z of each corner, and its id."""
    polygon = GEOMETRY.Polygon(points=[GEOMETRY.Point32() for _ in range(4)])
    message = GEOMETRY.PolygonInstanceStamped(
        header=STD.Header(frame_id=frame_id), polygon=GEOMETRY.PolygonInstance(polygon=polygon)
    )
    corners = [f"polygon.polygon.points.{number}.{axis}" for number in range(4) for axis in "xyz"]
    return mould(message, "header.stamp.sec", "header.stamp.nanosec", *corners, "polygon.id")


def _cloud(points: NDArray[np.float32], names: Sequence[str], header: Any) -> Any:
    fields = [
        SENSOR.PointField(name=name, offset=4 * number, datatype=PointField.FLOAT32, count=1)
        for number, name in enumerate(names)
    ]
    message = SENSOR.PointCloud2(
        header=header, height=1, width=len(points), fields=fields, is_bigendian=False, is_dense=True
    )
    message.point_step = 4 * len(names)
    message.row_step = message.point_step * len(points)
    message.data = np.ascontiguousarray(points, "<f4").tobytes()
    return message


def footprint_cloud(located: Sequence[Located], header: Any, *, height: float, step: float) -> Any:
    """Points along the footprints, every `step` metres at most, `height` metres above the ground, for costmap layers:
    fields x, y, z and score."""
    flat, rows = footprint_points(located, step)
    points = np.empty((len(flat), 4), np.float32)
    points[:, :2] = flat
    points[:, 2:] = (
        np.array([(item.z + height, item.score) for item in located], np.float32).reshape(-1, 2).take(rows, axis=0)
    )
    return _cloud(points, ("x", "y", "z", "score"), header)


def clearing_cloud(
    located: Sequence[Located],
    lens: Lens,
    mount: Mount,
    header: Any,
    *,
    height: float,
    reach: float,
    place: Any = None,
) -> Any:
    """Points `reach` metres away, one each degree of what the camera sees, none behind an object: a costmap layer of
    its own clears along the way to them what was an object a moment ago. `place`: carries points n,2 of the ground
    frame into the header's (None: it is the ground frame)."""
    flat = free_points(located, lens, mount, reach)
    if place is not None:
        flat = place(flat)
    points = np.column_stack([flat, np.full(len(flat), height)])
    return _cloud(points.astype(np.float32), ("x", "y", "z"), header)


def target_pose(item: Located, header: Any) -> Any:
    """`geometry_msgs/PoseStamped` of a followed object: on the ground, facing away from us."""
    return GEOMETRY.PoseStamped(header=header, pose=_pose(item, 0.0))


AUTOWARE_LABELS: dict[str, str] = {
    "vehicle": "CAR", "car-like": "CAR", "car": "CAR", "suv": "CAR", "taxi": "CAR", "policecar": "CAR",
    "van": "CAR", "minivan": "CAR", "pickup": "CAR", "ambulance": "CAR", "auto rickshaw": "CAR", "rickshaw": "CAR",
    "three-wheeler": "CAR", "three wheelers (cng)": "CAR", "heavy": "TRUCK", "truck-like": "TRUCK",
    "truck": "TRUCK", "garbagevan": "TRUCK", "army vehicle": "TRUCK", "human hauler": "TRUCK", "bus-like": "BUS",
    "bus": "BUS", "minibus": "BUS", "trailer": "TRAILER", "two-wheeler": "MOTORCYCLE", "motorbike": "MOTORCYCLE",
    "motorcycle": "MOTORCYCLE", "scooter": "MOTORCYCLE", "bicycle": "BICYCLE", "cyclist": "BICYCLE",
    "person": "PEDESTRIAN", "pedestrian": "PEDESTRIAN", "people": "PEDESTRIAN", "vulnerable": "PEDESTRIAN",
    "on foot": "PEDESTRIAN", "riding": "PEDESTRIAN", "rider": "PEDESTRIAN", "animal": "ANIMAL",
    "large animal": "ANIMAL", "small animal": "ANIMAL", "wild animal": "ANIMAL", "bird": "ANIMAL", "dog": "ANIMAL",
    "cat": "ANIMAL", "horse": "ANIMAL", "cow": "ANIMAL", "sheep": "ANIMAL",
}  # fmt: skip
"""Names of nodes, case ignored, and Autoware's label for them; others are UNKNOWN."""


@lru_cache(maxsize=1024)
def _autoware_labels(names: tuple[str, ...]) -> tuple[str, ...]:
    """Autoware's labels of those of an object's names that have one, the finest first."""
    return tuple(AUTOWARE_LABELS[name.casefold()] for name in reversed(names) if name.casefold() in AUTOWARE_LABELS)


def _autoware_classes(detection: Detection, autoware: Any) -> list[Any]:
    label = next(iter(_autoware_labels(detection.names)), "UNKNOWN")
    sure = min(1.0, detection.scores[-1] / max(detection.scores[0], 1e-6)) if detection.scores else 0.0
    known = autoware.ObjectClassification(label=getattr(autoware.ObjectClassification, label), probability=float(sure))
    return [known]


def _autoware_uuid(camera: str, stamp_ns: int, item: Located, lasting: bool, kind: Any) -> Any:
    """The same 16 bytes for the same lasting id of a camera; without lasting ids, for the same object of one frame."""
    text = f"{camera}/{item.detection.id}" if lasting else f"{camera}/{stamp_ns}/{item.detection.id}"
    return kind(uuid=np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], np.uint8))


def _speed_spread(item: Located) -> float:
    """The standard deviation of a speed in m/s, 0 where none was told."""
    told = item.velocity_covariance
    return 0.0 if told is None else math.sqrt(max(told[0] + told[3], 0.0))


def _motion(item: Located) -> tuple[float | None, float]:
    """The direction of motion in radians where it is sure, and the speed along it."""
    if item.velocity is None:
        return None, 0.0
    speed = math.hypot(*item.velocity)
    sure = speed >= MOVING and speed > _speed_spread(item)
    return (math.atan2(item.velocity[1], item.velocity[0]) if sure else None), speed if sure else 0.0


def _autoware_shape(item: Located, autoware: Any) -> Any:
    kind, length, width = autoware.Shape.BOUNDING_BOX, item.length, item.width
    if {"PEDESTRIAN", "ANIMAL"}.intersection(_autoware_labels(item.detection.names)):
        kind, length, width = autoware.Shape.CYLINDER, max(length, width), max(length, width)
    return autoware.Shape(type=kind, dimensions=Vector3(x=length, y=width, z=item.height))


def _autoware_object(kind: Any, uuid: Any, item: Located, kinematics: Any, autoware: Any) -> Any:
    return kind(
        object_id=uuid,
        existence_probability=float(item.score),
        classification=_autoware_classes(item.detection, autoware),
        kinematics=kinematics,
        shape=_autoware_shape(item, autoware),
    )


def _moving(item: Located, covariance: NDArray[np.float64]) -> tuple[Any, Any, float | None]:
    """A PoseWithCovariance, a TwistWithCovariance (in the object's own axes), and which way the object moves."""
    yaw, speed = _motion(item)
    pose = GEOMETRY.PoseWithCovariance(pose=_pose(item, item.height / 2, yaw), covariance=covariance)
    twist = GEOMETRY.Twist(linear=Vector3(x=float(speed)), angular=NO_VECTOR)
    unsure = _twist_covariance(item, item.heading if yaw is None else yaw)
    return pose, GEOMETRY.TwistWithCovariance(twist=twist, covariance=unsure), yaw


def tracked_objects(
    located: Sequence[Located], header: Any, autoware: Any, *, camera: str, stamp_ns: int, lasting: bool
) -> Any:
    """`autoware_perception_msgs/TrackedObjects`: existence probability, class, pose and twist with covariances."""
    result, identity = autoware.TrackedObjects(header=header), type(autoware.TrackedObject().object_id)
    kinds = autoware.TrackedObjectKinematics
    for item, covariance in zip(located, _pose_covariances(located), strict=True):
        pose, twist, yaw = _moving(item, covariance)
        state = kinds(
            pose_with_covariance=pose,
            twist_with_covariance=twist,
            acceleration_with_covariance=NO_ACCELERATION,
            orientation_availability=kinds.UNAVAILABLE if yaw is None else kinds.AVAILABLE,
            is_stationary=item.velocity is not None and math.hypot(*item.velocity) + _speed_spread(item) < MOVING,
        )
        uuid = _autoware_uuid(camera, stamp_ns, item, lasting, identity)
        result.objects.append(_autoware_object(autoware.TrackedObject, uuid, item, state, autoware))
    return result


def predicted_objects(
    located: Sequence[Located], header: Any, autoware: Any, *, camera: str, stamp_ns: int, lasting: bool
) -> Any:
    """`autoware_perception_msgs/PredictedObjects`: the same, with one path of constant velocity over three seconds (an
    object whose speed nobody told stays where it is)."""
    result, identity = autoware.PredictedObjects(header=header), type(autoware.PredictedObject().object_id)
    step, ahead = ns_to_duration(round(PATH_STEP * 1e9)), PATH_STEP * np.arange(round(PATH_SECONDS / PATH_STEP) + 1)
    starts: list[tuple[float, ...]] = []
    for item, covariance in zip(located, _pose_covariances(located), strict=True):
        pose, twist, yaw = _moving(item, covariance)
        place, turn = pose.pose.position, pose.pose.orientation
        velocity = item.velocity if item.velocity is not None and yaw is not None else (0.0, 0.0)
        starts.append((place.x, place.y, place.z, 0.0, 0.0, turn.z, turn.w, *velocity))
        state = autoware.PredictedObjectKinematics(
            initial_pose_with_covariance=pose,
            initial_twist_with_covariance=twist,
            initial_acceleration_with_covariance=NO_ACCELERATION,
        )
        uuid = _autoware_uuid(camera, stamp_ns, item, lasting, identity)
        result.objects.append(_autoware_object(autoware.PredictedObject, uuid, item, state, autoware))
    numbers = np.array(starts).reshape(-1, 1, 9)
    paths = numbers[..., :7].repeat(len(ahead), axis=1)  # of each object: poses by rows
    paths[..., :2] += ahead[:, None] * numbers[..., 7:]
    for made, path in zip(result.objects, paths, strict=True):
        told = autoware.PredictedPath(confidence=1.0, time_step=step, path=path)
        made.kinematics.predicted_paths = [told]
    return result


# -- people ------------------------------------------------------------------------------------------------------------


def _words(item: Located) -> str:
    return f"{item.name} {item.score:.0%}, {item.range:.0f} m"


def _shade(detection: Detection) -> tuple[float, float, float]:
    red, green, blue = (value / 255 for value in colour_of(detection))
    return red, green, blue


def marker_array(located: Sequence[Located], header: Any, *, lifetime: float) -> Any:
    """`visualization_msgs/MarkerArray` for RViz: a box and a name for each object, and their 95 % ellipses. The first
    marker deletes what was there before."""
    stamp = header.stamp.sec, header.stamp.nanosec
    start, body, name, rim = _marker_moulds(header.frame_id, lifetime)
    casts: list[tuple[Any, tuple[Any, ...]]] = [(start, stamp)]
    for number, item in enumerate(located):
        z, w = math.sin(item.heading / 2), math.cos(item.heading / 2)
        place = (*stamp, number, item.x, item.y)
        long, wide, tall = item.length, item.width, item.height
        casts.append((body, (*place, item.z + tall / 2, z, w, long, wide, tall, *_shade(item.detection))))
        casts.append((name, (*place, item.z + (tall + 0.3), z, w, _words(item))))
    if located:
        casts.append((rim, (*stamp, _rims(located))))
    return VISUAL.MarkerArray(markers=Casts(casts))


@lru_cache(maxsize=16)
def _marker_moulds(frame_id: str, lifetime: float) -> tuple[Any, Any, Any, Any]:
    """What writes the marker that deletes, an object's box, its name, and the ellipses: each of stamp, number, place,
    orientation and what else differs."""
    common: dict[str, Any] = {
        "header": STD.Header(frame_id=frame_id),
        "lifetime": ns_to_duration(round(lifetime * 1e9)),
    }
    start = Marker(header=common["header"], action=Marker.DELETEALL)
    body = Marker(**common, ns="objects", type=Marker.CUBE, action=Marker.ADD, color=STD.ColorRGBA(a=0.6))
    name = Marker(**common, ns="names", type=Marker.TEXT_VIEW_FACING, action=Marker.ADD, scale=Vector3(z=0.4))
    name.color = STD.ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
    rim = Marker(**common, ns="ellipses", type=Marker.LINE_LIST, action=Marker.ADD, scale=Vector3(x=0.04))
    rim.color = STD.ColorRGBA(r=1.0, g=0.8, b=0.0, a=0.9)
    stamp = ("header.stamp.sec", "header.stamp.nanosec")
    place = (*stamp, "id", *(f"pose.{what}" for what in ("position.x", "position.y", "position.z")))
    place += ("pose.orientation.z", "pose.orientation.w")
    shape = ("scale.x", "scale.y", "scale.z", "color.r", "color.g", "color.b")
    return mould(start, *stamp), mould(body, *place, *shape), mould(name, *place, "text"), mould(rim, *stamp, "points")


def _rims(located: Sequence[Located]) -> NDArray[np.float64]:
    """Ends n,3 of the lines round the ellipses, two to a line."""
    flat = ellipses(located, ELLIPSE_STEPS)
    lines = np.empty((*flat.shape[:2], 2, 3))
    lines[:, :, 0, :2], lines[:, :, 1, :2] = flat, np.roll(flat, -1, axis=1)
    lines[..., 2] = np.array([item.z + 0.02 for item in located])[:, None, None]
    return lines.reshape(-1, 3)


def overlay_image(rgb: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> bytes:
    """`sensor_msgs/Image` of a picture H,W,3 (RGB), serialised: it is large, and copied once."""
    height, width = rgb.shape[:2]
    message = SENSOR.Image(header=ground_header(stamp_ns, frame_id), height=height, width=width, encoding="rgb8")
    message.step = 3 * width
    return bytes(message.cdr(rgb))


def image_annotations(detections: Sequence[Detection], stamp_ns: int, foxglove: Any) -> Any:
    """`foxglove_msgs/ImageAnnotations`: boxes and names to lay over the camera's picture."""
    stamp = ns_to_time(stamp_ns)
    result = foxglove.ImageAnnotations()
    for item in detections:
        if not item.path or not item.scores:
            continue
        red, green, blue = _shade(item)
        x0, y0, x1, y1 = (float(value) for value in item.box)
        corners = [foxglove.Point2(x=x, y=y) for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]
        lines = foxglove.PointsAnnotation(timestamp=stamp, type=foxglove.PointsAnnotation.LINE_LOOP, points=corners)
        lines.thickness = 2.0
        lines.outline_color = foxglove.Color(r=red, g=green, b=blue, a=1.0)
        result.points.append(lines)
        text = foxglove.TextAnnotation(timestamp=stamp, text=f"{item.names[-1]} {item.scores[-1]:.0%}", font_size=14.0)
        text.position = foxglove.Point2(x=x0, y=max(14.0, y0 - 2))
        text.text_color = foxglove.Color(r=1.0, g=1.0, b=1.0, a=1.0)
        text.background_color = foxglove.Color(r=red, g=green, b=blue, a=0.9)
        result.texts.append(text)
    return result


def scene_update(located: Sequence[Located], header: Any, foxglove: Any, *, lifetime: float) -> Any:
    """`foxglove_msgs/SceneUpdate`: a box and a name for each object; what an earlier one showed is deleted first."""
    result = foxglove.SceneUpdate()
    gone = foxglove.SceneEntityDeletion(timestamp=header.stamp, type=foxglove.SceneEntityDeletion.ALL)
    result.deletions = [gone]
    left = ns_to_duration(round(lifetime * 1e9))
    for number, item in enumerate(located):
        red, green, blue = _shade(item.detection)
        entity = foxglove.SceneEntity(timestamp=header.stamp, frame_id=header.frame_id, id=str(number), lifetime=left)
        size = Vector3(x=item.length, y=item.width, z=item.height)
        body = foxglove.CubePrimitive(pose=_pose(item, item.height / 2), size=size)
        body.color = foxglove.Color(r=red, g=green, b=blue, a=0.6)
        name = foxglove.TextPrimitive(pose=_pose(item, item.height + 0.3), billboard=True, font_size=0.4)
        name.text = _words(item)
        name.color = foxglove.Color(r=1.0, g=1.0, b=1.0, a=1.0)
        entity.cubes, entity.texts = [body], [name]
        entity.metadata = [
            foxglove.KeyValuePair(key=key, value=value)
            for key, value in (("name", item.name), ("score", f"{item.score:.3f}"), ("method", item.method))
        ]
        result.entities.append(entity)
    return result


# -- in ----------------------------------------------------------------------------------------------------------------


def calibration_of(info: CameraInfo) -> Calibration:
    """What of a CameraInfo travels. Raises ValueError naming what cannot."""
    return Calibration.of_matrices(
        info.k,
        info.p,
        width=int(info.width),
        height=int(info.height),
        model=info.distortion_model,
        d=tuple(float(value) for value in info.d),
        r=tuple(float(value) for value in info.r) if any(info.r) else (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
        binning=(int(info.binning_x), int(info.binning_y)),
        window=(int(info.roi.x_offset), int(info.roi.y_offset), int(info.roi.width), int(info.roi.height)),
        rectified=bool(info.roi.do_rectify),
    )


def pose_stamped(pose: EgoPose, header: Any) -> Any:
    """`geometry_msgs/PoseStamped` of what a robot told of its place in a frame."""
    x, y, z = pose.place
    return GEOMETRY.PoseStamped(header=header, pose=Pose(position=Point(x=x, y=y, z=z), orientation=_facing(pose)))


def _facing(pose: EgoPose) -> Any:
    x, y, z, w = quaternion_of(pose.angles).tolist()
    return Quaternion(x=x, y=y, z=z, w=w)


def heading_message(pose: EgoPose, header: Any) -> Any:
    """`sensor_msgs/Imu` of the way that a robot on the earth told to face (ENU: yaw counts from east to the left); it
    says nothing of how it turns and speeds up."""
    message = SENSOR.Imu(header=header, orientation=_facing(pose))
    unknown = [-1.0, *[0.0] * 8]  # as sensor_msgs/Imu asks for
    message.angular_velocity_covariance = message.linear_acceleration_covariance = unknown
    return message


def fix_message(pose: EgoPose, header: Any) -> NavSatFix:
    """`sensor_msgs/NavSatFix` of what a robot told of its place on the earth."""
    latitude, longitude, altitude = pose.place
    message = NavSatFix(header=header, latitude=latitude, longitude=longitude, altitude=altitude)
    message.status.status = NavSatStatus.STATUS_FIX
    if pose.sigma:
        message.position_covariance_type = NavSatFix.COVARIANCE_TYPE_APPROXIMATED
        message.position_covariance = [pose.sigma**2, 0.0, 0.0, 0.0, pose.sigma**2, 0.0, 0.0, 0.0, 4 * pose.sigma**2]
    return message


def camera_info_message(calibration: Calibration, header: Header) -> CameraInfo:
    """The CameraInfo that a calibration stands for."""
    message = CameraInfo(header=header, width=calibration.width, height=calibration.height)
    message.distortion_model = calibration.model
    message.k, message.p, message.r = calibration.matrix_k, calibration.matrix_p, list(calibration.r)
    message.d = array("d", calibration.d)
    message.binning_x, message.binning_y = calibration.binning
    region = message.roi
    region.x_offset, region.y_offset, region.width, region.height = calibration.window
    region.do_rectify = calibration.rectified
    return message


def lens_of(info: CameraInfo, picture: tuple[int, int], *, rectified: bool) -> Lens:
    """The lens for pictures of that width and height. Raises GroundError saying why there is none."""
    return Lens.of_camera_info(
        (int(info.width), int(info.height)),
        info.k,
        info.d,
        info.distortion_model,
        p=info.p,
        rectified=rectified,
        binning=(int(info.binning_x), int(info.binning_y)),
        roi=(int(info.roi.x_offset), int(info.roi.y_offset), int(info.roi.width), int(info.roi.height)),
        picture=picture,
    )


def depth_array(message: Any) -> tuple[NDArray[Any], str]:
    """Pixels H,W of a depth image, as they were measured, and their encoding. Raises ValueError when bytes are missing
    or the encoding is no depth."""
    if message.encoding not in DEPTH_SCALES:
        raise ValueError(f"depth image: encoding {message.encoding!r}, expected {' | '.join(DEPTH_SCALES)}")
    kind = np.dtype("f4" if message.encoding == "32FC1" else "u2").newbyteorder(">" if message.is_bigendian else "<")
    row = message.width * kind.itemsize
    data = np.frombuffer(message.data, np.uint8)
    if message.step < row or len(data) < message.step * message.height:
        raise ValueError(
            f"depth image: {len(data)} bytes, {message.width}x{message.height} {message.encoding} has more"
        )
    rows = data[: message.step * message.height].reshape(message.height, message.step)[:, :row]
    return np.ascontiguousarray(rows).view(kind), message.encoding


def cloud_array(message: PointCloud2) -> NDArray[np.float64]:
    """Finite points n,3 of a cloud that has x, y and z. Raises ValueError when it has not, or bytes are missing."""
    kinds = {PointField.FLOAT32: "f4", PointField.FLOAT64: "f8"}
    fields = {field.name: field for field in message.fields}
    if not all(name in fields and fields[name].datatype in kinds for name in "xyz"):
        raise ValueError(f"point cloud: fields {', '.join(fields) or 'none'}, expected x, y and z as floats")
    order = ">" if message.is_bigendian else "<"
    formats = [order + kinds[fields[name].datatype] for name in "xyz"]
    offsets = [fields[name].offset for name in "xyz"]
    count = message.width * message.height
    row = message.point_step * message.width
    ends = max(offset + int(form[-1]) for offset, form in zip(offsets, formats, strict=True))
    if message.point_step < ends or message.row_step < row or len(message.data) < message.row_step * message.height:
        raise ValueError(f"point cloud: {len(message.data)} bytes, {count} points of {message.point_step} have more")
    data = np.frombuffer(message.data, np.uint8)[: message.row_step * message.height]
    packed = np.ascontiguousarray(data.reshape(message.height, message.row_step)[:, :row]).reshape(-1)
    kind = np.dtype({"names": list("xyz"), "formats": formats, "offsets": offsets, "itemsize": message.point_step})
    points = packed.view(kind) if count else np.zeros(0, kind)
    flat = np.stack([points[name].astype(np.float64) for name in "xyz"], axis=1)
    return np.asarray(flat[np.isfinite(flat).all(axis=1)])
