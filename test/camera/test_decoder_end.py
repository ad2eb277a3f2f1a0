"""The base's end of a camera and its thread: stamps, damage, what is published and how often, what is asked for."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from semhier_ros.camera.asking import AskPolicy, Seen
from semhier_ros.camera.decoder_end import EARLY, DecoderEnd, Output, at_level
from semhier_ros.camera.fleet import Fleet, Limits
from semhier_ros.camera.worker import FleetWorker
from semhier_ros.codec.block_request import BlockRequest
from semhier_ros.codec.model import PictureRequest
from semhier_ros.codec.packet import Block, Packet, PacketError, split
from semhier_ros.codec.reading import Detection, Reading
from semhier_ros.codec.stream_info import StreamInfo

SECOND = 1_000_000_000
TAG = 0x1234
HASH = "1234" + "0" * 12
OLD = 1_500_000_000 * SECOND + 123_456_789
"""A stamp years before now, as bags have."""


class PlainDecoder:
    """Reads blocks whose bytes are their own index, in the manner of `semhier_ros.api.Decoder`: each level adds a name,
    the detail makes all surer, pictures change nothing."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size, self.counters = size, Counter[str]()
        self.frames: dict[int, set[int]] = {}

    def push(self, block: Block, stamp_ns: int | None = None) -> Reading | None:
        if block.stream != TAG:
            raise PacketError("another stream")
        if block.data != bytes([block.index]) * 8:
            raise PacketError("damaged")
        have = self.frames.setdefault(block.frame, set())
        before = self.prefix(have)
        have.add(block.index)
        prefix = self.prefix(have)
        if prefix < 0:
            return None
        level, sure = min(prefix, 2), 0.9 if prefix < 3 else 0.95
        one = Detection(
            7, (0.0, 0.0, 1.0, 1.0), (0, 1, 2)[: level + 1], ("a", "b", "c")[: level + 1], (sure,) * (level + 1)
        )
        return Reading(block.frame, prefix, level, (one,), 8 * (prefix + 1), prefix > before)

    @staticmethod
    def prefix(have: set[int]) -> int:
        return next(index for index in range(17) if index not in have) - 1

    def picture_request(self, frame: int) -> PictureRequest | None:
        return PictureRequest(None, frame, self.size) if frame in self.frames else None

    def picture_work(self, frame: int) -> None:
        """Picture blocks are read as they come."""


def paint(requests: Sequence[PictureRequest], spent: Any = None) -> list[Any]:
    return [np.zeros((height, width, 3), np.uint8) for _, _, (width, height) in requests]


CODEC = SimpleNamespace(
    name="plain",
    stream_hash=HASH,
    model_hash="f" * 16,
    stream_tag=TAG,
    block_names=("level_0", "level_1", "level_2", "detail", "picture_0"),
    semantic_blocks=4,
    batches=False,
    whole_image=False,
    decoder=lambda image_size, keep_frames, follow: PlainDecoder(image_size),
    pictures=paint,
)


def block(frame: int, index: int, stream: int = TAG) -> Block:
    return Block(stream, frame, index, bytes([index]) * 8)


def packet(frame: int, first: int, last: int, stamp_ns: int | None = None) -> bytes:
    return Packet.pack([block(frame, index) for index in range(first, last + 1)], stamp_ns=stamp_ns)


def info(stamp_ns: int = OLD, stream_hash: str = HASH, width: int = 64, model_hash: str = "f" * 16) -> StreamInfo:
    return StreamInfo("front", "lens", width, 48, "plain", stream_hash, model_hash, stamp_ns)


@pytest.fixture
def reports() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def end(reports: list[tuple[str, str]]) -> DecoderEnd:
    return DecoderEnd("front", {HASH: CODEC}, 4, lambda kind, text: reports.append((kind, text)))


def summary(outputs: list[Output]) -> list[tuple[int, int, int]]:
    return [(output.reading.frame, output.reading.level, output.reading.prefix) for output in outputs]


