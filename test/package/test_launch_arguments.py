"""What launch arguments mean, read without `launch`: they win over a parameter file only when they are given."""

from __future__ import annotations

import ast
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from small_bags import INFO, JPEG, RAW, bag_of

from semhier_ros.cli import parse
from semhier_ros.launching import (
    Argument,
    BagImages,
    asked_for,
    by_rosbag2,
    camera_info_beside,
    carrier,
    emulated,
    images_in_bag,
    in_file,
    log_level,
    merged,
    number,
    overrides,
    params_file,
    refuse_strangers,
    whole,
    words,
)

ARGUMENTS = [
    Argument("camera", "Camera.", parameter="camera", also="cameras"),
    Argument("budget", "Budget.", parameter="link.budget_kbit", kind=float),
    Argument("listen", "Endpoints.", parameter="link.zenoh.listen", kind=words),
]


def test_an_argument_that_is_not_given_overrides_nothing() -> None:
    assert overrides(merged({"camera": "", "budget": "64", "listen": ""}, ARGUMENTS), ARGUMENTS) == {
        "link.budget_kbit": 64.0
    }


def test_the_other_ends_name_of_an_argument_is_accepted() -> None:
    assert overrides(merged({"cameras": "front"}, ARGUMENTS), ARGUMENTS) == {"camera": "front"}
    with pytest.raises(ValueError, match="camera: 'rear' and cameras: 'front' are two names of one thing"):
        merged({"camera": "rear", "cameras": "front"}, ARGUMENTS)


def test_a_parameter_file_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"params_file: '.*nowhere.yaml' is no file that exists"):
        params_file({"params_file": str(tmp_path / "nowhere.yaml")})


def test_an_unknown_severity_is_refused_with_those_that_exist() -> None:
    assert log_level({"log_level": "WARN"}) == "WARN"
    assert log_level({"log_level": "encoder_node:=debug"}) == "encoder_node:=debug"
    with pytest.raises(ValueError, match="log_level: 'loud', expected one of debug, info, warn, error, fatal"):
        log_level({"log_level": "loud"})


def test_topics_follow_the_camera_of_the_parameter_file(tmp_path: Path) -> None:
    file = tmp_path / "encoder.yaml"
    file.write_text(
        "/**:\n  ros__parameters:\n    camera: front\n    link: {budget_kbit: 64}\n"
        "/robot/other_node:\n  ros__parameters: {camera: rear}\n",
        encoding="utf-8",
    )
    assert in_file(str(file), "encoder_node", "camera", "camera") == "front"
    assert in_file(str(file), "other_node", "camera", "camera") == "rear"
    assert in_file(str(file), "encoder_node", "link.budget_kbit", "0") == "64"
    assert in_file(str(file), "encoder_node", "input", "raw") == "raw"
    (tmp_path / "empty.yaml").touch()
    assert in_file(str(tmp_path / "empty.yaml"), "encoder_node", "camera", "camera") == "camera"


@pytest.mark.parametrize(
    ("image", "compressed", "info"),
    [
        ("/front/image_raw", False, "/front/camera_info"),
        ("/front/image_raw/compressed", True, "/front/camera_info"),
        ("image", False, "camera_info"),
        ("/image", False, "/camera_info"),
        ("", False, ""),
    ],
)
def test_camera_info_is_the_sibling_of_the_image(image: str, compressed: bool, info: str) -> None:
    assert camera_info_beside(image, compressed) == info


def test_a_misspelt_argument_is_refused_with_the_one_that_is_like_it() -> None:
    known = ["budget_kbit", "camera", "foot_bits"]
    refuse_strangers(["budget_kbit:=64", "camera:=front", "--debug"], known)
    with pytest.raises(ValueError, match=r"^budget is no argument of this launch file; did you mean budget_kbit\?$"):
        refuse_strangers(["camera:=front", "budget:=64"], known)
    with pytest.raises(ValueError, match=r"^xyz is no argument of this launch file; --show-args lists them$"):
        refuse_strangers(["xyz:=1"], known)


