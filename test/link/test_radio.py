"""Links over compact frames: framing, both ends over emulated radios, answers in turn, keys and replays."""

from __future__ import annotations

import os
import random
import re
import select
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semhier_ros.codec.block_request import BlockRequest
from semhier_ros.codec.calibration import Calibration
from semhier_ros.codec.compact import LONGEST_AGE, QUERY, Context, Seal, Word, announcement, finish, lay_out
from semhier_ros.codec.packet import Block, Packet, delta_tag, restore_stamp, split
from semhier_ros.codec.pose import EgoPose
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.link.carriers import TRANSPORTS, RadioCarrier, carrier
from semhier_ros.link.clock import ManualClock
from semhier_ros.link.emulate.radio import (
    RADIOS,
    Channel,
    RadioEmulator,
    RadioHop,
    RadioLink,
    RadioProfile,
    parse_hop,
    parse_radio,
)
from semhier_ros.link.radio.frame_budget import FrameBudget
from semhier_ros.link.radio.framing import Messages, added_bytes, cobs, framing, from_cobs
from semhier_ros.link.radio.mavlink import MavlinkOptions, Tunnel, mavlink_port
from semhier_ros.link.radio.options import Air, RadioOptions
from semhier_ros.link.radio.ports import SerialOptions, SerialPort, UdpOptions, UdpPort
from semhier_ros.link.radio.receiving import RadioReceiving
from semhier_ros.link.radio.sending import RadioSending
from semhier_ros.link.schedule.policy import default_policies
from semhier_ros.link.transport import Datagram, LinkDependencyError, ReceiverHooks, SenderHooks

serial = pytest.importorskip("serial", reason="pyserial is not installed: requirements/radio.txt")
rfc2217 = pytest.importorskip("serial.rfc2217")

FAST = RadioProfile(20_000.0, 240)
KEY = bytes(range(16))


def info(camera: str = "front", stamp_ns: int = 0) -> bytes:
    return StreamInfo(
        camera=camera,
        frame_id="lens",
        width=640,
        height=360,
        model="road",
        stream_hash="beef" * 4,
        model_hash="cafe" * 4,
        stamp_ns=stamp_ns,
    ).to_bytes()


class Ends:
    """A sender and a receiver over an emulated radio, and what the receiver heard."""

    def __init__(self, emulator: RadioEmulator, key: bytes | None = None, **settings: Any) -> None:
        profile = emulator.profile
        self.settings = profile.settings(baud=57_600, check=16, **settings)
        self.emulator, self.key = emulator, key
        self.heard: list[tuple[str, Packet]] = []
        self.infos: list[str] = []
        self.requests: list[tuple[str, BlockRequest]] = []
        self.notes: list[tuple[str, bytes]] = []
        self.gone: list[tuple[str, int]] = []
        self.memory: bytes | None = None
        self.told_memory: list[tuple[str, bytes]] = []
        self.receiver = self.open_receiver()
        sender = carrier("serial", {**self.settings, "device": emulator.devices[0]}, key)
        assert isinstance(sender, RadioCarrier)
        self.wire = sender.wire
        self.sender = sender.sender(
            Packet.pack,
            split,
            default_policies(4, 3),
            budget=None,
            on_request=lambda camera, data: self.requests.append((camera, BlockRequest.from_bytes(data))),
            on_memory=self._heard,
        )
        self.sent: dict[int, tuple[int, list[Block]]] = {}
        wait(lambda: self.receiver.open and not self.sender.trouble)
        time.sleep(0.1)

    def open_receiver(self, cameras: list[str] | None = None) -> Any:
        base = carrier("serial", {**self.settings, "device": self.emulator.devices[1]}, self.key)
        return base.receiver(
            self._take,
            lambda camera, data: self.infos.append(camera),
            cameras=cameras,
            on_note=lambda camera, data: self.notes.append((camera, data)),
            on_gone=lambda camera, frame: self.gone.append((camera, frame)),
            remembers=lambda camera: self.memory,
        )

    def _heard(self, camera: str, memory: bytes) -> bool:
        self.told_memory.append((camera, memory))
        return True

    def _take(self, camera: str, level: int, data: bytes) -> None:
        packet = Packet.parse(data)
        assert packet.blocks[0].index == level
        self.heard.append((camera, packet))

    def frame(self, number: int, *sizes: int, camera: str = "front", motion: bytes = b"", stream: int = 0xBEEF) -> None:
        stamp = time.time_ns()
        chance = random.Random(number)
        blocks = [
            Block(stream, number, index, chance.randbytes(size), b"" if index else motion)
            for index, size in enumerate(sizes)
        ]
        self.sender.set_info(camera, info(camera, stamp), False)
        self.sender.offered(camera, blocks)
        self.sender.submit(camera, number, stamp, blocks)
        self.sent[number] = (stamp, blocks)

    def whole(self) -> set[int]:
        """Frames whose block 0 came as it was sent, with their stamps to 4 ms."""
        found = set()
        for _, packet in self.heard:
            stamp, blocks = self.sent[packet.frame]
            if packet.piece is None:
                assert list(packet.blocks) == blocks[packet.blocks[0].index :][: len(packet.blocks)]
            if packet.stamp is not None:
                assert abs((packet.stamp - stamp + (1 << 39)) % (1 << 40) - (1 << 39)) <= 4_000_000
            if packet.piece is None and packet.blocks[0].index == 0:
                found.add(packet.frame)
        return found

    def close(self) -> None:
        self.sender.close()
        self.receiver.close()


