"""Where the robot is, told beside the packets (docs/bitstream.md, "Pose"): a whole pose now and then, and between them
short ones that tell the low bits of every number, which a reader restores by the pose that it took before."""

from __future__ import annotations

import math
import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from semhier_ros.codec.checksum import CRC_BYTES, check_crc, with_crc
from semhier_ros.codec.compact import near
from semhier_ros.codec.text import check_text

KIND = 0x50
WHOLE, EARTH, HEIGHT, TILT, ANEW = 1, 2, 4, 8, 16
_FLAGS = WHOLE | EARTH | HEIGHT | TILT | ANEW
WINDOW_MS = 5_000
"""How long before a short pose the pose was that restores it, at most."""
WHOLE_MS = 3_000
"""After so long a pose is whole again, for who joins late."""
MAX_FRAME_BYTES = 32
LEAST_BYTES, MOST_BYTES = 14, 64
MAX_STAMP_MS = (1 << 48) - 1
TURN = 1 << 16
"""Units of an angle that make a whole turn."""
CENTIMETRES, DEGREES = 100.0, 1e7
_MILLISECOND = 1_000_000
_LOW, _LOW_BITS = 1 << 16, 16
_INT32 = (-(1 << 31), (1 << 31) - 1)
_INT16 = (-(1 << 15), (1 << 15) - 1)
_LATITUDE, _LONGITUDE = 900_000_000, 1_800_000_000


class PoseError(ValueError):
    """Bytes that are no pose, or one that cannot be restored; the message says why."""


