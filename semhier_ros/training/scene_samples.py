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
LEAST_SIGMAS = 0.35, 0.6  # cells: of the heat; of what learns box and type, so that small objects teach 3x3 cells
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

    `spread` is TTFNet's alpha: the Gaussian's extent relative to the box. Small objects win where objects overlap. An
    object is found as the mean of what 3x3 cells say of it (`scene.objects`), so all of them learn its box and type,
    weighed by a Gaussian around its middle, but for cells that are nearer to the middle of another.
    """
    columns, rows = width // STRIDE, height // STRIDE
    heat = np.zeros((1, rows, columns), np.float32)
    weight = np.zeros((rows, columns), np.float32)
    owner = np.zeros((rows, columns), np.intp)  # the object that teaches a cell, counted from 1
    near = np.zeros((rows, columns), np.float32)  # how near a cell is to the middle of its owner, 0..1
    grid_x, grid_y = np.arange(columns, dtype=np.float32), np.arange(rows, dtype=np.float32)
    area = (boxes[:, 3] - boxes[:, 1]) * (boxes[:, 4] - boxes[:, 2])
    boxes = boxes[np.argsort(-area)]
    for number, (x0, y0, x1, y1) in enumerate((boxes[:, 1:] / STRIDE).tolist(), 1):
        middle_x, middle_y = (x0 + x1) / 2, (y0 + y1) / 2
        cell_x, cell_y = min(max(int(middle_x), 0), columns - 1), min(max(int(middle_y), 0), rows - 1)
        sigmas = spread * (x1 - x0) / 6, spread * (y1 - y0) / 6
        reach_x, reach_y = (REACH * max(sigma, *LEAST_SIGMAS) for sigma in sigmas)
        left, right = max(0, int(cell_x - reach_x)), int(cell_x + reach_x) + 2
        top, bottom = max(0, int(cell_y - reach_y)), int(cell_y + reach_y) + 2
        place, axes = (slice(top, bottom), slice(left, right)), (grid_x[left:right], grid_y[top:bottom])
        peak = _bump(axes, (cell_x, cell_y), sigmas, LEAST_SIGMAS[0])
        np.maximum(heat[0][place], peak * (peak >= LEAST_HEAT), out=heat[0][place])
        bump = _bump(axes, (middle_x - 0.5, middle_y - 0.5), sigmas, LEAST_SIGMAS[1])
        bump *= bump > LEAST_TAUGHT
        teach = (bump > 0) & ((peak > LEAST_TAUGHT) | (bump > near[place]))
        for kept, value in ((weight, bump / bump.sum()), (owner, number), (near, bump)):
            np.copyto(kept[place], value, where=teach)
    nobody = np.zeros((1, 5), np.float32)
    taught = np.concatenate([nobody, boxes])[owner]
    box_map = np.ascontiguousarray(taught[..., 1:].transpose(2, 0, 1) / STRIDE, np.float32)
    return Targets(heat, weight, box_map, taught[..., 0].astype(np.int64))


def _bump(
    axes: tuple[np.ndarray, np.ndarray], middle: tuple[float, float], sigmas: tuple[float, float], least: float
) -> np.ndarray:
    """A Gaussian of height 1 around `middle` (x, y) on the columns and rows `axes`, of `sigmas` of at least `least`."""
    along, down = (
        np.exp((axis - at) ** 2 * (-0.5 / max(sigma, least) ** 2))
        for axis, at, sigma in zip(axes, middle, sigmas, strict=True)
    )
    return np.asarray(down[:, None] * along)


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
