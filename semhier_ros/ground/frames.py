"""A tree of coordinate frames, as TF tells them, and where one frame was in another at a time. No ROS in here.

For what runs beside ROS or before it (replays of bags, a base without tf2) and for a node that must not wait: a look-up
answers at once, or says what is missing, unknown or late.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from semhier_ros.ground.lens import Floats, GroundError
from semhier_ros.ground.mount import rotation_of

MOST_FRAMES, MOST_DEPTH, MOST_KEPT = 1000, 64, 2000
SECOND = 1_000_000_000
SET_BACK_NS = 2 * SECOND  # a stamp so far behind the newest of its frame says that the clock was set


class TransformError(GroundError):
    """A transform that cannot be told: `kind` is `unknown` (a frame or a link of the chain never came) or `late` (it
    is not known yet, or no longer, for the time asked)."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass
class _Link:
    """How a frame stands in its parent: fixed, or at times in ns, ascending."""

    parent: str
    fixed: tuple[Floats, Floats] | None = None
    times: list[int] = field(default_factory=list)
    poses: list[tuple[Floats, Floats]] = field(default_factory=list)


class TransformTree:
    """The frames heard of so far.

    keep_ns: how long a moving transform is remembered. max_ahead_ns: how far beyond its newest pose a moving frame is
    still taken to stand where it stood; what is asked later than that is `late`. Use from one thread.
    """

    def __init__(self, keep_ns: int = 10 * SECOND, max_ahead_ns: int = SECOND // 2) -> None:
        self._keep, self._ahead = keep_ns, max_ahead_ns
        self._links: dict[str, _Link] = {}

    def put(
        self,
        parent: str,
        child: str,
        stamp_ns: int,
        translation: Sequence[float],
        quaternion: Sequence[float],
        *,
        fixed: bool = False,
    ) -> None:
        """Takes one transform: where `child` stands in `parent` (metres; x, y, z, w). A leading slash is ignored.

        Raises:
            GroundError: it is no transform, or more frames came than anybody has.
        """
        parent, child = parent.lstrip("/"), child.lstrip("/")
        if not parent or not child or parent == child:
            raise GroundError(f"transform: from {parent!r} to {child!r}, expected two different frames")
        place = np.asarray(translation, np.float64)
        if place.shape != (3,) or not np.isfinite(place).all():
            raise GroundError(f"transform of {child}: translation {list(translation)}, expected three finite numbers")
        numbers = np.asarray(quaternion, np.float64)
        rotation_of(numbers)
        pose = (place, numbers / np.linalg.norm(numbers))
        link = self._links.get(child)
        if link is None or link.parent != parent:
            if link is None and len(self._links) >= MOST_FRAMES:
                raise GroundError(f"transform of {child}: more than {MOST_FRAMES} frames")
            link = self._links[child] = _Link(parent)
        if fixed:
            link.fixed, link.times, link.poses = pose, [], []
            return
        link.fixed = None
        if link.times and stamp_ns < link.times[-1] - min(self._keep, SET_BACK_NS):
            link.times, link.poses = [], []  # time was set back: a bag that begins anew, or a clock
        where = bisect.bisect_left(link.times, stamp_ns)
        if where < len(link.times) and link.times[where] == stamp_ns:
            link.poses[where] = pose
            return
        link.times.insert(where, stamp_ns)
        link.poses.insert(where, pose)
        oldest = bisect.bisect_left(link.times, link.times[-1] - self._keep)
        oldest = max(oldest, len(link.times) - MOST_KEPT)
        del link.times[:oldest], link.poses[:oldest]

    def look_up(self, target: str, source: str, stamp_ns: int) -> tuple[Floats, Floats]:
        """Rotation 3,3 and translation 3 that carry points of `source` into `target` at a time in ns.

        Raises:
            TransformError: the frames are not connected, or not yet at that time.
        """
        up, down = self._between(target, source)
        rotation, place = self._to(up, stamp_ns)
        back, offset = self._to(down, stamp_ns)
        return back.T @ rotation, back.T @ (place - offset)

    def newest(self, target: str, source: str) -> int | None:
        """The newest time, in ns, for which every moving frame between two is known; None where none of them moves.

        Raises:
            TransformError: the frames are not connected.
        """
        up, down = self._between(target, source)
        links = [self._links[frame] for frame in (*up, *down)]
        return min((link.times[-1] for link in links if link.times), default=None)

    def _between(self, target: str, source: str) -> tuple[list[str], list[str]]:
        """The frames from `source` and from `target` up to, not with, the one above both. Raises TransformError."""
        target, source = target.lstrip("/"), source.lstrip("/")
        up, down = self._chain(source), self._chain(target)
        common = next((frame for frame in up if frame in down), None)
        if common is None:
            for frame, chain in ((source, up), (target, down)):
                if len(chain) == 1 and frame not in {link.parent for link in self._links.values()}:
                    raise TransformError("unknown", f"TF: no transform of frame {frame!r} came")
            raise TransformError("unknown", f"TF: frames {source!r} and {target!r} are not connected")
        return up[: up.index(common)], down[: down.index(common)]

    def _chain(self, frame: str) -> list[str]:
        chain = [frame]
        while (link := self._links.get(chain[-1])) is not None:
            if link.parent in chain or len(chain) > MOST_DEPTH:
                raise TransformError("unknown", f"TF: the frames above {frame!r} go round in a circle")
            chain.append(link.parent)
        return chain

    def _to(self, frames: Sequence[str], stamp_ns: int) -> tuple[Floats, Floats]:
        """Rotation and translation from the first of `frames` to the parent of the last."""
        rotation, place = np.eye(3), np.zeros(3)
        for frame in frames:
            offset, quaternion = self._at(frame, stamp_ns)
            turn = rotation_of(quaternion)
            rotation, place = turn @ rotation, turn @ place + offset
        return rotation, place

    def _at(self, frame: str, stamp_ns: int) -> tuple[Floats, Floats]:
        link = self._links[frame]
        if link.fixed is not None:
            return link.fixed
        after = bisect.bisect_left(link.times, stamp_ns)
        if after == len(link.times):
            ahead = stamp_ns - link.times[-1]
            if ahead > self._ahead:
                raise TransformError("late", f"TF: the newest transform of {frame!r} is {ahead / SECOND:.2f} s too old")
            return link.poses[-1]
        if link.times[after] == stamp_ns:
            return link.poses[after]
        if after == 0:
            behind = (link.times[0] - stamp_ns) / SECOND
            raise TransformError("late", f"TF: the oldest transform of {frame!r} kept is {behind:.2f} s too new")
        share = (stamp_ns - link.times[after - 1]) / (link.times[after] - link.times[after - 1])
        (place, turn), (next_place, next_turn) = link.poses[after - 1], link.poses[after]
        return place + share * (next_place - place), _mixed(turn, next_turn, share)


def _mixed(one: Floats, other: Floats, share: float) -> Floats:
    """Spherical interpolation of two unit quaternions (Shoemake 1985)."""
    cosine = float(one @ other)
    if cosine < 0:
        other, cosine = -other, -cosine
    if cosine > 0.9995:
        mixed = one + share * (other - one)
    else:
        angle = np.arccos(min(cosine, 1.0))
        mixed = (np.sin((1 - share) * angle) * one + np.sin(share * angle) * other) / np.sin(angle)
    return np.asarray(mixed / np.linalg.norm(mixed))
