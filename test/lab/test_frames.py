"""Damaged and forged compact frames: none is taken by a CRC-32 or a key, and nothing raises."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from semhier_ros.cli import main
from semhier_ros.codec.block_request import BlockRequest
from semhier_ros.codec.compact import (
    ACK,
    DELTA,
    DELTA_LONG,
    HAIL,
    MEMORY,
    MISSING,
    MOTION,
    MOTION_LONG,
    PIECE,
    STORED,
    STORED_FIRST,
    TURN,
    Compact,
    Context,
    Word,
    stream_tag,
    word_of,
)
from semhier_ros.lab.made_scenes import codec_of, description
from semhier_ros.lab.studies import frames

CONTEXT = Context(True, stream_tag(description(codec_of(frames.MODEL))))
"""Of a word that answers a turn without a key."""


@pytest.mark.parametrize("proof", list(frames.SEALS))
@pytest.mark.parametrize(
    ("transport", "kind"), [*product(frames.TRANSPORTS, ("all", "word")), ("udp", "delta"), ("udp", "motion")]
)
def test_of_thousands_of_wrong_frames_none_is_taken(transport: str, proof: str, kind: str):
    if transport == "mavlink":
        pytest.importorskip("pymavlink", reason="pymavlink is not installed: requirements/mavlink.txt")
    if proof.startswith("chacha"):
        pytest.importorskip("cryptography", reason="cryptography is not installed: requirements/radio.txt")
    row = frames.attack(transport, proof, 3000, 5, kind)
    assert row["right_frames_taken_before"] >= (2 if kind == "word" else 60)
    assert (row["taken"], row["crashes"]) == (0, 0)


def test_a_right_frame_is_taken_so_that_none_taken_means_something():
    target = frames.Receiver("serial", frames.Seal(*frames.SEALS["crc32"]))
    target.give(target.base[0])
    target.end.close()
    assert target.taken == 1


@pytest.mark.parametrize("proof", list(frames.SEALS))
def test_what_is_damaged_is_right_before(proof: str) -> None:
    """Readings, poses and the picture of the last second, none of which the base has heard."""
    if proof.startswith("chacha"):
        pytest.importorskip("cryptography", reason="cryptography is not installed: requirements/radio.txt")
    seal = frames.Seal(*frames.SEALS[proof])
    target = frames.Receiver("udp", seal)
    for frame in target.base:
        target.give(frame)
    target.end.close()
    silent = {TURN, HAIL}
    told = sum(Compact.parse(frame, seal).kind not in silent for frame in target.base)
    held = sum(Compact.parse(frame, seal).kind in (PIECE, STORED, STORED_FIRST) for frame in target.base)
    assert target.taken >= told - held
    assert target.end.counters.get("refused", 0) == target.crashes == 0


@pytest.mark.parametrize("proof", list(frames.SEALS))
def test_every_right_word_is_taken_by_an_end_whose_turn_it_answers(proof: str):
    if proof.startswith("chacha"):
        pytest.importorskip("cryptography", reason="cryptography is not installed: requirements/radio.txt")
    seal = frames.Seal(*frames.SEALS[proof])
    words = len(frames.Sender("serial", seal).right) // frames.TURNS
    for place in range(words):
        target = frames.Sender("serial", seal)
        said = target.base[place - words]  # to the last turn
        word = Word.parse(said, seal)
        target.give(said)
        lost = word.kind == MEMORY and not word.memory
        doubted = seal.short and (word.request is not None or word.kind == MISSING or lost)
        assert (target.taken, target.crashes) == (not doubted, 0), place
        if doubted:  # until it is said again
            again = replace(word, count=word.count + 1).to_bytes(CONTEXT, seal) if lost else said
            target.give(again)
            assert target.taken == 1, place
        target.end.close()


@pytest.mark.parametrize(
    "word",
    [
        Word(ACK, 0, 200, 0, 56),  # of a frame that never left
        Word(ACK, 0, 6, 0b1000000, 56),  # of one before the first
        Word(ACK, 0, 6, 0b11, 200),  # of more frames than left
        Word(MEMORY, 0, count=56, memory=b"\x06\x00"),  # of a state to which no frame led
        word_of(BlockRequest(6, 3), 0),
    ],
)
def test_what_nothing_before_lets_expect_has_to_be_said_again_where_16_bits_prove_it(word: Word):
    for proof, needed in (("crc16", 2), ("crc32", 1)):
        seal = frames.Seal(*frames.SEALS[proof])
        target = frames.Sender("serial", seal)
        for more in range(needed):
            assert target.taken == 0
            target.give(replace(word, count=word.count + more).to_bytes(CONTEXT, seal))
        target.end.close()
        assert target.taken == 1


def test_a_word_that_is_doubted_is_soon_forgotten():
    """So that of a million wrong ones no two help each other."""
    seal = frames.Seal(*frames.SEALS["crc16"])
    for between, taken in ((15, 1), (16, 0)):
        target = frames.Sender("serial", seal)
        for word in (word_of(BlockRequest(6, 3), 0).to_bytes(CONTEXT, seal), *[b"noise"] * between):
            target.give(word)
        target.give(word_of(BlockRequest(6, 3), 0).to_bytes(CONTEXT, seal))
        target.end.close()
        assert target.taken == taken


def test_an_acknowledgement_goes_by_the_one_before_it():
    seal = frames.Seal(*frames.SEALS["crc16"])
    for later, taken in ((Word(ACK, 0, 6, 0b101, 57), 2), (Word(ACK, 0, 6, 0b100, 57), 1), (Word(ACK, 0, 4, 0, 57), 1)):
        target = frames.Sender("serial", seal)
        for word in (Word(ACK, 0, 5, 0b10, 56), later):
            target.give(word.to_bytes(CONTEXT, seal))
        target.end.close()
        assert target.taken == taken


def test_what_is_damaged_is_of_the_kind_that_was_asked_for():
    seal = frames.Seal(*frames.SEALS["crc16"])
    bases = {kind: frames.Receiver("udp", seal, kind) for kind in ("all", "delta", "motion")}
    kinds = {kind: {Compact.parse(frame, seal).kind for frame in target.base} for kind, target in bases.items()}
    assert kinds["delta"] == {DELTA, DELTA_LONG}
    assert kinds["motion"] == {MOTION, MOTION_LONG}
    assert kinds["all"] > kinds["delta"] | kinds["motion"]
    row = frames.attack("udp", "crc16", 3000, 1, "word")
    assert sum(row["taken_by_kind"].values()) == row["taken"] <= 3


def test_a_proof_of_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["measure", "frames", "--proofs", "crc16,sha1"])
    assert "'sha1', one of crc16, crc32, key, chacha20, chacha20poly1305 expected" in capsys.readouterr().err
