"""Example files for planners: every name in them is one that the decoder, or Nav2, has."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "config" / "planners"
POLYGON_FIELDS = {
    "type", "points", "action_type", "min_points", "slowdown_ratio", "visualize", "polygon_pub_topic", "enabled",
}  # fmt: skip
MONITOR_FIELDS = {
    "base_frame_id", "odom_frame_id", "cmd_vel_in_topic", "cmd_vel_out_topic", "state_topic", "transform_tolerance",
    "source_timeout", "base_shift_correction", "stop_pub_timeout", "polygons", "observation_sources",
}  # fmt: skip
LAYER_FIELDS = {
    "plugin", "enabled", "footprint_clearing_enabled", "min_obstacle_height", "max_obstacle_height",
    "combination_method", "observation_sources",
}  # fmt: skip
SOURCE_FIELDS = {
    "topic", "sensor_frame", "data_type", "marking", "clearing", "min_obstacle_height", "max_obstacle_height",
    "obstacle_min_range", "obstacle_max_range", "raytrace_min_range", "raytrace_max_range", "observation_persistence",
    "expected_update_rate",
}  # fmt: skip
"""Parameters that navigation2 declares: nav2_collision_monitor/src/{collision_monitor_node,polygon,source}.cpp and
nav2_costmap_2d/plugins/obstacle_layer.cpp."""


def load(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def flat(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{above}{name}.") if isinstance(value, dict) else {above + name: value}
    return found


@pytest.mark.parametrize("name", ["decoder_nav2.yaml", "decoder_autoware.yaml", "encoder_planner.yaml"])
def test_the_nodes_files_set_parameters_that_they_have(name: str) -> None:
    pytest.importorskip("rclpy", reason="the nodes need ROS 2")
    from semhier_ros.nodes.parameter_tables import DECODER, ENCODER

    table = {parameter.name: parameter for parameter in (ENCODER if name.startswith("encoder") else DECODER)}
    given = flat(load(name)["/**"]["ros__parameters"])
    assert given
    for key, value in given.items():
        assert table[key].problem(value) is None


def test_the_robots_pose_comes_from_what_speaks_while_it_stands_too() -> None:
    """AMCL says a pose where the robot moved, and broadcasts its transform with every scan."""
    pose = load("encoder_planner.yaml")["/**"]["ros__parameters"]["pose"]
    assert pose["source"] == "tf"
    assert pose["frame"] == "map"
    assert pose["child"] == flat(load("decoder_nav2.yaml")["/**"]["ros__parameters"])["ground.frame"]


def test_the_collision_monitors_file_is_complete() -> None:
    monitor = load("nav2_collision_monitor.yaml")["collision_monitor"]["ros__parameters"]
    named = {*monitor["polygons"], *monitor["observation_sources"]}
    assert set(monitor) == MONITOR_FIELDS | named
    for name in monitor["polygons"]:
        assert set(monitor[name]) <= POLYGON_FIELDS
        assert len(ast.literal_eval(monitor[name]["points"])) >= 3
    source = monitor["semantics"]
    assert source == {"type": "polygon", "topic": "/camera/polygons", "sampling_distance": 0.1, "enabled": True}


def test_the_costmap_marks_where_our_points_are_and_clears_where_they_are_not() -> None:
    layer = load("nav2_costmap.yaml")["local_costmap"]["local_costmap"]["ros__parameters"]["semantic_layer"]
    sources = layer["observation_sources"].split()
    assert set(layer) == LAYER_FIELDS | set(sources)
    decoder = flat(load("decoder_nav2.yaml")["/**"]["ros__parameters"])
    height = decoder["planner.cloud_height"]
    for name in sources:
        source = layer[name]
        assert set(source) <= SOURCE_FIELDS
        assert source["min_obstacle_height"] < height < source["max_obstacle_height"]
        assert source["marking"] != source["clearing"]
        assert source["sensor_frame"] == decoder["ground.frame"]  # wherever planner.frame is


def test_the_launch_argument_names_sets_of_topics_that_there_are() -> None:
    pytest.importorskip("rclpy", reason="the nodes need ROS 2")
    from semhier_ros.nodes.planner_parameters import topics_problem

    tree = ast.parse((ROOT / "launch" / "receiver.launch.py").read_text(encoding="utf-8"))
    planners = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PLANNERS"
    )
    assert set(planners) == {"none", "nav2", "autoware"}
    for topics in planners.values():
        assert topics_problem(topics) is None
    nav2 = flat(load("decoder_nav2.yaml")["/**"]["ros__parameters"])["planner.topics"]
    assert nav2 == planners["nav2"]
    assert flat(load("decoder_autoware.yaml")["/**"]["ros__parameters"])["planner.topics"] == planners["autoware"]


def test_foxglove_shows_topics_that_a_live_decoder_has() -> None:
    pytest.importorskip("semhier_ros.msg", reason="the messages are generated by `make` or colcon")
    from semhier_ros.nodes.parameter_tables import DECODER
    from semhier_ros.nodes.recorder_node import standard_topics

    layout = json.loads((ROOT / "config" / "foxglove_layout.json").read_text(encoding="utf-8"))
    panels = layout["configById"]
    assert set(re.findall(r'"(\w+!\w+)"', json.dumps(layout["layout"]))) <= set(panels)
    tabs = {tab["title"]: panels.pop(tab["layout"]) for tab in panels["Tab!semhier"]["tabs"]}
    live = re.findall(r'"(/camera/[\w/]+)', json.dumps([tabs["live"], panels]))
    planners = {parameter.name: parameter for parameter in DECODER}["planner.topics"]
    named = {topic for topic, _ in standard_topics(["camera"], 4)}
    assert live
    for topic in live:
        assert topic[1:] in named or planners.problem([topic.removeprefix("/camera/")]) is None, topic


def test_rviz_shows_topics_that_the_decoder_has_in_its_ground_frame() -> None:
    pytest.importorskip("rclpy", reason="the nodes need ROS 2")
    from semhier_ros.nodes.parameter_tables import DECODER

    table = {parameter.name: parameter for parameter in DECODER}
    manager = load("markers.rviz")["Visualization Manager"]
    shown = [display["Topic"]["Value"] for display in manager["Displays"] if "Topic" in display]
    assert len(shown) == 2
    for topic in shown:
        assert topic.startswith("/camera/")
        assert table["planner.topics"].problem([topic.removeprefix("/camera/")]) is None
    assert manager["Global Options"]["Fixed Frame"] == table["ground.frame"].default
