"""The measured link as a whole over virtual time: it follows the link, repairs what it loses, and keeps its bounds."""

from __future__ import annotations

import random

import pytest
from closed_loop import CLOCKS_APART, WIRE, run

from semhier_ros.codec.report import Report
from semhier_ros.link.emulate.direction import LinkDirection
from semhier_ros.link.emulate.profile import LinkProfile
from semhier_ros.link.feedback.rate_control import LARGEST_RATE, LEAST_RATE, Feedback, RateController
from semhier_ros.link.feedback.repair import LossMeter, plan, residual_loss
from semhier_ros.link.feedback.sender_control import SenderControl
from semhier_ros.link.schedule.wire import ZENOH_UDP
from semhier_ros.link.transport import Datagram


@pytest.mark.parametrize(
    ("link", "share", "latest"),
    [("64kbit,50ms,5%", 0.99, 0.4), ("64kbit,50ms,20%", 0.97, 1.0), ("64kbit,50ms,20%,burst4", 0.95, 1.0)],
)
def test_coarse_comes_through_what_the_link_loses(link, share, latest):
    results = [run(link, 40.0, budget=7760.0, seed=seed) for seed in range(1, 5)]
    assert sum(result.share(since=2.0) for result in results) / len(results) >= share
    for result in results:
        assert result.late(1.0) <= latest
        estimate = result.control.estimate(40.0)
        assert estimate.refused == 0
        assert estimate.rate == 7760.0, "losses alone were taken for congestion"
        assert estimate.clock_offset == pytest.approx(CLOCKS_APART, abs=estimate.clock_error)


def test_a_sender_of_little_keeps_its_rate_where_bursts_are_lost():
    """As where frames refer to what is remembered: a dozen datagrams of some tens of bytes a second."""
    for seed in range(1, 13):
        result = run("64kbit,50ms,20%,burst4", 20.0, budget=7760.0, frames=12.5, sizes=(14,), seed=seed)
        low = [rate < 3880.0 for at, rate in result.rates if at > 1.0]
        assert sum(low) <= 0.15 * len(low), f"seed {seed}: losses were taken for a queue"
        assert result.share(since=1.0) > 0.93


def test_a_step_of_the_link_is_followed_down_and_up():
    sizes = (30, 10, 15, 30, 2500, 5000, 9000)
    link = "512kbit,50ms,step32kbit@10s,step512kbit@20s"
    latest = []
    for seed in range(1, 6):
        result = run(link, 30.0, budget=62_000.0, sizes=sizes, seed=seed)
        down = [rate for at, rate in result.rates if 11.0 < at < 20.0]
        assert max(down) <= 2 * 4000.0
        latest.append(max(result.late(1.0, 11.0, 20.0), result.late(1.0, 21.0, 30.0)))
        assert result.late(0.95, 11.5, 20.0) < 0.4
        assert result.received(11.0, 20.0) > 0.8 * 4000.0, "the small link was not used"
        assert result.received(24.0, 30.0) > 0.8 * 64_000.0, "the large link was not used"
        assert result.rates[-1][1] == 62_000.0, "the sender never came back"
    assert sorted(latest)[2] < 0.4, "later than the bar of the link bench: median of five runs"
    assert max(latest) < 0.7


def test_after_a_step_down_readings_are_fresh_again_within_a_second():
    """The bar of the link bench: past a step's first second no coarse reading is older than 400 ms."""
    link = "512kbit,50ms,step32kbit@5s,step512kbit@15s,step32kbit@20s"
    latest = []
    for seed in range(1, 9):
        result = run(link, 30.0, budget=62_000.0, seed=seed)
        latest += [result.late(1.0, 6.0, 15.0), result.late(1.0, 21.0, 29.5)]
        assert result.late(1.0, 16.0, 20.0) < 0.2
        assert result.received(6.0, 15.0) > 0.85 * 4000.0, "the small link was not used"
    latest.sort()
    assert latest[8] < 0.3
    assert latest[-2] < 0.4


