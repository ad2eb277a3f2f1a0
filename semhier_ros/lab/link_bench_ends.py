"""The processes of the link bench: python -m semhier_ros.lab.link_bench_ends ROLE PLAN.json

Roles: `send` and `receive` (blocks of the model), `send-stream` and `receive-stream` (JPEG, H.264). Each prints
"ready", a sender then waits for "go" on its input, and writes what happened to a file of JSON lines. Stamps and
arrivals are wall-clock nanoseconds of one machine.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from semhier_ros.camera.decoder_end import DecoderEnd, Output
from semhier_ros.camera.encoder_end import EncoderEnd, EncoderSettings, Job, Opened, PictureMaker
from semhier_ros.camera.worker import DecodeWorker, EncodeWorker
from semhier_ros.codec.packet import Block, Packet, split
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.lab.replay.store import pack_bytes, pack_detections
from semhier_ros.lab.streams.base import Costs, FrameStream
from semhier_ros.lab.studies.link_bench_clip import Clip
from semhier_ros.link.receiver import LinkReceiver
from semhier_ros.link.schedule.policy import default_policies
from semhier_ros.link.schedule.scheduler import Scheduler
from semhier_ros.link.schedule.wire import ZENOH_UDP
from semhier_ros.link.sender import LinkSender, measured
from semhier_ros.link.transport import Datagram
from semhier_ros.link.zenoh.config import ZenohOptions
from semhier_ros.link.zenoh.transport import ZenohReceiver, ZenohSender, receiving, sending

CONNECT_SECONDS = 30.0
SETTLE_SECONDS = 1.2
DRAIN_SECONDS = 1.0


def clips(plan: dict[str, Any]) -> list[Clip]:
    """The cameras of a plan."""
    count = round(plan["seconds"] * plan["frames_per_second"])
    return [
        Clip(Path(plan["clip"]), plan["frames_per_second"], count, name, 17 * place)
        for place, name in enumerate(plan["cameras"])
    ]


def wait_for_go() -> int:
    """Prints "ready" and waits; the wall-clock time (ns) at which the run began."""
    print("ready", flush=True)
    line = sys.stdin.readline()
    if not line.startswith("go"):
        sys.exit(3)
    return time.time_ns()


class _ClipMaker(PictureMaker):
    """Blocks of a clip's frames, by number; of those in `made` as they were encoded before."""

    def __init__(self, codec: Any, camera: Clip, made: dict[str, list[Block]]) -> None:
        super().__init__(codec, camera.image)
        self._camera, self._made = camera, made

    def open(self, source: int, frame: int, stamp_ns: int, max_bytes: int | None) -> Opened:
        known = self._made.get(self._camera.key(source))
        if known is None:
            return super().open(source, frame, stamp_ns, max_bytes)
        return Opened(self._camera.size, (Block(block.stream, frame, block.index, block.data) for block in known))


