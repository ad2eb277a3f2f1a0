"""A bag through both ends and a thin link between them, on one machine.

`ros2 launch semhier_ros demo.launch.py bag:=drive` plays the bag `drive`.

The robot's half runs in the namespace `robot`, the base's half in `base`; the only way from one to the other is a
Zenoh link with the rate, delay and loss of the argument `link`. Watch `/base/<camera>/detections/level_0` and finer.
"""

from __future__ import annotations

from launch import Action, LaunchContext, LaunchDescription
from launch.actions import (
    EmitEvent,
    ExecuteProcess,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
    TimerAction,
)
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution, ThisLaunchFileDir
from launch_ros.actions import LifecycleNode
from launch_ros.substitutions import ExecutableInPackage

from semhier_ros.launching import Argument, boolean, declare, value
from semhier_ros.paths import DEFAULT_MODEL

ARGUMENTS = [
    Argument("bag", "MCAP file or bag folder with the images `/<camera>/image_raw`, raw or compressed.", None),
    Argument("camera", "Name of the camera stream in the bag and of its topics.", "camera"),
    Argument("input", "Kind of the bag's images.", "raw", choices=("raw", "compressed")),
    Argument("loop", "Whether the bag starts again at its end.", "false", choices=("true", "false")),
    Argument("rate", "Playing speed; 1.0: as recorded.", "1.0"),
    Argument("link", "Rate, one-way delay and loss of the link, as for `semhier link emulate`.", "64kbit,50ms,5%"),
    Argument("seed", "Seed of the link's random numbers.", "0"),
    Argument("budget_kbit", "Uplink budget of the encoder in kbit/s; a little below the link's rate.", "60.0"),
    Argument("max_rate", "Most frames per second that are encoded.", "5.0"),
    Argument("model", "Model on both ends: an installed name, or a model folder.", DEFAULT_MODEL),
    Argument("device", "Where encoder and decoder run.", "auto", choices=("auto", "cpu", "cuda")),
    Argument(
        "picture",
        "When a picture is published.",
        "on_complete",
        choices=("off", "on_complete", "picture_blocks", "every_block"),
    ),
    Argument("record", "Folder of a new bag with the readings; empty: none is recorded.", ""),
    Argument("sender_port", "UDP port on 127.0.0.1 where the encoder meets the link.", "7447"),
    Argument("receiver_port", "UDP port on 127.0.0.1 where the decoder listens.", "7448"),
]


def _half(file: str, **arguments: str) -> GroupAction:
    source = PythonLaunchDescriptionSource(PathJoinSubstitution([ThisLaunchFileDir(), file]))
    include = IncludeLaunchDescription(source, launch_arguments=list(arguments.items()))
    return GroupAction([include], scoped=True)  # or the first half's arguments would become the second half's


def _nodes(context: LaunchContext) -> list[Action]:
    camera = value(context, "camera")
    sender_port, receiver_port = value(context, "sender_port"), value(context, "receiver_port")
    emulate = ["link", "emulate", "--link", value(context, "link"), "--seed", value(context, "seed")]
    link = ExecuteProcess(
        cmd=[
            ExecutableInPackage(package="semhier_ros", executable="semhier"),
            *emulate,
            *("--listen", sender_port, "--forward", receiver_port),
        ],
        name="link",
        output="screen",
    )
    shared = {"model": value(context, "model"), "device": value(context, "device")}
    sender = _half(
        "sender.launch.py",
        namespace="robot",
        camera=camera,
        input=value(context, "input"),
        transport="zenoh",
        budget_kbit=value(context, "budget_kbit"),
        max_rate=value(context, "max_rate"),
        zenoh_connect=f"udp/127.0.0.1:{sender_port}",
        zenoh_listen="none",
        **shared,
    )
    receiver = _half(
        "receiver.launch.py",
        namespace="base",
        cameras=camera,
        models=shared["model"],
        device=shared["device"],
        picture=value(context, "picture"),
        transport="zenoh",
        zenoh_connect="none",
        zenoh_listen=f"udp/127.0.0.1:{receiver_port}",
    )
    images = f"/{camera}/image_raw" + ("/compressed" if value(context, "input") == "compressed" else "")
    player = LifecycleNode(
        package="semhier_ros",
        executable="player_node",
        name="player_node",
        namespace="robot",
        parameters=[
            {
                "bag": value(context, "bag"),
                "topics": [images],
                "loop": boolean(value(context, "loop")),
                "rate": float(value(context, "rate")),
                "wait_seconds": 300.0,  # until the encoder has loaded its model, on a slow machine too
            }
        ],
        remappings=[(images, f"/robot{images}")],
        output="screen",
        # the last blocks still cross the link
        on_exit=[TimerAction(period=3.0, actions=[EmitEvent(event=Shutdown(reason="the bag is over"))])],
    )
    nodes: list[Action] = [link, sender, receiver, player]
    if folder := value(context, "record"):
        nodes.append(
            LifecycleNode(
                package="semhier_ros",
                executable="recorder_node",
                name="recorder_node",
                namespace="base",
                parameters=[{"bag": folder, "cameras": [camera]}],
                output="screen",
            )
        )
    return nodes


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*declare(ARGUMENTS), OpaqueFunction(function=_nodes)])
