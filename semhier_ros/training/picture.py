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
import io
import math
import tarfile
import time
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from semhier_ros.codec.latent_groups import UNIT
from semhier_ros.codec.picture_blocks import BITS_PER_SQUARE
from semhier_ros.scene.reader import meaning_map
from semhier_ros.taxonomy import Taxonomy
from semhier_ros.torch.picture import GROUPS, STRIDE, UNIT_IN_PIXELS, PictureModel, principal_start
from semhier_ros.torch.scene_backend import as_input
from semhier_ros.training.loop import (
    AveragedWeights,
    Schedule,
    depthwise_in_float32,
    load_checkpoint,
    pick_device,
    prefetch,
    save_checkpoint,
    to_device,
)
from semhier_ros.training.picture_form import PAINTED, SCENES, WHOLE_IMAGES, start_picture
from semhier_ros.training.picture_task import TaskLoss
from semhier_ros.training.road_data import Scenes, load_scenes
from semhier_ros.training.yolo_data import YoloData

STEPS_IN_PIXELS = tuple(
    steps * UNIT_IN_PIXELS / UNIT for steps in (GROUPS[0].step, 90, GROUPS[2].step, 48, GROUPS[4].step)
)
"""Quantiser step that a picture has on the whole after each block; blocks 1 and 3 refine half of what they could."""
LAMBDAS = tuple(BITS_PER_SQUARE / step**2 for step in STEPS_IN_PIXELS)
EMPTY_SHARE = 0.06  # how often a step trains the empty prefix
PATCHES = 20_000  # that the principal directions are taken from
TASK_BITS = (0.012, 0.015, 0.02, 0.02, 0.02)
"""Bits per pixel that a nat of the task loss is worth after each block: a tenth to a half of what the squared error
weighs."""


def read_photos(folder: Path, count: int) -> list[np.ndarray]:
    """The first `count` photos of the folder's tars as RGB arrays."""
    photos: list[np.ndarray] = []
    for archive in sorted(folder.glob("photos-*.tar")):
        with tarfile.open(archive) as tar:
            for member in tar:
                if len(photos) >= count:
                    return photos
                handle = tar.extractfile(member)
                if handle is None:
                    continue
                image = cv2.imdecode(np.frombuffer(io.BytesIO(handle.read()).read(), np.uint8), cv2.IMREAD_COLOR)
                if image is not None and min(image.shape[:2]) >= 192:
                    photos.append(np.ascontiguousarray(image[..., ::-1]))
    return photos


def meanings_of(type_groups: np.ndarray) -> int:
    """Planes of the meaning map: any object, then each group."""
    return 2 + int(type_groups.max())


class Crop(NamedTuple):
    """A square piece of a picture (size,size,3 uint8) and its meaning after a random semantic prefix (planes,h,w)."""

    pixels: NDArray[np.uint8]
    meaning: NDArray[np.float32]


class CropSource(Protocol):
    """Where crops come from. `planes`: of their meaning; `name`: which meaning that is, empty for none."""

    name: str
    planes: int

    def crop(self, random: np.random.Generator, size: int) -> Crop: ...


