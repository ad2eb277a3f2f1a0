"""Milliseconds from a block's arrival to each planner topic's message, on one core.

The decoder node as it is, in a process bound to one core, gets block 0 of frames with so many objects, as the executor
would hand it over. Somebody subscribes to every topic. Times end when a message has been handed to DDS. `together`: all
topics are wanted, one leaves after the other; `alone`: only this one is. The first two rows are what every topic waits
for: the block decoded and read, and its objects placed; a topic's own share is what it takes beyond. Topics whose
message packages are not installed are left out. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

from semhier_ros import options as shared
from semhier_ros.command import CommandError
from semhier_ros.lab.options import load_codec
from semhier_ros.lab.processes import ros_environment
from semhier_ros.lab.results import Table, publish

LONGEST = 600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.model(parser)
    shared.option(parser, "--objects", shared.whole(1, 200), 20, "in each frame", "N")
    shared.option(parser, "--frames", shared.whole(10, 10_000), 200, "that are timed", "N")
    parser.add_argument("--follow", action="store_true", help="with the decoder's parameter `follow`")
    parser.add_argument("--processor", action="store_true", help="time on the processor, for a busy machine")
    shared.json(parser)


def run(options: argparse.Namespace) -> int:
    command = [sys.executable, "-m", "semhier_ros.nodes.planner_latency", "--model", options.model, "--alone"]
    command += ["--objects", str(options.objects), "--frames", str(options.frames)]
    command += [f"--{name}" for name in ("follow", "processor") if getattr(options, name)]
    environment = os.environ | ros_environment()
    try:
        ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=LONGEST)
    except subprocess.TimeoutExpired:
        raise CommandError(f"the node was not timed within {LONGEST:g} s: ask for fewer --frames") from None
    if ran.returncode:
        raise CommandError(f"the node could not be timed: {(ran.stderr.strip() or 'it said nothing').splitlines()[-1]}")
    figures = json.loads(ran.stdout.splitlines()[-1])
    rows = []
    for name, together in (figures["steps"] | figures["milliseconds"]).items():
        alone = figures["alone"].get(name, together)
        rows.append((name, *(round(one[key], 2) for one in (together, alone) for key in ("median", "p95"))))
    head = ("step or topic", "together, median ms", "95 %", "alone, median ms", "95 %")
    kind = "of the worker on the processor" if options.processor else "on the wall's clock"
    note = f"{figures['objects']:.1f} objects read of a frame, {figures['frames']} frames, one core; time {kind}."
    table = Table("planners", "From a block's arrival to each planner topic", head, rows, note)
    models = [] if options.json is None else [load_codec(options.model, "cpu", 1, "scenes")]
    return publish(options.json, "planners", figures, [table], models)
