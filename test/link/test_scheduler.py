"""The scheduler's order, packing, repeats and drops, case by case."""

from __future__ import annotations

from itertools import pairwise

import pytest
from simulation import SIZES, FakeBlock, frame_blocks, scheduler

from semhier_ros.link import UNMETERED, LevelPolicy, Scheduler, SchedulerLimits, default_policies
from semhier_ros.link.schedule.packing import LARGEST_PACKET, SMALLEST_PACKET


def departures(link, now=0.0, until=10.0):
    found = []
    while (when := link.next_departure(now)) is not None and when < until:
        now = when
        datagram = link.pop(now)
        if datagram is not None:
            found.append((now, datagram))
    return found


def test_blocks_that_fit_travel_together_and_coarse_goes_twice():
    link = scheduler(64_000.0)
    assert link.submit("camera", 1, 100, frame_blocks(4), 0.0) == 4
    (at, first), (later, second) = departures(link)
    assert (at, first.blocks, first.copy, first.level, first.priority) == (0.0, (0, 1, 2, 3), 0, 0, 1)
    assert (second.blocks, second.copy) == ((0, 1, 2), 1)
    assert later >= 0.030
    assert (second.frame, second.stamp_ns) == (1, 100)
    assert first.wire_bytes == link.wire.wire_bytes(len(first.payload))


def test_on_a_thin_link_coarse_goes_alone_until_coarse_packets_fill_it():
    link = scheduler(8000.0)
    first = []
    for frame in range(40):
        link.submit("camera", frame, frame, frame_blocks(4), frame * 0.03)
        found = departures(link, frame * 0.03, until=frame * 0.03 + 0.03)
        first.append(next((item.blocks for _, item in found if (item.frame, item.copy) == (frame, 0)), None))
    assert first[:4] == [(0,)] * 4
    assert (0, 1, 2, 3) in first[4:]


@pytest.mark.parametrize(("names", "together"), [((4, 4, 9), True), ((10, 10, 12), True), ((12, 12, 12), False)])
def test_names_that_take_less_than_5_ms_leave_with_the_coarse_block(names, together):
    """At 7,760 bytes/s that is 38 bytes of their own; what the coarse block takes by itself is not counted to them."""
    link = scheduler(7760.0)
    link.submit("camera", 1, 1, frame_blocks(4, (18, *names)), 0.0)
    first = departures(link)[0][1]
    assert first.blocks == ((0, 1, 2, 3) if together else (0,))


def test_newest_coarse_first_then_repeats_then_finer():
    link = scheduler(8000.0)
    link.submit("a", 1, 1, frame_blocks(7), 0.0)
    departed = departures(link, until=0.05)
    link.submit("b", 2, 2, [FakeBlock(0, bytes(180))], 0.05)
    link.submit("a", 2, 2, [FakeBlock(0, bytes(180))], 0.05)
    order = [(datagram.camera, datagram.level, datagram.copy) for _, datagram in departures(link, 0.05)]
    assert departed[0][1].level == 0
    assert {entry[:2] for entry in order[:2]} == {("a", 0), ("b", 0)}
    assert [copy for _, level, copy in order if level == 0] == sorted(copy for _, level, copy in order if level == 0)
    assert {level for _, level, _ in order if level} >= {4}


def test_a_begun_picture_is_finished_and_an_untouched_one_is_replaced():
    link = scheduler(8000.0)
    link.submit("camera", 1, 1, frame_blocks(7), 0.0)
    first = departures(link, until=0.07)
    assert 4 in [datagram.level for _, datagram in first]
    link.submit("camera", 2, 2, frame_blocks(7), 0.07)
    levels = link.status(0.07).levels
    assert levels[4].causes["superseded"] == 0
    assert levels[5].causes["superseded"] == levels[6].causes["superseded"] == 1
    pieces = [datagram for _, datagram in departures(link, 0.07) if datagram.level == 4]
    assert [datagram.frame for datagram in pieces[:2]] == [1, 1]
    assert {datagram.piece[1] for datagram in pieces} == {3}


@pytest.mark.parametrize("jitter", [0.0, 0.02])
def test_a_picture_does_not_leave_right_before_a_coarse_block_is_expected(jitter):
    link = scheduler(8000.0)
    link.set_repair(0, 0.03)
    came = [0.1 * frame + (jitter if frame % 2 else 0.0) for frame in range(101)]
    waits, pictures = [], 0
    for frame, (at, until) in enumerate(pairwise(came)):
        link.submit("camera", frame, frame, frame_blocks(7), at)
        left = departures(link, at, until)
        assert left[0][1].level == 0
        waits.append(left[0][0] - at)
        pictures += sum(datagram.level >= 4 for _, datagram in left)
    assert pictures > 90
    assert sum(wait > 0.001 for wait in waits[2:]) <= 10, "one goes every second whatever comes"


