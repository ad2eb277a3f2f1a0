"""Pictures that a receiver asks for of frames that went out as deltas, over a radio and over Zenoh."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from typing import Any

import numpy as np
import pytest

from semhier_ros import Codec
from semhier_ros.camera.decoder_end import DecoderEnd, Output
from semhier_ros.camera.encoder_end import EncoderEnd, EncoderSettings, PictureMaker
from semhier_ros.codec.block_request import BlockRequest
from semhier_ros.codec.packet import Block, Packet, delta_tag, split
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.footage.video import FootageError, default_video, read_video
from semhier_ros.link.carriers import Carrier, carrier
from semhier_ros.link.emulate.radio import RadioEmulator, RadioProfile
from semhier_ros.link.schedule.policy import default_policies
from semhier_ros.paths import model_names
from semhier_ros.scene import remembering
from semhier_ros.scene.budget import overlaps

pytestmark = pytest.mark.skipif("road" not in model_names(), reason="models/road is not there")
KEPT = 4
"""Frames that the base keeps."""


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec.load("road", precision="f32")  # which frames are whole hangs on what is found in them


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    try:
        return [frame.image for frame in islice(read_video(default_video()), 60, 120, 4)]
    except FootageError as error:
        pytest.skip(str(error))


class Ends:
    """Both ends of a camera over a carrier's link, in real time."""

    def __init__(self, codec: Codec, pictures: list[np.ndarray], robot: Carrier, base: Carrier) -> None:
        self.pictures, self.codec = pictures, codec
        self.told: list[tuple[str, str]] = []
        self.outputs: list[Output] = []
        self.lock = threading.Lock()
        self.base = DecoderEnd("front", codec.streams(), KEPT, lambda *told: self.told.append(told), memory=True)
        self.receiver = base.receiver(
            lambda camera, level, data: self._hear(lambda now: self.base.datagram(data, now)),
            lambda camera, data: self._hear(lambda now: self.base.describe(StreamInfo.from_bytes(data), now)),
            cameras=["front"],
            remembers=lambda camera: self.base.acknowledgement,
            on_stored=lambda camera, stamp, blocks: self._hear(lambda now: self.base.stored(blocks, stamp, now)),
        )
        self.sender = robot.sender(
            Packet.pack,
            split,
            default_policies(len(codec.block_names), codec.semantic_blocks),
            budget=60_000.0,
            on_request=lambda camera, data: self.robot.request(BlockRequest.from_bytes(data), time.monotonic()),
            on_memory=lambda camera, memory: self.robot.heard(memory),
        )
        self.sender.set_finest("front", codec.semantic_blocks - 1)
        self.kinds: dict[int, bool] = {}
        self.robot = EncoderEnd(
            "front",
            PictureMaker(codec, memory=codec.memory(radio=robot.radio, whole_every=60.0)),
            self.sender,
            lambda info, changed: self.sender.set_info("front", info.to_bytes(), changed),
            EncoderSettings(keep_frames=40),
        )

    def _hear(self, take: Callable[[float], list[Output]]) -> None:
        with self.lock:
            self.outputs += take(time.monotonic())

    def frames(self, count: int) -> None:
        """Sends so many frames, ten a second."""
        for _ in range(count):
            number = self.robot.next_frame
            self.robot.offer(self.pictures[number % len(self.pictures)], time.time_ns(), "lens", time.monotonic())
            end = time.monotonic() + 0.1
            while time.monotonic() < end:
                self.work()
                time.sleep(0.005)

    def work(self) -> None:
        job = self.robot.begin(time.monotonic())
        if job is not None:
            job.run()
            self.robot.finish(job, time.monotonic())
            if job.kind == "meaning":
                self.kinds[job.frame.number] = job.blocks[0].stream == delta_tag(self.codec.stream_tag)

    def until(self, reached: Callable[[], Any], seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < end, (self.told[-3:], self.robot.counters)
            self.work()
            time.sleep(0.01)

    def readings(self, frame: int) -> list[Output]:
        """What came of a frame with blocks of its picture."""
        with self.lock:
            found = [one for one in self.outputs if one.reading.frame == frame]
        return [one for one in found if one.reading.prefix >= self.codec.semantic_blocks]


@pytest.fixture
def ends(codec: Codec, pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Ends]]:
    monkeypatch.setattr(remembering, "LEAST_OBJECTS", 0)  # the footage shows few
    with ExitStack() as stack:

        def make(name: str) -> Ends:
            if name == "serial":
                pytest.importorskip("serial", reason="pyserial is not installed: requirements/radio.txt")
                radio = RadioEmulator(RadioProfile(20_000.0, 240, turnaround=0.005)).start()
                stack.callback(radio.stop)
                settings = radio.profile.settings(baud=57_600, check=32)
                two = [carrier("serial", {**settings, "device": device}, None) for device in radio.devices]
            else:
                pytest.importorskip("zenoh", reason="eclipse-zenoh is not installed: requirements/zenoh.txt")
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
                    found.bind(("127.0.0.1", 0))
                    at = f"udp/127.0.0.1:{found.getsockname()[1]}"
                two = [carrier("zenoh", {"connect": [at]}, None), carrier("zenoh", {"listen": [at]}, None)]
            made = Ends(codec, pictures, *two)
            stack.callback(made.receiver.close)
            stack.callback(made.sender.close)
            made.until(lambda: made.sender.connected)
            return made

        yield make


