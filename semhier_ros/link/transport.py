"""What a transport is: something that takes datagrams at once and never holds its caller up.

`Transport` is all that a pacer needs. `SendingTransport` and `ReceivingTransport` are what the two ends of a measured
link need besides: descriptions, requests and notes. Zenoh is one (`link.zenoh`), two emulated directions in the
caller's time another (`link.emulate.hop`); whatever carries datagrams can be a third. Each end makes its own, by a
function that takes the end's `SenderHooks` or `ReceiverHooks`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

MAX_PAYLOAD = 65_000
"""The largest payload that is taken from the network or given to it (bytes)."""

MAX_REQUEST = 1024
"""The longest request from a receiver to a sender (bytes)."""

REQUESTS_PER_SECOND = 20
"""Requests of receivers that are taken, at most, whatever brings them."""

MAX_INFO = 1024
"""The longest stream information (bytes)."""


def waited(reached: Callable[[], bool], timeout: float) -> bool:
    """Waits up to `timeout` seconds of the machine for something; whether it came to pass. For tests and tools."""
    end = time.monotonic() + timeout
    while not reached() and time.monotonic() < end:
        time.sleep(0.01)
    return reached()


class LinkDependencyError(ImportError):
    """A package that a transport needs is not installed; the message says what to install."""


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

OnStored = Callable[[str, int, Sequence[Any]], None]
"""(camera, stamp in ns, consecutive blocks of one frame): what was asked for and stored at its sender, however old."""

OnGone = Callable[[str, int], None]
"""(camera, frame): blocks of that frame were asked for and do not come; called from a thread of the transport."""

OnInfo = Callable[[str, bytes], bool | None]
"""(camera, stream information), called from a thread of the transport; False as in `OnDatagram`."""

OnRequest = Callable[[str, bytes], None]
"""(camera, request), called from a thread of the transport."""

OnMemory = Callable[[str, bytes], bool]
"""(camera, what a receiver says of its memory), called from a thread of the transport; whether that was ever sent."""


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


class SenderHooks(NamedTuple):
    """What a sending end wants called, from any thread of its transport, one call at a time each.

    `on_request(camera, data)`: for what a receiver says (1 to 1,024 bytes). `wrap(camera, information)`: gives what is
    sent in the information's place. `on_tick(now)`: some twenty times a second. `answer(camera, information)`: what is
    sent to a receiver that asks for the information, None where the budget has no more for such; left out, `wrap`.
    """

    on_request: OnRequest
    wrap: Callable[[str, bytes], bytes]
    on_tick: Callable[[float], None]
    answer: Callable[[str, bytes], bytes | None] | None = None


class ReceiverHooks(NamedTuple):
    """What a receiving end wants called: `on_datagram`, `on_info`, `on_note(camera, data)`, `on_tick(now)`; and the
    `cameras` that it waits for, None for all. `on_stored`: for stored blocks with their whole stamp; None: they come as
    datagrams. `remembers(camera)`: what is to be said of the receiver's memory by a transport that speaks for itself
    (`LinkReceiver`), None for nothing. `on_gone(camera, frame)`: the sender says that blocks of a frame that was asked
    for do not come."""

    on_datagram: OnDatagram
    on_info: OnInfo
    on_note: OnInfo
    on_tick: Callable[[float], None]
    cameras: Collection[str] | None
    on_stored: OnStored | None = None
    remembers: Callable[[str], bytes | None] | None = None
    on_gone: OnGone | None = None


class SendingTransport(Transport, Protocol):
    """The sending half of a measured link's transport."""

    @property
    def connected(self) -> bool:
        """Whether a receiver is there now; until then what is sent is dropped."""
        ...

    @property
    def trouble(self) -> str:
        """Why it cannot open now and what to do, in a line; empty when nothing is wrong."""
        ...

    def set_info(self, camera: str, info: bytes, anew: bool = True) -> None:
        """Announces a camera (1 to 1,024 bytes) now and then; `anew`: at once, or only when it is due anyway."""
        ...

    def note(self, camera: str, data: bytes) -> bool:
        """Tells receivers something beside the packets (1 to 1,024 bytes); False when it could not be sent."""
        ...


class ReceivingTransport(Protocol):
    """The receiving half."""

    @property
    def connected(self) -> bool:
        """Whether a sender is there now."""
        ...

    @property
    def open(self) -> bool:
        """Whether it can receive."""
        ...

    @property
    def cameras(self) -> dict[str, bytes | None]:
        """Every camera that has a place, with its information once known."""
        ...

    @property
    def trouble(self) -> str:
        """Why it cannot open now and what to do, in a line; empty when nothing is wrong."""
        ...

    def request(self, camera: str, data: bytes) -> bool:
        """Says something to the sender of `camera` (1 to 1,024 bytes); False when it could not be sent."""
        ...

    def close(self) -> None:
        """Ends the transport; a second call does nothing."""
        ...

    @property
    def counters(self) -> Mapping[str, int]:
        """What happened since the start."""
        ...


OpenSending = Callable[[SenderHooks], SendingTransport]
"""Makes the transport of a sending end."""

OpenReceiving = Callable[[ReceiverHooks], ReceivingTransport]
"""Makes the transport of a receiving end."""


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
