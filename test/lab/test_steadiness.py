"""`semhier measure steadiness` on the street video, and what it says of files that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from semhier_ros.cli import main
from semhier_ros.footage.video import default_video


def test_followed_objects_switch_ids_less_often(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    assert main(["measure", "steadiness", str(default_video()), "--every", "8", "--json", str(out)]) == 0
    assert "followed" in capsys.readouterr().out
    (video,) = json.loads(out.read_text())["videos"]
    assert video["frames"] == 32
    assert video["frames_per_second"] == pytest.approx(25 / 8)
    without, followed = video["each_alone"], video["followed"]
    assert without["links"] == followed["links"] > 5, "boxes are the same"
    assert followed["id_switches"] < without["id_switches"]
    assert set(followed["level_flips_per_minute"]) == {"L0", "L1", "L2"}


def test_files_that_are_no_videos_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    assert main(["measure", "steadiness", str(tmp_path / "none.mp4")]) == 2
    assert "none.mp4: no such file" in capsys.readouterr().err
    assert main(["measure", "steadiness", str(tmp_path / "text.mp4")]) == 2
    assert "text.mp4: OpenCV finds no video frame" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["measure", "steadiness", str(default_video()), "--every", "0"])
