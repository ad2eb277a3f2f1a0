"""What the real engine makes of a task before and after its processes run; here none does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from semhier_ros.command import CommandError
from semhier_ros.footage.bags import open_footage
from semhier_ros.footage.labels import LabelError
from semhier_ros.footage.lens import lens_of
from semhier_ros.footage.messages import BagWriter, camera_messages
from semhier_ros.footage.video import FootageError, default_video
from semhier_ros.lab.replay import real as engine
from semhier_ros.lab.replay.base import Costs, Run
from semhier_ros.lab.replay.task import Task
from semhier_ros.paths import model_names


def quiet(stage: str, share: float = 0.0) -> None:
    """Who watches nothing."""


@pytest.fixture
def source(place: Path, tmp_path: Path) -> Path:
    """Six frames of the street, 0.1 s apart, with a lens of its own."""
    ((street,), _) = open_footage(place / "bag", seconds=0.6)
    with BagWriter(tmp_path / "source") as bag:
        for number, stamp in enumerate(street.stamps_ns):
            picture, (topic, info) = camera_messages(bag.store, street.image(number), stamp, "front", "optical")
            info.k[0] = info.k[4] = 777.0
            bag.write(*picture, stamp)
            bag.write(topic, info, stamp)
    return tmp_path / "source"


@pytest.fixture
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of nodes and links a run in which nothing came."""
    if "road" not in model_names():
        pytest.skip("models/road is not there")

    def drive(result: Any, *_: Any) -> None:
        result.runs["semhier"] = Run("semhier", "nothing", [len(result.cameras[0])], seconds=1.0)

    monkeypatch.setattr(engine, "check_real", lambda task: None)
    monkeypatch.setattr(engine, "_drive_nodes", drive)
    monkeypatch.setattr(engine, "_take_recording", lambda *_: None)


def test_what_a_task_asks_of_the_encoder_is_told_to_the_node() -> None:
    task = Task((), "64kbit,50ms", ("semhier",), max_rate=5.0)
    assert "finest_block" not in engine.encoder_parameters(task, foot_bits=True), "the node's own"
    told = engine.encoder_parameters(replace(task, finest=0, memory=True), foot_bits=True)
    assert (told["finest_block"], told["memory.enabled"], told["foot_bits"], told["max_rate"]) == (0, True, True, 5.0)


@pytest.mark.usefixtures("no_processes")
def test_lens_and_labels_are_those_of_the_footage_and_not_of_its_copy(source: Path, tmp_path: Path) -> None:
    ((camera,), _) = open_footage(source)
    labels = tmp_path / "labels"
    labels.mkdir()
    for number in (1, 4):
        (labels / f"{camera.stamps_ns[number]}.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    task = Task((source,), "64kbit,50ms", ("semhier",), "road", labels=labels, costs=Costs(), ground=(1.5, 0.0))
    result = engine.run_real(task, tmp_path / "out", quiet)
    assert lens_of(result.cameras[0], None).fx == 777.0
    assert result.summary["truth"] == "labels"
    assert result.worlds[0].instants == pytest.approx([0.1, 0.4])
    camera.times_ns = [time + 300_000_000 for time in camera.times_ns]
    late = engine.run_real(task, tmp_path / "late", quiet, camera)
    assert late.worlds[0].instants == pytest.approx([0.1, 0.4]), "the copy's times count from its first frame"
    assert late.cameras[0].times_ns == result.cameras[0].times_ns


@pytest.mark.usefixtures("no_processes")
def test_what_a_run_could_not_be_judged_by_is_said_before_it(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begun(*_: Any, **__: Any) -> None:
        raise AssertionError("the run has begun")

    monkeypatch.setattr(engine, "write_camera", begun)
    task = Task((source,), "64kbit,50ms", ("semhier",), "road", costs=Costs())
    with pytest.raises(LabelError, match="/labels: no file and no vision_msgs/msg/Detection2DArray topic of the bag"):
        engine.run_real(replace(task, labels=Path("/labels")), tmp_path / "out", quiet)
    try:
        video = default_video()
    except FootageError as error:
        pytest.skip(str(error))
    with pytest.raises(CommandError, match="no CameraInfo; say --lens"):
        engine.run_real(replace(task, bags=(video,), seconds=0.2, ground=(1.5, 0.0)), tmp_path / "out", quiet)
