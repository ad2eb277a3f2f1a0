"""Messages that recorder and player carry between topics and bags as bytes."""

from __future__ import annotations

from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu, NavSatFix

from semhier_ros.msg import LinkStatus, SemanticBlock, SemanticDetectionArray, StreamInfo

CAMERA_TYPES: dict[str, Any] = {
    "sensor_msgs/msg/Image": Image,
    "sensor_msgs/msg/CompressedImage": CompressedImage,
    "sensor_msgs/msg/CameraInfo": CameraInfo,
}
"""What cameras publish."""
MESSAGE_TYPES: dict[str, Any] = CAMERA_TYPES | {
    "geometry_msgs/msg/PoseStamped": PoseStamped,
    "sensor_msgs/msg/NavSatFix": NavSatFix,
    "sensor_msgs/msg/Imu": Imu,
    "diagnostic_msgs/msg/DiagnosticArray": DiagnosticArray,
    "semhier_ros/msg/LinkStatus": LinkStatus,
    "semhier_ros/msg/SemanticBlock": SemanticBlock,
    "semhier_ros/msg/SemanticDetectionArray": SemanticDetectionArray,
    "semhier_ros/msg/StreamInfo": StreamInfo,
}
"""All that is recorded, by the name of its type. Each begins with its stamp."""


def is_latched(topic: str) -> bool:
    """Whether the last message of a topic is kept for who joins late."""
    return topic.endswith(("/semhier/info", "/semhier/camera_info"))
