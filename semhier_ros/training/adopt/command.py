"""A detector becomes a stream: `semhier adopt detector.onnx --images DIR --out models/mine`.

Runs the detector over pictures (a folder, a bag or a video; nobody need have labelled them), fits the tables of the
object codec, its readers and their calibration to what it finds, and writes a model folder that every command and both
nodes take by `--model`. Minutes on two cores, without torch. docs/adopt.md has recipes.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from semhier_ros import options as shared
from semhier_ros.codec.model_folder import ModelError, read_kind
from semhier_ros.codec.stream_info import check_name
from semhier_ros.command import CommandError
from semhier_ros.progress import each
from semhier_ros.scene.detectors.layouts import LAYOUTS

if TYPE_CHECKING:
    from semhier_ros.footage.labels import Scene
    from semhier_ros.scene.detectors.runtime import Detector
    from semhier_ros.scene.folder import SceneFolder
    from semhier_ros.taxonomy import Taxonomy
    from semhier_ros.training.adopt.fit import Fitted, Observed

NAMES = "coco80"
PICTURES = 500
START = "coco80"
APPEARANCE = 8
SEVERAL_OBJECTS, SEVERAL_LOWEST, SEVERAL_THRESHOLD = 16.0, 0.05, 0.15
"""Of several detectors: objects a picture that each adds, the score that tables begin at, and the one sent from."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "detector",
        type=Path,
        nargs="+",
        metavar="DETECTOR",
        help="the detector's ONNX file; of several detectors of the same classes the model suits all, and has none",
    )
    parser.add_argument(
        "--images", type=Path, nargs="+", required=True, metavar="PATH", help="folders of pictures, bags or videos"
    )
    parser.add_argument("--topic", help="of a bag: the camera's topic (its first)")
    parser.add_argument(
        "--limit", type=shared.whole(1, 10**6), default=PICTURES, metavar="N", help="pictures, evenly (%(default)s)"
    )
    parser.add_argument(
        "--layout",
        metavar="NAME",
        help=f"how its tensors are read: {', '.join(LAYOUTS)}, or a YAML file (guessed from the tensors)",
    )
    parser.add_argument(
        "--names", default=NAMES, help="its classes in index order: coco80, coco91, or a file, one a line (%(default)s)"
    )
    parser.add_argument(
        "--ignore", action=shared.Listed, default=[], metavar="NAME", help="classes that are never sent"
    )
    parser.add_argument("--size", metavar="WxH", help="width and height of its input (the file's own)")
    parser.add_argument("--tree", metavar="FILE", help="tree with the classes as leaves (built for the names)")
    parser.add_argument("--checkpoint", help="weights of CLIP, to build a tree of other names with open_clip")
    parser.add_argument("--clip-model", default="ViT-B-32", help="open_clip's name of them (%(default)s)")
    parser.add_argument(
        "--labels", type=Path, metavar="DIR", help="YOLO label files of the pictures: scores are calibrated to them"
    )
    parser.add_argument(
        "--bytes",
        type=float,
        default=60.0,
        metavar="N",
        help="what a frame's names and boxes may take on average (%(default)g); the threshold follows",
    )
    parser.add_argument("--threshold", type=float, metavar="SCORE", help="least score worth sending, instead")
    parser.add_argument(
        "--features", metavar="TENSOR", help="a tensor within the file: objects' appearance is sent after their names"
    )
    parser.add_argument(
        "--appearance", type=shared.whole(1, 64), default=APPEARANCE, metavar="N", help="its channels (%(default)s)"
    )
    parser.add_argument("--pictures", metavar="MODEL", help="a model of scenes whose picture blocks it has, too: road")
    parser.add_argument("--start", default=START, metavar="MODEL", help="whose tables count a little: a model, or none")
    parser.add_argument("--embed", action="store_true", help="copy the detector into the folder")
    parser.add_argument("--engine", default="auto", help="openvino, onnxruntime, cuda or tensorrt (%(default)s)")
    shared.threads(parser, 2)
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="the model folder to write")
    parser.add_argument("--force", action="store_true", help="write it in the place of what is there")


