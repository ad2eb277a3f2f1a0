"""What carries compact frames: a UDP socket, a serial line. One thread each reads; writing never waits."""

from __future__ import annotations

import contextlib
import io
import os
import re
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from semhier_ros.codec.compact import MAX_FRAME_BYTES
from semhier_ros.link.clock import MACHINE, Clock
from semhier_ros.link.radio.framing import Framing, framing
from semhier_ros.link.transport import LinkDependencyError

OnFrame = Callable[[bytes], bool]
"""Called from the port's thread with every frame that came, whatever it holds; says whether its proof held."""

RETRY_SECONDS = 0.5
_ADDRESS = re.compile(r"^(\[[0-9A-Fa-f:%.\w]+\]|[^:\s/\[\]]+):(\d{1,5})$")
_MOST_WAITING = 65_536
_READ_SECONDS = 0.2
_KEEP_SECONDS = 300.0
_NO_TIMEOUT = "rfc2217:"
"""What pyserial refuses a time for writing."""
PROVED_SECONDS = 30.0
"""Where a frame was proved that came from elsewhere, an end without a peer answers nobody else for so long."""
FAULT_SECONDS = 30.0
"""What a thread ran into is told for so long."""


class Faults:
    """Exceptions that a thread of a link survives: how many there were (`count`), and the newest as `trouble`."""

    def __init__(self, clock: Clock = MACHINE) -> None:
        self._clock, self._told, self._at = clock, "", float("-inf")
        self.count = 0

    def survived(self, error: Exception) -> None:
        """Takes note of an exception that ended one round of a thread, and not the thread."""
        self.count += 1
        self._told, self._at = f"{type(error).__name__}: {' '.join(str(error).split())}", self._clock.now()

    @property
    def trouble(self) -> str:
        """The newest in a line, for 30 s; empty while nothing is wrong."""
        if self._clock.now() - self._at > FAULT_SECONDS:
            return ""
        return f"the link goes on after {self._told} ({self.count} so far); please report it with the log"

    @property
    def counters(self) -> dict[str, int]:
        """`errors`, where there were any."""
        return {"errors": self.count} if self.count else {}


def summed(*counters: Mapping[str, int]) -> Mapping[str, int]:
    """Counters of an end and of its port as one: what both count is added."""
    found: Counter[str] = Counter()
    for one in counters:
        found.update(one)
    return found


class Port(Protocol):
    """One end of a link. `send` hands over a frame without waiting, False when it was dropped; `is_open`, `trouble` (a
    line, empty when nothing is wrong), `counters`; `close` may be called twice."""

    @property
    def is_open(self) -> bool: ...
    @property
    def trouble(self) -> str: ...
    @property
    def counters(self) -> Mapping[str, int]: ...
    def send(self, frame: bytes) -> bool: ...
    def close(self) -> None: ...


OpenPort = Callable[[OnFrame], Port]
"""Makes a port that begins to read."""


def address(field_name: str, text: str, *, empty: bool = False) -> tuple[str, int] | None:
    """`host:port` as (host, port); None for an empty text where it may be. Raises ValueError naming the field."""
    if not text and empty:
        return None
    found = _ADDRESS.match(text)
    if found is None or not 1 <= int(found[2]) <= 65_535:
        raise ValueError(f"{field_name}: {text!r}, expected host:port with a port of 1 to 65535, as 10.0.0.2:7450")
    return found[1].strip("[]"), int(found[2])


@dataclass(frozen=True, slots=True)
class UdpOptions:
    """`listen`: `host:port` to receive at. `peer`: `host:port` of the other end; empty at an end that answers whoever
    spoke last and proved it. One of them at least."""

    listen: str = ""
    peer: str = ""

    def __post_init__(self) -> None:
        address("listen", self.listen, empty=True)
        address("peer", self.peer, empty=True)
        if not self.listen and not self.peer:
            raise ValueError("listen or peer must be given as host:port, both are empty")


