"""COCO's average precision at every level of a taxonomy, by faster-coco-eval (the figures are those of pycocotools)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.reading import Detection
from semhier_ros.taxonomy import Taxonomy

Rows = NDArray[np.float32]
"""Detections n,6 of one scene at one level: node, score, x0, y0, x1, y1 in source pixels."""

Boxes = Sequence[NDArray[np.float64]]
"""Rows of every scene."""

MOST_PER_NODE = 100  # detections of a node that count in a scene: COCO's largest
AREAS = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""COCO's sizes, by area in pixels."""
SIZES = ("all", *AREAS)


def rows_of(detections: Iterable[Detection], levels: int) -> list[Rows]:
    """What readings say at each level: every node of a path, and every other node that it mentions, with its score."""
    found: list[list[tuple[float, ...]]] = [[] for _ in range(levels)]
    for detection in detections:
        for level, (node, score) in enumerate(zip(detection.path, detection.scores, strict=True)):
            found[level].append((node, score, *detection.box))
            for other, chance in detection.others[level] if level < len(detection.others) else ():
                found[level].append((other, chance, *detection.box))
    return [np.asarray(rows, np.float32).reshape(-1, 6) for rows in found]


class LevelScore(NamedTuple):
    """AP50 and AP (IoU .5 to .95), 0..1; AP50 of small, medium and large objects (None: no such labels); AP50 of every
    node that occurs in the labels."""

    ap50: float
    ap: float
    sizes: dict[str, float | None]
    nodes: dict[str, float]

    def as_row(self) -> dict[str, Any]:
        """In the words of result files."""
        return {"ap50": self.ap50, "ap": self.ap, "ap50_by_size": self.sizes, "ap50_by_class": self.nodes}


class Truth:
    """The labels of a set of scenes at every level.

    labels: per scene rows (leaf, x0, y0, w, h). owners: per level, the node above each leaf. names: per level.
    ignored: per scene boxes n,4 (x0, y0, w, h) where something unlabelled may be: what is found mostly inside one is
    neither right nor wrong (COCO's crowds, of every node that occurs).
    """

    def __init__(
        self, labels: Boxes, owners: Sequence[NDArray[np.intp]], names: Sequence[Sequence[str]], ignored: Boxes = ()
    ):
        self.names = names
        self._truth = [self._level(labels, owner, len(names[level]), ignored) for level, owner in enumerate(owners)]

    @classmethod
    def of(cls, labels: Boxes, taxonomy: Taxonomy, ignored: Boxes = ()) -> Truth:
        """The truth at every level of a taxonomy."""
        levels = range(taxonomy.depth)
        owners = [np.asarray(taxonomy.owner(level)) for level in levels]
        return cls(labels, owners, [taxonomy.names(level) for level in levels], ignored)

    def _level(self, labels: Boxes, owner: NDArray[np.intp], nodes: int, ignored: Boxes) -> Any:
        from faster_coco_eval import COCO

        boxes = [(scene, int(owner[int(row[0])]), row[1:], 0) for scene, rows in enumerate(labels) for row in rows]
        occurring = sorted({node for _, node, _, _ in boxes})
        boxes += [(scene, node, box, 1) for scene, rows in enumerate(ignored) for box in rows for node in occurring]
        return COCO(
            {
                "images": [{"id": scene + 1} for scene in range(len(labels))],
                "categories": [{"id": node + 1} for node in range(nodes)],
                "annotations": [
                    {
                        "id": number + 1,
                        "image_id": scene + 1,
                        "category_id": node + 1,
                        "bbox": box.tolist(),
                        "area": float(box[2] * box[3]),
                        "iscrowd": crowd,
                    }
                    for number, (scene, node, box, crowd) in enumerate(boxes)
                ],
            }
        )

    def score(self, level: int, found: Sequence[Rows], nodes: Iterable[int] | None = None) -> LevelScore:
        """What the detections of all scenes, in the order of the labels, are worth at `level`. nodes: those that count
        (None: all)."""
        from faster_coco_eval import COCOeval_faster

        arrays = []
        for scene, rows in enumerate(found):
            out = np.empty((len(rows), 7))
            out[:, 0], out[:, 5], out[:, 6] = scene + 1, rows[:, 1], rows[:, 0] + 1
            out[:, 1:3], out[:, 3:5] = rows[:, 2:4], rows[:, 4:6] - rows[:, 2:4]
            arrays.append(out)
        everything = np.concatenate(arrays) if arrays else np.empty((0, 7))
        counted = sorted(range(len(self.names[level])) if nodes is None else set(nodes))
        notes = [note for note in self._truth[level].dataset["annotations"] if note["category_id"] - 1 in counted]
        occurring = sorted({note["category_id"] - 1 for note in notes})
        if not len(everything):
            areas = [note["area"] for note in notes if not note["iscrowd"]]
            there = {name: any(low <= area <= high for area in areas) for name, (low, high) in AREAS.items()}
            return LevelScore(
                0.0,
                0.0,
                {name: 0.0 if some else None for name, some in there.items()},
                {self.names[level][node]: 0.0 for node in occurring},
            )
        judged = COCOeval_faster(
            self._truth[level], self._truth[level].loadRes(everything), "bbox", print_function=lambda *_: None
        )
        judged.params.maxDets = [1, 10, MOST_PER_NODE]
        judged.params.catIds = [node + 1 for node in counted]
        judged.evaluate()
        judged.accumulate()
        precision = judged.eval["precision"][..., -1]  # IoU, recall, node, size
        sizes = {name: _mean(precision[0, :, :, place]) for place, name in enumerate(SIZES)}
        return LevelScore(
            sizes.pop("all") or 0.0,
            _mean(precision[:, :, :, 0]) or 0.0,
            sizes,
            {self.names[level][node]: _mean(precision[0, :, counted.index(node), 0]) or 0.0 for node in occurring},
        )


def _mean(precision: NDArray[np.float64]) -> float | None:
    """COCO's mean over what occurs; -1 marks what does not."""
    known = precision[precision > -1]
    return float(known.mean()) if len(known) else None
