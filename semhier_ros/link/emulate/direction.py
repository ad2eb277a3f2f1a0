"""One direction of a link in any clock: what becomes of a datagram that is offered at a given time.

`LinkEmulator` runs two of these in real time; evaluations run them over virtual time:

    way = LinkDirection("up", parse_link("64kbit,50ms,5%"))
    arrivals, cause = way.pass_through(size, now)        # now: seconds since the link began, never decreasing
"""

from __future__ import annotations

import heapq
import random
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from typing import Any

from semhier_ros.link.emulate.profile import TRACE_BYTES, LinkProfile

CAUSES = ("queue", "loss", "outage")
NEVER = float("inf")


@dataclass(slots=True)
class DirectionCounters:
    """What one direction saw: datagrams and IP bytes offered, delivered and dropped by cause."""

    offered: int = 0
    offered_bytes: int = 0
    delivered: int = 0
    delivered_bytes: int = 0
    duplicated: int = 0
    reordered: int = 0
    dropped_queue: int = 0
    dropped_loss: int = 0
    dropped_outage: int = 0

    @property
    def dropped(self) -> int:
        """Datagrams that never arrived, all causes."""
        return self.dropped_queue + self.dropped_loss + self.dropped_outage


class LinkDirection:
    """The state of one direction: when the link is free, whether a burst of losses runs, what was counted.

    `name`: with the profile's seed it decides the random numbers, so that the two directions of a link differ.
    `profile` may be replaced at any time; random numbers go on. `delivered` of the counters is the caller's to count.
    """

    def __init__(self, name: str, profile: LinkProfile) -> None:
        self.name = name
        self.counters = DirectionCounters()
        self.busy_until = 0.0
        self.last_delivery = 0.0
        self.random = random.Random(f"{profile.seed}/{name}")
        self.bad = False
        self._profile = profile
        self._queue: deque[tuple[float, int]] = deque()
        self._queued = 0
        self._opportunity = -1
        self._left = 0

    @property
    def profile(self) -> LinkProfile:
        """What the direction does now."""
        return self._profile

    @profile.setter
    def profile(self, profile: LinkProfile) -> None:
        if profile.trace != self._profile.trace:
            self.restart_trace()
        self._profile = profile

    def restart_trace(self) -> None:
        """Forgets how far the trace was used: the caller's `start` changed."""
        self._opportunity, self._left = -1, 0

    def begin_anew(self) -> None:
        """A run begins: the next datagram meets the fate that the first one of a new direction would meet."""
        self.random, self.bad = random.Random(f"{self._profile.seed}/{self.name}"), False
        self.restart_trace()

    def lost(self) -> bool:
        """The fate of the next datagram on the way, by the Gilbert-Elliott model (good: none lost, bad: all lost)."""
        profile = self._profile
        draw = self.random.random()
        if profile.loss <= 0.0:
            return False
        if profile.loss >= 1.0:
            return True
        if profile.burst <= 1.0:
            return draw < profile.loss
        leave = 1.0 / profile.burst
        enter = leave * profile.loss / (1.0 - profile.loss)
        self.bad = draw >= leave if self.bad else draw < enter
        return self.bad

    def pass_through(self, size: int, now: float, start: float = 0.0) -> tuple[list[float], str]:
        """When a datagram of `size` IP bytes that arrives at `now` is delivered (none, once or twice), and the cause
        if not.

        `now`: seconds of any clock, not decreasing. `start`: that clock when the link began (outages, steps and traces
        count from there). The times returned are of the same clock.
        """
        profile, counters = self._profile, self.counters
        counters.offered += 1
        counters.offered_bytes += size
        elapsed = now - start
        if any(begin <= elapsed < end for begin, end in profile.outages):
            counters.dropped_outage += 1
            return [], "outage"
        sent = now
        if profile.trace or profile.rate_at(elapsed):
            if self.backlog(now) + size > profile.queue_limit_at(elapsed):
                counters.dropped_queue += 1
                return [], "queue"
            begin = max(now, self.busy_until) - start
            sent = start + (self._by_trace(size, begin) if profile.trace else self._by_rate(size, begin))
            self.busy_until = sent
            self._queue.append((sent, size))
            self._queued += size
        lost = self.lost()
        jitter = profile.jitter_s * self.random.random()
        swap = self.random.random() < profile.reorder
        twice = self.random.random() < profile.duplicate
        if lost:
            counters.dropped_loss += 1
            return [], "loss"
        arrival = sent + profile.delay_s + jitter
        if swap:
            arrival += max(0.005, profile.delay_s / 2)
            counters.reordered += 1
        else:
            arrival = self.last_delivery = max(arrival, self.last_delivery)
        if twice:
            counters.duplicated += 1
            return [arrival, arrival], ""
        return [arrival], ""

    def backlog(self, now: float) -> float:
        """Bytes that wait for the link or are on their way into it."""
        queue = self._queue
        while queue and queue[0][0] <= now:
            self._queued -= queue.popleft()[1]
        if not queue:
            return 0.0
        first_end, first = queue[0]
        begun = len(queue) == 1 or not self._profile.trace
        rate = self._profile.rate_at(0.0) if not self._profile.steps else 0.0
        if begun and rate and not self._profile.trace:
            return self._queued - first + min(first, (first_end - now) * rate / 8)
        return self._queued

    def _by_rate(self, size: int, begin: float) -> float:
        """When `size` bytes have left that begin to leave at `begin`, over the steps of the rate (link seconds)."""
        bits = size * 8.0
        profile = self._profile
        if not profile.steps:
            return begin + bits / profile.rate_bps
        while True:
            rate, until = profile.rate_at(begin), profile.next_step(begin)
            if not rate:
                return begin
            if until == NEVER or bits <= (until - begin) * rate:
                return begin + bits / rate
            bits -= (until - begin) * rate
            begin = until

    def _by_trace(self, size: int, begin: float) -> float:
        """The same over a trace of delivery opportunities: each lets 1,500 bytes go, what is not used is gone."""
        trace = self._profile.trace
        period = max(trace[-1], 1)
        count = len(trace)

        def time_of(opportunity: int) -> float:
            rounds, place = divmod(opportunity, count)
            return (rounds * period + trace[place]) / 1000.0

        if self._opportunity < 0 or begin > time_of(self._opportunity) + 1e-9:
            rounds, rest = divmod(begin * 1000.0, period)
            self._opportunity, self._left = int(rounds) * count + bisect_right(trace, rest - 1e-6), TRACE_BYTES
        while size > self._left:
            size -= self._left
            self._opportunity, self._left = self._opportunity + 1, TRACE_BYTES
        self._left -= size
        return max(begin, time_of(self._opportunity))


