"""`semhier train …`: make a model of your own. `road` takes a YOLO folder of scenes and a taxonomy of its classes.

Three stages, each resumed where it was killed, in any number of sittings; then `model` puts the folder together:

    semhier train road detector --data DATA --splits SPLITS
    semhier train road picture  --data DATA --splits SPLITS
    semhier train road model    --data DATA --splits SPLITS --model models/mine
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

STAGES = {
    "detector": ("semhier_ros.training.detector", "train", "where vehicles are and which (hours on two cores)"),
    "picture": ("semhier_ros.training.picture", "train", "picture blocks and their synthesis (hours on two cores)"),
    "model": (
        "semhier_ros.training.road_model",
        "make",
        "object codec, tables, calibration: the model folder (minutes)",
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="<model>", required=True)
    road = kinds.add_parser("road", help="detections of road scenes")
    stages = road.add_subparsers(dest="stage", metavar="<stage>", required=True)
    for name, (module, function, summary) in STAGES.items():
        stage = stages.add_parser(name, help=summary, description=summary)
        stage.add_argument(
            "--data", type=Path, required=True, help="folder with images/, labels/ (YOLO) and classes.txt"
        )
        stage.add_argument(
            "--splits",
            type=Path,
            default=Path("config/splits/road-vehicles"),
            help="folder with train.txt and choose.txt: image file names (default: %(default)s)",
        )
        stage.add_argument(
            "--taxonomy",
            type=Path,
            default=Path("config/taxonomies/road21.yaml"),
            help="tree whose leaves are the classes, in order (default: %(default)s)",
        )
        stage.add_argument(
            "--out", type=Path, default=Path("runs/road"), help="checkpoints and caches (default: %(default)s)"
        )
        stage.add_argument("--seed", type=int, default=0)
        stage.add_argument("--threads", type=int, default=2)
        if name != "model":
            stage.add_argument("--device", default="auto", help="auto, cpu or cuda")
            stage.add_argument("--bf16", action="store_true", help="bfloat16 (worth it on AVX-512 bf16 and CUDA)")
        importlib.import_module(module).add_arguments(stage)
        stage.set_defaults(stage_function=(module, function))


def run(options: argparse.Namespace) -> int:
    module, function = options.stage_function
    print(getattr(importlib.import_module(module), function)(options))
    return 0
