"""What a transport is: something that takes datagrams at once and never holds its caller up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

MAX_PAYLOAD = 65_000
"""The largest payload that is taken from the network or given to it (bytes)."""

MAX_REQUEST = 1024
"""The longest request from a receiver to a sender (bytes)."""

MAX_INFO = 1024
"""The longest stream information (bytes)."""


class Datagram(NamedTuple):
    """One departure: what the scheduler hands to a transport.

    `level`: index of the coarsest block inside. `payload`: the packet. `wire_bytes`: its cost on IP by the wire model.
    `priority`: 1 (most urgent) to 7. `frame`: 16-bit frame number. `stamp_ns`: the frame's stamp.
    `blocks`: indices of the blocks inside, consecutive. `copy`: 0 for the first copy, 1 for the first repeat …
    `piece`: (number, count) when the payload is one piece of a larger block, else None.
    """

    camera: str
    level: int
    payload: bytes
    wire_bytes: int
    priority: int
    frame: int
    stamp_ns: int
    blocks: tuple[int, ...]
    copy: int = 0
    piece: tuple[int, int] | None = None


OnDatagram = Callable[[str, int, bytes], bool | None]
"""(camera, level of the coarsest block inside, payload), called from a thread of the transport. False says that the
payload is not to be trusted, and that nothing is to be remembered of it."""

OnInfo = Callable[[str, bytes], bool | None]
"""(camera, stream information), called from a thread of the transport; False as in `OnDatagram`."""

OnRequest = Callable[[str, bytes], None]
"""(camera, request), called from a thread of the transport."""


@runtime_checkable
class Transport(Protocol):
    """The sending half of a transport."""

    def send(self, datagram: Datagram) -> bool:
        """Hands one datagram to the network without noticeable waiting; False when it was dropped (and counted)."""
        ...

    def close(self) -> None:
        """Ends the transport; a second call does nothing."""
        ...

    @property
    def counters(self) -> Mapping[str, int]:
        """What happened since the start: sent, dropped, errors …"""
        ...


class MemoryTransport:
    """Keeps what was sent in a list: for tests and for the Python API without a network."""

    def __init__(self) -> None:
        self.datagrams: list[Datagram] = []
        self.closed = False

    def send(self, datagram: Datagram) -> bool:
        """Keeps the datagram; False after `close`."""
        if self.closed:
            return False
        self.datagrams.append(datagram)
        return True

    def close(self) -> None:
        """Refuses what comes later."""
        self.closed = True

    @property
    def counters(self) -> Mapping[str, int]:
        """`sent`: how many datagrams were kept."""
        return {"sent": len(self.datagrams)}
