"""Damaged and forged compact frames: none is taken by a CRC-32 or a key, and nothing raises."""

from __future__ import annotations

from itertools import product

import pytest

from semhier_ros.cli import main
from semhier_ros.codec.compact import (
    DELTA,
    DELTA_LONG,
    HAIL,
    MOTION,
    MOTION_LONG,
    PIECE,
    STORED,
    STORED_FIRST,
    TURN,
    Compact,
)
from semhier_ros.lab.studies import frames


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
        target.give(target.base[5 if place != 5 else 6])  # a request, which tells no count
        target.give(target.base[-words + place])  # the last turn asked about stored pieces too
        target.end.close()
        assert (target.taken, target.crashes) == (2, 0), place


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
