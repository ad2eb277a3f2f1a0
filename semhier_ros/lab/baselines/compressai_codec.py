"""Learned pictures: networks of CompressAI (BSD 3-Clause Clear) with weights of your own. None are shipped or fetched.

A checkpoint is a state dict as `torch.save` writes it, or a training checkpoint that holds one under `state_dict`, of
one of CompressAI's architectures: bmshj2018-factorized, bmshj2018-hyperprior, mbt2018-mean, mbt2018, cheng2020-anchor,
cheng2020-attn. Which one it is, and how wide, is read off its tensors. Nothing in it is executed.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from semhier_ros.lab.baselines.still import Picture, StillCodec

SUFFIXES = (".pt", ".pth", ".tar", ".ckpt")
ALIGNED = 64  # pixels: what the deepest of the networks halve six times
_HEADER = struct.Struct(">BHHI")


class CompressAi(StillCodec):
    """One checkpoint, or a folder of them (*.pt, *.pth, *.tar, *.ckpt): each is a quality, 0 and up in order of names.

    Raises:
        ValueError: no checkpoint there, or one that is damaged or of another architecture; the message names it.
        ModuleNotFoundError: torch or compressai is missing (extra `train`).
    """

    header = "number of the network, size of the picture, and where its first string ends: 9 bytes"

    def __init__(self, folder: str):
        path = Path(folder)
        files = [path]
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
        if not files or not files[0].is_file():
            raise ValueError(f"compressai: {path} is no checkpoint and no folder of them ({', '.join(SUFFIXES)})")
        self.name = f"compressai:{path}"
        self.networks = [_load(file) for file in files]
        self.qualities = tuple(range(len(files)))

    def encode(self, picture: Picture, quality: float) -> bytes:
        import torch

        network = self.networks[int(quality)]
        height, width = picture.shape[:2]
        padded = np.pad(picture, ((0, -height % ALIGNED), (0, -width % ALIGNED), (0, 0)), mode="edge")
        with torch.inference_mode():
            planes = torch.from_numpy(padded.astype(np.float32) / 255).permute(2, 0, 1)[None]
            strings = [one[0] for one in network.compress(planes)["strings"]]
        return _HEADER.pack(int(quality), height, width, len(strings[0])) + b"".join(strings)

    def decode(self, data: bytes) -> Picture:
        """The picture. Raises ValueError for bytes that no network here made."""
        import torch

        if len(data) < _HEADER.size or data[0] >= len(self.networks):
            raise ValueError(f"{len(data)} bytes: none of the {len(self.networks)} networks made them")
        number, height, width, first = _HEADER.unpack_from(data)
        network, rest = self.networks[number], data[_HEADER.size :]
        two = hasattr(network, "h_a")  # strings: of the latents, then of what their scales are told by
        strings = [[rest[:first]], [rest[first:]]] if two else [[rest]]
        step = ALIGNED if two else 16
        shape = (-(-height // ALIGNED) * ALIGNED // step, -(-width // ALIGNED) * ALIGNED // step)
        with torch.inference_mode():
            planes = network.decompress(strings, shape)["x_hat"][0, :, :height, :width]
        return np.ascontiguousarray((planes.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())

    def header_bytes(self, data: bytes) -> int:
        return _HEADER.size


def _load(path: Path) -> Any:
    """The network of a checkpoint, ready to code."""
    import pickle

    import torch
    from compressai.zoo.pretrained import load_pretrained

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        said = " ".join((type(error).__name__, *str(error).splitlines()[:1]))
        raise ValueError(f"compressai: {path} is no checkpoint: {said}") from error
    state = found.get("state_dict", found) if isinstance(found, dict) else {}
    try:
        network = _architecture(state).from_state_dict(load_pretrained(state)).eval()
        network.update(force=True)
    except (KeyError, AttributeError, IndexError, RuntimeError) as error:
        said = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        raise ValueError(f"compressai: {path} fits none of the architectures: {said}") from error
    return network


def _architecture(state: dict[str, Any]) -> Any:
    """The class of CompressAI whose tensors these are."""
    from compressai import models

    if "g_a.0.conv1.weight" in state:
        attends = any(".conv_a." in key for key in state)
        return models.Cheng2020Attention if attends else models.Cheng2020Anchor
    if "h_a.0.weight" not in state:
        return models.FactorizedPrior
    if any(key.startswith("context_prediction") for key in state):
        return models.JointAutoregressiveHierarchicalPriors
    doubled = state["h_s.4.weight"].shape[0] == 2 * state["g_a.6.weight"].shape[0]
    return models.MeanScaleHyperprior if doubled else models.ScaleHyperprior
