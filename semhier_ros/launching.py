"""What the launch files share: arguments that win over a parameter file, and lifecycle nodes made from them.

Every argument whose default is the empty string leaves its parameter as the parameter file has it. What makes launch
actions needs `launch` and `launch_ros`, which are imported where they are used; what reads arguments does not.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from semhier_ros.paths import config_dir

if TYPE_CHECKING:
    from launch import Action, LaunchContext
    from launch_ros.actions import LifecycleNode

LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")


def boolean(text: str) -> bool:
    """`true` or `false` in any case. Raises ValueError otherwise."""
    if text.lower() not in ("true", "false"):
        raise ValueError(f"expected true or false, not {text!r}")
    return text.lower() == "true"


def words(text: str) -> list[str]:
    """Words between commas; `none` is the list without any, which a ROS parameter file writes as `[""]`."""
    return [""] if text == "none" else [word.strip() for word in text.split(",")]


def number(text: str) -> float:
    """A number in digits. Raises ValueError otherwise: its unit is told by the argument's name."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"expected a number such as 64 or 2.5, not {text!r}") from None


def whole(text: str) -> int:
    """A whole number. Raises ValueError otherwise."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"expected a whole number, not {text!r}") from None


class Argument(NamedTuple):
    """A launch argument: its text for `--show-args`, and the node parameter that it sets, if any.

    `also`: a second name of it, as the other end of the link has it.
    """

    name: str
    description: str
    default: str | None = ""
    parameter: str | None = None
    kind: Callable[[str], Any] = str
    choices: tuple[str, ...] | None = None
    also: str = ""


def common(node: str, config: str) -> list[Argument]:
    """The arguments that every node of this package takes."""
    return [
        Argument("namespace", "Namespace of the node and of its topics."),
        Argument("name", "Name of the node.", default=node),
        Argument("params_file", "Parameter file; copy the default and change it.", default=str(config_dir() / config)),
        Argument(
            "autostart",
            "true: the node configures and activates itself; false: it waits for lifecycle transitions.",
            parameter="autostart",
            kind=boolean,
            choices=("", "true", "false"),
        ),
        Argument(
            "use_sim_time",
            "Whether the node's clock is /clock.",
            parameter="use_sim_time",
            kind=boolean,
            choices=("", "true", "false"),
        ),
        Argument(
            "respawn", "Whether the node is started again when it ends.", default="false", choices=("true", "false")
        ),
        Argument("log_level", f"Least severity that is logged: {', '.join(LOG_LEVELS)}.", default="info"),
    ]


def carrier() -> list[Argument]:
    """Over what the two ends speak, and where each finds the other: the same words at both."""
    return [
        Argument(
            "transport",
            "ros: the block topics are the link; zenoh: a Zenoh session is; udp, serial, mavlink: compact frames"
            " (docs/radios.md). The same at both ends.",
            parameter="link.transport",
            choices=("", "ros", "zenoh", "udp", "serial", "mavlink"),
        ),
        Argument(
            "zenoh_connect",
            "Zenoh endpoints to connect to, between commas (udp/10.0.0.2:7447), or none.",
            parameter="link.zenoh.connect",
            kind=words,
        ),
        Argument(
            "zenoh_listen",
            "Zenoh endpoints to listen on, between commas (udp/0.0.0.0:7447), or none.",
            parameter="link.zenoh.listen",
            kind=words,
        ),
        Argument("udp_listen", "With udp: host:port to receive at.", parameter="link.udp.listen"),
        Argument("udp_peer", "With udp: host:port of the other end.", parameter="link.udp.peer"),
        Argument("serial_device", "With serial: the radio's port (/dev/ttyUSB0).", parameter="link.serial.device"),
        Argument("serial_baud", "With serial: its speed.", parameter="link.serial.baud", kind=whole),
        Argument("mavlink_device", "With mavlink: serial port of the network.", parameter="link.mavlink.device"),
        Argument("mavlink_listen", "With mavlink: host:port to hear it at.", parameter="link.mavlink.listen"),
        Argument("mavlink_peer", "With mavlink: host:port of the router or autopilot.", parameter="link.mavlink.peer"),
        Argument("key_file", "File with the key that both ends share (docs/link.md).", parameter="link.key_file"),
    ]


def declare(arguments: Sequence[Argument], file: str) -> list[Action]:
    """The launch actions that declare the `arguments` of a launch file; one whose default is None has to be given.

    They begin with one that refuses, by ValueError, what was typed for `file` and is no argument of it: `ros2 launch`
    itself would ignore a misspelt budget.
    """
    from launch.actions import DeclareLaunchArgument, OpaqueFunction

    known = [name for argument in arguments for name in (argument.name, argument.also) if name]

    def check(context: LaunchContext) -> None:
        if asked_for(file, sys.argv):
            refuse_strangers(context.argv, known)

    others = [
        DeclareLaunchArgument(
            argument.also, default_value="", description=f"The same as `{argument.name}`: the other end's word for it."
        )
        for argument in arguments
        if argument.also
    ]
    declared = [
        DeclareLaunchArgument(
            argument.name,
            default_value=argument.default,
            description=argument.description
            + (" Default: what the parameter file says." if argument.default == "" and argument.parameter else ""),
            choices=None if argument.choices is None else list(argument.choices),
        )
        for argument in arguments
    ]
    return [OpaqueFunction(function=check), *declared, *others]


def asked_for(file: str, command: Sequence[str]) -> bool:
    """Whether a command names the launch file, so that what it says after it is meant for that file and not for one
    that includes it."""
    return any(Path(word).name == Path(file).name for word in command)


def refuse_strangers(typed: Sequence[str], known: Collection[str]) -> None:
    """Raises ValueError for the first text `name:=value` whose name is not `known`, with the one most like it."""
    for text in typed:
        name, given, _ = text.partition(":=")
        if given and name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else "; --show-args lists them"
            raise ValueError(f"{name} is no argument of this launch file{hint}")


def value(context: LaunchContext, name: str) -> str:
    """The text of the launch argument `name` in this launch."""
    from launch.substitutions import LaunchConfiguration

    return str(LaunchConfiguration(name).perform(context)).strip()


def texts(context: LaunchContext, arguments: Sequence[Argument]) -> dict[str, str]:
    """Every argument's text in this launch, second names under the first. Raises ValueError as `merged` does."""
    names = [name for argument in arguments for name in (argument.name, argument.also) if name]
    return merged({name: value(context, name) for name in names}, arguments)


