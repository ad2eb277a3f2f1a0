"""Whether what a receiver remembers over a radio ever differs from what its sender takes it to remember.

Both ends of a camera are those of the nodes, over an emulated radio in virtual time: half duplex, answers in turns,
frames within what the air has room for, losses of frames and of words. Besides, some frames come twice and some
behind the next one, and now and then either end begins anew. The scene is made: objects that move, vanish and come
again. Every frame that refers to an earlier one and is read is held against what its sender takes it to say; and
every state that a word of the receiver names against those that the sender knows, but for those of an end that has
begun anew.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

from semhier_ros import options as shared
from semhier_ros.api import Codec
from semhier_ros.camera.decoder_end import DecoderEnd, Output
from semhier_ros.camera.encoder_end import EncoderEnd, EncoderSettings, Opened, PictureMaker
from semhier_ros.codec.compact import STAMP_UNIT_NS, stamp_units
from semhier_ros.codec.packet import delta_tag
from semhier_ros.codec.reading import Detection
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.lab.made_scenes import SIZE, codec_of, drive, with_features
from semhier_ros.lab.options import finish
from semhier_ros.lab.ways import AirWay
from semhier_ros.link.emulate.radio import RADIOS, RadioProfile, parse_radio
from semhier_ros.link.schedule.policy import default_policies

CAMERA = "front"
TWICE, BEHIND, ANEW = 0.02, 0.02, 0.002
"""Shares of frames that come twice, and behind the next one; of frames before which an end begins anew."""
KEPT = 16
"""Frames that the base keeps open."""
REMEMBERED = 256
"""Frames of which it is kept what they say."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.option(parser, "--frames", shared.whole(1, 100_000_000), 2000, "of the scene, for each radio")
    parser.add_argument(
        "--link",
        nargs="+",
        default=["serial9600", "acoustic"],
        help=f"of {', '.join(RADIOS)}, with changes (%(default)s)",
    )
    shared.option(parser, "--fps", shared.real(0.01, 100.0), 5.0, "frames a second")
    shared.option(parser, "--objects", shared.whole(1, 60), 10, "in the scene")
    shared.common(parser, shared.seed, shared.model, shared.json)


class _Maker(PictureMaker):
    """Blocks of made objects, with a memory."""

    def __init__(self, codec: Codec) -> None:
        super().__init__(codec, memory=codec.memory(radio=True))
        self._whole = codec

    def open(self, source: Any, frame: int, stamp_ns: int, max_bytes: int | None) -> Opened:
        model, memory = cast(Any, self._whole.model), self.memory
        assert memory is not None
        memory.begin(frame, stamp_ns)
        objects = with_features(model, source)
        made = model.encode_objects(objects, self.semantic_blocks, max_bytes, None, None, memory=memory)
        return Opened(SIZE, self._whole.bounded(made, frame, max_bytes))


