"""The launch files: described, complete, and starting real nodes where `launch` is installed."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
from small_bags import JPEG, RAW, bag_of

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
FILES = sorted(LAUNCH.glob("*.launch.py"))

if importlib.util.find_spec("launch") is None or importlib.util.find_spec("launch_ros") is None:
    pytest.skip("launch and launch_ros are not on PyPI: they come with a ROS 2 installation", allow_module_level=True)

from launch import Action, LaunchContext, LaunchDescription, LaunchService
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
    TimerAction,
)
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import LifecycleNode, Node


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.name.replace(".", "_"), path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def declared(path: Path) -> list[DeclareLaunchArgument]:
    description = load(path).generate_launch_description()
    return [entity for entity in description.entities if isinstance(entity, DeclareLaunchArgument)]


def made(path: Path, **arguments: str) -> list[object]:
    """What the launch file's function makes with these arguments."""
    context = LaunchContext()
    context.launch_configurations.update(arguments)
    description = load(path).generate_launch_description()
    actions: list[object] = []
    for entity in description.entities:
        result = entity.execute(context)
        if isinstance(entity, OpaqueFunction):
            actions += result or []
    return actions


def test_there_are_three_launch_files() -> None:
    assert [path.name for path in FILES] == [f"{name}.launch.py" for name in ("receiver", "replay", "sender")]


def test_a_misspelt_argument_of_the_file_that_was_named_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["ros2", "launch", "semhier_ros", "sender.launch.py", "budget:=64"])
    first, *_ = load(LAUNCH / "sender.launch.py").generate_launch_description().entities
    with pytest.raises(ValueError, match="did you mean budget_kbit"):
        first.execute(LaunchContext(argv=sys.argv[4:]))
    assert not first.execute(LaunchContext(argv=["budget_kbit:=64"]))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_argument_is_described(path: Path) -> None:
    arguments = declared(path)
    assert arguments
    for argument in arguments:
        assert len(argument.description) > 15, argument.name
    assert len({argument.name for argument in arguments}) == len(arguments)


@pytest.mark.parametrize("name", ["sender", "receiver"])
def test_arguments_set_parameters_that_the_node_has(name: str) -> None:
    pytest.importorskip("rclpy")
    from semhier_ros.nodes.parameter_tables import DECODER, ENCODER

    table = {parameter.name: parameter for parameter in {"sender": ENCODER, "receiver": DECODER}[name]}
    module = load(LAUNCH / f"{name}.launch.py")
    for argument in module.ARGUMENTS:
        if argument.parameter in (None, "use_sim_time"):
            continue
        default = table[argument.parameter].default
        samples = {bool: "true", int: "3", float: "3.5", str: "word", list: "one,two"}
        text = argument.choices[-1] if argument.choices else samples[type(default)]
        assert type(argument.kind(text)) is type(default), argument.name


def test_a_bad_number_is_refused_with_the_arguments_name() -> None:
    with pytest.raises(ValueError, match="launch argument budget_kbit"):
        made(LAUNCH / "sender.launch.py", budget_kbit="plenty")


def test_sender_is_a_lifecycle_node_in_its_namespace_with_remapped_images() -> None:
    (node,) = made(LAUNCH / "sender.launch.py", namespace="robot", camera="front", image="/cam/image")
    assert isinstance(node, LifecycleNode)
    assert node.node_package == "semhier_ros"
    assert node.node_executable == "encoder_node"


