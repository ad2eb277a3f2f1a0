"""The one training loop: a network, its optimiser, a loader and a loss go in; averaged weights come out.

A training says what a batch costs (`StepLoss`) and how long it goes on (`Course`); the loop does what all share:
learning rate, mixed precision, clipping, averaged weights, progress, a log, choosing-set scores, checkpoints. All that
step n draws at random follows from the seed and n, so a training that was stopped and went on ends with the weights of
one that never was (on one machine, where `steps` and not `minutes` end it).
"""

from __future__ import annotations

import json
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from semhier_ros.training.checkpoint import Checkpoint
from semhier_ros.training.device import autocast
from semhier_ros.training.errors import TrainingError
from semhier_ros.whole_file import write_whole

LOGGED_EVERY = 50  # steps
SMOOTHING = 0.03  # share of the newest step in the losses that are shown
APART = "apart"  # a parameter group with this key true keeps its learning rate and is not clipped


class Batches(Protocol):
    """Where batches come from: `loader.Loader`, or `Made`. The iterator is a generator: closing it ends its work."""

    def batches(self, first: int, last: int) -> Generator[Sequence[Tensor], None, None]: ...


class Made:
    """Batches made from tables in memory, in this process: `make(random)`, all drawn from `random`."""

    def __init__(self, make: Callable[[np.random.Generator], Sequence[Tensor]], seed: int):
        self.make, self.seed = make, seed

    def batches(self, first: int, last: int) -> Generator[Sequence[Tensor], None, None]:
        for number in range(first, last):
            yield self.make(np.random.default_rng([self.seed, 2, number]))


class Loss(NamedTuple):
    """What a batch costs. total: to be minimised. shown: single parts, by name, for people; they pass on no
    gradient."""

    total: Tensor
    shown: Mapping[str, Tensor | float]


StepLoss = Callable[[Sequence[Tensor], np.random.Generator], Loss]
"""A batch on the network's device and a generator of this step's own to its loss. torch's own generators are seeded for
the step as well. Runs under autocast where the course says `bf16`."""


@dataclass(frozen=True)
class Course:
    """How long and how a network is trained.

    steps, minutes: whichever runs out first ends it; the learning rate falls over both. Minutes spent before a resume
    count. warm_up: steps of rising learning rate. floor: share of the learning rate that is left at the end. clip:
    greatest norm of all gradients. decay: of the averaged weights. bf16: autocast to bfloat16. name: in progress and
    messages. save_every: seconds between checkpoints. choose_every: steps between scores on the choosing set (0: at the
    end alone).
    """

    steps: int
    minutes: float = math.inf
    warm_up: int = 200
    floor: float = 0.01
    clip: float = 1.0
    decay: float = 0.998
    bf16: bool = False
    seed: int = 0
    name: str = "train"
    save_every: float = 180.0
    choose_every: int = 0


class Schedule:
    """Warm-up, then half a cosine over the steps or minutes of a course, whichever are further gone."""

    def __init__(self, course: Course, clock: Callable[[], float] = time.monotonic):
        self.course, self.clock = course, clock
        self.spent = 0.0
        self._started = clock()

    def elapsed(self) -> float:
        """Minutes of training, `spent` before a resume included."""
        return self.spent + (self.clock() - self._started) / 60

    def progress(self, step: int) -> float:
        """From 0 to 1 and beyond."""
        return max(step / max(self.course.steps, 1), self.elapsed() / self.course.minutes)

    def factor(self, step: int) -> float:
        """What the learning rate is multiplied by at `step`."""
        rising = min(1.0, (step + 1) / max(self.course.warm_up, 1))
        falling = 0.5 * (1 + math.cos(math.pi * min(1.0, self.progress(step))))
        return rising * (self.course.floor + (1 - self.course.floor) * falling)

    def done(self, step: int) -> bool:
        return step >= self.course.steps or self.progress(step) >= 1.0


class AveragedWeights(AveragedModel):
    """Exponential moving average of a network's weights and buffers; `module` is the copy to evaluate and ship.

    What a network began with is soon forgotten: after n steps the decay is at most (1 + n) / (10 + n).
    """

    def __init__(self, network: nn.Module, decay: float = 0.998):
        super().__init__(network, use_buffers=True)
        self.decay = decay
        self.multi_avg_fn = self._move
        self.module.eval().requires_grad_(False)

    @torch.no_grad()
    def _move(self, own: Any, new: Any, _: Any) -> None:
        count = int(self.n_averaged)  # on the CPU, so this waits for no GPU
        share = 1 - min(self.decay, (1 + count) / (10 + count))
        if own[0].is_floating_point():
            torch._foreach_lerp_(own, new, share)
        else:
            for mine, theirs in zip(own, new, strict=True):
                mine.copy_(theirs)


