"""The base's end of a camera: from packets to readings, and what to ask for more of. No ROS, no thread, no clock.

Packets and blocks go in, in any order and condition; what comes out is what shall be published: a reading for each
level that is new or changed, never the same one twice. Nothing is raised for what a network may bring: it is counted
and reported.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from semhier_ros.camera.asking import AskPolicy, Seen
from semhier_ros.camera.one_sender import OneSender, alike
from semhier_ros.codec.block_request import BlockRequest
from semhier_ros.codec.canvas import size_problem
from semhier_ros.codec.model import PictureRequest, PicturesFound, PictureWork, ReadingRequest, Spent
from semhier_ros.codec.packet import (
    Block,
    Doubted,
    Packet,
    PacketError,
    PieceAssembler,
    UnknownReference,
    delta_tag,
    restore_stamp,
)
from semhier_ros.codec.reading import Detection, Reading, Scene
from semhier_ros.codec.stream_info import StreamInfo

EARLY = 64
"""Packets that are kept while a stream's description has not arrived yet: about a second of a thin link."""

STAMP_SECONDS = (-15.0, 6.0)
"""How much older or newer a new frame's stamp may be than the last description lets expect. Of a stamp only the bits of
the last 18 minutes travel: one that is farther off waits for the description that tells which 18 minutes they are."""

Report = Callable[[str, str], None]
"""(kind, text): something that the operator may want to know; counted by kind, logged now and then."""


class FrameDecoder(Protocol):
    """The part of a `Decoder` that an end needs."""

    @property
    def counters(self) -> Mapping[str, int]: ...
    def push(self, block: Block, stamp_ns: int | None = None) -> Reading | None: ...
    def readable(self, blocks: Sequence[Block]) -> bool: ...
    def foresee(self, block: Block, stamp_ns: int | None = None) -> ReadingRequest | None: ...
    def foretold(self, detections: tuple[Detection, ...]) -> None: ...
    def scene(self, at: int) -> Scene: ...
    @property
    def acknowledgement(self) -> bytes | None: ...
    @property
    def unread(self) -> bool: ...
    def caught_up(self) -> list[Reading]: ...
    def picture_work(self, frame: int) -> PictureWork | None: ...
    def take_pictures(self, frame: int, work: PictureWork, found: PicturesFound) -> Reading | None: ...
    def picture_request(self, frame: int) -> PictureRequest | None: ...


class ReadingCodec(Protocol):
    """The part of a `Codec` that an end needs."""

    @property
    def name(self) -> str: ...
    @property
    def stream_tag(self) -> int: ...
    @property
    def model_hash(self) -> str: ...
    @property
    def block_names(self) -> Sequence[str]: ...
    @property
    def semantic_blocks(self) -> int: ...
    @property
    def batches(self) -> bool: ...
    @property
    def device(self) -> str: ...
    def retreat(self) -> bool: ...
    @property
    def whole_image(self) -> bool: ...
    def decoder(
        self,
        image_size: tuple[int, int],
        keep_frames: int,
        *,
        follow: bool,
        memory: bool = False,
        pictures_later: bool = False,
    ) -> FrameDecoder: ...
    def readings(self, requests: Sequence[ReadingRequest]) -> list[tuple[Detection, ...]]: ...
    def decode_pictures(self, works: Sequence[PictureWork], spent: Spent) -> list[PicturesFound]: ...
    def pictures(self, requests: Sequence[PictureRequest], spent: Spent | None = None) -> list[NDArray[np.uint8]]: ...


C = TypeVar("C", bound=ReadingCodec)
"""The codecs of an end, as its maker knows them."""


@dataclass(frozen=True, slots=True)
class Output:
    """What became known: `reading`, with the source's stamp and coordinate frame.

    `changed`: it is to be published, on the topic of `reading.level`; else only the frame's picture got better.
    `asks`: what the encoder is to be asked for because of it, None for nothing.
    """

    reading: Reading
    stamp_ns: int
    frame_id: str
    changed: bool = True
    asks: BlockRequest | None = None


def at_level(reading: Reading, level: int) -> Reading:
    """`reading` as it would have been at the coarser `level`: paths, names and scores cut there."""
    if level == reading.level:
        return reading
    return replace(reading, level=level, detections=tuple(item.down_to(level) for item in reading.detections))


@dataclass(slots=True)
class _Known:
    """A frame's stamp, and what was published of it: the deepest level (-1: none) and the detections there."""

    stamp_ns: int
    level: int = -1
    detections: tuple[Detection, ...] = ()