def run(options: argparse.Namespace) -> int:
    """Adopts the detector. Raises CommandError for what a user can put right."""
    try:
        return adopt(options)
    except (ValueError, FileNotFoundError) as error:
        raise CommandError(str(error)) from error


def adopt(options: argparse.Namespace) -> int:
    """What `run` does. Raises ValueError for what a user can put right."""
    from semhier_ros.scene.detectors.layouts import find_layout
    from semhier_ros.scene.detectors.names import is_nothing, key_of, read_names
    from semhier_ros.scene.detectors.runtime import Detector
    from semhier_ros.training.adopt.fit import fit
    from semhier_ros.training.adopt.folder import EMBEDDED, write_model

    began = time.monotonic()
    _check(options)
    layout = find_layout(options.layout) if options.layout else None
    names = read_names(options.names)
    ignored = {key_of(name) for name in options.ignore}
    kept = [name for name in names if not is_nothing(name) and key_of(name) not in ignored]
    tree = _tree(options, kept)
    leaves = tree.names(tree.depth - 1)
    detectors = []
    for path in options.detector:
        detector = Detector.open(
            path,
            leaves,
            layout=layout,
            names=names,
            ignore=options.ignore,
            size=_size(options.size),
            features=options.features,
            engine=options.engine,
            threads=options.threads,
        )
        print(f"{path.name}: layout {detector.spec.layout.name}, {detector.size[0]}x{detector.size[1]}", flush=True)
        detectors.append(detector)
    print(f"{len(kept)} classes; tree {tree.name}: {' / '.join(map(str, tree.sizes))}", flush=True)
    pictures = _scene_folder(options.pictures, "--pictures") if options.pictures else None
    if pictures is not None and not pictures.stream.layout.picture_groups:
        raise CommandError(f"--pictures {options.pictures}: {pictures.name} has no picture blocks")
    start = _start(options.start)
    _check_labels(options, leaves)
    groups = [list(_observe(options, detector, leaves)) for detector in detectors]
    watched = time.monotonic()
    several = len(groups) > 1
    if several:
        groups = [_evened(group, SEVERAL_OBJECTS) for group in groups]
    fitted = fit(
        [item for group in groups for item in group],
        tree,
        frame_bytes=options.bytes,
        threshold=options.threshold or (SEVERAL_THRESHOLD if several else None),
        lowest_score=SEVERAL_LOWEST if several else None,
        appearance=options.appearance if options.features else 0,
        pictures=None if pictures is None else pictures.stream,
        start=start,
        say=lambda text: print(text, flush=True),
    )
    spec = None
    if not several:
        file = EMBEDDED if options.embed else str(options.detector[0].expanduser().absolute())
        spec = replace(detectors[0].spec, file=file)
    write_model(
        options.out,
        fitted,
        tree,
        name=options.out.name,
        card=_card(options, detectors, tree, fitted, len(groups[0])),
        detector=spec,
        embed=options.detector[0] if options.embed else None,
        pictures=pictures,
    )
    now = time.monotonic()
    print(
        f"{options.out}: {fitted.frame_bytes:.1f} B a frame at threshold {fitted.threshold:.3g}, canvas "
        f"{fitted.canvas[0]}x{fitted.canvas[1]}; {now - began:.0f} s, of which {now - watched:.0f} s after detecting"
    )
    return 0


def _evened(observed: list[Observed], most: float) -> list[Observed]:
    """The same without the objects of scores so low that there would be more than `most` a picture: detectors differ in
    what they call a high score, and none shall outweigh the others."""
    best = [item.found.scores.max(axis=1) for item in observed if len(item.found)]
    scores = np.sort(np.concatenate(best))[::-1] if best else np.zeros(0)
    wanted = round(most * len(observed))
    if len(scores) <= wanted:
        return observed
    return [
        item._replace(found=item.found.take(np.flatnonzero(item.found.scores.max(axis=1, initial=0) > scores[wanted])))
        for item in observed
    ]


