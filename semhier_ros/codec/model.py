"""The small protocol behind `Codec`: what every kind of model offers, and what an encoder may be asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple, Protocol, TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.packet import PacketError
from semhier_ros.codec.reading import Detection
from semhier_ros.taxonomy import Taxonomy

Code = TypeVar("Code")
"""What blocks 0..k of a frame say, decoded. Only the model's own methods look inside, and none changes it."""


class Motion(Protocol):
    """One camera's memory of where its objects were, on the sender's side only: blocks never refer to it."""

    def update(self, boxes: NDArray[np.float32]) -> NDArray[np.float64]:
        """How much each of `boxes` (n,4) moved since the last call, 0..1."""
        ...


class PictureFlow(Protocol):
    """How camera and objects move in one picture of `size` (width, height), None where it is not known."""

    @property
    def size(self) -> tuple[int, int] | None: ...

    def measure(self, boxes: NDArray[np.float64]) -> Any:
        """The model's own form of it for objects in `boxes` (n,4: corners in pixels); None where it is not known."""
        ...


class Flow(Protocol):
    """Measures how one camera and the objects in its pictures move, on the sender's side."""

    def watch(self, image_rgb: NDArray[np.uint8], stamp_ns: int) -> None:
        """Takes the camera's next picture (H,W,3 uint8 RGB), whether it is sent or not."""
        ...

    def of(self, stamp_ns: int) -> PictureFlow:
        """What is known of the picture taken at `stamp_ns`."""
        ...


class WithMotion(bytes):
    """The bytes of a block 0 whose `motion` part is not empty."""

    motion: bytes = b""


class Delta(bytes):
    """A block 0 that says a whole frame by what its receiver remembers of an earlier one (docs/living.md)."""


class SenderMemory(Protocol):
    """What one camera's sender remembers of what its receiver knows. `delta_bytes`: what a frame that refers to it may
    take where that is less than another may, None for as much."""

    overlap: float
    whole_every: float
    delta_bytes: int | None

    def begin(self, frame: int, stamp_ns: int) -> None:
        """The next frame that is encoded has this number (0..65535) and stamp (ns)."""
        ...

    def heard(self, memory: bytes) -> bool:
        """What a receiver's report says of its memory (`codec.report.Report`); may be called from any thread. False
        where that cannot be."""
        ...


class ReceiverMemory(Protocol[Code]):
    """What one camera's receiver remembers. `acknowledgement`: what its next report says of it, None for nothing.
    `unread`: the newest delta could not be read, for what it refers to is not remembered.
    `caught_up`: frames whose deltas had waited, and what they say, as read by the last call of `whole` or `delta`."""

    @property
    def acknowledgement(self) -> bytes | None: ...
    @property
    def unread(self) -> bool: ...
    @property
    def caught_up(self) -> Sequence[tuple[int, Code]]: ...

    def whole(self, code: Code, prefix: int, frame: int, stamp_ns: int) -> None:
        """Blocks 0..prefix of a frame came that refers to nothing."""
        ...

    def foresee(self, data: bytes, frame: int, stamp_ns: int) -> Code | None:
        """What `delta` will give for the same if it is called next, without taking it; None where it will raise."""
        ...

    def delta(self, data: bytes, frame: int, stamp_ns: int) -> Code:
        """What a frame says whose `Delta` came: all that its semantic blocks could.

        Raises:
            UnknownReference: it refers to what is not remembered. PacketError: no encoder made these bytes.
        """
        ...


@dataclass(frozen=True, slots=True)
class Detected:
    """What a detector of the sender's own found in one picture, for models that take it (`Codec.detected` makes one).

    size: width and height of the picture. boxes n,4: corners x0, y0, x1, y1 in its pixels. scores n,leaves: 0..1.
    """

    size: tuple[int, int]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """What an encoder may be asked.

    blocks: how many at most (None: all). max_bytes: what all blocks together may take (None: as much as they need); a
    scene gives up the fine levels of its least important objects first, then objects, but block 0 always says
    something. threshold: least objectness worth sending, of scenes, 0..1 (None: the model's own); higher means fewer
    objects and fewer bytes. quality: operating point of whole-image models, 0 the fewest bytes (None: the model's own).
    motion: the camera's memory, handed over with each of its frames, so that what moves counts as important (None:
    nothing moves); `Codec.motion` makes one. flow: what is known of how camera and objects move in this picture (None:
    nothing), of which block 0 then says something; `Codec.flow` makes what measures it. detected: what was found in the
    picture already, so that no detector runs. memory: what the camera's receiver is known to remember (None: nothing,
    every frame stands alone); `Codec.memory` makes one. beyond: `max_bytes` bounds the semantic blocks alone, and
    picture blocks follow for whoever goes on: a sender that makes them when somebody asks.
    """

    blocks: int | None = None
    max_bytes: int | None = None
    threshold: float | None = None
    quality: int | None = None
    motion: Motion | None = None
    flow: PictureFlow | None = None
    detected: Detected | None = None
    memory: SenderMemory | None = None
    beyond: bool = False


class EncodeChanges(TypedDict, total=False):
    """The fields of `EncodeOptions` as keyword arguments."""

    blocks: int | None
    max_bytes: int | None
    threshold: float | None
    quality: int | None
    motion: Motion | None
    flow: PictureFlow | None
    detected: Detected | None
    memory: SenderMemory | None
    beyond: bool


