"""A fitted stream as a model folder, whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

from semhier_ros.codec.model_folder import write_heads
from semhier_ros.codec.painting import RANGES
from semhier_ros.scene.detectors.runtime import DetectorSpec
from semhier_ros.scene.folder import PICTURE_GRAPHS, SceneFolder, write_scene_card, write_scene_stream
from semhier_ros.taxonomy import Taxonomy
from semhier_ros.training.adopt.fit import Fitted
from semhier_ros.whole_file import replacing

EMBEDDED = "detector.onnx"


def write_model(
    out: Path,
    fitted: Fitted,
    taxonomy: Taxonomy,
    *,
    name: str,
    card: str,
    detector: DetectorSpec | None = None,
    embed: Path | None = None,
    pictures: SceneFolder | None = None,
) -> None:
    """Writes the model folder `out`, in the place of one that is there.

    card: the text of its README.md. detector: what the model runs (None: whoever loads it brings one). embed: the
    detector's file, to be copied into the folder. pictures: the model whose picture blocks it has.

    Raises:
        OSError: it cannot be written; what was there before stays.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as folder:
        folder.mkdir()
        taxonomy.save(folder / "taxonomy.yaml")
        write_scene_stream(folder, fitted.stream)
        write_heads(folder, fitted.heads)
        if pictures is not None:
            for graph in PICTURE_GRAPHS:
                shutil.copy(pictures.path / f"{graph}.onnx", folder)
            if (pictures.path / RANGES).exists():
                shutil.copy(pictures.path / RANGES, folder)
        if embed is not None:
            shutil.copy(embed, folder / EMBEDDED)
        (folder / "README.md").write_text(card, encoding="utf-8")
        write_scene_card(
            folder,
            name,
            fitted.canvas,
            fitted.threshold,
            fitted.stream.layout,
            own_detector=False,
            detector=detector,
            picture_planes=None if pictures is None else planes_of(pictures),
        )


def planes_of(pictures: SceneFolder) -> int:
    """How many planes of meaning a model's synthesis is told."""
    return pictures.picture_planes or 1 + len(pictures.stream.layout.parents[0])
