"""The robot's end of a camera: what is made next, and what of it is sent, in the caller's own time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from semhier_ros.camera.encoder_end import ASKED_FRAMES, EncoderEnd, EncoderSettings, Job, Opened
from semhier_ros.camera.slots import RateLimit
from semhier_ros.camera.worker import EncodeWorker
from semhier_ros.codec.block_request import BlockRequest
from semhier_ros.codec.packet import Block
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.link.feedback.sender_control import Advice

NAMES = ("level_0", "level_1", "level_2", "detail", "picture_0", "picture_1", "picture_2")
SEMANTIC = 4


class Maker:
    """Blocks of sources that are texts; "bad" cannot be read, and a bound of bytes leaves one block."""

    name, stream_hash, model_hash = "plain", "1234" + "0" * 12, "f" * 16
    block_names, semantic_blocks, levels = NAMES, SEMANTIC, 3

    def __init__(self) -> None:
        self.size = (64, 48)
        self.made: list[tuple[int, int]] = []
        self.bounds: list[int | None] = []

    def open(self, source: str, frame: int, stamp_ns: int, max_bytes: int | None) -> Opened:
        if source == "bad":
            raise ValueError("no picture")
        self.bounds.append(max_bytes)
        return Opened(self.size, self._blocks(frame, 1 if max_bytes else len(NAMES)))

    def _blocks(self, frame: int, count: int) -> Iterator[Block]:
        for index in range(count):
            self.made.append((frame, index))
            yield Block(0x1234, frame, index, bytes([index]))


class Link:
    """Remembers what was submitted: (frame, block indices, asked)."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, tuple[int, ...], bool]] = []
        self.offers: list[int] = []
        self.meant: list[tuple[int, int]] = []
        self.lost: list[int] = []
        self.advised = Advice(0.0, None)
        self.last = 15
        self.set: list[tuple[int | None, float | None]] = []

    def offered(self, camera: str, semantic: Sequence[Any]) -> None:
        self.offers.append(len(semantic))

    def submit(self, camera: str, frame: int, stamp_ns: int, blocks: Sequence[Any], *, asked: bool = False) -> int:
        self.sent.append((frame, tuple(block.index for block in blocks), asked))
        return len(blocks)

    def meaning(self, camera: str, frame: int, blocks: Sequence[Any]) -> None:
        self.meant.append((frame, len(blocks)))

    def gone(self, camera: str, frame: int) -> None:
        self.lost.append(frame)

    def advice(self, camera: str, wanted: float, given: float = 0.0) -> Advice:
        return Advice(wanted, None) if self.advised == Advice(0.0, None) else self.advised

    def finest(self, camera: str) -> int:
        return self.last

    def set_finest(self, camera: str, index: int | None, seconds: float | None = None) -> None:
        self.set.append((index, seconds))


class Robot:
    """An end with its maker and link, driven by hand: `drive` runs jobs that take `seconds` each until `until`."""

    def __init__(self, **settings: Any) -> None:
        self.maker, self.link = Maker(), Link()
        self.infos: list[tuple[StreamInfo, bool]] = []
        self.end = EncoderEnd(
            "front",
            self.maker,
            self.link,
            lambda info, changed: self.infos.append((info, changed)),
            EncoderSettings(**settings),
            first_frame=0xFFFF,
        )
        self.now = 0.0
        self.kinds: list[str] = []

    def offer(self, source: str = "street", frame_id: str = "lens") -> None:
        self.end.offer(source, round(self.now * 1e9), frame_id, self.now)

    def step(self, seconds: float = 0.0) -> Job | None:
        job = self.end.begin(self.now)
        if job is not None:
            self.kinds.append(job.kind)
            job.run()
            self.now += seconds
            self.end.finish(job, self.now)
        return job

    def drain(self, seconds: float = 0.0) -> None:
        while self.step(seconds) is not None:
            pass

    @property
    def counts(self) -> Counter[str]:
        return self.end.counters


def test_meaning_goes_first_in_one_piece_and_the_picture_block_by_block() -> None:
    robot = Robot()
    robot.offer()
    robot.drain()
    assert robot.link.sent == [(0xFFFF, (0, 1, 2, 3), False), *((0xFFFF, (index,), False) for index in (4, 5, 6))]
    assert robot.link.offers == [4]
    assert robot.counts == {"images": 1, "encoded": 1}
    assert robot.end.next_event(robot.now) is None
    robot.offer()
    robot.drain()
    assert robot.link.sent[-1][0] == 0, "frame numbers wrap"


def test_the_newest_frame_wins() -> None:
    robot = Robot()
    for source in ("bad", "bad", "good"):
        robot.offer(source)
    robot.drain()
    assert robot.counts == {"images": 3, "images_skipped": 2, "encoded": 1}


def test_no_picture_while_the_next_frame_waits_until_patience_ends() -> None:
    robot = Robot()
    skipped = 0
    while robot.now < 30.0:
        robot.offer()
        job = robot.end.begin(robot.now)
        assert job is not None
        job.run()
        robot.offer()  # the next frame is there before this one is encoded
        robot.now += 0.1
        robot.end.finish(job, robot.now)
        skipped += 1
    pictures = [frame for frame, blocks, _ in robot.link.sent if blocks == (4,)]
    assert len(pictures) == 2, "one each ten seconds"
    assert not [blocks for _, blocks, _ in robot.link.sent if blocks == (5,)]
    assert robot.counts["pictures_skipped"] >= skipped - 6


