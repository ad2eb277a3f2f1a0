"""`semhier train street`: people, riders, animals and lights for a detector of vehicles, out of sets that label
different things.

    semhier train street --config config/training/street.yaml --data SETS --teacher yolox_nano.onnx     # all stages
    semhier train street detector --config config/training/street.yaml --data SETS --minutes 600        # one of them

`gather` writes one catalogue of all pictures and their labels; `teach` asks a teacher about each, view by view; `adapt`
widens the detector of a model folder by what they say, its trunk and neck fixed; `detector` trains the whole of it;
`settle` writes labelled scenes, with one leaf for each object, and `pictures` the start model's picture codec, told of
the new roles: from both `semhier train road model` makes the folder. `report` writes what is kept for reporting. Each
goes on where it was stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from semhier_ros.training.errors import TrainingError
from semhier_ros.training.settings import SHARED, Option, add_options, layered, run_stages

STAGES = {
    name: ("semhier_ros.training.street_stages", name, "")
    for name in ("gather", "teach", "adapt", "thin", "detector", "blend", "settle", "pictures", "report")
}
OPTIONS = (
    Option("data", Path, None, "folder of the sets that the recipe names"),
    Option("sources", Path, Path("config/training/street-sources.yaml"), "the recipe"),
    Option("taxonomy", Path, Path("config/taxonomies/street.yaml"), "the tree"),
    Option("splits", Path, Path("config/splits/street"), "folder of train.txt, choose.txt and report.txt"),
    Option("out", Path, Path("runs/street"), "caches and checkpoints"),
    Option("start", Path, Path("models/road"), "model folder to widen"),
    Option("teacher", Path, None, "teach: a detector of others, ONNX"),
    Option("layout", str, "", "teach: how to read it (default: as its tensors suggest)"),
    Option("names", str, "coco80", "teach: its classes, a list's name or a file"),
    Option("views", int, 4, "teach: how many views of each picture", least=1),
    Option("looks", int, 1500, "adapt: pictures whose maps are kept, 1.2 MB each", least=1),
    Option("steps", int, 1200, "adapt: steps of 16 pictures", least=1),
    Option("rounds", int, 3, "adapt: how often its worst mistakes are looked for", least=1),
    Option("lr", float, 2e-3, "adapt: learning rate, halved each round", above=0),
    Option("widths", str, (), "thin: channels that blocks of the trunk shall have, such as 1.0=64 (as they are)", 0),
    Option("minutes", float, 600.0, "detector: anneal to this much time if steps take longer", above=0),
    Option("detector_steps", int, 20000, "detector: of training; 0 takes what adapt made", least=0),
    Option("batch", int, 16, "detector: crops in a step", least=1),
    Option("crop", int, (512, 320), "detector: pixels of a crop, multiples of 32", 2, 32, metavar=("W", "H")),
    Option("rate", float, 1.2e-3, "detector: learning rate at its greatest", above=0),
    Option("fold", bool, False, "detector: keep the normalisations' statistics, folded into the convolutions; quicker"),
    Option("tutor", Path, None, "detector: model folder whose word on crops of `tutored` is learned as well"),
    Option("tutored", str, ("road-vehicles",), "detector: the sets that the tutor knows", count=0),
    Option(
        "kept",
        float,
        (0.0, 0.0),
        "blend: share of the start's weights in trunk and neck, and in the heads",
        2,
        0,
        most=1,
    ),
    Option(
        "given_back",
        float,
        0.0,
        "blend: how much of what rare types were taught more often, or weighed more, is taken from their chances again",
        least=0,
        most=2,
    ),
    Option("settled", int, 1200, "settle: training scenes for the object codec", least=1),
    Option(
        "picture_start",
        Path,
        (Path("models/imagenet"), Path("models/road")),
        "pictures: model folders with the picture codec",
        count=0,
    ),
    *SHARED,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stage", nargs="?", choices=list(STAGES), help="one stage alone (default: all)")
    parser.add_argument("--config", type=Path, default=None, help="YAML with settings, as the options are named")
    add_options(parser, OPTIONS)
    parser.set_defaults(trainer=partial(run_stages, STAGES, settings_of))


def settings_of(stage: str, config: Mapping[str, Any], given: Mapping[str, Any]) -> argparse.Namespace:
    """What any stage runs with: `given` before `config` before the defaults.

    Raises:
        TrainingError: the config has an unknown key, a value is out of range, or `data` is nowhere.
    """
    values = layered({"street": OPTIONS}, "street", config, given)
    if values.data is None:
        raise TrainingError("data: nothing to learn from; give --data SETS")
    return values
