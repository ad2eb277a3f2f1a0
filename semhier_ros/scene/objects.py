"""Encoder side of a scene: from the detector's dense maps to the few objects worth sending, and to their code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.latent_groups import quantise
from semhier_ros.scene.layout import Ints, SceneCode, SceneLayout, quantise_boxes, quantise_feet, restore_boxes
from semhier_ros.scene.stream import SceneStream

Floats = NDArray[np.float32]
OVERLAP = 0.6  # intersection over union above which the weaker of two boxes is dropped
THRIFT = (0.1, 0.4)  # what a bit of the picture costs, in objects and outside of them
AGREEING = 0.5  # intersection over union from which a neighbouring cell means the same object


class DetectorMaps(NamedTuple):
    """The detector's output for one frame: objectness H,W (0..1); box 4,H,W (dx, dy, log w, log h in cells); types
    T,H,W logits; features F,H,W."""

    objectness: Floats
    box: Floats
    types: Floats
    features: Floats


@dataclass(frozen=True)
class Objects:
    """Found objects in raster order of their cells: cells n; boxes n,4 (cx, cy, w, h in cells); objectness n (0..1);
    leaves n,T log-probabilities; features n,F."""

    cells: Ints
    boxes: Floats
    objectness: Floats
    leaves: Floats
    features: Floats

    def __len__(self) -> int:
        return len(self.cells)

    def take(self, rows: NDArray[np.intp]) -> Objects:
        return Objects(
            self.cells[rows], self.boxes[rows], self.objectness[rows], self.leaves[rows], self.features[rows]
        )


def find_objects(maps: DetectorMaps, threshold: float, most: int, agreement: float = 0.0) -> Objects:
    """Local maxima of objectness of at least `threshold`, overlapping weaker ones removed, at most `most` of the best.

    Box and type of an object are the mean of what the peak and its neighbours say, see `_agree`. How well their boxes
    agree with that mean, to the power of `agreement`, multiplies the object's own objectness: a box of which the
    neighbours are not sure is rarely a good one (compare the predicted IoU of "IoU-aware single-stage object detector",
    arXiv 1912.05992). With 0 it does not count.
    """
    heat = np.ascontiguousarray(maps.objectness, dtype=np.float32)
    peaks = (heat >= cv2.dilate(heat, np.ones((3, 3), np.uint8))) & (heat >= threshold)
    cells = np.flatnonzero(peaks)
    cells = cells[np.argsort(-heat.ravel()[cells], kind="stable")][: 2 * most]
    boxes, leaves, agreed = _agree(maps, heat, cells)
    scores = heat.ravel()[cells]
    if agreement:
        scores = (scores * agreed**agreement).astype(np.float32)
        order = np.argsort(-scores, kind="stable")
        order = order[scores[order] >= threshold]
        cells, boxes, leaves, scores = cells[order], boxes[order], leaves[order], scores[order]
    keep = np.array(_suppress(boxes, most), np.intp)
    keep = keep[np.argsort(cells[keep])]
    cells = cells[keep]
    features = maps.features[:, cells // heat.shape[1], cells % heat.shape[1]].T
    return Objects(
        cells.astype(np.int32),
        boxes[keep],
        scores[keep],
        np.log(np.maximum(leaves[keep], 1e-9)).astype(np.float32),
        np.ascontiguousarray(features, dtype=np.float32),
    )


def together(parts: Sequence[Objects], most: int) -> Objects:
    """Objects of several lists whose boxes are in the same cells, best first: overlapping weaker ones removed, at most
    `most` of the best."""
    every = Objects(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Objects)))
    every = every.take(np.argsort(-every.objectness, kind="stable"))
    return every.take(np.array(_suppress(every.boxes, most), np.intp))


def doubted(objects: Objects, roles: tuple[int, ...], certainty: float) -> Objects:
    """The objects with scores as they are told: times the probability of the likeliest role, a node of level 1, to the
    power of `certainty`. Whoever is told one name of two that the detector saw should hear that from the score.

    roles: per leaf, the role that it lies under (`SceneLayout.roles`); none: scores as they are.
    """
    if not certainty or not roles:
        return objects
    likeliest_role = (np.exp(objects.leaves.astype(np.float64)) @ membership(roles)).max(axis=1, initial=0.0)
    return replace(objects, objectness=(objects.objectness * likeliest_role**certainty).astype(np.float32))


def _agree(
    maps: DetectorMaps, heat: Floats, cells: NDArray[np.intp]
) -> tuple[Floats, NDArray[np.float64], NDArray[np.float64]]:
    """Boxes n,4 (cx, cy, w, h in cells) and leaf probabilities n,T at `cells`: means over the 3x3 cells around each,
    weighted by objectness, of those whose box overlaps the middle one's by at least AGREEING. And n: the mean
    intersection over union of all nine boxes with that mean box, weighted alike."""
    rows, columns = heat.shape
    steps = np.array([(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)])
    y, x = (cells // columns)[:, None] + steps[:, 0], (cells % columns)[:, None] + steps[:, 1]
    inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
    around = np.clip(y, 0, rows - 1) * columns + np.clip(x, 0, columns - 1)
    raw = maps.box.reshape(4, -1)[:, around].astype(np.float64)
    centre = np.stack([around % columns, around // columns]) + 0.5 + raw[:2]
    half = np.exp(raw[2:]) / 2
    low, high = centre - half, centre + half
    inner = np.clip(np.minimum(high, high[..., 4:5]) - np.maximum(low, low[..., 4:5]), 0, None).prod(axis=0)
    area = 4 * half.prod(axis=0)
    agrees = inside & (inner >= AGREEING * (area + area[:, 4:5] - inner))
    sure = heat.ravel()[around] * inside
    weight = sure * agrees
    weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1e-9)
    mean_low, mean_high = ((side * weight).sum(axis=2, keepdims=True) for side in (low, high))
    shared = np.clip(np.minimum(high, mean_high) - np.maximum(low, mean_low), 0, None).prod(axis=0)
    overlap = shared / np.maximum(area + (mean_high - mean_low).prod(axis=0) - shared, 1e-9)
    agreed = (overlap * sure).sum(axis=1) / np.maximum(sure.sum(axis=1), 1e-9)
    low, high = mean_low[..., 0].T, mean_high[..., 0].T
    logits = maps.types[:, around // columns, around % columns].astype(np.float64)
    shares = np.exp(logits - logits.max(axis=0))
    shares /= shares.sum(axis=0)
    boxes = np.concatenate([(low + high) / 2, high - low], axis=1)
    return boxes.astype(np.float32), (shares * weight).sum(axis=2).T, agreed


def _suppress(boxes: Floats, most: int) -> list[int]:
    """Indices of the boxes (best first) that no better kept box overlaps by more than OVERLAP."""
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    area = boxes[:, 2] * boxes[:, 3]
    kept: list[int] = []
    for row in range(len(boxes)):
        inner = np.clip(np.minimum(high[row], high[kept]) - np.maximum(low[row], low[kept]), 0, None).prod(axis=1)
        if not (inner > OVERLAP * (area[row] + area[kept] - inner)).any():
            kept.append(row)
            if len(kept) == most:
                break
    return kept


@dataclass(frozen=True)
class ObjectProjection:
    """The linear maps from an object's evidence to its latent groups, and what standardises its features.

    weights: per group d,E; biases: per group d; feature_mean, feature_scale: F.
    """

    weights: Sequence[Floats]
    biases: Sequence[Floats]
    feature_mean: Floats
    feature_scale: Floats


def evidence(layout: SceneLayout, objects: Objects, code: SceneCode, mean: Floats, scale: Floats) -> Floats:
    """What the encoder knows of each object (n,E): standardised features, leaf log-probabilities, what quantising lost
    of the box (in shares of its side) and the objectness logit."""
    restored = restore_boxes(layout, code.cells, code.sizes, code.offsets)
    lost = np.concatenate(
        [(objects.boxes[:, :2] - restored[:, :2]) / restored[:, 2:], np.log(objects.boxes[:, 2:] / restored[:, 2:])],
        axis=1,
    )
    odds = np.clip(objects.objectness, 1e-4, 1 - 1e-4)
    logit = np.log(odds / (1 - odds))[:, None]
    features = (objects.features - mean) / scale
    return np.concatenate([features, objects.leaves / 4, lost * 4, logit / 2], axis=1).astype(np.float32)


@lru_cache(maxsize=64)
def membership(parents: tuple[int, ...]) -> NDArray[np.float64]:
    """Which node of the level above each node belongs to: a row each, 1 at its parent."""
    return np.asarray(np.eye(max(parents) + 1)[np.asarray(parents)])


def masses_of(leaves: NDArray[np.float64], parents: Sequence[Sequence[int]]) -> list[NDArray[np.float64]]:
    """Of every level below the first the weight n,nodes of each node, from those of the leaves."""
    masses = [leaves]
    for parent in reversed(parents[1:]):
        masses.append(masses[-1] @ membership(tuple(parent)))
    return masses[::-1]


def likeliest(masses: Sequence[NDArray[np.float64]], parents: Sequence[Sequence[int]]) -> list[Ints]:
    """The likeliest path of each object: at every level the best child of the node named above, level 0 first."""
    path = [np.zeros(len(masses[0]), np.int32)]
    for mass, parent in zip(masses, parents, strict=True):
        allowed = np.asarray(parent)[None] == path[-1][:, None]
        path.append(np.where(allowed, mass, -1.0).argmax(axis=1).astype(np.int32))
    return path


def name(leaves: Floats, parents: Sequence[Sequence[int]]) -> list[Ints]:
    """The likeliest path of each object by the logarithms of its leaves' probabilities."""
    return likeliest(masses_of(np.exp(leaves.astype(np.float64)), parents), parents)


