"""The measured link over real Zenoh sessions: reports flow, clocks are compared, a key keeps strangers out, and the
wire costs what the model says."""

from __future__ import annotations

import json
import socket
import struct
import sys
import time

import pytest

zenoh = pytest.importorskip("zenoh", reason="needs eclipse-zenoh: pip install eclipse-zenoh==1.10.2")

from simulation import FakeBlock, pack, split
from test_zenoh_sessions import free_endpoint, until

from semhier_ros.codec import BlockRequest, Report
from semhier_ros.link import Scheduler, default_policies
from semhier_ros.link.feedback.envelope import Sealer
from semhier_ros.link.receiver import LinkReceiver
from semhier_ros.link.schedule.wire import ZENOH_UDP
from semhier_ros.link.sender import REPLY_SHARE, LinkSender, measured
from semhier_ros.link.zenoh.config import ZenohOptions
from semhier_ros.link.zenoh.transport import ZenohSender, receiving, sending

KEY = bytes(range(16))


class Ends:
    """A measured sender and receiver in this process."""

    def __init__(self, key=None, receiver_key=None, budget=8000.0):
        self.endpoint = free_endpoint()
        self.received, self.infos, self.requests = [], [], []
        self.receiver = LinkReceiver(
            receiving(ZenohOptions(listen=(self.endpoint,))),
            lambda *event: self.received.append(event),
            lambda *event: self.infos.append(event),
            key=receiver_key,
        )
        scheduler = Scheduler(pack, split, default_policies(7, 4), wire=measured(ZENOH_UDP, key), rate=budget)
        self.sender = LinkSender(
            scheduler,
            sending(ZenohOptions(connect=(self.endpoint,))),
            budget=budget,
            key=key,
            on_request=lambda *event: self.requests.append(event),
        )
        self.sender.set_info("front", b"hello")

    def __enter__(self):
        assert self.sender.wait_connected(10.0)
        time.sleep(0.5)
        return self

    def __exit__(self, *exception):
        self.sender.close()
        self.receiver.close()

    def drive(self, frames, pause=0.05, count=4):
        for frame in range(frames):
            blocks = [FakeBlock(index, bytes(20)) for index in range(count)]
            self.sender.offered("front", blocks)
            self.sender.pacer.submit("front", frame, 1000 + frame, blocks)
            time.sleep(pause)


@pytest.mark.parametrize("key", [None, KEY])
def test_reports_flow_and_both_ends_know_their_clocks(key):
    with Ends(key, key) as ends:
        ends.drive(30)
        assert until(lambda: ends.sender.estimate().reports >= 3)
        estimate = ends.sender.estimate()
        assert estimate.refused == 0
        assert estimate.clock_offset == pytest.approx(0.0, abs=max(0.05, estimate.clock_error))
        assert until(lambda: ends.receiver.books("front").clock is not None)
        books = ends.receiver.books("front")
        assert abs(books.clock.offset_us) <= max(50_000, books.clock.error_us)
        assert books.received >= 30
        assert books.refused == 0
        assert ends.infos[0] == ("front", b"hello")
        asked = BlockRequest(finest=6, frame=513)
        assert until(lambda: ends.receiver.request("front", asked.to_bytes()) and ends.requests)
        camera, data = ends.requests[0]
        assert (camera, BlockRequest.from_bytes(data)) == ("front", asked)


def test_without_the_key_nothing_gets_in_or_out():
    with Ends(KEY, None) as ends:
        ends.drive(10)
        assert until(lambda: ends.receiver.counters.get("refused_envelopes", 0) >= 5)
        assert not ends.received
        assert ends.receiver.request("front", b"let me in")
        assert until(lambda: ends.sender.counters.get("requests_refused", 0) >= 1)
        assert not ends.requests


def test_a_recording_played_again_is_refused():
    heard = []
    with Ends(KEY, KEY) as ends:
        taken = ends.receiver._inner._on_datagram
        ends.receiver._inner._on_datagram = lambda *event: (heard.append(event), taken(*event))
        ends.drive(10)
        assert until(lambda: len(ends.received) >= 10)
        count = len(ends.received)
        for event in heard:
            ends.receiver._datagram(*event)
        assert len(ends.received) == count
        assert ends.receiver.books("front").refused == len(heard)


