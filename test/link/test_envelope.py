"""What the key vouches for, and what is refused."""

from __future__ import annotations

import pytest

from semhier_ros.codec.envelope import OVERHEAD, OVERHEAD_KEYED, EnvelopeError, is_envelope
from semhier_ros.link.feedback.envelope import WINDOW, Opener, Sealer

KEY = bytes(range(32))


@pytest.mark.parametrize(("key", "overhead"), [(None, OVERHEAD), (KEY, OVERHEAD_KEYED)])
def test_an_envelope_comes_back_as_it_was_and_costs_what_is_said(key, overhead):
    sealer, opener = Sealer("front", key, start=0xFFFF), Opener("front", key)
    for number in range(3):
        data, sequence = sealer.seal(b"\x10packet", 70_000 + number)
        assert is_envelope(data)
        assert not is_envelope(b"\x10packet")
        assert len(data) == 7 + overhead
        opened = opener.open(data)
        told = 0xFFFF + number if key else sequence
        assert opened == (told, (70_000 + number) & 0xFFFF, b"\x10packet")
        assert sequence == (0xFFFF + number) & 0xFFFF


def test_another_camera_or_key_is_refused():
    data, _ = Sealer("front", KEY).seal(b"\x10packet", 5)
    for opener in (Opener("rear", KEY), Opener("front", KEY[::-1]), Opener("front", None)):
        with pytest.raises(EnvelopeError):
            opener.open(data)
    plain, _ = Sealer("front").seal(b"\x10packet", 5)
    with pytest.raises(EnvelopeError, match="not authenticated"):
        Opener("front", KEY).open(plain)


def test_each_is_taken_once_in_any_order_within_the_window():
    sealer, opener = Sealer("front", KEY, start=1000), Opener("front", KEY)
    made = [sealer.seal(b"\x10p", 0)[0] for _ in range(WINDOW + 10)]
    for place in (5, 3, 4, 20, 9):
        opener.open(made[place])
        with pytest.raises(EnvelopeError, match="replayed"):
            opener.open(made[place])
    opener.open(made[-1])
    with pytest.raises(EnvelopeError, match="replayed"):
        opener.open(made[0])
    opener.open(made[-WINDOW])


def test_a_restarted_sender_goes_on_above_its_predecessor_and_old_recordings_stay_out():
    old = Sealer("front", KEY, start=1_700_000_000 * 65_536)
    recorded = [old.seal(b"\x10old", 0)[0] for _ in range(50)]
    opener = Opener("front", KEY)
    for data in recorded:
        opener.open(data)
    new, _ = Sealer("front", KEY, start=1_700_000_001 * 65_536).seal(b"\x10new", 0)
    assert opener.open(new).payload == b"\x10new"
    for data in recorded:
        with pytest.raises(EnvelopeError, match="replayed"):
            opener.open(data)
