"""What a receiver tells a sender, in 29 bytes a few times a second: what came, what did not, how late it was.

Big-endian: 0x41 (kind and version); newest sequence number (2); datagrams received, lost, runs of losses (2 each,
counting up, wrapping); the newest datagram's send time (2, ms) and how long ago it came (2, ms); the least one-way
delay since the last report (2, ms, by two clocks that need not agree); envelope bytes received (4, counting up,
wrapping); the receiver's clock (6, microseconds since 1970, wrapping); CRC-32 of all that (4, little-endian).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

KIND = 0x41
CLOCK_KIND = 0x42
_BODY = struct.Struct(">BHHHHHHHI6s")
REPORT_BYTES = _BODY.size + 4
_CLOCK = struct.Struct(">Bqi")
CLOCK_BYTES = _CLOCK.size + 4
CLOCK_MODULUS = 1 << 48
SETTLE = 8
"""Datagrams that must have come after one before it counts as lost: Zenoh's priorities reorder."""
OUTAGE = 64
"""A gap of more datagrams than this is an outage, not loss that repair could mend."""
_JUMP = 4096
_HELD_MS = 60_000
REPORT_SECONDS = (0.1, 0.5)
"""Reports come at least so far apart, and at most."""
REPORT_SHARE = 0.12
"""What reports may take, as a share of what arrives."""
REPORT_WIRE = 80
"""A report on the wire, envelope and headers included (bytes)."""


class ReportError(ValueError):
    """Bytes that are no report; the message says why."""


