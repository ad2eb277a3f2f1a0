"""The scene as a planner had it, as the report plays it: beside the newest reading and the truth."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("jinja2", reason="the report needs Jinja2: pip install -r requirements/report.txt")
pytest.importorskip("matplotlib", reason="the report needs matplotlib: pip install -r requirements/report.txt")

from semhier_ros.codec.reading import Detection
from semhier_ros.lab.replay.base import Answer
from semhier_ros.lab.replay.work import Result
from semhier_ros.lab.report.replay_page import RATE, busiest, film, render
from semhier_ros.lab.scoring.streaming import World

SPEED, DELAY = 120.0, 0.2


def car_at(time: float) -> tuple[Detection, ...]:
    """A car that drives to the right, and something that the detector hardly believes in."""
    left = 20.0 + SPEED * time
    sure = Detection(0, (left, 60.0, left + 80.0, 120.0), (0, 2, 5), ("vehicle", "car-like", "car"), (0.9, 0.9, 0.8))
    doubtful = Detection(1, (5.0, 5.0, 25.0, 25.0), (0, 2, 5), ("vehicle", "car-like", "car"), (0.1, 0.1, 0.1))
    return sure, doubtful


def driven(result: Result, seconds: float) -> Result:
    times = [number / 10 for number in range(round(seconds * 10))]
    answers = [
        Answer(0, number, round(time * 1e9), time + DELAY, time + DELAY, 0, 0, car_at(time), "")
        for number, time in enumerate(times)
    ]
    world = World(np.array(times), [car_at(time) for time in times], "labels")
    runs = {"semhier": SimpleNamespace(answers=answers)}
    return replace(result, task=replace(result.task, forecast=True), worlds=[world], runs=runs)  # type: ignore[arg-type]


def test_the_scene_is_foretold_to_instants_between_the_judged_ones(result: Result) -> None:
    found = film(driven(result, 2.4))
    assert found is not None
    seconds = [row[0] for row in found["instants"]]
    assert np.allclose(np.diff(seconds), 1 / RATE)
    assert seconds[0] == 0
    assert seconds[-1] == pytest.approx(2.28, abs=0.05)
    early = [row for row in found["instants"] if row[0] < DELAY - 0.01]
    assert all(row[3:] == [[], None, []] for row in early), "nothing has arrived"
    gaps = []
    for now, place, truth, reading, age, scene in found["instants"]:
        assert place == int(now * 10 + 1e-6)
        assert len(truth) == 1, "the doubtful one is left out"
        if now > 1.5:
            assert 195 <= age <= 305
            assert len(reading) == len(scene) == 1
            true = 20.0 + SPEED * now
            assert true - reading[0][0] == pytest.approx(SPEED * age / 1e3, abs=1)
            gaps.append(abs(scene[0][0] - true))
    assert np.median(gaps) < 0.5 * SPEED * DELAY, "the scene is nearer to the car than the reading"
    pictures = found["pictures"]
    assert len(pictures) == 24
    assert all(picture.startswith("data:image/webp;base64,") for picture in pictures)


def test_of_a_long_run_the_busiest_seconds_are_shown() -> None:
    instants = np.arange(0, 60, 0.1)
    objects = np.where((instants > 30) & (instants < 45), 9, 1)
    assert 30 <= busiest(objects, instants) <= 35.1
    assert busiest(objects[:20], instants[:20]) == 0.0


def test_the_page_plays_it_where_readings_are_foretold(result: Result) -> None:
    page = render(replace(result, task=replace(result.task, forecast=True)))
    assert page.count('id="film-canvas"') == page.count('id="film-data"') == 1
    off = replace(result, task=replace(result.task, forecast=False))
    assert film(off) is None
    assert 'id="film-canvas"' not in render(off)