def test_what_is_typed_counts_for_the_file_that_is_named() -> None:
    file = "/ws/install/share/semhier_ros/launch/sender.launch.py"
    assert asked_for(file, ["/bin/ros2", "launch", "semhier_ros", "sender.launch.py", "camera:=front"])
    assert asked_for(file, ["/bin/ros2", "launch", "launch/sender.launch.py"])
    assert not asked_for(file, ["/bin/ros2", "launch", "my_robot", "all.launch.py", "budget:=64"])


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        (number, "64kbit", "budget: expected a number such as 64 or 2.5, not '64kbit'"),
        (whole, "2.5", "budget: expected a whole number, not '2.5'"),
    ],
)
def test_an_argument_that_is_no_number_is_named(kind: Any, text: str, said: str) -> None:
    argument = Argument("budget", "Budget.", parameter="link.budget_kbit", kind=kind)
    with pytest.raises(ValueError, match=said):
        overrides({"budget": text}, [argument])
    assert overrides({"budget": "64"}, [argument]) == {"link.budget_kbit": 64}


def test_both_ends_have_what_the_link_is_told_by() -> None:
    tables = pytest.importorskip("semhier_ros.nodes.parameter_tables", reason="the nodes need ROS 2")
    given = {argument.name: "115200" if argument.kind is whole else "udp" for argument in carrier()}
    for table in (tables.ENCODER, tables.DECODER):
        names = {parameter.name for parameter in table}
        for name, value in overrides(given, carrier()).items():
            assert name in names
            if name in ("link.transport", "link.serial.baud"):
                assert table[name].problem(value) is None


@pytest.mark.parametrize(
    ("topics", "camera", "found"),
    [
        ([("/front/image_raw", RAW), ("/front/camera_info", INFO)], "", BagImages("front", "/front/image_raw", "raw")),
        ([("/a/b/image_raw/compressed", JPEG)], "", BagImages("a/b", "/a/b/image_raw/compressed", "compressed")),
        ([("/f/image_raw/compressed", JPEG), ("/f/image_raw", RAW)], "f", BagImages("f", "/f/image_raw", "raw")),
        ([("/f/image_rect", RAW), ("/r/image_raw", RAW)], "/f", BagImages("f", "/f/image_rect", "raw")),
        ([("/image", RAW)], "", BagImages("camera", "/image", "raw")),
    ],
)
def test_a_bags_camera_is_found(tmp_path: Path, topics: list[tuple[str, str]], camera: str, found: BagImages) -> None:
    assert images_in_bag(str(bag_of(tmp_path / "bag", *topics)), camera) == found


def test_a_bag_without_the_camera_says_what_it_has(tmp_path: Path) -> None:
    bag = str(bag_of(tmp_path / "bag", ("/front/image_raw", RAW), ("/rear/image_raw", RAW)))
    with pytest.raises(ValueError, match="camera: 'left': the bag has front, rear"):
        images_in_bag(bag, "left")
    with pytest.raises(ValueError, match="camera: '': the bag has front, rear"):
        images_in_bag(bag, "")
    with pytest.raises(ValueError, match="camera: '': the bag has no images"):
        images_in_bag(str(bag_of(tmp_path / "other", ("/info", INFO))), "")
    (tmp_path / "text.mcap").write_text("no bag", encoding="utf-8")
    with pytest.raises(ValueError, match=r"bag: '.*text.mcap' cannot be read: "):
        images_in_bag(str(tmp_path / "text.mcap"), "")
    with pytest.raises(ValueError, match="bag: '/nowhere', expected an existing MCAP or SQLite3 file or bag folder"):
        images_in_bag("/nowhere", "")


