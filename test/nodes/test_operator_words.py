"""What the diagnostics say of a camera at the base."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("rclpy", reason="the nodes need ROS 2")

from diagnostic_msgs.msg import DiagnosticStatus

from semhier_ros.nodes import operator_words

WELL: dict[str, Any] = {
    "camera": "front",
    "reading_age": 0.2,
    "running": 20.0,
    "stale_seconds": 2.0,
    "latency": 0.1,
    "readings_per_second": 5,
    "known": True,
    "silence": "",
    "unknown_hash": None,
    "connected": None,
    "trouble": "",
    "clash": False,
    "books": None,
    "counts": {},
}


@pytest.mark.parametrize(
    ("change", "level", "said"),
    [
        ({}, DiagnosticStatus.OK, "5 readings/s"),
        ({"latency": -1.8e9}, DiagnosticStatus.WARN, "does /clock run?"),
        ({"unknown_hash": "beef"}, DiagnosticStatus.ERROR, "no model for stream hash beef: add it to `models`"),
        ({"trouble": "udp/0.0.0.0:7447: in use"}, DiagnosticStatus.ERROR, "in use"),
        ({"clash": True}, DiagnosticStatus.ERROR, "two senders use the name front"),
        ({"reading_age": 3.0}, DiagnosticStatus.WARN, "newest reading 3.0 s ago"),
        ({"reading_age": 30.0}, DiagnosticStatus.ERROR, "newest reading 30.0 s ago"),
        ({"known": False, "reading_age": None}, DiagnosticStatus.WARN, "nothing is known of camera front yet"),
        (
            {"known": False, "silence": "nobody publishes it"},
            DiagnosticStatus.WARN,
            "nothing is known of camera front yet, after 20 s: nobody publishes it",
        ),
        ({"connected": False}, DiagnosticStatus.WARN, "the link is not connected"),
    ],
)
def test_the_base_says_what_is_wrong_and_what_to_do(change: dict[str, Any], level: bytes, said: str) -> None:
    found, text, _ = operator_words.decoder(**(WELL | change))
    assert said in text
    assert found == level
