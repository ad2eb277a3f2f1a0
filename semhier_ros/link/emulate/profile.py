"""What a link does to datagrams, and the short text form of it: `64kbit,50ms,5%,burst4,jitter10ms,queue8kB`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

_RATE_UNITS = {"bit": 1.0, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
_TIME_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_SIZE_UNITS = {"": 1, "b": 1, "kb": 1000, "mb": 1_000_000}
_NUMBER = r"(\d+(?:\.\d+)?|\.\d+)"
_OPTIONS = ("burst", "jitter", "queue", "reorder", "duplicate", "outage", "step", "trace", "seed")
TRACE_BYTES = 1500
"""What one line of a Mahimahi trace lets go (bytes)."""
_LONGEST_TRACE = 2_000_000


@dataclass(frozen=True, slots=True)
class LinkProfile:
    """One direction of a link.

    `rate_bps`: bits per second on IP, 0 for unlimited (else 100 to 1e11). `delay_s`: one way, after the queue (0 to
    60). `jitter_s`: up to this much is added to the delay, uniformly, order kept (0 to 60). `loss`: share of datagrams
    lost on the way, after they used the link (0 to 1). `burst`: mean length of a run of losses in datagrams, by a
    Gilbert-Elliott model with the same overall `loss` (1 to 1000; 1 is independent loss). `queue_bytes`: what may wait
    for the link; more is dropped on arrival (100 to 1e9; 0 stands for a quarter of a second of the link, at least 3,000
    bytes). `reorder`: share of datagrams that skip jitter's order and are delivered `delay_s / 2` (at least 5 ms) later
    (0 to 1). `duplicate`: share that arrives twice (0 to 1). `outages`: (start, end) in seconds since the emulator
    started; nothing passes within. `seed`: of the random numbers; the same datagrams meet the same fate. Raises
    ValueError naming field, value and range.
    """

    rate_bps: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    burst: float = 1.0
    queue_bytes: int = 0
    reorder: float = 0.0
    duplicate: float = 0.0
    outages: tuple[tuple[float, float], ...] = ()
    steps: tuple[tuple[float, float], ...] = ()
    trace: tuple[int, ...] = ()
    seed: int = 0

    @property
    def without_events(self) -> LinkProfile:
        """The link as it is at first, for ever: no steps, no outages."""
        return replace(self, steps=(), outages=())

    def __post_init__(self) -> None:
        if self.rate_bps != 0 and not 100 <= self.rate_bps <= 1e11:
            raise ValueError(f"rate must be 0 (unlimited) or 100 to 1e11 bit/s, not {self.rate_bps:g}")
        for name, value in (("delay", self.delay_s), ("jitter", self.jitter_s)):
            if not 0.0 <= value <= 60.0:
                raise ValueError(f"{name} must be 0 to 60 s, not {value:g}")
        for name, value in (("loss", self.loss), ("reorder", self.reorder), ("duplicate", self.duplicate)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} must be 0 to 100 %, not {100 * value:g} %")
        if not 1.0 <= self.burst <= 1000.0:
            raise ValueError(f"burst must be a mean length of 1 to 1000 datagrams, not {self.burst:g}")
        if self.loss < 1.0 and self.loss / (1.0 - self.loss) > self.burst:
            least = self.loss / (1.0 - self.loss)
            raise ValueError(
                f"burst must be at least {least:.3g} at a loss of {100 * self.loss:g} %, not {self.burst:g}"
            )
        if self.queue_bytes != 0 and not 100 <= self.queue_bytes <= 1_000_000_000:
            raise ValueError(f"queue must be 0 (automatic) or 100 to 1e9 bytes, not {self.queue_bytes}")
        for start, end in self.outages:
            if not 0.0 <= start < end <= 1e6:
                raise ValueError(
                    f"outage must start at 0 s or later and end after its start, not {start:g} to {end:g} s"
                )

        before = 0.0
        for when, rate in self.steps:
            if not before < when <= 1e6:
                raise ValueError(f"step must come after 0 s and after the step before it, not at {when:g} s")
            if not 100 <= rate <= 1e11:
                raise ValueError(f"step must be to 100 to 1e11 bit/s, not {rate:g}")
            before = when
        if self.trace and (self.trace[0] < 0 or self.trace[-1] < 1 or list(self.trace) != sorted(self.trace)):
            raise ValueError("trace must be milliseconds from 0 in rising order, the last at least 1")

    def queue_limit_at(self, elapsed: float) -> int:
        """The queue's bound in bytes, `elapsed` seconds after the start; unlimited rates never queue."""
        return self.queue_bytes or max(3000, int(self.rate_at(elapsed) / 8 * 0.25))

    def rate_at(self, elapsed: float) -> float:
        """Bits per second at that time, 0 for unlimited; of a trace its mean."""
        if self.trace:
            return len(self.trace) * TRACE_BYTES * 8000.0 / self.trace[-1]
        rate = self.rate_bps
        for when, changed in self.steps:
            if when > elapsed:
                break
            rate = changed
        return rate

    def next_step(self, elapsed: float) -> float:
        """When the rate changes next after that time, infinity when it does not."""
        return next((when for when, _ in self.steps if when > elapsed), float("inf"))


