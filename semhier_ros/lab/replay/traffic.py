"""An autopilot's MAVLink traffic beside ours, as processes: python -m semhier_ros.lab.replay.traffic fly|hear PLAN

`fly` sends what an autopilot streams (attitude, position, raw sensors, servos …) at its usual rates, scaled to the
bytes a second that its plan says, in bursts of its loop's period; `hear` is the ground station, which answers by its
heartbeat. Both note each message of the autopilot, so that what each was delayed is known.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from semhier_ros.lab.processes import Supervisor
from semhier_ros.link.radio.mavlink import mavlink_module
from semhier_ros.link.radio.ports import serial_module

STREAMS = {
    "heartbeat": 1.0,
    "sys_status": 2.0,
    "gps_raw_int": 2.0,
    "battery_status": 1.0,
    "global_position_int": 10.0,
    "local_position_ned": 10.0,
    "attitude": 20.0,
    "vfr_hud": 10.0,
    "raw_imu": 10.0,
    "scaled_pressure": 5.0,
    "servo_output_raw": 5.0,
    "rc_channels": 5.0,
    "nav_controller_output": 5.0,
}
"""Messages a second, as an autopilot streams them over a telemetry radio."""
LOOP_SECONDS = 0.02
AUTOPILOT, STATION = (1, 1), (255, 190)
"""(system, component) of both."""
READ_SECONDS = 0.02
START_SECONDS = 30.0


def message_of(common: Any, name: str, chance: random.Random) -> Any:
    """A message whose fields are all but zero, so that nothing of it is cut."""
    kind = getattr(common, f"MAVLink_{name}_message")
    lengths = dict(zip(kind.ordered_fieldnames, kind.array_lengths, strict=True))
    values: list[Any] = []
    for field, name_of in zip(kind.fieldtypes, kind.fieldnames, strict=True):
        count = lengths[name_of]
        drawn = [chance.uniform(1.0, 90.0) if field == "float" else chance.randint(1, 90) for _ in range(count or 1)]
        values.append(drawn if count else drawn[0])
    return kind(*values)


def schedule(rate: float, seconds: float, seed: int = 0) -> list[tuple[float, str]]:
    """(time, message) of a flight: `rate` bytes a second, in bursts, the same for the same seed."""
    common, chance = mavlink_module(), random.Random(seed)
    sender = common.MAVLink(None, *AUTOPILOT)
    sizes = {name: len(message_of(common, name, chance).pack(sender)) for name in STREAMS}
    factor = rate / sum(sizes[name] * hertz for name, hertz in STREAMS.items())
    due = []
    for name, hertz in STREAMS.items():
        apart, phase = 1.0 / (hertz * factor), chance.random()
        due += [(apart * (place + phase), name) for place in range(int(seconds / apart))]
    return sorted((int(at / LOOP_SECONDS) * LOOP_SECONDS, name) for at, name in due)


def fly(plan: dict[str, Any]) -> None:
    """Sends the plan's traffic once it is told to."""
    common, chance = mavlink_module(), random.Random(1)
    line = serial_module().serial_for_url(plan["device"], baudrate=57_600, timeout=0, write_timeout=0)
    sender = common.MAVLink(None, *AUTOPILOT)
    due = schedule(plan["rate"], plan["seconds"])
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.time_ns()
    with Path(plan["log"]).open("w", encoding="utf-8") as log:
        for number, (at, name) in enumerate(due):
            time.sleep(max(0.0, start / 1e9 + at - time.time()))
            data = message_of(common, name, chance).pack(sender)
            sender.seq = (sender.seq + 1) % 256
            log.write(json.dumps([number % 256, time.time_ns(), len(data)]) + "\n")
            line.write(data)
            line.read(line.in_waiting)


def hear(plan: dict[str, Any]) -> None:
    """Notes the autopilot's messages until it is ended."""
    common, stopping = mavlink_module(), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
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
    """Autopilot and ground station at the two ends of a line: `start`, `go`, then `delays` once both were ended."""

    def __init__(
        self, children: Supervisor, logs: Path, name: str, devices: Sequence[str], rate: float, seconds: float
    ) -> None:
        self._children, self._seconds = children, seconds
        self._plans: dict[str, tuple[str, Path, dict[str, Any]]] = {}
        for role, device in zip(("fly", "hear"), devices, strict=True):
            log = str(logs / f"{name}-{role}.jsonl")
            plan = {"device": device, "rate": rate, "seconds": seconds, "log": log}
            self._plans[role] = (f"{name}-{role}", logs / f"{name}-{role}.json", plan)

    def start(self) -> None:
        """Starts both. Raises ChildError."""
        for role, (name, file, plan) in self._plans.items():
            file.write_text(json.dumps(plan), encoding="utf-8")
            command = [sys.executable, "-m", "semhier_ros.lab.replay.traffic", role, str(file)]
            self._children.start(name, command, {"PYTHONPATH": ":".join(path for path in sys.path if path)}, ask=True)
        for name, _, _ in self._plans.values():
            self._children.wait_until(
                partial(self._children.says, name, "ready"), START_SECONDS, f"{name} ready", blame=name
            )

    def go(self) -> None:
        """The autopilot begins."""
        self._children.tell(self._plans["fly"][0], "go\n")

    @property
    def pilot(self) -> str:
        """The autopilot's process, which ends by itself."""
        return self._plans["fly"][0]

    def end(self) -> None:
        """Ends both."""
        for name, _, _ in self._plans.values():
            self._children.end(name)

    def delays(self) -> dict[int, float]:
        """Seconds from sending to the ground station, by number of the message; what did not come is left out."""
        sent, came = (
            [json.loads(line) for line in Path(plan["log"]).read_text(encoding="utf-8").splitlines()]
            for _, _, plan in self._plans.values()
        )
        return paired([(seq, at) for seq, at, _ in sent], [(seq, at) for seq, at in came])

    @property
    def offered(self) -> tuple[int, int]:
        """Messages and bytes that the autopilot sent."""
        text = Path(self._plans["fly"][2]["log"]).read_text(encoding="utf-8")
        sizes = [json.loads(line)[2] for line in text.splitlines()]
        return len(sizes), sum(sizes)


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
