"""Processes that share the tasks of a study."""

from __future__ import annotations

import importlib

import pytest

from semhier_ros.command import CommandError
from semhier_ros.lab.workers import Workers


def test_results_come_in_order() -> None:
    with Workers(2, 5, int, 10) as workers:
        assert list(workers.map("__add__", [(n,) for n in range(5)])) == [10, 11, 12, 13, 14]


def test_a_killed_worker_is_one_line_and_no_hanging() -> None:
    killed = pytest.raises(CommandError, match="a worker process was killed")
    with Workers(2, 4, importlib.import_module, "os") as workers, killed:  # os.abort: as a signal would end it
        list(workers.map("abort", [(), (), (), ()]))


def test_what_a_worker_cannot_begin_with_is_said_as_it_is() -> None:
    with Workers(2, 4, open, "/no/such/file") as workers, pytest.raises(FileNotFoundError, match="/no/such/file"):
        list(workers.map("read", [(), (), (), ()]))
