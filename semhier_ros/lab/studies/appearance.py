"""A question asked later: types read from object latents that were trained on groups only.

An object codec is trained for any vehicle and its four groups, on what the shipped detector finds in the training
scenes; no type is ever named to it. Then a linear probe learns the 21 types from what each prefix decodes to, on those
scenes, and is asked on the reporting scenes: beside it the same probe on the uncompressed features, on the whole answer
that such a stream could send instead (box, score and group), and the share of the commonest type per group. The
detector's own trunk has seen the types, so this asks what the *bytes* keep, not what the features know.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from semhier_ros import options as shared
from semhier_ros.lab.options import finish
from semhier_ros.lab.studies.transfer import probe
from semhier_ros.paths import find_model
from semhier_ros.scene.backend import OpenVinoBackend
from semhier_ros.scene.finders import OwnFinder
from semhier_ros.scene.folder import read_scene_folder
from semhier_ros.scene.stream import SceneStream
from semhier_ros.taxonomy import Taxonomy

if TYPE_CHECKING:  # what needs torch is loaded by the functions that use it
    from semhier_ros.torch.object_codec import ObjectCodec
    from semhier_ros.training.object_codec import Rows
    from semhier_ros.training.road_objects import Matched

LATENTS = (4, 12)
RATE_WEIGHTS = (0.06, 0.01)


def groups_only(rows: Rows, owner: NDArray[np.intp], groups: int) -> Rows:
    """`rows` as if the taxonomy ended at the groups."""
    member = np.eye(groups, dtype=np.float32)[owner]
    leaves = np.log(np.maximum(np.exp(rows.leaves) @ member, 1e-9))
    types = len(owner)
    told = rows.told[:, : rows.told.shape[1] - types]
    features = rows.evidence[:, : rows.features.shape[1]]
    rest = rows.evidence[:, rows.features.shape[1] + types :]
    truth = np.where(rows.truth >= 0, owner[np.maximum(rows.truth, 0)], -1)
    return rows._replace(
        told=told, evidence=np.concatenate([features, leaves / 4, rest], axis=1), leaves=leaves, truth=truth
    )


def surer(scene: Matched, threshold: float) -> Matched:
    """Only the objects of at least `threshold`."""
    rows = np.flatnonzero(scene.objects.objectness >= threshold)
    return scene._replace(objects=scene.objects.take(rows), truth=scene.truth[rows], wanted=scene.wanted[rows])


def decoded(codec: ObjectCodec, rows: Rows) -> tuple[list[NDArray[np.float32]], list[float]]:
    """What each prefix decodes to (told and latents), and the mean bits an object of each latent group."""
    import torch

    from semhier_ros.torch.object_codec import MAX_SCALE, MIN_SCALE
    from semhier_ros.torch.rate import interval_bits

    told, known = torch.from_numpy(rows.told), torch.from_numpy(rows.evidence)
    prefixes, spent, latents = [rows.told], list[float](), list[torch.Tensor]()
    with torch.no_grad():
        for group in range(len(codec.latents)):
            mean, scale = codec.context[group](torch.cat([told, *latents], dim=1)).chunk(2, dim=1)
            steps = (codec.project[group](known) - mean).round()
            spent.append(float(interval_bits(steps, scale.exp().clamp(MIN_SCALE, MAX_SCALE)).sum(1).mean()))
            latents.append(mean + steps)
            prefixes.append(torch.cat([told, *latents], dim=1).numpy())
    return prefixes, spent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled scenes")
    parser.add_argument("--splits", type=Path, default=Path("config/splits/road-vehicles"), help="lists of scenes")
    shared.out(parser, "runs/road", "folder of caches")
    parser.add_argument("--steps", type=int, default=2500, help="of training (default: %(default)s)")
    shared.common(parser, shared.model, shared.json)


def run(options: argparse.Namespace) -> int:
    """Trains the codec and the probes."""
    import torch

    from semhier_ros.training.object_codec import train_object_codec
    from semhier_ros.training.road_data import load_scenes
    from semhier_ros.training.road_objects import collect, make_rows, remembered
    from semhier_ros.training.yolo_data import YoloData

    torch.set_num_threads(1)
    folder = read_scene_folder(find_model(options.model))
    taxonomy = Taxonomy.load(folder.path / "taxonomy.yaml")
    owner = np.asarray(taxonomy.owner(1))
    layout = folder.stream.layout
    backend = OpenVinoBackend(folder.path, threads=1)
    finder = OwnFinder(backend.detect, folder.canvas, layout, folder.looks, folder.agreement)
    data = YoloData.open(options.data, options.splits)
    report = (options.splits / "report.txt").read_text().split()
    data = YoloData(data.classes, {**data.images, "report": tuple(options.data / "images" / name for name in report)})
    plain = SceneStream(layout, {}, {}, np.zeros((1, 1), np.uint8), np.zeros(1, np.uint8))
    rows = {}
    for split in ("train", "report"):
        scenes = load_scenes(data, split, options.out / f"cache-{split}")
        if split == "train":
            graph = folder.path / "detector.onnx"
            seen = remembered(options.out, graph, finder, scenes, layout, folder.threshold)
            found = [surer(scene, folder.threshold) for scene in seen]
            features = np.concatenate([scene.objects.features for scene in found])
            mean, scale = features.mean(0), features.std(0) + 1e-3
        else:
            found = collect(finder, scenes, layout, ((1.0, False),), folder.threshold)
        rows[split] = make_rows(plain, found, mean, scale)
    few = {split: groups_only(own, owner, len(taxonomy.levels[1])) for split, own in rows.items()}
    owners = [np.zeros(len(taxonomy.levels[1]), np.intp), np.arange(len(taxonomy.levels[1]))]
    nodes = (1, len(taxonomy.levels[1]))
    codec = train_object_codec(few["train"], nodes, owners, LATENTS, options.steps, 0, rate_weights=RATE_WEIGHTS)
    named = {split: own.truth >= 0 for split, own in rows.items()}
    truths = {split: own.truth[named[split]] for split, own in rows.items()}
    prefixes, spent = decoded(codec, few["report"])
    taught, _ = decoded(codec, few["train"])
    everything = np.concatenate([truths["train"], truths["report"]])
    asked = np.arange(len(everything)) >= len(truths["train"])

    def ask(train: NDArray, test: NDArray) -> float:
        seen = np.concatenate([train[named["train"]], test[named["report"]]])
        return float(probe(seen, everything, asked).mean())

    best = np.array(
        [np.bincount(truths["train"][owner[truths["train"]] == g]).argmax() for g in range(owner.max() + 1)]
    )
    result = {
        "objects": int(named["report"].sum()),
        "latent_bits_per_object": [round(value, 2) for value in spent],
        "accuracy": {
            "uncompressed_features": ask(rows["train"].features, rows["report"].features),
            "answer_box_score_group": ask(taught[0], prefixes[0]),
            **{f"prefix_{k}": ask(taught[k], prefixes[k]) for k in range(1, len(prefixes))},
            "commonest_type_of_true_group": float((best[owner[truths["report"]]] == truths["report"]).mean()),
        },
    }
    return finish(result, options.json)
