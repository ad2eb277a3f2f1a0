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

from semhier_ros.codec.packet import Block, Packet, PieceAssembler, restore_stamp, split
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
from semhier_ros.link.zenoh.transport import ZenohReceiver, ZenohSender

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


def wait_for_go() -> float:
    """Prints "ready" and waits; the wall-clock time (ns) at which the run began."""
    print("ready", flush=True)
    line = sys.stdin.readline()
    if not line.startswith("go"):
        sys.exit(3)
    return time.time_ns()


def send(plan: dict[str, Any]) -> None:
    """Encodes each camera's newest frame as the link advises, and sends it."""
    from semhier_ros.api import Codec
    from semhier_ros.scene.budget import Motion

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
    options = ZenohOptions(connect=(plan["endpoint"],))
    with LinkSender(scheduler, options, budget=budget) as link, Path(plan["log"]).open("w", encoding="utf-8") as log:
        for place, camera in enumerate(cameras):
            info = StreamInfo(
                camera=camera.name,
                frame_id="",
                width=camera.size[0],
                height=camera.size[1],
                model=codec.name,
                stream_hash=codec.stream_hash,
                model_hash=codec.model_hash,
                stamp_ns=time.time_ns(),
            )
            link.set_info(camera.name, info.to_bytes())
            link.set_weight(camera.name, plan["weights"][place])
        if not link.wait_connected(CONNECT_SECONDS):
            sys.exit("no receiver answered")
        time.sleep(SETTLE_SECONDS)
        start = wait_for_go()
        period = 1e9 / plan["frames_per_second"]
        due = [start + place * period / len(cameras) for place in range(len(cameras))]
        taken = [-1] * len(cameras)
        motions = [Motion() for _ in cameras]
        end = start + plan["seconds"] * 1e9
        while (now := time.time_ns()) < end:
            place = min(range(len(cameras)), key=lambda each: max(due[each], start + (taken[each] + 1) * period))
            when = max(due[place], start + (taken[place] + 1) * period)
            if when > now:
                time.sleep(min((when - now) / 1e9, 0.05))
                continue
            camera = cameras[place]
            number = min(int((now - start) / period), len(camera) - 1)
            if number <= taken[place]:
                break
            taken[place] = number
            advice = link.advice(camera.name, plan["frames_per_second"])
            due[place] = max(due[place] + 1e9 / advice.frames_per_second, now - 0.5e9 / advice.frames_per_second)
            stamp = round(start + number * period)
            _encode(codec, link, camera, number, stamp, advice.semantic_bytes, motions[place], made, period, log)
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


def _encode(
    codec: Any,
    link: LinkSender,
    camera: Clip,
    number: int,
    stamp: int,
    most: int | None,
    motion: Any,
    made: dict[str, list[Block]],
    period: float,
    log: Any,
) -> None:
    begin = time.time_ns()
    known = made.get(camera.key(number))
    if known is not None:
        blocks = [Block(block.stream, number & 0xFFFF, block.index, block.data) for block in known]
        semantic, steps = blocks[: codec.semantic_blocks], iter(blocks[codec.semantic_blocks :])
    else:
        steps = codec.encode_stepwise(camera.image(number), frame=number & 0xFFFF, max_bytes=most, motion=motion)
        semantic = [block for _, block in zip(range(codec.semantic_blocks), steps, strict=False)]
    done = time.time_ns()
    link.offered(camera.name, semantic)
    link.pacer.submit(camera.name, number & 0xFFFF, stamp, semantic)
    # The picture's networks run only while the next frame is not due yet.
    picture = list(steps) if known is not None or time.time_ns() < stamp + period else []
    if picture:
        link.pacer.submit(camera.name, number & 0xFFFF, stamp, picture)
    entry = {
        "camera": camera.name,
        "frame": number,
        "stamp": stamp,
        "begun": begin,
        "encoded": done,
        "bytes": [len(block.data) for block in [*semantic, *picture]],
    }
    log.write(json.dumps(entry) + "\n")


def receive(plan: dict[str, Any]) -> None:
    """Decodes what comes and writes a line for every reading that got better."""
    from semhier_ros.api import Codec

    codec = Codec.load(plan["model"], plan["device"], threads=1)
    size = tuple(plan["size"])
    decoders = {name: codec.decoder(size, keep_frames=32) for name in plan["cameras"]}
    pieces = {name: PieceAssembler() for name in plan["cameras"]}
    stamps: dict[tuple[str, int], int] = {}
    lock = threading.Lock()
    useful = 0
    with Path(plan["log"]).open("w", encoding="utf-8") as log:

        def take(camera: str, level: int, payload: bytes) -> None:
            nonlocal useful
            packet = Packet.parse(payload)
            with lock:
                if packet.stamp is not None:
                    stamps[camera, packet.frame] = restore_stamp(packet.stamp, time.time_ns())
                whole = None if packet.piece is None else pieces[camera].add(packet)
                if packet.piece is not None:
                    useful += len(payload)
                for block in packet.blocks if packet.piece is None else [whole] if whole is not None else []:
                    reading = decoders[camera].push(block)
                    if reading is None or not reading.fresh:
                        continue
                    useful += 0 if packet.piece is not None else len(block.data)
                    entry = {
                        "camera": camera,
                        "frame": packet.frame,
                        "stamp": stamps.get((camera, packet.frame)),
                        "at": time.time_ns(),
                        "prefix": reading.prefix,
                        "detections": pack_detections(reading.detections),
                    }
                    log.write(json.dumps(entry) + "\n")

        with LinkReceiver(ZenohOptions(listen=(plan["endpoint"],)), take) as link:
            _listen(link)
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
