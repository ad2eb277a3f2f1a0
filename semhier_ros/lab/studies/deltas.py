"""What memory is worth over a link: the same footage with and without it, at several losses, over several seeds.

Every run is a replay in virtual time (`replay.work.replay`): the nodes' own two ends, envelopes, reports, repeats and
rate control between them. Told of each: streaming AP50 at L0, payload of all names a frame, bytes on the wire, bits of
reports, share of frames that were deltas, age. Runs are kept in a folder, so that a study that was ended goes on. Then
what the two memories by themselves cost: bits of a delta by field (ideal costs of its symbols) and the processor time
of coding it at either end, detector and readings apart.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from semhier_ros import options as shared
from semhier_ros.footage.video import VideoCamera
from semhier_ros.lab.options import finish
from semhier_ros.lab.provenance import commit
from semhier_ros.lab.replay.base import Costs
from semhier_ros.lab.replay.blocks import SceneObjects
from semhier_ros.lab.replay.reader import Reader, reader_of_videos
from semhier_ros.lab.replay.store import digest
from semhier_ros.lab.replay.task import Task
from semhier_ros.lab.replay.work import replay
from semhier_ros.lab.workers import Workers
from semhier_ros.progress import each
from semhier_ros.scene.budget import importance
from semhier_ros.scene.objects import code_objects
from semhier_ros.whole_file import write_whole

FIGURES = ("ap50_l0", "payload_bytes", "wire_bytes_per_s", "reports_bits_per_s", "deltas", "age_ms", "delivered")
"""What a run says of itself."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One run. loss in percent, in bursts of `burst` datagrams; `finest`: the last block that is sent."""

    video: str
    fps: float
    rate: str
    delay: float
    loss: float
    burst: float
    seed: int
    memory: bool
    finest: int

    @property
    def link(self) -> str:
        """As `--link` names it."""
        return f"{self.rate},{self.delay:g}ms,{self.loss:g}%,burst{self.burst:g},seed{self.seed}"


class Runs:
    """Runs cells, by one reader. model, device, cache: as of `reader_of_videos`."""

    def __init__(self, videos: Sequence[Path], model: str, device: str, cache: Path | None) -> None:
        self.reader = reader_of_videos(videos, model, device, cache)
        self._model, self._device = model, device

    def run(self, cell: Cell) -> dict[str, Any]:
        """The figures of one run."""
        task = Task(
            (Path(cell.video),),
            cell.link,
            ("semhier",),
            self._model,
            self._device,
            costs=Costs(),
            finest=cell.finest,
            frame_rate=cell.fps,
            forecast=False,
            memory=cell.memory,
        )
        done = replay(task, reader=self.reader)
        self.reader.store.flush()
        run, found = done.runs["semhier"], done.summary["codecs"]["semhier"]
        frames = max(1, run.counters["encoded"])
        figures = (
            found["streaming_ap50"]["L0"],
            run.counters["names_bytes"] / frames,
            found["wire_bytes_per_s"],
            8 * run.link["bytes back"] / run.seconds,
            len(run.deltas) / frames,
            found["age_ms"]["p50"],
            found["delivered"],
        )
        return {**asdict(cell), **dict(zip(FIGURES, figures, strict=True)), "frames": frames}


def cells_of(options: argparse.Namespace) -> list[Cell]:
    """All runs that are asked for. Where nothing is lost one seed says it all."""
    seeds = lambda loss: range(options.seed, options.seed + (options.seeds if loss else 1))  # noqa: E731
    return [
        Cell(str(video), options.fps, options.rate, options.delay, loss, options.burst, seed, memory, options.finest)
        for video, loss, memory in product(options.videos, options.loss, (False, True))
        for seed in seeds(loss)
    ]


