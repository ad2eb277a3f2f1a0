"""ETSI's collective perception message (TS 103 324) of what a camera sees, for roads whose users tell each other what
is there. The message is that of `etsi_its_cpm_ts_msgs`; that project's own node encodes and sends it.

Positions are centimetres east and north of the reference position (the robot's fix), as etsi_its_msgs_utils reads them.
Confidences are those of 95 %.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from semhier_ros.ground import Located
from semhier_ros.ground.earth import Fix, east_north, east_north_covariance
from semhier_ros.nodes.planner_messages import AUTOWARE_LABELS

PROTOCOL_VERSION, MESSAGE_CPM = 2, 14
EPOCH_MS, LEAP_SECONDS = 1_072_915_200_000, 5
"""Timestamps count milliseconds of atomic time since 2004; leap seconds since then, the last at the end of 2016."""
MOST_OBJECTS = 255
SIGMAS_95 = 1.96
VEHICLES = {"CAR": "PASSENGER_CAR", "TRUCK": "HEAVY_TRUCK", "BUS": "BUS", "TRAILER": "TRAILER"}
OTHERS_OF_THE_ROAD = {
    "PEDESTRIAN": ("pedestrian", "ORDINARY_PEDESTRIAN"),
    "BICYCLE": ("bicyclist_and_light_vru_vehicle", "BICYCLIST"),
    "MOTORCYCLE": ("motorcyclist", "MOTORCYCLIST"),
    "ANIMAL": ("animal", "UNAVAILABLE"),
}
"""Fields of VruProfileAndSubprofile and their values; by Autoware's label."""


