"""The picture part of the imagenet model: groups of stride-16 latents, each trained for the prefix that ends with it.

The synthesis is told what the semantic blocks say (`imagenet_meaning`), the same everywhere in the picture. A step
without any group teaches it to paint from a coarse node, a middle node, a class, or all of the semantics.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from semhier_ros.networks.picture import STRIDE, PictureModel
from semhier_ros.networks.torch_backend import as_input
from semhier_ros.taxonomy import Taxonomy
from semhier_ros.training.imagenet_meaning import PLANES, fit_meaning, load_classifier_rows, node_means
from semhier_ros.training.loop import (
    AveragedWeights,
    Schedule,
    load_checkpoint,
    pick_device,
    prefetch,
    save_checkpoint,
    to_device,
)
from semhier_ros.training.photos import read_manifest, read_pictures
from semhier_ros.training.picture import prefix_loss

GROUPS = (16, 32, 48, 64)  # the first three as a road model has them, whose picture networks training may start from
LAMBDAS = (1.5e-4, 5e-4, 2e-3, 6e-3)  # distortion weight of the picture decoded from each group
PREFIX_SHARE = (0.08, 0.22, 0.22, 0.22, 0.26)  # how often a step trains meaning alone, then each group
STORED = 192  # side of the squares kept in the memory map
NOISE = 0.3  # spread of what quantising loses of a reading, in its own standard deviations


def cache_pixels(data: Path, out: Path) -> tuple[np.ndarray, np.ndarray]:
    """The centre squares of all photos that may be trained on, decoded once: pixels n,192,192,3 and their rows in the
    manifest."""
    path, rows_path = out / "pixels.npy", out / "pixels-rows.npy"
    if not path.exists():
        photos = read_manifest(data)
        row_of = {photo.name: row for row, photo in enumerate(photos) if not photo.test}
        part = path.with_suffix(".part.npy")
        store = np.lib.format.open_memmap(part, "w+", np.uint8, (len(row_of), STORED, STORED, 3))
        rows: list[int] = []
        for name, picture in tqdm(read_pictures(data), total=len(photos), desc="decode photos", mininterval=5):
            height, width = picture.shape[:2]
            if name in row_of and min(height, width) >= STORED:
                top, left = (height - STORED) // 2, (width - STORED) // 2
                store[len(rows)] = picture[top : top + STORED, left : left + STORED]
                rows.append(row_of[name])
        store.flush()
        np.save(rows_path, np.array(rows))
        part.rename(path)
    rows_array = np.load(rows_path)
    return np.load(path, mmap_mode="r")[: len(rows_array)], rows_array


class Sampler:
    """Crops of `size` pixels with what the semantic blocks say of their photo, after each prefix."""

    def __init__(self, pixels: np.ndarray, readings: np.ndarray, nodes: list[np.ndarray], size: int, seed: int):
        self.pixels, self.readings, self.nodes, self.size, self.seed = pixels, readings, nodes, size, seed

    def batch(self, index: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Crops n,size,size,3; full readings n,PLANES; readings of a random prefix n,PLANES."""
        random = np.random.default_rng([self.seed, index])
        rows = random.integers(len(self.pixels), size=count)
        crops = np.empty((count, self.size, self.size, 3), np.uint8)
        for number, row in enumerate(rows):
            top, left = random.integers(STORED - self.size + 1, size=2)
            crop = self.pixels[row, top : top + self.size, left : left + self.size]
            crops[number] = crop[:, ::-1] if random.random() < 0.5 else crop
        full = self.readings[rows] + NOISE * random.standard_normal((count, PLANES))
        prefix = random.integers(len(self.nodes) + 1, size=count)
        partial = np.stack([full[i] if k == len(self.nodes) else self.nodes[k][rows[i]] for i, k in enumerate(prefix)])
        return crops, full.astype(np.float32), partial.astype(np.float32)