def test_the_budget_is_an_upper_bound_and_the_rate_stays_within_its_own():
    draw = random.Random(3)
    for ceiling in (None, 500.0, 8000.0, 1e9):
        controller = RateController(ceiling)
        top = min(ceiling or LARGEST_RATE, LARGEST_RATE)
        received, at = 0.0, 0.0
        for _ in range(3000):
            at += draw.choice((0.05, 0.1, 0.5))
            received += draw.random() * 1e5
            delay = draw.choice((0.0, 0.02, 0.3, 5.0)) * draw.random()
            pending = draw.choice((None, delay, 3.0))
            loss = draw.random()
            rate = controller.report(
                Feedback(delay, pending, received, at, draw.random() * 1e6, loss, draw.choice((None, 0.1)), 245.0), at
            )
            assert min(LEAST_RATE, top) <= rate <= top
            controller.silent(at + draw.choice((0.0, 5.0)))
            assert min(LEAST_RATE, top) <= controller.rate <= top


def test_descriptions_and_notes_are_paid_from_the_budget_and_leave_no_queue_behind():
    busy = run("16kbit,50ms", 25.0, budget=1940.0, frames=22.0, sizes=(28, 9, 3), info=bytes(900))
    assert sum(size for _, size in busy.left) <= 25.0 * 1940.0 + WIRE.wire_bytes(900)
    assert busy.late(0.9, since=4.0) < 0.200  # 50 ms of way and 50 ms of the packet itself among them


@pytest.mark.parametrize("link", ["64kbit,50ms", "64kbit,50ms,5%,jitter20ms"])
@pytest.mark.parametrize(("receiver_by", "sender_by"), [(0.5, 0.0), (-0.5, 0.0), (0.0, 0.5), (0.0, -0.5), (3.0, 0.0)])
def test_a_clock_that_is_set_is_not_taken_for_a_queue(link, receiver_by, sender_by):
    steps = {"set_at": 10.0, "receiver_by": receiver_by, "sender_by": sender_by}
    for seed in range(1, 4):
        result = run(link, 30.0, budget=7760.0, seed=seed, **steps)
        assert min(rate for at, rate in result.rates if at > 5.0) > 3880.0
        assert result.late(1.0, 9.0, 29.0) < 0.5
        estimate = result.control.estimate(30.0)
        assert estimate.clock_offset == pytest.approx(CLOCKS_APART + receiver_by - sender_by, abs=estimate.clock_error)


@pytest.mark.parametrize("set_by", [0.5, -0.5])
def test_a_queue_is_still_a_queue_after_a_clock_was_set(set_by):
    """The link becomes thin a moment after, and where the round trip grows too the sender gives way."""
    for link in ("512kbit,50ms,step32kbit@10.4s", "512kbit,50ms,step32kbit@14s"):
        result = run(link, 30.0, budget=62_000.0, set_at=10.0, receiver_by=set_by)
        step = float(link.rpartition("@")[2][:-1])
        assert max(rate for at, rate in result.rates if step + 1.5 < at) <= 2 * 4000.0
        assert result.late(0.95, step + 1.5, 29.0) < 0.4


def test_two_receivers_of_one_stream_are_each_compared_with_themselves():
    """The second joins late, loses by chances of its own and has a clock of its own."""
    for seed in range(1, 4):
        result = run("64kbit,50ms,20%", 60.0, budget=7760.0, seed=seed, second=("64kbit,50ms,20%", 7.0))
        estimate = result.control.estimate(60.0)
        assert estimate.refused == 0
        measured = [loss for at, loss in result.losses if at > 20.0]
        assert sum(measured) / len(measured) == pytest.approx(0.2, abs=0.03)
        assert estimate.repair.repeats == 3
        assert min(rate for at, rate in result.rates if at > 10.0) > 3880.0


