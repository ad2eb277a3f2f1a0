"""Frames of a run and the stamps that they had."""

from __future__ import annotations

from semhier_ros.lab.analysis import CameraFrames, _correct, timeline
from semhier_ros.lab.footage.recording import BlockArrival, ReadingArrival, Recording
from semhier_ros.lab.report.content import BlockKind


def test_a_reading_tells_the_stamp_of_a_frame_that_the_recorder_missed() -> None:
    stamps = [0, 100, 200, 300]
    _correct(stamps, [False, True, True, True], {0, 130, 290, 999})
    assert stamps == [0, 130, 200, 290]


def test_what_the_recorder_saw_stays() -> None:
    stamps = [0, 100, 200]
    _correct(stamps, [False, False, False], {130})
    assert stamps == [0, 100, 200]


def test_a_picture_block_that_changes_no_reading_is_in_the_timeline_once_all_before_it_are_there() -> None:
    levels = {"level_0": 0, "detail": None, "picture_0": None}
    kinds = [BlockKind(name, name, "#000000", level) for name, level in levels.items()]
    recording = Recording()
    recording.readings.append(ReadingArrival(0, 5_000_000, 1, 0, 0, 9, ()))
    for name, arrival in (("level_0", 4_000_000), ("picture_0", 6_000_000), ("detail", 9_000_000)):
        recording.blocks.append(BlockArrival(0, arrival, 1, name, b""))
    (row,) = timeline(recording, CameraFrames([], [0], [0], 1), kinds)
    assert row.arrivals == {"level_0": 5.0, "detail": 9.0, "picture_0": 9.0}
