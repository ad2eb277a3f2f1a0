"""A bag through both ends and a thin link, to watch it live: `ros2 launch semhier_ros replay.launch.py bag:=drive`.

The bag is played by `ros2 bag play --clock` where rosbag2 is installed and by our player elsewhere (`player:=ours`
forces it); both publish /clock, and every node runs on it (`use_sim_time`). The robot's half runs in the namespace
`robot`, the base's half in `base`, the link between them is a UDP relay with the rate, delay and loss of `link`.
`view:=foxglove` starts foxglove_bridge, `view:=rviz` RViz, where they are installed.
"""

from __future__ import annotations

import importlib.util
import shutil

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch import Action, LaunchContext, LaunchDescription
from launch.actions import (
    EmitEvent,
    ExecuteProcess,
    GroupAction,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    TimerAction,
)
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution, ThisLaunchFileDir
from launch_ros.actions import LifecycleNode, Node
from launch_ros.substitutions import ExecutableInPackage

from semhier_ros.launching import Argument, declare, value
from semhier_ros.paths import DEFAULT_MODEL, config_dir

ARGUMENTS = [
    Argument("bag", "Bag folder, MCAP or SQLite3 file with the images `/<camera>/image_raw`, raw or compressed.", None),
    Argument("camera", "Name of the camera stream in the bag and of its topics.", "camera"),
    Argument("input", "Kind of the bag's images.", "compressed", choices=("raw", "compressed")),
    Argument("link", "Rate, one-way delay and loss of the link, as for `semhier link emulate`.", "64kbit,50ms,5%"),
    Argument("budget_kbit", "Uplink budget of the encoder in kbit/s; a little below the link's rate.", "60.0"),
    Argument("model", "Model on both ends: an installed name, or a model folder.", DEFAULT_MODEL),
    Argument("device", "Where encoder and decoder run.", "auto", choices=("auto", "cpu", "cuda")),
    Argument("rate", "Playing speed; 1.0: as recorded.", "1.0"),
    Argument(
        "player",
        "auto: `ros2 bag play` where rosbag2 is installed, else ours.",
        "auto",
        choices=("auto", "rosbag2", "ours"),
    ),
    Argument(
        "planner",
        "Topics for a planner at the base (docs/planners.md); they need the bag's CameraInfo, and a mount, by"
        " `decoder_params` or TF; the encoder then sends foot bits. Default: what `decoder_params` says.",
        choices=("", "none", "nav2", "autoware"),
    ),
    Argument("decoder_params", "Parameter file of the decoder.", str(config_dir() / "decoder.yaml")),
    Argument("view", "What shows it.", "none", choices=("none", "foxglove", "rviz")),
    Argument("sender_port", "UDP port on 127.0.0.1 where the encoder meets the link.", "7447"),
    Argument("receiver_port", "UDP port on 127.0.0.1 where the decoder listens.", "7448"),
]


def rosbag2_is_here() -> bool:
    """Whether `ros2 bag play` can run."""
    return shutil.which("ros2") is not None and importlib.util.find_spec("ros2bag") is not None


def _half(file: str, **arguments: str) -> GroupAction:
    source = PythonLaunchDescriptionSource(PathJoinSubstitution([ThisLaunchFileDir(), file]))
    include = IncludeLaunchDescription(source, launch_arguments=list(arguments.items()))
    return GroupAction([include], scoped=True)  # or the first half's arguments would become the second half's


def _player(context: LaunchContext, topics: list[str]) -> list[Action]:
    over = [TimerAction(period=3.0, actions=[EmitEvent(event=Shutdown(reason="the bag is over"))])]
    wanted = value(context, "player")
    if wanted == "rosbag2" or (wanted == "auto" and rosbag2_is_here()):
        command = ["ros2", "bag", "play", value(context, "bag"), "--clock", "100", "--rate", value(context, "rate")]
        command += ["--topics", *topics, "--delay", "8", "--remap", *(f"{topic}:=/robot{topic}" for topic in topics)]
        return [ExecuteProcess(cmd=command, name="player", output="screen", on_exit=over)]
    node = LifecycleNode(
        package="semhier_ros",
        executable="player_node",
        name="player_node",
        namespace="robot",
        parameters=[
            {
                "bag": value(context, "bag"),
                "topics": topics,
                "rate": float(value(context, "rate")),
                "clock": True,
                "stamps": "bag",  # all nodes live in the bag's time
                "wait_seconds": 300.0,  # until the encoder has loaded its model, on a slow machine too
            }
        ],
        remappings=[(topic, f"/robot{topic}") for topic in topics],
        output="screen",
        on_exit=over,
    )
    return [LogInfo(msg="playing by semhier_ros' own player (rosbag2 is not asked for or not installed)"), node]


def _view(context: LaunchContext) -> list[Action]:
    wanted = value(context, "view")
    package, executable = {"foxglove": ("foxglove_bridge", "foxglove_bridge"), "rviz": ("rviz2", "rviz2")}.get(
        wanted, ("", "")
    )
    if not package:
        return []
    try:
        get_package_share_directory(package)
    except PackageNotFoundError:
        return [LogInfo(msg=f"view:={wanted} needs the package {package}, which is not installed: nothing is shown")]
    return [Node(package=package, executable=executable, parameters=[{"use_sim_time": True}], output="screen")]


def _nodes(context: LaunchContext) -> list[Action]:
    camera = value(context, "camera")
    sender_port, receiver_port = value(context, "sender_port"), value(context, "receiver_port")
    link = ExecuteProcess(
        cmd=[
            ExecutableInPackage(package="semhier_ros", executable="semhier"),
            *("link", "emulate", "--link", value(context, "link")),
            *("--listen", sender_port, "--forward", receiver_port),
        ],
        name="link",
        output="screen",
    )
    shared = {"model": value(context, "model"), "device": value(context, "device"), "use_sim_time": "true"}
    sender = _half(
        "sender.launch.py",
        namespace="robot",
        camera=camera,
        input=value(context, "input"),
        transport="zenoh",
        budget_kbit=value(context, "budget_kbit"),
        zenoh_connect=f"udp/127.0.0.1:{sender_port}",
        zenoh_listen="none",
        foot_bits="true" if value(context, "planner") in ("nav2", "autoware") else "",  # both ends are here
        **shared,
    )
    receiver = _half(
        "receiver.launch.py",
        namespace="base",
        cameras=camera,
        models=shared["model"],
        device=shared["device"],
        use_sim_time="true",
        planner=value(context, "planner"),
        params_file=value(context, "decoder_params"),
        picture="every_block",
        transport="zenoh",
        zenoh_connect="none",
        zenoh_listen=f"udp/127.0.0.1:{receiver_port}",
    )
    images = f"/{camera}/image_raw" + ("/compressed" if value(context, "input") == "compressed" else "")
    return [link, sender, receiver, *_player(context, [images, f"/{camera}/camera_info"]), *_view(context)]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*declare(ARGUMENTS), OpaqueFunction(function=_nodes)])
