"""The two real runs of the demo: camera, encoder, thin link, decoder and recorder as processes; and JPEG beside
them."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from semhier_ros.codec.packet import Packet, split
from semhier_ros.lab.baselines.jpeg_stream import PIECE_BYTES, JpegSetting
from semhier_ros.lab.processes import Supervisor
from semhier_ros.lab.scoring.delivery import BudgetUse, budget_use
from semhier_ros.link import Scheduler, default_policies
from semhier_ros.link.emulate.emulator import LinkEmulator, LinkProfile
from semhier_ros.link.schedule.wire import ZENOH_UDP

CAMERA = "camera"
BUDGET_SHARE = 0.97
"""What of the link's rate a sender may plan with: the rest is for Zenoh's own messages, which no budget counts."""
OWN_BYTES = ZENOH_UDP.wire_bytes(150)
"""A stream description, which goes out every 10 s beside the budget: the most that Zenoh adds to one short window."""
START_SECONDS = 60.0
DISCOVERY_SECONDS = 2.5
DRAIN_SECONDS = 2.5

Tell = Callable[[float], None]
"""Called with the share of a run that is done (0 to 1)."""


@dataclass(frozen=True, slots=True)
class Wire:
    """What the link saw of one run: bytes towards the receiver against the link's rate, and datagram counts."""

    use: BudgetUse
    datagrams: dict[str, int]


@dataclass(frozen=True, slots=True)
class JpegArrival:
    """A JPEG picture at the receiver: camera frame number, stamp and arrival (ns, wall clock), the file's bytes."""

    number: int
    stamp_ns: int
    arrival_ns: int
    data: bytes


@dataclass(frozen=True, slots=True)
class JpegDrive:
    """The JPEG run: stamps of all camera frames, (number, stamp, bytes) of pictures begun, and what arrived."""

    stamps: list[int]
    begun: list[tuple[int, int, int]]
    arrivals: list[JpegArrival]
    wire: Wire


def free_port() -> int:
    """A UDP port of 127.0.0.1 that is free now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wire_of(emulator: LinkEmulator, link: LinkProfile, seconds: float, packet: int) -> Wire:
    """The uplink's figures from the emulator's log, of the last `seconds`. `packet`: the sender's largest payload.

    The budget is judged from a second after the first datagram on: before, Zenoh declares its publishers.
    """
    since = emulator.elapsed - seconds
    up = [entry for entry in emulator.log if entry[0] == "up" and entry[1] >= since]
    counts = emulator.up
    datagrams = {
        "datagrams sent": len(up),
        "lost on the way": sum(1 for entry in up if entry[4] == "loss"),
        "dropped at the link's full queue": sum(1 for entry in up if entry[4] == "queue"),
        "datagrams back to the sender": emulator.down.offered,
    }
    if counts.dropped_outage:
        datagrams["lost in outages"] = counts.dropped_outage
    settled = [(entry[1], entry[3]) for entry in up if entry[1] >= up[0][1] + 1.0]
    return Wire(budget_use(settled, link.rate_bps / 8, ZENOH_UDP.wire_bytes(packet), OWN_BYTES), datagrams)


def packet_bytes(rate: float) -> int:
    """The largest payload that the encoder's scheduler makes at `rate` wire bytes per second."""
    return Scheduler(Packet.pack, split, default_policies(1, 1), rate=rate).packet_limit


def node(name: str, parameters: dict[str, object]) -> list[str]:
    """The command that runs a node of this package with `parameters`."""
    command = [sys.executable, "-m", f"semhier_ros.nodes.{name}", "--ros-args"]
    for key, value in parameters.items():
        command += ["-p", f"{key}:={json.dumps(value)}"]
    return command


def ros_environment() -> dict[str, str]:
    """Variables of node processes: a ROS domain of their own on this machine, and this process's modules."""
    return {
        "ROS_DOMAIN_ID": str(random.SystemRandom().randrange(1, 102)),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }


