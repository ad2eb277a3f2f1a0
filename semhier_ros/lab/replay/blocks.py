"""Blocks over the measured link: `semhier`, and `answer` in packets of the same kind.

Both ends are the nodes' own: `camera.encoder_end` and `camera.decoder_end` with `LinkSender` and `LinkReceiver` between
them, over a hop in virtual time. So envelopes, reports, repeats by measured loss, rate control and the link's advice
are sent, followed and charged here as on a robot. What is imagined is what computing takes, and that no frame is
encoded twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import numpy as safetensors

from semhier_ros.camera.decoder_end import DecoderEnd, Output
from semhier_ros.camera.encoder_end import BlocksMaker, EncoderEnd, EncoderSettings, Job, Opened, PictureMaker
from semhier_ros.codec.compact import STAMP_UNIT_NS, stamp_units
from semhier_ros.codec.model import PictureFlow
from semhier_ros.codec.packet import Block
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.lab.replay.base import Answer, Camera, Costs, Run, Sent, TimedCamera, stamps_of
from semhier_ros.lab.replay.reader import Reader
from semhier_ros.lab.replay.store import digest
from semhier_ros.lab.ways import AirWay, ThinWay
from semhier_ros.link import default_policies
from semhier_ros.link.emulate.autopilot import both_ways
from semhier_ros.link.emulate.hop import Message, earliest
from semhier_ros.link.emulate.profile import LinkProfile
from semhier_ros.link.emulate.radio import RadioLink, RadioProfile
from semhier_ros.link.transport import Datagram
from semhier_ros.scene.budget import Motion
from semhier_ros.scene.objects import Objects

KEEP_FRAMES = 32
OTHERS_AFTER = 10.0
"""Seconds for which others go on beside us after the last picture."""
_PURPOSES = {"info": "description", "note": "note"}
UNPACED = frozenset(_PURPOSES.values())
"""What leaves at once, and is paid from the budget after it left."""


class BlockStream:
    """A stream of blocks. `codec`: what its decoding end reads with (`decoder`, hashes …); `finest`: the last block
    that is sent; `memory`: whether the decoding end remembers. max_rate: frames a second at most, 0 for all."""

    name: str
    memory = False

    def __init__(self, reader: Reader, costs: Costs, codec: Any, max_rate: float = 0.0, finest: int = 15) -> None:
        self.reader, self.costs, self.codec = reader, costs, codec
        self.max_rate, self.finest = max_rate, finest

    def maker(self, camera: Camera, radio: bool = False) -> BlocksMaker:
        """What turns a camera's frames, by number, into blocks. radio: they go over compact frames."""
        raise NotImplementedError

    def session(self, cameras: Sequence[TimedCamera], rate: float, link: LinkProfile, run: Run) -> BlockSession:
        return BlockSession(self, cameras, rate, link, run)


def camera_name(place: int) -> str:
    """What a session calls the camera at that place among its cameras."""
    return f"camera_{place}"


@dataclass(slots=True)
class _Processor:
    """What one camera's encoder works on, and until when."""

    end: EncoderEnd
    job: Job | None = None
    until: float = 0.0


