"""The stages of `semhier train street`: catalogue, teacher's word, the detector widened, labels settled, pictures told.

Each goes on where it was stopped. `training.street` holds their options.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from semhier_ros.codec.model_folder import read_card
from semhier_ros.codec.picture_walk import channels_of
from semhier_ros.footage.video import read_picture, write_picture
from semhier_ros.scene.detectors.layouts import DetectorError
from semhier_ros.scene.detectors.names import read_names
from semhier_ros.scene.objects import DetectorMaps, Objects, find_objects
from semhier_ros.taxonomy import Taxonomy
from semhier_ros.torch.detector import STRIDE, Detector, DetectorOutput
from semhier_ros.torch.picture import GROUPS, PictureModel
from semhier_ros.torch.scene_backend import DetectorGraph, as_input
from semhier_ros.training import adapt as adapting
from semhier_ros.training.checkpoint import Checkpoint, check_made_of, digest, load_checkpoint, save_checkpoint
from semhier_ros.training.detector import (
    BLENDED,
    DETECTOR,
    check_crop,
    name_of_start,
    parameter_groups,
    rarity_of,
    start_from,
    trained_detector,
    weights_of,
)
from semhier_ros.training.detector_loss import street_loss, tutor_loss
from semhier_ros.training.device import adamw, autocast, depthwise_in_float32, pick_device
from semhier_ros.training.errors import MissingFile, TrainingError
from semhier_ros.training.fit import Course, Loss, fit
from semhier_ros.training.folded import fold_statistics
from semhier_ros.training.loader import Loader, workers_for
from semhier_ros.training.picture_form import PAINTED, SCENES, start_picture
from semhier_ros.training.road_data import CANVAS
from semhier_ros.training.street_data import IGNORED, READERS, Recipe, StreetSet
from semhier_ros.training.street_scenes import StreetSamples, StreetScenes, load_street, read_catalogue, repeats
from semhier_ros.training.teachers import VIEWS, Teacher, ask, intersection_over_union, notebooks_of
from semhier_ros.training.thinning import block_of, read_widths, said_widths, thinned
from semhier_ros.whole_file import replacing

Floats = NDArray[np.float32]
ADAPTED = "adapted.pt"  # what `adapt` made
THINNED = "thinned.pt"  # and `thin`
FITTED = 40  # pictures that a narrower trunk is fitted to
AGREED = 0.5  # intersection over union from which a found object and a label are the same
SURE = 0.35  # objectness from which an object that is found where the teacher doubts is settled as one


class Street:
    """Recipe, tree and teacher's names of a run, from its options."""

    def __init__(self, options: argparse.Namespace):
        self.taxonomy = Taxonomy.load(options.taxonomy)
        self.recipe = Recipe.load(options.sources, self.taxonomy, options.data)
        self.kinds = read_names(options.names)
        self.out: Path = options.out
        self.splits: Path = options.splits

    def scenes(self, split: str) -> StreetScenes:
        return load_street(self.out, self.splits, split, self.recipe, self.kinds)

    def made_of(self, start: Path) -> dict[str, Any]:
        """What tells a training of this tree that began with the model folder `start` from others."""
        return {"classes": list(self.recipe.leaves), "start": name_of_start(start)}

    def members(self) -> list[Tensor]:
        """Per level, finest first: words x leaves, which leaves a word leaves open there."""
        own = self.recipe.members
        made = [own]
        for level in range(len(self.taxonomy.levels) - 2, -1, -1):
            owner = np.asarray(self.taxonomy.owner(level))
            above = np.eye(int(owner.max()) + 1, dtype=bool)[owner]  # leaves x nodes
            made.append((own @ above) @ above.T)
        return [torch.from_numpy(member > 0) for member in made]


def check(options: argparse.Namespace, *splits: str) -> None:
    """Raises CommandError, DetectorError or TaxonomyError for a recipe, a tree, names or splits that no stage can run
    with. splits: those that are needed beside `train` and `choose`."""
    Street(options)
    for split in ("train", "choose", *splits):
        if not (options.splits / f"{split}.txt").is_file():
            raise MissingFile(
                f"splits: {options.splits}/{split}.txt is missing; a list of pictures wanted, as `set/file`"
            )


