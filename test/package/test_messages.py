"""The messages as the wire sees them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

MESSAGES = sorted((Path(__file__).resolve().parents[2] / "msg").glob("*.msg"))
FIELD = re.compile(r"^([A-Za-z0-9_/]+(?:\[\])?) ([a-z][a-z0-9_]*)$")


def fields(path: Path) -> list[tuple[str, str]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [match.group(1, 2) for line in lines if (match := FIELD.match(line))]


@pytest.mark.parametrize("path", MESSAGES, ids=lambda path: path.stem)
def test_every_field_stands_under_its_description(path: Path) -> None:
    described = False
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            described = True
        elif not line.strip():
            described = False
        else:
            assert FIELD.match(line), line
            assert described, f"{path.name}: {line}"


@pytest.mark.parametrize("path", MESSAGES, ids=lambda path: path.stem)
def test_the_built_message_is_this_one(path: Path) -> None:
    messages = pytest.importorskip("semhier_ros.msg", reason="the messages are not built: run make")
    built = getattr(messages, path.stem).get_fields_and_field_types()
    assert list(built) == [name for _, name in fields(path)]


def test_a_stream_info_of_usual_size_is_under_150_bytes() -> None:
    serialization = pytest.importorskip("rclpy.serialization", reason="needs ROS 2")
    from semhier_ros.msg import StreamInfo

    message = StreamInfo(
        camera="front/camera",
        frame_id="front_camera_optical_frame",
        width=1920,
        height=1080,
        model="road",
        stream_hash="0123456789abcdef",
        model_hash="fedcba9876543210",
    )
    message.stamp.sec = 1_700_000_000
    data = serialization.serialize_message(message)
    assert len(data) < 150
    assert serialization.deserialize_message(data, StreamInfo) == message


def test_a_semantic_block_costs_20_bytes_beside_its_data() -> None:
    serialization = pytest.importorskip("rclpy.serialization", reason="needs ROS 2")
    from semhier_ros.msg import SemanticBlock

    assert len(serialization.serialize_message(SemanticBlock(data=b"x" * 40))) <= 40 + 20


def test_every_float_array_and_path_survives() -> None:
    serialization = pytest.importorskip("rclpy.serialization", reason="needs ROS 2")
    from semhier_ros.msg import SemanticDetection, SemanticDetectionArray

    detection = SemanticDetection(
        id=7,
        x_min=1.5,
        y_min=2.5,
        x_max=30.25,
        y_max=40.75,
        path=[0, 2, 11],
        names=["vehicle", "cycle", "bicycle"],
    )
    detection.scores = [0.75, 0.5, 0.25]
    array = SemanticDetectionArray(frame=65535, level=2, prefix=2, bytes_received=61, detections=[detection])
    assert serialization.deserialize_message(serialization.serialize_message(array), SemanticDetectionArray) == array
