"""A replay seen from above: places, errors in metres, and what has to be known for it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("jinja2", reason="the report needs Jinja2: pip install -r requirements/report.txt")
pytest.importorskip("matplotlib", reason="the report needs matplotlib: pip install -r requirements/report.txt")

from semhier_ros.cli import main
from semhier_ros.codec.reading import Detection
from semhier_ros.footage.bags import camera_info_of
from semhier_ros.footage.lens import lens_of, source_size
from semhier_ros.footage.video import VideoCamera, default_video
from semhier_ros.ground import Lens, Mount, locate
from semhier_ros.ground.render import box_of, outline
from semhier_ros.ground.sizes import SIZES
from semhier_ros.lab.replay.base import Answer
from semhier_ros.lab.replay.from_above import _same, errors, from_above
from semhier_ros.lab.replay.work import Result
from semhier_ros.lab.report.replay_page import render
from semhier_ros.lab.scoring.streaming import World
from semhier_ros.paths import model_names

pytestmark = pytest.mark.skipif("road" not in model_names(), reason="models/road is not there")
LENS, MOUNT = Lens(640, 480, 500, 500, 319.5, 239.5), Mount.level(1.2)


def person(distance: float, left: float, number: int) -> Detection:
    box = box_of(LENS, MOUNT, outline(SIZES["person"], distance, left, 0.0))
    assert box is not None
    return Detection(number, box, (0,), ("person",), (0.9,))


def test_errors_are_those_of_what_overlaps_the_truth() -> None:
    truth = locate([person(10.0, 0.0, 0), person(20.0, 3.0, 1), person(15.0, -4.0, 2)], LENS, MOUNT)
    seen = locate([person(20.2, 3.0, 0), person(10.1, 0.0, 1), person(30.0, 9.0, 2)], LENS, MOUNT)
    pairs = _same(seen, truth)
    assert [(a.detection.id, b.detection.id) for a, b in pairs] == [(1, 0), (0, 1)] or len(pairs) == 2
    found = errors(pairs)
    assert found["objects"] == 2
    assert found["range"] == pytest.approx(0.01, abs=0.002)
    assert found["metres"] == pytest.approx(0.15, abs=0.02)
    assert found["bearing"] < 0.2
    assert errors([]) == {"objects": 0}


def test_a_replay_whose_camera_is_known_is_shown_from_above(result: Result) -> None:
    """A person comes nearer at 1.4 m/s; each reading is 0.2 s old when it is seen."""
    assert from_above(result) is None, "nobody said how the camera is mounted"
    camera = result.cameras[0]
    lens = lens_of(camera, None)

    def at(time: float) -> tuple[Detection, ...]:
        box = box_of(lens, MOUNT, outline(SIZES["person"], 12.0 - 1.4 * time, 0.5, 0.0))
        assert box is not None
        return (Detection(0, box, (0,), ("person",), (0.9,)),)

    times = [number / 10 for number in range(24)]
    answers = [Answer(0, n, round(t * 1e9), t + 0.2, t + 0.2, 0, 0, at(t), "") for n, t in enumerate(times)]
    world = World(np.array(times), [at(time) for time in times], "labels")
    runs = {"semhier": SimpleNamespace(answers=answers)}
    placed = replace(result, task=replace(result.task, ground=(1.2, 0.0)), worlds=[world])
    found = from_above(replace(placed, runs=runs))  # type: ignore[arg-type]
    assert found is not None
    assert found["errors"]["objects"] == 22
    assert found["errors"]["metres"] == pytest.approx(0.28, abs=0.05)
    assert found["errors"]["inside"] == 1.0
    assert [row[0] for row in found["instants"]] == times
    assert [len(row[1]) for row in found["instants"]] == [0, 0] + [1] * 22
    (ahead, left, long, short, _, name), (truth,) = found["instants"][7][1][0], found["instants"][7][2]
    assert (ahead, left, name) == (pytest.approx(11.3, abs=0.1), pytest.approx(0.5, abs=0.1), "person")
    assert long > short > 0
    assert truth[0] == pytest.approx(11.02, abs=0.1)
    page = render(replace(placed, above=found))
    assert page.count('id="above-canvas"') == page.count('id="above"') == 1
    assert "Of 22 objects that both show" in page
    assert "from-above" not in render(result)


def test_the_lens_comes_from_the_bag_or_the_command_line(result: Result) -> None:
    camera = result.cameras[0]
    info = camera_info_of(camera)
    found = lens_of(camera, None)
    assert (found.width, found.height, found.fx) == (*camera.size, info.k[0])
    assert lens_of(camera, (400.0, 410.0, 300.0, 200.0)).fy == 410.0


def test_a_lens_is_given_in_pixels_of_the_video_that_was_taken(tmp_path: Path) -> None:
    """Wide footage is scaled down before it is read; its copy that somebody made smaller has a lens of its own."""
    lenses = []
    for width, focal in ((1920, 1500.0), (1280, 1000.0)):
        height, video = width * 9 // 16, tmp_path / f"{width}.avi"
        film = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (width, height))
        for _ in range(2):
            film.write(np.zeros((height, width, 3), np.uint8))
        film.release()
        camera = VideoCamera(video)
        assert (camera.size, source_size(camera)) == ((1280, 720), (width, height))
        lenses.append(lens_of(camera, (focal, focal, (width - 1) / 2, (height - 1) / 2)))
    box = box_of(lenses[1], MOUNT, outline(SIZES["person"], 12.0, 0.5, 0.0))
    assert box is not None
    places = [locate([Detection(0, box, (0,), ("person",), (0.9,))], lens, MOUNT)[0] for lens in lenses]
    assert (places[0].x, places[0].y) == pytest.approx((places[1].x, places[1].y))
    assert places[1].range == pytest.approx(12.0, abs=0.5)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--ground", "1.2"], "no CameraInfo; say --lens"),
        (["--ground", "high"], "expected HEIGHT[,DOWN]"),
        (["--ground", "0"], "0, expected HEIGHT[,DOWN], 0.01 to 10000"),
        (["--ground", "1", "--lens", "500,500"], "expected FX,FY,CX,CY"),
    ],
)
def test_what_cannot_be_used_is_said_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    command = ["replay", str(default_video()), "--costs", "given", "--codecs", "semhier", "--no-cache"]
    try:
        status = main([*command, "--out", str(tmp_path / "out"), *more])
    except SystemExit as stopped:
        status = int(stopped.code or 0)
    assert status == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out" / "summary.json").exists()


def test_the_summary_says_the_errors_in_metres(tmp_path: Path, place: Path, result: Result) -> None:
    command = [
        "replay",
        str(place / "bag"),
        "--link",
        "64kbit,50ms,5%,seed3",
        "--costs",
        "given",
        "--codecs",
        "semhier",
    ]
    command += ["--model", "road", "--cache", str(place / "c"), "--ground", "5,20", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["metres"]["objects"] >= 0
    feet = result.reader.codec.with_foot_bits()
    assert summary["model"]["stream_hash"] == feet.stream_hash  # as the encoder node sends it
    assert "From above" in (tmp_path / "out" / "report.html").read_text()
