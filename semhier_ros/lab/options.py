"""Options that several measuring commands share, and where their results go."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semhier_ros.api import Codec
from semhier_ros.codec.graphs import PRECISIONS
from semhier_ros.command import CommandError, for_the_user
from semhier_ros.footage.labels import Scene, check_scenes, find_scenes
from semhier_ros.lab.results import provenance, write_json
from semhier_ros.lab.studies.tables import shown


def load_codec(
    model: str,
    device: str = "cpu",
    threads: int = 1,
    kind: str = "",
    precision: str = "auto",
    looks: Sequence[str] | None = None,
) -> Codec:
    """The codec that `--model` names. kind: `scenes` or `whole images`, where only such models will do. looks: as
    `Codec.load` takes them.

    Raises CommandError when there is none, or it is of another kind.
    """
    with for_the_user():
        codec = Codec.load(model, device, threads=threads, precision=precision, detector_looks=looks)
    if kind and codec.whole_image != (kind == "whole images"):
        raise CommandError(f"--model {model}: {codec.name} reads no {kind}; a model of {kind} is wanted")
    return codec


def labelled_scenes(options: argparse.Namespace) -> list[Scene]:
    """The scenes that `--images`, `--labels`, `--split`, `--limit` and, where there is one, `--ignored` name. What is
    left out of their labels is said on stderr.

    Raises LabelError or FootageError, both CommandErrors.
    """
    found = find_scenes(options.images, options.labels, options.split, getattr(options, "ignored", None))
    scenes = found[: options.limit]
    for line in check_scenes(scenes).lines():
        print(f"note: {line}", file=sys.stderr)
    return scenes


def precision(parser: argparse.ArgumentParser) -> None:
    """`--precision`: of a model's networks."""
    parser.add_argument("--precision", default="auto", choices=PRECISIONS, help="of the networks (%(default)s)")


def check_range(name: str, value: float | None, low: float, high: float) -> None:
    """Raises CommandError for an option that is given and outside low..high."""
    if value is not None and not low <= value <= high:
        raise CommandError(f"--{name} {value:g}: outside {low:g}..{high:g}")


def finish(result: dict[str, Any], path: Path | None, study: str = "", text: str = "") -> int:
    """Writes the result to `path` and prints the tables of its `study`, or another `text`, for people; without a path
    prints the result. Returns 0.

    The result says under `measured` where it comes from.
    """
    whole = {**result, "measured": provenance()}
    if path is None:
        print(json.dumps(whole, indent=1))
        return 0
    write_json(path, whole)
    print(shown(study, result) if study else text or path)
    return 0