def merged(given: Mapping[str, str], arguments: Sequence[Argument]) -> dict[str, str]:
    """`given` with what was said under an argument's second name put under its first.

    Raises ValueError when both names are given and differ.
    """
    result = {argument.name: given.get(argument.name, "") for argument in arguments}
    for argument in arguments:
        other = given.get(argument.also, "") if argument.also else ""
        if other and result[argument.name] not in ("", other):
            raise ValueError(
                f"launch arguments {argument.name}: {result[argument.name]!r} and {argument.also}: {other!r} are two"
                " names of one thing, expected only one of them"
            )
        result[argument.name] = result[argument.name] or other
    return result


def overrides(given: Mapping[str, str], arguments: Sequence[Argument]) -> dict[str, Any]:
    """The parameters that were given as launch arguments. Raises ValueError naming the argument that cannot be read."""
    parameters = {}
    for argument in arguments:
        text = given.get(argument.name, "")
        if argument.parameter is None or not text:
            continue
        try:
            parameters[argument.parameter] = argument.kind(text)
        except ValueError as error:
            raise ValueError(f"launch argument {argument.name}: {error}") from error
    return parameters


def params_file(given: Mapping[str, str]) -> str:
    """The parameter file that was given. Raises ValueError when it does not exist: ROS would start with defaults."""
    path = given["params_file"]
    if not Path(path).is_file():
        raise ValueError(f"launch argument params_file: {path!r} is no file that exists")
    return path


def log_level(given: Mapping[str, str]) -> str:
    """The severity that was given, in any case, or `logger:=severity`. Raises ValueError for another word."""
    text = given["log_level"]
    if text.rpartition(":=")[2].lower() not in LOG_LEVELS:
        raise ValueError(f"launch argument log_level: {text!r}, expected one of {', '.join(LOG_LEVELS)}")
    return text


def in_file(path: str, name: str, parameter: str, default: str) -> str:
    """What the ROS parameter file `path` says of `parameter` for the node `name`, the last entry that means it."""
    import yaml

    sections = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    found = default
    for node, section in sections.items() if isinstance(sections, dict) else ():
        if str(node).rpartition("/")[2] not in ("*", "**", name) or not isinstance(section, dict):
            continue
        inner: Any = section.get("ros__parameters")
        for part in parameter.split("."):
            inner = inner.get(part) if isinstance(inner, dict) else None
        found = found if inner is None else str(inner)
    return found


def camera_info_beside(image: str, compressed: bool) -> str:
    """The CameraInfo topic of an image topic by image_transport's habit: its sibling; of `x/image_raw/compressed` too.

    Empty when `image` is.
    """
    base = image.removesuffix("/compressed") if compressed else image
    parent, slash, _ = base.rpartition("/")
    return f"{parent}{slash}camera_info" if base else ""


class BagImages(NamedTuple):
    """A camera of a bag: its name as a stream, its topic, and `input` of the encoder that reads it."""

    camera: str
    topic: str
    input: str


