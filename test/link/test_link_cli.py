"""`semhier link emulate` as a process."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def emulate(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "semhier_ros.cli", "link", "emulate", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_it_runs_for_a_while_and_writes_what_it_counted(tmp_path):
    out = tmp_path / "link.json"
    done = emulate(
        "--link", "64kbit,50ms,5%", "--listen", 0, "--forward", 9, "--seed", 4, "--seconds", 0.5, "--json", out
    )
    assert done.returncode == 0, done.stderr
    assert "0 datagrams" in done.stdout
    report = json.loads(out.read_text())
    assert report["up"]["profile"]["seed"] == 4
    assert report["datagrams"] == []


def test_mistakes_are_explained():
    done = emulate("--link", "64kbps")
    assert done.returncode == 2
    assert "rate must be bit/s in bit, kbit, Mbit or Gbit" in done.stderr
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        done = emulate("--listen", taken.getsockname()[1], "--seconds", 0.1)
    assert done.returncode == 1
    assert "cannot listen on udp" in done.stderr


def test_as_many_ctrl_c_as_one_likes_end_it_well():
    """A terminal sends one to the whole group, `ros2 launch` another one to each process."""
    command = [sys.executable, "-m", "semhier_ros.cli", "link", "emulate", "--listen", "0", "--forward", "9"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert "Ctrl-C ends" in process.stderr.readline()
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(0.001)
        assert process.returncode == 0, process.stderr.read()
        assert "0 datagrams" in process.stdout.read()