@pytest.mark.ros
@pytest.mark.parametrize(("file", "node"), [("sender", "/robot/encoder_node"), ("receiver", "/robot/decoder_node")])
def test_the_node_starts_in_its_namespace(file: str, node: str, ros_domain: int) -> None:
    """Started by the real launch with `autostart:=false`, it is seen from outside under its namespace."""
    rclpy = pytest.importorskip("rclpy")
    import threading
    import time

    if not os.environ.get("AMENT_PREFIX_PATH"):
        pytest.skip("AMENT_PREFIX_PATH is not set: source the ROS 2 installation and this package's")
    source = PythonLaunchDescriptionSource(str(LAUNCH / f"{file}.launch.py"))
    arguments = {"namespace": "robot", "autostart": "false"}
    include = IncludeLaunchDescription(source, launch_arguments=arguments.items())
    service = LaunchService(argv=sys.argv[:1])
    service.include_launch_description(LaunchDescription([include]))
    seen: list[str] = []

    def look() -> None:
        context = rclpy.context.Context()
        rclpy.init(context=context)
        watcher = rclpy.create_node("watcher", context=context)
        end = time.monotonic() + 30
        while time.monotonic() < end and node not in seen:
            time.sleep(0.2)
            found = watcher.get_node_names_and_namespaces()
            seen[:] = [f"{namespace.rstrip('/')}/{name}" for name, namespace in found]
        watcher.destroy_node()
        rclpy.shutdown(context=context)
        service.shutdown()

    thread = threading.Thread(target=look)
    thread.start()
    service.run()
    thread.join()
    assert node in seen


def halves(actions: list[object]) -> dict[str, dict[str, str]]:
    """The arguments of the robot's half and of the base's, by their namespace."""
    found = {}
    for action in actions:
        for half in action.get_sub_entities() if isinstance(action, GroupAction) else []:
            if isinstance(half, IncludeLaunchDescription):
                given = dict(half.launch_arguments)
                found[given["namespace"]] = given
    return found


@pytest.mark.parametrize("model", ["road", "imagenet"])
def test_both_halves_get_the_model(model: str, tmp_path: Path) -> None:
    """`model:=imagenet` reaches encoder and decoder alike."""
    bag = bag_of(tmp_path / "drive", ("/camera/image_raw", RAW))
    given = halves(made(LAUNCH / "replay.launch.py", bag=str(bag), model=model))
    assert {half["model"] for half in given.values()} == {model}


def test_both_halves_of_a_replay_have_the_arguments_that_they_are_given(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "drive", ("/camera/image_raw", RAW))
    given = halves(made(LAUNCH / "replay.launch.py", bag=str(bag)))
    for file, half in {"sender": given["robot"], "receiver": given["base"]}.items():
        assert set(half) <= {argument.name for argument in declared(LAUNCH / f"{file}.launch.py")}


def test_a_loop_is_played_by_our_player_at_the_time_of_playing(tmp_path: Path) -> None:
    bag = str(bag_of(tmp_path / "drive", ("/camera/image_raw", RAW)))
    given = halves(made(LAUNCH / "replay.launch.py", bag=bag, loop="true"))
    assert {half["use_sim_time"] for half in given.values()} == {"false"}
    with pytest.raises(ValueError, match=r"player: rosbag2 plays stamps:=bag without loop:=true only"):
        made(LAUNCH / "replay.launch.py", bag=bag, loop="true", player="rosbag2")


def run(action: object, context: LaunchContext) -> list[LifecycleNode]:
    """The nodes that an action of a launch file comes to, with all that it includes; no process is started."""
    if isinstance(action, ExecuteProcess):  # nodes are processes
        return [action] if isinstance(action, LifecycleNode) else []
    entities = action.execute(context) if isinstance(action, Action) else action.entities  # type: ignore[attr-defined]
    return [node for entity in entities or [] for node in run(entity, context)]


@pytest.mark.parametrize("camera", ["", "front", "/front"])
def test_a_camera_may_be_named_as_its_topic_begins(camera: str, tmp_path: Path) -> None:
    """What is typed for the replay is in the context of both halves, too."""
    bag = bag_of(tmp_path / "drive", ("/front/image_raw", RAW))
    context = LaunchContext()
    file = PythonLaunchDescriptionSource(str(LAUNCH / "replay.launch.py"))
    context.extend_locals({"current_launch_file_directory": str(LAUNCH)})
    context.launch_configurations.update(bag=str(bag), camera=camera, player="ours")
    found = run(file.get_launch_description(context), context)
    assert {node.node_executable for node in found} == {"encoder_node", "decoder_node", "player_node"}


