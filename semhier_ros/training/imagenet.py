"""`semhier train imagenet`: photos and EfficientNet-Lite0 become a whole-image model.

Four stages, each resumed where it was killed; without one named, all of them, one after the other. Every setting of a
stage may stand in the config file, in a section of the stage's name; what all stages share stands at its top.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

import yaml

from semhier_ros.command import CommandError

STAGES = {
    "features": ("semhier_ros.training.imagenet_features", "make", "what the trunk says of every photo (an hour)"),
    "semantic": ("semhier_ros.training.imagenet_semantic", "train", "the semantic blocks (minutes)"),
    "picture": ("semhier_ros.training.imagenet_picture", "train", "the picture blocks (hours)"),
    "model": ("semhier_ros.training.imagenet_model", "make", "tables, calibration, graphs: the model folder (minutes)"),
}
SHARED = ("data", "validation", "out", "model", "taxonomy", "seed", "threads", "device", "bf16")
OWN = ("steps", "without", "measure")  # of single stages, on the command line as well


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stage", nargs="?", choices=list(STAGES), help="one stage alone (default: all)")
    parser.add_argument("--config", type=Path, default=Path("config/training/imagenet.yaml"), help="YAML of settings")
    parser.add_argument("--data", type=Path, help="folder of photos: tars and manifest.csv")
    parser.add_argument("--validation", type=Path, help="folder of labelled photos that calibrate, with labels.csv")
    parser.add_argument("--out", type=Path, help="checkpoints and caches")
    parser.add_argument("--model", type=Path, help="folder to write")
    parser.add_argument("--seed", type=int, help="of everything drawn at random")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--device", help="auto, cpu or cuda, of the picture stage")
    parser.add_argument("--steps", type=int, help="of a training stage, instead of the config's")
    parser.add_argument("--without", help="semantic: a part of the method to leave out (levels, names, task, …)")
    parser.add_argument("--measure", action="store_true", default=None, help="semantic: print what it comes to")
    parser.set_defaults(trainer=run)


def settings_of(stage: str, config: dict[str, Any], given: dict[str, Any]) -> argparse.Namespace:
    """What a stage runs with: `given` before `config` before the stage's own defaults.

    Raises:
        CommandError: the config has a key that the stage does not know, or a folder of photos is missing.
    """
    parser = argparse.ArgumentParser()
    importlib.import_module(STAGES[stage][0]).add_arguments(parser)
    values: dict[str, Any] = {
        "taxonomy": Path("config/taxonomies/imagenet1k.yaml"),
        "out": Path("runs/imagenet"),
        "data": None,
    }
    values |= {"seed": 0, "threads": 2, "device": "auto", "bf16": False, "validation": None}
    values |= {action.dest: action.default for action in parser._actions if action.dest != "help"}
    known = set(values) | set(SHARED)
    own = {key: value for key, value in config.items() if key not in STAGES} | (config.get(stage) or {})
    for key, value in own.items():
        if key not in known:
            raise CommandError(f"config: {stage}.{key} is none of {', '.join(sorted(known))}")
        values[key] = Path(value) if isinstance(value, str) and key not in ("device", "name", "without") else value
        if isinstance(value, list):
            values[key] = [Path(one) for one in value]  # model folders to start from
    values |= {key: value for key, value in given.items() if key in known and value is not None}
    validated = stage == "model" or values.get("measure")
    if values["data"] is None or (validated and values["validation"] is None):
        raise CommandError("data: give --data PHOTOS, and for the model --validation FOLDER")
    return argparse.Namespace(**values)


def run(options: argparse.Namespace) -> int:
    """Run one stage or all."""
    config = yaml.safe_load(options.config.read_text()) if options.config.exists() else {}
    if not isinstance(config, dict):
        raise CommandError(f"--config: {options.config} holds no mapping from setting to value")
    given = {key: getattr(options, key) for key in (*SHARED, *OWN) if hasattr(options, key)}
    for stage in [options.stage] if options.stage else list(STAGES):
        module, function, _ = STAGES[stage]
        print(f"{stage}: {getattr(importlib.import_module(module), function)(settings_of(stage, config, given))}")
    return 0
