"""What a message costs on the wire: its bytes on IP, for each transport.

The uplink budget counts everything that leaves the machine for a message: payload, the transport's own header, UDP (or
TCP or TLS) and IP headers, and the further IP headers of fragments. Discovery and keep-alive traffic are not in it;
docs/link.md states them apart. The figures are measured (docs/link.md has the commands) and a test counts real
datagrams against them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

IP_HEADER = 20
UDP_HEADER = 8


@dataclass(frozen=True, slots=True)
class WireModel:
    """Bytes on IP for one message of a transport.

    `message_bytes`: what a payload of less than 128 bytes costs besides itself, IP headers included (bytes).
    `long_payload_bytes`: added once the payload reaches 128 bytes (a longer length field; bytes).
    `mtu`: the largest IP packet (bytes); a longer message travels in several.
    `fragment_bytes`: what each further IP packet of one message costs (bytes).
    """

    name: str
    message_bytes: int
    long_payload_bytes: int = 0
    mtu: int = 1500
    fragment_bytes: int = IP_HEADER

    def __post_init__(self) -> None:
        if not 0 <= self.message_bytes <= 10_000:
            raise ValueError(f"message_bytes must be 0 to 10000 bytes, not {self.message_bytes}")
        if not 0 <= self.long_payload_bytes <= 100:
            raise ValueError(f"long_payload_bytes must be 0 to 100 bytes, not {self.long_payload_bytes}")
        if not 100 <= self.mtu <= 65_535:
            raise ValueError(f"mtu must be 100 to 65535 bytes, not {self.mtu}")
        if not 0 <= self.fragment_bytes <= 1000:
            raise ValueError(f"fragment_bytes must be 0 to 1000 bytes, not {self.fragment_bytes}")

    def with_overhead(self, extra: int) -> WireModel:
        """The model of messages that carry `extra` bytes more than their payload (an envelope)."""
        return replace(self, message_bytes=self.message_bytes + extra)

    def wire_bytes(self, payload_bytes: int) -> int:
        """Bytes on IP of one message with a payload of `payload_bytes` (>= 0)."""
        total = payload_bytes + self.message_bytes
        if payload_bytes >= 128:
            total += self.long_payload_bytes
        if total > self.mtu:
            further = -(-(total - self.mtu) // (self.mtu - IP_HEADER))
            total += further * self.fragment_bytes
        return total


ZENOH_UDP = WireModel("zenoh/udp", message_bytes=44, long_payload_bytes=1)
"""Zenoh 1.10 over UDP, QoS on, keys shortened by the receiver: 64 bytes for a payload of 20 (block 0: 61). See
docs/link.md.
"""

ZENOH_TCP = WireModel("zenoh/tcp", message_bytes=110, long_payload_bytes=1, fragment_bytes=52)
"""The same over TCP: 58 bytes besides the payload, and the 52-byte acknowledgement that comes back."""

ZENOH_TLS = WireModel("zenoh/tls", message_bytes=132, long_payload_bytes=1, fragment_bytes=52)
"""TCP plus the 22 bytes that a TLS 1.3 record adds (computed, not measured)."""

ROS_FASTDDS = WireModel("ros/fastdds", message_bytes=192)
"""rclpy on Fast DDS: 212 bytes for a payload of 20; large messages travel as IP fragments."""

UNMETERED = WireModel("unmetered", message_bytes=0, fragment_bytes=0)
"""Counts payloads only; for tests and for links whose overhead the operator does not pay."""

_MODELS = {model.name: model for model in (ZENOH_UDP, ZENOH_TCP, ZENOH_TLS, ROS_FASTDDS, UNMETERED)}
_BY_PROTOCOL = {"udp": ZENOH_UDP, "tcp": ZENOH_TCP, "tls": ZENOH_TLS}


def wire_model(transport: str, endpoints: tuple[str, ...] | list[str] = ()) -> WireModel:
    """The model for `transport` ("ros" or "zenoh"); for zenoh the first endpoint's protocol decides (default UDP).

    Raises ValueError naming the transport when it is not known. A Zenoh protocol without a measured model (quic, ws,
    unixsock …) counts as TLS, the dearest.
    """
    if transport == "ros":
        return ROS_FASTDDS
    if transport == "zenoh":
        protocol = endpoints[0].split("/", 1)[0] if endpoints else "udp"
        return _BY_PROTOCOL.get(protocol, ZENOH_TLS)
    if transport in _MODELS:
        return _MODELS[transport]
    raise ValueError(f"transport must be one of ros, zenoh, {', '.join(_MODELS)}, not {transport!r}")
