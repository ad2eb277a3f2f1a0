"""The byte budget: a token bucket over wire bytes, shares of it and limits for what others ask for, and a rolling sum
for what was used."""

from __future__ import annotations

from collections import deque


class TokenBucket:
    """Grants departures so that over any window of T seconds at most `rate * T` plus one datagram leave.

    `rate`: wire bytes per second, None or 0 for no limit. `depth`: the size of that one datagram (wire bytes): the
    bucket never holds more, and a departure needs as many tokens as it has bytes. A datagram larger than `depth` goes
    when the bucket is full and leaves it in debt, which keeps the rule with that datagram as the one.
    """

    __slots__ = ("_depth", "_rate", "_time", "_tokens")

    def __init__(self, rate: float | None, depth: float) -> None:
        self._rate = rate or None
        self._depth = depth
        self._tokens = depth
        self._time: float | None = None

    @property
    def rate(self) -> float | None:
        """Wire bytes per second, None for no limit."""
        return self._rate

    def _advance(self, now: float) -> None:
        if self._time is None:
            self._time = now
        elif now > self._time:
            if self._rate is not None:
                self._tokens = min(self._depth, self._tokens + (now - self._time) * self._rate)
            self._time = now

    def set(self, rate: float | None, depth: float, now: float) -> None:
        """Changes rate and depth from `now` on; what was earned stays earned, up to the new depth."""
        self._advance(now)
        self._rate = rate or None
        self._depth = depth
        self._tokens = min(self._tokens, depth)

    def ready_at(self, size: float, now: float) -> float:
        """The earliest time, not before `now`, at which `size` wire bytes may leave."""
        self._advance(now)
        if self._rate is None:
            return now
        missing = min(size, self._depth) - self._tokens
        return now if missing <= 1e-6 else now + missing / self._rate

    def spend(self, size: float, now: float) -> None:
        """Takes `size` wire bytes that leave at `now`."""
        self._advance(now)
        if self._rate is not None:
            self._tokens -= size

    def owe(self, size: float, most: float, now: float) -> None:
        """Takes `size` wire bytes that leave at `now` whether they fit or not: at most `most` are owed after that, so
        that whoever makes somebody send cannot make what waits stand still for long."""
        self._advance(now)
        if self._rate is not None:
            self._tokens = max(self._tokens - size, min(self._tokens, -most))

    def left(self, size: float, now: float) -> None:
        """The `size` wire bytes spent last left only `now`: what a full bucket has then is what they leave of it."""
        self._advance(now)
        self._tokens = min(self._tokens, self._depth - size)


class Share:
    """What leaves beside datagrams and before them may take `share` of a rate, and one message each `pause` seconds
    however small that is. What nobody took is kept for one pause: two messages may come at once."""

    __slots__ = ("_pause", "_share", "_taken")

    def __init__(self, share: float, pause: float) -> None:
        self._share, self._pause = share, pause
        self._taken = float("-inf")

    def free(self, now: float) -> bool:
        """Whether a message may leave at `now` (seconds)."""
        return self._taken - now < self._pause

    def took(self, size: float, rate: float | None, now: float) -> None:
        """One of `size` wire bytes left at `now`, with a rate of `rate` wire bytes per second (None: no limit)."""
        if rate is not None:
            self._taken = max(self._taken, now) + min(size / (self._share * rate), self._pause)


class PerSecond:
    """Lets at most `most` of something through in any second."""

    __slots__ = ("_times",)

    def __init__(self, most: int) -> None:
        self._times: deque[float] = deque(maxlen=most)

    def take(self, now: float) -> bool:
        """Whether one more may pass at `now` (seconds); then it counts."""
        times = self._times
        if len(times) == times.maxlen and now - times[0] < 1.0:
            return False
        times.append(now)
        return True


class RollingSum:
    """The sum of what was added over the last second, in twenty bins: constant memory at any rate."""

    __slots__ = ("_bins", "_last", "_total", "_width")

    def __init__(self, window: float = 1.0, bins: int = 20) -> None:
        self._width = window / bins
        self._bins = [0] * bins
        self._last: int | None = None
        self._total = 0

    def _advance(self, now: float) -> int:
        bins = self._bins
        current = int(now / self._width)
        if self._last is None:
            self._last = current
        elif current > self._last:
            for step in range(min(current - self._last, len(bins))):
                place = (current - step) % len(bins)
                self._total -= bins[place]
                bins[place] = 0
            self._last = current
        return current % len(bins)

    def add(self, amount: int, now: float) -> None:
        """Adds `amount` at time `now` (seconds)."""
        current = int(now / self._width)
        place = current % len(self._bins) if current == self._last else self._advance(now)
        self._bins[place] += amount
        self._total += amount

    def total(self, now: float) -> int:
        """What was added within the window that ends at `now`."""
        self._advance(now)
        return self._total