class Means:
    """Running means of what is shown, kept on the device until somebody asks: reading a value waits for the GPU."""

    def __init__(self) -> None:
        self._means: dict[str, Tensor] = {}
        self._last: Tensor | None = None

    @torch.no_grad()
    def add(self, found: Loss) -> None:
        self._last = found.total.detach()
        for name, value in found.shown.items():
            value = torch.as_tensor(value).detach().float()
            mean = self._means.get(name)
            self._means[name] = value.clone() if mean is None else mean.lerp_(value, SMOOTHING)

    def values(self) -> dict[str, float]:
        return {name: float(mean) for name, mean in sorted(self._means.items())}

    def finite(self) -> bool:
        """Whether the newest loss is a number."""
        return self._last is None or bool(torch.isfinite(self._last))


class Log:
    """JSON lines beside a checkpoint, one each `LOGGED_EVERY` steps and one each score; on a resume, lines of steps
    that were lost with the last sitting are dropped. path: None writes nothing."""

    def __init__(self, path: Path | None, step: int):
        self.path = path
        if path is not None and path.exists():
            kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _step_of(line) <= step]
            write_whole(path, "".join(f"{line}\n" for line in kept) if step else "")

    def write(self, **values: Any) -> None:
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(_rounded(values)) + "\n")


class Fitted(NamedTuple):
    """The averaged network (evaluating, on the training's device), and the steps it had."""

    network: Any
    step: int


