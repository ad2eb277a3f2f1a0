"""The two ends of a codec's stream as processes, over a link: python -m semhier_ros.lab.replay.ends send|receive PLAN

A plan, a JSON file, says which codec with which setting, its footage, its budget and where to connect. Blocks (semhier,
answer) go through the very ends that the nodes drive, whole pictures and video through those of a `SendingStream`. Each
process prints "ready"; the sender then waits for "go" on its input. What happened goes to a file of JSON lines. Stamps
and arrivals are wall-clock nanoseconds of one machine.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from semhier_ros.api import Codec
from semhier_ros.camera.decoder_end import DecoderEnd, Output
from semhier_ros.camera.encoder_end import BlocksMaker, EncoderEnd, EncoderSettings, Job, Opened, PictureMaker
from semhier_ros.camera.fleet import Fleet, Limits
from semhier_ros.camera.worker import EncodeWorker, FleetWorker
from semhier_ros.codec.compact import stamp_units
from semhier_ros.codec.packet import Block, Packet, split
from semhier_ros.codec.reading import Detection
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.footage.bags import open_bag
from semhier_ros.footage.clip import clips
from semhier_ros.lab.baselines.answer import AnswerStream
from semhier_ros.lab.baselines.picture_files import PictureSetting
from semhier_ros.lab.baselines.pictures import PictureStream, SendingStream
from semhier_ros.lab.baselines.video import VideoSetting, VideoStream
from semhier_ros.lab.processes import until_ended
from semhier_ros.lab.replay.base import Answer, Costs
from semhier_ros.lab.replay.blocks import KEEP_FRAMES, BlockStream, SceneObjects, SemhierStream
from semhier_ros.lab.replay.reader import Reader
from semhier_ros.lab.replay.store import Store
from semhier_ros.lab.replay.task import BLOCKS
from semhier_ros.link.carriers import Carrier, carrier
from semhier_ros.link.schedule.policy import default_policies
from semhier_ros.link.transport import Datagram
from semhier_ros.link.zenoh.config import ZenohOptions
from semhier_ros.link.zenoh.transport import ZenohReceiver, ZenohSender

CONNECT_SECONDS = 30.0
SETTLE_SECONDS = 1.2
DRAIN_SECONDS = 1.0


def carrier_of(plan: dict[str, Any]) -> Carrier:
    """What carries the blocks of a plan."""
    key = plan.get("key")
    return carrier(plan["transport"], plan["settings"], None if key is None else bytes.fromhex(key))


def reader_of(plan: dict[str, Any]) -> Reader:
    """The plan's model and what is remembered of it."""
    return Reader.load(plan["model"], plan["device"], Store(Path(plan["store"])), threads=1)


def blocks_of(plan: dict[str, Any]) -> BlockStream:
    """The stream of a plan's blocks."""
    reader, costs = reader_of(plan), Costs(**plan["costs"])
    if plan["codec"] == "answer":
        return AnswerStream(reader, costs)
    return SemhierStream(reader, costs, motion=bool(plan.get("motion")), memory=bool(plan.get("memory")))


def pictures_of(plan: dict[str, Any]) -> SendingStream:
    """The stream of a plan's pictures or video."""
    reader, costs = reader_of(plan), Costs(**plan["costs"])
    if plan["codec"] == "h264":
        return VideoStream(reader, costs, VideoSetting(**plan["setting"]))
    return PictureStream(reader, costs, PictureSetting(**plan["setting"]))


# -- the robot's end --------------------------------------------------------------------------------------------------


class Imagined:
    """A `BlocksMaker` whose frames were made before: each takes as long as `costs` say, of which what is left once it
    is at hand is waited. The picture's cost falls on its first block, in which its networks would run."""

    def __init__(self, maker: BlocksMaker, costs: Costs) -> None:
        self._maker, self._costs = maker, costs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._maker, name)

    def open(self, source: int, frame: int, stamp_ns: int, max_bytes: int | None) -> Opened:
        due = time.monotonic() + self._costs.semantic
        opened = self._maker.open(source, frame, stamp_ns, max_bytes)
        return Opened(opened.size, self._in_time(opened.blocks, due))

    def _in_time(self, blocks: Iterator[Block], due: float) -> Iterator[Block]:
        asked = 0.0
        for block in blocks:
            if block.index == self._maker.semantic_blocks:
                due = asked + self._costs.picture
            time.sleep(max(0.0, due - time.monotonic()))
            yield block
            asked = time.monotonic()


