"""`Codec`: a model ready to encode, and `Decoder`: what blocks of one camera become.

codec = Codec.load("road")
blocks = codec.encode(image_rgb)
decoder = codec.decoder(image_size=(width, height))
for block in blocks:
    reading = decoder.push(block)
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.canvas import check_picture, size_problem
from semhier_ros.codec.model import (
    Delta,
    Detected,
    EncodeChanges,
    EncodeOptions,
    Flow,
    Model,
    Motion,
    PictureRequest,
    PicturesFound,
    PictureWork,
    ReadingRequest,
    ReceiverMemory,
    SenderMemory,
    Spent,
)
from semhier_ros.codec.packet import Block, PacketError, UnknownReference, delta_tag
from semhier_ros.codec.reading import Detection, Reading, Scene
from semhier_ros.loading import load_model, resolve_device
from semhier_ros.paths import find_model
from semhier_ros.scene.living import LivingScene

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from semhier_ros.scene.detectors.choice import DetectorChoice

FRAMES = 1 << 16  # frame numbers wrap
RESTART = 256  # a frame this far behind the newest means that the sender began anew


FOOT_SUFFIX = "+foot"
"""Behind a model's name: its stream with foot bits."""


class Codec:
    """A model, ready to encode pictures and to make decoders. Safe to share between threads."""

    def __init__(self, model: Model[Any], device: str = "cpu", threads: int = 0, choice: DetectorChoice | None = None):
        self.model, self.device, self._threads, self._choice = model, device, threads, choice
        self.name, self.stream_hash, self.model_hash = model.name, model.stream_hash, model.model_hash
        self.stream_tag = int(model.stream_hash[:4], 16)
        self.block_names = model.block_names
        self.semantic_blocks = model.semantic_blocks
        self.levels = model.levels
        self.taxonomy = model.taxonomy
        self.whole_image = model.whole_image

    @classmethod
    def load(
        cls,
        model: str | Path,
        device: str = "auto",
        *,
        threads: int = 0,
        precision: str = "auto",
        detector: str | Path | None = None,
        detector_layout: str | None = None,
        detector_names: str | Path | Sequence[str] | None = None,
        detector_size: tuple[int, int] | None = None,
        detector_engine: str = "auto",
        detector_looks: Sequence[str] | None = None,
        foot_bits: bool = False,
    ) -> Codec:
        """Load a model by name (`street`, `road`, `coco80`, `imagenet`) or by the path of its folder.

        device: `cpu` (OpenVINO), `cuda` (torch, half precision), `torch` (torch on the CPU: for comparing the two
        paths) or `auto` (cuda where torch and a GPU are there, else cpu). threads: CPU threads of the networks, 0 for
        the runtime's own choice. precision: of the networks, `f32`, `bf16` or `auto` (on CUDA float16; on a CPU
        bfloat16 where it has that and accuracy does not suffer: `codec.graphs.COARSE_GRAPHS`).

        For models whose detector is not ours (docs/adopt.md): detector: an ONNX file to use instead of the model's.
        detector_layout: how it is read, a name of `scene.detectors.layouts.LAYOUTS` or a YAML file (None: as the model
        has it, or as its tensors suggest). detector_names: its classes: `coco80`, `coco91`, a text file or the names
        themselves (None: as the model has them). detector_size: width and height of its input. detector_engine: `auto`,
        `openvino`, `onnxruntime`, `cuda` or `tensorrt`.

        detector_looks: at which sizes a detector of our own design sees pictures, as `scene.finders.Look.read` takes
        them (None: as the model says): `["800x480"]` costs less than the two looks of `street`, and finds less.

        foot_bits: whether block 0 says where objects stand by two bits more (`with_foot_bits`); `road+foot` as a name
        asks for them too.

        Raises:
            ModelError: the folder is missing or not whole. ValueError: an argument outside its range, or a detector
            that does not fit (`DetectorError`).
        """
        choice = None
        if detector_engine != "auto" or any(
            given is not None for given in (detector, detector_layout, detector_names, detector_size, detector_looks)
        ):
            from semhier_ros.scene.detectors.choice import DetectorChoice

            choice = DetectorChoice.of(
                detector, detector_layout, detector_names, detector_size, detector_engine, detector_looks
            )
        device = resolve_device(device)
        if isinstance(model, str) and model.endswith(FOOT_SUFFIX):
            model, foot_bits = model.removesuffix(FOOT_SUFFIX), True
        loaded = load_model(find_model(model), device, threads, precision, choice)
        if not loaded.batches:
            device = "cpu"  # of adopted models OpenVINO makes the pictures; the detector alone may run elsewhere
        codec = cls(loaded, device, threads, choice)
        return codec.with_foot_bits() if foot_bits else codec

    def encode(
        self,
        image_rgb: NDArray[np.uint8] | None,
        options: EncodeOptions | None = None,
        *,
        frame: int = 0,
        stamp_ns: int = 0,
        **changes: Unpack[EncodeChanges],
    ) -> list[Block]:
        """The blocks of one picture (H,W,3 uint8 RGB), coarse first. Where `detected` says what is in it, the picture
        may be None: there are no picture blocks then.

        options: what is asked of the encoder (None: the model's usual). frame: its number, 0..65535. stamp_ns: when it
        was taken, where there is a memory. changes: single
        fields of the options, as in `encode(image, max_bytes=60)`.

        Raises:
            ValueError: an argument outside its range, named with the range.
        """
        return list(self.encode_stepwise(image_rgb, options, frame=frame, stamp_ns=stamp_ns, **changes))

    def encode_stepwise(
        self,
        image_rgb: NDArray[np.uint8] | None,
        options: EncodeOptions | None = None,
        *,
        frame: int = 0,
        stamp_ns: int = 0,
        **changes: Unpack[EncodeChanges],
    ) -> Iterator[Block]:
        """The same blocks as `encode`, each as soon as it is made: a sender that is behind can stop before the
        picture's networks run. Arguments and errors as there; errors come before the first block."""
        options = replace(options or EncodeOptions(), **changes)
        if image_rgb is None and options.detected is None:
            raise ValueError("image: none, and nothing was detected in it either")
        image = None if image_rgb is None else check_picture(image_rgb)
        if image is not None and options.detected is not None and options.detected.size != image.shape[1::-1]:
            width, height = options.detected.size
            raise ValueError(
                f"detected: in a picture of {width}x{height}, but this is {image.shape[1]}x{image.shape[0]}"
            )
        if not 0 <= frame < FRAMES:
            raise ValueError(f"frame: {frame} is outside 0..{FRAMES - 1}")
        count = len(self.block_names) if options.blocks is None else options.blocks
        if not 1 <= count <= len(self.block_names):
            raise ValueError(f"blocks: {count} is outside 1..{len(self.block_names)}")
        most = options.max_bytes
        if most is not None and most < 1:
            raise ValueError(f"max_bytes: {most} is below 1")
        self.model.check(options)
        if options.memory is not None:
            options.memory.begin(frame, stamp_ns)
        yield from self.bounded(self.model.encode(image, count, options), frame, most, options.beyond)

    def alone(self, memory: SenderMemory, frame: int) -> list[Block]:
        """Semantic blocks that refer to nothing and say what the delta of frame number `frame` did, for a receiver that
        keeps the frame no longer. memory: with which it was encoded. None where the frame was no delta, or is one of
        more than 64 frames ago. Boxes are as blocks say them, of two objects in a cell the surer one stays."""
        blocks = enumerate(self.model.alone(memory, frame))
        return [Block(self.stream_tag, frame, index, data) for index, data in blocks]

    def bounded(
        self, made: Iterator[bytes], frame: int, max_bytes: int | None, beyond: bool = False
    ) -> Iterator[Block]:
        """`made` (the bytes of blocks 0, 1, … of frame number `frame`) as Blocks, as far as `max_bytes` reaches; block
        0 always, and picture blocks where they may lie `beyond`. After a `Delta` come picture blocks."""
        total = index = 0
        while True:
            if index >= self.semantic_blocks:
                max_bytes = None if beyond else max_bytes
                if max_bytes is not None and index == self.semantic_blocks and total >= max_bytes:
                    return
            data = next(made, None)
            total += 0 if data is None else len(data) + len(getattr(data, "motion", b""))
            if data is None or (index and max_bytes is not None and total > max_bytes):
                return
            if isinstance(data, Delta):
                yield Block(delta_tag(self.stream_tag), frame, 0, bytes(data))
                index = self.semantic_blocks
            else:
                yield Block(self.stream_tag, frame, index, bytes(data), getattr(data, "motion", b""))
                index += 1

    def detected(
        self,
        size: tuple[int, int],
        boxes: NDArray[np.floating],
        classes: Sequence[str | int],
        scores: Sequence[float] | NDArray[np.floating],
    ) -> Detected:
        """What a detector of your own found in a picture of `size` (width, height), for `encode(image, detected=…)`.

        boxes n,4: corners x0, y0, x1, y1 in pixels. classes n: names of the model's leaves, or numbers in the order of
        its detector's classes. scores n: 0..1.

        Raises:
            ValueError: the model finds objects by itself, or its tree lacks a class.
        """
        made = getattr(self.model, "detected", None)
        if made is None:
            raise ValueError(f"detected: model {self.name} has no objects")
        found, lacking = made(size, boxes, classes, scores)
        if lacking:
            raise ValueError(f"detected: class {lacking[0]!r} is no leaf of model {self.name}'s tree")
        return found

    def motion(self) -> Motion | None:
        """A new memory of one camera's objects for `EncodeOptions.motion`; None for models without objects."""
        return self.model.motion()

    def flow(self) -> Flow | None:
        """A new measure of how one camera and its objects move, for `EncodeOptions.flow`; None for models without
        objects. Show it every picture of the camera: `flow.watch(image, stamp_ns)`, then
        `encode(image, flow=flow.of(stamp_ns))`."""
        return self.model.flow()

    def memory(
        self, overlap: float | None = None, whole_every: float | None = None, *, radio: bool = False
    ) -> SenderMemory:
        """A new memory of what one camera's receiver knows, for `EncodeOptions.memory` (docs/living.md).

        overlap: of the receiver's forecast, below which an object is told anew (0.3..0.95; None or 0: what the model
        says, else 0.75, as over a radio). whole_every: seconds between frames that stand alone (0.2..60; None or 0: 2,
        over a radio 12). radio: blocks go over compact frames (docs/radios.md), whose receivers know stamps to 8 ms and
        acknowledge in turns.

        Raises:
            ValueError: an argument outside its range, or a model that reads no objects.
        """
        made = self.model.sender_memory(overlap, whole_every, radio)
        if made is None:
            raise ValueError(f"memory: model {self.name} reads whole pictures, so there are no objects to remember")
        return made

    def decoder(
        self,
        image_size: tuple[int, int] | None = None,
        keep_frames: int = 8,
        *,
        follow: bool = False,
        memory: bool = False,
        pictures_later: bool = False,
    ) -> Decoder:
        """A decoder for one camera's stream.

        image_size: width and height of the source pictures, in whose pixels boxes are given (None: those of the
        model's own view). keep_frames: how many frames stay open for late blocks (1..256). follow: objects keep their
        ids and names from frame to frame, and `Decoder.scene` tells where they are now; `push` then wants stamps.
        memory: frames are remembered, so that a sender with a memory may refer to them; `push` then wants stamps.
        pictures_later: `push` leaves picture blocks as they came, for `picture_work` and `Codec.decode_pictures`, which
        decodes those of many frames and cameras together.

        Raises:
            ValueError: an argument outside its range, or `follow` or `memory` of a model that reads no objects.
        """
        if not 1 <= keep_frames <= 256:
            raise ValueError(f"keep_frames: {keep_frames} is outside 1..256")
        size = self.model.view_size if image_size is None else image_size
        if wrong := size_problem(*size):
            raise ValueError(f"image_size: {wrong}")
        if follow and self.whole_image:
            raise ValueError(f"follow: model {self.name} reads whole pictures, so there are no objects to follow")
        remembers = self.model.receiver_memory() if memory else None
        if memory and remembers is None:
            raise ValueError(f"memory: model {self.name} reads whole pictures, so there are no objects to remember")
        return Decoder(self, (int(size[0]), int(size[1])), keep_frames, follow, remembers, pictures_later)

    @property
    def foot_bits(self) -> bool:
        """Whether block 0 says of each object where its foot stands, by two bits more than it says of other sides."""
        return bool(getattr(self.model, "foot_bits", False))

    def with_foot_bits(self) -> Codec:
        """This model with foot bits (docs/bitstream.md): for ranges in metres. It shares all networks, and has a stream
        hash of its own: who does not know it refuses its blocks by a clear error.

        Raises:
            ValueError: the model reads whole pictures, which have no feet.
        """
        made = getattr(self.model, "with_foot_bits", None)
        if made is None:
            raise ValueError(f"foot_bits: model {self.name} reads whole pictures, so there are no objects that stand")
        return Codec(made(), self.device, self._threads, self._choice)

    def streams(self) -> dict[str, Codec]:
        """What this model can decode, by stream hash: its own stream and, of scenes, the other one with or without foot
        bits."""
        made = [self] if self.whole_image or self.foot_bits else [self, self.with_foot_bits()]
        return {codec.stream_hash: codec for codec in made}

    @property
    def batches(self) -> bool:
        """Whether the device makes several pictures at once for less than one after another."""
        return self.model.batches

    def decode_pictures(self, works: Sequence[PictureWork], spent: Spent | None = None) -> list[PicturesFound]:
        """The picture blocks of frames of several of this codec's decoders (their `picture_work`), decoded together;
        `Decoder.take_pictures` takes each. A damaged block stops its own frame alone. Adds to `spent`."""
        return self.model.decode_pictures(works, Spent() if spent is None else spent)

    def pictures(self, requests: Sequence[PictureRequest], spent: Spent | None = None) -> list[NDArray[np.uint8]]:
        """`Decoder.picture` of frames of several of this codec's decoders (their `picture_request`), made together
        where that saves time. Adds to `spent`."""
        return self.model.pictures(requests, spent)

    def prepare_encoding(self) -> None:
        """Encodes a picture of nothing, and looks in each way that a picture may ask for: networks are compiled at
        their first use, and an encoder wants that to be over before the first frame comes.

        Raises:
            DetectorError: the model's detector is not there, or does not fit.
        """
        self.model.prepare_looks()
        self.encode(np.zeros((64, 64, 3), np.uint8))

    def prepare_pictures(self) -> None:
        """Paints a picture of nothing, which nobody sees: networks are compiled at their first use, and whoever paints
        beside reading wants that to be over before the first frame comes."""
        if self.model.paints:
            self.pictures([PictureRequest(self.model.decode(0, b"", None), 0, self.model.view_size)])

    def readings(self, requests: Sequence[ReadingRequest]) -> list[tuple[Detection, ...]]:
        """Detections of frames of several of this codec's decoders (`Decoder.foresee`), made together."""
        return self.model.read_many(requests)

    def retreat(self) -> bool:
        """Goes on on the CPU, with all its decoders: after a device was lost or has no memory left. False where it is
        on the CPU already. Codes are whole numbers, so frames in the making go on as well.
        """
        if self.device == "cpu":
            return False
        model = load_model(self.model.path, "cpu", self._threads, "auto", self._choice)
        if self.foot_bits:
            model = model.with_foot_bits()  # type: ignore[attr-defined]
        self.model, self.device = model, "cpu"
        return True


