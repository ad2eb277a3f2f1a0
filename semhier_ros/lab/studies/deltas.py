"""What memory is worth over a link: the same footage with and without it, at several losses, over several seeds.

Every run is a replay in virtual time (`replay.work.replay`): the nodes' own two ends, envelopes, reports, repeats and
rate control between them. Told of each: streaming AP50 at L0, payload of all names a frame, bytes on the wire, bits of
reports, share of frames that were deltas, age. Runs are kept as those of `semhier sweep`, as long as the code is the
same, so that a study that was ended goes on. Then what the two memories by themselves cost: bits of a delta by field
(ideal costs of its symbols) and the processor time of coding it at either end, detector and readings apart.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from semhier_ros import options as shared
from semhier_ros.command import CommandError
from semhier_ros.footage.video import VideoCamera
from semhier_ros.lab.made_scenes import Memories
from semhier_ros.lab.options import finish
from semhier_ros.lab.replay.base import Costs
from semhier_ros.lab.replay.blocks import SceneObjects
from semhier_ros.lab.replay.reader import Reader, reader_of_videos
from semhier_ros.lab.replay.store import CACHE_FILE, default_folder
from semhier_ros.lab.replay.sweep import Cell, cell_of, run_cells
from semhier_ros.lab.replay.task import Task
from semhier_ros.lab.results import commit
from semhier_ros.link.emulate.profile import parse_link
from semhier_ros.progress import each

FIGURES = ("ap50_l0", "payload_bytes", "wire_bytes_per_s", "reports_bits_per_s", "deltas", "age_ms", "delivered")
"""What a run says of itself."""


def cells_of(options: argparse.Namespace) -> list[Cell]:
    """All runs that are asked for. Where nothing is lost one seed says it all."""
    code = commit()
    if not code or code.endswith("+"):  # files that no commit has may be others than they were
        code = f"{code}{time.time_ns()}"
    link = f"{options.rate},{options.delay:g}ms,{{:g}}%,burst{options.burst:g},seed{{}}"
    cache = (options.cache or default_folder()) / CACHE_FILE
    asked = Task((), "", ("semhier",), options.model, options.device, costs=Costs(), forecast=False, cache=cache)
    asked = replace(asked, finest=options.finest, frame_rate=options.fps)
    return [
        cell_of(replace(asked, bags=(video,), link=link.format(loss, seed), memory=memory), code)
        for video, loss, memory in product(options.videos, options.loss, (False, True))
        for seed in range(options.seed, options.seed + (options.seeds if loss else 1))
    ]


def run_of(cell: Cell, summary: dict[str, Any]) -> dict[str, Any]:
    """What was run, and its figures."""
    found, link = summary["codecs"]["semhier"], parse_link(cell.link)
    counters, frames = found["counters"], max(1, found["counters"]["encoded"])
    return {
        "video": cell.bag,
        "link": cell.link,
        "loss": round(100 * link.loss, 6),
        "seed": link.seed,
        "memory": cell.task.memory,
        "ap50_l0": found["streaming_ap50"]["L0"],
        "payload_bytes": counters["names_bytes"] / frames,
        "wire_bytes_per_s": found["wire_bytes_per_s"],
        "reports_bits_per_s": 8 * found["link"]["bytes back"] / found["seconds"],
        "deltas": counters.get("deltas", 0) / frames,
        "age_ms": found["age_ms"]["p50"],
        "delivered": found["delivered"],
        "frames": frames,
    }


def rows_of(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard error over the seeds of every video, loss and memory; with memory also how much more AP50 than
    without, seed by seed."""
    groups: dict[tuple[str, float, bool], list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["video"], run["loss"], run["memory"]), []).append(run)
    rows = []
    for (video, loss, memory), group in groups.items():
        row: dict[str, Any] = {"video": video, "loss": loss, "memory": memory, "seeds": len(group)}
        row |= {name: _spread([one[name] for one in group if one[name] is not None]) for name in FIGURES}
        without = {one["seed"]: one["ap50_l0"] for one in groups.get((video, loss, False), [])}
        pairs = [(one["ap50_l0"], without.get(one["seed"])) for one in group]
        known = [mine - other for mine, other in pairs if mine is not None and other is not None]
        if memory and known:
            row["more_ap50_l0"] = _spread(known)
        rows.append(row)
    return rows


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    """Mean and its standard error."""
    if not values:
        return None
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return {"mean": round(float(np.mean(values)), 4), "error": round(error, 4)}


