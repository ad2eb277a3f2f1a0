"""The picture codec: transforms and contexts trained together for rate and distortion, then the synthesis alone.

Each step draws one prefix k; its loss is the rate of the picture blocks 0..k plus lambda_k * 255^2 * MSE of the picture
decoded from them (arXiv 2605.08266 weighs its prefixes so), lambda_k being what a bit is worth at that block's
quantiser step. That is the first course, and a codec that knows nothing of meaning (`picture.pt`). In the second,
painting, what is sent stays as it is; the synthesis is told what the semantic blocks say, paints from meaning alone
too, and learns what a frozen classifier should see in whole images (`painted.pt`). Trained together, the classifier's
pull on coarse prefixes bends the latents that later blocks refine. One codec serves road scenes and whole images when
both are given: they share all weights but those of the planes that tell their meaning.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from semhier_ros.codec.latent_groups import UNIT
from semhier_ros.codec.model_folder import read_card
from semhier_ros.codec.picture_blocks import BITS_PER_SQUARE
from semhier_ros.taxonomy import Taxonomy
from semhier_ros.torch.picture import GROUPS, STRIDE, UNIT_IN_PIXELS, PictureModel, principal_start
from semhier_ros.torch.scene_backend import as_input
from semhier_ros.training.checkpoint import Checkpoint
from semhier_ros.training.device import adamw, depthwise_in_float32, pick_device
from semhier_ros.training.errors import MissingFile, TrainingError
from semhier_ros.training.fit import Course, Loss, fit
from semhier_ros.training.imagenet_crops import whole_image_crops
from semhier_ros.training.loader import Loader, workers_for
from semhier_ros.training.photos import STORED, cache_pixels, read_manifest
from semhier_ros.training.picture_form import PAINTED, start_picture
from semhier_ros.training.picture_samples import WHOLE_IMAGES, CropSource, PhotoCrops, PictureSamples, SceneCrops
from semhier_ros.training.picture_task import TaskLoss
from semhier_ros.training.road_data import Scenes, load_scenes
from semhier_ros.training.settings import Option
from semhier_ros.training.yolo_data import open_labelled

STEPS_IN_PIXELS = tuple(
    steps * UNIT_IN_PIXELS / UNIT for steps in (GROUPS[0].step, 90, GROUPS[2].step, 48, GROUPS[4].step)
)
"""Quantiser step that a picture has on the whole after each block; blocks 1 and 3 refine half of what they could."""
LAMBDAS = tuple(BITS_PER_SQUARE / step**2 for step in STEPS_IN_PIXELS)
EMPTY_SHARE = 0.06  # how often a step trains the empty prefix
PATCHES = 20_000  # that the principal directions are taken from
FAR = 1 << 40  # number of the first sample that they come from
CHOSEN_BATCH, CHOSEN_BATCHES = 8, 6  # crops of choosing scenes that a score looks at
TASK_BITS = (0.012, 0.015, 0.02, 0.02, 0.02)
"""Bits per pixel that a nat of the task loss is worth after each block: a tenth to a half of what the squared error
weighs."""


class PrefixLoss(NamedTuple):
    """loss: to be minimised. Without gradient: bits per pixel, of each block; mse, in squared steps of 0..255; task,
    nats."""

    loss: Tensor
    bits: list[Tensor]
    mse: Tensor
    task: Tensor


def prefix_loss(
    model: PictureModel, image: Tensor, meaning: Tensor, prefix: int, task: TaskLoss | None = None, judged: int = 0
) -> PrefixLoss:
    """Loss of one prefix (-1: meaning alone); with `task`, the first `judged` pictures should look to a classifier as
    the originals do.

    Losses of fine prefixes are weighed down by the root of their lambda, so that coarse ones have their say.
    """
    pixels = image.shape[0] * image.shape[2] * image.shape[3]
    rates = []
    with torch.set_grad_enabled(torch.is_grad_enabled() and model.codes):
        latents = model.analysis(image).float()
        known = torch.zeros_like(latents[:, :0])
        with torch.autocast(image.device.type, enabled=False):  # bfloat16 holds neither latents nor their likelihoods
            for number, coded in enumerate(model.code(latents)):
                if number > prefix:
                    break
                known = coded.latents
                rates.append(coded.bits.sum() / pixels)
    present = image.new_zeros(image.shape[0], len(model.groups))
    present[:, : prefix + 1] = 1
    missing = latents.shape[1] - known.shape[1]
    known = torch.nn.functional.pad(known, (0, 0, 0, 0, 0, missing))
    picture = model.synthesis(known, present, meaning)
    mse = ((picture - image) * 127.5).square().mean()
    weight = LAMBDAS[max(prefix, 0)]
    loss = sum(rates, image.new_zeros(())) + weight * mse
    nats = image.new_zeros(())
    if task is not None and judged and prefix >= 0:
        nats = task(picture[:judged], image[:judged])
        loss = loss + TASK_BITS[prefix] * judged / len(image) * nats
    bits = [rate.detach() for rate in rates]
    return PrefixLoss(loss * (LAMBDAS[0] / weight) ** 0.5, bits, mse.detach(), nats.detach())


def make_sources(options: argparse.Namespace, scenes: Scenes) -> dict[CropSource, float]:
    """Scenes of the training split; photos if given; whole images if an imagenet run is given."""
    type_groups = np.asarray(Taxonomy.load(options.taxonomy).owner(1))
    sources: dict[CropSource, float] = {SceneCrops(scenes, type_groups): 0.5}
    if options.whole_images:
        sources[whole_image_crops(options.photos, options.whole_images)] = 0.5
    elif options.photos:
        sources[PhotoCrops(cache_pixels(options.photos, options.out)[0], options.photo_count)] = 0.2
    return sources


def first_patches(samples: PictureSamples) -> Tensor:
    """Patches (PATCHES,3,16,16 in -1..1) of crops that training never sees in this order."""
    cells = samples.size // STRIDE
    pixels = np.stack([samples.sample(FAR + number)[0] for number in range(PATCHES // 100 + 1)])
    blocks = pixels.reshape(len(pixels), cells, STRIDE, cells, STRIDE, 3)
    blocks = blocks.transpose(0, 1, 3, 5, 2, 4).reshape(-1, 3, STRIDE, STRIDE)[:PATCHES]
    return torch.from_numpy(blocks.astype(np.float32) / 127.5 - 1)


def train(options: argparse.Namespace) -> Path:
    """Train a codec on road scenes and what else the options name; returns the last checkpoint."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    data, taxonomy = open_labelled(options)
    scenes, choosing = (load_scenes(data, split, options.out / f"cache-{split}") for split in ("train", "choose"))
    samples = PictureSamples(make_sources(options, scenes), options.crop, options.seed)
    groups = np.asarray(taxonomy.owner(1))
    chosen = PictureSamples({SceneCrops(choosing, groups): 1.0}, options.crop, options.seed, samples.planes)
    return optimise(options, samples, chosen)


