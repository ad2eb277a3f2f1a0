"""Blocks through our own scheduler: `semhier`, and `answer` in packets of the same kind.

The sender does what `encoder_node` does, in the caller's time: the newest frame waits in a slot, its meaning is encoded
and queued, then its picture unless the next frame waits already; the scheduler orders, packs and paces. The receiver
parses packets, assembles pieces and pushes blocks into the package's own decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from semhier_ros.codec.packet import Block, Packet, PacketError, PieceAssembler, restore_stamp, split
from semhier_ros.lab.replay.reader import Reader
from semhier_ros.lab.streams.base import Answer, Camera, Costs, Departure, Waiting
from semhier_ros.link import LevelPolicy, Scheduler, default_policies
from semhier_ros.link.schedule.wire import ZENOH_UDP, WireModel

KEEP_FRAMES = 32


class BlockSource(Protocol):
    """Where a sender's blocks come from: `made(camera, number, late)` gives a frame's first `early` blocks, which are
    ready after `early_seconds`, or the others, which are ready `late_seconds` later. `names` of all blocks."""

    names: tuple[str, ...]
    early: int
    early_seconds: float
    late_seconds: float

    def made(self, camera: Camera, number: int, late: bool) -> Sequence[Block]: ...


@dataclass(slots=True)
class _Encoder:
    """One camera's encoder: the newest frame that waits, what it works on and until when."""

    slot: tuple[int, int] | None = None
    busy_until: float | None = None
    number: int = 0
    stamp_ns: int = 0
    late: bool = False
    next_start: float = 0.0


class BlockSender:
    """`Sender` of blocks. `rate` in wire bytes per second (0: unlimited), `max_rate` frames a second at most (0: all),
    `finest` the last block that is sent."""

    def __init__(
        self,
        cameras: Sequence[Camera],
        source: BlockSource,
        policies: Sequence[LevelPolicy],
        rate: float,
        *,
        wire: WireModel = ZENOH_UDP,
        max_rate: float = 0.0,
        finest: int = 15,
    ) -> None:
        self._cameras, self._source, self._finest = cameras, source, finest
        self._scheduler = Scheduler(Packet.pack, split, policies, wire=wire, rate=rate or None)
        self._places = {str(place): place for place in range(len(cameras))}
        self._encoders = [_Encoder() for _ in cameras]
        self._numbers: list[dict[int, int]] = [{} for _ in cameras]
        self._gap = 1.0 / max_rate if max_rate else 0.0
        self._counts = {"offered": 0, "encoded": 0, "pictures_skipped": 0}

    def offer(self, camera: int, number: int, stamp_ns: int, now: float) -> None:
        """A camera took a frame; one that waits is replaced."""
        self._counts["offered"] += 1
        self._encoders[camera].slot = (number, stamp_ns)
        self._work(now)

    def next_event(self, now: float) -> float | None:
        """When an encoder is done or a datagram may leave."""
        times = [encoder.busy_until for encoder in self._encoders if encoder.busy_until is not None]
        times += [max(now, encoder.next_start) for encoder in self._encoders if _ready(encoder)]
        departure = self._scheduler.next_departure(now)
        if departure is not None:
            times.append(departure)
        return min(times, default=None)

    def pop(self, now: float) -> Departure | None:
        """The datagram that leaves at `now`."""
        self._work(now)
        datagram = self._scheduler.pop(now)
        if datagram is None:
            return None
        place = self._places[datagram.camera]
        names = self._source.names
        return Departure(
            place,
            datagram.payload,
            datagram.wire_bytes,
            self._numbers[place][datagram.frame],
            names[datagram.level],
            datagram.copy > 0,
        )

    def counters(self) -> dict[str, int]:
        """Frames offered and encoded, pictures skipped, and per block `made_`, `sent_` and `dropped_`."""
        status = self._scheduler.status(0.0)
        result = dict(self._counts)
        for name, level in zip(self._source.names, status.levels, strict=False):
            result |= {f"sent_{name}": level.sent, f"dropped_{name}": level.dropped}
        return result

    def _work(self, now: float) -> None:
        """Lets every encoder do what it has done by `now`."""
        for place, encoder in enumerate(self._encoders):
            while True:
                if encoder.busy_until is not None:
                    if encoder.busy_until > now:
                        break
                    self._finish(place, encoder, encoder.busy_until)
                elif _ready(encoder) and encoder.next_start <= now:
                    self._begin(encoder, now)
                else:
                    break

    def _begin(self, encoder: _Encoder, now: float) -> None:
        assert encoder.slot is not None
        encoder.number, encoder.stamp_ns = encoder.slot
        encoder.slot, encoder.late = None, False
        encoder.next_start = now + self._gap - 1e-3 if self._gap else now
        encoder.busy_until = now + self._source.early_seconds

    def _finish(self, place: int, encoder: _Encoder, now: float) -> None:
        number = encoder.number
        blocks = self._source.made(self._cameras[place], number, encoder.late)
        wanted = [block for block in blocks if block.index <= self._finest]
        self._numbers[place][number & 0xFFFF] = number
        self._submit(place, number, encoder.stamp_ns, wanted, now)
        encoder.busy_until = None
        if encoder.late:
            encoder.late = False
            return
        self._counts["encoded"] += 1
        if min(self._finest + 1, len(self._source.names)) <= self._source.early:
            return
        if encoder.slot is not None and encoder.next_start <= now:
            self._counts["pictures_skipped"] += 1
        else:
            encoder.late, encoder.busy_until = True, now + self._source.late_seconds

    def _submit(self, place: int, number: int, stamp_ns: int, blocks: Sequence[Block], now: float) -> None:
        self._scheduler.submit(str(place), number & 0xFFFF, stamp_ns, blocks, now)


