"""Peak memory of each node while it works, from a bag over ROS 2 topics.

Player, encoder and decoder run as processes of their own; the figure is the kernel's high-water mark of resident memory
(VmHWM of /proc/<pid>/status). The decoder paints every picture, so that all its networks are loaded.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from semhier_ros import options as shared
from semhier_ros.footage.messages import write_camera
from semhier_ros.footage.video import VideoCamera, default_video
from semhier_ros.lab.options import finish
from semhier_ros.lab.processes import Supervisor, node, ros_environment

NODES: dict[str, dict[str, object]] = {
    "encoder": {"device": "cpu", "input": "compressed", "max_rate": 0.0, "link.budget_kbit": 0.0},
    "decoder": {"device": "cpu", "picture": "every_block"},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=10.0, help="of video played (default: %(default)s)")
    parser.add_argument("--size", type=int, default=640, help="width of the pictures (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=5.0, help="frames a second (default: %(default)s)")
    shared.json(parser)


def peak_megabytes(name: str, domain: str) -> float:
    """VmHWM in MB of the node `name` that runs in ROS domain `domain`."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            told = {*(status.parent / "cmdline").read_bytes().split(b"\0")}
            told |= {*(status.parent / "environ").read_bytes().split(b"\0")}
            if told >= {f"semhier_ros.nodes.{name}_node".encode(), f"ROS_DOMAIN_ID={domain}".encode()}:
                line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
                return int(line.split()[1]) / 1024
        except (OSError, StopIteration):
            continue
    raise RuntimeError(f"{name}_node: no such process in domain {domain}")


def run(options: argparse.Namespace) -> int:
    """Plays the street video through the nodes."""
    environment = ros_environment()
    with tempfile.TemporaryDirectory() as folder, Supervisor(Path(folder) / "logs") as children:
        bag = Path(folder) / "street"
        street = VideoCamera(default_video(), rate=options.rate, seconds=options.seconds, width=options.size)
        write_camera(street, bag)
        for name, parameters in NODES.items():
            children.start(name, node(f"{name}_node", parameters), environment)
            children.wait_for(name, "model", 60.0)
        children.start("player", node("player_node", {"bag": str(bag), "stamps": "now"}), environment)
        children.wait_until(lambda: not children.running("player"), options.seconds + 40, "playing", ("player",))
        time.sleep(2.0)
        peaks = {name: round(peak_megabytes(name, environment["ROS_DOMAIN_ID"]), 1) for name in NODES}
    result = {"frames": "street video", "width": options.size, "rate": options.rate, "peak_memory_mb": peaks}
    return finish(result, options.json, "memory")
