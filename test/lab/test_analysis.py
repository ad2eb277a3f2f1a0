"""Frames of a run and the stamps that they had."""

from __future__ import annotations

from semhier_ros.lab.analysis import _correct


def test_a_reading_tells_the_stamp_of_a_frame_that_the_recorder_missed() -> None:
    stamps = [0, 100, 200, 300]
    _correct(stamps, [False, True, True, True], {0, 130, 290, 999})
    assert stamps == [0, 130, 200, 290]


def test_what_the_recorder_saw_stays() -> None:
    stamps = [0, 100, 200]
    _correct(stamps, [False, False, False], {130})
    assert stamps == [0, 100, 200]
