"""The pacing thread, with real time."""

from __future__ import annotations

import threading
import time

import pytest
from simulation import frame_blocks, scheduler

from semhier_ros.lab.scoring.figures import budget_use
from semhier_ros.link import MemoryTransport, Pacer, Transport
from semhier_ros.link.clock import ManualClock
from semhier_ros.link.schedule.pacer import SteppedPacer
from semhier_ros.link.schedule.wire import ZENOH_UDP


def test_it_sends_at_the_rate_and_submit_returns_at_once():
    returned = threading.Event()

    class Waiting(MemoryTransport):
        """Sends nothing before the first frame's `submit` has returned."""

        def send(self, datagram):
            assert returned.wait(60), "submit waits for the wire"
            return super().send(datagram)

    transport = Waiting()
    with Pacer(scheduler(8000.0), transport) as pacer:
        begin = time.monotonic()
        for frame in range(10):
            pacer.submit("camera", frame, frame, frame_blocks(7))
            returned.set()
            time.sleep(0.05)
        elapsed = time.monotonic() - begin
        sent = sum(datagram.wire_bytes for datagram in transport.datagrams)
        assert 0.3 * 8000 * elapsed <= sent <= 8000 * elapsed + 245
        pacer.set_finest("camera", 0)
        assert pacer.finest("camera") == 0
        assert pacer.flush(3.0)
        assert pacer.status().levels[0].sent == 10
    assert pacer.submit("camera", 99, 99, frame_blocks(1)) == 0


@pytest.mark.parametrize("late", [0.0, 0.03, 0.5])
def test_what_leaves_late_is_not_made_up_for(late):
    """A busy machine holds datagrams up between the pacer's word and the wire; the link counts from there."""
    clock, rate = ManualClock(), 8000.0
    departures = []

    class Held(MemoryTransport):
        def send(self, datagram):
            clock.set(clock.now() + late * (len(departures) % 3 == 0))
            departures.append((clock.now(), datagram.wire_bytes))
            return super().send(datagram)

    one = scheduler(rate)
    pacer = SteppedPacer(one, Held(), clock)
    for frame in range(40):
        pacer.submit("camera", frame, frame, frame_blocks(7))
        for step in range(10):
            clock.set(frame * 0.1 + step * 0.01)
            while pacer.due is not None and pacer.due <= clock.now():
                pacer.advance()
    assert len(departures) > 20
    use = budget_use(departures, rate, ZENOH_UDP.wire_bytes(one.packet_limit))
    assert use.kept, use
    assert use.excess > 0.8 * use.largest, "and the budget is used"


def test_a_failing_transport_is_counted_and_survived():
    class Failing(MemoryTransport):
        def send(self, datagram):
            if datagram.frame == 0:
                raise OSError("no network")
            return super().send(datagram)

    transport = Failing()
    assert isinstance(transport, Transport)
    with Pacer(scheduler(None), transport) as pacer:
        pacer.submit("camera", 0, 0, frame_blocks(1))
        pacer.submit("camera", 1, 1, frame_blocks(1))
        assert pacer.flush(3.0)
        time.sleep(0.05)
        assert pacer.errors == 2
        assert pacer.last_error == "OSError: no network"
        assert {datagram.frame for datagram in transport.datagrams} == {1}


def test_a_new_rate_takes_effect_while_it_waits():
    transport = MemoryTransport()
    with Pacer(scheduler(50.0), transport) as pacer:
        pacer.submit("camera", 0, 0, frame_blocks(4))
        pacer.submit("camera", 1, 1, frame_blocks(4))
        time.sleep(0.1)
        waiting = len(transport.datagrams)
        pacer.set_rate(None)
        assert pacer.flush(2.0)
        assert len(transport.datagrams) > waiting


def test_settings_are_checked_in_the_callers_thread():
    with Pacer(scheduler(), MemoryTransport()) as pacer:
        with pytest.raises(ValueError, match="rate must be"):
            pacer.set_rate(0.1)
        with pytest.raises(ValueError, match="weight must be"):
            pacer.set_weight("camera", -1)
