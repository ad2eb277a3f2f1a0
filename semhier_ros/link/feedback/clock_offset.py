"""The offset between two ends' clocks from what reports echo, as NTP does it (RFC 5905): no messages of its own.

A report echoes the send time of the newest datagram, says how long ago it came and what the receiver's clock reads. The
sample with the shortest round trip among the last 16 is believed: queues only ever add to a round trip.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

_SAMPLES = 16
_OLDEST = 120.0
_SET_SECONDS = 0.05
"""Samples that differ by so much more than they may be off say that a clock was set."""


@dataclass(frozen=True, slots=True)
class Offset:
    """`seconds`: the receiver's clock minus the sender's. `error`: it may be off by so much (half the round trip).
    `round_trip`: seconds.
    """

    seconds: float
    error: float
    round_trip: float


class ClockOffset:
    """Filters samples; `best` is None while nothing is known. `sets`: how often a clock was seen to be set."""

    def __init__(self) -> None:
        self.sets = 0
        self._samples: deque[tuple[float, Offset]] = deque(maxlen=_SAMPLES)

    @property
    def best(self) -> Offset | None:
        """The believed sample."""
        return min((sample for _, sample in self._samples), key=lambda sample: sample.round_trip, default=None)

    @property
    def samples(self) -> int:
        """How many samples are kept."""
        return len(self._samples)

    def forget(self) -> None:
        """A clock was set: what is known holds no longer."""
        self._samples.clear()

    def add(self, sent: float, held: float, receiver: float, arrived: float, now: float) -> float | None:
        """Takes an exchange; returns its round trip in seconds, None when the times make no sense.

        `sent`: the datagram's departure by the sender's clock. `held`: seconds from its arrival to the report.
        `receiver`: the receiver's clock at the report. `arrived`: the report's arrival by the sender's clock. `now`:
        monotonic seconds.
        """
        round_trip = arrived - sent - held
        if not 0.0 <= round_trip < 30.0 or not 0.0 <= held < 30.0:
            return None
        offset = ((receiver - held - sent) + (receiver - arrived)) / 2.0
        while self._samples and now - self._samples[0][0] > _OLDEST:
            self._samples.popleft()
        known = self.best
        if known is not None and abs(offset - known.seconds) > known.error + round_trip / 2.0 + _SET_SECONDS:
            self.sets += 1
            self.forget()
        self._samples.append((now, Offset(offset, round_trip / 2.0 + 0.001, round_trip)))
        return round_trip
