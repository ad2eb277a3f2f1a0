"""The settings of a training stage: a table of options, filled from defaults, a config file and the command line.

A stage lists its `Option`s once. From the table come its command-line options (which leave out of the namespace what
was not given), the checks of the config file, and the ranges. `layered` puts them together: the command line before the
config file's section of the stage, that before the file's top level, that before the defaults.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from semhier_ros import options as shared
from semhier_ros.codec.model_folder import ModelError
from semhier_ros.command import for_the_user
from semhier_ros.paths import config_dir
from semhier_ros.scene.detectors.layouts import DetectorError
from semhier_ros.taxonomy import TaxonomyError
from semhier_ros.training.errors import MissingFile, TrainingError

CONFIG = "config"  # a relative path that begins so and is not there is looked for beside the installed package


@dataclass(frozen=True)
class Option:
    """One setting. kind: int, float, str, bool or Path. count: how many values of that kind (None: one, 0: any number).
    least: the smallest value allowed; above: what it must exceed; most: the largest. choices: the words
    allowed, none for any."""

    name: str
    kind: type
    default: Any = None
    help: str = ""
    count: int | None = None
    least: float | None = None
    above: float | None = None
    choices: tuple[str, ...] = ()
    metavar: Any = None
    most: float | None = None

    def read(self, value: Any, where: str) -> Any:
        """A value from a config file or a default as this option's kind.

        Raises:
            TrainingError: another kind of value, or one outside the range; the text begins with `where`.
        """
        if value is None:
            if self.default is None:
                return None
            raise TrainingError(f"{where}: nothing given; {self.wanted} wanted")
        if self.count is None:
            return self._one(value, where)
        if not isinstance(value, list | tuple) or (self.count and len(value) != self.count):
            raise TrainingError(
                f"{where}: {value!r}: a list of {self.count or 'any number'} wanted, each {self.wanted}"
            )
        return [self._one(one, where) for one in value]

    @property
    def wanted(self) -> str:
        """What values are allowed, in words."""
        if self.choices:
            return f"one of {', '.join(word or 'nothing' for word in self.choices)}"
        words = {int: "a whole number", float: "a number", str: "a word", bool: "true or false", Path: "a path"}
        bounds = f" of at least {self.least:g}" if self.least is not None else ""
        bounds = f" above {self.above:g}" if self.above is not None else bounds
        return words[self.kind] + bounds + (f" and at most {self.most:g}" if self.most is not None else "")

    def _one(self, value: Any, where: str) -> Any:
        wrong = TrainingError(f"{where}: {value!r}: {self.wanted} wanted")
        if isinstance(value, bool) != (self.kind is bool) or isinstance(value, list | dict):
            raise wrong
        try:
            read = self.kind(value)
        except (TypeError, ValueError):
            raise wrong from None
        if self.kind is int and isinstance(value, float) and value != read:
            raise wrong
        if self.kind in (int, float) and not _inside(read, self.least, self.above, self.most):
            raise wrong
        if self.choices and read not in self.choices:
            raise wrong
        return _shipped(read) if self.kind is Path else read


def _inside(value: float, least: float | None, above: float | None, most: float | None) -> bool:
    low = (least is None or value >= least) and (above is None or value > above)
    return value == value and low and (most is None or value <= most)


def _shipped(path: Path) -> Path:
    """The path, or the file of that name that came with the package."""
    if path.exists() or path.is_absolute() or path.parts[:1] != (CONFIG,):
        return path
    try:
        found = config_dir().joinpath(*path.parts[1:])
    except FileNotFoundError:
        return path
    return found if found.exists() else path


SHARED = (
    Option("seed", int, 0, "of everything drawn at random", least=0),
    Option("threads", int, 2, "CPU threads", least=1),
    Option("device", str, "auto", "auto, cpu or cuda", choices=("auto", "cpu", "cuda")),
    Option("bf16", bool, False, "bfloat16: worth it on AVX-512 bf16 and CUDA"),
    Option("workers", int, None, "processes that load pictures (default: what the machine has to spare)", least=0),
)
"""What every training takes. The same seed gives the same batches with any number of workers."""


def add_options(parser: argparse.ArgumentParser, options: Iterable[Option]) -> None:
    """Give a parser these options; its namespace will hold those alone that were given."""
    for option in options:
        flag = "--" + option.name.replace("_", "-")
        default = "" if option.default is None or option.kind is bool or option.default in ("", []) else option.default
        if isinstance(default, list | tuple):
            default = " ".join(map(str, default))
        text = option.help + (f" ({default})" if default != "" else "")
        if option.kind is bool:
            action: Any = argparse.BooleanOptionalAction
            parser.add_argument(flag, action=action, default=argparse.SUPPRESS, help=text)
            continue
        if option.name == "out":
            shared.written(parser, option.name, folder=True)
        count = {"nargs": option.count or "*"} if option.count is not None else {}
        parser.add_argument(
            flag,
            type=option.kind,
            default=argparse.SUPPRESS,
            help=text.replace("%", "%%"),
            choices=option.choices or None,
            metavar=option.metavar,
            **count,
        )


def read_config(path: Path | None) -> dict[str, Any]:
    """The settings in a YAML file; none without a path.

    Raises:
        MissingFile, TrainingError: it is not there, or holds no mapping.
    """
    if path is None:
        return {}
    path = _shipped(path)
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MissingFile(f"--config: {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TrainingError(f"--config: {path} is not YAML: {' '.join(str(error).split())}") from error
    if config is None:
        return {}
    if not isinstance(config, dict):
        raise TrainingError(f"--config: {path}: a mapping from setting to value wanted")
    return config


def layered(
    stages: Mapping[str, Sequence[Option]], stage: str, config: Mapping[str, Any], given: Mapping[str, Any]
) -> argparse.Namespace:
    """What `stage` runs with: `given` before `config` (its own section before the top level) before the defaults.

    Raises:
        TrainingError: the config has a key that no stage knows, or a value is of the wrong kind or outside its range.
    """
    own = {option.name: option for option in stages[stage]}
    known = {option.name for options in stages.values() for option in options}
    sections = {name: value for name, value in config.items() if name in stages and isinstance(value, Mapping)}
    section = sections.get(stage) or {}
    shared = {name: value for name, value in config.items() if name not in sections}  # `model` is a word of both kinds
    for key in shared:
        if key not in known:
            if key in stages:
                raise TrainingError(f"config: {key}: {shared[key]!r}: a mapping from setting to value wanted")
            raise TrainingError(f"config: {key!r} is none of {', '.join(sorted(known | set(stages)))}")
    for key in section:
        if key not in own:
            raise TrainingError(f"config: {stage}.{key} is none of {', '.join(sorted(own))}")
    values = {}
    for name, option in own.items():
        if name in given:
            values[name] = option.read(given[name], "--" + name.replace("_", "-"))
        elif name in section:
            values[name] = option.read(section[name], f"config: {stage}.{name}")
        elif name in shared:
            values[name] = option.read(shared[name], f"config: {name}")
        else:
            values[name] = option.read(option.default, name)
    return argparse.Namespace(**values)


def run_stages(
    stages: Mapping[str, tuple[str, str, str]],
    settings_of: Callable[[str, Mapping[str, Any], Mapping[str, Any]], argparse.Namespace],
    options: argparse.Namespace,
) -> int:
    """Run the stage that `options` name, or all of `stages` (module, function, summary), and say what each made.

    The settings of all are checked before any runs: their kinds and ranges, and what a module's `CHECKS` (function to
    check) says of them. Returns 0.

    Raises:
        CommandError: a setting, or a file that one names, cannot be used.
    """
    given = vars(options)
    config = read_config(given.get("config"))
    chosen = [options.stage] if options.stage else list(stages)
    settings = {stage: settings_of(stage, config, given) for stage in chosen}
    with for_the_user(DetectorError, ModelError, TaxonomyError):
        for stage in chosen:
            module, function, _ = stages[stage]
            if check := getattr(importlib.import_module(module), "CHECKS", {}).get(function):
                check(settings[stage])
        for stage in chosen:
            module, function, _ = stages[stage]
            print(f"{stage}: {getattr(importlib.import_module(module), function)(settings[stage])}", flush=True)
    return 0