def code_objects(stream: SceneStream, projection: ObjectProjection, objects: Objects, blocks: int) -> SceneCode:
    """The code of `objects` as deep as semantic block `blocks - 1`: geometry, names and quantised latent groups."""
    layout = stream.layout
    sizes, offsets = quantise_boxes(layout, objects.cells, objects.boxes)
    scores = np.searchsorted(layout.edges, objects.objectness, side="right").astype(np.int32)
    path = name(objects.leaves, layout.parents)
    code = SceneCode(objects.cells, sizes, offsets, scores, path=path[:1])
    if stream.foot_bits:
        code.feet = quantise_feet(layout, objects.boxes, restore_boxes(layout, objects.cells, sizes, offsets))
    if blocks <= 1:
        return code
    known = None
    if any(layout.latents[: blocks - 1]):
        known = evidence(layout, objects, code, projection.feature_mean, projection.feature_scale)
    for block in range(1, min(blocks, stream.semantic_blocks)):
        code.kept.append(np.ones(len(code), bool))
        if block < stream.levels:
            code.path.append(path[block])
        means, _ = stream.latent_parameters(block, code)
        if known is None or not means.shape[1]:
            code.latents.append(means)
            continue
        half = stream.tables["latents"].alphabet // 2
        wanted = known @ projection.weights[block - 1].T + projection.biases[block - 1]
        code.latents.append(quantise(wanted, means, half))
    return code


def code_picture(stream: SceneStream, latents: Floats, code: SceneCode, groups: int) -> None:
    """Quantise the first `groups` picture groups of `latents` (C,h,w) into `code`: finely where objects are."""
    inside, outside = THRIFT
    thrift = outside + (inside - outside) * object_cover(stream.layout, code, latents.shape[1:])
    stream.pictures.quantise_all(latents, code.picture, groups, thrift)


def object_cover(layout: SceneLayout, code: SceneCode, shape: Sequence[int]) -> Floats:
    """Share of each picture position (rows,columns) that lies in some object's box."""
    covered = np.zeros(tuple(shape), np.float32)
    scale = layout.stride / layout.picture_stride
    grid = [np.arange(length) for length in shape]
    for cx, cy, w, h in restore_boxes(layout, code.cells, code.sizes, code.offsets) * scale:
        down = np.clip(np.minimum(grid[0] + 1, cy + h / 2) - np.maximum(grid[0], cy - h / 2), 0, 1)
        across = np.clip(np.minimum(grid[1] + 1, cx + w / 2) - np.maximum(grid[1], cx - w / 2), 0, 1)
        np.maximum(covered, np.outer(down, across), out=covered)
    return covered
