"""The networks of a scene model as the codec sees them, and their CPU form: exported ONNX graphs in OpenVINO.

Nothing that feeds the entropy coder comes from here on the decoding side, so backends may differ in the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.graphs import Floats, OpenVinoPictures, PictureParts
from semhier_ros.codec.picture_walk import Arithmetic
from semhier_ros.scene.objects import DetectorMaps

GRAPHS = ("detector", "picture_analysis", "picture_synthesis")


class Backend(Protocol):
    """What an encoder and a decoder need of the networks. Canvases are H,W,3 uint8 RGB of the model's canvas size.

    batches: whether several canvases at once cost less than one after another. arithmetic: where the context networks
    of picture blocks run.
    """

    batches: bool

    @property
    def arithmetic(self) -> Arithmetic: ...

    def detect(self, canvas: NDArray[np.uint8]) -> DetectorMaps:
        """The detector's dense maps of a canvas."""
        ...

    def analyse(self, canvas: NDArray[np.uint8]) -> Floats:
        """Picture latents C,h,w of a canvas."""
        ...

    def synthesise(self, latents: Floats, present: Floats, meaning: Floats) -> NDArray[np.uint8]:
        """A canvas from picture latents C,h,w (missing groups zero), which groups are present, and the meaning map."""
        ...

    def synthesise_many(self, requests: Sequence[PictureParts]) -> list[NDArray[np.uint8]]:
        """The canvases of several requests (one or more), of one camera or of many."""
        ...


class OpenVinoBackend(OpenVinoPictures):
    """Runs a scene model's graphs on the CPU, each compiled when first used."""

    def detect(self, canvas: NDArray[np.uint8]) -> DetectorMaps:
        objectness, box, types, features = self.run("detector", canvas[None])
        return DetectorMaps(objectness[0, 0], box[0], types[0], features[0])
