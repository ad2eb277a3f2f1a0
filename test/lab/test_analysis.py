"""Frames of a run and the stamps that they had."""

from __future__ import annotations

from semhier_ros.lab.replay.base import Answer
from semhier_ros.lab.replay.real import correct_stamps
from semhier_ros.lab.report.replay_page import ready_times


def test_a_reading_tells_the_stamp_of_a_frame_that_the_recorder_missed() -> None:
    stamps = [0, 100, 200, 300]
    correct_stamps(stamps, [False, True, True, True], {0, 130, 290, 999})
    assert stamps == [0, 130, 200, 290]


def test_what_the_recorder_saw_stays() -> None:
    stamps = [0, 100, 200]
    correct_stamps(stamps, [False, False, False], {130})
    assert stamps == [0, 100, 200]


def test_a_picture_block_that_changes_no_reading_is_in_the_timeline_once_all_before_it_are_there() -> None:
    answers = [Answer(0, 7, 0, 0.005, 0.005, 0, 0, (), "level_0")]
    level, detail, picture = 0, 1, 2
    blocks = [(0, 7, level, 0.004), (0, 7, picture, 0.006), (0, 7, detail, 0.009), (0, 8, level, 0.01)]
    assert ready_times(answers, blocks, 3, 1) == {(0, 7): [0.005, 0.009, 0.009]}