def send(plan: dict[str, Any]) -> None:
    """Encodes and sends each camera's frames as the encoder node does."""
    from semhier_ros.api import Codec

    codec = Codec.load(plan["model"], plan["device"], threads=1)
    cameras = clips(plan)
    codec.encode(cameras[0].image(0))
    made: dict[str, list[Block]] = {}
    if plan["encoded_before"]:
        for camera in cameras:
            for number in range(min(len(camera), camera.distinct)):
                made.setdefault(camera.key(number), codec.encode(camera.image(number)))
    policies = default_policies(len(codec.block_names), codec.semantic_blocks)
    budget = plan["budget"]
    scheduler = Scheduler(Packet.pack, split, policies, wire=measured(ZENOH_UDP), rate=budget)
    zenoh = sending(ZenohOptions(connect=(plan["endpoint"],)))
    with LinkSender(scheduler, zenoh, budget=budget) as link, Path(plan["log"]).open("w", encoding="utf-8") as log:
        settings = EncoderSettings(max_rate=plan["frames_per_second"], keep_frames=0)
        ends = [
            EncoderEnd(
                camera.name,
                _ClipMaker(codec, camera, made),
                link,
                lambda info, changed: link.set_info(info.camera, info.to_bytes(), changed),
                settings,
            )
            for camera in cameras
        ]
        for place, camera in enumerate(cameras):
            link.set_weight(camera.name, plan["weights"][place])
        if not link.wait_connected(CONNECT_SECONDS):
            sys.exit("no receiver answered")
        time.sleep(SETTLE_SECONDS)
        start = wait_for_go()
        with _Log(log, start, cameras) as notes:
            worker = EncodeWorker(ends, notes.failed, on_job=notes.done)
            period = 1e9 / plan["frames_per_second"]
            for number in range(len(cameras[0])):
                for place, end in enumerate(ends):
                    due = start + (number + place / len(ends)) * period
                    time.sleep(max(0.0, (due - time.time_ns()) / 1e9))
                    worker.offer(end, number, start + cameras[place].times_ns[number], "")
            time.sleep(max(0.0, (start + plan["seconds"] * 1e9 - time.time_ns()) / 1e9))
            worker.close()
        time.sleep(DRAIN_SECONDS)
        status, estimate = link.status(), link.estimate()
        summary = {
            "wire_bytes": status.wire_bytes,
            "rate": estimate.rate,
            "loss": estimate.loss,
            "burst": estimate.burst,
            "clock_offset": estimate.clock_offset,
            "counters": dict(link.counters),
        }
        log.write(json.dumps({"summary": summary}) + "\n")


class _Log:
    """What became of every frame: a line once its last block is made."""

    def __init__(self, log: Any, start: int, cameras: list[Clip]) -> None:
        self._log, self._apart = log, time.time_ns() / 1e9 - time.monotonic()
        self._numbers = {
            camera.name: {start + time_ns: number for number, time_ns in enumerate(camera.times_ns)}
            for camera in cameras
        }
        self._open: dict[str, dict[str, Any]] = {}

    def done(self, end: EncoderEnd, job: Job) -> None:
        """An encoder's job is done."""
        if job.kind == "meaning":
            self._write(end.camera)
            begun = round((job.begun + self._apart) * 1e9)
            self._open[end.camera] = {
                "camera": end.camera,
                "frame": self._numbers[end.camera][job.frame.stamp_ns],
                "stamp": job.frame.stamp_ns,
                "begun": begun,
                "encoded": begun + round(end.encode_seconds * 1e9),
                "bytes": [],
            }
        self._open[end.camera]["bytes"] += [len(block.data) for block in job.blocks]

    def failed(self, end: EncoderEnd, job: Job, error: Exception) -> None:
        """A frame could not be encoded: no run of the bench goes on after that."""
        print(f"{end.camera}, frame {job.frame.number}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)

    def _write(self, camera: str) -> None:
        entry = self._open.pop(camera, None)
        if entry is not None:
            self._log.write(json.dumps(entry) + "\n")

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *exception: object) -> None:
        for camera in list(self._open):
            self._write(camera)


def receive(plan: dict[str, Any]) -> None:
    """Decodes what comes as the decoder node does, and writes a line for every reading that got better."""
    from semhier_ros.api import Codec

    codec = Codec.load(plan["model"], plan["device"], threads=1)
    seen: set[tuple[str, int, int]] = set()
    useful = 0
    with Path(plan["log"]).open("w", encoding="utf-8") as log:

        def tap(camera: str, block: Block, stamp_ns: int) -> None:
            nonlocal useful
            if (camera, stamp_ns, block.index) not in seen:
                seen.add((camera, stamp_ns, block.index))
                useful += len(block.data)

        def write(camera: str, output: Output) -> None:
            reading = output.reading
            entry = {
                "camera": camera,
                "stamp": output.stamp_ns,
                "at": time.time_ns(),
                "prefix": reading.prefix,
                "detections": pack_detections(reading.detections),
            }
            log.write(json.dumps(entry) + "\n")

        ends = {
            name: DecoderEnd(name, {codec.stream_hash: codec}, 32, lambda kind, text: None, tap=tap)
            for name in plan["cameras"]
        }
        worker = DecodeWorker(
            ends,
            64,
            on_reading=write,
            on_picture=lambda camera, rgb, output: None,
            wants_picture=lambda end, output: False,
            on_error=lambda error: print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True),
        )
        zenoh = receiving(ZenohOptions(listen=(plan["endpoint"],)))
        with LinkReceiver(
            zenoh,
            lambda camera, level, packet: worker.put(camera, packet),
            lambda camera, info: worker.put(camera, StreamInfo.from_bytes(info)),
            cameras=plan["cameras"],
        ) as link:
            _listen(link)
            worker.close()
            log.write(json.dumps({"summary": {"useful_bytes": useful, "counters": dict(link.counters)}}) + "\n")


