#!/usr/bin/env python3
"""Runs the tests. Usage: run_tests.py [arguments for pytest]

Without arguments all of them, as three runs of pytest side by side: two of those that live in real time, that is wait
for nodes, sessions and clocks, and at the lowest priority those that compute, in two processes of one thread each; and
beside them `make lint`. None waits for another, and what computes takes no processor time that something live asks for.
The first is shown as it goes, then the others. A busy machine starves processes that wait for each other: live tests
that failed run once more at the end, when nothing runs beside them, and what they said at first stays on the screen.
A run that crashed has failed, whatever comes after; the tests that it did not come to run then too, so that one knows.

With arguments it is pytest and nothing else.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

PYTEST = [sys.executable, "-m", "pytest"]
LEDGER = "SEMHIER_TEST_LEDGER"
"""Names the file in which a run without worker processes tells which tests it has to run, and which are well."""
BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}
"""Written though the environment may forbid it: tests start some hundred processes that would compile all anew."""
TESTS_FAILED = 1
"""What pytest ends with when tests failed, and nothing worse came."""
IN_TWO = ["--numprocesses=2", "--no-loadscope-reorder", "--timeout=900"]
"""Of a busy machine what gives way gets little: a test may take three times as long as by itself."""
IDLE = 19
LIVE = {
    "nodes": ["nodes", "lab/test_planner_latency.py", "package/test_launch.py"],
    "links and replays": [
        "api/test_interrupt.py",
        "camera/test_decoder_end.py",
        "camera/test_encoder_end.py",
        "ground/test_doors.py",
        "lab/test_demo.py",
        "lab/test_fleet_study.py",
        "lab/test_link_study.py",
        "lab/test_processes.py",
        "lab/test_replay_engines.py",
        "lab/test_stored.py",
        "link/test_asking_without_ros.py",
        "link/test_emulator.py",
        "link/test_link_cli.py",
        "link/test_measured_sessions.py",
        "link/test_namespaces.py",
        "link/test_pacer.py",
        "link/test_radio.py",
        "link/test_store.py",
        "link/test_zenoh_link.py",
        "link/test_zenoh_sessions.py",
    ],
}
"""Of the folder test, those that live in real time, in two runs of about the same length."""


class Run:
    """A command that has begun; its words go to a file until they are shown. A context manager, which ends it.

    One that gives way to others has the lowest priority, and libraries in it compute on one thread.
    """

    def __init__(self, name: str, command: list[str], gives_way: bool = False) -> None:
        self.name, self.command = name, command
        self._text = tempfile.TemporaryFile("w+b")  # noqa: SIM115 (closed by __exit__)
        self._ledger = tempfile.NamedTemporaryFile("r+", encoding="utf-8")  # noqa: SIM115 (as well)
        self._process = subprocess.Popen(
            command,
            stdout=self._text,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.nice(IDLE * gives_way),
            env=os.environ | {LEDGER: self._ledger.name} | BYTECODE | ({"OMP_NUM_THREADS": "1"} if gives_way else {}),
        )

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._text.close()

    def shown(self) -> int:
        """Prints what it has written and writes, until it ends; its exit status."""
        print(f"-- {self.name}", flush=True)
        shown = 0
        while True:
            ended = self._process.poll() is not None
            more = os.pread(self._text.fileno(), 1 << 20, shown)
            shown += len(more)
            sys.stdout.buffer.write(more)
            sys.stdout.flush()
            if not more and ended:
                return self._process.returncode
            if not more:
                time.sleep(0.5)

    def not_passed(self) -> list[str]:
        """Its tests that failed, or that it did not come to run."""
        lines = [line.split(" ", 1) for line in Path(self._ledger.name).read_text(encoding="utf-8").splitlines()]
        passed = {test for word, test in lines if word == "well"}
        return [test for word, test in lines if word == "run" and test not in passed]


def pytest_run(name: str, words: list[str], gives_way: bool = False) -> Run:
    """A run of pytest with these arguments. It keeps no cache: several at once would write the same."""
    color = ["--color=yes"] if sys.stdout.isatty() else []
    return Run(name, [*PYTEST, *color, "-p", "no:cacheprovider", *words], gives_way)


def second_chance(run: Run, status: int) -> int:
    """The status of a live run that ended with `status`, after what did not pass ran once more, for all to see.

    That it failed may be forgiven then; that it crashed never is.
    """
    left = run.not_passed()
    if status < 0:
        print(f"-- {run.name}: crashed ({signal.Signals(-status).name}) before these passed: {' '.join(left)}")
    if not left or status > TESTS_FAILED:
        return status
    with pytest_run(f"{run.name}, once more and alone", left) as alone:
        again = alone.shown()
    return again if status == TESTS_FAILED else status


def main(words: list[str]) -> int:
    """The exit status: 0 when every test passed."""
    if words:
        os.execv(sys.executable, [*PYTEST, *words])
    os.chdir(Path(__file__).resolve().parent.parent)
    began = time.monotonic()
    live = {name: [f"test/{path}" for path in paths] for name, paths in LIVE.items()}
    everything = [path for paths in live.values() for path in paths]
    if missing := [path for path in everything if not Path(path).exists()]:
        sys.exit(f"run_tests: {', '.join(missing)}: no such file; mend the list LIVE in tools/run_tests.py")
    with ExitStack() as stack:
        runs = [pytest_run(f"live tests: {name}", paths) for name, paths in live.items()]
        others = [f"--ignore={path}" for path in everything]
        runs.append(pytest_run("tests that compute", [*IN_TWO, *others], gives_way=True))
        runs.append(Run("lint", ["make", "--no-print-directory", "lint"], gives_way=True))
        for run in runs:
            stack.enter_context(run)
        status = {run: run.shown() for run in runs}
        for run in runs[: len(live)]:
            status[run] = status[run] and second_chance(run, status[run])
    failed = [run.name for run in runs if status[run]]
    minutes = (time.monotonic() - began) / 60
    print(f"-- {'failed: ' + ', '.join(failed) if failed else 'every test passed'} ({minutes:.1f} min)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
