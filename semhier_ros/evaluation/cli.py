"""`semhier evaluate …`: how much is right after how many bytes, and how steadily."""

from __future__ import annotations

import argparse

from semhier_ros.evaluation import classification, detection, steadiness, transfer

COMMANDS = {
    "classification": (classification, "whole images: accuracy, divergence, pictures of every prefix, beside others"),
    "detection": (detection, "AP50 of every prefix at every level, on labelled scenes"),
    "steadiness": (steadiness, "id switches and level flips a minute on videos, without and with the tracker"),
    "transfer": (transfer, "a question asked later: linear probes on what every prefix decodes to"),
}
"""Each with its module, which offers add_arguments and run, and its line of help."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="what", metavar="<what>", required=True)
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)


def run(options: argparse.Namespace) -> int:
    return int(options.run(options))
