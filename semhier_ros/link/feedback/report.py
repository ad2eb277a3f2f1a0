"""When a receiver reports and what it keeps for it: order, losses, runs of losses, delay.

What a report's bytes are says `codec.report`.
"""

from __future__ import annotations

from semhier_ros.codec.envelope import SEQUENCES
from semhier_ros.codec.report import Report

SETTLE = 8
"""Datagrams that must have come after one before it counts as lost: Zenoh's priorities reorder."""
OUTAGE = 64
"""A gap of more datagrams than this is an outage, not loss that repair could mend."""
_JUMP = 4096
_SHORT = 0x10000
_LATEST_SECONDS = 10.0
"""No datagram is so much later than the newest."""
_RISING = 3
"""So many datagrams far behind the newest, each above the one before and none ahead of it in between, are of a sender
that began anew."""
_HELD_MS = 60_000
REPORT_SECONDS = (0.1, 0.5)
"""Reports come at least so far apart, and at most."""
PRESSED_SECONDS, PRESSING_SECONDS = 0.16, 0.3
"""Reports come at most the first so far apart for the second so long after what is pressing."""
OVERDUE, OVERDUE_SECONDS, OVERDUE_AFTER = 1.5, 0.02, 4
"""A datagram is overdue once the silence is so many times as long as the longest lately, and so much more, in a stream
of which so many have come."""
REPORT_SHARE = 0.12
"""What reports may take, as a share of what arrives."""
REPORT_WIRE = 80
"""A report on the wire, envelope and headers included (bytes)."""


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
        self._pressing = float("-inf")

    def press(self, now: float, *, once: bool = False) -> None:
        """Something was lost that a sender acts on at once: until `PRESSING_SECONDS` from now reports come as close as
        they may; `once`: the next one does."""
        if not once:
            self._pressing = now + PRESSING_SECONDS
        self._next = min(self._next, self._at + PRESSED_SECONDS - 0.01)

    def due(self, now: float) -> bool:
        """Whether a report is due at `now` (monotonic seconds)."""
        return now >= self._next

    def reported(self, payload_bytes: int, now: float) -> None:
        """A report goes out at `now`; `payload_bytes`: all that arrived so far."""
        arrived = (payload_bytes - self._bytes) / min(max(now - self._at, 0.05), 1.0)
        self._rate = max(arrived, 0.5 * self._rate)
        self._bytes, self._at = payload_bytes, now
        pause = REPORT_WIRE / (REPORT_SHARE * max(self._rate, 1.0))
        longest = PRESSED_SECONDS if now < self._pressing else REPORT_SECONDS[1]
        self._next = now + min(max(pause, REPORT_SECONDS[0]), longest) - 0.01


class ArrivalTracker:
    """What a receiver keeps of one stream: order, losses, runs of losses, delay. Constant memory.

    `whole`: whether sequence numbers come with all their 48 bits, else with their low 16.

    A sender that starts again begins at any low 16 bits, so its numbers may lie behind the newest without being late.
    What is late was sent before the newest; what was sent after it, and bears no number above its own, is of a sender
    that began anew. A sender whose clock was set back meanwhile is known by datagrams that go on far behind.
    """

    def __init__(self, whole: bool = False) -> None:
        self._modulus = SEQUENCES if whole else _SHORT
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
        self._longest = 0.0
        self._least_delay: int | None = None
        self._last_delay = 0
        self._behind: list[int] = []

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

    def overdue(self, now: float) -> bool:
        """Whether more than is usual has passed since the newest datagram: what comes next was probably lost."""
        return self.received >= OVERDUE_AFTER and self.silence(now) > OVERDUE * self._longest + OVERDUE_SECONDS

    def arrived(self, sequence: int, sent_ms: int, size: int, now: float, wall_us: int) -> bool:
        """Notes a datagram of `size` payload bytes; False for one that came before.

        `sequence`: 48 or 16 bits. `sent_ms`: 16 bits of the sender's clock. `now`: monotonic seconds. `wall_us`: this
        end's clock, microseconds since 1970.
        """
        newest = self._newest
        half = self._modulus // 2
        ahead = 1 if newest is None else (sequence - newest + half) % self._modulus - half
        if newest is None or abs(ahead) > _JUMP or (ahead <= 0 and self._began_anew(sequence, ahead, sent_ms, now)):
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
        if ahead > 0:
            self._behind.clear()
        self.received += 1
        self.payload_bytes += size
        delay = (wall_us // 1000 - sent_ms) & 0xFFFF
        if self._least_delay is None or (delay - self._least_delay + 0x8000) % 0x10000 < 0x8000:
            self._least_delay = delay
        if ahead > 0:
            silent = self.silence(now) if self.received > 1 else 0.0
            self._longest = max(silent, self._longest * (1.0 - silent))  # halves in some 0.7 s
            self._echo_ms, self._arrived, self._last_delay = sent_ms, now, delay
        return True

    def _began_anew(self, sequence: int, ahead: int, sent_ms: int, now: float) -> bool:
        """Whether a number that is not above the newest is of another sender than that."""
        if self.silence(now) > _LATEST_SECONDS or 0 < (sent_ms - self._echo_ms) % 0x10000 < 0x8000:
            return True
        behind = self._behind
        if -ahead < OUTAGE:
            return False
        if behind and (sequence - behind[-1]) % self._modulus not in range(1, OUTAGE):
            behind.clear()
        behind.append(sequence)
        return len(behind) >= _RISING

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
        newest = self._newest & 0xFFFF
        return Report(
            newest, self.received, self.lost, self.runs, self._echo_ms, held, delay, self.payload_bytes, wall_us
        )
