"""How fast a sender may go, from the delay that its own bytes cause.

Delay-based, as LEDBAT (RFC 6817: one-way delay above the least seen, without common clocks) and Google congestion
control (draft-ietf-rmcat-gcc-02: multiplicative growth, back to a share of what arrives when the queue grows); like
SCReAM (RFC 8298) it also reads what has *not* been acknowledged, so that a link that stops is noticed without hearing
from it. Losses alone are not taken for congestion: a radio loses without being full, and repair needs the rate then.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

LEAST_RATE = 1000.0
"""8 kbit/s, in wire bytes per second."""
LARGEST_RATE = 1_250_000.0
"""10 Mbit/s."""
QUEUE_SECONDS = 0.060
"""A queue of so much, and of two datagrams, is one too many."""
_BASE_WINDOW = 30.0
_RATE_WINDOW = 0.35
_BUSY_WINDOW = 1.0
"""While a queue is long the link is busy all the time, and a longer look at what arrives is a better one: a large
datagram of faster times may take a third of a second."""
_PROBE_WAIT = (0.6, 1.2)
_GROWTH = (1.35, 2.0, 3.0)
"""Of the first, second and further rounds of a probe, as long as no queue grows; the first as soon as one does."""
_PROBE_QUEUE = 0.10
"""Seconds of queue that the first round of a probe may cause before a report can tell of it: where reports are rare, it
is a smaller one."""
_DRAIN_SECONDS = 0.45
_CAPACITY_SHARE = 0.92
_SILENCE = 2.0
_HEAVY_LOSS = 0.35
_LOSES = 0.02
_LIGHT = 0.75
_PATIENCE = 0.4
"""Where a link is known to lose more than _LOSES, and less than a share of _LIGHT of the rate is sent, datagrams may be
missing for so many seconds before that is taken for a queue, and what is lost of so few is not taken for congestion:
three lost in a row look like a link that stops."""
_NOISE_GAIN = 0.05
_MOST_NOISE = 0.15


@dataclass(frozen=True, slots=True)
class Feedback:
    """What one report means at the sender.

    `delay`: the least one-way delay since the last report, seconds, by clocks that need not agree. `pending`: the least
    delay that a datagram on its way must have by now, same clocks, None when nothing is. `received`: wire bytes that
    arrived so far. `at`: the receiver's clock, seconds. `sent_rate`: what this end sent lately, wire bytes per second.
    `loss`: share of datagrams lost. `round_trip`: seconds, None while unknown. `datagram`: wire bytes of the largest
    datagram at the present rate.
    """

    delay: float
    pending: float | None
    received: float
    at: float
    sent_rate: float
    loss: float
    round_trip: float | None
    datagram: float


class Least:
    """The least of what was added over the last 30 to 60 s."""

    def __init__(self) -> None:
        self._windows: deque[tuple[float, float]] = deque(maxlen=2)

    @property
    def value(self) -> float | None:
        """The least, None while nothing was added."""
        return min((least for _, least in self._windows), default=None)

    def add(self, value: float, now: float) -> float:
        """Adds a value at `now` (monotonic seconds); the least with it."""
        windows = self._windows
        if not windows or now - windows[-1][0] > _BASE_WINDOW:
            windows.append((now, value))
        elif value < windows[-1][1]:
            windows[-1] = (windows[-1][0], value)
        return min(least for _, least in windows)

    def forget(self) -> None:
        """What was added says nothing of what comes."""
        self._windows.clear()


class RateController:
    """Follows a link between 8 kbit/s and 10 Mbit/s; `ceiling` (the operator's budget) is never exceeded.

    All rates are wire bytes per second. `now`: monotonic seconds.
    """

    def __init__(self, ceiling: float | None, start: float | None = None) -> None:
        self.ceiling = _bounded(ceiling or LARGEST_RATE, LARGEST_RATE)
        self.rate = min(self.ceiling, start or self.ceiling)
        self.capacity: float | None = None
        self.queue_delay = 0.0
        self.congested = False
        self._base = Least()
        self._received: deque[tuple[float, float]] = deque()
        self._streak = 0
        self._round_end = 0.0
        self._probe_at = 0.0
        self._probe_wait = _PROBE_WAIT[0]
        self._noise = 0.0
        self._better = 1.0
        self._interval = 0.1
        self._limit = QUEUE_SECONDS
        self.last_cut = -1e9
        self._last_report: float | None = None
        self._last_silence_cut = -1e9

    def set_ceiling(self, ceiling: float | None) -> None:
        """The operator's budget changed (None: none)."""
        raised = _bounded(ceiling or LARGEST_RATE, LARGEST_RATE)
        if self.rate == self.ceiling and not self.congested and raised > self.ceiling and ceiling:
            self.rate = raised
        self.ceiling = raised
        self.rate = min(self.rate, raised)

    @property
    def received_rate(self) -> float | None:
        """What arrived per second lately, None while unknown."""
        known = self._received
        if len(known) < 2 or known[-1][0] - known[0][0] < 0.05:
            return None
        return (known[-1][1] - known[0][1]) / (known[-1][0] - known[0][0])

    @property
    def least_delay(self) -> float | None:
        """The delay above which a queue is counted, None while unknown."""
        return self._base.value

    def clocks_set(self) -> None:
        """A clock was set, or another receiver's is told from now on: the next delay is the least one known."""
        self._base.forget()
        self._received.clear()

    def report(self, feedback: Feedback, now: float) -> float:
        """Takes a report; returns the rate from now on."""
        if self._last_report is not None:
            self._interval += 0.3 * (min(now - self._last_report, 1.0) - self._interval)
        self._last_report = now
        least = self._note(feedback, now)
        light = feedback.sent_rate < _LIGHT * self.rate
        delay = feedback.delay
        if feedback.pending is not None:
            delay = max(delay, feedback.pending - (_PATIENCE if light and feedback.loss > _LOSES else 0.0))
        self.queue_delay = queue = max(0.0, delay - least)
        round_trip = feedback.round_trip if feedback.round_trip is not None else 0.3
        unit = feedback.datagram / max(self.rate, self.capacity or 0.0 if self.congested else 0.0)
        self._limit = limit = QUEUE_SECONDS + 2.0 * min(unit, 0.125) + 2.0 * self._noise
        if not self.congested and feedback.sent_rate < 0.3 * self.rate:
            # Hardly anything of ours is on the way: what delays it is a processor or somebody else.
            self._noise += _NOISE_GAIN * (min(queue, _MOST_NOISE) - self._noise)
        arrived = self.received_rate
        if queue > limit or self._probe_failed(queue, unit):
            self._cut(queue, limit, arrived, now, feedback.sent_rate < 0.5 * self.rate)
        elif not light and feedback.loss > _HEAVY_LOSS and arrived is not None and feedback.sent_rate > 1.3 * arrived:
            if now - self.last_cut > 1.0:
                self._cut(0.0, limit, max(arrived, 0.7 * self.rate), now)
        elif queue < limit / 2:
            if self.congested and self.capacity is not None and arrived is not None:
                self.capacity = max(self.capacity, arrived)  # busy until now, so this is what it carries
            self.congested = False
            self._grow(feedback, round_trip, now)
        elif self.congested and self.capacity is not None:  # nearly empty: no longer at the pace that empties it
            self.rate = max(self.rate, min(self.ceiling, self.capacity * _share(queue, limit)))
        return self.rate

    def silent(self, now: float) -> float:
        """Called now and then. Without any report for 2 s the rate is halved every second, down to 8 kbit/s; before
        that a queue is taken to empty as it must at this rate, for reports are rare when little is sent.
        """
        since = self._last_report
        if since is not None and self.congested and self.capacity is not None and now - since <= _SILENCE:
            left = self.queue_delay - (now - since) * (1.0 - min(self.rate / self.capacity, 1.0))
            self.rate = max(self.rate, min(self.ceiling, self.capacity * _share(left, self._limit)))
        if since is not None and now - since > _SILENCE and now - self._last_silence_cut >= 1.0:
            self._last_silence_cut = now
            self.capacity = self.capacity or self.rate
            self.rate = max(min(LEAST_RATE, self.ceiling), self.rate / 2.0)
        return self.rate

    def _note(self, feedback: Feedback, now: float) -> float:
        """Keeps what a report says; the least delay that is known now."""
        received = self._received
        if received and (feedback.at <= received[-1][0] or feedback.received < received[-1][1]):
            received.clear()
        received.append((feedback.at, feedback.received))
        window = _BUSY_WINDOW if self.congested else _RATE_WINDOW
        while len(received) > 2 and received[-1][0] - received[1][0] >= window:
            received.popleft()
        return self._base.add(feedback.delay, now)

    def _probe_failed(self, queue: float, unit: float) -> bool:
        return self._streak > 0 and self.capacity is not None and queue > 0.025 + min(unit, 0.1)

    def _cut(self, queue: float, limit: float, arrived: float | None, now: float, idle: bool = False) -> None:
        """The queue grew: down to less than what arrives, so that it empties within some 0.5 s.

        While the queue is long the link is busy, so what arrives is what it carries, whatever we send: cuts that follow
        each other do not add up. With little to send (`idle`) what arrives says nothing of the link, and a delay may as
        well be a busy processor's: the rate is halved only.
        """
        floor = min(LEAST_RATE, self.ceiling)
        known = max(self.rate if arrived is None else arrived, floor)
        if not self.congested:
            known = min(known, self.rate)
            while len(self._received) > 2:  # what arrived before the queue grew says nothing of the link now
                self._received.popleft()
        if idle and not self.congested:
            known = max(known, 0.5 * self.rate)
        self.capacity = known
        if idle:
            self.rate = min(self.rate, known)
        elif not self.congested:
            self.rate = min(self.rate, max(floor, min(known, self._last_interval(known)) * _share(queue, limit)))
        else:
            self.rate = min(max(floor, known * _share(queue, limit)), self.ceiling)
        self.congested = True
        if self._streak > 0:
            self._probe_wait = min(2.0 * self._probe_wait, _PROBE_WAIT[1])
        self._streak = 0
        self.last_cut = now
        self._probe_at = now + self._probe_wait

    def _last_interval(self, otherwise: float) -> float:
        """What arrived per second between the last two reports: a link that just shrank shows there first."""
        known = self._received
        if len(known) < 2 or known[-1][0] - known[-2][0] < 0.05:
            return otherwise
        return (known[-1][1] - known[-2][1]) / (known[-1][0] - known[-2][0])

    def _grow(self, feedback: Feedback, round_trip: float, now: float) -> None:
        """The queue is short: first back to what was known to fit, then probes of half more a round."""
        capacity = self.capacity
        if capacity is not None and self._streak == 0 and self.rate < _CAPACITY_SHARE * capacity:
            self.rate = min(self.ceiling, _CAPACITY_SHARE * capacity)
            self._round_end = now + round_trip + 0.1
            return
        if now < self._probe_at or now < self._round_end:
            return
        if self.rate >= self.ceiling:
            self._streak = 0
            return
        busy = feedback.sent_rate > 0.7 * self.rate
        if self._streak > 0:
            arrived = self.received_rate
            better = capacity is None or (arrived is not None and arrived > self._better * capacity)
            if not busy or not better:
                self._streak = 0
                self._probe_at = now + self._probe_wait
                self.rate = self.rate if capacity is None else min(self.rate, capacity)
                return
            self.capacity = None if capacity is None else arrived
            self._probe_wait = _PROBE_WAIT[0]
        elif not busy:
            return
        free = self.queue_delay < 0.010 + 0.25 * min(feedback.datagram / self.rate, 0.125) + self._noise
        first = min(_GROWTH[0], 1.0 + _PROBE_QUEUE / (round_trip + self._interval))
        growth = _GROWTH[min(self._streak, 2)] if free and self._streak else first
        self._better = 1.0 + 0.4 * (min(growth, _GROWTH[0]) - 1.0)
        self.rate = min(self.ceiling, growth * self.rate)
        self._streak += 1
        self._round_end = now + round_trip + 0.25


def _share(queue: float, limit: float) -> float:
    """What of the link's rate to use while a queue of so many seconds empties."""
    return min(max(1.0 - (queue - limit / 2) / _DRAIN_SECONDS, 0.25), 0.9)


def _bounded(rate: float, top: float) -> float:
    return min(max(rate, 1.0), top)
