"""An autopilot's MAVLink traffic beside ours, as processes: python -m semhier_ros.lab.replay.traffic fly|hear PLAN

`fly` sends what an autopilot streams (attitude, position, raw sensors, servos …) at its usual rates, scaled to the
bytes a second that its plan says, in bursts of its loop's period; `hear` is the ground station, which answers by its
heartbeat. Both note each message of the autopilot, so that what each was delayed is known.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from semhier_ros.lab.processes import Supervisor, until_ended
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


def flight(rate: float, seconds: float) -> Iterator[tuple[float, bytes]]:
    """(time, message as bytes) of what an autopilot sends; numbers in the messages count up from 0."""
    common, chance = mavlink_module(), random.Random(1)
    sender = common.MAVLink(None, *AUTOPILOT)
    for at, name in schedule(rate, seconds):
        yield at, message_of(common, name, chance).pack(sender)
        sender.seq = (sender.seq + 1) % 256


def both_ways(rate: float, seconds: float) -> list[tuple[float, int, bytes]]:
    """(time, end, message) of all that others send on a line: the autopilot on end 0, the station's heartbeat on 1."""
    common = mavlink_module()
    own = common.MAVLink(None, *STATION)
    beats = [(at, 1, message_of(common, "heartbeat", random.Random(2)).pack(own)) for at in range(int(seconds))]
    return sorted([*((at, 0, data) for at, data in flight(rate, seconds)), *beats], key=lambda one: one[0])


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
