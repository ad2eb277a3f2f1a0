"""What the diagnostics say of a camera at the base."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="the nodes need ROS 2")

from diagnostic_msgs.msg import DiagnosticStatus

from semhier_ros.link.schedule.status import LevelStatus, SchedulerStatus
from semhier_ros.nodes import operator_words
from semhier_ros.nodes.link_parameters import meeting_place
from semhier_ros.nodes.parameter_tables import DECODER

WELL: dict[str, Any] = {
    "camera": "front",
    "reading_age": 0.2,
    "running": 20.0,
    "stale_seconds": 2.0,
    "latency": 0.1,
    "readings_per_second": 5,
    "known": True,
    "silence": "",
    "place": "at udp/10.0.0.2:7447",
    "unknown": None,
    "connected": None,
    "trouble": "",
    "clash": False,
    "books": None,
    "clocks": False,
    "counts": {},
}


@pytest.mark.parametrize(
    ("change", "level", "said"),
    [
        ({}, DiagnosticStatus.OK, "5 readings/s"),
        ({"latency": -1.8e9}, DiagnosticStatus.WARN, "does /clock run?"),
        (
            {"unknown": "street (stream beef)"},
            DiagnosticStatus.ERROR,
            "model street (stream beef), which none of `models` is",
        ),
        ({"trouble": "udp/0.0.0.0:7447: in use"}, DiagnosticStatus.ERROR, "in use"),
        ({"clash": True}, DiagnosticStatus.ERROR, "two senders use the name front"),
        ({"reading_age": 3.0}, DiagnosticStatus.WARN, "newest reading 3.0 s ago"),
        ({"reading_age": 30.0}, DiagnosticStatus.ERROR, "newest reading 30.0 s ago"),
        ({"reading_age": None}, DiagnosticStatus.WARN, "no reading in 20 s"),
        ({"known": False, "reading_age": None}, DiagnosticStatus.WARN, "nothing is known of camera front yet"),
        (
            {"known": False, "silence": "nobody publishes it"},
            DiagnosticStatus.WARN,
            "nothing is known of camera front yet, after 20 s: nobody publishes it",
        ),
        (
            {"connected": False},
            DiagnosticStatus.WARN,
            "the link is not connected: no sender at udp/10.0.0.2:7447; newest reading 0.2 s ago",
        ),
        ({"connected": True, "clocks": True}, DiagnosticStatus.WARN, "their offset is unknown"),
        ({"connected": True, "clocks": False}, DiagnosticStatus.OK, "5 readings/s"),  # a radio, which has no clocks
        ({"latency": 3000.0}, DiagnosticStatus.WARN, "readings are 3000 s old by their stamps"),
    ],
)
def test_the_base_says_what_is_wrong_and_what_to_do(change: dict[str, Any], level: bytes, said: str) -> None:
    found, text, _ = operator_words.decoder(**(WELL | change))
    assert said in text
    assert found == level


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "on its block topics"),
        ({"transport": "zenoh"}, "at udp/127.0.0.1:7447"),
        (
            {"transport": "zenoh", "zenoh_connect": [""], "zenoh_listen": ["udp/0.0.0.0:1"]},
            "listening on udp/0.0.0.0:1",
        ),
        ({"transport": "udp", "udp_peer": "base:1", "udp_listen": "0.0.0.0:2"}, "at base:1 or listening on 0.0.0.0:2"),
        ({"transport": "serial", "serial_device": "/dev/ttyUSB0"}, "at /dev/ttyUSB0"),
        ({"transport": "mavlink", "mavlink_device": "/dev/ttyACM0"}, "at /dev/ttyACM0"),
        ({"transport": "mavlink", "mavlink_listen": "0.0.0.0:14550"}, "listening on 0.0.0.0:14550"),
    ],
)
def test_where_the_other_end_is_looked_for(given: dict[str, Any], said: str) -> None:
    values = {parameter.attribute: parameter.default for parameter in DECODER}
    values |= {f"link_{name}": value for name, value in given.items()}
    assert meeting_place(SimpleNamespace(**values)) == said


SENDS: dict[str, Any] = {
    "topic": "/camera/image_raw",
    "wanted": "image",
    "silence": "nobody publishes it",
    "place": "listening on udp/0.0.0.0:7447",
    "image_age": 0.1,
    "running": 30.0,
    "frames_per_second": 5,
    "wished_rate": 5.0,
    "encode_seconds": 0.03,
    "relief": "look once",
    "status": SchedulerStatus(8000.0, 750, 90, 9000, 0, (LevelStatus(0),)),
    "late": 0,
    "blocks": ["level_0"],
    "words": "6 kbit/s of 64 used",
    "estimate": None,
    "spoilt": {},
    "counts": {"bad_images": 40, "failed_frames": 7},
}


@pytest.mark.parametrize(
    ("change", "connected", "level", "said"),
    [
        ({}, True, DiagnosticStatus.OK, "5 frames/s; 6 kbit/s of 64 used"),
        ({}, False, DiagnosticStatus.WARN, "no receiver is connected (listening on udp/0.0.0.0:7447)"),
        ({"late": 3}, True, DiagnosticStatus.WARN, "too thin for the coarsest block: 3 were too late to leave"),
        (
            {"image_age": None},
            True,
            DiagnosticStatus.ERROR,
            "no image on /camera/image_raw since 30 s: nobody publishes",
        ),
        (
            {"frames_per_second": 2, "wished_rate": 10.0, "encode_seconds": 0.42},
            True,
            DiagnosticStatus.WARN,
            "encoding takes 420 ms, too long for 10 frames/s: look once; 2 frames/s; 6 kbit/s",
        ),
        (
            {"frames_per_second": 9, "wished_rate": 10.0, "encode_seconds": 0.11},
            True,
            DiagnosticStatus.OK,
            "9 frames/s",
        ),
        ({"frames_per_second": 2, "wished_rate": 10.0}, True, DiagnosticStatus.OK, "2 frames/s"),
        ({"frames_per_second": 0}, True, DiagnosticStatus.OK, "0 frames/s"),  # what could not be read is long past
        (
            {"frames_per_second": 0, "spoilt": {"bad_images": 3}},
            True,
            DiagnosticStatus.ERROR,
            "images on /camera/image_raw cannot be read (40 so far; the log says why)",
        ),
        (
            {"frames_per_second": 0, "spoilt": {"failed_frames": 3}},
            False,
            DiagnosticStatus.ERROR,
            "frames cannot be encoded (7 so far; the log says why)",
        ),
        ({"image_age": 3.0}, True, DiagnosticStatus.WARN, "the last image on /camera/image_raw came 3 s ago: nobody"),
    ],
)
def test_the_robot_says_what_is_wrong_and_what_to_do(
    change: dict[str, Any], connected: bool, level: bytes, said: str
) -> None:
    transport = SimpleNamespace(trouble="", connected=connected, counters={})
    found, text, _ = operator_words.encoder(**(SENDS | change), transport=transport)
    assert said in text
    assert found == level


def test_frames_are_spoilt_from_when_none_is_made_until_one_is() -> None:
    seconds: list[dict[str, int]] = [{"encoded": 3, "bad_images": 2}, {"failed_frames": 1}, {"datagrams": 3}]
    said: list[dict[str, int]] = []
    for grown in [*seconds, {}, {"encoded": 1}, {}]:
        said.append(dict(operator_words.spoilt_frames(said[-1] if said else {}, grown)))
    failed = {"failed_frames": 1}
    assert said == [{}, failed, failed, failed, {}, {}]
