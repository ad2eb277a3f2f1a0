"""`semhier train …`: make a model of your own. `road` takes labelled road scenes and a taxonomy of their classes.

    semhier train road --config config/training/road.yaml --data my.yaml       # all stages, one after the other
    semhier train road detector --data my.yaml --minutes 600                   # one of them

Each stage resumes where it was killed, in any number of sittings. A setting comes from the command line, else from the
config file (the stage's own section, then the file's top level), else from the stage's default.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

import yaml

STAGES = {
    "detector": ("semhier_ros.training.detector", "train", "where vehicles are and which (hours on two cores)"),
    "picture": ("semhier_ros.training.picture", "train", "picture blocks and their synthesis (hours on two cores)"),
    "model": (
        "semhier_ros.training.road_model",
        "make",
        "object codec, tables, calibration: the model folder (minutes)",
    ),
}


def _add_shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        help="data.yaml (path, train, val, names), or a folder with images/, labels/, classes.txt",
    )
    parser.add_argument(
        "--splits",
        type=Path,
        default=Path("config/splits/road-vehicles"),
        help="for a folder: where train.txt and choose.txt list image file names (config/splits/road-vehicles)",
    )
    parser.add_argument(
        "--taxonomy",
        type=Path,
        default=Path("config/taxonomies/road21.yaml"),
        help="tree whose leaves are the classes, in order (config/taxonomies/road21.yaml)",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/road"), help="checkpoints and caches (runs/road)")
    parser.add_argument("--seed", type=int, default=0, help="of everything drawn at random (0)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (2)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (auto)")
    parser.add_argument("--bf16", action="store_true", help="bfloat16: worth it on AVX-512 bf16 and CUDA")


def _add_stage(parser: argparse.ArgumentParser, stage: str) -> None:
    _add_shared(parser)
    importlib.import_module(STAGES[stage][0]).add_arguments(parser)


def _defaults(stage: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    _add_stage(parser, stage)
    return vars(parser.parse_args([]))


def _only_what_is_given(parser: argparse.ArgumentParser) -> None:
    """Let options that were not on the command line stay out of the namespace."""
    for action in parser._actions:
        action.default = argparse.SUPPRESS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="<model>", required=True)
    road = kinds.add_parser("road", help="detections of road scenes", description=__doc__)
    road.formatter_class = argparse.RawDescriptionHelpFormatter
    _add_shared(road)
    road.add_argument("--model", type=Path, default=Path("models/road"), help="folder to write (models/road)")
    _only_what_is_given(road)
    road.add_argument("--config", type=Path, help="YAML with the settings of all stages")
    stages = road.add_subparsers(dest="stage", metavar="<stage>", required=False)
    for name, (_, _, summary) in STAGES.items():
        stage = stages.add_parser(name, help=summary, description=summary)
        _add_stage(stage, name)
        _only_what_is_given(stage)
        stage.add_argument(
            "--config", type=Path, default=argparse.SUPPRESS, help="YAML with the settings of all stages"
        )
    road.set_defaults(trainer=run_road)
    whole = kinds.add_parser("imagenet", help="one answer per picture, along a tree of the ImageNet classes")
    importlib.import_module("semhier_ros.training.imagenet").add_arguments(whole)
    reference_codec = importlib.import_module("semhier_ros.training.reference_codec")
    summary = "weights of a learned codec to compare with: CompressAI's, for `compressai:PATH`"
    reference = kinds.add_parser("reference", help=summary, description=reference_codec.__doc__)
    reference.formatter_class = argparse.RawDescriptionHelpFormatter
    reference_codec.add_arguments(reference)
    reference.set_defaults(trainer=reference_codec.run)


def settings_of(stage: str, config: dict[str, Any], given: dict[str, Any]) -> argparse.Namespace:
    """What a stage runs with: `given` before `config` before the stage's defaults.

    Raises:
        ValueError: the config has a key that no stage knows, or `data` is nowhere.
    """
    defaults = _defaults(stage)
    known = set().union(*(_defaults(name) for name in STAGES))
    own = config.get(stage) or {}
    shared = {key: value for key, value in config.items() if key not in STAGES}
    for key in shared:
        if key not in known:
            raise ValueError(f"config: {key!r} is none of {', '.join(sorted(known | set(STAGES)))}")
    for key in own:
        if key not in defaults:
            raise ValueError(f"config: {stage}.{key} is none of {', '.join(sorted(defaults))}")
    values = defaults | {key: value for key, value in (shared | own).items() if key in defaults}
    for key, value in values.items():
        if isinstance(value, list) and key == "start":
            values[key] = [Path(folder) for folder in value]
        elif isinstance(defaults[key], Path) or key in ("data", "photos", "whole_images", "start"):
            values[key] = Path(value) if value is not None else None
    values |= {key: value for key, value in given.items() if key in defaults}
    if values["data"] is None:
        raise ValueError("data: nothing to learn from; give --data my.yaml")
    return argparse.Namespace(**values)


def run_road(options: argparse.Namespace) -> int:
    given = vars(options)
    config = yaml.safe_load(options.config.read_text()) if given.get("config") else {}
    if not isinstance(config, dict):
        raise ValueError(f"{options.config}: a mapping from setting to value wanted")
    for stage in [options.stage] if options.stage else list(STAGES):
        module, function, _ = STAGES[stage]
        settings = settings_of(stage, config, given)
        print(f"{stage}: {getattr(importlib.import_module(module), function)(settings)}", flush=True)
    return 0


def run(options: argparse.Namespace) -> int:
    return int(options.trainer(options))
