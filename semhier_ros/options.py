"""Options that several commands share: one name, one meaning and one default for each idea.

A command adds those that it takes (`common(parser, model, device)`, `model(parser, "street")` …) and its own beside
them. Lists take commas, spaces or both. An option or a command that had another name says the new one in one line
(`renamed`).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from semhier_ros.command import CommandError

DEVICES = ("auto", "cpu", "cuda", "torch")


class Listed(argparse.Action):
    """The words of a list, separated by commas, spaces or both: `a,b`, `a b` and `a, b` are the same.

    `each`: what turns a word into a value; what it raises as ValueError or ArgumentTypeError becomes the option's error
    line.
    """

    def __init__(self, option_strings: Sequence[str], dest: str, each: Callable[[str], Any] = str, **more: Any) -> None:
        super().__init__(option_strings, dest, nargs="+", **more)
        self._each = each

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        words = [word for value in values for word in split_words(value)]
        if not words:
            raise argparse.ArgumentError(self, "at least one word expected")
        try:
            setattr(namespace, self.dest, [self._each(word) for word in words])
        except (ValueError, argparse.ArgumentTypeError) as error:
            raise argparse.ArgumentError(self, str(error)) from error


def split_words(text: str) -> list[str]:
    """The words of a list that is separated by commas."""
    return [word for part in text.split(",") if (word := part.strip())]


class _Renamed(argparse.Action):
    """An option that has another name now."""

    def __init__(self, option_strings: Sequence[str], dest: str, new: str, **_: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs="*", help=argparse.SUPPRESS)
        self._new = new

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> NoReturn:
        parser.error(f"{option} has another name now: {self._new}")


def renamed(parser: argparse.ArgumentParser, **names: str) -> None:
    """Lets each old option (`names` as `names="--split"`) say the name that it has now."""
    for old, new in names.items():
        parser.add_argument(f"--{old.replace('_', '-')}", action=_Renamed, new=new)


def common(parser: argparse.ArgumentParser, *options: Callable[[argparse.ArgumentParser], None]) -> None:
    """Shared options as they are, by what adds each: `common(parser, model, device, json)`."""
    for option in options:
        option(parser)


def model(parser: argparse.ArgumentParser, default: str = "road") -> None:
    """`--model`: which model."""
    parser.add_argument(
        "--model", default=default, metavar="MODEL", help="name of an installed model, or its folder (%(default)s)"
    )


def device(parser: argparse.ArgumentParser) -> None:
    """`--device`: where the networks run."""
    parser.add_argument(
        "--device",
        default="auto",
        choices=DEVICES,
        help="where the networks run; auto: on a GPU where torch sees one, else on the CPU; torch: by torch on a CPU, "
        "to compare the two (%(default)s)",
    )


def threads(parser: argparse.ArgumentParser, default: int = 1) -> None:
    """`--threads`: CPU threads of the networks of one process."""
    parser.add_argument(
        "--threads", type=whole(1, 1024), default=default, metavar="N", help="CPU threads of each process (%(default)s)"
    )


def jobs(parser: argparse.ArgumentParser) -> None:
    """`--jobs`: processes that work side by side."""
    parser.add_argument(
        "--jobs",
        type=whole(0, 1024),
        default=0,
        metavar="N",
        help="processes side by side; 0: one a core (%(default)s)",
    )


def codecs(parser: argparse.ArgumentParser, default: Iterable[str], help: str) -> None:
    """`--codecs`: what is compared; `help` says what there is to choose from."""
    chosen = list(default)
    shown = ",".join(chosen).replace("%", "%%") or "none"
    parser.add_argument("--codecs", action=Listed, default=chosen, metavar="CODEC", help=f"{help} ({shown})")


def images(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """`--images`, and `--split` and `--limit`, which say which of them."""
    parser.add_argument("--images", type=Path, required=required, metavar="DIR", help="folder of pictures")
    split(parser)
    parser.add_argument("--limit", type=whole(1, 10**9), metavar="N", help="at most so many of them (all)")


def split(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """`--split`: which pictures of a folder."""
    parser.add_argument(
        "--split",
        type=Path,
        default=None if default is None else Path(default),
        metavar="FILE",
        help=f"a text file with a picture's file name a line: only these are used ({default or 'all'})",
    )


def labels(parser: argparse.ArgumentParser, help: str, required: bool = True) -> None:
    """`--labels`: where the truth lies."""
    parser.add_argument("--labels", type=Path, required=required, metavar="PATH", help=help)


def out(
    parser: argparse.ArgumentParser, default: str | None, help: str, folder: bool = True, *, required: bool = True
) -> None:
    """`--out`: the folder or file that is written, checked before the work. Where there is no default, it is `required`
    or nothing is written."""
    written(parser, "out", folder)
    shown = "" if default is None else f" ({default})"
    parser.add_argument(
        "--out",
        type=Path,
        default=None if default is None else Path(default),
        required=required and default is None,
        metavar="PATH",
        help=help + shown,
    )


def json(parser: argparse.ArgumentParser) -> None:
    """`--json`: the figures as a file."""
    written(parser, "json", False)
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write the figures with command, machine, model and commit, for `semhier results`",
    )


def written(parser: argparse.ArgumentParser, name: str, folder: bool) -> None:
    """Notes that option `name` names a folder or a file that the command writes, checked before the work."""
    parser.set_defaults(outputs={**(parser.get_default("outputs") or {}), name: folder})


def check_outputs(options: argparse.Namespace) -> None:
    """Makes the folders that the command is to write to, or to whose files, so that what cannot be written is said
    before the work.

    Raises:
        CommandError: a place is taken by something else, cannot be made, or is a file that the command reads.
    """
    for name, folder in getattr(options, "outputs", {}).items():
        path: Path | None = getattr(options, name, None)
        if path is None:
            continue
        place = f"--{name} {path}"
        if folder and path.exists() and not path.is_dir():
            raise CommandError(f"{place}: is a file; a folder is written")
        if not folder and path.is_dir():
            raise CommandError(f"{place}: is a folder; a file is written")
        if not folder and path.exists() and (read := _read_too(options, name, path)):
            raise CommandError(f"{place}: is what {read} names; name another file")
        made = path if folder else path.parent
        try:
            made.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CommandError(f"{place}: {made} cannot be made ({error.strerror})") from error
        if not os.access(made, os.W_OK | os.X_OK):
            raise CommandError(f"{place}: {made} cannot be written")


def _read_too(options: argparse.Namespace, name: str, path: Path) -> str:
    """The other option that names the very file `path` of option `name`; "" where none does."""
    for other, value in vars(options).items():
        named = value if isinstance(value, (list, tuple)) else [value]
        if other != name and any(isinstance(one, Path) and one.exists() and one.samefile(path) for one in named):
            return other.replace("_", "-")
    return ""


def seed(parser: argparse.ArgumentParser) -> None:
    """`--seed`: of everything drawn at random."""
    parser.add_argument(
        "--seed", type=whole(0, 2**32 - 1), default=0, metavar="N", help="of everything drawn at random (%(default)s)"
    )


def option(
    parser: Any, name: str, kind: Callable[[str], Any], default: Any, help: str, metavar: str | None = None
) -> None:
    """An option that is a number of a `kind`; its help tells the default, if there is one."""
    shown = "" if default is None else " (%(default)s)"
    parser.add_argument(name, type=kind, default=default, metavar=metavar, help=help + shown)


def several(
    parser: Any, name: str, kind: Callable[[str], Any], default: Any, help: str, metavar: str | None = None
) -> None:
    """An option that is a list of values of a `kind`; its help tells the default, if there is one."""
    shown = f" ({','.join(map(str, default))})" if default else ""
    parser.add_argument(name, action=Listed, each=kind, default=default, metavar=metavar, help=help + shown)


def one_of(*names: str) -> Callable[[str], str]:
    """The type of a word among `names`."""

    def word(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"{text!r}, one of {', '.join(names)} expected")
        return text

    return word


def whole(least: int, most: int) -> Callable[[str], int]:
    """The type of a whole number of a range, both ends included."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r}, a whole number from {least} to {most} expected")
        return value

    return number


def real(least: float, most: float) -> Callable[[str], float]:
    """The type of a number of a range, both ends included; never NaN."""

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r}, a number from {least:g} to {most:g} expected")
        return value

    return number
