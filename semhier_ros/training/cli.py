"""`semhier train …`: make a model of your own. `road` takes labelled road scenes and a taxonomy of their classes.

    semhier train road --config config/training/road.yaml --data my.yaml       # all stages, one after the other
    semhier train road detector --data my.yaml --minutes 600                   # one of them

Each stage resumes where it was killed, in any number of sittings. A setting comes from the command line, else from the
config file (the stage's own section, then the file's top level), else from the stage's default.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from semhier_ros.training.errors import TrainingError
from semhier_ros.training.settings import SHARED, Option, add_options, layered, run_stages

STAGES = {
    "detector": ("semhier_ros.training.detector", "train", "where vehicles are and which (hours on two cores)"),
    "picture": ("semhier_ros.training.picture", "train", "picture blocks and their synthesis (hours on two cores)"),
    "model": (
        "semhier_ros.training.road_model",
        "make",
        "object codec, tables, calibration: the model folder (minutes)",
    ),
}
ROAD = (
    Option("data", Path, None, "data.yaml (path, train, val, names), or a folder with images/, labels/, classes.txt"),
    Option(
        "splits",
        Path,
        Path("config/splits/road-vehicles"),
        "for a folder: where train.txt and choose.txt list image file names",
    ),
    Option("taxonomy", Path, Path("config/taxonomies/road21.yaml"), "tree whose leaves are the classes, in order"),
    Option("out", Path, Path("runs/road"), "checkpoints and caches"),
    *SHARED,
)
CONFIG_HELP = "YAML with the settings of all stages"


def options_of(stage: str) -> tuple[Option, ...]:
    """All options of a stage of `road`."""
    return *ROAD, *importlib.import_module(STAGES[stage][0]).OPTIONS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="<model>", required=True)
    road = kinds.add_parser("road", help="detections of road scenes", description=__doc__)
    road.formatter_class = argparse.RawDescriptionHelpFormatter
    road.add_argument("--config", type=Path, default=argparse.SUPPRESS, help=CONFIG_HELP)
    add_options(road, (*ROAD, *(option for option in options_of("model") if option.name == "model")))
    stages = road.add_subparsers(dest="stage", metavar="<stage>", required=False)
    for name, (_, _, summary) in STAGES.items():
        stage = stages.add_parser(name, help=summary, description=summary)
        stage.add_argument("--config", type=Path, default=argparse.SUPPRESS, help=CONFIG_HELP)
        add_options(stage, options_of(name))
    road.set_defaults(trainer=partial(run_stages, STAGES, settings_of))
    whole = kinds.add_parser("imagenet", help="one answer per picture, along a tree of the ImageNet classes")
    importlib.import_module("semhier_ros.training.imagenet").add_arguments(whole)
    street_module = importlib.import_module("semhier_ros.training.street")
    street = kinds.add_parser(
        "street", help="people and more for a detector of vehicles", description=street_module.__doc__
    )
    street.formatter_class = argparse.RawDescriptionHelpFormatter
    street_module.add_arguments(street)
    reference_codec = importlib.import_module("semhier_ros.training.reference_codec")
    summary = "weights of a learned codec to compare with: CompressAI's, for `compressai:PATH`"
    reference = kinds.add_parser("reference", help=summary, description=reference_codec.__doc__)
    reference.formatter_class = argparse.RawDescriptionHelpFormatter
    reference_codec.add_arguments(reference)
    reference.set_defaults(trainer=reference_codec.run)


def settings_of(stage: str, config: Mapping[str, Any], given: Mapping[str, Any]) -> argparse.Namespace:
    """What a stage of `road` runs with: `given` before `config` before the stage's defaults.

    Raises:
        TrainingError: the config has a key that no stage knows, a value is out of range, or `data` is nowhere.
    """
    values = layered({name: options_of(name) for name in STAGES}, stage, config, given)
    if values.data is None:
        raise TrainingError("data: nothing to learn from; give --data my.yaml")
    return values


def run(options: argparse.Namespace) -> int:
    return int(options.trainer(options))
