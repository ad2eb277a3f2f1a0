"""Parameters: checks, refusals with their reasons, and files that say what the code says."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

rclpy = pytest.importorskip("rclpy", reason="the nodes need ROS 2")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.lifecycle import LifecycleState
from rclpy.parameter import Parameter as RosParameter
from sensor_msgs.msg import CameraInfo

from semhier_ros.link.zenoh.config import ZenohOptions
from semhier_ros.nodes.link_parameters import secret, shared_key, zenoh_options
from semhier_ros.nodes.managed import ManagedNode
from semhier_ros.nodes.parameter_tables import DECODER, ENCODER, TABLES, config_file, generated
from semhier_ros.nodes.parameters import Parameter, ParameterError, ParameterTable

ROOT = Path(__file__).resolve().parents[2]

SMALL = ParameterTable(
    "small_node",
    "A node for this test.",
    [
        Parameter("autostart", True, "Start at once."),
        Parameter("size", 4, "A size.", low=1, high=9),
        Parameter("link.rate", 2.5, "A rate.", low=0.0, high=100.0, live=True),
        Parameter("mode", "slow", "A mode.", choices=("slow", "fast"), live=True),
        Parameter("names", ["a"], "Names.", check=lambda names: None if names else "expected at least one"),
    ],
)


@pytest.fixture
def context() -> Iterator[Any]:
    made = rclpy.Context()
    rclpy.init(context=made)
    yield made
    rclpy.shutdown(context=made)


def small_node(context: Any, **overrides: Any) -> ManagedNode:
    values = [RosParameter(name.replace("__", "."), value=value) for name, value in overrides.items()]
    return ManagedNode("small_node", SMALL, context=context, parameter_overrides=values)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.node)
def test_config_file_and_code_have_the_same_defaults(table: ParameterTable) -> None:
    data = yaml.safe_load((ROOT / "config" / config_file(table)).read_text(encoding="utf-8"))
    in_file: dict[str, Any] = {}

    def flatten(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                flatten(f"{prefix}.{key}" if prefix else key, inner)
        else:
            in_file[prefix] = value

    flatten("", data["/**"]["ros__parameters"])
    in_code = {parameter.name: parameter.default for parameter in table}
    assert in_file == in_code
    assert {name: type(value) for name, value in in_file.items()} == {k: type(v) for k, v in in_code.items()}


def test_generated_files_are_up_to_date() -> None:
    stale = [str(path) for path, text in generated(ROOT).items() if path.read_text(encoding="utf-8") != text]
    assert not stale, "run `python -m semhier_ros.nodes.parameter_tables`"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.node)
def test_every_default_is_allowed_and_every_parameter_described(table: ParameterTable) -> None:
    for parameter in table:
        if parameter.name != "bag":
            assert parameter.problem(parameter.default) is None
        assert parameter.description.endswith((".", "/request`."))
        assert len(parameter.descriptor().description) > 8


@pytest.mark.parametrize(
    ("table", "name", "value", "says"),
    [
        (ENCODER, "link.budget_kbit", -1.0, "link.budget_kbit: -1.0, expected 0 to 1e+07"),
        (ENCODER, "memory.overlap", 0.2, "memory.overlap: 0.2, expected 0 or at least 0.3"),
        (ENCODER, "memory.whole_every", 0.1, "memory.whole_every: 0.1, expected 0 or at least 0.2"),
        (ENCODER, "link.transport", "tcp", "link.transport: 'tcp', expected ros | zenoh | udp | serial | mavlink"),
        (ENCODER, "finest_block", 16, "finest_block: 16, expected 0 to 15"),
        (ENCODER, "finest_block", True, "finest_block: True, expected an integer 0 to 15"),
        (ENCODER, "max_rate", float("nan"), "max_rate: nan, expected a number 0 to 240"),
        (ENCODER, "camera", "a b", "camera: 'a b', expected 1 to 32 letters"),
        (ENCODER, "camera", "x" * 33, "expected 1 to 32 letters"),
        (ENCODER, "camera", "/front", "expected 1 to 32 letters"),
        (ENCODER, "link.zenoh.listen", ["10.0.0.1:7447"], "expected a Zenoh endpoint such as udp/10.0.0.2:7447"),
        (DECODER, "cameras", [], "expected 1 to 32 different camera names"),
        (DECODER, "cameras", ["a", "a"], "expected 1 to 32 different camera names"),
        (DECODER, "models", [""], "expected 1 to 16 model names or folders"),
        (DECODER, "models", "road", "models: 'road', expected a list of strings"),
        (DECODER, "republish_blocks", 1, "republish_blocks: 1, expected true or false"),
    ],
)
def test_bad_values_are_named_with_their_range(table: ParameterTable, name: str, value: Any, says: str) -> None:
    assert says in (table[name].problem(value) or "")


def test_a_bad_override_stops_the_node_with_field_value_and_range(context: Any) -> None:
    with pytest.raises(ParameterError, match=r"size: 10, expected 1 to 9"):
        small_node(context, size=10)
    with pytest.raises(ParameterError, match=r"mode: 'best', expected slow \| fast"):
        small_node(context, mode="best")


@pytest.mark.parametrize(
    ("table", "given", "attribute", "value"),
    [
        (DECODER, {"camera": "front"}, "cameras", ["front"]),
        (DECODER, {"camera": "front", "cameras": ["rear"]}, "cameras", ["rear"]),
        (DECODER, {"model": "coco80"}, "models", ["coco80"]),
        (DECODER, {"planner.follow": "person"}, "planner_target", "person"),
        (ENCODER, {"cameras": ["front"]}, "camera", "front"),
        (ENCODER, {"models": ["coco80"]}, "model", "coco80"),
        (ENCODER, {"memory": True}, "memory_enabled", True),
        (DECODER, {"memory.enabled": True}, "memory", True),
    ],
)
def test_the_other_name_of_a_parameter_is_taken(
    context: Any, table: ParameterTable, given: dict[str, Any], attribute: str, value: Any
) -> None:
    overrides = [RosParameter(name, value=one) for name, one in given.items()]
    node = ManagedNode(table.node, table, context=context, parameter_overrides=overrides)
    assert getattr(node.values, attribute) == value
    node.destroy_node()


def test_two_cameras_for_a_node_of_one_are_refused(context: Any) -> None:
    overrides = [RosParameter("cameras", value=["front", "rear"])]
    with pytest.raises(ParameterError, match=r"camera: \['front', 'rear'\], expected a string"):
        ManagedNode("encoder_node", ENCODER, context=context, parameter_overrides=overrides)


def test_a_name_that_no_parameter_has_is_told(context: Any, capfd: pytest.CaptureFixture[str]) -> None:
    overrides = [RosParameter("budget_kbit", value=64.0), RosParameter("use_sim_time", value=True)]
    ManagedNode("encoder_node", ENCODER, context=context, parameter_overrides=overrides).destroy_node()
    told = [line for line in capfd.readouterr().err.splitlines() if "no parameter of this name" in line]
    assert len(told) == 1
    assert "budget_kbit: encoder_node has no parameter" in told[0]


def test_an_integer_is_welcome_where_a_number_is_meant(context: Any) -> None:
    node = small_node(context, link__rate=64)
    assert node.values.link_rate == 64.0
    assert isinstance(node.values.link_rate, float)
    node.destroy_node()


@pytest.mark.parametrize(
    ("table", "name", "read", "meant"),
    [
        (ENCODER, "pose.source", False, "off"),
        (ENCODER, "motion", True, "on"),
        (ENCODER, "link.radio.check", 16, "16"),
        (DECODER, "ask", False, "off"),
        (DECODER, "picture", False, "off"),
    ],
)
def test_a_choice_that_yaml_reads_as_something_else_is_understood(
    context: Any, table: ParameterTable, name: str, read: Any, meant: str
) -> None:
    """`ros2 param load` of the shipped file, `ros2 param set … off` and `-p ask:=off` send these."""
    node = ManagedNode("node", table, context=context, parameter_overrides=[RosParameter(name, value=read)])
    assert node.get_parameter(name).value == meant
    assert node.set_parameters([RosParameter(name, value=read)])[0].successful
    assert node.get_parameter(name).value == meant
    assert not node.set_parameters([RosParameter(name, value=33)])[0].successful
    node.destroy_node()


@pytest.mark.parametrize(
    ("table", "name"),
    [
        (ENCODER, "detections.topic"),
        (ENCODER, "detections.label_info"),
        (ENCODER, "pose.topic"),
        (ENCODER, "pose.fix"),
        (ENCODER, "pose.heading"),
        (DECODER, "people.fix"),
        (DECODER, "people.heading"),
    ],
)
def test_what_is_no_topics_name_is_refused_before_anything_starts(table: ParameterTable, name: str) -> None:
    for wrong in ("robot fix", "/robot//fix", "1st", "fix/"):
        assert f"{name}: {wrong!r}, expected letters, digits" in str(table[name].problem(wrong))
    for right in ("fix", "/robot1/gps/fix", table[name].default):
        assert table[name].problem(right) is None
    assert (table[name].problem("") is None) == (table[name].default == "")


def test_a_list_may_come_as_words_between_commas(context: Any) -> None:
    node = ManagedNode("node", DECODER, context=context, parameter_overrides=[RosParameter("cameras", value="front")])
    assert node.values.cameras == ["front"]
    assert node.set_parameters([RosParameter("cameras", value="front, rear")])[0].successful
    assert node.get_parameter("cameras").value == ["front", "rear"]
    assert not node.set_parameters([RosParameter("cameras", value="front,front")])[0].successful
    assert not node.set_parameters([RosParameter("cameras", value=7)])[0].successful
    node.destroy_node()


def test_set_parameters_refuses_bad_values_and_says_the_range(context: Any) -> None:
    node = small_node(context)
    for name, value, parts in (
        ("size", 0, ("size", "1", "9", "0")),
        ("link.rate", 1000.0, ("link.rate", "0", "100", "1000")),
        ("link.rate", 1000, ("link.rate", "0", "100", "1000")),
        ("mode", "best", ("mode", "best", "slow | fast")),
        ("names", [1, 2], ("names", "list of strings")),
    ):
        (result,) = node.set_parameters([RosParameter(name, value=value)])
        assert not result.successful
        for part in parts:
            assert part in result.reason
    assert node.values == SMALL.values(node)
    node.destroy_node()


def test_a_value_that_stays_as_it_is_is_taken_while_active(context: Any) -> None:
    """`ros2 param load` of a node's own file on a running node."""
    node = small_node(context)
    assert node.start()
    same = [RosParameter(item.name, value=item.default) for item in SMALL]
    assert [result.reason for result in node.set_parameters(same) if not result.successful] == []
    (refused,) = node.set_parameters([RosParameter("names", value=["b"])])
    assert "names: cannot change while small_node is active" in refused.reason
    node.destroy_node()


