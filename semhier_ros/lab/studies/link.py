"""What arrives over a thin link, for real: processes, Zenoh sessions and datagrams through the emulator.

Every row is a link; on each the model's blocks are sent, and beside them what one would use instead: JPEG and H.264 at
the setting that a search finds best for that link. JSON out; what was measured before is not measured again (delete
the `.parts` file beside the output, or name another output, to begin anew).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from semhier_ros import options as shared
from semhier_ros.command import CommandError
from semhier_ros.lab.studies.link_bench_rows import BUDGET_SHARE, CODECS, ROWS, Row, row_of
from semhier_ros.lab.studies.link_bench_run import Run
from semhier_ros.whole_file import write_whole

ATTEMPTS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `semhier measure link`."""
    names = ", ".join(row.name for row in ROWS).replace("%", "%%")
    parser.add_argument(
        "--link", nargs="+", metavar="LINK", help=f"rows of the table, of {names}; or links of your own (all rows)"
    )
    shared.renamed(parser, links="--link")
    parser.add_argument("--runs", type=int, default=5, help="runs of each, of which the median counts (default: 5)")
    parser.add_argument(
        "--codecs", action=shared.Listed, metavar="CODEC", help=f"of {', '.join(CODECS)} (all that can run here)"
    )
    parser.add_argument("--seconds", type=float, help="length of a run (default: the row's own)")
    parser.add_argument("--video", type=Path, help="footage (default: the demo's)")
    shared.model(parser)
    shared.device(parser)
    shared.json(parser)


def run(options: argparse.Namespace) -> int:
    """Measures what is missing and writes the table; 0, or 1 when a process failed."""
    from semhier_ros.lab.interrupts import stop_signals
    from semhier_ros.lab.progress import Stages

    bench = Bench(options)
    jobs = bench.jobs()
    stages = {bench.title(row, codecs, number): row.seconds + 9.0 for row, codecs, number in jobs}
    total = {"the footage": 5.0, **stages} if jobs else {"nothing is left to measure": 1.0}
    try:
        with stop_signals(), Stages(total) as progress:
            for row, codecs, number in jobs:
                bench.measure_stubbornly(row, codecs, number, partial(progress, bench.title(row, codecs, number)))
    except KeyboardInterrupt:
        print("semhier measure link: interrupted; run it again to go on", file=sys.stderr)
        return 130
    finally:
        bench.write()
    print(bench.table())
    return 1 if bench.failures else 0