class PhotoCrops:
    """Crops of photos without any meaning, for variety."""

    name, planes = "", 0

    def __init__(self, photos: list[np.ndarray]):
        self.photos = photos

    def crop(self, random: np.random.Generator, size: int) -> Crop:
        photo = self.photos[random.integers(len(self.photos))]
        top = random.integers(photo.shape[0] - size + 1)
        left = random.integers(photo.shape[1] - size + 1)
        return Crop(photo[top : top + size, left : left + size], np.zeros((0, size // STRIDE, size // STRIDE)))


class SceneCrops:
    """Crops of road scenes at random scale; their meaning is the map of objects by group."""

    name = SCENES

    def __init__(self, scenes: Scenes, type_groups: np.ndarray):
        self.scenes, self.type_groups = scenes, type_groups
        self.planes = meanings_of(type_groups)

    def crop(self, random: np.random.Generator, size: int) -> Crop:
        row = int(random.integers(len(self.scenes)))
        width, height = self.scenes.sizes[row]
        scale = max(size / min(width, height), math.exp(random.uniform(math.log(0.7), math.log(1.1))))
        left = random.uniform(0, max(0, width * scale - size))
        top = random.uniform(0, max(0, height * scale - size))
        matrix = np.array([[scale, 0, -left], [0, scale, -top]], np.float32)
        pixels = cv2.warpAffine(
            self.scenes.pixels[row, :height, :width],
            matrix,
            (size, size),
            flags=cv2.INTER_AREA,
            borderMode=cv2.BORDER_REFLECT,
        )
        boxes = self.scenes.boxes[row]
        corners = boxes[:, 1:] * scale - (left, top, left, top)
        groups = self.type_groups[boxes[:, 0].astype(int)]
        cells = size // STRIDE
        meaning = meaning_map(corners, groups, (cells, cells), self.planes, STRIDE)
        if random.random() < 0.5:
            pixels, meaning = pixels[:, ::-1], meaning[..., ::-1]
        return Crop(pixels, meaning)


class PictureSampler:
    """Batches of crops from several sources, each taken with its share."""

    def __init__(self, sources: dict[CropSource, float], size: int, seed: int):
        self.sources, self.size, self.seed = list(sources), size, seed
        shares = np.array(list(sources.values()), np.float64)
        self.shares = shares / shares.sum()
        self.planes: dict[str, tuple[int, int]] = {}
        start = 0
        for source in self.sources:
            if source.planes:
                self.planes[source.name] = (start, start + source.planes)
                start += source.planes
        self.meanings = start

    def batch(self, index: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pixels (count,size,size,3), meaning (count,meanings,size/16,size/16) and which are of whole images (count)
        of batch number `index`; those come first."""
        random = np.random.default_rng([self.seed, index])
        cells = self.size // STRIDE
        pixels = np.empty((count, self.size, self.size, 3), np.uint8)
        meaning = np.zeros((count, self.meanings, cells, cells), np.float32)
        chosen = [self.sources[n] for n in random.choice(len(self.sources), size=count, p=self.shares)]
        chosen.sort(key=lambda source: source.name != WHOLE_IMAGES)
        for number, source in enumerate(chosen):
            crop = source.crop(random, self.size)
            pixels[number] = crop.pixels
            if source.planes:
                meaning[number, slice(*self.planes[source.name])] = crop.meaning
        return pixels, meaning, np.array([source.name == WHOLE_IMAGES for source in chosen])


class PrefixLoss(NamedTuple):
    """loss: to be minimised. bits: per pixel, of each block. mse: in squared steps of 0..255. task: nats."""

    loss: Tensor
    bits: list[float]
    mse: float
    task: float


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
        latents = model.analysis(image)
        known = torch.zeros_like(latents[:, :0])
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
    bits = [float(rate.detach()) for rate in rates]
    return PrefixLoss(loss * (LAMBDAS[0] / weight) ** 0.5, bits, float(mse.detach()), float(nats.detach()))


def make_sources(options: argparse.Namespace) -> dict[CropSource, float]:
    """Scenes of the training split; photos if given; whole images if an imagenet run is given."""
    type_groups = np.asarray(Taxonomy.load(options.taxonomy).owner(1))
    scenes = load_scenes(YoloData.open(options.data, options.splits), "train", options.out / "cache-train")
    sources: dict[CropSource, float] = {SceneCrops(scenes, type_groups): 0.5}
    if options.whole_images:
        from semhier_ros.training.imagenet_picture import whole_image_crops

        sources[whole_image_crops(options.photos, options.whole_images)] = 0.5
    elif options.photos:
        sources[PhotoCrops(read_photos(options.photos, options.photo_count))] = 0.2
    return sources


def first_patches(sampler: PictureSampler) -> Tensor:
    """Patches (PATCHES,3,16,16 in -1..1) of crops that training never sees in this order."""
    pixels = np.concatenate([sampler.batch((1 << 40) + number, 8)[0] for number in range(PATCHES // 800 + 1)])
    blocks = pixels.reshape(len(pixels), sampler.size // STRIDE, STRIDE, sampler.size // STRIDE, STRIDE, 3)
    blocks = blocks.transpose(0, 1, 3, 5, 2, 4).reshape(-1, 3, STRIDE, STRIDE)[:PATCHES]
    return torch.from_numpy(blocks.astype(np.float32) / 127.5 - 1)


def train(options: argparse.Namespace) -> Path:
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    sampler = PictureSampler(make_sources(options), options.crop, options.seed)
    return optimise(options, sampler)


def classifier_task(options: argparse.Namespace, sampler: PictureSampler, device: torch.device) -> TaskLoss | None:
    """The task loss at the levels of --classes, where there are whole images to judge."""
    if options.untold or not options.classes or WHOLE_IMAGES not in sampler.planes:
        return None
    tree = Taxonomy.load(options.classes)
    return TaskLoss([torch.from_numpy(np.array(tree.owner(level))) for level in range(tree.depth)]).to(device)


class Course(NamedTuple):
    """How long one of the two trainings takes, and where it leaves its checkpoint."""

    checkpoint: Path
    steps: int
    minutes: float
    lr: float


def optimise(options: argparse.Namespace, sampler: PictureSampler) -> Path:
    """Train a picture codec on what the sampler gives, then how it paints; returns the last checkpoint, which also
    tells the planes of each kind of meaning."""
    sent = options.out / "picture.pt"
    run_course(options, sampler, Course(sent, options.steps, options.minutes, options.lr))
    if not options.painting_steps:
        return sent
    course = Course(options.out / PAINTED, options.painting_steps, options.painting_minutes, options.painting_lr)
    run_course(options, sampler, course, sent)
    return course.checkpoint


def run_course(options: argparse.Namespace, sampler: PictureSampler, course: Course, sent: Path | None = None) -> None:
    """Train until the steps or minutes of `course` are used up. sent: the codec whose synthesis learns to paint."""
    device = pick_device(options.device)
    model = PictureModel(sampler.meanings)
    saved, step = load_checkpoint(course.checkpoint), 0
    if saved is None and sent is not None:
        first = load_checkpoint(sent)
        if first is None or first["planes"] != sampler.planes:
            raise ValueError(f"{sent}: made for other kinds of pictures than {', '.join(sampler.planes) or 'none'}")
        model.load_state_dict(first["average"])
    elif saved is None and options.start:
        start_picture(model, sampler.planes, options.start)
    elif saved is None:
        principal_start(model.analysis, model.synthesis, first_patches(sampler))
    model = model.to(device).to(memory_format=torch.channels_last)
    depthwise_in_float32(model)
    if sent is not None:
        model.keep_code()
    task = classifier_task(options, sampler, device) if sent is not None else None
    optimizer = torch.optim.Adam([own for own in model.parameters() if own.requires_grad], lr=course.lr)
    average = AveragedWeights(model)
    schedule = Schedule(course.steps, course.minutes)
    if saved is not None:
        model.load_state_dict(saved["network"])
        average.network.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.spent, step = saved["minutes"], saved["step"]
    draw = np.random.default_rng([options.seed, 1, step])

    def state() -> dict:
        return {
            "network": model.state_dict(),
            "average": average.network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "minutes": schedule.elapsed(),
            "step": step,
            "planes": sampler.planes,
        }

    if sent is None and not schedule.done(step):
        (options.out / PAINTED).unlink(missing_ok=True)  # painted for a codec that is no more
    saved_at = time.monotonic()
    shown: dict[str, float] = {}
    bar = tqdm(
        prefetch(lambda i: sampler.batch(i, options.batch), step),
        initial=step,
        total=course.steps,
        unit="step",
        mininterval=10,
        desc="paint" if sent is not None else "code",
    )
    for arrays in bar:
        if schedule.done(step):
            break
        images, meaning = to_device(list(arrays[:2]), device)
        if sent is None or options.untold:
            meaning.zero_()
        image = as_input(images, torch.float32).contiguous(memory_format=torch.channels_last)
        prefix = -1 if draw.random() < EMPTY_SHARE else int(draw.integers(len(GROUPS)))
        for group in optimizer.param_groups:
            group["lr"] = course.lr * schedule.factor(step)
        with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
            found = prefix_loss(model, image, meaning, prefix, task, int(arrays[2].sum()))
        optimizer.zero_grad(set_to_none=True)
        found.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model, step)
        step += 1
        for name, value in ((f"bpp{prefix}", sum(found.bits)), (f"mse{prefix}", found.mse), (f"t{prefix}", found.task)):
            shown[name] = 0.97 * shown.get(name, value) + 0.03 * value
        bar.set_postfix({name: f"{value:.3g}" for name, value in sorted(shown.items())}, refresh=False)
        if time.monotonic() - saved_at > 180:
            save_checkpoint(course.checkpoint, state())
            saved_at = time.monotonic()
    save_checkpoint(course.checkpoint, state())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--photos", type=Path, help="folder of photos-NN.tar for variety")
    parser.add_argument("--photo-count", type=int, default=4000)
    parser.add_argument("--whole-images", type=Path, help="imagenet run: train one codec for both models")
    parser.add_argument("--steps", type=int, default=12_000)
    parser.add_argument("--minutes", type=float, default=60.0, help="anneal to this much time if steps take longer")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=160)
    parser.add_argument("--lr", type=float, default=1e-3)
    add_form(parser)


def add_form(parser: argparse.ArgumentParser) -> None:
    """Options of every training of pictures beside its length."""
    parser.add_argument(
        "--start", type=Path, nargs="*", default=[], help="model folders to begin with (default: principal directions)"
    )
    parser.add_argument(
        "--classes",
        type=Path,
        default=Path("config/taxonomies/imagenet1k.yaml"),
        help="tree at whose levels a frozen classifier should see the same in decoded whole images (that of ImageNet)",
    )
    parser.add_argument(
        "--painting-steps", type=int, default=20_000, help="of the synthesis alone, afterwards; 0: leave it out"
    )
    parser.add_argument(
        "--painting-minutes", type=float, default=30.0, help="anneal to this much time if they take longer"
    )
    parser.add_argument("--painting-lr", type=float, default=5e-5)
    parser.add_argument(
        "--untold",
        action="store_true",
        help="paint with no word of meaning and no classifier: a control of what levels of meaning are worth",
    )
