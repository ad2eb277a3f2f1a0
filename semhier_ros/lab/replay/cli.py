"""What would my planner have seen of this bag over this link?

    semhier replay drive.mcap --link 64kbit,50ms,5% --out out/replay
    semhier replay sweep drive.mcap --link 64kbit,50ms,5% --rate 16kbit 64kbit --loss 0% 20% --out out/sweep

Bags are MCAP or SQLite3, images raw or compressed, one camera or several; a video file will do. The default engine is
*virtual time*: the package's own codec, scheduler and link emulator over a clock that jumps, faster than real time.
`--engine real` runs real nodes in real processes instead. The report is DIR/report.html, its figures DIR/summary.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from semhier_ros.codec.model_folder import ModelError
from semhier_ros.command import CommandError
from semhier_ros.lab.baselines.search import check_codecs
from semhier_ros.lab.interrupts import stop_signals
from semhier_ros.lab.processes import ChildError
from semhier_ros.lab.progress import Stages
from semhier_ros.lab.replay.base import Costs
from semhier_ros.lab.replay.real import STAGES, run_real
from semhier_ros.lab.replay.store import default_folder
from semhier_ros.lab.replay.work import Result, Task, ceiling_of, replay
from semhier_ros.whole_file import write_whole

DEFAULT_CODECS = "semhier,answer,jpeg,webp"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `semhier replay`."""
    parser.add_argument(
        "bags",
        nargs="+",
        metavar="BAG",
        help="MCAP or SQLite3 bags, or videos; `sweep` first runs all combinations of links, models and bags",
    )
    parser.add_argument(
        "--link",
        nargs="+",
        default=["64kbit,50ms,5%"],
        metavar="LINK",
        help="rate, one-way delay, loss, then burst4, jitter10ms, queue8kB, outage20s@30s, step32kbit@10s, seed3 "
        "(default: %(default)s); several with `sweep`",
    )
    parser.add_argument("--topics", nargs="+", default=[], metavar="TOPIC", help="image topics (default: all)")
    parser.add_argument("--model", nargs="+", default=["road"], help="name or folder (default: road)")
    parser.add_argument("--device", default="cpu", choices=("auto", "cpu", "cuda"), help="(default: %(default)s)")
    parser.add_argument(
        "--codecs",
        default=DEFAULT_CODECS,
        help="of semhier, answer, jpeg, webp and h264, which needs PyAV (default: %(default)s)",
    )
    parser.add_argument(
        "--labels", type=Path, help="folder of YOLO files, a COCO file, or a topic of the bag; without: agreement"
    )
    parser.add_argument("--out", type=Path, default=Path("out/replay"), help="(default: %(default)s)")
    parser.add_argument("--engine", default="virtual", choices=("virtual", "real"), help="(default: %(default)s)")
    parser.add_argument(
        "--costs",
        default="measured",
        metavar="NAME=MS,…",
        help="what computing takes, in ms: semantic, picture, read, detect, jpeg, webp, h264, unpack; `given` for the "
        "documented figures; then the same seed gives the same summary.json (default: measured here)",
    )
    parser.add_argument("--seconds", type=float, help="only so much of each camera")
    parser.add_argument("--fps", type=float, help="of a video: at most so many frames a second")
    parser.add_argument("--max-rate", type=float, default=0.0, help="frames a second that are encoded (0: all)")
    parser.add_argument("--finest", type=int, help="last block that is sent (default: the model's last)")
    parser.add_argument(
        "--finalists", type=int, default=3, help="picture settings judged in full (default: %(default)s)"
    )
    parser.add_argument("--cache", type=Path, help="folder of what was computed before (default: ~/.cache/semhier_ros)")
    parser.add_argument(
        "--forecast",
        choices=("on", "off"),
        default="on",
        help="score every codec's readings foretold to each instant too (docs/living.md; default: %(default)s)",
    )
    parser.add_argument("--no-cache", action="store_true", help="remember nothing beyond this run")
    parser.add_argument("--no-report", action="store_true", help="summary.json alone")
    parser.add_argument("--write-bag", type=Path, metavar="BAG", help="blocks, readings and pictures as MCAP")
    parser.add_argument("--rerun", type=Path, metavar="FILE.rrd", help="a Rerun recording (extra `rerun`)")
    sweeps = parser.add_argument_group("with sweep")
    sweeps.add_argument("--rate", nargs="+", default=[], help="rates in place of each link's, as 16kbit 64kbit")
    sweeps.add_argument("--loss", nargs="+", default=[], help="losses in place of each link's, as 0%% 5%% 20%%")
    sweeps.add_argument("--jobs", type=int, default=0, help="processes (default: one a core)")
    sweeps.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler to send the runs to (extra `cluster`)")


def run(options: argparse.Namespace) -> int:
    """Runs a replay or a sweep."""
    try:
        if options.bags[0] == "sweep":
            from semhier_ros.lab.replay.sweep import run_sweep

            return run_sweep(replace_bags(options))
        return _one(options)
    except (ModelError, FileNotFoundError, ValueError) as error:
        raise CommandError(str(error)) from error


def replace_bags(options: argparse.Namespace) -> argparse.Namespace:
    """The options without the word `sweep`. Raises CommandError when no bag is left."""
    if len(options.bags) < 2:
        raise CommandError("replay sweep: one or more bags expected after `sweep`")
    return argparse.Namespace(**{**vars(options), "bags": options.bags[1:]})


