"""Many cameras, one decoder: packets of all of them in, readings and pictures out, shared fairly. No ROS, no thread.

Two lanes share the receiving ends. Readings: one packet of one camera at a time, each camera in its turn, coarse blocks
before finer ones; what the next packets of several cameras say is worked out together beforehand. Pictures: their
blocks wait as bytes until the frame is wanted, and then those of many cameras are decoded and painted together. So a
coarse block waits for no picture, what a camera sends in excess or damaged costs its own turns alone, and a
picture that a newer one overtakes costs nothing. `worker.FleetWorker` gives each lane a thread.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple, TypeGuard

import numpy as np
from numpy.typing import NDArray

from semhier_ros.camera.decoder_end import DecoderEnd, Output
from semhier_ros.codec.model import PictureRequest, PicturesFound, PictureWork, Spent
from semhier_ros.codec.packet import Block, PacketError, claimed_index
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.link.clock import MACHINE, Clock

Task = StreamInfo | bytes | tuple[Block, int] | tuple[tuple[Block, ...], int]
"""A stream's description, a packet of the link, a block with its stamp in ns, or stored blocks of one frame with it."""

Foreseeable = bytes | tuple[Block, int]
"""Those tasks of which several cameras' are worked out together."""

INFO_BYTES = 512
"""What a description counts for in a queue."""
TOGETHER, ONE_BY_ONE = 64, 4
"""Pictures of one batch: where a device makes several for less than one after another, and where it does not: there
the first would wait for the last."""


FORESEEN = 16
"""Packets of as many cameras at most are worked out together; a coarse one that comes meanwhile waits for that."""
BEHIND = 3
"""Later coarse packets, each of another frame, that wait before one is late."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What may wait, and how long.

    packets, bytes: of one camera; beyond either the oldest packet goes. late: seconds after which a coarse packet that
    waits goes where BEHIND later ones of its camera wait too (0.01..60): where more comes than can be read, what is
    read is news; where the machine only stood still for a moment, nothing is lost. company: seconds that a picture may
    wait for those of other cameras (0..1). together: pictures of one batch at most (1..1024; 0: as the device likes
    it).
    """

    packets: int = 128
    bytes: int = 8 << 20
    late: float = 0.5
    company: float = 0.003
    together: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("packets", 1, 1 << 20),
            ("bytes", 1 << 16, 1 << 31),
            ("late", 0.01, 60),
            ("company", 0, 1),
            ("together", 0, 1024),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name}: {value} is outside {low}..{high}")


@dataclass(slots=True)
class Figures:
    """What was done since the beginning. Seconds: device (networks of pictures, wherever they run), entropy (coder),
    host (all else, readings included), oldest (longest that a packet waited since it was last asked for). batches and
    batched: picture batches, and the pictures in them."""

    blocks: int = 0
    readings: int = 0
    pictures: int = 0
    batches: int = 0
    batched: int = 0
    device: float = 0.0
    entropy: float = 0.0
    host: float = 0.0
    oldest: float = 0.0


class _Waiting(NamedTuple):
    task: Task
    size: int
    since: float


def _size(task: Task) -> int:
    if isinstance(task, StreamInfo):
        return INFO_BYTES
    if isinstance(task, bytes):
        return len(task)
    return sum(len(block.data) for block in ((task[0],) if isinstance(task[0], Block) else task[0]))


def _news(task: Task) -> bool:
    """Whether a later one of its kind is worth more: of packets and single blocks, but of nothing stored."""
    return _foreseeable(task)


def _foreseeable(task: Task) -> TypeGuard[Foreseeable]:
    return isinstance(task, bytes) or (not isinstance(task, StreamInfo) and isinstance(task[0], Block))


def _finer(task: Task) -> bool:
    """Whether it says that it begins with a later block than 0."""
    if isinstance(task, StreamInfo):
        return False
    return bool(claimed_index(task) if isinstance(task, bytes) else task[0].index)


