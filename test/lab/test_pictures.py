"""Whole pictures over a link: pieces, repair, pacing, and a search that finds what fits."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semhier_ros.codec.reading import Detection
from semhier_ros.lab.baselines.picture_files import (
    PIECE_BYTES,
    Assembler,
    PictureSetting,
    cut,
    decode_picture,
    encode_picture,
)
from semhier_ros.lab.baselines.pictures import PictureSender, PictureStream
from semhier_ros.lab.baselines.search import FREE_BITS, VIDEO_SCALES, make_stream
from semhier_ros.lab.baselines.video import chosen
from semhier_ros.lab.replay.base import Costs, run_virtual
from semhier_ros.lab.replay.store import Store
from semhier_ros.lab.replay.task import Task
from semhier_ros.lab.scoring.figures import budget_use
from semhier_ros.lab.scoring.streaming import World
from semhier_ros.link.emulate.profile import LinkProfile, parse_link
from semhier_ros.link.schedule.wire import ZENOH_UDP

needs_av = pytest.mark.skipif(find_spec("av") is None, reason="PyAV (extra video) is not installed")
LINK = LinkProfile(rate_bps=64_000, delay_s=0.05, loss=0.05, seed=1)


@settings(max_examples=200)
@given(
    data=st.binary(min_size=1, max_size=6000),
    parity=st.booleans(),
    seed=st.randoms(use_true_random=False),
    lost=st.integers(0, 10),
)
def test_pieces_come_together_in_any_order_with_one_lost_if_there_is_parity(
    data: bytes, parity: bool, seed: object, lost: int
) -> None:
    pieces = cut(70000, 123456789, data, parity=parity)
    assert all(len(piece) <= PIECE_BYTES for piece in pieces)
    if parity:
        del pieces[lost % len(pieces)]
    seed.shuffle(pieces)  # type: ignore[attr-defined]
    assembler = Assembler()
    whole = [result for piece in pieces if (result := assembler.add(piece))]
    assert whole == [(70000 & 0xFFFF, 123456789, data)]
    assert assembler.bad == 0


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=60), max_size=40))
def test_noise_is_counted_and_ends_nothing(payloads: list[bytes]) -> None:
    assembler = Assembler(keep=3)
    for payload in payloads:
        assembler.add(payload)
    assert assembler.add(cut(1, 2, b"picture", parity=False)[0]) == (1, 2, b"picture")


def test_the_picture_of_a_large_camera_is_cut_and_put_together() -> None:
    data = random.Random(1).randbytes(500_000)
    pieces = cut(7, 8, data, parity=True)
    assert len(pieces) > 400
    del pieces[300]
    assembler = Assembler()
    assert [found for piece in pieces if (found := assembler.add(piece))] == [(7, 8, data)]
    for size in (0, 80_000_000):
        with pytest.raises(ValueError, match=f"picture: {size} bytes, 1 to 77593440 expected"):
            cut(7, 8, bytes(size), parity=False)


def test_without_parity_a_lost_piece_loses_the_picture() -> None:
    assembler = Assembler()
    pieces = cut(1, 2, bytes(5000), parity=False)
    assert len(pieces) == 5
    assert [assembler.add(piece) for piece in pieces[1:]] == [None] * 4


def test_the_sender_keeps_its_budget_takes_the_newest_frame_and_keeps_its_rate() -> None:
    sender = PictureSender([lambda number: bytes(2500)], PictureSetting("jpeg", 1.0, 50, 2.0, False), 8000.0, 0.0)
    departures, numbers = [], []
    now = 0.0
    for frame in range(50):
        sender.offer(0, frame, frame, now)
        end = now + 0.2
        while (due := sender.next_event(now)) is not None and due < end:
            now = max(now, due)
            if (popped := sender.pop(now)) is not None:
                departures.append((now, popped.wire_bytes))
                numbers.append(popped.number)
        now = end
    assert budget_use(departures, 8000.0, datagram=ZENOH_UDP.wire_bytes(PIECE_BYTES)).kept
    begun = list(dict.fromkeys(numbers))
    assert begun == sorted(begun)
    gaps = [later - earlier for earlier, later in itertools.pairwise(begun)]
    assert min(gaps) >= 2
    assert sender.counters["encoded"] in range(15, 22)


def drawn_road(count: int = 25) -> tuple[list[np.ndarray], list[int]]:
    """A car that moves right, on noise that JPEG finds dear; and the camera's stamps, five a second."""
    noise = np.random.default_rng(1).integers(100, 156, (136, 320, 3)).astype(np.uint8)
    images = []
    for number in range(count):
        image = noise.copy()
        cv2.rectangle(image, (8 * number, 50), (8 * number + 60, 110), (255, 0, 0), -1)
        images.append(image)
    return images, [round(number * 0.2e9) for number in range(count)]


def find_red(image: np.ndarray) -> list[Detection]:
    """A detector: the box around what is red."""
    mask = (image[..., 0] > 190) & (image[..., 1] < 90)
    if mask.sum() < 200:
        return []
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    return [Detection(0, box, (0,), ("car",), (0.9,))]