def task_of(options: argparse.Namespace) -> Task:
    """The options as a Task. Raises CommandError."""
    for name in ("rate", "loss"):
        if getattr(options, name) and not getattr(options, "sweeping", False):
            raise CommandError(f"--{name}: only with `semhier replay sweep`; --link names the link of one replay")
    if options.seconds is not None and not options.seconds > 0:
        raise CommandError(f"--seconds: {options.seconds:g}, more than 0 expected")
    if options.max_rate < 0 or options.max_rate > 1000:
        raise CommandError(f"--max-rate: {options.max_rate:g}, 0 to 1000 expected")
    if not 1 <= options.finalists <= 20:
        raise CommandError(f"--finalists: {options.finalists}, 1 to 20 expected")
    costs = None if options.costs == "measured" else Costs.parse(options.costs)
    cache = None if options.no_cache else (options.cache or default_folder()) / "replay.sqlite"
    return Task(
        bags=tuple(Path(bag) for bag in options.bags),
        link=options.link[0],
        codecs=check_codecs(tuple(part.strip() for part in options.codecs.split(",") if part.strip())),
        model=options.model[0],
        device=options.device,
        topics=tuple(options.topics),
        labels=options.labels,
        costs=costs,
        max_rate=options.max_rate,
        finest=options.finest,
        forecast=options.forecast == "on",
        seconds=options.seconds,
        frame_rate=options.fps,
        finalists=options.finalists,
        cache=cache,
    )


def _one(options: argparse.Namespace) -> int:
    for name in ("link", "model"):
        if len(getattr(options, name)) > 1:
            raise CommandError(f"--{name}: several are for `semhier replay sweep …`; name one")
    task = task_of(options)
    if options.engine == "real":
        return replay_real(task, options.out)
    began = time.monotonic()
    stages = {"reading the bag": 2.0, "encoding the frames": 20.0}
    for name in task.codecs:
        stages |= {f"{name}: its setting": 0.5 if name in ("semhier", "answer") else 15.0, f"{name} over the link": 5.0}
    with Stages({**stages, "the report": 6.0}) as tell:
        result = replay(task, tell)
        tell("the report")
        write_result(result, options.out, began, report=not options.no_report)
        if options.write_bag:
            from semhier_ros.lab.replay.bag_out import write_bag

            write_bag(result, options.write_bag)
        if options.rerun:
            from semhier_ros.lab.replay.rerun_out import write_rerun

            write_rerun(result, options.rerun)
        result.reader.store.close()
    print("\n".join([*lines_of(result.summary), f"speed: {result.speed}"]))
    if not options.no_report:
        print(f"report: {options.out / 'report.html'}")
    return 0


def replay_real(
    task: Task,
    out: Path,
    command: str = "replay",
    camera: Any = None,
    judged: Any = None,
    lines: Callable[[Result, Path], list[str]] | None = None,
) -> int:
    """Runs `task` for real and writes its results to `out`; prints `lines`. The exit status: 1 when a process died, 130
    when interrupted. Raises CommandError."""
    began = time.monotonic()
    try:
        with stop_signals(), Stages({**STAGES, "the report": 8.0}) as tell:
            result = run_real(task, out, tell, camera, judged)
            tell("the report")
            write_result(result, out, began, command)
            result.reader.store.close()
    except ChildError as error:
        print(f"semhier {command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"semhier {command}: interrupted; all processes are ended", file=sys.stderr)
        return 130
    report = out / "report.html"
    print("\n".join(lines(result, report) if lines is not None else [*lines_of(result.summary), f"report: {report}"]))
    return 0


def write_result(result: Result, out: Path, began: float, command: str = "replay", report: bool = True) -> None:
    """Writes summary.json and the report. began: when the run did, for what it took."""
    out.mkdir(parents=True, exist_ok=True)
    write_summary(result.summary, out / "summary.json")
    if report:
        from semhier_ros.lab.report.replay_page import write_report

        write_report(result, out / "report.html", time.monotonic() - began, command)


def write_summary(summary: dict[str, Any], path: Path) -> None:
    """The summary as JSON, keys as they stand, the same bytes for the same figures."""
    write_whole(path, json.dumps(summary, indent=1, ensure_ascii=False) + "\n")


def lines_of(summary: dict[str, Any]) -> list[str]:
    """A summary for a terminal: what is wrong first, then a line a codec."""
    lines = [f"note: {text}" for text in summary["problems"]]
    measure, levels = summary["measure"], list(ceiling_of(summary))
    words = f"{measure.replace('_', ' ')} {'/'.join(levels)}"
    lines.append(f"{'':9} {words:28} {'coarse p50/p95':>18} {'delivered':>9} {'B/s':>7}")
    for name, figures in summary["codecs"].items():
        values = " / ".join("–" if value is None else f"{value:.3f}" for value in figures[measure].values())
        coarse = figures["coarse_ms"]
        delay = " / ".join("–" if coarse[key] is None else f"{coarse[key]:.0f} ms" for key in ("p50", "p95"))
        share = f"{100 * figures['delivered']:.0f} %"
        lines.append(f"{name:9} {values:28} {delay:>18} {share:>9} {figures['wire_bytes_per_s']:7.0f}")
    lines.append(summary["truth_in_words"])
    return lines
