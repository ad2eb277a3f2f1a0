#!/usr/bin/env python3
"""Runs the tests. Usage: run_tests.py [arguments for pytest]

Without arguments all of them, as two runs of pytest side by side: those that live in real time, that is wait for nodes,
sessions and clocks, and at the lowest priority those that compute. Neither waits for the other, and what computes takes
no processor time that something live asks for. The first is shown as it goes, then the second. A busy machine starves
processes that wait for each other: live tests that failed run once more at the end, when nothing computes beside them,
and what they said at first stays on the screen.

With arguments it is pytest and nothing else.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

PYTEST = [sys.executable, "-m", "pytest"]
IDLE = 19
LIVE = [
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
    "nodes",
    "package/test_launch.py",
]
"""Of the folder test, those that live in real time."""


def main(words: list[str]) -> int:
    """The exit status: 0 when every test passed."""
    if words:
        os.execv(sys.executable, [*PYTEST, *words])
    os.chdir(Path(__file__).resolve().parent.parent)
    color = ["--color=yes"] if sys.stdout.isatty() else []
    began = time.monotonic()
    live_paths = [f"test/{name}" for name in LIVE]
    if missing := [path for path in live_paths if not Path(path).exists()]:
        sys.exit(f"run_tests: {', '.join(missing)}: no such file; mend the list LIVE in tools/run_tests.py")
    with tempfile.TemporaryFile("w+b") as text:
        computing = subprocess.Popen(
            [
                *PYTEST,
                *color,
                *(f"--ignore={path}" for path in live_paths),
                "--override-ini=cache_dir=.pytest_cache/computing",
            ],
            stdout=text,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.nice(IDLE),
        )
        try:
            print("-- tests that live in real time; those that compute run beside them", flush=True)
            live = subprocess.call([*PYTEST, *color, "-ra", *live_paths])
            print("-- tests that compute", flush=True)
            _show(text, computing)
            if live == pytest.ExitCode.TESTS_FAILED:
                print("-- live tests that failed, once more and alone", flush=True)
                again = ["--last-failed", "--last-failed-no-failures=none"]
                live = subprocess.call([*PYTEST, *color, "-ra", *again, *live_paths])
        finally:
            computing.terminate()
            computing.wait()
    failed = [name for name, status in (("live", live), ("computing", computing.returncode)) if status]
    minutes = (time.monotonic() - began) / 60
    print(f"-- {'failed: ' + ', '.join(failed) if failed else 'every test passed'} ({minutes:.1f} min)")
    return 1 if failed else 0


def _show(text: object, process: subprocess.Popen[bytes]) -> None:
    """Prints what a process has written and writes, until it ends."""
    shown = 0
    while True:
        ended = process.poll() is not None
        more = os.pread(text.fileno(), 1 << 20, shown)  # type: ignore[attr-defined]
        shown += len(more)
        sys.stdout.buffer.write(more)
        sys.stdout.flush()
        if ended and not more:
            return
        if not more:
            time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
