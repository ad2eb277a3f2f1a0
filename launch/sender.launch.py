"""Starts the encoder of one camera: `ros2 launch semhier_ros sender.launch.py image:=/front/image_raw budget_kbit:=64`.

`ros2 launch semhier_ros sender.launch.py --show-args` lists every argument.
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription
from launch.actions import OpaqueFunction
from launch_ros.actions import LifecycleNode

from semhier_ros.launching import (
    Argument,
    boolean,
    camera_info_beside,
    carrier,
    common,
    declare,
    in_file,
    node,
    number,
    params_file,
    texts,
    whole,
)

ARGUMENTS = [
    Argument("camera", "Name of the camera stream and of its topics.", parameter="camera", also="cameras"),
    Argument("image", "Topic of the images, instead of `<camera>/image_raw` (or `<camera>/image_raw/compressed`)."),
    Argument(
        "camera_info", "Topic of the CameraInfo; with `image` its sibling `camera_info`, else `<camera>/camera_info`."
    ),
    Argument(
        "input",
        "Kind of the images: raw (Image) or compressed (CompressedImage).",
        parameter="input",
        choices=("", "raw", "compressed"),
    ),
    Argument("model", "Model that encodes: an installed name, or a model folder.", parameter="model", also="models"),
    Argument("device", "Where the encoder runs.", parameter="device", choices=("", "auto", "cpu", "cuda")),
    Argument("max_rate", "Most frames per second that are encoded; 0.0: no limit.", parameter="max_rate", kind=number),
    Argument("finest_block", "Index of the finest block that is sent.", parameter="finest_block", kind=whole),
    Argument(
        "foot_bits",
        "false: two bits an object less, and ranges in metres that are less exact (docs/planners.md).",
        parameter="foot_bits",
        kind=boolean,
        choices=("", "true", "false"),
    ),
    Argument(
        "budget_kbit",
        "Uplink budget in kbit/s, what the transport adds included; 0: unlimited.",
        parameter="link.budget_kbit",
        kind=number,
    ),
    Argument(
        "memory",
        "true: frames say only what the receiver, told memory:=true too, would get wrong (docs/living.md).",
        parameter="memory.enabled",
        kind=boolean,
        choices=("", "true", "false"),
    ),
    *carrier(),
    *common("encoder_node", "encoder.yaml"),
]


def _encoder(context: LaunchContext) -> list[LifecycleNode]:
    given = texts(context, ARGUMENTS)
    file = params_file(given)
    camera = given["camera"] or in_file(file, given["name"], "camera", "camera")
    compressed = (given["input"] or in_file(file, given["name"], "input", "raw")) == "compressed"
    image = f"{camera}/image_raw" + ("/compressed" if compressed else "")
    info = given["camera_info"] or camera_info_beside(given["image"], compressed)
    remappings = {image: given["image"], f"{camera}/camera_info": info}
    return [node(given, "encoder_node", ARGUMENTS, remappings)]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*declare(ARGUMENTS, __file__), OpaqueFunction(function=_encoder)])
