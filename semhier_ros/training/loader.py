"""The one loader of all trainings: worker processes make samples, batches come out in order.

A sample is a function of its number alone (its source seeds itself with it), so a training sees the same batches for
the same seed whatever the number of workers, and goes on exactly where it was. Workers are started through a *fork
server*: they inherit neither threads nor CUDA from the training, and get their source by pickling, in which packed
arrays (`packed.PackedArray`) are file names. Batches travel through shared memory.

`semhier measure loading` says how many augmented crops of road scenes a second come out.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Generator
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

AHEAD = 2  # batches that each worker makes in advance
SHARE_OF_MEMORY = 0.5  # of the free shared memory that waiting batches may take
MOST_WORKERS = 32


class Samples(Protocol):
    """An endless numbered row of samples: arrays of the same shapes and kinds for every number. Must be picklable."""

    def sample(self, number: int) -> tuple[NDArray, ...]: ...


class Draws:
    """Which row of a data set sample `number` shows: epochs of as many draws as there are rows, each epoch in an order
    of its own. With `shares` (summing to 1) a row comes as often as its share says, rounded up or down by chance
    (systematic sampling); without, once an epoch."""

    def __init__(self, rows: int, seed: int, shares: NDArray | None = None):
        self.rows, self.seed, self.shares = rows, seed, shares
        self._order: tuple[int, NDArray] | None = None

    def row(self, number: int) -> int:
        epoch, position = divmod(number, self.rows)
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, self._draw(epoch)
        return int(self._order[1][position])

    def random(self, number: int) -> np.random.Generator:
        """What else is drawn for sample `number`: a generator of its own."""
        epoch, position = divmod(number, self.rows)
        return np.random.default_rng([self.seed, epoch, position])

    def _draw(self, epoch: int) -> NDArray:
        random = np.random.default_rng([self.seed, epoch])
        if self.shares is None:
            return random.permutation(self.rows)
        points = (random.random() + np.arange(self.rows)) / self.rows
        ends = np.cumsum(self.shares)
        return random.permutation(np.searchsorted(ends / ends[-1], points, side="right").clip(max=self.rows - 1))


def workers_for(device: torch.device, threads: int, asked: int | None = None) -> int:
    """How many workers were asked for, or suit this machine: all processors but one for a GPU, what training leaves
    idle otherwise, at least one."""
    if asked is not None:
        return asked
    processors = len(os.sched_getaffinity(0))
    spare = processors - 1 if device.type == "cuda" else processors - threads
    return int(np.clip(spare, 1, MOST_WORKERS))


class _Numbered(Dataset):
    """`Samples` as torch's loader knows data sets."""

    def __init__(self, samples: Samples):
        self.samples = samples

    def __getitem__(self, number: int) -> tuple[NDArray, ...]:
        return self.samples.sample(number)


class _Batches:
    """The numbers of the samples of batches `first`, …, `last` - 1."""

    def __init__(self, size: int, first: int, last: int):
        self.size, self.first, self.last = size, first, last

    def __iter__(self) -> Generator[list[int], None, None]:
        for batch in range(self.first, self.last):
            yield list(range(batch * self.size, (batch + 1) * self.size))

    def __len__(self) -> int:
        return self.last - self.first


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the training, which ends its workers


def _context(samples: Samples) -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "cv2", samples.__class__.__module__])
    return context


class Loader:
    """Batches of `size` consecutive samples as tensors, on the CPU; pinned where `device` is CUDA.

    workers: processes that make them; 0 makes them in this one, while the training waits.
    """

    def __init__(self, samples: Samples, size: int, workers: int, device: torch.device | None = None):
        self.samples, self.size, self.workers = samples, size, workers
        self.pinned = device is not None and device.type == "cuda"

    def batches(self, first: int, last: int) -> Generator[list[Tensor], None, None]:
        """Batches number `first`, …, `last` - 1. Closing the iterator ends the workers.

        Raises:
            RuntimeError: a worker was killed ("DataLoader worker … "), or what a sample raised.
        """
        if first >= last:
            return
        workers, ahead = self._that_fit(last - first)
        options: dict[str, Any] = {}
        if workers:
            options = {
                "multiprocessing_context": _context(self.samples),
                "prefetch_factor": ahead,
                "worker_init_fn": _start_worker,
            }
        loader: DataLoader = DataLoader(
            _Numbered(self.samples),
            batch_sampler=_Batches(self.size, first, last),  # type: ignore[arg-type]
            num_workers=workers,
            pin_memory=self.pinned,
            generator=torch.Generator(),  # its own, so that loading draws nothing from the training's numbers
            **options,
        )
        threads = cv2.getNumThreads()
        try:
            if not workers:
                cv2.setNumThreads(0)
            yield from loader
        except (ConnectionError, EOFError) as error:
            if str(error).startswith("Caught"):  # by a worker, from its source
                raise
            raise RuntimeError(f"DataLoader worker ended while a batch of its was fetched ({error})") from error
        finally:
            cv2.setNumThreads(threads)

    def _that_fit(self, batches: int) -> tuple[int, int]:
        """Workers and batches ahead of each, fewer where shared memory (64 MB in many a container) would overflow and
        kill them."""
        workers = min(self.workers, batches)
        if not workers:
            return 0, 0
        size = self.size * sum(np.asarray(part).nbytes for part in self.samples.sample(0))
        room = free_shared_memory() * SHARE_OF_MEMORY
        fit = int(room // max(size, 1)) - 1  # one more is in use
        if fit >= workers * AHEAD:
            return workers, AHEAD
        if fit < 1:
            return 0, 0
        return min(workers, fit), 1


def free_shared_memory() -> float:
    """Bytes that are left in /dev/shm; infinite where the system has none to ask."""
    try:
        about = os.statvfs("/dev/shm")
    except OSError:
        return float("inf")
    return float(about.f_bavail * about.f_frsize)


def _processor_seconds(kind: int) -> float:
    used = resource.getrusage(kind)
    return used.ru_utime + used.ru_stime


def measure(samples: Samples, size: int, workers: int, batches: int) -> dict[str, float]:
    """Samples a second over `batches` batches, after those that the workers make in advance."""
    first = max(1, workers * AHEAD)
    with contextlib.closing(Loader(samples, size, workers).batches(0, first + batches)) as rows:
        started = time.monotonic()
        for _ in range(first):
            next(rows)
        ready = time.monotonic()
        for _ in range(batches):
            next(rows)
        spent = time.monotonic() - ready
    return {
        "workers": workers,
        "samples_per_second": round(batches * size / spent, 1),
        "seconds_to_start": round(ready - started, 2),
    }


def processor_time(samples: Samples, count: int) -> float:
    """Milliseconds of one processor that a sample takes."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)
    samples.sample(0)
    before = _processor_seconds(resource.RUSAGE_SELF)
    for number in range(1, count + 1):
        samples.sample(number)
    spent = _processor_seconds(resource.RUSAGE_SELF) - before
    cv2.setNumThreads(threads)
    return 1000 * spent / count