def check_teacher(options: argparse.Namespace) -> None:
    """`check`, and that the teacher can be asked."""
    check(options)
    if options.teacher is None:
        raise TrainingError("teacher: nobody to ask; give --teacher detector.onnx")
    Teacher(options.teacher, read_names(options.names), options.layout, options.threads).opened(VIEWS[0])


def check_begun(options: argparse.Namespace, *files: str) -> None:
    """`check`, and that the first of the checkpoints `files` that is there began with `start`."""
    check(options)
    made_of = Street(options).made_of(options.start)
    for path in (options.out / name for name in files):
        if (saved := load_checkpoint(path)) is not None:
            check_made_of(path, saved, made_of)
            return


def check_adapt(options: argparse.Namespace) -> None:
    check_begun(options, ADAPTED)


def check_detector(options: argparse.Namespace) -> None:
    """`check_begun`, and that crops have whole cells and the tutor knows sets of the recipe."""
    check_crop(options.crop)
    pick_device(options.device)
    check_begun(options, DETECTOR, THINNED, ADAPTED)
    if options.tutor is not None:
        weights_of(options.tutor, "tutor")
        known = [part.name for part in Street(options).recipe.sets]
        if strange := sorted(set(options.tutored) - set(known)):
            raise TrainingError(f"tutored: {strange[0]!r} is none of the recipe's sets: {', '.join(known)}")


def check_blend(options: argparse.Namespace) -> None:
    check_begun(options, DETECTOR)


def check_report(options: argparse.Namespace) -> None:
    check(options, "report")


def check_pictures(options: argparse.Namespace) -> None:
    """`check`, and that the folders of picture codecs are model folders."""
    check(options)
    for folder in (options.start, *options.picture_start):
        read_card(folder)


def gather(options: argparse.Namespace) -> Path:
    """Write `catalogue.jsonl`: every picture of the splits with what its set labels."""
    street = Street(options)
    path = street.out / "catalogue.jsonl"
    street.out.mkdir(parents=True, exist_ok=True)
    wanted = {
        key for split in ("train", "choose") for key in (options.splits / f"{split}.txt").read_text().splitlines()
    }
    with replacing(path) as whole, whole.open("w") as file:
        for part in street.recipe.sets:
            only = {part.folder / key.split("/", 1)[1] for key in wanted if key.startswith(f"{part.name}/")}
            for picture, labels in READERS[part.reader](part, names_of(part), only).items():
                card = {
                    "key": f"{part.name}/{picture.relative_to(part.folder)}",
                    "file": str(picture),
                    "words": labels.words,
                    "boxes": np.round(labels.boxes.astype(float), 2).tolist(),
                    "ignored": np.round(labels.ignored.astype(float), 2).tolist(),
                }
                file.write(json.dumps(card) + "\n")
    return path


def names_of(part: StreetSet) -> tuple[str, ...]:
    """The classes of a set: of a file in its folder, or a list's name; none where its labels are words.

    Raises:
        TrainingError: there is no such file or list.
    """
    if part.names is None:
        return ()
    own = part.folder / part.names
    try:
        return read_names(own if own.exists() else part.names)
    except DetectorError as error:
        raise TrainingError(f"sets.{part.name}: {own}: {error}") from error


def teach(options: argparse.Namespace) -> Path:
    """Ask the teacher about every picture of the catalogue, one view after the other."""
    cv2.setNumThreads(1)
    street = Street(options)
    entries = read_catalogue(street.out / "catalogue.jsonl")
    teacher = Teacher(options.teacher, street.kinds, options.layout, options.threads)
    folder = notebooks_of(street.out / "said", teacher)
    for view in VIEWS[: options.views]:
        ask(
            teacher,
            {key: entry.file for key, entry in entries.items()},
            view,
            folder / f"{view.name}.jsonl",
            read_picture,
        )
    return folder


