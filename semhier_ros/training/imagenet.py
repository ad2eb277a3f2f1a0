"""`semhier train imagenet`: photos and EfficientNet-Lite0 become a whole-image model.

Four stages, each resumed where it was killed; without one named, all of them, one after the other. Every setting of a
stage may stand in the config file, in a section of the stage's name; what all stages share stands at its top.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from semhier_ros.training.errors import TrainingError
from semhier_ros.training.settings import SHARED, Option, add_options, layered, run_stages

STAGES = {
    "features": ("semhier_ros.training.imagenet_features", "make", "what the trunk says of every photo (an hour)"),
    "semantic": ("semhier_ros.training.imagenet_semantic", "train", "the semantic blocks (minutes)"),
    "picture": ("semhier_ros.training.imagenet_picture", "train", "the picture blocks (hours)"),
    "model": ("semhier_ros.training.imagenet_model", "make", "tables, calibration, graphs: the model folder (minutes)"),
}
IMAGENET = (
    Option("data", Path, None, "folder of photos: tars and manifest.csv"),
    Option("validation", Path, None, "folder of labelled photos that calibrate, with labels.csv"),
    Option("out", Path, Path("runs/imagenet"), "checkpoints and caches"),
    Option("taxonomy", Path, Path("config/taxonomies/imagenet1k.yaml"), "tree of the classes"),
    *SHARED,
)
NAMED = ("model", "steps", "minutes", "batch", "lr", "views", "take", "without", "measure")
"""Options of single stages that the command line has as well."""


def options_of(stage: str) -> tuple[Option, ...]:
    """All options of a stage."""
    return *IMAGENET, *importlib.import_module(STAGES[stage][0]).OPTIONS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stage", nargs="?", choices=list(STAGES), help="one stage alone (default: all)")
    parser.add_argument(
        "--config",
        type=Path,
        default=Path("config/training/imagenet.yaml"),
        help="YAML of settings (config/training/imagenet.yaml)",
    )
    add_options(parser, IMAGENET)
    for name in NAMED:
        found = {stage: option for stage in STAGES for option in options_of(stage) if option.name == name}
        first = next(iter(found.values()))
        choices = tuple(dict.fromkeys(word for option in found.values() for word in option.choices))
        told = f"{', '.join(found)}: {first.help}"
        add_options(parser, [replace(first, default=None, help=told, choices=choices)])
    parser.set_defaults(trainer=partial(run_stages, STAGES, settings_of))


def settings_of(stage: str, config: Mapping[str, Any], given: Mapping[str, Any]) -> argparse.Namespace:
    """What a stage runs with: `given` before `config` before the stage's own defaults.

    Raises:
        TrainingError: the config has a key that the stage does not know, a value is out of range, or a folder of photos
            is missing.
    """
    values = layered({name: options_of(name) for name in STAGES}, stage, config, given)
    validated = stage == "model" or getattr(values, "measure", False)
    if values.data is None or (validated and values.validation is None):
        raise TrainingError("data: give --data PHOTOS, and for the model --validation FOLDER")
    return values
