"""Fitting a scene into a number of bytes: what is worth least for its bits goes first.

**What is important** (`importance`): an object that is near, hence tall in the picture, and one that moves. With h the
box's height as a share of the canvas's, m how far the box moved or grew since the frame before, in shares of its side
beyond what the scene as a whole did (0..1), and p the detector's objectness, it is sqrt(h) * (1 + 2 m) * p.

**What goes first** (`pare`): to know an object's place is worth its importance, and its finer levels are worth shares
of that (WORTH). Each step gives up either one object's finest level or one whole object, whichever is worth least per
bit saved. So a far object's type goes long before a near one's, a doubtful object goes before a sure one loses its
name, and no level goes as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semhier_ros.scene.layout import UNNAMED, SceneCode, SceneLayout
from semhier_ros.scene.objects import Objects
from semhier_ros.scene.stream import SceneStream

Floats = NDArray[np.float64]
SAME_OBJECT = 0.3  # intersection over union from which a box of the frame before is the same object's
WORTH_OF_MOVING = 2.0
WORTH = (1.0, 0.8, 0.6)  # of an object's place, group and type, in shares of its importance
WORTH_OF_DETAIL = 0.1


def overlaps(first: NDArray, second: NDArray) -> Floats:
    """Intersection over union (n,m) of boxes n,4 and m,4 (cx, cy, w, h)."""
    one, other = np.ascontiguousarray(first.T), np.ascontiguousarray(second.T)  # a last axis of two entries is slow
    half, rest = one[2:] / 2, other[2:] / 2
    low = np.maximum((one[:2] - half)[:, :, None], (other[:2] - rest)[:, None])
    high = np.minimum((one[:2] + half)[:, :, None], (other[:2] + rest)[:, None])
    high -= low
    inner, down = np.maximum(high, 0, out=high)
    inner *= down
    area = (one[2] * one[3])[:, None] + other[2] * other[3]
    area -= inner
    return np.asarray(inner / np.maximum(area, 1e-9))


@dataclass
class Motion:
    """Remembers one camera's objects from frame to frame, on the sender's side only: blocks never refer to it."""

    _before: NDArray[np.float32] | None = None

    def update(self, boxes: NDArray[np.float32]) -> Floats:
        """How much each of `boxes` (n,4: cx, cy, w, h) moved or grew since the last call, 0..1; 0 where unknown.

        The scene's own median shift, which is the camera's, is taken off.
        """
        before, self._before = self._before, boxes.copy()
        moved = np.zeros(len(boxes))
        if before is None or not len(before) or not len(boxes):
            return moved
        shared = overlaps(boxes, before)
        best = shared.argmax(axis=1)
        same = shared[np.arange(len(boxes)), best] >= SAME_OBJECT
        if not same.any():
            return moved
        shift = (boxes[same, :2] - before[best[same], :2]).astype(float)
        shift -= np.median(shift, axis=0)
        growth = np.log(boxes[same, 2:] / before[best[same], 2:]).mean(axis=1)
        side = np.sqrt(boxes[same, 2:].prod(axis=1))
        moved[same] = np.clip(np.hypot(*shift.T) / side + np.abs(growth), 0, 1)
        return moved


def importance(layout: SceneLayout, objects: Objects, moved: Floats | None = None) -> Floats:
    """How much each object matters to whoever drives there, at least 0 (see the module's head)."""
    near = np.sqrt(objects.boxes[:, 3].astype(float) / layout.rows)
    return near * (1 + WORTH_OF_MOVING * (0 if moved is None else moved)) * objects.objectness


def object_bits(stream: SceneStream, code: SceneCode) -> Floats:
    """Ideal cost in bits (n, semantic blocks) of every object in every block of a code that refines all of them; block
    0's share of the cells' symbols is that of the object's own cell."""
    count = len(code)
    bits = np.zeros((count, len(code.latents) + 1))
    kind = stream.layout.count_class(count)
    ones = np.ones(count, np.int32)
    for name, symbols, rows in (
        ("occupancy", ones, stream.occupancy_rows[kind][code.cells]),
        ("width", code.sizes[:, 0], stream.band(code.cells)),
        ("height", code.sizes[:, 1], code.sizes[:, 0]),
        ("offset_x", code.offsets[:, 0], code.sizes[:, 0]),
        ("offset_y", code.offsets[:, 1], code.sizes[:, 1]),
        ("score", code.scores, code.sizes[:, 0]),
    ):
        bits[:, 0] += stream.tables[name].symbol_bits(symbols, rows)
    for block in range(1, bits.shape[1]):
        if block < stream.levels:
            table = stream.tables[f"name_{block}"]
            bits[:, block] += table.symbol_bits(stream.name_symbols(block, code), stream.name_rows(block, code))
        if stream.layout.latents[block - 1]:
            symbols, rows = stream.latent_symbols(block, code)
            bits[:, block] += stream.tables["latents"].symbol_bits(symbols, rows).sum(axis=1)
    return bits


def pare(stream: SceneStream, code: SceneCode, worth: Floats, max_bytes: int) -> SceneCode:
    """`code` (all objects refined to the same depth) with as little given up as makes its semantic blocks take at most
    `max_bytes` together. At least one object stays, whatever it costs.

    worth n: importance of each object. The result is checked against real bytes.
    """
    blocks = len(code.latents) + 1
    if not len(code) or _size(stream, code, blocks) <= max_bytes:
        return code
    bits = object_bits(stream, code)
    gains = np.array([WORTH[block] if block < len(WORTH) else WORTH_OF_DETAIL for block in range(blocks)])
    depth = np.full(len(code), blocks - 1)
    cut = code
    while (excess := 8.0 * (_size(stream, cut, blocks) - max_bytes)) > 0 and (
        depth.max() > 0 or (depth >= 0).sum() > 1
    ):
        depth = give_up(bits, worth[:, None] * gains, depth, excess)
        cut = _cut(code, depth)
    return cut


def give_up(bits: Floats, values: Floats, depth: NDArray[np.intp], excess: float) -> NDArray[np.intp]:
    """New depths (-1: gone) after giving up about `excess` bits, at least one level; one object always stays.

    bits, values: n,blocks, cost and worth of every object in every block; depth n: how deep each is refined so far.
    """
    depth = depth.copy()
    rows = np.arange(len(depth))
    known = np.arange(bits.shape[1]) <= depth[:, None]
    while excess > 0:
        top = np.maximum(depth, 0)
        last = np.where(depth > 0, values[rows, top] / np.maximum(bits[rows, top], 1e-3), np.inf)
        whole = (values * known).sum(axis=1) / np.maximum((bits * known).sum(axis=1), 1e-3)
        whole = np.where((depth >= 0) & ((depth >= 0).sum() > 1), whole, np.inf)
        choices = np.stack([last, whole])
        if not np.isfinite(choices).any():
            break
        gone, row = divmod(int(choices.argmin()), len(depth))
        new = -1 if gone else depth[row] - 1
        excess -= bits[row, new + 1 : depth[row] + 1].sum()
        depth[row] = new
        known[row, new + 1 :] = False
    return depth


def _cut(code: SceneCode, depth: NDArray[np.intp]) -> SceneCode:
    """`code` with each object refined by blocks 0..depth alone, and gone where that is below 0."""
    stays = depth >= 0
    cut = code.take(stays)
    cut.kept = [depth[stays] >= block for block in range(1, len(cut.latents) + 1)]
    for block, kept in enumerate(cut.kept, 1):
        cut.latents[block - 1][~kept] = 0
        if block < len(cut.path):
            cut.path[block][~kept] = UNNAMED
    return cut


def _size(stream: SceneStream, code: SceneCode, blocks: int) -> int:
    return sum(len(stream.encode(block, code)) for block in range(blocks) if code.refined(block).any())