@dataclass(frozen=True, slots=True)
class Report:
    """See the module's text; every field is what its bytes can hold."""

    newest: int
    received: int
    lost: int
    runs: int
    echo_ms: int
    held_ms: int
    delay_ms: int
    payload_bytes: int
    clock_us: int

    def to_bytes(self) -> bytes:
        """The report on the wire."""
        body = _BODY.pack(
            KIND,
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
        return body + zlib.crc32(body).to_bytes(4, "little")

    @staticmethod
    def from_bytes(data: bytes) -> Report:
        """The report that `data` holds. Raises ReportError, and nothing else, for anything else."""
        if len(data) != REPORT_BYTES:
            raise ReportError(f"report: {len(data)} bytes, expected {REPORT_BYTES}")
        if data[0] != KIND:
            raise ReportError(f"report: first byte {data[0]:#04x}, expected {KIND:#04x}")
        if zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
            raise ReportError("report: checksum does not match")
        _, newest, received, lost, runs, echo_ms, held_ms, delay_ms, size, clock = _BODY.unpack_from(data)
        return Report(newest, received, lost, runs, echo_ms, held_ms, delay_ms, size, int.from_bytes(clock, "big"))


@dataclass(frozen=True, slots=True)
class ClockNote:
    """What a sender tells the receiver about their clocks.

    `offset_us`: the receiver's clock minus the sender's, microseconds; `error_us`: how far off that may be at most
    (half a round trip).
    """

    offset_us: int
    error_us: int

    def to_bytes(self) -> bytes:
        """The note on the wire: 0x42, offset (8), error (4), CRC-32 (4, little-endian)."""
        body = _CLOCK.pack(CLOCK_KIND, self.offset_us, min(self.error_us, 0x7FFF_FFFF))
        return body + zlib.crc32(body).to_bytes(4, "little")

    @staticmethod
    def from_bytes(data: bytes) -> ClockNote:
        """The note that `data` holds. Raises ReportError for anything else."""
        if len(data) != CLOCK_BYTES or data[0] != CLOCK_KIND:
            raise ReportError(
                f"clock note: {len(data)} bytes, expected {CLOCK_BYTES} that begin with {CLOCK_KIND:#04x}"
            )
        if zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
            raise ReportError("clock note: checksum does not match")
        _, offset, error = _CLOCK.unpack_from(data)
        if error < 0:
            raise ReportError(f"clock note: error {error} us, expected 0 or more")
        return ClockNote(offset, error)


class ReportClock:
    """When reports of one stream are due: 0.1 to 0.5 s apart, so that they take at most 12 % of what arrives.

    What arrives counts as falling by half at most from one report to the next: a link that just shrank, where nothing
    may arrive for a moment, is when the sender needs them most.
    """

    def __init__(self) -> None:
        self._next = 0.0
        self._at = 0.0
        self._bytes = 0
        self._rate = 0.0

    def due(self, now: float) -> bool:
        """Whether a report is due at `now` (monotonic seconds)."""
        return now >= self._next

    def reported(self, payload_bytes: int, now: float) -> None:
        """A report goes out at `now`; `payload_bytes`: all that arrived so far."""
        arrived = (payload_bytes - self._bytes) / min(max(now - self._at, 0.05), 1.0)
        self._rate = max(arrived, 0.5 * self._rate)
        self._bytes, self._at = payload_bytes, now
        pause = REPORT_WIRE / (REPORT_SHARE * max(self._rate, 1.0))
        self._next = now + min(max(pause, REPORT_SECONDS[0]), REPORT_SECONDS[1]) - 0.01


class ArrivalTracker:
    """What a receiver keeps of one stream: order, losses, runs of losses, delay. Constant memory."""

    def __init__(self) -> None:
        self.received = 0
        self.duplicates = 0
        self.lost = 0
        self.runs = 0
        self.outages = 0
        self.payload_bytes = 0
        self._newest: int | None = None
        self._settled = 0
        self._seen = 0
        self._in_run = False
        self._echo_ms = 0
        self._arrived = 0.0
        self._least_delay: int | None = None
        self._last_delay = 0

    @property
    def heard(self) -> bool:
        """Whether anything arrived yet."""
        return self._newest is not None

    @property
    def loss(self) -> float:
        """Share of all datagrams that were lost so far."""
        total = self.received + self.lost
        return self.lost / total if total else 0.0

    def silence(self, now: float) -> float:
        """Seconds since the newest datagram came."""
        return now - self._arrived

    def arrived(self, sequence: int, sent_ms: int, size: int, now: float, wall_us: int) -> bool:
        """Notes a datagram of `size` payload bytes; False for one that came before.

        `now`: monotonic seconds. `wall_us`: this end's clock, microseconds since 1970.
        """
        newest = self._newest
        ahead = 0 if newest is None else (sequence - newest + 0x8000) % 0x10000 - 0x8000
        if newest is None or abs(ahead) > _JUMP:
            self._seen = 1
            self._settled = SETTLE
            self._newest = sequence
            ahead = 1
        elif ahead > 0:
            self._move(ahead)
            self._newest = sequence
        elif -ahead >= OUTAGE or self._seen >> -ahead & 1:
            self.duplicates += 1
            return False
        else:
            self._seen |= 1 << -ahead
        self.received += 1
        self.payload_bytes += size
        delay = (wall_us // 1000 - sent_ms) & 0xFFFF
        if self._least_delay is None or (delay - self._least_delay + 0x8000) % 0x10000 < 0x8000:
            self._least_delay = delay
        if ahead > 0:
            self._echo_ms, self._arrived, self._last_delay = sent_ms, now, delay
        return True

    def _move(self, ahead: int) -> None:
        if ahead > OUTAGE:
            self.outages += 1
            self._seen, self._settled, self._in_run = 1, SETTLE, False
            return
        for _ in range(ahead):
            self._seen = self._seen << 1 & ((1 << OUTAGE) - 1)
            if self._settled > 0:
                self._settled -= 1
                continue
            missing = not self._seen >> SETTLE & 1
            self.lost += missing
            self.runs += missing and not self._in_run
            self._in_run = missing
        self._seen |= 1

    def report(self, now: float, wall_us: int) -> Report:
        """What to tell the sender now; the least delay starts anew. Raises ValueError before anything was heard."""
        if self._newest is None:
            raise ValueError("nothing has arrived yet: there is nothing to report")
        delay = self._last_delay if self._least_delay is None else self._least_delay
        self._least_delay = None
        held = min(int((now - self._arrived) * 1000), _HELD_MS)
        return Report(
            self._newest, self.received, self.lost, self.runs, self._echo_ms, held, delay, self.payload_bytes, wall_us
        )
