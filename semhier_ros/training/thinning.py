"""A narrower trunk for a detector: fewer of the channels that its first blocks expand to, chosen and refitted by what
the whole ones gave.

Most of a pass goes into blocks that look at many pixels, and there into channels that others nearly stand for. Channels
go one after the other, each time the one whose loss the others best make up for (Hassibi and Stork, "Second order
derivatives for network pruning: Optimal Brain Surgeon", NIPS 1992), and the 1x1 convolution after them is fitted anew
by least squares to what it gave before (He, Zhang and Sun, "Channel Pruning for Accelerating Very Deep Neural
Networks", ICCV 2017, arXiv 1707.06168). Blocks are cut from the first on, each by what those already cut give it.
A training afterwards learns the rest.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from semhier_ros.torch.detector import Detector
from semhier_ros.torch.scene_backend import as_input
from semhier_ros.training.errors import TrainingError

SEEN_CELLS = 1500  # cells of a picture that a block is fitted to
STEADY = 1e-6  # of the mean square of a channel, added to each, so that channels that are silent do no harm
WIDTH_TEXT = re.compile(r"(\d+\.\d+)=(\d{1,4})")


class Block(NamedTuple):
    """The names of what a block of the trunk consists of, in `Detector.state_dict`: those whose first axis is its
    expanded channels, the 1x1 convolution that takes them in, and the normalisation after that."""

    expanded: tuple[str, ...]
    projection: str
    after: str


def block_of(detector: Detector, name: str) -> Block:
    """Block `name` (stage.number) of a detector's trunk.

    Raises:
        TrainingError: there is no such block.
    """
    place = f"trunk.blocks.{name}"
    keys = detector.state_dict().keys()
    if f"{place}.conv_dw.weight" not in keys:
        raise TrainingError(f"widths: no block {name} in the trunk, which has 0.0 to 6.0")
    if f"{place}.conv_pwl.weight" in keys:
        parts, projection, after = ("conv_pw", "bn1", "conv_dw", "bn2"), "conv_pwl", "bn3"
        expanded = [f"{place}.{part}" for part in parts]
    else:  # the first block expands nothing: its channels are the stem's
        expanded = ["trunk.conv_stem", "trunk.bn1", f"{place}.conv_dw", f"{place}.bn1"]
        projection, after = "conv_pw", "bn2"
    return Block(tuple(expanded), f"{place}.{projection}", f"{place}.{after}")


def read_widths(texts: Sequence[str]) -> dict[str, int]:
    """How many channels which blocks shall have, from texts such as `1.0=64`, first blocks first.

    Raises:
        TrainingError: another text, or a block named twice.
    """
    widths: dict[str, int] = {}
    for text in texts:
        found = WIDTH_TEXT.fullmatch(text)
        if not found or int(found[2]) < 1 or found[1] in widths:
            raise TrainingError(f"widths: {text!r}: BLOCK=CHANNELS expected, each block once, such as 1.0=64")
        widths[found[1]] = int(found[2])
    return dict(sorted(widths.items(), key=lambda item: [int(part) for part in item[0].split(".")]))


def said_widths(widths: Mapping[str, int]) -> list[str]:
    """The texts of widths, as `read_widths` takes them."""
    return [f"{name}={count}" for name, count in widths.items()]


class Fitted(NamedTuple):
    """A linear map of fewer inputs: which are `kept`, `weight` outputs,kept, `shift` outputs, and which `lost` share of
    the outputs' variance it does not give."""

    kept: NDArray[np.intp]
    weight: NDArray[np.float64]
    shift: NDArray[np.float64]
    lost: float


def fit_fewer(inputs: NDArray[np.floating], outputs: NDArray[np.floating], count: int) -> Fitted:
    """The `count` of the inputs n,k from which the outputs n,o are best fitted, found by leaving out one after the
    other."""
    given, wanted = inputs.astype(np.float64), outputs.astype(np.float64)
    given_mean, wanted_mean = given.mean(0), wanted.mean(0)
    given, wanted = given - given_mean, wanted - wanted_mean
    square = given.T @ given
    square += STEADY * (np.trace(square) / len(square) + 1e-12) * np.eye(len(square))
    inverse = np.linalg.inv(square)
    weight = inverse @ (given.T @ wanted)
    kept = np.arange(len(square))
    while len(kept) > count:
        cost = (weight**2).sum(axis=1) / np.diag(inverse)
        out = int(cost.argmin())
        rest = np.delete(np.arange(len(kept)), out)
        column = inverse[rest, out] / inverse[out, out]
        weight = weight[rest] - column[:, None] * weight[out]
        inverse = inverse[np.ix_(rest, rest)] - column[:, None] * inverse[out, rest]
        kept = kept[rest]
    missed = wanted - given[:, kept] @ weight
    lost = float((missed**2).sum() / max((wanted**2).sum(), 1e-12))
    return Fitted(kept, weight.T, wanted_mean - given_mean[kept] @ weight, lost)


@torch.no_grad()
def thinned(
    detector: Detector, widths: Mapping[str, int], canvases: Sequence[NDArray[np.uint8]], seed: int = 0
) -> tuple[Detector, dict[str, float]]:
    """A copy of a detector whose trunk's blocks have fewer channels, and which share of what each block adds is lost.

    widths: of each block, in the order in which they are cut. canvases: what the detector sees (H,W,3 uint8 RGB, sides
    in multiples of 32).

    Raises:
        TrainingError: there is no such block, or it has no more channels than that.
    """
    whole, narrow = copy.deepcopy(detector).eval(), copy.deepcopy(detector).eval()
    lost: dict[str, float] = {}
    for name, count in tqdm(widths.items(), desc="thin"):
        block = block_of(narrow, name)
        state = narrow.state_dict()
        have = len(state[f"{block.expanded[-1]}.weight"])
        if count >= have:
            raise TrainingError(f"widths: {name}={count}: the block has {have} channels, fewer expected")
        inputs, _ = _seen_by(narrow, block.projection, canvases, seed)
        _, outputs = _seen_by(whole, block.projection, canvases, seed)
        fitted = fit_fewer(inputs, outputs, count)
        kept = torch.from_numpy(fitted.kept)
        for part in block.expanded:
            for key in [key for key in state if key.startswith(f"{part}.") and state[key].ndim]:
                state[key] = state[key][kept]
        weight = f"{block.projection}.weight"
        state[weight] = torch.from_numpy(fitted.weight)[..., None, None].to(state[weight].dtype)
        mean = f"{block.after}.running_mean"
        state[mean] = state[mean] - torch.from_numpy(fitted.shift).to(state[mean].dtype)
        narrow.load_state_dict(state)
        lost[name] = fitted.lost
    return narrow, lost


def _seen_by(
    detector: Detector, layer: str, canvases: Sequence[NDArray[np.uint8]], seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What comes into a 1x1 convolution of a trunk and what it makes of it, n,channels, of some cells of canvases: the
    same cells each time."""
    random = np.random.default_rng(seed)
    seen: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        rows = [part[0].flatten(1).T for part in (inputs[0], output)]
        cells = torch.from_numpy(random.choice(len(rows[0]), min(SEEN_CELLS, len(rows[0])), replace=False))
        seen.append((rows[0][cells].numpy(), rows[1][cells].numpy()))

    handle = detector.get_submodule(layer).register_forward_hook(keep)
    try:
        for canvas in canvases:
            detector.trunk(as_input(torch.from_numpy(canvas[None]), torch.float32))
    finally:
        handle.remove()
    given, made = zip(*seen, strict=True)
    return np.concatenate(given), np.concatenate(made)