@pytest.mark.parametrize(("seconds", "whole"), [(0.02, True), (0.05, False)])
def test_a_picture_is_made_where_it_is_done_before_the_next_frame_else_every_two_seconds(
    seconds: float, whole: bool
) -> None:
    robot = Robot()
    for number in range(100):
        robot.end.offer("street", number * 100_000_000, "lens", number * 0.1)
        robot.now = max(robot.now, number * 0.1)
        while robot.now < (number + 1) * 0.1 and (job := robot.end.begin(robot.now)) is not None:
            job.run()
            robot.now += 0.06 if job.kind == "meaning" else seconds if job.first else 0.0
            robot.end.finish(job, robot.now)
    pictures = [frame for frame, blocks, _ in robot.link.sent if blocks == (4,)]
    assert robot.counts["encoded"] == 100
    assert len(pictures) == (100 if whole else 5)
    last = [frame for frame, blocks, _ in robot.link.sent if blocks == (6,)]
    assert last == (pictures if whole else []), "what is left of a picture goes for the next frame"


def test_a_pause_of_the_camera_is_soon_forgotten() -> None:
    robot = Robot()
    robot.link.advised = Advice(5.0, None)
    for number in range(60):
        robot.now = number * 0.1 + (600.0 if number >= 30 else 0.0)
        robot.offer()
        robot.drain()
    frames = [blocks for _, blocks, _ in robot.link.sent if blocks[0] == 0]
    assert frames[-10:] == [(0, 1, 2)] * 10


def test_where_the_link_lets_fewer_frames_pass_than_come_they_are_names_and_a_picture_every_ten_seconds() -> None:
    robot = Robot()
    robot.link.advised = Advice(5.0, None)
    for number in range(250):
        robot.now = number * 0.1
        robot.offer()
        robot.drain()
    frames = [blocks for _, blocks, _ in robot.link.sent if blocks[0] == 0]
    assert 120 < len(frames) < 130
    whole = [place for place, blocks in enumerate(frames) if blocks == (0, 1, 2, 3)]
    assert whole == [0, 50, 100], "the first, before the camera's pace is known, and those that have a picture"
    assert {blocks for place, blocks in enumerate(frames) if place not in whole} == {(0, 1, 2)}
    assert [blocks for _, blocks, _ in robot.link.sent if blocks[0] > 0] == [(4,), (5,), (6,)] * 3
    robot.end.request(BlockRequest(3, robot.end.next_frame - 1), robot.now)
    assert robot.link.sent[-1] == (robot.end.next_frame - 1, (0, 1, 2, 3), True), "details are kept for requests"


@pytest.mark.parametrize(("camera", "limit", "expected"), [(30.0, 10.0, 10.0), (30.0, 0.0, 30.0), (5.0, 10.0, 5.0)])
def test_frames_a_second_over_ten_seconds(camera: float, limit: float, expected: float) -> None:
    rate = RateLimit()
    passed, now = 0, 0.0
    while now < 10.0:
        if not rate.waits(now + 1e-9):
            rate.passed(limit, now)
            passed += 1
        now += 1.0 / camera
    assert passed / 10.0 == pytest.approx(expected, rel=0.12)
    assert passed <= 10 * expected + 2


def test_a_frame_that_waits_for_its_turn_is_begun_when_the_rate_allows() -> None:
    robot = Robot(max_rate=2.0)
    robot.offer()
    robot.drain()
    robot.now = 0.1
    robot.offer()
    assert robot.step() is None
    assert robot.end.next_event(robot.now) == 0.5
    robot.now = 0.5
    assert robot.step() is not None


def test_the_links_advice_bounds_frames_and_bytes_and_leaves_no_picture() -> None:
    robot = Robot(max_rate=10.0)
    robot.link.advised = Advice(4.0, 50)
    robot.offer()
    robot.drain()
    assert robot.maker.bounds == [50]
    assert robot.link.sent == [(0xFFFF, (0,), False)]
    assert robot.kinds == ["meaning"]
    robot.offer()
    assert robot.end.next_event(robot.now) == 0.25


def test_the_wished_rate_is_the_cameras_or_what_the_link_allows_of_it() -> None:
    robot = Robot()
    assert robot.end.wished_rate == 0.0
    for advised, wished in ((Advice(0.0, None), 20.0), (Advice(8.0, None), 8.0), (Advice(30.0, None), 20.0)):
        robot.link.advised = advised
        for _ in range(3):
            robot.offer()
            robot.drain()
            robot.now += 0.05
        assert robot.end.wished_rate == pytest.approx(wished)


