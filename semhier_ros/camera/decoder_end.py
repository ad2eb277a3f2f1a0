"""What the decoder knows of one camera: its stream's description, its decoder, its stamps. No ROS in here.

Packets and blocks go in, in any order and condition; what comes out is what shall be published. Nothing is raised for
what a network may bring: it is counted and reported.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.packet import Block, Packet, PacketError, PieceAssembler, restore_stamp
from semhier_ros.codec.reading import Reading
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.scene.tracker import Tracker

EARLY = 64
"""Packets that are kept while a stream's description has not arrived yet: about a second of a thin link."""

Report = Callable[[str, str], None]
"""(kind, text): something that the operator may want to know; counted by kind, logged now and then."""


@dataclass(frozen=True, slots=True)
class Output:
    """A reading to publish: on the topic of `reading.level`, with the source's stamp and coordinate frame."""

    reading: Reading
    stamp_ns: int
    frame_id: str


def at_level(reading: Reading, level: int) -> Reading:
    """`reading` as it would have been at the coarser `level`: paths, names and scores cut there."""
    cut = level + 1
    detections = tuple(
        replace(item, path=item.path[:cut], names=item.names[:cut], scores=item.scores[:cut], others=item.others[:cut])
        for item in reading.detections
    )
    return replace(reading, level=level, detections=detections)


