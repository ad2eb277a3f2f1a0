"""`semhier bench …`: measurements of the real thing."""

from __future__ import annotations

import argparse

from semhier_ros.evaluation import asking_bench, link_bench

COMMANDS = {
    "asking": (asking_bench, "bytes saved by asking for finer blocks only where a reading is uncertain"),
    "link": (link_bench, "what arrives over thin links, for real, beside JPEG and H.264"),
}
"""Each with its module, which offers add_arguments and run, and its line of help."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the benches of `COMMANDS`."""
    commands = parser.add_subparsers(dest="what", metavar="<what>", required=True)
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)


def run(options: argparse.Namespace) -> int:
    """Runs the bench that was named."""
    return int(options.run(options))