def differing(camera: Any) -> range:
    """The numbers of a camera's frames that are none's repetition."""
    return range(min(len(camera), getattr(camera, "distinct", len(camera))))


def encode_before(reader: Reader, cameras: Sequence[Any], whole: bool) -> None:
    """Encodes every frame that differs, and finds its objects, so that both are at hand when a run wants them. whole:
    picture blocks too."""
    for camera in cameras:
        found = SceneObjects(reader, camera) if hasattr(reader.codec.model, "encode_objects") else None
        for number in differing(camera):
            reader.encoded(camera, number, whole)
            if found is not None:
                found(number)


def makers_of(plan: dict[str, Any], cameras: Sequence[Any], radio: bool) -> list[Any]:
    """What turns each camera's frames into blocks. radio: they go over compact frames."""
    costs, remembers, motion = Costs(**plan["costs"]), bool(plan.get("memory")), bool(plan.get("motion"))
    if plan.get("imagined"):
        stream = blocks_of(plan)
        encode_before(stream.reader, cameras, whole=plan["codec"] == "semhier")
        return [Imagined(stream.maker(camera, radio), costs) for camera in cameras]
    if plan["codec"] == "answer":
        bare = AnswerStream(reader_of(plan), costs)
        bare.reader.codec.prepare_encoding()
        return [bare.live_maker(camera) for camera in cameras]
    codec = Codec.load(plan["model"], plan["device"], threads=1)
    codec.prepare_encoding()
    return [
        PictureMaker(codec, camera.image, codec.memory(radio=radio) if remembers else None, measure=motion)
        for camera in cameras
    ]


def send_blocks(plan: dict[str, Any], cameras: Sequence[Any], log: Any) -> None:
    """Encodes and sends each camera's frames as the encoder node does."""
    way = carrier_of(plan)
    makers = makers_of(plan, cameras, way.radio)
    policies = default_policies(len(makers[0].block_names), makers[0].semantic_blocks)
    heard: dict[str, EncoderEnd] = {}

    def on_memory(camera: str, memory: bytes) -> bool:
        return camera in heard and heard[camera].heard(memory)

    repeats = plan.get("repeats", -1)
    with way.sender(
        Packet.pack, split, policies, budget=plan["budget"] or None, repeats=repeats, on_memory=on_memory
    ) as link:
        settings = EncoderSettings(max_rate=plan.get("frames_per_second", 0.0), keep_frames=0)
        ends = [
            EncoderEnd(
                camera.name,
                maker,
                link,
                lambda info, changed: link.set_info(info.camera, info.to_bytes(), changed),
                settings,
            )
            for camera, maker in zip(cameras, makers, strict=True)
        ]
        heard |= {end.camera: end for end in ends}
        for camera, weight in zip(cameras, plan.get("weights", [1.0] * len(cameras)), strict=True):
            link.set_weight(camera.name, weight)
        start = _connected(link)
        notes = _Notes(log, start, cameras)
        worker = EncodeWorker(ends, notes.failed, on_job=notes.done)
        apart = cameras[0].times_ns[1] / len(ends) if len(cameras[0]) > 1 else 0.0  # cameras take turns
        for number, time_ns in enumerate(cameras[0].times_ns):
            for place, end in enumerate(ends):
                time.sleep(max(0.0, (start + time_ns + place * apart - time.time_ns()) / 1e9))
                worker.offer(end, number, start + time_ns, "")
        end_ns = start + (plan["seconds"] * 1e9 if "seconds" in plan else cameras[0].times_ns[-1] + 1e9)
        time.sleep(max(0.0, (end_ns - time.time_ns()) / 1e9))
        worker.close()
        time.sleep(DRAIN_SECONDS)
        status = link.status()
        counters = dict(link.counters)
        for name, level in zip(makers[0].block_names, status.levels, strict=False):
            counters |= {f"sent_{name}": level.sent, f"dropped_{name}": level.dropped}
        _summary(log, start=start, wire_bytes=status.wire_bytes, counters=counters)