class PictureRequest(NamedTuple):
    """A picture that a model is to make: the code and prefix of a frame, and the source picture's (width, height)."""

    code: Any
    prefix: int
    size: tuple[int, int]


class ReadingRequest(NamedTuple):
    """A reading that a model is to make: the code and prefix of a frame, and the source picture's (width, height)."""

    code: Any
    prefix: int
    size: tuple[int, int]


class PictureWork(NamedTuple):
    """Picture blocks of one frame that came: `code` of all before them, index of the `first`, their bytes in order."""

    code: Any
    first: int
    data: tuple[bytes, ...]


class PicturesFound(NamedTuple):
    """What became of a `PictureWork`: the code after the first `blocks` of them, and what is wrong with the next."""

    code: Any
    blocks: int
    error: PacketError | None


@dataclass(slots=True)
class Spent:
    """Seconds that batches took where their networks run (`device`: a GPU, or a CPU in its place), and in the entropy
    coder (`entropy`); whoever asks times the whole. between: called between two steps, where a thread may let more
    urgent ones go first; its time is in neither. timer: whose seconds these are."""

    device: float = 0.0
    entropy: float = 0.0
    between: Callable[[], None] | None = None
    timer: Callable[[], float] = perf_counter


class Model(Protocol[Code]):
    """A model of any kind, loaded. Safe to share between threads.

    view_size: width and height of the picture that its networks see. levels: how many levels its blocks name.
    batches: whether several pictures made together cost less than one after another. paints: whether it has pictures at
    all; where not, `picture` is never asked.
    """

    name: str
    path: Path
    stream_hash: str
    model_hash: str
    block_names: tuple[str, ...]
    semantic_blocks: int
    levels: int
    whole_image: bool
    taxonomy: Taxonomy
    view_size: tuple[int, int]
    paints: bool

    @property
    def batches(self) -> bool: ...

    def motion(self) -> Motion | None:
        """A new memory of one camera's objects; None where a reading has no objects that move."""
        ...

    def flow(self) -> Flow | None:
        """A new measure of one camera's pictures; None where a reading has no objects that move."""
        ...

    def velocities(self, code: Code, motion: bytes, size: tuple[int, int]) -> NDArray[np.float64]:
        """Velocities n,2 (pixels/s) of the objects of block 0, in its order, in pictures of `size`.

        Raises:
            PacketError: no encoder made this motion part for these objects.
        """
        ...

    def alone(self, memory: object, frame: int) -> list[bytes]:
        """Semantic blocks that refer to nothing and say what the delta of that frame did, by the memory that made it;
        none where the frame was no delta, or is known no more."""
        ...

    def sender_memory(self, overlap: float | None, whole_every: float | None, radio: bool) -> SenderMemory | None:
        """A new memory of one camera's sender (radio: over compact frames); None where a reading has no objects to
        remember. Raises ValueError naming the range of what is outside it."""
        ...

    def receiver_memory(self) -> ReceiverMemory[Code] | None:
        """A new memory of one camera's receiver; None where a reading has no objects."""
        ...

    def prepare_looks(self) -> None:
        """Makes what looks at pictures ready for any of them; what is compiled for all alike may be left to the first.
        Raises DetectorError (a ValueError) where there is nothing to look with."""
        ...

    def check(self, options: EncodeOptions) -> None:
        """Raises ValueError, naming the range, for an option that this model does not take or that is outside it."""
        ...

    def encode(self, image: NDArray[np.uint8] | None, blocks: int, options: EncodeOptions) -> Iterator[bytes]:
        """The first `blocks` blocks of a picture (H,W,3 uint8 RGB), each made when it is asked for; fewer where
        `max_bytes` leaves nothing to say in the next. Without a picture, `options.detected` says what is in it, and
        there are no picture blocks. With `options.memory` block 0 may be a `Delta`; then picture blocks follow at
        once."""
        ...

    def decode(self, index: int, data: bytes, code: Code | None) -> Code:
        """The code of blocks 0..index, given that of 0..index-1 (None before block 0), which stays as it is.

        Raises:
            PacketError: no encoder made these bytes for this prefix.
        """
        ...

    def read(self, code: Code, prefix: int, size: tuple[int, int]) -> tuple[Detection, ...]:
        """The detections after blocks 0..prefix; boxes in pixels of a source picture of `size` (width, height)."""
        ...

    def read_many(self, requests: Sequence[ReadingRequest]) -> list[tuple[Detection, ...]]:
        """What `read` gives for each of several requests, made together."""
        ...

    def picture(self, code: Code, prefix: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """The picture (height,width,3) of source size after blocks 0..prefix."""
        ...

    def decode_pictures(self, works: Sequence[PictureWork], spent: Spent) -> list[PicturesFound]:
        """What `decode` gives for the picture blocks of many frames, worked out together; a damaged block stops its own
        frame alone. Adds to `spent`."""
        ...

    def pictures(self, requests: Sequence[PictureRequest], spent: Spent | None = None) -> list[NDArray[np.uint8]]:
        """What `picture` gives for each of several requests, made together: the frames of many cameras at once. Adds to
        `spent`."""
        ...
