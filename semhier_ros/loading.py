"""From a model folder to a model: which kind it is, and what its networks run on.

The one place that knows every kind and every backend. What it does not need it does not import: OpenVINO's models load
no torch, and the other way round.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semhier_ros.codec.graphs import check_precision
from semhier_ros.codec.model import Model
from semhier_ros.codec.model_folder import read_kind

if TYPE_CHECKING:
    from semhier_ros.scene.detectors.choice import DetectorChoice
    from semhier_ros.scene.folder import SceneFolder

GPU_NODES = ("nvidiactl", "nvhost-gpu", "nvgpu", "dxg")  # NVIDIA on PCs, on Jetson, in WSL
DEVICES = ("auto", "cpu", "cuda", "torch")


def load_model(
    folder: Path, device: str, threads: int, precision: str, choice: DetectorChoice | None = None
) -> Model[Any]:
    """The model in `folder`, of whatever kind its model.json says. Arguments as `Codec.load` describes them; choice: of
    the detector, for models whose detector is not ours.

    Raises:
        ModelError: the folder is missing or not whole, or of a kind that this release does not know.
        ValueError: an argument outside its range, or a detector that does not fit.
    """
    kind = read_kind(folder)
    device = resolve_device(device)
    check_precision(precision)
    if kind == "scene":
        return _scene(folder, device, threads, precision, choice)
    if choice is not None:
        raise ValueError(f"detector: {folder.name} names whole images; it has none")
    return _whole_image(folder, device, threads, precision)


def resolve_device(device: str) -> str:
    """The device that is meant: `auto` is `cuda` where torch sees a GPU, else `cpu`. Raises ValueError for another, and
    for one that needs torch (or timm, which has the networks) where that is not installed."""
    if device not in DEVICES:
        raise ValueError(f"device: {device!r} is not one of {', '.join(DEVICES)}")
    lacking = next((name for name in ("torch", "timm") if importlib.util.find_spec(name) is None), None)
    if device in ("cuda", "torch") and lacking is not None:
        need = f"{lacking}, which is not installed: pip install torch timm safetensors, or use cpu or auto"
        raise ValueError(f"device: {device} needs {need}")
    if device != "auto":
        return device
    return "cuda" if lacking is None and cuda_usable() else "cpu"


def _scene(path: Path, device: str, threads: int, precision: str, choice: DetectorChoice | None) -> Model[Any]:
    from semhier_ros.scene.backend import OpenVinoBackend
    from semhier_ros.scene.detectors.choice import DetectorChoice
    from semhier_ros.scene.folder import read_scene_folder
    from semhier_ros.scene.model import SceneModel

    folder = read_scene_folder(path)
    if not folder.own_detector:
        return _with_detector(folder, device, threads, precision, choice)
    if choice is not None:
        if choice.looks is None or replace(choice, looks=None) != DetectorChoice():
            raise ValueError(f"detector: model {folder.name} has a detector of its own design; it takes no other")
        folder = replace(folder, looks=choice.looks)
    if device == "cpu":
        return SceneModel(folder, OpenVinoBackend(folder.path, threads, precision))
    from semhier_ros.torch.scene_backend import TorchBackend

    return SceneModel(folder, TorchBackend(folder, "cpu" if device == "torch" else "cuda", precision))


def _with_detector(
    folder: SceneFolder, device: str, threads: int, precision: str, choice: DetectorChoice | None
) -> Model[Any]:
    """A scene model whose detector is not ours. Pictures, where it has any, are made by OpenVINO on every device."""
    from semhier_ros.scene.backend import OpenVinoBackend
    from semhier_ros.scene.detectors.choice import DetectorChoice, has_cuda_engine, open_detector
    from semhier_ros.scene.model import SceneModel

    chosen = choice or DetectorChoice()
    if chosen.looks is not None:
        raise ValueError(f"detector_looks: the detector of model {folder.name} is not ours; say its size instead")
    engine = "cuda" if chosen.engine == "auto" and device == "cuda" and has_cuda_engine() else chosen.engine
    known = chosen.path is not None or folder.detector is not None
    model = SceneModel(
        folder,
        OpenVinoBackend(folder.path, threads, precision),
        (lambda: open_detector(folder, chosen, engine, threads)) if known else None,
    )
    if chosen.path is not None:
        model.prepare_looks()  # what does not fit is told when it is brought, not when the first picture comes
    return model


def _whole_image(path: Path, device: str, threads: int, precision: str) -> Model[Any]:
    from semhier_ros.whole_image.backend import OpenVinoImageBackend
    from semhier_ros.whole_image.folder import read_image_folder
    from semhier_ros.whole_image.model import WholeImageModel

    folder = read_image_folder(path)
    if device == "cpu":
        return WholeImageModel(folder, OpenVinoImageBackend(folder.path, threads, precision))
    from semhier_ros.torch.image_backend import TorchImageBackend

    return WholeImageModel(folder, TorchImageBackend(folder, "cpu" if device == "torch" else "cuda", precision))


def cuda_usable() -> bool:
    """Whether torch sees a GPU; torch (seconds to import) is asked only where a device node says that there is one."""
    if not any(Path("/dev", node).exists() for node in GPU_NODES):
        return False
    try:
        import torch
    except (ImportError, OSError):  # not there, or its CUDA libraries do not load
        return False
    return bool(torch.cuda.is_available())
