"""From the checkpoints of detector and picture to a model folder: collect, train the object codec, count, calibrate."""

from __future__ import annotations

import argparse
import math
import shutil
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from semhier_ros.codec.model_folder import write_heads
from semhier_ros.codec.picture_blocks import PATCH_SIDE
from semhier_ros.codec.stream_info import check_name
from semhier_ros.scene.backend import OpenVinoBackend
from semhier_ros.scene.finders import Look, OwnFinder, read_looks
from semhier_ros.scene.folder import MOST_POWER, read_scene_folder, write_scene_card, write_scene_stream
from semhier_ros.scene.layout import SceneLayout
from semhier_ros.scene.objects import code_objects, doubted
from semhier_ros.scene.reader import SceneReader
from semhier_ros.scene.remembering import check_memory
from semhier_ros.scene.stream import SceneStream
from semhier_ros.taxonomy import Taxonomy
from semhier_ros.torch.object_codec import MAX_SCALE, MIN_SCALE, ObjectCodec
from semhier_ros.torch.picture import GROUPS
from semhier_ros.torch.scene_backend import build_graphs
from semhier_ros.training.calibration import CURVE_POINTS, calibration_curves, level_hits
from semhier_ros.training.detector import trained_detector
from semhier_ros.training.errors import TrainingError
from semhier_ros.training.export import export_graphs, half_precision, save_halves
from semhier_ros.training.integer_form import integer_context, scale_table
from semhier_ros.training.matching import named_code
from semhier_ros.training.object_codec import RATE_WEIGHTS, train_object_codec
from semhier_ros.training.picture_form import (
    SCENES,
    PictureParts,
    count_tables,
    load_picture,
    picture_checkpoint,
    shipped_picture,
)
from semhier_ros.training.road_data import CANVAS, PICTURE_CANVAS, Scenes, load_scenes
from semhier_ros.training.road_objects import VARIANTS, collect, make_rows, read_variant, remembered
from semhier_ros.training.scene_tables import budget_tables, geometry_tables, name_tables
from semhier_ros.training.settings import Option
from semhier_ros.training.yolo_data import open_labelled
from semhier_ros.whole_file import replacing_folder

LATENTS = (4, 6, 12)
SIZES = 5.4  # from the smallest side of a box to the largest, as natural logarithms
REACH = 0.96  # of a box's middle from the middle of its cell, in shares of its side
SCORE_EDGES = (0.1, 0.13, 0.16, 0.2, 0.24, 0.29, 0.35, 0.42, 0.5, 0.58, 0.68)
COUNT_EDGES = (1, 2, 3, 5, 8, 12, 18, 27, 40, 60)
PICTURES = 3  # picture blocks
COUNTED = 120  # training scenes that the tables of pictures are counted on


def make_layout(
    taxonomy: Taxonomy, size_step: float, offset_step: float, score_edges: Sequence[float], most: int
) -> SceneLayout:
    """How scenes of that tree are told: `SceneLayout` says what its steps and edges mean; most: objects."""
    levels = len(taxonomy.levels)
    return SceneLayout(
        columns=CANVAS[0] // 8,
        rows=CANVAS[1] // 8,
        stride=8,
        size_low=math.log(0.5),
        size_step=size_step,
        size_levels=round(SIZES / size_step),
        offset_step=offset_step,
        offset_levels=2 * round(REACH / offset_step) + 1,
        score_edges=tuple(score_edges),
        count_edges=tuple(edge for edge in COUNT_EDGES if edge <= most / 2),
        max_objects=most,
        parents=tuple(tuple(int(p) for p in taxonomy.parent(level)) for level in range(1, levels)),
        latents=LATENTS,
        picture_groups=GROUPS[:PICTURES],
        picture_stride=CANVAS[0] * PATCH_SIDE // PICTURE_CANVAS[0],
    )


