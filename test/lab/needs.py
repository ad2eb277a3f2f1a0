"""Why a test of real processes cannot run here."""

from __future__ import annotations

import importlib.util

from semhier_ros.footage.video import FootageError, default_video
from semhier_ros.paths import model_names


def missing(*, ros: bool = True) -> str:
    """What lacks of the demo's model and footage and, with `ros`, of ROS 2; empty where nothing does."""
    if ros and importlib.util.find_spec("rclpy") is None:
        return "rclpy is not installed: run `make`"
    if "road" not in model_names():
        return "models/road is not there"
    try:
        default_video()
    except FootageError as error:
        return str(error)
    return ""