def test_the_receiver_that_loses_most_is_followed_while_it_speaks():
    result = run("64kbit,50ms", 40.0, budget=7760.0, second=("64kbit,50ms,20%", 5.0))
    measured = [loss for at, loss in result.losses if at > 20.0]
    assert sum(measured) / len(measured) == pytest.approx(0.2, abs=0.04)


@pytest.mark.parametrize(
    "beside", [{"asks": 8.0, "info": bytes(200)}, {"tells": 50.0}, {"asks": 8.0, "info": bytes(500)}]
)
def test_nobody_can_talk_the_budget_empty(beside):
    """Descriptions that are asked for and notes leave before blocks that wait."""
    result = run("64kbit,50ms", 45.0, budget=1000.0, frames=5.0, sizes=(20, 4, 4, 4), until=30.0, **beside)
    frames = [frame for frame, born in result.born.items() if born < 44.0]
    early = [frame for frame in frames if 2.5 < result.born[frame] < 30.0]
    assert sum(result.coarse.get(frame, 9.0) < 1.0 for frame in early) >= 0.8 * len(early)
    after = [frame for frame in frames if result.born[frame] >= 30.5]
    assert sum(result.coarse.get(frame, 9.0) < 0.5 for frame in after) >= 0.9 * len(after)
    assert sum(size for _, size in result.left) <= 45.0 * 1000.0 + WIRE.wire_bytes(1024)


def test_a_new_ceiling_holds_at_once():
    controller = RateController(8000.0)
    controller.set_ceiling(2000.0)
    assert controller.rate == 2000.0
    controller.set_ceiling(None)
    assert controller.ceiling == LARGEST_RATE


@pytest.mark.parametrize(("loss", "burst"), [(0.05, 1.0), (0.2, 1.0), (0.2, 4.0), (0.1, 8.0)])
def test_the_model_of_repeated_losses_is_what_the_emulator_does(loss, burst):
    way = LinkDirection("up", LinkProfile(loss=loss, burst=burst, seed=2))
    fates = [way.lost() for _ in range(200_000)]
    apart = 3
    both = sum(a and b for a, b in zip(fates, fates[apart:], strict=False)) / len(fates)
    real = burst if burst > 1 else 1 / (1 - loss)
    assert both == pytest.approx(residual_loss(loss, real, apart, 2), rel=0.15)


def test_reports_come_sooner_only_where_what_came_cannot_be_read():
    few = {"budget": 8000, "frames": 5.0, "sizes": (10, 1, 1, 1)}
    calm = run("64kbit,10ms", 10.0, unread=lambda camera: False, **few).reports
    assert calm == run("64kbit,10ms", 10.0, **few).reports
    assert calm <= 25
    assert run("64kbit,10ms", 10.0, unread=lambda camera: True, **few).reports >= 2 * calm


def test_a_sender_hears_that_something_is_lacking_while_nothing_comes():
    few = {"budget": 8000, "frames": 12.5, "sizes": (20, 10, 10, 10)}
    heard = run("64kbit,50ms", 19.0, pause=(10.0, 11.0), remembers=lambda camera: b"\x05\x09", **few).memory
    assert [memory for _, memory in heard] == [b"\x05\x09", b"\x45\x09", b"\x05\x09"]
    assert 10.1 < heard[1][0] < 10.4, "the last frame before the pause arrives by 10.06"
    quiet = run("64kbit,50ms,jitter20ms", 19.0, remembers=lambda camera: b"\x05\x09", **few).memory
    assert [memory for _, memory in quiet] == [b"\x05\x09"], "nothing is overdue where nothing is lost"


def test_repeats_follow_the_loss_and_gaps_follow_the_runs():
    assert plan(0.0, 1.0, 40.0).repeats == 0
    assert plan(0.05, 1.05, 40.0).repeats == 1
    assert plan(0.2, 1.25, 40.0).repeats == 3
    assert plan(0.2, 1.25, 40.0).gap < 0.05
    assert plan(0.2, 4.0, 40.0).gap > 0.1
    assert plan(0.9, 30.0, 1.0).gap == 0.2


