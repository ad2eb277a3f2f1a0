"""`semhier bench …`: measurements of the real thing."""

from __future__ import annotations

import argparse

from semhier_ros.lab import asking_bench, link_bench
from semhier_ros.lab.door import add_commands

COMMANDS = {
    "asking": (asking_bench, "bytes saved by asking for finer blocks only where a reading is uncertain"),
    "link": (link_bench, "what arrives over thin links, for real, beside JPEG and H.264"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the benches of `COMMANDS`."""
    add_commands(parser, COMMANDS)
