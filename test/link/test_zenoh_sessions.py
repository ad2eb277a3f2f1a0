"""Zenoh ends in this process: options, a router in between, hostile traffic, closing."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import ClassVar

import pytest

zenoh = pytest.importorskip("zenoh", reason="needs eclipse-zenoh: pip install eclipse-zenoh==1.10.2")

from semhier_ros.link import Datagram, Transport
from semhier_ros.link.feedback.envelope import Sealer
from semhier_ros.link.receiver import LinkReceiver
from semhier_ros.link.zenoh.config import ZenohOptions
from semhier_ros.link.zenoh.transport import ZenohReceiver, ZenohSender, receiving


def free_endpoint(protocol: str = "udp") -> str:
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as found:
        found.bind(("127.0.0.1", 0))
        return f"{protocol}/127.0.0.1:{found.getsockname()[1]}"


def datagram(camera="camera", level=0, payload=b"x" * 20) -> Datagram:
    return Datagram(camera, level, payload, 64, 1, 0, 0, (level,))


def until(condition, seconds=30.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(condition())


def router(endpoint: str):
    config = zenoh.Config()
    for key, value in {"mode": "router", "listen/endpoints": [endpoint], "scouting/multicast/enabled": False}.items():
        config.insert_json5(key, json.dumps(value))
    return zenoh.open(config)


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_through_a_router_that_comes_late_and_restarts(protocol):
    endpoint = free_endpoint(protocol)
    options = ZenohOptions(connect=(endpoint,), mode="client")
    received, infos, requests = [], [], []
    with (
        ZenohReceiver(options, lambda *event: received.append(event), lambda *event: infos.append(event)) as receiver,
        ZenohSender(options, on_request=lambda *event: requests.append(event)) as sender,
    ):
        sender.set_info("front/left", b"hello")
        assert isinstance(sender, Transport)
        assert not sender.send(datagram("front/left"))
        assert sender.counters["dropped_unconnected"] == 1
        for _ in range(2):
            between = router(endpoint)
            received.clear()

            def arrived():
                sender.send(datagram("front/left", 2))
                return received

            assert until(arrived)
            assert received[0] == ("front/left", 2, b"x" * 20)
            between.close()
            assert until(lambda: not sender.connected)
        assert infos[0] == ("front/left", b"hello")
        assert until(lambda: not receiver.connected)
        assert not receiver.request("front/left", b"more")


def test_hostile_traffic_is_counted_and_changes_nothing():
    endpoint = free_endpoint()
    received, infos = [], []
    with ZenohReceiver(
        ZenohOptions(listen=(endpoint,)), lambda *event: received.append(event), lambda *event: infos.append(event)
    ) as receiver:
        assert until(lambda: receiver.open)
        with zenoh.open(ZenohOptions(connect=(endpoint,)).config()) as stranger:
            assert until(lambda: receiver.connected)
            time.sleep(0.5)
            for key, size in (
                ("semhier/camera/0", 66_000),
                ("semhier/camera/99", 10),
                ("semhier/camera/zero", 10),
                ("semhier/0", 10),
                ("semhier/camera/info", 2000),
                ("semhier/camera/3", 0),
                ("semhier/a b/0", 10),
                ("semhier/1/2/3/4/5/6/7/8/9/info", 10),
            ):
                stranger.put(key, bytes(size), express=True)
            assert until(lambda: receiver.counters.get("refused") == 8)
            stranger.put("semhier/camera/3", b"good", express=True)
            assert until(lambda: received == [("camera", 3, b"good")])
    assert infos == []


def test_a_stranger_whose_name_is_none_costs_no_camera_its_reports():
    endpoint = free_endpoint()
    reports = []
    with LinkReceiver(receiving(ZenohOptions(listen=(endpoint,))), lambda *event: None) as receiver:
        assert until(lambda: receiver.open)
        with zenoh.open(ZenohOptions(connect=(endpoint,)).config()) as stranger:
            stranger.declare_subscriber("semhier/front/request", reports.append)
            assert until(lambda: receiver.connected)
            forged, true = Sealer("a b/packets"), Sealer("front/packets")

            def told(count):
                stranger.put("semhier/a b/0", forged.seal(b"\x10 lies", 0)[0], express=True)
                stranger.put("semhier/front/0", true.seal(b"\x10 the truth", 0)[0], express=True)
                return len(reports) >= count

            assert until(lambda: told(3))
        assert list(receiver.cameras) == ["front"]
        assert "errors" not in receiver.counters


def test_a_report_that_cannot_be_sent_costs_no_other_camera_its_own():
    said = []

    class Carries:
        counters: ClassVar = {}

        def __init__(self, hooks):
            self.hooks = hooks

        def request(self, camera, data):
            if camera == "wrong":
                raise ValueError("no such camera")
            said.append(camera)
            return True

    made = []
    receiver = LinkReceiver(lambda hooks: made.append(Carries(hooks)) or made[0], lambda *event: None)
    for camera in ("wrong", "right"):
        made[0].hooks.on_datagram(camera, 0, Sealer(f"{camera}/packets").seal(b"\x10", 0)[0])
    made[0].hooks.on_tick(time.monotonic())
    assert said == ["right"]
    assert receiver.counters["reports"] == receiver.counters["reports_failed"] == 1


def test_a_failing_callback_is_counted_and_survived():
    endpoint = free_endpoint()

    def fail(*_event):
        raise RuntimeError("a bug of the user")

    with (
        ZenohReceiver(ZenohOptions(listen=(endpoint,)), fail) as receiver,
        ZenohSender(ZenohOptions(connect=(endpoint,))) as sender,
    ):
        assert sender.wait_connected(5.0)

        def failed_twice():
            sender.send(datagram())
            return receiver.counters.get("errors", 0) >= 2

        assert until(failed_twice)
        assert receiver.last_error == "RuntimeError: a bug of the user"


def test_closing_ends_every_thread():
    before = set(threading.enumerate())
    endpoint = free_endpoint()
    receiver = ZenohReceiver(ZenohOptions(listen=(endpoint,)), lambda *_event: None)
    sender = ZenohSender(ZenohOptions(connect=(endpoint,)))
    sender.set_info("camera", b"hello")
    sender.wait_connected(5.0)
    for end in (sender, receiver, sender):
        end.close()
    assert until(lambda: set(threading.enumerate()) <= before)
    assert not sender.send(datagram())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "connect or listen must name at least one endpoint"),
        ({"connect": ("base:7447",)}, "connect endpoints look like udp/host:port"),
        ({"listen": ("udp/[::]:7447",), "prefix": "a//b"}, "prefix must be 1 to 8 chunks"),
        ({"listen": ("udp/[::]:7447",), "mode": "router"}, "mode must be peer or client, not 'router'"),
        ({"listen": ("udp/[::]:7447",), "retry": 0.5}, "retry must be 0.01 to 0.25, not 0.5"),
        ({"listen": ("udp/[::]:7447",), "lease": 0}, "lease must be 1.0 to 600.0, not 0"),
        ({"listen": ("udp/[::]:7447",), "batch": 100}, "batch must be 500 to 65000, not 100"),
    ],
)
def test_options_are_checked(options, says):
    with pytest.raises(ValueError, match=r"must|look like") as caught:
        ZenohOptions(**options)
    assert says in str(caught.value)


def test_names_and_lengths_are_checked():
    endpoint = free_endpoint()
    with (
        ZenohSender(ZenohOptions(listen=(endpoint,))) as sender,
        ZenohReceiver(ZenohOptions(connect=(endpoint,)), lambda *_event: None) as receiver,
    ):
        with pytest.raises(ValueError, match="camera must be 1 to 8 chunks"):
            sender.set_info("a/**", b"x")
        with pytest.raises(ValueError, match="info must be 1 to 1024 bytes, not 0"):
            sender.set_info("camera", b"")
        with pytest.raises(ValueError, match="request must be 1 to 1024 bytes, not 2000"):
            receiver.request("camera", bytes(2000))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"listen": ("udp/nohost.invalid:7447",)}, "a host name of these is not known here: listen udp/nohost.invalid"),
        ({"connect": ("udp/nohost.invalid:7447",)}, "connect udp/nohost.invalid:7447"),
        ({"connect": ("udp/127.0.0.1",)}, "an endpoint looks like udp/host:port"),
        ({"connect": ("tls/127.0.0.1:9",), "root_ca": "/nowhere.pem"}, "root_ca: '/nowhere.pem' cannot be read"),
        ({"listen": ("tls/127.0.0.1:0",), "certificate": "/nowhere.pem", "private_key": "/no"}, "certificate: '/nowh"),
        ({"listen": ("udp/127.0.0.1:0",), "dictionary": "/nowhere"}, "dictionary: '/nowhere' cannot be read"),
        ({"connect": ("udp/127.0.0.1:9",), "mode": "client"}, "no Zenoh router answers at udp/127.0.0.1:9"),
    ],
)
def test_why_a_session_cannot_open_is_told_within_seconds(wrong, says):
    with ZenohSender(ZenohOptions(**wrong)) as sender:
        assert until(lambda: sender.trouble)
        assert says in sender.trouble
        assert ".rs:" not in sender.trouble, "no place in somebody's source"
        assert not sender.open


def test_a_second_end_on_a_port_says_so_and_opens_once_the_port_is_free():
    options = ZenohOptions(listen=(free_endpoint(),))
    with ZenohSender(options) as first:
        assert until(lambda: first.open)
        with ZenohSender(options) as second:
            assert until(lambda: second.trouble)
            assert "Address already in use" in second.trouble
            assert "give `listen` another port" in second.trouble
            first.close()
            assert until(lambda: second.open)
            assert second.trouble == ""