def test_the_loss_meter_follows_and_forgets():
    meter = LossMeter()
    assert 0.01 < meter.loss < 0.03
    for _ in range(50):
        meter.add(80, 20, 5)
    assert meter.loss == pytest.approx(0.2, abs=0.01)
    assert meter.burst == pytest.approx(4.0, abs=0.4)
    for _ in range(50):
        meter.add(100, 0, 0)
    assert meter.loss < 1e-3
    assert meter.burst == pytest.approx(1.0, abs=0.05)


def test_advice_gives_up_bytes_before_frames():
    def advice(rate: float, wanted: float = 10.0):
        control = SenderControl(rate, ZENOH_UDP.with_overhead(5))
        for _ in range(30):
            control.submitted("c", 40, 60, 160, 1.0)
        return control.advice("c", wanted)

    assert advice(20_000.0) == (10.0, None) or advice(20_000.0).semantic_bytes is None
    tight = advice(1900.0)
    assert tight.frames_per_second == 10.0
    assert tight.semantic_bytes is not None
    assert 40 <= tight.semantic_bytes < 160
    tiny = advice(500.0)
    assert 3.5 < tiny.frames_per_second < 5.0
    assert advice(500.0, 2.0).frames_per_second == 2.0
    assert SenderControl(None, ZENOH_UDP, adapt=False).advice("c", 10.0).semantic_bytes is None


@pytest.mark.parametrize(("rate", "plan"), [(8000.0, (1, True)), (5000.0, (1, False)), (2200.0, (0, True))])
def test_a_repeat_gives_up_its_names_before_it_is_given_up(rate: float, plan: tuple[int, bool]):
    wire = ZENOH_UDP.with_overhead(5)
    control = SenderControl(rate, wire)
    for number in range(40):
        now = 1.0 + number / 20
        control.submitted("c", 20, 60, 80, now)
        control.sent(Datagram("c", 0, b"", wire.wire_bytes(35), 1, number, 0, (0,)), number, now, now)
    found = control.repair(now)
    assert (found.repeats, found.names) == plan


def test_where_the_link_decides_how_many_frames_they_come_whole():
    wire = ZENOH_UDP.with_overhead(5)

    def frames(coarse: int, semantic: int, rate: float = 2000.0):
        control = SenderControl(rate, wire)
        control.submitted("c", coarse, coarse, semantic, 1.0)
        return control.advice("c", 0.0).frames_per_second

    assert frames(30, 42) * wire.wire_bytes(42 + 15 + 3) == pytest.approx(0.9 * 2000.0)
    alone = 0.9 * 2000.0 / wire.wire_bytes(30 + 15)
    assert frames(30, 600) == pytest.approx(alone / 1.5)  # many objects: names and detail may stay behind
    assert frames(30, 30) < alone < 1.05 * frames(30, 30)
    assert frames(30, 42, 1e6) == 0.0


def test_reports_about_what_was_never_sent_are_refused():
    control = SenderControl(8000.0, ZENOH_UDP)
    assert not control.report("c", Report(1, 2, 3, 4, 5, 6, 7, 8, 9), 100.0, 1.0)
    assert control.estimate(1.0).refused == 1
    assert control.rate == 8000.0


def test_after_an_outage_coarse_flows_at_once_and_nothing_old_comes():
    result = run("64kbit,50ms,outage20s@4s", 30.0, budget=7760.0)
    arrivals = sorted((result.born[frame] + late, late) for frame, late in result.coarse.items())
    after = [entry for entry in arrivals if entry[0] >= 24.0]
    assert after[0][0] < 25.0
    assert max(late for _, late in after) < 1.1
    assert not [at for at, _ in arrivals if 4.2 < at < 24.0]
    assert len([at for at, _ in after if at > 26.0]) >= 38, "ten frames a second again"
    assert [rate for at, rate in result.rates if at > 29.0][-1] > 0.8 * 7760.0