def _listen(link: Any) -> None:
    """Says "ready" once the session is open, and waits for the end."""
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    end = time.monotonic() + CONNECT_SECONDS
    while not link.open and time.monotonic() < end:
        time.sleep(0.01)
    print("ready", flush=True)
    stopping.wait()


def make_baseline(plan: dict[str, Any], cameras: list[Clip]) -> FrameStream:
    """The stream of a plan, its costs nothing: in a real run they are real."""
    from semhier_ros.lab.baselines.pictures import PictureSetting, PictureStream
    from semhier_ros.lab.baselines.video import VideoSetting, VideoStream
    from semhier_ros.lab.replay.reader import Reader
    from semhier_ros.lab.replay.store import Store

    reader = Reader.load(plan["model"], plan["device"], Store(Path(plan["store"])), threads=1)
    costs = Costs(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    if plan["codec"] == "h264":
        return VideoStream(reader, costs, VideoSetting(**plan["setting"]))
    return PictureStream(reader, costs, PictureSetting(**plan["setting"]))


def send_stream(plan: dict[str, Any]) -> None:
    """Sends a frame stream's datagrams when they are due."""
    cameras = clips(plan)
    sender = make_baseline(plan, cameras).sender(cameras, plan["budget"])
    link = ZenohSender(ZenohOptions(connect=(plan["endpoint"],)))
    with link, Path(plan["log"]).open("w", encoding="utf-8") as log:
        if not link.wait_connected(CONNECT_SECONDS):
            sys.exit("no receiver answered")
        time.sleep(SETTLE_SECONDS)
        start = wait_for_go()
        frames = sorted(
            (at, place, number) for place, one in enumerate(cameras) for number, at in enumerate(one.times_ns)
        )
        place, sent = 0, 0
        while True:
            now = (time.time_ns() - start) / 1e9
            while place < len(frames) and frames[place][0] / 1e9 <= now:
                at, camera, number = frames[place]
                sender.offer(camera, number, round(start + at), now)
                place += 1
            while (departure := sender.pop((time.time_ns() - start) / 1e9)) is not None:
                name = cameras[departure.camera].name
                link.send(Datagram(name, 0, departure.payload, departure.wire_bytes, 5, 0, 0, (0,)))
                sent += departure.wire_bytes
            now = (time.time_ns() - start) / 1e9
            times = [frames[place][0] / 1e9] if place < len(frames) else []
            event = sender.next_event(now)
            times += [] if event is None else [event]
            if not times or now > plan["seconds"] + 5.0:
                break
            time.sleep(min(max(min(times) - now, 0.0005), 0.5))
        time.sleep(DRAIN_SECONDS)
        log.write(json.dumps({"summary": {"wire_bytes": sent, "start": start, "counters": sender.counters()}}) + "\n")


def receive_stream(plan: dict[str, Any]) -> None:
    """Writes every payload with its arrival."""
    with Path(plan["log"]).open("w", encoding="utf-8") as log:
        lock = threading.Lock()

        def take(camera: str, level: int, payload: bytes) -> None:
            entry = json.dumps({"camera": camera, "at": time.time_ns(), "payload": pack_bytes(payload)})
            with lock:
                log.write(entry + "\n")

        with ZenohReceiver(ZenohOptions(listen=(plan["endpoint"],)), take) as link:
            _listen(link)


ROLES = {"send": send, "receive": receive, "send-stream": send_stream, "receive-stream": receive_stream}

if __name__ == "__main__":
    ROLES[sys.argv[1]](json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))
