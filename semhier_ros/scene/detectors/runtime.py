"""A detector's file with its layout and names: from a picture to boxes and scores over the leaves of a tree."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from semhier_ros.scene.detectors.decode import (
    READERS,
    Candidates,
    Match,
    Tensor,
    check,
    fitting_layouts,
    grid_rows,
    suppress,
)
from semhier_ros.scene.detectors.engines import Input, image_input, is_nhwc, open_engine
from semhier_ros.scene.detectors.layouts import DetectorError, Layout, check_size, find_layout
from semhier_ros.scene.detectors.names import LeafIndex, check_names, is_nothing

Floats = NDArray[np.float32]
LEAST = 0.01  # best class score below which a detector's row is not looked at
MOST_FOUND = 300  # boxes of one picture
POOLED = 3  # samples across and down a box, when a feature map is pooled in it


@dataclass(frozen=True)
class Found:
    """What a detector says of one picture.

    boxes n,4: corners in pixels of the source picture. scores n,leaves: 0..1, of each leaf by itself. features n,F.
    """

    boxes: Floats
    scores: Floats
    features: Floats

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def none(cls, leaves: int, features: int = 0) -> Found:
        return cls(np.zeros((0, 4), np.float32), np.zeros((0, leaves), np.float32), np.zeros((0, features), np.float32))

    def take(self, rows: NDArray[Any] | Sequence[int]) -> Found:
        return Found(self.boxes[rows], self.scores[rows], self.features[rows])


@dataclass(frozen=True)
class DetectorSpec:
    """A detector as a model's card keeps it.

    file: path of the ONNX file, absolute or relative to the model folder. sha256: of its bytes. layout; names: its
    classes in index order; ignore: those that are never sent. size: width and height of its input (None: the file's
    own). features: the tensor that appearance comes from (None: none).
    """

    file: str
    sha256: str
    layout: Layout
    names: tuple[str, ...]
    ignore: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    features: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "sha256": self.sha256,
            "layout": self.layout.to_dict(),
            "names": list(self.names),
            "ignore": list(self.ignore),
            "size": list(self.size) if self.size else None,
            "features": self.features,
        }

    @classmethod
    def from_dict(cls, values: Any, where: str) -> DetectorSpec:
        """The way back from `to_dict`.

        Raises:
            DetectorError: a field is missing, unknown or of the wrong kind.
        """
        known = {"file", "sha256", "layout", "names", "ignore", "size", "features"}
        if not isinstance(values, dict) or set(values) != known:
            raise DetectorError(f"{where}: the fields {', '.join(sorted(known))} are wanted")
        for key in ("file", "sha256"):
            if not isinstance(values[key], str):
                raise DetectorError(f"{where}: {key} {values[key]!r} is no text")
        for key in ("names", "ignore"):
            if not isinstance(values[key], list) or not all(isinstance(name, str) for name in values[key]):
                raise DetectorError(f"{where}: {key} is no list of names")
        if not isinstance(values["layout"], dict):
            raise DetectorError(f"{where}: layout is no mapping")
        if not (values["features"] is None or isinstance(values["features"], str)):
            raise DetectorError(f"{where}: features {values['features']!r} is no tensor's name")
        size = values["size"]
        if size is not None and not (
            isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) for side in size)
        ):
            raise DetectorError(f"{where}: size {size!r} is not two whole numbers")
        return cls(
            values["file"],
            values["sha256"],
            Layout.from_dict(values["layout"], f"{where}: layout"),
            check_names(values["names"], f"{where}: names"),
            tuple(values["ignore"]),
            check_size((size[0], size[1]), f"{where}: size") if size else None,
            values["features"],
        )


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hex. Raises DetectorError where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while data := stream.read(1 << 20):
                digest.update(data)
    except OSError as error:
        raise DetectorError(f"detector {path}: {error.strerror or error}") from None
    return digest.hexdigest()


def guess_layout(outputs: Sequence[Tensor], inputs: Sequence[Input], size: tuple[int, int]) -> Layout:
    """The layout that a file's tensors speak of, where they leave little doubt.

    Raises:
        DetectorError: several would fit, or none.
    """
    fitting = [layout.name for layout in fitting_layouts(outputs, size)]
    shapes = ", ".join(map(str, outputs))
    sides = outputs[0].shape if len(outputs) == 1 else ()
    picture = inputs[image_input(inputs)]
    if "yolox" in fitting and sides[1] > 0:
        return find_layout("yolox")
    if "ultralytics-end2end" in fitting and sides[1] <= 1000:
        return find_layout("ultralytics-end2end")
    if "nms" in fitting:
        if len(inputs) == 2:
            return find_layout("detr-labels")
        return find_layout("tensorflow" if is_nhwc(picture) else "nms")
    if "detr" in fitting:
        return find_layout("rf-detr" if {tensor.name for tensor in outputs} >= {"dets", "labels"} else "detr")
    if "yolov5" in fitting and sides[1] == 3 * grid_rows(size, find_layout("yolov5").strides):
        return find_layout("yolov5")
    if len(fitting) == 1:
        return find_layout(fitting[0])
    if not fitting:
        raise DetectorError(f"outputs {shapes}: no layout of the table fits; describe one in a YAML file")
    raise DetectorError(f"outputs {shapes}: {' or '.join(fitting)} would fit; say which by its layout's name")


@dataclass
class Detector:
    """A detector, loaded: `detect` may be called from several threads.

    leaf_of: for each of its classes the leaf, -1 for none.
    """

    spec: DetectorSpec
    path: Path
    leaves: int
    leaf_of: tuple[int, ...]
    engine: Any
    match: Match
    size: tuple[int, int]
    _place: int = field(default=0)

    @classmethod
    def open(
        cls,
        path: Path,
        leaves: Sequence[str],
        *,
        layout: Layout | None = None,
        names: Sequence[str] | None = None,
        ignore: Sequence[str] = (),
        size: tuple[int, int] | None = None,
        features: str | None = None,
        engine: str = "auto",
        threads: int = 0,
    ) -> Detector:
        """The detector in an ONNX file.

        leaves: names of the tree's leaves. layout: how to read it (None: as its tensors suggest). names: its classes in
        index order (None: the leaves). ignore: classes that are left out. The rest as `engines.open_engine` has it.

        Raises:
            DetectorError: the file, its tensors, the names or the engine do not fit; one line says which and why.
        """
        names = check_names(list(leaves if names is None else names))
        leaf_of = LeafIndex(tuple(leaves)).map(names, ignore)
        if size is not None:
            check_size(size, "size")
        default = layout.size if layout is not None else (640, 640)
        running = open_engine(path, engine, threads, size, default, features)
        place = image_input(running.inputs)
        picture = running.inputs[place]
        found_size = (picture.shape[2], picture.shape[1]) if is_nhwc(picture) else (picture.shape[3], picture.shape[2])
        for number, other in enumerate(running.inputs):
            if number != place and not _takes_size(other):
                raise DetectorError(
                    f"detector {path.name}: input `{other.name}` {','.join(map(str, other.shape))}: beside the picture "
                    "only its width and height go in, as two whole numbers; export the file without this input"
                )
        outputs = [tensor for tensor in running.outputs if tensor.name != features]
        try:
            if layout is None:
                layout = guess_layout(outputs, running.inputs, found_size)
            match = check(layout, outputs, found_size, len(names))
        except DetectorError as error:
            raise DetectorError(f"detector {path.name}: {error}") from None
        if layout.first_label == 1 and is_nothing(names[0]):
            layout = replace(layout, first_label=0)  # these names count from nothing, as the labels then do
        spec = DetectorSpec(str(path), file_hash(path), layout, tuple(names), tuple(ignore), size, features)
        return cls(spec, path, len(leaves), leaf_of, running, match, found_size, place)

    def detect(self, image: NDArray[np.uint8], least: float = LEAST) -> Found:
        """What it finds in a picture (H,W,3 uint8 RGB): boxes whose best class has a score of at least `least`.

        Raises:
            DetectorError: the file gives what no picture can have (numbers that are not finite, labels without names).
        """
        return self.read(self.run(image), (image.shape[1], image.shape[0]), least)

    def run(self, image: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """The file's output tensors for a picture: the detector's own pass, its input made from the picture."""
        values: list[NDArray[Any]] = []
        for number, item in enumerate(self.engine.inputs):
            if number == self._place:
                values.append(self._input(image, item))
            else:
                values.append(np.array([self.size], item.kind).reshape([max(1, side) for side in item.shape]))
        return dict(self.engine.run(values))

    def read(self, tensors: dict[str, NDArray[Any]], source: tuple[int, int], least: float = LEAST) -> Found:
        """What the output tensors say, for a picture of `source` (width, height) pixels."""
        layout = self.spec.layout
        classes = len(self.leaf_of)
        candidates = READERS[layout.decode].read(tensors, self.match, layout, self.size, least, classes)
        candidates = suppress(self._of_leaves(candidates, least), layout.nms, MOST_FOUND)
        features = self._features(tensors, candidates)
        scale, shift = self._placing(source)
        boxes = (candidates.boxes - np.tile(shift, 2)) / np.tile(scale, 2)
        boxes = np.clip(boxes, 0, [*source, *source]).astype(np.float32)
        inside = np.flatnonzero((boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf) >= 1.0)
        return Found(boxes[inside], candidates.scores[inside], features[inside])

    def _of_leaves(self, found: Candidates, least: float) -> Candidates:
        """The same with a column for each leaf, without rows of classes that are left out."""
        if self.leaf_of == tuple(range(self.leaves)):
            return found
        scores = np.zeros((len(found.scores), self.leaves), np.float32)
        used = [number for number, leaf in enumerate(self.leaf_of) if leaf >= 0]
        scores[:, [self.leaf_of[number] for number in used]] = found.scores[:, used]
        kept = np.flatnonzero(scores.max(axis=1) >= least) if len(scores) else np.zeros(0, np.intp)
        return Candidates(found.boxes[kept], scores[kept], found.rows[kept])

    def _placing(self, source: tuple[int, int]) -> tuple[Floats, Floats]:
        """Input pixels per source pixel, and where the picture's corner lies, both x and y."""
        width, height = self.size
        layout = self.spec.layout
        if layout.resize == "stretch":
            return np.array([width / source[0], height / source[1]], np.float32), np.zeros(2, np.float32)
        scale = min(width / source[0], height / source[1])
        shift = np.zeros(2, np.float32)
        if layout.resize == "letterbox-centre":
            used = _used(source, scale)
            shift = np.array([(width - used[0]) // 2, (height - used[1]) // 2], np.float32)
        return np.full(2, scale, np.float32), shift

    def _input(self, image: NDArray[np.uint8], item: Input) -> NDArray[Any]:
        """The picture as the file's input tensor."""
        layout, (width, height) = self.spec.layout, self.size
        if layout.resize == "stretch":
            placed = cv2.resize(image, self.size, interpolation=cv2.INTER_LINEAR)
        else:
            source = (image.shape[1], image.shape[0])
            scale, shift = self._placing(source)
            used = _used(source, float(scale[0]))
            placed = np.full((height, width, 3), layout.padding, np.uint8)
            left, top = int(shift[0]), int(shift[1])
            placed[top : top + used[1], left : left + used[0]] = cv2.resize(
                image, used, interpolation=cv2.INTER_LINEAR
            )[: height - top, : width - left]
        if layout.channels == "bgr":
            placed = placed[..., ::-1]
        if item.kind == np.uint8:
            return np.ascontiguousarray(placed[None] if is_nhwc(item) else placed.transpose(2, 0, 1)[None])
        if is_nhwc(item):
            made = (placed.astype(np.float32) - np.array(layout.mean, np.float32)) / np.array(
                layout.deviation, np.float32
            )
            return np.ascontiguousarray(made[None], item.kind)
        planes = cv2.split(np.ascontiguousarray(placed))
        made = np.empty((1, 3, height, width), np.float32)
        for plane, target, mean, deviation in zip(planes, made[0], layout.mean, layout.deviation, strict=True):
            np.multiply(plane, np.float32(1.0 / deviation), out=target)
            if mean:
                target -= np.float32(mean / deviation)
        return np.asarray(made, item.kind)

    def _features(self, tensors: dict[str, NDArray[Any]], found: Candidates) -> Floats:
        """The feature tensor's values of each box: its row's, or a map's, pooled in the box."""
        name = self.spec.features
        if name is None:
            return np.zeros((len(found.boxes), 0), np.float32)
        values = np.asarray(tensors[name], np.float32)
        if not np.isfinite(values).all():
            raise DetectorError(f"features `{name}`: values that are no finite numbers")
        if values.ndim == 3 and values.shape[0] == 1 and (found.rows >= 0).all():
            if len(found.rows) and int(found.rows.max()) >= values.shape[1]:
                raise DetectorError(f"features `{name}`: {values.shape[1]} rows, fewer than the detector's own")
            return values[0, found.rows]
        if values.ndim == 4 and values.shape[0] == 1:
            return _pool(values[0], found.boxes, self.size)
        words = ",".join(map(str, values.shape))
        if values.ndim == 3:
            raise DetectorError(
                f"features `{name}`: rows {words}, but layout {self.spec.layout.name} does not say which row a box "
                "came from; a map 1,F,h,w is wanted"
            )
        raise DetectorError(f"features `{name}`: shape {words}; a map 1,F,h,w or rows 1,N,F are wanted")


def _takes_size(item: Input) -> bool:
    """Whether an input beside the picture may be its width and height."""
    return np.issubdtype(item.kind, np.integer) and math.prod(max(1, side) for side in item.shape) == 2


def _used(source: tuple[int, int], scale: float) -> tuple[int, int]:
    """Pixels of the input that a scaled picture covers."""
    return max(1, int(source[0] * scale)), max(1, int(source[1] * scale))


def _pool(values: Floats, boxes: Floats, size: tuple[int, int]) -> Floats:
    """Means n,F of a map F,h,w over boxes (corners in pixels of the input), by bilinear samples."""
    depth, rows, columns = values.shape
    if not len(boxes):
        return np.zeros((0, depth), np.float32)
    shares = (np.arange(POOLED) + 0.5) / POOLED
    x = boxes[:, 0:1] + (boxes[:, 2:3] - boxes[:, 0:1]) * shares
    y = boxes[:, 1:2] + (boxes[:, 3:4] - boxes[:, 1:2]) * shares
    x = np.clip(x * columns / size[0] - 0.5, 0, columns - 1)
    y = np.clip(y * rows / size[1] - 0.5, 0, rows - 1)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, below = np.minimum(left + 1, columns - 1), np.minimum(top + 1, rows - 1)
    across, down = (x - left)[:, None, :], (y - top)[:, :, None]

    def at(row: NDArray[Any], column: NDArray[Any]) -> Floats:
        return values[:, row[:, :, None], column[:, None, :]]

    upper = at(top, left) * (1 - across) + at(top, right) * across
    lower = at(below, left) * (1 - across) + at(below, right) * across
    return np.ascontiguousarray((upper * (1 - down) + lower * down).mean(axis=(2, 3)).T, np.float32)
