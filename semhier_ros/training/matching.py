"""Found objects and the labels that they belong to. Without torch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from semhier_ros.scene.budget import overlaps
from semhier_ros.scene.layout import SceneCode, SceneLayout, quantise_boxes
from semhier_ros.scene.objects import Objects, name


class Matched(NamedTuple):
    """Objects of one scene and the label that each overlaps best: truth n, its leaf (-1 for none); wanted n,4, its box
    (cx, cy, w, h in cells), the object's own where there is none."""

    objects: Objects
    truth: NDArray[np.int64]
    wanted: NDArray[np.float32]


def match(objects: Objects, labels: NDArray[np.float32], stride: int, overlap: float = 0.5) -> Matched:
    """Labels of found objects: greedy by objectness, IoU of at least `overlap`.

    labels n,5: class, x0, y0, x1, y1 in canvas pixels.
    """
    truth = np.full(len(objects), -1, np.int64)
    wanted = objects.boxes.copy()
    low, high = labels[:, 1:3] / stride, labels[:, 3:5] / stride
    true_boxes = np.concatenate([(low + high) / 2, high - low], axis=1)
    shared = overlaps(objects.boxes, true_boxes)
    for row in np.argsort(-objects.objectness) if len(labels) else ():
        best = int(shared[row].argmax())
        if shared[row, best] >= overlap:
            truth[row], wanted[row] = int(labels[best, 0]), true_boxes[best]
            shared[:, best] = 0
    return Matched(objects, truth, wanted.astype(np.float32))


def named_code(layout: SceneLayout, objects: Objects, levels: int) -> SceneCode:
    """Geometry and full path of found objects, no latents."""
    sizes, offsets = quantise_boxes(layout, objects.cells, objects.boxes)
    scores = np.searchsorted(layout.score_edges, objects.objectness, side="right").astype(np.int32)
    return SceneCode(objects.cells, sizes, offsets, scores, path=name(objects.leaves, layout.parents)[:levels])
