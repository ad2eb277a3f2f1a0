"""Objects that a detector outside has found, as the source of a camera's sending end. No ROS.

A `Sighting` is what such a detector says of one picture; `DetectionMaker` makes blocks of it, without a network of
ours. Where a model has picture blocks, the picture is looked for among the last ones by its stamp (`PicturesByStamp`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from semhier_ros.camera.encoder_end import Opened, with_memory
from semhier_ros.codec.model import Detected, Motion, SenderMemory
from semhier_ros.codec.packet import Block

KEPT_PICTURES = 8
"""Pictures that wait for their detections; a slower detector than that gets its frames sent without pictures."""
MOST_BOXES = 500
"""Boxes of one frame that are looked at, the surest; a wrong message must not cost the robot its time."""


@dataclass(frozen=True)
class Sighting:
    """What was found in one picture. size: width and height of the picture, None where only the picture itself tells.
    boxes n,4: corners x0, y0, x1, y1 in its pixels. classes n: names or numbers. scores n: 0..1. A box of which several
    classes are thought stands once for each."""

    size: tuple[int, int] | None
    boxes: NDArray[np.float32]
    classes: tuple[str, ...]
    scores: NDArray[np.float32]


class DetectionModel(Protocol):
    """The part of a scene model that knows the classes of its tree."""

    def detected(
        self, size: tuple[int, int], boxes: NDArray[np.floating], classes: Sequence[str | int], scores: Any
    ) -> tuple[Detected, tuple[str, ...]]: ...


class DetectionCodec(Protocol):
    """The part of a `Codec` that makes blocks of what was found."""

    @property
    def model(self) -> Any: ...
    @property
    def name(self) -> str: ...
    @property
    def stream_hash(self) -> str: ...
    @property
    def model_hash(self) -> str: ...
    @property
    def block_names(self) -> Sequence[str]: ...
    @property
    def semantic_blocks(self) -> int: ...
    @property
    def levels(self) -> int: ...
    def motion(self) -> Motion | None: ...
    def encode_stepwise(
        self,
        image_rgb: NDArray[np.uint8] | None,
        *,
        frame: int,
        max_bytes: int | None,
        motion: Motion | None,
        detected: Detected | None,
        stamp_ns: int = ...,
        memory: SenderMemory | None = ...,
        beyond: bool = ...,
    ) -> Iterator[Block]: ...


class PicturesByStamp:
    """The newest pictures of a camera, each until its detections come. Safe to use from several threads."""

    def __init__(self, most: int = KEPT_PICTURES) -> None:
        self._most = most
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, stamp_ns: int, source: Any) -> None:
        """Keeps a picture (whatever the maker's `to_rgb` understands); the oldest goes for it."""
        with self._lock:
            self._kept[stamp_ns] = source
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def take(self, stamp_ns: int) -> Any:
        """The picture of that stamp, or None; it and all older ones are let go."""
        with self._lock:
            found = self._kept.get(stamp_ns)
            if found is not None:
                for stamp in [stamp for stamp in self._kept if stamp <= stamp_ns]:
                    del self._kept[stamp]
            return found


class DetectionMaker:
    """`encoder_end.BlocksMaker` of sightings.

    pictures: where the pictures wait (None: none are wanted); to_rgb: gives H,W,3 uint8 RGB of one. report(kind, text):
    hears of what was left out, to be counted under its kind: unknown_classes, boxes_left_out,
    detections_without_picture, pictures_of_another_size. memory: as of `PictureMaker`.

    Raises:
        ValueError: the codec's model finds objects by itself.
    """

    def __init__(
        self,
        codec: DetectionCodec,
        report: Callable[[str, str], None],
        pictures: PicturesByStamp | None = None,
        to_rgb: Callable[[Any], NDArray[np.uint8]] = lambda picture: picture,
        memory: SenderMemory | None = None,
    ) -> None:
        self.memory = memory
        if not hasattr(codec.model, "detected"):
            raise ValueError(f"detected: model {codec.name} has no objects")
        self._model: DetectionModel = codec.model
        self._model.detected((64, 64), np.zeros((0, 4), np.float32), [], [])
        self._codec, self._motion, self._report = codec, codec.motion(), report
        self._pictures, self._to_rgb = pictures, to_rgb
        self.name, self.stream_hash, self.model_hash = codec.name, codec.stream_hash, codec.model_hash
        self.block_names, self.semantic_blocks = tuple(codec.block_names), codec.semantic_blocks
        self.levels = codec.levels

    def open(self, source: Sighting, frame: int, stamp_ns: int, max_bytes: int | None) -> Opened:
        """Begins a frame of what was found. Raises ValueError where nobody says how large the picture is."""
        rgb = self._picture_of(source, stamp_ns)
        size = source.size if source.size is not None else (rgb.shape[1], rgb.shape[0]) if rgb is not None else None
        if size is None:
            raise ValueError(
                "detections: the picture's size is not known; publish camera_info, or set detections.width"
            )
        boxes, classes, scores = source.boxes, source.classes, source.scores
        if len(classes) > MOST_BOXES:
            self._report("boxes_left_out", f"{len(classes)} boxes in one frame: the surest {MOST_BOXES} are looked at")
            kept = np.sort(np.argsort(-np.nan_to_num(scores, nan=-1.0), kind="stable")[:MOST_BOXES])
            boxes, classes, scores = boxes[kept], tuple(classes[row] for row in kept), scores[kept]
        detected, lacking = self._model.detected(size, boxes, classes, scores)
        for word in lacking:
            self._report("unknown_classes", f"class {word!r} of the detections is no leaf of model {self.name}'s tree")
        steps = self._codec.encode_stepwise(
            rgb,
            frame=frame,
            max_bytes=max_bytes,
            motion=self._motion,
            detected=detected,
            beyond=True,
            **with_memory(self.memory, stamp_ns),
        )
        return Opened(size, steps)

    def _picture_of(self, source: Sighting, stamp_ns: int) -> NDArray[np.uint8] | None:
        """The picture of that stamp, where pictures are wanted, it came, and it is as large as said."""
        if self._pictures is None:
            return None
        found = self._pictures.take(stamp_ns)
        if found is None:
            self._report("detections_without_picture", "no picture has the detections' stamp; their frame has none")
            return None
        rgb = self._to_rgb(found)
        if source.size is not None and (rgb.shape[1], rgb.shape[0]) != source.size:
            width, height = source.size
            self._report(
                "pictures_of_another_size",
                f"detections are of {width}x{height} pixels, their picture has {rgb.shape[1]}x{rgb.shape[0]}: left out",
            )
            return None
        return rgb