@dataclass(frozen=True, slots=True)
class EgoPose:
    """Where the robot's ground frame (x forward, y to the left, z up) is, in whole numbers.

    `frame`: the frame that it is in, 1 to 32 bytes of printable UTF-8; "" stands for the earth (WGS84). `stamp_ms`:
    when, ms since the epoch, 48 bits. `x`, `y`: centimetres (32 bits, signed); on the earth latitude and longitude
    in 1e-7 degrees. `z`: centimetres, on the earth above the ellipsoid. `yaw`: 0 to 65,535, in 1/65,536 of a turn from
    the frame's x axis (on the earth: from east) to the left; `pitch`, `roll`: the same unit, 16 bits, signed (ROS:
    about y, about x, in the order roll, pitch, yaw). `accuracy`: 0 where it is not known, else the position's standard
    deviation is 2 ** ((accuracy - 1) / 8) cm. `anew`: the robot did not move here from where it was told to be before.
    Raises ValueError naming the field that is out of its range.
    """

    frame: str
    stamp_ms: int
    x: int
    y: int
    z: int = 0
    yaw: int = 0
    pitch: int = 0
    roll: int = 0
    accuracy: int = 0
    anew: bool = False

    def __post_init__(self) -> None:
        check_text(self.frame, "frame", MAX_FRAME_BYTES)
        earthly = not self.frame
        for name, value, low, high in (
            ("stamp_ms", self.stamp_ms, 0, MAX_STAMP_MS),
            ("x", self.x, *((-_LATITUDE, _LATITUDE) if earthly else _INT32)),
            ("y", self.y, *((-_LONGITUDE, _LONGITUDE) if earthly else _INT32)),
            ("z", self.z, *_INT32),
            ("yaw", self.yaw, 0, TURN - 1),
            ("pitch", self.pitch, *_INT16),
            ("roll", self.roll, *_INT16),
            ("accuracy", self.accuracy, 0, 255),
        ):
            if not low <= value <= high:
                raise ValueError(f"{name}: {value}, expected {low} to {high}")

    @classmethod
    def of(
        cls,
        frame: str,
        stamp_ns: int,
        place: Sequence[float],
        angles: Sequence[float] = (0.0, 0.0, 0.0),
        *,
        sigma: float = 0.0,
        least_tilt: float = 0.0,
        anew: bool = False,
    ) -> EgoPose:
        """The nearest pose to numbers. `place`: x, y, z in metres; with `frame` "" latitude, longitude in degrees,
        height in metres. `angles`: roll, pitch, yaw in radians. `sigma`: the position's standard deviation in metres, 0
        where it is not known. `least_tilt`: roll and pitch that are both below it are left out (radians).

        Raises ValueError for a number that is not finite, or that a pose cannot hold.
        """
        if not all(math.isfinite(number) for number in (*place, *angles, sigma)):
            raise ValueError(f"pose: {list(place)}, {list(angles)}, sigma {sigma}, expected finite numbers")
        unit = CENTIMETRES if frame else DEGREES
        roll, pitch, yaw = angles
        tilted = max(abs(roll), abs(pitch)) >= least_tilt
        turn = TURN / math.tau
        return cls(
            frame,
            stamp_ns // _MILLISECOND,
            round(place[0] * unit),
            round(place[1] * unit),
            round(place[2] * CENTIMETRES),
            round(yaw * turn) % TURN,
            _signed(round(pitch * turn)) if tilted else 0,
            _signed(round(roll * turn)) if tilted else 0,
            min(255, max(1, round(8 * math.log2(sigma * CENTIMETRES)) + 1)) if sigma > 0.0 else 0,
            anew,
        )

    @property
    def stamp_ns(self) -> int:
        """When, ns since the epoch."""
        return self.stamp_ms * _MILLISECOND

    @property
    def place(self) -> tuple[float, float, float]:
        """x, y, z in metres; on the earth latitude, longitude in degrees and height in metres."""
        unit = CENTIMETRES if self.frame else DEGREES
        return self.x / unit, self.y / unit, self.z / CENTIMETRES

    @property
    def angles(self) -> tuple[float, float, float]:
        """Roll, pitch and yaw in radians, each from -pi to pi."""
        unit = math.tau / TURN
        return self.roll * unit, self.pitch * unit, _signed(self.yaw) * unit

    @property
    def sigma(self) -> float:
        """The position's standard deviation in metres, 0 where it is not known."""
        return 2.0 ** ((self.accuracy - 1) / 8) / CENTIMETRES if self.accuracy else 0.0

    @property
    def _flags(self) -> int:
        flags = (0 if self.frame else EARTH) | (ANEW if self.anew else 0)
        return flags | (HEIGHT if self.z else 0) | (TILT if self.pitch or self.roll else 0)

    def to_bytes(self) -> bytes:
        """The whole pose on the wire, 23 to 64 bytes: nothing need be known to read it."""
        flags = self._flags | WHOLE
        parts = [bytes((KIND, flags)), self.stamp_ms.to_bytes(6, "big"), struct.pack(">ii", self.x, self.y)]
        if flags & HEIGHT:
            parts.append(struct.pack(">i", self.z))
        parts.append(self.yaw.to_bytes(2, "big"))
        if flags & TILT:
            parts.append(struct.pack(">hh", self.pitch, self.roll))
        parts.append(bytes((self.accuracy,)))
        if self.frame:
            name = self.frame.encode()
            parts.append(bytes((len(name),)) + name)
        return with_crc(b"".join(parts))

    def to_short_bytes(self) -> bytes:
        """14 to 20 bytes, for who took a pose of the same frame within 5 s and 32,767 units of `x`, `y` and `z`."""
        flags = self._flags
        numbers = [self.stamp_ms, self.x, self.y, *([self.z] if self.z else []), self.yaw]
        tail = struct.pack(">hh", self.pitch, self.roll) if flags & TILT else b""
        low = b"".join((number % _LOW).to_bytes(2, "big") for number in numbers)
        return with_crc(bytes((KIND, flags)) + low + tail)

    def restores(self, later: EgoPose) -> bool:
        """Whether who took this pose reads the other one rightly from its short bytes."""
        near_by = all(
            abs(one - other) < _LOW // 2 for one, other in ((self.x, later.x), (self.y, later.y), (self.z, later.z))
        )
        same = (self.frame, self.accuracy) == (later.frame, later.accuracy)
        return same and near_by and abs(later.stamp_ms - self.stamp_ms) <= WINDOW_MS

    @staticmethod
    def from_bytes(data: bytes, before: EgoPose | None = None) -> EgoPose:
        """The pose that `data` holds. `before`: the newest that was taken of the same kind (a frame's, or the earth's),
        which a short one needs. Raises PoseError, and nothing else, for what is no pose or cannot be restored."""
        if not LEAST_BYTES <= len(data) <= MOST_BYTES:
            raise PoseError(f"pose: {len(data)} bytes, expected {LEAST_BYTES} to {MOST_BYTES}")
        if data[0] != KIND:
            raise PoseError(f"pose: first byte {data[0]:#04x}, expected {KIND:#04x}")
        flags, end = data[1], len(data) - CRC_BYTES
        if flags & ~_FLAGS:
            raise PoseError(f"pose: flags {flags:#04x}, expected at most {_FLAGS:#04x}")
        check_crc(data, PoseError)
        try:
            pose = _whole(data[:end], flags) if flags & WHOLE else _short(data[:end], flags, before)
        except ValueError as error:
            raise PoseError(f"pose: {error}") from None
        if (pose._flags | flags & WHOLE) != flags:
            raise PoseError(f"pose: flags {flags:#04x} of numbers that need {pose._flags | flags & WHOLE:#04x}")
        return pose


