"""Starts the decoder of one or several cameras: `ros2 launch semhier_ros receiver.launch.py cameras:=front,rear`.

`ros2 launch semhier_ros receiver.launch.py --show-args` lists every argument.
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription
from launch.actions import OpaqueFunction
from launch_ros.actions import LifecycleNode

from semhier_ros.launching import Argument, boolean, carrier, common, declare, node, number, texts, words

PLANNERS = {
    "none": [""],
    "nav2": ["polygons", "obstacles", "detections_3d", "target", "markers"],
    "autoware": ["tracked_objects", "predicted_objects", "detections_3d", "markers"],
}


def planner_topics(name: str) -> list[str]:
    """The topics of a planner's set."""
    return PLANNERS[name]


ARGUMENTS = [
    Argument(
        "cameras",
        "Camera streams that are decoded, between commas.",
        parameter="cameras",
        kind=words,
        also="camera",
    ),
    Argument(
        "models",
        "Models that may decode, between commas: installed names or model folders.",
        parameter="models",
        kind=words,
        also="model",
    ),
    Argument("device", "Where the decoder runs.", parameter="device", choices=("", "auto", "cpu", "cuda")),
    Argument(
        "picture",
        "When a picture is published: never, with a frame's last block, at every picture block, or at every block.",
        parameter="picture",
        choices=("", "off", "on_complete", "picture_blocks", "every_block"),
    ),
    Argument(
        "least_score",
        "Objects of a lower score are not published; 0.0: all are, also those hardly believed in; 0.3 suits readers"
        " that take each for real. Planner topics have planner.least_score instead.",
        parameter="least_score",
        kind=number,
    ),
    Argument(
        "follow",
        "true: objects keep their ids over frames (docs/living.md).",
        parameter="follow",
        kind=boolean,
        choices=("", "true", "false"),
    ),
    Argument(
        "memory",
        "true: frames are remembered and acknowledged, for a sender with memory:=true (docs/living.md).",
        parameter="memory",
        kind=boolean,
        choices=("", "true", "false"),
    ),
    Argument(
        "company_ms",
        "With several cameras: milliseconds that a picture may wait for those of others, to be made with them.",
        parameter="fleet.company_ms",
        kind=number,
    ),
    Argument(
        "republish_blocks",
        "On all but ros: publish what arrives on `<camera>/semhier/...` here too, for bags and other nodes.",
        parameter="republish_blocks",
        kind=boolean,
        choices=("", "true", "false"),
    ),
    Argument(
        "planner",
        "Topics for a planner (docs/planners.md): nav2 (polygons, obstacles, detections_3d, target, markers), autoware"
        " (tracked_objects, predicted_objects, detections_3d, markers; with follow:=true ids last), or none.",
        parameter="planner.topics",
        kind=planner_topics,
        choices=("", "none", "nav2", "autoware"),
    ),
    *carrier(),
    *common("decoder_node", "decoder.yaml"),
]


def _decoder(context: LaunchContext) -> list[LifecycleNode]:
    return [node(texts(context, ARGUMENTS), "decoder_node", ARGUMENTS, {})]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*declare(ARGUMENTS, __file__), OpaqueFunction(function=_decoder)])