def _check(options: argparse.Namespace) -> None:
    try:
        check_name(options.out.name, "its name is the model's")
    except ValueError as error:
        raise CommandError(f"--out {options.out}: {error}") from None
    if options.out.exists():
        _check_old(options)
    above = next(path for path in options.out.absolute().parents if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise CommandError(f"--out {options.out}: {above} cannot be written")
    for path in options.images:
        if not path.exists():
            raise CommandError(f"--images {path}: no such folder or file")
    if len(options.detector) > 1 and (options.features or options.embed):
        raise CommandError(f"{'--features' if options.features else '--embed'}: of one detector only")
    if not 8 <= options.bytes <= 10_000:
        raise CommandError(f"--bytes {options.bytes:g}: outside 8..10000")
    if options.threshold is not None and not 0.01 <= options.threshold <= 0.95:
        raise CommandError(f"--threshold {options.threshold:g}: outside 0.01..0.95")


def _check_old(options: argparse.Namespace) -> None:
    """Whether what is at `--out` may go: only a model folder, and nothing of what is wanted here with it."""
    out = options.out
    if not options.force:
        raise CommandError(f"--out {out}: is there already; --force writes in its place")
    try:
        read_kind(out)
    except (ModelError, OSError) as error:
        raise CommandError(f"--out {out}: --force replaces a model folder and nothing else ({error})") from None
    read_before = [*([options.labels] if options.labels else []), *options.images]
    if not options.embed:
        read_before += options.detector
    for path in read_before:
        if out.resolve() in (path.resolve(), *path.resolve().parents):
            raise CommandError(f"--out {out}: {path} lies in it, and would go")


def _size(text: str | None) -> tuple[int, int] | None:
    """Width and height of `WxH`."""
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() for side in sides):
        raise CommandError(f"--size {text}: WIDTHxHEIGHT in pixels wanted, as in 640x384")
    return int(sides[0]), int(sides[1])


def _tree(options: argparse.Namespace, names: Sequence[str]) -> Taxonomy:
    """The tree that was given, or one that is built for the names."""
    from semhier_ros.taxonomy import Taxonomy
    from semhier_ros.training.trees.cli import find_tree
    from semhier_ros.training.trees.shipped import rooted, tree_for

    if options.tree is not None:
        return rooted(Taxonomy.load(find_tree(options.tree)))
    rows = None
    if options.checkpoint is not None:
        from semhier_ros.training.trees.embed import embed

        rows = embed(names, options.clip_model, options.checkpoint)
    return tree_for(options.out.name, names, rows)


def _scene_folder(model: str, option: str) -> SceneFolder:
    from semhier_ros.paths import find_model
    from semhier_ros.scene.folder import read_scene_folder

    path = find_model(model)
    if read_kind(path) != "scene":
        raise CommandError(f"{option} {model}: a model of scenes is wanted")
    return read_scene_folder(path)


def _start(model: str):  # type: ignore[no-untyped-def]
    """The stream whose tables count a little; None for none, and where coco80 is not installed."""
    if model == "none":
        return None
    try:
        return _scene_folder(model, "--start").stream
    except FileNotFoundError:
        if model == START:
            return None
        raise


def _observe(options: argparse.Namespace, detector: Detector, leaves: Sequence[str]) -> Iterator[Observed]:
    """What the detector finds in every picture."""
    from semhier_ros.scene.detectors.layouts import DetectorError
    from semhier_ros.training.adopt.fit import Observed

    for where, image, labels in each(_pictures(options, leaves), "detect"):
        try:
            found = detector.detect(image)
        except DetectorError as error:
            raise CommandError(f"{where}: {error}") from error
        yield Observed((image.shape[1], image.shape[0]), found, labels)


