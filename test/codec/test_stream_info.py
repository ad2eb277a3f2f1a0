"""Stream infos: small, one encoding each, checked field by field."""

from __future__ import annotations

import dataclasses
import random
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semhier_ros.codec import PacketError, StreamInfo

INFO = StreamInfo("front/camera", "camera_optical", 640, 360, "road", "0123456789abcdef", "fedcba9876543210", 17)
NAMES = st.text("abzAZ09_.-", min_size=1, max_size=32).filter(lambda text: text not in {".", ".."})


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.builds(
        StreamInfo,
        camera=NAMES,
        frame_id=st.text(max_size=32).filter(lambda text: text.isprintable() and len(text.encode()) <= 32),
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
        ("frame_id", "ä" * 17),
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


def with_crc(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


def test_parse_says_what_is_wrong_and_where() -> None:
    body = INFO.to_bytes()[:-4]
    for changed, words in (
        (b"\x10" + body[1:], "byte 0: 0x10, a stream info starts with 0x53"),
        (b"\x53\x02" + body[2:], "byte 1: stream info version 2, this release reads version 1"),
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
    for size in (0, 1, 38, 134, 100_000):
        with pytest.raises(PacketError, match=f"{size} bytes, expected 39 to 133"):
            StreamInfo.from_bytes(bytes(size))


def test_damage() -> None:
    rng = random.Random(2)
    data = INFO.to_bytes()
    for _ in range(4000):
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
