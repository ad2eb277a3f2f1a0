"""The short text form of a link."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semhier_ros.link.emulate.profile import LinkProfile, parse_link


def test_rate_delay_and_loss():
    assert parse_link("64kbit,50ms,5%") == LinkProfile(rate_bps=64_000, delay_s=0.05, loss=0.05)


def test_every_option():
    text = (
        "1.5Mbit, 0.2s, 2%, burst4, jitter10ms, queue8kB, reorder1%, duplicate0.5%, outage20s@30s, outage1s@60s, seed7"
    )
    profile = parse_link(text)
    assert profile.rate_bps == 1.5e6
    assert profile.burst == 4
    assert profile.jitter_s == pytest.approx(0.01)
    assert profile.queue_limit_at(0.0) == 8000
    assert (profile.reorder, profile.duplicate) == (0.01, 0.005)
    assert profile.outages == ((30.0, 50.0), (60.0, 61.0))
    assert profile.seed == 7


def test_the_automatic_queue_is_a_quarter_of_a_second_and_at_least_two_datagrams():
    assert parse_link("64kbit").queue_limit_at(0.0) == 3000
    assert parse_link("1Mbit").queue_limit_at(0.0) == 31_250
    assert parse_link("unlimited,10ms").rate_bps == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "rate"),
        ("fast", "rate must be bit/s in bit, kbit, Mbit or Gbit"),
        ("64kbps", "rate"),
        ("64kbit,120s", "delay must be 0 to 60 s, not 120"),
        ("64kbit,50ms,120%", "loss must be 0 to 100 %, not 120"),
        ("64kbit,50ms,5%,burst0.5", "burst must be a mean length of 1 to 1000"),
        ("64kbit,90%,burst2", "burst must be at least 9"),
        ("64kbit,jitterx", "jitter must be a time"),
        ("64kbit,queue10%", "queue must be a size"),
        ("64kbit,outage5s", "outage must look like"),
        ("64kbit,sometimes", "part 2 of a link must be a delay"),
    ],
)
def test_what_is_wrong_is_named(text, says):
    with pytest.raises(ValueError, match="must") as caught:
        parse_link(text)
    assert says in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_a_link_or_a_value_error(text):
    with contextlib.suppress(ValueError):
        parse_link(text)