def centred(box: tuple[float, ...]) -> np.ndarray:
    """A box by its middle and sides, in a row."""
    x0, y0, x1, y1 = box
    return np.array([[(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]])


def gone_delta(pair: Ends) -> int:
    """A frame that was a delta, that the base has read, and keeps no longer."""
    pair.frames(30)
    pair.until(lambda: any(pair.kinds.values()))
    read = {one.reading.frame for one in pair.outputs}
    newest = max(pair.kinds)
    return max(
        number for number, delta in pair.kinds.items() if delta and number in read and number < newest - 2 * KEPT
    )


def test_over_a_radio_it_comes_although_the_base_keeps_the_frame_no_longer(ends: Callable[[str], Ends]) -> None:
    pair = ends("serial")
    frame = gone_delta(pair)
    before = [one.reading for one in pair.outputs if one.reading.frame == frame][-1]
    assert pair.receiver.request("front", BlockRequest(pair.codec.semantic_blocks, frame).to_bytes())
    pair.until(lambda: pair.readings(frame))
    shown = pair.readings(frame)[-1].reading
    assert len(shown.detections) == len(before.detections)
    left = list(before.detections)
    for now in shown.detections:  # objects of one score come in any order
        then = max(left, key=lambda one: float(overlaps(centred(now.box), centred(one.box))[0, 0]))
        assert overlaps(centred(now.box), centred(then.box))[0, 0] > 0.75
        assert now.names == then.names
        left.remove(then)
    request = pair.base.picture_request(frame)
    assert request is not None
    (picture,) = pair.codec.pictures([request])
    truth = pair.pictures[frame % len(pair.pictures)]
    others = [pair.pictures[(frame + step) % len(pair.pictures)] for step in (5, 7)]
    assert min(float(np.abs(picture.astype(int) - one).mean()) for one in others) > float(
        np.abs(picture.astype(int) - truth).mean()
    )
    assert "acknowledged_unknown" not in pair.robot.counters
    assert not [kind for kind, _ in pair.told if kind != "refused_deltas"]


def test_over_zenoh_it_comes_while_the_base_keeps_the_frame_and_else_a_line_says_why(
    ends: Callable[[str], Ends],
) -> None:
    pair = ends("zenoh")
    gone = gone_delta(pair)
    newest = max(number for number, delta in pair.kinds.items() if delta)
    finest = pair.codec.semantic_blocks
    assert pair.receiver.request("front", BlockRequest(finest, newest).to_bytes())
    pair.until(lambda: pair.readings(newest))
    request = pair.base.picture_request(newest)
    assert request is not None
    assert pair.codec.pictures([request])[0].shape == pair.pictures[0].shape
    assert pair.receiver.request("front", BlockRequest(finest, gone).to_bytes())
    pair.until(lambda: pair.base.counters["pictures_too_late"])
    assert f"frame {gone}: a block of its picture came, but this end keeps the frame no longer" in pair.told[-1][1]


def test_a_picture_asked_for_later_is_that_of_its_own_frame(
    codec: Codec, pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newer frames, a whole one last, change nothing about what an older delta's steps go on with."""
    monkeypatch.setattr(remembering, "LEAST_OBJECTS", 0)
    size = (pictures[0].shape[1], pictures[0].shape[0])

    def asked(late: bool) -> tuple[Block, Any]:
        """The first picture block of frame 5, and the memory after frame 9, which is whole."""
        decoder, memory = codec.decoder(size, memory=True), codec.memory(whole_every=0.9)
        waiting, kinds, found = iter(()), [], None
        for number in range(10):
            stamp = number * 10**8
            steps = codec.encode_stepwise(pictures[number], frame=number, stamp_ns=stamp, memory=memory, beyond=True)
            blocks = [next(steps)]
            kinds.append(blocks[0].stream == codec.stream_tag)
            blocks += islice(steps, codec.semantic_blocks - 1 if kinds[-1] else 0)
            for block in blocks:
                decoder.push(block, stamp)
            memory.heard(decoder.acknowledgement or b"")
            if number == 5:
                waiting = steps
                found = None if late else next(waiting)
        assert kinds == [number in (0, 9) for number in range(10)]
        return found or next(waiting), memory

    at_once, _ = asked(late=False)
    later, memory = asked(late=True)
    assert later == at_once
    alone = codec.alone(memory, 5)
    assert [block.index for block in alone] == list(range(codec.semantic_blocks))
    assert codec.alone(memory, 9) == codec.alone(memory, 70) == []
    plain = codec.decoder(size)
    readings = [plain.push(block) for block in [*alone, later]]
    assert readings[-1] is not None
    assert readings[-1].detections
    assert readings[-1].prefix == codec.semantic_blocks
