"""`semhier evaluate …`: how much is right after how many bytes."""

from __future__ import annotations

import argparse

from semhier_ros.evaluation import detection


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="what", metavar="<what>", required=True)
    scenes = commands.add_parser(
        "detection", help="AP50 of every prefix at every level, on labelled scenes", description=detection.__doc__
    )
    detection.add_arguments(scenes)
    scenes.set_defaults(run=detection.run)


def run(options: argparse.Namespace) -> int:
    return int(options.run(options))