class BlockSession:
    """`Session` of blocks. `rate`: the budget in wire bytes per second (0: none); `link`: of both directions, or a
    `RadioLink`: then frames go over its air, and nothing that a radio charges is left out."""

    def __init__(
        self, stream: BlockStream, cameras: Sequence[TimedCamera], rate: float, link: LinkProfile, run: Run
    ) -> None:
        self._stream, self._cameras, self._run = stream, cameras, run
        radio = link.radio if isinstance(link, RadioLink) else None
        makers = [stream.maker(camera, radio is not None) for camera in cameras]
        self._names, self._levels = makers[0].block_names, stream.reader.levels
        policies = default_policies(len(self._names), makers[0].semantic_blocks)
        self._counts: Counter[str] = Counter()
        self._places = {camera_name(place): place for place in range(len(cameras))}
        self._stamps = [stamps_of(camera) for camera in cameras]
        self._numbers = [{stamp: number for number, stamp in enumerate(stamps)} for stamps in self._stamps]
        self._rough = radio is not None
        if self._rough:
            for known in self._numbers:
                known |= {self._told(stamp): number for stamp, number in known.items()}
        self._read = 0.0  # when the base, which reads one thing at a time, has read all that came
        self.outputs: list[tuple[str, Output]] = []
        self._frames: list[tuple[int, int, str, bool]] = []
        self._way = ThinWay(link, self._message) if radio is None else self._radio(radio)
        self._clock = self._way.clock
        self._sender = self._way.send(policies, rate, on_memory=self._on_memory)
        settings = EncoderSettings(stream.max_rate)
        self._processors = []
        for name, maker in zip(self._places, makers, strict=True):
            end = EncoderEnd(name, maker, self._sender, self._announce, settings, count=self._count)
            self._sender.set_finest(name, stream.finest)
            self._processors.append(_Processor(end))
        codecs = {stream.codec.stream_hash: stream.codec}
        self._decoders = {
            name: DecoderEnd(
                name,
                codecs,
                KEEP_FRAMES,
                lambda kind, text: self._count(f"decoder_{kind}"),
                tap=self._block,
                memory=stream.memory,
            )
            for name in self._places
        }
        memory: dict[str, Any] = {
            "remembers": lambda camera: self._decoders[camera].acknowledgement,
            "unread": lambda camera: self._decoders[camera].unread,
        }
        self._way.receive(self._datagram, self._info, **(memory if stream.memory else {}))
        if radio is not None:
            self._sender.transport.on_frame = self._radio_frame  # type: ignore[attr-defined]

    def _radio(self, radio: RadioProfile) -> AirWay:
        seconds = max(camera.times_ns[-1] for camera in self._cameras) / 1e9 + OTHERS_AFTER
        return AirWay(radio, others=both_ways(radio.others, seconds) if radio.others else ())

    # -- in the caller's time -----------------------------------------------------------------------------------------

    def arrive(self, now: float) -> None:
        self._clock.set(now)
        self._way.hop.deliver()

    def offer(self, camera: int, number: int, stamp_ns: int, now: float) -> None:
        """The ends go by the frame's own stamp, as those of a robot do; `stamp_ns` is its time."""
        self._processors[camera].end.offer(number, self._stamps[camera][number], "", now)

    def work(self, now: float) -> None:
        for processor in self._processors:
            self._encode(processor, now)
        self._way.hop.tick()
        self._sender.advance()

    def next_event(self, now: float) -> float | None:
        times = [one.end.next_event(now) if one.job is None else one.until for one in self._processors]
        return earliest(*times, self._sender.due, self._way.next_arrival)

    def next_duty(self, now: float) -> float | None:
        return self._way.next_duty

    def finish(self) -> None:
        """Notes what is known at the end: frames on a radio's air; frames offered and encoded, pictures skipped, what
        the ends of the link counted, and per block `sent_` and `dropped_`; what the link did."""
        if isinstance(self._way, AirWay):
            frames = [one for one in self._way.hop.air.log if one.end == 0 and not one.other]
            self._run.sent = [
                Sent(one.began, place, number, one.size, purpose, repeat, one.cause)
                for one, (place, number, purpose, repeat) in zip(frames, self._frames, strict=False)
            ]
        result = {"offered": 0, "encoded": 0, "pictures_skipped": 0} | self._counts
        result["offered"] = result.pop("images", 0)
        for name, level in zip(self._names, self._sender.status().levels, strict=False):
            result |= {f"sent_{name}": level.sent, f"dropped_{name}": level.dropped}
        heard = self._sender.counters
        self._run.counters = result | {name: heard.get(name, 0) for name in ("reports", "info_puts")}
        self._run.link = self._way.counts()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _count(self, name: str) -> None:
        self._counts[name] += 1

    def _on_memory(self, camera: str, memory: bytes) -> bool:
        self._counts["memory_reports"] += 1
        return self._processors[self._places[camera]].end.heard(memory)

    def _announce(self, info: StreamInfo, changed: bool) -> None:
        self._sender.set_info(info.camera, info.to_bytes(), changed)

    def _encode(self, processor: _Processor, now: float) -> None:
        """Lets an encoder do what it has done by `now`."""
        end = processor.end
        while True:
            if processor.job is not None:
                if processor.until > now:
                    return
                processor.job.run()
                self._weigh(processor)
                end.finish(processor.job, processor.until)
            processor.job = job = end.begin(now)
            if job is None:
                return
            processor.until = now + job_seconds(job, self._stream.costs)

    def _weigh(self, processor: _Processor) -> None:
        """Counts the payload bytes of a frame's names, blocks to the last level or its delta, and notes what a sender
        with memory goes by."""
        end, job = processor.end, processor.job
        if job is None or job.kind != "meaning":
            return
        tag = self._stream.codec.stream_tag
        names = [block for block in job.blocks if block.index < self._levels]
        self._counts["names_bytes"] += sum(len(block.data) for block in names)
        key = self._places[end.camera], self._numbers[self._places[end.camera]][job.frame.stamp_ns]
        self._run.numbers[key], self._run.stamps[key] = job.frame.number, self._told(job.frame.stamp_ns)
        if names and names[0].stream != tag:
            self._run.deltas[key] = names[0].data
            self._counts["delta_bytes"] += len(names[0].data)
        elif self._stream.memory:
            self._run.wholes[key] = tuple(block.data for block in job.blocks)

    def _told(self, stamp_ns: int) -> int:
        """A frame's stamp as a receiver knows it: a radio's frames tell it in units of 8 ms."""
        return stamp_units(stamp_ns) * STAMP_UNIT_NS if self._rough else stamp_ns

    def _message(self, message: Message) -> None:
        if message.kind in ("request", "query"):
            return
        place, datagram = self._places[message.camera], message.datagram
        number, purpose, repeat = -1, _PURPOSES.get(message.kind, ""), False
        if datagram is not None:
            number = self._numbers[place][datagram.stamp_ns]
            purpose, repeat = self._names[datagram.level], datagram.copy > 0
        self._run.sent.append(Sent(message.time, place, number, message.wire_bytes, purpose, repeat, message.cause))

    def _radio_frame(self, camera: str, datagram: Datagram | None) -> None:
        place = self._places[camera]
        if datagram is None or not datagram.blocks:
            self._frames.append((place, -1, "description", False))
            return
        number = self._numbers[place][datagram.stamp_ns]
        self._frames.append((place, number, self._names[datagram.level], datagram.copy > 0))

    def _datagram(self, camera: str, level: int, packet: bytes) -> None:
        now = self._clock.now()
        self._outputs(camera, self._decoders[camera].datagram(packet, now), now)

    def _info(self, camera: str, data: bytes) -> None:
        now = self._clock.now()
        self._outputs(camera, self._decoders[camera].describe(StreamInfo.from_bytes(data), now), now)

    def _outputs(self, camera: str, outputs: Sequence[Output], now: float) -> None:
        changed = [output for output in outputs if output.changed]
        if not changed:
            return
        self.outputs += [(camera, output) for output in changed]
        place = self._places[camera]
        ready = self._read = max(now, self._read) + self._stream.costs.read
        for output in changed:
            reading, number = output.reading, self._numbers[place][output.stamp_ns]
            if reading.level < min(reading.prefix, self._levels - 1):
                continue  # the same reading, cut for the topic of a coarser level
            purpose = self._names[min(reading.prefix, len(self._names) - 1)]
            found = (reading.level, reading.prefix, reading.detections, purpose)
            self._run.answers.append(Answer(place, number, self._cameras[place].times_ns[number], now, ready, *found))

    def _block(self, camera: str, block: Block, stamp_ns: int) -> None:
        place = self._places[camera]
        name = (place, self._numbers[place][stamp_ns], block.index)
        self._run.blocks.append((*name, self._clock.now()))
        self._run.parts[name] = block.data
        if block.motion:
            self._run.motions[name[:2]] = block.motion


