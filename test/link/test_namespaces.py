"""The link between two network namespaces: plain UDP, and ROS 2 on Fast DDS with its discovery."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time

import pytest

from semhier_ros.link.emulate.namespaces import NamespaceLink, namespaces_missing
from semhier_ros.link.emulate.profile import parse_link

MISSING = namespaces_missing()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

ECHO = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
    end.bind(("0.0.0.0", 7000))
    print("ready", flush=True)
    while True:
        data, peer = end.recvfrom(2000)
        end.sendto(data, peer)
"""
ASK = """
import socket, sys, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
    end.settimeout(0.5)
    for number in range(20):
        begin = time.monotonic()
        end.sendto(bytes(100), (sys.argv[1], 7000))
        try:
            end.recv(2000)
        except TimeoutError:
            continue
        print(time.monotonic() - begin, flush=True)
"""
TALK = """
import sys, time, rclpy
from std_msgs.msg import String
rclpy.init()
node = rclpy.create_node("talker")
publisher = node.create_publisher(String, "chatter", 10)
end = time.monotonic() + 40
while time.monotonic() < end:
    publisher.publish(String(data="over the link"))
    rclpy.spin_once(node, timeout_sec=0.2)
"""
LISTEN = """
import time, rclpy
from std_msgs.msg import String
rclpy.init()
node = rclpy.create_node("listener")
heard = []
node.create_subscription(String, "chatter", lambda message: heard.append(message.data), 10)
end = time.monotonic() + 40
while len(heard) < 3 and time.monotonic() < end:
    rclpy.spin_once(node, timeout_sec=0.2)
print(len(heard), flush=True)
"""


def test_udp_has_the_links_delay_and_its_bytes_are_counted():
    with NamespaceLink(parse_link("256kbit,30ms")) as link:
        echo = subprocess.Popen(link.command(1, [sys.executable, "-c", ECHO]), stdout=subprocess.PIPE, text=True)
        try:
            assert echo.stdout is not None
            assert echo.stdout.readline().strip() == "ready"
            asked = subprocess.run(
                link.command(0, [sys.executable, "-c", ASK, link.addresses[1]]),
                capture_output=True,
                text=True,
                timeout=30,
                check=True,
            )
        finally:
            echo.kill()
            echo.wait()
        times = [float(line) for line in asked.stdout.split()]
        assert len(times) == 20
        assert min(times) >= 0.060 + 2 * 128 * 8 / 256_000
        assert link.up.delivered_bytes >= 20 * 128
        assert link.down.delivered >= 20
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert link.names[0] not in names


@pytest.mark.skipif(importlib.util.find_spec("rclpy") is None, reason="rclpy is not installed")
def test_ros_2_finds_its_way_over_a_lossy_link(ros_domain):
    environment = {**os.environ, "ROS_DOMAIN_ID": str(ros_domain), "FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}
    environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "SUBNET"  # LOCALHOST does not reach across namespaces
    with NamespaceLink(parse_link("512kbit,20ms,2%")) as link:
        begin = time.monotonic()
        talker = subprocess.Popen(link.command(0, [sys.executable, "-c", TALK]), env=environment)
        try:
            listened = subprocess.run(
                link.command(1, [sys.executable, "-c", LISTEN]),
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        finally:
            talker.kill()
            talker.wait()
        assert listened.stdout.strip().endswith("3"), listened.stderr
        assert link.up.delivered_bytes > 1000, f"discovery went another way, after {time.monotonic() - begin:.0f} s"
