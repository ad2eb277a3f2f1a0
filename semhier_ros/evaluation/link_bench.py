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
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from semhier_ros.cli import CommandError
from semhier_ros.whole_file import write_whole

CODECS = ("semhier", "jpeg", "h264")
BUDGET_SHARE = 0.97
READY_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `link` as `parse_link` reads it; `budget_kbit`: the operator's bound (0: the link's first
    rate); `weights`: one for each camera.
    """

    name: str
    link: str
    seconds: float = 12.0
    frames_per_second: float = 10.0
    weights: tuple[float, ...] = (1.0,)
    encoded_before: bool = False
    changes: tuple[float, ...] = ()
    outage_end: float | None = None


ROWS = (
    Row("64kbit,50ms,5%", "64kbit,50ms,5%"),
    Row("64kbit,50ms,20%", "64kbit,50ms,20%"),
    Row("64kbit,50ms,20%,burst4", "64kbit,50ms,20%,burst4", seconds=20.0),
    Row("16kbit,150ms", "16kbit,150ms"),
    Row(
        "512-32-512kbit,50ms",
        "512kbit,50ms,step32kbit@10s,step512kbit@20s",
        seconds=30.0,
        changes=(10.0, 20.0),
    ),
    Row("64kbit,50ms,outage20s", "64kbit,50ms,outage20s@4s", seconds=29.0, outage_end=24.0),
    Row(
        "128kbit,50ms,4cameras",
        "128kbit,50ms",
        frames_per_second=80.0,
        weights=(1.0, 1.0, 2.0, 2.0),
        encoded_before=True,
    ),
)

ATTEMPTS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `semhier bench link`."""
    names = ", ".join(row.name for row in ROWS).replace("%", "%%")
    parser.add_argument(
        "--links", nargs="+", metavar="LINK", help=f"rows of the table, of {names}; or links of your own"
    )
    parser.add_argument("--runs", type=int, default=5, help="runs of each, of which the median counts (default: 5)")
    parser.add_argument("--codecs", default="", help=f"of {', '.join(CODECS)} (default: all that can run here)")
    parser.add_argument("--seconds", type=float, help="length of a run (default: the row's own)")
    parser.add_argument("--video", type=Path, help="footage (default: the demo's)")
    parser.add_argument("--model", default="road", help="model name or folder (default: %(default)s)")
    parser.add_argument("--device", default="cpu", choices=("auto", "cpu", "cuda"), help="(default: %(default)s)")
    parser.add_argument("--json", type=Path, required=True, metavar="OUT", help="file of the result")


def run(options: argparse.Namespace) -> int:
    """Measures what is missing and writes the table; 0, or 1 when a process failed."""
    from semhier_ros.evaluation.interrupts import stop_signals
    from semhier_ros.evaluation.progress import Progress

    bench = Bench(options)
    jobs = bench.jobs()
    stages = {bench.title(row, codecs, number): row.seconds + 9.0 for row, codecs, number in jobs}
    total = {"the footage": 5.0, **stages} if jobs else {"nothing is left to measure": 1.0}
    try:
        with stop_signals(), Progress(total) as progress:
            for row, codecs, number in jobs:
                progress.stage(bench.title(row, codecs, number))
                bench.measure_stubbornly(row, codecs, number, progress.at)
    except KeyboardInterrupt:
        print("semhier bench link: interrupted; run it again to go on", file=sys.stderr)
        return 130
    finally:
        bench.write()
    print(bench.table())
    return 1 if bench.failures else 0