def wait(reached: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


@pytest.fixture
def ends() -> Iterator[Callable[..., Ends]]:
    opened: list[Ends] = []

    def make(profile: RadioProfile = FAST, key: bytes | None = None, **settings: Any) -> Ends:
        opened.append(Ends(RadioEmulator(profile).start(), key, **settings))
        return opened[-1]

    yield make
    for one in opened:
        one.close()
        one.emulator.stop()


# -- framing ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(min_size=1, max_size=600), max_size=5), st.sampled_from(["cobs", "kiss"]), st.integers(1, 50))
def test_frames_come_out_of_a_stream_however_it_is_cut(frames, name, step):
    reader, writer = framing(name), framing(name)
    stream = b"".join(map(writer.wrap, frames))
    found = []
    for start in range(0, len(stream), step):
        found += reader.feed(stream[start : start + step])
    assert found == frames


@given(st.binary(min_size=1, max_size=1200))
def test_cobs_adds_what_the_wire_model_charges_at_most(frame):
    data = cobs(frame)
    assert 0 not in data[:-1]
    assert len(data) - len(frame) <= added_bytes("cobs", len(frame))
    assert from_cobs(data[:-1]) == frame


@given(st.binary(max_size=5000), st.sampled_from(["cobs", "kiss"]))
def test_whatever_a_stream_holds_a_reader_keeps_little_of_it(data, name):
    reader = framing(name)
    for start in range(0, len(data), 7):
        for frame in reader.feed(data[start : start + 7]):
            assert len(frame) <= 2500
    assert len(vars(reader)["_kept"]) <= 5000


# -- both ends --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, KEY], ids=["check", "key"])
def test_blocks_stamps_and_descriptions_cross_a_serial_line_and_its_wire_model_is_right(ends, key):
    pair = ends(key=key)
    for number in range(65_530, 65_550):
        pair.frame(number % 65_536, 20, 5, 9)
        time.sleep(0.02)
    wait(lambda: len(pair.whole()) == 20)
    assert pair.infos
    assert set(pair.infos) == {"front"}
    counters = pair.sender.counters
    wait(lambda: pair.emulator.counters(0).get("bytes") == pair.sender.counters["sent_bytes"])
    assert counters["sent_bytes"] >= 20 * pair.wire.wire_bytes(20)
    assert "refused" not in pair.receiver.counters


@pytest.mark.parametrize("key", [None, KEY])
def test_notes_cross_with_blocks_and_without_and_the_newest_counts(ends, key):
    pair = ends(key=key)
    first, *others = (EgoPose("map", 1000 * step, 100 * step, 0).to_bytes() for step in range(4))
    assert not pair.sender.tell("front", first)  # nobody knows this camera yet
    pair.frame(0, 9)
    assert pair.sender.tell("front", first)
    wait(lambda: pair.notes == [("front", first)])  # by itself, where no block leaves
    for other in others:
        pair.sender.tell("front", other)
    spent = pair.sender.status().wire_bytes
    pair.frame(1, 9)
    wait(lambda: len(pair.notes) == 2 and 1 in pair.whole())
    assert pair.notes[1] == ("front", others[-1])
    assert pair.sender.status().wire_bytes - spent > len(others[-1]) + 9  # the budget pays for it
    assert pair.receiver.counters["notes"] == 2
    assert not pair.receiver.counters.get("refused")


@pytest.mark.parametrize("key", [None, KEY], ids=["check", "key"])
def test_deltas_and_motion_cross_and_say_what_they_are(ends, key):
    pair = ends(key=key)
    for number in range(65_530, 65_550):
        kind = number % 3
        delta = 0xBEEF if kind else delta_tag(0xBEEF)
        pair.frame(number % 65_536, 9, *((5, 3) if kind == 2 else ()), motion=b"moving"[: kind * 3], stream=delta)
        time.sleep(0.02)
    wait(lambda: len(pair.whole()) == 20)
    assert {packet.stream for _, packet in pair.heard} == {0xBEEF, delta_tag(0xBEEF)}
    assert {packet.blocks[0].motion for _, packet in pair.heard} >= {b"", b"mov", b"moving"}
    assert "refused" not in pair.receiver.counters
    wait(lambda: pair.emulator.counters(0).get("bytes") == pair.sender.counters["sent_bytes"])


def test_motion_goes_where_a_frame_has_room_for_it(ends):
    pair = ends(replace(FAST, frame_bytes=32))
    room = pair.settings["frame_bytes"] - 2  # the check
    pair.frame(0, 20)  # the first stamp of all is told in 16 bits
    for number, more in ((1, 0), (2, 1)):
        wait(lambda before=number - 1: before in {packet.frame for _, packet in pair.heard})
        pair.frame(number, 20, motion=b"m" * (room - 4 - 20 + more))
    pair.frame(3, 60, motion=b"in pieces")
    wait(lambda: {packet.frame for _, packet in pair.heard} == {0, 1, 2, 3}, 20.0)
    motion = {packet.frame: packet.blocks[0].motion for _, packet in pair.heard}
    assert motion == {0: b"", 1: b"m" * (room - 24), 2: b"", 3: b""}


def test_what_a_receiver_remembers_is_said_in_its_turns_and_tells_of_losses_too(ends):
    pair = ends(replace(FAST, loss=0.2, turnaround=0.002))
    said: list[bytes] = []
    for number in range(1000):
        pair.memory = bytes((number & 0x3F, 7)) if number > 10 else b"" if number > 5 else None
        pair.frame(number, 9, stream=delta_tag(0xBEEF) if number > 20 else 0xBEEF)
        time.sleep(0.05)
        said = [memory for _, memory in pair.told_memory if memory]
        if len(said) >= 5 and number >= 100:  # on a busy machine words come late, and meet frames in the air
            break
    wait(lambda: any(memory for _, memory in pair.told_memory))
    assert {camera for camera, _ in pair.told_memory} == {"front"}
    assert all(memory == b"" or memory[1:] == b"\x07" for _, memory in pair.told_memory)
    assert len(said) >= 5
    assert pair.sender.estimate().loss > 0.05
    assert not any(heard.cause == "collided" for heard in pair.emulator.log)


def test_frames_that_refer_are_planned_once_and_not_so_large(ends):
    pair = ends(replace(RADIOS["acoustic"], loss=0.0))
    pair.frame(1, 20)
    alone = pair.sender.advice("front", 0.0)
    pair.frame(2, 9, stream=delta_tag(0xBEEF))
    refers = pair.sender.advice("front", 0.0)
    assert min(refers.frames_per_second, alone.frames_per_second) > 4.5  # of more than it carries none leaves twice
    assert refers.semantic_bytes is not None
    assert refers.delta_bytes is not None
    assert 20 >= refers.delta_bytes >= 12
    for number in range(3, 9):  # where the camera gives few frames each may say more
        time.sleep(0.5)
        pair.frame(number, 9, stream=delta_tag(0xBEEF))
    advice = pair.sender.advice("front", 0.0)
    assert advice.delta_bytes == advice.semantic_bytes == 32 - 2 - 5
    for number in range(9, 20):  # a frame that stands alone may have what deltas left, and fill the time to the next
        time.sleep(0.18)
        pair.frame(number, 9, stream=delta_tag(0xBEEF))
    advice = pair.sender.advice("front", 0.0)
    assert advice.delta_bytes is not None
    assert advice.semantic_bytes is not None
    assert advice.delta_bytes <= 16 < 20 <= advice.semantic_bytes


def test_on_an_idle_radio_a_scene_may_fill_its_frame_however_many_are_wanted(ends):
    pair = ends(replace(RADIOS["serial9600"], loss=0.0, turnaround=0.0))
    whole = pair.settings["frame_bytes"] - 2 - 5
    for number in range(6):
        time.sleep(0.5)
        assert [pair.sender.advice("front", wanted).semantic_bytes for wanted in (0.0, 30.0)] == [whole, whole]
        pair.frame(number, 20)
    for number in range(6, 40):  # where each fills it, less is left
        advice = pair.sender.advice("front", 0.0)
        assert advice.semantic_bytes is not None
        pair.frame(number, advice.semantic_bytes)
        time.sleep(1 / advice.frames_per_second)
    assert 16 <= advice.semantic_bytes <= 20


@given(st.lists(st.tuples(st.floats(0.01, 3.0), st.integers(1, 300)), min_size=2, max_size=60), st.floats(5.0, 500.0))
def test_frames_take_what_time_has_earned_and_one_frame_more(frames, rate):
    budget, now, spent = FrameBudget(), 0.0, 0.0
    for wait, wanted in frames:
        now += wait
        credit = budget.earn(rate, 240.0, now)
        assert credit <= 240.0
        cost = max(24.0, min(credit, wanted))  # no scene is cut to less, however often frames come
        spent += cost if credit >= 24.0 else 0.0
        budget.spend(cost, now)
        assert budget.earn(rate, 240.0, now) >= -240.0
    assert spent <= rate * (now - frames[0][0] + 1.0) + 1e-6
    gaps = [wait for wait, _ in frames[1:]]
    assert min(gaps) - 1e-6 <= budget.gap <= max(gaps) + 1e-6


def test_a_picture_that_was_asked_for_is_stored_without_the_delta_of_its_frame(ends):
    pair = ends(replace(FAST, turnaround=0.005))
    pair.frame(1, 9, stream=delta_tag(0xBEEF))
    wait(lambda: 1 in pair.whole())
    stamp, blocks = pair.sent[1]
    picture = Block(0xBEEF, 1, 3, b"picture" * 9)
    assert pair.sender.submit("front", 1, stamp, [*blocks, picture], asked=True)
    wait(lambda: any(packet.blocks == (picture,) for _, packet in pair.heard))


def test_a_block_larger_than_a_frame_crosses_in_pieces(ends):
    pair = ends(replace(FAST, frame_bytes=32))
    pair.frame(1, 60, 3)
    wait(lambda: len({packet.piece for _, packet in pair.heard if packet.piece}) >= 3)
    pieces = {packet.piece[0]: packet.blocks[0].data for _, packet in pair.heard if packet.piece}
    assert b"".join(pieces[number] for number in sorted(pieces)) == pair.sent[1][1][0].data


def test_advice_keeps_a_scene_within_one_frame(ends):
    pair = ends(replace(FAST, frame_bytes=32))
    pair.frame(1, 20, 3)
    assert pair.sender.advice("front", 1.0).semantic_bytes == 32 - 2 - 5
    slow = ends(replace(RADIOS["acoustic"], loss=0.0))
    slow.frame(1, 20, 3)
    advice = slow.sender.advice("front", 10.0)
    assert advice.frames_per_second < 7.0
    assert advice.semantic_bytes is not None
    assert advice.semantic_bytes >= 15


def test_requests_come_back_in_the_senders_turns_and_count_once(ends):
    pair = ends(replace(FAST, turnaround=0.005))
    for number in range(5):
        pair.frame(600 + number, 20)
    wait(lambda: pair.infos)
    assert not pair.receiver.request("rear", BlockRequest(6, 601).to_bytes())
    assert pair.receiver.request("front", BlockRequest(6, 601).to_bytes())
    assert pair.receiver.request("front", BlockRequest(0, None, 2000).to_bytes())
    wait(lambda: len(pair.requests) == 2)
    time.sleep(2.5)
    assert sorted(pair.requests, key=str) == sorted(
        [("front", BlockRequest(6, 601)), ("front", BlockRequest(0, None, 2000))], key=str
    )
    assert not any(heard.cause == "collided" for heard in pair.emulator.log)


@pytest.mark.parametrize("key", [None, KEY], ids=["check", "key"])
def test_that_what_was_asked_for_does_not_come_is_told_once_and_it_is_asked_for_no_more(ends, key):
    """Also where the first word of it is lost: whoever asks again is told again."""
    pair = ends(replace(FAST, turnaround=0.005), key=key)
    for number in range(65_530, 65_540):
        pair.frame(number % 0x10000, 20)
    wait(lambda: pair.infos)
    for frame in (65_531, 2):
        assert pair.receiver.request("front", BlockRequest(6, frame).to_bytes())
    wait(lambda: len(pair.requests) == 2)
    assert not pair.gone
    pair.sender.gone("front", 65_531)
    wait(lambda: pair.gone)
    assert pair.gone == [("front", 65_531)]
    pair.sender.gone("front", 700)  # nobody asked for it
    pair.sender.gone("rear", 2)
    wait(lambda: pair.sender.counters["gone"] >= 2)
    assert pair.receiver.request("front", BlockRequest(6, 65_531).to_bytes())
    wait(lambda: len(pair.gone) == 2)
    assert pair.gone == [("front", 65_531)] * 2
    assert len(pair.requests) == 2, "the sender knows that it was asked for already"
    assert pair.receiver.counters["requests_gone"] == 2


def test_losses_that_acknowledgements_tell_are_repaired(ends):
    pair = ends(replace(FAST, loss=0.2, turnaround=0.002))
    for number in range(120):
        pair.frame(number, 20)
        time.sleep(0.05)
    estimate = pair.sender.estimate()
    assert estimate is not None
    assert estimate.loss > 0.05
    assert len(pair.whole()) >= 110


def test_a_key_lets_nothing_forged_or_taken_before_through(ends):
    pair = ends(key=KEY)
    recorded: list[bytes] = []
    reader = framing("cobs")
    original = os.write

    def tapped(descriptor: int, data: bytes) -> int:
        recorded.extend(reader.feed(data))
        return original(descriptor, data)

    os.write = tapped
    try:
        for number in range(10):
            pair.frame(number, 20)
            time.sleep(0.05)
        wait(lambda: len(pair.whole()) == 10)
        time.sleep(0.5)  # the repeats
    finally:
        os.write = original
    came = len(pair.heard)
    port = serial.Serial(pair.emulator.devices[0], 57_600)
    chance = random.Random(3)
    frames = [one for one in recorded if len(one) > 20]
    assert frames
    for frame in frames:
        port.write(cobs(frame))
        damaged = bytearray(frame)
        damaged[chance.randrange(len(frame))] ^= 1 << chance.randrange(8)
        port.write(cobs(bytes(damaged)))
        port.write(cobs(chance.randbytes(30)))
    wait(lambda: pair.receiver.counters.get("refused", 0) >= 3 * len(frames))
    port.close()
    assert pair.receiver.counters["replayed"] > 0
    assert len(pair.heard) == came


def test_an_end_without_the_key_is_not_heard(ends):
    pair = ends(key=KEY)
    stranger = carrier("serial", {**pair.settings, "device": pair.emulator.devices[0]}, bytes(16))
    pair.sender.close()
    pair.sender = stranger.sender(Packet.pack, split, default_policies(4, 3), budget=None)
    time.sleep(0.2)
    for number in range(5):
        pair.frame(number, 20)
    wait(lambda: pair.receiver.counters.get("refused", 0) >= 5)
    assert not pair.heard
    assert not pair.infos


def test_a_receiver_that_starts_later_asks_what_the_slot_means(ends):
    pair = ends(replace(FAST, turnaround=0.005))
    for number in range(3):
        pair.frame(number, 20)
    wait(lambda: pair.infos)
    pair.receiver.close()
    pair.infos.clear()
    pair.receiver = pair.open_receiver()
    number = 3
    end = time.monotonic() + 6.0
    while not pair.infos and time.monotonic() < end:
        pair.frame(number, 20)
        number += 1
        time.sleep(0.1)
    assert pair.infos
    pair.frame(number, 20)
    wait(lambda: number in pair.whole())


@pytest.mark.parametrize("first", [40_000, 3])
def test_a_sender_that_begins_anew_is_read_whatever_its_numbers(first: int) -> None:
    """It draws the first one: the base has heard higher ones, or none; and its description may leave before a frame."""
    told: list[int] = []
    hop, sender, clock = _virtual("serial9600", lambda camera, level, data: told.append(level), None, None)
    for start in (first, 20_000, first):
        sender.set_info("front", info(stamp_ns=round(clock.now() * 1e9)))
        while not sender.counters.get("announcements"):
            _step(hop, sender, clock)
        for number in range(40):
            due = clock.now() + 0.2
            while clock.now() < due:
                _step(hop, sender, clock)
            block = Block(0xBEEF, (start + number) % 0x10000, 0, bytes(9))
            sender.submit("front", block.frame, round(clock.now() * 1e9), [block])
        assert len(told) > 20, start
        told.clear()
        sender.close()
        sender = _sender_on(hop, clock, "serial9600", None, 0)
        hop.attach(sender.transport, hop._receiving)  # type: ignore[arg-type]


def test_a_camera_that_nobody_waits_for_gets_no_place(ends):
    pair = ends()
    pair.receiver.close()
    pair.receiver = pair.open_receiver(["rear"])
    time.sleep(0.2)
    pair.frame(1, 20)
    wait(lambda: pair.receiver.counters.get("refused_cameras", 0) >= 1)
    assert not pair.heard


def test_a_fifth_camera_is_refused_by_a_clear_word(ends):
    pair = ends()
    for name in ("a", "b", "c", "d"):
        pair.frame(1, 20, camera=name)
    with pytest.raises(ValueError, match="'e' is one more than the 4"):
        pair.sender.set_info("e", info("e"))
    wait(lambda: {camera for camera, _ in pair.heard} == {"a", "b", "c", "d"})


def test_a_device_that_comes_back_is_opened_again(tmp_path):
    first, second = RadioEmulator(FAST).start(), RadioEmulator(FAST).start()
    device = tmp_path / "radio"
    device.symlink_to(first.devices[0])
    sender = carrier("serial", {"device": str(device)}).sender(Packet.pack, split, default_policies(1, 1), budget=None)
    try:
        wait(lambda: sender.counters.get("openings") == 1)
        device.unlink()
        first.stop()
        wait(lambda: sender.trouble)
        assert "it is tried again and again" in sender.trouble
        device.symlink_to(second.devices[0])
        wait(lambda: sender.counters["openings"] == 2 and not sender.trouble)
    finally:
        sender.close()
        second.stop()


def test_no_hour_holds_more_than_the_duty_cycle():
    settings = {"device": "/dev/null", "framing": "kiss", "rate_kbit": 1.0, "frame_bytes": 220, "duty_percent": 1.0}
    options = carrier("serial", settings).options
    assert 3600 * options.air.allowed + 2 * 220 == pytest.approx(0.01 * 3600 * 125)


@pytest.mark.parametrize("wished", [0.033, 1.0])
def test_neither_end_takes_more_than_its_duty_cycle_of_any_hour(wished):
    """Hours on the air in virtual time, however many frames are wanted: descriptions, turns and answers count too."""
    hop, sender, clock = _virtual("lora", lambda *came: None, None, None)
    hop.air.profile = replace(hop.air.profile, loss=0.05)
    number, due = 0, 0.0
    while clock.now() < 3 * 3600.0:
        if clock.now() >= due:
            sender.set_info("front", info())
            advice = sender.advice("front", wished)
            block = Block(0xBEEF, number % 0x10000, 0, bytes(min(200, advice.semantic_bytes)))
            sender.offered("front", [block])
            sender.submit("front", block.frame, round(clock.now() * 1e9), [block])
            number, due = number + 1, clock.now() + 1.0 / advice.frames_per_second
        _step(hop, sender, clock)
    most = [hop.air.most_airtime(end, 3600.0) for end in (0, 1)]
    assert max(most) <= 0.01
    assert most[0] >= 0.8 * 0.01 if wished == 1.0 else most[0] > 0.0
    assert sender.status("front").levels[0].sent >= 3 * 3600 * 0.033 - 2


def test_frames_cross_udp_and_the_base_answers_where_they_came_from():
    where = _free()
    heard: list[tuple[str, int, bytes]] = []
    asked: list[bytes] = []
    base = carrier("udp", {"listen": where}, KEY).receiver(lambda *told: heard.append(told))
    robot = carrier("udp", {"peer": where}, KEY).sender(
        Packet.pack, split, default_policies(1, 1), budget=None, on_request=lambda camera, data: asked.append(data)
    )
    try:
        wait(lambda: base.open and not robot.trouble)
        time.sleep(0.3)
        robot.set_info("front", info(stamp_ns=time.time_ns()))
        robot.submit("front", 5, time.time_ns(), [Block(0xBEEF, 5, 0, b"meaning")])
        wait(lambda: heard)
        assert Packet.parse(heard[0][2]).blocks[0].data == b"meaning"
        assert base.request("front", BlockRequest(6, 5).to_bytes())
        wait(lambda: asked)
        assert BlockRequest.from_bytes(asked[0]) == BlockRequest(6, 5)
    finally:
        robot.close()
        base.close()


def _datagrams() -> socket.socket:
    """A socket of this machine that waits some seconds for what comes."""
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind(("127.0.0.1", 0))
    one.settimeout(10.0)
    return one


def _free() -> str:
    """An address of this machine that nobody has."""
    with _datagrams() as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize("key", [None, KEY], ids=["check", "key"])
def test_stray_datagrams_between_frames_and_answers_turn_no_answer_away(key):
    where = _free()
    host, port = where.split(":")
    heard: list[int] = []
    asked: list[bytes] = []
    stop = threading.Event()
    slow = {"rate_kbit": 64.0, "turnaround_ms": 20.0}  # so long after a frame its answer leaves
    base = carrier("udp", {"listen": where, **slow}, key).receiver(lambda camera, level, data: heard.append(level))

    def stray() -> None:
        chance = random.Random(3)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            while not stop.wait(0.001):
                other.sendto(chance.randbytes(chance.randint(0, 60)), (host, int(port)))

    robot = carrier("udp", {"peer": where, **slow}, key).sender(
        Packet.pack, split, default_policies(1, 1), budget=None, on_request=lambda camera, data: asked.append(data)
    )
    noise = threading.Thread(target=stray, daemon=True)
    try:
        wait(lambda: base.open and not robot.trouble)
        noise.start()
        for number in range(70):
            robot.set_info("front", info(stamp_ns=time.time_ns()))
            robot.submit("front", number, time.time_ns(), [Block(0xBEEF, number, 0, b"meaning")])
            if number == 10:
                wait(lambda: heard)
                assert base.request("front", BlockRequest(6, 5).to_bytes())
            time.sleep(0.05)
        wait(lambda: asked)
        counters = robot.counters
        assert counters["words"] >= counters["turns"] - 1
        assert base.counters["refused"] > 100
    finally:
        stop.set()
        noise.join()
        robot.close()
        base.close()


def test_a_port_answers_where_a_proved_frame_came_from(monkeypatch):
    """And where nothing was proved for long, whoever spoke last: an end that has to speak first finds one."""
    where = _free()
    host, number = where.split(":")
    port = UdpPort(UdpOptions(listen=where), lambda frame: frame.startswith(b"ours"))
    came = 0

    def say(one: socket.socket, data: bytes) -> None:
        nonlocal came
        one.sendto(data, (host, int(number)))
        came += 1
        wait(lambda: port.counters.get("frames_came") == came)
        time.sleep(0.02)

    with _datagrams() as robot, _datagrams() as stray, _datagrams() as moved:
        try:
            wait(lambda: port.is_open)
            say(stray, b"noise")
            assert port.send(b"nobody else is known")
            assert stray.recv(99) == b"nobody else is known"
            say(robot, b"ours")
            say(stray, b"noise")
            assert port.send(b"first")
            assert robot.recv(99) == b"first"
            say(moved, b"ours")
            say(stray, b"noise")
            assert port.send(b"second")
            assert moved.recv(99) == b"second"
            monkeypatch.setattr("semhier_ros.link.radio.ports.PROVED_SECONDS", 0.0)
            say(stray, b"noise")
            assert port.send(b"third")
            assert stray.recv(99) == b"third"
        finally:
            port.close()


def test_messages_of_others_turn_no_answer_away_on_a_mavlink_network():
    common = pytest.importorskip("pymavlink.dialects.v20.common", reason="pymavlink: requirements/mavlink.txt")
    where = _free()
    host, number = where.split(":")
    port = mavlink_port(MavlinkOptions(listen=where, system=2))(lambda frame: frame.startswith(b"ours"))
    robot_tunnel, other = Tunnel(MavlinkOptions(peer=where)), common.MAVLink(None, srcSystem=9, srcComponent=9)
    came = 0
    with _datagrams() as robot, _datagrams() as stray:
        try:
            wait(lambda: port.is_open)
            for source, data in (
                (robot, robot_tunnel.wrap(b"theirs") + robot_tunnel.wrap(b"ours") + robot_tunnel.wrap(b"theirs")),
                (stray, common.MAVLink_heartbeat_message(2, 3, 0, 0, 0, 3).pack(other)),
                (stray, robot_tunnel.wrap(b"forged")),
                (stray, b"noise"),
            ):
                source.sendto(bytes(data), (host, int(number)))
                came += 1
                wait(lambda: port.counters.get("frames_came") == came)  # noqa: B023
            time.sleep(0.05)
            assert port.send(b"answer")
            assert robot_tunnel.feed(robot.recv(999)) == [b"answer"]
        finally:
            port.close()


def test_a_taken_port_is_named():
    taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    taken.bind(("127.0.0.1", 0))
    port = UdpPort(UdpOptions(listen=f"127.0.0.1:{taken.getsockname()[1]}"), lambda frame: None)
    try:
        wait(lambda: port.trouble)
        assert "Address already in use" in port.trouble
        taken.close()
        wait(lambda: port.is_open and not port.trouble)
    finally:
        port.close()
        taken.close()


@pytest.mark.parametrize("alone", [True, False], ids=["silent", "frames"])
def test_a_sender_that_nobody_answers_for_days_goes_on_and_pays_for_what_leaves(alone):
    clock = ManualClock()
    hop = RadioHop(replace(RADIOS["serial9600"], loss=0.0), clock)
    sender = _sender_on(hop, clock, "serial9600", None, 0)
    hop.attach(sender.transport, None)  # type: ignore[arg-type]
    sender.set_info("front", info())
    vars(sender.transport)["_missed"] = 1026
    for number in range(100):
        if not alone or not number:
            sender.submit("front", number, round(clock.now() * 1e9), [Block(0xBEEF, number, 0, bytes(9))])
        while clock.now() < 0.5 * (number + 1):
            _step(hop, sender, clock)
    assert sender.pacer.errors == 0
    assert 2 <= sender.counters["turns"] <= 6  # 16 s apart
    while hop.next_arrival is not None:
        _step(hop, sender, clock)
    assert sender.status().wire_bytes == sender.counters["sent_bytes"] == hop.air.counters(0)["bytes"]


class _Idle:
    """A port on which nothing comes."""

    is_open, trouble, counters = True, "", {"errors": 1}

    def send(self, data: bytes) -> bool:
        return True

    def close(self) -> None: ...


@pytest.mark.parametrize("end", ["sender", "receiver"])
def test_the_thread_of_an_end_survives_what_a_tick_raises(end):
    ticks: list[float] = []

    def tick(now: float) -> None:
        ticks.append(now)
        if len(ticks) < 3:
            raise OverflowError("(34, 'Numerical\\nresult out of range')")

    port = lambda received: _Idle()  # noqa: E731
    if end == "sender":
        hooks = SenderHooks(lambda camera, data: None, lambda camera, data: data, tick)
        made: Any = RadioSending(RadioOptions(), port, hooks, age=lambda: 0.0)
    else:
        nothing = lambda *told: None  # noqa: E731
        made = RadioReceiving(RadioOptions(), port, ReceiverHooks(nothing, nothing, nothing, tick, None))
    try:
        wait(lambda: len(ticks) >= 6)
        assert made.counters["errors"] == 3  # the port's is among them
        assert "goes on after OverflowError" in made.trouble
        assert "\n" not in made.trouble
        assert min(after - before for before, after in pairwise(ticks)) > 0.03  # none in haste
    finally:
        made.close()


def test_the_thread_of_a_port_survives_what_a_frame_raises():
    came: list[bytes] = []

    def take(frame: bytes) -> bool:
        came.append(frame)
        if frame == b"wrong":
            raise KeyError("wrong")
        return True

    listen = _free()
    where = ("127.0.0.1", int(listen.split(":")[1]))
    with RadioEmulator(FAST) as emulator, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        line = serial.Serial(emulator.devices[0], 57_600)
        ports: list[Any] = [
            UdpPort(UdpOptions(listen=listen), take),
            SerialPort(SerialOptions(emulator.devices[1], 57_600), take),
        ]
        try:
            wait(lambda: all(port.is_open for port in ports))
            for port, write in zip(ports, (lambda data: other.sendto(data, where), line.write), strict=True):
                came.clear()
                framed = cobs if port is ports[1] else bytes
                for frame in (b"wrong", b"right"):
                    write(framed(frame))
                wait(lambda: came == [b"wrong", b"right"])
                wait(lambda port=port: port.counters.get("errors") == 1)
                assert "goes on after KeyError: 'wrong' (1 so far)" in port.trouble
                assert port.is_open
        finally:
            line.close()
            for port in ports:
                port.close()


def _listener(receive_buffer: int = 0) -> socket.socket:
    """A TCP listener of this machine."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if receive_buffer:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    listener.bind(("127.0.0.1", 0))
    listener.listen(2)
    listener.settimeout(20.0)
    return listener


def _url(listener: socket.socket) -> str:
    return f"socket://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("framing_name", ["cobs", "kiss"])
def test_blocks_and_requests_cross_serial_lines_of_a_network(framing_name):
    """Two modems behind serial servers: what goes into one's socket comes out of the other's."""
    heard: list[Packet] = []
    asked: list[bytes] = []
    with _listener() as listener:
        settings = {"device": _url(listener), "framing": framing_name}
        base = carrier("serial", settings).receiver(lambda camera, level, data: heard.append(Packet.parse(data)))
        first, _ = listener.accept()
        robot = carrier("serial", settings).sender(
            Packet.pack, split, default_policies(1, 1), budget=None, on_request=lambda camera, data: asked.append(data)
        )
        second, _ = listener.accept()
        stop = threading.Event()

        def pass_on() -> None:
            while not stop.is_set():
                for end in select.select([first, second], [], [], 0.05)[0]:
                    (second if end is first else first).sendall(end.recv(4096))

        relay = threading.Thread(target=pass_on, daemon=True)
        relay.start()
        try:
            wait(lambda: base.open and robot.connected)
            robot.set_info("front", info(stamp_ns=time.time_ns()))
            for number in range(5):
                robot.submit("front", number, time.time_ns(), [Block(0xBEEF, number, 0, b"meaning")])
            wait(lambda: {packet.frame for packet in heard} == set(range(5)))
            assert base.request("front", BlockRequest(6, 4).to_bytes())
            wait(lambda: asked)
            assert not robot.counters.get("losses")
            assert not robot.trouble
        finally:
            robot.close()
            base.close()
            stop.set()
            relay.join()
            first.close()
            second.close()


def test_a_line_that_takes_a_part_of_a_frame_gets_the_rest_before_the_next():
    chance = random.Random(1)
    with _listener(receive_buffer=4096) as listener:
        port = SerialPort(SerialOptions(_url(listener)), lambda frame: None)
        other, _ = listener.accept()
        try:
            wait(lambda: port.is_open)
            taken, refused = [], 0
            while refused < 20:  # nobody reads: the system's buffers fill up
                frame = chance.randbytes(chance.randint(100, 1200))
                if port.send(frame):
                    taken.append(frame)
                else:
                    refused += 1
            came: list[bytes] = []
            reader = framing("cobs")

            def drain() -> bool:
                if select.select([other], [], [], 0.0)[0]:
                    came.extend(reader.feed(other.recv(65_536)))
                return came[-1:] == taken[-1:]

            wait(drain)  # the rest of the last one, by itself
            wait(lambda: port.send(b"the next"))
            taken.append(b"the next")
            wait(drain)
            assert came == taken
            assert port.counters["unsent"] >= refused
            assert not port.counters.get("losses")
        finally:
            port.close()
            other.close()


def test_frames_cross_a_line_by_rfc_2217():
    """pyserial's own serving side, before a line that gives back what it gets."""
    came: list[bytes] = []
    stop = threading.Event()
    with _listener() as listener, serial.serial_for_url("loop://", timeout=0) as line:
        url = _url(listener).replace("socket://", "rfc2217://")

        def serve() -> None:
            connection, _ = listener.accept()
            answers = type("Answers", (), {"write": staticmethod(connection.sendall)})
            manager = rfc2217.PortManager(line, answers)
            while not stop.is_set():
                if select.select([connection], [], [], 0.02)[0]:
                    line.write(b"".join(manager.filter(connection.recv(4096))))
                connection.sendall(b"".join(manager.escape(line.read(4096))))
            connection.close()

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        port = SerialPort(SerialOptions(url), came.append)
        try:
            wait(lambda: port.is_open)
            frames = [bytes((number, 255, 0)) for number in range(9)]
            for frame in frames:
                assert port.send(frame)
            wait(lambda: came == frames)
            assert not port.trouble
        finally:
            port.close()
            stop.set()
            server.join()


# -- choosing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("pigeon", {}, f"transport: 'pigeon', expected one of {', '.join(TRANSPORTS)}"),
        ("serial", {"device": ""}, "device: empty, expected a serial port"),
        ("serial", {"device": "/dev/null", "baud": 50}, "baud: 50, expected 300 to 4000000"),
        ("serial", {"device": "/dev/null", "framing": "slip"}, "framing: 'slip', expected one of cobs, kiss, mesh"),
        (
            "serial",
            {"device": "/dev/null", "framing": "meshtastic"},
            "rate_kbit: 0, expected that of the radio's preset",
        ),
        ("serial", {"device": "/dev/null", "check": 8}, "check: 8 bits, expected 16 or 32"),
        ("serial", {"device": "/dev/null", "frame_bytes": 9}, "frame_bytes: 9, expected 24 to 1200"),
        ("serial", {"device": "/dev/null", "prefix": "x"}, "serial.prefix: no such setting, expected device, baud"),
        ("udp", {"peer": "nowhere"}, "peer: 'nowhere', expected host:port"),
        ("udp", {}, "listen or peer must be given"),
        ("udp", {"peer": "h:1", "turnaround_ms": 5.0}, "bytes_per_second: not given, but a duty cycle"),
    ],
)
def test_a_wrong_choice_is_one_clear_line(name, settings, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        carrier(name, settings)


@pytest.mark.parametrize(
    ("package", "modules", "name", "settings"),
    [
        ("pyserial", ["serial"], "serial", {"device": "/dev/null"}),
        ("cryptography", ["cryptography.hazmat.primitives"], "udp", {"peer": "h:1", "encrypt": "chacha20"}),
        ("pymavlink", ["pymavlink.dialects.v20"], "mavlink", {"device": "/dev/null"}),
    ],
)
def test_a_package_that_is_missing_is_named_as_pip_knows_it(monkeypatch, package, modules, name, settings):
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(LinkDependencyError, match=f"the Python package {package}: pip install {package}$"):
        carrier(name, settings, KEY)


def test_radios_are_named_and_changed_by_words():
    assert parse_radio("lora") == RADIOS["lora"]
    assert parse_radio("acoustic,loss10%,turnaround50ms,frame64,rate2400bit,seed3") == RadioProfile(
        300.0, 64, 0.1, 0.05, "kiss", 1.0, 3
    )
    with pytest.raises(ValueError, match="'telepathy', expected one of"):
        parse_radio("telepathy")
    with pytest.raises(ValueError, match="'loss5', expected loss5%"):
        parse_radio("lora,loss5")


def test_frames_that_both_ends_send_at_once_are_lost_for_both():
    with RadioEmulator(replace(FAST, bytes_per_second=200.0, turnaround=0.001)) as emulator:
        ports = [serial.Serial(device, 57_600, timeout=0.0) for device in emulator.devices]
        for port in ports:
            port.write(cobs(bytes(range(1, 30))))
        wait(lambda: len(emulator.log) == 2)
        assert [heard.cause for heard in emulator.log] == ["collided", "collided"]
        for port in ports:
            port.close()


@pytest.mark.parametrize("name", ["serial9600", "acoustic"])
def test_virtual_and_emulated_air_take_the_same_bytes_for_a_frame(name):
    """Frames of any size and content, through pyserial and two terminals, and in virtual time."""
    profile = replace(RADIOS[name], bytes_per_second=20_000.0, loss=0.0)
    chance = random.Random(5)
    frames = [bytes(range(256))[:size] for size in (1, 5, 32)] + [bytes(8)]
    frames += [chance.randbytes(chance.randint(1, 32)) for _ in range(20)] + [b"\xc0\xdb" * 8]
    air = Channel(profile)
    came: list[bytes] = []
    for frame in frames:
        air.send(0, frame, 0.0)
    with RadioEmulator(profile) as emulator:
        ends = [SerialPort(SerialOptions(device, 57_600, profile.framing), came.append) for device in emulator.devices]
        try:
            wait(lambda: all(end.is_open for end in ends))
            time.sleep(0.1)
            for frame in frames:
                assert ends[0].send(frame)
            wait(lambda: len(came) == len(frames))
        finally:
            for end in ends:
                end.close()
        assert came == frames
        assert [one.size for one in emulator.log] == [air.size(frame) for frame in frames]
        assert emulator.counters(0)["bytes"] == air.counters(0)["bytes"]


@pytest.mark.parametrize("radio", sorted(name for name in RADIOS if RADIOS[name].transport == "serial"))
@pytest.mark.parametrize("memory", [False, True])
def test_what_a_sender_is_charged_is_what_the_air_takes(radio, memory):
    """The wire model of a radio's carrier, against frames of coarse blocks, deltas and motion on its air in virtual
    time."""
    told: list[tuple[str, bytes]] = []
    heard: list[Packet] = []
    hop, sender, clock = _virtual(
        radio,
        lambda camera, level, packet: heard.append(Packet.parse(packet)),
        lambda camera, remembered: told.append((camera, remembered)),
        (lambda camera: b"\x07\x55") if memory else None,
    )
    sender.set_info("front", info())
    blocks = [Block(0xBEEF, 1, 0, bytes(range(1, 17)))]
    if memory:
        blocks = [Block(delta_tag(0xBEEF), 2, 0, bytes(range(1, 13))), Block(0xBEEF, 3, 0, bytes(8), b"moving")]
    for number, block in enumerate(blocks, 1):
        while clock.now() < 2.0 * (number - 1):
            _step(hop, sender, clock)
        stamp = round(clock.now() * 1e9)
        sender.offered("front", [block])
        sender.submit("front", block.frame, stamp, [block])
    while clock.now() < 8.0:
        _step(hop, sender, clock)
    assert [packet.blocks for packet in heard] == [(block,) for block in blocks]
    assert told == ([("front", b"\x07\x55")] * len(told) if memory else [])
    assert bool(told) == memory
    charged = sender.status().wire_bytes
    assert charged == hop.air.counters(0)["bytes"] == sender.counters["sent_bytes"] > 0


@pytest.mark.parametrize(
    ("radio", "around"),
    [("acoustic", (4, 6, 7, 19)), ("serial9600", (6, 8, 9, 21)), ("mavlink57600", (21, 23, 24, 36))],
)
@pytest.mark.parametrize(
    ("place", "settings"),
    [(0, {"check": 16}), (1, {}), (2, {"encrypt": "chacha20"}), (3, {"encrypt": "chacha20poly1305"})],
)
def test_around_a_coarse_block_are_the_bytes_that_the_documents_say(radio, around, place, settings):
    """On the air, as its log has them."""
    if radio == "mavlink57600":
        pytest.importorskip("pymavlink", reason="pymavlink is not installed: requirements/mavlink.txt")
    if settings.get("encrypt"):
        pytest.importorskip("cryptography", reason="cryptography is not installed: requirements/radio.txt")
    heard: list[Packet] = []
    key = KEY if "encrypt" in settings else None
    take = lambda camera, level, data: heard.append(Packet.parse(data))  # noqa: E731
    hop, sender, clock = _virtual(radio, take, None, None, key=key, **settings)
    sender.set_info("front", info())
    for number in range(60):
        before, block = len(hop.air.log), Block(0xBEEF, number, 0, random.Random(number).randbytes(9))
        sender.submit("front", number, round(clock.now() * 1e9), [block])
        while clock.now() < 0.8 * (number + 1):
            _step(hop, sender, clock)
    assert heard[-1].blocks == (block,)
    assert next(one.size for one in hop.air.log[before:] if one.end == 0) == 9 + around[place]


def _virtual(
    radio: str,
    on_datagram: Any,
    on_memory: Any,
    remembers: Any,
    repeats: int = 0,
    key: bytes | None = None,
    on_info: Any = None,
    **settings: Any,
) -> tuple[RadioHop, Any, ManualClock]:
    """Both ends over a radio that loses nothing, in virtual time: (hop, sender, clock)."""
    clock = ManualClock()
    hop = RadioHop(replace(parse_radio(radio), loss=0.0), clock)
    made = carrier(parse_radio(radio).transport, parse_radio(radio).settings(device="virtual", **settings), key)
    assert isinstance(made, RadioCarrier)
    sender = _sender_on(hop, clock, radio, on_memory, repeats, key, **settings)
    receiver = replace(made, open_port=hop.port(1)).receiver(on_datagram, on_info, remembers=remembers, clock=clock)
    hop.attach(sender.transport, receiver.transport)  # type: ignore[arg-type]
    return hop, sender, clock


def _sender_on(
    hop: RadioHop,
    clock: ManualClock,
    radio: str,
    on_memory: Any,
    repeats: int,
    key: bytes | None = None,
    **settings: Any,
) -> Any:
    """A sending end at a hop's port."""
    made = carrier(parse_radio(radio).transport, parse_radio(radio).settings(device="virtual", **settings), key)
    assert isinstance(made, RadioCarrier)
    return replace(made, open_port=hop.port(0)).sender(
        Packet.pack, split, default_policies(1, 1), budget=None, repeats=repeats, on_memory=on_memory, clock=clock
    )


def _step(hop: RadioHop, sender: Any, clock: ManualClock) -> None:
    """Lets virtual time go on to the next event of any end."""
    times = [hop.next_tick, hop.next_arrival, sender.due]
    clock.set(min(when for when in times if when is not None))
    hop.deliver()
    hop.tick()
    sender.advance()


SEALS = [
    {"check": 16},
    {"check": 32},
    {"encrypt": "none"},
    {"encrypt": "chacha20"},
    {"encrypt": "chacha20poly1305"},
]
"""Of a link: with a key where `encrypt` is named."""


@pytest.mark.parametrize("frame_bytes", range(24, 65))
@pytest.mark.parametrize("seal", SEALS, ids=[" ".join(map(str, seal.values())) for seal in SEALS])
def test_a_camera_with_a_calibration_is_described_by_frames_of_any_size_or_the_size_is_refused(frame_bytes, seal):
    if seal.get("encrypt", "none") != "none":
        pytest.importorskip("cryptography", reason="cryptography is not installed: requirements/radio.txt")
    told: list[StreamInfo] = []
    heard: list[Packet] = []
    key = KEY if "encrypt" in seal else None
    profile = replace(RADIOS["acoustic"], bytes_per_second=1200.0, frame_bytes=frame_bytes, loss=0.0)
    settings = {**profile.settings(device="virtual"), **seal}
    if frame_bytes < 30 and seal.get("encrypt") == "chacha20poly1305":
        with pytest.raises(ValueError, match=f"frame_bytes: {frame_bytes}, expected 30 to 1200 where encrypt"):
            carrier("serial", settings, key)
        return
    clock = ManualClock()
    hop = RadioHop(profile, clock)
    made = carrier("serial", settings, key)
    assert isinstance(made, RadioCarrier)
    sender = replace(made, open_port=hop.port(0)).sender(
        Packet.pack, split, default_policies(1, 1), budget=None, clock=clock
    )
    receiver = replace(made, open_port=hop.port(1)).receiver(
        lambda camera, level, data: heard.append(Packet.parse(data)),
        lambda camera, data: told.append(StreamInfo.from_bytes(data)),
        clock=clock,
    )
    hop.attach(sender.transport, receiver.transport)  # type: ignore[arg-type]
    calibration = Calibration(640, 360, (500.0, 501.0, 320.0, 180.0), "rational_polynomial", (0.5,) * 8, (0.1,) * 9)
    described = replace(StreamInfo.from_bytes(info()), calibration=calibration)
    for number in range(6):
        sender.set_info("front", described.to_bytes())
        sender.submit("front", number, round(clock.now() * 1e9), [Block(0xBEEF, number, 0, bytes(8))])
        while clock.now() < 2.0 * (number + 1):
            _step(hop, sender, clock)
    assert {packet.frame for packet in heard} == set(range(6))
    assert sender.pacer.errors == 0
    assert "oversize" not in hop.air.counters(0)
    least = re.search(r"link\.radio\.frame_bytes: \d+, expected at least (\d+) for the calibration", sender.trouble)
    assert {one.calibration for one in told} == {None if least else calibration}
    assert least is None or frame_bytes < int(least[1]) <= 30
    assert least is not None or not sender.trouble


def test_a_description_that_no_frames_hold_is_said_and_nothing_leaves():
    hop, sender, clock = _virtual("acoustic,frame24", lambda *came: None, None, None, key=KEY)
    long = replace(StreamInfo.from_bytes(info()), frame_id="a" * 255).to_bytes()
    for number in range(20):
        sender.set_info("front", long if number < 10 else info())
        sender.submit("front", number, round(clock.now() * 1e9), [Block(0xBEEF, number, 0, bytes(9))])
        while clock.now() < 0.5 * (number + 1):
            _step(hop, sender, clock)
        if number < 10:
            assert "link.radio.frame_bytes: 24, expected at least 32 for the description of camera" in sender.trouble
            assert not hop.air.counters(0)
    assert not sender.trouble
    assert sender.counters["words"] > 0
    assert sender.pacer.errors == 0


@pytest.mark.parametrize("first", [0.5, 4.0, 8.0])
def test_a_first_frame_that_took_long_to_encode_makes_no_other_unreadable(first):
    """Its stamp is as old as it took, those of the others are not: what the receiver takes for usual follows."""
    heard: list[int] = []
    hop, sender, clock = _virtual(
        "serial9600", lambda camera, level, data: heard.append(Packet.parse(data).frame), None, None
    )
    clock.set(first)
    sender.set_info("front", info())
    for number in range(40):
        _frame(hop, sender, clock, number, 0.7 if number else first)
    assert heard == list(range(40))
    assert sender.estimate().loss < 0.01


def test_frames_of_another_age_are_read_though_the_first_of_them_are_lost():
    heard: list[int] = []
    hop, sender, clock = _virtual(
        "serial9600", lambda camera, level, data: heard.append(Packet.parse(data).frame), None, None
    )
    clock.set(20.0)
    sender.set_info("front", info())
    for number in range(40):
        hop.air.profile = replace(hop.air.profile, loss=1.0 if 20 <= number < 24 else 0.0)
        _frame(hop, sender, clock, number, 12.0 if number < 20 else 0.7)
    assert heard == [number for number in range(40) if not 20 <= number < 24]


@pytest.mark.parametrize("radio", ["serial9600", "acoustic", "lora"])
@pytest.mark.parametrize("pause", [5.0, 300.0, 900.0, 9000.0])
def test_frames_after_a_pause_of_the_camera_are_read_and_their_stamps_go_with_the_description(radio, pause):
    """What a base reckons from the newest description, as `camera.decoder_end` does, is near each frame's stamp."""
    anchor = [(0, 0.0)]
    heard: list[int] = []
    apart: list[float] = []

    def take(camera: str, level: int, data: bytes) -> None:
        packet = Packet.parse(data)
        assert packet.stamp is not None
        expected = anchor[0][0] + round((clock.now() - anchor[0][1]) * 1e9)
        apart.append((restore_stamp(packet.stamp, expected) - expected) / 1e9)
        heard.append(packet.frame)

    def described(camera: str, data: bytes) -> None:
        anchor[0] = (StreamInfo.from_bytes(data).stamp_ns, clock.now())

    hop, sender, clock = _virtual(radio, take, None, None, on_info=described)
    gap = 40.0 if radio == "lora" else 1.0
    number, begun = 0, 10.0
    for frames in (20, 20):
        for _ in range(frames):
            while clock.now() < begun:
                _step(hop, sender, clock)
            stamp = round((begun - 0.1) * 1e9)
            sender.set_info("front", info(stamp_ns=stamp), False)
            sender.submit("front", number, stamp, [Block(0xBEEF, number, 0, bytes(9))])
            number, begun = number + 1, begun + gap
        begun += pause
    while clock.now() < begun - pause:
        _step(hop, sender, clock)
    assert heard == list(range(40))
    assert -3.0 < min(apart) <= max(apart) < 3.0
    assert not sender.pacer.errors


def test_a_saturated_age_of_a_description_is_not_learned_from():
    """A sender of an earlier version tells it, after a pause of nine minutes and more."""
    hop, _, clock = _virtual("serial57600", lambda *came: None, None, None)
    receiving = hop._receiving
    assert receiving is not None
    told = StreamInfo.from_bytes(info(stamp_ns=1_000_000_000))
    seal = RadioOptions().seal

    def announce(age: int) -> tuple[float, float] | None:
        for frame in announcement(told, 7, age, 200):
            assert receiving._frame(finish(frame, 0, False, Context(), seal))
        return receiving._slots[0].ages

    clock.set(2001.0)
    assert announce(LONGEST_AGE) is None
    assert announce(LONGEST_AGE - 1) == pytest.approx((2000.0 - 524.272,) * 2)
    clock.set(2002.0)
    assert announce(LONGEST_AGE) == pytest.approx((2000.0 - 524.272,) * 2)
    assert announce(0) == pytest.approx((2001.0,) * 2)


@pytest.mark.parametrize(("radio", "cameras"), [("acoustic", 1), ("acoustic", 2), ("serial9600", 1)])
def test_descriptions_that_a_repeated_query_makes_take_a_fifth_of_the_air_at_most(radio, cameras):
    hop, sender, clock = _virtual(radio, lambda *came: None, None, None, key=KEY)
    hop.air.on_air = False  # nobody hears the robot; whoever recorded a query of its base says it again and again
    for number in range(cameras):
        sender.set_info(f"camera_{number}", info(f"camera_{number}"))
    transport = sender.transport
    queries = [Word(QUERY, slot).to_bytes(Context(True), Seal(4, KEY)) for slot in range(cameras)]
    while clock.now() < 100.0:
        before = clock.now()
        while clock.now() < before + 0.2:
            _step(hop, sender, clock)
        for query in queries:
            transport._word(query)
    assert sender.counters["words"] > 100
    parts = [one for one in hop.air.log if one.end == 0 and one.size > 12]  # turns and hails are shorter
    share = sum(one.ended - one.began for one in parts) / clock.now()
    assert 0.0 < share < 0.22
    assert sender.counters["announcements"] <= 101 * cameras


@pytest.mark.parametrize("after", [4, 7, 12])
def test_nothing_is_taken_for_lost_where_a_description_changes(after):
    """A receiver begins its count anew with it."""
    hop, sender, clock = _virtual("serial9600", lambda *came: None, None, None)
    seen = []
    for number in range(60):
        sender.set_info("front", replace(StreamInfo.from_bytes(info()), width=640 + (number >= after)).to_bytes())
        _frame(hop, sender, clock, number, 0.1)
        seen.append(sender.estimate().loss)
    assert max(seen) <= 0.02
    assert seen[-1] < 0.01


def _frame(hop: RadioHop, sender: Any, clock: ManualClock, number: int, age: float) -> None:
    """A frame of that age (s), and 0.2 s."""
    begun = clock.now()
    sender.submit("front", number, round((begun - age) * 1e9), [Block(0xBEEF, number, 0, bytes(9))])
    while clock.now() < begun + 0.2:
        _step(hop, sender, clock)


def test_cameras_whose_frames_refer_are_acknowledged_in_turn():
    """Two cameras of one modem, a frame each 0.4 s: whose frame is there when a turn is due does not decide."""
    told: list[str] = []
    hop, sender, clock = _virtual(
        "acoustic", lambda *came: None, lambda camera, memory: told.append(camera), lambda camera: b"ab"
    )
    for number in range(100):
        while clock.now() < 0.4 * number:
            _step(hop, sender, clock)
        for camera, size in (("front", 12), ("rear", 3)):
            sender.set_info(camera, info(camera))
            block = Block(delta_tag(0xBEEF), number, 0, bytes(size))
            sender.offered(camera, [block])
            sender.submit(camera, number, round(clock.now() * 1e9), [block])
    later = told[4:]
    assert len(later) >= 15
    assert abs(later.count("front") - later.count("rear")) <= 1 + len(later) // 5
    assert all(len(set(later[place : place + 4])) == 2 for place in range(len(later) - 3))


@pytest.mark.parametrize(
    ("wanted", "given", "repeats", "fewest", "copies"),
    [
        (5.0, 5.0, -1, 4.5, 1.0),  # the air has no room for two of each, and one more is worth more
        (0.0, 5.0, -1, 4.5, 1.0),
        (1.0, 5.0, -1, 1.0, 2.0),
        (0.0, 1.0, -1, 1.0, 2.0),  # nor does the camera give more
        (5.0, 5.0, 1, 1.5, 2.0),  # the operator's word
    ],
)
def test_frames_leave_twice_where_the_air_has_room_for_all_that_are_wanted_and_given(
    wanted, given, repeats, fewest, copies
):
    came: list[tuple[int, ...]] = []
    hop, sender, clock = _virtual("acoustic", lambda *one: came.append(one), None, None, repeats)
    sender.set_info("front", info())
    frames, due, seconds = 0, 0.0, 12.0
    while clock.now() < seconds:
        advice = sender.advice("front", wanted, given)
        block = Block(0xBEEF, frames, 0, bytes(min(16, advice.semantic_bytes)))
        sender.offered("front", [block])
        sender.submit("front", frames, round(clock.now() * 1e9), [block])
        frames, due = frames + 1, due + 1.0 / min(advice.frames_per_second, given)
        while clock.now() < due:
            _step(hop, sender, clock)
    counters = sender.status("front").levels[0]
    assert frames >= fewest * seconds
    assert counters.sent >= 0.9 * frames
    assert 1.0 + counters.repeated / counters.sent == pytest.approx(copies, abs=0.15)


MESSAGE = bytes((0xFD, 3, 0, 0, 7, 1, 1, 0, 0, 0)) + b"abc" + b"cc"
SIGNED = bytes((0xFD, 2, 1, 0, 8, 1, 1, 0, 0, 0)) + b"ab" + b"cc" + bytes(13)
OLD = bytes((0xFE, 4, 0, 9, 1, 0)) + b"abcd" + b"cc"


@pytest.mark.parametrize("step", [1, 2, 7, 100])
def test_messages_of_a_shared_line_stay_whole(step):
    stream, line, found = b"noise" + MESSAGE + SIGNED + b"?" + OLD + MESSAGE[:9], Messages(), []
    for place in range(0, len(stream), step):
        found += line.feed(stream[place : place + step])
    assert found == [MESSAGE, SIGNED, OLD]
    assert line.skipped == 6
    assert line.wrap(OLD) == OLD


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_whatever_comes_on_a_shared_line_little_of_it_is_kept(parts):
    line = Messages()
    for part in parts:
        for message in line.feed(part):
            assert message[0] in (0xFE, 0xFD)
    assert len(line._kept) < 300


def test_others_on_a_line_are_first_come_first_served_and_not_counted_as_ours():
    air = Channel(RADIOS["mavlink57600"])
    air.send(0, MESSAGE, 0.0, other=True)
    air.send(0, OLD, 0.0)
    assert [frame for _, frame in air.arrivals(1.0)] == [MESSAGE, OLD]
    assert [(one.other, one.size) for one in air.log] == [(True, len(MESSAGE)), (False, len(OLD))]
    assert air.log[1].began == air.log[0].ended
    assert air.counters(0) == {"frames": 1, "bytes": len(OLD), "arrived": 1}


def test_others_speak_on_a_shared_line_alone():
    assert parse_radio("mavlink57600,others2000B").others == 2000.0
    with pytest.raises(ValueError, match="others2000B', expected loss5%"):
        parse_radio("serial57600,others2000B")
    with pytest.raises(ValueError, match="others: 9000, expected 0 to 5760"):
        parse_radio("mavlink57600,others9000B")
    shared = parse_hop("mavlink57600,seed3")
    assert isinstance(shared, RadioLink)
    assert shared.rate_bps == 8 * 5760


def test_all_terminals_of_an_end_hear_what_comes_there():
    with RadioEmulator(RADIOS["mavlink57600"]) as radio:
        lines = [os.open(name, os.O_RDWR | os.O_NOCTTY) for name in (*radio.devices, *radio.other_devices)]
        os.write(lines[2], MESSAGE)  # others, at our robot's end
        came = [select.select([line], [], [], 5.0)[0] and os.read(line, 100) for line in (lines[1], lines[3])]
        for line in lines:
            os.close(line)
    assert came == [MESSAGE, MESSAGE]
    with RadioEmulator(RADIOS["serial9600"]) as radio:
        assert radio.other_devices == ()


@pytest.mark.parametrize("shared", [False, True])
def test_what_the_port_does_not_take_is_not_called_sent(shared):
    """A device that was unplugged a moment ago is open still."""

    class Full:
        is_open = True
        takes = False

        def __init__(self) -> None:
            self.counters: Counter[str] = Counter()

        def send(self, data: bytes) -> bool:
            return self.takes

        def close(self) -> None: ...

    port, clock = Full(), ManualClock(1000.0)
    hooks = SenderHooks(lambda camera, data: None, lambda camera, data: data, lambda now: None)
    options = RadioOptions(Air(128, bytes_per_second=1200.0), shared=shared)
    end = RadioSending(options, lambda received: port, hooks, age=lambda: 0.0, clock=clock)
    end.set_info("front", info())
    laid = lay_out([Block(0xBEEF, 1, 0, bytes(9))], 0, long=False)
    assert not end.send(Datagram("front", 0, laid, 20, 1, 1, 0, (0,)))
    assert not end.counters.get("sent")
    port.takes = True
    clock.set(1010.0)
    assert end.send(Datagram("front", 0, laid, 20, 1, 2, 0, (0,)))
    assert end.counters["sent"] >= 1
    end.close()
