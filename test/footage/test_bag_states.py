"""Bags as recorders leave them: compressed, killed in mid-recording, latched topics; and what is never overwritten."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from semhier_ros import Codec
from semhier_ros.cli import main
from semhier_ros.footage.bags import image_key, open_bag, raw_messages
from semhier_ros.footage.messages import (
    BagError,
    BagWriter,
    camera_messages,
    check_new_bag,
    make_message,
    message_store,
    stamp_of,
)
from semhier_ros.footage.readings import Messages
from semhier_ros.footage.video import default_video, read_video

SECOND = 10**9
START = 1_700_000_000 * SECOND
IMAGE = "sensor_msgs/msg/CompressedImage"
TOPIC = "/cam/image_raw/compressed"


def image(store: Any, number: int) -> bytes:
    stamp = {"sec": START // SECOND, "nanosec": number}
    data = cv2.imencode(".png", np.full((8, 12, 3), 10 * number, np.uint8))[1].reshape(-1)
    message = make_message(store, IMAGE, header={"stamp": stamp, "frame_id": "cam"}, format="png", data=data)
    return bytes(store.serialize_cdr(message, IMAGE))


@pytest.mark.parametrize("mode", [CompressionMode.FILE, CompressionMode.MESSAGE])
@pytest.mark.parametrize("storage", [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_bags_that_rosbag2_compressed_are_read(tmp_path: Path, mode: CompressionMode, storage: StoragePlugin) -> None:
    store = message_store()
    writer = Writer(tmp_path / "bag", version=8, storage_plugin=storage)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    try:
        with writer:
            connection = writer.add_connection(TOPIC, IMAGE, typestore=store)
            for number in range(5):
                writer.write(connection, START + number * SECOND // 10, image(store, number))
    except Exception as error:
        pytest.skip(f"rosbags cannot write this kind of bag: {error}")
    bag = open_bag(tmp_path / "bag")
    assert not bag.problems
    (camera,) = bag.cameras
    assert [int(camera.image(number)[0, 0, 0]) for number in range(5)] == [0, 10, 20, 30, 40]
    bag.close()


def test_a_compressed_file_is_read_alone_and_without_metadata(tmp_path: Path) -> None:
    store = message_store()
    writer = Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.SQLITE3)
    writer.set_compression(CompressionMode.MESSAGE, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection(TOPIC, IMAGE, typestore=store)
        for number in range(5):
            writer.write(connection, START + number * SECOND // 10, image(store, number))
    assert len(open_bag(tmp_path / "bag" / "bag.db3").cameras[0]) == 5
    (tmp_path / "bag" / "metadata.yaml").unlink()
    bag = open_bag(tmp_path / "bag")
    assert [int(bag.cameras[0].image(number)[0, 0, 0]) for number in range(5)] == [0, 10, 20, 30, 40]


def split_bag(folder: Path, listed: int, files: int) -> None:
    """A bag of `files` files of two frames each, of which its metadata names the first `listed`."""
    store = message_store()
    folder.mkdir()
    for number in range(files):
        with Writer(folder / "part", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            connection = writer.add_connection(TOPIC, IMAGE, typestore=store)
            for frame in (2 * number, 2 * number + 1):
                writer.write(connection, START + frame * SECOND // 10, image(store, frame))
        (folder / "part" / "part.mcap").rename(folder / f"drive_{number}.mcap")
        shutil.rmtree(folder / "part")
    names = [f"drive_{number}.mcap" for number in range(listed)]
    (folder / "metadata.yaml").write_text(
        yaml.safe_dump({"rosbag2_bagfile_information": {"version": 9, "relative_file_paths": names}})
    )


def greys(bag: Path) -> tuple[list[int], list[str]]:
    found = open_bag(bag)
    camera = found.cameras[0]
    return [int(camera.image(number)[0, 0, 0]) // 10 for number in range(len(camera))], found.problems


def test_a_bag_is_the_files_that_its_metadata_names_and_what_was_recorded_after(tmp_path: Path) -> None:
    split_bag(tmp_path / "drive", 11, 12)  # the recorder was killed before it named its twelfth
    assert greys(tmp_path / "drive") == (list(range(24)), [])
    shutil.copy(tmp_path / "drive" / "drive_3.mcap", tmp_path / "drive" / "drive_backup.mcap")
    (tmp_path / "drive" / "._drive_3.mcap").write_bytes(b"what a system writes beside a file")
    frames, problems = greys(tmp_path / "drive")
    assert frames == list(range(24))
    (problem,) = problems
    assert "drive_backup.mcap is not named in metadata.yaml, and not read" in problem
    (tmp_path / "drive" / "drive_5.mcap").unlink()
    frames, problems = greys(tmp_path / "drive")
    assert frames == [*range(10), *range(12, 24)]
    assert "drive_5.mcap is missing, which metadata.yaml names" in problems


def test_pages_that_a_killed_recorder_had_half_changed_are_put_back(tmp_path: Path) -> None:
    store = message_store()
    (tmp_path / "live").mkdir()
    (tmp_path / "killed").mkdir()
    with closing(sqlite3.connect(tmp_path / "live" / "live_0.db3", isolation_level=None)) as database:
        make_tables(database)
        for number in range(3):
            insert(database, number, image(store, number))
        database.execute("PRAGMA cache_size=1")
        database.execute("PRAGMA cache_spill=1")
        database.execute("BEGIN")
        for number in range(3, 40):
            insert(database, number, image(store, number) + bytes(5000))
        database.execute("UPDATE messages SET data = x'00' WHERE id < 3")
        for file in (tmp_path / "live").iterdir():
            shutil.copy(file, tmp_path / "killed" / file.name)
        database.execute("ROLLBACK")
    journal = tmp_path / "killed" / "live_0.db3-journal"
    assert journal.stat().st_size
    frames, problems = greys(tmp_path / "killed")
    assert frames == [0, 1, 2]
    assert "the recorder did not close it" in problems[0]


def test_a_camera_that_was_recorded_raw_and_compressed_is_two_cameras(tmp_path: Path) -> None:
    picture = np.zeros((8, 12, 3), np.uint8)
    with BagWriter(tmp_path / "bag") as bag:
        for encoding in ("png", "rgb8"):
            for topic, message in camera_messages(bag.store, picture, START, "front", "lens", encoding):
                bag.write(topic, message, START)
    assert [camera.name for camera in open_bag(tmp_path / "bag").cameras] == ["front", "front/image_raw/compressed"]


@pytest.mark.parametrize("steps", [[1, 1, 1], [1, 0, 1]])
def test_a_bag_of_one_log_time_goes_by_its_stamps(tmp_path: Path, steps: list[int]) -> None:
    store, time = message_store(), 0
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(TOPIC, IMAGE, typestore=store)
        for step in [0, *steps]:
            time += step
            writer.write(connection, START, image(store, time))
    bag = open_bag(tmp_path / "bag")
    rising = 0 not in steps
    assert bag.cameras[0].times_ns == [number * (1 if rising else 40_000_000) for number in range(4)]
    assert ("their stamps are taken" if rising else "taken as 25 a second") in bag.problems[0]


@pytest.mark.parametrize(
    ("logs", "times", "said"),
    [
        ([0, 100, 200, 200, 400, 500], [0, 100, 200, 300, 400, 500], 1),
        ([0, 0, 0, 99, 99, 99, 198], [0, 33, 66, 99, 132, 165, 198], 4),
        ([0, 100, 200, 200], [0, 100, 200, 300], None),
    ],
)
def test_frames_of_one_log_time_are_spread_and_the_run_is_as_long_as_it_was(
    tmp_path: Path, logs: list[int], times: list[int], said: int | None
) -> None:
    store = message_store()
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(TOPIC, IMAGE, typestore=store)
        for log in logs:
            writer.write(connection, START + log * 1_000_000, image(store, 0))
    bag = open_bag(tmp_path / "bag")
    assert [time / 1e6 for time in bag.cameras[0].times_ns] == times
    assert [problem for problem in bag.problems if "log time" in problem] == (
        [f"{TOPIC}: {said} frames have the log time of the one before; spread evenly"] if said else []
    )


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ([], [0, 1, 2, 3, 4, 5, 6]),
        (["--from", "1.5"], [2, 3, 4, 5, 6]),
        (["--from", "1.5", "--seconds", "1"], [2, 3, 6]),
        (["--topics", TOPIC], [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_a_part_of_a_bag_whose_clock_jumped_goes_by_the_time_that_passed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], wanted: list[int]
) -> None:
    """Back by ten seconds, then forward by an hour. One message stands a little late in the bag, which is no jump."""
    store = message_store()
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(TOPIC, IMAGE, typestore=store)
        for number, seconds in enumerate([0.0, 1.0, 2.0, -8.0, -7.0, 3593.0, 3592.2]):
            writer.write(connection, START + round(seconds * SECOND), image(store, number))
    assert main(["bag", "cut", str(tmp_path / "bag"), "--out", str(tmp_path / "part"), *more]) == 0
    jumps = 1 if "--topics" in more else 2
    assert f"the clock jumps {jumps} times; taken as no time between two messages" in capsys.readouterr().err
    found = []
    for channel, _, data in raw_messages(tmp_path / "part", lambda one: one.topic == TOPIC, []):
        found.append(store.deserialize_cdr(data, channel.kind).header.stamp.nanosec)
    assert sorted(found) == wanted


def test_a_delta_that_came_before_what_it_refers_to_is_read_with_its_own_stamp_and_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The blocks of a whole frame, then the delta of frame 2, of a frame that is lost, and of frame 1."""
    monkeypatch.setattr("semhier_ros.scene.remembering.LEAST_OBJECTS", 0)
    codec = Codec.load("road", "cpu", threads=1)
    frame = next(read_video(default_video())).image
    size = (frame.shape[1], frame.shape[0])
    memory, reader = codec.memory(), codec.decoder(size, memory=True)
    made: list[list[Any]] = []
    stamps = [START + number * 80_000_000 for number in range(5)]
    for number, stamp in enumerate(stamps):
        image = np.ascontiguousarray(np.roll(frame, 2 * number, axis=1))
        made.append(codec.encode(image, blocks=4, frame=number, stamp_ns=stamp, memory=memory))
        for block in made[-1]:
            reader.push(block, stamp)
        if not number:
            memory.heard(reader.acknowledgement or b"")
    assert [len(blocks) for blocks in made[1:]] == [1, 1, 1, 1]
    with BagWriter(tmp_path / "bag") as bag:
        messages = Messages(bag.store, codec.taxonomy)
        camera = SimpleNamespace(name="front", frame_id="lens", size=size)
        bag.write("/front/semhier/info", messages.info(codec, camera, START), START)
        for place, number in enumerate((0, 2, 4, 1)):
            for block in made[number]:
                at = START + SECOND + place * 10_000_000 + block.index
                bag.write(f"/front/semhier/level_{block.index}", messages.block(block, stamps[number]), at)
    assert main(["republish", str(tmp_path / "bag"), "--out", str(tmp_path / "again")]) == 0
    assert "0 damaged blocks, 1 frames without what they refer to" in capsys.readouterr().out
    store = message_store()
    found = []
    with AnyReader([tmp_path / "again"], default_typestore=store) as again:
        for connection, at, raw in again.messages():
            if connection.topic == "/front/detections/level_2":
                told: Any = again.deserialize(raw, connection.msgtype)
                found.append((told.frame, stamp_of(told), told.bytes_received, at - START - SECOND))
    assert found[-2:] == [(number, stamps[number], len(made[number][0].data), 30_000_000) for number in (1, 2)]
    assert {number for number, *_ in found} == {0, 1, 2}


