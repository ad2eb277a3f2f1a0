"""A thin hop in the caller's time: a transport of the measured link over two emulated directions. Nothing waits.

What Zenoh does between two ends (`link.zenoh.transport`), over `VirtualLink`s: packets, descriptions at their times,
queries for them, notes and requests, each at its cost on the wire; some twenty ticks a second. Both ends are there from
the beginning. The owner of the clock sets it to the earliest of `next_arrival` and `next_tick`, then calls `deliver`
or `tick`.

    clock = ManualClock()
    hop = VirtualHop(parse_link("64kbit,50ms,5%"), clock)
    sender = LinkSender(scheduler, hop.sending, clock=clock)
    receiver = LinkReceiver(hop.receiving, on_datagram, clock=clock)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

from semhier_ros.link.announce import Announcements, QueryTimes
from semhier_ros.link.clock import Clock
from semhier_ros.link.emulate.direction import VirtualLink
from semhier_ros.link.emulate.profile import LinkProfile
from semhier_ros.link.schedule.wire import ZENOH_UDP, WireModel
from semhier_ros.link.transport import Datagram, ReceiverHooks, SenderHooks

TICK_SECONDS = 0.05


class Message(NamedTuple):
    """Something that was put on the hop: `kind` is packet, info, note (towards the receiver), request or query (back).

    `datagram`: what a packet was, None of others. `wire_bytes`: its cost on IP. `cause`: why it is lost, "" when not.
    """

    time: float
    kind: str
    camera: str
    data: bytes
    wire_bytes: int
    cause: str
    datagram: Datagram | None


class VirtualHop:
    """See the module's text. `down`: the way back, None for the same profile with random numbers of its own. `wire`:
    what a message costs besides its data, an envelope counting as data. `on_message`: hears of everything put."""

    def __init__(
        self,
        up: LinkProfile,
        clock: Clock,
        *,
        down: LinkProfile | None = None,
        wire: WireModel = ZENOH_UDP,
        on_message: Callable[[Message], None] | None = None,
    ) -> None:
        self.up, self.down = VirtualLink(up, "up"), VirtualLink(up if down is None else down, "down")
        self._clock, self._wire, self._on_message = clock, wire, on_message
        self._sender: _Sending | None = None
        self._receiver: _Receiving | None = None
        self._ticks = 0

    def sending(self, hooks: SenderHooks) -> _Sending:
        """The transport of the sending end (an `OpenSending`)."""
        self._sender = _Sending(self, hooks)
        return self._sender

    def receiving(self, hooks: ReceiverHooks) -> _Receiving:
        """The transport of the receiving end (an `OpenReceiving`)."""
        self._receiver = _Receiving(self, hooks)
        return self._receiver

    @property
    def next_arrival(self) -> float | None:
        """When something arrives next, at either end; None when nothing is on its way."""
        return earliest(self.up.next_arrival, self.down.next_arrival)

    @property
    def next_tick(self) -> float:
        """When the ends have their duties next."""
        tick = self._ticks * TICK_SECONDS
        due = None if self._sender is None else self._sender.announcements.next_due(self._clock.now())
        return earliest(tick, due) or 0.0

    def deliver(self) -> None:
        """Hands over what has arrived by now."""
        now = self._clock.now()
        for _, (kind, camera, level, data) in self.up.arrivals(now):
            if self._receiver is not None:
                self._receiver.arrived(kind, camera, level, data, now)
        for _, (kind, camera, _, data) in self.down.arrivals(now):
            if self._sender is not None:
                self._sender.arrived(kind, camera, data)

    def tick(self) -> None:
        """Lets both ends do what is due by now."""
        now = self._clock.now()
        if self._sender is not None:
            self._sender.announce(now)
        if now < self._ticks * TICK_SECONDS:
            return
        self._ticks = int(now / TICK_SECONDS + 1e-9) + 1
        if self._receiver is not None:
            self._receiver.tick(now)
        if self._sender is not None:
            self._sender.hooks.on_tick(now)

    def put(self, kind: str, camera: str, data: bytes, level: int = -1, datagram: Datagram | None = None) -> None:
        """Puts a message on its way."""
        now = self._clock.now()
        size = self._wire.wire_bytes(len(data)) if datagram is None else datagram.wire_bytes
        way = self.down if kind in ("request", "query") else self.up
        cause = way.send((kind, camera, level, data), size, now)
        if self._on_message is not None:
            self._on_message(Message(now, kind, camera, data, size, cause, datagram))


class _Sending:
    """A `SendingTransport` over a hop."""

    def __init__(self, hop: VirtualHop, hooks: SenderHooks) -> None:
        self._hop, self.hooks = hop, hooks
        self.announcements = Announcements()
        self._counts: Counter[str] = Counter()

    def send(self, datagram: Datagram) -> bool:
        self._counts["sent"] += 1
        self._counts["sent_bytes"] += datagram.wire_bytes
        self._hop.put("packet", datagram.camera, datagram.payload, datagram.level, datagram)
        return True

    def set_info(self, camera: str, info: bytes, anew: bool = True) -> None:
        self.announcements.set(camera, info, anew)

    def note(self, camera: str, data: bytes) -> bool:
        self._hop.put("note", camera, data)
        return True

    def announce(self, now: float) -> None:
        for camera, info in self.announcements.due(now):
            self._counts["info_puts"] += 1
            self._hop.put("info", camera, self.hooks.wrap(camera, info))

    def arrived(self, kind: str, camera: str, data: bytes) -> None:
        info = self.announcements.get(camera)
        if kind == "request":
            self._counts["requests"] += 1
            self.hooks.on_request(camera, data)
        elif info is not None:
            told = (self.hooks.answer or self.hooks.wrap)(camera, info)
            self._counts["queries_refused" if told is None else "info_replies"] += 1
            if told is not None:
                self._hop.put("info", camera, told)

    @property
    def connected(self) -> bool:
        return True

    @property
    def trouble(self) -> str:
        return ""

    @property
    def counters(self) -> Mapping[str, int]:
        return dict(self._counts)

    def close(self) -> None:
        return


class _Receiving:
    """A `ReceivingTransport` over a hop."""

    def __init__(self, hop: VirtualHop, hooks: ReceiverHooks) -> None:
        self._hop, self._hooks = hop, hooks
        self._infos: dict[str, bytes | None] = {}
        self._queries: dict[str, QueryTimes] = {}
        self._counts: Counter[str] = Counter()

    def arrived(self, kind: str, camera: str, level: int, data: bytes, now: float) -> None:
        hooks = self._hooks
        if hooks.cameras is not None and camera not in hooks.cameras:
            self._counts["refused_cameras"] += 1
            return
        if kind == "note":
            if camera in self._infos:
                hooks.on_note(camera, data)
            return
        if kind == "packet":
            self._counts["received"] += 1
            self._counts["received_bytes"] += len(data)
            trusted = hooks.on_datagram(camera, level, data) is not False
        else:
            self._counts["infos"] += 1
            trusted = hooks.on_info(camera, data) is not False
        if not trusted:
            return
        if camera not in self._infos:
            self._infos[camera] = None
            self._queries[camera] = QueryTimes(now)
        if kind == "info":
            self._infos[camera] = data

    def tick(self, now: float) -> None:
        for camera, info in self._infos.items():
            if info is None and self._queries[camera].due(now):
                self._counts["queries"] += 1
                self._hop.put("query", camera, b"")
        self._hooks.on_tick(now)

    def request(self, camera: str, data: bytes) -> bool:
        self._counts["requests"] += 1
        self._hop.put("request", camera, data)
        return True

    @property
    def cameras(self) -> dict[str, bytes | None]:
        return dict(self._infos)

    @property
    def connected(self) -> bool:
        return True

    @property
    def open(self) -> bool:
        return True

    @property
    def trouble(self) -> str:
        return ""

    @property
    def counters(self) -> Mapping[str, int]:
        return dict(self._counts)

    def close(self) -> None:
        return


def earliest(*times: float | None) -> float | None:
    """The earliest of times of which any may be None."""
    return min((time for time in times if time is not None), default=None)
