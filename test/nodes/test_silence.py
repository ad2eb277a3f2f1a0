"""A node that gets nothing says in its log where it listens, and what there is instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="the nodes need ROS 2")

from diagnostic_msgs.msg import DiagnosticStatus

from semhier_ros.nodes.silence import explained
from semhier_ros.nodes.state_log import HOLDS, StateLog

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
IMAGE, OTHER = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"


@pytest.mark.parametrize(
    ("offered", "elsewhere", "said"),
    [
        ([], [], "nobody publishes it"),
        ([OTHER, OTHER], [], f"what is published there is {OTHER}, expected {IMAGE}"),
        ([IMAGE], ["/front (x)"], "it has a publisher, which sends nothing that arrives here"),
        ([], ["/a", "/b"], "nobody publishes it, but there is /a, /b"),
        ([], list("abcdef"), "nobody publishes it, but there is a, b, c, d and 2 more"),
    ],
)
def test_why_nothing_comes(offered: list[str], elsewhere: list[str], said: str) -> None:
    assert explained(IMAGE, offered, elsewhere) == said


def told(states: list[tuple[bytes, str]]) -> list[int]:
    """Which of a subject's states are news, by their index."""
    log = StateLog()
    return [number for number, state in enumerate(states) if log.is_news("front", *state)]


def test_the_log_hears_of_a_state_that_holds_and_once() -> None:
    waiting = [(WARN, f"no image since {second} s") for second in range(20)]
    assert told(waiting) == [HOLDS - 1]


def test_the_log_does_not_hear_of_a_moments_trouble() -> None:
    good, bad = (OK, "5 frames/s; all is sent"), (WARN, "no receiver is connected")
    assert told([good] * 5 + [bad] * (HOLDS - 1) + [good] * 5) == [HOLDS - 1]


def test_the_log_hears_of_what_changes_but_not_of_figures_and_details() -> None:
    good = [(OK, f"{number} frames/s") for number in range(5)]
    full = [(WARN, f"{number} wait; {'all' if number % 2 else 'half'} is sent") for number in range(5)]
    worse = [(ERROR, f"{number} wait") for number in range(5)]
    first = HOLDS - 1
    assert told(good + full + worse + good) == [first, 5 + first, 10 + first, 15 + first]


@pytest.mark.timeout(400)
def test_an_encoder_and_a_decoder_say_where_they_listen_and_what_there_is(
    probe: Any, start: Callable[..., Any], camera: Callable[..., Any], street: list[np.ndarray], pace: float
) -> None:
    """The camera is called `front` here, and nobody told the encoder; then one of its own name comes."""
    encoder, decoder = start("encoder_node"), start("decoder_node", {"cameras": ["rear"]})
    with camera("front", street, pace):
        probe.wait(lambda: "/front/image_raw (sensor_msgs/msg/Image)" in encoder.log(), 90, "the topic there is")
        assert "camera: no image on /camera/image_raw since" in encoder.log()
    with camera("camera", street, pace):
        probe.wait(
            lambda: "but there is /camera/semhier/info (semhier_ros/msg/StreamInfo)" in decoder.log(), 90, "streams"
        )
        assert "rear: nothing is known of camera rear yet" in decoder.log()
        late = start("decoder_node", {"stale_seconds": 60.0}, name="late")
        probe.wait(lambda: "] [late]: camera: " in late.log() and "readings/s" in late.log(), 60, "the first readings")
        probe.wait(lambda: " frames/s; " in encoder.log(), 60, "the encoder's first frames")
    for node in (encoder, decoder, late):
        node.end()
