"""The model folder of a scene model; `codec.model_folder` says what all kinds share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.model_folder import (
    KINDS,
    ModelError,
    StreamParts,
    read_card,
    read_folder,
    reading,
    write_card,
    write_stream_parts,
)
from semhier_ros.scene.backend import GRAPHS
from semhier_ros.scene.detectors.layouts import DetectorError
from semhier_ros.scene.detectors.runtime import DetectorSpec
from semhier_ros.scene.finders import Look, read_looks
from semhier_ros.scene.layout import SceneLayout
from semhier_ros.scene.objects import ObjectProjection
from semhier_ros.scene.remembering import LEAST_OVERLAP, MOST_OVERLAP
from semhier_ros.scene.stream import SceneStream
from semhier_ros.taxonomy import Taxonomy
from semhier_ros.whole_file import write_whole

OWN, DESCRIBED, NONE = "own", "described", "none"
"""Where a folder's detector is: `detector.onnx` of our own design; another one, described in DETECTOR_CARD; nowhere,
for whoever loads the folder brings one."""
DETECTOR_CARD = "detector.json"
PICTURE_GRAPHS = GRAPHS[1:]
MOST_POWER = 4


@dataclass(frozen=True)
class SceneFolder:
    """A loaded folder. `canvas` is (width, height) of the pictures that the stream speaks of; `looks`: at which sizes
    our own detector sees them, which may be others; `threshold` the least objectness worth sending. `detector`: of
    those that are not ours; `own_detector`: whether it is ours, and then `agreement` as `scene.objects.find_objects`
    has it and `certainty` as `doubted` does.
    `memory_overlap`: how well a remembered box must fit where `scene.remembering` is not told otherwise (0: as there).
    `picture_planes`: how many planes of meaning the synthesis is told, of which one that is not ours knows the first
    (None: as many as the tree's groups need).
    """

    path: Path
    name: str
    canvas: tuple[int, int]
    looks: tuple[Look, ...]
    threshold: float
    stream: SceneStream
    projection: ObjectProjection
    heads: Mapping[str, NDArray[np.float32]]
    taxonomy: Taxonomy
    stream_hash: str
    model_hash: str
    own_detector: bool = True
    detector: DetectorSpec | None = None
    picture_planes: int | None = None
    agreement: float = 0.0
    certainty: float = 0.0
    memory_overlap: float = 0.0


def read_scene_folder(folder: Path) -> SceneFolder:
    """Read and check a scene model's folder.

    Raises:
        ModelError: a file is missing, unreadable, or not the one that the hashes in `model.json` name.
    """
    with reading(folder):
        card = read_card(folder)
        graphs, others = _files(folder, card.get("detector", OWN), card["layout"].get("picture_groups"))
        looks = _looks(folder, card)
        agreement, certainty = (_number(folder, card, field, 0, MOST_POWER) for field in ("agreement", "certainty"))
        memory_overlap = _number(folder, card, "memory_overlap", LEAST_OVERLAP, MOST_OVERLAP)
    found = read_folder(folder, graphs, others)
    with reading(folder):
        canvas = int(found.settings["canvas"][0]), int(found.settings["canvas"][1])
        return SceneFolder(
            path=folder,
            name=found.name,
            canvas=canvas,
            looks=looks or (Look(canvas),),
            threshold=float(found.settings["threshold"]),
            stream=_stream(SceneLayout.from_dict(found.layout), found.stream),
            projection=_projection(found.heads),
            heads=found.heads,
            taxonomy=found.taxonomy,
            stream_hash=found.stream_hash,
            model_hash=found.model_hash,
            own_detector=found.settings.get("detector", OWN) == OWN,
            detector=_read_detector(folder, found.settings) if others else None,
            picture_planes=found.settings.get("picture_planes"),
            agreement=agreement,
            certainty=certainty,
            memory_overlap=memory_overlap,
        )


def _looks(folder: Path, settings: Mapping[str, Any]) -> tuple[Look, ...]:
    """How the folder's detector looks; nothing where it does not say: once, at the canvas."""
    if "looks" not in settings:
        return ()
    field = f"{folder}/model.json: looks"
    if not isinstance(settings["looks"], list) or not settings["looks"]:
        raise ModelError(f'{field}: {settings["looks"]!r}, expected a list such as ["1088x640:0-166"]')
    try:
        return read_looks(settings["looks"])
    except ValueError as error:
        raise ModelError(f"{field}: {error}") from None


def _number(folder: Path, settings: Mapping[str, Any], field: str, least: float, most: float) -> float:
    """A number of least..most that the card may hold; 0 where it does not."""
    if field not in settings:
        return 0.0
    value = settings[field]
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ModelError(f"{folder}/model.json: {field} {value!r}, a number of {least}..{most} expected")
    return float(value)


def _files(folder: Path, detector: Any, picture_groups: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The graphs and other files that a folder's hash covers."""
    if detector not in (OWN, DESCRIBED, NONE):
        raise ModelError(f"{folder}/model.json: detector {detector!r} is not one of {OWN}, {DESCRIBED}, {NONE}")
    if detector == OWN:
        return GRAPHS, ()
    return PICTURE_GRAPHS if picture_groups else (), (DETECTOR_CARD,) if detector == DESCRIBED else ()


def _read_detector(folder: Path, settings: Mapping[str, Any]) -> DetectorSpec:
    """What DETECTOR_CARD says; where the file lies stands in model.json, so that a file may move."""
    try:
        values = json.loads((folder / DETECTOR_CARD).read_text(encoding="utf-8"))
        return DetectorSpec.from_dict(values | {"file": settings["detector_file"]}, f"{folder}/{DETECTOR_CARD}")
    except (json.JSONDecodeError, UnicodeDecodeError, DetectorError) as error:
        raise ModelError(f"{folder}/{DETECTOR_CARD}: {error}") from error


def _projection(heads: Mapping[str, NDArray[np.float32]]) -> ObjectProjection:
    count = sum(key.startswith("project_") and key.endswith(".weight") for key in heads)
    return ObjectProjection(
        [heads[f"project_{group}.weight"] for group in range(count)],
        [heads[f"project_{group}.bias"] for group in range(count)],
        heads["feature_mean"],
        heads["feature_scale"],
    )


def _stream(layout: SceneLayout, parts: StreamParts) -> SceneStream:
    arrays = parts.arrays
    stream = SceneStream(layout, parts.tables, parts.networks, arrays["occupancy_rows"], arrays["picture_shifts"])
    if layout.picture_groups:
        stream.pictures  # noqa: B018 - checks its parts
    return stream


def write_scene_stream(folder: Path, stream: SceneStream) -> None:
    """Write the stream's tables and networks into the folder."""
    arrays = {
        "occupancy_rows": stream.occupancy_rows.astype(np.uint8),
        "picture_shifts": stream.picture_shifts.astype(np.uint8),
    }
    write_stream_parts(folder, StreamParts(dict(stream.tables), dict(stream.networks), arrays))


def write_scene_card(
    folder: Path,
    name: str,
    canvas: tuple[int, int],
    threshold: float,
    layout: SceneLayout,
    *,
    own_detector: bool = True,
    detector: DetectorSpec | None = None,
    picture_planes: int | None = None,
    looks: Sequence[Look] = (),
    agreement: float = 0.0,
    certainty: float = 0.0,
    memory_overlap: float = 0.0,
) -> None:
    """Write `model.json` with the hashes of what lies in the folder, and DETECTOR_CARD for a detector that is not ours.

    own_detector: whether the folder has `detector.onnx` of our own design; `looks` is then how that sees pictures
    (none: on the canvas), and `agreement` and `certainty` what else its scores count. Where not, `detector`
    describes another (None: whoever loads the folder brings one). memory_overlap: as `SceneFolder` has it.
    """
    settings: dict[str, Any] = {"canvas": list(canvas), "threshold": threshold}
    if looks and tuple(looks) != (Look(canvas),):
        settings["looks"] = [str(look) for look in looks]
    numbers = {"agreement": agreement, "certainty": certainty, "memory_overlap": memory_overlap}
    settings |= {field: value for field, value in numbers.items() if value}
    if own_detector:
        write_card(folder, KINDS[0], name, asdict(layout), settings, GRAPHS)
        return
    settings["detector"] = DESCRIBED if detector is not None else NONE
    if detector is not None:
        values = detector.to_dict()
        settings["detector_file"] = values.pop("file")
        write_whole(folder / DETECTOR_CARD, json.dumps(values, indent=1) + "\n")
    if picture_planes is not None:
        settings["picture_planes"] = picture_planes
    graphs, others = _files(folder, settings["detector"], layout.picture_groups)
    write_card(folder, KINDS[0], name, asdict(layout), settings, graphs, others)
