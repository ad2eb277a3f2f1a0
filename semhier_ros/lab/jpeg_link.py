"""The two ends of the JPEG reference as processes, over the same Zenoh transport as the blocks.

python -m semhier_ros.lab.jpeg_link send --bag BAG --connect udp/… --setting '{"scale": …}' --rate 8000
python -m semhier_ros.lab.jpeg_link receive --listen udp/… --out FOLDER
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from pathlib import Path

from semhier_ros.lab.baselines.jpeg_stream import Assembler, JpegSender, JpegSetting
from semhier_ros.lab.footage.bags import open_bag
from semhier_ros.link.transport import Datagram
from semhier_ros.link.zenoh.config import ZenohOptions
from semhier_ros.link.zenoh.transport import ZenohReceiver, ZenohSender

CAMERA = "jpeg"


def send(bag: Path, endpoint: str, setting: JpegSetting, rate: float, report: Path) -> int:
    """Plays the images of `bag` in their timing as JPEG pictures; writes what was begun to `report` as JSON.

    `rate`: wire bytes per second. Stamps are wall-clock times of the moment at which the camera gives the frame.
    """
    (frames,) = open_bag(bag).cameras
    sender = JpegSender(lambda number: setting.encode(frames.image(number)), setting, rate)
    stamps: list[int] = []
    link = ZenohSender(ZenohOptions(connect=(endpoint,)))
    with link:
        if not link.wait_connected(20.0):
            print("no receiver answered within 20 s", file=sys.stderr)
            return 1
        time.sleep(1.0)  # subscriptions are on their way
        print("connected", flush=True)
        zero = time.monotonic()
        while True:
            now = time.monotonic() - zero
            while len(stamps) < len(frames) and now >= frames.times_ns[len(stamps)] / 1e9:
                stamps.append(time.time_ns())
                sender.offer(len(stamps) - 1, stamps[-1])
            while (popped := sender.pop(now)) is not None:
                payload, wire_bytes = popped
                link.send(Datagram(CAMERA, 0, payload, wire_bytes, 5, 0, 0, (0,)))
            times = [time for time in (sender.next_departure(now),) if time is not None]
            if len(stamps) < len(frames):
                times.append(frames.times_ns[len(stamps)] / 1e9)
            if not times:
                break
            time.sleep(max(0.0002, min(times) - (time.monotonic() - zero)))
        time.sleep(0.3)
    report.write_text(json.dumps({"stamps": stamps, "begun": sender.started}) + "\n", encoding="utf-8")
    return 0


def receive(endpoint: str, out: Path) -> int:
    """Writes every complete picture to `out` and a line of JSON about it to `out`/arrivals.jsonl, until SIGINT."""
    out.mkdir(parents=True, exist_ok=True)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    assembler = Assembler()
    lock = threading.Lock()
    with (out / "arrivals.jsonl").open("w", encoding="utf-8") as lines:

        def take(camera: str, level: int, payload: bytes) -> None:
            arrival_ns = time.time_ns()
            with lock:
                whole = assembler.add(payload)
            if whole is None:
                return
            frame, stamp_ns, data = whole
            (out / f"{frame:05d}.jpg").write_bytes(data)
            entry = {"number": frame, "stamp_ns": stamp_ns, "arrival_ns": arrival_ns, "size": len(data)}
            lines.write(json.dumps(entry) + "\n")
            lines.flush()

        with ZenohReceiver(ZenohOptions(listen=(endpoint,)), take) as link:
            end = time.monotonic() + 10.0
            while not link.open and time.monotonic() < end:
                time.sleep(0.01)
            print("listening", flush=True)
            stopping.wait()
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Entry point of both ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ends = parser.add_subparsers(dest="end", required=True)
    sending = ends.add_parser("send")
    sending.add_argument("--bag", type=Path, required=True)
    sending.add_argument("--connect", required=True)
    sending.add_argument("--setting", type=json.loads, required=True)
    sending.add_argument("--rate", type=float, required=True)
    sending.add_argument("--report", type=Path, required=True)
    receiving = ends.add_parser("receive")
    receiving.add_argument("--listen", required=True)
    receiving.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    if options.end == "receive":
        return receive(options.listen, options.out)
    return send(options.bag, options.connect, JpegSetting(**options.setting), options.rate, options.report)


if __name__ == "__main__":
    sys.exit(main())