def head_arrays(codec: ObjectCodec, mean: NDArray, scale: NDArray) -> dict[str, NDArray[np.float32]]:
    arrays: dict[str, NDArray[np.float32]] = {"feature_mean": mean, "feature_scale": scale}
    for group, linear in enumerate(codec.project):
        arrays[f"project_{group}.weight"] = linear.weight.detach().numpy()
        arrays[f"project_{group}.bias"] = linear.bias.detach().numpy()
    for prefix, reader in enumerate(codec.reader):
        layers = [layer for layer in reader if isinstance(layer, torch.nn.Linear)]
        for number, layer in enumerate(layers):
            arrays[f"reader_{prefix}.{number}.weight"] = layer.weight.detach().numpy()
            arrays[f"reader_{prefix}.{number}.bias"] = layer.bias.detach().numpy()
    return {key: np.ascontiguousarray(value, dtype=np.float32) for key, value in arrays.items()}


def check(options: argparse.Namespace) -> None:
    """Raises TrainingError, naming field, value and range, for what no model folder may hold, and for data that does
    not go with the tree."""
    try:
        read_looks(options.looks)
    except ValueError as error:
        raise TrainingError(f"looks: {error}") from None
    edges = options.score_edges
    if not edges or not all(low < high for low, high in pairwise([0.0, *edges, 1.0])):
        raise TrainingError(f"score_edges: {list(edges)}, expected one or more numbers that rise, above 0 and below 1")
    if not options.variants:
        raise TrainingError("variants: none given, expected one or more such as 0.75 or 1-mirrored")
    for text in options.variants:
        read_variant(text)
    try:
        check_name(options.name, "name")
        check_memory(options.memory_overlap, 0.0)
    except ValueError as error:
        raise TrainingError(str(error)) from None
    open_labelled(options)


def make(options: argparse.Namespace) -> Path:
    """Make the model folder, in the place of one that is there: what that has beside what is made here (a README,
    ranges) stays. Until the new one is whole, the old one is as it was.

    Raises:
        TrainingError, MissingFile: a checkpoint or the data is missing or of other classes, or the detector finds
            nothing.
    """
    torch.set_num_threads(options.threads)
    data, taxonomy = open_labelled(options)
    layout = make_layout(taxonomy, options.size_step, options.offset_step, options.score_edges, options.most)
    leaves = len(taxonomy.levels[-1])
    graphs = build_graphs(leaves, 1 + len(layout.parents[0]), layout.picture_groups)
    detector = trained_detector(options.out, data.classes)
    if options.pictures is None:
        pictures = load_picture(picture_checkpoint(options.out), SCENES, PICTURES)
    else:
        pictures = shipped_picture(options.pictures, 1 + len(layout.parents[0]), PICTURES)
    graphs["detector"].detector.load_state_dict(detector)
    graphs["picture_analysis"].analysis = pictures.model.analysis
    graphs["picture_synthesis"].synthesis = pictures.model.synthesis
    half_precision(graphs)
    scenes = {split: load_scenes(data, split, options.out / f"cache-{split}") for split in data.images}
    with replacing_folder(options.model) as folder:
        shutil.copy(options.taxonomy, folder / "taxonomy.yaml")
        build(options, folder, taxonomy, layout, graphs, pictures, scenes)
    return Path(options.model)