class VirtualLink:
    """A direction with what is on its way, for a clock of the caller's own: nothing here waits or looks at a clock.

    `send(payload, size, now)` offers a datagram; `arrivals(now)` gives what has arrived by then, in order, as
    (time, payload); `next_arrival` says when to ask next. Counts deliveries in `direction.counters`.
    """

    def __init__(self, profile: LinkProfile, name: str = "up", start: float = 0.0) -> None:
        self.direction = LinkDirection(name, profile)
        self._start = start
        self._flying: list[tuple[float, int, int, Any]] = []
        self._order = 0

    @property
    def counters(self) -> DirectionCounters:
        """The direction's counters."""
        return self.direction.counters

    @property
    def next_arrival(self) -> float | None:
        """When the next datagram arrives, None when none is on its way."""
        return self._flying[0][0] if self._flying else None

    def send(self, payload: Any, size: int, now: float) -> str:
        """Offers a datagram of `size` IP bytes at `now`; returns why it is lost, "" when it will arrive."""
        arrivals, cause = self.direction.pass_through(size, now, self._start)
        for arrival in arrivals:
            self._order += 1
            heapq.heappush(self._flying, (arrival, self._order, size, payload))
        return cause

    def arrivals(self, now: float) -> list[tuple[float, Any]]:
        """(time, payload) of everything that has arrived by `now` and was not given before."""
        found = []
        while self._flying and self._flying[0][0] <= now:
            arrival, _, size, payload = heapq.heappop(self._flying)
            self.direction.counters.delivered += 1
            self.direction.counters.delivered_bytes += size
            found.append((arrival, payload))
        return found
