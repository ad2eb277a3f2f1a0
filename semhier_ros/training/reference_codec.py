"""`semhier train reference`: weights for CompressAI's networks, so that `compressai:PATH` has something to load.

No pretrained weights are shipped or fetched; what is trained here stands for its architecture at the photos, steps and
time that our own codec had, not at the millions of steps of the papers. Networks (Ballé et al., "Variational image
compression with a scale hyperprior", arXiv 1802.01436; Cheng et al., "Learned Image Compression with Discretized
Gaussian Mixture Likelihoods and Attention Modules", arXiv 2001.01568), their narrow form of the lowest qualities, the
rate-distortion loss and the loss of the quantiles are CompressAI's own.

    semhier train reference --architecture bmshj2018-hyperprior --photos PHOTOS --lambda 0.0018 --out a.pth.tar
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semhier_ros import options as shared
from semhier_ros.command import CommandError
from semhier_ros.training.checkpoint import Checkpoint
from semhier_ros.training.device import adamw, autocast, in_float32, pick_device
from semhier_ros.training.fit import APART, Course, Loss, fit
from semhier_ros.training.loader import Loader, workers_for
from semhier_ros.training.photos import STORED, cache_pixels
from semhier_ros.training.picture_samples import PhotoCrops, PictureSamples

ARCHITECTURES = {"bmshj2018-hyperprior": torch.channels_last, "cheng2020-anchor": torch.contiguous_format}
"""CompressAI's names, and the memory format that suits each. In channels_last torch 2.14's backward pass of the second
writes outside its memory on CPUs ("double free or corruption", every time in float32)."""
SMALLEST = 64  # pixels that the networks halve down to one
QUALITY = 1  # CompressAI's number of the narrow form: 128 channels, 192 of them latents in bmshj2018-hyperprior
AUXILIARY_RATE = 1e-3  # learning rate of the quantiles, CompressAI's own


def make_network(architecture: str) -> Any:
    """CompressAI's untrained network of that name. Raises ModuleNotFoundError where CompressAI is missing."""
    from compressai.zoo import image_models

    return image_models[architecture](quality=QUALITY, pretrained=False)


def train(options: argparse.Namespace) -> Path:
    """Train until the steps or minutes are used up; returns the file, which is a checkpoint to go on from as well as
    one to code with.

    Raises:
        CommandError: an option outside its range, or a file that is not of this training.
    """
    from compressai.losses import RateDistortionLoss

    check(options)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    device = pick_device(options.device)
    checkpoint = ReferenceCheckpoint(options.out, options.architecture, options.lmbda)
    checkpoint.read()
    pixels = cache_pixels(options.photos, options.cache)[0]
    samples = PictureSamples({PhotoCrops(pixels): 1.0}, options.crop, options.seed)
    layout = ARCHITECTURES[options.architecture]
    network = make_network(options.architecture).to(device).to(memory_format=layout)
    criterion = RateDistortionLoss(lmbda=options.lmbda)
    for module in (network.entropy_bottleneck, network.gaussian_conditional):
        in_float32(module)  # likelihoods are differences of near probabilities, which bfloat16 cannot tell
    quantiles = [own for name, own in network.named_parameters() if name.endswith(".quantiles")]
    coding = [own for name, own in network.named_parameters() if not name.endswith(".quantiles")]
    groups = [{"params": coding, "lr": options.lr}, {"params": quantiles, "lr": AUXILIARY_RATE, APART: True}]

    def loss(batch: Sequence[Tensor], random: np.random.Generator) -> Loss:
        image = batch[0].permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=layout)
        out = network(image)
        with autocast(device, False):
            found = criterion({"x_hat": out["x_hat"].float(), "likelihoods": out["likelihoods"]}, image)
            auxiliary = network.aux_loss()  # of parameters apart: the quantiles are this loss's alone
        shown = {"bpp": found["bpp_loss"], "mse": found["mse_loss"] * 255**2, "aux": auxiliary}
        return Loss(found["loss"] + auxiliary, shown)

    workers = workers_for(device, options.threads, options.workers)
    loader = Loader(samples, options.batch, workers, device)
    course = Course(options.steps, options.minutes, bf16=options.bf16, seed=options.seed, name="reference")
    fit(network, adamw(groups, options.lr), loader, loss, course, checkpoint)
    return Path(options.out)


class ReferenceCheckpoint(Checkpoint):
    """A file to go on from (`training`) as well as one that CompressAI codes with (`state_dict`)."""

    def __init__(self, path: Path, architecture: str, lmbda: float):
        super().__init__(path, {"architecture": architecture, "lambda": lmbda})
        self.architecture = architecture

    def wrap(self, state: dict[str, Any]) -> dict[str, Any]:
        ready = make_network(self.architecture)
        ready.load_state_dict(state["average"])
        ready.update(force=True)
        return {"state_dict": {name: value.cpu() for name, value in ready.state_dict().items()}, "training": state}

    def unwrap(self, saved: dict[str, Any]) -> dict[str, Any]:
        return saved["training"]


def check(options: argparse.Namespace) -> None:
    """Raises CommandError for an option outside its range."""
    if options.crop % SMALLEST or not SMALLEST <= options.crop <= STORED:
        raise CommandError(f"--crop {options.crop}: {SMALLEST}, 128 or {STORED} wanted")
    for name in ("lmbda", "minutes", "lr", "steps", "batch", "threads"):
        if not getattr(options, name) > 0:
            raise CommandError(f"--{name.replace('lmbda', 'lambda')} {getattr(options, name)}: above 0 wanted")
    if options.workers is not None and options.workers < 0:
        raise CommandError(f"--workers {options.workers}: 0 or more wanted")
    if not options.photos.is_dir():
        raise CommandError(f"--photos: {options.photos} is not a folder")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--architecture", choices=list(ARCHITECTURES), required=True, help="of CompressAI")
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos: tars and manifest.csv")
    parser.add_argument(
        "--lambda",
        dest="lmbda",
        type=float,
        default=0.0018,
        help="what a squared step of 255 is worth in bits; the papers' lowest is %(default)s, less makes smaller files",
    )
    shared.out(parser, None, "checkpoint to write and to go on from, *.pth.tar", folder=False)
    parser.add_argument("--minutes", type=float, default=60.0, help="anneal to this much time if steps take longer")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=128, help=f"side of the squares, {SMALLEST}, 128 or {STORED}")
    parser.add_argument("--lr", type=float, default=1e-3, help="at its greatest; the papers' 1e-4 is for long runs")
    parser.add_argument("--cache", type=Path, default=Path("runs/imagenet"), help="where photos are kept decoded")
    parser.add_argument("--seed", type=int, default=0, help="of everything drawn at random (0)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (2)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (auto)")
    parser.add_argument("--workers", type=int, help="processes that load photos (default: what the machine can spare)")
    parser.add_argument("--bf16", action="store_true", help="bfloat16: worth it on AVX-512 bf16 and CUDA")


def run(options: argparse.Namespace) -> int:
    """Train, and say where the weights are."""
    print(f"reference: {train(options)}")
    return 0
