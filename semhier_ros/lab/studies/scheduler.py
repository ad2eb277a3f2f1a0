"""How many blocks a second the link's scheduler handles on one core.

Four cameras, seven blocks a frame (40 to 2,000 bytes), every block leaves and the named levels are repeated; processor
time, median of five.
"""

from __future__ import annotations

import argparse
import statistics
import time

from semhier_ros import options as shared
from semhier_ros.codec.packet import Block, Packet, split
from semhier_ros.lab.options import finish
from semhier_ros.link import Scheduler, default_policies

SIZES = (40, 10, 15, 30, 400, 900, 2000)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.json(parser)


def once(blocks_wanted: int) -> tuple[float, float]:
    """(blocks taken, datagrams left) per second of processor time."""
    scheduler = Scheduler(Packet.pack, split, default_policies(len(SIZES), 4))
    data = [bytes(size) for size in SIZES]
    now, taken, left = 0.0, 0, 0
    frames = [
        [Block(7, frame & 0xFFFF, index, item) for index, item in enumerate(data)]
        for frame in range(blocks_wanted // len(data))
    ]
    begin = time.process_time()
    for frame, blocks in enumerate(frames):
        now += 0.001
        taken += scheduler.submit(f"camera{frame % 4}", frame & 0xFFFF, frame, blocks, now)
        while scheduler.pop(now) is not None:
            left += 1
    seconds = time.process_time() - begin
    return taken / seconds, left / seconds


def run(options: argparse.Namespace) -> int:
    """Measures five times."""
    runs = [once(35_000) for _ in range(5)]
    blocks, datagrams = (round(statistics.median(column)) for column in zip(*runs, strict=True))
    result = {"blocks_per_s": blocks, "datagrams_per_s": datagrams}
    return finish(result, options.json, "scheduler")
