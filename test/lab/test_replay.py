"""`semhier replay` from a bag to its report: the same bytes for the same seed, labels, sweeps, bags out."""

from __future__ import annotations

import importlib.util
import inspect
import json
import sys
from functools import partial
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader

pytest.importorskip("jinja2", reason="the report needs Jinja2: pip install -r requirements/report.txt")
pytest.importorskip("matplotlib", reason="the report needs matplotlib: pip install -r requirements/report.txt")

from semhier_ros.cli import main
from semhier_ros.codec.packet import Packet
from semhier_ros.footage.bags import open_bag, raw_messages
from semhier_ros.footage.labels import LabelError, labelled_world
from semhier_ros.footage.messages import BagWriter, camera_messages, header_of, make_message, message_store, stamp_of
from semhier_ros.footage.readings import Messages
from semhier_ros.lab.replay.bag_out import PLACE_KINDS
from semhier_ros.lab.replay.base import Answer, Costs
from semhier_ros.lab.replay.sweep import rows_of
from semhier_ros.lab.replay.task import Task
from semhier_ros.lab.replay.work import Result, replay
from semhier_ros.lab.results import provenance
from semhier_ros.paths import model_names

pytestmark = pytest.mark.skipif("road" not in model_names(), reason="models/road is not there")
FRAMES = 24
MOST_FILES = 25
"""Files of the laboratory that one reads to follow a replay from the command line to its report."""


def options(place: Path, out: str, *more: str) -> list[str]:
    return [
        *(
            "replay",
            str(place / "bag"),
            "--link",
            "64kbit,50ms,5%,seed3",
            "--costs",
            "given",
            "--out",
            str(place / out),
        ),
        *("--cache", str(place / "c"), "--codecs", "semhier,answer", "--model", "road", *more),
    ]


def test_the_same_seed_gives_the_same_bytes(place: Path, result: Result) -> None:
    assert main(options(place, "one", "--no-report")) == 0
    assert main(options(place, "two", "--no-report", "--no-cache")) == 0
    assert (place / "one" / "summary.json").read_bytes() == (place / "two" / "summary.json").read_bytes()
    other = options(place, "three", "--no-report")
    other[3] = "64kbit,50ms,5%,seed4"
    assert main(other) == 0
    assert (place / "one" / "summary.json").read_bytes() != (place / "three" / "summary.json").read_bytes()


@pytest.mark.parametrize("radio", ["serial9600,seed3", "acoustic,seed3", "udp64,seed3", "mavlink57600,seed3"])
def test_a_replay_over_a_radio_charges_what_the_radio_charges(place: Path, radio: str, capsys: Any) -> None:
    pytest.importorskip("serial", reason="pyserial is not installed: requirements/radio.txt")
    if radio.startswith("mavlink"):
        pytest.importorskip("pymavlink", reason="pymavlink is not installed: requirements/mavlink.txt")
    rates = {"serial9600": 960, "acoustic": 150, "udp64": 8000, "mavlink57600": 1200}
    outs = (f"{radio}-one", f"{radio}-two")
    for out in outs:
        asked = options(place, out, "--no-report")
        asked[3] = radio
        assert main(asked) == 0
    assert len({(place / out / "summary.json").read_bytes() for out in outs}) == 1
    summary = json.loads((place / outs[0] / "summary.json").read_text(encoding="utf-8"))
    assert summary["link"] == radio
    for one in summary["codecs"].values():
        assert one["delivered"] > 0
        assert one["wire_bytes_per_s"] <= rates[radio.split(",")[0]]
        assert (one["link"].get("messages of others", 0) > 100) == radio.startswith("mavlink")
        assert one["link"]["bytes back"] > 0  # the base answers in its turns
    asked = options(place, "no", "--no-report", "--codecs", "jpeg")
    asked[3] = radio
    assert main(asked) == 2
    assert "jpeg does not go over a radio" in capsys.readouterr().err