def read_trace(path: str | Path) -> tuple[int, ...]:
    """The delivery opportunities of a file in Mahimahi's format: a millisecond a line, rising.

    Raises ValueError naming the line when it holds anything else, or when there are more than 2,000,000 lines.
    """
    found: list[int] = []
    with Path(path).open(encoding="ascii", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            text = line.strip()
            if not text:
                continue
            if not text.isdigit() or len(text) > 12 or (found and int(text) < found[-1]):
                raise ValueError(f"trace {path}, line {number}: {text[:20]!r}, expected rising whole milliseconds")
            if number > _LONGEST_TRACE:
                raise ValueError(f"trace {path} has more than {_LONGEST_TRACE} lines")
            found.append(int(text))
    if not found or found[-1] < 1:
        raise ValueError(f"trace {path} holds no delivery opportunity after 0 ms")
    return tuple(found)


def parse_link(text: str) -> LinkProfile:
    """The profile that `text` names: rate, one-way delay and loss in this order, then options in any order, by commas.

    Example: `64kbit,50ms,5%,burst4,jitter10ms,queue8kB,reorder1%,duplicate1%,outage20s@30s,seed3`. Rates: bit, kbit,
    Mbit, Gbit, or `unlimited`. `step32kbit@10s` changes the rate at a time, `trace=FILE` reads a Mahimahi trace.
    Times: us, ms, s. Sizes: B, kB (1000 bytes), MB. Delay and loss may be left out. Raises
    ValueError naming the field, what was read and what is allowed.
    """
    parts = [part.strip() for part in text.split(",")]
    if not parts or not parts[0]:
        raise ValueError("link must start with a rate, as in 64kbit,50ms,5%; it is empty")
    profile = LinkProfile(rate_bps=_rate(parts[0]))
    for place, part in enumerate(parts[1:], start=2):
        profile = _with(profile, part, place)
    return profile


def _with(profile: LinkProfile, part: str, place: int) -> LinkProfile:
    option = next((name for name in _OPTIONS if part.lower().startswith(name)), None)
    if option is not None:
        return _with_option(profile, option, part[len(option) :].lstrip("="))
    if part.endswith("%"):
        return replace(profile, loss=_share("loss", part))
    if re.fullmatch(_NUMBER + r"\s*(us|ms|s)", part.lower()):
        return replace(profile, delay_s=_time("delay", part))
    raise ValueError(
        f"part {place} of a link must be a delay (50ms), a loss (5%) or one of {', '.join(_OPTIONS)}, not {part!r}"
    )


def _with_option(profile: LinkProfile, option: str, value: str) -> LinkProfile:
    if option == "burst":
        return replace(profile, burst=_plain("burst", value))
    if option == "jitter":
        return replace(profile, jitter_s=_time("jitter", value))
    if option == "queue":
        return replace(profile, queue_bytes=_size("queue", value))
    if option == "reorder":
        return replace(profile, reorder=_share("reorder", value))
    if option == "duplicate":
        return replace(profile, duplicate=_share("duplicate", value))
    if option == "trace":
        try:
            return replace(profile, trace=read_trace(value))
        except OSError as error:
            raise ValueError(f"trace {value}: {error.strerror}") from error
    if option == "step":
        rate, at, when = value.partition("@")
        if not at:
            raise ValueError(f"step must look like step32kbit@10s (rate@time), not step{value}")
        return replace(profile, steps=(*profile.steps, (_time("step", when), _rate(rate))))
    if option == "seed":
        return replace(profile, seed=int(_plain("seed", value)))
    length, at, start = value.partition("@")
    if not at:
        raise ValueError(f"outage must look like outage20s@30s (length@start), not outage{value}")
    begin = _time("outage start", start)
    return replace(profile, outages=(*profile.outages, (begin, begin + _time("outage length", length))))


def _rate(text: str) -> float:
    if text.lower() in ("unlimited", "0"):
        return 0.0
    return _measure("rate", text, _RATE_UNITS, "bit/s in bit, kbit, Mbit or Gbit (64kbit), or unlimited")


def _time(field: str, text: str) -> float:
    return _measure(field, text, _TIME_UNITS, "a time in us, ms or s (50ms)")


def _size(field: str, text: str) -> int:
    return int(_measure(field, text, _SIZE_UNITS, "a size in B, kB or MB (8kB)"))


def _share(field: str, text: str) -> float:
    return _measure(field, text, {"%": 0.01}, "a share in % (5%)")


def _plain(field: str, text: str) -> float:
    return _measure(field, text, {"": 1.0}, "a number")


def _measure(field: str, text: str, units: dict[str, float] | dict[str, int], allowed: str) -> float:
    found = re.fullmatch(_NUMBER + r"\s*([a-zA-Z%]*)", text.strip())
    unit = found.group(2).lower() if found else ""
    if found is None or unit not in units:
        raise ValueError(f"{field} must be {allowed}, not {text!r}")
    return float(found.group(1)) * units[unit]
