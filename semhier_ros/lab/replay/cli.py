"""What would my planner have seen of this bag over this link?

    semhier replay drive.mcap --link 64kbit,50ms,5% --out out/replay

Bags are MCAP or SQLite3, images raw or compressed, one camera or several; a video file will do. The default engine is
*virtual time*: the package's own codec, scheduler and link emulator over a clock that jumps, faster than real time.
`--engine real` runs real nodes in real processes instead. The report is DIR/report.html, its figures DIR/summary.json.
`semhier sweep` replays over many links at once.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from semhier_ros import options as shared
from semhier_ros.command import CommandError, for_the_user
from semhier_ros.footage.messages import check_new_bag
from semhier_ros.interrupts import stop_signals
from semhier_ros.lab.processes import ChildError
from semhier_ros.lab.replay.from_above import from_above
from semhier_ros.lab.replay.real import STAGES, run_real
from semhier_ros.lab.replay.task import (
    BLOCKS,
    LINK,
    LINK_HELP,
    LINK_OF,
    Task,
    add_task_arguments,
    check_transport,
    radio_of,
    task_of,
)
from semhier_ros.lab.replay.work import Result, ceiling_of, replay
from semhier_ros.lab.results import write_json
from semhier_ros.lab.studies.tables import Columns, filled
from semhier_ros.paths import DEFAULT_MODEL
from semhier_ros.progress import Stages
from semhier_ros.whole_file import write_whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_task_arguments(parser)
    shared.model(parser, DEFAULT_MODEL)
    parser.add_argument(
        "--link", metavar="LINK", help=f"{LINK_HELP} ({LINK}, or that of --transport)".replace("%", "%%")
    )
    parser.add_argument("--transport", choices=tuple(LINK_OF), help="what speaks over the link (as the link says)")
    parser.add_argument("--engine", default="virtual", choices=("virtual", "real"), help="(%(default)s)")
    shared.out(parser, "out/replay", "folder of report and summary")
    parser.add_argument("--no-report", action="store_true", help="summary.json alone")
    parser.add_argument("--write-bag", type=Path, metavar="BAG", help="blocks, readings and pictures as MCAP")
    parser.add_argument("--force", action="store_true", help="replace an older recording at --write-bag")
    parser.add_argument("--rerun", type=Path, metavar="FILE.rrd", help="a Rerun recording (extra `rerun`)")
    shared.written(parser, "rerun", folder=False)


def run(options: argparse.Namespace) -> int:
    """Replays and writes what came of it; the exit status."""
    _check_extras(options)
    with for_the_user(FileNotFoundError, ValueError):
        link = options.link or LINK_OF[options.transport or "zenoh"]
        check_transport(options.transport, link, radio_of(link))
        task = task_of(options, link, options.model)
        return replay_real(task, options.out) if options.engine == "real" else _virtual(task, options)


def _check_extras(options: argparse.Namespace) -> None:
    """Says before the work what would keep a bag or a Rerun recording from being written. Raises CommandError."""
    for name in ("write_bag", "rerun"):
        if options.engine == "real" and getattr(options, name):
            raise CommandError(f"--{name.replace('_', '-')}: of replays in virtual time only; leave out --engine real")
    if options.write_bag:
        for bag in options.bags:
            check_new_bag(options.write_bag, options.force, bag)
    if options.rerun and importlib.util.find_spec("rerun") is None:
        raise CommandError("--rerun needs rerun-sdk: pip install rerun-sdk")


def _virtual(task: Task, options: argparse.Namespace) -> int:
    began = time.monotonic()
    stages = {"reading the bag": 2.0, "encoding the frames": 20.0}
    for name in task.codecs:
        stages |= {f"{name}: its setting": 0.5 if name in BLOCKS else 15.0, f"{name} over the link": 5.0}
    with Stages({**stages, "the report": 6.0}) as tell:
        result = replay(task, tell)
        tell("the report")
        write_result(result, options.out, began, report=not options.no_report)
        if options.write_bag:
            from semhier_ros.lab.replay.bag_out import write_bag

            write_bag(result, options.write_bag, options.force)
        if options.rerun:
            from semhier_ros.lab.replay.rerun_out import write_rerun

            write_rerun(result, options.rerun)
        result.reader.store.close()
    print("\n".join(lines_of(result.summary)))
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
    result.above = from_above(result)
    if result.above is not None:
        result.summary["metres"] = result.above["errors"]
    write_json(out / "summary.json", result.summary)
    if report:
        from semhier_ros.lab.report.replay_page import render

        write_whole(out / "report.html", render(result, time.monotonic() - began, command))


def lines_of(summary: dict[str, Any]) -> list[str]:
    """A summary for a terminal: what is wrong first, then a line a codec."""
    lines = [f"note: {text}" for text in summary["problems"]]
    measure, levels = summary["measure"], list(ceiling_of(summary))
    words = f"{measure.replace('_', ' ')} {'/'.join(levels)}"
    columns: Columns = [("", "name"), (words, " / ".join(f"{{{measure}.{level}:.3f}}" for level in levels))]
    columns += [("coarse p50/p95, ms", "{coarse_ms.p50:.0f} / {coarse_ms.p95:.0f}"), ("delivered", "{delivered:.0 %}")]
    columns.append(("B/s", "{wire_bytes_per_s:.0f}"))
    rows = [{"name": name, **figures} for name, figures in summary["codecs"].items()]
    table = filled("codecs", f"over {summary['link']}", columns, rows, summary["truth_in_words"])
    return [*lines, table.text().rstrip()]