def on_earth(data: bytes) -> bool:
    """Whether bytes that are a pose tell one on the earth."""
    return len(data) > 1 and bool(data[1] & EARTH)


def _signed(number: int) -> int:
    return (number + _LOW // 2) % _LOW - _LOW // 2


def _expect(data: bytes, size: int) -> None:
    if len(data) != size:
        raise ValueError(f"{len(data) + CRC_BYTES} bytes, expected {size + CRC_BYTES}")


def _whole(data: bytes, flags: int) -> EgoPose:
    at = 19 + 4 * bool(flags & HEIGHT) + 4 * bool(flags & TILT)  # where the name begins
    name = ""
    if flags & EARTH:
        _expect(data, at)
    else:
        size = data[at] if len(data) > at else 1
        _expect(data, at + 1 + size)
        if not size:
            raise ValueError("an empty frame")
        name = data[at + 1 :].decode()
    stamp = int.from_bytes(data[2:8], "big")
    numbers = iter(
        struct.unpack_from(">ii" + "i" * bool(flags & HEIGHT) + "H" + "hh" * bool(flags & TILT) + "B", data, 8)
    )
    x, y = next(numbers), next(numbers)
    z = next(numbers) if flags & HEIGHT else 0
    yaw = next(numbers)
    pitch, roll = (next(numbers), next(numbers)) if flags & TILT else (0, 0)
    return EgoPose(name, stamp, x, y, z, yaw, pitch, roll, next(numbers), bool(flags & ANEW))


def _short(data: bytes, flags: int, before: EgoPose | None) -> EgoPose:
    high, tilt = bool(flags & HEIGHT), bool(flags & TILT)
    _expect(data, 10 + 2 * high + 4 * tilt)
    if before is None or bool(flags & EARTH) != (not before.frame):
        raise ValueError("a short one before any whole one")
    low = iter(struct.unpack_from(">" + "H" * (4 + high) + "hh" * tilt, data, 2))
    stamp = near(next(low), _LOW_BITS, before.stamp_ms)
    if abs(stamp - before.stamp_ms) > WINDOW_MS:
        raise ValueError(f"{abs(stamp - before.stamp_ms)} ms from the one before, expected at most {WINDOW_MS}")
    x, y = near(next(low), _LOW_BITS, before.x), near(next(low), _LOW_BITS, before.y)
    z = near(next(low), _LOW_BITS, before.z) if high else 0
    yaw = next(low)
    pitch, roll = (next(low), next(low)) if tilt else (0, 0)
    return EgoPose(before.frame, stamp, x, y, z, yaw, pitch, roll, before.accuracy, bool(flags & ANEW))


class PoseWriter:
    """Writes the poses of one kind (a frame's, or the earth's), each as short as every reader can restore it: short
    only where each pose of the last 5 s restores it, since any of them may be the newest that a reader took."""

    def __init__(self) -> None:
        self._sent: deque[EgoPose] = deque()
        self._began: int | None = None
        self._whole = 0

    def write(self, pose: EgoPose) -> bytes:
        """The pose's bytes; it is taken to be sent."""
        if self._sent and not pose.stamp_ms - self._sent[-1].stamp_ms >= 0:  # time was set back
            self._sent.clear()
            self._began = None
        if self._began is None:
            self._began = pose.stamp_ms
        while self._sent and pose.stamp_ms - self._sent[0].stamp_ms > WINDOW_MS:
            self._sent.popleft()
        whole = pose.stamp_ms - self._began < WINDOW_MS or pose.stamp_ms - self._whole >= WHOLE_MS
        whole = whole or not self._sent or not all(one.restores(pose) for one in self._sent)
        self._sent.append(pose)
        if not whole:
            return pose.to_short_bytes()
        self._whole = pose.stamp_ms
        return pose.to_bytes()


class PoseReader:
    """Reads the poses of one sender: keeps the newest of a frame and of the earth, to restore short ones."""

    def __init__(self) -> None:
        self._newest: dict[bool, EgoPose] = {}

    def read(self, data: bytes) -> EgoPose:
        """The pose that `data` holds. Raises PoseError, and nothing else."""
        kind = on_earth(data)
        before = self._newest.get(kind)
        pose = EgoPose.from_bytes(data, before)
        if before is None or pose.stamp_ms >= before.stamp_ms or before.stamp_ms - pose.stamp_ms > WINDOW_MS:
            self._newest[kind] = pose
        return pose