@pytest.mark.parametrize("given", [{}, {"loop": "true"}, {"stamps": "now"}], ids=str)
def test_who_looks_on_runs_on_clock_where_both_ends_do(
    given: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag = str(bag_of(tmp_path / "drive", ("/camera/image_raw", RAW)))
    monkeypatch.setenv("ROS_HOME", str(tmp_path))
    monkeypatch.setattr("ament_index_python.packages.get_package_share_directory", lambda package: str(tmp_path))
    looking = {"view": "rviz", "record": str(tmp_path / "record"), "player": "ours"}
    actions = made(LAUNCH / "replay.launch.py", bag=bag, **looking, **given)
    onlookers = [node for node in actions if isinstance(node, Node) and node.node_executable != "player_node"]
    assert [node.node_executable for node in onlookers] == ["rviz2", "recorder_node"]
    ends = {half["use_sim_time"] for half in halves(actions).values()}
    assert ends == {str(not given).lower()}
    for node in onlookers:
        (parameters,) = node._Node__parameters  # type: ignore[attr-defined]
        (told,) = [told for name, told in parameters.items() if name[0].text == "use_sim_time"]
        assert told == (not given)


@pytest.mark.parametrize(
    ("name", "code", "ends"),
    [
        ("encoder_node-2", 1, "encoder_node-2 has ended with exit code 1; its lines above say why"),
        ("link-1", 0, "link-1 has ended with exit code 0; its lines above say why"),
        ("player_node-4", 1, "player_node-4 has ended with exit code 1; its lines above say why"),
        ("rviz2-6", 0, None),
    ],
)
def test_a_replay_ends_when_what_it_needs_has_ended(name: str, code: int, ends: str | None) -> None:
    event = ProcessExited(action=None, name=name, cmd=[], cwd=None, env=None, pid=1, returncode=code)
    actions = load(LAUNCH / "replay.launch.py")._ended(event, LaunchContext())
    reasons = [action.event.reason for action in actions if isinstance(action, EmitEvent)]
    assert reasons == ([] if ends is None else [ends])


def test_a_replay_ends_a_moment_after_its_bag() -> None:
    event = ProcessExited(action=None, name="player_node-4", cmd=[], cwd=None, env=None, pid=1, returncode=0)
    (timer,) = load(LAUNCH / "replay.launch.py")._ended(event, LaunchContext())
    assert isinstance(timer, TimerAction)


@pytest.mark.parametrize(
    ("view", "shown"), [("foxglove", "/base/front/detections/level_2"), ("rviz", "/base/front/markers")]
)
def test_a_viewer_is_shown_the_topics_of_the_replays_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, view: str, shown: str
) -> None:
    bag = bag_of(tmp_path / "drive", ("/front/image_raw/compressed", JPEG))
    module = load(LAUNCH / "replay.launch.py")
    monkeypatch.setattr(module, "get_package_share_directory", lambda package: str(tmp_path / package))
    context = LaunchContext()
    context.launch_configurations.update(view=view, bag=str(bag), stamps="bag", loop="false")
    viewer, said = module._view(context, "front")
    assert isinstance(viewer, Node)
    file = Path("".join(part.perform(context) for part in said.msg).rpartition(": ")[2])
    text = file.read_text()
    assert shown in text
    assert "/camera/" not in text


def test_a_replay_hands_planner_topics_and_the_lens_to_the_base(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "drive", ("/front/image_raw/compressed", JPEG), ("/rear/image_raw", RAW))
    actions = made(LAUNCH / "replay.launch.py", bag=str(bag), camera="front", planner="nav2", player="ours")
    given = halves(actions)
    assert given["robot"]["input"] == "compressed"
    assert given["base"]["planner"] == "nav2"
    assert given["base"]["params_file"].endswith("decoder.yaml")
    (player,) = [action for action in actions if isinstance(action, LifecycleNode)]
    context = LaunchContext()
    moved = {
        tuple("".join(part.perform(context) for part in side) for side in rule)
        for rule in player._Node__remappings  # type: ignore[attr-defined]
    }
    topics = ("/front/image_raw/compressed", "/front/camera_info")
    assert moved == {(topic, f"/robot{topic}") for topic in topics}
