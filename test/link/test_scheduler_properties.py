"""What the scheduler promises whatever happens, over many events of virtual time."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulation import Simulation, frame_blocks, scheduler

from semhier_ros.link import SchedulerLimits

RATES = st.sampled_from((1000.0, 2000.0, 8000.0, 64_000.0, 1.25e6))


@settings(max_examples=40, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1), cameras=st.integers(1, 6), rate=RATES)
def test_random_traffic_keeps_every_promise(seed, cameras, rate):
    simulation = Simulation(seed, cameras=cameras, rate=rate)
    simulation.run(5000)
    for name in simulation.names:
        if simulation.coarse_offered[name] >= 50:
            assert simulation.coarse_sent[name] > 0, f"{name} starved"


def test_small_memory_is_never_exceeded():
    simulation = Simulation(5, cameras=4, rate=4000.0, limits=SchedulerLimits(units=12, bytes=3000))
    simulation.run(20_000)
    status = simulation.scheduler.status(simulation.now)
    assert status.levels[5].causes["overflow"] > 0


@pytest.mark.slow
def test_a_million_events_of_virtual_time():
    simulation = Simulation(11, cameras=4, rate=8000.0)
    simulation.run(1_000_000)
    assert simulation.departures > 300_000


@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (1, 1, 2, 4)])
def test_coarse_rates_follow_the_weights_when_coarse_alone_does_not_fit(weights):
    link = scheduler(1000.0)
    names = [f"camera{number}" for number in range(len(weights))]
    for name, weight in zip(names, weights, strict=True):
        link.set_weight(name, weight)
    sent = dict.fromkeys(names, 0)
    now, stamp = 0.0, 0
    while now < 120.0:
        for name in names:
            stamp += 1
            link.submit(name, stamp & 0xFFFF, stamp, frame_blocks(1), now)
        end = now + 0.05
        while (departure := link.next_departure(now)) is not None and departure < end:
            now = departure
            datagram = link.pop(now)
            if datagram is not None and datagram.copy == 0:
                sent[datagram.camera] += 1
        now = end
    total = sum(sent.values())
    for name, weight in zip(names, weights, strict=True):
        assert sent[name] / total == pytest.approx(weight / sum(weights), rel=0.1)


def test_every_camera_gets_coarse_through_beside_a_flood():
    link = scheduler(8000.0)
    now, quiet_sent, quiet_offered = 0.0, 0, 0
    for stamp in range(4000):
        link.submit("flood", stamp & 0xFFFF, stamp, frame_blocks(7), now)
        if stamp % 40 == 0:
            quiet_offered += 1
            link.submit("quiet", stamp & 0xFFFF, stamp, frame_blocks(7), now)
        end = now + 0.005
        while (departure := link.next_departure(now)) is not None and departure < end:
            now = departure
            datagram = link.pop(now)
            if datagram is not None and datagram.camera == "quiet" and datagram.level == 0 and datagram.copy == 0:
                quiet_sent += 1
        now = end
    assert quiet_sent >= quiet_offered - 1