def test_a_stream_that_begins_anew_in_other_pictures_is_read_anew(tmp_path: Path) -> None:
    codec = Codec.load("road", "cpu", threads=1)
    frame = next(read_video(default_video())).image
    sizes, wanted = ((640, 360), (1280, 720)), []
    with BagWriter(tmp_path / "bag") as bag:
        messages = Messages(bag.store, codec.taxonomy)
        for number, (stream, size) in enumerate(zip((codec, codec.with_foot_bits()), sizes, strict=True)):
            stamp = START + number * SECOND
            bag.write(
                "/front/semhier/info",
                messages.info(stream, SimpleNamespace(name="front", frame_id="lens", size=size), stamp),
                stamp,
            )
            blocks = stream.encode(cv2.resize(frame, size), frame=number, blocks=2)
            decoder = stream.decoder(size)
            for block in blocks:
                bag.write(f"/front/semhier/level_{block.index}", messages.block(block, stamp), stamp + block.index)
                wanted.append([one.box for one in decoder.push(block).detections])
    assert wanted[0]
    assert main(["republish", str(tmp_path / "bag"), "--out", str(tmp_path / "again")]) == 0
    store = message_store()
    with AnyReader([tmp_path / "again"], default_typestore=store) as reader:
        found = [
            [
                (one.x_min, one.y_min, one.x_max, one.y_max)
                for one in reader.deserialize(raw, connection.msgtype).detections
            ]
            for connection, _, raw in reader.messages()
            if "/detections/level_" in connection.topic
        ]
    for boxes, known in zip(found, wanted, strict=True):
        assert np.array(boxes) == pytest.approx(np.array(known), abs=0.01)