class CameraQueue:
    """What waits of one camera, in two rows: `coarse` (descriptions, and packets that say they begin with block 0) and
    `finer`. Bounded in number and bytes: the oldest finer packet goes first, then the oldest coarse one, and of
    descriptions only those that a newer one follows."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.coarse: deque[_Waiting] = deque()
        self.finer: deque[_Waiting] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.coarse) + len(self.finer)

    @property
    def oldest(self) -> float | None:
        """Since when the first waits."""
        return min((row[0].since for row in (self.coarse, self.finer) if row), default=None)

    def put(self, task: Task, now: float) -> int:
        """Takes a task; how many had to go for it, itself included where it is too large for the queue."""
        size = _size(task)
        if size > self._limits.bytes:
            return 1
        (self.finer if _finer(task) else self.coarse).append(_Waiting(task, size, now))
        self._bytes += size
        dropped = 0
        while len(self) > self._limits.packets or self._bytes > self._limits.bytes:
            self._drop()
            dropped += 1
        return dropped

    def _drop(self) -> None:
        row = self.finer or self.coarse
        oldest = next((n for n in range(len(row)) if not isinstance(row[n].task, StreamInfo)), 0)
        self._bytes -= row[oldest].size
        del row[oldest]

    def pop(self, now: float, *, coarse: bool) -> tuple[_Waiting, int]:
        """The oldest task of a row that is not late; and how many late ones went."""
        row = self.coarse if coarse else self.finer
        late = 0
        while True:
            first = row.popleft()
            self._bytes -= first.size
            if not coarse or len(row) < BEHIND or not _news(first.task) or now - first.since <= self._limits.late:
                return first, late
            late += 1


@dataclass(slots=True)
class _Due:
    """A camera whose picture is wanted, since when; of which `output` where no picture block has to be decoded."""

    since: float
    output: Output | None = None


class _Job(NamedTuple):
    """A camera's part of a batch: its frame's picture blocks, or the reading whose picture is wanted as it is."""

    camera: str
    frame: int
    work: PictureWork | None
    output: Output | None


class Fleet:
    """Receiving ends of many cameras (made with `pictures_later`), and what waits for them.

    `read` and `paint` may run in a thread each, beside `put`; nothing else may touch the ends but what they say is safe
    from any thread. `on_reading(camera, output)` and `on_error(error)` are called within `read`; `on_picture(camera,
    rgb, output)`, `wants_picture(end, output)` and `on_error` within `paint` (`wants_picture` within `read` too).
    `report(kind, text)` hears that a device was lost. `pictures()`: whether any are wanted at all now.
    `between`: called between two steps of `paint`, which may wait there for readings. `timer`: seconds that `figures`
    go by: of time, or of a processor.
    `counters` counts: overflow (packets that a full queue lost, or that waited until they were late), other_camera,
    errors, pictures_skipped (a newer one was wanted first), device_lost.
    """

    def __init__(
        self,
        ends: Mapping[str, DecoderEnd],
        limits: Limits,
        *,
        on_reading: Callable[[str, Output], None],
        on_picture: Callable[[str, NDArray[np.uint8], Output], None],
        wants_picture: Callable[[DecoderEnd, Output], bool],
        on_error: Callable[[Exception], None],
        report: Callable[[str, str], None],
        pictures: Callable[[], bool] = lambda: True,
        clock: Clock = MACHINE,
        timer: Callable[[], float] = perf_counter,
    ) -> None:
        self._ends, self.limits, self._clock, self._pictures = dict(ends), limits, clock, pictures
        self._on_reading, self._on_picture, self._wants = on_reading, on_picture, wants_picture
        self._on_error, self._report, self._timer = on_error, report, timer
        self._locks = {camera: threading.Lock() for camera in self._ends}
        self._queues = {camera: CameraQueue(limits) for camera in self._ends}
        self._turns: dict[bool, deque[str]] = {True: deque(), False: deque()}  # of coarse packets, of finer ones
        self._coarse_run = 0
        self._foreseen: dict[str, Task] = {}
        self._due: dict[str, _Due] = {}
        self._lock = threading.Lock()
        self._figures = Figures()
        self.between: Callable[[], None] = lambda: None
        self.counters: Counter[str] = Counter()

    @property
    def coarse_waits(self) -> bool:
        """Whether a coarse packet waits; from any thread."""
        return bool(self._turns[True])

    def put(self, camera: str, task: Task) -> None:
        """Queues a task, without waiting; a camera that is not decoded here is counted."""
        queue = self._queues.get(camera)
        with self._lock:
            if queue is None:
                self.counters["other_camera"] += 1
                return
            self.counters["overflow"] += queue.put(task, self._clock.now())
            for coarse, row in ((True, queue.coarse), (False, queue.finer)):
                if row and camera not in self._turns[coarse]:
                    self._turns[coarse].append(camera)

    def figures(self) -> Figures:
        """What was done so far; `oldest` begins anew. From any thread."""
        with self._lock:
            now = self._clock.now()
            waiting = [now - queue.oldest for queue in self._queues.values() if queue.oldest is not None]
            one = self._figures
            found = Figures(*(getattr(one, name) for name in Figures.__slots__))
            found.oldest = max(found.oldest, *waiting, 0.0)
            self._figures.oldest = 0.0
        return found

    def failed(self, error: Exception) -> None:
        """Counts what nobody expected, and hands it on."""
        self.counters["errors"] += 1
        self._on_error(error)

    # -- readings -----------------------------------------------------------------------------------------------------

    def read(self) -> bool:
        """Takes one packet of the camera whose turn it is; False where none waits. Coarse packets come first, but no
        more of them in a row than there are cameras, so that a flood of them cannot keep finer ones back."""
        with self._lock:
            now = self._clock.now()
            found = self._next_task(now)
            if found is None:
                return False
            camera, item = found
            self._figures.oldest = max(self._figures.oldest, now - item.since)
            together = self._together(camera, item.task)
        began = self._timer()
        try:
            if together:
                self._foresee(together, now)
            self._task(camera, item.task, now)
        except Exception as error:  # one packet must not end the service
            self.failed(error)
        with self._lock:
            self._figures.host += self._timer() - began
        return True

    def _next_task(self, now: float) -> tuple[str, _Waiting] | None:
        coarse = bool(self._turns[True]) and not (self._turns[False] and self._coarse_run >= len(self._ends))
        self._coarse_run = self._coarse_run + 1 if coarse else 0
        turns = self._turns[coarse]
        while turns:
            camera = turns.popleft()
            queue = self._queues[camera]
            row = queue.coarse if coarse else queue.finer
            if not row:  # the queue dropped what had this turn
                continue
            item, late = queue.pop(now, coarse=coarse)
            self.counters["overflow"] += late
            if row:
                turns.append(camera)  # the others come first
            return camera, item
        return self._next_task(now) if self._turns[True] or self._turns[False] else None

    def _together(self, camera: str, task: Task) -> dict[str, Foreseeable]:
        """A camera's task that is not foreseen, with what comes next of those that have their turn after it and the
        same model; nothing where none has."""
        codec = self._ends[camera].codec
        if self._foreseen.pop(camera, None) is task or codec is None or codec.whole_image or not _foreseeable(task):
            return {}
        finer, found = _finer(task), {camera: task}
        for other in self._turns[not finer]:
            queue = self._queues[other]
            row = queue.finer if finer else queue.coarse
            if row and other not in found and other not in self._foreseen and self._ends[other].codec is codec:
                first = row[0].task
                if _foreseeable(first):
                    found[other] = first
                if len(found) == FORESEEN:
                    break
        return found if len(found) > 1 else {}

    def _foresee(self, together: Mapping[str, Foreseeable], now: float) -> None:
        """Works out what packets of several cameras say, which their turns then find done. No packet is taken: turns,
        bounds and what becomes of each packet are as they would be without."""
        asked = []
        for camera, task in together.items():
            end = self._ends[camera]
            with self._locks[camera], suppress(Exception):  # its own turn will say so
                request = end.foresee(task, now)
                if request is not None:
                    asked.append((camera, request))
        codec = self._ends[next(iter(together))].codec
        if codec is not None and asked:
            with suppress(Exception):
                found = codec.readings([request for _, request in asked])
                for (camera, _), detections in zip(asked, found, strict=True):
                    with self._locks[camera]:
                        self._ends[camera].foretold(detections)
        self._foreseen.update(list(together.items())[1:])

    def _task(self, camera: str, task: Task, now: float) -> None:
        end = self._ends[camera]
        with self._locks[camera]:
            before = end.counters["blocks"]
            if isinstance(task, StreamInfo):
                outputs = end.describe(task, now)
            elif isinstance(task, bytes):
                outputs = end.datagram(task, now)
            elif isinstance(task[0], Block):
                outputs = end.block(task[0], task[1], now)
            else:
                outputs = end.stored(task[0], task[1], now)
            came = end.counters["blocks"] - before
            due = bool(came) and self._pictures() and camera not in self._due and end.newest_work() is not None
        changed = [output for output in outputs if output.changed]
        with self._lock:
            self._figures.blocks += came
            self._figures.readings += len(changed)
        for output in changed:
            self._on_reading(camera, output)
        wanted = outputs[-1] if outputs and self._pictures() and self._wants(end, outputs[-1]) else None
        if due or wanted is not None:
            with self._lock:
                state = self._due.setdefault(camera, _Due(now))
                if wanted is not None:
                    self.counters["pictures_skipped"] += state.output is not None
                    state.output = wanted

    # -- pictures -----------------------------------------------------------------------------------------------------

    def next_picture(self) -> float | None:
        """When the next batch is to be begun (seconds of the clock, maybe past), None while no picture is wanted."""
        with self._lock:
            if not self._due:
                return None
            first = min(state.since for state in self._due.values())
            described = sum(end.info is not None for end in self._ends.values())
            alone = len(self._due) >= min(described, self._most(next(iter(self._due))))
            return first if alone else first + self.limits.company

    def _most(self, camera: str) -> int:
        return self.limits.together or (TOGETHER if self._ends[camera].batches else ONE_BY_ONE)

    def paint(self) -> int:
        """Decodes and paints the pictures that are wanted, of one model and as many as go together; how many cameras
        had a part in it."""
        began, paused, between = self._timer(), 0.0, self.between

        def pause() -> None:
            nonlocal paused
            since = self._timer()
            between()
            paused += self._timer() - since

        spent = Spent(between=pause, timer=self._timer)
        jobs = self._take_jobs()
        if not jobs:
            return 0
        codec = self._ends[jobs[0].camera].codec
        ready = self._decode(codec, jobs, spent)
        painted = self._paint(codec, ready, spent)
        with self._lock:
            figures = self._figures
            figures.batches += 1
            figures.batched += len(jobs)
            figures.pictures += painted
            figures.device += spent.device
            figures.entropy += spent.entropy
            figures.host += self._timer() - began - paused - spent.device - spent.entropy
        return len(jobs)

    def _take_jobs(self) -> list[_Job]:
        """What is due, longest waiting first, of the model of the first."""
        with self._lock:
            order = list(self._due)
            if not order:
                return []
            codec, most = self._ends[order[0]].codec, self._most(order[0])
            order = [camera for camera in order if self._ends[camera].codec is codec][:most]
            due = {camera: self._due.pop(camera) for camera in order}
        jobs = []
        for camera, state in due.items():
            with self._locks[camera]:
                end = self._ends[camera]
                found = end.newest_work() if end.codec is codec else None
            if found is not None:
                jobs.append(_Job(camera, found[0], found[1], None))
            elif state.output is not None:
                jobs.append(_Job(camera, state.output.reading.frame, None, state.output))
        return jobs

    def _decode(self, codec: Any, jobs: Sequence[_Job], spent: Spent) -> list[tuple[str, Output, PictureRequest]]:
        """Decodes the picture blocks of a batch; whose pictures are wanted now, and what they are made of."""
        works = [job.work for job in jobs if job.work is not None]
        found = iter(self._each(codec, works, lambda some: codec.decode_pictures(some, spent)))
        ready = []
        for job in jobs:
            result: PicturesFound | None = next(found) if job.work is not None else None
            end, output = self._ends[job.camera], job.output
            with self._locks[job.camera]:
                if job.work is not None and result is not None:
                    output = end.take_pictures(job.frame, job.work, result)
                    if end.newest_work() is not None:  # more came meanwhile
                        with self._lock:
                            self._due.setdefault(job.camera, _Due(self._clock.now()))
                if output is None or not self._wants(end, output):
                    continue
                request = end.picture_request(output.reading.frame)
            if request is not None:
                ready.append((job.camera, output, request))
        return ready

    def _paint(self, codec: Any, ready: Sequence[tuple[str, Output, PictureRequest]], spent: Spent) -> int:
        size = len(ready) if codec is not None and codec.batches else 1
        painted = 0
        for start in range(0, len(ready), max(1, size)):
            some = ready[start : start + size]
            if spent.between is not None:
                spent.between()
            made = self._each(codec, [request for _, _, request in some], lambda own: codec.pictures(own, spent))
            for (camera, output, _), rgb in zip(some, made, strict=True):
                if rgb is not None:
                    painted += 1
                    self._ends[camera].counters["pictures"] += 1
                    self._on_picture(camera, rgb, output)
        return painted

    def _each(self, codec: Any, items: Sequence[Any], work: Callable[[Sequence[Any]], list[Any]]) -> list[Any | None]:
        """What `work` gives for the items together. Where that fails: for each half, if there was no memory for all; on
        the CPU if the device was lost; else for each on its own, None for those at fault."""
        if not items:
            return []
        too_many = False
        try:
            return list(work(items))
        except (PacketError, ValueError):
            pass
        except Exception as error:
            too_many = type(error).__name__ == "OutOfMemoryError" and len(items) > 1
            if not too_many and self._retreat(codec, error):
                return self._each(codec, items, work)
        if too_many:  # out of the handler, whose traceback holds what the device had to hold
            half = len(items) // 2
            return [*self._each(codec, items[:half], work), *self._each(codec, items[half:], work)]
        found: list[Any | None] = []
        for item in items:
            try:
                found += work([item])
            except Exception as error:  # one frame must not cost another camera its picture
                self.failed(error)
                found.append(None)
        return found

    def _retreat(self, codec: Any, error: Exception) -> bool:
        """Whether the model's device was given up now, for the CPU."""
        device = codec.device
        if not codec.retreat():
            return False
        self.counters["device_lost"] += 1
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        self._report("device_lost", f"device {device} of model {codec.name} is lost, goes on on the CPU: {first}")
        return True
