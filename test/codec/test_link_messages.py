"""Requests, reports, notes and envelopes: golden bytes, one encoding each, and whatever a network may make of them."""

from __future__ import annotations

import json
import os
import random
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import reference_messages as reference
from hypothesis import given
from hypothesis import strategies as st

from semhier_ros.codec import BlockRequest, ClockNote, Envelope, EnvelopeError, PacketError, Report, ReportError
from semhier_ros.codec.block_request import REQUEST_BYTES
from semhier_ros.codec.envelope import OVERHEAD, OVERHEAD_KEYED, is_envelope, read_key
from semhier_ros.codec.pose import WINDOW_MS, EgoPose, PoseError, PoseReader, PoseWriter
from semhier_ros.codec.report import CLOCK_BYTES, REPORT_BYTES

GOLDEN = Path(__file__).parent / "golden" / "link_messages.json"
BITSTREAM = Path(__file__).parents[2] / "docs" / "bitstream.md"
KEY = bytes(range(32))
NAME = "front/packets"

SHORT = st.integers(0, 0xFFFF)
REQUESTS = st.one_of(
    st.builds(BlockRequest, st.integers(0, 15), SHORT),
    st.builds(BlockRequest, st.integers(0, 15), st.none(), st.integers(0, 3_600_000)),
)
REPORTS = st.builds(Report, *[SHORT] * 7, st.integers(0, 2**32 - 1), st.integers(0, 2**48 - 1))
MEMORIES = st.one_of(st.none(), st.just(b""), st.binary(min_size=2, max_size=2))
REMEMBERING = st.builds(replace, REPORTS, memory=MEMORIES)
NOTES = st.builds(ClockNote, st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**31 - 1))

ONE_FRAME = BlockRequest(finest=6, frame=513)
FOR_A_TIME = BlockRequest(finest=0, duration_ms=2500)
REPORT = Report(65_535, 1000, 17, 5, 40_000, 250, 65_530, 3_000_000_000, 1_700_000_000_123_456)
NOTE = ClockNote(-5_000_000, 20_000)
IN_MAP = EgoPose("map", 1_700_000_000_123, 1234, -567, yaw=49_152)
ON_A_SLOPE = EgoPose("site/lower", 1_700_000_000_123, -100_000, 7, -250, 1, -300, 20, 33, True)
ON_EARTH = EgoPose("", 1_700_000_000_123, 480_000_001, -115_000_002, 51_000, 16_384, accuracy=57)

SIGNED = st.integers(-(2**31), 2**31 - 1)
ANGLE = st.integers(-(2**15), 2**15 - 1)
LATER = (st.integers(0, 2**48 - 1), SIGNED, SIGNED, SIGNED, SHORT, ANGLE, ANGLE, st.integers(0, 255), st.booleans())
FRAMES = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=8)
POSES = st.one_of(
    st.builds(EgoPose, FRAMES, *LATER),
    st.builds(
        EgoPose,
        st.just(""),
        LATER[0],
        st.integers(-900_000_000, 900_000_000),
        st.integers(-1_800_000_000, 1_800_000_000),
        *LATER[3:],
    ),
)


def produce() -> dict[str, str]:
    found = {
        "request: one frame": ONE_FRAME.to_bytes(),
        "request: all frames for a time": FOR_A_TIME.to_bytes(),
        "request: all frames, all blocks": BlockRequest(15).to_bytes(),
        "request: the largest": BlockRequest(15, duration_ms=3_600_000).to_bytes(),
        "report": REPORT.to_bytes(),
        "report: nothing but the kind": Report(*[0] * 9).to_bytes(),
        "report: a state is remembered": replace(REPORT, memory=b"\x65\xc3").to_bytes(),
        "report: nothing that deltas refer to": replace(REPORT, memory=b"").to_bytes(),
        "clock note": NOTE.to_bytes(),
        "clock note: an error too large to tell": ClockNote(2**63 - 1, 2**40).to_bytes(),
        "pose: in a map": IN_MAP.to_bytes(),
        "pose: in a map, short": IN_MAP.to_short_bytes(),
        "pose: on a slope": ON_A_SLOPE.to_bytes(),
        "pose: on a slope, short": ON_A_SLOPE.to_short_bytes(),
        "pose: on the earth": ON_EARTH.to_bytes(),
        "pose: on the earth, short": ON_EARTH.to_short_bytes(),
        "envelope": Envelope(1, 2, b"\x10p").to_bytes(NAME),
        "envelope: wrapped": Envelope(2**48 + 65_537, 70_000, b"").to_bytes(NAME),
        "envelope: keyed": Envelope(65_537, 2, b"\x10p").to_bytes(NAME, KEY),
        "envelope: keyed, short key, wrapped": Envelope(2**48 - 1, 70_000, bytes(20)).to_bytes("ü/note", KEY[:16]),
    }
    return {name: data.hex() for name, data in found.items()}


