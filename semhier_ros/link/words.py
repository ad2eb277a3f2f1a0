"""A link's state in an operator's words: "61 kbit/s of 64 used; coarse 10.0/s on time; fine 9.8/s; pictures off; …"."""

from __future__ import annotations

from collections.abc import Sequence

from semhier_ros.link.feedback.sender_control import LinkEstimate
from semhier_ros.link.schedule.status import LevelStatus, SchedulerStatus

_BITS = 8.0 / 1000.0
LITTLE_LOSS = 0.005
NOTICED_DELAY = 0.15


def link_words(
    status: SchedulerStatus,
    before: Sequence[LevelStatus] | None,
    seconds: float,
    semantic: int,
    estimate: LinkEstimate | None,
    deltas: int | None = None,
) -> str:
    """One line about the last `seconds`.

    `before`: the levels of the status at their begin (None: all since the start counts). `semantic`: how many blocks
    are semantic. `estimate`: what reports say of the link, None where there are none.
    `deltas`: frames since then that referred to what the receiver remembers, None where there is no memory.
    """
    parts = [_used(status, estimate)]
    rates = [_rate(status.levels[index], before, index, seconds) for index in range(len(status.levels))]
    coarse = status.levels[0]
    late = coarse.causes["expired"] - (before[0].causes["expired"] if before else 0)
    fate = f"{late} too late to leave" if late else "on time" if rates[0] else "none"
    parts.append(f"coarse {rates[0]:.1f}/s {fate}" if rates[0] or late else "coarse none")
    if deltas is not None:
        parts.append(f"memory {deltas / seconds if seconds > 0.0 else 0.0:.1f}/s" if deltas else "memory unused")
    if semantic > 1 and len(rates) > 1 and not deltas:
        parts.append(f"fine {rates[semantic - 1]:.1f}/s")
    if len(rates) > semantic:
        pictures = rates[semantic]
        parts.append(f"pictures {pictures:.1f}/s" if pictures else "pictures off")
    if estimate is not None and estimate.reports:
        parts += _seen(estimate)
    elif estimate is not None and estimate.hears:
        parts.append("no word from the receiver yet")
    return "; ".join(parts)


def _used(status: SchedulerStatus, estimate: LinkEstimate | None) -> str:
    used = f"{status.used * _BITS:.0f} kbit/s"
    if estimate is not None and estimate.congested and estimate.rate is not None:
        return f"{used} used of {estimate.rate * _BITS:.0f} that the link carries now"
    if not status.budget:
        return f"{used} used, no limit"
    return f"{used} of {status.budget * _BITS:.0f} used"


def _rate(level: LevelStatus, before: Sequence[LevelStatus] | None, index: int, seconds: float) -> float:
    sent = level.sent - (before[index].sent if before else 0)
    return sent / seconds if seconds > 0.0 else 0.0


def _seen(estimate: LinkEstimate) -> list[str]:
    parts = []
    if estimate.loss < LITTLE_LOSS:
        parts.append("no loss")
    else:
        lost = f"{100 * estimate.loss:.0f} % loss"
        if estimate.burst >= 2.0:
            lost += f" in runs of {estimate.burst:.0f}"
        repeats = estimate.repair.repeats
        parts.append(f"{lost} repaired ({repeats}x)" if repeats else f"{lost}, no room to repair it")
    if estimate.queue_delay > NOTICED_DELAY:
        parts.append(f"{estimate.queue_delay * 1000:.0f} ms of queue on the way")
    if estimate.times and estimate.clock_offset is None:
        parts.append("clock offset unknown")
    return parts
