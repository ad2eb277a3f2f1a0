"""Lets datagrams leave when the scheduler says so: in a thread of its own, or step by step in the caller's time."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from semhier_ros.link.clock import MACHINE, Bell, Clock, ManualClock
from semhier_ros.link.schedule.scheduler import BlockLike, Scheduler
from semhier_ros.link.schedule.status import SchedulerStatus
from semhier_ros.link.transport import Transport


class Pacer:
    """Owns a scheduler and a transport: `submit` from any thread returns at once, one thread paces and sends.

    `threaded` False makes no thread (`SteppedPacer`). Exceptions of the transport are counted in `errors`, never
    raised. `close` ends the thread and leaves the transport open (its owner closes it).
    """

    def __init__(
        self, scheduler: Scheduler, transport: Transport, *, clock: Clock = MACHINE, threaded: bool = True
    ) -> None:
        self._scheduler = scheduler
        self._transport = transport
        self._clock = clock
        self._lock = threading.RLock()
        self._bell: Bell = clock.bell()
        self._closed = False
        self.errors = 0
        self.last_error = ""
        self._thread: threading.Thread | None = None
        if threaded:
            self._thread = threading.Thread(target=self._run, name="semhier-pacer", daemon=True)
            self._thread.start()

    def submit(
        self, camera: str, frame: int, stamp_ns: int, blocks: Sequence[BlockLike], *, asked: bool = False
    ) -> int:
        """Queues a frame's blocks (`Scheduler.submit`); returns how many were taken, 0 after `close`."""
        with self._lock:
            if self._closed:
                return 0
            taken = self._scheduler.submit(camera, frame, stamp_ns, blocks, self._clock.now(), asked=asked)
        self._bell.ring()
        return taken

    def set_rate(self, rate: float | None) -> None:
        """Changes the budget at once (wire bytes per second, None or 0 for unlimited)."""
        with self._lock:
            self._scheduler.set_rate(rate, self._clock.now())
        self._bell.ring()

    def set_repair(self, repeats: int, gap: float, names: bool = True) -> None:
        """`Scheduler.set_repair`: further copies of coarse blocks, the seconds between them, and whether names ride in
        the first."""
        with self._lock:
            self._scheduler.set_repair(repeats, gap, names)

    def set_finest(self, camera: str, index: int | None, seconds: float | None = None) -> None:
        """Sends only blocks 0 to `index` of `camera`, for `seconds` from now or, with None, until changed."""
        with self._lock:
            until = None if seconds is None else self._clock.now() + seconds
            self._scheduler.set_finest(camera, index, until)
        self._bell.ring()

    def hold(self, until: float, charge: int = 0) -> None:
        """Lets nothing leave before `until`; `charge`: wire bytes that left besides datagrams (`Scheduler.hold`)."""
        with self._lock:
            self._scheduler.hold(until)
            if charge:
                self._scheduler.charge(charge, self._clock.now())
        self._bell.ring()

    def charge(self, wire_bytes: int) -> None:
        """Takes from the budget what left besides datagrams (`Scheduler.charge`)."""
        with self._lock:
            self._scheduler.charge(wire_bytes, self._clock.now())
        self._bell.ring()

    def set_weight(self, camera: str, weight: float) -> None:
        """The share of `camera` among the cameras (0.001 to 1000)."""
        with self._lock:
            self._scheduler.set_weight(camera, weight)

    def finest(self, camera: str) -> int:
        """The finest block index wanted of `camera` now."""
        with self._lock:
            return self._scheduler.finest(camera, self._clock.now())

    def status(self, camera: str | None = None) -> SchedulerStatus:
        """`Scheduler.status` now."""
        with self._lock:
            return self._scheduler.status(self._clock.now(), camera)

    def flush(self, timeout: float) -> bool:
        """Waits until nothing is left to send, at most `timeout` seconds; whether that was reached."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            with self._lock:
                if not any(units for units, _ in self._scheduler.memory().values()):
                    return True
            time.sleep(0.005)
        return False

    def close(self) -> None:
        """Stops sending; what waits is forgotten. A second call does nothing."""
        self._closed = True
        self._bell.ring()
        if self._thread is not None and threading.current_thread() is not self._thread:
            self._thread.join(timeout=5.0)

    def __enter__(self) -> Pacer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def step(self) -> float | None:
        """Sends everything that may leave now; when to call again (None: once something was submitted or changed)."""
        while not self._closed:
            with self._lock:
                now = self._clock.now()
                datagram = self._scheduler.pop(now)
                if datagram is None:
                    return self._scheduler.next_departure(now)
            try:
                self._transport.send(datagram)
            except Exception as error:  # a transport's fault must not end the pacing
                self.errors += 1
                self.last_error = f"{type(error).__name__}: {error}"
            with self._lock:  # a busy machine may have held it up, and what comes next must not make up for that
                self._scheduler.left(datagram, self._clock.now())
        return None

    def _run(self) -> None:
        while not self._closed:
            self._bell.wait_until(self.step())


class SteppedPacer(Pacer):
    """A pacer without a thread, for a `ManualClock`: the caller calls `advance` at every time that `due` names."""

    def __init__(self, scheduler: Scheduler, transport: Transport, clock: ManualClock) -> None:
        super().__init__(scheduler, transport, clock=clock, threaded=False)
        self._manual = clock.bell()
        self._bell = self._manual
        self._due: float | None = None

    @property
    def due(self) -> float | None:
        """When to call `advance` next, None while nothing waits."""
        return self._clock.now() if self._manual.rung else self._due

    def advance(self) -> None:
        """Does what the thread would do now: nothing, unless something changed or is due."""
        if self._manual.rung or (self._due is not None and self._due <= self._clock.now()):
            self._manual.rung = False
            self._due = self.step()
