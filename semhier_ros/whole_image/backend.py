"""The networks of a whole-image model as the codec sees them, and their CPU form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.canvas import Lift
from semhier_ros.codec.graphs import OpenVinoPictures, PictureParts
from semhier_ros.codec.picture_walk import Arithmetic

Floats = NDArray[np.float32]
IMAGE_GRAPHS = ("trunk", "picture_analysis", "picture_synthesis")


class TrunkOutput(NamedTuple):
    """What the trunk says of a view: features F and leaf logits C."""

    features: Floats
    logits: Floats


class ImageBackend(Protocol):
    """Views are side,side,3 uint8 RGB. Fields as in `scene.backend.Backend`."""

    batches: bool

    @property
    def arithmetic(self) -> Arithmetic: ...

    def classify(self, view: NDArray[np.uint8]) -> TrunkOutput:
        """The trunk's features and leaf logits of a view."""
        ...

    def analyse(self, view: NDArray[np.uint8]) -> Floats:
        """Picture latents C,h,w of a view."""
        ...

    def synthesise(self, latents: Any, present: Floats, meaning: Floats) -> NDArray[np.uint8]:
        """A view from picture latents C,h,w (missing groups zero; where `arithmetic` computes), which groups are
        present, and the meaning planes."""
        ...

    def synthesise_many(self, requests: Sequence[PictureParts], lifts: Sequence[Lift]) -> list[NDArray[np.uint8]]:
        """The views of several requests (one or more), of one camera or of many, each lifted."""
        ...


class OpenVinoImageBackend(OpenVinoPictures):
    """Runs a whole-image model's graphs on the CPU, each compiled when first used."""

    def classify(self, view: NDArray[np.uint8]) -> TrunkOutput:
        features, logits = self.run("trunk", view[None])
        return TrunkOutput(features[0], logits[0])
