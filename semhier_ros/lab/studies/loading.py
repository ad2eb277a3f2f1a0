"""How many augmented crops of road scenes a second the trainings' loader gives, by number of worker processes.

Beside the rate stands the processor time that a crop costs: it says on a busy machine, too, what more workers would
give on processors of their own.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from semhier_ros import options as shared
from semhier_ros.lab.options import finish
from semhier_ros.paths import config_dir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="labelled scenes, as of `semhier train road`")
    parser.add_argument("--splits", type=Path, help="for a folder: where train.txt lists its scenes (as there)")
    parser.add_argument("--cache", type=Path, help="where decoded scenes are kept (default: they are thrown away)")
    shared.several(parser, "--workers", shared.whole(0, 256), [0, 1, 2], "how many to try")
    shared.option(parser, "--batch", shared.whole(1, 10_000), 16, "crops in a batch")
    shared.option(parser, "--batches", shared.whole(1, 10**6), 40, "batches that are counted")
    parser.add_argument(
        "--crop",
        type=shared.whole(32, 1 << 14),
        nargs=2,
        default=(512, 320),
        metavar=("W", "H"),
        help="a crop (512 320)",
    )
    shared.json(parser)


def run(options: argparse.Namespace) -> int:
    """Measures each number of workers, one after the other."""
    from semhier_ros.training.loader import measure, processor_time
    from semhier_ros.training.road_data import load_scenes
    from semhier_ros.training.scene_samples import SceneSamples
    from semhier_ros.training.yolo_data import YoloData

    splits = options.splits or config_dir() / "splits" / "road-vehicles"
    with tempfile.TemporaryDirectory() as folder:
        scenes = load_scenes(YoloData.open(options.data, splits), "train", options.cache or Path(folder))
        samples = SceneSamples(scenes, tuple(options.crop), seed=0)
        result = {
            "pictures": len(scenes),
            "crop": list(options.crop),
            "batch": options.batch,
            "processors": len(os.sched_getaffinity(0)),
            "processor_ms_per_sample": round(processor_time(samples, 200), 2),
            "rows": [measure(samples, options.batch, workers, options.batches) for workers in options.workers],
        }
    return finish(result, options.json)