def _pictures(
    options: argparse.Namespace, leaves: Sequence[str]
) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.float64] | None]]:
    """Where each picture is from, its pixels, and its labels (leaf, x0, y0, x1, y1 in pixels; None if unlabelled)."""
    from semhier_ros.footage.bags import open_footage
    from semhier_ros.footage.labels import read_leaves
    from semhier_ros.footage.video import read_picture

    for path in options.images:
        if (scenes := _scenes(options, path)) is not None:
            for scene in scenes:
                image = read_picture(scene.picture)
                labels = None
                if scene.labels is not None:
                    rows = read_leaves(scene.labels, image.shape[1], image.shape[0], leaves, strict=False)
                    labels = np.concatenate([rows[:, :3], rows[:, 1:3] + rows[:, 3:]], axis=1)
                yield scene.picture.name, image, labels
            continue
        if options.labels is not None:
            raise CommandError("--labels: of folders of pictures only")
        cameras, problems = open_footage(path, [options.topic] if options.topic else [])
        for problem in problems:
            print(problem, flush=True)
        camera = cameras[0]
        for number in _evenly(len(camera), _share(options)):
            yield f"{path.name} {camera.topic}, frame {number}", camera.image(number), None


def _share(options: argparse.Namespace) -> int:
    """How many pictures each of `--images` gives."""
    return -(-int(options.limit) // len(options.images))


def _scenes(options: argparse.Namespace, path: Path) -> list[Scene] | None:
    """What is taken of a folder of pictures, evenly; None where `path` is none."""
    from semhier_ros.footage.labels import find_scenes
    from semhier_ros.footage.video import PICTURE_SUFFIXES

    if not path.is_dir() or not any(item.suffix.lower() in PICTURE_SUFFIXES for item in path.iterdir()):
        return None
    scenes = find_scenes(path, options.labels, None)
    return [scenes[number] for number in _evenly(len(scenes), _share(options))]


def _check_labels(options: argparse.Namespace, leaves: Sequence[str]) -> None:
    """Says what of the labels does not count. Raises LabelError where none is left."""
    from semhier_ros.footage.labels import check_scenes

    if options.labels is not None:
        taken = [scene for path in options.images for scene in _scenes(options, path) or ()]
        for line in check_scenes(taken, leaves).lines():
            print(line, flush=True)


def _evenly(count: int, limit: int) -> list[int]:
    return np.unique(np.linspace(0, count - 1, min(count, limit)).round().astype(int)).tolist()


def _card(
    options: argparse.Namespace, detectors: Sequence[Detector], tree: Taxonomy, fitted: Fitted, pictures: int
) -> str:
    """The model's card."""
    to_what = f"the labels in `{options.labels.name}`" if options.labels else "the detectors' own scores, unlabelled"
    levels = ", ".join(f"{name} {size}" for name, size in zip(tree.level_names, tree.sizes, strict=True))
    files = "".join(
        f"| detector | `{detector.path.name}`, SHA-256 `{detector.spec.sha256}`; layout {detector.spec.layout.name}, "
        f"{detector.size[0]}x{detector.size[1]} |\n"
        for detector in detectors
    )
    if len(detectors) > 1:
        where = "none is part of this folder: whoever loads it brings one (`Codec.load(…, detector=FILE)`)"
    else:
        where = "copied here as `detector.onnx`" if options.embed else "not part of this folder, which refers to it"
    features = f"{options.appearance} channels of tensor `{options.features}`" if options.features else "none"
    return f"""# Model `{options.out.name}`

Objects of any class that the detector knows, named level by level ({levels}): made by `semhier adopt`.

| | |
|---|---|
{files}| its file | {where} |
| fitted to | what is found in {pictures} pictures |
| calibrated to | {to_what} |
| threshold | {fitted.threshold:.3g}; a frame's semantic blocks take {fitted.frame_bytes:.1f} B on those pictures |
| appearance | {features} |
| pictures | {f"the picture blocks of model `{options.pictures}`" if options.pictures else "none"} |

A detector's own licence holds for its file, and whoever adopted it saw to that. A receiver needs this folder alone,
without any detector.
"""
