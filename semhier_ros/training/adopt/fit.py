"""From what a detector found in pictures to a stream: layout, tables, context networks, readers, calibration."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.canvas import Canvas
from semhier_ros.codec.entropy import Tables
from semhier_ros.codec.integer_network import IntegerNetwork
from semhier_ros.codec.latent_groups import LATENT_BOUND
from semhier_ros.codec.picture_blocks import PATCH_SIDE
from semhier_ros.scene.detectors.layouts import DetectorError
from semhier_ros.scene.detectors.objects import LEAST_CHANCE, objects_of
from semhier_ros.scene.detectors.runtime import Found
from semhier_ros.scene.layout import FRACTION, SceneCode, SceneLayout, restore_boxes
from semhier_ros.scene.objects import ObjectProjection, Objects, code_objects
from semhier_ros.scene.reader import SceneReader
from semhier_ros.scene.stream import SceneStream
from semhier_ros.taxonomy import Taxonomy
from semhier_ros.training.adopt.readers import GEOMETRY, Targets, confusion, fit_reader
from semhier_ros.training.calibration import CURVE_POINTS, calibration_curves, level_hits
from semhier_ros.training.matching import match, named_code
from semhier_ros.training.scene_tables import budget_tables, geometry_tables, name_tables

Floats = NDArray[np.float32]
STRIDE = 8
CANVAS_SIDE = 640  # of the longer side, unless objects are too small for it
LARGEST_CANVAS = 1280
SMALL_SHARE = 0.02  # of the boxes may be smaller than half a cell
SIZE_LOW = math.log(0.5)
SCORES = 18  # classes of score
COUNT_EDGES = (1, 2, 3, 5, 8, 12, 18, 27)
MOST_OBJECTS = 63
MOST_THRESHOLD = 0.5
FRAME_BYTES = 60.0
SIZED = 200  # pictures that sizes are measured on
START_SYMBOLS, START_PICTURES = 40.0, 60.0  # what a stream to start from counts as: symbols a table row, pictures
SCALES, LATENT_HALF = np.geomspace(0.11, 32.0, 48), 63
APPEARANCE_LEVELS = 2.0  # standard deviation, in steps, of the appearance latent that varies most
RIDGE = 1.0


class Steps(NamedTuple):
    """How finely boxes are said, and down to which score it is worth it: size and offset steps as `SceneLayout` has
    them."""

    size: float
    offset: float
    offset_levels: int
    least_score: float


COARSE, FINE = Steps(0.16, 0.1, 21, 0.05), Steps(0.06, 0.04, 51, 0.03)
FINE_FROM = 75.0  # bytes a frame from which boxes are said finely


class Observed(NamedTuple):
    """What a detector found in one picture of `size` (width, height); labels n,5 (leaf, x0, y0, x1, y1 in pixels), or
    None where nobody labelled it."""

    size: tuple[int, int]
    found: Found
    labels: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Fitted:
    """A stream that is ready to be written. heads: as `heads.safetensors` holds them."""

    stream: SceneStream
    canvas: tuple[int, int]
    heads: dict[str, NDArray[np.float32]]
    threshold: float
    frame_bytes: float


def choose_canvas(observed: Sequence[Observed]) -> tuple[int, int]:
    """Width and height that the pictures' boxes are coded on: the pictures' own shape, or a square one where they
    differ; larger where many boxes are small."""
    shapes = np.array([width / height for (width, height), _, _ in observed])
    middle = float(np.median(shapes))
    aspect = middle if (np.abs(np.log(shapes / middle)) < 0.05).mean() > 0.95 else min(4 / 3, float(shapes.max()))
    sides = np.concatenate(
        [(found.boxes[:, 2:] - found.boxes[:, :2]).min(axis=1) / max(size) for size, found, _ in observed]
    )
    side = CANVAS_SIDE
    if len(sides):
        small = float(np.quantile(sides, SMALL_SHARE))
        while side < LARGEST_CANVAS and small * side < STRIDE / 2:
            side *= 2
    width, height = (side, side / aspect) if aspect >= 1 else (side * aspect, side)
    return tuple(max(2, round(length / STRIDE)) * STRIDE for length in (width, height))  # type: ignore[return-value]


def make_layout(
    taxonomy: Taxonomy,
    canvas: tuple[int, int],
    scores: tuple[float, float],
    latents: Sequence[int],
    steps: Steps = COARSE,
) -> SceneLayout:
    """The layout of an adopted stream. scores: the lowest that is sent, and one that few objects are above."""
    levels = math.ceil((math.log(max(canvas) / STRIDE) - SIZE_LOW) / steps.size) + 1
    return SceneLayout(
        columns=canvas[0] // STRIDE,
        rows=canvas[1] // STRIDE,
        stride=STRIDE,
        size_low=SIZE_LOW,
        size_step=steps.size,
        size_levels=levels,
        offset_step=steps.offset,
        offset_levels=steps.offset_levels,
        score_edges=score_edges(*scores),
        count_edges=COUNT_EDGES,
        max_objects=MOST_OBJECTS,
        parents=tuple(tuple(int(p) for p in taxonomy.parent(level)) for level in range(1, len(taxonomy.levels))),
        latents=tuple(latents),
        picture_groups=(),
        picture_stride=STRIDE,
    )


def score_edges(lowest: float, highest: float) -> tuple[float, ...]:
    """The edges between classes of score, in even steps of the fourth root: finer where scores are low and many."""
    root = 0.25
    edges = np.linspace(lowest**root, max(highest, 1.5 * lowest) ** root, SCORES)[:-1] ** (1 / root)
    return tuple(round(float(edge), 4) for edge in edges)


def _highest(best: Floats, lowest: float) -> float:
    """A score that few of those of at least `lowest` are above."""
    above = best[best >= lowest]
    return float(np.quantile(above, 0.97)) if len(above) else 1.5 * lowest


class Row(NamedTuple):
    """One picture on the way to a stream: its objects, and per level of the tree n,nodes: how likely each node is for
    each object. wanted n,4: boxes (cx, cy, w, h in cells) that a receiver should read. labelled: whether people said
    so."""

    objects: Objects
    chances: list[NDArray[np.float64]]
    wanted: Floats
    labelled: bool


def fit(
    observed: Sequence[Observed],
    taxonomy: Taxonomy,
    *,
    frame_bytes: float = FRAME_BYTES,
    threshold: float | None = None,
    lowest_score: float | None = None,
    canvas: tuple[int, int] | None = None,
    appearance: int = 0,
    pictures: SceneStream | None = None,
    start: SceneStream | None = None,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> Fitted:
    """A stream for what was observed.

    frame_bytes: what a frame's semantic blocks take on average; the threshold is the lowest that keeps to it (at most
    MOST_THRESHOLD), unless `threshold` is given. From FINE_FROM bytes on boxes are said more finely. lowest_score: the
    tables are made for objects down to it, though the model sends those from `threshold` on. canvas: what boxes are
    coded on (None: chosen). appearance: channels of the appearance latents (0: none; the detector must have given
    features). pictures: a stream whose picture blocks this one has, too; it fixes the canvas. start: a stream whose
    tables count as a few pictures more where they fit.

    Raises:
        DetectorError: nothing was found in any picture.
    """
    if not any(len(item.found) for item in observed):
        raise DetectorError(f"detector: no object in any of {len(observed)} pictures; is the layout right?")
    if pictures is not None:
        shape = pictures.picture_shape()
        canvas = shape[1] * PATCH_SIDE, shape[0] * PATCH_SIDE
    canvas = choose_canvas(observed) if canvas is None else canvas
    levels = len(taxonomy.levels)
    latents = (*[0] * (levels - 1), *([appearance] if appearance else []))
    best = np.concatenate([item.found.scores.max(axis=1) for item in observed if len(item.found)])
    steps = FINE if frame_bytes >= FINE_FROM else COARSE
    lowest = lowest_score or (steps.least_score if threshold is None else threshold)
    above = best[best >= lowest]
    if not len(above):
        raise DetectorError(
            f"detector: no object of {lowest:g} or more in any of {len(observed)} pictures, the best has "
            f"{best.max():.3f}; is the layout right?"
        )
    layout = make_layout(taxonomy, canvas, (lowest, _highest(best, lowest)), latents, steps)
    rows = [_row(layout, canvas, item, taxonomy, lowest) for item in observed]
    if threshold is None:
        threshold = _choose_threshold(layout, rows, frame_bytes, start, best, lowest)
        layout = replace(layout, score_edges=score_edges(threshold, _highest(best, threshold)))
        rows = [_above(row, threshold) for row in rows]
    least = threshold if lowest_score is None else lowest_score
    say(f"{sum(len(row.objects) for row in rows)} objects of {least:.3g} or more in {len(rows)} pictures")

    projection, networks = _appearance(layout, rows, appearance)
    plain = SceneStream(layout, {}, {}, np.zeros((1, 1), np.uint8), np.zeros(0, np.uint8))
    codes = [named_code(layout, row.objects, levels) for row in rows]
    tables, occupancy = _tables(layout, codes, start)
    if appearance:
        tables["latents"] = Tables.gaussian(SCALES, LATENT_HALF)
    shifts = np.zeros(0, np.uint8)
    if pictures is not None:
        layout = replace(layout, picture_groups=pictures.layout.picture_groups, picture_stride=PATCH_SIDE)
        tables["picture"], shifts = pictures.tables["picture"], pictures.picture_shifts
        networks |= {key: value for key, value in pictures.networks.items() if key.startswith("picture_")}
    stream = SceneStream(layout, tables, networks, occupancy, shifts)
    coded = [code_objects(stream, projection, row.objects, stream.semantic_blocks) for row in rows]
    heads = _readers(plain, coded, rows, taxonomy, seed)
    heads |= {
        "feature_mean": projection.feature_mean,
        "feature_scale": projection.feature_scale,
        **{
            f"project_{group}.weight": np.asarray(weight, np.float32) for group, weight in enumerate(projection.weights)
        },
        **{f"project_{group}.bias": np.asarray(bias, np.float32) for group, bias in enumerate(projection.biases)},
    }
    flat = np.linspace(0, 1, CURVE_POINTS, dtype=np.float32)
    heads |= {f"{kind}_{level}": flat for kind in ("score", "other") for level in range(levels)}
    reader = SceneReader(stream, taxonomy, heads)
    heads |= calibration_curves(reader, ((code, row.chances) for code, row in zip(coded, rows, strict=True)))
    spent = [sum(len(stream.encode(block, code)) for block in range(stream.semantic_blocks)) for code in coded[:SIZED]]
    return Fitted(stream, canvas, heads, threshold, float(np.mean(spent)))


def _row(layout: SceneLayout, canvas: tuple[int, int], item: Observed, taxonomy: Taxonomy, threshold: float) -> Row:
    own = Canvas(*canvas, source=item.size)
    objects = objects_of(layout, own, item.found, threshold, layout.max_objects)
    owners = [np.asarray(taxonomy.owner(level)) for level in range(len(taxonomy.levels))]
    if item.labels is None:
        shares = np.exp(objects.leaves.astype(np.float64))
        shares = np.where(shares <= 1.01 * LEAST_CHANCE, 0, shares)
        scores = objects.objectness[:, None] * shares / np.maximum(shares.max(axis=1, keepdims=True, initial=0), 1e-9)
        chances = []
        for owner in owners:
            level = np.zeros((len(objects), int(owner.max()) + 1))
            np.add.at(level.T, owner, scores.T)
            chances.append(np.minimum(level, 1.0))
        return Row(objects, chances, objects.boxes, False)
    labels = item.labels.astype(np.float32)
    labels[:, 1:] *= own.scale
    matched = match(objects, labels, layout.stride)
    return Row(objects, [hit.astype(np.float64) for hit in level_hits(owners, matched.truth)], matched.wanted, True)


def _above(row: Row, threshold: float) -> Row:
    kept = np.flatnonzero(row.objects.objectness >= threshold)
    return Row(row.objects.take(kept), [level[kept] for level in row.chances], row.wanted[kept], row.labelled)


def _choose_threshold(
    layout: SceneLayout,
    rows: list[Row],
    frame_bytes: float,
    start: SceneStream | None,
    best: Floats,
    lowest: float,
) -> float:
    """The lowest threshold at which frames take `frame_bytes` on average, on pictures that no table was counted on."""
    levels = len(layout.parents) + 1
    counted = [row for number, row in enumerate(rows) if number % 5 or len(rows) < 10]
    tried = rows[::5][:SIZED]

    def size(threshold: float) -> float:
        edges = score_edges(threshold, _highest(best, threshold))
        own = replace(layout, score_edges=edges, latents=(0,) * (levels - 1))
        codes = [named_code(own, _above(row, threshold).objects, levels) for row in counted]
        if not any(len(code) for code in codes):
            return 0.0
        tables, occupancy = _tables(own, codes, start)
        stream = SceneStream(own, tables, {}, occupancy, np.zeros(0, np.uint8))
        spent = []
        for row in tried:
            code = whole_code(own, _above(row, threshold).objects)
            spent.append(sum(len(stream.encode(block, code)) for block in range(levels)))
        return float(np.mean(spent))

    low, high = lowest, MOST_THRESHOLD
    if size(low) <= frame_bytes:
        return low
    for _ in range(7):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if size(middle) > frame_bytes else (low, middle)
    return high


def whole_code(layout: SceneLayout, objects: Objects) -> SceneCode:
    """Geometry and all names of objects, with nothing else to say of them."""
    levels = len(layout.parents) + 1
    code = named_code(layout, objects, levels)
    for channels in layout.latents:
        code.kept.append(np.ones(len(code), bool))
        code.latents.append(np.zeros((len(code), channels), np.int32))
    return code


# --- tables


def _tables(
    layout: SceneLayout, codes: list[SceneCode], start: SceneStream | None
) -> tuple[dict[str, Tables], NDArray[np.uint8]]:
    """All tables but those of latents, counted, and mixed with those of `start` where they have the same rows."""
    plain = SceneStream(layout, {}, {}, np.zeros((1, 1), np.uint8), np.zeros(0, np.uint8))
    tables, occupancy = geometry_tables(layout, codes)
    tables |= name_tables(plain, codes) | budget_tables(len(layout.latents))
    if start is None:
        return tables, occupancy
    same = ["count"] if start.layout.count_edges == layout.count_edges else []
    sizes = ("size_low", "size_step", "size_levels")
    if all(getattr(start.layout, key) == getattr(layout, key) for key in sizes):
        same += ["height"]
        if (start.layout.columns, start.layout.rows) == (layout.columns, layout.rows):
            same += ["width"]
        if (start.layout.offset_step, start.layout.offset_levels) == (layout.offset_step, layout.offset_levels):
            same += ["offset_x", "offset_y"]
    if start.layout.parents == layout.parents:
        same += [f"name_{level}" for level in range(1, len(layout.parents) + 1)]
    used = _rows_used(plain, codes)
    for key in same:
        other = start.tables.get(key)
        if other is not None and other.frequencies.shape == tables[key].frequencies.shape:
            tables[key] = mixed(tables[key], np.bincount(used[key], minlength=tables[key].rows), other)
    if start.occupancy_rows.shape == occupancy.shape:
        share = START_PICTURES / (START_PICTURES + len(codes))
        occupancy = np.rint((1 - share) * occupancy + share * start.occupancy_rows).astype(np.uint8)
    return tables, occupancy


def _rows_used(stream: SceneStream, codes: list[SceneCode]) -> dict[str, NDArray[np.intp]]:
    """Which row of each table every observed symbol was counted in."""
    filled = [code for code in codes if len(code)]
    used = {
        "count": [np.zeros(len(codes), np.intp)],
        "width": [stream.band(code.cells) for code in filled],
        "height": [code.sizes[:, 0] for code in filled],
        "offset_x": [code.sizes[:, 0] for code in filled],
        "offset_y": [code.sizes[:, 1] for code in filled],
    }
    for level in range(1, stream.levels):
        used[f"name_{level}"] = [stream.name_rows(level, code) for code in filled]
    return {key: np.concatenate(parts).astype(np.intp) for key, parts in used.items()}


def mixed(tables: Tables, seen: NDArray[np.intp], other: Tables) -> Tables:
    """Rows between two tables' : `other` counts as START_SYMBOLS symbols beside the `seen` ones of each row."""
    share = (START_SYMBOLS / (START_SYMBOLS + seen))[:, None]
    weights = (1 - share) * tables.frequencies + share * other.frequencies
    return Tables.from_counts(weights, smoothing=1e-6)