def test_a_parameter_keeps_its_type_whatever_is_set(context: Any) -> None:
    """Others read it with a type: `get_parameter<double>` in C++, rqt."""
    node = small_node(context, link__rate=64)
    double = RosParameter.Type.DOUBLE
    assert node.get_parameter("link.rate").type_ == double
    for value, taken in ((7, True), ("fast", False), (-1, False), (True, False)):
        (result,) = node.set_parameters([RosParameter("link.rate", value=value)])
        assert result.successful == taken
        assert node.get_parameter("link.rate").type_ == double
        assert node.describe_parameter("link.rate").type == double.value
    assert node.values.link_rate == 7.0
    node.destroy_node()


def test_only_live_parameters_change_while_active(context: Any) -> None:
    changes: list[set[str]] = []

    class Listening(ManagedNode):
        def parameters_changed(self, names: set[str]) -> None:
            changes.append(names)

    node = Listening("small_node", SMALL, context=context)
    (result,) = node.set_parameters([RosParameter("size", value=5)])
    assert result.successful
    assert node.start()
    (refused,) = node.set_parameters([RosParameter("size", value=6)])
    assert not refused.successful
    assert "size: cannot change while small_node is active" in refused.reason
    (taken,) = node.set_parameters([RosParameter("link.rate", value=7)])
    assert taken.successful
    assert changes == [{"link.rate"}]
    assert (node.values.size, node.values.link_rate) == (5, 7.0)
    node.trigger_deactivate()
    (result,) = node.set_parameters([RosParameter("size", value=6)])
    assert result.successful
    node.stop()
    node.destroy_node()


