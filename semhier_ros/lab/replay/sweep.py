"""Many replays: links x rates x losses x models x bags, in parallel, resumable, with one table and one plot at the end.

    semhier sweep drive.mcap street --link 64kbit,50ms,5% --rate 16kbit 64kbit --loss 0 20 --out out/sweep

Every run leaves a file `runs/<name>.json` when it is done; a sweep that was ended goes on with those that are missing.
Confidence intervals of the margins are bootstrapped over the instants of each run (docs/evaluation.md).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

from semhier_ros import options as shared
from semhier_ros.api import FOOT_SUFFIX
from semhier_ros.command import CommandError, for_the_user
from semhier_ros.lab.replay.store import digest
from semhier_ros.lab.replay.task import LINK, LINK_HELP, Task, add_task_arguments, radio_of, task_of
from semhier_ros.lab.replay.work import best_rival, ceiling_of, replay
from semhier_ros.lab.results import provenance, write_json
from semhier_ros.lab.studies.tables import replay as replay_table
from semhier_ros.lab.workers import Workers, result_of
from semhier_ros.link.emulate.radio import parse_hop
from semhier_ros.paths import find_model
from semhier_ros.progress import each
from semhier_ros.whole_file import write_whole

VERSION = 2


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a sweep; `name` is its file's, and says by a digest what was asked for, and of which model."""

    name: str
    task: Task
    bag: str
    link: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_task_arguments(parser)
    shared.several(parser, "--model", str, ["road"], "names or folders", "MODEL")
    parser.add_argument(
        "--link", nargs="+", default=[LINK], metavar="LINK", help=f"{LINK_HELP} ({LINK})".replace("%", "%%")
    )
    shared.several(parser, "--rate", str, [], "in place of each link's, as 16kbit 64kbit")
    shared.several(parser, "--loss", str, [], "in place of each link's, as 0%% 5%% 20%%")
    shared.out(parser, "out/sweep", "folder of runs, table and plot")
    shared.jobs(parser)
    parser.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler to send the runs to (extra `cluster`)")


def cells_of(options: argparse.Namespace) -> list[Cell]:
    """All combinations, in the order in which they were named. Raises CommandError."""
    links = [_with(*each) for each in product(options.link, options.rate or [None], options.loss or [None])]
    return [
        cell_of(replace(task_of(options, link, model), bags=(bag,)))
        for bag, model, link in product(options.bags, options.model, dict.fromkeys(links))
    ]


def _with(link: str, rate: str | None, loss: str | None) -> str:
    """A link's text with another rate or loss. Raises CommandError for a radio, which has its own."""
    parts = link.split(",")
    if (rate is not None or loss is not None) and radio_of(link) is not None:
        raise CommandError(f"--link {link}: a radio's rate and loss are its own; leave --rate and --loss out")
    if rate is not None:
        parts[0] = rate
    if loss is not None:
        share = loss if loss.endswith("%") else f"{loss}%"
        kept = [part for part in parts[1:] if not (part.strip().endswith("%") and part.strip()[0].isdigit())]
        parts = [parts[0], *kept[:1], share, *kept[1:]]
    return ",".join(parts)


def cell_of(task: Task, version: str = str(VERSION)) -> Cell:
    """The run of a task of one bag. version: of another one what was run before is run again. Raises CommandError."""
    bag = task.bags[0]
    asked = {key: str(value) for key, value in asdict(task).items() if key not in ("cache", "device")}
    tag = digest(version, json.dumps(asked, sort_keys=True), _model_hash(task.model))[:10]
    words = "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in f"{bag.stem}-{task.link}")
    return Cell(f"{words}-{tag}", task, bag.name, task.link)


@cache
def _model_hash(model: str) -> str:
    """The hash of the model of that name or folder: trained anew, it is another. Raises CommandError."""
    with for_the_user(OSError, KeyError, ValueError, of=f"--model: {model}"):
        folder = find_model(model.removesuffix(FOOT_SUFFIX))
        return str(json.loads((folder / "model.json").read_text(encoding="utf-8"))["model_hash"])


def run_cell(task: Task) -> dict[str, Any]:
    """One run's summary, in a process of its own or on a cluster's worker."""
    result = replay(task)
    result.reader.store.close()
    return result.summary


