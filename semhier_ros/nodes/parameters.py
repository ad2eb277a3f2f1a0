"""Parameters as one declarative table per node: declaration, checks, YAML and documentation all come from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

ROS_PARAMETERS = frozenset({"use_sim_time", "start_type_description_service"})
"""What rclpy declares itself."""

Value = bool | int | float | str | list[str]


class ParameterError(ValueError):
    """A parameter value that is refused; the message names field, value and allowed range."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: its type is the type of `default` (bool, int, float, str or a list of str).

    `low`, `high`: inclusive range of a number. `choices`: allowed strings. `live`: may be set while the node is active;
    the others are read when the node is configured. `check` returns what is wrong with a value of the right type and
    range, or None. `also`: what the other end of the link calls it, or an earlier release did, taken as a second name
    of it in files and on the command line.
    """

    name: str
    default: Value
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    live: bool = False
    check: Callable[[Any], str | None] | None = field(default=None, compare=False)
    also: str = ""

    @property
    def attribute(self) -> str:
        """What it is called in `ParameterTable.values`."""
        return self.name.replace(".", "_")

    @property
    def kind(self) -> str:
        """The type in the words of the documentation."""
        return "list of strings" if isinstance(self.default, list) else type(self.default).__name__

    @property
    def allowed(self) -> str:
        """The allowed range or choices in words; empty when every value of the type is allowed."""
        if self.choices:
            return " | ".join(self.choices)
        if self.low is None or self.high is None:
            return ""
        return f"{self.low:g} to {self.high:g}"

    def problem(self, value: Any) -> str | None:
        """What is wrong with `value`, naming field, value and range; None when it is allowed."""
        named = f"{self.name}: {value!r}"
        if isinstance(self.default, bool):
            if not isinstance(value, bool):
                return f"{named}, expected true or false"
        elif isinstance(self.default, int):
            if isinstance(value, bool) or not isinstance(value, int):
                return f"{named}, expected an integer {self.allowed}".rstrip()
        elif isinstance(self.default, float):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                return f"{named}, expected a number {self.allowed}".rstrip()
        elif isinstance(self.default, str):
            if not isinstance(value, str):
                return f"{named}, expected a string"
        elif not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
            return f"{named}, expected a list of strings"
        if self.choices and value not in self.choices:
            return f"{named}, expected {self.allowed}"
        if self.low is not None and self.high is not None and not self.low <= value <= self.high:
            return f"{named}, expected {self.allowed}"
        if self.check is not None and (wrong := self.check(value)) is not None:
            return f"{named}, {wrong}"
        return None

    def meant(self, value: Any) -> Any:
        """`value`, or what was meant by it. YAML reads the choice `off` as false and `32` as a number, and `ros2 param`
        reads each value as YAML; a list of strings may come as one string with commas, as launch files take it."""
        if isinstance(self.default, list) and isinstance(value, str):
            return [part.strip() for part in value.split(",")]
        if not self.choices or not isinstance(value, (bool, int)):
            return value
        spelt = (
            (("on", "yes", "true") if value else ("off", "no", "false")) if isinstance(value, bool) else (str(value),)
        )
        return next((choice for choice in self.choices if choice in spelt), value)

    def clean(self, value: Any) -> Value:
        """`value` in the type of the default (a float parameter set as an integer becomes a float)."""
        if isinstance(self.default, float):
            return float(value)
        return list(value) if isinstance(self.default, list) else value

    def descriptor(self) -> ParameterDescriptor:
        """What `ros2 param describe` shows.

        The type is left open for rclpy and checked by `problem`, so that 64 is welcome where 64.0 is meant.
        """
        live = "live-changeable" if self.live else "read when the node is configured"
        result = ParameterDescriptor(description=self.description, additional_constraints=f"{self.allowed}; {live}")
        result.additional_constraints = result.additional_constraints.removeprefix("; ")
        result.dynamic_typing = True
        if self.low is not None and self.high is not None:
            if isinstance(self.default, float):
                result.floating_point_range = [
                    FloatingPointRange(from_value=float(self.low), to_value=float(self.high))
                ]
            else:
                result.integer_range = [IntegerRange(from_value=int(self.low), to_value=int(self.high))]
        return result


class ParameterTable:
    """All parameters of one node."""

    def __init__(self, node: str, summary: str, parameters: Sequence[Parameter]) -> None:
        self.node, self.summary = node, summary
        self._parameters = {parameter.name: parameter for parameter in parameters}
        if len(self._parameters) != len(parameters):
            raise ValueError(f"parameters of {node}: a name is given twice")

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self._parameters.values())

    def __getitem__(self, name: str) -> Parameter:
        return self._parameters[name]

    def declare(self, node: Node) -> None:
        """Declares every parameter on `node`. Raises ParameterError when a file or the command line says nonsense.

        Each keeps the type of its default: an integer becomes a float where a float is meant.
        """
        node.add_on_set_parameters_callback(lambda changed: self._checked(node, changed))
        node.add_pre_set_parameters_callback(self._typed)
        self._mind_other_names(node)
        for parameter in self:
            try:
                node.declare_parameter(parameter.name, parameter.default, parameter.descriptor())
            except (InvalidParameterValueException, InvalidParameterTypeException) as error:
                override = node._parameter_overrides.get(parameter.name)  # rclpy has no public way to ask
                value = override.value if override is not None else parameter.default
                raise ParameterError(parameter.problem(value) or str(error)) from None
        node.set_parameters([node.get_parameter(parameter.name) for parameter in self if _is_float(parameter)])

    def _mind_other_names(self, node: Node) -> None:
        """What is given counts as meant, under its other name too; a name that is no parameter's is told."""
        given = node._parameter_overrides
        for parameter in self:
            other = given.get(parameter.also)
            if other is None or parameter.name in given:
                continue
            value: Any = other.value
            if not isinstance(parameter.default, list) and isinstance(value, (list, tuple)) and len(value) == 1:
                value = value[0]
            given[parameter.name] = RosParameter(parameter.name, value=value)
        for parameter in self:
            if (one := given.get(parameter.name)) is not None:
                given[parameter.name] = RosParameter(parameter.name, value=parameter.meant(one.value))
        known = {name for parameter in self for name in (parameter.name, parameter.also)} | ROS_PARAMETERS
        for name in sorted(given):
            if name not in known and not name.startswith("qos_overrides."):
                node.get_logger().warning(f"{name}: {self.node} has no parameter of this name; it changes nothing")

    def guard(self, node: Node, is_active: Callable[[], bool]) -> None:
        """From now on refuses what is not live-changeable while `is_active()`, unless it stays as it is."""
        node.add_on_set_parameters_callback(lambda changed: self._allowed_now(node, changed, is_active()))

    def values(self, node: Node) -> SimpleNamespace:
        """The current values; `link.transport` becomes the attribute `link_transport`."""
        return SimpleNamespace(**{p.attribute: p.clean(node.get_parameter(p.name).value) for p in self})

    def _typed(self, changed: list[RosParameter]) -> list[RosParameter]:
        """`changed` with floats where integers were given for them, and choices where YAML made them something else."""
        return [self._typed_one(item) for item in changed]

    def _typed_one(self, item: RosParameter) -> RosParameter:
        parameter = self._parameters.get(item.name)
        if parameter is None:
            return item
        value = parameter.meant(item.value)
        if item.type_ == RosParameter.Type.INTEGER and _is_float(parameter):
            value = float(item.value)
        return item if value is item.value else RosParameter(item.name, value=value)

    def _checked(self, node: Node, changed: Iterable[RosParameter]) -> SetParametersResult:
        for item in changed:
            parameter = self._parameters.get(item.name)
            if parameter is not None and (wrong := parameter.problem(item.value)) is not None:
                if node.has_parameter(item.name):  # rclpy has noted the refused value's type as the parameter's
                    kept = RosParameter.Type.from_parameter_value(parameter.default).value
                    node.describe_parameter(item.name).type = kept
                return SetParametersResult(successful=False, reason=wrong)
        return SetParametersResult(successful=True)

    def _allowed_now(self, node: Node, changed: Iterable[RosParameter], active: bool) -> SetParametersResult:
        for item in changed:
            parameter = self._parameters.get(item.name)
            if not active or parameter is None or parameter.live or parameter.problem(item.value) is not None:
                continue  # what is wrong in itself, `_checked` refuses
            if parameter.clean(item.value) != parameter.clean(node.get_parameter(item.name).value):
                reason = (
                    f"{item.name}: cannot change while {self.node} is active, it is read when the node is configured"
                    " (deactivate, clean up, set, configure, activate)"
                )
                return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    def yaml(self) -> str:
        """The parameter file with every default, each under its description."""
        lines = [
            f"# {self.summary}",
            "# Every value is the default of the code. Written by `python -m semhier_ros.nodes.parameter_tables`.",
            "/**:",
            "  ros__parameters:",
        ]
        opened: list[str] = []
        for parameter in self:
            *groups, leaf = parameter.name.split(".")
            common = 0
            while common < min(len(groups), len(opened)) and groups[common] == opened[common]:
                common += 1
            indent = "    " + "  " * common
            for group in groups[common:]:
                lines.append(f"{indent}{group}:")
                indent += "  "
            opened = groups
            limits = "; ".join(part for part in (parameter.allowed, "live" if parameter.live else "") if part)
            lines += [f"{indent}# {text}" for text in _wrapped(parameter.description, 110 - len(indent))]
            lines.append(f"{indent}{leaf}: {_yaml_value(parameter.default)}" + (f"  # {limits}" if limits else ""))
        return "\n".join(lines) + "\n"

    def markdown(self) -> str:
        """The parameter table of the documentation."""
        lines = ["| parameter | type | default | range | live | what it does |", "|---|---|---|---|---|---|"]
        for parameter in self:
            cells = (
                f"`{parameter.name}`",
                parameter.kind,
                f"`{_yaml_value(parameter.default)}`",
                parameter.allowed.replace("|", "\\|") or "-",
                "yes" if parameter.live else "no",
                parameter.description,
            )
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines) + "\n"


def _is_float(parameter: Parameter | None) -> bool:
    return parameter is not None and isinstance(parameter.default, float)


def _yaml_value(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(_yaml_value(item) for item in value) + "]"
    if isinstance(value, str):
        return f'"{value}"'
    return repr(value)


def _wrapped(text: str, width: int) -> list[str]:
    lines: list[str] = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return lines
