"""Doors for tools without ROS: what they say is what is known, and no wire holds anything up."""

from __future__ import annotations

import json
import math
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from semhier_ros.codec.reading import Detection
from semhier_ros.ground import GroundError, Located
from semhier_ros.ground.doors import outlet as wires
from semhier_ros.ground.doors.cursor_on_target import event, events
from semhier_ros.ground.doors.geojson import feature
from semhier_ros.ground.doors.mavlink import MavlinkDoor
from semhier_ros.ground.doors.outlet import Outlet, Pace, outlet_problem
from semhier_ros.ground.earth import Fix, latitude_longitude

FIX = Fix(48.137, 11.575, 520.0, math.pi / 2, 1.5)  # faces north
PERSON = Located(
    Detection(4, (320.0, 120.0, 352.0, 240.0), (0, 1), ("person", 'a "tall" <one>'), (0.9, 0.7)),
    10.0, 1.0, 9.8, 10.05, 0.1, (0.4, 0.0, 0.0, 0.1), 0.4, 0.5, 1.7, 0.1, "ground", (2.0, 0.0), (0.1, 0.0, 0.0, 0.1),
)  # fmt: skip
CAR = Located(
    Detection(5, (0.0, 0.0, 9.0, 9.0), (0, 0), ("vehicle", "car"), (0.8, 0.5)),
    20.0, 0.0, 18.0, 20.0, 0.0, (1.0, 0.0, 0.0, 0.2), 4.4, 1.8, 1.5, 0.0, "size",
)  # fmt: skip
NOW = 1_700_000_000_123_456_789


def test_an_event_says_where_what_and_until_when() -> None:
    root = ElementTree.fromstring(event(PERSON, FIX, uid="semhier.front.4", now_ns=NOW, stale_seconds=5.0))
    assert root.tag == "event"
    assert root.attrib == {
        "version": "2.0", "uid": "semhier.front.4", "type": "a-u-G", "how": "m-f",
        "time": "2023-11-14T22:13:20.123Z", "start": "2023-11-14T22:13:20.123Z", "stale": "2023-11-14T22:13:25.123Z",
    }  # fmt: skip
    point = root.find("point")
    assert point is not None
    wanted = latitude_longitude(FIX, 10.0, 1.0)
    assert (float(point.attrib["lat"]), float(point.attrib["lon"])) == pytest.approx(wanted, abs=1e-7)
    assert float(point.attrib["ce"]) == pytest.approx(math.sqrt((0.4 + 0.1) / 2 + 1.5**2), abs=0.05)
    track = root.find("detail/track")
    assert track is not None
    assert (float(track.attrib["course"]), float(track.attrib["speed"])) == (0.0, 2.0)  # north
    contact = root.find("detail/contact")
    assert contact is not None
    assert contact.attrib["callsign"] == 'a "tall" <one> 90%'
    made = events([PERSON, CAR], FIX, camera="front", now_ns=NOW, stale_seconds=5.0)
    assert sorted(made) == [4, 5]
    car = ElementTree.fromstring(made[5])
    assert (car.attrib["uid"], car.attrib["type"]) == ("semhier.front.5", "a-u-G-E-V")
    assert car.find("detail/track") is None


def test_a_feature_is_one_line_of_geojson() -> None:
    line = feature(PERSON, FIX, camera="front", stamp_ns=NOW, stale_seconds=5.0)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    made = json.loads(line)
    assert made["type"] == "Feature"
    longitude, latitude = made["geometry"]["coordinates"]
    assert (latitude, longitude) == pytest.approx(latitude_longitude(FIX, 10.0, 1.0), abs=1e-7)
    told = made["properties"]
    assert (told["name"], told["path"][0], told["course"], told["speed"]) == ('a "tall" <one>', "person", 0.0, 2.0)
    assert told["time"] == "2023-11-14T22:13:20.123Z"
    assert told["sigma_north"] == pytest.approx(math.sqrt(0.4 + 2.25), abs=0.01)
    assert "speed" not in json.loads(feature(CAR, FIX, camera="a", stamp_ns=0, stale_seconds=1.0))["properties"]


def test_pymavlink_that_is_missing_is_named_as_pip_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymavlink.dialects.v20", None)
    with pytest.raises(GroundError, match=r"pymavlink is not installed: pip install pymavlink$"):
        MavlinkDoor()