class CameraStream:
    """One camera's way from bytes to readings.

    `codecs`: by stream hash. `keep_frames`: frames that late blocks may still refine (1..256). `report` hears of what
    goes wrong; `tap(camera, block, stamp in ns)` of every whole block whose stamp is known. `make_tracker(codec)`: what
    gives readings lasting ids and steady names (None: nothing does). Use from one thread.
    `counters` counts: packets, blocks, damaged, other_stream, no_description (dropped for want of it), no_stamp,
    unknown_model, readings, pictures …; `all_counters` adds those of decoder and pieces.
    """

    def __init__(
        self,
        camera: str,
        codecs: Mapping[str, Any],
        keep_frames: int,
        report: Report,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        tap: Callable[[str, Block, int], None] | None = None,
        make_tracker: Callable[[Any], Tracker] | None = None,
    ) -> None:
        self.camera, self._codecs, self._keep, self._report = camera, codecs, keep_frames, report
        self._clock_ns, self._tap, self._make_tracker = clock_ns, tap, make_tracker
        self._tracker: Tracker | None = None
        self.info: StreamInfo | None = None
        self.codec: Any = None
        self._decoder: Any = None
        self._assembler = PieceAssembler()
        self._stamps: OrderedDict[int, int] = OrderedDict()
        self._published: OrderedDict[int, int] = OrderedDict()
        self._anchor = (0, 0)
        self._early: deque[bytes | tuple[Block, int]] = deque(maxlen=EARLY)
        self.counters: Counter[str] = Counter()

    def describe(self, info: StreamInfo) -> list[Output]:
        """Takes the stream's description; returns the readings of what came before it.

        A changed one (model, image size) starts a new decoder.
        """
        self._take(info)
        outputs: list[Output] = []
        while self._early:
            early = self._early.popleft()
            outputs += self.datagram(early) if isinstance(early, bytes) else self.block(*early)
        return outputs

    def _take(self, info: StreamInfo) -> None:
        old, self.info = self.info, info
        self._anchor = (info.stamp_ns, self._clock_ns())
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
        self._decoder = codec.decoder(image_size=(info.width, info.height), keep_frames=self._keep)
        self._tracker = self._make_tracker(codec) if self._make_tracker else None
        self._stamps.clear()
        self._published.clear()

    def datagram(self, data: bytes) -> list[Output]:
        """Takes a packet of the Zenoh link; returns the readings that it made."""
        if self.info is None:
            return self._wait_for_description(data)
        try:
            packet = Packet.parse(data)
        except PacketError as error:
            self._problem("damaged", f"packet of camera {self.camera}: {error}")
            return []
        self.counters["packets"] += 1
        if packet.stamp is not None:
            stamp_ns, taken = self._anchor
            near = stamp_ns + self._clock_ns() - taken
            self._note_stamp(packet.frame, restore_stamp(packet.stamp, near))
        if packet.piece is None:
            blocks = list(packet.blocks)
        else:
            whole = self._assembler.add(packet)
            blocks = [] if whole is None else [whole]
        outputs = []
        for block in blocks:
            outputs += self._push(block)
        return outputs

    def block(self, block: Block, stamp_ns: int) -> list[Output]:
        """Takes a block of a level topic, whose message carries the full stamp; returns the readings that it made."""
        if self.info is None:
            return self._wait_for_description((block, stamp_ns))
        self._note_stamp(block.frame, stamp_ns)
        return self._push(block)

    def damaged(self, error: Exception) -> None:
        """Counts a message that holds no block."""
        self._problem("damaged", f"block of camera {self.camera}: {error}")

    def is_complete(self, reading: Reading) -> bool:
        """Whether every block of the reading's frame is in it."""
        return self.codec is not None and reading.prefix == len(self.codec.block_names) - 1

    def has_picture(self, reading: Reading) -> bool:
        """Whether a picture block is in the reading's frame."""
        return self.codec is not None and reading.prefix >= self.codec.semantic_blocks

    def picture(self, frame: int) -> NDArray[np.uint8] | None:
        """The picture of a frame as far as it is known, None when it is no longer kept."""
        if self._decoder is None:
            return None
        try:
            picture = self._decoder.picture(frame)
        except (PacketError, ValueError) as error:
            self._problem("failed_pictures", f"picture of camera {self.camera}, frame {frame}: {error}")
            return None
        if picture is not None:
            self.counters["pictures"] += 1
        return picture

    @property
    def batches(self) -> bool:
        """Whether this stream's pictures are best made together with those of others."""
        return bool(getattr(self.codec, "batches", False))

    def all_counters(self) -> dict[str, int]:
        """The counters of stream, decoder and piece assembly; may be called from another thread."""
        result = dict(self.counters)
        if self._decoder is not None:
            result |= {f"decoder_{name}": number for name, number in dict(self._decoder.counters).items()}
        return result | {f"pieces_{name}": number for name, number in dict(self._assembler.counters).items() if number}

    def _push(self, block: Block) -> list[Output]:
        self.counters["blocks"] += 1
        if self._tap is not None and (stamp_ns := self._stamps.get(block.frame)) is not None:
            self._tap(self.camera, block, stamp_ns)
        info = self.info
        if self._decoder is None or info is None:
            self.counters["unknown_model_blocks"] += 1
            return []
        try:
            reading = self._decoder.push(block)
        except PacketError as error:
            kind = "damaged" if block.stream == self.codec.stream_tag else "other_stream"
            self._problem(kind, f"camera {self.camera}, frame {block.frame}: {error}")
            return []
        if reading is None or not reading.fresh:
            return []
        stamp_ns = self._stamps.get(reading.frame)
        if stamp_ns is None:
            self._problem("no_stamp", f"camera {self.camera}, frame {reading.frame}: no packet with its stamp arrived")
            return []
        if self._tracker is not None:
            reading = self._tracker.follow(stamp_ns, reading)
        self.counters["readings"] += 1
        done = self._published.get(reading.frame, -1)
        self._remember(self._published, reading.frame, max(done, reading.level))
        levels = [*range(done + 1, reading.level), reading.level]
        return [Output(at_level(reading, level), stamp_ns, info.frame_id) for level in levels]

    def _wait_for_description(self, early: bytes | tuple[Block, int]) -> list[Output]:
        if len(self._early) == EARLY:
            self._problem("no_description", f"camera {self.camera}: blocks arrive, but no StreamInfo with them")
        self._early.append(early)
        return []

    def _note_stamp(self, frame: int, stamp_ns: int) -> None:
        known = self._stamps.get(frame)
        if known is not None and known != stamp_ns:
            self._published.pop(frame, None)  # the number is used again: a restarted encoder
        self._remember(self._stamps, frame, stamp_ns)

    def _remember(self, table: OrderedDict[int, int], frame: int, value: int) -> None:
        table.pop(frame, None)
        table[frame] = value
        while len(table) > 2 * self._keep:
            table.popitem(last=False)

    def _problem(self, kind: str, text: str) -> None:
        self.counters[kind] += 1
        self._report(kind, text)


def pictures_together(wanted: Sequence[tuple[CameraStream, int]]) -> list[NDArray[np.uint8] | None]:
    """What `CameraStream.picture` gives for each (stream, frame), made together for streams of the same codec. If that
    fails, each is made on its own, so that one bad frame costs no other camera its picture."""
    codec = wanted[0][0].codec
    together = len(wanted) > 1 and all(stream.codec is codec and stream._decoder is not None for stream, _ in wanted)
    if together:
        try:
            made = codec.pictures([(stream._decoder, frame) for stream, frame in wanted])
        except (PacketError, ValueError):
            return [stream.picture(frame) for stream, frame in wanted]
        for (stream, _), picture in zip(wanted, made, strict=True):
            stream.counters["pictures"] += picture is not None
        return list(made)
    return [stream.picture(frame) for stream, frame in wanted]
