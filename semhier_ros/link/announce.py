"""When a stream's description is told and asked for, whatever transport carries it: told at once, again .5 and 2 s
later, then every 10 s; asked for at first sight of a camera, then 0.3 to 5 s apart."""

from __future__ import annotations

INFO_SECONDS = 10.0
_INFO_FIRST = (0.5, 1.5)
_QUERY_FIRST = 0.3
_QUERY_LAST = 5.0


class Announcements:
    """A sender's descriptions by camera, and when each is due. Not thread-safe beyond what a dict is."""

    def __init__(self) -> None:
        self._infos: dict[str, bytes] = {}
        self._steps: dict[str, int] = {}
        self._next: dict[str, float] = {}

    def set(self, camera: str, info: bytes, anew: bool = True) -> None:
        """`info` is what to tell of `camera` from now on; `anew` tells it at once, else when it is due anyway."""
        anew = anew or camera not in self._infos
        self._infos[camera] = info
        if anew:
            self._steps[camera], self._next[camera] = 0, 0.0

    def restart(self) -> None:
        """A receiver arrived: everything is told to it at once."""
        for camera in list(self._infos):
            self._steps[camera], self._next[camera] = 0, 0.0

    def get(self, camera: str) -> bytes | None:
        """What is told of a camera, None where nothing is."""
        return self._infos.get(camera)

    @property
    def cameras(self) -> list[str]:
        """Every camera that something is told of."""
        return list(self._infos)

    def next_due(self, now: float) -> float | None:
        """When the next is due (not before `now`), None while there is none."""
        return max(now, min(self._next.values())) if self._next else None

    def due(self, now: float) -> list[tuple[str, bytes]]:
        """(camera, description) of what is to be told at `now`; each is taken to be told."""
        found = []
        for camera, info in list(self._infos.items()):
            if now >= self._next[camera]:
                step = self._steps[camera]
                self._steps[camera] = step + 1
                self._next[camera] = now + (_INFO_FIRST[step] if step < len(_INFO_FIRST) else INFO_SECONDS)
                found.append((camera, info))
        return found


class QueryTimes:
    """When a receiver asks for a camera's description while it has none."""

    __slots__ = ("_next", "_wait")

    def __init__(self, now: float) -> None:
        self._next, self._wait = now, _QUERY_FIRST

    def due(self, now: float) -> bool:
        """Whether to ask now; the next question is put off further each time."""
        if now < self._next:
            return False
        self._next = now + self._wait
        self._wait = min(2.0 * self._wait, _QUERY_LAST)
        return True