def test_an_old_frame_that_is_asked_for_is_no_news_of_the_cameras_pace():
    link = scheduler(8000.0)
    for frame in range(5):
        link.submit("camera", frame, frame, frame_blocks(4), 0.1 * frame)
        departures(link, 0.1 * frame, 0.1 * frame + 0.02)
        link.submit("camera", frame, frame, frame_blocks(1), 0.1 * frame + 0.02, asked=True)
        departures(link, 0.1 * frame + 0.02, 0.1 * frame + 0.1)
    expected = link._room.cameras["camera"].expected
    assert expected is not None
    assert expected[0] == pytest.approx(0.5)


def blocks_that_left(link, frame, now):
    return {index for _, datagram in departures(link, now) if datagram.frame == frame for index in datagram.blocks}


def test_an_old_frame_that_is_asked_for_replaces_nothing_of_a_newer_one():
    link = scheduler(2000.0)
    link.submit("camera", 20, 2_000, frame_blocks(4), 0.0)
    assert link.submit("camera", 12, 1_200, frame_blocks(4), 0.01, asked=True) == 4
    assert [level.causes["superseded"] for level in link.status(0.01).levels] == [0] * 7
    assert blocks_that_left(link, 20, 0.01) == {0, 1, 2, 3}
    link.submit("camera", 20, 2_000, frame_blocks(5)[4:], 0.5)
    assert link._room.cameras["camera"].newest.number == 20, "its picture goes on in its own frame"


def test_blocks_that_are_asked_for_leave_although_newer_frames_come():
    link = scheduler(8000.0)
    link.submit("camera", 12, 1_200, frame_blocks(7), 0.0, asked=True)
    link.submit("camera", 20, 2_000, frame_blocks(4), 0.01)
    assert [level.causes["superseded"] for level in link.status(0.01).levels] == [0] * 7
    assert blocks_that_left(link, 12, 0.01) == set(range(7))


def test_asked_blocks_come_again_where_a_newer_frame_had_replaced_them():
    link = scheduler(1000.0)
    link.submit("camera", 12, 1_200, frame_blocks(4), 0.0)
    link.submit("camera", 13, 1_300, frame_blocks(4), 0.01)
    assert link.status(0.01).levels[1].causes["superseded"] == 1
    link.submit("camera", 12, 1_200, frame_blocks(4), 0.02, asked=True)
    assert link.status(0.02).levels[3].queued == 2


def test_frames_that_come_as_they_like_hold_no_picture_up():
    link = scheduler(8000.0)
    for came in (0.0, 0.1, 0.5):
        link.submit("camera", round(came * 10), 1, frame_blocks(4), came)
        departures(link, came, came + 0.09)
    link.submit("camera", 6, 1, frame_blocks(7), 0.6)
    assert [at for at, datagram in departures(link, 0.6, 0.75) if datagram.level == 4 and 0.66 < at < 0.72]


def test_expired_blocks_never_leave_and_take_their_finer_ones_along():
    link = scheduler(1000.0)
    link.submit("camera", 1, 1, [FakeBlock(0, bytes(180))], 0.0)
    link.submit("camera", 2, 2, [FakeBlock(1, bytes(150)), FakeBlock(2, bytes(9)), FakeBlock(4, bytes(90))], 0.0)
    link.submit("other", 1, 1, [FakeBlock(0, bytes(180))], 0.0)
    sent = departures(link, 0.0, until=0.6)
    assert all(datagram.level == 0 for _, datagram in sent)
    link.pop(0.9)
    levels = link.status(0.9).levels
    assert levels[1].causes["expired"] == 1
    assert levels[2].dropped == 1
    assert levels[4].dropped == 1


def test_finest_live_and_for_a_time():
    link = scheduler()
    link.set_finest("camera", 2, until=5.0)
    assert link.finest("camera", 1.0) == 2
    assert link.submit("camera", 1, 1, frame_blocks(7), 1.0) == 3
    assert link.submit("camera", 2, 2, frame_blocks(7), 5.0) == 7
    link.set_finest("camera", 0)
    assert link.submit("camera", 3, 3, frame_blocks(7), 6.0) == 1
    link.set_finest("camera", 6, until=9.0)
    assert link.submit("camera", 4, 4, frame_blocks(7), 7.0) == 7
    assert link.status(7.0).levels[6].causes["refused"] >= 2
    with pytest.raises(ValueError, match="finest block index must be 0 to 15 or None, not 16"):
        link.set_finest("camera", 16)


def test_what_is_queued_is_refused_when_the_receiver_wants_less():
    link = scheduler(1000.0)
    link.submit("camera", 1, 1, frame_blocks(7), 0.0)
    link.set_finest("camera", 1)
    sent = departures(link)
    assert {index for _, datagram in sent for index in datagram.blocks} == {0, 1}
    assert link.status(1.0).levels[6].causes["refused"] == 1


