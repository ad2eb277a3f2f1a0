"""The JPEG reference: pieces, repair, pacing, and a search that finds what fits."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semhier_ros.codec.reading import Detection
from semhier_ros.lab.baselines.jpeg_stream import (
    PIECE_BYTES,
    Assembler,
    JpegSender,
    JpegSetting,
    cut,
    decode_jpeg,
    encoder_of,
)
from semhier_ros.lab.jpeg_search import search, simulate
from semhier_ros.lab.scoring.delivery import budget_use
from semhier_ros.link.emulate.profile import LinkProfile
from semhier_ros.link.schedule.wire import ZENOH_UDP

LINK = LinkProfile(rate_bps=64_000, delay_s=0.05, loss=0.05, seed=1)


@settings(max_examples=200, deadline=None)
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


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=40))
def test_noise_is_counted_and_ends_nothing(payloads: list[bytes]) -> None:
    assembler = Assembler(keep=3)
    for payload in payloads:
        assembler.add(payload)
    assert assembler.add(cut(1, 2, b"picture", parity=False)[0]) == (1, 2, b"picture")


def test_without_parity_a_lost_piece_loses_the_picture() -> None:
    assembler = Assembler()
    pieces = cut(1, 2, bytes(5000), parity=False)
    assert len(pieces) == 5
    assert [assembler.add(piece) for piece in pieces[1:]] == [None] * 4


def test_the_sender_keeps_its_budget_takes_the_newest_frame_and_keeps_its_rate() -> None:
    setting = JpegSetting(1.0, 50, 2.0, False)
    sender = JpegSender(lambda number: bytes(2500), setting, 8000.0)
    departures = []
    now = 0.0
    for frame in range(50):
        sender.offer(frame, frame)
        end = now + 0.2
        while (due := sender.next_departure(now)) is not None and due < end:
            now = max(now, due)
            if (popped := sender.pop(now)) is not None:
                departures.append((now, popped[1]))
        now = end
    assert budget_use(departures, 8000.0, datagram=ZENOH_UDP.wire_bytes(PIECE_BYTES)).kept
    numbers = [number for number, _, _ in sender.started]
    assert numbers == sorted(set(numbers))
    gaps = [later - earlier for earlier, later in itertools.pairwise(numbers)]
    assert min(gaps) >= 2
    assert len(numbers) in range(15, 22)


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


def test_virtual_time_delays_by_bytes_and_the_links_delay() -> None:
    images, stamps = drawn_road()
    setting = JpegSetting(0.25, 20, 5.0, False)
    result = simulate(encoder_of(images, setting), stamps, setting, LinkProfile(rate_bps=64_000, delay_s=0.05))
    assert len(result.arrivals) == len(images)
    for item in result.arrivals:
        wire = ZENOH_UDP.wire_bytes(item.size + 16)
        assert (item.arrival_ns - item.stamp_ns) / 1e9 == pytest.approx(0.05 + wire / 8000, abs=0.005)
    lossy = simulate(encoder_of(images, setting), stamps, setting, LINK)
    assert len(lossy.arrivals) < len(images)


def test_the_search_prefers_what_the_link_can_carry(capsys: pytest.CaptureFixture[str]) -> None:
    images, stamps = drawn_road()
    references = [find_red(image) for image in images]
    world = [
        (stamp + round(shift * 1e9), truth)
        for stamp, truth in zip(stamps, references, strict=True)
        for shift in (0.0, 0.1)
    ]
    shares: list[float] = []
    found = search(
        images,
        stamps,
        references,
        world,
        LINK,
        find_red,
        1,
        detector_ns=10_000_000,
        rates=(5.0, 1.25),
        scales=(1.0, 0.25),
        qualities=(20, 90),
        progress=shares.append,
    )
    assert found.considered == 16
    assert found.best.setting.scale == 0.25
    assert found.best.score is not None
    assert found.best.score == max(item.score for item in found.tried if item.score is not None)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)


def test_pictures_come_back_in_the_cameras_size() -> None:
    images, _ = drawn_road(1)
    back = decode_jpeg(JpegSetting(0.5, 60, 1.0, False).encode(images[0]), 320, 136)
    assert back is not None
    assert back.shape == (136, 320, 3)
    assert decode_jpeg(b"no picture", 10, 10) is None


@pytest.mark.parametrize("make", [lambda: JpegSetting(2.0, 50, 1, True), lambda: JpegSetting(1, 0, 1, True)])
def test_settings_out_of_range_are_refused(make: Callable[[], JpegSetting]) -> None:
    with pytest.raises(ValueError, match="expected"):
        make()
