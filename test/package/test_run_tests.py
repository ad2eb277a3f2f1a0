"""tools/run_tests.py: a run that crashed has failed, and says which tests it did not come to run."""

from __future__ import annotations

import runpy
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUITE = """
import os
from pathlib import Path

AGAIN = Path("again")

def test_well(): ...

def test_bad(): assert AGAIN.exists()

def test_crash():
    if os.environ.get("CRASH") and not AGAIN.exists():
        AGAIN.touch()
        os.kill(os.getpid(), 11)

def test_after(): AGAIN.touch()
"""


@pytest.fixture(scope="module")
def run_tests() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "tools" / "run_tests.py"))


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    shutil.copy(ROOT / "test" / "conftest.py", tmp_path)
    (tmp_path / "test_some.py").write_text(SUITE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return "test_some.py"


def test_what_failed_gets_a_second_chance(run_tests: dict[str, Any], suite: str) -> None:
    with run_tests["pytest_run"]("some", [suite, "-p", "no:faulthandler"]) as run:
        status = run.shown()
        assert run.not_passed() == [f"{suite}::test_bad"]
        assert status == 1
        assert run_tests["second_chance"](run, status) == 0


def test_a_crash_stays_a_failure(
    run_tests: dict[str, Any], suite: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CRASH", "1")
    with run_tests["pytest_run"]("some", [suite]) as run:
        status = run.shown()
        left = [f"{suite}::test_{name}" for name in ("bad", "crash", "after")]
        assert run.not_passed() == left
        assert run_tests["second_chance"](run, status) == status == -signal.SIGSEGV
    assert f"some: crashed (SIGSEGV) before these passed: {' '.join(left)}" in capfd.readouterr().out
