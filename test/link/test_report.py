"""What a receiver keeps of a stream for its reports, when it reports, and what clocks make of it."""

from __future__ import annotations

import copy
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semhier_ros.link.feedback.clock_offset import ClockOffset
from semhier_ros.link.feedback.report import ArrivalTracker, ReportClock


def feed(tracker: ArrivalTracker, sequences, start=0.0):
    for place, sequence in enumerate(sequences):
        now = start + place * 0.01
        tracker.arrived(sequence & 0xFFFF, 0, 100, now, int(now * 1e6))


def test_losses_and_runs_are_counted_across_the_wrap():
    tracker = ArrivalTracker()
    lost = {65_500, 65_530, 65_531, 65_532, 65_540, 65_545, 65_546}
    feed(tracker, [number for number in range(65_480, 65_600) if number not in lost])
    assert (tracker.lost, tracker.runs, tracker.duplicates) == (7, 4, 0)
    assert tracker.received == 120 - 7


def test_reordering_within_eight_is_no_loss_and_duplicates_are_counted():
    tracker = ArrivalTracker()
    draw = random.Random(1)
    order = sorted(range(500), key=lambda number: number + draw.random() * 6)
    feed(tracker, order)
    feed(tracker, [495, 499, 480])
    assert (tracker.lost, tracker.duplicates, tracker.received) == (0, 3, 500)


def test_an_outage_is_no_loss_and_a_restart_begins_anew():
    tracker = ArrivalTracker()
    feed(tracker, [*range(100), *range(400, 500)])
    assert (tracker.lost, tracker.outages) == (0, 1)
    feed(tracker, range(30_000, 30_050))
    assert tracker.lost == 0
    assert tracker.report(10.0, 10_000_000).newest == 30_049


def sent(tracker: ArrivalTracker, sequence: int, now: float, clock: float | None = None) -> bool:
    """A datagram that came at once, sent at `clock` of its sender."""
    told = now if clock is None else clock
    return tracker.arrived(sequence & 0xFFFF, int(told * 1000) & 0xFFFF, 100, now, int(now * 1e6))


@pytest.mark.parametrize(
    ("pause", "set_by", "most"), [(2.0, 0.0, 0), (45.0, 0.0, 0), (2.0, -600.3, 2), (9.0, -20.0, 2)]
)
def test_a_sender_that_starts_again_is_heard_whatever_number_it_begins_at(pause, set_by, most):
    """`set_by`: how much its clock was set meanwhile. Numbers next to the newest may be taken for the old sender's."""
    before = ArrivalTracker()
    for place, sequence in enumerate(range(10_000, 10_100)):
        sent(before, sequence, 5.0 + place * 0.05)
    for start in (*range(0, 65_536, 61), *range(6000, 10_200), *range(14_150, 14_250)):
        near = abs(start - 10_100) <= 70
        if near and set_by:
            continue
        tracker = copy.deepcopy(before)
        taken = []
        for place in range(12):
            now = 10.0 + pause + place * 0.05
            taken.append(sent(tracker, start + place, now, now + set_by))
        assert taken.count(False) <= most, start
        assert tracker.report(now, 0).newest == (start + 11) & 0xFFFF
        assert tracker.lost == 0 or near


def test_the_third_datagram_far_behind_begins_anew_where_send_times_tell_nothing():
    tracker = ArrivalTracker()
    feed(tracker, range(10_000, 10_100))
    feed(tracker, range(7000, 7020), start=3.0)
    assert (tracker.received, tracker.duplicates) == (118, 2)


def test_what_is_late_or_comes_twice_is_of_the_same_sender_however_late_it_is():
    tracker = ArrivalTracker()
    for place in range(200):
        sent(tracker, place, place * 0.01)
    assert not sent(tracker, 199, 3.0, 1.99)
    assert not sent(tracker, 40, 3.0, 0.40)
    assert not sent(tracker, 41, 3.0, 0.41)
    assert sent(tracker, 200, 3.1)
    assert not sent(tracker, 42, 3.2, 0.42), "what is newer came in between"
    assert not sent(tracker, 190, 3.2, 1.90)
    assert sent(tracker, 202, 3.3)
    assert sent(tracker, 201, 3.3, 3.2), "late, and the first of its number"
    assert (tracker.received, tracker.duplicates, tracker.lost) == (203, 5, 0)


