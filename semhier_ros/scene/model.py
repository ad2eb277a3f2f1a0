"""Scenes: objects with boxes, named level by level, then the picture that they stand in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.canvas import Canvas, size_problem
from semhier_ros.codec.graphs import PictureParts, synthesise_timed
from semhier_ros.codec.model import (
    Delta,
    Detected,
    EncodeOptions,
    PictureFlow,
    PictureRequest,
    PicturesFound,
    PictureWork,
    ReadingRequest,
    Spent,
    WithMotion,
)
from semhier_ros.codec.model_folder import derived_hash
from semhier_ros.codec.picture_blocks import PATCH_SIDE
from semhier_ros.codec.reading import Detection
from semhier_ros.native import kernels
from semhier_ros.scene.backend import Backend
from semhier_ros.scene.budget import Motion, importance, pare
from semhier_ros.scene.detectors.layouts import DetectorError
from semhier_ros.scene.detectors.names import LeafIndex
from semhier_ros.scene.detectors.runtime import Detector
from semhier_ros.scene.finders import DetectorFinder, Finder, OwnFinder
from semhier_ros.scene.folder import SceneFolder
from semhier_ros.scene.layout import SceneCode, restore_boxes
from semhier_ros.scene.memory import DeltaCodec
from semhier_ros.scene.motion import MotionEstimator
from semhier_ros.scene.objects import Objects, code_objects, code_picture
from semhier_ros.scene.reader import SceneReader, meaning_map
from semhier_ros.scene.remembering import OVERLAP, ReceiverMemory, SenderMemory, standing_alone
from semhier_ros.scene.steering import read_motion, write_motion

FOOT_BITS = "foot bits 1"
"""What a model's hashes are joined with for its stream with foot bits."""