class Road:
    """The drawn road as a camera, `rate` frames a second."""

    name, size = "camera", (320, 136)

    def __init__(self, rate: float = 5.0) -> None:
        self.images, times = drawn_road()
        self.times_ns = [round(number / rate * 1e9) for number in range(len(times))]

    def __len__(self) -> int:
        return len(self.images)

    def key(self, number: int) -> str:
        return str(number)

    def image(self, number: int) -> np.ndarray:
        return self.images[number]


class RedReader:
    """What a search asks of a model, by the detector above."""

    levels, codec = 1, SimpleNamespace(whole_image=False)

    def __init__(self) -> None:
        self.store = Store()
        self.known: dict[str, tuple[Detection, ...]] = {}

    def reference(self, camera: Any, number: int) -> tuple[Detection, ...]:
        key = f"{id(camera)} {number}"
        if key not in self.known:
            self.known[key] = tuple(find_red(camera.image(number)))
        return self.known[key]

    def world(self, camera: Any) -> World:
        truths = [self.reference(camera, number) for number in range(len(camera))]
        return World(np.asarray(camera.times_ns) / 1e9, truths, "agreement")

    def detected(self, key: str, image: Callable[[], Any], size: tuple[int, int]) -> tuple[Detection, ...]:
        if key not in self.known:
            found = image()
            self.known[key] = () if found is None else tuple(find_red(found))
        return self.known[key]


FREE = Costs(*[0.0] * 8)


def test_virtual_time_delays_by_bytes_and_the_links_delay() -> None:
    road: Any = Road()
    stream = PictureStream(RedReader(), FREE, PictureSetting("jpeg", 0.25, 20, 5.0, False))  # type: ignore[arg-type]
    clean = run_virtual(stream, [road], LinkProfile(rate_bps=64_000, delay_s=0.05), 8000.0)
    assert len(clean.answers) == len(road)
    for item in clean.answers:
        wire = ZENOH_UDP.wire_bytes(len(stream.file(road, item.number)) + 16)
        assert item.arrival - item.stamp_ns / 1e9 == pytest.approx(0.05 + wire / 8000, abs=0.005)
    assert len(run_virtual(stream, [road], LINK, 8000.0).answers) < len(road)


def test_the_search_prefers_what_the_link_can_carry_whoever_measures_the_costs() -> None:
    shares: list[float] = []
    settings = []
    for costs in (FREE, Costs(jpeg=0.2, detect=0.5)):
        task = Task((), "64kbit,50ms,5%,seed1", ("jpeg",), max_rate=5.0, finalists=2)
        reader: Any = RedReader()
        cameras: Any = [Road()]
        stream: Any = make_stream("jpeg", task, reader, costs, cameras, shares.append)
        settings.append(stream.how)
    assert settings[0] == settings[1], "a slow machine finds the same"
    dearest = len(encode_picture(drawn_road(1)[0][0], PictureSetting("jpeg", 1.0, 50)))
    assert stream.tried[0]["mean_bytes"] < 4000 < dearest, "two or more pictures a second"
    assert stream.tried[0]["setting"] == str(settings[0])
    assert [row["score"] for row in stream.tried] == sorted((row["score"] for row in stream.tried), reverse=True)
    half = shares[: len(shares) // 2]
    assert half == sorted(half)
    assert half[-1] == pytest.approx(1.0)


@needs_av
def test_video_of_a_slow_camera_spends_the_budget() -> None:
    task = Task((), "64kbit,50ms", ("h264",))
    reader, cameras = RedReader(), [Road(2.0)]
    stream: Any = make_stream("h264", task, reader, FREE, cameras)  # type: ignore[arg-type]
    run = run_virtual(stream, cameras, parse_link(task.link), task.budget)  # type: ignore[arg-type]
    seconds = len(cameras[0]) / 2.0
    assert 0.7 * task.budget < sum(item.wire_bytes for item in run.sent) / seconds < task.budget
    assert len(run.answers) > 0.7 * len(cameras[0])


@needs_av
def test_without_a_budget_video_looks_good_and_every_frame_is_sent() -> None:
    task = Task((), "unlimited,50ms", ("h264",))
    stream: Any = make_stream("h264", task, RedReader(), FREE, [Road()])  # type: ignore[arg-type,list-item]
    least = Road.size[0] * Road.size[1] * min(VIDEO_SCALES) ** 2 * 5.0 / 1000 * FREE_BITS
    assert stream.how.kbit > 0.99 * least
    assert len(chosen(Road().times_ns, stream.how.max_rate)) == len(Road())


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_pictures_come_back_in_the_cameras_size(kind: str) -> None:
    images, _ = drawn_road(1)
    back = decode_picture(encode_picture(images[0], PictureSetting(kind, 0.5, 60)), (320, 136))
    assert back is not None
    assert back.shape == (136, 320, 3)
    assert decode_picture(b"no picture", (10, 10)) is None


@pytest.mark.parametrize("values", [("jpeg", 2.0, 50), ("jpeg", 1, 0), ("avif", 1, 50), ("webp", 1, 50, 0.0)])
def test_settings_out_of_range_are_refused(values: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        PictureSetting(*values)