def test_only_wanted_blocks_are_sent_and_unwanted_semantic_ones_are_kept_for_requests() -> None:
    robot = Robot()
    robot.link.last = 1
    robot.offer()
    robot.drain()
    assert robot.link.sent == [(0xFFFF, (0, 1), False)]
    assert robot.maker.made == [(0xFFFF, index) for index in range(4)]
    robot.end.request(BlockRequest(5, 0xFFFF), robot.now)
    assert robot.link.sent[1:] == [(0xFFFF, (0, 1, 2, 3), True)]
    robot.drain()
    assert robot.link.sent[2:] == [(0xFFFF, (4, 5), True)]
    assert robot.kinds[-1] == "asked"
    assert robot.counts["requests_honoured"] == 1


def test_without_requests_nothing_is_made_that_nobody_wants() -> None:
    robot = Robot(accept_requests=False)
    robot.link.last = 1
    robot.offer()
    robot.drain()
    assert robot.maker.made == [(0xFFFF, 0), (0xFFFF, 1)]
    robot.end.request(BlockRequest(5, 0xFFFF), robot.now)
    assert robot.counts["requests_refused"] == 1
    assert len(robot.link.sent) == 1


def test_requests_are_bounded_and_too_late_ones_are_counted() -> None:
    robot = Robot(keep_frames=10)
    robot.link.last = 3
    for _ in range(11):
        robot.offer()
        robot.drain()
    robot.end.request(BlockRequest(6, 0xFFFF), robot.now)
    assert len(robot.link.lost) == 1
    assert robot.counts["requests_too_late"] == 1, "ten frames are kept, this was the eleventh"
    for frame in range(10):
        robot.end.request(BlockRequest(4, frame), robot.now)
    robot.drain()
    assert robot.kinds.count("asked") == ASKED_FRAMES
    robot.end.request(BlockRequest(2, None, 5000), robot.now)
    assert robot.link.set == [(2, 5.0)]


def test_at_most_twenty_requests_a_second_are_taken_whatever_brings_them() -> None:
    robot = Robot()
    robot.link.last = 3
    for number in range(100):
        robot.end.request(BlockRequest(number % 7, None, 5000), 10.0 + 0.01 * number)
    assert len(robot.link.set) == robot.counts["requests_honoured"] == 20
    assert robot.counts["requests_refused"] == 80
    robot.end.request(BlockRequest(5, None, 5000), 11.0)
    assert robot.link.set[-1] == (5, 5.0)


def test_the_stream_is_described_with_each_frame_and_said_to_change_when_it_does() -> None:
    robot = Robot()
    for frame_id, size in (("lens", (64, 48)), ("lens", (64, 48)), ("lens", (65, 48)), ("lens_2", (65, 48))):
        robot.maker.size = size
        robot.offer(frame_id=frame_id)
        robot.drain()
        robot.now += 1.0
    assert [changed for _, changed in robot.infos] == [True, False, True, True]
    assert [info.stamp_ns for info, _ in robot.infos] == [0, 10**9, 2 * 10**9, 3 * 10**9]
    assert robot.infos[2][0] == StreamInfo("front", "lens", 65, 48, "plain", "1234" + "0" * 12, "f" * 16, 2 * 10**9)


def test_a_frame_that_cannot_be_made_costs_itself() -> None:
    robot = Robot()
    robot.offer("bad")
    job = robot.end.begin(0.0)
    assert job is not None
    with pytest.raises(ValueError, match="no picture"):
        job.run()
    robot.end.failed(job)
    assert robot.step() is None
    robot.offer()
    robot.drain()
    assert robot.counts["encoded"] == 1


def test_the_thread_runs_the_jobs_of_its_ends_and_survives_what_they_raise() -> None:
    robots = [Robot(), Robot()]
    errors: list[str] = []
    done: Counter[int] = Counter()
    enough = threading.Event()

    def on_job(end: EncoderEnd, job: Job) -> None:
        if not done:
            done[2] += 1
            raise RuntimeError("nobody listens")
        done[[robot.end for robot in robots].index(end)] += 1
        if min(done[0], done[1]) >= 4:
            enough.set()

    worker = EncodeWorker(
        [robot.end for robot in robots], lambda end, job, error: errors.append(str(error)), on_job=on_job
    )
    worker.offer(robots[0].end, "bad", 1, "lens")
    until = time.monotonic() + 5.0
    while not errors and time.monotonic() < until:
        time.sleep(0.005)
    worker.offer(robots[0].end, "street", 2, "lens")
    while len(errors) < 2 and time.monotonic() < until:
        time.sleep(0.005)
    for robot in robots:
        worker.offer(robot.end, "street", 3, "lens")
    assert enough.wait(5.0)
    worker.close()
    assert errors == ["no picture", "nobody listens"]
    assert robots[1].link.sent[0] == (0xFFFF, (0, 1, 2, 3), False)


def test_frames_that_cost_next_to_nothing_may_wait_and_none_is_lost() -> None:
    robot = Robot(waiting=3)
    for number in range(3):
        robot.offer(f"seen {number}")
    robot.drain()
    assert robot.counts["encoded"] == 3
    assert robot.counts["images_skipped"] == 0
    for number in range(5):
        robot.offer(f"seen {number}")
    robot.drain()
    assert robot.counts["encoded"] == 6
    assert robot.counts["images_skipped"] == 2