def start_from(model: PictureModel, checkpoint: Path) -> int:
    """Take over a picture model with fewer groups and other meaning planes: every tensor of the same shape, the groups
    it has, and nothing of its meaning. Returns how many tensors were taken.

    Raises:
        ValueError: its groups are not the first of this model's.
    """
    saved = load_checkpoint(checkpoint)
    weights = saved["average"] if saved else {}
    own = model.state_dict()
    groups = 1 + sum(name.startswith("contexts.") and name.endswith("out.bias") for name in weights)
    known = sum(GROUPS[:groups])
    last = max((name for name in weights if name.startswith("analysis.body")), key=lambda name: int(name.split(".")[2]))
    if weights[last].shape[0] != known:
        raise ValueError(
            f"{checkpoint}: {weights[last].shape[0]} picture channels, expected {known} in {groups} groups"
        )
    taken = 0
    for name, value in weights.items():
        target = own[name]
        if target.shape == value.shape:
            target.copy_(value)
        elif name == "synthesis.start.weight":
            target.zero_()
            target[:, :known] = value[:, :known]
            target[:, -len(GROUPS) : len(target[0]) - len(GROUPS) + groups] = value[:, -groups:]
        elif target.shape[1:] == value.shape[1:]:
            target[: len(value)] = value
        else:
            continue
        taken += 1
    return taken


def make_sampler(options: argparse.Namespace) -> Sampler:
    out: Path = options.out
    pixels, rows = cache_pixels(options.data, out)
    weight, bias = load_classifier_rows(out)
    features = np.load(out / "features-0.npy", mmap_mode="r")[rows].astype(np.float32)
    meaning = fit_meaning(features, weight)
    np.savez(out / "meaning.npz", mean=meaning.mean, basis=meaning.basis)
    readings = (features - meaning.mean) @ meaning.basis
    leaves = (features @ weight.T + bias).argmax(1)
    tree = Taxonomy.load(options.taxonomy)
    owners = [np.asarray(tree.owner(level)) for level in range(tree.depth)]
    means = node_means(readings, leaves, owners)
    nodes = [mean[owner[leaves]] for mean, owner in zip(means, owners, strict=True)]
    return Sampler(pixels, readings.astype(np.float32), nodes, options.crop, options.seed)


def train(options: argparse.Namespace) -> Path:
    """Train, or go on training, until the steps or minutes are used up; returns the checkpoint."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    device = pick_device(options.device)
    sampler = make_sampler(options)
    model = PictureModel(PLANES, GROUPS)
    path, step = options.out / "picture.pt", 0
    saved = load_checkpoint(path)
    if saved is None and options.start:
        print(f"{start_from(model, options.start)} tensors taken from {options.start}")
    model = model.to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=options.lr)
    average = AveragedWeights(model)
    schedule = Schedule(options.steps, options.minutes)
    if saved is not None:
        model.load_state_dict(saved["network"])
        average.network.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.spent, step = saved["minutes"], saved["step"]
    draw = np.random.default_rng([options.seed, 1, step])

    def state() -> dict[str, Any]:
        return {
            "network": model.state_dict(),
            "average": average.network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "minutes": schedule.elapsed(),
            "step": step,
        }

    saved_at = time.monotonic()
    shown: dict[str, float] = {}
    batches = prefetch(lambda i: sampler.batch(i, options.batch), step)
    bar = tqdm(batches, initial=step, total=options.steps, unit="step", mininterval=10)
    for crops, full, partial in bar:
        if schedule.done(step):
            break
        prefix = int(draw.choice(len(GROUPS) + 1, p=PREFIX_SHARE)) - 1
        images, told = to_device([crops, partial if prefix < 0 else full], device)
        image = as_input(images, torch.float32).contiguous(memory_format=torch.channels_last)
        cells = options.crop // STRIDE
        meaning = told[:, :, None, None].expand(-1, -1, cells, cells)
        for group in optimizer.param_groups:
            group["lr"] = options.lr * schedule.factor(step)
        with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
            loss, rate, mse = prefix_loss(model, image, meaning, prefix, LAMBDAS)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model, step)
        step += 1
        for name, value in ((f"bytes{prefix}", rate * 224 * 224 / 8), (f"mse{prefix}", mse)):
            shown[name] = 0.97 * shown.get(name, value) + 0.03 * value
        bar.set_postfix({name: f"{value:.3g}" for name, value in sorted(shown.items())}, refresh=False)
        if time.monotonic() - saved_at > 120:
            save_checkpoint(path, state())
            saved_at = time.monotonic()
    save_checkpoint(path, state())
    return path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--start", type=Path, help="checkpoint of a road model's picture networks to start from")
    parser.add_argument("--steps", type=int, default=30_000)
    parser.add_argument("--minutes", type=float, default=600.0, help="anneal to this much time if steps take longer")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--crop", type=int, default=160)
    parser.add_argument("--lr", type=float, default=1e-3)
