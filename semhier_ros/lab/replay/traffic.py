"""An autopilot's MAVLink traffic beside ours, as processes: python -m semhier_ros.lab.replay.traffic fly|hear PLAN

`fly` sends what an autopilot streams (`link.emulate.autopilot`) at the bytes a second that its plan says; `hear` is the
ground station, which answers by its heartbeat. Both note each message of the autopilot, so that what each was delayed
is known.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semhier_ros.lab.processes import Supervisor, until_ended
from semhier_ros.link.emulate.autopilot import AUTOPILOT, STATION, flight, message_of
from semhier_ros.link.radio.mavlink import mavlink_module
from semhier_ros.link.radio.ports import serial_module

READ_SECONDS = 0.02
START_SECONDS = 30.0


def fly(plan: dict[str, Any]) -> None:
    """Sends the plan's traffic once it is told to."""
    line = serial_module().serial_for_url(plan["device"], baudrate=57_600, timeout=0, write_timeout=0)
    due = list(flight(plan["rate"], plan["seconds"]))
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.time_ns()
    with Path(plan["log"]).open("w", encoding="utf-8") as log:
        for number, (at, data) in enumerate(due):
            time.sleep(max(0.0, start / 1e9 + at - time.time()))
            log.write(json.dumps([number % 256, time.time_ns(), len(data)]) + "\n")
            line.write(data)
            line.read(line.in_waiting)


def hear(plan: dict[str, Any]) -> None:
    """Notes the autopilot's messages until it is ended."""
    common, stopping = mavlink_module(), until_ended()
    line = serial_module().serial_for_url(plan["device"], baudrate=57_600, timeout=READ_SECONDS, write_timeout=0)
    parser, own = common.MAVLink(None), common.MAVLink(None, *STATION)
    parser.robust_parsing = True
    print("ready", flush=True)
    beat = time.monotonic()
    with Path(plan["log"]).open("w", encoding="utf-8") as log:
        while not stopping.is_set():
            data = line.read(max(1, line.in_waiting))
            now = time.time_ns()
            for message in (parser.parse_buffer(data) if data else None) or ():
                if (message.get_srcSystem(), message.get_srcComponent()) == AUTOPILOT:
                    log.write(json.dumps([message.get_seq(), now]) + "\n")
            if time.monotonic() >= beat:
                line.write(message_of(common, "heartbeat", random.Random(2)).pack(own))
                beat += 1.0


class Traffic:
    """Autopilot and ground station at the two ends of a line: `start`, `go`, then `delays` once both were ended.
    `pilot`: the autopilot's process, which ends by itself."""

    def __init__(self, children: Supervisor, name: str, devices: Sequence[str], rate: float, seconds: float) -> None:
        self._children = children
        self.pilot, self._station = f"{name}-fly", f"{name}-hear"
        self._plans: dict[str, dict[str, Any]] = {
            role: {
                "device": device,
                "rate": rate,
                "seconds": seconds,
                "log": str(children.logs / f"{name}-{role}.jsonl"),
            }
            for role, device in zip(("fly", "hear"), devices, strict=True)
        }

    def start(self) -> None:
        """Starts both. Raises ChildError."""
        names = (self.pilot, self._station)
        for name, (role, plan) in zip(names, self._plans.items(), strict=True):
            self._children.start_part(name, "semhier_ros.lab.replay.traffic", role, plan)
        for name in names:
            self._children.wait_for(name, "ready", START_SECONDS)

    def go(self) -> None:
        """The autopilot begins."""
        self._children.tell(self.pilot, "go\n")

    def end(self) -> None:
        """Ends both."""
        for name in (self.pilot, self._station):
            self._children.end(name)

    def delays(self) -> dict[int, float]:
        """Seconds from sending to the ground station, by number of the message; what did not come is left out."""
        return paired([(seq, at) for seq, at, _ in self._noted("fly")], [(seq, at) for seq, at in self._noted("hear")])

    @property
    def offered(self) -> tuple[int, int]:
        """Messages and bytes that the autopilot sent."""
        sizes = [size for _, _, size in self._noted("fly")]
        return len(sizes), sum(sizes)

    def _noted(self, role: str) -> list[list[int]]:
        text = Path(self._plans[role]["log"]).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]


def paired(sent: Sequence[tuple[int, int]], came: Sequence[tuple[int, int]]) -> dict[int, float]:
    """Delays in s by number of the message, from (sequence number modulo 256, time in ns) of what was sent and of what
    came, both in order."""
    found: dict[int, float] = {}
    place = 0
    for sequence, at in came:
        ahead = next(
            (step for step in range(256) if place + step < len(sent) and sent[place + step][0] == sequence), None
        )
        if ahead is None:
            continue
        place += ahead
        found[place] = (at - sent[place][1]) / 1e9
        place += 1
    return found


if __name__ == "__main__":
    {"fly": fly, "hear": hear}[sys.argv[1]](json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))
