"""From any detector's boxes and class scores to `Objects`: one box for one thing, one cell for one box."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.canvas import Canvas
from semhier_ros.scene.budget import overlaps
from semhier_ros.scene.detectors.runtime import Found
from semhier_ros.scene.layout import Ints, SceneLayout, side_lengths
from semhier_ros.scene.objects import Objects

Floats = NDArray[np.float32]
SAME_THING = 0.85  # intersection over union from which two boxes of different classes are two words for one thing
DOUBT = 0.05  # share of its best class's score below which another class of a box is not heard
OTHERS = 0.95  # what all other classes' scores may come to beside the best one's, so that names lead to the best class
LEAST_CHANCE = 1e-4  # chance that a leaf keeps however little its score is: names have no zero


def objects_of(layout: SceneLayout, canvas: Canvas, found: Found, threshold: float, most: int) -> Objects:
    """The objects in what a detector found: those of at least `threshold`, at most `most` of the best.

    An object's objectness is its best class's score; its leaves are the shares of its classes' scores, those below
    DOUBT of the best left out. However many there are, together they count less than the best, so that the path that is
    named from level to level ends at the detector's own answer: scores of classes are no shares of one whole. Boxes of
    different classes that cover each other are one object with both their scores. Objects of which two would lie in
    one cell are moved to a cell beside it from which their box can still be said; where there is none, the weaker one
    goes.
    """
    best = found.scores.max(axis=1) if len(found) else np.zeros(0, np.float32)
    order = np.argsort(-best, kind="stable")
    order = order[best[order] >= threshold]
    boxes, scores = _merged(found.boxes[order], found.scores[order])
    kept = np.array([row for row, own in enumerate(scores) if own is not None][: 2 * most], np.intp)
    heard = np.stack([scores[row] for row in kept]) if len(kept) else np.zeros((0, found.scores.shape[1]), np.float32)
    heard = np.where(heard < DOUBT * heard.max(axis=1, keepdims=True), 0, heard) if len(kept) else heard
    if len(kept):
        top = heard.argmax(axis=1)
        best_score = heard[np.arange(len(heard)), top]
        others = heard.sum(axis=1) - best_score
        heard *= np.minimum(1.0, OTHERS * best_score / np.maximum(others, 1e-9))[:, None]
        heard[np.arange(len(heard)), top] = best_score
    total = heard.sum(axis=1)
    in_cells = _in_cells(boxes[kept], canvas, layout.stride)
    cells = place(layout, in_cells)
    stays = np.flatnonzero(cells >= 0)[:most]
    stays = stays[np.argsort(cells[stays])]
    leaves = np.log(np.maximum(heard[stays] / np.maximum(total[stays, None], 1e-9), LEAST_CHANCE))
    return Objects(
        cells[stays].astype(np.int32),
        in_cells[stays],
        heard[stays].max(axis=1, initial=0.0).astype(np.float32),
        leaves.astype(np.float32),
        np.ascontiguousarray(found.features[order[kept[stays]]], np.float32),
    )


def placed(layout: SceneLayout, objects: Objects) -> Objects:
    """Objects (best first) each in a cell of its own of the layout, in raster order; of one cell's, the stronger stays
    and the weaker one moves, as in `objects_of`."""
    cells = place(layout, objects.boxes)
    rows = np.argsort(cells, kind="stable")
    rows = rows[cells[rows] >= 0]
    return replace(objects.take(rows), cells=cells[rows])


def _merged(boxes: Floats, scores: Floats) -> tuple[Floats, list[Floats | None]]:
    """Scores of boxes (best first) with those of the weaker boxes that are the same thing; None for the latter."""
    heard: list[Floats | None] = list(scores)
    if len(boxes) < 2:
        return boxes, heard
    centred = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
    same = np.triu(overlaps(centred, centred) >= SAME_THING, 1)
    kinds = scores.argmax(axis=1)
    for strong, weak in np.argwhere(same & (kinds[:, None] != kinds)).tolist():
        one, other = heard[strong], heard[weak]
        if one is not None and other is not None:
            heard[strong], heard[weak] = np.maximum(one, other), None
    return boxes, heard


def _in_cells(boxes: Floats, canvas: Canvas, stride: int) -> Floats:
    """Boxes n,4 (cx, cy, w, h in cells) of corners in source pixels."""
    scaled = boxes * np.float32(canvas.scale / stride)
    return np.concatenate([(scaled[:, :2] + scaled[:, 2:]) / 2, scaled[:, 2:] - scaled[:, :2]], axis=1)


def place(layout: SceneLayout, boxes: Floats) -> Ints:
    """A cell of its own for each box (n,4 in cells, the most important first), -1 where there is none.

    It is the cell that the box's middle lies in, or, where that is taken, the nearest from which the middle can still
    be said by the layout's offsets.
    """
    cells = np.full(len(boxes), -1, np.int32)
    taken: set[int] = set()
    limit = layout.offset_step * (layout.offset_levels // 2 + 0.5)
    x = np.clip(boxes[:, 0], 0, layout.columns - 1e-3)
    y = np.clip(boxes[:, 1], 0, layout.rows - 1e-3)
    sizes = np.rint((np.log(np.maximum(boxes[:, 2:], 1e-3)) - layout.size_low) / layout.size_step)
    sides = side_lengths(layout, np.clip(sizes, 0, layout.size_levels - 1).astype(np.int32))
    for row in range(len(boxes)):
        own = int(y[row]) * layout.columns + int(x[row])
        if own not in taken:
            cells[row] = own
            taken.add(own)
            continue
        reach = np.minimum(sides[row] * limit, 3.0)
        columns = np.arange(max(0, int(x[row] - reach[0])), min(layout.columns, int(x[row] + reach[0]) + 1))
        rows = np.arange(max(0, int(y[row] - reach[1])), min(layout.rows, int(y[row] + reach[1]) + 1))
        across, down = np.abs(columns + 0.5 - x[row]), np.abs(rows + 0.5 - y[row])
        far = np.maximum(down[:, None] / sides[row, 1], across[None] / sides[row, 0])
        number = rows[:, None] * layout.columns + columns[None]
        for place_ in np.argsort(far, axis=None, kind="stable").tolist():
            if far.flat[place_] > limit:
                break
            if int(number.flat[place_]) not in taken:
                cells[row] = int(number.flat[place_])
                taken.add(int(number.flat[place_]))
                break
    return cells
