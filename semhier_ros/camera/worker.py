"""The threads of the ends: one that encodes, and at a base one that reads and one that paints. Everything else of
`camera/` waits for nobody.

Readings come before pictures: they never wait for one to be made, and a picture lets packets that come meanwhile go
first between its steps.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from semhier_ros.camera.encoder_end import EncoderEnd, Job
from semhier_ros.camera.fleet import Fleet, Task
from semhier_ros.link.clock import MACHINE, Clock

PICTURE_NICE = 5
"""How far the thread that makes pictures ranks behind the one that reads."""
PATIENCE, GLANCE = 0.02, 0.0005
"""Seconds that each step of a picture waits at most while coarse packets do, and how long it sleeps at a time. Python
lets one thread run at once, and takes turns of 5 ms without regard to rank."""


class EncodeWorker:
    """Owns sending ends and their thread, which runs one job at a time: of the end whose turn has waited longest.

    `on_error(end, job, error)`: called in that thread with what a job raised; its frame is given up. `on_job(end,
    job)`: called after each job that did not.
    """

    def __init__(
        self,
        ends: Sequence[EncoderEnd],
        on_error: Callable[[EncoderEnd, Job, Exception], None],
        *,
        on_job: Callable[[EncoderEnd, Job], None] | None = None,
        clock: Clock = MACHINE,
    ) -> None:
        self._ends, self._on_error, self._on_job, self._clock = list(ends), on_error, on_job, clock
        self._bell = clock.bell()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="encode", daemon=True)
        self._thread.start()

    def offer(self, end: EncoderEnd, source: Any, stamp_ns: int, frame_id: str) -> None:
        """`EncoderEnd.offer` now; returns at once."""
        end.offer(source, stamp_ns, frame_id, self._clock.now())
        self._bell.ring()

    def wake(self) -> None:
        """Says that an end may have something to do: after `EncoderEnd.request`."""
        self._bell.ring()

    def close(self) -> None:
        """Ends the thread after its current job; what waits is forgotten."""
        self._closing = True
        self._bell.ring()
        self._thread.join()
        for end in self._ends:
            end.forget()

    def _run(self) -> None:
        while not self._closing:
            now = self._clock.now()
            due = [(when, place) for place, end in enumerate(self._ends) if (when := end.next_event(now)) is not None]
            if not due or min(due)[0] > now:
                self._bell.wait_until(min(due)[0] if due else None)
                continue
            end = self._ends.pop(min(due)[1])
            self._ends.append(end)  # the others come first next time
            job = end.begin(now)
            if job is not None:
                self._do(end, job)

    def _do(self, end: EncoderEnd, job: Job) -> None:
        try:
            job.run()
            end.finish(job, self._clock.now())
            if self._on_job is not None:
                self._on_job(end, job)
        except Exception as error:  # one frame must not end the stream
            end.failed(job)
            self._on_error(end, job, error)


class FleetWorker:
    """The two threads of a `Fleet`: readings, and pictures, which the scheduler of the system ranks behind."""

    def __init__(self, fleet: Fleet, *, clock: Clock = MACHINE) -> None:
        self.fleet = fleet
        self._bells = [clock.bell(), clock.bell()]
        self._clock = clock
        self._closing = False
        if clock is MACHINE:
            fleet.between = self._let_readings_go_first
        self._threads = [
            threading.Thread(target=run, name=name, daemon=True)
            for run, name in ((self._read, "decode"), (self._paint, "pictures"))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def counters(self) -> Mapping[str, int]:
        """Those of the fleet."""
        return self.fleet.counters

    def put(self, camera: str, task: Task) -> None:
        """Queues a task, without waiting."""
        self.fleet.put(camera, task)
        self._bells[0].ring()

    def close(self) -> None:
        """Ends the threads after what they are at; what waits is forgotten."""
        self._closing = True
        for bell, thread in zip(self._bells, self._threads, strict=True):
            bell.ring()
            thread.join()

    def _read(self) -> None:
        while not self._closing:
            if not self.fleet.read():
                self._bells[0].wait_until(None)
            elif self.fleet.next_picture() is not None:
                self._bells[1].ring()

    def _let_readings_go_first(self) -> None:
        latest = time.monotonic() + PATIENCE
        while self.fleet.coarse_waits and not self._closing and time.monotonic() < latest:
            time.sleep(GLANCE)

    def _paint(self) -> None:
        _rank_behind_readings()
        while not self._closing:
            due = self.fleet.next_picture()
            if due is None or due > self._clock.now():
                self._bells[1].wait_until(due)
                continue
            try:
                self.fleet.paint()
            except Exception as error:  # a picture that nobody could publish
                self.fleet.failed(error)


def _rank_behind_readings() -> None:
    with suppress(OSError):  # a thread's own, on Linux; some containers forbid it
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), PICTURE_NICE)