def test_what_is_read_at_configuring_waits_for_it_while_inactive(
    context: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    node = small_node(context)
    changed: list[set[str]] = []
    node.parameters_changed = changed.append  # type: ignore[method-assign]
    node.set_parameters([RosParameter("size", value=5)])
    assert node.values.size == 5
    node.trigger_configure()
    node.set_parameters([RosParameter("size", value=6), RosParameter("mode", value="fast")])
    assert (node.values.size, node.values.mode) == (5, "fast")
    assert changed == [{"size"}, {"mode"}]  # what is live counts for what configure made, such as a link's budget
    assert "size: read when the node is configured" in capfd.readouterr().err
    node.trigger_activate()
    assert node.values.size == 5
    node.trigger_deactivate()
    node.trigger_cleanup()
    node.trigger_configure()
    assert node.values.size == 6
    node.destroy_node()


def test_what_configure_raises_becomes_a_failed_transition(context: Any) -> None:
    class Broken(ManagedNode):
        def configure(self) -> None:
            raise ValueError("model: 'none' cannot be loaded")

    node = Broken("small_node", SMALL, context=context)
    assert not node.start()
    assert LifecycleState(*reversed(node._state_machine.current_state)).label == "unconfigured"
    node.stop()
    assert node.done.is_set()
    node.destroy_node()


@pytest.mark.parametrize("lacks", ["safetensors", "openvino.runtime"])
def test_a_python_package_that_is_not_there_is_told_with_what_to_do(context: Any, lacks: str) -> None:
    class Bare(ManagedNode):
        def configure(self) -> None:
            raise ModuleNotFoundError(f"No module named {lacks!r}", name=lacks)

    node = Bare("small_node", SMALL, context=context)
    assert not node.start()
    name = lacks.partition(".")[0]
    assert node._failure.startswith(f'cannot configure: {sys.executable} has no {name}; README.md, "With ROS 2": pip ')
    node.destroy_node()


def test_secrets_come_from_a_file_or_a_parameter_but_not_both(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("ab" * 16 + "\n", encoding="utf-8")
    assert secret("link.key", "", str(file)) == "ab" * 16
    assert secret("link.key", "cd" * 16, "") == "cd" * 16
    with pytest.raises(ValueError, match=r"link.key and link.key_file: both are given"):
        secret("link.key", "cd" * 16, str(file))
    with pytest.raises(OSError, match=r"link.key_file: '.*missing' cannot be read: No such file"):
        secret("link.key", "", str(tmp_path / "missing"))
    file.write_bytes(bytes(5000))
    with pytest.raises(ValueError, match="longer than 4096 bytes"):
        secret("link.key", "", str(file))
    file.write_text("no digits", encoding="utf-8")
    with pytest.raises(ValueError, match="key must be hexadecimal digits"):
        shared_key(SimpleNamespace(link_key="", link_key_file=str(file)))


@pytest.mark.parametrize("table", [ENCODER, DECODER], ids=lambda table: table.node)
def test_what_the_page_of_the_link_names_of_a_zenoh_session_can_be_set(table: ParameterTable) -> None:
    page = (ROOT / "docs" / "link.md").read_text(encoding="utf-8")
    named = [one.name for one in fields(ZenohOptions) if re.search(rf"`{one.name}\b", page)]
    assert {"lease", "open_timeout", "batch", "connect", "dictionary"} <= set(named)
    values = {parameter.name: parameter for parameter in table}
    assert [name for name in named if f"link.zenoh.{name}" not in values] == []
    numbers = {"lease": 120.0, "open_timeout": 4.5, "batch": 1200}
    given = SimpleNamespace(**{parameter.attribute: parameter.default for parameter in table})
    assert replace(zenoh_options(given), connect=("udp/a:1",), listen=()) == ZenohOptions(("udp/a:1",))
    for name, value in numbers.items():
        setattr(given, f"link_zenoh_{name}", value)
        assert getattr(zenoh_options(given), name) == value
        assert f"link.zenoh.{name}: -1, expected " in (values[f"link.zenoh.{name}"].problem(-1) or "")


class Failing(ManagedNode):
    """A node whose configuration fails half-way; what it says on /diagnostics is kept."""

    trouble = ""

    def configure(self) -> None:
        self.create_publisher(CameraInfo, "half", 1)
        self.create_timer(1.0, lambda: None)
        raise ValueError("model: 'nothing' cannot be loaded")

    def subjects(self) -> tuple[str, ...]:
        return ("front",)

    def link_trouble(self) -> str:
        return self.trouble

    def publish_diagnostics(self, name: str, level: bytes, message: str, values: dict[str, object]) -> None:
        self.said = (name, level, message)


def test_a_failed_transition_takes_back_what_it_made_and_inactive_nodes_say_what_they_are(context: Any) -> None:
    node = Failing("small_node", SMALL, context=context)
    publishers, timers = len(list(node.publishers)), len(list(node.timers))
    node._watch()
    assert node.said[:2] == ("front", DiagnosticStatus.WARN)
    assert "the node is unconfigured" in node.said[2]
    for _ in range(3):
        assert not node.start()
    assert (len(list(node.publishers)), len(list(node.timers))) == (publishers, timers)
    node._watch()
    assert node.said[1:] == (DiagnosticStatus.ERROR, "cannot configure: ValueError: model: 'nothing' cannot be loaded")
    node._failure, node.trouble = "", "the session cannot open"
    node._watch()
    assert node.said[1:] == (DiagnosticStatus.ERROR, "the session cannot open")
    assert node.counts()["link_not_open"] == 1
    node.destroy_node()


def test_diagnostics_of_two_robots_have_names_of_their_own(context: Any) -> None:
    """An aggregator knows a status by its name alone."""
    said: list[DiagnosticArray] = []
    for namespace in ("robot1", "/", "robot2/front"):
        node = ManagedNode("small_node", SMALL, context=context, namespace=namespace)
        node._diagnostics = SimpleNamespace(publish=said.append)
        node.publish_diagnostics("camera", DiagnosticStatus.OK, "well", {})
        node.destroy_node()
    names = [array.status[0].name for array in said]
    assert names == ["robot1/small_node: camera", "small_node: camera", "robot2/front/small_node: camera"]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.node)
def test_help_of_a_node_shows_its_parameters(table: ParameterTable, capsys: pytest.CaptureFixture[str]) -> None:
    main = importlib.import_module(f"semhier_ros.nodes.{table.node}").main
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: {table.node} [-h]")
    assert table.yaml() in shown
    with pytest.raises(SystemExit) as ended:
        main(["--budget", "--ros-args", "-p", "autostart:=false"])
    assert ended.value.code == 2
    assert "unrecognized arguments: --budget" in capsys.readouterr().err
