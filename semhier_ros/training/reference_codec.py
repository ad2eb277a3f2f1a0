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
import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from semhier_ros.command import CommandError
from semhier_ros.training.imagenet_picture import STORED, cache_pixels
from semhier_ros.training.loop import (
    AveragedWeights,
    Schedule,
    load_checkpoint,
    pick_device,
    prefetch,
    save_checkpoint,
)
from semhier_ros.training.picture import PhotoCrops, PictureSampler

ARCHITECTURES = {"bmshj2018-hyperprior": torch.channels_last, "cheng2020-anchor": torch.contiguous_format}
"""CompressAI's names, and the memory format that suits each. In channels_last torch 2.14's backward pass of the second
writes outside its memory on CPUs ("double free or corruption", every time in float32)."""
SMALLEST = 64  # pixels that the networks halve down to one
QUALITY = 1  # CompressAI's number of the narrow form: 128 channels, 192 of them latents in bmshj2018-hyperprior
AUXILIARY_RATE = 1e-3  # learning rate of the quantiles, CompressAI's own
SAVED_EVERY = 180  # seconds


def float32_kept(module: nn.Module) -> None:
    """Keep a module out of autocast: likelihoods are differences of near probabilities, which bfloat16 cannot tell."""

    def kept(forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(*values: Any, **named: Any) -> Any:
            plain = [value.float() if isinstance(value, Tensor) else value for value in values]
            others = {name: value.float() if isinstance(value, Tensor) else value for name, value in named.items()}
            with torch.autocast(plain[0].device.type, enabled=False):
                return forward(*plain, **others)

        return run

    module.forward = kept(module.forward)  # type: ignore[method-assign]


def make_network(architecture: str) -> Any:
    """CompressAI's untrained network of that name. Raises ModuleNotFoundError where CompressAI is missing."""
    from compressai.zoo import image_models

    return image_models[architecture](quality=QUALITY, pretrained=False)


def shipped(network: Any) -> dict[str, Tensor]:
    """The state dict of a network whose entropy models are ready to code."""
    ready = copy.deepcopy(network)
    ready.update(force=True)
    return {name: value.detach().cpu() for name, value in ready.state_dict().items()}


def train(options: argparse.Namespace) -> Path:
    """Train until the steps or minutes are used up; returns the file, which is a checkpoint to go on from as well as
    one to code with.

    Raises:
        CommandError: an option outside its range, or a file that is not of this training.
    """
    from compressai.losses import RateDistortionLoss
    from compressai.optimizers import net_aux_optimizer

    check(options)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    try:
        device = pick_device(options.device)
        pixels = cache_pixels(options.photos, options.cache)[0]
    except (ValueError, OSError) as error:
        raise CommandError(str(error)) from error
    sampler = PictureSampler({PhotoCrops(pixels): 1.0}, options.crop, options.seed)  # type: ignore[arg-type]
    layout = ARCHITECTURES[options.architecture]
    network = make_network(options.architecture).to(device).to(memory_format=layout)
    criterion = RateDistortionLoss(lmbda=options.lmbda)
    kinds = {"net": {"type": "Adam", "lr": options.lr}, "aux": {"type": "Adam", "lr": AUXILIARY_RATE}}
    optimizers = net_aux_optimizer(network, kinds)
    average = AveragedWeights(network)
    for module in (network.entropy_bottleneck, network.gaussian_conditional):
        float32_kept(module)
    schedule = Schedule(options.steps, options.minutes)
    made_of = {"architecture": options.architecture, "lambda": options.lmbda}
    step = 0
    if (saved := read_checkpoint(options.out, made_of)) is not None:
        network.load_state_dict(saved["network"])
        average.network.load_state_dict(saved["average"])
        for name, optimizer in optimizers.items():
            optimizer.load_state_dict(saved["optimizers"][name])
        schedule.spent, step = saved["minutes"], saved["step"]

    def state() -> dict[str, Any]:
        return {
            "state_dict": shipped(average.network),
            "training": made_of
            | {
                "network": network.state_dict(),
                "average": average.network.state_dict(),
                "optimizers": {name: optimizer.state_dict() for name, optimizer in optimizers.items()},
                "minutes": schedule.elapsed(),
                "step": step,
            },
        }

    shown: dict[str, float] = {}
    saved_at = time.monotonic()
    bar = tqdm(
        prefetch(lambda index: sampler.batch(index, options.batch)[0], step),
        initial=step,
        total=options.steps,
        unit="step",
        mininterval=10,
    )
    for batch in bar:
        if schedule.done(step):
            break
        image = torch.from_numpy(batch).to(device).permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=layout)
        for group in optimizers["net"].param_groups:
            group["lr"] = options.lr * schedule.factor(step)
        with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
            out = network(image)
        found = criterion({"x_hat": out["x_hat"].float(), "likelihoods": out["likelihoods"]}, image)
        auxiliary = network.aux_loss()
        for optimizer in optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        (found["loss"] + auxiliary).backward()  # of parameters apart: the quantiles are the auxiliary loss's alone
        nn.utils.clip_grad_norm_(optimizers["net"].param_groups[0]["params"], 1.0)
        for optimizer in optimizers.values():
            optimizer.step()
        average.update(network, step)
        step += 1
        values = {"bpp": found["bpp_loss"], "mse": found["mse_loss"] * 255**2, "aux": auxiliary}
        for name, value in values.items():
            shown[name] = 0.97 * shown.get(name, float(value.detach())) + 0.03 * float(value.detach())
        bar.set_postfix({name: f"{value:.3g}" for name, value in shown.items()}, refresh=False)
        if time.monotonic() - saved_at > SAVED_EVERY:
            save_checkpoint(options.out, state())
            saved_at = time.monotonic()
    save_checkpoint(options.out, state())
    return Path(options.out)


