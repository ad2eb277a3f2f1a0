"""A whole-image model's networks in torch: definitions joined to graphs, and the CUDA path of encoder and decoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from semhier_ros.torch.classifier import TrunkGraph
from semhier_ros.torch.picture import PictureAnalysis, PictureSynthesis
from semhier_ros.torch.scene_backend import AnalysisGraph, SynthesisGraph, TorchBackend, load_weights
from semhier_ros.whole_image.backend import TrunkOutput
from semhier_ros.whole_image.folder import ImageFolder


def build_image_graphs(groups: Sequence[Sequence[int]], planes: int) -> dict[str, nn.Module]:
    """The three networks, untrained, keyed as their ONNX graphs and their tensors' prefixes are."""
    import timm

    channels = max(stop for _, stop, _ in groups)
    return {
        "trunk": TrunkGraph(timm.create_model("tf_efficientnet_lite0", pretrained=False)),
        "picture_analysis": AnalysisGraph(PictureAnalysis(channels)),
        "picture_synthesis": SynthesisGraph(PictureSynthesis(planes, channels, len(groups))),
    }


class TorchImageBackend(TorchBackend):
    """`whole_image.backend.ImageBackend` in torch.

    Raises:
        ValueError: `device` is `cuda` and torch sees none.
    """

    def __init__(self, folder: ImageFolder, device: str, precision: str = "auto"):
        groups = folder.stream.layout.picture_groups
        graphs = build_image_graphs(groups, folder.heads["meaning_basis"].shape[1])
        load_weights(graphs, folder.path / "weights.safetensors")
        self.place(graphs, device, precision)

    def classify(self, view: NDArray[np.uint8]) -> TrunkOutput:
        features, logits = self._run("trunk", view)
        return TrunkOutput(features, logits)
