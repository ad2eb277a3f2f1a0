"""A bag through both ends and a thin link, to watch it live: `ros2 launch semhier_ros replay.launch.py bag:=drive`.

The bag is played by `ros2 bag play --clock` where rosbag2 is installed and by our player elsewhere (`player:=ours`
forces it); both publish /clock, and every node runs on it (`use_sim_time`). With `stamps:=now` and with `loop:=true`
our player gives the images the time of playing instead, and nothing runs on /clock. The robot's half runs in the
namespace `robot`, the base's half in `base`, the link between them is a UDP relay with the rate, delay and loss of
`link`: watch `/base/<camera>/detections/level_0` and finer. `view:=foxglove` starts foxglove_bridge, `view:=rviz` RViz,
where they are installed.
"""

from __future__ import annotations

from collections.abc import Mapping

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch import Action, LaunchContext, LaunchDescription
from launch.actions import (
    EmitEvent,
    ExecuteProcess,
    GroupAction,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution, ThisLaunchFileDir
from launch_ros.actions import LifecycleNode, Node
from launch_ros.substitutions import ExecutableInPackage

from semhier_ros.launching import (
    Argument,
    boolean,
    by_rosbag2,
    camera_info_beside,
    declare,
    emulated,
    images_in_bag,
    named_for,
    number,
    value,
)
from semhier_ros.paths import DEFAULT_MODEL, config_dir

STAMPS = ("bag", "now")
VIEWERS = {
    "foxglove": ("foxglove_bridge", "foxglove_bridge", "foxglove_layout.json"),
    "rviz": ("rviz2", "rviz2", "planners/markers.rviz"),
}
"""Package, executable, and the file in config/ that says what is shown."""
PROCESSES = ("link", "encoder_node", "decoder_node", "player", "player_node", "recorder_node")
"""What a replay needs; a viewer may be closed."""
ARGUMENTS = [
    Argument("bag", "Bag folder, MCAP or SQLite3 file with images, raw or compressed.", None),
    Argument("camera", "Camera of the bag, `front` for `/front/image_raw`; empty: the only one that it has."),
    Argument("link", "Rate, one-way delay and loss of the link, as for `semhier link emulate`.", "64kbit,50ms,5%"),
    Argument("seed", "Seed of the link's random numbers. Default: the one that `link` names, else 0."),
    Argument("budget_kbit", "Uplink budget of the encoder in kbit/s; a little below the link's rate.", "60.0"),
    Argument("max_rate", "Most frames per second that are encoded. Default: what `encoder_params` says."),
    Argument("model", "Model on both ends: an installed name, or a model folder.", DEFAULT_MODEL),
    Argument("device", "Where encoder and decoder run.", "auto", choices=("auto", "cpu", "cuda")),
    Argument("rate", "Playing speed; 1.0: as recorded.", "1.0"),
    Argument("loop", "Whether the bag starts again at its end.", "false", choices=("true", "false")),
    Argument("stamps", "bag: all runs in the bag's time; now: images get the time of playing.", "bag", choices=STAMPS),
    Argument(
        "player",
        "auto: `ros2 bag play` where rosbag2 is installed, else ours.",
        "auto",
        choices=("auto", "rosbag2", "ours"),
    ),
    Argument(
        "picture",
        "When a picture is published at the base.",
        "every_block",
        choices=("off", "on_complete", "picture_blocks", "every_block"),
    ),
    Argument(
        "planner",
        "Topics for a planner at the base (docs/planners.md); they need the bag's CameraInfo, and a mount, by"
        " `decoder_params` or TF. Default: what `decoder_params` says.",
        choices=("", "none", "nav2", "autoware"),
    ),
    Argument("encoder_params", "Parameter file of the encoder.", str(config_dir() / "encoder.yaml")),
    Argument("decoder_params", "Parameter file of the decoder.", str(config_dir() / "decoder.yaml")),
    Argument("record", "Folder of a new bag with the readings; empty: none is recorded."),
    Argument("view", "What shows it.", "none", choices=("none", "foxglove", "rviz")),
    Argument("sender_port", "UDP port on 127.0.0.1 where the encoder meets the link.", "7447"),
    Argument("receiver_port", "UDP port on 127.0.0.1 where the decoder listens.", "7448"),
]


def _half(file: str, **arguments: str) -> GroupAction:
    source = PythonLaunchDescriptionSource(PathJoinSubstitution([ThisLaunchFileDir(), file]))
    include = IncludeLaunchDescription(source, launch_arguments=list(arguments.items()))
    return GroupAction([include], scoped=True)  # or the first half's arguments would become the second half's


def _player(context: LaunchContext, remappings: Mapping[str, str]) -> list[Action]:
    """Plays the bag's topics, the keys of `remappings`, as their values."""
    now = _now(context)
    if by_rosbag2(value(context, "player"), now=now):
        command = ["ros2", "bag", "play", value(context, "bag"), "--clock", "100", "--rate", value(context, "rate")]
        command += ["--topics", *remappings, "--delay", "8"]
        command += ["--remap", *(f"{topic}:={target}" for topic, target in remappings.items())]
        return [ExecuteProcess(cmd=command, name="player", output="screen")]
    node = LifecycleNode(
        package="semhier_ros",
        executable="player_node",
        name="player_node",
        namespace="robot",
        parameters=[
            {
                "bag": value(context, "bag"),
                "topics": list(remappings),
                "rate": number(value(context, "rate")),
                "loop": boolean(value(context, "loop")),
                "clock": not now,
                "stamps": "now" if now else "bag",
                "wait_seconds": 300.0,  # until the encoder has loaded its model, on a slow machine too
            }
        ],
        remappings=list(remappings.items()),
        output="screen",
    )
    return [LogInfo(msg="playing by semhier_ros' own player"), node]


def _ended(event: ProcessExited, context: LaunchContext) -> list[Action]:
    """Ends all when the bag is over, or when one of the processes that it needs has ended by itself."""
    name = event.process_name.rpartition("-")[0]
    if context.is_shutdown or name not in PROCESSES:
        return []
    if name.startswith("player") and event.returncode == 0:
        over = EmitEvent(event=Shutdown(reason="the bag is over"))
        return [TimerAction(period=3.0, actions=[over])]  # the last blocks still cross the link
    reason = f"{event.process_name} has ended with exit code {event.returncode}; its lines above say why"
    return [EmitEvent(event=Shutdown(reason=reason)), LogInfo(msg=f"the replay ends: {reason}")]


def _now(context: LaunchContext) -> bool:
    """Whether images get the time of playing: a loop would turn the bag's time back."""
    return value(context, "stamps") == "now" or boolean(value(context, "loop"))


def _clock(context: LaunchContext) -> dict[str, bool]:
    """`use_sim_time` of whatever looks on, as that of both ends: on /clock where somebody publishes it."""
    return {"use_sim_time": not _now(context)}


def _view(context: LaunchContext, camera: str) -> list[Action]:
    """The viewer that is wanted, shown the base's topics of `camera`."""
    wanted = value(context, "view")
    package, executable, file = VIEWERS.get(wanted, ("", "", ""))
    if not package:
        return []
    try:
        get_package_share_directory(package)
    except PackageNotFoundError:
        return [LogInfo(msg=f"view:={wanted} needs the package {package}, which is not installed: nothing is shown")]
    shown = named_for(file, f"/base/{camera}")
    viewer = Node(
        package=package,
        executable=executable,
        arguments=["-d", shown] if wanted == "rviz" else [],
        parameters=[_clock(context)],
        output="screen",
    )
    return [viewer, LogInfo(msg=f"what {wanted} shows of the base's topics: {shown}")]


def _nodes(context: LaunchContext) -> list[Action]:
    images = images_in_bag(value(context, "bag"), value(context, "camera"))
    sender_port, receiver_port = value(context, "sender_port"), value(context, "receiver_port")
    link = ExecuteProcess(
        cmd=[
            ExecutableInPackage(package="semhier_ros", executable="semhier"),
            *emulated(value(context, "link"), value(context, "seed")),
            *("--listen", sender_port, "--forward", receiver_port),
        ],
        name="link",
        output="screen",
    )
    shared = {
        "camera": images.camera,  # the receiver's word too: else it would have this file's, as it was typed
        "model": value(context, "model"),
        "device": value(context, "device"),
        "use_sim_time": "false" if _now(context) else "true",
        "transport": "zenoh",
    }
    sender = _half(
        "sender.launch.py",
        namespace="robot",
        input=images.input,
        budget_kbit=value(context, "budget_kbit"),
        max_rate=value(context, "max_rate"),
        params_file=value(context, "encoder_params"),
        zenoh_connect=f"udp/127.0.0.1:{sender_port}",
        zenoh_listen="none",
        **shared,
    )
    receiver = _half(
        "receiver.launch.py",
        namespace="base",
        planner=value(context, "planner"),
        params_file=value(context, "decoder_params"),
        picture=value(context, "picture"),
        zenoh_connect="none",
        zenoh_listen=f"udp/127.0.0.1:{receiver_port}",
        **shared,
    )
    compressed = images.input == "compressed"
    remappings = {
        images.topic: f"/robot/{images.camera}/image_raw" + ("/compressed" if compressed else ""),
        camera_info_beside(images.topic, compressed): f"/robot/{images.camera}/camera_info",
    }
    nodes = [link, sender, receiver, *_player(context, remappings), *_view(context, images.camera)]
    return [*nodes, *_recorder(context, images.camera)]


def _recorder(context: LaunchContext, camera: str) -> list[Action]:
    folder = value(context, "record")
    if not folder:
        return []
    recorded = {"bag": folder, "cameras": [camera], **_clock(context)}
    node = LifecycleNode(
        package="semhier_ros",
        executable="recorder_node",
        name="recorder_node",
        namespace="base",
        parameters=[recorded],
        output="screen",
    )
    return [node]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *declare(ARGUMENTS, __file__),
            RegisterEventHandler(OnProcessExit(on_exit=_ended)),
            OpaqueFunction(function=_nodes),
        ]
    )
