"""How often coarse blocks are repeated, and how far apart, from what the link was seen to lose.

Losses are taken to follow the model of Gilbert (1960): runs of mean length L, overall share p. Two datagrams n apart
are then both lost with probability p * (p + (1 - p) * c^n), c = 1 - 1/L - p / ((1 - p) L): repeats far enough apart
meet fates of their own. A copy needs no other to be read, so it repairs a frame alone; a parity over several frames
would be shorter, but on a thin link most of a datagram that small is headers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

MOST_REPEATS = 3
LEAST_GAP, LARGEST_GAP = 0.020, 0.200
"""Seconds between copies."""
TARGET = 0.005
"""The share of frames whose coarse block may stay lost."""
SHARE = 0.7
"""What coarse blocks with their repeats may take of the rate."""
_INDEPENDENT = 0.2
_HALF_LIFE = 150.0
_PRIOR = 20.0
_PRIOR_RUNS = 2.0
_LONGEST_BURST = 16.0


@dataclass(frozen=True, slots=True)
class RepairPlan:
    """`repeats`: further copies of a coarse block (0 to 3). `gap`: seconds between copies. `names`: whether names ride
    in the first of them."""

    repeats: int = 1
    gap: float = 0.030
    names: bool = True


def residual_loss(loss: float, burst: float, apart: float, copies: int) -> float:
    """The share of blocks of which all `copies` are lost, sent `apart` datagrams from each other."""
    if loss <= 0.0:
        return 0.0
    if loss >= 1.0:
        return 1.0
    memory = max(0.0, 1.0 - 1.0 / burst - loss / ((1.0 - loss) * burst))
    again = loss + (1.0 - loss) * memory**apart
    return loss * again ** (copies - 1)


def plan(loss: float, burst: float, datagrams_per_second: float, most: int = MOST_REPEATS) -> RepairPlan:
    """The fewest repeats (at most `most`) that leave no more than 0.5 % of the coarse blocks lost.

    `loss`: share of datagrams (0 to 1). `burst`: mean run of losses (1 and more). `datagrams_per_second`: what the
    sender puts on the link, which turns a distance in datagrams into a gap in seconds.
    """
    loss = min(max(loss, 0.0), 0.95)
    burst = max(burst, 1.0 / (1.0 - loss))
    memory = max(0.0, 1.0 - 1.0 / burst - loss / ((1.0 - loss) * burst))
    apart = 1.0 if memory <= _INDEPENDENT else math.log(_INDEPENDENT) / math.log(memory)
    gap = min(max(apart / max(datagrams_per_second, 1.0), LEAST_GAP), LARGEST_GAP)
    repeats = 0
    while repeats < most and residual_loss(loss, burst, apart, 1 + repeats) > TARGET:
        repeats += 1
    return RepairPlan(repeats, gap)


class LossMeter:
    """Loss and mean run of losses, from what receivers report; older datagrams count for less (half after 150).

    Before anything is known it says 2 %, so that the first coarse blocks are already repeated.
    """

    def __init__(self) -> None:
        self._received = _PRIOR * 0.98
        self._lost = _PRIOR * 0.02
        self._runs = _PRIOR * 0.02

    @property
    def loss(self) -> float:
        """Share of datagrams lost, 0 to 1."""
        return self._lost / (self._received + self._lost)

    @property
    def burst(self) -> float:
        """Mean run of losses in datagrams, at least 1."""
        return min((self._lost + _PRIOR_RUNS) / (self._runs + _PRIOR_RUNS), _LONGEST_BURST)

    def add(self, received: int, lost: int, runs: int) -> None:
        """Counts what one report adds."""
        kept = 0.5 ** ((received + lost) / _HALF_LIFE)
        self._received = self._received * kept + received
        self._lost = self._lost * kept + lost
        self._runs = self._runs * kept + min(runs, lost)