def run(options: argparse.Namespace) -> int:
    """Runs what is missing, then writes table.md, table.json and plot.svg; 1 when a run failed."""
    source = provenance()
    done, failed = run_cells(cells_of(options), options.out / "runs", options.jobs, options.scheduler)
    if done:
        rows = rows_of(done)
        commits = dict.fromkeys(found.get("measured", {}).get("commit", "unknown") for _, found in done)
        whole = {"rows": rows, "measured": {**source, "commit": ", ".join(commits)}}
        write_json(options.out / "table.json", whole)
        tables = replay_table(whole)
        write_whole(options.out / "table.md", "\n".join(f"## {table.title}\n\n{table.markdown()}" for table in tables))
        from semhier_ros.lab.report.plots import sweep_plot

        write_whole(options.out / "plot.svg", sweep_plot(rows))
        print("\n".join(table.text() for table in tables))
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    return 1 if failed else 0


def run_cells(
    cells: Sequence[Cell], folder: Path, jobs: int, scheduler: str | None = None
) -> tuple[list[tuple[Cell, dict[str, Any]]], list[str]]:
    """Runs what is missing of `cells` in processes or by a Dask scheduler; the summary of each, which is kept in
    `folder`, and in words those that failed."""
    folder.mkdir(parents=True, exist_ok=True)
    waiting = [cell for cell in cells if _done(folder, cell) is None]
    if len(waiting) < len(cells):
        print(f"{len(cells) - len(waiting)} of {len(cells)} runs were done before", file=sys.stderr)
    failed: list[str] = []
    source = provenance()
    ran = _on_cluster(scheduler, waiting) if scheduler else _here(jobs, waiting)
    for cell, summary, error in each(ran, "runs", len(waiting)):
        if error is not None:
            failed.append(f"{cell.bag} {cell.link}: {error}")
            continue
        write_json(folder / f"{cell.name}.json", {**summary, "measured": source})
        if not sys.stderr.isatty():
            print(f"done: {cell.bag} {cell.link}", file=sys.stderr, flush=True)
    return [(cell, found) for cell in cells if (found := _done(folder, cell)) is not None], failed


def _done(folder: Path, cell: Cell) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads((folder / f"{cell.name}.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None
    return found


Outcome = tuple[Cell, dict[str, Any], str | None]


def _here(jobs: int, cells: Sequence[Cell]) -> Iterator[Outcome]:
    if cells:
        with Workers(jobs, len(cells), import_module, __name__) as workers:
            yield from _outcomes({workers.submit("run_cell", cell.task): cell for cell in cells})


def _on_cluster(address: str, cells: Sequence[Cell]) -> Iterator[Outcome]:
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise CommandError("--scheduler needs Dask: pip install distributed") from error
    try:
        client = Client(address, timeout="20s", set_as_default=False)
    except OSError as error:
        raise CommandError(f"--scheduler: {address} does not answer ({error})") from error
    with client:
        executor = client.get_executor(pure=False)
        yield from _outcomes({executor.submit(run_cell, cell.task): cell for cell in cells})


def _outcomes(tasks: dict[Future[Any], Cell]) -> Iterator[Outcome]:
    """What came of each run, as it is done."""
    for done in as_completed(tasks):
        try:
            yield tasks[done], result_of(done), None
        except Exception as error:  # one run that fails must not end the sweep; it is named at the end
            yield tasks[done], {}, f"{type(error).__name__}: {error}"


def rows_of(done: Sequence[tuple[Cell, dict[str, Any]]]) -> list[dict[str, Any]]:
    """One row a run: per codec the precision and its interval, and the precision of what it foretold; semhier's margin
    over the best of the others that send more than the bare answer, per level."""
    rows = []
    for cell, summary in done:
        link = parse_hop(cell.link)
        measure = summary["measure"]
        row: dict[str, Any] = {
            "bag": cell.bag,
            "model": summary["model"]["name"],
            "model_hash": summary["model"]["model_hash"],
            "link": cell.link,
            "rate_kbit": link.rate_at(0.0) / 1000,
            "loss": link.loss,
            "truth": summary["truth"],
            "measure": measure.removeprefix("streaming_"),
            "codecs": {
                name: {measure.removeprefix("streaming_"): one[measure], "ci95": one[f"{measure}_ci95"]}
                | {key: one[key] for key in ("coarse_ms", "delivered", "wire_bytes_per_s", "setting")}
                | ({"foretold": one["forecast"][measure]} if "forecast" in one else {})
                for name, one in summary["codecs"].items()
            },
            "ceiling": ceiling_of(summary),
            "margin": {},
        }
        for level in row["ceiling"]:
            best = best_rival(summary, level)
            if best is not None:
                row["margin"][level] = {"over": best, **summary["margin_of_semhier"][best][level]}
        rows.append(row)
    return rows
