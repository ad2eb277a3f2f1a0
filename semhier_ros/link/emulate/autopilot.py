"""What an autopilot and its ground station say over a MAVLink telemetry radio, while others use it too.

An autopilot streams attitude, position, raw sensors, servos and so on at its usual rates, here scaled to so many bytes
a second, in bursts of its loop's period.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from semhier_ros.link.radio.mavlink import mavlink_module

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