def start_wider(detector: Detector, folder: Path, classes: tuple[str, ...]) -> None:
    """Begin with the detector of a model folder; types that it knows by name keep what names them there, others begin
    as improbable."""
    from safetensors.torch import load_file

    start_from(detector, folder)
    old = Taxonomy.load(folder / "taxonomy.yaml")
    given = load_file(folder / "weights.safetensors")
    with torch.no_grad():
        detector.types.weight.normal_(0, 0.02)
        detector.types.bias.fill_(-1.0)
        for row, name in enumerate(old.names(len(old.levels) - 1)):
            if name in classes:
                detector.types.weight[classes.index(name)] = given["detector.detector.types.weight"][row].float()
                detector.types.bias[classes.index(name)] = given["detector.detector.types.bias"][row].float()


BODY = ("trunk", "lateral", "edges", "merge", "context")  # of the detector; the rest are its heads


def blended(
    start: Mapping[str, Tensor], trained: Mapping[str, Tensor], kept: tuple[float, float], known: Sequence[int]
) -> dict[str, Tensor]:
    """Weights between those that a training began with and those that it came to: `kept` of the start's in trunk and
    neck, and in the heads. Of the types' rows the `known` alone are mixed, for the start names no others.

    A short training on few pictures unlearns some of what it does not show; weights in between do better by both than
    either end (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022, arXiv 2109.01903).
    """
    mixed = {}
    for key, value in trained.items():
        part = key.split(".", 1)[0]
        share = kept[0] if part in BODY else kept[1]
        if not value.is_floating_point():
            mixed[key] = value
        elif part == "types":
            mixed[key] = value.clone()
            mixed[key][list(known)] = torch.lerp(value, start[key], share)[list(known)]
        else:
            mixed[key] = torch.lerp(value, start[key], share)
    return mixed


def word_weights(scenes: StreetScenes, words: int) -> NDArray[np.float32]:
    """Rarer words weigh a little more (`detector.rarity_of`); counted as often as they are drawn."""
    counts = np.zeros(words)
    for rows, chance in zip(scenes.boxes, scenes.draw, strict=True):
        counts += np.bincount(rows[rows[:, 0] >= 0, 0].astype(int), minlength=words) * chance * len(scenes)
    return rarity_of(counts)


def overtaught(scenes: StreetScenes, recipe: Recipe, group: NDArray[np.intp]) -> NDArray[np.float64]:
    """Per leaf, how much more a training teaches it, among its `group` (leaves n), than it is met in pictures of the
    sets, drawn by their shares: the logarithm of that ratio. Pictures with rare words are drawn more often, and rare
    words weigh more; a detector learns to name rare leaves as often as that. What counts is a leaf's own word, or
    words that it shares where there is none: those teach a sum, not which leaf of it is likelier."""
    weights = word_weights(scenes, len(recipe.words))
    met, taught = np.zeros(len(recipe.words)), np.zeros(len(recipe.words))
    for rows, chance, times in zip(scenes.boxes, scenes.draw, repeats(scenes.boxes, recipe), strict=True):
        counts = np.bincount(rows[rows[:, 0] >= 0, 0].astype(int), minlength=len(met))
        met += counts * chance / times
        taught += counts * chance * weights
    own = recipe.members * (recipe.members.sum(1, keepdims=True) == 1)
    of_leaf = np.where(met @ own > 0, own, recipe.members)
    leaves = np.stack([met @ of_leaf, taught @ of_leaf])
    groups = leaves @ (group[:, None] == np.arange(group.max() + 1))
    shares = leaves / np.maximum(groups[:, group], np.finfo(float).tiny)
    return np.log(shares[1], out=np.zeros(len(group)), where=leaves[0] > 0) - np.log(
        shares[0], out=np.zeros(len(group)), where=leaves[0] > 0
    )


