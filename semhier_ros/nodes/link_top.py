"""`semhier link top`: every camera's link, live in a terminal, from the LinkStatus messages on this ROS 2 network."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import deque
from typing import Any

TYPE = "semhier_ros/msg/LinkStatus"
HISTORY = 60
STALE_SECONDS = 3.0
_BARS = " ▁▂▃▄▅▆▇█"
_TOPIC = re.compile(r"^/?(.*)/semhier/link_status$")


class CameraLine:
    """What was heard of one camera's link: the newest status and the use of the last minute."""

    def __init__(self) -> None:
        self.status: Any = None
        self.before: Any = None
        self.at = 0.0
        self.used: deque[float] = deque(maxlen=HISTORY)

    def take(self, status: Any, now: float) -> None:
        """A new status arrived at `now` (monotonic seconds)."""
        self.before, self.status, self.at = self.status, status, now
        self.used.append(status.used * 8 / 1000)

    def rates(self) -> list[str]:
        """Blocks a second of each level since the status before, with what was dropped."""
        if self.before is None:
            return []
        seconds = (_seconds(self.status.stamp) - _seconds(self.before.stamp)) or 1.0
        lines = []
        pairs = zip(self.status.sent, self.before.sent, self.status.dropped, self.before.dropped, strict=False)
        for name, (sent, old, dropped, old_dropped) in zip(self.status.blocks, pairs, strict=False):
            rate = ((sent - old) & 0xFFFFFFFF) / seconds
            lost = (dropped - old_dropped) & 0xFFFFFFFF
            lines.append(f"{name} {rate:.1f}/s" + (f" (-{lost})" if lost else ""))
        return lines


def sparkline(values: Any, top: float) -> str:
    """`values` as a row of bars, full height at `top`."""
    top = max(top, 1e-9)
    return "".join(_BARS[min(len(_BARS) - 1, round(max(value, 0.0) / top * (len(_BARS) - 1)))] for value in values)


def table(cameras: dict[str, CameraLine], now: float) -> Any:
    """A rich table of all cameras."""
    from rich.table import Table

    shown = Table(expand=True, title="links", title_justify="left")
    for name, style in (("camera", "bold"), ("link", ""), ("last minute", "cyan"), ("blocks", "")):
        shown.add_column(name, style=style, overflow="fold")
    for name in sorted(cameras):
        line = cameras[name]
        if line.status is None:
            shown.add_row(name, "nothing heard yet", "", "")
            continue
        age = now - line.at
        budget = (line.status.budget or max(line.used) * 125) * 8 / 1000
        words = line.status.words if age < STALE_SECONDS else f"[red]silent for {age:.0f} s[/red]"
        rate = f"\n{line.status.rate * 8 / 1000:.0f} kbit/s allowed now" if line.status.rate else ""
        shown.add_row(name, words + rate, sparkline(line.used, budget), "  ".join(line.rates()))
    return shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `semhier link top`."""
    parser.add_argument("--seconds", type=float, default=0.0, metavar="S", help="how long; 0: until Ctrl-C (0)")
    parser.add_argument("--once", action="store_true", help="print one table and end")


def run(options: argparse.Namespace) -> int:
    """Shows links until Ctrl-C, or for `options.seconds`; `options.once` prints one table.

    Once: as soon as every camera has told its rates, after 10 s (or `seconds`) at the latest; 1 when none told
    anything.
    """
    try:
        import rclpy
        from rclpy.executors import ExternalShutdownException
    except ImportError:
        print(
            "semhier link top: rclpy is not installed here; source a ROS 2 or use the .venv of `make`", file=sys.stderr
        )
        return 2
    from rich.console import Console
    from rich.live import Live

    from semhier_ros.msg import LinkStatus

    rclpy.init()
    node = rclpy.create_node("semhier_link_top")
    cameras: dict[str, CameraLine] = {}

    def listen() -> None:
        for topic, types in node.get_topic_names_and_types():
            if TYPE in types and topic not in known:
                known.add(topic)
                found = _TOPIC.match(topic)
                name = found.group(1) if found else topic
                cameras[name] = CameraLine()
                node.create_subscription(
                    LinkStatus, topic, lambda message, name=name: cameras[name].take(message, time.monotonic()), 10
                )

    known: set[str] = set()
    console = Console()
    end = time.monotonic() + (options.seconds or float("inf"))
    try:
        if options.once:
            end = time.monotonic() + (options.seconds or 10.0)
            while time.monotonic() < end and not (cameras and all(line.before for line in cameras.values())):
                listen()
                rclpy.spin_once(node, timeout_sec=0.1)
            console.print(table(cameras, time.monotonic()))
            return 0 if any(line.status for line in cameras.values()) else 1
        with Live(table(cameras, time.monotonic()), console=console, refresh_per_second=4) as live:
            while time.monotonic() < end:
                listen()
                rclpy.spin_once(node, timeout_sec=0.25)
                live.update(table(cameras, time.monotonic()))
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _seconds(stamp: Any) -> float:
    return float(stamp.sec + stamp.nanosec * 1e-9)