def build(
    options: argparse.Namespace,
    folder: Path,
    taxonomy: Taxonomy,
    layout: SceneLayout,
    graphs: dict[str, torch.nn.Module],
    pictures: PictureParts,
    scenes: Mapping[str, Scenes],
) -> None:
    """Fill a model folder that has its taxonomy: graphs, what the object codec learns from what they find in the
    training scenes, and its calibration by the choosing ones."""
    save_halves(graphs, folder)
    export_graphs(graphs, layout, CANVAS, folder)
    looks = read_looks(options.looks)
    backend = OpenVinoBackend(folder, threads=options.threads)
    least = min(layout.score_edges[0] / 2, options.threshold)
    finder = OwnFinder(backend.detect, CANVAS, layout, looks or [Look(CANVAS)], options.agreement)
    found = remembered(options.out, folder / "detector.onnx", finder, scenes["train"], layout, least, options.variants)
    if not sum(len(objects) for objects, _, _ in found):
        raise TrainingError(f"detector: no object above {least:g} in any training scene; train it longer")
    sent = [scene.objects.objectness >= options.threshold for scene in found]
    found = [scene._replace(objects=doubted(scene.objects, layout.roles, options.certainty)) for scene in found]
    features = np.concatenate([objects.features for objects, _, _ in found])
    mean, scale = features.mean(0), features.std(0) + 1e-3
    plain = SceneStream(layout, {}, {}, np.zeros((1, 1), np.uint8), np.zeros(1, np.uint8))
    rows = make_rows(plain, found, mean, scale, options.trust)
    owners = [np.asarray(taxonomy.owner(level)) for level in range(len(taxonomy.levels))]
    nodes = tuple(len(level) for level in taxonomy.levels)
    codec = train_object_codec(rows, nodes, owners, LATENTS, options.steps, options.seed, rate_weights=options.rates)

    kept = [scene.objects.take(np.flatnonzero(enough)) for scene, enough in zip(found, sent, strict=True)]
    codes = [named_code(layout, objects, len(nodes)) for objects in kept]
    tables, occupancy = geometry_tables(layout, codes)
    tables |= name_tables(plain, codes) | budget_tables(len(LATENTS))
    tables["latents"], scales = scale_table(MIN_SCALE, MAX_SCALE, 48, 63)
    if options.pictures is None:
        some = np.linspace(0, len(scenes["train"]) - 1, min(COUNTED, len(scenes["train"]))).astype(int)
        pictures = count_tables(pictures, (scenes["train"].pixels[row, :352] for row in some), len(some))
    tables |= pictures.tables
    networks = {f"latents_{k + 1}": integer_context(context, scales) for k, context in enumerate(codec.context)}
    stream = SceneStream(layout, tables, networks | pictures.networks, occupancy, pictures.shifts)
    write_scene_stream(folder, stream)

    heads = head_arrays(codec, mean, scale)
    flat = np.linspace(0, 1, CURVE_POINTS, dtype=np.float32)
    heads |= {f"{kind}_{level}": flat for kind in ("score", "other") for level in range(len(nodes))}
    write_heads(folder, heads)
    write_scene_card(folder, options.name, CANVAS, options.threshold, layout)
    loaded = read_scene_folder(folder)
    sender = OwnFinder(backend.detect, CANVAS, layout, finder.looks, options.agreement, options.certainty)
    chosen = collect(sender, scenes["choose"], layout, ((1.0, False),), options.threshold)
    reader = SceneReader(loaded.stream, taxonomy, loaded.heads)
    heads |= calibration_curves(
        reader,
        (
            (code_objects(loaded.stream, loaded.projection, objects, loaded.stream.semantic_blocks), hits)
            for objects, hits in ((objects, level_hits(owners, truth)) for objects, truth, _ in chosen)
        ),
    )
    write_heads(folder, heads)
    numbers = {"agreement": options.agreement, "certainty": options.certainty, "memory_overlap": options.memory_overlap}
    write_scene_card(folder, options.name, CANVAS, options.threshold, layout, looks=looks, **numbers)


CHECKS = {"make": check}


OPTIONS = (
    Option("model", Path, Path("models/road"), "folder to write"),
    Option("name", str, "road", "of the model"),
    Option("pictures", Path, None, "model folder whose picture blocks stay as they are (those trained in out)"),
    Option("threshold", float, 0.16, "least objectness worth sending", above=0, most=1),
    Option("size_step", float, 0.2, "how finely boxes are told: steps of the natural logarithm of a side", above=0.01),
    Option("offset_step", float, 0.12, "and where they lie: steps of their middle, in shares of a side", above=0.01),
    Option("score_edges", float, SCORE_EDGES, "between the classes of score, rising from 0 to 1", 0, above=0),
    Option("trust", float, 0.0, "in the detector's own objectness (1) against labels (0), of block 0", least=0, most=1),
    Option("variants", str, VARIANTS, "how training scenes are shown to the detector: scale, and whether mirrored", 0),
    Option(
        "rates", float, RATE_WEIGHTS, "nats of loss that a bit of each latent group must save", len(LATENTS), above=0
    ),
    Option("most", int, 63, "objects of one scene", least=1),
    Option("steps", int, 4000, "of the object codec", least=1),
    Option("agreement", float, 0.0, "power of neighbours' agreement in an object's score", least=0, most=MOST_POWER),
    Option("certainty", float, 0.0, "power of how sure its role is in an object's score", least=0, most=MOST_POWER),
    Option("memory_overlap", float, 0.0, "how well a remembered box must fit (0: 0.75), docs/living.md", least=0),
    Option("looks", str, (), "how the detector sees pictures, such as 1088x640:0-166@0.25 544x320:64- (the canvas)", 0),
)
