"""`semhier measure transfer`: a question asked later, of bytes that were sent without knowing it.

Linear probes are trained on what each prefix decodes to (the features read from the latents) for label sets that no
training here used, and tested on photos kept out of every training by a rule on their names. Beside them stand the
uncompressed features, JPEG and WebP pictures through the same trunk, and codecs of features. A probe sees every
training photo twice, as it decodes at the operating point that is tested and at the next finer one: two draws of what
quantising does. Whoever has labelled photos can code them as often as they like.

Label sets are columns `file,label` of a CSV; an optional column `set` holds several label sets in one file. A column
`split` (train, test) overrides the rule: a photo is for testing if its name's SHA-256 falls into the first three of ten
parts. Without --labels, --images is a folder of tars with manifest.csv and the sets are Caltech-101, grocery, clothing.
"""

from __future__ import annotations

import argparse
import csv
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from semhier_ros import options as shared
from semhier_ros.api import Codec
from semhier_ros.command import CommandError, for_the_user
from semhier_ros.footage.video import read_picture
from semhier_ros.lab.baselines import CONTROL, NAMES, WITH_PATH, make, send
from semhier_ros.lab.baselines.vector_codecs import VECTOR_NAMES, vector_codecs
from semhier_ros.lab.options import finish, load_codec
from semhier_ros.lab.scoring.figures import interval
from semhier_ros.lab.studies.classification import check_codecs
from semhier_ros.progress import each
from semhier_ros.training.photos import is_probe_test, read_manifest, read_pictures
from semhier_ros.whole_image.view import square_view

T = TypeVar("T")
STRENGTHS = (0.03, 0.3, 1.0)  # of the data against the probe's penalty (scikit-learn's C)
ITERATIONS = 100
HELD = 5  # one in so many training photos chooses the strength


class Asked(NamedTuple):
    """A photo of a label set: which set, its label, and whether it is for testing."""

    set: str
    label: str
    test: bool


def read_sets(images: Path, labels: Path | None) -> dict[str, Asked]:
    """Photos by name. Raises CommandError where there are none or a file does not fit."""
    if not images.is_dir():
        raise CommandError(f"--images: {images} is not a folder")
    if labels is None and not (images / "manifest.csv").is_file():
        raise CommandError(f"--images: {images} has no manifest.csv; name the photos with --labels")
    try:
        if labels is None:
            return {p.name: Asked(p.probe, p.label, p.test) for p in read_manifest(images) if p.probe}
        with labels.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        asked = {}
        for row in rows:
            test = row["split"] == "test" if row.get("split") else is_probe_test(row["file"])
            if not row["label"]:
                raise CommandError(f"--labels: {row['file']} has no label")
            asked[row["file"]] = Asked(row.get("set") or labels.stem, row["label"], test)
    except (OSError, KeyError, TypeError, UnicodeDecodeError, csv.Error) as error:
        source = labels or images / "manifest.csv"
        raise CommandError(f"--labels: {source}: {type(error).__name__}: {error}; columns file,label wanted") from error
    if not asked:
        raise CommandError(f"--labels: {labels or images} names no photo")
    return asked


def check_sets(asked: dict[str, Asked]) -> list[str]:
    """The label sets' names. Raises CommandError for one on which no probe can be trained and tested."""
    sets = sorted({one.set for one in asked.values()})
    for name in sets:
        rows = [one for one in asked.values() if one.set == name]
        train = [one.label for one in rows if not one.test]
        if len(set(train)) < 2 or len(train) == len(rows):
            raise CommandError(
                f"--labels: set {name!r} has {len(train)} photos of {len(set(train))} classes to train on and "
                f"{len(rows) - len(train)} to test; at least 2 photos of 2 classes and 1 are wanted"
            )
    return sets


def pictures_of(images: Path, asked: dict[str, Asked], tars: bool) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """The photos asked about, by name."""
    if tars:
        yield from ((name, picture) for name, picture in read_pictures(images) if name in asked)
    else:
        yield from ((name, read_picture(images / name)) for name in asked)


def probe(features: NDArray, labels: NDArray, test: NDArray, again: NDArray | None = None) -> NDArray[np.bool_]:
    """Which test photos a linear probe gets right: logistic regression with an L2 penalty (scikit-learn's) on features
    (n,F) less their mean, divided by one deviation for all; the penalty is chosen on training photos held out.

    again: features (n,F) that the same photos have when they are coded otherwise; of training photos alone it is used.

    Raises:
        CommandError: scikit-learn is not installed.
    """
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise CommandError("scikit-learn is not installed: pip install scikit-learn") from error
    target = np.unique(labels, return_inverse=True)[1]
    train = np.flatnonzero(~test)
    held, used = train[::HELD], np.delete(train, np.arange(0, len(train), HELD))
    mean, spread = features[train].mean(0), features[train].std() + 1e-9
    views = [((own - mean) / spread).astype(np.float32) for own in (features, again) if own is not None]
    if len(views) * len(train) < features.shape[1]:  # what no photo shows has no weight: the same probe, smaller
        basis = np.linalg.svd(np.concatenate([own[train] for own in views]), full_matrices=False)[2].T
        views = [own @ basis for own in views]
    rotated = views[0]

    def fit(rows: NDArray, strength: float) -> LogisticRegression:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            own = LogisticRegression(C=strength / len(views), max_iter=ITERATIONS)
            return own.fit(np.concatenate([view[rows] for view in views]), np.tile(target[rows], len(views)))

    best = STRENGTHS[0]
    if len(np.unique(target[used])) > 1:
        best = max(STRENGTHS, key=lambda strength: fit(used, strength).score(rotated[held], target[held]))
    right: NDArray[np.bool_] = fit(train, best).predict(rotated[test]) == target[test]
    return right


