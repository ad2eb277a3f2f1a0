"""Real Zenoh sessions in processes of their own, talking through an emulated thin link."""

from __future__ import annotations

import socket
import time
from statistics import quantiles

import pytest

pytest.importorskip("zenoh", reason="needs eclipse-zenoh: pip install eclipse-zenoh==1.10.2")

from link_processes import End

from semhier_ros.link.emulate.emulator import LinkEmulator, parse_link

SEMANTIC = (40, 10, 15, 30)
WITH_PICTURES = (*SEMANTIC, 400, 900, 2000)


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def datagrams(events):
    return [event for event in events if event["event"] == "datagram"]


def frames_seen(events):
    """Per frame the delay (seconds) from submission to the first arrival of its block 0."""
    seen = {}
    for event in datagrams(events):
        if event["first"] == 0:
            seen.setdefault(event["frame"], event["at"] - event["born"])
    return seen


def only(events, kind):
    return [event for event in events if event["event"] == kind]


def test_delivery_information_request_and_the_bytes_of_the_wire():
    with (
        LinkEmulator(parse_link("512kbit,20ms"), forward_port=(port := free_port())) as link,
        End("receive", port) as receiver,
        End("send", link.listen_port, 3, 10, 64_000, *SEMANTIC) as sender,
    ):
        sent, received = sender.events(), receiver.ended()
        up = link.up
    assert set(frames_seen(received)) == {event["frame"] for event in only(sent, "submit")}
    assert {event["count"] for event in datagrams(received)} == {4, 3}
    assert [event["info"] for event in only(received, "info")][:1] == ["what never changes"]
    assert [event["data"] for event in only(sent, "request")] == ["finer please"]
    counters = only(sent, "counters")[0]
    other = up.offered_bytes - counters["wire_bytes"]
    assert -3 * counters["datagrams"] <= other <= 1500, "wire model: 3 bytes a datagram too much at most, and set-up"


def test_coarse_overtakes_pictures_and_the_budget_holds():
    with (
        LinkEmulator(parse_link("64kbit,50ms"), forward_port=(port := free_port()), keep_log=True) as link,
        End("receive", port) as receiver,
        End("send", link.listen_port, 5, 10, 7800, *WITH_PICTURES) as sender,
    ):
        sent, received = sender.events(), receiver.ended()
        up, log = link.up, link.log
    delays = frames_seen(received)
    assert len(delays) == len(only(sent, "submit")) == 50
    assert quantiles(delays.values(), n=20)[-1] < 0.25, "a coarse block waited for pictures"
    assert any(event["level"] >= 4 for event in datagrams(received)), "no picture fitted at all"
    assert up.dropped_queue == 0, "the sender filled the radio's queue"
    times = [(entry[1], entry[3]) for entry in log if entry[0] == "up"]
    first = next(event["at"] for event in only(sent, "submit")) - link._started
    for start in range(int(first) + 1, int(first) + 4):
        assert sum(size for at, size in times if start <= at < start + 1) <= 7800 + 245 + 300


def test_five_percent_loss_takes_hardly_a_coarse_reading():
    with (
        LinkEmulator(parse_link("64kbit,50ms,5%,seed3"), forward_port=(port := free_port())) as link,
        End("receive", port) as receiver,
        End("send", link.listen_port, 6, 20, 7800, *SEMANTIC) as sender,
    ):
        sent, received = sender.events(), receiver.ended()
        assert link.up.dropped_loss > 0
    share = len(frames_seen(received)) / len(only(sent, "submit"))
    assert share >= 0.97


def test_outage_late_joiner_and_nothing_stale():
    with (
        LinkEmulator(parse_link("64kbit,50ms"), forward_port=(port := free_port())) as link,
        End("send", link.listen_port, 7, 10, 7800, *WITH_PICTURES) as sender,
    ):
        sender.until(lambda events: bool(only(events, "described")))
        with End("receive", port) as receiver:
            receiver.until(lambda events: len(datagrams(events)) >= 20)
            link.outage(2.0)
            begin, end = time.monotonic(), time.monotonic() + 2.0
            sender.events()
            received = receiver.ended()
    arrivals = [event["at"] for event in datagrams(received)]
    assert only(received, "info"), "the late joiner never learned of the camera"
    assert not [at for at in arrivals if begin + 0.3 < at < end], "the outage let something through"
    assert [at for at in arrivals if at > end], "the link did not come back"
    for event in datagrams(received):
        lifespan = 1.0 if event["first"] == 0 else 2.0
        assert event["at"] - event["born"] < lifespan + 0.3, "something stale arrived"


def test_the_receiver_is_killed_and_the_sender_finds_its_successor():
    with (
        LinkEmulator(parse_link("256kbit,20ms"), forward_port=(port := free_port())) as link,
        End("send", link.listen_port, 200, 10, 30_000, *SEMANTIC),
    ):
        for _ in range(2):
            with End("receive", port) as receiver:
                receiver.until(lambda events: len(datagrams(events)) >= 10)
                receiver.process.kill()