def check_form(options: argparse.Namespace) -> None:
    """Raises TrainingError or MissingFile for what no codec can be trained with."""
    if options.crop % STRIDE or not STRIDE <= options.crop <= STORED:
        raise TrainingError(f"crop: {options.crop}: a multiple of {STRIDE} from {STRIDE} to {STORED} wanted")
    pick_device(options.device)
    for folder in () if (options.out / "picture.pt").exists() else options.start:
        read_card(folder)


def check(options: argparse.Namespace) -> None:
    """Raises TrainingError or MissingFile for what `train` cannot run with."""
    check_form(options)
    open_labelled(options)
    if options.whole_images and options.photos is None:
        raise TrainingError("photos: nothing given; --whole-images wants --photos, those that its features are of")
    if options.photos is not None:
        read_manifest(options.photos)


def classifier_task(options: argparse.Namespace, samples: PictureSamples, device: torch.device) -> TaskLoss | None:
    """The task loss at the levels of --classes, where there are whole images to judge."""
    if options.untold or not options.classes or WHOLE_IMAGES not in samples.planes:
        return None
    tree = Taxonomy.load(options.classes)
    return TaskLoss([torch.from_numpy(np.array(tree.owner(level))) for level in range(tree.depth)]).to(device)


class Plan(NamedTuple):
    """How long one of the two trainings takes, and where it leaves its checkpoint."""

    checkpoint: Path
    steps: int
    minutes: float
    lr: float


def optimise(options: argparse.Namespace, samples: PictureSamples, chosen: PictureSamples | None = None) -> Path:
    """Train a picture codec on `samples`, then how it paints; returns the last checkpoint, which also tells the planes
    of each kind of meaning. chosen: what scores are taken on."""
    sent = options.out / "picture.pt"
    run_course(options, samples, Plan(sent, options.steps, options.minutes, options.lr), chosen)
    if not options.painting_steps:
        return sent
    plan = Plan(options.out / PAINTED, options.painting_steps, options.painting_minutes, options.painting_lr)
    run_course(options, samples, plan, chosen, sent)
    return plan.checkpoint


class PictureLoss:
    """The loss of one prefix, drawn for each step, of a batch of `PictureSamples` (`fit.StepLoss`). told: whether the
    synthesis hears what the pictures mean."""

    def __init__(self, model: PictureModel, told: bool, task: TaskLoss | None = None):
        self.model, self.told, self.task = model, told, task

    def __call__(self, batch: Sequence[Tensor], random: np.random.Generator) -> Loss:
        prefix = -1 if random.random() < EMPTY_SHARE else int(random.integers(len(GROUPS)))
        found = self.prefix(batch, prefix)
        zero = found.loss.new_zeros(())
        shown = {f"bpp{prefix}": sum(found.bits, zero), f"mse{prefix}": found.mse}
        return Loss(found.loss, shown if self.task is None else shown | {f"task{prefix}": found.task})

    def prefix(self, batch: Sequence[Tensor], prefix: int) -> PrefixLoss:
        """The loss of that prefix of the batch."""
        images, meaning, whole = batch
        judged = int(whole.sum()) if self.task is not None else 0
        if judged:  # the classifier looks at the first ones
            order = torch.argsort(whole.int(), descending=True, stable=True)
            images, meaning = images[order], meaning[order]
        if not self.told:
            meaning = torch.zeros_like(meaning)
        image = as_input(images, torch.float32).contiguous(memory_format=torch.channels_last)
        return prefix_loss(self.model, image, meaning, prefix, self.task, judged)