class _Notes:
    """When the meaning of every frame was made: a line each."""

    def __init__(self, log: Any, start: int, cameras: Sequence[Any]) -> None:
        self._log, self._apart = log, time.time_ns() / 1e9 - time.monotonic()
        self._numbers = {
            camera.name: {start + time_ns: number for number, time_ns in enumerate(camera.times_ns)}
            for camera in cameras
        }

    def done(self, end: EncoderEnd, job: Job) -> None:
        """An encoder's job is done."""
        if job.kind == "meaning":
            begun = round((job.begun + self._apart) * 1e9)
            told = {"camera": end.camera, "frame": self._numbers[end.camera][job.frame.stamp_ns], "begun": begun}
            _line(self._log, told | {"encoded": begun + round(end.encode_seconds * 1e9)})

    def failed(self, end: EncoderEnd, job: Job, error: Exception) -> None:
        """A frame could not be encoded: no run goes on after that."""
        print(f"{end.camera}, frame {job.frame.number}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)


def send_pictures(plan: dict[str, Any], cameras: Sequence[Any], log: Any) -> None:
    """Sends a stream's datagrams when they are due."""
    stream = pictures_of(plan)
    if plan.get("imagined") and isinstance(stream, PictureStream):
        for camera in cameras:
            for number in differing(camera):
                stream.file(camera, number)
    sender = stream.sender(cameras, plan["budget"])
    link = ZenohSender(ZenohOptions(connect=(plan["endpoint"],)))
    with link:
        start = _connected(link)
        frames = sorted(
            (at, place, number) for place, one in enumerate(cameras) for number, at in enumerate(one.times_ns)
        )
        last, place, sent = frames[-1][0] / 1e9, 0, 0
        while True:
            now = (time.time_ns() - start) / 1e9
            while place < len(frames) and frames[place][0] / 1e9 <= now:
                at, camera, number = frames[place]
                sender.offer(camera, number, start + at, now)
                place += 1
            while (departure := sender.pop((time.time_ns() - start) / 1e9)) is not None:
                name = cameras[departure.camera].name
                link.send(Datagram(name, 0, departure.payload, departure.wire_bytes, 5, 0, 0, (0,)))
                sent += departure.wire_bytes
            now = (time.time_ns() - start) / 1e9
            times = [frames[place][0] / 1e9] if place < len(frames) else []
            event = sender.next_event(now)
            times += [] if event is None else [event]
            if not times or now > last + 5.0:
                break
            time.sleep(min(max(min(times) - now, 0.0005), 0.5))
        time.sleep(DRAIN_SECONDS)
        _summary(log, start=start, wire_bytes=sent, counters=sender.counters)


def _connected(link: Any) -> int:
    """Waits for the receiver, says "ready" and waits for "go"; the wall-clock time (ns) at which the run began."""
    if not link.wait_connected(CONNECT_SECONDS):
        sys.exit("no receiver answered")
    time.sleep(SETTLE_SECONDS)
    print("ready", flush=True)
    if not sys.stdin.readline().startswith("go"):
        sys.exit(3)
    return time.time_ns()


# -- the base's end ---------------------------------------------------------------------------------------------------


def receive_blocks(plan: dict[str, Any], cameras: Sequence[Any], log: Any) -> None:
    """Decodes what comes as the decoder node does while nobody looks at its pictures, and writes a line for every
    reading that got better. Where costs are imagined, a reading that is at hand sooner than they say is there when they
    say, and picture blocks stay as they came: no reading waits for them."""
    imagined = bool(plan.get("imagined"))
    if imagined or plan["codec"] == "answer":
        stream = blocks_of(plan)
        codec = stream.codec
        if imagined:
            encode_before(stream.reader, cameras, whole=False)  # what was read before is not read again
    else:
        codec = Codec.load(plan["model"], plan["device"], threads=1)
    arrived, reading_until = 0, 0
    costs_ns = round(plan["costs"]["read"] * 1e9) if imagined else 0

    def tap(camera: str, block: Block, stamp_ns: int) -> None:
        nonlocal arrived
        arrived = time.time_ns()

    def write(camera: str, output: Output) -> None:
        nonlocal reading_until
        reading, at = output.reading, time.time_ns()
        if imagined:
            at = reading_until = max(at, max(arrived, reading_until) + costs_ns)
        entry = {"camera": camera, "stamp": output.stamp_ns, "at": at, "level": reading.level}
        _line(log, {**entry, "prefix": reading.prefix, "detections": reading.detections})

    names = [camera.name for camera in cameras]
    remembers = plan.get("memory", False)
    by_hash, how = {codec.stream_hash: codec}, {"memory": remembers, "pictures_later": True}
    ends = {name: DecoderEnd(name, by_hash, KEEP_FRAMES, lambda kind, text: None, tap=tap, **how) for name in names}
    worker = FleetWorker(
        Fleet(
            ends,
            Limits(),
            on_reading=write,
            on_picture=lambda camera, rgb, output: None,
            wants_picture=lambda end, output: False,
            on_error=lambda error: print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True),
            report=lambda kind, text: print(text, file=sys.stderr, flush=True),
            pictures=lambda: not imagined,
        )
    )
    with carrier_of(plan).receiver(
        lambda camera, level, packet: worker.put(camera, packet),
        lambda camera, info: worker.put(camera, StreamInfo.from_bytes(info)),
        remembers=lambda camera: ends[camera].acknowledgement if camera in ends else None,
        unread=lambda camera: camera in ends and ends[camera].unread,
        cameras=names,
    ) as link:
        _listen(link)
        worker.close()


