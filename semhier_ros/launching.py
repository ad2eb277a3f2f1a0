"""What the launch files share: arguments that win over a parameter file, and lifecycle nodes made from them.

Every argument whose default is the empty string leaves its parameter as the parameter file has it. Needs `launch` and
`launch_ros`, and is imported by launch files only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from launch import LaunchContext
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode

from semhier_ros.paths import config_dir


def boolean(text: str) -> bool:
    """`true` or `false` in any case. Raises ValueError otherwise."""
    if text.lower() not in ("true", "false"):
        raise ValueError(f"expected true or false, not {text!r}")
    return text.lower() == "true"


def words(text: str) -> list[str]:
    """Words between commas; `none` is the list without any, which a ROS parameter file writes as `[""]`."""
    return [""] if text == "none" else [word.strip() for word in text.split(",")]


class Argument(NamedTuple):
    """A launch argument: its text for `--show-args`, and the node parameter that it sets, if any."""

    name: str
    description: str
    default: str | None = ""
    parameter: str | None = None
    kind: Callable[[str], Any] = str
    choices: tuple[str, ...] | None = None


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
            default="false",
            parameter="use_sim_time",
            kind=boolean,
            choices=("true", "false"),
        ),
        Argument(
            "respawn", "Whether the node is started again when it ends.", default="false", choices=("true", "false")
        ),
        Argument("log_level", "Least severity that is logged: debug, info, warn, error or fatal.", default="info"),
    ]


def declare(arguments: Sequence[Argument]) -> list[DeclareLaunchArgument]:
    """The launch actions that declare `arguments`; one whose default is None has to be given."""
    return [
        DeclareLaunchArgument(
            argument.name,
            default_value=argument.default,
            description=argument.description
            + (" Default: what the parameter file says." if argument.default == "" and argument.parameter else ""),
            choices=None if argument.choices is None else list(argument.choices),
        )
        for argument in arguments
    ]


def value(context: LaunchContext, name: str) -> str:
    """The text of the launch argument `name` in this launch."""
    return str(LaunchConfiguration(name).perform(context)).strip()


def overrides(context: LaunchContext, arguments: Sequence[Argument]) -> dict[str, Any]:
    """The parameters that were given as launch arguments. Raises ValueError naming the argument that cannot be read."""
    parameters = {}
    for argument in arguments:
        text = value(context, argument.name)
        if argument.parameter is None or not text:
            continue
        try:
            parameters[argument.parameter] = argument.kind(text)
        except ValueError as error:
            raise ValueError(f"launch argument {argument.name}: {error}") from error
    return parameters


def node(
    context: LaunchContext,
    executable: str,
    arguments: Sequence[Argument],
    remappings: Mapping[str, str],
    **options: Any,
) -> LifecycleNode:
    """The lifecycle node `executable` of this package as the launch arguments want it.

    `remappings` maps topics of the node to what they shall be; empty targets are left out.
    """
    return LifecycleNode(
        package="semhier_ros",
        executable=executable,
        name=value(context, "name"),
        namespace=value(context, "namespace"),
        parameters=[value(context, "params_file"), overrides(context, arguments)],
        remappings=[(topic, target) for topic, target in remappings.items() if target],
        ros_arguments=["--log-level", value(context, "log_level")],
        respawn=boolean(value(context, "respawn")),
        output="screen",
        **options,
    )