def drive_semhier(
    bag: Path,
    out: Path,
    link: LinkProfile,
    *,
    model: str,
    device: str,
    threads: int,
    seconds: float,
    topics: Sequence[str],
    tell: Tell,
) -> Wire:
    """Plays `bag` through encoder, link and decoder into the recorder's bag `out`/recording.

    `seconds`: length of the bag. `topics`: what is recorded, as `<topic> <type>`. Raises ChildError.
    """
    environment = ros_environment()
    zenoh_port = free_port()
    none = [""]
    with LinkEmulator(link, forward_port=zenoh_port, keep_log=True) as emulator, Supervisor(out / "logs") as children:

        def begin(name: str, parameters: dict[str, object], ready: str) -> None:
            children.start(name, node(f"{name}_node", parameters), environment)
            waiting.append((name, ready))

        waiting: list[tuple[str, str]] = []
        begin(
            "decoder",
            {
                "cameras": [CAMERA],
                "models": [model],
                "device": device,
                "threads": threads,
                "picture": "picture_blocks",
                "keep_frames": 32,
                "republish_blocks": True,
                "link.transport": "zenoh",
                "link.zenoh.listen": [f"udp/127.0.0.1:{zenoh_port}"],
                "link.zenoh.connect": none,
            },
            "models",
        )
        begin("recorder", {"bag": str(out / "recording"), "topics": list(topics)}, "recording")
        for name, ready in waiting:
            children.wait_until(partial(children.says, name, ready), START_SECONDS, f"{name} ready", blame=name)
        begin(
            "encoder",
            {
                "camera": CAMERA,
                "input": "compressed",
                "model": model,
                "device": device,
                "threads": threads,
                "max_rate": 0.0,
                "link.transport": "zenoh",
                "link.budget_kbit": link.rate_bps / 1000 * BUDGET_SHARE,
                "link.zenoh.connect": [f"udp/127.0.0.1:{emulator.listen_port}"],
                "link.zenoh.listen": none,
            },
            "model",
        )
        children.wait_until(lambda: children.says("encoder", "model"), START_SECONDS, "encoder ready", blame="encoder")
        children.wait_until(
            lambda: emulator.up.delivered >= 3 and emulator.down.delivered >= 2, 30.0, "encoder and decoder connected"
        )
        children.start(
            "player",
            node(
                "player_node",
                {"bag": str(bag), "stamps": "now", "delay_seconds": DISCOVERY_SECONDS, "wait_seconds": 20.0},
            ),
            environment,
        )
        began = time.monotonic()
        expected = DISCOVERY_SECONDS + 1.5 + seconds

        def played() -> bool:
            tell((time.monotonic() - began) / (expected + DRAIN_SECONDS))
            return not children.running("player")

        children.wait_until(played, expected + 40.0, "playing the bag", finished=("player",), blame="player")
        children.check(finished=("player",))
        ended = time.monotonic()
        children.wait_until(
            lambda: time.monotonic() - ended > DRAIN_SECONDS, 60.0, "the last blocks", finished=("player",)
        )
        wire = wire_of(emulator, link, seconds + DRAIN_SECONDS + 0.5, packet_bytes(link.rate_bps / 8 * BUDGET_SHARE))
        emulator.write_json(out / "logs" / "link.json")
        children.end("recorder")
        for name in ("encoder", "decoder"):
            children.end(name)
    return wire


def drive_jpeg(
    bag: Path, out: Path, link: LinkProfile, setting: JpegSetting, *, seconds: float, tell: Tell
) -> JpegDrive:
    """Sends the images of `bag` as JPEG pictures over the same kind of link. Raises ChildError."""
    port = free_port()
    folder, report = out / "jpeg", out / "jpeg" / "sent.json"
    me = [sys.executable, "-m", "semhier_ros.lab.jpeg_link"]
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with LinkEmulator(link, forward_port=port, keep_log=True) as emulator, Supervisor(out / "logs") as children:
        receiver = [*me, "receive", "--listen", f"udp/127.0.0.1:{port}", "--out", str(folder)]
        children.start("jpeg-receiver", receiver, environment)
        children.wait_until(
            lambda: children.says("jpeg-receiver", "listening"),
            START_SECONDS,
            "JPEG receiver ready",
            blame="jpeg-receiver",
        )
        sender = [*me, "send", "--bag", str(bag), "--connect", f"udp/127.0.0.1:{emulator.listen_port}"]
        sender += ["--setting", json.dumps(asdict(setting)), "--report", str(report)]
        sender += ["--rate", str(link.rate_bps / 8 * BUDGET_SHARE)]
        children.start("jpeg-sender", sender, environment)
        began = time.monotonic()

        def sent() -> bool:
            tell((time.monotonic() - began) / (seconds + 4.0))
            return not children.running("jpeg-sender")

        children.wait_until(sent, seconds + 60.0, "sending JPEG", finished=("jpeg-sender",), blame="jpeg-sender")
        children.check(finished=("jpeg-sender",))
        time.sleep(2 * link.delay_s + 0.7)
        wire = wire_of(emulator, link, seconds + 2 * link.delay_s + 1.2, PIECE_BYTES)
        emulator.write_json(out / "logs" / "jpeg-link.json")
        children.end("jpeg-receiver", by=signal.SIGINT)
    told = json.loads(report.read_text(encoding="utf-8"))
    arrivals = []
    for line in (folder / "arrivals.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        data = (folder / f"{entry['number']:05d}.jpg").read_bytes()
        arrivals.append(JpegArrival(entry["number"], entry["stamp_ns"], entry["arrival_ns"], data))
    return JpegDrive(told["stamps"], [tuple(item) for item in told["begun"]], arrivals, wire)