def golden() -> dict[str, bytes]:
    return {name: bytes.fromhex(text) for name, text in json.loads(GOLDEN.read_text()).items()}


def test_messages_are_golden() -> None:
    found = produce()
    if os.environ.get("SEMHIER_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
        pytest.skip(f"wrote {GOLDEN.name}: review the difference and commit it")
    assert found == json.loads(GOLDEN.read_text())


def test_golden_messages_read_as_the_page_says() -> None:
    data = golden()
    assert reference.read(reference.REQUEST, data["request: one frame"]) == {
        "kind": 0x52,
        "version": 1,
        "flags": 1,
        "finest": 6,
        "frame": 513,
        "duration": 0,
    }
    timed = reference.read(reference.REQUEST, data["request: all frames for a time"])
    assert (timed["flags"], timed["finest"], timed["frame"], timed["duration"]) == (0, 0, 0, 2500)
    numbers = [0x41, 65_535, 1000, 17, 5, 40_000, 250, 65_530, 3_000_000_000, 1_700_000_000_123_456 % 2**48]
    assert list(reference.read(reference.REPORT, data["report"]).values()) == numbers
    remembers = reference.read(reference.HOLDS, data["report: a state is remembered"])
    assert list(remembers.values()) == [0x43, *numbers[1:], 0x65, 0xC3]
    lost = reference.read(reference.REPORT, data["report: nothing that deltas refer to"])
    assert list(lost.values()) == [0x44, *numbers[1:]]
    assert list(reference.read(reference.NOTE, data["clock note"]).values()) == [0x42, 2**64 - 5_000_000, 20_000]
    assert reference.read(reference.NOTE, data["clock note: an error too large to tell"])["error"] == 2**31 - 1
    assert reference.open_envelope(data["envelope"]) == (1, 2, b"\x10p")
    assert reference.open_envelope(data["envelope: wrapped"]) == (1, 70_000 - 65_536, b"")
    assert reference.open_envelope(data["envelope: keyed"], NAME, KEY) == (65_537, 2, b"\x10p")
    wrapped = data["envelope: keyed, short key, wrapped"]
    assert reference.open_envelope(wrapped, "ü/note", KEY[:16]) == (2**48 - 1, 70_000 - 65_536, bytes(20))


def test_golden_poses_read_as_the_page_says() -> None:
    data = golden()
    stamp, below = 1_700_000_000_123, 2**32
    fields = reference.pose_fields(0x01, 3)
    numbers = [0x50, 0x01, stamp, 1234, below - 567, 49_152, 0, 3, int.from_bytes(b"map", "big")]
    assert list(reference.read(fields, data["pose: in a map"]).values()) == numbers
    numbers = [0x50, 0x00, stamp % 65_536, 1234, 65_536 - 567, 49_152]
    assert list(reference.read(reference.pose_fields(0), data["pose: in a map, short"]).values()) == numbers
    name = b"site/lower"
    numbers = [0x50, 0x1D, stamp, below - 100_000, 7, below - 250, 1, 65_236, 20, 33, 10, int.from_bytes(name, "big")]
    assert list(reference.read(reference.pose_fields(0x1D, 10), data["pose: on a slope"]).values()) == numbers
    numbers = [0x50, 0x1C, stamp % 65_536, -100_000 % 65_536, 7, 65_286, 1, 65_236, 20]
    assert list(reference.read(reference.pose_fields(0x1C), data["pose: on a slope, short"]).values()) == numbers
    numbers = [0x50, 0x07, stamp, 480_000_001, below - 115_000_002, 51_000, 16_384, 57]
    assert list(reference.read(reference.pose_fields(0x07), data["pose: on the earth"]).values()) == numbers


@given(POSES)
def test_a_whole_pose_comes_back_as_it_was(pose: EgoPose) -> None:
    data = pose.to_bytes()
    assert 23 <= len(data) <= 64
    assert EgoPose.from_bytes(data) == EgoPose.from_bytes(data, IN_MAP) == pose
    assert not is_envelope(data)


@given(POSES, st.lists(st.integers(-32_767, 32_767), min_size=3, max_size=3), st.integers(-WINDOW_MS, WINDOW_MS))
def test_a_short_pose_comes_back_to_who_took_one_near_it(pose: EgoPose, apart: list[int], later: int) -> None:
    numbers = {"x": pose.x + apart[0], "y": pose.y + apart[1], "z": pose.z + apart[2]}
    try:
        next_one = replace(pose, stamp_ms=pose.stamp_ms + later, yaw=7, **numbers)
    except ValueError:
        return  # beyond what a pose can hold
    assert pose.restores(next_one)
    data = next_one.to_short_bytes()
    assert 14 <= len(data) <= 20
    assert EgoPose.from_bytes(data, pose) == next_one
    with pytest.raises(PoseError, match="before any whole one"):
        EgoPose.from_bytes(data)


@given(st.lists(st.tuples(st.integers(1, 4000), st.integers(-20_000, 20_000), st.booleans()), max_size=40))
def test_whatever_is_lost_what_is_read_is_right(steps: list[tuple[int, int, bool]]) -> None:
    """Any poses may be lost: a pose that comes is read as it was, or refused."""
    writer, reader, pose = PoseWriter(), PoseReader(), IN_MAP
    for later, moved, comes in steps:
        pose = replace(pose, stamp_ms=pose.stamp_ms + later, x=pose.x + moved, y=pose.y - moved)
        data = writer.write(pose)
        if not comes:
            continue
        with suppress(PoseError):
            assert reader.read(data) == pose


def test_a_steady_robot_is_told_in_few_bytes_and_late_joiners_wait_three_seconds() -> None:
    writer = PoseWriter()
    poses = [replace(IN_MAP, stamp_ms=IN_MAP.stamp_ms + 500 * step, x=step * 50) for step in range(40)]
    sizes = [len(writer.write(pose)) for pose in poses]
    whole = len(IN_MAP.to_bytes())
    assert sizes[:10] == [whole] * 10  # a sender that begins knows nothing of its readers
    assert sorted(set(sizes[10:])) == [14, whole]
    assert all(whole in sizes[start : start + 7] for start in range(33))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stamp_ms": -1}, "stamp_ms: -1, expected 0 to"),
        ({"x": 2**31}, "x: 2147483648, expected -2147483648 to 2147483647"),
        ({"frame": "", "x": 900_000_001}, "x: 900000001, expected -900000000 to 900000000"),
        ({"yaw": 65_536}, "yaw: 65536, expected 0 to 65535"),
        ({"accuracy": 256}, "accuracy: 256, expected 0 to 255"),
        ({"frame": "m" * 33}, "expected at most 32 bytes"),
        ({"frame": "a\nb"}, "printable"),
    ],
)
def test_a_pose_out_of_range_is_refused_by_name(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(IN_MAP, **change)


def test_a_pose_of_numbers_is_the_nearest_one() -> None:
    pose = EgoPose.of(
        "map", 1_700_000_000_123_999_999, (12.344, -5.666, 0.004), (0.004, -0.004, -1.0), least_tilt=0.005
    )
    assert (pose.x, pose.y, pose.z, pose.pitch, pose.roll, pose.stamp_ms) == (1234, -567, 0, 0, 0, 1_700_000_000_123)
    assert pose.angles == pytest.approx((0.0, 0.0, -1.0), abs=5e-5)
    earth = EgoPose.of("", 0, (48.12345678, 11.5, 510.0), (0.1, -0.2, 3.0), sigma=1.5)
    assert earth.place == pytest.approx((48.12345678, 11.5, 510.0), abs=1e-7)
    assert earth.angles == pytest.approx((0.1, -0.2, 3.0), abs=5e-5)
    assert earth.sigma == pytest.approx(1.5, rel=0.05)
    with pytest.raises(ValueError, match="expected finite numbers"):
        EgoPose.of("map", 0, (float("nan"), 0.0, 0.0))


def test_the_pages_examples_are_these_bytes() -> None:
    page = BITSTREAM.read_text()
    keyed = golden()["envelope: keyed"]
    shown = (IN_MAP.to_bytes(), IN_MAP.to_short_bytes(), ON_EARTH.to_bytes())
    shown += (ONE_FRAME.to_bytes(), FOR_A_TIME.to_bytes(), golden()["envelope"], keyed[:-8], keyed[-8:])
    for example in shown:
        assert f"`{example.hex()}`" in page


@given(st.one_of(REQUESTS, REMEMBERING, NOTES))
def test_a_message_comes_back_as_it_was(message: BlockRequest | Report | ClockNote) -> None:
    data = message.to_bytes()
    more = len(message.memory or b"") if isinstance(message, Report) else 0
    assert len(data) == {BlockRequest: 14, Report: 29, ClockNote: 17}[type(message)] + more
    assert type(message).from_bytes(data) == message
    assert not is_envelope(data)


def test_their_lengths_are_what_is_said() -> None:
    assert (REQUEST_BYTES, REPORT_BYTES, CLOCK_BYTES) == (14, 29, 17)


@given(st.integers(0, 2**48 - 1), SHORT, st.binary(max_size=40), st.sampled_from([None, KEY, KEY[:16]]))
def test_an_envelope_comes_back_as_it_was(sequence: int, sent_ms: int, payload: bytes, key: bytes | None) -> None:
    data = Envelope(sequence, sent_ms, payload).to_bytes(NAME, key)
    assert len(data) == len(payload) + (OVERHEAD if key is None else OVERHEAD_KEYED)
    told = sequence if key else sequence & 0xFFFF
    assert Envelope.from_bytes(data, NAME, key) == Envelope(told, sent_ms, payload)
    assert Envelope(told, sent_ms, payload).to_bytes(NAME, key) == data
    assert is_envelope(data)


Reader = tuple[Callable[[bytes], Any], type[ValueError]]
READERS: list[Reader] = [
    (BlockRequest.from_bytes, PacketError),
    (Report.from_bytes, ReportError),
    (ClockNote.from_bytes, ReportError),
    (EgoPose.from_bytes, PoseError),
    (lambda data: EgoPose.from_bytes(data, IN_MAP), PoseError),
    (lambda data: EgoPose.from_bytes(data, ON_EARTH), PoseError),
]


def with_crc(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


@given(
    st.binary(max_size=40),
    st.booleans(),
    st.sampled_from([b"", b"\x41", b"\x43", b"\x44", b"\x42", b"\x52\x01", b"\x52\x01\x01"]),
)
def test_whatever_comes_is_a_message_or_refused(data: bytes, checked: bool, begin: bytes) -> None:
    data = begin + data
    for reader, error in READERS:
        for form in (data, data[:10], data[:25], data[:27], data[:13]):
            with suppress(error):
                made = with_crc(form) if checked else form
                assert reader(made).to_bytes() == made


@given(st.binary(max_size=200), st.booleans())
def test_whatever_comes_is_an_envelope_or_refused(data: bytes, keyed: bool) -> None:
    key = KEY if keyed else None
    with suppress(EnvelopeError):
        assert Envelope.from_bytes(data, NAME, key).to_bytes(NAME, key) == data
        assert not keyed  # nobody guesses a proof


@pytest.mark.parametrize("name", [name for name in produce() if not name.startswith("envelope")])
def test_every_changed_bit_is_noticed(name: str) -> None:
    data = bytes.fromhex(produce()[name])
    reader, error = next((r, e) for r, e in READERS if r.__qualname__.startswith(_kind_of(name)))
    if "short" in name:  # its checksum notices before anything is restored
        reader = partial(EgoPose.from_bytes, before=ON_EARTH if "earth" in name else IN_MAP)
    for place in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[place // 8] ^= 1 << place % 8
        with pytest.raises(error):
            reader(bytes(damaged))
    for size in (*range(len(data)), len(data) + 1, 100_000):
        expected = len(data) if size else {31: 29}.get(len(data), len(data))  # no first byte says which report
        said = None if name.startswith("pose") else f"{size} bytes, expected {expected}"  # a pose is as long as it says
        with pytest.raises(error, match=said):
            reader(data[:size].ljust(size, b"\0"))


def _kind_of(name: str) -> str:
    return {"r": {"q": "BlockRequest", "p": "Report"}.get(name[2], ""), "c": "ClockNote", "p": "EgoPose"}[name[0]]


def test_damage_that_keeps_the_checksum_is_a_message_of_one_encoding_or_refused() -> None:
    draw = random.Random(5)
    originals = [data for name, data in golden().items() if not name.startswith("envelope")]
    accepted = 0
    for _ in range(6000):
        changed = bytearray(draw.choice(originals)[:-4])
        for _ in range(draw.randint(1, 3)):
            changed[draw.randrange(len(changed))] ^= draw.randrange(1, 256)
        made = with_crc(bytes(changed))
        for reader, error in READERS:
            with suppress(error):
                found = reader(made)
                short = isinstance(found, EgoPose) and not made[1] & 1
                assert (found.to_short_bytes() if short else found.to_bytes()) == made
                accepted += 1
    assert accepted > 1000, "most changed reports are reports"


def test_every_changed_bit_of_a_proved_envelope_is_noticed() -> None:
    data = Envelope(5, 6, b"\x10packet").to_bytes(NAME, KEY)
    for place in range(8 * len(data)):
        forged = bytearray(data)
        forged[place // 8] ^= 1 << place % 8
        with pytest.raises(EnvelopeError):
            Envelope.from_bytes(bytes(forged), NAME, KEY)
    for name, key in (("rear/packets", KEY), ("front/info", KEY), (NAME, KEY[::-1]), (NAME, None)):
        with pytest.raises(EnvelopeError):
            Envelope.from_bytes(data, name, key)
    with pytest.raises(EnvelopeError, match="not authenticated"):
        Envelope.from_bytes(Envelope(5, 6, b"\x10packet").to_bytes(NAME), NAME, KEY)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("530106000000000000" + "00", "byte 0: 0x53, a request starts with 0x52"),
        ("520206000000000000" + "00", "byte 1: request version 2, this release reads version 1"),
        ("520102060000000000" + "00", "byte 2: unknown flags 0x2"),
        ("520100060201000000" + "00", "byte 4: frame 513 in a request for all frames, expected 0"),
        ("520100100000000000" + "00", "finest: 16, expected 0 to 15"),
        ("520101060201000000" + "01", "duration: 0.001 s, but a request for one frame has none"),
        ("520100060000" + "0036ee81", "duration: 3600 s, expected 0"),
    ],
)
def test_a_refused_request_says_what_is_wrong(body: str, words: str) -> None:
    with pytest.raises(PacketError, match=words):
        BlockRequest.from_bytes(with_crc(bytes.fromhex(body)))


def test_a_request_out_of_range_cannot_be_made() -> None:
    for values, words in (
        ({"finest": 16}, "finest: 16, expected 0 to 15"),
        ({"finest": -1}, "finest: -1"),
        ({"finest": 2, "frame": 65_536}, "frame: 65536, expected 0 to 65535"),
        ({"finest": 2, "duration_ms": -1000}, "duration: -1 s, expected 0"),
        ({"finest": 2, "duration_ms": 3_601_000}, "duration: 3601 s, expected 0 .* to 3600 s"),
        ({"finest": 2, "frame": 3, "duration_ms": 1}, "a request for one frame has none"),
    ):
        with pytest.raises(ValueError, match=words):
            BlockRequest(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["xyz", "00" * 15, "00" * 33, "0" * 33])
def test_keys_that_are_none_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="key must be") as caught:
        read_key(text)
    assert text not in str(caught.value)


def test_keys() -> None:
    assert read_key("") is None
    assert read_key("00" * 16) == bytes(16)
