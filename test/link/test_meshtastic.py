"""Frames over the port of a Meshtastic radio: bytes as the maker's package has them, and two radios that play it."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
import tty
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semhier_ros.codec.block_request import BlockRequest
from semhier_ros.codec.packet import Block, Packet, split
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.link.carriers import carrier
from semhier_ros.link.radio.meshtastic import LARGEST, Meshtastic
from semhier_ros.link.radio.ports import SerialOptions, SerialPort
from semhier_ros.link.schedule.policy import default_policies

TO_RADIO = bytes.fromhex("0a2015ffffffff22190880021214000102030405060708090a0b0c0d0e0f10111213")
"""Of the package meshtastic 2.7.11: a ToRadio with a packet to everybody, port 256, and the bytes 0 to 19."""
FROM_RADIO = bytes.fromhex(
    "0807124d0dcdab341215ffffffff18012223088002121e"
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d"
    "35630000003d00f15365450000d040480360b0ffffffffffffffff01"
)
"""Of the same: a FromRadio with a packet that was heard, with all that a radio tells of it, and the bytes 0 to 29."""
OTHERS = [bytes.fromhex(text) for text in ("120b22090801120568656c6c6f", "1a020805", "38d39001")]
"""A text message, what a radio tells of itself, and that its configuration is told."""


def on_port(message: bytes) -> bytes:
    return b"\x94\xc3" + len(message).to_bytes(2, "big") + message


def test_bytes_are_those_of_the_makers_package():
    assert Meshtastic().wrap(bytes(range(20))) == on_port(TO_RADIO)
    assert Meshtastic.opening == on_port(bytes.fromhex("18d39001"))
    assert Meshtastic.keeping == on_port(bytes.fromhex("3a00"))


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_packets_of_ours_are_found_among_all_that_a_radio_says(step):
    stream = b"boot\r\n" + b"".join(map(on_port, OTHERS)) + b"INFO \x94 | x\n" + on_port(FROM_RADIO) + b"\x94"
    stream += on_port(FROM_RADIO[:-9]) + on_port(FROM_RADIO)
    port, found = Meshtastic(), []
    for start in range(0, len(stream), step):
        found += port.feed(stream[start : start + step])
    assert found == [bytes(range(30))] * 2


@given(st.lists(st.binary(max_size=300), max_size=10))
def test_whatever_comes_little_of_it_is_kept_and_nothing_raises(parts):
    port = Meshtastic()
    for part in parts:
        for cut in (part, b"\x94\xc3" + part, on_port(part), on_port(b"\x12" + bytes((len(part) & 0x7F,)) + part)):
            assert all(len(frame) <= 512 for frame in port.feed(cut))
    assert len(port._kept) <= 516


@pytest.mark.parametrize("size", [0, LARGEST + 1])
def test_a_frame_that_no_packet_holds_is_refused(size):
    with pytest.raises(ValueError, match=f"frame: {size} bytes, expected 1 to 233"):
        Meshtastic().wrap(bytes(size))


class Radios:
    """Two radios: what a computer gives to one the other tells its own, once that has asked for its configuration."""

    def __init__(self) -> None:
        self.ends = [os.openpty() for _ in range(2)]
        for pair in self.ends:
            for one in pair:
                tty.setraw(one)
        self.devices = [os.ttyname(slave) for _, slave in self.ends]
        self.asked, self.packets, self._kept = [False, False], [0, 0], [b"", b""]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        masters = [master for master, _ in self.ends]
        while not self._stop.is_set():
            for master in select.select(masters, [], [], 0.05)[0]:
                end = masters.index(master)
                self._kept[end] += os.read(master, 4096)
                while (size := 4 + int.from_bytes(self._kept[end][2:4], "big")) <= len(self._kept[end]):
                    message, self._kept[end] = self._kept[end][4:size], self._kept[end][size:]
                    self._hear(end, message)

    def _hear(self, end: int, message: bytes) -> None:
        if message[0] == 0x18:
            self.asked[end] = True
            os.write(self.ends[end][0], b"log line\n" + b"".join(map(on_port, OTHERS)))
        elif message[0] == 0x0A and self.asked[1 - end]:
            self.packets[end] += 1
            told = b"\x08\x01\x12" + message[1:]  # FromRadio: an id, and the packet
            os.write(self.ends[1 - end][0], on_port(told))

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        for pair in self.ends:
            for one in pair:
                os.close(one)


@pytest.fixture
def radios() -> Iterator[Radios]:
    both = Radios()
    yield both
    both.stop()


def test_blocks_and_requests_cross_two_radios(radios):
    pytest.importorskip("serial", reason="pyserial is not installed: requirements/radio.txt")
    heard: list[Packet] = []
    asked: list[bytes] = []
    settings = {"framing": "meshtastic", "baud": 115_200, "rate_kbit": 1000.0, "frame_bytes": 240, "turnaround_ms": 5.0}
    robot, base = (carrier("serial", {**settings, "device": device}) for device in radios.devices)
    receiver = base.receiver(lambda camera, level, data: heard.append(Packet.parse(data)))
    policies = default_policies(1, 1)
    sender = robot.sender(Packet.pack, split, policies, budget=None, on_request=lambda camera, data: asked.append(data))
    info = StreamInfo("front", "lens", 640, 360, "road", "beef" * 4, "cafe" * 4, time.time_ns())
    blocks = [Block(0xBEEF, number, 0, bytes([number]) * (9 + 60 * (number % 5))) for number in range(1, 41)]
    try:
        until(lambda: radios.asked == [True, True])
        for block in blocks:
            sender.set_info("front", info.to_bytes(), False)
            sender.submit("front", block.frame, time.time_ns(), [block])
            time.sleep(0.05)
        until(lambda: len({packet.frame for packet in heard if packet.piece is None}) >= 30)
        assert {packet.blocks for packet in heard if packet.piece is None} <= {(block,) for block in blocks}
        assert receiver.request("front", BlockRequest(6, 40).to_bytes())
        until(lambda: asked)
        assert BlockRequest.from_bytes(asked[0]) == BlockRequest(6, 40)
        assert min(radios.packets) > 0
    finally:
        sender.close()
        receiver.close()


def test_frames_cross_a_radio_that_is_reached_over_a_network():
    came: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        listener.settimeout(20.0)
        device = f"socket://127.0.0.1:{listener.getsockname()[1]}"
        port = SerialPort(SerialOptions(device, 115_200, "meshtastic"), came.append)
        radio, _ = listener.accept()
        try:
            radio.settimeout(20.0)
            assert radio.recv(100) == Meshtastic.opening
            until(lambda: port.is_open)
            assert port.send(b"meaning")
            told = radio.recv(1000)
            assert told == Meshtastic().wrap(b"meaning")
            radio.sendall(on_port(b"\x08\x01\x12" + told[5:]))
            until(lambda: came == [b"meaning"])
            assert not port.counters.get("losses")
        finally:
            port.close()
            radio.close()


def until(reached) -> None:
    end = time.monotonic() + 30.0
    while not reached():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)
