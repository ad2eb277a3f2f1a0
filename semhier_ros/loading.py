"""From a model folder to a model: which kind it is, and what its networks run on.

The one place that knows every kind and every backend. What it does not need it does not import: OpenVINO's models load
no torch, and the other way round.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from semhier_ros.codec.model import Model
from semhier_ros.codec.model_folder import read_kind

GPU_NODES = ("nvidiactl", "nvhost-gpu", "nvgpu", "dxg")  # NVIDIA on PCs, on Jetson, in WSL
DEVICES = ("auto", "cpu", "cuda", "torch")


def load_model(folder: Path, device: str, threads: int, precision: str) -> Model[Any]:
    """The model in `folder`, of whatever kind its model.json says. Arguments as `Codec.load` describes them.

    Raises:
        ModelError: the folder is missing or not whole, or of a kind that this release does not know.
        ValueError: an argument outside its range.
    """
    kind = read_kind(folder)
    if device not in DEVICES:
        raise ValueError(f"device: {device!r} is not one of {', '.join(DEVICES)}")
    if device == "auto":
        device = "cuda" if cuda_usable() else "cpu"
    load = _whole_image if kind == "whole-image" else _scene
    return load(folder, device, threads, precision)


def _scene(path: Path, device: str, threads: int, precision: str) -> Model[Any]:
    from semhier_ros.scene.backend import OpenVinoBackend
    from semhier_ros.scene.folder import read_scene_folder
    from semhier_ros.scene.model import SceneModel

    folder = read_scene_folder(path)
    if device == "cpu":
        return SceneModel(folder, OpenVinoBackend(folder.path, threads, precision))
    from semhier_ros.torch.scene_backend import TorchBackend

    return SceneModel(folder, TorchBackend(folder, "cpu" if device == "torch" else "cuda"))


def _whole_image(path: Path, device: str, threads: int, precision: str) -> Model[Any]:
    from semhier_ros.whole_image.backend import OpenVinoImageBackend
    from semhier_ros.whole_image.folder import read_image_folder
    from semhier_ros.whole_image.model import WholeImageModel

    folder = read_image_folder(path)
    if device == "cpu":
        return WholeImageModel(folder, OpenVinoImageBackend(folder.path, threads, precision))
    from semhier_ros.torch.image_backend import TorchImageBackend

    return WholeImageModel(folder, TorchImageBackend(folder, "cpu" if device == "torch" else "cuda"))


def cuda_usable() -> bool:
    """Whether torch sees a GPU; torch (seconds to import) is asked only where a device node says that there is one."""
    if not any(Path("/dev", node).exists() for node in GPU_NODES):
        return False
    try:
        import torch
    except ModuleNotFoundError:
        return False
    return bool(torch.cuda.is_available())
