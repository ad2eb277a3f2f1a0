"""The training loop: what was stopped and goes on ends as what never was; what a user sees of it."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra `train`)")
from torch import Tensor, nn

from semhier_ros.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from semhier_ros.training.device import adamw, depthwise_in_float32, in_float32, pick_device
from semhier_ros.training.errors import TrainingError
from semhier_ros.training.fit import APART, AveragedWeights, Course, Log, Loss, Made, Schedule, fit

pytestmark = pytest.mark.torch
COURSE = Course(12, warm_up=4, seed=3, name="tiny", choose_every=5)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks as small as these only wait for a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny() -> nn.Sequential:
    """A network with weights, running statistics and dropout, the same every time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.2), nn.Flatten(), nn.Linear(144, 1))


def train(
    folder: Path, stop_at: int = -1, course: Course = COURSE, stop: int = signal.SIGINT, **more: Any
) -> nn.Module:
    network = tiny()
    optimizer = adamw(network.parameters(), 1e-2, weight_decay=0.01)
    data = Made(lambda random: [torch.from_numpy(random.random((4, 3, 8, 8), np.float32))], course.seed)
    steps = iter(range(1000))

    def loss(batch: Sequence[Tensor], random: np.random.Generator) -> Loss:
        if next(steps) == stop_at:
            os.kill(os.getpid(), stop)
        wanted = float(random.random()) + torch.rand(())
        total = (network(batch[0]) - wanted).square().mean()
        return Loss(total, {"square": total})

    checkpoint = Checkpoint(folder / "tiny.pt", {"kind": "tiny"})
    fit(network, optimizer, data, loss, course, checkpoint, lambda average: {"weight": average[0].weight.sum()}, **more)
    return network


