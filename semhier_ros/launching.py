"""What the launch files share: arguments that win over a parameter file, and lifecycle nodes made from them.

Every argument whose default is the empty string leaves its parameter as the parameter file has it. What makes launch
actions needs `launch` and `launch_ros`, which are imported where they are used; what reads arguments does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from semhier_ros.paths import config_dir

if TYPE_CHECKING:
    from launch import LaunchContext
    from launch.actions import DeclareLaunchArgument
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


def declare(arguments: Sequence[Argument]) -> list[DeclareLaunchArgument]:
    """The launch actions that declare `arguments`; one whose default is None has to be given."""
    from launch.actions import DeclareLaunchArgument

    others = [
        DeclareLaunchArgument(
            argument.also, default_value="", description=f"The same as `{argument.name}`: the other end's word for it."
        )
        for argument in arguments
        if argument.also
    ]
    return [
        DeclareLaunchArgument(
            argument.name,
            default_value=argument.default,
            description=argument.description
            + (" Default: what the parameter file says." if argument.default == "" and argument.parameter else ""),
            choices=None if argument.choices is None else list(argument.choices),
        )
        for argument in arguments
    ] + others


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
