"""The loader: the same batches whatever the number of workers, and the same again from any batch on."""

from __future__ import annotations

import importlib
import json
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra `train`)")

from semhier_ros.cli import main
from semhier_ros.training import loader as loader_module
from semhier_ros.training.loader import Draws, Loader, workers_for
from semhier_ros.training.packed import PackedArray
from semhier_ros.training.road_data import CACHE_SIZE, Scenes
from semhier_ros.training.scene_samples import SceneSamples, draw_shares

pytestmark = pytest.mark.torch
CROP = (128, 96)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    random = np.random.default_rng(0)
    width, height = CACHE_SIZE
    path = tmp_path_factory.mktemp("scenes") / "pixels.npy"
    np.save(path, random.integers(0, 255, (5, height, width, 3)).astype(np.uint8))
    boxes = []
    for number in range(5):
        corners = random.integers((0, 0), (500, 250), (3, 2))
        sides = random.integers(10, 90, (3, 2))
        kinds = np.array([[0], [number % 2], [number % 3]])
        boxes.append(np.concatenate([kinds, corners, corners + sides], axis=1).astype(np.float32))
    return Scenes([str(n) for n in range(5)], PackedArray(path), np.array([[width, height]] * 5), boxes)


def rows(samples: SceneSamples, workers: int, first: int = 0, last: int = 6) -> list[list[torch.Tensor]]:
    with closing(Loader(samples, 3, workers).batches(first, last)) as batches:
        return [[part.clone() for part in batch] for batch in batches]


def test_any_number_of_workers_gives_the_same_batches(scenes: Scenes) -> None:
    samples = SceneSamples(scenes, CROP, 7, draw_shares(scenes.boxes, 3))
    alone = rows(samples, 0)
    assert [tuple(part.shape) for part in alone[0]] == [
        (3, 96, 128, 3),
        (3, 1, 12, 16),
        (3, 12, 16),
        (3, 4, 12, 16),
        (3, 12, 16),
    ]
    for workers in (1, 3):
        for batch, same in zip(rows(samples, workers), alone, strict=True):
            assert all(torch.equal(one, other) for one, other in zip(batch, same, strict=True))


def test_a_later_start_gives_the_later_batches_and_another_seed_others(scenes: Scenes) -> None:
    whole = rows(SceneSamples(scenes, CROP, 7), 0)
    for batch, same in zip(rows(SceneSamples(scenes, CROP, 7), 0, 4), whole[4:], strict=True):
        assert torch.equal(batch[0], same[0])
    assert not torch.equal(rows(SceneSamples(scenes, CROP, 8), 0, 0, 1)[0][0], whole[0][0])
    assert not torch.equal(whole[0][0], whole[1][0])


def test_loading_draws_nothing_from_the_trainings_random_numbers(scenes: Scenes) -> None:
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    rows(SceneSamples(scenes, CROP, 7), 0, 0, 2)
    assert torch.equal(torch.rand(4), wanted)


def test_opencv_keeps_its_threads_after_loading_in_this_process(scenes: Scenes) -> None:
    before = cv2.getNumThreads()
    rows(SceneSamples(scenes, CROP, 7), 0, 0, 1)
    assert cv2.getNumThreads() == before


def test_every_row_comes_once_an_epoch_in_ever_new_order() -> None:
    draws = Draws(50, seed=1)
    epochs = [[draws.row(epoch * 50 + n) for n in range(50)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_rows_with_shares_come_as_often_as_they_say() -> None:
    shares = np.array([0.05] * 10 + [0.25] * 2)
    draws = Draws(len(shares), seed=1, shares=shares)
    counts = np.zeros((400, len(shares)), int)
    for number in range(counts.size):
        counts[number // len(shares), draws.row(number)] += 1
    expected = shares * len(shares)
    assert (counts >= np.floor(expected)).all()
    assert (counts <= np.ceil(expected)).all()
    np.testing.assert_allclose(counts.mean(0), expected, atol=0.1)


BROKEN = """
import os, signal
import numpy as np

class Broken:
    def __init__(self, killed):
        self.killed = killed

    def sample(self, number):
        if number == 2 and self.killed:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 2:
            raise ValueError("scene 2 is damaged")
        return (np.zeros(4, np.float32),)
"""


@pytest.mark.parametrize(
    ("killed", "kind", "words"),
    [(False, ValueError, "scene 2 is damaged"), (True, RuntimeError, "^DataLoader worker")],
)
def test_what_a_sample_raises_arrives_and_a_killed_worker_ends_the_loading(
    killed: bool, kind: type[Exception], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"broken_{killed}.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)  # workers look there as well
    samples = importlib.import_module(f"broken_{killed}").Broken(killed)
    with pytest.raises(kind, match=words), closing(Loader(samples, 1, 1).batches(0, 4)) as got:
        list(got)


def test_little_shared_memory_takes_fewer_workers(scenes: Scenes, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = SceneSamples(scenes, CROP, 7)
    size = 4 * sum(part.nbytes for part in samples.sample(0))
    found = []
    for batches in (100, 7, 3, 1):
        monkeypatch.setattr(loader_module, "free_shared_memory", lambda batches=batches: batches * size * 2.0)
        found.append(Loader(samples, 4, 4)._that_fit(1000))
    assert found == [(4, 2), (4, 1), (2, 1), (0, 0)]


def test_workers_leave_a_processor_to_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)))
    assert workers_for(torch.device("cuda"), 2) == 15
    assert workers_for(torch.device("cpu"), 4) == 12
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    assert workers_for(torch.device("cpu"), 2) == 1


def test_the_measuring_command_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("images", "labels", "splits"):
        (tmp_path / folder).mkdir()
    for number in range(3):
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), np.full((90, 160, 3), 90, np.uint8))
        (tmp_path / "labels" / f"{number}.txt").write_text("0 0.5 0.5 0.3 0.3\n")
    (tmp_path / "classes.txt").write_text("car\n")
    (tmp_path / "splits" / "train.txt").write_text("0.png\n1.png\n")
    (tmp_path / "splits" / "choose.txt").write_text("2.png\n")
    words = ["--data", tmp_path, "--splits", tmp_path / "splits", "--workers", "0,1", "--batch", 2, "--batches", 2]
    assert main([str(word) for word in ["measure", "loading", *words, "--crop", *CROP]]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["workers"] for row in found["rows"]] == [0, 1]
    assert all(row["samples_per_second"] > 0 for row in found["rows"])
    assert found["processor_ms_per_sample"] > 0
