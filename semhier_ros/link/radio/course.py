"""Whether a frame goes with those before it: where a check of 16 bits is all that proves it, noise that the check lets
through mostly names a number and a stamp that no frame can have now.

What is known without a byte: a stream's numbers and stamps grow together, at most `RATE` frames a second; a frame that
came before has the stamp that it had; none is younger when it comes than any was before, but for some slack; and blocks
of a frame whose block 0 did not come lie close to one that did. A sender whose clock or numbers jumped is believed once
two of its frames that come soon after one another go together (`DOUBTED`), so it costs one frame. So does a queue that
held all frames up and is gone.

No clock and no thread here.
"""

from __future__ import annotations

from semhier_ros.codec.compact import STAMP_UNIT_NS

KEPT = 64
"""Frames whose stamps are known: those that came last, and the newest."""
RATE = 250.0
"""Frames a second at most."""
NEAR = 8
"""How far ahead of the newest with a stamp a frame may be that tells none."""
SLACK_SECONDS = (2.0, 0.3)
"""How much younger than any before a frame may be: at first, and once `SETTLED` came."""
SETTLED = 16
CREEP = 0.001
"""Seconds a second that the two clocks may part."""
DOUBTED = 16
"""Frames, right or wrong, within which a second one that goes with a doubted one must come."""
FRAMES = 0x10000
_UNIT = STAMP_UNIT_NS / 1e9


def ahead(number: int, of: int) -> int:
    """How many frames `number` lies ahead of another, -32,768 to 32,767."""
    return (number - of + FRAMES // 2) % FRAMES - FRAMES // 2


class Course:
    """Numbers and stamps (units of 8 ms) of the frames of one stream, as they came."""

    __slots__ = ("_doubted", "_least", "_newest", "_noted", "_stamps", "_told")

    def __init__(self) -> None:
        self._stamps: dict[int, int] = {}
        self._newest = 0
        self._least: tuple[float, float] | None = None
        self._told = 0
        self._doubted: tuple[int, int, int] | None = None
        self._noted = 0

    def arrived(self) -> None:
        """Some frame came, whatever it is."""
        self._noted += 1

    def begin(self) -> None:
        """Another sender, or another clock: nothing is known."""
        self._stamps.clear()
        self._least, self._told, self._doubted = None, 0, None

    def likely(self, number: int, stamp: int | None, now: float) -> bool:
        """Whether a frame of this number (16 bits) and stamp (units of 8 ms, None: it tells none) can come at `now`
        (s); what it tells is kept if so."""
        if stamp is None:
            return not self._stamps or ahead(number, self._newest) <= NEAR
        if self._stamps and not self._fits(number, stamp, now):
            if not self._again(number, stamp):
                self._doubted = (number, stamp, self._noted)
                return False
            self.begin()
        self._keep(number, stamp, now)
        return True

    def _fits(self, number: int, stamp: int, now: float) -> bool:
        known = self._stamps.get(number)
        if known is not None:
            return known == stamp
        if stamp * _UNIT > self._youngest(now):
            return False
        distance = ahead(number, self._newest)
        if distance > 0:
            return _steady(stamp - self._stamps[self._newest], distance)
        older = [(ahead(one, number), other) for one, other in self._stamps.items()]
        return all((stamp <= other) if place > 0 else (stamp >= other) for place, other in older)

    def _youngest(self, now: float) -> float:
        """The newest stamp (s) that a frame can have now."""
        assert self._least is not None
        least, at = self._least
        return now - least + SLACK_SECONDS[self._told >= SETTLED] + CREEP * (now - at)

    def _again(self, number: int, stamp: int) -> bool:
        """Whether it goes with the one that was doubted last."""
        if self._doubted is None or self._noted - self._doubted[2] > DOUBTED:
            return False
        distance, apart = ahead(number, self._doubted[0]), stamp - self._doubted[1]
        return apart == 0 if distance == 0 else 0 < distance <= KEPT and _steady(apart, distance)

    def _keep(self, number: int, stamp: int, now: float) -> None:
        age = now - stamp * _UNIT
        if self._least is None or age <= self._least[0] + CREEP * (now - self._least[1]):
            self._least = (age, now)
        self._told, self._doubted = self._told + 1, None
        if not self._stamps or ahead(number, self._newest) > 0:
            self._newest = number
        self._stamps[number] = stamp
        if len(self._stamps) > KEPT:
            del self._stamps[next(one for one in self._stamps if one != self._newest)]


def _steady(apart: int, frames: int) -> bool:
    """Whether stamps so far apart can be those of numbers so far apart."""
    return apart >= 0 and (apart + 1) * _UNIT * RATE >= frames
