"""The one place where a link's transport is chosen by name: nodes, link bench and tests get both ends from here.

A `Carrier` makes the sending and the receiving end of a measured link. `carrier(name, settings)` knows them all but
`ros`, whose topics need a node (`nodes.ros_link`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

from semhier_ros.link.clock import MACHINE, Clock
from semhier_ros.link.receiver import LinkReceiver
from semhier_ros.link.schedule.packing import Pack, Split
from semhier_ros.link.schedule.policy import LevelPolicy
from semhier_ros.link.schedule.scheduler import Scheduler
from semhier_ros.link.schedule.wire import WireModel, wire_model
from semhier_ros.link.sender import LinkSender, measured
from semhier_ros.link.transport import LinkDependencyError, OnDatagram, OnGone, OnInfo, OnMemory, OnRequest, OnStored

TRANSPORTS = ("zenoh", "udp", "serial", "mavlink")
"""Transports that a carrier exists for."""
BITS = 8


class SenderWants(NamedTuple):
    """What a sending end is made with: the arguments of `Carrier.sender`."""

    pack: Pack
    split: Split
    policies: Sequence[LevelPolicy]
    budget: float | None
    adapt: bool
    repeats: int
    on_request: OnRequest | None
    on_memory: OnMemory | None
    clock: Clock


class ReceiverWants(NamedTuple):
    """What a receiving end is made with: the arguments of `Carrier.receiver`."""

    on_datagram: OnDatagram
    on_info: OnInfo | None
    cameras: Collection[str] | None
    remembers: Callable[[str], bytes | None] | None
    unread: Callable[[str], bool] | None
    on_stored: OnStored | None
    on_note: OnInfo | None
    on_gone: OnGone | None
    clock: Clock


class Carrier(ABC):
    """Makes the two ends of a link over one transport. `name`: of the transport. `wire`: what a datagram costs.
    `radio`: whether it carries compact frames, by which a sender's memory goes (`Codec.memory`). `answers`: whether the
    receiver says anything, without which no sender has a memory."""

    name: str
    radio = False

    @property
    def answers(self) -> bool:
        return True

    @property
    @abstractmethod
    def wire(self) -> WireModel: ...

    def sender(
        self,
        pack: Pack,
        split: Split,
        policies: Sequence[LevelPolicy],
        *,
        budget: float | None,
        adapt: bool = True,
        repeats: int = -1,
        on_request: OnRequest | None = None,
        on_memory: OnMemory | None = None,
        clock: Clock = MACHINE,
    ) -> LinkSender:
        """The sending end. `pack`, `split`: the codec's packets, where the transport has no form of its own. `budget`:
        wire bytes a second, None or 0 for none. `repeats`: of coarse blocks, -1 as measured loss asks. `on_memory`: as
        of `LinkSender`."""
        return self._sender(SenderWants(pack, split, policies, budget, adapt, repeats, on_request, on_memory, clock))

    def receiver(
        self,
        on_datagram: OnDatagram,
        on_info: OnInfo | None = None,
        *,
        cameras: Collection[str] | None = None,
        remembers: Callable[[str], bytes | None] | None = None,
        unread: Callable[[str], bool] | None = None,
        on_stored: OnStored | None = None,
        on_note: OnInfo | None = None,
        on_gone: OnGone | None = None,
        clock: Clock = MACHINE,
    ) -> LinkReceiver:
        """The receiving end. `remembers`, `unread`: as of `LinkReceiver`; a radio's receiver speaks in turn, whatever
        is unread.
        `on_stored`: as of `LinkReceiver`; only a radio stores. `on_note`, `on_gone`: as of `LinkReceiver`."""
        wants = ReceiverWants(on_datagram, on_info, cameras, remembers, unread, on_stored, on_note, on_gone, clock)
        return self._receiver(wants)

    @abstractmethod
    def _sender(self, wants: SenderWants) -> LinkSender: ...

    @abstractmethod
    def _receiver(self, wants: ReceiverWants) -> LinkReceiver: ...


@dataclass(frozen=True)
class ZenohCarrier(Carrier):
    """A Zenoh session. `options`: a `ZenohOptions`. `key`: shared by both ends, None for none."""

    options: Any
    key: bytes | None = None
    name: str = "zenoh"

    @property
    def wire(self) -> WireModel:
        return measured(wire_model("zenoh", (*self.options.connect, *self.options.listen)), self.key)

    def _sender(self, wants: SenderWants) -> LinkSender:
        from semhier_ros.link.zenoh.transport import sending

        return LinkSender(
            Scheduler(wants.pack, wants.split, wants.policies, wire=self.wire, rate=wants.budget),
            sending(self.options),
            budget=wants.budget,
            adapt=wants.adapt,
            repeats=wants.repeats,
            key=self.key,
            on_request=wants.on_request,
            on_memory=wants.on_memory,
            clock=wants.clock,
        )

    def _receiver(self, wants: ReceiverWants) -> LinkReceiver:
        from semhier_ros.link.zenoh.transport import receiving

        return LinkReceiver(
            receiving(self.options),
            wants.on_datagram,
            wants.on_info,
            key=self.key,
            remembers=wants.remembers,
            unread=wants.unread,
            cameras=wants.cameras,
            on_note=wants.on_note,
            clock=wants.clock,
        )


@dataclass(frozen=True)
class RadioCarrier(Carrier):
    """Compact frames over a port (`link.radio`). `open_port`: makes it. `options`: a `RadioOptions`."""

    name: str
    open_port: Callable[..., Any]
    options: Any
    radio = True

    @property
    def answers(self) -> bool:
        return bool(self.options.answers)

    @property
    def wire(self) -> WireModel:
        return self.options.wire(self.name)

    def _sender(self, wants: SenderWants) -> LinkSender:
        from semhier_ros.link.radio.packer import CompactPacker
        from semhier_ros.link.radio.sending import RadioSender

        options = self.options
        packer = CompactPacker(wants.clock, options.shape.largest)
        scheduler = Scheduler(
            packer.pack, packer.split, wants.policies, wire=self.wire, rate=wants.budget, shape=options.shape
        )
        return RadioSender(
            scheduler,
            self.open_port,
            options,
            packer,
            budget=wants.budget,
            repeats=wants.repeats,
            on_request=wants.on_request,
            on_memory=wants.on_memory,
            clock=wants.clock,
        )

    def _receiver(self, wants: ReceiverWants) -> LinkReceiver:
        from semhier_ros.link.radio.receiving import RadioReceiving

        return LinkReceiver(
            lambda hooks: RadioReceiving(self.options, self.open_port, hooks, clock=wants.clock),
            wants.on_datagram,
            wants.on_info,
            report=False,
            remembers=wants.remembers,
            cameras=wants.cameras,
            on_stored=wants.on_stored,
            on_note=wants.on_note,
            on_gone=wants.on_gone,
            clock=wants.clock,
        )


@dataclass(frozen=True, slots=True)
class RadioSettings:
    """What `udp`, `serial` and `mavlink` take besides where they connect. `frame_bytes`: the largest frame, its check
    included. `rate_kbit`: what the air carries, 0: as the line. `turnaround_ms`: from receiving to sending, 0: both
    ends may speak at once. `frame_extra`: bytes that a frame costs besides (preamble). `duty_percent`: of an hour, that
    one end may send. `check`: bits of a frame's check, 16 or 32. `answers`: whether the receiver speaks.
    `encrypt`: none, chacha20 (proofs stay as short as the key's) or chacha20poly1305 (16 bytes)."""

    frame_bytes: int = 240
    rate_kbit: float = 0.0
    turnaround_ms: float = 0.0
    frame_extra: int = 0
    duty_percent: float = 100.0
    check: int = 32
    answers: bool = True
    encrypt: str = "none"


def carrier(name: str, settings: Mapping[str, Any], key: bytes | None = None) -> Carrier:
    """The carrier of transport `name`. `settings`: the fields of `ZenohOptions` for zenoh; else those of
    `RadioSettings` with those of `UdpOptions`, `SerialOptions` or `MavlinkOptions`.

    Raises ValueError naming the transport or the setting that is wrong, LinkDependencyError where a package is missing.
    """
    if name == "zenoh":
        from semhier_ros.link.zenoh.config import ZenohOptions

        return ZenohCarrier(ZenohOptions(**_known(name, settings, ZenohOptions)), key)
    if name not in TRANSPORTS:
        raise ValueError(f"transport: {name!r}, expected one of {', '.join(TRANSPORTS)}")
    from semhier_ros.link.radio import ports
    from semhier_ros.link.radio.options import serial_extra, udp_extra

    shared = {field.name for field in fields(RadioSettings)}
    radio = RadioSettings(**{field: value for field, value in settings.items() if field in shared})
    own = {field: value for field, value in settings.items() if field not in shared}
    if name == "udp":
        options = ports.UdpOptions(**_known(name, own, ports.UdpOptions))
        return RadioCarrier(name, ports.udp_port(options), _radio(radio, key, udp_extra(), None))
    if name == "serial":
        line = ports.SerialOptions(**_known(name, own, ports.SerialOptions))
        if line.framing == "meshtastic":
            radio = _in_packets(radio)
        extra = serial_extra(line.framing, radio.frame_bytes)
        return RadioCarrier(name, ports.serial_port(line), _radio(radio, key, extra, line.baud / 10))
    from semhier_ros.link.radio import mavlink

    if radio.frame_bytes > mavlink.TUNNEL_FRAME:
        radio = replace(radio, frame_bytes=mavlink.TUNNEL_FRAME)
    flight = mavlink.MavlinkOptions(**_known(name, own, mavlink.MavlinkOptions))
    options = replace(_radio(radio, key, mavlink.TUNNEL_BYTES, flight.share), shared=True)
    return RadioCarrier(name, mavlink.mavlink_port(flight), options)


def _in_packets(radio: RadioSettings) -> RadioSettings:
    """The settings of a Meshtastic radio, whose port is faster than its air. Raises ValueError."""
    from semhier_ros.link.radio.meshtastic import LARGEST

    if not radio.rate_kbit:
        raise ValueError("rate_kbit: 0, expected that of the radio's preset with framing meshtastic (1.07 of LongFast)")
    return replace(radio, frame_bytes=min(radio.frame_bytes, LARGEST))


def _known(name: str, settings: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    known = [field.name for field in fields(kind)]
    for field in settings:
        if field not in known:
            raise ValueError(f"{name}.{field}: no such setting, expected {', '.join(known)}")
    return dict(settings)


def _radio(radio: RadioSettings, key: bytes | None, extra: int, line: float | None) -> Any:
    """Raises ValueError naming the field that is out of its range. `line`: bytes a second of the line below."""
    from semhier_ros.codec.compact import Seal
    from semhier_ros.codec.secrecy import SecrecyError
    from semhier_ros.link.radio.options import Air, RadioOptions

    if radio.check not in (16, 32):
        raise ValueError(f"check: {radio.check} bits, expected 16 or 32")
    air = Air(
        frame_bytes=radio.frame_bytes,
        bytes_per_second=radio.rate_kbit * 1000 / BITS if radio.rate_kbit else line,
        turnaround=radio.turnaround_ms / 1000,
        frame_extra=extra + radio.frame_extra,
        duty=radio.duty_percent / 100,
    )
    try:
        return RadioOptions(air, Seal(radio.check // BITS, key, radio.encrypt), radio.answers)
    except SecrecyError as error:
        raise LinkDependencyError(str(error)) from None