def test_with_a_key_all_of_a_number_tells_a_new_sender():
    tracker = ArrivalTracker(whole=True)
    start = 1_700_000_000 * 65_536
    for place in range(100):
        assert tracker.arrived(start + place, 7, 100, place * 0.01, 0)
    for place in range(100):
        assert tracker.arrived(start + 2 * 65_536 - 1000 + place, 7, 100, 3.0, 0)
    assert tracker.report(3.0, 0).newest == (start + 2 * 65_536 - 901) & 0xFFFF


def test_the_report_has_the_least_delay_since_the_last():
    tracker = ArrivalTracker()
    for number, delay in enumerate((90, 60, 75)):
        tracker.arrived(number, 1000 + number, 50, 1.0, (1000 + number + delay) * 1000)
    report = tracker.report(1.25, 1_300_000)
    assert (report.delay_ms, report.held_ms, report.echo_ms) == (60, 250, 1002)
    tracker.arrived(3, 2000, 50, 2.0, 2_110_000)
    assert tracker.report(2.0, 2_110_000).delay_ms == 110


@given(
    st.floats(-1e6, 1e6),
    st.lists(st.tuples(st.floats(0.001, 0.5), st.floats(0.001, 0.5)), min_size=1, max_size=30),
)
def test_the_clock_offset_is_within_its_error(apart, delays):
    offset = ClockOffset()
    now = 1000.0
    for there, back in delays:
        sent = now
        offset.add(sent, 0.02, sent + there + 0.02 + apart, sent + there + 0.02 + back, now)
        now += 0.2
    best = offset.best
    assert best is not None
    assert abs(best.seconds - apart) <= best.error + 1e-6
    assert best.round_trip == pytest.approx(min(there + back for there, back in delays[-16:]), abs=1e-6)


def test_times_that_cannot_be_are_refused_and_a_set_clock_is_noticed():
    offset = ClockOffset()
    assert offset.add(100.0, 0.0, 50.0, 99.0, 0.0) is None
    offset.add(100.0, 0.0, 150.05, 100.1, 0.0)
    offset.add(101.0, 0.0, 3151.05, 101.1, 1.0)
    assert offset.samples == 1
    assert offset.best is not None
    assert offset.best.seconds == pytest.approx(3050.0, abs=0.1)


def test_reports_stay_frequent_when_a_link_shrinks_and_become_rare_in_silence():
    clock, now, size = ReportClock(), 0.0, 0
    pauses = []
    for rate in [60_000] * 5 + [0] * 12:
        size += round(rate * 0.1)
        clock.reported(size, now)
        begin = now
        while not clock.due(now):
            now += 0.005
        pauses.append(now - begin)
    assert max(pauses[:7]) < 0.13, "nothing arrived for two reports"
    assert pauses[-1] == pytest.approx(0.49, abs=0.01)
    assert max(pauses[7:10]) < 0.35, "rare by halves"


@pytest.mark.parametrize("pause", [0.08, 2.0])
def test_a_datagram_is_overdue_after_a_longer_pause_than_is_usual(pause):
    tracker = ArrivalTracker()
    for sequence in range(20):
        now = 5.0 + sequence * pause
        assert not tracker.overdue(now), sequence
        assert tracker.arrived(sequence, 0, 60, now, 0)
    assert not tracker.overdue(now + 1.4 * pause)
    assert tracker.overdue(now + 1.6 * pause + 0.02)


def test_a_report_that_presses_comes_soon_and_the_next_ones_as_before():
    clock = ReportClock()
    clock.reported(0, 10.0)
    assert not clock.due(10.2)
    clock.press(10.2)
    assert clock.due(10.2)
    clock.reported(100, 10.2)
    assert not clock.due(10.3)
    assert clock.due(10.37), "another, where the first was lost"
    clock.reported(200, 11.0)
    assert not clock.due(11.4)
    clock.press(11.2, once=True)
    assert clock.due(11.2)
    clock.reported(200, 11.2)
    assert not clock.due(11.6), "one is enough"
