"""Where a robot is over time, from poses that come now and then: interpolated between them, led on for a moment behind
the newest. The sending end foretells in the same way, and so tells only what the other would get wrong.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from semhier_ros.codec.pose import EgoPose, PoseWriter
from semhier_ros.ground.earth import SEMI_MAJOR, Fix
from semhier_ros.ground.frames import SECOND, TransformError
from semhier_ros.ground.lens import Floats

KEPT = 64
"""Poses that are remembered."""
APART_NS = SECOND // 10
"""A velocity comes from two poses at least so far apart."""
LEAD_NS = 4 * SECOND
"""And at most so far: between poses that are farther apart nobody says how the robot moved."""


class EgoTrack:
    """Poses x, y, z, roll, pitch, yaw (metres and radians; on the earth degrees instead of metres across) by time.

    age_ns: how far behind the newest pose one is still told. Use from one thread.
    """

    def __init__(self, age_ns: int) -> None:
        self.age_ns = age_ns
        self.frame = ""
        self.sigma = 0.0
        self._times: list[int] = []
        self._poses: list[Floats] = []

    def put(self, pose: EgoPose) -> None:
        """Takes one pose. One that is `anew`, in another frame, or far back in time makes a new beginning."""
        stamp = pose.stamp_ns
        back = bool(self._times) and stamp < self._times[-1] - self.age_ns
        if pose.anew or back or pose.frame != self.frame:
            self._times, self._poses = [], []
        self.frame, self.sigma = pose.frame, pose.sigma
        numbers = np.array((*pose.place, *pose.angles))
        where = bisect.bisect_left(self._times, stamp)
        if where < len(self._times) and self._times[where] == stamp:
            self._poses[where] = numbers
            return
        self._times.insert(where, stamp)
        self._poses.insert(where, numbers)
        del self._times[:-KEPT], self._poses[:-KEPT]

    @property
    def newest_ns(self) -> int:
        """The time of the newest pose; 0 while none came."""
        return self._times[-1] if self._times else 0

    def at(self, stamp_ns: int) -> Floats:
        """The pose 6 at a time in ns.

        Raises:
            TransformError: `unknown` while none came, `late` beyond what is known of that time.
        """
        times = self._times
        if not times:
            raise TransformError("unknown", "pose: the robot has told none")
        after = bisect.bisect_left(times, stamp_ns)
        if after < len(times):
            if times[after] == stamp_ns:
                return self._poses[after]
            if after == 0:
                early = times[0] - stamp_ns
                if early > APART_NS:
                    raise TransformError("late", f"pose: the oldest that is kept is {early / SECOND:.2f} s too new")
                return self._poses[0]
            share = (stamp_ns - times[after - 1]) / (times[after] - times[after - 1])
            return self._poses[after - 1] + share * self._step(after - 1, after)
        ahead = stamp_ns - times[-1]
        if ahead > self.age_ns:
            raise TransformError("late", f"pose: the robot's newest is {ahead / SECOND:.2f} s old")
        before = next((i for i in range(len(times) - 2, -1, -1) if times[-1] - times[i] >= APART_NS), None)
        if before is None or times[-1] - times[before] > LEAD_NS:
            return self._poses[-1]
        last = len(times) - 1
        return self._poses[-1] + ahead / (times[-1] - times[before]) * self._step(before, last)

    def _step(self, one: int, other: int) -> Floats:
        """What changed between two poses, angles the shorter way round."""
        step = self._poses[other] - self._poses[one]
        step[3:] = (step[3:] + math.pi) % math.tau - math.pi
        if not self.frame:  # longitude, over the date line
            step[1] = (step[1] + 180) % 360 - 180
        return step

    def transform(self, stamp_ns: int) -> tuple[Floats, Floats]:
        """Translation 3 and quaternion 4 (x, y, z, w) of the ground frame in `frame` at a time. Raises as `at`."""
        pose = self.at(stamp_ns)
        return pose[:3], quaternion_of(pose[3:])

    def fix(self, stamp_ns: int) -> Fix:
        """Where on the earth the robot is at a time. Raises as `at`, and GroundError at a pole."""
        pose = self.at(stamp_ns)
        longitude = (float(pose[1]) + 180) % 360 - 180
        return Fix(float(pose[0]), longitude, float(pose[2]), float(pose[5]), self.sigma, stamp_ns)


def quaternion_of(angles: Sequence[float] | Floats) -> Floats:
    """The quaternion x, y, z, w of roll, pitch and yaw (about x, then y, then z of the frame outside)."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(np.asarray(angles) / 2), np.sin(np.asarray(angles) / 2)
    return np.array(
        [
            sr * cp * cy - cr * sp * sy,
            cr * sp * cy + sr * cp * sy,
            cr * cp * sy - sr * sp * cy,
            cr * cp * cy + sr * sp * sy,
        ]
    )