def test_the_summary_has_what_was_promised(result: Result) -> None:
    summary = json.loads(json.dumps(result.summary))
    assert summary["link"] == "64kbit,50ms,5%,seed3"
    for name in ("semhier", "jpeg", "answer"):
        one = summary["codecs"][name]
        assert set(one["streaming_ap50"]) == {"L0", "L1", "L2"}
        assert {"p50", "p95", "p99"} == set(one["coarse_ms"])
        assert 0 < one["delivered"] <= 1
        assert one["wire_bytes_per_s"] > 0
        assert sum(part["datagrams"] for part in one["budget"].values()) == one["link"]["datagrams"]
    assert summary["truth"] == "agreement"
    assert "Agreement, not accuracy" in summary["truth_in_words"]
    assert summary["codecs"]["semhier"]["coarse_ms"]["p50"] >= 50 + 30
    assert set(summary["margin_of_semhier"]) == {"jpeg", "answer"}


def test_from_the_command_line_to_the_report_a_replay_enters_few_files(place: Path) -> None:
    """Files of the laboratory of which a function runs (class bodies and what is only imported enter nothing)."""
    folder = Path(replay.__code__.co_filename).parents[1]
    entered: set[str] = set()

    def look(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_flags & inspect.CO_OPTIMIZED and code.co_filename.startswith(str(folder)):
            entered.add(code.co_filename)

    command = options(place, "walk")
    sys.setprofile(look)
    try:
        assert main(command) == 0
    finally:
        sys.setprofile(None)
    files = sorted(str(Path(name).relative_to(folder)) for name in entered if name.endswith(".py"))
    assert len(files) <= MOST_FILES, files


def test_a_second_run_over_another_link_encodes_no_frame_again(
    place: Path, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(*_: object, **__: object) -> None:
        raise AssertionError("a frame was encoded that the cache has")

    for name in ("encode", "encode_stepwise"):
        monkeypatch.setattr(type(result.reader.codec), name, again)
    cache = place / "c" / "replay.sqlite"
    task = Task((place / "bag",), "64kbit,50ms,5%,seed3", ("semhier",), "road", costs=Costs(), cache=cache)
    assert replay(task, reader=result.reader).summary["codecs"]["semhier"]["delivered"] > 0


def test_labels_count_as_labels(place: Path, result: Result) -> None:
    """Labels that say what the detector says give the figures of agreement, under another name."""
    camera, world = result.cameras[0], result.worlds[0]
    width, height = camera.size
    folder = place / "labels"
    folder.mkdir()
    names = result.reader.codec.taxonomy.names(result.reader.levels - 1)
    (folder / "classes.txt").write_text("\n".join(names) + "\n")
    for number, truth in enumerate(world.truths):
        lines = []
        for item in truth:
            x0, y0, x1, y1 = item.box
            box = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
            lines.append(" ".join(map(repr, (item.path[-1], *box))))
        (folder / f"{number:06d}.txt").write_text("\n".join([*lines, "0 0.5 0.5 0 0.5"]))
    if any(len(item.path) < result.reader.levels for truth in world.truths for item in truth):
        pytest.skip("this model leaves some objects without their finest name")
    assert main(options(place, "labelled", "--no-report", "--labels", str(folder))) == 0
    labelled = json.loads((place / "labelled" / "summary.json").read_text())
    assert labelled["truth"] == "labels"
    assert f"labels: {FRAMES} boxes without area, left out" in labelled["problems"]
    for level, value in labelled["codecs"]["semhier"]["streaming_ap50"].items():
        assert value == result.summary["codecs"]["semhier"]["streaming_ap50"][level]
    (folder / "classes.txt").write_text("spaceship\n" * len(names))
    assert main(options(place, "x", "--no-report", "--labels", str(folder))) == (2 if any(world.truths) else 0)


def test_labels_of_the_bag_itself(place: Path, result: Result) -> None:
    """A topic of arrays with names for class_id is a truth like any other."""
    camera = result.cameras[0]
    name = result.reader.codec.taxonomy.names(0)[0]
    with BagWriter(place / "with") as bag:
        for number, stamp in enumerate(camera.stamps_ns):
            for topic, message in camera_messages(bag.store, camera.image(number), stamp, "camera", "optical"):
                bag.write(topic, message, stamp)
            seen = result.reader.reference(camera, number)
            item = Answer(0, number, stamp, 0.0, 0.0, 0, 0, seen, "")
            array = Messages(bag.store, result.reader.codec.taxonomy).vision(item.detections, stamp, "optical")
            for one in array.detections:
                one.results[0].hypothesis.class_id = name
            bag.write("/labels", array, stamp)
    (found,) = open_bag(place / "with").cameras
    world = labelled_world(Path("/labels"), found, result.reader.codec.taxonomy)
    assert world.kind == "labels"
    wanted = [len(truth) for truth in result.worlds[0].truths]
    assert [len(truth) for truth in world.truths] == wanted
    assert all(item.path == (0,) for truth in world.truths for item in truth)
    with pytest.raises(LabelError, match=r"no file and no vision_msgs/msg/Detection2DArray topic"):
        labelled_world(Path("/nothing"), found, result.reader.codec.taxonomy)


def test_a_bag_of_the_run_and_its_readings_again(place: Path, result: Result) -> None:
    bag = place / "written"
    assert main(options(place, "w", "--no-report", "--write-bag", str(bag))) == 0
    store = message_store()
    found: dict[str, list[Any]] = {}
    with AnyReader([bag], default_typestore=store) as reader:
        for connection, time_ns, raw in reader.messages():
            found.setdefault(connection.topic, []).append((time_ns, reader.deserialize(raw, connection.msgtype)))
    assert {"/camera/semhier/level_0", "/camera/detections/level_2", "/camera/semhier/link_status"} <= set(found)
    assert {"/camera/detections/vision", "/camera/annotations", "/camera/annotated/compressed"} <= set(found)
    coarse = found["/camera/detections/level_0"]
    assert len(coarse) == round(result.summary["codecs"]["semhier"]["delivered"] * FRAMES)
    for time_ns, message in coarse:
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        wait = message.latency.sec * 10**9 + message.latency.nanosec
        assert time_ns - stamp == wait > 50e6
    assert all(points.type == 2 for _, one in found["/camera/annotations"] for points in one.points)
    assert len(open_bag(bag).cameras) == 1
    assert main(["republish", str(bag), "--out", str(place / "again")]) == 0
    again: list[Any] = []
    with AnyReader([place / "again"], default_typestore=store) as reader:
        for connection, _, raw in reader.messages():
            if connection.topic == "/camera/detections/level_0":
                again.append(reader.deserialize(raw, connection.msgtype))
    first = {message.frame: [tuple(one.scores) for one in message.detections] for _, message in coarse}
    assert {message.frame: [tuple(one.scores) for one in message.detections] for message in again} == first
    assert main(["republish", str(place / "bag"), "--out", str(place / "none")]) == 2


def test_lens_and_poses_of_the_source_come_through_a_replay_and_its_readings(
    place: Path, result: Result, tmp_path: Path
) -> None:
    """A fixed transform that is told before the first frame, TF and what another base heard of the robot, and no more
    of it than the frames last."""
    source, bag, again = tmp_path / "source", tmp_path / "bag", tmp_path / "again"
    made = partial(make_message, message_store())
    camera = result.cameras[0]
    first, last = camera.stamps_ns[0], camera.stamps_ns[-1]
    wanted: set[tuple[str, int]] = {("/tf_static", first)}
    with BagWriter(source) as writer:
        writer.write("/tf_static", made("tf2_msgs/msg/TFMessage"), first - 10**9)
        for number, stamp in enumerate(camera.stamps_ns):
            pictures = camera_messages(writer.store, camera.image(number), stamp, "camera", "optical")
            for topic, message in pictures:
                writer.write(topic, message, stamp)
            wanted |= {(topic, stamp) for topic, _ in pictures if topic.endswith("camera_info")}
            if number % 5 == 0:
                pose = made("geometry_msgs/msg/PoseStamped", header=header_of(stamp, "map"))
                writer.write("/tf", made("tf2_msgs/msg/TFMessage"), stamp)
                writer.write("/camera/semhier/pose", pose, stamp)
                wanted |= {("/tf", stamp), ("/camera/semhier/pose", stamp)}
        writer.write("/tf", made("tf2_msgs/msg/TFMessage"), last + 10**9)
    more = ["--codecs", "semhier", "--no-report", "--write-bag", str(bag), "--out", str(tmp_path / "out")]
    assert main(["replay", str(source), "--link", "64kbit,20ms", "--model", "road", "--costs", "given", *more]) == 0
    found = [(c.topic, at, data) for c, at, data in raw_messages(bag, lambda one: one.kind in PLACE_KINDS, [])]
    assert {(topic, at) for topic, at, _ in found} == wanted
    assert len(found) == len(wanted)
    assert main(["republish", str(bag), "--out", str(again)]) == 0
    poses = [(c.topic, at, data) for c, at, data in raw_messages(again, lambda one: one.kind in PLACE_KINDS, [])]
    assert poses == [one for one in found if one[0] == "/camera/semhier/pose"]


def test_a_bag_with_memory_is_whole_from_its_next_memoryless_frame_on(
    place: Path, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("semhier_ros.scene.remembering.LEAST_OBJECTS", 0)  # the footage shows few
    monkeypatch.setattr("semhier_ros.scene.remembering.WHOLE_EVERY", 0.5)
    bag, cut = place / "remembered", place / "cut"
    more = ("--no-report", "--memory", "--max-rate", "12", "--write-bag", str(bag))
    assert main(options(place, "m", *more)) == 0
    store, whole = message_store(), result.reader.codec.stream_tag
    kinds: dict[int, bool] = {}
    with AnyReader([bag], default_typestore=store) as reader, BagWriter(cut) as shorter:
        messages = [(c, at, reader.deserialize(raw, c.msgtype)) for c, at, raw in reader.messages()]
        for connection, _, message in messages:
            if connection.topic == "/camera/semhier/level_0":
                kinds[message.frame] = Packet.parse(bytes(message.data)).blocks[0].stream == whole
        numbers = sorted(kinds)
        first = next(n for n in numbers if n > numbers[2] and not kinds[n])  # the cut bag begins with a delta
        last = next(at for c, at, m in messages if c.topic == "/camera/semhier/level_0" and m.frame == first)
        for connection, at, message in messages:
            late = connection.topic.startswith("/camera/semhier/level_") and message.frame < first  # a repeat
            if (at >= last and not late) or connection.topic == "/camera/semhier/info":
                shorter.write(connection.topic, message, at)
    assert not all(kinds.values())
    sent = readings_of_bag(bag)
    assert readings_of_bag(republished(bag, place / "m_again")) == sent
    later = next(number for number in numbers if number > first and kinds[number])
    wanted = {number: found for number, found in sent.items() if number >= later}
    assert wanted
    found = readings_of_bag(republished(cut, place / "m_cut"))
    assert {number: one for number, one in found.items() if number >= later}.items() <= wanted.items()
    assert later in found
    assert not {number for number in numbers if first <= number < later} & found.keys()
    gone = wanted.keys() - found.keys()  # until that frame was acknowledged, deltas refer to older ones
    assert all(number <= later + 12 for number in gone)


def test_a_bag_with_memory_over_a_radio_reads_as_its_run(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A radio tells stamps to 8 ms."""
    pytest.importorskip("serial", reason="pyserial is not installed: requirements/radio.txt")
    monkeypatch.setattr("semhier_ros.scene.remembering.LEAST_OBJECTS", 0)  # the footage shows few
    reads_as_its_run(place / "bag", "road", "serial9600,seed3", tmp_path)


@pytest.mark.skipif("street" not in model_names(), reason="models/street is not there")
def test_a_bag_with_memory_reads_as_its_run_where_frames_gave_up_names(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deltas refer to whole frames of which the link let less pass than there was to say."""
    camera = result.cameras[0]
    with BagWriter(tmp_path / "crowd") as bag:
        for number, stamp in enumerate(camera.stamps_ns):
            crowd = np.ascontiguousarray(np.tile(camera.image(number), (2, 2, 1)))
            for topic, message in camera_messages(bag.store, crowd, stamp, "camera", "optical"):
                bag.write(topic, message, stamp)
    reads_as_its_run(tmp_path / "crowd", "street", "8kbit,50ms,seed3", tmp_path)


def reads_as_its_run(source: Path, model: str, link: str, folder: Path) -> None:
    """Asserts that the bag of a run with memory and motion holds both, and is read again as it was."""
    bag = folder / "bag"
    asked = ["replay", str(source), "--link", link, "--model", model, "--codecs", "semhier", "--costs", "given"]
    more = ["--memory", "--motion", "on", "--max-rate", "12", "--no-report", "--no-cache", "--out", str(folder / "out")]
    assert main([*asked, *more, "--write-bag", str(bag)]) == 0
    store, blocks = message_store(), []
    with AnyReader([bag], default_typestore=store) as reader:
        for connection, _, raw in reader.messages():
            if connection.topic == "/camera/semhier/level_0":
                message: Any = reader.deserialize(raw, connection.msgtype)
                blocks.append(Packet.parse(bytes(message.data)).blocks[0])
    tags = {block.stream for block in blocks}
    assert len(tags) == 2, "whole frames and deltas"
    assert any(block.motion for block in blocks)
    sent = readings_of_bag(bag)
    assert len(sent) >= 5
    assert readings_of_bag(republished(bag, folder / "again")) == sent


@pytest.mark.parametrize("memory", [(), ("--memory",)])
def test_headers_of_a_written_bag_are_the_cameras(
    result: Result, tmp_path: Path, memory: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stamps jitter against the times of recording, and once the recorder's clock jumps: neither is of the robot."""
    monkeypatch.setattr("semhier_ros.scene.remembering.LEAST_OBJECTS", 0)
    camera, lag = result.cameras[0], np.random.default_rng(3).integers(5_000_000, 35_000_000, FRAMES)
    stamps = [stamp + int(late) for stamp, late in zip(camera.stamps_ns, lag, strict=True)]
    with BagWriter(tmp_path / "source") as writer:
        for number, stamp in enumerate(stamps):
            log_ns = camera.stamps_ns[number] + 40_000_000 + (0 if number < 12 else 7200 * 10**9)
            for topic, message in camera_messages(writer.store, camera.image(number), stamp, "camera", "optical"):
                writer.write(topic, message, log_ns)
    more = ["--no-report", "--codecs", "semhier", "--write-bag", str(tmp_path / "bag"), "--out", str(tmp_path / "out")]
    asked = ["replay", str(tmp_path / "source"), "--link", "64kbit,20ms", "--model", "road", "--costs", "given"]
    assert main([*asked, *more, *memory]) == 0
    store, seen = message_store(), set()
    with AnyReader([tmp_path / "bag"], default_typestore=store) as reader:
        for connection, _, raw in reader.messages():
            message: Any = reader.deserialize(raw, connection.msgtype)
            if connection.topic.startswith("/camera/detections/level_"):
                seen.add((message.frame, stamp_of(message)))
                wait = message.latency.sec * 10**9 + message.latency.nanosec
                assert 50e6 < wait < 2e9  # by the run's clock, on which it arrived
            elif connection.topic.startswith("/camera/semhier/level_"):
                assert stamp_of(message) in stamps
    assert len(seen) >= 12
    assert seen <= set(enumerate(stamps)) if not memory else {stamp for _, stamp in seen} <= set(stamps)
    sent = readings_of_bag(tmp_path / "bag")
    assert readings_of_bag(republished(tmp_path / "bag", tmp_path / "again")) == sent


def test_a_written_bag_says_where_each_of_its_sources_was(place: Path, result: Result, tmp_path: Path) -> None:
    """Of a bag beside a video, in either order, and of two bags, each from its own first frame to its own last."""
    made, camera = partial(make_message, message_store()), result.cameras[0]
    stamps = {"one": camera.stamps_ns[:8], "two": [stamp + 3600 * 10**9 for stamp in camera.stamps_ns[:5]]}
    wanted: dict[str, set[tuple[str, int]]] = {}
    for name, own in stamps.items():
        with BagWriter(tmp_path / name) as writer:
            for number, stamp in enumerate(own):
                pictures = camera_messages(writer.store, camera.image(number), stamp, name, "optical")
                for topic, message in pictures:
                    writer.write(topic, message, stamp)
                writer.write("/tf", made("tf2_msgs/msg/TFMessage"), stamp)
            writer.write("/tf", made("tf2_msgs/msg/TFMessage"), own[-1] + 10**9)
        wanted[name] = {(topic, stamp) for stamp in own for topic in ("/tf", f"/{name}/camera_info")}
    video = tmp_path / "street.avi"
    film = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, camera.size)
    for number in range(6):
        film.write(np.ascontiguousarray(camera.image(number)[..., ::-1]))
    film.release()
    one, two = tmp_path / "one", tmp_path / "two"
    for place_, sources in enumerate([(one, video), (video, one), (one, two)]):
        out = tmp_path / f"out{place_}"
        more = ["--codecs", "semhier", "--no-report", "--write-bag", str(out / "bag"), "--out", str(out)]
        asked = [*map(str, sources), "--link", "64kbit,20ms", "--model", "road", "--costs", "given"]
        assert main(["replay", *asked, "--cache", str(place / "c"), *more]) == 0
        found = {(c.topic, at) for c, at, _ in raw_messages(out / "bag", lambda one: one.kind in PLACE_KINDS, [])}
        assert found == set().union(*(wanted[source.name] for source in sources if source != video))


def republished(bag: Path, out: Path) -> Path:
    assert main(["republish", str(bag), "--out", str(out)]) == 0
    return out


def readings_of_bag(bag: Path) -> dict[int, list[Any]]:
    """The finest readings of a bag's frames: boxes, paths and scores."""
    found: dict[int, list[Any]] = {}
    store = message_store()
    with AnyReader([bag], default_typestore=store) as reader:
        for connection, _, raw in reader.messages():
            if connection.topic == "/camera/detections/level_2":
                message: Any = reader.deserialize(raw, connection.msgtype)
                found[message.frame] = [
                    (one.x_min, one.y_min, tuple(one.path), tuple(one.scores)) for one in message.detections
                ]
    return found


@pytest.mark.skipif(importlib.util.find_spec("rerun") is None, reason="rerun-sdk (extra rerun) is not installed")
def test_a_rerun_recording(place: Path, result: Result) -> None:
    assert main(options(place, "r", "--no-report", "--rerun", str(place / "run.rrd"))) == 0
    assert (place / "run.rrd").read_bytes()[:4] in (b"RRF2", b"RRF3", b"RRF4")


def test_a_sweep_goes_on_where_it_was(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        *("sweep", str(place / "bag"), "--link", "64kbit,50ms,0%", "--rate", "16kbit", "64kbit"),
        *("--loss", "0", "20", "--costs", "given", "--codecs", "semhier,answer,jpeg", "--finalists", "1"),
        *("--out", str(place / "sweep"), "--cache", str(place / "c"), "--jobs", "1"),
    ]
    assert main(command) == 0
    table = (place / "sweep" / "table.md").read_text()
    runs = sorted((place / "sweep" / "runs").iterdir())
    assert len(runs) == 4
    whole = json.loads((place / "sweep" / "table.json").read_text())
    assert "Foretold to every instant" in table
    summaries = [json.loads(run.read_text())["codecs"] for run in runs]
    forecasts = [{name: one["forecast"]["streaming_ap50"] for name, one in codecs.items()} for codecs in summaries]
    assert all({name: one["foretold"] for name, one in row["codecs"].items()} in forecasts for row in whole["rows"])
    rows = whole["rows"]
    assert whole["measured"]["commit"] == provenance()["commit"]
    assert [(row["rate_kbit"], row["loss"]) for row in rows] == [(16, 0), (16, 0.2), (64, 0), (64, 0.2)]
    assert all(row["margin"]["L0"]["over"] == "jpeg" for row in rows)
    assert "<svg" in (place / "sweep" / "plot.svg").read_text()
    kept = {path: path.stat().st_mtime_ns for path in runs[1:]}
    runs[0].unlink()
    capsys.readouterr()
    assert main(command) == 0
    assert "3 of 4 runs were done before" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in runs[1:]} == kept
    assert (place / "sweep" / "table.md").read_text() == table


def test_a_sweep_over_radios_has_rows_and_takes_no_other_rate(
    place: Path, result: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    over = [
        "sweep",
        str(place / "bag"),
        "--link",
        "acoustic",
        "--out",
        str(place / "radios"),
        "--cache",
        str(place / "c"),
    ]
    assert main([*over, "--rate", "16kbit"]) == 2
    assert "--link acoustic: a radio's rate and loss are its own" in capsys.readouterr().err
    (row,) = rows_of([(SimpleNamespace(bag="bag", link="acoustic"), result.summary)])  # type: ignore[list-item]
    assert (row["link"], row["rate_kbit"]) == ("acoustic", 1.2)
    assert row["model_hash"] == result.summary["model"]["model_hash"]


@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="Dask (extra cluster) is not installed")
@pytest.mark.slow
def test_a_sweep_on_a_cluster_of_two_workers(place: Path, result: Result) -> None:
    from distributed import LocalCluster

    command = [
        *("sweep", str(place / "bag"), "--link", "64kbit,50ms,0%", "--rate", "16kbit", "64kbit"),
        *("--costs", "given", "--codecs", "semhier,answer", "--cache", str(place / "c")),
    ]
    assert main([*command, "--out", str(place / "here"), "--jobs", "1"]) == 0
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
        scheduler = ["--scheduler", cluster.scheduler_address]
        assert main([*command, "--out", str(place / "there"), *scheduler]) == 0
    assert (place / "there" / "table.md").read_text() == (place / "here" / "table.md").read_text()


def test_wrong_use_is_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, told in (
        (["--codecs", "semhier,av2"], "'av2', one of semhier"),
        (["--link", "fast"], "rate"),
        (["--seconds", "-1"], "'-1', a number from 0.001"),
        (["--rate", "16kbit"], "unrecognized arguments: --rate"),
        (["--costs", "detect"], "`name=milliseconds` expected"),
        (["--write-bag", str(place / "bag"), "--force"], "is the bag that is read"),
        (["--write-bag", str(place / "new"), "--engine", "real"], "of replays in virtual time only"),
    ):
        try:
            status: Any = main(["replay", str(place / "bag"), "--out", str(place / "never"), *words])
        except SystemExit as ended:
            status = ended.code
        assert status == 2
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert told in line, line


def test_the_sweep_that_was_part_of_replay_says_its_new_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "sweep", "drive.mcap"]) == 2
    assert capsys.readouterr().err == "semhier: `semhier replay sweep` has another name now: `semhier sweep`\n"
