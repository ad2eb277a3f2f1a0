"""A command with commands of its own, each a module: `semhier evaluate …`, `semhier bench …`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from types import ModuleType

Commands = Mapping[str, tuple[ModuleType, str]]
"""Name -> the module, which offers add_arguments and run, and its line of help."""


def add_commands(parser: argparse.ArgumentParser, commands: Commands) -> None:
    """Adds `commands` to the parser of the command they belong to."""
    added = parser.add_subparsers(dest="what", metavar="<what>", required=True)
    for name, (module, summary) in commands.items():
        command = added.add_parser(
            name, help=summary, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