@pytest.mark.parametrize(("key", "waited_for", "places"), [(KEY, None, 1), (None, ("front",), 1), (None, None, 256)])
def test_a_stranger_and_the_places_for_cameras(key, waited_for, places):
    """With a key or names nobody can take the places of real cameras; else they are at most 256."""
    endpoint = free_endpoint()
    received = []
    with LinkReceiver(
        receiving(ZenohOptions(listen=(endpoint,))),
        lambda *event: received.append(event[0]),
        key=key,
        cameras=waited_for,
    ) as receiver:
        assert until(lambda: receiver.open)
        counters = lambda: receiver.counters  # noqa: E731
        with zenoh.open(ZenohOptions(connect=(endpoint,)).config()) as stranger:
            assert until(lambda: receiver.connected)
            forged = Sealer("stranger/packets", bytes(16) if key else None)
            names = [f"stranger/{number}" for number in range(300)]
            told = "refused_envelopes" if key else "refused_cameras"

            def lied():
                for name in names:
                    stranger.put(f"semhier/{name}/0", forged.seal(b"\x10 lies", 0)[0], express=True)
                    stranger.put(f"semhier/{name}/info", b"more lies", express=True)
                    time.sleep(0.001)
                full = places == 1 or len(receiver.cameras) == places
                return full and counters().get(told, 0) >= 100

            assert until(lied, 60.0), counters()
            sealer = Sealer("front/packets", key)

            def arrived():
                stranger.put("semhier/front/0", sealer.seal(b"\x10 the truth", 0)[0], express=True)
                return "front" in received

            assert until(arrived, 30.0 if places == 1 else 0.3) == (places == 1)
        assert len(receiver.cameras) == places
        assert ("front" in receiver.cameras) == (places == 1)


def test_forged_reports_change_nothing():
    with Ends() as ends:
        ends.drive(5)
        ends.receiver.close()  # no true reports in between
        before = ends.sender.estimate()
        forged = Report(7, 60_000, 60_000, 60_000, 1, 1, 1, 1, 1).to_bytes()
        for data in (forged, forged[:-1], b"A" * 29, b"\x21" + bytes(60)):
            ends.sender._on_message("front", data)
            ends.sender._on_message("nobody", data)
        after = ends.sender.estimate()
        assert after.rate == before.rate
        assert after.reports == before.reports
        assert after.refused >= 2


def test_ends_without_envelopes_are_understood():
    endpoint = free_endpoint()
    received = []
    with (
        LinkReceiver(receiving(ZenohOptions(listen=(endpoint,))), lambda *event: received.append(event)),
        ZenohSender(ZenohOptions(connect=(endpoint,))) as sender,
    ):
        assert sender.wait_connected(10.0)
        from test_zenoh_sessions import datagram

        def arrived():
            sender.send(datagram("front", 1, b"\x10 a packet of an older release"))
            return received

        assert until(arrived)
        assert received[0] == ("front", 1, b"\x10 a packet of an older release")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="AF_PACKET is of Linux")
