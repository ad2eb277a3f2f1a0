"""Second stage of the road model: train the picture groups and their synthesis for rate and distortion per prefix.

Each step draws one prefix; its loss is the rate of that prefix plus lambda_k * 255^2 * MSE of the picture decoded from
it (arXiv 2605.08266 weighs its prefixes so). The empty prefix teaches the synthesis to paint from meaning alone.
"""

from __future__ import annotations

import argparse
import io
import math
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from semhier_ros.networks.picture import GROUPS, STRIDE, PictureModel
from semhier_ros.networks.torch_backend import as_input
from semhier_ros.perception.scene_reader import meaning_map
from semhier_ros.taxonomy import Taxonomy
from semhier_ros.training.loop import (
    AveragedWeights,
    Schedule,
    load_checkpoint,
    pick_device,
    prefetch,
    save_checkpoint,
    to_device,
)
from semhier_ros.training.road_data import Scenes, load_scenes
from semhier_ros.training.yolo_data import YoloData

LAMBDAS = (8e-5, 5e-4, 2e-3)  # distortion weight of the picture decoded from picture block 0, 1, 2
PREFIX_SHARE = (0.05, 0.25, 0.35, 0.35)  # how often a step trains the empty prefix, then each group
ROUNDED_SHARE = 0.6  # how often the synthesis sees rounded latents rather than noisy ones


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


