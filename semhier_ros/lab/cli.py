"""`semhier evaluate …`: how much is right after how many bytes, and how steadily."""

from __future__ import annotations

import argparse

from semhier_ros.lab import classification, detection, steadiness, transfer
from semhier_ros.lab.door import add_commands

COMMANDS = {
    "classification": (classification, "whole images: accuracy, divergence, pictures of every prefix, beside others"),
    "detection": (detection, "AP50 of every prefix at every level, on labelled scenes"),
    "steadiness": (steadiness, "id switches and level flips a minute on videos, without and with the tracker"),
    "transfer": (transfer, "a question asked later: linear probes on what every prefix decodes to"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the measures of `COMMANDS`."""
    add_commands(parser, COMMANDS)