def test_each_block_gives_a_reading_with_the_full_old_stamp(end: DecoderEnd) -> None:
    assert end.describe(info(), 0.0) == []
    stamp_ns = OLD + 33_000_001
    outputs = end.datagram(packet(5, 0, 1, stamp_ns), 0.0)
    assert summary(outputs) == [(5, 0, 0), (5, 1, 1)]
    assert {(output.stamp_ns, output.frame_id) for output in outputs} == {(stamp_ns, "lens")}
    assert summary(end.datagram(packet(5, 2, 3), 0.0)) == [(5, 2, 2), (5, 2, 3)]
    assert summary(end.datagram(packet(5, 0, 1, stamp_ns), 0.0)) == []
    (complete,) = end.datagram(packet(5, 4, 4), 0.0)
    assert end.is_complete(complete.reading)
    assert not complete.changed
    request = end.picture_request(5)
    assert request is not None
    assert request.size == (64, 48)


def test_skipped_levels_still_get_their_cut_reading(end: DecoderEnd) -> None:
    end.describe(info(), 0.0)
    assert summary(end.block(block(5, 1), OLD, 0.0)) == []
    assert summary(end.block(block(5, 2), OLD, 0.0)) == []
    outputs = end.block(block(5, 0), OLD, 0.0)
    assert summary(outputs) == [(5, 0, 2), (5, 1, 2), (5, 2, 2)]
    assert [len(output.reading.detections[0].path) for output in outputs] == [1, 2, 3]
    assert {output.reading.detections[0].id for output in outputs} == {7}


def test_a_frame_is_published_again_only_when_its_reading_changed(end: DecoderEnd) -> None:
    """Picture blocks used to publish the finest reading up to five times: a rule of N sightings in M saw one often."""
    end.describe(info(), 0.0)
    outputs = [output for index in range(5) for output in end.datagram(packet(5, index, index, OLD), 0.0)]
    assert [(output.reading.level, output.reading.prefix, output.changed) for output in outputs] == [
        (0, 0, True),
        (1, 1, True),
        (2, 2, True),
        (2, 3, True),  # the detail made it surer
        (2, 4, False),  # only the picture got better
    ]
    published = [output.reading.detections for output in outputs if output.changed]
    assert len(set(published)) == len(published)


def test_an_empty_reading_is_published_once_for_each_level() -> None:
    class Empty(PlainDecoder):
        def push(self, block: Block, stamp_ns: int | None = None) -> Reading | None:
            reading = super().push(block)
            return None if reading is None else replace(reading, detections=())

    codec = SimpleNamespace(**vars(CODEC) | {"decoder": lambda image_size, keep_frames, follow: Empty(image_size)})
    end = DecoderEnd("front", {HASH: codec}, 4, lambda kind, text: None)
    end.describe(info(), 0.0)
    outputs = [output for index in range(5) for output in end.datagram(packet(5, index, index, OLD), 0.0)]
    assert [output.reading.level for output in outputs if output.changed] == [0, 1, 2]


def test_uncertain_frames_are_asked_for_once(reports: list[tuple[str, str]]) -> None:
    codec = SimpleNamespace(
        **vars(CODEC) | {"decoder": lambda image_size, keep_frames, follow: PlainDecoder(image_size)}
    )
    end = DecoderEnd("front", {HASH: codec}, 4, lambda kind, text: None, ask=AskPolicy(1.0, 4, 20.0))
    end.describe(info(), 0.0)
    unsure = end.datagram(packet(5, 0, 3, OLD), 0.0)
    assert [output.asks for output in unsure] == [None] * len(unsure), "all scores are alike: nothing is uncertain"
    always = DecoderEnd("front", {HASH: codec}, 4, lambda kind, text: None, ask=Always())
    always.describe(info(), 0.0)
    assert [output.asks for output in always.datagram(packet(5, 0, 3, OLD), 0.0)] == [
        BlockRequest(4, 5),
        None,
        None,
        None,
    ]


class Always(AskPolicy):
    """Asks for every frame once."""

    def __init__(self) -> None:
        super().__init__(0.0, 4, 20.0)

    def uncertain(self, objects: Sequence[Seen]) -> bool:
        return True


def test_a_reading_cut_to_a_level_keeps_everything_else() -> None:
    fine = Reading(
        3, 2, 2, (Detection(1, (0.0, 1.0, 2.0, 3.0), (0, 1, 2), ("a", "b", "c"), (0.9, 0.8, 0.7)),), 30, True
    )
    (one,) = at_level(fine, 0).detections
    assert (one.id, one.box, one.path, one.names, one.scores) == (1, (0.0, 1.0, 2.0, 3.0), (0,), ("a",), (0.9,))


