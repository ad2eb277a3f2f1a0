"""Bytes on the wire, the token bucket and the rolling sum."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semhier_ros.link import ROS_FASTDDS, ZENOH_TCP, ZENOH_TLS, ZENOH_UDP, WireModel, wire_model
from semhier_ros.link.schedule.budget import PerSecond, RollingSum, Share, TokenBucket


def test_measured_figures():
    assert ROS_FASTDDS.wire_bytes(20) == 212
    assert ZENOH_UDP.wire_bytes(20) == 64
    assert ZENOH_UDP.wire_bytes(220) == 265


def test_fragments_pay_for_their_headers():
    model = WireModel("test", message_bytes=28)
    assert model.wire_bytes(1472) == 1500
    assert model.wire_bytes(1473) == 1501 + 20
    assert model.wire_bytes(1472 + 1480) == 2980 + 20
    assert model.wire_bytes(1472 + 1481) == 2981 + 40


def test_choosing_a_model():
    assert wire_model("ros") is ROS_FASTDDS
    assert wire_model("zenoh") is ZENOH_UDP
    assert wire_model("zenoh", ["tcp/base:7447"]) is ZENOH_TCP
    assert wire_model("zenoh", ["quic/base:7447"]) is ZENOH_TLS
    with pytest.raises(ValueError, match="transport must be one of"):
        wire_model("pigeon")
    with pytest.raises(ValueError, match="mtu must be 100 to 65535 bytes, not 50"):
        WireModel("test", 10, mtu=50)


@given(
    st.floats(10, 1e6),
    st.lists(st.tuples(st.floats(0, 0.5), st.integers(1, 2000)), min_size=1, max_size=60),
)
def test_the_bucket_keeps_the_window_rule_for_every_window(rate, attempts):
    bucket = TokenBucket(rate, 1000)
    now, sent = 0.0, []
    for wait, size in attempts:
        now = bucket.ready_at(size, now + wait)
        bucket.spend(size, now)
        sent.append((now, size))
    for begin in range(len(sent)):
        total = 0
        for end in range(begin, len(sent)):
            total += sent[end][1]
            span = sent[end][0] - sent[begin][0]
            largest = max(1000, *(size for _, size in sent[begin : end + 1]))
            assert total <= rate * span + largest + 0.01


def test_what_leaves_unasked_is_owed_to_a_bound():
    bucket = TokenBucket(1000.0, 250.0)
    for _ in range(100):
        bucket.owe(300.0, 1000.0, 5.0)
    assert bucket.ready_at(250.0, 5.0) == pytest.approx(6.25)
    bucket.spend(2000.0, 5.0)
    bucket.owe(300.0, 1000.0, 5.0)
    assert bucket.ready_at(250.0, 5.0) == pytest.approx(8.25), "what datagrams owe stays owed"


@pytest.mark.parametrize(("rate", "pause"), [(1e6, 0.005), (10_000.0, 0.5), (2000.0, 2.0), (1.0, 2.0)])
def test_a_share_follows_the_rate_and_something_passes_at_any(rate, pause):
    share, left = Share(0.05, 2.0), []
    for step in range(20_000):
        now = 10.0 + step * 0.001
        if share.free(now):
            share.took(250.0, rate, now)
            left.append(now)
    assert len(left) == pytest.approx(22.0 / pause, abs=1)
    assert len([now for now in left if now > 20.0]) == pytest.approx(10.0 / pause, abs=1), "what was kept is used up"


def test_without_a_rate_no_share_is_too_small():
    share = Share(0.05, 2.0)
    for _ in range(100):
        assert share.free(10.0)
        share.took(250.0, None, 10.0)


def test_at_most_so_many_in_any_second():
    limit = PerSecond(20)
    passed = [now / 100 for now in range(500) if limit.take(now / 100)]
    assert len(passed) == 100
    assert all(later - earlier >= 1.0 for earlier, later in zip(passed, passed[20:], strict=False))


def test_rolling_sum_forgets_after_a_second():
    used = RollingSum()
    used.add(100, 10.0)
    used.add(50, 10.5)
    assert used.total(10.6) == 150
    assert used.total(11.2) == 50
    assert used.total(500.0) == 0
