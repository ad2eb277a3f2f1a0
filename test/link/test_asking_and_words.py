"""When a receiver asks for more, what the scheduler then does, and what an operator reads."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulation import frame_blocks, scheduler

from semhier_ros.camera.asking import AskPolicy, Seen
from semhier_ros.link.feedback.repair import RepairPlan
from semhier_ros.link.feedback.sender_control import LinkEstimate
from semhier_ros.link.words import link_words

ESTIMATE = LinkEstimate(8000.0, 0.03, 1.1, 0.01, 0.1, 0.5, 0.05, 9, 0, False, RepairPlan(1, 0.03))


def test_only_uncertain_frames_are_asked_for_once_and_not_too_often():
    policy = AskPolicy(0.6, 3, 2.0)
    assert not policy.wants("c", 1, 0, [Seen(0.5, 0.9, 0.3), Seen(0.5, 0.7, 0.3)], 0.0), "certain"
    shy = AskPolicy(0.6, 3, 2.0, above=0.6, near=0.4)
    assert not shy.uncertain([Seen(0.5, 0.1, 0.9), Seen(0.9, 0.1, 0.3), Seen(0.9, 0.7, 0.9)]), "faint, far, certain"
    assert shy.uncertain([Seen(0.7, 0.5, 0.5)])
    assert not policy.wants("c", 1, 0, [], 0.0), "nothing there"
    assert not policy.wants("c", 1, 3, [Seen(0.5, 0.1, 0.3)], 0.0), "nothing finer to ask for"
    assert policy.wants("c", 1, 0, [Seen(0.5, 0.9, 0.3), Seen(0.5, 0.5, 0.3)], 0.0)
    assert not policy.wants("c", 1, 1, [Seen(0.5, 0.5, 0.3)], 5.0), "asked for already"
    assert policy.wants("c", 2, 0, [Seen(0.5, 0.5, 0.3)], 5.0)
    assert not policy.wants("c", 3, 0, [Seen(0.5, 0.5, 0.3)], 5.3)
    assert policy.wants("c", 4, 0, [Seen(0.5, 0.5, 0.3)], 5.6)
    assert (policy.asked, policy.held_back) == (3, 1)


@pytest.mark.parametrize("wrong", [(1.1, 3, 1.0), (0.5, 16, 1.0), (0.5, 3, 0.0), (0.5, 3, 50.0)])
def test_a_policy_out_of_range_is_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        AskPolicy(*wrong)


def test_blocks_that_were_asked_for_leave_although_nobody_else_wants_them():
    link = scheduler(None)
    link.set_finest("c", 0)
    link.submit("c", 1, 1, frame_blocks(4), 0.0)
    assert link.pop(0.0).blocks == (0,)
    link.submit("c", 1, 1, frame_blocks(4)[1:], 0.1, asked=True)
    link.submit("c", 2, 2, frame_blocks(4)[:1], 0.2)
    left = []
    while (datagram := link.pop(0.3)) is not None:
        left.append((datagram.frame, datagram.blocks))
    assert any(frame == 1 and blocks[-3:] == (1, 2, 3) for frame, blocks in left)
    assert link.status(0.3).levels[3].causes["refused"] == 1, "only what nobody had asked for"


def test_words():
    link = scheduler(8000.0)
    for frame in range(10):
        link.submit("c", frame, frame, frame_blocks(7), frame * 0.1)
        end = (frame + 1) * 0.1
        now = frame * 0.1
        while (departure := link.next_departure(now)) is not None and departure < end:
            now = departure
            link.pop(now)
    words = link_words(link.status(1.0), None, 1.0, 4, ESTIMATE)
    assert "of 64 used" in words
    assert "coarse 10.0/s on time" in words
    assert "pictures" in words
    assert "3 % loss repaired (1x)" in words
    shrunk = link_words(link.status(1.0), None, 1.0, 4, replace(ESTIMATE, congested=True, rate=4000.0))
    assert "of 32 that the link carries now" in shrunk
    silent = link_words(link.status(9.0), link.status(9.0).levels, 1.0, 4, replace(ESTIMATE, reports=0))
    assert "coarse none" in silent
    assert "no word from the receiver yet" in silent
    one_way = replace(ESTIMATE, reports=0, hears=False, times=False)
    said = link_words(link.status(9.0), link.status(9.0).levels, 1.0, 4, one_way)
    assert "no word" not in said
    assert silent.startswith(said)
    runs = replace(ESTIMATE, loss=0.2, burst=4.0, clock_offset=None, repair=RepairPlan(0, 0.1), queue_delay=0.4)
    assert link_words(link.status(1.0), None, 1.0, 4, runs).endswith(
        "20 % loss in runs of 4, no room to repair it; 400 ms of queue on the way; clock offset unknown"
    )
    radio = link_words(link.status(1.0), None, 1.0, 4, replace(runs, times=False))
    assert radio.endswith("400 ms of queue on the way"), "no radio measures clocks, and nothing is wrong with that"
