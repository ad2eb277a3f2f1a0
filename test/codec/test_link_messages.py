"""Requests, reports, notes and envelopes: golden bytes, one encoding each, and whatever a network may make of them."""

from __future__ import annotations

import json
import os
import random
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import reference_messages as reference
from hypothesis import given
from hypothesis import strategies as st

from semhier_ros.codec import BlockRequest, ClockNote, Envelope, EnvelopeError, PacketError, Report, ReportError
from semhier_ros.codec.block_request import REQUEST_BYTES
from semhier_ros.codec.envelope import OVERHEAD, OVERHEAD_KEYED, is_envelope, read_key
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


def test_the_pages_examples_are_these_bytes() -> None:
    page = BITSTREAM.read_text()
    keyed = golden()["envelope: keyed"]
    shown = (ONE_FRAME.to_bytes(), FOR_A_TIME.to_bytes(), golden()["envelope"], keyed[:-8], keyed[-8:])
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
    for place in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[place // 8] ^= 1 << place % 8
        with pytest.raises(error):
            reader(bytes(damaged))
    for size in (*range(len(data)), len(data) + 1, 100_000):
        expected = len(data) if size else {31: 29}.get(len(data), len(data))  # no first byte says which report
        with pytest.raises(error, match=f"{size} bytes, expected {expected}"):
            reader(data[:size].ljust(size, b"\0"))


def _kind_of(name: str) -> str:
    return {"r": {"q": "BlockRequest", "p": "Report"}.get(name[2], ""), "c": "ClockNote"}[name[0]]


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
                assert reader(made).to_bytes() == made
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