class Bench:
    """A table in the making."""

    def __init__(self, options: argparse.Namespace) -> None:
        from semhier_ros.evaluation.footage import FootageError, default_video
        from semhier_ros.evaluation.streams.registry import StreamError, check_codecs

        if not 1 <= options.runs <= 100:
            raise CommandError(f"--runs: {options.runs}, 1 to 100 expected")
        try:
            self.video = options.video or default_video()
        except FootageError as error:
            raise CommandError(str(error)) from error
        self.options = options
        self.rows = [_row(text, options.seconds) for text in options.links or [row.name for row in ROWS]]
        asked = [name.strip() for name in options.codecs.split(",") if name.strip()]
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
            from semhier_ros.evaluation.streams.reader import Reader
            from semhier_ros.evaluation.streams.store import Store

            self._reader = Reader.load(self.options.model, self.options.device, Store(self._store()), threads=1)
        return self._reader

    def _store(self) -> Path:
        return self.folder / "made.sqlite"

    # -- doing it -----------------------------------------------------------------------------------------------------

    def measure_stubbornly(self, row: Row, codecs: Sequence[str], number: int, tell: Callable[[float], None]) -> None:
        """`measure`, begun again where its sessions did not find each other: at 20 % loss a handshake may fail."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self.measure(row, codecs, number, tell)
            except CommandError as error:
                print(f"semhier bench link: {error} (attempt {attempt} of {ATTEMPTS})", file=sys.stderr)
        self.failures += 1
        return None

    def measure(self, row: Row, codecs: Sequence[str], number: int, tell: Callable[[float], None]) -> None:
        """One run of one or several codecs, each on a link of its own."""
        from semhier_ros.evaluation.link_bench_clip import make_clip

        self.folder.mkdir(parents=True, exist_ok=True)
        clip = self.folder / f"clip-{row.frames_per_second:g}.npy"
        if not clip.is_file():
            make_clip(self.video, row.frames_per_second, 10.0 if row.frames_per_second <= 10 else 2.0, clip)
        runs = [_Run(self, row, codec, number, clip) for codec in codecs]
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
                print(f"semhier bench link: {row.name} {one.codec} run {number + 1}: {error}", file=sys.stderr)
                continue
            self.known.append(part)
            with self.parts.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(part) + "\n")

    def setting(self, row: Row, codec: str, cameras: Sequence[Any]) -> tuple[dict[str, Any], str]:
        """The best setting of JPEG or H.264 for a row, found once and kept."""
        from dataclasses import asdict

        from semhier_ros.evaluation.streams.base import Costs
        from semhier_ros.evaluation.streams.search import best_stream
        from semhier_ros.link.link_profile import parse_link

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


def _row(text: str, seconds: float | None) -> Row:
    from semhier_ros.link.link_profile import parse_link

    row = next((row for row in ROWS if row.name == text), None)
    if row is None:
        try:
            if not parse_link(text).rate_bps:
                raise ValueError("a link with a rate is wanted, as in 64kbit,50ms,5%")
        except ValueError as error:
            raise CommandError(f"--links: {error}") from error
        row = Row(text, text)
    return row if seconds is None else replace(row, seconds=seconds)


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


class _Run:
    """One codec over one link: emulator, receiver, sender, and the figures."""

    def __init__(self, bench: Bench, row: Row, codec: str, number: int, clip: Path) -> None:
        from semhier_ros.evaluation.link_bench_clip import HEIGHT, WIDTH
        from semhier_ros.link.link_profile import parse_link

        self.bench, self.row, self.codec, self.number = bench, row, codec, number
        self.profile = parse_link(row.link)
        self.budget = BUDGET_SHARE * self.profile.rate_bps / 8
        self.cameras = [f"cam{place}" for place in range(len(row.weights))]
        self.base = bench.folder / f"{codec}-{number}"
        self.plan: dict[str, Any] = {
            "clip": str(clip),
            "seconds": row.seconds,
            "frames_per_second": row.frames_per_second,
            "cameras": self.cameras,
            "weights": list(row.weights),
            "encoded_before": row.encoded_before,
            "model": str(bench.options.model),
            "device": bench.options.device,
            "budget": self.budget,
            "size": [WIDTH, HEIGHT],
            "codec": codec,
            "store": str(bench._store()),
        }
        self.processes: list[subprocess.Popen[str]] = []
        self.words = ""
        self.start_ns = 0
        self.emulator: Any = None

    def prepare(self) -> None:
        """Finds a baseline's setting."""
        from semhier_ros.evaluation.link_bench_ends import clips

        self.clips = clips(self.plan)
        if self.codec != "semhier":
            self.plan["setting"], self.words = self.bench.setting(self.row, self.codec, self.clips)

    def start(self) -> None:
        """Starts the emulator and both ends and waits until they are connected."""
        from semhier_ros.evaluation.drive import free_port
        from semhier_ros.link.emulator import LinkEmulator

        port = free_port()
        plain = replace(self.profile, steps=(), outages=(), seed=self.number + 1)
        self.emulator = LinkEmulator(plain, forward_port=port, keep_log=True).start()
        kind = "" if self.codec == "semhier" else "-stream"
        self._child(f"receive{kind}", f"udp/127.0.0.1:{port}")
        self._child(f"send{kind}", f"udp/127.0.0.1:{self.emulator.listen_port}")

    def _child(self, role: str, endpoint: str) -> None:
        plan = {**self.plan, "endpoint": endpoint, "log": str(self.base) + f".{role}.jsonl"}
        file = Path(f"{self.base}.{role}.json")
        file.write_text(json.dumps(plan), encoding="utf-8")
        errors = Path(f"{self.base}.{role}.err").open("w", encoding="utf-8")  # noqa: SIM115 (the child's own)
        paths = os.pathsep.join(path for path in sys.path if path)
        child = subprocess.Popen(
            [sys.executable, "-m", "semhier_ros.evaluation.link_bench_ends", role, str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        )
        errors.close()
        self.processes.append(child)
        assert child.stdout is not None
        if child.stdout.readline().strip() != "ready":
            tail = Path(f"{self.base}.{role}.err").read_text(encoding="utf-8").strip().splitlines()[-1:]
            raise CommandError(f"{self.row.name} {role}: the process ended: {' '.join(tail)}")

    def go(self) -> None:
        """The run begins: steps and outages of the link count from here."""
        sender = self.processes[1]
        assert sender.stdin is not None
        self.up_before = self.emulator.up
        self.logged_before = len(self.emulator.log)
        self.emulator.set_profile(
            replace(self.profile, seed=self.number + 1), replace(self.profile, seed=self.number + 1)
        )
        self.emulator.rewind()
        self.start_ns = time.time_ns()
        sender.stdin.write("go\n")
        sender.stdin.flush()

    def running(self) -> bool:
        """Whether the sender still runs."""
        return self.processes[1].poll() is None

    def stop(self) -> None:
        """Ends whatever runs."""
        if self.emulator is not None:
            self.up_after = self.emulator.up
        for child in reversed(self.processes):
            if child.poll() is None:
                child.send_signal(signal.SIGINT)
        for child in self.processes:
            try:
                child.wait(8.0)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        if self.emulator is not None:
            self.log = self.emulator.log
            self.emulator.stop()

    def result(self) -> dict[str, Any]:
        """The figures of the run."""
        row, seconds = self.row, self.row.seconds
        wire = self.up_after.offered_bytes - self.up_before.offered_bytes
        part: dict[str, Any] = {"link": row.name, "codec": self.codec, "run": self.number, "seconds": seconds}
        part |= self._blocks() if self.codec == "semhier" else self._stream()
        part["wire_bytes_per_s"] = round(wire / seconds)
        return part

    def _blocks(self) -> dict[str, Any]:
        from semhier_ros.evaluation import link_bench_score as score

        sent = score.read_lines(Path(f"{self.base}.send.jsonl"))
        frames = {(entry["camera"], entry["frame"]): entry for entry in sent if "frame" in entry}
        told: dict[str, Any] = next((entry["summary"] for entry in sent if "summary" in entry), {})
        seen, received = score.blocks_seen(Path(f"{self.base}.receive.jsonl"))
        link_ms = [(seen.at_ns[key] - entry["encoded"]) / 1e6 for key, entry in frames.items() if key in seen.at_ns]
        encode = [(entry["encoded"] - entry["begun"]) / 1e6 for entry in frames.values()]
        offered = round(self.row.seconds * self.row.frames_per_second) * len(self.cameras)
        part = self._common(seen, score, offered)
        outage = self._in_outage(frames)
        part["coarse_share_of_sent"] = round(len(seen.first) / max(1, len(frames) - outage), 4)
        part["sent_frames_per_s"] = round(len(frames) / self.row.seconds, 2)
        part["coarse_ms_after_encode"] = score.quantiles(link_ms)
        part["encode_ms"] = score.quantiles(encode)
        useful = received.get("useful_bytes", 0) / self.row.seconds
        part["useful_bytes_per_s"] = round(useful)
        part["useful_share_of_rate"] = round(useful / self._mean_rate(), 4)
        part["delivered_share_of_rate"] = round(self._delivered() / self._mean_rate(), 4)
        part["loss_reported"] = round(told.get("loss") or 0.0, 4)
        part["clock_error_ms"] = None if told.get("clock_offset") is None else round(told["clock_offset"] * 1e3, 2)
        return part

    def _stream(self) -> dict[str, Any]:
        from semhier_ros.evaluation import link_bench_ends as ends
        from semhier_ros.evaluation import link_bench_score as score

        told = score.read_lines(Path(f"{self.base}.send-stream.jsonl"))[-1]["summary"]
        stream = ends.make_baseline(self.plan, self.clips)
        detector = self.bench.reader.cost("semantic") or self.bench.reader.cost("detect") or 0.03
        log = Path(f"{self.base}.receive-stream.jsonl")
        seen = score.stream_seen(log, stream, self.clips, told["start"], detector)
        part = self._common(seen, score, sum(len(clip) for clip in self.clips))
        part["setting"] = self.words
        part["detector_ms"] = round(1e3 * detector, 1)
        return part

    def _common(self, seen: Any, score: Any, offered: int) -> dict[str, Any]:
        late = list(seen.first.values())
        part = {
            "coarse_share": round(len(seen.first) / max(1, offered), 4),
            "coarse_share_within_1s": round(sum(ms <= 1000.0 for ms in late) / max(1, offered), 4),
            "coarse_ms": score.quantiles(late),
            "coarse_per_s": [
                round(sum(key[0] == name for key in seen.first) / self.row.seconds, 2) for name in self.cameras
            ],
            "coarse_ap50": score.agreement(seen, self.clips, self.bench.reader),
        }
        if self.row.changes:
            part["phases"] = score.phases(seen, self.start_ns, self.row.changes, self.row.seconds)
        if self.row.outage_end is not None:
            part["after_outage"] = score.after_outage(seen, self.start_ns + round(self.row.outage_end * 1e9))
        return part

    def _in_outage(self, frames: dict[Any, dict[str, Any]]) -> int:
        """Frames that were encoded while nothing passed."""
        return sum(
            any(begin <= (entry["encoded"] - self.start_ns) / 1e9 < end for begin, end in self.profile.outages)
            for entry in frames.values()
        )

    def _mean_rate(self) -> float:
        """Bytes a second that the link carries in the mean of the run."""
        steps = 1000
        seconds = self.row.seconds
        times = [seconds * (step + 0.5) / steps for step in range(steps)]
        passed = [at for at in times if not any(begin <= at < end for begin, end in self.profile.outages)]
        return sum(self.profile.rate_at(at) for at in passed) / 8 / steps

    def _delivered(self) -> float:
        """Bytes a second that came out of the link during the run."""
        return (
            sum(
                entry[3]
                for entry in self.log[self.logged_before :]
                if entry[0] == "up" and entry[2] is not None and 0 <= entry[1] < self.row.seconds
            )
            / self.row.seconds
        )
