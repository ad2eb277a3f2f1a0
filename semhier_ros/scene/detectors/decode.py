"""From a detector's output tensors to boxes and class scores: one reader for each way in which detectors are exported.

A reader says first whether tensors of some shapes are its own (`Reader.match`), which needs no picture, and then reads
their values (`Reader.read`). Boxes come out as corners in pixels of the network's input; scores as n,C of 0..1, one
column a class. Rows whose best score is below `least` are left out before anything dear is done with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from semhier_ros.scene.detectors.layouts import LARGEST_SIDE, LAYOUTS, DetectorError, Layout

Floats = NDArray[np.float32]
Tensors = Mapping[str, NDArray[np.generic]]
MOST_CANDIDATES = 1000  # rows that go on to the suppression of overlapping ones, the best
LOGIT_LIMIT = 60.0
LARGEST_LOG = math.log(LARGEST_SIDE)  # of a box's side in cells


class Tensor(NamedTuple):
    """An output tensor before anything ran: sides are -1 where the file leaves them open; `whole`: integers."""

    name: str
    shape: tuple[int, ...]
    whole: bool = False

    def __str__(self) -> str:
        return f"`{self.name}` {self.sides}"

    @property
    def sides(self) -> str:
        return ",".join("?" if side < 0 else str(side) for side in self.shape) or "of one number"


class Candidates(NamedTuple):
    """What a file says of one picture. boxes n,4: corners in pixels of the network's input; scores n,C; rows n: which
    row of its grid or of its queries each came from (-1: unknown)."""

    boxes: Floats
    scores: Floats
    rows: NDArray[np.intp]


@dataclass(frozen=True)
class Match:
    """Tensors that a reader takes. roles: what each of its own names stands for; classes: how many the shapes speak
    of, the one for nothing left out (None: they do not say)."""

    roles: dict[str, str]
    classes: int | None


class Reader(NamedTuple):
    """wants: the shapes in words. match: the tensors of a file, or why they are not its own. read: their values."""

    wants: str
    match: Callable[[Sequence[Tensor], Layout, tuple[int, int]], Match | None]
    read: Callable[[Tensors, Match, Layout, tuple[int, int], float, int], Candidates]


def check(layout: Layout, outputs: Sequence[Tensor], size: tuple[int, int], classes: int | None) -> Match:
    """The match of a file's outputs with a layout.

    classes: how many names were given (None: as many as the file has).

    Raises:
        DetectorError: they do not fit; the line says which tensor has which shape, what the layout wants and which
            layouts would fit.
    """
    reader = READERS.get(layout.decode)
    if reader is None:
        raise DetectorError(f"layout {layout.name}: decode {layout.decode!r} is not one of {', '.join(READERS)}")
    found = reader.match(outputs, layout, size)
    if found is None:
        fitting = [other.name for other in fitting_layouts(outputs, size)]
        would = f"{' or '.join(fitting)} would fit" if fitting else f"none of {', '.join(LAYOUTS)} fits"
        raise DetectorError(
            f"outputs {', '.join(map(str, outputs))} at {size[0]}x{size[1]}: layout {layout.name} wants "
            f"{reader.wants}; {would}"
        )
    if classes is not None and found.classes is not None and found.classes != classes:
        first = next(tensor for tensor in outputs if tensor.name in found.roles.values())
        raise DetectorError(f"names: {classes} given, but output {first} of layout {layout.name} has {found.classes}")
    return found


def fitting_layouts(outputs: Sequence[Tensor], size: tuple[int, int]) -> list[Layout]:
    """The layouts of the table whose reader takes these outputs, the likeliest first."""
    return [layout for layout in LAYOUTS.values() if READERS[layout.decode].match(outputs, layout, size) is not None]


def _side(side: int, wanted: int) -> bool:
    return side in (-1, wanted)


def _squeezed(tensor: Tensor) -> tuple[int, ...]:
    """The shape without a first side of one picture."""
    return tensor.shape[1:] if len(tensor.shape) > 1 and tensor.shape[0] in (1, -1) else tensor.shape


def _only(outputs: Sequence[Tensor], rank: int) -> Tensor | None:
    """The one output there is, where it is of that rank and of one picture."""
    if len(outputs) != 1 or len(outputs[0].shape) != rank or not _side(outputs[0].shape[0], 1):
        return None
    return outputs[0]


def grid_rows(size: tuple[int, int], strides: Sequence[int]) -> int:
    """Cells of all grids; YOLOX and NanoDet round up where a side is no multiple of a stride."""
    return sum(-(-size[0] // stride) * -(-size[1] // stride) for stride in strides)


def _grid(size: tuple[int, int], strides: Sequence[int]) -> tuple[Floats, Floats]:
    """Column and row of every cell of every grid (n,2), and its stride (n,1)."""
    places, steps = [], []
    for stride in strides:
        columns, rows = -(-size[0] // stride), -(-size[1] // stride)
        y, x = np.divmod(np.arange(rows * columns), columns)
        places.append(np.stack([x, y], axis=1))
        steps.append(np.full((rows * columns, 1), stride))
    return np.concatenate(places).astype(np.float32), np.concatenate(steps).astype(np.float32)


def _best(scores: NDArray[np.floating], least: float) -> NDArray[np.intp]:
    """Rows of scores n whose value is at least `least`, at most MOST_CANDIDATES, the best."""
    rows = np.flatnonzero(scores >= least)
    if len(rows) > MOST_CANDIDATES:
        rows = rows[np.argpartition(-scores[rows], MOST_CANDIDATES)[:MOST_CANDIDATES]]
    return rows


def _corners(boxes: NDArray[np.floating], layout: Layout, size: tuple[int, int]) -> Floats:
    """Corners in input pixels of boxes as the layout has them."""
    boxes = np.asarray(boxes, np.float32)
    if layout.corners == "cxcywh":
        boxes = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
    elif layout.corners == "yxyx":
        boxes = boxes[:, [1, 0, 3, 2]]
    if layout.units == "relative":
        boxes = boxes * np.array([*size, *size], np.float32)
    return boxes


def _columns_of(labels: NDArray[np.generic], scores: NDArray[np.generic], classes: int, layout: Layout) -> Floats:
    """Scores n,classes from one label and one score a row; labels below the first name are nothing (zero rows).

    Raises:
        DetectorError: a label above the last name.
    """
    made = np.zeros((len(labels), classes), np.float32)
    columns = np.rint(np.asarray(labels, np.float64)).astype(np.int64) - layout.first_label
    if layout.background == "first":
        columns -= 1
    if len(columns) and int(columns.max()) >= classes:
        raise DetectorError(
            f"labels: label {int(columns.max()) + layout.first_label}, but {classes} names were given "
            f"(the first is label {layout.first_label + (layout.background == 'first')})"
        )
    inside = columns >= 0
    made[np.flatnonzero(inside), columns[inside]] = np.asarray(scores, np.float32)[inside]
    return made


def _sorted_by_the_file(kept: NDArray[np.intp]) -> NDArray[np.intp]:
    """`Candidates.rows` where the file has sorted its boxes by itself, so that nobody knows which query each was."""
    return np.full(len(kept), -1, np.intp)


def _finite(name: str, values: NDArray[np.generic]) -> NDArray[np.float32]:
    made = np.asarray(values, np.float32)
    if not np.isfinite(made).all():
        bad = int(made.size - np.isfinite(made).sum())
        raise DetectorError(f"output `{name}`: {bad} of {made.size} values are no finite numbers")
    return made


# --- YOLOX's raw grid: x, y, w, h, objectness, classes


def _match_grid(outputs: Sequence[Tensor], layout: Layout, size: tuple[int, int]) -> Match | None:
    tensor = _only(outputs, 3)
    if tensor is None or tensor.shape[2] < 6 or not _side(tensor.shape[1], grid_rows(size, layout.strides)):
        return None
    return Match({"rows": tensor.name}, tensor.shape[2] - 5)


def _objectness_scores(rows: Floats, least: float) -> tuple[NDArray[np.intp], Floats]:
    kept = _best(rows[:, 4], least)
    scores = rows[kept, 5:] * rows[kept, 4:5]
    good = scores.max(axis=1) >= least if len(kept) else np.zeros(0, bool)
    return kept[good], scores[good]


def _read_grid(
    tensors: Tensors, match: Match, layout: Layout, size: tuple[int, int], least: float, classes: int
) -> Candidates:
    name = match.roles["rows"]
    rows = _finite(name, tensors[name][0])
    kept, scores = _objectness_scores(rows, least)
    places, strides = _grid(size, layout.strides)
    if len(rows) != len(places):
        raise DetectorError(f"output `{name}`: {len(rows)} rows, but {len(places)} cells of {size[0]}x{size[1]}")
    sensible = rows[kept, 2:4].max(axis=1, initial=-np.inf) <= LARGEST_LOG
    if sensible.sum() < len(kept) / 2:
        raise DetectorError(
            f"output `{name}`: most sides are logarithms above {LARGEST_LOG:.0f}, so they are in pixels already: "
            "layout yolox-decoded would fit"
        )
    kept, scores = kept[sensible], scores[sensible]
    centre = (rows[kept, :2] + places[kept]) * strides[kept]
    half = np.exp(rows[kept, 2:4]) * strides[kept] / 2
    return Candidates(np.concatenate([centre - half, centre + half], axis=1), scores, kept)


# --- rows of box, objectness, classes


def _match_objectness_rows(outputs: Sequence[Tensor], layout: Layout, size: tuple[int, int]) -> Match | None:
    tensor = _only(outputs, 3)
    if tensor is None or tensor.shape[2] < 6 or 0 <= tensor.shape[1] <= tensor.shape[2]:
        return None
    return Match({"rows": tensor.name}, tensor.shape[2] - 5)


def _read_objectness_rows(
    tensors: Tensors, match: Match, layout: Layout, size: tuple[int, int], least: float, classes: int
) -> Candidates:
    name = match.roles["rows"]
    rows = _finite(name, tensors[name][0])
    kept, scores = _objectness_scores(rows, least)
    return Candidates(_corners(rows[kept, :4], layout, size), scores, kept)


# --- columns: 4 of the box, C of the classes


def _match_columns(outputs: Sequence[Tensor], layout: Layout, size: tuple[int, int]) -> Match | None:
    tensor = _only(outputs, 3)
    if tensor is None or tensor.shape[1] < 5 or 0 <= tensor.shape[2] <= tensor.shape[1]:
        return None
    return Match({"columns": tensor.name}, tensor.shape[1] - 4)


def _read_columns(
    tensors: Tensors, match: Match, layout: Layout, size: tuple[int, int], least: float, classes: int
) -> Candidates:
    name = match.roles["columns"]
    columns = _finite(name, tensors[name][0])
    kept = _best(columns[4:].max(axis=0), least)
    return Candidates(_corners(columns[:4, kept].T, layout, size), np.ascontiguousarray(columns[4:, kept].T), kept)


# --- rows of corners, score, class


def _match_rows(outputs: Sequence[Tensor], layout: Layout, size: tuple[int, int]) -> Match | None:
    tensor = _only(outputs, 3)
    if tensor is None or tensor.shape[2] != 6:
        return None
    return Match({"rows": tensor.name}, None)


def _read_rows(
    tensors: Tensors, match: Match, layout: Layout, size: tuple[int, int], least: float, classes: int
) -> Candidates:
    name = match.roles["rows"]
    rows = _finite(name, tensors[name][0])
    kept = _best(rows[:, 4], least)
    scores = _columns_of(rows[kept, 5], rows[kept, 4], classes, layout)
    return Candidates(_corners(rows[kept, :4], layout, size), scores, _sorted_by_the_file(kept))


# --- rows of picture, label, score, corners


def _match_rows7(outputs: Sequence[Tensor], layout: Layout, size: tuple[int, int]) -> Match | None:
    tensor = outputs[0] if len(outputs) == 1 else None
    if tensor is None or len(tensor.shape) not in (3, 4) or tensor.shape[-1] != 7:
        return None
    return Match({"rows": tensor.name}, None)


def _read_rows7(
    tensors: Tensors, match: Match, layout: Layout, size: tuple[int, int], least: float, classes: int
) -> Candidates:
    name = match.roles["rows"]
    rows = _finite(name, tensors[name]).reshape(-1, 7)
    kept = _best(np.where(rows[:, 0] == 0, rows[:, 2], -1.0), least)
    scores = _columns_of(rows[kept, 1], rows[kept, 2], classes, layout)
    return Candidates(_corners(rows[kept, 3:], layout, size), scores, _sorted_by_the_file(kept))


# --- queries: logits and boxes


def _match_queries(outputs: Sequence[Tensor], layout: Layout, size: tuple[int, int]) -> Match | None:
    of_queries = [tensor for tensor in outputs if len(tensor.shape) == 3 and _side(tensor.shape[0], 1)]
    boxes = [tensor for tensor in of_queries if tensor.shape[2] == 4]
    if len(boxes) > 1:  # three classes and one for nothing look like corners: names decide
        boxes = [tensor for tensor in boxes if any(word in tensor.name.lower() for word in ("box", "dets"))]
    if len(boxes) != 1:
        return None
    logits = [
        tensor
        for tensor in of_queries
        if tensor is not boxes[0] and tensor.shape[2] != -1 and tensor.shape[1] in (-1, boxes[0].shape[1])
    ]
    if len(logits) > 1:
        logits = [tensor for tensor in logits if any(word in tensor.name.lower() for word in ("logit", "label"))]
    if len(logits) != 1 or logits[0].whole:
        return None
    classes = logits[0].shape[2] - (layout.background != "none")
    return Match({"logits": logits[0].name, "boxes": boxes[0].name}, classes) if classes >= 1 else None


def _activated(logits: Floats, layout: Layout) -> Floats:
    if layout.activation == "sigmoid":
        logits = (1 / (1 + np.exp(-np.clip(logits, -LOGIT_LIMIT, LOGIT_LIMIT)))).astype(np.float32)
    elif layout.activation == "softmax":
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        logits = raised / raised.sum(axis=1, keepdims=True)
    if layout.background == "first":
        return logits[:, 1:]
    return logits[:, :-1] if layout.background == "last" else logits


def _read_queries(
    tensors: Tensors, match: Match, layout: Layout, size: tuple[int, int], least: float, classes: int
) -> Candidates:
    logits, boxes = (_finite(match.roles[role], tensors[match.roles[role]][0]) for role in ("logits", "boxes"))
    scores = _activated(logits, layout)
    kept = _best(scores.max(axis=1), least)
    return Candidates(_corners(boxes[kept], layout, size), scores[kept], kept)


# --- labels, boxes, scores


def _match_labels(outputs: Sequence[Tensor], layout: Layout, size: tuple[int, int]) -> Match | None:
    outputs = [t for t in outputs if not t.name.lower().startswith("raw_")]  # TensorFlow's, before its NMS
    boxes = [t for t in outputs if len(t.shape) in (2, 3) and t.shape[-1] == 4]
    if len(boxes) > 1:
        boxes = [t for t in boxes if "box" in t.name.lower()]
    flat = [t for t in outputs if t not in boxes and len(_squeezed(t)) <= 1 and t.shape != () and t.shape != (1,)]
    if len(boxes) != 1 or len(flat) < 2:
        return None
    whole = [t for t in flat if t.whole] or [t for t in flat if any(w in t.name.lower() for w in ("label", "class"))]
    rest = [t for t in flat if t not in whole and "num" not in t.name.lower()]
    if len(rest) > 1:
        rest = [t for t in rest if "score" in t.name.lower()]
    if len(whole) != 1 or len(rest) != 1:
        return None
    return Match({"labels": whole[0].name, "boxes": boxes[0].name, "scores": rest[0].name}, None)


def _read_labels(
    tensors: Tensors, match: Match, layout: Layout, size: tuple[int, int], least: float, classes: int
) -> Candidates:
    labels, boxes, scores = (_finite(match.roles[r], tensors[match.roles[r]]) for r in ("labels", "boxes", "scores"))
    labels, scores, boxes = labels.reshape(-1), scores.reshape(-1), boxes.reshape(-1, 4)
    if not len(labels) == len(scores) == len(boxes):
        raise DetectorError(f"outputs: {len(labels)} labels, {len(scores)} scores and {len(boxes)} boxes")
    kept = _best(scores, least)
    made = _columns_of(labels[kept], scores[kept], classes, layout)
    return Candidates(_corners(boxes[kept], layout, size), made, _sorted_by_the_file(kept))


# --- distributions over distances to the four sides (generalised focal loss)


def _match_distributions(outputs: Sequence[Tensor], layout: Layout, size: tuple[int, int]) -> Match | None:
    grids = [grid_rows(size, (stride,)) for stride in layout.strides]
    if len(outputs) == 1:  # NanoDet-Plus: classes and 4 x 8 in one
        tensor = _only(outputs, 3)
        strides = (*layout.strides, 2 * layout.strides[-1])
        if tensor is None or tensor.shape[2] < 33 or tensor.shape[1] not in (sum(grids), grid_rows(size, strides)):
            return None
        return Match({"all": tensor.name}, tensor.shape[2] - 32)
    if len(outputs) != 2 * len(grids) or any(len(_squeezed(tensor)) != 2 for tensor in outputs):
        return None
    roles: dict[str, str] = {}
    classes: set[int] = set()
    for number, cells in enumerate(grids):
        own = [tensor for tensor in outputs if _squeezed(tensor)[0] == cells]
        sides = [tensor for tensor in own if _squeezed(tensor)[1] == 32]
        kinds = [tensor for tensor in own if _squeezed(tensor)[1] != 32]
        if len(sides) != 1 or len(kinds) != 1:
            return None
        roles |= {f"classes {number}": kinds[0].name, f"sides {number}": sides[0].name}
        classes.add(_squeezed(kinds[0])[1])
    return Match(roles, classes.pop()) if len(classes) == 1 else None


def _read_distributions(
    tensors: Tensors, match: Match, layout: Layout, size: tuple[int, int], least: float, classes: int
) -> Candidates:
    strides: tuple[int, ...] = layout.strides
    if "all" in match.roles:
        name = match.roles["all"]
        rows = _finite(name, tensors[name][0])
        scores, sides = rows[:, :-32], rows[:, -32:]
        if len(rows) != grid_rows(size, strides):
            strides = (*strides, 2 * strides[-1])
        middle = 0.0  # NanoDet-Plus measures from a cell's corner, NanoDet from its middle pixel
    else:
        parts = {
            role: _finite(name, tensors[name]).reshape(-1, classes if role.startswith("classes") else 32)
            for role, name in match.roles.items()
        }
        scores = np.concatenate([parts[f"classes {number}"] for number in range(len(strides))])
        sides = np.concatenate([parts[f"sides {number}"] for number in range(len(strides))])
        middle = 0.5
    kept = _best(scores.max(axis=1), least)
    places, steps = _grid(size, strides)
    chances = sides[kept].reshape(len(kept), 4, sides.shape[1] // 4)
    chances = np.exp(chances - chances.max(axis=2, keepdims=True))
    chances /= chances.sum(axis=2, keepdims=True)
    reach = (chances @ np.arange(chances.shape[2], dtype=np.float32)) * steps[kept]
    centre = places[kept] * steps[kept] + middle * (steps[kept] - 1)
    boxes = np.concatenate([centre - reach[:, :2], centre + reach[:, 2:]], axis=1)
    return Candidates(boxes.astype(np.float32), np.ascontiguousarray(scores[kept]), kept)


READERS: dict[str, Reader] = {
    "grid": Reader(
        "one output 1,N,5+C with N the cells of its grids (strides 8, 16, 32 unless it says others)",
        _match_grid,
        _read_grid,
    ),
    "objectness-rows": Reader(
        "one output 1,N,5+C, more rows than columns", _match_objectness_rows, _read_objectness_rows
    ),
    "columns": Reader("one output 1,4+C,N, more columns than rows", _match_columns, _read_columns),
    "rows": Reader("one output 1,N,6 of corners, score and class", _match_rows, _read_rows),
    "rows7": Reader("one output 1,1,N,7 of picture, label, score and corners", _match_rows7, _read_rows7),
    "queries": Reader("logits 1,Q,C and boxes 1,Q,4", _match_queries, _read_queries),
    "labels": Reader("labels N, scores N and boxes N,4", _match_labels, _read_labels),
    "distributions": Reader(
        "for each grid class scores n,C and sides n,32; or one output 1,N,C+32",
        _match_distributions,
        _read_distributions,
    ),
}


def suppress(found: Candidates, overlap: float | None, most: int) -> Candidates:
    """The best `most` rows, of which none overlaps a better one of its class by more than `overlap` (None: any may).

    The class of a row is its best one. By OpenCV's batched suppression.
    """
    best = found.scores.max(axis=1) if len(found.scores) else np.zeros(0, np.float32)
    if overlap is None or len(best) < 2:
        order = np.argsort(-best, kind="stable")[:most]
    else:
        boxes = np.concatenate([found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]], axis=1)
        kinds = found.scores.argmax(axis=1)
        kept = cv2.dnn.NMSBoxesBatched(boxes.tolist(), best.tolist(), kinds.tolist(), 0.0, overlap)
        order = np.asarray(kept, np.intp).reshape(-1)[:most]
    return Candidates(found.boxes[order], found.scores[order], found.rows[order])