def decoded(codec: Any, picture: NDArray[np.uint8], quality: int) -> list[tuple[NDArray, int]]:
    """Features (F) that each semantic prefix of a picture decodes to at an operating point, and its payload bytes."""
    model, code, sent, found = codec.model, None, 0, []
    for prefix, block in enumerate(codec.encode(picture, blocks=codec.semantic_blocks, quality=quality)):
        code = model.decode(prefix, block.data, code)
        sent += len(block.data)
        found.append((model.reader.features(code, prefix), sent))
    return found


Coded = tuple[Asked, NDArray, float, NDArray | None]
"""A photo's features as decoded, their bytes, and the features that it has when it is coded otherwise."""


def collect(options: argparse.Namespace, codec: Codec, asked: dict[str, Asked]) -> dict[str, list[Coded]]:
    """What came of every photo, per codec's operating point."""
    model: Any = codec.model
    vectors = vector_codecs(options.codecs, model)
    stills = [make(n) for n in options.codecs if n not in VECTOR_NAMES]
    qualities, usual = range(len(model.stream.layout.steps)), model.stream.layout.quality
    points: dict[str, list[Coded]] = defaultdict(list)

    def keep(point: str, name: str, features: NDArray, size: float, again: NDArray | None = None) -> None:
        other = None if again is None else np.asarray(again, np.float16)
        points[point].append((asked[name], np.asarray(features, np.float16), size, other))

    def finer(settings: Sequence[T], number: int) -> T:
        return settings[min(number + 1, len(settings) - 1)]

    found = pictures_of(options.images, asked, options.labels is None)
    for name, picture in each(found, "encode", len(asked)):
        view = square_view(picture, model.view_size[0])
        seen = model.backend.classify(view)
        keep("uncompressed", name, seen.features, 2.0 * len(seen.features))
        train = not asked[name].test  # a photo for testing is coded once
        prefixes = decoded(codec, picture, usual)
        others = decoded(codec, picture, finer(qualities, usual)) if train else prefixes
        for prefix, ((features, sent), (again, _)) in enumerate(zip(prefixes, others, strict=True)):
            keep(f"semhier|{prefix}", name, features, sent, again)
        for vector in vectors:
            for number in range(0, len(vector.steps), options.every):
                step = vector.steps[number]
                got = vector.send(seen, step)
                again = vector.send(seen, finer(vector.steps, number)).features if train else got.features
                keep(f"{vector.name}|{step:g}", name, got.features, got.payload_bytes, again)
        for own in stills:
            settings = [s for s in own.settings() if s.scale in (0.5, 0.25)] or own.settings()
            for number in range(0, len(settings), max(1, len(settings) // 4)):
                setting, other = settings[number], finer(settings, number)
                tried = [setting, other] if train and other.scale == setting.scale else [setting]
                arrived = [one for _, one in send(own, view, tried)]
                read = [model.backend.classify(one.picture).features for one in arrived]
                point = f"{own.name}|{setting.scale:g}/{setting.quality:g}"
                keep(point, name, read[0], arrived[0].payload_bytes, read[-1])
    return points


def run(options: argparse.Namespace) -> int:
    asked = read_sets(options.images, options.labels)
    if options.limit:
        asked = dict(list(asked.items())[: options.limit])
    sets = check_sets(asked)
    with for_the_user():
        check_codecs(options.codecs)
        codec = load_codec(options.model, threads=options.threads, kind="whole images")
        points = collect(options, codec, asked)
    about = {"model": codec.name, "model_hash": codec.model_hash}
    result: dict[str, Any] = {**about, "sets": sets, "codecs": defaultdict(list)}
    for point, coded in each(list(points.items()), "probes"):
        rows, kept, sizes, others = zip(*coded, strict=True)
        features = np.stack(kept).astype(np.float32)
        again = None if others[0] is None else np.stack(others).astype(np.float32)
        accuracy, spread = {}, {}
        for name in sets:
            mine = np.array([row.set == name for row in rows])
            labels = np.array([row.label for row in rows])[mine]
            test = np.array([row.test for row in rows])[mine]
            right = probe(features[mine], labels, test, None if again is None else again[mine])
            accuracy[name], spread[name] = float(right.mean()), interval(right.astype(float))
        row = {"payload_bytes_mean": float(np.mean(sizes)), "accuracy": accuracy, "accuracy_interval": spread}
        kind, _, setting = point.partition("|")
        if kind == "uncompressed":
            result["uncompressed"] = row
        else:
            result["codecs"][kind].append({("prefix" if kind == "semhier" else "setting"): setting} | row)
    return finish(result, options.json, "transfer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.images(parser)
    shared.labels(parser, "CSV with columns file,label and perhaps set, split", required=False)
    shared.model(parser, "imagenet")
    shared.common(parser, shared.threads, shared.json)
    shared.codecs(
        parser,
        ["answer", "name_first", "jpeg", "webp"],
        f"codecs to run beside ours, of {', '.join((*VECTOR_NAMES, *NAMES, WITH_PATH, CONTROL))}",
    )
    shared.option(parser, "--every", shared.whole(1, 10**9), 2, "take every n-th step of feature codecs")