@dataclass
class _Frame:
    """A frame in the making: its code so far, and blocks that wait for an earlier one."""

    code: Any = None
    prefix: int = -1
    payload_bytes: int = 0
    waiting: dict[int, bytes] = field(default_factory=dict)
    detections: tuple[Detection, ...] = ()
    stamp_ns: int | None = None
    motion: bytes = b""
    delta_bytes: int = 0
    """Of the frame's delta that came, read or waiting for what it refers to."""


@dataclass
class _Foreseen:
    """What block `index` of a frame whose code is `before` leads to, before it is taken: `code`, and its detections
    once they are made."""

    index: int
    data: bytes
    before: Any
    code: Any
    detections: tuple[Detection, ...] | None = None


class Decoder:
    """Turns the blocks of one camera's stream, in any order, into readings. Memory is bounded: a few frames, each with
    at most one copy of every block.

    counters: `blocks` decoded, `duplicate`, `late` (of a frame no longer kept), `damaged`, `damaged_motion` (a motion
    part that no encoder made: it is left out), `other_stream`, `unknown` (an index the model does not have); of deltas:
    `deltas` decoded, `unknown_reference` and `no_memory` (refused, for what they refer to is not remembered, or nothing
    is). Use from one thread.
    """

    def __init__(
        self,
        codec: Codec,
        size: tuple[int, int],
        keep_frames: int,
        follow: bool = False,
        memory: ReceiverMemory[Any] | None = None,
        pictures_later: bool = False,
    ):
        self._last = codec.semantic_blocks - 1 if pictures_later else len(codec.block_names) - 1
        self._codec, self._size, self._keep, self._memory = codec, size, keep_frames, memory
        self._delta_tag = delta_tag(codec.stream_tag)
        self._living = LivingScene.of(codec.taxonomy, size) if follow else None
        self._frames: OrderedDict[int, _Frame] = OrderedDict()
        self._newest: int | None = None
        self._foreseen: _Foreseen | None = None
        self._found_readable: list[_Foreseen] = []
        self.counters: Counter[str] = Counter()

    def foresee(self, block: Block, stamp_ns: int | None = None) -> ReadingRequest | None:
        """Decodes a block that will be pushed next, without taking it. What `Codec.readings` needs then, of many
        decoders at once, and what that gives goes to `foretold`; None where there is nothing to gain. `push` does the
        same with or without. stamp_ns: as of `push`."""
        self._foreseen = None
        frame = self._frames.get(block.frame) or _Frame()
        if block.stream == self._delta_tag:
            return self._foresee_delta(block, frame, stamp_ns)
        known = block.stream == self._codec.stream_tag and block.index < self._codec.semantic_blocks
        if not known or block.index != frame.prefix + 1 or block.index in frame.waiting:
            return None
        try:
            code = self._codec.model.decode(block.index, block.data, frame.code)
        except PacketError:
            return None  # `push` will say so
        self._foreseen = _Foreseen(block.index, block.data, frame.code, code)
        return ReadingRequest(code, block.index, self._size)

    def _foresee_delta(self, block: Block, frame: _Frame, stamp_ns: int | None) -> ReadingRequest | None:
        stamp_ns = frame.stamp_ns if stamp_ns is None else stamp_ns
        if self._memory is None or block.index or frame.prefix >= 0 or stamp_ns is None:
            return None
        code = self._memory.foresee(block.data, block.frame, stamp_ns)
        if code is None:
            return None  # `push` will say so
        self._foreseen = _Foreseen(-1, block.data, None, code)  # no block of an index, whatever its bytes
        return ReadingRequest(code, self._codec.semantic_blocks - 1, self._size)

    def foretold(self, detections: tuple[Detection, ...]) -> None:
        """Takes what the block last foreseen leads to."""
        if self._foreseen is not None:
            self._foreseen.detections = detections

    def readable(self, blocks: Sequence[Block]) -> bool:
        """Whether blocks of one packet (consecutive, of one frame), and what they say of motion, can be what an encoder
        made, as far as that is known before they are pushed. For packets that a check of 16 bits is all that vouches
        for: one wrong block makes all of them doubtful. Of deltas only `push` knows. What was decoded for it is not
        decoded again by the next `push` of these blocks."""
        state, self._found_readable = self._frames.get(blocks[0].frame) or _Frame(), []
        code, prefix, motion = state.code, state.prefix, blocks[0].motion
        try:
            for block in blocks:
                if block.stream != self._codec.stream_tag or not prefix < block.index <= self._last:
                    continue
                if block.index > prefix + 1:
                    break
                before, prefix = code, block.index
                code = self._decode(prefix, block.data, before)
                self._found_readable.append(_Foreseen(prefix, block.data, before, code))
            if motion and state.code is None:
                self._codec.model.velocities(code, motion, self._size)
        except PacketError:
            return False
        return True

    def push(self, block: Block, stamp_ns: int | None = None) -> Reading | None:
        """Take one block; the frame's reading from its last complete prefix, or None while block 0 is missing.

        A block of a frame that is no longer kept, or that came before, is counted and changes nothing. stamp_ns: when
        the frame was taken, where the decoder follows objects; one of the frame's blocks must say it, or its reading
        stands alone.

        Raises:
            PacketError: the block is of another stream, unknown to the model, or damaged. The decoder stays usable,
            and a good copy of the block is still welcome.
        """
        if block.stream == self._delta_tag:
            return self._push_delta(block, stamp_ns)
        if block.stream != self._codec.stream_tag:
            self.counters["other_stream"] += 1
            raise PacketError(f"block: stream tag {block.stream:04x}, this decoder reads {self._codec.stream_tag:04x}")
        if not 0 <= block.index < len(self._codec.block_names):
            self.counters["unknown"] += 1
            raise PacketError(f"block: index {block.index} is outside 0..{len(self._codec.block_names) - 1}")
        frame = self._open(block.frame)
        if frame is None:
            self.counters["late"] += 1
            return None
        if stamp_ns is not None:
            frame.stamp_ns = stamp_ns
        if block.index <= frame.prefix or block.index in frame.waiting:
            self.counters["duplicate"] += 1
            return self._reading(block.frame, frame, fresh=False)
        frame.waiting[block.index] = block.data
        frame.motion = frame.motion or block.motion
        before = frame.prefix
        try:
            self._advance(frame)
        finally:
            if frame.code is not None and frame.prefix > before and before < self._codec.semantic_blocks - 1:
                frame.detections = self._moving(frame, self._read(frame))
                if self._memory is not None and frame.stamp_ns is not None:
                    self._memory.whole(frame.code, frame.prefix, block.frame, frame.stamp_ns)
            self._foreseen = None
        return self._reading(block.frame, frame, fresh=frame.prefix > before)

    def _read(self, frame: _Frame) -> tuple[Detection, ...]:
        foreseen = self._foreseen
        if foreseen is not None and foreseen.code is frame.code and foreseen.detections is not None:
            return foreseen.detections
        return self._codec.model.read(frame.code, frame.prefix, self._size)

    def _moving(self, frame: _Frame, found: tuple[Detection, ...]) -> tuple[Detection, ...]:
        """Detections with the velocities that the frame's motion part says; one that is damaged says nothing."""
        if not frame.motion:
            return found
        try:
            told = self._codec.model.velocities(frame.code, frame.motion, self._size).tolist()
        except PacketError:
            self.counters["damaged_motion"] += 1
            frame.motion = b""
            return found
        return tuple(replace(item, velocity=(told[item.id][0], told[item.id][1])) for item in found)

    def _push_delta(self, block: Block, stamp_ns: int | None) -> Reading | None:
        """Take a frame's delta: it says what its semantic blocks could, and picture blocks may follow it."""
        if self._memory is None or block.index:
            self.counters["no_memory"] += 1
            raise PacketError("block: it refers to an earlier frame, but this decoder was made without memory")
        frame = self._open(block.frame)
        if frame is None:
            self.counters["late"] += 1
            return None
        if stamp_ns is not None:
            frame.stamp_ns = stamp_ns
        if frame.prefix >= 0:
            self.counters["duplicate"] += 1
            return self._reading(block.frame, frame, fresh=False)
        if frame.stamp_ns is None:
            self.counters["damaged"] += 1
            raise PacketError("block: it refers to an earlier frame, and nobody says when this one was taken")
        frame.delta_bytes = len(block.data)
        try:
            code = self._memory.delta(block.data, block.frame, frame.stamp_ns)
        except PacketError as error:
            self.counters["unknown_reference" if isinstance(error, UnknownReference) else "damaged"] += 1
            raise
        self._take_delta(frame, code)
        self._foreseen = None
        return self._reading(block.frame, frame, fresh=True)

    def _take_delta(self, frame: _Frame, code: Any) -> None:
        self.counters["deltas"] += 1
        frame.code, frame.prefix = code, self._codec.semantic_blocks - 1
        frame.payload_bytes = frame.delta_bytes
        frame.detections = self._read(frame)
        with suppress(PacketError):  # a picture block that came before may be damaged
            self._advance(frame)

    def caught_up(self) -> list[Reading]:
        """Readings of the frames whose deltas had waited for what the last pushed block brought, as they were read."""
        readings = []
        for number, code in () if self._memory is None else self._memory.caught_up:
            frame = self._frames.get(number)
            if frame is None or frame.prefix >= 0:
                continue
            self._take_delta(frame, code)
            reading = self._reading(number, frame, fresh=True)
            readings += [] if reading is None else [reading]
        return readings

    @property
    def acknowledgement(self) -> bytes | None:
        """What the next report to the sender says of this decoder's memory; None while it says nothing."""
        return None if self._memory is None else self._memory.acknowledgement

    @property
    def unread(self) -> bool:
        """Whether the newest delta could not be read, for what it refers to is not remembered: the sender should hear
        of that soon."""
        return self._memory is not None and self._memory.unread

    def picture(self, frame: int) -> NDArray[np.uint8] | None:
        """The picture (H,W,3 uint8 RGB, source size) of a kept frame from its last complete prefix; None before
        block 0 came, and from a model without pictures. From semantic blocks alone it shows what the model learned to
        paint from meaning, a blur at best."""
        state = self._frames.get(frame)
        if state is None or state.code is None or not self._codec.model.paints:
            return None
        return self._codec.model.picture(state.code, state.prefix, self._size)

    def picture_request(self, frame: int) -> PictureRequest | None:
        """What `Codec.pictures` needs to make the picture of a kept frame; None where `picture` gives None."""
        state = self._frames.get(frame)
        if state is None or state.code is None or not self._codec.model.paints:
            return None
        return PictureRequest(state.code, state.prefix, self._size)

    def picture_work(self, frame: int) -> PictureWork | None:
        """The picture blocks of a kept frame that came and are next; None where there are none. Of a decoder with
        `pictures_later`."""
        state = self._frames.get(frame)
        if state is None or state.code is None or state.prefix < self._codec.semantic_blocks - 1:
            return None
        data: list[bytes] = []
        while (own := state.waiting.get(state.prefix + 1 + len(data))) is not None:
            data.append(own)
        return PictureWork(state.code, state.prefix + 1, tuple(data)) if data else None

    def take_pictures(self, frame: int, work: PictureWork, found: PicturesFound) -> Reading | None:
        """Takes what `Codec.decode_pictures` made of a frame's work: the frame's reading, None where the frame is not
        kept any more or has gone on without it. Of a damaged block (`found.error`) a good copy is still welcome.
        """
        state = self._frames.get(frame)
        if state is None or state.code is not work.code:
            return None
        for index in range(work.first, work.first + found.blocks):
            state.payload_bytes += len(state.waiting.pop(index))
        state.code, state.prefix = found.code, work.first + found.blocks - 1
        self.counters["blocks"] += found.blocks
        if found.error is not None:
            del state.waiting[state.prefix + 1]
            self.counters["damaged"] += 1
        return self._reading(frame, state, fresh=found.blocks > 0)

    def _open(self, number: int) -> _Frame | None:
        """The state of frame `number`, a new one if it is newer than the oldest kept, None if it came too late."""
        state = self._frames.get(number)
        if state is not None:
            return state
        if self._newest is not None and (self._newest - number) % FRAMES > RESTART and not _newer(number, self._newest):
            self._frames.clear()
            self._newest = number
        elif self._newest is not None and not _newer(number, self._newest):
            if len(self._frames) >= self._keep and not _newer(number, min(self._frames, key=self._age)):
                return None
        else:
            self._newest = number
        state = self._frames[number] = _Frame()
        while len(self._frames) > self._keep:
            del self._frames[min(self._frames, key=self._age)]
        return state

    def _age(self, number: int) -> int:
        """Negative number of frames that `number` lies behind the newest."""
        assert self._newest is not None
        return -((self._newest - number) % FRAMES)

    def _advance(self, frame: _Frame) -> None:
        """Decode waiting blocks as far as the prefix is complete, or up to the pictures that are decoded later."""
        while frame.prefix < self._last and (data := frame.waiting.pop(frame.prefix + 1, None)) is not None:
            try:
                frame.code = self._decode(frame.prefix + 1, data, frame.code)
            except PacketError as error:
                self.counters["damaged"] += 1
                raise PacketError(f"block {frame.prefix + 1}: {error}") from error
            frame.prefix += 1
            frame.payload_bytes += len(data)
            self.counters["blocks"] += 1

    def _decode(self, index: int, data: bytes, before: Any) -> Any:
        known = self._found_readable if self._foreseen is None else [self._foreseen, *self._found_readable]
        for one in known:
            if one.index == index and one.data is data and one.before is before:
                return one.code
        return self._codec.model.decode(index, data, before)

    def _reading(self, number: int, frame: _Frame, fresh: bool) -> Reading | None:
        if frame.prefix < 0:
            return None
        level = min(frame.prefix, self._codec.levels - 1)
        reading = Reading(number, frame.prefix, level, frame.detections, frame.payload_bytes, fresh)
        if self._living is None or frame.stamp_ns is None:
            return reading
        return self._living.follow(frame.stamp_ns, reading)

    def scene(self, at: int) -> Scene:
        """The objects as they are at the instant `at` (ns, on the clock of the frames' stamps), foretold from all
        readings so far: boxes, velocities, how sure; empty before the first reading and when all is too old.

        Raises:
            ValueError: the decoder was not made with `follow`.
        """
        if self._living is None:
            raise ValueError("scene: this decoder follows no objects, make it with codec.decoder(follow=True)")
        return self._living.at(at)


def _newer(number: int, than: int) -> bool:
    """Whether frame `number` comes after frame `than`, wrapping at 65,536."""
    return 0 < (number - than) % FRAMES < FRAMES // 2
