"""One direction of a link over virtual time: rates, steps, traces, order, duplicates, outages."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from semhier_ros.link.emulate.direction import LinkDirection, VirtualLink
from semhier_ros.link.emulate.profile import LinkProfile, parse_link, read_trace


def drain(link: VirtualLink) -> list[tuple[float, object]]:
    return link.arrivals(float("inf"))


def test_what_is_sent_at_once_leaves_at_the_rate_and_arrives_after_the_delay():
    link = VirtualLink(parse_link("80kbit,50ms"))
    for number in range(3):
        assert link.send(number, 500, 7.0) == ""
    assert drain(link) == [(pytest.approx(7.10), 0), (pytest.approx(7.15), 1), (pytest.approx(7.20), 2)]
    assert (link.counters.delivered, link.counters.delivered_bytes) == (3, 1500)


def test_a_step_of_the_rate_slows_a_datagram_down_on_its_way():
    link = VirtualLink(parse_link("80kbit,step8kbit@10s,step80kbit@12s"))
    link.send("a", 1000, 9.95)
    # 500 bytes until 10 s, 500 bytes at 1,000 bytes/s after it.
    assert drain(link) == [(pytest.approx(10.5), "a")]
    link.send("b", 2500, 10.5)
    # 1,500 bytes until 12 s, the rest at 10,000 bytes/s.
    assert drain(link) == [(pytest.approx(12.1), "b")]


def test_the_queue_of_a_slower_step_is_the_slower_rates():
    way = LinkDirection("up", parse_link("800kbit,step8kbit@1s"))
    taken = sum(not way.pass_through(500, 1.0)[1] for _ in range(20))
    assert taken == 6, "3,000 bytes wait at most"


def test_a_trace_gives_1500_bytes_at_each_of_its_milliseconds(tmp_path):
    file = tmp_path / "trace"
    file.write_text("10\n10\n40\n100\n")
    link = VirtualLink(parse_link(f"1Mbit,queue3kB,trace={file}"))
    for number in range(5):
        link.send(number, 1500, 0.0)
    assert [round(time, 3) for time, _ in drain(link)] == [0.010, 0.010], "the queue holds 3,000 bytes"
    wide = VirtualLink(replace(parse_link(f"1Mbit,trace={file}"), queue_bytes=100_000))
    for number in range(6):
        wide.send(number, 1000, 0.0)
    # A datagram may end in the next opportunity than it began in.
    assert [round(time, 3) for time, _ in drain(wide)] == [0.010, 0.010, 0.010, 0.040, 0.100, 0.100]
    assert wide.send("late", 1500, 1.005) == ""
    assert drain(wide) == [(pytest.approx(1.010), "late")]


@pytest.mark.parametrize("text", ["", "x\n", "5\n4\n", "0\n", "-3\n"])
def test_a_bad_trace_is_refused_with_its_line(tmp_path, text):
    file = tmp_path / "trace"
    file.write_text(text)
    with pytest.raises(ValueError, match="trace"):
        read_trace(file)


def test_a_trace_file_that_is_missing_is_named():
    with pytest.raises(ValueError, match="trace /no/where"):
        parse_link("1Mbit,trace=/no/where")


def test_reordering_and_duplication_are_counted_and_seen():
    link = VirtualLink(parse_link("unlimited,20ms,reorder20%,duplicate10%,seed4"))
    for number in range(1000):
        link.send(number, 100, number * 0.001)
    found = [number for _, number in drain(link)]
    counters = link.counters
    assert len(found) == 1000 + counters.duplicated
    assert 60 < counters.duplicated < 140
    assert 140 < counters.reordered < 260
    assert sum(later < earlier for earlier, later in pairwise(found)) > 50


def test_an_outage_takes_what_is_offered_in_it():
    link = VirtualLink(parse_link("unlimited,outage2s@5s"), start=100.0)
    assert [link.send(at, 100, 100.0 + at) for at in (4.9, 5.0, 6.9, 7.0)] == ["", "outage", "outage", ""]


def test_the_same_seed_is_the_same_fate():
    def fate(seed: int) -> list[str]:
        way = LinkDirection("up", LinkProfile(loss=0.2, burst=4.0, seed=seed))
        return [way.pass_through(100, float(number))[1] for number in range(500)]

    assert fate(3) == fate(3) != fate(4)


@pytest.mark.parametrize("text", ["64kbit,step32kbit", "64kbit,step0@3s", "64kbit,step1kbit@3s,step2kbit@2s"])
def test_steps_that_make_no_sense_are_refused(text):
    with pytest.raises(ValueError, match="step"):
        parse_link(text)