def _ready(encoder: _Encoder) -> bool:
    return encoder.busy_until is None and encoder.slot is not None


class BlockReceiver:
    """`Receiver` of packets: pieces are assembled, blocks go through `decoders`, one for each camera, and every fresh
    reading is an answer `seconds` later."""

    def __init__(
        self,
        cameras: Sequence[Camera],
        decoders: Sequence[Any],
        names: Sequence[str],
        seconds: float,
        levels: int,
        tap: Callable[[int, int, int, bytes, float], None] | None = None,
    ) -> None:
        self._cameras, self._decoders, self._names = cameras, decoders, names
        self._seconds, self._levels, self._tap = seconds, levels, tap
        self._assemblers = [PieceAssembler() for _ in cameras]
        self._stamps: list[dict[int, int]] = [{} for _ in cameras]
        self._numbers: list[int] = [0 for _ in cameras]
        self._near = [0 for _ in cameras]
        self._worker = Waiting()

    def push(self, camera: int, payload: bytes, now: float) -> list[Answer]:
        """The readings that a packet makes."""
        try:
            packet = Packet.parse(payload)
        except PacketError:
            return []
        number = self._number(camera, packet.frame)
        if packet.stamp is not None:
            stamp = restore_stamp(packet.stamp, self._near[camera])
            self._stamps[camera][number] = self._near[camera] = stamp
        if packet.piece is None:
            blocks = packet.blocks
        else:
            whole = self._assemblers[camera].add(packet)
            blocks = () if whole is None else (whole,)
        answers = []
        for block in blocks:
            if self._tap is not None:
                self._tap(camera, number, block.index, block.data, now)
            try:
                reading = self._decoders[camera].push(block)
            except PacketError:
                continue
            stamp_ns = self._stamps[camera].get(number)
            if reading is None or not reading.fresh or stamp_ns is None:
                continue
            answers.append((reading, stamp_ns, block.index))
        if not answers:
            return []
        ready = self._worker.done(now, self._seconds)
        return [
            Answer(
                camera,
                number,
                stamp_ns,
                now,
                ready,
                min(reading.level, self._levels - 1),
                reading.prefix,
                reading.detections,
                self._names[index],
            )
            for reading, stamp_ns, index in answers
        ]

    def anchor(self, camera: int, stamp_ns: int) -> None:
        """What the stream's description tells of the source's clock."""
        self._near[camera] = stamp_ns

    def _number(self, camera: int, frame: int) -> int:
        """The frame's whole number: the one nearest to the newest that ends in these 16 bits."""
        newest = self._numbers[camera]
        number = newest + (frame - newest + 0x8000) % 0x10000 - 0x8000
        self._numbers[camera] = max(newest, number)
        return number


class SemhierSource:
    """Blocks of the model."""

    def __init__(self, reader: Reader, costs: Costs) -> None:
        self._reader = reader
        self.names, self.early = reader.block_names, reader.semantic_blocks
        self.early_seconds, self.late_seconds = costs.semantic, costs.picture

    def made(self, camera: Camera, number: int, late: bool) -> Sequence[Block]:
        """A frame's semantic blocks, or with `late` those of its picture."""
        blocks = self._reader.blocks(camera, number, whole=late)
        return blocks[self.early :] if late else blocks[: self.early]


class SemhierStream:
    """Our own stream: blocks, coarse meaning first. `finest`: the last block that is sent (None: all)."""

    name = "semhier"

    def __init__(
        self,
        reader: Reader,
        costs: Costs,
        *,
        max_rate: float = 0.0,
        finest: int | None = None,
        repeats: int = 1,
    ) -> None:
        self._reader, self._costs, self._max_rate = reader, costs, max_rate
        self._finest = len(reader.block_names) - 1 if finest is None else finest
        self._policies = default_policies(len(reader.block_names), reader.semantic_blocks, repeats=repeats)
        self.purposes = reader.block_names
        self.tap: Callable[[int, int, int, bytes, float], None] | None = None

    @property
    def setting(self) -> str:
        """What is sent, in words."""
        most = f"at most {self._max_rate:g} frames/s" if self._max_rate else "every frame that the encoder can take"
        return f"{self._reader.codec.name}, blocks to {self._reader.block_names[self._finest]}, {most}"

    def sender(self, cameras: Sequence[Camera], rate: float) -> BlockSender:
        """The robot's end."""
        source = SemhierSource(self._reader, self._costs)
        return BlockSender(cameras, source, self._policies, rate, max_rate=self._max_rate, finest=self._finest)

    def receiver(self, cameras: Sequence[Camera]) -> BlockReceiver:
        """The base's end."""
        decoders = [self._reader.decoder(camera.size, KEEP_FRAMES) for camera in cameras]
        return BlockReceiver(
            cameras, decoders, self._reader.block_names, self._costs.read, self._reader.levels, self.tap
        )
