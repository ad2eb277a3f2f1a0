#!/usr/bin/env python3
"""Runs the tests. Usage: run_tests.py [arguments for pytest]

Without arguments all of them, as three runs of pytest side by side: two of those that live in real time, that is wait
for nodes, sessions and clocks, and at the lowest priority those that compute, in two processes of one thread each. None
waits for another, and what computes takes no processor time that something live asks for. The first is shown as it
goes, then the others. A busy machine starves processes that wait for each other: live tests that failed run once more
at the end, when nothing runs beside them, and what they said at first stays on the screen.

With arguments it is pytest and nothing else.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

PYTEST = [sys.executable, "-m", "pytest"]
IN_TWO = ["--numprocesses=2", "--dist=loadfile"]
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
    """A run of pytest that has begun; its words go to a file until they are shown. A context manager, which ends it.

    One that gives way to others has the lowest priority, and libraries in it compute on one thread.
    """

    def __init__(self, name: str, words: list[str], gives_way: bool = False) -> None:
        self.name, self.words = name, words
        color = ["--color=yes"] if sys.stdout.isatty() else []
        cache = f"--override-ini=cache_dir=.pytest_cache/{name.replace(' ', '_')}"
        self._text = tempfile.TemporaryFile("w+b")  # noqa: SIM115 (closed by __exit__)
        self._process = subprocess.Popen(
            [*PYTEST, *color, cache, *words],
            stdout=self._text,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.nice(IDLE * gives_way),
            env=os.environ | ({"OMP_NUM_THREADS": "1"} if gives_way else {}),
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
        runs = [Run(f"live tests: {name}", paths) for name, paths in live.items()]
        others = [f"--ignore={path}" for path in everything]
        runs.append(Run("tests that compute", [*IN_TWO, *others], gives_way=True))
        for run in runs:
            stack.enter_context(run)
        status = {run: run.shown() for run in runs}
        for run in runs[:-1]:
            if status[run] == pytest.ExitCode.TESTS_FAILED:
                again = ["--last-failed", "--last-failed-no-failures=none"]
                with Run(run.name, [*again, *run.words]) as alone:
                    print("-- once more and alone, those that failed:")
                    status[run] = alone.shown()
    failed = [run.name for run in runs if status[run]]
    minutes = (time.monotonic() - began) / 60
    print(f"-- {'failed: ' + ', '.join(failed) if failed else 'every test passed'} ({minutes:.1f} min)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
