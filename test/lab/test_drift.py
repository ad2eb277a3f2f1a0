"""Memories over radios: nothing that a radio does drives them apart, and what would is seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from semhier_ros.cli import main
from semhier_ros.lab.studies import drift

pytest.importorskip("serial", reason="pyserial is not installed: requirements/radio.txt")


@pytest.mark.parametrize("link", ["serial9600,loss10%", "acoustic"])
def test_no_frame_differs_over_a_radio(link: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "ANEW", 0.01)
    found = tmp_path / "drift.json"
    assert main(["measure", "drift", "--link", link, "--frames", "300", "--json", str(found)]) == 0
    (row,) = json.loads(found.read_text(encoding="utf-8"))["rows"]
    assert row["differ"] == 0
    assert row["compared"] > 30
    assert min(row["lost"], row["twice"] + row["behind"], row["restarts"], row["acknowledged"]) > 0


def test_a_memory_that_goes_apart_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the sender takes its receiver to lack an object."""
    from semhier_ros.link.emulate.radio import parse_radio

    codec = drift.codec_of("road")
    pair = drift.Drift(codec, parse_radio("serial9600"), 5.0, 10, 0)
    model: Any = codec.model
    read = model.read
    monkeypatch.setattr(pair, "_said", lambda code: read(code, codec.semantic_blocks - 1, drift.SIZE)[1:])
    pair.run(60)
    pair.close()
    assert pair.counts["compared"] > 10
    assert pair.counts["differ"] == pair.counts["compared"]