def _sides(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Roots of the areas of boxes n,4 (corners), at least a pixel."""
    return np.sqrt(np.maximum(boxes[:, 2:] - boxes[:, :2], 1.0).prod(axis=1))


class SceneModel:
    """`codec.model.Model` of scenes. finder: where a picture's objects come from.

    open_detector: opens a detector that is not ours, when it is first needed (None: there is none).
    """

    whole_image = False
    finder: Finder

    def __init__(self, folder: SceneFolder, backend: Backend, open_detector: Callable[[], Detector] | None = None):
        self.folder, self.backend, self.stream = folder, backend, folder.stream
        self.name, self.path = folder.name, folder.path
        self.stream_hash, self.model_hash = folder.stream_hash, folder.model_hash
        self.block_names = self.stream.block_names
        self.semantic_blocks = self.stream.semantic_blocks
        self.levels = self.stream.levels
        self.taxonomy = folder.taxonomy
        self.view_size = folder.canvas
        self.reader = SceneReader(self.stream, self.taxonomy, folder.heads)
        self.paints = bool(self.stream.layout.picture_groups)
        if folder.own_detector:
            layout = self.stream.layout
            self.finder = OwnFinder(
                lambda canvas, any_size=False: self.backend.detect(canvas, any_size),
                folder.canvas,
                layout,
                folder.looks,
                folder.agreement,
                folder.certainty,
            )
        else:
            features = len(folder.projection.feature_mean)
            self.finder = DetectorFinder(
                open_detector or self._no_detector, folder.canvas, self.stream.layout, features
            )

    @property
    def foot_bits(self) -> bool:
        """Whether block 0 has foot bits."""
        return self.stream.foot_bits

    def with_foot_bits(self) -> SceneModel:
        """The same model with the stream that has foot bits, under a stream hash of its own; networks are shared."""
        if self.foot_bits:
            return self
        finer = copy(self)
        finer.__dict__.pop("deltas", None)
        finer.stream = self.stream.with_foot_bits()
        finer.stream_hash = derived_hash(self.stream_hash, FOOT_BITS)
        finer.model_hash = derived_hash(self.model_hash, FOOT_BITS)
        finer.reader = SceneReader(finer.stream, self.taxonomy, self.folder.heads)
        return finer

    def prepare_looks(self) -> None:
        self.finder.prepare()

    def _no_detector(self) -> Detector:
        raise DetectorError(
            f"detector: model {self.name} has none; bring one, as in Codec.load({self.name!r}, detector='yolox_s.onnx')"
        )

    def detected(
        self,
        size: tuple[int, int],
        boxes: NDArray[np.floating],
        classes: Sequence[str | int],
        scores: Sequence[float] | NDArray[np.floating],
    ) -> tuple[Detected, tuple[str, ...]]:
        """What a detector outside found in a picture of `size` (width, height), and the classes that the tree lacks.

        boxes n,4: corners in pixels. classes n: names of leaves, or numbers in the order of the names of the model's
        detector (else of the leaves). scores n: 0..1. Boxes of classes that the tree lacks, or whose numbers are not
        finite, are left out.

        Raises:
            DetectorError: the model finds objects itself. ValueError: the arguments are not of one length, or the size
            is none.
        """
        if not isinstance(self.finder, DetectorFinder):
            raise DetectorError(f"detected: model {self.name} finds objects by itself; take an adopted one, or coco80")
        corners, values = np.asarray(boxes, np.float32), np.asarray(scores, np.float32)
        if corners.size == 0:
            corners = corners.reshape(0, 4)
        if corners.shape != (len(classes), 4) or values.shape != (len(classes),):
            raise ValueError(
                f"detected: boxes {corners.shape} and scores {values.shape} of {len(classes)} classes; boxes n,4 and "
                "scores n wanted"
            )
        if wrong := size_problem(*size):
            raise ValueError(f"detected: size {wrong}")
        leaves = tuple(self.taxonomy.names(self.levels - 1))
        spec = self.folder.detector
        index = LeafIndex(leaves, spec.names if spec is not None else leaves)
        found = [index.find(str(word)) for word in classes]
        lacking = tuple(dict.fromkeys(str(w) for w, leaf in zip(classes, found, strict=True) if leaf is None))
        kept = [
            number
            for number, leaf in enumerate(found)
            if leaf is not None and np.isfinite(corners[number]).all() and np.isfinite(values[number])
        ]
        table = np.zeros((len(kept), len(leaves)), np.float32)
        for row, number in enumerate(kept):
            table[row, found[number]] = np.clip(values[number], 0.0, 1.0)  # type: ignore[index]
        return Detected((int(size[0]), int(size[1])), corners[kept], table), lacking

    def motion(self) -> Motion:
        return Motion()

    def flow(self) -> MotionEstimator:
        return MotionEstimator()

    def velocities(self, code: SceneCode, motion: bytes, size: tuple[int, int]) -> NDArray[np.float64]:
        boxes = self._boxes(code, size)
        moved = read_motion(motion, _sides(boxes), size)
        return moved.camera.at((boxes[:, :2] + boxes[:, 2:]) / 2, size) + moved.own

    def _boxes(self, code: SceneCode, size: tuple[int, int]) -> NDArray[np.float64]:
        """Boxes n,4 (corners in pixels of a picture of `size`) as block 0 says them."""
        boxes = restore_boxes(self.stream.layout, code.cells, code.sizes, code.offsets)
        corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
        placed = self._canvas(size).to_source((corners * self.stream.layout.stride).astype(np.float32))
        return np.asarray(placed, np.float64).reshape(-1, 4)

    @cached_property
    def deltas(self) -> DeltaCodec:
        """What codes frames that refer to earlier ones."""
        return DeltaCodec(self.stream)

    def sender_memory(
        self, overlap: float | None = None, whole_every: float | None = None, radio: bool = False
    ) -> SenderMemory:
        usual = self.folder.memory_overlap or OVERLAP
        return SenderMemory(self.deltas, overlap or 0.0, whole_every or 0.0, radio=radio, usual=usual)

    def receiver_memory(self) -> ReceiverMemory:
        return ReceiverMemory(self.deltas)

    def check(self, options: EncodeOptions) -> None:
        if options.threshold is not None and not 0 < options.threshold < 1:
            raise ValueError(f"threshold: {options.threshold} is outside 0..1")
        if options.quality is not None:
            raise ValueError(f"quality: {options.quality}, but model {self.name} has one operating point")
        if options.detected is not None:
            if not isinstance(self.finder, DetectorFinder):
                raise ValueError(f"detected: model {self.name} finds objects by itself")
            rows, leaves = len(options.detected.boxes), len(self.taxonomy.levels[-1])
            if options.detected.boxes.shape != (rows, 4) or options.detected.scores.shape != (rows, leaves):
                raise ValueError(f"detected: boxes n,4 and scores n,{leaves} wanted")

    def encode(self, image: NDArray[np.uint8] | None, blocks: int, options: EncodeOptions) -> Iterator[bytes]:
        objects = self.find(image, options.threshold, options.detected)
        moved = options.motion.update(objects.boxes) if options.motion is not None else None
        if image is None:
            blocks = min(blocks, self.semantic_blocks)
        memory = options.memory
        assert memory is None or isinstance(memory, SenderMemory)
        yield from self.encode_objects(
            objects, blocks, options.max_bytes, moved, lambda: self.analyse(image), options.flow, memory
        )

    def alone(self, memory: object, frame: int) -> list[bytes]:
        assert isinstance(memory, SenderMemory)
        told = memory.code(frame)
        if told is None:
            return []
        code = standing_alone(self.stream, told)
        return [self.stream.encode(index, code) for index in range(self.semantic_blocks)]

    def find(
        self, image: NDArray[np.uint8] | None, threshold: float | None = None, detected: Detected | None = None
    ) -> Objects:
        """The objects of a picture (H,W,3 uint8 RGB) that are worth sending.

        detected: what was found in it already, so that no detector runs and the picture may be None.
        """
        least = self.folder.threshold if threshold is None else threshold
        if detected is not None and isinstance(self.finder, DetectorFinder):
            size, seen = detected.size, self.finder.told(detected)
        elif image is not None:
            size, seen = (image.shape[1], image.shape[0]), self.finder.look(image)
        else:
            raise ValueError("image: none, and nothing was detected in it either")
        return self.finder.objects(seen, size, least, self.stream.layout.max_objects)

    def analyse(self, image: NDArray[np.uint8] | None) -> NDArray[np.float32]:
        """The picture latents of a picture (H,W,3 uint8 RGB)."""
        if image is None:
            raise ValueError("image: none, and picture blocks are made of one")
        return self.backend.analyse(self._picture_canvas((image.shape[1], image.shape[0])).place(image))

    def encode_objects(
        self,
        objects: Objects,
        blocks: int,
        max_bytes: int | None,
        moved: NDArray[np.float64] | None,
        latents: Callable[[], NDArray[np.float32]],
        flow: PictureFlow | None = None,
        memory: SenderMemory | None = None,
    ) -> Iterator[bytes]:
        """The first `blocks` blocks of a scene with these objects, each made when it is asked for.

        max_bytes: as in EncodeOptions. moved: how much each object moved (`Motion.update`), None: not at all. latents:
        gives the picture's latents (`analyse`), called when the first picture block is asked for. flow: how they move;
        block 0 is then `WithMotion`, and its motion part is within `max_bytes` too where that leaves room for it. A
        delta has no motion part. memory: as in EncodeOptions.
        """
        worth = importance(self.stream.layout, objects, moved)
        if memory is not None and (delta := memory.delta(objects, worth, max_bytes)) is not None:
            number = memory.frame  # who asks for its picture may do so when others have followed
            yield Delta(delta)
            told = memory.code(number) if blocks > self.semantic_blocks else None
            if told is not None:
                yield from self._picture_blocks(told, blocks, latents)
            return
        code = code_objects(self.stream, self.folder.projection, objects, blocks)
        if max_bytes is not None:
            room = max_bytes if flow is None else max(1, max_bytes - len(self.motion_part(code, flow)))
            code = pare(self.stream, code, worth, room)
        if memory is not None:
            memory.whole(code)
        for index in range(min(blocks, self.semantic_blocks)):
            if len(code) and index and not code.refined(index).any():
                return
            data = self.stream.encode(index, code)
            if index == 0 and flow is not None and (motion := self.motion_part(code, flow)):
                data = WithMotion(data)
                data.motion = motion
            yield data
        yield from self._picture_blocks(code, blocks, latents)

    def _picture_blocks(
        self, code: SceneCode, blocks: int, latents: Callable[[], NDArray[np.float32]]
    ) -> Iterator[bytes]:
        """The picture blocks below index `blocks`."""
        if blocks <= self.semantic_blocks:
            return
        picture = latents()
        for index in range(self.semantic_blocks, blocks):
            code_picture(self.stream, picture, code, index - self.semantic_blocks + 1)
            yield self.stream.encode(index, code)

    def motion_part(self, code: SceneCode, flow: PictureFlow) -> bytes:
        """What is known of how the objects of a code and the camera move, as a motion part; empty for nothing."""
        size = flow.size
        if size is None:
            return b""
        boxes = self._boxes(code, size)
        moved = flow.measure(boxes)
        return b"" if moved is None else write_motion(moved, _sides(boxes))

    def decode(self, index: int, data: bytes, code: SceneCode | None) -> SceneCode:
        return self.stream.decode(index, data, code)

    def read(self, code: SceneCode, prefix: int, size: tuple[int, int]) -> tuple[Detection, ...]:
        return self.reader.read(code, prefix, self._canvas(size))

    def read_many(self, requests: Sequence[ReadingRequest]) -> list[tuple[Detection, ...]]:
        return self.reader.read_many([(code, prefix, self._canvas(size)) for code, prefix, size in requests])

    def picture(self, code: SceneCode, prefix: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        return self.pictures([PictureRequest(code, prefix, size)])[0]

    def decode_pictures(self, works: Sequence[PictureWork], spent: Spent) -> list[PicturesFound]:
        shape, arithmetic = self.stream.picture_shape(), self.backend.arithmetic
        return self.stream.pictures.decode_together(works, self.semantic_blocks, shape, arithmetic, spent)

    def pictures(self, requests: Sequence[PictureRequest], spent: Spent | None = None) -> list[NDArray[np.uint8]]:
        parts = [self._picture_parts(code, prefix) for code, prefix, _ in requests]
        lifts = [self._picture_canvas(size).lift for _, _, size in requests]
        return synthesise_timed(self.backend, parts, lifts, spent)

    @property
    def batches(self) -> bool:
        """Whether pictures made together cost less than one after another."""
        return self.backend.batches

    def _picture_parts(self, code: SceneCode, prefix: int) -> PictureParts:
        layout = self.stream.layout
        shape = self.stream.picture_shape()
        boxes = self.reader.measure(code, prefix).boxes
        groups = code.path[1] if len(code.path) > 1 else None
        planes = 1 + len(layout.parents[0])
        if self.folder.picture_planes is not None:  # a synthesis that was taught other groups
            groups, planes = None, self.folder.picture_planes
        mapped = meaning_map if kernels is None else kernels.meaning_map
        meaning = mapped(boxes * np.float32(layout.stride), groups, shape, planes, layout.picture_stride)
        return *self.stream.pictures.synthesis_inputs(code.picture, shape, self.backend.arithmetic), meaning

    def _canvas(self, size: tuple[int, int]) -> Canvas:
        """What the detector sees a picture on."""
        return Canvas(*self.view_size, source=size)

    def _picture_canvas(self, size: tuple[int, int]) -> Canvas:
        """What picture blocks are made from and painted on, which may be smaller."""
        rows, columns = self.stream.picture_shape()
        return Canvas(columns * PATCH_SIDE, rows * PATCH_SIDE, source=size)