def fit(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: Batches,
    loss: StepLoss,
    course: Course,
    checkpoint: Checkpoint | None = None,
    choose: Callable[[Any], Mapping[str, float]] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Fitted:
    """Train `network`, as it stands (modes and frozen parts), until the course is over; from `checkpoint` on if that is
    there, and leaving it there.

    choose: scores of the averaged network on pictures that choose; they go into the log, `<stem>.jsonl` beside the
    checkpoint. Ctrl-C and SIGTERM save after the step, say how to go on, and end in KeyboardInterrupt or SystemExit; a
    second Ctrl-C ends at once.

    Raises:
        TrainingError: the checkpoint is of another training, the loss is no number any more, or a loader's worker died.
    """
    device = next(network.parameters()).device
    average = AveragedWeights(network, course.decay)
    schedule = Schedule(course, clock)
    apart = [bool(group.get(APART)) for group in optimizer.param_groups]
    anneal = LambdaLR(optimizer, [_constant if kept else schedule.factor for kept in apart])
    step = 0
    if checkpoint is not None and (saved := checkpoint.read()) is not None:
        _restore(checkpoint.path, saved, network, average, optimizer)
        step, schedule.spent = int(saved["step"]), float(saved.get("minutes", 0.0))
        _go_on(anneal, step)
    clipped = [
        own for group, kept in zip(optimizer.param_groups, apart, strict=True) if not kept for own in group["params"]
    ]
    log = Log(
        checkpoint.path.with_name(f"{checkpoint.path.name.partition('.')[0]}.jsonl") if checkpoint else None, step
    )
    shown = Means()

    def save() -> None:
        if not shown.finite():
            raise TrainingError(
                f"{course.name}: the loss is no number any more at step {step}; try a lower learning rate"
                + (f" ({checkpoint.path} is left as it was)" if checkpoint and checkpoint.path.exists() else "")
            )
        if checkpoint is not None:
            state: dict[str, Any] = {"network": network.state_dict(), "average": average.module.state_dict()}
            state |= {"optimizer": optimizer.state_dict(), "minutes": schedule.elapsed(), "step": step}
            checkpoint.write(state)

    def score() -> None:
        if choose is not None:
            with torch.no_grad(), autocast(device, course.bf16):
                log.write(step=step, choose={name: float(one) for name, one in choose(average.module).items()})

    if schedule.done(step):
        if checkpoint is not None and not checkpoint.path.exists():
            save()
        return Fitted(average.module, step)
    with _workers_may_end(course.name, checkpoint), _stop_when_told() as told:
        saved_at, counted = clock(), (step, clock())
        with closing(data.batches(step, course.steps)) as rows, _bar(course, step) as bar:
            for batch in rows:
                if told or schedule.done(step):
                    break
                random = _seed(course.seed, step)
                here = [part.to(device, non_blocking=True) for part in batch]
                with autocast(device, course.bf16):
                    found = loss(here, random)
                optimizer.zero_grad(set_to_none=True)
                found.total.backward()
                nn.utils.clip_grad_norm_(clipped, course.clip)
                optimizer.step()
                average.update_parameters(network)
                step += 1
                anneal.step()
                shown.add(found)
                bar.update()
                if step % LOGGED_EVERY == 0:
                    values = shown.values()
                    bar.set_postfix({name: f"{value:.3g}" for name, value in values.items()}, refresh=False)
                    pace = (step - counted[0]) * len(batch[0]) / max(clock() - counted[1], 1e-9)
                    rate = optimizer.param_groups[0]["lr"]
                    log.write(step=step, minutes=schedule.elapsed(), lr=rate, samples_per_second=pace, loss=values)
                    counted = step, clock()
                if course.choose_every and step % course.choose_every == 0 and step < course.steps:
                    score()
                if clock() - saved_at > course.save_every:
                    save()
                    saved_at = clock()
                if told:
                    break
    save()
    if told:
        place = f"saved in {checkpoint.path}; the same command goes on from there" if checkpoint else "nothing is kept"
        print(f"\n{course.name}: stopped at step {step} of {course.steps}, {place}", file=sys.stderr)
        if told[0] == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt
    score()
    return Fitted(average.module, step)


def _constant(step: int) -> float:
    return 1.0


def _seed(seed: int, step: int) -> np.random.Generator:
    """Seed torch for this step, and give a generator of the step's own."""
    random = np.random.default_rng([seed, 1, step])
    torch.manual_seed(int(random.integers(1 << 62)))
    return random


def _restore(
    path: Path, saved: dict[str, Any], network: nn.Module, average: AveragedWeights, optimizer: torch.optim.Optimizer
) -> None:
    try:
        network.load_state_dict(saved["network"])
        average.module.load_state_dict(saved.get("average", saved["network"]))
        if "optimizer" in saved:  # left out by who wants a smaller file
            optimizer.load_state_dict(saved["optimizer"])
    except (RuntimeError, ValueError, KeyError) as error:
        why = " ".join(str(error).split())[:160]
        raise TrainingError(f"{path}: of another network than is trained here ({why})") from error
    average.n_averaged.fill_(int(saved["step"]))


def _go_on(anneal: LambdaLR, step: int) -> None:
    """Let the learning rates, whose greatest values are those of today's options, be where `step` finds them."""
    anneal.last_epoch = step
    for group, base, factor in zip(anneal.optimizer.param_groups, anneal.base_lrs, anneal.lr_lambdas, strict=True):
        group["initial_lr"], group["lr"] = base, base * factor(step)


def _bar(course: Course, step: int) -> tqdm:
    """Progress, often on a terminal and now and then in a file."""
    pace = 0.5 if sys.stderr.isatty() else 30.0
    return tqdm(initial=step, total=course.steps, unit="step", desc=course.name, mininterval=pace)


@contextmanager
def _stop_when_told() -> Iterator[list[int]]:
    """A list that fills when Ctrl-C or SIGTERM asks to stop; the second Ctrl-C is an exception again."""
    told: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        if told and number == signal.SIGINT:
            raise KeyboardInterrupt
        told.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield told  # signals are the main thread's
        return
    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _workers_may_end(name: str, checkpoint: Checkpoint | None) -> Iterator[None]:
    """One line where torch tells of a dead worker (which it may at any moment, by a signal handler)."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):  # what a sample raised begins with "Caught"
            raise
        kept = f"{checkpoint.path} goes on" if checkpoint and checkpoint.path.exists() else "nothing was saved yet"
        raise TrainingError(
            f"{name}: a process that loads pictures ended ({error}). Out of memory? Give --workers fewer; {kept}"
        ) from error


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # a line that was cut


def _rounded(value: Any) -> Any:
    """Numbers at five digits, which is more than anybody reads; null for what is no number."""
    if isinstance(value, Mapping):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value
