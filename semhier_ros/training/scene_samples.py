"""What the detector learns from, sample by sample: an augmented crop of a road scene with its targets.

Processes that load pictures import this module; it takes in no network.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from semhier_ros.training.loader import Draws
from semhier_ros.training.road_data import SceneAugmenter, Scenes

STRIDE = 8  # pixels of a cell of the targets: `torch.detector.STRIDE`
REPEAT_THRESHOLD = 0.15  # a type in fewer scenes than this is drawn more often
REPEAT_LIMIT = 4.0
LEAST_HEAT = 0.02  # what a Gaussian falls to before it counts as nothing
LEAST_TAUGHT = 0.05  # and before its cells learn box and type
REACH = 2.8  # sigmas to where it is below LEAST_HEAT: sqrt(-2 ln 0.02)


class Targets(NamedTuple):
    """Per picture, over the stride-8 grid: `heat` 1,H,W; `weight` H,W (0 where no object teaches); `box` 4,H,W
    (x0, y0, x1, y1 in cells); `types` H,W int64."""

    heat: np.ndarray
    weight: np.ndarray
    box: np.ndarray
    types: np.ndarray


def make_targets(boxes: np.ndarray, width: int, height: int, spread: float = 0.54) -> Targets:
    """Targets of one picture of `width` x `height` pixels for its `boxes` (class, x0, y0, x1, y1).

    `spread` is TTFNet's alpha: the Gaussian's extent relative to the box. Small objects win where objects overlap.
    """
    columns, rows = width // STRIDE, height // STRIDE
    heat = np.zeros((1, rows, columns), np.float32)
    weight = np.zeros((rows, columns), np.float32)
    owner = np.zeros((rows, columns), np.intp)  # the object that teaches a cell, counted from 1
    grid_x, grid_y = np.arange(columns, dtype=np.float32), np.arange(rows, dtype=np.float32)
    area = (boxes[:, 3] - boxes[:, 1]) * (boxes[:, 4] - boxes[:, 2])
    boxes = boxes[np.argsort(-area)]
    for number, (x0, y0, x1, y1) in enumerate((boxes[:, 1:] / STRIDE).tolist(), 1):
        cell_x = min(max(int((x0 + x1) / 2), 0), columns - 1)
        cell_y = min(max(int((y0 + y1) / 2), 0), rows - 1)
        sigma_x, sigma_y = max(spread * (x1 - x0) / 6, 0.35), max(spread * (y1 - y0) / 6, 0.35)
        left, right = max(0, int(cell_x - REACH * sigma_x)), int(cell_x + REACH * sigma_x) + 2
        top, bottom = max(0, int(cell_y - REACH * sigma_y)), int(cell_y + REACH * sigma_y) + 2
        along = np.exp((grid_x[left:right] - cell_x) ** 2 * (-0.5 / sigma_x**2))
        down = np.exp((grid_y[top:bottom] - cell_y) ** 2 * (-0.5 / sigma_y**2))
        bump = down[:, None] * along
        bump *= bump >= LEAST_HEAT
        place = slice(top, bottom), slice(left, right)
        np.maximum(heat[0][place], bump, out=heat[0][place])
        teach = bump > LEAST_TAUGHT
        np.copyto(weight[place], bump / bump.sum(), where=teach)
        np.copyto(owner[place], number, where=teach)
    nobody = np.zeros((1, 5), np.float32)
    taught = np.concatenate([nobody, boxes])[owner]
    box_map = np.ascontiguousarray(taught[..., 1:].transpose(2, 0, 1) / STRIDE, np.float32)
    return Targets(heat, weight, box_map, taught[..., 0].astype(np.int64))


def draw_shares(boxes: list[np.ndarray], classes: int) -> NDArray[np.float64]:
    """How often each scene is drawn, summing to 1: repeat factor sampling (Gupta, Dollar and Girshick, "LVIS", arXiv
    1908.03195). A scene repeats as often as its rarest type asks for, at most `REPEAT_LIMIT` times."""
    present = np.zeros((len(boxes), classes), bool)
    for row, found in enumerate(boxes):
        present[row, found[:, 0].astype(int)] = True
    frequency = present.mean(0).clip(min=1 / len(boxes))
    repeats = np.sqrt(REPEAT_THRESHOLD / frequency).clip(1.0, REPEAT_LIMIT)
    shares = np.where(present, repeats, 1.0).max(1)
    return shares / shares.sum()


class SceneSamples:
    """`loader.Samples` of crops of `size` (w, h): pixels h,w,3 uint8 RGB, then the arrays of
    `Targets`."""

    def __init__(self, scenes: Scenes, size: tuple[int, int], seed: int, shares: NDArray | None = None):
        self.augmenter = SceneAugmenter(scenes, size)
        self.draws = Draws(len(scenes), seed, shares)

    def sample(self, number: int) -> tuple[NDArray, ...]:
        image, boxes = self.augmenter.sample(self.draws.row(number), self.draws.random(number))
        return np.ascontiguousarray(image), *make_targets(boxes, *self.augmenter.size)
