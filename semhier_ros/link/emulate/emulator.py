"""A thin link on one machine: a UDP relay that delays, paces, loses and counts. No root, no Zenoh, no ROS.

Whoever connects to the listening port talks to the forward port as if over the link; every client gets its own socket
towards it, and all clients share the two directions (`up`: towards the forward port, `down`: back). Rate, queue and
loss count IP bytes: 28 are added to each datagram's payload.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import selectors
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from semhier_ros.link.emulate.direction import DirectionCounters, LinkDirection
from semhier_ros.link.emulate.profile import LinkProfile, parse_link
from semhier_ros.whole_file import write_whole

__all__ = ["DirectionCounters", "LinkDirection", "LinkEmulator", "LinkProfile", "parse_link"]

IP_UDP_HEADERS = 28
_MAX_CLIENTS = 256
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@ll")
_ANCILLARY_BYTES = socket.CMSG_SPACE(_TIMESPEC.size)
_LATEST_SECONDS = 1.0
_LOG_LIMIT = 2_000_000
_MAX_PENDING = 100_000


class LinkEmulator:
    """The relay, running in a thread between `start()` and `stop()`, or as a context manager.

    `up`, `down`: profiles of the two directions (`down` None: the same as `up`, with random numbers of its own).
    `listen_port`: 0 picks a free one (then see `.listen_port`). `forward_port`: where datagrams go. Both on `host`.
    `keep_log`: keeps an entry for each datagram, at most two million, for `write_json`.
    Raises OSError when the listening port is taken, ValueError for ports outside 0 to 65535.
    """

    def __init__(
        self,
        up: LinkProfile,
        down: LinkProfile | None = None,
        *,
        forward_port: int,
        listen_port: int = 0,
        host: str = "127.0.0.1",
        keep_log: bool = False,
    ) -> None:
        if not 0 <= listen_port <= 65_535:
            raise ValueError(f"listen_port must be 0 to 65535, not {listen_port}")
        if not 1 <= forward_port <= 65_535:
            raise ValueError(f"forward_port must be 1 to 65535, not {forward_port}")
        self._up = LinkDirection("up", up)
        self._down = LinkDirection("down", up if down is None else down)
        self._forward = (host, forward_port)
        self._listen = _socket()
        try:
            self._listen.bind((host, listen_port))
        except OSError as error:
            self._listen.close()
            raise OSError(error.errno, f"cannot listen on udp {host}:{listen_port}: {error.strerror}") from error
        self.listen_port: int = self._listen.getsockname()[1]
        self.forward_port = forward_port
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listen, selectors.EVENT_READ, None)
        self._clients: dict[tuple[str, int], socket.socket] = {}
        self._pending: list[tuple[float, int, int, socket.socket, tuple[str, int], bytes, LinkDirection]] = []
        self._order = 0
        self._lock = threading.Lock()
        self._log: list[list[Any]] | None = [] if keep_log else None
        self._errors: Counter[str] = Counter()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._started = 0.0

    # -- for users ----------------------------------------------------------------------------------------------------

    @property
    def up(self) -> DirectionCounters:
        """A copy of the counters towards the forward port."""
        with self._lock:
            return replace(self._up.counters)

    @property
    def down(self) -> DirectionCounters:
        """A copy of the counters back to the clients."""
        with self._lock:
            return replace(self._down.counters)

    @property
    def elapsed(self) -> float:
        """Seconds since `start`."""
        return time.monotonic() - self._started if self._started else 0.0

    def set_profile(self, up: LinkProfile | None = None, down: LinkProfile | None = None) -> None:
        """Changes a direction from now on (None leaves it): steps of rate, loss, outages. Random numbers go on as they
        were.
        """
        with self._lock:
            if up is not None:
                self._up.profile = up
            if down is not None:
                self._down.profile = down

    def outage(self, seconds: float) -> None:
        """Lets nothing pass, in both directions, for `seconds` from now."""
        now = self.elapsed
        with self._lock:
            for direction in (self._up, self._down):
                outages = (*direction.profile.outages, (now, now + seconds))
                direction.profile = replace(direction.profile, outages=outages)

    def rewind(self) -> None:
        """Begins a run: outages, steps and traces count from now, and random numbers begin anew. For runs whose
        processes needed time to start, and sent more or fewer datagrams while they met. Times of what was logged before
        become negative."""
        with self._lock:
            gone, self._started = self.elapsed, time.monotonic()
            for entry in self._log or ():
                entry[1] = round(entry[1] - gone, 6)
                entry[2] = None if entry[2] is None else round(entry[2] - gone, 6)
            for direction in (self._up, self._down):
                direction.begin_anew()

    def start(self) -> LinkEmulator:
        """Starts relaying."""
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="semhier-link-emulator", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Ends relaying and closes the sockets; a second call does nothing."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)
            self._thread = None
        for owned in (self._listen, *self._clients.values()):
            owned.close()
        self._selector.close()

    def __enter__(self) -> LinkEmulator:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def report(self) -> dict[str, Any]:
        """Counters and profiles of both directions, as JSON knows them."""
        result: dict[str, Any] = {"seconds": round(self.elapsed, 3), "errors": dict(self._errors)}
        with self._lock:
            for direction in (self._up, self._down):
                result[direction.name] = {"profile": asdict(direction.profile), **asdict(direction.counters)}
        return result

    @property
    def log(self) -> list[list[Any]]:
        """Per datagram [direction, seconds in, seconds out or None when lost, IP bytes, cause or ""], oldest first."""
        with self._lock:
            return [list(entry) for entry in self._log or []]

    def write_json(self, path: str | Path) -> None:
        """Writes `report()` and, if kept, the log (`datagrams`, columns in `columns`)."""
        result = self.report()
        if self._log is not None:
            result["columns"] = ["direction", "seconds_in", "seconds_out", "ip_bytes", "cause"]
            result["datagrams"] = self.log
        write_whole(Path(path), json.dumps(result) + "\n")

    # -- inside -------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            wait = 0.05
            if self._pending:
                wait = min(wait, max(0.0, self._pending[0][0] - time.monotonic()))
            for key, _ in self._selector.select(wait):
                self._read(key.fileobj, key.data)
            self._deliver(time.monotonic())

    def _read(self, source: Any, client: tuple[str, int] | None) -> None:
        for _ in range(64):
            try:
                data, ancillary, _, address = source.recvmsg(65_536, _ANCILLARY_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                self._errors[f"receive: {error.strerror}"] += 1
                return
            now = _sent_at(ancillary)
            if client is None:
                target = self._client(address)
                if target is not None:
                    self._relay(self._up, target, self._forward, data, now)
            else:
                self._relay(self._down, self._listen, client, data, now)

    def _client(self, address: tuple[str, int]) -> socket.socket | None:
        known = self._clients.get(address)
        if known is None:
            if len(self._clients) >= _MAX_CLIENTS:
                self._errors["too many clients"] += 1
                return None
            known = self._clients[address] = _socket()
            known.bind((self._forward[0], 0))
            self._selector.register(known, selectors.EVENT_READ, address)
        return known

    def _relay(
        self, direction: LinkDirection, via: socket.socket, to: tuple[str, int], data: bytes, now: float
    ) -> None:
        size = len(data) + IP_UDP_HEADERS
        if len(self._pending) >= _MAX_PENDING:
            self._errors["too many datagrams on the way"] += 1
            return
        with self._lock:
            arrivals, cause = direction.pass_through(size, now, self._started)
            if self._log is not None and len(self._log) < _LOG_LIMIT:
                out = round(arrivals[0] - self._started, 6) if arrivals else None
                self._log.append([direction.name, round(now - self._started, 6), out, size, cause])
        for arrival in arrivals:
            self._order += 1
            heapq.heappush(self._pending, (arrival, self._order, size, via, to, data, direction))

    def _deliver(self, now: float) -> None:
        while self._pending and self._pending[0][0] <= now:
            _, _, size, via, to, data, direction = heapq.heappop(self._pending)
            try:
                via.sendto(data, to)
            except OSError as error:
                self._errors[f"send: {error.strerror}"] += 1
                continue
            with self._lock:
                direction.counters.delivered += 1
                direction.counters.delivered_bytes += size


def _sent_at(ancillary: list[tuple[int, int, bytes]]) -> float:
    """When a datagram came to this machine's network stack, on the monotonic clock: the kernel's own note where
    there is one, so that a relay that was late to look neither delays what passes nor makes it look like a burst."""
    now = time.monotonic()
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(data) == _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack(data)
            return now - min(max(time.time() - seconds - nanoseconds * 1e-9, 0.0), _LATEST_SECONDS)
    return now


def _socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    with contextlib.suppress(OSError):
        made.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    made.setblocking(False)
    return made