class PictureSampler:
    """Crops of `size` pixels: mostly road scenes at random scale, the rest photos for variety."""

    def __init__(self, scenes: Scenes, photos: list[np.ndarray], type_groups: np.ndarray, size: int, seed: int):
        self.scenes, self.photos, self.type_groups, self.size, self.seed = scenes, photos, type_groups, size, seed
        self.meanings = meanings_of(type_groups)

    def batch(self, index: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng([self.seed, index])
        pairs = [self._photo(random) if random.random() < 0.3 else self._scene(random) for _ in range(count)]
        return np.stack([p for p, _ in pairs]), np.stack([m for _, m in pairs])

    def _photo(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        if not self.photos:
            return self._scene(random)
        photo = self.photos[random.integers(len(self.photos))]
        top = random.integers(photo.shape[0] - self.size + 1)
        left = random.integers(photo.shape[1] - self.size + 1)
        crop = photo[top : top + self.size, left : left + self.size]
        return crop, np.zeros((self.meanings, self.size // STRIDE, self.size // STRIDE), np.float32)

    def _scene(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        row = int(random.integers(len(self.scenes)))
        width, height = self.scenes.sizes[row]
        scale = max(self.size / min(width, height), math.exp(random.uniform(math.log(0.6), math.log(1.1))))
        left = random.uniform(0, max(0, width * scale - self.size))
        top = random.uniform(0, max(0, height * scale - self.size))
        matrix = np.array([[scale, 0, -left], [0, scale, -top]], np.float32)
        crop = cv2.warpAffine(
            self.scenes.pixels[row, :height, :width],
            matrix,
            (self.size,) * 2,
            flags=cv2.INTER_AREA,
            borderMode=cv2.BORDER_REFLECT,
        )
        boxes = self.scenes.boxes[row]
        corners = boxes[:, 1:] * scale - (left, top, left, top)
        groups = self.type_groups[boxes[:, 0].astype(int)]
        cells = self.size // STRIDE
        meaning = meaning_map(corners, groups, (cells, cells), self.meanings, STRIDE)
        if random.random() < 0.5:
            crop, meaning = crop[:, ::-1], meaning[..., ::-1]
        return np.ascontiguousarray(crop), np.ascontiguousarray(meaning)


def bits(residual: Tensor, scale: Tensor) -> Tensor:
    """Bits of `residual` quantised to integers under a zero-mean Gaussian of `scale` (the interval's probability)."""
    half = 0.5
    magnitude = residual.abs()
    upper = torch.special.ndtr((half - magnitude) / scale)
    lower = torch.special.ndtr((-half - magnitude) / scale)
    return -(upper - lower).clamp(min=1e-9).log2()


def prefix_loss(
    model: PictureModel, image: Tensor, meaning: Tensor, prefix: int, lambdas: Sequence[float] = LAMBDAS
) -> tuple[Tensor, float, float]:
    """Loss of one prefix (-1: meaning alone), the bits per pixel of its last group, its MSE in 0..255 units squared.

    Rates see additive uniform noise; the synthesis sees, now this, now that, rounded latents with a straight-through
    gradient and the noisy ones, for a group that rounds to nothing teaches the synthesis nothing and stays so. Only the
    prefix's last group learns from it: a gradient into the groups before would let the first group, which every prefix
    holds, buy the quality that the later ones are there for (seen: it took 2.7 KB and left them empty).
    """
    latents = model.analysis(image).split(model.groups, dim=1)
    pixels = image.shape[0] * image.shape[2] * image.shape[3]
    rate = image.new_zeros(())
    decoded: list[Tensor] = []
    for group in range(prefix + 1):
        before = torch.cat(decoded, dim=1) if decoded else latents[0][:, :0]
        if group == 0:
            before = latents[0].new_zeros(latents[0].shape[0], 0, *latents[0].shape[-2:])
        mean, scale = model.parameters_of(group, before)
        residual = latents[group] - mean
        rounded = mean + residual + (residual.round() - residual).detach()
        if group < prefix:
            decoded.append(rounded.detach())
        else:
            noisy = residual + torch.empty_like(residual).uniform_(-0.5, 0.5)
            rate = bits(noisy, scale).sum() / pixels
            decoded.append(rounded if torch.rand(()) < ROUNDED_SHARE else mean + noisy)
    missing = [torch.zeros_like(part) for part in latents[prefix + 1 :]]
    present = image.new_zeros(image.shape[0], len(model.groups))
    present[:, : prefix + 1] = 1
    picture = model.synthesis(torch.cat([*decoded, *missing], dim=1), present, meaning)
    mse = ((picture - image) * 127.5).square().mean()
    weight = lambdas[max(prefix, 0)]
    return rate + weight * mse, float(rate.detach()), float(mse.detach())


def train(options: argparse.Namespace) -> Path:
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    device = pick_device(options.device)
    type_groups = np.asarray(Taxonomy.load(options.taxonomy).owner(1))
    scenes = load_scenes(YoloData.open(options.data, options.splits), "train", options.out / "cache-train")
    photos = read_photos(options.photos, options.photo_count) if options.photos else []
    sampler = PictureSampler(scenes, photos, type_groups, options.crop, options.seed)
    model = PictureModel(meanings_of(type_groups)).to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=options.lr)
    average = AveragedWeights(model)
    schedule = Schedule(options.steps, options.minutes)
    path, step = options.out / "picture.pt", 0
    if (saved := load_checkpoint(path)) is not None:
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
        }

    saved_at = time.monotonic()
    shown: dict[str, float] = {}
    bar = tqdm(
        prefetch(lambda i: sampler.batch(i, options.batch), step),
        initial=step,
        total=options.steps,
        unit="step",
        mininterval=10,
    )
    for arrays in bar:
        if schedule.done(step):
            break
        images, meaning = to_device(list(arrays), device)
        image = as_input(images, torch.float32).contiguous(memory_format=torch.channels_last)
        prefix = int(draw.choice(len(GROUPS) + 1, p=PREFIX_SHARE)) - 1
        for group in optimizer.param_groups:
            group["lr"] = options.lr * schedule.factor(step)
        with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
            loss, rate, mse = prefix_loss(model, image, meaning, prefix)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model, step)
        step += 1
        for name, value in ((f"bpp{prefix}", rate), (f"mse{prefix}", mse)):
            shown[name] = 0.97 * shown.get(name, value) + 0.03 * value
        bar.set_postfix({name: f"{value:.3g}" for name, value in sorted(shown.items())}, refresh=False)
        if time.monotonic() - saved_at > 180:
            save_checkpoint(path, state())
            saved_at = time.monotonic()
    save_checkpoint(path, state())
    return path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--photos", type=Path, help="folder of photos-NN.tar for variety")
    parser.add_argument("--photo-count", type=int, default=4000)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--minutes", type=float, default=60.0, help="anneal to this much time if steps take longer")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--crop", type=int, default=192)
    parser.add_argument("--lr", type=float, default=1e-3)
