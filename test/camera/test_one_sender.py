"""Clocks that step, and two senders of one name: a reading has the right stamp, size and frame, or there is none."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from test_decoder_end import CODEC, HASH, OLD, SECOND, info, packet
from test_encoder_end import Robot

from semhier_ros.camera.decoder_end import DecoderEnd, Output
from semhier_ros.camera.one_sender import NEAR, SILENT


@pytest.fixture
def reports() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def end(reports: list[tuple[str, str]]) -> DecoderEnd[Any]:
    return DecoderEnd("front", {HASH: CODEC}, 4, lambda kind, text: reports.append((kind, text)))


def drive(end: DecoderEnd[Any], robot: Robot, clock: Callable[[float], int], frames: int, lost: float) -> Iterator[Any]:
    """Frames at 5 a second whose stamps are `clock` of the robot's time; packets take 0.1 s, descriptions 0.15 s, and
    are told as `link.announce` tells them, each lost with chance `lost`. Gives stamps sent, then outputs."""
    chance = random.Random(2)
    packets: list[tuple[float, bytes]] = []
    told: list[float] = []
    begin = robot.now
    while robot.now < begin + frames / 5 + 12:
        if robot.now < begin + frames / 5:
            stamp, number = clock(robot.now - begin), robot.end.next_frame
            yield stamp
            robot.end.offer("street", stamp, "lens", robot.now)
            before = len(robot.infos)
            robot.drain()
            if any(changed for _, changed in robot.infos[before:]):
                told = [robot.now, robot.now + 0.5, robot.now + 2.0, robot.now + 12.0]
            packets.append((robot.now + 0.1, packet(number, 0, 0, stamp)))
        for _ in range(4):
            robot.now = round(robot.now + 0.05, 3)
            for _, data in [one for one in packets if one[0] <= robot.now]:
                yield from end.datagram(data, robot.now)
            packets = [one for one in packets if one[0] > robot.now]
            while told and told[0] + 0.15 <= robot.now:
                told.pop(0)
                newest = replace(robot.infos[-1][0], model="plain", stream_hash=HASH)
                if chance.random() >= lost:
                    yield from end.describe(newest, robot.now)


STEPS = {
    "NTP sets the clock of a robot without battery": [(120 * SECOND, 1.0), (OLD, 1.0)],
    "two hours on": [(OLD, 1.0), (OLD + 7200 * SECOND, 1.0)],
    "a bag begins again": [(OLD, 1.0), (OLD - 1200 * SECOND, 1.0)],
    "a simulation is reset": [(OLD, 1.0), (0, 1.0)],
    "a bag at ten times its speed": [(OLD, 10.0)],
    "a slow simulation": [(0, 0.05)],
}


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("lost", [0.0, 0.4])
def test_after_a_step_of_the_clock_every_stamp_is_exact_or_not_read(
    end: DecoderEnd[Any], steps: list[tuple[int, float]], lost: float
) -> None:
    robot = Robot()
    for first, pace in steps:
        found = list(drive(end, robot, lambda t, f=first, p=pace: f + round(t * p * 1e9), 50, lost))
        sent = [one for one in found if isinstance(one, int)]
        read = [one.stamp_ns for one in found if isinstance(one, Output)]
        assert len(sent) == 50
        assert set(read) <= set(sent)
        assert len(read) >= (50 if not lost else 40)


def test_a_late_frame_of_ones_own_needs_no_description(end: DecoderEnd[Any]) -> None:
    end.describe(info(), 0.0)
    assert end.datagram(packet(5, 0, 0, OLD), 0.1)
    assert end.datagram(packet(5, 1, 1, OLD), 40.0), "its stamp is known"
    assert end.datagram(packet(6, 0, 0, OLD), 12.0), "a picture waited on a thin link"
    assert end.datagram(packet(7, 0, 0, OLD), 60.0) == []
    assert end.counters["waited_for_stamp"] == 1
    assert [found.stamp_ns for found in end.describe(info(OLD), 61.0)] == [OLD]


def test_what_fits_no_description_is_dropped_and_counted(end: DecoderEnd[Any], reports: list[tuple[str, str]]) -> None:
    end.describe(info(), 0.0)
    assert end.datagram(packet(5, 0, 0, OLD + 100 * SECOND), 0.0) == []
    assert end.datagram(packet(5, 1, 1), 0.0) == [], "the rest of the frame waits with it"
    assert end.describe(info(OLD + 300 * SECOND), 1.0) == []
    assert end.counters["unsure_stamps"] == 1
    assert "its stamp fits no description" in reports[0][1]


class Pair:
    """Two robots of one name: the first with a lens of its own and pictures 64 wide, the second 32."""

    def __init__(self, end: DecoderEnd[Any], numbers: tuple[int, int] = (100, 40_000)) -> None:
        self.end, self.numbers = end, numbers
        self.found: list[tuple[int, Output]] = []

    def describe(self, who: int, at: float) -> None:
        told = info(self.stamp(who, at), width=(64, 32)[who])
        self.end.describe(replace(told, frame_id=f"robot{who}"), at)

    def stamp(self, who: int, at: float) -> int:
        return OLD + round(at * 5) * SECOND // 5 + who

    def send(self, who: int, at: float) -> None:
        frame = (self.numbers[who] + round(at * 5)) % (1 << 16)
        self.found += [(who, one) for one in self.end.datagram(packet(frame, 0, 0, self.stamp(who, at)), at)]

    def wrong(self, since: float = 0.0) -> list[int]:
        """Readings that stand under the other's frame id."""
        late = [(who, one) for who, one in self.found if one.stamp_ns >= OLD + since * 1e9]
        return [one.reading.frame for who, one in late if one.frame_id != f"robot{who}"]


