"""Whose report it is: several receivers of one stream, reports that overtake each other, and what cannot be."""

from __future__ import annotations

import random
from dataclasses import replace

from semhier_ros.codec.report import Report
from semhier_ros.link.feedback.hearers import MOST_HEARERS, SILENT_SECONDS, Hearers, Left
from semhier_ros.link.feedback.report import ArrivalTracker
from semhier_ros.link.feedback.sender_control import SenderControl
from semhier_ros.link.schedule.wire import ZENOH_UDP
from semhier_ros.link.transport import Datagram


def left(number: int) -> Left:
    return Left(number & 0xFFFF, 0.05 * number, 0.05 * number, number, 100 * number)


def report(newest: int, received: int, lost: int, *, at: float | None = None) -> Report:
    clock = round(1e6 * (0.05 * newest if at is None else at))
    return Report(newest & 0xFFFF, received & 0xFFFF, lost, min(lost, 1), 0, 0, 0, 100 * received, clock)


def test_a_report_that_is_overtaken_adds_nothing_and_the_next_one_only_what_is_new():
    hearers = Hearers()
    hearers.take(report(100, 90, 10), left(100), 0.0)
    assert hearers.take(report(120, 108, 12), left(120), 0.5)[1][:2] == (18, 2)
    assert hearers.take(report(110, 99, 11), left(110), 0.6)[1] is None
    assert hearers.take(report(120, 108, 12), left(120), 0.7)[1] is None, "the same once more"
    assert hearers.take(report(130, 118, 12), left(130), 0.8)[1][:2] == (10, 0)


def test_no_more_can_have_come_than_left():
    hearers = Hearers()
    known, _ = hearers.take(report(100, 90, 10), left(100), 0.0)
    for wrong in (report(120, 200, 10), report(120, 90, 60), replace(report(120, 105, 10), payload_bytes=1 << 20)):
        other, added = hearers.take(wrong, left(120), 0.5)
        assert other is not known
        assert added == (0, 0, 0, 0)
    assert hearers.take(report(120, 110, 10), left(120), 0.6) == (known, (20, 0, 0, 2000))


def test_receivers_are_told_apart_however_their_reports_come():
    draw = random.Random(5)
    hearers, trackers = Hearers(), [ArrivalTracker() for _ in range(3)]
    found = [[0, 0] for _ in trackers]
    kept: list = [None] * len(trackers)
    for number in range(1, 4001):
        now = 0.05 * number
        for place, tracker in enumerate(trackers):
            if number > 40 * place and draw.random() > 0.1 * place:
                tracker.arrived(number & 0xFFFF, int(now * 1000) & 0xFFFF, 100, now, int(now * 1e6))
            if tracker.heard and draw.random() < 0.2:
                said = tracker.report(now, int(now * 1e6) + 300_000 * place)
                hearer, added = hearers.take(said, left(number - (number - said.newest) % 0x10000), now)
                kept[place] = kept[place] or hearer
                assert hearer is kept[place], number
                found[place][0] += added.received
                found[place][1] += added.lost
    for place, (received, lost) in enumerate(found):
        assert abs(lost / (received + lost) - 0.1 * place) < 0.02
    assert hearers.followed(now) is kept[2], "the one that loses most"
    said = trackers[0].report(now + 2.0, int(now * 1e6) + 2_000_000)
    hearers.take(replace(said, received=said.received + 1), left(4001), now + SILENT_SECONDS + 0.5)
    assert hearers.followed(now + SILENT_SECONDS + 0.5) is kept[0], "the only one that speaks"


def test_strangers_without_end_are_forgotten():
    hearers = Hearers()
    for number in range(50):
        hearers.take(report(100 + number, 1000 * number, 0), left(100 + number), 0.1 * number)
    assert len(hearers._all) == MOST_HEARERS


def test_a_flood_of_forged_reports_does_not_move_the_loss():
    control = SenderControl(8000.0, ZENOH_UDP)
    for number in range(200):
        now = 100.0 + 0.05 * number
        control.sent(Datagram("c", 0, b"", 100, 1, number, 0, (0,)), number, now, now)
        told = Report(number, number, 0, 0, int(now * 1000) & 0xFFFF, 0, 50, 100 * number, round((now + 0.05) * 1e6))
        assert control.report("c", told, now + 0.1, now + 0.1)
        assert control.report("c", replace(told, lost=5000 + 100 * number, runs=1), now + 0.1, now + 0.1)
    assert control.estimate(now).loss < 0.02