def test_a_pictures_format_is_part_of_what_it_shows() -> None:
    store = message_store()
    first, other = (
        make_message(store, "sensor_msgs/msg/CompressedImage", format=text, data=[1, 2])
        for text in ("bgr8; jpeg compressed bgr8", "rgb8; jpeg compressed rgb8")
    )
    assert image_key(first) != image_key(other)


def test_what_is_named_by_mistake_says_what_to_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    cv2.imwrite(str(pictures / "a.png"), np.zeros((8, 8, 3), np.uint8))
    drive, wide = tmp_path / "drive", tmp_path / "wide.png"
    assert main(["bag", "from-images", str(pictures), "--out", str(drive)]) == 0
    assert len(open_bag(drive / "metadata.yaml").cameras[0]) == 1
    with pytest.raises(BagError, match="holds pictures; make a bag of them first: `semhier bag from-images"):
        open_bag(pictures)
    cut = ["bag", "cut", str(drive), "--out", str(tmp_path / "cut")]
    for words, line in ((["--topics", "/nope"], "no message of /nope"), (["--from", "9"], "no message from 9 s on")):
        assert main([*cut, *words]) == 2
        assert capsys.readouterr().err.rstrip().endswith(f"{drive}: {line}")
    cv2.imwrite(str(wide), np.zeros((1, 17000, 3), np.uint8))
    made = ["bag", "from-images", str(wide), "--out", str(tmp_path / "wide")]
    assert main(made) == 2
    assert "frame 0: 17000x1, expected at most 16384 either way" in capsys.readouterr().err
    assert not (tmp_path / "wide").exists()
    assert main([*made, "--max-width", "16384"]) == 0


