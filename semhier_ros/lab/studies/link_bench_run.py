"""One run of the link bench: emulator, receiver and sender as processes, and the figures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from semhier_ros.command import CommandError
from semhier_ros.lab.studies.link_bench_rows import BUDGET_SHARE, Row


class BenchLike(Protocol):
    """What a run asks of the bench: its options, folder and store, its model, and the baselines' settings."""

    options: Any
    folder: Path

    @property
    def store(self) -> Path: ...

    @property
    def reader(self) -> Any: ...

    def setting(self, row: Row, codec: str, cameras: Sequence[Any]) -> tuple[dict[str, Any], str]: ...


class Run:
    """One codec over one link: emulator, receiver, sender, and the figures."""

    def __init__(self, bench: BenchLike, row: Row, codec: str, number: int, clip: Path) -> None:
        from semhier_ros.lab.studies.link_bench_clip import HEIGHT, WIDTH
        from semhier_ros.link.emulate.profile import parse_link

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
            "store": str(bench.store),
        }
        self.processes: list[subprocess.Popen[str]] = []
        self.words = ""
        self.start_ns = 0
        self.emulator: Any = None

    def prepare(self) -> None:
        """Finds a baseline's setting."""
        from semhier_ros.lab.link_bench_ends import clips

        self.clips = clips(self.plan)
        if self.codec != "semhier":
            self.plan["setting"], self.words = self.bench.setting(self.row, self.codec, self.clips)

    def start(self) -> None:
        """Starts the emulator and both ends and waits until they are connected."""
        from semhier_ros.lab.drive import free_port
        from semhier_ros.link.emulate.emulator import LinkEmulator

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
            [sys.executable, "-m", "semhier_ros.lab.link_bench_ends", role, str(file)],
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
        from semhier_ros.lab.studies import link_bench_score as score

        sent = score.read_lines(Path(f"{self.base}.send.jsonl"))
        frames = {(entry["camera"], entry["frame"]): entry for entry in sent if "frame" in entry}
        told: dict[str, Any] = next((entry["summary"] for entry in sent if "summary" in entry), {})
        numbers = {(entry["camera"], entry["stamp"]): entry["frame"] for entry in frames.values()}
        seen, received = score.blocks_seen(Path(f"{self.base}.receive.jsonl"), numbers)
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
        from semhier_ros.lab import link_bench_ends as ends
        from semhier_ros.lab.studies import link_bench_score as score

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
