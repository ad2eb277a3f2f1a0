"""What the receiver knows of a frame after some prefix of its blocks."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Detection:
    """One object. `id` is the same from the coarse to the fine reading of one frame.

    box: x0, y0, x1, y1 in pixels of the source picture. path: node index at level 0, 1, … as deep as known. names: the
    nodes' names. scores: calibrated probability that an object of that node is there, one per level of the path.
    others: for each level of the path, what else it may be: (node index, calibrated probability), likeliest first, only
    what is worth mentioning. An object that the sender's budget passed over keeps a shorter path than its reading.
    velocity: of its centre, pixels/s, where the sender told it. said: the score that the sender's detector gave it, as
    far as it was told (0..1): how likely that detector sees it again, where `scores` say how likely it is there.
    """

    id: int
    box: tuple[float, float, float, float]
    path: tuple[int, ...]
    names: tuple[str, ...]
    scores: tuple[float, ...]
    others: tuple[tuple[tuple[int, float], ...], ...] = ()
    velocity: tuple[float, float] | None = None
    said: float | None = None

    def others_at(self, level: int) -> tuple[tuple[int, float], ...]:
        """What else it may be at `level`, or at the deepest level known above it."""
        deepest = min(level, len(self.path) - 1)
        return self.others[deepest] if deepest < len(self.others) else ()

    def down_to(self, level: int) -> Detection:
        """The same object as it is known at `level`: paths, names and scores cut there."""
        end = level + 1
        if len(self.path) <= end:
            return self
        others = self.others[:end]
        return replace(self, path=self.path[:end], names=self.names[:end], scores=self.scores[:end], others=others)


@dataclass(frozen=True, slots=True)
class Reading:
    """The answer about one frame from its blocks 0..prefix.

    level: the deepest level named. detections: empty where nothing is there. payload_bytes: entropy-coded bytes of the
    blocks used. fresh: whether the block just pushed moved the reading.
    """

    frame: int
    prefix: int
    level: int
    detections: tuple[Detection, ...]
    payload_bytes: int
    fresh: bool


@dataclass(frozen=True, slots=True)
class TrackedObject:
    """One object of a `Scene`. `id` is the same for as long as the object is followed.

    box: x0, y0, x1, y1, where it is at the scene's time, in pixels of the source picture and within it. velocity: of
    its centre, pixels/s. covariance: of its centre, xx, xy, yy in pixels², growing while nothing is heard of it;
    velocity_covariance: of its velocity, in (pixels/s)². age:
    seconds since a frame last showed it; since: seconds since one first did. path, names: as in `Detection`, as deep as
    any reading of it told. scores: probability that the detector would see an object of each of these names there, with
    an overlap of one half: what it sees again and again is sure to be seen, however little it believes in it.
    existence: probability that the object is real and still there, from what readings said on average.
    """

    id: int
    box: tuple[float, float, float, float]
    velocity: tuple[float, float]
    covariance: tuple[float, float, float]
    velocity_covariance: tuple[float, float, float]
    age: float
    since: float
    path: tuple[int, ...]
    names: tuple[str, ...]
    scores: tuple[float, ...]
    existence: float


@dataclass(frozen=True, slots=True)
class Scene:
    """What a camera sees at one instant, foretold from all readings that came.

    stamp_ns: the instant, on the clock of the frames' stamps. read_ns: stamp of the newest frame that was read, None
    before the first. camera_velocity: pixels/s that the camera's own turning gives to the whole picture.
    """

    stamp_ns: int
    read_ns: int | None
    objects: tuple[TrackedObject, ...]
    camera_velocity: tuple[float, float]