def states_of(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint by its place in it."""
    found: dict[str, Tensor] = {}

    def walk(value: Any, place: str) -> None:
        if isinstance(value, dict):
            for key, one in value.items():
                walk(one, f"{place}/{key}")
        elif isinstance(value, Tensor):
            found[place] = value

    walk(load_checkpoint(folder / "tiny.pt"), "")
    return found


def test_a_training_that_was_stopped_twice_ends_as_one_that_never_was(tmp_path: Path, capfd: Any) -> None:
    train(tmp_path / "whole")
    for stop_at, stop, kind in ((2, signal.SIGINT, KeyboardInterrupt), (4, signal.SIGTERM, SystemExit)):
        with pytest.raises(kind):
            train(tmp_path / "parts", stop_at, stop=stop)
        said = capfd.readouterr().err
        step = load_checkpoint(tmp_path / "parts" / "tiny.pt")["step"]
        assert f"tiny: stopped at step {step} of 12, saved in {tmp_path}/parts/tiny.pt; the same command" in said
    assert step == 8
    train(tmp_path / "parts")
    whole, parts = states_of(tmp_path / "whole"), states_of(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert len(whole) > 20
    for place, value in whole.items():
        assert torch.equal(value, parts[place]), place


def test_signals_are_the_callers_again_afterwards(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    train(tmp_path)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_finished_training_is_left_alone(tmp_path: Path) -> None:
    train(tmp_path)
    before = (tmp_path / "tiny.pt").read_bytes()
    train(tmp_path)
    assert (tmp_path / "tiny.pt").read_bytes() == before


def test_the_log_has_scores_and_losses_and_forgets_lost_steps(tmp_path: Path) -> None:
    train(tmp_path, course=Course(120, warm_up=4, name="tiny", choose_every=40))
    lines = [json.loads(line) for line in (tmp_path / "tiny.jsonl").read_text().splitlines()]
    assert [(line["step"], "choose" in line) for line in lines] == [
        (40, True),
        (50, False),
        (80, True),
        (100, False),
        (120, True),
    ]
    assert {"lr", "minutes", "samples_per_second", "loss"} <= lines[1].keys()
    with (tmp_path / "tiny.jsonl").open("a") as file:
        file.write('{"step": 13')  # cut by a kill
    Log(tmp_path / "tiny.jsonl", 80).write(step=90, loss=0.123456789)
    assert [json.loads(line)["step"] for line in (tmp_path / "tiny.jsonl").read_text().splitlines()] == [40, 50, 80, 90]


def test_minutes_end_a_training_and_bend_its_learning_rate(tmp_path: Path) -> None:
    now = iter(np.arange(0, 10_000, 15.0))  # seconds
    train(tmp_path, course=Course(10_000, minutes=5, warm_up=1, name="tiny"), clock=lambda: float(next(now)))
    saved = load_checkpoint(tmp_path / "tiny.pt")
    assert 1 < saved["step"] < 20
    assert saved["minutes"] >= 5
    assert saved["optimizer"]["param_groups"][0]["lr"] < 0.03 * 1e-2
    schedule = Schedule(Course(10, math.inf, warm_up=2, floor=0.5), lambda: 0.0)
    assert [round(schedule.factor(step), 3) for step in (0, 1, 5, 10)] == [0.5, 0.988, 0.75, 0.5]


def test_a_loss_that_is_no_number_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    train(tmp_path, course=Course(3, name="tiny"))
    before = (tmp_path / "tiny.pt").read_bytes()
    network = tiny()
    bad = Made(lambda random: [torch.full((4, 3, 8, 8), math.inf)], 0)
    with pytest.raises(TrainingError, match=r"no number any more at step 5.*tiny.pt is left as it was"):
        fit(
            network,
            adamw(network.parameters(), 1e-2, 0.01),
            bad,
            lambda batch, random: Loss(network(batch[0]).mean(), {}),
            Course(5, name="tiny"),
            Checkpoint(tmp_path / "tiny.pt"),
        )
    assert (tmp_path / "tiny.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (b"nonsense", "no checkpoint of this command"),
        (b"", "no checkpoint of this command"),
        ({"other": 1}, "no checkpoint of this command"),
        ({"network": {}, "step": 1, "kind": "large"}, "was trained with kind large, not tiny"),
        ({"network": {}, "step": 1, "kind": "tiny"}, "of another network than is trained here"),
    ],
)
def test_a_file_of_something_else_is_one_line(state: Any, words: str, tmp_path: Path) -> None:
    if isinstance(state, bytes):
        (tmp_path / "tiny.pt").write_bytes(state)
    else:
        save_checkpoint(tmp_path / "tiny.pt", state)
    before = (tmp_path / "tiny.pt").read_bytes()
    with pytest.raises(TrainingError, match=words):
        train(tmp_path)
    assert (tmp_path / "tiny.pt").read_bytes() == before


def test_checkpoints_run_no_code(tmp_path: Path) -> None:
    torch.save({"network": {}, "step": os.system}, tmp_path / "tiny.pt")
    with pytest.raises(TrainingError, match="no checkpoint of this command"):
        Checkpoint(tmp_path / "tiny.pt").read()


def test_a_group_apart_keeps_its_learning_rate_and_is_not_clipped(tmp_path: Path) -> None:
    steady, other = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    network = nn.ParameterList([steady, other])
    optimizer = torch.optim.SGD([{"params": [steady], "lr": 1.0}, {"params": [other], "lr": 0.5, APART: True}])
    data = Made(lambda random: [torch.zeros(1)], 0)
    fit(network, optimizer, data, lambda batch, random: Loss(-(3 * steady + 4 * other).sum(), {}), Course(2, warm_up=1))
    assert other.item() == pytest.approx(2 * 0.5 * 4)
    assert steady.item() == pytest.approx(1.0 + (0.01 + 0.99 * 0.5))


def test_averaged_weights_follow_at_once_and_then_slowly() -> None:
    network = nn.Linear(1, 1, bias=False)
    average = AveragedWeights(network, decay=0.9)
    wanted = None
    for step in range(200):
        with torch.no_grad():
            network.weight.fill_(float(step))
        average.update_parameters(network)
        decay = min(0.9, (1 + step) / (10 + step))
        wanted = float(step) if wanted is None else decay * wanted + (1 - decay) * step
    assert average.module.weight.item() == pytest.approx(wanted, rel=1e-4)
    assert not average.module.training
    assert not average.module.weight.requires_grad


def test_what_stays_in_float32_stays_so_in_copies_too() -> None:
    network = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 1))
    depthwise_in_float32(network)
    depthwise_in_float32(network)
    copied = AveragedWeights(network).module
    with torch.no_grad():
        copied[0].weight.zero_()
    x = torch.rand(1, 4, 8, 8)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert network[0](x).dtype == torch.float32
        assert network(x).dtype == torch.bfloat16
        assert copied[0](x).dtype == torch.float32
        assert float((copied[0](x) - copied[0].bias[:, None, None]).abs().max()) == 0
        assert float(network[0](x).std()) > 0
    linear = nn.Linear(4, 4)
    in_float32(linear, ("cuda",))
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(torch.rand(2, 4)).dtype == torch.bfloat16, "kept for another device alone"


def test_devices_that_are_not_there_are_one_line() -> None:
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(TrainingError, match="'tpu' is not one of auto, cpu, cuda"):
        pick_device("tpu")