def run_course(
    options: argparse.Namespace,
    samples: PictureSamples,
    plan: Plan,
    chosen: PictureSamples | None = None,
    sent: Path | None = None,
) -> None:
    """Train until the steps or minutes of `plan` are used up. sent: the codec whose synthesis learns to paint."""
    device = pick_device(options.device)
    model = PictureModel(samples.meanings)
    checkpoint = Checkpoint(plan.checkpoint, {"planes": samples.planes})
    if checkpoint.path.exists():
        pass  # it goes on from there
    elif sent is not None:
        first = Checkpoint(sent, {"planes": samples.planes}).read()
        if first is None:
            raise MissingFile(f"{sent}: missing; painting begins with what it codes")
        model.load_state_dict(first["average"])
    elif options.start:
        start_picture(model, samples.planes, options.start)
    else:
        principal_start(model.analysis, model.synthesis, first_patches(samples))
    model = model.to(device).to(memory_format=torch.channels_last)
    depthwise_in_float32(model)
    if sent is not None:
        model.keep_code()
    told = sent is not None and not options.untold
    loss = PictureLoss(model, told, classifier_task(options, samples, device) if sent is not None else None)
    batches = [] if chosen is None else list(Loader(chosen, CHOSEN_BATCH, 0).batches(0, CHOSEN_BATCHES))

    def choose(network: PictureModel) -> dict[str, float]:
        judged, scores = PictureLoss(network, told), {}
        for prefix in range(len(GROUPS)):
            found = [judged.prefix([part.to(device) for part in batch], prefix) for batch in batches]
            scores[f"bpp{prefix}"] = sum(float(sum(one.bits)) for one in found) / len(found)
            scores[f"mse{prefix}"] = sum(float(one.mse) for one in found) / len(found)
        return scores

    if sent is None and not finished(checkpoint, plan):
        (options.out / PAINTED).unlink(missing_ok=True)  # painted for a codec that is no more
    workers = workers_for(device, options.threads, options.workers)
    course = Course(
        plan.steps,
        plan.minutes,
        bf16=options.bf16,
        seed=options.seed,
        name="paint" if sent is not None else "code",
        choose_every=options.choose_every,
    )
    optimizer = adamw([own for own in model.parameters() if own.requires_grad], plan.lr)
    loader = Loader(samples, options.batch, workers, device)
    fit(model, optimizer, loader, loss, course, checkpoint, choose if batches else None)


def finished(checkpoint: Checkpoint, plan: Plan) -> bool:
    """Whether the checkpoint has had all of its plan."""
    saved = checkpoint.read()
    return saved is not None and (saved["step"] >= plan.steps or saved["minutes"] >= plan.minutes)


FORM = (
    Option("start", Path, [], "model folders to begin with (default: principal directions)", count=0),
    Option(
        "classes",
        Path,
        Path("config/taxonomies/imagenet1k.yaml"),
        "tree at whose levels a frozen classifier should see the same in decoded whole images",
    ),
    Option("painting_steps", int, 20_000, "of the synthesis alone, afterwards; 0: leave it out", least=0),
    Option("painting_minutes", float, 30.0, "anneal to this much time if they take longer", above=0),
    Option("painting_lr", float, 5e-5, "of painting", above=0),
    Option(
        "untold",
        bool,
        False,
        "paint with no word of meaning and no classifier: a control of what levels of meaning are worth",
    ),
    Option("choose_every", int, 1000, "steps between scores on the choosing split; 0: at the end alone", least=0),
    Option("batch", int, 8, "crops in a step", least=1),
    Option("crop", int, 160, f"side of the crops, a multiple of {STRIDE} up to {STORED}", least=STRIDE),
    Option("lr", float, 1e-3, "at its greatest", above=0),
)
"""Options of every training of pictures beside its length."""

CHECKS = {"train": check}

OPTIONS = (
    Option("photos", Path, None, "folder of photos for variety: tars and manifest.csv"),
    Option("photo_count", int, 4000, "how many of them", least=1),
    Option("whole_images", Path, None, "imagenet run: train one codec for both models"),
    Option("steps", int, 12_000, "of what is sent", least=0),
    Option("minutes", float, 60.0, "anneal to this much time if steps take longer", above=0),
    *FORM,
)
