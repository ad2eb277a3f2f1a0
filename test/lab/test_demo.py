"""`semhier demo` as a stranger runs it: real processes, real datagrams, a report."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from needs import missing

from semhier_ros.command import CommandError
from semhier_ros.footage.bags import open_bag
from semhier_ros.footage.recording import read_recording
from semhier_ros.footage.slideshow import installed_photos
from semhier_ros.footage.video import FootageError
from semhier_ros.lab import demo
from semhier_ros.paths import DEFAULT_MODEL, model_names

real = pytest.mark.skipif(bool(missing()), reason=missing() or "all is there")


def start(out: Path, *options: str) -> subprocess.Popen[str]:
    """Starts the demo with its output captured."""
    command = [sys.executable, "-m", "semhier_ros.cli", "demo", "--short", "--out", str(out), *options]
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` would have it ignored
    try:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path.cwd())
    finally:
        signal.signal(signal.SIGINT, heard)


def children_of(out: Path) -> list[str]:
    """Command lines of running processes that name `out`."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(out) in line:
                found.append(line)
    return found


@real
@pytest.mark.ros
@pytest.mark.slow
def test_the_short_demo_over_a_radio_for_real(tmp_path: Path) -> None:
    """Nodes at the two devices of a radio of 1.2 kbit/s and 32-byte frames."""
    pytest.importorskip("serial", reason="pyserial is not installed: requirements/radio.txt")
    out = tmp_path / "demo"
    process = start(out, "--seconds", "6", "--fps", "2", "--link", "acoustic")
    words, errors = process.communicate(timeout=280)
    assert process.returncode == 0, errors
    assert "1.2 kbit/s" in words
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert set(summary["codecs"]) == {"semhier", "answer"}
    assert all(one["delivered"] > 0.2 for one in summary["codecs"].values())
    assert summary["codecs"]["semhier"]["wire_bytes_per_s"] <= 150
    assert (out / "report.html").is_file()
    assert not children_of(out)


@real
@pytest.mark.ros
@pytest.mark.slow
def test_the_short_demo_for_real(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    began = time.monotonic()
    process = start(out, "--seconds", "6", "--fps", "2")
    words, errors = process.communicate(timeout=280)
    assert process.returncode == 0, errors
    lines = words.strip().splitlines()
    assert len(lines) == 5, words
    assert str(out / "report.html") in lines[4]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert len(page) < 5_000_000
    assert page.count('class="strip"') >= 1
    figures = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert list(figures["codecs"]) == ["semhier", "answer", "jpeg"]
    ours, answer, jpeg = figures["codecs"].values()
    assert figures["cameras"][0]["frames"] == 12
    assert figures["instants"] > 24, "the street is judged between the camera's frames too"
    assert ours["delivered"] >= 0.7, lines
    assert ours["coarse_ms"]["p50"] > 50, "faster than the link's delay"
    assert ours["budget_use"]["kept"], ours["budget_use"]
    assert answer["delivered"] >= 0.7
    assert jpeg["levels"]["L0"]["frames"] >= 1
    checked = figures["checks"]["bytes, checked"].split()
    assert checked[0] == checked[2], "blocks changed on their way"
    recording = read_recording(out / "recording")
    assert {reading.level for reading in recording.readings} == set(range(len(ours["levels"])))
    assert recording.model["name"] == DEFAULT_MODEL
    assert len(open_bag(out / "street").cameras[0]) == 12
    assert not children_of(out)
    print(f"{time.monotonic() - began:.0f} s; {lines[1]}")


@real
@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.skipif("imagenet" not in model_names(), reason="models/imagenet is not there")
def test_photos_are_named_as_a_whole_for_real(tmp_path: Path) -> None:
    """`make demo MODEL=imagenet`, without JPEG: one label path a frame, coarse then fine, in the recording."""
    try:
        installed_photos()
    except FootageError as error:
        pytest.skip(str(error))
    out = tmp_path / "demo"
    process = start(out, "--model", "imagenet", "--seconds", "4", "--fps", "2", "--no-jpeg")
    words, errors = process.communicate(timeout=280)
    assert process.returncode == 0, errors
    assert words.startswith("A slideshow of photos (8 frames")
    figures = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    ours = figures["codecs"]["semhier"]
    assert ours["delivered"] >= 0.6, words
    assert all(0 <= share <= 1 for share in ours["streaming_accuracy"].values())
    checked = figures["checks"]["bytes, checked"].split()
    assert checked[0] == checked[2], "blocks changed on their way"
    recording = read_recording(out / "recording")
    assert recording.model["name"] == "imagenet"
    for reading in recording.readings:
        (found,) = reading.detections
        assert len(found.path) == len(found.scores) == reading.level + 1
    assert '<ol class="path">' in (out / "report.html").read_text(encoding="utf-8")
    assert not children_of(out)


@real
@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.parametrize(
    ("log", "delay"),
    [("decoder", 0.0), ("decoder", 0.002), ("recorder", 0.0), ("recorder", 0.5), ("encoder", 0.0), ("encoder", 1.0)],
)
def test_ctrl_c_ends_everything_however_early(log: str, delay: float, tmp_path: Path) -> None:
    """`log`: the process that is just being started, `delay` seconds before the interrupt."""
    out = tmp_path / "demo"
    process = start(out, "--no-jpeg", "--seconds", "2", "--fps", "1")
    end = time.monotonic() + 120
    while time.monotonic() < end and not (out / "logs" / f"{log}.log").exists():
        time.sleep(0.001)
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode in (130, -signal.SIGINT), errors  # Python ends by the signal if it once hit an exec()
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert not children_of(out)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--link", "fast"], "rate"),
        (["--link", "unlimited"], "wants a link with a rate"),
        (["--video", "/no/such/video.mp4"], "is no file"),
        (["--model", "nosuchmodel"], "no model 'nosuchmodel'"),
    ],
)
@real
def test_what_cannot_run_says_so_in_one_line(options: list[str], words: str, tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    with pytest.raises(CommandError, match=words) as caught:
        demo.run(parser.parse_args([*options, "--out", str(tmp_path)]))
    assert "\n" not in str(caught.value)


def test_values_out_of_range_say_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    for words, told in (("--fps 0", "'0', a number from 0.2 to 60"), ("--seconds 1", "'1', a number from 2 to 600")):
        with pytest.raises(SystemExit):
            parser.parse_args(words.split())
        assert told in capsys.readouterr().err.splitlines()[-1]
