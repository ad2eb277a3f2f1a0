"""What many cameras cost one decoder, and drawn frames compared: the commands run, and their results have tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from semhier_ros.cli import main
from semhier_ros.lab.studies.tables import TABLES


def test_the_cost_of_two_cameras_and_their_arrivals(tmp_path: Path) -> None:
    out = tmp_path / "fleet.json"
    words = ["measure", "speed", "--cameras", "1", "2", "--rounds", "1", "--rates", "2", "--seconds", "1"]
    assert main([*words, "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert [row["cameras"] for row in result["cost"]] == [0, 1, 2]
    for row in result["cost"][1:]:
        parts = row["ms_a_frame"]
        assert parts["total"] == pytest.approx(parts["device"] + parts["entropy"] + parts["host"], rel=0.2)
    for row, cameras in zip(result["arrivals"], (1, 2), strict=True):
        assert row["frames_offered"] == 2 * cameras
        assert row["coarse_missing"] == 0
        assert row["pictures_per_second"] > 0
        assert row["problems"] == []
    cost, arrivals = TABLES["fleet"](result)
    assert len(cost.rows) == 3
    assert len(arrivals.rows) == 2


def test_drawn_frames_are_the_same_alone_and_together(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed (extra `cuda`)")
    out = tmp_path / "exactness.json"
    assert main(["measure", "exactness", "--drawn", "12", "--model", "imagenet", "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert (result["frames"], result["numbers_that_differ"], result["refused_otherwise"]) == (12, 0, 0)
    assert result["symbols"] > 100_000