class UdpPort:
    """Plain datagrams, a frame in each. Without a `peer` it answers where the newest frame came from whose proof held
    (`on_frame` says so), so that a stray datagram turns no answer away; where none came in the last 30 s, where the
    newest datagram came from, so that an end that has to speak first finds one that it heard of."""

    def __init__(self, options: UdpOptions, on_frame: OnFrame) -> None:
        self._options, self._on_frame = options, on_frame
        self._socket: socket.socket | None = None
        self._peer: Any = None
        self._proved = float("-inf")
        self._trouble = ""
        self._faults = Faults()
        self._counts: Counter[str] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="semhier-udp", daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    @property
    def trouble(self) -> str:
        return self._trouble or self._faults.trouble

    @property
    def counters(self) -> Mapping[str, int]:
        return {**self._counts, **self._faults.counters}

    def send(self, frame: bytes) -> bool:
        """Sends a datagram; False while there is nobody to send to."""
        owned, peer = self._socket, self._peer
        if owned is None or peer is None:
            self._counts["unsent"] += 1
            return False
        try:
            owned.sendto(frame, peer)
        except OSError:
            self._counts["unsent"] += 1
            return False
        self._counts["frames_sent"] += 1
        return True

    def close(self) -> None:
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=2.0)

    def _open(self) -> socket.socket:
        listen, peer = (
            address("listen", self._options.listen, empty=True),
            address("peer", self._options.peer, empty=True),
        )
        host, port = listen or peer or ("", 0)
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        owned = socket.socket(family, socket.SOCK_DGRAM)
        try:
            owned.setblocking(False)
            if listen is not None:
                owned.bind(where)
            else:
                owned.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 0))
            if peer is not None:
                self._peer = socket.getaddrinfo(*peer, family=family, type=socket.SOCK_DGRAM)[0][4]
        except OSError:
            owned.close()
            raise
        return owned

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                owned = self._socket = self._open()
                self._trouble = ""
            except OSError as error:
                self._trouble = (
                    f"udp cannot open (listen {self._options.listen or 'nowhere'}, peer"
                    f" {self._options.peer or 'unknown'}): {error.strerror or error}"
                )
                self._stop.wait(RETRY_SECONDS)
                continue
            self._read(owned)
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _read(self, owned: socket.socket) -> None:
        while not self._stop.is_set():
            if not select.select([owned], [], [], _READ_SECONDS)[0]:
                continue
            try:
                data, source = owned.recvfrom(MAX_FRAME_BYTES + 1)
            except OSError:  # an ICMP answer to what was sent: nobody is there yet
                continue
            now = time.monotonic()
            if not self._options.peer and now - self._proved > PROVED_SECONDS:
                self._peer = source  # before the frame is read: its answer may leave at once
            self._counts["frames_came"] += 1
            try:
                proved = self._on_frame(data)
            except Exception as error:  # whatever a frame does to its reader, the next one is read
                self._faults.survived(error)
                continue
            if proved and not self._options.peer:
                self._peer, self._proved = source, now


@dataclass(frozen=True, slots=True)
class SerialOptions:
    """`device`: a serial port, or a URL of pyserial (`socket://…`). `baud`: 300 to 4,000,000. `framing`: cobs, kiss or
    meshtastic. Raises ValueError naming the field."""

    device: str
    baud: int = 57_600
    framing: str = "cobs"

    def __post_init__(self) -> None:
        if not self.device:
            raise ValueError("device: empty, expected a serial port such as /dev/ttyUSB0")
        if not 300 <= self.baud <= 4_000_000:
            raise ValueError(f"baud: {self.baud}, expected 300 to 4000000")
        framing(self.framing)


def device_trouble(device: str) -> str:
    """Why a serial port cannot be opened now, as far as that is seen without opening it, in a line; empty where it can,
    and for a URL of pyserial."""
    if "://" in device or os.access(device, os.R_OK | os.W_OK):
        return ""
    wrong = "may not be read and written by this user" if Path(device).exists() else "there is no such device"
    return f"serial {device}: {wrong}; it is tried again and again"


def serial_module() -> Any:
    """pyserial; LinkDependencyError saying what to install where it is missing."""
    try:
        import serial
    except ImportError as error:
        raise LinkDependencyError(
            "the serial transport needs the Python package pyserial: pip install pyserial"
        ) from error
    return serial


