"""`semhier measure beside`: a detector of others on the same labelled scenes, judged by the same labels and ignored
regions.

    semhier measure beside --images S/images --labels S/labels --ignored S/ignored --model road \\
        --detector yolox_nano.onnx --names coco80 --size 736 416 --as person=vulnerable car=vehicle

What the detector calls `person` is compared with the labels of the tree's node `vulnerable`; classes and nodes that are
not named are left out. Beside it stands, unless --alone, what the model's own detector finds of the same nodes, with
nothing coded.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semhier_ros import options as shared
from semhier_ros.command import CommandError, for_the_user
from semhier_ros.lab.options import finish, labelled_scenes, load_codec, precision
from semhier_ros.lab.scoring.coco import Rows, Truth
from semhier_ros.lab.studies.detection import Plan, SceneJudge
from semhier_ros.progress import each
from semhier_ros.scene.detectors.layouts import DetectorError, find_layout
from semhier_ros.scene.detectors.names import read_names
from semhier_ros.scene.detectors.runtime import Detector, Found
from semhier_ros.taxonomy import Taxonomy

LEAST = 0.01  # score from which a detector's list goes on


def read_meanings(pairs: Sequence[str], taxonomy: Taxonomy, names: Sequence[str]) -> tuple[int, dict[int, int]]:
    """The level that all nodes of `name=node` belong to, and the node of each class.

    Raises CommandError for a class or node that there is not, and nodes of several levels.
    """
    found: dict[int, int] = {}
    levels = set()
    for pair in pairs:
        name, equals, node = pair.partition("=")
        if not equals or name not in names:
            raise CommandError(f"--as {pair}: a class of the detector = a node of the tree; {name!r} is no class")
        held = [level for level in range(len(taxonomy.levels)) if node in taxonomy.names(level)]
        if not held:
            raise CommandError(f"--as {pair}: {node!r} is no node of {taxonomy.name}")
        levels.add(held[0])
        found[list(names).index(name)] = taxonomy.names(held[0]).index(node)
    if len(levels) != 1:
        raise CommandError(f"--as: nodes of levels {sorted(levels)}; one level wanted")
    return levels.pop(), found


def rows_of_found(found: Found, nodes: dict[int, int]) -> Rows:
    """Detections (node, score, corners) of one scene: each box under every node that its classes mean, with the best of
    their scores."""
    rows: list[NDArray[np.float32]] = []
    for node in sorted(set(nodes.values())):
        kinds = [kind for kind, own in nodes.items() if own == node]
        score = found.scores[:, kinds].max(axis=1) if len(found) else np.zeros(0, np.float32)
        said = np.flatnonzero(score >= LEAST)
        first = np.full((len(said), 1), node, np.float32)
        rows.append(np.concatenate([first, score[said, None], found.boxes[said]], axis=1, dtype=np.float32))
    return np.concatenate(rows)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.images(parser)
    shared.labels(parser, "folder of YOLO label files of the same names")
    shared.model(parser)
    precision(parser)
    shared.json(parser)
    parser.add_argument("--ignored", type=Path, help="folder of YOLO files of regions that count neither way")
    parser.add_argument("--detector", type=Path, required=True, help="ONNX file")
    parser.add_argument("--layout", help="how to read it (default: as its tensors suggest)")
    parser.add_argument("--names", default="coco80", help="its classes, a list's name or a file (%(default)s)")
    parser.add_argument("--size", type=int, nargs=2, metavar=("W", "H"), help="of its input (default: the file's own)")
    parser.add_argument("--as", dest="meanings", nargs="+", required=True, metavar="CLASS=NODE", help="what it means")
    parser.add_argument("--alone", action="store_true", help="without the model's own detector")


def run(options: argparse.Namespace) -> int:
    codec = load_codec(options.model, kind="scenes", precision=options.precision)
    with for_the_user(DetectorError):
        names = read_names(options.names)
        level, nodes = read_meanings(options.meanings, codec.taxonomy, names)
        layout = find_layout(options.layout) if options.layout else None
        size = (options.size[0], options.size[1]) if options.size else None
        detector = Detector.open(options.detector, names, layout=layout, names=names, size=size, threads=1)
    scenes = labelled_scenes(options)
    judge = None if options.alone else SceneJudge(options.model, "cpu", Plan((), 1))
    labels, ignored, theirs, ours = [], [], [], []
    for scene in each(scenes, "scenes"):
        picture, boxes, doubtful = scene.read(codec.taxonomy)
        labels.append(boxes)
        ignored.append(doubtful)
        theirs.append(rows_of_found(detector.detect(picture, LEAST), nodes))
        if judge:
            ours.append(judge.dense(picture)[level])
    truth, named = Truth.of(labels, codec.taxonomy, ignored), set(nodes.values())
    result: dict[str, Any] = {
        "scenes": len(scenes),
        "boxes": int(sum(map(len, labels))),
        "ignored_boxes": int(sum(map(len, ignored))),
        "level": level,
        "detector": {"file": options.detector.name, "sha256": detector.spec.sha256, "size": list(detector.size)}
        | truth.score(level, theirs, named).as_row(),
    }
    if judge:
        own = truth.score(level, ours, named).as_row()
        result |= {"model": codec.name, "model_hash": codec.model_hash, "own": own}
    return finish(result, options.json, "beside")