def test_raw_frames_of_another_size_are_told_of(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        for number, size in enumerate([(8, 12), (16, 24), (8, 12), (12, 8)]):
            picture = np.full((*size, 3), 90, np.uint8)
            for topic, message in camera_messages(bag.store, picture, START + number, "front", "lens", "rgb8"):
                bag.write(topic, message, START + number * SECOND)
    bag_read = open_bag(tmp_path / "bag")
    assert [bag_read.cameras[0].image(number).shape for number in range(4)] == [(8, 12, 3)] * 4
    assert bag_read.problems == ["/front/image_raw: 2 frames of another size, brought to the first's"]


def make_tables(database: sqlite3.Connection) -> None:
    database.execute(
        "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL,"
        " serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL)"
    )
    database.execute(
        "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT NULL,"
        " data BLOB NOT NULL)"
    )
    database.execute("INSERT INTO topics VALUES (1, ?, ?, 'cdr', '')", (TOPIC, IMAGE))


def insert(database: sqlite3.Connection, number: int, data: bytes) -> None:
    database.execute(
        "INSERT INTO messages(topic_id, timestamp, data) VALUES (1, ?, ?)", (START + number * SECOND // 10, data)
    )


@pytest.mark.parametrize("checkpointed", [0, 5])
def test_rows_of_a_killed_recorder_are_read_from_its_log(tmp_path: Path, checkpointed: int) -> None:
    store = message_store()
    (tmp_path / "live").mkdir()
    with closing(sqlite3.connect(tmp_path / "live" / "live_0.db3")) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA wal_autocheckpoint=0")
        make_tables(database)
        for number in range(20):
            insert(database, number, image(store, number))
            if number + 1 == checkpointed:
                database.commit()
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.commit()
        shutil.copytree(tmp_path / "live", tmp_path / "killed")  # what is on the disk at that moment
    before = sorted(path.name for path in (tmp_path / "killed").iterdir())
    bag = open_bag(tmp_path / "killed")
    assert len(bag.cameras[0]) == 20
    assert any("did not close it" in text for text in bag.problems)
    bag.close()
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == before, "nothing is written beside it"


def latched() -> Qos:
    never = QosTime(2_147_483_647, 4_294_967_295)
    return Qos(
        QosHistory.KEEP_LAST,
        1,
        QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL,
        never,
        never,
        QosLiveliness.AUTOMATIC,
        never,
        False,
    )


def test_a_part_of_a_bag_keeps_its_latched_messages_and_qualities(tmp_path: Path) -> None:
    store = message_store()
    with Writer(tmp_path / "src", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        text = "std_msgs/msg/String"
        static = writer.add_connection("/map_name", text, typestore=store, offered_qos_profiles=[latched()])
        camera = writer.add_connection(TOPIC, IMAGE, typestore=store)
        writer.write(static, START, store.serialize_cdr(make_message(store, text, data="hall"), text))
        for number in range(40):
            writer.write(camera, START + number * SECOND // 10, image(store, number % 20))
    assert (
        main(["bag", "cut", str(tmp_path / "src"), "--from", "2", "--seconds", "1", "--out", str(tmp_path / "mid")])
        == 0
    )
    with AnyReader([tmp_path / "mid"]) as reader:
        counts = {one.topic: one.msgcount for one in reader.connections}
        kept = {one.topic: one.ext.offered_qos_profiles for one in reader.connections}  # type: ignore[union-attr]
    assert counts == {"/map_name": 1, TOPIC: 10}
    assert kept["/map_name"] == [latched()]


def test_no_recording_is_replaced_unless_asked_and_nothing_of_others_ever(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    cv2.imwrite(str(pictures / "a.png"), np.zeros((8, 8, 3), np.uint8))
    drive = tmp_path / "drive"
    make = ["bag", "from-images", str(pictures), "--out", str(drive)]
    assert main(make) == 0
    assert main(make) == 2
    assert "give --force to replace it" in capsys.readouterr().err
    assert main([*make, "--force"]) == 0
    (drive / "notes.txt").write_text("lens changed at noon")
    assert main([*make, "--force"]) == 2
    assert "holds notes.txt beside the recording" in capsys.readouterr().err
    assert main(["bag", "cut", str(drive), "--out", str(drive), "--force"]) == 2
    assert "is the bag that is read" in capsys.readouterr().err
    assert (drive / "notes.txt").is_file()
    assert len(open_bag(drive).cameras[0]) == 1


@pytest.mark.parametrize("read", ["drive", "drive/drive.mcap", "drive/../drive", "link", "link/drive.mcap"])
@pytest.mark.parametrize("written", ["drive", "link", "drive/part"])
@pytest.mark.parametrize("command", [["bag", "cut"], ["republish"]])
def test_a_bag_that_is_read_is_never_replaced(
    tmp_path: Path, read: str, written: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link").symlink_to("drive")
    if written == "drive/part" and read.endswith(".mcap"):
        pytest.skip("beside the file that is read there is room for another bag")
    with BagWriter(tmp_path / "drive") as bag:
        bag.write("/note", make_message(bag.store, "std_msgs/msg/String", data="kept"), START)
    before = (tmp_path / "drive" / "drive.mcap").read_bytes()
    assert main([*command, str(tmp_path / read), "--out", str(tmp_path / written), "--force"]) == 2
    assert "is the bag that is read, or lies in it" in capsys.readouterr().err
    assert (tmp_path / "drive" / "drive.mcap").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "drive").iterdir()) == ["drive.mcap", "metadata.yaml"]


def test_a_bag_behind_a_link_is_replaced_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    for text in ("first", "second"):
        with BagWriter(tmp_path / "link", force=True) as bag:
            bag.write("/note", make_message(bag.store, "std_msgs/msg/String", data=text), START)
    assert (tmp_path / "link").is_symlink()
    assert b"second" in (tmp_path / "disk" / "disk.mcap").read_bytes()


def test_a_place_that_cannot_be_written_is_said_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")
    (tmp_path / "dangling").symlink_to("/nowhere/at/all")
    for place in ("file", "file/sub", "dangling", "dangling/x"):
        with pytest.raises(BagError, match=place.partition("/")[0]):
            check_new_bag(tmp_path / place, force=True)
    assert (tmp_path / "file").read_text() == "hello"


def test_what_was_there_stays_when_a_bag_cannot_be_finished(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="in mid-writing"), BagWriter(tmp_path / "bag"):
        raise RuntimeError("in mid-writing")
    assert not (tmp_path / "bag").exists()