# --- appearance


def _appearance(
    layout: SceneLayout, rows: list[Row], channels: int
) -> tuple[ObjectProjection, dict[str, IntegerNetwork]]:
    """Projections of every group, and the context network of the last one: principal directions of what a name and a
    box leave open of the features, and what they say of those directions' means, by least squares."""
    leaves = len(layout.parents[-1])
    width = max(row.objects.features.shape[1] for row in rows)
    if channels > width:
        raise DetectorError(f"appearance: {channels} channels of a tensor that has {width}")
    features = np.concatenate([row.objects.features for row in rows]).astype(np.float64)
    mean = features.mean(axis=0) if len(features) else np.zeros(width)
    scale = features.std(axis=0) + 1e-3 if len(features) else np.ones(width)
    inputs = width + leaves + 5
    empty = (np.zeros((0, inputs), np.float32), np.zeros(0, np.float32))
    groups = [empty] * len(layout.latents)
    networks: dict[str, IntegerNetwork] = {}
    if channels:
        plain = SceneStream(layout, {}, {}, np.zeros((1, 1), np.uint8), np.zeros(0, np.uint8))
        codes = [whole_code(layout, row.objects) for row in rows if len(row.objects)]
        told = np.concatenate([plain.told(code, plain.levels - 1) for code in codes]) / FRACTION
        known = (features - mean) / scale
        design = np.concatenate([told, np.ones((len(told), 1))], axis=1)
        gram = design.T @ design + RIDGE * np.eye(design.shape[1])
        said = np.linalg.solve(gram, design.T @ known)
        left = known - design @ said
        values, directions = np.linalg.eigh(left.T @ left / max(1, len(left)))
        chosen = directions[:, ::-1][:, :channels]
        spread = math.sqrt(max(float(values[-1]), 1e-6))
        gain = APPEARANCE_LEVELS / spread
        weight = np.zeros((channels, inputs))
        weight[:, :width] = (chosen * gain).T
        groups[-1] = (weight.astype(np.float32), np.zeros(channels, np.float32))
        expected = said @ (chosen * gain)
        rest = (left @ chosen) * gain
        step = math.log(SCALES[1] / SCALES[0])
        places = (np.log(np.clip(rest.std(axis=0), SCALES[0], SCALES[-1])) - math.log(SCALES[0])) / step
        context = np.concatenate([expected[:-1], np.zeros((told.shape[1], channels))], axis=1)
        bias = np.concatenate([expected[-1], places])
        networks[f"latents_{len(layout.latents)}"] = IntegerNetwork.from_float(
            [context], [bias], input_bits=4, input_bound=LATENT_BOUND, output_bits=4, output_bound=2047
        )
    projection = ObjectProjection(
        [weight for weight, _ in groups],
        [bias for _, bias in groups],
        mean.astype(np.float32),
        scale.astype(np.float32),
    )
    return projection, networks


