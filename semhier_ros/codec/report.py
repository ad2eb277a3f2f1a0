"""What the two ends of a measured link tell each other beside the packets (docs/bitstream.md): a receiver's report of
what arrived, and a sender's note of how their clocks differ."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from semhier_ros.codec.checksum import CRC_BYTES, check_crc, with_crc

KIND = 0x41
HOLDS_KIND = 0x43
"""A report that names the state which the receiver's memory holds (docs/bitstream.md)."""
LOST_KIND = 0x44
"""A report of a receiver that holds nothing which deltas refer to."""
KINDS = (KIND, HOLDS_KIND, LOST_KIND)
MEMORY_BYTES = 2
_LACKS = 0x40
CLOCK_KIND = 0x42
_BODY = struct.Struct(">BHHHHHHHI6s")
REPORT_BYTES = _BODY.size + CRC_BYTES
_CLOCK = struct.Struct(">Bqi")
CLOCK_BYTES = _CLOCK.size + CRC_BYTES
CLOCK_MODULUS = 1 << 48
MAX_CLOCK_ERROR_US = 0x7FFF_FFFF
_OFFSET_LIMIT_US = 1 << 63


class ReportError(ValueError):
    """Bytes that are no report and no note; the message says why."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a receiver tells a sender, 29 bytes, or 31 with a state that it remembers. Every number wraps at what its
    bytes can hold.

    `newest`: sequence number of the newest datagram (16 bits). `received`, `lost`, `runs`: datagrams that came, that
    did not, and runs of those that did not, since the receiver first heard the stream (16 bits each). `echo_ms`: the
    newest datagram's send time (16 bits of the sender's clock, ms); `held_ms`: how long ago it came (16 bits, ms).
    `delay_ms`: the least one-way delay since the last report by two clocks that need not agree (16 bits, ms).
    `payload_bytes`: envelopes received (32 bits). `clock_us`: the receiver's clock, since 1970 (48 bits).
    `memory`: of a receiver with a memory, the newest state that it holds (the low byte of its frame's number, its
    check), or b"" where it holds nothing that deltas refer to; None where it says nothing of it. Raises ValueError for
    any other.
    """

    newest: int
    received: int
    lost: int
    runs: int
    echo_ms: int
    held_ms: int
    delay_ms: int
    payload_bytes: int
    clock_us: int
    memory: bytes | None = None

    def __post_init__(self) -> None:
        if self.memory is not None and len(self.memory) not in (0, MEMORY_BYTES):
            raise ValueError(f"memory: {len(self.memory)} bytes, expected 0 or {MEMORY_BYTES}")

    def to_bytes(self) -> bytes:
        """The report on the wire."""
        return with_crc(
            _BODY.pack(
                KIND if self.memory is None else HOLDS_KIND if self.memory else LOST_KIND,
                self.newest & 0xFFFF,
                self.received & 0xFFFF,
                self.lost & 0xFFFF,
                self.runs & 0xFFFF,
                self.echo_ms & 0xFFFF,
                self.held_ms & 0xFFFF,
                self.delay_ms & 0xFFFF,
                self.payload_bytes & 0xFFFF_FFFF,
                (self.clock_us % CLOCK_MODULUS).to_bytes(6, "big"),
            )
            + (self.memory or b"")
        )

    @staticmethod
    def from_bytes(data: bytes) -> Report:
        """The report that `data` holds. Raises ReportError, and nothing else, for anything else."""
        kind = data[0] if data and data[0] in KINDS else KIND
        more = MEMORY_BYTES if kind == HOLDS_KIND else 0
        _check("report", data, kind, REPORT_BYTES + more)
        memory = None if kind == KIND else data[_BODY.size : _BODY.size + more]
        _, newest, received, lost, runs, echo_ms, held_ms, delay_ms, size, clock = _BODY.unpack_from(data)
        return Report(
            newest, received, lost, runs, echo_ms, held_ms, delay_ms, size, int.from_bytes(clock, "big"), memory
        )


def lacking(memory: bytes) -> bytes:
    """What a report that says `memory` (2 bytes) says when something of what was sent lately is lacking."""
    return memory if memory[0] >= _LACKS else bytes((memory[0] | _LACKS, memory[1]))


@dataclass(frozen=True, slots=True)
class ClockNote:
    """What a sender tells the receiver about their clocks, 17 bytes.

    `offset_us`: the receiver's clock minus the sender's, microseconds (64 bits, signed); `error_us`: how far off that
    may be at most, half a round trip (31 bits; what is larger is told as the largest). Raises ValueError naming the
    field that is out of its range.
    """

    offset_us: int
    error_us: int

    def __post_init__(self) -> None:
        if not -_OFFSET_LIMIT_US <= self.offset_us < _OFFSET_LIMIT_US:
            raise ValueError(f"offset_us: {self.offset_us}, expected -2**63 to 2**63 - 1")
        if self.error_us < 0:
            raise ValueError(f"error_us: {self.error_us}, expected 0 or more")

    def to_bytes(self) -> bytes:
        """The note on the wire."""
        return with_crc(_CLOCK.pack(CLOCK_KIND, self.offset_us, min(self.error_us, MAX_CLOCK_ERROR_US)))

    @staticmethod
    def from_bytes(data: bytes) -> ClockNote:
        """The note that `data` holds. Raises ReportError, and nothing else, for anything else."""
        _check("clock note", data, CLOCK_KIND, CLOCK_BYTES)
        _, offset, error = _CLOCK.unpack_from(data)
        try:
            return ClockNote(offset, error)
        except ValueError as wrong:
            raise ReportError(f"clock note: {wrong}") from None


def _check(what: str, data: bytes, kind: int, size: int) -> None:
    """Raises ReportError unless `data` has this size, first byte and a checksum that fits."""
    if len(data) != size:
        raise ReportError(f"{what}: {len(data)} bytes, expected {size}")
    if data[0] != kind:
        raise ReportError(f"{what}: first byte {data[0]:#04x}, expected {kind:#04x}")
    check_crc(data, ReportError)