def test_every_block_is_its_own_message_on_topics():
    link = scheduler(joint=False)
    link.submit("camera", 7, 8, frame_blocks(7), 0.0)
    sent = [datagram for _, datagram in departures(link)]
    assert [(datagram.blocks, datagram.copy) for datagram in sent if datagram.copy == 0] == [
        ((index,), 0) for index in range(7)
    ]
    assert max(len(datagram.payload) for datagram in sent) > SIZES[6]
    assert all(datagram.piece is None for datagram in sent)


def test_packet_limit_follows_the_rate():
    assert scheduler(1000.0).packet_limit == SMALLEST_PACKET
    assert scheduler(20_000.0).packet_limit == 400
    assert scheduler(1e6).packet_limit == scheduler().packet_limit == LARGEST_PACKET


def test_a_lower_rate_cuts_anew_what_has_not_begun():
    link = scheduler(1e6, policies=default_policies(7, 4, picture_lifespan=60.0))
    link.submit("camera", 1, 1, frame_blocks(7), 0.0)
    link.next_departure(0.0)
    link.pop(0.0)
    link.set_rate(8000.0, 0.0)
    assert max(len(datagram.payload) for _, datagram in departures(link)) <= 200


def test_a_block_that_cannot_be_packed_is_refused_not_raised():
    def bad(blocks, *, stamp_ns=None):
        raise ValueError("no")

    link = Scheduler(bad, lambda block, limit, stamp_ns: [], default_policies(4, 4))
    link.submit("camera", 1, 1, frame_blocks(4), 0.0)
    assert link.pop(0.0) is None
    assert link.next_departure(0.0) is None
    assert link.status(0.0).levels[0].causes["refused"] == 1


def test_overflow_drops_the_finest_of_the_oldest_first():
    link = scheduler(1000.0, limits=SchedulerLimits(bytes=3500))
    link.submit("camera", 1, 1, frame_blocks(7), 0.0)
    levels = link.status(0.0).levels
    assert levels[6].causes["overflow"] == 0
    link.submit("other", 1, 1, [FakeBlock(6, bytes(3400)), FakeBlock(5, bytes(200))], 0.0)
    levels = link.status(0.0, "other").levels
    assert levels[6].causes["overflow"] == 1
    assert levels[5].queued == 1


def test_blocks_of_one_frame_may_come_in_two_calls():
    link = scheduler(8000.0)
    link.submit("camera", 1, 1, frame_blocks(4), 0.0)
    assert link.submit("camera", 1, 1, frame_blocks(7)[4:], 0.01) == 3
    assert link.submit("camera", 1, 1, frame_blocks(7)[4:], 0.02) == 0
    assert link.status(0.02).levels[4].queued == 1


def test_unlimited_rate_sends_at_once():
    link = scheduler(None)
    link.submit("camera", 1, 1, frame_blocks(7), 3.0)
    assert link.next_departure(3.0) == 3.0
    assert all(at < 3.04 for at, _ in departures(link, 3.0))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: scheduler(0.5), "rate must be 1 to 1e10 bytes/s"),
        (lambda: scheduler(repeat_gap=11), "repeat_gap must be 0 to 10 s, not 11"),
        (lambda: scheduler(policies=()), "policies must be 1 to 16 entries, not 0"),
        (lambda: LevelPolicy(0.0), "lifespan must be above 0"),
        (lambda: LevelPolicy(1.0, repeats=9), "repeats must be 0 to 8, not 9"),
        (lambda: LevelPolicy(1.0, priority=0), "priority must be 1 to 7, not 0"),
        (lambda: default_policies(17, 4), "blocks must be 1 to 16, not 17"),
        (lambda: default_policies(4, 5), "semantic_blocks must be 1 to 4, not 5"),
        (lambda: SchedulerLimits(units=0), "units must be 1 to 100000, not 0"),
        (lambda: scheduler().set_weight("camera", 0), "weight must be 0.001 to 1000, not 0"),
        (lambda: scheduler().submit("camera", 0, 0, [FakeBlock(7, b"")], 0.0), "block index must be 0 to 6, not 7"),
    ],
)
def test_errors_name_field_value_and_range(make, says):
    with pytest.raises(ValueError, match="must") as caught:
        make()
    assert says in str(caught.value)


def test_too_many_cameras_are_refused():
    link = scheduler(limits=SchedulerLimits(cameras=1), wire=UNMETERED)
    link.submit("one", 1, 1, frame_blocks(1), 0.0)
    with pytest.raises(ValueError, match="cameras must be at most 1, 'two' is one more"):
        link.submit("two", 1, 1, frame_blocks(1), 0.0)