def images_in_bag(bag: str, camera: str) -> BagImages:
    """The images of `camera` in a bag, or of its only camera when `camera` is empty; raw ones before compressed.

    A camera is called as its topic without `/image_raw` and `/compressed`. Raises ValueError when there is no such bag
    or camera, with what there is.
    """
    if not bag or not Path(bag).exists():
        raise ValueError(f"launch argument bag: {bag!r}, expected an existing MCAP or SQLite3 file or bag folder")
    types = types_in_bag(bag)
    kinds = {"sensor_msgs/msg/Image": "raw", "sensor_msgs/msg/CompressedImage": "compressed"}
    found = [BagImages(camera_of(topic), topic, kinds[kind]) for topic, kind in types.items() if kind in kinds]
    names = sorted({one.camera for one in found})
    wanted = camera.strip("/") or (names[0] if len(names) == 1 else "")
    for one in sorted(found, key=lambda one: (one.input != "raw", one.topic)):
        if one.camera == wanted:
            return one
    held = f"the bag has {', '.join(names)}" if names else "the bag has no images"
    raise ValueError(f"launch argument camera: {camera!r}: {held}")


def types_in_bag(bag: str) -> dict[str, str]:
    """The type of each topic of a bag that exists. Raises ValueError when it cannot be read.

    An installed `ros2` runs the system's Python, which does not see the environment that this package was built for:
    where that lacks rosbags, the player is asked, whose program names its Python.
    """
    try:
        from rosbags.highlevel import AnyReader, AnyReaderError
        from rosbags.typesys import Stores, get_typestore
    except ImportError:
        return _types_by_player(bag)
    try:
        with AnyReader([Path(bag)], default_typestore=get_typestore(Stores.LATEST)) as reader:
            return {connection.topic: connection.msgtype for connection in reader.connections}
    except AnyReaderError as error:
        raise ValueError(f"launch argument bag: {bag!r} cannot be read: {error}") from error


def _types_by_player(bag: str) -> dict[str, str]:
    """As `types_in_bag`, by `player_node --list` of the installation, which is found as launch files find nodes."""
    from ament_index_python.packages import get_package_prefix

    program = Path(get_package_prefix("semhier_ros"), "lib", "semhier_ros", "player_node")
    try:
        asked = subprocess.run([program, bag, "--list"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise ValueError(
            f"launch argument bag: {bag!r} cannot be read: this Python ({sys.executable}) has no rosbags, and"
            f" {program} cannot be run: {error.strerror}; pip install rosbags, or build the package anew"
        ) from error
    if asked.returncode:
        said = asked.stderr.strip().rpartition("\n")[2] or f"{program} ended with {asked.returncode}"
        raise ValueError(f"launch argument bag: {bag!r} cannot be read: {said}")
    found = json.loads(asked.stdout)
    return {str(topic): str(kind) for topic, kind in found.items()}


def emulated(link: str, seed: str) -> list[str]:
    """Words for `semhier` that emulate a link. `seed` empty: the one that `link` names counts, else 0."""
    return ["link", "emulate", "--link", link, *(["--seed", seed] if seed else [])]


def by_rosbag2(player: str, *, now: bool) -> bool:
    """Whether `ros2 bag play` plays a bag, by the launch argument `player`; `now`: images get the time of playing.

    Raises ValueError where it is asked for and cannot.
    """
    here = shutil.which("ros2") is not None and importlib.util.find_spec("ros2bag") is not None
    if player != "rosbag2":
        return player == "auto" and here and not now
    if now:
        raise ValueError("launch argument player: rosbag2 plays stamps:=bag without loop:=true only, ours plays both")
    if not here:
        raise ValueError("launch argument player: rosbag2 (`ros2 bag play`) is not installed; ours plays without it")
    return True


def named_for(file: str, camera: str) -> str:
    """The path of a copy of a viewer's file in config/, which shows a camera named `camera`, that shows the one of that
    absolute name instead, such as `/base/front`. It lies in ROS 2's folder, and the next of that name replaces it."""
    text = (config_dir() / file).read_text(encoding="utf-8")
    home = Path(os.environ.get("ROS_HOME") or Path.home() / ".ros")
    copy = home / "semhier_ros" / camera.strip("/") / Path(file).name
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(text.replace("/camera/", f"{camera}/"), encoding="utf-8")
    return str(copy)


def camera_of(topic: str) -> str:
    """A camera's name by its image topic: `front` of `/front/image_raw/compressed`; `camera` where nothing is left."""
    return topic.strip("/").removesuffix("/compressed").rpartition("/")[0] or "camera"


def node(
    given: Mapping[str, str],
    executable: str,
    arguments: Sequence[Argument],
    remappings: Mapping[str, str],
    **options: Any,
) -> LifecycleNode:
    """The lifecycle node `executable` of this package as the launch arguments want it.

    `given`: their `texts`. `remappings` maps topics of the node to what they shall be; empty targets are left out.
    Raises ValueError naming the argument that cannot be followed.
    """
    from launch_ros.actions import LifecycleNode

    return LifecycleNode(
        package="semhier_ros",
        executable=executable,
        name=given["name"],
        namespace=given["namespace"],
        parameters=[params_file(given), overrides(given, arguments)],
        remappings=[(topic, target) for topic, target in remappings.items() if target],
        ros_arguments=["--log-level", log_level(given)],
        respawn=boolean(given["respawn"]),
        output="screen",
        **options,
    )
