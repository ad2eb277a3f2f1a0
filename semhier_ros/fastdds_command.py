"""Prints the Fast DDS XML profile for `link.transport: ros` on rmw_fastrtps_cpp.

It holds a flow controller with the budget and a priority for each block's topic (docs/link.md).
"""

from __future__ import annotations

import argparse

from semhier_ros import options as shared
from semhier_ros.api import Codec
from semhier_ros.command import CommandError
from semhier_ros.link.fastdds_profile import fastdds_profile
from semhier_ros.paths import DEFAULT_MODEL
from semhier_ros.whole_file import write_whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `semhier link fastdds-profile`."""
    parser.add_argument(
        "--cameras", action=shared.Listed, default=["camera"], metavar="NAME", help="names of the cameras (camera)"
    )
    shared.model(parser, DEFAULT_MODEL)
    parser.add_argument("--budget-kbit", type=float, default=1000.0, metavar="K", help="kbit/s of one process (1000)")
    shared.out(parser, None, "file to write", folder=False)


def run(options: argparse.Namespace) -> int:
    """Writes the profile. Raises CommandError for a bad budget or camera name."""
    codec = Codec.load(options.model, "cpu")
    try:
        text = fastdds_profile(options.cameras, codec.block_names, codec.semantic_blocks, options.budget_kbit)
    except ValueError as error:
        raise CommandError(str(error)) from error
    write_whole(options.out, text)
    return 0
