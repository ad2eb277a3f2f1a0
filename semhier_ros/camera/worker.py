"""The decoder's thread: bounded queues per camera in, readings and pictures out. No ROS in here.

Readings come first: a picture is made only when no packet waits, and then only the newest that is wanted of a camera.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semhier_ros.camera.decoder_end import CameraStream, Output, pictures_together
from semhier_ros.codec.packet import Block
from semhier_ros.codec.stream_info import StreamInfo

Task = StreamInfo | bytes | tuple[Block, int]
"""A stream's description, a packet of the Zenoh link, or a block with its stamp in ns."""


class DecodeWorker:
    """Owns the streams and their thread.

    `on_reading(camera, output)` and `on_picture(camera, rgb, output)` are called in that thread, as is
    `wants_picture(stream, output)`. What they raise goes to `on_error` and ends nothing. `queue`: packets per camera
    that may wait (>= 1); beyond it the oldest is dropped and counted in `counters` as overflow.
    """

    def __init__(
        self,
        streams: Mapping[str, CameraStream],
        queue: int,
        *,
        on_reading: Callable[[str, Output], None],
        on_picture: Callable[[str, NDArray[np.uint8], Output], None],
        wants_picture: Callable[[CameraStream, Output], bool],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._streams = dict(streams)
        self._on_reading, self._on_picture, self._wants = on_reading, on_picture, wants_picture
        self._on_error = on_error
        self._condition = threading.Condition()
        self._queue = queue
        self._waiting: dict[str, deque[Task]] = {camera: deque() for camera in self._streams}
        self._pictures: dict[str, Output] = {}
        self._closing = False
        self.counters: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, name="decode", daemon=True)
        self._thread.start()

    def put(self, camera: str, task: Task) -> None:
        """Queues a task, without waiting; a camera that is not decoded here is counted."""
        with self._condition:
            waiting = self._waiting.get(camera)
            if waiting is None:
                self.counters["other_camera"] += 1
                return
            if len(waiting) >= self._queue:
                self._drop_oldest(waiting)
            waiting.append(task)
            self._condition.notify()

    def _drop_oldest(self, waiting: deque[Task]) -> None:
        """Drops the oldest packet; descriptions are replaced by newer ones only."""
        self.counters["overflow"] += 1
        infos = [task for task in waiting if isinstance(task, StreamInfo)]
        others = [task for task in waiting if not isinstance(task, StreamInfo)]
        waiting.clear()
        waiting.extend([*infos[-1:], *others[1:]])

    def close(self) -> None:
        """Ends the thread after its current task; what waits is forgotten."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._thread.join()

    def _next(self) -> tuple[str, Task | None] | None:
        """(camera, task), or (camera, None) when its picture is due; None when the worker ends."""
        with self._condition:
            while not self._closing:
                ready = [camera for camera, waiting in self._waiting.items() if waiting]
                if ready:
                    camera = max(ready, key=lambda name: len(self._waiting[name]))
                    return camera, self._waiting[camera].popleft()
                if self._pictures:
                    return next(iter(self._pictures)), None
                self._condition.wait()
            return None

    def _run(self) -> None:
        while (work := self._next()) is not None:
            try:
                if work[1] is None:
                    self._picture(work[0])
                else:
                    self._task(work[0], work[1])
            except Exception as error:  # one packet must not end the node
                self.counters["errors"] += 1
                self._on_error(error)

    def _task(self, camera: str, task: Any) -> None:
        stream = self._streams[camera]
        if isinstance(task, StreamInfo):
            outputs = stream.describe(task)
        elif isinstance(task, bytes):
            outputs = stream.datagram(task)
        else:
            outputs = stream.block(*task)
        for output in outputs:
            self._on_reading(camera, output)
        if outputs and self._wants(stream, outputs[-1]):
            if camera in self._pictures:
                self.counters["pictures_skipped"] += 1
            self._pictures[camera] = outputs[-1]

    def _picture(self, camera: str) -> None:
        """Makes a camera's picture, and where the device makes several at once, all others of its codec too."""
        first = self._streams[camera]
        due = [camera]
        if first.batches:
            due += [name for name in self._pictures if name != camera and self._streams[name].codec is first.codec]
        outputs = [self._pictures.pop(name) for name in due]
        made = pictures_together([(self._streams[n], o.reading.frame) for n, o in zip(due, outputs, strict=True)])
        for name, output, rgb in zip(due, outputs, made, strict=True):
            if rgb is not None:
                self._on_picture(name, rgb, output)