def test_mavlink_messages_are_read_back_by_its_own_parser() -> None:
    common = pytest.importorskip("pymavlink.dialects.v20.common", reason="pymavlink is not installed (extra `mavlink`)")
    door = MavlinkDoor(system=7)
    reader = common.MAVLink(None)
    data = door.image_status(PERSON, (640, 480)) + door.geo_status(PERSON, FIX) + door.follow_target(PERSON, FIX, 5000)
    image, geo, follow = reader.parse_buffer(data)
    assert (image.get_srcSystem(), image.get_srcComponent(), follow.get_seq()) == (7, 100, 2)
    assert (image.tracking_status, image.tracking_mode) == (1, 2)
    assert (image.rec_top_x, image.rec_top_y, image.rec_bottom_x, image.rec_bottom_y) == pytest.approx(
        (0.5, 0.25, 0.55, 0.5)
    )
    latitude, longitude = latitude_longitude(FIX, 10.0, 1.0)
    assert (geo.lat, geo.lon) == (round(latitude * 1e7), round(longitude * 1e7))
    assert (geo.dist, geo.vel_n, geo.vel_e) == pytest.approx((10.05, 2.0, 0.0), abs=1e-4)
    assert geo.hdg == pytest.approx(2 * math.pi - 0.1, abs=1e-5)  # 0.1 to the left of north
    assert follow.est_capabilities == 3
    assert follow.timestamp == 5000
    (nothing,) = reader.parse_buffer(door.image_status(None, (640, 480)))
    assert nothing.tracking_status == 0
    (still,) = reader.parse_buffer(door.geo_status(CAR, FIX))
    assert math.isnan(still.vel_n)
    with pytest.raises(GroundError, match="mavlink system: 0"):
        MavlinkDoor(system=0)


def wait(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.01)


def test_datagrams_leave_one_message_each() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as base:
        base.bind(("127.0.0.1", 0))
        base.settimeout(10)
        out = Outlet(f"udp://127.0.0.1:{base.getsockname()[1]}")
        out.put(b"one")
        out.put(b"two")
        out.put(b"x" * 5000)
        assert [base.recv(2000), base.recv(2000)] == [b"one", b"two"]
        out.close()
        assert dict(out.counters) == {"sent": 2, "too_large": 1, "dropped": 1}


def test_multicast_goes_one_hop() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as base:
        base.bind(("", 0))
        try:
            member = socket.inet_aton("239.2.3.1") + socket.inet_aton("127.0.0.1")
            base.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        except OSError as error:
            pytest.skip(f"this machine has no multicast: {error}")
        out = Outlet(f"udp://239.2.3.1:{base.getsockname()[1]}")
        out.put(b"event")
        wait(lambda: out.counters.total())
        out.close()
        assert out.counters["sent"] or "unreachable" in out.last_error


def test_a_tcp_server_that_comes_late_gets_what_comes_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wires, "RECONNECT_SECONDS", 0.05)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        out = Outlet(f"tcp://127.0.0.1:{port}")
        out.put(b"lost")
        wait(lambda: out.counters["errors"])
        assert "refused" in out.last_error.lower()
        server.listen()
        time.sleep(0.1)
        out.put(b"<event/>")
        wait(lambda: out.counters["sent"])
        peer, _ = server.accept()
        with peer:
            assert peer.recv(100) == b"<event/>"
        out.close()


def test_a_file_grows_by_lines_and_a_full_queue_drops(tmp_path: Path) -> None:
    path = tmp_path / "objects.geojson"
    out = Outlet(f"file:{path}")
    for _ in range(3):
        out.put(b"line\n")
    out.close()
    assert path.read_bytes() == b"line\n" * 3
    broken = Outlet(f"file:{tmp_path}/none/there")
    broken.put(b"x")
    wait(lambda: broken.counters["errors"])
    broken.close()
    broken._thread.join(5)
    for _ in range(wires.QUEUE + 5):
        broken.put(b"x")
    assert broken.counters["dropped"] >= 4


@pytest.mark.parametrize(
    "target",
    ["", "udp://", "udp://host", "http://a:1", "tcp://a:99999", "file:", "udp://a:1/path", "nonsense", "tcp://[::1"],
)
def test_a_target_that_is_none_is_refused(target: str) -> None:
    assert outlet_problem(target) is not None
    with pytest.raises(GroundError, match="expected udp://HOST:PORT"):
        Outlet(target)


@pytest.mark.parametrize(
    "target", ["udp://239.2.3.1:6969", "tcp://tak.example:8087", "file:/tmp/x", "udp://[ff02::1]:7"]
)
def test_a_target_that_is_one_is_taken(target: str) -> None:
    assert outlet_problem(target) is None


def test_each_object_passes_at_its_own_rate() -> None:
    now = [0.0]
    pace = Pace(2.0, lambda: now[0])
    assert [pace.due("a"), pace.due("a"), pace.due("b")] == [True, False, True]
    now[0] = 0.5
    assert [pace.due("a"), pace.due("a")] == [True, False]
    assert all(Pace(0.0).due("a") for _ in range(3))
    for number in range(20_000):
        pace.due(number)
    assert len(pace._due) <= wires.MOST_PACED + 1
