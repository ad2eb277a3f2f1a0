"""The emulated link between two network namespaces, for whole stacks (Fast DDS and all): every IP packet, not only UDP.

Needs root, `ip` and /dev/net/tun; `namespaces_missing()` says what is not there. Each end is a TUN device in a
namespace of its own; the same `LinkDirection` as in `LinkEmulator` decides what becomes of every packet.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import os
import selectors
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from semhier_ros.link.emulate.direction import DirectionCounters, LinkDirection
from semhier_ros.link.emulate.profile import LinkProfile

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_MAX_PENDING = 20_000
_SUBNET = "10.213.97"


def namespaces_missing() -> str:
    """Why two namespaces cannot be linked here; "" when they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not Path("/dev/net/tun").exists():
        return "/dev/net/tun is missing"
    if shutil.which("ip") is None:
        return "the command ip (iproute2) is missing"
    name = f"semhier-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return f"no network namespace can be made here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
    return ""


class NamespaceLink:
    """Two namespaces and the link between them; a context manager.

    `up`: from the first namespace to the second; `down`: back (None: as `up`). `names`: of the namespaces, which must
    not exist. `addresses`: of the two ends. Raises OSError when devices or namespaces cannot be made.
    """

    def __init__(
        self, up: LinkProfile, down: LinkProfile | None = None, names: tuple[str, str] | None = None, mtu: int = 1500
    ) -> None:
        self.names = names or (f"semhier-a-{os.getpid()}", f"semhier-b-{os.getpid()}")
        self.addresses = (f"{_SUBNET}.1", f"{_SUBNET}.2")
        self._mtu = mtu
        self._ways = (LinkDirection("up", up), LinkDirection("down", up if down is None else down))
        self._devices: list[int] = []
        self._pending: list[tuple[float, int, int, bytes]] = []
        self._order = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def up(self) -> DirectionCounters:
        """A copy of the counters from the first namespace to the second."""
        with self._lock:
            return replace(self._ways[0].counters)

    @property
    def down(self) -> DirectionCounters:
        """A copy of the counters back."""
        with self._lock:
            return replace(self._ways[1].counters)

    def command(self, end: int, arguments: Sequence[str]) -> list[str]:
        """The command line that runs `arguments` in namespace 0 or 1."""
        return ["ip", "netns", "exec", self.names[end], *arguments]

    def start(self) -> NamespaceLink:
        """Makes namespaces and devices and starts relaying."""
        try:
            for end, name in enumerate(self.names):
                self._make(end, name)
        except OSError:
            self.stop()
            raise
        self._thread = threading.Thread(target=self._run, name="semhier-namespace-link", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Ends relaying and removes everything; a second call does nothing."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)
            self._thread = None
        while self._devices:
            os.close(self._devices.pop())
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def __enter__(self) -> NamespaceLink:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _make(self, end: int, name: str) -> None:
        device = f"sh{os.getpid() % 100_000}{'ab'[end]}"
        opened = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        self._devices.append(opened)
        fcntl.ioctl(opened, _TUNSETIFF, struct.pack("16sH", device.encode(), _IFF_TUN | _IFF_NO_PI))
        inside = ["-n", name]
        for arguments in (
            ["netns", "add", name],
            ["link", "set", device, "netns", name],
            [*inside, "link", "set", "lo", "up"],
            [*inside, "addr", "add", f"{self.addresses[end]}/24", "dev", device],
            [*inside, "link", "set", device, "mtu", str(self._mtu), "multicast", "on", "up"],
            [*inside, "route", "add", "224.0.0.0/4", "dev", device],
        ):
            done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")

    def _run(self) -> None:
        start = time.monotonic()
        with selectors.DefaultSelector() as selector:
            for end, device in enumerate(self._devices):
                selector.register(device, selectors.EVENT_READ, end)
            while not self._stop.is_set():
                wait = 0.05
                if self._pending:
                    wait = min(wait, max(0.0, self._pending[0][0] - time.monotonic()))
                for key, _ in selector.select(wait):
                    self._read(key.fd, key.data, start)
                self._deliver()

    def _read(self, device: int, end: int, start: float) -> None:
        for _ in range(64):
            try:
                packet = os.read(device, 65_536)
            except BlockingIOError:
                return
            except OSError:
                return
            if packet[0] >> 4 != 4 or len(self._pending) >= _MAX_PENDING:
                continue  # IPv6 chatter of the kernel is not part of the link
            with self._lock:
                arrivals, _ = self._ways[end].pass_through(len(packet), time.monotonic(), start)
            for arrival in arrivals:
                self._order += 1
                heapq.heappush(self._pending, (arrival, self._order, end, packet))

    def _deliver(self) -> None:
        now = time.monotonic()
        while self._pending and self._pending[0][0] <= now:
            _, _, end, packet = heapq.heappop(self._pending)
            with contextlib.suppress(OSError):
                os.write(self._devices[1 - end], packet)
            with self._lock:
                counters = self._ways[end].counters
                counters.delivered += 1
                counters.delivered_bytes += len(packet)
