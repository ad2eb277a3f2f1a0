"""The small protocol behind `api.Codec`: what every kind of model offers, and how a folder becomes one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.model_folder import read_kind
from semhier_ros.codec.reading import Detection
from semhier_ros.scene.budget import Motion
from semhier_ros.taxonomy import Taxonomy

GPU_NODES = ("nvidiactl", "nvhost-gpu", "nvgpu", "dxg")  # NVIDIA on PCs, on Jetson, in WSL
DEVICES = ("auto", "cpu", "cuda", "torch")

Code = Any
"""What blocks 0..k of a frame say, decoded. Only the model's own methods look inside, and none changes it."""


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """What an encoder may be asked beyond the number of blocks.

    threshold: least objectness worth sending, of scenes (None: the model's own). quality: operating point of
    whole-image models, 0 the least bytes (None: the model's own). max_bytes: what all blocks together may take (None:
    as much as they need); a scene gives up fine levels of its least important objects for it. motion: this camera's
    memory of where objects were, for what moves is important (None: nothing moves).
    """

    threshold: float | None = None
    quality: int | None = None
    max_bytes: int | None = None
    motion: Motion | None = None


class Model(Protocol):
    """A model of any kind, loaded. Safe to share between threads.

    view_size: width and height of the picture that its networks see. levels: how many levels its blocks name.
    """

    name: str
    path: Path
    stream_hash: str
    model_hash: str
    block_names: tuple[str, ...]
    semantic_blocks: int
    levels: int
    whole_image: bool
    taxonomy: Taxonomy
    view_size: tuple[int, int]

    def check(self, options: EncodeOptions) -> None:
        """Raises ValueError, naming the range, for an option that this model does not take or that is outside it."""
        ...

    def encode(self, image: NDArray[np.uint8], blocks: int, options: EncodeOptions) -> Iterator[bytes]:
        """The first `blocks` blocks of a picture (H,W,3 uint8 RGB), each made when it is asked for; fewer where
        `max_bytes` leaves nothing to say in the next."""
        ...

    def decode(self, index: int, data: bytes, code: Code | None) -> Code:
        """The code of blocks 0..index, given that of 0..index-1 (None before block 0), which stays as it is.

        Raises:
            PacketError: no encoder made these bytes for this prefix.
        """
        ...

    def read(self, code: Code, prefix: int, size: tuple[int, int]) -> tuple[Detection, ...]:
        """The detections after blocks 0..prefix; boxes in pixels of a source picture of `size` (width, height)."""
        ...

    def picture(self, code: Code, prefix: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """The picture (height,width,3) of source size after blocks 0..prefix."""
        ...


def load(folder: Path, device: str, threads: int, precision: str) -> Model:
    """The model in `folder`, of whatever kind its model.json says. Arguments as `Codec.load` describes them.

    Raises:
        ModelError: the folder is missing or not whole, or of a kind that this release does not know.
        ValueError: an argument outside its range.
    """
    kind = read_kind(folder)
    if device not in DEVICES:
        raise ValueError(f"device: {device!r} is not one of {', '.join(DEVICES)}")
    if device == "auto":
        device = "cuda" if _cuda_usable() else "cpu"
    if kind == "whole-image":
        from semhier_ros.whole_image.model import WholeImageModel

        return WholeImageModel.load(folder, device, threads, precision)
    from semhier_ros.scene.model import SceneModel

    return SceneModel.load(folder, device, threads, precision)


def _cuda_usable() -> bool:
    """Whether torch sees a GPU; torch (seconds to import) is asked only where a device node says that there is one."""
    if not any(Path("/dev", node).exists() for node in GPU_NODES):
        return False
    try:
        import torch
    except ModuleNotFoundError:
        return False
    return bool(torch.cuda.is_available())