def costs_of(reader: Reader, path: Path, fps: float, threshold: float | None) -> dict[str, Any]:
    """What the two memories cost on one video, one handing to the other what it made: bits by field, time of either.

    threshold: of the detector, for scenes of more objects than its own lets through.
    """
    camera = VideoCamera(path, rate=fps, remember=reader.store.made)
    model: Any = reader.codec.model
    find = SceneObjects(reader, camera)
    if threshold is None:
        found = [find(number) for number in range(len(camera))]
    else:
        found = [model.find(camera.image(number), threshold) for number in range(len(camera))]
    memories = Memories(model)
    bits: Counter[str] = Counter()
    sizes: dict[str, list[int]] = {"whole": [], "delta": []}
    for number, (stamp, objects) in enumerate(zip(camera.times_ns, found, strict=True)):
        moved = find.moved(number, number - 1 if number else None) if threshold is None else None
        code, data = memories.say(objects, number & 0xFFFF, stamp, moved=moved)
        if data is None:
            sizes["whole"].append(sum(len(model.stream.encode(index, code)) for index in range(model.levels)))
        else:
            sizes["delta"].append(len(data))
            bits.update(memories.sender.costs())
    spent = {name: memories.spent[name] for name in ("delta", "whole", "read")}
    deltas = max(1, len(sizes["delta"]))
    return {
        "video": path.name,
        "frames": len(camera),
        "threshold": threshold,
        "objects_a_frame": round(float(np.mean([len(objects) for objects in found])), 1),
        "bytes_a_frame": _mean([*sizes["whole"], *sizes["delta"]]),
        "whole": {"frames": len(sizes["whole"]), "bytes": _mean(sizes["whole"])},
        "delta": {"frames": len(sizes["delta"]), "bytes": _mean(sizes["delta"])},
        "bits_a_delta": {name: round(value / deltas, 1) for name, value in sorted(bits.items())},
        "ms": {name: _mean(values) for name, values in spent.items()},
        "ms_median": {name: round(float(np.median(values)), 2) for name, values in spent.items() if values},
    }


def _mean(values: list[Any]) -> float | None:
    return round(float(np.mean(values)), 2) if values else None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("videos", type=Path, nargs="+", help="video files")
    shared.common(parser, shared.model, shared.device, shared.json)
    shared.out(parser, "out/deltas", "folder of what each run gave")
    shared.jobs(parser)
    parser.add_argument("--fps", type=shared.real(1, 60), default=12.5, help="frames a second (%(default)s)")
    parser.add_argument("--rate", default="64kbit", help="of the link (%(default)s)")
    parser.add_argument("--delay", type=shared.real(0, 1000), default=50.0, help="one way, in ms (%(default)s)")
    shared.several(parser, "--loss", shared.real(0, 90), [0.0, 5.0, 20.0], "datagrams lost, in %%", "PERCENT")
    parser.add_argument("--burst", type=shared.real(1, 100), default=4.0, help="mean run of losses (%(default)s)")
    parser.add_argument("--seeds", type=shared.whole(1, 1000), default=6, help="of losses, a run each (%(default)s)")
    parser.add_argument("--seed", type=shared.whole(0, 1_000_000), default=11, help="the first of them (%(default)s)")
    parser.add_argument("--finest", type=shared.whole(0, 15), default=3, help="last block that is sent (%(default)s)")
    said = "of the detector where cost is measured, for scenes of more objects (the model's)"
    shared.option(parser, "--threshold", shared.real(0.001, 0.999), None, said, "SCORE")
    parser.add_argument("--cache", type=Path, help="folder of what was computed before (default: replay's)")


def run(options: argparse.Namespace) -> int:
    done, failed = run_cells(cells_of(options), options.out / "runs", options.jobs)
    if failed:
        raise CommandError("; ".join(failed))
    runs = [run_of(*one) for one in done]
    reader = reader_of_videos(options.videos, options.model, options.device, options.cache)
    costs = [costs_of(reader, video, options.fps, options.threshold) for video in each(options.videos, "costs")]
    result = {
        "model": reader.codec.name,
        "model_hash": reader.codec.model_hash,
        "fps": options.fps,
        "link": f"{options.rate},{options.delay:g}ms",
        "burst": options.burst,
        "rows": rows_of(runs),
        "videos": costs,
        "finest": options.finest,
        "runs": runs,
    }
    return finish(result, options.json, "deltas")