def installed(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The player's program as a build lays it, of this Python, in an installation that launch files look into; a ROS 2
    whose own Python has no rosbags asks it."""
    template = Path(__file__).resolve().parents[2] / "cmake" / "node.py.in"
    text = template.read_text(encoding="utf-8").replace("@Python3_EXECUTABLE@", sys.executable)
    program = prefix / "lib" / "semhier_ros" / "player_node"
    program.parent.mkdir(parents=True)
    program.write_text(text.replace("@SEMHIER_MODULE@", "semhier_ros.nodes.player_node"), encoding="utf-8")
    program.chmod(0o755)
    marker = prefix / "share" / "ament_index" / "resource_index" / "packages" / "semhier_ros"
    marker.parent.mkdir(parents=True)
    marker.touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(prefix))
    monkeypatch.setitem(sys.modules, "rosbags.highlevel", None)
    return program


def test_a_bag_is_looked_into_where_the_launching_python_has_no_rosbags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ament_index_python", reason="launch files need ROS 2")
    pytest.importorskip("rclpy", reason="the nodes need ROS 2")
    pytest.importorskip("semhier_ros.msg", reason="the messages are generated by `make` or colcon")
    bag = bag_of(tmp_path / "bag", ("/front/image_raw", RAW), ("/front/camera_info", INFO))
    (tmp_path / "text.mcap").write_text("no bag", encoding="utf-8")
    program = installed(tmp_path / "ws", monkeypatch)
    assert images_in_bag(str(bag), "") == BagImages("front", "/front/image_raw", "raw")
    with pytest.raises(ValueError, match=r"launch argument bag: '.*text.mcap' cannot be read: ") as refused:
        images_in_bag(str(tmp_path / "text.mcap"), "")
    assert "Traceback" not in str(refused.value)
    program.unlink()
    with pytest.raises(ValueError, match=r"has no rosbags, and .*player_node cannot be run: .*pip install rosbags"):
        images_in_bag(str(bag), "")


@pytest.mark.parametrize(("given", "seed", "counts"), [("", None, 7), ("3", 3, 7)])
def test_a_links_own_seed_counts_where_no_other_is_given(given: str, seed: int | None, counts: int) -> None:
    options = parse(emulated("64kbit,50ms,5%,seed7", given))
    assert (options.seed, options.link.seed) == (seed, counts)


def test_a_replay_names_no_seed_of_its_own() -> None:
    file = Path(__file__).resolve().parents[2] / "launch" / "replay.launch.py"
    (argument,) = [
        node
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and node.args[:1] and getattr(node.args[0], "value", "") == "seed"
        if getattr(node.func, "id", "") == "Argument"
    ]
    assert len(argument.args) == 2, "its default is the empty string"


@pytest.mark.parametrize("node", ["player_node", "recorder_node"])
def test_a_node_without_its_python_packages_says_in_one_line_what_to_install(
    node: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where ROS 2's own Python runs it, which rosdep cannot give rosbags."""
    pytest.importorskip("rclpy", reason="the nodes need ROS 2")
    pytest.importorskip("semhier_ros.msg", reason="the messages are generated by `make` or colcon")
    program = installed(tmp_path / "ws", monkeypatch)
    text = program.read_text(encoding="utf-8").replace("semhier_ros.nodes.player_node", f"semhier_ros.nodes.{node}")
    program.write_text(text.replace("import sys\n", "import sys\nsys.modules['rosbags'] = None\n"), encoding="utf-8")
    result = subprocess.run([program], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith(f"{sys.executable} has no rosbags; README.md, ")
    assert result.stderr.count("\n") == 1


def test_a_bag_that_holds_no_definitions_is_looked_into(tmp_path: Path) -> None:
    """As `ros2 bag record` of Humble writes them."""
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    with Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        writer.write(writer.add_connection("/front/image_raw", RAW, typestore=get_typestore(Stores.LATEST)), 1, b"")
    (file,) = (tmp_path / "bag").glob("*.db3")
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("DELETE FROM message_definitions")
    assert images_in_bag(str(tmp_path / "bag"), "") == BagImages("front", "/front/image_raw", "raw")


@pytest.mark.parametrize(
    ("player", "now", "here", "plays"),
    [
        ("auto", False, True, True),
        ("auto", False, False, False),
        ("auto", True, True, False),
        ("ours", False, True, False),
        ("rosbag2", False, True, True),
        ("rosbag2", True, True, "plays stamps:=bag without loop:=true only"),
        ("rosbag2", False, False, "is not installed"),
    ],
)
def test_who_plays_a_bag(
    player: str, now: bool, here: bool, plays: bool | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if here:
        (tmp_path / "ros2").touch(mode=0o755)
        (tmp_path / "ros2bag.py").touch()
        monkeypatch.syspath_prepend(tmp_path)
    if isinstance(plays, str):
        with pytest.raises(ValueError, match=rf"launch argument player: rosbag2 .*{plays}"):
            by_rosbag2(player, now=now)
    else:
        assert by_rosbag2(player, now=now) == plays
