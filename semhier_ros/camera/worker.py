"""The threads of the ends: one that encodes, and at a base one that reads and one that paints. Everything else of
`camera/` waits for nobody.

Readings come before pictures: a picture is begun only when no packet waits, and then only the newest that is wanted of
a camera; a packet that comes while one is painted does not wait for it.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semhier_ros.camera.decoder_end import DecoderEnd, Output, WantedPicture, pictures_together
from semhier_ros.camera.encoder_end import EncoderEnd, Job
from semhier_ros.camera.fleet import Fleet, Task
from semhier_ros.codec.stream_info import StreamInfo
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


class DecodeWorker:
    """Owns receiving ends and their two threads.

    `on_reading(camera, output)` and `wants_picture(stream, output)` are called in the thread that reads, `on_picture(
    camera, rgb, output)` in the one that paints. What they raise goes to `on_error` and ends nothing. `queue`: packets
    per camera that may wait (>= 1); beyond it the oldest is dropped and counted in `counters` as overflow. Only changed
    readings are handed on.
    """

    def __init__(
        self,
        streams: Mapping[str, DecoderEnd],
        queue: int,
        *,
        on_reading: Callable[[str, Output], None],
        on_picture: Callable[[str, NDArray[np.uint8], Output], None],
        wants_picture: Callable[[DecoderEnd, Output], bool],
        on_error: Callable[[Exception], None],
        clock: Clock = MACHINE,
    ) -> None:
        self._streams = dict(streams)
        self._on_reading, self._on_picture, self._wants = on_reading, on_picture, wants_picture
        self._on_error = on_error
        self._clock = clock
        self._bell, self._easel = clock.bell(), clock.bell()
        self._lock = threading.Lock()  # of all that waits
        self._reading = {camera: threading.Lock() for camera in self._streams}  # of each end
        self._queue = queue
        self._waiting: dict[str, deque[Task]] = {camera: deque() for camera in self._streams}
        self._pictures: dict[str, Output] = {}
        self._closing = False
        self.counters: Counter[str] = Counter()
        self._threads = [
            threading.Thread(target=run, name=name, daemon=True)
            for run, name in ((self._read, "decode"), (self._paint, "pictures"))
        ]
        for thread in self._threads:
            thread.start()

    def put(self, camera: str, task: Task) -> None:
        """Queues a task, without waiting; a camera that is not decoded here is counted."""
        with self._lock:
            waiting = self._waiting.get(camera)
            if waiting is None:
                self.counters["other_camera"] += 1
                return
            if len(waiting) >= self._queue:
                self._drop_oldest(waiting)
            waiting.append(task)
        self._bell.ring()

    def _drop_oldest(self, waiting: deque[Task]) -> None:
        """Drops the oldest packet; descriptions are replaced by newer ones only."""
        self.counters["overflow"] += 1
        infos = [task for task in waiting if isinstance(task, StreamInfo)]
        others = [task for task in waiting if not isinstance(task, StreamInfo)]
        waiting.clear()
        waiting.extend([*infos[-1:], *others[1:]])

    def close(self) -> None:
        """Ends the threads after what they are at; what waits is forgotten."""
        self._closing = True
        for bell, thread in zip((self._bell, self._easel), self._threads, strict=True):
            bell.ring()
            thread.join()

    # -- readings -----------------------------------------------------------------------------------------------------

    def _next(self) -> tuple[str, Task] | None:
        """The next task and its camera, of the one with most of them; None when nothing waits."""
        with self._lock:
            ready = [camera for camera, waiting in self._waiting.items() if waiting]
            if not ready:
                return None
            camera = max(ready, key=lambda name: len(self._waiting[name]))
            return camera, self._waiting[camera].popleft()

    def _read(self) -> None:
        while not self._closing:
            work = self._next()
            if work is None:
                if self._pictures:
                    self._easel.ring()
                self._bell.wait_until(None)
                continue
            try:
                self._task(*work)
            except Exception as error:  # one packet must not end the node
                self._failed(error)

    def _task(self, camera: str, task: Any) -> None:
        stream, now = self._streams[camera], self._clock.now()
        with self._reading[camera]:
            if isinstance(task, StreamInfo):
                outputs = stream.describe(task, now)
            elif isinstance(task, bytes):
                outputs = stream.datagram(task, now)
            else:
                block, stamp_ns = task
                stored = isinstance(block, tuple)
                outputs = stream.stored(block, stamp_ns, now) if stored else stream.block(block, stamp_ns, now)
        for output in outputs:
            if output.changed:
                self._on_reading(camera, output)
        if outputs and self._wants(stream, outputs[-1]):
            with self._lock:
                self.counters["pictures_skipped"] += camera in self._pictures
                self._pictures[camera] = outputs[-1]

    def _failed(self, error: Exception) -> None:
        self.counters["errors"] += 1
        self._on_error(error)

    # -- pictures -----------------------------------------------------------------------------------------------------

    def _paint(self) -> None:
        _rank_behind_readings()
        while not self._closing:
            due = self._take_pictures()
            if not due:
                self._easel.wait_until(None)
                continue
            try:
                self._make(due)
            except Exception as error:  # a picture that nobody could publish
                self._failed(error)

    def _take_pictures(self) -> dict[str, Output]:
        """What is to be painted now: the picture that has been wanted longest, and where the device makes several at
        once, all others of its codec too. Nothing while a packet waits."""
        with self._lock:
            if not self._pictures or any(self._waiting.values()):
                return {}
            first = self._streams[next(iter(self._pictures))]
            due = [
                name
                for name in self._pictures
                if self._streams[name] is first or (first.batches and self._streams[name].codec is first.codec)
            ]
            return {name: self._pictures.pop(name) for name in due}

    def _make(self, due: Mapping[str, Output]) -> None:
        wanted: dict[str, WantedPicture] = {}
        for name, output in due.items():
            with self._reading[name]:
                found = self._streams[name].wanted_picture(output.reading.frame)
            if found is not None:
                wanted[name] = found
        codec = next((found.codec for found in wanted.values()), None)
        names = [name for name, found in wanted.items() if found.codec is codec]  # a stream may have begun anew
        made = pictures_together([wanted[name] for name in names]) if names else []
        for name, rgb in zip(names, made, strict=True):
            if rgb is not None:
                self._on_picture(name, rgb, due[name])


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