class Bench:
    """A table in the making."""

    def __init__(self, options: argparse.Namespace) -> None:
        from semhier_ros.lab.baselines.registry import StreamError, check_codecs
        from semhier_ros.lab.footage.video import FootageError, default_video

        if not 1 <= options.runs <= 100:
            raise CommandError(f"--runs: {options.runs}, 1 to 100 expected")
        try:
            self.video = options.video or default_video()
        except FootageError as error:
            raise CommandError(str(error)) from error
        self.options = options
        self.rows = [row_of(text, options.seconds) for text in options.link or [row.name for row in ROWS]]
        asked = options.codecs or []
        self.codecs: list[str] = []
        self.left_out: dict[str, str] = {}
        for name in asked or CODECS:
            if name not in CODECS:
                raise CommandError(f"--codecs: {name!r}, of {', '.join(CODECS)} expected")
            try:
                check_codecs([name])
            except StreamError as error:
                if asked:
                    raise CommandError(str(error)) from error
                self.left_out[name] = str(error)
            else:
                self.codecs.append(name)
        self.out: Path = options.json
        self.folder = self.out.with_suffix(".work")
        self.parts = self.out.with_suffix(".parts")
        self.known: list[dict[str, Any]] = []
        if self.parts.is_file():
            lines = self.parts.read_text(encoding="utf-8").splitlines()
            self.known = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        self.failures = 0
        self._reader: Any = None
        self._settings: dict[tuple[str, str], tuple[dict[str, Any], str]] = {}

    # -- what to do ---------------------------------------------------------------------------------------------------

    def jobs(self) -> list[tuple[Row, tuple[str, ...], int]]:
        """(row, codecs that run at the same time, run number) of everything not measured yet; the model runs alone."""
        jobs: list[tuple[Row, tuple[str, ...], int]] = []
        for number in range(self.options.runs):
            for row in self.rows:
                missing = [name for name in self.codecs if not self._measured(row, name, number)]
                if "semhier" in missing:
                    jobs.append((row, ("semhier",), number))
                if others := tuple(name for name in missing if name != "semhier"):
                    jobs.append((row, others, number))
        return jobs

    @staticmethod
    def title(row: Row, codecs: Sequence[str], number: int) -> str:
        """A job in words."""
        return f"{row.name} {'+'.join(codecs)} run {number + 1}"

    def _measured(self, row: Row, codec: str, number: int) -> bool:
        wanted = (row.name, row.seconds, codec, number)
        return any((part["link"], part["seconds"], part["codec"], part["run"]) == wanted for part in self.known)

    @property
    def reader(self) -> Any:
        """The model, loaded at its first use."""
        if self._reader is None:
            from semhier_ros.lab.replay.reader import Reader
            from semhier_ros.lab.replay.store import Store

            self._reader = Reader.load(self.options.model, self.options.device, Store(self.store), threads=1)
        return self._reader

    @property
    def store(self) -> Path:
        """The cache of the bench's model."""
        return self.folder / "made.sqlite"

    # -- doing it -----------------------------------------------------------------------------------------------------

    def measure_stubbornly(self, row: Row, codecs: Sequence[str], number: int, tell: Callable[[float], None]) -> None:
        """`measure`, begun again where its sessions did not find each other: at 20 % loss a handshake may fail."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self.measure(row, codecs, number, tell)
            except CommandError as error:
                print(f"semhier measure link: {error} (attempt {attempt} of {ATTEMPTS})", file=sys.stderr)
        self.failures += 1
        return None

    def measure(self, row: Row, codecs: Sequence[str], number: int, tell: Callable[[float], None]) -> None:
        """One run of one or several codecs, each on a link of its own."""
        from semhier_ros.lab.studies.link_bench_clip import make_clip

        self.folder.mkdir(parents=True, exist_ok=True)
        clip = self.folder / f"clip-{row.frames_per_second:g}.npy"
        if not clip.is_file():
            make_clip(self.video, row.frames_per_second, 10.0 if row.frames_per_second <= 10 else 2.0, clip)
        runs = [Run(self, row, codec, number, clip) for codec in codecs]
        try:
            for one in runs:
                one.prepare()
            for one in runs:
                one.start()
            began = time.monotonic()
            for one in runs:
                one.go()
            while any(one.running() for one in runs) and time.monotonic() - began < row.seconds + 30.0:
                tell((time.monotonic() - began) / (row.seconds + 6.0))
                time.sleep(0.1)
        finally:
            for one in runs:
                one.stop()
        for one in runs:
            try:
                part = one.result()
            except (OSError, KeyError, ValueError, IndexError) as error:
                self.failures += 1
                print(f"semhier measure link: {row.name} {one.codec} run {number + 1}: {error}", file=sys.stderr)
                continue
            self.known.append(part)
            with self.parts.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(part) + "\n")

    def setting(self, row: Row, codec: str, cameras: Sequence[Any]) -> tuple[dict[str, Any], str]:
        """The best setting of JPEG or H.264 for a row, found once and kept."""
        from dataclasses import asdict

        from semhier_ros.lab.baselines.search import best_stream
        from semhier_ros.lab.streams.base import Costs
        from semhier_ros.link.emulate.profile import parse_link

        file = self.folder / f"setting-{codec}-{row.name.replace('/', '_')}.json"
        if file.is_file():
            kept = json.loads(file.read_text(encoding="utf-8"))
            return kept["setting"], kept["words"]
        link = parse_link(row.link)
        stream: Any = best_stream(
            codec,
            self.reader,
            Costs(),
            cameras,
            link,
            BUDGET_SHARE * link.rate_bps / 8,
            max_rate=row.frames_per_second,
            finalists=1,
        )
        made = {"setting": asdict(stream.how), "words": stream.setting}
        write_whole(file, json.dumps(made) + "\n")
        return made["setting"], made["words"]

    # -- what comes out -----------------------------------------------------------------------------------------------

    def result(self) -> dict[str, Any]:
        """The table: for each link and codec the medians over its runs."""
        rows = []
        for row in self.rows:
            for codec in CODECS:
                parts = [
                    part
                    for part in self.known
                    if (part["link"], part["seconds"], part["codec"]) == (row.name, row.seconds, codec)
                ]
                if parts:
                    rows.append({"link": row.name, "codec": codec, "runs": len(parts), **_medians(parts)})
        return {
            "rows": rows,
            "model": self.options.model,
            "video": self.video.name,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "left_out": self.left_out,
        }

    def write(self) -> None:
        """Writes the table."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.out, json.dumps(self.result(), indent=1) + "\n")

    def table(self) -> str:
        """The table for people."""
        lines = ["link | codec | coarse share | p50 / p95 / max ms | bytes/s on the wire | coarse AP50"]
        for row in self.result()["rows"]:
            late = " / ".join(str(row["coarse_ms"][name]) for name in ("p50", "p95", "max"))
            lines.append(
                f"{row['link']} | {row['codec']} | {row['coarse_share']} | {late}"
                f" | {row['wire_bytes_per_s']} | {row['coarse_ap50']}"
            )
        return "\n".join(lines)


def _medians(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians of numbers, also inside dictionaries and lists; of anything else the first."""
    first = parts[0]
    return {
        key: _median([part.get(key) for part in parts])
        for key in first
        if key not in ("link", "codec", "run", "seconds")
    }


def _median(values: list[Any]) -> Any:
    known = [value for value in values if value is not None]
    if not known:
        return None
    if isinstance(known[0], (bool, str)):
        return known[0]
    if isinstance(known[0], (int, float)):
        return round(statistics.median(known), 4)
    if isinstance(known[0], dict):
        return {key: _median([value.get(key) for value in known]) for key in known[0]}
    return [_median([value[place] for value in known if len(value) > place]) for place in range(len(known[0]))]
