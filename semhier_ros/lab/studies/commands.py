"""The family of measuring commands: what is right after how many bytes, what arrives over a link, what it costs.

Each prints its result as JSON, or writes it to --json FILE and prints a table for people.
"""

from __future__ import annotations

import argparse
import importlib
from typing import Any

STUDIES = {
    "appearance": "a question asked later of object latents: types, from a codec that was trained on groups only",
    "asking": "bytes saved by asking for finer blocks only where a reading is uncertain",
    "classification": "whole images: accuracy, divergence, pictures of every prefix, beside others",
    "detection": "AP50 of every prefix at every level, on labelled scenes",
    "exactness": "whether what one arithmetic encodes another decodes to the very same symbols",
    "link": "what arrives over thin links, for real, beside JPEG and H.264",
    "memory": "peak memory of each node while it works",
    "pictures": "what the picture blocks of a scene model are worth, beside JPEG and WebP",
    "scheduler": "blocks a second that the link's scheduler handles",
    "speed": "time of encode and decode on one core, beside JPEG",
    "steadiness": "id switches and level flips a minute on videos, without and with the tracker",
    "transfer": "a question asked later of whole images: linear probes on what every prefix decodes to",
}
"""Name of a command, which is that of its module here -> its line of help."""


class Study(argparse.ArgumentParser):
    """The parser of a command whose module is loaded when the command is called, not before."""

    def __init__(self, module: str, **options: Any) -> None:
        super().__init__(**options)
        self._module = module

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As the class above has it, with the module's own arguments."""
        module = importlib.import_module(self._module)
        self.description = module.__doc__
        module.add_arguments(self)
        self.set_defaults(run=module.run)
        return super().parse_known_args(args, namespace)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the commands of `STUDIES`."""
    formatter = argparse.RawDescriptionHelpFormatter
    added = parser.add_subparsers(dest="what", metavar="<what>", required=True, parser_class=Study)
    for name, summary in STUDIES.items():
        added.add_parser(name, help=summary, module=f"{__package__}.{name}", formatter_class=formatter)
