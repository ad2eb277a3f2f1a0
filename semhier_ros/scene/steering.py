"""The motion part of a frame: how camera and objects move, in a few bits beside block 0 (docs/bitstream.md, "Motion").

Whole numbers in signed Exp-Golomb codes: the camera's shift, expansion and roll, then for every object of block 0, in
its order, one bit and, where it is set, the object's own velocity. No table and no network: the part can be read by
whoever can read block 0, and left unread by who does not care.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.packet import PacketError
from semhier_ros.scene.motion import CameraMotion, Moved

Floats = NDArray[np.float64]
SHIFT_STEPS = 128
"""The camera's shift is coded in picture widths / 128 a second."""
TURN_STEPS = 32
"""Its expansion and roll are coded in 1/32 a second."""
OWN_STEPS = 4
"""An object's own velocity is coded in quarters of its box's side a second, the side being the root of the area."""
MOST_SHIFT, MOST_TURN, MOST_OWN = 1023, 127, 63
"""Largest numbers that are written; what is faster is written as these."""


def write_motion(moved: Moved, sides: Floats) -> bytes:
    """The motion part of a frame whose objects are those of `moved`; `sides` n: roots of their boxes' areas in pixels,
    as block 0 says them."""
    bits: list[int] = []
    width = moved.size[0]
    for value in moved.camera.shift:
        _put(bits, _whole(value * SHIFT_STEPS / width, MOST_SHIFT), 2)
    for value in (moved.camera.expansion, moved.camera.roll):
        _put(bits, _whole(value * TURN_STEPS, MOST_TURN), 0)
    for own, side in zip(moved.own, sides, strict=True):
        steps = [_whole(float(value) * OWN_STEPS / float(side), MOST_OWN) for value in own]
        bits.append(int(any(steps)))
        if any(steps):
            for step in steps:
                _put(bits, step, 0)
    return np.packbits(np.array(bits, np.uint8)).tobytes()


def read_motion(data: bytes, sides: Floats, size: tuple[int, int]) -> Moved:
    """What a motion part says of the n objects with these `sides` in a picture of `size` (width, height).

    Raises:
        PacketError: no encoder made these bytes for so many objects.
    """
    bits = _Bits(data)
    shift = [bits.get(2, MOST_SHIFT) * size[0] / SHIFT_STEPS for _ in range(2)]
    expansion, roll = (bits.get(0, MOST_TURN) / TURN_STEPS for _ in range(2))
    own = np.zeros((len(sides), 2))
    for row, side in enumerate(sides):
        if bits.bit():
            steps = [bits.get(0, MOST_OWN) for _ in range(2)]
            if not any(steps):
                raise PacketError(f"motion: object {row} moves by nothing")
            own[row] = np.array(steps) * float(side) / OWN_STEPS
    bits.finish()
    return Moved(CameraMotion((shift[0], shift[1]), expansion, roll), own, size)


def _whole(value: float, most: int) -> int:
    return max(-most, min(most, round(value)))


def _put(bits: list[int], value: int, order: int) -> None:
    """Signed Exp-Golomb: 0, 1, -1, 2, -2 … count up from 0; the number plus 2^order is written after as many zeros as
    its binary form has digits beyond order + 1."""
    count = (2 * value - 1 if value > 0 else -2 * value) + (1 << order)
    digits = count.bit_length()
    bits += [0] * (digits - order - 1)
    bits += [count >> place & 1 for place in reversed(range(digits))]


class _Bits:
    """Bits of a motion part, most significant first."""

    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 0

    def bit(self) -> int:
        if self._place >= 8 * len(self._data):
            raise PacketError(f"motion: {len(self._data)} bytes, too short for its objects")
        byte, self._place = self._data[self._place >> 3], self._place + 1
        return byte >> (7 - (self._place - 1 & 7)) & 1

    def get(self, order: int, most: int) -> int:
        extra = 0
        while not self.bit():
            extra += 1
            if extra > 2 * most.bit_length():
                raise PacketError(f"motion: a number beyond {most}")
        count = 1
        for _ in range(extra + order):
            count = count << 1 | self.bit()
        count -= 1 << order
        value = (count + 1) // 2 if count & 1 else -(count // 2)
        if abs(value) > most:
            raise PacketError(f"motion: {value}, at most {most}")
        return value

    def finish(self) -> None:
        """Checks that nothing is left but fewer than eight zero bits."""
        if 8 * len(self._data) - self._place >= 8 or any(self.bit() for _ in range(8 * len(self._data) - self._place)):
            raise PacketError("motion: more than its objects need")
