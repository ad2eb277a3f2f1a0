"""What the player says about how well it keeps a bag's timing."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: run `make`")

from semhier_ros.nodes.player_node import LATE_SECONDS, TOLD_SECONDS, Timing


def test_in_time_and_late() -> None:
    timing = Timing()
    assert LATE_SECONDS == 0.005
    assert not any(timing.passed(late) for late in (0.0001, 0.0049, 0.003))
    assert str(timing) == "all within 5 ms of the bag's timing (worst 4.9 ms)"
    assert not timing.passed(0.02)  # a camera of ten pictures a second is still a fifth of the way to the next
    assert str(timing) == "1 of them more than 5 ms behind the bag's timing (worst 20 ms)"
    assert TOLD_SECONDS == 0.05
    assert timing.passed(0.06)
    assert not timing.passed(0.001)
    assert str(timing) == "2 of them more than 5 ms behind the bag's timing (worst 60 ms)"
    assert (timing.messages, timing.late) == (6, 2)
