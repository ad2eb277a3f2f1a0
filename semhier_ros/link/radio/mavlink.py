"""Compact frames in MAVLink TUNNEL messages: beside an autopilot's own traffic, through whatever routes it.

Bytes are made and read by pymavlink (LGPL-3.0-or-later), which has to be installed besides. A frame is at most 128
bytes; a TUNNEL message adds 17 (header 10, four fields 5, checksum 2).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from semhier_ros.link.radio.ports import OnFrame, OpenPort, Port, SerialOptions, SerialPort, UdpOptions, UdpPort
from semhier_ros.link.transport import LinkDependencyError

PAYLOAD_TYPE = 0x8448
"""Of our TUNNEL messages, among the types that MAVLink leaves to local use (32768 and more)."""
TUNNEL_BYTES = 17
TUNNEL_FRAME = 128
"""The largest frame (bytes)."""


@dataclass(frozen=True, slots=True)
class MavlinkOptions:
    """How an end reaches its MAVLink network. `device`, `baud`: a serial line; or `listen`, `peer`: `host:port` of UDP.
    `system`, `component`: 1 to 255, of this end; `target_system`, `target_component`: of the other, 0 for all.
    `share`: bytes a second that this end may take of the link, TUNNEL's own included. Raises ValueError naming field,
    value and range."""

    device: str = ""
    baud: int = 57_600
    listen: str = ""
    peer: str = ""
    system: int = 1
    component: int = 191
    target_system: int = 0
    target_component: int = 0
    share: float = 1000.0

    def __post_init__(self) -> None:
        for name, least in (("system", 1), ("component", 1), ("target_system", 0), ("target_component", 0)):
            if not least <= getattr(self, name) <= 255:
                raise ValueError(f"{name}: {getattr(self, name)}, expected {least} to 255")
        if not 10.0 <= self.share <= 1e6:
            raise ValueError(f"share: {self.share:g} bytes/s, expected 10 to 1000000")
        if bool(self.device) == bool(self.listen or self.peer):
            raise ValueError("device: expected a serial port, or else listen or peer as host:port, and not both")
        if self.device:
            SerialOptions(self.device, self.baud)
        else:
            UdpOptions(self.listen, self.peer)


def mavlink_module() -> Any:
    """pymavlink's common dialect of MAVLink 2; LinkDependencyError saying what to install where it is missing."""
    try:
        from pymavlink.dialects.v20 import common
    except ImportError:
        raise LinkDependencyError(
            "the mavlink transport needs the Python package pymavlink: pip install pymavlink"
        ) from None
    return common


class Tunnel:
    """A `Framing` of TUNNEL messages; other messages, and those for others, are skipped. Not for two threads at once
    but for `wrap` in one and `feed` in another."""

    opening = keeping = b""

    def __init__(self, options: MavlinkOptions) -> None:
        self._options = options
        common = mavlink_module()
        self._common = common
        self._out: Any = common.MAVLink(None, srcSystem=options.system, srcComponent=options.component)
        self._in: Any = common.MAVLink(None)
        self._in.robust_parsing = True
        self._lock = threading.Lock()
        self.skipped = 0

    def wrap(self, frame: bytes) -> bytes:
        """`frame` (1 to 128 bytes) as a message. Raises ValueError for another size."""
        if not 1 <= len(frame) <= TUNNEL_FRAME:
            raise ValueError(f"frame: {len(frame)} bytes, expected 1 to {TUNNEL_FRAME}")
        options = self._options
        padded = list(frame.ljust(TUNNEL_FRAME, b"\0"))
        message = self._common.MAVLink_tunnel_message(
            options.target_system, options.target_component, PAYLOAD_TYPE, len(frame), padded
        )
        with self._lock:
            data = bytes(message.pack(self._out))
            self._out.seq = (self._out.seq + 1) % 256
        return data

    def feed(self, data: bytes) -> list[bytes]:
        """The frames in further bytes of a MAVLink stream."""
        found = []
        for message in self._in.parse_buffer(data) or ():
            if message.get_type() != "TUNNEL" or message.payload_type != PAYLOAD_TYPE:
                self.skipped += 1
                continue
            to_us = message.target_system in (0, self._options.system)
            if to_us and message.target_component in (0, self._options.component):
                found.append(bytes(message.payload[: min(message.payload_length, TUNNEL_FRAME)]))
        return found


class _Datagrams:
    """TUNNEL messages over UDP."""

    def __init__(self, options: MavlinkOptions, on_frame: OnFrame) -> None:
        self._tunnel = Tunnel(options)
        self._on_frame = on_frame
        self._port = UdpPort(UdpOptions(options.listen, options.peer), self._take)

    def _take(self, data: bytes) -> bool:
        """Whether a frame in the datagram was proved."""
        proved = [self._on_frame(frame) for frame in self._tunnel.feed(data)]
        return any(proved)

    @property
    def is_open(self) -> bool:
        return self._port.is_open

    @property
    def trouble(self) -> str:
        return self._port.trouble

    @property
    def counters(self) -> Mapping[str, int]:
        return {**self._port.counters, "messages_of_others": self._tunnel.skipped}

    def send(self, frame: bytes) -> bool:
        return self._port.send(self._tunnel.wrap(frame))

    def close(self) -> None:
        self._port.close()


def mavlink_port(options: MavlinkOptions) -> OpenPort:
    """Makes the MAVLink port of an end; raises LinkDependencyError at once where a package is missing."""
    mavlink_module()

    def make(on_frame: OnFrame) -> Port:
        if options.device:
            return SerialPort(SerialOptions(options.device, options.baud), on_frame, Tunnel(options))
        return _Datagrams(options, on_frame)

    return make
