"""When a receiver asks for more of a frame: only where its reading is uncertain, never often, never twice."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from semhier_ros.codec.reading import Detection

_REMEMBERED = 256


class Seen(NamedTuple):
    """An object as the policy sees it: the score of its coarsest name, the score of its finest known one as a share of
    that, and its height as a share of the picture's.
    """

    score: float
    certainty: float
    height: float

    @classmethod
    def of(cls, detections: Iterable[Detection], height: int) -> list[Seen]:
        """The objects of a reading; `height` of the picture in pixels."""
        named = (item for item in detections if item.scores)
        return [
            cls(item.scores[0], item.scores[-1] / max(item.scores[0], 1e-9), (item.box[3] - item.box[1]) / height)
            for item in named
        ]


class AskPolicy:
    """Decides from the objects of a reading.

    `below`: an object is uncertain when its certainty is below it (0 to 1). `finest`: the block up to which a frame is
    asked for (0 to 15). `per_second`: requests at most (0.1 to 20). `above`, `near`: objects of a lower score or a
    smaller height are not worth a question (0 to 1). Raises ValueError naming field, value and range.
    """

    def __init__(self, below: float, finest: int, per_second: float, *, above: float = 0.0, near: float = 0.0) -> None:
        if not 0.0 <= below <= 1.0:
            raise ValueError(f"below must be 0 to 1, not {below}")
        if not 0 <= finest <= 15:
            raise ValueError(f"finest must be 0 to 15, not {finest}")
        if not 0.1 <= per_second <= 20.0:
            raise ValueError(f"per_second must be 0.1 to 20, not {per_second}")
        for name, value in (("above", above), ("near", near)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} must be 0 to 1, not {value}")
        self._above, self._near = above, near
        self._below, self._finest, self._per_second = below, finest, per_second
        self._times: deque[float] = deque()
        self._asked: OrderedDict[tuple[str, int], None] = OrderedDict()
        self.asked = 0
        self.held_back = 0

    @property
    def finest(self) -> int:
        """The block up to which frames are asked for."""
        return self._finest

    def uncertain(self, objects: Sequence[Seen]) -> bool:
        """Whether some object is worth a question."""
        above, near, below = self._above, self._near, self._below
        return any(item.score >= above and item.height >= near and item.certainty < below for item in objects)

    def wants(self, camera: str, frame: int, prefix: int, objects: Sequence[Seen], now: float) -> bool:
        """Whether to ask for more of a frame of which blocks 0..`prefix` are read; `now`: monotonic seconds."""
        if prefix >= self._finest or not self.uncertain(objects):
            return False
        key = (camera, frame)
        if key in self._asked:
            return False
        while self._times and now - self._times[0] >= 1.0 / self._per_second:
            self._times.popleft()
        if self._times:
            self.held_back += 1
            return False
        self._times.append(now)
        self._asked[key] = None
        while len(self._asked) > _REMEMBERED:
            self._asked.popitem(last=False)
        self.asked += 1
        return True
