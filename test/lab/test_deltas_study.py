"""The study of memory over a lossy link: what it runs, what it makes of the runs, and what it keeps."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import pytest
from replay_footage import street_pictures

from semhier_ros.lab.replay import sweep
from semhier_ros.lab.studies import deltas
from semhier_ros.lab.studies.tables import shown
from semhier_ros.link.emulate.profile import parse_link


def options(video: Path, out: Path, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    deltas.add_arguments(parser)
    return parser.parse_args([str(video), "--out", str(out), "--jobs", "1", *words])


def street_video(path: Path, count: int) -> Path:
    """So many frames of the street, 12.5 a second."""
    pictures = street_pictures(count)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 12.5, pictures[0].shape[1::-1])
    for picture in pictures:
        writer.write(picture[:, :, ::-1])
    writer.release()
    return path


def figures(seed: int, memory: bool, ap50: float | None) -> dict[str, object]:
    run = dict.fromkeys(deltas.FIGURES, 10.0)
    return {**run, "video": "street.mp4", "loss": 5.0, "memory": memory, "seed": seed, "ap50_l0": ap50}


def test_seeds_are_runs_only_where_something_is_lost(tmp_path: Path) -> None:
    cells = deltas.cells_of(options(tmp_path / "a.mp4", tmp_path, "--loss", "0", "20", "--seeds", "3"))
    known = [(parse_link(cell.link), cell.task.memory) for cell in cells]
    assert [(round(100 * link.loss), memory, link.seed) for link, memory in known] == [
        (0, False, 11),
        (0, True, 11),
        *[(20, memory, seed) for memory in (False, True) for seed in (11, 12, 13)],
    ]
    assert cells[-1].link == "64kbit,50ms,20%,burst4,seed13"


def test_a_run_s_figures_are_those_of_its_summary(tmp_path: Path) -> None:
    (cell,) = deltas.cells_of(options(tmp_path / "a.mp4", tmp_path, "--loss", "20", "--seeds", "1"))[1:]
    codec = {"streaming_ap50": {"L0": 0.5}, "wire_bytes_per_s": 900.0, "link": {"bytes back": 300}, "seconds": 4.0}
    codec |= {"counters": {"encoded": 40, "names_bytes": 600, "deltas": 30}, "age_ms": {"p50": 150.0}, "delivered": 0.9}
    run = deltas.run_of(cell, {"codecs": {"semhier": codec}})
    assert (run["video"], run["loss"], run["seed"], run["memory"]) == ("a.mp4", 20.0, 11, True)
    assert [run[name] for name in deltas.FIGURES] == [0.5, 15.0, 900.0, 600.0, 0.75, 150.0, 0.9]


def test_the_difference_is_taken_seed_by_seed() -> None:
    runs = [figures(seed, False, 0.5 + 0.1 * seed) for seed in (1, 2, 3)]
    runs += [figures(seed, True, 0.48 + 0.1 * seed) for seed in (1, 2, 3)]
    without, remembered = deltas.rows_of(runs)
    assert without["ap50_l0"] == {"mean": 0.7, "error": pytest.approx(0.0577)}
    assert remembered["more_ap50_l0"] == {"mean": -0.02, "error": 0.0}
    assert "more_ap50_l0" not in without


def test_a_run_without_objects_is_left_out_of_the_mean() -> None:
    (row,) = deltas.rows_of([figures(1, True, 0.4), figures(2, True, None)])
    assert row["ap50_l0"] == {"mean": 0.4, "error": 0.0}


def test_runs_are_kept_and_the_study_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deltas, "commit", lambda: "0123456789")
    video = street_video(tmp_path / "made.mp4", 12)
    asked = options(video, tmp_path / "out", "--loss", "0", "--fps", "12.5", "--cache", str(tmp_path / "cache"))
    first, failed = sweep.run_cells(deltas.cells_of(asked), asked.out / "runs", 1)
    assert not failed
    runs = [deltas.run_of(*one) for one in first]
    assert [run["memory"] for run in runs] == [False, True]
    assert runs[0]["deltas"] == 0
    assert all(run["frames"] == 12 for run in runs)
    monkeypatch.setattr(sweep, "Workers", None)  # nothing is left to run
    assert sweep.run_cells(deltas.cells_of(asked), asked.out / "runs", 1) == (first, [])
    text = shown("deltas", {"rows": deltas.rows_of(runs), "videos": [], "fps": 12.5, "link": "x", "burst": 4.0})
    assert "made.mp4" in text
    monkeypatch.setattr(deltas, "commit", lambda: "0123456789+")  # nobody knows what code that was
    assert not {cell.name for cell in deltas.cells_of(asked)} & {cell.name for cell, _ in first}