class _Port:
    """A base's port to which some frames come twice, and some behind the next one."""

    def __init__(
        self, inner: Any, chance: random.Random, counts: Counter[str], on_frame: Callable[[bytes], None]
    ) -> None:
        self._chance, self._counts, self._on_frame = chance, counts, on_frame
        self._held: bytes | None = None
        self._inner = inner(self._take)

    def _take(self, frame: bytes) -> None:
        held, self._held = self._held, None
        if held is None and self._chance.random() < BEHIND:
            self._held = frame
            self._counts["behind"] += 1
            return
        self._on_frame(frame)
        if self._chance.random() < TWICE:
            self._counts["twice"] += 1
            self._on_frame(frame)
        if held is not None:
            self._on_frame(held)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Drift:
    """Both ends over one radio. `counts`: what happened."""

    def __init__(self, codec: Codec, profile: RadioProfile, fps: float, objects: int, seed: int) -> None:
        self.codec, self._fps, self._chance = codec, fps, random.Random(seed)
        model: Any = codec.model
        self._scene = drive(model.stream.layout, seed, objects)
        self.counts: Counter[str] = Counter()
        self._robot: EncoderEnd
        self._way = AirWay(profile)
        self._clock = self._way.clock
        self._truth: dict[tuple[int, int], Any] = {}
        self._robot_begins()
        self._base_begins()

    def _robot_begins(self) -> None:
        self._sender = self._way.send(
            default_policies(len(self.codec.block_names), self.codec.semantic_blocks),
            on_memory=lambda camera, memory: self._robot.heard(memory),
        )
        self._sender.set_finest(CAMERA, self.codec.semantic_blocks - 1)
        self._maker = _Maker(self.codec)
        self._robot = EncoderEnd(
            CAMERA,
            self._maker,
            self._sender,
            lambda info, changed: self._sender.set_info(CAMERA, info.to_bytes(), changed),
            EncoderSettings(accept_requests=False),
            first_frame=self._chance.randrange(65_536),
            count=self._count,
        )

    def _base_begins(self) -> None:
        self._base = DecoderEnd(CAMERA, self.codec.streams(), KEPT, self._told, memory=True)
        self._receiver = self._way.receive(
            lambda camera, level, data: self._read(self._base.datagram(data, self._clock.now())),
            lambda camera, data: self._read(self._base.describe(StreamInfo.from_bytes(data), self._clock.now())),
            through=lambda port: partial(_Port, port, self._chance, self.counts),
            remembers=lambda camera: self._base.acknowledgement,
        )

    def _count(self, name: str) -> None:
        self.counts[name] += 1

    def _told(self, kind: str, text: str) -> None:
        self.counts[kind] += 1

    def _read(self, outputs: list[Output]) -> None:
        for output in outputs:
            reading = output.reading
            told = self._truth.get((reading.frame, output.stamp_ns))
            if told is None or reading.level != self.codec.levels - 1:
                continue
            self.counts["compared"] += 1
            self.counts["differ"] += reading.detections != told

    def run(self, frames: int) -> None:
        """So many frames of the scene."""
        for number in range(frames):
            due = number / self._fps
            while self._clock.now() < due:
                self._way.step(due)
            for begins in (self._robot_begins, self._base_begins):
                if number and self._chance.random() < ANEW:
                    (self._sender if begins == self._robot_begins else self._receiver).close()
                    begins()
                    self.counts["restarts"] += 1
            self._robot.offer(next(self._scene), round(due * 1e9), "lens", due)
            self._encode()

    def _encode(self) -> None:
        now = self._clock.now()
        job = self._robot.begin(now)
        if job is None:
            return
        job.run()
        frame, stamp_ns = job.frame.number, job.frame.stamp_ns
        if job.kind == "meaning" and job.blocks[0].stream == delta_tag(self.codec.stream_tag):
            memory: Any = self._maker.memory
            self._truth[frame, stamp_units(stamp_ns) * STAMP_UNIT_NS] = self._said(memory.code(frame))
            self.counts["sent_deltas"] += 1
        self._robot.finish(job, now)
        while len(self._truth) > REMEMBERED:
            self._truth.pop(next(iter(self._truth)))

    def _said(self, code: Any) -> tuple[Detection, ...]:
        """What a sender takes a frame to say."""
        model: Any = self.codec.model
        found: tuple[Detection, ...] = model.read(code, self.codec.semantic_blocks - 1, SIZE)
        return found

    @property
    def lost(self) -> int:
        """Frames and words that the air lost."""
        return sum(self._way.hop.air.counters(end).get(cause, 0) for end in (0, 1) for cause in ("lost", "collided"))

    def close(self) -> None:
        """Ends both."""
        self._sender.close()
        self._receiver.close()


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What happened over each radio."""
    codec = codec_of(options.model)
    for name in options.link:
        drift = Drift(codec, parse_radio(name), options.fps, options.objects, options.seed)
        drift.run(options.frames)
        drift.close()
        told = {"sent": "encoded", "deltas": "sent_deltas", "refused": "refused_deltas"}
        told |= {kind: kind for kind in ("compared", "differ", "acknowledged", "acknowledged_unknown")}
        told |= {kind: kind for kind in ("twice", "behind", "restarts")}
        counts = {kind: drift.counts[of] for kind, of in told.items()}
        yield {"link": name, "frames": options.frames, **counts, "lost": drift.lost}


def run(options: argparse.Namespace) -> int:
    """Plays the scene over every radio; 1 where a frame differs."""
    result = {"rows": list(rows(options)), "fps": options.fps, "objects": options.objects}
    finish(result, options.json, "drift")
    return int(any(row["differ"] for row in result["rows"]))
