"""The two ends of a measured link and the way between them in virtual time: a thin link, or an emulated radio's air.

`send` and `receive` make the ends, which may begin anew. Whoever sets the `clock` then calls `deliver` or `tick` of the
`hop`, and `advance` of the sender.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from semhier_ros.codec.packet import Packet, split
from semhier_ros.lab.replay.base import link_counts
from semhier_ros.link import Scheduler
from semhier_ros.link.carriers import RadioCarrier, carrier
from semhier_ros.link.clock import ManualClock
from semhier_ros.link.emulate.hop import Message, VirtualHop, earliest
from semhier_ros.link.emulate.profile import LinkProfile
from semhier_ros.link.emulate.radio import RadioHop, RadioProfile
from semhier_ros.link.receiver import LinkReceiver
from semhier_ros.link.schedule.policy import LevelPolicy
from semhier_ros.link.schedule.wire import ZENOH_UDP
from semhier_ros.link.sender import LinkSender, measured


class ThinWay:
    """A thin link in both directions, with what Zenoh sends over it. on_message: hears of everything put."""

    def __init__(self, link: LinkProfile, on_message: Callable[[Message], None]) -> None:
        self.clock = ManualClock()
        self.hop = VirtualHop(link, self.clock, on_message=on_message)

    def send(self, policies: Sequence[LevelPolicy], budget: float | None = None, **wants: Any) -> LinkSender:
        """The sending end. budget: wire bytes a second, None or 0 for none. wants: as of `Carrier.sender`."""
        budget = budget or None
        scheduler = Scheduler(Packet.pack, split, policies, wire=measured(ZENOH_UDP), rate=budget)
        return LinkSender(scheduler, self.hop.sending, budget=budget, clock=self.clock, **wants)

    def receive(self, on_datagram: Any, on_info: Any = None, **wants: Any) -> LinkReceiver:
        """The receiving end. wants: as of `Carrier.receiver`."""
        return LinkReceiver(self.hop.receiving, on_datagram, on_info, clock=self.clock, **wants)

    @property
    def next_arrival(self) -> float | None:
        """When something arrives next that a run waits for; None when nothing is on its way."""
        return self.hop.up.next_arrival

    @property
    def next_duty(self) -> float | None:
        """When to come again besides, for what goes on for ever."""
        return earliest(self.hop.next_tick, self.hop.down.next_arrival)

    def counts(self) -> dict[str, int]:
        """What the link did towards the receiver, and what came back."""
        back = self.hop.down.counters
        told = {"datagrams back": back.offered, "bytes back": back.offered_bytes}
        return link_counts(self.hop.up.counters) | told


class AirWay:
    """The same over an emulated radio: nothing that it charges is left out, and under a duty cycle no byte is sent
    twice. others: (time, end, message) of what somebody else sends on the line."""

    def __init__(
        self, radio: RadioProfile, key: bytes | None = None, others: Iterable[tuple[float, int, bytes]] = ()
    ) -> None:
        made = carrier(radio.transport, radio.settings(device="virtual"), key)
        assert isinstance(made, RadioCarrier)
        self._carrier, self._repeats = made, 0 if radio.duty < 1.0 else -1
        self._sender: LinkSender | None = None
        self._receiver: LinkReceiver | None = None
        self.clock = ManualClock()
        self.hop = RadioHop(radio, self.clock, others)

    def send(self, policies: Sequence[LevelPolicy], budget: float | None = None, **wants: Any) -> LinkSender:
        wants |= {"budget": budget or None, "repeats": self._repeats, "clock": self.clock}
        carrier = replace(self._carrier, open_port=self.hop.port(0))
        self._sender = sender = carrier.sender(Packet.pack, split, policies, **wants)
        self._attach()
        return sender

    def receive(
        self, on_datagram: Any, on_info: Any = None, through: Callable[[Any], Any] = lambda port: port, **wants: Any
    ) -> LinkReceiver:
        """As of `ThinWay`; through: what its port is put into."""
        carrier = replace(self._carrier, open_port=through(self.hop.port(1)))
        self._receiver = receiver = carrier.receiver(on_datagram, on_info, clock=self.clock, **wants)
        self._attach()
        return receiver

    def _attach(self) -> None:
        if self._sender is not None and self._receiver is not None:
            self.hop.attach(self._sender.transport, self._receiver.transport)  # type: ignore[arg-type]

    def step(self, until: float) -> None:
        """Lets happen what comes next, at `until` (s) at the latest."""
        due = None if self._sender is None else self._sender.due
        self.clock.set(earliest(self.hop.next_tick, self.hop.next_arrival, due, until) or 0.0)
        self.hop.deliver()
        self.hop.tick()
        if self._sender is not None:
            self._sender.advance()

    @property
    def next_arrival(self) -> float | None:
        return self.hop.next_arrival

    @property
    def next_duty(self) -> float | None:
        return self.hop.next_tick

    def counts(self) -> dict[str, int]:
        """What the air did towards the receiver, and what came back."""
        air = self.hop.air
        out, back, others = air.counters(0), air.counters(1), sum(one.other for one in air.log)
        return ({"messages of others": others} if others else {}) | {
            "datagrams": out.get("frames", 0),
            "bytes": out.get("bytes", 0),
            "lost": out.get("lost", 0) + out.get("collided", 0),
            "dropped at the full queue": out.get("oversize", 0),
            "lost in outages": out.get("outage", 0),
            "datagrams back": back.get("frames", 0),
            "bytes back": back.get("bytes", 0),
        }