# --- readers


def _readers(
    stream: SceneStream, coded: list[SceneCode], rows: list[Row], taxonomy: Taxonomy, seed: int
) -> dict[str, NDArray[np.float32]]:
    filled = [(code, row) for code, row in zip(coded, rows, strict=True) if len(code)]
    deepest = stream.levels - 1
    told = np.concatenate([stream.told(code, deepest) for code, _ in filled]) / FRACTION
    scores = np.concatenate([row.chances[-1] for _, row in filled])
    total = scores.sum(axis=1)
    shares = scores / np.maximum(total, 1e-9)[:, None]
    correction = np.concatenate([_correction(stream.layout, code, row.wanted) for code, row in filled])
    labelled = any(row.labelled for row in rows)
    present = total if labelled else np.concatenate([row.objects.objectness for _, row in filled])
    targets = Targets(told, shares, np.minimum(present, 1.0), correction, labelled)
    heads: dict[str, NDArray[np.float32]] = {}
    for prefix in range(stream.semantic_blocks):
        level = min(prefix, deepest)
        nodes = len(taxonomy.levels[level])
        named = np.concatenate([code.path[level] for code, _ in filled]).astype(np.intp)
        chances = confusion(named, np.asarray(taxonomy.owner(level)), targets, nodes)
        inputs = GEOMETRY + sum(len(taxonomy.levels[k]) for k in range(1, level + 1))
        latents = sum(stream.layout.latents[:prefix])
        layers = fit_reader(targets, inputs, named, chances, latents, seed + prefix)
        for number, (weight, bias) in enumerate(layers):
            heads[f"reader_{prefix}.{number}.weight"], heads[f"reader_{prefix}.{number}.bias"] = weight, bias
    return heads


def _correction(layout: SceneLayout, code: SceneCode, wanted: Floats) -> NDArray[np.float64]:
    boxes = restore_boxes(layout, code.cells, code.sizes, code.offsets)
    moved = (wanted[:, :2] - boxes[:, :2]) / boxes[:, 2:]
    grown = np.log(np.maximum(wanted[:, 2:], 1e-3) / boxes[:, 2:])
    return 4 * np.concatenate([moved, grown], axis=1).clip(-1, 1)