def receive_pictures(plan: dict[str, Any], cameras: Sequence[Any], log: Any) -> None:
    """Writes every payload with its arrival."""
    lock = threading.Lock()

    def take(camera: str, level: int, payload: bytes) -> None:
        with lock:
            _line(log, {"camera": camera, "at": time.time_ns(), "payload": payload})

    with ZenohReceiver(ZenohOptions(listen=(plan["endpoint"],)), take) as link:
        _listen(link)


def _listen(link: Any) -> None:
    """Says "ready" once the session is open, and waits for the end."""
    stopping = until_ended()
    end = time.monotonic() + CONNECT_SECONDS
    while not link.open and time.monotonic() < end:
        time.sleep(0.01)
    print("ready", flush=True)
    stopping.wait()


def _summary(log: Any, **values: Any) -> None:
    _line(log, {"summary": values})


def _line(log: Any, entry: dict[str, Any]) -> None:
    log.write(msgspec.json.encode(entry).decode() + "\n")


# -- what came of it --------------------------------------------------------------------------------------------------


def read_log(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The entries of an end's log and its summary; a last line that was cut off is left out."""
    found: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return [one for one in found if "summary" not in one], next(
        (one["summary"] for one in found if "summary" in one), {}
    )


def answers_of(log: Path, cameras: Sequence[Any], start_ns: int, stream: Any = None) -> Iterator[Answer]:
    """What the base knew, by the run's time, from the log of a receiving end. stream: that of pictures or video, whose
    payloads are decoded and detected now, for as long as its costs say."""
    names = [camera.name for camera in cameras]
    # a compact frame tells a stamp in units of 8 ms
    numbers = [{stamp_units(start_ns + time): number for number, time in enumerate(one.times_ns)} for one in cameras]
    receiver = None if stream is None else stream.receiver(cameras)
    for entry in read_log(log)[0]:
        place, at = names.index(entry["camera"]), (entry["at"] - start_ns) / 1e9
        if receiver is not None:
            for item in receiver.push(place, msgspec.convert(entry["payload"], bytes), at):
                yield item._replace(stamp_ns=cameras[place].times_ns[item.number])
        elif (number := numbers[place].get(stamp_units(entry["stamp"]))) is not None:
            found = msgspec.convert(entry["detections"], tuple[Detection, ...])
            stamp = cameras[place].times_ns[number]
            yield Answer(place, number, stamp, at, at, entry["level"], entry["prefix"], found, "")


def main(role: str, file: str) -> None:
    """Entry point of both ends."""
    plan = json.loads(Path(file).read_text(encoding="utf-8"))
    cameras: list[Any] = list(open_bag(Path(plan["bag"])).cameras) if "bag" in plan else list(clips(plan))
    works = (send_blocks, send_pictures) if role == "send" else (receive_blocks, receive_pictures)
    with Path(plan["log"]).open("w", encoding="utf-8") as log:
        works[plan["codec"] not in BLOCKS](plan, cameras, log)


if __name__ == "__main__":
    main(*sys.argv[1:3])