class DecoderEnd(Generic[C]):
    """One camera's receiving end.

    `codecs`: by stream hash. `keep_frames`: frames that late blocks may still refine (1..256). `report` hears of what
    goes wrong; `tap(camera, block, stamp in ns)` of every whole block whose stamp is known. `follow`: objects keep ids
    and names over frames, and `scene` tells where they are now (models that read objects). `memory`: frames are
    remembered, so that a sender with a memory may refer to them (the same models). `ask`: when to ask for more,
    shared by all cameras that it bounds (None: never). `pictures_later`: picture blocks are kept as they come, until
    `picture_work` and `take_pictures`. `now`: seconds of one clock that never decreases. Use from one thread at a time.
    `counters` counts: refused_deltas (they refer to what is not remembered), packets, blocks, damaged, other_stream,
    other_sender, no_description (dropped for want of it),
    waited_for_stamp and unsure_stamps (dropped after all), no_stamp,
    unknown_model, readings, pictures, pictures_too_late (of frames that are kept no longer) …; `all_counters` adds
    those of decoder and pieces.
    """

    def __init__(
        self,
        camera: str,
        codecs: Mapping[str, C],
        keep_frames: int,
        report: Report,
        *,
        tap: Callable[[str, Block, int], None] | None = None,
        follow: bool = False,
        memory: bool = False,
        ask: AskPolicy | None = None,
        pictures_later: bool = False,
    ) -> None:
        self._later = pictures_later
        self._shown = -1  # the frame whose pictures were taken last
        self.camera, self._codecs, self._keep, self._report = camera, codecs, keep_frames, report
        self._tap, self._follow, self._ask, self._memory = tap, follow, ask, memory
        self.info: StreamInfo | None = None
        self.codec: C | None = None
        self._decoder: FrameDecoder | None = None
        self._still: FrameDecoder | None = None
        self._still_of: tuple[int, int] | None = None
        self._assembler = PieceAssembler()
        self._frames: OrderedDict[int, _Known] = OrderedDict()
        self._anchors = ((0, 0.0),)
        self._early: deque[bytes | tuple[Block, int]] = deque(maxlen=EARLY)
        self._sender = OneSender()
        self._parsed: tuple[bytes, Packet] | None = None
        self.counters: Counter[str] = Counter()

    def describe(self, info: StreamInfo, now: float) -> list[Output]:
        """Takes the stream's description; returns the readings of what came before it.

        A changed one (model, image size) starts a new decoder; one of pictures larger than any may be is left out.
        """
        if wrong := size_problem(info.width, info.height):
            self._problem("description_refused", f"camera {self.camera}: a description says pictures of {wrong}")
            return []
        if not self._sender.describes(info, self.info):
            self._refuse()
            return []
        self._take(info, now)
        outputs: list[Output] = []
        waiting, self._early = self._early, deque(maxlen=EARLY)
        for early in waiting:
            found = self._datagram(early, now, waited=True) if isinstance(early, bytes) else self.block(*early, now)
            outputs += found
        return outputs

    @property
    def clash(self) -> bool:
        """Whether a second sender uses this camera's name now; it is not read."""
        return self._sender.clash

    def _refuse(self) -> None:
        self._problem(
            "other_sender",
            f"camera {self.camera}: two senders use this name; the first is read, the other is not: give each its own"
            " `camera`",
        )

    def _heard(self, frame: int, stamp: int | None, now: float) -> bool:
        """Whether a packet is of a sender that is read; its own description is in force then, as far as it is known."""
        if not self._sender.takes(frame, stamp, now):
            if self._sender.clash:
                self._refuse()
            else:
                self._problem("no_description", f"camera {self.camera}: blocks of a new sender, not yet described")
            return False
        theirs = self._sender.own
        if theirs is not None and self.info is not None and not alike(theirs, self.info):
            self._take(theirs, now)
        return True

    def _take(self, info: StreamInfo, now: float) -> None:
        old, self.info = self.info, info
        first = self._anchors[:1] if old is not None and old.stamp_ns == info.stamp_ns else ()
        self._anchors = (*first, (info.stamp_ns, now))
        codec = self._codecs.get(info.stream_hash)
        if codec is None:
            self.codec = self._decoder = None
            known = ", ".join(f"{item.name}: {key}" for key, item in self._codecs.items())
            self._problem(
                "unknown_model",
                f"camera {self.camera} is encoded by model {info.model!r} with stream hash {info.stream_hash},"
                f" which none of `models` has ({known})",
            )
            return
        if codec.model_hash != info.model_hash and (old is None or old.model_hash != info.model_hash):
            self._problem(
                "other_model_hash",
                f"camera {self.camera} is encoded by model hash {info.model_hash}, read by {codec.model_hash}:"
                " the same blocks, other heads, names or calibration",
            )
        same = old is not None and self._decoder is not None
        same = same and old is not None and old.stream_hash == info.stream_hash
        if same and old is not None and (old.width, old.height) == (info.width, info.height):
            return
        self.codec = codec
        follow = self._follow and not codec.whole_image
        more = {"memory": True} if self._memory and not codec.whole_image else {}
        more |= {"pictures_later": True} if self._later else {}
        size = (info.width, info.height)
        self._still, self._still_of = None, None
        self._decoder = codec.decoder(image_size=size, keep_frames=self._keep, follow=follow, **more)
        self._frames.clear()

    def datagram(self, data: bytes, now: float) -> list[Output]:
        """Takes a packet of the link, out of its envelope; returns what it made known.

        One whose stamp lies outside `STAMP_SECONDS` of where it is expected waits for the next description.
        """
        return self._datagram(data, now, waited=False)

    def _datagram(self, data: bytes, now: float, *, waited: bool) -> list[Output]:
        if self.info is None:
            return self._wait_for_description(data)
        try:
            packet = self._parse(data)
        except PacketError as error:
            self._problem("damaged", f"packet of camera {self.camera}: {error}")
            return []
        doubted = isinstance(data, Doubted) and packet.piece is None
        if doubted and self._decoder is not None and not self._decoder.readable(packet.blocks):
            self._problem(
                "damaged", f"packet of camera {self.camera}, frame {packet.frame}: no encoder made its blocks"
            )
            return []
        if not self._heard(packet.frame, packet.stamp, now):
            return []
        if packet.stamp is not None:
            restored, near = self._restored(packet.stamp, now)
            known, (late, early) = self._frames.get(packet.frame), STAMP_SECONDS
            if not late <= (restored - near) / 1e9 <= early and (known is None or known.stamp_ns != restored):
                return self._doubt(data, packet.frame, waited)
            self._note_stamp(packet.frame, restored)
        elif self._early and packet.frame not in self._frames:  # its frame's stamp may be among what waits
            self._early.append(data)
            return []
        self.counters["packets"] += 1
        if packet.piece is None:
            blocks = list(packet.blocks)
        else:
            whole = self._assembler.add(packet)
            blocks = [] if whole is None else [whole]
        outputs = []
        for block in blocks:
            outputs += self._push(block, now)
        return outputs

    def _restored(self, low40: int, now: float) -> tuple[int, int]:
        """A stamp in ns of which a packet says the low bits, and the one that a frame taken now should have.

        That goes on from the description's. One that is repeated without a frame in between tells either of two
        things: a camera that paused, whose clock went on since it came first, or one whose clock paused, as that of a
        bag that is halted. What is nearer holds.
        """
        expected = [stamp_ns + round((now - heard) * 1e9) for stamp_ns, heard in self._anchors]
        both = [(restore_stamp(low40, near), near) for near in expected]
        return min(both, key=lambda pair: abs(pair[0] - pair[1]))

    def _parse(self, data: bytes) -> Packet:
        """What a packet says; of the one that was foreseen it is known already."""
        if self._parsed is None or self._parsed[0] is not data:
            self._parsed = data, Packet.parse(data)
        return self._parsed[1]

    def foresee(self, task: bytes | tuple[Block, int], now: float) -> ReadingRequest | None:
        """Decodes the block of a packet, or of a level topic, that will come in next, without taking it; what
        `ReadingCodec.readings` needs then, whose result goes to `foretold`. None where there is nothing to gain. What
        the task itself does is the same with or without."""
        if self._decoder is None:
            return None
        if not isinstance(task, bytes):
            return self._decoder.foresee(*task)
        try:
            packet = self._parse(task)
        except PacketError:
            return None  # the task itself will say so
        stamp_ns = None if packet.stamp is None else self._restored(packet.stamp, now)[0]
        return None if packet.piece is not None else self._decoder.foresee(packet.blocks[0], stamp_ns)

    def foretold(self, detections: tuple[Detection, ...]) -> None:
        """Takes the detections of what was foreseen last."""
        if self._decoder is not None:
            self._decoder.foretold(detections)

    def block(self, block: Block, stamp_ns: int, now: float) -> list[Output]:
        """Takes a block of a level topic, whose message carries the full stamp; returns what it made known."""
        if self.info is None:
            return self._wait_for_description((block, stamp_ns))
        if not self._heard(block.frame, stamp_ns, now):
            return []
        self._note_stamp(block.frame, stamp_ns)
        return self._push(block, now)

    def stored(self, blocks: Sequence[Block], stamp_ns: int, now: float) -> list[Output]:
        """Takes blocks of one frame that were asked for and stored at their sender (`link.radio.store`), however old
        the frame is; returns what they made known. The link vouches for their sender."""
        if self.info is None:
            return [output for block in blocks for output in self._wait_for_description((block, stamp_ns))]
        frame, codec = blocks[0].frame, self.codec
        if blocks[0].index == 0 and codec is not None and self._still_of != (frame, stamp_ns):
            size = (self.info.width, self.info.height)  # a decoder of its own: the stream's may be far ahead
            self._still, self._still_of = codec.decoder(size, 1, follow=False), (frame, stamp_ns)
        self._note_stamp(frame, stamp_ns)
        decoder = self._still if self._still_of == (frame, stamp_ns) else None
        return [output for block in blocks for output in self._push(block, now, decoder)]

    def is_complete(self, reading: Reading) -> bool:
        """Whether every block of the reading's frame is in it."""
        return self.codec is not None and reading.prefix == len(self.codec.block_names) - 1

    def has_picture(self, reading: Reading) -> bool:
        """Whether a picture block is in the reading's frame."""
        return self.codec is not None and reading.prefix >= self.codec.semantic_blocks

    def newest_work(self) -> tuple[int, PictureWork] | None:
        """The newest frame that has picture blocks to decode, and these; none that a newer one has overtaken."""
        if self._decoder is None:
            return None
        shown = self._frames.get(self._shown)
        for frame, known in sorted(self._frames.items(), key=lambda item: -item[1].stamp_ns):
            if shown is not None and known.stamp_ns < shown.stamp_ns:
                return None
            work = self._decoder.picture_work(frame)
            if work is not None:
                return frame, work
        return None

    def take_pictures(self, frame: int, work: PictureWork, found: PicturesFound) -> Output | None:
        """Takes what became of a frame's picture blocks; what is known of it now, None where the frame has gone."""
        decoder, known, info = self._decoder, self._frames.get(frame), self.info
        self._shown = frame
        if decoder is None or known is None or info is None:
            return None
        reading = decoder.take_pictures(frame, work, found)
        if reading is not None and found.error is not None:
            place = work.first + found.blocks
            self._problem("damaged", f"camera {self.camera}, frame {frame}: block {place}: {found.error}")
        return (
            None
            if reading is None or not reading.fresh
            else Output(reading, known.stamp_ns, info.frame_id, changed=False)
        )

    def picture_request(self, frame: int) -> PictureRequest | None:
        """What `ReadingCodec.pictures` needs to make the picture of a frame, None when it is no longer kept."""
        decoder = self._decoder_of(frame)
        return None if decoder is None else decoder.picture_request(frame)

    def _decoder_of(self, frame: int) -> FrameDecoder | None:
        """What has read most of a frame."""
        return self._still if self._still_of is not None and self._still_of[0] == frame else self._decoder

    @property
    def batches(self) -> bool:
        """Whether this stream's pictures are best made together with those of others."""
        return self.codec is not None and self.codec.batches

    def all_counters(self) -> dict[str, int]:
        """The counters of stream, decoder and piece assembly; may be called from another thread."""
        result = dict(self.counters)
        if self._decoder is not None:
            result |= {f"decoder_{name}": number for name, number in dict(self._decoder.counters).items()}
        return result | {f"pieces_{name}": number for name, number in dict(self._assembler.counters).items() if number}

    def scene(self, at_ns: int) -> Scene | None:
        """The objects as they are at `at_ns`, on the clock of the frames' stamps; None before a description came and
        where nothing is followed."""
        following = self._follow and self.codec is not None and not self.codec.whole_image
        return self._decoder.scene(at_ns) if following and self._decoder is not None else None

    @property
    def acknowledgement(self) -> bytes | None:
        """What the next report says of what is remembered, None for nothing; may be asked from another thread."""
        decoder = self._decoder
        return None if decoder is None or not self._memory else decoder.acknowledgement

    @property
    def unread(self) -> bool:
        """Whether the newest frame refers to what is not remembered; may be asked from another thread."""
        return self._memory and self._decoder is not None and self._decoder.unread

    def _push(self, block: Block, now: float, decoder: FrameDecoder | None = None) -> list[Output]:
        self.counters["blocks"] += 1
        known = self._frames.get(block.frame)
        if self._tap is not None and known is not None:
            self._tap(self.camera, block, known.stamp_ns)
        info = self.info
        decoder = decoder or self._decoder
        if decoder is None or self.codec is None or info is None:
            self.counters["unknown_model_blocks"] += 1
            return []
        late = decoder.counters.get("late", 0)
        try:
            reading = decoder.push(block, None if known is None else known.stamp_ns)
        except PacketError as error:
            known_tags = (self.codec.stream_tag, *((delta_tag(self.codec.stream_tag),) if self._memory else ()))
            kind = "damaged" if block.stream in known_tags else "other_stream"
            kind = "refused_deltas" if isinstance(error, UnknownReference) else kind
            self._problem(kind, f"camera {self.camera}, frame {block.frame}: {error}")
            return []
        if block.index >= self.codec.semantic_blocks and decoder.counters.get("late", 0) > late:
            self._problem(
                "pictures_too_late",
                f"camera {self.camera}, frame {block.frame}: a block of its picture came, but this end keeps the frame"
                f" no longer: raise `keep_frames` ({self._keep})",
            )
        outputs = self._told(reading, info, now)
        if self._memory:
            for caught_up in decoder.caught_up():
                outputs += self._told(caught_up, info, now)
        return outputs

    def _told(self, reading: Reading | None, info: StreamInfo, now: float) -> list[Output]:
        """What a reading makes known."""
        if reading is None or not reading.fresh:
            return []
        known = self._frames.get(reading.frame)
        if known is None:
            self._problem("no_stamp", f"camera {self.camera}, frame {reading.frame}: no packet with its stamp arrived")
            return []
        if reading.level <= known.level and reading.detections == known.detections:
            return [Output(reading, known.stamp_ns, info.frame_id, changed=False)]
        done, known.level, known.detections = known.level, max(known.level, reading.level), reading.detections
        self.counters["readings"] += 1
        levels = [*range(done + 1, reading.level), reading.level]
        readings = [at_level(reading, level) for level in levels]
        return [Output(item, known.stamp_ns, info.frame_id, asks=self._asks(item, info, now)) for item in readings]

    def _asks(self, reading: Reading, info: StreamInfo, now: float) -> BlockRequest | None:
        """What to ask for of the reading's frame, if the policy says so."""
        if self._ask is None:
            return None
        objects = Seen.of(reading.detections, info.height)
        wanted = self._ask.wants(self.camera, reading.frame, reading.prefix, objects, now)
        return BlockRequest(self._ask.finest, reading.frame) if wanted else None

    def _wait_for_description(self, early: bytes | tuple[Block, int]) -> list[Output]:
        if len(self._early) == EARLY:
            self._problem("no_description", f"camera {self.camera}: blocks arrive, but no StreamInfo with them")
        self._early.append(early)
        return []

    def _doubt(self, data: bytes, frame: int, waited: bool) -> list[Output]:
        """The stamp of a packet is not to be told yet, or at all."""
        if waited or len(self._early) == EARLY:
            self._problem(
                "unsure_stamps", f"camera {self.camera}, frame {frame}: its stamp fits no description; dropped"
            )
        if not waited:
            self.counters["waited_for_stamp"] += 1
            self._early.append(data)
        return []

    def _note_stamp(self, frame: int, stamp_ns: int) -> None:
        known = self._frames.pop(frame, None)
        if (
            known is None or known.stamp_ns != stamp_ns
        ):  # a new frame, or a restarted encoder that uses its number again
            known = _Known(stamp_ns)
            if self._still_of is not None and self._still_of[0] == frame and self._still_of[1] != stamp_ns:
                self._still, self._still_of = None, None
        self._frames[frame] = known
        while len(self._frames) > 2 * self._keep:
            self._frames.popitem(last=False)

    def _problem(self, kind: str, text: str) -> None:
        self.counters[kind] += 1
        self._report(kind, text)
