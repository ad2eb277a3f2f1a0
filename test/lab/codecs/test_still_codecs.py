"""The reference codecs: what goes in comes out, cuts degrade and never break, headers are counted as they are."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from semhier_ros.lab.baselines import NAMES, CutTooShort, Setting, make, send
from semhier_ros.lab.baselines.pillow_codecs import jpeg_segments


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """A smooth scene with an edge: something that every codec can code well."""
    y, x = np.mgrid[:120, :200]
    shade = np.stack([x * 255 / 200, y * 255 / 120, 128 + 60 * np.sin(x / 9) * np.cos(y / 7)], axis=2)
    shade[40:80, 60:140] = (200, 40, 30)
    return shade.astype(np.uint8)


def quality(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-3, np.mean((one.astype(float) - other) ** 2))))


@pytest.mark.parametrize("name", NAMES)
def test_better_quality_costs_more_and_looks_better(name: str, picture: np.ndarray) -> None:
    codec = make(name)
    best = Setting(1.0, codec.qualities[-1])
    small = Setting(0.5, codec.qualities[0], 400 if codec.progressive else None)
    (_, poor), (_, good) = send(codec, picture, [small, best])
    assert poor.picture.shape == good.picture.shape == picture.shape
    assert poor.total_bytes < good.total_bytes
    assert quality(poor.picture, picture) + 3 < quality(good.picture, picture) > 28
    assert 0 < good.header_bytes < good.total_bytes
    assert good.payload_bytes == good.total_bytes - good.header_bytes


def test_a_cut_after_any_byte_gives_a_picture_or_says_that_it_cannot(picture: np.ndarray) -> None:
    codec = make("jpeg_progressive")
    data = codec.encode(picture, codec.qualities[0])
    shown = []
    for length in [*range(1, 700, 13), *range(700, len(data), max(1, len(data) // 40)), len(data)]:
        try:
            shown.append(quality(codec.decode(data[:length]), picture))
        except CutTooShort:
            assert not shown, f"{length} bytes show nothing, though fewer did"
    assert len(shown) > 10
    assert shown[-1] > shown[0] + 2
    assert min(np.diff(shown)) > -3, "more bytes must not ruin the picture"


def test_a_file_that_cannot_be_cut_is_not_cut(picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match="cut: 100 for webp"):
        list(send(make("webp"), picture, [Setting(1.0, 5, 100)]))


def test_too_short_a_cut_is_grey_and_costs_its_bytes(picture: np.ndarray) -> None:
    ((_, arrived),) = send(make("jpeg_progressive"), picture, [Setting(1.0, 50, 20)])
    assert arrived.total_bytes == 20
    assert (arrived.picture == 128).all()


def test_the_header_of_a_jpeg_is_the_same_for_every_picture(picture: np.ndarray) -> None:
    codec = make("jpeg")
    files = [codec.encode(array, 30) for array in (picture, picture[::-1].copy(), np.full_like(picture, 9))]
    assert len({codec.header_bytes(data) for data in files}) == 1
    assert [marker for marker, _ in jpeg_segments(files[0])[0]][:2] == [0xD8, 0xE0]


@pytest.mark.parametrize("quality", [-300, -50])
def test_a_jpeg_2000_is_as_large_as_its_quality_says(picture: np.ndarray, quality: int) -> None:
    codec = make("jpeg2000")
    data = codec.encode(picture, quality)
    assert 0.9 < len(data) / (picture.nbytes / -quality) < 1.05
    assert data[codec.header_bytes(data) - 4 :][:2] == b"\xff\x93"
    assert len({codec.header_bytes(codec.encode(picture[::step], quality)) for step in (1, -1)}) == 1


def test_the_header_of_an_avif_leaves_out_the_picture(picture: np.ndarray) -> None:
    codec = make("avif")
    sizes = {(len(data), codec.header_bytes(data)) for data in (codec.encode(picture, q) for q in (5, 60))}
    assert len(sizes) == 2
    assert len({header for _, header in sizes}) == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(8, 8), (9, 300), (301, 17)])
def test_odd_sizes(name: str, size: tuple[int, int]) -> None:
    codec = make(name)
    array = np.random.default_rng(3).integers(0, 255, (size[0], size[1], 3), dtype=np.uint8)
    ((_, arrived),) = send(codec, array, [Setting(1.0, codec.qualities[-1])])
    assert arrived.picture.shape == array.shape


def test_unknown_codecs_and_settings_are_named() -> None:
    with pytest.raises(ValueError, match="'bpg' is not one of jpeg, "):
        make("bpg")
    with pytest.raises(ValueError, match=r"scale: 1\.5"):
        Setting(1.5, 10)
    with pytest.raises(ValueError, match="cut: 0"):
        Setting(1.0, 10, 0)


@settings(max_examples=60)
@given(data=st.binary(max_size=200))
def test_any_bytes_can_be_walked_as_jpeg_segments(data: bytes) -> None:
    segments, whole = jpeg_segments(data)
    assert sum(length for _, length in segments) <= len(data)
    assert 0 <= whole <= len(data)


def test_our_jpeg_is_what_pillow_reads(picture: np.ndarray) -> None:
    with Image.open(io.BytesIO(make("jpeg_progressive").encode(picture, 50))) as image:
        assert image.info.get("progressive")
