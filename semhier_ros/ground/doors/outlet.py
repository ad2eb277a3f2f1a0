"""Wires out of the house: UDP (multicast too), TCP and files, none of which may ever hold up a reading.

`Outlet` takes messages in a bounded queue and sends them from a thread of its own; what does not fit or cannot leave is
counted. `Pace` says which objects are due.
"""

from __future__ import annotations

import contextlib
import ipaddress
import queue
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable
from pathlib import Path
from urllib.parse import urlsplit

from semhier_ros.ground.lens import GroundError

QUEUE = 256
RECONNECT_SECONDS, CONNECT_SECONDS = 3.0, 3.0
MULTICAST_HOPS = 1
LARGEST_DATAGRAM = 1400
MOST_PACED = 4096


def outlet_problem(target: str) -> str | None:
    """What is wrong with a target of `Outlet`, in words; None when it is one."""
    try:
        _parts(target)
    except GroundError as error:
        return str(error).partition(": ")[2]
    return None


def _parts(target: str) -> tuple[str, str, int]:
    """Scheme, host (or path) and port."""
    expected = f"target: {target!r}, expected udp://HOST:PORT, tcp://HOST:PORT or file:PATH"
    try:
        parts = urlsplit(target)
        port = parts.port
    except ValueError:
        raise GroundError(expected) from None
    if parts.scheme == "file" and parts.path and not parts.netloc:
        return "file", parts.path, 0
    if parts.scheme not in ("udp", "tcp") or not parts.hostname or not port or parts.path not in ("", "/"):
        raise GroundError(expected)
    return parts.scheme, parts.hostname, port


class Outlet:
    """Sends whole messages to `udp://HOST:PORT`, `tcp://HOST:PORT` or `file:PATH` (appended to).

    A TCP connection that is lost is made again every three seconds. `counters`: sent, dropped (the queue was full, or
    nobody listened), errors, too_large (for a datagram); `last_error`: the newest in words.

    Raises:
        GroundError: the target cannot be read.
    """

    def __init__(self, target: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.target = target
        self._scheme, self._host, self._port = _parts(target)
        self._clock = clock
        self.counters: Counter[str] = Counter()
        self.last_error = ""
        self._queue: queue.Queue[bytes | None] = queue.Queue(QUEUE)
        self._socket: socket.socket | None = None
        self._again = -float("inf")
        self._thread = threading.Thread(target=self._run, name=f"outlet {target}", daemon=True)
        self._thread.start()

    def put(self, message: bytes) -> None:
        """Leaves a message, without waiting."""
        try:
            self._queue.put_nowait(message)
        except queue.Full:
            self.counters["dropped"] += 1

    def close(self, seconds: float = 1.0) -> None:
        """Sends what waits, for at most so many seconds, and ends."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=seconds)
        self._thread.join(seconds)
        if self._socket is not None:
            self._socket.close()

    def _run(self) -> None:
        while True:
            message = self._queue.get()
            if message is None:
                return
            try:
                if self._send(message):
                    self.counters["sent"] += 1
                else:
                    self.counters["dropped"] += 1
            except OSError as error:
                self.counters["errors"] += 1
                self.last_error = f"{self.target}: {error}"
                self._forget()

    def _send(self, message: bytes) -> bool:
        if self._scheme == "file":
            with Path(self._host).open("ab") as file:
                file.write(message)
            return True
        if self._scheme == "udp" and len(message) > LARGEST_DATAGRAM:
            self.counters["too_large"] += 1
            return False
        if self._socket is None:
            if self._clock() < self._again:
                return False
            self._again = self._clock() + RECONNECT_SECONDS
            self._socket = self._open()
        self._socket.sendall(message)
        return True

    def _open(self) -> socket.socket:
        kind = socket.SOCK_DGRAM if self._scheme == "udp" else socket.SOCK_STREAM
        family, kind, protocol, _, address = socket.getaddrinfo(self._host, self._port, type=kind)[0]
        made = socket.socket(family, kind, protocol)
        try:
            made.settimeout(CONNECT_SECONDS)
            if kind == socket.SOCK_DGRAM and ipaddress.ip_address(str(address[0]).partition("%")[0]).is_multicast:
                level, option = (
                    (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS)
                    if family == socket.AF_INET6
                    else (socket.IPPROTO_IP, socket.IP_MULTICAST_TTL)
                )
                made.setsockopt(level, option, MULTICAST_HOPS)
            made.connect(address)
        except OSError:
            made.close()
            raise
        return made

    def _forget(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Pace:
    """Lets each object pass at most `rate` times a second (0: always)."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._period, self._clock = (1.0 / rate if rate > 0 else 0.0), clock
        self._due: dict[Hashable, float] = {}

    def due(self, key: Hashable) -> bool:
        """Whether the object may pass now; if so, its next time is a period later."""
        now = self._clock()
        if now < self._due.get(key, -float("inf")):
            return False
        if len(self._due) >= MOST_PACED:
            self._due = {known: when for known, when in self._due.items() if when > now}
            if len(self._due) >= MOST_PACED:
                self._due.clear()
        self._due[key] = now + self._period
        return True
