"""The two ends of a link as processes of their own, for tests: each prints one JSON line per event.

`receive LISTEN_PORT`, until it is asked to end; `send CONNECT_PORT SECONDS FRAMES_PER_SECOND RATE SIZE…`.
CLOCK_MONOTONIC is one clock for all processes of a machine, so times of both can be compared.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from semhier_ros.lab.processes import until_ended
from semhier_ros.link import Pacer, Scheduler, default_policies
from semhier_ros.link.zenoh.config import ZenohOptions
from semhier_ros.link.zenoh.transport import ZenohReceiver, ZenohSender

HEAD = struct.Struct("<IdBB")
"""frame, time of submission, first block, number of blocks: takes the place of a packet's header."""


class TimedBlock(NamedTuple):
    index: int
    data: bytes
    frame: int
    born: float


def pack(blocks, *, stamp_ns=None):
    first = blocks[0]
    return HEAD.pack(first.frame, first.born, first.index, len(blocks)) + b"".join(block.data for block in blocks)


def split(block, limit, *, stamp_ns=None):
    body = limit - HEAD.size
    head = HEAD.pack(block.frame, block.born, block.index, 0)
    return [head + block.data[at : at + body] for at in range(0, len(block.data), body)]


def say(**event):
    print(json.dumps(event), flush=True)


def receive(port: int) -> None:
    ended = until_ended()

    def on_datagram(camera, level, payload):
        now = time.monotonic()
        frame, born, first, count = HEAD.unpack_from(payload)
        say(event="datagram", camera=camera, level=level, frame=frame, born=born, first=first, count=count, at=now)

    def on_info(camera, info):
        say(event="info", camera=camera, info=info.decode(), at=time.monotonic())

    options = ZenohOptions(listen=(f"udp/127.0.0.1:{port}",))
    asked = False
    with ZenohReceiver(options, on_datagram, on_info) as receiver:
        while not ended.wait(0.05):
            if not asked and receiver.counters.get("infos"):
                asked = receiver.request("robot/front", b"finer please")
        say(event="counters", **receiver.counters)


def send(port: int, seconds: float, fps: float, rate: float, sizes: list[int]) -> None:
    options = ZenohOptions(connect=(f"udp/127.0.0.1:{port}",))

    def on_request(camera, data):
        say(event="request", camera=camera, data=data.decode())

    policies = default_policies(max(len(sizes), 4), min(len(sizes), 4))
    scheduler = Scheduler(pack, split, policies, rate=rate)
    with ZenohSender(options, on_request=on_request) as sender, Pacer(scheduler, sender) as pacer:
        sender.set_info("robot/front", b"what never changes")
        say(event="described")
        say(event="connected", ok=sender.wait_connected(60.0), at=time.monotonic())
        time.sleep(1.0)
        start = time.monotonic()
        frame = 0
        while (due := start + frame / fps) < start + seconds:
            time.sleep(max(0.0, due - time.monotonic()))
            now = time.monotonic()
            blocks = [TimedBlock(index, bytes(size), frame, now) for index, size in enumerate(sizes)]
            pacer.submit("robot/front", frame & 0xFFFF, int(now * 1e9), blocks)
            say(event="submit", frame=frame, at=now)
            frame += 1
        pacer.flush(3.0)
        status = pacer.status()
        time.sleep(0.7)
        say(event="counters", wire_bytes=status.wire_bytes, datagrams=status.datagrams, **sender.counters)


class End:
    """One end as a child process."""

    def __init__(self, *arguments: object) -> None:
        root = Path(__file__).parents[2]
        command = [sys.executable, str(Path(__file__)), *map(str, arguments)]
        # A file, not a pipe: a full pipe would hold the process up while nobody reads.
        self.output = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by __exit__)
        self.process = subprocess.Popen(command, stdout=self.output, text=True, cwd=root, env=_environment(root))

    def events(self, timeout: float = 120.0) -> list[dict]:
        """What it printed, once it has ended by itself."""
        assert self.process.wait(timeout=timeout) == 0
        return self.so_far()

    def ended(self) -> list[dict]:
        """What it printed, once it has ended as it is asked to now."""
        self.process.send_signal(signal.SIGTERM)
        return self.events()

    def so_far(self) -> list[dict]:
        """What it has printed by now."""
        size = os.fstat(self.output.fileno()).st_size
        data = os.pread(self.output.fileno(), size, 0)  # reading would move the place where the child writes
        return [json.loads(line) for line in data.splitlines(keepends=True) if line.endswith(b"\n")]

    def until(self, reached: Callable[[list[dict]], bool], seconds: float = 60.0) -> None:
        """Waits until what it has printed is enough."""
        end = time.monotonic() + seconds
        while not reached(self.so_far()):
            assert time.monotonic() < end, "it did not come to pass"
            assert self.process.poll() is None, "it has ended"
            time.sleep(0.05)

    def __enter__(self) -> End:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.output.close()


def _environment(root: Path) -> dict[str, str]:
    found = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in (found, str(root)) if part)}


if __name__ == "__main__":
    role, arguments = sys.argv[1], sys.argv[2:]
    if role == "receive":
        receive(int(arguments[0]))
    else:
        send(
            int(arguments[0]), float(arguments[1]), float(arguments[2]), float(arguments[3]), [*map(int, arguments[4:])]
        )