def collective_perception(
    located: Sequence[Located], fix: Fix, its: Any, *, station: int, camera: str, stamp_ns: int, now_ns: int
) -> Any:
    """The message of `located` (in the robot's ground frame), or None where nothing is seen.

    its: the module etsi_its_cpm_ts_msgs.msg. station: the sender's number. stamp_ns: when it was seen; now_ns: the
    message's reference time. The nearest 255 objects are told.
    """
    near = sorted(located, key=lambda item: item.range)[:MOST_OBJECTS]
    if not near:
        return None
    message = its.CollectivePerceptionMessage()
    message.header.protocol_version.value = PROTOCOL_VERSION
    message.header.message_id.value = MESSAGE_CPM
    message.header.station_id.value = station
    management = message.payload.management_container
    management.reference_time.value = max(0, now_ns // 1_000_000 - EPOCH_MS + 1000 * LEAP_SECONDS)
    _fill_reference(management.reference_position, fix, its)
    age_ms = round((stamp_ns - now_ns) / 1e6)
    objects = its.PerceivedObjectContainer()
    objects.number_of_perceived_objects.value = len(near)
    objects.perceived_objects.array = [_perceived(item, fix, its, camera, age_ms) for item in near]
    wrapped = its.WrappedCpmContainer(container_data_perceived_object_container=objects)
    wrapped.container_id.value = its.WrappedCpmContainer.CHOICE_CONTAINER_DATA_PERCEIVED_OBJECT_CONTAINER
    vehicle = its.WrappedCpmContainer()
    vehicle.container_id.value = its.WrappedCpmContainer.CHOICE_CONTAINER_DATA_ORIGINATING_VEHICLE_CONTAINER
    angle = vehicle.container_data_originating_vehicle_container.orientation_angle
    angle.value.value = round(10 * math.degrees(math.pi / 2 - fix.heading)) % 3600
    angle.confidence.value = its.Wgs84AngleConfidence.UNAVAILABLE
    message.payload.cpm_containers.value.array = [vehicle, wrapped]
    return message


def _fill_reference(position: Any, fix: Fix, its: Any) -> None:
    position.latitude.value, position.longitude.value = round(fix.latitude * 1e7), round(fix.longitude * 1e7)
    position.altitude.altitude_value.value = _within(fix.altitude * 100, -100_000, 800_000)
    position.altitude.altitude_confidence.value = its.AltitudeConfidence.UNAVAILABLE
    ellipse = position.position_confidence_ellipse
    length = _within(fix.accuracy * 100 * math.sqrt(5.991), 1, 4094) if fix.accuracy else its.SemiAxisLength.UNAVAILABLE
    ellipse.semi_major_confidence.value = ellipse.semi_minor_confidence.value = length
    known = its.HeadingValue.WGS84_NORTH if fix.accuracy else its.HeadingValue.UNAVAILABLE
    ellipse.semi_major_orientation.value = known


def _perceived(item: Located, fix: Fix, its: Any, camera: str, age_ms: int) -> Any:
    found = its.PerceivedObject(object_id_is_present=True)
    name = f"{camera}/{item.detection.id}"
    found.object_id.value = int.from_bytes(hashlib.sha256(name.encode()).digest()[:2], "big")
    found.measurement_delta_time.value = _within(age_ms, -2048, 2047)
    spread = east_north_covariance(fix, item.covariance)
    for axis, value, variance in zip("xy", east_north(fix, item.x, item.y), (spread[0, 0], spread[1, 1]), strict=True):
        coordinate = getattr(found.position, f"{axis}_coordinate")
        coordinate.value.value = _within(100 * value, -131_072, 131_071)
        coordinate.confidence.value = _within(100 * SIGMAS_95 * math.sqrt(variance), 1, 4095)
    correlation = float(spread[0, 1] / math.sqrt(spread[0, 0] * spread[1, 1]))
    found.lower_triangular_correlation_matrices.array = [_correlation(correlation, its)]
    found.lower_triangular_correlation_matrices_is_present = True
    if item.velocity is not None:
        found.velocity_is_present = True
        found.velocity.choice = its.Velocity3dWithConfidence.CHOICE_CARTESIAN_VELOCITY
        speeds = found.velocity.cartesian_velocity
        told = np.full((2, 2), np.nan)
        if item.velocity_covariance is not None:
            told = east_north_covariance(Fix(0, 0, heading=fix.heading), item.velocity_covariance)
        for axis, value, variance in zip("xy", east_north(fix, *item.velocity), told.diagonal(), strict=True):
            component = getattr(speeds, f"{axis}_velocity")
            component.value.value = _within(100 * value, -16_383, 16_382)
            sure = math.isfinite(variance)
            sigma = 100 * SIGMAS_95 * math.sqrt(variance) if sure else 0.0
            component.confidence.value = _within(sigma, 1, 126) if sure else its.SpeedConfidence.UNAVAILABLE
    for axis, metres in zip("xyz", (item.length, item.width, item.height), strict=True):
        dimension = getattr(found, f"object_dimension_{axis}")
        dimension.value.value = _within(10 * metres, 1, 255)
        dimension.confidence.value = its.ObjectDimensionConfidence.UNAVAILABLE
        setattr(found, f"object_dimension_{axis}_is_present", True)
    found.angles_is_present = True
    turn = math.degrees(item.heading + fix.heading) % 360  # of the line of sight, along which the length lies
    found.angles.z_angle.value.value = round(10 * turn) % 3600
    found.angles.z_angle.confidence.value = its.AngleConfidence.UNAVAILABLE
    found.object_perception_quality.value = _within(15 * item.score, 0, 15)
    found.object_perception_quality_is_present = True
    found.classification.array = [_class_of(item, its)]
    found.classification_is_present = True
    return found


def _correlation(value: float, its: Any) -> Any:
    """The lower triangle of the correlations of x and y."""
    included = its.MatrixIncludedComponents
    bits = 1 << 15 - included.BIT_INDEX_X_POSITION | 1 << 15 - included.BIT_INDEX_Y_POSITION
    made = its.LowerTriangularPositiveSemidefiniteMatrix()
    made.components_included_inthe_matrix.value = list(bits.to_bytes(2, "big"))
    made.components_included_inthe_matrix.bits_unused = 16 - included.SIZE_BITS
    cell = its.CorrelationCellValue(value=_within(100 * value, -100, 100))
    made.matrix.array = [its.CorrelationColumn(array=[cell])]
    return made


def _class_of(item: Located, its: Any) -> Any:
    """The finest name that the standard has a word for, and how sure it is given that there is something."""
    names = [name.casefold() for name in reversed(item.detection.names)]
    label = next((AUTOWARE_LABELS[name] for name in names if name in AUTOWARE_LABELS), "")
    scores = item.detection.scores
    told = its.ObjectClassWithConfidence()
    sure = min(1.0, scores[-1] / max(scores[0], 1e-6)) if scores else 0.0
    told.confidence.value = _within(100 * sure, 1, 100)
    kind = told.object_class
    if label in VEHICLES:
        kind.choice = its.ObjectClass.CHOICE_VEHICLE_SUB_CLASS
        kind.vehicle_sub_class.value = getattr(its.TrafficParticipantType, VEHICLES[label])
    elif label in OTHERS_OF_THE_ROAD:
        field, value = OTHERS_OF_THE_ROAD[label]
        kind.choice = its.ObjectClass.CHOICE_VRU_SUB_CLASS
        profile = kind.vru_sub_class
        profile.choice = getattr(its.VruProfileAndSubprofile, f"CHOICE_{field.upper()}")
        sub = getattr(profile, field)
        sub.value = getattr(type(sub), value)
    else:
        kind.choice = its.ObjectClass.CHOICE_OTHER_SUB_CLASS
        kind.other_sub_class.value = its.OtherSubClass.UNKNOWN
    return told


def _within(value: float, low: int, high: int) -> int:
    """`value` as a whole number of the field's range."""
    return int(min(max(round(value), low), high))