class SerialPort:
    """Frames over a serial line. The device is opened again for ever: it may be plugged out and in.

    `frames`: another framing than the options'. What the line has not taken yet waits in its own buffer, 64 KiB at
    most, and the rest of a frame of which it took a part waits here; a frame that does not fit is dropped whole and
    counted.
    """

    def __init__(self, options: SerialOptions, on_frame: OnFrame, frames: Framing | None = None) -> None:
        self._serial = serial_module()
        self._options, self._on_frame = options, on_frame
        self._framing: Framing = frames or framing(options.framing)
        self._line: Any = None
        self._rest = b""
        self._lock = threading.Lock()
        self._trouble = ""
        self._faults = Faults()
        self._counts: Counter[str] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="semhier-serial", daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        return self._line is not None

    @property
    def trouble(self) -> str:
        return self._trouble or self._faults.trouble

    @property
    def counters(self) -> Mapping[str, int]:
        return {**self._counts, **self._faults.counters, "bytes_skipped": self._framing.skipped}

    def send(self, frame: bytes) -> bool:
        """Writes a frame into the line's buffer; False while the device is away or its buffer is full."""
        data = self._framing.wrap(frame)
        with self._lock:
            line = self._line
            if line is None:
                self._counts["unsent"] += 1
                return False
            try:
                if not self._put(line, data):
                    self._counts["unsent"] += 1
                    return False
            except Exception as error:  # pyserial and the system have many words for a device that went away
                self._lost(error)
                return False
        self._counts["frames_sent"] += 1
        self._counts["bytes_sent"] += len(data)
        return True

    def close(self) -> None:
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=2.0)

    def _put(self, line: Any, data: bytes) -> bool:
        """Gives `data` to the line, whose rest goes before the next; False where there is no place for it now."""
        if not self._flush(line) or getattr(line, "out_waiting", 0) + len(data) > _MOST_WAITING:
            return False  # lines of a network do not say what waits
        written = self._write(line, data)
        self._rest = data[written:] if written else b""
        return written > 0

    def _flush(self, line: Any) -> bool:
        """Gives the line what waits here, as far as it takes it; whether nothing waits any more."""
        if self._rest:
            self._rest = self._rest[self._write(line, self._rest) :]
        return not self._rest

    @staticmethod
    def _write(line: Any, data: bytes) -> int:
        """How many bytes the line took now. Asked first, since pyserial tries a full one again and again."""
        try:
            takes = bool(select.select([], [line.fileno()], [], 0.0)[1])
        except io.UnsupportedOperation:  # a line in this process
            takes = True
        return int(line.write(data)) if takes else 0

    def _lost(self, error: Exception) -> None:
        self._trouble = f"serial {self._options.device}: {' '.join(str(error).split())}; it is tried again and again"
        line, self._line, self._rest = self._line, None, b""
        if line is not None:
            self._counts["losses"] += 1
            with contextlib.suppress(Exception):
                line.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                line = self._serial.serial_for_url(
                    self._options.device,
                    baudrate=self._options.baud,
                    timeout=_READ_SECONDS,
                    write_timeout=None if self._options.device.lower().startswith(_NO_TIMEOUT) else 0,
                )
            except Exception as error:
                self._lost(error)
                self._stop.wait(RETRY_SECONDS)
                continue
            with self._lock:
                self._line, self._trouble = line, ""
            self._counts["openings"] += 1
            self._read(line)
        with self._lock:
            line, self._line = self._line, None
        if line is not None:
            with contextlib.suppress(Exception):
                line.close()

    def _read(self, line: Any) -> None:
        told, due = self._framing.opening, 0.0
        while not self._stop.is_set() and self._line is line:
            try:
                with self._lock:
                    self._flush(line)
                    if told and time.monotonic() >= due and self._put(line, told):
                        told, due = self._framing.keeping, time.monotonic() + _KEEP_SECONDS
                data = line.read(max(1, min(line.in_waiting, 4096)))
            except Exception as error:
                with self._lock:
                    if self._line is line:
                        self._lost(error)
                return
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        """Hands on the frames that further bytes complete."""
        try:
            frames = self._framing.feed(data) if data else []
        except Exception as error:  # whatever bytes do to their reader, the next ones are read
            self._faults.survived(error)
            return
        for frame in frames:
            self._counts["frames_came"] += 1
            try:
                self._on_frame(frame)
            except Exception as error:
                self._faults.survived(error)


def udp_port(options: UdpOptions) -> OpenPort:
    """Makes the UDP port of an end."""
    return lambda on_frame: UdpPort(options, on_frame)


def serial_port(options: SerialOptions) -> OpenPort:
    """Makes the serial port of an end; raises LinkDependencyError at once where pyserial is missing."""
    serial_module()
    return lambda on_frame: SerialPort(options, on_frame)