def test_what_comes_before_the_description_is_kept_for_it(end: DecoderEnd, reports: list[tuple[str, str]]) -> None:
    for frame in range(EARLY + 3):
        assert end.datagram(packet(frame, 0, 0, OLD + frame), 0.0) == []
    assert Counter(kind for kind, _ in reports) == {"no_description": 3}
    outputs = end.describe(info(), 0.0)
    assert [output.reading.frame for output in outputs] == list(range(3, EARLY + 3))
    assert outputs[0].stamp_ns == OLD + 3


@pytest.mark.parametrize("later", [25.0, 1.1], ids=["the camera paused", "its clock paused"])
def test_frames_after_a_pause_are_read_at_once(end: DecoderEnd, later: float) -> None:
    """What describes a stream goes on coming meanwhile, with the stamp of the last frame."""
    end.describe(info(), 0.0)
    assert end.datagram(packet(1, 0, 0, OLD + SECOND), 1.0)
    for now in (3.0, 13.0, 23.0):
        end.describe(info(OLD + SECOND), now)
    stamp_ns = OLD + round(later * SECOND)
    assert [output.stamp_ns for output in end.datagram(packet(2, 0, 0, stamp_ns), 25.0)] == [stamp_ns]


def test_pieces_are_put_together(end: DecoderEnd) -> None:
    end.describe(info(), 0.0)
    end.datagram(packet(5, 0, 3, OLD), 0.0)
    big = Block(TAG, 5, 4, bytes([4]) * 8)
    pieces = split(big, 17)
    assert len(pieces) > 1
    results = [end.datagram(piece, 0.0) for piece in pieces]
    assert [bool(result) for result in results] == [False] * (len(pieces) - 1) + [True]


def test_damage_costs_a_counter_and_nothing_else(end: DecoderEnd, reports: list[tuple[str, str]]) -> None:
    end.describe(info(), 0.0)
    good = packet(5, 0, 0, OLD)
    for place in range(len(good)):
        damaged = bytes(byte ^ (place == index) for index, byte in enumerate(good))
        assert end.datagram(damaged, 0.0) == []
    assert end.datagram(b"", 0.0) == []
    assert end.block(Block(TAG, 5, 0, b"wrong"), OLD, 0.0) == []
    assert end.block(block(5, 0, stream=0x9999), OLD, 0.0) == []
    counters = end.all_counters()
    assert counters["damaged"] == len(good) + 2
    assert counters["other_stream"] == 1
    assert {kind for kind, _ in reports} == {"damaged", "other_stream"}
    assert summary(end.datagram(good, 0.0)) == [(5, 0, 0)]


def test_a_description_of_pictures_that_are_too_large_changes_nothing(
    end: DecoderEnd, reports: list[tuple[str, str]]
) -> None:
    end.describe(info(), 0.0)
    for width, height in ((20_000, 480), (16_384, 16_384)):
        assert end.describe(replace(info(), width=width, height=height), 0.0) == []
        assert reports[-1][0] == "description_refused"
        assert f"{width}x{height}, expected sides of 1..16384" in reports[-1][1]
    assert end.info == info()
    assert summary(end.datagram(packet(6, 0, 0, OLD), 0.0)) == [(6, 0, 0)]


def test_an_unknown_model_is_named_by_its_hash(end: DecoderEnd, reports: list[tuple[str, str]]) -> None:
    other = "9876" + "5" * 12
    end.describe(info(stream_hash=other), 0.0)
    assert end.datagram(packet(5, 0, 0, OLD), 0.0) == []
    ((kind, text),) = reports
    assert kind == "unknown_model"
    assert other in text
    assert HASH in text
    end.describe(info(), 0.0)
    assert summary(end.datagram(packet(6, 0, 0, OLD), 0.0)) == [(6, 0, 0)]


def test_a_newer_model_hash_reads_and_is_said_once(end: DecoderEnd, reports: list[tuple[str, str]]) -> None:
    end.describe(info(model_hash="e" * 16), 0.0)
    end.describe(info(model_hash="e" * 16), 0.0)
    assert [kind for kind, _ in reports] == ["other_model_hash"]
    assert summary(end.datagram(packet(5, 0, 0, OLD), 0.0)) == [(5, 0, 0)]