def job_seconds(job: Job, costs: Costs) -> float:
    """What a job takes: a frame's meaning, the first block of its picture, in which the picture's networks run, and
    nothing for the others."""
    if job.kind == "meaning":
        return costs.semantic
    return costs.picture if job.first else 0.0


class SceneObjects:
    """The objects that the detector finds in a camera's frames, found once and kept in the reader's store."""

    def __init__(self, reader: Reader, camera: Camera) -> None:
        self._reader, self._camera = reader, camera

    def __call__(self, number: int) -> Objects:
        reader, camera = self._reader, self._camera
        key = digest(camera.key(number), reader.codec.model_hash, camera.size)
        return Objects(**safetensors.load(reader.store.made("found", key, lambda: self._find(number))))

    def _find(self, number: int) -> bytes:
        model: Any = self._reader.codec.model
        found = vars(model.find(self._camera.image(number)))
        return safetensors.save({name: np.ascontiguousarray(part) for name, part in found.items()})

    def moved(self, number: int, before: int | None) -> NDArray[np.float64] | None:
        """How much each object of a frame moved since frame `before` (`Motion.update`)."""
        motion = Motion()
        if before is not None:
            motion.update(self(before).boxes)
        return motion.update(self(number).boxes)


class StoredMaker(PictureMaker):
    """A `PictureMaker` whose sources are a camera's frame numbers, of frames that are encoded once."""

    def __init__(self, reader: Reader, camera: Camera, memory: Any = None, motion: bool = False) -> None:
        super().__init__(reader.codec, camera.image, memory, measure=motion)
        self._reader, self._camera, self._objects = reader, camera, SceneObjects(reader, camera)
        self._before: int | None = None

    def open(self, source: int, frame: int, stamp_ns: int, max_bytes: int | None) -> Opened:
        self.look()
        before, self._before = self._before, source
        flow = None if self._flow is None else self._flow.of(stamp_ns)
        if self.memory is not None:
            self.memory.begin(frame, stamp_ns)
        elif max_bytes is None:
            return Opened(self._camera.size, self._whole(source, frame, flow))
        return Opened(self._camera.size, self._pared(source, frame, max_bytes, before, flow))

    def _whole(self, number: int, frame: int, flow: PictureFlow | None) -> Iterator[Block]:
        model: Any = self._reader.codec.model
        for index in range(len(self.block_names)):
            data = self._reader.encoded(self._camera, number, index >= self.semantic_blocks).blocks[index]
            motion = b"" if index or flow is None else model.motion_part(model.decode(0, data, None), flow)
            yield Block(self._reader.codec.stream_tag, frame, index, data, motion)

    def _pared(
        self, number: int, frame: int, max_bytes: int | None, before: int | None, flow: PictureFlow | None
    ) -> Iterator[Block]:
        codec, image = self._reader.codec, lambda: self._camera.image(number)
        if not hasattr(codec.model, "encode_objects"):
            yield from codec.encode_stepwise(image(), frame=frame, max_bytes=max_bytes)
            return
        model: Any = codec.model
        objects = self._objects(number)
        moved = self._objects.moved(number, before)
        latents = lambda: model.analyse(image())  # noqa: E731
        more = {} if self.memory is None else {"memory": self.memory}
        made = model.encode_objects(objects, len(self.block_names), max_bytes, moved, latents, flow, **more)
        yield from codec.bounded(made, frame, max_bytes)


class SemhierStream(BlockStream):
    """Our own stream: blocks, coarse meaning first. finest: the last block that is sent (None: all). motion: it says
    how camera and objects move. memory: whether frames refer to what the receiver acknowledged."""

    name = "semhier"

    def __init__(
        self,
        reader: Reader,
        costs: Costs,
        *,
        max_rate: float = 0.0,
        finest: int | None = None,
        motion: bool = False,
        memory: bool = False,
    ) -> None:
        finest = min(len(reader.block_names) - 1, 15 if finest is None else finest)
        super().__init__(reader, costs, reader.codec, max_rate, finest)
        self._motion, self.memory = motion, memory

    @property
    def setting(self) -> str:
        """What is sent, in words."""
        most = f"at most {self.max_rate:g} frames/s" if self.max_rate else "every frame that encoder and link can take"
        more = (", with motion" if self._motion else "") + (", with memory" if self.memory else "")
        return f"{self.reader.codec.name}, blocks to {self.reader.block_names[self.finest]}, {most}{more}"

    def maker(self, camera: Camera, radio: bool = False) -> StoredMaker:
        memory = self.reader.codec.memory(radio=radio) if self.memory else None
        return StoredMaker(self.reader, camera, memory, self._motion)