def run_all(cells: Sequence[Cell], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every cell's figures; those that this very code measured before are taken from the folder of runs."""
    folder, code = options.out / "runs", commit()
    folder.mkdir(parents=True, exist_ok=True)
    arguments = (options.videos, options.model, options.device, options.cache)

    def place(cell: Cell) -> Path:
        said = json.dumps({**asdict(cell), "video": Path(cell.video).name, "model": str(options.model), "code": code})
        return folder / f"{Path(cell.video).stem}-{digest(said)[:12]}.json"

    found: dict[Cell, dict[str, Any]] = {}
    if code and not code.endswith("+"):  # files that no commit has may be others than they were
        for cell in cells:
            if place(cell).is_file():
                found[cell] = json.loads(place(cell).read_text(encoding="utf-8"))
    waiting = [cell for cell in cells if cell not in found]
    if waiting:
        with Workers(options.jobs, len(waiting), Runs, *arguments) as workers:
            done = workers.finished("run", [(cell,) for cell in waiting])
            for number, result in each(done, "replays", len(waiting)):
                found[waiting[number]] = result()
                write_whole(place(waiting[number]), json.dumps(result(), indent=1) + "\n")
    return [found[cell] for cell in cells]


def rows_of(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard error over the seeds of every video, loss and memory; with memory also how much more AP50 than
    without, seed by seed."""
    groups: dict[tuple[str, float, bool], list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["video"], run["loss"], run["memory"]), []).append(run)
    rows = []
    for (video, loss, memory), group in groups.items():
        row: dict[str, Any] = {"video": Path(video).name, "loss": loss, "memory": memory, "seeds": len(group)}
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
    reader.store.flush()
    sender, receiver = model.sender_memory(), model.receiver_memory()
    bits: Counter[str] = Counter()
    sizes: dict[str, list[int]] = {"whole": [], "delta": []}
    spent: dict[str, list[float]] = {"delta": [], "whole": [], "read": []}
    for number, (stamp, objects) in enumerate(zip(camera.times_ns, found, strict=True)):
        moved = find.moved(number, number - 1 if number else None) if threshold is None else None
        worth = importance(model.stream.layout, objects, moved)
        sender.begin(number & 0xFFFF, stamp)
        began = time.thread_time()
        data = sender.delta(objects, worth)
        took = time.thread_time() - began
        if data is None:
            code = code_objects(model.stream, model.folder.projection, objects, model.semantic_blocks)
            began = time.thread_time()
            sender.whole(code)
            spent["whole"].append(took + time.thread_time() - began)
            names = [model.stream.encode(index, code) for index in range(model.levels)]
            sizes["whole"].append(sum(map(len, names)))
            receiver.whole(code, model.semantic_blocks - 1, number & 0xFFFF, stamp)
        else:
            spent["delta"].append(took)
            sizes["delta"].append(len(data))
            bits.update(sender.costs())
            began = time.thread_time()
            receiver.delta(data, number & 0xFFFF, stamp)
            spent["read"].append(time.thread_time() - began)
        sender.heard(receiver.acknowledgement)
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
        "ms": {name: _mean([1e3 * value for value in values]) for name, values in spent.items()},
        "ms_median": {name: round(float(np.median(values)) * 1e3, 2) for name, values in spent.items() if values},
    }


def _mean(values: list[Any]) -> float | None:
    return round(float(np.mean(values)), 2) if values else None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("videos", type=Path, nargs="+", help="video files")
    shared.model(parser)
    shared.device(parser)
    shared.json(parser)
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
    runs = run_all(cells_of(options), options)
    reader = reader_of_videos(options.videos, options.model, options.device, options.cache)
    costs = [costs_of(reader, video, options.fps, options.threshold) for video in each(options.videos, "costs")]
    result = {
        "model": reader.codec.name,
        "fps": options.fps,
        "link": f"{options.rate},{options.delay:g}ms",
        "burst": options.burst,
        "rows": rows_of(runs),
        "videos": costs,
        "runs": [{**one, "video": Path(one["video"]).name} for one in runs],
    }
    return finish(result, options.json, "deltas")