def adapt(options: argparse.Namespace) -> Path:
    """Widen the detector of the model folder `start`, its trunk and neck fixed: `adapted.pt`."""
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    torch.manual_seed(options.seed)
    street = Street(options)
    start = name_of_start(options.start)
    scenes = street.scenes("train")
    network = Detector(len(street.recipe.leaves))
    start_wider(network, options.start, street.recipe.leaves)
    network.eval()
    blank = torch.zeros(1, CANVAS[1], CANVAS[0], 3, dtype=torch.uint8)
    fixed = adapting.compiled(adapting.Fixed(network), blank, street.out / "fixed.onnx", options.threads)
    looks = adapting.choose_looks(scenes, options.looks, options.seed)
    maps = adapting.look(scenes, looks, fixed, street.out / "looks" / "maps.npy", of=start)
    path = street.out / ADAPTED
    saved = load_checkpoint(path)
    done = 0
    if saved is not None:
        network.load_state_dict(saved["average"])
        done = int(saved["step"])
    made_of = {"start": start} if saved is None or "start" in saved else {}
    learning = adapting.Learning(network)
    weights = torch.from_numpy(word_weights(scenes, len(street.recipe.words)))
    for number in range(done // max(1, options.steps // options.rounds), options.rounds):
        cells = adapting.choose_cells(scenes, looks, maps, learning, options.seed + number)
        steps = options.steps // options.rounds
        rate = options.lr * 0.5**number
        adapting.learn(
            scenes, looks, maps, cells, learning, street.members(), weights, steps, rate, seed=options.seed + number
        )
        save_checkpoint(path, {"average": network.state_dict(), "step": steps * (number + 1), **made_of})
    return path


def thin(options: argparse.Namespace) -> Path:
    """Make the trunk narrower, as `widths` say, of the detector that `detector` would begin with: `thinned.pt`. Without
    widths it stays what it is."""
    torch.set_num_threads(options.threads)
    street = Street(options)
    widths = read_widths(options.widths)
    path = street.out / THINNED
    if path.exists():
        return path
    if not widths:
        whole = street.out / ADAPTED
        return whole if whole.exists() else Path(options.start)
    network = Detector(len(street.recipe.leaves))
    adapted = load_checkpoint(street.out / ADAPTED)
    if adapted is None:
        start_wider(network, options.start, street.recipe.leaves)
    else:
        network.load_state_dict(adapted["average"])
    scenes = street.scenes("train")
    samples = StreetSamples(scenes, tuple(options.crop), options.seed)
    canvases = [samples.sample(number)[0] for number in range(FITTED)]
    narrow, lost = thinned(network, widths, canvases, options.seed)
    for name, share in lost.items():
        print(f"block {name}: {widths[name]} channels, {100 * share:.1f} % of what it adds is lost", flush=True)
    made_of = street.made_of(options.start) | {"widths": said_widths(widths)}
    save_checkpoint(path, {"average": narrow.state_dict(), **made_of})
    return path


def check_thin(options: argparse.Namespace) -> None:
    """`check_begun`, and that the widths are texts of widths, of blocks that the trunk has, and those of a
    `thinned.pt` that is there."""
    check_begun(options, THINNED, ADAPTED)
    widths = read_widths(options.widths)
    for name in widths:
        block_of(Detector(1), name)
    saved = load_checkpoint(options.out / THINNED)
    if widths and saved is not None:
        check_made_of(options.out / THINNED, saved, {"widths": said_widths(widths)})


class Tutor:
    """The detector of a model folder, which says what it sees in the pictures of the sets that it was trained on.

    known: for each of its types, which of `leaves` it is.

    Raises:
        TrainingError: it names a type that `leaves` lacks. MissingFile: the folder has no weights.
    """

    def __init__(self, folder: Path, leaves: Sequence[str], device: torch.device):
        tree = Taxonomy.load(folder / "taxonomy.yaml")
        names = tree.names(len(tree.levels) - 1)
        if strange := [name for name in names if name not in leaves]:
            raise TrainingError(f"tutor: {folder} names {strange[0]}, which is no leaf of the tree")
        self.known = torch.tensor([leaves.index(name) for name in names], device=device)
        self.network = Detector(len(names))
        start_from(self.network, folder)
        self.network.eval().to(device).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> DetectorOutput:
        return as_floats(self.network(pixels))


def as_floats(output: DetectorOutput) -> DetectorOutput:
    return DetectorOutput(*(part.float() for part in output))


class StreetLoss:
    """The loss of a batch of `StreetSamples` (`fit.StepLoss`). tutor: has a say in the samples that are `tutored`."""

    def __init__(self, detector: Detector, members: list[Tensor], weights: Tensor, tutor: Tutor | None = None):
        self.detector, self.members, self.weights, self.tutor = detector, members, weights, tutor

    def __call__(self, batch: Sequence[Tensor], random: np.random.Generator | None = None) -> Loss:
        images, *targets, tutored = batch
        pixels = as_input(images, torch.float32).contiguous(memory_format=torch.channels_last)
        output = self.detector(pixels)
        told = self.tutor(pixels[tutored]) if self.tutor is not None and tutored.any() else None
        with autocast(images.device, False):
            output = as_floats(output)
            parts = street_loss(output, *targets, self.members, self.weights)
            if self.tutor is not None and told is not None:
                parts |= tutor_loss(DetectorOutput(*(part[tutored] for part in output)), told, self.tutor.known)
            return Loss(torch.stack(list(parts.values())).sum(), parts)


def detector(options: argparse.Namespace) -> Path:
    """Train the whole detector, from `thinned.pt`, else `adapted.pt`, else the model folder `start`: `detector.pt`.
    With 0 steps it is what it begins with."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    street = Street(options)
    device = pick_device(options.device)
    scenes = street.scenes("train")
    checkpoint = Checkpoint(street.out / DETECTOR, street.made_of(options.start))
    network = Detector(len(street.recipe.leaves))
    begun = next(filter(None, (load_checkpoint(street.out / name) for name in (DETECTOR, THINNED, ADAPTED))), None)
    if begun is None:
        start_wider(network, options.start, street.recipe.leaves)
    else:
        network.load_state_dict(begun["average"])
    network.to(device).to(memory_format=torch.channels_last)
    if options.fold:
        fold_statistics(network)
    depthwise_in_float32(network)
    optimizer = adamw(parameter_groups(network, options.rate), options.rate, weight_decay=0.02)
    members = [member.to(device) for member in street.members()]
    weights = torch.from_numpy(word_weights(scenes, len(street.recipe.words))).to(device)
    tutor = Tutor(options.tutor, street.recipe.leaves, device) if options.tutor is not None else None
    tutored = [number for number, part in enumerate(street.recipe.sets) if part.name in options.tutored]
    samples = StreetSamples(scenes, tuple(options.crop), options.seed, tutored)
    workers = workers_for(device, options.threads, options.workers)
    course = Course(
        options.detector_steps,
        options.minutes,
        clip=10.0,
        bf16=options.bf16,
        seed=options.seed,
        name="detector",
    )
    loader = Loader(samples, options.batch, workers, device)
    fit(network, optimizer, loader, StreetLoss(network, members, weights, tutor), course, checkpoint)
    return checkpoint.path


def blend(options: argparse.Namespace) -> Path:
    """Make of the trained detector what the stages after this take, `blended.pt`: some of the weights that it began
    with, of `thinned.pt` or else the model folder `start`, mixed in (`kept`), and the logits of types told how often
    each is met (`given_back`), as for any classifier whose classes become more or less frequent (Saerens, Latinne and
    Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities", Neural Computation 14, 2002;
    Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, arXiv 2007.07314).

    Raises:
        MissingFile: nothing is trained yet. TrainingError: `kept` of weights of other shapes.
    """
    street = Street(options)
    leaves = street.recipe.leaves
    trained = trained_detector(options.out, leaves, mixed=False)
    mixed = dict(trained)
    if any(options.kept):
        start = Detector(len(leaves))
        start_wider(start, options.start, leaves)
        if (thin_start := load_checkpoint(options.out / THINNED)) is not None:
            start.load_state_dict(thin_start["average"])
        own = start.state_dict()
        if other := next((key for key in own if own[key].shape != trained[key].shape), None):
            raise TrainingError(f"kept: {other} has another shape in {options.out / DETECTOR} than before the training")
        old = Taxonomy.load(options.start / "taxonomy.yaml")
        known = [leaves.index(name) for name in old.names(len(old.levels) - 1) if name in leaves]
        mixed = blended(own, trained, tuple(options.kept), known)
    if options.given_back:
        group = np.asarray(street.taxonomy.owner(len(street.taxonomy.levels) - 2))
        ratio = torch.from_numpy(options.given_back * overtaught(street.scenes("train"), street.recipe, group))
        mixed["types.bias"] = (mixed["types.bias"].double() - ratio).to(mixed["types.bias"].dtype)
    path: Path = options.out / BLENDED
    save_checkpoint(path, {"average": mixed, "of": digest(trained)})
    return path


def found_by(graph: Any, canvas: NDArray[np.uint8], least: float, most: int = 63) -> Objects:
    """What a compiled detector graph finds on a canvas."""
    objectness, box, types, features = (part[0] for part in graph.infer([canvas[None]]).values())
    return find_objects(DetectorMaps(objectness[0], box, types, features), least, most)


def settle_rows(rows: Floats, found: Objects, members: NDArray[np.bool_], leaf_of: NDArray[np.intp]) -> Floats:
    """Rows (leaf, box) out of rows (word or IGNORED, box) on a canvas and what the adapted detector finds there.

    A word that several leaves share becomes the one that the detector thinks likeliest, `leaf_of` the word where it
    sees nothing. An ignored region where the detector surely sees one object of the same box is that object.
    """
    middle, half = found.boxes[:, :2] * STRIDE, found.boxes[:, 2:] * STRIDE / 2
    boxes = np.concatenate([middle - half, middle + half], 1)
    overlap = intersection_over_union(rows[:, 1:], boxes)
    settled = []
    taken = rows[rows[:, 0] >= 0, 1:]
    for row, shared in zip(rows, overlap, strict=True):
        best = int(shared.argmax()) if len(found) else -1
        agreed = best >= 0 and shared[best] >= AGREED
        word = int(row[0])
        if word != IGNORED:
            open_to = members[word]
            leaf = int(np.where(open_to, found.leaves[best], -np.inf).argmax()) if agreed else int(leaf_of[word])
            settled.append((leaf, *row[1:]))
        elif agreed and found.objectness[best] >= SURE:
            own = boxes[best : best + 1]
            if not len(taken) or intersection_over_union(own, taken).max() < AGREED:
                settled.append((int(found.leaves[best].argmax()), *own[0]))
                taken = np.concatenate([taken, own])
    return np.asarray(settled, np.float32).reshape(-1, 5)


def settle(options: argparse.Namespace) -> Path:
    """Write scenes with one leaf for each object, `settled/data.yaml`, from which `semhier train road model` takes
    object codec, tables and calibration. They take the place of those that are there when all are written."""
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    street = Street(options)
    leaves = street.recipe.leaves
    network = Detector(len(leaves))
    network.load_state_dict(trained_detector(street.out, leaves))
    blank = torch.zeros(1, CANVAS[1], CANVAS[0], 3, dtype=torch.uint8)
    graph = adapting.compiled(DetectorGraph(network), blank, street.out / "adapted.onnx", options.threads)
    place = street.out / "settled"
    first = street.recipe.members.argmax(1)
    random = np.random.default_rng(options.seed)
    with replacing(place) as folder:
        for split, name in (("train", "train"), ("choose", "val")):
            scenes = street.scenes(split)
            count = min(len(scenes), options.settled if split == "train" else len(scenes))
            chosen = random.choice(len(scenes), size=count, replace=False, p=scenes.draw if split == "train" else None)
            for kind in ("images", "labels", "ignored"):
                (folder / kind / name).mkdir(parents=True)
            for row in tqdm(sorted(int(own) for own in chosen), desc=f"settle {split}", mininterval=20):
                canvas, rows = adapting.on_canvas(scenes, row, 1.0, False)
                settled = settle_rows(rows, found_by(graph, canvas, 0.1), street.recipe.members, first)
                width, height = adapting.shown_size(*(int(side) for side in scenes.sizes[row]), 1.0)
                write_picture(folder / "images" / name / f"{row:05d}.png", canvas[:height, :width])
                text = yolo_lines([(int(own[0]), own[1:]) for own in settled], width, height)
                (folder / "labels" / name / f"{row:05d}.txt").write_text(text)
                text = yolo_lines([(0, own[1:]) for own in rows if own[0] == IGNORED], width, height)
                (folder / "ignored" / name / f"{row:05d}.txt").write_text(text)
        card = {"path": str(place.resolve()), "train": "images/train", "val": "images/val", "names": list(leaves)}
        (folder / "data.yaml").write_text(yaml.safe_dump(card, sort_keys=False))
    return place / "data.yaml"


def report(options: argparse.Namespace) -> Path:
    """Write what the recipe keeps for reporting as folders for `semhier measure detection`: `report/<set>/images`,
    `labels` and `ignored`. They take the place of those that are there when all are written."""
    street = Street(options)
    place = street.out / "report"
    place.parent.mkdir(parents=True, exist_ok=True)
    wanted = (options.splits / "report.txt").read_text().splitlines()
    with replacing(place) as folder:
        folder.mkdir()
        for part in street.recipe.reporting:
            only = {part.folder / key.split("/", 1)[1] for key in wanted if key.startswith(f"{part.name}/")}
            own = folder / part.name
            for kind in ("images", "labels", "ignored"):
                (own / kind).mkdir(parents=True)
            for picture, labels in READERS[part.reader](part, names_of(part), only).items():
                height, width = read_picture(picture).shape[:2]
                leaves = [street.recipe.leaf_of(word) for word in labels.words]
                told = [(leaf, box) for leaf, box in zip(leaves, labels.boxes, strict=True) if leaf is not None]
                ignored = [(0, box) for box in labels.ignored]
                (own / "labels" / f"{picture.stem}.txt").write_text(yolo_lines(told, width, height))
                (own / "ignored" / f"{picture.stem}.txt").write_text(yolo_lines(ignored, width, height))
                (own / "images" / picture.name).symlink_to(picture.resolve())
    return place


def yolo_lines(rows: Iterable[tuple[int, Floats]], width: int, height: int) -> str:
    """A YOLO label file's text: rows (leaf, corners in pixels) of a picture of that size."""
    sides = np.array([width, height, width, height])
    lines = []
    for leaf, box in rows:
        x0, y0, x1, y1 = np.asarray(box, float) / sides
        lines.append(f"{leaf} {(x0 + x1) / 2:.6f} {(y0 + y1) / 2:.6f} {x1 - x0:.6f} {y1 - y0:.6f}\n")
    return "".join(lines)


def planes_of(old: Taxonomy, new: Taxonomy) -> list[int]:
    """For each node of level 1 of `new` that of `old` which holds most of its leaves, by name; -1 for none."""
    last, group = len(new.levels) - 1, np.asarray(new.owner(1))
    old_group = dict(zip(old.names(len(old.levels) - 1), np.asarray(old.owner(1)), strict=True))
    planes = []
    for number in range(len(new.levels[1])):
        held = [
            old_group[name] for leaf, name in enumerate(new.names(last)) if group[leaf] == number and name in old_group
        ]
        planes.append(int(np.bincount(held).argmax()) if held else -1)
    return planes


def pictures(options: argparse.Namespace) -> Path:
    """Write `painted.pt`: the picture codec that the folders `picture_start` ship, told of the new level 1.

    A plane of a node begins as the plane of the old node that holds most of its leaves; nodes of leaves that the old
    tree lacks say nothing to the painter, beyond that an object is there.
    """
    street = Street(options)
    old = Taxonomy.load(options.start / "taxonomy.yaml")
    model = PictureModel(1 + len(old.levels[1]))
    start_picture(model, {SCENES: (0, 1 + len(old.levels[1]))}, options.picture_start)
    state = model.state_dict()
    channels, weight = channels_of(GROUPS), state["synthesis.start.weight"]
    any_object = weight[:, channels : channels + 1]
    told = [any_object]
    for plane in planes_of(old, street.taxonomy):
        own = weight[:, channels + 1 + plane : channels + 2 + plane]
        told.append(own if plane >= 0 else torch.zeros_like(any_object))
    start = torch.cat([weight[:, :channels], *told, weight[:, -len(GROUPS) :]], dim=1)
    path = street.out / PAINTED
    save_checkpoint(path, {"average": state | {"synthesis.start.weight": start}, "planes": {SCENES: (0, len(told))}})
    return path


CHECKS = {
    "gather": check,
    "teach": check_teacher,
    "adapt": check_adapt,
    "thin": check_thin,
    "detector": check_detector,
    "blend": check_blend,
    "settle": check,
    "pictures": check_pictures,
    "report": check_report,
}
