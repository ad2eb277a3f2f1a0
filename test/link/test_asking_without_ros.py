"""A station on which no ROS 2 is installed asks a robot's sender for blocks over Zenoh."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("zenoh", reason="needs eclipse-zenoh: pip install eclipse-zenoh==1.10.2")

from test_zenoh_sessions import free_endpoint, until

from semhier_ros.codec import BlockRequest
from semhier_ros.link.zenoh.config import ZenohOptions
from semhier_ros.link.zenoh.transport import ZenohSender

STATION = """
import sys, time
for name in ("rclpy", "semhier_ros.msg", "torch", "openvino"):
    sys.modules[name] = None
from semhier_ros.codec import BlockRequest
from semhier_ros.link.zenoh.config import ZenohOptions
from semhier_ros.link.zenoh.transport import ZenohReceiver
with ZenohReceiver(ZenohOptions(listen=(sys.argv[1],)), lambda *packet: True) as base:
    end = time.monotonic() + 20
    while time.monotonic() < end and base.cameras.get("front") is None:
        time.sleep(0.05)
    for request in (BlockRequest(finest=6, frame=513), BlockRequest(finest=0, duration_ms=60_000)):
        print(base.request("front", request.to_bytes()), flush=True)
    sys.stdin.readline()
"""


def test_a_station_without_ros_asks_for_a_frame_and_for_less() -> None:
    endpoint, asked = free_endpoint(), []
    command = [sys.executable, "-c", STATION, endpoint]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as station,
        ZenohSender(
            ZenohOptions(connect=(endpoint,)), on_request=lambda camera, data: asked.append((camera, data))
        ) as robot,
    ):
        robot.set_info("front", b"a description")
        assert until(lambda: len(asked) == 2, 30.0)
        out, _ = station.communicate("done\n", timeout=20)
    assert out.split() == ["True", "True"]
    assert [(camera, BlockRequest.from_bytes(data)) for camera, data in asked] == [
        ("front", BlockRequest(6, 513)),
        ("front", BlockRequest(0, duration_ms=60_000)),
    ]
