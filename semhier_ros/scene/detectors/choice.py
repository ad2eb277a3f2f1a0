"""Which detector a model is loaded with: its own, or one that is brought, each checked against what the folder says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from semhier_ros.scene.detectors.layouts import DetectorError, Layout, find_layout
from semhier_ros.scene.detectors.names import check_names, read_names
from semhier_ros.scene.detectors.runtime import Detector, file_hash
from semhier_ros.scene.finders import Look, read_looks
from semhier_ros.scene.folder import SceneFolder


@dataclass(frozen=True)
class DetectorChoice:
    """A detector that whoever loads a model brings, or how its own is run. path: its ONNX file (None: the model's).
    layout: how it is read (None: as the model has it, or as its tensors suggest). names: its classes in index order
    (None: as the model has them, or the tree's leaves). size: of its input (None: the model's or the file's own).
    engine: what runs it (`scene.detectors.engines.ENGINES`). looks: at which sizes a detector of our own design sees
    pictures (None: as the model says); it takes none of the others."""

    path: Path | None = None
    layout: Layout | None = None
    names: tuple[str, ...] | None = None
    size: tuple[int, int] | None = None
    engine: str = "auto"
    looks: tuple[Look, ...] | None = None

    @classmethod
    def of(
        cls,
        detector: str | Path | None,
        layout: str | None,
        names: str | Path | Sequence[str] | None,
        size: tuple[int, int] | None,
        engine: str,
        looks: Sequence[str] | None = None,
    ) -> DetectorChoice | None:
        """What the detector's arguments of `Codec.load` say; None where they say nothing.

        Raises:
            DetectorError: there is no such layout or list of names, or a look is none.
        """
        if engine == "auto" and detector is layout is names is size is looks is None:
            return None
        if looks is not None and (isinstance(looks, str) or not looks):
            raise DetectorError(f"detector_looks: {looks!r}, expected a list such as ['1088x640:0-166', '544x320:64-']")
        try:
            seen = None if looks is None else read_looks(looks)
        except ValueError as error:
            raise DetectorError(f"detector_looks: {error}") from None
        chosen: tuple[str, ...] | None = None
        if names is not None:
            chosen = read_names(names) if isinstance(names, str | Path) else check_names(list(names))
        return cls(
            None if detector is None else Path(detector).expanduser(),
            None if layout is None else find_layout(layout),
            chosen,
            size,
            engine,
            seen,
        )


def open_detector(folder: SceneFolder, choice: DetectorChoice, engine: str, threads: int) -> Detector:
    """The detector that was brought, or the folder's own, and what the folder says of it where nobody else did."""
    spec = folder.detector
    leaves = folder.taxonomy.names(folder.taxonomy.depth - 1)
    if choice.path is not None:
        names = choice.names if choice.names is not None else (spec.names if spec is not None else tuple(leaves))
        return Detector.open(
            choice.path,
            leaves,
            layout=choice.layout or (spec.layout if spec is not None else None),
            names=names,
            ignore=spec.ignore if spec is not None and choice.names is None else (),
            size=choice.size,
            features=spec.features if spec is not None else None,
            engine=engine,
            threads=threads,
        )
    assert spec is not None
    path = find_file(folder.path, spec.file)
    found = file_hash(path)
    if found != spec.sha256:
        raise DetectorError(
            f"detector {path}: SHA-256 {found[:12]}…, model {folder.name} was fitted to {spec.sha256[:12]}…; bring "
            "this file by name to use it all the same"
        )
    return Detector.open(
        path,
        leaves,
        layout=choice.layout or spec.layout,
        names=choice.names or spec.names,
        ignore=spec.ignore,
        size=choice.size or spec.size,
        features=spec.features,
        engine=engine,
        threads=threads,
    )


def find_file(folder: Path, file: str) -> Path:
    """Where a detector's file lies: as it is written, or in the model folder.

    Raises:
        DetectorError: in neither place.
    """
    for path in (folder / file, Path(file)):
        if path.is_file():
            return path
    raise DetectorError(f"detector {file}: no such file, nor in {folder}; bring it, as in Codec.load(…, detector=FILE)")


def has_cuda_engine() -> bool:
    """Whether ONNX Runtime is here with CUDA."""
    try:
        import onnxruntime
    except ModuleNotFoundError:
        return False
    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()
