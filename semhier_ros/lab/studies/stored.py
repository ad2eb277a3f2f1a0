"""How long a picture that somebody asked for takes over a radio that loses frames, against the airtime of its pieces.

Both ends of a radio in virtual time, once for each seed; with --real also in two processes over an emulated radio, in
the machine's own. From the blocks' submission to the last one whole at the receiver; nothing else is to be sent. Its
airtime: that of its pieces sent once, proofs and framing included, without a turn.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from semhier_ros import options as shared
from semhier_ros.codec.packet import Block, Packet, split
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.command import for_the_user
from semhier_ros.lab.options import finish
from semhier_ros.lab.processes import ChildError, Supervisor
from semhier_ros.lab.ways import AirWay
from semhier_ros.link.carriers import carrier
from semhier_ros.link.emulate.radio import RadioEmulator, RadioProfile, parse_radio
from semhier_ros.link.schedule.policy import default_policies

KEY = bytes(range(16))
SEMANTIC = 3
QUIET = 4.0
"""Seconds before the picture is asked for: both ends know each other, and no block has left for a while."""
PATIENCE = 600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--link", default="serial9600,loss10%", metavar="RADIO", help="an emulated radio (%(default)s)")
    shared.option(parser, "--runs", shared.whole(1, 10_000), 200, "seeds")
    shared.option(parser, "--bytes", shared.whole(3, 60_000), 2400, "of the picture, in three blocks")
    parser.add_argument("--key", action="store_true", help="frames carry a keyed proof")
    parser.add_argument("--real", type=shared.whole(0, 100), default=0, metavar="N", help="runs in processes (none)")
    shared.json(parser)


def picture_blocks(size: int) -> list[Block]:
    """Three picture blocks of `size` bytes in all."""
    chance, third = random.Random(1), size // 3
    sizes = (third, third, size - 2 * third)
    return [Block(0xBEEF, 7, SEMANTIC + place, chance.randbytes(one)) for place, one in enumerate(sizes)]


def description() -> StreamInfo:
    """The stream that the blocks are of."""
    return StreamInfo("front", "lens", 640, 360, "road", "beef" * 4, "cafe" * 4, 0)


class VirtualPicture:
    """Both ends of a radio in virtual time, and a picture between them."""

    def __init__(self, profile: RadioProfile, blocks: Sequence[Block], key: bytes | None) -> None:
        self.way = AirWay(profile, key)
        self._blocks, self._came = blocks, set[int]()
        self._sender = self.way.send(default_policies(SEMANTIC + len(blocks), SEMANTIC))
        self.way.receive(self._take)
        self._sender.set_info("front", description().to_bytes())

    def _take(self, camera: str, level: int, data: bytes) -> None:
        self._came |= {block.index for block in Packet.parse(data).blocks}

    def seconds(self) -> float:
        """From asking to the last block."""
        while self.way.clock.now() < QUIET:
            self.way.step(QUIET)
        self._sender.submit("front", 7, 0, self._blocks, asked=True)
        while self.way.clock.now() < QUIET + PATIENCE and len(self._came) < len(self._blocks):
            self.way.step(QUIET + PATIENCE)
        return self.way.clock.now() - QUIET


def airtime(profile: RadioProfile, blocks: Sequence[Block], key: bytes | None) -> float:
    """Seconds that the pieces take on the air when nothing is lost."""
    run = VirtualPicture(replace(profile, loss=0.0), blocks, key)
    run.seconds()
    sent = [one for one in run.way.hop.air.log if one.end == 0 and one.began >= QUIET]
    return sum(one.ended - one.began for one in sent)


def _process(arguments: Sequence[str]) -> None:
    """An end in a process of its own: ROLE PLAN."""
    role, plan = arguments[0], json.loads(Path(arguments[1]).read_text(encoding="utf-8"))
    key = KEY if plan["key"] else None
    made = carrier("serial", {**plan["settings"], "device": plan["devices"][role == "receive"]}, key)
    blocks = picture_blocks(plan["bytes"])
    if role == "receive":
        came: set[int] = set()

        def take(camera: str, level: int, data: bytes) -> None:
            came.update(block.index for block in Packet.parse(data).blocks)
            if len(came) == len(blocks):
                print(f"whole {time.time():.6f}", flush=True)

        with made.receiver(take):
            print("ready", flush=True)
            sys.stdin.readline()
        return
    policies = default_policies(SEMANTIC + len(blocks), SEMANTIC)
    with made.sender(Packet.pack, split, policies, budget=None) as sender:
        sender.set_info("front", description().to_bytes())
        time.sleep(QUIET)
        print(f"asked {time.time():.6f}", flush=True)
        sender.submit("front", 7, time.time_ns(), blocks, asked=True)
        sys.stdin.readline()


def real_seconds(profile: RadioProfile, size: int, key: bool) -> float:
    """The same with two processes over an emulated radio. Raises ChildError."""
    with (
        tempfile.TemporaryDirectory() as folder,
        RadioEmulator(profile) as radio,
        Supervisor(Path(folder)) as children,
    ):
        plan = {"settings": profile.settings(), "devices": radio.devices, "bytes": size, "key": key}
        children.start_part("receive", "semhier_ros.lab.studies.stored", "receive", plan)
        children.wait_for("receive", "ready", 60.0)
        children.start_part("send", "semhier_ros.lab.studies.stored", "send", plan)
        children.wait_until(lambda: children.says("receive", "whole"), PATIENCE, "the picture whole")
        logs = {role: (Path(folder) / f"{role}.log").read_text(encoding="utf-8") for role in ("receive", "send")}
    asked, whole = (
        float(next(line.split()[1] for line in logs[role].splitlines() if line.startswith(word)))
        for role, word in (("send", "asked"), ("receive", "whole"))
    )
    return whole - asked


def run(options: argparse.Namespace) -> int:
    """Measures and prints; 1 when a process failed."""
    with for_the_user(ValueError, of="--link"):
        profile = parse_radio(options.link)
    blocks, key = picture_blocks(options.bytes), KEY if options.key else None
    once = airtime(profile, blocks, key)
    shares = sorted(
        VirtualPicture(replace(profile, seed=seed), blocks, key).seconds() / once for seed in range(options.runs)
    )
    figures: dict[str, Any] = {
        "link": options.link,
        "picture_bytes": options.bytes,
        "airtime_s": round(once, 3),
        "runs": options.runs,
        "median_of_airtime": round(statistics.median(shares), 3),
        "p95_of_airtime": round(shares[int(0.95 * (len(shares) - 1))], 3),
        "share_within_1.5": round(sum(share <= 1.5 for share in shares) / len(shares), 4),
        "share_within_1.2": round(sum(share <= 1.2 for share in shares) / len(shares), 4),
    }
    lines = [f"{name}: {value}" for name, value in figures.items()]
    failed = 0
    if options.real:
        try:
            real = [
                real_seconds(replace(profile, seed=seed), options.bytes, options.key) / once
                for seed in range(options.real)
            ]
            figures["real_of_airtime"] = [round(share, 3) for share in real]
            lines.append(f"in processes: {', '.join(f'{share:.3f}' for share in real)}")
        except ChildError as error:
            print(f"semhier measure stored: {error}", file=sys.stderr)
            failed = 1
    finish(figures, options.json, text="\n".join(lines))
    return failed


if __name__ == "__main__":
    _process(sys.argv[1:])