def test_a_repeated_description_keeps_the_decoder_and_a_new_size_renews_it(end: DecoderEnd) -> None:
    end.describe(info(), 0.0)
    end.block(block(5, 0), OLD, 0.0)
    end.describe(info(OLD + SECOND), 0.0)
    assert summary(end.block(block(5, 1), OLD, 0.0)) == [(5, 1, 1)]
    end.describe(info(OLD + SECOND, width=65), 0.0)
    assert summary(end.block(block(5, 2), OLD, 0.0)) == []
    end.block(block(6, 0), OLD, 0.0)
    request = end.picture_request(6)
    assert request is not None
    assert request.size == (65, 48)


def test_memory_is_bounded_whatever_arrives(end: DecoderEnd) -> None:
    end.describe(info(), 0.0)
    for frame in range(1000):
        end.datagram(packet(frame, 0, 0, OLD + frame), 0.0)
    assert len(end._frames) <= 8


def worker_of(end: Any, packets: int = 8, **callbacks: Any) -> FleetWorker:
    functions: dict[str, Any] = {
        "on_reading": lambda camera, output: None,
        "on_picture": lambda camera, rgb, output: None,
        "wants_picture": lambda stream, output: False,
        "on_error": lambda error: None,
        "report": lambda kind, text: None,
    }
    return FleetWorker(Fleet({"front": end}, Limits(packets, late=60.0), **functions | callbacks))


def test_a_packet_that_comes_while_a_picture_is_painted_does_not_wait_for_it(
    monkeypatch: pytest.MonkeyPatch, end: DecoderEnd
) -> None:
    begun, read, painted = threading.Event(), threading.Event(), threading.Event()

    def slowly(requests: Sequence[PictureRequest], spent: Any = None) -> list[Any]:
        begun.set()
        assert read.wait(30), "a reading waited for a picture"
        return paint(requests)

    monkeypatch.setattr(CODEC, "pictures", slowly)
    worker = worker_of(
        end,
        on_reading=lambda camera, output: read.set() if output.reading.frame == 1 else None,
        on_picture=lambda camera, rgb, output: painted.set(),
        wants_picture=lambda stream, output: output.reading.frame == 0,
    )
    worker.put("front", info())
    worker.put("front", packet(0, 0, 0, OLD))
    assert begun.wait(30)
    worker.put("front", packet(1, 0, 0, OLD + 1))
    assert painted.wait(60)
    worker.close()
    assert end.counters["pictures"] == 1
    assert not worker.counters["errors"]


def test_worker_drops_the_oldest_packet_but_no_description(end: DecoderEnd) -> None:
    frames: list[int] = []
    begun, gate, last = threading.Event(), threading.Event(), threading.Event()

    def reading(camera: str, output: Output) -> None:
        begun.set()
        gate.wait(30)
        frames.append(output.reading.frame)
        if output.reading.frame == 30:
            last.set()

    worker = worker_of(end, packets=5, on_reading=reading)
    worker.put("front", info())
    worker.put("front", packet(0, 0, 0, OLD))
    assert begun.wait(30)
    worker.put("front", info(OLD + 1))
    for frame in range(1, 31):
        worker.put("front", packet(frame, 0, 0, OLD))
    worker.put("nobody", info())
    gate.set()
    assert last.wait(30)
    worker.close()
    assert frames == [0, 27, 28, 29, 30]
    assert worker.counters["overflow"] == 26
    assert worker.counters["other_camera"] == 1
    assert end.info == info(OLD + 1)


def test_worker_survives_what_callbacks_raise(end: DecoderEnd) -> None:
    errors: list[Exception] = []
    frames: list[int] = []
    seen = threading.Event()

    def reading(camera: str, output: Output) -> None:
        if output.reading.frame == 0:
            raise RuntimeError("publisher is gone")
        frames.append(output.reading.frame)
        seen.set()

    worker = worker_of(end, on_reading=reading, on_error=errors.append)
    worker.put("front", info())
    worker.put("front", packet(0, 0, 0, OLD))
    worker.put("front", packet(1, 0, 0, OLD))
    assert seen.wait(30)
    worker.close()
    assert [str(error) for error in errors] == ["publisher is gone"]
    assert frames == [1]
