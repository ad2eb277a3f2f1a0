"""Damaged and forged compact frames: none is taken by a CRC-32 or a key, and nothing raises."""

from __future__ import annotations

import pytest

from semhier_ros.command import CommandError
from semhier_ros.lab.studies import frames


@pytest.mark.parametrize("proof", list(frames.SEALS))
@pytest.mark.parametrize("transport", frames.TRANSPORTS)
def test_of_thousands_of_wrong_frames_none_is_taken(transport: str, proof: str):
    if transport == "mavlink":
        pytest.importorskip("pymavlink", reason="pymavlink is not installed: requirements/mavlink.txt")
    if proof.startswith("chacha"):
        pytest.importorskip("cryptography", reason="cryptography is not installed: requirements/radio.txt")
    row = frames.attack(transport, proof, 3000, seed=5)
    assert row["right_frames_taken_before"] > 100
    assert (row["taken"], row["crashes"]) == (0, 0)


def test_a_right_frame_is_taken_so_that_none_taken_means_something():
    target = frames.Target("serial", frames.Seal(*frames.SEALS["crc32"]))
    target.give(target.right[5])
    target.end.close()
    assert target.taken == 1


def test_a_proof_of_an_unknown_name_is_refused():
    with pytest.raises(CommandError, match="'sha1', of crc16, crc32, key, chacha20, chacha20poly1305 expected"):
        frames._known("proofs", "sha1", tuple(frames.SEALS))