def angles_of(turn: Floats) -> tuple[float, float, float]:
    """Roll, pitch and yaw of a rotation 3,3."""
    pitch = math.asin(float(np.clip(-turn[2, 0], -1.0, 1.0)))
    return math.atan2(turn[2, 1], turn[2, 2]), pitch, math.atan2(turn[1, 0], turn[0, 0])


class PoseTeller:
    """Which of a robot's poses are worth telling: those that the receiver, who leads the ones before on, would get
    wrong by more than `moved` metres or `turned` radians, and one each `every` seconds; `rate` a second at most.
    """

    DRIVING = 0.5
    """Seconds after which a robot that drives is told again: a base that joins, or lost one, knows no speed yet."""
    FASTEST = 80.0
    """Metres a second above which a robot did not drive from one pose to the next: its localisation jumped."""
    SET_BACK_MS, AGAIN_MS = 200, 1000
    """A stamp that lies so far back says that the clock was set. Whatever is told so soon after such a beginning says
    that it was one, for the first word of it may be lost."""

    def __init__(self, moved: float, turned: float, every: float, rate: float) -> None:
        self._track = EgoTrack(0)
        self.moved, self.turned, self.every, self.rate = moved, turned, every, rate
        self._writer = PoseWriter()
        self._told: EgoPose | None = None
        self._newest: EgoPose | None = None
        self._anew = False
        self._began_ms: int | None = None

    @property
    def every(self) -> float:
        """Seconds after which a pose is told anyhow; what was told counts for twice as long."""
        return self._every

    @every.setter
    def every(self, seconds: float) -> None:
        self._every = seconds
        self._track.age_ns = round(2 * seconds * SECOND)

    def offer(self, pose: EgoPose) -> EgoPose | None:
        """The pose that is to be told, None where this one need not be. It counts as told."""
        told, newest, self._newest = self._told, self._newest, pose
        if newest is not None and newest.frame == pose.frame and pose.stamp_ms > newest.stamp_ms:
            seconds = (pose.stamp_ms - newest.stamp_ms) / 1000
            self._anew |= float(np.linalg.norm(_metres(pose, newest.place))) > 1.0 + self.FASTEST * seconds
        if newest is not None and newest.frame == pose.frame:
            self._anew |= pose.stamp_ms < newest.stamp_ms - self.SET_BACK_MS
        if self._anew:
            self._began_ms = pose.stamp_ms
        if told is not None and told.frame == pose.frame and not self._anew:
            since = (pose.stamp_ms - told.stamp_ms) / 1000
            if 0 <= since < 1 / self.rate:
                return None
            drives = float(np.linalg.norm(_metres(pose, told.place))) > self.moved
            if 0 <= since < (min(self.DRIVING, self.every) if drives else self.every) and self._right(pose):
                return None
        if self._began_ms is not None and 0 <= pose.stamp_ms - self._began_ms <= self.AGAIN_MS:
            pose = replace(pose, anew=True)
        self._told, self._anew = pose, False
        self._track.put(pose)
        return pose

    def forget(self) -> None:
        """What was told last did not leave, and nobody is taken to know anything."""
        self._anew |= self._told is not None and self._told.anew
        self._told, self._track = None, EgoTrack(self._track.age_ns)
        self._writer = PoseWriter()

    def bytes_of(self, pose: EgoPose) -> bytes:
        """The bytes of a pose that is told."""
        return self._writer.write(pose)

    def _right(self, pose: EgoPose) -> bool:
        """Whether the receiver's own forecast is near enough; one that there is none of is not."""
        try:
            found = self._track.at(pose.stamp_ns)
        except TransformError:
            return False
        turned = (np.array(pose.angles) - found[3:] + math.pi) % math.tau - math.pi
        return bool(np.linalg.norm(_metres(pose, found[:3])) < self.moved and np.abs(turned).max() < self.turned)


def _metres(pose: EgoPose, other: Sequence[float] | Floats) -> Floats:
    """How far a pose is from another place of its frame, in metres."""
    apart = np.array(pose.place) - np.asarray(other)
    if not pose.frame:
        degree = math.radians(SEMI_MAJOR)
        apart[1] = (apart[1] + 180) % 360 - 180
        apart[:2] *= degree, degree * math.cos(math.radians(pose.place[0]))
    return apart