def test_of_two_senders_of_one_name_the_first_is_read(end: DecoderEnd[Any], reports: list[tuple[str, str]]) -> None:
    pair = Pair(end)
    pair.describe(0, 0.0)
    for tick in range(100):
        at = tick / 5
        pair.send(0, at)
        if tick == 10:
            pair.describe(1, at)
        if tick >= 10:
            pair.send(1, at)
        if tick in (12, 20, 60):
            pair.describe(1, at)
        if tick in (50,):
            pair.describe(0, at)
    assert end.clash
    assert pair.wrong() == []
    assert {who for who, one in pair.found if one.stamp_ns > OLD + 3 * SECOND} == {0}
    assert sum(who == 0 for who, _ in pair.found) == 100
    assert {kind for kind, _ in reports} == {"other_sender"}
    assert "two senders use this name" in reports[0][1]
    assert sum(who == 1 for who, _ in pair.found) <= 4, "half a second proves it"
    for tick in range(100, 130):  # the first one stops
        if tick == 118:
            pair.describe(1, tick / 5)
        pair.send(1, tick / 5)
    assert not end.clash
    assert pair.found[-1][0] == 1
    assert pair.wrong(since=20 + SILENT + 1) == []


@pytest.mark.parametrize("told", [(0, 0), (0, 2), (3, 0), (1, 1)])
def test_two_senders_from_the_first_packet_on_are_never_mixed(end: DecoderEnd[Any], told: tuple[int, int]) -> None:
    """As two robots that are switched on together: whichever description comes first, later or after a packet."""
    pair = Pair(end)
    for tick in range(60):
        at = tick / 5
        for who in (0, 1):
            if tick >= told[who] and (tick - told[who]) % 5 == 0:
                pair.describe(who, at)
            pair.send(who, at)
    assert end.clash
    assert pair.wrong() == []
    assert len({who for who, one in pair.found if one.stamp_ns > OLD + 3 * SECOND}) == 1
    assert len(pair.found) >= 55


def test_a_restarted_sender_is_read_at_once(end: DecoderEnd[Any]) -> None:
    pair = Pair(end)
    pair.describe(0, 0.0)
    for tick in range(20):
        pair.send(0, tick / 5)
    pair.describe(1, 4.0)
    for tick in range(20, 60):
        pair.send(1, tick / 5)
    assert not end.clash
    assert len(pair.found) == 60
    assert pair.wrong() == []


def test_frames_that_are_asked_for_late_are_no_second_sender(end: DecoderEnd[Any]) -> None:
    pair = Pair(end)
    pair.describe(0, 0.0)
    for tick in range(100):
        pair.send(0, tick / 5)
        end.datagram(packet((100 + tick - min(tick, NEAR)) % (1 << 16), 1, 1), tick / 5)
    assert not end.clash