def test_a_packet_capture_agrees_with_the_wire_model():
    try:
        capture = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0003))
    except PermissionError:
        pytest.skip("capturing packets needs root (CAP_NET_RAW)")
    with capture, Ends() as ends:
        port = int(ends.endpoint.rpartition(":")[2])
        capture.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)  # others on this machine use the loopback too
        capture.bind(("lo", 0))
        capture.settimeout(0.2)
        ends.drive(5)  # keys are named by numbers from here on
        time.sleep(0.5)
        while True:
            try:
                capture.recv(65_536)
            except TimeoutError:
                break
        before = ends.sender.status()
        ends.drive(40, pause=0.04)
        ends.sender.pacer.flush(3.0)
        after = ends.sender.status()
        sizes = []
        while True:
            try:
                packet, address = capture.recvfrom(65_536)
            except TimeoutError:
                break
            if address[2] != socket.PACKET_OUTGOING or packet[9] != socket.IPPROTO_UDP:
                continue
            header = 4 * (packet[0] & 15)
            if struct.unpack_from(">H", packet, header + 2)[0] == port:
                sizes.append(struct.unpack_from(">H", packet, 2)[0])
    ours = [size for size in sizes if size >= 61 + 5]
    modelled = after.wire_bytes - after.beside - before.wire_bytes + before.beside
    departures = after.datagrams - before.datagrams
    assert departures <= len(ours) <= departures + 8, "beside packets only declarations and information"
    ours.sort()
    assert sum(ours[-departures:]) == pytest.approx(modelled, rel=0.05)
    bare = ZENOH_UDP.with_overhead(5).wire_bytes(15 + 20) - 20
    assert bare <= 75, f"a coarse message costs {bare} bytes besides its payload"


def test_a_packet_of_30_bytes_costs_79_on_the_wire_and_is_charged_so():
    """44 bytes of Zenoh, UDP and IP, 5 of the envelope; virtual replay: test/camera/test_same_bytes.py."""
    from semhier_ros.link.emulate.emulator import LinkEmulator, parse_link

    endpoint = free_endpoint()
    with LinkEmulator(parse_link("1mbit"), forward_port=int(endpoint.rpartition(":")[2]), keep_log=True) as relay:
        relayed = f"udp/127.0.0.1:{relay.listen_port}"
        scheduler = Scheduler(pack, split, default_policies(2, 2), wire=measured(ZENOH_UDP))
        with (
            LinkReceiver(receiving(ZenohOptions(listen=(endpoint,))), lambda *event: None, report=False) as receiver,
            LinkSender(scheduler, sending(ZenohOptions(connect=(relayed,))), repeats=0) as sender,
        ):
            assert until(lambda: receiver.open)
            sender.set_info("front", b"hello")
            assert sender.wait_connected(10.0)
            for frame in range(60):  # the first ones name their key by its text
                sender.submit("front", frame, frame, [FakeBlock(1, bytes(30 - 12))])
                time.sleep(0.05)
            status = sender.status()
            assert status.datagrams > 50
            assert status.wire_bytes - status.beside == 79 * status.datagrams
            assert status.beside > 0, "descriptions are paid too"
            sizes = [entry[3] for entry in relay.log if entry[0] == "up"][-30:]
    usual = max(set(sizes), key=sizes.count)
    assert usual in (78, 79), "a session's numbers begin anywhere below 2^28: one in 128 sessions takes a byte less"
    assert sizes.count(usual) >= 25, f"the last datagrams took {sizes} bytes on IP"


def test_who_asks_for_descriptions_without_end_cannot_talk_the_budget_empty():
    endpoint = free_endpoint()
    scheduler = Scheduler(pack, split, default_policies(2, 2), wire=measured(ZENOH_UDP), rate=2000.0)
    config = zenoh.Config()
    for key, value in {"listen/endpoints": [endpoint], "scouting/multicast/enabled": False}.items():
        config.insert_json5(key, json.dumps(value))
    with (
        zenoh.open(config) as stranger,
        LinkSender(scheduler, sending(ZenohOptions(connect=(endpoint,))), budget=2000.0) as sender,
    ):
        sender.set_info("front", bytes(100))
        asked = "semhier/front/info"
        answered = []
        assert until(lambda: answered.extend(stranger.get(asked, timeout=1.0)) or answered)
        before, began = sender.counters["info_replies"], time.monotonic()
        for answers in [stranger.get(asked, timeout=1.0) for _ in range(100)]:
            list(answers)
        told, seconds = sender.counters["info_replies"] - before, time.monotonic() - began
        size = measured(ZENOH_UDP).wire_bytes(100)
        assert told <= 2 + seconds * REPLY_SHARE * 2000.0 / size
        assert sender.counters["queries_refused"] > 0  # a query may be lost on UDP, so they do not add up to 100