def read_checkpoint(path: Path, made_of: dict[str, Any]) -> dict[str, Any] | None:
    """What a training left at `path`, None where there is nothing.

    Raises:
        CommandError: the file is another's, or of another architecture or lambda.
    """
    try:
        saved = load_checkpoint(path)
        training = None if saved is None else saved["training"]
    except Exception as error:  # torch raises errors of many kinds for a damaged file
        raise CommandError(f"--out: {path} is there, and no checkpoint of this command; name another file") from error
    if training is not None and (found := {name: training.get(name) for name in made_of}) != made_of:
        raise CommandError(f"--out: {path} was trained with {found}, not {made_of}; name another file")
    return training


def check(options: argparse.Namespace) -> None:
    """Raises CommandError for an option outside its range."""
    if options.crop % SMALLEST or not SMALLEST <= options.crop <= STORED:
        raise CommandError(f"--crop {options.crop}: {SMALLEST}, 128 or {STORED} wanted")
    for name in ("lmbda", "minutes", "lr", "steps", "batch", "threads"):
        if not getattr(options, name) > 0:
            raise CommandError(f"--{name.replace('lmbda', 'lambda')} {getattr(options, name)}: above 0 wanted")
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
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write and to go on from, *.pth.tar")
    parser.add_argument("--minutes", type=float, default=60.0, help="anneal to this much time if steps take longer")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=128, help=f"side of the squares, {SMALLEST}, 128 or {STORED}")
    parser.add_argument("--lr", type=float, default=1e-3, help="at its greatest; the papers' 1e-4 is for long runs")
    parser.add_argument("--cache", type=Path, default=Path("runs/imagenet"), help="where photos are kept decoded")
    parser.add_argument("--seed", type=int, default=0, help="of everything drawn at random (0)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (2)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (auto)")
    parser.add_argument("--bf16", action="store_true", help="bfloat16: worth it on AVX-512 bf16 and CUDA")


def run(options: argparse.Namespace) -> int:
    """Train, and say where the weights are."""
    print(f"reference: {train(options)}")
    return 0
