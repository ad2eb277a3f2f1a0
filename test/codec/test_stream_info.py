"""Stream infos: small, one encoding each, checked field by field."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import re
import unicodedata
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semhier_ros.codec import PacketError, StreamInfo
from semhier_ros.codec.calibration import Calibration
from semhier_ros.codec.pose import EgoPose
from semhier_ros.codec.text import check_text

INFO = StreamInfo("front/camera", "camera_optical", 640, 360, "road", "0123456789abcdef", "fedcba9876543210", 17)
NAMES = st.text("abzAZ09_.-", min_size=1, max_size=32).filter(lambda text: text not in {".", ".."})

PAGE = Path(__file__).resolve().parents[2] / "docs" / "bitstream.md"


def _is_text(text: str) -> bool:
    with contextlib.suppress(ValueError):
        check_text(text, "text", 32)
        return True
    return False


@settings(max_examples=300, derandomize=True)
@given(
    st.builds(
        StreamInfo,
        camera=NAMES,
        frame_id=st.text(max_size=32).filter(_is_text),
        width=st.integers(1, 65535),
        height=st.integers(1, 65535),
        model=NAMES,
        stream_hash=st.text("0123456789abcdef", min_size=16, max_size=16),
        model_hash=st.text("0123456789abcdef", min_size=16, max_size=16),
        stamp_ns=st.integers(0, 2**63 - 1),
    )
)
def test_round_trip(info: StreamInfo) -> None:
    data = info.to_bytes()
    assert len(data) < 150
    assert StreamInfo.from_bytes(data) == info
    assert StreamInfo.from_bytes(memoryview(data)).to_bytes() == data  # type: ignore[arg-type]
    assert info.stream_tag == int.from_bytes(bytes.fromhex(info.stream_hash)[:2], "big")


def test_size_limits() -> None:
    largest = dataclasses.replace(INFO, camera="c" * 32, frame_id="ä" * 16, model="m" * 32)
    assert len(largest.to_bytes()) == 133
    assert len(dataclasses.replace(INFO, camera="c", frame_id="", model="m").to_bytes()) == 39


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("camera", ""),
        ("camera", "c" * 33),
        ("camera", "a b"),
        ("camera", "a\n"),
        ("camera", "kamerä"),
        ("camera", "a/../b"),
        ("model", ".."),
        ("model", "./road"),
        ("frame_id", "ä" * 128),
        ("frame_id", "a\x1b[31m"),
        ("frame_id", "\ud800"),
        ("width", 0),
        ("height", 65536),
        ("stream_hash", "0123456789ABCDEF"),
        ("stream_hash", "0123456789abcde"),
        ("model_hash", "0123456789abcdefg"),
        ("stamp_ns", -1),
        ("stamp_ns", 2**63),
    ],
)
def test_fields_are_checked(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        dataclasses.replace(INFO, **{field: value})


@pytest.mark.parametrize("letter", ["\u0378", "\U00031350", "\uffff"])
def test_a_character_that_a_version_of_unicode_does_not_know_is_carried(letter: str) -> None:
    """U+31350 is a letter from Unicode 15 on, the others are none in any."""
    info = dataclasses.replace(INFO, frame_id=letter)
    assert StreamInfo.from_bytes(info.to_bytes()) == info
    pose = EgoPose(letter, 1, 2, 3)
    assert EgoPose.from_bytes(pose.to_bytes()) == pose


def test_what_is_not_printable_is_what_the_page_lists() -> None:
    listed = re.search(r"Not printable are (.*?):\n", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert listed is not None
    ends = [re.findall(r"[0-9A-F]{4,6}", part) for part in re.split(r",| and ", listed[1])]
    page = {code for part in ends for code in range(int(part[0], 16), int(part[-1], 16) + 1)}
    assert page == {code for code in range(0x110000) if not _is_text(chr(code))}
    categories = {code: unicodedata.category(chr(code)) for code in range(0x110000)}
    refused = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp", "Zs"}
    assert all(categories[code] in {*refused, "Cn"} for code in page)
    if unicodedata.unidata_version < "16":
        assert {code for code, name in categories.items() if name in refused} <= page | {ord(" ")}


CALIBRATION = Calibration(1280, 720, (611.5, 612.25, 640.125, 361.0), "plumb_bob", (-0.25, 0.0625, 0.001, -0.0005, 0.0))


def test_version_1_is_what_it_always_was() -> None:
    """The bytes of an earlier release, written by it."""
    assert INFO.to_bytes().hex() == (
        "5301028001680000000000000011"
        "0123456789abcdeffedcba9876543210"
        "0c66726f6e742f63616d657261"
        "0e63616d6572615f6f70746963616c"
        "04726f6164"
        "f4df5a61"
    )


def test_a_calibration_takes_a_few_dozen_bytes_once() -> None:
    info = dataclasses.replace(INFO, calibration=CALIBRATION)
    assert len(CALIBRATION.to_bytes()) == 43
    assert len(info.to_bytes()) == len(INFO.to_bytes()) + 44
    assert StreamInfo.from_bytes(info.to_bytes()) == info
    assert CALIBRATION.to_bytes().hex() == (
        "0100050002d0054418e000441910004420080043b48000be8000003d8000003a83126fba03126f00000000"
    )


def test_a_long_frame_id_travels_whole() -> None:
    name = "robot1/front_camera_color_optical_frame"
    info = dataclasses.replace(INFO, frame_id=name)
    assert StreamInfo.from_bytes(info.to_bytes()).frame_id == name
    largest = dataclasses.replace(
        INFO,
        camera="c" * 32,
        frame_id="f" * 255,
        model="m" * 32,
        calibration=dataclasses.replace(
            CALIBRATION, d=(0.5,) * 14, r=(0.5,) * 9, p=(1.0,) * 6, binning=(2, 2), window=(1, 2, 3, 4), rectified=True
        ),
    )
    assert len(largest.to_bytes()) < 600
    assert StreamInfo.from_bytes(largest.to_bytes()) == largest


@settings(max_examples=200, derandomize=True)
@given(
    st.builds(
        Calibration,
        width=st.integers(1, 65535),
        height=st.integers(1, 65535),
        k=st.tuples(*[st.floats(-1e6, 1e6)] * 4),
        model=st.sampled_from(["", "plumb_bob", "rational_polynomial", "equidistant"]),
        d=st.lists(st.floats(-10, 10), max_size=14).map(tuple),
        r=st.one_of(st.just((1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)), st.tuples(*[st.floats(-1, 1)] * 9)),
        p=st.one_of(st.none(), st.tuples(*[st.floats(-1e6, 1e6)] * 6)),
        binning=st.tuples(st.integers(0, 255), st.integers(0, 255)),
        window=st.tuples(*[st.integers(0, 65535)] * 4),
        rectified=st.booleans(),
    )
)
def test_any_calibration_comes_back_and_has_one_encoding(told: Calibration) -> None:
    data = told.to_bytes()
    assert Calibration.from_bytes(data) == told
    assert Calibration.from_bytes(data).to_bytes() == data
    assert 23 <= len(data) <= 153
    info = dataclasses.replace(INFO, calibration=told)
    assert StreamInfo.from_bytes(info.to_bytes()) == info


@settings(max_examples=400, derandomize=True)
@given(st.binary(max_size=160))
def test_no_bytes_break_the_calibration_parser(data: bytes) -> None:
    try:
        found = Calibration.from_bytes(data)
    except PacketError:
        return
    assert found.to_bytes() == data


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model": "thin_prism"}, "distortion_model: 'thin_prism', expected plumb_bob"),
        ({"d": (0.0,) * 15}, "d: 15 coefficients"),
        ({"k": (float("nan"), 1.0, 2.0, 3.0)}, "k: .* expected 4 finite numbers"),
        ({"k": (1e300, 1.0, 2.0, 3.0)}, "k: .* expected 4 finite numbers"),
        ({"width": 0}, "width: 0, expected 1 to 65535"),
        ({"height": 65536}, "height: 65536, expected 1 to 65535"),
        ({"binning": (0, 256)}, "binning: 256, expected 0 to 255"),
    ],
)
def test_what_cannot_be_carried_is_named(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(CALIBRATION, **values)
    with pytest.raises(ValueError, match="skew 2"):
        Calibration.of_matrices([500, 2, 320, 0, 500, 240, 0, 0, 1], [0] * 12, width=640, height=480)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (0, 4, "distortion model 4, this release reads 0 to 3"),
        (1, 16, "flags 16, this release reads 0 to 15"),
        (6, 15, "coefficients 15, this release reads 0 to 14"),
    ],
)
def test_a_calibration_of_another_release_is_refused_by_field(place: int, value: int, said: str) -> None:
    data = bytearray(CALIBRATION.to_bytes())
    data[place] = value
    with pytest.raises(PacketError, match=said):
        Calibration.from_bytes(bytes(data))


def with_crc(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


def test_parse_says_what_is_wrong_and_where() -> None:
    body = INFO.to_bytes()[:-4]
    for changed, words in (
        (b"\x10" + body[1:], "byte 0: 0x10, a stream info starts with 0x53"),
        (b"\x53\x03" + body[2:], "byte 1: stream info version 3, this release reads 1 and 2"),
        (b"\x53\x02" + body[2:] + b"\0", "byte 1: stream info version 2, what it says is written as 1"),
        (b"\x53\x02" + body[2:] + b"\7abc", "the calibration ends after the stream info"),
        (b"\x53\x02" + body[2:] + b"\3abc", "calibration: 3 bytes, expected at least 7"),
        (body + b"\0", "1 bytes too many"),
        (body[:-1], "byte 58: model of 4 bytes ends after the stream info"),
        (body[:-5], "byte 58: model is missing"),
        (body[:31] + b"\xff" + body[32:], "byte 31: camera is not UTF-8"),
        (body[:31] + b" " + body[32:], "camera: '"),
        (body[:2] + b"\0\0" + body[4:], "width: 0"),
        (body[:6] + b"\x80" + body[7:], "stamp_ns: 9223372036854775825"),
    ):
        with pytest.raises(PacketError, match=words):
            StreamInfo.from_bytes(with_crc(changed))
    with pytest.raises(PacketError, match="CRC-32"):
        StreamInfo.from_bytes(body + bytes(4))
    for size in (0, 1, 38, 601, 100_000):
        with pytest.raises(PacketError, match=f"{size} bytes, expected 39 to 600"):
            StreamInfo.from_bytes(bytes(size))


def test_damage() -> None:
    rng = random.Random(2)
    whole = [INFO.to_bytes(), dataclasses.replace(INFO, calibration=CALIBRATION).to_bytes()]
    for number in range(6000):
        data = whole[number % 2]
        changed = bytearray(data[: rng.choice([len(data), rng.randrange(len(data))])] or b"\0")
        for _ in range(rng.randint(0, 5)):
            changed[rng.randrange(len(changed))] ^= rng.randrange(1, 256)
        if rng.random() < 0.5:
            changed = bytearray(with_crc(bytes(changed[:-4])))
        try:
            info = StreamInfo.from_bytes(bytes(changed))
        except PacketError:
            continue
        assert info.to_bytes() == bytes(changed)
